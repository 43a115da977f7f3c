"""The choice among drafts: the best on validation rows, the first of equals, and none where nothing can be graded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from describe.drafting.llm import LlmDraft, Pattern
from describe.jobs.asking import Contest
from describe.records import HeadId
from eval.judging.choosing import ChooseByCosine, ChooseByJudge
from eval.judging.foils import TrialSettings

SETTINGS = TrialSettings()
HEADS = [HeadId(0, at) for at in range(4)]


def draft(text, direction="promote"):
    return LlmDraft((Pattern(direction, False, "any token", text, (1, 2, 3), ()),), "")


@pytest.fixture(scope="module")
def book(book_maker):
    """Four heads of 80 rows; the text of a source begins with the number of its head."""
    maker = book_maker()
    for at, head in enumerate(HEADS):
        maker.head(
            head,
            range(1000 * at, 1000 * at + 80),
            lambda place, source: [f"t{source}"],
            texts=lambda source: f"{source // 1000}-{source}",
        )
    return maker.book()


class ByNumber:
    """An encoder to which `d0` is near the rows of head 0 and far from the others; `D0` the reverse."""

    name = "by number"

    def encode(self, texts):
        vectors = np.zeros((len(texts), 4), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            if text[0] in "dD":
                vector[int(text[1])] = 1 if text[0] == "d" else -1
            else:
                vector[int(text[0])] = 1
        return vectors


class Lower(ByNumber):
    """The same for claims, whose first letter is made a capital: `D0` is near head 0 and `X0` far from it."""

    def encode(self, texts):
        return super().encode([{"D": "d", "X": "D"}.get(text[0], text[0]) + text[1:] for text in texts])


def by_cosine(contests, book):
    return ChooseByCosine(Lower, SETTINGS)(contests, book)


def test_the_encoder_picks_the_draft_that_tells_the_rows(book):
    contests = [
        Contest(HEADS[0], {0: draft("x0"), 1: draft("d1"), 3: draft("d0")}),
        Contest(HEADS[2], {1: draft("d2"), 2: draft("x2")}),
    ]
    choices = by_cosine(contests, book)
    assert {head: one.candidate for head, one in choices.items()} == {HEADS[0]: 3, HEADS[2]: 1}
    assert set(choices[HEADS[0]].figures) == {0, 1, 3}
    assert choices[HEADS[0]].figures[3] == 1 and choices[HEADS[0]].figures[0] == 0
    assert choices[HEADS[0]].grader == "by number"


def test_of_equals_the_first_is_kept_whatever_their_order(book):
    for order in ([2, 4, 7], [7, 4, 2], [4, 2, 7]):
        choices = by_cosine([Contest(HEADS[0], {number: draft("d0") for number in order})], book)
        assert choices[HEADS[0]].candidate == 2


def test_heads_without_a_trial_fall_out(book):
    known = Contest(HEADS[0], {0: draft("x0"), 1: draft("d0")})
    unknown = Contest(HeadId(9, 9), {0: draft("d0"), 1: draft("d1")})
    other_direction = Contest(HEADS[1], {0: draft("d0", "suppress"), 1: draft("d1", "suppress")})
    assert set(by_cosine([unknown, known, other_direction], book)) == {HEADS[0]}
    assert by_cosine([], book) == {}


def rows_of(request):
    lines = request.messages[-1].content.splitlines()
    return [json.loads(line) for line in lines if line.startswith("[")]


def claim_of(request):
    text = request.messages[-1].content
    return json.loads(text.split("<description>\n")[1].split("\n</description>")[0])


def knows(request):
    """A judge to whom `D0` describes head 0 and anything else nothing."""
    claim = claim_of(request)
    likelihoods = [
        {"row": number, "likelihood": 90 if claim[0] == "D" and source[0] == claim[1] else 10}
        for number, source, _ in rows_of(request)
    ]
    return json.dumps({"rows": likelihoods})


def by_judge(asker, contests, book, told=lambda *_: None, method="list"):
    return ChooseByJudge("judge", asker, SETTINGS, method, told)(contests, book)


def test_the_judge_picks_the_draft_that_tells_the_rows(book, scripted):
    told = []
    contests = [
        Contest(HEADS[1], {0: draft("x1"), 2: draft("d1"), 5: draft("d3")}),
        Contest(HEADS[3], {0: draft("d3"), 1: draft("d3")}),
    ]
    asker = scripted(knows)
    choices = by_judge(asker, contests, book, lambda *args: told.append(args))
    assert {head: one.candidate for head, one in choices.items()} == {HEADS[1]: 2, HEADS[3]: 0}
    assert choices[HEADS[1]].figures[2] == 1 and choices[HEADS[1]].grader == "judge"
    assert told[-1] == ("choose", 5, 5)
    sources = [{source for _, source, _ in rows_of(request)} for request in asker.asked[:3]]
    assert sources[0] == sources[1] == sources[2]  # the same trial for every draft of a head


def test_neither_drafting_rows_nor_test_rows_of_the_head_decide(book, scripted):
    asker = scripted(knows)
    by_judge(asker, [Contest(head, {0: draft("d0"), 1: draft("d1")}) for head in HEADS], book)
    for head, request in zip(np.repeat(np.array(HEADS, dtype=object), 2), asker.asked, strict=True):
        own = {source for _, source, _ in rows_of(request) if source[0] == str(head.head)}
        validation = {row.source for row in book.split(head, "promote", "validation")}
        assert own and own <= validation


def test_without_the_figure_of_every_draft_there_is_no_choice(book, scripted):
    def fails(*claims):
        return scripted(
            lambda request: "no JSON" if claim_of(request).rstrip(".") in claims else knows(request)
        )

    contests = [
        Contest(HEADS[0], {0: draft("x0"), 1: draft("d0")}),
        Contest(HEADS[1], {0: draft("x1"), 1: draft("x2")}),
    ]
    choices = by_judge(fails("D0"), contests, book)
    assert choices[HEADS[0]].candidate is None and set(choices[HEADS[0]].figures) == {0}
    assert choices[HEADS[1]].candidate == 0
    assert {one.status for one in choices[HEADS[0]].outcomes} == {"ok", "unparsed"}
    none = by_judge(fails("X1", "X2"), contests, book)[HEADS[1]]
    assert none.candidate is None and none.figures == {}


def test_one_question_a_row_gives_the_same_choice(book, scripted):
    def answer(request):
        claim = claim_of(request)
        (row,) = (
            json.loads(line) for line in request.messages[-1].content.splitlines() if line.startswith("[")
        )
        return "Yes" if claim[0] == "D" and row[0][0] == claim[1] else "No"

    contests = [Contest(HEADS[1], {0: draft("x1"), 2: draft("d1"), 5: draft("d3")})]
    choices = by_judge(scripted(answer), contests, book, method="one")
    assert choices[HEADS[1]].candidate == 2 and choices[HEADS[1]].figures[2] == 1
