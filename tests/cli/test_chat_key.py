"""The key of an endpoint stands in no output, no catalogue and no file of answers, whatever the endpoint says."""

import pytest

from describe.cli.chat_models import ChatModels, DraftOptions, JudgeOptions
from describe.cli.endpoints import Endpoints

KEY = "sk-test-SECRET123456"
PLAIN = "hunter2.of.the.local.server"  # a key that does not look like one


@pytest.mark.parametrize("key", [KEY, PLAIN])
@pytest.mark.parametrize(
    ("kind", "status", "code"), [("unauthorized", 401, 2), ("bad_request", 400, 3), ("server_error", 500, 1)]
)
def test_an_endpoint_that_says_the_key_aloud(chat, key, kind, status, code):
    chat.plan(fail_first=1000)
    chat.faults.HTTP_FAULTS[kind] = (status, "odd", f"What key is this: {key}? Or 'Bearer {key}'.")
    chat.faults.drawn = lambda plan, body: kind
    found = chat.run(env={"OPENAI_API_KEY": key})
    assert found.code == code, found.stderr
    assert chat.chats()[0]["authorization"]
    assert_nowhere(chat, found, key)


def test_a_run_that_succeeds_with_two_keys(chat):
    env = {"OPENAI_API_KEY": KEY, "JUDGE_API_KEY": PLAIN}
    found = chat.run("--judge", "judge-1", "--judge-base-url", chat.url, env=env)
    assert found.code == 0, found.stderr
    assert_nowhere(chat, found, KEY, PLAIN)


def test_a_key_in_the_address_is_not_stored(chat):
    url = chat.url.replace("http://", f"http://user:{KEY}@")
    words = [url if word == chat.url else word for word in chat.words()]
    chat.prepare()
    found = chat.call("run", *words, "--quiet", "--json")
    assert found.code == 0, found.stderr
    assert_nowhere(chat, found, KEY)


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_endpoint_that_is_not_there(chat, debug):
    chat.stop()
    found = chat.run(*debug, env={"OPENAI_API_KEY": KEY})
    assert found.code == 1
    assert_nowhere(chat, found, KEY)
    chat.plan()


@pytest.mark.parametrize("key", [KEY, PLAIN])
def test_a_batch_that_is_refused(chat, key):
    told = chat.app.other
    error = {"error": {"message": f"no batches for {key}", "type": "x", "param": None, "code": "x"}}
    chat.app.other = lambda method, path, *rest: (
        (403, error) if path == "/v1/files" else told(method, path, *rest)
    )
    found = chat.run("--batch", env={"OPENAI_API_KEY": key})
    assert found.code in (1, 2), found.stderr
    assert_nowhere(chat, found, key)


def assert_nowhere(chat, found, *keys):
    files = [path for path in chat.cwd.rglob("*") if path.is_file()]
    assert any(path.name.startswith("a.sqlite") for path in files)
    for key in keys:
        assert key not in found.stdout and key not in found.stderr
        for path in files:
            assert key.encode() not in path.read_bytes(), path


def test_a_password_in_an_address_is_not_kept_with_the_requests(tmp_path):
    given = Endpoints(base_url="http://someone:SECRETPASS@127.0.0.1:1/v1", answers=tmp_path / "a.sqlite")
    models = ChatModels(given, DraftOptions("m"), JudgeOptions(), 0, collect=True)
    assert models.base_url == "http://127.0.0.1:1/v1"
    assert models.draft_settings.base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("candidates", "judges", "chooser"),
    [(1, ("j",), None), (3, (), "cosine"), (3, ("j", "k"), "j")],
)
def test_a_run_knows_who_chooses_among_its_drafts(tmp_path, candidates, judges, chooser):
    given = Endpoints(base_url="http://127.0.0.1:1/v1", answers=tmp_path / "a.sqlite")
    models = ChatModels(given, DraftOptions("m", candidates), JudgeOptions(judges), 0, collect=True)
    assert models.draft_settings.chooser == chooser
