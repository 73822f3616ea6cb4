"""Recordings of the venue, a connection that keeps what a session does, and the venue played over HTTP."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx
import msgspec
import pytest

from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.streams.feed import Channel, DataType
from astra.testing import ManualClock, ManualHost
from astra_kraken.markets import Pair, derivatives_markets, spot_markets
from astra_kraken.settings import KrakenSettings
from astra_kraken.venue import KrakenVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "kraken"
KEY = "6d1b345e282140e2ad834ecb18a06876"
SECRET = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="


class Recordings:
    """The captures of the venue."""

    root = CAPTURES

    def rest(self, name: str) -> Any:
        """A REST capture: `meta`, `request`, `status`, `body`."""
        return json.loads((CAPTURES / "rest" / f"{name}.json").read_text(encoding="utf-8"))

    def body(self, name: str) -> bytes:
        """The body of a REST capture, as the venue would send it."""
        return json.dumps(self.rest(name)["body"]).encode()

    def names(self, pattern: str = "*") -> list[str]:
        return sorted(path.stem for path in (CAPTURES / "rest").glob(f"{pattern}.json"))

    def stream(self, name: str) -> tuple[Any, list[Any]]:
        """(`meta`, frames) of a stream capture."""
        lines = (CAPTURES / "streams" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return json.loads(lines[0])["meta"], [json.loads(line) for line in lines[1:]]

    def received(self, name: str) -> list[bytes]:
        """The frames that the venue sent."""
        return [frame["text"].encode() for frame in self.stream(name)[1] if frame["direction"] == "received"]

    def vectors(self, name: str) -> Any:
        return json.loads((CAPTURES / "vectors" / f"{name}.json").read_text(encoding="utf-8"))

    def spot(self, name: str = "spot-assetpairs-2021") -> list[tuple[Pair, Market]]:
        """Pairs and markets of a recorded `AssetPairs`."""
        rows = msgspec.json.decode(self.body(name), type=dict[str, msgspec.Raw])["result"]
        return list(spot_markets(msgspec.json.decode(rows, type=dict[str, msgspec.Raw]), "KRAKEN"))

    def derivatives(self, name: str = "futures-instruments") -> list[Market]:
        """The markets of a recorded `instruments`."""
        rows = msgspec.json.decode(self.body(name), type=dict[str, msgspec.Raw])["instruments"]
        return list(derivatives_markets(msgspec.json.decode(rows, type=list[msgspec.Raw]), "KRAKEN"))


@pytest.fixture(scope="session")
def recordings() -> Recordings:
    if not CAPTURES.exists():
        pytest.skip(f"no recordings at {CAPTURES}")
    return Recordings()


class Input:
    """Whatever a session delivers for one channel, as (method, arguments)."""

    def __init__(self, market: str = "") -> None:
        self.market = market
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, args))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in self.calls if called == name]

    @property
    def account_events(self) -> list[Any]:
        return [event for (events,) in self.of("events") for event in events]


class RecordingOutlet:
    """A connection that keeps what its session asks for."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.inputs: dict[Channel, Any] = {}
        self.acks: list[Channel] = []
        self.refusals: list[tuple[Channel, Any, bool]] = []
        self.reconnects: list[tuple[str, bool]] = []

    def _input(self, channel: Channel) -> Any:
        return self.inputs.setdefault(channel, Input(channel.market.symbol if channel.market else ""))

    book = trades = account = _input

    def send(self, frame: Any) -> None:
        self.sent.append(frame)

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        self.acks.extend(channels)

    def refused(self, channel: Channel, reason: Any, *, final: bool = True) -> None:
        self.refusals.append((channel, reason, final))

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        self.reconnects.append((reason, overlap))

    def void(self, reason: str) -> None:
        raise AssertionError("nothing is numbered over a whole connection here")


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class PlayedVenue:
    """Kraken over HTTP: answers by (method, path), and the requests that came in."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[tuple[str, str], list[Any]] = {}

    def answer(self, method: str, path: str, body: Any, status: int = 200, **headers: str) -> None:
        """Answer the next such request (the last one given, all further ones) with JSON, bytes, or what a function of
        the request's parameters gives."""
        if not callable(body):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault((method, path), []).append((status, body, names))

    def spot(self, name: str, result: Any) -> None:
        """Answer a private call of Spot with `result`."""
        body = result if callable(result) else {"error": [], "result": result}
        self.answer("POST", f"/0/private/{name}", body)

    def refuse(self, name: str, error: str) -> None:
        """Refuse a private call of Spot with a text."""
        self.answer("POST", f"/0/private/{name}", {"error": [error]})

    def again(self, method: str, path: str) -> None:
        """Forget the answers to such requests."""
        self.answers.pop((method, path), None)

    def lose(self, method: str, path: str) -> None:
        """The next such request is received, its answer is not."""
        self.answers.setdefault((method, path), []).append(None)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        key = (request.method, request.url.path)
        waiting = self.answers.get(key)
        if not waiting:
            return httpx.Response(404, json={"error": [f"EGeneral:nobody answers {key}"]})
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if answer is None:
            raise httpx.ReadError("cut")
        status, content, headers = answer
        if callable(content):
            content = json.dumps(content(parameters(request))).encode()
        return httpx.Response(status, content=content, headers=headers)

    def asked(self, method: str, path: str) -> list[dict[str, Any]]:
        """The parameters of all such requests, in wire order."""
        return [
            parameters(request) for request in self.requests if (request.method, request.url.path) == (method, path)
        ]


