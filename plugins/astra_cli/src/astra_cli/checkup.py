"""The checks of `astra doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import msgspec

from astra.app import Astra
from astra.errors import AstraError, AuthenticationError, UnsupportedOperation, VenueError
from astra.models.markets import Market, MarketStatus
from astra.models.orderbook import UpdateKind
from astra.net.clock import VenueClock
from astra.net.ratelimit import BucketReport, RateLimiter
from astra.plugins import GROUPS, Plugins, PluginState

SKEW_WARN_MS = 1000.0
"""A machine's clock that is off by more deserves a word; signatures are stamped with the venue's time all the same."""
LIMIT_WARN = 0.8
"""A rate limit used up by more than this share deserves a word."""


class Finding(msgspec.Struct, frozen=True):
    """What one check found. `status`: OK, WARN, FAIL, or SKIP (nothing to check)."""

    check: str
    subject: str
    status: str
    finding: str
    values: Mapping[str, Any] = {}
    """The same in numbers, for programs."""

    def plain(self) -> dict[str, Any]:
        named = {"check": self.check, "subject": self.subject, "status": self.status, "finding": self.finding}
        return named | dict(self.values)


async def examine(astra: Astra, exchanges: Sequence[str], timeout_s: float) -> Sequence[Finding]:
    """All checks: the plugins, then each venue (all at the same time)."""
    findings = list(_plugins(astra.plugins))
    async with astra:
        findings.append(_settings(astra))
        chosen = list(exchanges) or list(astra.exchanges())
        found: dict[str, Sequence[Finding]] = {}

        async def look(exchange: str) -> None:
            found[exchange] = await _Venue(astra, exchange, timeout_s).examine()

        async with anyio.create_task_group() as tasks:
            for exchange in chosen:
                tasks.start_soon(look, exchange)
        for exchange in chosen:
            findings.extend(found[exchange])
        if not chosen:
            findings.append(
                Finding("venues", "-", "WARN", "no venue is installed: python -m pip install astra-binance")
            )
    return findings


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    working = 0
    for group in GROUPS:
        for info in plugins.load_all(group):
            subject = f"{group.removeprefix('astra.')} {info.name}"
            if info.state in (PluginState.FAILED, PluginState.DUPLICATE):
                yield Finding("plugin", subject, "FAIL", info.reason or info.state.value)
            elif info.state is PluginState.BLOCKED:
                yield Finding("plugin", subject, "SKIP", info.reason or info.state.value)
            else:
                working += 1
    for name in plugins.unmatched():
        yield Finding("plugin", name, "WARN", "named in ASTRA_PLUGINS or ASTRA_PLUGINS_BLOCK, but not installed")
    yield Finding("plugins", "all", "OK", f"{working} plugins work", {"working": working})


def _settings(astra: Astra) -> Finding:
    origins = {origin for origin in astra.settings.origins.values() if origin != "default"}
    variables = {origin for origin in origins if origin.startswith("environment variable")}
    told = sorted(origins - variables)
    if variables:
        told.append(f"{len(variables)} environment variables" if len(variables) > 1 else variables.pop())
    return Finding("settings", "all", "OK", f"from {' and '.join(told)}" if told else "all at their defaults")


class _Venue:
    """The checks of one venue, in the order in which one needs the other."""

    def __init__(self, astra: Astra, exchange: str, timeout_s: float) -> None:
        self._astra = astra
        self._exchange = exchange
        self._timeout_s = timeout_s
        self._findings: list[Finding] = []

    async def examine(self) -> Sequence[Finding]:
        try:
            venue = await self._astra.venue(self._exchange)
        except AstraError as error:
            return [Finding("venue", self._exchange, "FAIL", str(error))]
        markets: Sequence[Market] = await self._timed("reachable", self._exchange, self._markets) or ()
        clocks: Mapping[str, VenueClock] = getattr(venue, "venue_clocks", {})
        for product, clock in clocks.items():
            await self._timed("clock", f"{self._exchange} {product}", partial(_skew, clock))
        by_product: dict[str, list[Market]] = {}
        for market in markets:
            if market.status is MarketStatus.ACTIVE:
                by_product.setdefault(market.product, []).append(market)
        for product, tradable in by_product.items():
            await self._timed("stream", f"{self._exchange} {product}", partial(self._book, tradable[0]))
        for account in dict.fromkeys(["default", *self._astra.settings.accounts.get(self._exchange, {})]):
            await self._timed("key", f"{self._exchange} {account}", partial(self._key, account))
        limiters: Mapping[str, RateLimiter] = getattr(venue, "rate_limiters", {})
        for name, limiter in limiters.items():
            self._findings.append(_limits(f"{self._exchange} {name}", limiter))
        return self._findings

    async def _timed(self, check: str, subject: str, work: Callable[[], Awaitable[tuple[str, str, Any]]]) -> Any:
        """Run one check within its time and record what it found; what it returned beside that."""
        began = anyio.current_time()
        answer: Any = None
        try:
            with anyio.fail_after(self._timeout_s):
                status, text, answer = await work()
        except TimeoutError:
            status, text = "FAIL", f"no answer within {self._timeout_s:g} s"
        except AstraError as error:
            status, text = "FAIL", str(error)
        took_ms = round((anyio.current_time() - began) * 1000)
        values: dict[str, Any] = {"tookMs": took_ms}
        if isinstance(answer, dict):
            values |= answer
        self._findings.append(Finding(check, subject, status, f"{text} ({took_ms} ms)", values))
        return answer

    async def _markets(self) -> tuple[str, str, Sequence[Market]]:
        markets = await self._astra.list_markets(self._exchange)
        return ("OK" if markets else "WARN"), f"{len(markets)} markets", markets

    async def _book(self, market: Market) -> tuple[str, str, dict[str, Any]]:
        async with self._astra.stream_orderbook(market.symbol) as stream:
            async for update in stream:
                if update.kind is UpdateKind.SNAPSHOT:
                    book = stream.book(market.symbol)
                    text = f"book of {market.symbol} live, integrity {book.integrity.name}"
                    return "OK", text, {"market": market.symbol, "integrity": book.integrity.name}
        raise VenueError(f"the stream of {market.symbol} ended", exchange=self._exchange)

    async def _key(self, account: str) -> tuple[str, str, dict[str, Any]]:
        try:
            balances = await self._astra.get_balances(self._exchange, account)
        except UnsupportedOperation as error:
            return "SKIP", str(error), {}
        except AuthenticationError as error:
            if error.code is None:  # nothing was sent: there is no key
                return "SKIP", error.message, {"present": False}
            raise
        return "OK", f"accepted; {len(balances)} balances", {"present": True}


async def _skew(clock: VenueClock) -> tuple[str, str, dict[str, Any]]:
    if not await clock.remeasure():
        return "SKIP", "the venue tells no time", {}
    ahead = clock.offset_ms
    direction = "ahead of" if ahead >= 0 else "behind"
    text = f"the venue's clock is {abs(ahead):.0f} ms {direction} this machine's"
    return ("WARN" if abs(ahead) > SKEW_WARN_MS else "OK"), text, {"offsetMs": round(ahead)}


def _limits(subject: str, limiter: RateLimiter) -> Finding:
    reports = limiter.report()
    text = ", ".join(_budgets(reports)) or "none known"
    status = "WARN" if any(report.used > report.limit * LIMIT_WARN for report in reports) else "OK"
    paused_s = limiter.paused_s
    if paused_s > 0:
        status, text = "WARN", f"paused by the venue for {paused_s:.0f} s; {text}"
    values = [
        {
            "name": report.name,
            "account": report.account,
            "scope": report.scope,
            "used": report.used,
            "limit": report.limit,
            "resetsInS": round(report.resets_in_s, 3),
        }
        for report in reports
    ]
    return Finding("limits", subject, status, text, {"pausedS": round(paused_s, 3), "limits": values})


def _budgets(reports: Sequence[BucketReport]) -> Iterator[str]:
    """Each bucket; of one that is kept for each market or the like, the fullest."""
    fullest: dict[tuple[str, str | None], BucketReport] = {}
    counts: Counter[tuple[str, str | None]] = Counter()
    for report in reports:
        key = (report.name, report.account)
        counts[key] += 1
        if key not in fullest or report.used > fullest[key].used:
            fullest[key] = report
    for key, report in fullest.items():
        name = report.name if report.account is None else f"{report.name} of {report.account}"
        which = "" if report.scope is None or counts[key] == 1 else f" (fullest of {counts[key]})"
        yield f"{name} {round(report.used, 1):g}/{report.limit:g}{which}"
