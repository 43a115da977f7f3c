"""Every cell of every suite says what its topic says, on the real tokenizers; and a slow look at SmolLM2's known heads."""

from dataclasses import replace

import numpy as np
import pytest

from describe.relations import scored_relations
from describe.subject import load_subject
from describe.subject.running import LiveModel
from eval.battery.classes import ATTRIBUTED, SUITE_OF, Found, verdicts
from eval.battery.prompts import placed
from eval.battery.reading import Reader, Suites, start_token
from eval.battery.suites import Untestable
from eval.battery.verdicts import attributed
from eval.battery.words import LENGTH, SEQUENCES, word_pool
from eval.inference.templates import PAPERS_RELATIONS

RELATIONS = {one.name: one for one in scored_relations()}


@pytest.fixture(scope="module", params=["smollm2", "gemma3-270m"])
def subject(request):
    return load_subject(request.param)


@pytest.fixture(scope="module")
def suites(subject):
    return Suites(subject, RELATIONS, PAPERS_RELATIONS, seed=0)


def cells_of(suite, topic, side="own"):
    """(prompt, query, key, unit, weight, target, foil) of every cell."""
    cells = getattr(suite.topics[topic], side)
    columns = (cells.prompt, cells.query, cells.key, cells.unit, cells.weight, cells.target, cells.foil)
    return list(zip(*columns, strict=True))


def check_units(suite):
    """Units have no gaps, and attention is a mean over queries: weights of a unit add up to one a query."""
    for name, topic in suite.topics.items():
        for side in ("own", "null"):
            cells = cells_of(suite, name, side)
            if not cells:
                continue
            assert {cell[3] for cell in cells} == set(range(topic.n_units)), (name, side)
            assert all(0 <= key <= query < len(suite.prompts[prompt]) for prompt, query, key, *_ in cells)
            if name != "copying":  # which sums over the words that a query can read
                for unit in range(topic.n_units):
                    assert sum(cell[4] for cell in cells if cell[3] == unit) == pytest.approx(1), (name, side)


def test_repeated_words(suites):
    suite = suites.builders["repeated words"]()
    check_units(suite)
    assert len(suite.prompts) == 2 * SEQUENCES and {len(prompt) for prompt in suite.prompts} == {
        1 + 2 * LENGTH
    }
    for prompt, query, key, _, _, target, foil in cells_of(suite, "induction"):
        tokens = suite.prompts[prompt]
        assert tokens[query] == tokens[key - 1] and target == (tokens[key],) == (tokens[query + 1],)
        assert query > LENGTH >= key and target[0] not in foil and len(foil) == LENGTH - 1
    for prompt, query, key, *_ in cells_of(suite, "induction", "null"):
        tokens, repeated = suite.prompts[prompt], suite.prompts[prompt - 1]
        assert tokens[LENGTH + 1 :] == repeated[LENGTH + 1 :] and not set(tokens[1 : LENGTH + 1]) & set(
            tokens[LENGTH + 1 :]
        )
        assert tokens[query] not in tokens[1:query] and key <= LENGTH
    for prompt, query, key, *_ in cells_of(suite, "duplicate"):
        assert suite.prompts[prompt][query] == suite.prompts[prompt][key] and key < query
    for prompt, query, key, *_ in cells_of(suite, "duplicate", "null"):
        tokens = suite.prompts[prompt]
        assert tokens[query] not in (tokens[key], tokens[key - 1])
    for prompt, query, key, _, _, target, foil in cells_of(suite, "copying"):
        assert target == (suite.prompts[prompt][key],) != foil and 1 <= key < query
        assert set(foil) <= set(suite.prompts[prompt])


def test_texts_and_pieces(subject, suites):
    texts = suites.builders["texts"]()
    check_units(texts)
    for _, query, key, *_ in cells_of(texts, "previous"):
        assert key == query - 1
    suite = suites.builders["words of several pieces"]()
    check_units(suite)
    read = subject.vocabulary.texts
    for prompt, query, key, *_ in cells_of(suite, "pieces"):
        assert key == query - 1 and not read[suite.prompts[prompt][query]].startswith(" ")
    for prompt, query, *_ in cells_of(suite, "pieces", "null"):
        assert read[suite.prompts[prompt][query]].startswith(" ")
    assert sum(len(prompt) for prompt in suite.prompts) > 300


