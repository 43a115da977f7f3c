"""`describe run`: the main job on one model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common, endpoints
from describe.cli.chat_models import ChatModels, DraftOptions, JudgeOptions
from describe.cli.endpoints import Endpoints, Forecast
from describe.cli.report import ASKED as _ASKED
from describe.cli.report import GRADED as _GRADED
from describe.cli.report import leave

if TYPE_CHECKING:
    from describe.jobs.describing import Job, RunReport
    from eval.judging.job import JudgeReport

_EPILOG = (
    "Examples: describe run smollm2 · describe run ./my-model --layers 0-3 --catalogue night.duckdb · "
    "describe run HuggingFaceTB/SmolLM2-135M@main --preset paper · "
    "describe run smollm2 --drafter gpt-4.1-mini --judge another-model --budget 2 --dry-run · "
    "describe run smollm2 --drafter my-model --base-url http://127.0.0.1:8000/v1"
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
_BEST = (
    "SELECT format('L{}H{}', layer, head) AS head, pattern_text AS description, inputs_text AS inputs "
    "FROM descriptions WHERE run_id = ? AND cluster IS NULL AND status = 'described' "
    "ORDER BY heldout_precision - heldout_null DESC NULLS LAST, support DESC, layer, descriptions.head LIMIT 10"
)
_PANEL = "Chat models"


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
        str, typer.Option(help="Who describes: rules (embedded, needs no endpoint), or a chat model.")
    ] = "rules",
    candidates: Annotated[
        int,
        typer.Option(
            min=1, max=16, help="Drafts of a head, the best kept by validation rows.", rich_help_panel=_PANEL
        ),
    ] = 1,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="Of the first draft of a head.", rich_help_panel=_PANEL)
    ] = 0.0,
    hint: Annotated[
        bool, typer.Option("--hint", help="Show the drafter what the rules found.", rich_help_panel=_PANEL)
    ] = False,
    controls: Annotated[
        int,
        typer.Option(
            min=0, help="Heads made to have no pattern that are drafted too.", rich_help_panel=_PANEL
        ),
    ] = 20,
    judge: endpoints.Judges = None,
    base_url: endpoints.BaseUrl = None,
    judge_base_url: endpoints.JudgeBaseUrl = None,
    reply_tokens: endpoints.ReplyTokens = None,
    concurrency: endpoints.Concurrency = 16,
    rpm: endpoints.RequestsPerMinute = None,
    tpm: endpoints.TokensPerMinute = None,
    timeout: endpoints.Timeout = 120.0,
    budget: endpoints.Budget = None,
    prices: endpoints.PriceFile = None,
    answers: endpoints.AnswerFile = None,
    batch: endpoints.Batch = False,
    offline: endpoints.Offline = False,
    seed: common.Seed = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: common.Quiet = False,
) -> None:
    """Describe every head of MODEL and store it; run it again to resume, or to find nothing left to do.

    Exit codes: 0 all done, 1 a failure, 2 bad input, 3 finished with some heads failed, 4 stopped by the budget.
    """
    given = Endpoints(
        base_url, judge_base_url, concurrency, rpm, tpm, timeout, budget, prices, answers, batch, offline
    )
    endpoints.check_chat_options(drafter, judge, given)
    draft = DraftOptions(drafter, candidates, temperature, hint, controls, reply_tokens)
    models = ChatModels(
        given,
        draft,
        JudgeOptions(tuple(dict.fromkeys(judge or ())), reply_tokens=reply_tokens),
        seed,
        collect=dry_run,
    )
    settings = common.settings_of(preset, salient, targets)
    where = common.choose_device(device)
    with common.Stages(quiet).shown() as progress:
        subject = common.open_model(model, progress)
        chosen = common.choose_heads(subject.shape, layers, heads)
        from describe.jobs.describing import Job
        from describe.jobs.plan import RunOptions

        encoder = common.encoder_of(progress)
        options = RunOptions(settings, chosen, llm=models.draft_settings, device=where, seed=seed)
        excluded = common.excluded_of(subject, settings)
        choose = models.chooser(encoder, progress)
        job = Job(subject, excluded, encoder, catalogue, options, progress, models.drafter, choose)
        plan = models.plan(job, chosen, encoder) if dry_run else []
        report = None if dry_run else job.run()
        judged = None
        if report is not None and not report.pending:
            judged = models.judge(catalogue, report.run_id, subject.name, encoder, progress)
    if report is None:
        _say_plan(job, plan, models.prices_as_of, as_json)
        return
    _say_report(job, report, judged, as_json)
    leave(report.failed, len(report.pending) + (judged.unasked if judged else 0))


def _say_plan(job: Job, plan: list[Forecast], as_of: str | None, as_json: bool) -> None:
    complete = job.is_complete()
    todo = 0 if complete else len(job.missing_layers())
    name, heads = job.plan.model.name, len(job.plan.options.heads)
    costs = [one.cost_usd for one in plan]
    facts = {
        "run_id": job.plan.run_id,
        "model": name,
        "heads": heads,
        "layers_to_project": todo,
        "complete": complete,
        "calls": sum(one.calls for one in plan),
        "input_tokens": sum(one.input_tokens for one in plan),
        "cost_usd": None if None in costs else sum(cost or 0.0 for cost in costs),
        "by_model": [dataclasses.asdict(one) for one in plan],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    elif complete and not plan:
        typer.echo(f"Nothing to do: run {job.plan.run_id} of {name} is complete in {job.catalogue}.")
    elif plan:
        what = "judge the descriptions" if complete else f"describe {heads} heads"
        typer.echo(f"Would {what} of {name} into {job.catalogue}, and still ask:")
        endpoints.say_forecast(plan, as_of, typer.echo)
        llm = job.plan.options.llm
        if llm is not None and llm.candidates > 1 and not complete:
            typer.echo(f"To choose among drafts, judges are asked up to {heads * llm.candidates} times more.")
    else:
        typer.echo(
            f"Would describe {heads} heads of {name} ({todo} layers to project) into"
            f" {job.catalogue}; no calls to an endpoint, no cost."
        )


def _say_report(job: Job, report: RunReport, judged: JudgeReport | None, as_json: bool) -> None:
    from describe.catalogue import read_only_query
    from describe.cli.report import print_report

    def ask(query: str, *runs: str) -> list[dict[str, object]]:
        found = read_only_query(job.catalogue, query, list(runs), wait=_PATIENCE)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    (run_row,) = ask("FROM runs WHERE run_id = ?", report.run_id)
    best = ask(_BEST, report.run_id)
    judging = judged.run_id if judged else ""
    asked, graded = ask(_ASKED, report.run_id, judging), ask(_GRADED, judging)
    if as_json:
        summary = {
            "run_id": report.run_id,
            "fresh": report.fresh,
            "described": run_row["n_described"],
            "unclear": run_row["n_unclear"],
            "failed": run_row["n_failed"],
            "failed_heads": [str(head) for head in report.failed],
            "pending_heads": [str(head) for head in report.pending],
            "seconds": json.loads(str(run_row["stage_seconds"])),
            "null_checks": json.loads(str(run_row["null_checks"])),
            "peak_memory_bytes": run_row["peak_memory_bytes"],
            "best": best,
            "judge_run_id": judging or None,
            "calls": asked,
            "graders": graded,
        }
        typer.echo(json.dumps(summary, indent=2))
        return
    print_report(run_row, report.fresh, best, job.catalogue, _QUERIES, asked, graded)
