"""The protocol's envelope, taken apart: the body of a response becomes an answer with a status, whatever it holds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

from describe.chat import ChatAnswer, TokenChoice

REPLY_LIMIT = 100_000
"""Characters of a reply that are read; what was asked for is a hundredth of it."""
_SHOWN = 2_000  # characters kept of a reply that is too long to be of use
_COUNTED = 2**63  # beyond it a number of tokens is nonsense, and SQLite does not take it
_SECRET = re.compile(r"\b(sk|key|Bearer)[-_ ][A-Za-z0-9_\-*.]{6,}", re.IGNORECASE)


def answer_of(body: str, secrets: tuple[str, ...] = ()) -> ChatAnswer:
    """The answer in the body of a response with status 200.

    Local servers and proxies send pages, cut JSON, errors and empty choices with status 200: each becomes a
    status, none an exception; nothing of `secrets` is in an error.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        kind = "a web page" if body.lstrip()[:1] == "<" else "broken JSON"
        return ChatAnswer("not_json", error=f"the endpoint sent {kind} instead of a reply")
    if not isinstance(content, dict):
        return ChatAnswer("not_json", error="the endpoint sent JSON that is no reply")
    usage = _mapping(content.get("usage"))
    told = ChatAnswer(
        "ok",
        answered_by=_text(content.get("model")),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices:
        return replace(told, status="empty", error=f"no choice in the reply{_said(content, secrets)}")
    choice = _mapping(choices[0])
    message = _mapping(choice.get("message"))
    text, refusal = _text(message.get("content")), _text(message.get("refusal"))
    finish = choice.get("finish_reason")
    if refusal:
        return replace(told, status="refused", text=refusal[:_SHOWN], error="the model declines")
    text = text if text and text.strip() else None
    if text is not None and len(text) > REPLY_LIMIT:
        return replace(told, status="oversized", text=text[:_SHOWN], error=f"{len(text)} characters")
    if finish == "content_filter":
        return replace(told, status="refused", text=text, error="a content filter stopped the reply")
    if finish == "length":
        cut = "the reply was cut off by the limit of tokens"
        return replace(told, status="truncated", text=text, error=cut, logprobs=_logprobs(choice))
    if text is None:
        return replace(told, status="empty", error="the reply has no text")
    return replace(told, text=text, logprobs=_logprobs(choice))


def error_text(body: object, secrets: tuple[str, ...] = ()) -> str:
    """What an endpoint says of an error, in one line, without anything that looks like a key."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        inner = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        text = inner if isinstance(inner, str) else json.dumps(inner)
    else:
        text = str(body or "")
    text = re.sub(r"<[^>]*>", " ", text)
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "…")
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(_SECRET.sub("…", text).split())
    return text if len(text) <= 200 else text[:199] + "…"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that the endpoint asks to wait, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
            return None if math.isnan(seconds) else max(seconds, 0.0)
        given = headers.get("retry-after")
        if given is None:
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", given):
            return float(given)
        return max(parsedate_to_datetime(given).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _said(content: Mapping[str, Any], secrets: tuple[str, ...]) -> str:
    """An error that stands in a reply of status 200, as OpenRouter sends it."""
    return f": {error_text(content, secrets)}" if "error" in content else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """A text that can be stored and sent again: a half of a surrogate pair in it becomes a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _COUNTED else None


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:
        return None


def _logprobs(choice: Mapping[str, Any]) -> tuple[TokenChoice, ...]:
    content = _mapping(choice.get("logprobs")).get("content")
    found = []
    for entry in content if isinstance(content, list) else []:
        entry = _mapping(entry)
        listed = entry.get("top_logprobs")
        top = tuple(
            (_text(one.get("token")) or "", value)
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict) and (value := _number(one.get("logprob"))) is not None
        )
        found.append(TokenChoice(_text(entry.get("token")) or "", top))
    return tuple(found)
