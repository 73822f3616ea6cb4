"""Markets, a clock that stands still, a short way to write orders, and a toy venue with its clients."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from astra.models.markets import ContractType, Market
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import BookChange, HttpResponse, NewOrder, SandboxSession, SandboxVenue
from astra.symbols import AssetType, OptionType
from astra_sandbox import Sandbox
from unwired import START_MS, StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def make_markets() -> dict[str, Market]:
    spot = Market(
        symbol="TOY-SPOT-BTC-USDT",
        asset_type=AssetType.SPOT,
        base_asset="BTC",
        quote_asset="USDT",
        native_symbol="BTCUSDT",
        product="spot",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        max_quantity=Decimal(1000),
        min_notional=Decimal(5),
        max_price=Decimal(1_000_000),
    )
    linear = Market(
        symbol="TOY-PERP-BTC-USDT",
        asset_type=AssetType.PERP,
        base_asset="BTC",
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol="BTCUSDT",
        product="usdm",
        tick_size=Decimal("0.1"),
        lot_size=Decimal("0.001"),
        contract_type=ContractType.LINEAR,
    )
    inverse = Market(
        symbol="TOY-PERP-BTC-USD-COINM",
        asset_type=AssetType.PERP,
        base_asset="BTC",
        quote_asset="USD",
        margin_asset="BTC",
        native_symbol="BTCUSD_PERP",
        product="coinm",
        tick_size=Decimal("0.1"),
        lot_size=Decimal(1),
        contract_size=Decimal(100),
        contract_type=ContractType.INVERSE,
    )
    option = Market(
        symbol="TOY-OPT-BTC-USDT-261225-100000-C",
        asset_type=AssetType.OPT,
        base_asset="BTC",
        quote_asset="USDT",
        margin_asset="USDT",
        native_symbol="BTC-261225-100000-C",
        product="options",
        tick_size=Decimal(5),
        lot_size=Decimal("0.01"),
        contract_size=Decimal(1),
        contract_type=ContractType.LINEAR,
        expiry=START_MS + 35 * 86_400_000,
        strike=Decimal(100_000),
        option_type=OptionType.CALL,
    )
    return {"spot": spot, "linear": linear, "inverse": inverse, "option": option}


@pytest.fixture
def markets() -> dict[str, Market]:
    """One market of each kind: spot, linear, inverse, option."""
    return make_markets()


@pytest.fixture(scope="module")
def all_markets() -> dict[str, Market]:
    """The same for tests whose fixtures must outlive an example."""
    return make_markets()


def make_order(market: Market, side: str, quantity: Any = None, price: Any = None, **more: Any) -> NewOrder:
    def decimal(value: Any) -> Decimal | None:
        return None if value is None else Decimal(value)

    kind = more.pop("type", "MARKET" if price is None else "LIMIT")
    return NewOrder(
        market=market.symbol,
        side=Side(side),
        type=OrderType(kind),
        quantity=decimal(quantity),
        price=decimal(price),
        quote_quantity=decimal(more.pop("quote", None)),
        stop_price=decimal(more.pop("stop", None)),
        **more,
    )


@pytest.fixture
def order() -> Callable[..., NewOrder]:
    """`order(market, "BUY", "1.5", "100")`: LIMIT with a price, MARKET without; `quote=`, `stop=`, other fields."""
    return make_order


# The server: a toy venue and its clients

WITHIN_S = 10.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


class ToySession(SandboxSession):
    """Echoes what it gets; everything else is pushed by the test."""

    def __init__(self, venue, link):
        self.venue = venue
        self.link = link
        self.pings = []
        self.pongs = []
        self.ticks = []
        link.send("welcome")

    def received(self, payload):
        if payload == "fail":
            raise RuntimeError("the session is broken")
        if payload == "close":
            self.link.close(4001, "as asked")
        elif payload == "ping":
            self.link.ping(b"are you there")
        else:
            self.link.send(payload)

    def ping(self, payload):
        self.pings.append(payload)

    def pong(self, payload):
        self.pongs.append(payload)

    def tick(self, now_ms):
        self.ticks.append(now_ms)
        if self.venue.broken_tick:
            raise RuntimeError("the tick is broken")

    def closed(self):
        self.venue.sessions.remove(self)
        self.venue.gone.set()


class ToyVenue(SandboxVenue):
    """A venue with one market, a counter for a command and a stream of book ids."""

    exchange = "TOY"
    hosts: ClassVar = {"rest": "http", "stream": "ws"}

    def __init__(self, engine, clock):
        super().__init__(engine, clock)
        self.acted = []
        self.acts = anyio.Event()
        self.sessions = []
        self.gone = anyio.Event()
        self.broken_tick = False
        self.push_changes = False
        engine.subscribe(self.heard)

    def heard(self, event):
        if self.push_changes and isinstance(event, BookChange):
            for session in self.sessions:
                session.link.send(str(event.id))

    @classmethod
    def default_markets(cls, count=None):
        return [
            Market(
                symbol="TOY-SPOT-BTC-USDT",
                asset_type=AssetType.SPOT,
                base_asset="BTC",
                quote_asset="USDT",
                native_symbol="BTCUSDT",
                product="spot",
                tick_size=Decimal("0.01"),
                lot_size=Decimal("0.001"),
            )
        ]

    def http(self, request):
        if request.path == "/fail":
            raise RuntimeError("the venue is broken")
        if request.path == "/time":
            return HttpResponse(200, str(self.clock.wall_ns() // 1_000_000).encode())
        if request.path == "/none":
            return HttpResponse(204, b"")
        if request.method == "POST":
            self.acted.append(request.target)
            self.acts.set()
        echo = {**request.headers, "target": request.target, "body": request.body.decode(), "host": request.host}
        return HttpResponse(200, json.dumps(echo).encode(), headers={"X-Used": "7"})

    def connect(self, host, target, headers, link):
        if target == "/refused":
            return HttpResponse(403, b"not you", content_type="text/plain")
        if target == "/fail":
            raise RuntimeError("connecting is broken")
        session = ToySession(self, link)
        self.sessions.append(session)
        return session


@pytest.fixture
def toy():
    """Makes a sandbox of TOY alone."""

    def make(**more):
        return Sandbox(["TOY"], venues=[ToyVenue], **more)

    return make


@pytest.fixture
async def sandbox(toy):
    """A running sandbox of TOY, with empty books."""
    async with toy(flow=False) as running:
        yield running


@pytest.fixture
def venue(sandbox):
    return sandbox._find("TOY").venue


@pytest.fixture
def hosts(sandbox):
    return sandbox.settings["venues"]["TOY"]["hosts"]


@pytest.fixture
def faults(sandbox):
    return sandbox.faults("TOY")


@pytest.fixture
async def client(hosts):
    async with httpx.AsyncClient(base_url=hosts["rest"], timeout=WITHIN_S, trust_env=False) as http:
        yield http


class Client:
    """A WebSocket client on `websockets`' sans-I/O protocol, for both event loops."""

    def __init__(self, stream, protocol):
        self.stream = stream
        self.protocol = protocol
        self.queue = []
        self.raw = b""

    @classmethod
    async def connect(cls, url, path="/"):
        uri = parse_uri(url + path)
        client = cls(await anyio.connect_tcp(uri.host, uri.port), ClientProtocol(uri))
        client.protocol.send_request(client.protocol.connect())
        await client._push()
        answer = await client.event()
        client.answer = answer
        return client

    async def _push(self):
        for chunk in self.protocol.data_to_send():
            if chunk:
                await self.stream.send(chunk)

    async def event(self):
        with anyio.fail_after(WITHIN_S):
            while not self.queue:
                received = await self.stream.receive()
                self.raw += received
                self.protocol.receive_data(received)
                await self._push()
                self.queue += self.protocol.events_received()
        return self.queue.pop(0)

    async def text(self):
        frame = await self.event()
        assert isinstance(frame, Frame)
        assert frame.opcode is Opcode.TEXT
        return bytes(frame.data).decode()

    async def send(self, text):
        self.protocol.send_text(text.encode())
        await self._push()

    async def ask(self, text):
        await self.send(text)
        return await self.text()


