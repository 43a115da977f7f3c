"""Which heads are removed: the relation's by their scores, others drawn from the same layers; and fit control tasks.

A head is a number here: layer x n_heads + head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

Heads = NDArray[np.int64]
STEPS = 8
"""Counts of removed heads at which the model is run, at most."""
CONTROLS = 5
"""Control tasks of a relation, at most (MAPS, 4.3)."""
OVERLAP, DIFFERENCE = 0.15, 0.2
"""A control task shares a smaller part of its heads with the relation, and its accuracy is nearer (MAPS, 4.3)."""
_CAPS = ((300, 30), (500, 50), (1000, 100), (1500, 150))


def most_removed(n_heads: int) -> int:
    """How many heads are removed at most from a model with so many: the steps of MAPS (released code).

    Never more than half, so that as many others are left to be drawn; no model of the paper is that small.
    """
    cap = next((cap for below, cap in _CAPS if n_heads < below), 250)
    return min(cap, n_heads // 2)


def removal_order(scores: NDArray[np.float64], most: int) -> Heads:
    """The heads with a score above 0, the highest first; of equals the later, as the released code sorts them."""
    order = np.argsort(scores, kind="stable")[::-1]
    return order[scores[order] > 0][:most].astype(np.int64)


def steps(most: int) -> list[int]:
    """Counts of heads from 0 to `most`: none, and up to `STEPS` in about equal ratios."""
    if most == 0:
        return [0]
    return [0, *(int(one) for one in np.unique(np.geomspace(1, most, STEPS).round().astype(int)))]


def matched(heads: Heads, n_layers: int, n_heads: int, generator: np.random.Generator) -> tuple[Heads, float]:
    """A random head for each of `heads`, none of them and none twice: of the same layer, or else of the nearest.

    Args:
        heads: at most half of the model's.
        n_layers: of the model.
        n_heads: of a layer.
        generator: of the draw.

    Returns:
        The drawn heads in the order of those that they stand for, and the share of them in the same layer; 1
        for none.
    """
    taken = set(heads.tolist())
    pools = [
        [int(layer * n_heads + head) for head in generator.permutation(n_heads)] for layer in range(n_layers)
    ]
    pools = [[head for head in pool if head not in taken] for pool in pools]
    drawn = np.full(len(heads), -1, dtype=np.int64)
    for place, head in enumerate(heads.tolist()):
        if pool := pools[head // n_heads]:
            drawn[place] = pool.pop()
    # Only now do layers lend heads to others: none that one of their own could have had.
    missing = np.flatnonzero(drawn < 0)
    for place in missing.tolist():
        layer = int(heads[place]) // n_heads
        nearest = min((one for one in range(n_layers) if pools[one]), key=partial(_distance, layer))
        drawn[place] = pools[nearest].pop()
    return drawn, 1.0 - len(missing) / max(len(heads), 1)


def _distance(layer: int, other: int) -> tuple[int, int]:
    """How far another layer is; of two the lower is nearer."""
    return abs(other - layer), other


def overlap(heads: Heads, others: Heads) -> float:
    """Share of `heads` that are among the first as many of `others`; 0 for none."""
    return len(np.intersect1d(heads, others[: len(heads)])) / max(len(heads), 1)


def controls(
    name: str, heads: Heads, others: Mapping[str, Heads], base: Mapping[str, float], seed: int
) -> Sequence[str]:
    """Up to `CONTROLS` other tasks in seeded random order that are as easy and rest on other heads (MAPS, 4.3).

    Args:
        name: the relation.
        heads: those of the relation that are removed.
        others: heads of every task in their order, the relation's own among them.
        base: accuracy of every task with all heads in place.
        seed: of the order.
    """
    names = sorted(set(others) - {name})
    generator = np.random.default_rng([seed, 1, *name.encode()])
    fit = [
        names[place]
        for place in generator.permutation(len(names))
        if overlap(heads, others[names[place]]) < OVERLAP
        and abs(base[names[place]] - base[name]) < DIFFERENCE
    ]
    return fit[:CONTROLS]
