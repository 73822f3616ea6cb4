"""Recordings of the venue, and the plugin with the venue played over HTTP."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
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
from astra_kucoin.markets import decode_rows, markets_of
from astra_kucoin.settings import FUTURES, SPOT, KucoinSettings
from astra_kucoin.venue import KucoinVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "kucoin"
FILES = {SPOT: "spot-all-symbols", FUTURES: "futures-contracts-active-live"}


class KucoinRecordings(Recordings):
    """The captures of the venue."""

    def markets(self, product: str, name: str | None = None) -> list[Market]:
        return markets_of(decode_rows(self.body(name or FILES[product])).data, product)

    def market(self, native_symbol: str) -> Market:
        """A market of the recorded lists."""
        return next(m for product in FILES for m in self.markets(product) if m.native_symbol == native_symbol)


@pytest.fixture(scope="session")
def recordings() -> KucoinRecordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return KucoinRecordings(CAPTURES)


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


def ok(data: Any) -> dict[str, Any]:
    """An answer of the venue."""
    return {"code": "200000", "data": data}


class Hosts(PlayedHttp):
    """Spot and futures have the same paths for different things: those of futures are answered under `/futures`.
    `histories`: path -> what is answered to the parameters of a question."""

    def __init__(self) -> None:
        super().__init__()
        self.histories: dict[str, Callable[[dict[str, str]], Any]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if "api-futures" in request.url.host:
            request = httpx.Request(
                request.method,
                request.url.copy_with(raw_path=b"/futures" + request.url.raw_path),
                headers=request.headers,
                content=request.content,
            )
        history = self.histories.get(request.url.path)
        if history is not None:
            self.requests.append(request)
            return httpx.Response(200, json=history(dict(request.url.params)))
        return super().__call__(request)


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: KucoinVenue
    http: Hosts
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


@pytest.fixture
async def played(recordings: KucoinRecordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets of both products and a classic account; the venue's clock is a second
    ahead."""
    http, clock = Hosts(), ManualClock()
    now = clock.wall_ns() // 1_000_000 + 1000
    for prefix in ("", "/futures"):
        http.answer("GET", f"{prefix}/api/v1/timestamp", ok(now))
    http.answer("GET", "/api/v2/symbols", recordings.body(FILES[SPOT]))
    http.answer("GET", "/futures/api/v1/contracts/active", recordings.body(FILES[FUTURES]))
    http.answer("GET", "/api/ua/v2/account/mode", ok({"selfAccountMode": "CLASSIC"}))
    http.answer("GET", "/futures/api/v2/position/getMarginMode", ok({"symbol": "", "marginMode": "ISOLATED"}))
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = KucoinVenue(host, KucoinSettings(), http_transport=httpx.MockTransport(http))
        yield Played(venue, http, clock, Credentials.of("KUCOIN", "a-key", "a-secret", "a-passphrase"))
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()
