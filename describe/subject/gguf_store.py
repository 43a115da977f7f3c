"""Tensors of a GGUF file under Hugging Face names, dequantised one at a time; and its config.

llama.cpp renames tensors and changes some when it converts a model; what is undone here, per architecture, is
what transformers undoes (its `modeling_gguf_pytorch_utils`), and the tests hold the two against each other.
An architecture that is not in the table was not checked, and is refused.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from describe.cache import file_sha256
from describe.errors import InputError
from describe.subject.architectures import Config
from describe.subject.gguf_header import GgufHeader, TensorEntry, read_header
from describe.subject.light_config import LightConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_IGNORED = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_rot_embd\.weight")  # derived, no parameters
_CHUNK = 2**17  # values dequantised at a time
_WORTH_THREADS = 64  # chunks of a tensor from which threads pay: embedding matrices and no others
_BLOCK = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>\w+)\.(?P<kind>weight|bias)")


@dataclass(frozen=True)
class _Family:
    """How one architecture's tensors are named in GGUF and in transformers, and what conversion changed."""

    top: dict[str, str]
    layer: dict[str, str]
    layers: str = "model.layers"
    permuted: bool = False  # rows of W_Q and W_K were interleaved for llama.cpp's rotary embedding
    norm_offset: bool = False  # 1 was added to the gains, which transformers adds at run time
    transposed: frozenset[str] = field(default_factory=frozenset)  # GPT-2's Conv1D keeps [in, out]


