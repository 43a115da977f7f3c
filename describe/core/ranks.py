"""Which targets head a source's row of M, for thousands of sources of every head: what relation scores rest on.

A relation is scored from the first and last `n` targets of its sources' rows. These lists hold the rank of
every target that counts (method, section 4), so rows are searched once for all relations, every k, both
directions, and the exact null; M is never sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from describe.core import halves
from describe.core.halves import ACCUMULATION, SAFETY, UNIT_ROUNDOFF, HalfRows
from describe.core.projection import GROUP, best_entries, top_targets
from describe.core.spaces import FoldedLayer, ValueSpace

SPARE = 8
"""Targets kept beyond those asked for, so that a tie across the end of the list shows."""
ROWS_PER_BLOCK = 1024
SAMPLE = 2048
"""Targets that a single candidate is first held against."""


@dataclass(frozen=True)
class HeadFactors:
    """One head with M (or z) factored: `sources` [R, e] · `targets` [V, e]ᵀ, e ≤ d_head."""

    sources: Tensor
    targets: Tensor

    @cached_property
    def half_targets(self) -> HalfRows | None:
        """The targets in bfloat16, where products of these are fast; else None."""
        targets = self.targets
        fast = halves.supported(targets.device) and targets.dtype == torch.float32
        return HalfRows.of(targets) if fast else None


class LayerFactors:
    """The factors of a layer's heads for chosen source rows.

    Args:
        space: rows that the layer's W_V reads; its mean and covariance are over the eligible vocabulary.
        layer: the folded circuits.
        U: eligible unembedding rows [V, d].
        states: the chosen rows [R, d_in], in the space's coordinates.
        centred: subtract the vocabulary-mean row.
        standardised: divide each target by σ_t, so that entries are z.
    """

    def __init__(
        self,
        space: ValueSpace,
        layer: FoldedLayer,
        U: Tensor,
        states: Tensor,
        *,
        centred: bool,
        standardised: bool,
    ) -> None:
        self.layer, self.U = layer, U
        values = (states - space.mean if centred else states) @ layer.W_V
        self._values = values if centred else values + layer.offset[:, None, :]
        self._roots = _covariance_roots(space, layer) if standardised else None

    def head(self, head: int) -> HeadFactors:
        """The factors of one head.

        With z, the values are put into the basis where their covariance over the vocabulary is the identity:
        a target's length is then its σ_t (method, section 2), and z is a product with targets of length 1.
        """
        kv = head // self.layer.group
        values, W_O = self._values[kv], self.layer.W_O[head]
        if self._roots is None:
            return HeadFactors(values, self.U @ W_O.T)
        to_white, from_white = self._roots
        targets = self.U @ (W_O.T @ from_white[kv])
        scale = torch.linalg.vector_norm(targets, dim=1)
        floor = 1e-6 * scale.mean().clamp_min(torch.finfo(scale.dtype).tiny)
        return HeadFactors(values @ to_white[kv], targets.div_(scale.clamp_min(floor)[:, None]))


def _covariance_roots(space: ValueSpace, layer: FoldedLayer) -> tuple[Tensor, Tensor]:
    """(C^{-1/2}, C^{1/2}) up to rotation, [n_kv, d_head, d_head], of C = W_Vᵀ Cov(states) W_V."""
    W_V = layer.W_V.double()
    eigenvalues, vectors = torch.linalg.eigh(W_V.mT @ space.covariance.to(W_V.device) @ W_V)
    # Directions without variance carry nothing of a centred row; their inverse would only carry rounding.
    floor = 1e-12 * eigenvalues[:, -1:].clamp_min(torch.finfo(torch.float64).tiny)
    roots = eigenvalues.clamp_min(0).sqrt()
    inverse = torch.where(eigenvalues > floor, 1 / roots.clamp_min(1e-300), 0)
    dtype = space.states.dtype
    return (vectors * inverse[:, None, :]).to(dtype), (vectors * roots[:, None, :]).to(dtype)


def first_and_last(factors: HeadFactors, n: int) -> tuple[Tensor, Tensor]:
    """The n highest and the n lowest targets of each row, best first: (promoted, suppressed), [R, n] int64.

    Equal entries stand in the order of their positions, as in a stable sort of the whole row.
    """
    sources, targets = factors.sources, factors.targets
    n = min(n, len(targets))
    found = [
        torch.empty(len(sources), n, dtype=torch.int64, device=sources.device) for _ in ("highest", "lowest")
    ]
    for begin in range(0, len(sources), ROWS_PER_BLOCK):
        part = slice(begin, begin + ROWS_PER_BLOCK)
        for side, best in zip(found, _filtered(sources[part], factors, n), strict=True):
            side[part] = best
    return found[0], found[1]


def _filtered(rows: Tensor, factors: HeadFactors, n: int) -> list[Tensor]:
    """`_in_order`, with the candidates of a row picked by bfloat16 products where these are fast.

    As in `projection.TargetSearch`: float32 decides among two or three times as many as are wanted, and rows
    where the error bound leaves room for others are computed in float32 altogether.
    """
    targets, u = factors.targets, factors.half_targets
    # The more products are in a sum, the more their rounding hides.
    width = 2 * n if targets.shape[1] <= 64 else 3 * n
    if u is None or len(targets) < 2 * GROUP * width:
        return _in_order(rows, targets, n)
    y = HalfRows.of(rows)
    lost = u.residuals.max() + ACCUMULATION * targets.shape[1] * u.lengths.max()
    error = SAFETY * (y.residuals * u.lengths.max() + y.lengths * lost)
    certain = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    answers = []
    for sign, part in zip((1, -1), best_entries(y.rows[None], u.rows, width), strict=True):
        candidates = part.positions[0].sort(dim=1).values  # so that a stable sort keeps ties in order
        exact = torch.bmm(targets[candidates], rows[:, :, None])[:, :, 0] * sign
        order = exact.sort(dim=1, descending=True, stable=True)
        answers.append(candidates.gather(1, order.indices[:, :n]))
        last = part.z[0, :, -1] * sign
        certain &= last + SAFETY * UNIT_ROUNDOFF * last.abs() + error < order.values[:, n - 1]
    left = (~certain).nonzero(as_tuple=True)[0]
    if len(left):
        for side, best in zip(answers, _in_order(rows[left], targets, n), strict=True):
            side[left] = best
    return answers


def _in_order(rows: Tensor, targets: Tensor, n: int) -> list[Tensor]:
    """The lists of rows [R, e], in the order of a stable sort."""
    more = min(n + SPARE, len(targets))
    answers = []
    for sign, top in zip((1, -1), top_targets(rows[None], targets, more), strict=True):
        positions, order = top.positions[0].sort(dim=1)
        values = (top.logits[0] * sign).gather(1, order)
        best = values.sort(dim=1, descending=True, stable=True)
        chosen = positions.gather(1, best.indices[:, :n])
        if more < len(targets):
            # Ties that run on beyond the list: such rows are sorted whole, those of a dead head at once.
            tied = best.values[:, n - 1] == best.values[:, -1]
            dead = tied & (rows == 0).all(1)
            chosen[dead] = torch.arange(n, device=rows.device)
            for row in (tied & ~dead).nonzero(as_tuple=True)[0].tolist():
                whole = (rows[row] @ targets.T) * sign
                chosen[row] = whole.sort(descending=True, stable=True).indices[:n]
        answers.append(chosen)
    return answers


def single_ranks(
    factors: HeadFactors, rows: Tensor, candidates: Tensor, n: int, sample: Tensor
) -> tuple[Tensor, Tensor]:
    """How many targets stand before single candidates in their rows: from above and from below, [P] each.

    Counts of n and more are given as n. A `sample` of targets [S] rules most candidates out, cheaply: where n
    of the sample are above and n below, no whole row is needed.

    Args:
        factors: the head.
        rows: [P] source rows.
        candidates: [P] one target of each.
        n: how far the count goes.
        sample: positions of some targets, n at least.
    """
    before = [torch.full((len(rows),), n, dtype=torch.int64, device=rows.device) for _ in ("above", "below")]
    for begin in range(0, len(rows), ROWS_PER_BLOCK):
        part = slice(begin, begin + ROWS_PER_BLOCK)
        a, own = factors.sources[rows[part]], candidates[part]
        entries = (a * factors.targets[own]).sum(1, keepdim=True)
        seen = a @ factors.targets[sample].T
        # A hair's breadth, since the candidate's own entry comes from another product than the sample's.
        slack = 1e-5 * seen.abs().amax(1, keepdim=True)
        possible = ((seen > entries + slack).sum(1) < n) | ((seen < entries - slack).sum(1) < n)
        left = possible.nonzero(as_tuple=True)[0]
        distinct, which = rows[part][left].unique(return_inverse=True)
        lists = first_and_last(HeadFactors(factors.sources[distinct], factors.targets), n)
        for side, listed in zip(before, lists, strict=True):
            found = listed[which] == own[left, None]
            side[begin + left] = torch.where(found.any(1), found.int().argmax(1), n)
    return before[0], before[1]
