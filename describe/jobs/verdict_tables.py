"""The verdict on every head as rows of the catalogue's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from describe.drafting.rules.verdict import Verdict
from describe.jobs.plan import RunPlan
from describe.jobs.tables import write_table
from describe.records import DIRECTIONS, Direction, HeadId
from describe.settings import digest

DESCRIPTIONS = pa.schema(
    [
        ("description_id", pa.string()),
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("cluster", pa.int32()),
        ("direction", pa.string()),
        ("status", pa.string()),
        ("kind", pa.string()),
        ("operation", pa.string()),
        ("inputs_text", pa.string()),
        ("pattern_text", pa.string()),
        ("claim_text", pa.string()),
        ("drafter", pa.string()),
        ("prompt_digest", pa.string()),
        ("reply", pa.string()),
        ("reply_status", pa.string()),
        ("evidence", pa.string()),
        ("support", pa.float64()),
        ("heldout_precision", pa.float64()),
        ("heldout_null", pa.float64()),
        ("n_heldout", pa.int32()),
        ("p_value", pa.float64()),
        ("q_value", pa.float64()),
    ]
)
HEADS = pa.schema(
    [
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("kv_head", pa.int32()),
        ("status", pa.string()),
        ("constant_promoted", pa.list_(pa.string())),
        ("constant_suppressed", pa.list_(pa.string())),
        ("explained_share", pa.float64()),
        ("error", pa.string()),
    ]
)
EXCLUDED = pa.schema([("token_id", pa.int32()), ("token", pa.string()), ("reason", pa.string())])


def write_verdicts(
    folder: Path,
    plan: RunPlan,
    found: Sequence[Verdict],
    errors: Mapping[HeadId, str],
    constants: Mapping[tuple[HeadId, Direction], Sequence[int]],
) -> None:
    """Write `descriptions`, `heads` and `excluded_tokens`.

    Args:
        folder: where the Parquet files go.
        plan: the run.
        found: verdicts on heads and clusters.
        errors: why heads failed.
        constants: ids of what each head writes whatever it reads.
    """
    texts = plan.texts
    write_table(folder / "descriptions.parquet", [_description(plan, one) for one in found], DESCRIPTIONS)
    whole = {one.head: one for one in found if one.cluster is None}
    heads: list[dict[str, object]] = []
    for head in plan.options.heads:
        fixed = [[texts[i] for i in constants[head, direction]] for direction in DIRECTIONS]
        own = whole.get(head)
        heads.append(
            {
                "layer": head.layer,
                "head": head.head,
                "kv_head": plan.model.shape.kv_head(head.head),
                "status": own.status if own else "failed",
                "constant_promoted": fixed[0],
                "constant_suppressed": fixed[1],
                "explained_share": own.explained if own else None,
                "error": errors.get(head),
            }
        )
    write_table(folder / "heads.parquet", heads, HEADS)
    excluded = [
        {"token_id": i, "token": texts[i], "reason": reason}
        for reason, ids in plan.left_out.items()
        for i in ids
    ]
    write_table(folder / "excluded_tokens.parquet", excluded, EXCLUDED)


def _description(plan: RunPlan, one: Verdict) -> dict[str, object]:
    lead = one.lead
    evidence = [
        {
            "direction": direction,
            "kind": claim.kind,
            "operation": claim.name,
            "hits": claim.hits,
            "n_heldout": claim.n_heldout,
            "null": claim.null,
            "p_value": claim.p_value,
            "q_value": q,
            "interval": claim.interval,
            "rows": claim.rows,
        }
        for direction, claim, q in one.claims
    ]
    return {
        "description_id": digest(plan.run_id, str(one.head), one.direction, one.cluster)[:20],
        "layer": one.head.layer,
        "head": one.head.head,
        "cluster": one.cluster,
        "direction": one.direction,
        "status": one.status,
        "kind": lead.kind if lead else None,
        "operation": lead.name if lead else None,
        "inputs_text": one.inputs,
        "pattern_text": one.pattern,
        "claim_text": one.claim,
        "drafter": plan.options.drafter,
        "prompt_digest": None,
        "reply": None,
        "reply_status": None,
        "evidence": json.dumps(evidence),
        "support": len(lead.rows) / (lead.n_draft + lead.n_heldout) if lead else None,
        "heldout_precision": lead.precision if lead else None,
        "heldout_null": lead.null if lead else None,
        "n_heldout": lead.n_heldout if lead else None,
        "p_value": lead.p_value if lead else None,
        "q_value": one.q_value,
    }
