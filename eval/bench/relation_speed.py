"""How fast relations are scored: beside the naive rule in one run, and how the cost grows with pairs and heads.

The naive rule is that of the released code of MAPS: for each head and each relation W_V W_O is multiplied out, the
sources' rows of M are formed over the whole vocabulary, and `topk` sees whole rows, once for each direction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from describe.relations.scores import KS
from describe.settings import preset

if TYPE_CHECKING:
    from describe.jobs.relation_layers import UsableRelation
    from describe.subject.model import SubjectModel

PAPER = replace(preset("paper"), source="mlp0")


@dataclass(frozen=True)
class RelationSpeed:
    """Seconds of wall time for one head and all relations, both directions, loading and first MLP aside."""

    relations: int
    pairs: int
    ours: float  # nulls, controls and every k included
    naive: float  # one k, no null
    heads_timed: tuple[int, int]  # ours, naive

    @property
    def ratio(self) -> float:
        """How many times faster."""
        return self.naive / self.ours


@dataclass(frozen=True)
class Growth:
    """Seconds for `heads` heads and `pairs` pairs."""

    heads: int
    pairs: int
    seconds: float


def relation_speed(
    name: str, quick: bool, threads: int | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Every relation that can be scored on the model `name`: both ways in turn, and the growth if not `quick`."""
    from describe.subject import load_subject

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        model = load_subject(name)
        relations = relations_of(model)
        progress(f"{len(relations)} relations on one layer by both ways")
        speed = measure(model, relations, naive_heads=1 if quick else 2)
        if not quick:
            progress("how the cost grows with pairs and with heads")
        grown = [] if quick else growth(model, relations)
    finally:
        torch.set_num_threads(before)
    return asdict(speed) | {"ratio": speed.ratio, "growth": [asdict(one) for one in grown]}


def measure(model: SubjectModel, relations: Sequence[UsableRelation], naive_heads: int = 2) -> RelationSpeed:
    """Time a middle layer of `model` by both ways, in turn."""
    layer, n_heads = model.shape.n_layers // 2, model.shape.n_heads
    ours = _ours(model, relations, [layer]) / n_heads
    naive = _naive(model, relations, layer, naive_heads) / naive_heads
    ours = min(ours, _ours(model, relations, [layer]) / n_heads)
    pairs = sum(len(one.sources) for one in relations)
    return RelationSpeed(len(relations), pairs, ours, naive, (n_heads, naive_heads))


def growth(model: SubjectModel, relations: Sequence[UsableRelation]) -> list[Growth]:
    """Time parts of the relations on one layer, and all of them on one to three layers."""
    layer, n_heads = model.shape.n_layers // 2, model.shape.n_heads
    found = []
    for share in (0.25, 0.5, 0.75, 1.0):
        part = relations[: round(share * len(relations))]
        pairs = sum(len(one.sources) for one in part)
        found.append(Growth(n_heads, pairs, _ours(model, part, [layer])))
    pairs = sum(len(one.sources) for one in relations)
    for layers in (2, 3):
        wanted = list(range(layer, layer + layers))
        found.append(Growth(layers * n_heads, pairs, _ours(model, relations, wanted)))
    return found


def _ours(model: SubjectModel, relations: Sequence[UsableRelation], layers: Sequence[int]) -> float:
    from describe.jobs.relation_layers import RelationLayers

    scorer = RelationLayers(model, PAPER, {}, relations)
    scorer.prepare(layers[0])
    begin = time.perf_counter()
    for _ in scorer.layers(layers):
        pass
    return time.perf_counter() - begin


def _naive(model: SubjectModel, relations: Sequence[UsableRelation], layer: int, heads: int) -> float:
    E = model.block0(want={"mlp0"}, device="cpu").mlp0
    assert E is not None
    U, circuits = model.unembedding(), model.layer(layer)
    begin = time.perf_counter()
    for head in range(heads):
        for relation in relations:
            W_VO = circuits.W_V[circuits.kv_head(head)] @ circuits.W_O[head]
            M = E[torch.from_numpy(relation.sources)] @ W_VO @ U.T
            targets = torch.from_numpy(relation.targets)[:, None]
            for largest in (True, False):
                (M.topk(max(KS), dim=1, largest=largest).indices == targets).any(1).double().mean()
    return time.perf_counter() - begin


def relations_of(model: SubjectModel) -> Sequence[UsableRelation]:
    """Every relation that can be scored on the model."""
    from describe.jobs.relation_pairs import few_pairs, usable
    from describe.relations import scored_relations
    from describe.relations.generated import generated_relations

    kept, _ = few_pairs(
        usable((*scored_relations(), *generated_relations(model.vocabulary)), model.vocabulary)
    )
    return kept.relations


def growth_picture(found: Sequence[dict[str, Any]]) -> str:
    """SVG of seconds against heads × pairs, with the straight line through the origin that fits best."""
    from io import StringIO

    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.subplots()
    work = [one["heads"] * one["pairs"] / 1000 for one in found]
    axis.plot(work, [one["seconds"] for one in found], "o")
    slope = sum(w * one["seconds"] for w, one in zip(work, found, strict=True)) / sum(w * w for w in work)
    axis.plot([0, max(work)], [0, slope * max(work)], "--", linewidth=1)
    axis.set_xlabel("heads × pairs, thousands")
    axis.set_ylabel("seconds")
    axis.set_title("Cost of relation scores", fontsize=10)
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
