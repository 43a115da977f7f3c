"""What one judge is asked: each claim's own rows, controls and nulls by heads that are not in the trial, each once."""

from __future__ import annotations

import json

import pytest

from describe.records import HeadId
from eval.judging.claims import Claim
from eval.judging.foils import Trials, TrialSettings
from eval.judging.judges import OTHER_HEAD, Judge, JudgeSettings, judged_rows

SPLITS = ("validation", "test")


def claim(at, text=None, directions=("promote",), cluster=None, sources=None):
    head = HeadId(at // 4, at % 4)
    name = f"d{at}" if cluster is None else f"d{at}c{cluster}"
    direction = directions[0]
    words = text or f"writes things of head {at}"
    return Claim(name, head, cluster, direction, directions, words, True, "rules", SPLITS, (), sources)


@pytest.fixture
def claims():
    return [claim(at) for at in range(12)]


@pytest.fixture
def trials(wide_book, claims):
    maker = Trials(wide_book, TrialSettings(rows=6))
    return {one.description_id: maker.make(one.head, one.directions, one.splits) for one in claims}


def answer(request):
    if request.purpose == "judge":
        reply = {"reasoning": "", "fitting_rows": [1], "pattern_present": "yes"}
        return json.dumps(reply | {"description_fits": "yes", "plausibility": 4})
    rows = request.messages[1].content.split("<rows>")[1].count("\n[")
    return json.dumps({"rows": [{"row": at + 1, "likelihood": at} for at in range(rows)]})


def judge(scripted, claims, trials, book, **settings):
    asker = scripted(answer)
    return asker, Judge("judge", asker, JudgeSettings(**settings), "run").judge(
        claims, trials, book, lambda *_: None
    )


def test_every_description_is_rated_and_detected_beside_its_null(scripted, claims, trials, wide_book):
    asker, found = judge(scripted, claims, trials, wide_book, anchors=False, controls=0.5)
    own = [one for one in found.ratings if one.control is None]
    assert [one.claim for one in own] == claims and len(found.detections) == len(claims)
    controls = [one for one in found.ratings if one.control == OTHER_HEAD]
    assert len(controls) == 6 and all(one.shown != one.claim.text for one in controls)
    assert all(one.detection.status == one.null.status == "ok" for one in found.detections)
    assert len(asker.asked) == len(found.outcomes) == 12 + 6 + 2 * 12


def test_no_null_is_by_a_head_whose_rows_are_in_the_trial(scripted, claims, trials, wide_book):
    _, found = judge(scripted, claims, trials, wide_book, anchors=False, controls=0)
    for one in found.detections:
        assert one.null_claim.head not in {item.head for item in one.trial.items}


def test_without_such_a_head_there_is_no_null(scripted, claims, trials, wide_book):
    near = {item.head for item in trials["d0"].items}
    few = [one for one in claims if one.head in near]
    _, found = judge(scripted, few, trials, wide_book, anchors=False, controls=0)
    (own,) = [one for one in found.detections if one.claim.description_id == "d0"]
    assert own.null_claim is None and own.null.auc is None and own.detection.auc is not None


def test_rows_of_each_direction_that_a_claim_speaks_of_are_shown_and_no_drafting_rows(wide_book):
    both = claim(0, directions=("promote", "suppress"))
    rows = judged_rows(both, wide_book, 30)
    assert {row.direction for row in rows} == {"promote", "suppress"} and len(rows) <= 30
    held = {
        row.source_id
        for at in both.directions
        for row in wide_book.split(both.head, at, "validation", "test")
    }
    assert {row.source_id for row in rows} <= held
    assert len([row for row in rows if row.direction == "promote"]) <= 15


def test_a_clusters_description_is_judged_by_the_clusters_rows(wide_book):
    sources = frozenset(row.source_id for row in wide_book.rows[HeadId(0, 0), "promote"][::2])
    own = claim(0, cluster=0, sources=sources)
    rows = judged_rows(own, wide_book, 30)
    assert rows and {row.source_id for row in rows} <= sources
    trial = Trials(wide_book, TrialSettings()).make(own.head, own.directions, own.splits, sources=sources)
    assert {trial.items[at].row.source_id for at in trial.of("own")} <= sources
    assert trial.of("own") and not trial.of("permuted")
    assert all(trial.items[at].head != own.head for at in trial.foils)


def test_replies_are_as_long_as_was_asked_for(scripted, claims, trials, wide_book):
    asker, _ = judge(scripted, claims[:3], trials, wide_book, controls=0, reply_tokens=5000)
    assert {one.max_tokens for one in asker.asked} == {5000} and len(asker.asked) > 52
