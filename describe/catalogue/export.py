"""The catalogue as a folder of Parquet files with a data dictionary and a dataset card, to be shared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from describe import __version__
from describe.catalogue.connect import first_line, is_disk_full, quoted, text_literal
from describe.catalogue.dictionary import data_dictionary
from describe.catalogue.query import open_read_only
from describe.catalogue.schema import INTERNAL_TABLES, Described, described
from describe.errors import CatalogueError, InputError

_DICTIONARY = "data_dictionary.md"
_CARD = "README.md"
# People who rate do not thereby agree to be named in public: they are numbered in order of their first
# rating.
_UNNAMED_RATERS = """
WITH person AS (
    SELECT rater, row_number() OVER (ORDER BY min(rated_at), rater) AS number
    FROM ratings WHERE rater_kind = 'human' GROUP BY rater
)
SELECT rating.* REPLACE (coalesce('annotator ' || person.number, rating.rater) AS rater)
FROM {relation} AS rating
LEFT JOIN person ON rating.rater_kind = 'human' AND rating.rater = person.rater
ORDER BY ALL
"""
_RATER_TABLES = ("ratings", "rating_current")


def export_catalogue(
    path: Path | str, folder: Path, *, force: bool = False, wait: float = 0.0
) -> dict[str, int]:
    """Write every table and view of a catalogue to a folder, which appears only when it is whole.

    The folder holds `<relation>/<relation>.parquet`, a data dictionary, and a `README.md` with the YAML
    header that Hugging Face reads. Names of human raters are replaced by numbers.

    Args:
        path: the catalogue.
        folder: where to; made if missing.
        force: replace an earlier export that is there.
        wait: how many seconds to wait for a writer to finish.

    Returns:
        The number of rows by table and view.

    Raises:
        InputError: the folder is not empty, and either `force` is off or it holds something other than an
            export.
        CatalogueError: the catalogue cannot be read, or the folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    _check_target(folder, force)
    with open_read_only(path, wait=wait, sealed=False) as con:
        try:
            unfinished = _beside(folder, "new")
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise CatalogueError(f"The folder {folder} cannot be written: {_reason(error)}.") from error
        try:
            counts = _write(con, unfinished)
            _put_in_place(unfinished, folder)
        except OSError as error:
            raise CatalogueError(f"The folder {folder} cannot be written: {_reason(error)}.") from error
        except duckdb.Error as error:
            why = "the disk is full" if is_disk_full(error) else first_line(error).rstrip(".")
            raise CatalogueError(f"The catalogue could not be exported to {folder}: {why}.") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return counts


def _check_target(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder to export to.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise InputError(
            f"The folder {folder} is not empty: name another one, or give --force to replace it."
        )
    if not (folder / _DICTIONARY).is_file() or not (folder / _CARD).is_file():
        # --force on a wrong path must not cost anybody a home directory.
        raise InputError(
            f"The folder {folder} holds something other than an export: empty it first or name another."
        )


def _write(con: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, int]:
    """Fill the folder; returns the number of rows by relation."""
    relations = [one for one in described(con) if one.name not in INTERNAL_TABLES]
    counts: dict[str, int] = {}
    for one in relations:
        (folder / one.name).mkdir()
        file = folder / one.name / f"{one.name}.parquet"
        # Sorted, so that equal catalogues give equal files whatever the order of ingest.
        select = f"SELECT * FROM {quoted(one.name)} ORDER BY ALL"
        if one.name in _RATER_TABLES:
            select = _UNNAMED_RATERS.format(relation=quoted(one.name))
        con.execute(f"COPY ({select}) TO {text_literal(str(file))} (FORMAT parquet, COMPRESSION zstd)")
        row = con.execute(f"SELECT count(*) FROM {quoted(one.name)}").fetchone()
        counts[one.name] = int(row[0]) if row else 0
    models = [
        str(name) for (name,) in con.execute("SELECT DISTINCT model FROM runs ORDER BY model").fetchall()
    ]
    (folder / _DICTIONARY).write_text("# Data dictionary\n\n" + data_dictionary(relations), encoding="utf-8")
    (folder / _CARD).write_text(_card(relations, counts, models), encoding="utf-8")
    return counts


def _card(relations: list[Described], counts: dict[str, int], models: list[str]) -> str:
    """The dataset card: YAML for Hugging Face, then what the data is and the dictionary."""
    filled = [
        one for one in relations if counts[one.name]
    ]  # a viewer cannot show a configuration without rows
    configs = []
    for one in filled:
        configs.append(f"- config_name: {one.name}\n  data_files: {one.name}/*.parquet")
        if one is filled[0]:
            configs.append("  default: true")
    listed = "configs:\n" + "\n".join(configs) if configs else "configs: []"
    about = "\n".join(f"- `{model}`" for model in models) or "- none yet"
    rows = "\n".join(f"| `{one.name}` | {counts[one.name]} | {one.comment or ''} |" for one in relations)
    return _CARD_TEXT.format(
        configs=listed,
        models=about,
        rows=rows,
        version=__version__,
        dictionary=data_dictionary(relations, level=3),
    )


_CARD_TEXT = """---
pretty_name: What attention heads do
license: unknown
language: en
tags: [interpretability, attention-heads, mechanistic-interpretability]
{configs}
---

# What attention heads do

For every attention head of the models below: the tokens it maps to one another, read from its weights, and
what it does, in words, graded on mappings that the writer of the words never saw. Made by head-descriptions
{version}.

Models:

{models}

The mappings follow MAPS (Elhelo and Geva, arXiv 2412.11965). `head_catalogue` is the front door: one row per
head. A head without a clear pattern is `unclear`, and a figure stands beside its null: a description that
holds no more often than on shuffled mappings says nothing. Human raters are numbered, not named; read
`ratings.comment` before you publish, and choose a licence in the header of this file. Token texts are data
and may hold any character.

| relation | rows | one row per |
|---|---|---|
{rows}

## Data dictionary

{dictionary}"""


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename the finished folder to its name; what stood there goes only once the new one is whole."""
    if not folder.exists():
        os.rename(unfinished, folder)
        return
    old = _beside(folder, "old")
    os.rename(folder, old)
    try:
        os.rename(unfinished, folder)
    except OSError:
        os.rename(old, folder)
        raise
    shutil.rmtree(old)


def _beside(folder: Path, what: str) -> Path:
    """A free name in the same folder; what a killed process of our number left there is removed."""
    path = folder.with_name(f".{folder.name}.{what}.{os.getpid()}")
    shutil.rmtree(path, ignore_errors=True)
    return path


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
