"""What the model loses without a head: the effect of heads whose class says only where they attend.

A head is removed by putting the mean of its z over all places of the scene in its place, at every position but the
first. The loss is the mean negative log-probability, in nats, of the next token at chosen positions; a unit is a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.subject.running import LiveModel
from eval.battery.suites import by_length

Floats = NDArray[np.float64]
Head = tuple[int, int]
BATCH_TOKENS = 1024
_LOGIT_ROWS = 256  # rows of logits at a time: 270 MB for a vocabulary of 262,144


@dataclass
class Scene:
    """Texts, and the positions in each whose next token counts."""

    name: str
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    positions: list[tuple[int, ...]] = field(default_factory=list)


class Removal:
    """Losses on a scene, whole and without heads.

    Args:
        live: the model.
        scene: what it reads.
    """

    def __init__(self, live: LiveModel, scene: Scene) -> None:
        self._live, self._scene = live, scene
        self._batches = by_length(scene.prompts, BATCH_TOKENS)
        sums: dict[int, Tensor] = {}
        count = sum(len(prompt) - 1 for prompt in scene.prompts)

        def add(layer: int, z: Tensor) -> None:
            total = z[:, 1:].double().sum((0, 1))
            sums[layer] = sums[layer] + total if layer in sums else total

        self.whole = np.zeros(len(scene.prompts))
        with live.tapped(z=add):
            for numbers in self._batches:
                hidden = live.hidden(self._tokens(numbers))
                self.whole[numbers] = self._losses(hidden, numbers)
        self._means = {layer: total / count for layer, total in sums.items()}

    def costs(
        self, heads: Sequence[Head], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Mapping[Head, Floats]:
        """By head, how much each text's loss rises without it: [n_texts] nats."""
        found = {head: np.zeros(len(self._scene.prompts)) for head in heads}
        for done, numbers in enumerate(self._batches):
            tokens = self._tokens(numbers)
            at_once = max(1, BATCH_TOKENS // tokens.numel())
            for start in range(0, len(heads), at_once):
                own = heads[start : start + at_once]
                losses = self._without(own, tokens, numbers)
                for head, row in zip(own, losses, strict=True):
                    found[head][numbers] = row - self.whole[numbers]
                progress(done * len(heads) + start + len(own), len(heads) * len(self._batches))
        return found

    def _without(self, heads: Sequence[Head], tokens: Tensor, numbers: Sequence[int]) -> Floats:
        """Losses [n_heads, n_prompts], each head removed in a copy of the prompts of its own."""
        n = len(tokens)

        def removed(layer: int, z: Tensor) -> Tensor | None:
            own = [(place, head) for place, (at, head) in enumerate(heads) if at == layer]
            if not own:
                return None
            z = z.clone()
            for place, head in own:
                z[place * n : (place + 1) * n, 1:, head] = self._means[layer][head].to(z.dtype)
            return z

        with self._live.tapped(z=removed):
            hidden = self._live.hidden(tokens.repeat(len(heads), 1))
        return self._losses(hidden, [*numbers] * len(heads)).reshape(len(heads), n)

    def _tokens(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor([self._scene.prompts[number] for number in numbers])

    def _losses(self, hidden: Tensor, numbers: Sequence[int]) -> Floats:
        """Mean loss of each row of hidden [n, t, d], at its prompt's positions."""
        places = [self._scene.positions[number] for number in numbers]
        rows = torch.tensor([row for row, own in enumerate(places) for _ in own])
        at = torch.tensor([place for own in places for place in own])
        following = torch.tensor(
            [
                self._scene.prompts[n][place + 1]
                for n, own in zip(numbers, places, strict=True)
                for place in own
            ]
        )
        picked, parts = hidden[rows, at], []
        for start in range(0, len(picked), _LOGIT_ROWS):
            logits = self._live.logits(picked[start : start + _LOGIT_ROWS])
            own = following[start : start + _LOGIT_ROWS].to(logits.device)
            parts.append(torch.nn.functional.cross_entropy(logits, own, reduction="none").double().cpu())
        totals = torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, rows, torch.cat(parts))
        means: Floats = (totals / torch.tensor([len(own) for own in places])).numpy()
        return means
