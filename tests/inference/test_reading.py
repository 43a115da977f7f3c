"""What is read from the running model, against runs of single prompts and the model's own attention, forced."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from describe.subject import weights
from describe.subject.running import LiveModel
from eval.inference.reading import forced, read
from eval.inference.templates import Template

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

F64 = torch.float64
SOURCES = [(5,), (9, 11), (17,), (3, 3, 20), (30,), (8, 40)]
CASES = ["llama", "gpt2", "gpt_neox", "gemma3_text", "qwen3", "olmo2"]


def subject_of(found):
    return SimpleNamespace(
        config=found.config,
        store=found.store,
        layer=lambda layer: weights.layer_circuits(found.config, found.store, layer, F64),
    )


@pytest.fixture(params=CASES)
def subject(request, tmp_path):
    return subject_of(tiny.tiny_subject(request.param, tmp_path))


@pytest.mark.parametrize("after", [(), (7, 21)])
def test_batches_change_nothing(subject, after, monkeypatch):
    monkeypatch.setattr("eval.inference.reading.BATCH_TOKENS", 10)
    template = Template("", (0, 4), after)
    told = []
    with tiny.DoublePrecision():
        live = LiveModel(subject, F64)
        found = read(live, template, SOURCES, tiny.LAYERS, told.append)
        for number, source in enumerate(SOURCES):
            z, states = {}, {}
            with live.tapped(states=states.__setitem__, z=z.__setitem__):
                live.hidden(torch.tensor([template.prompt(source)]))
            for layer in range(tiny.LAYERS):
                torch.testing.assert_close(found.z[layer][number], z[layer][0, -1])
                at = 2 + len(source) - 1
                torch.testing.assert_close(found.states[layer][number], states[layer][0, at])
    assert told == sorted(told) and told[-1] == len(SOURCES)


def test_forced_outputs_are_those_of_the_models_own_attention_forced_onto_the_source(subject):
    template, sources = Template("", (0, 4), (7, 21)), [(5,), (17,), (30,)]
    at, force = 2, SimpleNamespace(layer=None)

    def one_hot(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
        eager = sys.modules[type(module).__module__].eager_attention_forward
        out, pattern = eager(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        if module.layer_idx == force.layer:
            pattern = torch.zeros_like(pattern)
            pattern[..., at] = 1
            groups = query.shape[1] // value.shape[1]
            out = (pattern @ value.repeat_interleave(groups, dim=1)).transpose(1, 2)
        return out, pattern

    AttentionInterface.register("forced", one_hot)
    AttentionMaskInterface.register("forced", eager_mask)
    with tiny.DoublePrecision():
        live = LiveModel(subject, F64)
        readings = read(live, template, sources, tiny.LAYERS)
        live.module.set_attn_implementation("forced")
        for layer in range(tiny.LAYERS):
            force.layer, z = layer, {}
            with live.tapped(z=z.__setitem__):
                live.hidden(torch.tensor([template.prompt(source) for source in sources]))
            found = forced(subject.layer(layer), readings.states[layer])
            torch.testing.assert_close(found, z[layer][:, -1], rtol=1e-6, atol=1e-6)
            assert not torch.allclose(
                found, readings.z[layer], atol=1e-3
            )  # it says something else than the clean pass
