"""Entries of M that relations ask about: what decides which rows of a head have to be searched at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from describe.core.factors import HeadFactors
from describe.relations.scores import TokenPairs


class AskedEntries:
    """For every relation its sources × its targets, sources as their own targets, and pairs read backwards."""

    def __init__(self, pairs: Sequence[TokenPairs], device: torch.device | str) -> None:
        def moved(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
            return torch.from_numpy(values).to(device)

        self._blocks = [(moved(one.rows), moved(one.distinct)) for one in pairs]
        words = [one for one in pairs if one.is_read_backwards]
        if words:
            rows = np.concatenate([rows for one in words for rows in (one.rows, one.turned)])
            targets = np.concatenate([one.own for one in words for _ in ("itself", "backwards")])
            single = np.unique(np.stack([rows, targets]), axis=1)
        else:
            single = np.empty((2, 0), np.int64)
        self._rows, self._targets = moved(single)

    def of(self, head: HeadFactors) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """Each relation's entries [n, D], and the highest and lowest entry asked for in each row, [R] each."""
        blocks = [head.sources[rows] @ head.targets[targets].T for rows, targets in self._blocks]
        single = (head.sources[self._rows] * head.targets[self._targets]).sum(1)
        rows = torch.cat([self._rows, *(rows for rows, _ in self._blocks)])
        extremes = []
        for sign, name in ((-1, "amax"), (1, "amin")):
            values = torch.cat([single, *(block.amax(1) if sign < 0 else block.amin(1) for block in blocks)])
            side = single.new_full((len(head.sources),), sign * torch.inf)
            extremes.append(side.scatter_reduce_(0, rows, values, name))
        return blocks, (extremes[0], extremes[1])
