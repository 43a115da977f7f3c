"""Heads whose function is known get exactly their labels; a model with random weights gets none."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from data import battery_input
from describe.catalogue import Catalogue
from describe.relations import scored_relations
from describe.subject import load_subject
from eval.battery import job as battery_job
from eval.battery.classes import SUITE_OF
from eval.battery.job import BatteryJob

_path = Path(__file__).with_name("planted.py")
if "battery_planted" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("battery_planted", _path)
    sys.modules["battery_planted"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["battery_planted"])
planted = sys.modules["battery_planted"]

N_HEADS = planted.LAYERS * planted.HEADS
RELATIONS = list(scored_relations())


def rows_of(catalogue, query):
    with Catalogue.open(catalogue) as opened:
        return opened.query(query).rows


def content_of(catalogue):
    with Catalogue.open(catalogue) as opened:
        return opened.digest().whole


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return load_subject(str(planted.save_planted(tmp_path_factory.mktemp("planted"))))


@pytest.fixture(scope="module")
def catalogue(subject, tmp_path_factory):
    path = tmp_path_factory.mktemp("catalogue") / "heads.duckdb"
    assert BatteryJob(subject, RELATIONS, path).run().fresh
    return path


def test_planted_heads_get_exactly_their_labels(catalogue):
    found = rows_of(catalogue, "SELECT head_id, class FROM class_current WHERE passes ORDER BY ALL")
    assert sorted(found) == [
        ("L0H0", "previous_token"),
        ("L1H0", "copying"),
        ("L1H0", "induction_matcher"),
        ("L1H0", "induction_writer"),
        ("L1H1", "copy_suppression"),
        ("L1H1", "duplicate_token"),
        ("L2H1", "copying"),
    ]
    members = dict(rows_of(catalogue, "SELECT class, heads FROM class_members"))
    assert members["copying"] == ["L2H1", "L1H0"] and members["induction_writer"] == ["L1H0"]


def test_a_random_model_gets_no_label(tmp_path):
    subject = load_subject(str(planted.save_planted(tmp_path / "random", random=True)))
    path = tmp_path / "heads.duckdb"
    BatteryJob(subject, RELATIONS, path).run()
    assert rows_of(path, "SELECT head_id, class FROM class_current WHERE passes") == []
    # Of classes whose task it fails the numbers are kept: neither does any of them say something that is not there.
    rows = rows_of(
        path,
        "SELECT count(*), count(passes), count(effect_q), count(*) FILTER (effect_q < 0.05) FROM head_classes",
    )
    assert rows == [(22 * N_HEADS, 14 * N_HEADS, 13, 0)]


def test_every_head_keeps_its_numbers_with_nulls_and_q_values(catalogue):
    tested = [
        name for name, tested in rows_of(catalogue, "SELECT class, tested FROM class_definitions") if tested
    ]
    counts = rows_of(
        catalogue,
        'SELECT class, count(*), count(pattern_score), count(q_value), count("null"), count(passes) '
        "FROM head_classes GROUP BY class",
    )
    assert {name for name, *_ in counts} >= set(tested) and len(tested) > 10
    # Held against their thresholds, since chance says nothing: even attention is nearly all on earlier words.
    without_null = {"copying", "copy_suppression", "prediction_amplifier", "prediction_damper"}
    for name, *numbers in counts:
        assert numbers[:3] == [N_HEADS] * 3, name
        assert numbers[3] == (0 if name in without_null else N_HEADS), name
        assert numbers[4] == (N_HEADS if name in tested else 0), name
    ((cost, control),) = rows_of(
        catalogue,
        "SELECT effect_score, effect_null FROM head_classes WHERE class = 'induction_matcher' AND layer = 1 AND head = 0",
    )
    assert cost > 5 and abs(control) < 0.5  # where nothing repeats it has nothing to do
    # A head that is no candidate has no q of the effect, and so none that could pass.
    assert rows_of(catalogue, "SELECT count(*) FROM head_classes WHERE effect_q IS NULL AND q_value < 1") == [
        (0,)
    ]


def test_every_class_of_the_table_is_there_tested_or_with_the_reason(catalogue):
    rows = rows_of(catalogue, "SELECT class, tested, reason, n_heads FROM class_definitions")
    assert {row[0] for row in rows} == {entry["class"] for entry in battery_input("classes")["classes"]}
    assert all((reason is None) == tested and (n is not None) == tested for _, tested, reason, n in rows)
    reasons = {name: reason for name, _, reason, _ in rows}
    assert "the model answers 0% of the 48 prompts" in reasons["subject_mover"]
    assert "the model reads 128 tokens at most" in reasons["short_context_retrieval"]
    assert set(SUITE_OF) == {e["class"] for e in battery_input("classes")["classes"] if e["testable"]}


def test_where_heads_attend_is_kept(catalogue):
    rows = rows_of(
        catalogue,
        "SELECT layer, head, previous, near, near_chance, first, distance FROM head_attention ORDER BY ALL",
    )
    assert len(rows) == N_HEADS
    by_head = {(layer, head): rest for layer, head, *rest in rows}
    previous, near, chance, first, distance = by_head[0, 0]
    assert previous > 0.95 and near > 0.99 and distance == pytest.approx(1, abs=0.05) and first < 0.05
    even = by_head[2, 1]  # attends to everything alike
    assert even[1] == pytest.approx(even[2], abs=0.02)


def test_a_battery_that_was_stopped_reads_no_suite_twice(subject, catalogue, tmp_path, monkeypatch):
    path, read = tmp_path / "heads.duckdb", []

    class Stopped(Exception):
        pass

    real = battery_job.Reader.read

    def counting(self, suite):
        read.append(suite.name)
        if suite.name == "indirect objects" and read.count(suite.name) == 1:
            raise Stopped
        return real(self, suite)

    monkeypatch.setattr(battery_job.Reader, "read", counting)
    with pytest.raises(Stopped):
        BatteryJob(subject, RELATIONS, path).run()
    assert rows_of(path, "SELECT count(*) FROM runs") == [(0,)]
    BatteryJob(subject, RELATIONS, path).run()
    assert read.count("indirect objects") == 2 and all(
        read.count(name) == 1 for name in read if name != "indirect objects"
    )
    assert content_of(path) == content_of(catalogue)
    assert not BatteryJob(subject, RELATIONS, path).run().fresh


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_an_accelerator_finds_the_same_labels(subject, catalogue, tmp_path):
    BatteryJob(subject, RELATIONS, tmp_path / "heads.duckdb", device="cuda").run()
    ask = "SELECT head_id, class FROM class_current WHERE passes ORDER BY ALL"
    assert rows_of(tmp_path / "heads.duckdb", ask) == rows_of(catalogue, ask)


def test_a_quick_battery_does_not_hide_a_whole_one(subject, catalogue, tmp_path):
    path = tmp_path / "heads.duckdb"
    path.write_bytes(catalogue.read_bytes())
    before = content_of(path)
    assert not BatteryJob(subject, RELATIONS, path, quick=True).run().fresh
    assert content_of(path) == before
    alone = tmp_path / "quick.duckdb"
    assert BatteryJob(subject, RELATIONS, alone, quick=True).run().fresh
    labels = rows_of(alone, "SELECT head_id, class FROM class_current WHERE passes ORDER BY ALL")
    assert labels == [
        ("L1H0", "copying"),
        ("L1H0", "induction_writer"),
        ("L1H1", "copy_suppression"),
        ("L2H1", "copying"),
    ]
    ((reason,),) = rows_of(alone, "SELECT reason FROM class_definitions WHERE class = 'induction_matcher'")
    assert "quick" in reason
