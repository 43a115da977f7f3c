"""Pictures of relation scores: layer × head heatmaps, and one overview of relations × layers, as SVG."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from describe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PATIENCE = 60.0
_SIGNS = {"promote": 1, "suppress": -1}


def draw(
    catalogue: Path, run_ids: Sequence[str], folder: Path, progress: Callable[[str, int, int], None]
) -> list[Path]:
    """Draw runs of relation scores into `folder`, made if missing: a picture a relation and an overview a run.

    A head is shown in the direction in which its lift is greater; suppression counts below zero. A dot marks
    q < 0.05 and a lift of 0.15. `progress` is told (stage, done, total).

    Raises:
        InputError: the folder cannot be written.
    """
    from describe.catalogue import read_only_query

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for run_id in run_ids:
            found = read_only_query(
                catalogue,
                "SELECT relation, layer, head, direction, score, lift, implements, preset, model, k, category "
                "FROM relation_current WHERE run_id = ? ORDER BY category, relation, layer, head, direction",
                [run_id],
                wait=_PATIENCE,
            )
            rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
            for count, path in enumerate(_draw_run(rows, folder), start=1):
                written.append(path)
                progress(f"{rows[0]['preset']} plots", count, 1 + len({row["relation"] for row in rows}))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({(error.strerror or 'unknown reason').lower()}): name another folder."
        ) from error
    return written


def _draw_run(rows: Sequence[dict[str, object]], folder: Path) -> Iterator[Path]:
    if not rows:
        return
    by_relation: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        by_relation[str(row["relation"])].append(row)
    shape = (1 + max(_int(row["layer"]) for row in rows), 1 + max(_int(row["head"]) for row in rows))
    model, preset = str(rows[0]["model"]), str(rows[0]["preset"])
    stem = re.sub(r"[^\w.@-]+", "_", model)
    lifts = {}
    for relation, own in by_relation.items():
        scores, lifts[relation], passes = _grids(own, shape)
        figure = _heatmaps(
            scores, lifts[relation], passes, f"{relation} in {model}, {preset} preset, k = {own[0]['k']}"
        )
        name = re.sub(r"[^\w-]+", "_", relation)
        yield save(figure, folder / f"{stem}.{preset}.{name}.svg")
    overview = _overview(lifts, f"Strongest head of each layer in {model}, {preset} preset")
    yield save(overview, folder / f"{stem}.{preset}.overview.svg")


def _grids(
    rows: Sequence[dict[str, object]], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Signed score, signed lift and whether it passes, [n_layers, n_heads], each head in its stronger direction."""
    scores, lifts, passes = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for row in rows:
        at, sign = (_int(row["layer"]), _int(row["head"])), _SIGNS[str(row["direction"])]
        score, lift = float(str(row["score"])), float(str(row["lift"]))
        if np.isnan(lifts[at]) or lift > abs(lifts[at]):
            scores[at], lifts[at], passes[at] = sign * score, sign * lift, bool(row["implements"])
    return scores, np.nan_to_num(lifts), passes


def _int(value: object) -> int:
    return int(str(value))


def _heatmaps(
    scores: NDArray[np.float64], lifts: NDArray[np.float64], passes: NDArray[np.bool_], title: str
) -> Figure:
    n_layers, n_heads = scores.shape
    figure = _figure(4 + 0.34 * n_heads, 1.8 + 0.17 * n_layers)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, grid, name in zip(axes, (scores, lifts), ("score", "lift over shuffled targets"), strict=True):
        image = axis.imshow(grid, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", origin="lower")
        layers, heads = np.nonzero(passes)
        axis.plot(heads, layers, ".", color="black", markersize=3)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("head")
        _whole_numbers(axis)
    axes[0].set_ylabel("layer")
    bar = figure.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("writes (+), suppresses (−)", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _overview(lifts: dict[str, NDArray[np.float64]], title: str) -> Figure:
    """Relations × layers: the lift of the strongest head of the layer."""
    grid = np.stack([each[np.arange(len(each)), np.abs(each).argmax(1)] for each in lifts.values()])
    figure = _figure(4 + 0.2 * grid.shape[1], 1.4 + 0.15 * len(grid))
    axis = figure.subplots()
    image = axis.imshow(grid, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axis.set_yticks(range(len(grid)), list(lifts), fontsize=6)
    axis.set_xlabel("layer")
    axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.6).set_label("lift: writes (+), suppresses (−)", fontsize=8)
    return figure


def _whole_numbers(axis: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _figure(width: float, height: float) -> Figure:
    # Without pyplot, which would keep every figure and look for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, 24), min(height, 30)), layout="constrained")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure whole or not at all, the same bytes for the same figure."""
    import matplotlib

    unfinished = path.with_name(f".{path.name}")
    with matplotlib.rc_context({"svg.hashsalt": "heads", "svg.fonttype": "none", "text.parse_math": False}):
        figure.savefig(unfinished, format="svg", metadata={"Date": None})
    unfinished.replace(path)
    return path
