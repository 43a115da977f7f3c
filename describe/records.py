"""What flows between the rooms: frozen records with derived values only, no files, no rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from describe.errors import InputError

Direction = Literal["promote", "suppress"]
Split = Literal["draft", "heldout"]
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
class TokenMapping:
    """One salient source token of a head with its top targets in one direction."""

    source_rank: int  # 0 = most salient
    source_id: int
    saliency: float  # ‖S_s W_V W_O‖ / ‖S_s‖ (MAPS, section 3), or its contrastive form
    split: Split
    target_ids: tuple[int, ...]  # best first
    logits: tuple[float, ...]  # M[s, t]
    z: tuple[float, ...]  # (M[s, t] − μ_t) / σ_t over all sources


@dataclass(frozen=True)
class HeadMappings:
    """All mappings of one head in one direction, most salient source first."""

    head: HeadId
    direction: Direction
    rows: tuple[TokenMapping, ...]


@dataclass(frozen=True)
class Cluster:
    """Rows of a head that seem to share one operation; `index` −1 holds the noise rows."""

    head: HeadId
    direction: Direction
    index: int
    source_ids: tuple[int, ...]
    cohesion: float  # mean pairwise cosine of the members' vectors


@dataclass(frozen=True)
class Draft:
    """What a drafter says about a cluster (or, with cluster None, about the whole head)."""

    head: HeadId
    direction: Direction
    cluster: int | None
    status: Status
    inputs_text: str | None
    pattern_text: str | None
    evidence: dict[str, object]
