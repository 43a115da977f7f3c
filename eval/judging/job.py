"""`describe judge`: one judging run over one model's descriptions; killed at any moment, it resumes.

Answers are kept as they come, so a second try asks only what is missing. The catalogue is written once, in
one transaction; where the budget ends, what was judged is stored and the run counts as stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from describe import __version__
from describe.catalogue import Catalogue, read_only_query
from describe.chat import OPEN, PASSING
from describe.jobs.describing import BRIEFLY, TO_ASK_AGAIN, Progress
from describe.jobs.shards import ShardStore
from describe.jobs.storing import PATIENCE, peak_memory
from describe.protocols import Asking
from describe.settings import digest
from eval.judging.anchors import anchors_digest
from eval.judging.claims import Claim, RunToJudge
from eval.judging.detection import PROMPTS
from eval.judging.encoding import grade_by_cosine
from eval.judging.executing import GRADER, grade_by_execution
from eval.judging.foils import Trial, Trials
from eval.judging.judges import Judge, Judged, JudgeSettings
from eval.judging.plausibility import PROMPT
from eval.judging.tables import Grades, write_judged
from prompts import load

if TYPE_CHECKING:
    from describe.protocols import Encoder

_MODEL = "model_digest, architecture, n_layers, n_heads, n_kv_heads, d_model, d_head, n_vocab, preset, vocabulary_digest, drafter"


@dataclass(frozen=True)
class JudgeReport:
    """What became of a judging run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    n_claims: int
    unasked: int = 0  # questions that the budget, or a missing answer, left open
    failed: int = 0  # ratings, detections and anchors without a figure


class JudgeJob:
    """One judging run.

    Args:
        catalogue: the DuckDB file.
        run: the descriptions and rows to judge by.
        settings: how.
        judges: chat models with what puts the questions to them; none: only the encoder grades.
        encoder: makes the encoder; None leaves its grades out.
        progress: told (stage, done, total).
    """

    def __init__(
        self,
        catalogue: Path,
        run: RunToJudge,
        settings: JudgeSettings,
        judges: Sequence[tuple[str, Asking]],
        encoder: Callable[[], Encoder] | None,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.catalogue = catalogue
        self.described = run
        self.settings = settings
        self._judges = list(judges)
        self._encoder = encoder
        self._progress = progress
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: descriptions, judges and endpoints, settings, prompts, anchors, code version."""
        return digest(
            "judge",
            self.described.run_id,
            [[one.description_id, one.text] for one in self.described.claims],
            [[model, asker.base_url] for model, asker in self._judges],
            asdict(self.settings),
            [load(name).digest for name in (PROMPT, PROMPTS[self.settings.method], "repair")],
            anchors_digest() if self.settings.anchors else None,
            self._encoder is not None,
            __version__,
        )[:20]

    @cached_property
    def trials(self) -> dict[str, tuple[Claim, Trial]]:
        """By description id: the claim and its trial; claims of heads with too few rows have none."""
        maker = Trials(self.described.book, self.settings.trial)
        found = {}
        for claim in self.described.claims:
            alike = frozenset(one.head for one in self.described.claims if one.text == claim.text)
            trial = maker.make(
                claim.head,
                claim.directions,
                claim.splits,
                by_source=claim.by_source,
                alike=alike - {claim.head},
                sources=claim.sources,
            )
            if trial is not None:
                found[claim.description_id] = claim, trial
        return found

    def run(self) -> JudgeReport:
        """Judge what is missing and store it.

        Raises:
            DescribeError: an endpoint or the catalogue cannot be used; every answer so far is kept.
        """
        started, begin = datetime.now(UTC), time.monotonic()
        n_claims = len(self.described.claims)
        with self._shards.owned():
            if self._is_stored():
                return JudgeReport(self.run_id, False, n_claims, failed=self._failed())
            graded = self._grade()
            judged = self.ask()
            unasked = sum(one.status in OPEN for judge in judged for one in judge.outcomes)
            with self._shards.scratch("judged") as folder:
                self._store(folder, judged, graded, started, time.monotonic() - begin, unasked)
        return JudgeReport(self.run_id, True, n_claims, unasked, self._failed())

    def ask(self) -> list[Judged]:
        """Put everything to every judge."""
        trials = {key: trial for key, (_, trial) in self.trials.items()}
        found = []
        for model, asker in self._judges:
            judge = Judge(model, asker, self.settings, self.run_id)

            def told(done: int, total: int, stage: str = f"judge {model}") -> None:
                self._progress(stage, done, total)

            found.append(judge.judge(self.described.claims, trials, self.described.book, told))
        return found

    def _grade(self) -> list[Grades]:
        """What needs no chat model: the claims that can be run, and cosines of a sentence encoder."""
        if self._encoder is None:
            return []
        encoder, seed = self._encoder(), self.settings.seed
        self._progress("grade", 0, 2)
        executed = grade_by_execution(self.trials, encoder.encode, seed)
        self._progress("grade", 1, 2)
        texts = {key: (claim.text, trial) for key, (claim, trial) in self.trials.items()}
        cosine = grade_by_cosine(texts, encoder, self.settings.targets, seed)
        self._progress("grade", 2, 2)
        return [Grades(GRADER, "operation", executed), Grades(encoder.name, "cosine", cosine)]

    def _is_stored(self) -> bool:
        """Whether the catalogue has this run whole; failures that may have passed are asked about again."""
        with Catalogue.open(self.catalogue, wait=BRIEFLY) as catalogue:
            if catalogue.run_status(self.run_id) != "complete":
                return False
            return not catalogue.query(TO_ASK_AGAIN, [self.run_id, list(PASSING)]).rows

    def _failed(self) -> int:
        """Ratings, detections and anchors of the run without a figure."""
        found = read_only_query(
            self.catalogue,
            "SELECT (SELECT count(*) FROM ratings WHERE run_id = $1 AND status <> 'rated')"
            " + (SELECT count(*) FROM detections WHERE run_id = $1 AND status <> 'ok')"
            " + (SELECT count(*) FROM anchor_ratings WHERE run_id = $1 AND status <> 'rated')",
            [self.run_id],
            wait=PATIENCE,
        )
        return int(str(found.rows[0][0]))

    def _store(
        self,
        folder: Path,
        judged: Sequence[Judged],
        graded: Sequence[Grades],
        started: datetime,
        seconds: float,
        unasked: int,
    ) -> None:
        files = write_judged(folder, self.run_id, judged, graded, self.trials, self.settings.method)
        settings = asdict(self.settings) | {
            "describe_run": self.described.run_id,
            "judges": [[one.judge, one.base_url] for one in judged],
            "graders": [one.grader for one in graded],
        }
        run = self._identity() | {
            "run_id": self.run_id,
            "kind": "judge",
            "model": self.described.model,
            "settings": settings,
            "settings_digest": digest(settings),
            "seed": self.settings.seed,
            "code_version": __version__,
            "status": "stopped" if unasked else "complete",
            "started_at": started,
            "finished_at": datetime.now(UTC),
            "stage_seconds": {"judge": round(seconds, 3)},
            "peak_memory_bytes": peak_memory(),
        }
        with Catalogue.open(self.catalogue, wait=PATIENCE) as catalogue:
            catalogue.ingest_run(run, {name: [path] for name, path in files.items()}, replace=True)

    def _identity(self) -> dict[str, object]:
        """Columns of `runs` that say what was described."""
        found = read_only_query(
            self.catalogue,
            f"SELECT {_MODEL} FROM runs WHERE run_id = ?",
            [self.described.run_id],
            wait=PATIENCE,
        )
        return dict(zip(found.columns, found.rows[0], strict=True))
