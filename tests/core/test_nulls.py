"""Nulls and intervals against enumeration, exact fractions and tabulated values."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core.nulls import benjamini_hochberg, binomial_tail, permutation_test, wilson

tables = (
    st.integers(1, 6)
    .flatmap(lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n))
    .map(lambda rows: np.array(rows, dtype=bool))
)


def enumerated(hits):
    """Mean share over all n! pairings, and P(share ≥ observed), exactly."""
    n = len(hits)
    counts = [sum(bool(hits[i, order[i]]) for i in range(n)) for order in itertools.permutations(range(n))]
    observed = int(np.trace(hits))
    return Fraction(sum(counts), n * len(counts)), Fraction(sum(c >= observed for c in counts), len(counts))


@settings(max_examples=80, deadline=None)
@given(tables, st.integers(0, 100))
def test_permutation_test_agrees_with_all_pairings(hits, seed):
    permutations = 4000
    null_mean, p = permutation_test(hits, seed, permutations)
    exact_mean, exact_p = enumerated(hits)
    assert null_mean == pytest.approx(float(exact_mean))
    if np.trace(hits) <= exact_mean * len(hits):
        assert p == 1.0  # no better than chance: nothing to test
    else:
        error = math.sqrt(float(exact_p * (1 - exact_p)) / permutations)
        assert abs(p - float(exact_p)) <= 5 * error + 2 / permutations


def test_permutation_test_keeps_its_level_under_the_null():
    """Random tables without any pairing: P(p ≤ α) ≤ α, the binomial error of 2,000 trials allowed for."""
    generator = np.random.default_rng(0)
    found = []
    for trial in range(2000):
        rates = generator.random(12)[None, :] * generator.random(12)[:, None]  # eager sources, eager targets
        found.append(permutation_test(generator.random((12, 12)) < rates, seed=trial, permutations=199)[1])
    p = np.array(found)
    for alpha in (0.01, 0.05, 0.1, 0.25):
        assert (p <= alpha).mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / len(p))
    assert (p <= 0.25).mean() > 0.1  # and it is a test, not a constant


def test_permutation_test_sees_a_real_pairing_and_ignores_a_constant_head():
    assert permutation_test(np.eye(12, dtype=bool), 0, 999) == (pytest.approx(1 / 12), 1 / 1000)
    assert permutation_test(np.ones((12, 12), dtype=bool), 0) == (1.0, 1.0)
    assert permutation_test(np.zeros((0, 0), dtype=bool), 0) == (0.0, 1.0)
    one_target = np.zeros((12, 12), dtype=bool)
    one_target[:8] = True  # eight sources are hit by anything
    assert permutation_test(one_target, 0) == (pytest.approx(8 / 12), 1.0)


def test_permutation_test_is_deterministic_and_never_zero():
    hits = np.eye(9, dtype=bool)
    hits[0, 1] = hits[3, 2] = True
    assert permutation_test(hits, 7, 500) == permutation_test(hits, 7, 500)
    assert permutation_test(hits, 7, 20)[1] >= 1 / 21


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 25), st.integers(0, 25), st.fractions(0, 1, max_denominator=40))
def test_binomial_tail_is_the_exact_sum(hits, n, rate):
    exact = sum(
        (math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(hits, n + 1)), start=Fraction(0)
    )
    expected = 1.0 if hits <= 0 or n == 0 else float(exact)
    assert binomial_tail(hits, n, float(rate)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_binomial_tail_of_known_values_and_of_many_trials():
    assert binomial_tail(8, 10, 0.5) == pytest.approx(56 / 1024)
    assert binomial_tail(1, 3, 1 / 6) == pytest.approx(1 - 125 / 216)
    assert binomial_tail(3, 2, 0.5) == 0.0
    # A symmetric coin, far beyond where binomial coefficients overflow a float.
    middle = math.exp(math.lgamma(5001) - 2 * math.lgamma(2501) - 5000 * math.log(2))
    assert binomial_tail(2500, 5000, 0.5) == pytest.approx(0.5 + middle / 2, rel=1e-9)
    assert binomial_tail(5000, 5000, 0.9) == pytest.approx(0.9**5000, rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [  # Newcombe 1998 (Stat. Med. 17, 857), table I, method 3: the score interval without correction
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(hits, n, low, high):
    assert wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_limits_solve_the_score_equation(hits, n):
    hits = min(hits, n)
    z, share = 1.959963984540054, hits / n
    for limit in wilson(hits, n):
        assert 0 <= limit <= 1
        assert (share - limit) ** 2 == pytest.approx(z * z * limit * (1 - limit) / n, abs=1e-9)
    assert wilson(hits, n)[0] <= share + 1e-12
    assert wilson(hits, n)[1] >= share - 1e-12


@given(st.integers(1, 400))
def test_wilson_of_all_and_of_none_holds_the_share_itself(n):
    assert wilson(n, n)[1] == 1.0 and wilson(0, n)[0] == 0.0


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_benjamini_hochberg_of_the_papers_own_example():
    """Benjamini & Hochberg 1995, section 3.2: fifteen p-values, the first four rejected at 0.05."""
    p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
        0.7590, 1.000,
    ]  # fmt: skip
    q = benjamini_hochberg(p)
    assert (q <= 0.05).sum() == 4
    assert q[0] == pytest.approx(0.0015)
    assert q[3] == pytest.approx(0.0095 * 15 / 4)
    assert q[4] == pytest.approx(0.0298 * 15 / 7 if 0.0298 * 15 / 7 < 0.0201 * 3 else 0.0201 * 3)


p_values = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.04, 1.0])), max_size=25)


@given(p_values, st.randoms(use_true_random=False))
def test_benjamini_hochberg_is_its_definition(p, random):
    """q of a hypothesis = least level at which the step-up procedure rejects it; order does not matter."""
    q = benjamini_hochberg(p)
    ordered = sorted(p)
    for value, own in zip(p, q, strict=True):
        levels = [ordered[k - 1] * len(p) / k for k in range(1, len(p) + 1) if ordered[k - 1] >= value]
        assert own == pytest.approx(min([1.0, *levels]))
    for alpha in (0.05, 0.2):
        largest = max((k for k in range(1, len(p) + 1) if ordered[k - 1] * len(p) / k <= alpha), default=0)
        cut = ordered[largest - 1] if largest else -1.0
        assert [bool(own <= alpha) for own in q] == [value <= cut for value in p]
    shuffled = list(range(len(p)))
    random.shuffle(shuffled)
    assert np.array_equal(benjamini_hochberg([p[i] for i in shuffled]), q[shuffled])


def test_benjamini_hochberg_of_nothing():
    assert len(benjamini_hochberg([])) == 0
