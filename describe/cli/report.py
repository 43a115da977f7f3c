"""The short report of a run, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from describe.cli.sql import visible
from describe.records import HeadId

_STAGES = ("project", "encode", "draft", "verdict", "ask")  # as they follow one another
_NULLS = {"shuffled_rows": "with shuffled rows", "foreign_targets": "with other heads' targets"}
ASKED = """
SELECT chat_model, purpose, count(*) AS calls, count(*) FILTER (from_cache) AS kept_from_before,
    count(*) FILTER (status <> 'ok') AS failed, sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    CASE WHEN NOT coalesce(bool_or(NOT from_cache AND cost_usd IS NULL AND input_tokens IS NOT NULL), false)
        THEN coalesce(sum(cost_usd) FILTER (NOT from_cache), 0) END AS cost_usd
FROM llm_calls WHERE run_id IN (?, ?) GROUP BY ALL ORDER BY ALL
"""
"""What two runs asked of chat models."""
GRADED = """
SELECT grader, 'detection' AS figure, count(auc) AS n, count(*) - count(auc) AS failed, avg(auc) AS mean, avg(null_auc) AS "null"
FROM detections WHERE run_id = $1 GROUP BY ALL
UNION ALL BY NAME
SELECT rater AS grader, 'plausibility' AS figure, count(plausibility) FILTER (NOT is_control) AS n,
    count(*) FILTER (NOT is_control AND plausibility IS NULL) AS failed,
    avg(plausibility) FILTER (NOT is_control) AS mean, avg(plausibility) FILTER (is_control) AS "null"
FROM ratings WHERE run_id = $1 GROUP BY ALL
ORDER BY grader, figure
"""
"""What graders said in a judging run, each figure beside its null."""


def print_report(
    run: Mapping[str, object],
    fresh: bool,
    best: Sequence[Mapping[str, object]],
    catalogue: Path,
    queries: Sequence[str],
    asked: Sequence[Mapping[str, object]] = (),
    graded: Sequence[Mapping[str, object]] = (),
) -> None:
    """Print counts, times, the best-supported descriptions, what graders said, and queries to try, on stdout."""
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
    kinds = [(kind, name) for kind, name in _NULLS.items() if checks.get(kind, {}).get("heads")]
    if kinds:
        found = ", ".join(
            f"{checks[kind]['described']} of {checks[kind]['heads']} {name}" for kind, name in kinds
        )
        console.print(Text(f"The same drafter on heads with nothing to describe: {found}."))
    if best:
        table = Table(
            box=None, show_header=False, pad_edge=False, title="Best supported", title_justify="left"
        )
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in best:
            told = str(row["inputs"] or "") in str(row["description"])
            reads = "" if told else f" Reads {row['inputs']}."
            table.add_row(Text(str(row["head"])), Text(visible(f"{row['description']}{reads}")))
        console.print(table)
    print_judged(asked, graded)
    seconds = json.loads(str(run["stage_seconds"]))
    spent = ", ".join(f"{stage} {seconds[stage]:.1f} s" for stage in _STAGES if stage in seconds)
    console.print(Text(f"Time: {spent}. Peak memory {int(str(run['peak_memory_bytes'])) / 2**30:.2f} GiB."))
    console.print(Text("Try:"))
    for query in queries:
        console.print(Text(f'  describe sql --catalogue {catalogue} "{query}"'), soft_wrap=True)


def print_judged(asked: Sequence[Mapping[str, object]], graded: Sequence[Mapping[str, object]]) -> None:
    """Print what was asked, and what graders said beside what the same gives for other heads' descriptions."""
    console = Console(highlight=False, soft_wrap=not Console().is_terminal)
    for row in graded:
        failed = f", {row['failed']} without a figure" if row["failed"] else ""
        null = "unknown" if row["null"] is None else f"{_number(row['null']):.2f}"
        what = "tells rows from foils (AUC)" if row["figure"] == "detection" else "rates from 1 to 5"
        who = "Running the claims" if row["grader"] == "rules" else visible(str(row["grader"]))
        if row["mean"] is not None:
            console.print(
                Text(
                    f"{who} {what}: mean {_number(row['mean']):.2f} over {row['n']} descriptions{failed};"
                    f" with other heads' descriptions {null}."
                )
            )
        else:
            console.print(Text(f"{who} {what}: no figure{failed}."))
    for row in asked:
        cost = "price unknown" if row["cost_usd"] is None else f"${_number(row['cost_usd']):.4f}"
        console.print(
            Text(
                f"Asked {visible(str(row['chat_model']))} to {row['purpose']}: {row['calls']} calls, {row['kept_from_before']} of"
                f" them answered before, {row['failed']} without a reply; {row['input_tokens'] or 0} tokens sent,"
                f" {row['output_tokens'] or 0} received, {cost}."
            )
        )


def leave(failed: Sequence[HeadId], unasked: int) -> None:
    """End the command as the contract has it: 4 where the budget or missing answers left something, 3 where heads failed."""
    if failed:
        names = ", ".join(str(head) for head in failed[:20])
        what = "head" if len(failed) == 1 else "heads"
        typer.echo(f"describe: {len(failed)} {what} failed: {names}.", err=True)
    if unasked:
        typer.echo(
            f"describe: {unasked} questions are still to be answered; run the same command again, with a higher --budget"
            " or once the answers are there, to go on.",
            err=True,
        )
        raise typer.Exit(4)
    if failed:
        raise typer.Exit(3)


def _number(value: object) -> float:
    return float(str(value))
