"""`describe judge`: are the descriptions of the catalogue plausible, and do they tell rows from foils?"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common, endpoints
from describe.cli.chat_models import ChatModels, DraftOptions, JudgeOptions
from describe.cli.endpoints import Endpoints
from describe.cli.report import ASKED, GRADED, leave, print_judged
from describe.errors import InputError

if TYPE_CHECKING:
    from eval.judging.job import JudgeReport

_EPILOG = (
    "Examples: describe judge · describe judge --judge gpt-4.1 --judge another-model --budget 5 --dry-run · "
    "describe judge --model smollm2@0.1.2 --judge my-model --base-url http://127.0.0.1:8000/v1 --one-by-one"
)
_PATIENCE = 60.0  # seconds to wait for the catalogue to read the report from
_PANEL = "Chat models"


def register(app: typer.Typer) -> None:
    """Add `describe judge` to the app."""
    app.command("judge", epilog=_EPILOG)(judge)


def judge(
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    model: Annotated[
        str | None, typer.Option(help="Only this model, as the catalogue names it; else every model.")
    ] = None,
    drafter: Annotated[
        str | None, typer.Option(help="Only descriptions by this drafter, such as rules; else of every one.")
    ] = None,
    judges: endpoints.Judges = None,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Judge the descriptions of clusters too.")
    ] = False,
    one_by_one: Annotated[
        bool,
        typer.Option(
            "--one-by-one",
            help="A request for each row, answered Yes or No, with log-probabilities where the endpoint gives them.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    anchors: Annotated[
        bool, typer.Option(help="Put the fixed anchor set to each judge.", rich_help_panel=_PANEL)
    ] = True,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="A new run today although nothing has changed: the anchors are asked anew, so that a judge's drift shows.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    controls: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the descriptions also rated on another head's rows.",
            rich_help_panel=_PANEL,
        ),
    ] = 0.2,
    base_url: endpoints.BaseUrl = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: common.Quiet = False,
) -> None:
    """Judge the descriptions of the catalogue, whoever wrote them, by rows that their drafter never saw.

    Without --judge the packaged sentence encoder grades detection, with no endpoint. With it each chat model rates
    plausibility from 1 to 5, tells held-out rows from foils, and rates a fixed anchor set, so that its own drift shows.
    Exit codes: 0 all done, 1 a failure, 2 bad input, 3 some ratings have no figure, 4 stopped by the budget.
    """
    occasion = datetime.now(UTC).date().isoformat() if again else None
    given = Endpoints(base_url, None, concurrency, rpm, tpm, timeout, budget, prices, answers, batch, offline)
    endpoints.check_chat_options("rules", judges, given)
    options = JudgeOptions(
        tuple(dict.fromkeys(judges or ())), one_by_one, anchors, controls, clusters, reply_tokens, occasion
    )
    models = ChatModels(given, DraftOptions(), options, seed, collect=dry_run)
    if not catalogue.exists():
        raise InputError(
            f"There is no catalogue '{catalogue}': make descriptions with `describe run MODEL` first."
        )
    from eval.judging.claims import read_run, runs_of

    reports: list[tuple[str, JudgeReport]] = []
    with common.Stages(quiet).shown() as progress:
        encoder = common.encoder_of(progress)
        for run_id, name in runs_of(catalogue, model, drafter):
            run = read_run(catalogue, run_id, name, clusters=clusters)
            job = models.judge_job(catalogue, run, encoder, progress)
            if dry_run:
                job.ask()
            else:
                reports.append((name, job.run()))
    if dry_run:
        _say_plan(models, as_json)
        return
    _say(catalogue, reports, as_json)
    leave((), sum(report.unasked for _, report in reports))
    if failed := sum(report.failed for _, report in reports):
        typer.echo(
            f"describe: {failed} ratings and detections have no figure; their column status says why.",
            err=True,
        )
        raise typer.Exit(3)


def _say_plan(models: ChatModels, as_json: bool) -> None:
    plan = models.forecast()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in plan], indent=2))
    elif plan:
        typer.echo("Would ask:")
        endpoints.say_forecast(plan, models.prices_as_of, typer.echo)
    else:
        typer.echo("Nothing is to be asked of a chat model.")


def _say(catalogue: Path, reports: list[tuple[str, JudgeReport]], as_json: bool) -> None:
    from describe.catalogue import read_only_query

    def ask(query: str, *runs: str) -> list[dict[str, object]]:
        found = read_only_query(catalogue, query, list(runs), wait=_PATIENCE)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    told = []
    for name, report in reports:
        asked, graded = ask(ASKED, report.run_id, ""), ask(GRADED, report.run_id)
        told.append(dataclasses.asdict(report) | {"model": name, "calls": asked, "graders": graded})
        if not as_json:
            state = "" if report.fresh else " (complete already, nothing to do)"
            typer.echo(f"{name}: {report.n_claims} descriptions judged{state}.")
            print_judged(asked, graded)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
