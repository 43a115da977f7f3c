"""Drafting by a chat model: every head asked about, the best of its candidates kept, as rows of the catalogue.

The answers are kept as they come, by the asker; a job that was killed asks only what is missing. Where the
budget ends, the heads that were not reached are pending.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from describe.chat import OPEN, Call, Outcome, Question
from describe.drafting.llm import (
    NOISE,
    DraftSettings,
    HeadEvidence,
    LlmDraft,
    Pattern,
    draft_question,
)
from describe.drafting.rowbook import RowBook
from describe.drafting.rows import Row
from describe.protocols import Asking
from describe.records import DIRECTIONS, Direction, HeadId

ControlKind = Literal["shuffled_rows", "foreign_targets"]
Clusters = Mapping[tuple[HeadId, Direction], Mapping[int, Sequence[int]]]
"""By head and direction: the places of each cluster's rows, noise (−1) included."""


@dataclass(frozen=True)
class Contest:
    """The drafts of one head among which one is chosen: by candidate, those that claim something."""

    head: HeadId
    drafts: Mapping[int, LlmDraft]


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, and each one's figure; without all figures there is no choice."""

    candidate: int | None
    figures: Mapping[int, float]
    grader: str
    outcomes: Sequence[Outcome[list[float]]] = ()  # of the questions that the choice took


Chooser = Callable[[Sequence[Contest], RowBook], Mapping[HeadId, Choice]]
"""Chooses among drafts by rows that the drafter did not see and the final figures do not use."""


@dataclass(frozen=True)
class Asked:
    """What became of one head: the outcome that counts, every candidate, and why one was kept."""

    head: HeadId
    outcomes: Sequence[Outcome[LlmDraft]]
    kept: int
    choice: Choice | None = None

    @property
    def outcome(self) -> Outcome[LlmDraft]:
        """The one that is the head's draft."""
        return self.outcomes[self.kept]


@dataclass(frozen=True)
class Drafts:
    """All that was asked: heads in order, and how the same drafter fared on heads made to have no pattern."""

    heads: Sequence[Asked]
    controls: Mapping[ControlKind, Sequence[Outcome[LlmDraft]]] = field(default_factory=dict)

    @property
    def calls(self) -> list[Call]:
        """Every call, of heads and controls."""
        outcomes = [one for head in self.heads for one in head.outcomes]
        outcomes += [one for own in self.controls.values() for one in own]
        calls = [call for outcome in outcomes for call in outcome.calls]
        choosing = [one for head in self.heads if head.choice for one in head.choice.outcomes]
        return [*calls, *(call for outcome in choosing for call in outcome.calls)]

    @property
    def null_checks(self) -> dict[str, dict[str, int]]:
        """By kind of control: those that were answered, and those in which a pattern is claimed that cannot be there.

        Where a head's targets are shuffled among its rows, targets of one kind stay of one kind: only what is said to
        follow from the source is false there.
        """
        found = {}
        for kind, outcomes in self.controls.items():
            drafts = [one.value for one in outcomes if one.value is not None]
            false = [
                any(one.depends_on_source or kind == "foreign_targets" for one in draft.patterns)
                for draft in drafts
            ]
            found[str(kind)] = {"heads": len(drafts), "described": sum(false)}
        return found

    @property
    def unfinished(self) -> list[str]:
        """Heads and controls of which a draft was not asked for: the budget ended, or its answer is still to come."""
        outcomes = [(str(head.head), one) for head in self.heads for one in head.outcomes]
        outcomes += [(one.calls[0].request.about, one) for own in self.controls.values() for one in own]
        choosing = [
            (str(one.head), asked) for one in self.heads if one.choice for asked in one.choice.outcomes
        ]
        open_ones = [about for about, one in outcomes if one.status in OPEN]
        return list(dict.fromkeys([*open_ones, *(about for about, one in choosing if one.status in OPEN)]))


