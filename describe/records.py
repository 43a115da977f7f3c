"""What flows between the rooms: frozen records with derived values only, no files, no rendering."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from describe.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Direction = Literal["promote", "suppress"]
Status = Literal["described", "unclear", "failed", "pending"]

DIRECTIONS: tuple[Direction, ...] = ("promote", "suppress")


@dataclass(frozen=True, order=True)
class HeadId:
    """A query head by layer and index, both from 0; printed `L5H9`."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, text: str) -> HeadId:
        """Read `L5H9`; raises InputError for anything else."""
        match = re.fullmatch(r"L(\d+)H(\d+)", text.strip(), flags=re.IGNORECASE)
        if match is None:
            raise InputError(f"'{text}' is not a head: write it like L5H9 (layer 5, head 9, both from 0).")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a subject model, as its weights have them."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int  # size of one head's value vector
    n_vocab: int  # rows of W_E

    def kv_head(self, head: int) -> int:
        """The KV head whose W_V query head `head` uses (grouped-query attention)."""
        return head // (self.n_heads // self.n_kv_heads)

    @property
    def heads(self) -> list[HeadId]:
        """Every head, in order of layer and index."""
        return [HeadId(layer, head) for layer in range(self.n_layers) for head in range(self.n_heads)]


@dataclass(frozen=True)
class HeadMappings:
    """The salient mappings of one head in one direction, most salient source first.

    K rows, one a source token, with n targets each, best first. `heldout` marks the rows that only grading
    may see; the others are for drafting (method, section 6, rule 1).
    """

    head: HeadId
    direction: Direction
    source_ids: NDArray[np.int64]  # [K]
    saliency: NDArray[np.float32]  # [K] ‖S_s W_V W_O‖ / ‖S_s‖ (MAPS, section 3)
    contrast: NDArray[np.float32] | None  # [K] what ranked the sources, when saliency was contrastive
    target_ids: NDArray[np.int64]  # [K, n]
    logits: NDArray[np.float32]  # [K, n] M[s, t]
    z: NDArray[np.float32] | None  # [K, n] (M[s, t] − μ_t) / σ_t, when targets were standardised
    heldout: NDArray[np.bool_]  # [K]


def is_heldout(token_id: int, seed: int = 0) -> bool:
    """Whether a source token's row is kept from drafting: one bit of a hash of the token id."""
    return bool(hashlib.sha256(f"{seed}:{token_id}".encode()).digest()[0] & 1)
