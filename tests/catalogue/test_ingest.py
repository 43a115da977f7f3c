"""A run goes in whole or not at all, once, with every value as it was."""

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from describe.catalogue import Catalogue, read_only_query
from describe.errors import CatalogueError

TABLES = ("runs", "heads", "mappings", "clusters", "descriptions", "excluded_tokens")


def counts(catalogue, run_id="r1"):
    return {
        table: catalogue.query(f"SELECT count(*) FROM {table} WHERE run_id = ?", [run_id]).rows[0][0]
        for table in TABLES
    }


def test_every_row_arrives_as_it_was(catalogue, make, tmp_path):
    rows = make.rows()
    assert catalogue.ingest_run(make.run(), make.shards(tmp_path / "s", rows)) is True
    assert counts(catalogue) == {"runs": 1} | {table: len(some) for table, some in rows.items()}
    for table, some in rows.items():
        stored = catalogue.query(f"SELECT {', '.join(some[0])}, run_id, model FROM {table}").rows
        expected = [(*row.values(), "r1", "m@1") for row in some]
        assert sorted(map(repr, stored)) == sorted(map(repr, expected)), table
    assert catalogue.run_status("r1") == "complete"
    assert catalogue.run_status("none") is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])), number=st.integers(0, 10**9))
def test_any_token_text_survives_values_and_parameters(catalogue, make, tmp_path, text, number):
    run_id = f"{number}{text}"
    rows = {"excluded_tokens": [{"token_id": number, "token": text, "reason": "x"}]}
    catalogue.ingest_run(make.run(run_id, status="running"), make.shards(tmp_path / "s", rows))
    found = catalogue.query(
        "SELECT token_id, token FROM excluded_tokens WHERE run_id = ? AND token = ?", [run_id, text]
    )
    assert found.rows == [(number, text)]


def test_a_complete_run_is_left_alone(catalogue, make, tmp_path):
    shards = make.shards(tmp_path / "s")
    catalogue.ingest_run(make.run(), shards)
    before = catalogue.digest()
    assert catalogue.ingest_run(make.run(seed=99), {"heads": shards["heads"]}) is False
    assert catalogue.digest() == before


def test_an_unfinished_run_is_replaced(catalogue, make, tmp_path):
    assert catalogue.ingest_run(make.run(status="running"), make.shards(tmp_path / "a"))
    assert catalogue.ingest_run(make.run("other"), make.shards(tmp_path / "o"))
    assert catalogue.ingest_run(make.run(), make.shards(tmp_path / "b", make.rows(n_layers=1)))
    assert counts(catalogue)["heads"] == 3 and counts(catalogue)["mappings"] == 60
    assert counts(catalogue, "other")["heads"] == 6
    assert catalogue.query("SELECT status FROM runs ORDER BY run_id").rows == [("complete",), ("complete",)]


def test_the_run_record_keeps_its_values(catalogue, make):
    started = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    run = make.run(started_at=started, settings={"k": [1, "é"]}, stage_seconds={"map": 1.5}, seed=2**40)
    catalogue.ingest_run(run, {})
    row = catalogue.query("SELECT started_at, settings->>'$.k[1]', seed, kind FROM runs").rows
    assert row == [(datetime(2026, 5, 1, 10, 0), "é", 2**40, "describe")]


def test_counts_of_heads_are_filled_and_checked(catalogue, make, tmp_path):
    shards = make.shards(tmp_path / "s")
    with pytest.raises(CatalogueError, match="says 5 unclear heads where its rows say 2"):
        catalogue.ingest_run(make.run(n_unclear=5), shards)
    assert catalogue.run_status("r1") is None
    catalogue.ingest_run(make.run(n_unclear=2), shards)
    assert catalogue.query("SELECT n_described, n_unclear, n_failed FROM runs").rows == [(2, 2, 2)]


def test_rows_of_several_files_and_awkward_paths(catalogue, make, tmp_path):
    folder = tmp_path / "it's a [te]st*?" / "layer=7"
    rows = make.rows()
    heads = [make.write(folder / f"{i}.parquet", "heads", [row]) for i, row in enumerate(rows["heads"])]
    catalogue.ingest_run(make.run(), {"heads": heads})
    assert catalogue.query("SELECT layer, head FROM heads ORDER BY ALL").rows == [
        (row["layer"], row["head"]) for row in rows["heads"]
    ]


