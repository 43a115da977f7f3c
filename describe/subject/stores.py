"""Checkpoint files → tensors by name, lazily by mmap; and the config that says how they fit together."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from describe.cache import files_sha256
from describe.errors import InputError
from describe.protocols import TensorStore
from describe.subject.architectures import Config
from describe.subject.gguf_store import GgufStore, gguf_config
from describe.subject.sources import Checkpoint, brief

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["GgufStore", "SafetensorsStore", "load_config", "open_store"]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def open_store(checkpoint: Checkpoint) -> TensorStore:
    """The tensors of a checkpoint; raises InputError if its files are missing or damaged."""
    if checkpoint.gguf is not None:
        return GgufStore(checkpoint.gguf)
    return SafetensorsStore(_folder(checkpoint))


def load_config(checkpoint: Checkpoint) -> Config:
    """The model's config; code that a checkpoint brings along is never run.

    Raises:
        InputError: config.json is missing or damaged, or its model type is not one that transformers knows.
    """
    if checkpoint.gguf is not None:
        return gguf_config(checkpoint.gguf)
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    folder = _folder(checkpoint)
    values = _json_object(folder / "config.json", checkpoint.name)
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        custom = " and brings its own code, which is never run" if "auto_map" in values else ""
        raise InputError(
            f"'{checkpoint.name}' has the model type '{model_type}', which transformers does not "
            f"know{custom}: use a model of a known type, or a newer transformers."
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # config classes check their values each in its own way
        raise InputError(
            f"The config.json of '{checkpoint.name}' is not valid ({brief(error)}): check it."
        ) from error
    return config


def _folder(checkpoint: Checkpoint) -> Path:
    if checkpoint.folder is None:
        raise ValueError("a checkpoint has a folder or a GGUF file")
    return checkpoint.folder


def _json_object(path: Path, model: str) -> dict[str, Any]:
    """A JSON object in a file of a model's folder; anything else is an InputError that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"'{path.name}' of '{model}' cannot be read ({error.strerror}): restore it."
        ) from error
    except ValueError as error:
        raise InputError(f"'{path.name}' of '{model}' is not valid JSON: download it again.") from error
    if not isinstance(values, dict):
        raise InputError(f"'{path.name}' of '{model}' is not a JSON object: download it again.")
    return values


class SafetensorsStore:
    """A folder with one safetensors file, or an index and its shards, as a `TensorStore`."""

    def __init__(self, folder: Path) -> None:
        """Open every shard's header; no tensor is read.

        Raises:
            InputError: a file is missing or damaged, or the index names a tensor that its shard lacks.
        """
        self._folder = folder
        self._files = _tensor_files(folder)
        shards = sorted(set(self._files.values())) or [_single_file(folder)]
        held = {file: frozenset(self._open(file).keys()) for file in shards}
        self._shards = tuple(shards)
        if not self._files:  # one file without an index: it names its own tensors
            self._files = dict.fromkeys(held[shards[0]], shards[0])
        for name, file in self._files.items():
            if name not in held[file]:
                raise InputError(
                    f"The index of '{folder.name}' says that '{file}' holds '{name}', but it does not: "
                    "download the model again."
                )

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over sorted (file name, sha256 of the file)."""
        return files_sha256(self._folder, list(self._shards))

    def names(self) -> frozenset[str]:
        """Every tensor name; a tied `lm_head.weight` is usually absent."""
        return frozenset(self._files)

    def read(self, name: str) -> Tensor:
        """One tensor in the dtype it is stored in, which is float32, float16, bfloat16 or float64.

        Raises:
            InputError: no such tensor, it is damaged, or it holds a quantised model's integers.
        """
        file = self._files.get(name)
        if file is None:
            raise InputError(f"'{self._folder.name}' has no tensor '{name}': check that it is complete.")
        try:
            # The file is opened for each tensor, since while it is open every page once read stays in memory.
            tensor: Tensor = self._open(file).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"Tensor '{name}' in '{file}' is damaged: download the file again.") from error
        if tensor.dtype not in _FLOATS:
            raise InputError(
                f"Tensor '{name}' of '{self._folder.name}' is stored as {tensor.dtype}, not as plain "
                "floating point: use an unquantised copy of the model, or a GGUF file."
            )
        return tensor

    def _open(self, file: str) -> Any:  # noqa: ANN401  # safe_open has no public type
        path = self._folder / file
        if not path.is_file():
            raise InputError(
                f"'{self._folder.name}' lacks the weight file '{file}': download the model again."
            )
        try:
            return safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"'{file}' is cut off or damaged ({brief(error)}): download it again."
            ) from error


def _tensor_files(folder: Path) -> dict[str, str]:
    """Tensor name → shard, from the index; empty without one."""
    path = folder / _INDEX
    if not path.is_file():
        return {}
    files = _json_object(path, folder.name).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise InputError(f"'{_INDEX}' of '{folder.name}' has no weight_map: download it again.")
    for file in files.values():
        if not isinstance(file, str) or Path(file).name != file:  # an index must not lead out of its folder
            raise InputError(f"'{_INDEX}' of '{folder.name}' names the file '{file}': download it again.")
    return files


def _single_file(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    if _SINGLE in found:
        return _SINGLE
    if len(found) != 1:
        what = "several safetensors files and no index" if found else "no safetensors file"
        raise InputError(f"'{folder.name}' has {what}: give a folder with '{_SINGLE}' or '{_INDEX}'.")
    return found[0]
