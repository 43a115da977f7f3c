"""A tiny Llama with a real tokenizer, some planted copying heads and token texts that mean harm."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import data

LAYERS, HEADS, KV_HEADS, D, D_HEAD = 3, 4, 4, 64, 16
VOCABULARY = 640  # of the tokenizer, hostile tokens aside
COPYING = ((1, 0), (1, 1), (2, 2))  # heads that promote what they read
HOSTILE_HEAD = (2, 1)  # reads the hostile tokens more than any other head does
HOSTILE = (
    "q\"uo'te",
    "new\nline",
    "\x1b[31mred\x1b[0m",
    "rtl\u202edaer\u202c",
    "<script>alert(1)</script>",
    "'); DROP TABLE runs; --",
    "tab\tback\\slash",
    "long" * 250,
)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A folder as transformers writes it: config.json, model.safetensors and tokenizer.json."""
    tokenizer = trained_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    model = tiny_llama(tokenizer, seed)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    transformers.utils.logging.enable_progress_bar()
    return folder


def trained_tokenizer() -> Tokenizer:
    """Byte-level BPE over the words of the relations, with the hostile texts as added tokens."""
    words = [
        word
        for path in sorted((Path(data.__file__).parent / "relations").glob("*.json"))
        for pair in json.loads(path.read_text(encoding="utf-8"))["pairs"][:30]
        for word in pair
        if word.isascii() and word.isalpha()
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word} {word.lower()}" for word in words] * 3, trainer)
    tokenizer.add_tokens(list(HOSTILE))
    return tokenizer


def tiny_llama(tokenizer: Tokenizer, seed: int) -> transformers.LlamaForCausalLM:
    """Random weights around the planted heads; block 0 writes little, so that embeddings stay readable."""
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=D,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=D_HEAD,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.copy_(torch.nn.functional.normalize(torch.randn(embedding.shape), dim=1))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(3)
        for at, head in COPYING:
            attention, rows = model.model.layers[at].self_attn, slice(head * D_HEAD, (head + 1) * D_HEAD)
            basis = torch.linalg.qr(torch.randn(D, D_HEAD))[0]
            attention.v_proj.weight[rows] = basis.T
            attention.o_proj.weight[:, rows] = 3 * basis
        at, head = HOSTILE_HEAD
        read = model.model.layers[at].self_attn.v_proj.weight[head * D_HEAD : (head + 1) * D_HEAD]
        ids = [tokenizer.token_to_id(text) for text in HOSTILE]
        drawn = torch.randn(len(ids), D_HEAD) @ torch.linalg.qr(read.T)[0].T
        embedding[ids] = torch.nn.functional.normalize(drawn, dim=1)
    return model
