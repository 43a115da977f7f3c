"""Tokens as text: both packaged vocabularies against the tokenizer itself, small ones against their spelling."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from describe.errors import InputError
from describe.subject.gguf_header import read_header
from describe.subject.sources import Checkpoint
from describe.subject.vocabulary import Vocabulary, load_tokenizer, load_vocabulary, vocabulary_of


@pytest.fixture(scope="session")
def smollm2(smollm2_path) -> Vocabulary:
    return load_vocabulary(Checkpoint("smollm2", None, smollm2_path), 49152)


@pytest.fixture(scope="session")
def gemma3(gemma3_path) -> Vocabulary:
    return load_vocabulary(Checkpoint("gemma3", None, gemma3_path), 262144)


def ordinary(vocabulary: Vocabulary) -> list[int]:
    left_out = vocabulary.special | vocabulary.unused | vocabulary.padding | vocabulary.fragments
    return [index for index in range(len(vocabulary)) if index not in left_out]


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_texts_are_what_the_tokenizer_decodes(name, request):
    """Between two other tokens no decoder strips a space, so the middle is the token's own text."""
    vocabulary = request.getfixturevalue(name)
    anchor = vocabulary.id_of("x")
    ids = random.Random(0).sample(ordinary(vocabulary), 5000)
    decoded = vocabulary.tokenizer.decode_batch([[anchor, index, anchor] for index in ids])
    assert [text[1:-1] for text in decoded] == [vocabulary.texts[index] for index in ids]


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_ordinary_texts_give_their_id_back(name, request):
    vocabulary = request.getfixturevalue(name)
    ids = random.Random(1).sample(ordinary(vocabulary), 5000)
    for index in ids:
        text = vocabulary.texts[index]
        found = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
        assert (found == [index]) == (index not in vocabulary.never_produced), text
        assert vocabulary.id_of(text) == (index if found == [index] else None)
        assert vocabulary.byte_length(index) == len(text.encode())


def test_smollm2_vocabulary(smollm2):
    assert len(smollm2) == 49152
    assert {"<|endoftext|>", "<|im_start|>"} <= {smollm2.texts[index] for index in smollm2.special}
    assert (len(smollm2.special), len(smollm2.unused), len(smollm2.padding)) == (17, 0, 0)
    assert smollm2.texts[smollm2.word_id("Paris")] == " Paris"
    assert smollm2.id_of("Paris") not in (None, smollm2.word_id("Paris"))
    assert smollm2.texts[smollm2.word_id("7")] == "7"  # this tokenizer cuts numbers into bare digits
    assert smollm2.id_of("20") is None
    assert smollm2.word_id("xyzzyq") is smollm2.word_id("") is smollm2.id_of("") is None
    assert "<0xE2><0x80>" in {smollm2.texts[index] for index in smollm2.fragments}
    # a replacement character stands only where a token is one
    assert {smollm2.byte_length(i) for i, text in enumerate(smollm2.texts) if "\ufffd" in text} <= {3}
    assert not [i for i in smollm2.fragments if "\ufffd" in smollm2.texts[i]]


def test_gemma3_vocabulary(gemma3):
    assert len(gemma3.unused) == 6242 and {gemma3.texts[i] for i in (0, 1, 2)} == {"<pad>", "<eos>", "<bos>"}
    assert {0, 1, 2} <= gemma3.special
    assert len(gemma3.fragments) == 256 and gemma3.id_of("<0x41>") is None
    assert gemma3.texts[gemma3.word_id("Paris")] == " Paris"
    assert gemma3.texts[gemma3.word_id("東京")] == "東京"  # written without spaces
    assert gemma3.texts[gemma3.id_of("\n\n")] == "\n\n"
    assert gemma3.texts[gemma3.id_of("    ")] == "    "
    assert len(gemma3.never_produced) < 20


def test_gguf_tokenizer_is_kept_and_read_back(smollm2_path, tmp_path, monkeypatch):
    monkeypatch.setenv("HEAD_DESCRIPTIONS_CACHE", str(tmp_path))
    first = load_tokenizer(Checkpoint("smollm2", None, smollm2_path))
    kept = list((tmp_path / "tokenizers").iterdir())
    assert len(kept) == 1
    assert load_tokenizer(Checkpoint("smollm2", None, smollm2_path)).to_str() == first.to_str()
    kept[0].write_text("{")
    assert load_tokenizer(Checkpoint("smollm2", None, smollm2_path)).to_str() == first.to_str()


