"""Heads in vocabulary space: the top targets of chosen source tokens, both directions, in one pass over U.

M = S W_V W_O U (method, opening) is never formed: rows of the chosen sources meet the vocabulary in tiles,
and only the best groups of columns are searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from describe.core import halves
from describe.core.halves import ACCUMULATION, SAFETY, UNIT_ROUNDOFF, HalfRows
from describe.core.spaces import FoldedLayer, ValueSpace

COLUMNS_PER_TILE = 4096
GROUP = 64
"""Columns per group: only groups whose maximum is among the best are searched by `topk`."""
KEPT_BYTES = 2**25
"""Logits kept at a time between the products and the search: few enough to stay in cache."""
CANDIDATES = 32
"""Targets that the bfloat16 filter hands to float32 for each row and direction; twice as many for z, whose
errors are larger."""


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
    n_heads, k = positions.shape
    states = space.states[positions]
    if centred:
        states = states - space.mean
    # The heads of a group side by side: W_V is shared and need not be copied for each.
    values = states.view(len(layer.W_V), layer.group * k, -1) @ layer.W_V
    if not centred:
        values = values + layer.offset[:, None, :]
    return values.view(n_heads, k, -1) @ layer.W_O


def constant_row(space: ValueSpace, layer: FoldedLayer) -> Tensor:
    """What each head writes whatever it reads: the mean source's output with the value bias, [n_heads, d]."""
    values = (space.mean @ layer.W_V + layer.offset).repeat_interleave(layer.group, 0)
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
    promoted, suppressed = best_entries(rows, U, min(n, len(U)), scale)
    return promoted, suppressed


class TargetSearch:
    """`top_targets` for one unembedding many times: faster where bfloat16 products are, and as exact.

    The filter takes the best few targets of a row by bfloat16 logits; float32 logits of these decide. A row
    where the error bound leaves room for a target outside the few is computed in float32 altogether.
    """

    def __init__(self, U: Tensor) -> None:
        """Prepare the search among eligible unembedding rows `U` [V, d]."""
        self.U = U
        self.n_certain = 0  # rows and directions that the filter settled
        self.n_uncertain = 0  # … and that it did not
        fits = U.dtype == torch.float32 and len(U) >= GROUP * CANDIDATES
        self._half = HalfRows.of(U) if fits and halves.supported(U.device) else None
        self._scratch = _Scratch()

    def top(self, rows: Tensor, n: int, scale: Tensor | None = None) -> tuple[TopTargets, TopTargets]:
        """As `top_targets(rows, U, n, scale)`, except for order among values within float32 rounding."""
        if self._half is None or 4 * n > CANDIDATES:
            return top_targets(rows, self.U, n, scale)
        n_heads, k, d = rows.shape
        y = HalfRows.of(rows.reshape(-1, d))
        width = CANDIDATES if scale is None else 2 * CANDIDATES
        rough = best_entries(
            y.rows.view(n_heads, k, d), self._half.rows, min(width, len(self.U)), scale, self._scratch
        )
        error = self._error(y, scale, n_heads)
        certain = torch.ones(n_heads * k, dtype=torch.bool, device=rows.device)
        answers = []
        for sign, found in zip((1, -1), rough, strict=True):
            exact = self._rescored(rows, found, n, sign, scale)
            last = found.z[..., -1].reshape(-1) * sign
            # Nothing outside the candidates exceeds the last of them by more than the error.
            bound = last + SAFETY * UNIT_ROUNDOFF * last.abs() + error
            certain &= bound < exact.z[..., -1].reshape(-1) * sign
            answers.append(exact)
        self.n_certain += int(certain.sum())
        self.n_uncertain += int((~certain).sum())
        promoted, suppressed = answers
        if not certain.all():
            self._settle((~certain).nonzero(as_tuple=True)[0], rows, n, scale, (promoted, suppressed))
        return promoted, suppressed

    def _error(self, y: HalfRows, scale: Tensor | None, n_heads: int) -> Tensor:
        """Bound on |exact − bfloat16| of every z of a row, output rounding aside: [n_heads · k].

        |y·u − ŷ·û| ≤ ‖y − ŷ‖‖u‖ + ‖ŷ‖‖u − û‖, and the sum of d products errs by at most d·2⁻²³‖ŷ‖‖û‖.
        """
        assert self._half is not None
        u = self._half
        longest, lost = (
            (part.max()[None] if scale is None else (part / scale).amax(1))
            for part in (u.lengths, u.residuals)
        )
        repeat = len(y.lengths) // len(longest)
        longest, lost = longest.repeat_interleave(repeat), lost.repeat_interleave(repeat)
        sums = ACCUMULATION * self.U.shape[1]
        return SAFETY * (y.residuals * longest + y.lengths * (lost + sums * longest))

    def _rescored(
        self, rows: Tensor, found: TopTargets, n: int, sign: int, scale: Tensor | None
    ) -> TopTargets:
        """The n best of the found by float32 logits."""
        logits = torch.empty_like(found.z)
        for head, positions in enumerate(found.positions):
            # The rows of a head share most of their candidates: each is fetched once.
            distinct, inverse = positions.unique(return_inverse=True)
            logits[head] = (rows[head] @ self.U.index_select(0, distinct).T).gather(1, inverse)
        z = logits if scale is None else logits / scale.gather(1, found.positions.flatten(1)).view_as(logits)
        top = z.topk(n, dim=2, largest=sign > 0)
        return TopTargets(found.positions.gather(2, top.indices), logits.gather(2, top.indices), top.values)

    def _settle(
        self,
        which: Tensor,
        rows: Tensor,
        n: int,
        scale: Tensor | None,
        answers: tuple[TopTargets, TopTargets],
    ) -> None:
        """Put the float32 answers of the rows `which` (flat positions) in place."""
        k = rows.shape[1]
        heads = which // k
        single = rows.reshape(-1, rows.shape[2])[which][:, None]
        if scale is None:
            settled = top_targets(single.transpose(0, 1), self.U, n)
        else:
            settled = top_targets(single, self.U, n, scale[heads])
        for old, new in zip(answers, settled, strict=True):
            for name in ("positions", "logits", "z"):
                getattr(old, name)[heads, which % k] = getattr(new, name).view(len(which), n)


