"""How fast an endpoint is asked: a number of requests at a time that adapts, and limits a minute."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

SHRINK = 0.8
"""What is left of the limit after a 429 or a time-out (Inspect's factor)."""


@dataclass(frozen=True)
class PaceSettings:
    """What the user allows."""

    concurrency: int = 16  # requests at a time, at most
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


class Pace:
    """Lets requests through; made inside the event loop that uses it."""

    def __init__(self, settings: PaceSettings) -> None:
        from aiolimiter import AsyncLimiter

        self.most = settings.concurrency
        self.limit = float(settings.concurrency)
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._not_before = 0.0
        self._shrunk_at = float("-inf")
        rate = settings.requests_per_minute
        # The limiter holds at least one request, so less than one a minute is one in more than a minute.
        self._requests = None if rate is None else AsyncLimiter(max(rate, 1.0), 60 / min(rate, 1.0))
        self._tokens = (
            None if settings.tokens_per_minute is None else AsyncLimiter(settings.tokens_per_minute, 60)
        )

    async def enter(self, tokens: int) -> None:
        """Wait for a place, for the pause that the endpoint asked for, and for the limits a minute."""
        if self._busy >= int(self.limit):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn  # with the place taken, so that nobody who comes later steps in before
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()  # the place goes to the next
                raise
        else:
            self._busy += 1
        try:
            await self._paused()
            if self._requests is not None:
                await self._requests.acquire()
            if self._tokens is not None:
                await self._tokens.acquire(min(tokens, self._tokens.max_rate))
            await self._paused()  # one that was asked for meanwhile
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._busy -= 1
        self._wake()

    def succeeded(self) -> None:
        """An answer came: after as many as the limit, the limit is one higher again."""
        if self.limit < self.most:
            self.limit = min(self.limit + 1 / self.limit, float(self.most))
            self._wake()

    def overloaded(self, started: float) -> None:
        """The endpoint is asked too much: fewer at a time.

        Requests that were under way together fail together, so those begun before the last cut do not cut
        again.

        Args:
            started: when the request that failed was begun (time.monotonic).
        """
        if started >= self._shrunk_at:
            self.limit = max(self.limit * SHRINK, 1.0)
            self._shrunk_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Begin nothing new for a while, as a Retry-After asks."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    async def _paused(self) -> None:
        while (pause := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    def _wake(self) -> None:
        while self._busy < int(self.limit) and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)
