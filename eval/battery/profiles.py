"""Where heads attend in texts, whatever the tokens are: sinks, fixed offsets, neighbourhoods, themselves.

Measured on natural text and on random words that do not repeat; a unit is a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits
from describe.subject.running import LayerTrace
from eval.inference.attribution import values_of

Floats = NDArray[np.float64]
OFFSETS = 9
"""Offsets 0 (the token itself) to 8 that a positional head may keep."""
NEAR = 8  # tokens, the query's own among them, that a local head reads (taxonomy, 2.17)
FROM = 16  # first query: with fewer visible keys a neighbourhood is the whole text


@dataclass(frozen=True)
class Profiles:
    """What heads do in texts; each array is [n_texts, n_layers, n_heads], `offsets` has one more axis first."""

    first: Floats  # mean attention on the first token
    first_chance: Floats  # the same if attention were even
    itself: Floats  # mean attention on the query's own token
    previous: Floats
    near: Floats  # share, of what is not on the first token, within NEAR tokens
    near_chance: Floats
    offsets: (
        Floats  # [OFFSETS, …]: share of queries whose strongest key, the first aside, stands at that offset
    )
    distance: Floats  # mean distance in tokens, the first token aside
    entropy: Floats  # of the pattern, in bits
    rest: (
        Floats  # length of what the head writes from the first token, over that of its mean write from others
    )

    @classmethod
    def joined(cls, parts: Sequence[Profiles]) -> Profiles:
        """Those of several batches, in their order."""
        return cls(
            **{
                name: np.concatenate([getattr(part, name) for part in parts], axis=int(name == "offsets"))
                for name in cls.__dataclass_fields__
            }
        )


def profiles(traces: Sequence[LayerTrace], circuits: Callable[[int], LayerCircuits]) -> Profiles:
    """The profiles of a batch of texts of one length, from what every layer did with them."""
    rows = [
        _of_layer(trace.attention.cpu()) | {"rest": _rest(circuits(layer), trace.states)}
        for layer, trace in enumerate(traces)
    ]
    stacked = {name: np.stack([row[name] for row in rows], axis=-2) for name in rows[0]}
    return Profiles(**stacked)


def _of_layer(attention: Tensor) -> dict[str, Floats]:
    """Of patterns [n, h, t, t]: means over the queries from `FROM` on, [n, h]."""
    n, n_heads, size, _ = attention.shape
    begin = min(FROM, size // 2)
    pattern = attention[:, :, begin:].double()
    query, key = torch.arange(begin, size)[:, None], torch.arange(size)[None, :]
    distance = query - key
    words = pattern.clone()
    words[..., 0] = 0
    total = words.sum(-1).clamp_min(1e-6)
    strongest = (query[:, 0] - words.argmax(-1))[..., None] == torch.arange(OFFSETS)
    logs = torch.where(pattern > 0, pattern, torch.ones_like(pattern)).log2()
    even = torch.full((n, n_heads), 1.0, dtype=torch.float64)
    found = {
        "first": pattern[..., 0].mean(-1),
        "first_chance": even * (1 / (query + 1)).mean(),
        "itself": (pattern * (distance == 0)).sum(-1).mean(-1),
        "previous": (pattern * (distance == 1)).sum(-1).mean(-1),
        "near": ((words * (distance < NEAR)).sum(-1) / total).mean(-1),
        "near_chance": even * (NEAR / query).clamp_max(1).mean(),
        "distance": ((words * distance).sum(-1) / total).mean(-1),
        "entropy": -(pattern * logs).sum(-1).mean(-1),
        "offsets": strongest.double().mean(2).movedim(-1, 0),
    }
    return {name: value.numpy() for name, value in found.items()}


def _rest(circuits: LayerCircuits, states: Tensor) -> Floats:
    """‖v_0 W_O‖ / mean ‖v_j W_O‖ over the other tokens: [n, h] (taxonomy, 2.23: a sink whose value does nothing)."""
    values = values_of(circuits, states)
    gram = circuits.W_O @ circuits.W_O.transpose(1, 2)
    lengths = torch.einsum("bthe,hef,bthf->bth", values, gram, values).clamp_min(0).sqrt().double()
    found: Floats = (lengths[:, 0] / lengths[:, 1:].mean(1).clamp_min(1e-12)).cpu().numpy()
    return found
