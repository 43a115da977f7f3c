"""A chat model as drafter: a head's clusters become a request, its reply becomes a draft that names its rows.

A draft that claims rows which do not exist, or rows of the other direction, is no draft: the reply is given
back once to be mended, and then it has a status and no text.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from describe.chat import ChatAnswer, ChatRequest, Question, ReplyError, messages_of
from describe.drafting.replies import Reply, check_english, read_reply, schema_of
from describe.drafting.rows import VERB, Row, rows_text
from describe.records import DIRECTIONS, Direction, HeadId
from prompts import load

PROMPT = "draft"
NOISE = -1
_DIRECTION: dict[str, Direction] = {verb: direction for direction, verb in VERB.items()}

Numbers = Annotated[list[int], Field(max_length=80)]


class PatternReply(Reply):
    """One pattern of a draft, as the chat model words it."""

    direction: Literal["promotes", "suppresses"]
    depends_on_source: bool
    inputs: str = Field(min_length=1, max_length=200)
    operation: str = Field(min_length=3, max_length=300)
    rows: Numbers
    exceptions: Numbers


class DraftReply(Reply):
    """The whole reply; reasoning comes first, so that it is written before the verdict."""

    reasoning: str = Field(max_length=2000)
    verdict: Literal["pattern", "unclear"]
    patterns: list[PatternReply] = Field(max_length=3)


@dataclass(frozen=True)
class DraftSettings:
    """How drafts are asked for; part of a run's identity, with the digest of the prompt."""

    chat_model: str
    base_url: str  # without user or password
    candidates: int = 1
    temperature: float = 0.0  # of the first candidate
    spread: float = 0.8  # temperature of the further ones
    shown: float = 0.8  # share of the rows that a further candidate sees
    rows: int = 30  # drafting rows shown of a direction, at most (MAPS: 30 rows a head)
    targets: int = 5  # targets shown of a row (MAPS: 5)
    min_rows: int = 3  # rows that a pattern needs
    hint: bool = False  # offer what the rules drafter found
    max_tokens: int = 1200
    seed: int = 0
    chooser: str | None = None  # who chooses among candidates: a chat model, or "cosine"
    controls: int = 20  # heads made to have no pattern that the same drafter is asked about


@dataclass(frozen=True)
class Pattern:
    """One thing that a head is said to do, with the rows that are named for it."""

    direction: Direction
    depends_on_source: bool
    inputs: str
    operation: str
    rows: tuple[int, ...]  # places in the head's mappings of this direction
    exceptions: tuple[int, ...]

    @property
    def claim(self) -> str:
        """The claim in one sentence, without a full stop."""
        inputs = self.inputs.strip().rstrip(".")
        anything = inputs.lower() in ("any token", "any", "all tokens", "all", "any source token")
        operation = self.operation.strip().rstrip(".")
        return operation if anything else f"for {inputs}: {operation}"


@dataclass(frozen=True)
class LlmDraft:
    """What a chat model says of a head: its patterns, none where it finds no clear one."""

    patterns: tuple[Pattern, ...]
    reasoning: str

    @property
    def claim(self) -> str | None:
        """All patterns in one sentence, without a full stop; None where there is none."""
        text = "; ".join(one.claim for one in self.patterns)
        return f"{text[:1].upper()}{text[1:]}" if text else None


@dataclass(frozen=True)
class HeadEvidence:
    """What a drafter may see of a head: its drafting rows by direction, in groups."""

    head: HeadId
    groups: Mapping[Direction, Sequence[tuple[int, Sequence[Row]]]]  # (cluster, rows), noise last
    hint: str | None = None  # what the rules drafter says of it; None where it found nothing
    note: str = ""  # what sets it apart from the head itself, for accounting