def parameters(request: httpx.Request) -> dict[str, Any]:
    if request.content.startswith(b"{"):
        parsed: dict[str, Any] = json.loads(request.content)
        return parsed
    text = (request.url.query or request.content).decode()
    return dict(parse_qsl(text, keep_blank_values=True))


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: KrakenVenue
    http: PlayedVenue
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


def listed(parameters: dict[str, Any], pairs: Any, tokenized: Any) -> Any:
    """`AssetPairs`: tokenised stocks only where they are asked for."""
    return tokenized if parameters.get("aclass_base") == "tokenized_asset" else pairs


def _composed(old_base: str, old_quote: str, decimals: int, wsname: str) -> dict[str, Any]:
    return {
        "altname": wsname.replace("/", ""),
        "wsname": wsname,
        "base": old_base,
        "quote": old_quote,
        "pair_decimals": decimals,
        "lot_decimals": 8,
        "tick_size": f"{10**-decimals:.{decimals}f}",
        "ordermin": "0.001",
        "costmin": "0.5",
        "status": "online",
    }


MORE_PAIRS = {
    "XETHXXBT": _composed("XETH", "XXBT", 5, "ETH/XBT"),
    "XDGUSD": _composed("XXDG", "ZUSD", 7, "XDG/USD"),
    "ZEURZUSD": _composed("ZEUR", "ZUSD", 5, "EUR/USD"),
    "TBTCUSD": _composed("TBTC", "ZUSD", 1, "TBTC/USD"),
}
"""Pairs with odd spellings, which the recorded list does not have."""

MORE_CONTRACTS = [
    {
        "symbol": "PF_PEPEUSD",
        "type": "flexible_futures",
        "tickSize": 1e-10,
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": -3,
    },
    {
        "symbol": "FF_XBTUSD_261225",
        "type": "flexible_futures",
        "tickSize": 1,
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": 4,
        "lastTradingTime": "2026-12-25T08:00:00.000Z",
    },
    {
        "symbol": "FI_XBTUSD_261225",
        "type": "futures_inverse",
        "tickSize": 0.5,
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": 0,
        "lastTradingTime": "2026-12-25T16:00:00.000Z",
    },
    {
        "symbol": "OF_XBTUSD_261225_100000_C",
        "type": "options",
        "tickSize": 1,
        "contractSize": 1,
        "tradeable": True,
        "contractValueTradePrecision": 2,
        "lastTradingTime": "2026-12-25T08:00:00.000Z",
    },
]
"""Products of which nothing is recorded, as the documentation describes them."""


@pytest.fixture
async def played(recordings: Recordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets of both families; the venue's clock is a second ahead."""
    http = PlayedVenue()
    clock = ManualClock()
    pairs, tokenized = recordings.rest("spot-assetpairs-2021")["body"], recordings.rest("spot-assetpairs-tokenized")
    pairs["result"] |= MORE_PAIRS
    http.answer("GET", "/0/public/AssetPairs", lambda params: listed(params, pairs, tokenized["body"]))
    now = clock.wall_ns() // 1_000_000_000 + 1
    http.answer("GET", "/0/public/Time", {"error": [], "result": {"unixtime": now, "rfc1123": ""}})
    instruments = recordings.rest("futures-instruments")["body"]
    instruments["instruments"] += MORE_CONTRACTS
    http.answer("GET", "/derivatives/api/v3/instruments", instruments)
    told = "2023-11-14T22:13:21.000Z"
    http.answer("GET", "/derivatives/api/v3/instruments/status", {"result": "success", "serverTime": told})
    async with anyio.create_task_group() as tasks:
        host = ManualHost(tasks, clock)
        host.astra = SimpleNamespace(random=random.Random(1))
        venue = KrakenVenue(host, KrakenSettings(), http_transport=httpx.MockTransport(http))
        yield Played(venue, http, clock, Credentials.of("KRAKEN", KEY, SECRET))
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
