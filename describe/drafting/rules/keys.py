"""Operations over a whole vocabulary: their keys as integers, so that hits and nulls are array work.

Everything here is exact and equal to `Operation.holds`, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from describe.drafting.rules.forms import Keys, Operation, TokenClass, word
from describe.drafting.rules.key_rows import KeyRows, joined, pairs_that_meet
from describe.drafting.rules.operations import operations as library
from describe.drafting.rules.operations import token_classes as library_classes
from describe.errors import InputError


class OperationTable:
    """The library evaluated on a vocabulary.

    Args:
        texts: the text of every token id, with its real leading space.
        ids: the ids that take part (sources, targets and the null are of these); None for all.
        operations: what to evaluate; None for the whole library.
        classes: the same for token classes.

    Raises:
        InputError: `ids` is empty, names an id twice, or one that the vocabulary does not have.
    """

    def __init__(
        self,
        texts: Sequence[str],
        ids: ArrayLike | None = None,
        *,
        operations: Sequence[Operation] | None = None,
        classes: Sequence[TokenClass] | None = None,
    ) -> None:
        self.operations = tuple(library() if operations is None else operations)
        self.classes = tuple(library_classes() if classes is None else classes)
        self.ids = np.arange(len(texts)) if ids is None else np.asarray(ids, dtype=np.intp)
        if not len(self.ids) or len(np.unique(self.ids)) != len(self.ids):
            raise InputError(
                "The rules need at least one token id, and each only once: pass the eligible ids."
            )
        if self.ids.min() < 0 or self.ids.max() >= len(texts):
            raise InputError(
                f"The rules were given a token id outside the vocabulary of {len(texts)} tokens."
            )
        self._texts = [texts[token] for token in self.ids]
        self._row_of = np.full(len(texts), -1, dtype=np.intp)
        self._row_of[self.ids] = np.arange(len(self.ids))
        self._words = [word(text) for text in self._texts]
        self._rows_of_word: dict[str, list[int]] = {}
        for row, spelt in enumerate(self._words):
            self._rows_of_word.setdefault(spelt, []).append(row)
        self._word_codes = _coded(self._words)
        self._text_codes = _coded(self._texts)
        self._keys: list[tuple[KeyRows, KeyRows] | None] = [None] * len(self.operations)
        self._members: list[NDArray[np.bool_] | None] = [None] * len(self.classes)

    def hits(self, operation_index: int, source_ids: ArrayLike, target_ids: ArrayLike) -> NDArray[np.bool_]:
        """Whether the operation holds for every source (rows) and target (columns): bool [n, m].

        Raises:
            InputError: an id is not one of the table's.
        """
        sources, targets = self._rows(source_ids), self._rows(target_ids)
        source_keys, target_keys = self._keys_of(operation_index)
        if source_keys.single is not None and target_keys.single is not None:
            source_codes, target_codes = source_keys.single[sources], target_keys.single[targets]
            if source_codes.max(initial=-1) < 0 or target_codes.max(initial=-1) < 0:
                return np.zeros((len(sources), len(targets)), dtype=np.bool_)
            hit: NDArray[np.bool_] = source_codes[:, None] == np.where(target_codes < 0, -2, target_codes)
        else:
            hit = np.zeros((len(sources), len(targets)), dtype=np.bool_)
            at_source, source_codes = source_keys.of(sources)
            at_target, target_codes = target_keys.of(targets)
            left, right = joined(source_codes, target_codes)
            hit[at_source[left], at_target[right]] = True
        excluded = self._excluded_codes(operation_index)
        if excluded is not None and hit.any():
            hit &= excluded[sources][:, None] != excluded[targets]
        return hit

    def pair_hits(
        self, operation_index: int, source_ids: ArrayLike, target_ids: ArrayLike
    ) -> NDArray[np.bool_]:
        """Whether the operation holds for each pair (source_ids[i], target_ids[i]): bool, one for each pair.

        Raises:
            InputError: an id is not one of the table's.
        """
        sources, targets = self._rows(source_ids), self._rows(target_ids)
        source_keys, target_keys = self._keys_of(operation_index)
        hit: NDArray[np.bool_]
        if source_keys.single is not None and target_keys.single is not None:
            source_codes = source_keys.single[sources]
            hit = (source_codes >= 0) & (source_codes == target_keys.single[targets])
        else:
            at_source, source_codes = source_keys.of(sources)
            at_target, target_codes = target_keys.of(targets)
            width = int(max(source_codes.max(initial=0), target_codes.max(initial=0))) + 1
            met = np.intersect1d(at_source * width + source_codes, at_target * width + target_codes)
            hit = np.zeros(len(sources), dtype=np.bool_)
            hit[met // width] = True
        excluded = self._excluded_codes(operation_index)
        return hit if excluded is None else hit & (excluded[sources] != excluded[targets])

    def null_probability(
        self,
        operation_index: int,
        source_ids: ArrayLike | None = None,
        target_ids: ArrayLike | None = None,
    ) -> float:
        """P(the operation holds) for a source and a target drawn independently and uniformly, exactly.

        Args:
            operation_index: place in `operations`.
            source_ids: what to draw sources from; None for every id of the table.
            target_ids: the same for targets.

        Raises:
            InputError: an id is not one of the table's, or there is nothing to draw from.
        """
        sources = np.arange(len(self.ids)) if source_ids is None else self._rows(source_ids)
        targets = np.arange(len(self.ids)) if target_ids is None else self._rows(target_ids)
        if not len(sources) or not len(targets):
            raise InputError("A null probability needs at least one source and one target to draw from.")
        source_keys, target_keys = self._keys_of(operation_index)
        at_source, source_codes = source_keys.of(sources)
        at_target, target_codes = target_keys.of(targets)
        count = pairs_that_meet(at_source, source_codes, at_target, target_codes)
        excluded = self._excluded_codes(operation_index)
        if excluded is not None:  # take away the pairs that share a key and are the same word
            own_source = source_codes.astype(np.int64) * len(self.ids) + excluded[sources[at_source]]
            own_target = target_codes.astype(np.int64) * len(self.ids) + excluded[targets[at_target]]
            count -= pairs_that_meet(at_source, own_source, at_target, own_target)
        return count / (len(sources) * len(targets))

    def class_members(self, class_index: int, ids: ArrayLike) -> NDArray[np.bool_]:
        """Whether each token is of the class: bool, of the shape of `ids`.

        Raises:
            InputError: an id is not one of the table's.
        """
        members = self._members[class_index]
        if members is None:
            token_class = self.classes[class_index]
            members = np.zeros(len(self.ids), dtype=np.bool_)
            for row in self._candidates(token_class.words):
                members[row] = token_class.contains(self._texts[row])
            self._members[class_index] = members
        return members[self._rows(ids)]

    @cached_property
    def memberships(self) -> NDArray[np.bool_]:
        """Whether each token of the table is of each class: bool [classes, ids]; see `columns_of`."""
        return np.stack([self.class_members(index, self.ids) for index in range(len(self.classes))])

    def columns_of(self, ids: ArrayLike) -> NDArray[np.intp]:
        """The columns of `memberships` for token ids, of the shape of `ids`.

        Raises:
            InputError: an id is not one of the table's.
        """
        return self._rows(ids)

    def class_share(self, class_index: int) -> float:
        """The share of the table's tokens that are of the class: the null probability of a member."""
        return float(self.class_members(class_index, self.ids).mean())

    def _rows(self, ids: ArrayLike) -> NDArray[np.intp]:
        wanted = np.asarray(ids, dtype=np.intp)
        known = (wanted >= 0) & (wanted < len(self._row_of))
        rows = np.where(known, self._row_of[np.where(known, wanted, 0)], -1)
        if wanted.size and rows.min() < 0:
            raise InputError(f"Token id {wanted[rows < 0][0]} is not one that the rules were built for.")
        return rows

    def _candidates(self, words: frozenset[str] | None) -> Sequence[int]:
        """The rows that a rule about listed words has to look at; every row for other rules."""
        if words is None:
            return range(len(self.ids))
        return sorted(row for spelt in words for row in self._rows_of_word.get(spelt, ()))

    def _excluded_codes(self, operation_index: int) -> NDArray[np.int32] | None:
        excludes = self.operations[operation_index].excludes
        return {"nothing": None, "same token": self._text_codes, "same word": self._word_codes}[excludes]

    def _keys_of(self, operation_index: int) -> tuple[KeyRows, KeyRows]:
        kept = self._keys[operation_index]
        if kept is None:
            operation = self.operations[operation_index]
            sources = self._evaluated(operation.source_keys, operation.source_words)
            # Half of the library asks the same of both sides.
            same = operation.target_keys is operation.source_keys
            targets = sources if same else self._evaluated(operation.target_keys, operation.target_words)
            # Keys that only one side has can never meet.
            met: set[Hashable] = set(chain.from_iterable(sources.values()))
            met &= set(chain.from_iterable(targets.values()))
            codes = {key: code for code, key in enumerate(met)}
            source_rows = self._coded_rows(sources, codes)
            kept = source_rows, source_rows if same else self._coded_rows(targets, codes)
            self._keys[operation_index] = kept
        return kept

    def _evaluated(
        self, keys: Callable[[str], Keys], words: frozenset[str] | None
    ) -> dict[int, Collection[Hashable]]:
        """The keys of every row that has any, by rising row, no key twice."""
        found: dict[int, Collection[Hashable]] = {}
        for row in self._candidates(words):
            own = keys(self._texts[row])
            if own:
                found[row] = own if len(own) == 1 else set(own)
        return found

    def _coded_rows(self, keys: dict[int, Collection[Hashable]], codes: dict[Hashable, int]) -> KeyRows:
        counts = np.zeros(len(self.ids), dtype=np.int32)
        flat: list[int] = []
        for row, own in keys.items():
            before = len(flat)
            flat.extend(codes[key] for key in own if key in codes)
            counts[row] = len(flat) - before
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        return KeyRows(starts, np.array(flat, dtype=np.int32))


def _coded(texts: Sequence[str]) -> NDArray[np.int32]:
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(text, len(codes)) for text in texts], dtype=np.int32)
