"""What an endpoint does not support is left out from then on, and a reply that is not as asked is given back once."""

import json

import pytest
from chat_workshop import MODEL, asker, completion, endpoint, error, question, questions, read, statuses

from describe.chat import ReplyError


def refusing(*options, form=None):
    """A server that knows none of these options, and says so as OpenAI does."""

    def reply(number, method, path, body):
        sent = json.loads(body)
        for option in options:
            if option in sent:
                told = f"Unsupported parameter: '{option}' is not supported with this model."
                return 400, error(told, type="invalid_request_error", param=option)
        if form is not None and (told := form(sent.get("response_format"))):
            return 400, error(told)
        return 200, completion()

    return reply


def test_the_whole_request_is_sent_as_the_protocol_says():
    body = endpoint("http://127.0.0.1:1/v1").body(question("Q", top_logprobs=3).request)
    schema = body["response_format"]["json_schema"]
    assert schema["name"] == "verdict" and schema["strict"] is True
    assert schema["schema"]["properties"]["answer"] == {"type": "string", "maxLength": 9}
    del body["response_format"]
    assert body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Q"}],
        **{"max_tokens": 50, "temperature": 0.0, "seed": 0, "logprobs": True, "top_logprobs": 3},
    }
    bare = question(schema="", schema_name="", temperature=None, seed=None).request
    assert set(endpoint("http://127.0.0.1:1/v1").body(bare)) == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_unsupported_option_is_learnt_once(script, concurrency):
    running = script(refusing("max_tokens", "temperature"))
    asking = asker(running.base_url, concurrency=concurrency)
    assert statuses(asking.ask(questions(20))) == ["ok"] * 20
    last = running.bodies[-1]
    assert last["max_completion_tokens"] == 50 and last["seed"] == 0
    assert "max_tokens" not in last and "temperature" not in last
    if concurrency == 1:
        assert len(running.bodies) <= 20 + 2 * 2  # two of the workers may be under way
    sent = len(running.bodies)
    assert statuses(asking.ask(questions(5, nonce="again"))) == ["ok"] * 5
    assert len(running.bodies) == sent + 5


def test_a_seed_and_logprobs_can_be_left_out(script):
    running = script(refusing("seed", "logprobs"))
    (outcome,) = asker(running.base_url).ask([question(top_logprobs=2)])
    assert (outcome.status, outcome.calls[0].answer.attempts) == ("ok", 1)
    assert not {"seed", "logprobs", "top_logprobs"} & set(running.bodies[-1])


def test_a_server_without_json_schema_is_asked_for_an_object(serve):
    running = serve(reply={"answer": "Yes"}, faults={"no_json_schema": 1.0})
    asking = asker(running.base_url, concurrency=1)
    assert [one.value for one in asking.ask(questions(10))] == ["Yes"] * 10
    sent = len(running.chats())
    assert sent <= 10 + 2 * 2
    asking.ask(questions(5, nonce="again"))
    assert len(running.chats()) == sent + 5


@pytest.mark.parametrize(
    ("form", "last"),
    [
        (lambda sent: "maxLength" in str(sent) and "Invalid schema for response_format", "json_schema"),
        (lambda sent: "json_schema" in str(sent) and "json_schema is unknown", "json_object"),
        (lambda sent: sent and "response_format is unknown", None),
    ],
)
def test_forms_of_the_reply_are_tried_from_the_strictest(script, form, last):
    running = script(refusing(form=form))
    assert statuses(asker(running.base_url, concurrency=1).ask(questions(3))) == ["ok"] * 3
    used = running.bodies[-1].get("response_format")
    assert (used and used["type"]) == last
    if last == "json_schema":
        assert used["json_schema"]["schema"]["required"] == ["answer"]


def test_an_option_that_was_not_sent_is_a_rejection_and_no_loop(script):
    running = script(lambda *_: (400, error("temperature, seed, max_tokens, response_format: all wrong")))
    (outcome,) = asker(running.base_url).ask([question()])
    assert outcome.status == "rejected" and len(running.bodies) < 10


def scripted_replies(script, *contents):
    return script(lambda number, *_: (200, completion(contents[min(number, len(contents) - 1)])))


def test_a_wrong_reply_is_given_back_and_mended(script):
    running = scripted_replies(script, "I think: yes", '{"answer": "Yes"}')
    (outcome,) = asker(running.base_url).ask([question("Is it so?")])
    assert (outcome.status, outcome.value, len(outcome.calls)) == ("ok", "Yes", 2)
    assert [call.answer.text for call in outcome.calls] == ["I think: yes", '{"answer": "Yes"}']
    first, second = running.bodies
    assert second["messages"][: len(first["messages"])] == first["messages"]
    given_back, asked = second["messages"][1:]
    assert given_back == {"role": "assistant", "content": "I think: yes"}
    assert asked["role"] == "user" and "That cannot be used: the reply has no answer." in asked["content"]
    first.pop("messages"), second.pop("messages")
    assert first == second


def read_rows(answer):
    raise ReplyError("bad_rows", f"row {read(answer)} does not exist")


@pytest.mark.parametrize(("how", "status"), [(read, "unparsed"), (read_rows, "bad_rows")])
def test_a_reply_that_is_wrong_twice_has_a_status_and_both_replies(script, tmp_path, how, status):
    wrong = ("no", "never") if status == "unparsed" else ('{"answer": "31"}', '{"answer": "$32"}')
    running, path = scripted_replies(script, *wrong), tmp_path / "answers.sqlite"
    (outcome,) = asker(running.base_url, path).ask([question(read=how)])
    assert (outcome.status, outcome.value) == (status, None) and outcome.error
    assert tuple(call.answer.text for call in outcome.calls) == wrong and outcome.reply == wrong[1]
    assert len(running.bodies) == 2
    (again,) = asker(running.base_url, path).ask([question(read=how)])  # both are kept: nothing is sent
    assert again.reply == wrong[1] and all(call.from_cache for call in again.calls)
    assert len(running.bodies) == 2


def test_a_wrong_reply_with_half_a_surrogate_can_be_given_back(script):
    running = scripted_replies(script, "\ud83d", '{"answer": "Yes"}')
    assert statuses(asker(running.base_url).ask([question()])) == ["ok"]


def test_a_refusal_to_mend_is_the_outcome(script):
    replies = [completion("no JSON"), completion(None, refusal="I will not.")]
    running = script(lambda number, *_: (200, replies[number]))
    (outcome,) = asker(running.base_url).ask([question()])
    assert (outcome.status, outcome.reply, len(outcome.calls)) == ("refused", "I will not.", 2)


def test_a_long_wrong_reply_is_given_back_in_part(script):
    running = scripted_replies(script, "x" * 50_000, '{"answer": "Yes"}')
    assert statuses(asker(running.base_url).ask([question()])) == ["ok"]
    assert len(running.bodies[1]["messages"][1]["content"]) == 4_000


def test_a_word_is_asked_for_again_as_a_word(script):
    running = script(lambda number, *_: (200, completion("Yes" if number else "Perhaps")))

    def word(answer):
        if answer.text != "Yes":
            raise ReplyError("unoffered", "neither Yes nor No")
        return answer.text

    (outcome,) = asker(running.base_url).ask([question(read=word, schema="", schema_name="")])
    assert (outcome.status, outcome.value) == ("ok", "Yes")
    last = running.bodies[-1]["messages"][-1]["content"]
    assert "one word" in last and "JSON" not in last
