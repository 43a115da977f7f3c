"""`describe check`: do heads do, in the running model, what their weights say?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import ablation_report, battery_report, check_report, common
from describe.errors import InputError

if TYPE_CHECKING:
    from describe.relations import Relation
    from describe.subject.model import SubjectModel

_EPILOG = (
    "Examples: describe check smollm2 · describe check smollm2 --quick · describe check smollm2 --only battery · "
    "describe check smollm2 --pairs my_pairs.json --plot pictures"
)
_PATIENCE = 60.0
Progress = Callable[[str, int, int], None]


class Part(StrEnum):
    """What is checked."""

    correlations = "correlations"
    agreement = "agreement"
    ablations = "ablations"
    battery = "battery"


def register(app: typer.Typer) -> None:
    """Add `describe check` to the app."""
    app.command("check", epilog=_EPILOG)(check)


def check(
    model: common.Model,
    catalogue: common.CatalogueFile = Path("heads.duckdb"),
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Some of these, with commas: correlations (scores of predefined operations), agreement (descriptions), "
            "ablations (does the model need the heads of an operation), battery (the head classes of the literature). "
            "By default all, as far as the catalogue holds what they check.",
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            "--pairs",
            help="Correlations of these relations only: files or folders, scored by `describe relations`.",
        ),
    ] = None,
    all_relations: Annotated[
        bool, typer.Option("--all", help="Check every relation, not only those that some head implements.")
    ] = False,
    multi_token: Annotated[
        bool,
        typer.Option("--multi-token", help="Correlations of the sources of several tokens, and those only."),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="30 pairs and one text; the strongest dozen relations, if none are named; four ablated, by zero alone; the "
            "battery without natural text.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw static against dynamic scores, and ablations (SVG), into this folder."
        ),
    ] = None,
    device: common.Device = "auto",
    seed: common.Seed = 0,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the correlations to this file; - is stdout.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Run the model, and hold what each head does in it against what its weights say.

    Four parts. Correlations and agreement place words in neutral texts and read each head's output, with its own
    attention (with context) and with attention on the word alone (without), for the relation scores (`describe
    relations`) and the descriptions (`describe run`) of the catalogue. Ablations remove an operation's heads while the
    model does its task, and as many random ones of the same layers. The battery tests every head for the classes of
    the literature, such as induction heads and name movers.
    """
    asked = _asked(only)
    _check_options(asked, bool(pairs or all_relations or multi_token), plot, as_json)
    if not catalogue.exists() and asked != (Part.battery,):
        raise InputError(
            f"There is no catalogue '{catalogue}': run `describe run {model}` or `describe relations {model}` first."
        )
    if pairs or multi_token:
        asked = (Part.correlations,)
    says: list[Callable[[], None]] = []
    with common.Stages(quiet).shown() as progress:
        subject = common.open_model(model, progress)
        parts = asked or _parts(catalogue, subject.name, bool(all_relations or plot or as_json))
        runs = _Runs(subject, catalogue, quick, common.choose_device(device), seed, progress)
        if Part.correlations in parts:
            chosen = runs.relations(pairs, all_relations)
            says.append(runs.correlations(chosen, bool(pairs), multi_token, as_json, plot, quiet))
        if Part.agreement in parts:
            says.append(runs.agreement())
        if Part.ablations in parts:
            says.append(runs.ablations(asked is not None, plot, quiet))
        if Part.battery in parts:
            says.append(runs.battery(quiet))
    for say in says if str(as_json) != "-" else says[:1]:
        say()


