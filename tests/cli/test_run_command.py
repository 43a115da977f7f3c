"""`describe run` from weights to rows, through the real command line with the real encoder."""

import json
import os
import pty
import shutil
import subprocess
import sys

from jobs_workshop import left_behind, rows_of

N_HEADS = 12


def test_a_run_describes_every_head_and_says_so(undisturbed, workshop):
    report = json.loads(undisturbed.finished.stdout)
    assert undisturbed.finished.stderr == ""
    assert report["fresh"] and report["failed"] == 0 and report["failed_heads"] == []
    assert report["described"] + report["unclear"] == N_HEADS
    rows = rows_of(
        undisturbed.catalogue,
        "SELECT layer, head, head_id, status, description FROM head_catalogue ORDER BY 1, 2",
    )
    assert [row[:3] for row in rows] == [(at, h, f"L{at}H{h}") for at in range(3) for h in range(4)]
    assert {status for *_, status, _ in rows} == {"described", "unclear"}
    # the heads that were built to copy are found, and nothing is said of those that are random
    described = {head: text for _, _, head, status, text in rows if status == "described"}
    assert set(described) == {"L1H0", "L1H1", "L2H2"}
    assert all("very token" in text for text in described.values())
    assert report["described"] == 3
    counts = rows_of(
        undisturbed.catalogue,
        "SELECT count(*), count(DISTINCT (layer, head, direction)), min(target_rank), max(source_rank) FROM mappings",
    )
    assert counts == [(N_HEADS * 2 * 60 * 10, N_HEADS * 2, 0, 59)]
    assert left_behind(undisturbed.catalogue.parent) == []


def test_a_second_run_finds_nothing_to_do(undisturbed, workshop, tmp_path):
    shutil.copy(undisturbed.catalogue, tmp_path / "heads.duckdb")
    hook = "import describe.jobs.projecting as p; p.Projector.layers = None"  # any projection would fail
    again = workshop.call("run", workshop.model, cwd=tmp_path, hook=hook)
    assert again.code == 0, again.stderr
    assert again.stdout.startswith("Nothing to do: run ")
    from jobs_workshop import content_of

    assert content_of(tmp_path / "heads.duckdb") == undisturbed.content
    assert left_behind(tmp_path) == []


def test_some_heads_alone_have_the_mappings_they_have_in_the_whole_run(undisturbed, workshop, tmp_path):
    columns = "layer, head, direction, source_rank, source_id, target_rank, target_id, logit, z, saliency"
    for name, options, where in (
        ("a.duckdb", ["--heads", "L2H3,L0H1"], "(layer, head) IN ((0, 1), (2, 3))"),
        ("b.duckdb", ["--layers", "1-2"], "layer IN (1, 2)"),
    ):
        found = workshop.call("run", workshop.model, *options, "--catalogue", name, cwd=tmp_path)
        assert found.code == 0, found.stderr
        own = rows_of(tmp_path / name, f"SELECT {columns} FROM mappings ORDER BY ALL")
        whole = rows_of(undisturbed.catalogue, f"SELECT {columns} FROM mappings WHERE {where} ORDER BY ALL")
        assert own == whole and own
        heads = rows_of(tmp_path / name, "SELECT DISTINCT layer, head FROM mappings ORDER BY ALL")
        assert rows_of(tmp_path / name, "SELECT layer, head FROM heads ORDER BY ALL") == heads


def test_a_partial_run_stands_beside_a_whole_one(undisturbed, workshop, tmp_path):
    shutil.copy(undisturbed.catalogue, tmp_path / "heads.duckdb")
    assert workshop.call("run", workshop.model, "--heads", "L1H1", cwd=tmp_path).code == 0
    selections = rows_of(
        tmp_path / "heads.duckdb", "SELECT selection FROM runs WHERE kind = 'describe' ORDER BY started_at"
    )
    assert selections == [(None,), ("L1H1",)]
    assert rows_of(tmp_path / "heads.duckdb", "SELECT count(*) FROM head_catalogue") == [(N_HEADS,)]


