"""`describe run`: the main job on one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common
from describe.errors import InputError

if TYPE_CHECKING:
    from describe.jobs.describing import Job, RunReport

_EPILOG = (
    "Examples: describe run smollm2 · describe run ./my-model --layers 0-3 --catalogue night.duckdb · "
    "describe run HuggingFaceTB/SmolLM2-135M@main --preset paper · describe run smollm2 --dry-run"
)
_PATIENCE = 60.0  # seconds to wait for the catalogue to read the report from, when others use it too
_QUERIES = (
    "SELECT head_id, description FROM head_catalogue WHERE status = 'described' "
    "ORDER BY heldout_precision - heldout_null DESC LIMIT 10",
    "SELECT layer, count(*) FILTER (status = 'described') AS described, count(*) AS heads "
    "FROM head_catalogue GROUP BY layer ORDER BY layer",
    "SELECT operation, count(*) AS heads, round(avg(heldout_precision), 2) AS precision, "
    "round(avg(heldout_null), 2) AS chance FROM descriptions "
    "WHERE status = 'described' AND cluster IS NULL GROUP BY operation ORDER BY heads DESC",
)


def register(app: typer.Typer) -> None:
    """Add `describe run` to the app."""
    app.command("run", epilog=_EPILOG)(run)


def run(
    model: common.Model,
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    preset: common.Preset = "default",
    layers: Annotated[str | None, typer.Option(help="Only these layers, like 0-3,7.")] = None,
    heads: Annotated[str | None, typer.Option(help="Only these heads, like L5H1,L5H2.")] = None,
    salient: common.Salient = None,
    targets: common.Targets = None,
    device: common.Device = "auto",
    drafter: Annotated[
        str, typer.Option(help="Who describes: rules (embedded, needs no endpoint).")
    ] = "rules",
    seed: common.Seed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: common.Quiet = False,
) -> None:
    """Describe every head of MODEL and store it; run it again to resume, or to find nothing left to do.

    Exit codes: 0 all done, 1 a failure, 2 bad input, 3 finished with some heads failed.
    """
    if drafter != "rules":
        raise InputError(f"There is no drafter '{drafter}' in this version: use --drafter rules.")
    settings = common.settings_of(preset, salient, targets)
    where = common.choose_device(device)
    stages = common.Stages(quiet)
    with stages.shown() as progress:
        subject = common.open_model(model, progress)
        chosen = common.choose_heads(subject.shape, layers, heads)
        from describe.encoders import MiniLM
        from describe.jobs.describing import Job
        from describe.jobs.plan import RunOptions

        options = RunOptions(settings, chosen, drafter=drafter, device=where, seed=seed)
        excluded = common.excluded_of(subject, settings)
        job = Job(subject, excluded, lambda: MiniLM(progress=progress), catalogue, options, progress)
        report = None if dry_run else job.run()
    if report is None:
        _say_plan(job, as_json)
        return
    _say_report(job, report, as_json)
    if report.failed:
        names = ", ".join(str(head) for head in report.failed[:20])
        what = "head" if len(report.failed) == 1 else "heads"
        typer.echo(f"describe: {len(report.failed)} {what} failed: {names}.", err=True)
        raise typer.Exit(3)


def _say_plan(job: Job, as_json: bool) -> None:
    complete = job.is_complete()
    todo = 0 if complete else len(job.missing_layers())
    name, heads = job.plan.model.name, len(job.plan.options.heads)
    plan = {
        "run_id": job.plan.run_id,
        "model": name,
        "heads": heads,
        "layers_to_project": todo,
        "complete": complete,
        "calls": 0,
        "cost_usd": 0.0,
    }
    if as_json:
        typer.echo(json.dumps(plan, indent=2))
    elif complete:
        typer.echo(f"Nothing to do: run {job.plan.run_id} of {name} is complete in {job.catalogue}.")
    else:
        typer.echo(
            f"Would describe {heads} heads of {name} ({todo} layers to project) into"
            f" {job.catalogue}; no calls to an endpoint, no cost."
        )


def _say_report(job: Job, report: RunReport, as_json: bool) -> None:
    from describe.catalogue import read_only_query
    from describe.cli.report import print_report

    def ask(query: str) -> list[dict[str, object]]:
        found = read_only_query(job.catalogue, query, [report.run_id], wait=_PATIENCE)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    (run_row,) = ask("FROM runs WHERE run_id = ?")
    best = ask(
        "SELECT format('L{}H{}', layer, head) AS head, pattern_text AS description, inputs_text AS inputs "
        "FROM descriptions WHERE run_id = ? AND cluster IS NULL AND status = 'described' "
        "ORDER BY heldout_precision - heldout_null DESC, support DESC, layer, descriptions.head LIMIT 10"
    )
    if as_json:
        summary = {
            "run_id": report.run_id,
            "fresh": report.fresh,
            "described": run_row["n_described"],
            "unclear": run_row["n_unclear"],
            "failed": run_row["n_failed"],
            "failed_heads": [str(head) for head in report.failed],
            "seconds": json.loads(str(run_row["stage_seconds"])),
            "null_checks": json.loads(str(run_row["null_checks"])),
            "peak_memory_bytes": run_row["peak_memory_bytes"],
            "best": best,
        }
        typer.echo(json.dumps(summary, indent=2))
        return
    print_report(run_row, report.fresh, best, job.catalogue, _QUERIES)
