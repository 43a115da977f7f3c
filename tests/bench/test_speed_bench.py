"""The speed and memory benchmark: its naive rule against the product, its bookkeeping, and what keeps memory low."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from describe.errors import DescribeError
from describe.jobs.projecting import Projector
from describe.records import HeadId
from describe.settings import preset
from describe.subject.block0 import block0_states
from describe.subject.first_mlp import gated_first_mlp
from describe.subject.model import load_weights
from describe.subject.weights import layout_of
from eval.bench.memory import Sizes, write_checkpoint, write_config
from eval.bench.naive import naive_head
from eval.bench.processes import Cost, run_part
from eval.bench.speed import QUICK_HEADS, _scaled, compare, sample, table
from eval.bench.speed_parts import FIELDS

_spec = importlib.util.spec_from_file_location(
    "subject_tiny", Path(__file__).parents[1] / "subject" / "tiny.py"
)
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)

SMALL = Sizes(d_model=64, n_heads=4, n_kv_heads=2, d_head=16, n_vocab=3000)
SETTINGS = replace(preset("paper"), source="embedding", salient=12, targets=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made-up")
    write_checkpoint(folder, SMALL, 3)
    return folder


def product_table(projection, head):
    up, down = projection.mappings[head, "promote"], projection.mappings[head, "suppress"]
    return (up.source_ids, up.saliency, up.target_ids, up.logits, down.target_ids, down.logits)


def keyed(tables):
    return {f"{head}.{f}": a for head, t in tables.items() for f, a in zip(FIELDS, t, strict=True)}


def test_the_product_equals_the_naive_rule_on_a_made_up_checkpoint(checkpoint):
    model = load_weights(str(checkpoint))
    ours, naive = {}, {}
    for projection in Projector(model, SETTINGS, {}).layers(range(3)):
        circuits = model.layer(projection.layer)
        for head in range(SMALL.n_heads):
            name = HeadId(projection.layer, head)
            ours[name] = product_table(projection, head)
            W_VO = circuits.W_V[head // 2] @ circuits.W_O[head]
            found = naive_head(model.W_E(), W_VO, model.unembedding(), SETTINGS.salient, SETTINGS.targets)
            naive[name] = tuple(getattr(found, f).numpy() for f in FIELDS)
    parity = compare(keyed(ours), keyed(naive))
    assert parity.heads == 12
    assert parity.places == 12 * 12 * (1 + 4 + 4)
    assert parity.different == 0
    assert parity.equal >= parity.places - 4


def made_up_table(rng):
    saliency = np.sort(rng.random(6))[::-1].astype(np.float32)
    logits = -np.sort(-rng.random((6, 3)), axis=1).astype(np.float32)
    return [
        np.arange(6),
        saliency,
        rng.integers(0, 99, (6, 3)),
        logits,
        rng.integers(100, 199, (6, 3)),
        -logits,
    ]


def test_compare_tells_rounding_from_error():
    naive = made_up_table(np.random.default_rng(0))
    same = keyed({"L0H0": naive})
    assert compare(same, same).equal == 6 + 2 * 18

    near = [part.copy() for part in naive]
    near[3][2, 1] = near[3][2, 0] * np.float32(1 - 1e-7)
    swapped = [part.copy() for part in near]
    swapped[2][2, [0, 1]] = swapped[2][2, [1, 0]]
    found = compare(keyed({"L0H0": swapped}), keyed({"L0H0": near}))
    assert (found.swapped, found.different) == (2, 0)

    wrong = [part.copy() for part in naive]
    wrong[2][2, 0], wrong[3][2, 0] = 98765, naive[3][2, 0] * 1.01
    found = compare(keyed({"L0H0": wrong}), same)
    assert (found.swapped, found.different) == (0, 1)

    other_source = [part.copy() for part in naive]
    other_source[0][5], other_source[1][5] = 77, naive[1][5] * 1.01
    found = compare(keyed({"L0H0": other_source}), same)
    assert found.different == 1
    assert found.places == 6 + 2 * 15  # its targets have nothing to be compared with


@pytest.mark.parametrize(("layers", "heads", "count"), [(30, 9, QUICK_HEADS), (2, 2, 9), (5, 3, 1)])
def test_sampled_heads_are_distinct_and_reach_both_ends(layers, heads, count):
    chosen = [HeadId.parse(one) for one in sample(layers, heads, count)]
    assert len(set(chosen)) == len(chosen) == min(count, layers * heads)
    assert all(one.layer < layers and one.head < heads for one in chosen)
    if count > 1:
        assert {0, layers - 1} <= {one.layer for one in chosen}


def test_only_the_time_of_the_heads_is_multiplied():
    found = {name: {"wall_seconds": 10.0, "cpu_seconds": 8.0} for name in ("load", "core")}
    one = _scaled("naive", found, Cost(25.0, 18.0, 5), run=5, of=50)
    assert (one.wall_seconds, one.cpu_seconds, one.peak_bytes) == (25 + 90, 18 + 72, 5)
    rows = table([one.__dict__, one.__dict__ | {"wall_seconds": 230.0, "run": 50}])
    assert rows[1][3] == "2.0"
    assert [row[-1] for row in rows] == ["5 of 50, multiplied", "all"]


def test_a_part_that_fails_says_why():
    with pytest.raises(DescribeError, match="no_such_part"):
        run_part("eval.bench.no_such_part", [], 1)


def test_shallow_and_deep_readings_share_one_checkpoint(tmp_path):
    write_checkpoint(tmp_path, SMALL, 3)
    assert load_weights(str(tmp_path)).shape.n_layers == 3
    write_config(tmp_path, SMALL, 1)
    shape = load_weights(str(tmp_path)).shape
    assert (shape.n_layers, shape.n_heads, shape.n_kv_heads, shape.d_head) == (1, 4, 2, 16)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's memory map")
def test_no_page_of_a_read_file_stays_mapped(checkpoint):
    model = load_weights(str(checkpoint))
    layer = model.layer(1)
    assert layer.W_V.shape == (2, 64, 16)
    assert str(checkpoint) not in Path("/proc/self/maps").read_text()


def test_token_ids_need_no_transformers():
    """The light path: the mappings of the paper's preset on a llama GGUF file load no transformers."""
    code = (
        "import sys, json; from describe.subject.model import load_weights\n"
        "m = load_weights('smollm2'); rows = m.block0(want={'mlp0'}).mlp0\n"
        "print(json.dumps(['transformers' in sys.modules, *rows.shape]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, 49152, 576]


def test_light_answers_are_those_of_transformers(smollm2_path):
    config = load_weights(str(smollm2_path)).config
    assert config._known
    for name, value in config._known.items():
        assert getattr(config.full, name) == value, name
    assert config.rope_parameters == config.full.rope_parameters


def test_the_light_first_mlp_is_transformers_own(smollm2_path):
    model, ids = load_weights(str(smollm2_path)), torch.tensor([0, 5, 17, 40_000])
    light = model.block0(ids, want={"mlp0"}).mlp0
    own = model.block0(
        ids, want={"mlp0", "entry"}
    ).mlp0  # more than the MLP is asked for: the whole block runs
    torch.testing.assert_close(light, own, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("case", ["llama", "mistral", "qwen2", "qwen3", "smollm3"])
def test_the_light_first_mlp_serves_every_gated_type(case, tmp_path):
    found = tiny.tiny_subject(case, tmp_path)
    assert gated_first_mlp(layout_of(found.config, found.store), found.store) is not None
    light = block0_states(found.config, found.store, want={"mlp0"}).mlp0
    own = block0_states(found.config, found.store, want={"mlp0", "entry"}).mlp0
    torch.testing.assert_close(light, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["gpt2", "gemma2", "mixtral", "olmo2", "phi3"])
def test_other_first_mlps_are_left_to_transformers(case, tmp_path):
    found = tiny.tiny_subject(case, tmp_path)
    assert gated_first_mlp(layout_of(found.config, found.store), found.store) is None


def test_a_tensor_in_use_is_not_read_twice(smollm2_path):
    store = load_weights(str(smollm2_path)).store
    name = "model.norm.weight"
    first = store.read(name)
    assert store.read(name) is first
    expected = first.clone()
    del first
    assert torch.equal(store.read(name), expected)
