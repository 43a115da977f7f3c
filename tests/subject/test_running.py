"""The live model and its taps, on every architecture, against the whole model of transformers."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from describe.subject import weights
from describe.subject.running import LiveModel

_path = Path(__file__).with_name("tiny.py")
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

F64 = torch.float64
TOKENS = torch.tensor([[0, 5, 9, 17, 5, 30], [0, 40, 3, 3, 22, 8]])


def subject_of(found):
    return SimpleNamespace(
        config=found.config,
        store=found.store,
        layer=lambda layer, dtype: weights.layer_circuits(found.config, found.store, layer, dtype),
        unembedding=lambda dtype: weights.unembedding(found.config, found.store, dtype),
    )


@pytest.mark.parametrize("case", tiny.CASES)
def test_head_outputs_add_up_and_logits_are_the_models(case, tmp_path):
    found = tiny.tiny_subject(case, tmp_path)
    subject = subject_of(found)
    z = {}
    with tiny.DoublePrecision():
        live = LiveModel(subject, F64)
        states = {}
        with live.tapped(states=states.__setitem__, z=z.__setitem__):
            hidden = live.hidden(TOKENS)
        expected = found.model(
            input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS), use_cache=False
        ).logits
        torch.testing.assert_close(live.logits(hidden), expected.detach(), rtol=1e-6, atol=1e-6)
        traces, _ = live.run(TOKENS)
    for layer, trace in enumerate(traces):
        circuits = subject.layer(layer, F64)
        total = torch.einsum("bthe,hed->btd", z[layer], circuits.W_O)
        total = total if circuits.b_O is None else total + circuits.b_O
        residual = states[layer] if case == "bloom" else 0.0  # its attention adds the residual itself
        torch.testing.assert_close(total + residual, trace.output, rtol=1e-5, atol=1e-5)
        assert torch.equal(states[layer], trace.states)


@pytest.mark.parametrize("case", tiny.CASES)
def test_a_last_token_on_kept_ones_is_the_last_position_of_the_whole_pass(case, tmp_path):
    with tiny.DoublePrecision():
        live = LiveModel(subject_of(tiny.tiny_subject(case, tmp_path)), F64)
        kept, seen = live.keep(TOKENS), []

        def replaced(layer, z):
            seen.append(z.shape[1])
            z = z.clone()
            z[:, -1, 1] = layer
            return z

        clean = live.hidden(TOKENS)[:, -1]
        with live.tapped(z=replaced):
            ablated = live.hidden(TOKENS)[:, -1]
        assert not torch.allclose(clean, ablated, atol=1e-3)
        seen.clear()
        for _ in range(2):
            torch.testing.assert_close(live.last_hidden(kept, TOKENS[:, -1]), clean, rtol=1e-9, atol=1e-9)
            with live.tapped(z=replaced):
                found = live.last_hidden(kept, TOKENS[:, -1])
            torch.testing.assert_close(found, ablated, rtol=1e-9, atol=1e-9)
    assert seen == [1] * (2 * tiny.LAYERS)


@pytest.fixture
def live(tmp_path):
    return LiveModel(subject_of(tiny.tiny_subject("llama", tmp_path)))


def test_what_a_tap_returns_takes_the_place_of_a_head(live, tmp_path):
    def removed(layer, z):
        if layer == 1:
            z = z.clone()
            z[:, :, 2] = 0
            return z
        return None

    with live.tapped(z=removed):
        ablated = live.hidden(TOKENS)
    projection = live.module.layers[1].self_attn.o_proj.weight
    d_head = projection.shape[1] // tiny.HEADS
    with torch.no_grad():
        projection[:, 2 * d_head : 3 * d_head] = 0
    assert torch.equal(ablated, live.hidden(TOKENS))


def test_taps_leave_nothing_behind_even_after_an_error(live):
    before = live.hidden(TOKENS)

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in live.module.modules())

    n_hooks = hooks()

    def fails(layer, z):
        if layer == 1:
            raise RuntimeError("in the middle")
        return z * 0

    with pytest.raises(RuntimeError, match="in the middle"), live.tapped(z=fails):
        live.hidden(TOKENS)
    assert hooks() == n_hooks
    assert torch.equal(live.hidden(TOKENS), before)
