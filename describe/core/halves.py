"""bfloat16 copies of float32 rows with their exact rounding residuals: what a filter needs to be certain.

A product in bfloat16 runs twice as fast or more where the processor has instructions for it. Used as a filter,
it says which few entries can be among the best; those are computed again in float32. That is exact, because
the error of the filter has a bound that is known from the residuals: no entry outside the few can win.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-8
"""Greatest relative error of rounding to bfloat16, which has 8 significant bits."""
ACCUMULATION = 2.0**-23
"""Relative error per term of a float32 sum: twice its unit roundoff, for any order of summation."""
SAFETY = 1.01
"""What the bounds are multiplied by, since they are themselves computed in floating point."""
_ROWS = 1024


def supported(device: torch.device | str) -> bool:
    """Whether bfloat16 products on `device` are fast and accumulate in float32.

    GPUs are left out: their libraries may add up partial sums in bfloat16, which no bound here allows for.
    """
    return torch.device(device).type == "cpu" and _processor_has_bf16()


@cache
def _processor_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    probes = [getattr(torch.cpu, name, None) for name in names]
    return torch.backends.mkldnn.is_available() and any(probe() for probe in probes if probe is not None)


@dataclass(frozen=True)
class HalfRows:
    """Rows [n, d] in bfloat16 with the length of each row and of what rounding took from it, [n] float32."""

    rows: Tensor
    lengths: Tensor
    residuals: Tensor

    @classmethod
    def of(cls, rows: Tensor, lengths: Tensor | None = None) -> HalfRows:
        """Round `rows` [n, d] float32; divided by `lengths` [n] first, when given, so that rows have length 1."""
        half = torch.empty_like(rows, dtype=torch.bfloat16)
        kept = rows.new_empty(len(rows))
        residuals = rows.new_empty(len(rows))
        for begin in range(0, len(rows), _ROWS):
            part = slice(begin, begin + _ROWS)
            tile = rows[part]
            if lengths is not None:
                tile = tile / lengths[part, None].clamp_min(torch.finfo(rows.dtype).tiny)
            half[part] = tile
            kept[part] = torch.linalg.vector_norm(tile, dim=1)
            residuals[part] = torch.linalg.vector_norm(tile - half[part], dim=1)
        return cls(half, kept, residuals)
