"""kill -9 at any moment: nothing half-written, and the next try ends with the content of an undisturbed run."""

import itertools
import random
import signal
import time
from collections import Counter

import pytest
from jobs_workshop import content_of, left_behind, rows_of

from describe.catalogue import read_only_query

KILLS = 24
MOST_KILLS = 80
STAGES = ("start", "project", "encode", "claims", "verdict", "store", "clean")  # in order


def stage_of(folder, layers=3):
    """How far a run is, by what it has left on disk so far."""
    (run,) = [*folder.glob("heads.duckdb.runs/[!.]*")] or [None]
    if run is None:
        return "clean" if (folder / "heads.duckdb").exists() else "start"
    if (run / "verdict").exists():
        return "store"
    if len(list(run.glob("draft-*"))) == layers:
        return "verdict"
    if (run / "vectors").exists():
        return "claims"
    if len(list(run.glob("mappings-*"))) == layers:
        return "encode"
    return "project" if any(run.glob("*")) else "start"  # the folder may have gone meanwhile


def whole_or_nothing(folder):
    """A catalogue that a killed run left holds all of the run's rows or none."""
    if not (folder / "heads.duckdb").exists():
        return
    rows = read_only_query(
        folder / "heads.duckdb",
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM heads), (SELECT count(*) FROM mappings)",
    ).rows
    assert rows in ([(0, 0, 0)], [(1, 12, 12 * 2 * 60 * 10)])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_random_moments_of_every_stage(workshop, undisturbed, tmp_path, capsys):
    """Each try is killed a random while after one of the stages before it begins.

    A run is tried again until it ends. When it does before enough kills, another run begins in a new folder.
    """
    chance = random.Random(20)
    hits: Counter[str] = Counter()

    def enough():
        return hits.total() >= KILLS and set(hits) >= set(STAGES)

    runs = 0
    while not enough():
        folder = tmp_path / f"run{runs}"
        folder.mkdir()
        runs += 1
        ended = None
        while ended is None or ended.code == -9:
            ahead = STAGES[STAGES.index(stage_of(folder)) :]
            fewest = min(hits[stage] for stage in ahead)
            wanted = STAGES.index(chance.choice([stage for stage in ahead if hits[stage] == fewest]))
            child = workshop.start("run", workshop.model, "--quiet", cwd=folder)
            while child.running() and STAGES.index(stage_of(folder)) < wanted:
                time.sleep(0.0005)
            time.sleep(10 ** chance.uniform(-3, -0.3))  # some stages take seconds, some milliseconds
            if enough() or ahead == ("clean",) or not child.running():
                ended = child.wait()
            else:
                child.signal(signal.SIGSTOP)  # so that it is killed where it is seen
                at = stage_of(folder)
                ended = child.kill()
                if ended.code == -9:
                    hits[at] += 1
                    whole_or_nothing(folder)
        assert ended.code == 0, ended.stderr
        again = workshop.call("run", workshop.model, cwd=folder)
        assert again.code == 0 and again.stdout.startswith("Nothing to do")
        assert content_of(folder / "heads.duckdb") == undisturbed.content
        assert left_behind(folder) == []
        assert hits.total() < MOST_KILLS, f"no kill met one of the stages: {dict(hits)}"
    with capsys.disabled():
        print(f"\n{hits.total()} kills over {runs} runs: {dict(hits)}")  # noqa: T201


# Every call of Python that changes a name or makes a file raises an audit event: a kill just before the n-th
# of them meets each boundary between two steps exactly, which a kill by the clock only does by luck.
KILL_BEFORE = """
import os, signal, sys
from pathlib import Path
CHANGES = {{"os.mkdir", "os.rename", "os.rmdir", "os.remove"}}
left = {n}
def audit(event, args):
    global left
    if event in CHANGES and ".runs" in str(args[0]) or event in CHANGES and "heads.duckdb" in str(args[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_before_each_change_of_a_name_on_disk(workshop, undisturbed, tmp_path):
    """Try n is killed just before its n-th change; each goes on from what the one before left."""
    kills, folder = 0, tmp_path
    for n in itertools.count(1):
        ended = workshop.call("run", workshop.model, cwd=folder, hook=KILL_BEFORE.format(n=n))
        if ended.code == 0:
            break
        assert ended.code == -9, ended.stderr
        kills += 1
        whole_or_nothing(folder)
    assert kills >= 8
    assert content_of(folder / "heads.duckdb") == undisturbed.content
    assert workshop.call("run", workshop.model, cwd=folder).code == 0
    assert left_behind(folder) == []


def test_a_resumed_run_does_not_do_again_what_is_done(workshop, undisturbed, tmp_path):
    """Once the verdict is there, the rest needs neither the weights' mappings nor the encoder's vectors."""
    child = workshop.start("run", workshop.model, cwd=tmp_path)
    while child.running() and stage_of(tmp_path) != "verdict":
        time.sleep(0.001)
    child.kill()
    assert stage_of(tmp_path) == "verdict"
    hook = """
import numpy, describe.jobs.projecting
numpy.save = None  # as the shard of vectors is made
describe.jobs.projecting.Projector.__init__ = None
"""
    resumed = workshop.call("run", workshop.model, cwd=tmp_path, hook=hook)
    assert resumed.code == 0, resumed.stderr
    assert content_of(tmp_path / "heads.duckdb") == undisturbed.content


def test_a_lost_catalogue_is_made_again_from_nothing(workshop, undisturbed, tmp_path):
    for _ in range(2):
        assert workshop.call("run", workshop.model, "--heads", "L1H1", cwd=tmp_path).code == 0
        assert rows_of(tmp_path / "heads.duckdb", "SELECT count(*) FROM heads") == [(1,)]
        (tmp_path / "heads.duckdb").unlink()


@pytest.mark.parametrize("left", [[".new"], [".new", ".new.wal"], [".new.wal"]])
def test_a_catalogue_half_made_by_a_killed_process_is_no_hindrance(tmp_path, left):
    for end in left:
        (tmp_path / f".heads.duckdb{end}").write_bytes(b"half")
    content_of(tmp_path / "heads.duckdb")
    assert left_behind(tmp_path) == []
