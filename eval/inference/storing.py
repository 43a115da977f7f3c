"""A finished check into the catalogue: its record and its shards, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from describe import __version__
from describe.catalogue import Catalogue
from describe.jobs.describing import BRIEFLY
from describe.jobs.shards import ShardStore
from describe.jobs.storing import PATIENCE, model_identity, peak_memory
from describe.settings import digest

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel


def store_check(
    model: SubjectModel,
    catalogue: Path,
    run_id: str,
    settings: Mapping[str, object],
    seed: int,
    times: tuple[datetime, str, float],
    shards: Mapping[str, Sequence[Path]],
) -> None:
    """Ingest one part of `describe check`; `times` is when it started, its stage's name, and the seconds it took."""
    started, stage, seconds = times
    run = model_identity(model) | {
        "run_id": run_id,
        "kind": "check",
        "settings": settings,
        "settings_digest": digest(settings),
        "seed": seed,
        "code_version": __version__,
        "status": "complete",
        "started_at": started,
        "finished_at": datetime.now(UTC),
        "stage_seconds": {stage: round(seconds, 3)},
        "peak_memory_bytes": peak_memory(),
    }
    with Catalogue.open(catalogue, wait=PATIENCE) as opened:
        opened.ingest_run(run, shards)


def done_once(catalogue: Path, shards: ShardStore, run_id: str, do: Callable[[], None]) -> bool:
    """Have a run's shards made and stored by `do`, unless the catalogue holds it whole; whether anything was done.

    Raises:
        DescribeError: the catalogue or the folder of shards cannot be used.
    """
    with shards.owned():
        with Catalogue.open(catalogue, wait=BRIEFLY) as opened:
            fresh = opened.run_status(run_id) != "complete"
        if fresh:
            do()
        shards.remove()
    return fresh
