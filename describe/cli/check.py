"""`describe check`: do heads do, in the running model, what their weights say?"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common
from describe.errors import InputError

if TYPE_CHECKING:
    from describe.relations import Relation
    from describe.subject.model import SubjectModel
    from eval.inference.agreeing import AgreementReport
    from eval.inference.checking import CheckReport

_EPILOG = (
    "Examples: describe check smollm2 · describe check smollm2 --quick · "
    "describe check smollm2 --pairs my_pairs.json --plot pictures"
)
_PATIENCE = 60.0
_QUERY = (
    "SELECT head_id, relation, static_score, score_without_context, score_with_context FROM relation_truth "
    "WHERE implements AND direction = 'promote' AND preset = 'default' ORDER BY score_without_context LIMIT 10"
)


class Part(StrEnum):
    """What is checked."""

    correlations = "correlations"
    agreement = "agreement"


def register(app: typer.Typer) -> None:
    """Add `describe check` to the app."""
    app.command("check", epilog=_EPILOG)(check)


def check(
    model: common.Model,
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    only: Annotated[
        Part | None,
        typer.Option(
            help="correlations: scores of predefined operations; agreement: descriptions. By default both, as far as the "
            "catalogue holds what they check."
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            "--pairs", help="Check these relations only: files or folders, scored by `describe relations`."
        ),
    ] = None,
    all_relations: Annotated[
        bool, typer.Option("--all", help="Check every relation, not only those that some head implements.")
    ] = False,
    multi_token: Annotated[
        bool, typer.Option("--multi-token", help="Place the sources of several tokens, and those only.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="30 pairs and one template; the strongest dozen relations, if none are named.",
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw static against dynamic scores (SVG) into this folder.")
    ] = None,
    device: common.Device = "auto",
    seed: common.Seed = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the correlations to this file; - is stdout.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Place words in neutral texts, run the model, and hold what each head writes against what its weights say.

    Checks the relation scores (`describe relations`) and the descriptions (`describe run`) of the catalogue. Each
    head's output is read with its own attention (with context) and with attention on the source alone (without).
    """
    if not catalogue.exists():
        raise InputError(
            f"There is no catalogue '{catalogue}': run `describe run {model}` or `describe relations {model}` first."
        )
    if only == Part.agreement and (pairs or all_relations or multi_token or plot or as_json):
        raise InputError(
            "--pairs, --all, --multi-token, --plot and --json concern relations: leave out --only agreement."
        )
    stages = common.Stages(quiet)
    correlated, agreed = None, None
    with stages.shown() as progress:
        subject = common.open_model(model, progress)
        from describe.settings import preset
        from eval.inference import agreeing, checking
        from eval.inference.templates import TEMPLATES

        # Longer sources are read where the text ends with them, as in the released code.
        templates = TEMPLATES[2:3] if quick or multi_token else TEMPLATES
        only = Part.correlations if pairs or multi_token else only
        parts = _parts(catalogue, subject.name, only, bool(all_relations or plot or as_json))
        where = common.choose_device(device)
        excluded = common.excluded_of(subject, preset("default"))
        if Part.correlations in parts:
            options = checking.CheckOptions(
                relations=_relations(subject, catalogue, pairs, all_relations, quick),
                explicit=bool(pairs),
                several=multi_token,
                templates=templates,
                pairs=checking.QUICK_PAIRS if quick else checking.PAIRS,
                device=where,
                seed=seed,
            )
            correlated = checking.CorrelationJob(subject, excluded, catalogue, options, progress).run()
        if Part.agreement in parts:
            job = agreeing.AgreementJob(subject, excluded, catalogue, TEMPLATES, where, seed, progress)
            agreed = job.run()
    if correlated is not None:
        _finish(subject, catalogue, correlated, as_json, plot, quiet)
    if agreed is not None and str(as_json) != "-":
        _say_agreement(subject, catalogue, agreed)


def _parts(catalogue: Path, model: str, only: Part | None, of_relations: bool) -> tuple[Part, ...]:
    """What to check: what was asked for, else what the catalogue holds."""
    from describe.catalogue import read_only_query
    from eval.inference.static import holds_scores

    if only is not None:
        return (only,)
    described = read_only_query(
        catalogue,
        "SELECT 1 FROM run_latest WHERE model = ?",
        [model],
        wait=_PATIENCE,
    ).rows
    scored = holds_scores(catalogue, model)
    if not described:
        return (Part.correlations,)
    # Where relations are asked for and there are none, the check of correlations says so.
    return (Part.correlations, Part.agreement) if scored or of_relations else (Part.agreement,)


def _finish(
    subject: SubjectModel,
    catalogue: Path,
    report: CheckReport,
    as_json: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    if as_json is not None:
        common.write_rows(as_json, _rows(catalogue, report))
    if plot is not None:
        from describe.cli.check_plots import draw

        with common.Stages(quiet).shown() as progress:
            files = draw(catalogue, report.run_id, plot, progress)
        if not quiet:
            typer.echo(f"{len(files)} pictures in {plot}.", err=True)
    if str(as_json) != "-":
        _say(subject, catalogue, report, quiet)


def _say_agreement(subject: SubjectModel, catalogue: Path, report: AgreementReport) -> None:
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


def _relations(
    subject: SubjectModel, catalogue: Path, pairs: Sequence[Path] | None, everything: bool, quick: bool
) -> tuple[Relation, ...]:
    from describe.relations import load_relations, scored_relations
    from describe.relations.generated import generated_relations
    from eval.inference.checking import QUICK_RELATIONS
    from eval.inference.static import worth_checking
    from eval.inference.templates import PAPERS_RELATIONS

    if pairs:
        return tuple(load_relations(pairs))
    known = (*scored_relations(), *generated_relations(subject.vocabulary))
    if everything:
        return known
    names = [one.name for one in known]
    limit = QUICK_RELATIONS if quick else None
    wanted = worth_checking(catalogue, subject.name, names, PAPERS_RELATIONS, limit)
    return tuple(one for one in known if one.name in wanted)


def _rows(catalogue: Path, report: CheckReport) -> list[dict[str, object]]:
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


def _say(subject: SubjectModel, catalogue: Path, report: CheckReport, quiet: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = _rows(catalogue, report)
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
