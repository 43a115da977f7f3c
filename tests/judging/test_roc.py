"""Areas against a naive count and scikit-learn, and intervals that cover what they should."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from eval.judging.roc import auc, auc_interval, balanced_accuracy

likelihoods = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=12)


def as_labels(own, foils):
    return [1] * len(own) + [0] * len(foils), [*own, *foils]


@given(likelihoods, likelihoods)
def test_area_is_the_naive_count_and_that_of_scikit_learn(own, foils):
    won = sum((a > b) + (a == b) / 2 for a, b in itertools.product(own, foils))
    assert auc(own, foils) == pytest.approx(won / (len(own) * len(foils)))
    assert auc(own, foils) == pytest.approx(roc_auc_score(*as_labels(own, foils)))
    assert auc(own, foils) + auc(foils, own) == pytest.approx(1)


@pytest.mark.parametrize(("own", "foils"), [([], [0.5]), ([0.5], []), ([], [])])
def test_there_is_no_area_without_rows_or_foils(own, foils):
    with pytest.raises(ValueError, match="rows and foils"):
        auc(own, foils)


@given(st.floats(0, 1), st.integers(1, 60), st.integers(1, 60))
@example(1.0, 12, 12)
@example(0.0, 12, 12)
def test_an_interval_holds_its_area_and_has_a_width(area, n_own, n_foils):
    low, high = auc_interval(area, n_own, n_foils)
    assert 0 <= low <= area <= high <= 1
    assert high - low > 0.01
    mirrored = auc_interval(1 - area, n_own, n_foils)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_an_interval_narrows_with_rows_and_widens_with_confidence():
    def width(n, z=1.96):
        low, high = auc_interval(0.8, n, n, z)
        return high - low

    assert width(10) > width(20) > width(80)
    assert width(20, 2.58) > width(20) > width(20, 1)


def test_ends_of_an_interval_solve_the_score_equation():
    area, n_own, n_foils, z = 0.72, 13, 9, 1.96
    star = (n_own + n_foils) / 2 - 1
    for end in auc_interval(area, n_own, n_foils, z):
        variance = end * (1 - end) * (1 + star * (1 - end) / (2 - end) + star * end / (1 + end))
        assert abs(area - end) / np.sqrt(variance / (n_own * n_foils)) == pytest.approx(z, rel=1e-6)


@pytest.mark.parametrize("true", [0.5, 0.75, 0.9, 0.97])
def test_intervals_cover_the_true_area(true):
    generator = np.random.default_rng(0)
    shift, n, tries = norm.ppf(true) * np.sqrt(2), 12, 1000
    covered = 0
    for _ in range(tries):
        low, high = auc_interval(auc(generator.normal(shift, 1, n), generator.normal(0, 1, n)), n, n)
        covered += low <= true <= high
    assert 0.90 <= covered / tries < 1


@given(likelihoods.filter(lambda own: 0.5 not in own), likelihoods.filter(lambda foils: 0.5 not in foils))
def test_balanced_accuracy_is_that_of_scikit_learn(own, foils):
    labels, values = as_labels(own, foils)
    guessed = [int(value > 0.5) for value in values]
    hits, accuracy = balanced_accuracy(own, foils)
    assert hits == sum(a == b for a, b in zip(labels, guessed, strict=True))
    assert accuracy == pytest.approx(balanced_accuracy_score(labels, guessed))


def test_the_undecided_are_wrong_on_either_side():
    assert balanced_accuracy([0.5, 0.5], [0.5]) == (0, 0.0)
    assert balanced_accuracy([0.9, 0.5], [0.1]) == (2, 0.75)
