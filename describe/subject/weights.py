"""From a checkpoint's named tensors to the matrices that the core works on; reads only what is asked for.

This module owns the reading: names come from the architecture table, tensors from a TensorStore, and each
tensor is checked for its shape and for NaN or infinity before anyone computes with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.errors import InputError
from describe.protocols import TensorStore
from describe.records import ModelShape
from describe.subject.architectures import Architecture, Config, NormSpec, architecture_of, text_config


@dataclass(frozen=True)
class Layout:
    """A model's table entry with its sizes and the prefix of the base model's names in this checkpoint."""

    architecture: Architecture
    config: Config  # of the language model
    prefix: str
    shape: ModelShape

    def in_layer(self, layer: int, name: str) -> str:
        """Full name of a layer's tensor or module, such as `model.layers.0.self_attn.v_proj`."""
        return f"{self.prefix}{self.architecture.layers}.{layer}.{name}"


def layout_of(config: Config, store: TensorStore) -> Layout:
    """Find where a checkpoint keeps its parts.

    Raises:
        InputError: the architecture is not supported, or the checkpoint has no embedding matrix where
            the architecture keeps it.
    """
    architecture, text = architecture_of(config), text_config(config)
    shape = ModelShape(
        n_layers=text.num_hidden_layers,
        n_heads=text.num_attention_heads,
        n_kv_heads=architecture.n_kv_heads(text),
        d_model=text.hidden_size,
        d_head=architecture.d_head(text),
        n_vocab=text.vocab_size,
    )
    names = store.names()
    for prefix in architecture.prefixes:
        if f"{prefix}{architecture.embedding}.weight" in names:
            return Layout(architecture, text, prefix, shape)
    raise InputError(
        f"The checkpoint holds no '{architecture.prefixes[0]}{architecture.embedding}.weight': "
        f"it is incomplete, or its config.json (model type {text.model_type}) belongs to another model."
    )


