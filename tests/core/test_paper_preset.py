"""The `paper` preset on the packaged models against the paper's rule written out, for every head.

MAPS, arXiv 2412.11965, section 3 and its released code: E' = MLP0(LN2(E)) for every layer, W_VO = W_V W_O formed
in full, the 30 tokens with the largest ‖E' W_VO‖ / ‖E'‖ over the whole vocabulary, then the 5 largest entries of
E'[s] W_VO U; suppression is the same on the negated row. All in float32, as there.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from describe.core.circuits import LayerCircuits
from describe.jobs.projecting import Projector
from describe.settings import preset
from describe.subject.model import SubjectModel, load_subject

SALIENT, TARGETS = 30, 5
RELATIVE = 2e-6  # two values closer than this are equal in float32 arithmetic, and may change places
CHUNK = 1024  # rows of the vocabulary at a time: in cache, a product runs at twice the speed


@pytest.fixture
def every_core():
    """As many threads as the machine gives, for some 10^13 operations; then back to one."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    yield
    torch.set_num_threads(1)


class NaiveRule:
    """The paper's rule with nothing factored, folded or shared between heads."""

    def __init__(self, model: SubjectModel, norm: str, unit: float, activation) -> None:
        """`norm` is the MLP's input norm, whose gain is `unit` + weight."""
        self.read = lambda name: model.store.read(f"model.{name}").float()
        self.W_E = self.read("embed_tokens.weight")
        self.U = self.W_E  # both packaged models tie them
        self.norm, self.unit, self.activation = norm, unit, activation
        self.eps = model.config.rms_norm_eps
        self.first_mlp = [self.read(f"layers.0.mlp.{part}_proj.weight") for part in ("gate", "up", "down")]
        self.E = torch.cat([self.extended(rows) for rows in self.W_E.split(CHUNK)])
        self.lengths = self.E.norm(dim=1)

    def extended(self, rows: Tensor) -> Tensor:
        """MLP0(LN2(rows)) in the dtype of `rows` [n, d]."""
        gain = self.unit + self.read(f"layers.0.{self.norm}.weight").to(rows.dtype)
        gate, up, down = (part.to(rows.dtype) for part in self.first_mlp)
        x = rows * torch.rsqrt(rows.square().mean(1, keepdim=True) + self.eps) * gain
        return (self.activation(x @ gate.T) * (x @ up.T)) @ down.T

    def saliency(self, W_VO: Tensor) -> Tensor:
        return torch.cat([(rows @ W_VO).norm(dim=1) for rows in self.E.split(CHUNK)]) / self.lengths

    def targets(self, sources: Tensor, W_VO: Tensor) -> tuple[Tensor, Tensor]:
        M = self.E[sources] @ W_VO @ self.U.T
        return M.topk(TARGETS).indices, (-M).topk(TARGETS).indices

    def true_saliency(self, W_VO: Tensor, ids: Tensor) -> Tensor:
        """Saliency of tokens `ids` in float64: what decides whether two orders are the same."""
        rows = self.extended(self.W_E[ids].double())
        return (rows @ W_VO).norm(dim=1) / rows.norm(dim=1)

    def true_logits(self, W_VO: Tensor, sources: Tensor, ids: Tensor) -> Tensor:
        """Entries [n, m] of M in float64 for sources [n] and targets [n, m]."""
        written = self.extended(self.W_E[sources].double()) @ W_VO
        return torch.einsum("nd,nmd->nm", written, self.U[ids].double())


def changed_places(found: Tensor, expected: Tensor, true_values) -> int:
    """Check that two orders of ids [n, m] are the same up to rounding; how many places differ.

    At every place where they differ, the two tokens' values `true_values(ids [n, m])`, computed in float64, must
    be within RELATIVE of each other: neighbours in value may change places, also across the cut, and nothing else.
    """
    for row in found.tolist():
        assert len(set(row)) == len(row)
    if torch.equal(found, expected):
        return 0
    ours, theirs = true_values(found), true_values(expected)
    gap = (ours - theirs).abs() / torch.maximum(ours.abs(), theirs.abs())
    assert gap.max() <= RELATIVE, f"values {gap.max():.1e} apart have changed places"
    return int((found != expected).sum())


def check_every_head(model: SubjectModel, rule: NaiveRule) -> None:
    shape = model.shape
    projector = Projector(model, preset("paper"), excluded={})
    heads = swaps = places = 0
    for projection in projector.layers(range(shape.n_layers)):
        circuits: LayerCircuits = model.layer(projection.layer)
        for head in range(shape.n_heads):
            W_V, W_O = circuits.W_V[shape.kv_head(head)], circuits.W_O[head]
            W_VO, true_W_VO = W_V @ W_O, W_V.double() @ W_O.double()
            promoted = projection.mappings[head, "promote"]
            suppressed = projection.mappings[head, "suppress"]
            saliency = rule.saliency(W_VO)
            expected = saliency.topk(SALIENT).indices[None]
            sources = torch.from_numpy(promoted.source_ids)
            assert np.array_equal(promoted.source_ids, suppressed.source_ids)
            swaps += changed_places(
                sources[None], expected, lambda ids, W=true_W_VO: rule.true_saliency(W, ids[0])[None]
            )
            torch.testing.assert_close(
                torch.from_numpy(promoted.saliency), saliency[sources], rtol=1e-5, atol=0
            )
            for found, ids in zip(
                (promoted.target_ids, suppressed.target_ids), rule.targets(sources, W_VO), strict=True
            ):
                swaps += changed_places(
                    torch.from_numpy(found),
                    ids,
                    lambda ids, W=true_W_VO, s=sources: rule.true_logits(W, s, ids),
                )
            heads += 1
            places += SALIENT * (1 + 2 * TARGETS)
    assert heads == shape.n_layers * shape.n_heads
    assert swaps <= places // 1000, f"{swaps} of {places} places differ by rounding: more than it explains"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("every_core")
def test_every_head_of_smollm2_follows_the_papers_rule():
    model = load_subject("smollm2")
    check_every_head(model, NaiveRule(model, "post_attention_layernorm", 0.0, silu))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("every_core")
def test_every_head_of_gemma3_follows_the_papers_rule():
    model = load_subject("gemma3-270m")
    rule = NaiveRule(
        model, "pre_feedforward_layernorm", 1.0, lambda x: gelu(x, approximate="tanh")
    )  # the norm's gain is 1 + w, the gate gelu's tanh form
    check_every_head(model, rule)


def test_the_comparison_lets_rounding_pass_and_nothing_else():
    values = torch.tensor([5.0, 4.0, 4.0 * (1 - 1e-6), 3.0], dtype=torch.float64)
    expected = torch.tensor([[0, 1, 2]])
    assert changed_places(expected, expected, lambda ids: values[ids]) == 0
    assert changed_places(torch.tensor([[0, 2, 1]]), expected, lambda ids: values[ids]) == 2
    assert changed_places(torch.tensor([[0, 2]]), torch.tensor([[0, 1]]), lambda ids: values[ids]) == 1
    for wrong in ([[1, 0, 2]], [[0, 1, 3]], [[0, 1, 1]]):
        with pytest.raises(AssertionError):
            changed_places(torch.tensor(wrong), expected, lambda ids: values[ids])
