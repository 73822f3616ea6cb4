"""The rate limiter, in virtual time: what it lets through, in which order, and what it loses (nothing)."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra.errors import Outcome, RateLimited
from astra.models.credentials import Credentials
from astra.net.ratelimit import Bucket, BucketKind, RateLimiter

SLIDING = BucketKind.SLIDING_WINDOW
DECAYING = BucketKind.DECAYING


class VirtualClock:
    """Time that passes only in `run`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps = 0
        self._sleepers: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return int(self.now * 1e9)

    async def sleep(self, seconds: float) -> None:
        await self.wait(anyio.Event(), seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        self.sleeps += 1
        with anyio.CancelScope() as scope:
            heapq.heappush(self._sleepers, (self.now + seconds, next(self._count), scope.cancel))
            await event.wait()
        return event.is_set()

    async def settle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(12):
            await anyio.lowlevel.checkpoint()

    async def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, wake = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            wake()
            await self.settle()
        self.now = end


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Requests:
    """Tasks that want to send, and when they might."""

    def __init__(self, limiter: RateLimiter, clock: VirtualClock, group: anyio.abc.TaskGroup) -> None:
        self.limiter = limiter
        self.clock = clock
        self.group = group
        self.sent: list[tuple[str, float]] = []
        self.refused: dict[str, RateLimited] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def want(self, name: str, costs: dict[str, float], account: Any = None, *, urgent: bool = False) -> None:
        """Start a task that asks, and let it come to wait."""
        self.group.start_soon(self._send, name, costs, account, urgent)
        await self.clock.settle()

    async def _send(self, name: str, costs: dict[str, float], account: Any, urgent: bool) -> None:
        with anyio.CancelScope() as self.scopes[name]:
            try:
                await self.limiter.acquire(costs, account, urgent=urgent)
            except RateLimited as error:
                self.refused[name] = error
            else:
                self.sent.append((name, self.clock.now - 1000))

    @property
    def names(self) -> str:
        """Who was let go, in order (of those let go in the same moment any may run first)."""
        return "".join(name for name, _ in sorted(self.sent, key=lambda sent: (sent[1], sent[0])))


def used(limiter: RateLimiter, name: str) -> float:
    return sum(report.used for report in limiter.report() if report.name == name)


async def test_a_window_is_filled_at_once_and_again_when_it_is_over(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 3, 10)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for name in "abcdefg":
            await requests.want(name, {"weight": 1})
        assert requests.names == "abc"
        await clock.run(10)
        assert requests.names == "abc"
        await clock.run(0.5)
        assert requests.names == "abcdef"
        await clock.run(10.5)
        assert requests.names == "abcdefg"


async def test_all_buckets_are_charged_together_or_not_at_all(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 60), Bucket("orders", 1, 5)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 2, "orders": 1})
        await requests.want("b", {"weight": 2, "orders": 1})
        assert requests.names == "a"
        assert used(limiter, "weight") == 2
        await clock.run(5.2)
        assert requests.names == "ab"
        assert used(limiter, "weight") == 4


async def test_requests_leave_in_the_order_in_which_they_came(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 10)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 8})
        await requests.want("b", {"weight": 9})
        # There would be room for these, but the big one was first.
        await requests.want("c", {"weight": 1})
        await requests.want("d", {"weight": 1})
        assert requests.names == "a"
        await clock.run(10.5)
        assert requests.names == "abc"
        await clock.run(10.5)
        assert requests.names == "abcd"


async def test_cancels_go_before_everything_else(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 1)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for name in "abc":
            await requests.want(name, {"weight": 1})
        await requests.want("U", {"weight": 1}, urgent=True)
        await requests.want("V", {"weight": 1}, urgent=True)
        await clock.run(6)
        assert requests.names == "aUVbc"


