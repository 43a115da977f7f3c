"""Small runs as the main job writes them: a record and Parquet shards, with token texts that mean harm."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from describe.catalogue import Catalogue

HOSTILE = [
    "it's",
    "'); DROP TABLE runs; --",
    "\x1b[2J",
    "a\nb",
    "a\x00b",
    "‮evil",
    '"',
    "\\",
    "NULL",
    "",
    " Paris",
    "日本",
]

INT, TEXT, REAL, TEXTS, IDS = (
    pa.int64(),
    pa.string(),
    pa.float64(),
    pa.list_(pa.string()),
    pa.list_(pa.int32()),
)
PLACE = {"layer": INT, "head": INT}
SCHEMAS = {
    "heads": PLACE
    | {"kv_head": INT, "status": TEXT, "constant_promoted": TEXTS, "constant_suppressed": TEXTS}
    | {"explained_share": REAL, "error": TEXT},
    "mappings": PLACE
    | {"preset": TEXT, "direction": TEXT, "source_rank": INT, "source_id": pa.int32(), "source_token": TEXT}
    | {
        "saliency": pa.float32(),
        "contrast": REAL,
        "split": TEXT,
        "target_rank": INT,
        "target_id": pa.uint32(),
        "target_token": TEXT,
    }
    | {"logit": REAL, "z": REAL},
    "clusters": PLACE
    | {
        "preset": TEXT,
        "cluster": INT,
        "direction": TEXT,
        "n_sources": INT,
        "cohesion": REAL,
        "source_ids": IDS,
    },
    "descriptions": {"description_id": TEXT}
    | PLACE
    | {
        "cluster": INT,
        "direction": TEXT,
        "status": TEXT,
        "kind": TEXT,
        "operation": TEXT,
        "inputs_text": TEXT,
    }
    | {"pattern_text": TEXT, "drafter": TEXT, "prompt_digest": TEXT, "reply": TEXT, "evidence": TEXT}
    | {"support": REAL, "heldout_precision": REAL, "heldout_null": REAL, "n_heldout": INT, "p_value": REAL}
    | {"q_value": REAL, "claim_text": TEXT, "reply_status": TEXT},
    "excluded_tokens": {"token_id": INT, "token": TEXT, "reason": TEXT},
    "relation_scores": PLACE
    | {"relation": TEXT, "preset": TEXT, "direction": TEXT, "k": INT, "score": REAL, "n_pairs": INT}
    | {"null_mean": REAL, "lift": REAL, "p_value": REAL, "q_value": REAL, "within_class": REAL}
    | {"identity_score": REAL, "reversed_score": REAL, "ci_low": REAL, "ci_high": REAL}
    | {
        "mean_reciprocal_rank": REAL,
        "main": pa.bool_(),
        "thin": pa.bool_(),
        "sources": TEXT,
        "targets": TEXT,
    },
    "head_classes": PLACE
    | {
        "class": TEXT,
        "pattern_score": REAL,
        "effect_score": REAL,
        "null": REAL,
        "q_value": REAL,
        "passes": pa.bool_(),
        "detail": TEXT,
        **{f"{leg}_{number}": REAL for leg in ("pattern", "effect") for number in ("p", "q")},
        "effect_null": REAL,
        "pattern_beyond_first": REAL,
    },
    "ratings": {"rating_id": TEXT, "description_id": TEXT}
    | PLACE
    | {"rater_kind": TEXT, "rater": TEXT, "plausibility": INT, "verdict": TEXT, "status": TEXT}
    | {"is_control": pa.bool_(), "seconds": REAL, "comment": TEXT, "rated_at": pa.timestamp("us", "UTC")}
    | {"pattern_present": pa.bool_(), "n_rows": INT, "n_fitting": INT}
    | dict.fromkeys(
        ("shown_claim", "shown_rows", "control", "prompt_digest", "request_digest", "reply"), TEXT
    ),
    "inference_agreements": {"description_id": TEXT}
    | PLACE
    | {
        "cluster": INT,
        "direction": TEXT,
        "n_sources": INT,
        "n_templates": INT,
    }
    | {
        f"{name}{end}": REAL
        for name in ("agreement", "ci_low", "ci_high", "null_mean", "lift", "p_value", "q_value")
        for end in ("", "_with_context")
    }
    | {f"attribution{end}": REAL for end in ("", "_null", "_p", "_q")},
}


def write(path, table, rows, **columns):
    """A Parquet file with the columns of a table; what a row leaves out is NULL."""
    kinds = SCHEMAS[table] | columns
    arrays = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), path)
    return path


def make_run(run_id="r1", model="m@1", **values):
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return {"run_id": run_id, "model": model, "status": "complete", "started_at": started, **values}


def make_rows(n_layers=2, n_heads=3, n_sources=4):
    places = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    statuses = ("described", "unclear", "failed")
    return {
        "heads": [
            {
                "layer": at,
                "head": h,
                "kv_head": h,
                "status": statuses[h % 3],
                "constant_promoted": HOSTILE[:3],
            }
            for at, h in places
        ],
        "mappings": [
            {
                "layer": at,
                "head": h,
                "preset": "default",
                "direction": "promote",
                "source_rank": s,
                "source_id": s,
            }
            | {"source_token": HOSTILE[s % len(HOSTILE)], "saliency": 1.5, "split": "draft", "target_rank": t}
            | {"target_id": t, "target_token": HOSTILE[-1 - t], "logit": at + h / 7, "z": s / 3}
            for at, h in places
            for s in range(n_sources)
            for t in range(5)
        ],
        "clusters": [
            {
                "layer": at,
                "head": h,
                "preset": "default",
                "cluster": c,
                "direction": "promote",
                "n_sources": 2,
            }
            | {"cohesion": 0.5, "source_ids": [0, 1]}
            for at, h in places
            for c in (-1, 0, 1)
        ],
        "descriptions": [
            {
                "description_id": f"d-{at}-{h}",
                "layer": at,
                "head": h,
                "direction": "promote",
                "status": statuses[h % 3],
            }
            | {
                "pattern_text": "writes " + HOSTILE[h],
                "drafter": "rules",
                "evidence": '{"n": 1}',
                "support": 0.5,
            }
            | {"heldout_precision": 0.75, "heldout_null": 0.25, "q_value": 0.01}
            for at, h in places
        ],
        "excluded_tokens": [{"token_id": 7, "token": "<pad>", "reason": "padding"}],
    }


def make_shards(folder, rows=None):
    rows = make_rows() if rows is None else rows
    return {table: [write(folder / f"{table}.parquet", table, some)] for table, some in rows.items()}


class Make:
    """The helpers above, as one fixture."""

    run = staticmethod(make_run)
    rows = staticmethod(make_rows)
    shards = staticmethod(make_shards)
    write = staticmethod(write)
    hostile = HOSTILE


@pytest.fixture
def make():
    return Make


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """A catalogue without rows and one with a run, made once: tests get copies."""
    folder = tmp_path_factory.mktemp("templates")
    with Catalogue.open(folder / "filled.duckdb"):
        shutil.copy(folder / "filled.duckdb", folder / "empty.duckdb")
    with Catalogue.open(folder / "filled.duckdb") as catalogue:
        assert catalogue.ingest_run(make_run(), make_shards(folder / "shards"))
    return folder


@pytest.fixture
def filled(tmp_path, templates):
    """A closed catalogue with one run."""
    return Path(shutil.copy(templates / "filled.duckdb", tmp_path / "heads.duckdb"))


@pytest.fixture
def catalogue(tmp_path, templates):
    """An open catalogue without rows."""
    with Catalogue.open(shutil.copy(templates / "empty.duckdb", tmp_path / "heads.duckdb")) as opened:
        yield opened
