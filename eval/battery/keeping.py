"""Readings of suites as files, so that a battery that was stopped goes on with the next suite."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from eval.battery.measuring import Measured, Readings
from eval.battery.profiles import Profiles
from eval.battery.reading import SuiteReading

_FILE = "reading.npz"
_MARK = "|"  # between the parts of a name; no topic's name holds it


def keep(reading: SuiteReading, folder: Path) -> None:
    """Write a reading into a folder."""
    arrays = {
        _MARK.join(("topic", name, side, part.name)): getattr(getattr(measured, side), part.name)
        for name, measured in reading.topics.items()
        for side in ("own", "null")
        for part in fields(Readings)
    }
    if reading.profiles is not None:
        arrays |= {
            f"profile{_MARK}{one.name}": getattr(reading.profiles, one.name) for one in fields(Profiles)
        }
    if reading.accuracy is not None:
        arrays["accuracy"] = np.array(reading.accuracy)
    save: Any = np.savez  # its typing takes every named array for its own option
    save(folder / _FILE, **arrays)


def kept(folder: Path) -> SuiteReading:
    """Read what `keep` wrote."""
    with np.load(folder / _FILE, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    names = list(dict.fromkeys(name.split(_MARK)[1] for name in arrays if name.startswith("topic")))
    topics = {
        name: Measured(
            *(
                Readings(*(arrays[_MARK.join(("topic", name, side, part.name))] for part in fields(Readings)))
                for side in ("own", "null")
            )
        )
        for name in names
    }
    profiled = f"profile{_MARK}first" in arrays
    profiles = (
        Profiles(*(arrays[f"profile{_MARK}{one.name}"] for one in fields(Profiles))) if profiled else None
    )
    return SuiteReading(topics, profiles, float(arrays["accuracy"]) if "accuracy" in arrays else None)


def of_units(profiles: Profiles, step: slice) -> Profiles:
    """The profiles of some of the texts."""
    return Profiles(
        **{
            one.name: getattr(profiles, one.name)[(slice(None), step) if one.name == "offsets" else step]
            for one in fields(Profiles)
        }
    )
