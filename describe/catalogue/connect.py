"""Connections to DuckDB as this project wants them, and DuckDB's errors in one sentence."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from describe.errors import CatalogueError

# No extension is fetched or loaded behind the user's back: the wheel holds all that the catalogue needs.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_settling = threading.Lock()
# What user SQL must not do: touch files, fetch, attach. The catalogue file itself stays readable.
_SEALED: dict[str, str | bool | int | float | list[str]] = {"enable_external_access": "false"}


def connect(path: Path, *, read_only: bool = False, sealed: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file; the caller holds the lock of `describe.catalogue.lock` until after `close()`.

    Args:
        path: the file, made if missing unless `read_only`.
        read_only: open for reading.
        sealed: for SQL that a user wrote: no other file, no extension, no change of settings.

    Raises:
        CatalogueError: the file cannot be opened.
    """
    check_path(path)
    try:
        con = duckdb.connect(str(path), read_only=read_only, config=_CONFIG | (_SEALED if sealed else {}))
    except duckdb.Error as error:
        raise CatalogueError(_why_not_opened(path, error)) from error
    with _settling:
        # Connections of one process to one file share their settings: only the first can make them.
        if con.execute("SELECT current_setting('lock_configuration')").fetchall() == [(False,)]:
            con.execute("SET GLOBAL TimeZone = 'UTC'")  # stored times are UTC, on every machine
            if sealed:
                con.execute("SET GLOBAL lock_configuration = true")
    return con


def check_path(path: Path) -> None:
    """Raise CatalogueError where no catalogue can be, or where opening would be unsafe."""
    if path.is_dir():
        raise CatalogueError(
            f"The catalogue {path} is a folder: name a file, such as {path / 'heads.duckdb'}."
        )
    if not path.parent.is_dir():
        raise CatalogueError(f"The folder {path.parent} of the catalogue does not exist: create it first.")
    log = path.with_name(path.name + ".wal")
    if log.exists() and not path.exists():
        # DuckDB would start an empty database and drop the log, and with it what the log still holds.
        raise CatalogueError(
            f"The catalogue {path} is gone but its log {log.name} is left: restore it, or move the log."
        )


def _why_not_opened(path: Path, error: duckdb.Error) -> str:
    if path.is_file() and not os.access(path, os.R_OK):
        return f"The catalogue {path} cannot be read: ask its owner for access."
    if path.is_file() and path.stat().st_size == 0:
        return f"The catalogue {path} is an empty file: remove it, or name another one."
    if "not a valid DuckDB database" in str(error):
        return f"The file {path} is not a DuckDB database: name another file for the catalogue."
    return f"The catalogue {path} cannot be opened: {first_line(error)}"


def first_line(error: Exception) -> str:
    """DuckDB's message as one sentence, without its class and its pointer into the query."""
    line = str(error).strip().split("\n\n")[0].replace("\n", " ")
    _, colon, rest = line.partition(" Error: ")
    text = (rest if colon else line).strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def is_disk_full(error: duckdb.Error) -> bool:
    """Whether a write failed for want of space (a full disk, a quota or a file size limit)."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(os.strerror(number).lower() in str(error).lower() for number in full)


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """One transaction: all of the body or nothing of it."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        try:
            con.execute("ROLLBACK")
        except duckdb.Error:
            pass  # DuckDB has already rolled back, as it does when a commit fails
        raise


def quoted(name: str) -> str:
    """A table or column name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """A string literal, for the statements that take no parameters (COMMENT, COPY)."""
    return "'" + text.replace("'", "''") + "'"


def exact_path(path: Path) -> str:
    """A path for `read_parquet`, which would otherwise take `*`, `?` and `[` in it for a pattern."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))
