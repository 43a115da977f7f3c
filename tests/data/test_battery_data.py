"""The inputs of the head battery: complete, well formed and free of the hints that would spoil a test."""

from __future__ import annotations

import itertools
import json
import re
import string

import pytest

import data

TESTABLE = {
    "induction_matcher",
    "induction_writer",
    "anti_induction",
    "previous_token",
    "duplicate_token",
    "positional",
    "local",
    "subword_merging",
    "attention_sink",
    "prediction_amplifier",
    "prediction_damper",
    "name_mover",
    "copying",
    "copy_suppression",
    "letter_mover",
    "successor",
    "subject_mover",
    "relation_mover",
    "mixed_mover",
    "memory",
    "context",
    "short_context_retrieval",
    "semantic_induction",
}
STAGES = {
    "knowledge recalling",
    "in-context identification",
    "latent reasoning",
    "expression preparation",
    "not in the survey",
}
FUNCTION_WORDS = set(
    "the and that for with was has had its not you your her them from into then than this they one two "
    "will may shall which when but".split()
)
KINDS = data.battery_input("needles")["kinds"]


def relation_pairs(name: str) -> list[tuple[str, str]]:
    content = json.loads(data.resource("relations", f"{name}.json").read_text(encoding="utf-8"))
    return [(source, target) for source, target in content["pairs"]]


def placeholders(text: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [text for entry in value for text in strings(entry)] if isinstance(value, list) else []


def unique(entries: object) -> bool:
    listed = list(entries)
    return len(listed) == len({entry.lower() for entry in listed})


def test_the_names_are_the_files_of_the_folder():
    found = {entry.name for entry in data.resource("battery").iterdir() if entry.name.endswith(".json")}
    assert {f"{name}.json" for name in data.BATTERY_INPUTS} == found
    assert list(data.BATTERY_INPUTS) == sorted(set(data.BATTERY_INPUTS))


@pytest.mark.parametrize("name", data.BATTERY_INPUTS)
def test_every_file_names_its_source_and_is_plain_ascii(name: str):
    content = json.loads(data.resource("battery", f"{name}.json").read_text(encoding="ascii"))
    assert list(content)[:3] == ["description", "source", "licence"]
    assert content["description"].endswith(".")
    assert content["source"] == "written for this project"
    assert content["licence"] == "as this repository"
    assert all(text.isascii() and text.strip() for text in strings(content))


def test_an_input_is_read_once_and_cannot_be_changed():
    days = data.battery_input("sequences")
    assert days is data.battery_input("sequences")
    assert days["sequences"]["days"][:2] == ("Monday", "Tuesday")
    with pytest.raises(TypeError):
        days["sequences"]["days"] = ()
    with pytest.raises(TypeError):
        days["texts"] = ()
    with pytest.raises(FileNotFoundError):
        data.battery_input("no such input")


def test_texts_have_their_length_and_repeat_some_of_their_words():
    texts = data.battery_input("texts")["texts"]
    assert all(set(text) == {"name", "kind", "text"} for text in texts)
    assert unique(text["name"] for text in texts)
    assert [text["kind"] for text in texts].count("prose") == 16
    assert [text["kind"] for text in texts].count("code") == len(texts) - 16 == 8
    for text in texts:
        if text["kind"] == "prose":
            assert 90 <= len(text["text"].split()) <= 130, text["name"]
            assert "\n" not in text["text"]
        else:
            assert 12 <= len(text["text"].rstrip("\n").split("\n")) <= 25, text["name"]
        listed = [word for word in words(text["text"].replace("_", " ")) if len(word) >= 3]
        repeated = {word for word in listed if listed.count(word) >= 3} - FUNCTION_WORDS
        assert len(repeated) >= 2, (text["name"], repeated)


def test_the_code_is_in_five_languages():
    names = [text["name"] for text in data.battery_input("texts")["texts"]]
    languages = [name.split()[0] for name in names[16:]]
    expected = {"python": 3, "javascript": 2, "c": 1, "html": 1, "sql": 1}
    assert {language: languages.count(language) for language in languages} == expected


def test_indirect_objects_end_before_the_name():
    content = data.battery_input("indirect_objects")
    assert len(content["templates"]) >= 6
    for template in content["templates"]:
        text = template["text"]
        assert sorted(placeholders(text)) == ["A", "B", "S", "object", "place"], text
        order = [text.index(f"{{{name}}}") for name in "ABS"]
        assert order == sorted(order) and text.endswith(" to"), text
        # A name at the start of a text has no space before it and is another token.
        assert all(text[index - 1] == " " for index in order) and order[0] > 0, text
    assert len(content["names"]) == 60
    assert len(content["places"]) == len(content["objects"]) == 16
    for key in ("names", "places", "objects"):
        assert unique(content[key]) and all(word.isalpha() for word in content[key])
    assert all(name.istitle() for name in content["names"])
    assert not any(word[0] in "aeiou" for word in content["objects"])  # "a {object}"
    assert not set(content["places"]) & set(content["objects"])


def test_acronyms_have_enough_letters():
    content = data.battery_input("acronyms")
    assert len(content["words"]) == 90 and unique(content["words"])
    assert all(word.istitle() and word.isalpha() for word in content["words"])
    first = [word[0] for word in content["words"]]
    assert len(set(first)) >= 18
    assert sum(first.count(letter) >= 3 for letter in set(first)) > len(set(first)) / 2
    assert max(map(first.count, set(first))) <= 6
    assert all(placeholders(text) == ["0", "1", "2"] and text.endswith(" (") for text in content["texts"])


def test_conflicts_give_the_false_city_before_they_ask():
    texts = [template["text"] for template in data.battery_input("conflicts")["templates"]]
    assert len(texts) >= 4 and unique(texts)
    for text in texts:
        fields = placeholders(text)
        assert set(fields) == {"country", "city"} and fields.count("city") == 1, text
        assert fields.count("country") >= 2 and text.endswith("{country} is"), text
        assert text.index("{city}") < text.rindex("{country}"), text


def test_the_needles_are_enough():
    content = data.battery_input("needles")
    assert len(KINDS) >= 6 and unique(kind["noun"] for kind in KINDS)
    assert len(content["names"]) == len(content["filler"]) == 30
    assert unique(content["names"]) and unique(content["filler"])
    values = [value for kind in KINDS for value in kind["values"]]
    assert unique(values) and all(value.isalpha() for value in values)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["noun"])
