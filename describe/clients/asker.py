"""Asks questions of a chat model: what was answered before is not asked again, what may pass is tried again.

A question ends in an outcome with a status, whatever the endpoint does; what the user must act on (a key, a
model, a quota, an endpoint that is not there) is an error that stops all, with every answer kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from describe.chat import (
    KEPT,
    Call,
    ChatAnswer,
    ChatRequest,
    Message,
    Outcome,
    Question,
    ReplyError,
    messages_of,
)
from describe.clients.answers import AnswerStore
from describe.clients.endpoint import Endpoint, PassingError
from describe.clients.pace import Pace, PaceSettings
from describe.clients.prices import Purse
from describe.errors import DescribeError
from prompts import load

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Told (done, total)."""

_QUOTED = 4_000  # characters of a reply that is given back to be mended
DEAD_AFTER = 8
"""Questions in a row that end without any answer, after all their tries, before the endpoint counts as dead."""


@dataclass(frozen=True)
class PatienceSettings:
    """How often a request is tried; waits double from `first_wait` up to `longest_wait`, in seconds."""

    attempts: int = 10
    first_attempts: int = 4  # while the endpoint has not answered anything yet
    deadline: float = 600.0  # seconds from the first try to the last
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_pause: float = 300.0  # a Retry-After beyond this is not waited for


