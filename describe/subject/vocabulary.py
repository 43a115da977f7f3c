"""The tokens of a subject model as text: what each id reads as, and which ids are no ordinary tokens."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from describe.subject.sources import Checkpoint
from describe.subject.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Vocabulary", "load_tokenizer", "load_vocabulary", "vocabulary_of"]

_SPACE = "▁"  # sentencepiece's visible space, U+2581
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# names that vocabularies give to rows kept for later (Gemma, Llama 3, Phi 3, BERT, Falcon, Mistral, GPT-NeoX)
_UNUSED = re.compile(
    r"<unused_?\d+>|\[unused\d+\]|<\|?reserved_.*\|?>|<\|?reserved\d+\|?>|\[PAD\d+\]|<\|placeholder\d+\|>"
    r"|<\|?dummy_?\w*\d+\|?>|<unk_\d+>|<SPECIAL_\d+>|>>UNUSED_\d+<<|<\|extra(token)?_\d+\|>|madeupword\d+"
)
# scripts written without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
# contexts in which a token may be produced although it is not when it stands alone (a tokenizer that puts a
# space before the text never produces `ing` alone, but does after `\n`)
_CONTEXTS = ("", "\n", "x", "1", ".", " ")
_BATCH = 32_768  # texts tokenised at a time


@dataclass(frozen=True)
class Vocabulary:
    """Every row of W_E as text. The sets hold ids; `special`, `unused` and `padding` do not overlap."""

    texts: tuple[str, ...]  # by id; a leading space is a real space; bytes that are no UTF-8 read <0xE2>
    byte_lengths: tuple[int, ...]  # of the token's own bytes; 0 for padding
    special: frozenset[int]  # control tokens, such as the beginning of text
    unused: frozenset[int]  # tokens named as kept for later, such as <unused12>
    padding: frozenset[int]  # rows without a token
    fragments: frozenset[int]  # bytes that are not UTF-8 by themselves, and byte-fallback tokens
    never_produced: frozenset[int]  # ordinary tokens that tokenising their own text never gives back
    tokenizer: Tokenizer = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the texts in order."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()

    @cached_property
    def spaced(self) -> bool:
        """Whether the tokenizer joins the space before a word to the word."""
        return sum(text[:1] == " " and text[1:2].isalpha() for text in self.texts) > len(self.texts) / 100

    def byte_length(self, token_id: int) -> int:
        """Length of a token's own bytes."""
        return self.byte_lengths[token_id]

    def id_of(self, text: str) -> int | None:
        """The id if the text, as it stands, is exactly one token; else None. No special token is added."""
        return self._ids.get(text)

    def word_id(self, word: str) -> int | None:
        """The id if the word, with the space before it that the tokenizer wants, is exactly one token."""
        word = word.strip()
        joined = f" {word}"
        if not self.spaced or not word:
            tries = [word]
        elif _UNSPACED.match(word):
            tries = [word, joined]
        elif word[0] in self._initials and word[0].isalnum():
            tries = [joined]
        else:
            tries = [joined, word]
        return next((found for text in tries if (found := self.id_of(text)) is not None), None)

    def pieces(self, text: str) -> list[int]:
        """The ids that the tokenizer cuts a text into; no special token is added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _initials(self) -> frozenset[str]:
        """The characters that the tokenizer joins a space to: usually letters, often not digits."""
        return frozenset(text[1] for text in self.texts if self.spaced and text[:1] == " " and len(text) > 1)

    @cached_property
    def _ids(self) -> dict[str, int]:
        left_out = self.padding | self.fragments | self.never_produced
        return {text: index for index, text in enumerate(self.texts) if index not in left_out}


def load_vocabulary(checkpoint: Checkpoint, n_vocab: int) -> Vocabulary:
    """The vocabulary of a checkpoint.

    Args:
        checkpoint: its folder with a tokenizer, or its GGUF file.
        n_vocab: rows of W_E; rows that the tokenizer does not know are padding.

    Raises:
        InputError: there is no tokenizer, or it is damaged.
    """
    tokenizer = load_tokenizer(checkpoint)
    return vocabulary_of(tokenizer, n_vocab)


def vocabulary_of(tokenizer: Tokenizer, n_vocab: int) -> Vocabulary:
    """A tokenizer's tokens for `n_vocab` embedding rows; tokens beyond the rows are left out."""
    added = tokenizer.get_added_tokens_decoder()
    raw: list[str | None] = [None] * n_vocab
    for entry, index in tokenizer.get_vocab(with_added_tokens=True).items():
        if index < n_vocab:
            raw[index] = entry
    is_byte_level = _is_byte_level(tokenizer)
    to_byte = _byte_alphabet() if is_byte_level else {}
    # byte-level tokenizers match added tokens as they are spelt; in the others a run of ▁ still means spaces
    literal = {index for index, mark in added.items() if is_byte_level or mark.special}

    texts: list[str] = []
    lengths: list[int] = []
    special: set[int] = set()
    unused: set[int] = set()
    padding: set[int] = set()
    fragments: set[int] = set()
    for index, token in enumerate(raw):
        if token is None:
            padding.add(index)
            texts.append(f"[no token {index}]")
            lengths.append(0)
            continue
        content = token.encode() if index in literal else _own_bytes(token, to_byte)
        byte_token = None if is_byte_level else _BYTE_TOKEN.fullmatch(token)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = _with_visible_bytes(content)
            fragments.add(index)
        if byte_token is not None:  # <0x41> must not read like the token A
            text, content = token, bytes.fromhex(byte_token[1])
            fragments.add(index)
        texts.append(text)
        lengths.append(len(content))
        if _UNUSED.fullmatch(text):
            unused.add(index)
        elif index in added and added[index].special:
            special.add(index)
    ordinary = sorted(set(range(n_vocab)) - special - unused - padding - fragments)
    return Vocabulary(
        texts=tuple(texts),
        byte_lengths=tuple(lengths),
        special=frozenset(special),
        unused=frozenset(unused),
        padding=frozenset(padding),
        fragments=frozenset(fragments),
        never_produced=_never_produced(tokenizer, texts, ordinary),
        tokenizer=tokenizer,
    )


