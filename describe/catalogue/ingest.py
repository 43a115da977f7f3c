"""One run into the catalogue: checked Parquet shards, one transaction, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from describe.catalogue.connect import exact_path, first_line, is_disk_full, quoted, transaction
from describe.catalogue.relations import RelationRecord, insert_relations
from describe.catalogue.schema import Column, run_tables, table_columns
from describe.errors import CatalogueError

# Facts of these tables belong to a head of the run, so a row about any other head is a mistake of the writer.
_OF_HEADS = ("mappings", "clusters", "descriptions", "candidates")
# What identifies a row within a run; a repeated row would be counted twice by every query.
_KEYS = {
    "heads": ("layer", "head"),
    "clusters": ("layer", "head", "preset", "direction", "cluster"),
    "mappings": ("layer", "head", "preset", "direction", "source_rank", "target_rank"),
    "descriptions": ("description_id",),
    "excluded_tokens": ("token_id",),
    "relation_scores": ("layer", "head", "relation", "preset", "direction", "k"),
    "dynamic_scores": (
        "layer",
        "head",
        "relation",
        "template",
        "context",
        "direction",
        "k",
        "readout",
        "sources",
    ),
    "correlations": ("relation", "preset", "context", "direction", "sources"),
    "ablations": ("relation", "preset", "method", "heads", "task", "draw", "n_ablated"),
    "ablation_areas": ("relation", "preset", "method"),
    "head_classes": ("layer", "head", "class"),
    "class_definitions": ("class",),
    "head_attention": ("layer", "head"),
    "ratings": ("rating_id",),
    "candidates": ("layer", "head", "candidate"),
    "llm_calls": ("call_id",),
    "detections": ("description_id", "grader", "method"),
    "anchor_ratings": ("judge", "anchor", "kind"),
}
_INTEGERS = {f"{sign}{kind}INT" for sign in ("", "U") for kind in ("TINY", "SMALL", "BIG")} | {
    "INTEGER",
    "UINTEGER",
}
_ACCEPTED = {
    "INTEGER": _INTEGERS,
    "BIGINT": _INTEGERS,
    "DOUBLE": _INTEGERS | {"FLOAT", "DOUBLE"},
    "VARCHAR": {"VARCHAR"},
    "JSON": {"JSON", "VARCHAR"},
    "BOOLEAN": {"BOOLEAN"},
    "TIMESTAMP": {"TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"},
}
# A run says these once; a shard may leave them out, so that its content does not depend on the run.
_OF_RUN = ("run_id", "model")


def ingest(
    con: duckdb.DuckDBPyConnection,
    run: Mapping[str, object],
    shards: Mapping[str, Sequence[Path]],
    relations: Sequence[RelationRecord] = (),
    *,
    replace: bool = False,
) -> bool:
    """Store a run and its rows in one transaction.

    Args:
        con: a connection to an open catalogue, for writing.
        run: values by column of `runs`; `run_id`, `model`, `status` and `started_at` are needed. Times with a
            zone are turned into UTC, mappings and lists into JSON. Counts of heads that are left out are
            counted here.
        shards: Parquet files by table. A file holds every column that has no default; `run_id` and `model`
            may be left out, and must be the run's where they are given.
        relations: predefined operations that the rows speak of.
        replace: put it in the place of the same run also where that is complete: what has since been
            answered for heads that had failed.

    Returns:
        False if the run is already complete and nothing was done; True otherwise. A run of any other status
        is replaced.

    Raises:
        CatalogueError: a value, file, column or row is not as it must be, or the disk is full; nothing is
            stored.
        InputError: a relation's name is taken by other pairs; nothing is stored.
    """
    try:
        with transaction(con):
            insert_relations(con, str(run.get("model")), relations)
            return _ingest(con, run, shards, replace)
    except duckdb.Error as error:
        why = (
            "the disk is full, so free some space and run it again"
            if is_disk_full(error)
            else first_line(error)
        )
        raise CatalogueError(f"Nothing of run {run.get('run_id')} was stored: {why.rstrip('.')}.") from error


def _ingest(
    con: duckdb.DuckDBPyConnection,
    run: Mapping[str, object],
    shards: Mapping[str, Sequence[Path]],
    replace: bool,
) -> bool:
    tables = table_columns(con)
    known = run_tables(con)
    for table in shards:
        if table not in known:
            raise CatalogueError(
                f"There is no table '{table}' that takes rows of a run: use one of {', '.join(known)}."
            )
    values = _run_values(run, tables["runs"])
    run_id, model = str(values["run_id"]), str(values["model"])
    stored = con.execute("SELECT status FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if stored is not None:
        if stored[0] == "complete" and not (replace and values["status"] == "complete"):
            return False  # what is whole is never replaced by a part
        for table in ("runs", *known):
            con.execute(f"DELETE FROM {quoted(table)} WHERE run_id = ?", [run_id])
    names = ", ".join(quoted(name) for name in values)
    con.execute(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))
    for table, paths in shards.items():
        expected = sum(_insert_file(con, table, tables[table], path, run_id, model) for path in paths)
        _check_rows(con, table, run_id, expected)
    _check_heads(con, run_id, [table for table in _OF_HEADS if table in shards])
    if "heads" in shards:
        _settle_counts(con, run_id)
    return True


def _run_values(run: Mapping[str, object], columns: Sequence[Column]) -> dict[str, object]:
    """The values of the `runs` row, fit for DuckDB."""
    names = [column.name for column in columns]
    if unknown := sorted(set(run) - set(names)):
        raise CatalogueError(f"A run has no column '{unknown[0]}': use {', '.join(names)}.")
    for column in columns:
        if not column.nullable and not column.has_default and run.get(column.name) is None:
            raise CatalogueError(f"The run record lacks '{column.name}', without which it cannot be stored.")
    return {name: _plain(value) for name, value in run.items()}


def _plain(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True)
    return value


def _insert_file(
    con: duckdb.DuckDBPyConnection, table: str, columns: Sequence[Column], path: Path, run_id: str, model: str
) -> int:
    """Insert one Parquet file and return how many rows it says it holds."""
    source = "read_parquet(?, hive_partitioning = false)"
    try:
        counts = con.execute("SELECT num_rows FROM parquet_file_metadata(?)", [exact_path(path)]).fetchall()
        found = con.execute(f"DESCRIBE SELECT * FROM {source}", [exact_path(path)]).fetchall()
    except duckdb.Error as error:
        raise CatalogueError(f"The file {path} is missing or no Parquet file: run the job again.") from error
    held = {str(row[0]): str(row[1]) for row in found}
    _check_columns(path, table, columns, held)
    for name, value in zip(_OF_RUN, (run_id, model), strict=True):
        if name in held:
            odd = con.execute(
                f"SELECT count(*) FROM {source} WHERE {name} IS DISTINCT FROM ?", [exact_path(path), value]
            ).fetchone()
            if odd is None or odd[0]:
                raise CatalogueError(
                    f"The file {path} holds rows whose {name} is not '{value}', as the run's is."
                )
    taken = [column.name for column in columns if column.name in held and column.name not in _OF_RUN]
    own = [name for name in _OF_RUN if any(column.name == name for column in columns)]
    select = ", ".join([f"? AS {name}" for name in own] + [quoted(name) for name in taken])
    given = [{"run_id": run_id, "model": model}[name] for name in own]
    try:
        con.execute(
            f"INSERT INTO {quoted(table)} BY NAME SELECT {select} FROM {source}", [*given, exact_path(path)]
        )
    except duckdb.Error as error:
        if is_disk_full(error):
            raise
        raise CatalogueError(
            f"The file {path} holds a value that does not fit table '{table}': {first_line(error)}"
        ) from error
    return int(counts[0][0])


def _check_columns(path: Path, table: str, columns: Sequence[Column], held: Mapping[str, str]) -> None:
    """Raise CatalogueError unless the file's columns are the table's, in name and type."""
    for column in columns:
        if column.name not in held:
            if column.name in _OF_RUN or column.has_default:
                continue
            raise CatalogueError(f"The file {path} lacks column '{column.name}' of table '{table}'.")
        if not _fits(held[column.name], column.kind):
            raise CatalogueError(
                f"The file {path} has {held[column.name].lower()} in column '{column.name}', "
                f"where table '{table}' wants {column.kind.lower()}."
            )
    if unknown := sorted(set(held) - {column.name for column in columns}):
        raise CatalogueError(
            f"The file {path} has a column '{unknown[0]}' that table '{table}' does not have."
        )


def _fits(held: str, wanted: str) -> bool:
    """Whether values of a file's type go into a column without losing anything."""
    if held.strip('"') == "NULL":  # a column of nothing but NULL
        return True
    if wanted.endswith("[]"):
        return held.endswith("[]") and _fits(held[:-2], wanted[:-2])
    return held in _ACCEPTED.get(wanted, {wanted})


