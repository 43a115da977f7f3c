"""The last stage of a run whose drafter is a chat model: from clusters and mappings to drafts that are stored.

The rules drafter has gone before it: its clusters group the rows, and what it found may be offered as a hint.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from describe.drafting.controls import foreign_targets, shuffled_rows
from describe.drafting.llm import DraftSettings, HeadEvidence
from describe.drafting.rowbook import RowBook
from describe.jobs.asking import Asked, Chooser, Clusters, ControlKind, Drafts, ask_drafts, evidence_of
from describe.jobs.draft_tables import CALLS, call_rows, status_of, write_drafts
from describe.jobs.drafting import Drafting
from describe.jobs.tables import write_table
from describe.jobs.verdict_tables import HEADS
from describe.protocols import Asking
from describe.records import HeadId


@dataclass(frozen=True)
class ChatDrafting:
    """Drafting of one run by a chat model, once the stages of `Drafting` are done.

    Args:
        drafting: of the run, with its verdict made.
        settings: how drafts are asked for.
        asker: puts the questions.
        choose: decides among several drafts of a head; None keeps the first.
        progress: told (stage, done, total).
    """

    drafting: Drafting
    settings: DraftSettings
    asker: Asking
    choose: Chooser | None
    progress: Callable[[str, int, int], None]

    def ask(self) -> Drafts:
        """Ask about every head, and about heads made to have no pattern.

        Raises:
            DescribeError: the endpoint refuses or does not answer; what was answered is kept.
        """
        hints = self._hints() if self.settings.hint else {}
        evidence = [
            evidence_of(head, self.drafting.book, self._clusters, hints.get(head))
            for head in self.drafting.plan.options.heads
        ]
        return ask_drafts(
            evidence,
            self._controls(),
            self.drafting.book,
            self.settings,
            self.asker,
            self.choose,
            self.progress,
        )

    def write(self, drafts: Drafts, folder: Path) -> None:
        """The drafts as files that `store` takes: tables, checks against nulls, and the run's status."""
        plan = self.drafting.plan
        write_drafts(folder, plan, drafts.heads, self._clusters, self.drafting.book)
        write_table(folder / "heads.parquet", self._heads(drafts.heads), HEADS)
        calls = call_rows(drafts.calls, self.asker.base_url, plan.run_id)
        write_table(folder / "llm_calls.parquet", calls, CALLS)
        (folder / "null_checks.json").write_text(json.dumps(drafts.null_checks))
        (folder / "status.json").write_text(json.dumps("stopped" if drafts.unfinished else "complete"))

    @cached_property
    def _clusters(self) -> Clusters:
        return {key: rows.clusters for key, rows in self.drafting.head_rows().items()}

    def _hints(self) -> dict[HeadId, str]:
        """What the rules drafter says of each head that it describes."""
        table = pq.read_table(self.drafting.shards.path("verdict") / "descriptions.parquet").to_pylist()
        return {
            HeadId(row["layer"], row["head"]): row["claim_text"]
            for row in table
            if row["cluster"] is None and row["status"] == "described"
        }

    def _controls(self) -> dict[ControlKind, list[HeadEvidence]]:
        """Evidence of heads made to have nothing to find: half with shuffled rows, half with other heads' targets."""
        plan, seed = self.drafting.plan, self.settings.seed
        heads = list(plan.options.heads)
        chosen = random.Random(seed).sample(heads, min(self.settings.controls, len(heads)))
        half = (len(chosen) + 1) // 2
        return {
            "shuffled_rows": self._made("shuffled", set(chosen[:half])),
            "foreign_targets": self._made("foreign", set(chosen[half:])),
        }

    def _made(self, kind: str, heads: set[HeadId]) -> list[HeadEvidence]:
        """The evidence of some heads, spoilt."""
        plan, seed = self.drafting.plan, self.settings.seed
        own = [one for one in self.drafting.mappings if one.head in heads]
        if kind == "shuffled":
            made = [one for mapping in own for one in shuffled_rows([mapping], 1, seed)]
        else:
            made = foreign_targets(self.drafting.mappings, len(self.drafting.mappings), seed)
            made = [one for one in made if one.head in heads]
        book = RowBook.of(made, plan.texts, plan.options.seed)
        clusters = {(one.head, one.direction): self.drafting.members(one) for one in made}
        found = sorted({one.head for one in made})
        return [replace(evidence_of(head, book, clusters), note=f" {kind}") for head in found]

    def _heads(self, asked: Sequence[Asked]) -> list[dict[str, object]]:
        """The rows of `heads`: those of the verdict with the status that the draft gives them."""
        table = pq.read_table(self.drafting.shards.path("verdict") / "heads.parquet").to_pylist()
        of = {one.head: one for one in asked}
        rows = []
        for row in table:
            own = of[HeadId(row["layer"], row["head"])]
            status = status_of(own)
            error = f"{own.outcome.status}: {own.outcome.error}" if status == "failed" else None
            rows.append(row | {"status": status, "explained_share": None, "error": error})
        return rows
