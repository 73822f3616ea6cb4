"""Recordings of the venue, and the plugin with the venue played over HTTP."""

from __future__ import annotations

import base64
import gzip
import json
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
from astra_htx.markets import PATHS, decode_rows, markets_of
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, PRODUCTS, SPOT, HtxSettings
from astra_htx.venue import HtxVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "htx"
FILES = {
    LINEAR: ["perp-linear-contract-info", "linear-contract-info-with-futures"],
    COIN_SWAP: ["perp-coinm-contract-info"],
    COIN_FUTURES: ["fut-coinm-contract-info"],
}
SHORT = {
    "symbol": "symbol",
    "state": "state",
    "base-currency": "bc",
    "quote-currency": "qc",
    "price-precision": "pp",
    "amount-precision": "ap",
    "limit-order-min-order-amt": "lominoa",
    "limit-order-max-order-amt": "lomaxoa",
    "sell-market-min-order-amt": "smminoa",
    "sell-market-max-order-amt": "smmaxoa",
    "min-order-value": "minov",
}
"""Fields of the recorded, older list of spot markets, and what the list that is asked for calls them."""


class HtxRecordings(Recordings):
    """The captures of the venue. Frames are recorded as zipped bytes or as text."""

    def frames(self, name: str, direction: str = "received") -> list[bytes]:
        """The frames of a stream as text."""
        found = []
        for frame in self.stream(name)[1]:
            if frame["direction"] == direction:
                zipped = "base64" in frame
                raw = base64.b64decode(frame["base64"]) if zipped else frame["text"].encode()
                found.append(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        return found

    def wire(self, name: str) -> list[bytes]:
        """The frames that the venue sent, as on the wire."""
        return [
            base64.b64decode(frame["base64"]) if "base64" in frame else frame["text"].encode()
            for frame in self.stream(name)[1]
            if frame["direction"] == "received"
        ]

    def rows(self, product: str) -> list[Any]:
        """The rows of a product's list, as the venue has them today."""
        if product != SPOT:
            rows = {row["contract_code"]: row for name in FILES[product] for row in self.rest(name)["body"]["data"]}
            return list(rows.values())
        old = self.rest("spot-common-symbols")["body"]["data"]
        rows = [{short: row[long] for long, short in SHORT.items() if long in row} | {"at": "enabled"} for row in old]
        return rows + self.rest("spot-market-symbols")["body"]["data"]

    def markets(self, product: str) -> list[Market]:
        body = json.dumps({"status": "ok", "data": self.rows(product)}).encode()
        return markets_of(decode_rows(body).data, product)

    def market(self, product: str, native_symbol: str) -> Market:
        """A market of the recorded lists."""
        return next(market for market in self.markets(product) if market.native_symbol == native_symbol)


@pytest.fixture(scope="session")
def recordings() -> HtxRecordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return HtxRecordings(CAPTURES)


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: HtxVenue
    http: PlayedHttp
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


ROWS = {
    SPOT: [
        {
            **{"symbol": "btcusdt", "state": "online", "bc": "btc", "qc": "usdt", "pp": 2, "ap": 6, "at": "enabled"},
            **{"lominoa": 0.00001, "lomaxoa": 1000, "smminoa": 0.00001, "minov": 5},
        }
    ],
    LINEAR: [
        {"symbol": "BTC", "contract_code": "BTC-USDT", "contract_size": 0.001, "price_tick": 0.1, "pair": "BTC-USDT"},
        {
            **{"symbol": "BTC", "contract_code": "BTC-USDT-270326", "contract_size": 0.001, "price_tick": 0.1},
            **{"pair": "BTC-USDT", "delivery_time": "1806048000000"},
        },
    ],
    COIN_SWAP: [{"symbol": "BTC", "contract_code": "BTC-USD", "contract_size": 100.0, "price_tick": 0.1}],
    COIN_FUTURES: [
        {
            **{"symbol": "BTC", "contract_code": "BTC270326", "contract_size": 100.0, "price_tick": 0.01},
            "delivery_time": "1806048000000",
        }
    ],
}


class Timely(PlayedHttp):
    """Tells the time, a second ahead of the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/timestamp"):
            now = self._clock.wall_ns() // 1_000_000 + 1000
            return httpx.Response(
                200, json={"status": "ok"} | ({"data": now} if "v1/common" in str(request.url) else {"ts": now})
            )
        return super().__call__(request)


@pytest.fixture
async def played(request: pytest.FixtureRequest) -> AsyncIterator[Played]:
    """The plugin with a few markets of all products; the venue's clock is a second ahead. Settings as parameter."""
    clock = ManualClock()
    http = Timely(clock)
    for product in PRODUCTS:
        rows = [{"contract_status": 1, **row} if product != SPOT else row for row in ROWS[product]]
        http.answer("GET", PATHS[product][0], {"status": "ok", "data": rows})
    accounts = [{"id": 7, "type": "point", "state": "working"}, {"id": 1528640, "type": "spot", "state": "working"}]
    http.answer("GET", "/v1/account/accounts", {"status": "ok", "data": accounts})
    for path in ("/swap-api/v1/swap_account_info", "/api/v1/contract_account_info"):
        http.answer("POST", path, {"status": "ok", "data": [{"symbol": "BTC", "margin_static": 1, "lever_rate": 20}]})
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        settings = HtxSettings(**getattr(request, "param", {}))
        venue = HtxVenue(host, settings, http_transport=httpx.MockTransport(http))
        yield Played(venue, http, clock, Credentials.of("HUOBI", "a-key", "a-secret"))
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()
