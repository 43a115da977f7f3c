"""The packaged relations and word lists: complete, well formed and true where something else can tell."""

from __future__ import annotations

import json
import re

import pytest

import data
from describe.relations import CATEGORIES, Relation, inverted, load_relation, load_relations

# The operations of MAPS (arXiv 2412.11965) and the pairs that each must have at least.
PAPER_OPERATIONS = {
    "copying": ("algorithmic", 300),
    "name_copying": ("algorithmic", 150),
    "word_to_first_letter": ("algorithmic", 240),
    "word_to_last_letter": ("algorithmic", 240),
    "year_to_following": ("algorithmic", 200),
    "country_to_capital": ("knowledge", 150),
    "country_to_language": ("knowledge", 110),
    "object_to_superclass": ("knowledge", 150),
    "product_to_company": ("knowledge", 100),
    "work_to_location": ("knowledge", 100),
    "adjective_to_comparative": ("linguistic", 110),
    "adjective_to_superlative": ("linguistic", 110),
    "noun_to_pronoun": ("linguistic", 200),
    "verb_to_past_tense": ("linguistic", 150),
    "word_to_antonym": ("linguistic", 130),
    "word_to_compound": ("linguistic", 110),
    "word_to_homophone": ("linguistic", 120),
    "word_to_synonym": ("linguistic", 170),
    "english_to_french": ("translation", 150),
    "english_to_spanish": ("translation", 150),
}
COPYING = {"copying", "name_copying"}
INFLECTED = {
    "singular_to_plural": "plural",
    "verb_to_past_tense": "past",
    "verb_to_past_participle": "past_participle",
    "verb_to_gerund": "gerund",
    "verb_to_third_person": "third_person",
    "adjective_to_comparative": "comparative",
    "adjective_to_superlative": "superlative",
}
CLASS_MINIMA = {
    "male_first_names": 200,
    "female_first_names": 200,
    "surnames": 150,
    "countries": 150,
    "cities": 150,
    "us_states": 50,
    "weekdays": 7,
    "months": 12,
    "chemical_elements": 40,
    "professions": 60,
    "animals": 80,
}

RELATIONS = {relation.name: relation for relation in load_relations()}
NAMES = sorted(RELATIONS)


def pairs(name: str) -> tuple[tuple[str, str], ...]:
    return RELATIONS[name].pairs


@pytest.fixture(params=NAMES)
def relation(request: pytest.FixtureRequest) -> Relation:
    return RELATIONS[request.param]


def test_every_file_passes_the_validator():
    names = [load_relation(file).name for file in data.relation_files()]
    assert names == sorted(set(names)) == NAMES
    assert len(names) >= 40


@pytest.mark.parametrize("name", sorted(PAPER_OPERATIONS))
def test_the_operations_of_the_paper_have_their_pairs(name: str):
    category, least = PAPER_OPERATIONS[name]
    assert RELATIONS[name].category == category
    assert len(pairs(name)) >= least


def test_the_fields_say_what_a_reader_needs(relation: Relation):
    assert relation.category in set(CATEGORIES) - {"custom"}
    assert relation.sentence.startswith("writes ") and not relation.sentence.endswith(".")
    assert relation.description.endswith(".")
    assert relation.licence.split()[0] in {"CC0-1.0", "MIT"}
    assert ("lemminflect" in relation.source) == (relation.licence.split()[0] == "MIT")
    assert relation.thin == (len(relation.pairs) < 30)


def test_words_have_no_space_around_them_and_no_source_is_its_own_target(relation: Relation):
    for pair in relation.pairs:
        assert all(word == word.strip() and "\n" not in word for word in pair), pair
        assert (pair[0] == pair[1]) == (relation.name in COPYING), pair


def test_english_words_are_ascii(relation: Relation):
    foreign = {"country_to_capital", "country_to_currency", "opening_to_closing", "sign_to_name"}
    loan = {"fiancé", "fiancée", "Pokémon", "Nescafé", "Nestlé", "Škoda", "Schrödinger", "Pelé"}
    for source, target in relation.pairs:
        english = [source] if relation.category == "translation" else [source, target]
        if relation.name not in foreign:
            assert all(word.isascii() or word in loan for word in english), (source, target)


def test_files_are_readable_line_by_line():
    for file in data.relation_files():
        text = file.read_text(encoding="utf-8")
        listed = re.findall(r"^    (\[.*\]),?$", text, flags=re.MULTILINE)
        assert [json.loads(line) for line in listed] == json.loads(text)["pairs"], file.name


def test_letters_are_the_letters_of_their_words():
    assert all(word[0] == letter for word, letter in pairs("word_to_first_letter"))
    assert all(word[-1] == letter for word, letter in pairs("word_to_last_letter"))
    first = [letter for _, letter in pairs("word_to_first_letter")]
    # A head that always writes one letter must not score: no letter has more than a tenth of the pairs.
    assert max(map(first.count, first)) <= len(first) / 10


def test_numbers_follow_arithmetic():
    assert all(int(after) == int(year) + 1 for year, after in pairs("year_to_following"))
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    for numeral, digits in pairs("roman_numeral_to_digit"):
        value, larger = 0, 0
        for letter in reversed(numeral):
            value += values[letter] if values[letter] >= larger else -values[letter]
            larger = max(larger, values[letter])
        assert value == int(digits), numeral
    number_of = {word: int(digits) for word, digits in pairs("number_word_to_digit")}
    assert all(number_of[after] == number_of[word] + 1 for word, after in pairs("number_word_to_next"))


