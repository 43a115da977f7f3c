"""Whatever the body of a response holds becomes an answer with a status, and no error text shows a key."""

import json
from email.utils import formatdate

import pytest
from chat_workshop import KEY, completion
from hypothesis import given
from hypothesis import strategies as st

from describe.clients.answers import AnswerStore
from describe.clients.envelope import REPLY_LIMIT, answer_of, error_text, retry_after

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters()),  # halves of surrogate pairs too
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def answered(content="Yes", finish="stop", **message):
    body = completion(content, **message)
    body["choices"][0]["finish_reason"] = finish
    return answer_of(json.dumps(body))


def kept(answer):
    """The answer, once it went through the store."""
    store = AnswerStore(None)
    store.keep("key", "http://x/v1", "m", "judge", answer)
    return store.find("key").answer


def test_a_sound_reply_is_ok_with_all_that_it_tells():
    answer = answered(' {"answer": "Yes"}\n')
    assert (answer.status, answer.text, answer.error) == ("ok", ' {"answer": "Yes"}\n', None)
    assert (answer.answered_by, answer.input_tokens, answer.output_tokens) == ("told-model", 10, 5)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (answered(None, refusal="I cannot."), "refused", "I cannot."),
        (answered("half", "content_filter"), "refused", "half"),
        (answered("", "content_filter"), "refused", None),
        (answered("half", "length"), "truncated", "half"),
        (answered(None, "length"), "truncated", None),
        (answered("x" * REPLY_LIMIT), "ok", "x" * REPLY_LIMIT),
        (answered("x" * (REPLY_LIMIT + 1)), "oversized", "x" * 2000),
        (answered(None), "empty", None),
        (answered(" \n\t"), "empty", None),
        (answered(["a", "list"]), "empty", None),
        (answered(""), "empty", None),
    ],
)
def test_statuses_of_one_choice(answer, status, text):
    assert (answer.status, answer.text) == (status, text)
    assert (answer.error is None) == (status == "ok")
    assert answer.answered_by == "told-model" and answer.input_tokens == 10  # it is paid for, whatever it is


@pytest.mark.parametrize(
    "body",
    [{}, {"choices": []}, {"choices": None}, {"choices": "no"}, {"choices": [None]}, {"choices": [{}]}]
    + [{"choices": [{"message": None}]}, {"choices": [{"message": "text"}]}],
)
def test_no_choice_is_empty(body):
    assert answer_of(json.dumps(body)).status == "empty"


def test_an_error_inside_a_status_of_200_is_told():
    answer = answer_of(json.dumps({"error": {"message": f"Provider is down for {KEY}", "code": 502}}))
    assert answer.status == "empty" and "Provider is down" in answer.error and "SECRET" not in answer.error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<!doctype html><p>Sign in", "a web page"),
        ("\n <html>", "a web page"),
        ('{"choices": [', "broken JSON"),
        ("", "broken JSON"),
        ('data: {"choices": []}', "broken JSON"),
        ("[" * 100_000, "broken JSON"),  # deeper than the parser goes
        ("[]", "no reply"),
        ("3", "no reply"),
        ("null", "no reply"),
        ('"text"', "no reply"),
    ],
)
def test_what_is_no_reply_is_not_json(body, said):
    answer = answer_of(body)
    assert answer.status == "not_json" and said in answer.error


@pytest.mark.parametrize(
    "usage",
    [None, "many", [], {}, {"prompt_tokens": "7"}, {"prompt_tokens": -1, "completion_tokens": True}]
    + [{"prompt_tokens": 1.5}, {"prompt_tokens": 10**30}],
)
def test_odd_usage_is_unknown(usage):
    answer = answer_of(json.dumps(completion() | {"usage": usage}))
    assert (answer.status, answer.input_tokens, answer.output_tokens) == ("ok", None, None)
    assert kept(answer) == answer


def test_half_a_surrogate_does_no_harm_later():
    body = json.dumps(completion("a \ud83d b") | {"model": "m\udc00"})
    answer = answer_of(body)
    assert answer.status == "ok" and answer.text.startswith("a ") and answer.text.endswith(" b")
    answer.text.encode()  # it can be sent back to be mended
    assert kept(answer) == answer


def test_logprobs_are_read():
    entry = {"token": "Yes", "logprob": -0.1}
    entry["top_logprobs"] = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2}]
    body = completion("Yes")
    body["choices"][0]["logprobs"] = {"content": [entry]}
    (choice,) = answer_of(json.dumps(body)).logprobs
    assert (choice.token, choice.top) == ("Yes", (("Yes", -0.1), ("No", -2.0)))


@pytest.mark.parametrize(
    "logprobs",
    [None, [], "x", {}, {"content": None}, {"content": [None, 3, {"token": None}]}]
    + [{"content": [{"token": "a", "top_logprobs": broken}]} for broken in (None, 3, [None], [{}])]
    + [{"content": [{"token": "a", "top_logprobs": [{"token": "b", "logprob": value}]}]}
       for value in (None, "x", 10**400)],
)  # fmt: skip
def test_malformed_logprobs_are_left_out(logprobs):
    body = completion("Yes")
    body["choices"][0]["logprobs"] = logprobs
    answer = answer_of(json.dumps(body))
    assert answer.status == "ok" and not any(one.top for one in answer.logprobs)
    assert kept(answer) == answer


@given(st.text())
def test_no_text_raises(body):
    assert answer_of(body).status in ("not_json", "empty")


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_no_json_raises_and_every_answer_can_be_kept(message, usage, logprobs, finish):
    choice = {"message": {"content": message}, "logprobs": {"content": logprobs}, "finish_reason": finish}
    for body in (message, {"choices": message}, {"choices": [message], "error": usage}):
        answer_of(json.dumps(body))
    answer = answer_of(json.dumps({"choices": [choice], "usage": usage, "model": message}))
    assert kept(answer).text == answer.text and kept(answer).status == answer.status


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"error": {"message": "Too long."}}, "Too long."),
        ({"message": "Too long."}, "Too long."),
        ({"error": "Too long."}, "Too long."),
        ({"detail": [1]}, '{"detail": [1]}'),
        ("<html><h1>Bad\n gateway</h1></html>", "Bad gateway"),
        (None, ""),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_an_error_is_told_in_one_short_line(body, shown):
    assert error_text(body) == shown


@pytest.mark.parametrize("key", [KEY, "sk-proj-AbC_12-3xyz", "sk-abcd****wxyz", "Bearer abc.def-123"])
def test_an_error_hides_what_looks_like_a_key(key):
    shown = error_text({"error": {"message": f"Incorrect API key: {key}. Get one."}})
    assert key not in shown and key[-6:] not in shown and "Get one." in shown


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=40), st.text())
def test_an_error_hides_the_key_whatever_it_looks_like(key, around):
    said = f"{around} {key} {around}"
    assert key in said and key not in error_text({"error": {"message": said}}, (key,))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": formatdate(1030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(900, usegmt=True)}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after-ms": "soon"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 99 Nov 2099 99:99:99 GMT"}, None),
    ],
)
def test_the_wait_that_is_asked_for(headers, seconds):
    assert retry_after(headers, 1000.0) == seconds


@given(st.text())
def test_any_wait_is_seconds_or_none(given_):
    for name in ("retry-after", "retry-after-ms"):
        wait = retry_after({name: given_}, 1000.0)
        assert wait is None or wait >= 0


def test_an_error_cannot_move_the_cursor_of_a_terminal():
    told = error_text({"error": {"message": "bad\x1b[2J\x07 \u202egpj"}})
    assert told.isprintable() and told.startswith("bad") and "gpj" in told
