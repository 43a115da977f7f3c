"""Copying, from the weights and as measured: the yardstick for a representation of heads in vocabulary space.

Measured: the live model reads random words, the whole sequence twice. For a query i in the second half and an
earlier word j < i, the direct effect of attending to j on j's own token is

    d(i, j) = r · s(i) · ⟨(v_j W_O ⊙ post-norm), U_j − mean_v U_v⟩

where v_j is the head's value of the residual stream at j, s(i) the final norm's scale at i (and the sandwich
norm's, where there is one), both frozen, U with the final norm's gain, and r the model's logit and residual
multipliers. A head's measured copying is Σ A(i, j) d(i, j) / Σ A(i, j): logits on the attended token for each unit of
attention. `induction` takes only the j that follows the first occurrence of the token at i.

From the weights: the entry of a word's own token in its row of M, in the unit in which the setting ranks targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits
from describe.core.projection import target_scale, written_rows
from describe.core.spaces import fold_unembedding
from describe.errors import InputError
from describe.jobs.projecting import Projector
from describe.subject.architectures import text_config
from describe.subject.model import SubjectModel
from describe.subject.running import LayerTrace, LiveModel
from eval.inference.attribution import before_post_norm, frozen_scale, post_scale

Floats = NDArray[np.float64]
MIN_ATTENTION = 0.05  # on the words in question, for a head to be counted
MIN_EFFECT = 0.1  # logits for each unit of attention, for its sign to be counted


@dataclass(frozen=True)
class MeasuredCopying:
    """What every head does with repeated random words; each array is [n_layers, n_heads]."""

    attention: Floats  # mean attention of a query on all earlier words together
    effect: Floats  # logits on the attended word, for each unit of that attention
    induction_attention: Floats  # mean attention on the word after the first occurrence
    induction_effect: Floats  # the same effect on those words alone


@dataclass(frozen=True)
class Agreement:
    """Static against measured copying over the heads that attend enough."""

    spearman: float
    heads: int
    same_sign: float  # share, over heads with a measured effect of at least MIN_EFFECT either way
    signed_heads: int


def direct_effects(circuits: LayerCircuits, trace: LayerTrace, readers: Tensor) -> tuple[Tensor, Tensor]:
    """Direct effect of each source on what `readers` read, before the final norm's scale.

    Args:
        circuits: of the layer.
        trace: what it read and wrote.
        readers: a direction for each source position, [b, t, d].

    Returns:
        (by source [b, h, t], scale of the sandwich norm by query [b, t]): the effect of source j through a query i
        that attends to it with weight A is A · by_source[j] · scale[i].
    """
    scale = post_scale(circuits, trace.output)
    readers = before_post_norm(readers, circuits)
    written = (circuits.head_outputs(trace.states, head) for head in range(circuits.n_heads))
    return torch.stack([(rows * readers).sum(-1) for rows in written], dim=1), scale


def repeated_words(
    subject: SubjectModel, word_ids: Sequence[int], sequences: int, length: int, seed: int
) -> Tensor:
    """Sequences [n, 1 + 2·length]: the beginning-of-text token, then random words, then the same again."""
    if len(word_ids) < length:
        raise InputError(f"Only {len(word_ids)} words are single tokens here: {length} are needed.")
    start = getattr(text_config(subject.config), "bos_token_id", None)
    if start is None:
        start = min(subject.vocabulary.special, default=word_ids[0])
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.asarray(word_ids))[:length] for _ in range(sequences)]
    return torch.from_numpy(np.array([np.r_[start, row, row] for row in rows], dtype=np.int64))


def measured_copying(
    subject: SubjectModel, word_ids: Sequence[int], *, sequences: int = 8, length: int = 40, seed: int = 0
) -> MeasuredCopying:
    """Run the live model on repeated random words; see the module's opening for the definition."""
    tokens = repeated_words(subject, word_ids, sequences, length, seed)
    traces, last = LiveModel(subject).run(tokens)
    norm = subject.final_norm()
    U = fold_unembedding(subject.unembedding(), norm, gains=True)
    readers = (U[tokens] - U.mean(0)) * subject.logit_scale
    final = frozen_scale(norm, last)
    position = torch.arange(tokens.shape[1])
    query, source = position[:, None], position[None, :]
    earlier = (query > length) & (source >= 1) & (source < query)
    after_first = (query > length) & (query - source == length - 1)
    found: list[list[Floats]] = []
    for layer, trace in enumerate(traces):
        by_source, post = direct_effects(subject.layer(layer), trace, readers)
        own = []
        for mask in (earlier, after_first):
            weights = trace.attention * mask
            total = weights.sum((0, 2, 3)).double()
            effect = torch.einsum("bhij,bhj,bi->h", weights, by_source, post * final).double()
            own += [(total / (sequences * length)).numpy(), (effect / total.clamp_min(1e-12)).numpy()]
        found.append(own)
    return MeasuredCopying(*(np.stack([own[part] for own in found]) for part in range(4)))


def static_copying(projector: Projector, word_positions: Tensor) -> Floats:
    """Mean entry of the words' own tokens in their rows, from the weights: [n_layers, n_heads].

    In the unit in which the projector's setting ranks targets: z over all sources where targets are standardised;
    else the logit's standard score within its row (mean and variance over all targets, by the moments of U).

    Args:
        projector: of one model and setting.
        word_positions: places of the words among the eligible tokens, [n].
    """
    U, settings = projector.U, projector.settings
    mean = U.mean(0)
    spread = torch.linalg.cholesky_ex(torch.cov(U.T, correction=0).double())[0].to(U.dtype)
    own = U[word_positions]
    found = []
    for layer in range(projector.model.shape.n_layers):
        space, folded = projector.space(layer)
        positions = word_positions.expand(len(folded.W_O), -1)
        rows = written_rows(space, folded, positions, settings.centred)
        entries = (rows * own).sum(-1)
        if settings.standardised:
            entries = entries / target_scale(space, folded, own)
        else:
            deviation = torch.linalg.vector_norm(rows @ spread, dim=-1).clamp_min(1e-12)
            entries = (entries - rows @ mean) / deviation
        found.append(entries.double().mean(1).numpy())
    return np.stack(found)


def agreement(static: Floats, attention: Floats, effect: Floats) -> Agreement:
    """Compare static [L, H] with a measured effect [L, H] over the heads whose attention [L, H] is enough."""
    from scipy.stats import spearmanr

    counted = attention >= MIN_ATTENTION
    signed = counted & (np.abs(effect) >= MIN_EFFECT)
    same = np.sign(static[signed]) == np.sign(effect[signed])
    enough = counted.sum() >= 3
    return Agreement(
        spearman=float(spearmanr(static[counted], effect[counted]).statistic) if enough else float("nan"),
        heads=int(counted.sum()),
        same_sign=float(same.mean()) if signed.any() else float("nan"),
        signed_heads=int(signed.sum()),
    )
