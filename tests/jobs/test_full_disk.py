"""A disk without room and a folder without permission: one sentence, exit 1, and the next run completes."""

import re
import subprocess
from contextlib import contextmanager

import pytest
from jobs_workshop import content_of, left_behind


@contextmanager
def small_disk(folder, kibibytes):
    """A file system of its own with little room."""
    folder.mkdir()
    option = f"size={kibibytes}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def grow(folder, kibibytes):
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(folder)], check=True)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kibibytes", [4, 24, pytest.param(64, marks=SLOW), pytest.param(400, marks=SLOW), 900, 1500, 8000]
)
def test_a_full_disk_stops_a_run_and_room_lets_it_end(workshop, undisturbed, tmp_path, kibibytes):
    folder = tmp_path / "disk"
    with small_disk(folder, kibibytes):
        stopped = workshop.call("run", workshop.model, cwd=folder)
        if stopped.code == 0:  # the rows are in the catalogue's log, for which there was just room
            assert content_of(folder / "heads.duckdb") == undisturbed.content
        else:
            assert stopped.code == 1
            assert re.search("space|disk is full", stopped.sentence())
        assert (stopped.code == 0) == (kibibytes > 4000)
        assert not list(folder.rglob(".unfinished-*"))
        grow(folder, 64_000)
        resumed = workshop.call("run", workshop.model, cwd=folder)
        assert resumed.code == 0, resumed.stderr
        assert content_of(folder / "heads.duckdb") == undisturbed.content
        assert left_behind(folder) == []


@pytest.mark.parametrize("kibibytes", [8, pytest.param(100, marks=SLOW), pytest.param(1000, marks=SLOW)])
def test_a_limit_on_the_size_of_a_file_is_the_same(workshop, undisturbed, tmp_path, kibibytes):
    hook = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kibibytes << 10}, -1))"
    stopped = workshop.call("run", workshop.model, cwd=tmp_path, hook=hook)
    assert stopped.code == 1, stopped.stderr
    assert re.search("space|disk is full", stopped.sentence())
    resumed = workshop.call("run", workshop.model, cwd=tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert content_of(tmp_path / "heads.duckdb") == undisturbed.content
    assert left_behind(tmp_path) == []


# A test may run as root, whom permissions do not stop: without its capabilities they do.
POWERLESS = """
import ctypes
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, sets) == 0
"""


def test_a_folder_that_is_read_only(workshop, undisturbed, tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    found = workshop.call("run", workshop.model, cwd=folder, hook=POWERLESS)
    assert found.code == 1
    assert "permission denied" in found.sentence() and "--catalogue" in found.sentence()
    assert list(folder.iterdir()) == []
    elsewhere = workshop.call(
        "run", workshop.model, "--heads", "L0H0", "--catalogue", "../c.duckdb", cwd=folder, hook=POWERLESS
    )
    assert elsewhere.code == 0, elsewhere.stderr


def test_a_catalogue_that_is_read_only(workshop, undisturbed, tmp_path):
    (tmp_path / "heads.duckdb").write_bytes(undisturbed.catalogue.read_bytes())
    (tmp_path / "heads.duckdb").chmod(0o444)
    found = workshop.call("run", workshop.model, "--heads", "L0H0", cwd=tmp_path, hook=POWERLESS)
    assert found.code == 1 and "heads.duckdb" in found.sentence()
    assert left_behind(tmp_path) == []
