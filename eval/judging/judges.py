"""What is put to one judge in a run: anchors, every description, controls, detection and its null."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from describe.chat import Outcome, Question
from describe.drafting.rowbook import RowBook
from describe.drafting.rows import Row
from describe.protocols import Asking
from eval.judging.anchors import AnchorItem, anchor_items
from eval.judging.claims import Claim
from eval.judging.detection import Detection, Method, detect_questions, detection_from
from eval.judging.foils import Trial, TrialSettings
from eval.judging.plausibility import Judgement, judge_question

OTHER_HEAD = "another head's description"
"""The control: a description that is not of the rows that are shown; what it gets is the null of a rating."""


@dataclass(frozen=True)
class JudgeSettings:
    """How descriptions are judged; part of a run's identity, with the digests of the prompts."""

    trial: TrialSettings = field(default_factory=TrialSettings)
    rows: int = 30  # held-out rows shown to a judge, at most (MAPS: 30)
    targets: int = 5  # targets shown of a row (MAPS: 5)
    method: Method = "list"
    controls: float = 0.2  # share of the descriptions that are also rated on another head's rows
    anchors: bool = True
    reply_tokens: int | None = None  # that a reply may have at most; None: what each prompt needs
    occasion: str | None = None  # sets a run apart in which nothing but the occasion is new, for the anchors
    clusters: bool = False  # judge the descriptions of clusters too
    seed: int = 0


@dataclass(frozen=True)
class Rated:
    """A description, or a control, as one judge rated it."""

    claim: Claim  # whose rows were shown
    shown: str  # the text that was shown
    control: str | None
    rows: tuple[Row, ...]
    outcome: Outcome[Judgement]


@dataclass(frozen=True)
class Detected:
    """A description's detection by one judge, and that of another head's description on the same rows."""

    claim: Claim
    trial: Trial
    detection: Detection
    null: Detection
    null_claim: Claim | None
    outcomes: Sequence[Outcome[list[float]]]


@dataclass(frozen=True)
class Judged:
    """All that one judge said in a run."""

    judge: str
    base_url: str
    anchors: Sequence[tuple[AnchorItem, Outcome[Judgement]]]
    ratings: Sequence[Rated]
    detections: Sequence[Detected]

    @property
    def outcomes(self) -> list[Outcome[Any]]:
        """Every outcome, anchors first."""
        return [
            *(outcome for _, outcome in self.anchors),
            *(one.outcome for one in self.ratings),
            *(outcome for one in self.detections for outcome in one.outcomes),
        ]


class Judge:
    """Puts everything to one judge.

    Args:
        chat_model: the judge.
        asker: puts the questions.
        settings: what is asked.
        run_id: of the judging run: anchors are asked anew in each.
    """

    def __init__(self, chat_model: str, asker: Asking, settings: JudgeSettings, run_id: str) -> None:
        self.chat_model = chat_model
        self.asker = asker
        self.settings = settings
        self._run_id = run_id

    def judge(
        self,
        claims: Sequence[Claim],
        trials: dict[str, Trial],
        book: RowBook,
        progress: Callable[[int, int], None],
    ) -> Judged:
        """Ask everything at once, so that the endpoint is never idle.

        Args:
            claims: the descriptions.
            trials: by description id; descriptions without one are rated only.
            book: every row of the heads.
            progress: told (done, total).

        Raises:
            DescribeError: the endpoint refuses or does not answer; what was answered is kept.
        """
        settings, model = self.settings, self.chat_model
        items = anchor_items() if settings.anchors else ()
        asked: list[Question[Any]] = [one.question(model, settings.targets, self._run_id) for one in items]
        shown = [self._shown(claim, book) for claim in claims] + self._controls(claims, book)
        for claim, text, control, rows in shown:
            about = f"{claim.description_id}{', control' if control else ''}"
            asked.append(judge_question(rows, text, model, settings.targets, about, seed=settings.seed))
        tried = [(claim, trials[claim.description_id]) for claim in claims if claim.description_id in trials]
        parts: list[tuple[Claim, Trial, Claim | None, int, int]] = []
        for claim, trial in tried:
            other = self._other(claim, claims, trial)
            sizes = []
            for whose in (claim, other):
                about = f"{claim.description_id}{', null' if whose is not claim else ''}"
                own = [] if whose is None else self._detect(trial, whose.text, about)
                asked += own
                sizes.append(len(own))
            parts.append((claim, trial, other, sizes[0], sizes[1]))
        if settings.reply_tokens is not None:
            asked = [
                replace(one, request=replace(one.request, max_tokens=settings.reply_tokens)) for one in asked
            ]
        found = iter(self.asker.ask(asked, progress))
        return Judged(
            judge=model,
            base_url=self.asker.base_url,
            anchors=[(item, next(found)) for item in items],
            ratings=[
                Rated(claim, text, control, tuple(rows), next(found)) for claim, text, control, rows in shown
            ],
            detections=[_detected(*part, found) for part in parts],
        )

    def _detect(self, trial: Trial, text: str, about: str) -> list[Question[list[float]]]:
        return detect_questions(
            trial, text, self.chat_model, self.settings.method, self.settings.targets, about
        )

    def _shown(self, claim: Claim, book: RowBook) -> tuple[Claim, str, str | None, list[Row]]:
        return claim, claim.text, None, judged_rows(claim, book, self.settings.rows)

    def _controls(
        self, claims: Sequence[Claim], book: RowBook
    ) -> list[tuple[Claim, str, str | None, list[Row]]]:
        """Some heads' rows with another head's description."""
        count = round(self.settings.controls * len(claims))
        chosen = random.Random(f"{self.settings.seed}:controls").sample(list(claims), count)
        return [
            (claim, other.text, OTHER_HEAD, judged_rows(claim, book, self.settings.rows))
            for claim in chosen
            if (other := self._other(claim, claims)) is not None
        ]

    def _other(self, claim: Claim, claims: Sequence[Claim], trial: Trial | None = None) -> Claim | None:
        """Another head's description in other words, of the same direction where there is one.

        A head whose rows are foils of the trial is left out: its description would be right about them.
        """
        near = {item.head for item in trial.items} if trial else {claim.head}
        others = [one for one in claims if one.head not in near and one.text != claim.text]
        others = [one for one in others if one.direction == claim.direction] or others
        generator = random.Random(f"{self.settings.seed}:{claim.description_id}")
        return others[generator.randrange(len(others))] if others else None


def judged_rows(claim: Claim, book: RowBook, most: int) -> list[Row]:
    """The rows that a judge is shown: held-out ones of each direction that the claim speaks of, most salient first."""
    share = most // len(claim.directions)
    return [
        row
        for direction in claim.directions
        for row in claim.about(book.split(claim.head, direction, *claim.splits))[:share]
    ]


def _detected(
    claim: Claim,
    trial: Trial,
    other: Claim | None,
    n_own: int,
    n_null: int,
    found: Iterator[Any],
) -> Detected:
    own, null = [next(found) for _ in range(n_own)], [next(found) for _ in range(n_null)]
    nothing = Detection("pending", len(trial.of("own")), len(trial.foils))
    return Detected(
        claim,
        trial,
        detection_from(trial, own),
        detection_from(trial, null) if null else nothing,
        other,
        [*own, *null],
    )
