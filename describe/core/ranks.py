"""Which targets head a source's row of M, for thousands of sources of every head: what relation scores rest on.

A relation is scored from the first and last `n` targets of its sources' rows. These lists hold the rank of
every target that counts (method, section 4), so rows are searched once for all relations, every k, both
directions, and the exact null; M is never sorted, and most of it is never computed: a row is given up as
soon as `n` targets are known to stand before all that were asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core import halves
from describe.core.factors import HeadFactors
from describe.core.halves import ACCUMULATION, SAFETY, UNIT_ROUNDOFF, HalfRows
from describe.core.projection import GROUP, top_targets

NOWHERE = -1
"""In place of a list: no target that was asked for is in it."""
COLUMNS_PER_TILE = 4096
ROWS_PER_BLOCK = 1024
MANY = 2 * COLUMNS_PER_TILE
"""Targets from which on a row is searched by parts; fewer are sorted whole."""
PILOT = 64
"""Rows whose first targets every other row is held against before it is searched."""
POPULAR_GROUP = 16
"""Popular targets per group: few, so that high ones seldom share one."""
MOST = 16
"""Candidates for each place of a list; rows where rounding leaves more are computed exactly as a whole."""
SPARE = 8
"""Targets kept beyond those asked for, so that a tie across the end of the list shows."""


def first_and_last(
    factors: HeadFactors, n: int, asked: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The n highest and the n lowest targets of each row, best first: (promoted, suppressed), [R, n] int64.

    Equal entries stand in the order of their positions, as in a stable sort of the whole row.

    Args:
        factors: the head.
        n: length of the lists.
        asked: highest and lowest entry of each row, [R] each, whose place is wanted (−∞ and ∞ where there is
            none). Rows where n targets stand before it may be `NOWHERE` altogether.
    """
    sources, targets = factors.sources, factors.targets
    n = min(n, len(targets))
    highest, lowest = asked or (sources.new_full((len(sources),), sign * torch.inf) for sign in (1, -1))
    if len(targets) < max(MANY, 2 * GROUP * n):
        whole = [_in_order(rows, targets, n) for rows in (sources, -sources)]
        return whole[0], whole[1]
    search = _Search(factors, n)
    return search.lists(sources, highest), search.lists(-sources, -lowest)


@dataclass
class _Tile:
    """Products of the rows of a block that were still alive with a tile of targets, and their maxima by group."""

    products: Tensor  # [A, groups, GROUP]
    maxima: Tensor  # [A, groups]
    place: Tensor  # [rows of the block] → [A], for the rows that were alive


