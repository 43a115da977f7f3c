"""Replies are read strictly: one object of the form that was asked for, its values as they are, in English."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import data
from describe.chat import ReplyError
from describe.drafting.replies import Reply, check_english, read_reply, schema_of
from describe.drafting.rules.operations import operations, token_classes
from describe.records import DIRECTIONS


class Inner(Reply):
    """A part of a reply."""

    number: int


class Form(Reply):
    """A reply."""

    text: str = Field(max_length=20)
    verdict: Literal["good", "bad"]
    sure: bool
    parts: Annotated[list[Inner], Field(max_length=3)]


GOOD = {"text": "x", "verdict": "good", "sure": True, "parts": [{"number": 3}]}
AS_RECORD = Form(text="x", verdict="good", sure=True, parts=[Inner(number=3)])
PLAIN = json.dumps(GOOD)


def status_of(text, kind=Form):
    with pytest.raises(ReplyError) as caught:
        read_reply(text, kind)
    assert str(caught.value) and "\n" not in str(caught.value)
    str(caught.value).encode()  # it goes back to the model
    return caught.value.status


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"\n  {PLAIN}\n",
        json.dumps(GOOD, indent=2),
        f"```json\n{PLAIN}\n```",
        f"```\n{PLAIN}\n```\n",
        f" ```json {PLAIN} ``` ",
        f"{PLAIN}\n{PLAIN}",
        f"{PLAIN}{json.dumps(dict(reversed(GOOD.items())), indent=1)}",
    ],
)
def test_one_object_is_read(text):
    assert read_reply(text, Form) == AS_RECORD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "3",
        f"[{PLAIN}]",
        f"{PLAIN}{json.dumps(GOOD | {'text': 'y'})}",
        f"Here it is: {PLAIN}",
        f"{PLAIN}\nI hope this helps.",
        f"Sure!\n```json\n{PLAIN}\n```",
        PLAIN[:-1],
        PLAIN.replace('"', "'"),
        "<html><body>Bad gateway</body></html>",
        '{"text":' * 100_000,
        "[" * 100_000,
        f"{PLAIN}{'[' * 100_000}",
        f'{{"text": {"9" * 5000}}}',
    ],
)
def test_what_is_not_one_object_is_refused(text):
    assert status_of(text) == "unparsed"


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"\ud800": 1},
        {"text": None},
        {"text": 3},
        {"text": "\ud800"},
        {"text": "x" * 21},
        {"sure": "true"},
        {"sure": 1},
        {"parts": {"number": 3}},
        {"parts": [3]},
        {"parts": [{"number": "3"}]},
        {"parts": [{"number": 3.0}]},
        {"parts": [{"number": True}]},
        {"parts": [{"number": None}]},
        {"parts": [{"number": 3, "more": 1}]},
        {"parts": [{}]},
        {"parts": [{"number": 3}] * 4},
    ],
)
def test_other_values_and_fields_are_refused(change):
    assert status_of(json.dumps(GOOD | change)) == "unparsed"


@pytest.mark.parametrize("field", list(GOOD))
def test_every_field_is_needed(field):
    assert status_of(json.dumps({name: value for name, value in GOOD.items() if name != field})) == "unparsed"


def test_a_choice_that_was_not_offered_is_told_apart_only_if_nothing_else_is_wrong():
    assert status_of(json.dumps(GOOD | {"verdict": "great"})) == "unoffered"
    assert status_of(json.dumps(GOOD | {"verdict": "great", "sure": 1})) == "unparsed"
    assert status_of(json.dumps(GOOD | {"verdict": "great", "more": 1})) == "unparsed"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_other_json_is_ever_taken_for_the_form(value):
    assert status_of(json.dumps(value)) == "unparsed"
    if value != []:
        assert status_of(json.dumps(GOOD | {"parts": value})) == "unparsed"


@given(st.text(max_size=20), st.booleans(), st.lists(st.integers(-(10**12), 10**12), max_size=3))
def test_what_was_written_comes_back(text, sure, numbers):
    given_ = {"text": text, "verdict": "bad", "sure": sure, "parts": [{"number": n} for n in numbers]}
    assert read_reply(json.dumps(given_), Form).model_dump() == given_
    assert read_reply(f"```json\n{json.dumps(given_)}\n```", Form).model_dump() == given_


def test_the_schema_says_what_is_read():
    schema = json.loads(schema_of(Form))
    assert schema["required"] == list(GOOD) and schema["additionalProperties"] is False
    assert schema["$defs"]["Inner"]["additionalProperties"] is False
    assert '"title"' not in schema_of(Form) and '"description"' not in schema_of(Form)


def is_english(*texts):
    try:
        check_english(*texts)
    except ReplyError as error:
        assert error.status == "wrong_language"
        return False
    return True


def test_every_sentence_of_the_rules_reads_as_english():
    sentences = [one.clause(direction) for one in operations() for direction in DIRECTIONS]
    sentences += [one.clause(direction) for one in token_classes() for direction in DIRECTIONS]
    sentences += [text for one in data.anchors() for text in one.descriptions.values()]
    assert len(sentences) > 300
    assert [one for one in sentences if not is_english(one)] == []


def test_inputs_and_operations_together_read_as_english():
    plurals = [one.plural for one in data.word_classes().values()]
    pairs = [(inputs, f"writes {targets}") for inputs in plurals for targets in plurals[::9]]
    assert [one for one in pairs if not is_english(*one)] == []


@pytest.mark.parametrize(
    "text",
    [
        "Schreibt die Hauptstadt des Landes, das gelesen wird.",
        "schreibt den Plural des gelesenen Wortes auf",
        "Il écrit le pluriel du nom qui est lu",
        "Écrit l'opposé du mot qu'il lit",
        "L'attention écrit la capitale d'un pays",
        "Escribe la capital del país que lee",
        "Escribe el plural del sustantivo que lee",
        "Scrive la capitale del paese che legge",
        "写出它读到的国家的首都",
        "Пишет столицу страны",
        "読んだ国の首都を書く",
        "यह देश की राजधानी लिखता है",
    ],
)
def test_other_languages_are_refused(text):
    assert not is_english(text)
    assert not is_english("countries", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "→ 7",
        "écrit la capitale",
        "verbs",
        "writes the French word, such as 'la capitale du pays que le modèle lit' for it",
        'writes "写出它读到的国家的首都" after any token that it reads',
        "writes `die Hauptstadt des Landes` and “die Sprache des Landes” for a country",
        "writes the word's plural and the plural's adjective",
        "writes Spanish verbs such as hablar, comer and vivir",
    ],
)
def test_short_texts_and_foreign_words_in_quotes_pass(text):
    assert is_english(text)
