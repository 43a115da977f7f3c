"""One file a prompt, with `$name` variables; the digest of a prompt stands in every row that it made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

_TURN = re.compile(r"^--- (system|user|assistant) ---$", re.MULTILINE)


@dataclass(frozen=True)
class Prompt:
    """The turns of a conversation, as templates."""

    name: str
    digest: str  # sha256 (hex) of the file's text
    turns: tuple[tuple[str, str], ...]  # (role, text with $variables)

    @property
    def variables(self) -> frozenset[str]:
        """The names that `turns_with` wants."""
        return frozenset(name for _, text in self.turns for name in Template(text).get_identifiers())

    def turns_with(self, **values: object) -> Iterator[tuple[str, str]]:
        """The turns (role, text) with every variable replaced, once: a value's own `$` stay as they are.

        Raises:
            ValueError: a variable without a value, or a value that no variable wants.
        """
        if set(values) != self.variables:
            missing, unknown = self.variables - set(values), set(values) - self.variables
            raise ValueError(f"prompt '{self.name}': missing {sorted(missing)}, unknown {sorted(unknown)}")
        return ((role, Template(text).substitute(values)) for role, text in self.turns)


@cache
def load(name: str) -> Prompt:
    """A packaged prompt by its name; a file that is not there raises FileNotFoundError."""
    text = (files(__package__) / f"{name}.txt").read_text(encoding="utf-8")
    parts = _TURN.split(text)
    turns = tuple((role, turn.strip()) for role, turn in zip(parts[1::2], parts[2::2], strict=True))
    return Prompt(name, hashlib.sha256(text.encode()).hexdigest(), turns)
