"""Random layers of every kind the core knows, and M written out in float64 with nothing factored or folded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")],
    ),
]
KINDS = ("plain", "rms", "layer", "sandwich", "latent")


@dataclass(frozen=True)
class Sizes:
    """Of a random layer."""

    n_vocab: int = 60
    d: int = 12
    d_head: int = 4
    n_kv: int = 2
    group: int = 3
    rank: int = 7  # of the latent, where there is one


def random_norm(kind: str, d: int, generator: torch.Generator, bias: bool, dtype: torch.dtype) -> Norm:
    gain = (1 + 0.5 * torch.randn(d, generator=generator)).to(dtype)
    shift = torch.randn(d, generator=generator).to(dtype) if bias else None
    return Norm(kind, gain, shift, 1e-5)


def random_layer(
    kind: str, sizes: Sizes, seed: int, dtype: torch.dtype = torch.float64, value_bias: bool = True
) -> LayerCircuits:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    d_in = sizes.rank if kind == "latent" else sizes.d
    layer = LayerCircuits(
        W_V=draw(sizes.n_kv, d_in, sizes.d_head),
        W_O=draw(sizes.n_kv * sizes.group, sizes.d_head, sizes.d),
        b_V=draw(sizes.n_kv, sizes.d_head) if value_bias else None,
        b_O=draw(sizes.d),
        input_norm=Norm("none", None, None, 0.0)
        if kind == "plain"
        else random_norm("layer" if kind == "layer" else "rms", sizes.d, generator, kind == "layer", dtype),
    )
    if kind == "sandwich":
        layer = replace(layer, post_norm=random_norm("rms", sizes.d, generator, False, dtype))
    if kind == "latent":
        layer = replace(
            layer,
            W_down=draw(sizes.d, sizes.rank),
            down_norm=random_norm("rms", sizes.rank, generator, False, dtype),
        )
    return layer


def random_states(sizes: Sizes, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Source states [V, d] that share a large mean, as residual streams do."""
    generator = torch.Generator().manual_seed(seed + 1000)
    rows = torch.randn(sizes.n_vocab, sizes.d, generator=generator)
    return (rows * (0.2 + torch.rand(sizes.n_vocab, 1, generator=generator) * 3) + 0.5).to(dtype)


def random_unembedding(sizes: Sizes, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 2000)
    return torch.randn(sizes.n_vocab, sizes.d, generator=generator).to(dtype)


@dataclass(frozen=True)
class Oracle:
    """One head written out in float64: W_VO formed in full, M held whole."""

    written: Tensor  # [V, d] what the head writes for each source, value bias aside from `centred`
    lengths: Tensor  # [V] of the source rows
    U: Tensor  # [V, d]

    @property
    def saliency(self) -> Tensor:
        """‖S W_VO‖ / ‖S‖, [V]."""
        return self.written.square().sum(1).sqrt() / self.lengths

    @property
    def M(self) -> Tensor:  # noqa: N802
        """[V, V]."""
        return self.written @ self.U.T

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of each column of M over all sources, [V]."""
        M = self.M
        return (M - M.mean(0)).square().mean(0).sqrt()


def oracle(layer: LayerCircuits, states: Tensor, U: Tensor, head: int, gains: bool, centred: bool) -> Oracle:
    """The definition (method, sections 2 and 3), from the model's own norms and the full product W_V W_O."""
    S, W_O = states.double(), layer.W_O[head].double()
    layer = _double(layer)
    lengths = _bare_input(layer, S, gains).norm(dim=1)
    if gains:
        written = layer.head_outputs(S, head)  # norms with gain and bias, value bias
        if layer.post_norm is not None and layer.post_norm.gain is not None:
            written = written * layer.post_norm.gain
    else:
        x = S
        if layer.W_down is not None:
            x = S @ layer.W_down * layer.down_norm.gain
        written = x @ (layer.W_V[head // (len(layer.W_O) // len(layer.W_V))] @ W_O)
    if centred:
        written = written - written.mean(0)
    return Oracle(written, lengths, U.double())


def _bare_input(layer: LayerCircuits, S: Tensor, gains: bool) -> Tensor:
    """The rows whose length saliency divides by: normalised without gain, latent where there is one."""
    x = replace(layer.input_norm, gain=None, bias=None)(S) if gains and layer.W_down is None else S
    if layer.W_down is None:
        return x
    x = (layer.input_norm(S) if gains else S) @ layer.W_down
    return replace(layer.down_norm, gain=None)(x) if gains else x


def _double(layer: LayerCircuits) -> LayerCircuits:
    def norm(one: Norm | None) -> Norm | None:
        if one is None:
            return None
        parts = (None if p is None else p.double() for p in (one.gain, one.bias))
        return Norm(one.kind, *parts, one.eps)

    def tensor(one: Tensor | None) -> Tensor | None:
        return None if one is None else one.double()

    return LayerCircuits(
        W_V=layer.W_V.double(),
        W_O=layer.W_O.double(),
        b_V=tensor(layer.b_V),
        b_O=tensor(layer.b_O),
        input_norm=norm(layer.input_norm),
        W_down=tensor(layer.W_down),
        down_norm=norm(layer.down_norm),
        post_norm=norm(layer.post_norm),
    )
