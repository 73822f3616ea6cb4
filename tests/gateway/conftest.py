"""A toy venue behind a real gateway on a real socket: what the tests of the HTTP front-ends share."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect

from astra import Astra
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import ContractType, Market
from astra.models.orderbook import Integrity, Orderbook
from astra.models.orders import (
    Fill,
    Liquidity,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    PositionSide,
)
from astra.models.protocols import Host
from astra.models.trades import Side, Trade
from astra.plugins import Plugins
from astra.streams.feed import (
    BookRules,
    BookSeed,
    Channel,
    Continuity,
    Endpoint,
    Feed,
    Frame,
    Outlet,
    Payload,
    Seed,
    Session,
    Ticket,
)
from astra.symbols import AssetType, OptionType
from astra.testing import MemoryConnection, MemoryTransport
from astra.trading.checks import ClientIdRule
from astra.venue import StreamingVenue, VenueSettings
from astra_gateway.database import Database
from astra_gateway.keys import IssuedKey, KeyStore, Scope
from astra_gateway.plugin import RunningGateway, running_gateway
from astra_gateway.settings import GatewaySettings

STATIC_KEY = "static.a-static-key-of-the-tests"
TOLERATED_S = 5.0


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio."""
    return "asyncio"


def market(symbol: str, native: str, **fields: Any) -> Market:
    _, kind, base, quote = symbol.split("-")[:4]
    given = {"base_asset": base, "quote_asset": quote, "product": "toy"} | fields
    return Market(symbol=symbol, asset_type=AssetType(kind), native_symbol=native, **given)


MARKETS = (
    market("TOY-SPOT-ETH-USDT", "ETHUSDT"),
    market("TOY-SPOT-BTC-USDT", "BTCUSDT", tick_size=Decimal("1E-20"), min_notional=Decimal("10.50")),
    market("TOY-PERP-XBT-USDT", "XBTUSDT", base_asset="BTC", margin_asset="USDT"),
    market(
        "TOY-PERP-BTC-USD-COINM",
        "BTCUSD",
        margin_asset="BTC",
        contract_size=Decimal(100),
        contract_type=ContractType.INVERSE,
    ),
    market("TOY-FUT-BTC-USDT-270625", "BTCUSDT_270625", margin_asset="USDT", expiry=1813910400000),
    market(
        "TOY-OPT-BTC-USDT-270625-50000-C",
        "BTC-50000-C",
        strike=Decimal(50000),
        option_type=OptionType.CALL,
        expiry=1813910400000,
    ),
)


class ToySession(Session):
    """JSON frames: {"ok": [names]}, deltas {"s","f","l","b","a"}, trades {"s","t": [[id, price, quantity, side]]}."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self.channels: dict[str, Channel] = {}

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        names = {f"{channel.native_symbol}@{channel.data_type.value}": channel for channel in channels}
        self.channels.update(names)
        return [json.dumps({"sub": list(names)})]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        gone = [name for name, channel in self.channels.items() if channel in channels]
        for name in gone:
            del self.channels[name]
        return [json.dumps({"unsub": gone})]

    def received(self, payload: Payload, received_ns: int) -> None:
        message = json.loads(bytes(payload))
        if "ok" in message:
            self.outlet.acknowledged([self.channels[name] for name in message["ok"] if name in self.channels])
        elif "no" in message:
            self.outlet.refused(self.channels[message["no"]], "no such market today")
        elif "t" in message:
            if channel := self.channels.get(f"{message['s']}@TRADE"):
                into = self.outlet.trades(channel)
                into.trades(
                    [
                        Trade(into.market, price, quantity, None if side is None else Side(side), 1707527023484, id_)
                        for id_, price, quantity, side in message["t"]
                    ]
                )
        elif channel := self.channels.get(f"{message['s']}@ORDERBOOK"):
            bids, asks = ([(float(price), float(size)) for price, size in message.get(side, [])] for side in "ba")
            self.outlet.book(channel).delta(message["f"], message["l"], 0, bids, asks, 1700000000000, received_ns)


class ToyFeed(Feed):
    def endpoint(self, channel: Channel) -> Endpoint:
        return Endpoint("toy", "ws://toy/", messages_per_s=1000.0, connects_per_s=1000.0)

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        return ToySession(endpoint, outlet, ticket)

    def book_rules(self, channel: Channel) -> BookRules:
        return BookRules(seed=Seed.REST, continuity=Continuity.CONTIGUOUS, integrity=Integrity.SEQUENCE)


class World:
    """The toy exchange: what it was asked, what it answers."""

    def __init__(self) -> None:
        self.transport = MemoryTransport(self._connected)
        self.markets: Sequence[Market] = MARKETS
        self.bids = [(51485.41, 4.10646), (51485.39, 0.00975), (51485.38, 0.00975)]
        self.asks = [(51485.42, 2.21005), (51485.59, 0.77624), (51485.89, 0.38811)]
        self.ids: Counter[str] = Counter()
        self.calls: list[tuple[str, Any]] = []
        self.placed: list[OrderRequest] = []
        self.credentials: list[Credentials] = []
        self.errors: dict[str, list[Exception]] = {}
        self.fate: Order | bool = True
        """What the venue says of a placement whose answer was lost."""
        self.refuse: set[str] = set()
        self.before: dict[str, Callable[[], Any]] = {}

    # -- streams ----------------------------------------------------------------------------------------------------

    def _connected(self, connection: MemoryConnection) -> None:
        connection.on_send = lambda frame: self._received(connection, json.loads(frame))

    def _received(self, connection: MemoryConnection, message: Mapping[str, Any]) -> None:
        names = message.get("sub", ())
        for name in set(names) & self.refuse:
            connection.push(json.dumps({"no": name}))
        if set(names) - self.refuse:
            connection.push(json.dumps({"ok": [name for name in names if name not in self.refuse]}))

    def push(self, fields: Mapping[str, Any]) -> None:
        for connection in self.transport.open:
            connection.push(json.dumps(fields))

    def delta(self, native: str, *, bids: Any = (), asks: Any = (), skip: int = 0) -> int:
        """The venue changes a book; `skip` changes are lost before it. Gives the change's id."""
        first = last = self.ids[native] + 1 + skip
        self.ids[native] = last
        self.push({"s": native, "f": first, "l": last, "b": bids, "a": asks})
        return last

    def trades(self, native: str, *trades: tuple[str, float, float, str | None]) -> None:
        self.push({"s": native, "t": trades})

    # -- requests ---------------------------------------------------------------------------------------------------

    async def asked(self, operation: str, what: Any = None, credentials: Credentials | None = None) -> None:
        """Every request of the venue comes by here: it is written down, and may fail."""
        self.calls.append((operation, what))
        if credentials is not None:
            self.credentials.append(credentials)
        if operation in self.before:
            await self.before[operation]()
        if self.errors.get(operation):
            raise self.errors[operation].pop(0)

    def count(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.calls)

    def order(self, of: Market, **fields: Any) -> Order:
        given = {"id": "7", "client_order_id": "c7", "side": Side.BUY, "type": "LIMIT", "status": OrderStatus.NEW}
        return Order(market=of.symbol, **(given | fields))