async def test_a_full_account_holds_up_itself_only(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 100, 60), Bucket("orders", 1, 10, per_account=True)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for name, account in (("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 2), ("f", None)):
            await requests.want(name, {"weight": 1, "orders": 1}, account)
        assert requests.names == "adf"
        await requests.want("g", {"weight": 1}, 1)
        assert requests.names == "adfg"
        await clock.run(10.5)
        assert requests.names == "adfgbe"
        await clock.run(10.5)
        assert requests.names == "adfgbec"


async def test_a_later_request_of_the_same_account_does_not_overtake(clock: VirtualClock) -> None:
    buckets = [Bucket("orders", 1, 10, per_account=True), Bucket("reads", 1, 5, per_account=True)]
    limiter = RateLimiter("X", buckets, clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"orders": 1}, 1)
        await requests.want("b", {"orders": 1, "reads": 1}, 1)
        await requests.want("c", {"reads": 1}, 1)
        assert requests.names == "a"
        await clock.run(10.5)
        assert requests.names == "ab"
        await clock.run(5.5)
        assert requests.names == "abc"


@pytest.mark.parametrize("victim", ["b", "c", "d"], ids=["the one who sleeps for all", "in the middle", "the last"])
async def test_a_cancelled_wait_takes_nothing_and_holds_nobody_up(clock: VirtualClock, victim: str) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 1)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for name in "abcd":
            await requests.want(name, {"weight": 1})
        requests.scopes[victim].cancel()
        await clock.run(5)
        assert requests.names == "abcd".replace(victim, "")
        assert [round(at) for _, at in requests.sent] == [0, 1, 2]
        assert used(limiter, "weight") == 0


async def test_a_cancelled_big_request_lets_the_small_ones_behind_it_go_at_once(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 10)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 5})
        await requests.want("b", {"weight": 10})
        await requests.want("c", {"weight": 5})
        requests.scopes["b"].cancel()
        await clock.settle()
        assert requests.sent == [("a", 0.0), ("c", 0.0)]


async def test_a_request_cancelled_in_the_moment_it_may_go_goes_or_gives_its_permit_back(
    clock: VirtualClock, anyio_backend: str
) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 1)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 1})
        if anyio_backend == "asyncio":
            # A task that is cancelled by asyncio's own means is, even when what it waited for has happened.
            task = asyncio.create_task(limiter.acquire({"weight": 1}))
            cancel: Callable[[], object] = task.cancel
            await clock.settle()
        else:
            await requests.want("b", {"weight": 1})
            cancel = requests.scopes["b"].cancel
        await requests.want("c", {"weight": 1})
        await requests.want("d", {"weight": 1})
        # A pause of no length lets the limiter look again, now that the window is over, before anybody else can run.
        clock.now += 1.1
        limiter.pause(0, "now")
        assert used(limiter, "weight") == 1
        cancel()
        await clock.settle()
        await clock.run(5)
        assert requests.names in ("acd", "abcd")
        assert [round(at) for _, at in requests.sent] == list(range(len(requests.sent)))
        if anyio_backend == "asyncio":
            assert task.cancelled()


async def test_a_wait_that_would_be_too_long_is_refused_at_once_with_its_length(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 60)], clock, max_wait_s=70)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for name in "abc":
            await requests.want(name, {"weight": 10})
        assert "c" in requests.refused
        error = requests.refused["c"]
        assert error.retry_after == pytest.approx(122, abs=1)
        assert error.retryable
        assert error.outcome is Outcome.NOT_EXECUTED
        assert "weight" in error.message
        await clock.run(61.5)
        assert requests.names == "ab"


async def test_who_waited_as_long_as_allowed_is_refused(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 4)], clock, max_wait_s=5)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 1})
        await requests.want("b", {"weight": 1})
        await requests.want("U", {"weight": 1}, urgent=True)
        await clock.run(4.5)
        assert requests.names == "aU"
        await clock.run(1)
        assert list(requests.refused) == ["b"]
        assert requests.refused["b"].retry_after == pytest.approx(3.2, abs=0.1)


async def test_during_a_pause_nothing_leaves_not_even_a_cancel(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 10)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        limiter.pause(8, "429")
        limiter.pause(3, "a shorter one does not end it")
        await requests.want("a", {"weight": 1})
        await requests.want("b", {})
        await requests.want("U", {"weight": 1}, urgent=True)
        assert limiter.report()[0].paused_s == 8
        await clock.run(7.9)
        assert requests.names == ""
        await clock.run(0.2)
        assert sorted(requests.names) == ["U", "a", "b"]


