"""Relation scores of whole models against the paper's rule written naively, and on models with nothing to find."""

import importlib.util
import itertools
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


class NaiveRule:
    """Rows of E' W_V W_O U, multiplied out for each head and relation (MAPS, section 3.1; E' is E at first)."""

    def __init__(self, model, relations):
        self.model, self.U, self.W_E = model, model.unembedding(), model.W_E()
        self.ids = torch.from_numpy(np.unique(np.concatenate([one.sources for one in relations])))
        self.mlp0 = model.block0(self.ids, want={"mlp0"}, device="cpu").mlp0

    def ranks(self, relation, layer, head):
        """By direction, the fewest and the most entries before each target that float32 rounding allows, [n]."""
        sources, targets = (
            torch.from_numpy(relation.sources).contiguous(),
            torch.from_numpy(relation.targets)[:, None],
        )
        E = self.W_E[sources] if layer == 0 else self.mlp0[torch.searchsorted(self.ids, sources)]
        circuits = self.model.layer(layer)
        M = E @ (circuits.W_V[circuits.kv_head(head)] @ circuits.W_O[head]) @ self.U.T
        own = M.gather(1, targets)
        room = RELATIVE * own.abs()
        return {
            "promote": ((M > own + room).sum(1), (M > own - room).sum(1) - 1),
            "suppress": ((M < own - room).sum(1), (M < own + room).sum(1) - 1),
        }


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        pytest.param("smollm2", ((0, 4), (23, 4)), marks=pytest.mark.slow),
        pytest.param("gemma3-270m", ((11, 3),), marks=pytest.mark.slow),
    ],
)
def test_paper_scores_are_the_naive_rules_for_every_relation(name, heads):
    model = load_subject(name)
    relations = (*load_relations(), *generated_relations(model.vocabulary))
    kept, _ = few_pairs(usable(relations, model.vocabulary))
    assert len(kept.relations) >= 100
    scorer = RelationLayers(model, PAPER, {}, kept.relations)
    naive, uncertain = NaiveRule(model, kept.relations), 0
    for layer, columns in scorer.layers(sorted({layer for layer, _ in heads})):
        for head, relation in itertools.product((h for at, h in heads if at == layer), kept.relations):
            own = (columns["head"] == head) & (columns["relation"] == relation.name)
            for direction, (fewest, most) in naive.ranks(relation, layer, head).items():
                for k in (1, 3, 10, 25):
                    (found,) = columns["score"][
                        own & (columns["direction"] == direction) & (columns["k"] == k)
                    ]
                    at_least, at_most = ((ranks < k).double().mean().item() for ranks in (most, fewest))
                    assert at_least - 1e-9 <= found <= at_most + 1e-9, (
                        relation.name,
                        layer,
                        head,
                        k,
                        direction,
                    )
                    uncertain += at_least != at_most
    assert uncertain <= 0.001 * 8 * len(heads) * len(kept.relations)


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