class ToyVenue(StreamingVenue):
    code = "TOY"
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {"default": ClientIdRule(max_length=24, alphabet="a-z0-9")}
    world: World

    def __init__(self, host: Host, settings: VenueSettings) -> None:
        super().__init__(host, settings)
        self.feed = ToyFeed()
        self.history = self

    async def book_seed(self, channel: Channel) -> BookSeed:
        world = self.world
        await world.asked("book_seed", channel.native_symbol)
        return BookSeed(world.ids[channel.native_symbol], world.bids, world.asks, 1700000000000, complete=True)

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        return None

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        await self.world.asked("list_markets")
        return self.world.markets

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        await self.world.asked("get_orderbook", (market.symbol, depth))
        world = self.world
        return Orderbook(market.symbol, 37828320367, world.bids[:depth], world.asks[:depth], 1700000000000, 0)

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        self.world.placed.append(order)
        await self.world.asked("place_order", order.client_order_id, credentials)
        return Order(
            id=str(len(self.world.placed)),
            client_order_id=order.client_order_id,
            market=market.symbol,
            side=order.side,
            type=order.type,
            price=order.price,
            quantity=order.quantity,
            contracts=order.contracts,
            filled_quantity=Decimal(0),
            status=OrderStatus.NEW,
            created_time=1700000000000,
        )

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        await self.world.asked("get_order", ref, credentials)
        return self.world.order(market)

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        await self.world.asked("cancel_order", ref, credentials)
        return self.world.order(market, status=OrderStatus.CANCELED)

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        await self.world.asked("amend_order", (ref, change), credentials)
        return self.world.order(market, price=change.price, quantity=change.quantity)

    @hookimpl
    async def cancel_all_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        await self.world.asked("cancel_all_orders", market, credentials)
        assert market is not None
        return [self.world.order(market, status=OrderStatus.CANCELED)]

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        await self.world.asked("list_orders", market, credentials)
        assert market is not None
        return [self.world.order(market, price=Decimal("20000.00"), quantity=Decimal("1.2"))]

    @hookimpl
    async def list_fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        await self.world.asked("list_fills", (since, limit), credentials)
        assert market is not None
        return [
            Fill(
                id="f1",
                order_id="7",
                market=market.symbol,
                side=Side.SELL,
                price=Decimal("30199.49"),
                quantity=Decimal("0.0032"),
                fee=Decimal("-0.00000001"),
                fee_asset="USDT",
                liquidity=Liquidity.MAKER,
                time=1707527023484,
            )
        ]

    @hookimpl
    async def get_balances(self, credentials: Credentials) -> Sequence[Balance]:
        await self.world.asked("get_balances", None, credentials)
        return [Balance(asset="BTC", wallet="SPOT", total=Decimal("1.50"), available=Decimal(1), locked=Decimal("0.5"))]

    @hookimpl
    async def get_positions(self, credentials: Credentials) -> Sequence[Position]:
        await self.world.asked("get_positions", None, credentials)
        return [
            Position(
                market="TOY-PERP-XBT-USDT",
                side=PositionSide.LONG,
                quantity=Decimal("0.1"),
                entry_price=Decimal(30000),
                margin_mode=MarginMode.CROSS,
            )
        ]

    @hookimpl
    async def resolve_order(
        self, market: Market, client_order_id: str, since: int, credentials: Credentials
    ) -> Order | bool:
        await self.world.asked("resolve_order", (client_order_id, since), credentials)
        return self.world.fate


