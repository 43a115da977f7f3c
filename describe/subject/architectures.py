"""The architecture table: where each kind of model keeps what the core reads, in Hugging Face tensor names.

This module owns the table and its vocabulary, and knows no tensor and no file. To add an architecture, add
an entry to `ARCHITECTURES` and a tiny model to the conformance tests, which hold every entry against the
modules of transformers itself. Sources: the modelling files of transformers 5.23. The file is as
long as its table, which is better kept in one place.

Every layout of W_V met so far is one of four, and in all four the value rows of KV head g are the last
d_head rows of the g-th of n_kv_heads equal groups, once query and key blocks stacked before it are cut off:

- `separate`: a projection of its own, n_kv_heads · d_head rows;
- `blocks`: queries, then keys, then values (GPT-2, Phi-3);
- `groups`: for each KV head its queries, key and value (GPT-NeoX, BLOOM, all layouts of Falcon);
- `latent`: for each head its keys, then its values, from a shared low-rank projection (DeepSeek).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from describe.errors import InputError

ValueLayout = Literal["separate", "blocks", "groups", "latent"]
# A transformers config: its classes share no typed field beyond the names that the table spells out.
Config = Any


def _kv_heads(config: Config) -> int:
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _head_size(config: Config) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


@dataclass(frozen=True)
class NormSpec:
    """A norm: its tensors are `{name}.weight` and, if the checkpoint has it, `{name}.bias`."""

    name: str  # relative to the layer, or to the base model for the final norm
    kind: Literal["rms", "layer"]
    eps: str | float  # a config field, or the constant in the model's code
    gain_offset: float = 0.0  # Gemma stores w and multiplies by 1 + w
    learnt: bool = True  # False: normalises only, the checkpoint holds no gain (OLMo)


@dataclass(frozen=True)
class Unsupported:
    """A variant of a supported architecture that the linear reading cannot represent."""

    variant: str
    applies: Callable[[Config], bool]


@dataclass(frozen=True)
class Architecture:
    """Where one architecture keeps its parts; layer names are relative to `{prefix}{layers}.{l}.`.

    `mlp` names the modules of the first MLP, applied one after another to the output of `mlp_norm`. The
    three multipliers name config fields: what scales a block's output on its way into the residual stream,
    and what multiplies or divides the logits.
    """

    embedding: str
    layers: str
    final_norm: NormSpec
    input_norm: NormSpec | None
    values: str
    output: str
    mlp: tuple[str, ...]
    mlp_norm: str | None
    prefixes: tuple[str, ...]  # of the base model; published checkpoints differ, the first that fits is used
    trunk: str = ""  # where transformers' base model class keeps the part that the names are relative to
    layout: ValueLayout = "separate"
    transposed: bool = False  # Conv1D of GPT-2 stores [in, out]
    unembeddings: tuple[str, ...] = ("lm_head.weight",)
    down: str | None = None
    down_norm: NormSpec | None = None
    post_norm: NormSpec | None = None
    residual_multiplier: str | None = None
    logit_multiplier: str | None = None
    logit_divisor: str | None = None
    n_kv_heads: Callable[[Config], int] = _kv_heads
    d_head: Callable[[Config], int] = _head_size
    variant: Callable[[Architecture, Config], Architecture] | None = None  # what depends on the config
    unsupported: tuple[Unsupported, ...] = ()


def _layer_norm(name: str, eps: str | float = "layer_norm_epsilon") -> NormSpec:
    return NormSpec(name, "layer", eps)


def _rms(name: str, gain_offset: float = 0.0, eps: str | float = "rms_norm_eps") -> NormSpec:
    return NormSpec(name, "rms", eps, gain_offset)


def _falcon_variant(base: Architecture, config: Config) -> Architecture:
    """Falcon's norms: one for both, one after the other, or one each (`ln_attn`, `ln_mlp`)."""
    two = config.new_decoder_architecture and config.num_ln_in_parallel_attn in (None, 2)
    if config.parallel_attn and two:
        return replace(base, input_norm=_layer_norm("ln_attn"), mlp_norm="ln_mlp")
    return base if not config.parallel_attn else replace(base, mlp_norm="input_layernorm")


def _opt_variant(base: Architecture, config: Config) -> Architecture:
    """OPT may have norms without gain and bias."""
    learnt: bool = config.layer_norm_elementwise_affine
    input_norm = replace(_layer_norm("self_attn_layer_norm", 1e-5), learnt=learnt)
    return replace(base, input_norm=input_norm, final_norm=replace(base.final_norm, learnt=learnt))


