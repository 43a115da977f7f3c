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
from eval.battery.reading import prediction
from eval.battery.removal import Head
from eval.battery.testing import FLIPS, Leg
from eval.battery.verdicts import LEAST, MIXED_RATIO, Contrast, Verdict, above, attributed, by_removal, judge

Floats = NDArray[np.float64]
Cost = Callable[[Sequence[str], Sequence[Head]], Sequence[Contrast]]
"""Told scenes and heads: for each scene, what each text loses without the head, there and in the scene's control."""
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
ALSO = {"previous_token": "repeated words", "positional": "repeated words"}
"""Classes that need a second suite."""
ATTRIBUTED = {
    "induction_writer": "induction",
    "anti_induction": "induction",
    "name_mover": "names",
    "letter_mover": "letters",
    "subject_mover": "subject",
    "relation_mover": "relation",
    "context": "context",
    "memory": "memory",
    "short_context_retrieval": "needles",
}
"""Classes of one topic: attention on it, and what that does to its target."""


READS = 0.1
"""Attention beyond the first token from which on a head's places count."""
IN_MOST = 0.8
"""Share of the ordered classes in which a successor head raises the next member above both."""


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
    if found.texts is not None:
        yield from _of_texts(found.texts, cost, seed + 300)
        yield from _of_predictions(found.topics["texts"], found.texts, seed + 400)
    if found.texts is not None and found.words is not None and cost is not None:
        yield from _of_places(found, found.texts, found.words, cost, seed + 350)
    if "words of several pieces" in found.topics and cost is not None:
        yield _merging(found.topics["words of several pieces"]["pieces"], cost, seed + 500)
    if "facts" in found.topics:
        yield _mixed(found.topics["facts"], seed + 600)
    if "sequences" in found.topics:
        yield _successor(found.topics["sequences"], seed + 650)
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


def _of_texts(texts: Profiles, cost: Cost | None, seed: int) -> Iterator[Verdict]:
    """Sinks and local heads."""
    sink = Leg.of(texts.first, texts.first_chance, seed)
    yield judge("attention_sink", sink, Leg.of(1 - texts.rest, np.zeros_like(texts.rest), seed + 1))
    if cost is not None:
        near = Leg.of(texts.near, texts.near_chance, seed + 2)
        yield by_removal("local", near, partial(cost, ["texts"]), seed + 3, _read(texts))


def _of_places(found: Found, texts: Profiles, words: Profiles, cost: Cost, seed: int) -> Iterator[Verdict]:
    """Previous-token and positional heads: where a head attends on random words as on text."""
    previous = [found.topics[suite]["previous"] for suite in ("repeated words", "texts")]
    legs = [Leg.of(one.own.attention, one.null.attention, seed) for one in previous]
    yield by_removal("previous_token", _lower(*legs), partial(cost, ["repeated words", "texts"]), seed + 1)
    yield _positional(texts, words, cost, seed + 2)


def _read(texts: Profiles) -> NDArray[np.bool_]:
    """Heads that read anything: of one that rests on the first token, the rest of its pattern says nothing."""
    return np.asarray((1 - texts.first).mean(0) >= READS)


def _positional(texts: Profiles, words: Profiles, cost: Cost, seed: int) -> Verdict:
    """The strongest key stands at one offset back, chosen on random words and tested on texts; null: the next best."""
    back = words.offsets.mean(1)[1:]  # offset 0 is the token itself, no distance
    offset = 1 + back.argmax(0)
    at_offset = np.take_along_axis(texts.offsets, offset[None, None], axis=0)[0]
    others = texts.offsets.copy()
    np.put_along_axis(others, np.broadcast_to(offset, others.shape[1:])[None], -1.0, axis=0)
    steady = back.max(0) >= LEAST["positional"].pattern
    detail = {
        (int(layer), int(head)): f"offset {offset[layer, head]}" for layer, head in np.ndindex(*offset.shape)
    }
    pattern = Leg.of(at_offset, others.max(0), seed)
    also = _read(texts) & steady
    return by_removal("positional", pattern, partial(cost, ["texts"]), seed + 1, also, detail)


