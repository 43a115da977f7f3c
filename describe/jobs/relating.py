"""Relation scores of a model into the catalogue: plan, a shard a layer, q-values over all heads, one ingest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from describe import __version__
from describe.catalogue import Catalogue, RelationRecord, owner_lock, read_only_query
from describe.catalogue.connect import check_path
from describe.core.nulls import benjamini_hochberg
from describe.errors import InputError
from describe.jobs.describing import BRIEFLY
from describe.jobs.relation_pairs import UsablePairs, few_pairs, usable
from describe.jobs.shards import ShardStore
from describe.jobs.storing import PATIENCE, model_identity, peak_memory
from describe.relations import Relation, relation_digest
from describe.relations.scores import KS
from describe.settings import ProjectionSettings, digest

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel

Progress = Callable[[str, int, int], None]
Sources = Literal["one token", "several tokens"]
Targets = Literal["whole word", "first token"]

SCORES = pa.schema(
    [
        *((name, pa.int32()) for name in ("layer", "head")),
        *((name, pa.string()) for name in ("relation", "preset", "direction", "sources", "targets")),
        ("k", pa.int32()),
        ("main", pa.bool_()),
        ("thin", pa.bool_()),
        ("n_pairs", pa.int32()),
        *(
            (name, pa.float64())
            for name in (
                "score", "null_mean", "lift", "p_value", "q_value", "within_class", "identity_score",
                "reversed_score", "ci_low", "ci_high", "mean_reciprocal_rank",
            )
        ),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class RelationOptions:
    """What was asked for; all but `device` is part of the run's identity."""

    settings: ProjectionSettings
    relations: tuple[Relation, ...]
    sources: Sources = "one token"
    targets: Targets = "whole word"
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class RelationReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    scored: Mapping[str, int]  # pairs by relation
    too_few: Mapping[str, int]  # relations left out, with the pairs that they have here