class Asker:
    """Puts questions to one endpoint.

    Args:
        endpoint: where to.
        answers: what was answered before, and where new answers are kept.
        purse: the budget, shared with other askers.
        pace: how fast.
        patience: how often.
        collect: ask nothing: what is not in `answers` stays pending and stands in `missing`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        answers: AnswerStore,
        purse: Purse,
        pace: PaceSettings | None = None,
        patience: PatienceSettings | None = None,
        *,
        collect: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.answers = answers
        self.purse = purse
        self.collect = collect
        self.missing: dict[str, ChatRequest] = {}
        self.out_of_budget = False
        self._pace_settings = pace or PaceSettings()
        self._patience = patience or PatienceSettings()
        self._under_way: dict[str, asyncio.Event] = {}
        self._fetched: set[str] = set()  # keys of answers that came otherwise than by asking here
        self._heard = False  # whether the endpoint has answered at all
        self._silent = 0  # questions in a row that no answer came to

    @property
    def base_url(self) -> str:
        """The endpoint's address, as it is part of every request's identity."""
        return self.endpoint.settings.name

    def ask(
        self, questions: Sequence[Question[T]], progress: Progress = lambda done, total: None
    ) -> list[Outcome[T]]:
        """The outcomes of the questions, in their order.

        Raises:
            InputError: the key or the model is refused, or a budget cannot be held for want of a price.
            DescribeError: the endpoint does not answer at all, or its quota is used up. Every answer that
                came is kept, so the same call goes on from there.
        """
        for model in {one.request.chat_model for one in questions}:
            self.purse.check(model)
        return asyncio.run(self._ask_all(questions, progress))

    async def _ask_all(self, questions: Sequence[Question[T]], progress: Progress) -> list[Outcome[T]]:
        outcomes: list[Outcome[T] | None] = [None] * len(questions)
        todo = iter(enumerate(questions))
        done = 0

        async def work(pace: Pace) -> None:
            nonlocal done
            for place, question in todo:  # the workers share it: each takes the next one that nobody has
                outcomes[place] = await self._outcome(question, pace)
                done += 1
                progress(done, len(questions))

        progress(0, len(questions))
        async with contextlib.nullcontext() if self.collect else self.endpoint:
            pace = Pace(self._pace_settings)
            # Twice the places: one that waits before its next try must not leave a place empty.
            workers = min(2 * self._pace_settings.concurrency, len(questions))
            await _all_or_first_error([work(pace) for _ in range(workers)])
        return [one for one in outcomes if one is not None]

    async def _outcome(self, question: Question[T], pace: Pace) -> Outcome[T]:
        """Ask, read, and if the reply is not what was asked for, say so once and ask again."""
        request, calls = question.request, list[Call]()
        error = ReplyError("pending", "")
        for _ in range(2):
            call = await self._call(request, pace)
            calls.append(call)
            # A word in plain text is read from a reply that went on too long as well.
            cut = call.answer.status == "truncated" and not request.schema and call.answer.text
            if call.answer.status != "ok" and not cut:
                return Outcome(call.answer.status, None, calls, call.answer.error)
            try:
                return Outcome("ok", question.read(call.answer), calls)
            except ReplyError as problem:
                error = problem
                request = _repair(question.request, call.answer.text or "", problem)
        return Outcome(error.status, None, calls, str(error))

    async def _call(self, request: ChatRequest, pace: Pace) -> Call:
        key = request.digest(self.base_url)
        while (same := self._under_way.get(key)) is not None:
            await same.wait()  # the same request twice at a time: one is sent, both have its answer
        kept = self.answers.find(key)
        if kept is not None:
            return self._record(request, key, kept.answer, kept.asked_at, from_cache=key not in self._fetched)
        if self.collect:
            self.missing[key] = request
            return self._record(request, key, ChatAnswer("pending", attempts=0), None)
        self._under_way[key] = asyncio.Event()  # before any wait, or an equal request would go out beside it
        try:
            aside = None if self.out_of_budget else await self.purse.set_aside(request)
            if aside is None:
                self.out_of_budget = True
                answer = ChatAnswer("budget", attempts=0, error="the budget is spent")
                return self._record(request, key, answer, None)
            answer = await self._pay(request, key, aside, pace)
        finally:
            self._under_way.pop(key).set()
        self._listen(answer)
        return self._record(request, key, answer, time.time())

    async def _pay(self, request: ChatRequest, key: str, aside: float, pace: Pace) -> ChatAnswer:
        """An answer, kept and paid for out of what was set aside for it."""
        cost = None
        try:
            answer = await self._try(request, pace, aside)
            cost = self.purse.prices.cost(request.chat_model, answer.input_tokens, answer.output_tokens)
            if answer.status in KEPT:
                cost = aside if cost is None else cost  # an endpoint that counts no tokens may want the most
                self.answers.keep(key, self.base_url, request.chat_model, request.purpose, answer)
        finally:
            self.purse.settle(aside, cost)
        return answer

    async def _try(self, request: ChatRequest, pace: Pace, aside: float) -> ChatAnswer:
        """An answer, after as many tries as patience has; what may pass and did not is a status."""
        patience, begin, wait = self._patience, 0.0, self._patience.first_wait
        attempt = 0
        while True:
            attempt += 1
            await pace.enter(request.estimated_tokens + request.max_tokens)
            started = time.monotonic()
            begin = begin or started
            try:
                answer = await self.endpoint.send(request)
                if answer.status != "not_json":
                    pace.succeeded()
                    self._heard = True
                    return replace(answer, attempts=attempt)
                failure = PassingError("not_json", answer.error or "")
            except PassingError as passing:
                failure = passing
                if failure.status in ("rate_limited", "timeout"):
                    pace.overloaded(started)  # before the place is free, or another would step in
            finally:
                pace.leave()
            # An answer that came too late is paid for all the same.
            if failure.status == "timeout" and not self.purse.lose(aside):
                self.out_of_budget = True
                return ChatAnswer(
                    "budget", attempts=attempt, error="the budget is spent on answers that came too late"
                )
            pause = wait * random.uniform(0.75, 1.25) if failure.wait is None else failure.wait
            late = time.monotonic() - begin + pause > patience.deadline
            most = patience.attempts if self._heard else min(patience.first_attempts, patience.attempts)
            if attempt >= most or late or pause > patience.longest_pause:
                return ChatAnswer(failure.status, attempts=attempt, error=str(failure))
            if failure.wait is not None:
                pace.pause(failure.wait)
            await asyncio.sleep(pause)
            wait = min(2 * wait, patience.longest_wait)

    def _listen(self, answer: ChatAnswer) -> None:
        """Stop all when question after question gets no answer of any kind."""
        silent = answer.status in ("timeout", "transport", "not_json", "rate_limited")
        self._silent = self._silent + 1 if silent else 0
        if self._silent >= DEAD_AFTER:
            raise DescribeError(
                f"The endpoint {self.base_url} does not answer ({answer.error}): check that it runs and that"
                " --base-url is right, then run the same command again; every answer so far is kept."
            )

    def _record(
        self,
        request: ChatRequest,
        key: str,
        answer: ChatAnswer,
        when: float | None,
        *,
        from_cache: bool = False,
    ) -> Call:
        cost = self.purse.prices.cost(request.chat_model, answer.input_tokens, answer.output_tokens)
        return Call(request, key, answer, cost, from_cache, when)


def _repair(request: ChatRequest, reply: str, problem: ReplyError) -> ChatRequest:
    """The same conversation with the reply and what is wrong with it, so that the model can mend it."""
    prompt = load("repair" if request.schema else "repair_word")
    said = [Message("assistant", reply[:_QUOTED]), *messages_of(prompt, problem=str(problem))]
    return replace(request, messages=(*request.messages, *said))


async def _all_or_first_error(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run all together; the first error stops the others and is raised as itself."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
