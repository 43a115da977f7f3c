"""A small language model behind a real server: the protocol holds, whatever it writes; its wording is never tested."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

STATUSES = {"ok", "unparsed", "bad_rows", "unoffered", "wrong_language", "truncated", "oversized", "empty"}
# A whole prompt of 3,100 tokens and a reply of 1,200 take this model three minutes on one thread.
SMALL = """
import describe.drafting.llm as llm
usual = llm.DraftSettings
llm.DraftSettings = lambda **given: usual(**given, rows=6, max_tokens=120)
"""
HEADS = "L1H0,L2H2"


@pytest.fixture(scope="module")
def server(smollm2_path):
    pytest.importorskip("xllamacpp")
    path = Path(__file__).parents[1] / "chat" / "servers.py"
    spec = importlib.util.spec_from_file_location("cli_chat_servers", path)
    servers = sys.modules["cli_chat_servers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    with servers.llm_server(smollm2_path) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_model_drafts_and_judges(server, workshop, tmp_path):
    env = {"OPENAI_API_KEY": None}
    asking = [
        "--base-url",
        server.base_url,
        "--answers",
        "a.sqlite",
        "--concurrency",
        "1",
        "--timeout",
        "300",
    ]
    words = ["run", workshop.model, "--heads", HEADS, "--drafter", "local", "--controls", "0", *asking]
    found = workshop.call(*words, "--quiet", "--json", cwd=tmp_path, env=env, hook=SMALL)
    assert found.code in (0, 3), found.stderr
    report = json.loads(found.stdout)
    assert report["described"] + report["unclear"] + report["failed"] == 2
    rows_of = sys.modules["jobs_workshop"].rows_of
    catalogue = tmp_path / "heads.duckdb"
    drafts = rows_of(catalogue, "SELECT reply_status, reply FROM descriptions WHERE cluster IS NULL")
    assert len(drafts) == 2 and {status for status, _ in drafts} <= STATUSES
    assert all(reply for status, reply in drafts if status != "empty")
    usage = (
        "SELECT min(input_tokens), min(output_tokens), min(seconds), count(*) FROM llm_calls WHERE purpose = "
    )
    tokens_in, tokens_out, seconds, n_calls = rows_of(catalogue, f"{usage}'draft'")[0]
    assert tokens_in > 500 and tokens_out > 0 and seconds > 0 and 2 <= n_calls <= 4

    again = workshop.call(*words, "--quiet", "--json", cwd=tmp_path, env=env, hook=SMALL)
    assert again.code == found.code
    calls = json.loads(again.stdout)["calls"]
    assert [one["kept_from_before"] for one in calls if one["purpose"] == "draft"] in ([n_calls], [0])
    assert rows_of(catalogue, "SELECT reply_status, reply FROM descriptions WHERE cluster IS NULL") == drafts


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_model_judges_row_by_row(server, workshop, undisturbed, tmp_path):
    """The descriptions of the rules: two are rated and a few rows asked about with log-probabilities."""
    env = {"OPENAI_API_KEY": None}
    asking = [
        "--base-url",
        server.base_url,
        "--answers",
        "a.sqlite",
        "--concurrency",
        "1",
        "--timeout",
        "300",
    ]
    described = workshop.call("run", workshop.model, "--heads", HEADS, "--quiet", cwd=tmp_path)
    assert described.code == 0, described.stderr
    hook = "import eval.judging.foils as f; f.TrialSettings.__init__.__defaults__ = (3, 5, 0)\n"
    words = [
        "judge",
        "--judge",
        "local",
        "--one-by-one",
        "--no-anchors",
        "--controls",
        "0",
        *asking,
        "--quiet",
    ]
    found = workshop.call(*words, "--json", cwd=tmp_path, env=env, hook=hook)
    assert found.code in (0, 3), found.stderr  # 3: a reply of so small a model may be of no use
    rows_of = sys.modules["jobs_workshop"].rows_of
    catalogue = tmp_path / "heads.duckdb"
    ratings = rows_of(catalogue, "SELECT status, plausibility FROM ratings")
    assert ratings and {status for status, _ in ratings} <= STATUSES | {"rated"}
    assert all((value in (1, 2, 3, 4, 5)) == (status == "rated") for status, value in ratings)
    items = rows_of(catalogue, "SELECT status, auc, items FROM detections WHERE grader = 'local'")
    assert items and {status for status, _, _ in items} <= STATUSES
    for status, area, shown in items:
        likelihoods = [entry[4] for entry in json.loads(shown)]
        assert (area is not None) == (status == "ok")
        assert status != "ok" or any(0 < value < 1 for value in likelihoods)
    assert rows_of(catalogue, "SELECT min(input_tokens) > 0, min(output_tokens) > 0 FROM llm_calls") == [
        (True, True)
    ]
    again = workshop.call(*words, "--json", cwd=tmp_path, env=env, hook=hook)
    assert again.code == found.code and not json.loads(again.stdout)[0]["fresh"], again.stderr
