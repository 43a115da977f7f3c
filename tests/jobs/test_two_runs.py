"""A catalogue that others use: they are waited for or named, and nobody's work is lost."""

import shutil
import time

import duckdb
import pytest
from jobs_workshop import content_of, left_behind, rows_of

from describe.catalogue import open_read_only, owner_lock

NO_WORK = "import describe.jobs.projecting as p; p.Projector.__init__ = None"


@pytest.fixture
def catalogue(undisturbed, tmp_path):
    shutil.copy(undisturbed.catalogue, tmp_path / "heads.duckdb")
    return tmp_path / "heads.duckdb"


def test_a_catalogue_in_use_is_said_before_any_work(workshop, tmp_path, catalogue):
    for at, own in ((tmp_path / "new.duckdb", "new.duckdb"), (catalogue, "heads.duckdb")):
        with owner_lock(at):
            found = workshop.call(
                "run", workshop.model, "--heads", "L0H0", "--catalogue", own, cwd=tmp_path, hook=NO_WORK
            )
        assert found.code == 1
        assert "is in use by process" in found.sentence() and own in found.sentence()
    assert left_behind(tmp_path) == ["new.duckdb.lock"]


def test_a_reader_at_the_end_is_waited_for(workshop, tmp_path):
    child = workshop.start("run", workshop.model, "--heads", "L0H0", cwd=tmp_path)
    while child.running() and not list(tmp_path.glob("heads.duckdb.runs/*/vectors")):
        time.sleep(0.005)
    with owner_lock(tmp_path / "heads.duckdb", wait=5):
        while child.running() and not list(tmp_path.glob("heads.duckdb.runs/*/verdict")):
            time.sleep(0.005)
        time.sleep(0.5)
        assert child.running()
    assert child.wait().code == 0
    assert rows_of(tmp_path / "heads.duckdb", "SELECT count(*) FROM heads") == [(1,)]


def test_a_catalogue_of_a_newer_schema(workshop, tmp_path, catalogue):
    with duckdb.connect(str(catalogue)) as con:
        con.execute("INSERT INTO schema_migration VALUES (999, 'later.sql', 'x', now()::TIMESTAMP)")
    before = catalogue.read_bytes()
    found = workshop.call("run", workshop.model, "--heads", "L0H0", cwd=tmp_path, hook=NO_WORK)
    assert found.code == 1 and "upgrade the program" in found.sentence()
    assert catalogue.read_bytes() == before and left_behind(tmp_path) == []


def test_two_different_runs_at_the_same_time_both_end_well(workshop, undisturbed, tmp_path):
    one = workshop.start("run", workshop.model, "--layers", "0", cwd=tmp_path)
    two = workshop.start("run", workshop.model, "--layers", "1", cwd=tmp_path)
    for child in (one, two):
        ended = child.wait()
        assert ended.code == 0, ended.stderr
    assert rows_of(tmp_path / "heads.duckdb", "SELECT run_id, count(*) FROM heads GROUP BY 1").__len__() == 2
    assert left_behind(tmp_path) == []
    query = "SELECT * EXCLUDE (run_id) FROM mappings WHERE layer < 2 ORDER BY ALL"
    assert rows_of(tmp_path / "heads.duckdb", query) == rows_of(undisturbed.catalogue, query)


def test_the_same_run_twice_at_the_same_time_is_done_once(workshop, undisturbed, tmp_path):
    children = [workshop.start("run", workshop.model, cwd=tmp_path) for _ in range(3)]
    ended = [child.wait() for child in children]
    assert sorted(one.code for one in ended) == [0, 1, 1]
    for one in ended:
        assert one.code == 0 or "Another process is at work on this very run" in one.sentence()
    assert content_of(tmp_path / "heads.duckdb") == undisturbed.content
    assert left_behind(tmp_path) == []


def test_queries_during_a_run_see_all_of_it_or_nothing(workshop, undisturbed, tmp_path, catalogue):
    child = workshop.start("run", workshop.model, "--heads", "L0H0,L2H3", cwd=tmp_path)
    seen = set()
    while child.running():
        with open_read_only(catalogue, wait=10) as con:
            seen.update(con.execute("SELECT count(DISTINCT run_id), count(*) FROM heads").fetchall())
        time.sleep(0.02)
    assert child.wait().code == 0
    assert seen <= {(1, 12), (2, 14)} and (1, 12) in seen
