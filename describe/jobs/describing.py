"""The main job on one model: project, draft, judge all heads together, store; killed at any moment, it resumes.

Each step leaves shards under content keys, so a second try does only what is missing and the same settings
always give the same rows. The catalogue is written once, in one transaction, at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from describe import __version__
from describe.catalogue import Catalogue
from describe.drafting.rules.evidence import GradingSettings
from describe.jobs.drafting import Drafting, Outcome
from describe.jobs.shards import ShardStore
from describe.jobs.tables import write_mappings
from describe.records import HeadId
from describe.settings import ProjectionSettings, digest

if TYPE_CHECKING:
    from describe.protocols import Encoder
    from describe.subject.model import SubjectModel

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""


@dataclass(frozen=True)
class RunOptions:
    """What was asked for; everything that can change a row is in `identity`."""

    settings: ProjectionSettings
    heads: tuple[HeadId, ...]  # in order
    grading: GradingSettings = field(default_factory=GradingSettings)
    drafter: str = "rules"
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class RunReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done
    seconds: Mapping[str, float]
    failed: Sequence[HeadId]


class Job:
    """One run over one model.

    Args:
        model: the subject.
        excluded: token ids by reason, left out when the settings filter tokens.
        encoder: makes the encoder when it is first needed.
        catalogue: the DuckDB file to store into.
        options: what to do.
        progress: told as stages advance.
    """

    def __init__(
        self,
        model: SubjectModel,
        excluded: Mapping[str, Iterable[int]],
        encoder: Callable[[], Encoder],
        catalogue: Path,
        options: RunOptions,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model = model
        self.excluded = {reason: sorted(ids) for reason, ids in excluded.items()}
        self.encoder = encoder
        self.catalogue = catalogue
        self.options = options
        self.progress = progress
        self.shards = ShardStore(catalogue)
        self.seconds: dict[str, float] = {}
        self._made: list[str] = []

    @property
    def run_id(self) -> str:
        """Content identity of the run: weights, vocabulary, settings, grading, drafter, code and selection."""
        return self._key(
            "run", self.options.grading, self.options.drafter, [str(h) for h in self.options.heads]
        )

    def _key(self, *parts: object) -> str:
        return digest(
            self.model.digest,
            self.model.vocabulary.digest,
            self.options.settings,
            self.options.seed,
            __version__,
            *parts,
        )[:20]

    def run(self) -> RunReport:
        """Do what is missing and store it.

        Raises:
            DescribeError: the catalogue cannot be opened or written, or the disk is full; shards stay, so that
                the next run goes on from there.
        """
        started = datetime.now(UTC)
        with Catalogue.open(self.catalogue) as catalogue:  # before hours of work, not after
            if catalogue.run_status(self.run_id) == "complete":
                return RunReport(self.run_id, fresh=False, seconds={}, failed=[])
        layers = sorted({head.layer for head in self.options.heads})
        with self._timed("project"):
            projected = self._project(layers)
        drafting = Drafting(self, projected)
        with self._timed("draft"):
            drafting.layers()
        with self._timed("verdict"):
            outcome = drafting.verdict()
        with self._timed("store"):
            self._store(outcome, projected, drafting.keys, started)
        self.shards.clean(self._made)
        return RunReport(self.run_id, fresh=True, seconds=self.seconds, failed=outcome.failed)

    def is_complete(self) -> bool:
        """Whether the catalogue has this very run already."""
        if not self.catalogue.exists():
            return False
        with Catalogue.open(self.catalogue) as catalogue:
            return catalogue.run_status(self.run_id) == "complete"

    def missing_layers(self) -> list[int]:
        """Layers whose mappings are still to be computed."""
        layers = sorted({head.layer for head in self.options.heads})
        return [layer for layer in layers if not self.shards.has(self.mappings_key(layer))]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts [n, dim], kept in a shard so that a resumed run does not encode again."""
        key = self._key("vectors", texts)

        def make(folder: Path) -> None:
            self.progress("encode", 0, len(texts))
            np.save(folder / "vectors.npy", self.encoder().encode(texts))

        self.shard(key, make)
        self.progress("encode", len(texts), len(texts))
        return np.load(self.shards.path(key) / "vectors.npy")

    def shard(self, key: str, make: Callable[[Path], None]) -> str:
        """Make the shard of a key unless it exists; returns the key."""
        if not self.shards.has(key):
            with self.shards.making(key) as folder:
                make(folder)
        self._made.append(key)
        return key

    def mappings_key(self, layer: int) -> str:
        """Key of a layer's mappings."""
        return self._key("mappings", layer)

    def draft_key(self, layer: int, *parts: object) -> str:
        """Key of a layer's drafts: clusters and claims of the chosen heads."""
        heads = [str(head) for head in self.options.heads]
        return self._key("draft", self.options.grading, self.options.drafter, heads, layer, *parts)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - begin, 3)

    def _project(self, layers: Sequence[int]) -> dict[int, str]:
        """Mapping shards of the layers; only missing ones are computed."""
        keys = {layer: self.mappings_key(layer) for layer in layers}
        missing = [layer for layer in layers if not self.shards.has(keys[layer])]
        self._made += [keys[layer] for layer in layers if layer not in missing]
        if not missing:
            return keys
        from describe.jobs.projecting import Projector

        counts = {"saliency": 0, "mappings": len(layers) - len(missing)}
        totals = {"saliency": self.model.shape.n_layers, "mappings": len(layers)}

        def done(stage: str, n: int) -> None:
            counts[stage] += n
            self.progress(stage, counts[stage], totals[stage])

        projector = Projector(
            self.model, self.options.settings, self.excluded, self.options.device, self.options.seed
        )
        texts = self.model.vocabulary.texts
        for projection in projector.layers(missing, done):

            def make(folder: Path) -> None:
                write_mappings(
                    folder / "mappings.parquet",
                    projection.mappings.values(),  # noqa: B023 (used at once)
                    texts,
                    self.options.settings.preset,
                )
                constants = {
                    f"{head}:{direction}": ids.tolist()
                    for (head, direction), ids in projection.constant_ids.items()  # noqa: B023
                }
                (folder / "constants.json").write_text(json.dumps(constants, sort_keys=True))

            self.shard(keys[projection.layer], make)
        return keys

    def _store(
        self,
        outcome: Outcome,
        projected: Mapping[int, str],
        drafted: Mapping[int, str],
        started: datetime,
    ) -> None:
        model, options = self.model, self.options
        whole = len(options.heads) == model.shape.n_layers * model.shape.n_heads
        wanted = set(options.heads)
        tables = {
            "mappings": [
                self._only(self.shards.path(key), layer, wanted, outcome.shard)
                for layer, key in projected.items()
            ],
            "clusters": [self.shards.path(key) / "clusters.parquet" for key in drafted.values()],
            "descriptions": [self.shards.path(outcome.shard) / "descriptions.parquet"],
            "heads": [self.shards.path(outcome.shard) / "heads.parquet"],
            "excluded_tokens": [self.shards.path(outcome.shard) / "excluded_tokens.parquet"],
        }
        shape = model.shape
        run = {
            "run_id": self.run_id,
            "kind": "describe",
            "model": model.name,
            "model_digest": model.digest,
            "architecture": model.architecture,
            "n_layers": shape.n_layers,
            "n_heads": shape.n_heads,
            "n_kv_heads": shape.n_kv_heads,
            "d_model": shape.d_model,
            "d_head": shape.d_head,
            "n_vocab": shape.n_vocab,
            "preset": options.settings.preset,
            "settings": json.loads(
                json.dumps({"projection": options.settings, "grading": options.grading}, default=vars)
            ),
            "settings_digest": digest(options.settings, options.grading),
            "vocabulary_digest": model.vocabulary.digest,
            "drafter": options.drafter,
            "seed": options.seed,
            "code_version": __version__,
            "selection": None if whole else ",".join(str(head) for head in options.heads),
            "status": "complete",
            "started_at": started,
            "finished_at": datetime.now(UTC),
            "null_checks": outcome.null_checks,
            "stage_seconds": self.seconds,
            "peak_memory_bytes": peak_memory(),
        }
        with Catalogue.open(self.catalogue) as catalogue:
            catalogue.ingest_run(run, tables)

    def _only(self, shard: Path, layer: int, wanted: set[HeadId], outcome: str) -> Path:
        """A layer's mappings without the heads that were not asked for."""
        whole = shard / "mappings.parquet"
        if all(HeadId(layer, head) in wanted for head in range(self.model.shape.n_heads)):
            return whole
        from describe.jobs.tables import read_mappings

        chosen = self.shards.path(outcome) / f"mappings-{layer}.parquet"
        kept = [one for one in read_mappings(whole) if one.head in wanted]
        write_mappings(chosen, kept, self.model.vocabulary.texts, self.options.settings.preset)
        return chosen


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