def test_names_and_acronyms(subject, suites):
    suite = suites.builders["indirect objects"]()
    check_units(suite)
    first_named = []
    for own, null, question in zip(
        cells_of(suite, "names"), cells_of(suite, "names", "null"), suite.questions, strict=True
    ):
        tokens = suite.prompts[own[0]]
        (answer,), (rival,) = own[5], own[6]
        assert tokens[own[2]] == answer and tokens[null[2]] == rival and own[1] == len(tokens) - 1
        assert tokens.count(answer) == 1 and tokens.count(rival) == 2 and null[2] == tokens.index(rival)
        assert question.answer == (answer,) and question.foils == (rival,)
        first_named.append(own[2] < null[2])
    assert 0 < sum(first_named) < len(first_named)  # in both orders
    suite = suites.builders["acronyms"]()
    check_units(suite)
    read = subject.vocabulary.texts
    for prompt, query, key, _, _, (answer,), foil in cells_of(suite, "letters"):
        tokens = suite.prompts[prompt]
        assert (
            read[tokens[key]].strip()[0] == read[answer] and answer not in foil and query == len(tokens) - 1
        )
    lengths = {len(prompt) for prompt in suite.prompts}
    assert len(lengths) >= 3  # no, one and two letters are there already


def test_facts_conflicts_and_needles(subject, suites):
    read = subject.vocabulary.texts
    named = {
        name: {a.strip(): b.strip() for a, b in RELATIONS[name].pairs}
        for name in ("country_to_capital", "country_to_language")
    }
    capitals = named["country_to_capital"]
    facts = suites.builders["facts"]()
    check_units(facts)
    asked = []
    for prompt, _, key, unit, _, (answer,), foil in cells_of(facts, "subject"):
        country = read[facts.prompts[prompt][key]].strip()
        (own,) = (
            name
            for name, pairs in named.items()
            if pairs.get(country) == read[answer].strip()
            and {read[i].strip() for i in foil} <= set(pairs.values())
        )
        assert answer not in foil and unit == prompt
        asked.append(own)
    assert {asked.count(name) for name in named} == {24}
    frames = {}
    for prompt, _, key, unit, _, target, foil in cells_of(facts, "relation"):
        word = read[facts.prompts[prompt][key]].strip()
        assert word == {"country_to_capital": "capital", "country_to_language": "language"}[asked[prompt]]
        assert {read[i].strip() for i in target} <= set(named[asked[prompt]].values()) and not set(
            target
        ) & set(foil)
        frames.setdefault(unit, []).append(facts.prompts[prompt][: key + 1])
    # A unit is a frame: between units the words up to the relation's differ, and so does what stands there.
    firsts = [{tuple(tokens) for tokens in own} for own in frames.values()]
    assert len(frames) == 16 and len(set().union(*firsts)) >= 16
    suite = suites.builders["conflicts"]()
    check_units(suite)
    for context, memory in zip(cells_of(suite, "context"), cells_of(suite, "memory"), strict=True):
        tokens = suite.prompts[context[0]]
        (told,), (known,) = context[5], context[6]
        assert tokens[context[2]] == told and memory[5] == (known,) and memory[6] == (told,)
        country = read[tokens[memory[2]]].strip()
        assert capitals[country] == read[known].strip() != read[told].strip() and memory[2] > context[2]
    suite = suites.builders["needles"]()
    check_units(suite)
    for own, null in zip(cells_of(suite, "needles"), cells_of(suite, "needles", "null"), strict=True):
        tokens = suite.prompts[own[0]]
        assert tokens[own[2]] == own[5][0] and tokens.count(own[5][0]) == 1 and own[5][0] not in own[6]
        assert null[2] != own[2] and tokens[null[2]] not in own[6]


