"""One OpenAI-compatible endpoint: a request out, an answer or a named failure back; only this file knows openai.

What an endpoint does not support (JSON schemas, a seed, the older name of a limit) is learnt from its own
errors and left out from then on. Retries, pace and money are the asker's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from describe.chat import AnswerStatus, ChatAnswer, ChatRequest
from describe.clients.envelope import answer_of, error_text, retry_after
from describe.errors import DescribeError, InputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_NO_KEY = "none"  # local servers want no key, the library wants a string
_FORMATS = ("json_schema", "json_schema without bounds", "json_object")
_BOUNDS = frozenset({"maxLength", "minLength", "maxItems", "minItems", "minimum", "maximum"})
_OF_A_POOL = 8  # a pool looks through its connections at every request: several small ones take a tenth off
_CONNECT = 10.0  # seconds to wait for a connection


@dataclass(frozen=True)
class EndpointSettings:
    """Where the models are and how long a request may take; the key is no part of any identity."""

    base_url: str = DEFAULT_BASE_URL
    timeout: float = 120.0  # seconds
    connections: int = 16  # that are open at a time

    @property
    def name(self) -> str:
        """The address as it may be shown and stored: without a user or password in it."""
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


class PassingError(Exception):
    """A failure that may pass: asked again after a while."""

    def __init__(self, status: AnswerStatus, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.status: AnswerStatus = status
        self.wait = wait  # seconds that the endpoint asks for


class Endpoint:
    """Sends requests; use as `async with` around all that is sent in one event loop.

    Args:
        settings: where it is.
        key: the secret, from the environment; None for endpoints that want none.

    Raises:
        InputError: the address is no address.
    """

    def __init__(self, settings: EndpointSettings, key: str | None) -> None:
        if not _is_address(settings.base_url):
            shown = re.sub(r"//.*@", "//", settings.base_url)  # without a password
            raise InputError(
                f"'{shown}' is not the address of an endpoint: write it like http://127.0.0.1:8000/v1."
            )
        self.settings = settings
        self._key = key
        self._format = 0  # place in _FORMATS
        self._left_out: set[str] = set()
        self._clients: list[AsyncOpenAI] = []
        self._turns = itertools.cycle([0])

    def check_key(self) -> None:
        """Raise InputError where a key is needed and there is none: before any work, and before any request."""
        if self._key is None and self.settings.name == DEFAULT_BASE_URL:
            raise InputError(
                "There is no key for OpenAI: set OPENAI_API_KEY in the environment, or name another endpoint with"
                " --base-url."
            )

    async def __aenter__(self) -> Endpoint:
        from openai import AsyncOpenAI, Timeout

        self.check_key()

        self._clients = [
            AsyncOpenAI(
                api_key=self._key or _NO_KEY,
                base_url=self.settings.base_url,
                max_retries=0,  # retries are the asker's, or attempts would multiply
                timeout=Timeout(self.settings.timeout, connect=min(_CONNECT, self.settings.timeout)),
            )
            for _ in range(-(-self.settings.connections // _OF_A_POOL))
        ]
        self._turns = itertools.cycle(range(len(self._clients)))
        return self

    async def __aexit__(self, *_: object) -> None:
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    @property
    def client(self) -> AsyncOpenAI:
        """One of the library's clients, in turn, inside the block."""
        assert self._clients, "use the endpoint inside `async with`"
        return self._clients[next(self._turns)]

    async def send(self, request: ChatRequest) -> ChatAnswer:
        """One answer to one request.

        Raises:
            PassingError: nothing came, or an error that may pass.
            InputError: the endpoint refuses the key or does not have the model.
            DescribeError: the account's quota is used up.
        """
        import httpx2
        import openai

        while True:
            body, form = self.body(request), self._format
            started = time.monotonic()
            try:
                # The body is ours and the reply is read by ours: the library's own models cost a third of the time.
                # The library's own limit is for each read: a reply that drips would never end.
                async with asyncio.timeout(self.settings.timeout):
                    raw = await self.client.post("/chat/completions", body=body, cast_to=httpx2.Response)
                text = raw.text
            except (openai.APITimeoutError, TimeoutError) as error:
                raise PassingError("timeout", f"no answer within {self.settings.timeout:g} s") from error
            except openai.APIConnectionError as error:
                why = error_text(str(error.__cause__ or error), self.secrets)
                raise PassingError("transport", f"no connection, or it broke ({why})") from error
            except openai.APIStatusError as error:
                if self._learn(error.status_code, error.body, body, form):
                    continue
                return self._refused(error.status_code, error.body, error.response.headers, request)
            except openai.OpenAIError as error:
                raise PassingError("transport", error_text(str(error), self.secrets)) from error
            return replace(answer_of(text, self.secrets), seconds=time.monotonic() - started)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as it is sent to this endpoint, by what is known of it so far."""
        body: dict[str, Any] = {
            "model": request.chat_model,
            "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        }
        limit = "max_completion_tokens" if "max_tokens" in self._left_out else "max_tokens"
        body[limit] = request.max_tokens
        if request.temperature is not None and "temperature" not in self._left_out:
            body["temperature"] = request.temperature
        if request.seed is not None and "seed" not in self._left_out:
            body["seed"] = request.seed
        if request.top_logprobs and "logprobs" not in self._left_out:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema and (form := _response_format(request, self._format)) is not None:
            body["response_format"] = form
        return body

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        return (self._key,) if self._key else ()

    def _learn(self, status: int, told: object, sent: Mapping[str, Any], form: int) -> bool:
        """Whether an error is about an option that can be left out; the next body has it no more."""
        if status not in (400, 404, 415, 422, 500, 501):
            return False
        inner = told.get("error", told) if isinstance(told, Mapping) else told
        named = str(inner.get("param") or "") if isinstance(inner, Mapping) else ""
        text = f"{named} {error_text(told)}".lower()
        about_format = any(
            word in text
            for word in ("response_format", "json_schema", "json schema", "json_object", "grammar")
        )
        if "response_format" in sent and about_format:
            self._format = max(self._format, form + 1)  # another request may have learnt it meanwhile
            return True
        for option in ("max_tokens", "temperature", "seed", "logprobs"):
            if option in sent and option in text:
                self._left_out.add(option)
                return True
        return False

    def _refused(
        self, status: int, told: object, headers: Mapping[str, str], request: ChatRequest
    ) -> ChatAnswer:
        """An error of the endpoint: raised where nothing more is to be asked or all may pass, else an answer."""
        text, where = error_text(told, self.secrets), self.settings.name
        if status in (401, 403):
            raise InputError(
                f"The endpoint {where} refuses the key ({status}): set OPENAI_API_KEY to a key that may use"
                f" '{request.chat_model}'."
            )
        if status == 404:
            raise InputError(
                f"The endpoint {where} has no model '{request.chat_model}' or no chat completions (404: {text}):"
                " check the model's name and --base-url."
            )
        if status == 429 and "insufficient_quota" in str(told):
            raise DescribeError(
                f"The quota at {where} is used up ({text}): top it up, then run the same command again to go on."
            )
        if status == 429:
            wait = retry_after(headers, time.time())
            raise PassingError("rate_limited", f"too many requests ({text})", wait)
        if status in (408, 409, 425) or status >= 500:
            wait = retry_after(headers, time.time())
            raise PassingError("transport", f"error {status} of the endpoint ({text})", wait)
        return ChatAnswer("rejected", error=f"error {status} of the endpoint: {text}")


def _is_address(base_url: str) -> bool:
    try:
        parts = urlsplit(base_url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is no port
        return False


def _response_format(request: ChatRequest, form: int) -> dict[str, Any] | None:
    """How the reply's schema is asked for; some endpoints take schemas but not the bounds in them."""
    if form >= len(_FORMATS):
        return None
    if _FORMATS[form] == "json_object":
        return {"type": "json_object"}
    schema = json.loads(request.schema)
    if form:
        schema = _without_bounds(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": request.schema_name, "strict": True, "schema": schema},
    }


def _without_bounds(schema: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
    if isinstance(schema, dict):
        return {name: _without_bounds(value) for name, value in schema.items() if name not in _BOUNDS}
    return [_without_bounds(one) for one in schema] if isinstance(schema, list) else schema
