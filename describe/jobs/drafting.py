"""Drafting and judging all heads together: shards of clusters and claims, then the verdict over the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from describe.clusters import ClusterSettings, cluster_rows, row_vectors
from describe.drafting.controls import CONTROL_HEADS, foreign_targets, shuffled_rows
from describe.drafting.rules.drafter import RulesDrafter
from describe.drafting.rules.evidence import Claim
from describe.drafting.rules.keys import OperationTable
from describe.drafting.rules.verdict import HeadRows, Key, Verdict, accept, head_verdicts
from describe.drafting.semantics import SemanticField
from describe.jobs.tables import CLUSTERS, read_mappings, write_table
from describe.jobs.verdict_tables import write_verdicts
from describe.records import DIRECTIONS, Direction, HeadId, HeadMappings

if TYPE_CHECKING:
    from describe.jobs.describing import Job

VOCABULARY_SAMPLE = 5000
"""Eligible tokens, beside those of the mappings, on which vocabulary shares are estimated."""


@dataclass(frozen=True)
class Outcome:
    """Where the verdict's tables are, which heads failed, and what chance alone would have described."""

    shard: str
    failed: Sequence[HeadId]
    null_checks: Mapping[str, object]


class Drafting:
    """The drafting of one run: clusters and claims layer by layer, then the verdict over all heads together.

    Args:
        job: the run.
        projected: keys of the mapping shards by layer.
    """

    def __init__(self, job: Job, projected: Mapping[int, str]) -> None:
        self.job = job
        self.projected = projected
        self.keys = {layer: job.draft_key(layer, ClusterSettings()) for layer in projected}

    def layers(self) -> None:
        """Make the missing shards of clusters and claims."""
        for count, (layer, key) in enumerate(self.keys.items(), start=1):
            self.job.shard(key, lambda folder, layer=layer: self._draft_layer(layer, folder))
            self.job.progress("draft", count, len(self.keys))

    def verdict(self) -> Outcome:
        """Judge all claims of the run together; writes the tables of descriptions, heads and excluded tokens."""
        key = self.job.draft_key(-1, "verdict", sorted(self.projected), ClusterSettings())
        self.job.shard(key, self._judge)
        found = json.loads((self.job.shards.path(key) / "summary.json").read_text())
        return Outcome(key, [HeadId.parse(head) for head in found["failed"]], found["null_checks"])

    @cached_property
    def mappings(self) -> dict[int, list[HeadMappings]]:
        """The mappings of the chosen heads, by layer, as the shards hold them."""
        wanted = set(self.job.options.heads)
        return {
            layer: [
                one
                for one in read_mappings(self.job.shards.path(key) / "mappings.parquet")
                if one.head in wanted
            ]
            for layer, key in self.projected.items()
        }

    @cached_property
    def _every(self) -> list[HeadMappings]:
        return [one for own in self.mappings.values() for one in own]

    @cached_property
    def _vectors(self) -> Callable[[Sequence[str]], np.ndarray]:
        """Unit vectors of token texts, encoded once for all tokens that occur."""
        texts = self.job.model.vocabulary.texts
        used = np.unique(np.concatenate([np.append(one.source_ids, one.target_ids) for one in self._every]))
        spelt = sorted({texts[int(i)].strip().casefold() for i in used})
        row = {word: at for at, word in enumerate(spelt)}
        table = self.job.encode(spelt)
        return lambda words: table[[row[word.strip().casefold()] for word in words]]

    @cached_property
    def _drafter(self) -> RulesDrafter:
        job = self.job
        texts = job.model.vocabulary.texts
        used = np.unique(np.concatenate([np.append(one.source_ids, one.target_ids) for one in self._every]))
        left_out = (
            {i for ids in job.excluded.values() for i in ids} if job.options.settings.token_filter else set()
        )
        eligible = np.array([i for i in range(len(texts)) if i not in left_out])
        sample = np.random.default_rng(job.options.seed).permutation(eligible)[:VOCABULARY_SAMPLE]
        field = SemanticField([texts[int(i)] for i in used], self._vectors, job.options.seed)
        table = OperationTable(texts, np.union1d(used, sample))
        drafter = RulesDrafter(table, texts, sample, field, job.options.grading)
        for one in self._every:
            drafter.observe(one)
        return drafter

    def _draft_layer(self, layer: int, folder: Path) -> None:
        clusters: list[dict[str, object]] = []
        claims: list[dict[str, object]] = []
        for one in self.mappings[layer]:
            where = {"layer": one.head.layer, "head": one.head.head, "direction": one.direction}
            try:
                labels, cohesion = self._clusters(one)
                own = self._drafter.claims(one)
            except Exception as error:  # one head's failure is that head's status, never the night's
                claims.append({**where, "error": f"{type(error).__name__}: {error}"})
                continue
            for index in sorted(set(labels.tolist())):
                members = np.flatnonzero(labels == index)
                clusters.append(
                    {
                        **where,
                        "preset": self.job.options.settings.preset,
                        "cluster": index,
                        "n_sources": len(members),
                        "cohesion": cohesion.get(index),
                        "source_ids": one.source_ids[members].tolist(),
                    }
                )
            for claim in own:
                clause = self._drafter.clause(claim, one.direction)
                claims.append({**where, **dataclasses.asdict(claim), "clause": clause})
        write_table(folder / "clusters.parquet", clusters, CLUSTERS)
        (folder / "claims.json").write_text(json.dumps(claims))

    def _clusters(self, one: HeadMappings) -> tuple[np.ndarray, dict[int, float]]:
        texts = self.job.model.vocabulary.texts
        settings = ClusterSettings()
        sources = [texts[int(i)] for i in one.source_ids]
        targets = [[texts[int(i)] for i in row] for row in one.target_ids]
        return cluster_rows(row_vectors(sources, targets, self._vectors, settings), settings)

    def _judge(self, folder: Path) -> None:
        job = self.job
        claims: dict[Key, list[Claim]] = {(one.head, one.direction): [] for one in self._every}
        clauses: dict[tuple[str, str, Direction], str] = {}
        errors: dict[HeadId, str] = {}
        for key in self.keys.values():
            for entry in json.loads((job.shards.path(key) / "claims.json").read_text()):
                head, direction = HeadId(entry.pop("layer"), entry.pop("head")), entry.pop("direction")
                if "error" in entry:
                    errors[head] = entry["error"]
                    continue
                clause = entry.pop("clause")
                claim = Claim(**{**entry, "rows": tuple(entry["rows"])})
                clauses[claim.kind, claim.name, direction] = clause
                claims[head, direction].append(claim)
        accepted, cut = accept(claims, job.options.grading)
        rows = self._rows()
        found: list[Verdict] = []
        for head in job.options.heads:
            if head not in errors:
                found += head_verdicts(
                    head,
                    {direction: rows[head, direction] for direction in DIRECTIONS},
                    {direction: accepted[head, direction] for direction in DIRECTIONS},
                    lambda claim, direction: clauses[claim.kind, claim.name, direction],
                )
        write_verdicts(folder, job, found, errors, self._constants())
        summary = {"failed": [str(head) for head in sorted(errors)], "null_checks": self._null_checks(cut)}
        (folder / "summary.json").write_text(json.dumps(summary))

    def _rows(self) -> dict[Key, HeadRows]:
        clusters: dict[Key, dict[int, list[int]]] = {}
        for key in self.keys.values():
            for row in pq.read_table(self.job.shards.path(key) / "clusters.parquet").to_pylist():
                own = clusters.setdefault((HeadId(row["layer"], row["head"]), row["direction"]), {})
                own[row["cluster"]] = row["source_ids"]
        rows = {}
        for one in self._every:
            place = {int(token): at for at, token in enumerate(one.source_ids)}
            own = clusters.get((one.head, one.direction), {})
            members = {index: tuple(place[i] for i in ids) for index, ids in own.items()}
            rows[one.head, one.direction] = HeadRows(one.heldout, members)
        return rows

    def _constants(self) -> dict[tuple[HeadId, Direction], list[int]]:
        """The tokens that each head writes whatever it reads."""
        found: dict[tuple[HeadId, Direction], list[int]] = {}
        for layer, key in self.projected.items():
            for name, ids in json.loads((self.job.shards.path(key) / "constants.json").read_text()).items():
                head, direction = name.split(":")
                found[HeadId(layer, int(head)), direction] = ids
        return found

    def _null_checks(self, cut: float) -> dict[str, object]:
        """What the same pipeline describes where there is nothing to describe (method, section 6, rule 2)."""
        grading, seed = self.job.options.grading, self.job.options.seed
        checks: dict[str, object] = {"p_cut": cut}
        for name, make, kind in (
            ("shuffled_rows", shuffled_rows, "row"),
            ("foreign_targets", foreign_targets, "output"),
        ):
            controls = make(self._every, CONTROL_HEADS, seed)
            false = sum(
                any(
                    claim.kind == kind and claim.p_value <= cut and claim.strong(grading)
                    for claim in self._drafter.claims(control)
                )
                for control in controls
            )
            checks[name] = {"heads": len(controls), "described": false}
        return checks
