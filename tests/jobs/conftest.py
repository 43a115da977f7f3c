"""The shared workshop, as fixtures; see workshop.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

_path = Path(__file__).with_name("workshop.py")
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
