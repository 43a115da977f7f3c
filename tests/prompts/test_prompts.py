"""Every prompt loads, wants exactly what its callers give, and puts values in as they are."""

import hashlib
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from describe.chat import Message, messages_of
from prompts import Prompt, load

VARIABLES = {
    "draft": {"min_rows", "n_rows", "hint", "rows"},
    "judge": {"description", "rows"},
    "detect": {"description", "rows"},
    "detect_one": {"description", "row"},
    "repair": {"problem"},
    "repair_word": {"problem"},
}


def test_every_prompt_is_known_here():
    there = {
        file.name.removesuffix(".txt") for file in files("prompts").iterdir() if file.name.endswith(".txt")
    }
    assert there == set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_a_prompt_has_its_turns_variables_and_digest(name):
    prompt = load(name)
    text = (files("prompts") / f"{name}.txt").read_text(encoding="utf-8")
    assert (prompt.name, prompt.variables) == (name, VARIABLES[name])
    assert prompt.digest == hashlib.sha256(text.encode()).hexdigest()
    roles = [role for role, _ in prompt.turns]
    assert roles == (["user"] if name.startswith("repair") else ["system", "user"])
    assert all(turn and turn == turn.strip() for _, turn in prompt.turns)
    assert (
        set(re.findall(r"\$(\w*)", text)) == VARIABLES[name]
    )  # no lone $ that would be an error when filled


def test_digests_differ():
    assert len({load(name).digest for name in VARIABLES}) == len(VARIABLES)


def test_the_digest_changes_with_the_text(tmp_path, monkeypatch):
    digests = set()
    for number, text in enumerate(
        ("--- user ---\nIs $x so?", "--- user ---\nIs $x so? ", "--- system ---\nIs $x so?")
    ):
        (tmp_path / f"p{number}.txt").write_text(text)
        monkeypatch.setattr("prompts.files", lambda package: tmp_path)
        digests.add(load(f"p{number}").digest)
    assert len(digests) == 3


@given(st.text())
def test_a_value_is_put_in_as_it_is(value):
    (turn,) = load("repair").turns_with(problem=value)
    assert turn == ("user", load("repair").turns[0][1].replace("$problem", value))


def test_variables_in_values_are_not_replaced():
    values = {"description": "$rows ${rows} $$ $nothing", "rows": "$description"}
    messages = messages_of(load("judge"), **values)
    assert all(isinstance(one, Message) for one in messages) and [one.role for one in messages] == [
        "system",
        "user",
    ]
    assert "<description>\n$rows ${rows} $$ $nothing\n</description>" in messages[1].content
    assert "<rows>\n$description\n</rows>" in messages[1].content


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"missing \['description', 'rows'\], unknown \[\]"),
        ({"rows": 1}, r"missing \['description'\]"),
        ({"rows": 1, "description": 2, "row": 3}, r"missing \[\], unknown \['row'\]"),
    ],
)
def test_missing_and_unknown_variables_are_errors(values, said):
    with pytest.raises(ValueError, match=f"prompt 'judge': {said}"):
        load("judge").turns_with(**values)


def test_a_prompt_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        load("no such prompt")


def test_braces_are_variables_too():
    prompt = Prompt("p", "d", (("user", "${a}b $a $$5"),))
    assert list(prompt.turns_with(a=1)) == [("user", "1b 1 $5")]
