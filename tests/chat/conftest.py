"""The chat servers and the workshop of this folder, which is no package: as modules, and as fixtures."""

import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest


def load(name):
    """A module of this folder, to be imported as chat_NAME by the tests."""
    known = f"chat_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


servers, faults, workshop = load("servers"), load("fault_server"), load("workshop")


@pytest.fixture
def serve(tmp_path):
    """Start a fault server by a plan, for one test."""
    pytest.importorskip("uvicorn", reason="the fault server runs on uvicorn")
    with ExitStack() as stack:
        yield lambda **plan: stack.enter_context(
            servers.fault_server(tmp_path, {"reply": "plain text"} | plan)
        )


@pytest.fixture
def script():
    """Start a server that answers by a function, for one test."""
    with ExitStack() as stack:
        yield lambda reply: stack.enter_context(workshop.scripted_server(reply))
