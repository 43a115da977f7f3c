"""SQL by a user reads the catalogue and nothing else, and changes nothing."""

import hashlib
import shutil
import threading

import duckdb
import pyarrow.parquet as pq
import pytest

from describe.catalogue import Catalogue, query_to_parquet, read_only_query, stream_query
from describe.catalogue.connect import connect
from describe.errors import CatalogueError, InputError


def test_rows_columns_and_limit(filled):
    found = read_only_query(filled, "SELECT layer, head FROM heads ORDER BY ALL", limit=4)
    assert found.columns == ("layer", "head")
    assert found.rows == [(0, 0), (0, 1), (0, 2), (1, 0)] and found.truncated
    assert not read_only_query(filled, "SELECT layer FROM heads", limit=6).truncated
    assert read_only_query(filled, "SELECT layer FROM heads", limit=0).truncated
    with pytest.raises(InputError, match="limit"):
        read_only_query(filled, "SELECT 1", limit=-1)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM head_catalogue",
        "SHOW TABLES",
        "DESCRIBE mappings",
        "SUMMARIZE heads",
        "EXPLAIN SELECT 1",
        "VALUES (1)",
    ]
    + ["WITH a AS (SELECT 1) FROM a", "PIVOT heads ON status USING count(*) GROUP BY layer", "SELECT 1; "],
)
def test_reading_statements_work(filled, sql):
    assert read_only_query(filled, sql).rows


@pytest.mark.parametrize(
    "sql",
    [
        "COPY heads TO '{out}'",
        "COPY (SELECT 1) TO '/dev/stdout'",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH heads",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM parquet_metadata('{secret}')",
        "SELECT * FROM query('COPY heads TO ''{out}''')",
        "INSTALL fts",
        "LOAD fts",
        "SET threads = 1",
        "RESET threads",
        "SET enable_external_access = true",
        "SET VARIABLE x = 1",
        "PRAGMA threads = 1",
        "PRAGMA enable_profiling",
        "PRAGMA table_info('heads')",
        "CALL force_checkpoint()",
        "CHECKPOINT",
        "VACUUM",
        "USE heads",
        "BEGIN",
        "PREPARE q AS SELECT 1",
        "INSERT INTO heads SELECT * FROM heads",
        "WITH gone AS (DELETE FROM heads RETURNING *) FROM gone",
        "EXPLAIN ANALYZE DELETE FROM heads",
        "UPDATE runs SET status = 'failed'",
        "DELETE FROM heads",
        "DROP TABLE heads",
        "TRUNCATE heads",
        "ALTER TABLE heads ADD x INTEGER",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE MACRO f(a) AS a",
        "COMMENT ON TABLE heads IS 'x'",
        "SELECT 1; DROP TABLE heads",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT nope FROM heads",
        "SELECT error('a\nb')",
    ],
)
def test_everything_else_is_refused_in_one_sentence(filled, tmp_path, sql):
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\nhidden,1\n")
    out = tmp_path / "out"
    before = hashlib.sha256(filled.read_bytes()).hexdigest()
    with pytest.raises(InputError) as caught:
        read_only_query(filled, sql.format(out=out, secret=secret, folder=tmp_path))
    assert "\n" not in str(caught.value) and "hidden" not in str(caught.value)
    assert not out.exists()
    assert hashlib.sha256(filled.read_bytes()).hexdigest() == before


def test_token_text_is_a_parameter_never_sql(filled, make):
    for text in make.hostile:
        found = read_only_query(
            filled, "SELECT DISTINCT target_token FROM mappings WHERE target_token = ?", [text]
        )
        assert found.rows in ([(text,)], [])


def test_without_a_catalogue(tmp_path):
    with pytest.raises(CatalogueError, match="There is no catalogue .*describe run MODEL"):
        read_only_query(tmp_path / "none.duckdb", "SELECT 1")
    assert list(tmp_path.iterdir()) == []
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    with pytest.raises(CatalogueError, match="not a catalogue"):
        read_only_query(tmp_path / "other.duckdb", "SELECT 1")


def test_while_somebody_writes(filled):
    with Catalogue.open(filled, url="http://here"):
        with pytest.raises(CatalogueError, match=r"in use by process \d+ on host .* \(http://here\)"):
            read_only_query(filled, "SELECT 1")


def test_a_catalogue_whose_owner_was_killed_reads_whole(filled, tmp_path):
    con = connect(filled)
    con.execute("INSERT INTO relation_pairs (relation, source, target) VALUES ('r', 'a', 'b')")
    left = tmp_path / "left"
    left.mkdir()
    for file in (filled, filled.with_name("heads.duckdb.wal")):
        shutil.copy(file, left)
    con.close()
    assert read_only_query(left / "heads.duckdb", "FROM relation_pairs").rows == [("r", "a", "b", None)]


def test_readers_in_threads(filled):
    found = []

    def read():
        found.append(read_only_query(filled, "SELECT count(*) FROM mappings").rows)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[(120,)]] * 8


def test_rows_stream(filled):
    with stream_query(filled, "SELECT i FROM range(1000000) t(i)") as stream:
        assert [next(stream.rows) for _ in range(3)] == [(0,), (1,), (2,)]
    with (
        pytest.raises(InputError, match="boom"),
        stream_query(
            filled, "SELECT CASE WHEN i > 500000 THEN error('boom') ELSE i END FROM range(1000000) t(i)"
        ) as stream,
    ):
        list(stream.rows)


def test_a_time_with_zone_says_what_to_do(filled):
    try:
        import pytz  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(InputError, match="cast it to TIMESTAMP or VARCHAR"):
            read_only_query(filled, "SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00'")
    found = read_only_query(filled, "SELECT CAST(TIMESTAMPTZ '2026-01-01 02:00:00+02' AS TIMESTAMP)::VARCHAR")
    assert found.rows == [("2026-01-01 00:00:00",)]


def test_parquet_output(filled, tmp_path):
    out = tmp_path / "out's.parquet"
    assert query_to_parquet(filled, "SELECT * FROM mappings ORDER BY ALL", out) == 120
    expected = read_only_query(filled, "SELECT * FROM mappings ORDER BY ALL")
    table = pq.read_table(out)
    assert [tuple(row.values()) for row in table.to_pylist()] == expected.rows
    assert query_to_parquet(filled, "FROM head_catalogue", out) == 6
    assert query_to_parquet(filled, "SELECT settings, evidence FROM runs, descriptions WHERE false", out) == 0
    with pytest.raises(InputError):
        query_to_parquet(filled, "DROP TABLE heads", tmp_path / "none.parquet")
    with pytest.raises(InputError, match="boom"):
        query_to_parquet(filled, "SELECT error('boom')", tmp_path / "none.parquet")
    with pytest.raises(CatalogueError, match="cannot be written"):
        query_to_parquet(filled, "SELECT 1 AS a", tmp_path / "missing" / "none.parquet")
    assert not [file.name for file in tmp_path.iterdir() if "none" in file.name or file.name.endswith("part")]
