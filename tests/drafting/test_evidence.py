"""Claims: chosen on drafting rows alone, graded on held-out rows against chance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core.nulls import binomial_tail, permutation_test, wilson
from describe.drafting.rules.evidence import (
    Candidate,
    Claim,
    GradingSettings,
    choose_operations,
    class_claim,
    grade_operation,
)

GRADING = GradingSettings()
K = 30
DRAFT = np.arange(K) % 2 == 0


def candidate(name, own_rows, specificity=50.0, noise=0.0, copies=False, seed=0):
    """An operation that holds on its own rows `own_rows`, and elsewhere at a rate of `noise`."""
    matrix = np.random.default_rng(seed).random((K, K)) < noise
    np.fill_diagonal(matrix, np.isin(np.arange(K), list(own_rows)))
    return Candidate(name, specificity, copies, matrix)


def names(chosen):
    return [one.name for one in chosen]


def test_a_planted_operation_is_chosen_among_noise_and_graded_on_the_other_half():
    planted = candidate("planted", range(20), noise=0.05)
    noise = [
        Candidate(f"noise{i}", 90.0, False, candidate("", [], noise=0.1, seed=i).matrix) for i in range(20)
    ]
    chosen = choose_operations([*noise, planted], DRAFT, GRADING)
    assert names(chosen) == ["planted"]
    claim = grade_operation(planted, ~DRAFT, GRADING)
    assert (claim.draft_hits, claim.n_draft, claim.hits, claim.n_heldout) == (10, 15, 10, 15)
    block = planted.matrix[np.ix_(~DRAFT, ~DRAFT)]
    assert claim.null == pytest.approx(block.mean())
    assert claim.p_value == permutation_test(block, GRADING.seed, GRADING.permutations)[1]
    assert claim.p_value == pytest.approx(1e-4)
    assert claim.rows == tuple(range(20))
    assert claim.precision == pytest.approx(10 / 15)
    assert claim.lift == pytest.approx(10 / 15 - block.mean())
    assert claim.interval == wilson(10, 15)
    assert claim.strong(GRADING)


def test_an_operation_that_holds_whatever_the_pairing_is_not_chosen():
    """A head that always writes the same words: every source is hit by every row's targets."""
    assert choose_operations([Candidate("constant", 50, False, np.ones((K, K), bool))], DRAFT, GRADING) == []


@pytest.mark.parametrize(("rows", "expected"), [(range(0, 6, 2), ["few"]), (range(0, 4, 2), [])])
def test_an_operation_needs_three_drafting_rows(rows, expected):
    assert names(choose_operations([candidate("few", rows)], DRAFT, GRADING)) == expected


def test_an_operation_needs_its_lift_on_the_drafting_rows():
    """Five of 15 drafting rows over a null of a quarter is no 15 % above chance."""
    rows = range(0, 10, 2)
    assert names(choose_operations([candidate("rare", rows, noise=0.05)], DRAFT, GRADING)) == ["rare"]
    assert choose_operations([candidate("common", rows, noise=0.25)], DRAFT, GRADING) == []


tables = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 24), st.integers(1, 8)).map(
    lambda t: (np.random.default_rng(t[0]), t[1], t[2])
)


@settings(max_examples=80, deadline=None)
@given(tables)
def test_heldout_rows_never_influence_the_choice(table):
    """Whatever is written in the rows and columns of the held-out half, the choice is the same."""
    generator, k, n = table
    draft = generator.random(k) < 0.5
    found = []
    matrices = [generator.random((k, k)) < generator.random() * 0.4 for _ in range(n)]
    for matrix in matrices:
        np.fill_diagonal(matrix, generator.random(k) < generator.random())
    for _ in range(2):
        candidates = [
            Candidate(f"c{i}", float(i % 3), i % 4 == 0, matrix) for i, matrix in enumerate(matrices)
        ]
        found.append(names(choose_operations(candidates, draft, GRADING)))
        for matrix in matrices:
            other = generator.random((k, k)) < 0.5
            keep = np.ix_(draft, draft)
            other[keep] = matrix[keep]
            matrix[:] = other
    assert found[0] == found[1]


