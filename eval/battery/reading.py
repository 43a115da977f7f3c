"""The suites of a model, read: forward passes, and what they say of every head, suite by suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits
from describe.relations import Relation
from describe.subject.architectures import text_config
from eval.battery import prompts, words
from eval.battery.measuring import Batch, Measured, TopicSums, answered, batches
from eval.battery.profiles import Profiles, profiles
from eval.battery.removal import Scene
from eval.battery.suites import Suite, Topic
from eval.inference.attribution import Attribution

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from describe.subject.running import LiveModel

Progress = Callable[[str, int, int], None]
SCENE_PROMPTS, SCENE_LENGTH, SCENE_TOKENS = 16, 20, 48
PREDICTIONS_EVERY = 4  # positions of a text whose prediction is looked at


def start_token(subject: SubjectModel) -> int:
    """What a text begins with: the beginning-of-text token, or the first special one."""
    start = getattr(text_config(subject.config), "bos_token_id", None)
    return int(min(subject.vocabulary.special, default=0) if start is None else start)


class Suites:
    """The suites of one model by name, built when they are first asked for.

    Args:
        subject: the model.
        relations: packaged relations by name, for facts.
        related: names of the relations that semantic induction is tested with.
        seed: of every draw.
    """

    def __init__(
        self, subject: SubjectModel, relations: Mapping[str, Relation], related: Sequence[str], seed: int
    ) -> None:
        vocabulary, start = subject.vocabulary, start_token(subject)
        chosen = [relations[name] for name in related if name in relations]
        self.builders: Mapping[str, Callable[[], Suite]] = {
            "repeated words": lambda: words.repeated(vocabulary, start, seed),
            "texts": lambda: words.natural(vocabulary, start),
            "words of several pieces": lambda: words.pieces(vocabulary, start, seed),
            "indirect objects": lambda: prompts.indirect_objects(vocabulary, start, seed),
            "acronyms": lambda: prompts.acronyms(vocabulary, start, seed),
            "facts": lambda: prompts.facts(vocabulary, relations, start, seed),
            "conflicts": lambda: prompts.conflicts(vocabulary, relations, start, seed),
            "needles": lambda: prompts.needles(vocabulary, start, seed),
            "sequences": lambda: prompts.sequences(vocabulary, start),
            "related pairs": lambda: prompts.related_pairs(vocabulary, chosen, start, seed),
        }
        self._scenes = {
            "repeated words": lambda: _repeated_scene(
                words.repeated(vocabulary, start, seed + 1, SCENE_LENGTH)
            ),
            "texts": lambda: _texts_scene(self.builders["texts"]()),
            "pieces": lambda: _pieces_scene(self.builders["words of several pieces"]()),
        }

    def scene(self, name: str) -> Scene:
        """What heads are removed on; its texts are not those that the patterns were read from, where words are drawn."""
        return self._scenes[name]()


def _repeated_scene(suite: Suite) -> Scene:
    scene = Scene("repeated words")
    for prompt in suite.prompts[::2][:SCENE_PROMPTS]:  # every other one has other words before
        scene.prompts.append(prompt)
        scene.positions.append(tuple(range(1 + SCENE_LENGTH, 2 * SCENE_LENGTH)))
    return scene


def _texts_scene(suite: Suite) -> Scene:
    scene = Scene("texts")
    for prompt in suite.prompts[:SCENE_PROMPTS]:
        scene.prompts.append(prompt[:SCENE_TOKENS])
        scene.positions.append(tuple(range(4, len(scene.prompts[-1]) - 1)))
    return scene


def _pieces_scene(suite: Suite) -> Scene:
    """What follows a piece that continues a word."""
    scene, own = Scene("pieces"), suite.topics["pieces"].own
    for number, prompt in enumerate(suite.prompts[:SCENE_PROMPTS]):
        queries = {
            query
            for at, query in zip(own.prompt, own.query, strict=True)
            if at == number and query < len(prompt) - 1
        }
        if queries:
            scene.prompts.append(prompt)
            scene.positions.append(tuple(sorted(queries)))
    return scene


@dataclass(frozen=True)
class SuiteReading:
    """A suite's topics, the profiles of its prompts where they are texts, and the share of its questions answered."""

    topics: Mapping[str, Measured]
    profiles: Profiles | None
    accuracy: float | None


class Reader:
    """Reads suites off one live model.

    Args:
        subject: the model.
        live: the same, running.
        progress: told (stage, done, in all).
    """

    def __init__(
        self, subject: SubjectModel, live: LiveModel, progress: Progress = lambda stage, done, total: None
    ) -> None:
        self._subject, self.live, self._progress = subject, live, progress
        self._circuits: Callable[[int], LayerCircuits] = cache(subject.layer)
        self._shape = (subject.shape.n_layers, subject.shape.n_heads)

    @cached_property
    def _norm(self) -> Callable[[Tensor], Tensor]:
        return self._subject.final_norm()

    def read(self, suite: Suite) -> SuiteReading:
        """Run the model on a suite."""
        if suite.name == "texts":
            self._add_predictions(suite)
        sums = TopicSums(self._subject, self._circuits, suite, self._shape)
        whole = Attribution(self._subject, [(0,)]) if suite.name in ("texts", "repeated words") else None
        answers: list[bool] = []
        parts: list[tuple[list[int], Profiles]] = []

        def told(done: int, total: int) -> None:
            self._progress(f"battery, {suite.name}", done, total)

        for batch in batches(self.live, suite, told):
            sums.add(batch)
            answers += answered(suite, batch, self.live, self._norm)
            if whole is not None:
                parts.append((batch.numbers, self._profiles(batch, whole)))
        accuracy = float(np.mean(answers)) if answers else None
        return SuiteReading(sums.measured(), _in_order(parts), accuracy)

    def _profiles(self, batch: Batch, whole: Attribution) -> Profiles:
        scale = whole.final_scale(batch.last)
        layers = [
            whole.of_layer(self._circuits(layer), trace, scale) for layer, trace in enumerate(batch.traces)
        ]
        return profiles(batch.traces, layers)

    def _add_predictions(self, suite: Suite) -> None:
        """Topic `prediction`: what a text's tokens do, through their own query, to the model's first choice there.

        Foil: its first choice at another position of the same text.
        """
        topic = suite.topics.setdefault("prediction", Topic())
        for unit, prompt in enumerate(suite.prompts):
            hidden = self.live.hidden(torch.tensor([prompt]))[0]
            queries = range(words.FEWEST_FOR_LOCAL, len(prompt), PREDICTIONS_EVERY)
            first = [int(self.live.logits(hidden[query]).argmax()) for query in queries]
            for place, query in enumerate(queries):
                foil = next(
                    (other for other in first[place + 1 :] + first[:place] if other != first[place]), None
                )
                if foil is not None:
                    topic.own.add((unit, query, query), unit, 1 / len(queries), (first[place],), (foil,))


def _in_order(parts: Sequence[tuple[list[int], Profiles]]) -> Profiles | None:
    """Profiles of batches, in the order of their prompts."""
    if not parts:
        return None
    joined = Profiles.joined([part for _, part in parts])
    order = np.argsort([number for numbers, _ in parts for number in numbers])
    return Profiles(
        **{
            name: getattr(joined, name)[:, order] if name == "offsets" else getattr(joined, name)[order]
            for name in Profiles.__dataclass_fields__
        }
    )
