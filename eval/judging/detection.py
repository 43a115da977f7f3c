"""Detection: does a description tell a head's held-out rows from foils, in the eyes of a chat model?"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from describe.chat import ChatAnswer, ChatRequest, Outcome, OutcomeStatus, Question, ReplyError, messages_of
from describe.drafting.replies import Reply, read_reply, schema_of
from describe.drafting.rows import quoted, row_text, rows_text
from describe.records import DIRECTIONS
from eval.judging.foils import FOIL_KINDS, Trial
from eval.judging.roc import auc, auc_interval, balanced_accuracy
from prompts import load

Method = Literal["list", "one"]
PROMPTS: dict[Method, str] = {"list": "detect", "one": "detect_one"}
_LEAST_MASS = 0.1  # of Yes and No together, for a token to be the answer
_ALTERNATIVES = 5  # of the first token, in which Yes and No are looked for


class RowLikelihood(Reply):
    """How likely one row is the head's own."""

    row: int
    likelihood: Annotated[int, Field(ge=0, le=100)]


class DetectReply(Reply):
    """Every row with its likelihood."""

    rows: list[RowLikelihood] = Field(max_length=100)


@dataclass(frozen=True)
class Detection:
    """How well a grader tells rows from foils by a description; figures are None where the grader failed."""

    status: OutcomeStatus
    n_rows: int
    n_foils: int
    likelihoods: tuple[float, ...] = ()  # by place in the trial, 0 to 1 or any other rank
    hits: int | None = None
    balanced_accuracy: float | None = None
    auc: float | None = None
    interval: tuple[float, float] | None = None
    by_kind: dict[str, float] | None = None


def detection_of(trial: Trial, likelihoods: Sequence[float], *, ranks_only: bool = False) -> Detection:
    """The figures of a grader's likelihoods, one for each item of the trial.

    Args:
        trial: the rows and foils.
        likelihoods: of every item, in order.
        ranks_only: the numbers have no threshold, so there is no accuracy.
    """
    own, foils = [likelihoods[i] for i in trial.of("own")], [likelihoods[i] for i in trial.foils]
    area = auc(own, foils)
    hits, accuracy = (None, None) if ranks_only else balanced_accuracy(own, foils)
    return Detection(
        status="ok",
        n_rows=len(own),
        n_foils=len(foils),
        likelihoods=tuple(likelihoods),
        hits=hits,
        balanced_accuracy=accuracy,
        auc=area,
        interval=auc_interval(area, len(own), len(foils)),
        by_kind={
            kind: auc(own, [likelihoods[i] for i in places])
            for kind in FOIL_KINDS
            if (places := trial.of(kind))
        },
    )


def detection_from(trial: Trial, outcomes: Sequence[Outcome[list[float]]]) -> Detection:
    """The figures behind the outcomes of a trial's questions; one that failed fails the trial, as its status says."""
    failed = next((one for one in outcomes if one.value is None), None)
    if failed is not None:
        return Detection(failed.status, len(trial.of("own")), len(trial.foils))
    return detection_of(trial, [likelihood for one in outcomes for likelihood in one.value or ()])


def detect_questions(
    trial: Trial, description: str, chat_model: str, method: Method, n_targets: int, about: str
) -> list[Question[list[float]]]:
    """The questions of a trial: one for all rows (`list`), or one for each (`one`, with log-probabilities)."""
    if method == "one":
        return [
            _one_question(trial, place, description, chat_model, n_targets, about)
            for place in range(len(trial.items))
        ]
    groups = []
    for direction in DIRECTIONS:
        rows = [
            (place + 1, item.row) for place, item in enumerate(trial.items) if item.row.direction == direction
        ]
        if rows:
            groups.append(("", direction, rows))
    prompt = load(PROMPTS[method])
    request = ChatRequest(
        purpose="detect",
        chat_model=chat_model,
        messages=messages_of(prompt, description=quoted(description), rows=rows_text(groups, n_targets)),
        schema_name="detect",
        schema=schema_of(DetectReply),
        prompt_digest=prompt.digest,
        max_tokens=200 + 20 * len(trial.items),
        about=about,
    )
    return [Question(request, partial(_read_list, n=len(trial.items)))]


def _read_list(answer: ChatAnswer, n: int) -> list[float]:
    reply = read_reply(answer.text or "", DetectReply)
    found: dict[int, float] = {}
    for one in reply.rows:
        if not 1 <= one.row <= n:
            raise ReplyError("bad_rows", f"there is no row {one.row}, the rows are 1 to {n}")
        if one.row in found:
            raise ReplyError("bad_rows", f"row {one.row} stands twice")
        found[one.row] = one.likelihood / 100
    if missing := [number for number in range(1, n + 1) if number not in found]:
        raise ReplyError("bad_rows", f"row {missing[0]} is missing, every row from 1 to {n} is needed once")
    return [found[number] for number in range(1, n + 1)]


def _one_question(
    trial: Trial, place: int, description: str, chat_model: str, n_targets: int, about: str
) -> Question[list[float]]:
    prompt = load(PROMPTS["one"])
    row = row_text(None, trial.items[place].row, n_targets)
    request = ChatRequest(
        purpose="detect",
        chat_model=chat_model,
        messages=messages_of(prompt, description=quoted(description), row=row),
        schema_name="",
        schema="",
        prompt_digest=prompt.digest,
        max_tokens=4,
        top_logprobs=_ALTERNATIVES,
        about=about,
    )
    return Question(request, lambda answer: [yes_probability(answer)])


def yes_probability(answer: ChatAnswer) -> float:
    """P(Yes) against P(No) at the first token that is either; 1 or 0 by the word where no probabilities came.

    Raises:
        ReplyError: the reply is neither.
    """
    for choice in answer.logprobs:
        mass = {"yes": 0.0, "no": 0.0}
        for token, logprob in choice.top or ((choice.token, 0.0),):
            if (word := token.strip().casefold()) in mass:
                mass[word] += math.exp(min(logprob, 0.0))
        if (total := sum(mass.values())) >= _LEAST_MASS:
            return mass["yes"] / total
        if any(character.isalnum() for character in choice.token):
            break  # the answer has begun with another word
    found = re.match(r"[\s*\"']*(yes|no)\s*(?![\w\s])", answer.text or "", re.IGNORECASE)
    if found is not None:
        return float(found[1].casefold() == "yes")
    raise ReplyError("unoffered", "the answer is neither Yes nor No")
