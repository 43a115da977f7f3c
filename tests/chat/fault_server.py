"""A chat-completions server on the loopback interface that answers by a plan and fails by it, always the same way.

The plan is JSON: `reply` (the content of every answer, or a mapping from schema name to content, "*" for any other),
`latency` (seconds before every answer), `faults` (kind to share of the requests), `seed`, `fail_first` (attempts of
a request that a transient fault spoils, 1 if not given), `transient` (kinds to be transient besides TRANSIENT),
`models` (names to list). Which fault a request draws depends on the seed and its body alone. Kinds outside TRANSIENT
answer every attempt alike.

    python tests/chat/fault_server.py --port 0 --plan plan.json --log log.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import email
import hashlib
import json
import re
import socket
import struct
import time
from collections import Counter
from itertools import chain, repeat
from pathlib import Path

HTTP_FAULTS = {  # kind: status, error code, message
    "rate_limit": (429, "rate_limit_exceeded", "Rate limit reached."),
    "rate_limit_after": (429, "rate_limit_exceeded", "Rate limit reached."),
    "server_error": (500, "server_error", "The server had an error."),
    "unauthorized": (401, "invalid_api_key", "Incorrect API key provided."),
    "unknown_model": (404, "model_not_found", "The model does not exist."),
    "bad_request": (400, "context_length_exceeded", "This model's maximum context length is exceeded."),
    "no_json_schema": (400, "invalid_value", "response_format of type json_schema is not supported."),
}
HTML_FAULTS = {"bad_gateway_html": 502, "html": 200}
WIRE_FAULTS = ("slow", "hang", "drop", "reset", "malformed_json")
CONTENT_FAULTS = ("empty_choices", "null_content", "refusal", "content_filter", "truncated")
CONTENT_FAULTS += ("malformed_content", "wrong_schema", "huge", "duplicate")
KINDS = (*WIRE_FAULTS, *CONTENT_FAULTS, *HTML_FAULTS, *HTTP_FAULTS)
TRANSIENT = {*WIRE_FAULTS, "rate_limit", "rate_limit_after", "server_error", "bad_gateway_html"}
KEYS = ("reply", "latency", "faults", "seed", "fail_first", "transient", "models")
VOLATILE = ("user", "metadata", "safety_identifier", "prompt_cache_key", "store")  # no part of what is asked
SLOW_SECONDS, HUGE_CHARACTERS = 2.0, 5_000_000
SPOILED = {
    **{"null_content": None, "refusal": None, "content_filter": "", "huge": "x" * HUGE_CHARACTERS},
    **{"malformed_content": 'Sure! Here it is: {"', "wrong_schema": '{"unexpected_key": [1, 2]}'},
}
HTML = b"<!doctype html><html><body><h1>This is a web page</h1></body></html>"
JSON_TYPE, HTML_TYPE, CHAT = "application/json", "text/html; charset=utf-8", "/v1/chat/completions"


def digest_of(body: dict, seed: object = "") -> str:
    """What the log calls a request; with the plan's seed before it, what its fault is drawn from."""
    text = json.dumps({key: value for key, value in body.items() if key not in VOLATILE}, sort_keys=True)
    return hashlib.sha256(f"{seed}{text}".encode()).hexdigest()


def drawn(plan: dict, body: dict) -> str:
    """The kind of fault that a request draws, or "ok"."""
    left = int(digest_of(body, plan.get("seed", 0))[:12], 16) / 16**12
    for kind, share in plan.get("faults", {}).items():
        left -= share
        if left < 0:
            asked = (body.get("response_format") or {}).get("type")
            return "ok" if kind == "no_json_schema" and asked != "json_schema" else kind
    return "ok"


def checked(plan: dict) -> dict:
    """The plan, if every key and kind is known and the shares are shares."""
    faults = plan.get("faults", {})
    unknown = {*plan, *faults, *plan.get("transient", ())} - {*KINDS, *KEYS}
    if unknown or sum(faults.values()) > 1 + 1e-9 or "reply" not in plan:
        raise ValueError(f"a bad plan: unknown {sorted(unknown)}, shares {faults}, keys {sorted(plan)}")
    return plan


def _text(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def schema_name(body: dict) -> str | None:
    """The schema that a request names: in its response format, or after "SCHEMA:" in a system message."""
    name = (body.get("response_format") or {}).get("json_schema", {}).get("name")
    system = [_text(m) for m in body.get("messages", []) if m.get("role") in ("system", "developer")]
    found = re.search(r"SCHEMA:\s*([\w.-]+)", "\n".join(system))
    return name or (found and found[1])


def planned_content(plan: dict, body: dict) -> str:
    """What a sound answer says."""
    reply = plan["reply"]
    if isinstance(reply, dict):
        reply = reply.get(schema_name(body) or "*", reply.get("*", reply))
    return reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)


