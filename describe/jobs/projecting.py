"""A whole model through the core: every head's salient mappings, layer by layer, in bounded memory.

Owns the order of work: what is read once (embedding, unembedding, block 0), what is read per layer (W_V, W_O
and a norm), and the one figure that needs all layers, a token's mean log saliency.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.core.projection import TargetSearch, TopTargets, constant_row, target_scale, written_rows
from describe.core.saliency import contrast, most_salient, saliency, salient_sources
from describe.core.spaces import (
    FoldedLayer,
    ValueSpace,
    fold_layer,
    fold_unembedding,
    same_value_states,
    value_states,
)
from describe.errors import InputError
from describe.records import DIRECTIONS, Direction, HeadId, HeadMappings, ModelShape, is_heldout
from describe.settings import ProjectionSettings
from describe.subject.block0 import Block0States, State


class ProjectedModel(Protocol):
    """What of a subject model the projection reads."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""

    def W_E(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Embedding [V, d]."""

    def unembedding(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unembedding as rows [V, d]."""

    def final_norm(self, dtype: torch.dtype = torch.float32) -> Norm:
        """The norm before the unembedding."""

    def layer(self, layer: int, dtype: torch.dtype = torch.float32) -> LayerCircuits:
        """The OV circuits of one layer."""

    def block0(
        self, token_ids: Tensor | None = None, *, want: Collection[State], device: torch.device | str
    ) -> Block0States:
        """States around block 0."""


@dataclass(frozen=True)
class LayerProjection:
    """The mappings of a layer's heads and what each writes whatever it reads."""

    layer: int
    mappings: dict[tuple[int, Direction], HeadMappings]  # by head and direction
    constant_ids: dict[tuple[int, Direction], NDArray[np.int64]]


@dataclass
class Projector:
    """Computes `LayerProjection`s of one model under one setting.

    Args:
        model: the subject.
        settings: how a head is put into vocabulary space.
        excluded: token ids by reason, left out as sources and as targets when `settings.token_filter`.
        device: where to compute.
        seed: salt of the drafting/held-out split.
        work: folder for what does not stay in memory: the saliency table (heads × tokens) and the source
            states; None for a temporary one.
    """

    model: ProjectedModel
    settings: ProjectionSettings
    excluded: Mapping[str, Iterable[int]]
    device: torch.device | str = "cpu"
    seed: int = 0
    work: Path | None = None
    eligible: Tensor = field(init=False)
    _search: TargetSearch = field(init=False)
    _kept: tuple[str, LayerCircuits, ValueSpace] | None = field(init=False, default=None)
    _states: tuple[str, Tensor] | None = field(init=False, default=None)
    _spilled: dict[str, IO[bytes]] = field(init=False, default_factory=dict)
    _contrast: tuple[np.ndarray, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        shape = self.model.shape
        keep = torch.ones(shape.n_vocab, dtype=torch.bool)
        if self.settings.token_filter:
            for ids in self.excluded.values():
                keep[torch.as_tensor(list(ids), dtype=torch.int64)] = False
        self.eligible = keep.nonzero(as_tuple=True)[0]
        if len(self.eligible) <= max(self.settings.salient, self.settings.targets):
            raise InputError(
                f"Only {len(self.eligible)} tokens are left to project: lower --salient and --targets."
            )
        U = fold_unembedding(self.model.unembedding(), self.model.final_norm(), self.settings.gains)
        self._search = TargetSearch((U if keep.all() else U[self.eligible]).contiguous().to(self.device))

    def layers(
        self, layers: Iterable[int], done: Callable[[str, int], None] = lambda stage, count: None
    ) -> Iterable[LayerProjection]:
        """Project the given layers in order; `done(stage, 1)` is called as layers finish a stage.

        Stages: "saliency" (all layers of the model, only when saliency is contrastive) and "mappings".
        """
        wanted = list(layers)
        if self.settings.contrastive and wanted:
            self._measure_all(done)
        for layer in wanted:
            yield self._project(layer)
            done("mappings", 1)

    def space(self, layer: int) -> tuple[ValueSpace, FoldedLayer]:
        """The rows that a layer's W_V reads, and its folded circuits; kept for the next layer where equal."""
        circuits = self._on_device(self.model.layer(layer))
        name = self._state_name(layer)
        gains = self.settings.gains
        if (
            self._kept is None
            or self._kept[0] != name
            or not same_value_states(self._kept[1], circuits, gains)
        ):
            self._kept = None  # frees the old rows before the new ones are made
            self._kept = (name, circuits, ValueSpace.of(value_states(self._source(name), circuits, gains)))
        return self._kept[2], fold_layer(circuits, gains)

    @property
    def U(self) -> Tensor:
        """Eligible unembedding rows with the folded gain, [n_eligible, d]."""
        return self._search.U

    def _state_name(self, layer: int) -> str:
        source = self.settings.source
        if source == "block0":
            return "entry" if layer == 0 else "exit"
        if source == "mlp0":
            return "embedding" if layer == 0 else "mlp0"
        return "mlp0" if source == "mlp0-everywhere" else "embedding"

    def _source(self, name: str) -> Tensor:
        """Source states [n_eligible, d]; in memory once.

        Where norms make a copy of them, the copy is what stays in memory, and the states go to a file, since
        contrastive saliency passes over the layers twice and latent attention needs them for each layer.
        """
        if self._states is None or self._states[0] != name:
            self._states = None
            if name in self._spilled:
                stored = self._spilled[name]
                stored.seek(0)
                values = np.fromfile(stored, np.float32).reshape(len(self.eligible), -1)
                return torch.from_numpy(values).to(self.device)
            states = self._read_states(name).to(self.device)
            if self.settings.gains and name != "embedding":
                self._spilled[name] = tempfile.TemporaryFile(dir=self.work)  # noqa: SIM115  # lives as we do
                states.cpu().numpy().tofile(self._spilled[name])
                return states
            self._states = (name, states)
        return self._states[1]

    def _read_states(self, name: str) -> Tensor:
        everything = len(self.eligible) == self.model.shape.n_vocab
        if name == "embedding":
            states = self.model.W_E()
            return states if everything else states[self.eligible]
        wanted: State = cast(State, name)
        ids = None if everything else self.eligible
        states = getattr(self.model.block0(ids, want={wanted}, device=self.device), wanted)
        return cast(Tensor, states)

    def _on_device(self, circuits: LayerCircuits) -> LayerCircuits:
        if torch.device(self.device).type == "cpu":
            return circuits
        return circuits.to(self.device)

    def _measure_all(self, done: Callable[[str, int], None]) -> None:
        """Log saliency of every head and token into a file, and each token's mean over all heads."""
        if self._contrast is not None:
            return
        shape = self.model.shape
        folder = self.work or Path(tempfile.mkdtemp(prefix="saliency-"))
        path = folder / "log_saliency.npy"
        table = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(shape.n_layers, shape.n_heads, len(self.eligible))
        )
        path.unlink()  # the mapping lives as long as this object and leaves no file behind
        if self.work is None:
            folder.rmdir()
        total = torch.zeros(len(self.eligible), dtype=torch.float64)
        for layer in range(shape.n_layers):
            space, folded = self.space(layer)
            logs = saliency(space, folded, self.settings.centred).clamp_min(1e-30).log().cpu()
            table[layer] = logs.numpy()
            total += logs.sum(0, dtype=torch.float64)
            done("saliency", 1)
        mean = (total / (shape.n_layers * shape.n_heads)).float()
        self._contrast = (table, mean)

    def _project(self, layer: int) -> LayerProjection:
        settings = self.settings
        space, folded = self.space(layer)
        if self._contrast is not None:
            logs = torch.from_numpy(np.array(self._contrast[0][layer]))
            scores, positions = most_salient(contrast(logs, self._contrast[1]), settings.salient)
            strength = logs.gather(1, positions).exp()
        else:
            strength, positions = salient_sources(space, folded, settings.centred, settings.salient)
            scores = None
        positions = positions.to(self.device)
        scale = target_scale(space, folded, self.U) if settings.standardised else None
        # What a head writes whatever it reads goes along as one more row.
        rows = torch.cat(
            [written_rows(space, folded, positions, settings.centred), constant_row(space, folded)[:, None]],
            1,
        )
        best = self._search.top(rows, settings.targets, scale)
        return self._records(layer, positions.cpu(), strength.cpu(), scores, best)

    def _records(
        self,
        layer: int,
        positions: Tensor,
        strength: Tensor,
        scores: Tensor | None,
        best: tuple[TopTargets, TopTargets],
    ) -> LayerProjection:
        """`best` holds a head's mapping rows and, last, its constant row: [n_heads, K + 1, n]."""
        sources = self.eligible[positions].numpy()
        mappings: dict[tuple[int, Direction], HeadMappings] = {}
        constants: dict[tuple[int, Direction], NDArray[np.int64]] = {}
        for direction, targets in zip(DIRECTIONS, best, strict=True):
            ids = self.eligible[targets.positions.cpu()].numpy()
            logits, z = targets.logits.cpu().numpy(), targets.z.cpu().numpy()
            for head in range(len(sources)):
                mappings[head, direction] = HeadMappings(
                    head=HeadId(layer, head),
                    direction=direction,
                    source_ids=sources[head],
                    saliency=strength[head].numpy(),
                    contrast=None if scores is None else scores[head].cpu().numpy(),
                    target_ids=ids[head, :-1],
                    logits=logits[head, :-1],
                    z=z[head, :-1] if self.settings.standardised else None,
                    heldout=np.array([is_heldout(int(i), self.seed) for i in sources[head]]),
                )
                constants[head, direction] = ids[head, -1]
        return LayerProjection(layer, mappings, constants)
