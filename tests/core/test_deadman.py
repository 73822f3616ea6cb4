"""The dead-man switch: fed while the block runs, stopped when it ends well, left alone when it does not."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from astra.errors import BadRequest, DeadManLapsed, UnsupportedOperation, VenueUnavailable
from astra.testing import ManualClock
from astra.trading.deadman import DeadManSwitch

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


DOWN = VenueUnavailable("down", exchange="TOY")


class Timer:
    """The venue's timer: when it was set, to how long; `errors` are what the next calls raise."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.calls: list[tuple[float, float]] = []
        self.errors: list[Exception | None] = []
        self.hangs = False

    async def feed(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        if self.hangs:
            await anyio.sleep_forever()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.calls.append((self.clock.monotonic(), seconds))

    def switch(self, **more: Any) -> DeadManSwitch:
        return DeadManSwitch(self.feed, self.clock, **{"exchange": "TOY", "timeout_s": 30.0} | more)


async def test_the_timer_is_fed_at_a_third_of_its_time_and_stopped_at_the_end() -> None:
    timer = Timer()
    async with timer.switch() as switch:
        await timer.clock.advance(25.0)
        assert timer.calls == [(0.0, 30.0), (10.0, 30.0), (20.0, 30.0)]
        assert switch.healthy
        assert switch.left_s == 25.0
        assert switch.last_fed == 1_700_000_020_000
    assert timer.calls[-1] == (25.0, 0)


async def test_what_the_venue_refuses_is_raised_on_entering() -> None:
    timer = Timer()
    timer.errors = [UnsupportedOperation("no dead-man timer", exchange="TOY")]
    with pytest.raises(UnsupportedOperation):
        async with timer.switch():
            raise AssertionError("the block must not run")
    assert timer.calls == []


async def test_a_block_that_fails_leaves_the_timer_to_run_out() -> None:
    timer = Timer()
    with pytest.raises(ValueError, match="as it is"):
        async with timer.switch():
            raise ValueError("as it is")
    assert timer.calls == [(0.0, 30.0)]


async def test_a_block_that_is_cancelled_leaves_the_timer_to_run_out() -> None:
    timer = Timer()
    with anyio.CancelScope() as scope:
        async with timer.switch():
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert timer.calls == [(0.0, 30.0)]


async def test_feeds_that_fail_are_repeated_soon_and_show() -> None:
    timer = Timer()
    async with timer.switch() as switch:
        timer.errors = [DOWN, DOWN]
        await timer.clock.advance(11.5)
        assert not switch.healthy
        assert switch.error is DOWN
        assert switch.last_fed == 1_700_000_000_000
        await timer.clock.advance(1.0)
        assert switch.healthy
        assert [at for at, _ in timer.calls] == [0.0, 12.0]


async def test_a_block_is_ended_when_the_timer_ran_out() -> None:
    timer = Timer()
    switch = timer.switch()

    async def block() -> None:
        async with switch:
            timer.errors = [DOWN] * 100
            await timer.clock.advance(29.0)
            assert not switch.lapsed
            await timer.clock.advance(60.0)
            await anyio.sleep_forever()

    with pytest.raises(DeadManLapsed, match=r"30 s.*down") as caught:
        await block()
    assert switch.lapsed
    assert caught.value.__cause__ is DOWN
    assert len(timer.calls) == 1, "a timer that ran out is not stopped: what is left is for the venue to cancel"


async def test_a_feed_that_is_never_answered_lapses_too() -> None:
    timer = Timer()

    async def block() -> None:
        async with timer.switch(timeout_s=3.0):
            timer.hangs = True
            await timer.clock.advance(0.0)
            timer.clock._elapsed = 2.9
            await timer.clock.advance(2.0)
            await anyio.sleep_forever()

    with pytest.raises(DeadManLapsed, match="not answered"):
        await block()


@pytest.mark.parametrize("raises", [True, False])
async def test_a_process_that_was_held_up_has_lapsed_even_if_it_is_fed_again(raises: bool) -> None:
    timer = Timer()
    switch = timer.switch(raise_on_lapse=raises)

    async def block() -> None:
        async with switch:
            await timer.clock.advance(1.0)
            timer.clock._elapsed = 31.0
            await timer.clock.advance(5.0)
            assert switch.lapsed
            assert switch.healthy, "fed again, and orders placed from now on are covered"

    if raises:
        with pytest.raises(DeadManLapsed, match="the process was held up"):
            await block()
    else:
        await block()
    assert switch.lapsed


async def test_a_feed_under_way_ends_before_the_timer_is_stopped() -> None:
    timer = Timer()
    answered = anyio.Event()
    feed = timer.feed

    async def slow(seconds: float) -> None:
        if timer.clock.monotonic() >= 10.0 and seconds:
            await answered.wait()
        await feed(seconds)

    timer.feed = slow  # type: ignore[method-assign]
    ended = anyio.Event()

    async def run() -> None:
        async with timer.switch():
            await timer.clock.advance(10.0)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert not ended.is_set()
        answered.set()
    assert [seconds for _, seconds in timer.calls] == [30.0, 30.0, 0]


async def test_a_feed_that_is_not_answered_keeps_the_end_waiting_no_longer_than_the_timer_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timer = Timer()
    async with timer.switch(timeout_s=3.0):
        timer.hangs = True
        await timer.clock.advance(0.5)
        timer.clock._elapsed = 2.9
        await timer.clock.advance(0.0)
        timer.hangs = False
    assert "was not answered in time" in caplog.text
    assert timer.calls[-1][1] == 0


async def test_a_switch_that_only_flags_goes_on() -> None:
    timer = Timer()
    async with timer.switch(raise_on_lapse=False) as switch:
        timer.errors = [DOWN] * 30
        await timer.clock.advance(100.0)
        assert switch.lapsed
        assert switch.healthy
        assert switch.left_s > 0


async def test_a_timer_that_cannot_be_stopped_is_an_error() -> None:
    timer = Timer()

    async def run() -> None:
        with pytest.raises(VenueUnavailable):
            async with timer.switch():
                timer.errors = [DOWN] * 3
        ended.set()

    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await timer.clock.advance(5.0)
        assert ended.is_set()
    assert timer.errors == []


async def test_an_error_while_a_lapsed_block_ends_is_kept_as_the_cause() -> None:
    timer = Timer()

    async def block() -> None:
        async with timer.switch():
            timer.errors = [DOWN] * 100
            try:
                await timer.clock.advance(60.0)
                await anyio.sleep_forever()
            finally:
                raise ValueError("while ending")

    with pytest.raises(DeadManLapsed) as caught:
        await block()
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("timeout_s", [0, -1, 2.9, float("nan")])
async def test_nonsense_is_refused(timeout_s: float) -> None:
    with pytest.raises(BadRequest, match="at least 3"):
        Timer().switch(timeout_s=timeout_s)
