"""Synthetic heads with a known grouping: rows of one to three relations, shuffled together with noise rows.

A row has a source, the relation's target (most of the time) and distractors of the kinds that real heads show:
words near the target, other targets of the relation, other spellings of source or target, and plain accidents. How
much of each is drawn once per operation, because a head is consistent in how it errs. Since the truth is known,
what a clustering makes of such heads is scored here too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from describe.clusters.features import Vectors
from describe.errors import InputError
from describe.relations import Relation

Labels = NDArray[np.int64]

N_TARGETS = 5
_RIGHT_SHARE = 0.85  # rows that hold the relation's own target
_ACCIDENT_SHARE = 0.1  # distractors that are random words
_NEIGHBOURS = 8  # a word's neighbours that can stand in for it
_SMALLEST_OPERATION = 7  # rows
NOISE_SHARES = (0.0, 0.25, 0.5)
ROWS = (30, 60)


@dataclass(frozen=True)
class SyntheticHead:
    """K rows with the operation that made each, −1 for noise."""

    source_texts: tuple[str, ...]
    target_texts: tuple[tuple[str, ...], ...]
    operations: NDArray[np.int64]  # [K]
    relations: tuple[str, ...]  # by operation number
    shared_sources: bool  # the operations read the same kind of token
    noise_share: float

    @property
    def n_operations(self) -> int:
        """How many clusters there are to find."""
        return len(self.relations)


@dataclass(frozen=True)
class Scores:
    """How well labels recover the truth, averaged over heads."""

    ari: float  # adjusted Rand index (see `anchored_ari`), heads with 0, 1, 2 and 3 operations weighing the same
    one_operation: float  # the same, over heads with one operation
    two_operations: float
    three_operations: float
    shared_sources: float  # over heads whose operations read the same kind of token
    clusters_found: tuple[float, float, float, float]  # mean number, for 0, 1, 2 and 3 operations
    stays_one: float  # share of heads with one operation that have exactly one cluster
    noise_recognised: float  # share of the noise rows that are labelled noise
    rows_lost: float  # share of the other rows that are labelled noise


def halves(relations: Sequence[Relation], seed: int) -> tuple[list[Relation], list[Relation]]:
    """Split relations in two by a seeded hash of their names: one half to choose on, one to report on."""

    def draw(relation: Relation) -> str:
        return hashlib.sha256(f"{seed}:{relation.name}".encode()).hexdigest()

    ordered = sorted(relations, key=draw)
    return ordered[::2], ordered[1::2]


class HeadMaker:
    """Draws synthetic heads from relations; everything follows from the seed."""

    def __init__(self, relations: Sequence[Relation], vectors: Vectors, seed: int) -> None:
        """Take relations and word vectors that say which words are near each other.

        Raises:
            InputError: fewer than three relations have 15 pairs.
        """
        self._relations = [relation for relation in relations if len(relation.pairs) >= 15]
        if len(self._relations) < 3:
            raise InputError("The clustering study needs three relations of 15 pairs or more: give it more.")
        self._pairs = {relation.name: dict(relation.pairs) for relation in self._relations}
        self._pool = sorted(
            {word for relation in self._relations for pair in relation.pairs for word in pair}
        )
        self._place = {word: index for index, word in enumerate(self._pool)}
        self._vectors = np.asarray(vectors(self._pool))
        self._groups: dict[int, list[tuple[tuple[str, ...], int]]] = {}
        self._rng = np.random.default_rng(seed)

    def study(self, repeats: int) -> list[SyntheticHead]:
        """`repeats` heads of each kind: 1 to 3 operations, shared sources or not, noise shares, sizes.

        To these come heads of noise alone, a twelfth of the whole.
        """
        heads = []
        for _ in range(repeats):
            for n_operations, shared in ((1, False), (2, False), (2, True), (3, False), (3, True)):
                for share in NOISE_SHARES:
                    for n_rows in ROWS:
                        heads.append(self.head(n_operations, shared, share, n_rows))
        noise = [self.head(0, False, 1.0, ROWS[i % len(ROWS)]) for i in range(len(heads) // 11)]
        return heads + noise

    def head(self, n_operations: int, shared: bool, noise_share: float, n_rows: int) -> SyntheticHead:
        """One head of `n_rows` rows; fewer where the relations have too few pairs."""
        wanted = round(n_rows * (1 - noise_share)) if n_operations else 0
        names = self._choose(n_operations, shared, wanted)
        sizes = self._sizes(n_operations, wanted)
        rows: list[tuple[str, tuple[str, ...], int]] = []
        used: set[str] = set()
        for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
            sources = [
                word for word in self._common_sources(names if shared else (name,)) if word not in used
            ]
            drawn = [sources[i] for i in self._rng.permutation(len(sources))[:size]]
            used.update(drawn)
            style = self._rng.dirichlet(np.ones(4))
            rows += [(_token(source), self._targets(name, source, style), number) for source in drawn]
        for _ in range(n_rows - wanted):
            rows.append((_token(self._word()), self._accidents(), -1))
        order = self._rng.permutation(len(rows))
        return SyntheticHead(
            tuple(rows[i][0] for i in order),
            tuple(rows[i][1] for i in order),
            np.array([rows[i][2] for i in order], dtype=np.int64),
            names,
            shared,
            noise_share,
        )

    def _choose(self, n_operations: int, shared: bool, wanted: int) -> tuple[str, ...]:
        names = [relation.name for relation in self._relations]
        if not shared:
            fit = [name for name in names if len(self._pairs[name]) >= wanted / max(n_operations, 1)]
            drawn = self._rng.permutation(len(fit))[:n_operations]
            return tuple(fit[i] for i in drawn)
        groups = [group for group, n_sources in self._sharing(n_operations) if n_sources >= wanted]
        if not groups:
            raise InputError(
                f"No {n_operations} relations share {wanted} sources: give the study more relations."
            )
        return groups[int(self._rng.integers(len(groups)))]

    def _sharing(self, n_operations: int) -> list[tuple[tuple[str, ...], int]]:
        """Every group of so many relations that read a common word, with the number of such words."""
        if n_operations not in self._groups:
            sources = {name: set(pairs) for name, pairs in self._pairs.items()}
            groups = combinations([relation.name for relation in self._relations], n_operations)
            counted = ((group, len(set.intersection(*(sources[name] for name in group)))) for group in groups)
            self._groups[n_operations] = [(group, count) for group, count in counted if count]
        return self._groups[n_operations]

    def _common_sources(self, names: Sequence[str]) -> list[str]:
        first, *others = (self._pairs[name] for name in names)
        return [word for word in first if all(word in other for other in others)]

    def _sizes(self, n_operations: int, wanted: int) -> list[int]:
        """Uneven shares of the rows, none under the smallest (or an even share, if that is smaller)."""
        if not n_operations:
            return []
        least = min(_SMALLEST_OPERATION, wanted // n_operations)
        spare = self._rng.multinomial(
            wanted - least * n_operations, self._rng.dirichlet(np.full(n_operations, 3.0))
        )
        return [least + int(extra) for extra in spare]

    def _targets(self, name: str, source: str, style: NDArray[np.float64]) -> tuple[str, ...]:
        right = self._pairs[name][source]
        texts: list[str] = [_token(right)] if self._rng.random() < _RIGHT_SHARE else []
        while len(texts) < N_TARGETS:
            text = self._distractor(name, source, right, style)
            # a small relation runs out of siblings: then accidents fill the row
            texts.append(text if text not in texts else _token(self._word()))
        if self._rng.random() < 0.3:  # the right target is not always the first
            texts = [texts[i] for i in self._rng.permutation(N_TARGETS)]
        return tuple(texts)

    def _distractor(self, name: str, source: str, right: str, style: NDArray[np.float64]) -> str:
        if self._rng.random() < _ACCIDENT_SHARE:
            return _token(self._word())
        kind = self._rng.choice(4, p=style)
        if kind == 0:
            return _token(self._near(right))
        if kind == 1:
            targets = list(self._pairs[name].values())
            return _token(targets[int(self._rng.integers(len(targets)))])
        return self._spelling(source if kind == 2 else right)

    def _near(self, word: str) -> str:
        similarity = self._vectors @ self._vectors[self._place[word]]
        nearest = np.argsort(-similarity, kind="stable")[1 : _NEIGHBOURS + 1]
        return self._pool[int(self._rng.choice(nearest))]

    def _spelling(self, word: str) -> str:
        forms = (
            word,
            f" {word.capitalize()}",
            word.capitalize(),
            f" {word.upper()}",
            f" {word.lower()}",
            f" {word}s",
        )
        return forms[int(self._rng.integers(len(forms)))]

    def _accidents(self) -> tuple[str, ...]:
        """Targets of a noise row: a few words that have nothing to do with each other."""
        drawn = self._rng.permutation(len(self._pool))[:N_TARGETS]
        return tuple(_token(self._pool[i]) for i in drawn)

    def _word(self) -> str:
        return self._pool[int(self._rng.integers(len(self._pool)))]


def anchored_ari(truth: Labels, found: Labels) -> float:
    """Adjusted Rand index, with noise as a class that is tied to noise.

    The plain index cannot tell a head that is all one cluster from one that is all noise, so a sixth of the
    head's rows (five at least) are added that are noise both in truth and in what was found.
    """
    from sklearn.metrics import adjusted_rand_score

    anchor = np.full(max(5, len(truth) // 6), -1)
    return float(adjusted_rand_score(np.r_[truth, anchor], np.r_[found, anchor]))


def score(heads: Sequence[SyntheticHead], labels: Sequence[Labels]) -> Scores:
    """Compare labels with the truth of the heads they belong to."""
    ari = np.array([anchored_ari(h.operations, found) for h, found in zip(heads, labels, strict=True)])
    truth_count = np.array([head.n_operations for head in heads])
    shared = np.array([head.shared_sources for head in heads])
    found_count = np.array([len(np.unique(found[found >= 0])) for found in labels])
    truth, found = np.concatenate([head.operations for head in heads]), np.concatenate(labels)

    def mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
        return float(values[where].mean()) if where.any() else float("nan")

    counts = [mean(found_count.astype(float), truth_count == n) for n in range(4)]
    return Scores(
        ari=float(np.mean([ari[truth_count == n].mean() for n in np.unique(truth_count)])),
        one_operation=mean(ari, truth_count == 1),
        two_operations=mean(ari, truth_count == 2),
        three_operations=mean(ari, truth_count == 3),
        shared_sources=mean(ari, shared),
        clusters_found=(counts[0], counts[1], counts[2], counts[3]),
        stays_one=mean((found_count == 1).astype(float), truth_count == 1),
        noise_recognised=mean((found < 0).astype(float), truth < 0),
        rows_lost=mean((found < 0).astype(float), truth >= 0),
    )


def _token(word: str) -> str:
    return f" {word}"
