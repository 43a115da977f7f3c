"""The shared workshop, as fixtures (see jobs/workshop.py), and a chat server for commands that ask one."""

import functools
import importlib.util
import json
import re
import shutil
import socket
import sys
import threading
import uuid
from pathlib import Path

import pytest
import uvicorn

from describe.catalogue import Catalogue

CHAT = Path(__file__).parents[1] / "chat"

_path = Path(__file__).parents[1] / "jobs" / "workshop.py"
if "jobs_workshop" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("jobs_workshop", _path)
    sys.modules["jobs_workshop"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["jobs_workshop"])


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, minilm_folder):  # the encoder is fetched before any command needs it
    return sys.modules["jobs_workshop"].workshop_in(tmp_path_factory.getbasetemp() / "workshop")


@pytest.fixture(scope="session")
def undisturbed(workshop):
    return workshop.undisturbed


@pytest.fixture(scope="session")
def chat_session(workshop, tmp_path_factory):
    """A chat server for all tests of commands that ask one, and the shards that such a run begins with."""
    with ChatDesk(workshop, tmp_path_factory.mktemp("chat")) as desk:
        yield desk


@pytest.fixture
def chat(chat_session, tmp_path):
    """The chat server with nothing wrong and nothing logged; commands run in a folder with the run's shards."""
    chat_session.reset(tmp_path)
    return chat_session


# A reply that comes late or never is tried again within milliseconds, a batch is looked at as often.
QUICK = """
import describe.clients.asker as asker, describe.clients.batches as batches
usual = asker.PatienceSettings
asker.PatienceSettings = lambda: usual(attempts=4, first_wait=0.01, longest_wait=0.05)
batches.BatchAsker.__init__.__defaults__ = (0.05,)
"""
THINGS = ("rivers", "colours", "kings", "tools", "numbers", "songs", "trees", "laws", "ships", "meals")


def sound_reply(faults, body):
    """A valid reply to any request of the product, drawn from the request: the same one gets the same."""
    draw = int(faults.digest_of(body)[:8], 16)
    text = body["messages"][1]["content"]
    numbers = [int(number) for number in re.findall(r"^\[(\d+), ", text, re.MULTILINE)]
    match faults.schema_name(body):
        case "draft" if draw % 6 == 0:
            return {"reasoning": "I saw nothing.", "verdict": "unclear", "patterns": []}
        case "draft":
            what = f"writes words that people use when they speak of {THINGS[draw % 10]} or {THINGS[draw // 10 % 10]}"
            pattern = {
                "direction": "promotes",
                "depends_on_source": draw % 2 == 0,
                "inputs": "names of things",
            }
            pattern |= {"operation": what, "rows": [1, 2, 3], "exceptions": [4]}
            return {"reasoning": "I saw words.", "verdict": "pattern", "patterns": [pattern]}
        case "judge":
            fits = {"fitting_rows": numbers[: draw % 5], "pattern_present": ("yes", "no")[draw % 2]}
            return fits | {
                "reasoning": "I looked.",
                "description_fits": ("yes", "partly", "no")[draw % 3],
                "plausibility": draw % 5 + 1,
            }
        case "detect":
            return {"rows": [{"row": n, "likelihood": (draw + 37 * n) % 101} for n in numbers]}
    return ("Yes", "No")[draw % 2]


