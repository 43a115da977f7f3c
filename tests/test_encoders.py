"""The packaged sentence encoder: shape, length, determinism, meaning, and no network."""

import numpy as np
import pytest

from describe.encoders import MiniLM, SentenceEncoder
from describe.errors import InputError


@pytest.fixture(scope="module")
def encoder(minilm_folder) -> MiniLM:
    return MiniLM()


def test_vectors_are_unit_length_float32(encoder):
    vectors = encoder.encode(["Paris", "a much longer text about a city in France", ""])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_order_and_repetition_change_no_bit(encoder):
    texts = [
        f"{word} {number}" for word in ("cat", "the weather of tomorrow", "Paris") for number in range(40)
    ]
    vectors = encoder.encode(texts)
    again = encoder.encode([*reversed(texts), *texts])
    assert np.array_equal(again[len(texts) :], vectors)
    assert np.array_equal(again[: len(texts)][::-1], vectors)


def test_meaning_and_name(encoder):
    dog, puppy, tax = encoder.encode(["a dog", "a puppy", "income tax law"])
    assert dog @ puppy > dog @ tax + 0.2
    assert encoder.name == "all-MiniLM-L6-v2@0.1.0"


def test_folder_that_is_no_encoder(tmp_path):
    with pytest.raises(InputError, match=f"'{tmp_path.name}' is no sentence encoder"):
        SentenceEncoder("x", tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        SentenceEncoder("x", tmp_path).encode(["a"])
    assert ". " not in str(caught.value)
