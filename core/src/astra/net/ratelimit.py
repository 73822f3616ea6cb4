"""A venue's request limits, modelled on our side, so that requests wait here rather than being refused there.

A limit is a `Bucket`; a request costs something in one or several of them and leaves when all have room, at once.

What a venue may limit, and how it is said:

- N requests in a window of its own choice, or in the last so many seconds: `BucketKind.FIXED_WINDOW`, `SLIDING_WINDOW`
  (kept alike, see `astra.net.buckets`); a counter that decays, a token bucket: `DECAYING`.
- For everybody at this address: a plain bucket. For each account (key, user): `per_account`, by `Request.account`.
- For each market, currency or whatever else, of everybody or of each account: `per_scope`; the cost names the scope:
  `costs={"trade": 1, ("place", "BTC-USDT"): 1}`.
- A cost that depends on the request (weights, the age of the order that is cancelled): the cost is the venue's to say.
- Batches that count as so many orders: cost N. A budget that several endpoints share: one bucket. Budgets that exclude
  each other (public and private): one limiter for each, or buckets that no request charges together.
- Reports of use in response headers: `used_header`, `left_header`; several buckets in one header: `header_is_shared`.

Buckets of accounts and scopes come into being when they are charged, and are forgotten when they are empty; there are
never more than `_MAX_STATES`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import anyio
import msgspec

from astra.errors import RateLimited, hint
from astra.models.protocols import Clock
from astra.net.buckets import Bucket, BucketKind, Spent, State, new_state

__all__ = ["Bucket", "BucketKind", "BucketReport", "Cost", "Permit", "RateLimiter"]

_PURGE_AT = 1024
_MAX_STATES = 100_000
_TICK_S = 0.001
"""The shortest sleep: rounding must not make one of no length."""


class BucketReport(msgspec.Struct, frozen=True):
    """How full a bucket is. `resets_in_s`: seconds until it is empty if nothing more is sent. `account` is the
    account's name (a number where it has none), `scope` what it is for; None for buckets that are not divided so."""

    name: str
    used: float
    limit: float
    resets_in_s: float
    account: str | None
    paused_s: float
    scope: str | None = None


Cost = str | tuple[str, Hashable]
"""What a cost is charged to: a bucket by its name, or (name, scope) where the bucket is `per_scope`."""
_Key = tuple[str, Hashable, Hashable]
"""(bucket name, account, scope), None for what the bucket is not divided by."""


class Permit(msgspec.Struct, frozen=True):
    """What one request was charged. Hand it to `RateLimiter.observe` with the answer's headers."""

    spent: tuple[Spent, ...] = ()


class _Pause(NamedTuple):
    """Nothing is sent until then (monotonic seconds). Of two the later one is the greater."""

    until: float
    reason: str


class _Waiter:
    """A request that waits for room."""

    __slots__ = ("account", "costs", "deadline", "granted", "refusal", "spent", "wake")

    def __init__(self, costs: Mapping[_Key, float], account: Hashable, deadline: float) -> None:
        self.costs = costs
        self.account = account
        self.deadline = deadline
        self.granted = False
        self.refusal: RateLimited | None = None
        self.spent: list[Spent] = []
        self.wake = anyio.Event()

    @property
    def settled(self) -> bool:
        return self.granted or self.refusal is not None


