"""Every entry of the architecture table against the modules of transformers itself, in double precision."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from describe.errors import InputError
from describe.subject import weights
from describe.subject.architectures import ARCHITECTURES, architecture_of

# The tests are imported file by file (importlib mode), so the helper beside them is loaded by its path.
_spec = importlib.util.spec_from_file_location("subject_tiny", Path(__file__).with_name("tiny.py"))
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)

TOKENS = torch.tensor([3, 0, 17, 40, 8])
F64 = torch.float64
# The MLP of these reads the block's input and not the sum after attention.
PARALLEL = {
    "gpt_neox",
    "gptj",
    "falcon-multi-query",
    "falcon-new-decoder",
    "falcon-new-decoder-one-norm",
    "phi",
    "stablelm-parallel",
    "cohere",
    "cohere2",
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """Tiny subjects by case, each made once."""
    made = {}

    def get(case):
        if case not in made:
            made[case] = tiny.tiny_subject(case, tmp_path_factory.mktemp("model"))
        return made[case]

    return get


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Watched:
    """One forward pass with what each layer's parts saw and wrote, by layer."""

    def __init__(self, subject, ids, **options):
        layout = weights.layout_of(subject.config, subject.store)
        architecture, model = layout.architecture, subject.model
        # The names in files are the modules' names, except where a checkpoint is converted on loading.
        prefix = "model.decoder." if architecture.trunk else f"{model.base_model_prefix}."
        self.layers = model.get_submodule(f"{prefix}{architecture.layers}")
        self.entry, self.z, self.projected, self.attention = {}, {}, {}, {}
        self.before_mlp, self.post = {}, {}
        handles = []

        def keep(store, layer, value):
            store[layer] = value.detach().clone()

        for i, layer in enumerate(self.layers):
            projection = layer.get_submodule(architecture.output)
            attention = layer.get_submodule(architecture.output.rpartition(".")[0])
            reader = layer.get_submodule(architecture.mlp_norm or architecture.mlp[0])
            pre = [(layer, self.entry), (projection, self.z), (reader, self.before_mlp)]
            after = [(projection, self.projected), (attention, self.attention)]
            if architecture.post_norm is not None:
                after.append((layer.get_submodule(architecture.post_norm.name), self.post))
            for module, kept in pre:

                def before(_, args, kwargs, kept=kept, i=i):
                    keep(kept, i, args[0] if args else kwargs["hidden_states"])

                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            for module, kept in after:

                def done(_, __, output, kept=kept, i=i):
                    keep(kept, i, tiny.first_tensor(output))

                handles.append(module.register_forward_hook(done))
        final = model.get_submodule(f"{prefix}{architecture.final_norm.name}")
        handles.append(
            final.register_forward_pre_hook(lambda _, args: setattr(self, "last", args[0].detach().clone()))
        )
        with tiny.hooked(*handles), tiny.DoublePrecision(), torch.no_grad():
            self.output = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **options
            )
        self.out_projections = [layer.get_submodule(architecture.output) for layer in self.layers]


def without_sinks(model):
    """GPT-OSS lets a head attend to nothing; a single token attends to itself only when that is off."""
    for name, parameter in model.named_parameters():
        if name.endswith(".sinks"):
            parameter.data.fill_(-1e9)


@pytest.fixture(scope="module")
def watched(subjects):
    """The forward pass of a case over single-token sequences, made once."""
    made = {}

    def get(case):
        if case not in made:
            subject = subjects(case)
            without_sinks(subject.model)
            made[case] = Watched(subject, TOKENS[:, None])
        return made[case]

    return get


