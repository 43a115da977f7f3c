"""Pictures of ablations: accuracy against heads removed for each relation, and all areas at a glance, as SVG."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from describe.cli.ablation_report import rows_of
from describe.cli.relation_plots import save
from describe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PATIENCE = 60.0
_COLOURS = {"relation": "C3", "random": "C0", "control": "C2"}
Rows = Sequence[dict[str, object]]


def draw(catalogue: Path, run_id: str, folder: Path, progress: Callable[[str, int, int], None]) -> list[Path]:
    """Draw a run of ablations into `folder`, made if missing; `progress` is told (stage, done, total).

    Raises:
        InputError: the folder cannot be written.
    """
    from describe.catalogue import read_only_query

    found = read_only_query(
        catalogue,
        "SELECT relation, method, heads, task, draw, n_ablated, accuracy FROM ablations WHERE run_id = ? "
        "ORDER BY relation, method, heads, task, draw, n_ablated",
        [run_id],
        wait=_PATIENCE,
    )
    steps = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    areas = [row for row in rows_of(catalogue, run_id) if row["testable"]]
    total = len({row["relation"] for row in areas}) + 1
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in _draw_all(steps, areas, folder):
            written.append(path)
            progress("ablation plots", len(written), total)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({(error.strerror or 'unknown reason').lower()}): name another folder."
        ) from error
    return written


def _draw_all(steps: Rows, areas: Rows, folder: Path) -> Iterator[Path]:
    if not areas:
        return
    model = str(areas[0]["model"])
    stem = re.sub(r"[^\w.@-]+", "_", model)
    for relation in dict.fromkeys(str(row["relation"]) for row in areas):
        own = [row for row in areas if row["relation"] == relation]
        name = re.sub(r"[^\w-]+", "_", relation)
        figure = _curves([row for row in steps if row["relation"] == relation], own, f"{relation} in {model}")
        yield save(figure, folder / f"{stem}.ablation.{name}.svg")
    yield save(_overview(areas, model), folder / f"{stem}.ablation.overview.svg")


def _curves(steps: Rows, areas: Rows, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 + 2.9 * len(areas), 2.9), layout="constrained")
    axes = figure.subplots(1, len(areas), sharey=True, squeeze=False)[0]
    for axis, area in zip(axes, areas, strict=True):
        _panel(axis, [row for row in steps if row["method"] == area["method"]])
        axis.set_title(
            f"{area['method']}: area {area['area']:.2f} [{area['ci_low']:.2f}, {area['ci_high']:.2f}]",
            fontsize=8,
        )
    axes[0].set_ylabel("accuracy", fontsize=7)
    axes[0].legend(fontsize=6, loc="best")
    figure.suptitle(title, fontsize=9)
    return figure


def _panel(axis: Axes, steps: Rows) -> None:
    """One method: the relation's heads, the draws' mean with their range, and control tasks before and after."""
    import numpy as np

    curves: dict[tuple[object, object, object], list[tuple[float, float]]] = defaultdict(list)
    for row in steps:
        point = (float(str(row["n_ablated"])), float(str(row["accuracy"])))
        curves[row["heads"], row["task"], row["draw"]].append(point)
    relation = [np.array(points) for (heads, *_), points in curves.items() if heads == "relation"]
    draws = np.array([points for (heads, *_), points in curves.items() if heads == "random"])
    for curve in relation:
        axis.plot(*curve.T, "o-", color=_COLOURS["relation"], markersize=3, label="the relation's heads")
    if len(draws):
        counts, heights = draws[0, :, 0], draws[:, :, 1]
        colour = _COLOURS["random"]
        axis.plot(counts, heights.mean(0), "o-", color=colour, markersize=3, label="random heads, mean")
        axis.fill_between(
            counts, heights.min(0), heights.max(0), color=colour, alpha=0.2, label="least to most"
        )
    label: str | None = "the relation's heads, a control task"
    for (heads, *_), points in curves.items():
        if heads == "control":
            axis.plot(
                *np.array(points).T, "x:", color=_COLOURS["control"], linewidth=0.7, markersize=5, label=label
            )
            label = None
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("heads removed", fontsize=7)
    axis.tick_params(labelsize=6)


def _overview(areas: Rows, model: str) -> Figure:
    import numpy as np
    from matplotlib.figure import Figure

    relations = list(dict.fromkeys(str(row["relation"]) for row in areas))
    methods = list(dict.fromkeys(str(row["method"]) for row in areas))
    figure = Figure(figsize=(6, 1.6 + 0.3 * len(relations)), layout="constrained")
    axis = figure.subplots()
    for number, method in enumerate(methods):
        own = [row for row in areas if row["method"] == method]
        height = [relations.index(str(row["relation"])) + 0.2 * number for row in own]
        middle, low, high = (
            np.array([float(str(row[name])) for row in own]) for name in ("area", "ci_low", "ci_high")
        )
        # Percentile intervals need not hold the middle: no bar of a negative length.
        ends = np.maximum([middle - low, high - middle], 0)
        axis.errorbar(middle, height, xerr=ends, fmt="o", markersize=4, linewidth=1, label=method)
    axis.axvline(0, color="grey", linewidth=0.7)
    axis.set_yticks(range(len(relations)), relations, fontsize=7)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(
        "accuracy that the relation's heads cost more than random ones, mean over counts", fontsize=7
    )
    axis.set_title(f"{model}: areas between the curves with 95 % intervals", fontsize=9)
    axis.legend(fontsize=7)
    return figure
