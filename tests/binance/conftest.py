"""Recordings of the venue, a connection that keeps what a session does, and the venue played over HTTP."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx
import msgspec
import pytest

from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.streams.feed import Channel, DataType
from astra.testing import ManualClock, ManualHost
from astra.testing.played import PlayedHttp, RecordingOutlet, Recordings
from astra_binance.markets import decode_info, markets_of
from astra_binance.settings import PRODUCTS, BinanceSettings
from astra_binance.venue import BinanceVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "binance"
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"


class BinanceRecordings(Recordings):
    """The captures of the venue."""

    def markets(self, product: str, name: str | None = None) -> list[Market]:
        """The markets of a recorded `exchangeInfo`."""
        return list(markets_of(product, decode_info(self.body(name or f"{product}-exchangeInfo")), "BINANCE"))


@pytest.fixture(scope="session")
def recordings() -> BinanceRecordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return BinanceRecordings(CAPTURES)


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: BinanceVenue
    http: PlayedHttp
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


_TIMES = {"spot": "/api/v3/time", "usdm": "/fapi/v1/time", "coinm": "/dapi/v1/time", "options": "/eapi/v1/time"}


@pytest.fixture
async def played(recordings: BinanceRecordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets of all families; the venue's clock is a second ahead."""
    http = PlayedHttp()
    clock = ManualClock()
    prefixes = {"spot": "/api/v3", "usdm": "/fapi/v1", "coinm": "/dapi/v1", "options": "/eapi/v1"}
    for product in PRODUCTS:
        http.answer("GET", f"{prefixes[product]}/exchangeInfo", recordings.body(f"{product}-exchangeInfo"))
        http.answer("GET", _TIMES[product], {"serverTime": clock.wall_ns() // 1_000_000 + 1000})
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = BinanceVenue(host, BinanceSettings(), http_transport=httpx.MockTransport(http))
        yield Played(venue, http, clock, Credentials.of("BINANCE", KEY, SECRET))
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()


@pytest.fixture
def channel_of() -> Callable[[DataType, Market], Channel]:
    """A channel of a market."""
    return lambda data_type, market: Channel(data_type, market.product, market)


@pytest.fixture
def named() -> Callable[[Sequence[Market], str], Market]:
    """The market of a list that the venue calls so."""
    return lambda markets, native_symbol: next(one for one in markets if one.native_symbol == native_symbol)
