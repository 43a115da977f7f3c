"""A digest of what a catalogue holds, so that runs and files can be compared whatever the clock said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import duckdb

from describe.catalogue.connect import quoted
from describe.catalogue.schema import INTERNAL_TABLES, table_columns

_BATCH = 10_000
# How long and with how much memory a run worked is no part of what it found; nor are identities drawn at
# random.
_LEFT_OUT = {"run_id", "call_id", "rating_id", "seconds", "stage_seconds", "peak_memory_bytes"}
# About the file and the program, not about heads.
_NO_FACTS = INTERNAL_TABLES | {"catalogue_meta"}


@dataclass(frozen=True)
class ContentDigest:
    """sha256 (hex) of the rows of each table, and of them all."""

    whole: str
    tables: dict[str, str]


def digest(con: duckdb.DuckDBPyConnection, run_id: str | None = None) -> ContentDigest:
    """The digest of every table's rows, in whatever order they were stored.

    Times, durations, memory and the identities of runs, calls and ratings are left out, so that two runs
    which found the same have the same digest. Floating point numbers count to the last bit.

    Args:
        con: a connection to a catalogue.
        run_id: count this run's rows alone.
    """
    tables: dict[str, str] = {}
    for table, columns in sorted(table_columns(con).items()):
        of_runs = any(column.name == "run_id" for column in columns)
        if table in _NO_FACTS or (run_id is not None and not of_runs):
            continue
        kept = [c.name for c in columns if c.name not in _LEFT_OUT and not c.kind.startswith("TIMESTAMP")]
        where = "WHERE run_id = ?" if run_id is not None else ""
        cursor = con.execute(
            # JSON keeps NULL apart from every text, and no value can run into its neighbour.
            "SELECT sha256(CAST(to_json(fact) AS VARCHAR)) AS row_digest FROM "
            f"(SELECT {', '.join(map(quoted, kept))} FROM {quoted(table)} {where}) AS fact ORDER BY 1",
            [run_id] if run_id is not None else [],
        )
        content = hashlib.sha256("\n".join(kept).encode())
        while rows := cursor.fetchmany(_BATCH):
            content.update("".join(found for (found,) in rows).encode())
        tables[table] = content.hexdigest()
    whole = hashlib.sha256("\n".join(f"{table} {found}" for table, found in tables.items()).encode())
    return ContentDigest(whole.hexdigest(), tables)
