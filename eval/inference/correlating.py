"""Do heads do, when the model runs, what their weights say? Static against dynamic scores over the heads (MAPS, 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.inference.dynamic import READOUTS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StaticScores:
    """One relation on all heads, from the weights: score and lift, [n_heads in all], by layer and then head."""

    score: Floats
    lift: Floats


@dataclass(frozen=True)
class Correlation:
    """Of one relation, preset, context and direction, over templates × heads; None where one side is constant."""

    relation: str
    preset: str
    context: str
    direction: str
    pearson_r: float | None
    spearman_r: float | None
    pearson_r_lift: float | None
    spearman_r_lift: float | None
    n_heads: int
    n_templates: int
    n_pairs: int
    max_score: float
    max_lift: float


Static = Mapping[tuple[str, str, str], StaticScores]
"""By relation, preset and direction."""
Dynamic = Mapping[tuple[str, str, str, str], Sequence[tuple[Floats, Floats, int]]]
"""By relation, readout, direction and context: (score, lift, pairs) of each template, heads as in `StaticScores`."""


def correlations(static: Static, dynamic: Dynamic) -> Iterator[Correlation]:
    """Hold the static scores of each preset against the dynamic scores of its readout.

    As in the released code every template × head is a point, and the static score stands beside each template's.
    """
    for (relation, preset, direction), weights in sorted(static.items()):
        for context in ("with", "without"):
            templates = dynamic.get((relation, READOUTS[preset], direction, context))
            if not templates:
                continue
            score = np.concatenate([one[0] for one in templates])
            lift = np.concatenate([one[1] for one in templates])
            pearson_r, spearman_r = _both(np.tile(weights.score, len(templates)), score)
            pearson_lift, spearman_lift = _both(np.tile(weights.lift, len(templates)), lift)
            yield Correlation(
                relation=relation,
                preset=preset,
                context=context,
                direction=direction,
                pearson_r=pearson_r,
                spearman_r=spearman_r,
                pearson_r_lift=pearson_lift,
                spearman_r_lift=spearman_lift,
                n_heads=len(weights.score),
                n_templates=len(templates),
                n_pairs=templates[0][2],
                max_score=float(weights.score.max()),
                max_lift=float(weights.lift.max()),
            )


def _both(x: Floats, y: Floats) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's correlation."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    return float(pearsonr(x, y).statistic), float(spearmanr(x, y).statistic)
