"""Attribution by source: its parts add up to what the model's own attention adds to the logits."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from describe.subject import weights
from describe.subject.running import LiveModel
from eval.inference.attribution import Attribution, LayerAttribution, Places

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

F64 = torch.float64
TOKENS = torch.tensor([[0, 5, 9, 17, 5, 30], [0, 40, 3, 3, 22, 8]])
GROUPS = [(7,), (1, 2, 3), (5, 30)]


def subject_of(found):
    config, store = found.config, found.store
    return SimpleNamespace(
        config=config,
        store=store,
        logit_scale=weights.logit_scale(config) * weights.residual_scale(config),
        layer=lambda layer: weights.layer_circuits(config, store, layer, F64),
        unembedding=lambda dtype: weights.unembedding(config, store, dtype),
        final_norm=lambda dtype: weights.final_norm(config, store, dtype),
    )


@pytest.mark.parametrize("case", tiny.CASES)
def test_sources_and_heads_add_up_to_what_the_attention_adds_to_the_logits(case, tmp_path):
    found = tiny.tiny_subject(case, tmp_path)
    subject = subject_of(found)
    with tiny.DoublePrecision():
        live = LiveModel(subject, F64)
        traces, last = live.run(TOKENS)
    attribution = Attribution(subject, F64)
    n, t = TOKENS.shape
    sequence, query, key, reader = (
        part.flatten()
        for part in torch.meshgrid(*(torch.arange(size) for size in (n, t, t, len(GROUPS))), indexing="ij")
    )
    norm, U = subject.final_norm(F64), subject.unembedding(F64)
    scale = attribution.final_scale(last)
    for layer, trace in enumerate(traces):
        circuits = subject.layer(layer)
        parts = LayerAttribution(circuits, trace, scale, attribution.readers(GROUPS)).effects(
            Places(sequence, query, key), reader
        )
        summed = parts.sum(1).reshape(n, t, t, len(GROUPS)).sum(2)
        written = trace.output - (trace.states if case == "bloom" else 0.0)
        written = written if circuits.b_O is None else written - circuits.b_O
        if circuits.post_norm is not None:
            assert circuits.post_norm.bias is None
            written = circuits.post_norm(trace.output)
        # The final norm with its divisor frozen, written out: linear in what was written.
        frozen = written - written.mean(-1, keepdim=True) if norm.kind == "layer" else written
        frozen = frozen * scale[..., None] * (1.0 if norm.gain is None else norm.gain)
        logits = frozen @ U.T * subject.logit_scale
        expected = torch.stack(
            [logits[..., list(group)].mean(-1) - logits.mean(-1) for group in GROUPS], dim=-1
        )
        torch.testing.assert_close(summed, expected, rtol=1e-8, atol=1e-8)


def test_the_scale_is_the_final_norms_own(tmp_path):
    subject = subject_of(tiny.tiny_subject("gpt2", tmp_path))
    rows = torch.randn(3, 4, tiny.D, dtype=F64, generator=torch.Generator().manual_seed(0))
    norm = subject.final_norm(F64)
    scale = Attribution(subject, F64).final_scale(rows)
    centred = rows - rows.mean(-1, keepdim=True)
    torch.testing.assert_close(norm(rows), centred * scale[..., None] * norm.gain + norm.bias)
