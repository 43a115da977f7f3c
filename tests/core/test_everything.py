"""The streamed whole map against M written out in full."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core.everything import all_top_targets, head_values, top_pairs
from describe.core.projection import target_scale
from describe.core.spaces import ValueSpace, fold_layer, value_states

_spec = importlib.util.spec_from_file_location("core_oracles", Path(__file__).with_name("oracles.py"))
oracles = sys.modules.setdefault("core_oracles", importlib.util.module_from_spec(_spec))
if not hasattr(oracles, "KINDS"):
    _spec.loader.exec_module(oracles)


def prepared(kind, sizes, seed, gains=True, dtype=torch.float64, device="cpu"):
    layer = oracles.random_layer(kind, sizes, seed, dtype)
    states = oracles.random_states(sizes, seed, dtype)
    moved = layer.to(device)
    space = ValueSpace.of(value_states(states.to(device), moved, gains))
    return layer, states, space, fold_layer(moved, gains), oracles.random_unembedding(sizes, seed, dtype)


@pytest.mark.parametrize("device", oracles.DEVICES)
@pytest.mark.parametrize("kind", oracles.KINDS)
@pytest.mark.parametrize("centred", [True, False], ids=["centred", "uncentred"])
@pytest.mark.parametrize("standardised", [True, False], ids=["z", "logits"])
@pytest.mark.parametrize("rows_per_tile", [7, 512])
def test_targets_of_every_source_are_those_of_a_full_sort(kind, centred, standardised, rows_per_tile, device):
    sizes = oracles.Sizes(n_vocab=50)
    layer, states, space, folded, U = prepared(kind, sizes, 2, device=device)
    U_there = U.to(device)
    scale = target_scale(space, folded, U_there) if standardised else None
    for head in range(layer.n_heads):
        expected = oracles.oracle(layer, states, U, head, True, centred)
        z = expected.M / expected.sigma if standardised else expected.M
        own_scale = None if scale is None else scale[head]
        tiles = list(all_top_targets(space, folded, head, U_there, 4, centred, own_scale, rows_per_tile))
        assert [begin for begin, _, _ in tiles] == list(range(0, sizes.n_vocab, rows_per_tile))
        for side, largest in ((1, True), (2, False)):
            positions = torch.cat([tile[side].positions for tile in tiles]).cpu()
            assert torch.equal(positions, z.topk(4, dim=1, largest=largest).indices)
            found_z, logits = (torch.cat([getattr(t[side], name) for t in tiles]) for name in ("z", "logits"))
            torch.testing.assert_close(found_z.cpu(), z.gather(1, positions), rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(logits.cpu(), expected.M.gather(1, positions), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", oracles.KINDS)
def test_values_times_W_O_are_what_the_head_writes(kind):
    layer, states, space, folded, U = prepared(kind, oracles.Sizes(), 9)
    for head in range(layer.n_heads):
        for centred in (True, False):
            written = head_values(space, folded, head, centred) @ folded.W_O[head]
            expected = oracles.oracle(layer, states, U, head, True, centred).written
            torch.testing.assert_close(written, expected, rtol=1e-8, atol=1e-8)


def check_pairs(pairs, M, n):
    """The exact set and order of the N highest entries; equal values may stand for one another."""
    flat = M.flatten()
    best = flat.sort(descending=True).values[: min(n, len(flat))]
    found = pairs.sources.cpu() * M.shape[1] + pairs.targets.cpu()
    assert len(found) == len(best)
    assert len(set(found.tolist())) == len(found), "a pair twice"
    scale = float(M.abs().max().clamp_min(1e-30))
    torch.testing.assert_close(flat[found] / scale, best / scale, rtol=0, atol=1e-9)
    torch.testing.assert_close(pairs.logits.cpu() / scale, best / scale, rtol=0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.builds(
        oracles.Sizes,
        n_vocab=st.integers(1, 60),
        d=st.integers(2, 10),
        d_head=st.integers(1, 12),
        n_kv=st.integers(1, 2),
        group=st.integers(1, 2),
    ),
    kind=st.sampled_from(oracles.KINDS),
    centred=st.booleans(),
    n=st.integers(1, 5000),  # up to more than there are pairs
    tiles=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 10_000),
)
def test_top_pairs_are_the_exact_best_of_the_whole_map(sizes, kind, centred, n, tiles, seed):
    layer, states, space, folded, U = prepared(kind, sizes, seed)
    head = layer.n_heads - 1
    pairs, computed = top_pairs(space, folded, head, U, n, centred, *tiles)
    check_pairs(pairs, oracles.oracle(layer, states, U, head, True, centred).M, n)
    assert 0 < computed <= 1
    if n >= sizes.n_vocab**2:
        assert computed == 1


@pytest.mark.parametrize("device", oracles.DEVICES)
def test_steep_norms_spare_most_of_the_map(device):
    """Rows and columns whose lengths fall like 1/rank: the bound must skip tiles, and still lose nothing."""
    sizes = oracles.Sizes(n_vocab=400, d=16, d_head=8)
    layer, states, _, _, U = prepared("plain", sizes, 6)
    steep = 1 / torch.arange(1, 401, dtype=torch.float64)[:, None]
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    states, U = (states * steep)[order], U * steep
    layer = layer.to(device)
    folded = fold_layer(layer, False)
    space = ValueSpace.of(states.to(device))
    pairs, computed = top_pairs(space, folded, 0, U.to(device), 20, False, 16, 16)
    check_pairs(pairs, oracles.oracle(layer.to("cpu"), states, U, 0, False, False).M, 20)
    assert computed < 0.1


def test_the_rotation_makes_the_bound_tight():
    """A W_O with one huge direction that values hardly use, and unembedding rows that are long where the head
    never writes: the lengths of values, of W_O U or of U itself would spare next to nothing.
    """
    sizes = oracles.Sizes(n_vocab=300, d=16, d_head=4, n_kv=1, group=1)
    layer, states, _, _, U = prepared("plain", sizes, 6)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(5)).double()).Q
    steep = 1 / torch.arange(1, 301, dtype=torch.float64)[:, None]
    folded = fold_layer(layer, False)
    W_V = folded.W_V.clone()
    W_V[0, :, 0] *= 1e-4  # the value's first part is small for all sources, and W_O makes up for it
    W_O = (basis[:4] * torch.tensor([1e4, 1, 1, 1]).double()[:, None])[None]
    folded = type(folded)(W_V=W_V, W_O=W_O, offset=folded.offset)
    states, U = states * steep, U * steep
    U = U @ basis[:4].T @ basis[:4] + 100 * torch.rand(300, 12).double() @ basis[4:]
    space = ValueSpace.of(states)
    pairs, computed = top_pairs(space, folded, 0, U, 10, False, 16, 16)
    check_pairs(pairs, states @ W_V[0] @ W_O[0] @ U.T, 10)
    assert computed < 0.2


def test_pairs_of_a_head_that_writes_nothing():
    sizes = oracles.Sizes(n_vocab=9)
    _, _, space, folded, U = prepared("rms", sizes, 1)
    silent = type(folded)(W_V=folded.W_V * 0, W_O=folded.W_O, offset=folded.offset * 0)
    pairs, _ = top_pairs(space, silent, 0, U, 5, True, 4, 4)
    assert pairs.logits.tolist() == [0] * 5
    assert len({(int(s), int(t)) for s, t in zip(pairs.sources, pairs.targets, strict=True)}) == 5


def test_top_pairs_in_single_precision():
    """float32 entries computed two ways differ in the last bits: the values of the N best are the same."""
    sizes = oracles.Sizes(n_vocab=300, d=32, d_head=8)
    layer, states, space, folded, U = prepared("rms", sizes, 4, dtype=torch.float32)
    pairs, _ = top_pairs(space, folded, 2, U, 50, True, 64, 64)
    M = oracles.oracle(layer, states, U, 2, True, True).M
    best = M.flatten().sort(descending=True).values[:50]
    torch.testing.assert_close(pairs.logits.double(), best, rtol=1e-5, atol=0)
    torch.testing.assert_close(M[pairs.sources, pairs.targets], best, rtol=1e-5, atol=0)
