"""Which heads are removed: order, counts, random ones of the same layers, control tasks."""

import numpy as np
import pytest

from eval.ablation.heads import controls, matched, most_removed, overlap, removal_order, steps


def test_caps_are_those_of_the_paper_and_half_of_a_small_model():
    counts = (12, 299, 300, 499, 500, 999, 1000, 1200, 1499, 1500, 5120)
    assert [most_removed(n) for n in counts] == [6, 30, 50, 50, 100, 100, 150, 150, 150, 250, 250]


def test_the_best_head_goes_first_and_of_equals_the_later():
    scores = np.array([0.2, 0.5, 0.0, 0.5, 0.2, 0.9, 0.0])
    assert removal_order(scores, 10).tolist() == [5, 3, 1, 4, 0]
    assert removal_order(scores, 2).tolist() == [5, 3]
    assert removal_order(np.zeros(4), 4).tolist() == []


@pytest.mark.parametrize("most", [0, 1, 2, 7, 30, 150, 250])
def test_counts_rise_from_none_to_all_in_nine_at_most(most):
    found = steps(most)
    assert found[0] == 0 and found[-1] == most and found == sorted(set(found)) and len(found) <= 9
    gaps = np.diff(found)
    assert (np.diff(gaps) >= -1).all()  # roughly geometric: they never get closer but by rounding


def test_random_heads_are_others_of_the_same_layers_and_none_twice():
    heads = np.array([3 * 8 + 1, 3 * 8 + 2, 0, 5 * 8 + 7, 3 * 8 + 4])
    draws = set()
    for seed in range(40):
        drawn, share = matched(heads, 6, 8, np.random.default_rng(seed))
        assert (drawn // 8).tolist() == (heads // 8).tolist() and share == 1
        assert len(set(drawn) | set(heads)) == 10
        draws.add(tuple(drawn))
    assert len(draws) > 30
    again, _ = matched(heads, 6, 8, np.random.default_rng(39))
    assert tuple(again) == tuple(drawn)


def test_where_a_layer_has_none_left_the_nearest_lends_one():
    # Layer 2 of 5 has 4 heads, 3 of them the relation's: one can stand for them, two come from layers 1 and 3.
    heads = np.array([8, 9, 4, 10])
    for seed in range(20):
        drawn, share = matched(heads, 5, 4, np.random.default_rng(seed))
        layers = drawn // 4
        assert layers[0] == 2 and drawn[0] == 11
        assert layers[2] == 1, "what a layer needs itself it does not lend"
        assert layers[[1, 3]].tolist() == [1, 1]  # of two as near the lower
        assert share == 0.5
        assert not set(drawn) & set(heads) and len(set(drawn)) == 4
    drawn, share = matched(np.array([0, 1]), 2, 2, np.random.default_rng(0))
    assert (drawn // 2).tolist() == [1, 1] and share == 0


def test_nothing_to_match_is_no_error():
    drawn, share = matched(np.array([], dtype=np.int64), 2, 2, np.random.default_rng(0))
    assert len(drawn) == 0 and share == 1


def test_overlap_counts_the_first_as_many_of_the_other():
    own = np.array([1, 2, 3, 4])
    assert overlap(own, np.array([4, 9, 8, 7, 1, 2, 3])) == 0.25
    assert overlap(own[:1], np.array([1])) == 1
    assert overlap(own, np.array([2])) == 0.25
    assert overlap(own[:0], own) == 0  # nothing removed: the released code divides by nothing here


def test_control_tasks_are_as_easy_and_rest_on_other_heads():
    heads = np.arange(20)
    others = {
        "own": heads,
        "shares_two": np.concatenate([np.arange(2), np.arange(100, 118)]),
        "shares_three": np.concatenate([np.arange(3), np.arange(100, 117)]),
        "hard": np.arange(200, 220),
        "near": np.arange(300, 320),
        "headless": np.arange(0),
    }
    base = {"own": 0.8, "shares_two": 0.8, "shares_three": 0.8, "hard": 0.59, "near": 0.61, "headless": 0.99}
    # Three of twenty are 15 %, which is not below it.
    assert set(controls("own", heads, others, base, 0)) == {"shares_two", "near", "headless"}
    assert set(controls("own", heads[:0], others, base, 0)) == {
        *("shares_two", "shares_three", "near", "headless")
    }


def test_five_controls_at_most_in_an_order_of_the_seed():
    others = {f"task{number}": np.arange(number * 10, number * 10 + 10) for number in range(12)}
    base = dict.fromkeys(others, 0.5)
    found = [controls("task3", others["task3"], others, base, seed) for seed in range(10)]
    assert all(len(names) == len(set(names)) == 5 and "task3" not in names for names in found)
    assert len({tuple(names) for names in found}) > 5
    assert found[4] == controls("task3", others["task3"], dict(reversed(others.items())), base, 4)
