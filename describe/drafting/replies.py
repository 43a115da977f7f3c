"""What a chat model replies, read strictly: JSON of the form that was asked for, in English, about rows that exist."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from describe.chat import ReplyError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_FENCE = re.compile(r"^\s*```(?:json)?\s*\n?(.*?)\n?\s*```\s*$", re.DOTALL)
_QUOTES = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)|“[^”]*”|`[^`]*`|\*[^*]*\*")
_FEW_WORDS = 5
"""Shorter texts are not told apart by language: names of tokens weigh too much in them."""
_SURE = 0.999
"""Probability of all languages but English together from which a text counts as not English."""


class Reply(BaseModel):
    """A reply of a fixed form: nothing more than the fields, and no values turned into others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


R = TypeVar("R", bound=Reply)


@cache
def schema_of(kind: type[Reply]) -> str:
    """The JSON schema of a reply as text, without the titles that only cost tokens."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {
                name: plain(one)
                for name, one in value.items()
                if name != "description" and not (name == "title" and isinstance(one, str))
            }
        return [plain(one) for one in value] if isinstance(value, list) else value

    return json.dumps(plain(kind.model_json_schema()), sort_keys=True)


def read_reply(text: str, kind: type[R]) -> R:
    """A reply as a record.

    A code fence around the JSON is taken off, and the same object twice counts once; other words around it
    are not what was asked for.

    Raises:
        ReplyError: unparsed, or unoffered where a value is none of those that were offered.
    """
    content = _json_object(text)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        where = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'the object'}: {one['msg']}"
            for one in problems[:3]
        )
        # A choice that was never offered is told apart, but only where nothing else is wrong.
        choice = all(one["type"] in ("literal_error", "enum") for one in problems)
        raise ReplyError("unoffered" if choice else "unparsed", where) from error


def check_english(*texts: str) -> None:
    """Raise ReplyError(wrong_language) unless the texts, what they quote left out, read as English."""
    text = " ".join(_QUOTES.sub(" ", one) for one in texts)
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return
    foreign = sum(not character.isascii() for character in letters) / len(letters)
    if foreign > 0.3:
        raise ReplyError("wrong_language", "the text is not in English")
    if len(text.split()) < _FEW_WORDS:
        return
    ranked = _identifier().rank(text)
    if 1 - dict(ranked)["en"] >= _SURE:
        raise ReplyError("wrong_language", f"the text is not in English but reads as '{ranked[0][0]}'")


def _json_object(text: str) -> object:
    fenced = _FENCE.match(text)
    text = (fenced[1] if fenced else text).strip()
    try:
        content, end = json.JSONDecoder().raw_decode(text)
        rest = text[end:].strip()
        if rest and json.loads(rest) != content:
            raise ValueError("more than one value")
    except ValueError as error:
        raise ReplyError("unparsed", "the reply is not one JSON object") from error
    except RecursionError as error:
        raise ReplyError("unparsed", "the reply is nested too deeply") from error
    if not isinstance(content, dict):
        raise ReplyError("unparsed", "the reply is not one JSON object")
    return content


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
