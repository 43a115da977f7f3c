"""Scores and their nulls against the rule written out pair by pair, and against all re-pairings of small sets."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core.nulls import benjamini_hochberg
from describe.relations.scores import KS, TokenPairs, main_k, scores, tail_bounds, within_class

V, R = 400, 120


def random_lists(generator, heads, rows=R, deepest=25, vocabulary=V):
    order = generator.random((heads, rows, vocabulary)).argpartition(deepest, axis=2)[:, :, :deepest]
    return generator.permuted(order, axis=2)


def random_pairs(generator, n, distinct=40):
    return TokenPairs(
        rows=generator.permutation(R)[:n],
        targets=generator.integers(0, distinct, n),
        own=generator.permutation(V)[:n],
        turned=generator.permutation(R)[:n],
    )


def lonely(rows, targets):
    """Pairs whose sources are no single tokens."""
    nothing = np.full(len(rows), -1)
    return TokenPairs(rows, targets, own=nothing, turned=nothing)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), distinct=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_the_rule_written_out(seed, n, distinct):
    generator = np.random.default_rng(seed)
    lists, pairs = random_lists(generator, 3), random_pairs(generator, n, distinct)
    found = scores(lists, pairs, V, seed)
    for head, (place, k) in itertools.product(range(3), enumerate(KS)):
        first = [set(lists[head, row, :k].tolist()) for row in pairs.rows]
        table = np.array([[target in listed for target in pairs.targets] for listed in first])
        assert found.score[head, place] == pytest.approx(table.trace() / n, abs=1e-12)
        assert found.null_mean[head, place] == pytest.approx(table.mean(), abs=1e-12)
        same = np.mean([own in listed for own, listed in zip(pairs.own, first, strict=True)])
        assert found.identity[head, place] == pytest.approx(same, abs=1e-12)
        back = [own in lists[head, row, :k] for own, row in zip(pairs.own, pairs.turned, strict=True)]
        assert found.reversed[head, place] == pytest.approx(np.mean(back), abs=1e-12)
    for head in range(3):
        places = [np.flatnonzero(lists[head, r] == t) for r, t in zip(pairs.rows, pairs.targets, strict=True)]
        inverse = [1 / (1 + at[0]) if len(at) else 0.0 for at in places]
        assert found.mean_reciprocal_rank[head] == pytest.approx(np.mean(inverse), abs=1e-12)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_rows_that_list_nothing_asked_for_need_no_list(seed, n):
    generator = np.random.default_rng(seed)
    lists, pairs = random_lists(generator, 3), random_pairs(generator, n)
    bare = np.full_like(lists, -1)
    for rows, asked in ((pairs.rows, (*pairs.targets, *pairs.own)), (pairs.turned, pairs.own)):
        answers = np.zeros(lists.shape[:2], dtype=bool)
        answers[:, rows] = np.isin(lists[:, rows], asked).any(2)
        bare[answers] = lists[answers]
    whole, short = scores(lists, pairs, V, seed), scores(bare, pairs, V, seed)
    for name, values in vars(whole).items():
        assert np.array_equal(values, getattr(short, name)), name


def tail(table, hits):
    """P(T ≥ hits) over all re-pairings, by trying every one."""
    n = len(table)
    totals = [table[range(n), order].sum() for order in itertools.permutations(range(n))]
    return np.mean(np.array(totals) >= hits)


@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), density=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_the_bound_is_never_below_the_exact_tail(seed, n, density):
    table = np.random.default_rng(seed).random((n, n)) < density
    hits = np.arange(n + 1)
    bounds = tail_bounds(hits, np.tile(table.sum(1), (n + 1, 1)))
    exact = np.array([tail(table, hit) for hit in hits])
    assert (bounds >= exact - 1e-12).all()


def test_the_bound_is_sharp_far_out():
    n = 7
    assert tail_bounds(np.array([n]), np.ones((1, n), dtype=int))[0] == pytest.approx(1 / math.factorial(n))


@given(seed=st.integers(0, 10**6), n=st.integers(3, 7))
@settings(max_examples=25, deadline=None)
def test_p_values_are_never_below_what_all_re_pairings_give(seed, n):
    generator = np.random.default_rng(seed)
    lists = random_lists(generator, 2, vocabulary=60)
    pairs = lonely(generator.permutation(R)[:n], generator.integers(0, 60, n))
    found = scores(lists, pairs, 60, seed)
    for head, (place, k) in itertools.product(range(2), enumerate(KS)):
        table = np.array([[t in lists[head, r, :k] for t in pairs.targets] for r in pairs.rows])
        exact = tail(table, table.trace())
        # By re-pairing at random where the bounds do not settle it: four standard errors of room.
        assert found.p_value[head, place] >= exact - 4 * math.sqrt(exact * (1 - exact) / 199) - 1e-9


def test_a_head_that_always_writes_the_class_has_the_score_and_no_lift():
    generator = np.random.default_rng(0)
    lists = random_lists(generator, 2)
    pairs = TokenPairs(np.arange(60), generator.integers(0, 4, 60), np.arange(100, 160), np.arange(60))
    lists += 4  # nothing of the class is listed but what is put there
    lists[0, :, :4] = np.arange(4)  # he, she, it, they, whatever is read
    lists[1, pairs.rows, 0] = pairs.targets  # reads and answers
    found = scores(lists, pairs, V + 4, 0)
    ten = KS.index(10)
    assert found.score[0, ten] == 1.0 and found.lift[0, ten] == 0.0 and found.p_value[0, ten] == 1.0
    assert found.score[1, ten] == 1.0 and found.lift[1, 0] > 0.7 and found.p_value[1, 0] < 1e-6


def test_a_true_head_of_a_relation_with_many_targets_has_a_lift_near_one():
    generator = np.random.default_rng(1)
    lists = random_lists(generator, 1)
    pairs = lonely(np.arange(100), generator.permutation(V)[:100])
    lists = lists + V
    lists[0, pairs.rows, 0] = pairs.targets
    found = scores(lists, pairs, 2 * V, 0)
    assert found.lift[0, 0] > 0.98 and found.p_value[0, 0] < 1e-50
    assert np.isnan(found.identity).all() and np.isnan(found.reversed).all()


def test_nothing_is_found_where_there_is_nothing():
    """Heads that write the same favourites for all, in random order: hits by chance alone, and plenty of them."""
    generator = np.random.default_rng(2)
    p_values = []
    for _ in range(40):
        favourites = generator.permutation(60)[:30]
        lists = np.stack([[generator.permutation(favourites)[:25] for _ in range(R)] for _ in range(5)])
        p_values.append(scores(lists, random_pairs(generator, 80, 60), V, 0).p_value[:, KS.index(10)])
    p = np.concatenate(p_values)
    assert (p < 0.05).mean() < 0.1
    assert (benjamini_hochberg(p) < 0.05).mean() <= 0.05


def test_re_pairings_are_the_same_in_every_run():
    generator = np.random.default_rng(3)
    lists, pairs = random_lists(generator, 4), random_pairs(generator, 50, 20)
    assert np.array_equal(scores(lists, pairs, V, 7).p_value, scores(lists, pairs, V, 7).p_value)


def test_within_class_leaves_out_the_mean_row_and_the_source_itself():
    # Targets 10, 11, 12; the class mean favours 12 for all, and the first source is itself target 11.
    pairs = TokenPairs(np.arange(3), np.array([10, 11, 12]), np.array([11, 50, 51]), np.arange(3))
    values = np.array([[3.0, 9.0, 10.0], [0.0, 4.0, 10.0], [0.0, 0.0, 13.0]])
    assert within_class(values, pairs) == (1.0, 0.0)
    alone = TokenPairs(np.arange(3), np.array([10, 10, 10]), np.array([1, 2, 3]), np.arange(3))
    assert np.isnan(within_class(np.zeros((3, 1)), alone)).all()


def test_the_main_k_is_that_of_the_paper():
    assert [main_k(copying, n) for n in (50_257, 128_256) for copying in (False, True)] == [10, 1, 25, 3]
