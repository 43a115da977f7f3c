"""Block-0 states against the whole model's own forward pass, and what it takes to get them."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from describe.errors import InputError
from describe.subject.block0 import block0_states

_spec = importlib.util.spec_from_file_location("subject_tiny", Path(__file__).with_name("tiny.py"))
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)

F64 = torch.float64
TOKENS = torch.tensor([3, 0, 17, 40, 8, 3])


def _two_norms(block, x):
    return block.mlp(block.post_attention_layernorm(x))


def _one_norm(block, x):
    return block.mlp(block.input_layernorm(x))


def _gpt2(block, x):
    return block.mlp(block.ln_2(x))


def _opt(block, x):
    return block.fc2(block.activation_fn(block.fc1(block.final_layer_norm(x))))


def _pre_feedforward(block, x):
    return block.mlp(block.pre_feedforward_layernorm(x))


# MLP0(LN2(x)) spelt out by hand, independently of the architecture table; two norms where nothing is said.
FIRST_MLP = {
    **dict.fromkeys(("gpt2", "gpt2-untied", "gpt_bigcode", "gpt_bigcode-mha", "gpt_neo"), _gpt2),
    "gptj": lambda block, x: block.mlp(block.ln_1(x)),
    **dict.fromkeys(("opt", "opt-no-bias", "opt-plain-norms"), _opt),
    "bloom": lambda block, x: block.mlp(block.post_attention_layernorm(x), torch.zeros_like(x)),
    **dict.fromkeys(("falcon-multi-query", "falcon-new-decoder-one-norm"), _one_norm),
    "falcon-new-decoder": lambda block, x: block.mlp(block.ln_mlp(x)),
    **dict.fromkeys(("phi", "stablelm-parallel", "cohere", "cohere2"), _one_norm),
    **dict.fromkeys(("gemma2", "gemma3_text"), _pre_feedforward),
    **dict.fromkeys(("olmo2", "olmo3"), lambda block, x: block.mlp(x)),
    "granitemoe": lambda block, x: block.block_sparse_moe(block.post_attention_layernorm(x)),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    made = {}

    def get(case):
        if case not in made:
            made[case] = tiny.tiny_subject(case, tmp_path_factory.mktemp("model"))
        return made[case]

    return get


def blocks(model):
    base = model.model.decoder if hasattr(getattr(model, "model", None), "decoder") else model.base_model
    return base.h if hasattr(base, "h") else base.layers


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", tiny.CASES)
def test_states_equal_those_of_the_whole_model(case, subjects):
    subject = subjects(case)
    model, block = subject.model, blocks(subject.model)[0]
    seen = {}
    handles = [
        block.register_forward_pre_hook(
            lambda _, args, kwargs: seen.update(entry=(args[0] if args else kwargs["hidden_states"]).clone()),
            with_kwargs=True,
        ),
        block.register_forward_hook(lambda _, __, output: seen.update(exit=tiny.first_tensor(output))),
    ]
    ids = TOKENS[:, None]
    with tiny.hooked(*handles), tiny.DoublePrecision(), torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        E = model.get_input_embeddings().weight[TOKENS]
        mlp0 = tiny.first_tensor(FIRST_MLP.get(case, _two_norms)(block, E[:, None]))[:, 0]
        states = block0_states(subject.config, subject.store, TOKENS, dtype=F64)
    close(states.entry, seen["entry"][:, 0])
    close(states.exit, seen["exit"][:, 0])
    close(states.mlp0, mlp0)
    assert mlp0.abs().max() > 1e-3
    assert (states.exit - states.entry).abs().max() > 1e-3


@pytest.mark.parametrize("case", ["gpt2", "bloom", "gemma3_text", "granite"])
def test_the_entry_is_what_the_model_makes_of_the_embedding(case, subjects):
    """Learned position 0, the embedding norm, and the embedding scales, computed by hand."""
    subject = subjects(case)
    E = subject.model.get_input_embeddings().weight.detach()[TOKENS]
    base = subject.model.base_model
    by_hand = {
        "gpt2": lambda: E + base.wpe.weight.detach()[0],
        "bloom": lambda: base.word_embeddings_layernorm(E).detach(),
        "gemma3_text": lambda: E * float(torch.tensor(tiny.D**0.5)),
        "granite": lambda: 3.0 * E,
    }[case]()
    entry = block0_states(subject.config, subject.store, TOKENS, want={"entry"}, dtype=F64).entry
    torch.testing.assert_close(entry, by_hand, rtol=1e-6, atol=1e-6)  # Gemma keeps its scale in float32


def test_only_the_embedding_and_block_0_are_read(subjects):
    for case in ("gpt2", "mixtral", "opt", "deepseek_v3"):
        subject = subjects(case)
        store = replace(subject.store, was_read=set())
        block0_states(subject.config, store, TOKENS)
        later = {n for n in store.names() if re.search(r"(layers|h)\.[12]\.", n)}
        assert later and not later & store.was_read
        assert "lm_head.weight" not in store.was_read


def test_mlp0_runs_no_attention(subjects, monkeypatch):
    subject = subjects("llama")
    expected = block0_states(subject.config, subject.store, TOKENS, dtype=F64)

    def attention(*_, **__):
        raise AssertionError("attention was run")

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaAttention, "forward", attention)
    states = block0_states(subject.config, subject.store, TOKENS, want={"mlp0", "entry"}, dtype=F64)
    close(states.mlp0, expected.mlp0)
    close(states.entry, expected.entry)
    assert states.exit is None
    with pytest.raises(AssertionError, match="attention was run"):
        block0_states(subject.config, subject.store, TOKENS, want={"exit"})


def test_the_whole_vocabulary_and_batches_of_any_size(subjects):
    subject = subjects("qwen3_moe")
    whole = block0_states(subject.config, subject.store, dtype=F64)
    assert whole.exit.shape == (tiny.V, tiny.D)
    many = torch.arange(tiny.V).repeat(60)  # more than one batch
    repeated = block0_states(subject.config, subject.store, many, dtype=F64)
    for state in ("entry", "exit", "mlp0"):
        close(getattr(repeated, state), getattr(whole, state).repeat(60, 1))
    none = block0_states(subject.config, subject.store, torch.tensor([], dtype=torch.long))
    assert none.exit.shape == (0, tiny.D)


def test_a_padding_token_is_run_like_any_other(subjects):
    subject = subjects("opt")
    config = transformers.OPTConfig.from_dict({**subject.config.to_dict(), "pad_token_id": 3})
    torch.testing.assert_close(
        block0_states(config, subject.store, TOKENS, dtype=F64).exit,
        block0_states(subject.config, subject.store, TOKENS, dtype=F64).exit,
    )


def test_the_asked_dtype_and_a_quiet_terminal(subjects, capfd):
    subject = subjects("gpt_oss")
    capfd.readouterr()
    states = block0_states(subject.config, subject.store, TOKENS)
    assert {states.entry.dtype, states.exit.dtype, states.mlp0.dtype} == {torch.float32}
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
    exact = block0_states(subject.config, subject.store, TOKENS, dtype=F64)
    torch.testing.assert_close(states.exit, exact.exit.float(), rtol=1e-4, atol=1e-4)


def test_what_is_wrong_is_said(subjects):
    subject = subjects("llama")
    with pytest.raises(InputError, match="between 0 and 40: got 2 to 41"):
        block0_states(subject.config, subject.store, torch.tensor([2, 41]))
    name = "model.layers.0.mlp.up_proj.weight"
    tensors = subject.store.tensors
    missing = replace(subject.store, tensors={n: t for n, t in tensors.items() if n != name})
    with pytest.raises(InputError, match=f"no '{name}': it is incomplete"):
        block0_states(subject.config, missing, TOKENS)
    damaged = replace(subject.store, tensors={**tensors, name: tensors[name] * float("nan")})
    with pytest.raises(InputError, match=f"'{name}' contains NaN"):
        block0_states(subject.config, damaged, TOKENS)
    misshapen = replace(subject.store, tensors={**tensors, name: tensors[name][:7]})
    with pytest.raises(InputError, match="belong to different models"):
        block0_states(subject.config, misshapen, TOKENS)


def test_masks_that_old_checkpoints_carry_are_left_alone(subjects):
    """Pythia's `attention.masked_bias` is minus infinity in half precision, and its mask is of booleans."""
    subject = subjects("gpt_neox")
    extra = {
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9).half(),
        "gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
    }
    assert torch.isinf(extra["gpt_neox.layers.0.attention.masked_bias"])
    old = replace(subject.store, tensors={**subject.store.tensors, **extra})
    close(
        block0_states(subject.config, old, TOKENS, dtype=F64).exit,
        block0_states(subject.config, subject.store, TOKENS, dtype=F64).exit,
    )
