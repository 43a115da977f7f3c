"""Tensors by name: GGUF against transformers' own loader, safetensors against the file; damaged files."""

import hashlib
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf.constants import GGMLQuantizationType as Kind
from safetensors.torch import save_file

from describe.errors import InputError
from describe.subject.gguf_header import read_header
from describe.subject.sources import Checkpoint
from describe.subject.stores import GgufStore, SafetensorsStore, load_config, open_store

D, LAYERS, HEADS, KV_HEADS, V = 64, 2, 4, 2, 40
SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": D // HEADS,
    "max_position_embeddings": 32,
}
GPT2_SIZES = {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 1024}
CASES = {
    "llama": ("llama", SIZES | {"tie_word_embeddings": False}),
    "llama-tied": ("llama", SIZES | {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", SIZES | {"tie_word_embeddings": False}),
    "qwen3": ("qwen3", SIZES | {"tie_word_embeddings": True, "head_dim": 128}),
    "gemma2": ("gemma2", SIZES),
    "gemma3": ("gemma3_text", SIZES | {"sliding_window": 8}),
    "gpt2": ("gpt2", GPT2_SIZES),
}


def sentence(action) -> str:
    """The message of the InputError that `action` must raise, checked to be one sentence."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert message.endswith(".") and ". " not in message and "\n" not in message, message
    return message


def write_gguf(path: Path, architecture: str, model: transformers.PreTrainedModel, quantised=False) -> None:
    """Write a model as llama.cpp's convert_hf_to_gguf.py does (its name map, its changes to tensors)."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(D)
    writer.add_head_count(HEADS)
    writer.add_feed_forward_length(config.n_embd * 4 if architecture == "gpt2" else config.intermediate_size)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
        writer.add_rope_freq_base(5000.0)
    if architecture == "llama":
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))  # Llama 3 has it; it is no parameter
    if architecture.startswith("gemma"):
        writer.add_sliding_window(8)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{index}" for index in range(V)])
    names = gguf.get_tensor_name_map(
        next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), LAYERS
    )
    for hf_name, tensor in model.state_dict().items():
        if hf_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        base, _, kind = hf_name.rpartition(".")
        values = tensor.float().numpy()
        if architecture == "llama" and base.endswith(("q_proj", "k_proj")):
            heads = HEADS if base.endswith("q_proj") else KV_HEADS
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if architecture.startswith("gemma") and hf_name.endswith("norm.weight"):
            values = values + 1
        if architecture == "gpt2" and "ln" not in base and "wte" not in base and "wpe" not in base:
            values = values.T if values.ndim == 2 and "lm_head" not in base else values
        name = f"{names.get_name(base)}.{kind}"
        assert not name.startswith("None"), hf_name
        values = np.ascontiguousarray(values)
        if quantised and values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(values, Kind.Q8_0), raw_dtype=Kind.Q8_0)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny_model(case: str) -> transformers.PreTrainedModel:
    model_type, sizes = CASES[case]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # norms start at 0 or 1 and biases at 0: no test could miss them
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", tiny_model("llama"))
    return path


@pytest.mark.parametrize("case", CASES)
def test_gguf_gives_the_original_weights_and_what_transformers_gives(case, tmp_path):
    architecture = case.split("-")[0]
    model = tiny_model(case)
    write_gguf(tmp_path / "tiny.gguf", architecture, model)
    store = open_store(Checkpoint("tiny", None, tmp_path / "tiny.gguf"))
    original = model.state_dict()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.float32
    )
    assert store.names() == set(original) - (
        {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    )
    for name in store.names():
        tensor = store.read(name)
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, loaded.state_dict()[name]), name
        # adding 1 to a gain in float32 rounds, everything else is exact
        torch.testing.assert_close(tensor, original[name], rtol=0, atol=1e-6 if "norm" in name else 0)


@pytest.mark.parametrize("case", CASES)
def test_gguf_config_is_transformers_config(case, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", case.split("-")[0], tiny_model(case))
    config = load_config(Checkpoint("tiny", None, tmp_path / "tiny.gguf")).to_dict()
    oracle = transformers.AutoConfig.from_pretrained(tmp_path, gguf_file="tiny.gguf").to_dict()
    for values in (config, oracle):
        values.pop("_name_or_path", None), values.pop("_model_name_or_path", None)
    assert config == oracle
    assert config["vocab_size"] == V


def test_quantised_gguf_is_dequantised_as_gguf_does(tmp_path):
    model = tiny_model("llama")
    write_gguf(tmp_path / "tiny.gguf", "llama", model, quantised=True)
    store = GgufStore(tmp_path / "tiny.gguf")
    name = "model.layers.1.self_attn.v_proj.weight"
    values = model.state_dict()[name].numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(values, Kind.Q8_0), Kind.Q8_0)
    assert np.array_equal(store.read(name).numpy(), expected)
    assert not np.array_equal(store.read(name).numpy(), values)


