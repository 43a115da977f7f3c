"""Detection by running the claim itself: the operations of a rules draft, executed on rows and foils.

No chat model and no opinion: a row counts as the head's own where one of the claim's operations holds between
its source and one of its targets, as when the draft was graded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from describe.drafting.rules.evidence import GradingSettings
from describe.drafting.rules.keys import OperationTable
from describe.drafting.rules.operations import operations, token_classes
from describe.drafting.semantics import SemanticField
from eval.judging.claims import Claim, Executable
from eval.judging.detection import detection_of
from eval.judging.encoding import Graded
from eval.judging.foils import Item, Trial
from eval.judging.roc import auc

GRADER = "rules"
_OTHERS = 100  # other claims behind a null, at most
_MIN_TARGET_SHARE = GradingSettings().min_target_share


def grade_by_execution(
    trials: Mapping[str, tuple[Claim, Trial]],
    encode: Callable[[Sequence[str]], np.ndarray],
    seed: int,
) -> dict[str, Graded]:
    """The detection of every description that can be run; its null is the mean over other heads' claims.

    Args:
        trials: by description id, the claim and its trial.
        encode: gives texts their vectors, for the one operation that is about meaning.
        seed: of the choice of other claims.
    """
    runnable = {key: one for key, one in trials.items() if one[0].executable}
    if not runnable:
        return {}
    machine = _Machine([item for _, trial in runnable.values() for item in trial.items], encode, seed)
    found = {}
    for key, (claim, trial) in runnable.items():
        own, foils = trial.of("own"), trial.foils
        marks = machine.marks(claim.executable, trial.items)
        near = {item.head for item in trial.items}  # their own claims would be right about the foils
        taken = {claim.executable, *(one.executable for one, _ in runnable.values() if one.head in near)}
        others = sorted({one.executable for one, _ in runnable.values()} - taken)
        others = random.Random(f"{seed}:{key}").sample(others, min(_OTHERS, len(others)))
        areas = []
        for other in others:
            nulls = machine.marks(other, trial.items)
            areas.append(auc(nulls[own].tolist(), nulls[foils].tolist()))
        null = float(np.mean(areas)) if areas else None
        found[key] = Graded(detection_of(trial, marks.tolist()), null, len(areas))
    return found


class _Machine:
    """Runs operations on the rows of some trials."""

    def __init__(
        self, items: Sequence[Item], encode: Callable[[Sequence[str]], np.ndarray], seed: int
    ) -> None:
        texts = sorted({text for item in items for text in (item.row.source, *item.row.targets)})
        self._id = {text: at for at, text in enumerate(texts)}
        self._table = OperationTable(texts)
        self._operation = {one.name: at for at, one in enumerate(operations())}
        self._class = {one.name: at for at, one in enumerate(token_classes())}
        self._field = SemanticField(texts, encode, seed)

    def marks(self, claim: Sequence[Executable], items: Sequence[Item]) -> np.ndarray:
        """1 for each item on which an operation of its direction holds, else 0: [items]."""
        marks = np.zeros(len(items))
        for direction, kind, name in claim:
            for place, item in enumerate(items):
                if item.row.direction == direction and not marks[place]:
                    marks[place] = self._holds(kind, name, item)
        return marks

    def _holds(self, kind: str, name: str, item: Item) -> bool:
        row = item.row
        targets = [self._id[text] for text in row.targets]
        if kind == "output":
            members = self._table.class_members(self._class[name], targets)
            return bool(members.sum() >= math.ceil(_MIN_TARGET_SHARE * len(targets)))
        if name == SemanticField.name:
            return bool(self._field.hits([row.source], row.targets).any())
        sources = [self._id[row.source]] * len(targets)
        return bool(self._table.pair_hits(self._operation[name], sources, targets).any())