def test_question_and_needle_share_no_word_but_the_name(kind):
    assert set(kind) == {"needle", "question", "noun", "values"}
    assert len(kind["values"]) >= 12
    assert sorted(placeholders(kind["needle"])) == ["name", "value"]
    assert placeholders(kind["question"]) == ["name"]
    assert kind["question"][-1].isalpha()
    for name, value in itertools.product(data.battery_input("needles")["names"], kind["values"]):
        needle = words(kind["needle"].format(name=name, value=value))
        question = words(kind["question"].format(name=name))
        assert not set(itertools.pairwise(needle)) & set(itertools.pairwise(question))
        assert set(needle) & set(question) == {name.lower()}
        # The answer after the question must not complete a phrase of the needle either.
        assert (question[-1], value.lower()) not in set(itertools.pairwise(needle))
        assert value.lower() not in question


def test_no_filler_holds_a_name_or_a_value():
    content = data.battery_input("needles")
    names = {*content["names"], *data.battery_input("indirect_objects")["names"]}
    banned = {word.lower() for word in [*names, *(value for kind in KINDS for value in kind["values"])]}
    for sentence in content["filler"]:
        assert 8 <= len(words(sentence)) <= 16, sentence
        assert sentence[0].isupper() and sentence.endswith("."), sentence
        found = {word for word in words(sentence) if word in banned or word.removesuffix("s") in banned}
        assert not found, sentence


def test_sequences_are_in_order():
    content = data.battery_input("sequences")
    series = content["sequences"]
    lengths = {"days": 7, "months": 12, "number_words": 20, "ordinals": 10, "letters": 26}
    assert {name: len(members) for name, members in series.items()} == lengths
    assert all(unique(members) for members in series.values())
    assert "".join(series["letters"]) == string.ascii_uppercase
    relations = {
        "months": "month_to_next_month",
        "days": "weekday_to_next_weekday",
        "number_words": "number_word_to_next",
    }
    for name, relation in relations.items():
        pairs = json.loads(data.resource("relations", f"{relation}.json").read_text(encoding="utf-8"))[
            "pairs"
        ]
        steps = itertools.pairwise(series[name])
        assert set(steps) <= {tuple(pair) for pair in pairs}, name
    cardinal = {ordinal: word for word, ordinal in relation_pairs("cardinal_to_ordinal")}
    assert [cardinal[word] for word in series["ordinals"]] == list(series["number_words"][:10])
    assert all(placeholders(text) == ["0", "1", "2"] and text.endswith(",") for text in content["texts"])


def test_rare_words_are_long_and_their_frames_take_three():
    content = data.battery_input("rare_words")
    assert len(content["words"]) == 260 and unique(content["words"])
    assert all(re.fullmatch("[a-z]{8,16}", word) for word in content["words"])
    assert len(content["texts"]) == 3
    assert all(placeholders(text) == ["0", "1", "2"] for text in content["texts"])


def test_common_words_are_short_and_none_begins_another():
    listed = data.battery_input("common_words")["words"]
    assert len(listed) == 300 and unique(listed)
    assert all(re.fullmatch("[a-z]{3,8}", word) for word in listed)
    # In alphabetical order a word and what begins with it are neighbours.
    assert not [pair for pair in itertools.pairwise(sorted(listed)) if pair[1].startswith(pair[0])]
    classes = data.word_classes()
    closed = ("articles", "pronouns", "prepositions", "conjunctions", "modal_verbs", "auxiliary_verbs")
    assert not set(listed) & {word for name in closed for word in classes[name].members}
    assert not set(listed) & set(data.battery_input("rare_words")["words"])


def test_common_words_hold_no_word_beside_its_own_plural():
    listed = set(data.battery_input("common_words")["words"])
    plurals = {form for word in listed for form in data.inflections().get(word, {}).get("plural", ())}
    assert not {form for form in plurals & listed if form not in {"sheep"}}


def test_the_testable_classes_are_those_of_the_battery():
    classes = data.battery_input("classes")["classes"]
    assert unique(entry["class"] for entry in classes)
    assert {entry["class"] for entry in classes if entry["testable"]} == TESTABLE
    assert len(classes) > len(TESTABLE)


def test_every_class_says_what_it_is_and_why_it_is_not_tested():
    keys = ["class", "survey_name", "stage", "definition", "pattern", "effect", "reference"]
    for entry in data.battery_input("classes")["classes"]:
        assert list(entry) == [*keys, "testable", "reason"], entry["class"]
        assert re.fullmatch("[a-z]+(_[a-z]+)*", entry["class"])
        assert entry["stage"] in STAGES
        assert (entry["survey_name"] is None) == (entry["stage"] == "not in the survey"), entry["class"]
        for key in ("definition", "pattern", "effect"):
            assert entry[key].endswith(".") and ". " not in entry[key], entry["class"]
        assert entry["reference"]
        assert entry["testable"] == (entry["reason"] is None), entry["class"]
        assert entry["testable"] or entry["reason"].endswith("."), entry["class"]
