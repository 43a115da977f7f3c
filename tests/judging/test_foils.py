"""Trials: rows of the head among foils that are not its own, in an order that gives nothing away."""

from __future__ import annotations

import numpy as np
import pytest

from describe.records import DIRECTIONS, HeadId
from eval.judging.foils import Trials, TrialSettings

HEADS = [HeadId(layer, head) for layer in range(3) for head in range(4)]
SPLITS = [("validation",), ("test",), ("validation", "test")]


def trials_of(book, splits, directions=("promote",), seed=0, rows=12, **more):
    maker = Trials(book, TrialSettings(rows=rows, seed=seed))
    return [maker.make(head, directions, splits, **more) for head in HEADS]


def ids(rows):
    return {row.source_id for row in rows}


@pytest.mark.parametrize("splits", SPLITS)
def test_own_rows_are_of_the_wanted_splits_alone(wide_book, splits):
    for trial in trials_of(wide_book, splits, DIRECTIONS):
        for direction in DIRECTIONS:
            wanted = wide_book.split(trial.head, direction, *splits)
            own = [trial.items[i].row for i in trial.of("own")]
            own = [row for row in own if row.direction == direction]
            assert all(row in wanted for row in own)
            assert len(own) == len(ids(own)) == min(12, len(wanted))
            assert wanted[0] in own and wanted[-1] in own  # from the most to the least salient
        assert {trial.items[i].head for i in trial.of("own")} == {trial.head}


@pytest.mark.parametrize("splits", SPLITS)
def test_no_part_of_a_trial_is_a_drafting_row_of_any_head(wide_book, splits):
    drafted = {row.source_id for key in wide_book.rows for row in wide_book.split(*key, "draft")}
    for trial in trials_of(wide_book, splits, DIRECTIONS):
        assert not drafted & {item.row.source_id for item in trial.items}


def test_foils_of_other_heads_share_no_source_with_the_head_and_are_rows_of_their_head(wide_book):
    for trial in trials_of(wide_book, ("test",)):
        own = ids(wide_book.rows[trial.head, "promote"])
        foils = [trial.items[i] for i in (*trial.of("similar"), *trial.of("random"))]
        assert foils
        for item in foils:
            assert item.head != trial.head
            assert item.row in wide_book.split(item.head, "promote", "validation", "test")
        assert not own & ids(item.row for item in foils)
        assert len(ids(item.row for item in foils)) == len(foils)


def test_similar_foils_are_of_the_heads_that_share_targets(wide_book):
    near = []
    for trial in trials_of(wide_book, ("test",)):
        number = HEADS.index(trial.head)
        # Of the five that count as similar, three share targets.
        kin = [(HEADS.index(trial.items[i].head) - number) % 3 == 0 for i in trial.of("similar")]
        assert len(kin) == 4
        near += kin
    assert np.mean(near) > 0.45 > 3 / 11
    maker = Trials(wide_book, TrialSettings())
    for at, head in enumerate(HEADS):
        order = maker._similar((head, "promote"))
        assert {HEADS.index(one) % 3 for one in order[:3]} == {at % 3}
        assert sorted(order) == sorted(set(HEADS) - {head})


@pytest.mark.parametrize("splits", SPLITS)
def test_permuted_foils_keep_the_source_and_take_targets_of_another_own_row(wide_book, splits):
    count = 0
    for trial in trials_of(wide_book, splits):
        pool = {row.source_id: row for row in wide_book.split(trial.head, "promote", *splits)}
        for place in trial.of("permuted"):
            row = trial.items[place].row
            real = pool[row.source_id]
            givers = [one for one in pool.values() if one.targets == row.targets]
            assert givers and real not in givers  # of these splits alone: no other row has a part in it
            shared = set(row.targets[:5]) & set(real.targets[:5])
            assert len(shared) < len(set(row.targets[:5])) / 2
            count += 1
    assert count > 3 * len(HEADS)


def test_rows_that_share_half_of_their_targets_are_not_permuted(book_maker):
    maker = book_maker()
    maker.head(HeadId(0, 0), range(100), lambda place, source: ["a", "b", "c", f"{source}"])
    maker.head(HeadId(0, 1), range(200, 300), lambda place, source: ["x", f"{source}"])
    trial = Trials(maker.book(), TrialSettings()).make(HeadId(0, 0), ["promote"], ["test"])
    assert trial.of("permuted") == []
    assert len(trial.foils) == len(trial.of("own")) == 12


def test_a_claim_about_targets_alone_has_no_permuted_foils(wide_book):
    for trial in trials_of(wide_book, ("test",), by_source=False):
        assert trial.of("permuted") == []
        assert trial.of("similar") and trial.of("random")
        assert len(trial.foils) == len(trial.of("own"))


