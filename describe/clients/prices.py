"""What calls cost: the packaged table of prices, the user's own beside it, and a budget that is never passed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from describe.chat import ChatRequest
from describe.errors import InputError

_LOOK_AGAIN = 0.05  # seconds


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Prices:
    """Prices by chat model; a name is looked up whole, then without the provider before its last slash."""

    def __init__(self, table: Mapping[str, Price], as_of: str | None = None) -> None:
        self._table = table
        self.as_of = as_of

    def of(self, chat_model: str) -> Price | None:
        """The price of a model, or None where none is known: never a guess."""
        return self._table.get(chat_model) or self._table.get(chat_model.rpartition("/")[2])

    def cost(self, chat_model: str, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Dollars for a call, or None where the price or the tokens are unknown."""
        price = self.of(chat_model)
        if price is None or input_tokens is None or output_tokens is None:
            return None
        return price.cost(input_tokens, output_tokens)


def load_prices(own: Path | None = None) -> Prices:
    """The packaged prices, with the user's in their place: `{"model": {"input": 2.5, "output": 10}}`.

    Raises:
        InputError: the user's file cannot be read or is not such a table.
    """
    from data import resource

    packaged = json.loads(resource("prices.json").read_text(encoding="utf-8"))
    table = {name: Price(**price) for name, price in packaged["models"].items()}
    if own is None:
        return Prices(table, packaged["as_of"])
    wrong = InputError(
        f'The prices in {own} cannot be used: write {{"model": {{"input": 2.5, "output": 10}}}}, in US dollars '
        "for a million tokens."
    )
    try:
        given = json.loads(own.read_text(encoding="utf-8"))
        entries = given.get("models", given).items()
        for name, price in entries:
            numbers = float(price["input"]), float(price["output"])
            if not all(0 <= number < float("inf") for number in numbers):
                raise wrong
            table[name] = Price(*numbers)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise wrong from error
    return Prices(table, packaged["as_of"])


class Purse:
    """A budget shared by all that is asked: what a request may cost at most is set aside before it is sent.

    Args:
        budget: dollars; None for no limit.
        prices: needed for every model that is asked when there is a budget.
    """

    def __init__(self, budget: float | None, prices: Prices) -> None:
        self.budget = budget
        self.prices = prices
        self.spent = 0.0
        self._aside = 0.0

    def check(self, chat_model: str) -> None:
        """Raise InputError when there is a budget and no price to hold it by."""
        if self.budget is not None and self.prices.of(chat_model) is None:
            raise InputError(
                f"The price of '{chat_model}' is not known, so --budget cannot be held: give it with --prices FILE"
                ' as {"' + chat_model + '": {"input": 0, "output": 0}}, in dollars for a million tokens.'
            )

    async def set_aside(self, request: ChatRequest) -> float | None:
        """Reserve the most that a request may cost; None when the budget would not hold it."""
        price = self.prices.of(request.chat_model)
        if self.budget is None or price is None:
            return 0.0
        most = price.cost(request.most_tokens, request.max_tokens)
        while self.spent + self._aside + most > self.budget:
            if not self._aside:
                return None
            await asyncio.sleep(_LOOK_AGAIN)  # what is under way will cost less than was set aside for it
        self._aside += most
        return most

    def lose(self, aside: float) -> bool:
        """Take as spent what was set aside for a request without an answer; whether the budget holds one more try."""
        self.spent += aside
        return self.budget is None or self.spent + self._aside <= self.budget

    def settle(self, aside: float, cost: float | None) -> None:
        """Take what a request did cost instead of what was set aside for it."""
        self._aside = max(self._aside - aside, 0.0)
        if self._aside < 1e-12:
            self._aside = 0.0
        self.spent += cost or 0.0
