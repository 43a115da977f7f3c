"""What the processes of the speed benchmark do: `python -m eval.bench.speed_parts NAME MODEL FILE …`.

Each writes the mappings it found into FILE (npz), so that the parent can hold them against each other, and says how
long it took to load and how long the heads took.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from describe.records import HeadId, HeadMappings
from describe.settings import preset
from eval.bench.processes import Clock, answer

if TYPE_CHECKING:
    from describe.jobs.projecting import Projector

FIELDS = ("source_ids", "saliency", "promoted_ids", "promoted", "suppressed_ids", "suppressed")
PAIRS, MAP_TARGETS = 1000, 10


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["ours", "naive", "released", "map", "naive-map", "pairs"])
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--heads", default="", help="such as L0H0,L5H3; all when empty")
    parser.add_argument("--rows", type=int, default=0, help="sources of a full map; all when 0")
    arguments = parser.parse_args()
    begin = Clock.now()
    heads = [HeadId.parse(one) for one in arguments.heads.split(",") if one]
    if arguments.part == "ours":
        values = _ours(arguments.model, arguments.file, heads, begin)
    elif arguments.part in ("naive", "released"):
        once = arguments.part == "naive"
        values = _naive(arguments.model, arguments.file, heads, begin, once)
    elif arguments.part == "naive-map":
        values = _naive_map(arguments.model, arguments.file, heads[0], begin, arguments.rows)
    else:
        part = _full_map if arguments.part == "map" else _pairs
        values = part(arguments.model, arguments.file, heads[0], begin, arguments.rows)
    answer(values)


def _save(file: Path, tables: dict[str, tuple[NDArray[Any], ...]]) -> None:
    arrays: dict[str, Any] = {
        f"{head}.{f}": a for head, table in tables.items() for f, a in zip(FIELDS, table, strict=True)
    }
    np.savez(file, **arrays)


def _projector(model: str) -> Projector:
    from describe.jobs.projecting import Projector
    from describe.subject.model import load_weights

    return Projector(load_weights(model), preset("paper"), {})


def _ours(model: str, file: Path, heads: list[HeadId], begin: Clock) -> dict[str, Any]:
    projector = _projector(model)
    loaded = Clock.now()
    wanted = set(heads or projector.model.shape.heads)
    found: dict[HeadId, dict[str, HeadMappings]] = {}
    for projection in projector.layers(sorted({head.layer for head in wanted})):
        for (head, direction), mappings in projection.mappings.items():
            found.setdefault(HeadId(projection.layer, head), {})[direction] = mappings
    done = Clock.now()
    tables: dict[str, tuple[NDArray[Any], ...]] = {}
    for one in sorted(wanted):
        up, down = found[one]["promote"], found[one]["suppress"]
        tables[str(one)] = (
            up.source_ids, up.saliency, up.target_ids, up.logits, down.target_ids, down.logits
        )  # fmt: skip
    _save(file, tables)
    return {"heads": len(tables), "load": loaded.since(begin), "core": done.since(loaded)}


def _naive(model: str, file: Path, heads: list[HeadId], begin: Clock, once: bool) -> dict[str, Any]:
    """The naive rule; with `once` False the first MLP is run anew for each head, as in the released code."""
    from describe.subject.sources import resolve
    from eval.bench.naive import WholeModel, naive_head

    settings = preset("paper")
    whole = WholeModel(resolve(model))
    U = whole.unembedding()
    loaded = Clock.now()
    states = whole.first_mlp() if once else None
    first_mlp = Clock.now()
    tables = {}
    for head in heads or whole.shape.heads:
        rows = whole.first_mlp() if states is None else states
        found = naive_head(rows, whole.head(head.layer, head.head), U, settings.salient, settings.targets)
        tables[str(head)] = tuple(getattr(found, name).numpy() for name in FIELDS)
        del rows, found
    done = Clock.now()
    _save(file, tables)
    return {
        "heads": len(tables),
        "load": loaded.since(begin),
        "first_mlp": first_mlp.since(loaded),
        "core": done.since(first_mlp),
        "d_model": whole.shape.d_model,
        "n_heads": len(whole.shape.heads),
    }


def _full_map(model: str, file: Path, head: HeadId, begin: Clock, n_rows: int) -> dict[str, Any]:
    """The top targets of every source token of one head, or of the first `n_rows`."""
    from describe.core.everything import all_top_targets
    from describe.core.spaces import ValueSpace

    projector = _projector(model)
    space, folded = projector.space(head.layer)
    some = space if n_rows == 0 else ValueSpace.of(space.states[:n_rows])
    loaded = Clock.now()
    parts = all_top_targets(some, folded, head.head, projector.U, MAP_TARGETS, False)
    ids = np.concatenate([promoted.positions.numpy() for _, promoted, _ in parts])
    done = Clock.now()
    np.savez(file, ids=ids)
    return {
        "rows": len(ids),
        "sources": len(space.states),
        "load": loaded.since(begin),
        "core": done.since(loaded),
    }


def _naive_map(model: str, file: Path, head: HeadId, begin: Clock, n_rows: int) -> dict[str, Any]:
    """The same by whole rows: written @ U.T, then `topk` in both directions, 512 sources at a time."""
    from describe.subject.sources import resolve
    from eval.bench.naive import WholeModel

    whole = WholeModel(resolve(model))
    U, states, W_VO = whole.unembedding(), whole.first_mlp(), whole.head(head.layer, head.head)
    some = states[: n_rows or len(states)]
    loaded = Clock.now()
    ids = []
    for tile in some.split(512):
        M = tile @ W_VO @ U.T
        ids.append(M.topk(MAP_TARGETS).indices.numpy())
        M.topk(MAP_TARGETS, largest=False)
    done = Clock.now()
    np.savez(file, ids=np.concatenate(ids))
    return {
        "rows": len(some),
        "sources": len(states),
        "load": loaded.since(begin),
        "core": done.since(loaded),
    }


def _pairs(model: str, file: Path, head: HeadId, begin: Clock, n_rows: int) -> dict[str, Any]:
    """The exact best pairs of one head."""
    from describe.core.everything import top_pairs

    projector = _projector(model)
    space, folded = projector.space(head.layer)
    if n_rows:
        space = replace(space, states=space.states[:n_rows], norms=space.norms[:n_rows])
    loaded = Clock.now()
    pairs, computed = top_pairs(space, folded, head.head, projector.U, PAIRS, False)
    done = Clock.now()
    np.savez(file, logits=pairs.logits.numpy())
    return {"computed_share": computed, "load": loaded.since(begin), "core": done.since(loaded)}


if __name__ == "__main__":
    main()