def _never_produced(tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[int]) -> frozenset[int]:
    """The ids that no tokenisation of their own text, alone or after a short context, ends with."""
    left = list(ids)
    for context in _CONTEXTS:
        still = []
        for start in range(0, len(left), _BATCH):
            batch = left[start : start + _BATCH]
            encoded = tokenizer.encode_batch_fast(
                [context + texts[index] for index in batch], add_special_tokens=False
            )
            # alone, the text must be the one token; after a context, it must be the whole last token
            still += [
                index
                for index, encoding in zip(batch, encoded, strict=True)
                if (encoding.ids if not context else encoding.ids[-1:]) != [index]
            ]
        left = still
    return frozenset(left)


def _own_bytes(token: str, to_byte: dict[str, int]) -> bytes:
    """The bytes that a vocabulary entry stands for."""
    if not to_byte:
        return token.replace(_SPACE, " ").encode()
    if all(character in to_byte for character in token):
        return bytes(to_byte[character] for character in token)
    return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """Character → byte of GPT-2's byte-level BPE: printable bytes as they are, the others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether vocabulary entries are spelt in GPT-2's byte alphabet, as the decoder says."""
    if tokenizer.decoder is None:
        return False
    decoder = json.loads(tokenizer.decoder.__getstate__())
    return any(part.get("type") == "ByteLevel" for part in [decoder, *decoder.get("decoders", [])])


def _with_visible_bytes(content: bytes) -> str:
    """UTF-8 where it is valid, every other byte as <0xE2>."""
    text = content.decode("utf-8", errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda match: f"<0x{ord(match[0]) - 0xDC00:02X}>", text)
