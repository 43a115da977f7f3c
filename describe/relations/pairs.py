"""Predefined operations as pairs of words: how they are read, checked, inverted and cut to a vocabulary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

import data
from describe.errors import InputError
from describe.settings import digest

Category = Literal["algorithmic", "knowledge", "linguistic", "translation", "custom"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

_TEXT_FIELDS = ("name", "category", "description", "sentence", "source", "licence")
_INVERSE_FIELDS = ("name", "description", "sentence")


@dataclass(frozen=True)
class Inverse:
    """How a relation is called when it is read from target to source."""

    name: str
    description: str
    sentence: str


@dataclass(frozen=True)
class Relation:
    """One operation by example: each source word has exactly one target word."""

    name: str
    category: Category
    description: str
    sentence: str  # completes "the head …": "writes the capital of the country it reads"
    source: str  # where the pairs come from
    licence: str
    thin: bool  # the language has fewer than 30 usable pairs
    pairs: tuple[tuple[str, str], ...]  # (source word, target word)
    inverse: Inverse | None = None  # only where the reverse direction is an operation too
    exact: bool = False  # the pairs are token texts as they stand, made for one tokenizer

    @property
    def copying(self) -> bool:
        """Whether the operation is to write what is read, which MAPS counts at a smaller k."""
        return all(source == target for source, target in self.pairs)


class SingleTokenVocabulary(Protocol):
    """What is asked of a vocabulary here; `describe.subject` has the real one."""

    def id_of(self, text: str) -> int | None:
        """The id of a text that is, as it stands, one token; else None."""

    def word_id(self, word: str) -> int | None:
        """The id of a word that is one token, with the leading space the tokenizer wants; else None."""


def load_relation(path: str | Path | Traversable) -> Relation:
    """Read and check one relation from a JSON file.

    Two formats: ours, an object with `name` (the file's stem), `category`, `description`, `sentence`,
    `source`, `licence`, `thin`, `pairs` and perhaps `inverse`; or that of MAPS (arXiv 2412.11965), a bare
    list of `[source, target]`, which takes its name from the file and the category `custom`.

    Raises:
        InputError: the file cannot be read, is not JSON or is no relation; the sentence names file and fault.
    """
    file = Path(path) if isinstance(path, str) else path
    try:
        content: object = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"{file} is not valid JSON at line {error.lineno}: {error.msg}.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{file} cannot be read as a relation: {reason}.") from error
    stem = file.name.removesuffix(".json")
    if isinstance(content, list):
        return _from_pair_list(str(file), stem, content)
    if isinstance(content, dict):
        return _from_object(str(file), stem, cast("dict[str, object]", content))
    raise InputError(
        f"{file} is not a relation: write an object with 'pairs', or a list of [source, target]."
    )


def load_relations(paths: Iterable[str | Path] | None = None) -> tuple[Relation, ...]:
    """Every relation of the given JSON files and folders (searched through); with None, the packaged ones.

    The same relation met twice is kept once.

    Raises:
        InputError: a path holds no relation, a file is faulty, or two files give one name to different pairs.
    """
    if paths is None:
        return _packaged()
    kept: dict[str, Relation] = {}
    for file in _files_of(paths):
        relation = load_relation(file)
        earlier = kept.setdefault(relation.name, relation)
        if relation_digest(earlier) != relation_digest(relation):
            raise InputError(
                f"{file} takes the name '{relation.name}', which another file gave other pairs: rename one."
            )
    return tuple(kept.values())


def scored_relations() -> tuple[Relation, ...]:
    """The packaged relations as they are scored: translations in both directions, the others as their files say.

    The reverse of any other relation is its reversed control, stored beside each score.
    """
    packaged = _packaged()
    backwards = [inverted(one) for one in packaged if one.category == "translation"]
    return (*packaged, *(one for one in backwards if one is not None))


def relation_digest(relation: Relation) -> str:
    """The identity of a relation (sha256, hex): its name, category and set of pairs, whatever their order."""
    return digest("relation", relation.name, relation.category, sorted(relation.pairs))


def inverted(relation: Relation) -> Relation | None:
    """The relation read from target to source, or None where its file does not name an inverse.

    A target that several sources share (Spanish, of twenty countries) has no one answer and is left out.
    """
    if relation.inverse is None:
        return None
    occurrences = Counter(target for _, target in relation.pairs)
    return Relation(
        name=relation.inverse.name,
        category=relation.category,
        description=relation.inverse.description,
        sentence=relation.inverse.sentence,
        source=f"{relation.source}; {relation.name} read backwards",
        licence=relation.licence,
        thin=relation.thin,
        pairs=tuple((target, source) for source, target in relation.pairs if occurrences[target] == 1),
        inverse=Inverse(relation.name, relation.description, relation.sentence),
    )


def usable_pairs(relation: Relation, vocabulary: SingleTokenVocabulary) -> list[tuple[int, int]]:
    """The pairs whose words are one token each, as (source id, target id), in the relation's order."""
    id_of = vocabulary.id_of if relation.exact else vocabulary.word_id
    ids = ((id_of(source), id_of(target)) for source, target in relation.pairs)
    return [(source, target) for source, target in ids if source is not None and target is not None]


@cache
def _packaged() -> tuple[Relation, ...]:
    return tuple(load_relation(file) for file in data.relation_files())


def _files_of(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.rglob("*.json"))
        if not inside:
            raise InputError(f"{path} holds no .json file: name a folder of relations or one relation file.")
        yield from inside


def _from_pair_list(file: str, stem: str, content: list[object]) -> Relation:
    return Relation(
        name=stem,
        category="custom",
        description=f"Pairs of {stem}.json.",
        sentence=f"writes the counterpart of its input in the relation {stem}",
        source=f"{stem}.json",
        licence="not stated",
        thin=len(content) < 30,
        pairs=_checked_pairs(file, content),
    )


def _from_object(file: str, stem: str, content: dict[str, object]) -> Relation:
    unknown = content.keys() - {*_TEXT_FIELDS, "thin", "pairs", "inverse"}
    if unknown:
        raise InputError(f"{file} has a field '{min(unknown)}' that no relation has: remove or correct it.")
    name, category, description, sentence, source, licence = _texts(file, content, _TEXT_FIELDS)
    if name != stem:
        raise InputError(f"{file} holds the relation '{name}': call the file {name}.json or change its name.")
    if category not in CATEGORIES:
        raise InputError(
            f"{file} has the unknown category '{category}': choose one of {', '.join(CATEGORIES)}."
        )
    thin = content.get("thin")
    if not isinstance(thin, bool):
        raise InputError(f"{file} needs 'thin' to be true or false.")
    pairs = content.get("pairs")
    if not isinstance(pairs, list):
        raise InputError(f"{file} needs 'pairs' to be a list of [source, target].")
    inverse = content.get("inverse")
    if inverse is not None and not isinstance(inverse, dict):
        raise InputError(f"{file} needs 'inverse' to be an object with {', '.join(_INVERSE_FIELDS)}.")
    return Relation(
        name=name,
        category=category,
        description=description,
        sentence=sentence,
        source=source,
        licence=licence,
        thin=thin,
        pairs=_checked_pairs(file, pairs),
        inverse=None if inverse is None else Inverse(*_texts(file, inverse, _INVERSE_FIELDS)),
    )


def _texts(file: str, content: dict[str, object], fields: Sequence[str]) -> list[str]:
    texts = []
    for field in fields:
        text = content.get(field)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{file} needs '{field}' to be a text that is not empty.")
        texts.append(text)
    return texts


def _checked_pairs(file: str, content: list[object]) -> tuple[tuple[str, str], ...]:
    if not content:
        raise InputError(f"{file} has no pairs: give it at least one [source, target].")
    targets: dict[str, str] = {}
    for number, pair in enumerate(content, start=1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(word, str) for word in pair)):
            raise InputError(f"{file} needs pair {number} to be two strings [source, target].")
        source, target = pair
        if not source.strip() or not target.strip():
            raise InputError(f"{file} has an empty word in pair {number}.")
        if targets.get(source) == target:
            raise InputError(f"{file} has the pair {_shown(source, target)} twice: keep one (pair {number}).")
        if source in targets:
            both = f"'{targets[source]}' and '{target}'"
            raise InputError(f"{file} gives '{source}' two targets, {both} (pair {number}): keep one.")
        targets[source] = target
    return tuple(targets.items())


def _shown(source: str, target: str) -> str:
    return json.dumps([source, target], ensure_ascii=False)
