"""What `describe check` says of the battery: the classes, their heads, and what could not be tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from eval.battery.job import BatteryJob, BatteryReport

_PATIENCE = 60.0
_SHOWN = 8  # heads of a class
_QUERY = (
    "SELECT head_id, list(class) AS classes FROM class_current WHERE passes AND class != 'attention_sink' "
    "GROUP BY ALL ORDER BY len(classes) DESC LIMIT 10"
)


def job(
    subject: SubjectModel,
    catalogue: Path,
    quick: bool,
    device: str,
    seed: int,
    progress: Callable[[str, int, int], None],
) -> BatteryJob:
    """The battery as `describe check` runs it."""
    from describe.relations import scored_relations
    from eval.battery.job import BatteryJob

    return BatteryJob(subject, list(scored_relations()), catalogue, quick, device, seed, progress)


def say(subject: SubjectModel, catalogue: Path, report: BatteryReport, quiet: bool) -> None:
    """Print the classes with the heads that pass, and the classes that this model cannot be tested for."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from describe.catalogue import read_only_query

    def ask(sql: str) -> list[tuple[object, ...]]:
        return list(read_only_query(catalogue, sql, [report.run_id], wait=_PATIENCE).rows)

    if not report.fresh:
        typer.echo(f"{subject.name}: the battery of head classes is complete already: nothing to do.")
    table = Table(
        title=f"{subject.name}: heads that pass a class's test, of attention and of effect (q < 0.05), strongest first",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("class", "heads", "strongest"):
        table.add_column(column, justify="right" if column == "heads" else "left")
    found = ask(
        "SELECT class, count(*) FILTER (passes), array_to_string(coalesce(list('L' || layer || 'H' || head "
        f"ORDER BY abs(effect_score) DESC) FILTER (passes), [])[:{_SHOWN}], ' ') FROM head_classes WHERE run_id = ? "
        "GROUP BY class HAVING count(passes) > 0 ORDER BY class"
    )
    for row in found:
        table.add_row(*map(str, row))
    if found:
        Console(soft_wrap=not Console().is_terminal).print(table)
    untested = ask(
        "SELECT string_agg(class, ', ' ORDER BY class), reason FROM class_definitions WHERE run_id = ? "
        "AND suite IS NOT NULL AND NOT tested GROUP BY reason ORDER BY 1"
    )
    for classes, reason in untested:
        typer.echo(f"Not tested: {classes} ({reason}).")
    if not quiet:
        typer.echo(f'Try:\n  describe sql --catalogue {catalogue} "{_QUERY}"', err=True)
