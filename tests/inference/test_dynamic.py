"""Dynamic scores against whole rows multiplied out, and correlations against numpy's."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from describe.jobs.relation_layers import UsableRelation
from describe.relations.scores import main_k
from eval.inference.correlating import StaticScores, correlations
from eval.inference.dynamic import DynamicScores, PlacedPairs
from eval.inference.reading import Readings, forced

_path = Path(__file__).parents[1] / "subject" / "tiny.py"
if "subject_tiny" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("subject_tiny", _path)
    sys.modules["subject_tiny"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["subject_tiny"])
tiny = sys.modules["subject_tiny"]

N, EXCLUDED = 25, (2, 7)


@pytest.fixture(params=["llama-bias", "gemma3_text", "gpt2"])
def model(request, tmp_path):
    from describe.subject import weights

    found = tiny.tiny_subject(request.param, tmp_path)

    class Model:
        shape = weights.model_shape(found.config, found.store)

        def unembedding(self):
            return weights.unembedding(found.config, found.store, torch.float64)

        def final_norm(self):
            return weights.final_norm(found.config, found.store, torch.float64)

        def layer(self, layer):
            return weights.layer_circuits(found.config, found.store, layer, torch.float64)

    return Model()


def placed(name, generator, copying=False):
    allowed = np.setdiff1d(np.arange(tiny.V), EXCLUDED)
    rows = generator.permutation(N)[:12]
    return PlacedPairs(UsableRelation(name, copying, False, rows, generator.choice(allowed, 12)), rows)


def test_scores_are_those_of_whole_rows(model):
    generator, torch_generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    pairs = [placed("one", generator), placed("two", generator, copying=True)]
    shape = model.shape

    def draw(*size):
        return torch.randn(*size, generator=torch_generator, dtype=torch.float64)

    readings = Readings(
        [draw(N, shape.n_heads, shape.d_head) for _ in range(shape.n_layers)],
        [draw(N, shape.d_model) for _ in range(shape.n_layers)],
    )
    hits = 0
    for layer, columns in DynamicScores(model, pairs, EXCLUDED).layers(readings):
        circuits, norm = model.layer(layer), model.final_norm()
        outputs = {"with": readings.z[layer], "without": forced(circuits, readings.states[layer])}
        for place in range(len(columns["score"])):
            row = {name: column[place] for name, column in columns.items()}
            one = next(p for p in pairs if p.relation.name == row["relation"])
            written = outputs[row["context"]][:, row["head"]] @ circuits.W_O[row["head"]]
            U, keep = model.unembedding(), np.ones(tiny.V, bool)
            if row["readout"] == "direct":
                if circuits.post_norm is not None:
                    written = written * circuits.post_norm.gain
                U = U if norm.gain is None else U * norm.gain
                U = U - U.mean(1, keepdim=True) if norm.kind == "layer" else U
                keep[list(EXCLUDED)] = False
            M = (written @ U.T).numpy() * (1 if row["direction"] == "promote" else -1)
            M[:, ~keep] = -np.inf
            k = main_k(one.relation.copying, tiny.V)
            first = np.argsort(-M, axis=1, kind="stable")[one.rows, :k]
            table = (first[:, None, :] == one.relation.targets[None, :, None]).any(2)
            assert row["k"] == k and row["n_pairs"] == 12
            assert row["score"] == pytest.approx(table.trace() / 12, abs=1e-12)
            assert row["null_mean"] == pytest.approx(table.mean(), abs=1e-12)
            hits += table.trace()
        assert len(columns["score"]) == 2 * 2 * 2 * 2 * shape.n_heads
    assert hits > 0


def test_correlations_take_every_template_and_head_as_a_point():
    generator = np.random.default_rng(1)
    static = {
        ("r", preset, "promote"): StaticScores(generator.random(30), generator.random(30))
        for preset in ("default", "paper")
    }
    templates = [(generator.random(30), generator.random(30), 40) for _ in range(3)]
    flat = [(np.zeros(30), generator.random(30), 40)]
    dynamic = {("r", "direct", "promote", "with"): templates, ("r", "raw", "promote", "without"): flat}
    found = list(correlations(static, dynamic))
    assert [(one.preset, one.context) for one in found] == [("default", "with"), ("paper", "without")]
    one, constant = found
    x = static["r", "default", "promote"]
    for value, side, part in ((one.pearson_r, x.score, 0), (one.pearson_r_lift, x.lift, 1)):
        stacked = np.concatenate([template[part] for template in templates])
        assert value == pytest.approx(np.corrcoef(np.tile(side, 3), stacked)[0, 1])
    ranks = [np.argsort(np.argsort(part)) for part in (np.tile(x.score, 1), templates[0][0])]
    alone = next(correlations(static, {("r", "direct", "promote", "with"): templates[:1]}))
    assert alone.spearman_r == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert (one.n_heads, one.n_templates, one.n_pairs) == (30, 3, 40)
    assert one.max_score == x.score.max() and one.max_lift == x.lift.max()
    assert constant.pearson_r is None and constant.spearman_r is None and constant.pearson_r_lift is not None
