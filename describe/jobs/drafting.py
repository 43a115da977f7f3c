"""Drafting and judging all heads together: shards of clusters and claims, then the verdict over the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from describe.clusters import cluster_rows, row_vectors
from describe.drafting.controls import CONTROL_HEADS, foreign_targets, shuffled_rows
from describe.drafting.rowbook import RowBook
from describe.drafting.rules.drafter import RulesDrafter
from describe.drafting.rules.evidence import Claim
from describe.drafting.rules.keys import OperationTable
from describe.drafting.rules.verdict import HeadRows, Key, Verdict, accept, head_verdicts
from describe.drafting.semantics import SemanticField
from describe.jobs.plan import RunPlan
from describe.jobs.shards import ShardStore
from describe.jobs.tables import CLUSTERS, read_mappings, write_table
from describe.jobs.verdict_tables import write_verdicts
from describe.records import DIRECTIONS, Direction, HeadId, HeadMappings

if TYPE_CHECKING:
    from describe.protocols import Encoder

VOCABULARY_SAMPLE = 5000
"""Eligible tokens, beside those of the mappings, on which vocabulary shares are estimated."""


class Drafting:
    """The drafting of one run, from its mapping shards; `encode`, `draft` and `verdict` in this order.

    Args:
        plan: the run.
        shards: holds the mappings of every layer of the run.
        encoder: gives token texts their vectors.
        progress: told (stage, done, total).
    """

    def __init__(
        self, plan: RunPlan, shards: ShardStore, encoder: Encoder, progress: Callable[[str, int, int], None]
    ) -> None:
        self.plan = plan
        self.shards = shards
        self.encoder = encoder
        self.progress = progress

    def encode(self) -> None:
        """Make the vectors of all tokens that occur, each text once; nothing when the verdict is there."""
        if self.shards.has("vectors") or self.shards.has("verdict"):
            return
        words = self._words

        def fill(folder: Path) -> None:
            self.progress("encode", 0, len(words))
            np.save(folder / "vectors.npy", self.encoder.encode(words))
            self.progress("encode", len(words), len(words))

        self.shards.make("vectors", fill)

    def draft(self) -> None:
        """Make the missing shards of clusters and claims, layer by layer."""
        for count, layer in enumerate(self.plan.layers, start=1):
            self.shards.make(f"draft-{layer}", partial(self._draft_layer, layer))
            self.progress("draft", count, len(self.plan.layers))

    def verdict(self) -> None:
        """Judge all claims together: the tables of descriptions, heads and excluded tokens, and the nulls."""
        self.shards.make("verdict", self._judge)

    @cached_property
    def mappings(self) -> list[HeadMappings]:
        """The mappings of the chosen heads, as the shards hold them."""
        return [
            one
            for layer in self.plan.layers
            for one in read_mappings(self.shards.path(f"mappings-{layer}") / "mappings.parquet")
        ]

    @cached_property
    def book(self) -> RowBook:
        """The rows of the chosen heads, as prompts show them, with their split."""
        return RowBook.of(self.mappings, self.plan.texts, self.plan.options.seed)

    @cached_property
    def _used(self) -> np.ndarray:
        """Ids of the tokens that occur, in order."""
        return np.unique(np.concatenate([np.append(one.source_ids, one.target_ids) for one in self.mappings]))

    @cached_property
    def _words(self) -> list[str]:
        """What is encoded: the distinct texts of the tokens that occur, without case and outer spaces."""
        return sorted({_word(self.plan.texts[int(i)]) for i in self._used})

    @cached_property
    def vectors(self) -> Callable[[Sequence[str]], np.ndarray]:
        """Unit vectors of token texts [n] → [n, dim]."""
        row = {word: at for at, word in enumerate(self._words)}
        table = np.load(self.shards.path("vectors") / "vectors.npy")
        return lambda texts: table[[row[_word(text)] for text in texts]]

    @cached_property
    def _drafter(self) -> RulesDrafter:
        plan, texts = self.plan, self.plan.texts
        left_out = {i for ids in plan.left_out.values() for i in ids}
        eligible = np.array([i for i in range(len(texts)) if i not in left_out])
        sample = np.random.default_rng(plan.options.seed).permutation(eligible)[:VOCABULARY_SAMPLE]
        field = SemanticField([texts[int(i)] for i in self._used], self.vectors, plan.options.seed)
        table = OperationTable(texts, np.union1d(self._used, sample))
        drafter = RulesDrafter(table, texts, sample, field, plan.options.grading)
        for one in self.mappings:
            drafter.observe(one)
        return drafter

    def _draft_layer(self, layer: int, folder: Path) -> None:
        """Write the clusters and claims of a layer's heads, or the error of a head that fails."""
        drafter, _ = self._drafter, self.vectors  # made here: what fails in them is not one head's failure
        clusters: list[dict[str, object]] = []
        claims: list[dict[str, object]] = []
        for one in (one for one in self.mappings if one.head.layer == layer):
            where = {"layer": one.head.layer, "head": one.head.head, "direction": one.direction}
            try:
                own = self._clusters(one)
                found = [
                    {**where, **dataclasses.asdict(claim), "clause": drafter.clause(claim, one.direction)}
                    for claim in drafter.claims(one)
                ]
            except Exception as error:  # one head's failure is that head's status, never the night's
                claims.append({**where, "error": f"{type(error).__name__}: {error}"})
                continue
            clusters += [where | row for row in own]
            claims += found
        write_table(folder / "clusters.parquet", clusters, CLUSTERS)
        (folder / "claims.json").write_text(json.dumps(claims))

    def members(self, one: HeadMappings) -> dict[int, list[int]]:
        """The places of the rows of each cluster of a head in one direction, noise (−1) included."""
        labels, _ = self._partition(one)
        return {index: np.flatnonzero(labels == index).tolist() for index in sorted(set(labels.tolist()))}

    def _partition(self, one: HeadMappings) -> tuple[np.ndarray, dict[int, float]]:
        texts, settings = self.plan.texts, self.plan.options.clusters
        sources = [texts[int(i)] for i in one.source_ids]
        targets = [[texts[int(i)] for i in row] for row in one.target_ids]
        return cluster_rows(row_vectors(sources, targets, self.vectors, settings), settings)

    def _clusters(self, one: HeadMappings) -> list[dict[str, object]]:
        """Rows of the table `clusters` for a head in one direction."""
        labels, cohesion = self._partition(one)
        return [
            {
                "preset": self.plan.options.settings.preset,
                "cluster": index,
                "n_sources": int((labels == index).sum()),
                "cohesion": cohesion.get(index),
                "source_ids": one.source_ids[labels == index].tolist(),
            }
            for index in sorted(set(labels.tolist()))
        ]

    def _judge(self, folder: Path) -> None:
        options = self.plan.options
        claims, clauses, errors = self._read_claims()
        accepted, cut = accept(claims, options.grading)
        rows = self.head_rows()
        found: list[Verdict] = []
        for head in options.heads:
            if head not in errors:
                found += head_verdicts(
                    head,
                    {direction: rows[head, direction] for direction in DIRECTIONS},
                    {direction: accepted[head, direction] for direction in DIRECTIONS},
                    lambda claim, direction: clauses[claim.kind, claim.name, direction],
                )
        write_verdicts(folder, self.plan, found, errors, self._constants())
        sound = [one for one in self.mappings if one.head not in errors]
        (folder / "null_checks.json").write_text(json.dumps(self._null_checks(sound, cut)))

    def _read_claims(
        self,
    ) -> tuple[dict[Key, list[Claim]], dict[tuple[str, str, Direction], str], dict[HeadId, str]]:
        """All claims by head and direction, the clauses that word them, and the errors of failed heads."""
        claims: dict[Key, list[Claim]] = {(one.head, one.direction): [] for one in self.mappings}
        clauses: dict[tuple[str, str, Direction], str] = {}
        errors: dict[HeadId, str] = {}
        for layer in self.plan.layers:
            for entry in json.loads((self.shards.path(f"draft-{layer}") / "claims.json").read_text()):
                head, direction = HeadId(entry.pop("layer"), entry.pop("head")), entry.pop("direction")
                if "error" in entry:
                    errors[head] = entry["error"]
                    continue
                clause = entry.pop("clause")
                claim = Claim(**{**entry, "rows": tuple(entry["rows"])})
                clauses[claim.kind, claim.name, direction] = clause
                claims[head, direction].append(claim)
        return claims, clauses, errors

    def head_rows(self) -> dict[Key, HeadRows]:
        """Held-out marks and cluster members of every head and direction."""
        clusters: dict[Key, dict[int, list[int]]] = {}
        for layer in self.plan.layers:
            for row in pq.read_table(self.shards.path(f"draft-{layer}") / "clusters.parquet").to_pylist():
                own = clusters.setdefault((HeadId(row["layer"], row["head"]), row["direction"]), {})
                own[row["cluster"]] = row["source_ids"]
        rows = {}
        for one in self.mappings:
            place = {int(token): at for at, token in enumerate(one.source_ids)}
            own = clusters.get((one.head, one.direction), {})
            members = {index: tuple(place[i] for i in ids) for index, ids in own.items()}
            rows[one.head, one.direction] = HeadRows(one.heldout, members)
        return rows

    def _constants(self) -> dict[Key, list[int]]:
        """The tokens that each head writes whatever it reads."""
        found: dict[Key, list[int]] = {}
        for layer in self.plan.layers:
            kept = json.loads((self.shards.path(f"mappings-{layer}") / "constants.json").read_text())
            for name, ids in kept.items():
                head, direction = name.split(":")
                found[HeadId(layer, int(head)), direction] = ids
        return found

    def _null_checks(self, mappings: Sequence[HeadMappings], cut: float) -> dict[str, object]:
        """What the same pipeline describes where there is nothing to describe (method, section 6, rule 2)."""
        grading, seed = self.plan.options.grading, self.plan.options.seed
        checks: dict[str, object] = {"p_cut": cut}
        for name, make, kind in (
            ("shuffled_rows", shuffled_rows, "row"),
            ("foreign_targets", foreign_targets, "output"),
        ):
            controls = make(mappings, CONTROL_HEADS, seed)
            false = sum(
                any(
                    claim.kind == kind and claim.p_value <= cut and claim.strong(grading)
                    for claim in self._drafter.claims(control)
                )
                for control in controls
            )
            checks[name] = {"heads": len(controls), "described": false}
        return checks


def _word(text: str) -> str:
    return text.strip().casefold()
