"""Shards are there wholly or not at all, whatever happens to the process that makes them."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from describe.errors import DescribeError
from describe.jobs.shards import ShardStore


@pytest.fixture
def store(tmp_path):
    return ShardStore(tmp_path / "heads.duckdb", "run1")


def fill(folder):
    (folder / "a.txt").write_text("whole")


def test_a_shard_is_made_once_and_removed_with_its_run(store):
    with store.owned():
        assert not store.has("one")
        assert (store.make("one", fill) / "a.txt").read_text() == "whole"
        assert store.has("one")
        store.make("one", lambda folder: pytest.fail("made a second time"))
        store.remove()
        assert not store.has("one")
    assert not store.root.exists()


def test_shards_survive_an_error_and_the_unfinished_one_does_not(store):
    def fails(folder):
        fill(folder)
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"), store.owned():
        store.make("one", fill)
        store.make("two", fails)
    assert [path.name for path in store.folder.iterdir()] == ["one"]


def test_a_full_disk_is_one_sentence(store):
    def fails(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        pytest.raises(DescribeError, match=r"no space left on device.*run the same command again"),
        store.owned(),
    ):
        store.make("one", fails)
    assert not store.root.exists()


def test_a_missing_folder_is_not_made(tmp_path):
    with (
        pytest.raises(DescribeError, match="cannot be written"),
        ShardStore(tmp_path / "no" / "x", "r").owned(),
    ):
        pytest.fail("entered")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_one_sentence(store):
    store.root.write_text("not ours")
    with pytest.raises(DescribeError, match="cannot be written"), store.owned():
        pytest.fail("entered")
    assert store.root.read_text() == "not ours"


def test_two_owners_of_one_run_are_refused_and_of_two_runs_are_not(store, tmp_path):
    with store.owned():
        with pytest.raises(DescribeError, match="Another process is at work on this very run"), store.owned():
            pytest.fail("entered twice")
        other = ShardStore(tmp_path / "heads.duckdb", "run2")
        with other.owned():
            other.make("one", fill)
            other.remove()
        assert store.root.is_dir()
        store.make("one", fill)
    assert store.has("one")


def test_what_a_killed_owner_left_is_swept_and_its_lock_is_gone(store, tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from describe.jobs.shards import ShardStore
store = ShardStore(Path({str(tmp_path / "heads.duckdb")!r}), "run1")
def half(folder):
    (folder / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
with store.owned():
    store.make("one", lambda folder: (folder / "a.txt").write_text("whole"))
    store.make("two", half)
"""
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    assert store.has("one") and not store.has("two")
    assert len(list(store.folder.iterdir())) == 2  # the whole one and what is unfinished
    with store.owned():
        assert [path.name for path in store.folder.iterdir()] == ["one"]


def test_a_removal_cut_short_leaves_no_half_shard(store, monkeypatch):
    import describe.jobs.shards as shards

    with store.owned():
        store.make("one", fill)
        with monkeypatch.context() as patched:
            patched.setattr(shards.shutil, "rmtree", lambda *args, **kwargs: None)  # killed right here
            store.remove()
        assert not store.has("one")
    with ShardStore(store.root.with_name("heads.duckdb"), "another").owned():
        pass
    assert not store.root.exists()


def test_many_threads_taking_turns_never_share_a_run(tmp_path):
    inside, made, errors = [], [], []

    def work():
        store = ShardStore(tmp_path / "heads.duckdb", "run1")
        for _ in range(60):
            try:
                with store.owned():
                    inside.append(1)
                    if len(inside) > 1:
                        errors.append("two owners at once")
                    made.append((store.make("one", fill) / "a.txt").read_text())
                    inside.pop()  # before the removal, which lets the next owner in
                    store.remove()
            except DescribeError as error:
                if "Another process" not in str(error):
                    errors.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and set(made) == {"whole"}
    assert list(tmp_path.iterdir()) == []
