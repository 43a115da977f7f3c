"""What the tests of jobs and commands share: the tiny model, the command line in real processes, a whole run."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from describe.catalogue import Catalogue

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """A helper beside this file; tests are imported file by file, so it is loaded by its path, once."""
    full = f"jobs_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@dataclass(frozen=True)
class Finished:
    """How a command ended; a code below 0 is the signal that killed it."""

    code: int
    stdout: str
    stderr: str

    def sentence(self) -> str:
        """The one line on stderr, which must be all there is and no trace."""
        (line,) = self.stderr.splitlines()
        assert line.startswith("describe: ") and line.endswith("."), line
        assert "Traceback" not in line
        return line.removeprefix("describe: ")


class Child:
    """A command at work in a process group of its own."""

    def __init__(self, workshop: Workshop, pid: int, output: Path) -> None:
        self.pid, self._workshop, self._output = pid, workshop, output
        self._finished: Finished | None = None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def running(self) -> bool:
        stat = Path(f"/proc/{self.pid}/stat")
        return (
            self._finished is None and stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
        )

    def wait(self) -> Finished:
        if self._finished is None:
            code = self._workshop.ask({"wait": self.pid})["status"]
            texts = [self._output.with_suffix(end).read_text(encoding="utf-8") for end in (".out", ".err")]
            self._finished = Finished(code, *texts)
        return self._finished

    def kill(self) -> Finished:
        self.signal(signal.SIGKILL)
        return self.wait()


class Workshop:
    """Runs commands on the tiny model in forks of one warm process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = load("tiny_model").save_tiny_model(folder / "tiny")
        self._count = itertools.count()
        self._lock = threading.Lock()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._zygote = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._zygote.stdout is not None
        assert "ready" in json.loads(self._zygote.stdout.readline())

    def ask(self, request: Mapping[str, object]) -> dict:
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        with self._lock:
            self._zygote.stdin.write(json.dumps(request) + "\n")
            self._zygote.stdin.flush()
            return json.loads(self._zygote.stdout.readline())

    def start(
        self,
        *args: object,
        cwd: Path,
        env: Mapping[str, str | None] | None = None,
        hook: str = "",
    ) -> Child:
        """Start `describe ARGS…`; `hook` is Python that the process executes first."""
        output = self.folder / f"command-{next(self._count)}"
        for end in (".out", ".err"):
            output.with_suffix(end).touch()  # here, since the child may be killed before it comes to it
        request = {
            "args": [str(arg) for arg in args],
            "cwd": str(cwd),
            "env": dict(env or {}),
            "hook": hook,
            "stdout": str(output.with_suffix(".out")),
            "stderr": str(output.with_suffix(".err")),
        }
        return Child(self, self.ask(request)["pid"], output)

    def call(self, *args: object, cwd: Path, **surroundings: object) -> Finished:
        """Run `describe ARGS…` to its end."""
        return self.start(*args, cwd=cwd, **surroundings).wait()

    @functools.cached_property
    def undisturbed(self) -> Undisturbed:
        """A whole run that nothing disturbs: what every other run is compared with."""
        folder = self.folder / "undisturbed"
        folder.mkdir()
        begin = time.monotonic()
        finished = self.call("run", self.model, "--json", cwd=folder)
        assert finished.code == 0, finished.stderr
        return Undisturbed(folder / "heads.duckdb", finished, time.monotonic() - begin)


@dataclass(frozen=True)
class Undisturbed:
    """The catalogue of the whole run, how the command ended, and its duration in seconds."""

    catalogue: Path
    finished: Finished
    seconds: float

    @functools.cached_property
    def content(self) -> str:
        return content_of(self.catalogue)


@functools.cache
def workshop_in(folder: Path) -> Workshop:
    """One workshop a session, whichever folder of tests asks first."""
    folder.mkdir()
    return Workshop(folder)


def content_of(catalogue: Path) -> str:
    """The digest of what a catalogue holds, without times and durations."""
    with Catalogue.open(catalogue) as opened:
        return opened.digest().whole


def rows_of(catalogue: Path, query: str, parameters: Sequence[object] = ()) -> list[tuple]:
    """The rows of a query."""
    with Catalogue.open(catalogue) as opened:
        return opened.query(query, parameters).rows


def left_behind(folder: Path) -> list[str]:
    """Everything in a folder, except a catalogue and its lock file, which stays by design."""
    kept = {"heads.duckdb", "heads.duckdb.lock"}
    return sorted(path.name for path in folder.iterdir() if path.name not in kept)


load("tiny_model")  # so that tests can import what was planted from it
