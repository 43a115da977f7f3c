"""`describe map`: a whole head, not only its salient tokens: its strongest pairs, or every source's targets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.cli import common
from describe.errors import InputError
from describe.records import HeadId

if TYPE_CHECKING:
    from describe.jobs.projecting import Projector

_EPILOG = (
    "Examples: describe map smollm2 L23H4 · describe map smollm2 L23H4 --pairs 1000 · "
    "describe map smollm2 L23H4 --targets 5 --parquet L23H4.parquet"
)


def register(app: typer.Typer) -> None:
    """Add `describe map` to the app."""
    app.command("map", epilog=_EPILOG)(whole_head)


def whole_head(
    model: common.Model,
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Such as L5H9.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many of the head's strongest pairs to print.")] = 40,
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the top targets of every source token to FILE instead."),
    ] = None,
    targets: Annotated[
        int, typer.Option(min=1, help="With --parquet: targets of a source, each direction.")
    ] = 10,
    preset: common.Preset = "default",
    device: common.Device = "auto",
    quiet: common.Quiet = False,
) -> None:
    """Print the exact strongest (source, target) pairs of all V × V, or write every source's top targets.

    Pairs are ranked by logit; in presets with standardised targets, the targets of a source are ranked by z.
    """
    settings = common.settings_of(preset, None, None)
    where = common.choose_device(device)
    with common.Stages(quiet).shown() as progress:
        subject = common.open_model(model, progress)
        (one,) = common.choose_heads(subject.shape, None, str(HeadId.parse(head)))
        from describe.jobs.projecting import Projector

        projector = Projector(subject, settings, common.excluded_of(subject, settings), where)
        if parquet is not None:
            _write_all(projector, one, subject.vocabulary.texts, targets, parquet, progress)
            return
        _print_pairs(projector, one, subject.vocabulary.texts, pairs)


def _print_pairs(projector: Projector, head: HeadId, texts: tuple[str, ...], n: int) -> None:
    from describe.core.everything import top_pairs
    from describe.core.tokens import escape

    space, folded = projector.space(head.layer)
    found, computed = top_pairs(space, folded, head.head, projector.U, n, projector.settings.centred)
    for source, target, logit in zip(
        found.sources.tolist(), found.targets.tolist(), found.logits.tolist(), strict=True
    ):
        source_text, target_text = (texts[int(projector.eligible[i])] for i in (source, target))
        typer.echo(f"{logit:10.3f}  {escape(source_text):<24} → {escape(target_text)}")
    typer.echo(
        f"The {len(found.logits)} highest of all pairs; {computed:.0%} of them had to be computed.", err=True
    )


def _write_all(
    projector: Projector,
    head: HeadId,
    texts: tuple[str, ...],
    n: int,
    path: Path,
    progress: Callable[[str, int, int], None],
) -> None:
    """One row for each source, direction and target, tile after tile, the file whole or not at all."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from describe.core.everything import all_top_targets
    from describe.core.projection import target_scale

    space, folded = projector.space(head.layer)
    settings, U = projector.settings, projector.U
    n = min(n, len(U))
    scale = target_scale(space, folded, U)[head.head] if settings.standardised else None
    eligible, names = projector.eligible.numpy(), np.array(texts, dtype=object)
    kinds = {
        "source_id": pa.int32(),
        "source_token": pa.string(),
        "direction": pa.string(),
        "target_rank": pa.int32(),
    }
    kinds |= {"target_id": pa.int32(), "target_token": pa.string(), "logit": pa.float32(), "z": pa.float32()}
    schema = pa.schema(list(kinds.items()))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with pq.ParquetWriter(unfinished, schema) as writer:
            for begin, *sides in all_top_targets(space, folded, head.head, U, n, settings.centred, scale):
                for direction, side in zip(("promote", "suppress"), sides, strict=True):
                    rows = len(side.positions)
                    sources = np.repeat(eligible[begin : begin + rows], n)
                    found = eligible[side.positions.cpu().numpy().ravel()]
                    columns = {
                        "source_id": sources,
                        "source_token": names[sources],
                        "direction": np.full(rows * n, direction, dtype=object),
                        "target_rank": np.tile(np.arange(n), rows),
                        "target_id": found,
                        "target_token": names[found],
                        "logit": side.logits.cpu().numpy().ravel(),
                        "z": side.z.cpu().numpy().ravel() if scale is not None else np.full(rows * n, np.nan),
                    }
                    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in schema]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                progress("sources", min(begin + 512, len(eligible)), len(eligible))
        os.replace(unfinished, path)
    except OSError as error:
        raise InputError(f"The file {path} cannot be written: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
