"""The running model without heads, against whole passes of single prompts with hooks on transformers' own model."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from describe.subject import weights
from describe.subject.running import LiveModel
from eval.ablation.passes import METHODS, RunningTask

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

F64, N, T = torch.float64, 30, 7
OUTPUTS = {
    "llama": "model.layers.{}.self_attn.o_proj",
    "cohere": "model.layers.{}.self_attn.o_proj",
    "gemma3_text": "model.layers.{}.self_attn.o_proj",
}
REMOVED = [[2], [4 * 2 + 1, 0, 4 + 3, 4 + 2], [11, 10, 9, 8, 7, 6]]  # layer x 4 + head


@pytest.fixture(params=OUTPUTS)
def case(request, tmp_path, monkeypatch):
    """A tiny model, its live twin, and a task on which it is right about half of the time."""
    monkeypatch.setattr("eval.ablation.passes.ROWS", 8)  # several chunks, the last of them not full
    found = tiny.tiny_subject(request.param, tmp_path)
    subject = SimpleNamespace(
        config=found.config,
        store=found.store,
        unembedding=lambda dtype: weights.unembedding(found.config, found.store, dtype),
    )
    prompts = torch.randint(1, tiny.V, (N, T), generator=torch.Generator().manual_seed(0))
    with tiny.DoublePrecision(), torch.no_grad():
        targets = found.model(input_ids=prompts).logits[:, -1].argmax(-1).numpy()
        targets[::3] = (targets[::3] + 1) % tiny.V
        live = LiveModel(subject, F64)
        yield SimpleNamespace(
            found=found,
            live=live,
            names=[OUTPUTS[request.param].format(layer) for layer in range(tiny.LAYERS)],
            prompts=prompts,
            targets=targets,
            task=RunningTask(live, prompts, targets, tiny.HEADS, seed=3),
        )


def answer(case, prompt, replace=None):
    """First next token of a whole pass over one prompt, and every layer's z [n_heads, d_head] at its end."""
    seen, handles = {}, []

    def hook(layer):
        def change(_, args):
            z = args[0].clone().unflatten(-1, (tiny.HEADS, -1))
            seen[layer] = z[0, -1].clone()
            for head, value in (replace or {}).get(layer, {}).items():
                z[0, -1, head] = value
            return (z.flatten(-2), *args[1:])

        return change

    for layer, name in enumerate(case.names):
        module = case.found.model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(hook(layer)))
    with tiny.hooked(*handles), torch.no_grad():
        logits = case.found.model(input_ids=prompt[None], use_cache=False).logits
    return int(logits[0, -1].argmax()), seen


def test_answers_are_those_of_single_whole_passes_with_hooks(case):
    clean = [answer(case, prompt) for prompt in case.prompts]
    rights = [found == target for (found, _), target in zip(clean, case.targets, strict=True)]
    assert case.task.clean.tolist() == rights and 0.4 < np.mean(rights) < 0.9
    changed = 0
    for heads in REMOVED:
        for method in METHODS:
            expected = []
            for number, prompt in enumerate(case.prompts):
                replace = {}
                for head in heads:
                    layer, own = divmod(head, tiny.HEADS)
                    everywhere = torch.stack([z[layer][own] for _, z in clean])
                    value = {
                        "zero": 0.0,
                        "mean": everywhere.mean(0),
                        "resample": everywhere[case.task.partner[number]],
                    }[method]
                    replace.setdefault(layer, {})[own] = value
                expected.append(answer(case, prompt, replace)[0] == case.targets[number])
            found = case.task.right(heads, method).tolist()
            assert found == expected, (heads, method)
            changed += found != rights
    assert changed >= 5  # the removals do something
    assert case.task.right([], "zero").tolist() == rights


def test_zeroed_heads_are_zeroed_columns_of_the_output_matrix(case):
    heads = REMOVED[1]
    # At the last position alone; so the matrix is zeroed for a pass on kept keys and values only.
    found = case.task.right(heads, "zero")
    for head in heads:
        layer, own = divmod(head, tiny.HEADS)
        output = case.live.module.get_submodule(case.names[layer].split(".", 1)[1])
        d_head = output.weight.shape[1] // tiny.HEADS
        output.weight.requires_grad_(False)[:, own * d_head : (own + 1) * d_head] = 0
    assert found.tolist() == case.task.right([], "zero").tolist()
    assert found.tolist() != case.task.clean.tolist()


def test_every_prompt_takes_anothers_output_in_one_circle(case):
    partner = case.task.partner
    at, seen = 0, []
    for _ in range(N):
        at = partner[at]
        seen.append(at)
    assert sorted(seen) == list(range(N)) and seen[-1] == 0
    again = RunningTask(case.live, case.prompts, case.targets, tiny.HEADS, seed=3)
    other = RunningTask(case.live, case.prompts, case.targets, tiny.HEADS, seed=4)
    assert again.partner.tolist() == partner.tolist() != other.partner.tolist()


def test_an_unknown_method_is_an_error_and_leaves_no_hook(case):
    with pytest.raises(ValueError, match="no method 'noise'"):
        case.task.right([1], "noise")
    assert case.task.right([], "mean").tolist() == case.task.clean.tolist()
