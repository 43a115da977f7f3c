"""Relatedness of meaning with vectors whose relations are known."""

from __future__ import annotations

import numpy as np
import pytest

from describe.drafting.semantics import CHANCE, SemanticField, is_word

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def spelt(number):
    """A word for every number below 26³, no two with the same first three letters."""
    return "".join(LETTERS[(number // 26**place + place) % 26] for place in range(4)) + "word"


def vectors_by_topic(words, topics):
    """Unit vectors: words of one topic almost alike, others at random."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(max(topics.values()) + 1, 64))
    table = {}
    for word in sorted(words):
        vector = centres[topics[word]] + 0.1 * generator.normal(size=64)
        table[word] = (vector / np.linalg.norm(vector)).astype(np.float32)
    return lambda texts: np.stack([table[text] for text in texts])


@pytest.fixture(scope="module")
def field():
    """1,000 words, three of a topic."""
    words = [spelt(number) for number in range(1000)]
    topics = {word: number // 3 for number, word in enumerate(words)}
    return SemanticField([f" {word}" for word in words], vectors_by_topic(words, topics))


@pytest.mark.parametrize("text", [" house", "House", "HOUSE", " étés", " Мирный"])
def test_whole_words_count(text):
    assert is_word(text)


@pytest.mark.parametrize("text", ["house", " cat", " 1234", " do-it", "", "    ", "ation", " it's"])
def test_pieces_and_short_words_do_not(text):
    assert not is_word(text)


def test_words_of_a_topic_are_related_and_others_are_not(field):
    texts = [f" {spelt(number)}" for number in range(30)]
    hits = field.hits(texts, texts)
    topic = np.arange(30) // 3
    expected = (topic[:, None] == topic[None, :]) & ~np.eye(30, dtype=bool)
    assert (hits[expected]).all()
    assert not hits.diagonal().any()  # a word is a form of itself: that is copying, not meaning
    unrelated = topic[:, None] != topic[None, :]
    assert hits[unrelated].mean() <= 3 * CHANCE


def test_chance_is_what_the_threshold_was_set_for(field):
    generator = np.random.default_rng(9)
    texts = [f" {spelt(int(number))}" for number in generator.permutation(1000)]
    hits = field.hits(texts[:500], texts[500:])
    assert hits.mean() == pytest.approx(CHANCE, rel=0.15)


def test_case_and_space_are_of_no_matter_and_unknown_texts_never_hit(field):
    a, b = spelt(0), spelt(1)
    assert field.hits([f" {a}", a.upper(), a.capitalize()], [f" {b}", b.upper()]).all()
    strange = ["", "ation", " 12", a, " neverseenword", "\n"]  # `a` without space or capital may be a piece
    assert not field.hits(strange, [f" {b}"]).any()
    assert not field.hits([f" {b}"], strange).any()
    assert field.hits([], [f" {b}"]).shape == (0, 1)
    assert field.hits([f" {a}"], []).shape == (1, 0)


def test_words_that_begin_alike_are_left_to_spelling():
    words = [spelt(number) for number in range(300)] + ["nationhood", "nationality", "countryside"]
    topics = {word: number for number, word in enumerate(words[:300])}
    topics |= dict.fromkeys(words[300:], 300)
    field = SemanticField([f" {word}" for word in words], vectors_by_topic(words, topics))
    hits = field.hits([" nationhood"], [" nationality", " countryside"])
    assert hits.tolist() == [[False, True]]


@pytest.mark.parametrize(
    "words",
    [
        [],
        [spelt(0)],
        [spelt(number) for number in range(50)],
        [f"same{spelt(number)}" for number in range(200)],
    ],
    ids=["none", "one", "too few", "all alike"],
)
def test_without_enough_words_nothing_is_related(words):
    topics = {word: number for number, word in enumerate(words)}
    field = SemanticField(
        [f" {word}" for word in words], vectors_by_topic(words, topics) if words else lambda texts: None
    )
    texts = [f" {word}" for word in words[:5]] + [" else"]
    assert not field.hits(texts, texts).any()


def test_the_same_texts_in_another_order_give_the_same_field(field):
    words = [spelt(number) for number in range(1000)]
    topics = {word: number // 3 for number, word in enumerate(words)}
    again = SemanticField([f" {word}" for word in reversed(words)] * 2, vectors_by_topic(words, topics))
    assert again.threshold == field.threshold