async def test_the_pause_of_an_account_holds_back_that_account_alone(clock: VirtualClock) -> None:
    limiter = RateLimiter(
        "X", [Bucket("weight", 10, 10), Bucket("own", 10, 10, per_account=True)], clock, max_wait_s=30
    )
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        limiter.pause(8, "locked out", "mine")
        limiter.pause(3, "a shorter one does not end it", "mine")
        limiter.pause(1, "somebody else's", "theirs")
        await requests.want("a", {"own": 1}, "mine")
        await requests.want("b", {"weight": 1}, "mine", urgent=True)
        await requests.want("c", {"own": 1}, "other")
        await requests.want("d", {"weight": 1})
        await clock.run(0.5)
        assert sorted(requests.names) == ["c", "d"]
        assert (limiter.paused_s, limiter.paused_for_s("mine")) == (0, 7.5)
        limiter.pause(100, "locked out again", "mine")
        await clock.settle()
        assert sorted(requests.refused) == ["a", "b"]
        assert "locked out again" in str(requests.refused["a"])
        limiter.pause(2, "429")
        await requests.want("e", {}, "other")
        await clock.run(1.9)
        assert sorted(requests.names) == ["c", "d"]
        await clock.run(0.2)
        assert sorted(requests.names) == ["c", "d", "e"]


async def test_a_ban_refuses_those_who_wait_and_those_who_come(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 10)], clock, max_wait_s=30)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 1})
        await requests.want("b", {"weight": 1})
        limiter.pause(120, "banned (418)")
        await requests.want("c", {"weight": 1})
        assert set(requests.refused) == {"b", "c"}
        assert requests.refused["c"].retry_after == 120
        assert "banned (418)" in requests.refused["c"].message


async def test_a_cost_beyond_the_limit_is_refused_for_good(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 1)], clock)
    with pytest.raises(RateLimited) as caught:
        await limiter.acquire({"weight": 11})
    assert not caught.value.retryable


async def test_an_unknown_bucket_is_named_with_the_likely_one(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 1)], clock)
    with pytest.raises(ValueError, match="Did you mean 'weight'"):
        await limiter.acquire({"wieght": 1})


async def test_a_higher_used_amount_is_believed_at_once(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 100, 10, used_header="x-used")], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 10})
        limiter.observe({"x-used": "95", "date": "today"})
        assert used(limiter, "weight") == 95
        await requests.want("b", {"weight": 6})
        assert requests.names == "a"
        await clock.run(10.5)
        assert requests.names == "ab"


async def test_a_lower_used_amount_frees_what_is_not_under_way(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 100, 60, used_header="x-used")], clock)
    await limiter.acquire({"weight": 40})
    await clock.run(20)
    await limiter.acquire({"weight": 20})
    await clock.run(20)
    await limiter.acquire({"weight": 30})
    # The venue's minute began anew after the first: it has seen the second, and may not have seen the third.
    limiter.observe({"x-used": "20"})
    assert used(limiter, "weight") == 70
    limiter.observe({"x-used": "0"})
    assert used(limiter, "weight") == 50, "the second may be under way for up to 30 s"
    await clock.run(11)
    limiter.observe({"x-used": "0"})
    assert used(limiter, "weight") == 30


@pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "inf"])
async def test_nonsense_in_a_header_changes_nothing(clock: VirtualClock, text: str) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 100, 60, used_header="x-used")], clock)
    await limiter.acquire({"weight": 40})
    limiter.observe({"x-used": text})
    assert used(limiter, "weight") == 40


async def test_headers_correct_the_accounts_own_bucket(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("orders", 10, 60, used_header="x-orders", per_account=True)], clock)
    limiter.observe({"x-orders": "10"}, account=1)
    await limiter.acquire({"orders": 10}, account=2)
    assert used(limiter, "orders") == 20


async def test_a_decaying_counter_lets_through_what_has_decayed(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("calls", 15, 45, DECAYING, used_header="x-calls")], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for _ in range(15):
            await requests.want("a", {"calls": 1})
        await requests.want("b", {"calls": 2})
        # The last one waits for the guard time: the venue's counter may have fallen less than ours.
        assert requests.names == "a" * 14
        await clock.run(0.95)
        assert requests.names == "a" * 15
        await clock.run(5.9)
        assert "b" not in requests.names
        await clock.run(0.2)
        assert "b" in requests.names
        limiter.observe({"x-calls": "3"})
        assert used(limiter, "calls") == pytest.approx(14.7, abs=0.1)
        await clock.run(45)
        assert used(limiter, "calls") == 0
        limiter.observe({"x-calls": "3"})
        assert used(limiter, "calls") == 3


async def test_limits_read_from_the_venue_replace_the_defaults_and_keep_what_was_spent(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 60), Bucket("orders", 5, 1)], clock, max_wait_s=100)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 10, "orders": 1})
        await requests.want("b", {"weight": 10, "orders": 1}, urgent=True)
        limiter.configure([Bucket("weight", 20, 60)])
        await clock.settle()
        assert requests.names == "ab"
        assert used(limiter, "weight") == 20
        limiter.configure([Bucket("weight", 5, 600), Bucket("orders", 5, 1, DECAYING)])
        assert used(limiter, "orders") == 2
        with pytest.raises(RateLimited):
            await limiter.acquire({"weight": 5})


