"""Keys of tokens as rows of integers: gathering them, joining two sides, counting the pairs that meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_CHUNK = 4_000_000  # pairs of tokens looked at in one go while counting: some 100 MB of integers


@dataclass(frozen=True)
class KeyRows:
    """The keys of every token on one side of an operation: row i holds `codes[starts[i]:starts[i + 1]]`."""

    starts: NDArray[np.int32]  # [n_tokens + 1]
    codes: NDArray[np.int32]  # [number of keys of all tokens]

    @cached_property
    def single(self) -> NDArray[np.int32] | None:
        """The only code of each token, −1 for none [n_tokens]; None where some token has several."""
        counts = np.diff(self.starts)
        if counts.max(initial=0) > 1:
            return None
        only = np.full(len(counts), -1, dtype=np.int32)
        only[counts == 1] = self.codes
        return only

    def of(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """The codes of the given rows, one after the other: (place in `rows`, code), each [n keys]."""
        starts = self.starts[rows]
        counts = self.starts[rows + 1] - starts
        owners = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(counts) - counts
        return owners, self.codes[np.arange(len(owners)) - np.repeat(before - starts, counts)]


def joined(
    left: NDArray[np.integer], right: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places (i, j) of equal entries, left[i] == right[j], every one of them."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    first = np.searchsorted(ordered, left, side="left")
    counts = np.searchsorted(ordered, left, side="right") - first
    at_left = np.repeat(np.arange(len(left)), counts)
    before = np.cumsum(counts) - counts
    return at_left, order[np.arange(len(at_left)) - np.repeat(before - first, counts)]


def pairs_that_meet(
    at_source: NDArray[np.intp],
    source_codes: NDArray[np.integer],
    at_target: NDArray[np.intp],
    target_codes: NDArray[np.integer],
) -> int:
    """How many (source, target) share at least one code; sources and targets are given key by key.

    A pair in which one side has a single key can share only that one, so the sum over codes of (sources with
    it × targets with it) counts it once. Only pairs with several keys on both sides are counted one by one.
    """
    total = _meetings(source_codes, target_codes)
    several_source = _owner_has_several(at_source)
    several_target = _owner_has_several(at_target)
    if not several_source.any() or not several_target.any():
        return total
    source_codes, at_source = source_codes[several_source], at_source[several_source]
    target_codes, at_target = target_codes[several_target], at_target[several_target]
    return (
        total
        - _meetings(source_codes, target_codes)
        + _distinct(at_source, source_codes, at_target, target_codes)
    )


def _meetings(source_codes: NDArray[np.integer], target_codes: NDArray[np.integer]) -> int:
    source_values, source_counts = np.unique(source_codes, return_counts=True)
    target_values, target_counts = np.unique(target_codes, return_counts=True)
    _, here, there = np.intersect1d(source_values, target_values, assume_unique=True, return_indices=True)
    return int(np.dot(source_counts[here].astype(np.int64), target_counts[there].astype(np.int64)))


def _owner_has_several(owners: NDArray[np.intp]) -> NDArray[np.bool_]:
    several: NDArray[np.bool_] = (
        np.bincount(owners)[owners] > 1 if len(owners) else np.zeros(0, dtype=np.bool_)
    )
    return several


def _distinct(
    at_source: NDArray[np.intp],
    source_codes: NDArray[np.integer],
    at_target: NDArray[np.intp],
    target_codes: NDArray[np.integer],
) -> int:
    """Pairs that share a code, each once, in chunks of whole sources so that memory stays bounded."""
    values, counts = np.unique(target_codes, return_counts=True)
    place = np.minimum(np.searchsorted(values, source_codes), len(values) - 1)
    work = np.cumsum(np.where(values[place] == source_codes, counts[place], 0))
    chunk = work // _CHUNK
    total = 0
    carried = 0
    for number in range(int(chunk[-1]) + 1):
        # `at_source` rises, so a chunk ends where its last source ends.
        end = int(np.searchsorted(chunk, number, side="right"))
        if end <= carried:
            continue
        end = int(np.searchsorted(at_source, at_source[end - 1], side="right"))
        left, right = joined(source_codes[carried:end], target_codes)
        pairs = at_source[carried:end][left] * (int(at_target.max()) + 1) + at_target[right]
        total += len(np.unique(pairs))
        carried = end
    return total
