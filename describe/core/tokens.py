"""Token text as data, and which tokens say nothing: pure functions over texts and embedding rows."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

REASONS = ("special", "unused", "padding", "never_produced", "under_trained")

# Invisible although Unicode calls them letters, marks or symbols: fillers, variation selectors, Braille blank
_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0]
    + [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
)
_MIN_REFERENCE = 3  # fewer untrained rows agree by chance
_MIN_COSINE = 0.95  # with the direction of rows that were never trained
_LOW_NORM_Z = 6.0  # robust standard deviations below the median log-norm
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_CHUNK = 16_384  # rows worked on at a time


def escape(text: str) -> str:
    r"""A token as a JSON string, in quotes, that is safe to show on a terminal or to put in a prompt.

    ASCII spaces and printable characters stay; control characters, ANSI escapes, direction marks,
    zero-width and other invisible characters, unusual spaces, unassigned code points and a combining mark
    with nothing before it become `\uXXXX`. `json.loads(escape(text)) == text`.
    """
    shown = []
    for position, character in enumerate(text):
        if character in '"\\':
            shown.append(f"\\{character}")
        elif _is_plain(character) and not (position == 0 and unicodedata.category(character)[0] == "M"):
            shown.append(character)
        else:
            shown.append(json.dumps(character)[1:-1])  # \n, \u200b, or a surrogate pair
    return f'"{"".join(shown)}"'


def _is_plain(character: str) -> bool:
    return character.isprintable() and ord(character) not in _INVISIBLE


class TokenSets(Protocol):
    """What the subject's vocabulary knows about its tokens: sets of ids."""

    @property
    def special(self) -> frozenset[int]:
        """Control tokens."""

    @property
    def unused(self) -> frozenset[int]:
        """Tokens named as kept for later."""

    @property
    def padding(self) -> frozenset[int]:
        """Rows without a token."""

    @property
    def never_produced(self) -> frozenset[int]:
        """Tokens that tokenising their own text never gives back."""


@dataclass(frozen=True)
class TokenFilter:
    """The tokens that are left out as sources and targets; an id has one reason, the first that fits."""

    n_vocab: int
    reasons: Mapping[str, tuple[int, ...]]  # reason → ids in order

    @cached_property
    def excluded(self) -> frozenset[int]:
        """Every id that is left out."""
        return frozenset(index for ids in self.reasons.values() for index in ids)

    @cached_property
    def kept(self) -> Tensor:
        """Which ids stay: bool [n_vocab], on the CPU."""
        mask = torch.ones(self.n_vocab, dtype=torch.bool)
        mask[sorted(self.excluded)] = False
        return mask

    @property
    def counts(self) -> dict[str, int]:
        """How many ids each reason leaves out."""
        return {reason: len(ids) for reason, ids in self.reasons.items()}

    @classmethod
    def none(cls, n_vocab: int) -> TokenFilter:
        """Nothing left out (the paper's setting)."""
        return cls(n_vocab, {reason: () for reason in REASONS})


def excluded_tokens(
    sets: TokenSets, W_E: Tensor, W_U_rows: Tensor | None = None
) -> dict[str, tuple[int, ...]]:
    """Which tokens to leave out and why, for `TokenFilter`.

    Args:
        sets: the subject's vocabulary.
        W_E: input embedding [V, d].
        W_U_rows: unembedding as rows [V, d]; None if it is tied to W_E.

    Returns:
        ids in order for each of `REASONS`; an id is listed under the first reason that fits.
    """
    reference = sets.special | sets.unused | sets.padding
    found: dict[str, Iterable[int]] = {
        "special": sets.special,
        "unused": sets.unused,
        "padding": sets.padding,
        "never_produced": sets.never_produced,
        "under_trained": under_trained(W_E, W_U_rows, reference=reference),
    }
    taken: set[int] = set()
    reasons = {}
    for reason in REASONS:
        ids = set(found[reason]) - taken
        reasons[reason] = tuple(sorted(ids))
        taken |= ids
    return reasons


def under_trained(
    W_E: Tensor, W_U_rows: Tensor | None = None, *, reference: Iterable[int] = ()
) -> tuple[int, ...]:
    """Tokens whose rows training hardly touched, after Land & Bartolo 2024 (arXiv 2405.05417).

    Rule 1: the gradient pushes the unembedding rows of all tokens that never occur the same way, so they
    end up in one direction. The mean row is taken off, the direction is the coordinate-wise median of the
    `reference` rows (a median, since some special tokens are trained), and ids with a cosine of at least
    0.95 to it are reported. If fewer than half of the reference rows point that way, the model has no such
    direction and no id is.

    Rule 2, for an untied W_E only: an input row that never occurs gets no gradient and decays, so ids with a
    log-norm 6 robust standard deviations (median, MAD) below the median are reported. For tied embeddings the
    norm says the opposite: the smallest rows of SmolLM2 are ` John`, ` Michael` and ` David`.

    Args:
        W_E: input embedding [V, d].
        W_U_rows: unembedding as rows [V, d]; None if it is tied to W_E.
        reference: ids known or likely to be untrained: unused, padding and special.

    Returns:
        ids in order, the reference's own among them.
    """
    ids = set(_near_untrained(W_E if W_U_rows is None else W_U_rows, sorted(reference)))
    if W_U_rows is not None:
        ids |= set(_low_norm(W_E))
    return tuple(sorted(ids))


def _near_untrained(rows: Tensor, reference: list[int]) -> list[int]:
    """Ids of rows [V, d] in the direction that most reference rows share; rule 1 of `under_trained`."""
    if len(reference) < _MIN_REFERENCE:
        return []
    mean = torch.stack([chunk.double().sum(0) for chunk in torch.split(rows, _CHUNK)]).sum(0) / len(rows)
    direction = (rows[reference].double().median(0).values - mean).float()
    if direction.norm() == 0:
        return []
    cosine = torch.cat(
        [
            torch.nn.functional.cosine_similarity(chunk.float() - mean.float(), direction[None])
            for chunk in torch.split(rows, _CHUNK)
        ]
    )
    near = cosine >= _MIN_COSINE
    if near[reference].float().mean() < 0.5:
        return []
    return [int(index) for index in near.nonzero().flatten()]


def _low_norm(rows: Tensor) -> list[int]:
    """Ids of rows [V, d] with an outlying small norm; rule 2 of `under_trained`."""
    norm = torch.cat([chunk.float().norm(dim=1) for chunk in torch.split(rows, _CHUNK)]).double()
    log_norm = norm.clamp_min(1e-12).log()
    median = log_norm.median()
    spread = (log_norm - median).abs().median() * _MAD_TO_SIGMA
    if spread == 0:  # more than half of the norms are equal: no scale to judge by
        return []
    low = (log_norm - median) / spread < -_LOW_NORM_Z
    return [int(index) for index in low.nonzero().flatten()]
