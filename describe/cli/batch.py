"""`describe batch export|import`: what is to be asked as a file in OpenAI's batch format, and the answers back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common, endpoints
from describe.cli.chat_models import RULES, ChatModels, DraftOptions, JudgeOptions
from describe.cli.endpoints import Endpoints
from describe.errors import DescribeError, InputError

if TYPE_CHECKING:
    from describe.clients.asker import Asker
    from describe.jobs.describing import Progress

_EPILOG = (
    "Examples: describe batch export requests.jsonl smollm2 --drafter gpt-4.1-mini --heads L23H4,L23H5 · "
    "describe batch export judging.jsonl --judge gpt-4.1 · describe batch import answers.jsonl"
)
_HELP = "Requests as a file in OpenAI's batch format, answered elsewhere, and the answers back."


def register(app: typer.Typer) -> None:
    """Add `describe batch` to the app."""
    group = typer.Typer(help=_HELP, epilog=_EPILOG, no_args_is_help=True)
    group.command("export", epilog=_EPILOG)(export)
    group.command("import", epilog=_EPILOG)(take)
    app.add_typer(group, name="batch")


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the requests go, one JSON line each.")],
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="The model to draft; none: judge what is in the catalogue."),
    ] = None,
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    drafter: Annotated[str, typer.Option(help="The chat model that drafts.")] = RULES,
    judges: endpoints.Judges = None,
    heads: Annotated[str | None, typer.Option(help="Only these heads, like L5H1,L5H2.")] = None,
    layers: Annotated[str | None, typer.Option(help="Only these layers, like 0-3,7.")] = None,
    preset: common.Preset = "default",
    candidates: Annotated[int, typer.Option(min=1, max=16, help="Drafts of a head.")] = 1,
    hint: Annotated[bool, typer.Option("--hint", help="Show the drafter what the rules found.")] = False,
    controls: Annotated[
        int, typer.Option(min=0, help="Heads made to have no pattern that are drafted too.")
    ] = 20,
    reply_tokens: endpoints.ReplyTokens = None,
    base_url: endpoints.BaseUrl = None,
    answers: endpoints.AnswerFile = None,
    device: common.Device = "auto",
    seed: common.Seed = 0,
    quiet: common.Quiet = False,
) -> None:
    """Write what a drafter (with MODEL) or judges (without) have still to be asked.

    Replies that must be mended once more, and judging after drafting, take a second export.
    """
    if (model is None) != (drafter == RULES) or bool(judges) == (drafter != RULES):
        raise InputError(
            "Name a model to draft with --drafter, as in `describe batch export FILE smollm2 --drafter NAME`, or judges"
            " alone, as in `describe batch export FILE --judge NAME`."
        )
    given = Endpoints(base_url=base_url, answers=answers)
    draft = DraftOptions(drafter, candidates, 0.0, hint, controls, reply_tokens)
    models = ChatModels(
        given,
        draft,
        JudgeOptions(tuple(dict.fromkeys(judges or ())), reply_tokens=reply_tokens),
        seed,
        collect=True,
    )
    words = {
        "--catalogue": str(catalogue.resolve()), "--base-url": models.base_url,
        "--answers": str(answers.resolve()) if answers else None,
        "--seed": str(seed), "--reply-tokens": str(reply_tokens) if reply_tokens else None,
    }  # fmt: skip
    with common.Stages(quiet).shown() as progress:
        if model is not None:
            words |= {
                "--drafter": drafter, "--heads": heads, "--layers": layers, "--preset": preset,
                "--candidates": str(candidates), "--controls": str(controls), "--device": device,
            }  # fmt: skip
            _collect_drafts(models, model, catalogue, (layers, heads), preset, device, seed, progress)
            asker, command = models.drafter, ["run", model, *(["--hint"] if hint else [])]
        else:
            _collect_judging(models, catalogue, progress)
            asker, command = (
                models.grader,
                ["judge", *[word for one in judges or () for word in ("--judge", one)]],
            )
    command += [
        "--offline",
        *[word for name, value in words.items() if value is not None for word in (name, value)],
    ]
    assert asker is not None  # one of the two was named
    _write(file, asker, command)


def _collect_drafts(
    models: ChatModels,
    model: str,
    catalogue: Path,
    selection: tuple[str | None, str | None],
    preset: str,
    device: str,
    seed: int,
    progress: Progress,
) -> None:
    from describe.jobs.describing import Job
    from describe.jobs.plan import RunOptions

    settings = common.settings_of(preset, None, None)
    subject = common.open_model(model, progress)
    chosen = common.choose_heads(subject.shape, *selection)
    where = common.choose_device(device)
    options = RunOptions(settings, chosen, llm=models.draft_settings, device=where, seed=seed)
    encoder = common.encoder_of(progress)
    excluded = common.excluded_of(subject, settings)
    Job(
        subject,
        excluded,
        encoder,
        catalogue,
        options,
        progress,
        models.drafter,
        models.chooser(encoder, progress),
    ).prepare()


def _collect_judging(models: ChatModels, catalogue: Path, progress: Progress) -> None:
    from eval.judging.claims import read_run, runs_of

    if not catalogue.exists():
        raise InputError(
            f"There is no catalogue '{catalogue}': make descriptions with `describe run MODEL` first."
        )
    encoder = common.encoder_of(progress)
    for run_id, name in runs_of(catalogue, None):
        models.judge_job(catalogue, read_run(catalogue, run_id, name), encoder, progress).ask()


def _write(file: Path, asker: Asker, command: list[str]) -> None:
    from describe.clients.batches import batch_lines

    if not asker.missing:
        typer.echo("Everything is answered: nothing was written.")
        return
    common.write_file(file, "".join(f"{line}\n" for line in batch_lines(asker.missing, asker.endpoint)))
    asker.answers.note_export(asker.missing, asker.base_url, command)
    typer.echo(
        f"{len(asker.missing)} requests in {file}. Have them answered, as a batch of OpenAI's or by any model that replies in"
        " its format, then: describe batch import ANSWERS"
    )


def take(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The answers, one JSON line each, in any order.")
    ],
    answers: endpoints.AnswerFile = None,
    store: Annotated[
        bool, typer.Option(help="Store what the answers make, by the command that they are for.")
    ] = True,
) -> None:
    """Keep the answers to exported requests, and store what they make.

    Answers may be partial, reordered, repeated or late; broken lines and answers to other requests are counted and
    left out. What is not answered yet stays pending (exit code 4).
    """
    from describe.clients.answers import AnswerStore, default_answers
    from describe.clients.batches import take_answers

    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            taken = take_answers(lines, AnswerStore(answers or default_answers()))
    except OSError as error:
        raise InputError(
            f"The file {file} cannot be read ({error.strerror}): name the file of answers."
        ) from error
    typer.echo(
        f"{taken.kept} answers kept; {taken.repeated} were there already, {taken.failed} say that there is none,"
        f" {taken.unknown} are to requests that never went out from here, {taken.malformed} lines are no answers.",
        err=True,
    )
    if not taken.kept and not taken.repeated:
        raise DescribeError(f"No answer in {file} is of use: give the output file of the exported requests.")
    if store:
        _store(taken.commands)


def _store(commands: Sequence[Sequence[str]]) -> None:
    """Run every command that answers are for; the first one that is left unfinished gives the exit code."""
    from describe.cli import app

    codes = [app()(args=list(command), standalone_mode=False) for command in commands]
    if code := next((code for code in codes if code), 0):
        raise typer.Exit(int(code))
