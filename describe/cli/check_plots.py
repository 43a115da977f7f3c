"""Pictures of static against dynamic scores: a scatter plot per relation, and all correlations at a glance, as SVG."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from describe.cli.relation_plots import save
from describe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PATIENCE = 60.0
_PANELS = tuple((preset, context) for preset in ("default", "paper") for context in ("without", "with"))
Rows = Sequence[dict[str, object]]


def draw(catalogue: Path, run_id: str, folder: Path, progress: Callable[[str, int, int], None]) -> list[Path]:
    """Draw a run of `describe check` into `folder`, made if missing; `progress` is told (stage, done, total).

    Raises:
        InputError: the folder cannot be written.
    """
    from describe.catalogue import read_only_query

    def ask(sql: str) -> Rows:
        found = read_only_query(catalogue, sql, [run_id], wait=_PATIENCE)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    table = ask(
        "SELECT model, relation, preset, context, pearson_r, max_lift, n_pairs, n_templates FROM correlations "
        "WHERE run_id = ? AND direction = 'promote' ORDER BY max_lift DESC, relation"
    )
    points = ask(
        "WITH own AS (SELECT *, CASE readout WHEN 'raw' THEN 'paper' ELSE 'default' END AS preset FROM dynamic_scores "
        "WHERE run_id = ? AND direction = 'promote') "
        "SELECT d.relation, d.preset, d.context, s.score AS static, avg(d.score) AS dynamic FROM own d "
        "JOIN relation_current s USING (model, layer, head, relation, preset, direction, k) "
        "WHERE s.sources = 'one token' AND s.targets = 'whole word' "
        "GROUP BY d.relation, d.preset, d.context, s.score, d.layer, d.head"
    )
    written = []
    relations = list(dict.fromkeys(str(row["relation"]) for row in table))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for count, path in enumerate(_draw_all(table, points, relations, folder), start=1):
            written.append(path)
            progress("plots", count, 1 + len(relations))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({(error.strerror or 'unknown reason').lower()}): name another folder."
        ) from error
    return written


def _draw_all(table: Rows, points: Rows, relations: Sequence[str], folder: Path) -> Iterator[Path]:
    if not table:
        return
    model = str(table[0]["model"])
    stem = re.sub(r"[^\w.@-]+", "_", model)
    for relation in relations:
        own = [row for row in points if row["relation"] == relation]
        r = {
            (row["preset"], row["context"]): row["pearson_r"] for row in table if row["relation"] == relation
        }
        name = re.sub(r"[^\w-]+", "_", relation)
        yield save(_scatter(own, r, f"{relation} in {model}"), folder / f"{stem}.check.{name}.svg")
    yield save(_overview(table, relations, model), folder / f"{stem}.check.overview.svg")


def _scatter(points: Rows, r: dict[tuple[object, object], object], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axis, (preset, context) in zip(figure.subplots(1, 4, sharey=True), _PANELS, strict=True):
        own = [row for row in points if (row["preset"], row["context"]) == (preset, context)]
        axis.plot(
            [row["static"] for row in own], [row["dynamic"] for row in own], "o", markersize=3, alpha=0.5
        )
        axis.plot([0, 1], [0, 1], "--", color="grey", linewidth=0.7)
        value = r.get((preset, context))
        shown = "–" if value is None else f"{value:.2f}"
        axis.set_title(f"{preset}, {context} context\nr = {shown}", fontsize=8)
        axis.set_xlabel("score from the weights", fontsize=7)
        axis.tick_params(labelsize=6)
    figure.axes[0].set_ylabel("in the running model", fontsize=7)
    figure.suptitle(f"{title}: a dot a head, mean of the templates", fontsize=9)
    return figure


def _overview(table: Rows, relations: Sequence[str], model: str) -> Figure:
    import numpy as np
    from matplotlib.figure import Figure

    r = {(row["relation"], row["preset"], row["context"]): row["pearson_r"] for row in table}
    found = [[r.get((relation, *panel)) for panel in _PANELS] for relation in relations]
    values = np.array([[np.nan if one is None else one for one in row] for row in found], dtype=float)
    figure = Figure(figsize=(6, 1.6 + 0.18 * len(relations)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(values, vmin=-1, vmax=1, cmap="RdBu", aspect="auto")
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        value = values[row, column]
        colour = "white" if abs(value) > 0.6 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    axis.set_xticks(range(4), [f"{preset}\n{context} context" for preset, context in _PANELS], fontsize=7)
    axis.set_yticks(range(len(relations)), relations, fontsize=6)
    axis.set_title(
        f"{model}: Pearson's r of static and dynamic scores;\nrelations by their best lift", fontsize=9
    )
    figure.colorbar(image, shrink=0.5)
    return figure
