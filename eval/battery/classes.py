"""The classes, each from what the suites measured; definitions, thresholds and sources: `data/battery/classes.json`.

One function a class or family of classes. What a suite could not measure on a model is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eval.battery.measuring import Measured
from eval.battery.profiles import Profiles
from eval.battery.removal import Head
from eval.battery.testing import FLIPS, Leg
from eval.battery.verdicts import LEAST, MIXED_RATIO, Verdict, above, attributed, by_removal, judge

Floats = NDArray[np.float64]
Losses = Sequence[Mapping[Head, Floats]]
Cost = Callable[[Sequence[str], Sequence[Head]], Losses]
"""Told scenes and heads: by scene and head, how much each text's loss rises without the head."""
SUITE_OF = {
    "induction_writer": "repeated words",
    "induction_matcher": "repeated words",
    "anti_induction": "repeated words",
    "duplicate_token": "repeated words",
    "copying": "repeated words",
    "copy_suppression": "repeated words",
    "previous_token": "texts",
    "positional": "texts",
    "local": "texts",
    "attention_sink": "texts",
    "prediction_amplifier": "texts",
    "prediction_damper": "texts",
    "subword_merging": "words of several pieces",
    "name_mover": "indirect objects",
    "letter_mover": "acronyms",
    "successor": "sequences",
    "subject_mover": "facts",
    "relation_mover": "facts",
    "mixed_mover": "facts",
    "context": "conflicts",
    "memory": "conflicts",
    "short_context_retrieval": "needles",
    "semantic_induction": "related pairs",
}
"""Every class that is tested, and the suite that it is read from."""
ATTRIBUTED = {
    "induction_writer": "induction",
    "anti_induction": "induction",
    "name_mover": "names",
    "letter_mover": "letters",
    "successor": "successor",
    "subject_mover": "subject",
    "relation_mover": "relation",
    "context": "context",
    "memory": "memory",
    "short_context_retrieval": "needles",
}
"""Classes of one topic: attention on it, and what that does to its target."""


@dataclass(frozen=True)
class Found:
    """What the suites measured, by suite and topic; profiles of texts and of random words."""

    topics: Mapping[str, Mapping[str, Measured]]
    texts: Profiles | None
    words: Profiles | None


def verdicts(found: Found, cost: Cost | None, seed: int) -> Iterator[Verdict]:
    """The verdict on every class whose suite was measured; without `cost`, none of the classes that need removals."""
    for place, (name, topic) in enumerate(ATTRIBUTED.items()):
        if SUITE_OF[name] in found.topics:
            yield attributed(name, found.topics[SUITE_OF[name]][topic], seed + 10 * place)
    if "repeated words" in found.topics:
        yield from _of_repeated(found.topics["repeated words"], cost, seed + 200)
    if found.texts is not None and found.words is not None:
        yield from _of_places(found, found.texts, found.words, cost, seed + 300)
        yield from _of_predictions(found.topics["texts"]["prediction"], found.texts, seed + 400)
    if "words of several pieces" in found.topics and cost is not None:
        yield _merging(found.topics["words of several pieces"]["pieces"], cost, seed + 500)
    if "facts" in found.topics:
        yield _mixed(found.topics["facts"], seed + 600)
    if "related pairs" in found.topics:
        yield _semantic(found.topics["related pairs"], seed + 700)


def _of_repeated(topics: Mapping[str, Measured], cost: Cost | None, seed: int) -> Iterator[Verdict]:
    induction, duplicate, copying = (topics[name] for name in ("induction", "duplicate", "copying"))
    if cost is not None:
        for name, topic in (("induction_matcher", induction), ("duplicate_token", duplicate)):
            pattern = Leg.of(topic.own.attention, topic.null.attention, seed)
            yield by_removal(name, pattern, partial(cost, ["repeated words"]), seed + 1)
    for name in ("copying", "copy_suppression"):
        yield judge(
            name,
            above(copying.own.attention, LEAST[name].pattern, seed + 2),
            Leg.of(copying.own.target, copying.own.foil, seed + 3, LEAST[name].sign),
            copying.own.beyond_first.mean(0),
        )


def _of_places(
    found: Found, texts: Profiles, words: Profiles, cost: Cost | None, seed: int
) -> Iterator[Verdict]:
    """Sinks, and previous-token, positional and local heads: where a head attends, whatever the tokens are."""
    sink = Leg.of(texts.first, texts.first_chance, seed + 6)
    yield judge("attention_sink", sink, Leg.of(1 - texts.rest, np.zeros_like(texts.rest), seed + 7))
    if cost is None:
        return
    read = (1 - texts.first).mean(0) >= 0.1  # of a head that rests on the first token, the rest says nothing
    previous = [found.topics[suite]["previous"] for suite in ("repeated words", "texts")]
    legs = [Leg.of(one.own.attention, one.null.attention, seed) for one in previous]
    weaker = _weaker(*legs)
    yield by_removal("previous_token", weaker, partial(cost, ["repeated words", "texts"]), seed + 1)
    near = Leg.of(texts.near, texts.near_chance, seed + 4)
    yield by_removal("local", near, partial(cost, ["texts"]), seed + 5, read)
    yield _positional(texts, words, cost, seed, read)