def broken(make, folder):
    """One way after another in which shards can be wrong, with the words that the error must have."""
    rows = make.rows()

    def shards(table, path):
        return make.shards(folder / "s", rows) | {table: [path]}

    def file(table, some, **columns):
        return make.write(folder / "odd.parquet", table, some, **columns)

    heads = rows["heads"]
    lacking = pa.parquet.read_table(file("heads", heads)).drop_columns(["kv_head"])
    pa.parquet.write_table(lacking, folder / "lacking.parquet")
    yield shards("heads", folder / "lacking.parquet"), "lacking.parquet lacks column 'kv_head'"
    for kind, said in ((pa.string(), "varchar"), (pa.float64(), "double"), (pa.bool_(), "boolean")):
        none = [row | {"kv_head": None} for row in heads]
        path = file("heads", none, kv_head=kind)
        yield shards("heads", path), f"odd.parquet has {said} in column 'kv_head'.* wants integer"
    yield shards("heads", file("heads", heads, extra=pa.string())), "odd.parquet has a column 'extra'"
    big = [row | {"kv_head": 2**40} for row in heads]
    yield shards("heads", file("heads", big)), "odd.parquet holds a value that does not fit table 'heads'"
    yield (
        shards("heads", file("heads", [row | {"layer": None} for row in heads])),
        "odd.parquet holds a value",
    )
    yield (
        shards("heads", file("heads", [row | {"status": "great"} for row in heads])),
        "odd.parquet holds a value",
    )
    yield shards("heads", file("heads", [heads[0], *heads])), "twice: layer 0, head 0"
    stray = [row | {"layer": 9} for row in rows["clusters"][:1]]
    yield shards("clusters", file("clusters", stray)), "'clusters' has rows of L9H0"
    other = [row | {"model": "other@1"} for row in heads]
    yield shards("heads", file("heads", other, model=pa.string())), "rows whose model is not 'm@1'"
    unnamed = [row | {"run_id": None} for row in heads]
    yield shards("heads", file("heads", unnamed, run_id=pa.string())), "rows whose run_id is not 'r1'"
    (folder / "text.parquet").write_text("no Parquet")
    yield shards("mappings", folder / "text.parquet"), "text.parquet is missing or no Parquet file"
    yield shards("mappings", folder / "gone.parquet"), "gone.parquet is missing or no Parquet file"
    whole = file("mappings", rows["mappings"]).read_bytes()
    (folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    yield shards("mappings", folder / "cut.parquet"), "cut.parquet is missing or no Parquet file"
    yield shards("runs", folder / "s" / "heads.parquet"), "no table 'runs' that takes rows"
    yield shards('x"; DROP TABLE runs', folder / "s" / "heads.parquet"), "There is no table"


def test_wrong_shards_are_named_and_nothing_is_stored(catalogue, make, tmp_path):
    catalogue.ingest_run(make.run("kept"), make.shards(tmp_path / "kept"))
    before, tried = catalogue.digest(), 0
    for shards, words in broken(make, tmp_path):
        with pytest.raises(CatalogueError, match=words) as caught:
            catalogue.ingest_run(make.run(), shards)
        assert "\n" not in str(caught.value)
        assert catalogue.digest() == before, words
        tried += 1
    assert tried >= 17


def test_columns_of_nothing_but_null_need_no_type(catalogue, make, tmp_path):
    rows = [row | {"kv_head": None, "constant_promoted": None} for row in make.rows()["heads"]]
    path = make.write(
        tmp_path / "h.parquet", "heads", rows, kv_head=pa.null(), constant_promoted=pa.list_(pa.null())
    )
    catalogue.ingest_run(make.run(), {"heads": [path]})
    assert counts(catalogue)["heads"] == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": None}, "lacks 'model'"),
        ({"nonsense": 1}, "no column 'nonsense'"),
        ({"status": "great"}, "Nothing of run r1 was stored"),
        ({"kind": "party"}, "Nothing of run r1 was stored"),
        ({"n_layers": "many"}, "Nothing of run r1 was stored"),
    ],
)
def test_a_wrong_run_record_is_refused(catalogue, make, change, words):
    with pytest.raises(CatalogueError, match=words):
        catalogue.ingest_run(make.run() | change, {})
    assert catalogue.query("SELECT * FROM runs").rows == []


