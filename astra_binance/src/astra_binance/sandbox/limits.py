"""Rate limits: request weight per IP in fixed minutes, orders per account, messages and streams per connection."""

from __future__ import annotations

import msgspec

from astra.sandbox.toolkit import Window
from astra_binance.sandbox.wire import Family, Refusal

MINUTE_MS = 60_000


class SandboxLimits(msgspec.Struct):
    """What the sandbox allows; the venue's own figures unless a test sets others."""

    weight_per_minute: dict[Family, int] = msgspec.field(
        default_factory=lambda: {
            Family.SPOT: 6000,
            Family.USDM: 2400,
            Family.COINM: 2400,
            Family.OPTIONS: 2400,
        }
    )
    """USD-M and COIN-M share one counter; the USD-M figure is the one enforced."""
    spot_raw_requests_per_5m: int = 300_000
    spot_orders_per_10s: int = 100
    spot_orders_per_day: int = 200_000
    futures_orders_per_10s: int = 300
    futures_orders_per_minute: int = 1200
    patience: int = 5
    """So many requests after the first 429 of a minute are refused with 429; then the address is banned (418)."""
    ban_ms: int = 120_000
    messages_per_second: dict[Family, int] = msgspec.field(
        default_factory=lambda: {Family.SPOT: 5, Family.USDM: 10, Family.COINM: 10, Family.OPTIONS: 10}
    )
    streams_per_connection: dict[Family, int] = msgspec.field(
        default_factory=lambda: {Family.SPOT: 1024, Family.USDM: 1024, Family.COINM: 1024, Family.OPTIONS: 200}
    )
    spot_connections_per_5m: int = 300
    ping_every_ms: dict[Family, int] = msgspec.field(
        default_factory=lambda: {
            Family.SPOT: 20_000,
            Family.USDM: 180_000,
            Family.COINM: 180_000,
            Family.OPTIONS: 300_000,
        }
    )
    pong_within_ms: dict[Family, int] = msgspec.field(
        default_factory=lambda: {
            Family.SPOT: 60_000,
            Family.USDM: 600_000,
            Family.COINM: 600_000,
            Family.OPTIONS: 900_000,
        }
    )
    connection_life_ms: int = 24 * 3600 * 1000
    listen_key_life_ms: int = MINUTE_MS * 60


class _Address:
    """What one IP address has used of one weight counter."""

    def __init__(self) -> None:
        self.weight = Window(MINUTE_MS)
        self.raw = Window(5 * MINUTE_MS)
        self.refused = Window(MINUTE_MS)
        self.banned_until = 0


