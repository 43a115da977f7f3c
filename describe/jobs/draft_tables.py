"""A chat model's drafts as rows of the catalogue's tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from describe.chat import OPEN, Call
from describe.drafting.llm import LlmDraft, Pattern
from describe.drafting.rowbook import RowBook
from describe.jobs.asking import Asked, Clusters, patterns_json
from describe.jobs.plan import RunPlan
from describe.jobs.tables import write_table
from describe.jobs.verdict_tables import DESCRIPTIONS
from describe.records import DIRECTIONS, Direction, Status
from describe.settings import digest

CANDIDATES = pa.schema(
    [
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("candidate", pa.int32()),
        ("status", pa.string()),
        ("claim_text", pa.string()),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
        ("validation_auc", pa.float64()),
        ("validation_grader", pa.string()),
        ("kept", pa.bool_()),
        ("request_digest", pa.string()),
        ("reply", pa.string()),
    ]
)
CALLS = pa.schema(
    [
        ("call_id", pa.string()),
        ("purpose", pa.string()),
        ("chat_model", pa.string()),
        ("prompt_digest", pa.string()),
        ("request_digest", pa.string()),
        ("reply", pa.string()),
        ("status", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cost_usd", pa.float64()),
        ("seconds", pa.float64()),
        ("called_at", pa.timestamp("us", "UTC")),
        ("base_url", pa.string()),
        ("answered_by", pa.string()),
        ("about", pa.string()),
        ("attempts", pa.int32()),
        ("from_cache", pa.bool_()),
        ("error", pa.string()),
    ]
)


def call_rows(calls: Sequence[Call], base_url: str, run_id: str) -> list[dict[str, object]]:
    """Rows of `llm_calls`, one a call; calls that were never made (pending, over budget) have none."""
    rows: list[dict[str, object]] = []
    for number, call in enumerate(one for one in calls if one.called_at is not None):
        request, answer = call.request, call.answer
        rows.append(
            {
                "call_id": digest(run_id, base_url, number, call.request_digest)[:20],
                "purpose": request.purpose,
                "chat_model": request.chat_model,
                "prompt_digest": request.prompt_digest,
                "request_digest": call.request_digest,
                "reply": answer.text,
                "status": answer.status,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "cost_usd": call.cost_usd,
                "seconds": answer.seconds,
                "called_at": datetime.fromtimestamp(call.called_at or 0.0, UTC),
                "base_url": base_url,
                "answered_by": answer.answered_by,
                "about": request.about,
                "attempts": answer.attempts,
                "from_cache": call.from_cache,
                "error": answer.error,
            }
        )
    return rows


def write_drafts(
    folder: Path, plan: RunPlan, heads: Sequence[Asked], clusters: Clusters, book: RowBook
) -> None:
    """Write `descriptions` and `candidates`: the head's own draft, and what it says of each cluster."""
    descriptions, candidates = [], []
    for one in heads:
        descriptions += _descriptions(plan, one, clusters, book)
        candidates += _candidates(plan, one)
    write_table(folder / "descriptions.parquet", descriptions, DESCRIPTIONS)
    write_table(folder / "candidates.parquet", candidates, CANDIDATES)


def status_of(asked: Asked) -> Status:
    """What the catalogue says of a head: described, unclear, failed, or pending where nothing came yet."""
    outcome = asked.outcome
    if outcome.value is not None:
        return "described" if outcome.value.patterns else "unclear"
    return "pending" if outcome.status in OPEN else "failed"


def _descriptions(plan: RunPlan, asked: Asked, clusters: Clusters, book: RowBook) -> list[dict[str, object]]:
    draft = asked.outcome.value
    patterns = draft.patterns if draft else ()
    direction = patterns[0].direction if patterns else DIRECTIONS[0]
    rows = [_row(plan, asked, None, direction, status_of(asked), patterns, book)]
    if draft is None:
        return rows
    for direction in DIRECTIONS:
        seen = {row.place for row in book.split(asked.head, direction, "draft")}
        for cluster, places in sorted(clusters.get((asked.head, direction), {}).items()):
            if cluster >= 0:
                best = _of_cluster(draft, direction, seen & set(places))
                status: Status = "unclear" if best is None else "described"
                rows.append(
                    _row(plan, asked, cluster, direction, status, () if best is None else (best,), book)
                )
    return rows


def _of_cluster(draft: LlmDraft, direction: Direction, seen: set[int]) -> Pattern | None:
    """The pattern that names at least half of the cluster's rows that the drafter saw."""
    own = [one for one in draft.patterns if one.direction == direction]
    best = max(own, key=lambda one: len(seen & set(one.rows)), default=None)
    return best if best is not None and seen and 2 * len(seen & set(best.rows)) >= len(seen) else None


def _row(
    plan: RunPlan,
    asked: Asked,
    cluster: int | None,
    direction: Direction,
    status: Status,
    patterns: Sequence[Pattern],
    book: RowBook,
) -> dict[str, object]:
    outcome, lead = asked.outcome, patterns[0] if patterns else None
    said = LlmDraft(tuple(patterns), "")
    n_drafting = len(book.split(asked.head, direction, "draft"))
    return {
        "description_id": digest(plan.run_id, str(asked.head), direction, cluster, said.claim)[:20],
        "layer": asked.head.layer,
        "head": asked.head.head,
        "cluster": cluster,
        "direction": direction,
        "status": status,
        "kind": None if lead is None else ("row" if lead.depends_on_source else "output"),
        "operation": None,
        "inputs_text": lead.inputs if lead else None,
        "pattern_text": f"{said.claim}." if said.claim else None,
        "claim_text": said.claim,
        "drafter": plan.options.drafter,
        "prompt_digest": outcome.calls[0].request.prompt_digest if outcome.calls else None,
        "reply": outcome.reply if cluster is None else None,
        "reply_status": outcome.status,
        "evidence": patterns_json(patterns),
        "support": len(lead.rows) / n_drafting if lead and n_drafting else None,
        # Free text has no share of its own on held-out rows: detection grades it.
        **dict.fromkeys(("heldout_precision", "heldout_null", "n_heldout", "p_value", "q_value")),
    }


def _candidates(plan: RunPlan, asked: Asked) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, outcome in enumerate(asked.outcomes):
        draft, first = outcome.value, outcome.calls[0] if outcome.calls else None
        figures = asked.choice.figures if asked.choice else {}
        rows.append(
            {
                "layer": asked.head.layer,
                "head": asked.head.head,
                "candidate": number,
                "status": outcome.status if draft is None else ("described" if draft.patterns else "unclear"),
                "claim_text": draft.claim if draft else None,
                "temperature": first.request.temperature if first else None,
                "seed": first.request.seed if first else None,
                "validation_auc": figures.get(number),
                "validation_grader": asked.choice.grader if asked.choice and number in figures else None,
                "kept": number == asked.kept,
                "request_digest": first.request_digest if first else None,
                "reply": outcome.reply,
            }
        )
    return rows
