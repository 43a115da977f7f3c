"""The schema, step by step: numbered SQL files, each applied once, whole, and known by its checksum."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb

from describe import __version__
from describe.catalogue.connect import check_path, connect, first_line, is_disk_full, transaction
from describe.errors import CatalogueError

_BOOKKEEPING = """
CREATE TABLE schema_migration (
    version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, sha256 VARCHAR NOT NULL, applied_at TIMESTAMP NOT
    NULL);
COMMENT ON TABLE schema_migration IS 'One row per applied step of the schema.';
COMMENT ON COLUMN schema_migration.version IS 'Number of the step, from 1.';
COMMENT ON COLUMN schema_migration.name IS 'File name of the step.';
COMMENT ON COLUMN schema_migration.sha256 IS 'Checksum of the file that was applied.';
COMMENT ON COLUMN schema_migration.applied_at IS 'When it was applied (UTC).';
"""


@dataclass(frozen=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Checksum of the text, whatever line ends the checkout gave it."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def packaged_migrations() -> tuple[Migration, ...]:
    """The steps that ship with this version, in order."""
    steps = []
    for file in (files(__package__) / "sql").iterdir():
        if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
            steps.append(Migration(int(match[1]), file.name, file.read_text(encoding="utf-8")))
    return tuple(sorted(steps, key=lambda step: step.version))


def create(path: Path, steps: Sequence[Migration]) -> None:
    """Make a new catalogue beside its place and rename it there: a half-made one never bears the name.

    Raises:
        CatalogueError: the file cannot be made, or a step fails.
    """
    check_path(path)
    unfinished = path.with_name(f".{path.name}.new")  # one name: the caller holds the lock, so none is in use
    # The log first: a log without its database would be taken for a database that somebody deleted.
    leftovers = (unfinished.with_name(f"{unfinished.name}.wal"), unfinished)
    try:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        con = connect(unfinished)
        try:
            migrate(con, path, steps, new=True)
        finally:
            con.close()
        os.replace(unfinished, path)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise CatalogueError(f"The catalogue {path} cannot be created: {reason}.") from error
    finally:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)


def migrate(
    con: duckdb.DuckDBPyConnection, path: Path, steps: Sequence[Migration], *, new: bool = False
) -> None:
    """Bring an open database to the newest schema.

    Args:
        con: a connection for writing.
        path: the catalogue's name in errors.
        steps: all known steps, in order.
        new: the database has just been made and is empty.

    Raises:
        CatalogueError: the database is not a catalogue, is newer than `steps`, was made with other steps, or
            a step fails (which then leaves no trace).
    """
    applied = {} if new else _applied(con, path)
    _check_history(path, applied, steps)
    for step in steps:
        if step.version not in applied:
            _apply(con, path, step, first=step.version == 1)


def _applied(con: duckdb.DuckDBPyConnection, path: Path) -> dict[int, tuple[str, str]]:
    known = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_migration'"
    ).fetchone()
    if known is None or not known[0]:
        raise CatalogueError(
            f"The file {path} is a DuckDB database but not a catalogue of heads: name another file."
        )
    rows = con.execute("SELECT version, name, sha256 FROM schema_migration ORDER BY version").fetchall()
    return {version: (name, sha256) for version, name, sha256 in rows}


def _check_history(path: Path, applied: dict[int, tuple[str, str]], steps: Sequence[Migration]) -> None:
    known = {step.version: step for step in steps}
    if applied and max(applied) > max(known, default=0):
        raise CatalogueError(
            f"The catalogue {path} has schema {max(applied)} and this version knows schema "
            f"{max(known, default=0)} at most: upgrade the program."
        )
    for version, (name, sha256) in applied.items():
        if version not in known or known[version].sha256 != sha256:
            raise CatalogueError(
                f"The catalogue {path} was made with another text of the schema step {name}: use the version "
                "of the program that made it, or start a new catalogue."
            )


def _apply(con: duckdb.DuckDBPyConnection, path: Path, step: Migration, *, first: bool) -> None:
    try:
        with transaction(con):
            if first:
                con.execute(_BOOKKEEPING)
            con.execute(step.sql)
            con.execute(
                "INSERT INTO schema_migration VALUES (?, ?, ?, now()::TIMESTAMP)",
                [step.version, step.name, step.sha256],
            )
            con.execute(
                "UPDATE catalogue_meta SET schema_version = ?, package_version = ?",
                [step.version, __version__],
            )
        con.execute("CHECKPOINT")  # no schema change is ever left to the replay of a log (duckdb issue 25928)
    except duckdb.Error as error:
        why = "the disk is full" if is_disk_full(error) else first_line(error).rstrip(".")
        raise CatalogueError(
            f"Schema step {step.name} failed on {path}, which is left as it was: {why}."
        ) from error