class RelationJob:
    """Scores every relation on every head of one model under one setting.

    Args:
        model: the subject.
        excluded: token ids by reason, left out where the settings filter tokens.
        catalogue: the DuckDB file to store into.
        options: what to do.
        progress: told (stage, layers done, layers).
    """

    def __init__(
        self,
        model: SubjectModel,
        excluded: Mapping[str, Iterable[int]],
        catalogue: Path,
        options: RelationOptions,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model, self.options, self.catalogue = model, options, catalogue
        self._excluded = {reason: sorted(ids) for reason, ids in excluded.items()}
        self._progress = progress
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, settings, pairs, code version."""
        options = self.options
        return digest(
            "relations",
            self.model.digest,
            self.model.vocabulary.digest,
            options.settings,
            [[relation_digest(one), one.thin, one.exact] for one in options.relations],
            [options.sources, options.targets, options.seed, list(KS)],
            __version__,
        )[:20]

    @cached_property
    def pairs(self) -> UsablePairs:
        """The relations cut to the vocabulary."""
        gone = (
            {i for ids in self._excluded.values() for i in ids}
            if self.options.settings.token_filter
            else set()
        )
        return usable(
            self.options.relations,
            self.model.vocabulary,
            gone,
            several=self.options.sources == "several tokens",
            first_token=self.options.targets == "first token",
        )

    def run(self) -> RelationReport:
        """Do what is missing and store it.

        Raises:
            InputError: no relation has enough pairs, a name is taken by other pairs, or weights are damaged.
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full.
        """
        started, begin = datetime.now(UTC), time.monotonic()
        check_path(self.catalogue)
        with self._shards.owned():
            fresh = not self._is_stored()
            kept, too_few = few_pairs(self.pairs)
            if not kept.relations:
                raise InputError(
                    f"No relation has the pairs to be scored on {self.model.name}: give at least 30 pairs whose words are "
                    "single tokens, or mark the relation thin."
                )
            if fresh:
                self._score(kept)
                self._store(started, time.monotonic() - begin)
            self._shards.remove()
        scored = {one.name: len(one.sources) for one in kept.relations}
        return RelationReport(self.run_id, fresh, scored, too_few)

    def is_complete(self) -> bool:
        """Whether the catalogue has this very run already; only reads."""
        return self.catalogue.exists() and bool(
            read_only_query(
                self.catalogue,
                "FROM runs WHERE run_id = ? AND status = 'complete'",
                [self.run_id],
                wait=BRIEFLY,
            ).rows
        )

    def _is_stored(self) -> bool:
        if not self.catalogue.exists():
            with owner_lock(self.catalogue, wait=BRIEFLY):
                return False
        with Catalogue.open(self.catalogue, wait=BRIEFLY) as catalogue:
            catalogue.check_relation_names(self._records())
            return catalogue.run_status(self.run_id) == "complete"

    def _score(self, kept: UsablePairs) -> None:
        """Make the missing shards, one a layer, and then that of all layers with q-values."""
        n_layers, preset = self.model.shape.n_layers, self.options.settings.preset
        missing = [layer for layer in range(n_layers) if not self._shards.has(f"layer-{layer}")]
        if missing:
            from describe.jobs.relation_layers import RelationLayers

            words = None
            if self.options.sources == "several tokens":
                from describe.subject.words import word_states

                words = word_states(self.model.config, self.model.store, kept.words, self.options.device)
            scorer = RelationLayers(
                self.model,
                self.options.settings,
                self._excluded,
                kept.relations,
                word_states=words,
                device=self.options.device,
                seed=self.options.seed,
            )
            for done, (layer, columns) in enumerate(
                scorer.layers(missing), start=n_layers - len(missing) + 1
            ):
                arrays = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
                self._shards.make(f"layer-{layer}", partial(_write, pa.table(arrays)))
                self._progress(f"{preset} preset", done, n_layers)
        self._shards.make("scores", self._with_q_values)

    def _with_q_values(self, folder: Path) -> None:
        """Join the layers; Benjamini–Hochberg over heads × relations for each direction and k."""
        parts = [
            pq.read_table(self._shards.path(f"layer-{layer}") / "rows.parquet")
            for layer in range(self.model.shape.n_layers)
        ]
        table = pa.concat_tables(parts)
        p = table.column("p_value").to_numpy()
        direction, k = (table.column(name).to_numpy(zero_copy_only=False) for name in ("direction", "k"))
        q = np.empty_like(p)
        for one in np.unique(direction):
            for each in KS:
                chosen = (direction == one) & (k == each)
                q[chosen] = benjamini_hochberg(p[chosen])
        options = self.options
        constants = {
            "preset": options.settings.preset,
            "sources": options.sources,
            "targets": options.targets,
        }
        columns = {name: table.column(name) for name in table.column_names} | {"q_value": pa.array(q)}
        columns |= {name: pa.array([text] * len(table)) for name, text in constants.items()}
        pq.write_table(
            pa.table({field.name: columns[field.name] for field in SCORES}).cast(SCORES),
            folder / "scores.parquet",
        )

    def _store(self, started: datetime, seconds: float) -> None:
        options = self.options
        settings = {
            "projection": _projection(options.settings),
            "relations": {one.name: relation_digest(one) for one in options.relations},
            "sources": options.sources,
            "targets": options.targets,
            "ks": list(KS),
        }
        run = model_identity(self.model) | {
            "run_id": self.run_id,
            "kind": "relations",
            "preset": options.settings.preset,
            "settings": settings,
            "settings_digest": digest(settings),
            "seed": options.seed,
            "code_version": __version__,
            "status": "complete",
            "started_at": started,
            "finished_at": datetime.now(UTC),
            "stage_seconds": {"relations": round(seconds, 3)},
            "peak_memory_bytes": peak_memory(),
        }
        shards = {"relation_scores": [self._shards.path("scores") / "scores.parquet"]}
        with Catalogue.open(self.catalogue, wait=PATIENCE) as opened:
            opened.ingest_run(run, shards, self._records())

    def _records(self) -> Sequence[RelationRecord]:
        return [
            RelationRecord(
                relation=one.name,
                category=one.category,
                description=one.description,
                sentence=one.sentence,
                source=one.source,
                licence=one.licence,
                # Of a generated relation the rule is the same for all tokenizers, and its pairs are not.
                digest=digest("generated", one.name, one.sentence) if one.exact else relation_digest(one),
                generated=one.exact,
                pairs=one.pairs,
            )
            for one in self.options.relations
        ]


def _write(table: pa.Table, folder: Path) -> None:
    pq.write_table(table, folder / "rows.parquet")


def _projection(settings: ProjectionSettings) -> dict[str, object]:
    """Projection settings by name, without what concerns salient mappings only."""
    return {
        name: value
        for name, value in vars(settings).items()
        if name not in ("salient", "targets", "contrastive")
    }
