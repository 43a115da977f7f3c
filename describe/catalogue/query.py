"""SQL that a user wrote: one statement, read-only, sealed off from files, network and settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from describe.catalogue.connect import connect, first_line
from describe.catalogue.lock import reader_lock
from describe.errors import CatalogueError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1_000
# MULTI is what a PIVOT becomes; SHOW, DESCRIBE and SUMMARIZE count as SELECT.
_ALLOWED = ("SELECT", "EXPLAIN", "MULTI")


@dataclass(frozen=True)
class QueryRows:
    """What a query gave."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    truncated: bool = False  # there were more rows than the limit


@dataclass(frozen=True)
class QueryStream:
    """A query whose rows are fetched as they are asked for."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[object, ...]]


@contextmanager
def open_read_only(
    path: Path | str, *, wait: float = 0.0, sealed: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can only read, with writers kept out while it is open.

    Args:
        path: the catalogue.
        wait: how many seconds to wait for a writer to finish.
        sealed: refuse other files, extensions and changes of settings, as SQL by a user must be.

    Raises:
        CatalogueError: there is no catalogue, or a writer has it.
    """
    path = Path(os.path.realpath(path))
    if not path.exists():
        raise CatalogueError(
            f"There is no catalogue {path}: make one with `describe run MODEL`, or name another one."
        )
    with reader_lock(path, wait=wait):
        con = connect(path, read_only=True, sealed=sealed)
        try:
            known = con.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_migration'"
            ).fetchall()
            if known == [(0,)]:
                raise CatalogueError(f"The file {path} is a DuckDB database but not a catalogue of heads.")
            yield con
        finally:
            con.close()


@contextmanager
def stream_query(
    path: Path | str, sql: str, parameters: Sequence[object] = (), *, wait: float = 0.0
) -> Iterator[QueryStream]:
    """Run one reading statement and fetch its rows as they are asked for.

    Raises:
        CatalogueError: there is no catalogue, or a writer has it.
        InputError: the SQL is not one reading statement, or DuckDB refuses it.
    """
    with open_read_only(path, wait=wait) as con:
        _check_statement(sql)
        with _query_errors():
            cursor = con.execute(sql, list(parameters))
        yield QueryStream(tuple(column[0] for column in cursor.description or ()), _rows(cursor))


def read_only_query(
    path: Path | str,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    limit: int | None = None,
    wait: float = 0.0,
) -> QueryRows:
    """Run one reading statement and return its rows, at most `limit` of them.

    Raises:
        CatalogueError: there is no catalogue, or a writer has it.
        InputError: the SQL is not one reading statement, or DuckDB refuses it.
    """
    if limit is not None and limit < 0:
        raise InputError(f"The row limit is {limit}: give 0 or more.")
    with stream_query(path, sql, parameters, wait=wait) as stream:
        rows: list[tuple[object, ...]] = []
        for row in stream.rows:
            if limit is not None and len(rows) == limit:
                return QueryRows(stream.columns, rows, truncated=True)
            rows.append(row)
        return QueryRows(stream.columns, rows)


def query_to_parquet(path: Path | str, sql: str, output: Path, *, wait: float = 0.0) -> int:
    """Run one reading statement into a Parquet file, which appears only when it is whole.

    Returns:
        The number of rows.

    Raises:
        CatalogueError: there is no catalogue, a writer has it, or the file cannot be written.
        InputError: the SQL is not one reading statement, or DuckDB refuses it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows = 0
    with open_read_only(path, wait=wait) as con:
        _check_statement(sql)
        with _query_errors():
            reader = con.sql(sql).to_arrow_reader(_BATCH * 100)
        temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
        try:
            with pq.ParquetWriter(temporary, reader.schema) as writer:
                for batch in _batches(reader):
                    writer.write_batch(batch)
                    n_rows += batch.num_rows
            os.replace(temporary, output)
        except (OSError, pa.ArrowException) as error:
            raise CatalogueError(f"The file {output} cannot be written: {error}.") from error
        finally:
            temporary.unlink(missing_ok=True)
    return n_rows


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches of a query; Arrow calls a failure of DuckDB an OSError, as if writing had failed."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except Exception as error:
            raise InputError(f"The query failed: {first_line(error)}") from error
        yield batch


def _check_statement(sql: str) -> None:
    """Raise InputError unless the text is one statement that reads."""
    with _query_errors():
        statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise InputError(f"The SQL holds {len(statements)} statements: give exactly one.")
    kind = statements[0].type.name
    if kind not in _ALLOWED:
        raise InputError(
            f"{kind} is refused, for the catalogue is read-only here: use SELECT, SHOW, DESCRIBE or EXPLAIN."
        )


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[object, ...]]:
    while True:
        with _query_errors():
            batch = cursor.fetchmany(_BATCH)
        if not batch:
            return
        yield from batch


@contextmanager
def _query_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        if "pytz" in str(error):  # the one type whose Python form needs a library that we do not install
            raise InputError(
                "The query gives a time with time zone: cast it to TIMESTAMP or VARCHAR."
            ) from error
        raise InputError(f"The query failed: {first_line(error)}") from error