INGEST = """
import sys
from datetime import datetime
from pathlib import Path
from describe.catalogue import Catalogue
from describe.errors import CatalogueError
run = {"run_id": "big", "model": "m@1", "status": "complete", "started_at": datetime(2026, 1, 1)}
shards = {file.stem: [file] for file in Path(sys.argv[2]).iterdir()}
try:
    with Catalogue.open(sys.argv[1]) as catalogue:
        print("open", flush=True)
        catalogue.ingest_run(run, shards)
        print("stored", flush=True)
    print("closed", flush=True)
except CatalogueError as error:
    print(error, flush=True)
"""


def big_rows(make):
    rows = make.rows(n_layers=4, n_heads=6, n_sources=60)
    # Texts that do not compress, so that the file grows as a real one does.
    noise = random.Random(0)
    for row in rows["mappings"]:
        row["source_token"] = noise.randbytes(400).hex()
    return rows


def start_ingest(path, folder, **options):
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, str(path), str(folder)], stdout=subprocess.PIPE, text=True, **options
    )


def test_killed_at_any_moment_the_catalogue_is_without_or_wholly_with_the_run(make, tmp_path, filled):
    rows = big_rows(make)
    make.shards(tmp_path / "big", rows)
    whole = {"runs": 1} | {table: len(some) for table, some in rows.items()}
    with Catalogue.open(filled) as catalogue:
        base = catalogue.digest("r1")
    noise, duration, seen = random.Random(1), 0.0, []
    for attempt in range(11):
        path = tmp_path / f"{attempt}.duckdb"
        shutil.copy(filled, path)
        process = start_ingest(path, tmp_path / "big")
        assert process.stdout.readline() == "open\n"
        began = time.perf_counter()
        if attempt:
            time.sleep(noise.uniform(0, duration))
            process.kill()
        said = process.stdout.read()
        process.wait()
        if not attempt:  # how long it takes when nobody interferes
            duration = time.perf_counter() - began
            assert said == "stored\nclosed\n"
        with Catalogue.open(path) as catalogue:
            found = counts(catalogue, "big")
            assert found in (dict.fromkeys(TABLES, 0), whole)
            assert "stored" not in said or found == whole
            assert catalogue.digest("r1") == base
        seen.append(found == whole)
    assert True in seen and False in seen  # otherwise the moments were not random enough to say anything


@pytest.mark.parametrize("room", [0, 1 << 20, 3 << 20])
def test_a_full_disk_stores_nothing_and_says_so(make, tmp_path, filled, room):
    """A limit on the size of any file stops the database or its log, as a full disk would."""
    make.shards(tmp_path / "big", big_rows(make))
    with Catalogue.open(filled) as catalogue:
        base = catalogue.digest()
    limit = filled.stat().st_size + room
    process = start_ingest(
        filled, tmp_path / "big", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    said = process.communicate()[0].splitlines()
    assert said == [
        "open",
        "Nothing of run big was stored: the disk is full, so free some space and run it again.",
    ]
    with Catalogue.open(filled) as catalogue:
        assert catalogue.digest() == base
        assert catalogue.ingest_run(make.run("big"), {"heads": [tmp_path / "big" / "heads.parquet"]})


def test_a_disk_that_is_really_full(make, tmp_path, filled):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = filled.stat().st_size + (2 << 20)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        shutil.copy(filled, disk / "heads.duckdb")
        shards = make.shards(tmp_path / "big", big_rows(make))
        with Catalogue.open(disk / "heads.duckdb") as catalogue:
            with pytest.raises(CatalogueError, match="the disk is full"):
                catalogue.ingest_run(make.run("big"), shards)
        assert read_only_query(disk / "heads.duckdb", "SELECT run_id FROM runs").rows == [("r1",)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_started_at_in_utc(catalogue, make):
    catalogue.ingest_run(make.run(started_at=datetime(2026, 1, 1, tzinfo=UTC)), {})
    assert catalogue.query("SELECT started_at FROM runs").rows == [(datetime(2026, 1, 1),)]


def test_a_whole_run_is_replaced_by_a_whole_one_only(catalogue, make, tmp_path):
    catalogue.ingest_run(make.run(), make.shards(tmp_path / "a"))
    before = catalogue.digest("r1")
    part = make.shards(tmp_path / "b", make.rows(n_layers=1))
    assert catalogue.ingest_run(make.run(status="stopped"), part, replace=True) is False
    assert catalogue.digest("r1") == before and catalogue.run_status("r1") == "complete"
    assert catalogue.ingest_run(make.run(), part, replace=True) is True
    assert catalogue.digest("r1") != before
