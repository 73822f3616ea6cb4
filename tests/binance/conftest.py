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
from astra_binance.markets import decode_info, markets_of
from astra_binance.settings import PRODUCTS, BinanceSettings
from astra_binance.venue import BinanceVenue

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "binance"
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"


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
        lines = (CAPTURES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return json.loads(lines[0])["meta"], [json.loads(line) for line in lines[1:]]

    def received(self, name: str) -> list[bytes]:
        """The frames that the venue sent."""
        return [frame["text"].encode() for frame in self.stream(name)[1] if frame["direction"] == "received"]

    def file(self, name: str) -> Any:
        return json.loads((CAPTURES / name).read_text(encoding="utf-8"))

    def markets(self, product: str, name: str | None = None) -> list[Market]:
        """The markets of a recorded `exchangeInfo`."""
        return list(markets_of(product, decode_info(self.body(name or f"{product}-exchangeInfo")), "BINANCE"))


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
        self.inputs: dict[Channel, Input] = {}
        self.acks: list[Channel] = []
        self.refusals: list[tuple[Channel, str, bool]] = []
        self.reconnects: list[tuple[str, bool]] = []

    def _input(self, channel: Channel) -> Input:
        return self.inputs.setdefault(channel, Input(channel.market.symbol if channel.market else ""))

    book = trades = account = _input

    def send(self, frame: Any) -> None:
        self.sent.append(frame)

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        self.acks.extend(channels)

    def refused(self, channel: Channel, reason: str, *, final: bool = True) -> None:
        self.refusals.append((channel, reason, final))

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        self.reconnects.append((reason, overlap))

    def void(self, reason: str) -> None:
        raise AssertionError("ids run per market here")


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


class PlayedVenue:
    """Binance over HTTP: answers by (method, path), and the requests that came in."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[tuple[str, str], list[Any]] = {}

    def answer(self, method: str, path: str, body: Any, status: int = 200, **headers: str) -> None:
        """Answer the next such request (the last one given, all further ones) with JSON or bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault((method, path), []).append((status, content, names))

    def lose(self, method: str, path: str) -> None:
        """The next such request is received, its answer is not."""
        self.answers.setdefault((method, path), []).append(None)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        key = (request.method, request.url.path)
        waiting = self.answers.get(key)
        if not waiting:
            return httpx.Response(404, json={"code": -404, "msg": f"nobody answers {key}"})
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if answer is None:
            raise httpx.ReadError("cut")
        status, content, headers = answer
        return httpx.Response(status, content=content, headers=headers)

    def asked(self, method: str, path: str) -> list[dict[str, str]]:
        """The parameters of all such requests, in wire order."""
        return [
            dict(parse_qsl((request.url.query or request.content).decode(), keep_blank_values=True))
            for request in self.requests
            if (request.method, request.url.path) == (method, path)
        ]


class Played(msgspec.Struct):
    """The plugin under test and the venue that it talks to."""

    venue: BinanceVenue
    http: PlayedVenue
    clock: ManualClock
    credentials: Credentials

    async def market(self, symbol: str) -> Market:
        return await self.venue.markets.get(symbol)


_TIMES = {"spot": "/api/v3/time", "usdm": "/fapi/v1/time", "coinm": "/dapi/v1/time", "options": "/eapi/v1/time"}


@pytest.fixture
async def played(recordings: Recordings) -> AsyncIterator[Played]:
    """The plugin with the recorded markets of all families; the venue's clock is a second ahead."""
    http = PlayedVenue()
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