def test_a_dry_run_writes_nothing_at_all(undisturbed, workshop, tmp_path):
    plan = workshop.call("run", workshop.model, "--dry-run", "--json", cwd=tmp_path)
    assert plan.code == 0, plan.stderr
    found = json.loads(plan.stdout)
    assert found["heads"] == N_HEADS and found["layers_to_project"] == 3 and not found["complete"]
    assert list(tmp_path.iterdir()) == []

    copy = tmp_path / "heads.duckdb"
    shutil.copy(undisturbed.catalogue, copy)
    before = copy.read_bytes(), copy.stat().st_mtime_ns
    done = workshop.call("run", workshop.model, "--dry-run", cwd=tmp_path)
    assert done.code == 0 and done.stdout.startswith("Nothing to do: run ")
    assert (copy.read_bytes(), copy.stat().st_mtime_ns) == before
    assert left_behind(tmp_path) == []
    part = workshop.call("run", workshop.model, "--heads", "L0H0,L0H1", "--dry-run", cwd=tmp_path)
    assert part.stdout.startswith("Would describe 2 heads of tiny (1 layers to project) into heads.duckdb")


def test_quiet_leaves_the_report_and_nothing_else(workshop, tmp_path):
    found = workshop.call("run", workshop.model, "--heads", "L0H0", "--quiet", cwd=tmp_path)
    assert found.code == 0 and found.stderr == ""
    assert "heads described" in found.stdout


def test_stdout_is_clean_for_pipes_and_a_bar_is_drawn_on_a_terminal(workshop, tmp_path):
    """A fresh process as a user starts it: stdout is a pipe into json.tool, stderr is a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "describe", "run", str(workshop.model), "--heads", "L0H0", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
            drawn += part
        piped = subprocess.run([sys.executable, "-m", "json.tool"], stdin=process.stdout, capture_output=True)
    os.close(ours)
    assert process.returncode == 0, drawn
    assert piped.returncode == 0 and json.loads(piped.stdout)["fresh"]
    for stage in ("saliency", "mappings", "encode", "draft"):
        assert stage in drawn.decode()


def test_one_failing_head_is_a_status_and_the_others_are_done(undisturbed, workshop, tmp_path):
    hook = """
from describe.drafting.rules.drafter import RulesDrafter
claims = RulesDrafter.claims
def failing(self, mappings):
    if str(mappings.head) == "L0H2":
        raise ZeroDivisionError("planted")
    return claims(self, mappings)
RulesDrafter.claims = failing
"""
    found = workshop.call("run", workshop.model, cwd=tmp_path, hook=hook)
    assert found.code == 3
    assert found.sentence() == "1 head failed: L0H2."
    catalogue = tmp_path / "heads.duckdb"
    query = "SELECT layer, head, status FROM head_catalogue WHERE (layer, head) != (0, 2) ORDER BY ALL"
    assert rows_of(catalogue, query) == rows_of(undisturbed.catalogue, query)
    failed = rows_of(catalogue, "SELECT layer, head, error FROM heads WHERE status = 'failed'")
    assert failed == [(0, 2, "ZeroDivisionError: planted")]
    assert rows_of(catalogue, "SELECT n_failed, status FROM runs WHERE kind = 'describe'") == [
        (1, "complete")
    ]
    assert rows_of(catalogue, "SELECT count(*) FROM descriptions WHERE (layer, head) = (0, 2)") == [(0,)]
    again = workshop.call("run", workshop.model, "--json", cwd=tmp_path)  # says so again, and still exits 3
    assert again.code == 3 and json.loads(again.stdout)["failed_heads"] == ["L0H2"]
    assert left_behind(tmp_path) == []


def test_what_fails_for_all_heads_is_an_error_and_no_head_is_blamed(workshop, tmp_path):
    hook = """
from describe.encoders import SentenceEncoder
from describe.errors import InputError
def encode(self, texts):
    raise InputError("The sentence encoder cannot be loaded: planted.")
SentenceEncoder.encode = encode
"""
    found = workshop.call("run", workshop.model, cwd=tmp_path, hook=hook)
    assert found.code == 2
    assert found.sentence() == "The sentence encoder cannot be loaded: planted."
    assert left_behind(tmp_path) == ["heads.duckdb.runs"]  # the projections, to go on from
    assert not (tmp_path / "heads.duckdb").exists()
