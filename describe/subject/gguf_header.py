"""What a GGUF file says before its tensors: metadata and the tensor table, read by mmap in one walk.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
The gguf package's own GGUFReader makes an array object of every string, which takes 14 s for a vocabulary of
262,144 tokens; this walk takes a fraction of a second, and it says in one sentence what is wrong with a file.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from describe.errors import InputError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_DIMS = 4  # GGML_MAX_DIMS
_ALIGNMENT = 32  # bytes, unless general.alignment says otherwise


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in the file and how it is stored."""

    name: str  # llama.cpp's name, such as blk.0.attn_v.weight
    shape: tuple[int, ...]  # in torch's order
    ggml_type: int
    start: int  # bytes from the start of the file
    n_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (arrays as lists) and the tensor table by name."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as llama or gemma3."""
        return str(self.metadata["general.architecture"])


def read_header(path: Path, arrays: bool = True) -> GgufHeader:
    """Read the header of a GGUF file.

    Args:
        path: the file.
        arrays: whether to keep the metadata's lists, which hold the vocabulary and are most of the header.

    Raises:
        InputError: the file is missing, empty, truncated, not GGUF, of another version, or holds a tensor
            of an unknown type.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as blob:
            return _Walk(blob, path.name, arrays).header()
    except ValueError as error:  # mmap refuses an empty file
        raise InputError(f"'{path.name}' is empty: download it again.") from error
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be read ({error.strerror}): check the path.") from error


class _Walk:
    """A position that moves through the mapped file."""

    def __init__(self, blob: mmap.mmap, name: str, arrays: bool) -> None:
        self._blob = blob
        self._arrays = arrays
        self._name = name
        self._at = 0

    def header(self) -> GgufHeader:
        if self._blob[:4] != _MAGIC:
            raise InputError(f"'{self._name}' is no GGUF file: its first four bytes are not GGUF.")
        try:
            self._at = 4
            (version,) = self._take("I")
            if version not in _VERSIONS:
                raise InputError(
                    f"'{self._name}' is GGUF version {version} or big-endian: only little-endian versions 2 "
                    "and 3 are read, so convert it with a current llama.cpp."
                )
            n_tensors, n_fields = self._take("QQ")
            metadata = {}
            for _ in range(n_fields):
                key = self._string()
                value = self._value(*self._take("I"))
                if self._arrays or not isinstance(value, list):
                    metadata[key] = value
            table = [self._table_row() for _ in range(n_tensors)]
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            raise InputError(
                f"The header of '{self._name}' is cut off or damaged: download it again."
            ) from error
        if not isinstance(metadata.get("general.architecture"), str):
            raise InputError(f"'{self._name}' does not name its architecture: convert the model again.")
        return GgufHeader(metadata, self._entries(table, int(metadata.get("general.alignment", _ALIGNMENT))))

    def _take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._blob, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def _string(self) -> str:
        (length,) = struct.unpack_from("<Q", self._blob, self._at)
        start = self._at + 8
        self._at = start + length
        if self._at > len(self._blob):
            raise IndexError(self._at)
        return self._blob[start : self._at].decode("utf-8")

    def _skip_strings(self, count: int) -> list[str]:
        """Move behind `count` strings without reading them."""
        at, length_at = self._at, struct.Struct("<Q").unpack_from
        for _ in range(count):
            at += 8 + length_at(self._blob, at)[0]
        if at > len(self._blob):
            raise IndexError(at)
        self._at = at
        return []

    def _value(self, kind: int) -> Any:  # noqa: ANN401  # a metadata value is of any type
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])[0]
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            element, count = self._take("IQ")
            if count > len(self._blob):  # a damaged count would ask for all memory
                raise IndexError(count)
            if element in _SCALARS:
                return list(self._take(f"{count}{_SCALARS[element]}"))
            if element == _STRING and not self._arrays:
                return self._skip_strings(count)
            return [self._value(element) for _ in range(count)]
        raise IndexError(kind)

    def _table_row(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (n_dims,) = self._take("I")
        if n_dims > _MAX_DIMS:
            raise IndexError(n_dims)
        shape = tuple(reversed(self._take(f"{n_dims}Q")))  # ggml counts the fastest dimension first
        ggml_type, offset = self._take("IQ")
        return name, shape, ggml_type, offset

    def _entries(
        self, table: list[tuple[str, tuple[int, ...], int, int]], alignment: int
    ) -> dict[str, TensorEntry]:
        """The table with places in the file, each checked against the file's length."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        data = -(-self._at // alignment) * alignment
        entries = {}
        for name, shape, ggml_type, offset in table:
            try:
                block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(ggml_type)]
            except (ValueError, KeyError) as error:
                raise InputError(
                    f"Tensor '{name}' of '{self._name}' has quantisation type {ggml_type}, which is unknown: "
                    "convert the model to a common type such as Q8_0."
                ) from error
            n_bytes = prod(shape) // block * block_bytes
            if data + offset + n_bytes > len(self._blob):
                raise InputError(
                    f"'{self._name}' is cut off: tensor '{name}' ends behind the end of the file, so "
                    "download it again."
                )
            entries[name] = TensorEntry(name, shape, ggml_type, data + offset, n_bytes)
        return entries