def test_drafting_rows_never_influence_the_grade():
    a = candidate("a", range(20), noise=0.1)
    b = dataclasses.replace(a, matrix=a.matrix.copy())
    b.matrix[DRAFT] = True
    b.matrix[:, DRAFT] = True
    ours, theirs = (grade_operation(one, ~DRAFT, GRADING) for one in (a, b))
    for name in ("hits", "n_heldout", "null", "p_value"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_the_more_specific_operation_wins_when_it_explains_nearly_as_much():
    general = candidate("general", range(30), specificity=10)
    near = candidate("near", range(26), specificity=60)  # 13 of 15 drafting rows
    far = candidate("far", range(20), specificity=90)  # 10 of 15: too few to stand for the general one
    assert names(choose_operations([general, near], DRAFT, GRADING))[0] == "near"
    assert names(choose_operations([general, far], DRAFT, GRADING)) == ["general"]
    assert names(choose_operations([general, far, near], DRAFT, GRADING))[0] == "near"


def test_a_second_operation_must_explain_rows_of_its_own():
    first = candidate("first", range(18))
    inside = candidate("inside", range(16))
    apart = candidate("apart", range(18, 28))
    assert names(choose_operations([first, inside, apart], DRAFT, GRADING)) == ["first", "apart"]
    third = candidate("third", range(10))
    one = dataclasses.replace(GRADING, max_claims=1)
    assert names(choose_operations([first, third, apart], DRAFT, one)) == ["first"]


def test_copying_is_chosen_apart_from_what_else_the_head_does():
    """The same rows may be copies and something else: " Poland" → " Poland", " Warsaw"."""
    copying = candidate("copy", range(30), specificity=100, copies=True)
    capital = candidate("capital", range(30), specificity=60)
    assert names(choose_operations([capital, copying], DRAFT, GRADING)) == ["copy", "capital"]


def test_shuffled_rows_pass_at_no_more_than_the_level():
    """Choice on one half, p-value on the other: among the operations chosen from noise p ≤ α at most α often."""
    generator = np.random.default_rng(1)
    loose = dataclasses.replace(GRADING, min_lift=0.02, permutations=199)
    p = []
    for _ in range(300):
        found = []
        for i in range(30):
            rates = generator.random((K, 1)) * generator.random((1, K)) * 0.6
            found.append(Candidate(f"n{i}", float(i), False, generator.random((K, K)) < rates))
        p += [grade_operation(one, ~DRAFT, loose).p_value for one in choose_operations(found, DRAFT, loose)]
    p = np.array(p)
    assert len(p) > 100
    for alpha in (0.05, 0.1, 0.25):
        assert (p <= alpha).mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / len(p))


# Classes


def chosen_class(members, rates, heldout=~DRAFT, grading=GRADING, specificity=lambda i: 0.0):
    own = [f"class{i}" for i in range(len(members))]
    return class_claim("output", own, np.array(members), np.array(rates), heldout, grading, specificity)


def rows_in(*ranges):
    out = np.zeros(K, bool)
    for own in ranges:
        out[list(own)] = True
    return out


def test_a_planted_class_is_found_and_graded_against_the_other_heads():
    claim = chosen_class([rows_in(range(4)), rows_in(range(24))], [0.05, 0.1])
    assert claim.name == "class1"
    assert (claim.draft_hits, claim.n_draft, claim.hits, claim.n_heldout) == (12, 15, 12, 15)
    assert claim.null == 0.1
    assert claim.p_value == binomial_tail(12, 15, 0.1)
    assert claim.rows == tuple(range(24))
    assert claim.strong(GRADING)


def test_a_class_that_other_heads_write_as_often_says_nothing():
    assert chosen_class([rows_in(range(24))], [0.6]) is None
    assert chosen_class([rows_in(range(24))], [1.0]) is None


def test_a_class_must_hold_on_half_of_the_drafting_rows():
    assert chosen_class([rows_in(range(14))], [0.0]) is None  # 7 of 15
    assert chosen_class([rows_in(range(16))], [0.0]) is not None  # 8 of 15


def test_the_more_telling_of_two_near_classes_is_taken():
    members = [rows_in(range(30)), rows_in(range(26))]
    assert chosen_class(members, [0.1, 0.01], specificity=lambda i: (1.0, 4.0)[i]).name == "class1"
    assert chosen_class(members, [0.1, 0.01], specificity=lambda i: (4.0, 1.0)[i]).name == "class0"
    far = [rows_in(range(30)), rows_in(range(18))]
    assert chosen_class(far, [0.1, 0.01], specificity=lambda i: (1.0, 4.0)[i]).name == "class0"


def test_the_choice_of_a_class_ignores_heldout_rows():
    members = np.array([rows_in(range(0, 30, 2)), rows_in(range(0, 24, 2))])
    before = chosen_class(members, [0.1, 0.1])
    members[1, ~DRAFT] = True
    after = chosen_class(members, [0.1, 0.1])
    assert before.name == after.name == "class0"
    assert after.hits == 0
    assert not after.strong(GRADING)


def test_too_few_drafting_rows_give_no_class():
    heldout = np.ones(K, bool)
    heldout[:2] = False
    assert chosen_class([rows_in(range(30))], [0.0], heldout) is None


# Strength


def claim_of(kind="row", hits=10, n=15, null=0.1):
    return Claim(kind, "x", 10, 15, hits, n, null, 1e-4, ())


@pytest.mark.parametrize(
    ("claim", "strong"),
    [
        (claim_of(hits=3, n=15, null=0.04), True),  # lift 0.16
        (claim_of(hits=3, n=15, null=0.06), False),  # lift 0.14
        (claim_of(hits=2, n=2, null=0.0), False),  # two rows are no rule
        (claim_of("output", hits=8, null=0.2), True),
        (claim_of("output", hits=7, null=0.0), False),  # less than half of the rows
        (claim_of("output", hits=9, null=0.35), False),  # lift 0.25
        (claim_of("input", hits=8, null=0.2), True),
        (claim_of("input", hits=9, null=0.35), False),
    ],
)
def test_what_a_description_needs_beside_its_q_value(claim, strong):
    assert claim.strong(GRADING) is strong


def test_a_claim_without_heldout_rows_is_nothing():
    empty = claim_of(hits=0, n=0)
    assert empty.precision == 0.0
    assert empty.interval == (0.0, 1.0)
    assert not empty.strong(GRADING)
