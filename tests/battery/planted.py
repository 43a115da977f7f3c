"""A small GPT-2 with heads of known function written into its weights, and the same model with random sharp heads.

The stream's width is split into what the token is (T), where it stands (P) and what the token before was (C). Layer 0
head 0 attends to the token before and copies its T into C; layer 1 head 0 attends to where C is the token at hand and
writes that place's T: an induction pair. Layer 1 head 1 attends to its own token's other occurrences and takes them
off; layer 2 head 1 attends to everything alike and writes it. The other heads are small and random.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data import battery_input
from describe.relations import scored_relations

T, P, C = slice(0, 128), slice(128, 256), slice(256, 384)
D, LAYERS, HEADS, D_HEAD, POSITIONS = 512, 3, 2, 256, 128
SHARP = 25.0  # a match's score before the softmax


def save_planted(folder: Path, random: bool = False, seed: int = 0) -> Path:
    """A folder as transformers writes it, with a tokenizer that knows the battery's words."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = battery_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=POSITIONS,
        n_embd=D,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=8,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        _embed(model)
        for block in model.transformer.h:
            for linear in (block.attn.c_attn, block.attn.c_proj):
                linear.weight.normal_(std=0.02 if not random else 0.06)
                linear.bias.zero_()
            if random:  # queries and keys large enough that heads choose some keys over others
                block.attn.c_attn.weight[:, : 2 * D] *= 3
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
        if not random:
            _plant(model)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def battery_tokenizer() -> Tokenizer:
    """Byte-level BPE in which the battery's words are one token each, and rare words are several."""
    words: list[str] = []
    for name, keys in (
        ("common_words", ("words",)),
        ("indirect_objects", ("names", "places", "objects")),
        ("acronyms", ("words",)),
        ("needles", ("names",)),
    ):
        words += [word for key in keys for word in battery_input(name)[key]]
    words += [value for kind in battery_input("needles")["kinds"] for value in kind["values"]]
    words += [member for members in battery_input("sequences")["sequences"].values() for member in members]
    for one in scored_relations():
        if one.name in ("country_to_capital", "country_to_language"):
            words += [word.strip() for pair in one.pairs for word in pair]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3200,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    texts = [entry["text"] for entry in battery_input("texts")["texts"]]
    tokenizer.train_from_iterator([*texts, *(f" {word}" for word in words * 20)], trainer)
    return tokenizer


def _embed(model: transformers.GPT2LMHeadModel) -> None:
    """Tokens in T, positions in P; every row of length 1, so that the norms scale all alike."""
    tokens, positions = model.transformer.wte.weight, model.transformer.wpe.weight
    directions = torch.nn.functional.normalize(torch.randn(len(tokens), T.stop - T.start), dim=1)
    tokens.zero_()
    tokens[:, T] = directions
    positions.zero_()
    positions[:, P] = torch.eye(POSITIONS)


def _plant(model: transformers.GPT2LMHeadModel) -> None:
    first, second, third = (block.attn for block in model.transformer.h)
    same = torch.eye(128)
    shift = torch.zeros(POSITIONS, POSITIONS)
    shift[torch.arange(POSITIONS - 1), torch.arange(1, POSITIONS)] = 1  # a key says who comes after it
    _set(first, 0, query=[(P, same)], key=[(P, shift)], parts=2)
    _move(first, 0, source=T, target=C, gain=1 / _scale(2))
    _set(second, 0, query=[(T, same)], key=[(C, same)], parts=3)
    _move(second, 0, source=T, target=T, gain=2 / _scale(3))
    _set(second, 1, query=[(T, same), (P, -2 * same)], key=[(T, same), (P, same)], parts=3)  # not to itself
    _move(second, 1, source=T, target=T, gain=-1 / _scale(3))
    _set(third, 1, query=[], key=[], parts=4)
    _move(third, 1, source=T, target=T, gain=4 / _scale(4))


def _scale(parts: int) -> float:
    """What the norm makes of a part of length 1, of so many."""
    return float((D / parts) ** 0.5)


def _columns(block: int, head: int) -> slice:
    start = block * D + head * D_HEAD
    return slice(start, start + D_HEAD)


def _set(attention, head, query, key, parts) -> None:
    """Queries and keys that read parts of the stream, of which there are so many; equal parts match with `SHARP`."""
    gain = (SHARP * D_HEAD**0.5) ** 0.5 / _scale(parts)
    for block, reads in enumerate((query, key)):
        columns = _columns(block, head)
        attention.c_attn.weight[:, columns] = 0
        for place, (part, matrix) in enumerate(reads):
            start = columns.start + 128 * place
            attention.c_attn.weight[part, start : start + 128] = matrix * gain


def _move(attention, head, source, target, gain) -> None:
    """Values that take a part of the stream into another."""
    columns, rows = _columns(2, head), slice(head * D_HEAD, (head + 1) * D_HEAD)
    attention.c_attn.weight[:, columns] = 0
    attention.c_attn.weight[source, columns.start : columns.start + 128] = torch.eye(128)
    attention.c_proj.weight[rows] = 0
    attention.c_proj.weight[rows.start : rows.start + 128, target] = gain * torch.eye(128)
