"""Requests go out as batches and their answers come back, in whatever order, part or state; nothing goes out twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from chat_workshop import KEY, PRICES, ROOT, asker, completion, endpoint, error, questions, statuses

from describe.clients.answers import AnswerStore
from describe.clients.batches import URL, BatchAsker, Taken, batch_lines, take_answers
from describe.clients.prices import Purse
from describe.errors import BudgetError, DescribeError

BASE_URL = "http://127.0.0.1:1/v1"


def batch_asker(base_url, store, budget=None):
    store = store if isinstance(store, AnswerStore) else AnswerStore(store)
    return BatchAsker(endpoint(base_url), store, Purse(budget, PRICES), poll=0.01)


def exported(store, count, base_url=BASE_URL, command=("describe", "run")):
    """Requests that went out, by their digest."""
    sent = {one.request.digest(base_url): one.request for one in questions(count)}
    store.note_export(sent, base_url, command)
    return sent


def line(key, content='{"answer": "Yes"}', status=200, **more):
    response = {"status_code": status, "body": completion(content)}
    return json.dumps({"custom_id": key, "response": response, "error": None} | more, ensure_ascii=False)


def paths(running):
    return [entry["path"] for entry in running.log() if entry["path"] in ("/v1/files", "/v1/batches")]


def test_lines_are_the_requests_that_would_be_sent(serve):
    running, store = serve(reply={"answer": "Yes"}), AnswerStore(None)
    there = endpoint(running.base_url)
    sent = exported(store, 3, running.base_url)
    lines = list(batch_lines(sent, there))
    assert all("\n" not in one for one in lines)
    for one, (key, request) in zip(map(json.loads, lines), sent.items(), strict=True):
        assert one == {"custom_id": key, "method": "POST", "url": URL, "body": there.body(request)}
    client = openai.OpenAI(base_url=running.base_url, api_key=KEY, max_retries=0)
    file = client.files.create(file=("asked.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    client.batches.retrieve(batch.id)
    answered = client.files.content(client.batches.retrieve(batch.id).output_file_id).text
    assert take_answers(answered.splitlines(), store) == Taken(kept=3, commands=(("describe", "run"),))
    outcomes = asker(running.base_url, store).ask(questions(3))
    assert statuses(outcomes) == ["ok"] * 3 and not running.chats()


def test_lines_are_taken_in_any_order_part_and_state():
    store = AnswerStore(None)
    keys = list(exported(store, 12))
    lines = [line(key) for key in keys[:5]]
    lines += [line(keys[0], '{"answer": "late"}'), lines[1]]  # repeated
    lines += [line(keys[5], status=500), line(keys[6], response=None, error={"message": "expired"})]
    lines += [line(keys[7], None), json.dumps({"custom_id": keys[8]})]  # failed too
    lines += [line("0" * 64), line("é"), line("x"), '{"custom_id": "\\ud83d", "response": {}}']  # unknown
    malformed = [
        "{",
        "[]",
        "3",
        "null",
        '{"custom_id": 3}',
        "{}",
        lines[2][: len(lines[2]) // 2],
        "[" * 100_000,
    ]
    first, rest = lines[:1], [*lines[1:], *malformed, "", "  \n"]
    random.Random(4).shuffle(rest)
    taken = take_answers([*first, *rest], store)
    assert taken == Taken(5, 2, 4, 4, len(malformed), (("describe", "run"),))
    assert store.find(keys[0]).answer.text == '{"answer": "Yes"}'
    assert [store.find(key) is not None for key in keys] == [True] * 5 + [False] * 7
    later = [line(key, '{"answer": "late"}') for key in keys]
    assert take_answers(later, store) == Taken(kept=7, repeated=5, commands=(("describe", "run"),))


def test_a_request_that_is_refused_for_good_is_answered_until_a_better_answer_comes():
    store = AnswerStore(None)
    (key,) = exported(store, 1)
    assert take_answers([line(key, status=429)], store).failed == 1 and store.find(key) is None
    assert take_answers([line(key, status=400)], store).kept == 1
    assert store.find(key).answer.status == "rejected"
    assert take_answers([line(key)], store).kept == 1 and store.find(key).answer.status == "ok"
    assert take_answers([line(key, status=400)], store).repeated == 1


def test_answers_to_two_exports_are_for_two_commands():
    store = AnswerStore(None)
    first, second = list(exported(store, 2))
    store.note_export({second: exported(AnswerStore(None), 2)[second]}, BASE_URL, ("judge",))
    store.note_export({first: exported(AnswerStore(None), 2)[first]}, BASE_URL, ())  # a batch of our own
    assert take_answers([line(first), line(second)], store).commands == (("describe", "run"), ("judge",))


def test_refusals_and_cut_answers_are_answers():
    store = AnswerStore(None)
    keys = list(exported(store, 2))
    cut = completion("half")
    cut["choices"][0]["finish_reason"] = "length"
    lines = [
        json.dumps({"custom_id": keys[0], "response": {"body": completion(None, refusal="No.")}}),
        json.dumps({"custom_id": keys[1], "response": {"status_code": 200, "body": cut}}),
    ]
    assert take_answers(lines, store).kept == 2
    assert [store.find(key).answer.status for key in keys] == ["refused", "truncated"]


def test_a_batch_goes_round_once_and_is_then_forgotten(serve, tmp_path):
    running, told = serve(reply={"answer": "Yes"}), []
    asking = batch_asker(running.base_url, tmp_path / "a.sqlite")
    outcomes = asking.ask(questions(20), lambda *at: told.append(at))
    assert [one.value for one in outcomes] == ["Yes"] * 20
    assert told[-1] == (20, 20)
    assert paths(running).count("/v1/files") == 1 and not running.chats()
    sent = running.log()
    again = batch_asker(running.base_url, tmp_path / "a.sqlite").ask(questions(20))
    assert statuses(again) == ["ok"] * 20 and running.log() == sent
    assert asking.answers._db.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_what_a_batch_leaves_open_goes_round_once_more_and_is_then_pending(serve):
    running = serve(reply={"answer": "Yes"}, faults={"html": 0.3, "refusal": 0.2}, seed=2)
    outcomes = batch_asker(running.base_url, None).ask(questions(30))
    assert set(statuses(outcomes)) == {"ok", "refused", "pending"}
    assert paths(running).count("/v1/files") == 2
    lines = [entry for entry in running.log() if entry["path"] == "/v1/batches" and entry["digest"]]
    assert len(lines) == 30 + statuses(outcomes).count("pending")


def test_wrong_replies_are_given_back_in_a_second_batch(serve):
    running = serve(reply="no JSON")
    outcomes = batch_asker(running.base_url, None).ask(questions(3))
    assert statuses(outcomes) == ["unparsed"] * 3
    assert all(len(one.calls) == 2 for one in outcomes)
    assert paths(running).count("/v1/files") == 2


def test_a_budget_that_is_too_small_sends_nothing(serve):
    running = serve(reply={"answer": "Yes"})
    asking = batch_asker(running.base_url, None, budget=1e-3)
    with pytest.raises(
        BudgetError, match="The batch of 20 requests might cost .* nothing was sent"
    ) as caught:
        asking.ask(questions(20))
    assert caught.value.exit_code == 4 and running.log() == []
    assert statuses(batch_asker(running.base_url, None, budget=1e-2).ask(questions(20))) == ["ok"] * 20


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import workshop
from describe.clients.batches import BatchAsker
asking = workshop.asker(sys.argv[2], Path(sys.argv[3]))
BatchAsker(asking.endpoint, asking.answers, asking.purse, poll=60).ask(workshop.questions(5))
"""


