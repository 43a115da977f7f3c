"""Agreement of a model's descriptions into the catalogue: plan, a shard a template, q-values, one ingest."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from describe import __version__
from describe.catalogue import read_only_query
from describe.core.nulls import benjamini_hochberg
from describe.errors import InputError
from describe.jobs.describing import BRIEFLY
from describe.jobs.shards import ShardStore
from describe.settings import PRESETS, digest, preset
from eval.inference.agreement import FIRST, TARGETS, AgreementTables, Claim, agreement, in_half
from eval.inference.claim_effects import ClaimEffects, effect
from eval.inference.storing import done_once, store_check
from eval.inference.templates import TEMPLATES, Template

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from describe.subject.running import LiveModel

Progress = Callable[[str, int, int], None]
ROWS = pa.schema(
    [
        ("description_id", pa.string()),
        *((name, pa.int32()) for name in ("layer", "head", "cluster")),
        ("direction", pa.string()),
        *((name, pa.int32()) for name in ("n_sources", "n_templates")),
        *(
            (f"{name}{context}", pa.float64())
            for context in ("", "_with_context")
            for name in ("agreement", "ci_low", "ci_high", "null_mean", "lift", "p_value", "q_value")
        ),
        *((f"attribution{end}", pa.float64()) for end in ("", "_null", "_p", "_q")),
    ]
)


@dataclass(frozen=True)
class AgreementReport:
    """What became of a run."""

    run_id: str
    fresh: bool  # False: it was complete already and nothing was done


class AgreementJob:
    """Places every described head's salient sources in context and looks for their mapped targets.

    Args:
        model: the subject.
        excluded: token ids by reason; no targets where the preset of the descriptions' run filters tokens.
        catalogue: the DuckDB file with the model's descriptions; the answers go there too.
        templates: texts to place sources in.
        device: where to compute.
        seed: of the permutations.
        progress: told (stage, done, in all).

    Raises:
        InputError: the catalogue holds no description of the model.
    """

    def __init__(
        self,
        model: SubjectModel,
        excluded: Mapping[str, Iterable[int]],
        catalogue: Path,
        templates: Sequence[str] = TEMPLATES,
        device: str = "cpu",
        seed: int = 0,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        self.model, self.catalogue, self._device, self._seed = model, catalogue, device, seed
        self._excluded_ids = sorted({i for ids in excluded.values() for i in ids})
        self._templates, self._progress = tuple(templates), progress
        self._placed = [Template.of(text, model.vocabulary) for text in self._templates]
        self.claims, self._preset = claims_of(catalogue, model.name, model.digest)
        if not self.claims:
            raise InputError(
                f"The catalogue '{catalogue}' holds no description of {model.name}: run `describe run` on it first."
            )
        self._shards = ShardStore(catalogue, self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Content identity: weights, vocabulary, the descriptions, templates, code version."""
        return digest(
            "check agreement and attribution",
            self.model.digest,
            self.model.vocabulary.digest,
            [[one.description_id, one.sources.tolist(), one.targets.tolist()] for one in self.claims],
            [[asdict(one) for one in self._placed], TARGETS, FIRST, self._seed, self._preset],
            __version__,
        )[:20]

    def is_complete(self) -> bool:
        """Whether the catalogue holds this very run."""
        ask = "SELECT 1 FROM runs WHERE run_id = ? AND status = 'complete'"
        return bool(read_only_query(self.catalogue, ask, [self.run_id], wait=BRIEFLY).rows)

    def run(self) -> AgreementReport:
        """Do what is missing and store it.

        Raises:
            DescribeError: the catalogue or the folder of shards cannot be used, or the disk is full.
        """
        started, begin = datetime.now(UTC), time.monotonic()

        def do() -> None:
            self._read_all()
            self._shards.make("agreement", self._agree)
            settings = {"templates": list(self._templates), "targets": TARGETS, "first": FIRST}
            shards = {"inference_agreements": [self._shards.path("agreement") / "agreement.parquet"]}
            times = (started, "agreement", time.monotonic() - begin)
            store_check(self.model, self.catalogue, self.run_id, settings, self._seed, times, shards)

        return AgreementReport(self.run_id, done_once(self.catalogue, self._shards, self.run_id, do))

    def _read_all(self) -> None:
        names = [f"template-{number}" for number in range(len(self._templates))]
        missing = [number for number, name in enumerate(names) if not self._shards.has(name)]
        if not missing:
            return
        from describe.subject.running import LiveModel

        sources = np.unique(np.concatenate([one.sources for one in self.claims]))
        live = LiveModel(self.model, device=self._device)
        # Read as the mappings were made: the paper's preset knows no gains and leaves no token out.
        settings = preset(self._preset if self._preset in PRESETS else "default")
        excluded = self._excluded_ids if settings.token_filter else []
        tables = AgreementTables(
            self.model, self.claims, sources, excluded, gains=settings.gains, device=self._device
        )
        effects = ClaimEffects(self.model, self.claims, sources, self._device)
        for number in missing:
            self._shards.make(names[number], partial(self._read, number, live, (tables, effects), sources))

    def _read(
        self,
        number: int,
        live: LiveModel,
        readers: tuple[AgreementTables, ClaimEffects],
        sources: np.ndarray,
        folder: Path,
    ) -> None:
        from eval.inference.reading import read_attended

        tables, effects = readers
        stage = f"agreement, template {number + 1} of {len(self._templates)}"
        readings = read_attended(
            live,
            self._placed[number],
            [(int(source),) for source in sources],
            self.model.shape.n_layers,
            lambda done: self._progress(stage, done, len(sources)),
        )
        named: dict[str, np.ndarray] = {
            f"{context} {key}": table for (key, context), table in tables.of(readings).items()
        }
        named |= {f"effect {key}": table for key, table in effects.of(readings).items()}
        save: Any = np.savez  # its typing takes every named array for its own option
        save(folder / "tables.npz", **named)

    def _agree(self, folder: Path) -> None:
        rows: list[dict[str, object]] = []
        found: dict[str, list[np.ndarray]] = defaultdict(list)
        for number in range(len(self._templates)):
            with np.load(
                self._shards.path(f"template-{number}") / "tables.npz", allow_pickle=False
            ) as tables:
                for name in tables.files:
                    found[name].append(tables[name])
        for one in self.claims:
            row: dict[str, object] = {
                name: getattr(one, name)
                for name in ("description_id", "layer", "head", "cluster", "direction")
            }
            row |= {"n_sources": len(one.sources), "n_templates": len(self._templates)}
            for context, end in (("without", ""), ("with", "_with_context")):
                result = agreement(in_half(found[f"{context} {one.description_id}"]), self._seed)
                row |= {
                    f"agreement{end}": result.share,
                    f"ci_low{end}": result.ci_low,
                    f"ci_high{end}": result.ci_high,
                    f"null_mean{end}": result.null_mean,
                    f"lift{end}": result.share - result.null_mean,
                    f"p_value{end}": result.p_value,
                }
            told = effect(found[f"effect {one.description_id}"], one.direction, self._seed)
            row |= {
                "attribution": told.own,
                "attribution_null": told.null_mean,
                "attribution_p": told.p_value,
            }
            rows.append(row)
        tests = {
            "p_value": "q_value",
            "p_value_with_context": "q_value_with_context",
            "attribution_p": "attribution_q",
        }
        for p_name, q_name in tests.items():
            q = benjamini_hochberg([float(str(row[p_name])) for row in rows])
            for row, value in zip(rows, q, strict=True):
                row[q_name] = float(value)
        pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), folder / "agreement.parquet")


