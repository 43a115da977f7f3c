"""From two legs to a label: where a head attends, what that does, each against its null, with q-values over the heads.

Only heads that pass the pattern leg are candidates for the effect leg, whose q-values run over the candidates: a
label needs both to be true, so that the pattern leg may choose whom to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eval.battery.measuring import Measured
from eval.battery.removal import Head
from eval.battery.testing import Leg, q_values, sign_flip

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Losses = Mapping[Head, Floats]
"""By head, how much the loss of each text [n_texts] rises without it."""
Contrast = tuple[Losses, Losses]
LEVEL = 0.05
"""False-discovery rate of a label's legs."""


@dataclass(frozen=True)
class Least:
    """What counts: the least pattern score, by how much the effect must exceed its null, and in which direction."""

    pattern: float
    effect: float
    sign: int = 1


LEAST: Mapping[str, Least] = {
    # Attention of .1 is the weak threshold for induction, .4 the strong (taxonomy, 2.1). Effects in logits: .05 is
    # what attention of .1 does through a head that adds half a logit to what it attends to.
    "induction_writer": Least(0.1, 0.05),
    "anti_induction": Least(0.1, 0.05, -1),
    "name_mover": Least(0.3, 0.05),
    "letter_mover": Least(0.3, 0.05),
    "successor": Least(0.1, 0.05),
    "subject_mover": Least(0.1, 0.05),
    "relation_mover": Least(0.1, 0.05),
    "mixed_mover": Least(0.1, 0.05),
    "context": Least(0.1, 0.05),
    "memory": Least(0.1, 0.05),
    "short_context_retrieval": Least(0.1, 0.05),
    "semantic_induction": Least(0.1, 0.05),
    "prediction_amplifier": Least(0.5, 0.1),
    "prediction_damper": Least(0.5, 0.1, -1),
    # Summed over all earlier words, so that a little on each adds up.
    "copying": Least(0.1, 0.25),
    "copy_suppression": Least(0.1, 0.25, -1),
    # Effects in nats of a token's loss: below a hundredth no head is missed.
    "induction_matcher": Least(0.1, 0.01),
    "duplicate_token": Least(0.1, 0.01),
    "previous_token": Least(0.4, 0.01),
    "positional": Least(0.9, 0.01),
    "local": Least(0.9, 0.01),
    "subword_merging": Least(0.2, 0.01),
    "attention_sink": Least(0.3, 0.5),
}
"""Thresholds by class; those of previous_token, positional, local, attention_sink and name_mover are the taxonomy's."""
MIXED_RATIO = 10.0
"""A mixed head's two effects lie within a factor of ten (taxonomy, 2.12)."""


@dataclass(frozen=True)
class Verdict:
    """A class on every head: arrays [n_layers, n_heads], NaN where a head was not asked."""

    name: str
    pattern: Leg
    pattern_q: Floats
    effect: Leg
    effect_q: Floats
    passes: Bools
    beyond_first: Floats | None = None  # the pattern score as a share of what is not on the first token
    detail: Mapping[Head, str] = field(default_factory=dict)

    @property
    def q(self) -> Floats:
        """The larger of the two legs' q-values: 1 where only one was asked."""
        return np.maximum(self.pattern_q, np.nan_to_num(self.effect_q, nan=1.0))


def candidates(pattern: Leg, least: float) -> tuple[Floats, Bools]:
    """q-values of a pattern leg over all heads, and which heads pass it."""
    q = q_values(pattern.reaching(least))
    return q, q < LEVEL


def judge(
    name: str,
    pattern: Leg,
    effect: Leg,
    beyond_first: Floats | None = None,
    also: Bools | None = None,
    detail: Mapping[Head, str] | None = None,
) -> Verdict:
    """The verdict on a class from its legs; `also` is a further condition on candidates."""
    least = LEAST[name]
    pattern_q, asked = candidates(pattern, least.pattern)
    asked = asked if also is None else asked & also
    effect_q = np.where(asked, q_values(effect.p, asked), np.nan)
    # Of the right sign, and larger by the least that counts than on foils or where the class has nothing to do.
    beyond = least.sign * (effect.score - effect.null)
    enough = (least.sign * effect.score > 0) & (beyond >= least.effect)
    passes = asked & (np.nan_to_num(effect_q, nan=1.0) < LEVEL) & enough
    return Verdict(name, pattern, pattern_q, effect, effect_q, passes, beyond_first, detail or {})


def attributed(name: str, topic: Measured, seed: int) -> Verdict:
    """A class whose effect is what the attended token does to the logits of its target, beside its foils."""
    return judge(
        name,
        Leg.of(topic.own.attention, topic.null.attention, seed),
        Leg.of(topic.own.target, topic.own.foil, seed + 1, LEAST[name].sign),
        topic.own.beyond_first.mean(0),
    )


def above(values: Floats, least: float, seed: int) -> Leg:
    """A leg without a null of its own: are the values [n_units, …] reliably above the least that counts?"""
    leg = Leg.of(values, np.full_like(values, least), seed)
    return Leg(leg.score, np.full(leg.null.shape, np.nan), leg.p)


def by_removal(
    name: str,
    pattern: Leg,
    cost: Callable[[Sequence[Head]], Sequence[Contrast]],
    seed: int,
    also: Bools | None = None,
    detail: Mapping[Head, str] | None = None,
) -> Verdict:
    """A class whose effect is what the model loses without the head, on the scene where it loses most surely.

    `cost` gives, for each of one scene or more, the losses by head where the class has something to do and where it has
    nothing, or of other heads; with several scenes the smallest p is multiplied by their number.
    """
    _, asked = candidates(pattern, LEAST[name].pattern)
    asked = asked if also is None else asked & also
    heads = [(int(layer), int(head)) for layer, head in np.argwhere(asked)]
    score, null, p = (np.full(asked.shape, value) for value in (np.nan, np.nan, 1.0))
    scenes = cost(heads) if heads else ()
    for head in heads:
        tests = []
        for place, (own, control) in enumerate(scenes):
            beyond = own[head] - control[head]
            # A sure rise that is too small must not stand for a scene in which the rise is large enough.
            enough = beyond.mean() >= LEAST[name].effect
            tests.append(
                (float(sign_flip(beyond[:, None], seed)[0]) if enough else 1.0, -beyond.mean(), place)
            )
        least_p, _, place = min(tests)
        own_loss, control_loss = (side[head] for side in scenes[place])
        p[head], score[head], null[head] = (
            min(1.0, least_p * len(tests)),
            own_loss.mean(),
            control_loss.mean(),
        )
    return judge(name, pattern, Leg(score, null, p), None, also, detail)
