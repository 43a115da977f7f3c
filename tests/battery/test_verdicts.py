"""Labels from readings made up for the purpose: for each rule a head that passes, and one that misses by a little."""

from types import SimpleNamespace

import numpy as np
import pytest

from eval.battery.classes import Found, verdicts
from eval.battery.measuring import Measured, Readings
from eval.battery.profiles import Profiles
from eval.battery.reading import prediction
from eval.battery.testing import Leg
from eval.battery.verdicts import attributed, by_removal

N, SHAPE = 24, (2, 3)
HEADS = [(layer, head) for layer in range(SHAPE[0]) for head in range(SHAPE[1])]


def units(*values, n=N):
    """[n, 2, 3]: each head's value in every unit, with a little noise of its own; 0 for heads not given."""
    filled = np.array([*values, *[0.0] * (6 - len(values))]).reshape(SHAPE)
    return filled + np.random.default_rng(0).normal(0, 1e-3, (n, *SHAPE))


def topic(attention, target=(), foil=(), elsewhere=()):
    own = Readings(units(*attention), units(*attention), units(*target), units(*foil))
    return Measured(own, Readings(*(units(*elsewhere) for _ in range(4))))


def passing(verdict):
    return [tuple(place) for place in np.argwhere(verdict.passes).tolist()]


def only(found, name, cost=None):
    return next(one for one in verdicts(found, cost, 0) if one.name == name)


def test_both_legs_must_reach_the_least_and_exceed_their_nulls():
    attention = (0.5, 0.5, 0.5, 0.28, 0.5, 0.5)
    target = (0.4, 0.4, -0.1, 0.4, 0.04, 0.4)
    foil = (0.1, 0.38, -0.4, 0.1, 0.0, 0.1)
    elsewhere = (0.1, 0.1, 0.1, 0.1, 0.1, 0.6)
    verdict = attributed("name_mover", topic(attention, target, foil, elsewhere), seed=0)
    # Head 1 does as much to the other name, 2 lowers both, 3 attends too little, 4 does too little, 5 attends elsewhere.
    assert passing(verdict) == [HEADS[0]]
    assert verdict.q[HEADS[5]] == 1 and np.isnan(verdict.effect_q[HEADS[5]])
    lowers = attributed("anti_induction", topic(attention, foil, target, elsewhere), seed=0)
    assert passing(lowers) == [HEADS[2]]  # lowers what it attends to, below foils that it lowers less


def removal(name, pattern, scenes):
    return by_removal(name, pattern, lambda heads: [tuple(side) for side in scenes], seed=0)


def losses(*values):
    generator = np.random.default_rng(1)
    return {
        head: value + generator.normal(0, 1e-4, 16)
        for head, value in zip(HEADS, [*values, *[0.0] * (6 - len(values))], strict=True)
    }


def test_a_removal_counts_beyond_its_control_and_in_the_scene_where_it_is_large():
    pattern = Leg(np.full(SHAPE, 0.6), np.full(SHAPE, 0.1), np.full(SHAPE, 1e-5))
    one = (losses(0.5, 0.5, 0.004, 0.0, 0.004), losses(0.0, 0.495))
    other = (losses(0.0, 0.0, 0.5, 0.5, 0.004), losses(0.0, 0.0, 0.0, 0.6))
    other[0][HEADS[2]][:3] = -0.1
    verdict = removal("previous_token", pattern, [one, other])
    # 0 by the first scene, 2 by the second though the first is surer; 1 and 3 cost others as much; 4 costs too little.
    assert passing(verdict) == [HEADS[0], HEADS[2]]
    assert verdict.effect.score[HEADS[2]] == pytest.approx(0.5 - 3 * 0.6 / 16, abs=1e-3)
    assert verdict.effect.p[HEADS[3]] == 1 and np.isfinite(verdict.effect.null[HEADS[3]])
    nobody = Leg(np.zeros(SHAPE), np.zeros(SHAPE), np.ones(SHAPE))
    assert passing(removal("previous_token", nobody, [one])) == []


def costly(scenes, heads):
    """Every head costs half a nat where its class has something to do, and nothing elsewhere."""
    return [(losses(*[0.5] * 6), losses()) for _ in scenes]


def profiles(**given):
    flat = {name: np.full((N, *SHAPE), 0.2) for name in Profiles.__dataclass_fields__}
    flat["offsets"] = np.zeros((9, N, *SHAPE))
    return Profiles(**(flat | given))


def test_a_previous_token_head_attends_enough_on_words_and_on_text():
    words = topic((0.5, 0.5), elsewhere=(0.3, 0.0))
    texts = topic((0.35, 0.45), elsewhere=(0.05, 0.3))
    found = Found(
        {"repeated words": {"previous": words} | NOTHING, "texts": {"previous": texts} | PREDICTIONS},
        profiles(),
        profiles(),
    )
    assert passing(only(found, "previous_token", costly)) == [HEADS[1]]


NOTHING = {name: topic(()) for name in ("induction", "duplicate", "copying")}
PREDICTIONS = {prediction(layer): topic(()) for layer in range(SHAPE[0])}


def test_positional_heads_keep_one_offset_back_and_read_something():
    words, texts = np.zeros((9, N, *SHAPE)), np.zeros((9, N, *SHAPE))
    for number, (offset, on_words, on_texts) in enumerate(
        [(1, 0.97, 0.95), (0, 0.99, 0.99), (2, 0.95, 0.6), (1, 0.97, 0.95), (3, 0.95, 0.96), (1, 0.2, 0.95)]
    ):
        layer, head = HEADS[number]
        words[offset, :, layer, head], texts[offset, :, layer, head] = on_words, on_texts
    first = units(0.2, 0.2, 0.2, 0.95, 0.2, 0.2)
    found = Found(
        {"repeated words": {"previous": topic(())} | NOTHING, "texts": {"previous": topic(())} | PREDICTIONS},
        profiles(offsets=texts, first=first),
        profiles(offsets=words),
    )
    verdict = only(found, "positional", costly)
    # Offset 0 is no distance; 2 keeps it on words alone; 3 rests on the first token; 5 keeps it on text alone.
    assert passing(verdict) == [HEADS[0], HEADS[4]]
    assert (verdict.detail[HEADS[0]], verdict.detail[HEADS[4]]) == ("offset 1", "offset 3")


