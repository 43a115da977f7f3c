"""The whole map of a head, streamed: the top-k targets of every source, and the exact best pairs of all.

Neither ever holds V × V: the first keeps V × k, the second N pairs, pruned by norm bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core.projection import TopTargets, top_targets
from describe.core.spaces import FoldedLayer, ValueSpace


@dataclass(frozen=True)
class Pairs:
    """The N highest entries of M, best first: M[sources[i], targets[i]] = logits[i]."""

    sources: Tensor  # [N] positions among the eligible sources
    targets: Tensor  # [N] positions among the eligible targets
    logits: Tensor  # [N]


def head_values(space: ValueSpace, layer: FoldedLayer, head: int, centred: bool) -> Tensor:
    """The values of every eligible source for one head, [n, d_head]."""
    kv = head // layer.group
    values = space.states @ layer.W_V[kv]
    return values - space.mean @ layer.W_V[kv] if centred else values + layer.offset[kv]


def all_top_targets(
    space: ValueSpace,
    layer: FoldedLayer,
    head: int,
    U: Tensor,
    n: int,
    centred: bool,
    scale: Tensor | None = None,
    rows_per_tile: int = 512,
) -> Iterator[tuple[int, TopTargets, TopTargets]]:
    """The n best targets of every source of one head, tile after tile: (first source, promoted, suppressed).

    `scale` is σ_t [V] of this head. B = W_O U is formed once (V·d_head), so a tile costs rows·V·d_head.
    """
    values = head_values(space, layer, head, centred)
    B = U @ layer.W_O[head].T
    columns = None if scale is None else scale[None, :]
    for begin in range(0, len(values), rows_per_tile):
        tile = values[None, begin : begin + rows_per_tile]
        promoted, suppressed = top_targets(tile, B, n, columns)
        yield (
            begin,
            TopTargets(promoted.positions[0], promoted.logits[0], promoted.z[0]),
            TopTargets(suppressed.positions[0], suppressed.logits[0], suppressed.z[0]),
        )


def top_pairs(
    space: ValueSpace,
    layer: FoldedLayer,
    head: int,
    U: Tensor,
    n: int,
    centred: bool,
    rows_per_tile: int = 1024,
    columns_per_tile: int = 4096,
) -> tuple[Pairs, float]:
    """The exact N highest entries of M of one head, and the share of M that had to be computed.

    M[s, t] = a_s · b_t with a = values, b = U W_Oᵀ; in an orthonormal basis of the head's output space the
    bound |a_s||b_t| is tight, so both sides are rotated by the root of W_O W_Oᵀ's Gram matrix first. Rows and
    columns are sorted by length; a tile whose product of greatest lengths is below the N-th best found so
    far cannot hold a better pair and is skipped.
    """
    values = head_values(space, layer, head, centred)
    # QR of W_Oᵀ: W_O = Rᵀ Qᵀ, so M = (values Rᵀ)(Qᵀ U): the rotation gives the shortest vectors on both sides.
    Q, R = torch.linalg.qr(layer.W_O[head].T.double())
    a = values @ R.T.to(values.dtype)
    b = U @ Q.to(U.dtype)
    a_lengths, a_order = a.norm(dim=1).sort(descending=True)
    b_lengths, b_order = b.norm(dim=1).sort(descending=True)
    a, b = a[a_order], b[b_order]
    # A margin for float32 rounding of the lengths and of the product itself.
    slack = 1 + 1e-5
    n = min(n, len(a) * len(b))
    best = a.new_full((n,), -torch.inf)
    where = torch.zeros(n, dtype=torch.int64, device=a.device)
    computed = 0
    for i in range(0, len(a), rows_per_tile):
        for j in range(0, len(b), columns_per_tile):
            if float(a_lengths[i] * b_lengths[j]) * slack < float(best[-1]):
                break  # every later column is shorter still
            tile = a[i : i + rows_per_tile] @ b[j : j + columns_per_tile].T
            computed += tile.numel()
            rows, columns = (tile > best[-1]).nonzero(as_tuple=True)
            if len(rows) == 0:
                continue
            found = tile[rows, columns]
            joined = torch.cat([best, found])
            keys = torch.cat([where, (rows + i) * len(b) + columns + j])
            top = joined.topk(n)
            best, where = top.values, keys[top.indices]
    pairs = Pairs(a_order[where // len(b)], b_order[where % len(b)], best)
    return pairs, computed / (len(a) * len(b))
