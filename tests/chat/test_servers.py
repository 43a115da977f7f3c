"""The servers that other tests of the chat client lean on do what they are said to do."""

import http.client
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import chat_fault_server as faults
import chat_servers as servers
import openai
import pytest

pytest.importorskip("uvicorn", reason="the fault server runs on uvicorn")


PLAN = {
    "reply": {"verdict": {"answer": "Yes"}, "number": {"value": 3}, "*": "plain text"},
    "faults": {kind: 1 / len(faults.KINDS) for kind in faults.KINDS},
    "seed": 4,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": {"type": "object"}}}
CHAT = "/v1/chat/completions"


def body_that_draws(kind, plan=PLAN, start=0, **more):
    """A request that the plan answers with this kind of fault."""
    more = {"response_format": SCHEMA} | more
    for number in range(start, start + 5000):
        messages = [{"role": "user", "content": f"Question {number}: is it so?"}]
        body = {"model": "some-model", "messages": messages} | more
        if faults.drawn(plan, body) == kind:
            return body
    raise AssertionError(f"no request draws {kind}")


def posted(server, body, timeout=20, path=CHAT, headers=None):
    """Status, headers and content of one POST."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        given = {"Content-Type": "application/json"} | (headers or {})
        connection.request("POST", path, json.dumps(body), given)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def choice_of(server, body):
    status, _, content = posted(server, body)
    assert status == 200
    return json.loads(content)["choices"][0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.fault_server(tmp_path_factory.mktemp("faults"), PLAN) as running:
        yield running


def client_of(server, **more):
    return openai.OpenAI(base_url=server.base_url, api_key="sk-secret", max_retries=0, **more)


def test_a_sound_answer_has_all_its_parts(serve):
    running = serve(reply={"verdict": {"answer": "Yes"}, "*": "plain text"})
    messages = [{"role": "system", "content": "s" * 30}, {"role": "user", "content": "u" * 11}]
    answer = client_of(running).chat.completions.create(model="m", messages=messages, response_format=SCHEMA)
    assert answer.model == "m" and answer.choices[0].finish_reason == "stop" and answer.created > 1e9
    assert json.loads(answer.choices[0].message.content) == {"answer": "Yes"}
    said = len(answer.choices[0].message.content) // 4
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, said, 10 + said)
    assert [model.id for model in client_of(running).models.list()] == ["fault-model"]


@pytest.mark.parametrize(
    ("system", "schema", "content"),
    [
        ("Be brief.", None, "plain text"),
        ("SCHEMA: number\nBe brief.", None, '{"value": 3}'),
        ("SCHEMA: number", SCHEMA, '{"answer": "Yes"}'),  # the response format has the say
        ("SCHEMA: unheard-of", None, "plain text"),
    ],
)
def test_the_content_goes_by_the_name_of_the_schema(serve, system, schema, content):
    running = serve(reply=PLAN["reply"])
    body = {"model": "m", "messages": [{"role": "system", "content": system}]}
    assert (
        choice_of(running, body | ({"response_format": schema} if schema else {}))["message"]["content"]
        == content
    )


@pytest.mark.parametrize("reply", ["just text", {"a": [1, "é"]}, [1, 2]])
def test_one_reply_can_do_for_everything(serve, reply):
    content = choice_of(serve(reply=reply), body_that_draws("ok", {}))["message"]["content"]
    assert (content if isinstance(reply, str) else json.loads(content)) == reply


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("rate_limit", 429, "rate_limit_exceeded"),
        ("rate_limit_after", 429, "rate_limit_exceeded"),
        ("server_error", 500, "server_error"),
        ("unauthorized", 401, "invalid_api_key"),
        ("unknown_model", 404, "model_not_found"),
        ("bad_request", 400, "context_length_exceeded"),
        ("no_json_schema", 400, "invalid_value"),
    ],
)
def test_refusals_by_status(server, kind, status, code):
    got, headers, content = posted(server, body_that_draws(kind))
    assert (got, json.loads(content)["error"]["code"]) == (status, code)
    assert headers["Retry-After"] == ("1" if kind == "rate_limit_after" else None)


@pytest.mark.parametrize(("kind", "status"), [("bad_gateway_html", 502), ("html", 200)])
def test_web_pages(server, kind, status):
    got, headers, content = posted(server, body_that_draws(kind))
    assert (
        got == status and headers["Content-Type"].startswith("text/html") and content.startswith(b"<!doctype")
    )


def test_a_dropped_answer_is_shorter_than_declared(server):
    with pytest.raises(http.client.IncompleteRead) as caught:
        posted(server, body_that_draws("drop"))
    assert caught.value.partial and caught.value.expected > 0


def test_a_reset_comes_without_a_byte(server):
    with pytest.raises(ConnectionResetError) as caught:
        posted(server, body_that_draws("reset"))
    assert not isinstance(caught.value, http.client.RemoteDisconnected)


def test_a_hanging_answer_ends_with_the_client(server):
    with pytest.raises(TimeoutError):
        posted(server, body_that_draws("hang"), timeout=0.3)
    assert choice_of(server, body_that_draws("hang"))["message"]["content"] == '{"answer": "Yes"}'


def test_a_slow_answer_takes_two_seconds_once(server):
    seconds = []
    for _ in range(2):
        begun = time.monotonic()
        assert choice_of(server, body_that_draws("slow"))["message"]["content"] == '{"answer": "Yes"}'
        seconds.append(time.monotonic() - begun)
    assert seconds[0] >= 2 > seconds[1]


def test_broken_json(server):
    status, headers, content = posted(server, body_that_draws("malformed_json"))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


def test_no_choices(server):
    assert json.loads(posted(server, body_that_draws("empty_choices"))[2])["choices"] == []


@pytest.mark.parametrize(
    ("kind", "reason", "content", "refused"),
    [
        ("null_content", "stop", None, False),
        ("refusal", "stop", None, True),
        ("content_filter", "content_filter", "", False),
        ("truncated", "length", '{"answer', False),
        ("wrong_schema", "stop", '{"unexpected_key": [1, 2]}', False),
        ("duplicate", "stop", '{"answer": "Yes"}\n{"answer": "Yes"}', False),
        ("malformed_content", "stop", 'Sure! Here it is: {"', False),
    ],
)
def test_spoiled_contents(server, kind, reason, content, refused):
    choice = choice_of(server, body_that_draws(kind))
    message = choice["message"]
    assert choice["finish_reason"] == reason
    assert message["content"] == content
    assert (message["refusal"] is not None) == refused


def test_five_megabytes(server):
    content = choice_of(server, body_that_draws("huge"))["message"]["content"]
    assert len(content) == 5_000_000


def test_a_server_without_json_schema_answers_without_it(serve):
    running = serve(faults={"no_json_schema": 1.0})
    body = body_that_draws("no_json_schema", {"faults": {"no_json_schema": 1.0}})
    for _ in range(2):
        status, _, content = posted(running, body)
        assert status == 400 and "json_schema is not supported" in json.loads(content)["error"]["message"]
    del body["response_format"]
    assert choice_of(running, body)["message"]["content"] == "plain text"


@pytest.mark.parametrize("kind", sorted(faults.TRANSIENT - {"hang", "slow", "drop", "reset"}))
def test_what_is_transient_passes(serve, kind):
    running = serve(faults={kind: 1.0}, fail_first=2)
    body = body_that_draws("ok", {})
    contents = [posted(running, body)[2] for _ in range(3)]
    assert contents[0] == contents[1] and json.loads(contents[2])["choices"]
    assert [(entry["attempt"], entry["outcome"]) for entry in running.log()] == [
        (1, kind),
        (2, kind),
        (3, "ok"),
    ]


def test_what_is_permanent_stays_unless_the_plan_says_otherwise(serve):
    body = body_that_draws("ok", {})
    running = serve(faults={"refusal": 1.0})
    assert all(choice_of(running, body)["message"]["refusal"] for _ in range(3))
    running = serve(faults={"refusal": 1.0}, transient=["refusal"])
    assert [bool(choice_of(running, body)["message"]["refusal"]) for _ in range(2)] == [True, False]


def test_faults_are_drawn_from_the_request_and_the_seed():
    plan = {"faults": {"refusal": 0.2, "server_error": 0.3}, "seed": 1}
    bodies = [{"model": "m", "messages": [{"role": "user", "content": str(n)}]} for n in range(2000)]
    first = [faults.drawn(plan, body) for body in bodies]
    assert first == [faults.drawn(plan, {"user": "someone", **body}) for body in bodies]
    assert first != [faults.drawn(plan | {"seed": 2}, body) for body in bodies]
    counts = Counter(first)
    assert abs(counts["refusal"] - 400) < 80 and abs(counts["server_error"] - 600) < 100


def test_two_servers_fail_alike(serve):
    plan = {"faults": {"refusal": 0.2, "server_error": 0.2, "malformed_content": 0.2}, "seed": 7}
    bodies = [{"model": "m", "messages": [{"role": "user", "content": str(n)}]} for n in range(20)]
    outcomes = []
    for order in (bodies, bodies[::-1]):
        running = serve(**plan)
        for body in order:
            posted(running, body)
        outcomes.append({entry["digest"]: entry["outcome"] for entry in running.log()})
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] == {faults.digest_of(body): faults.drawn(plan, body) for body in bodies}
    assert len(set(outcomes[0].values())) > 2


@pytest.mark.parametrize(
    "plan", [{"faults": {"no such": 1.0}}, {"faults": {"html": 0.6, "drop": 0.6}}, {"sed": 1}]
)
def test_a_bad_plan_is_refused_at_the_start(serve, plan):
    with pytest.raises(RuntimeError, match="a bad plan"):
        serve(**plan)


def test_the_log_tells_who_came_but_no_secret(serve):
    running = serve(latency=0.6, reply=PLAN["reply"])
    body = body_that_draws("ok", {})
    with ThreadPoolExecutor(3) as pool:
        messages = [body["messages"], [{"role": "user", "content": "2"}], [{"role": "user", "content": "3"}]]
        list(pool.map(lambda given: posted(running, body | {"messages": given}), messages))
    posted(running, body, headers={"Authorization": "Bearer sk-secret"})
    entries = running.chats()
    assert [entry["authorization"] for entry in entries] == [False, False, False, True]
    assert [entry["max_concurrent"] for entry in entries] == [1, 2, 3, 3]
    assert entries[3]["attempt"] == 2 and entries[3]["digest"] == faults.digest_of(body)
    assert {entry["schema"] for entry in entries} == {"verdict"}
    assert "secret" not in running.log_path.read_text()
    assert entries[-1]["time"] == pytest.approx(time.time(), abs=60)


def test_log_probabilities_spell_the_content(serve):
    asked = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "logprobs": True,
        "top_logprobs": 2,
    }
    answer = client_of(serve(reply={"answer": "Yes"})).chat.completions.create(**asked)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    (said,) = [token for token in tokens if token.token == "Yes"]
    assert [top.token for top in said.top_logprobs] == ["Yes", "No"]
    assert said.top_logprobs[0].logprob > said.top_logprobs[1].logprob


def test_unknown_places_and_broken_requests(server):
    assert posted(server, {}, path="/v1/embeddings")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", CHAT, "{broken")
    assert connection.getresponse().status == 400
    connection.close()


def test_a_batch_goes_round(server):
    kinds = ["slow", "refusal", "unauthorized", "html", "rate_limit", "truncated"]
    bodies = {kind: body_that_draws(kind, start=3000) for kind in kinds}
    lines = [{"custom_id": kind, "method": "POST", "url": CHAT, "body": bodies[kind]} for kind in kinds]
    client = client_of(server)
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    file = client.files.create(file=("asked.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename) == (len(content), "asked.jsonl")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    states = [client.batches.retrieve(batch.id) for _ in range(3)]
    assert [state.status for state in states] == ["in_progress", "completed", "completed"]
    assert states[0].output_file_id is None
    counts = states[1].request_counts
    assert (counts.total, counts.completed, counts.failed) == (6, 4, 2)
    answers = [json.loads(line) for line in client.files.content(states[1].output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == kinds[::-1]
    by_kind = {answer["custom_id"]: answer for answer in answers}
    assert by_kind["html"]["response"] is None and by_kind["html"]["error"]["code"] == "server_error"
    assert by_kind["unauthorized"]["response"]["status_code"] == 401
    for kind in ("slow", "rate_limit"):  # transient, so they do not strike in a batch
        message = by_kind[kind]["response"]["body"]["choices"][0]["message"]
        assert json.loads(message["content"]) == {"answer": "Yes"}
    assert by_kind["refusal"]["response"]["body"]["choices"][0]["message"]["refusal"]
    assert by_kind["truncated"]["response"]["body"]["choices"][0]["finish_reason"] == "length"


def test_the_server_ends_with_the_block_even_while_a_request_hangs(tmp_path):
    with servers.fault_server(tmp_path, {"reply": "", "faults": {"hang": 1.0}}) as running:
        with pytest.raises(TimeoutError):
            posted(running, body_that_draws("ok", {}), timeout=0.2)
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        connection.request("POST", CHAT, json.dumps({"messages": []}))
        begun = time.monotonic()
    assert running.process.poll() is not None and time.monotonic() - begun < 3
    connection.close()


@pytest.mark.slow
def test_the_language_model_answers_in_a_schema(smollm2_path):
    pytest.importorskip(
        "xllamacpp", reason="the language model's server needs xllamacpp, which is not installed"
    )
    properties = {"answer": {"type": "string", "enum": ["Yes", "No"]}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["answer"],
        "additionalProperties": False,
    }
    with servers.llm_server(smollm2_path) as running:
        answer = client_of(running, timeout=120).chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Is Paris in France? Answer Yes or No."}],
            response_format={"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}},
            max_tokens=64,
            temperature=0,
            extra_body={"cache_prompt": False},
        )
    assert json.loads(answer.choices[0].message.content)["answer"] in ("Yes", "No")
    assert running.process.poll() is not None
