"""The tokenizer of a checkpoint: read from its folder, or rebuilt from a GGUF file's metadata and kept."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from describe.cache import cache_root, file_sha256, write_atomically
from describe.errors import InputError
from describe.subject.gguf_header import read_header
from describe.subject.sources import Checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_GGUF_KEYS = {  # what transformers' converter calls the fields of tokenizer.ggml
    "model": "tokenizer_type",
    "pre": "pre_tokenizer_type",
    "tokens": "tokens",
    "scores": "scores",
    "token_type": "token_type",
    "merges": "merges",
    "precompiled_charsmap": "precompiled_charsmap",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "unknown_token_id": "unk_token_id",
    "padding_token_id": "pad_token_id",
    "add_space_prefix": "add_prefix_space",
}
# llama.cpp's names of pre-tokenizers that cut numbers into digits before GPT-2's rule
# (llama-vocab.cpp); transformers leaves them together, and would say that text gives the token `20`
_SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The checkpoint's own tokenizer; for a GGUF file it is rebuilt once and kept in the user's cache.

    Raises:
        InputError: there is no tokenizer, or it is damaged.
    """
    if checkpoint.gguf is not None:
        return _gguf_tokenizer(checkpoint.gguf)
    from tokenizers import Tokenizer

    if checkpoint.folder is None:
        raise ValueError("a checkpoint has a folder or a GGUF file")
    path = checkpoint.folder / "tokenizer.json"
    if path.is_file():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(
                f"'tokenizer.json' of '{checkpoint.name}' is damaged: download it again."
            ) from error
    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=False, local_files_only=True
        )
        tokenizer: Tokenizer = slow.backend_tokenizer
    except Exception as error:  # transformers passes on errors of several libraries
        raise InputError(
            f"'{checkpoint.name}' has no tokenizer that can be read: put its tokenizer.json into the folder."
        ) from error
    return tokenizer


def _gguf_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata; building Gemma's takes seconds, reading it back one."""
    from importlib.metadata import version  # and not transformers itself, which takes seconds to import

    from tokenizers import Tokenizer

    recipe = f"{file_sha256(path)[:32]}-{version('transformers')}-2"
    kept = cache_root() / "tokenizers" / f"{recipe}.json"
    if kept.is_file():
        try:
            return Tokenizer.from_file(str(kept))
        except Exception:  # noqa: BLE001  # a damaged copy is made again
            kept.unlink(missing_ok=True)
    header = read_header(path)
    fields: dict[str, Any] = {
        name: header.metadata[f"tokenizer.ggml.{key}"]
        for key, name in _GGUF_KEYS.items()
        if f"tokenizer.ggml.{key}" in header.metadata
    }
    if not fields.get("tokens"):
        raise InputError(f"'{path.name}' has no tokenizer in its metadata: convert the model again.")
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

    try:
        tokenizer: Tokenizer = convert_gguf_tokenizer(header.architecture, fields)[0]
    except Exception as error:  # the converter checks nothing and fails in its own ways
        raise InputError(
            f"The tokenizer in '{path.name}' ({fields.get('tokenizer_type')}) cannot be rebuilt: use the "
            "model's folder with its tokenizer.json."
        ) from error
    if fields.get("pre_tokenizer_type") in _SINGLE_DIGITS:
        from tokenizers import pre_tokenizers

        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    _begin_with_bos(tokenizer, header.metadata)
    with suppress(OSError):  # a cache that cannot be written only costs time
        write_atomically(kept, tokenizer.to_str())
    return tokenizer


def _begin_with_bos(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> None:
    """Have texts begin with the beginning-of-text token where the file says so; the converter leaves it out.

    A file that does not say so means yes for SentencePiece ("llama") and no for byte-level BPE, as in llama.cpp.
    """
    wanted = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
    number = metadata.get("tokenizer.ggml.bos_token_id")
    bos = None if number is None else tokenizer.id_to_token(int(number))
    if wanted and bos is not None:
        from tokenizers.processors import TemplateProcessing

        tokenizer.post_processor = TemplateProcessing(
            single=[bos, "$A"], special_tokens=[(bos, int(metadata["tokenizer.ggml.bos_token_id"]))]
        )
