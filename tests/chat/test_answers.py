"""Answers are kept for good: the first one stands, also across kills, several processes and odd contents."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from chat_workshop import ROOT, request
from hypothesis import given
from hypothesis import strategies as st

from describe.chat import ChatAnswer, TokenChoice
from describe.clients.answers import AnswerStore, Exported, default_answers
from describe.errors import DescribeError

WRITER = """
import sys
from pathlib import Path
from describe.chat import ChatAnswer
from describe.clients.answers import AnswerStore

store, first = AnswerStore(Path(sys.argv[1])), 0
for number in range(int(sys.argv[2])):
    first += store.keep(f"key {number}", "http://x/v1", "m", "judge", ChatAnswer("ok", f"{sys.argv[3]} {number}"))
    print(number, first, flush=True)
"""


def writer(path, count, name):
    """A process that keeps answers and tells of each one once it is kept."""
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def keep(store, key, answer, **more):
    return store.keep(key, "http://x/v1", "m", "judge", answer, **more)


@given(
    st.text(),
    st.none() | st.integers(0, 2**62),
    st.lists(
        st.tuples(st.text(), st.lists(st.tuples(st.text(), st.floats(allow_nan=False)), max_size=3)),
        max_size=3,
    ),
)
def test_every_answer_comes_back_as_it_was(text, tokens, choices):
    logprobs = tuple(TokenChoice(token, tuple(top)) for token, top in choices)
    answer = ChatAnswer("truncated", text, "told", tokens, tokens, 0.25, 3, "cut off", logprobs)
    store = AnswerStore(None)
    assert store.find("key") is None
    assert keep(store, "key", answer, asked_at=12.5)
    found = store.find("key")
    assert (found.answer, found.asked_at) == (answer, 12.5)


def test_the_first_answer_stands(tmp_path):
    store = AnswerStore(tmp_path / "new" / "folder" / "answers.sqlite")
    assert keep(store, "key", ChatAnswer("ok", "first"))
    assert not keep(store, "key", ChatAnswer("refused", "second"))
    store.close()
    assert AnswerStore(store.path).find("key").answer.text == "first"


def test_what_was_kept_survives_a_kill(tmp_path):
    path = tmp_path / "answers.sqlite"
    with writer(path, 10**9, "a") as process:
        told = [process.stdout.readline() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines()
    numbers = [int(line.split()[0]) for line in told if len(line.split()) == 2]
    assert len(numbers) >= 300
    store = AnswerStore(path)
    assert all(store.find(f"key {number}").answer.text == f"a {number}" for number in numbers)
    assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_write_at_once(tmp_path):
    path, count = tmp_path / "answers.sqlite", 400
    processes = [writer(path, count, name) for name in "abc"]
    told = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    firsts = [int(lines[-1].split()[1]) for lines in told]
    assert sum(firsts) == count  # each answer was the first of one process
    store = AnswerStore(path)
    texts = [store.find(f"key {number}").answer.text for number in range(count)]
    assert [text.split()[1] for text in texts] == [str(number) for number in range(count)]
    assert [sum(text.startswith(name) for text in texts) for name in "abc"] == firsts


def test_a_new_file_can_be_opened_many_times_at_once(tmp_path):
    problems, start = [], threading.Barrier(8)

    def open_and_write(path, number):
        start.wait()
        try:
            store = AnswerStore(path)
            keep(store, f"key {number}", ChatAnswer("ok", "x"))
            store.close()
        except DescribeError as error:
            problems.append(str(error))

    for turn in range(20):
        path = tmp_path / f"{turn}.sqlite"
        threads = [threading.Thread(target=open_and_write, args=(path, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database at all" * 200)
    with pytest.raises(DescribeError, match=f"{path} cannot be used .* move the file away"):
        AnswerStore(path)
    assert path.read_bytes().startswith(b"this is no database")


def test_a_file_damaged_later_is_one_sentence(tmp_path):
    path = tmp_path / "answers.sqlite"
    store = AnswerStore(path)
    for number in range(200):
        keep(store, f"key {number}", ChatAnswer("ok", "x" * 500))
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(DescribeError, match="cannot be used"):
        damaged = AnswerStore(path)
        for number in range(200):
            damaged.find(f"key {number}")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "answers.sqlite", tmp_path):
        with pytest.raises(DescribeError, match="cannot be used"):
            AnswerStore(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_leave_to_write_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DescribeError, match="cannot be used"):
        AnswerStore(tmp_path / "answers.sqlite")


def test_what_went_out_in_a_file_is_remembered(tmp_path):
    store = AnswerStore(tmp_path / "answers.sqlite")
    sent = {"one": request("1"), "two": request("2", purpose="draft")}
    store.note_export(sent, "http://x/v1", ["describe", "run", "--head", "1 2"])
    store.note_export({"two": request("2", purpose="draft")}, "http://x/v1", ())
    store = AnswerStore(store.path)
    command = ("describe", "run", "--head", "1 2")
    assert store.exported("one") == Exported("http://x/v1", "fault-model", "judge", command)
    assert store.exported("two") == Exported("http://x/v1", "fault-model", "draft", command)  # a file's stays
    assert store.exported("three") is None


def test_a_batch_under_way_is_remembered_until_it_is_forgotten(tmp_path):
    store = AnswerStore(tmp_path / "answers.sqlite")
    assert store.batch_of("content") is None
    store.note_batch("content", "batch-1")
    store.note_batch("content", "batch-2")
    store.note_batch("other", "batch-3")
    store = AnswerStore(store.path)
    assert (store.batch_of("content"), store.batch_of("other")) == ("batch-2", "batch-3")
    store.note_batch("content", None)
    assert (store.batch_of("content"), store.batch_of("other")) == (None, "batch-3")


def test_answers_are_kept_in_the_users_cache():
    assert default_answers().name == "answers.sqlite"
