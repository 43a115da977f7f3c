"""Trials: a head's held-out rows among foils, some of them hard, in an order that gives nothing away.

Three kinds of foils, as many together as there are rows. `similar`: rows of the heads whose targets are most
like this head's. `random`: rows of other heads whose source token is about as frequent. `permuted`: the
head's own sources with the targets of other own rows; they are no foils of a claim about targets whatever
the source is, and are left out there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from describe.drafting.rowbook import Key, RowBook, Split
from describe.drafting.rows import Row
from describe.records import DIRECTIONS, Direction, HeadId

FoilKind = Literal["similar", "random", "permuted"]
FOIL_KINDS: tuple[FoilKind, ...] = ("similar", "random", "permuted")
_NEIGHBOURS = 5  # heads that count as similar
_DRAWS = 60  # rows among which the one of the nearest frequency is taken
_SHARED = 0.5  # share of targets in common from which a permuted row is no foil


@dataclass(frozen=True)
class TrialSettings:
    """How trials are made; part of a run's identity."""

    rows: int = 12  # of the head's own, of a direction
    targets: int = 5  # shown of a row
    seed: int = 0


@dataclass(frozen=True)
class Item:
    """A row in a trial: the head's own, or a foil, and which head it is from."""

    row: Row
    kind: Literal["own"] | FoilKind
    head: HeadId


@dataclass(frozen=True)
class Trial:
    """Rows and foils of one head in the order in which they are shown: all of one direction, then the other."""

    head: HeadId
    items: tuple[Item, ...]
    seed: int

    def of(self, kind: str) -> list[int]:
        """Places of the items of a kind."""
        return [place for place, item in enumerate(self.items) if item.kind == kind]

    @property
    def foils(self) -> list[int]:
        """Places of all foils."""
        return [place for place, item in enumerate(self.items) if item.kind != "own"]


@dataclass(frozen=True)
class _Hat:
    """What foils from other heads are drawn by: no source that the head has a row of, and none twice."""

    direction: Direction
    splits: Sequence[Split]
    sources: set[int]
    generator: random.Random
    taken: set[int] = field(default_factory=set)

    def takes(self, row: Row) -> bool:
        """Whether a row may be a foil."""
        return row.source_id not in self.sources and row.source_id not in self.taken


