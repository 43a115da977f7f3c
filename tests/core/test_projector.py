"""Whole tiny models through the projector, against the method written out head by head in float64."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from describe.core.spaces import fold_unembedding
from describe.errors import InputError
from describe.jobs.projecting import Projector
from describe.records import DIRECTIONS, HeadId, is_heldout
from describe.settings import preset
from describe.subject import weights
from describe.subject.model import SubjectModel

_HERE = Path(__file__).parent


def _helper(name, path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


oracles = _helper("core_oracles", _HERE / "oracles.py")
tiny = _helper("subject_tiny", _HERE.parent / "subject" / "tiny.py")

CASES = ("llama", "gemma3_text", "gpt2", "qwen2", "olmo2", "deepseek_v2", "phi")
DEFAULT = replace(preset("default"), salient=8, targets=4)
PAPER = replace(preset("paper"), salient=8, targets=4)
EXCLUDED = {"special": (0, 40), "unused": (7,), "padding": (), "under_trained": (13, 21)}
SETTINGS = {
    "default": DEFAULT,
    "paper": PAPER,
    "mlp0": replace(PAPER, source="mlp0"),
    "embedding": replace(DEFAULT, source="embedding"),
    "saliency": replace(DEFAULT, contrastive=False),
    "logits": replace(DEFAULT, standardised=False),
    "uncentred": replace(DEFAULT, centred=False, standardised=False),
}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Tiny models by case, made once."""
    made = {}

    def subject(case):
        if case not in made:
            one = tiny.tiny_subject(case, tmp_path_factory.mktemp(case))
            made[case] = SubjectModel(
                name=case,
                architecture=one.config.model_type,
                shape=weights.model_shape(one.config, one.store),
                checkpoint=None,
                config=one.config,
                store=one.store,
                vocabulary=None,
            )
        return made[case]

    return subject


def projected(model, settings, layers=None, **options):
    """All mappings by (layer, head, direction), and the constant ids."""
    projector = Projector(model, settings, options.pop("excluded", EXCLUDED), **options)
    mappings, constants = {}, {}
    for one in projector.layers(range(model.shape.n_layers) if layers is None else layers):
        mappings |= {(one.layer, *key): value for key, value in one.mappings.items()}
        constants |= {(one.layer, *key): value for key, value in one.constant_ids.items()}
    return mappings, constants


