"""Never more requests at a time than the limit, which shrinks when the endpoint is asked too much and grows back."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from describe.clients.pace import SHRINK, Pace, PaceSettings

ENDS = ("answered", "overloaded", "failed", "cancelled")


def test_one_wave_of_failures_shrinks_the_limit_once():
    pace = Pace(PaceSettings(concurrency=10))
    begun = time.monotonic()
    for _ in range(10):
        pace.overloaded(begun)
    assert pace.limit == 10 * SHRINK == 8.0
    pace.overloaded(time.monotonic())  # begun after the cut, so it is a new wave
    assert pace.limit == pytest.approx(6.4)


def test_the_limit_stays_between_one_and_the_most():
    pace = Pace(PaceSettings(concurrency=6))
    for _ in range(50):
        pace.overloaded(time.monotonic())
        assert 1 <= pace.limit <= 6
    assert pace.limit == 1
    for _ in range(60):
        before = pace.limit
        pace.succeeded()
        assert before <= pace.limit <= min(before + 1, 6)
    assert pace.limit == 6


class Crowd:
    """Requests that come, go, fail and are cancelled by plan, and that look at how many are inside."""

    def __init__(self, concurrency):
        self.pace = Pace(PaceSettings(concurrency))
        self.inside = self.shrunk = 0

    async def one(self, before, within, end):
        await ticks(before)
        await self.pace.enter(1)
        begun, self.inside = time.monotonic(), self.inside + 1
        # A place that was given just before the limit shrank is still a place.
        assert self.inside <= (self.pace.most if self.shrunk else int(self.pace.limit)) <= self.pace.most
        try:
            await ticks(within)
            self.end(end, begun)
        finally:
            self.inside -= 1
            self.pace.leave()

    def end(self, end, begun):
        if end == "answered":
            self.pace.succeeded()
        elif end == "overloaded":
            self.pace.overloaded(begun)
            self.shrunk += 1
            asyncio.get_running_loop().call_soon(self.settled)

    def settled(self):
        self.shrunk -= 1

    async def run(self, plans):
        tasks = [asyncio.ensure_future(self.one(*plan)) for plan in plans]
        for step in range(9):
            for task, (before, within, end) in zip(tasks, plans, strict=True):
                if end == "cancelled" and step == before + within:
                    task.cancel()
            await asyncio.sleep(0)
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in done), done
        for _ in range(int(self.pace.limit)):  # every place is free again
            await asyncio.wait_for(self.pace.enter(1), 1)


async def ticks(count):
    for _ in range(count):
        await asyncio.sleep(0)


PLANS = st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(ENDS))


@settings(deadline=None)
@given(st.integers(1, 6), st.lists(PLANS, max_size=30))
def test_never_more_inside_than_the_limit_and_no_place_is_lost(concurrency, plans):
    async def run():
        await Crowd(concurrency).run(plans)

    asyncio.run(run())


def test_a_place_offered_to_a_cancelled_waiter_goes_to_the_next():
    async def run():
        pace = Pace(PaceSettings(concurrency=1))
        await pace.enter(1)
        waiters = [asyncio.ensure_future(pace.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        pace.leave()  # offers the place to the first
        waiters[0].cancel()
        await asyncio.wait_for(waiters[1], 1)
        assert not waiters[2].done()
        pace.leave()
        await asyncio.wait_for(waiters[2], 1)

    asyncio.run(run())


def test_who_waits_is_let_in_before_who_comes_later():
    async def run():
        pace, order = Pace(PaceSettings(concurrency=1)), []

        async def one(name, turns):
            for _ in range(turns):
                await pace.enter(1)
                order.append(name)
                await asyncio.sleep(0)
                pace.leave()

        await asyncio.wait_for(asyncio.gather(one("a", 4), one("b", 4)), 5)
        assert "".join(order) == "abababab"

    asyncio.run(run())


async def seconds_to_enter(pace, tokens=1):
    begun = time.monotonic()
    await pace.enter(tokens)
    return time.monotonic() - begun


def test_nothing_begins_during_a_pause():
    async def run():
        pace = Pace(PaceSettings(concurrency=4))
        pace.pause(0.3)
        pace.pause(0.1)  # a shorter one does not end it
        waits = await asyncio.gather(*(seconds_to_enter(pace) for _ in range(4)))
        assert all(0.29 <= wait < 1.5 for wait in waits)

    asyncio.run(run())


def test_a_pause_holds_for_those_that_wait_already():
    async def run():
        pace = Pace(PaceSettings(concurrency=4, tokens_per_minute=6000))
        await pace.enter(6000)
        late = asyncio.ensure_future(seconds_to_enter(pace, 10))  # a tenth of a second, by the tokens
        await asyncio.sleep(0.02)
        pace.pause(0.4)
        assert await late >= 0.4

    asyncio.run(run())


def test_requests_and_tokens_a_minute():
    async def run():
        pace = Pace(PaceSettings(concurrency=100, requests_per_minute=60))
        assert sum([await seconds_to_enter(pace) for _ in range(60)]) < 0.8
        assert await seconds_to_enter(pace) >= 0.1
        pace = Pace(PaceSettings(concurrency=100, tokens_per_minute=6000))
        assert await seconds_to_enter(pace, 1_000_000) < 0.3  # more than a minute's tokens still goes
        assert await seconds_to_enter(pace, 50) >= 0.3

    asyncio.run(run())


def test_less_than_one_request_a_minute():
    async def run():
        pace = Pace(PaceSettings(concurrency=1, requests_per_minute=0.5))
        assert await seconds_to_enter(pace) < 0.3
        pace.leave()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pace.enter(1), 0.2)
        assert pace._busy == 0  # the place went back

    asyncio.run(run())