def test_a_run_that_was_killed_waits_for_its_batch_and_uploads_nothing_again(serve, tmp_path):
    running, path = serve(reply={"answer": "Yes"}), tmp_path / "answers.sqlite"
    here = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, here, running.base_url, str(path)]
    with subprocess.Popen(command, env=environment) as process:
        while not any(entry["path"].startswith("/v1/batches/") for entry in running.log()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert statuses(batch_asker(running.base_url, path).ask(questions(5))) == ["ok"] * 5
    assert [entry["path"] for entry in running.log() if entry["path"] == "/v1/files"] == ["/v1/files"]


class BatchApi:
    """A batch API whose batches end as a test says."""

    def __init__(self, content=b"", **end):
        self.content, self.end, self.gone = (
            content,
            {"status": "completed", "output_file_id": "out"} | end,
            set(),
        )

    def __call__(self, number, method, path, body):
        if path.endswith("/content"):
            return 200, self.content, {"content-type": "application/jsonl"}
        if path == "/v1/files":
            return 200, {"id": "file", "object": "file", "filename": "f", "bytes": 1, "purpose": "batch"}
        shown = {"id": "batch-1", "object": "batch", "status": "validating", "input_file_id": "file"}
        if path == "/v1/batches":
            return 200, shown
        if path in self.gone:
            return 404, error("No such batch")
        return 200, shown | self.end


def test_a_failed_batch_is_one_sentence_and_is_forgotten(script):
    problems = {"object": "list", "data": [{"code": "x", "message": f"Enqueued limit reached for {KEY}."}]}
    running = script(BatchApi(status="failed", output_file_id=None, errors=problems))
    store = AnswerStore(None)
    with pytest.raises(
        DescribeError, match=r"^The batch batch-1 failed at .*: Enqueued limit reached .*[^.]\.$"
    ):
        batch_asker(running.base_url, store).ask(questions(2))
    assert store._db.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_a_batch_that_the_endpoint_lost_is_sent_again_by_the_next_run(script):
    api, store = BatchApi(), AnswerStore(None)
    running = script(api)
    sent = [one.request.digest(running.base_url) for one in questions(2)]
    api.content = "\n".join(line(key) for key in sent).encode()
    api.gone.add("/v1/batches/batch-1")
    with pytest.raises(DescribeError, match="run the same command again"):
        batch_asker(running.base_url, store).ask(questions(2))
    api.gone.clear()
    assert statuses(batch_asker(running.base_url, store).ask(questions(2))) == ["ok"] * 2
    assert [path for _, path, _ in running.seen].count("/v1/files") == 2


def test_an_expired_batch_leaves_the_rest_pending(script):
    api = BatchApi(status="expired")
    running = script(api)
    key = questions(1)[0].request.digest(running.base_url)
    api.content = line(key).encode()
    assert statuses(batch_asker(running.base_url, None).ask(questions(3))) == ["ok", "pending", "pending"]


def test_line_separators_inside_an_answer_end_no_line(script):
    api = BatchApi()
    running = script(api)
    said = '{"answer": "a\u2028b\u0085c"}'
    keys = [one.request.digest(running.base_url) for one in questions(2)]
    api.content = "\r\n".join(line(key, said) for key in keys).encode()
    outcomes = batch_asker(running.base_url, None).ask(questions(2))
    assert [one.value for one in outcomes] == ["a\u2028b\u0085c"] * 2


def test_an_endpoint_without_batches_is_one_sentence(script):
    running = script(lambda *_: (404, error("Not found")))
    with pytest.raises(DescribeError, match="ask without --batch"):
        batch_asker(running.base_url, None).ask(questions(2))
