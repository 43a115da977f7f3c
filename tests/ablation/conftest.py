"""The shared workshop, as fixtures; see jobs/workshop.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

_path = Path(__file__).parents[1] / "jobs" / "workshop.py"
if "jobs_workshop" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("jobs_workshop", _path)
    sys.modules["jobs_workshop"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["jobs_workshop"])


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, minilm_folder):
    return sys.modules["jobs_workshop"].workshop_in(tmp_path_factory.getbasetemp() / "workshop")
