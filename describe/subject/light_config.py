"""A model's config without transformers, as long as nobody asks for more than the checkpoint itself says.

Importing transformers' config classes takes two seconds, longer than all heads of a small model take in the
paper's setting. A `LightConfig` answers for the sizes that a GGUF file states; the first question beyond them
builds the real config, which then answers. The tests hold every light answer against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class LightConfig:
    """Attributes known beforehand, and a transformers config behind them that is built when it is needed."""

    def __init__(self, known: Mapping[str, object], build: Callable[[], Any]) -> None:
        """Answer `known` at once; `build` makes the config that answers for the rest."""
        self._known = dict(known)
        self._build = build
        self._full: Any = None

    @property
    def full(self) -> Any:  # noqa: ANN401  # transformers' config classes share no typed field
        """The transformers config; raises InputError if the checkpoint's sizes contradict each other."""
        if self._full is None:
            self._full = self._build()
        return self._full

    def get_text_config(self, decoder: bool | None = None) -> LightConfig:  # noqa: ARG002  # as transformers has it
        """A GGUF file holds the text model alone."""
        return self

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("_"):  # copying and pickling look for such names before there is an instance
            raise AttributeError(name)
        return self._known[name] if name in self._known else getattr(self.full, name)


def full_config(config: Any) -> Any:  # noqa: ANN401
    """The transformers config itself, for code that hands it to transformers."""
    return config.full if isinstance(config, LightConfig) else config
