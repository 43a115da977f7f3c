"""--budget: never passed, whatever is under way at a time; the next try goes on from what was paid for."""

import json
from collections import Counter

import pytest

PRICES = {name: {"input": 10, "output": 20} for name in ("drafter-1", "judge-1", "judge-2")}
JUDGING = "SELECT status FROM runs WHERE kind = 'judge' AND run_id IN (SELECT run_id FROM ratings)"
SPENT = "SELECT sum(cost_usd) FILTER (NOT from_cache), count(*) FROM llm_calls"


@pytest.fixture
def priced(chat):
    """Every model costs the same, and a good deal."""
    (chat.cwd / "prices.json").write_text(json.dumps(PRICES))
    return chat


def nothing_twice(chat):
    return set(Counter(one["digest"] for one in chat.chats()).values()) == {1}


@pytest.mark.parametrize(
    "budget", [0.15, 0.3]
)  # the first ends among the heads, the second among the controls
def test_the_drafter_stops_before_the_budget_and_goes_on_with_a_higher_one(priced, budget):
    words = [*priced.judges, "--prices", "prices.json"]
    priced.plan(latency=0.02)
    found = priced.run(*words, "--budget", str(budget))
    assert found.code == 4, found.stderr
    assert "still to be answered" in found.stderr and "--budget" in found.stderr
    assert priced.rows("SELECT kind, status FROM runs") == [("describe", "stopped")]
    spent, n_calls = priced.rows(SPENT)[0]
    assert 0 < spent <= budget and 0 < n_calls == priced.sent() < 24
    heads = dict(priced.rows("SELECT status, count(*) FROM heads GROUP BY 1"))
    assert (heads.get("pending", 0) > 0) == (budget < 0.2)
    assert sum(heads.values()) == 12 and "failed" not in heads

    begun, sent_before = spent, priced.sent()
    found = priced.run(*words, "--budget", "100")
    assert found.code == 0, found.stderr
    assert priced.rows("SELECT kind, status FROM runs ORDER BY 1") == [
        ("describe", "complete"),
        ("judge", "complete"),
    ]
    assert nothing_twice(priced)
    kept = priced.rows(
        "SELECT sum(cost_usd), count(*) FROM llm_calls WHERE from_cache AND purpose = 'draft'"
    )[0]
    assert kept[0] == pytest.approx(begun) and kept[1] == sent_before


def test_a_budget_of_nothing_asks_nothing(priced):
    found = priced.run("--prices", "prices.json", "--budget", "0")
    assert found.code == 4, found.stderr
    assert priced.sent() == 0
    assert priced.rows("SELECT status FROM runs") == [("stopped",)]
    assert priced.rows("SELECT DISTINCT reply_status FROM descriptions") == [("budget",)]


def test_the_judges_stop_before_the_budget_and_go_on_with_a_higher_one(priced):
    assert priced.run("--prices", "prices.json").code == 0
    n_drafts, first = priced.sent(), priced.rows(SPENT)[0][0]
    assert first > 0
    words = [
        "--judge",
        "judge-1",
        "--base-url",
        priced.url,
        "--answers",
        "a.sqlite",
        "--prices",
        "prices.json",
    ]
    found = priced.call("judge", *words, "--budget", "0.3", "--quiet")
    assert found.code == 4, found.stderr
    assert priced.rows(JUDGING) == [("stopped",)]
    spent = priced.rows("SELECT sum(cost_usd) FROM llm_calls WHERE purpose <> 'draft'")[0][0]
    assert 0 < spent <= 0.3 and priced.sent() > n_drafts
    assert priced.rows("SELECT count(*) FROM ratings WHERE status IN ('budget', 'pending')") == [(0,)]
    found = priced.call("judge", *words, "--budget", "100", "--quiet", "--json")
    assert found.code == 0, found.stderr
    assert priced.rows(JUDGING) == [("complete",)]
    (report,) = json.loads(found.stdout)
    assert report["fresh"] and report["unasked"] == 0
    assert nothing_twice(priced)


def test_drafter_and_judges_share_one_budget(priced):
    assert priced.run("--prices", "prices.json").code == 0
    total = priced.rows(SPENT)[0][0]
    again = priced.cwd / "again"
    again.mkdir()
    budget = total + 0.25
    prices = str(priced.cwd / "prices.json")
    words = [*priced.judges, "--prices", prices, "--budget", f"{budget:.4f}"]
    found = priced.run(*words, "--concurrency", "4", cwd=again)
    assert found.code == 4, found.stderr
    assert priced.rows("SELECT kind, status FROM runs ORDER BY 1", again) == [
        ("describe", "complete"),
        ("judge", "stopped"),
    ]
    assert total < priced.rows(SPENT, again)[0][0] <= budget


def test_a_batch_that_might_cost_more_is_not_sent(priced):
    found = priced.run("--prices", "prices.json", "--budget", "0.01", "--batch")
    assert found.code == 4, found.stderr
    assert "nothing was sent" in found.sentence()
    assert "/v1/files" not in priced.log.read_text() and priced.sent() == 0
    assert not (priced.cwd / "heads.duckdb").exists()
