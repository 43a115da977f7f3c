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
from eval.battery.measuring import Measured, TopicSums, answered, batches
from eval.battery.profiles import Profiles, profiles
from eval.battery.removal import Scene
from eval.battery.suites import Suite, Topic, Untestable
from eval.inference.attribution import Attribution

if TYPE_CHECKING:
    from describe.subject.model import SubjectModel
    from describe.subject.running import LiveModel

Progress = Callable[[str, int, int], None]
SCENE_PROMPTS, SCENE_LENGTH, SCENE_TOKENS = 16, 20, 48
PREDICTIONS_EVERY = 8  # positions of a text whose prediction is looked at


def start_token(subject: SubjectModel) -> int:
    """What a text begins with: the beginning-of-text token, or the first special one.

    Raises:
        Untestable: the vocabulary has neither.
    """
    start = getattr(text_config(subject.config), "bos_token_id", None)
    start = start[0] if isinstance(start, list) and start else start
    if isinstance(start, int) and 0 <= start < subject.shape.n_vocab:
        return start
    if not subject.vocabulary.special:
        raise Untestable("the vocabulary has no token to begin a text with")
    return min(subject.vocabulary.special)


def prediction(layer: int) -> str:
    """The topic of what is predicted when a layer reads."""
    return f"prediction at layer {layer}"


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
        vocabulary = subject.vocabulary
        chosen = [relations[name] for name in related if name in relations]

        def start() -> int:
            return start_token(subject)

        self.builders: Mapping[str, Callable[[], Suite]] = {
            "repeated words": lambda: words.repeated(vocabulary, start(), seed),
            "texts": lambda: words.natural(vocabulary, start()),
            "words of several pieces": lambda: words.pieces(vocabulary, start(), seed),
            "indirect objects": lambda: prompts.indirect_objects(vocabulary, start(), seed),
            "acronyms": lambda: prompts.acronyms(vocabulary, start(), seed),
            "facts": lambda: prompts.facts(vocabulary, relations, start(), seed),
            "conflicts": lambda: prompts.conflicts(vocabulary, relations, start(), seed),
            "needles": lambda: prompts.needles(vocabulary, start(), seed),
            "sequences": lambda: prompts.sequences(vocabulary, start()),
            "related pairs": lambda: prompts.related_pairs(vocabulary, chosen, start(), seed),
        }

        def scene_words() -> Suite:
            return words.repeated(vocabulary, start(), seed + 1, SCENE_LENGTH)

        self._scenes = {
            "repeated words": lambda: _word_scene("repeated words", scene_words(), 0),
            "fresh words": lambda: _word_scene("fresh words", scene_words(), 1),
            "texts": lambda: _texts_scene(self.builders["texts"]()),
            "pieces": lambda: _pieces_scene("pieces", self.builders["words of several pieces"](), "own"),
            "first pieces": lambda: _pieces_scene(
                "first pieces", self.builders["words of several pieces"](), "null"
            ),
        }

    def scene(self, name: str) -> Scene:
        """What heads are removed on; its texts are not those that the patterns were read from, where words are drawn."""
        return self._scenes[name]()


def _word_scene(name: str, suite: Suite, first: int) -> Scene:
    """The second half of words that repeat (from prompt 0 every second) or of the same words after others (from 1)."""
    scene = Scene(name)
    for prompt in suite.prompts[first::2][:SCENE_PROMPTS]:
        scene.prompts.append(prompt)
        scene.positions.append(tuple(range(1 + SCENE_LENGTH, 2 * SCENE_LENGTH)))
    return scene


def _texts_scene(suite: Suite) -> Scene:
    scene = Scene("texts")
    for prompt in suite.prompts[:SCENE_PROMPTS]:
        scene.prompts.append(prompt[:SCENE_TOKENS])
        scene.positions.append(tuple(range(4, len(scene.prompts[-1]) - 1)))
    return scene


def _pieces_scene(name: str, suite: Suite, side: str) -> Scene:
    """What follows a piece that continues a word, or (side `null`) one that begins a word."""
    scene, own = Scene(name), getattr(suite.topics["pieces"], side)
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
        self._circuits: Callable[[int], LayerCircuits] = cache(
            lambda layer: subject.layer(layer).to(live.device)
        )
        self._shape = (subject.shape.n_layers, subject.shape.n_heads)

    @cached_property
    def _norm(self) -> Callable[[Tensor], Tensor]:
        return self._subject.final_norm().to(self.live.device)

    @cached_property
    def _attribution(self) -> Attribution:
        return Attribution(self._subject, device=self.live.device)

    def read(self, suite: Suite) -> SuiteReading:
        """Run the model on a suite."""
        if suite.name == "texts":
            self._add_predictions(suite)
        sums = TopicSums(self._attribution, self._circuits, suite, self._shape)
        profiled = suite.name in ("texts", "repeated words")
        answers: list[bool] = []
        parts: list[tuple[list[int], Profiles]] = []

        def told(done: int, total: int) -> None:
            self._progress(f"battery, {suite.name}", done, total)

        for batch in batches(self.live, suite, told):
            sums.add(batch)
            answers += answered(suite, batch, self.live, self._norm)
            if profiled:
                parts.append((batch.numbers, profiles(batch.traces, self._circuits)))
        accuracy = float(np.mean(answers)) if answers else None
        return SuiteReading(sums.measured(), _in_order(parts), accuracy)

    def _add_predictions(self, suite: Suite) -> None:
        """A topic for each layer: what a text's token does, through its own query, to what is predicted there already.

        The target is the first choice of the stream that the layer reads, through the final norm and the unembedding
        (the logit lens): with the model's own first choice every head that took part in it would seem to amplify it.
        Foil: the first choice at another position of the same text. Places where the first choice is still the token
        itself, as in the first layers of models with tied embeddings, speak of copying and are left out.
        """
        for unit, prompt in enumerate(suite.prompts):
            queries = range(words.FEWEST_FOR_LOCAL, len(prompt), PREDICTIONS_EVERY)
            states: dict[int, Tensor] = {}
            with self.live.tapped(states=states.__setitem__):
                self.live.hidden(torch.tensor([prompt]))
            for layer, found in states.items():
                topic = suite.topics.setdefault(prediction(layer), Topic(layer=layer))
                logits = self.live.logits(self._norm(found[0, list(queries)]))
                first = logits.argmax(-1).tolist()
                for place, query in enumerate(queries):
                    own = (first[place], prompt[query])
                    others = [other for other in first[place + 1 :] + first[:place] if other not in own]
                    if others and first[place] != prompt[query]:
                        topic.own.add(
                            (unit, query, query), unit, 1 / len(queries), (first[place],), (others[0],)
                        )


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
