"""What a suite is: prompts, and which entries of the attention patterns speak of what, in units that are independent.

A *cell* is an entry of a pattern: a query and a key of a prompt, with a group of tokens that the key should raise
through the query, and a group of foils that it should not. A *topic* holds the cells of one question, and beside them
the cells of its null: the same question where the answer is chance. Cells are summed, by their weights, into units
(a prompt, a text), over which the tests run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Group = tuple[int, ...]
Ints = NDArray[np.int64]


@dataclass
class Cells:
    """Cells as they are collected; see the module's opening."""

    prompt: list[int] = field(default_factory=list)
    query: list[int] = field(default_factory=list)
    key: list[int] = field(default_factory=list)
    unit: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    target: list[Group] = field(default_factory=list)
    foil: list[Group] = field(default_factory=list)

    def add(
        self,
        place: tuple[int, int, int],
        unit: int,
        weight: float,
        target: Group = (),
        foil: Group = (),
    ) -> None:
        """One cell at (prompt, query, key); without a target only its attention is read."""
        for name, value in zip(("prompt", "query", "key"), place, strict=True):
            getattr(self, name).append(value)
        self.unit.append(unit)
        self.weight.append(weight)
        self.target.append(target)
        self.foil.append(foil)


@dataclass
class Topic:
    """A question's cells and those of its null, which share their units."""

    own: Cells = field(default_factory=Cells)
    null: Cells = field(default_factory=Cells)
    layer: int | None = None  # the only layer that is asked; all where None

    @property
    def n_units(self) -> int:
        """Units are numbered from 0 without gaps."""
        return 1 + max(self.own.unit, default=-1)


@dataclass(frozen=True)
class Question:
    """What the model must do for a suite to say anything: the answer must beat the foils at a prompt's end."""

    prompt: int
    answer: Group
    foils: Group


@dataclass
class Suite:
    """Prompts, their topics, and what the model must be able to do."""

    name: str
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    topics: dict[str, Topic] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    needed: float = 0.0  # share of the questions that the model must answer, for a class to be testable
    chance: float = 0.0  # share that guessing answers

    def topic(self, name: str) -> Topic:
        """The topic of that name, made when it is first asked for."""
        return self.topics.setdefault(name, Topic())

    def add(self, tokens: Iterable[int]) -> int:
        """A further prompt's number."""
        self.prompts.append(tuple(tokens))
        return len(self.prompts) - 1


class Untestable(Exception):
    """A suite cannot be built on this model; its text is the reason, for people."""


def by_length(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """Numbers of prompts in batches of one length each, of at most so many tokens: nothing is ever padded."""
    batches: list[list[int]] = []
    for number in sorted(range(len(prompts)), key=lambda number: len(prompts[number])):
        length = len(prompts[number])
        if (
            not batches
            or len(prompts[batches[-1][0]]) != length
            or (len(batches[-1]) + 1) * length > max(tokens, length)
        ):
            batches.append([])
        batches[-1].append(number)
    return batches


def groups_of(topics: Mapping[str, Topic]) -> tuple[list[Group], dict[Group, int]]:
    """The distinct groups of tokens that topics ask about, and each one's place."""
    found = {
        group
        for topic in topics.values()
        for cells in (topic.own, topic.null)
        for group in (*cells.target, *cells.foil)
        if group
    }
    groups = sorted(found)
    return groups, {group: place for place, group in enumerate(groups)}
