"""What graders said, as rows of the catalogue's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from describe.chat import OPEN, Outcome
from describe.jobs.draft_tables import CALLS, call_rows
from describe.jobs.tables import write_table
from describe.settings import digest
from eval.judging.anchors import AnchorItem, anchors_digest
from eval.judging.claims import Claim
from eval.judging.detection import PROMPTS, Detection, Method
from eval.judging.encoding import Graded
from eval.judging.foils import Trial
from eval.judging.judges import Detected, Judged, Rated
from eval.judging.plausibility import PROMPT, Judgement
from prompts import load

_HEAD = [("layer", pa.int32()), ("head", pa.int32())]
_TIME = pa.timestamp("us", "UTC")
RATINGS = pa.schema(
    [
        ("rating_id", pa.string()),
        ("description_id", pa.string()),
        *_HEAD,
        ("rater_kind", pa.string()),
        ("rater", pa.string()),
        ("plausibility", pa.int32()),
        ("verdict", pa.string()),
        ("status", pa.string()),
        ("is_control", pa.bool_()),
        ("seconds", pa.float64()),
        ("comment", pa.string()),
        ("rated_at", _TIME),
        ("pattern_present", pa.bool_()),
        ("n_rows", pa.int32()),
        ("n_fitting", pa.int32()),
        ("shown_claim", pa.string()),
        ("shown_rows", pa.string()),
        ("control", pa.string()),
        ("prompt_digest", pa.string()),
        ("request_digest", pa.string()),
        ("reply", pa.string()),
    ]
)
DETECTIONS = pa.schema(
    [
        ("description_id", pa.string()),
        *_HEAD,
        ("grader", pa.string()),
        ("n", pa.int32()),
        ("hits", pa.int32()),
        ("balanced_accuracy", pa.float64()),
        ("auc", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("null_auc", pa.float64()),
        ("status", pa.string()),
        ("method", pa.string()),
        ("n_rows", pa.int32()),
        ("n_foils", pa.int32()),
        ("auc_similar", pa.float64()),
        ("auc_random", pa.float64()),
        ("auc_permuted", pa.float64()),
        ("null_n", pa.int32()),
        ("items", pa.string()),
        ("null_description_id", pa.string()),
        ("seed", pa.int64()),
        ("prompt_digest", pa.string()),
    ]
)
ANCHORS = pa.schema(
    [
        ("judge", pa.string()),
        ("anchor", pa.string()),
        ("kind", pa.string()),
        ("plausibility", pa.int32()),
        ("pattern_present", pa.bool_()),
        ("verdict", pa.string()),
        ("n_fitting", pa.int32()),
        ("true_fits", pa.int32()),
        ("status", pa.string()),
        ("anchors_digest", pa.string()),
        ("prompt_digest", pa.string()),
        ("request_digest", pa.string()),
        ("rated_at", _TIME),
    ]
)


@dataclass(frozen=True)
class Grades:
    """What a grader that is no chat model gives, by description id."""

    grader: str
    method: str
    by_description: Mapping[str, Graded]


def write_judged(
    folder: Path,
    run_id: str,
    judged: Sequence[Judged],
    graded: Sequence[Grades],
    trials: Mapping[str, tuple[Claim, Trial]],
    method: Method,
) -> dict[str, Path]:
    """Write ratings, detections, anchors and calls; what was not asked has no row. Returns the files by table."""
    ratings = [
        _rating(run_id, one.judge, rated) for one in judged for rated in one.ratings if _asked(rated.outcome)
    ]
    detections = [
        _detection(*trials[key], one.grader, one.method, found.detection)
        | {"null_auc": found.null_auc, "null_n": found.null_n}
        for one in graded
        for key, found in one.by_description.items()
    ]
    detections += [
        _by_judge(one.judge, found, method)
        for one in judged
        for found in one.detections
        if found.detection.status not in OPEN
    ]
    anchors = [
        _anchor(one.judge, item, outcome)
        for one in judged
        for item, outcome in one.anchors
        if _asked(outcome)
    ]
    calls = [
        row
        for one in judged
        for row in call_rows(
            [call for outcome in one.outcomes for call in outcome.calls],
            one.base_url,
            f"{run_id}:{one.judge}",
        )
    ]
    files = {}
    for name, rows, schema in (
        ("ratings", ratings, RATINGS),
        ("detections", detections, DETECTIONS),
        ("anchor_ratings", anchors, ANCHORS),
        ("llm_calls", calls, CALLS),
    ):
        files[name] = folder / f"{name}.parquet"
        write_table(files[name], rows, schema)
    return files


def _asked(outcome: Outcome[Judgement]) -> bool:
    return outcome.status not in OPEN


def _verdict(outcome: Outcome[Judgement]) -> dict[str, object]:
    """The columns that ratings and anchors share."""
    value, last = outcome.value, outcome.calls[-1]
    return {
        "plausibility": value.plausibility if value else None,
        "verdict": value.fits if value else None,
        "pattern_present": value.pattern_present if value else None,
        "n_fitting": len(value.fitting_rows) if value else None,
        "status": "rated" if value else outcome.status,
        "prompt_digest": load(PROMPT).digest,
        "request_digest": outcome.calls[0].request_digest,
        "rated_at": datetime.fromtimestamp(last.called_at or 0.0, UTC),
    }


def _rating(run_id: str, judge: str, rated: Rated) -> dict[str, object]:
    claim, outcome = rated.claim, rated.outcome
    return _verdict(outcome) | {
        "rating_id": digest(run_id, judge, claim.description_id, rated.control)[:20],
        "description_id": claim.description_id,
        "layer": claim.head.layer,
        "head": claim.head.head,
        "rater_kind": "llm",
        "rater": judge,
        "is_control": rated.control is not None,
        "seconds": sum(call.answer.seconds or 0.0 for call in outcome.calls),
        "comment": outcome.error,
        "n_rows": len(rated.rows),
        "shown_claim": rated.shown,
        "shown_rows": json.dumps([[row.direction, row.source_id] for row in rated.rows]),
        "control": rated.control,
        "reply": outcome.reply,
    }


def _detection(claim: Claim, trial: Trial, grader: str, method: str, found: Detection) -> dict[str, object]:
    kinds, interval = found.by_kind or {}, found.interval or (None, None)
    likelihoods = found.likelihoods or [None] * len(trial.items)
    return {
        "description_id": claim.description_id,
        "layer": claim.head.layer,
        "head": claim.head.head,
        "grader": grader,
        "n": found.n_rows + found.n_foils,
        "hits": found.hits,
        "balanced_accuracy": found.balanced_accuracy,
        "auc": found.auc,
        "ci_low": interval[0],
        "ci_high": interval[1],
        "null_auc": None,
        "status": found.status,
        "method": method,
        "n_rows": found.n_rows,
        "n_foils": found.n_foils,
        **{f"auc_{kind}": kinds.get(kind) for kind in ("similar", "random", "permuted")},
        "null_n": 0,
        "items": json.dumps(
            [
                [item.kind, item.row.direction, item.row.source_id, str(item.head), likelihood]
                for item, likelihood in zip(trial.items, likelihoods, strict=True)
            ]
        ),
        "null_description_id": None,
        "seed": trial.seed,
        "prompt_digest": None,
    }


def _by_judge(judge: str, found: Detected, method: Method) -> dict[str, object]:
    return _detection(found.claim, found.trial, judge, method, found.detection) | {
        "null_auc": found.null.auc,
        "null_n": int(found.null.auc is not None),
        "null_description_id": found.null_claim.description_id if found.null_claim else None,
        "prompt_digest": load(PROMPTS[method]).digest,
    }


def _anchor(judge: str, item: AnchorItem, outcome: Outcome[Judgement]) -> dict[str, object]:
    return _verdict(outcome) | {
        "judge": judge,
        "anchor": item.anchor.name,
        "kind": item.kind,
        "true_fits": item.anchor.fits,
        "anchors_digest": anchors_digest(),
    }
