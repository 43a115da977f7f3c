"""The command line before any work: what is loaded, what is said, and how a stop ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from describe import __version__

HEAVY = ("torch", "transformers", "duckdb", "sentence_transformers", "sklearn", "pyarrow", "scipy", "openai")
COMMANDS = ("run", "show", "mappings", "map", "relations", "sql", "export")


def fresh(*args, **options):
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["run"]])
def test_help_loads_no_heavy_library(arguments):
    program = (
        "import sys, json\n"
        f"sys.argv = ['describe', *{arguments!r}]\n"
        "from describe.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    loaded = json.loads(fresh("-c", program).stderr.splitlines()[-1])
    assert [name for name in HEAVY if name in loaded] == []


def test_every_command_shows_examples():
    found = fresh("-m", "describe", "--help")
    assert found.returncode == 0
    assert all(command in found.stdout for command in COMMANDS) and "Examples: " in found.stdout
    for command in COMMANDS:
        own = fresh("-m", "describe", command, "--help")
        assert own.returncode == 0 and f"Examples: describe {command} " in own.stdout


def test_version_and_usage():
    assert fresh("-m", "describe", "--version").stdout == f"describe {__version__}\n"
    for wrong in (["walk"], ["run"], ["run", "m", "--no-such-option"], ["run", "m", "--salient", "0"]):
        found = fresh("-m", "describe", *wrong)
        assert found.returncode == 2 and "Traceback" not in found.stderr and found.stdout == ""


def test_a_bad_input_in_a_fresh_process(tmp_path):
    found = fresh("-m", "describe", "run", "./nowhere", cwd=tmp_path)
    assert found.returncode == 2 and found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("describe: './nowhere' ")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_by_the_keyboard_is_a_sentence_and_leaves_what_was_done(workshop, tmp_path):
    # The stage after the mappings waits for the signal: the tiny run could end before it comes.
    hook = "import time; from describe.jobs.drafting import Drafting; Drafting.encode = lambda self: time.sleep(60)"
    child = workshop.start("run", workshop.model, cwd=tmp_path, hook=hook)
    while child.running() and not list(tmp_path.glob("heads.duckdb.runs/*/mappings-2")):
        time.sleep(0.005)
    time.sleep(0.5)
    child.signal(signal.SIGINT)
    found = child.wait()
    assert found.code == 130 and "go on from here" in found.sentence()
    assert workshop.call("run", workshop.model, cwd=tmp_path).code == 0


def test_a_token_that_the_terminal_cannot_spell_is_no_failure(workshop, tmp_path):
    command = [sys.executable, "-m", "describe", "mappings", str(workshop.model), "L0H0"]
    found = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert found.returncode == 0, found.stderr
    assert b"\\u2192" in found.stdout  # the arrow
