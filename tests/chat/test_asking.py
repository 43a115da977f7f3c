"""Each fault of an endpoint ends as it should: what may pass is tried again, what stays has its own status."""

import time

import pytest
from chat_workshop import MODEL, PRICES, QUICK, asker, completion, error, question, questions, statuses

from describe.clients.asker import PatienceSettings

SOUND = {"answer": "Yes"}


def test_a_sound_answer_has_its_value_and_its_cost(serve):
    running = serve(reply=SOUND)
    given = question("x" * 400, top_logprobs=2)
    (outcome,) = asker(running.base_url).ask([given])
    (call,) = outcome.calls
    assert (outcome.status, outcome.value, outcome.error) == ("ok", "Yes", None)
    assert outcome.reply == '{"answer": "Yes"}'
    answer = call.answer
    assert (answer.answered_by, answer.input_tokens, answer.output_tokens) == (MODEL, 100, 4)
    assert call.cost_usd == pytest.approx(108e-6) and not call.from_cache
    assert answer.seconds > 0 and call.called_at == pytest.approx(time.time(), abs=30)
    (said,) = [one for one in answer.logprobs if one.token == "Yes"]
    assert dict(said.top) == {"Yes": -0.25, "No": -1.75}


@pytest.mark.parametrize(
    "kind",
    ["rate_limit", "server_error", "bad_gateway_html", "malformed_json", "drop", "reset", "hang", "slow"],
)
def test_what_is_transient_is_tried_again(serve, kind):
    running = serve(reply=SOUND, faults={kind: 1.0}, fail_first=2)
    timeout = 0.6 if kind in ("hang", "slow") else 10.0
    (outcome,) = asker(running.base_url, timeout=timeout).ask([question()])
    assert (outcome.status, outcome.value, len(outcome.calls)) == ("ok", "Yes", 1)
    assert outcome.calls[0].answer.attempts == 3
    assert [entry["outcome"] for entry in running.chats()] == [kind, kind, "ok"]


@pytest.mark.parametrize(
    ("kind", "status", "sent"),
    [
        ("rate_limit", "rate_limited", 3),
        ("server_error", "transport", 3),
        ("reset", "transport", 3),
        ("html", "not_json", 3),
        ("empty_choices", "empty", 1),
        ("null_content", "empty", 1),
        ("refusal", "refused", 1),
        ("content_filter", "refused", 1),
        ("truncated", "truncated", 1),
        ("huge", "oversized", 1),
        ("malformed_content", "unparsed", 2),
        ("wrong_schema", "unparsed", 2),
        ("duplicate", "unparsed", 2),
        ("bad_request", "rejected", 1),
    ],
)
def test_what_stays_has_its_own_status(serve, kind, status, sent):
    running = serve(reply=SOUND, faults={kind: 1.0}, fail_first=99)
    (outcome,) = asker(running.base_url).ask([question()])
    assert (outcome.status, outcome.value) == (status, None) and outcome.error
    assert len(running.chats()) == sent


def test_a_server_that_hangs_is_a_timeout(serve):
    running = serve(faults={"hang": 1.0}, fail_first=99)
    begun = time.monotonic()
    (outcome,) = asker(running.base_url, timeout=0.3).ask([question()])
    assert outcome.status == "timeout" and "0.3 s" in outcome.error
    assert time.monotonic() - begun < 8


def test_retry_after_is_waited_for_and_nothing_begins_before(serve):
    running = serve(reply=SOUND, faults={"rate_limit_after": 1.0})
    outcomes = asker(running.base_url, concurrency=1).ask(questions(2))
    assert statuses(outcomes) == ["ok", "ok"]
    log = running.chats()
    assert len(log) == 4
    for one, following in zip(log, log[1:], strict=False):
        if one["outcome"] == "rate_limit_after":
            assert following["time"] - one["time"] >= 1.0


def test_a_wait_that_is_too_long_is_not_waited_for(script):
    running = script(lambda *_: (429, error("slow down"), {"retry-after": "301"}))
    begun = time.monotonic()
    (outcome,) = asker(running.base_url).ask([question()])
    assert outcome.status == "rate_limited" and len(running.bodies) == 1
    assert time.monotonic() - begun < 8


def test_the_deadline_ends_the_tries(script):
    running = script(lambda *_: (503, error("busy")))
    patience = PatienceSettings(attempts=1000, deadline=0.5, first_wait=0.1, longest_wait=0.1)
    (outcome,) = asker(running.base_url, patience=patience).ask([question()])
    assert outcome.status == "transport" and 2 <= len(running.bodies) <= 8


def test_the_limit_shrinks_while_the_endpoint_is_asked_too_much(script):
    def reply(number, *_):
        return (429, error("slow down")) if number < 8 else (200, completion())

    running = script(reply)
    outcomes = asker(running.base_url, concurrency=4).ask(questions(20))
    assert statuses(outcomes) == ["ok"] * 20
    assert len(running.bodies) == 28


def test_the_same_question_twice_at_a_time_is_sent_once(serve):
    running = serve(reply=SOUND, latency=0.2)
    outcomes = asker(running.base_url).ask([question()] * 10 + questions(1))
    assert [one.value for one in outcomes] == ["Yes"] * 11
    assert len(running.chats()) == 2
    assert sum(not one.calls[0].from_cache for one in outcomes) == 2


def test_the_same_question_twice_is_sent_once_also_while_the_budget_is_waited_for(serve):
    running = serve(reply=SOUND, latency=0.2)
    given = [question("other"), *[question("same")] * 4]
    most = PRICES.cost("fault-model", given[0].request.most_tokens, given[0].request.max_tokens)
    budget = 1.2 * most  # room for one request at a time
    outcomes = asker(running.base_url, budget=budget).ask(given)
    assert statuses(outcomes) == ["ok"] * 5
    assert len(running.chats()) == 2


def test_the_same_question_is_asked_again_where_the_first_had_no_answer(script):
    running = script(lambda number, *_: (200, completion() if number else {"choices": []}))
    outcomes = asker(running.base_url).ask([question()] * 3)
    assert statuses(outcomes) == ["empty", "ok", "ok"] and len(running.bodies) == 2


def test_no_questions_are_no_requests(serve):
    running, told = serve(), []
    assert asker(running.base_url).ask([], lambda *at: told.append(at)) == []
    assert running.log() == [] and told == [(0, 0)]


def test_progress_counts_to_the_end(serve):
    told = []
    asker(serve(reply=SOUND).base_url).ask(questions(5), lambda *at: told.append(at))
    assert told == [(done, 5) for done in range(6)]


def test_an_error_in_the_reading_stops_all(serve):
    def broken(answer):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asker(serve(reply=SOUND).base_url, patience=QUICK).ask([question(read=broken)] * 3)
