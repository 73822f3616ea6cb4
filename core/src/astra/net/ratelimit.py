"""A venue's request limits, modelled on our side, so that requests wait here rather than being refused there.

A limit is a `Bucket`; a request costs something in one or several of them and leaves when all have room, at once.

How windows are kept: a venue that counts in fixed windows does not say where they begin, so both kinds of window are
kept as a log of what was spent, and no stretch of `window_s` seconds, wherever it begins, ever holds more than `limit`.
That is safe for every alignment and costs nothing under steady demand. What was spent is forgotten a guard time later
than the window says, because two requests may reach the venue closer together than they left us. The log is kept in
`_SLOTS` slots a window, each of which expires with its newest charge: memory does not grow with the limit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import StrEnum

import anyio
import msgspec

from astra.errors import RateLimited, hint
from astra.models.protocols import Clock

_SLOTS = 128
_GUARD = 0.02
"""Part of the window by which a charge outlives it (at most a second)."""
_IN_FLIGHT_S = 30.0
"""Charges younger than this may be missing in the used amount that a venue reports: answers are not older."""
_PURGE_AT = 1024
_MAX_STATES = 100_000
_TICK_S = 0.001
"""The shortest sleep: rounding must not make one of no length."""
_EPSILON = 1e-9


class BucketKind(StrEnum):
    """How a limit counts."""

    FIXED_WINDOW = "FIXED_WINDOW"
    """The count restarts every `window_s` seconds, at moments of the venue's choice."""
    SLIDING_WINDOW = "SLIDING_WINDOW"
    """The last `window_s` seconds count."""
    DECAYING = "DECAYING"
    """A counter that may not pass `limit` and falls by `limit / window_s` a second."""


class Bucket(msgspec.Struct, frozen=True):
    """One limit of a venue: at most `limit` in `window_s` seconds.

    `used_header` is the lower-case name of the response header that reports the amount used, if there is one.
    `per_account`: every account has a bucket of its own.
    """

    name: str
    limit: float
    window_s: float
    kind: BucketKind = BucketKind.FIXED_WINDOW
    used_header: str | None = None
    per_account: bool = False

    def __post_init__(self) -> None:
        if not (self.limit > 0 and self.window_s > 0):
            raise ValueError(f"rate-limit bucket {self.name!r}: limit and window must be positive")

    def __str__(self) -> str:
        return f"{self.name!r} ({self.limit:g} in {self.window_s:g} s)"


class BucketReport(msgspec.Struct, frozen=True):
    """How full a bucket is. `resets_in_s`: seconds until it is empty if nothing more is sent. `account` is the
    account's name (a number where it has none); None for buckets that all share."""

    name: str
    used: float
    limit: float
    resets_in_s: float
    account: str | None
    paused_s: float


class _Charge:
    """What was spent in one slot of time."""

    __slots__ = ("amount", "first", "last")

    def __init__(self, now: float) -> None:
        self.first = now
        self.last = now
        self.amount = 0.0


class _Window:
    """The log of one windowed bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.used = 0.0
        self._charges: deque[_Charge] = deque()

    @property
    def _span_s(self) -> float:
        return self.bucket.window_s + min(1.0, self.bucket.window_s * _GUARD)

    def expire(self, now: float) -> None:
        span = self._span_s
        while self._charges and self._charges[0].last + span <= now:
            self._drop(self._charges[0].amount)
        if not self._charges:
            self.used = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` more fits; amounts beyond the limit take as many windows as they need."""
        self.expire(now)
        limit = self.bucket.limit
        windows = max(0, math.ceil(amount / limit - _EPSILON) - 1)
        excess = self.used + min(amount, limit) - limit - _EPSILON
        if excess <= 0 and not windows:
            return 0.0
        ready = now
        for charge in self._charges:
            if excess <= 0:
                break
            excess -= charge.amount
            ready = charge.last + self._span_s
        return max(0.0, ready - now) + windows * self._span_s

    def spend(self, amount: float, now: float) -> _Charge:
        if not self._charges or now - self._charges[-1].first > self.bucket.window_s / _SLOTS:
            self._charges.append(_Charge(now))
        charge = self._charges[-1]
        charge.last = now
        charge.amount += amount
        self.used += amount
        return charge

    def refund(self, charge: _Charge, amount: float) -> None:
        """Take back what was not spent after all (as far as it has not expired)."""
        amount = min(amount, charge.amount)
        charge.amount -= amount
        self.used = max(0.0, self.used - amount)

    def observe(self, used: float, now: float) -> None:
        """Correct from the amount that the venue reports. What may still be under way is not in it yet."""
        self.expire(now)
        in_flight = sum(charge.amount for charge in self._charges if charge.last > now - _IN_FLIGHT_S)
        if used > self.used:
            self.spend(used - self.used, now)
        elif used + in_flight < self.used:
            # The venue forgot the oldest, because its window began anew.
            self._drop(self.used - used - in_flight)

    def empty_in_s(self, now: float) -> float:
        self.expire(now)
        return self._charges[-1].last + self._span_s - now if self._charges else 0.0

    def _drop(self, amount: float) -> None:
        """Forget the oldest `amount`."""
        self.used = max(0.0, self.used - amount)
        while self._charges and amount >= self._charges[0].amount - _EPSILON:
            charge = self._charges.popleft()
            amount -= charge.amount
            charge.amount = 0.0
        if self._charges and amount > 0:
            self._charges[0].amount -= amount


