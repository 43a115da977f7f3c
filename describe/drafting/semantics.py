"""Relatedness of meaning between tokens, from the vectors of a sentence encoder.

MiniLM places word pieces by their spelling (measured), so only whole words count, and words that begin alike
are left to the spelling and inflection operations: what remains is meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MIN_LETTERS = 4
SHARED_PREFIX = 3
CHANCE = 0.005
"""Share of random word pairs that may count as related; the cosine threshold follows from it."""

Vectors = NDArray[np.float32]


def is_word(text: str) -> bool:
    """A whole word: a leading space or a capital, then at least four letters."""
    word = text.strip()
    return len(word) >= MIN_LETTERS and word.isalpha() and (text[:1] == " " or word[:1].isupper())


class SemanticField:
    """Decides whether two tokens are related in meaning without being forms of one word."""

    name = "same_semantic_field"

    def __init__(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], Vectors], seed: int = 0
    ) -> None:
        """Encode the words among `texts` once and calibrate the threshold on random pairs of them."""
        words = sorted({text.strip().casefold() for text in texts if is_word(text)})
        self._row = {word: row for row, word in enumerate(words)}
        self._prefix = np.array([word[:SHARED_PREFIX] for word in words])
        self._vectors = encode(words) if words else np.zeros((0, 1), dtype=np.float32)
        self.threshold = self._calibrate(seed)

    def _calibrate(self, seed: int) -> float:
        if len(self._vectors) < 100:
            return 1.0
        generator = np.random.default_rng(seed)
        pairs = generator.integers(len(self._vectors), size=(2, 200_000))
        pairs = pairs[:, self._prefix[pairs[0]] != self._prefix[pairs[1]]]
        if not pairs.size:
            return 1.0
        cosines = np.einsum("ij,ij->i", self._vectors[pairs[0]], self._vectors[pairs[1]])
        return float(np.quantile(cosines, 1 - CHANCE))

    def hits(self, sources: Sequence[str], targets: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each source [n] and target [m] are related: [n, m]."""
        out = np.zeros((len(sources), len(targets)), dtype=bool)
        s_at, s_rows = self._rows(sources)
        t_at, t_rows = self._rows(targets)
        if len(s_at) and len(t_at):
            related = self._vectors[s_rows] @ self._vectors[t_rows].T >= self.threshold
            related &= self._prefix[s_rows][:, None] != self._prefix[t_rows][None, :]
            out[np.ix_(s_at, t_at)] = related
        return out

    def _rows(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        found = [
            (at, self._row[text.strip().casefold()])
            for at, text in enumerate(texts)
            if is_word(text) and text.strip().casefold() in self._row
        ]
        pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
