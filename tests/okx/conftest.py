"""Recordings of the venue, and the plugin with the venue played over HTTP."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.testing import ManualClock, ManualHost
from astra.testing.played import PlayedHttp, RecordingOutlet, Recordings
from astra_okx.markets import decode_bands, decode_instruments, markets_of
from astra_okx.settings import FUTURES, OPTION, SPOT, SWAP, OkxSettings
from astra_okx.venue import OkxVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "okx"
FILES = {
    SPOT: "instruments-spot",
    SWAP: "instruments-swap",
    FUTURES: "instruments-futures",
    OPTION: "instruments-option-btc-usd",
}


class OkxRecordings(Recordings):
    """The captures of the venue."""

    def markets(self, product: str) -> list[Market]:
        bands = {row.inst_family: row.bands() for row in decode_bands(self.body("option-tick-bands")).data}
        rows = decode_instruments(self.body(FILES[product])).data
        return markets_of(rows, product, bands if product == OPTION else {})

    def market(self, native_symbol: str) -> Market:
        """A market of the recorded lists."""
        return next(m for product in FILES for m in self.markets(product) if m.native_symbol == native_symbol)


@pytest.fixture(scope="session")
def recordings() -> OkxRecordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return OkxRecordings(CAPTURES)


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: OkxVenue
    http: PlayedHttp
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


class ByInstType(PlayedHttp):
    """Answers `public/instruments` by its parameter."""

    def __init__(self, recordings: OkxRecordings) -> None:
        super().__init__()
        self._lists = {product.upper(): recordings.body(name) for product, name in FILES.items()}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/public/instruments"):
            return httpx.Response(200, content=self._lists[request.url.params["instType"]])
        return super().__call__(request)


@pytest.fixture
async def played(recordings: OkxRecordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets of all products; the venue's clock is a second ahead."""
    http = ByInstType(recordings)
    clock = ManualClock()
    http.answer("GET", "/api/v5/public/underlying", {"code": "0", "data": [["BTC-USD", "BTC-USD_UM"]], "msg": ""})
    http.answer("GET", "/api/v5/public/instrument-tick-bands", recordings.body("option-tick-bands"))
    now = str(clock.wall_ns() // 1_000_000 + 1000)
    http.answer("GET", "/api/v5/public/time", {"code": "0", "data": [{"ts": now}], "msg": ""})
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = OkxVenue(host, OkxSettings(), http_transport=httpx.MockTransport(http))
        yield Played(venue, http, clock, Credentials.of("OKX", "a-key", "a-secret", "a-passphrase"))
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()


@pytest.fixture
def refused() -> Any:
    """The answer to an order that was refused."""
    return lambda code, message="": {
        "code": "1",
        "msg": "All operations failed",
        "data": [{"clOrdId": "", "ordId": "", "sCode": code, "sMsg": message}],
    }
