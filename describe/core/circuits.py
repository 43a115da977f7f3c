"""The OV circuits of one layer, kept factored; grouped-query heads share W_V.

Row vectors throughout (method, opening): what query head h writes when it attends to a residual row x is
`value_inputs(x) @ W_V[kv_head(h)] @ W_O[h]`, up to biases.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """A normalisation over the last dimension, as the model applies it.

    `gain` already holds what multiplies the normalised row (Gemma's 1 + w is resolved by the loader).
    """

    kind: Literal["rms", "layer", "none"]
    gain: Tensor | None  # [d]
    bias: Tensor | None  # [d]
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise rows `x` [..., d]; same shape and dtype."""
        if self.kind == "none":
            return x
        if self.kind == "layer":
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        if self.gain is not None:
            x = x * self.gain
        return x if self.bias is None else x + self.bias

    def to(self, device: torch.device | str) -> Norm:
        """The same norm on a device."""
        gain, bias = (None if part is None else part.to(device) for part in (self.gain, self.bias))
        return Norm(self.kind, gain, bias, self.eps)


@dataclass(frozen=True)
class LayerCircuits:
    """What the core needs of one layer's attention; every tensor in the dtype the caller asked for.

    Multi-head latent attention (DeepSeek-V2) reads values through a shared low-rank projection with a norm
    of its own in the middle: `W_down` [d, rank] and `down_norm`; then `W_V` maps rank → d_head.
    """

    W_V: Tensor  # [n_kv_heads, d or rank, d_head]
    W_O: Tensor  # [n_heads, d_head, d]
    b_V: Tensor | None  # [n_kv_heads, d_head]
    b_O: Tensor | None  # [d]
    input_norm: Norm  # kind "none" where the attention reads the residual stream itself (OLMo-2)
    W_down: Tensor | None = None  # [d, rank]
    down_norm: Norm | None = None
    post_norm: Norm | None = None  # sandwich norm on the attention's output (Gemma-2/3, OLMo-2)

    @property
    def n_heads(self) -> int:
        """Query heads of the layer."""
        return self.W_O.shape[0]

    def to(self, device: torch.device | str) -> LayerCircuits:
        """The same circuits on a device."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if part is not None})

    def kv_head(self, head: int) -> int:
        """The KV head that query head `head` reads its values from."""
        return head // (self.W_O.shape[0] // self.W_V.shape[0])

    def value_inputs(self, S: Tensor, gains: bool = True) -> Tensor:
        """What W_V multiplies: rows `S` [n, d] → [n, d or rank].

        With `gains` False the norms are left out (the paper's raw circuit); a latent projection stays, with
        its norm's gain as a plain factor, since without it no rank-to-head map exists.
        """
        x = self.input_norm(S) if gains else S
        if self.W_down is None:
            return x
        x = x @ self.W_down
        if self.down_norm is None:
            return x
        if gains:
            return self.down_norm(x)
        return x if self.down_norm.gain is None else x * self.down_norm.gain

    def head_outputs(self, S: Tensor, head: int) -> Tensor:
        """What head `head` adds to the attention output when it attends to rows `S` alone: [n, d].

        Value bias included, output bias and post-norm left out: the oracle form, used by tests and checks.
        """
        kv = self.kv_head(head)
        values = self.value_inputs(S) @ self.W_V[kv]
        if self.b_V is not None:
            values = values + self.b_V[kv]
        return values @ self.W_O[head]
