"""Block 0 of a model run on single tokens: the source representations of the method (section 1).

This module owns the one-layer model: transformers' own code, with one layer and that layer's weights only.
Nothing of the other layers is read or allocated, so a large model needs the memory of its embedding and one
block.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from describe.errors import InputError
from describe.protocols import TensorStore
from describe.subject.architectures import Config
from describe.subject.first_mlp import gated_first_mlp
from describe.subject.light_config import full_config
from describe.subject.weights import Layout, embedding, layout_of, read_tensor

State = Literal["entry", "exit", "mlp0"]
ALL_STATES: frozenset[State] = frozenset(("entry", "exit", "mlp0"))

# Masks and frequencies that old checkpoints carry along; transformers computes them, and half precision
# turned some into infinities.
_BUFFERS = re.compile(r"\.(?:attn|attention)\.(?:masked_)?bias$|\.inv_freq$")


@dataclass(frozen=True)
class Block0States:
    """Rows in the order of the token ids asked for, [n, d] each; None where not asked for.

    entry: what the model feeds to block 0 for the token alone at position 0 (embedding scale, norm and
        learned position included).
    exit: the residual stream after block 0 run on that one token, attention to itself.
    mlp0: MLP0(LN2(E)) of the token's row of W_E: no residual, no attention (MAPS, section 3.1).
    """

    entry: Tensor | None = None
    exit: Tensor | None = None
    mlp0: Tensor | None = None


def block0_states(
    config: Config,
    store: TensorStore,
    token_ids: Tensor | None = None,
    *,
    want: Collection[State] = ALL_STATES,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Block0States:
    """Run block 0 with the model's own code on single-token sequences.

    Args:
        config: transformers config of the whole model.
        store: its tensors; only the embedding's and block 0's are read.
        token_ids: [n] integers; None for the whole vocabulary.
        want: the states to compute; attention runs for `exit` only.
        device: where the block runs and the result lives.
        dtype: of the block and of the result.

    Raises:
        InputError: an unsupported architecture, a token id outside the vocabulary, or weights that are
            missing, misshapen or damaged.
    """
    layout = layout_of(config, store)
    n_vocab = layout.shape.n_vocab
    ids = torch.arange(n_vocab) if token_ids is None else token_ids.to("cpu", torch.long)
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < n_vocab:
        raise InputError(
            f"Token ids must lie between 0 and {n_vocab - 1}: got {int(ids.min())} to {int(ids.max())}."
        )
    wanted = frozenset(state for state in ALL_STATES if state in want)
    states = {
        state: torch.empty(len(ids), layout.shape.d_model, dtype=dtype, device=device) for state in wanted
    }
    # Activations of a block are some tens of rows' width each: this bounds them to about a hundred MB.
    batch = max(64, min(512, 2**21 // layout.shape.d_model))
    plain = None
    if wanted == {"mlp0"} and dtype == torch.float32 and torch.device(device).type == "cpu":
        plain = gated_first_mlp(layout, store)
    if plain is not None:
        table, out = embedding(config, store, dtype), states["mlp0"]
        for begin in range(0, len(ids), batch):
            part = slice(begin, begin + batch)
            out[part] = plain(table[ids[part]])
        return Block0States(mlp0=out)
    with one_layer(config, store, dtype, device) as (layout, model):
        for begin in range(0, len(ids), batch):
            part = slice(begin, begin + batch)
            for state, rows in _run(layout, model, ids[part].to(device), wanted).items():
                states[state][part] = rows
    return Block0States(**states)


@contextmanager
def one_layer(
    config: Config, store: TensorStore, dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[Layout, nn.Module]]:
    """The base model cut to block 0, quietly and without gradients for a while.

    Raises:
        InputError: its weights are missing, misshapen or damaged.
    """
    layout = layout_of(config, store)
    with _quiet(), torch.no_grad():
        yield layout, _one_layer_model(layout, store, dtype).to(device)


def run_tokens(layout: Layout, model: nn.Module, ids: Tensor, want: frozenset[State]) -> dict[State, Tensor]:
    """Entry and exit of block 0 for sequences of token ids [n, length]: [n, length, d] each."""
    with _captured(_module(layout, model, f"{layout.architecture.layers}.0"), want) as captured:
        # The mask is given so that a padding token's id is run as the token it is.
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return {state: rows.reshape(*ids.shape, -1) for state, rows in captured.items()}


def _run(layout: Layout, model: nn.Module, ids: Tensor, want: frozenset[State]) -> dict[State, Tensor]:
    """States of token ids [n], each [n, d]."""
    states: dict[State, Tensor] = {}
    if "mlp0" in want:
        states["mlp0"] = _first_mlp(layout, model, ids)
    if want & {"entry", "exit"}:
        states |= {state: rows[:, 0] for state, rows in run_tokens(layout, model, ids[:, None], want).items()}
    return states


def _module(layout: Layout, model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(f"{layout.architecture.trunk}{name}")


def _first_mlp(layout: Layout, model: nn.Module, ids: Tensor) -> Tensor:
    """MLP0(LN2(E)) of token ids [n] → [n, d]; E without the model's embedding scale, as the paper has it."""
    block = _module(layout, model, f"{layout.architecture.layers}.0")
    table = _module(layout, model, layout.architecture.embedding).weight
    assert isinstance(table, Tensor)
    rows = table[ids][:, None]  # [n, 1, d]: mixtures of experts want sequences
    modules = layout.architecture.mlp
    for name in modules if layout.architecture.mlp_norm is None else (layout.architecture.mlp_norm, *modules):
        rows = block.get_submodule(name)(rows)
        rows = rows[0] if isinstance(rows, tuple) else rows  # some return their routing beside it
    return rows.reshape(len(ids), -1)


