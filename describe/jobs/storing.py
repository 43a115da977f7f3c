"""A finished run into the catalogue: its record and its shards, in one transaction."""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from describe import __version__
from describe.catalogue import Catalogue
from describe.jobs.plan import RunPlan
from describe.jobs.shards import ShardStore
from describe.settings import digest

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel

PATIENCE = 600.0
"""Seconds to wait for another owner of the catalogue, now that all the work is done."""


def store(
    plan: RunPlan,
    shards: ShardStore,
    catalogue: Path,
    started: datetime,
    seconds: Mapping[str, float],
    drafts: Path | None = None,
) -> None:
    """Ingest the run's shards.

    Args:
        plan: the run.
        shards: holds mappings and drafts of every layer, and the verdict.
        catalogue: the DuckDB file, made if missing.
        started: when this try began, with its time zone.
        seconds: time spent by stage.
        drafts: holds what a chat model drafted, which is stored in place of the verdict; None for the rules
            drafter. An earlier try of the same run, with heads that had failed, is replaced.

    Raises:
        CatalogueError: the catalogue is in use all the while, or cannot be written; nothing is stored.
    """
    verdict = shards.path("verdict")
    tables = {
        "mappings": [shards.path(f"mappings-{layer}") / "mappings.parquet" for layer in plan.layers],
        "clusters": [shards.path(f"draft-{layer}") / "clusters.parquet" for layer in plan.layers],
        "descriptions": [verdict / "descriptions.parquet"],
        "heads": [verdict / "heads.parquet"],
        "excluded_tokens": [verdict / "excluded_tokens.parquet"],
    }
    checks = verdict / "null_checks.json"
    status = "complete"
    if drafts is not None:
        tables |= {
            name: [drafts / f"{name}.parquet"]
            for name in ("descriptions", "heads", "candidates", "llm_calls")
        }
        checks = drafts / "null_checks.json"
        status = json.loads((drafts / "status.json").read_text())
    run = _identity(plan) | {
        "status": status,
        "started_at": started,
        "finished_at": datetime.now(UTC),
        "null_checks": json.loads(checks.read_text()),
        "stage_seconds": dict(seconds),
        "peak_memory_bytes": peak_memory(),
    }
    with Catalogue.open(catalogue, wait=PATIENCE) as opened:
        opened.ingest_run(run, tables, replace=drafts is not None)


def peak_memory() -> int:
    """Highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def model_identity(model: SubjectModel) -> dict[str, object]:
    """Columns of `runs` that say which model it is, to the digest of its weights."""
    return {
        "model": model.name,
        "model_digest": model.digest,
        "architecture": model.architecture,
        **dataclasses.asdict(model.shape),
        "vocabulary_digest": model.vocabulary.digest,
    }


def _identity(plan: RunPlan) -> dict[str, object]:
    """Columns of `runs` that say what the run is made from."""
    model, options = plan.model, plan.options
    settings = {
        "projection": dataclasses.asdict(options.settings),
        "grading": dataclasses.asdict(options.grading),
        "clusters": dataclasses.asdict(options.clusters),
    }
    if options.llm is not None:
        settings["drafter"] = dataclasses.asdict(options.llm)
    return {
        "run_id": plan.run_id,
        "kind": "describe",
        **model_identity(model),
        "preset": options.settings.preset,
        "settings": settings,
        "settings_digest": digest(settings),
        "drafter": options.drafter,
        "seed": options.seed,
        "code_version": __version__,
        "selection": None if plan.whole else ",".join(str(head) for head in options.heads),
    }
