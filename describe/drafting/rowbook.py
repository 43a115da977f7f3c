"""The rows of a model's heads, split three ways: what a drafter sees, what chooses among drafts, what grades.

The split is by the source token alone, so a token that one head's draft was written from grades no other
head's draft either (method, section 6, rule 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from describe.drafting.rows import Row
from describe.records import Direction, HeadId, HeadMappings

Split = Literal["draft", "validation", "test"]
Key = tuple[HeadId, Direction]


def is_validation(token_id: int, seed: int = 0) -> bool:
    """Whether a held-out source token is kept for the choice among drafts: a second bit of its hash."""
    return bool(hashlib.sha256(f"{seed}:{token_id}".encode()).digest()[1] & 1)


@dataclass(frozen=True)
class RowBook:
    """Every row by head and direction, most salient first, and which of them are held out."""

    rows: Mapping[Key, Sequence[Row]]
    heldout: Mapping[Key, Sequence[bool]]
    seed: int

    @classmethod
    def of(cls, mappings: Iterable[HeadMappings], texts: Sequence[str], seed: int) -> RowBook:
        """The rows of mappings, with token texts by id."""
        rows: dict[Key, Sequence[Row]] = {}
        heldout: dict[Key, Sequence[bool]] = {}
        for one in mappings:
            rows[one.head, one.direction] = [
                Row(
                    one.direction,
                    texts[int(source)],
                    tuple(texts[int(i)] for i in targets),
                    place,
                    int(source),
                )
                for place, (source, targets) in enumerate(zip(one.source_ids, one.target_ids, strict=True))
            ]
            heldout[one.head, one.direction] = one.heldout.tolist()
        return cls(rows, heldout, seed)

    def split(self, head: HeadId, direction: Direction, *wanted: Split) -> list[Row]:
        """A head's rows of some splits, most salient first; none for a head that is not in the book."""
        key = (head, direction)
        return [
            row
            for row, own in zip(self.rows.get(key, ()), self._splits.get(key, ()), strict=True)
            if own in wanted
        ]

    @cached_property
    def _splits(self) -> dict[Key, list[Split]]:
        """The split of every row."""
        return {
            key: [self._split(row, held) for row, held in zip(rows, self.heldout[key], strict=True)]
            for key, rows in self.rows.items()
        }

    def _split(self, row: Row, held: bool) -> Split:
        if not held:
            return "draft"
        return "validation" if is_validation(row.source_id, self.seed) else "test"
