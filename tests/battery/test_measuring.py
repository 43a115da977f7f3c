"""What a suite's cells sum up to, against the patterns and effects of single prompts, read one by one."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from describe.subject import weights
from describe.subject.running import LiveModel
from eval.battery.measuring import TopicSums, answered, batches
from eval.battery.removal import Removal, Scene
from eval.battery.suites import Question, Suite, by_length
from eval.inference.attribution import Attribution

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

SHAPE = (tiny.LAYERS, tiny.HEADS)


def subject_of(found):
    config, store = found.config, found.store
    return SimpleNamespace(
        config=config,
        store=store,
        logit_scale=weights.logit_scale(config) * weights.residual_scale(config),
        layer=lambda layer, dtype=torch.float32: weights.layer_circuits(config, store, layer, dtype),
        unembedding=lambda dtype=torch.float32: weights.unembedding(config, store, dtype),
        final_norm=lambda dtype=torch.float32: weights.final_norm(config, store, dtype),
    )


@pytest.fixture(params=["llama", "gemma3_text", "gpt2"])
def subject(request, tmp_path):
    return subject_of(tiny.tiny_subject(request.param, tmp_path))


@pytest.fixture
def suite():
    suite = Suite("any")
    first, second, third = (
        suite.add(tokens) for tokens in ([0, 5, 9, 17], [0, 40, 3, 3, 22, 8], [0, 7, 7, 30])
    )
    topic = suite.topic("one")
    topic.own.add((first, 3, 1), 0, 0.25, (5,), (9, 17))
    topic.own.add((first, 3, 2), 0, 0.75, (9,), (5,))
    topic.own.add((second, 5, 4), 1, 1.0, (22, 1), (2,))
    topic.own.add((third, 2, 1), 2, 1.0, (7,), (5,))
    topic.null.add((second, 5, 2), 0, 1.0)
    topic.null.add((third, 3, 3), 1, 1.0)
    topic.null.add((third, 1, 0), 2, 2.0)
    return suite


def effect(subject, live, prompt, place, group, head):
    """Of one cell, from z with all attention but the key's taken off: the head's write, the norms' divisors frozen."""
    query, key = place
    traces, last = live.run(torch.tensor([prompt]))
    layer, number = head
    trace, circuits = traces[layer], subject.layer(layer)
    written = trace.attention[0, number, query, key] * circuits.head_outputs(trace.states[0], number)[key]
    if circuits.post_norm is not None:
        whole = trace.output[0, query]
        written = written * torch.rsqrt(whole.square().mean() + circuits.post_norm.eps)
        written = written * circuits.post_norm.gain
    norm, x = subject.final_norm(), last[0, query]
    centred = x - x.mean() if norm.kind == "layer" else x
    written = written - written.mean() if norm.kind == "layer" else written
    written = written * torch.rsqrt(centred.square().mean() + norm.eps) * norm.gain
    logits = written @ subject.unembedding().T * subject.logit_scale
    return float(logits[list(group)].mean() - logits.mean())


def test_cells_sum_up_to_what_each_prompt_says(subject, suite, monkeypatch):
    monkeypatch.setattr("eval.battery.measuring.BATCH_TOKENS", 8)
    live = LiveModel(subject)
    sums, numbers = TopicSums(Attribution(subject), subject.layer, suite, SHAPE), []
    for batch in batches(live, suite):
        numbers.append(len(batch.numbers))
        sums.add(batch)
    assert sorted(numbers) == [1, 2]  # two prompts of four tokens together, the longer one alone
    found = sums.measured()["one"]
    for side in ("own", "null"):
        cells, own = getattr(suite.topics["one"], side), getattr(found, side)
        attention, beyond = np.zeros((3, *SHAPE)), np.zeros((3, *SHAPE))
        for at in range(len(cells.prompt)):
            traces, _ = live.run(torch.tensor([suite.prompts[cells.prompt[at]]]))
            for layer, trace in enumerate(traces):
                pattern = trace.attention[0, :, cells.query[at]].double().numpy()
                value = cells.weight[at] * pattern[:, cells.key[at]]
                attention[cells.unit[at], layer] += value
                beyond[cells.unit[at], layer] += value / (1 - pattern[:, 0])
        np.testing.assert_allclose(own.attention, attention, atol=1e-6)
        np.testing.assert_allclose(own.beyond_first, beyond, rtol=1e-4, atol=1e-6)
    cells = suite.topics["one"].own
    for head in ((0, 1), (2, 3)):
        for name in ("target", "foil"):
            expected = np.zeros(3)
            for at in range(len(cells.prompt)):
                prompt, place = suite.prompts[cells.prompt[at]], (cells.query[at], cells.key[at])
                value = effect(subject, live, prompt, place, getattr(cells, name)[at], head)
                expected[cells.unit[at]] += cells.weight[at] * value
            np.testing.assert_allclose(getattr(found.own, name)[:, head[0], head[1]], expected, atol=2e-5)


