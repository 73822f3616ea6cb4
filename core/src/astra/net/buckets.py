"""How much of one limit of a venue is used: the counters behind `astra.net.ratelimit`.

How windows are kept: a venue that counts in fixed windows does not say where they begin, so both kinds of window are
kept as a log of what was spent, and no stretch of `window_s` seconds, wherever it begins, ever holds more than `limit`.
That is safe for every alignment and costs nothing under steady demand. What was spent is forgotten a guard time later
than the window says, because two requests may reach the venue closer together than they left us. The log is kept in
`_SLOTS` slots a window, each of which expires with its newest charge: memory does not grow with the limit.

Where the venue reports what is used, others may have used a part of it (the same address, the same key). The log does
not know when, so the log's own dates hold only as long as it explains the report. Once it does not, all that was
reported counts until a window after the last report, or until a lower report shows that a new window has begun.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum

import msgspec

_SLOTS = 128
_GUARD = 0.02
"""Part of the window by which a charge outlives it (at most a second)."""
_LEAST_GUARD = 0.08
"""The same of short windows, until that is `_JITTER_S`: how much later one request arrives than another does not depend
on the window."""
_JITTER_S = 0.15
_IN_FLIGHT_S = 30.0
"""Charges younger than this may be missing in a used amount that is reported without saying in answer to what."""
_EPSILON = 1e-9
_GIVEN_BACK = 0.02
"""Part of the limit by which a report may be lower than an earlier one of the same window: some venues give back what
a request cost that succeeded."""
_SPARE = 0.06
"""Part of the limit that is left unused while others use it too: nobody knows what they do next."""
_REMEMBERED = 2
"""So many windows without a report what others use is remembered."""
_SURE = 1 / 8
"""The beginning of a window that is known as closely as this part of its length is known well."""
_MOST_RESERVED = 0.75
"""Share of a limit that is left to others at most: a window that they used up (a ban, a burst) must not keep us from
finding out about the next."""
_AT_ONCE = 0.5
"""Part of what others leave us that may be used at the beginning of a window; the rest is spread over it, so that what
the others do is seen until its end."""


class BucketKind(StrEnum):
    """How a limit counts."""

    FIXED_WINDOW = "FIXED_WINDOW"
    """The count restarts every `window_s` seconds, at moments of the venue's choice."""
    SLIDING_WINDOW = "SLIDING_WINDOW"
    """The last `window_s` seconds count."""
    DECAYING = "DECAYING"
    """A counter that may not pass `limit` and falls by `limit / window_s` a second: also a token bucket of `limit`
    tokens. Where the venue states a rate, `window_s` is limit / rate (cap 15, 0.33 a second: `window_s=15 / 0.33`)."""


class Bucket(msgspec.Struct, frozen=True):
    """One limit of a venue: at most `limit` in `window_s` seconds.

    `used_header` is the lower-case name of the response header that reports the amount used, if there is one;
    `left_header` of the one that reports what is left, where the venue reports that. `per_account`: every account has
    a bucket of its own. `per_scope`: every scope has one, and a cost names it: `{("orders", "BTC-USDT"): 1}` ("per
    user and instrument" is both).
    """

    name: str
    limit: float
    window_s: float
    kind: BucketKind = BucketKind.FIXED_WINDOW
    used_header: str | None = None
    per_account: bool = False
    per_scope: bool = False
    left_header: str | None = None
    header_is_shared: bool = False
    """Other buckets are reported in the same header: it is about the one that its request was charged to."""

    def __post_init__(self) -> None:
        if not (self.limit > 0 and self.window_s > 0):
            raise ValueError(f"rate-limit bucket {self.name!r}: limit and window must be positive")
        if self.per_scope and (self.used_header or self.left_header):
            raise ValueError(f"rate-limit bucket {self.name!r}: a header does not say which scope it is about")

    def __str__(self) -> str:
        return f"{self.name!r} ({self.limit:g} in {self.window_s:g} s)"


class _Charge:
    """What was spent in one slot of time; `answered` is the part whose requests were answered with a report."""

    __slots__ = ("amount", "answered", "first", "last")

    def __init__(self, now: float) -> None:
        self.first = now
        self.last = now
        self.amount = 0.0
        self.answered = 0.0