@pytest.mark.parametrize(("limit", "window"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_a_bucket_without_room_or_time_is_refused(limit: float, window: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Bucket("weight", limit, window)


async def test_the_report_names_accounts_but_no_keys(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 10, 60), Bucket("orders", 5, 10, per_account=True)], clock)
    await limiter.acquire({"weight": 2, "orders": 1}, Credentials.of("X", "the-key", "the-secret", account="main"))
    await limiter.acquire({"weight": 2, "orders": 2}, "the-key")
    await clock.run(4)
    weight, main, other = limiter.report()
    assert (weight.name, weight.used, weight.limit, weight.account) == ("weight", 4, 10, None)
    assert weight.resets_in_s == pytest.approx(57)
    assert (main.account, main.used) == ("main", 1)
    assert (other.account, other.used) == ("account 2", 2)
    assert "the-key" not in repr(limiter.report())


async def test_accounts_that_fall_idle_are_forgotten(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("orders", 5, 10, per_account=True)], clock)
    for account in range(20_000):
        await limiter.acquire({"orders": 1}, account)
        await clock.run(0.1)
    assert len(limiter._states) < 2500


async def test_the_log_does_not_grow_with_the_limit(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("raw", 300_000, 300, SLIDING)], clock)
    for _ in range(3000):
        await limiter.acquire({"raw": 100})
        clock.now += 0.1
    (state,) = limiter._states.values()
    assert used(limiter, "raw") == 300_000
    assert len(state._charges) < 140  # type: ignore[union-attr]


async def test_charges_kept_together_are_forgotten_with_the_newest(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 2, 10)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        await requests.want("a", {"weight": 1})
        await clock.run(0.07)
        await requests.want("b", {"weight": 1})
        await requests.want("c", {"weight": 1})
        await clock.run(10.19)
        assert requests.names == "ab"
        await clock.run(0.02)
        assert requests.names == "abc"


async def test_nobody_polls(clock: VirtualClock) -> None:
    limiter = RateLimiter("X", [Bucket("weight", 1, 1)], clock)
    async with anyio.create_task_group() as group:
        requests = Requests(limiter, clock, group)
        for number in range(20):
            await requests.want(f"{number} ", {"weight": 1})
        await clock.run(25)
        assert len(requests.sent) == 20
    # One sleep for every moment at which somebody may go.
    assert clock.sleeps <= 2 * 20


def in_virtual_time(work: Callable[[VirtualClock], Awaitable[None]]) -> None:
    """Run `work` on trio, whose scheduler makes property tests quick."""
    anyio.run(work, VirtualClock(), backend="trio")


class Model:
    """An independent count: what arrived when."""

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets
        self.arrived: list[tuple[float, dict[str, float]]] = []

    def most(self, bucket: Bucket) -> float:
        """The most that any stretch of the bucket's window holds, wherever it begins."""
        log = sorted((at, costs.get(bucket.name, 0.0)) for at, costs in self.arrived)
        return max(
            sum(cost for at, cost in log if start <= at < start + bucket.window_s) for start, _ in log or [(0, 0)]
        )


costs_of = st.fixed_dictionaries({}, optional={"a": st.integers(1, 5), "b": st.integers(1, 3)})