_CLIPPED = Unsupported("clip_qkv (values are clamped)", lambda c: c.clip_qkv is not None)
# A multimodal checkpoint keeps its text model further down; both orders have been published.
_PREFIXES = ("model.", "model.language_model.", "language_model.model.", "")

_LLAMA = Architecture(
    embedding="embed_tokens",
    layers="layers",
    final_norm=_rms("norm"),
    input_norm=_rms("input_layernorm"),
    values="self_attn.v_proj",
    output="self_attn.o_proj",
    mlp=("mlp",),
    mlp_norm="post_attention_layernorm",
    prefixes=_PREFIXES,
)
_GPT2 = Architecture(
    embedding="wte",
    layers="h",
    final_norm=_layer_norm("ln_f"),
    input_norm=_layer_norm("ln_1"),
    values="attn.c_attn",
    output="attn.c_proj",
    mlp=("mlp",),
    mlp_norm="ln_2",
    prefixes=("transformer.", ""),
    layout="blocks",
    transposed=True,
)
_NEOX = Architecture(
    embedding="embed_in",
    layers="layers",
    final_norm=_layer_norm("final_layer_norm", "layer_norm_eps"),
    input_norm=_layer_norm("input_layernorm", "layer_norm_eps"),
    values="attention.query_key_value",
    output="attention.dense",
    mlp=("mlp",),
    mlp_norm="post_attention_layernorm",
    prefixes=("gpt_neox.", ""),
    layout="groups",
    unembeddings=("lm_head.weight", "embed_out.weight"),  # Pythia as published has the latter
)
_BLOOM = Architecture(
    embedding="word_embeddings",
    layers="h",
    final_norm=_layer_norm("ln_f"),
    input_norm=_layer_norm("input_layernorm"),
    values="self_attention.query_key_value",
    output="self_attention.dense",
    # Bloom's MLP module adds the residual itself, so its parts are named instead.
    mlp=("mlp.dense_h_to_4h", "mlp.gelu_impl", "mlp.dense_4h_to_h"),
    mlp_norm="post_attention_layernorm",
    prefixes=("transformer.", ""),
    layout="groups",
    unsupported=(
        Unsupported(
            "apply_residual_connection_post_layernorm", lambda c: c.apply_residual_connection_post_layernorm
        ),
    ),
)
_FALCON = replace(
    _BLOOM,
    mlp=("mlp",),
    n_kv_heads=lambda c: (
        c.num_kv_heads if c.new_decoder_architecture else 1 if c.multi_query else c.num_attention_heads
    ),
    variant=_falcon_variant,
    unsupported=(),
)
_OPT = Architecture(
    embedding="embed_tokens",
    layers="layers",
    final_norm=_layer_norm("final_layer_norm", 1e-5),
    input_norm=_layer_norm("self_attn_layer_norm", 1e-5),
    values="self_attn.v_proj",
    output="self_attn.out_proj",
    mlp=("fc1", "activation_fn", "fc2"),
    mlp_norm="final_layer_norm",
    prefixes=("model.decoder.", "decoder."),
    trunk="decoder.",
    variant=_opt_variant,
    unsupported=(
        Unsupported(
            "do_layer_norm_before=False (norms after the blocks)", lambda c: not c.do_layer_norm_before
        ),
        Unsupported(
            "word_embed_proj_dim other than hidden_size (projected embeddings)",
            lambda c: c.word_embed_proj_dim != c.hidden_size,
        ),
        Unsupported("no final layer norm", lambda c: c._remove_final_layer_norm),
    ),
)
_GEMMA = replace(_LLAMA, final_norm=_rms("norm", 1.0), input_norm=_rms("input_layernorm", 1.0))
_GEMMA2 = replace(
    _GEMMA, post_norm=_rms("post_attention_layernorm", 1.0), mlp_norm="pre_feedforward_layernorm"
)
_OLMO_NORM = NormSpec("norm", "layer", 1e-5, learnt=False)
_OLMO2 = replace(_LLAMA, input_norm=None, post_norm=_rms("post_attention_layernorm"), mlp_norm=None)
_COHERE = replace(
    _LLAMA,
    final_norm=_layer_norm("norm", "layer_norm_eps"),
    input_norm=_layer_norm("input_layernorm", "layer_norm_eps"),
    mlp_norm="input_layernorm",
    logit_multiplier="logit_scale",
)
_GRANITE = replace(_LLAMA, residual_multiplier="residual_multiplier", logit_divisor="logits_scaling")
_STABLELM = replace(
    _LLAMA,
    final_norm=_layer_norm("norm", "layer_norm_eps"),
    input_norm=_layer_norm("input_layernorm", "layer_norm_eps"),
    variant=lambda a, c: replace(a, mlp_norm="input_layernorm") if c.use_parallel_residual else a,
)
_STARCODER2 = replace(
    _LLAMA,
    final_norm=_layer_norm("norm", "norm_epsilon"),
    input_norm=_layer_norm("input_layernorm", "norm_epsilon"),
)
_DEEPSEEK = replace(
    _LLAMA,
    values="self_attn.kv_b_proj",
    layout="latent",
    down="self_attn.kv_a_proj_with_mqa",
    down_norm=_rms("self_attn.kv_a_layernorm", eps=1e-6),
    n_kv_heads=lambda c: c.num_attention_heads,
    d_head=lambda c: c.v_head_dim,
    unsupported=(
        Unsupported("attention_bias (a bias inside the latent projection)", lambda c: c.attention_bias),
    ),
)

