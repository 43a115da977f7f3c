"""Heads with nothing to describe, made from a model's own: what a pipeline claims of them is false."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from describe.records import HeadMappings

CONTROL_HEADS = 300


def shuffled_rows(mappings: Sequence[HeadMappings], count: int, seed: int) -> list[HeadMappings]:
    """Heads whose targets are shuffled among their own rows: no row-specific operation is true of them."""
    generator = np.random.default_rng(seed)
    controls = []
    for at in generator.permutation(len(mappings))[:count]:
        one = mappings[at]
        order = generator.permutation(len(one.source_ids))
        controls.append(
            dataclasses.replace(
                one,
                target_ids=one.target_ids[order],
                logits=one.logits[order],
                z=None if one.z is None else one.z[order],
            )
        )
    return controls


def foreign_targets(mappings: Sequence[HeadMappings], count: int, seed: int) -> list[HeadMappings]:
    """Heads whose rows get targets drawn from rows of other heads of the model: no class of outputs is true."""
    generator = np.random.default_rng(seed)
    controls = []
    for at in generator.permutation(len(mappings))[:count]:
        one = mappings[at]
        donors = [other for other in mappings if other.head != one.head and other.direction == one.direction]
        if not donors:
            continue
        targets = one.target_ids.copy()
        for row in range(len(targets)):
            donor = donors[generator.integers(len(donors))]
            targets[row] = donor.target_ids[generator.integers(len(donor.target_ids))]
        controls.append(dataclasses.replace(one, target_ids=targets))
    return controls
