"""The packaged facts: relations, word classes and inflections. Inputs only, never outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType

INFLECTION_KINDS = (
    "plural",
    "past",
    "past_participle",
    "gerund",
    "third_person",
    "comparative",
    "superlative",
)


@dataclass(frozen=True)
class WordClass:
    """A closed or open class of words, such as the names of countries."""

    name: str
    plural: str  # a noun phrase for a sentence: "names of countries"
    source: str
    licence: str
    members: tuple[str, ...]  # lower case, except proper names and abbreviations


def resource(*parts: str) -> Traversable:
    """A packaged file or folder, such as `resource("relations", "country_to_capital.json")`.

    One code path for a checkout, an editable install, a wheel and a zip. A file that is not there raises
    FileNotFoundError when it is read.
    """
    return files(__package__).joinpath(*parts)


def _json_files(*parts: str) -> tuple[Traversable, ...]:
    found = [entry for entry in resource(*parts).iterdir() if entry.name.endswith(".json")]
    return tuple(sorted(found, key=lambda entry: entry.name))


@cache
def relation_files() -> tuple[Traversable, ...]:
    """The JSON files of the packaged relations, by name; `describe.relations` reads and checks them."""
    return _json_files("relations")


@cache
def word_classes() -> Mapping[str, WordClass]:
    """Every packaged word class by its name, in alphabetical order."""
    classes = {}
    for entry in _json_files("lexicon", "classes"):
        content = json.loads(entry.read_text(encoding="utf-8"))
        content["members"] = tuple(content["members"])
        classes[content["name"]] = WordClass(**content)
    return MappingProxyType(classes)


@cache
def inflections() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """For each English lemma its forms by kind (`INFLECTION_KINDS`), the usual form first.

    Example: `inflections()["go"]["past"] == ("went",)`. Kinds that a lemma does not have are absent. Where
    a word is noun, verb and adjective at once, all its kinds stand together.
    """
    content = json.loads(resource("lexicon", "inflections.json").read_text(encoding="utf-8"))
    table = {
        lemma: MappingProxyType(
            {kind: tuple(cell.split("/")) for kind, cell in zip(content["kinds"], cells, strict=True) if cell}
        )
        for lemma, cells in content["forms"].items()
    }
    return MappingProxyType(table)