def test_sequences_and_related_pairs(subject, suites):
    read = subject.vocabulary.texts
    suite = suites.builders["sequences"]()
    check_units(suite)
    assert set(suite.topics) >= {"days", "months", "letters"} and len(suite.topics) == 10
    days = [read[cell[5][0]].strip() for cell in cells_of(suite, "days")]
    assert days == ["Thursday", "Friday", "Saturday", "Sunday"]
    for name in suite.topics:
        for prompt, query, key, _, _, (answer,), foil in cells_of(suite, name):
            tokens = suite.prompts[prompt]
            assert answer not in tokens and answer not in foil and key < query == len(tokens) - 1
            if name.endswith(", back"):
                (before,) = foil
                assert tokens.index(before) < key and before != tokens[key]
            else:
                assert not set(foil) & set(tokens)
    for question in suite.questions:  # what was just read is a foil too; the first may be another token there
        assert len(set(question.foils) & set(suite.prompts[question.prompt])) >= 2
    suite = suites.builders["related pairs"]()
    check_units(suite)
    assert "copying" not in suite.topics and len(suite.topics) > 16
    distances = set()
    for name in suite.topics:
        pairs = {(a.strip(), b.strip()) for a, b in RELATIONS[name.removesuffix(", itself")].pairs}
        for prompt, query, key, _, _, (target,), foil in cells_of(suite, name):
            tokens = suite.prompts[prompt]
            assert (read[tokens[key]].strip(), read[target].strip()) in pairs and target not in foil
            assert not name.endswith("itself") or foil == (tokens[key],)
            distances.add(query - key)
    assert len(distances) == 2


def test_words_are_found_where_they_stand(subject):
    vocabulary, start = subject.vocabulary, start_token(subject)
    tokens, at = placed(vocabulary, start, "The dog saw the {x} and a {y}, {x}.", {"x": "dog", "y": "dog"})
    words = [vocabulary.texts[token].strip() for token in tokens]
    assert tokens[0] == start and words.count("dog") == 4
    assert at["x"] == [[i for i, word in enumerate(words) if word == "dog"][n] for n in (1, 3)]
    assert at["y"] == [[i for i, word in enumerate(words) if word == "dog"][2]]
    long, at = placed(vocabulary, start, "The {x} is", {"x": "thaumaturgy"})
    assert "".join(vocabulary.texts[token] for token in long[1 : at["x"][0] + 1]).endswith("thaumaturgy")


def test_a_vocabulary_without_the_words_says_so(suites, subject):
    class Poor:
        texts = ("a", "b")

        def word_id(self, word):
            return None

    with pytest.raises(Untestable, match="0 whole words, 5 are needed"):
        word_pool(Poor(), 5)
    capitals = RELATIONS["country_to_capital"]
    few = {"country_to_capital": replace(capitals, pairs=capitals.pairs[:5])}
    without = Suites(subject, RELATIONS | few, (), seed=0)
    for name in ("facts", "conflicts"):
        with pytest.raises(Untestable, match="country_to_capital"):
            without.builders[name]()


def test_other_seeds_draw_other_words_and_the_same_seed_the_same(suites, subject):
    again, other = (Suites(subject, RELATIONS, PAPERS_RELATIONS, seed=seed) for seed in (0, 1))
    for name in ("repeated words", "indirect objects", "needles"):
        prompts = suites.builders[name]().prompts
        assert prompts == again.builders[name]().prompts != other.builders[name]().prompts


@pytest.mark.slow
def test_known_heads_of_smollm2():
    """As measured beforehand and apart from this code, in numpy (head taxonomy, section 0 and 2)."""
    subject = load_subject("smollm2")
    suites = Suites(subject, RELATIONS, PAPERS_RELATIONS, seed=0)
    reader = Reader(subject, LiveModel(subject))
    passing = {}
    for suite in ("repeated words", "indirect objects", "conflicts"):
        reading = reader.read(suites.builders[suite]())
        for name in ("induction_writer", "anti_induction", "name_mover", "memory"):
            if SUITE_OF[name] == suite:
                verdict = attributed(name, reading.topics[ATTRIBUTED[name]], seed=0)
                passing[name] = {tuple(place) for place in np.argwhere(verdict.passes).tolist()}
        if suite == "repeated words":
            found = Found({suite: reading.topics}, None, None)
            passing |= {
                verdict.name: {tuple(place) for place in np.argwhere(verdict.passes).tolist()}
                for verdict in verdicts(found, None, 0)
                if verdict.name in ("copying", "copy_suppression")
            }
            # Heads that find the place without writing the answer are matchers, and no strong writers.
            scores = reading.topics["induction"].own.attention.mean(0)
            assert all(scores[17, head] > 0.4 for head in (3, 4))
        else:
            assert reading.accuracy > 0.6
    assert {(23, 0), (23, 1), (23, 7)} <= passing["name_mover"] and (23, 3) not in passing["name_mover"]
    assert passing["anti_induction"] == {(24, 4)} and (23, 2) in passing["induction_writer"]
    assert {(24, 4), (23, 3)} <= passing["copy_suppression"] and (23, 2) in passing["copying"]
    assert (23, 4) in passing["memory"]
