"""The chat models of one run, from the command line to the jobs: who drafts, who chooses, who judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from describe.cli.endpoints import Endpoints, Forecast, forecast
from describe.errors import InputError

if TYPE_CHECKING:
    from describe.clients.asker import Asker
    from describe.drafting.llm import DraftSettings
    from describe.drafting.rowbook import RowBook
    from describe.jobs.asking import Chooser
    from describe.jobs.describing import Job, Progress
    from describe.protocols import Encoder
    from describe.records import HeadId
    from eval.judging.claims import RunToJudge
    from eval.judging.job import JudgeJob, JudgeReport

RULES = "rules"


@dataclass(frozen=True)
class DraftOptions:
    """What the command line says of drafting."""

    drafter: str = RULES
    candidates: int = 1
    temperature: float = 0.0
    hint: bool = False
    controls: int = 20
    reply_tokens: int | None = None  # None: what the prompt needs


@dataclass(frozen=True)
class JudgeOptions:
    """What the command line says of judging."""

    judges: tuple[str, ...] = ()
    one_by_one: bool = False
    anchors: bool = True
    controls: float = 0.2
    clusters: bool = False
    reply_tokens: int | None = None
    occasion: str | None = None


class ChatModels:
    """Made before any work, so that a bad address, key or price is said at once.

    Args:
        given: where and how models are asked.
        draft: how heads are drafted.
        judge: how descriptions are judged.
        seed: of every random choice.
        collect: ask nothing, count what would be asked.
    """

    def __init__(
        self, given: Endpoints, draft: DraftOptions, judge: JudgeOptions, seed: int, *, collect: bool = False
    ) -> None:
        self._draft, self._judge, self._seed = draft, judge, seed
        self.drafter: Asker | None = None
        self.grader: Asker | None = None
        self.prices_as_of: str | None = None
        if draft.drafter == RULES and (draft.hint or draft.candidates > 1):
            raise InputError("--hint and --candidates are about chat models: name one with --drafter.")
        if draft.drafter == RULES and not judge.judges:
            return
        askers = given.askers()
        self.prices_as_of = askers.purse.prices.as_of
        if draft.drafter != RULES:
            askers.purse.check(draft.drafter)
            self.drafter = askers.drafter(collect=collect)
        for one in judge.judges:
            askers.purse.check(one)
        if judge.judges:
            self.grader = askers.judge(collect=collect)

    @property
    def base_url(self) -> str | None:
        """The endpoint that is asked first, without user or password."""
        asker = self.drafter or self.grader
        return None if asker is None else asker.base_url

    @property
    def draft_settings(self) -> DraftSettings | None:
        """How drafts are asked for; None for the rules drafter."""
        if self.drafter is None:
            return None
        from describe.drafting.llm import DraftSettings

        settings = DraftSettings(
            chat_model=self._draft.drafter,
            base_url=self.drafter.base_url,
            candidates=self._draft.candidates,
            temperature=self._draft.temperature,
            hint=self._draft.hint,
            controls=self._draft.controls,
            chooser=self._chooser,
            seed=self._seed,
        )
        tokens = self._draft.reply_tokens
        return settings if tokens is None else replace(settings, max_tokens=tokens)

    @property
    def _chooser(self) -> str | None:
        """Who chooses among drafts, where there is a choice; it decides what is stored, so it is part of the run."""
        if self._draft.candidates == 1:
            return None
        return self._judge.judges[0] if self._judge.judges else "cosine"

    def chooser(self, encoder: Callable[[], Encoder], progress: Progress) -> Chooser | None:
        """What chooses among drafts: the first judge, or the encoder where there is none."""
        if self._draft.candidates == 1:
            return None
        from eval.judging.choosing import ChooseByCosine, ChooseByJudge
        from eval.judging.foils import TrialSettings

        settings = TrialSettings(seed=self._seed)
        if self.grader is None:
            return ChooseByCosine(encoder, settings)
        return ChooseByJudge(self._judge.judges[0], self.grader, settings, "list", progress)

    def judge_job(
        self, catalogue: Path, run: RunToJudge, encoder: Callable[[], Encoder] | None, progress: Progress
    ) -> JudgeJob:
        """The judging run over some descriptions; without a judge the encoder alone grades."""
        from eval.judging.foils import TrialSettings
        from eval.judging.job import JudgeJob
        from eval.judging.judges import JudgeSettings

        settings = JudgeSettings(
            trial=TrialSettings(seed=self._seed),
            method="one" if self._judge.one_by_one else "list",
            controls=self._judge.controls,
            anchors=self._judge.anchors,
            reply_tokens=self._judge.reply_tokens,
            occasion=self._judge.occasion,
            clusters=self._judge.clusters,
            seed=self._seed,
        )
        judges = [(one, self.grader) for one in self._judge.judges if self.grader is not None]
        return JudgeJob(catalogue, run, settings, judges, encoder, progress)

    def judge(
        self,
        catalogue: Path,
        run_id: str,
        model: str,
        encoder: Callable[[], Encoder] | None,
        progress: Progress,
    ) -> JudgeReport:
        """Judge the descriptions of one run of the catalogue."""
        from eval.judging.claims import read_run

        run = read_run(catalogue, run_id, model, clusters=self._judge.clusters)
        return self.judge_job(catalogue, run, encoder, progress).run()

    def plan(self, job: Job, heads: Sequence[HeadId], encoder: Callable[[], Encoder]) -> list[Forecast]:
        """What a run would ask, judges reckoned as if every head were described; its shards are kept for the run."""
        from eval.judging.claims import read_run

        if self.prices_as_of is None:
            return []
        name = job.plan.model.name
        if not job.is_complete():
            run = _all_described(job.prepare(), heads, name)
        elif self.grader is not None:
            run = read_run(job.catalogue, job.plan.run_id, name, clusters=self._judge.clusters)
        if self.grader is not None:
            self.judge_job(job.catalogue, run, encoder, _unseen).ask()
        return self.forecast()

    def forecast(self) -> list[Forecast]:
        """What the collecting askers were asked so far."""
        return forecast([one for one in (self.drafter, self.grader) if one is not None])


def _all_described(book: RowBook, heads: Sequence[HeadId], model: str) -> RunToJudge:
    """A run in which every head has a description of common length."""
    from eval.judging.claims import Claim, RunToJudge

    text = "For tokens of some kind: " + "writes words that go with them; " * 3
    claims = [
        Claim(
            str(head), head, None, "promote", ("promote",), f"{text}{head}", True, "", ("validation", "test")
        )
        for head in heads
    ]
    return RunToJudge("forecast", model, tuple(claims), lambda: book)


def _unseen(stage: str, done: int, total: int) -> None:
    """No progress is shown of what is only counted."""