_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_DECODER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SANDWICH = _DECODER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GPT2_TOP = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}
_GPT2 = {
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
_FAMILIES = {
    "llama": _Family(_TOP, _DECODER, permuted=True),
    "qwen2": _Family(_TOP, _DECODER),
    "qwen3": _Family(_TOP, _DECODER),
    "gemma2": _Family(_TOP, _SANDWICH, norm_offset=True),
    "gemma3": _Family(_TOP, _SANDWICH, norm_offset=True),
    "gpt2": _Family(
        _GPT2_TOP,
        _GPT2,
        layers="transformer.h",
        transposed=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
    ),
}


class GgufStore:
    """A GGUF file as a `TensorStore`: every tensor float32, in transformers' names and layout."""

    def __init__(self, path: Path) -> None:
        """Read the header; no tensor is touched.

        Raises:
            InputError: the file is damaged, or its architecture or a tensor of it was not checked.
        """
        self._path = path
        self._header = read_header(path, arrays=False)
        self._family = _family(self._header, path)
        self._entries = {
            name: entry
            for entry in self._header.tensors.values()
            if (name := self._hf_name(entry)) is not None
        }
        self._alive: WeakValueDictionary[str, Tensor] = WeakValueDictionary()

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the file."""
        return file_sha256(self._path)

    def names(self) -> frozenset[str]:
        """Every tensor in transformers' name; a tied `lm_head.weight` is absent, as in safetensors."""
        return frozenset(self._entries)

    def read(self, name: str) -> Tensor:
        """One tensor, dequantised to float32.

        While an earlier answer is in use it is given again, so that an embedding matrix that serves as the
        unembedding and in block 0 is in memory once: do not write into it.

        Raises:
            InputError: no such tensor, or its quantisation cannot be undone.
        """
        alive = self._alive.get(name)
        if alive is not None:
            return alive
        entry = self._entries.get(name)
        if entry is None:
            raise InputError(f"'{self._path.name}' has no tensor '{name}': check that the file is complete.")
        values = self._dequantised(entry)
        part = entry.name.split(".")[-2]
        if self._family.permuted and part in ("attn_q", "attn_k"):
            values = self._unpermuted(values, part)
        if self._family.norm_offset and part.endswith("norm"):
            values = values - 1
        if part in self._family.transposed and entry.name.endswith("weight"):
            values = values.T
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        self._alive[name] = tensor
        return tensor

    def _hf_name(self, entry: TensorEntry) -> str | None:
        """A tensor's name in transformers; None for what is no parameter."""
        if _IGNORED.fullmatch(entry.name):
            return None
        block = _BLOCK.fullmatch(entry.name)
        if block is not None and block["part"] in self._family.layer:
            return (
                f"{self._family.layers}.{block['layer']}.{self._family.layer[block['part']]}.{block['kind']}"
            )
        part, _, kind = entry.name.rpartition(".")
        if part in self._family.top:
            return f"{self._family.top[part]}.{kind}"
        raise InputError(
            f"'{self._path.name}' has the tensor '{entry.name}', which its architecture "
            f"'{self._header.architecture}' does not have here: use the model's safetensors."
        )

    def _dequantised(self, entry: TensorEntry) -> np.ndarray:
        """The values [*entry.shape], float32, a fresh array.

        Row by some rows: the gguf package makes several copies on the way, of which an embedding matrix would
        need gigabytes, and which run faster where they fit into the processor's cache.
        """
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType(entry.ggml_type)
        raw = np.memmap(self._path, np.uint8, "r", entry.start, (entry.n_bytes,))
        values = np.empty(entry.shape, np.float32)
        if kind == GGMLQuantizationType.F32:
            values[...] = raw.view(np.float32).reshape(entry.shape)
            return values
        rows, out = raw.reshape(prod(entry.shape[:-1]), -1), values.reshape(-1, entry.shape[-1])
        step = max(1, _CHUNK // entry.shape[-1])

        def fill(begin: int) -> None:
            out[begin : begin + step] = dequantize(rows[begin : begin + step], kind)

        try:
            begins = range(0, len(rows), step)
            if len(begins) < _WORTH_THREADS or torch.get_num_threads() == 1:
                for begin in begins:
                    fill(begin)
            else:
                with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                    list(pool.map(fill, begins))
        except NotImplementedError as error:
            raise InputError(
                f"Tensor '{entry.name}' of '{self._path.name}' is quantised as {kind.name}, which cannot be "
                "undone: convert the model to a common type such as Q8_0."
            ) from error
        return values

    def _unpermuted(self, rows: np.ndarray, part: str) -> np.ndarray:
        """W_Q or W_K (or its bias) with each head's rows as [first half, second half] again."""
        metadata = self._header.metadata
        n_heads = int(metadata["llama.attention.head_count"])
        if part == "attn_k":
            n_heads = int(metadata.get("llama.attention.head_count_kv", n_heads))
        pairs = rows.reshape(n_heads, rows.shape[0] // n_heads // 2, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)


def _family(header: GgufHeader, path: Path) -> _Family:
    if header.architecture not in _FAMILIES:
        raise InputError(
            f"'{path.name}' has the GGUF architecture '{header.architecture}', which is not read: use the "
            f"model's safetensors, or one of {', '.join(_FAMILIES)}."
        )
    return _FAMILIES[header.architecture]


# What the metadata of a llama file says, under the names of LlamaConfig.
_LLAMA_SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}


def gguf_config(path: Path) -> Config:
    """The transformers config that a GGUF file's metadata amounts to; only the header is read.

    For a plain llama file it is a `LightConfig`, which needs no transformers for what the metadata states.

    Raises:
        InputError: the file is damaged, of an architecture that is not read, or lacks a size.
    """
    header = read_header(path, arrays=False)
    _family(header, path)
    known = _light_answers(header) if header.architecture == "llama" else None
    return _full_config(path) if known is None else LightConfig(known, partial(_full_config, path))


def _light_answers(header: GgufHeader) -> dict[str, object] | None:
    """What LlamaConfig would answer, as far as the file says it; None if it lacks a size or they look wrong."""
    metadata = {key.removeprefix("llama."): value for key, value in header.metadata.items()}
    known: dict[str, Any] = {name: metadata.get(key) for name, key in _LLAMA_SIZES.items()}
    known["head_dim"] = metadata.get("attention.key_length", metadata.get("rope.dimension_count"))
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or not all(isinstance(size, (int, float)) and size > 0 for size in known.values()):
        return None
    if known["hidden_size"] % known["num_attention_heads"]:  # transformers refuses it, in its own words
        return None
    return known | {
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": embedding.shape[0],
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }


def _full_config(path: Path) -> PreTrainedConfig:
    from transformers import AutoConfig
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    header = read_header(path)
    names: dict[str, dict[str, Any]] = GGUF_CONFIG_MAPPING  # type: ignore[assignment]  # inferred as object
    values: dict[str, Any] = {"tie_word_embeddings": "output.weight" not in header.tensors}
    for key, value in header.metadata.items():
        prefix, _, rest = key.partition(".")
        renamed = names.get(prefix, {}).get(rest)
        if renamed is not None and renamed != -1:
            values[renamed] = value
    if "token_embd.weight" in header.tensors:
        values["vocab_size"] = header.tensors["token_embd.weight"].shape[0]
    key_length = header.metadata.get(f"{header.architecture}.attention.key_length")
    if key_length is not None and header.architecture in ("llama", "qwen3"):  # transformers would assume 128
        values["head_dim"] = key_length
    if "position_embd.weight" in header.tensors:  # transformers would assume GPT-2's own 1,024
        values["n_positions"] = header.tensors["position_embd.weight"].shape[0]
    model_type = values.pop("model_type")
    values.pop("_model_name_or_path", None)  # the file's title, not a name of ours
    try:
        config = AutoConfig.for_model("gemma3_text" if model_type == "gemma3" else model_type, **values)
    except Exception as error:  # config classes check their values each in its own way
        raise InputError(
            f"The sizes in the metadata of '{path.name}' contradict each other ({type(error).__name__}): "
            "convert the model again."
        ) from error
    return config
