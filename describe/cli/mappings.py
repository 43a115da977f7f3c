"""`describe mappings`: the salient mappings of heads, without a catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common
from describe.records import HeadId

if TYPE_CHECKING:
    from describe.records import HeadMappings

_EPILOG = (
    "Examples: describe mappings smollm2 L23H4 · describe mappings smollm2 L23H4 L23H5 --salient 10 · "
    "describe mappings gemma3-270m all --preset paper --json mappings.json"
)


def register(app: typer.Typer) -> None:
    """Add `describe mappings` to the app."""
    app.command("mappings", epilog=_EPILOG)(mappings)


def mappings(
    model: common.Model,
    heads: Annotated[list[str], typer.Argument(metavar="HEAD…|all", help="Heads like L5H9, or all.")],
    preset: common.Preset = "default",
    salient: common.Salient = None,
    targets: common.Targets = None,
    device: common.Device = "auto",
    seed: common.Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write a list of rows to FILE; - is stdout.")
    ] = None,
    quiet: common.Quiet = False,
) -> None:
    """Print what heads promote and suppress when they attend to their most salient tokens."""
    settings = common.settings_of(preset, salient, targets)
    where = common.choose_device(device)
    stages = common.Stages(quiet)
    found: list[HeadMappings] = []
    with stages.shown() as progress:
        subject = common.open_model(model, progress)
        everything = [text.casefold() for text in heads] == ["all"]
        chosen = common.choose_heads(subject.shape, None, None if everything else ",".join(heads))
        from describe.jobs.projecting import Projector

        projector = Projector(subject, settings, common.excluded_of(subject, settings), where, seed)
        wanted = set(chosen)
        layers = sorted({head.layer for head in chosen})
        counts = dict.fromkeys(("saliency", "mappings"), 0)
        totals = {"saliency": subject.shape.n_layers, "mappings": len(layers)}

        def done(stage: str, n: int) -> None:
            counts[stage] += n
            progress(stage, counts[stage], totals[stage])

        for projection in projector.layers(layers, done):
            found += [one for one in projection.mappings.values() if one.head in wanted]
    texts = subject.vocabulary.texts
    if output is None:
        _print(found, texts)
    else:
        rows = [row for one in found for row in _rows(one, texts)]
        common.write_file(output, json.dumps(rows, indent=1) + "\n")


def _rows(one: HeadMappings, texts: tuple[str, ...]) -> list[dict[str, object]]:
    return [
        {
            "layer": one.head.layer,
            "head": one.head.head,
            "direction": one.direction,
            "source_rank": rank,
            "source_id": int(source),
            "source_token": texts[source],
            "saliency": float(one.saliency[rank]),
            "targets": [
                {"id": int(target), "token": texts[target], "logit": float(logit)}
                for target, logit in zip(one.target_ids[rank], one.logits[rank], strict=True)
            ],
        }
        for rank, source in enumerate(one.source_ids)
    ]


def _print(found: list[HeadMappings], texts: tuple[str, ...]) -> None:
    from describe.core.tokens import escape

    last: tuple[HeadId, str] | None = None
    for one in found:
        if (one.head, one.direction) != last:
            typer.echo(f"{one.head} {common.VERBS[one.direction]}")
            last = (one.head, one.direction)
        for source, targets in zip(one.source_ids, one.target_ids, strict=True):
            shown = " ".join(escape(texts[target]) for target in targets)
            typer.echo(f"  {escape(texts[source]):<24} → {shown}")
