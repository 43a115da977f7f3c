"""Many questions through many faults: none lost, none twice, the same answers, and nothing sent a second time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chat_workshop import PRICES, ROOT, asker, completion, question, questions, statuses

from describe.clients.asker import PatienceSettings
from describe.errors import InputError

COUNT = 500
FAULTS = {
    **{"rate_limit": 0.08, "server_error": 0.08, "drop": 0.04, "reset": 0.04},
    **{"malformed_json": 0.03, "bad_gateway_html": 0.025, "hang": 0.005},
}
PATIENT = PatienceSettings(attempts=6, deadline=60.0, first_wait=0.02, longest_wait=0.2)
NUMBERS = {f"q{number}": {"answer": number} for number in range(COUNT)}


def numbered(count=COUNT):
    return [question(f"Which is {number}?", schema_name=f"q{number}") for number in range(count)]


def shown(outcomes):
    return [(one.status, one.value, one.reply) for one in outcomes]


def test_five_hundred_questions_through_faults(serve, tmp_path):
    sound = asker(serve(reply=NUMBERS).base_url, concurrency=32).ask(numbered())
    running = serve(reply=NUMBERS, faults=FAULTS, seed=3)
    path = tmp_path / "answers.sqlite"
    asking = asker(running.base_url, path, concurrency=32, patience=PATIENT, timeout=4.0)
    outcomes = asking.ask(numbered())
    assert [one.value for one in outcomes] == list(range(COUNT))
    assert shown(outcomes) == shown(sound)

    log = running.chats()
    sent = Counter(entry["digest"] for entry in log)
    answered = Counter(entry["digest"] for entry in log if entry["outcome"] == "ok")
    assert len(sent) == len(answered) == COUNT and set(answered.values()) == {1}
    spoiled = Counter(entry["outcome"] for entry in log)
    assert set(spoiled) == {"ok", *FAULTS} and 100 < len(log) - COUNT < 200
    assert max(entry["max_concurrent"] for entry in log) <= 32 + spoiled["hang"]  # it hangs on there

    attempts = Counter(one.calls[0].answer.attempts for one in outcomes)
    assert attempts == {1: 2 * COUNT - len(log), 2: len(log) - COUNT}
    assert asking.purse.spent == pytest.approx(sum(one.calls[0].cost_usd for one in outcomes))

    for again in (asking, asker(running.base_url, path)):
        repeated = again.ask(numbered())
        assert shown(repeated) == shown(outcomes)
        assert all(one.calls[0].from_cache for one in repeated)
    assert running.chats() == log


def test_another_model_endpoint_or_nonce_is_asked_anew(serve, tmp_path):
    first, second = serve(reply={"answer": 1}), serve(reply={"answer": 2})
    path = tmp_path / "answers.sqlite"
    given = [question(), question(nonce="again"), question(chat_model="other"), question(about="head 3")]
    assert [one.value for one in asker(first.base_url, path).ask(given)] == [1] * 4
    assert len(first.chats()) == 3  # what a question is about is no part of it
    assert [one.value for one in asker(second.base_url, path).ask(given)] == [2] * 4
    assert [one.value for one in asker(first.base_url + "/", path).ask(given)] == [1] * 4
    assert len(first.chats()) == 3


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import workshop
asking = workshop.asker(sys.argv[2], Path(sys.argv[3]), concurrency=4)
asking.ask(workshop.questions(60), lambda done, total: print(done, flush=True))
"""


def test_a_run_that_was_killed_goes_on_from_there(serve, tmp_path):
    running, path = serve(reply={"answer": "Yes"}, latency=0.05), tmp_path / "answers.sqlite"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, here, running.base_url, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while int(process.stdout.readline()) < 20:
            pass
        process.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    sent = len(running.chats())
    outcomes = asker(running.base_url, path).ask(questions(60))
    assert statuses(outcomes) == ["ok"] * 60
    kept = sum(one.calls[0].from_cache for one in outcomes)
    assert 20 <= kept <= sent <= kept + 4  # only what was under way is asked again
    assert len(running.chats()) == sent + 60 - kept


def test_a_budget_stops_cleanly_and_a_higher_one_goes_on(serve, tmp_path):
    running, path = serve(reply={"answer": "Yes"}), tmp_path / "answers.sqlite"
    most = PRICES.cost("fault-model", question().request.most_tokens, question().request.max_tokens)
    budget = 1.5 * most
    asking = asker(running.base_url, path, budget=budget)
    outcomes = asking.ask(questions(60))
    counts = Counter(statuses(outcomes))
    assert set(counts) == {"ok", "budget"} and asking.out_of_budget
    assert 0.3 * most < asking.purse.spent <= budget
    assert len(running.chats()) == counts["ok"]
    unasked = [one for one in outcomes if one.status == "budget"]
    assert all(one.error == "the budget is spent" and one.value is None for one in unasked)

    more = asker(running.base_url, path, budget=1.0)
    assert statuses(more.ask(questions(60))) == ["ok"] * 60
    assert len(running.chats()) == 60
    spent = asking.purse.spent + more.purse.spent
    assert spent == pytest.approx(sum(PRICES.cost("fault-model", 11 // 4, 4) for _ in range(60)), rel=0.2)


def test_a_budget_holds_where_the_endpoint_does_not_say_what_was_used(script):
    running = script(lambda *_: (200, completion(usage=None)))
    most = PRICES.cost("fault-model", question().request.most_tokens, question().request.max_tokens)
    asking = asker(running.base_url, budget=4.5 * most)  # nobody knows what an answer did cost
    outcomes = asking.ask(questions(20))
    assert Counter(statuses(outcomes)) == {"ok": 4, "budget": 16}
    assert asking.purse.spent <= 4.5 * most and outcomes[0].calls[0].cost_usd is None


def test_what_was_answered_before_costs_nothing(serve, tmp_path):
    running, path = serve(reply={"answer": "Yes"}), tmp_path / "answers.sqlite"
    asker(running.base_url, path).ask(questions(5))
    asking = asker(running.base_url, path, budget=0.0)
    assert Counter(statuses(asking.ask(questions(6)))) == {"ok": 5, "budget": 1}
    assert asking.purse.spent == 0.0 and len(running.chats()) == 5


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(serve):
    running = serve()
    with pytest.raises(InputError, match="'other' is not known"):
        asker(running.base_url, budget=1.0).ask([question(), question(chat_model="other")])
    assert running.log() == []


def test_collecting_asks_nothing_and_tells_what_is_missing(serve, tmp_path):
    running, path = serve(reply={"answer": "Yes"}), tmp_path / "answers.sqlite"
    asking = asker(running.base_url, path)
    asking.ask(questions(3))
    asking.collect = True
    outcomes = asking.ask(questions(5))
    assert statuses(outcomes) == ["ok"] * 3 + ["pending"] * 2
    missing = [one.request for one in questions(5)[3:]]
    assert list(asking.missing.values()) == missing
    assert list(asking.missing) == [one.digest(running.base_url) for one in missing]
    assert len(running.chats()) == 3 and json.dumps(list(asking.missing))
