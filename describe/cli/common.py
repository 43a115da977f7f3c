"""What several commands share: options, the choice of heads, settings from options, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.errors import InputError
from describe.records import HeadId, ModelShape
from describe.settings import ProjectionSettings, preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import TaskID

    from describe.protocols import Encoder
    from describe.subject.model import SubjectModel

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id (with @revision), a local folder, a .gguf file, or a packaged alias: smollm2, gemma3-270m.",
    ),
]
CatalogueFile = Annotated[Path, typer.Option("--catalogue", help="The catalogue file.")]
Preset = Annotated[
    str, typer.Option("--preset", help="default, paper (the released code's rule) or uncentred.")
]
Salient = Annotated[int | None, typer.Option("--salient", min=1, help="Salient source tokens of a head.")]
Targets = Annotated[int | None, typer.Option("--targets", min=1, help="Targets of a source token.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda[:i].")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but results and errors.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice; stored with the run.")]

VERBS = {"promote": "promotes", "suppress": "suppresses"}
"""A direction as what a head does."""


def settings_of(name: str, salient: int | None, targets: int | None) -> ProjectionSettings:
    """A preset with the user's numbers; raises InputError for an unknown preset."""
    chosen = preset(name)
    return dataclasses.replace(chosen, salient=salient or chosen.salient, targets=targets or chosen.targets)


def choose_heads(shape: ModelShape, layers: str | None, heads: str | None) -> tuple[HeadId, ...]:
    """The heads that `--layers 0-3,7` and `--heads L5H1,L5H2` ask for, in order; all when neither is given.

    Raises:
        InputError: not understood, or not in the model.
    """
    if layers is not None and heads is not None:
        raise InputError("Give --layers or --heads, not both.")
    if heads is not None:
        chosen = sorted({HeadId.parse(part) for part in heads.split(",") if part.strip()})
    elif layers is not None:
        wanted = _layers(layers)
        chosen = [HeadId(layer, head) for layer in sorted(wanted) for head in range(shape.n_heads)]
    else:
        chosen = shape.heads
    for head in chosen:
        if head.layer >= shape.n_layers or head.head >= shape.n_heads:
            raise InputError(
                f"There is no head {head}: the model has layers 0 to {shape.n_layers - 1} with heads 0 to"
                f" {shape.n_heads - 1}."
            )
    if not chosen:
        raise InputError("No head is chosen: write --layers like 0-3,7 and --heads like L5H1,L5H2.")
    return tuple(chosen)


def _layers(text: str) -> set[int]:
    wanted: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise InputError(f"'{text}' is not a list of layers: write it like 0-3,7.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"'{part}' is not a range of layers: write the lower one first.")
        wanted |= set(range(first, last + 1))
    return wanted


def choose_device(name: str) -> str:
    """`auto` resolved to what the machine has; raises InputError for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"Unknown device '{name}': use auto, cpu, cuda or cuda:1.")
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise InputError(f"There is no device '{name}' on this machine: use --device cpu.")
    return name


class Stages:
    """Progress bars on stderr, one a stage; silence when quiet, or when nobody looks at a terminal."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=quiet or not sys.stderr.isatty(),
        )

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` of a stage are done."""
        from rich.markup import escape

        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(escape(stage), total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    @contextmanager
    def shown(self) -> Iterator[Callable[[str, int, int], None]]:
        """Draw while the block runs."""
        with self._progress:
            yield self


def open_model(name: str, progress: Callable[[str, int, int], None]) -> SubjectModel:
    """The subject model, without the libraries' own chatter."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from describe.subject import load_subject

    return load_subject(name, progress=progress)


def encoder_of(progress: Callable[[str, int, int], None]) -> Callable[[], Encoder]:
    """Makes the packaged sentence encoder once, when it is first asked for."""

    @cache
    def make() -> Encoder:
        from describe.encoders import MiniLM

        return MiniLM(progress=progress)

    return make


def excluded_of(model: SubjectModel, settings: ProjectionSettings) -> dict[str, Sequence[int]]:
    """Token ids to leave out, by reason; none when the settings do not filter."""
    if not settings.token_filter:
        return {}
    from describe.core.tokens import excluded_tokens

    W_E = model.W_E()
    found = excluded_tokens(model.vocabulary, W_E, None if model.tied else model.unembedding())
    return dict(found)


def write_rows(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows as a JSON list, one a line; see `write_file`."""
    write_file(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def write_file(path: Path, text: str) -> None:
    """Write a result so that there is the old file or the whole new one; `-` is stdout.

    Raises:
        InputError: the file cannot be written.
    """
    from describe.cache import write_atomically

    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    if not path.parent.is_dir():
        raise InputError(f"The file {path} cannot be written: the folder {path.parent} does not exist.")
    try:
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"The file {path} cannot be written: {error.strerror or error}.") from error
