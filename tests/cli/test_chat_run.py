"""`describe run` and `describe judge` with chat models: what a whole run stores, and that it asks nothing twice."""

import json
from collections import Counter

import pytest

JUDGES = ("--judge", "judge-1", "--judge", "judge-2")
N_HEADS = 12


@pytest.fixture
def whole(chat):
    """A run with a drafter and two judges that nothing disturbs."""
    found = chat.run(*JUDGES, "--json")
    assert found.code == 0, found.stderr
    return json.loads(found.stdout)


def test_a_whole_run_stores_what_was_asked_and_said(chat, whole):
    report = whole
    assert report["fresh"] and report["failed_heads"] == report["pending_heads"] == []
    assert report["described"] + report["unclear"] == N_HEADS and report["described"] > 5
    runs = chat.dicts("SELECT kind, status, drafter, null_checks FROM runs ORDER BY kind")
    assert [(run["kind"], run["status"], run["drafter"]) for run in runs] == [
        ("describe", "complete", "drafter-1"),
        ("judge", "complete", "drafter-1"),
    ]
    nulls = json.loads(runs[0]["null_checks"])
    assert nulls["shuffled_rows"]["heads"] + nulls["foreign_targets"]["heads"] == N_HEADS
    assert nulls["foreign_targets"]["heads"] == N_HEADS // 2
    described_ones = descriptions_hold_drafting_rows_only(chat)
    assert len(described_ones) == report["described"]
    ratings_have_controls(chat, described_ones)
    detections_are_by_encoder_and_judges(chat, described_ones)
    calls_are_accounted_for(chat)
    assert [path.name for path in chat.cwd.glob("heads.duckdb.runs*")] == []


def descriptions_hold_drafting_rows_only(chat):
    found = chat.dicts("FROM descriptions WHERE cluster IS NULL ORDER BY layer, head")
    assert len(found) == N_HEADS
    drafting = set(
        chat.rows("SELECT DISTINCT layer, head, direction, source_rank FROM mappings WHERE split = 'draft'")
    )
    assert 0 < len(drafting) < N_HEADS * 2 * 60
    for one in found:
        assert one["drafter"] == "drafter-1" and len(one["prompt_digest"]) == 64
        assert one["reply_status"] == "ok" and json.loads(one["reply"])["verdict"] in ("pattern", "unclear")
        for entry in json.loads(one["evidence"]):
            assert entry["rows"] and f"{one['claim_text']}." == one["pattern_text"]
            places = [*entry["rows"], *entry["exceptions"]]
            assert {(one["layer"], one["head"], entry["direction"], place) for place in places} <= drafting
    kept = chat.rows("SELECT layer, head, claim_text, status FROM candidates WHERE kept ORDER BY 1, 2")
    assert kept == [(one["layer"], one["head"], one["claim_text"], one["status"]) for one in found]
    return {one["description_id"] for one in found if one["status"] == "described"}


def ratings_have_controls(chat, described):
    found = chat.dicts("FROM ratings ORDER BY rater, rating_id")
    for judge in ("judge-1", "judge-2"):
        own = [one for one in found if one["rater"] == judge and not one["is_control"]]
        assert {one["description_id"] for one in own} == described and len(own) == len(described)
        controls = [one for one in found if one["rater"] == judge and one["is_control"]]
        assert len(controls) == round(0.2 * len(described))
        for one in controls:
            assert one["control"] == "another head's description"
    assert {one["status"] for one in found} == {"rated"} and {one["rater_kind"] for one in found} == {"llm"}
    heldout = set(
        chat.rows("SELECT DISTINCT layer, head, direction, source_id FROM mappings WHERE split = 'heldout'")
    )
    for one in found:
        assert 1 <= one["plausibility"] <= 5
        shown = {(one["layer"], one["head"], *row) for row in json.loads(one["shown_rows"])}
        assert len(shown) == one["n_rows"] and shown <= heldout
    anchors = chat.rows(
        "SELECT judge, count(*), count(plausibility) FROM anchor_ratings GROUP BY 1 ORDER BY 1"
    )
    assert [judge for judge, _, _ in anchors] == ["judge-1", "judge-2"]
    assert all(count == rated > 10 for _, count, rated in anchors)
    assert len(chat.rows("FROM judge_drift")) == 2
    assert chat.rows("SELECT n FROM judge_agreement") == [(len(described),)]


