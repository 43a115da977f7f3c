"""One relation's ablation: its heads step by step, as many random ones, and control tasks without its heads (MAPS, 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from describe.records import ModelShape
from eval.ablation.areas import TESTABLE, Curves, area_between
from eval.ablation.heads import CONTROLS, Heads, controls, matched, steps
from eval.ablation.passes import RunningTask
from eval.ablation.rows import Row, accuracy
from eval.ablation.setups import SetUp

DRAWS = 5
"""Draws of random heads (MAPS, 4.3)."""


@dataclass(frozen=True)
class Plan:
    """What all relations of a run share."""

    set_ups: Mapping[str, SetUp]
    base: Mapping[str, float]  # accuracy of every task with all heads in place
    shape: ModelShape
    methods: Sequence[str]
    draws: int
    seed: int


class Experiment:
    """Ablates one relation with every method.

    Args:
        plan: what to do.
        task: the running task of a relation.
        name: the relation.
        progress: told how many conditions (counts, draws and controls of a method) are done, and of how many.
    """

    def __init__(
        self,
        plan: Plan,
        task: Callable[[str], RunningTask],
        name: str,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._plan, self._task, self.name = plan, task, name
        self.heads = plan.set_ups[name].heads
        self.counts = np.array(steps(len(self.heads)))
        self._progress, self._done = progress, 0
        shape = plan.shape
        self.drawn = [
            matched(
                self.heads,
                shape.n_layers,
                shape.n_heads,
                np.random.default_rng([plan.seed, 2, draw, *name.encode()]),
            )
            for draw in range(plan.draws)
        ]

    @property
    def reason(self) -> str | None:
        """Why there is nothing to test; None where there is."""
        if not len(self.heads):
            return "no head has a score from the weights"
        base = self._plan.base[self.name]
        return (
            f"accuracy {base:.2f} with all heads in place, {TESTABLE} is needed" if base < TESTABLE else None
        )

    def run(self) -> tuple[list[Row], list[Row]]:
        """Rows of `ablations` and of `ablation_areas`, the latter one a method."""
        n = len(self._plan.set_ups[self.name].relation.sources)
        constants: Row = {"relation": self.name}
        base: Row = {
            "base_accuracy": self._plan.base[self.name],
            "n_prompts": n,
            "n_heads": len(self.heads),
            "n_draws": self._plan.draws,
            "n_controls": 0,
            "causal": False,
            "testable": self.reason is None,
            "reason": self.reason,
        }
        found: list[Row] = []
        areas: list[Row] = []
        for method in self._plan.methods:
            own = constants | {"method": method}
            area = base | own
            if self.reason is None:
                curves = self.curves(method)
                found += [own | row for row in self._steps(curves)]
                tested, rows = self._controls(method, self.heads[: curves.counts[curves.reading]])
                found += [own | row for row in rows]
                area |= self._area(curves) | tested
            areas.append(area)
        return found, areas

    def curves(self, method: str) -> Curves:
        """Right answers of the relation's task at every count."""
        task = self._task(self.name)

        def along(heads: Heads) -> NDArray[np.bool_]:
            found = [task.clean]
            for count in self.counts[1:]:
                found.append(task.right(heads[:count], method))
                self._tick()
            return np.stack(found)

        return Curves(self.counts, along(self.heads), np.stack([along(heads) for heads, _ in self.drawn]))

    def _steps(self, curves: Curves) -> Iterator[Row]:
        sets: list[tuple[str, int | None, NDArray[np.bool_]]] = [("relation", None, curves.relation)]
        sets += [("random", draw, right) for draw, right in enumerate(curves.random)]
        for heads, draw, rights in sets:
            for count, right in zip(self.counts, rights, strict=True):
                row: Row = {"heads": heads, "task": self.name, "draw": draw, "n_ablated": int(count)}
                yield row | accuracy(right)

    def _controls(self, method: str, removed: Heads) -> tuple[Row, list[Row]]:
        """Other tasks without the relation's heads: their mean accuracies, and the rows of each."""
        others = {name: one.heads for name, one in self._plan.set_ups.items()}
        names = controls(self.name, removed, others, self._plan.base, self._plan.seed)
        rows: list[Row] = []
        for name in names:
            task = self._task(name)
            for count, right in ((0, task.clean), (len(removed), task.right(removed, method))):
                rows.append({"heads": "control", "task": name, "n_ablated": count} | accuracy(right))
        self._tick(CONTROLS)
        base, after = (
            float(np.mean([row["accuracy"] for row in rows[start::2]])) if rows else None for start in (0, 1)
        )
        return {"n_controls": len(names), "control_base": base, "control_accuracy": after}, rows

    def _area(self, curves: Curves) -> Row:
        at = curves.reading
        random = curves.random[:, at].mean(1)
        area = area_between(curves, self._plan.seed)
        return {
            "n_read": int(curves.counts[at]),
            "accuracy_relation": float(curves.relation[at].mean()),
            "accuracy_random": float(random.mean()),
            "accuracy_random_sd": float(random.std(ddof=1)),
            "layer_matched": float(np.mean([share for _, share in self.drawn])),
            "area": area.area,
            "ci_low": area.ci_low,
            "ci_high": area.ci_high,
            "p_value": area.p_value,
        }

    def _tick(self, conditions: int = 1) -> None:
        self._done += conditions
        per_method = (len(self.counts) - 1) * (1 + len(self.drawn)) + CONTROLS
        self._progress(self._done, per_method * len(self._plan.methods))
