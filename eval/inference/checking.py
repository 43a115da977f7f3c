"""Truth at inference into the catalogue: plan, a shard a template, correlations, one ingest."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from describe import __version__
from describe.errors import InputError
from describe.jobs.relation_layers import UsableRelation
from describe.jobs.relation_pairs import UsablePairs, usable
from describe.jobs.shards import ShardStore
from describe.relations import Relation, relation_digest
from describe.relations.generated import FEW
from describe.settings import digest
from eval.inference.correlating import correlations
from eval.inference.dynamic import DynamicScores, PlacedPairs
from eval.inference.static import check_same_pairs, static_scores
from eval.inference.storing import done_once, store_check
from eval.inference.templates import TEMPLATES, Template

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from describe.subject.running import LiveModel

Progress = Callable[[str, int, int], None]
PAIRS = 60
"""Pairs of a relation that are placed in context; a sample of the longer ones."""
QUICK_PAIRS, QUICK_RELATIONS = 30, 12
CORRELATION = pa.schema(
    [
        *((name, pa.string()) for name in ("relation", "preset", "context", "direction", "sources")),
        *((name, pa.float64()) for name in ("pearson_r", "spearman_r", "pearson_r_lift", "spearman_r_lift")),
        *((name, pa.int32()) for name in ("n_heads", "n_templates", "n_pairs")),
        *((name, pa.float64()) for name in ("max_score", "max_lift")),
    ]
)


@dataclass(frozen=True)
class CheckOptions:
    """What was asked for; all but `device` is part of the run's identity."""

    relations: tuple[Relation, ...]
    explicit: bool = False  # every relation was asked for by name: one that cannot be checked is an error
    several: bool = False  # sources of several tokens, read at their last, instead of those of one
    templates: tuple[str, ...] = TEMPLATES
    pairs: int = PAIRS
    device: str = "cpu"
    seed: int = 0

    @property
    def sources(self) -> str:
        """As `relation_scores` and `dynamic_scores` call it."""
        return "several tokens" if self.several else "one token"


@dataclass(frozen=True)
class CheckReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    left_out: Mapping[str, str]  # relations that could not be checked, with the reason