def _logprobs(body: dict, content: str) -> dict:
    """A token for every word or run of other characters; beside it, Yes and No as the likeliest others."""
    entries = []
    for token in re.findall(r"\s*\w+|\s*[^\w\s]+|\s+", content):
        others = [other for other in ("Yes", "No") if other != token.strip()]
        top = [(token, -0.25), (others[0], -1.75), *((other, -4.0) for other in others[1:])]
        shown = [{"token": t, "logprob": p, "bytes": [*t.encode()]} for t, p in top]
        entries.append(shown[0] | {"top_logprobs": shown[: body.get("top_logprobs") or 0]})
    return {"content": entries, "refusal": None}


def completion(plan: dict, body: dict, kind: str) -> dict:
    """The body of an answer with status 200, spoiled as the kind says."""
    planned = planned_content(plan, body)
    spoiled = {"truncated": planned[: len(planned) // 2], "duplicate": f"{planned}\n{planned}"}
    content = (SPOILED | spoiled).get(kind, planned)
    reason = {"truncated": "length", "content_filter": kind}.get(kind, "stop")
    wanted = body.get("logprobs") and content and kind != "huge"
    choice = {"index": 0, "finish_reason": reason, "logprobs": _logprobs(body, content) if wanted else None}
    refusal = "I cannot help with that." if kind == "refusal" else None
    choice["message"] = {"role": "assistant", "content": content, "refusal": refusal}
    asked, said = sum(len(_text(m)) for m in body.get("messages", [])) // 4, len(content or "") // 4
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    head = {"id": f"chatcmpl-{digest_of(body)[:16]}", "object": "chat.completion", "model": body.get("model")}
    choices = [] if kind == "empty_choices" else [choice]
    return head | {"created": int(time.time()), "choices": choices, "usage": usage}


def _error(code: str, message: str) -> dict:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def answer(plan: dict, body: dict, kind: str) -> tuple[int, bytes, str, dict]:
    """Status, content, media type and more headers of an answer of any kind that gives one."""
    if kind in HTML_FAULTS:
        return HTML_FAULTS[kind], HTML, HTML_TYPE, {}
    if kind in HTTP_FAULTS:
        status, code, message = HTTP_FAULTS[kind]
        more = {"retry-after": "1"} if kind == "rate_limit_after" else {}
        return status, json.dumps(_error(code, message)).encode(), JSON_TYPE, more
    content = json.dumps(completion(plan, body, kind)).encode()
    return 200, content[: len(content) // 2] if kind == "malformed_json" else content, JSON_TYPE, {}


async def _client_leaves(receive, within: float | None = None) -> bool:
    """Wait for the client to close the connection, for so many seconds; whether it did."""
    try:
        async with asyncio.timeout(within):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _respond(send, status: int, content: bytes, media: str = JSON_TYPE, more=None, cut: bool = False):
    """Send an answer; with `cut` only the first half of what its content-length declares."""
    headers = {"content-type": media, "content-length": str(len(content))} | (more or {})
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    sent = len(content) // (2 if cut else 1)
    await send({"type": "http.response.body", "body": content[:sent], "more_body": cut})


def _reset(send) -> None:
    """Close the connection under uvicorn's hands; without lingering, the client gets a reset."""
    transport, linger = send.__self__.transport, struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()


class FaultApp:
    """The ASGI application: chat completions, the list of models, and the batch API over both."""

    def __init__(self, plan: dict, log: Path):
        self.plan = checked(plan)
        self.log = log.open("a", encoding="utf-8")
        self.transient = TRANSIENT.union(plan.get("transient", ()))
        self.attempts, self.active, self.most = Counter(), 0, 0
        self.files, self.batches = {}, {}

    async def __call__(self, scope, receive, send) -> None:
        content, path, message = b"", scope["path"], {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            content += message.get("body", b"")
        headers = {key.decode(): value.decode("latin-1") for key, value in scope["headers"]}
        known = "authorization" in headers
        try:
            if (scope["method"], path) == ("POST", CHAT):
                return await self.chat(json.loads(content), known, receive, send)
            status, reply = self.other(scope["method"], path, content, headers)
        except (ValueError, KeyError) as error:
            status, reply = 400, _error("bad_request", f"not understood: {error!r}")
        if path != "/health":
            self.note(path, None, None, "ok" if status == 200 else str(status), known)
        await _respond(send, status, reply if isinstance(reply, bytes) else json.dumps(reply).encode())

    def note(self, path: str, body: dict | None, attempt: int | None, outcome: str, known: bool) -> None:
        """Append one line to the log."""
        digest, schema = (digest_of(body), schema_name(body)) if body else (None, None)
        entry = {"time": time.time(), "path": path, "digest": digest, "schema": schema}
        entry |= {"attempt": attempt, "outcome": outcome, "authorization": known, "max_concurrent": self.most}
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    async def chat(self, body: dict, known: bool, receive, send) -> None:
        """Answer one request, or fail, as the plan says; the log has it before the client can."""
        self.attempts[digest_of(body)] += 1
        kind, attempt = drawn(self.plan, body), self.attempts[digest_of(body)]
        kind = "ok" if kind in self.transient and attempt > self.plan.get("fail_first", 1) else kind
        self.active += 1
        self.most = max(self.most, self.active)
        self.note(CHAT, body, attempt, kind, known)
        try:
            seconds = self.plan.get("latency", 0.0) + (SLOW_SECONDS if kind == "slow" else 0.0)
            gone = seconds and await _client_leaves(receive, seconds)
            if kind == "reset":
                _reset(send)
            if gone or kind in ("hang", "reset"):
                await _client_leaves(receive)
            else:
                await _respond(send, *answer(self.plan, body, kind), cut=kind == "drop")
        finally:
            self.active -= 1

    def other(self, method: str, path: str, content: bytes, headers: dict) -> tuple[int, dict | bytes]:
        """Status and content for everything but a chat completion."""
        match [method, *path.strip("/").split("/")]:
            case ["GET", "health"]:
                return 200, {"status": "ok"}
            case ["GET", "v1", "models"]:
                model = {"object": "model", "created": 0, "owned_by": "tests"}
                names = self.plan.get("models", ["fault-model"])
                return 200, {"object": "list", "data": [model | {"id": name} for name in names]}
            case ["POST", "v1", "files"]:
                return 200, self.add_file(content, headers["content-type"])
            case ["GET", "v1", "files", name, "content"] if name in self.files:
                return 200, self.files[name]
            case ["POST", "v1", "batches"]:
                return 200, self.add_batch(json.loads(content), "authorization" in headers)
            case ["GET", "v1", "batches", name] if name in self.batches:
                return 200, next(self.batches[name])
        return 404, _error("not_found", f"nothing at {method} {path}")

    def add_file(self, content: bytes, media: str) -> dict:
        """Keep the file of a multipart form."""
        form = email.message_from_bytes(b"Content-Type: " + media.encode() + b"\r\n\r\n" + content)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        if parts["purpose"].get_payload() != "batch":
            raise ValueError("purpose is not batch")
        self.files[name := f"file-{len(self.files)}"] = data = parts["file"].get_payload(decode=True)
        shown = {"id": name, "object": "file", "bytes": len(data), "created_at": 0, "status": "processed"}
        return shown | {"filename": parts["file"].get_filename(), "purpose": "batch"}

    def add_batch(self, asked: dict, known: bool) -> dict:
        """Answer every line of a file, last line first; what is transient does not strike here."""
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines() if line.strip()]
        answers = [self.batch_line(line, known) for line in lines][::-1]
        name, output = f"batch-{len(self.batches)}", f"file-{len(self.files)}"
        self.files[output] = "".join(json.dumps(line) + "\n" for line in answers).encode()
        good = sum((line["response"] or {}).get("status_code") == 200 for line in answers)
        counts = {"total": len(lines), "completed": good, "failed": len(lines) - good}
        shown = {"id": name, "object": "batch", "created_at": int(time.time())} | asked
        done = {"status": "completed", "output_file_id": output, "request_counts": counts}
        self.batches[name] = chain([shown | {"status": "in_progress"}], repeat(shown | done))  # poll by poll
        return shown | {"status": "validating"}

    def batch_line(self, line: dict, known: bool) -> dict:
        """One line of a batch's output; an answer that is no JSON becomes an error."""
        body = line["body"]
        kind = "ok" if drawn(self.plan, body) in self.transient else drawn(self.plan, body)
        self.note("/v1/batches", body, None, kind, known)
        shown = {"id": f"batch_req_{digest_of(body)[:16]}", "custom_id": line["custom_id"]}
        if kind in HTML_FAULTS:
            return shown | {"response": None, "error": {"code": "server_error", "message": kind}}
        status, content, _, _ = answer(self.plan, body, kind)
        response = {"status_code": status, "request_id": shown["id"], "body": json.loads(content)}
        return shown | {"response": response, "error": None}


def main() -> None:
    """Serve until terminated; the first line printed is the port."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    for name in ("--plan", "--log"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    app = FaultApp(json.loads(given.plan.read_text("utf-8")), given.log)
    listening = socket.create_server(("127.0.0.1", given.port), backlog=256)
    print(listening.getsockname()[1], flush=True)  # noqa: T201
    bare = {"http": "h11", "ws": "none", "lifespan": "off", "proxy_headers": False, "access_log": False}
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0, **bare)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
