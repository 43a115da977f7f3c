"""`describe relations`: how strongly every head implements predefined operations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common
from describe.errors import InputError
from describe.settings import ProjectionSettings, preset

if TYPE_CHECKING:
    from describe.jobs.relating import RelationJob, RelationReport
    from describe.relations import Relation
    from describe.subject.model import SubjectModel

_EPILOG = (
    "Examples: describe relations smollm2 · describe relations smollm2 --pairs my_pairs.json --preset default · "
    "describe relations smollm2 --plot pictures · describe relations --check"
)
_PATIENCE = 60.0
_QUERIES = (
    "SELECT head_id, score, null_mean, lift, q_value FROM relation_heads "
    "WHERE relation = 'country_to_capital' AND preset = 'default' ORDER BY lift DESC",
    "SELECT head_id, relations FROM head_relations WHERE preset = 'default' AND n_categories > 1 "
    "ORDER BY n_relations DESC LIMIT 10",
)


def register(app: typer.Typer) -> None:
    """Add `describe relations` to the app."""
    app.command("relations", epilog=_EPILOG)(relations)


def relations(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As for `describe run`; with --check, none is needed."),
    ] = None,
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            "--pairs", help="Score these relations only: a JSON file or a folder, ours or a list of pairs."
        ),
    ] = None,
    preset_name: Annotated[
        str, typer.Option("--preset", help="both, or a preset: default, paper, uncentred.")
    ] = "both",
    k: Annotated[
        list[int] | None,
        typer.Option("--k", help="For --json: these k (1, 3, 5, 10, 25), not each relation's own."),
    ] = None,
    multi_token: Annotated[
        bool, typer.Option("--multi-token", help="Score the sources of several tokens, and those only.")
    ] = False,
    first_token: Annotated[
        bool, typer.Option("--first-token", help="Let a target of several tokens stand for its first.")
    ] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw heatmaps (SVG) into this folder.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the relation files and count pairs by vocabulary.")
    ] = False,
    device: common.Device = "auto",
    seed: common.Seed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    quiet: common.Quiet = False,
) -> None:
    """Score predefined operations on every head, each with its null, and store the scores.

    Without --pairs: the packaged relations and those made for the tokenizer (casing, spacing, pieces). A score
    counts as implementing a relation if q < 0.05 and it lies 0.15 above what shuffled targets give.
    """
    from describe.relations import load_relations, scored_relations

    chosen = load_relations(pairs) if pairs else scored_relations()
    if check:
        _check(chosen, model, quiet)
        return
    if model is None:
        raise InputError("Name a model, such as smollm2; or use --check to check the relation files alone.")
    _check_ks(k)
    settings = _settings(preset_name, multi_token)
    stages = common.Stages(quiet)
    with stages.shown() as progress:
        subject = common.open_model(model, progress)
        if not pairs and not multi_token:
            from describe.relations.generated import generated_relations

            chosen = (*chosen, *generated_relations(subject.vocabulary))
        from describe.jobs.relating import RelationJob, RelationOptions

        where = common.choose_device(device)
        jobs = [
            RelationJob(
                subject,
                common.excluded_of(subject, one),
                catalogue,
                RelationOptions(
                    one,
                    chosen,
                    "several tokens" if multi_token else "one token",
                    "first token" if first_token else "whole word",
                    where,
                    seed,
                ),
                progress,
            )
            for one in settings
        ]
        reports = [] if dry_run else [job.run() for job in jobs]
    if dry_run:
        _say_plan(jobs)
        return
    if as_json is not None:
        _write_json(catalogue, reports, k, as_json)
    if plot is not None:
        with stages.shown() as progress:
            files = _draw(catalogue, reports, plot, progress)
        if not quiet:
            typer.echo(f"{len(files)} pictures in {plot}.", err=True)
    _say(subject, catalogue, reports, quiet)


def _settings(name: str, multi_token: bool) -> list[ProjectionSettings]:
    """The settings to score under: both presets, or one; words of several tokens only where block 0 reads them."""
    chosen = [preset(one) for one in (("default", "paper") if name == "both" else (name,))]
    # The released code runs the first MLP everywhere for salient mappings only, by accident (MAPS, section 3).
    chosen = [replace(one, source="mlp0") if one.source == "mlp0-everywhere" else one for one in chosen]
    if multi_token:
        chosen = [one for one in chosen if one.source == "block0"]
        if not chosen:
            raise InputError("Words of several tokens need block 0: use --preset default with --multi-token.")
    return chosen


def _say_plan(jobs: Sequence[RelationJob]) -> None:
    for job in jobs:
        n = len(job.options.relations)
        state = "complete already" if job.is_complete() else f"{n} relations to score on every head"
        typer.echo(f"{job.model.name}, {job.options.settings.preset} preset: {state}.")


def _draw(
    catalogue: Path,
    reports: Sequence[RelationReport],
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> list[Path]:
    from describe.cli.relation_plots import draw

    return draw(catalogue, [report.run_id for report in reports], folder, progress)


def _check_ks(k: Sequence[int] | None) -> None:
    from describe.relations.scores import KS

    for one in k or ():
        if one not in KS:
            raise InputError(f"Scores are kept at k = {', '.join(map(str, KS))}: {one} is none of them.")


def _check(chosen: Sequence[Relation], model: str | None, quiet: bool) -> None:
    """Loading has checked the files; here the pairs that each vocabulary can say are counted."""
    from rich.console import Console
    from rich.table import Table

    from describe.jobs.relation_pairs import FEWEST, usable
    from describe.relations.generated import FEW

    names = ("smollm2", "gemma3-270m") if model is None else (model,)
    counts = {}
    with common.Stages(quiet).shown() as progress:
        for name in names:
            found = usable(chosen, common.open_model(name, progress).vocabulary)
            counts[name] = {one.name: len(one.sources) for one in found.relations}
    table = Table(box=None, header_style="bold")
    for title in ("relation", "category", "pairs", *names):
        table.add_column(title, justify="left" if title in ("relation", "category") else "right")
    for one in chosen:
        cells = []
        for name in names:
            n = counts[name][one.name]
            enough = n >= (FEWEST if one.thin else FEW)
            cells.append(f"{n}{'' if enough and not one.thin else ' thin' if enough else ' too few'}")
        table.add_row(one.name, one.category, str(len(one.pairs)), *cells)
    Console(width=max(100, 60 + 20 * len(names))).print(table)
    typer.echo(f"{len(chosen)} relations, no duplicate, no contradiction, no empty pair.")


def _write_json(
    catalogue: Path, reports: Sequence[RelationReport], ks: Sequence[int] | None, path: Path
) -> None:
    from describe.catalogue import read_only_query

    which = "main" if not ks else f"k IN ({', '.join(str(int(one)) for one in ks)})"
    columns = (
        "layer, head, relation, preset, direction, k, score, n_pairs, null_mean, lift, p_value, q_value, within_class, "
        "identity_score, reversed_score, ci_low, ci_high, mean_reciprocal_rank, thin, sources, targets"
    )
    found = read_only_query(
        catalogue,
        f"SELECT {columns} FROM relation_scores WHERE run_id IN (SELECT unnest(?)) AND {which} "
        "ORDER BY preset, relation, direction, k, layer, head",
        [[report.run_id for report in reports]],
        wait=_PATIENCE,
    )
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    common.write_rows(path, rows)


def _say(subject: SubjectModel, catalogue: Path, reports: Sequence[RelationReport], quiet: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from describe.catalogue import read_only_query

    found = read_only_query(
        catalogue,
        "SELECT category, preset, count(DISTINCT relation), "
        "count(DISTINCT (layer, head)) FILTER (implements AND direction = 'promote'), "
        "count(DISTINCT (layer, head)) FILTER (implements AND direction = 'suppress'), "
        "count(*) FILTER (implements), "
        "arg_max(relation || ' in ' || head_id, (lift, relation, -layer, -head)) FILTER (implements) "
        "FROM relation_current WHERE run_id IN (SELECT unnest(?)) GROUP BY ALL ORDER BY preset, category",
        [[report.run_id for report in reports]],
        wait=_PATIENCE,
    )
    n_heads = subject.shape.n_layers * subject.shape.n_heads
    done = "" if any(report.fresh for report in reports) else " (nothing to do: they were stored already)"
    n_scored = max(len(report.scored) for report in reports)
    typer.echo(f"{subject.name}: {n_scored} relations scored on {n_heads} heads, both directions{done}.")
    table = Table(box=None, header_style="bold")
    for title in ("preset", "category", "relations", "heads that write", "heads that suppress", "strongest"):
        table.add_column(title, justify="right" if title.startswith(("rel", "heads")) else "left")
    for category, name, n, up, down, _, best in found.rows:
        table.add_row(str(name), str(category), str(n), str(up), str(down), str(best or "none"))
    Console(width=110).print(table)
    typer.echo("Counted: q < 0.05 over all heads and relations, and 0.15 above shuffled targets.")
    too_few = {name: n for report in reports for name, n in report.too_few.items()}
    if too_few and not quiet:
        listed = ", ".join(f"{name} ({n})" for name, n in sorted(too_few.items()))
        typer.echo(f"Not scored, for want of pairs that are single tokens here: {listed}.", err=True)
    if not quiet:
        shown = re.sub(r"'|\s", "", str(catalogue)) == str(catalogue)
        name = str(catalogue) if shown else f"'{catalogue}'"
        typer.echo("Try:")
        for query in _QUERIES:
            typer.echo(f'  describe sql --catalogue {name} "{query}"')
