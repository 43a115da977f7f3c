"""The subject model put together from real files: a tiny folder, and a packaged model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM

from describe.errors import InputError
from describe.subject.model import load_subject

_spec = importlib.util.spec_from_file_location("subject_tiny", Path(__file__).with_name("tiny.py"))
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)


def tokenizer_of(n_tokens, added=()):
    words = {f"word{i}": i for i in range(n_tokens)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="word0"))
    tokenizer.add_special_tokens(list(added))
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny-llama"
    path.mkdir()
    tiny.tiny_subject("llama", path)
    tokenizer_of(tiny.V).save(str(path / "tokenizer.json"))
    return path


def test_a_folder_becomes_a_subject(folder):
    subject = load_subject(str(folder))
    assert (subject.name, subject.architecture, subject.tied) == ("tiny-llama", "llama", False)
    assert (subject.shape.n_heads, subject.shape.n_kv_heads, subject.shape.n_vocab) == (4, 2, tiny.V)
    model = tiny.tiny_model("llama")
    dtype = torch.float64
    assert torch.equal(subject.W_E(dtype), model.get_input_embeddings().weight)
    assert torch.equal(subject.unembedding(dtype), model.lm_head.weight)
    assert torch.equal(subject.final_norm(dtype).gain, model.model.norm.weight)
    o_proj = model.model.layers[1].self_attn.o_proj.weight
    assert torch.equal(subject.layer(1, dtype).W_O[2], o_proj[:, 16:24].T)
    with torch.no_grad():
        states = model(input_ids=torch.tensor([[5]]), output_hidden_states=True).hidden_states
    exit_state = subject.block0(torch.tensor([5]), want={"exit"}, dtype=dtype).exit
    torch.testing.assert_close(exit_state, states[1][0], rtol=1e-6, atol=1e-6)


def test_the_digest_follows_the_weights(folder):
    before = load_subject(str(folder)).digest
    tensors = tiny.load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors")
    assert load_subject(str(folder)).digest != before


def test_a_tokenizer_of_another_model_is_refused(folder):
    tokenizer_of(tiny.V + 1).save(str(folder / "tokenizer.json"))
    with pytest.raises(InputError, match="'tiny-llama' has 42 tokens but its embedding matrix only 41 rows"):
        load_subject(str(folder))


def test_rows_without_a_token_are_padding_and_added_tokens_without_a_row_are_left_out(folder):
    tokenizer_of(tiny.V - 3).save(str(folder / "tokenizer.json"))
    assert load_subject(str(folder)).vocabulary.padding == {38, 39, 40}
    tokenizer_of(tiny.V, added=["<image>"]).save(str(folder / "tokenizer.json"))
    assert len(load_subject(str(folder)).vocabulary) == tiny.V


@pytest.mark.slow
def test_a_packaged_model_against_transformers(smollm2_path):
    """The first block and one head of SmolLM2, its GGUF file loaded whole by transformers."""
    subject = load_subject("smollm2")
    assert subject.tied and subject.shape.n_heads == 9 and subject.shape.n_kv_heads == 3
    with tiny.quiet():
        model = AutoModelForCausalLM.from_pretrained(
            smollm2_path.parent, gguf_file=smollm2_path.name, dtype=torch.float32, attn_implementation="eager"
        ).eval()
    ids = torch.tensor([subject.vocabulary.word_id(word) for word in ("France", "dog", "seven")])
    z = []
    projection = model.model.layers[12].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda _, args: z.append(args[0][:, 0]))
    with tiny.hooked(handle), torch.no_grad():
        states = model(input_ids=ids[:, None], output_hidden_states=True, use_cache=False).hidden_states
    block = subject.block0(ids)
    torch.testing.assert_close(block.entry, states[0][:, 0])
    torch.testing.assert_close(block.exit, states[1][:, 0], rtol=1e-4, atol=1e-4)
    circuits, head = subject.layer(12), 7
    values = circuits.value_inputs(states[12][:, 0]) @ circuits.W_V[subject.shape.kv_head(head)]
    torch.testing.assert_close(values, z[0][:, head * 64 : head * 64 + 64], rtol=1e-4, atol=1e-4)
