"""Heads in vocabulary space: the top targets of chosen source tokens, both directions, in one pass over U.

M = S W_V W_O U (method, opening) is never formed: rows of the chosen sources meet the vocabulary in tiles,
and only the best of each tile are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core.spaces import FoldedLayer, ValueSpace

COLUMNS_PER_TILE = 4096
GROUP = 64
"""Columns per group: only groups whose maximum is among the best are searched by `topk`."""


@dataclass(frozen=True)
class TopTargets:
    """The n best targets of each row, best first; `positions` index the eligible targets."""

    positions: Tensor  # [..., n] int64
    logits: Tensor  # [..., n]: M[s, t]
    z: Tensor  # [..., n]: (M[s, t] − μ_t) / σ_t; the logit itself when targets are not standardised


def target_scale(space: ValueSpace, layer: FoldedLayer, U: Tensor) -> Tensor:
    """σ_t of every head and target over all eligible sources: [n_heads, V].

    σ_t² = B_tᵀ Cov(A) B_t with B = W_O U and Cov(A) = W_Vᵀ Cov(states) W_V (method, section 2): exact, at
    V·d·d_head per head, without the rows of M.
    """
    W_V = layer.W_V.double()
    covariance = W_V.mT @ space.covariance.to(W_V.device) @ W_V
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    roots = (vectors * eigenvalues.clamp_min(0).sqrt()[:, None, :]).to(U.dtype)
    n_heads, d_head, d = layer.W_O.shape
    factors = (layer.W_O.mT @ roots.repeat_interleave(layer.group, 0)).permute(1, 0, 2)
    wide = factors.reshape(d, n_heads * d_head)
    scale = U.new_empty(n_heads, len(U))
    for begin in range(0, len(U), COLUMNS_PER_TILE // 4):
        tile = U[begin : begin + COLUMNS_PER_TILE // 4]
        lengths = torch.linalg.vector_norm((tile @ wide).view(len(tile), n_heads, d_head), dim=2)
        scale[:, begin : begin + len(tile)] = lengths.T
    floor = 1e-6 * scale.mean(1, keepdim=True).clamp_min(torch.finfo(scale.dtype).tiny)
    return scale.clamp_min(floor)


def written_rows(space: ValueSpace, layer: FoldedLayer, positions: Tensor, centred: bool) -> Tensor:
    """What each head writes when it attends to its chosen sources: positions [n_heads, k] → [n_heads, k, d]."""
    kv_of = torch.arange(len(positions), device=positions.device) // layer.group
    states = space.states[positions]
    if centred:
        states = states - space.mean
    values = states @ layer.W_V[kv_of]
    if not centred:
        values = values + layer.offset[kv_of][:, None, :]
    return values @ layer.W_O


def constant_row(space: ValueSpace, layer: FoldedLayer) -> Tensor:
    """What each head writes whatever it reads: the mean source's output with the value bias, [n_heads, d]."""
    kv_of = torch.arange(len(layer.W_O), device=layer.W_O.device) // layer.group
    values = space.mean @ layer.W_V[kv_of] + layer.offset[kv_of]
    return torch.einsum("he,hed->hd", values, layer.W_O)


def top_targets(
    rows: Tensor, U: Tensor, n: int, scale: Tensor | None = None
) -> tuple[TopTargets, TopTargets]:
    """The n highest and the n lowest entries of each row of M, exactly.

    Args:
        rows: what is written, [n_heads, k, d].
        U: eligible unembedding rows, [V, d].
        n: targets to keep; at most V.
        scale: σ_t [n_heads, V]; the ranking is by z when given, by logit otherwise.

    Returns:
        (promoted, suppressed), each [n_heads, k, n], best first (for suppressed: lowest first).
    """
    n_heads, k, d = rows.shape
    n = min(n, len(U))
    flat = rows.reshape(n_heads * k, d)
    kept: tuple[list[tuple[Tensor, Tensor, Tensor]], ...] = ([], [])
    for begin, logits in _logit_tiles(flat, U):
        z = logits
        if scale is not None:
            columns = scale[:, begin : begin + logits.shape[1]]
            z = (logits.view(n_heads, k, -1) / columns[:, None, :]).view(n_heads * k, -1)
        for side, sign in enumerate((1, -1)):
            values, where = _tile_top(z, n, sign)
            kept[side].append((values, where + begin, logits.gather(1, where)))
    return _merge(kept[0], n, 1, (n_heads, k)), _merge(kept[1], n, -1, (n_heads, k))


def _logit_tiles(flat: Tensor, U: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Products of all rows with successive column tiles; one buffer serves every full tile."""
    buffer = flat.new_empty(len(flat), min(COLUMNS_PER_TILE, len(U)))
    for begin in range(0, len(U), COLUMNS_PER_TILE):
        tile = U[begin : begin + COLUMNS_PER_TILE]
        if len(tile) == buffer.shape[1]:
            yield begin, torch.mm(flat, tile.T, out=buffer)
        else:
            yield begin, flat @ tile.T


def _tile_top(z: Tensor, n: int, sign: int) -> tuple[Tensor, Tensor]:
    """The n highest (sign 1) or lowest (sign −1) of each row of a tile, in no order: (values, columns).

    The n best entries lie in the n groups with the best maxima, so `topk`, ten times slower than a maximum,
    sees n groups and not the tile.
    """
    rows, columns = z.shape
    if columns % GROUP or columns <= n * GROUP:
        top = z.topk(min(n, columns), dim=1, largest=sign > 0)
        return top.values, top.indices
    grouped = z.view(rows, columns // GROUP, GROUP)
    maxima = grouped.amax(2) if sign > 0 else grouped.amin(2)
    groups = maxima.topk(n, dim=1, largest=sign > 0).indices
    inside = grouped.gather(1, groups[:, :, None].expand(-1, -1, GROUP)).view(rows, n * GROUP)
    top = inside.topk(n, dim=1, largest=sign > 0)
    where = groups.gather(1, top.indices // GROUP) * GROUP + top.indices % GROUP
    return top.values, where


def _merge(
    kept: list[tuple[Tensor, Tensor, Tensor]], n: int, sign: int, shape: tuple[int, int]
) -> TopTargets:
    values, where, logits = (torch.cat(parts, dim=1) for parts in zip(*kept, strict=True))
    top = values.topk(n, dim=1, largest=sign > 0)
    return TopTargets(
        positions=where.gather(1, top.indices).view(*shape, n),
        logits=logits.gather(1, top.indices).view(*shape, n),
        z=top.values.view(*shape, n),
    )
