"""What is asked of a chat model and what comes back: records, and the statuses of what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast

from describe.settings import digest

if TYPE_CHECKING:
    from prompts import Prompt

Role = Literal["system", "user", "assistant"]

Purpose = Literal["draft", "judge", "detect"]

AnswerStatus = Literal[
    "ok",
    "refused",  # the model declines, or a filter stopped it
    "truncated",  # it was cut off by the limit of tokens
    "oversized",  # far longer than anything that was asked for
    "empty",  # no choice, or a choice without text
    "not_json",  # a page or broken JSON where the protocol's reply should be
    "rejected",  # the endpoint will not take this request
    "rate_limited",
    "timeout",
    "transport",  # no connection, or one that broke, or a server error
    "budget",  # not asked: the budget would not hold
    "pending",  # not asked yet
]
OutcomeStatus = Literal[
    AnswerStatus,
    "unparsed",  # not what was asked for, also after one repair
    "bad_rows",  # claims rows that do not exist
    "unoffered",  # a verdict that was not among those offered
    "wrong_language",  # not in English
]
KEPT: frozenset[str] = frozenset({"ok", "refused", "truncated", "oversized"})
"""Statuses of what the model itself said; every other one may pass, so it is asked again by the next run."""

PASSING = ("rate_limited", "timeout", "transport", "not_json", "empty", "rejected")
"""Statuses of requests that were sent and may be answered another time."""
OPEN = ("budget", "pending")
"""Statuses of requests that were not sent."""

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One request, whole: two requests that are equal but for `about` get the same answer."""

    purpose: Purpose
    chat_model: str
    messages: tuple[Message, ...]
    schema_name: str
    schema: str  # JSON schema of the reply, as JSON text; empty for plain text
    prompt_digest: str  # of the prompt file that it was made from
    max_tokens: int
    temperature: float | None = 0.0
    seed: int | None = 0
    top_logprobs: int = 0  # how many alternatives of each token to ask for
    nonce: str = ""  # not sent: sets requests apart that must be asked anew, or several times
    about: str = ""  # not sent: the head or description that it is about

    def digest(self, base_url: str) -> str:
        """Identity of the request at an endpoint: sha256 of all that is sent, and of the nonce."""
        said = [[one.role, one.content] for one in self.messages]
        how = [self.max_tokens, self.temperature, self.seed, self.top_logprobs]
        return digest(
            "chat request", base_url, self.chat_model, said, self.schema_name, self.schema, how, self.nonce
        )

    @property
    def estimated_tokens(self) -> int:
        """Tokens sent, reckoned: 2.5 characters a token, since rows are JSON of rare tokens (measured: 2.1 at 49,152 tokens)."""
        return int(sum(len(one.content) for one in self.messages) / 2.5) + 8 * len(self.messages)

    @cached_property
    def most_tokens(self) -> int:
        """Tokens sent at most: two bytes a token, the schema counted."""
        n_bytes = sum(len(one.content.encode("utf-8", "replace")) for one in self.messages)
        return (n_bytes + len(self.schema)) // 2 + 100


@dataclass(frozen=True)
class TokenChoice:
    """The alternatives of one token of a reply: text to natural log-probability."""

    token: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ChatAnswer:
    """What became of a request; `text` is the reply as it came."""

    status: AnswerStatus
    text: str | None = None
    answered_by: str | None = None  # the model that the endpoint says it was
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    attempts: int = 1
    error: str | None = None
    logprobs: tuple[TokenChoice, ...] = ()


@dataclass(frozen=True)
class Call:
    """A request with its answer: a row of the table `llm_calls`."""

    request: ChatRequest
    request_digest: str
    answer: ChatAnswer
    cost_usd: float | None  # None: the price is unknown
    from_cache: bool
    called_at: float | None  # seconds since 1970


class ReplyError(Exception):
    """A reply is not what was asked for; the message says why, so that the model can mend it."""

    def __init__(self, status: OutcomeStatus, message: str) -> None:
        super().__init__(message)
        self.status: OutcomeStatus = status


@dataclass(frozen=True)
class Question(Generic[T]):
    """A request and how its reply is read; `read` raises ReplyError."""

    request: ChatRequest
    read: Callable[[ChatAnswer], T]


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a question came to: a value where status is ok, and every call that was made for it."""

    status: OutcomeStatus
    value: T | None
    calls: Sequence[Call] = field(default=())
    error: str | None = None

    @property
    def reply(self) -> str | None:
        """The last text that came, parsed or not."""
        return next((call.answer.text for call in reversed(self.calls) if call.answer.text is not None), None)


def messages_of(prompt: Prompt, **values: object) -> tuple[Message, ...]:
    """A prompt's turns with its variables replaced."""
    return tuple(Message(cast("Role", role), text) for role, text in prompt.turns_with(**values))
