"""The descriptions to be judged and the rows to judge them by, as the catalogue holds them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from describe.catalogue import Catalogue, read_only_query
from describe.drafting.rowbook import Key, RowBook, Split
from describe.drafting.rows import Row
from describe.errors import InputError
from describe.records import DIRECTIONS, Direction, HeadId

_PATIENCE = 60.0  # seconds to wait for a writer

_CLAIMS = """
SELECT d.description_id, d.layer, d.head, d.cluster, d.direction, d.claim_text, d.kind, d.evidence, d.drafter,
    EXISTS (
        FROM candidates c
        WHERE c.run_id = d.run_id AND c.layer = d.layer AND c.head = d.head AND c.validation_auc IS NOT NULL
    ) AS chosen,
    (
        SELECT any_value(c.source_ids) FROM clusters c
        WHERE c.run_id = d.run_id AND c.layer = d.layer AND c.head = d.head AND c.cluster = d.cluster
            AND c.direction = d.direction
    ) AS source_ids
FROM descriptions d
WHERE d.run_id = ? AND d.status = 'described' AND (d.cluster IS NULL OR ?)
ORDER BY d.layer, d.head, d.cluster NULLS FIRST, d.direction, d.description_id
"""
_ROWS = """
SELECT layer, head, direction, source_rank, source_id, any_value(source_token), any_value(split),
    list(target_token ORDER BY target_rank)
FROM mappings WHERE run_id = ?
GROUP BY ALL ORDER BY layer, head, direction, source_rank
"""


Executable = tuple[Direction, str, str]
"""An operation that can be run: direction, kind (row or output), name in the library."""


@dataclass(frozen=True)
class Claim:
    """One description as a judge sees it."""

    description_id: str
    head: HeadId
    cluster: int | None
    direction: Direction
    directions: tuple[Direction, ...]  # those that it speaks of
    text: str
    by_source: bool  # False: it is about targets whatever the source is
    drafter: str
    splits: tuple[Split, ...]  # of the rows that had no part in it
    executable: tuple[Executable, ...] = ()  # operations of the library that it claims; none for free text
    sources: frozenset[int] | None = None  # of a cluster: the source tokens that it is about

    def about(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that the claim is about: all of a head's, or those of its cluster."""
        return [row for row in rows if self.sources is None or row.source_id in self.sources]


@dataclass(frozen=True)
class RunToJudge:
    """A describe run with what of it can be judged."""

    run_id: str
    model: str
    claims: tuple[Claim, ...]
    load: Callable[[], RowBook]

    @cached_property
    def book(self) -> RowBook:
        """Every row of its heads, read when it is first asked for."""
        return self.load()


def runs_of(catalogue: Path, model: str | None, drafter: str | None = None) -> list[tuple[str, str]]:
    """(run, model) of the newest complete describe run of each model, drafter and settings.

    Args:
        catalogue: the file.
        model: only this one, as the catalogue names it.
        drafter: only this one.

    Raises:
        InputError: there is none.
    """
    with Catalogue.open(
        catalogue, wait=_PATIENCE
    ) as opened:  # for writing, so that an earlier schema is migrated
        found = opened.query(
            "SELECT run_id, model FROM runs WHERE kind = 'describe' AND status = 'complete' AND coalesce(model = ?, true)"
            " AND coalesce(drafter = ?, true) QUALIFY row_number() OVER (PARTITION BY model, drafter, settings_digest"
            " ORDER BY (selection IS NULL) DESC, started_at DESC, run_id DESC) = 1 ORDER BY model, drafter, started_at",
            [model, drafter],
        )
    if not found.rows:
        whose = "no model" if model is None else f"'{model}'"
        raise InputError(
            f"The catalogue {catalogue} has descriptions of {whose}: make them with `describe run MODEL`."
        )
    return [(str(run), str(name)) for run, name in found.rows]


def read_run(catalogue: Path, run_id: str, model: str, *, clusters: bool = False) -> RunToJudge:
    """The claims of a run, and every row of its heads.

    Args:
        catalogue: the file.
        run_id: a describe run.
        model: its model, as the catalogue names it.
        clusters: take the descriptions of clusters too.
    """

    def load() -> RowBook:
        seed = read_only_query(catalogue, "SELECT seed FROM runs WHERE run_id = ?", [run_id], wait=_PATIENCE)
        rows = read_only_query(catalogue, _ROWS, [run_id], wait=_PATIENCE).rows
        return _book(rows, int(str(seed.rows[0][0] or 0)))

    claims = [
        _claim(row) for row in read_only_query(catalogue, _CLAIMS, [run_id, clusters], wait=_PATIENCE).rows
    ]
    return RunToJudge(run_id, model, tuple(claims), load)


def _claim(row: tuple[object, ...]) -> Claim:
    description_id, layer, head, cluster, direction, text, kind, evidence, drafter, chosen, source_ids = row
    entries = json.loads(str(evidence or "[]"))
    named = {entry["direction"] for entry in entries} | {direction}
    kinds = {entry.get("kind") for entry in entries} or {kind}
    return Claim(
        description_id=str(description_id),
        head=HeadId(int(str(layer)), int(str(head))),
        cluster=None if cluster is None else int(str(cluster)),
        direction=_direction(direction),
        directions=tuple(one for one in DIRECTIONS if one in named),
        text=str(text),
        by_source="row" in kinds,
        drafter=str(drafter),
        splits=("test",) if chosen else ("validation", "test"),
        sources=frozenset(source_ids) if isinstance(source_ids, list) else None,
        executable=tuple(
            (_direction(entry["direction"]), entry["kind"], entry["operation"])
            for entry in entries
            if entry.get("operation") and entry.get("kind") in ("row", "output")
        ),
    )


def _book(rows: Sequence[tuple[object, ...]], seed: int) -> RowBook:
    found: dict[Key, list[Row]] = defaultdict(list)
    heldout: dict[Key, list[bool]] = defaultdict(list)
    for layer, head, direction, rank, source_id, source, split, targets in rows:
        key = HeadId(int(str(layer)), int(str(head))), _direction(direction)
        names = tuple(str(target) for target in targets) if isinstance(targets, list) else ()
        found[key].append(Row(key[1], str(source), names, int(str(rank)), int(str(source_id))))
        heldout[key].append(split == "heldout")
    return RowBook(found, heldout, seed)


def _direction(value: object) -> Direction:
    return "suppress" if value == "suppress" else "promote"
