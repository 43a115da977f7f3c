"""A layer's heads factored for chosen source rows: M, or z, as a product of two thin matrices per head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core.spaces import FoldedLayer, ValueSpace


@dataclass(frozen=True)
class HeadFactors:
    """One head with M (or z) factored: `sources` [R, e] · `targets` [V, e]ᵀ, e ≤ d_head."""

    sources: Tensor
    targets: Tensor


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
