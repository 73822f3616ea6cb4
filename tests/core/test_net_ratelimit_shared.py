"""Limits that others use too, and limits that are divided by scope, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest

from astra.errors import RateLimited
from astra.net.ratelimit import Bucket, BucketKind, RateLimiter
from astra.testing import ManualClock

WINDOW_S = 60.0


class Address:
    """The venue's count of what an address used: fixed windows that begin at moments of the venue's choice."""

    def __init__(self, clock: ManualClock, limit: float, offset_s: float) -> None:
        self.limit = limit
        self.used: Counter[int] = Counter()
        self.ours: Counter[int] = Counter()
        self._clock = clock
        self._offset_s = offset_s

    @property
    def window(self) -> int:
        return int((self._clock.monotonic() + self._offset_s) // WINDOW_S)

    def count(self, cost: float, *, ours: bool) -> float:
        self.used[self.window] += cost  # type: ignore[assignment]
        if ours:
            self.ours[self.window] += cost  # type: ignore[assignment]
        return self.used[self.window]


async def ask(limiter: RateLimiter, address: Address, clock: ManualClock, cost: float, source: random.Random) -> None:
    """One request of ours: on its way, counted, and its answer on its way."""
    permit = await limiter.acquire({"weight": cost})
    await clock.sleep(source.uniform(0.02, 0.3))
    used = address.count(cost, ours=True)
    await clock.sleep(source.uniform(0.02, 0.3))
    limiter.observe({"x-used": str(used)}, permit=permit)


async def others(address: Address, clock: ManualClock, per_window: float, source: random.Random) -> None:
    """A client that uses its part of each window and looks at nobody else."""
    while True:
        await clock.sleep(WINDOW_S / per_window * source.uniform(0.7, 1.3))
        address.count(1, ours=False)


async def crons(address: Address, clock: ManualClock, burst: int, offset_s: float) -> None:
    """A client that fires when the window begins."""
    while True:
        now = clock.monotonic() + offset_s
        await clock.sleep((now // WINDOW_S + 1) * WINDOW_S - now + 0.001)
        address.count(burst, ours=False)


@pytest.mark.parametrize("tasks", [1, 6, 30])
@pytest.mark.parametrize(("share", "fires"), [(0.1, False), (0.4, False), (0.6, False), (0.25, True), (0.5, True)])
@pytest.mark.parametrize("offset_s", [0.0, 47.3])
def test_what_others_use_is_left_to_them_and_the_rest_is_used(
    offset_s: float, share: float, fires: bool, tasks: int
) -> None:
    """Never a unit over the limit as the venue counts it, ours or theirs; and nine tenths used under demand.

    The first two windows see little demand of ours: nothing can be known of others before an answer tells.
    """
    limit = 400 if tasks == 1 else 1000
    source = random.Random(7)
    clock = ManualClock()
    address = Address(clock, limit, offset_s)

    async def work() -> None:
        limiter = RateLimiter("X", [Bucket("weight", limit, WINDOW_S, used_header="x-used")], clock, max_wait_s=1e6)

        async def modest() -> None:
            while clock.monotonic() < 2 * WINDOW_S:
                await ask(limiter, address, clock, 1, source)
                await clock.sleep(1.0)

        async def greedy() -> None:
            await clock.sleep(2 * WINDOW_S)
            while True:
                await ask(limiter, address, clock, source.randint(1, 5), source)

        async with anyio.create_task_group() as group:
            if fires:
                group.start_soon(crons, address, clock, int(limit * share), offset_s)
            else:
                group.start_soon(others, address, clock, limit * share, source)
            group.start_soon(modest)
            for _ in range(tasks):
                group.start_soon(greedy)
            await clock.advance(10 * WINDOW_S)
            group.cancel_scope.cancel()

    anyio.run(work, backend="trio")  # it knows at once that all tasks wait, which the clock asks thousands of times
    assert max(address.used.values()) <= limit, address.used
    windows = range(address.window - 6, address.window - 1)
    assert sum(address.used[window] for window in windows) >= 0.9 * limit * len(windows), (address.used, address.ours)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def shared(clock: ManualClock, **fields: str) -> RateLimiter:
    return RateLimiter("X", [Bucket("weight", 100, WINDOW_S, **{"used_header": "x-used"} | fields)], clock)  # type: ignore[arg-type]


def used(limiter: RateLimiter) -> float:
    (report,) = limiter.report()
    return report.used


async def test_what_is_under_way_comes_on_top_of_what_is_reported(clock: ManualClock) -> None:
    limiter = shared(clock)
    answered = await limiter.acquire({"weight": 30})
    await limiter.acquire({"weight": 20})
    limiter.observe({"x-used": "50"}, permit=answered)
    assert used(limiter) == 70, "of the 50 reported others may have used 20"


async def test_a_report_that_our_own_use_does_not_explain_counts_from_its_own_date(clock: ManualClock) -> None:
    limiter = shared(clock)
    limiter.observe({"x-used": "40"}, permit=await limiter.acquire({"weight": 40}))
    await clock.advance(15)
    # The venue's window began anew at 10, and others used 60 of it.
    limiter.observe({"x-used": "61"}, permit=await limiter.acquire({"weight": 1}))
    await clock.advance(46.5)
    with pytest.raises(RateLimited) as refused:
        await RateLimiter.acquire(limiter_without_patience(limiter), {"weight": 40})
    assert refused.value.retry_after == pytest.approx(15 + 61 - 61.5)


def limiter_without_patience(limiter: RateLimiter) -> RateLimiter:
    limiter.max_wait_s = 0.0
    return limiter


async def test_a_lower_report_than_was_known_before_frees_what_was_counted_then(clock: ManualClock) -> None:
    limiter = shared(clock)
    limiter.observe({"x-used": "80"}, permit=await limiter.acquire({"weight": 40}))
    await clock.advance(1)
    straggler = await limiter.acquire({"weight": 5})
    limiter.observe({"x-used": "10"}, permit=await limiter.acquire({"weight": 10}))
    assert used(limiter) == 15
    limiter.observe({"x-used": "85"}, permit=straggler)
    assert used(limiter) == 15, "it was counted in the window that is over"


async def test_an_answer_without_a_report_is_in_the_next_one(clock: ManualClock) -> None:
    limiter = shared(clock)
    limiter.observe({}, permit=await limiter.acquire({"weight": 30}))
    limiter.observe({"x-used": "50"}, permit=await limiter.acquire({"weight": 20}))
    assert used(limiter) == 50


async def test_what_is_left_is_a_report_too(clock: ManualClock) -> None:
    limiter = shared(clock, used_header="", left_header="x-left")
    limiter.observe({"x-left": "15"}, permit=await limiter.acquire({"weight": 10}))
    assert used(limiter) == 85


async def test_others_that_are_gone_are_forgotten(clock: ManualClock) -> None:
    limiter = shared(clock)
    limiter.observe({"x-used": "60"}, permit=await limiter.acquire({"weight": 1}))
    await clock.advance(4 * WINDOW_S)
    permit = await limiter_without_patience(limiter).acquire({"weight": 100})
    limiter.observe({"x-used": "100"}, permit=permit)
    assert used(limiter) == 100


# --- scopes --------------------------------------------------------------------------------------------------------


def scoped(clock: ManualClock) -> RateLimiter:
    buckets = [
        Bucket("account", 10, 2, per_account=True),
        Bucket("place", 2, 2, per_account=True, per_scope=True),
        Bucket("pair", 60, 60, BucketKind.DECAYING, per_scope=True),
    ]
    return RateLimiter("X", buckets, clock, max_wait_s=0.0)


async def test_every_account_and_scope_has_a_bucket_of_its_own(clock: ManualClock) -> None:
    limiter = scoped(clock)
    for account in ("one", "two"):
        for instrument in ("BTC-USDT", "ETH-USDT"):
            for _ in range(2):
                await limiter.acquire({"account": 1, ("place", instrument): 1}, account)
            with pytest.raises(RateLimited, match="'place'"):
                await limiter.acquire({"account": 1, ("place", instrument): 1}, account)
    assert [(one.account, one.scope, one.used) for one in limiter.report() if one.name == "place"] == [
        ("account 1", "BTC-USDT", 2),
        ("account 1", "ETH-USDT", 2),
        ("account 2", "BTC-USDT", 2),
        ("account 2", "ETH-USDT", 2),
    ]


async def test_a_scope_of_all_accounts_is_one_bucket(clock: ManualClock) -> None:
    limiter = scoped(clock)
    await limiter.acquire({("pair", "XBT/USD"): 60}, "one")
    with pytest.raises(RateLimited) as refused:
        await limiter.acquire({("pair", "XBT/USD"): 8}, "two")
    assert refused.value.retry_after == pytest.approx(8 + 1)  # and the guard time
    await limiter.acquire({("pair", "ETH/USD"): 8}, "two")


async def test_what_the_venue_never_refuses_does_not_wait_for_room_and_is_counted(clock: ManualClock) -> None:
    limiter = scoped(clock)
    pair = ("pair", "XBT/USD")
    await limiter.acquire({pair: 59}, "one")
    await limiter.acquire({pair: 400}, "one", on_credit=True)
    with pytest.raises(RateLimited) as refused:
        await limiter.acquire({pair: 1}, "one")
    assert refused.value.retry_after == pytest.approx(400 + 1)  # and the guard time
    limiter.pause(5, "the venue said so")
    with pytest.raises(RateLimited, match="the venue said so"):
        await limiter.acquire({pair: 1}, "one", on_credit=True)


@pytest.mark.parametrize("cost", ["place", ("account", "BTC-USDT")])
async def test_a_scope_is_named_where_there_are_scopes_and_nowhere_else(clock: ManualClock, cost: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        await scoped(clock).acquire({cost: 1}, "one")


def test_a_header_is_not_about_a_scope() -> None:
    with pytest.raises(ValueError, match="which scope"):
        Bucket("place", 1, 1, per_scope=True, used_header="x-used")


async def test_one_full_scope_holds_up_itself_only(clock: ManualClock) -> None:
    limiter = RateLimiter("X", [Bucket("place", 1, 10, per_scope=True), Bucket("all", 100, 10)], clock)
    sent: list[str] = []

    async def send(scope: str) -> None:
        await limiter.acquire({("place", scope): 1, "all": 1})
        sent.append(scope)

    async with anyio.create_task_group() as group:
        for scope in ("a", "a", "b"):
            group.start_soon(send, scope)
            await anyio.wait_all_tasks_blocked()
        assert sent == ["a", "b"]
        await clock.advance(11)
        assert sent == ["a", "b", "a"]


async def test_scopes_that_fall_idle_are_forgotten(clock: ManualClock) -> None:
    limiter = scoped(clock)
    for number in range(5000):
        await limiter.acquire({("place", f"m{number}"): 1}, "one")
        await clock.sleep(0)
        clock._elapsed += 0.01
    assert len(limiter._states) < 2500


async def test_a_window_that_others_used_up_does_not_keep_us_from_the_next() -> None:
    clock = ManualClock()
    bucket = Bucket("weight", 100, 60.0, used_header="used")
    limiter = RateLimiter("X", [bucket], clock)
    permit = await limiter.acquire({"weight": 1})
    limiter.observe({"used": "101"}, permit=permit)  # somebody else's burst
    with pytest.raises(RateLimited):
        await limiter.acquire({"weight": 1})
    await clock.advance(61.0)
    with anyio.fail_after(5):  # of real time: nobody moves the clock
        for _ in range(8):
            await limiter.acquire({"weight": 1})