def detections_are_by_encoder_and_judges(chat, described):
    found = chat.dicts("FROM detections ORDER BY grader, description_id")
    by_grader = Counter(one["grader"] for one in found)
    assert len(by_grader) == 3 and {"judge-1", "judge-2"} < set(by_grader)
    for one in found:
        assert one["description_id"] in described
        assert one["status"] == "ok" and 0 <= one["auc"] <= 1, one["status"]
        assert one["ci_low"] <= one["auc"] <= one["ci_high"] and one["n"] == one["n_rows"] + one["n_foils"]
        assert one["null_description_id"] != one["description_id"]


def calls_are_accounted_for(chat):
    calls = chat.dicts("FROM llm_calls")
    assert len({one["call_id"] for one in calls}) == len(calls)
    assert {one["status"] for one in calls} == {"ok"} and {one["base_url"] for one in calls} == {chat.url}
    assert all(one["input_tokens"] > 0 and one["output_tokens"] > 0 for one in calls)
    sent = [one for one in calls if not one["from_cache"]]
    assert len(sent) == chat.sent() and len({one["request_digest"] for one in calls}) == len(sent)
    assert {one["answered_by"] for one in calls} == {"drafter-1", "judge-1", "judge-2"}
    assert Counter(one["purpose"] for one in calls)["draft"] == 2 * N_HEADS


def test_the_same_command_again_sends_nothing_and_says_so(chat, whole):
    n_sent, before = chat.sent(), chat.rows("FROM llm_calls ORDER BY call_id")
    again = chat.run(*JUDGES)
    assert again.code == 0, again.stderr
    assert again.stdout.startswith(f"Nothing to do: run {whole['run_id']} of tiny")
    assert chat.sent() == n_sent and chat.rows("FROM llm_calls ORDER BY call_id") == before
    judged = chat.call("judge", *JUDGES, "--base-url", chat.url, "--answers", "a.sqlite", "--quiet", "--json")
    assert judged.code == 0, judged.stderr
    assert [one["fresh"] for one in json.loads(judged.stdout)] == [False] and chat.sent() == n_sent
    with_a_third = chat.run(*JUDGES, "--judge", "judge-3")  # only the anchors are put to the others again
    assert with_a_third.code == 0, with_a_third.stderr
    anchors = chat.rows("SELECT count(*) / 2 FROM anchor_ratings WHERE judge = 'judge-1'")[0][0]
    asked = Counter(one["schema"] for one in chat.chats()[n_sent:])
    assert set(asked) == {"judge", "detect"} and asked["judge"] < n_sent
    assert len(chat.chats()) - n_sent < n_sent + 2 * anchors


def test_show_and_sql_tell_what_the_chat_model_wrote(chat, whole):
    (head, text) = chat.rows(
        "SELECT head_id, description FROM head_catalogue WHERE status = 'described' ORDER BY 1 LIMIT 1"
    )[0]
    shown = chat.call("show", "tiny", head)
    assert shown.code == 0, shown.stderr
    assert text[:40] in " ".join(shown.stdout.split())
    asked = chat.call("sql", "SELECT drafter, count(*) AS n FROM head_catalogue GROUP BY 1")
    assert asked.code == 0 and "drafter-1" in asked.stdout and "12" in asked.stdout


