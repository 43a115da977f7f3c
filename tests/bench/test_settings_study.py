"""The settings study: measured copying against the model's own sums, row choice, tests and the whole in small."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from describe.drafting.rules.drafter import RulesDrafter
from describe.drafting.rules.evidence import GradingSettings
from describe.encoders import MiniLM
from describe.records import HeadId, HeadMappings
from describe.settings import preset
from describe.subject.model import SubjectModel, load_subject
from describe.subject.running import LiveModel
from describe.subject.weights import model_shape
from eval.bench.copying import agreement, direct_effects, measured_copying, static_copying
from eval.bench.settings import ladder, main, markdown, read_lines
from eval.bench.settings_study import (
    BatchDrafter,
    Rows,
    Study,
    Variant,
    graded_rows,
    mean_permutation_test,
    packed,
    unpacked,
)

_spec = importlib.util.spec_from_file_location(
    "subject_tiny", Path(__file__).parents[1] / "subject" / "tiny.py"
)
tiny = sys.modules.setdefault("subject_tiny", importlib.util.module_from_spec(_spec))
if not hasattr(tiny, "CASES"):
    _spec.loader.exec_module(tiny)

F64 = torch.float64
TOKENS = torch.tensor([[3, 9, 17, 40, 8, 3], [1, 2, 30, 4, 5, 6]])


def subject_of(found) -> SubjectModel:
    """A tiny model as a subject; its vocabulary is never looked at."""
    return SubjectModel(
        name=found.case,
        architecture=found.config.model_type,
        shape=model_shape(found.config, found.store),
        checkpoint=None,
        config=found.config,
        store=found.store,
        vocabulary=SimpleNamespace(special={0}),
    )


@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "gemma3_text", "olmo2", "cohere", "deepseek_v3"])
def test_sources_add_up_to_what_the_attention_adds(case, tmp_path):
    subject = subject_of(tiny.tiny_subject(case, tmp_path))
    with tiny.DoublePrecision():
        traces, last = LiveModel(subject, F64).run(TOKENS)
    assert last.shape == (2, 6, tiny.D)
    reader = torch.randn(tiny.D, dtype=F64, generator=torch.Generator().manual_seed(1)).expand(2, 6, -1)
    for layer, trace in enumerate(traces):
        circuits = subject.layer(layer, F64)
        by_source, scale = direct_effects(circuits, trace, reader)
        sources = torch.einsum("bhij,bhj,bi->bi", trace.attention, by_source, scale)
        written = trace.output if circuits.b_O is None else trace.output - circuits.b_O
        if circuits.post_norm is not None:
            written = circuits.post_norm(written)
        torch.testing.assert_close(sources, (written * reader).sum(-1), rtol=1e-9, atol=1e-9)


def test_the_hooks_are_taken_off_again(tmp_path):
    live = LiveModel(subject_of(tiny.tiny_subject("llama", tmp_path)))

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in live.module.modules())

    live.run(TOKENS)
    before = hooks()  # transformers keeps some of its own, to record attention
    live.run(TOKENS)
    assert hooks() == before < len(live.run(TOKENS)[0]) + len(list(live.module.modules()))
    live.module.layers[0].register_forward_hook(lambda *_: None)
    assert hooks() == before + 1


@pytest.fixture
def copier(tmp_path):
    """A tiny model with tied embeddings where L1H0 writes what it reads and L1H3 takes it away."""
    found = tiny.tiny_subject("llama-bias", tmp_path)
    tensors = found.store.tensors
    E = tensors["model.embed_tokens.weight"]
    E /= E.norm(dim=1, keepdim=True)
    d_head = 6
    basis = torch.linalg.qr(E.T @ E)[0][:, :d_head]  # any d_head directions would do
    for layer in range(tiny.LAYERS):
        for part in ("self_attn.v_proj.bias", "self_attn.o_proj.bias"):
            tensors[f"model.layers.{layer}.{part}"].zero_()
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"].mul_(0.01)
        tensors[f"model.layers.{layer}.input_layernorm.weight"].fill_(1.0)
        tensors[f"model.layers.{layer}.self_attn.o_proj.weight"].mul_(0.01)
    tensors["model.norm.weight"].fill_(1.0)
    value, output = (tensors[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "vo")
    for kv in range(2):
        value[kv * d_head : (kv + 1) * d_head] = basis.T
    output[:, :d_head] = basis
    output[:, 3 * d_head :] = -basis
    return subject_of(found)


def test_planted_copying_is_measured_with_its_sign(copier):
    found = measured_copying(copier, range(2, 40), sequences=4, length=20)
    assert found.effect.shape == (tiny.LAYERS, 4)
    assert found.effect[1, 0] > 0.2
    assert found.effect[1, 3] < -0.2
    others = np.delete(found.effect.ravel(), [4, 7])
    assert np.abs(others).max() < 0.1
    assert 0.5 < found.attention[1, 0] <= 1  # random attention: nearly all of it on earlier words
    assert found.induction_effect[1, 0] > 0.2
    assert (found.induction_attention <= found.attention + 1e-9).all()


@pytest.mark.parametrize("standardised", [False, True])
def test_static_copying_is_the_own_token_entry(copier, standardised):
    from describe.jobs.projecting import Projector

    settings = replace(preset("default"), standardised=standardised, contrastive=False, salient=4, targets=3)
    excluded = {"special": [0, 1]}
    projector = Projector(copier, settings, excluded)
    words = torch.tensor([3, 7, 20])  # places among the eligible tokens
    found = static_copying(projector, words)
    assert found[1, 0] > 1 > -1 > found[1, 3]
    # By hand for one head: the whole matrix, formed.
    circuits = copier.layer(1)
    states = copier.block0(torch.arange(2, tiny.V)).exit
    rows = circuits.input_norm(states) @ circuits.W_V[1] @ circuits.W_O[2]
    M = (rows - rows.mean(0)) @ projector.U.T
    scores = (
        M / M.std(0, correction=0)
        if standardised
        else (M - M.mean(1, True)) / M.std(1, correction=0, keepdim=True)
    )
    assert found[1, 2] == pytest.approx(float(scores[words, words].mean()), abs=1e-4)


def test_agreement_counts_only_heads_that_attend():
    static = np.array([[1.0, 2.0, 3.0, -9.0], [4.0, 5.0, -1.0, 0.5]])
    effect = np.array([[0.1, 0.2, 0.3, 9.0], [0.4, 0.5, 0.6, 0.01]])
    attention = np.array([[0.5, 0.5, 0.5, 0.01], [0.5, 0.5, 0.5, 0.5]])
    found = agreement(static, attention, effect)
    assert (found.heads, found.signed_heads) == (7, 6)
    assert found.same_sign == pytest.approx(5 / 6)
    ranks = np.argsort(np.argsort(static[attention > 0.1])), np.argsort(np.argsort(effect[attention > 0.1]))
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert math.isnan(agreement(static, attention * 0, effect).spearman)


@pytest.mark.parametrize("seed", range(3))
def test_the_permutation_test_is_that_of_all_orders(seed):
    values = np.random.default_rng(seed).normal(size=(5, 5)) + np.eye(5)
    sums = [sum(values[i, order[i]] for i in range(5)) for order in itertools.permutations(range(5))]
    exact = np.mean(np.array(sums) >= np.trace(values) - 1e-9)
    assert mean_permutation_test(values, 0, 20_000) == pytest.approx(exact, abs=0.015)
    assert mean_permutation_test(values[:2, :2], 0, 100) == 1.0


def example(n=12, seed=0) -> tuple[HeadMappings, list[str]]:
    generator = np.random.default_rng(seed)
    texts = [
        " Paris",
        " paris",
        "PARIS",
        " lion",
        "xq",
        " tiger",
        " table",
        "ing",
        " chair",
        " river",
        " cloud",
        " stone",
    ]
    one = HeadMappings(
        head=HeadId(1, 2),
        direction="suppress",
        source_ids=np.arange(n),
        saliency=np.linspace(2, 1, n).astype(np.float32),
        contrast=np.linspace(3, 2, n).astype(np.float32),
        target_ids=generator.integers(n, size=(n, 6)),
        logits=generator.normal(size=(n, 6)).astype(np.float32),
        z=generator.normal(size=(n, 6)).astype(np.float32),
        heldout=generator.random(n) < 0.5,
    )
    return one, texts


def test_rows_are_chosen_whole_and_in_order():
    one, texts = example()
    first = graded_rows(one, Rows(4, 5), texts)
    assert first.source_ids.tolist() == [0, 1, 2, 3] and first.target_ids.shape == (4, 5)
    words = graded_rows(one, Rows(4, 5, "words"), texts)
    assert words.source_ids.tolist() == [0, 1, 2, 3]  # "PARIS" begins with a capital
    assert graded_rows(one, Rows(6, 5, "words"), texts).source_ids.tolist() == [0, 1, 2, 3, 5, 6]
    distinct = graded_rows(one, Rows(4, 5, "distinct"), texts)
    assert distinct.source_ids.tolist() == [0, 3, 4, 5]
    assert (distinct.z == one.z[[0, 3, 4, 5], :5]).all() and (
        distinct.heldout == one.heldout[[0, 3, 4, 5]]
    ).all()
    peaked = graded_rows(one, Rows(3, 5, "peaked"), texts)
    height = np.abs(one.z[:, :5]).mean(1) * one.contrast
    assert peaked.source_ids.tolist() == np.argsort(-height)[:3].tolist()


def test_records_survive_packing():
    ones = [example(seed=seed)[0] for seed in range(3)]
    for before, after in zip(ones, unpacked(packed(ones)), strict=True):
        assert (before.head, before.direction) == (after.head, after.direction)
        for name in ("source_ids", "saliency", "contrast", "target_ids", "logits", "z", "heldout"):
            assert np.array_equal(getattr(before, name), getattr(after, name))
    plain = replace(ones[0], z=None, contrast=None)
    assert unpacked(packed([plain]))[0].z is None


def test_the_ladder_goes_from_paper_to_default():
    steps = ladder()
    assert steps[0].settings == preset("paper")
    last = replace(steps[-1].settings, preset="default", salient=60, targets=10)
    assert last == preset("default")
    for before, after in itertools.pairwise(steps):
        one, two = (vars(replace(step.settings, preset="")) for step in (before, after))
        assert sum(one[name] != two[name] for name in one) == 1


@pytest.fixture(scope="module")
def small_study():
    encoder = MiniLM()
    return Study(
        load_subject("smollm2"), encoder.encode, tokens=1500, layers=[22, 23], controls=60, permutations=499
    )


def test_a_wide_projection_holds_the_narrow_one(small_study):
    settings = preset("default")
    narrow = small_study.mappings(Variant("narrow", settings, Rows(30, 5)))
    wide = small_study.mappings(Variant("wide", settings, Rows(30, 5, wide=60)))
    assert len(narrow) == len(wide) == 36
    for one, other in zip(narrow, wide, strict=True):
        chosen = graded_rows(other, Rows(30, 5), small_study.texts)
        assert np.array_equal(one.source_ids, chosen.source_ids)
        assert np.array_equal(one.target_ids, chosen.target_ids)


def test_measures_of_a_real_model(small_study):
    variant = ladder()[-1]
    found = small_study.measure(variant)
    assert found.heads == 18
    assert found.controls >= 60 and found.false_at_q <= 0.1
    assert max(found.promote, found.suppress) <= found.either <= found.promote + found.suppress
    assert found.copying.heads > 200 and found.copying.spearman > 0.3  # all layers, whatever is graded
    shuffled = [  # the same measure where nothing is true
        replace(one, target_ids=one.target_ids[np.random.default_rng(at).permutation(len(one.target_ids))])
        for at, one in enumerate(small_study.mappings(variant))
    ]
    assert small_study._semantic(shuffled, words=False) <= 0.1


def test_heads_together_get_the_claims_that_each_gets_alone(small_study):
    mappings = small_study.mappings(Variant("default", preset("default")))
    drafter = small_study._drafter(mappings, GradingSettings(permutations=99, min_lift=0.05))
    together = drafter.claims_of(mappings)
    assert sum(map(len, together)) > 5
    assert together == [RulesDrafter.claims(alone_of(drafter), one) for one in mappings]


def alone_of(drafter: BatchDrafter) -> RulesDrafter:
    """The product's own drafter with the same table and counts."""
    alone = RulesDrafter.__new__(RulesDrafter)
    vars(alone).update(vars(drafter))
    return alone


def test_lines_are_read_back_and_not_measured_again(small_study, tmp_path):
    path = tmp_path / "lines.jsonl"
    arguments = ["--model", "smollm2", "--quick", "--json", str(path), "--work", str(tmp_path / "work")]
    assert main(arguments) == 0
    lines = path.read_text().splitlines()
    assert [json.loads(line)["variant"]["name"] for line in lines] == [ladder()[0].name, ladder()[-1].name]
    path.write_text(f'{lines[0]}\n{lines[1]}\n{{"unfinished')
    found = read_lines(path)
    table = markdown(found).splitlines()
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert main(arguments) == 0
    assert path.read_text().splitlines()[:2] == lines
