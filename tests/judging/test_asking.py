"""Every head is asked about and one draft of it kept: what becomes of claims, abstentions and failures."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from describe.chat import Call, ChatAnswer, ChatRequest, Outcome
from describe.drafting.llm import DraftSettings, HeadEvidence, read_draft
from describe.drafting.rowbook import RowBook
from describe.drafting.rows import Row
from describe.jobs.asking import Asked, Choice, ask_drafts, evidence_of, patterns_json
from describe.jobs.draft_tables import _descriptions, status_of
from describe.records import HeadId

HEADS = [HeadId(0, at) for at in range(4)]
SETTINGS = DraftSettings("drafter", "http://localhost:1/v1", candidates=3)
NO_BOOK = RowBook({}, {}, 0)
ROW = Row("promote", " s", (" t",), 0, 0)


def evidence(head, note=""):
    rows = [Row("promote", f" s{i}", (f" t{i}",), i, i) for i in range(9)]
    return HeadEvidence(head, {"promote": [(0, rows)]}, note=note)


def claim(text="writes nouns", rows=(1, 2, 3), by_source=True):
    pattern = {
        "direction": "promotes",
        "depends_on_source": by_source,
        "inputs": "any token",
        "operation": text,
    }
    patterns = [pattern | {"rows": list(rows), "exceptions": []}]
    return json.dumps({"reasoning": "", "verdict": "pattern", "patterns": patterns})


UNCLEAR = json.dumps({"reasoning": "", "verdict": "unclear", "patterns": []})
SAID = {
    "claim": claim(),
    "unclear": UNCLEAR,
    "unparsed": "I cannot say",
    "bad_rows": claim(rows=(1, 2, 99)),
    **{status: ChatAnswer(status) for status in ("refused", "timeout", "budget", "pending")},
}


def ask(scripted, *heads, controls=(), choose=None, told=lambda *_: None):
    """Ask about heads, each given as what its candidates say."""
    script = [SAID[one] for head in heads for one in head] + [SAID[one] for one in controls]
    settings = dataclasses.replace(SETTINGS, candidates=len(heads[0]))
    asker = scripted(lambda request: script.pop(0))
    found = ask_drafts(
        [evidence(head) for head in HEADS[: len(heads)]],
        {"shuffled_rows": [evidence(HEADS[at], " shuffled") for at in range(len(controls))]},
        NO_BOOK,
        settings,
        asker,
        choose,
        told,
    )
    assert not script
    return found


@pytest.mark.parametrize(
    ("said", "kept", "status"),
    [
        (["claim"], 0, "described"),
        (["unclear"], 0, "unclear"),
        (["unparsed"], 0, "failed"),
        (["refused"], 0, "failed"),
        (["timeout"], 0, "failed"),
        (["budget"], 0, "pending"),
        (["pending"], 0, "pending"),
        (["claim", "claim", "claim"], 0, "described"),
        (["unclear", "claim", "claim"], 1, "described"),
        (["claim", "unclear", "unclear"], 1, "unclear"),
        (["claim", "unclear", "claim", "unclear"], 1, "unclear"),  # half is not most
        (["claim", "unclear"], 1, "unclear"),
        (["unparsed", "claim", "unclear"], 2, "unclear"),
        (["unparsed", "claim", "bad_rows"], 1, "described"),  # failures have no voice
        (["timeout", "unclear", "refused"], 1, "unclear"),
        (["bad_rows", "timeout", "refused"], 0, "failed"),
    ],
)
def test_the_majority_of_the_drafts_that_came_decides(scripted, said, kept, status):
    (head,) = ask(scripted, said).heads
    assert head.kept == kept and status_of(head) == status
    assert head.choice is None and len(head.outcomes) == len(said)
    expected = {"claim": "ok", "unclear": "ok"}
    assert [one.status for one in head.outcomes] == [expected.get(one, one) for one in said]


def chooser(candidate, seen):
    def choose(contests, book):
        assert book is NO_BOOK
        seen.extend((one.head, sorted(one.drafts)) for one in contests)
        return {one.head: Choice(candidate, {candidate: 0.9}, "g") for one in contests[:1]}

    return choose


def test_only_heads_with_several_claims_in_the_majority_are_put_to_the_choice(scripted):
    seen = []
    found = ask(
        scripted,
        ["claim", "unclear", "claim"],
        ["claim", "unclear", "unclear"],
        ["claim", "bad_rows", "timeout"],
        ["claim", "claim", "claim"],
        choose=chooser(2, seen),
    )
    assert seen == [(HEADS[0], [0, 2]), (HEADS[3], [0, 1, 2])]
    assert [one.kept for one in found.heads] == [2, 1, 0, 0]  # the last was not graded: its first claim
    assert [one.choice is None for one in found.heads] == [False, True, True, True]
    assert found.heads[0].choice.figures == {2: 0.9}


def test_without_a_contest_nobody_chooses(scripted):
    def never(contests, book):
        raise AssertionError("nothing to choose")

    assert [one.kept for one in ask(scripted, ["claim"], ["unclear"], choose=never).heads] == [0, 0]


def test_controls_are_counted_where_they_were_answered(scripted):
    controls = ["claim", "unclear", "unparsed", "budget", "claim", "unclear", "unclear"]
    heads = [HEADS[at % 4] for at in range(len(controls))]
    script = [claim(), *[SAID[one] for one in controls]]
    asker = scripted(lambda request: script.pop(0))
    settings = dataclasses.replace(SETTINGS, candidates=1)
    shuffled = [evidence(head, " shuffled") for head in heads]
    kinds = {"shuffled_rows": shuffled, "foreign_targets": []}
    found = ask_drafts([evidence(HEADS[0])], kinds, NO_BOOK, settings, asker, None, lambda *_: None)
    assert found.null_checks == {
        "shuffled_rows": {"heads": 5, "described": 2},
        "foreign_targets": {"heads": 0, "described": 0},
    }
    assert len(found.controls["shuffled_rows"]) == len(controls) and len(found.calls) == 1 + len(controls)
    assert [one.about for one in asker.asked] == ["L0H0", *[f"{head} shuffled" for head in heads]]
    assert [status_of(one) for one in found.heads] == ["described"]


def test_one_kind_of_targets_is_no_false_claim_where_rows_are_shuffled(scripted):
    said = claim(by_source=False)
    settings = dataclasses.replace(SETTINGS, candidates=1)
    kinds = {
        "shuffled_rows": [evidence(HEADS[0], " shuffled")],
        "foreign_targets": [evidence(HEADS[1], " foreign")],
    }
    asker = scripted(lambda request: said)
    found = ask_drafts([evidence(HEADS[0])], kinds, NO_BOOK, settings, asker, None, lambda *_: None)
    assert found.null_checks["shuffled_rows"] == {"heads": 1, "described": 0}
    assert found.null_checks["foreign_targets"] == {"heads": 1, "described": 1}


def test_heads_with_a_draft_still_to_come_are_unfinished(scripted):
    found = ask(
        scripted,
        ["claim", "claim", "claim"],
        ["claim", "claim", "budget"],
        ["pending", "pending", "pending"],
        ["timeout", "unparsed", "refused"],
    )
    assert found.unfinished == [str(HEADS[1]), str(HEADS[2])]
    assert [status_of(one) for one in found.heads] == ["described", "described", "pending", "failed"]


def test_each_head_gets_its_own_answers_and_progress_is_told(scripted):
    told = []
    found = ask(
        scripted,
        ["claim", "unclear"],
        ["unclear", "claim"],
        controls=["claim"],
        told=lambda *a: told.append(a),
    )
    claims = [[bool(one.value.patterns) for one in head.outcomes] for head in found.heads]
    assert claims == [[True, False], [False, True]]
    abouts = [[one.calls[0].request.about for one in head.outcomes] for head in found.heads]
    assert abouts == [["L0H0"] * 2, ["L0H1"] * 2]
    assert told == [("ask", 5, 5)]


def test_evidence_groups_the_drafting_rows_by_cluster_noise_last(book_maker):
    book = book_maker().head(HEADS[0], range(40), lambda place, source: ["t"]).book()
    clusters = {(HEADS[0], "promote"): {-1: range(20), 0: range(20, 25), 3: range(25, 38)}}
    groups = evidence_of(HEADS[0], book, clusters).groups
    assert groups["suppress"] == []
    assert [cluster for cluster, _ in groups["promote"]] == [3, 0, -1]  # the largest first
    drafting = book.split(HEADS[0], "promote", "draft")
    by_cluster = {cluster: {row.place for row in rows} for cluster, rows in groups["promote"]}
    assert set().union(*by_cluster.values()) == {row.place for row in drafting}
    assert by_cluster[0] <= set(range(20, 25)) and by_cluster[3] <= set(range(25, 38))
    assert {row.place for row in drafting if row.place >= 38} <= by_cluster[-1]  # in no cluster


def test_patterns_become_json_that_names_rows_and_kinds(scripted):
    (head,) = ask(scripted, ["claim"]).heads
    (entry,) = json.loads(patterns_json(head.outcome.value.patterns))
    assert entry == {
        "direction": "promote",
        "kind": "row",
        "inputs": "any token",
        "operation_text": "writes nouns",
        "rows": [0, 1, 2],
        "exceptions": [],
    }


@pytest.mark.parametrize("status", ["ok", "budget", "pending", "timeout"])
def test_what_a_choice_took_is_counted_and_an_open_one_leaves_the_head_unfinished(scripted, status):
    request = ChatRequest("detect", "j", (), "", "", "", 1, about="L0H0 candidate 0")
    call = Call(request, "digest", ChatAnswer(status), 0.5, False, 1.0)
    outcome = Outcome(status, [0.5] if status == "ok" else None, [call])

    def choose(contests, book):
        return {HEADS[0]: Choice(0 if status == "ok" else None, {}, "j", [outcome])}

    found = ask(scripted, ["unclear", "claim", "claim"], choose=choose)
    assert call in found.calls and len(found.calls) == 4
    assert found.unfinished == ([str(HEADS[0])] if status in ("budget", "pending") else [])
    assert found.heads[0].kept == (0 if status == "ok" else 1)


def test_another_text_is_another_description(book_of_one):
    plan = SimpleNamespace(run_id="r", options=SimpleNamespace(drafter="m"))
    ids = set()
    for text in ("writes nouns", "writes verbs", "writes nouns"):
        draft = read_draft(ChatAnswer("ok", claim(text)), {at: ROW for at in (1, 2, 3)}, 3)
        own = Asked(HEADS[0], [Outcome("ok", draft)], 0)
        ids.add(_descriptions(plan, own, {}, book_of_one)[0]["description_id"])
    assert len(ids) == 2


@pytest.fixture
def book_of_one():
    return RowBook({(HEADS[0], "promote"): [ROW]}, {(HEADS[0], "promote"): [False]}, 0)
