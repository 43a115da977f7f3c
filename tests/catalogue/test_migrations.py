"""The schema appears whole or not at all, once, and is never taken for another."""

import dataclasses
import os
import shutil
import subprocess
import sys

import duckdb
import pytest

from describe import __version__
from describe.catalogue import Catalogue
from describe.catalogue.connect import connect
from describe.catalogue.migrations import Migration, create, migrate, packaged_migrations
from describe.errors import CatalogueError

STEPS = packaged_migrations()


def opened(path):
    with Catalogue.open(path) as catalogue:
        return catalogue.query("SELECT version, name, sha256 FROM schema_migration ORDER BY version").rows


def test_steps_are_numbered_without_gap():
    assert [step.version for step in STEPS] == list(range(1, len(STEPS) + 1))


def test_an_empty_place_gets_every_step_once(tmp_path):
    path = tmp_path / "heads.duckdb"
    first = opened(path)
    assert first == [(step.version, step.name, step.sha256) for step in STEPS]
    assert opened(path) == first
    with Catalogue.open(path) as catalogue:
        meta = catalogue.query(
            "SELECT schema_version, package_version, created_at IS NOT NULL FROM catalogue_meta"
        )
        assert meta.rows == [(STEPS[-1].version, __version__, True)]
    assert sorted(os.listdir(tmp_path)) == ["heads.duckdb", "heads.duckdb.lock"]


def test_a_failing_step_leaves_no_trace(tmp_path):
    path = tmp_path / "heads.duckdb"
    opened(path)
    bad = Migration(
        len(STEPS) + 1,
        "9999_bad.sql",
        "CREATE TABLE half (a INTEGER); ALTER TABLE heads ADD b INTEGER; SELECT nope",
    )
    good = Migration(len(STEPS) + 1, "9999_good.sql", "CREATE TABLE whole (a INTEGER)")
    con = connect(path)
    with pytest.raises(CatalogueError, match="9999_bad.sql failed .* left as it was"):
        migrate(con, path, [*STEPS, bad])
    names = "SELECT table_name FROM duckdb_tables() WHERE table_name IN ('half', 'whole')"
    assert con.execute(names).fetchall() == []
    assert "b" not in [row[0] for row in con.execute("DESCRIBE heads").fetchall()]
    assert con.execute("SELECT max(version) FROM schema_migration").fetchone() == (len(STEPS),)
    migrate(con, path, [*STEPS, good])
    assert con.execute(names).fetchall() == [("whole",)]
    con.close()


def test_a_new_file_with_a_failing_step_does_not_appear(tmp_path):
    bad = Migration(len(STEPS) + 1, "9999_bad.sql", "SELECT nope")
    with pytest.raises(CatalogueError, match="failed"):
        create(tmp_path / "heads.duckdb", [*STEPS, bad])
    assert os.listdir(tmp_path) == []


def test_another_text_of_an_applied_step_is_refused(tmp_path):
    path = tmp_path / "heads.duckdb"
    opened(path)
    changed = [STEPS[0], dataclasses.replace(STEPS[1], sql=STEPS[1].sql + "-- changed\n"), *STEPS[2:]]
    con = connect(path)
    with pytest.raises(CatalogueError, match=f"another text of the schema step {STEPS[1].name}"):
        migrate(con, path, changed)
    windows = [dataclasses.replace(step, sql=step.sql.replace("\n", "\r\n")) for step in STEPS]
    migrate(con, path, windows)  # line ends of a checkout are no change
    con.close()


def test_a_newer_catalogue_is_refused(tmp_path):
    path = tmp_path / "heads.duckdb"
    opened(path)
    con = connect(path)
    with pytest.raises(CatalogueError, match="knows schema 1 at most: upgrade"):
        migrate(con, path, STEPS[:1])
    con.close()


def refused(path):
    with pytest.raises(CatalogueError) as caught, Catalogue.open(path):
        pass
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def test_what_is_no_catalogue_is_refused_and_left_alone(tmp_path):
    (tmp_path / "text.duckdb").write_text("no database" * 2000)
    assert "not a DuckDB database" in refused(tmp_path / "text.duckdb")
    assert (tmp_path / "text.duckdb").read_text() == "no database" * 2000
    (tmp_path / "empty.duckdb").touch()
    assert "empty file" in refused(tmp_path / "empty.duckdb")
    (tmp_path / "folder.duckdb").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.duckdb")
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    assert "not a catalogue" in refused(tmp_path / "other.duckdb")
    assert "folder does not exist" in refused(tmp_path / "missing" / "heads.duckdb")
    assert not (tmp_path / "missing").exists()


def test_a_log_without_its_catalogue_is_refused(tmp_path, filled):
    con = connect(filled)
    con.execute("INSERT INTO relation_pairs (relation, source, target) VALUES ('a', 'b', 'c')")
    shutil.copy(filled.with_name("heads.duckdb.wal"), tmp_path / "gone.duckdb.wal")
    con.close()
    assert "log gone.duckdb.wal is left" in refused(tmp_path / "gone.duckdb")
    assert (tmp_path / "gone.duckdb.wal").stat().st_size > 0


IN_READ_ONLY_FOLDER = """
import sys
from describe.catalogue import Catalogue, read_only_query
from describe.errors import CatalogueError
try:
    with Catalogue.open(sys.argv[1]):
        print("opened")
except CatalogueError as error:
    print(error)
if len(sys.argv) > 2:
    print(read_only_query(sys.argv[1], "SELECT count(*) FROM heads").rows)
"""


def without_override():
    """Take from root, for the program to come, the right to write where the mode forbids it."""
    import ctypes

    if (
        os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) != 0
    ):  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        raise OSError("the capability cannot be dropped")


def in_read_only_folder(*args):
    try:
        return subprocess.run(
            [sys.executable, "-c", IN_READ_ONLY_FOLDER, *map(str, args)],
            capture_output=True, text=True, preexec_fn=without_override,
        )  # fmt: skip
    except subprocess.SubprocessError:
        pytest.skip("root may write everywhere here")


def test_a_read_only_folder_can_be_read_but_not_made_in(tmp_path, filled):
    folder = tmp_path / "fixed"
    folder.mkdir()
    shutil.copy(filled, folder / "heads.duckdb")
    folder.chmod(0o555)
    try:
        new = in_read_only_folder(folder / "new.duckdb")
        assert "folder is read-only, so choose another place" in new.stdout, new.stderr
        old = in_read_only_folder(folder / "heads.duckdb", "read")
        assert old.stdout.splitlines()[1:] == ["[(6,)]"], old.stderr
        assert os.listdir(folder) == ["heads.duckdb"]
    finally:
        folder.chmod(0o755)
