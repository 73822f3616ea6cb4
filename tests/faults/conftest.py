"""Tables that tests make are printed at the end, whether or not workers ran the tests; and how a venue and its sandbox
are told to let more requests through than the venue would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

TABLE = "table"
PLENTY = 10**6


def of_binance(sandbox: Any) -> None:
    weights = sandbox.limits.weight_per_minute
    weights.update(dict.fromkeys(weights, PLENTY))
    sandbox.limits.spot_orders_per_10s = sandbox.limits.futures_orders_per_10s = PLENTY


def of_okx(sandbox: Any) -> None:
    sandbox.limits.scale = float(PLENTY)


def of_kraken(sandbox: Any) -> None:
    sandbox.limits.enforced = False


def of_coinbase(sandbox: Any) -> None:
    sandbox.limits.private_per_second = sandbox.limits.public_per_second = PLENTY
    sandbox.limits.gateway_burst = sandbox.limits.gateway_per_second = PLENTY


def of_htx(sandbox: Any) -> None:
    sandbox.limits.requests = {counter: (PLENTY, span) for counter, (_, span) in sandbox.limits.requests.items()}


def of_kucoin(sandbox: Any) -> None:
    sandbox.limits.pools.update(dict.fromkeys(sandbox.limits.pools, PLENTY))


LIMITS_OFF: Mapping[str, Callable[[Any], None]] = {
    "BINANCE": of_binance,
    "OKX": of_okx,
    "KRAKEN": of_kraken,
    "COINBASE": of_coinbase,
    "HUOBI": of_htx,
    "KUCOIN": of_kucoin,
}


async def unlimited(exchange: str, sandbox: Any, astra: Any) -> None:
    """Neither the sandbox nor the library holds requests back any more."""
    LIMITS_OFF[exchange](sandbox.venue(exchange))
    for limiter in (await astra.venue(exchange)).rate_limiters.values():
        buckets = limiter._buckets.values()
        limiter.configure([msgspec.structs.replace(bucket, limit=bucket.limit * PLENTY) for bucket in buckets])


@pytest.fixture(scope="session")
def no_limits() -> Callable[[str, Any, Any], Awaitable[None]]:
    """`await no_limits(exchange, sandbox, astra)`: for tests that ask more than a venue would take in their time."""
    return unlimited


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, text in report.user_properties:
                if name == TABLE:
                    terminalreporter.write_line("")
                    terminalreporter.write_line(text)


IMPATIENT: Mapping[str, Mapping[str, Any]] = {
    "BINANCE": {"book_silence_s": 2.0, "recv_window_ms": 1500},
    "OKX": {"book_silence_s": 2.0, "recv_window_ms": 1500},
    # Ten levels: all that the checksum proves. The highest tier: an account of hundreds of fills is read in seconds.
    "KRAKEN": {"spot_book_depth": 10, "tier": "pro", "recv_window_ms": 2000, "book_silence_s": 3.0},
    "HUOBI": {"book_silence_s": 2.0, "recv_window_ms": 2500},
    "KUCOIN": {"book_silence_s": 2.0, "recv_window_ms": 1500},
}
"""Settings by which a venue's plugin looks into silence soon, and is sure soon that an order was not placed."""


def impatient_settings(exchange: str, sandbox: Any) -> dict[str, Any]:
    """Settings for `Astra` that point at the sandbox and wait for nothing long."""
    if exchange == "KRAKEN":
        sandbox.venue(exchange).limits.tier = "pro"
    settings: dict[str, Any] = sandbox.settings
    settings["venues"][exchange] |= {"streams": {"backoff_cap_s": 1.0}, **IMPATIENT.get(exchange, {})}
    return settings


@pytest.fixture
def impatient() -> Callable[[str, Any], dict[str, Any]]:
    return impatient_settings
