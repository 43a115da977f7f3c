"""Effects of a claim's sources against single prompts read one by one, and their test on tables of known content."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from describe.subject import weights
from describe.subject.running import LiveModel
from eval.inference.agreement import Claim
from eval.inference.attribution import Attribution, LayerAttribution, Places
from eval.inference.claim_effects import FLIPS, ClaimEffects, effect
from eval.inference.reading import read, read_attended
from eval.inference.templates import Template

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

SOURCES = np.array([3, 8, 9, 20, 31])
TEMPLATE = Template("", (0, 4), (7, 21))


def subject_of(found):
    config, store = found.config, found.store
    return SimpleNamespace(
        config=config,
        store=store,
        shape=weights.model_shape(config, store),
        logit_scale=weights.logit_scale(config) * weights.residual_scale(config),
        layer=lambda layer, dtype=torch.float32: weights.layer_circuits(config, store, layer, dtype),
        unembedding=lambda dtype=torch.float32: weights.unembedding(config, store, dtype),
        final_norm=lambda dtype=torch.float32: weights.final_norm(config, store, dtype),
    )


@pytest.mark.parametrize("case", ["llama", "gemma3_text", "granite", "gpt2"])
def test_effects_are_those_of_single_prompts(case, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.inference.reading.BATCH_TOKENS", 10)
    subject = subject_of(tiny.tiny_subject(case, tmp_path))
    live = LiveModel(subject)
    readings = read_attended(live, TEMPLATE, [(int(i),) for i in SOURCES], tiny.LAYERS)
    plain = read(live, TEMPLATE, [(int(i),) for i in SOURCES], tiny.LAYERS)
    for layer in range(tiny.LAYERS):
        torch.testing.assert_close(readings.z[layer], plain.z[layer])
        torch.testing.assert_close(readings.states[layer], plain.states[layer])
    targets = np.array([[1, 2], [5, 30], [7, 22]])
    claims = [
        Claim("one", 1, 2, None, "promote", SOURCES[[0, 2, 3]], targets),
        Claim("two", 2, 0, 1, "suppress", SOURCES[[1, 4]], targets[:2]),
    ]
    tables = ClaimEffects(subject, claims, SOURCES).of(readings)
    for claim in claims:
        groups = [tuple(row) for row in claim.targets.tolist()]
        attribution = Attribution(subject)
        for i, source in enumerate(claim.sources):
            traces, last = live.run(torch.tensor([TEMPLATE.prompt((int(source),))]))
            circuits, scale = subject.layer(claim.layer), attribution.final_scale(last)
            heads = LayerAttribution(circuits, traces[claim.layer], scale, attribution.readers(groups))
            n = len(groups)
            places = Places(*(torch.full((n,), value) for value in (0, 4, 2)))
            expected = heads.effects(places, torch.arange(n))[:, claim.head]
            np.testing.assert_allclose(tables[claim.description_id][i], expected.numpy(), atol=1e-5)


def test_a_claims_effect_is_its_diagonal_against_the_rest_of_the_row():
    one, other = np.full((12, 12), 0.5) + np.eye(12), np.full((12, 12), 0.5) + 3 * np.eye(12)
    found = effect([one, other], "promote", seed=0)
    assert found.own == pytest.approx(2.5) and found.null_mean == pytest.approx(0.5)
    assert found.p_value < 0.01
    assert effect([one], "suppress", seed=0).p_value == 1
    assert effect([-one], "suppress", seed=0).p_value < 0.01
    assert effect([np.ones((12, 12))], "promote", seed=0).p_value == 1
    assert effect([np.ones((1, 1))], "promote", seed=0).p_value == 1
    assert effect([np.eye(60)], "promote", seed=0).p_value == 1 / (FLIPS + 1)
    noise = np.random.default_rng(3).standard_normal((200, 30, 30))
    p = [effect([table], "promote", seed=1).p_value for table in noise]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)
