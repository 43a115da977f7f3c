"""The embedded drafter: which operations a head carries out, by the library, with held-out evidence.

Two passes over a model's mappings. The first counts how common each class of outputs and inputs is among the
heads (`observe`); the second drafts and grades claims head by head (`claims`). The verdict over all heads
together is in `verdict.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from describe.drafting.rules.evidence import (
    Candidate,
    Claim,
    GradingSettings,
    choose_operations,
    class_claim,
    grade_operation,
)
from describe.drafting.rules.keys import OperationTable
from describe.drafting.semantics import SemanticField
from describe.records import DIRECTIONS, Direction, HeadMappings
from describe.settings import digest

SEMANTIC_SPECIFICITY = 47.0
SEMANTIC_SENTENCE = "writes words related in meaning to the word it reads"


@dataclass
class _Pool:
    """How many rows of all heads are members of each class, and how many rows there are."""

    outputs: NDArray[np.int64]  # [C]
    inputs: NDArray[np.int64]  # [C]
    rows: int = 0


class RulesDrafter:
    """Drafts claims about heads with the library of executable operations.

    Args:
        table: the library, evaluated on the eligible tokens.
        texts: token texts by id.
        sample: token ids on which the vocabulary's share of each class is estimated.
        field: relatedness of meaning; None leaves that operation out.
        grading: thresholds.
    """

    def __init__(
        self,
        table: OperationTable,
        texts: Sequence[str],
        sample: NDArray[np.int64],
        field: SemanticField | None,
        grading: GradingSettings | None = None,
    ) -> None:
        self.table = table
        self.texts = texts
        self.field = field
        self.grading = grading or GradingSettings()
        self._classes = {token_class.name: token_class for token_class in table.classes}
        self._operations = {operation.name: operation for operation in table.operations}
        n_classes = len(table.classes)
        self._pools = {
            direction: _Pool(np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64))
            for direction in DIRECTIONS
        }
        self._shares = table.memberships[:, table.columns_of(sample)].mean(1)
        self._specificity = -np.log(np.maximum(self._shares, 1 / (len(sample) + 1)))

    def observe(self, mappings: HeadMappings) -> None:
        """Count a head's rows into the pools that give class claims their null."""
        pool = self._pools[mappings.direction]
        outputs, inputs = self._memberships(mappings)
        pool.outputs += outputs.sum(1)
        pool.inputs += inputs.sum(1)
        pool.rows += len(mappings.source_ids)

    def claims(self, mappings: HeadMappings) -> list[Claim]:
        """The graded claims about one head in one direction: operations, then outputs, then inputs."""
        grading = self.grading
        heldout = mappings.heldout
        if heldout.sum() < grading.min_hits or (~heldout).sum() < grading.min_hits:
            return []
        chosen = choose_operations(self._candidates(mappings), ~heldout, grading)
        found = [grade_operation(candidate, heldout, grading) for candidate in chosen]
        outputs, inputs = self._memberships(mappings)
        pool = self._pools[mappings.direction]
        others = max(pool.rows - len(heldout), 0)
        names = [token_class.name for token_class in self.table.classes]
        for kind, members, totals in (("output", outputs, pool.outputs), ("input", inputs, pool.inputs)):
            # One more row that counts: a rate is never 0, and 1 where there is no other head to compare with.
            rates = ((totals - members.sum(1)).clip(0) + 1) / (others + 1)
            if kind == "input":
                rates = np.maximum(rates, self._shares)
            claim = class_claim(
                "output" if kind == "output" else "input",
                names,
                members,
                rates,
                heldout,
                grading,
                lambda index: float(self._specificity[index]),
            )
            if claim is not None:
                found.append(claim)
        return found

    def clause(self, claim: Claim, direction: Direction) -> str:
        """Completes "The head …" for a row or output claim, or names the class of inputs."""
        if claim.kind != "row":
            token_class = self._classes[claim.name]
            if claim.kind == "input":
                return token_class.plural
            return f"{token_class.clause(direction)} whatever it reads"
        if claim.name == SemanticField.name:
            verb = "writes" if direction == "promote" else "suppresses"
            return SEMANTIC_SENTENCE.replace("writes", verb, 1)
        return self._operations[claim.name].clause(direction)

    def digest(self) -> str:
        """Identity of the library, thresholds and encoder behind the claims."""
        return library_digest(self.table, self.grading)

    def _candidates(self, mappings: HeadMappings) -> list[Candidate]:
        """Operations that hold on enough rows of the drafting half to be worth a full table of hits."""
        sources = mappings.source_ids
        n = mappings.target_ids.shape[1]
        flat = mappings.target_ids.reshape(-1)
        draft = np.flatnonzero(~mappings.heldout)
        pairs = np.repeat(sources[draft], n), mappings.target_ids[draft].reshape(-1)
        found = []
        for index, operation in enumerate(self.table.operations):
            own = self.table.pair_hits(index, *pairs).reshape(-1, n).any(1)
            if own.sum() >= self.grading.min_hits:
                copies = operation.excludes != "same word"
                hits = _by_row(self.table.hits(index, sources, flat), n)
                found.append(Candidate(operation.name, float(operation.specificity), copies, hits))
        if self.field is not None:
            related = self.field.hits(
                [self.texts[int(i)] for i in sources], [self.texts[int(i)] for i in flat]
            )
            found.append(Candidate(SemanticField.name, SEMANTIC_SPECIFICITY, False, _by_row(related, n)))
        return found

    def _memberships(self, mappings: HeadMappings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Rows that count for each class: by enough targets, and by their source; both [C, K]."""
        need = math.ceil(self.grading.min_target_share * mappings.target_ids.shape[1])
        members = self.table.memberships
        outputs = members[:, self.table.columns_of(mappings.target_ids)].sum(2) >= need
        return outputs, members[:, self.table.columns_of(mappings.source_ids)]


def _by_row(hits: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Whether a source hits any of the n targets of a row: [K, K · n] → [K, K]."""
    return np.asarray(hits.reshape(len(hits), -1, n).any(2), dtype=np.bool_)


def library_digest(table: OperationTable, grading: GradingSettings) -> str:
    """Identity of what grades: names and sentences of the library, and the thresholds."""
    return digest(
        [[o.name, o.sentence, o.specificity, o.excludes] for o in table.operations],
        [[c.name, c.plural] for c in table.classes],
        grading,
    )