@pytest.fixture
async def socket_of(hosts, venue):
    """Connects a client that has had its welcome; returns it and the venue's session."""
    opened = []

    async def connect():
        client = await Client.connect(hosts["stream"])
        opened.append(client)
        assert client.answer.status_code == 101
        assert await client.text() == "welcome"
        return client, venue.sessions[-1]

    yield connect
    for client in opened:
        await anyio.aclose_forcefully(client.stream)


@pytest.fixture
def connect():
    """`await connect(url, path)`: a `Client` with the answer to its handshake."""
    return Client.connect


@pytest.fixture
def gone():
    """Tells how a client's connection ends: "reset" or "closed"; what comes before that is kept in `client.raw`."""

    async def wait(client):
        with anyio.fail_after(WITHIN_S):
            while True:
                try:
                    client.raw += await client.stream.receive()
                except anyio.EndOfStream:
                    return "closed"
                except anyio.BrokenResourceError:
                    return "reset"

    return wait


@pytest.fixture
def beats():
    """Waits until the server has called a session's tick so many times more."""

    async def wait(session, count=2):
        wanted = len(session.ticks) + count
        with anyio.fail_after(WITHIN_S):
            while len(session.ticks) < wanted:
                await anyio.sleep(0.01)

    return wait


@pytest.fixture
def push():
    """Sends frames on the venue's own accord."""

    def send(session, *texts):
        for text in texts:
            session.link.send(text)

    return send
