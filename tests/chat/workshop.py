"""What tests of the chat client share: questions, askers with little patience, and a server that a test scripts."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from describe.chat import ChatRequest, Message, Question, ReplyError
from describe.clients.answers import AnswerStore
from describe.clients.asker import Asker, PatienceSettings
from describe.clients.endpoint import Endpoint, EndpointSettings
from describe.clients.pace import PaceSettings
from describe.clients.prices import Price, Prices, Purse

ROOT = Path(__file__).parents[2]
KEY = "sk-test-SECRET123456"
MODEL = "fault-model"
PRICES = Prices({MODEL: Price(1.0, 2.0)})
QUICK = PatienceSettings(attempts=3, deadline=30.0, first_wait=0.01, longest_wait=0.05)
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 9}},
        "required": ["answer"],
        "additionalProperties": False,
    }
)


def request(text="Is it so?", **more):
    given = {
        "purpose": "judge",
        "chat_model": MODEL,
        "messages": (Message("user", text),),
        "schema_name": "verdict",
        "schema": SCHEMA,
        "prompt_digest": "p",
        "max_tokens": 50,
    }
    return ChatRequest(**given | more)


def read(answer):
    """What stands under "answer" in a reply."""
    try:
        return json.loads(answer.text)["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReplyError("unparsed", "the reply has no answer") from error


def question(text="Is it so?", read=read, **more):
    return Question(request(text, **more), read)


def questions(count, **more):
    return [question(f"Is {number} so?", **more) for number in range(count)]


def endpoint(base_url, key=KEY, timeout=10.0):
    return Endpoint(EndpointSettings(base_url, timeout), key)


def asker(base_url, answers=None, *, budget=None, prices=PRICES, patience=QUICK, concurrency=8, **more):
    """An asker of an endpoint; `answers` is a store, a path or None for answers that are not kept."""
    store = answers if isinstance(answers, AnswerStore) else AnswerStore(answers)
    pace = PaceSettings(concurrency=concurrency)
    return Asker(endpoint(base_url, **more), store, Purse(budget, prices), pace, patience)


def statuses(outcomes):
    return [one.status for one in outcomes]


def completion(content='{"answer": "Yes"}', usage=(10, 5), **message):
    """A sound body of a reply."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": content} | message,
    }
    told = {} if usage is None else {"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}}
    return {"id": "c", "object": "chat.completion", "model": "told-model", "choices": [choice]} | told


def error(message, **more):
    return {"error": {"message": message} | more}


@dataclass
class Scripted:
    """A running server that answers by a function, and what it was sent."""

    base_url: str
    seen: list = field(default_factory=list)  # (method, path, body as text) in the order they came

    @property
    def bodies(self):
        """The requests for completions."""
        return [json.loads(body) for _, path, body in self.seen if path == "/v1/chat/completions"]


@contextmanager
def scripted_server(reply):
    """Serve on the loopback interface what `reply(number, method, path, body)` gives: (status, content).

    A content that is no bytes is sent as JSON; a third part may hold more headers.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
            with lock:
                server.seen.append((self.command, self.path, body))
                status, content, *more = reply(len(server.seen) - 1, self.command, self.path, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            given = {"content-type": "application/json", "content-length": str(len(data))}
            for name, value in (given | (more[0] if more else {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):  # a client that breaks off is no news
            pass

    running = Quiet(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    server = Scripted(f"http://127.0.0.1:{running.server_port}/v1")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