def test_heads_described_alike_give_no_foils(wide_book):
    alike = frozenset(HEADS[1:10])
    for trial in trials_of(wide_book, ("validation", "test"), alike=alike):
        others = {trial.items[i].head for i in (*trial.of("similar"), *trial.of("random"))}
        assert others and not others & alike
    everyone = trials_of(wide_book, ("test",), alike=frozenset(HEADS))
    assert all(set(trial.foils) == set(trial.of("permuted")) for trial in everyone)
    assert trials_of(wide_book, ("test",), alike=frozenset(HEADS), by_source=False) == [None] * 12


@pytest.mark.parametrize("by_source", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 5, 12])
def test_there_are_as_many_foils_as_rows(wide_book, by_source, rows):
    for trial in trials_of(wide_book, ("validation", "test"), DIRECTIONS, rows=rows, by_source=by_source):
        for direction in DIRECTIONS:
            kinds = [item.kind for item in trial.items if item.row.direction == direction]
            assert kinds.count("own") == rows and len(kinds) == 2 * rows
        directions = [item.row.direction for item in trial.items]
        assert directions == sorted(directions)  # one after the other


def test_random_foils_are_about_as_frequent(wide_book):
    nearest, own = [], []
    for trial in trials_of(wide_book, ("validation", "test"), by_source=False):
        of_own = np.log1p([trial.items[i].row.source_id for i in trial.of("own")])
        for kind, found in (("random", nearest), ("similar", own)):
            of_kind = np.log1p([trial.items[i].row.source_id for i in trial.of(kind)])
            found += [np.abs(of_own - one).min() for one in of_kind]
    assert np.median(nearest) < np.median(own) / 2


def test_no_place_favours_rows_or_foils(wide_book):
    places = {"own": [], "similar": [], "random": [], "permuted": []}
    for seed in range(60):
        for trial in trials_of(wide_book, ("test",), seed=seed):
            middle = (len(trial.items) - 1) / 2
            for place, item in enumerate(trial.items):
                places[item.kind].append((place - middle) / len(trial.items))
    for kind, found in places.items():
        assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found)), kind
        assert np.std(found) == pytest.approx(1 / np.sqrt(12), rel=0.05)  # all over the list


def test_in_every_prefix_of_pairs_rows_and_foils_are_as_many(wide_book):
    for trial in trials_of(wide_book, ("test",)):
        own = np.array([item.kind == "own" for item in trial.items])
        assert (own.reshape(-1, 2).sum(1) == 1).all()


def test_the_same_seed_gives_the_same_trial_and_another_seed_another(wide_book):
    first, again = (trials_of(wide_book, ("test",), DIRECTIONS, seed=3) for _ in range(2))
    assert first == again
    for one, other in zip(first, trials_of(wide_book, ("test",), DIRECTIONS, seed=4), strict=True):
        assert [item.row for item in one.items] != [item.row for item in other.items]
    backwards = Trials(wide_book, TrialSettings(seed=3))
    assert [backwards.make(head, DIRECTIONS, ("test",)) for head in reversed(HEADS)] == first[::-1]


def test_no_trial_without_rows_or_without_foils(wide_book, book_maker):
    maker = Trials(wide_book, TrialSettings())
    assert maker.make(HeadId(9, 9), DIRECTIONS, ("test",)) is None  # not in the book
    assert maker.make(HEADS[0], [], ("test",)) is None
    alone = book_maker().head(HeadId(0, 0), range(40), lambda place, source: ["a", "b"])
    assert Trials(alone.book(), TrialSettings()).make(HeadId(0, 0), ["promote"], ["test"]) is None
    varied = book_maker().head(HeadId(0, 0), range(40), lambda place, source: [f"{source}"])
    trial = Trials(varied.book(), TrialSettings()).make(HeadId(0, 0), DIRECTIONS, ["test"])
    assert len(trial.of("permuted")) == len(trial.of("own")) > 5  # nothing else is to be had
    empty = book_maker().head(HeadId(0, 0), [], lambda place, source: [])
    empty.head(HeadId(0, 1), range(40), lambda place, source: [f"{source}"])
    assert Trials(empty.book(), TrialSettings()).make(HeadId(0, 0), ["promote"], ["test"]) is None


@pytest.mark.parametrize("by_source", [True, False])
def test_a_source_of_the_head_is_no_foil_even_if_most_sources_are_shared(book_maker, by_source):
    maker = book_maker()
    for at in range(4):
        maker.head(HeadId(0, at), range(at * 10, at * 10 + 60), lambda place, source: ["a", f"{source % 7}"])
    book = maker.book()
    for at in range(4):
        own = {row.source_id for row in book.rows[HeadId(0, at), "promote"]}
        trial = Trials(book, TrialSettings(seed=at)).make(
            HeadId(0, at), ["promote"], ["test"], by_source=by_source
        )
        foils = [trial.items[i].row.source_id for i in (*trial.of("similar"), *trial.of("random"))]
        assert foils and not own & set(foils)
        assert len(foils) == len(set(foils))
