"""The catalogue file in the hands of its one owner: opened, migrated, written to, closed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from describe.catalogue import ingest as ingesting
from describe.catalogue.connect import connect, first_line
from describe.catalogue.contents import ContentDigest, digest
from describe.catalogue.lock import owner_lock
from describe.catalogue.migrations import create, migrate, packaged_migrations
from describe.catalogue.query import QueryRows
from describe.catalogue.relations import RelationRecord, check_names
from describe.catalogue.schema import table_columns
from describe.errors import CatalogueError, InputError


class Catalogue:
    """An open catalogue; `connection` is its one DuckDB connection, for writing."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path | str, *, wait: float = 0.0, url: str | None = None) -> Iterator[Catalogue]:
        """Own the catalogue at `path`, made if missing and brought to the newest schema, for a block.

        Args:
            path: the file, on a local disk.
            wait: how many seconds to wait for another owner to finish.
            url: where this process serves the catalogue, told to those who find it in use.

        Raises:
            CatalogueError: it is in use, or is no catalogue, or cannot be made, opened or migrated.
        """
        path = Path(os.path.realpath(path))
        steps = packaged_migrations()
        with owner_lock(path, wait=wait, url=url):
            if not path.exists():
                create(path, steps)
            con = connect(path)
            try:
                migrate(con, path, steps)
                yield cls(path, con)
            finally:
                con.close()

    def ingest_run(
        self,
        run: Mapping[str, object],
        shards: Mapping[str, Sequence[Path]],
        relations: Sequence[RelationRecord] = (),
        *,
        replace: bool = False,
    ) -> bool:
        """Store a run and its Parquet shards in one transaction; see `describe.catalogue.ingest.ingest`.

        Returns:
            False if the run was already complete, and was left alone.

        Raises:
            CatalogueError: something does not fit, or the disk is full; nothing is stored.
        """
        return ingesting.ingest(self.connection, run, shards, relations, replace=replace)

    def check_relation_names(self, relations: Sequence[RelationRecord]) -> None:
        """Raise InputError for a relation whose name stands for other pairs here."""
        check_names(self.connection, relations)

    def run_status(self, run_id: str) -> str | None:
        """The status of a run: running, complete, failed or stopped; None if there is no such run."""
        row = self.connection.execute("SELECT status FROM runs WHERE run_id = ?", [run_id]).fetchone()
        return None if row is None else str(row[0])

    def query(self, sql: str, parameters: Sequence[object] = ()) -> QueryRows:
        """All rows of a query of our own; what a user wrote goes through `read_only_query`.

        Raises:
            InputError: DuckDB does not understand or cannot run it.
        """
        try:
            cursor = self.connection.execute(sql, list(parameters))
            return QueryRows(tuple(column[0] for column in cursor.description or ()), cursor.fetchall())
        except duckdb.Error as error:
            raise InputError(f"The query failed: {first_line(error)}") from error

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table with their DuckDB types, as a shard must have them.

        Raises:
            CatalogueError: there is no such table.
        """
        tables = table_columns(self.connection)
        if table not in tables:
            raise CatalogueError(f"The catalogue has no table '{table}': it has {', '.join(sorted(tables))}.")
        return {column.name: column.kind for column in tables[table]}

    def digest(self, run_id: str | None = None) -> ContentDigest:
        """A digest of what the catalogue, or one run, holds; see `describe.catalogue.contents.digest`."""
        return digest(self.connection, run_id)
