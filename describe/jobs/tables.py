"""Records to Parquet rows of the catalogue's tables, and mappings back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from describe.records import Direction, HeadId, HeadMappings

MAPPINGS = pa.schema(
    [
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("preset", pa.string()),
        ("direction", pa.string()),
        ("source_rank", pa.int32()),
        ("source_id", pa.int32()),
        ("source_token", pa.string()),
        ("saliency", pa.float32()),
        ("contrast", pa.float32()),
        ("split", pa.string()),
        ("target_rank", pa.int32()),
        ("target_id", pa.int32()),
        ("target_token", pa.string()),
        ("logit", pa.float32()),
        ("z", pa.float32()),
    ]
)

CLUSTERS = pa.schema(
    [
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("preset", pa.string()),
        ("cluster", pa.int32()),
        ("direction", pa.string()),
        ("n_sources", pa.int32()),
        ("cohesion", pa.float64()),
        ("source_ids", pa.list_(pa.int32())),
    ]
)


def write_table(path: Path, rows: Sequence[dict[str, object]], schema: pa.Schema | None = None) -> None:
    """Write rows as one Parquet file; `schema` is needed when there may be none."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)


def write_mappings(path: Path, mappings: Iterable[HeadMappings], texts: Sequence[str], preset: str) -> None:
    """Write mappings, one row a source and target."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in MAPPINGS.names}
    for one in mappings:
        k, n = one.target_ids.shape
        each = {
            "layer": np.full(k * n, one.head.layer),
            "head": np.full(k * n, one.head.head),
            "preset": np.full(k * n, preset, dtype=object),
            "direction": np.full(k * n, one.direction, dtype=object),
            "source_rank": np.repeat(np.arange(k), n),
            "source_id": np.repeat(one.source_ids, n),
            "source_token": np.repeat(_texts(texts, one.source_ids), n),
            "saliency": np.repeat(one.saliency, n),
            "contrast": np.full(k * n, np.nan) if one.contrast is None else np.repeat(one.contrast, n),
            "split": np.repeat(np.where(one.heldout, "heldout", "draft").astype(object), n),
            "target_rank": np.tile(np.arange(n), k),
            "target_id": one.target_ids.reshape(-1),
            "target_token": _texts(texts, one.target_ids.reshape(-1)),
            "logit": one.logits.reshape(-1),
            "z": np.full(k * n, np.nan) if one.z is None else one.z.reshape(-1),
        }
        for name, values in each.items():
            columns[name].append(values)
    arrays = [
        pa.array(
            np.concatenate(columns[field.name]),
            type=field.type,
            from_pandas=True,  # NaN becomes NULL: a figure that was not computed
        )
        for field in MAPPINGS
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=MAPPINGS), path)


def read_mappings(path: Path) -> list[HeadMappings]:
    """Read back what `write_mappings` wrote, in its order."""
    table = pq.read_table(path)
    column = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    starts = np.flatnonzero((column["source_rank"] == 0) & (column["target_rank"] == 0))
    out = []
    for begin, end in zip(starts, [*starts[1:], len(table)], strict=True):
        n = int(column["target_rank"][begin:end].max()) + 1
        row = slice(begin, end, n)
        contrast, z = column["contrast"][row], column["z"][begin:end]
        direction: Direction = column["direction"][begin]
        out.append(
            HeadMappings(
                head=HeadId(int(column["layer"][begin]), int(column["head"][begin])),
                direction=direction,
                source_ids=column["source_id"][row].astype(np.int64),
                saliency=column["saliency"][row],
                contrast=None if np.isnan(contrast).all() else contrast,
                target_ids=column["target_id"][begin:end].astype(np.int64).reshape(-1, n),
                logits=column["logit"][begin:end].reshape(-1, n),
                z=None if np.isnan(z).all() else z.reshape(-1, n),
                heldout=column["split"][row] == "heldout",
            )
        )
    return out


def _texts(texts: Sequence[str], ids: np.ndarray) -> np.ndarray:
    out = np.empty(len(ids), dtype=object)
    out[:] = [texts[int(i)] for i in ids]
    return out
