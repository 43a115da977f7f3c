"""From a suite to numbers: attention and attributed effects of every head, summed into the suite's units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits
from describe.subject.running import LayerTrace, LiveModel
from eval.battery.suites import Cells, Suite, by_length, groups_of
from eval.inference.attribution import Attribution, LayerAttribution, Places

Floats = NDArray[np.float64]
BATCH_TOKENS = 1024
"""Tokens of a forward pass whose patterns are kept: 30 layers of 9 heads of texts of 96 tokens are some 100 MB."""
Circuits = Callable[[int], LayerCircuits]


@dataclass(frozen=True)
class Readings:
    """What heads do in the units of a topic: each array is [n_units, n_layers, n_heads]."""

    attention: Floats  # attention on the cells
    beyond_first: Floats  # the same as a share of what is not spent on the first token
    target: Floats  # attributed effect on the target, in logits against the vocabulary's mean
    foil: Floats  # the same on the foils


_PARTS = ("attention", "beyond_first", "target", "foil")


@dataclass(frozen=True)
class Measured:
    """A topic's own readings and those of its null."""

    own: Readings
    null: Readings


@dataclass(frozen=True)
class Batch:
    """One forward pass: which prompts, what every layer read and did, and what the final norm read [b, t, d]."""

    numbers: list[int]
    tokens: Tensor
    traces: list[LayerTrace]
    last: Tensor


def batches(
    live: LiveModel, suite: Suite, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Batch]:
    """Run the model on a suite's prompts, a batch of one length at a time."""
    done = 0
    for numbers in by_length(suite.prompts, BATCH_TOKENS):
        tokens = torch.tensor([suite.prompts[number] for number in numbers])
        traces, last = live.run(tokens)
        yield Batch(numbers, tokens, traces, last)
        done += len(numbers)
        progress(done, len(suite.prompts))


class TopicSums:
    """Sums a suite's topics up, batch by batch.

    Args:
        attribution: of the model.
        circuits: its layers, kept by the caller, where the model runs.
        suite: whose topics.
        shape: layers and heads.
    """

    def __init__(
        self, attribution: Attribution, circuits: Circuits, suite: Suite, shape: tuple[int, int]
    ) -> None:
        self._circuits, self._topics, self._n_layers = circuits, suite.topics, shape[0]
        groups, self._places = groups_of(suite.topics)
        # Topics of attention alone still need a reader to stand in; nothing reads its effects.
        self._attribution, self._readers = attribution, attribution.readers(groups or [(0,)])
        self._cells = {
            (name, side): _Columns.of(getattr(topic, side), self._places)
            for name, topic in suite.topics.items()
            for side in ("own", "null")
        }
        self._sums = {
            (name, side): np.zeros((len(_PARTS), suite.topics[name].n_units, *shape))
            for name, side in self._cells
        }

    def add(self, batch: Batch) -> None:
        """Take a batch in."""
        scale = self._attribution.final_scale(batch.last)
        own = {key: columns.within(batch.numbers) for key, columns in self._cells.items()}
        for layer in range(self._n_layers):
            trace = batch.traces[layer]
            heads = LayerAttribution(self._circuits(layer), trace, scale, self._readers)
            for key, (columns, places) in own.items():
                if not len(columns.unit) or self._topics[key[0]].layer not in (None, layer):
                    continue
                attention = heads.attention(places)
                first = trace.attention[places.sequence, :, places.query, 0]
                parts = (
                    attention,
                    attention / (1 - first).clamp_min(1e-6),
                    heads.effects(places, columns.target),
                    heads.effects(places, columns.foil),
                )
                for part, total in zip(parts, self._sums[key], strict=True):
                    weighted = part.double().cpu().numpy() * columns.weight[:, None]
                    np.add.at(total[:, layer], columns.unit, weighted)

    def measured(self) -> dict[str, Measured]:
        """Every topic's readings."""
        return {
            name: Measured(Readings(*self._sums[name, "own"]), Readings(*self._sums[name, "null"]))
            for name in self._topics
        }


@dataclass(frozen=True)
class _Columns:
    """Cells as arrays [n]; a group that is missing reads the first reader, and nothing reads that."""

    prompt: NDArray[np.int64]
    query: NDArray[np.int64]
    key: NDArray[np.int64]
    unit: NDArray[np.int64]
    weight: Floats
    target: Tensor
    foil: Tensor

    @classmethod
    def of(cls, cells: Cells, places: Mapping[tuple[int, ...], int]) -> _Columns:
        numbers = (
            np.array(getattr(cells, name), dtype=np.int64) for name in ("prompt", "query", "key", "unit")
        )
        readers = (
            torch.tensor([places.get(group, 0) for group in groups], dtype=torch.int64)
            for groups in (cells.target, cells.foil)
        )
        prompt, query, key, unit = numbers
        return cls(prompt, query, key, unit, np.array(cells.weight, dtype=np.float64), *readers)

    def within(self, numbers: list[int]) -> tuple[_Columns, Places]:
        """Those of a batch's prompts, with their places in it."""
        row = {number: place for place, number in enumerate(numbers)}
        keep = np.flatnonzero(np.isin(self.prompt, numbers))
        chosen = torch.from_numpy(keep)
        columns = _Columns(
            self.prompt[keep],
            self.query[keep],
            self.key[keep],
            self.unit[keep],
            self.weight[keep],
            self.target[chosen],
            self.foil[chosen],
        )
        rows = torch.tensor([row[int(number)] for number in columns.prompt], dtype=torch.int64)
        return columns, Places(rows, torch.from_numpy(columns.query), torch.from_numpy(columns.key))


def answered(suite: Suite, batch: Batch, live: LiveModel, normed: Callable[[Tensor], Tensor]) -> list[bool]:
    """Which of a suite's questions in this batch the model answers; `normed` is the final norm."""
    row = {number: place for place, number in enumerate(batch.numbers)}
    found = []
    for question in suite.questions:
        if question.prompt in row:
            logits = live.logits(normed(batch.last[row[question.prompt], -1])).cpu()
            best = logits[torch.tensor(question.answer)].max()
            others = torch.tensor(question.foils) if question.foils else None
            rival = logits.max() if others is None else logits[others].max()
            found.append(bool(best >= rival if others is None else best > rival))
    return found
