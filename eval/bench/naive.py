"""The straightforward way to the same mappings: what the benchmarks compare with, and no more.

The whole model is loaded by transformers; each head's W_V W_O is multiplied out, the whole vocabulary goes
through it in float32, and `topk` sees whole rows. This is the rule of MAPS (section 3) and of its released code,
which besides runs the first MLP over the vocabulary anew for every head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from describe.errors import InputError
from describe.subject import weights
from describe.subject.running import without_bars
from describe.subject.sources import Checkpoint


@dataclass(frozen=True)
class HeadTable:
    """The mappings of one head; what `HeadMappings` holds for both directions, as tensors."""

    source_ids: Tensor  # [K]
    saliency: Tensor  # [K]
    promoted_ids: Tensor  # [K, n]
    promoted: Tensor  # [K, n] logits
    suppressed_ids: Tensor  # [K, n]
    suppressed: Tensor  # [K, n] logits


class WholeModel:
    """A causal language model loaded whole by transformers, in float32, as a `TensorStore` of its weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load it; raises InputError if transformers cannot."""
        import transformers

        where, options = (
            (checkpoint.folder, {})
            if checkpoint.gguf is None
            else (checkpoint.gguf.parent, {"gguf_file": checkpoint.gguf.name})
        )
        loader: Any = transformers.AutoModelForCausalLM
        with without_bars():
            try:
                module: nn.Module = loader.from_pretrained(
                    where, dtype=torch.float32, local_files_only=True, trust_remote_code=False, **options
                )
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200].rstrip(". ")
                raise InputError(f"transformers cannot load '{checkpoint.name}' ({reason}).") from error
        self.module: Any = module.eval()
        self.config = cast(Any, self.module.config)
        self._tensors: dict[str, Tensor] = {name: value.data for name, value in module.state_dict().items()}
        if self.config.get_text_config().tie_word_embeddings:
            self._tensors.pop("lm_head.weight", None)
        self._layout = weights.layout_of(self.config, self)
        self.shape = self._layout.shape

    @property
    def digest(self) -> str:
        """Not the file's: this store is in memory."""
        return "in-memory"

    def names(self) -> frozenset[str]:
        """Every tensor name."""
        return frozenset(self._tensors)

    def read(self, name: str) -> Tensor:
        """One tensor; raises InputError if there is none."""
        if name not in self._tensors:
            raise InputError(f"The model has no tensor '{name}'.")
        return self._tensors[name]

    def embedding(self) -> Tensor:
        """W_E [V, d]."""
        return weights.embedding(self.config, self)

    def unembedding(self) -> Tensor:
        """The unembedding by rows [V, d]."""
        return weights.unembedding(self.config, self)

    def first_mlp(self) -> Tensor:
        """MLP0(LN2(E)) of the whole vocabulary at once, [V, d], by the model's own modules."""
        architecture = self._layout.architecture
        block = self.module.get_submodule(f"{self._layout.prefix}{architecture.layers}.0")
        names = (
            architecture.mlp if architecture.mlp_norm is None else (architecture.mlp_norm, *architecture.mlp)
        )
        rows = self.embedding()[:, None]
        with torch.no_grad():
            for name in names:
                rows = block.get_submodule(name)(rows)
                rows = rows[0] if isinstance(rows, tuple) else rows
        return rows[:, 0]

    def head(self, layer: int, head: int) -> Tensor:
        """W_V W_O of a head, multiplied out: [d, d]."""
        circuits = weights.layer_circuits(self.config, self, layer)
        return circuits.W_V[circuits.kv_head(head)] @ circuits.W_O[head]


def naive_head(states: Tensor, W_VO: Tensor, U: Tensor, salient: int, targets: int) -> HeadTable:
    """The mappings of one head from source states [V, d], W_V W_O [d, d] and the unembedding [V, d]."""
    written = states @ W_VO
    saliency = written.norm(dim=1) / states.norm(dim=1)
    strength, sources = saliency.topk(salient)
    M = written[sources] @ U.T
    promoted, suppressed = M.topk(targets, dim=1), M.topk(targets, dim=1, largest=False)
    return HeadTable(
        sources, strength, promoted.indices, promoted.values, suppressed.indices, suppressed.values
    )
