"""Requests of one lane go one after the other; others do not wait for them."""

from __future__ import annotations

import anyio
import httpx
import msgspec
import pytest

from astra.errors import RateLimited
from astra.net.clock import SystemClock, VenueClock
from astra.net.http import HttpClient, Request, Response
from astra.net.ratelimit import Bucket, BucketKind, RateLimiter
from astra.testing import ManualClock

pytestmark = pytest.mark.anyio


class Slow(httpx.AsyncBaseTransport):
    """Answers when it is told to; keeps what came in, in order."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.go = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.arrived.append(request.url.query.decode())
        await self.go.wait()
        return httpx.Response(200, content=b"{}")


@pytest.fixture
def slow() -> Slow:
    return Slow()


def client(slow: Slow, limiter: RateLimiter | None = None) -> HttpClient:
    clock = SystemClock()
    return HttpClient(
        "X",
        "http://venue",
        limiter=limiter or RateLimiter("X", (), clock),
        clock=VenueClock(clock),
        interpret=lambda request, response: None,
        transport=slow,
    )


async def test_requests_of_one_lane_are_signed_and_sent_one_after_the_other(slow: Slow) -> None:
    http = client(slow)
    nonces = iter(range(1, 100))
    answers: list[Response] = []

    def sign(request: Request, now_ms: int) -> Request:
        return msgspec.structs.replace(request, query=f"nonce={next(nonces)}")

    async def ask(lane: str | None) -> None:
        answers.append(await http.send(Request("GET", "/x", lane=lane), sign))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask, "a key")
        await anyio.wait_all_tasks_blocked()
        assert slow.arrived == ["nonce=1"], "the others wait, and are not signed yet"
        tasks.start_soon(ask, None)
        tasks.start_soon(ask, "another key")
        await anyio.wait_all_tasks_blocked()
        assert slow.arrived == ["nonce=1", "nonce=2", "nonce=3"]
        slow.go.set()
    assert len(answers) == 5
    assert slow.arrived == [f"nonce={number}" for number in range(1, 6)]
    assert not http._lanes, "nothing is kept of lanes that are empty"


async def test_a_canceled_request_frees_its_lane(slow: Slow) -> None:
    http = client(slow)
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.01):
            await http.send(Request("GET", "/x", lane="a key"))
        slow.go.set()
        tasks.start_soon(http.send, Request("GET", "/x", lane="a key"))
    assert len(slow.arrived) == 2
    assert not http._lanes


def used(limiter: RateLimiter) -> float:
    return limiter.report()[0].used


@pytest.mark.parametrize("kind", list(BucketKind))
async def test_what_waits_in_its_lane_counts_when_it_leaves(slow: Slow, kind: BucketKind) -> None:
    clock = ManualClock()
    limiter = RateLimiter("X", [Bucket("calls", 10, 10.0, kind)], clock)
    http = client(slow, limiter)
    call = Request("GET", "/x", lane="a key", costs={"calls": 3})
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(http.send, call)
            await clock.advance(6)
        assert len(slow.arrived) == 1
        await clock.advance(20)
        slow.go.set()
        await anyio.wait_all_tasks_blocked()
        assert used(limiter) == 3, "the venue counts it from now on"
        await clock.advance(1.5)
        assert used(limiter) == (1.5 if kind is BucketKind.DECAYING else 3)


async def test_what_was_charged_for_a_request_that_left_its_lane_is_forgotten_in_time(slow: Slow) -> None:
    clock = ManualClock()
    limiter = RateLimiter("X", [Bucket("calls", 10, 10.0, BucketKind.DECAYING)], clock)
    http = client(slow, limiter)
    call = Request("GET", "/x", lane="a key", costs={"calls": 3})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(http.send, call)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as others:
            others.start_soon(http.send, call)
            await clock.advance(5)
            others.cancel_scope.cancel()
        assert len(slow.arrived) == 1
        await clock.advance(10)
        assert used(limiter) == 0
        slow.go.set()


class Played(httpx.AsyncBaseTransport):
    """Answers each request a moment later, the first one with 429 and three seconds to wait."""

    def __init__(self, clock: ManualClock, *, limited: bool) -> None:
        self.clock = clock
        self.limited = limited
        self.sent: list[tuple[float, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append((self.clock.monotonic(), request.url.path))
        limited, self.limited = self.limited, False
        await self.clock.sleep(0.1)
        return httpx.Response(429, headers={"retry-after": "3"}) if limited else httpx.Response(200, content=b"{}")


def played(clock: ManualClock, *, limited: bool = False) -> tuple[HttpClient, Played]:
    venue = Played(clock, limited=limited)
    return (
        HttpClient(
            "X",
            "http://venue",
            limiter=RateLimiter("X", (), clock),
            clock=VenueClock(clock),
            interpret=lambda request, response: None,
            transport=venue,
            read_retries=0,
        ),
        venue,
    )


async def test_what_waits_in_its_lane_does_not_leave_during_a_pause_that_began_meanwhile() -> None:
    clock = ManualClock()
    http, venue = played(clock, limited=True)
    errors: list[Exception] = []

    async def ask(path: str) -> None:
        try:
            await http.send(Request("GET", path, lane="a key"))
        except RateLimited as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for path in ("/1", "/2", "/3"):
            tasks.start_soon(ask, path)
            await anyio.wait_all_tasks_blocked()
        for _ in range(40):
            await clock.advance(0.1)
    assert len(errors) == 1
    assert [path for _, path in venue.sent] == ["/1", "/2", "/3"]
    assert venue.sent[1][0] - venue.sent[0][0] >= 3.0
    assert not http._lanes


async def test_an_urgent_request_goes_before_all_that_wait_in_its_lane() -> None:
    clock = ManualClock()
    http, venue = played(clock)
    async with anyio.create_task_group() as tasks:
        for path in ("/read1", "/read2", "/read3"):
            tasks.start_soon(http.send, Request("GET", path, lane="a key"))
            await anyio.wait_all_tasks_blocked()
        tasks.start_soon(http.send, Request("POST", "/cancel", lane="a key", urgent=True, command=True))
        for _ in range(6):
            await anyio.wait_all_tasks_blocked()
            await clock.advance(0.1)
    assert [path for _, path in venue.sent] == ["/read1", "/cancel", "/read2", "/read3"]


async def test_nothing_waits_in_its_lane_for_longer_than_a_request_may_wait(slow: Slow) -> None:
    clock = ManualClock()
    http = client(slow, RateLimiter("X", (), clock, max_wait_s=2.0))
    http._clock = VenueClock(clock)
    errors: list[Exception] = []

    async def place() -> None:
        try:
            await http.send(Request("POST", "/place", lane="a key", command=True))
        except RateLimited as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(http.send, Request("GET", "/x", lane="a key"))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(place)
        await anyio.wait_all_tasks_blocked()
        await clock.advance(2.5)
        await anyio.wait_all_tasks_blocked()
        assert len(errors) == 1
        assert "one after the other" in str(errors[0])
        slow.go.set()
    assert len(slow.arrived) == 1
    assert not http._lanes
