"""The choice among several drafts of a head: by validation rows, which neither drafting nor the final figures see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from describe.chat import Outcome, Question
from describe.drafting.rowbook import RowBook
from describe.jobs.asking import Choice, Contest
from describe.protocols import Asking, Encoder
from describe.records import DIRECTIONS, HeadId
from eval.judging.detection import Method, detect_questions, detection_from
from eval.judging.encoding import best_by_cosine
from eval.judging.foils import Trial, Trials, TrialSettings


class ChooseByCosine:
    """Keeps the draft that a sentence encoder tells the head's rows by best.

    Args:
        encoder: makes the encoder.
        settings: how trials are made.
    """

    def __init__(self, encoder: Callable[[], Encoder], settings: TrialSettings) -> None:
        self._encoder = encoder
        self._settings = settings

    def __call__(self, contests: Sequence[Contest], book: RowBook) -> Mapping[HeadId, Choice]:
        """The choice for every head that has enough validation rows."""
        encoder = self._encoder()
        found = {}
        for contest, trial in _trials(contests, book, self._settings):
            texts = [draft.claim or "" for draft in contest.drafts.values()]
            areas = best_by_cosine(texts, trial, encoder, self._settings.targets)
            found[contest.head] = _best(dict(zip(contest.drafts, areas, strict=True)), encoder.name)
        return found


class ChooseByJudge:
    """Keeps the draft by which a chat model tells the head's rows best.

    Args:
        chat_model: the judge.
        asker: puts the questions.
        settings: how trials are made.
        method: how it is asked.
        progress: told (stage, done, total).
    """

    def __init__(
        self,
        chat_model: str,
        asker: Asking,
        settings: TrialSettings,
        method: Method,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._chat_model = chat_model
        self._asker = asker
        self._settings = settings
        self._method = method
        self._progress = progress

    def __call__(self, contests: Sequence[Contest], book: RowBook) -> Mapping[HeadId, Choice]:
        """The choice for every head that has enough validation rows."""
        asked: list[Question[list[float]]] = []
        parts: list[tuple[HeadId, int, Trial, int]] = []
        for contest, trial in _trials(contests, book, self._settings):
            for number, draft in contest.drafts.items():
                about = f"{contest.head} candidate {number}"
                own = detect_questions(
                    trial, draft.claim or "", self._chat_model, self._method, self._settings.targets, about
                )
                asked += own
                parts.append((contest.head, number, trial, len(own)))
        outcomes = iter(self._asker.ask(asked, lambda done, total: self._progress("choose", done, total)))
        figures: dict[HeadId, dict[int, float | None]] = {}
        said: dict[HeadId, list[Outcome[list[float]]]] = {}
        for head, number, trial, count in parts:
            graded = [next(outcomes) for _ in range(count)]
            figures.setdefault(head, {})[number] = detection_from(trial, graded).auc
            said.setdefault(head, []).extend(graded)
        return {head: _best(own, self._chat_model, said[head]) for head, own in figures.items()}


def _trials(
    contests: Sequence[Contest], book: RowBook, settings: TrialSettings
) -> list[tuple[Contest, Trial]]:
    """One trial a head, the same for all its drafts."""
    maker, found = Trials(book, settings), []
    for contest in contests:
        patterns = [one for draft in contest.drafts.values() for one in draft.patterns]
        directions = [one for one in DIRECTIONS if any(pattern.direction == one for pattern in patterns)]
        by_source = any(pattern.depends_on_source for pattern in patterns)
        trial = maker.make(contest.head, directions, ("validation",), by_source=by_source)
        if trial is not None:
            found.append((contest, trial))
    return found


def _best(
    figures: Mapping[int, float | None], grader: str, outcomes: Sequence[Outcome[list[float]]] = ()
) -> Choice:
    """The highest figure, of equal ones the first; none where a draft has no figure to compare."""
    known = {number: area for number, area in figures.items() if area is not None}
    best = max(known, key=lambda number: (known[number], -number)) if len(known) == len(figures) else None
    return Choice(best, known, grader, outcomes)