class _Search:
    """The first n targets of rows of one head.

    Products are in bfloat16 where these are fast. What they cannot decide within their error bound is left to
    the dtype of the factors: the lists are the same.
    """

    def __init__(self, factors: HeadFactors, n: int) -> None:
        self._targets, self._n = factors.targets, n
        targets = factors.targets
        # Neighbours in the vocabulary are alike; spread out, every tile is a fair sample of the whole.
        n_tiles = -(-len(targets) // COLUMNS_PER_TILE)
        ids = torch.arange(len(targets), device=targets.device)
        self._order = torch.cat([ids[start::n_tiles] for start in range(n_tiles)])
        # Rows of zeros fill the last group: their products are above nothing that is asked here.
        spread = targets.new_zeros(-(-len(targets) // GROUP) * GROUP, targets.shape[1])
        torch.index_select(targets, 0, self._order, out=spread[: len(targets)])
        self._half = halves.supported(targets.device) and targets.dtype == torch.float32
        if self._half:
            rounded = HalfRows.of(spread)
            self._keys, self._longest, lost = rounded.rows, rounded.lengths.max(), rounded.residuals.max()
        else:
            self._keys, self._longest = spread, torch.linalg.vector_norm(spread, dim=1).max()
            lost = torch.zeros_like(self._longest)
        self._lost = lost + ACCUMULATION * targets.shape[1] * self._longest
        self._roundoff = UNIT_ROUNDOFF if self._half else 0.0

    def lists(self, rows: Tensor, asked: Tensor) -> Tensor:
        """The n highest targets of rows [R, e]; `NOWHERE` where n targets stand before `asked` [R]."""
        lists = torch.full((len(rows), self._n), NOWHERE, dtype=torch.int64, device=rows.device)
        wanted = (asked > -torch.inf).nonzero(as_tuple=True)[0]
        popular = self._popular(rows[wanted])
        for which in wanted.split(ROWS_PER_BLOCK):
            lists[which] = self._of_block(rows[which], asked[which], popular)
        return lists

    def _popular(self, rows: Tensor) -> Tensor:
        """Targets that head some of the rows, as they are multiplied: they are likely to head others too."""
        some = torch.linspace(0, len(rows) - 1, min(PILOT, len(rows)), device=rows.device).long()
        keys, _ = self._rounded(rows[some])
        products = self._products(keys, self._keys, GROUP)
        groups = self._values(products.amax(2)).topk(self._n, dim=1, sorted=False).indices
        best = products.gather(1, groups[:, :, None].expand(-1, -1, GROUP)).max(2).indices
        columns = (groups * GROUP + best).unique()
        popular = self._keys.new_zeros(-(-len(columns) // POPULAR_GROUP) * POPULAR_GROUP, self._keys.shape[1])
        popular[: len(columns)] = self._keys[columns]
        return popular

    def _of_block(self, rows: Tensor, asked: Tensor, popular: Tensor) -> Tensor:
        lists = torch.full((len(rows), self._n), NOWHERE, dtype=torch.int64, device=rows.device)
        keys, error = self._rounded(rows)
        # An entry is above `asked` for sure if its product is above this.
        alive, tiles = self._surviving(keys, (asked + 2 * error) * (1 + self._roundoff), popular)
        if not len(alive):
            return lists
        maxima = torch.cat([tile.maxima.index_select(0, tile.place[alive]) for tile in tiles], 1)
        last = self._values(maxima).topk(self._n, dim=1, sorted=False).values.amin(1)
        # The n-th best entry is at least `last` less its error; whatever may be as high is a candidate.
        least = (last * (1 - self._roundoff) - 2 * error[alive]) * (1 - self._roundoff)
        bits = self._bits(least, up=False)[:, None]
        unclear = (least <= 0) | ((maxima >= bits).sum(1) > MOST * self._n)
        row, column = self._candidates(tiles, alive, maxima, bits, ~unclear)
        unclear |= torch.bincount(row, minlength=len(alive)) > MOST * self._n
        keep = ~unclear[row]
        rows = rows[alive]
        found = self._exact(rows, row[keep], column[keep])
        left = unclear.nonzero(as_tuple=True)[0]
        if len(left):
            found[left] = _in_order(rows[left], self._targets, self._n)
        lists[alive] = found
        return lists

    def _rounded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows as they are multiplied, and the bound on each row's errors before the product is rounded."""
        if not self._half:
            return rows, SAFETY * torch.linalg.vector_norm(rows, dim=1) * self._lost
        y = HalfRows.of(rows)
        return y.rows, SAFETY * (y.residuals * self._longest + y.lengths * self._lost)

    def _bits(self, values: Tensor, *, up: bool) -> Tensor:
        """Thresholds above zero to hold products against.

        bfloat16 is compared as integers, which is much faster: above zero the order is the same, and whatever
        is below is below zero as an integer too.
        """
        if not self._half:
            return values.clamp_min(0)
        bits = values.clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16().view(torch.int16)
        return bits + 1 if up else bits - 1

    def _values(self, products: Tensor) -> Tensor:
        return products.view(torch.bfloat16).float() if self._half else products

    def _surviving(self, keys: Tensor, asked: Tensor, popular: Tensor) -> tuple[Tensor, list[_Tile]]:
        """Rows where fewer than n targets surely stand before `asked`, and the products of all, tile by tile."""
        enough = self._bits(asked, up=True)[:, None]
        look = self._products(keys, popular, POPULAR_GROUP).amax(2)
        alive = ((look > enough).sum(1) < self._n).nonzero(as_tuple=True)[0]
        before = torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
        tiles = []
        for targets in self._keys.split(COLUMNS_PER_TILE):
            if not len(alive):
                break
            products = self._products(keys.index_select(0, alive), targets, GROUP)
            maxima = products.amax(2)
            place = torch.empty_like(before)
            place[alive] = torch.arange(len(alive), device=keys.device)
            tiles.append(_Tile(products, maxima, place))
            before[alive] += (maxima > enough[alive]).sum(1)
            alive = alive[before[alive] < self._n]
        return alive, tiles

    def _products(self, keys: Tensor, targets: Tensor, group: int) -> Tensor:
        """Products as they are compared, by groups of targets: [rows, targets / group, group]."""
        products = keys @ targets.T
        products = products.view(torch.int16) if self._half else products
        return products.view(len(keys), len(targets) // group, group)

    def _candidates(
        self, tiles: list[_Tile], alive: Tensor, maxima: Tensor, least: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(place among the alive rows, target) of all products of at least `least`, in the wanted rows."""
        rows, columns, first_group = [], [], 0
        for tile in tiles:
            n_groups = tile.maxima.shape[1]
            high = (maxima[:, first_group : first_group + n_groups] >= least) & wanted[:, None]
            row, group = high.nonzero(as_tuple=True)
            inside = tile.products.flatten(0, 1).index_select(0, tile.place[alive[row]] * n_groups + group)
            pair, within = (inside >= least[row]).nonzero(as_tuple=True)
            rows.append(row[pair])
            columns.append(self._order[(first_group + group[pair]) * GROUP + within])
            first_group += n_groups
        return torch.cat(rows), torch.cat(columns)

    def _exact(self, rows: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The n best of each row's candidates by exact entries: candidate i is target `column[i]` of `row[i]`."""
        if not len(row):  # every row is left to a search of its own
            return torch.zeros(len(rows), self._n, dtype=torch.int64, device=rows.device)
        counts = torch.bincount(row, minlength=len(rows))
        # Side by side in their order in the vocabulary, so that a stable sort keeps ties in it.
        order = (row * len(self._targets) + column).argsort()
        row, column = row[order], column[order]
        first = counts.cumsum(0) - counts
        slot = torch.arange(len(row), device=row.device) - first[row]
        width = max(self._n, int(counts.max()))
        entries = rows.new_full((len(rows), width), -torch.inf)
        # Copies of whole rows, which indexing would make number by number.
        entries[row, slot] = (self._targets.index_select(0, column) * rows.index_select(0, row)).sum(1)
        best = entries.sort(dim=1, descending=True, stable=True).indices[:, : self._n]
        return column[(first[:, None] + best).clamp_max_(len(column) - 1)]


def _in_order(rows: Tensor, targets: Tensor, n: int) -> Tensor:
    """The n highest targets of rows [R, e], in the order of a stable sort."""
    more = min(n + SPARE, len(targets))
    top, _ = top_targets(rows[None], targets, more)
    positions, order = top.positions[0].sort(dim=1)
    best = top.logits[0].gather(1, order).sort(dim=1, descending=True, stable=True)
    chosen = positions.gather(1, best.indices[:, :n])
    if more < len(targets):
        # Ties that run on beyond the list: such rows are sorted whole, those of a dead head at once.
        tied = best.values[:, n - 1] == best.values[:, -1]
        dead = tied & (rows == 0).all(1)
        chosen[dead] = torch.arange(n, device=rows.device)
        for row in (tied & ~dead).nonzero(as_tuple=True)[0].tolist():
            whole = rows[row] @ targets.T
            chosen[row] = whole.sort(descending=True, stable=True).indices[:n]
    return chosen