def test_questions_are_answered_by_the_models_own_logits(tmp_path):
    found = tiny.tiny_subject("llama", tmp_path)
    subject = subject_of(found)
    live, suite = LiveModel(subject), Suite("any")
    tokens = (0, 5, 9, 17)
    prompt = suite.add(tokens)
    with torch.no_grad():
        logits = found.model.float()(input_ids=torch.tensor([tokens])).logits[0, -1]
    best, second = logits.topk(2).indices.tolist()
    suite.questions += [
        Question(prompt, (best,), ()),
        Question(prompt, (second,), ()),
        Question(prompt, (second, best), ()),
        Question(prompt, (second,), (best,)),
        Question(prompt, (best,), (second,)),
        Question(prompt, (best,), (best,)),  # a tie is no answer
    ]
    (batch,) = batches(live, suite)
    answers = answered(suite, batch, live, subject.final_norm())
    assert answers == [True, False, True, False, True, False]


def test_losses_without_a_head_are_those_of_the_model_whose_head_gives_its_mean(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.battery.removal.BATCH_TOKENS", 14)
    monkeypatch.setattr("eval.battery.removal._LOGIT_ROWS", 2)
    subject = subject_of(tiny.tiny_subject("qwen3", tmp_path))
    live = LiveModel(subject)
    scene = Scene("any", [(0, 5, 9, 17), (0, 40, 3, 3, 22, 8), (0, 7, 7, 30)], [(1, 2), (2, 4), (2,)])
    heads = [(0, 1), (2, 3), (2, 0)]
    removal = Removal(live, scene)
    costs = removal.costs(heads)

    def losses():
        found = []
        for prompt, positions in zip(scene.prompts, scene.positions, strict=True):
            logits = live.logits(live.hidden(torch.tensor([prompt])))[0]
            chosen = logits.log_softmax(-1)[list(positions), [prompt[at + 1] for at in positions]]
            found.append(-float(chosen.mean()))
        return np.array(found)

    whole = losses()
    np.testing.assert_allclose(removal.whole, whole, atol=1e-5)
    for layer, head in heads:
        gathered = []
        for prompt in scene.prompts:
            z = {}
            with live.tapped(z=z.__setitem__):
                live.hidden(torch.tensor([prompt]))
            gathered.append(z[layer][0, 1:])
        mean = torch.cat(gathered)[:, head].mean(0)

        def replaced(at, z, layer=layer, head=head, mean=mean):
            if at != layer:
                return None
            z = z.clone()
            z[:, 1:, head] = mean
            return z

        with live.tapped(z=replaced):
            expected = losses() - whole
        np.testing.assert_allclose(costs[layer, head], expected, atol=1e-5)
        assert np.abs(expected).max() > 1e-4


def test_batches_hold_one_length_each_and_every_prompt_once():
    prompts = [(1,) * n for n in (3, 5, 3, 3, 9, 5)]
    found = by_length(prompts, 6)
    assert sorted(number for batch in found for number in batch) == list(range(6))
    for batch in found:
        assert len({len(prompts[number]) for number in batch}) == 1
        assert len(batch) * len(prompts[batch[0]]) <= 9
