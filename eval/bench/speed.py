"""Speed and memory of the core beside the naive rule: ratios of one run, with the answers held against each other.

Three ways to the salient mappings of every head (paper preset) of one model:

- ours: `describe.jobs.projecting.Projector`, all heads, always run in full;
- naive: the same rule multiplied out, the first MLP run once (`eval.bench.naive`);
- released: the same, the first MLP run over the vocabulary anew for every head, as the released code of MAPS does.

Heads of a way that is not run in full are sampled evenly, and the time of its heads is multiplied; tables and JSON
say so. Loading is part of every figure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.processes import Cost, run_part

PARTS = "eval.bench.speed_parts"
RELATIVE = 2e-6
"""Values nearer than this, in terms of the greatest of their row, may stand in another order: float32 rounding."""
QUICK_HEADS, RELEASED_HEADS, MAP_ROWS = 9, 3, 1024

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One way to an answer: what it took, or would have taken had it run in full."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    load_wall_seconds: float
    load_cpu_seconds: float
    run: int  # heads (or sources) really run
    of: int


@dataclass(frozen=True)
class Parity:
    """Mappings of heads that two ways both computed, place by place."""

    heads: int
    places: int  # source places and target places compared
    equal: int
    swapped: int  # another token whose value differs by no more than RELATIVE
    different: int


def sample(n_layers: int, n_heads: int, count: int) -> list[str]:
    """`count` heads spread evenly over the layers, first and last layer included, each another head index."""
    count = min(count, n_layers * n_heads)
    flat = [round(i * (n_layers * n_heads - 1) / max(1, count - 1)) for i in range(count)]
    return [f"L{place // n_heads}H{place % n_heads}" for place in flat]


def salient(
    model: str, shape: tuple[int, int], quick: bool, threads: int | None, progress: Progress
) -> dict[str, Any]:
    """All heads by the three ways.

    Args:
        model: a MODEL that transformers can load too.
        shape: (layers, heads of a layer).
        quick: sample the naive rule's heads instead of running all.
        threads: for products, or None.
        progress: told what runs.

    Returns:
        {"measured": list of `Measured`, "ratios": by name, "parity": `Parity`} as plain values.

    Raises:
        DescribeError: a part failed.
    """
    total = shape[0] * shape[1]
    ways = {
        "ours": [],
        "naive": sample(*shape, QUICK_HEADS) if quick else [],
        "released": sample(*shape, RELEASED_HEADS),
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = []
        for name, heads in ways.items():
            progress(f"{name}: {len(heads) or total} of {total} heads")
            file = Path(folder) / f"{name}.npz"
            found, cost = run_part(PARTS, [name, model, str(file), "--heads", ",".join(heads)], threads)
            measured.append(_scaled(name, found, cost, found["heads"], total))
        parity = compare(*(dict(np.load(Path(folder) / f"{name}.npz")) for name in ("ours", "naive")))
    return {
        "measured": [asdict(one) for one in measured],
        "ratios": {one.name: _ratios(measured[0], one) for one in measured[1:]},
        "parity": asdict(parity),
    }


def one_head(model: str, head: str, quick: bool, threads: int | None, progress: Progress) -> dict[str, Any]:
    """The full map of one head (top 10 targets of every source, both directions) and its exact top 1,000 pairs."""
    rows = ["--rows", str(MAP_ROWS if quick else 0)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured, ids = [], []
        for name, part, some in (
            ("map", "map", rows),
            ("naive map", "naive-map", ["--rows", str(MAP_ROWS)]),
        ):
            progress(f"{name} of {head}")
            file = Path(folder) / f"{part}.npz"
            found, cost = run_part(PARTS, [part, model, str(file), "--heads", head, *some], threads)
            measured.append(_scaled(name, found, cost, found["rows"], found["sources"]))
            ids.append(np.load(file)["ids"])
        progress(f"top pairs of {head}")
        file = Path(folder) / "pairs.npz"
        pairs, cost = run_part(PARTS, ["pairs", model, str(file), "--heads", head], threads)
    shared = min(len(part) for part in ids)
    return {
        "head": head,
        "measured": [asdict(one) for one in measured],
        "ratio": _ratios(*measured),
        "core_cpu_ratio": _core(measured[1]) / _core(measured[0]),
        "equal_targets": float((ids[0][:shared] == ids[1][:shared]).mean()),
        "pairs": pairs | asdict(cost),
    }


def _core(one: Measured) -> float:
    return max(one.cpu_seconds - one.load_cpu_seconds, 1e-9)


def _scaled(name: str, found: Mapping[str, Any], cost: Cost, run: int, of: int) -> Measured:
    """The whole process, with the time of its heads multiplied up to all of them."""
    more = of / run - 1
    return Measured(
        name=name,
        wall_seconds=cost.wall_seconds + more * found["core"]["wall_seconds"],
        cpu_seconds=cost.cpu_seconds + more * found["core"]["cpu_seconds"],
        peak_bytes=cost.peak_bytes,
        load_wall_seconds=found["load"]["wall_seconds"],
        load_cpu_seconds=found["load"]["cpu_seconds"],
        run=run,
        of=of,
    )


def _ratios(ours: Measured, other: Measured) -> dict[str, float]:
    """How many times ours the other takes."""
    return {
        "wall": other.wall_seconds / ours.wall_seconds,
        "cpu": other.cpu_seconds / ours.cpu_seconds,
        "peak_memory": other.peak_bytes / ours.peak_bytes,
    }


def compare(ours: Mapping[str, NDArray[Any]], naive: Mapping[str, NDArray[Any]]) -> Parity:
    """Hold our mappings against the naive rule's on every head that it computed.

    A place counts as swapped when the tokens differ but the values there agree within RELATIVE of the greatest
    in the row. Targets are compared for sources that both have, wherever they stand.
    """
    heads = sorted({key.split(".")[0] for key in naive})
    counts = np.zeros(2, dtype=np.int64)
    equal = 0
    for head in heads:
        a, b = ({f: t[f"{head}.{f}"] for f in _FIELDS} for t in (ours, naive))
        equal += _places(a["source_ids"], b["source_ids"], a["saliency"], b["saliency"], counts)
        place = {int(token): row for row, token in enumerate(a["source_ids"])}
        both = [(place[int(token)], row) for row, token in enumerate(b["source_ids"]) if int(token) in place]
        for side in ("promoted", "suppressed"):
            for i, j in both:
                equal += _places(a[f"{side}_ids"][i], b[f"{side}_ids"][j], a[side][i], b[side][j], counts)
    swapped, different = (int(count) for count in counts)
    return Parity(len(heads), equal + swapped + different, equal, swapped, different)


_FIELDS = ("source_ids", "saliency", "promoted_ids", "promoted", "suppressed_ids", "suppressed")


def _places(
    ids: NDArray[Any],
    expected: NDArray[Any],
    values: NDArray[Any],
    near: NDArray[Any],
    counts: NDArray[np.int64],
) -> int:
    same = ids == expected
    tolerance = RELATIVE * np.abs(near).max()
    close = np.abs(values.astype(np.float64) - near.astype(np.float64)) <= tolerance
    counts += [int((~same & close).sum()), int((~same & ~close).sum())]
    return int(same.sum())


def table(measured: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of text for `Measured`s, the first of them being ours: name, wall, CPU, ratios, peak, what was run."""
    ours = Measured(**measured[0])
    rows = []
    for values in measured:
        one = Measured(**values)
        ratios = _ratios(ours, one)
        run = "all" if one.run == one.of else f"{one.run} of {one.of}, multiplied"
        rows.append(
            [
                one.name,
                f"{one.wall_seconds:.1f}",
                f"{one.cpu_seconds:.1f}",
                f"{ratios['wall']:.1f}",
                f"{ratios['cpu']:.1f}",
                f"{one.peak_bytes / 1e6:.0f}",
                f"{ratios['peak_memory']:.2f}",
                run,
            ]
        )
    return rows


COLUMNS = ("way", "wall s", "CPU s", "wall ×", "CPU ×", "peak MB", "peak ×", "run")