class Trials:
    """Makes trials from the rows of all heads.

    Args:
        book: the rows.
        settings: how many, and the seed.
    """

    def __init__(self, book: RowBook, settings: TrialSettings) -> None:
        self.book = book
        self.settings = settings

    def make(
        self,
        head: HeadId,
        directions: Sequence[Direction],
        splits: Sequence[Split],
        *,
        by_source: bool = True,
        alike: frozenset[HeadId] = frozenset(),
        sources: frozenset[int] | None = None,
    ) -> Trial | None:
        """A trial of a head, or None where it has no rows of the splits, or no foil is to be had.

        Args:
            head: the head.
            directions: of the rows, one or both.
            splits: from which its own rows come.
            by_source: the claim is about what follows from the source: permuted rows are foils.
            alike: heads described in the same words, whose rows are no foils.
            sources: only these source tokens are its own, as those of a cluster.
        """
        generator = random.Random(f"{self.settings.seed}:{head}:{','.join(splits)}")
        items: list[Item] = []
        for direction in [one for one in DIRECTIONS if one in directions]:
            own = self.book.split(head, direction, *splits)
            own = [row for row in own if sources is None or row.source_id in sources]
            own = [own[place] for place in _spread(len(own), self.settings.rows)]
            if not own:
                continue  # the book may not know the head in this direction
            by_own = by_source and sources is None  # the head's other clusters are no foils of one
            foils = self._foils((head, direction), own, splits, by_own, alike, generator)
            items += _in_order([Item(row, "own", head) for row in own], foils, generator)
        kinds = {item.kind for item in items}
        return Trial(head, tuple(items), self.settings.seed) if "own" in kinds and len(kinds) > 1 else None

    def _foils(
        self,
        key: Key,
        own: Sequence[Row],
        splits: Sequence[Split],
        by_source: bool,
        alike: frozenset[HeadId],
        generator: random.Random,
    ) -> list[Item]:
        head, direction = key
        hat = _Hat(direction, splits, {row.source_id for row in self.book.rows[key]}, generator)
        near = [one for one in self._similar(key) if one not in alike][:_NEIGHBOURS]
        others = [one for one, of in self.book.rows if of == direction and one != head and one not in alike]
        share = -(-len(own) // (3 if by_source else 2))
        found = self._rows_of(near, share, hat)
        if by_source:
            left = len(own) - len(found)
            most = left // 2 if others else left  # the last two kinds share what is left
            found += [
                Item(row, "permuted", head) for row in self._permuted(key, own, splits, most, generator)
            ]
        return found + self._as_frequent(own, others, len(own) - len(found), hat)

    def _rows_of(self, heads: Sequence[HeadId], count: int, hat: _Hat) -> list[Item]:
        """Rows of some heads, of the same splits."""
        pool = [(head, row) for head in heads for row in self.book.split(head, hat.direction, *hat.splits)]
        hat.generator.shuffle(pool)
        found: list[Item] = []
        for head, row in pool:
            if len(found) < count and hat.takes(row):
                hat.taken.add(row.source_id)
                found.append(Item(row, "similar", head))
        return found

    def _as_frequent(self, own: Sequence[Row], heads: Sequence[HeadId], count: int, hat: _Hat) -> list[Item]:
        """For some own rows, a row of any other head whose source has about the same id.

        A tokenizer gives its ids in the order in which it merged them, so they stand for frequency.
        """
        found: list[Item] = []
        for row in hat.generator.sample(list(own), min(count, len(own))) if heads else []:
            draws: list[tuple[float, int, HeadId, Row]] = []
            for _ in range(_DRAWS):
                head = heads[hat.generator.randrange(len(heads))]
                rows = self.book.split(head, hat.direction, *hat.splits)
                one = rows[hat.generator.randrange(len(rows))] if rows else None
                if one is not None and hat.takes(one):
                    draws.append(
                        (abs(math.log((one.source_id + 1) / (row.source_id + 1))), len(draws), head, one)
                    )
            if draws:
                _, _, head, one = min(draws)
                hat.taken.add(one.source_id)
                found.append(Item(one, "random", head))
        return found

    def _permuted(
        self, key: Key, own: Sequence[Row], splits: Sequence[Split], count: int, generator: random.Random
    ) -> list[Row]:
        """Own sources with targets of other own rows: of rows that are not shown, where there are enough."""
        shown = {row.place for row in own}
        pool = [row for row in self.book.split(*key, *splits) if row.place not in shown]
        pool = pool if len(pool) >= count else list(own)
        found: list[Row] = []
        for row in generator.sample(pool, len(pool)):
            givers = [
                one
                for one in self.book.split(*key, *splits)
                if one.place != row.place and _shared(one, row, self.settings.targets) < _SHARED
            ]
            if givers and len(found) < count:
                found.append(replace(row, targets=givers[generator.randrange(len(givers))].targets))
        return found

    def _similar(self, key: Key) -> list[HeadId]:
        """Other heads of the same direction, the most similar first: cosine of the counts of their targets."""
        keys, vectors = self._vectors[key[1]]
        cosines = np.asarray((vectors @ vectors[keys.index(key[0])].T).todense()).ravel()
        order = np.argsort(-cosines, kind="stable")
        return [keys[int(place)] for place in order if keys[int(place)] != key[0]]

    @cached_property
    def _vectors(self) -> dict[Direction, tuple[list[HeadId], csr_matrix]]:
        """By direction: the heads, and unit vectors of how often each target stands in their rows."""
        found: dict[Direction, tuple[list[HeadId], csr_matrix]] = {}
        for direction in DIRECTIONS:
            keys = [head for head, of in self.book.rows if of == direction]
            column: dict[str, int] = {}
            places, columns = [], []
            for place, head in enumerate(keys):
                for row in self.book.rows[head, direction]:
                    for target in row.targets:
                        places.append(place)
                        columns.append(column.setdefault(target, len(column)))
            counts = csr_matrix(
                (np.ones(len(places)), (places, columns)), shape=(len(keys), max(len(column), 1))
            )
            norms = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
            found[direction] = keys, csr_matrix(counts.multiply(1 / np.maximum(norms, 1e-9)[:, None]))
        return found


def _spread(n: int, wanted: int) -> list[int]:
    """Places of at most `wanted` of n rows, from the most to the least salient."""
    return list(range(n)) if n <= wanted else [round(place) for place in np.linspace(0, n - 1, wanted)]


def _shared(one: Row, other: Row, n_targets: int) -> float:
    mine = {target.strip().casefold() for target in one.targets[:n_targets]}
    return len(mine & {target.strip().casefold() for target in other.targets[:n_targets]}) / max(len(mine), 1)


def _in_order(own: list[Item], foils: list[Item], generator: random.Random) -> list[Item]:
    """Rows and foils in pairs, each pair in a random order: no place in the list favours either."""
    own, foils = generator.sample(own, len(own)), generator.sample(foils, len(foils))
    pairs = [[*pair] for pair in zip(own, foils, strict=False)]
    for pair in pairs:
        generator.shuffle(pair)
    shorter = len(pairs)
    pairs += [[item] for item in [*own[shorter:], *foils[shorter:]]]
    generator.shuffle(pairs)
    return [item for pair in pairs for item in pair]