def claims_of(catalogue: Path, model: str, model_digest: str) -> tuple[list[Claim], str]:
    """The descriptions of heads and of clusters of a model's newest run, with sources and targets; and its preset."""
    found = read_only_query(
        catalogue,
        "WITH claims AS ("
        "  SELECT d.description_id, d.run_id, d.layer, d.head, d.cluster, d.direction, c.source_ids, r.preset"
        "  FROM descriptions d SEMI JOIN run_latest l USING (run_id) JOIN runs r USING (run_id)"
        "  LEFT JOIN clusters c USING (run_id, layer, head, direction, cluster)"
        "  WHERE d.model = ? AND r.model_digest = ? AND d.status = 'described')"
        " SELECT c.preset, c.description_id, c.layer, c.head, c.cluster, c.direction, m.source_id,"
        "  list(m.target_id ORDER BY m.target_rank) FILTER (m.target_rank < ?) AS targets"
        " FROM claims c JOIN mappings m USING (run_id, layer, head, direction)"
        " WHERE c.cluster IS NULL OR list_contains(c.source_ids, m.source_id)"
        " GROUP BY ALL ORDER BY c.layer, c.head, c.description_id, m.source_id",
        [model, model_digest, TARGETS],
        wait=BRIEFLY,
    ).rows
    rows: dict[tuple[object, ...], list[tuple[int, list[int]]]] = defaultdict(list)
    for _, *claim, source, targets in found:
        assert isinstance(source, int) and isinstance(targets, list)
        rows[tuple(claim)].append((source, targets))
    claims = []
    for (description_id, layer, head, cluster, direction), own in rows.items():
        assert (
            isinstance(layer, int) and isinstance(head, int) and (cluster is None or isinstance(cluster, int))
        )
        sources, targets = (np.array(part, dtype=np.int64) for part in zip(*own, strict=True))
        claims.append(Claim(str(description_id), layer, head, cluster, str(direction), sources, targets))
    return claims, str(found[0][0]) if found else "default"