def test_header_agrees_with_the_gguf_packages_reader(tiny_gguf):
    header, reader = read_header(tiny_gguf), gguf.GGUFReader(tiny_gguf)
    assert {entry.name for entry in reader.tensors} == set(header.tensors)
    for tensor in reader.tensors:
        entry = header.tensors[tensor.name]
        assert (entry.start, entry.n_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert entry.shape == tuple(reversed(tensor.shape.tolist()))
    for key, value in reader.fields.items():
        if not key.startswith("GGUF."):
            assert header.metadata[key] == value.contents()


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["smollm2_path", "gemma3_path"])
def test_packaged_models_equal_transformers_bit_for_bit(fixture, request):
    path = request.getfixturevalue(fixture)
    checkpoint = Checkpoint("packaged", None, path)
    store = open_store(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    loaded = model.state_dict()
    assert set(loaded) - store.names() == {"lm_head.weight"}
    for name in store.names():
        assert torch.equal(store.read(name), loaded[name]), name
    ours, theirs = load_config(checkpoint).to_dict(), model.config.to_dict()
    differing = {key for key in ours if ours[key] != theirs.get(key)}
    assert differing <= {"_name_or_path", "_model_name_or_path", "dtype", "architectures"}


def test_gguf_digest_is_of_the_content(tiny_gguf):
    assert GgufStore(tiny_gguf).digest == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    copy = tiny_gguf.with_name("other.gguf")
    copy.write_bytes(tiny_gguf.read_bytes())
    assert GgufStore(copy).digest == GgufStore(tiny_gguf).digest
    content = bytearray(tiny_gguf.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert GgufStore(copy).digest != GgufStore(tiny_gguf).digest


@pytest.mark.parametrize("keep", [0, 3, 10, 30, 200, 2000, -1])
def test_truncated_gguf(tiny_gguf, keep):
    tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:keep])
    assert "'tiny.gguf'" in sentence(lambda: GgufStore(tiny_gguf))


def test_gguf_of_another_magic_or_version(tiny_gguf):
    content = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(b"GGML" + content[4:])
    assert "'tiny.gguf' is no GGUF file" in sentence(lambda: GgufStore(tiny_gguf))
    tiny_gguf.write_bytes(b"GGUF" + struct.pack("<I", 1) + content[8:])
    assert "version 1" in sentence(lambda: load_config(Checkpoint("tiny", None, tiny_gguf)))


def test_gguf_with_absurd_counts(tiny_gguf):
    content = tiny_gguf.read_bytes()
    tiny_gguf.write_bytes(content[:8] + struct.pack("<QQ", 2**60, 2**60) + content[24:])
    assert "cut off or damaged" in sentence(lambda: GgufStore(tiny_gguf))


def test_gguf_that_is_absent(tmp_path):
    assert "'no.gguf'" in sentence(lambda: GgufStore(tmp_path / "no.gguf"))


def written(path: Path, architecture: str, name: str, kind: int = 0) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tensor(name, np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    row = content.index(name.encode()) + len(name) + 4 + 2 * 8
    path.write_bytes(content[:row] + struct.pack("<I", kind) + content[row + 4 :])
    return path


def test_gguf_of_an_unchecked_architecture(tmp_path):
    path = written(tmp_path / "odd.gguf", "mamba", "token_embd.weight")
    for action in (lambda: GgufStore(path), lambda: load_config(Checkpoint("odd", None, path))):
        message = sentence(action)
        assert "'mamba'" in message and "'odd.gguf'" in message


def test_gguf_with_an_unknown_tensor_or_quantisation(tmp_path):
    path = written(tmp_path / "moe.gguf", "llama", "blk.0.ffn_gate_exps.weight")
    assert "'blk.0.ffn_gate_exps.weight'" in sentence(lambda: GgufStore(path))
    path = written(tmp_path / "new.gguf", "llama", "output.weight", kind=999)
    assert "type 999" in sentence(lambda: GgufStore(path))
    store = GgufStore(written(tmp_path / "odd.gguf", "llama", "output.weight", kind=Kind.I8))
    assert "I8" in sentence(lambda: store.read("lm_head.weight"))
    assert "'absent'" in sentence(lambda: store.read("absent"))


# safetensors


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"a": torch.randn(3, 4), "b": torch.randn(5).bfloat16(), "mask": torch.ones(2, dtype=torch.uint8)}