def draft_question(evidence: HeadEvidence, settings: DraftSettings, candidate: int = 0) -> Question[LlmDraft]:
    """The request for one draft of a head, and how its reply is read."""
    shown = _shown(evidence, settings, candidate)
    numbered = {number: row for _, _, rows in shown for number, row in rows}
    prompt = load(PROMPT)
    messages = messages_of(
        prompt,
        min_rows=settings.min_rows,
        n_rows=len(numbered),
        hint=_hint(evidence) if settings.hint else "",
        rows=rows_text(shown, settings.targets),
    )
    request = ChatRequest(
        purpose="draft",
        chat_model=settings.chat_model,
        messages=messages,
        schema_name="draft",
        schema=schema_of(DraftReply),
        prompt_digest=prompt.digest,
        max_tokens=settings.max_tokens,
        temperature=settings.spread if candidate else settings.temperature,
        seed=settings.seed + candidate,
        about=f"{evidence.head}{evidence.note}",
    )
    return Question(request, lambda answer: read_draft(answer, numbered, settings.min_rows))


def read_draft(answer: ChatAnswer, numbered: Mapping[int, Row], min_rows: int) -> LlmDraft:
    """A reply as a draft.

    Args:
        answer: of the chat model.
        numbered: the rows that it was shown.
        min_rows: how many of them a pattern must name.

    Raises:
        ReplyError: the reply is not what was asked for, with what is wrong.
    """
    reply = read_reply(answer.text or "", DraftReply)
    if (reply.verdict == "unclear") != (not reply.patterns):
        given = "there are patterns" if reply.patterns else "there is no pattern"
        raise ReplyError("unparsed", f'the verdict is "{reply.verdict}" but {given}')
    for one in reply.patterns:
        check_english(one.inputs, one.operation)
    return LlmDraft(tuple(_pattern(one, numbered, min_rows) for one in reply.patterns), reply.reasoning)


def _pattern(reply: PatternReply, numbered: Mapping[int, Row], min_rows: int) -> Pattern:
    direction = _DIRECTION[reply.direction]
    for number in [*reply.rows, *reply.exceptions]:
        if number not in numbered:
            raise ReplyError("bad_rows", f"there is no row {number}, the rows are 1 to {len(numbered)}")
    own = [number for number in dict.fromkeys(reply.rows) if numbered[number].direction == direction]
    if len(own) < min_rows:
        raise ReplyError(
            "bad_rows",
            f"a pattern needs at least {min_rows} rows that the head {VERB[direction]}, {len(own)} are named",
        )
    exceptions = [
        n for n in dict.fromkeys(reply.exceptions) if numbered[n].direction == direction and n not in own
    ]
    return Pattern(
        direction=direction,
        depends_on_source=reply.depends_on_source,
        inputs=reply.inputs,
        operation=reply.operation,
        rows=tuple(numbered[number].place for number in own),
        exceptions=tuple(numbered[number].place for number in exceptions),
    )


def _shown(
    evidence: HeadEvidence, settings: DraftSettings, candidate: int
) -> list[tuple[str, Direction, list[tuple[int, Row]]]]:
    """The rows of one request, numbered in order: all of them for the first candidate, else a part, reordered."""
    generator = random.Random(f"{settings.seed}:{candidate}:{evidence.head}")
    groups: list[tuple[str, Direction, list[Row]]] = []
    for direction in DIRECTIONS:
        own = [(cluster, list(rows)) for cluster, rows in evidence.groups.get(direction, ())]
        if candidate:
            own = [(cluster, _part(rows, settings.shown, generator)) for cluster, rows in own]
            generator.shuffle(own)
        # The most salient rows stay, whatever group they are in.
        kept = sorted(row.place for _, rows in own for row in rows)[: settings.rows]
        own = [(cluster, [row for row in rows if row.place in set(kept)]) for cluster, rows in own]
        names = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        groups += [
            ("of the rest" if cluster == NOISE else next(names, "further"), direction, rows)
            for cluster, rows in own
            if rows
        ]
    numbers = iter(range(1, 1_000_000))
    return [(name, direction, [(next(numbers), row) for row in rows]) for name, direction, rows in groups]


def _part(rows: Sequence[Row], share: float, generator: random.Random) -> list[Row]:
    return generator.sample(list(rows), max(round(share * len(rows)), min(len(rows), 1)))


def _hint(evidence: HeadEvidence) -> str:
    found = evidence.hint or "nothing that passes its tests"
    return (
        "\n\nA library of simple rules, tested on other rows of this head, found: "
        f"{found}. It knows few rules and can be wrong or incomplete; go by the rows."
    )
