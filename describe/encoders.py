"""Sentence encoders: the packaged MiniLM, offline, on the CPU, the same vectors at every run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from describe.errors import InputError
from describe.packaged import MINILM, Progress, unpacked

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SentenceEncoder:
    """A sentence-transformers model from a local folder; the library is loaded at the first `encode`."""

    def __init__(self, name: str, folder: Path, *, batch_size: int = 64) -> None:
        """Take a folder as sentence-transformers writes it.

        Args:
            name: what the encoder is called in the catalogue, with its version.
            folder: holds modules.json.
            batch_size: texts encoded at a time; fixed, because it can change the last bits of a vector.

        Raises:
            InputError: the folder is not one of sentence-transformers.
        """
        if not (folder / "modules.json").is_file():
            raise InputError(f"'{folder.name}' is no sentence encoder: give a folder with a modules.json.")
        self._name = name
        self._folder = folder
        self._batch_size = batch_size
        self._model: SentenceTransformer | None = None

    @property
    def name(self) -> str:
        """What it is called in the catalogue, with its version."""
        return self._name

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-length vectors [len(texts), dim], float32; the same set of texts gives the same bits.

        Raises:
            InputError: the folder's files are damaged.
        """
        model = self._loaded()
        # Padding to the longest text of a batch changes last bits: unique texts in sorted order make a
        # vector depend on the set of texts alone, not on their order or repetition.
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        place = {text: index for index, text in enumerate(unique)}
        if not unique:
            return np.zeros((0, int(model.get_embedding_dimension() or 0)), dtype=np.float32)
        vectors = model.encode(
            unique,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        rows: np.ndarray = np.asarray(vectors, dtype=np.float32)[[place[text] for text in texts]]
        return rows

    def _loaded(self) -> SentenceTransformer:
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            try:
                with contextlib.redirect_stderr(
                    io.StringIO()
                ):  # it draws a progress bar that cannot be turned off
                    self._model = SentenceTransformer(
                        str(self._folder), device="cpu", local_files_only=True, trust_remote_code=False
                    )
            except Exception as error:  # the library passes on errors of four others
                raise InputError(
                    f"The sentence encoder '{self._folder.name}' cannot be loaded ({type(error).__name__}): "
                    "delete the folder so that it is fetched again."
                ) from error
            self._model.eval()
        return self._model


class MiniLM(SentenceEncoder):
    """all-MiniLM-L6-v2 (384 dimensions), fetched from the package index at first use."""

    def __init__(self, *, cache_dir: Path | None = None, progress: Progress | None = None) -> None:
        """Fetch it if needed; raises InputError if that fails."""
        folder = self.folder(cache_dir=cache_dir, progress=progress)
        super().__init__(f"{MINILM.label}@{MINILM.version}", folder)

    @staticmethod
    def folder(*, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
        """Where its files are, fetched first if needed."""
        return unpacked(MINILM, cache_dir=cache_dir, progress=progress)
