"""Verdicts as rows of the catalogue: every head and class, the table of class names, and where heads attend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data import battery_input
from eval.battery.classes import ALSO, SUITE_OF
from eval.battery.profiles import Profiles
from eval.battery.reading import SuiteReading
from eval.battery.suites import Suite
from eval.battery.verdicts import LEAST, Verdict

_HEAD = [(name, pa.int32()) for name in ("layer", "head")]
_NUMBERS = (
    "pattern_score",
    "effect_score",
    "null",
    "effect_null",
    "pattern_beyond_first",
    "pattern_p",
    "effect_p",
    "pattern_q",
    "effect_q",
    "q_value",
)
CLASSES = pa.schema(
    [
        *_HEAD,
        ("class", pa.string()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("passes", pa.bool_()),
        ("detail", pa.string()),
    ]
)
_WORDS = ("survey_name", "stage", "definition", "pattern", "effect", "reference")
DEFINITIONS = pa.schema(
    [
        ("class", pa.string()),
        *((name, pa.string()) for name in _WORDS),
        ("tested", pa.bool_()),
        ("reason", pa.string()),
        ("suite", pa.string()),
        *((name, pa.float64()) for name in ("least_pattern", "least_effect", "accuracy", "chance")),
        ("n_heads", pa.int32()),
    ]
)
PROFILE = ("first", "itself", "previous", "near", "near_chance", "distance", "entropy")


def class_rows(judged: Iterable[Verdict], reasons: Mapping[str, str]) -> pa.Table:
    """A row for each head and class that was measured; `passes` is NULL where the model fails the class's task."""
    parts = []
    for verdict in judged:
        layers, heads = (part.ravel() for part in np.indices(verdict.passes.shape))
        beyond = (
            np.full(verdict.passes.shape, np.nan) if verdict.beyond_first is None else verdict.beyond_first
        )
        # A head that was no candidate for the effect leg has no p-value of it.
        effect_p = np.where(np.isnan(verdict.effect_q), np.nan, verdict.effect.p)
        numbers = (
            verdict.pattern.score,
            verdict.effect.score,
            verdict.pattern.null,
            verdict.effect.null,
            beyond,
            verdict.pattern.p,
            effect_p,
            verdict.pattern_q,
            verdict.effect_q,
            verdict.q,
        )
        able = SUITE_OF[verdict.name] not in reasons
        columns: dict[str, object] = {
            "layer": layers,
            "head": heads,
            "class": [verdict.name] * layers.size,
            **{name: _or_null(values) for name, values in zip(_NUMBERS, numbers, strict=True)},
            "passes": verdict.passes.ravel() if able else [None] * layers.size,
            "detail": [
                verdict.detail.get(place) for place in zip(layers.tolist(), heads.tolist(), strict=True)
            ],
        }
        parts.append(pa.table(columns, schema=CLASSES))
    return pa.concat_tables(parts) if parts else CLASSES.empty_table()


def definition_rows(
    judged: Sequence[Verdict],
    reasons: Mapping[str, str],
    readings: Mapping[str, SuiteReading],
    built: Mapping[str, Suite],
    names: Sequence[str],
) -> pa.Table:
    """The table of class names: what each means, whether it was tested on this model, and if not, why not."""
    by_name = {verdict.name: verdict for verdict in judged}
    rows = []
    for entry in battery_input("classes")["classes"]:
        name = entry["class"]
        row = {key: entry[key] for key in ("class", *_WORDS)}
        suite, verdict = SUITE_OF.get(name), by_name.get(name)
        reason = entry["reason"]
        if suite is not None:
            needed = [one for one in (suite, ALSO.get(name)) if one is not None]
            reason = next((reasons[one] for one in needed if one in reasons), None)
            if reason is None and verdict is None:
                unread = next((one for one in needed if one not in names), None)
                reason = f"a quick run reads no {unread}" if unread else "a quick run removes no heads"
            reading = readings.get(suite)
            row |= {
                "suite": suite,
                "least_pattern": LEAST[name].pattern,
                "least_effect": LEAST[name].sign * LEAST[name].effect,
                "accuracy": None if reading is None else reading.accuracy,
                "chance": built[suite].chance if suite in built and built[suite].questions else None,
            }
        tested = verdict is not None and reason is None
        row |= {"tested": tested, "reason": reason}
        row["n_heads"] = int(verdict.passes.sum()) if tested and verdict is not None else None
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=DEFINITIONS)


def attention_rows(profiles: Profiles) -> pa.Table:
    """Where each head attends in the texts, means over them."""
    means = {name: getattr(profiles, name).mean(0) for name in PROFILE}
    layers, heads = (part.ravel().astype(np.int32) for part in np.indices(means["first"].shape))
    columns: dict[str, NDArray[np.generic]] = {"layer": layers, "head": heads}
    columns |= {name: values.ravel() for name, values in means.items()}
    return pa.table(columns | {"n_texts": np.full(layers.size, len(profiles.first), np.int32)})


def _or_null(values: NDArray[np.float64]) -> pa.Array:
    flat = values.ravel()
    return pa.array(flat, mask=np.isnan(flat))
