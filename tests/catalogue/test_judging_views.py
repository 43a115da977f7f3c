"""What judges said in the catalogue: the step from an older schema, and the views over ratings and detections."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from describe.catalogue.connect import connect
from describe.catalogue.migrations import create, migrate, packaged_migrations
from describe.drafting.rules.verdict import sentence_of
from describe.jobs.tables import write_table
from eval.judging.tables import ANCHORS, DETECTIONS, RATINGS

STEPS = packaged_migrations()
BEFORE = [step for step in STEPS if step.version < 9]
ids = itertools.count()


def at(day):
    return datetime(2026, 1, day, tzinfo=UTC)


def clause(text, hits, n, null):
    return sentence_of(SimpleNamespace(hits=hits, n_heldout=n, null=null), text)


OLD = {
    "one": (f"{clause('Writes plurals', 9, 12, 0.05)}. Explains 75% of its held-out rows.", "Writes plurals"),
    "two": (
        f"{clause('Writes plurals (of nouns)', 30, 30, 0.0)}; {clause('suppresses names whatever it reads', 1, 3, 1.0)}"
        ". Explains 100% of its held-out rows.",
        "Writes plurals (of nouns); suppresses names whatever it reads",
    ),
    "cluster": (clause("writes 3 of 4 letters", 7, 8, 0.125), "writes 3 of 4 letters"),
    "none": (None, None),
}


def test_an_older_catalogue_gets_its_claims_without_the_figures(tmp_path):
    path = tmp_path / "heads.duckdb"
    create(path, BEFORE)
    con = connect(path)
    try:
        con.execute(
            "INSERT INTO runs (run_id, kind, model, status, started_at)"
            " VALUES ('r', 'describe', 'm', 'complete', now()::TIMESTAMP)"
        )
        for name, (text, _) in OLD.items():
            con.execute(
                "INSERT INTO descriptions (description_id, run_id, model, layer, head, direction, status, pattern_text, drafter)"
                " VALUES (?, 'r', 'm', 0, 0, 'promote', ?, ?, 'rules')",
                [name, "described" if text else "unclear", text],
            )
        migrate(con, path, STEPS)
        found = con.execute("SELECT description_id, pattern_text, claim_text FROM descriptions").fetchall()
        assert {name: (text, claim) for name, text, claim in found} == OLD
        assert con.execute("SELECT count(*) FROM head_catalogue").fetchone() == (0,)
        for view in ("judge_drift", "judge_agreement", "detection_current", "rating_current", "candidates"):
            assert con.execute(f"SELECT * FROM {view}").fetchall() == []
    finally:
        con.close()


@pytest.fixture
def filled_catalogue(catalogue, make, tmp_path):
    """An open catalogue with one describe run."""
    catalogue.ingest_run(make.run(started_at=at(1)), make.shards(tmp_path / "described"))
    return catalogue


@pytest.fixture
def store(filled_catalogue, make, tmp_path):
    """Stores a judging run of a day: rows of ratings, detections and anchor ratings."""

    def stored(day, status="complete", **tables):
        run_id = f"judged {next(ids)}"
        schemas = {"ratings": RATINGS, "detections": DETECTIONS, "anchor_ratings": ANCHORS}
        files = {}
        for name, rows in tables.items():
            files[name] = [tmp_path / f"{run_id} {name}.parquet"]
            write_table(files[name][0], rows, schemas[name])
        run = make.run(run_id, kind="judge", started_at=at(day), status=status)
        assert filled_catalogue.ingest_run(run, files, replace=True)
        return run_id

    return stored


def rating(rater, plausibility, day=1, description_id="d-0-0", status="rated", control=None, kind="llm"):
    return {
        "rating_id": str(next(ids)),
        "description_id": description_id,
        "layer": 0,
        "head": 0,
        "rater_kind": kind,
        "rater": rater,
        "plausibility": plausibility,
        "status": status,
        "is_control": control is not None,
        "control": control,
        "rated_at": at(day),
    }


def answer(catalogue, query):
    return catalogue.query(query).rows


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_that_of_scikit_learn(filled_catalogue, store, seed):
    generator = np.random.default_rng(seed)
    a = generator.integers(1, 6, 30)
    b = np.clip(a + generator.integers(-2, 3, 30), 1, 5) if seed else generator.integers(1, 6, 30)
    ratings = [
        rating(judge, int(value), description_id=f"d{i}")
        for judge, values in (("b-judge", b), ("a-judge", a))
        for i, value in enumerate(values)
    ]
    noise = [
        rating("a-judge", 5, description_id="only one judge"),
        *[rating(judge, value, control="x") for judge, value in (("a-judge", 1), ("b-judge", 5))],
        rating("ann", 5, description_id="d0", kind="human"),
        rating("a-judge", None, description_id="failed", status="refused"),
        rating("b-judge", 1, description_id="failed"),
    ]
    store(2, ratings=[*ratings, *noise])
    ((judge, other, n, exact, within, bias, kappa),) = answer(
        filled_catalogue,
        "SELECT judge, other, n, exact, within_one, bias, weighted_kappa FROM judge_agreement",
    )
    assert (judge, other, n) == ("a-judge", "b-judge", 30)
    assert exact == pytest.approx(np.mean(a == b)) and within == pytest.approx(np.mean(abs(a - b) <= 1))
    assert bias == pytest.approx(np.mean(a) - np.mean(b))
    assert kappa == pytest.approx(cohen_kappa_score(a, b, weights="quadratic", labels=[1, 2, 3, 4, 5]))


def test_agreement_at_its_ends(filled_catalogue, store):
    pairs = {("a", "b"): [(1, 1), (5, 5)], ("c", "d"): [(1, 5), (5, 1)], ("e", "f"): [(3, 3), (3, 3)]}
    ratings = [
        rating(judge, value, description_id=f"{judges}{i}")
        for judges, values in pairs.items()
        for i, both in enumerate(values)
        for judge, value in zip(judges, both, strict=True)
    ]
    store(2, ratings=ratings)
    query = "SELECT judge, weighted_kappa, exact FROM judge_agreement ORDER BY judge"
    assert answer(filled_catalogue, query) == [("a", 1.0, 1.0), ("c", -1.0, 0.0), ("e", None, 1.0)]


def test_a_judges_failure_hides_no_rating_and_a_persons_last_word_stands(filled_catalogue, store):
    store(
        2,
        ratings=[
            rating("judge", 2, 1),
            rating("judge", 4, 2),
            rating("judge", None, 3, status="refused"),
            rating("judge", 1, 4, control="another head's description"),
            rating("mute", None, 1, status="timeout"),
            rating("mute", None, 2, status="refused"),
            rating("ann", 5, 1, kind="human"),
            rating("ann", None, 2, kind="human", status="withdrawn"),
        ],
    )
    query = "SELECT rater, is_control, plausibility, status FROM rating_current ORDER BY ALL"
    assert answer(filled_catalogue, query) == [
        ("ann", False, None, "withdrawn"),
        ("judge", False, 4, "rated"),
        ("judge", True, 1, "rated"),
        ("mute", False, None, "refused"),
    ]
    front = (
        "SELECT plausibility_llm, plausibility_human, n_ratings FROM head_catalogue WHERE head_id = 'L0H0'"
    )
    assert answer(filled_catalogue, front) == [(4.0, None, 1)]


def anchor(name, kind, plausibility, judge="judge", status="rated"):
    return {
        "judge": judge,
        "anchor": name,
        "kind": kind,
        "plausibility": plausibility,
        "true_fits": 20,
        "status": status,
        "anchors_digest": "a",
        "prompt_digest": "p",
        "rated_at": at(1),
    }


def test_drift_has_a_row_a_run_and_judge(filled_catalogue, store):
    first = [
        anchor("x", "right", 5),
        anchor("y", "right", 3),
        anchor("x", "wrong", 1),
        anchor("y", "wrong", 4),
        anchor("x", "narrow", 3),
        anchor("x", "vague", 2),
        anchor("z", "nothing", 2),
        anchor("y", "vague", None, status="refused"),
        anchor("y", "narrow", None, status="unparsed"),
        anchor("x", "right", 1, judge="other"),
    ]
    store(2, anchor_ratings=first)
    store(3, anchor_ratings=[anchor("x", "right", 4), anchor("z", "nothing", 1)])
    columns = "judge, started_at::DATE::VARCHAR, n, n_failed, right_mean, narrow_mean, vague_mean"
    columns += ", wrong_mean, nothing_mean, accuracy"
    assert answer(filled_catalogue, f"SELECT {columns} FROM judge_drift ORDER BY ALL") == [
        ("judge", "2026-01-02", 9, 2, 4.0, 3.0, 2.0, 2.5, 2.0, 3 / 5),
        ("judge", "2026-01-03", 2, 0, 4.0, None, None, None, 1.0, 1.0),
        ("other", "2026-01-02", 1, 0, 1.0, None, None, None, None, 0.0),
    ]


def detection(grader, auc, method="list", description_id="d-0-0", status="ok"):
    return {
        "description_id": description_id,
        "layer": 0,
        "head": 0,
        "grader": grader,
        "n": 24,
        "auc": auc,
        "null_auc": None if auc is None else auc / 2,
        "status": status,
        "method": method,
    }


def test_the_newest_detection_stands_but_no_failure_hides_a_figure(filled_catalogue, store):
    store(
        4, detections=[detection("judge", 0.9), detection("judge", 0.8, "one"), detection("m", 0.6, "cosine")]
    )
    store(2, detections=[detection("judge", 0.1), detection("late", None, status="refused")])
    store(6, detections=[detection("judge", None, status="timeout"), detection("m", 0.7, "cosine")])
    store(5, detections=[detection("late", None, status="unparsed")])
    query = "SELECT grader, method, auc, status FROM detection_current ORDER BY ALL"
    assert answer(filled_catalogue, query) == [
        ("judge", "list", 0.9, "ok"),
        ("judge", "one", 0.8, "ok"),
        ("late", "list", None, "unparsed"),
        ("m", "cosine", 0.7, "ok"),
    ]


def test_the_front_door_prefers_a_chat_model_to_the_encoder(filled_catalogue, store):
    columns = "SELECT head_id, detection_auc, detection_null, detection_grader FROM head_catalogue"

    def front(head_id="L0H0"):
        return answer(filled_catalogue, f"{columns} WHERE head_id = '{head_id}'")[0][1:]

    assert front() == (None, None, None)
    store(2, detections=[detection("m", 0.75, "cosine"), detection("m", 0.5, "cosine", "d-0-1")])
    assert front() == (0.75, 0.375, "m")
    store(3, detections=[detection("judge", None, status="refused")])
    assert front() == (0.75, 0.375, "m")  # no figure, no word
    store(4, detections=[detection("judge", 0.5)])
    assert front() == (0.5, 0.25, "judge")
    store(5, detections=[detection("m", 1.0, "cosine")])
    assert front() == (0.5, 0.25, "judge")
    assert front("L0H1") == (0.5, 0.25, "m") and front("L0H2") == (None, None, None)
    assert len(answer(filled_catalogue, columns)) == 6  # one row a head, whoever grades


def test_the_same_judging_run_again_takes_the_place_of_itself(filled_catalogue, make, tmp_path):
    for auc in (None, 0.8):
        path = tmp_path / f"{auc}.parquet"
        write_table(path, [detection("judge", auc, status="ok" if auc else "timeout")], DETECTIONS)
        run = make.run("again", kind="judge", started_at=at(2))
        assert filled_catalogue.ingest_run(run, {"detections": [path]}, replace=True)
    assert answer(filled_catalogue, "SELECT auc, status FROM detections") == [(0.8, "ok")]
    assert not filled_catalogue.ingest_run(run, {"detections": [path]})