class ChatDesk:
    """The fault server in a thread of this process, so that its plan can be changed, and commands that ask it.

    Where its plan has no reply of its own, it replies as `sound_reply` does.
    """

    def __init__(self, workshop, folder):
        self.workshop, self.folder = workshop, folder
        spec = importlib.util.spec_from_file_location("cli_fault_server", CHAT / "fault_server.py")
        self.faults = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.faults)
        planned = self.faults.planned_content
        self.faults.planned_content = lambda plan, body: (
            planned(plan, body) if plan["reply"] else _text_of(sound_reply(self.faults, body))
        )
        self.errors, self.drawn = dict(self.faults.HTTP_FAULTS), self.faults.drawn
        self.port, self._server = 0, None

    def __enter__(self):
        self.plan()
        first = self.folder / "first"
        first.mkdir()
        done = self.workshop.call("run", *self.words(), "--dry-run", cwd=first, env=self.surroundings())
        assert done.code == 0, done.stderr
        self.shards = first / "heads.duckdb.runs"
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def reset(self, folder):
        """Nothing wrong, nothing logged, `folder` as where commands run."""
        self.faults.HTTP_FAULTS.update(self.errors)
        self.faults.drawn = self.drawn
        self.cwd = folder
        self.plan()

    def plan(self, **plan):
        """Begin anew with a plan: faults, latency and so on; the log is emptied."""
        self.stop()
        self.log = self.folder / f"log-{uuid.uuid4().hex}.jsonl"
        self.app = self.faults.FaultApp({"reply": "", **plan}, self.log)
        listening = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = listening.getsockname()[1]
        bare = {"http": "h11", "ws": "none", "lifespan": "off", "proxy_headers": False, "access_log": False}
        config = uvicorn.Config(self.app, log_level="critical", timeout_graceful_shutdown=0, **bare)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def stop(self):
        """Nobody listens at the port from now on, until the next `plan`."""
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(20)
            self._server = None

    def chats(self):
        """The log's lines of chat completions."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["path"] == self.faults.CHAT]

    def sent(self):
        """How many chat completions were asked for."""
        return len(self.chats())

    def surroundings(self, **env):
        """The environment of a command: no key and no endpoint but those that a test names."""
        return {"OPENAI_API_KEY": None, "JUDGE_API_KEY": None, "OPENAI_BASE_URL": None, **env}

    def words(self):
        """The arguments of a run whose shards are there."""
        return [
            self.workshop.model,
            "--drafter",
            "drafter-1",
            "--base-url",
            self.url,
            "--answers",
            "a.sqlite",
        ]

    def prepare(self, folder=None):
        """The shards of a run up to its first request, so that a test need not wait for them."""
        where = (folder or self.cwd) / "heads.duckdb.runs"
        if not where.exists() and not (folder or self.cwd).joinpath("heads.duckdb").exists():
            shutil.copytree(self.shards, where)

    def run(self, *args, **surroundings):
        """`describe run` on the tiny model, all stages but asking done already."""
        self.prepare(surroundings.get("cwd"))
        return self.call("run", *self.words(), "--quiet", *args, **surroundings)

    def call(self, *args, hook="", env=None, cwd=None):
        """Any command, to its end."""
        return self.start(*args, hook=hook, env=env, cwd=cwd).wait()

    def start(self, *args, hook="", env=None, cwd=None):
        """Begin any command."""
        given = {"cwd": cwd or self.cwd, "hook": QUICK + hook, "env": self.surroundings(**(env or {}))}
        return self.workshop.start(*args, **given)

    @functools.cached_property
    def undisturbed(self):
        """What a run with two judges stores when nothing goes wrong, and how many requests it sends."""
        folder = self.folder / "undisturbed"
        folder.mkdir()
        self.plan()
        found = self.run(*self.judges, cwd=folder)
        assert found.code == 0, found.stderr
        return self.content(folder), self.sent()

    judges = ("--judge", "judge-1", "--judge", "judge-2")

    def content(self, folder=None):
        """The digest of every table whose rows do not say how often and when something was asked."""
        with Catalogue.open((folder or self.cwd) / "heads.duckdb") as opened:
            tables = dict(opened.digest().tables)
        del tables["llm_calls"]
        return tables

    def rows(self, query, folder=None):
        """The rows of a query of the catalogue."""
        return sys.modules["jobs_workshop"].rows_of((folder or self.cwd) / "heads.duckdb", query)

    def dicts(self, query, folder=None):
        """The rows of a query of the catalogue, by column."""
        with Catalogue.open((folder or self.cwd) / "heads.duckdb") as opened:
            found = opened.query(query)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _text_of(reply):
    return reply if isinstance(reply, str) else json.dumps(reply)
