"""The area between the curves: by hand, against numpy's trapezoid, and what its interval and p-value say."""

import numpy as np
import pytest

from eval.ablation.areas import REPLICATES, Curves, area_between, trapezoid_weights
from eval.ablation.rows import judged


def curves_of(relation, random, n, counts=(0, 1, 2, 4)):
    """Curves with these accuracies, right for the first prompts of n."""

    def rights(heights):
        return np.arange(n) < np.round(np.asarray(heights)[..., None] * n)

    return Curves(np.array(counts), rights(relation), rights(random))


def test_the_area_by_hand():
    # Removed 0, 1, 2, 4: the relation falls 1, .5, 0, 0, random ones stay at 1 but for a draw that ends at .5.
    found = area_between(curves_of([1, 0.5, 0, 0], [[1, 1, 1, 1], [1, 1, 1, 0.5]], 20), 0)
    # Differences of the means: 0, .5, 1, .75 at 0, 1, 2, 4: (.25 + .75 + 1.75) / 4.
    assert found.area == pytest.approx(2.75 / 4)


def test_the_area_is_numpys_trapezoid_over_the_last_count():
    generator = np.random.default_rng(1)
    counts = np.array([0, 1, 3, 7, 18])
    curves = Curves(counts, generator.random((5, 30)) < 0.5, generator.random((4, 5, 30)) < 0.7)
    gap = curves.random.mean((0, 2)) - curves.relation.mean(1)
    assert area_between(curves, 0).area == pytest.approx(np.trapezoid(gap, counts) / 18)
    assert trapezoid_weights(counts).sum() == pytest.approx(1)


def test_read_where_nothing_is_right_any_more_else_at_the_end():
    assert curves_of([1, 0.5, 0, 0.5], [[1] * 4], 10).reading == 2
    assert curves_of([1, 0.5, 0.1, 0.1], [[1] * 4], 10).reading == 3


def random_curves(n, seed, gap, draws=5):
    generator = np.random.default_rng(seed)
    counts = np.array([0, 1, 2, 4])
    clean = np.ones(n, bool)
    relation = np.stack([clean, *(generator.random((3, n)) < 0.7 - gap)])
    random = np.stack([np.stack([clean, *(generator.random((3, n)) < 0.7)]) for _ in range(draws)])
    return Curves(counts, relation, random)


def test_the_interval_holds_the_point_and_is_narrower_with_more_prompts():
    widths = []
    for n in (20, 80, 320):
        found = area_between(random_curves(n, 3, 0.3), 0)
        assert found.ci_low < found.area < found.ci_high
        widths.append(found.ci_high - found.ci_low)
    assert widths[0] > 1.5 * widths[1] > 1.5**2 * widths[2]


def test_the_interval_is_that_of_a_plain_bootstrap_of_prompts_and_students_t_over_the_draws():
    curves = random_curves(40, 5, 0.2)
    generator = np.random.default_rng(9)
    by_draw = [
        np.trapezoid(draw.mean(1) - curves.relation.mean(1), curves.counts) / curves.counts[-1]
        for draw in curves.random
    ]
    areas = []
    for _ in range(4000):
        prompts = generator.integers(0, 40, 40)
        gap = curves.random[:, :, prompts].mean((0, 2)) - curves.relation[:, prompts].mean(1)
        between = np.std(by_draw, ddof=1) * np.sqrt(1 + 1 / 5) * generator.standard_t(4)
        areas.append(np.trapezoid(gap, curves.counts) / curves.counts[-1] + between)
    low, high = np.quantile(areas, (0.025, 0.975))
    found = area_between(curves, 0)
    assert found.ci_low == pytest.approx(low, abs=0.015) and found.ci_high == pytest.approx(high, abs=0.015)


def test_draws_that_differ_widen_the_interval():
    same = curves_of([1, 0.5, 0.5, 0.5], [[1, 0.8, 0.8, 0.8]] * 4, 40)
    heights = [[1, 1, 1, 1], [1, 0.6, 0.6, 0.6]] * 2
    differing = curves_of([1, 0.5, 0.5, 0.5], heights, 40)
    first, second = area_between(same, 0), area_between(differing, 0)
    assert first.area == pytest.approx(second.area)
    assert second.ci_high - second.ci_low > 1.1 * (first.ci_high - first.ci_low)


def test_p_is_small_for_a_cost_near_one_for_a_gain_and_never_nothing():
    assert area_between(random_curves(60, 0, 0.4), 0).p_value == 1 / (REPLICATES + 1)
    assert area_between(random_curves(60, 0, -0.25), 0).p_value > 0.99
    alike = curves_of([1, 0.5, 0.5, 0.5], [[1, 0.5, 0.5, 0.5]] * 3, 20)
    assert area_between(alike, 0).p_value == 1 and area_between(alike, 0).area == 0


def test_causal_is_an_interval_above_nothing_and_a_q_below_one_in_twenty():
    def row(p, low, testable=True):
        return {"testable": testable, "p_value": p if testable else None, "ci_low": low, "causal": False}

    rows = [
        row(0.001, 0.1),
        row(0.02, 0.05),
        row(None, None, testable=False),
        row(0.04, 0.01),
        row(0.9, -0.1),
    ]
    judged(rows)
    # Benjamini-Hochberg over the four that were tested: .001 x 4, .02 x 2, .04 x 4/3, .9.
    assert [row.get("q_value") for row in rows] == [
        pytest.approx(0.004), pytest.approx(0.04), None, pytest.approx(0.16 / 3), pytest.approx(0.9)
    ]  # fmt: skip
    assert [row["causal"] for row in rows] == [True, True, False, False, False]
    rows = [row(0.001, -0.01)]
    judged(rows)
    assert rows[0]["causal"] is False


@pytest.mark.parametrize("spread", [0.0, 0.12])
def test_a_random_set_in_the_relations_place_is_rarely_called_causal(spread):
    """Sets of heads differ in what their removal costs, and the relation's is one of them: nominal 2.5 %."""
    generator, counts = np.random.default_rng(5), np.array([0, 1, 4, 16, 30])
    causal = 0
    for run in range(300):
        level = 0.6 + spread * generator.standard_normal(6)
        drawn = generator.random((6, len(counts), 60)) < level[:, None, None].clip(0, 1)
        curves = Curves(counts, drawn[0], drawn[1:])
        found = area_between(curves, seed=run)
        causal += found.ci_low > 0 and found.p_value < 0.05
    assert causal / 300 < 0.055
