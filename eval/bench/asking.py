"""How much of an endpoint's speed the asker lets through: requests a second beside the ideal, in one run.

Ideal is the number of requests at a time over the time of one answer. The prompts are as long as real ones;
the server is a process of its own, so that its work is not counted as ours.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from describe.chat import ChatRequest, Message, Question
from describe.clients.answers import AnswerStore
from describe.clients.asker import Asker
from describe.clients.endpoint import Endpoint, EndpointSettings
from describe.clients.pace import PaceSettings
from describe.clients.prices import Purse, load_prices
from describe.errors import DescribeError
from eval.bench.processes import Clock

LATENCY = 0.2  # seconds
CONCURRENCY = 64
_SECONDS = 15.0  # of asking, at the ideal
_WARM_UP = 128  # questions, not counted: connections are made with the first


def asking(quick: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """Requests a second and CPU time a request.

    Args:
        quick: ask for two seconds only.
        progress: told what is being measured.

    Raises:
        DescribeError: uvicorn is not installed, or the server does not start.
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise DescribeError("The part asking needs a server: install uvicorn, then run it again.")
    ideal = CONCURRENCY / LATENCY
    count = int(ideal * (2.0 if quick else _SECONDS))
    progress(f"{count} requests, {CONCURRENCY} at a time, answered in {LATENCY:g} s each")
    command = [sys.executable, "-P", "-m", "eval.bench.answering", str(LATENCY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None  # a pipe, as asked for above
            port = server.stdout.readline().strip()
            if not port:
                raise DescribeError("The server of the benchmark did not start.")
            with TemporaryDirectory() as folder:
                return _measured(f"http://127.0.0.1:{port}/v1", Path(folder), count) | {"ideal": ideal}
        finally:
            server.terminate()


def _measured(base_url: str, folder: Path, count: int) -> dict[str, Any]:
    asker = Asker(
        Endpoint(EndpointSettings(base_url, connections=CONCURRENCY), None),
        AnswerStore(folder / "answers.sqlite"),
        Purse(None, load_prices()),
        PaceSettings(CONCURRENCY),
    )
    questions = [_question(number) for number in range(_WARM_UP + count)]
    asker.ask(questions[:_WARM_UP])
    begin = Clock.now()
    outcomes = asker.ask(questions[_WARM_UP:])
    took = Clock.now().since(begin)
    if odd := [one.status for one in outcomes if one.status != "ok"]:
        raise DescribeError(
            f"{len(odd)} of {count} requests failed ({odd[0]}): the figures would say nothing."
        )
    return {
        "requests": count,
        "per_second": count / took["wall_seconds"],
        "cpu_ms_per_request": 1000 * took["cpu_seconds"] / count,
    }


def _question(number: int) -> Question[int]:
    text = f"{number}: " + '[7, " France", [" Paris", " Lyon", " French", "France", " Europe"]]\n' * 60
    request = ChatRequest(
        purpose="draft",
        chat_model="bench",
        messages=(Message("system", "Say what the rows have in common. " * 70), Message("user", text)),
        schema_name="bench",
        schema='{"type": "object"}',
        prompt_digest="bench",
        max_tokens=200,
    )
    return Question(request, lambda answer: len(answer.text or ""))