class _Runs:
    """The parts on one model; each runs, and returns what prints its outcome."""

    def __init__(
        self,
        subject: SubjectModel,
        catalogue: Path,
        quick: bool,
        device: str,
        seed: int,
        progress: Progress,
    ) -> None:
        from describe.settings import preset

        self._subject, self._catalogue, self._quick = subject, catalogue, quick
        self._device, self._seed, self._progress = device, seed, progress
        self._excluded = common.excluded_of(subject, preset("default"))

    def relations(self, pairs: Sequence[Path] | None, everything: bool) -> tuple[Relation, ...]:
        """The relations to correlate: those named, all, or those that some head implements and the paper's."""
        from describe.relations import load_relations, scored_relations
        from describe.relations.generated import generated_relations
        from eval.inference.checking import QUICK_RELATIONS
        from eval.inference.static import worth_checking
        from eval.inference.templates import PAPERS_RELATIONS

        if pairs:
            return tuple(load_relations(pairs))
        known = (*scored_relations(), *generated_relations(self._subject.vocabulary))
        if everything:
            return known
        names = [one.name for one in known]
        limit = QUICK_RELATIONS if self._quick else None
        wanted = worth_checking(self._catalogue, self._subject.name, names, PAPERS_RELATIONS, limit)
        return tuple(one for one in known if one.name in wanted)

    def correlations(
        self,
        relations: tuple[Relation, ...],
        explicit: bool,
        several: bool,
        as_json: Path | None,
        plot: Path | None,
        quiet: bool,
    ) -> Callable[[], None]:
        """Static against dynamic scores."""
        from eval.inference import checking
        from eval.inference.templates import TEMPLATES

        options = checking.CheckOptions(
            relations=relations,
            explicit=explicit,
            several=several,
            # Longer sources are read where the text ends with them, as in the released code.
            templates=TEMPLATES[2:3] if self._quick or several else TEMPLATES,
            pairs=checking.QUICK_PAIRS if self._quick else checking.PAIRS,
            device=self._device,
            seed=self._seed,
        )
        job = checking.CorrelationJob(self._subject, self._excluded, self._catalogue, options, self._progress)
        report = job.run()

        def say() -> None:
            if as_json is not None:
                common.write_rows(as_json, check_report.correlation_rows(self._catalogue, report))
            if plot is not None:
                _draw(Part.correlations, self._catalogue, report.run_id, plot, quiet)
            if str(as_json) != "-":
                check_report.say_correlations(self._subject, self._catalogue, report, quiet)

        return say

    def agreement(self) -> Callable[[], None]:
        """Descriptions and their own sources; a quick run takes one text, unless the whole answer is there already."""
        from eval.inference.agreeing import AgreementJob
        from eval.inference.templates import TEMPLATES

        def job(templates: Sequence[str]) -> AgreementJob:
            where = (self._device, self._seed, self._progress)
            return AgreementJob(self._subject, self._excluded, self._catalogue, templates, *where)

        whole = job(TEMPLATES)
        report = (job(TEMPLATES[2:3]) if self._quick and not whole.is_complete() else whole).run()
        return lambda: check_report.say_agreement(self._subject, self._catalogue, report)

    def ablations(self, explicit: bool, plot: Path | None, quiet: bool) -> Callable[[], None]:
        """Heads of operations removed."""
        job = ablation_report.job(
            self._subject,
            self._excluded,
            self._catalogue,
            self._quick,
            self._device,
            self._seed,
            self._progress,
        )
        if not job.set_ups and not explicit:  # asked for by name, it says what it lacks
            return lambda: None
        report = job.run()

        def say() -> None:
            if plot is not None:
                _draw(Part.ablations, self._catalogue, report.run_id, plot, quiet)
            ablation_report.say(self._subject, self._catalogue, report, quiet)

        return say

    def battery(self, quiet: bool) -> Callable[[], None]:
        """Head classes."""
        job = battery_report.job(
            self._subject, self._catalogue, self._quick, self._device, self._seed, self._progress
        )
        report = job.run()
        return lambda: battery_report.say(self._subject, self._catalogue, report, quiet)


def _asked(only: str | None) -> tuple[Part, ...] | None:
    """The parts named, in their order; None where none are."""
    if only is None:
        return None
    names = {name.strip() for name in only.split(",")}
    if unknown := sorted(names - {str(part) for part in Part}):
        raise InputError(f"There is no part '{unknown[0]}' to check: --only takes {', '.join(Part)}.")
    return tuple(part for part in Part if part in names)


def _check_options(
    asked: tuple[Part, ...] | None, of_correlations: bool, plot: Path | None, as_json: Path | None
) -> None:
    """Raise InputError for options that the parts asked for would not heed."""
    if asked is None:
        return
    named = ",".join(asked)
    if Part.correlations not in asked and (of_correlations or as_json):
        raise InputError(
            f"--pairs, --all, --multi-token and --json concern correlations: leave out --only {named}."
        )
    if plot and not {Part.correlations, Part.ablations} & set(asked):
        raise InputError(f"--plot draws correlations and ablations: leave out --only {named}.")


def _parts(catalogue: Path, model: str, of_relations: bool) -> tuple[Part, ...]:
    """What the catalogue holds something to check of; the battery needs nothing."""
    from describe.catalogue import read_only_query
    from eval.inference.static import holds_scores

    described = read_only_query(
        catalogue, "SELECT 1 FROM run_latest WHERE model = ?", [model], wait=_PATIENCE
    )
    if not described.rows:
        return (Part.correlations, Part.ablations, Part.battery)
    # Where relations are asked for and there are none, the check of correlations says so.
    scored = of_relations or holds_scores(catalogue, model)
    return tuple(Part) if scored else (Part.agreement, Part.battery)


def _draw(part: Part, catalogue: Path, run_id: str, folder: Path, quiet: bool) -> None:
    from describe.cli import ablation_plots, check_plots

    draw = ablation_plots.draw if part == Part.ablations else check_plots.draw
    with common.Stages(quiet).shown() as progress:
        files = draw(catalogue, run_id, folder, progress)
    if not quiet:
        typer.echo(f"{len(files)} pictures in {folder}.", err=True)
