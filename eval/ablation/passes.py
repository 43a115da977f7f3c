"""The running model on a task while heads are removed at the last position, where it answers (MAPS, 4.3).

Attention looks back only, so nothing before the last position changes: all of it is run once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.subject.running import Kept, LiveModel

METHODS = ("zero", "mean", "resample")
"""What takes the place of a removed head's z at the last position.

zero: nothing, as in MAPS. mean: its mean over the task's own prompts, so that only what is specific to the source goes.
resample: its z on another prompt of the task, in one random circle of all prompts, so that what stays is a z that
the model does produce there. This is more than a removal: a head that carries the answer brings in that of the other
prompt, which the remaining heads must outvote.
"""
ROWS = 64
"""Prompts of a forward pass at most."""


@dataclass(frozen=True)
class _Chunk:
    rows: slice
    kept: Kept
    last: Tensor  # [b] token ids


class RunningTask:
    """Prompts of one length on the live model, with all but their last position run already.

    Args:
        live: the model.
        prompts: token ids [n, t].
        targets: the token [n] that is the right answer.
        n_heads: of a layer.
        seed: of the circle for `resample`.
    """

    def __init__(
        self, live: LiveModel, prompts: Tensor, targets: NDArray[np.int64], n_heads: int, seed: int = 0
    ) -> None:
        self._live, self._n_heads = live, n_heads
        self._targets = torch.from_numpy(targets)
        self._chunks = [
            _Chunk(
                slice(start, min(start + ROWS, len(prompts))),
                live.keep(part := prompts[start : start + ROWS]),
                part[:, -1],
            )
            for start in range(0, len(prompts), ROWS)
        ]
        z: dict[int, list[Tensor]] = {}

        def keep_z(layer: int, found: Tensor) -> None:
            z.setdefault(layer, []).append(found[:, -1].clone())

        with live.tapped(z=keep_z):
            self.clean = np.concatenate([self._right(chunk) for chunk in self._chunks])
        self._z = {layer: torch.cat(parts) for layer, parts in z.items()}  # [n, n_heads, d_head]
        circle = np.random.default_rng(seed).permutation(len(prompts))
        self.partner = np.empty_like(circle)
        self.partner[circle] = np.roll(circle, 1)

    def right(self, heads: Sequence[int] | NDArray[np.int64], method: str) -> NDArray[np.bool_]:
        """Whether the first next token is the target [n], with heads (layer x n_heads + head) removed.

        Raises:
            ValueError: there is no such method.
        """
        removed: dict[int, list[int]] = {}
        for head in heads:
            removed.setdefault(int(head) // self._n_heads, []).append(int(head) % self._n_heads)
        instead = {layer: self._instead(layer, own, method) for layer, own in removed.items()}
        return np.concatenate([self._right_without(chunk, removed, instead) for chunk in self._chunks])

    def _instead(self, layer: int, heads: Sequence[int], method: str) -> Tensor:
        """What takes the place of the heads' z, [n, heads, d_head]."""
        z = self._z[layer][:, heads]
        if method == "zero":
            return torch.zeros_like(z)
        if method == "mean":
            return z.mean(0, keepdim=True).expand_as(z)
        if method == "resample":
            return z[torch.from_numpy(self.partner).to(z.device)]
        raise ValueError(f"no method '{method}'")

    def _right_without(
        self, chunk: _Chunk, removed: Mapping[int, list[int]], instead: Mapping[int, Tensor]
    ) -> NDArray[np.bool_]:
        def replaced(layer: int, z: Tensor) -> Tensor | None:
            if layer not in removed:
                return None
            z = z.clone()
            z[:, -1, removed[layer]] = instead[layer][chunk.rows]
            return z

        with self._live.tapped(z=replaced):
            return self._right(chunk)

    def _right(self, chunk: _Chunk) -> NDArray[np.bool_]:
        logits = self._live.logits(self._live.last_hidden(chunk.kept, chunk.last))
        found: NDArray[np.bool_] = (logits.argmax(-1).cpu() == self._targets[chunk.rows]).numpy()
        return found
