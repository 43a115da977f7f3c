"""Endpoints that fail: what passes leaves no trace, what stays is a status of its own, what is dead ends the run."""

import json
import time
from collections import Counter

import pytest
from jobs_workshop import left_behind

PASSING = ("rate_limit", "server_error", "drop", "reset", "malformed_json", "bad_gateway_html")
NO_PROJECTION = "import describe.jobs.projecting as p; p.Projector.layers = None\n"
PATTERN = {"direction": "promotes", "depends_on_source": True, "inputs": "any token", "exceptions": []}
PATTERN |= {"operation": "writes names of cities", "rows": [1, 2, 3]}
FRENCH = "écrit des mots que les gens utilisent quand ils parlent de leurs maisons"


def draft(verdict="pattern", **changes):
    return json.dumps({"reasoning": "", "verdict": verdict, "patterns": [PATTERN | changes]})


SPOILED = {
    "bad_rows": draft(rows=[1, 2, 999]),
    "too_few_rows": draft(rows=[1, 1, 1]),
    "french": draft(operation=FRENCH),
    "perhaps": draft("perhaps"),
}
FATES = (  # what the server does with the heads, in order, and what becomes of them
    ("refusal", "refused"),
    ("truncated", "truncated"),
    ("huge", "oversized"),
    ("null_content", "empty"),
    ("html", "not_json"),
    ("malformed_content", "unparsed"),
    ("bad_rows", "bad_rows"),
    ("too_few_rows", "bad_rows"),
    ("french", "wrong_language"),
    ("perhaps", "unoffered"),
    ("bad_request", "rejected"),
    ("duplicate", "ok"),
)
MAY_PASS = ("empty", "not_json", "rejected")


@pytest.mark.slow
def test_what_passes_leaves_the_same_catalogue(chat):
    """Nearly a third of the requests fails once or twice, in every way that may pass."""
    content, n_requests = chat.undisturbed
    chat.plan(faults=dict.fromkeys(PASSING, 0.05) | {"hang": 0.01}, fail_first=2, seed=3)
    found = chat.run(*chat.judges, "--timeout", "2")
    assert found.code == 0, found.stderr
    assert chat.content() == content
    outcomes = Counter(one["outcome"] for one in chat.chats())
    assert outcomes["ok"] == n_requests and set(PASSING) < set(outcomes)
    assert outcomes.total() > 1.3 * n_requests
    attempts = chat.rows("SELECT max(attempts), count(*) FILTER (attempts > 1) FROM llm_calls")[0]
    assert attempts[0] == 3 and attempts[1] > 0.1 * n_requests


def give_fates(chat):
    """Each head, and each head made of shuffled rows, has the fate of its place, also when it is asked again."""
    chat.prepare()
    words = [word for word in chat.words() if word is not chat.workshop.model]
    exported = chat.call("batch", "export", "requests.jsonl", chat.workshop.model, *words, "--quiet")
    assert exported.code == 0, exported.stderr
    bodies = [json.loads(line)["body"] for line in (chat.cwd / "requests.jsonl").open(encoding="utf-8")]
    assert len(bodies) == 2 * len(FATES) and chat.sent() == 0
    fates = {body["messages"][1]["content"]: FATES[at % 12][0] for at, body in enumerate(bodies)}
    assert len(fates) == len(bodies)
    chat.faults.drawn = lambda plan, body: fates[body["messages"][1]["content"]]
    chat.faults.SPOILED.update(SPOILED)


def statuses(chat):
    return [
        status
        for (status,) in chat.rows(
            "SELECT reply_status FROM descriptions WHERE cluster IS NULL ORDER BY layer, head"
        )
    ]


@pytest.mark.slow
def test_what_stays_is_a_status_and_only_what_may_pass_is_asked_again(chat):
    give_fates(chat)
    found = chat.run()
    assert found.code == 3, found.stderr
    assert statuses(chat) == [status for _, status in FATES]
    heads = chat.dicts("FROM heads ORDER BY layer, head")
    for (_, status), head in zip(FATES, heads, strict=True):
        assert head["status"] == ("described" if status == "ok" else "failed")
        assert head["error"] is None if status == "ok" else head["error"].startswith(f"{status}: ")
    names = [f"L{one['layer']}H{one['head']}" for one in heads if one["status"] == "failed"]
    assert found.stderr == f"describe: 11 heads failed: {', '.join(names)}.\n"
    described = chat.dicts("FROM descriptions WHERE cluster IS NULL AND reply_status <> 'ok'")
    assert {one["claim_text"] for one in described} == {None}
    assert chat.rows("SELECT max(length(reply)) < 5000 FROM descriptions") == [(True,)]

    chat.faults.drawn, n_sent = chat.drawn, chat.sent()
    again = chat.run(hook=NO_PROJECTION)
    assert again.code == 3, again.stderr
    assert chat.sent() - n_sent == 2 * len(MAY_PASS)  # of heads, and of those made of shuffled rows
    assert statuses(chat) == ["ok" if status in MAY_PASS else status for _, status in FATES]
    assert chat.rows("SELECT count(*), count(DISTINCT (layer, head)) FROM heads") == [(12, 12)]

    n_sent = chat.sent()
    assert chat.run(hook=NO_PROJECTION).code == 3
    assert chat.sent() == n_sent


