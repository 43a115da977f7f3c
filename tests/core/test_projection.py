"""The factored, folded and tiled core against M written out in float64 (tests/core/oracles.py)."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core import projection
from describe.core.circuits import Norm
from describe.core.projection import constant_row, target_scale, top_targets, written_rows
from describe.core.saliency import contrast, gram_roots, most_salient, saliency
from describe.core.spaces import (
    ValueSpace,
    fold_layer,
    fold_unembedding,
    same_value_states,
    value_states,
)

_spec = importlib.util.spec_from_file_location("core_oracles", Path(__file__).with_name("oracles.py"))
oracles = sys.modules.setdefault("core_oracles", importlib.util.module_from_spec(_spec))
if not hasattr(oracles, "KINDS"):
    _spec.loader.exec_module(oracles)

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}


def near(found, expected, dtype=torch.float64):
    scale = expected.abs().max().clamp_min(1e-300)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    error = (found.double().cpu() - expected).abs().max() / scale
    assert error <= TOLERANCE[dtype], f"off by {error:.1e} of the largest value"


def prepared(kind, sizes, seed, gains, dtype=torch.float64, device="cpu", value_bias=True):
    layer = oracles.random_layer(kind, sizes, seed, dtype, value_bias)
    states = oracles.random_states(sizes, seed, dtype)
    moved = layer.to(device)
    space = ValueSpace.of(value_states(states.to(device), moved, gains))
    return layer, states, space, fold_layer(moved, gains)


every_kind = pytest.mark.parametrize("kind", oracles.KINDS)
with_and_without_gains = pytest.mark.parametrize("gains", [True, False], ids=["gains", "raw"])
both_centrings = pytest.mark.parametrize("centred", [True, False], ids=["centred", "uncentred"])
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
every_device = pytest.mark.parametrize("device", oracles.DEVICES)


@every_device
@every_kind
@with_and_without_gains
@both_centrings
@both_dtypes
def test_every_part_equals_its_definition(kind, gains, centred, dtype, device):
    """Saliency, written rows, σ_t, constant output: 6 query heads on 2 KV heads, norms with all their parts."""
    sizes = oracles.Sizes()
    layer, states, space, folded = prepared(kind, sizes, 3, gains, dtype, device)
    U = oracles.random_unembedding(sizes, 3, dtype)
    positions = torch.randint(sizes.n_vocab, (6, 5), generator=torch.Generator().manual_seed(1))
    found = saliency(space, folded, centred)
    rows = written_rows(space, folded, positions.to(device), centred)
    sigma = target_scale(space, folded, U.to(device))
    constant = constant_row(space, folded)
    assert folded.group == 3
    for head in range(layer.n_heads):
        expected = oracles.oracle(layer, states, U, head, gains, centred)
        near(found[head], expected.saliency, dtype)
        near(rows[head], expected.written[positions[head]], dtype)
        near(sigma[head], expected.sigma, dtype)
        uncentred = oracles.oracle(layer, states, U, head, gains, centred=False)
        near(constant[head], uncentred.written.mean(0), dtype)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(oracles.KINDS),
    st.builds(
        oracles.Sizes,
        n_vocab=st.integers(2, 40),
        d=st.integers(2, 14),
        d_head=st.integers(1, 16),  # wider than d too: then W_O W_Oᵀ has no full rank
        n_kv=st.integers(1, 3),
        group=st.integers(1, 3),
        rank=st.integers(1, 9),
    ),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_definitions_hold_for_every_shape(kind, sizes, gains, centred, seed):
    layer, states, space, folded = prepared(kind, sizes, seed, gains, value_bias=bool(seed % 2))
    U = oracles.random_unembedding(sizes, seed)
    found, sigma = saliency(space, folded, centred), target_scale(space, folded, U)
    for head in range(layer.n_heads):
        expected = oracles.oracle(layer, states, U, head, gains, centred)
        # A square root of a Gram matrix loses half of the digits where a length is (nearly) zero.
        scale = expected.saliency.max().clamp_min(1e-9)
        torch.testing.assert_close(found[head] / scale, expected.saliency / scale, rtol=1e-9, atol=1e-6)
        floor = 1e-6 * sigma[head].mean()
        torch.testing.assert_close(sigma[head], expected.sigma.clamp_min(floor), rtol=1e-6, atol=1e-7)


@every_kind
def test_folded_layer_writes_what_the_layer_writes(kind):
    """values = states @ W_V + offset is exact: norm gains and biases move into W_V, W_O and the offset."""
    sizes = oracles.Sizes()
    layer, states, space, folded = prepared(kind, sizes, 8, gains=True)
    everything = torch.arange(sizes.n_vocab).expand(layer.n_heads, -1)
    uncentred = written_rows(space, folded, everything, centred=False)
    centred = written_rows(space, folded, everything, centred=True)
    constant = constant_row(space, folded)
    for head in range(layer.n_heads):
        expected = layer.head_outputs(states, head)
        if layer.post_norm is not None:
            expected = expected * layer.post_norm.gain
        near(uncentred[head], expected)
        near(centred[head], expected - constant[head])  # less the constant output, bias and mean source


@with_and_without_gains
@pytest.mark.parametrize("kind", ["rms", "layer", "none"])
def test_folded_unembedding_gives_the_logits_of_the_normalised_stream(kind, gains):
    """For a frozen scale: U · (gain ⊙ (x − mean for LayerNorm)); the raw product without gains."""
    generator = torch.Generator().manual_seed(0)
    U, x = torch.randn(30, 8, generator=generator).double(), torch.randn(5, 8, generator=generator).double()
    norm = oracles.random_norm(kind, 8, generator, bias=False, dtype=torch.float64)
    norm = Norm("none", None, None, 0.0) if kind == "none" else norm
    found = x @ fold_unembedding(U, norm, gains).T
    if not gains or kind == "none":
        expected = x @ U.T
    else:
        unscaled = x - x.mean(1, keepdim=True) if kind == "layer" else x
        expected = (unscaled * norm.gain) @ U.T
        scale = torch.rsqrt(unscaled.square().mean(1, keepdim=True) + norm.eps)
        near(found * scale, norm(x) @ U.T)
    near(found, expected)


def test_moments_are_those_of_the_rows():
    states = oracles.random_states(oracles.Sizes(n_vocab=9000, d=6), 1)  # more than one tile
    space = ValueSpace.of(states)
    near(space.mean, states.mean(0))
    near(space.norms, states.square().sum(1).sqrt())
    near(space.covariance, torch.cov(states.T, correction=0))
    single = ValueSpace.of(states.float())
    assert single.covariance.dtype == torch.float64
    torch.testing.assert_close(single.covariance, space.covariance, rtol=1e-4, atol=1e-5)


def test_layers_share_states_only_when_they_read_the_same_rows():
    rms, layer, latent = (
        oracles.random_layer(kind, oracles.Sizes(), 0) for kind in ("rms", "layer", "latent")
    )
    other_gain = replace(rms, input_norm=replace(rms.input_norm, gain=rms.input_norm.gain * 2))
    other_eps = replace(rms, input_norm=replace(rms.input_norm, eps=1e-3))
    states = oracles.random_states(oracles.Sizes(), 0) * 1e-2
    for a, b in ((rms, other_gain), (rms, other_eps), (rms, layer), (latent, latent), (rms, latent)):
        for gains in (True, False):
            rows = [value_states(states, one, gains) for one in (a, b)]
            if same_value_states(a, b, gains):
                assert torch.equal(*rows)
    assert same_value_states(rms, other_gain, True)
    assert not same_value_states(rms, other_eps, True)
    assert not same_value_states(rms, layer, True)
    assert same_value_states(rms, layer, False)
    assert not same_value_states(latent, latent, True)


def test_gram_roots_serve_heads_without_full_rank():
    W_O = oracles.random_layer("rms", oracles.Sizes(d=5, d_head=8), 4).W_O
    W_O[1, 3:] = 0
    roots = gram_roots(W_O)
    assert roots.isfinite().all()
    near(roots @ roots.mT, W_O @ W_O.mT)


def test_contrast_is_log_saliency_over_the_tokens_mean_in_units_of_the_head():
    generator = torch.Generator().manual_seed(0)
    logs = torch.randn(4, 50, generator=generator, dtype=torch.float64) * torch.tensor([[1.0], [2], [3], [4]])
    found = contrast(logs, logs.mean(0))
    for head in range(4):
        difference = logs[head] - logs.mean(0)
        near(found[head], difference / difference.std())
    assert torch.isfinite(contrast(torch.ones(2, 5), torch.ones(5))).all()  # heads with nothing of their own


def test_most_salient_sorts_and_stops_at_the_vocabulary():
    scores = torch.tensor([[3.0, 1, 2], [-1, -3, -2]])
    values, positions = most_salient(scores, 2)
    assert positions.tolist() == [[0, 2], [0, 2]]
    assert values.tolist() == [[3, 2], [-1, -2]]
    assert most_salient(scores, 9)[1].tolist() == [[0, 2, 1], [0, 2, 1]]


def check_top(rows, U, n, scale):
    """Both directions against a full sort of the very products, by value; positions must be distinct."""
    M = (rows.double().reshape(-1, rows.shape[2]) @ U.double().T).reshape(*rows.shape[:2], len(U))
    z = M if scale is None else M / scale.double()[:, None, :]
    kept = min(n, len(U))
    tolerance = TOLERANCE[rows.dtype] * float(z.abs().max().clamp_min(1e-30))
    for best, sign in zip(top_targets(rows, U, n, scale), (1, -1), strict=True):
        assert best.positions.shape == (*rows.shape[:2], kept)
        expected = (sign * z).sort(dim=2, descending=True).values[..., :kept] * sign
        at = best.positions
        ordered = at.sort(dim=2).values
        assert (ordered[..., 1:] > ordered[..., :-1]).all(), "a target twice in a row"
        torch.testing.assert_close(best.z.double(), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(best.z.double(), z.gather(2, at), rtol=0, atol=tolerance)
        gathered = M.gather(2, at)
        torch.testing.assert_close(
            best.logits.double(), gathered, rtol=0, atol=TOLERANCE[rows.dtype] * float(M.abs().max() + 1e-30)
        )
        assert (sign * best.z[..., 1:] <= sign * best.z[..., :-1]).all(), "not best first"


@settings(max_examples=60, deadline=None)
@given(
    n_heads=st.integers(1, 3),
    k=st.integers(1, 4),
    d=st.integers(1, 6),
    n_vocab=st.integers(1, 700),
    n=st.integers(1, 40),
    standardised=st.booleans(),
    ties=st.booleans(),
    double=st.booleans(),
    group=st.sampled_from([2, 4, 64]),
    groups_per_tile=st.sampled_from([1, 2, 64]),
    kept_bytes=st.sampled_from([1, 2**12, 2**25]),
    seed=st.integers(0, 10_000),
)
def test_top_targets_is_a_full_sort(
    n_heads, k, d, n_vocab, n, standardised, ties, double, group, groups_per_tile, kept_bytes, seed
):
    """Vocabularies that are no multiple of a tile, tiles of fewer groups than n, n over the vocabulary, ties,
    rows that are taken one by one, by head, or all at once.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, U = torch.randn(n_heads, k, d, generator=generator), torch.randn(n_vocab, d, generator=generator)
    if ties:
        rows, U = rows.round(), U.round()
    scale = 0.1 + torch.rand(n_heads, n_vocab, generator=generator) if standardised else None
    if double:
        rows, U = rows.double(), U.double()
        scale = None if scale is None else scale.double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "GROUP", group)
        patch.setattr(projection, "COLUMNS_PER_TILE", group * groups_per_tile)
        patch.setattr(projection, "KEPT_BYTES", kept_bytes)
        check_top(rows, U, n, scale)


