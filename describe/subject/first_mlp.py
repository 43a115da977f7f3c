"""MLP0(LN2(E)) straight from its tensors, for the models whose first MLP is plainly gated.

`block0` runs every model's first MLP with transformers' own code. Loading that code takes three seconds, as
long as the matrices themselves take for a small model; so the most common form is written down here, in
float32 only. The tests hold it against transformers for every model type it serves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from describe.protocols import TensorStore
from describe.subject.weights import Layout, mlp_norm, read_tensor

_GATED = frozenset(("llama", "mistral", "qwen2", "qwen3", "smollm3"))
_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def gated_first_mlp(layout: Layout, store: TensorStore) -> Callable[[Tensor], Tensor] | None:
    """The function from rows of W_E [n, d] to MLP0(LN2(E)) [n, d], float32 on the CPU.

    Returns:
        None where the first MLP is of another form (experts, biases, another activation).

    Raises:
        InputError: a tensor is missing, misshapen or damaged.
    """
    if layout.config.model_type not in _GATED or layout.config.hidden_act != "silu":
        return None
    stem = layout.in_layer(0, "mlp.")
    names = {name for name in store.names() if name.startswith(stem)}
    if names != {f"{stem}{part}.weight" for part in _PROJECTIONS}:
        return None
    d, wide = layout.shape.d_model, int(layout.config.intermediate_size)
    W_gate, W_up, W_down = (
        read_tensor(store, f"{stem}{part}.weight", shape, torch.float32).T
        for part, shape in zip(_PROJECTIONS, ((wide, d), (wide, d), (d, wide)), strict=True)
    )
    norm = mlp_norm(layout, store, 0)

    def first_mlp(rows: Tensor) -> Tensor:
        rows = norm(rows)
        gate = torch.nn.functional.silu(rows @ W_gate, inplace=True)
        return gate.mul_(rows @ W_up) @ W_down

    return first_mlp