class TooMany(Refusal):
    """-1003 with 429 or 418. `retry_at_ms` is the venue time at which requests are heard again."""

    def __init__(self, message: str, *, status: int, retry_after_ms: int, retry_at_ms: int) -> None:
        super().__init__(-1003, message, status=status)
        self.retry_after_s = -(-retry_after_ms // 1000)
        self.retry_at_ms = retry_at_ms


class Meter:
    """Counts what clients use and refuses what is too much."""

    def __init__(self, limits: SandboxLimits) -> None:
        self.limits = limits
        self._addresses: dict[tuple[str, str], _Address] = {}
        self._orders: dict[tuple[str, str], Window] = {}
        self._connections: dict[str, Window] = {}

    def _address(self, client: str, family: Family) -> _Address:
        counter = "futures" if family.is_futures else family.value
        return self._addresses.setdefault((client, counter), _Address())

    def weight_limit(self, family: Family) -> int:
        return self.limits.weight_per_minute[Family.USDM if family.is_futures else family]

    def used_weight(self, client: str, family: Family, now_ms: int) -> int:
        return self._address(client, family).weight.count(now_ms)

    def spend(self, client: str, family: Family, weight: int, now_ms: int) -> None:
        """Charge a request. Raises `TooMany`: 429 over the limit, 418 for those who go on in spite of it."""
        address = self._address(client, family)
        if now_ms < address.banned_until:
            raise self._banned(address, now_ms)
        limit = self.weight_limit(family)
        used = address.weight.add(weight, now_ms)
        raw = address.raw.add(1, now_ms)
        over_weight = used > limit
        over_raw = family is Family.SPOT and raw > self.limits.spot_raw_requests_per_5m
        if not over_weight and not over_raw:
            return
        if address.refused.add(1, now_ms) > 1 + self.limits.patience:
            address.banned_until = now_ms + self.limits.ban_ms
            raise self._banned(address, now_ms)
        what = (
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."
            if over_weight
            else f"Too many requests; current limit is {self.limits.spot_raw_requests_per_5m} requests per 5 MINUTE."
        )
        wait = (address.weight if over_weight else address.raw).left_ms(now_ms)
        raise TooMany(
            f"{what} Please use WebSocket Streams for live updates to avoid polling the API.",
            status=429,
            retry_after_ms=wait,
            retry_at_ms=now_ms + wait,
        )

    def refund(self, client: str, family: Family, weight: int, now_ms: int) -> None:
        """Give weight back: a Spot order that succeeds costs none."""
        window = self._address(client, family).weight
        if window.count(now_ms) >= weight:
            window.add(-weight, now_ms)

    def _banned(self, address: _Address, now_ms: int) -> TooMany:
        return TooMany(
            f"Way too much request weight used; IP banned until {address.banned_until}. "
            "Please use WebSocket Streams for live updates to avoid bans.",
            status=418,
            retry_after_ms=address.banned_until - now_ms,
            retry_at_ms=address.banned_until,
        )

    def _order_windows(self, family: Family) -> list[tuple[str, int, int]]:
        """(header suffix, window, limit) of the family's order counters."""
        limits = self.limits
        if family is Family.SPOT:
            return [("10S", 10_000, limits.spot_orders_per_10s), ("1D", 1440 * MINUTE_MS, limits.spot_orders_per_day)]
        if family.is_futures:
            return [
                ("10S", 10_000, limits.futures_orders_per_10s),
                ("1M", MINUTE_MS, limits.futures_orders_per_minute),
            ]
        return []

    def spend_orders(self, account: str, family: Family, count: int, now_ms: int) -> None:
        """Charge new orders to the account (-1015 over the limit). UM and CM share the counters."""
        for suffix, length, limit in self._order_windows(family):
            window = self._order_window(account, family, suffix, length)
            if window.count(now_ms) + count > limit:
                raise Refusal(
                    -1015,
                    f"Too many new orders; current limit is {limit} orders per "
                    f"{suffix.replace('S', ' SECOND').replace('M', ' MINUTE').replace('1D', '1 DAY')}.",
                    status=429,
                )
        for suffix, length, _ in self._order_windows(family):
            self._order_window(account, family, suffix, length).add(count, now_ms)

    def _order_window(self, account: str, family: Family, suffix: str, length: int) -> Window:
        counter = "futures" if family.is_futures else family.value
        return self._orders.setdefault((account, f"{counter}-{suffix}"), Window(length))

    def order_counts(self, account: str, family: Family, now_ms: int) -> dict[str, int]:
        """Header suffix -> orders counted in the current window."""
        return {
            suffix: self._order_window(account, family, suffix, length).count(now_ms)
            for suffix, length, _ in self._order_windows(family)
        }

    def connected(self, client: str, now_ms: int) -> bool:
        """Count a new Spot connection; False when there were too many."""
        window = self._connections.setdefault(client, Window(5 * MINUTE_MS))
        return window.add(1, now_ms) <= self.limits.spot_connections_per_5m

    def listing(self, family: Family) -> list[dict[str, object]]:
        """`rateLimits` of the family's exchangeInfo."""
        limits = self.limits

        def row(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
            return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}

        rows = [row("REQUEST_WEIGHT", "MINUTE", 1, self.weight_limit(family))]
        if family is Family.SPOT:
            rows.append(row("ORDERS", "SECOND", 10, limits.spot_orders_per_10s))
            rows.append(row("ORDERS", "DAY", 1, limits.spot_orders_per_day))
            rows.append(row("RAW_REQUESTS", "MINUTE", 5, limits.spot_raw_requests_per_5m))
        elif family.is_futures:
            rows.append(row("ORDERS", "MINUTE", 1, limits.futures_orders_per_minute))
            rows.append(row("ORDERS", "SECOND", 10, limits.futures_orders_per_10s))
        return rows