def test_amplifiers_and_dampers_are_read_from_their_own_layers_topic():
    up, down = (
        topic((), (0.5, 0.5, 0.5, 0, 0, 0), (0.1, 0.45, 0.1)),
        topic((), (9, 9, 9, -0.5, -0.05, -0.5), (0,)),
    )
    texts = profiles(first=units(0.3, 0.3, 0.1, 0.4, 0.4, 0.1), itself=units(*[0.3] * 6))
    found = Found({"texts": {prediction(0): up, prediction(1): down}}, texts, None)
    assert passing(only(found, "prediction_amplifier")) == [HEADS[0]]
    assert passing(only(found, "prediction_damper")) == [HEADS[3]]


def test_subword_heads_attend_more_within_words_than_at_their_beginnings():
    pieces = topic((0.6, 0.6, 0.3), elsewhere=(0.1, 0.55, 0.15))
    found = Found({"words of several pieces": {"pieces": pieces}}, None, None)
    assert passing(only(found, "subword_merging", costly)) == [HEADS[0]]


def test_successors_beat_the_rest_of_the_class_and_the_member_before_in_most_classes():
    attention, rest = (0.5,) * 6, (0.1,) * 6
    topics = {}
    for place, name in enumerate(("days", "months", "numbers", "ordinals", "letters")):
        # Head 1 raises both neighbours alike; 2 is right in three classes of five, 3 above the one before in three.
        third, before = (0.5, 0.1) if place < 3 else (0.0, 0.9)
        target = (0.5, 0.5, third, 0.5)
        topics[name] = topic(attention, target, rest, ())
        topics[f"{name}, back"] = topic(attention, target, (0.2, 0.5, 0.1, before), ())
    verdict = only(Found({"sequences": topics}, None, None), "successor")
    assert passing(verdict) == [HEADS[0]]


def test_mixed_heads_need_both_words_and_like_effects():
    subject = topic((0.35, 0.35, 0.35), (0.5, 0.5, 0.6), (0.1, 0.1, 0.0), (0.3, 0.05, 0.05))
    relation = topic((0.3, 0.08, 0.3), (0.4, 0.4, 0.055), (0.1, 0.1, 0.0), (0.01, 0.01, 0.01))
    found = Found({"facts": {"subject": subject, "relation": relation}}, None, None)
    # Head 1 hardly attends to the relation's word; head 2 gets a tenth from it of what the subject gives.
    assert passing(only(found, "mixed_mover")) == [HEADS[0]]
    assert passing(only(found, "subject_mover")) == HEADS[:3]


def test_semantic_induction_names_the_relation_that_stands_out_and_pays_for_the_choice():
    attention = (0.5, 0.5, 0.5)
    first = topic(attention, (0.3, 0.3, 0.02), (0.28, 0.0, 0.0))
    second = topic(attention, (0.2, 0.3, 0.02), (0.0, 0.0, 0.0))
    second.own.target[:3, 0, 0] = -0.2  # less sure than the first, which misses the least that counts
    weak = topic(attention, (0.3, 0.3, 0.02), (0.0, 0.35, 0.0))  # head 1 raises the word itself more
    found = {"a": first, "a, itself": weak, "b": second, "b, itself": weak}
    verdict = only(Found({"related pairs": found}, None, None), "semantic_induction")
    assert passing(verdict) == [HEADS[0]] and verdict.detail[HEADS[0]] == "b"
    alone = only(Found({"related pairs": {"b": second, "b, itself": weak}}, None, None), "semantic_induction")
    assert verdict.effect.p[HEADS[0]] == pytest.approx(2 * alone.effect.p[HEADS[0]])


def test_sinks_rest_only_where_the_first_token_writes_little():
    texts = profiles(first=units(0.8, 0.8, 0.2), first_chance=units(*[0.02] * 6), rest=units(0.1, 0.8, 0.1))
    found = Found({"texts": PREDICTIONS}, texts, None)
    assert passing(only(found, "attention_sink")) == [HEADS[0]]


def test_the_cost_of_heads_in_text_is_held_against_the_costliest_of_a_few_others(monkeypatch):
    from eval.battery.job import BatteryJob

    job = object.__new__(BatteryJob)
    job._seed = 0
    job.model = SimpleNamespace(shape=SimpleNamespace(n_heads=4))
    asked = []

    def removed(scene, heads):
        asked.append(list(heads))
        return {head: np.full(3, float(head[1])) for head in heads}

    monkeypatch.setattr(job, "_removed", removed, raising=False)
    ((own, control),) = job._cost(["texts"], [(0, 0), (1, 3)])
    assert own[1, 3].tolist() == [3.0] * 3
    assert control[0, 0].tolist() == [3.0] * 3 and control[1, 3].tolist() == [2.0] * 3
    ((_, fresh),) = job._cost(["repeated words"], [(0, 0)])
    assert fresh.keys() == {(0, 0)}  # its control is another scene, not other heads
    job.model.shape.n_heads = 1
    ((own, nothing),) = job._cost(["texts"], [(0, 0)])
    assert nothing[0, 0].tolist() == [0.0] * 3
