"""Settings by value, never by a model's name; the paper's numbers stand once, in its preset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from describe.errors import InputError

SourceName = Literal["block0", "mlp0", "mlp0-everywhere", "embedding"]


@dataclass(frozen=True)
class ProjectionSettings:
    """How a head is put into vocabulary space (method, sections 1 to 3)."""

    preset: str
    source: SourceName
    gains: bool  # input norm on S, post-attention gain, final norm's gain folded into U
    centred: bool  # subtract the vocabulary-mean source row
    standardised: bool  # rank targets by z over all sources
    contrastive: bool  # saliency relative to the token's mean over all heads
    token_filter: bool  # leave out special, unused, padding and under-trained tokens
    salient: int  # K salient sources (MAPS: 30 in the study)
    targets: int  # n targets of each (MAPS: 5)


PRESETS: dict[str, ProjectionSettings] = {
    "paper": ProjectionSettings(
        preset="paper",
        source="mlp0-everywhere",
        gains=False,
        centred=False,
        standardised=False,
        contrastive=False,
        token_filter=False,
        salient=30,
        targets=5,
    ),
    "default": ProjectionSettings(
        preset="default",
        source="block0",
        gains=True,
        centred=True,
        standardised=True,
        contrastive=True,
        token_filter=True,
        # Twice the paper's rows and targets: more is found at the same false rate on both packaged models.
        salient=60,
        targets=10,
    ),
    # What a head writes whatever it reads counts too: closed classes, such as pronouns, look like it (method, section 2).
    "uncentred": ProjectionSettings(
        preset="uncentred",
        source="block0",
        gains=True,
        centred=False,
        standardised=True,
        contrastive=True,
        token_filter=True,
        salient=60,
        targets=10,
    ),
}


def preset(name: str) -> ProjectionSettings:
    """The settings of a preset; raises InputError for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"Unknown preset '{name}': choose one of {', '.join(sorted(PRESETS))}.")
    return PRESETS[name]


def digest(*parts: object) -> str:
    """A stable sha256 (hex) of dataclasses, dicts, lists and scalars: the identity of what made a row."""

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"cannot take the digest of {type(value).__name__}")

    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()
