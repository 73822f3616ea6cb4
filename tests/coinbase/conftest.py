"""Recordings of the venue, and the plugin with the venue played over HTTP."""

from __future__ import annotations

import json
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
from astra_coinbase.markets import decode_instruments, decode_products, instruments_of, products_of
from astra_coinbase.settings import SPOT, US_FUTURES, CoinbaseSettings
from astra_coinbase.venue import CoinbaseVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "coinbase"
ADVANCED = "/api/v3/brokerage"
GATEWAY = "/api/v2"
KEY = "organizations/test-organization/apiKeys/test-api-key"
SECRET = "k0BUni0p0vZG1BdpVjS6ogBJ7kxm630AJ2dN+tuputDOKsRAwgyrpEQLeBtS1znTmzPX6Xr2eOWpzx6nW8knkA=="


def instrument(name: str, **fields: Any) -> dict[str, Any]:
    """A row of the gateway's list, of kinds that the recording lacks."""
    return {
        "instrument_name": name,
        "kind": "future",
        "instrument_type": "reversed",
        "settlement_period": "perpetual",
        "base_currency": "BTC",
        "counter_currency": "USD",
        "quote_currency": "USD",
        "settlement_currency": "BTC",
        "contract_size": 10.0,
        "min_trade_amount": 10.0,
        "tick_size": 0.5,
        "tick_size_steps": [],
        "expiration_timestamp": 32503708800000,
        "is_active": True,
        "state": "open",
        **fields,
    }


MORE = [
    instrument("BTC-PERPETUAL"),
    instrument(
        "ETH-PERPETUAL", base_currency="ETH", settlement_currency="ETH", contract_size=1.0, min_trade_amount=1.0
    ),
    instrument("BTC-25JUN27", settlement_period="month", expiration_timestamp=1813910400000),
    instrument("BTC_USDC", kind="spot", instrument_type="linear", settlement_period="", contract_size=0.0001),
    instrument("BTC-FS-25JUN27_PERP", kind="future_combo"),
    instrument(
        "XRP_USDC-25JUN27-2d25-C",
        kind="option",
        instrument_type="linear",
        settlement_period="month",
        base_currency="XRP",
        counter_currency="USDC",
        settlement_currency="USDC",
        contract_size=1000.0,
        min_trade_amount=1000.0,
        expiration_timestamp=1813910400000,
        strike=2.25,
        option_type="call",
    ),
]
"""Of them the spot one and the combination are not listed."""


class CoinbaseRecordings(Recordings):
    """The captures of the venue."""

    def markets(self) -> list[Market]:
        aliases: dict[str, str] = {}
        spot = products_of(decode_products(self.body("advanced-products-spot")).products, SPOT, aliases)
        futures = products_of(decode_products(self.body("advanced-products-future")).products, US_FUTURES, aliases)
        return [*spot, *futures, *instruments_of(decode_instruments(self.instruments()).result)]

    def instruments(self) -> bytes:
        """The gateway's list, with more of its kinds."""
        body = self.rest("gateway-get-instruments")["body"]
        return json.dumps({**body, "result": [*body["result"], *MORE]}).encode()

    def market(self, native_symbol: str) -> Market:
        return next(market for market in self.markets() if market.native_symbol == native_symbol)


@pytest.fixture(scope="session")
def recordings() -> CoinbaseRecordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return CoinbaseRecordings(CAPTURES)


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: CoinbaseVenue
    http: PlayedHttp
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)

    def answer(self, path: str, body: Any, status: int = 200, method: str = "GET") -> None:
        """Answer a request to Advanced Trade."""
        self.http.answer(method, f"{ADVANCED}/{path}", body, status)

    def reply(self, method: str, result: Any) -> None:
        """Answer a call of the gateway."""
        self.http.answer("POST", f"{GATEWAY}/private/{method}", {"jsonrpc": "2.0", "id": 1, "result": result})

    def work(self, method: str, result: Callable[[dict[str, Any]], Any]) -> None:
        """Answer calls of the gateway by their parameters."""
        assert isinstance(self.http, ByProductType)
        self.http.worked[f"{GATEWAY}/private/{method}"] = result

    def refuse(self, method: str, code: int, message: str, status: int = 400) -> None:
        error = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}
        self.http.answer("POST", f"{GATEWAY}/private/{method}", error, status)

    def hold(self, path: str) -> anyio.Event:
        """POSTs to Advanced Trade are answered once the event is set."""
        assert isinstance(self.http, ByProductType)
        return self.http.held.setdefault(f"{ADVANCED}/{path}", anyio.Event())

    def bodies(self, path: str) -> list[Any]:
        """What was sent to Advanced Trade."""
        return self.http.sent("POST", f"{ADVANCED}/{path}")

    def calls(self, method: str) -> list[Any]:
        """The parameters of calls of the gateway."""
        return [body["params"] for body in self.http.sent("POST", f"{GATEWAY}/private/{method}")]


class ByProductType(PlayedHttp):
    """Answers `market/products` by its parameter, calls of the gateway that are `worked` out by theirs (path -> the
    result of its parameters), and POSTs that are `held` (path -> event) once the event is set."""

    def __init__(self, recordings: CoinbaseRecordings) -> None:
        super().__init__()
        self.held: dict[str, anyio.Event] = {}
        self.worked: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._lists = {
            "SPOT": recordings.body("advanced-products-spot"),
            "FUTURE": recordings.body("advanced-products-future"),
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/market/products"):
            return httpx.Response(200, content=self._lists[request.url.params["product_type"]])
        if request.url.path in self.worked:
            self.requests.append(request)
            result = self.worked[request.url.path](json.loads(request.content)["params"])
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result})
        return super().__call__(request)

    async def answered(self, request: httpx.Request) -> httpx.Response:
        """The handler of a transport."""
        answer = self(request)
        if request.method == "POST" and request.url.path in self.held:
            await self.held[request.url.path].wait()
        return answer


@pytest.fixture
async def played(recordings: CoinbaseRecordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets; the venue's clock is a second ahead."""
    http = ByProductType(recordings)
    clock = ManualClock()
    now = clock.wall_ns() // 1_000_000 + 1000
    http.answer("GET", f"{ADVANCED}/time", {"iso": "", "epochSeconds": str(now // 1000), "epochMillis": str(now)})
    http.answer("GET", f"{GATEWAY}/public/get_time", {"jsonrpc": "2.0", "result": now})
    http.answer("GET", f"{GATEWAY}/public/get_instruments", recordings.instruments())
    http.answer("POST", f"{GATEWAY}/public/auth", recordings.body("gateway-auth"))
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = CoinbaseVenue(host, CoinbaseSettings(), http_transport=httpx.MockTransport(http.answered))
        yield Played(venue, http, clock, Credentials.of("COINBASE", KEY, SECRET))
        await venue.shutdown(host)
        tasks.cancel_scope.cancel()
