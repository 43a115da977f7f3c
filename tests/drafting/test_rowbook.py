"""The three splits of a head's rows: disjoint, whole, and decided by the source token alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from describe.drafting.rowbook import RowBook, is_validation
from describe.records import DIRECTIONS, HeadId, HeadMappings, is_heldout

SPLITS = ("draft", "validation", "test")
N_VOCAB = 400
TEXTS = [f"t{i}" for i in range(N_VOCAB)]


def mapping(head, direction, sources, seed):
    sources = np.array(sources, dtype=np.int64)
    return HeadMappings(
        head=head,
        direction=direction,
        source_ids=sources,
        saliency=np.linspace(2, 1, len(sources), dtype=np.float32),
        contrast=None,
        target_ids=(sources[:, None] + np.arange(1, 4)) % N_VOCAB,
        logits=np.zeros((len(sources), 3), np.float32),
        z=None,
        heldout=np.array([is_heldout(int(one), seed) for one in sources], dtype=bool),
    )


heads_sources = st.lists(
    st.lists(st.integers(0, N_VOCAB - 1), max_size=40, unique=True), min_size=2, max_size=5
)


@given(heads_sources, st.integers(0, 5))
def test_splits_are_disjoint_whole_and_by_token_alone(sources, seed):
    mappings = [
        mapping(HeadId(0, at), direction, own, seed)
        for at, own in enumerate(sources)
        for direction in DIRECTIONS
    ]
    book = RowBook.of(mappings, TEXTS, seed)
    split_of: dict[int, set[str]] = {}
    for one in mappings:
        parts = {name: book.split(one.head, one.direction, name) for name in SPLITS}
        places = sorted(row.place for rows in parts.values() for row in rows)
        assert places == list(range(len(one.source_ids)))  # every row in one split, none in two
        for name, rows in parts.items():
            assert [row.place for row in rows] == sorted(row.place for row in rows)
            for row in rows:
                split_of.setdefault(row.source_id, set()).add(name)
                assert row.source_id == one.source_ids[row.place]
                assert row.source == TEXTS[row.source_id] and row.direction == one.direction
                assert row.targets == tuple(TEXTS[i] for i in one.target_ids[row.place])
        assert book.split(one.head, one.direction, *SPLITS) == list(book.rows[one.head, one.direction])
    assert all(len(names) == 1 for names in split_of.values())
    drafted = {token for token, names in split_of.items() if names == {"draft"}}
    assert drafted == {token for own in sources for token in own if not is_heldout(token, seed)}


def test_a_head_that_is_not_in_the_book_has_no_rows():
    book = RowBook.of([mapping(HeadId(0, 0), "promote", [1, 2, 3], 0)], TEXTS, 0)
    assert book.split(HeadId(0, 1), "promote", *SPLITS) == []
    assert book.split(HeadId(0, 0), "suppress", *SPLITS) == []
    assert len(book.split(HeadId(0, 0), "promote", *SPLITS)) == 3


def test_the_second_bit_is_balanced_and_independent_of_the_first_and_of_the_seed():
    ids = range(20_000)
    validation = np.array([is_validation(one) for one in ids])
    heldout = np.array([is_heldout(one) for one in ids])
    other = np.array([is_validation(one, 1) for one in ids])
    tolerance = 4 * 0.5 / np.sqrt(len(validation) / 2)
    assert abs(validation.mean() - 0.5) < tolerance
    assert abs(validation[heldout].mean() - 0.5) < tolerance
    assert abs(validation[~heldout].mean() - 0.5) < tolerance
    assert abs(validation[other].mean() - 0.5) < tolerance
