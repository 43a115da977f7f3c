"""The lists of first and last targets against whole rows, multiplied out and sorted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.core import projection, ranks
from describe.core.factors import HeadFactors, LayerFactors
from describe.core.ranks import first_and_last
from describe.core.spaces import FoldedLayer, ValueSpace
from tests.core.oracles import DEVICES

N, V, D, D_HEAD, KV, GROUP = 50, 90, 12, 4, 2, 3


def layer_of(seed, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    space = ValueSpace.of(draw(V, D))
    folded = FoldedLayer(W_V=draw(KV, D, D_HEAD), W_O=draw(KV * GROUP, D_HEAD, D), offset=draw(KV, D_HEAD))
    return space, folded, draw(V, D)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("standardised", [False, True])
def test_factors_multiply_to_the_row_of_m_or_z(device, centred, standardised):
    space, folded, U = layer_of(1, device=device)
    states = space.states[:N]
    factors = LayerFactors(space, folded, U, states, centred=centred, standardised=standardised)
    for head in range(KV * GROUP):
        W_VO = folded.W_V[head // GROUP] @ folded.W_O[head]
        everything = space.states @ W_VO @ U.T
        rows = (states - space.states.mean(0)) @ W_VO if centred else states @ W_VO
        rows = rows if centred else rows + folded.offset[head // GROUP] @ folded.W_O[head]
        expected = rows @ U.T
        if standardised:
            expected = expected / everything.std(0, correction=0)
        found = factors.head(head)
        product = found.sources @ found.targets.T
        if standardised and not centred:
            # The mean row has a part outside the span of the values' covariance only when that is singular.
            assert torch.linalg.matrix_rank(folded.W_V[head // GROUP]) == D_HEAD
        torch.testing.assert_close(product, expected, rtol=1e-8, atol=1e-8)


def sorted_whole(factors, n, sign):
    rows = factors.sources @ factors.targets.T * sign
    return rows.sort(dim=1, descending=True, stable=True).indices[:, :n]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), levels=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_lists_are_those_of_a_stable_sort_with_many_ties(seed, n, levels):
    generator = torch.Generator().manual_seed(seed)
    # Small whole numbers: products are exact, and nearly every entry is tied with others.
    factors = HeadFactors(
        torch.randint(-levels, levels + 1, (17, 3), generator=generator).double(),
        torch.randint(-levels, levels + 1, (70, 3), generator=generator).double(),
    )
    promoted, suppressed = first_and_last(factors, n)
    assert torch.equal(promoted, sorted_whole(factors, n, 1))
    assert torch.equal(suppressed, sorted_whole(factors, n, -1))


@pytest.mark.parametrize("spread", [1.0, 1e-3])
@pytest.mark.parametrize("width", [32, 96])
def test_lists_of_a_large_vocabulary_are_exact_where_bfloat16_picks_candidates(spread, width):
    """With a small spread bfloat16 cannot tell the targets apart, and float32 has to be asked."""
    generator = torch.Generator().manual_seed(3)
    centre = torch.randn(1, width, generator=generator)
    factors = HeadFactors(
        torch.randn(40, width, generator=generator),
        centre + spread * torch.randn(2 * projection.GROUP * 75 + 37, width, generator=generator),
    )
    exact = factors.sources.double() @ factors.targets.double().T
    for sign, listed in zip((1, -1), first_and_last(factors, 25), strict=True):
        expected = (exact * sign).topk(25, dim=1).values
        found = (exact * sign).gather(1, listed)
        room = 4e-6 * exact.abs().amax(1, keepdim=True)
        assert ((found - expected).abs() <= room).all()
        assert all(len(set(row.tolist())) == 25 for row in listed)


def test_a_dead_head_lists_targets_in_their_order():
    factors = HeadFactors(torch.zeros(2000, 4), torch.randn(500, 4))
    for listed in first_and_last(factors, 25):
        assert torch.equal(listed, torch.arange(25).expand(2000, 25))


def test_lists_never_ask_for_more_targets_than_there_are():
    factors = HeadFactors(torch.randn(3, 4), torch.randn(6, 4))
    for sign, listed in zip((1, -1), first_and_last(factors, 25), strict=True):
        assert torch.equal(listed, sorted_whole(factors, 6, sign))


LARGE = 2 * ranks.MANY + 37  # targets enough to be searched by parts, and no whole number of groups


def drawn(seed, rows, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    # Along a few directions, so that some targets are high in many rows.
    common = torch.randn(5, width, generator=generator)
    targets = torch.randn(LARGE, width, generator=generator)
    targets[::11] += torch.randn(len(targets[::11]), 5, generator=generator) @ common
    sources = (
        torch.randn(rows, width, generator=generator) + torch.randn(rows, 5, generator=generator) @ common
    )
    return HeadFactors(sources.to(dtype), targets.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [16, 96])
@pytest.mark.parametrize("n", [1, 25])
def test_a_list_is_made_wherever_something_asked_for_is_in_it(dtype, width, n):
    factors = drawn(7, 1300, width, dtype)
    exact = factors.sources.double() @ factors.targets.double().T
    generator = torch.Generator().manual_seed(8)
    asked = torch.randint(0, LARGE, (1300, 6), generator=generator)
    own = (factors.sources @ factors.targets.T).gather(1, asked)
    # What is high in a row is asked for in some, so that there is something to find.
    best = (factors.sources @ factors.targets.T).topk(40, dim=1).values
    highest = torch.where(
        torch.arange(1300) % 3 == 0, best[torch.arange(1300), torch.arange(1300) % 40], own.amax(1)
    )
    lowest = own.amin(1)
    highest[5::50], lowest[5::50] = -torch.inf, torch.inf  # nothing is asked for
    room = 4e-6 * exact.abs().amax(1)
    for sign, limit, listed in zip(
        (1, -1), (highest, -lowest), first_and_last(factors, n, (highest, lowest)), strict=True
    ):
        order = (exact * sign).topk(n, dim=1)
        made = listed[:, 0] != ranks.NOWHERE
        assert (listed[~made] == ranks.NOWHERE).all()
        assert not ((limit.double() > order.values[:, -1] + room) & ~made).any()
        assert not made[5::50].any() and made.float().mean() < 0.5
        found = (exact * sign).gather(1, listed.clamp_min(0))
        assert ((found - order.values).abs() <= room[:, None])[made].all()
        assert made[0] or sign < 0  # the highest of all was asked for in the first row


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_and_dead_rows_of_a_large_vocabulary_stand_in_its_order(dtype):
    generator = torch.Generator().manual_seed(9)
    sources = torch.randint(-2, 3, (40, 4), generator=generator).to(dtype)
    sources[3] = 0
    targets = torch.randint(-2, 3, (LARGE, 4), generator=generator).to(dtype)
    targets[100:] *= torch.rand(LARGE - 100, 1, generator=generator).to(dtype).round(decimals=1)
    factors = HeadFactors(sources, targets)
    for sign, listed in zip((1, -1), first_and_last(factors, 25), strict=True):
        assert torch.equal(listed, sorted_whole(factors, 25, sign))


def test_rows_whose_best_entries_are_below_zero_are_sorted_whole():
    generator = torch.Generator().manual_seed(10)
    factors = HeadFactors(
        torch.rand(30, 4, generator=generator), -torch.rand(LARGE, 4, generator=generator) - 1
    )
    for sign, listed in zip((1, -1), first_and_last(factors, 25), strict=True):
        assert torch.equal(listed, sorted_whole(factors, 25, sign))
