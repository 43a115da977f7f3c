"""What the open file says about itself: tables, views, columns and their comments."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

# Bookkeeping of the file itself, of no interest to who reads about heads.
INTERNAL_TABLES = frozenset({"schema_migration"})


@dataclass(frozen=True)
class Column:
    """A column of a table, as DuckDB knows it."""

    name: str
    kind: str  # DuckDB type, such as INTEGER or VARCHAR[]
    has_default: bool
    nullable: bool


def table_columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[Column]]:
    """The columns of every table, in order."""
    rows = con.execute(
        "SELECT table_name, column_name, data_type, column_default IS NOT NULL, is_nullable "
        "FROM duckdb_columns() WHERE NOT internal AND table_name IN (SELECT table_name FROM duckdb_tables()) "
        "ORDER BY table_name, column_index"
    ).fetchall()
    tables: dict[str, list[Column]] = {}
    for table, *column in rows:
        tables.setdefault(table, []).append(Column(*column))
    return tables


def run_tables(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Every table whose rows belong to a run, but for `runs` itself."""
    tables = table_columns(con)
    return sorted(
        t for t, columns in tables.items() if t != "runs" and any(c.name == "run_id" for c in columns)
    )


@dataclass(frozen=True)
class Described:
    """A table or view with its comment and, by name, the type and comment of each column."""

    name: str
    comment: str | None
    is_view: bool
    columns: dict[str, tuple[str, str | None]]


def described(con: duckdb.DuckDBPyConnection) -> list[Described]:
    """Every view, the front door first, and then every table, by name."""
    relations = con.execute(
        "SELECT table_name, comment, false FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT view_name, comment, true FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    columns: dict[str, dict[str, tuple[str, str | None]]] = {}
    for table, name, kind, comment in con.execute(
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal "
        "ORDER BY table_name, column_index"
    ).fetchall():
        columns.setdefault(table, {})[name] = (kind, comment)
    found = [Described(name, comment, is_view, columns[name]) for name, comment, is_view in relations]
    return sorted(found, key=lambda one: (one.name != "head_catalogue", not one.is_view, one.name))
