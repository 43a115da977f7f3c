"""What `describe check` prints of correlations and of agreement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from eval.inference.agreeing import AgreementReport
    from eval.inference.checking import CheckReport

_PATIENCE = 60.0
_QUERY = (
    "SELECT head_id, relation, static_score, score_without_context, score_with_context FROM relation_truth "
    "WHERE implements AND direction = 'promote' AND preset = 'default' ORDER BY score_without_context LIMIT 10"
)


def say_agreement(subject: SubjectModel, catalogue: Path, report: AgreementReport) -> None:
    """Print how many descriptions the running model bears out."""
    from describe.catalogue import read_only_query

    ((n, borne_out, share, null, natural, natural_null),) = read_only_query(
        catalogue,
        "SELECT count(*), count(*) FILTER (q_value < 0.05), avg(agreement), avg(null_mean), avg(agreement_with_context), "
        "avg(null_mean_with_context) FROM inference_agreements WHERE run_id = ?",
        [report.run_id],
        wait=_PATIENCE,
    ).rows
    typer.echo(
        f"{subject.name}: the running model bears out {borne_out} of {n} descriptions (q < 0.05): with attention on the "
        f"source alone, {_float(share):.0%} of their sources bring out their own mapped targets ({_float(null):.0%} "
        f"when shuffled), as the heads attend {_float(natural):.0%} ({_float(natural_null):.0%}). The others are in "
        "the view `disagreements`."
    )
    if not report.fresh:
        typer.echo("Complete already: nothing to do.")


def correlation_rows(catalogue: Path, report: CheckReport) -> list[dict[str, object]]:
    """The correlations of a run, for a table and for --json."""
    from describe.catalogue import read_only_query

    found = read_only_query(
        catalogue,
        "SELECT relation, preset, context, direction, sources, pearson_r, spearman_r, pearson_r_lift, spearman_r_lift, "
        "max_score, max_lift, n_heads, n_templates, n_pairs FROM correlations WHERE run_id = ? "
        "ORDER BY direction, max_lift DESC, relation, preset, context",
        [report.run_id],
        wait=_PATIENCE,
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def say_correlations(subject: SubjectModel, catalogue: Path, report: CheckReport, quiet: bool) -> None:
    """Print a table of the relations, and what was left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = correlation_rows(catalogue, report)
    table = Table(
        title=f"{subject.name}: static against dynamic scores over the heads, Pearson's r (without / with context)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("relation", "best static lift", "default preset", "paper preset"):
        table.add_column(column, justify="left" if column == "relation" else "right")
    by_relation: dict[str, dict[tuple[object, object], dict[str, object]]] = {}
    for row in rows:
        if row["direction"] == "promote":
            by_relation.setdefault(str(row["relation"]), {})[row["preset"], row["context"]] = row
    for relation, found in by_relation.items():
        best = max((_float(row["max_lift"]) for row in found.values()), default=0.0)
        cells = [
            f"{_r(found.get((preset, 'without')))} / {_r(found.get((preset, 'with')))}"
            for preset in ("default", "paper")
        ]
        table.add_row(relation, f"{best:.2f}", *cells)
    Console(soft_wrap=not Console().is_terminal).print(table)
    if report.left_out:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in report.left_out.items())
        typer.echo(f"Not checked: {reasons}.")
    if not report.fresh:
        typer.echo("Complete already: nothing to do.")
    if not quiet:
        typer.echo(f'Try:\n  describe sql --catalogue {catalogue} "{_QUERY}"', err=True)


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _r(row: dict[str, object] | None) -> str:
    value = None if row is None else row["pearson_r"]
    return "–" if value is None else f"{_float(value):.2f}"
