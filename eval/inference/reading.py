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

    def run(ids: Tensor, at: int) -> None:
        def keep_states(layer: int, found: Tensor) -> None:
            states[layer].append(found[:, at].clone())

        with live.tapped(states=keep_states, z=_last_of(z)):
            live.hidden(ids)

    back = _each_batch(template, sources, run, progress)
    return Readings(*(_joined(side, back) for side in (z, states)))


def read_attended(
    live: LiveModel,
    template: Template,
    sources: Sequence[Sequence[int]],
    n_layers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> AttendedReadings:
    """As `read`, with attention and outputs; a batch's whole patterns are held while it is read."""
    sides: list[list[list[Tensor]]] = [[[] for _ in range(n_layers)] for _ in range(4)]
    z, states, attention, outputs = sides
    lasts: list[Tensor] = []

    def run(ids: Tensor, at: int) -> None:
        with live.tapped(z=_last_of(z)):
            traces, last = live.run(ids)
        for layer, trace in enumerate(traces):
            # Copies: a view would keep the whole trace.
            states[layer].append(trace.states[:, at].clone())
            attention[layer].append(trace.attention[:, :, -1, at].clone())
            outputs[layer].append(trace.output[:, -1].clone())
        lasts.append(last[:, -1].clone())

    back = _each_batch(template, sources, run, progress)
    names = ("z", "states", "attention", "outputs")
    joined = {name: _joined(side, back) for name, side in zip(names, sides, strict=True)}
    return AttendedReadings(**joined, last=_joined([lasts], back)[0])


def _last_of(z: list[list[Tensor]]) -> Callable[[int, Tensor], None]:
    """A tap that keeps what heads give at the last position."""

    def keep(layer: int, found: Tensor) -> None:
        z[layer].append(found[:, -1].clone())

    return keep


def _each_batch(
    template: Template,
    sources: Sequence[Sequence[int]],
    run: Callable[[Tensor, int], None],
    progress: Callable[[int], None],
) -> Tensor:
    """Call `run(ids [b, t], the source's position)` batch by batch; the order that takes the rows back [n]."""
    # Sources of one length together: no padding, so nothing of one prompt depends on another.
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    done = 0
    for batch in _batches(order, sources, template):
        ids = torch.tensor([template.prompt(sources[index]) for index in batch])
        run(ids, template.position(sources[batch[0]]))
        done += len(batch)
        progress(done)
    return torch.tensor(order).argsort()


def _joined(side: Sequence[Sequence[Tensor]], back: Tensor) -> list[Tensor]:
    """Each layer's parts as one tensor, its rows as the sources were given."""
    return [torch.cat(list(parts))[back.to(parts[0].device)] for parts in side]


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
