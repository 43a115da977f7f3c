"""`describe sql` and `describe export` as a user meets them."""

import csv
import io
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from describe.catalogue import read_only_query
from describe.cli import export as export_command
from describe.cli import sql as sql_command
from describe.cli.sql import visible
from describe.errors import InputError

app = typer.Typer()
sql_command.register(app)
export_command.register(app)


def call(*args):
    found = CliRunner().invoke(app, [str(arg) for arg in args])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_a_table_shows_rows_up_to_the_limit(filled):
    found = call(
        "sql", "SELECT head_id, status FROM head_catalogue ORDER BY 1", "--catalogue", filled, "--limit", 2
    )
    assert found.exit_code == 0
    assert [line.split() for line in found.stdout.splitlines() if "L0" in line] == [
        ["L0H0", "described"],
        ["L0H1", "unclear"],
    ]
    assert "Only the first 2 rows" in found.stderr


def test_a_token_cannot_act_on_the_terminal(filled):
    found = call(
        "sql", "SELECT DISTINCT source_token, [source_token] AS l FROM mappings", "--catalogue", filled
    )
    assert not [char for char in found.stdout if not char.isprintable() and char != "\n"]
    assert "\\x1b[2J" in found.stdout and "a\\nb" in found.stdout


@pytest.mark.parametrize("text", ["\x1b[31m", "a\nb", "a\\nb", "‮x", "​", "\x9b", "\u2028", " é日", "[red]"])
def test_visible_text_is_printable_and_reversible(text):
    assert visible(text).isprintable()
    assert visible(text) != text or text in (" é日", "[red]")
    restored = visible(text).encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert restored == text


def test_csv_and_json_hold_every_text_as_it_is(filled, make):
    query = "SELECT DISTINCT source_token, target_token, constant_promoted AS l, z FROM mappings, heads"
    expected = sorted(map(str, read_only_query(filled, query).rows))
    found = call("sql", query, "--catalogue", filled, "--format", "json")
    rows = [tuple(row.values()) for row in json.loads(found.stdout)]
    assert sorted(map(str, rows)) == expected
    found = call("sql", query, "--catalogue", filled, "--format", "csv")
    header, *lines = csv.reader(io.StringIO(found.stdout, newline=""))
    assert header == ["source_token", "target_token", "l", "z"]
    assert sorted(str((a, b, json.loads(c), float(d))) for a, b, c, d in lines) == expected


def test_values_that_json_and_csv_do_not_have(filled):
    query = (
        "SELECT 'nan'::DOUBLE AS n, NULL AS e, 1.5::DECIMAL(5, 2) AS d, DATE '2026-01-01' AS day, "
        "'ab'::BLOB AS raw, "
        "TIMESTAMP '2026-01-01 10:00:00' AS at, {'a': [1, NULL]} AS s, 2::HUGEINT AS h, true AS b"
    )
    found = call("sql", query, "--catalogue", filled, "--format", "json")
    assert json.loads(found.stdout) == [
        {"n": None, "e": None, "d": 1.5, "day": "2026-01-01", "raw": "6162", "at": "2026-01-01 10:00:00"}
        | {"s": {"a": [1, None]}, "h": 2, "b": True}
    ]
    found = call("sql", query, "--catalogue", filled, "--format", "csv")
    assert (
        found.stdout.splitlines()[1]
        == 'nan,,1.5,2026-01-01,6162,2026-01-01 10:00:00,"{""a"": [1, null]}",2,true'
    )
    assert (
        call("sql", "SELECT 1 AS a WHERE false", "--catalogue", filled, "--format", "json").stdout == "[]\n"
    )
    with pytest.raises(InputError, match="same name"):
        call("sql", "SELECT 1 AS a, 2 AS a", "--catalogue", filled, "--format", "json")


def test_output_files_are_whole_or_missing(filled, tmp_path):
    query = "SELECT head_id FROM head_catalogue ORDER BY 1"
    for kind in ("table", "csv", "json", "parquet"):
        out = tmp_path / f"out.{kind}"
        assert call("sql", query, "--catalogue", filled, "--format", kind, "--output", out).stdout == ""
    assert (tmp_path / "out.csv").read_text().splitlines() == ["head_id", *json_ids(tmp_path / "out.json")]
    assert pq.read_table(tmp_path / "out.parquet").column("head_id").to_pylist() == json_ids(
        tmp_path / "out.json"
    )
    failing = "SELECT CASE WHEN i > 5000 THEN error('boom') ELSE i END AS i FROM range(10000) t(i)"
    for kind in ("csv", "json", "parquet"):
        with pytest.raises(InputError, match="boom"):
            call("sql", failing, "--catalogue", filled, "--format", kind, "--output", tmp_path / "half")
    with pytest.raises(InputError, match="--output FILE"):
        call("sql", query, "--catalogue", filled, "--format", "parquet")
    assert not [entry.name for entry in tmp_path.iterdir() if "half" in entry.name]
    for kind in ("table", "csv", "json", "parquet"):
        with pytest.raises(InputError, match="the catalogue itself"):
            call("sql", query, "--catalogue", filled, "--format", kind, "--output", filled)


def json_ids(path):
    return [row["head_id"] for row in json.loads(path.read_text())]


def test_export(filled, tmp_path):
    found = call("export", tmp_path / "out", "--catalogue", filled)
    assert found.exit_code == 0 and found.stdout == "" and "Exported" in found.stderr
    assert (tmp_path / "out" / "mappings" / "mappings.parquet").is_file()
    assert call("export", tmp_path / "out", "--catalogue", filled, "--force", "--quiet").stderr == ""


def test_commands_load_nothing_heavy_before_they_run():
    code = (
        "import sys, describe.cli.sql, describe.cli.export\n"
        "print([name for name in ('duckdb', 'pyarrow', 'torch', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_has_examples():
    for name in ("sql", "export"):
        assert "Examples" in call(name, "--help").stdout