class _Entered(Exception):
    """Stops a forward pass once the block's input is known."""


@contextmanager
def _captured(block: nn.Module, want: frozenset[State]) -> Iterator[dict[State, Tensor]]:
    """Capture the block's input and output during the forward passes inside the context."""
    states: dict[State, Tensor] = {}

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if "entry" in want:
            # A clone, since a model may add to its residual stream in place.
            states["entry"] = (args[0] if args else kwargs["hidden_states"]).clone()
        if "exit" not in want:
            raise _Entered

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 (tensor or tuple)
        states["exit"] = output[0] if isinstance(output, tuple) else output

    handles = [block.register_forward_pre_hook(before, with_kwargs=True)]
    if "exit" in want:
        handles.append(block.register_forward_hook(after))
    try:
        yield states
    except _Entered:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _one_layer_config(config: Config) -> Config:
    """A copy of the config with one layer: every list with one element per layer is cut to its first."""
    one, n_layers = copy.deepcopy(full_config(config)), config.num_hidden_layers
    for name, value in vars(one).items():
        # By length and not by name: layer_types, attention_layers, no_rope_layers, … and those to come.
        if isinstance(value, (list, tuple)) and len(value) == n_layers:
            vars(one)[name] = value[:1]
    one.num_hidden_layers = 1
    if hasattr(one, "quantization_config"):
        # The store hands out plain numbers, whatever the file holds.
        del one.quantization_config
    return one


def _block0_tensors(layout: Layout, store: TensorStore, dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors of the base model without its later layers, under the names of transformers' base class."""
    architecture = layout.architecture
    unread = re.compile(rf"{re.escape(architecture.layers)}\.(?!0\.)\d+\.")
    tensors = {}
    for name in store.names():
        local = name.removeprefix(layout.prefix)
        outside = not name.startswith(layout.prefix) or local in architecture.unembeddings
        if not (outside or unread.match(local) or _BUFFERS.search(name)):
            tensors[f"{architecture.trunk}{local}"] = read_tensor(store, name, None, dtype)
    return tensors


def _one_layer_model(layout: Layout, store: TensorStore, dtype: torch.dtype) -> nn.Module:
    """The base model with block 0 alone, its weights read from the store, in eval mode on the CPU."""
    import transformers

    one = _one_layer_config(layout.config)
    model_class: Any = transformers.MODEL_MAPPING[type(one)]
    tensors = _block0_tensors(layout, store, dtype)
    try:
        # Through from_pretrained and not load_state_dict, since transformers converts checkpoints on the
        # way in (experts are stored one by one and run fused).
        model, report = model_class.from_pretrained(
            None,
            config=one,
            state_dict=tensors,
            dtype=dtype,
            attn_implementation="eager",
            experts_implementation="eager",  # the fused kernels know no double precision
            output_loading_info=True,
        )
    except RuntimeError as error:
        raise InputError(
            f"The weights of block 0 do not fit the config ({str(error).splitlines()[0]}): "
            "the weights and config.json belong to different models."
        ) from error
    if report["missing_keys"]:
        missing = min(report["missing_keys"]).removeprefix(layout.architecture.trunk)
        raise InputError(
            f"The checkpoint holds no '{layout.prefix}{missing}': it is incomplete; download it again."
        )
    loaded: nn.Module = model.eval()
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off the terminal for a while."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