@settings(max_examples=40)
@given(
    limits=st.tuples(st.integers(5, 20), st.integers(3, 10)),
    windows=st.tuples(st.sampled_from([1, 2.5, 10]), st.sampled_from([0.5, 3, 60])),
    kinds=st.tuples(*[st.sampled_from([BucketKind.FIXED_WINDOW, SLIDING])] * 2),
    wanted=st.lists(st.tuples(costs_of, st.booleans(), st.floats(0, 3), st.booleans()), max_size=40),
    seed=st.integers(),
)
def test_no_window_is_ever_exceeded_and_nothing_is_lost(
    limits: Any, windows: Any, kinds: Any, wanted: Any, seed: int
) -> None:
    """Requests come at any time, some are cancelled, and each takes up to the guard time to arrive."""
    buckets = [Bucket(name, *rest) for name, *rest in zip("ab", limits, windows, kinds, strict=True)]
    model = Model(buckets)
    source = random.Random(seed)

    async def work(clock: VirtualClock) -> None:
        limiter = RateLimiter("X", buckets, clock, max_wait_s=1e6)
        outcomes: Counter[str] = Counter()

        async def request(costs: dict[str, float], urgent: bool, scope: anyio.CancelScope) -> None:
            with scope:
                await limiter.acquire(costs, urgent=urgent)
                latency = source.random() * min(0.15, 0.08 * min(bucket.window_s for bucket in buckets))
                model.arrived.append((clock.now + latency, costs))
                outcomes["sent"] += 1
                return
            outcomes["cancelled"] += 1

        async with anyio.create_task_group() as group:
            scopes = []
            for costs, urgent, gap, cancel in wanted:
                scope = anyio.CancelScope()
                group.start_soon(request, costs, urgent, scope)
                scopes.append(scope)
                await clock.run(gap)
                if cancel:
                    source.choice(scopes).cancel()
            await clock.run(10_000)
        assert sum(outcomes.values()) == len(wanted)
        assert all(report.used == 0 for report in limiter.report())

    in_virtual_time(work)
    for bucket in buckets:
        assert model.most(bucket) <= bucket.limit


@settings(max_examples=20)
@given(
    limit=st.integers(10, 60),
    window=st.sampled_from([1.0, 10.0, 60.0]),
    kind=st.sampled_from(list(BucketKind)),
    cost=st.integers(1, 3),
)
def test_under_demand_nearly_all_of_a_limit_is_used(limit: int, window: float, kind: BucketKind, cost: int) -> None:
    bucket = Bucket("weight", limit, window, kind)
    sent = 0

    async def work(clock: VirtualClock) -> None:
        limiter = RateLimiter("X", [bucket], clock, max_wait_s=1e6)

        async def eager() -> None:
            nonlocal sent
            while True:
                await limiter.acquire({"weight": cost})
                sent += cost

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(eager)
            await clock.run(20.5 * window)
            group.cancel_scope.cancel()

    in_virtual_time(work)
    whole = limit // cost * cost
    assert sent >= 0.9 * 20 * whole


@settings(max_examples=15)
@given(offset=st.floats(0, 60), limit=st.integers(30, 200), seed=st.integers())
@pytest.mark.parametrize("with_permit", [True, False])
def test_a_venue_with_fixed_windows_that_reports_its_count_never_has_to_refuse(
    with_permit: bool, offset: float, limit: int, seed: int
) -> None:
    """The venue's window begins at a moment that we do not know; answers take up to two seconds. Whoever does not say
    which request a count came with, as our client does, is kept within the limit, too, but gets less out of it."""
    window = 60.0
    counted: Counter[int] = Counter()
    source = random.Random(seed)

    async def work(clock: VirtualClock) -> None:
        limiter = RateLimiter("X", [Bucket("weight", limit, window, used_header="x-used")], clock, max_wait_s=1e6)

        async def client() -> None:
            while True:
                cost = source.randint(1, 5)
                permit = await limiter.acquire({"weight": cost})
                await clock.sleep(source.random() * 0.5)
                current = int((clock.now + offset) // window)
                counted[current] += cost
                used_now = counted[current]
                await clock.sleep(source.random() * 1.5)
                limiter.observe({"x-used": str(used_now)}, permit=permit if with_permit else None)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(client)
            await clock.run(8 * window)
            group.cancel_scope.cancel()

    in_virtual_time(work)
    assert max(counted.values()) <= limit
    # Four clients that wait for their answers do not want more than this.
    wanted = min(limit - 5, 4 * 60 * 3 / 1.0)
    assert sum(counted.values()) >= (0.8 if with_permit else 0.5) * 7 * wanted


def test_a_header_that_buckets_share_is_about_the_one_that_was_charged() -> None:
    """Pools of one venue may all be reported in the same header."""

    async def work(clock: VirtualClock) -> None:
        pools = [Bucket(name, 100, 30.0, left_header="x-left", header_is_shared=True) for name in ("spot", "public")]
        limiter = RateLimiter("X", pools, clock)
        permit = await limiter.acquire({"spot": 1})
        limiter.observe({"x-left": "40"}, permit=permit)
        assert {report.name: report.used for report in limiter.report()} == {"spot": 60, "public": 0}
        limiter.observe({"x-left": "10"})
        assert {report.name: report.used for report in limiter.report()} == {"spot": 60, "public": 0}

    in_virtual_time(work)
