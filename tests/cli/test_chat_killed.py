"""kill -9 while chat models are asked: no answer is lost, none is asked for twice, and the end is the same."""

import random
import time
from collections import Counter

import pytest
from jobs_workshop import left_behind

KILLS = 20
MOST_RUNS = 8
IN_FLIGHT = 2  # requests at a time


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_of_drafting_and_judging(chat, tmp_path, capsys):
    """A run is killed again and again, each time after a few more requests, until it ends; then another begins."""
    content, n_requests = chat.undisturbed
    chance = random.Random(7)
    kills, runs, hit = 0, 0, Counter()
    while kills < KILLS:
        assert runs < MOST_RUNS, f"{kills} kills met a run at work"
        chat.cwd = tmp_path / f"run{runs}"
        chat.cwd.mkdir()
        chat.prepare()
        chat.plan(latency=0.05)
        runs += 1
        under_way = set()
        while True:
            child = chat.start("run", *chat.words(), *chat.judges, "--concurrency", str(IN_FLIGHT), "--quiet")
            few = 7 if not (chat.cwd / "heads.duckdb").exists() else n_requests // 4
            wanted = chat.sent() + chance.randrange(1, few)
            while child.running() and chat.sent() < wanted:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            if kills == KILLS or not child.running():
                ended = child.wait()
            else:
                ended = child.kill()
            if ended.code != -9:
                break
            kills += 1
            under_way |= {one["digest"] for one in chat.chats()[-IN_FLIGHT - 1 :]}
            hit["judge" if (chat.cwd / "heads.duckdb").exists() else "draft"] += 1
        assert ended.code == 0, ended.stderr
        assert chat.content() == content
        assert [name for name in left_behind(chat.cwd) if not name.startswith("a.sqlite")] == []
        # A kill may cut a request short: a body that is no JSON was never a question.
        asked = Counter(one["digest"] for one in chat.chats() if one["outcome"] == "ok")
        again = {digest for digest, count in asked.items() if count > 1}
        assert len(asked) == n_requests and again <= under_way
        n_sent = chat.sent()
        assert chat.run(*chat.judges).stdout.startswith("Nothing to do")
        assert chat.sent() == n_sent
    assert set(hit) == {"draft", "judge"}
    with capsys.disabled():
        print(f"\n{kills} kills over {runs} runs: {dict(hit)}")  # noqa: T201