class Spent(msgspec.Struct, frozen=True):
    """One request's part in a counter, and what was known of the venue's window when it was let go."""

    state: Window | Decaying
    charge: _Charge
    amount: float
    window: int
    peak: float

    @classmethod
    def nothing(cls, state: State, now: float) -> Spent:
        """A request that cost nothing here, whose answer reports nevertheless."""
        return cls(state, _Charge(now), 0.0, -1, math.inf)

    def refund(self) -> None:
        """The request was not sent after all."""
        self.state.refund(self.charge, self.amount)


class Window:
    """The log of one windowed bucket, and what the venue's reports say beyond it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._charges: deque[_Charge] = deque()
        self._answered = 0.0
        self._unanswered = 0.0
        # What is known of the venue's present window.
        self._window = 0
        self._peak = 0.0
        """The highest count reported."""
        self._held = 0.0
        """The same, where the log does not explain it; else 0."""
        self._reported_at = -math.inf
        self._counted_at = -math.inf
        """The venue had not begun anew before this, when it counted what it reported last."""
        self._began_after = -math.inf
        self._began_by: float | None = None
        """The window began between these two moments."""
        self._spent = 0.0
        """Ours in this window, what is under way included."""
        self._others = 0.0
        """Certainly not ours."""
        self._others_before = 0.0
        """The same, of the last window before that we saw anything of."""
        self._half_seen = 0
        """Windows since then of whose end we saw nothing."""
        self._remember_until = math.inf
        self._spread_from = -math.inf

    @property
    def _span_s(self) -> float:
        return self.bucket.window_s + _guard_s(self.bucket)

    @property
    def used(self) -> float:
        return self._unanswered + max(self._answered, self._held)

    @property
    def idle(self) -> bool:
        """Is there nothing to remember?"""
        return not self.used and not self._others and not self._others_before

    def expire(self, now: float) -> None:
        span = self._span_s
        while self._charges and self._charges[0].last + span <= now:
            charge = self._charges.popleft()
            self._answered -= charge.answered
            self._unanswered -= charge.amount - charge.answered
            charge.amount = charge.answered = 0.0
        if not self._charges:
            self._answered = self._unanswered = 0.0
        if self._began_by is not None and self._ends_by <= now:
            ended_at = self._ends_by
            self._remember_until = ended_at + _REMEMBERED * span
            self._begin(ended_at, self._began_after + self.bucket.window_s, None)
            self._forget_answered(until=self._reported_at)
        if self._began_by is None and self._remember_until <= now:
            self._others_before = 0.0

    @property
    def _ends_by(self) -> float:
        """When the venue's window of the last report is over for certain.

        A window begins anew unseen if others use as much, between two reports, as was reported before. That is only
        ruled out before the window can have ended, or where that is known well.
        """
        if self._began_by is not None:
            length_s = self.bucket.window_s
            known_well = self._began_by - self._began_after <= _SURE * length_s
            if self._reported_at <= (self._began_by if known_well else self._began_after) + length_s:
                return self._began_by + length_s
        return self._reported_at + self._span_s

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` more fits; amounts beyond the limit take as many windows as they need."""
        self.expire(now)
        windows = max(0, math.ceil(amount / self.bucket.limit - _EPSILON) - 1)
        amount = min(amount, self.bucket.limit)
        room = max(self.bucket.limit - self._reserved, amount) + _EPSILON
        answered, unanswered, held = self._answered, self._unanswered, self._held
        released_at = self._ends_by
        ready = now
        for charge in (*self._charges, None):
            if unanswered + max(answered, held) + amount <= room:
                break
            expires_at = math.inf if charge is None else charge.last + self._span_s
            if held and released_at <= expires_at:
                held, ready = 0.0, released_at
                if unanswered + answered + amount <= room:
                    break
            if charge is not None:
                answered -= charge.answered
                unanswered -= charge.amount - charge.answered
                ready = expires_at
        return max(0.0, ready - now, self._spread_s(amount, now)) + windows * self._span_s

    @property
    def _reserved(self) -> float:
        """What others, going by the window before, still will use of this one."""
        if not self._others_before:
            return 0.0
        expected = min(self._others_before, self.bucket.limit * _MOST_RESERVED)
        return max(0.0, expected - self._others) + self.bucket.limit * _SPARE

    def _spread_s(self, amount: float, now: float) -> float:
        """Seconds to wait so that not all that others leave us is used at once."""
        if not self._others_before or not self._spent:
            return 0.0
        expected = min(self._others_before, self.bucket.limit * _MOST_RESERVED)
        ours = self.bucket.limit * (1 - _SPARE) - max(self._others, expected)
        if ours <= amount:
            return 0.0
        part = ((self._spent + amount) / ours - _AT_ONCE) / (1 - _AT_ONCE)
        return max(0.0, min(part, 1.0) * self.bucket.window_s - (now - self._spread_from))

    def spend(self, amount: float, now: float) -> Spent:
        if not self._charges or now - self._charges[-1].first > self.bucket.window_s / _SLOTS:
            self._charges.append(_Charge(now))
        charge = self._charges[-1]
        charge.last = now
        charge.amount += amount
        self._unanswered += amount
        self._spent += amount
        return Spent(self, charge, amount, self._window, self._peak)

    def refund(self, charge: _Charge, amount: float) -> None:
        """Take back what was not spent after all (as far as it has not expired)."""
        amount = min(amount, charge.amount - charge.answered)
        charge.amount -= amount
        self._unanswered = max(0.0, self._unanswered - amount)
        self._spent = max(0.0, self._spent - amount)

    def delay(self, spent: Spent, now: float) -> None:
        """The request stays here for now."""

    def leave(self, spent: Spent, now: float) -> Spent:
        """A request that was delayed leaves, and counts from now on."""
        spent.refund()
        return self.spend(spent.amount, now)

    def report(self, used: float, spent: Spent | None, now: float) -> None:
        """The venue says that `used` is used, in answer to the request that `spent` was charged for (None: it is not
        known to which).

        What is not answered yet is not in the report for certain. A report that is lower than one which was known when
        its request left is of a new window: nothing that was answered by then is in it.
        """
        self.expire(now)
        if spent is None or spent.state is not self:
            self._report_of_unknown(used, now)
            return
        late = spent.window != self._window
        if late and used >= spent.peak and used > self._peak + self._unanswered:
            self._answer(spent)  # a straggler, counted in the window that is over
            return
        if not late and used < spent.peak:
            if used < spent.peak - _GIVEN_BACK * self.bucket.limit and self.bucket.kind is BucketKind.FIXED_WINDOW:
                self._begin(now, self._counted_at, now)
                self._forget_answered()
            self._peak = 0.0
        self._answer(spent)
        self._peak = max(self._peak, used)
        self._reported_at = now
        self._counted_at = spent.charge.first
        if self._began_by is None:
            self._began_by = now
        if self._answered > self._peak:
            # What was answered was counted before the peak was, in this window or in one before.
            self._forget_answered(self._answered - self._peak)
        self._held = self._peak if self._peak > self._answered + _EPSILON else 0.0
        self._others = max(self._others, self._peak - self._answered - self._unanswered)

    def answer(self, spent: Spent) -> None:
        """The request was answered, without a report: it is in the next one."""
        self._answer(spent)
        if self._held:
            self._held += spent.amount

    def _report_of_unknown(self, used: float, now: float) -> None:
        """A report that answers nothing known: believed as it stands, less what may be under way."""
        young = sum(charge.amount for charge in self._charges if charge.last > now - _IN_FLIGHT_S)
        if used > self.used:
            for charge in self._charges:
                charge.answered = charge.amount
            self._answered, self._unanswered = self._answered + self._unanswered, 0.0
            self._peak = self._held = used
            self._reported_at = now
            if self._began_by is None:
                self._began_by = now
            self._others = max(self._others, used - self._answered)
        elif used + young < self.used:
            # The venue forgot the oldest, because its window began anew.
            self._held = 0.0
            self._forget(max(0.0, self._answered + self._unanswered - used - young))

    def empty_in_s(self, now: float) -> float:
        self.expire(now)
        last = max(
            self._charges[-1].last if self._charges else -math.inf, self._reported_at if self._held else -math.inf
        )
        return max(0.0, last + self._span_s - now)

    def _begin(self, now: float, after: float, by: float | None) -> None:
        """The venue counts from 0 again, since a moment between the two (None: nothing of it was seen yet)."""
        self._window += 1
        seen_to_its_end = now - self._reported_at <= _SURE * self.bucket.window_s
        if seen_to_its_end or self._others >= self._others_before or self._half_seen >= _REMEMBERED:
            self._others_before, self._half_seen = self._others, 0
        else:
            self._half_seen += 1
        self._began_after, self._began_by, self._spread_from = after, by, now
        self._others = self._peak = self._held = 0.0
        self._spent = self._unanswered

    def _answer(self, spent: Spent) -> None:
        amount = min(spent.amount, spent.charge.amount - spent.charge.answered)
        spent.charge.answered += amount
        self._answered += amount
        self._unanswered = max(0.0, self._unanswered - amount)

    def _forget_answered(self, amount: float = math.inf, until: float = math.inf) -> None:
        """Forget the oldest `amount` of what was answered, as far as it was sent before `until`."""
        for charge in self._charges:
            if charge.last > until:
                break
            part = min(amount, charge.answered)
            charge.answered -= part
            charge.amount -= part
            self._answered = max(0.0, self._answered - part)
            amount -= part
            if amount <= 0:
                break
        self._sweep()

    def _forget(self, amount: float) -> None:
        """Forget the oldest `amount`, answered or not."""
        for charge in self._charges:
            part = min(amount, charge.amount)
            answered = min(part, charge.answered)
            charge.answered -= answered
            charge.amount -= part
            self._answered = max(0.0, self._answered - answered)
            self._unanswered = max(0.0, self._unanswered - (part - answered))
            amount -= part
            if amount <= 0:
                break
        self._sweep()

    def _sweep(self) -> None:
        while self._charges and self._charges[0].amount <= _EPSILON:
            self._charges.popleft()


