"""Rate limits: the decaying counters of Spot, the cost budget of the derivatives API, message rates."""

from __future__ import annotations

import msgspec

from astra.sandbox.toolkit import EventRate, Window


class Tier(msgspec.Struct, frozen=True):
    """What a verification level of Spot allows. Counters fall by `*_decay` a second."""

    calls: float
    call_decay: float
    orders: float
    order_decay: float
    open_orders: int


TIERS = {
    "starter": Tier(15, 0.33, 60, 1.0, 60),
    "intermediate": Tier(20, 0.5, 125, 2.34, 80),
    "pro": Tier(20, 1.0, 180, 3.75, 225),
}
_AGES_S = (5, 10, 15, 45, 90, 300)
_CANCEL_COST = (8, 6, 5, 4, 2, 1, 0)
_AMEND_COST = (4, 3, 2, 1, 1, 1, 1)
_EDIT_COST = (7, 6, 5, 3, 2, 1, 1)


class SandboxLimits(msgspec.Struct):
    """What the sandbox allows; the venue's own figures unless a test sets others. Read at every request."""

    tier: str = "intermediate"
    """Of accounts whose `settings["tier"]` names none."""
    enforced: bool = True
    """False: nothing is refused (what is used is counted all the same)."""
    public_burst: float = 30
    public_per_s: float = 1.0
    derivatives_cost: int = 500
    derivatives_window_ms: int = 10_000
    history_cost: int = 100
    history_window_ms: int = 600_000
    messages_per_s: int = 100
    idle_close_ms: int = 60_000
    ping_within_ms: int = 60_000
    token_life_ms: int = 900_000


class Decaying:
    """A counter that falls steadily."""

    def __init__(self) -> None:
        self._value = 0.0
        self._at = 0

    def value(self, now_ms: int, decay_per_s: float) -> float:
        """What it stands at now."""
        self._value = max(0.0, self._value - (now_ms - self._at) / 1000 * decay_per_s)
        self._at = now_ms
        return self._value

    def add(self, amount: float, now_ms: int, decay_per_s: float) -> float:
        """Count; gives what it stands at then."""
        self._value = self.value(now_ms, decay_per_s) + amount
        return self._value


def _cost(table: tuple[int, ...], age_ms: int) -> int:
    for age, cost in zip(_AGES_S, table, strict=False):
        if age_ms < age * 1000:
            return cost
    return table[-1]


def cancel_cost(age_ms: int) -> int:
    """What it costs to cancel an order of that age."""
    return _cost(_CANCEL_COST, age_ms)


def amend_cost(age_ms: int) -> int:
    return _cost(_AMEND_COST, age_ms)


def edit_cost(age_ms: int) -> int:
    return _cost(_EDIT_COST, age_ms)


class Meter:
    """Everybody's counters."""

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self._public: dict[str, Decaying] = {}
        self._calls: dict[str, Decaying] = {}
        self._pairs: dict[tuple[str, str], Decaying] = {}
        self._budgets: dict[tuple[str, str], Window] = {}
        self._histories: dict[str, Decaying] = {}

    def tier(self, name: str | None) -> Tier:
        return TIERS[name or self.limits.tier]

    def public_wait_s(self, client: str, now_ms: int) -> int:
        """Count a public request of Spot; 0, or in how many seconds the address may come again."""
        limits = self.limits
        counter = self._public.setdefault(client, Decaying())
        if counter.value(now_ms, limits.public_per_s) + 1 > limits.public_burst and limits.enforced:
            return max(1, round((counter.value(now_ms, limits.public_per_s) + 1 - limits.public_burst) + 0.5))
        counter.add(1, now_ms, limits.public_per_s)
        return 0

    def call(self, account: str, tier: str | None, cost: int, now_ms: int) -> bool:
        """Count a private call of Spot's REST; False when it is one too many (then it is not counted)."""
        terms = self.tier(tier)
        counter = self._calls.setdefault(account, Decaying())
        if counter.value(now_ms, terms.call_decay) + cost > terms.calls and self.limits.enforced:
            return False
        counter.add(cost, now_ms, terms.call_decay)
        return True

    def calls_used(self, account: str, tier: str | None, now_ms: int) -> float:
        return self._calls.setdefault(account, Decaying()).value(now_ms, self.tier(tier).call_decay)

    def order(self, account: str, tier: str | None, pair: str, cost: int, now_ms: int) -> bool:
        """Count a new, amended or edited order on the pair's counter; False when that is one too many."""
        terms = self.tier(tier)
        counter = self._pairs.setdefault((account, pair), Decaying())
        if counter.value(now_ms, terms.order_decay) + cost > terms.orders and self.limits.enforced:
            return False
        counter.add(cost, now_ms, terms.order_decay)
        return True

    def cancel(self, account: str, tier: str | None, pair: str, cost: int, now_ms: int) -> None:
        """Count a cancel: it is never refused, and may leave no room for new orders."""
        terms = self.tier(tier)
        self._pairs.setdefault((account, pair), Decaying()).add(cost, now_ms, terms.order_decay)

    def pair_count(self, account: str, tier: str | None, pair: str, now_ms: int) -> float:
        """Where the pair's counter stands (`ratecounter` of the stream)."""
        return self._pairs.setdefault((account, pair), Decaying()).value(now_ms, self.tier(tier).order_decay)

    def budget(self, account: str, pool: str, cost: int, now_ms: int) -> bool:
        """Charge a call of the derivatives API; False when the budget does not hold it."""
        limits = self.limits
        if pool == "history":
            return self._history(account, cost, now_ms)
        window = self._budgets.setdefault((account, pool), Window(limits.derivatives_window_ms))
        if window.count(now_ms) + cost > limits.derivatives_cost and limits.enforced:
            return False
        window.add(cost, now_ms)
        return True

    def _history(self, account: str, cost: int, now_ms: int) -> bool:
        """A pool of tokens, which come back steadily."""
        limits = self.limits
        rate = limits.history_cost / (limits.history_window_ms / 1000)
        used = self._histories.setdefault(account, Decaying())
        if used.value(now_ms, rate) + cost > limits.history_cost and limits.enforced:
            return False
        used.add(cost, now_ms, rate)
        return True

    def budget_used(self, account: str, pool: str, now_ms: int) -> int:
        window = self._budgets.get((account, pool))
        return 0 if window is None else window.count(now_ms)

    def message_rate(self) -> EventRate:
        return EventRate(self.limits.messages_per_s)
