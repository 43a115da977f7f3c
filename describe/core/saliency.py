"""Which source tokens a head amplifies: ‖S_s W_V W_O‖ / ‖S_s‖ over the vocabulary (MAPS, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from describe.core.spaces import ROWS_PER_TILE, FoldedLayer, ValueSpace


def gram_roots(W_O: Tensor) -> Tensor:
    """L [n_heads, d_head, d_head] with L Lᵀ = W_O W_Oᵀ, so that ‖a W_O‖ = ‖a L‖ (method, section 3).

    By eigen-decomposition in float64: a Cholesky factor would fail on rank-deficient heads.
    """
    W = W_O.double()
    eigenvalues, vectors = torch.linalg.eigh(W @ W.mT)
    return (vectors * eigenvalues.clamp_min(0).sqrt()[:, None, :]).to(W_O.dtype)


def saliency(space: ValueSpace, layer: FoldedLayer, centred: bool) -> Tensor:
    """Saliency of every eligible source for every head of a layer: [n_heads, n].

    Cost n·d_in·n_kv·d_head for the values, shared by the heads of a group, and n·n_heads·d_head² for the
    lengths; neither W_V W_O nor the written rows are formed. With `centred` the vocabulary mean is taken
    from the values first, so that constant output counts for nothing.
    """
    n_kv, d_in, d_head = layer.W_V.shape
    n_heads = layer.W_O.shape[0]
    W = layer.W_V.permute(1, 0, 2).reshape(d_in, n_kv * d_head)
    shift = space.mean @ W if centred else -layer.offset.reshape(-1)
    # Query heads of a group stand side by side, so that one product per KV head serves the group.
    roots = gram_roots(layer.W_O).reshape(n_kv, layer.group, d_head, d_head)
    wide = roots.permute(0, 2, 1, 3).reshape(n_kv, d_head, layer.group * d_head)
    out = space.states.new_empty(n_heads, len(space.states))
    for begin in range(0, len(space.states), ROWS_PER_TILE):
        tile = space.states[begin : begin + ROWS_PER_TILE]
        values = (tile @ W).sub_(shift).view(len(tile), n_kv, d_head)
        for kv in range(n_kv):
            written = (values[:, kv] @ wide[kv]).view(len(tile), layer.group, d_head)
            heads = slice(kv * layer.group, (kv + 1) * layer.group)
            out[heads, begin : begin + len(tile)] = torch.linalg.vector_norm(written, dim=2).T
    return out.div_(space.norms.clamp_min(torch.finfo(out.dtype).tiny))


def contrast(log_saliency: Tensor, token_mean: Tensor) -> Tensor:
    """Contrastive saliency of heads [n_heads, n]: log saliency minus the token's mean over all heads of the
    model, divided by the head's standard deviation (method, section 2).
    """
    difference = log_saliency - token_mean
    return difference / difference.std(dim=1, keepdim=True).clamp_min(1e-12)


def most_salient(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each head's row [n_heads, n], best first: (scores, positions), each [n_heads, k]."""
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values, best.indices