# Keyed by config.model_type.
ARCHITECTURES: dict[str, Architecture] = {
    "bloom": _BLOOM,
    "cohere": _COHERE,
    "cohere2": _COHERE,
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "falcon": _FALCON,
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "glm": _LLAMA,
    "glm4": replace(_LLAMA, post_norm=_rms("post_self_attn_layernorm")),
    "gpt2": _GPT2,
    "gpt_bigcode": replace(
        _GPT2,
        transposed=False,
        layout="groups",
        n_kv_heads=lambda c: 1 if c.multi_query else c.num_attention_heads,
    ),
    "gpt_neo": replace(
        _GPT2,
        values="attn.attention.v_proj",
        output="attn.attention.out_proj",
        layout="separate",
        transposed=False,
    ),
    "gpt_neox": _NEOX,
    "gpt_oss": _LLAMA,
    "gptj": replace(
        _GPT2,
        values="attn.v_proj",
        output="attn.out_proj",
        mlp_norm="ln_1",
        layout="separate",
        transposed=False,
    ),
    "granite": _GRANITE,
    "granitemoe": replace(_GRANITE, mlp=("block_sparse_moe",)),
    "llama": _LLAMA,
    "ministral": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "nemotron": replace(
        _LLAMA,
        final_norm=NormSpec("norm", "layer", "norm_eps", 1.0),
        input_norm=NormSpec("input_layernorm", "layer", "norm_eps", 1.0),
    ),
    "olmo": replace(
        _LLAMA,
        final_norm=_OLMO_NORM,
        input_norm=replace(_OLMO_NORM, name="input_layernorm"),
        unsupported=(_CLIPPED,),
    ),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "olmoe": replace(_LLAMA, unsupported=(_CLIPPED,)),
    "opt": _OPT,
    "phi": replace(
        _STABLELM,
        output="self_attn.dense",
        final_norm=_layer_norm("final_layernorm", "layer_norm_eps"),
        mlp_norm="input_layernorm",
        variant=None,
    ),
    "phi3": replace(_LLAMA, values="self_attn.qkv_proj", layout="blocks"),
    "qwen2": _LLAMA,
    "qwen2_moe": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "seed_oss": _LLAMA,
    "smollm3": _LLAMA,
    "stablelm": _STABLELM,
    "starcoder2": _STARCODER2,
}


def text_config(config: Config) -> Config:
    """The language model's own config: that of a multimodal model's text part, else `config` itself."""
    return config.get_text_config(decoder=True)


def architecture_of(config: Config) -> Architecture:
    """The table's entry for a transformers config, with what depends on its fields resolved.

    Raises:
        InputError: the model type is not in the table, or is a variant that the linear reading of a head
            cannot represent.
    """
    config = text_config(config)
    entry = ARCHITECTURES.get(config.model_type)
    if entry is None:
        raise InputError(
            f"Models of type '{config.model_type}' are not supported: "
            f"choose one of {', '.join(sorted(ARCHITECTURES))}."
        )
    for unsupported in entry.unsupported:
        if unsupported.applies(config):
            raise InputError(
                f"This {config.model_type} model uses {unsupported.variant}, "
                "which cannot be read from the weights alone: choose another model."
            )
    return entry if entry.variant is None else entry.variant(entry, config)
