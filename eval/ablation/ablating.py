"""Ablations into the catalogue: clean accuracies, a shard a task, q-values over all of them, one ingest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from describe import __version__
from describe.errors import InputError
from describe.jobs.shards import ShardStore
from describe.relations import Relation, relation_digest
from describe.settings import digest
from eval.ablation.experiment import DRAWS, Experiment, Plan
from eval.ablation.passes import METHODS, RunningTask
from eval.ablation.rows import ABLATIONS, AREAS, BASE, judged
from eval.ablation.setups import PAIRS, TEXTS, SetUp, sampled, set_ups, static_of
from eval.inference.static import check_same_pairs, static_scores
from eval.inference.storing import done_once, store_check

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from describe.subject.running import LiveModel

Progress = Callable[[str, int, int], None]
_AT_HAND = 6  # tasks whose keys and values are kept: some 100 MB each for a model of 1 B parameters


@dataclass(frozen=True)
class AblationOptions:
    """What was asked for; all but `device` is part of the run's identity."""

    relations: tuple[Relation, ...]
    texts: Mapping[str, str] = field(default_factory=lambda: dict(TEXTS))  # by relation
    preset: str = "default"  # whose static scores say which heads are a relation's: default or paper
    methods: tuple[str, ...] = METHODS
    pairs: int = PAIRS
    strongest: int | None = None  # only the tasks of so many relations, those with the best static lift
    draws: int = DRAWS  # of random heads; two at least, for how far sets of heads differ
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no interval can be made of."""
        if self.draws < 2:
            raise ValueError(f"{self.draws} draws of random heads: two are needed at least")


@dataclass(frozen=True)
class AblationReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    left_out: Mapping[str, str]  # relations with a text that could not be placed in it, with the reason


class AblationJob:
    """Removes the heads of relations, and as many random ones, while the model does the relations' tasks.

    Args:
        model: the subject.
        excluded: token ids by reason, left out as the default preset leaves them out.
        catalogue: the DuckDB file with the model's relation scores; the answers go there too.
        options: what to do.
        progress: told (stage, done, in all).

    Raises:
        InputError: the catalogue holds no relation scores of the model.
    """

    def __init__(
        self,
        model: SubjectModel,
        excluded: Mapping[str, Iterable[int]],
        catalogue: Path,
        options: AblationOptions,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model, self.options, self.catalogue = model, options, catalogue
        self._progress = progress
        static, self._static_runs = static_scores(catalogue, model.name, model.digest)
        found, self.left_out = set_ups(
            options.relations,
            options.texts,
            model.vocabulary,
            {i for ids in excluded.values() for i in ids},
            static_of(static, options.preset),
            model.shape,
        )
        best = sorted(found, key=lambda one: (-one.lift, one.name))[: options.strongest]
        self.set_ups: Mapping[str, SetUp] = {
            one.name: sampled(one, options.pairs, options.seed) for one in found if one in best
        }
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, pairs, texts, options, the static runs, code version."""
        options = self.options
        return digest(
            "check ablations",
            self.model.digest,
            self.model.vocabulary.digest,
            [relation_digest(one) for one in options.relations if one.name in options.texts],
            [[name, asdict(one.template)] for name, one in self.set_ups.items()],
            [options.preset, list(options.methods), options.pairs, options.draws, options.seed],
            self._static_runs,
            __version__,
        )[:20]

    def run(self) -> AblationReport:
        """Do what is missing and store it.

        Raises:
            InputError: there is no task that the model can be given, or pairs are not those that were scored.
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full.
        """
        started, begin = datetime.now(UTC), time.monotonic()
        if not self.set_ups:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise InputError(
                f"No relation can be ablated on {self.model.name} ({reasons or 'none with a text was given'}): score "
                "relations like country_to_capital with `describe relations` first."
            )
        check_same_pairs(self.catalogue, [one for one in self.options.relations if one.name in self.set_ups])

        def do() -> None:
            self._make_shards()
            self._shards.make("areas", self._judge)
            self._store(started, time.monotonic() - begin)

        return AblationReport(
            self.run_id, done_once(self.catalogue, self._shards, self.run_id, do), self.left_out
        )

    def _make_shards(self) -> None:
        """Make the missing shards: the clean accuracies, which say what can be a control, and one a task."""
        names = list(self.set_ups)
        missing = [number for number in range(len(names)) if not self._shards.has(f"task-{number}")]
        if not missing:
            return
        from describe.subject.running import LiveModel

        live = LiveModel(self.model, device=self.options.device)
        task = lru_cache(maxsize=_AT_HAND)(partial(self._task, live))
        self._shards.make("base", partial(self._base, task))
        base = pq.read_table(self._shards.path("base") / "base.parquet").to_pydict()
        plan = Plan(
            self.set_ups,
            dict(zip(base["relation"], base["accuracy"], strict=True)),
            self.model.shape,
            self.options.methods,
            self.options.draws,
            self.options.seed,
        )
        for number in missing:
            self._shards.make(f"task-{number}", partial(self._ablate, plan, task, names[number]))

    def _task(self, live: LiveModel, name: str) -> RunningTask:
        set_up, n_heads = self.set_ups[name], self.model.shape.n_heads
        seed = int.from_bytes(name.encode()) + self.options.seed
        return RunningTask(live, set_up.prompts, set_up.relation.targets, n_heads, seed)

    def _base(self, task: Callable[[str], RunningTask], folder: Path) -> None:
        rows = []
        for name in self.set_ups:
            right = task(name).clean
            rows.append({"relation": name, "accuracy": float(right.mean()), "n_prompts": len(right)})
            self._progress("ablation: all heads in place", len(rows), len(self.set_ups))
        pq.write_table(pa.Table.from_pylist(rows, schema=BASE), folder / "base.parquet")

    def _ablate(self, plan: Plan, task: Callable[[str], RunningTask], name: str, folder: Path) -> None:
        number = list(self.set_ups).index(name) + 1
        stage = f"ablation {number} of {len(self.set_ups)}: {name}"
        found = Experiment(plan, task, name, lambda done, total: self._progress(stage, done, total))
        steps, areas = found.run()
        constants = {"preset": self.options.preset, "seed": self.options.seed}
        for file, rows, schema in (("ablations", steps, ABLATIONS), ("areas", areas, AREAS)):
            rows = [{name: {**constants, **row}.get(name) for name in schema.names} for row in rows]
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{file}.parquet")

    def _judge(self, folder: Path) -> None:
        rows = [row for path in self._files("areas") for row in pq.read_table(path).to_pylist()]
        judged(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=AREAS), folder / "areas.parquet")

    def _files(self, table: str) -> Sequence[Path]:
        return [self._shards.path(f"task-{n}") / f"{table}.parquet" for n in range(len(self.set_ups))]

    def _store(self, started: datetime, seconds: float) -> None:
        options = self.options
        settings = {
            "relations": {
                one.name: relation_digest(one) for one in options.relations if one.name in self.set_ups
            },
            "texts": {name: one.template.text for name, one in self.set_ups.items()},
            "preset": options.preset,
            "methods": list(options.methods),
            "pairs": options.pairs,
            "draws": options.draws,
            "static_runs": self._static_runs,
        }
        shards = {
            "ablations": self._files("ablations"),
            "ablation_areas": [self._shards.path("areas") / "areas.parquet"],
        }
        times = (started, "ablation", seconds)
        store_check(self.model, self.catalogue, self.run_id, settings, options.seed, times, shards)