def test_a_dry_run_sends_nothing_and_counts_what_a_run_sends(chat):
    plan = chat.run(*JUDGES, "--dry-run", "--json")
    assert plan.code == 0, plan.stderr
    assert chat.sent() == 0 and not (chat.cwd / "heads.duckdb").exists()
    by_model = json.loads(plan.stdout)["by_model"]
    assert [(one["chat_model"], one["purpose"]) for one in by_model] == [
        ("drafter-1", "draft"),
        *[(judge, purpose) for judge in ("judge-1", "judge-2") for purpose in ("detect", "judge")],
    ]
    forecast = Counter()
    for one in by_model:
        forecast[one["chat_model"]] += one["calls"]
    assert json.loads(plan.stdout)["cost_usd"] is None  # nobody knows what these models cost
    assert chat.run(*JUDGES).code == 0
    sent = dict(chat.rows("SELECT chat_model, count(*) FROM llm_calls WHERE NOT from_cache GROUP BY 1"))
    assert forecast["drafter-1"] == sent["drafter-1"] == 2 * N_HEADS
    assert forecast["judge-1"] >= sent["judge-1"]  # as if every head were described
    in_words = chat.run(*JUDGES, "--dry-run")
    assert in_words.stdout.startswith("Nothing to do")


def test_a_dry_run_in_words_with_prices(chat):
    (chat.cwd / "p.json").write_text('{"drafter-1": {"input": 10, "output": 20}}')
    plan = chat.run("--dry-run", "--prices", "p.json")
    assert plan.code == 0, plan.stderr
    assert "still ask:" in plan.stdout and "drafter-1 to draft: 24 calls, about " in plan.stdout
    assert "at most $" in plan.stdout and "$0.00" not in plan.stdout
    assert chat.sent() == 0


def test_one_by_one_asks_yes_or_no_with_log_probabilities(chat):
    assert chat.run().code == 0
    n_sent = chat.sent()
    words = ["--base-url", chat.url, "--answers", "a.sqlite", "--quiet", "--no-anchors", "--controls", "0"]
    judged = chat.call("judge", "--judge", "judge-1", "--one-by-one", *words)
    assert judged.code == 0, judged.stderr
    found = chat.dicts("FROM detections WHERE grader = 'judge-1'")
    assert found and {one["method"] for one in found} == {"one"}
    assert {one["status"] for one in found} == {"ok"}
    likelihoods = {entry[4] for one in found for entry in json.loads(one["items"])}
    assert all(0 < value < 1 for value in likelihoods) and len(likelihoods) > 1
    assert chat.rows("SELECT count(*) FROM anchor_ratings") == [(0,)]
    assert chat.rows("SELECT count(*) FROM ratings WHERE is_control") == [(0,)]
    assert len({one["digest"] for one in chat.chats()[n_sent:]}) == chat.sent() - n_sent


@pytest.mark.slow
def test_candidates_are_chosen_by_validation_rows(chat):
    words = ["--heads", "L1H0,L1H1", "--candidates", "3", "--controls", "0"]
    for n, judge in enumerate([(), JUDGES[:2]]):
        folder = chat.cwd / str(n)
        folder.mkdir()
        found = chat.call("run", *chat.words(), "--quiet", *words, *judge, cwd=folder)
        assert found.code == 0, found.stderr
        rows = chat.dicts("FROM candidates ORDER BY layer, head, candidate", folder)
        assert [(one["head"], one["candidate"]) for one in rows] == [(h, c) for h in (0, 1) for c in range(3)]
        for head in (0, 1):
            own = [one for one in rows if one["head"] == head]
            assert sum(one["kept"] for one in own) == 1
            (kept,) = [one for one in own if one["kept"]]
            figures = [one["validation_auc"] for one in own if one["validation_auc"] is not None]
            if figures:
                assert kept["validation_auc"] == max(figures)
                assert (kept["validation_grader"] == "judge-1") == bool(judge)
        assert any(one["validation_auc"] is not None for one in rows)