def _check_rows(con: duckdb.DuckDBPyConnection, table: str, run_id: str, expected: int) -> None:
    """Raise CatalogueError unless the run has as many rows as its files say, each of them once."""
    row = con.execute(f"SELECT count(*) FROM {quoted(table)} WHERE run_id = ?", [run_id]).fetchone()
    count = row[0] if row else 0
    if count != expected:
        raise CatalogueError(
            f"Table '{table}' took {count} rows of run {run_id} where its files say {expected}."
        )
    if key := _KEYS.get(table):
        names = ", ".join(quoted(name) for name in key)
        twice = con.execute(
            f"SELECT {names} FROM {quoted(table)} WHERE run_id = ? GROUP BY ALL HAVING count(*) > 1 LIMIT 1",
            [run_id],
        ).fetchone()
        if twice is not None:
            at = ", ".join(f"{name} {value}" for name, value in zip(key, twice, strict=True))
            raise CatalogueError(f"Table '{table}' would hold a row of run {run_id} twice: {at}.")


def _check_heads(con: duckdb.DuckDBPyConnection, run_id: str, tables: Sequence[str]) -> None:
    """Raise CatalogueError for rows about a head that the run does not list."""
    for table in tables:
        stray = con.execute(
            f"SELECT layer, head FROM {quoted(table)} WHERE run_id = $run AND (layer, head) NOT IN "
            "(SELECT (layer, head) FROM heads WHERE run_id = $run) LIMIT 1",
            {"run": run_id},
        ).fetchone()
        if stray is not None:
            raise CatalogueError(
                f"Table '{table}' has rows of L{stray[0]}H{stray[1]}, which run {run_id} does not list."
            )


def _settle_counts(con: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Fill the counts of heads by status that the run left out; a count that it gives wrongly is an error."""
    for status in ("described", "unclear", "failed"):
        row = con.execute(
            f"SELECT n_{status}, (SELECT count(*) FROM heads WHERE run_id = $run AND status = $status) "
            "FROM runs WHERE run_id = $run",
            {"run": run_id, "status": status},
        ).fetchone()
        assert row is not None  # inserted a moment ago, in this transaction
        given, counted = row
        if given is not None and given != counted:
            raise CatalogueError(f"Run {run_id} says {given} {status} heads where its rows say {counted}.")
        con.execute(f"UPDATE runs SET n_{status} = ? WHERE run_id = ?", [counted, run_id])