def _of_predictions(topics: Mapping[str, Measured], texts: Profiles, seed: int) -> Iterator[Verdict]:
    """Heads that attend to the query's own token, or rest, and scale what is predicted there when they read."""
    own = [topics[prediction(layer)].own for layer in range(texts.first.shape[1])]
    n_units = len(texts.first)
    target, foil = np.zeros(texts.first.shape), np.zeros(texts.first.shape)
    for layer, reading in enumerate(own):  # a layer whose last texts say one thing throughout has fewer units
        target[: min(n_units, len(reading.target)), layer] = reading.target[:, layer]
        foil[: min(n_units, len(reading.foil)), layer] = reading.foil[:, layer]
    for name in ("prediction_amplifier", "prediction_damper"):
        least = LEAST[name]
        attending = above(texts.itself + texts.first, least.pattern, seed)
        yield judge(name, attending, Leg.of(target, foil, seed + 1, least.sign))


def _merging(topic: Measured, cost: Cost, seed: int) -> Verdict:
    """A later piece attends to the piece before by `LEAST` more than a first piece does to the token before it.

    A previous-token head attends as much from both.
    """
    pattern = Leg.of(topic.own.attention, topic.null.attention, seed)
    also = pattern.score - pattern.null >= LEAST["subword_merging"].pattern
    return by_removal("subword_merging", pattern, partial(cost, ["pieces"]), seed + 1, also)


def _successor(topics: Mapping[str, Measured], seed: int) -> Verdict:
    """The next member above the rest of its class and above the member before, on average in most of the classes."""
    names = [name for name in topics if not name.endswith(", back")]
    forth, back = ([topics[f"{name}{end}"] for name in names] for end in ("", ", back"))
    effects = []
    for side in (forth, back):
        target, foil = (
            np.concatenate([getattr(one.own, part) for one in side]) for part in ("target", "foil")
        )
        effects.append(Leg.of(target, foil, seed + 1))
    attention = [np.concatenate([getattr(one, side).attention for one in forth]) for side in ("own", "null")]
    both = [
        [(one.own.target - one.own.foil).mean(0) > 0 for one in pair]
        for pair in zip(forth, back, strict=True)
    ]
    most = np.mean([np.logical_and(*pair) for pair in both], axis=0) >= IN_MOST
    return judge("successor", Leg.of(attention[0], attention[1], seed), _weaker(*effects), also=most)


def _mixed(topics: Mapping[str, Measured], seed: int) -> Verdict:
    """Both halves of a fact, from both its words, within a factor of ten."""
    two = [topics["subject"], topics["relation"]]
    patterns = [Leg.of(one.own.attention, one.null.attention, seed) for one in two]
    effects = [Leg.of(one.own.target, one.own.foil, seed + 1) for one in two]
    small = np.minimum(*(effect.score for effect in effects))
    large = np.maximum(*(effect.score for effect in effects))
    return judge("mixed_mover", _lower(*patterns), _weaker(*effects), also=small * MIXED_RATIO >= large)


def _lower(one: Leg, other: Leg) -> Leg:
    """Of two patterns that must both reach the least that counts, the lower score with its null, and the larger p."""
    return _either(one.score <= other.score, one, other)


def _weaker(one: Leg, other: Leg) -> Leg:
    """Of two effects that must both exceed their nulls, the one that does so by less, and the larger p."""
    return _either(one.score - one.null <= other.score - other.null, one, other)


def _either(first: NDArray[np.bool_], one: Leg, other: Leg) -> Leg:
    return Leg(
        np.where(first, one.score, other.score),
        np.where(first, one.null, other.null),
        np.maximum(one.p, other.p),
    )


def _semantic(topics: Mapping[str, Measured], seed: int) -> Verdict:
    """The relation of which a head moves most surely; its p-values count as often as there are relations."""
    least, flips = LEAST["semantic_induction"], FLIPS * 10
    patterns, effects = [], []
    names = [name for name in topics if not name.endswith(", itself")]
    for name in names:
        topic, itself = topics[name], topics[f"{name}, itself"]
        patterns.append(Leg.of(topic.own.attention, topic.null.attention, seed, flips=flips))
        over = [Leg.of(one.own.target, one.own.foil, seed + 1, flips=flips) for one in (topic, itself)]
        # The effect is that on the target; its null the stronger of the foils.
        effects.append(
            Leg(over[0].score, np.maximum(over[0].null, over[1].null), np.maximum(over[0].p, over[1].p))
        )
    beyond = [effect.score - effect.null for effect in effects]
    both = [
        np.maximum(pattern.reaching(least.pattern), np.where(size >= least.effect, effect.p, 1.0))
        for pattern, effect, size in zip(patterns, effects, beyond, strict=True)
    ]
    # Of relations that are equally sure, the one with the larger effect.
    order = np.stack(both) - 1e-9 * np.tanh(np.stack(beyond))
    best = order.argmin(0)
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
