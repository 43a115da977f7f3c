"""The packaged facts: relations, word classes, inflections and test texts. Inputs only, never outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

INFLECTION_KINDS = (
    "plural",
    "past",
    "past_participle",
    "gerund",
    "third_person",
    "comparative",
    "superlative",
)
BATTERY_INPUTS = (
    "acronyms",
    "classes",
    "common_words",
    "conflicts",
    "facts",
    "indirect_objects",
    "needles",
    "rare_words",
    "sequences",
    "texts",
)


@dataclass(frozen=True)
class WordClass:
    """A closed or open class of words, such as the names of countries."""

    name: str
    plural: str  # a noun phrase for a sentence: "names of countries"
    source: str
    licence: str
    members: tuple[str, ...]  # lower case, except proper names and abbreviations


@dataclass(frozen=True)
class Anchor:
    """A list of mappings whose operation is known, with descriptions that fit it or do not."""

    name: str
    operation: str | None  # None: the list has no operation
    direction: str  # "promote" or "suppress"
    fits: int  # the rows on which the operation holds
    rows: tuple[tuple[str, tuple[str, ...]], ...]  # source token, top target tokens
    descriptions: Mapping[str, str]  # "right", "wrong", "vague", "narrow"; only "wrong" without an operation


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


def _read_only(value: Any) -> Any:  # noqa: ANN401  (whatever a JSON file holds)
    """Content of a JSON file with mappings that refuse changes and tuples for lists."""
    if isinstance(value, dict):
        return MappingProxyType({key: _read_only(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return tuple(_read_only(entry) for entry in value)
    return value


@cache
def battery_input(name: str) -> Mapping[str, Any]:
    """One input of the head battery by its name, one of `BATTERY_INPUTS`: read-only, with tuples for lists.

    Example: `battery_input("sequences")["sequences"]["days"][0] == "Monday"`. Beside its content every
    input has a "description", its "source" and its "licence". "classes" is the table of the classes of
    heads; the others are words, texts and templates whose placeholders stand in braces. The texts of
    "texts" are no templates: code has braces of its own. A name that is none of these raises
    FileNotFoundError.
    """
    content = json.loads(resource("battery", f"{name}.json").read_text(encoding="utf-8"))
    return MappingProxyType({key: _read_only(entry) for key, entry in content.items()})


@cache
def anchors() -> tuple[Anchor, ...]:
    """The lists that tell whether a judge of descriptions drifts: first those with an operation, then the others.

    Example: `anchors()[0].descriptions["right"]` fits `anchors()[0].rows`, `["wrong"]` does not, `["vague"]`
    is true but says little, and `["narrow"]` is true of too few rows.
    """
    content = json.loads(resource("anchors.json").read_text(encoding="utf-8"))
    return tuple(Anchor(**_read_only(entry)) for entry in content["lists"])
