"""Relation scores of whole models against the paper's rule written naively, and on models with nothing to find."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from describe.core.nulls import benjamini_hochberg
from describe.jobs.relation_layers import RelationLayers, UsableRelation
from describe.jobs.relation_pairs import few_pairs, usable
from describe.relations import load_relations
from describe.relations.generated import generated_relations
from describe.relations.scores import KS
from describe.settings import preset
from describe.subject import load_subject

_path = Path(__file__).with_name("workshop.py")
if "jobs_workshop" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("jobs_workshop", _path)
    sys.modules["jobs_workshop"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["jobs_workshop"])
tiny = sys.modules["jobs_tiny_model"]

PAPER = replace(preset("paper"), source="mlp0")
RELATIVE = 2e-6  # entries closer than this are equal in float32 arithmetic, and may change places


def naive_scores(model, relation, layer, head, k):
    """φ_k of the paper: rows of E' W_V W_O U, sorted whole (MAPS, section 3.1; E' is E in the first layer)."""
    ids = torch.from_numpy(relation.sources)
    E = model.W_E()[ids] if layer == 0 else model.block0(ids, want={"mlp0"}, device="cpu").mlp0
    circuits = model.layer(layer)
    M = E @ (circuits.W_V[circuits.kv_head(head)] @ circuits.W_O[head]) @ model.unembedding().T
    own = M.gather(1, torch.from_numpy(relation.targets)[:, None])
    bounds = {}
    for sign in (1, -1):
        ranks = (M * sign).sort(dim=1, descending=True, stable=True).indices[:, :k]
        hits = (ranks == torch.from_numpy(relation.targets)[:, None]).any(1)
        # Pairs whose target lies within rounding of the k-th place may count or not.
        edge = (M * sign).topk(k + 1, dim=1).values[:, -2:]
        close = ((own * sign - edge).abs() < RELATIVE * edge.abs()).any(1) & (edge[:, 0] != edge[:, 1])
        bounds[sign] = hits.double().mean().item(), close.double().mean().item()
    return bounds


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        pytest.param("smollm2", ((0, 4), (12, 1), (23, 4)), marks=pytest.mark.slow),
        pytest.param("gemma3-270m", ((0, 1), (11, 3)), marks=pytest.mark.slow),
    ],
)
def test_paper_scores_are_the_naive_rules_for_every_relation(name, heads):
    model = load_subject(name)
    relations = (*load_relations(), *generated_relations(model.vocabulary))
    kept, _ = few_pairs(usable(relations, model.vocabulary))
    assert len(kept.relations) >= 100
    scorer = RelationLayers(model, PAPER, {}, kept.relations)
    for layer, columns in scorer.layers(sorted({layer for layer, _ in heads})):
        for head in (h for at, h in heads if at == layer):
            for relation in kept.relations:
                for k in (1, 10) if name == "smollm2" else (3, 25):
                    for direction, sign in (("promote", 1), ("suppress", -1)):
                        chosen = (
                            (columns["head"] == head) & (columns["relation"] == relation.name)
                            & (columns["direction"] == direction) & (columns["k"] == k)
                        )  # fmt: skip
                        (found,) = columns["score"][chosen]
                        expected, slack = naive_scores_cached(model, relation, layer, head, k)[sign]
                        assert abs(found - expected) <= slack + 1e-9, (
                            relation.name,
                            layer,
                            head,
                            k,
                            direction,
                        )


_cache = {}


def naive_scores_cached(model, relation, layer, head, k):
    key = (model.name, relation.name, layer, head, k)
    if key not in _cache:
        _cache.clear()
        _cache[key] = naive_scores(model, relation, layer, head, k)
    return _cache[key]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """A Llama of random weights with the tiny model's tokenizer."""
    folder = tmp_path_factory.mktemp("random")
    tokenizer = tiny.trained_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return load_subject(str(folder))


@pytest.mark.parametrize("settings", [PAPER, preset("default"), preset("uncentred")], ids=lambda s: s.preset)
def test_a_random_model_implements_nothing(random_model, settings):
    generator = np.random.default_rng(0)
    n_vocab = random_model.shape.n_vocab
    relations = [
        UsableRelation(
            f"relation {number}",
            False,
            False,
            generator.permutation(n_vocab)[:60],
            generator.integers(0, spread, 60),
        )
        # With few distinct targets too, where chance alone hits often.
        for number, spread in enumerate([n_vocab, 200, 50, 10, 4] * 6)
    ]
    scorer = RelationLayers(random_model, settings, {}, relations)
    parts = [columns for _, columns in scorer.layers(range(3))]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert len(columns["k"]) == 3 * 6 * len(relations) * 2 * len(KS)
    for direction in ("promote", "suppress"):
        for k in KS:
            p = columns["p_value"][(columns["direction"] == direction) & (columns["k"] == k)]
            assert (benjamini_hochberg(p) < 0.05).mean() <= 0.05
            assert (p < 0.05).mean() <= 0.1  # bounds and re-pairings are valid p-values, so few are small


def test_reversed_and_identity_controls_are_scores_of_their_own(random_model):
    generator = np.random.default_rng(1)
    order = generator.permutation(random_model.shape.n_vocab)
    there = UsableRelation("there", False, False, order[:50], order[50:100])
    back = UsableRelation("back", False, False, order[50:100], order[:50])
    same = UsableRelation("same", True, False, order[:50], order[:50])
    for _, columns in RelationLayers(random_model, preset("default"), {}, [there, back, same]).layers([1]):
        by_name = {
            name: {column: values[columns["relation"] == name] for column, values in columns.items()}
            for name in ("there", "back", "same")
        }
        assert np.allclose(by_name["there"]["reversed_score"], by_name["back"]["score"])
        assert np.allclose(by_name["there"]["identity_score"], by_name["same"]["score"])
        assert np.allclose(by_name["same"]["identity_score"], by_name["same"]["score"])
        assert by_name["same"]["score"].max() > 0  # so that the comparison says something


def test_excluded_tokens_are_no_sources_and_no_targets(random_model):
    relation = UsableRelation("some", False, False, np.arange(100, 150), np.arange(200, 250))
    scorer = RelationLayers(random_model, preset("default"), {"special": [100, 249]}, [relation])
    assert scorer.n_pairs == {"some": 48}