def test_every_architecture_has_a_case():
    assert {model_type for model_type, _ in tiny.CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("case", tiny.CASES)
def test_values_and_outputs_of_every_head(case, subjects, watched):
    subject, run = subjects(case), watched(case)
    shape = weights.model_shape(subject.config, subject.store)
    assert (shape.n_layers, shape.n_heads, shape.d_model) == (tiny.LAYERS, tiny.HEADS, tiny.D)
    for layer in range(shape.n_layers):
        circuits = weights.layer_circuits(subject.config, subject.store, layer, F64)
        S = run.entry[layer].reshape(len(TOKENS), -1)
        z = run.z[layer].reshape(len(TOKENS), shape.n_heads, shape.d_head)
        b_O = 0.0 if circuits.b_O is None else circuits.b_O
        total = torch.zeros_like(S)
        for head in range(shape.n_heads):
            kv = shape.kv_head(head)
            assert kv == circuits.kv_head(head)
            values = circuits.value_inputs(S) @ circuits.W_V[kv]
            close(values if circuits.b_V is None else values + circuits.b_V[kv], z[:, head])
            alone = torch.zeros_like(z)
            alone[:, head] = z[:, head]
            with torch.no_grad():
                written = run.out_projections[layer](alone.reshape(run.z[layer].shape)).reshape(S.shape) - b_O
            assert written.abs().max() > 1e-3  # else the comparison would say nothing
            close(circuits.head_outputs(S, head), written)
            total += circuits.head_outputs(S, head)
        close(total + b_O, run.projected[layer].reshape(S.shape))
        # BLOOM's attention module adds the residual itself.
        residual = S if case == "bloom" else 0.0
        close(total + b_O + residual, run.attention[layer].reshape(S.shape))


@pytest.mark.parametrize("case", [case for case in tiny.CASES if case not in PARALLEL])
def test_what_attention_adds_to_the_residual_stream(case, subjects, watched):
    """Post-attention norms and residual multipliers: the sum that the MLP (or its norm) reads."""
    subject, run = subjects(case), watched(case)
    for layer in range(tiny.LAYERS):
        circuits = weights.layer_circuits(subject.config, subject.store, layer, F64)
        written = run.projected[layer].reshape(len(TOKENS), -1)
        if circuits.post_norm is not None:
            written = circuits.post_norm(written)
            close(written, run.post[layer].reshape(written.shape))
        added = weights.residual_scale(subject.config) * written
        close(run.entry[layer].reshape(written.shape) + added, run.before_mlp[layer].reshape(written.shape))


@pytest.mark.parametrize("case", tiny.CASES)
def test_final_norm_and_unembedding_give_the_logits(case, subjects, watched):
    subject, run = subjects(case), watched(case)
    norm = weights.final_norm(subject.config, subject.store, F64)
    U = weights.unembedding(subject.config, subject.store, F64)
    bias = getattr(subject.model.get_output_embeddings(), "bias", None)
    bias = 0.0 if bias is None else bias.detach()
    logits = (norm(run.last) @ U.T + bias) * weights.logit_scale(subject.config)
    close(logits, run.output.logits)
    close(
        weights.embedding(subject.config, subject.store, F64),
        subject.model.get_input_embeddings().weight.detach(),
    )


@pytest.mark.parametrize(
    "case",
    ["gpt2", "gpt_neox", "llama", "qwen3", "gemma3_text", "falcon-new-decoder", "gpt_oss", "deepseek_v3"],
)
def test_longer_sequences_mix_values_by_attention(case, tmp_path):
    """z_h[i] = Σ_j A_h[i, j] v_h[j], sliding windows and attention sinks included."""
    subject = tiny.tiny_subject(case, tmp_path)
    ids = torch.arange(18).reshape(2, 9)
    run = Watched(subject, ids, output_attentions=True)
    shape = weights.model_shape(subject.config, subject.store)
    for layer in range(shape.n_layers):
        circuits = weights.layer_circuits(subject.config, subject.store, layer, F64)
        x = circuits.value_inputs(run.entry[layer])
        z = run.z[layer].reshape(2, 9, shape.n_heads, shape.d_head)
        for head in range(shape.n_heads):
            kv = circuits.kv_head(head)
            values = x @ circuits.W_V[kv] + (0.0 if circuits.b_V is None else circuits.b_V[kv])
            close(run.output.attentions[layer][:, head] @ values, z[:, :, head])


def test_only_the_layer_asked_for_is_read(subjects):
    subject = subjects("gemma2")
    store = replace(subject.store, was_read=set())
    weights.layer_circuits(subject.config, store, 1)
    layer = "model.layers.1."
    parts = ("self_attn.v_proj", "self_attn.o_proj", "input_layernorm", "post_attention_layernorm")
    assert store.was_read == {f"{layer}{part}.weight" for part in parts}


def test_the_asked_dtype_everywhere(subjects):
    subject = subjects("starcoder2")
    circuits = weights.layer_circuits(subject.config, subject.store, 0)
    tensors = [circuits.W_V, circuits.W_O, circuits.b_V, circuits.b_O, circuits.input_norm.gain]
    assert {t.dtype for t in tensors} == {torch.float32}


def renamed(subject, change):
    return replace(subject.store, tensors={change(n): t for n, t in subject.store.tensors.items()})


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("gpt2", lambda n: n.removeprefix("transformer.")),
        ("bloom", lambda n: n.removeprefix("transformer.")),
        ("gpt_neox", lambda n: n.replace("embed_out", "lm_head")),
        ("opt", lambda n: n.removeprefix("model.")),
        ("llama", lambda n: f"language_model.{n}"),
        ("gemma3_text", lambda n: n.replace("model.", "model.language_model.")),
    ],
)
def test_names_that_older_and_multimodal_checkpoints_use(case, change, subjects):
    subject = subjects(case)
    store = renamed(subject, change)
    assert store.names() != subject.store.names()
    for read in (weights.embedding, weights.unembedding):
        torch.testing.assert_close(read(subject.config, store), read(subject.config, subject.store))
    a = weights.layer_circuits(subject.config, store, 2)
    b = weights.layer_circuits(subject.config, subject.store, 2)
    torch.testing.assert_close(a.W_V, b.W_V)


