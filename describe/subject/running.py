"""The live model: transformers' own code for the whole stack, read from the subject's tensors, and taps on it.

This module owns forward passes and hooks. A hook lives as long as its context manager; whatever happens inside,
the model is as it was afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from describe.errors import InputError
from describe.subject import weights
from describe.subject.architectures import text_config
from describe.subject.light_config import full_config

if TYPE_CHECKING:
    from describe.subject.model import SubjectWeights

States = Callable[[int, Tensor], None]
"""Told (layer, residual stream [b, t, d] that the layer's block reads)."""
HeadOutputs = Callable[[int, Tensor], Tensor | None]
"""Told (layer, z [b, t, n_heads, d_head]: what each head hands to W_O); what it returns takes z's place."""


@dataclass(frozen=True)
class LayerTrace:
    """What one layer's attention read and did: states [b, t, d], attention [b, h, t, t], output [b, t, d]."""

    states: Tensor
    attention: Tensor
    output: Tensor


@dataclass(frozen=True)
class Kept:
    """What the model keeps of all tokens of prompts [b, t] but the last: their keys and values."""

    n_tokens: int  # t - 1
    cache: Any  # transformers' cache


class LiveModel:
    """The whole base model in transformers' own code; eager attention, so that its patterns can be read.

    Args:
        subject: the model under study; its tensors are read once.
        dtype: of weights and activations.
        device: where to run.

    Raises:
        InputError: the checkpoint lacks a tensor.
    """

    def __init__(
        self,
        subject: SubjectWeights,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        import transformers

        self._subject = subject
        self._layout = weights.layout_of(subject.config, subject.store)
        architecture = self._layout.architecture
        tensors = {}
        for name in sorted(subject.store.names()):
            local = name.removeprefix(self._layout.prefix)
            if name.startswith(self._layout.prefix) and local not in architecture.unembeddings:
                tensors[f"{architecture.trunk}{local}"] = weights.read_tensor(
                    subject.store, name, None, dtype
                )
        config = full_config(text_config(subject.config))
        model_class: Any = transformers.MODEL_MAPPING[type(config)]
        with without_bars():
            model, report = model_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                attn_implementation="eager",
                experts_implementation="eager",  # as block 0 is run: the fused kernels know no double precision
                output_loading_info=True,
            )
        if report["missing_keys"]:
            raise InputError(
                f"The checkpoint holds no '{min(report['missing_keys'])}': it is incomplete; download it again."
            )
        self.module: nn.Module = model.eval().to(device)
        self._config, self.device, self._dtype = config, torch.device(device), dtype

    def hidden(self, token_ids: Tensor) -> Tensor:
        """What the final norm gives for sequences [b, t] of one length: [b, t, d]."""
        hidden: Tensor = self._forward(token_ids).last_hidden_state
        return hidden

    def keep(self, token_ids: Tensor) -> Kept:
        """Run all but the last token of prompts [b, t] of one length, t at least 2, for `last_hidden` to go on from."""
        cache = self._forward(token_ids[:, :-1], use_cache=True).past_key_values
        return Kept(token_ids.shape[1] - 1, cache)

    def last_hidden(self, kept: Kept, last_ids: Tensor) -> Tensor:
        """What the final norm gives at the last tokens [b] of the prompts that `kept` is of: [b, d].

        Attention looks back only, so this is what `hidden` gives at the last position, whatever taps do there; they
        see a position alone, [b, 1, n_heads, d_head]. `kept` stays as it is and can be gone on from again.
        """
        # Layers of the cache replace their tensors when they grow, so copies of the layers leave these as they are.
        cache = copy.copy(kept.cache)
        cache.layers = [copy.copy(layer) for layer in kept.cache.layers]
        mask = torch.ones(len(last_ids), kept.n_tokens + 1, dtype=torch.int64)
        out = self._forward(last_ids[:, None], mask, use_cache=True, past_key_values=cache)
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] of what `hidden` returned, soft cap and bias included."""
        if not hasattr(self, "_U"):
            self._U = self._subject.unembedding(self._dtype).to(self.device)
            bias = weights.unembedding_bias(self._subject.config, self._subject.store, self._dtype)
            self._bias = None if bias is None else bias.to(self.device)
        logits = hidden @ self._U.T
        if self._bias is not None:
            logits = logits + self._bias
        logits = logits * weights.logit_scale(self._subject.config)
        cap = getattr(self._config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @contextmanager
    def tapped(self, states: States | None = None, z: HeadOutputs | None = None) -> Iterator[None]:
        """Have every forward pass inside tell what blocks read and what heads give; `z` may replace the latter."""
        handles: list[Any] = []
        n_heads = self._layout.shape.n_heads

        def reads(layer: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                assert states is not None
                states(layer, args[0] if args else kwargs["hidden_states"])

            return hook

        def gives(layer: int) -> Callable[..., Any]:
            def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
                assert z is not None
                replaced = z(layer, args[0].unflatten(-1, (n_heads, -1)))
                return None if replaced is None else (replaced.flatten(-2), *args[1:])

            return hook

        with _removed(handles):
            for layer in range(self._layout.shape.n_layers):
                if states is not None:
                    block = self.module.get_submodule(self._block(layer))
                    handles.append(block.register_forward_pre_hook(reads(layer), with_kwargs=True))
                if z is not None:
                    output = f"{self._block(layer)}.{self._layout.architecture.output}"
                    module = self.module.get_submodule(output)
                    handles.append(module.register_forward_pre_hook(gives(layer)))
            yield

    def run(self, token_ids: Tensor) -> tuple[list[LayerTrace], Tensor]:
        """Traces of every layer, and what the final norm read [b, t, d], for sequences [b, t]."""
        attention = self._layout.architecture.values.rpartition(".")[0]
        final = f"{self._layout.architecture.trunk}{self._layout.architecture.final_norm.name}"
        read: dict[int, Tensor] = {}
        written: dict[int, Tensor] = {}
        last: list[Tensor] = []

        def writes(layer: int) -> Callable[..., None]:
            def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 (tensor or tuple)
                written[layer] = (output[0] if isinstance(output, tuple) else output).clone()

            return hook

        def closes(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            last.append((args[0] if args else kwargs["hidden_states"]).clone())

        handles: list[Any] = []
        layers = range(self._layout.shape.n_layers)
        with (
            _removed(handles),
            self.tapped(states=lambda layer, found: read.__setitem__(layer, found.clone())),
        ):
            handles.append(
                self.module.get_submodule(final).register_forward_pre_hook(closes, with_kwargs=True)
            )
            for layer in layers:
                module = self.module.get_submodule(f"{self._block(layer)}.{attention}")
                handles.append(module.register_forward_hook(writes(layer)))
            out = self._forward(token_ids, output_attentions=True)
        traces = [LayerTrace(read[layer], out.attentions[layer], written[layer]) for layer in layers]
        return traces, last[0]

    def _forward(self, token_ids: Tensor, mask: Tensor | None = None, **more: Any) -> Any:  # noqa: ANN401
        """Transformers' outputs for tokens [b, t]; the mask covers what a cache among `more` holds, too."""
        mask = torch.ones_like(token_ids) if mask is None else mask
        with torch.no_grad():
            return self.module(
                input_ids=token_ids.to(self.device),
                attention_mask=mask.to(self.device),
                **({"use_cache": False} | more),
            )

    def _block(self, layer: int) -> str:
        local = self._layout.in_layer(layer, "").removeprefix(self._layout.prefix).rstrip(".")
        return f"{self._layout.architecture.trunk}{local}"


@contextmanager
def _removed(handles: Sequence[Any]) -> Iterator[None]:
    """Take the hooks off again, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers' progress bars off the terminal for a while."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