def _positional(texts: Profiles, words: Profiles, cost: Cost, seed: int, read: NDArray[np.bool_]) -> Verdict:
    """The strongest key stands at one offset, chosen on random words and tested on texts; null: the next best offset."""
    offset = words.offsets.mean(1).argmax(0)  # chosen on random words, tested on texts
    at_offset = np.take_along_axis(texts.offsets, offset[None, None], axis=0)[0]
    others = texts.offsets.copy()
    np.put_along_axis(others, np.broadcast_to(offset, others.shape[1:])[None], -1.0, axis=0)
    steady = np.take_along_axis(words.offsets.mean(1), offset[None], axis=0)[0] >= LEAST["positional"].pattern
    detail = {
        (int(layer), int(head)): f"offset {offset[layer, head]}" for layer, head in np.ndindex(*offset.shape)
    }
    pattern = Leg.of(at_offset, others.max(0), seed + 2)
    return by_removal("positional", pattern, partial(cost, ["texts"]), seed + 3, read & steady, detail)


def _of_predictions(topic: Measured, texts: Profiles, seed: int) -> Iterator[Verdict]:
    """Heads that attend to the query's own token, or rest, and scale what the model predicts there anyway."""
    attending = texts.itself + texts.first
    for name in ("prediction_amplifier", "prediction_damper"):
        least = LEAST[name]
        yield judge(
            name,
            above(attending, least.pattern, seed),
            Leg.of(topic.own.target, topic.own.foil, seed + 1, least.sign),
        )


def _merging(topic: Measured, cost: Cost, seed: int) -> Verdict:
    """The score is the difference itself: a previous-token head attends as much from words' first pieces."""
    difference = topic.own.attention - topic.null.attention
    pattern = Leg.of(difference, np.zeros_like(difference), seed)
    return by_removal("subword_merging", pattern, partial(cost, ["pieces"]), seed + 1)


def _mixed(topics: Mapping[str, Measured], seed: int) -> Verdict:
    """Both halves of a fact, from both its words, within a factor of ten."""
    two = [topics["subject"], topics["relation"]]
    patterns = [Leg.of(one.own.attention, one.null.attention, seed) for one in two]
    effects = [Leg.of(one.own.target, one.own.foil, seed + 1) for one in two]
    small = np.minimum(*(effect.score for effect in effects))
    large = np.maximum(*(effect.score for effect in effects))
    return judge("mixed_mover", _weaker(*patterns), _weaker(*effects), also=small * MIXED_RATIO >= large)


def _weaker(one: Leg, other: Leg) -> Leg:
    """The leg of two that must both hold: the lower score with its null, and the larger p."""
    first = one.score <= other.score
    return Leg(
        np.where(first, one.score, other.score),
        np.where(first, one.null, other.null),
        np.maximum(one.p, other.p),
    )


def _semantic(topics: Mapping[str, Measured], seed: int) -> Verdict:
    """The relation of which a head moves most surely; its p-values count as often as there are relations."""
    least, flips = LEAST["semantic_induction"], FLIPS * 10
    patterns, effects = [], []
    for topic in topics.values():
        patterns.append(Leg.of(topic.own.attention, topic.null.attention, seed, flips=flips))
        effects.append(Leg.of(topic.own.target, topic.own.foil, seed + 1, flips=flips))
    both = [
        np.maximum(pattern.reaching(least.pattern), effect.reaching(least.effect))
        for pattern, effect in zip(patterns, effects, strict=True)
    ]
    # Of relations that are equally sure, the one with the larger effect.
    order = np.stack(both) - 1e-9 * np.tanh(np.stack([effect.score for effect in effects]))
    best = order.argmin(0)
    names = list(topics)
    detail = {(int(layer), int(head)): names[best[layer, head]] for layer, head in np.ndindex(*best.shape)}
    pattern, effect = (_chosen(legs, best) for legs in (patterns, effects))
    return judge("semantic_induction", pattern, effect, detail=detail)


def _chosen(legs: Sequence[Leg], best: NDArray[np.int64]) -> Leg:
    """For each head the leg of one relation, its p-value multiplied by the number of relations."""
    score, null, p = (
        np.take_along_axis(np.stack([getattr(leg, name) for leg in legs]), best[None], axis=0)[0]
        for name in ("score", "null", "p")
    )
    return Leg(score, null, np.minimum(1.0, p * len(legs)))
