"""The anchor lists: complete, well formed, and with an operation on just the rows that they say."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import FrozenInstanceError

import pytest

import data

ANCHORS = {anchor.name: anchor for anchor in data.anchors()}
WITH_OPERATION = [anchor for anchor in ANCHORS.values() if anchor.operation is not None]
WITHOUT = [anchor for anchor in ANCHORS.values() if anchor.operation is None]
VERBS = {"promote": "Writes", "suppress": "Suppresses"}
RELATION_OF = {
    "country_to_capital": "country_to_capital",
    "verb_to_past_tense": "verb_to_past_tense",
    "singular_to_plural": "singular_to_plural",
    "word_to_opposite": "word_to_antonym",
    "animal_to_young": "animal_to_young",
    "country_to_language": "country_to_language",
    "english_to_french": "english_to_french",
    "number_word_to_digits": "number_word_to_digit",
}
RELATION_OF_WRONG = {
    "country_to_capital": "country_to_language",
    "verb_to_past_tense": "verb_to_gerund",
    "singular_to_plural": "noun_to_adjective",
    "word_to_opposite": "word_to_synonym",
    "word_to_first_letter": "word_to_last_letter",
    "copying": "word_to_homophone",
    "animal_to_young": "animal_to_sound",
    "country_to_language": "country_to_currency",
    "english_to_french": "english_to_german",
    "constant_pronouns": "word_to_governed_preposition",
    "shuffled_synonyms": "word_to_synonym",
}
INFLECTION_OF = {"verb_to_past_tense": "past", "singular_to_plural": "plural"}
PRONOUNS = set("i you he she it we they me him her us them herself".split())


def plain(token: str) -> str:
    return token.strip().casefold()


def relation(name: str) -> dict[str, set[str]]:
    """The right targets of each source of a packaged relation, without case."""
    content = json.loads(data.resource("relations", f"{name}.json").read_text(encoding="utf-8"))
    table: dict[str, set[str]] = {}
    for source, target in content["pairs"]:
        table.setdefault(plain(source), set()).add(plain(target))
    return table


def fitting(anchor: data.Anchor, table: dict[str, set[str]]) -> int:
    return sum(
        bool(table.get(plain(source), set()) & {plain(target) for target in targets})
        for source, targets in anchor.rows
    )


@pytest.fixture(params=sorted(ANCHORS))
def anchor(request: pytest.FixtureRequest) -> data.Anchor:
    return ANCHORS[request.param]


def test_the_file_names_its_source_and_has_one_row_a_line():
    text = data.resource("anchors.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert list(content) == ["description", "source", "licence", "lists"]
    assert content["description"].endswith(".")
    assert content["source"] == "written for this project, from its own packaged relations"
    assert content["licence"] == "as this repository"
    listed = re.findall(r"^        (\[.*\]),?$", text, flags=re.MULTILINE)
    assert [json.loads(row) for row in listed] == [row for entry in content["lists"] for row in entry["rows"]]


def test_the_lists_are_read_once_and_cannot_be_changed():
    first = data.anchors()[0]
    assert first is data.anchors()[0]
    with pytest.raises(FrozenInstanceError):
        first.fits = 0
    with pytest.raises(TypeError):
        first.descriptions["right"] = ""
    with pytest.raises(TypeError):
        first.rows[0][1][0] = ""


def test_there_are_twelve_lists_with_an_operation_and_four_without():
    assert len(ANCHORS) == len(data.anchors()) == 16
    assert (len(WITH_OPERATION), len(WITHOUT)) == (12, 4)
    assert list(data.anchors()) == WITH_OPERATION + WITHOUT
    assert {anchor.direction for anchor in WITH_OPERATION} == set(VERBS)


def test_a_list_has_thirty_sources_with_five_targets_each(anchor: data.Anchor):
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", anchor.name)
    assert len(anchor.rows) == len({source for source, _ in anchor.rows}) == 30
    for source, targets in anchor.rows:
        assert len(targets) == len(set(targets)) == 5, source
        assert all(re.fullmatch(r" ?\S+", token) for token in (source, *targets)), source


def test_the_fits_of_a_list_allow_a_description_or_rule_it_out(anchor: data.Anchor):
    if anchor.operation is None:
        assert anchor.fits == 0
        assert list(anchor.descriptions) == ["wrong"]
    else:
        assert anchor.operation.endswith(".")
        assert 24 <= anchor.fits <= 28
        assert list(anchor.descriptions) == ["right", "wrong", "vague", "narrow"]


def test_descriptions_are_short_sentences_that_quote_no_token(anchor: data.Anchor):
    tokens = {plain(token) for source, targets in anchor.rows for token in (source, *targets)}
    for text in anchor.descriptions.values():
        assert re.fullmatch(rf"{VERBS[anchor.direction]} [A-Za-z,\- ]+\.", text), text
        listed = re.findall(r"\w+", text.casefold())
        assert len(listed) <= 25, text
        assert not {word for word in listed if len(word) > 3} & tokens, text


def test_no_two_descriptions_are_equal():
    texts = [text.casefold() for anchor in data.anchors() for text in anchor.descriptions.values()]
    assert len(texts) == len(set(texts)) == 12 * 4 + 4


@pytest.mark.parametrize("name", sorted(RELATION_OF))
def test_the_packaged_relations_count_the_same_fitting_rows(name: str):
    assert fitting(ANCHORS[name], relation(RELATION_OF[name])) == ANCHORS[name].fits


@pytest.mark.parametrize("name", sorted(INFLECTION_OF))
def test_the_packaged_inflections_count_the_same_fitting_rows(name: str):
    forms = {
        lemma: set(kinds.get(INFLECTION_OF[name], ())) - {lemma}
        for lemma, kinds in data.inflections().items()
    }
    assert fitting(ANCHORS[name], forms) == ANCHORS[name].fits


def test_letters_copies_and_pronouns_are_counted_from_the_tokens():
    def own(name: str, answers: object) -> bool:
        table = {plain(source): answers(plain(source)) for source, _ in ANCHORS[name].rows}
        return fitting(ANCHORS[name], table) == ANCHORS[name].fits

    assert own("word_to_first_letter", lambda source: {source[0]})
    assert own("copying", lambda source: {source})
    only = [
        {plain(target) for target in targets} <= PRONOUNS for _, targets in ANCHORS["constant_pronouns"].rows
    ]
    some = [
        bool({plain(target) for target in targets} & PRONOUNS)
        for _, targets in ANCHORS["constant_pronouns"].rows
    ]
    assert only == some
    assert sum(only) == ANCHORS["constant_pronouns"].fits


@pytest.mark.parametrize("name", sorted(RELATION_OF_WRONG))
def test_wrong_descriptions_hold_on_next_to_no_row(name: str):
    assert fitting(ANCHORS[name], relation(RELATION_OF_WRONG[name])) <= 1


def test_the_number_after_the_one_read_is_not_among_the_targets():
    digits = relation("number_word_to_digit")
    table = {word: {str(int(number) + 1) for number in numbers} for word, numbers in digits.items()}
    assert fitting(ANCHORS["number_word_to_digits"], table) == 0


def test_the_last_letter_is_not_among_the_targets():
    anchor = ANCHORS["word_to_first_letter"]
    assert fitting(anchor, {plain(source): {plain(source)[-1]} for source, _ in anchor.rows}) == 0


def test_narrow_descriptions_hold_on_some_of_the_fitting_rows_only():
    countries = relation("country_to_continent")
    european = sum(
        "europe" in countries.get(plain(source), ()) for source, _ in ANCHORS["country_to_capital"].rows
    )
    assert 0 < european < 20
    vowels = sum(plain(source)[0] in "aeiou" for source, _ in ANCHORS["word_to_first_letter"].rows)
    assert 0 < vowels < 20
    verbs = [plain(source) for source, _ in ANCHORS["verb_to_past_tense"].rows]
    past = relation("verb_to_past_tense")
    irregular = sum(not form.endswith("ed") for verb in verbs for form in past.get(verb, ()))
    assert 0 < irregular < 20


def test_the_shuffled_list_holds_every_synonym_but_in_no_row():
    anchor = ANCHORS["shuffled_synonyms"]
    synonyms = relation("word_to_synonym")
    assert fitting(anchor, synonyms) == 0
    written = {plain(target) for _, targets in anchor.rows for target in targets}
    assert all(synonyms[plain(source)] & written for source, _ in anchor.rows)


def test_lists_without_an_operation_hold_no_packaged_relation():
    tables = [relation(file.name.removesuffix(".json")) for file in data.relation_files()]
    for anchor, table in itertools.product(WITHOUT, tables):
        assert fitting(anchor, table) <= 1, anchor.name