class CorrelationJob:
    """Dynamic scores of relations on every head, and their correlation with the catalogue's static scores.

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
        options: CheckOptions,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model, self.options, self.catalogue = model, options, catalogue
        self._excluded = {i for ids in excluded.values() for i in ids}
        self._progress = progress
        self._static, self._static_runs = static_scores(catalogue, model.name, model.digest)
        self._placed = [Template.of(text, model.vocabulary) for text in options.templates]
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, pairs, templates, the static runs, code version."""
        options = self.options
        return digest(
            "check correlations",
            self.model.digest,
            self.model.vocabulary.digest,
            [relation_digest(one) for one in options.relations],
            [options.several, [asdict(one) for one in self._placed], options.pairs, options.seed],
            self._static_runs,
            __version__,
        )[:20]

    @cached_property
    def left_out(self) -> Mapping[str, str]:
        """Relations that cannot be checked, with the reason."""
        scored, found = {relation for relation, _, _ in self._static}, {}
        for one in self._cut.relations:
            if one.name not in scored:
                found[one.name] = "no scores from the weights"
            elif len(one.sources) < FEW:
                found[one.name] = f"{len(one.sources)} pairs, {FEW} are needed"
        return found

    @cached_property
    def _cut(self) -> UsablePairs:
        options = self.options
        return usable(options.relations, self.model.vocabulary, self._excluded, several=options.several)

    @cached_property
    def pairs(self) -> tuple[Sequence[PlacedPairs], Sequence[Sequence[int]]]:
        """The sampled pairs of every relation, and the sources that they index as token ids."""
        chosen = [self._sample(one) for one in self._cut.relations if one.name not in self.left_out]
        if not chosen or (self.options.explicit and self.left_out):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise InputError(
                f"Relations that cannot be checked on {self.model.name} ({reasons or 'none was named'}): give each at "
                f"least {FEW} pairs and score it with `describe relations` first."
            )
        ids = np.unique(np.concatenate([one.sources for one in chosen]))
        sources = [self._cut.words[index] if self.options.several else (int(index),) for index in ids]
        return [PlacedPairs(one, np.searchsorted(ids, one.sources)) for one in chosen], sources

    def run(self) -> CheckReport:
        """Do what is missing and store it.

        Raises:
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full.
        """
        started, begin = datetime.now(UTC), time.monotonic()
        _ = self.pairs  # says first what cannot be checked
        check_same_pairs(self.catalogue, self.options.relations)

        def do() -> None:
            self._score()
            self._shards.make("correlations", self._correlate)
            self._store(started, time.monotonic() - begin)

        return CheckReport(
            self.run_id, done_once(self.catalogue, self._shards, self.run_id, do), self.left_out
        )

    def _sample(self, relation: UsableRelation) -> UsableRelation:
        if len(relation.sources) <= self.options.pairs:
            return relation
        generator = np.random.default_rng([self.options.seed, *relation.name.encode()])
        keep = np.sort(generator.permutation(len(relation.sources))[: self.options.pairs])
        return replace(relation, sources=relation.sources[keep], targets=relation.targets[keep])

    def _score(self) -> None:
        """Make the missing shards, one a template."""
        missing = [number for number in range(len(self.options.templates)) if not self._has(number)]
        if not missing:
            return
        from describe.subject.running import LiveModel

        placed, sources = self.pairs
        live = LiveModel(self.model, device=self.options.device)
        scorer = DynamicScores(self.model, placed, self._excluded, self.options.device)
        for number in missing:
            self._shards.make(f"template-{number}", partial(self._template, number, live, scorer, sources))

    def _has(self, number: int) -> bool:
        return self._shards.has(f"template-{number}")

    def _template(
        self,
        number: int,
        live: LiveModel,
        scorer: DynamicScores,
        sources: Sequence[Sequence[int]],
        folder: Path,
    ) -> None:
        from eval.inference.reading import read

        text, of = self.options.templates[number], f"template {number + 1} of {len(self.options.templates)}"
        n_layers = self.model.shape.n_layers
        readings = read(
            live,
            self._placed[number],
            sources,
            n_layers,
            lambda done: self._progress(f"{of}: forward passes", done, len(sources)),
        )
        parts = []
        for layer, columns in scorer.layers(readings):
            size = len(columns["layer"])
            constants = {"template": text, "sources": self.options.sources}
            parts.append(
                pa.table(columns | {name: np.full(size, value, object) for name, value in constants.items()})
            )
            self._progress(f"{of}: scores", layer + 1, n_layers)
        table = pa.concat_tables(parts)
        lift = pa.array(table.column("score").to_numpy() - table.column("null_mean").to_numpy())
        pq.write_table(table.append_column("lift", lift), folder / "scores.parquet")

    def _correlate(self, folder: Path) -> None:
        dynamic: dict[tuple[str, str, str, str], list[tuple[np.ndarray, np.ndarray, int]]] = defaultdict(list)
        names = ("relation", "readout", "direction", "context", "score", "lift", "n_pairs")
        for number in range(len(self.options.templates)):
            # Sorted as the static scores are: by layer, then head.
            table = pq.read_table(self._file(number)).sort_by([("layer", "ascending"), ("head", "ascending")])
            places = defaultdict(list)
            columns = [table.column(name).to_numpy() for name in names]
            for place, key in enumerate(zip(*columns[:4], strict=True)):
                places[key].append(place)
            for key, own in places.items():
                dynamic[key].append((columns[4][own], columns[5][own], int(columns[6][own[0]])))
        rows = [
            asdict(one) | {"sources": self.options.sources} for one in correlations(self._static, dynamic)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=CORRELATION), folder / "correlations.parquet")

    def _file(self, number: int) -> Path:
        return self._shards.path(f"template-{number}") / "scores.parquet"

    def _store(self, started: datetime, seconds: float) -> None:
        options = self.options
        settings = {
            "relations": {one.name: relation_digest(one) for one in options.relations},
            "templates": list(options.templates),
            "sources": options.sources,
            "pairs": options.pairs,
            "static_runs": self._static_runs,
        }
        shards = {
            "dynamic_scores": [self._file(number) for number in range(len(options.templates))],
            "correlations": [self._shards.path("correlations") / "correlations.parquet"],
        }
        times = (started, "correlations", seconds)
        store_check(self.model, self.catalogue, self.run_id, settings, options.seed, times, shards)
