"""What the commands that ask chat models share: their options, and the askers made from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from describe.errors import InputError

if TYPE_CHECKING:
    from describe.clients.answers import AnswerStore
    from describe.clients.asker import Asker
    from describe.clients.prices import Purse

KEY = "OPENAI_API_KEY"
JUDGE_KEY = "JUDGE_API_KEY"
BASE_URL = "OPENAI_BASE_URL"

_PANEL = "Chat models"
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help=f"The OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; else {BASE_URL}, else OpenAI. The key"
        f" comes from {KEY}.",
        rich_help_panel=_PANEL,
    ),
]
JudgeBaseUrl = Annotated[
    str | None,
    typer.Option(
        "--judge-base-url",
        help=f"The judges' endpoint, where it is another one; their key comes from {JUDGE_KEY}, else {KEY}.",
        rich_help_panel=_PANEL,
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="A chat model that judges; several times for several judges. Take another family than the drafter's.",
        rich_help_panel=_PANEL,
    ),
]
ReplyTokens = Annotated[
    int | None,
    typer.Option(
        "--reply-tokens",
        min=16,
        help="Tokens that a reply may have at most; give several thousand to models that reason first.",
        rich_help_panel=_PANEL,
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, help="Requests at a time, at most.", rich_help_panel=_PANEL)
]
RequestsPerMinute = Annotated[
    float | None, typer.Option("--rpm", min=0.1, help="Requests a minute, at most.", rich_help_panel=_PANEL)
]
TokensPerMinute = Annotated[
    float | None, typer.Option("--tpm", min=1, help="Tokens a minute, at most.", rich_help_panel=_PANEL)
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait for one answer.", rich_help_panel=_PANEL)
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        min=0,
        help="Dollars that may be spent by this command; it stops before they are passed (exit code 4).",
        rich_help_panel=_PANEL,
    ),
]
PriceFile = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        help='Your prices: {"model": {"input": 2.5, "output": 10}}, dollars for a million tokens.',
        rich_help_panel=_PANEL,
    ),
]
AnswerFile = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        help="Where answers are kept so that nothing is asked twice; else in the user's cache.",
        rich_help_panel=_PANEL,
    ),
]
Batch = Annotated[
    bool,
    typer.Option("--batch", help="Ask through the endpoint's batch API, and wait.", rich_help_panel=_PANEL),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Ask nothing: use the answers that are kept, the rest stays pending.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Endpoints:
    """Where and how a command asks chat models."""

    base_url: str | None = None
    judge_base_url: str | None = None
    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    budget: float | None = None
    prices: Path | None = None
    answers: Path | None = None
    batch: bool = False
    offline: bool = False

    def askers(self) -> Askers:
        """The means to ask, sharing one budget and one store of answers.

        Raises:
            InputError: an address or the prices cannot be used.
            DescribeError: the kept answers cannot be used.
        """
        from describe.clients.answers import AnswerStore, default_answers
        from describe.clients.prices import Purse, load_prices

        purse = Purse(self.budget, load_prices(self.prices))
        return Askers(self, AnswerStore(self.answers or default_answers()), purse)


class Askers:
    """Makes the askers of one command."""

    def __init__(self, endpoints: Endpoints, answers: AnswerStore, purse: Purse) -> None:
        self._endpoints = endpoints
        self.answers = answers
        self.purse = purse
        self.askers: list[Asker] = []

    def drafter(self, *, collect: bool = False) -> Asker:
        """Puts questions to the drafter's endpoint."""
        return self._asker(self._endpoints.base_url, os.environ.get(KEY), collect)

    def judge(self, *, collect: bool = False) -> Asker:
        """Puts questions to the judges' endpoint."""
        key = os.environ.get(KEY)
        if self._endpoints.judge_base_url is not None:
            key = os.environ.get(JUDGE_KEY) or key
        return self._asker(self._endpoints.judge_base_url or self._endpoints.base_url, key, collect)

    def _asker(self, base_url: str | None, key: str | None, collect: bool) -> Asker:
        from describe.clients.asker import Asker
        from describe.clients.batches import BatchAsker
        from describe.clients.endpoint import DEFAULT_BASE_URL, Endpoint, EndpointSettings
        from describe.clients.pace import PaceSettings

        given = self._endpoints
        collect = collect or given.offline
        url = base_url or os.environ.get(BASE_URL) or DEFAULT_BASE_URL
        endpoint = Endpoint(EndpointSettings(url, given.timeout, given.concurrency), key or None)
        if not collect:
            endpoint.check_key()
        if given.batch and not collect:
            asker: Asker = BatchAsker(endpoint, self.answers, self.purse)
        else:
            pace = PaceSettings(given.concurrency, given.requests_per_minute, given.tokens_per_minute)
            asker = Asker(endpoint, self.answers, self.purse, pace, collect=collect)
        self.askers.append(asker)
        return asker


@dataclass(frozen=True)
class Forecast:
    """What is still to be asked, by chat model and purpose."""

    chat_model: str
    purpose: str
    calls: int
    input_tokens: int
    most_output_tokens: int
    cost_usd: float | None  # at most; None: the price is unknown


def forecast(askers: list[Asker]) -> list[Forecast]:
    """What collecting askers would have asked: tokens reckoned from characters, costs with replies at their longest."""
    found = []
    for asker in askers:
        for model, purpose in sorted({(one.chat_model, one.purpose) for one in asker.missing.values()}):
            own = [one for one in asker.missing.values() if (one.chat_model, one.purpose) == (model, purpose)]
            sent, most = (
                sum(getattr(one, name) for one in own) for name in ("estimated_tokens", "most_tokens")
            )
            replies = sum(one.max_tokens for one in own)
            cost = asker.purse.prices.cost(model, most, replies)
            found.append(Forecast(model, purpose, len(own), sent, replies, cost))
    return found


def say_forecast(found: list[Forecast], as_of: str | None, say: Callable[[str], None]) -> None:
    """Print what asking would take."""
    for one in found:
        cost = "price unknown" if one.cost_usd is None else f"at most ${one.cost_usd:.2f}"
        say(
            f"{one.chat_model} to {one.purpose}: {one.calls} calls, about {one.input_tokens} tokens sent, at most"
            f" {one.most_output_tokens} received, {cost}."
        )
    costs = [one.cost_usd for one in found if one.cost_usd is not None]
    if len(costs) > 1:
        unknown = "" if len(costs) == len(found) else ", and what is not known"
        say(f"Together at most ${sum(costs):.2f}{unknown}.")
    if costs:
        say(
            f"Prices as of {as_of}, without discounts; --prices gives your own. A reply that must be mended costs once more."
        )


def check_chat_options(drafter: str, judges: list[str] | None, given: Endpoints) -> None:
    """Raise InputError for options of chat models where none is asked."""
    asks = drafter != "rules" or bool(judges)
    odd = [
        name
        for name, value in (
            ("--budget", given.budget),
            ("--batch", given.batch),
            ("--offline", given.offline),
            ("--prices", given.prices),
        )
        if value
    ]
    if odd and not asks:
        raise InputError(
            f"{odd[0]} is about chat models, and none is asked: name one with --drafter or --judge."
        )