@every_device
@pytest.mark.parametrize("n", [1, 5, 63, 64, 65, 200])
@pytest.mark.parametrize("n_vocab", [4096, 4097, 8192, 9001])
def test_top_targets_with_the_tiles_as_shipped(n, n_vocab, device):
    generator = torch.Generator().manual_seed(n + n_vocab)
    rows, U = torch.randn(2, 3, 16, generator=generator), torch.randn(n_vocab, 16, generator=generator)
    scale = 0.5 + torch.rand(2, n_vocab, generator=generator)
    for columns in (None, scale):
        if device == "cpu":
            check_top(rows, U, n, columns)
        else:
            here = top_targets(rows, U, n, columns)
            there = top_targets(
                rows.to(device), U.to(device), n, None if columns is None else columns.to(device)
            )
            for a, b in zip(here, there, strict=True):
                torch.testing.assert_close(a.z, b.z.cpu(), rtol=1e-4, atol=1e-4)


def test_best_targets_that_share_a_group_are_all_found():
    """The n best side by side in one group of columns, and one at each end of the vocabulary."""
    U = torch.zeros(8192, 1)
    U[640:645, 0] = torch.tensor([5.0, 9, 7, 6, 8])
    U[0, 0], U[8191, 0] = 4, -4
    promoted, suppressed = top_targets(torch.ones(1, 1, 1), U, 6)
    assert promoted.positions[0, 0].tolist() == [641, 644, 642, 643, 640, 0]
    assert suppressed.positions[0, 0, 0] == 8191


def test_a_scale_of_zero_is_floored():
    """A target that no source moves has σ = 0 and must not fill every list."""
    sizes = oracles.Sizes()
    _, _, space, folded = prepared("rms", sizes, 5, gains=True)
    U = oracles.random_unembedding(sizes, 5)
    U[7] = 0
    sigma = target_scale(space, folded, U)
    assert (sigma > 0).all()
    promoted, _ = top_targets(written_rows(space, folded, torch.zeros(6, 1).long(), True), U, 3, sigma)
    assert promoted.z.isfinite().all()
    assert not (promoted.positions == 7).any()
