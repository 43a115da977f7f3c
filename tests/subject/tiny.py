"""Tiny random models of every supported architecture, for checks against transformers' own modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

D, LAYERS, HEADS, KV_HEADS, V = 32, 3, 4, 2, 41

_COMMON: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "tie_word_embeddings": False,
}
_LLAMA = {**_COMMON, "intermediate_size": 48, "num_key_value_heads": KV_HEADS}
_GPT2 = {"vocab_size": V, "n_positions": 64, "n_embd": D, "n_layer": LAYERS, "n_head": HEADS}
_GPT2 |= {"bos_token_id": 0, "eos_token_id": 0}
_MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
_MLA = {
    "kv_lora_rank": 12,
    "q_lora_rank": 10,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 7,
    "moe_intermediate_size": 20,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "num_key_value_heads": HEADS,
}
_GRANITE = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
    "logits_scaling": 2.0,
}
_WINDOW = {"sliding_window": 4}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

_SMALL_HEADS = {"head_dim": 6}
_FALCON = {**_COMMON, "new_decoder_architecture": False, "multi_query": False}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20}

# case name → (model_type, config fields); every entry of the architecture table has at least one case
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt2-untied": ("gpt2", {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False}),
    "gpt_bigcode": ("gpt_bigcode", {**_GPT2, "multi_query": True}),
    "gpt_bigcode-mha": ("gpt_bigcode", {**_GPT2, "multi_query": False}),
    "gpt_neo": (
        "gpt_neo",
        {
            "vocab_size": V,
            "hidden_size": D,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "attention_types": [[["global", "local", "global"], 1]],
            "max_position_embeddings": 64,
            "window_size": 4,
            "intermediate_size": 48,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "gpt_neox": ("gpt_neox", {**_COMMON, "intermediate_size": 48}),
    "gpt_neox-sequential": (
        "gpt_neox",
        {**_COMMON, "intermediate_size": 48, "use_parallel_residual": False, "attention_bias": False},
    ),
    "gptj": ("gptj", {**_GPT2, "rotary_dim": 4}),
    "opt": ("opt", {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": D}),
    "opt-no-bias": (
        "opt",
        {
            **_COMMON,
            "ffn_dim": 48,
            "word_embed_proj_dim": D,
            "enable_bias": False,
            "tie_word_embeddings": True,
        },
    ),
    "opt-plain-norms": (
        "opt",
        {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": D, "layer_norm_elementwise_affine": False},
    ),
    "bloom": ("bloom", {"vocab_size": V, "hidden_size": D, "n_layer": LAYERS, "n_head": HEADS}),
    "falcon-mha": ("falcon", {**_FALCON, "bias": True, "alibi": True, "parallel_attn": False}),
    "falcon-multi-query": ("falcon", {**_FALCON, "multi_query": True}),
    "falcon-new-decoder": (
        "falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": KV_HEADS, "bias": True},
    ),
    "falcon-new-decoder-one-norm": (
        "falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": KV_HEADS, "num_ln_in_parallel_attn": 1},
    ),
    "phi": ("phi", _LLAMA),
    "phi3": ("phi3", _LLAMA),
    "llama": ("llama", _LLAMA),
    "llama-bias": ("llama", {**_LLAMA, **_SMALL_HEADS, "attention_bias": True, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**_LLAMA, **_WINDOW, **_SMALL_HEADS}),
    "ministral": ("ministral", {**_LLAMA, **_WINDOW, **_SMALL_HEADS, "layer_types": _MIXED}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen2_moe": ("qwen2_moe", {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 24}),
    "qwen3": ("qwen3", {**_LLAMA, **_SMALL_HEADS}),
    "qwen3_moe": ("qwen3_moe", {**_LLAMA, **_SMALL_HEADS, **_EXPERTS}),
    "gemma": ("gemma", {**_LLAMA, **_SMALL_HEADS, "tie_word_embeddings": True}),
    "gemma2": (
        "gemma2",
        {**_LLAMA, **_WINDOW, **_SMALL_HEADS, "query_pre_attn_scalar": 6, "final_logit_softcapping": None},
    ),
    "gemma3_text": (
        "gemma3_text",
        {**_LLAMA, **_WINDOW, **_SMALL_HEADS, "layer_types": _MIXED, "tie_word_embeddings": True},
    ),
    "glm": ("glm", {**_LLAMA, "head_dim": 8, "attention_bias": True}),
    "glm4": ("glm4", {**_LLAMA, "head_dim": 8}),
    "olmo": ("olmo", _LLAMA),
    "olmo2": ("olmo2", _LLAMA),
    "olmo3": ("olmo3", {**_LLAMA, **_WINDOW, "layer_types": _MIXED}),
    "olmoe": ("olmoe", {**_LLAMA, **_EXPERTS}),
    "stablelm": ("stablelm", {**_LLAMA, "use_qkv_bias": True}),
    "stablelm-parallel": ("stablelm", {**_LLAMA, "use_parallel_residual": True, "qk_layernorm": True}),
    "cohere": ("cohere", {**_LLAMA, "tie_word_embeddings": True, "logit_scale": 0.25}),
    "cohere2": ("cohere2", {**_LLAMA, **_WINDOW, "layer_types": _MIXED, "logit_scale": 0.25}),
    "granite": ("granite", {**_LLAMA, **_GRANITE}),
    "granitemoe": ("granitemoe", {**_LLAMA, **_GRANITE, **_MOE}),
    "smollm3": ("smollm3", {**_LLAMA, "no_rope_layers": [1, 0, 1]}),
    "seed_oss": ("seed_oss", {**_LLAMA, **_SMALL_HEADS, "attention_bias": True, "attention_out_bias": True}),
    "starcoder2": ("starcoder2", {**_LLAMA, "use_bias": True}),
    "nemotron": ("nemotron", {**_LLAMA, "attention_bias": True}),
    "mixtral": ("mixtral", {**_LLAMA, **_MOE}),
    "gpt_oss": ("gpt_oss", {**_LLAMA, **_MOE, **_WINDOW, **_SMALL_HEADS, "layer_types": _MIXED}),
    "deepseek_v2": ("deepseek_v2", {**_LLAMA, **_MLA}),
    "deepseek_v2-experts": (
        "deepseek_v2",
        {**_LLAMA, **_MLA, "first_k_dense_replace": 0, "q_lora_rank": None},
    ),
    "deepseek_v3": ("deepseek_v3", {**_LLAMA, **_MLA}),
}


@dataclass(frozen=True)
class MemoryStore:
    """Tensors of a saved checkpoint, and the names that were read from it."""

    tensors: dict[str, Tensor]
    digest: str = "none"
    was_read: set[str] = field(default_factory=set)

    def names(self) -> frozenset[str]:
        return frozenset(self.tensors)

    def read(self, name: str) -> Tensor:
        self.was_read.add(name)
        return self.tensors[name]


@dataclass(frozen=True)
class TinySubject:
    """A tiny model in double precision beside what it looks like from its files."""

    case: str
    model: Any
    config: Any
    store: Any


def tiny_model(case: str, seed: int = 0) -> Any:
    """A random float64 causal language model in eval mode, no parameter at a trivial value."""
    model_type, fields = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **fields)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # the fused kernels know no double precision
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    randomise(model, seed)
    return model


def tiny_subject(case: str, folder: Path) -> TinySubject:
    """The tiny model of `case`, saved to `folder` as safetensors and read back."""
    model = tiny_model(case)
    with quiet():
        model.save_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    return TinySubject(case, model, config, MemoryStore(load_file(folder / "model.safetensors")))


def randomise(model: nn.Module, seed: int) -> None:
    """Draw every parameter: matrices by their width, gains and biases away from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            matrix = parameter.ndim > 1
            parameter.copy_(draw * parameter.shape[-1] ** -0.5 if matrix else 0.7 + 0.3 * draw)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bar of save_pretrained."""
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.utils.logging.enable_progress_bar()


class DoublePrecision(TorchFunctionMode):
    """Runs a model's own code in float64 throughout.

    Many norms, and eager attention's softmax, cast to float32 inside whatever the weights' type, which
    would drown a check to 1e-9 in rounding of the model's own; here those casts leave float64 as it is.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        is_double = bool(args) and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
        if is_double and torch.float32 in (*args[1:], kwargs.get("dtype")):
            if func in (Tensor.to, Tensor.type):
                return args[0]
            kwargs["dtype"] = None
        if is_double and func is Tensor.float:
            return args[0]
        return func(*args, **kwargs)


@contextmanager
def hooked(*handles: Any) -> Iterator[None]:
    """Remove hooks at the end, whatever happens."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> Tensor:
    """The hidden states of a module that may return more beside them."""
    return output[0] if isinstance(output, tuple) else output
