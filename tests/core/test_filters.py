"""The bfloat16 filters against float64: they may save work and never change an answer.

Where the processor has no bfloat16 products the float32 path runs and the same must hold.
"""

from __future__ import annotations

import pytest
import torch

from describe.core import halves
from describe.core.projection import TargetSearch
from describe.core.saliency import most_salient, saliency, salient_sources
from describe.core.spaces import FoldedLayer, ValueSpace

RELATIVE = 2e-6  # closer than this, float32 does not tell two values apart
N = 5


def same_order(found, values, sign=1):
    """`found` [rows, n] are the best of float64 `values` [rows, V] in order, up to RELATIVE of the row's scale."""
    expected = (sign * values).topk(found.shape[1], dim=1).values
    ours = (sign * values).gather(1, found)
    assert all(len(set(row)) == len(row) for row in found.tolist())
    scale = values.abs().amax(1, keepdim=True).clamp_min(1e-30)
    assert float(((ours - expected).abs() / scale).max()) <= RELATIVE


def targets_of(kind, seed):
    """Rows and an unembedding of a kind that is hard for a filter."""
    generator = torch.Generator().manual_seed(seed)
    rows, U = torch.randn(2, 6, 48, generator=generator), torch.randn(6000, 48, generator=generator)
    if kind == "near ties":  # a hundred columns that bfloat16 cannot tell apart, and all among the best
        U[1000:1100] = U[1000] * 3 + 1e-4 * torch.randn(100, 48, generator=generator)
        rows += U[1000]
    if kind == "long columns":
        U[::300] *= 50
    if kind == "cancelling":  # large products that add up to small logits
        rows[..., 24:] = -rows[..., :24]
        U[:, 24:] = U[:, :24] * (1 + 1e-3 * torch.randn(6000, 24, generator=generator))
    if kind == "exact ties":
        U[3000:] = U[:3000]
    if kind == "nothing written":
        rows[0, :3] = 0
    return rows, U


@pytest.mark.parametrize(
    "kind", ["plain", "near ties", "long columns", "cancelling", "exact ties", "nothing written"]
)
@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_target_search_finds_what_a_full_sort_finds(kind, standardised, seed):
    rows, U = targets_of(kind, seed)
    scale = 0.2 + torch.rand(2, len(U), generator=torch.Generator().manual_seed(7)) if standardised else None
    search = TargetSearch(U)
    M = (rows.double() @ U.double().T).flatten(0, 1)
    z = M if scale is None else M / scale.double().repeat_interleave(6, 0)
    for best, sign in zip(search.top(rows, N, scale), (1, -1), strict=True):
        positions = best.positions.flatten(0, 1)
        if kind == "cancelling":  # the scale of rounding is that of the products, not of their sum
            ours, expected = (sign * z).gather(1, positions), (sign * z).topk(N, dim=1).values
            assert float((ours - expected).abs().max()) <= 1e-4
        else:
            same_order(positions, z, sign)
        torch.testing.assert_close(
            best.logits.flatten(0, 1).double(), M.gather(1, positions), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            best.z.flatten(0, 1).double(), z.gather(1, positions), rtol=1e-4, atol=1e-3
        )
    if halves.supported("cpu"):
        assert search.n_certain + search.n_uncertain == 12
        if kind == "plain":
            assert search.n_certain  # or the filter is of no use
        if kind == "near ties" and not standardised:
            assert search.n_uncertain  # it must know what it cannot tell


def layer_and_space(seed, d_head=8, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(5000, 40, generator=generator) * (
        0.1 + torch.rand(5000, 1, generator=generator) * 20
    )
    W_V = torch.randn(2, 40, d_head, generator=generator) * scale
    W_O = torch.randn(6, d_head, 40, generator=generator)
    return FoldedLayer(W_V=W_V, W_O=W_O, offset=torch.zeros(2, d_head)), ValueSpace.of(states)


@pytest.mark.parametrize("kind", ["plain", "near ties", "one direction", "silent head", "wide", "biased"])
@pytest.mark.parametrize("centred", [True, False])
def test_salient_sources_are_those_of_a_full_sort(kind, centred):
    layer, space = layer_and_space(3, d_head=48 if kind == "wide" else 8)
    if kind == "near ties":
        states = space.states.clone()
        states[100:400] = states[100] * (1 + torch.rand(300, 1)) + 1e-3 * torch.randn(300, 40)
        space = ValueSpace.of(states)
    if kind == "one direction":  # one gain far above the others
        layer.W_V[:, :, 0] *= 1e3
    if kind == "silent head":
        layer.W_O[2] = 0
    if kind == "biased":
        layer = FoldedLayer(layer.W_V, layer.W_O, torch.ones_like(layer.offset))
    values, positions = salient_sources(space, layer, centred, 30)
    S = space.states.double()
    for head in range(6):
        written = S @ layer.W_V[head // 3].double() @ layer.W_O[head].double()
        if centred:
            written = written - written.mean(0)
        else:
            written = written + layer.offset[head // 3].double() @ layer.W_O[head].double()
        true = written.norm(dim=1) / S.norm(dim=1)
        if not true.any():
            continue
        same_order(positions[head][None], true[None])
        torch.testing.assert_close(values[head].double(), true[positions[head]], rtol=1e-4, atol=0)
    plain = most_salient(saliency(space, layer, centred), 30)
    torch.testing.assert_close(values, plain[0], rtol=1e-4, atol=1e-6)
