"""`describe sql`: a query over the catalogue, read-only, as a table or as data."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from describe.errors import CatalogueError, InputError

if TYPE_CHECKING:
    from describe.catalogue import QueryRows, QueryStream

_EPILOG = (
    "Examples: describe sql \"SELECT head_id, description FROM head_catalogue WHERE status = 'described'\" · "
    'describe sql "SHOW TABLES" · describe sql "DESCRIBE mappings" · '
    'describe sql "FROM mappings" --format parquet --output mappings.parquet'
)


class Format(StrEnum):
    """How the rows are written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add `describe sql` to the app."""
    app.command("sql", epilog=_EPILOG)(sql)


def sql(
    query: Annotated[
        str, typer.Argument(help="One reading statement of SQL; start from the view head_catalogue.")
    ],
    catalogue: Annotated[Path, typer.Option(help="The catalogue file.")] = Path("heads.duckdb"),
    format: Annotated[Format, typer.Option(help="parquet needs --output.")] = Format.table,  # noqa: A002
    output: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Most rows that a table shows; other formats give all.")
    ] = 100,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another process writes.")] = 0.0,
) -> None:
    """Ask the catalogue in SQL: read-only, one statement, no other file.

    A table escapes control characters of token texts, so that a token cannot act on the terminal; csv, json
    and parquet hold the texts as they are.
    """
    from describe.catalogue import query_to_parquet, read_only_query, stream_query

    if output is not None and output.resolve() == catalogue.resolve():
        raise InputError(f"{output} is the catalogue itself: name another file for the rows.")
    if format is Format.parquet:
        if output is None:
            raise InputError("Parquet is not for a terminal: name a file with --output FILE.")
        query_to_parquet(catalogue, query, output, wait=wait)
    elif format is Format.table:
        shown = read_only_query(catalogue, query, limit=limit, wait=wait)
        with _opened(output) as stream:
            _write_table(shown, stream)
        if shown.truncated:
            typer.echo(
                f"Only the first {limit} rows are shown: use --limit, or --format csv for all.", err=True
            )
    else:
        with stream_query(catalogue, query, wait=wait) as rows, _opened(output) as stream:
            (_write_csv if format is Format.csv else _write_json)(rows, stream)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Stdout, or a file that appears only when it is whole."""
    if output is None:
        yield sys.stdout
        return
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        os.replace(unfinished, output)
    except OSError as error:
        raise CatalogueError(
            f"The file {output} cannot be written: {(error.strerror or str(error)).lower()}."
        ) from error
    finally:
        if output.parent.is_dir():
            unfinished.unlink(missing_ok=True)


def _write_table(shown: QueryRows, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe or file has no width to fit into: there every cell stays on one line.
    console = Console(file=stream, width=None if stream.isatty() else 100_000, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in shown.columns:
        table.add_column(Text(visible(name)), overflow="fold")
    for row in shown.rows:
        table.add_row(*(Text(visible(_cell(value))) for value in row))
    console.print(table)


def _write_csv(rows: QueryStream, stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows.columns)
    for row in rows.rows:
        writer.writerow([value if isinstance(value, str) else _cell(value, null="") for value in row])


def _write_json(rows: QueryStream, stream: TextIO) -> None:
    """A list with one object per row, one to a line."""
    if len(set(rows.columns)) < len(rows.columns):
        raise InputError("Two columns have the same name, which JSON cannot hold: name them apart with AS.")
    separator = "[\n"
    for row in rows.rows:
        record = dict(zip(rows.columns, map(_plain, row), strict=True))
        stream.write(separator + json.dumps(record))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def visible(text: str) -> str:
    r"""The text with everything that could move a cursor or hide itself as `\x1b` and the like.

    Backslashes are doubled, so that an escaped character and the same letters as text stay apart.
    """
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )


def _cell(value: object, null: str = "NULL") -> str:
    plain = _plain(value)
    if plain is None:
        return null if value is None else str(value)  # NaN stays NaN
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: object) -> object:
    """The value in what JSON has; NaN and infinities, which it has not, become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (datetime, date, time)):
        return str(value)
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)
