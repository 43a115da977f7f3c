"""Which source tokens a head amplifies: ‖S_s W_V W_O‖ / ‖S_s‖ over the vocabulary (MAPS, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from describe.core import halves
from describe.core.halves import ACCUMULATION, SAFETY, UNIT_ROUNDOFF
from describe.core.spaces import ROWS_PER_TILE, FoldedLayer, ValueSpace


def gram_roots(W_O: Tensor) -> Tensor:
    """L [n_heads, d_head, d_head] with L Lᵀ = W_O W_Oᵀ, so that ‖a W_O‖ = ‖a L‖ (method, section 3).

    By eigen-decomposition in float64: a Cholesky factor would fail on rank-deficient heads.
    """
    # Head by head, since all of W_O in float64 would be the largest thing in memory of a wide layer.
    gram = torch.stack([W @ W.T for W in (W.double() for W in W_O)])
    eigenvalues, vectors = torch.linalg.eigh(gram)
    roots: Tensor = vectors * eigenvalues.clamp_min(0).sqrt()[:, None, :]
    return roots.to(W_O.dtype)


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
    """Contrastive saliency of heads [n_heads, n] (method, section 2).

    Log saliency minus the token's mean over all heads of the model, divided by the head's standard deviation.
    """
    difference = log_saliency - token_mean
    return difference / difference.std(dim=1, keepdim=True).clamp_min(1e-12)


def most_salient(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each head's row [n_heads, n], best first: (scores, positions), each [n_heads, k]."""
    best = scores.topk(min(k, scores.shape[1]), dim=1)
    return best.values, best.indices


def salient_sources(space: ValueSpace, layer: FoldedLayer, centred: bool, k: int) -> tuple[Tensor, Tensor]:
    """The k most salient sources of each head, best first: (saliency, positions), each [n_heads, k].

    The same as `most_salient(saliency(…))`, but faster where bfloat16 products are: these then find the few
    sources that can be among the k (about 100 of 49,152 on SmolLM2), and float32 decides between them.
    """
    if not (
        halves.supported(space.states.device)
        and space.states.dtype == torch.float32
        and len(space.states) > 4 * k
        and (not centred or not space.mean.any())
        and not layer.offset.any()
    ):
        return most_salient(saliency(space, layer, centred), k)
    roots = gram_roots(layer.W_O)
    rough, error, gain = _rough_saliency(space, layer, roots)
    # Rounding the written rows, then their lengths, errs in proportion; the rest is bounded for each token.
    relative = SAFETY * 2 * UNIT_ROUNDOFF
    lost = space.half_directions.residuals
    best, where = space.norms.new_empty(len(rough), k), torch.empty(len(rough), k, dtype=torch.int64)
    for kv in range(len(layer.W_V)):
        heads = slice(kv * layer.group, (kv + 1) * layer.group)
        found = rough[heads]
        bound = torch.addcmul(error[heads, None], gain[heads, None], lost).add_(found, alpha=relative)
        floor = (found - bound).topk(k, dim=1).values[:, -1:]
        # What one head of the group needs is computed for all, so that this never costs more than everything.
        chosen = (found + bound >= floor).any(0).nonzero(as_tuple=True)[0]
        exact = _exact_saliency(space, layer.W_V[kv], roots[heads], chosen)
        if ((exact - found[:, chosen]).abs() > bound[:, chosen]).any():
            # A processor that does not round as the bound supposes.
            return most_salient(saliency(space, layer, centred), k)
        best[heads], order = exact.topk(k, dim=1)
        where[heads] = chosen[order]
    return best, where


def _exact_saliency(space: ValueSpace, W_V: Tensor, roots: Tensor, chosen: Tensor) -> Tensor:
    """Saliency of the `chosen` sources for the heads of one KV head, [group, n_chosen], in the states' dtype."""
    out = space.norms.new_empty(len(roots), len(chosen))
    wide = roots.permute(1, 0, 2).reshape(roots.shape[1], -1)
    for begin in range(0, len(chosen), ROWS_PER_TILE):
        part = chosen[begin : begin + ROWS_PER_TILE]
        written = (space.states.index_select(0, part) @ W_V @ wide).view(len(part), *roots.shape[::2])
        out[:, begin : begin + len(part)] = torch.linalg.vector_norm(written, dim=2).T
    return out.div_(space.norms[chosen].clamp_min(torch.finfo(out.dtype).tiny))


def _rough_saliency(space: ValueSpace, layer: FoldedLayer, roots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Saliency in bfloat16, [n_heads, n] float32, and what bounds its error: two numbers a head, [n_heads] each.

    The error is at most the first, plus the second times the rounding residual of the row, plus what the
    rounding of the written row and of its length can do, which is in proportion to the saliency.

    With W_V = Q T (QR) the saliency of a row x of length 1 is ‖x Q R‖, R = T L: Q keeps lengths, so each
    rounding is paid for with the head's greatest gain σ = ‖R‖₂ and no more.
    """
    n_kv, d_in, d_head = layer.W_V.shape
    Q, T = torch.linalg.qr(layer.W_V.double())
    width = Q.shape[2]
    R = (T.repeat_interleave(layer.group, 0) @ roots.double()).reshape(n_kv, layer.group, width, d_head)
    half_Q, half_R = Q.bfloat16(), R.bfloat16()
    wide_Q = half_Q.permute(1, 0, 2).reshape(d_in, n_kv * width).contiguous()
    wide_R = half_R.permute(0, 2, 1, 3).reshape(n_kv, width, layer.group * d_head).contiguous()
    rows = space.half_directions.rows
    out = space.norms.new_empty(n_kv, layer.group, len(rows))
    longest = space.norms.new_zeros(n_kv, 1)
    for begin in range(0, len(rows), 2 * ROWS_PER_TILE):
        values = (rows[begin : begin + 2 * ROWS_PER_TILE] @ wide_Q).view(-1, n_kv, width).transpose(0, 1)
        longest = longest.maximum(torch.linalg.vector_norm(values, dim=2).amax(1, keepdim=True).float())
        written = torch.bmm(values, wide_R).view(n_kv, -1, layer.group, d_head)
        # In bfloat16 throughout, since asking for float32 lengths would make a float32 copy first.
        out[:, :, begin : begin + values.shape[1]] = torch.linalg.vector_norm(written, dim=3).transpose(1, 2)
    gain, longest = _greatest_gain(R), longest.double() * (1 + 2 * UNIT_ROUNDOFF)
    lost_Q = _greatest_gain(Q - half_Q.double())[:, None]
    lost_sums = ACCUMULATION * d_in * torch.linalg.matrix_norm(half_Q.double())[:, None]
    error = gain * (lost_Q + lost_sums + UNIT_ROUNDOFF * longest) + longest * (
        _greatest_gain(R - half_R.double()) + ACCUMULATION * width * torch.linalg.matrix_norm(half_R.double())
    )
    error, gain = ((SAFETY * part).reshape(-1).float() for part in (error, gain))
    return out.view(-1, len(rows)), error, gain


def _greatest_gain(matrices: Tensor) -> Tensor:
    """The spectral norms of matrices [..., m, n] float64, n small, by their Gram matrices: [...]."""
    eigenvalues: Tensor = torch.linalg.eigvalsh(matrices.mT @ matrices)
    return eigenvalues[..., -1].clamp_min(0).sqrt()
