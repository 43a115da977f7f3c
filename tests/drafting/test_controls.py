"""Control heads keep what they must and lose what they must."""

from __future__ import annotations

import numpy as np
import pytest

from describe.drafting.controls import foreign_targets, shuffled_rows
from describe.records import DIRECTIONS, HeadId, HeadMappings


def head(layer, index, direction, k=12, n=3):
    """Every target names the head, the direction and the row that it came from."""
    own = (layer * 4 + index) * 2 + DIRECTIONS.index(direction)
    targets = own * 1000 + np.arange(k)[:, None] * 10 + np.arange(n)
    return HeadMappings(
        head=HeadId(layer, index),
        direction=direction,
        source_ids=own * 100 + np.arange(k),
        saliency=np.linspace(2, 1, k, dtype=np.float32),
        contrast=None,
        target_ids=targets,
        logits=targets.astype(np.float32),
        z=targets.astype(np.float32) / 2,
        heldout=np.arange(k) % 2 == 0,
    )


MODEL = [
    head(layer, index, direction) for layer in range(3) for index in range(2) for direction in DIRECTIONS
]
ORIGINAL = {(one.head, one.direction): one for one in MODEL}


def test_shuffled_rows_keep_sources_and_the_multiset_of_targets():
    controls = shuffled_rows(MODEL, 8, seed=0)
    assert len(controls) == len({(one.head, one.direction) for one in controls}) == 8
    moved = 0
    for one in controls:
        own = ORIGINAL[one.head, one.direction]
        np.testing.assert_array_equal(one.source_ids, own.source_ids)
        np.testing.assert_array_equal(one.heldout, own.heldout)
        np.testing.assert_array_equal(one.saliency, own.saliency)
        assert sorted(map(tuple, one.target_ids)) == sorted(map(tuple, own.target_ids))
        np.testing.assert_array_equal(one.logits, one.target_ids)  # a row's logits go with its targets
        np.testing.assert_array_equal(one.z, one.target_ids / 2)
        moved += int((one.target_ids != own.target_ids).any(1).sum())
    assert moved > 0.7 * 8 * 12


def test_foreign_targets_are_rows_of_other_heads_in_the_same_direction():
    controls = foreign_targets(MODEL, 12, seed=0)
    assert len(controls) == 12
    donors = set()
    for one in controls:
        own = ORIGINAL[one.head, one.direction]
        np.testing.assert_array_equal(one.source_ids, own.source_ids)
        for row in one.target_ids:
            donor, direction = divmod(int(row[0]) // 1000, 2)
            assert DIRECTIONS[direction] == one.direction
            assert HeadId(*divmod(donor, 4)) != one.head
            where = (int(row[0]) % 1000) // 10
            np.testing.assert_array_equal(
                row, ORIGINAL[HeadId(*divmod(donor, 4)), one.direction].target_ids[where]
            )
            donors.add(donor)
    assert len(donors) == 6  # from all over the model


def test_a_model_of_one_head_has_no_foreign_targets():
    assert foreign_targets(MODEL[:2], 5, seed=0) == []
    assert len(shuffled_rows(MODEL[:2], 5, seed=0)) == 2


@pytest.mark.parametrize("make", [shuffled_rows, foreign_targets])
def test_controls_follow_their_seed_and_leave_the_model_alone(make):
    before = [one.target_ids.copy() for one in MODEL]
    a, b, other = make(MODEL, 6, 1), make(MODEL, 6, 1), make(MODEL, 6, 2)
    assert [one.head for one in a] == [one.head for one in b]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.target_ids, y.target_ids)
    assert any(
        x.head != y.head or (x.target_ids != y.target_ids).any() for x, y in zip(a, other, strict=True)
    )
    for one, ids in zip(MODEL, before, strict=True):
        np.testing.assert_array_equal(one.target_ids, ids)
