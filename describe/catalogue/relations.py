"""Predefined operations in the catalogue: a name stands for one set of pairs for good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb

from describe.errors import InputError


@dataclass(frozen=True)
class RelationRecord:
    """A relation as the tables `relations` and `relation_pairs` hold it."""

    relation: str
    category: str
    description: str
    sentence: str
    source: str
    licence: str
    digest: str
    generated: bool  # pairs are made for each tokenizer, and kept with the model
    pairs: Sequence[tuple[str, str]]


def check_names(con: duckdb.DuckDBPyConnection, relations: Iterable[RelationRecord]) -> None:
    """Raise InputError for a relation whose name the catalogue gives to other pairs."""
    known = dict(con.execute("SELECT relation, digest FROM relations").fetchall())
    for one in relations:
        if known.get(one.relation, one.digest) != one.digest:
            raise InputError(
                f"The catalogue has a relation '{one.relation}' with other pairs: give yours another name, or store "
                "it in another catalogue with --catalogue."
            )


def insert_relations(con: duckdb.DuckDBPyConnection, model: str, relations: Iterable[RelationRecord]) -> None:
    """Add the relations that are not there yet, inside the caller's transaction; see `check_names`."""
    relations = list(relations)
    check_names(con, relations)
    known = {row[0] for row in con.execute("SELECT relation FROM relations").fetchall()}
    made = {
        row[0]
        for row in con.execute(
            "SELECT DISTINCT relation FROM relation_pairs WHERE model = ?", [model]
        ).fetchall()
    }
    for one in relations:
        if one.relation not in known:
            con.execute(
                "INSERT INTO relations (relation, category, description, sentence, source, licence, digest, generated)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    one.relation, one.category, one.description, one.sentence, one.source, one.licence, one.digest,
                    one.generated,
                ],
            )  # fmt: skip
        if (one.relation not in made) if one.generated else (one.relation not in known):
            con.execute(
                "INSERT INTO relation_pairs (relation, source, target, model) "
                "SELECT $relation, unnest($sources), unnest($targets), $model",
                {
                    "relation": one.relation,
                    "sources": [source for source, _ in one.pairs],
                    "targets": [target for _, target in one.pairs],
                    "model": model if one.generated else None,
                },
            )
