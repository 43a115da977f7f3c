"""Where an outside library or another room enters: the few methods that are relied on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from describe.chat import Outcome, Question

T = TypeVar("T")


class TensorStore(Protocol):
    """Named tensors of a checkpoint, in Hugging Face names, read lazily and one at a time."""

    @property
    def digest(self) -> str:
        """sha256 (hex) over the weight files' content: the identity of the weights."""

    def names(self) -> frozenset[str]:
        """Every tensor name, such as `model.layers.0.self_attn.v_proj.weight`."""

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU, floating point; raises InputError if missing or damaged."""


class Encoder(Protocol):
    """A sentence encoder."""

    @property
    def name(self) -> str:
        """What it is called in the catalogue, with its version."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-length vectors [len(texts), dim], float32."""


class Asking(Protocol):
    """Puts questions to a chat model."""

    @property
    def base_url(self) -> str:
        """The endpoint, as it may be stored: without user or password."""

    def ask(
        self, questions: Sequence[Question[T]], progress: Callable[[int, int], None] = ...
    ) -> list[Outcome[T]]:
        """The outcomes, in order; `progress` is told (done, total).

        Raises:
            DescribeError: the endpoint refuses or does not answer; what was answered is kept.
        """
