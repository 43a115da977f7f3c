"""A chat model that answers from a script, and books of rows whose every token is known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from describe.chat import Call, ChatAnswer, Outcome, ReplyError
from describe.drafting.rowbook import RowBook
from describe.drafting.rows import Row
from describe.records import DIRECTIONS, HeadId, is_heldout


class Scripted:
    """Answers every request with what a function says: a text, an answer, or the status of a failure."""

    base_url = "http://localhost:1/v1"

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def ask(self, questions, progress=lambda done, total: None):
        outcomes = [self._ask(question) for question in questions]
        progress(len(outcomes), len(outcomes))
        return outcomes

    def _ask(self, question):
        self.asked.append(question.request)
        said = self.answer(question.request)
        answer = said if isinstance(said, ChatAnswer) else ChatAnswer("ok", said)
        call = Call(question.request, question.request.digest(self.base_url), answer, 0.0, False, 1.0)
        if answer.status != "ok":
            return Outcome(answer.status, None, [call], answer.error)
        try:
            return Outcome("ok", question.read(answer), [call])
        except ReplyError as error:
            return Outcome(error.status, None, [call], str(error))


@pytest.fixture(scope="session")
def scripted():
    return Scripted


@dataclass
class BookMaker:
    """Makes books: heads with rows of tokens by id, split as the product splits them."""

    n_vocab: int = 5000
    rows: dict = field(default_factory=dict)
    heldout: dict = field(default_factory=dict)

    def head(self, head, sources, targets_of, direction="promote", texts=str):
        """Add a head's rows: `targets_of(place, source)` gives the targets."""
        key = (head, direction)
        self.rows[key] = [
            Row(direction, texts(source), tuple(targets_of(place, source)), place, source)
            for place, source in enumerate(sources)
        ]
        self.heldout[key] = [is_heldout(source) for source in sources]
        return self

    def book(self, seed=0):
        return RowBook(self.rows, self.heldout, seed)


@pytest.fixture(scope="session")
def book_maker():
    return BookMaker


@pytest.fixture(scope="session")
def wide_book():
    """Twelve heads of 60 rows in both directions; heads of one third share targets, and some sources."""
    generator, maker = random.Random(0), BookMaker()
    for at in range(12):
        for direction in DIRECTIONS:
            sources = generator.sample(range(2000), 60)

            def targets(place, source, at=at, direction=direction):
                return [f"{direction} {at % 3} {place % 20} {j}" for j in range(3)] + [
                    f"own {at} {source}"
                ] * 2

            maker.head(HeadId(at // 4, at % 4), sources, targets, direction)
    return maker.book()
