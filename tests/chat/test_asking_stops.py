"""What the user must act on stops all with one sentence, every answer kept; no secret is shown or stored."""

import socket
import time

import pytest
from chat_workshop import KEY, QUICK, asker, completion, endpoint, error, question, questions, statuses

from describe.clients.asker import DEAD_AFTER, PatienceSettings
from describe.clients.batches import BatchAsker
from describe.clients.endpoint import Endpoint, EndpointSettings
from describe.errors import DescribeError, InputError

QUOTA = error("You exceeded your current quota.", type="insufficient_quota", code="insufficient_quota")
OTHER_KEY = "hf_SECRETabcdef"  # looks like no key that is known


def one_sentence(caught):
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".") and "SECRET" not in said
    return said


@pytest.mark.parametrize(
    ("kind", "said"), [("unauthorized", "refuses the key"), ("unknown_model", "has no model 'fault-model'")]
)
def test_a_refused_key_or_model_stops_at_the_first_request(serve, kind, said):
    running = serve(faults={kind: 1.0})
    with pytest.raises(InputError, match=said) as caught:
        asker(running.base_url, concurrency=2).ask(questions(50))
    assert running.base_url in one_sentence(caught)
    assert len(running.chats()) <= 4


@pytest.mark.parametrize(
    ("status", "body", "exception", "said"),
    [
        (401, error(f"Incorrect API key: {KEY}"), InputError, "set OPENAI_API_KEY"),
        (403, error("Not for you"), InputError, "refuses the key"),
        (404, b"<html>Not found</html>", InputError, "check the model's name and --base-url"),
        (429, QUOTA, DescribeError, "The quota at .* is used up"),
    ],
)
def test_what_was_answered_before_the_stop_is_kept(script, tmp_path, status, body, exception, said):
    stopping, path = [True], tmp_path / "answers.sqlite"
    sound = 200, completion()
    running = script(lambda number, *_: (status, body) if stopping[0] and number >= 5 else sound)
    with pytest.raises(exception, match=said) as caught:
        asker(running.base_url, path, concurrency=1).ask(questions(20))
    one_sentence(caught)
    sent = len(running.bodies)
    assert caught.type is exception and 6 <= sent <= 7
    stopping[0] = False
    outcomes = asker(running.base_url, path).ask(questions(20))
    assert statuses(outcomes) == ["ok"] * 20
    assert sum(one.calls[0].from_cache for one in outcomes) == 5 and len(running.bodies) == sent + 15


def test_a_dead_port_is_told_within_seconds():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    begun, done = time.monotonic(), []
    with pytest.raises(DescribeError, match="does not answer .* check that it runs") as caught:
        asker(f"http://127.0.0.1:{port}/v1").ask(questions(500), lambda at, _: done.append(at))
    assert f"127.0.0.1:{port}" in one_sentence(caught)
    assert done[-1] < DEAD_AFTER and time.monotonic() - begun < 10


def test_an_endpoint_that_dies_on_the_way_is_dead_after_so_many_questions(script):
    running = script(lambda number, *_: (200, completion()) if number < 10 else (503, error("gone")))
    patience = PatienceSettings(attempts=2, first_wait=0.01, longest_wait=0.01)
    done = []
    with pytest.raises(DescribeError, match="503"):
        asker(running.base_url, concurrency=1, patience=patience).ask(
            questions(100), lambda at, _: done.append(at)
        )
    assert done[-1] == 10 + DEAD_AFTER - 1
    assert len(running.bodies) <= 10 + 2 * (DEAD_AFTER + 1)


def test_an_answer_now_and_then_is_no_dead_endpoint(script):
    running = script(
        lambda number, *_: (503, error("busy")) if (number + 1) % DEAD_AFTER else (200, completion())
    )
    patience = PatienceSettings(attempts=1)
    outcomes = asker(running.base_url, concurrency=1, patience=patience).ask(questions(40))
    assert statuses(outcomes).count("ok") == 40 // DEAD_AFTER
    assert set(statuses(outcomes)) == {"ok", "transport"}


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_the_key_is_in_no_answer_error_or_file(script, tmp_path, key):
    told = error(f"key {key} is wrong,{key}")
    replies = [
        (400, told),
        (500, told),
        (500, f"<p>{key}</p>".encode()),
        (429, told),
        (200, told),
        (200, {"error": key, "choices": []}),
        (400, {"detail": [{"input": key}]}),
        (200, completion()),
    ]
    running, path = script(lambda number, *_: replies[number]), tmp_path / "answers.sqlite"
    patience = PatienceSettings(attempts=1)
    outcomes = asker(running.base_url, path, key=key, concurrency=1, patience=patience).ask(questions(8))
    expected = ["rejected", "transport", "transport", "rate_limited", "empty", "empty", "rejected", "ok"]
    assert statuses(outcomes) == expected
    assert "SECRET" not in repr(outcomes)
    files = list(tmp_path.iterdir())
    assert path in files and all(b"SECRET" not in file.read_bytes() for file in files)


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_the_key_is_in_no_error_of_a_batch(script, key):
    running = script(lambda *_: (400, error(f"{key} may not send batches")))
    asking = BatchAsker(
        endpoint(running.base_url, key), asker(running.base_url).answers, asker("http://x").purse
    )
    with pytest.raises(DescribeError, match="ask without --batch") as caught:
        asking.ask([question()])
    one_sentence(caught)


def test_the_users_name_and_password_are_part_of_no_name(script, tmp_path):
    running, path = script(lambda *_: (200, completion())), tmp_path / "answers.sqlite"
    with_password = running.base_url.replace("http://", "http://me:SECRETword@")
    assert EndpointSettings(with_password + "/").name == running.base_url
    asking = asker(with_password, path)
    assert asking.base_url == running.base_url
    assert statuses(asking.ask([question()])) == ["ok"]
    assert all(b"SECRET" not in file.read_bytes() for file in tmp_path.iterdir())
    assert asker(running.base_url, path).ask([question()])[0].calls[0].from_cache


@pytest.mark.parametrize(
    "address",
    ["", "api.openai.com/v1", "ftp://x/v1", "http://", "http:///v1", "localhost:8000", "http://[::1/v1"]
    + ["http://host:port/v1", "http://host:99999/v1", "ftp://me:SECRETword@host/v1"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="is not the address of an endpoint") as caught:
        Endpoint(EndpointSettings(address), KEY)
    assert "SECRET" not in str(caught.value)


def test_openai_itself_wants_a_key():
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        Endpoint(EndpointSettings(), None).check_key()
    Endpoint(EndpointSettings(), KEY).check_key()
    Endpoint(EndpointSettings("http://127.0.0.1:1/v1"), None).check_key()


def test_a_local_server_wants_no_key(serve):
    running = serve(reply={"answer": "Yes"})
    assert statuses(asker(running.base_url, key=None, patience=QUICK).ask([question()])) == ["ok"]
