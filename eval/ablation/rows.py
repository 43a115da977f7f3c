"""Rows of ablations as they lie in shards and in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from describe.core.nulls import benjamini_hochberg, wilson
from eval.ablation.areas import SIGNIFICANT

BASE = pa.schema([("relation", pa.string()), ("accuracy", pa.float64()), ("n_prompts", pa.int32())])
ABLATIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("relation", "preset", "method", "heads", "task")),
        *((name, pa.int32()) for name in ("draw", "n_ablated", "n_prompts")),
        *((name, pa.float64()) for name in ("accuracy", "ci_low", "ci_high")),
        ("seed", pa.int64()),
    ]
)
AREAS = pa.schema(
    [
        *((name, pa.string()) for name in ("relation", "preset", "method")),
        *((name, pa.int32()) for name in ("n_prompts", "n_heads", "n_read", "n_draws", "n_controls")),
        *(
            (name, pa.float64())
            for name in (
                *("base_accuracy", "accuracy_relation", "accuracy_random", "accuracy_random_sd"),
                *("layer_matched", "control_base", "control_accuracy"),
                *("area", "ci_low", "ci_high", "p_value", "q_value"),
            )
        ),
        *((name, pa.bool_()) for name in ("causal", "testable")),
        ("reason", pa.string()),
    ]
)
Row = dict[str, object]


def accuracy(right: NDArray[np.bool_]) -> Row:
    """Accuracy, its Wilson interval and the number of prompts, of right answers [n]."""
    hits, n = int(right.sum()), len(right)
    low, high = wilson(hits, n)
    return {"accuracy": hits / n, "ci_low": low, "ci_high": high, "n_prompts": n}


def judged(rows: Sequence[Row]) -> None:
    """Fill in q-values over all areas of a run, and whether the removal is causal: an area above 0, q < 0.05."""
    tested = [row for row in rows if row["testable"]]
    q = benjamini_hochberg([float(str(row["p_value"])) for row in tested])
    for row, value in zip(tested, q, strict=True):
        row["q_value"] = float(value)
        row["causal"] = float(str(row["ci_low"])) > 0 and float(value) < SIGNIFICANT
