"""`describe bench`: speed and memory against the naive rule, as ratios of one run."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from describe.cli import common
from describe.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EPILOG = (
    "Examples: describe bench --quick · describe bench smollm2 --part salient --threads 2 --json bench.json · "
    "describe bench --part memory"
)


class Part(StrEnum):
    """What is measured."""

    all = "all"
    salient = "salient"
    head = "head"
    relations = "relations"
    memory = "memory"
    asking = "asking"


def register(app: typer.Typer) -> None:
    """Add `describe bench` to the app."""
    app.command("bench", epilog=_EPILOG)(bench)


def bench(
    model: common.Model = "smollm2",
    part: Annotated[
        Part,
        typer.Option(
            help="salient: every head's mappings; head: one head's full map and top pairs; relations: predefined "
            "operations; memory: by depth; asking: requests a second beside a local endpoint's ideal."
        ),
    ] = Part.all,
    head: Annotated[str, typer.Option(help="Which head the part `head` maps.")] = "L1H0",
    quick: Annotated[
        bool, typer.Option("--quick", help="Sample the naive rule's heads instead of all.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the products; the environment's by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to FILE.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw how the cost of relations grows into an SVG file."),
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Measure time and memory beside the naive rule (W_V W_O multiplied out, whole rows sorted, float32).

    Each way runs in a process of its own, loading included; the answers are held against each other. Figures are
    for comparison within one run: they depend on the machine and on what else it does.
    """
    if plot is not None and (quick or part not in (Part.all, Part.relations)):
        raise InputError(
            "--plot draws the cost of relations: give it without --quick, and with --part relations or all."
        )
    figures = _measured(
        model, part, head, quick, threads, lambda text: None if quiet else typer.echo(f"… {text}", err=True)
    )
    if output is not None:
        common.write_file(output, json.dumps(figures, indent=1) + "\n")
    if plot is not None:
        from eval.bench.relation_speed import growth_picture

        common.write_file(plot, growth_picture(figures["relations"]["growth"]))
    _print(figures)


def _measured(
    model: str, part: Part, head: str, quick: bool, threads: int | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    from describe.records import HeadId
    from eval.bench import asking, memory, relation_speed, speed

    chosen = str(HeadId.parse(head))
    figures: dict[str, Any] = {"model": model, "threads": threads, "quick": quick}
    if part in (Part.all, Part.salient, Part.head):
        from describe.subject.model import load_weights

        shape = load_weights(model).shape
        common.choose_heads(shape, None, chosen)
    if part in (Part.all, Part.salient):
        figures["salient"] = speed.salient(model, (shape.n_layers, shape.n_heads), quick, threads, progress)
    if part in (Part.all, Part.head):
        figures["head"] = speed.one_head(model, chosen, quick, threads, progress)
    if part in (Part.all, Part.relations):
        figures["relations"] = relation_speed.relation_speed(model, quick, threads, progress)
    if part in (Part.all, Part.memory):
        figures["memory"] = memory.memory(memory.Sizes(), memory.DEPTHS, threads, progress)
    if part in (Part.all, Part.asking):
        figures["asking"] = asking.asking(quick, progress)
    return figures


def _print(figures: dict[str, Any]) -> None:
    from eval.bench.speed import COLUMNS, table

    if "salient" in figures:
        found = figures["salient"]
        _table(f"All heads of {figures['model']}, paper preset", COLUMNS, table(found["measured"]))
        parity = found["parity"]
        typer.echo(
            f"Parity on {parity['heads']} heads: {parity['equal']} of {parity['places']} places equal,"
            f" {parity['swapped']} swapped within float32 rounding, {parity['different']} different."
        )
    if "head" in figures:
        found = figures["head"]
        _table(f"Top 10 targets of every source of {found['head']}", COLUMNS, table(found["measured"]))
        pairs = found["pairs"]
        typer.echo(
            f"Without loading the map takes 1/{found['core_cpu_ratio']:.1f} of the CPU time; equal targets:"
            f" {found['equal_targets']:.4%}. Exact top 1,000 pairs: {pairs['core']['wall_seconds']:.1f} s,"
            f" {pairs['computed_share']:.0%} of all pairs computed."
        )
    if "relations" in figures:
        found = figures["relations"]
        typer.echo(
            f"{found['relations']} relations with {found['pairs']} pairs, one head, paper preset: {found['ours']:.2f} s with"
            f" every k, null and control; naive, one k: {found['naive']:.2f} s; {found['ratio']:.1f} times faster."
        )
        _table(
            "How the cost grows",
            ("heads", "pairs", "seconds"),
            [[str(one["heads"]), str(one["pairs"]), f"{one['seconds']:.2f}"] for one in found["growth"]],
        )
    if "memory" in figures:
        _print_memory(figures["memory"])
    if "asking" in figures:
        found = figures["asking"]
        typer.echo(
            f"Asking a local endpoint: {found['per_second']:.0f} requests a second,"
            f" {found['per_second'] / found['ideal']:.0%} of the ideal {found['ideal']:.0f};"
            f" {found['cpu_ms_per_request']:.2f} ms of CPU a request."
        )


def _print_memory(found: dict[str, Any]) -> None:
    _table(
        "All heads of a made-up checkpoint of Llama-3.1-8B's shapes, source: embedding",
        ("layers", "wall s", "CPU s", "peak MB"),
        [
            [
                str(one["layers"]),
                f"{one['wall_seconds']:.1f}",
                f"{one['cpu_seconds']:.1f}",
                f"{one['peak_bytes'] / 1e6:.0f}",
            ]
            for one in found["measured"]
        ],
    )
    typer.echo(
        f"E and U take {found['embedding_and_unembedding_bytes'] / 1e6:.0f} MB in float32, a layer's circuits"
        f" {found['layer_bytes'] / 1e6:.0f} MB; the deepest peaks at {found['peak_ratio']:.2f} of the shallowest."
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="left" if column in ("way", "run") else "right")
    for row in rows:
        shown.add_row(*row)
    Console(soft_wrap=not Console().is_terminal).print(shown)
