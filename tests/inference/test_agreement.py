"""Agreement of descriptions against whole rows multiplied out, and on heads with and without something to agree with."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from describe.subject import weights
from eval.inference.agreement import FIRST, AgreementTables, Claim, agreement, holds_any, in_half
from eval.inference.reading import Readings, forced

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), targets=st.integers(1, 5))
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_table_is_that_of_the_rule_written_out(seed, n, targets):
    generator = np.random.default_rng(seed)
    lists, wanted = generator.integers(0, 40, (n, 8)), generator.integers(0, 40, (n, targets))
    table = holds_any(lists, wanted)
    for i in range(n):
        for j in range(n):
            assert table[i, j] == bool(set(lists[i]) & set(wanted[j]))


def test_half_of_the_templates_is_enough():
    one, other = np.array([[True, False]]), np.array([[False, False]])
    assert in_half([one, other]).tolist() == [[True, False]]
    assert in_half([one, other, other]).tolist() == [[False, False]]


def test_a_head_that_does_what_it_says_has_a_lift_and_one_that_always_writes_the_same_has_none():
    true = agreement(np.eye(40, dtype=bool), seed=0)
    assert true.share == 1 and true.null_mean == pytest.approx(1 / 40) and true.p_value < 1e-3
    assert true.ci_low < true.share <= true.ci_high
    constant = agreement(np.ones((40, 40), dtype=bool), seed=0)
    assert constant.share == constant.null_mean == 1 and constant.p_value == 1
    nothing = agreement(np.random.default_rng(0).random((40, 40)) < 0.2, seed=0)
    assert nothing.p_value > 0.01


@pytest.mark.parametrize("case", ["llama-bias", "gemma3_text"])
def test_tables_are_those_of_whole_rows(case, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.inference.agreement.FIRST", 6)
    found = tiny.tiny_subject(case, tmp_path)
    shape = weights.model_shape(found.config, found.store)
    norm = weights.final_norm(found.config, found.store, torch.float64)
    generator, torch_generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    class Model:
        def __init__(self):
            self.shape = shape

        def unembedding(self):
            return weights.unembedding(found.config, found.store, torch.float64)

        def final_norm(self):
            return norm

        def layer(self, layer):
            return weights.layer_circuits(found.config, found.store, layer, torch.float64)

    def draw(*size):
        return torch.randn(*size, generator=torch_generator, dtype=torch.float64)

    model, sources, excluded = Model(), np.array([3, 8, 9, 20, 31, 40]), (5, 6)
    readings = Readings(
        [draw(len(sources), shape.n_heads, shape.d_head) for _ in range(shape.n_layers)],
        [draw(len(sources), shape.d_model) for _ in range(shape.n_layers)],
    )
    claims = [
        Claim(name, layer, head, None, direction, own, generator.integers(0, tiny.V, (len(own), 3)))
        for name, layer, head, direction, own in (
            ("a", 0, 1, "promote", sources[[0, 2, 5]]),
            ("b", 2, 3, "suppress", sources[[1, 3, 4, 5]]),
            ("c", 2, 3, "promote", sources),
        )
    ]
    tables = AgreementTables(model, claims, sources, excluded).of(readings)
    assert set(tables) == {(name, context) for name in "abc" for context in ("with", "without")}
    for (name, context), table in tables.items():
        claim = next(one for one in claims if one.description_id == name)
        circuits = model.layer(claim.layer)
        z = {"with": readings.z[claim.layer], "without": forced(circuits, readings.states[claim.layer])}[
            context
        ]
        written = z[np.searchsorted(sources, claim.sources), claim.head] @ circuits.W_O[claim.head]
        if circuits.post_norm is not None:
            written = written * circuits.post_norm.gain
        M = (written @ (model.unembedding() * norm.gain).T).numpy()
        M = M if claim.direction == "promote" else -M
        M[:, list(excluded)] = -np.inf
        lists = np.argsort(-M, axis=1)[:, :6]
        expected = [[bool(set(row) & set(own)) for own in claim.targets] for row in lists]
        assert table.tolist() == expected
    assert FIRST == 25