def test_the_text_part_of_a_multimodal_config(subjects):
    subject = subjects("gemma3_text")
    whole = transformers.Gemma3Config(text_config=subject.config.to_dict())
    store = renamed(subject, lambda n: f"language_model.{n}")
    circuits = weights.layer_circuits(whole, store, 1)
    torch.testing.assert_close(
        circuits.W_O, weights.layer_circuits(subject.config, subject.store, 1).W_O, rtol=0, atol=0
    )


def test_an_unknown_architecture_is_named_with_those_supported():
    with pytest.raises(InputError, match=r"'t5' are not supported.*gpt2, .*llama"):
        architecture_of(transformers.T5Config())


@pytest.mark.parametrize(
    ("config", "variant"),
    [
        (transformers.OPTConfig(do_layer_norm_before=False), "do_layer_norm_before"),
        (transformers.OPTConfig(hidden_size=64, word_embed_proj_dim=32), "word_embed_proj_dim"),
        (transformers.OlmoConfig(clip_qkv=8.0), "clip_qkv"),
        (
            transformers.BloomConfig(apply_residual_connection_post_layernorm=True),
            "apply_residual_connection",
        ),
        (transformers.DeepseekV3Config(attention_bias=True), "attention_bias"),
    ],
)
def test_variants_that_cannot_be_read_are_named(config, variant):
    with pytest.raises(InputError, match=variant):
        architecture_of(config)


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_damaged_weights_are_named(value, word, subjects):
    subject = subjects("llama")
    name = "model.layers.1.self_attn.v_proj.weight"
    damaged = subject.store.tensors[name].clone()
    damaged[3, 5] = value
    store = replace(subject.store, tensors={**subject.store.tensors, name: damaged})
    weights.layer_circuits(subject.config, store, 0)
    with pytest.raises(InputError, match=f"'{name}' contains {word}: the file is damaged"):
        weights.layer_circuits(subject.config, store, 1)


def without(subject, *names):
    kept = {n: t for n, t in subject.store.tensors.items() if n not in names}
    assert len(kept) == len(subject.store.tensors) - len(names)
    return replace(subject.store, tensors=kept)


def test_a_missing_unembedding_is_an_error_unless_tied(subjects):
    untied, tied = subjects("llama"), subjects("llama-bias")
    with pytest.raises(InputError, match=r"no unembedding \('lm_head.weight'\)"):
        weights.unembedding(untied.config, without(untied, "lm_head.weight"))
    assert "lm_head.weight" not in tied.store.names()
    torch.testing.assert_close(
        weights.unembedding(tied.config, tied.store), weights.embedding(tied.config, tied.store)
    )


def test_missing_misshapen_and_quantised_tensors(subjects):
    subject = subjects("llama")
    name = "model.layers.2.self_attn.o_proj.weight"
    for read in (weights.model_shape, lambda c, s: weights.layer_circuits(c, s, 2)):
        with pytest.raises(InputError, match=f"no '{name}': it is incomplete"):
            read(subject.config, without(subject, name))
    packed = renamed(subject, lambda n: n.replace("o_proj.weight", "o_proj.qweight"))
    with pytest.raises(InputError, match=r"o_proj.qweight .*quantisation"):
        weights.layer_circuits(subject.config, packed, 2)
    with pytest.raises(InputError, match="model.embed_tokens.weight"):
        weights.layer_circuits(subject.config, without(subject, "model.embed_tokens.weight"), 0)
    wide = subject.store.tensors[name].repeat(1, 2)
    misshapen = replace(subject.store, tensors={**subject.store.tensors, name: wide})
    with pytest.raises(InputError, match=r"shape \(32, 64\) where the config says \(32, 32\)"):
        weights.layer_circuits(subject.config, misshapen, 2)
    with pytest.raises(InputError, match="layers 0 to 2"):
        weights.layer_circuits(subject.config, subject.store, 3)