class RateLimiter:
    """Keeps the requests of all tasks within a venue's limits.

    Requests leave in the order in which they came, as far as they compete: one that waits for its account's bucket
    holds up that account only, one that waits for a shared bucket everybody who needs that bucket. Urgent ones
    (cancels) go before all others.

    Nothing runs in the background: of the waiting tasks one sleeps until the next moment at which something can
    change and then lets go whoever may; when it leaves, it hands this over to another.
    """

    def __init__(self, exchange: str, buckets: Sequence[Bucket], clock: Clock, *, max_wait_s: float = 30.0) -> None:
        self._exchange = exchange
        self._clock = clock
        self.max_wait_s = max_wait_s
        """A request that would have to wait longer is refused."""
        self._buckets: dict[str, Bucket] = {}
        self._states: dict[_Key, State] = {}
        self._purge_at = _PURGE_AT
        self._urgent: dict[_Waiter, None] = {}
        self._normal: dict[_Waiter, None] = {}
        self._leader: _Waiter | None = None
        self._next_at = math.inf
        self._pause = _Pause(-math.inf, "")
        self._account_pauses: dict[Hashable, _Pause] = {}
        self.configure(buckets)

    async def acquire(
        self,
        costs: Mapping[Cost, float],
        account: Hashable = None,
        *,
        urgent: bool = False,
        on_credit: bool = False,
    ) -> Permit:
        """Wait until all buckets have room for `costs` (bucket name, or bucket name and scope -> cost) and charge them
        together. The permit is for `observe`.

        Raises `RateLimited` (with `retry_after`) as soon as it is clear that the wait would exceed `max_wait_s`.
        When cancelled nothing stays charged. An unknown bucket is a `ValueError`, and so is a
        scope for a bucket that has none, or none for one that has.

        `on_credit`: what the venue counts, but never refuses. It waits for the end of a pause only, and may fill a
        bucket beyond its limit.
        """
        if on_credit:
            await self.acquire({}, account, urgent=urgent)
            return self._charged(self._keys(costs, account))
        now = self._clock.monotonic()
        waiter = _Waiter(self._keys(costs, account), account, now + self.max_wait_s)
        self._refuse_hopeless(waiter, now, urgent=urgent)
        (self._urgent if urgent else self._normal)[waiter] = None
        self._dispatch()
        try:
            while not waiter.settled:
                await self._wait(waiter)
        except BaseException:
            self._withdraw(waiter)
            raise
        self._hand_over()
        if waiter.refusal is not None:
            raise waiter.refusal
        return Permit(tuple(waiter.spent))

    def _charged(self, costs: Mapping[_Key, float]) -> Permit:
        now = self._clock.monotonic()
        return Permit(tuple(self._state(key, now).spend(cost, now) for key, cost in costs.items()))

    def delay(self, permit: Permit) -> None:
        """The request with `permit` waits for something else, too, until `leave` is called."""
        now = self._clock.monotonic()
        for spent in permit.spent:
            spent.state.delay(spent, now)

    def leave(self, permit: Permit) -> Permit:
        """A request that was delayed leaves: it counts from now on, with the permit returned."""
        now = self._clock.monotonic()
        return Permit(tuple(spent.state.leave(spent, now) for spent in permit.spent))

    def observe(self, headers: Mapping[str, str], account: Hashable = None, permit: Permit | None = None) -> None:
        """Correct the buckets from the headers (lower-case names) of the response to the request with `permit`.

        A higher used amount (others use the same address or key) is believed at once, and what is under way comes on
        top; a lower one only as far as it cannot be explained by requests that are still under way. Without a permit it
        is not known which those are, and the last half minute's are taken for it.
        """
        now = self._clock.monotonic()
        seen = False
        charged = {} if permit is None else {id(spent.state): spent for spent in permit.spent}
        for bucket in self._buckets.values():
            used = _reported(bucket, headers)
            if used is None:
                continue
            state = self._state((bucket.name, account if bucket.per_account else None, None), now)
            spent = charged.pop(id(state), None)
            if bucket.header_is_shared and spent is None:
                continue
            if permit is not None and spent is None:
                spent = Spent.nothing(state, now)
            state.report(used, spent, now)
            seen = True
        for spent in charged.values():
            spent.state.answer(spent)
        if seen and (self._urgent or self._normal):
            self._dispatch()

    def pause(self, seconds: float, reason: str, account: Hashable = None) -> None:
        """Send nothing for `seconds` (the venue said so); with an `account`, nothing of that account. A longer pause
        that runs already stays."""
        now = self._clock.monotonic()
        pause = _Pause(now + seconds, reason)
        if account is None:
            self._pause = max(self._pause, pause)
        else:
            running = {one: still for one, still in self._account_pauses.items() if still.until > now}
            self._account_pauses = running | {account: max(running.get(account, pause), pause)}
        self._dispatch()

    @property
    def paused_s(self) -> float:
        """Seconds for which nothing is sent."""
        return self.paused_for_s(None)

    def paused_for_s(self, account: Hashable) -> float:
        """Seconds for which nothing of an account is sent."""
        return max(0.0, self._pause_of(account).until - self._clock.monotonic())

    def _pause_of(self, account: Hashable) -> _Pause:
        """The longer one of everybody's pause and the account's own."""
        own = self._account_pauses.get(account) if self._account_pauses else None
        return self._pause if own is None else max(self._pause, own)

    def configure(self, buckets: Sequence[Bucket]) -> None:
        """Use these limits (the venue's own word) in place of those with the same name; others stay as they are.

        What was spent already stays counted.
        """
        now = self._clock.monotonic()
        for bucket in buckets:
            before = self._buckets.get(bucket.name)
            self._buckets[bucket.name] = bucket
            if before is None:
                continue
            for key in [key for key in self._states if key[0] == bucket.name]:
                state = self._states[key]
                state.expire(now)
                if (before.per_account, before.per_scope) != (bucket.per_account, bucket.per_scope):
                    del self._states[key]
                elif (before.kind is BucketKind.DECAYING) != (bucket.kind is BucketKind.DECAYING):
                    self._states[key] = new_state(bucket)
                    self._states[key].spend(state.used, now)
                else:
                    state.bucket = bucket
        self._dispatch()

    def report(self) -> Sequence[BucketReport]:
        """How full every bucket is; divided ones once for each account and scope that used them lately."""
        now = self._clock.monotonic()
        names: dict[Hashable, str] = {}
        reports = []
        by_bucket: dict[str, list[tuple[_Key, State]]] = {name: [] for name in self._buckets}
        for key, state in self._states.items():
            by_bucket[key[0]].append((key, state))
        for bucket in self._buckets.values():
            divided = bucket.per_account or bucket.per_scope
            states = by_bucket[bucket.name]
            if not states and not divided:
                states = [((bucket.name, None, None), new_state(bucket))]
            for (_, account, scope), state in states:
                empty_in_s = state.empty_in_s(now)
                if divided and not empty_in_s:
                    continue
                name = names.setdefault(account, _account_name(account, len(names) + 1)) if bucket.per_account else None
                what = str(scope) if bucket.per_scope else None
                paused_s = self.paused_for_s(account)
                reports.append(BucketReport(bucket.name, state.used, bucket.limit, empty_in_s, name, paused_s, what))
        return reports

    def _keys(self, costs: Mapping[Cost, float], account: Hashable) -> dict[_Key, float]:
        keys: dict[_Key, float] = {}
        for what, cost in costs.items():
            name, scope = (what, None) if isinstance(what, str) else what
            bucket = self._buckets.get(name)
            if bucket is None:
                raise ValueError(f"{self._exchange} has no rate-limit bucket {name!r}.{hint(name, self._buckets)}")
            if bucket.per_scope != (scope is not None):
                wanted = "a cost names its scope" if bucket.per_scope else "it has no scopes"
                raise ValueError(f"{self._exchange}: rate-limit bucket {name!r}: {wanted}")
            if cost > 0:
                keys[name, account if bucket.per_account else None, scope] = cost
        return keys

    def _state(self, key: _Key, now: float) -> State:
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= self._purge_at:
                self._purge(now)
            state = self._states[key] = new_state(self._buckets[key[0]])
        return state

    def _purge(self, now: float) -> None:
        """Forget the buckets of accounts and scopes that have been idle for a window."""
        for state in self._states.values():
            state.expire(now)
        self._states = {key: state for key, state in self._states.items() if not state.idle}
        self._purge_at = max(_PURGE_AT, 2 * len(self._states))

    def _refuse_hopeless(self, waiter: _Waiter, now: float, *, urgent: bool) -> None:
        """Raise `RateLimited` when the wait would be too long, counting what waits before."""
        if self._pause_of(waiter.account).until > waiter.deadline:
            raise self._paused(waiter, now)
        if len(self._states) > _MAX_STATES:
            self._purge(now)
            if len(self._states) > _MAX_STATES:
                raise RateLimited(
                    f"more than {_MAX_STATES} accounts (or markets) are busy at the same time",
                    exchange=self._exchange,
                    retry_after=self.max_wait_s,
                )
        ahead = tuple(self._urgent if urgent else self._waiting())
        for key, cost in waiter.costs.items():
            state = self._state(key, now)
            if cost > state.bucket.limit:
                raise RateLimited(
                    f"a request that costs {cost:g} never fits into {state.bucket}",
                    exchange=self._exchange,
                    retryable=False,
                )
            wait_s = state.wait_s(cost + sum(other.costs.get(key, 0.0) for other in ahead), now)
            if now + wait_s > waiter.deadline:
                raise self._full(state.bucket, wait_s)

    def _full(self, bucket: Bucket, wait_s: float) -> RateLimited:
        return RateLimited(
            f"held back by Astra: {bucket} has room in {wait_s:.1f} s, "
            f"and a request may wait {self.max_wait_s:g} s at most",
            exchange=self._exchange,
            retry_after=wait_s,
        )

    def _paused(self, waiter: _Waiter, now: float) -> RateLimited:
        pause = self._pause_of(waiter.account)
        wait_s = pause.until - now
        return RateLimited(
            f"held back by Astra for another {wait_s:.1f} s: {pause.reason}",
            exchange=self._exchange,
            retry_after=wait_s,
        )

    def _waiting(self) -> Iterator[_Waiter]:
        yield from self._urgent
        yield from self._normal

    def _dispatch(self) -> None:
        """Let go whoever may go now, refuse whose time is up, and find the next moment at which that can change."""
        now = self._clock.monotonic()
        next_at = math.inf
        taken: set[_Key] = set()
        for waiter in tuple(self._waiting()):
            paused_until = self._pause_of(waiter.account).until
            ready_at = paused_until if paused_until > now else self._try(waiter, taken, now)
            if waiter.granted:
                self._settle(waiter)
            elif paused_until > waiter.deadline:
                waiter.refusal = self._paused(waiter, now)
                self._settle(waiter)
            elif waiter.deadline <= now:
                waiter.refusal = self._overdue(waiter, now)
                self._settle(waiter)
            else:
                next_at = min(next_at, waiter.deadline, ready_at)
        if next_at < self._next_at and self._leader is not None:
            self._leader.wake.set()
        self._next_at = next_at

    def _try(self, waiter: _Waiter, taken: set[_Key], now: float) -> float:
        """Charge the waiter's buckets if all have room and none is `taken` by somebody before it; else take what it
        waits for. Returns when its buckets may have room (infinity: that depends on those before it)."""
        ready_at = now
        if taken.isdisjoint(waiter.costs):
            for key, cost in waiter.costs.items():
                wait_s = self._state(key, now).wait_s(cost, now)
                if wait_s > 0:
                    taken.add(key)
                    ready_at = max(ready_at, now + wait_s)
            if ready_at == now:
                for key, cost in waiter.costs.items():
                    state = self._state(key, now)
                    waiter.spent.append(state.spend(cost, now))
                waiter.granted = True
                return now
        else:
            ready_at = math.inf
        # Its own account's (and scope's) buckets are kept for it, or the next request of its kind would overtake it.
        taken.update(key for key in waiter.costs if key[1:] != (None, None))
        return ready_at

    def _overdue(self, waiter: _Waiter, now: float) -> RateLimited:
        states = [(self._state(key, now), cost) for key, cost in waiter.costs.items()]
        if self._pause_of(waiter.account).until > now or not states:
            return self._paused(waiter, now)
        state, cost = max(states, key=lambda pair: pair[0].wait_s(pair[1], now))
        return self._full(state.bucket, state.wait_s(cost, now))

    def _settle(self, waiter: _Waiter) -> None:
        self._urgent.pop(waiter, None)
        self._normal.pop(waiter, None)
        waiter.wake.set()

    async def _wait(self, waiter: _Waiter) -> None:
        """Wait until the waiter's state may have changed: as the one who sleeps for all, or to be woken by it."""
        if self._leader is not None:
            await waiter.wake.wait()
        else:
            self._leader = waiter
            try:
                await self._clock.wait(waiter.wake, max(self._next_at - self._clock.monotonic(), _TICK_S))
            finally:
                self._leader = None
            self._dispatch()
        if not waiter.settled:
            waiter.wake = anyio.Event()

    def _hand_over(self) -> None:
        """See to it that somebody sleeps for all as long as anybody waits."""
        if self._leader is None:
            for waiter in self._waiting():
                waiter.wake.set()
                break

    def _withdraw(self, waiter: _Waiter) -> None:
        """The waiter was cancelled: take back what it was charged, leave the queue."""
        for spent in waiter.spent:
            spent.refund()
        self._urgent.pop(waiter, None)
        self._normal.pop(waiter, None)
        self._dispatch()
        self._hand_over()


def _reported(bucket: Bucket, headers: Mapping[str, str]) -> float | None:
    """What the headers say is used of the bucket; None where they say nothing (sensible)."""
    for header, sign, base in ((bucket.used_header, 1, 0.0), (bucket.left_header, -1, bucket.limit)):
        text = None if header is None else headers.get(header)
        if text is None:
            continue
        try:
            told = float(text)
        except ValueError:
            continue
        if math.isfinite(told) and told >= 0:
            return max(0.0, base + sign * told)
    return None


def _account_name(account: Hashable, number: int) -> str:
    """What to call an account in a report: its name, never a key that identifies it."""
    name = getattr(account, "account", None)
    return name if isinstance(name, str) else f"account {number}"
