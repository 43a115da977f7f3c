"""Chat servers for tests, each a process of its own: one that fails by plan, and a small language model.

As a script it is the language model's process: `python tests/chat/servers.py MODEL.gguf THREADS`.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
CONTEXT = 8192


@dataclass(frozen=True)
class Server:
    """A running server; `base_url` is what an OpenAI client takes."""

    base_url: str
    process: subprocess.Popen
    log_path: Path | None = None  # the fault server's, one JSON line a request

    @property
    def port(self) -> int:
        return int(self.base_url.split(":")[2].split("/")[0])

    def log(self) -> list[dict]:
        """Every request so far and what became of it."""
        assert self.log_path is not None, "only the fault server keeps a log"
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]

    def chats(self) -> list[dict]:
        """The log's lines of chat completions."""
        return [entry for entry in self.log() if entry["path"] == "/v1/chat/completions"]


@contextmanager
def fault_server(tmp_path: Path, plan: dict) -> Iterator[Server]:
    """The server of `fault_server.py`, in a new folder below `tmp_path`; ended when the block is left."""
    folder = Path(tempfile.mkdtemp(prefix="fault_server.", dir=tmp_path))
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "log.jsonl").touch()
    command = [sys.executable, str(Path(__file__).with_name("fault_server.py")), "--port", "0"]
    command += ["--plan", str(folder / "plan.json"), "--log", str(folder / "log.jsonl")]
    with _running(command, folder / "output.txt") as process:
        port = _ready(process, folder / "output.txt", r"^(\d+)\n")
        yield Server(f"http://127.0.0.1:{port}/v1", process, folder / "log.jsonl")


@contextmanager
def llm_server(model_path: Path, threads: int = 1) -> Iterator[Server]:
    """llama.cpp's server for a GGUF file, through xllamacpp; ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="llm_server.") as folder:
        output = Path(folder) / "output.txt"
        command = [sys.executable, str(Path(__file__)), str(model_path), str(threads)]
        with _running(command, output) as process:
            address = _ready(process, output, r"^LISTENING (\S+)\n")
            yield Server(f"{address}/v1", process)


@contextmanager
def _running(command: list[str], output: Path) -> Iterator[subprocess.Popen]:
    """A process whose output goes to a file; it dies with the block, at the latest after 5 seconds."""
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen, output: Path, pattern: str) -> str:
    """The pattern's group in the process's output, once it is there and GET /health gives 200 at that port."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        found = re.search(pattern, output.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if found and _healthy(int(found[1].rpartition(":")[2])):
            return found[1]
        time.sleep(0.02)
    said = output.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"the server did not start:\n{said}")


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def serve_llm(model_path: str, threads: int) -> None:
    """Serve until terminated, or until the process that started this one is gone."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model_path
    params.n_ctx, params.n_parallel = CONTEXT, 1
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    parent = os.getppid()
    server = xllamacpp.Server(params)
    print(f"\nLISTENING {server.listening_address}", flush=True)  # noqa: T201
    while os.getppid() == parent:
        time.sleep(0.5)


if __name__ == "__main__":
    serve_llm(sys.argv[1], int(sys.argv[2]))