def test_gguf_tokenizer_is_that_of_transformers_but_for_digits(smollm2_path, smollm2):
    oracle = AutoTokenizer.from_pretrained(smollm2_path.parent, gguf_file=smollm2_path.name)
    for text in ["Paris is a city.", " naïve  café\n\n\tx", "don't stop", "<|im_start|>user", "日本語"]:
        assert smollm2.tokenizer.encode(text, add_special_tokens=False).ids == oracle(text).input_ids
    tokens = read_header(smollm2_path).metadata["tokenizer.ggml.tokens"]
    assert [tokens[index] for index in smollm2.tokenizer.encode("1984").ids] == list("1984")


def byte_level() -> Tokenizer:
    entries = ["Ġ", "a", "b", "Ġa", "ab", "âĢ", "â", "Ģ", "Ċ", "Ã©", "Ã", "©", "ba"]
    merges = [("Ġ", "a"), ("â", "Ģ"), ("Ã", "©"), ("a", "b")]
    bpe = models.BPE(vocab={entry: index for index, entry in enumerate(entries)}, merges=merges)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens(
        [AddedToken("Ġkeep", special=False), AddedToken("<|reserved_special_token_0|>", special=True)]
    )
    return tokenizer


def test_small_byte_level_vocabulary():
    vocabulary = vocabulary_of(byte_level(), 20)
    assert vocabulary.texts[:5] == (" ", "a", "b", " a", "ab")
    assert vocabulary.texts[5:8] == ("<0xE2><0x80>", "<0xE2>", "<0x80>")
    assert vocabulary.fragments == {5, 6, 7, 10, 11}
    assert vocabulary.texts[8:10] == ("\n", "é")
    assert vocabulary.byte_lengths[5] == vocabulary.byte_lengths[9] == 2
    assert vocabulary.never_produced == {12}  # `ba` has no merge
    assert vocabulary.texts[13:16] == ("<|end|>", "Ġkeep", "<|reserved_special_token_0|>")  # as it is spelt
    assert (vocabulary.special, vocabulary.unused, vocabulary.padding) == ({13}, {15}, {16, 17, 18, 19})
    assert len(set(vocabulary.texts)) == 20
    assert vocabulary.id_of("ba") is vocabulary.id_of("<0xE2>") is vocabulary.id_of("[no token 16]") is None


def test_rows_fewer_than_tokens_and_digest():
    vocabulary = vocabulary_of(byte_level(), 5)
    assert vocabulary.texts == (" ", "a", "b", " a", "ab")
    assert vocabulary.digest == vocabulary_of(byte_level(), 5).digest != vocabulary_of(byte_level(), 6).digest


def test_small_sentencepiece_vocabulary_that_puts_a_space_before_text():
    entries = ["<unk>", "<0x41>", "▁", "a", "b", "▁a", "ab", "▁▁"]
    merges = [("▁", "a"), ("▁", "▁"), ("a", "b")]
    vocab = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<unk>"])
    vocabulary = vocabulary_of(tokenizer, len(entries))
    assert vocabulary.texts == ("<unk>", "<0x41>", " ", "a", "b", " a", "ab", "  ")
    assert vocabulary.fragments == {1} and vocabulary.byte_length(1) == 1
    assert vocabulary.special == {0}
    assert (
        not vocabulary.never_produced
    )  # `ab` never stands alone at the start, but after another token it does
    assert vocabulary.word_id("a") == 5 and vocabulary.id_of("a") == 3


def test_folder_tokenizer_and_damage(tmp_path):
    checkpoint = Checkpoint("tiny", tmp_path, None)
    with pytest.raises(InputError, match="'tiny' has no tokenizer") as caught:
        load_vocabulary(checkpoint, 20)
    assert ". " not in str(caught.value)
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert load_vocabulary(checkpoint, 20) == vocabulary_of(byte_level(), 20)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(InputError, match="'tokenizer.json' of 'tiny' is damaged"):
        load_vocabulary(checkpoint, 20)


def test_gguf_without_tokenizer(tmp_path):
    import gguf

    path = Path(tmp_path / "bare.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(InputError, match=r"'bare\.gguf' has no tokenizer"):
        load_vocabulary(Checkpoint("bare", None, path), 20)
