"""Sign flips against all flips, and q-values over candidates."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.battery.testing import FLIPS, Leg, q_values, sign_flip


def exact(differences):
    """The share of all sign patterns whose sum reaches the observed one."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    return float(np.mean(signs @ differences >= differences.sum() - 1e-12))


@given(st.lists(st.floats(-1, 3).filter(lambda x: abs(x) > 1e-3), min_size=4, max_size=9))
def test_p_is_that_of_all_flips(values):
    differences = np.array(values)
    p = float(sign_flip(differences[:, None], seed=1)[0])
    if differences.sum() <= 0:
        assert p == 1
    else:
        wanted = exact(differences)
        assert abs(p - wanted) < 5 * np.sqrt(wanted / FLIPS) + 2 / FLIPS


def test_p_is_uniform_where_there_is_nothing():
    generator = np.random.default_rng(0)
    p = sign_flip(generator.standard_normal((24, 2000)), seed=2)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) == pytest.approx(min(level, 0.5), abs=0.02)


def test_equal_sums_count_as_reached_and_p_is_never_zero():
    p = sign_flip(np.full((3, 1), 0.1), seed=0)
    assert p[0] == pytest.approx(1 / 8, abs=0.01)
    assert sign_flip(np.full((40, 1), 0.1), seed=0)[0] == 1 / (FLIPS + 1)
    assert sign_flip(np.zeros((0, 2)), seed=0).tolist() == [1, 1]


def test_a_leg_tests_its_own_side():
    own = np.array([[1.0, -1.0]] * 10)[:, None]
    leg = Leg.of(own, np.zeros_like(own), seed=0)
    assert leg.p[0, 0] < 0.01 and leg.p[0, 1] == 1
    less = Leg.of(own, np.zeros_like(own), seed=0, sign=-1)
    assert less.p[0, 0] == 1 and less.p[0, 1] < 0.01
    assert leg.reaching(0.5)[0, 0] < 0.01 and leg.reaching(1.5)[0, 0] == 1


def test_q_values_run_over_the_counted_alone():
    p = np.array([[0.01, 0.5], [0.02, 0.0001]])
    counted = np.array([[True, False], [True, False]])
    q = q_values(p, counted)
    assert q.tolist() == [[0.02, 1.0], [0.02, 1.0]]