@pytest.mark.parametrize(("name", "length"), [("month_to_next_month", 12), ("weekday_to_next_weekday", 7)])
def test_cycles_return_after_every_member(name: str, length: int):
    after = dict(pairs(name))
    word, seen = next(iter(after)), []
    while word not in seen:
        seen.append(word)
        word = after[word]
    assert word == seen[0] and len(seen) == len(after) == length


@pytest.mark.parametrize("name", sorted(INFLECTED))
def test_inflections_agree_with_the_table(name: str):
    table, kind = data.inflections(), INFLECTED[name]
    wrong = [(word, form) for word, form in pairs(name) if form not in table[word][kind]]
    assert wrong == []


def test_pronouns_are_balanced():
    targets = [target for _, target in pairs("noun_to_pronoun")]
    assert set(targets) == {"he", "she", "it", "they"}
    assert min(map(targets.count, set(targets))) >= len(targets) / 5


def test_each_capital_has_one_country_and_facts_agree_across_files():
    capital = dict(pairs("country_to_capital"))
    assert len(set(capital.values())) == len(capital)
    city = dict(pairs("city_to_country"))
    # City names that are also the capital of some country must be placed in that country.
    checked = [(name, place) for place, name in capital.items() if name in city]
    assert len(checked) > 30
    same = {"Korea": "South Korea", "Ireland": "Ireland"}
    assert all(same.get(city[name], city[name]) == place for name, place in checked)
    nationality = dict(pairs("country_to_nationality"))
    language = dict(pairs("country_to_language"))
    for own, home in pairs("language_to_country"):
        if nationality.get(home) == own and home in language:
            assert language[home] == own, home


def test_compounds_and_negations_hold_their_word():
    assert all(compound.startswith(word) for word, compound in pairs("word_to_compound"))
    special = {"courage": "discourage", "responsible": "irresponsible"}
    for word, negated in pairs("word_to_negated"):
        assert negated.endswith(word) or special[word] == negated


@pytest.mark.parametrize("name", ["word_to_antonym", "word_to_homophone", "word_to_synonym"])
def test_symmetric_relations_have_no_dead_end(name: str):
    sources = {source for source, _ in pairs(name)}
    assert all(target in sources for _, target in pairs(name))


def test_no_word_is_both_synonym_and_antonym_of_another():
    assert not set(pairs("word_to_antonym")) & set(pairs("word_to_synonym"))


def test_an_inverse_has_a_new_name_and_one_target_for_each_source(relation: Relation):
    back = inverted(relation)
    if relation.inverse is None:
        assert back is None
        return
    assert back is not None and back.name not in RELATIONS
    assert len({source for source, _ in back.pairs}) == len(back.pairs)
    assert {(target, source) for source, target in back.pairs} <= set(relation.pairs)
    assert len(back.pairs) > len(relation.pairs) / 2


def test_the_inverse_names_are_distinct():
    names = [relation.inverse.name for relation in RELATIONS.values() if relation.inverse]
    assert len(names) == len(set(names)) >= 20


def test_inflections_are_known_forms():
    table = data.inflections()
    assert 3000 <= len(table) <= 8000
    assert table["go"]["past"] == ("went",) and table["child"]["plural"] == ("children",)
    assert table["good"]["comparative"] == ("better",) and "past" not in table["child"]
    for lemma, forms in table.items():
        assert forms and set(forms) <= set(data.INFLECTION_KINDS)
        for words in forms.values():
            assert len(set(words)) == len(words)
            assert all(re.fullmatch("[a-z]+", word) for word in (lemma, *words)), lemma


def test_the_regular_majority_of_inflections_is_regular():
    # The table is generated; a shifted column would break nearly every gerund and third person.
    table = data.inflections()
    gerunds = [forms["gerund"][0] for forms in table.values() if "gerund" in forms]
    thirds = [forms["third_person"][0] for forms in table.values() if "third_person" in forms]
    assert all(word.endswith("ing") for word in gerunds)
    assert all(word.endswith("s") for word in thirds)


def test_word_classes_are_well_formed():
    classes = data.word_classes()
    files = [file.name.removesuffix(".json") for file in data.resource("lexicon", "classes").iterdir()]
    assert sorted(files) == list(classes)
    assert len(classes) >= 70
    for word_class in classes.values():
        assert word_class.plural and word_class.source and word_class.licence == "CC0-1.0"
        assert len(set(word_class.members)) == len(word_class.members) >= 3
        assert all(word and word == word.strip() for word in word_class.members), word_class.name


@pytest.mark.parametrize("name", sorted(CLASS_MINIMA))
def test_open_classes_are_large(name: str):
    assert len(data.word_classes()[name].members) >= CLASS_MINIMA[name]


@pytest.mark.parametrize(
    "name", ["countries", "cities", "us_states", "languages", "nationalities", "months", "surnames"]
)
def test_proper_names_are_capitalised(name: str):
    assert all(word[0].isupper() for word in data.word_classes()[name].members)


@pytest.mark.parametrize(
    "name", ["animals", "prepositions", "articles", "professions", "emotions", "tools", "fruits", "colours"]
)
def test_common_words_are_lower_case(name: str):
    assert all(word.islower() for word in data.word_classes()[name].members)


def test_classes_and_relations_agree():
    classes = data.word_classes()
    assert {state for state, _ in pairs("state_to_abbreviation")} == set(classes["us_states"].members)
    assert {month for month, _ in pairs("month_to_next_month")} == set(classes["months"].members)
    elements = {element for element, _ in pairs("element_to_symbol")}
    assert set(classes["chemical_elements"].members) <= elements
