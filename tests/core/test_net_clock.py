"""The venue's clock: offset, error, age, and which way it leans."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import VenueUnavailable
from astra.net.clock import SystemClock, VenueClock


class ManualClock:
    def __init__(self) -> None:
        self.now = 50.0
        self.wall_lead = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return round((self.now + self.wall_lead) * 1e9)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        raise NotImplementedError


class Venue:
    """A venue whose clock is `ahead_s` ahead, and the way to it: seconds there and back, one pair a question."""

    def __init__(self, clock: ManualClock, ahead_s: float, *ways: tuple[float, float]) -> None:
        self.clock = clock
        self.ahead_s = ahead_s
        self.ways = list(ways)
        self.asked = 0
        self.down = False

    @property
    def time_ms(self) -> float:
        return (self.clock.wall_ns() / 1e9 + self.ahead_s) * 1000

    async def time(self) -> int:
        self.asked += 1
        there, back = self.ways[(self.asked - 1) % len(self.ways)]
        await self.clock.sleep(there)
        if self.down:
            raise VenueUnavailable("down", exchange="X")
        answer = int(self.time_ms)
        await self.clock.sleep(back)
        return answer


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_without_a_measurement_the_local_time_serves() -> None:
    clock = ManualClock()
    assert VenueClock(clock).now_ms() == 1_700_000_050_000
    assert VenueClock(clock).stale


async def test_the_shortest_round_trip_counts() -> None:
    clock = ManualClock()
    venue = Venue(clock, -3.0, (0.5, 0.1), (0.01, 0.01), (0.1, 0.5))
    measured = VenueClock(clock)
    await measured.measure(venue.time)
    assert venue.asked == 3
    assert measured.offset_ms == pytest.approx(-3000, abs=1.5)
    assert measured.margin_ms == pytest.approx(10)
    assert measured.measured_at == clock.now
    assert not measured.stale


@given(
    ahead=st.floats(-3600, 3600),
    ways=st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 0.05)), min_size=3, max_size=3),
)
def test_a_stamp_is_never_late_and_hardly_early(ahead: float, ways: list[tuple[float, float]]) -> None:
    """However the round trip divides."""

    async def check() -> None:
        clock = ManualClock()
        venue = Venue(clock, ahead, *ways)
        measured = VenueClock(clock)
        await measured.measure(venue.time)
        clock.now += 100
        assert venue.time_ms - 102 <= measured.now_ms() <= venue.time_ms + 0.001

    anyio.run(check, backend="trio")


async def test_one_answered_round_is_enough_and_none_is_an_error() -> None:
    clock = ManualClock()
    venue = Venue(clock, 1.0, (0.01, 0.01))

    async def once() -> int:
        venue.down = venue.asked >= 1
        return await venue.time()

    measured = VenueClock(clock)
    await measured.measure(once)
    assert venue.asked == 2
    assert measured.offset_ms == pytest.approx(1000, abs=1.5)
    with pytest.raises(VenueUnavailable):
        await measured.measure(venue.time)
    assert venue.asked == 3
    assert measured.offset_ms == pytest.approx(1000, abs=1.5)


async def test_what_is_in_a_hurry_waits_for_a_measurement_only_when_it_must() -> None:
    clock = ManualClock()
    venue = Venue(clock, 1.0, (0.01, 0.01))
    measured = VenueClock(clock)
    measured.source = venue.time
    await measured.refresh(hurry=True)
    assert venue.asked == 3
    clock.now += measured.MAX_AGE_S + 1
    await measured.refresh(hurry=True)
    assert venue.asked == 3
    clock.now += measured.LAST_AGE_S
    await measured.refresh(hurry=True)
    assert venue.asked == 6
    clock.wall_lead += 1
    await measured.refresh(hurry=True)
    assert venue.asked == 9


async def test_it_is_measured_again_when_old_or_when_the_machines_clock_was_set() -> None:
    clock = ManualClock()
    venue = Venue(clock, 1.0, (0.01, 0.01))
    measured = VenueClock(clock)
    measured.source = venue.time
    await measured.refresh()
    await measured.refresh()
    assert venue.asked == 3
    clock.now += measured.MAX_AGE_S + 1
    await measured.refresh()
    assert venue.asked == 6
    clock.wall_lead -= 7
    venue.ahead_s += 7
    assert measured.stale
    await measured.refresh()
    assert measured.offset_ms == pytest.approx(8000, abs=1.5)


async def test_a_venue_that_does_not_answer_leaves_the_old_offset_and_is_not_asked_at_once_again() -> None:
    clock = ManualClock()
    venue = Venue(clock, 1.0, (0.01, 0.01))
    measured = VenueClock(clock)
    measured.source = venue.time
    await measured.refresh()
    clock.now += measured.MAX_AGE_S + 1
    venue.down = True
    await measured.refresh()
    await measured.refresh()
    assert venue.asked == 4
    assert measured.offset_ms == pytest.approx(1000, abs=1.5)
    with pytest.raises(VenueUnavailable):
        await measured.remeasure()
    venue.down = False
    clock.now += measured.RETRY_S + 1
    await measured.refresh()
    assert not measured.stale


async def test_tasks_that_want_the_time_at_once_share_a_measurement() -> None:
    clock = ManualClock()
    venue = Venue(clock, 1.0, (0.01, 0.01))
    measured = VenueClock(clock)
    measured.source = venue.time
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(measured.refresh)
            group.start_soon(measured.remeasure)
    assert venue.asked == 3


async def test_a_venue_without_a_time_endpoint_cannot_be_measured() -> None:
    measured = VenueClock(ManualClock())
    await measured.refresh()
    assert not await measured.remeasure()


async def test_the_system_clock_goes_on() -> None:
    clock = SystemClock()
    wall, monotonic = clock.wall_ns(), clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - monotonic >= 0.009
    assert clock.wall_ns() > wall
