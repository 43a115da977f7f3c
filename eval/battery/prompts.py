"""Suites of prompts with an answer: names, acronyms, facts, conflicts, needles, sequences, pairs of relations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from data import battery_input
from describe.jobs.relation_pairs import usable
from describe.relations import Relation
from describe.relations.generated import FEW
from eval.battery.suites import Question, Suite, Topic, Untestable
from eval.battery.words import BatteryVocabulary, single_words

PROMPTS = 48
PAIRS_PROMPTS = 24  # of each relation
FILLERS = 4  # sentences around a needle: some 70 tokens
CAPITALS, LANGUAGES = "country_to_capital", "country_to_language"  # of facts and conflicts
SUBJECTS = 3  # of each frame of a fact
NEUTRAL = ("The story of {source} contains", "When I think about {source} I think about")
"""Neutral texts of MAPS: nothing in them asks for a relation, and the source stands at two distances from the end."""


def placed(
    vocabulary: BatteryVocabulary, start: int, text: str, words: Mapping[str, str]
) -> tuple[list[int], dict[str, list[int]]]:
    """A text with words in its places, as tokens after `start`, and where each word's last token stands.

    Found by the tokens' places in the text, so that a word that occurs elsewhere cannot lead astray.
    """
    spans: list[tuple[str, int, int]] = []
    whole = ""
    for part in re.split(r"(\{\w+\})", text):
        word = words[part[1:-1]] if part.startswith("{") else part
        if part.startswith("{"):
            spans.append((part[1:-1], len(whole), len(whole) + len(word)))
        whole += word
    found = vocabulary.tokenizer.encode(whole, add_special_tokens=False)
    positions: dict[str, list[int]] = {}
    for name, begin, end in spans:
        inside = [n for n, (first, last) in enumerate(found.offsets) if first < end and last > begin]
        positions.setdefault(name, []).append(1 + max(inside))
    return [start, *found.ids], positions


def indirect_objects(vocabulary: BatteryVocabulary, start: int, seed: int) -> Suite:
    """Two names, one of which comes again: the other is the answer (taxonomy, 2.4).

    Topic `names`: the end's attention on the answer's name, which should raise it; null: on the other's first mention.
    """
    content = battery_input("indirect_objects")
    names = _words(vocabulary, content["names"], 8, "names")
    generator = np.random.default_rng([seed, 3])
    suite = Suite("indirect objects", needed=0.75, chance=0.5)
    topic = suite.topic("names")
    for unit in range(PROMPTS):
        text = content["templates"][unit // 2 % len(content["templates"])]["text"]
        pair = [names[i] for i in generator.permutation(len(names))[:2]]
        again = pair[unit % 2]  # ABBA and BABA in turn
        other = pair[1 - unit % 2]
        drawn = {kind: str(generator.choice(content[f"{kind}s"])) for kind in ("place", "object")}
        tokens, at = placed(vocabulary, start, text, drawn | {"A": pair[0], "B": pair[1], "S": again})
        prompt, end = suite.add(tokens), len(tokens) - 1
        answer, rival = (_id(vocabulary, name) for name in (other, again))
        first = {pair[0]: at["A"][0], pair[1]: at["B"][0]}
        topic.own.add((prompt, end, first[other]), unit, 1.0, (answer,), (rival,))
        topic.null.add((prompt, end, first[again]), unit, 1.0)
        suite.questions.append(Question(prompt, (answer,), (rival,)))
    return suite


def acronyms(vocabulary: BatteryVocabulary, start: int, seed: int) -> Suite:
    """Three words and the acronym so far (taxonomy, 2.10); topic `letters`, null: attention on the other words."""
    content = battery_input("acronyms")
    letters = {chr(n): found for n in range(65, 91) if (found := vocabulary.id_of(chr(n))) is not None}
    words = [word for word in _words(vocabulary, content["words"], 12, "title words") if word[0] in letters]
    generator = np.random.default_rng([seed, 4])
    suite = Suite("acronyms", needed=0.5, chance=1 / max(1, len(letters)))
    topic = suite.topic("letters")
    for unit in range(PROMPTS):
        chosen = _of_different_letters(words, generator)
        tokens, at = placed(vocabulary, start, content["texts"][0], dict(zip("012", chosen, strict=True)))
        k = unit % 3
        prompt = suite.add([*tokens, *(letters[word[0]] for word in chosen[:k])])
        end = len(tokens) + k - 1
        answer = letters[chosen[k][0]]
        others = tuple(sorted(i for i in letters.values() if i != answer))
        topic.own.add((prompt, end, at[str(k)][0]), unit, 1.0, (answer,), others)
        for other in {0, 1, 2} - {k}:
            topic.null.add((prompt, end, at[str(other)][0]), unit, 0.5)
        suite.questions.append(Question(prompt, (answer,), others))
    return suite


def facts(vocabulary: BatteryVocabulary, relations: Mapping[str, Relation], start: int, seed: int) -> Suite:
    """Facts asked for in many frames (taxonomy, 2.12): what comes from the subject, and what from the relation's word.

    Topics: `subject`, a unit a prompt (target: the answer; foil: the relation's other answers), and `relation`, a unit a
    frame (target: all answers of the relation; foil: those of the other), since before a subject has been read the
    relation's word has one and the same value. Null of both: attention on the frame's other words.
    """
    asked = battery_input("facts")["relations"]
    pairs = {one["relation"]: _pairs(vocabulary, relations, one["relation"]) for one in asked}
    answers = {name: tuple(sorted({target for _, target in own})) for name, own in pairs.items()}
    suite = Suite("facts", needed=0.5)
    subject, relation = suite.topic("subject"), suite.topic("relation")
    generator = np.random.default_rng([seed, 5])
    for one, other in zip(asked, reversed(asked), strict=True):
        own, rest = pairs[one["relation"]], answers[other["relation"]]
        drawn = generator.permutation(len(own))[: SUBJECTS * len(one["texts"])]
        for place, text in enumerate(one["texts"]):
            frame = relation.n_units
            for chosen in drawn[place :: len(one["texts"])]:
                word, answer = own[chosen]
                tokens, at = placed(vocabulary, start, text, {"subject": word, "word": one["word"]})
                prompt, end, unit = suite.add(tokens), len(tokens) - 1, len(suite.questions)
                at_subject, at_word = at["subject"][0], at["word"][0]
                foil = tuple(i for i in answers[one["relation"]] if i != answer)
                subject.own.add((prompt, end, at_subject), unit, 1.0, (answer,), foil)
                range_, others = answers[one["relation"]], sorted(set(range(1, end)) - {at_subject, at_word})
                relation.own.add((prompt, end, at_word), frame, 1 / SUBJECTS, range_, rest)
                for key in others:
                    subject.null.add((prompt, end, key), unit, 1 / len(others))
                    relation.null.add((prompt, end, key), frame, 1 / (SUBJECTS * len(others)))
                suite.questions.append(Question(prompt, (answer,), ()))
    return suite


def conflicts(
    vocabulary: BatteryVocabulary, relations: Mapping[str, Relation], start: int, seed: int
) -> Suite:
    """A text says that another city is the capital (taxonomy, 2.13): `context` repeats it, `memory` does not.

    Each topic's null is the attention on the place that the other topic reads.
    """
    content, pairs = battery_input("conflicts"), _pairs(vocabulary, relations, CAPITALS)
    names = {target: vocabulary.texts[target].strip() for _, target in pairs}
    generator = np.random.default_rng([seed, 6])
    suite = Suite("conflicts", needed=0.5)
    context, memory = suite.topic("context"), suite.topic("memory")
    for unit in range(PROMPTS):
        one, two = generator.permutation(len(pairs))[:2]
        (country, known), (_, told) = pairs[one], pairs[two]
        if known == told:
            continue
        text = content["templates"][unit % len(content["templates"])]["text"]
        tokens, at = placed(vocabulary, start, text, {"country": country, "city": names[told]})
        prompt, end, unit = suite.add(tokens), len(tokens) - 1, len(suite.questions)
        city, subject = (prompt, end, at["city"][0]), (prompt, end, at["country"][-1])
        context.own.add(city, unit, 1.0, (told,), (known,))
        context.null.add(subject, unit, 1.0)
        memory.own.add(subject, unit, 1.0, (known,), (told,))
        memory.null.add(city, unit, 1.0)
        suite.questions.append(Question(prompt, (known, told), ()))
    return suite


def needles(vocabulary: BatteryVocabulary, start: int, seed: int) -> Suite:
    """A fact in a short text, a fact of another kind beside it, and a question that shares no two words in a row.

    Topic `needles`: the end's attention on the answer, which should raise it over the other values of its kind; null:
    attention on the other fact's value. (With another fact of the same kind beside it, small models guess.)
    """
    content = battery_input("needles")
    names = _words(vocabulary, content["names"], 8, "names")
    known = [(kind, _known(vocabulary, kind["values"])) for kind in content["kinds"]]
    kinds = [(kind, values) for kind, values in known if len(values) > 3]
    if len(kinds) < 2:
        raise Untestable("the vocabulary knows too few of the needles' words")
    generator = np.random.default_rng([seed, 7])
    suite = Suite("needles", needed=0.25, chance=float(np.mean([1 / len(values) for _, values in kinds])))
    topic = suite.topic("needles")
    for unit in range(PROMPTS):
        kind, values = kinds[unit % len(kinds)]
        beside, rivals = kinds[(unit + 1 + int(generator.integers(len(kinds) - 1))) % len(kinds)]
        words = dict(zip(("name", "other"), generator.permutation(names)[:2].tolist(), strict=True))
        words |= {"value": str(generator.choice(values)), "rival": str(generator.choice(rivals))}
        other = beside["needle"].replace("{name}", "{other}").replace("{value}", "{rival}")
        lines = [content["filler"][i] for i in generator.permutation(len(content["filler"]))[:FILLERS]]
        for line in (kind["needle"], other):
            lines.insert(int(generator.integers(len(lines) + 1)), line)
        tokens, at = placed(vocabulary, start, " ".join([*lines, kind["question"]]), words)
        prompt, end = suite.add(tokens), len(tokens) - 1
        answer = _id(vocabulary, words["value"])
        foils = tuple(sorted(_id(vocabulary, value) for value in values if value != words["value"]))
        topic.own.add((prompt, end, at["value"][0]), unit, 1.0, (answer,), foils)
        topic.null.add((prompt, end, at["rival"][0]), unit, 1.0)
        suite.questions.append(Question(prompt, (answer,), foils))
    return suite


def sequences(vocabulary: BatteryVocabulary, start: int) -> Suite:
    """Three members of an ordered class in a row (taxonomy, 2.9), within the class; two topics for each class.

    `days`: the last member shown should raise the next one above the members that are neither shown nor the answer, so
    that neither a head that raises the whole class nor one that suppresses what was read passes; null: attention on the
    first member shown. `days, back`: above the member before it, or a head that raises all neighbours would pass.
    """
    content = battery_input("sequences")
    suite = Suite("sequences", needed=0.5)
    for name, members in content["sequences"].items():
        ids = [vocabulary.word_id(word) for word in members]
        forth, back = Topic(), Topic()
        for begin in range(len(members) - 3):
            shown, answer = ids[begin : begin + 3], ids[begin + 3]
            others = tuple(sorted(i for i in ids if i is not None and i != answer))
            rest = tuple(i for i in others if i not in shown)
            if None in shown or answer is None or len(rest) < 3:
                continue
            words = dict(zip("012", members[begin : begin + 3], strict=True))
            tokens, at = placed(vocabulary, start, content["texts"][0], words)
            prompt, end, unit = suite.add(tokens), len(tokens) - 1, forth.n_units
            previous = (shown[1],) if shown[1] is not None else ()
            for topic, foil in ((forth, rest), (back, previous)):
                topic.own.add((prompt, end, at["2"][0]), unit, 1.0, (answer,), foil)
                topic.null.add((prompt, end, at["0"][0]), unit, 1.0)
            suite.questions.append(Question(prompt, (answer,), others))
        if forth.n_units:
            suite.topics |= {name: forth, f"{name}, back": back}
    if len(suite.questions) < PAIRS_PROMPTS:
        raise Untestable(
            f"the vocabulary has {len(suite.questions)} of the sequences' steps, {PAIRS_PROMPTS} are needed"
        )
    suite.chance = float(np.mean([1 / (1 + len(question.foils)) for question in suite.questions]))
    return suite


def related_pairs(
    vocabulary: BatteryVocabulary, relations: Sequence[Relation], start: int, seed: int
) -> Suite:
    """Sources of relations in neutral texts (taxonomy, 2.19); two topics for each relation.

    `antonyms`: the source should raise its own target above those of the relation's other pairs; null: attention on the
    text's other words. `antonyms, itself`: above the source's own token, or copying would pass where targets are alike.
    """
    suite = Suite("related pairs")
    generator = np.random.default_rng([seed, 8])
    for relation in relations:
        pairs = _pairs(vocabulary, {relation.name: relation}, relation.name, few=0)
        if len(pairs) < FEW or relation.copying:
            continue
        topic, itself = suite.topic(relation.name), suite.topic(f"{relation.name}, itself")
        for unit, place in enumerate(generator.permutation(len(pairs))[:PAIRS_PROMPTS]):
            source, target = pairs[place]
            tokens, at = placed(vocabulary, start, NEUTRAL[unit % 2], {"source": source})
            prompt, end, key = suite.add(tokens), len(tokens) - 1, at["source"][0]
            rest = tuple(sorted({other for _, other in pairs} - {target}))
            topic.own.add((prompt, end, key), unit, 1.0, (target,), rest)
            itself.own.add((prompt, end, key), unit, 1.0, (target,), (tokens[key],))
            others = sorted(set(range(1, end)) - {key})
            for other in others:
                topic.null.add((prompt, end, other), unit, 1 / len(others))
    if not suite.topics:
        raise Untestable("the vocabulary has pairs enough for none of the relations")
    return suite


def _pairs(
    vocabulary: BatteryVocabulary, relations: Mapping[str, Relation], name: str, few: int = FEW
) -> list[tuple[str, int]]:
    """A relation's pairs whose words are one token each: the source's text, the target's id."""
    if name not in relations:
        raise Untestable(f"there are no pairs of {name}")
    cut = usable([relations[name]], vocabulary).relations[0]
    if len(cut.sources) < few:
        raise Untestable(f"the vocabulary has {len(cut.sources)} pairs of {name}, {few} are needed")
    texts = (vocabulary.texts[int(source)].strip() for source in cut.sources)
    return list(zip(texts, cut.targets.tolist(), strict=True))


def _of_different_letters(words: Sequence[str], generator: np.random.Generator) -> list[str]:
    chosen: list[str] = []
    for place in generator.permutation(len(words)):
        if words[place][0] not in {word[0] for word in chosen}:
            chosen.append(words[place])
        if len(chosen) == 3:
            return chosen
    raise Untestable("the title words that the vocabulary knows begin with fewer than three letters")


def _known(vocabulary: BatteryVocabulary, words: Collection[str]) -> list[str]:
    return [word for word in words if single_words(vocabulary, [word])]


def _words(vocabulary: BatteryVocabulary, words: Collection[str], needed: int, what: str) -> list[str]:
    found = _known(vocabulary, words)
    if len(found) < needed:
        raise Untestable(f"the vocabulary knows {len(found)} of the {what}, {needed} are needed")
    return found


def _id(vocabulary: BatteryVocabulary, word: str) -> int:
    found = vocabulary.word_id(word)
    assert found is not None  # only known words are drawn
    return found