def same(a, b):
    for name in ("source_ids", "target_ids", "saliency", "logits", "z", "contrast", "heldout"):
        ours, theirs = getattr(a, name), getattr(b, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def written_out(model, settings):
    """By layer and head: the eligible ids and the `Oracle`, from float64 states of the whole vocabulary."""
    gone = {i for ids in EXCLUDED.values() for i in ids} if settings.token_filter else set()
    eligible = [i for i in range(model.shape.n_vocab) if i not in gone]
    U = fold_unembedding(model.unembedding(torch.float64), model.final_norm(torch.float64), settings.gains)[
        eligible
    ]
    states = model.block0(dtype=torch.float64)
    heads = {}
    for layer in range(model.shape.n_layers):
        first = layer == 0
        S = {
            "block0": states.entry if first else states.exit,
            "mlp0": model.W_E(torch.float64) if first else states.mlp0,
            "mlp0-everywhere": states.mlp0,
            "embedding": model.W_E(torch.float64),
        }[settings.source][eligible]
        circuits = model.layer(layer, torch.float64)
        for head in range(model.shape.n_heads):
            heads[layer, head] = oracles.oracle(circuits, S, U, head, settings.gains, settings.centred)
    return np.array(eligible), heads


@pytest.mark.parametrize("device", oracles.DEVICES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("case", CASES)
def test_mappings_are_those_of_the_method_written_out(case, name, device, subjects):
    settings, model = SETTINGS[name], subjects(case)
    mappings, constants = projected(model, settings, device=device)
    eligible, heads = written_out(model, settings)
    assert len(mappings) == 2 * len(heads) == 2 * len(model.shape.heads)
    logs = {key: head.saliency.log() for key, head in heads.items()}
    token_mean = torch.stack(list(logs.values())).mean(0)
    for (layer, head), expected in heads.items():
        score = expected.saliency
        if settings.contrastive:
            score = logs[layer, head] - token_mean
            score = score / score.std()
        best = score.topk(settings.salient)
        z = expected.M / expected.sigma if settings.standardised else expected.M
        for direction in DIRECTIONS:
            one = mappings[layer, head, direction]
            assert one.head == HeadId(layer, head)
            assert one.direction == direction
            np.testing.assert_array_equal(one.source_ids, eligible[best.indices])
            np.testing.assert_allclose(one.saliency, expected.saliency[best.indices], rtol=1e-4)
            if settings.contrastive:
                np.testing.assert_allclose(one.contrast, best.values, rtol=1e-3)
            else:
                assert one.contrast is None
            targets = z[best.indices].topk(settings.targets, largest=direction == "promote").indices
            np.testing.assert_array_equal(one.target_ids, eligible[targets])
            scale = float(expected.M.abs().max())
            np.testing.assert_allclose(
                one.logits, expected.M[best.indices].gather(1, targets), atol=1e-5 * scale
            )
            if settings.standardised:
                np.testing.assert_allclose(one.z, z[best.indices].gather(1, targets), rtol=1e-3, atol=1e-4)
            else:
                assert one.z is None
            assert one.heldout.tolist() == [is_heldout(int(i)) for i in one.source_ids]
            assert len(constants[layer, head, direction]) == settings.targets


@pytest.mark.parametrize("name", ["default", "paper"])
def test_some_layers_get_the_rows_of_the_full_run(name, subjects):
    """Contrastive saliency is over all heads of the model, also when one layer is asked for."""
    model = subjects("llama")
    full, full_constants = projected(model, SETTINGS[name])
    for layers in ([2], [1], [0, 2], [2, 0]):
        some, some_constants = projected(model, SETTINGS[name], layers)
        assert {key[0] for key in some} == set(layers)
        for key, one in some.items():
            same(one, full[key])
            np.testing.assert_array_equal(some_constants[key], full_constants[key])


def test_two_runs_and_two_askings_give_the_same_bits(subjects):
    model = subjects("gemma3_text")
    projector = Projector(model, DEFAULT, EXCLUDED)
    first = {one.layer: one for one in projector.layers([0, 1, 2])}
    again = {one.layer: one for one in projector.layers([1])}
    fresh, _ = projected(model, DEFAULT)
    for key, one in again[1].mappings.items():
        same(one, first[1].mappings[key])
    for (layer, *key), one in fresh.items():
        same(one, first[layer].mappings[tuple(key)])


def test_excluded_tokens_are_neither_sources_nor_targets(subjects):
    model = subjects("qwen2")
    gone = {i for ids in EXCLUDED.values() for i in ids}
    everything = replace(DEFAULT, salient=30, targets=20)
    mappings, constants = projected(model, everything)
    for one in mappings.values():
        assert gone.isdisjoint(one.source_ids.tolist())
        assert gone.isdisjoint(one.target_ids.flatten().tolist())
    assert all(gone.isdisjoint(ids.tolist()) for ids in constants.values())
    unfiltered, _ = projected(model, replace(everything, token_filter=False))
    seen = {int(i) for one in unfiltered.values() for i in one.source_ids}
    assert gone & seen  # the filter, and not chance, kept them out


def test_excluding_changes_the_moments_and_not_only_the_lists(subjects):
    """What is left out does not count in the mean and spread that other rows are measured by either."""
    model = subjects("llama")
    plain, _ = projected(model, DEFAULT, excluded={})
    filtered, _ = projected(model, DEFAULT)
    a, b = plain[1, 0, "promote"], filtered[1, 0, "promote"]
    shared = np.intersect1d(a.source_ids, b.source_ids)
    assert len(shared)
    at = [int(np.flatnonzero(one.source_ids == shared[0])[0]) for one in (a, b)]
    assert a.saliency[at[0]] != b.saliency[at[1]]


def test_too_few_tokens_are_refused(subjects):
    with pytest.raises(InputError, match="lower --salient"):
        Projector(subjects("llama"), replace(DEFAULT, salient=40), EXCLUDED)


def test_the_split_follows_the_seed(subjects):
    mappings, _ = projected(subjects("llama"), DEFAULT, seed=5)
    for one in mappings.values():
        assert one.heldout.tolist() == [is_heldout(int(i), 5) for i in one.source_ids]


def test_the_saliency_table_leaves_nothing_behind(subjects, tmp_path, monkeypatch):
    """Neither in the folder of temporary files, whatever becomes of the process, nor in a folder given."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    projector = Projector(subjects("llama"), DEFAULT, EXCLUDED)
    seen = [list(tmp_path.iterdir()) for _ in projector.layers([0, 1])]
    assert seen == [[], []]
    work = tmp_path / "work"
    work.mkdir()
    projected(subjects("llama"), DEFAULT, work=work)
    assert list(work.iterdir()) == []


def test_progress_counts_every_layer_once(subjects):
    told = []
    projector = Projector(subjects("llama"), DEFAULT, EXCLUDED)
    list(projector.layers([1, 2], lambda stage, n: told.append((stage, n))))
    assert told == [("saliency", 1)] * 3 + [("mappings", 1)] * 2
    assert list(projector.layers([])) == []