@pytest.mark.slow
def test_a_dead_endpoint_ends_the_run_and_the_next_goes_on(chat):
    chat.stop()
    found = chat.run()
    assert found.code == 1
    assert chat.url in found.sentence() and "does not answer" in found.sentence()
    assert found.stdout == "" and not (chat.cwd / "heads.duckdb").exists()
    assert list(chat.cwd.glob("heads.duckdb.runs/*/verdict"))
    chat.plan()
    again = chat.run(hook=NO_PROJECTION)
    assert again.code == 0, again.stderr
    assert chat.rows("SELECT count(*) FROM heads") == [(12,)]
    assert "heads.duckdb.runs" not in left_behind(chat.cwd)


@pytest.mark.slow
def test_an_endpoint_that_dies_while_judging_leaves_the_descriptions(chat):
    assert chat.run().code == 0
    before = chat.rows("FROM runs")
    chat.stop()
    found = chat.run("--judge", "judge-1")
    assert found.code == 1 and "does not answer" in found.sentence()
    assert chat.rows("FROM runs") == before
    chat.plan()
    again = chat.run("--judge", "judge-1")
    assert again.code == 0, again.stderr
    assert chat.rows("SELECT status FROM runs") == [("complete",)] * 3  # the encoder's own judging first


@pytest.mark.slow
def test_an_endpoint_that_hangs_is_not_waited_for(chat):
    chat.plan(faults={"hang": 1.0}, fail_first=1000)
    begin = time.monotonic()
    found = chat.run("--timeout", "0.5")
    assert time.monotonic() - begin < 60
    assert found.code == 1 and "no answer within 0.5 s" in found.sentence()
    assert not (chat.cwd / "heads.duckdb").exists()


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("unauthorized", 2, "refuses the key"),
        ("unknown_model", 2, "drafter-1"),
        ("quota", 1, "quota"),
    ],
)
def test_what_the_user_must_act_on_stops_at_once(chat, kind, code, says):
    chat.faults.HTTP_FAULTS["quota"] = (429, "insufficient_quota", "insufficient_quota: you have no credit.")
    chat.faults.drawn = lambda plan, body: kind
    found = chat.run()
    assert found.code == code
    assert says in found.sentence() and chat.sent() <= 32
    assert found.stdout == "" and not (chat.cwd / "heads.duckdb").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--drafter", "d", "--base-url", "nonsense"], "nonsense"),
        (["--drafter", "d", "--base-url", "ftp://127.0.0.1/v1"], "ftp"),
        (["--judge", "j", "--base-url", "http://"], "http://"),
        (
            [
                "--drafter",
                "d",
                "--judge",
                "j",
                "--base-url",
                "http://127.0.0.1:9/v1",
                "--judge-base-url",
                "x",
            ],
            "x",
        ),
        (["--drafter", "d"], "OPENAI_API_KEY"),
        (["--drafter", "d", "--base-url", "http://127.0.0.1:9/v1", "--prices", "none.json"], "none.json"),
        (["--drafter", "d", "--base-url", "http://127.0.0.1:9/v1", "--prices", "bad.json"], "bad.json"),
        (["--drafter", "d", "--base-url", "http://127.0.0.1:9/v1", "--budget", "1"], "price of 'd'"),
        (["--judge", "j", "--base-url", "http://127.0.0.1:9/v1", "--budget", "1"], "price of 'j'"),
        (["--budget", "1"], "--budget"),
        (["--batch"], "--batch"),
        (["--offline"], "--offline"),
        (["--hint"], "--hint"),
        (["--candidates", "3"], "--candidates"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_work(chat, words, says):
    (chat.cwd / "bad.json").write_text('{"d": {"input": -1, "output": 1}}')
    hook = "import describe.cli.common as c; c.open_model = None"
    if "--answers" not in words:
        words = [*words, "--answers", "a.sqlite"]
    found = chat.call("run", chat.workshop.model, *words, hook=hook)
    assert found.code == 2, found.stderr
    assert says in found.sentence() and found.stdout == ""
    assert not (chat.cwd / "heads.duckdb").exists()


def test_answers_that_cannot_be_kept_are_said_at_once(chat):
    (chat.cwd / "folder").mkdir()
    (chat.cwd / "damaged").write_bytes(b"no database" * 1000)
    for name in ("folder", "damaged"):
        found = chat.run("--answers", name)
        assert found.code == 1 and name in found.sentence()
    assert chat.sent() == 0
