"""Forward passes over sources in a template: what heads give, and would give if they attended to the source alone.

Attention forced onto one position makes a head's z the value of that position, whatever the rest of the model does,
so the clean pass says both: no second pass with patched patterns is needed, and none of the forced values flows on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from describe.core.circuits import LayerCircuits
from describe.subject.running import LiveModel
from eval.inference.templates import Template

BATCH_TOKENS = 1024
"""Tokens of a forward pass: enough to keep the processor busy, few enough for its cache."""


@dataclass(frozen=True)
class Readings:
    """What heads read and gave for n sources in one template, by layer."""

    z: Sequence[Tensor]  # [n, n_heads, d_head] at the last position
    states: Sequence[Tensor]  # [n, d] residual stream that the layer read at the source


@dataclass(frozen=True)
class AttendedReadings(Readings):
    """The same with what direct effects on the logits need."""

    attention: Sequence[Tensor]  # [n, n_heads] of the last position on the source
    outputs: Sequence[Tensor]  # [n, d] what the attention gave at the last position, before any sandwich norm
    last: Tensor  # [n, d] what the final norm read there


def read(
    live: LiveModel,
    template: Template,
    sources: Sequence[Sequence[int]],
    n_layers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Readings:
    """Run the model on every source in the template; `progress` is told how many are done."""
    z: list[list[Tensor]] = [[] for _ in range(n_layers)]
    states: list[list[Tensor]] = [[] for _ in range(n_layers)]
    # Sources of one length together: no padding, so nothing of one prompt depends on another.
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    done = 0
    for batch in _batches(order, sources, template):
        ids = torch.tensor([template.prompt(sources[index]) for index in batch])
        at = template.position(sources[batch[0]])

        def keep_states(layer: int, found: Tensor, at: int = at) -> None:
            states[layer].append(found[:, at].clone())

        def keep_z(layer: int, found: Tensor) -> None:
            z[layer].append(found[:, -1].clone())

        with live.tapped(states=keep_states, z=keep_z):
            live.hidden(ids)
        done += len(batch)
        progress(done)
    back = torch.tensor(order).argsort()
    return Readings(*([torch.cat(parts)[back.to(parts[0].device)] for parts in side] for side in (z, states)))


def read_attended(
    live: LiveModel,
    template: Template,
    sources: Sequence[Sequence[int]],
    n_layers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> AttendedReadings:
    """As `read`, with attention and outputs; the patterns are kept, which takes some more memory."""
    names = ("z", "states", "attention", "outputs")
    kept: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(n_layers)] for name in names}
    lasts: list[Tensor] = []
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    done = 0
    for batch in _batches(order, sources, template):
        ids = torch.tensor([template.prompt(sources[index]) for index in batch])
        at = template.position(sources[batch[0]])
        with live.tapped(z=lambda layer, found: kept["z"][layer].append(found[:, -1].clone())):
            traces, last = live.run(ids)
        for layer, trace in enumerate(traces):
            kept["states"][layer].append(trace.states[:, at])
            kept["attention"][layer].append(trace.attention[:, :, -1, at])
            kept["outputs"][layer].append(trace.output[:, -1])
        lasts.append(last[:, -1])
        done += len(batch)
        progress(done)
    back = torch.tensor(order).argsort()
    sides = {
        name: [torch.cat(parts)[back.to(parts[0].device)] for parts in layers]
        for name, layers in kept.items()
    }
    return AttendedReadings(**sides, last=torch.cat(lasts)[back.to(lasts[0].device)])


def _batches(order: Sequence[int], sources: Sequence[Sequence[int]], template: Template) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in order:
        length = len(template.prompt(sources[index]))
        if (
            not batches
            or len(sources[batches[-1][0]]) != len(sources[index])
            or (len(batches[-1]) + 1) * length > BATCH_TOKENS
        ):
            batches.append([])
        batches[-1].append(index)
    return batches


def forced(circuits: LayerCircuits, states: Tensor) -> Tensor:
    """Z of every head that attends to the source alone: [n, n_heads, d_head] from its states [n, d]."""
    values = torch.einsum("nd,kde->nke", circuits.value_inputs(states), circuits.W_V)
    if circuits.b_V is not None:
        values = values + circuits.b_V
    return values.repeat_interleave(circuits.n_heads // len(circuits.W_V), dim=1)