class Decaying:
    """The counter of one decaying bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._falling = 0.0
        self._delayed = 0.0
        """What was charged for requests that did not leave yet. It does not fall: the venue has not counted it."""
        self._at = -math.inf

    @property
    def _rate(self) -> float:
        return self.bucket.limit / self.bucket.window_s

    @property
    def used(self) -> float:
        return self._falling + self._delayed

    @property
    def idle(self) -> bool:
        return not self.used

    def expire(self, now: float) -> None:
        self._falling = max(0.0, self._falling - (now - self._at) * self._rate)
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        self.expire(now)
        # What left before may arrive later than this: the venue's counter has fallen less than ours then.
        most = max(self.bucket.limit - self._rate * _guard_s(self.bucket), amount)
        return max(0.0, self.used + amount - most - _EPSILON) / self._rate

    def spend(self, amount: float, now: float) -> Spent:
        self.expire(now)
        self._falling += amount
        charge = _Charge(now)
        charge.amount = amount
        return Spent(self, charge, amount, 0, 0.0)

    def refund(self, charge: _Charge, amount: float) -> None:
        self._falling = max(0.0, self._falling - amount)

    def delay(self, spent: Spent, now: float) -> None:
        """The request stays here for now."""
        self.expire(now)
        self.refund(spent.charge, spent.amount)
        self._delayed += spent.amount

    def leave(self, spent: Spent, now: float) -> Spent:
        """A request that was delayed leaves, and counts from now on."""
        self._delayed = max(0.0, self._delayed - spent.amount)
        return self.spend(spent.amount, now)

    def answer(self, spent: Spent) -> None:
        """Nothing is known that was not known before."""

    def report(self, used: float, spent: Spent | None, now: float) -> None:
        """The venue says that `used` is used. Only upwards: how much of what is under way it has counted, and how
        much of that has decayed, cannot be told."""
        self.expire(now)
        self._falling = max(self._falling, used - self._delayed)

    def empty_in_s(self, now: float) -> float:
        self.expire(now)
        return self.used / self._rate


State = Window | Decaying


def _guard_s(bucket: Bucket) -> float:
    """For so much longer than the venue says a charge counts, because two requests may reach it closer together than
    they left us."""
    return max(min(_GUARD * bucket.window_s, 1.0), min(_LEAST_GUARD * bucket.window_s, _JITTER_S))


def new_state(bucket: Bucket) -> State:
    return Decaying(bucket) if bucket.kind is BucketKind.DECAYING else Window(bucket)
