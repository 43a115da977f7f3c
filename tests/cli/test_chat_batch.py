"""Requests as a file, answered elsewhere in whatever order and with whatever flaws; and the endpoint's own batches."""

import json
import random

import pytest

N_DRAFTS = 24


def exported(chat, *words):
    """The lines of the requests that a command has still to ask."""
    chat.prepare()
    found = chat.call("batch", "export", "requests.jsonl", *words, "--quiet")
    assert found.code == 0, found.stderr
    lines = [json.loads(line) for line in (chat.cwd / "requests.jsonl").open(encoding="utf-8")]
    assert f"{len(lines)} requests in requests.jsonl" in found.stdout and chat.sent() == 0
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return lines


def answered(chat, line, by="somebody-else"):
    """A line of a batch's output, as OpenAI writes it."""
    body = chat.faults.completion(chat.app.plan, line["body"], "ok") | {"model": by}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": response, "error": None}


def flawed(chat, lines):
    """The answers to all but two requests in another order: one missing, one an error, and lines too many."""
    missing, broken, *others = lines
    error = {
        "status_code": 500,
        "request_id": "r",
        "body": {"error": {"message": "The server had an error."}},
    }
    found = [answered(chat, one) for one in others] + [answered(chat, broken) | {"response": error}]
    found.append(answered(chat, others[0], by="a-third"))
    found.append(answered(chat, missing) | {"custom_id": "never-went-out"})
    random.Random(1).shuffle(found)
    text = [json.dumps(one) for one in found]
    text[3:3] = ['{"custom_id": "cut', "", "[1, 2]"]
    return "\n".join(text)


def take(chat, text):
    (chat.cwd / "answers.jsonl").write_text(text, encoding="utf-8")
    return chat.call("batch", "import", "answers.jsonl", "--answers", "a.sqlite")


@pytest.mark.slow
def test_drafts_and_judgements_answered_elsewhere(chat):
    drafts(chat)
    judgements(chat)
    assert chat.sent() == 0


def drafts(chat):
    lines = exported(chat, *chat.words())
    assert len(lines) == N_DRAFTS
    first = take(chat, flawed(chat, lines))
    assert first.code == 4, first.stderr
    counts = (
        f"{N_DRAFTS - 2} answers kept; 1 were there already, 1 say that there is none, 1 are to requests that never went"
        " out from here, 2 lines are no answers."
    )
    assert counts in first.stderr and "2 questions are still to be answered" in first.stderr
    assert chat.rows("SELECT status FROM runs") == [("stopped",)]
    heads = dict(chat.rows("SELECT status, count(*) FROM heads GROUP BY 1"))
    assert heads.pop("pending") == 2 and sum(heads.values()) == 10 and "failed" not in heads

    second = take(chat, "\n".join(json.dumps(answered(chat, one)) for one in lines[:2]))
    assert second.code == 0, second.stderr
    assert chat.rows("SELECT kind, status FROM runs ORDER BY 1") == [
        ("describe", "complete"),
        ("judge", "complete"),  # by the encoder
    ]
    who = dict(chat.rows("SELECT answered_by, count(*) FROM llm_calls GROUP BY 1"))
    assert who in ({"somebody-else": N_DRAFTS}, {"somebody-else": N_DRAFTS - 1, "a-third": 1})
    assert chat.rows("SELECT count(*) FROM heads WHERE status IN ('described', 'unclear')") == [(12,)]
    repeated = take(chat, "\n".join(json.dumps(answered(chat, one)) for one in lines))
    assert repeated.code == 0 and f"0 answers kept; {N_DRAFTS} were there already" in repeated.stderr


def judgements(chat):
    words = ["--judge", "judge-1", "--base-url", chat.url, "--answers", "a.sqlite"]
    lines = exported(chat, *words)
    first = take(chat, flawed(chat, lines))
    assert first.code == 4, first.stderr
    assert chat.rows("SELECT status FROM runs WHERE run_id IN (SELECT run_id FROM ratings)") == [("stopped",)]
    second = take(chat, "\n".join(json.dumps(answered(chat, one)) for one in lines[:2]))
    assert second.code == 0, second.stderr
    assert chat.rows("SELECT status FROM runs WHERE run_id IN (SELECT run_id FROM ratings)") == [
        ("complete",)
    ]
    described = chat.rows("SELECT count(*) FROM heads WHERE status = 'described'")
    assert chat.rows("SELECT count(plausibility) FROM ratings WHERE NOT is_control") == described
    assert chat.rows("SELECT count(auc) FROM detections WHERE grader = 'judge-1'") == described


def test_nothing_is_written_where_all_is_answered(chat):
    assert chat.run().code == 0
    found = chat.call("batch", "export", "requests.jsonl", *chat.words(), "--quiet")
    assert found.code == 0 and found.stdout == "Everything is answered: nothing was written.\n"
    assert not (chat.cwd / "requests.jsonl").exists()


def test_files_that_hold_no_answer(chat):
    for text in ("", "no json\n", '{"custom_id": "x", "response": {"status_code": 200, "body": {}}}\n'):
        found = take(chat, text)
        assert found.code == 1
        assert found.stderr.splitlines()[-1].startswith("describe: No answer in answers.jsonl is of use")
    gone = chat.call("batch", "import", "gone.jsonl", "--answers", "a.sqlite")
    assert gone.code == 2 and "gone.jsonl" in gone.sentence()
    odd = chat.call("batch", "export", "r.jsonl", chat.workshop.model, "--judge", "j")
    assert odd.code == 2 and "--drafter" in odd.sentence()


@pytest.mark.slow
def test_the_batch_api_gives_what_asking_gives(chat):
    content, _ = chat.undisturbed
    chat.plan()
    found = chat.run(*chat.judges, "--batch")
    assert found.code == 0, found.stderr
    assert chat.sent() == 0 and chat.content() == content
    lines = [json.loads(line) for line in chat.log.read_text(encoding="utf-8").splitlines()]
    asked = [line["digest"] for line in lines if line["path"] == "/v1/batches" and line["digest"]]
    assert len(asked) == len(set(asked)) > 24
    n_lines = len(lines)
    assert chat.run(*chat.judges, "--batch").stdout.startswith("Nothing to do")
    assert len(chat.log.read_text(encoding="utf-8").splitlines()) == n_lines
