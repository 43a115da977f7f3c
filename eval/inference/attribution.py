"""Direct logit attribution by source token (method, section 5; head taxonomy, notation).

With the norms' scales frozen at what the prompt made them, the logits are linear in what heads write, and a head's
write is a sum over source positions. The part that came from source j through query i is

    A(i, j) · r · s(i) · p(i) · ⟨v_j W_O ⊙ post-norm gain, U_target − mean_v U_v⟩

with v_j the head's value at j, s the final norm's and p the sandwich norm's inverse scale, r the multipliers of the
logits and of the residual stream, and U with the final norm's gain. This, and not the sum over sources, tells a mover
from a suppressor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.core.spaces import fold_unembedding
from describe.subject.running import LayerTrace
from eval.inference.reading import forced

_ROWS = 8192  # cells at a time: some 50 MB of values and readers


class AttributedWeights(Protocol):
    """What of a subject model the attribution reads."""

    @property
    def logit_scale(self) -> float:
        """Multipliers of the logits and of the residual stream."""

    def unembedding(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unembedding as rows [V, d]."""

    def final_norm(self, dtype: torch.dtype = torch.float32) -> Norm:
        """The norm before the unembedding."""


@dataclass(frozen=True)
class Places:
    """Entries of attention patterns: sequence, query and key, each [n]."""

    sequence: Tensor
    query: Tensor
    key: Tensor

    def slice(self, rows: slice) -> Places:
        """Some of them."""
        return Places(self.sequence[rows], self.query[rows], self.key[rows])


def frozen_scale(norm: Norm, rows: Tensor) -> Tensor:
    """What `norm` divides rows [..., d] by, inverted: [...]; its gain is left out."""
    if norm.kind == "none":
        return torch.ones_like(rows[..., 0])
    centred = rows - rows.mean(-1, keepdim=True) if norm.kind == "layer" else rows
    return torch.rsqrt(centred.square().mean(-1) + norm.eps)


class Attribution:
    """Reads what sources do to chosen tokens' logits.

    Args:
        subject: the model.
        dtype: of the computation.
        device: where to compute.
    """

    def __init__(
        self,
        subject: AttributedWeights,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        norm = subject.final_norm(dtype)
        self._U = fold_unembedding(subject.unembedding(dtype), norm, gains=True)
        self._mean, self._times = self._U.mean(0), subject.logit_scale
        self._norm, self._device = norm, device

    def readers(self, groups: Sequence[Sequence[int]]) -> Tensor:
        """A direction [d] for each group of token ids: the mean over its tokens against the vocabulary's mean."""
        rows = [self._U[torch.as_tensor(list(group))].mean(0) - self._mean for group in groups]
        return (torch.stack(rows) * self._times).to(self._device)

    def final_scale(self, last: Tensor) -> Tensor:
        """The final norm's inverse scale at every position [b, t] of what it read [b, t, d]."""
        return frozen_scale(self._norm, last)


@dataclass(frozen=True)
class LayerAttribution:
    """Effects of sources through the heads of one layer."""

    circuits: LayerCircuits
    trace: LayerTrace
    final_scale: Tensor  # [b, t], of `Attribution`
    readers: Tensor  # [n_readers, d], of `Attribution`

    def effects(self, places: Places, reader: Tensor) -> Tensor:
        """The effect of each place's key through its query on its reader: logits [n, n_heads]; readers [n]."""
        found = [
            self._effects(places.slice(slice(start, start + _ROWS)), reader[start : start + _ROWS])
            for start in range(0, len(reader), _ROWS)
        ]
        return torch.cat(found) if found else torch.zeros(0, self.circuits.n_heads)

    def attention(self, places: Places) -> Tensor:
        """What the queries attend to the keys with: [n, n_heads]."""
        return self.trace.attention[places.sequence, :, places.query, places.key]

    def _effects(self, places: Places, reader: Tensor) -> Tensor:
        values = self.values[places.sequence, places.key]
        by_source = (values * self._read_by_heads[reader]).sum(-1)
        scale = (self._post_scale * self.final_scale)[places.sequence, places.query]
        return self.attention(places) * by_source * scale[:, None]

    @cached_property
    def values(self) -> Tensor:
        """Every head's value at every position [b, t, n_heads, d_head]."""
        return values_of(self.circuits, self.trace.states)

    @cached_property
    def _read_by_heads(self) -> Tensor:
        """What each reader reads of each head's z: [n_readers, n_heads, d_head]."""
        return read_by_heads(self.readers, self.circuits)

    @cached_property
    def _post_scale(self) -> Tensor:
        return post_scale(self.circuits, self.trace.output)


def values_of(circuits: LayerCircuits, states: Tensor) -> Tensor:
    """Every head's values [b, t, n_heads, d_head] of states [b, t, d], bias included."""
    values: Tensor = forced(circuits, states.flatten(0, 1)).unflatten(0, states.shape[:2])
    return values


def read_by_heads(readers: Tensor, circuits: LayerCircuits) -> Tensor:
    """What directions [n, d] read of every head's z, through the gain of a sandwich norm: [n, n_heads, d_head]."""
    return torch.einsum("nd,hed->nhe", before_post_norm(readers, circuits), circuits.W_O)


def before_post_norm(readers: Tensor, circuits: LayerCircuits) -> Tensor:
    """The directions [..., d] that what the attention gives is read by, so that a sandwich norm's scale is all it lacks."""
    norm = circuits.post_norm
    if norm is None:
        return readers
    readers = readers if norm.gain is None else readers * norm.gain
    return readers - readers.mean(-1, keepdim=True) if norm.kind == "layer" else readers


def post_scale(circuits: LayerCircuits, output: Tensor) -> Tensor:
    """The sandwich norm's inverse scale for what the attention gave [..., d]: [...]; 1 where there is none."""
    if circuits.post_norm is None:
        return torch.ones_like(output[..., 0])
    return frozen_scale(circuits.post_norm, output)
