"""The owner lock keeps two processes apart, says who holds it, and loses nothing when they take turns."""

import json
import os
import socket
import subprocess
import sys

import pytest

from describe.catalogue import Catalogue, open_read_only, owner_lock, read_only_query
from describe.catalogue.lock import lock_path, reader_lock
from describe.errors import CatalogueError

HOLD = """
import sys
from pathlib import Path
from describe.catalogue.lock import owner_lock, reader_lock
kind = reader_lock if sys.argv[2] == "read" else owner_lock
with kind(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

TURNS = """
import sys
from describe.catalogue import Catalogue
for turn in range(int(sys.argv[3])):
    with Catalogue.open(sys.argv[1], wait=60) as catalogue:
        catalogue.connection.execute(
            "INSERT INTO relation_pairs (relation, source, target) VALUES ('turns', ?, ?)", [sys.argv[2], str(turn)])
"""


@pytest.fixture
def holder(tmp_path):
    """Start another process that holds the lock of a file."""
    started = []

    def start(path, kind="own"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.communicate()


def test_second_process_learns_who_holds_it(tmp_path, holder):
    path = tmp_path / "heads.duckdb"
    process = holder(path)
    with pytest.raises(CatalogueError) as caught, owner_lock(path):
        pass
    assert f"in use by process {process.pid} on host {socket.gethostname()}" in str(caught.value)
    with pytest.raises(CatalogueError, match="in use by process"), reader_lock(path):
        pass


def test_url_of_the_owner_is_told_and_forgotten(tmp_path):
    path = tmp_path / "heads.duckdb"
    with owner_lock(path, url="http://127.0.0.1:8000"):
        held = json.loads(lock_path(path).read_text())
        assert held == {"pid": os.getpid(), "host": socket.gethostname(), "url": "http://127.0.0.1:8000"}
        with (
            pytest.raises(CatalogueError, match=r"\(http://127\.0\.0\.1:8000\); wait or stop it"),
            owner_lock(path),
        ):
            pass
    assert lock_path(path).read_text() == ""


def test_a_killed_owner_leaves_no_lock(tmp_path, holder):
    path = tmp_path / "heads.duckdb"
    process = holder(path)
    process.kill()
    process.wait()
    with owner_lock(path):
        assert json.loads(lock_path(path).read_text())["pid"] == os.getpid()


def test_readers_share_and_keep_writers_out(tmp_path, holder):
    path = tmp_path / "heads.duckdb"
    holder(path, "read")
    with reader_lock(path), pytest.raises(CatalogueError, match="perhaps one that reads"), owner_lock(path):
        pass


def test_waiting_outlasts_the_owner(tmp_path, holder):
    path = tmp_path / "heads.duckdb"
    process = holder(path)
    with pytest.raises(CatalogueError), owner_lock(path, wait=0.1):
        pass
    process.stdin.close()
    with owner_lock(path, wait=30):
        pass
    process.wait()
    process.stdin = None


def test_one_lock_behind_symbolic_links(tmp_path):
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "heads.duckdb")
    with owner_lock(tmp_path / "heads.duckdb"), pytest.raises(CatalogueError):
        with owner_lock(tmp_path / "link.duckdb"):
            pass


def test_catalogue_holds_the_lock_while_open(tmp_path):
    path = tmp_path / "heads.duckdb"
    with Catalogue.open(path):
        with pytest.raises(CatalogueError, match="in use"), Catalogue.open(path):
            pass
        with pytest.raises(CatalogueError, match="in use"), open_read_only(path):
            pass
    with open_read_only(path), open_read_only(path):
        with pytest.raises(CatalogueError, match="in use"), Catalogue.open(path):
            pass


def test_two_processes_that_take_turns_lose_nothing(tmp_path):
    """On DuckDB 2.0.0 without our lock this loses acknowledged rows."""
    path, turns = tmp_path / "heads.duckdb", 25
    with Catalogue.open(path):
        pass
    processes = [
        subprocess.Popen([sys.executable, "-c", TURNS, str(path), name, str(turns)])
        for name in ("first", "second")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    found = read_only_query(
        path, "SELECT source, count(DISTINCT target) FROM relation_pairs GROUP BY ALL ORDER BY 1"
    )
    assert found.rows == [("first", turns), ("second", turns)]