class _Decaying:
    """The counter of one decaying bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.used = 0.0
        self._at = -math.inf

    @property
    def _rate(self) -> float:
        return self.bucket.limit / self.bucket.window_s

    def expire(self, now: float) -> None:
        self.used = max(0.0, self.used - (now - self._at) * self._rate)
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        self.expire(now)
        return max(0.0, self.used + amount - self.bucket.limit - _EPSILON) / self._rate

    def spend(self, amount: float, now: float) -> _Charge:
        self.expire(now)
        self.used += amount
        charge = _Charge(now)
        charge.amount = amount
        return charge

    def refund(self, charge: _Charge, amount: float) -> None:
        self.used = max(0.0, self.used - amount)

    def observe(self, used: float, now: float) -> None:
        # Only upwards: how much of what is under way the venue has counted cannot be told.
        self.expire(now)
        self.used = max(self.used, used)

    def empty_in_s(self, now: float) -> float:
        self.expire(now)
        return self.used / self._rate


_State = _Window | _Decaying
_Key = tuple[str, Hashable]
"""(bucket name, account), the account None for shared buckets."""


def _new_state(bucket: Bucket) -> _State:
    return _Decaying(bucket) if bucket.kind is BucketKind.DECAYING else _Window(bucket)


class _Waiter:
    """A request that waits for room."""

    __slots__ = ("costs", "deadline", "granted", "refusal", "spent", "wake")

    def __init__(self, costs: Mapping[_Key, float], deadline: float) -> None:
        self.costs = costs
        self.deadline = deadline
        self.granted = False
        self.refusal: RateLimited | None = None
        self.spent: list[tuple[_State, _Charge, float]] = []
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
        self._max_wait_s = max_wait_s
        self._buckets: dict[str, Bucket] = {}
        self._states: dict[_Key, _State] = {}
        self._purge_at = _PURGE_AT
        self._urgent: dict[_Waiter, None] = {}
        self._normal: dict[_Waiter, None] = {}
        self._leader: _Waiter | None = None
        self._next_at = math.inf
        self._paused_until = -math.inf
        self._pause_reason = ""
        self.configure(buckets)

    async def acquire(self, costs: Mapping[str, float], account: Hashable = None, *, urgent: bool = False) -> None:
        """Wait until all buckets have room for `costs` (bucket name -> cost) and charge them together.

        Raises `RateLimited` (with `retry_after`) as soon as it is clear that the wait would exceed `max_wait_s`.
        When cancelled nothing stays charged. An unknown bucket is a `ValueError`.
        """
        now = self._clock.monotonic()
        waiter = _Waiter(self._keys(costs, account), now + self._max_wait_s)
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

    def observe(self, headers: Mapping[str, str], account: Hashable = None) -> None:
        """Correct the buckets from a response's headers (lower-case names).

        A higher used amount (others use the same address or key) is believed at once; a lower one only as far as it
        cannot be explained by requests that are still under way.
        """
        now = self._clock.monotonic()
        seen = False
        for bucket in self._buckets.values():
            text = None if bucket.used_header is None else headers.get(bucket.used_header)
            if text is None:
                continue
            try:
                used = float(text)
            except ValueError:
                continue
            if math.isfinite(used) and used >= 0:
                self._state((bucket.name, account if bucket.per_account else None), now).observe(used, now)
                seen = True
        if seen and (self._urgent or self._normal):
            self._dispatch()

    def pause(self, seconds: float, reason: str) -> None:
        """Send nothing for `seconds` (the venue said so, with 429 or 418). A longer pause that runs already stays."""
        until = self._clock.monotonic() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._pause_reason = reason
        self._dispatch()

    @property
    def paused_s(self) -> float:
        """Seconds for which nothing is sent."""
        return max(0.0, self._paused_until - self._clock.monotonic())

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
                if before.per_account != bucket.per_account:
                    del self._states[key]
                elif (before.kind is BucketKind.DECAYING) != (bucket.kind is BucketKind.DECAYING):
                    self._states[key] = _new_state(bucket)
                    self._states[key].spend(state.used, now)
                else:
                    state.bucket = bucket
        self._dispatch()

    def report(self) -> Sequence[BucketReport]:
        """How full every bucket is; per-account buckets once for each account that used them lately."""
        now = self._clock.monotonic()
        paused_s = self.paused_s
        names: dict[Hashable, str] = {}
        reports = []
        for bucket in self._buckets.values():
            states = [(key, state) for key, state in self._states.items() if key[0] == bucket.name]
            if not states and not bucket.per_account:
                states = [((bucket.name, None), _new_state(bucket))]
            for (_, account), state in states:
                empty_in_s = state.empty_in_s(now)
                if bucket.per_account and not empty_in_s:
                    continue
                name = names.setdefault(account, _account_name(account, len(names) + 1)) if bucket.per_account else None
                reports.append(BucketReport(bucket.name, state.used, bucket.limit, empty_in_s, name, paused_s))
        return reports

    def _keys(self, costs: Mapping[str, float], account: Hashable) -> dict[_Key, float]:
        keys: dict[_Key, float] = {}
        for name, cost in costs.items():
            bucket = self._buckets.get(name)
            if bucket is None:
                raise ValueError(f"{self._exchange} has no rate-limit bucket {name!r}.{hint(name, self._buckets)}")
            if cost > 0:
                keys[name, account if bucket.per_account else None] = cost
        return keys

    def _state(self, key: _Key, now: float) -> _State:
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= self._purge_at:
                self._purge(now)
            state = self._states[key] = _new_state(self._buckets[key[0]])
        return state

    def _purge(self, now: float) -> None:
        """Forget the buckets of accounts that have been idle for a window."""
        for state in self._states.values():
            state.expire(now)
        self._states = {key: state for key, state in self._states.items() if state.used}
        self._purge_at = max(_PURGE_AT, 2 * len(self._states))

    def _refuse_hopeless(self, waiter: _Waiter, now: float, *, urgent: bool) -> None:
        """Raise `RateLimited` when the wait would be too long, counting what waits before."""
        if self._paused_until > waiter.deadline:
            raise self._paused(now)
        if len(self._states) > _MAX_STATES:
            self._purge(now)
            if len(self._states) > _MAX_STATES:
                raise RateLimited(
                    f"more than {_MAX_STATES} accounts are busy at the same time",
                    exchange=self._exchange,
                    retry_after=self._max_wait_s,
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
            f"and a request may wait {self._max_wait_s:g} s at most",
            exchange=self._exchange,
            retry_after=wait_s,
        )

    def _paused(self, now: float) -> RateLimited:
        wait_s = self._paused_until - now
        return RateLimited(
            f"held back by Astra for another {wait_s:.1f} s: {self._pause_reason}",
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
            ready_at = self._paused_until if self._paused_until > now else self._try(waiter, taken, now)
            if waiter.granted:
                self._settle(waiter)
            elif self._paused_until > waiter.deadline:
                waiter.refusal = self._paused(now)
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
                    waiter.spent.append((state, state.spend(cost, now), cost))
                waiter.granted = True
                return now
        else:
            ready_at = math.inf
        # Its own account's buckets are kept for it, or the account's next request would overtake it.
        taken.update(key for key in waiter.costs if key[1] is not None)
        return ready_at

    def _overdue(self, waiter: _Waiter, now: float) -> RateLimited:
        states = [(self._state(key, now), cost) for key, cost in waiter.costs.items()]
        if self._paused_until > now or not states:
            return self._paused(now)
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
        for state, charge, amount in waiter.spent:
            state.refund(charge, amount)
        self._urgent.pop(waiter, None)
        self._normal.pop(waiter, None)
        self._dispatch()
        self._hand_over()


def _account_name(account: Hashable, number: int) -> str:
    """What to call an account in a report: its name, never a key that identifies it."""
    name = getattr(account, "account", None)
    return name if isinstance(name, str) else f"account {number}"
