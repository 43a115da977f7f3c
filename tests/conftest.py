"""Fixtures shared by all tests: the packaged models, through the product's own resolver."""

from pathlib import Path

import pytest
import torch

from describe.encoders import MiniLM
from describe.subject.sources import resolve

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """GGUF file of SmolLM2-135M-Instruct (Q4_1): llama architecture, 30 layers of 9 heads, byte-level BPE."""
    path = resolve("smollm2").gguf
    assert path is not None
    return path


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """GGUF file of Gemma-3-270M (Q4_K_M): 18 layers of 4 heads, sandwich norms, sentencepiece BPE."""
    path = resolve("gemma3-270m").gguf
    assert path is not None
    return path


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """Folder of the packaged sentence encoder."""
    return MiniLM.folder()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests last, so that a plain mistake shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