def evidence_of(head: HeadId, book: RowBook, clusters: Clusters, hint: str | None = None) -> HeadEvidence:
    """What the drafter may see of a head: its drafting rows, by cluster, noise last."""
    groups: dict[Direction, list[tuple[int, list[Row]]]] = {}
    for direction in DIRECTIONS:
        own = clusters.get((head, direction), {})
        cluster_of = {place: cluster for cluster, places in own.items() for place in places}
        found: dict[int, list[Row]] = defaultdict(list)
        for row in book.split(head, direction, "draft"):
            found[cluster_of.get(row.place, NOISE)].append(row)
        groups[direction] = sorted(found.items(), key=lambda one: (one[0] == NOISE, -len(one[1]), one[0]))
    return HeadEvidence(head, groups, hint)


def ask_drafts(
    evidence: Sequence[HeadEvidence],
    controls: Mapping[ControlKind, Sequence[HeadEvidence]],
    book: RowBook,
    settings: DraftSettings,
    asker: Asking,
    choose: Chooser | None,
    progress: Callable[[str, int, int], None],
) -> Drafts:
    """Ask for every draft of every head, and keep one for each.

    Args:
        evidence: of the heads, in order.
        controls: evidence of heads made to have no pattern, by kind, asked about once each.
        book: every row of the model's heads.
        settings: how drafts are asked for.
        asker: puts the questions.
        choose: decides among several drafts that claim something; the first of them where it is None.
        progress: told (stage, done, total).

    Raises:
        DescribeError: the endpoint refuses or does not answer; what was answered is kept.
    """
    questions: list[Question[LlmDraft]] = [
        draft_question(one, settings, candidate)
        for one in evidence
        for candidate in range(settings.candidates)
    ]
    questions += [draft_question(one, settings) for own in controls.values() for one in own]
    outcomes = asker.ask(questions, lambda done, total: progress("ask", done, total))
    n = settings.candidates
    by_head = {one.head: outcomes[place * n : (place + 1) * n] for place, one in enumerate(evidence)}
    contests = [
        Contest(head, found)
        for head, own in by_head.items()
        if len(found := _claiming(own)) > 1 and _most_claim(own)
    ]
    choices = choose(contests, book) if choose is not None and contests else {}
    heads = [
        Asked(head, own, _kept(own, choices.get(head)), choices.get(head)) for head, own in by_head.items()
    ]
    rest = iter(outcomes[len(evidence) * n :])
    return Drafts(heads, {kind: [next(rest) for _ in own] for kind, own in controls.items()})


def _claiming(outcomes: Sequence[Outcome[LlmDraft]]) -> dict[int, LlmDraft]:
    return {
        number: one.value
        for number, one in enumerate(outcomes)
        if one.value is not None and one.value.patterns
    }


def _kept(outcomes: Sequence[Outcome[LlmDraft]], choice: Choice | None) -> int:
    return _first(outcomes) if choice is None or choice.candidate is None else choice.candidate


def _first(outcomes: Sequence[Outcome[LlmDraft]]) -> int:
    """The candidate to keep where there is nothing to choose by: a claim where most claim something."""
    sound = [number for number, one in enumerate(outcomes) if one.status == "ok"]
    claiming = list(_claiming(outcomes))
    if _most_claim(outcomes):
        return claiming[0]
    abstaining = [number for number in sound if number not in claiming]
    return (abstaining or sound or [0])[0]


def _most_claim(outcomes: Sequence[Outcome[LlmDraft]]) -> bool:
    """Whether more than half of the drafts that came claim something: else the head counts as unclear."""
    return 2 * len(_claiming(outcomes)) > sum(one.status == "ok" for one in outcomes)


def patterns_json(patterns: Sequence[Pattern]) -> str:
    """Patterns as the `evidence` of a description."""
    return json.dumps(
        [
            {
                "direction": one.direction,
                "kind": "row" if one.depends_on_source else "output",
                "inputs": one.inputs,
                "operation_text": one.operation,
                "rows": list(one.rows),
                "exceptions": list(one.exceptions),
            }
            for one in patterns
        ]
    )
