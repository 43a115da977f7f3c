"""Ablations in `describe check`: what is asked for, and a table of the relations tested, with why others were not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

    from describe.subject.model import SubjectModel
    from eval.ablation.ablating import AblationJob, AblationReport

_PATIENCE = 60.0
_WIDTH = 140
_QUERY = "SELECT relation, methods, area_low, area_high FROM causal_relations ORDER BY area_high DESC"
Rows = list[dict[str, object]]


def job(
    subject: SubjectModel,
    excluded: Mapping[str, Sequence[int]],
    catalogue: Path,
    quick: bool,
    device: str,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> AblationJob:
    """The job of the packaged relations; a quick one has fewer of them, fewer prompts and only zero ablation."""
    from describe.relations import scored_relations
    from eval.ablation.ablating import AblationJob, AblationOptions
    from eval.ablation.passes import METHODS
    from eval.ablation.setups import PAIRS, QUICK_PAIRS, QUICK_SET_UPS

    options = AblationOptions(
        relations=scored_relations(),
        methods=METHODS[:1] if quick else METHODS,
        pairs=QUICK_PAIRS if quick else PAIRS,
        strongest=QUICK_SET_UPS if quick else None,
        device=device,
        seed=seed,
    )
    return AblationJob(subject, excluded, catalogue, options, progress)


def rows_of(catalogue: Path, run_id: str) -> Rows:
    """The areas of a run, the largest by zero ablation first, those that were not tested last."""
    from describe.catalogue import read_only_query

    found = read_only_query(
        catalogue,
        "SELECT * FROM ablation_areas WHERE run_id = ? ORDER BY max(area) OVER (PARTITION BY relation) DESC NULLS LAST, "
        "relation, method = 'zero' DESC, method",
        [run_id],
        wait=_PATIENCE,
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def say(subject: SubjectModel, catalogue: Path, report: AblationReport, quiet: bool) -> None:
    """Print a run, and a query to go on with."""
    from rich.console import Console

    rows = rows_of(catalogue, report.run_id)
    tested = [row for row in rows if row["testable"]]
    if tested:
        # Where nobody looks, lines are as long as they are.
        Console(width=None if Console().is_terminal else _WIDTH).print(_table(subject.name, tested))
        # Resampling brings in another prompt's answer, so it alone proves no need.
        causal = {row["relation"] for row in tested if row["causal"] and row["method"] != "resample"}
        typer.echo(
            f"{subject.name} needs the heads of {len(causal)} of {len({row['relation'] for row in tested})} relations: "
            "without them it loses more of the relation's task than without as many random heads of the same layers "
            "(* where so; here by zero or mean ablation, since resampling brings in another prompt's answer)."
        )
    reasons = {str(row["relation"]): str(row["reason"]) for row in rows if not row["testable"]}
    if reasons := reasons | dict(report.left_out):
        typer.echo(f"Not ablated: {', '.join(f'{name} ({reason})' for name, reason in reasons.items())}.")
    if not report.fresh:
        typer.echo("Complete already: nothing to do.")
    if tested and not quiet:
        typer.echo(f'Try:\n  describe sql --catalogue {catalogue} "{_QUERY}"', err=True)


def _table(model: str, rows: Sequence[dict[str, object]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"{model}: accuracy when a relation's heads, or random ones, are removed; controls: other tasks without "
        "the relation's heads",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("relation", "method", "base", "heads", "removed", "random", "control", "area [95 %]"):
        left = column in ("relation", "method")
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "relation")
    for row in rows:
        control = (
            "–" if not row["n_controls"] else f"{_n(row['control_base'])} → {_n(row['control_accuracy'])}"
        )
        table.add_row(
            str(row["relation"]),
            str(row["method"]),
            _n(row["base_accuracy"]),
            str(row["n_read"]),
            _n(row["accuracy_relation"]),
            _n(row["accuracy_random"]),
            control,
            f"{_n(row['area'])} [{_n(row['ci_low'])}, {_n(row['ci_high'])}] {'*' if row['causal'] else ' '}",
        )
    return table


def _n(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"
