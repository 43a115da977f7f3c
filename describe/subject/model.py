"""The subject model: one checkpoint's tensors, sizes and vocabulary behind one name.

This module owns the putting together, and the checks that only the parts together allow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.errors import InputError
from describe.protocols import TensorStore
from describe.records import ModelShape
from describe.subject import block0, weights
from describe.subject.architectures import Config, text_config
from describe.subject.sources import Checkpoint, resolve
from describe.subject.stores import load_config, open_store
from describe.subject.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class SubjectWeights:
    """The numbers of a model under study, which stay in the files until a method asks for them.

    Every method reads anew and returns tensors on the CPU in the dtype asked for, so keep what is used
    twice. All raise InputError for a tensor that is missing, misshapen or damaged.
    """

    name: str  # the catalogue's model id, with its revision
    architecture: str  # config.model_type of the language model, a key of the architecture table
    shape: ModelShape
    checkpoint: Checkpoint = field(repr=False)
    config: Config = field(repr=False)
    store: TensorStore = field(repr=False)

    @property
    def digest(self) -> str:
        """sha256 (hex) over the weight files: the identity of the weights."""
        return self.store.digest

    @property
    def logit_scale(self) -> float:
        """What a head's write is multiplied by on the direct path to the logits, the final norm aside."""
        return weights.logit_scale(self.config) * weights.residual_scale(self.config)

    @property
    def tied(self) -> bool:
        """Whether the unembedding is W_E itself, so that one reading serves for both."""
        return weights.unembedding_name(self.config, self.store) is None

    def W_E(self, dtype: torch.dtype = torch.float32) -> Tensor:  # noqa: N802
        """Embedding [V, d], as stored."""
        return weights.embedding(self.config, self.store, dtype)

    def unembedding(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unembedding by rows [V, d]: W_U transposed."""
        return weights.unembedding(self.config, self.store, dtype)

    def final_norm(self, dtype: torch.dtype = torch.float32) -> Norm:
        """The norm before the unembedding."""
        return weights.final_norm(self.config, self.store, dtype)

    def layer(self, layer: int, dtype: torch.dtype = torch.float32) -> LayerCircuits:
        """The OV circuits of one layer, from 0."""
        return weights.layer_circuits(self.config, self.store, layer, dtype)

    def block0(
        self,
        token_ids: Tensor | None = None,
        *,
        want: Collection[block0.State] = block0.ALL_STATES,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> block0.Block0States:
        """States around block 0 for tokens [n], or for the whole vocabulary; see `block0_states`."""
        return block0.block0_states(self.config, self.store, token_ids, want=want, device=device, dtype=dtype)


@dataclass(frozen=True)
class SubjectModel(SubjectWeights):
    """A model under study: its weights and its tokens as text."""

    vocabulary: Vocabulary = field(repr=False)


def load_weights(
    model: str,
    cache_dir: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SubjectWeights:
    """Find MODEL and open it for work on token ids alone, without a tokenizer; arguments of `load_subject`.

    Raises:
        InputError: MODEL cannot be found, read or represented.
    """
    checkpoint = resolve(model, cache_dir=cache_dir, progress=progress)
    config, store = load_config(checkpoint), open_store(checkpoint)
    return SubjectWeights(
        name=checkpoint.name,
        architecture=text_config(config).model_type,
        shape=weights.model_shape(config, store),
        checkpoint=checkpoint,
        config=config,
        store=store,
    )


def load_subject(
    model: str,
    cache_dir: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> SubjectModel:
    """Find MODEL and open it; no weight is read yet.

    Args:
        model: a hub id with `@revision`, a local folder, a `.gguf` file, or a packaged alias.
        cache_dir: where fetched files are kept; the user's cache directory by default.
        progress: told (label, bytes done, bytes in all) while files are fetched.

    Raises:
        InputError: MODEL cannot be found, read or represented, or its tokenizer belongs to another model.
    """
    opened = load_weights(model, cache_dir, progress)
    vocabulary = load_vocabulary(opened.checkpoint, opened.shape.n_vocab)
    _check_fit(opened.name, vocabulary, opened.shape.n_vocab)
    parts = {part.name: getattr(opened, part.name) for part in fields(opened)}
    return SubjectModel(**parts, vocabulary=vocabulary)


def _check_fit(name: str, vocabulary: Vocabulary, n_vocab: int) -> None:
    """Refuse a tokenizer with ordinary tokens beyond the embedding matrix.

    Added tokens may lie beyond it: the text-only Gemma 3 models ship the tokenizer of their multimodal
    siblings, whose image token has no row.
    """
    n_tokens = 1 + max(vocabulary.tokenizer.get_vocab(with_added_tokens=False).values(), default=-1)
    if n_tokens > n_vocab:
        raise InputError(
            f"The tokenizer of '{name}' has {n_tokens} tokens but its embedding matrix only {n_vocab} rows: "
            "its tokenizer files belong to another model, so download the model again."
        )
