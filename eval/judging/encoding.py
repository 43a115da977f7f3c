"""Detection without any chat model: the cosine of a description and a row, in a sentence encoder's eyes.

A weak grader, and an honest one: it knows topics, not rules, and says nothing of claims about spelling. It is
there on every machine, and its null tells how much of a figure is the description's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from describe.drafting.rows import Row
from describe.protocols import Encoder
from describe.records import HeadId
from eval.judging.detection import Detection, detection_of
from eval.judging.foils import Trial
from eval.judging.roc import auc

_OTHERS = 100  # other descriptions behind a null, at most


@dataclass(frozen=True)
class Graded:
    """A detection and its null: the mean area with other heads' descriptions."""

    detection: Detection
    null_auc: float | None
    null_n: int


def row_sentence(row: Row, n_targets: int) -> str:
    """A row as an encoder reads it."""
    return f"{row.source.strip()}: {', '.join(target.strip() for target in row.targets[:n_targets])}"


def grade_by_cosine(
    trials: Mapping[str, tuple[str, Trial]], encoder: Encoder, n_targets: int, seed: int
) -> dict[str, Graded]:
    """The detection of every description by cosine.

    Args:
        trials: by description id, its text and its trial.
        encoder: gives texts their vectors.
        n_targets: targets of a row that are read.
        seed: of the choice of other descriptions.
    """
    texts = sorted({text for text, _ in trials.values()})
    if not texts:
        return {}
    vectors = encoder.encode(texts)
    place = {text: at for at, text in enumerate(texts)}
    whose: dict[str, set[HeadId]] = {text: set() for text in texts}
    for text, trial in trials.values():
        whose[text].add(trial.head)
    rows = [item.row for _, trial in trials.values() for item in trial.items]
    of_rows = iter(_by_trial(encoder.encode([row_sentence(row, n_targets) for row in rows]), trials))
    found = {}
    for key, (text, trial) in trials.items():
        cosines = next(of_rows) @ vectors.T  # [items, texts]
        own, foils = trial.of("own"), trial.foils
        near = {item.head for item in trial.items}  # their own descriptions would be right about the foils
        others = [at for at, other in enumerate(texts) if other != text and not whose[other] & near]
        others = random.Random(f"{seed}:{key}").sample(others, min(_OTHERS, len(others)))
        areas = [auc(cosines[own, at], cosines[foils, at]) for at in others]
        detection = detection_of(trial, cosines[:, place[text]].tolist(), ranks_only=True)
        found[key] = Graded(detection, float(np.mean(areas)) if areas else None, len(areas))
    return found


def _by_trial(vectors: np.ndarray, trials: Mapping[str, tuple[str, Trial]]) -> list[np.ndarray]:
    ends = np.cumsum([len(trial.items) for _, trial in trials.values()])
    return np.split(vectors, ends[:-1].tolist())


def best_by_cosine(texts: Sequence[str], trial: Trial, encoder: Encoder, n_targets: int) -> list[float]:
    """The area of each of several descriptions of one head on the same trial."""
    vectors = encoder.encode([*texts, *[row_sentence(item.row, n_targets) for item in trial.items]])
    cosines = vectors[len(texts) :] @ vectors[: len(texts)].T
    own, foils = trial.of("own"), trial.foils
    return [auc(cosines[own, at], cosines[foils, at]) for at in range(len(texts))]
