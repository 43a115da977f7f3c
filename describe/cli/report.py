"""The short report of a run, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from describe.cli.sql import visible

_STAGES = ("project", "encode", "draft", "verdict")  # as they follow one another


def print_report(
    run: Mapping[str, object],
    fresh: bool,
    best: Sequence[Mapping[str, object]],
    catalogue: Path,
    queries: Sequence[str],
) -> None:
    """Print counts, times, the best-supported descriptions and queries to try on stdout."""
    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    if not fresh:
        console.print(
            Text(f"Nothing to do: run {run['run_id']} of {run['model']} is complete in {catalogue}.")
        )
    console.print(
        Text(
            f"{run['model']}: {run['n_described']} heads described, {run['n_unclear']} unclear,"
            f" {run['n_failed']} failed."
        )
    )
    checks = json.loads(str(run["null_checks"]))
    shuffled, foreign = checks["shuffled_rows"], checks["foreign_targets"]
    console.print(
        Text(
            f"The same rules on heads with nothing to describe: {shuffled['described']} of {shuffled['heads']}"
            f" with shuffled rows, {foreign['described']} of {foreign['heads']} with other heads' targets."
        )
    )
    if best:
        table = Table(
            box=None, show_header=False, pad_edge=False, title="Best supported", title_justify="left"
        )
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in best:
            reads = f" Reads {row['inputs']}." if row["inputs"] else ""
            table.add_row(Text(str(row["head"])), Text(visible(f"{row['description']}{reads}")))
        console.print(table)
    seconds = json.loads(str(run["stage_seconds"]))
    spent = ", ".join(f"{stage} {seconds[stage]:.1f} s" for stage in _STAGES if stage in seconds)
    console.print(Text(f"Time: {spent}. Peak memory {int(str(run['peak_memory_bytes'])) / 2**30:.2f} GiB."))
    console.print(Text("Try:"))
    for query in queries:
        console.print(Text(f'  describe sql --catalogue {catalogue} "{query}"'), soft_wrap=True)
