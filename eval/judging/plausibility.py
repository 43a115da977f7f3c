"""Plausibility: a judge rates a description against held-out rows, by a written rubric.

The rubric is that of MAPS's annotators: a pattern holds in at least 20 of 30 rows, and one among the inputs
alone does not count (the paper's appendix on the annotation guidelines).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from describe.chat import ChatAnswer, ChatRequest, Question, ReplyError, messages_of
from describe.drafting.llm import Numbers
from describe.drafting.replies import Reply, read_reply, schema_of
from describe.drafting.rows import Row, quoted, rows_text
from describe.records import DIRECTIONS
from prompts import load

PROMPT = "judge"
MAX_TOKENS = 700


def _whole(value: object) -> object:
    """A choice among numbers is compared by value, which takes `true` for 1: only whole numbers pass."""
    if type(value) is not int:
        raise ValueError("Input should be a whole number")
    return value


class JudgeReply(Reply):
    """The whole reply; the rows come before the rating that rests on them."""

    reasoning: str = Field(max_length=1500)
    fitting_rows: Numbers
    pattern_present: Literal["yes", "no"]
    description_fits: Literal["yes", "partly", "no"]
    plausibility: Annotated[Literal[1, 2, 3, 4, 5], BeforeValidator(_whole)]


@dataclass(frozen=True)
class Judgement:
    """A judge's verdict on a description."""

    plausibility: int
    fits: str  # yes, partly or no
    pattern_present: bool
    fitting_rows: tuple[int, ...]  # numbers of the rows shown, from 1


def judge_question(
    rows: Sequence[Row],
    description: str,
    chat_model: str,
    n_targets: int,
    about: str,
    *,
    nonce: str = "",
    seed: int | None = 0,
) -> Question[Judgement]:
    """The question about one description, and how its reply is read.

    Args:
        rows: those shown, numbered from 1 in this order; rows of one direction stand together.
        description: what is judged, without any figure.
        chat_model: the judge.
        n_targets: targets shown of a row.
        about: what it is about, for accounting.
        nonce: sets the request apart where it must be asked anew.
        seed: sent to the endpoint.
    """
    numbered = list(enumerate(rows, start=1))
    groups = [
        ("", direction, own)
        for direction in DIRECTIONS
        if (own := [one for one in numbered if one[1].direction == direction])
    ]
    prompt = load(PROMPT)
    request = ChatRequest(
        purpose="judge",
        chat_model=chat_model,
        messages=messages_of(prompt, description=quoted(description), rows=rows_text(groups, n_targets)),
        schema_name="judge",
        schema=schema_of(JudgeReply),
        prompt_digest=prompt.digest,
        max_tokens=MAX_TOKENS,
        seed=seed,
        nonce=nonce,
        about=about,
    )
    return Question(request, lambda answer: read_judgement(answer, len(rows)))


def read_judgement(answer: ChatAnswer, n_rows: int) -> Judgement:
    """A reply as a judgement.

    Raises:
        ReplyError: the reply is not what was asked for, with what is wrong.
    """
    reply = read_reply(answer.text or "", JudgeReply)
    numbers = tuple(sorted(set(reply.fitting_rows)))
    if odd := [number for number in numbers if not 1 <= number <= n_rows]:
        raise ReplyError("bad_rows", f"there is no row {odd[0]}, the rows are 1 to {n_rows}")
    return Judgement(reply.plausibility, reply.description_fits, reply.pattern_present == "yes", numbers)