@pytest.fixture
def sharded(tmp_path, tensors) -> Path:
    folder = tmp_path / "sharded"
    folder.mkdir()
    files = {"a": "model-1.safetensors", "b": "model-2.safetensors", "mask": "model-2.safetensors"}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in files if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def test_single_and_sharded_safetensors(tmp_path, tensors, sharded):
    single = tmp_path / "single"
    single.mkdir()
    save_file(tensors, single / "model.safetensors")
    for folder in (single, sharded):
        store = open_store(Checkpoint("tiny", folder, None))
        assert store.names() == set(tensors)
        for name in ("a", "b"):
            assert (
                torch.equal(store.read(name), tensors[name]) and store.read(name).dtype == tensors[name].dtype
            )
        assert "uint8" in sentence(lambda store=store: store.read("mask"))
        assert "'absent'" in sentence(lambda store=store: store.read("absent"))


def test_safetensors_digest_is_of_names_and_content(sharded, tensors):
    first = SafetensorsStore(sharded).digest
    (sharded / "README.md").write_text("not a weight")
    assert SafetensorsStore(sharded).digest == first
    save_file({"a": tensors["a"] + 1}, sharded / "model-1.safetensors")
    assert SafetensorsStore(sharded).digest != first


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_safetensors(sharded, keep):
    file = sharded / "model-2.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "'model-2.safetensors'" in sentence(lambda: SafetensorsStore(sharded))


def test_missing_shard(sharded):
    (sharded / "model-1.safetensors").unlink()
    assert "'model-1.safetensors'" in sentence(lambda: SafetensorsStore(sharded))


def index(folder: Path, content: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_bad_index(sharded):
    index(sharded, {"weight_map": {"a": "model-2.safetensors"}})
    assert "'model-2.safetensors' holds 'a'" in sentence(lambda: SafetensorsStore(sharded))
    index(sharded, {"weight_map": {"a": "../model-1.safetensors"}})
    assert "'../model-1.safetensors'" in sentence(lambda: SafetensorsStore(sharded))
    for content in ({}, [], {"weight_map": 3}):
        index(sharded, content)
        assert "model.safetensors.index.json" in sentence(lambda: SafetensorsStore(sharded))
    (sharded / "model.safetensors.index.json").write_text("{")
    assert "not valid JSON" in sentence(lambda: SafetensorsStore(sharded))


def test_several_files_without_index(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    assert "'sharded' has several" in sentence(lambda: SafetensorsStore(sharded))


def test_folder_config(tmp_path):
    folder = tmp_path / "tiny"
    tiny_model("qwen3").config.save_pretrained(folder)
    checkpoint = Checkpoint("tiny", folder, None)
    config = load_config(checkpoint)
    assert (config.model_type, config.num_key_value_heads) == ("qwen3", KV_HEADS)
    file = folder / "config.json"
    values = json.loads(file.read_text())
    for bad, part in [
        (values | {"model_type": "novel", "auto_map": {"AutoConfig": "code.Novel"}}, "'novel', which"),
        (values | {"model_type": ["qwen3"]}, "'tiny'"),
        (values | {"num_hidden_layers": "many"}, "'tiny'"),
        ([1], "'config.json' of 'tiny'"),
    ]:
        file.write_text(json.dumps(bad))
        assert part in sentence(lambda: load_config(checkpoint))
    file.write_text('{"model_type": ')
    assert "'config.json' of 'tiny'" in sentence(lambda: load_config(checkpoint))
    file.unlink()
    assert "'config.json' of 'tiny'" in sentence(lambda: load_config(checkpoint))


def test_code_of_a_checkpoint_never_runs(tmp_path):
    folder = tmp_path / "trap"
    folder.mkdir()
    (folder / "code.py").write_text("raise SystemExit('ran')")
    (folder / "config.json").write_text('{"model_type": "novel", "auto_map": {"AutoConfig": "code.Novel"}}')
    assert "never run" in sentence(lambda: load_config(Checkpoint("trap", folder, None)))