def read_tensor(store: TensorStore, name: str, shape: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor:
    """One tensor, checked.

    Args:
        store: the checkpoint.
        name: Hugging Face name.
        shape: what the config says, or None where transformers checks it itself.
        dtype: of the result.

    Raises:
        InputError: missing, of another shape, or holding NaN or infinity.
    """
    if name not in store.names():
        raise _missing(store, name)
    tensor = store.read(name)
    if shape is not None and tuple(tensor.shape) != shape:
        raise InputError(
            f"Tensor '{name}' has shape {tuple(tensor.shape)} where the config says {shape}: "
            "the weights and config.json belong to different models."
        )
    tensor = tensor.to(dtype)
    # A finite sum has finite terms, and is many times faster to get; a sum may overflow, so look twice.
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        kind = "NaN" if torch.isnan(tensor).any() else "infinity"
        raise InputError(f"Tensor '{name}' contains {kind}: the file is damaged; download it again.")
    return tensor


def _missing(store: TensorStore, name: str) -> InputError:
    """The error for an absent tensor; packed formats (GPTQ, AWQ, …) keep others under the module's name."""
    stem = name.removesuffix("weight")
    packed = sorted(n for n in store.names() if n.startswith(stem) and n != f"{stem}bias")
    if packed:
        return InputError(
            f"The checkpoint holds {packed[0]} in place of '{name}', a quantisation that is not read here: "
            "use the unquantised or a GGUF checkpoint."
        )
    return InputError(f"The checkpoint holds no '{name}': it is incomplete; download it again.")


def _optional(store: TensorStore, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """A bias, which the architecture may or may not have: present means used, in every supported model."""
    return read_tensor(store, name, shape, dtype) if name in store.names() else None


def _norm(
    layout: Layout, store: TensorStore, spec: NormSpec, name: str, size: int, dtype: torch.dtype
) -> Norm:
    eps = spec.eps if isinstance(spec.eps, float) else float(getattr(layout.config, spec.eps))
    if not spec.learnt:
        return Norm(spec.kind, None, None, eps)
    gain = read_tensor(store, f"{name}.weight", (size,), dtype) + spec.gain_offset
    return Norm(spec.kind, gain, _optional(store, f"{name}.bias", (size,), dtype), eps)


def _layer_norm(
    layout: Layout, store: TensorStore, spec: NormSpec | None, layer: int, size: int, dtype: torch.dtype
) -> Norm | None:
    if spec is None:
        return None
    return _norm(layout, store, spec, layout.in_layer(layer, spec.name), size, dtype)


def mlp_norm(layout: Layout, store: TensorStore, layer: int, dtype: torch.dtype = torch.float32) -> Norm:
    """The norm before a layer's MLP, an RMS norm with the gain and eps of the layer's other norms.

    Raises:
        InputError: missing, misshapen or damaged.
    """
    like, name = layout.architecture.input_norm, layout.architecture.mlp_norm
    if like is None or name is None:
        return Norm("none", None, None, 0.0)
    return _norm(layout, store, like, layout.in_layer(layer, name), layout.shape.d_model, dtype)


def _value_rows(layout: Layout) -> int:
    """Rows of the projection that holds W_V, for each layout of the table."""
    shape, config = layout.shape, layout.config
    if layout.architecture.layout == "separate":
        return shape.n_kv_heads * shape.d_head
    if layout.architecture.layout == "latent":
        return shape.n_heads * int(config.qk_nope_head_dim + shape.d_head)
    return (shape.n_heads + 2 * shape.n_kv_heads) * shape.d_head


def _values_by_head(layout: Layout, rows: Tensor) -> Tensor:
    """Rows [r, …] of the projection that holds W_V → the value rows by KV head [n_kv_heads, d_head, …]."""
    shape = layout.shape
    if layout.architecture.layout == "blocks":
        rows = rows[-shape.n_kv_heads * shape.d_head :]
    return rows.reshape(shape.n_kv_heads, -1, *rows.shape[1:])[:, -shape.d_head :]


def layer_circuits(
    config: Config, store: TensorStore, layer: int, dtype: torch.dtype = torch.float32
) -> LayerCircuits:
    """Read the OV circuits of one layer.

    Args:
        config: transformers config of the model.
        store: its tensors.
        layer: from 0.
        dtype: of every tensor of the result; float64 for checks.

    Returns:
        W_V [n_kv_heads, d or rank, d_head], W_O [n_heads, d_head, d], biases and norms, on the CPU.

    Raises:
        InputError: no such layer, an unsupported architecture, or a missing, misshapen or damaged tensor.
    """
    layout = layout_of(config, store)
    shape, architecture = layout.shape, layout.architecture
    if not 0 <= layer < shape.n_layers:
        raise InputError(f"Layer {layer} does not exist: the model has layers 0 to {shape.n_layers - 1}.")
    d, n_written, n_rows = shape.d_model, shape.n_heads * shape.d_head, _value_rows(layout)
    W_down, width = None, d
    if architecture.down is not None:
        # The latent projection's remaining rows are the shared rotary key, which carries no value.
        width, n_rotary = layout.config.kv_lora_rank, layout.config.qk_rope_head_dim
        name = layout.in_layer(layer, architecture.down)
        W_down = read_tensor(store, f"{name}.weight", (width + n_rotary, d), dtype)[:width].T

    values, output = layout.in_layer(layer, architecture.values), layout.in_layer(layer, architecture.output)

    def linear(name: str, n_out: int, n_in: int) -> Tensor:
        stored = (n_in, n_out) if architecture.transposed else (n_out, n_in)
        weight = read_tensor(store, f"{name}.weight", stored, dtype)
        return weight.T if architecture.transposed else weight

    value_bias = _optional(store, f"{values}.bias", (n_rows,), dtype)
    input_norm = _layer_norm(layout, store, architecture.input_norm, layer, d, dtype)
    return LayerCircuits(
        W_V=_values_by_head(layout, linear(values, n_rows, width)).transpose(1, 2).contiguous(),
        W_O=linear(output, d, n_written).T.reshape(shape.n_heads, shape.d_head, d),
        b_V=None if value_bias is None else _values_by_head(layout, value_bias).contiguous(),
        b_O=_optional(store, f"{output}.bias", (d,), dtype),
        input_norm=input_norm or Norm("none", None, None, 0.0),
        W_down=W_down,
        down_norm=_layer_norm(layout, store, architecture.down_norm, layer, width, dtype),
        post_norm=_layer_norm(layout, store, architecture.post_norm, layer, d, dtype),
    )


def embedding(config: Config, store: TensorStore, dtype: torch.dtype = torch.float32) -> Tensor:
    """W_E [V, d], as stored: without the constant that some models multiply it by (Gemma, Granite).

    Raises:
        InputError: missing, misshapen or damaged.
    """
    layout = layout_of(config, store)
    name = f"{layout.prefix}{layout.architecture.embedding}.weight"
    return read_tensor(store, name, (layout.shape.n_vocab, layout.shape.d_model), dtype)


def unembedding_name(config: Config, store: TensorStore) -> str | None:
    """The tensor that holds the unembedding; None where W_E serves for it.

    A tensor of its own wins over `tie_word_embeddings`, as in transformers 5.

    Raises:
        InputError: there is none, though the config does not tie it to W_E.
    """
    layout, names = layout_of(config, store), store.names()
    # The head stands beside the base model: `language_model.lm_head` beside `language_model.model`.
    for name in (f"{o}{n}" for o in ("", "language_model.") for n in layout.architecture.unembeddings):
        if name in names:
            return name
    if config.tie_word_embeddings or layout.config.tie_word_embeddings:
        return None
    raise InputError(
        f"The checkpoint holds no unembedding ('{layout.architecture.unembeddings[0]}') and its config does "
        "not tie it to the embedding: use a checkpoint of the whole language model, not of its base alone."
    )


def unembedding(config: Config, store: TensorStore, dtype: torch.dtype = torch.float32) -> Tensor:
    """The unembedding by rows [V, d], which is W_U transposed; W_E where the model ties them.

    A bias on the logits (GPT-J, Phi) is not part of any head's map and is left out, as are the constants
    of `logit_scale`.

    Raises:
        InputError: missing though the config does not tie it to W_E, misshapen or damaged.
    """
    name = unembedding_name(config, store)
    if name is None:
        return embedding(config, store, dtype)
    shape = layout_of(config, store).shape
    return read_tensor(store, name, (shape.n_vocab, shape.d_model), dtype)


def unembedding_bias(config: Config, store: TensorStore, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """What is added to the logits [V] (GPT-J, Phi), or None."""
    name = unembedding_name(config, store)
    if name is None or not name.endswith(".weight"):
        return None
    shape = layout_of(config, store).shape
    return _optional(store, f"{name.removesuffix('.weight')}.bias", (shape.n_vocab,), dtype)


def final_norm(config: Config, store: TensorStore, dtype: torch.dtype = torch.float32) -> Norm:
    """The norm between the last block and the unembedding.

    Raises:
        InputError: missing, misshapen or damaged.
    """
    layout = layout_of(config, store)
    spec = layout.architecture.final_norm
    return _norm(layout, store, spec, f"{layout.prefix}{spec.name}", layout.shape.d_model, dtype)


def logit_scale(config: Config) -> float:
    """What multiplies final_norm(x) W_U to give the logits (Cohere, Granite), else 1."""
    entry, text = architecture_of(config), text_config(config)
    times = 1.0 if entry.logit_multiplier is None else float(getattr(text, entry.logit_multiplier))
    return times if entry.logit_divisor is None else times / float(getattr(text, entry.logit_divisor))


def residual_scale(config: Config) -> float:
    """What multiplies a block's output before it is added to the residual stream (Granite), else 1."""
    name = architecture_of(config).residual_multiplier
    return 1.0 if name is None else float(getattr(text_config(config), name))


def model_shape(config: Config, store: TensorStore) -> ModelShape:
    """Sizes of the model, after a look whether the checkpoint names the attention of every layer.

    Raises:
        InputError: an unsupported architecture, or a checkpoint that lacks a layer.
    """
    layout = layout_of(config, store)
    names, shape = store.names(), layout.shape
    for layer in range(shape.n_layers):
        for part in (layout.architecture.values, layout.architecture.output):
            name = f"{layout.in_layer(layer, part)}.weight"
            if name not in names:
                raise _missing(store, name)
    return shape
