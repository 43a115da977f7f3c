"""Rows of a head as a chat model sees them: numbered, token text as data that cannot leave its quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from describe.core.tokens import escape
from describe.records import Direction

VERB: dict[Direction, str] = {"promote": "promotes", "suppress": "suppresses"}
"""A direction as a prompt words it."""

# Markers of chat templates are single tokens to many servers, also inside a message: none is sent as itself.
_MARKER = re.compile(r"\[(?=/?[A-Z_]{3,}\])|[<>]")


@dataclass(frozen=True)
class Row:
    """One mapping of a head: a source token and its strongest targets, best first."""

    direction: Direction
    source: str
    targets: tuple[str, ...]
    place: int = 0  # of the row in the head's mappings of this direction
    source_id: int = -1


def quoted(text: str) -> str:
    """Text as a JSON string that holds no control character, no angle bracket and no marker of a chat template."""
    return _MARKER.sub(lambda found: f"\\u{ord(found[0]):04x}", escape(text))


def row_text(number: int | None, row: Row, n_targets: int) -> str:
    """`[7, " France", [" Paris", " Lyon"]]`; without the number where it is None."""
    targets = ", ".join(quoted(target) for target in row.targets[:n_targets])
    start = "" if number is None else f"{number}, "
    return f"[{start}{quoted(row.source)}, [{targets}]]"


def rows_text(groups: Iterable[tuple[str, Direction, Sequence[tuple[int, Row]]]], n_targets: int) -> str:
    """Rows under the headings of their groups, one a line.

    Args:
        groups: (name, direction, numbered rows); a group without a name has no heading of its own, only the
            direction.
        n_targets: how many targets of a row to show.
    """
    lines: list[str] = []
    for name, direction, rows in groups:
        heading = f"Group {name}: " if name else ""
        lines.append(f"{heading}the head {VERB[direction]}")
        lines += [row_text(number, row, n_targets) for number, row in rows]
    return "\n".join(lines)
