"""The exported folder holds every row, says what it is, and never appears half-made."""

import os

import duckdb
import pyarrow.parquet as pq
import pytest

from describe.catalogue import Catalogue, export_catalogue, read_only_query
from describe.errors import CatalogueError, InputError


def test_every_table_and_view_row_for_row(filled, tmp_path):
    out = tmp_path / "it's" / "out"
    counts = export_catalogue(filled, out)
    names = {name for (name,) in read_only_query(filled, "SHOW TABLES").rows} - {"schema_migration"}
    assert set(counts) == names == {entry.name for entry in out.iterdir() if entry.is_dir()}
    for name in names:
        table = pq.read_table(out / name / f"{name}.parquet")
        expected = read_only_query(filled, f"FROM {name} ORDER BY ALL").rows
        assert [tuple(row.values()) for row in table.to_pylist()] == expected
        assert counts[name] == len(expected)
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["out"]


def test_dictionary_and_card(filled, tmp_path):
    export_catalogue(filled, tmp_path / "out")
    dictionary = (tmp_path / "out" / "data_dictionary.md").read_text()
    card = (tmp_path / "out" / "README.md").read_text()
    comments = read_only_query(
        filled,
        "SELECT column_name, comment FROM duckdb_columns() "
        "WHERE NOT internal AND table_name != 'schema_migration'",
    )
    for column, comment in comments.rows:
        assert f"| `{column}` | " in dictionary and comment.replace("|", "\\|") in dictionary
        assert comment.replace("|", "\\|") in card
    assert dictionary.index("`head_catalogue`") < dictionary.index("`mappings` (table)")
    header = card.split("---\n")[1]
    assert "- config_name: head_catalogue\n  data_files: head_catalogue/*.parquet\n  default: true" in header
    assert "config_name: mappings" in header and "config_name: ablations" not in header
    assert "- `m@1`" in card


def test_the_header_is_yaml(filled, tmp_path):
    yaml = pytest.importorskip("yaml")
    export_catalogue(filled, tmp_path / "out")
    header = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert header["configs"][0] == {
        "config_name": "head_catalogue",
        "data_files": "head_catalogue/*.parquet",
        "default": True,
    }
    assert all((tmp_path / "out" / one["config_name"]).is_dir() for one in header["configs"])


def test_equal_catalogues_give_equal_rows_in_equal_order(make, tmp_path):
    rows = make.rows()
    for name, some in (("a", rows), ("b", {table: part[::-1] for table, part in rows.items()})):
        with Catalogue.open(tmp_path / f"{name}.duckdb") as catalogue:
            catalogue.ingest_run(make.run(), make.shards(tmp_path / f"s{name}", some))
        export_catalogue(tmp_path / f"{name}.duckdb", tmp_path / name)
    for table in ("mappings", "clusters", "head_catalogue"):
        first, second = (pq.read_table(tmp_path / name / table / f"{table}.parquet") for name in "ab")
        assert first.equals(second)


def test_raters_are_numbered_not_named(filled, tmp_path):
    with Catalogue.open(filled) as catalogue:
        for number, (rater, kind, day) in enumerate(
            [
                ("Zoe", "human", 1),
                ("Ann", "human", 2),
                ("Zoe", "human", 3),
                ("judge-7b", "llm", 1),
                ("Ann", "llm", 1),
            ]
        ):
            catalogue.connection.execute(
                "INSERT INTO ratings BY NAME SELECT ?::VARCHAR AS rating_id, 'd-0-0' AS description_id, "
                "'m@1' AS model, "
                "0 AS layer, 0 AS head, ? AS rater_kind, ? AS rater, 3 AS plausibility, 'rated' AS status, "
                "make_timestamp(2026, 1, ?, 0, 0, 0) AS rated_at", [number, kind, rater, day],
            )  # fmt: skip
    export_catalogue(filled, tmp_path / "out")
    for name, expected in (("ratings", 5), ("rating_current", 4)):
        rows = pq.read_table(tmp_path / "out" / name / f"{name}.parquet").to_pylist()
        assert len(rows) == expected
        raters = {(row["rating_id"], row["rater"]) for row in rows}
        assert {("1", "annotator 2"), ("2", "annotator 1"), ("3", "judge-7b"), ("4", "Ann")} <= raters
        assert b"Zoe" not in (tmp_path / "out" / name / f"{name}.parquet").read_bytes()


def test_a_folder_in_use_is_spared(filled, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export_catalogue(filled, out)  # empty is fine
    with pytest.raises(InputError, match="not empty.*--force"):
        export_catalogue(filled, out)
    (out / "heads" / "old.parquet").touch()
    export_catalogue(filled, out, force=True)
    assert not (out / "heads" / "old.parquet").exists() and (out / "heads" / "heads.parquet").exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters").touch()
    with pytest.raises(InputError, match="something other than an export"):
        export_catalogue(filled, home, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        export_catalogue(filled, tmp_path / "file")
    assert os.listdir(home) == ["letters"]
    assert sorted(os.listdir(tmp_path)) == ["file", "heads.duckdb", "heads.duckdb.lock", "home", "out"]


def test_a_failing_export_leaves_what_was_there(filled, tmp_path):
    out = tmp_path / "out"
    export_catalogue(filled, out)
    before = sorted(path.stat().st_mtime_ns for path in out.rglob("*"))
    con = duckdb.connect(str(filled))
    con.execute("CREATE VIEW zz_broken AS SELECT error('boom') AS a")
    con.close()
    with pytest.raises(CatalogueError, match="could not be exported .*boom"):
        export_catalogue(filled, out, force=True)
    assert sorted(path.stat().st_mtime_ns for path in out.rglob("*")) == before
    assert sorted(os.listdir(tmp_path)) == ["heads.duckdb", "heads.duckdb.lock", "out"]
