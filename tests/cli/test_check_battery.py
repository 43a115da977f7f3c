"""`describe check --only battery` on planted heads, in real processes; and in the tiny model's catalogue."""

import importlib.util
import sys
from pathlib import Path

import pytest

_folder = Path(__file__).parents[1]
for _name, _path in (
    ("jobs_workshop", _folder / "jobs" / "workshop.py"),
    ("battery_planted", _folder / "battery" / "planted.py"),
):
    if _name not in sys.modules:
        _spec = importlib.util.spec_from_file_location(_name, _path)
        sys.modules[_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_name])
shop, planted = sys.modules["jobs_workshop"], sys.modules["battery_planted"]


@pytest.fixture(scope="module")
def checked(workshop, tmp_path_factory):
    """A catalogue that holds nothing but the battery of the planted model."""
    folder = tmp_path_factory.mktemp("checked")
    planted.save_planted(folder / "planted")
    found = workshop.call("check", "planted", "--only", "battery", cwd=folder)
    assert found.code == 0, found.stderr
    return folder, found


def test_classes_are_printed_with_their_heads_and_what_was_not_tested(checked):
    _, found = checked
    lines = {line.split()[0]: line.split()[1:] for line in found.stdout.splitlines() if line.strip()}
    assert lines["induction_writer"] == ["1", "L1H0"] and lines["copying"] == ["2", "L2H1", "L1H0"]
    assert lines["previous_token"] == ["1", "L0H0"] and lines["anti_induction"] == ["0"]
    assert "letter_mover" not in lines
    assert "Not tested: letter_mover (the model answers" in found.stdout
    assert "short_context_retrieval (the model reads 128 tokens at most" in found.stdout


def test_a_second_time_there_is_nothing_to_do(workshop, checked):
    folder, first = checked
    before = shop.content_of(folder / "heads.duckdb")
    again = workshop.call("check", "planted", "--only", "battery", cwd=folder)
    assert again.code == 0 and "nothing to do" in again.stdout
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert shop.content_of(folder / "heads.duckdb") == before


def test_a_killed_battery_goes_on_to_the_same_content(workshop, checked, tmp_path):
    (tmp_path / "planted").symlink_to(checked[0] / "planted")
    child = workshop.start("check", "planted", "--only", "battery", cwd=tmp_path)
    runs = tmp_path / "heads.duckdb.runs"
    while child.running() and not list(runs.glob("*/texts")):
        pass
    assert child.kill().code < 0
    (kept,) = runs.iterdir()
    assert not (kept / "verdicts").exists()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("[!.]*")}
    assert "repeated-words" in before
    done = workshop.call("check", "planted", "--only", "battery", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert shop.content_of(tmp_path / "heads.duckdb") == shop.content_of(checked[0] / "heads.duckdb")
    assert shop.left_behind(tmp_path) == ["planted"]


def test_labels_reach_the_front_door_and_the_card(workshop, checked, tmp_path):
    (tmp_path / "planted").symlink_to(checked[0] / "planted")
    (tmp_path / "heads.duckdb").write_bytes((checked[0] / "heads.duckdb").read_bytes())
    found = workshop.call("run", "planted", cwd=tmp_path)
    assert found.code == 0, found.stderr
    front = dict(shop.rows_of(tmp_path / "heads.duckdb", "SELECT head_id, head_classes FROM head_catalogue"))
    assert len(front) == planted.LAYERS * planted.HEADS
    assert front["L1H1"] == ["copy_suppression", "duplicate_token"] and front["L0H1"] == []
    card = workshop.call("show", "planted", "L1H1", cwd=tmp_path).stdout
    assert "Class copy_suppression: attention" in card and "Class duplicate_token: attention 1.00" in card
    assert "induction" not in card


def test_a_model_that_reads_few_tokens_is_told_so(workshop, tmp_path):
    found = workshop.call("check", workshop.model, "--only", "battery", cwd=tmp_path)
    assert found.code == 0, found.stderr
    assert "the model reads 32 tokens at most" in found.stdout
    rows = shop.rows_of(
        tmp_path / "heads.duckdb", "SELECT tested, reason FROM class_definitions WHERE suite = 'texts'"
    )
    assert rows and all(not tested and "32 tokens" in reason for tested, reason in rows)


def test_no_catalogue_is_made_for_other_parts(workshop, tmp_path):
    found = workshop.call("check", workshop.model, "--only", "battery,agreement", cwd=tmp_path)
    assert found.code == 2 and "There is no catalogue" in found.sentence()
    assert shop.left_behind(tmp_path) == []