class Stage:
    """A gateway over the toy venue, and clients of it."""

    def __init__(self, world: World, astra: Astra, gateway: RunningGateway, http: httpx.AsyncClient) -> None:
        self.world = world
        self.astra = astra
        self.gateway = gateway
        self.http = http
        """A client with the static key."""

    async def issue(self, scope: Scope = Scope.READ, **options: Any) -> IssuedKey:
        return await self.gateway.keys.create("test", scope, **options)

    def ws(self, path: str = "/ws", key: str | None = STATIC_KEY, **options: Any) -> AbstractAsyncContextManager[Any]:
        url = self.gateway.url.replace("http://", "ws://") + path
        headers = {} if key is None else {"x-astra-api-key": f"Bearer {key}"}
        return connect(url, additional_headers=headers, proxy=None, max_size=None, **options)


async def message(socket: ClientConnection) -> Any:
    """The next message of the gateway."""
    with anyio.fail_after(TOLERATED_S):
        return json.loads(await socket.recv())


async def eventually(holds: Callable[[], Any]) -> None:
    """Wait until something holds that the gateway does in its own time."""
    with anyio.fail_after(TOLERATED_S):
        while not holds():
            await anyio.sleep(0.005)


@pytest.fixture
def read_message() -> Any:
    return message


@pytest.fixture
def wait_until() -> Any:
    return eventually


_numbers = itertools.count()


@pytest.fixture
def toy() -> Iterable[tuple[World, Callable[[], Iterable[importlib.metadata.EntryPoint]]]]:
    """A toy exchange, and the entry points of an environment in which it and the HTTP front-ends are installed."""
    world = World()
    name = f"toy_of_the_gateway_tests_{next(_numbers)}"
    module = types.ModuleType(name)
    module.Venue = type("ToyVenue", (ToyVenue,), {"world": world})  # type: ignore[attr-defined]
    module.transport = lambda: world.transport  # type: ignore[attr-defined]
    sys.modules[name] = module
    fronts = [one for one in importlib.metadata.entry_points(group="astra.frontends") if one.name in ("rest", "ws")]
    ours = [
        importlib.metadata.EntryPoint("TOY", f"{name}:Venue", "astra.venues"),
        importlib.metadata.EntryPoint("toy", f"{name}:transport", "astra.transports"),
    ]
    yield world, lambda: [*fronts, *ours]
    del sys.modules[name]


@pytest.fixture
def open_stage(toy: Any, tmp_path: Any) -> Any:
    """`async with open_stage(setting=...) as stage`: a gateway of one's own."""
    world, entry_points = toy

    @asynccontextmanager
    async def opened(*, resolve_s: float = 0, **options: Any) -> AsyncIterator[Stage]:
        section = {"trading": {"resolve_s": resolve_s}}
        settings = GatewaySettings(
            **{
                "port": 0,
                "metrics": False,
                "metrics_port": 0,
                "database": f"sqlite:///{tmp_path / 'gateway.db'}",
                "api_key": SecretStr(STATIC_KEY),
                "shutdown_grace_s": 2,
            }
            | options
        )
        venues = {"TOY": {"transport": "toy", "streams": {"linger_s": 0.05, "backoff_base_s": 0.02}}}
        given = [Credentials.of("TOY", "configured-key", "configured-secret")]
        async with (
            Astra(
                settings={"venues": venues} | section, credentials=given, plugins=Plugins(entry_points=entry_points)
            ) as astra,
            running_gateway(astra, settings) as gateway,
            httpx.AsyncClient(
                base_url=gateway.url, headers={"x-astra-api-key": f"Bearer {STATIC_KEY}"}, trust_env=False
            ) as http,
        ):
            yield Stage(world, astra, gateway, http)

    return opened


@pytest.fixture
async def stage(open_stage: Any) -> AsyncIterator[Stage]:
    async with open_stage() as opened:
        yield opened


@pytest.fixture
async def keys(tmp_path: Any) -> AsyncIterator[KeyStore]:
    from astra.net.clock import SystemClock

    database = Database(f"sqlite:///{tmp_path / 'keys.db'}")
    yield KeyStore(database, SystemClock())
    await database.aclose()
