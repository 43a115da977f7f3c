"""A reply becomes a draft that names the head's own rows, or none at all."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.chat import ChatAnswer, ReplyError
from describe.drafting.llm import (
    NOISE,
    DraftSettings,
    HeadEvidence,
    LlmDraft,
    Pattern,
    draft_question,
    read_draft,
)
from describe.drafting.rows import VERB, Row
from describe.records import DIRECTIONS, HeadId

SETTINGS = DraftSettings("drafter", "http://localhost:1/v1")
NUMBERED = {
    number: Row("promote" if number <= 6 else "suppress", f" s{number}", (" t",), place=100 + number)
    for number in range(1, 11)
}


def pattern(rows, direction="promotes", exceptions=(), **more):
    return {
        "direction": direction,
        "depends_on_source": True,
        "inputs": "nouns",
        "operation": "writes the plural of the noun it reads",
        "rows": list(rows),
        "exceptions": list(exceptions),
    } | more


def reply(*patterns, verdict="pattern"):
    return json.dumps({"reasoning": "r", "verdict": verdict, "patterns": list(patterns)})


def read(text, min_rows=3, numbered=NUMBERED):
    return read_draft(ChatAnswer("ok", text), numbered, min_rows)


def refused(text, **more):
    with pytest.raises(ReplyError) as caught:
        read(text, **more)
    assert str(caught.value)
    return caught.value.status


def test_a_draft_names_the_rows_by_their_places():
    draft = read(reply(pattern([3, 1, 2, 3], exceptions=[5, 2, 5]), pattern([8, 9, 10], "suppresses")))
    first, second = draft.patterns
    assert (first.direction, first.rows, first.exceptions) == ("promote", (103, 101, 102), (105,))
    assert (second.direction, second.rows, second.exceptions) == ("suppress", (108, 109, 110), ())
    assert first.depends_on_source and draft.reasoning == "r"


def test_no_pattern_is_a_sound_answer():
    draft = read(reply(verdict="unclear"))
    assert draft == LlmDraft((), "r") and draft.claim is None


@pytest.mark.parametrize(
    "text",
    [
        reply(pattern([1, 2, 0])),
        reply(pattern([1, 2, 3, 11])),
        reply(pattern([1, 2, 3, -1])),
        reply(pattern([1, 2, 3], exceptions=[99])),
        reply(pattern([1, 2])),
        reply(pattern([])),
        reply(pattern([1, 1, 1, 2, 2])),  # a row named twice counts once
        reply(pattern([1, 2, 7, 8, 9])),  # three of the other direction
        reply(pattern([1, 2, 3], "suppresses")),
        reply(pattern([1, 2, 3]), pattern([7, 8], "suppresses")),
    ],
)
def test_rows_that_are_not_there_or_too_few_are_refused(text):
    assert refused(text) == "bad_rows"


def test_the_number_of_rows_that_a_pattern_needs_is_a_setting():
    assert len(read(reply(pattern([1])), min_rows=1).patterns) == 1
    assert refused(reply(pattern([1, 2, 3, 4])), min_rows=5) == "bad_rows"


@pytest.mark.parametrize(
    "text",
    [
        reply(verdict="pattern"),
        reply(pattern([1, 2, 3]), verdict="unclear"),
        reply(*[pattern([1, 2, 3])] * 4),
        reply(pattern(["1", "2", "3"])),
        reply(pattern([1, 2, 3], depends_on_source="yes")),
        reply(pattern([1, 2, 3], operation="")),
        reply(pattern([1, 2, 3], inputs="x" * 201)),
        reply(pattern([1, 2, 3] * 30)),
    ],
)
def test_a_reply_against_itself_or_of_another_form_is_refused(text):
    assert refused(text) == "unparsed"


def test_a_word_that_was_not_offered_is_told_apart():
    assert refused(reply(verdict="maybe")) == "unoffered"
    assert refused(reply(pattern([1, 2, 3], "raises"))) == "unoffered"


def test_every_pattern_must_be_in_english():
    german = pattern([4, 5, 6], operation="schreibt die Mehrzahl des Hauptworts, das er gerade liest")
    assert refused(reply(pattern([1, 2, 3]), german)) == "wrong_language"


def test_an_answer_without_text_is_no_draft():
    with pytest.raises(ReplyError) as caught:
        read_draft(ChatAnswer("ok", None), NUMBERED, 3)
    assert caught.value.status == "unparsed"


row_groups = st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=5)


@settings(deadline=None, max_examples=60)
@given(row_groups, row_groups, st.integers(0, 3), st.integers(1, 40), st.data())
def test_numbers_lead_back_to_their_rows(promoted, suppressed, candidate, most, data):
    groups, row_of = {}, {}
    for direction, lists in zip(DIRECTIONS, (promoted, suppressed), strict=True):
        seen: set[int] = set()
        own = []
        for cluster, places in enumerate(lists):
            fresh = [place for place in dict.fromkeys(places) if place not in seen]
            seen |= set(fresh)
            rows = [Row(direction, f" {direction} {place}", (" t",), place) for place in fresh]
            row_of |= {row.source: row for row in rows}
            own.append((cluster - 1 if cluster else NOISE, rows))
        groups[direction] = own
    options = dataclasses.replace(SETTINGS, rows=most, min_rows=1)
    question = draft_question(HeadEvidence(HeadId(0, 1), groups), options, candidate)
    lines = question.request.messages[-1].content.split("<rows>\n")[1].splitlines()
    by_number = {
        one[0]: row_of[one[1]] for one in (json.loads(line) for line in lines if line.startswith("["))
    }
    for direction in DIRECTIONS:
        own = [number for number, row in by_number.items() if row.direction == direction]
        if not own:
            continue
        named = data.draw(st.lists(st.sampled_from(own), min_size=1, max_size=9, unique=True))
        rest = [number for number in own if number not in named]
        text = reply(pattern(named, VERB[direction], rest))
        (found,) = question.read(ChatAnswer("ok", text)).patterns
        assert found.rows == tuple(by_number[number].place for number in named)
        assert found.exceptions == tuple(by_number[number].place for number in rest)
    with pytest.raises(ReplyError, match="there is no row"):
        question.read(ChatAnswer("ok", reply(pattern([len(by_number) + 1]))))


def said(inputs, operation):
    return Pattern("promote", True, inputs, operation, (1, 2, 3), ())


@pytest.mark.parametrize(
    ("patterns", "claim"),
    [
        ([], None),
        ([said("nouns", "writes their plural")], "For nouns: writes their plural"),
        ([said(" nouns. ", " writes their plural. ")], "For nouns: writes their plural"),
        ([said("Any token", "writes pronouns.")], "Writes pronouns"),
        ([said("any token.", "writes pronouns")], "Writes pronouns"),
        (
            [said("any token", "writes pronouns"), said("French names", "suppresses Latin")],
            "Writes pronouns; for French names: suppresses Latin",
        ),
    ],
)
def test_a_claim_is_one_sentence(patterns, claim):
    assert LlmDraft(tuple(patterns), "").claim == claim