class _Scratch:
    """Memory for kept logits that is used again and again: taken anew each time, it would break up the heap."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uninitialised [*shape] in the dtype and on the device of `like`; valid until the next call."""
        size = prod(shape)
        if self._memory is None or self._memory.numel() < size:
            self._memory = None  # frees the old before the new is made
            self._memory = like.new_empty(size)
        return self._memory[:size].view(shape)


def best_entries(
    rows: Tensor, U: Tensor, n: int, scale: Tensor | None = None, scratch: _Scratch | None = None
) -> tuple[TopTargets, TopTargets]:
    """The n best of both directions by logits (or z) in the dtype of rows and U; z is float32 or better.

    Rows are taken in blocks, so that a block's logits fit in `KEPT_BYTES`.
    """
    n_heads, k, _ = rows.shape
    scratch = scratch or _Scratch()
    fit = max(1, KEPT_BYTES // (len(U) * rows.element_size()))
    heads, per_head = (max(1, fit // k), k) if fit >= k else (1, fit)
    sides: tuple[list[TopTargets], list[TopTargets]] = ([], [])
    for head in range(0, n_heads, heads):
        block_scale = None if scale is None else scale[head : head + heads]
        parts = [
            _best_of_block(rows[head : head + heads, begin : begin + per_head], U, n, block_scale, scratch)
            for begin in range(0, k, per_head)
        ]
        for side, found in zip(sides, zip(*parts, strict=True), strict=True):
            side.append(_joined(found, 1))
    return _joined(sides[0], 0), _joined(sides[1], 0)


def _joined(parts: Sequence[TopTargets], dim: int) -> TopTargets:
    if len(parts) == 1:
        return parts[0]
    return TopTargets(
        *(torch.cat([getattr(one, f) for one in parts], dim) for f in ("positions", "logits", "z"))
    )


def _best_of_block(
    rows: Tensor, U: Tensor, n: int, scale: Tensor | None, scratch: _Scratch
) -> tuple[TopTargets, TopTargets]:
    """`best_entries` for rows whose logits are all kept: [n_tiles, rows, columns of a tile].

    The n best entries lie in the n groups with the best maxima. So the passes over all logits are two
    reductions, on tiles that are in cache, and `topk`, ten times slower, sees n groups of a row.
    """
    n_heads, k, d = rows.shape
    flat = rows.reshape(-1, d)
    width = min(COLUMNS_PER_TILE, -(-len(U) // GROUP) * GROUP)
    n_tiles = -(-len(U) // width)
    kept = scratch.take((n_tiles, len(flat), width), flat)
    wide = torch.promote_types(rows.dtype, torch.float32)
    extremes = [flat.new_empty(len(flat), n_tiles, width // GROUP, dtype=wide) for _ in range(2)]
    for index, tile in enumerate(kept):
        columns = U[index * width : (index + 1) * width]
        if len(columns) == width:
            torch.mm(flat, columns.T, out=tile)
        else:
            tile[:, : len(columns)] = flat @ columns.T
        z = tile.to(wide)
        if scale is not None:
            part = scale[:, None, index * width : (index + 1) * width]
            z = z.clone() if z is tile else z
            z.view(n_heads, k, width)[..., : len(columns)] /= part
        for extreme, sign in zip(extremes, (1, -1), strict=True):
            z[:, len(columns) :] = -sign * torch.inf
            grouped = z.view(len(flat), -1, GROUP)
            extreme[:, index] = grouped.amax(2) if sign > 0 else grouped.amin(2)
    return (
        _best_in_groups(kept, extremes[0], n, 1, scale, (n_heads, k, len(U))),
        _best_in_groups(kept, extremes[1], n, -1, scale, (n_heads, k, len(U))),
    )


def _best_in_groups(
    kept: Tensor, extreme: Tensor, n: int, sign: int, scale: Tensor | None, shape: tuple[int, int, int]
) -> TopTargets:
    n_heads, k, n_targets = shape
    per_tile = extreme.shape[2]
    flat = extreme.flatten(1)
    groups = flat.topk(min(n, flat.shape[1]), dim=1, largest=sign > 0, sorted=False).indices
    row = torch.arange(len(flat), device=flat.device)[:, None]
    # Where a group lies in `kept`; index_select copies whole groups, which indexing would do number by number.
    places = (groups // per_tile * len(flat) + row) * per_tile + groups % per_tile
    logits = kept.view(-1, GROUP).index_select(0, places.flatten()).view(len(flat), -1)
    logits = logits.to(flat.dtype)
    where = (groups[:, :, None] * GROUP + torch.arange(GROUP, device=flat.device)).flatten(1)
    z = logits
    if scale is not None:
        z = logits / scale[row // k, where.clamp_max(n_targets - 1)]
    z = z.masked_fill(where >= n_targets, -sign * torch.inf)
    top = z.topk(n, dim=1, largest=sign > 0)
    return TopTargets(
        positions=where.gather(1, top.indices).view(n_heads, k, n),
        logits=logits.gather(1, top.indices).view(n_heads, k, n),
        z=top.values.view(n_heads, k, n),
    )
