"""What the heads read and write against: source states and the unembedding, prepared once for many layers.

Folding is exact algebra. A norm's gain and bias move into W_V, the final norm's gain into U, so that the
vocabulary-sized matrices are touched once per model and not once per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.core.halves import HalfRows

ROWS_PER_TILE = 1024
"""Rows of a product at a time: small enough to stay in cache, where CPU products run at full speed."""


@dataclass(frozen=True)
class ValueSpace:
    """The rows that W_V multiplies, with what is derived from them, each computed when first asked for.

    `states` [n, d_in] are the eligible source rows, normalised if the settings ask for it but without any
    gain; `norms` [n] their lengths.
    """

    states: Tensor
    norms: Tensor

    @classmethod
    def of(cls, states: Tensor) -> ValueSpace:
        """The space of rows `states` [n, d_in]."""
        return cls(states=states, norms=torch.linalg.vector_norm(states, dim=1))

    @cached_property
    def mean(self) -> Tensor:
        """Mean row [d_in], accumulated in float64."""
        total = torch.zeros(self.states.shape[1], dtype=torch.float64, device=self.states.device)
        for tile in self.states.split(ROWS_PER_TILE):
            total += tile.sum(0, dtype=torch.float64)
        return (total / len(self.states)).to(self.states.dtype)

    @cached_property
    def covariance(self) -> Tensor:
        """Covariance [d_in, d_in] of the rows, float64, accumulated over tiles in the dtype of the states."""
        width = self.states.shape[1]
        second = torch.zeros(width, width, dtype=torch.float64, device=self.states.device)
        for tile in self.states.split(ROWS_PER_TILE):
            centred = tile - self.mean
            second += (centred.T @ centred).double()
        return second / len(self.states)

    @cached_property
    def half_directions(self) -> HalfRows:
        """The rows scaled to length 1, in bfloat16: what the saliency filter reads."""
        return HalfRows.of(self.states, self.norms)


def normalised(states: Tensor, norm: Norm) -> Tensor:
    """`states` [n, d] through `norm` without its gain and bias, tile by tile; a new tensor."""
    bare = Norm(norm.kind, None, None, norm.eps)
    if norm.kind == "none":
        return states
    out = torch.empty_like(states)
    for begin in range(0, len(states), ROWS_PER_TILE):
        out[begin : begin + ROWS_PER_TILE] = bare(states[begin : begin + ROWS_PER_TILE])
    return out


@dataclass(frozen=True)
class FoldedLayer:
    """A layer's circuits with every gain folded in: values = states @ W_V[kv] + offset[kv]."""

    W_V: Tensor  # [n_kv_heads, d_in, d_head]
    W_O: Tensor  # [n_heads, d_head, d]
    offset: Tensor  # [n_kv_heads, d_head]: norm bias through W_V, plus b_V

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.W_O.shape[0] // self.W_V.shape[0]


def fold_layer(circuits: LayerCircuits, gains: bool) -> FoldedLayer:
    """Fold the input norm's gain and bias into W_V, and a sandwich norm's gain into W_O (method, section 2).

    For latent attention the norm to fold is the one of the latent, since `W_down` stays a map of its own.
    """
    W_V, W_O = circuits.W_V, circuits.W_O
    offset = W_V.new_zeros(W_V.shape[0], W_V.shape[2])
    if circuits.W_down is not None:
        norm = circuits.down_norm
        use_bias = gains
        use_gain = True
    else:
        norm = circuits.input_norm
        use_bias = use_gain = gains
    if norm is not None and use_bias and norm.bias is not None:
        offset = offset + norm.bias @ W_V
    if norm is not None and use_gain and norm.gain is not None:
        W_V = W_V * norm.gain[:, None]
    if circuits.b_V is not None and gains:
        offset = offset + circuits.b_V
    if gains and circuits.post_norm is not None and circuits.post_norm.gain is not None:
        W_O = W_O * circuits.post_norm.gain
    return FoldedLayer(W_V=W_V, W_O=W_O, offset=offset)


def value_states(states: Tensor, circuits: LayerCircuits, gains: bool) -> Tensor:
    """The rows that the folded W_V multiplies: [n, d] → [n, d_in].

    Without latent attention this depends on the layer only through the kind and eps of its input norm, so a
    caller may keep the answer for the next layer; see `same_value_states`.
    """
    if circuits.W_down is None:
        return normalised(states, circuits.input_norm) if gains else states
    latent = states.new_empty(len(states), circuits.W_down.shape[1])
    for begin in range(0, len(states), ROWS_PER_TILE):
        tile = states[begin : begin + ROWS_PER_TILE]
        latent[begin : begin + ROWS_PER_TILE] = (
            circuits.input_norm(tile) if gains else tile
        ) @ circuits.W_down
    if gains and circuits.down_norm is not None:
        latent = normalised(latent, circuits.down_norm)
    return latent


def same_value_states(a: LayerCircuits, b: LayerCircuits, gains: bool) -> bool:
    """Whether two layers read the same `value_states` from the same source states."""
    if a.W_down is not None or b.W_down is not None:
        return False
    return not gains or (a.input_norm.kind, a.input_norm.eps) == (b.input_norm.kind, b.input_norm.eps)


def fold_unembedding(W_U_rows: Tensor, final_norm: Norm, gains: bool) -> Tensor:
    """The unembedding as rows [V, d] with the final norm's gain folded in; centred for a LayerNorm.

    A LayerNorm subtracts the mean of the residual stream over d, which for a frozen scale is the same as
    centring each row of the gained unembedding (method, section 2).
    """
    if not gains:
        return W_U_rows
    rows = W_U_rows if final_norm.gain is None else W_U_rows * final_norm.gain
    return rows - rows.mean(1, keepdim=True) if final_norm.kind == "layer" else rows
