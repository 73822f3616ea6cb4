"""The toolkit for venue authors: the base class of a venue plugin and its helpers.

A venue is a class with hook implementations. Deriving from `Venue` gives it settings, HTTP clients behind one rate
limiter, the market table, and — with a feed — live streams. What a venue adds is facts.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

import anyio
import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from astra.errors import MarketNotFound, OrderNotFound, SymbolError, VenueError, hint
from astra.hookspecs import API_VERSION, hookimpl
from astra.models.accounts import AccountEvent, Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import OrderbookUpdate
from astra.models.orders import Fill, Order, OrderOptions, OrderRef
from astra.models.protocols import Clock, Host, Stream
from astra.models.trades import TradeEvent
from astra.net.clock import VenueClock
from astra.net.ratelimit import RateLimiter
from astra.streams.feed import Channel, DataType, Feed, HistorySource, TicketSource
from astra.streams.hub import AccountTopic, Hub, HubSettings
from astra.streams.stream import MarketStream
from astra.symbols import Symbol
from astra.trading.checks import ClientIdRule
from astra.trading.reconcile import AccountKeeper, AccountWatch

ACCOUNT_QUEUE = 20_000
"""Items of an account's stream that may wait for a consumer; one that is slower is closed."""


class VenueHosts(BaseModel):
    """Base of a venue's table of hosts: scheme, host and port, without a path.

    Fields named `rest` or `..._rest` are HTTP, all others WebSocket. Defaults are the venue's real hosts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _bare(cls, url: str | None, field: ValidationInfo) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        schemes = ("http", "https") if str(field.field_name).rpartition("_")[2] == "rest" else ("ws", "wss")
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError(f"{url!r} must start with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"{url!r} must end after host and port: paths such as {parts.path!r} are appended")
        return f"{parts.scheme}://{parts.netloc}"


class VenueSettings(BaseModel):
    """Settings every venue has; a venue's `settings.py` derives from it and adds hosts and options.

    A venue with several environments (live, test network, regions) names them in `environments`: name -> the hosts
    that differ from the live ones. Its field `environment` chooses; hosts that are given win.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    environments: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    markets_max_age_s: float = Field(default=3600.0, gt=0)
    """Market lists older than this are refreshed in the background."""
    request_timeout_s: float = Field(default=10.0, gt=0)
    proxy: str | None = None
    """HTTP(S) or SOCKS proxy URL for all connections of the venue."""
    transport: str = "auto"
    """WebSocket transport by name; `auto`: picows on asyncio, httpx-ws elsewhere."""
    streams: HubSettings = HubSettings()

    @model_validator(mode="before")
    @classmethod
    def _environment_hosts(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not cls.environments:
            return given
        preset = cls.environments.get(given.get("environment", cls.model_fields["environment"].default))
        hosts = given.get("hosts", {})
        if isinstance(hosts, BaseModel):
            hosts = hosts.model_dump(exclude_unset=True)
        if preset is None or not isinstance(hosts, Mapping):
            return given
        return {**given, "hosts": {**preset, **hosts}}


class MarketTable:
    """A venue's markets: loaded on first use, cached, refreshed in the background and on an unknown symbol.

    When the venue is down the last good copy serves; `age_s` says how old it is.

    `spellings` are groups of names that a venue has for one asset (`{"BTC", "XBT"}`): a symbol is found under any of
    them, where that names one market.
    """

    UNKNOWN_RELOAD_S = 30.0
    """An unknown symbol reloads the list at most this often."""

    def __init__(
        self,
        exchange: str,
        load: Callable[[], Awaitable[Sequence[Market]]],
        clock: Clock,
        max_age_s: float = 3600.0,
        spellings: Iterable[Collection[str]] = (),
    ) -> None:
        self._exchange = exchange
        self._load = load
        self._clock = clock
        self._max_age_s = max_age_s
        self._lock = anyio.Lock()
        self._loaded_at: float | None = None
        self._by_symbol: dict[str, Market] = {}
        self._by_key: dict[tuple[str, str], Market] = {}
        self._spellings = {name: tuple(group) for group in spellings for name in group}
        self.last_error: VenueError | None = None

    def __len__(self) -> int:
        """How many markets are known now."""
        return len(self._by_symbol)

    @property
    def age_s(self) -> float | None:
        """Seconds since the list was last loaded; None before the first time."""
        return None if self._loaded_at is None else self._clock.monotonic() - self._loaded_at

    async def all(self) -> Sequence[Market]:
        """All markets, at most `max_age_s` old unless the venue is down."""
        if self._loaded_at is None or self._clock.monotonic() - self._loaded_at > self._max_age_s:
            await self.refresh(self._max_age_s)
        return tuple(self._by_symbol.values())

    async def get(self, symbol: str) -> Market:
        """The market with this symbol. Raises `MarketNotFound` with the nearest symbol suggested."""
        await self.all()
        market = self.peek(symbol)
        if market is None and (self.age_s or 0.0) > self.UNKNOWN_RELOAD_S:
            await self.refresh(self.UNKNOWN_RELOAD_S)
            market = self.peek(symbol)
        if market is None:
            raise MarketNotFound(f"no market {symbol}.{hint(symbol, self._by_symbol)}", exchange=self._exchange)
        return market

    async def native(self, product: str, native_symbol: str) -> Market:
        """The market that the venue calls `native_symbol` in `product`. Raises `MarketNotFound`."""
        await self.all()
        market = self._by_key.get((product, native_symbol))
        if market is None and (self.age_s or 0.0) > self.UNKNOWN_RELOAD_S:
            await self.refresh(self.UNKNOWN_RELOAD_S)
            market = self._by_key.get((product, native_symbol))
        if market is None:
            raise MarketNotFound(f"no {product} market {native_symbol!r}", exchange=self._exchange)
        return market

    def peek(self, symbol: str) -> Market | None:
        """Like `get`, from what is loaded already, without waiting."""
        return self._by_symbol.get(symbol) or (self._by_other_names(symbol) if self._spellings else None)

    def _by_other_names(self, symbol: str) -> Market | None:
        try:
            asked = Symbol.parse(symbol)
        except SymbolError:
            return None
        found = {
            market.symbol: market
            for base in self._spellings.get(asked.base, (asked.base,))
            for quote in self._spellings.get(asked.quote, (asked.quote,))
            if (market := self._by_symbol.get(str(msgspec.structs.replace(asked, base=base, quote=quote)))) is not None
        }
        return next(iter(found.values())) if len(found) == 1 else None

    def peek_native(self, product: str, native_symbol: str) -> Market | None:
        """Like `native`, from what is loaded already, without waiting."""
        return self._by_key.get((product, native_symbol))

    async def refresh(self, older_than_s: float = 0.0) -> None:
        """Load the list again unless it is younger than `older_than_s`. With a copy at hand a failing venue is
        recorded in `last_error` and the copy stays; without one the error is raised."""
        async with self._lock:
            if self._loaded_at is not None and self._clock.monotonic() - self._loaded_at <= older_than_s:
                return
            try:
                markets = await self._load()
            except VenueError as error:
                self.last_error = error
                if self._loaded_at is None:
                    raise
                return
            self._by_symbol = {market.symbol: market for market in markets}
            self._by_key = {market.key: market for market in markets}
            self._loaded_at = self._clock.monotonic()
            self.last_error = None


class Venue:
    """Base class of venue plugins.

    Class attributes a venue sets: `code` (exchange code), `settings_model`, `products` (its names of its API
    families), `order_options` (its order options model, if any), `client_ids` (client order id rule by product, the
    key "default" for all others). `api_version` is the plugin API the venue was written for.
    """

    code: ClassVar[str]
    api_version: ClassVar[str] = API_VERSION
    settings_model: ClassVar[type[VenueSettings]] = VenueSettings
    products: ClassVar[Sequence[str]] = ()
    order_options: ClassVar[type[OrderOptions] | None] = None
    asset_spellings: ClassVar[Sequence[Collection[str]]] = ()
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {}

    def __init__(self, host: Host, settings: VenueSettings) -> None:
        self.host = host
        self.settings = settings
        self.clock = host.clock
        self.markets = MarketTable(
            self.code, self.list_markets, host.clock, settings.markets_max_age_s, self.asset_spellings
        )

    async def list_markets(self) -> Sequence[Market]:
        """Implemented (and marked `@hookimpl`) by every venue."""
        raise NotImplementedError

    @property
    def venue_clocks(self) -> Mapping[str, VenueClock]:
        """The venue's clocks by product, empty where it tells no time: for those who look after the system."""
        return {}

    @property
    def rate_limiters(self) -> Mapping[str, RateLimiter]:
        """The venue's request limits, by the name of what they cover: for those who look after the system."""
        return {}

    def client_id_rule(self, market: Market) -> ClientIdRule | None:
        """The client order id rule that holds in the market."""
        return self.client_ids.get(market.product) or self.client_ids.get("default")

    def command_lifetime_s(self, market: Market) -> float | None:
        """For how long after it was sent a command (place, amend, cancel) may still be accepted: the venue's receive
        window or expiry, which every command then carries, and a margin. None where the venue has no such time: an
        order that is open after a lost cancel then proves nothing."""
        return None

    def operation_lifetime_s(self, market: Market, operation: str) -> float | None:
        """The same of one operation (the hook's name), for venues where it is not that of all commands."""
        return self.command_lifetime_s(market)


class StreamingVenue(Venue):
    """A venue with a feed: implements `stream_orderbook` and `stream_trades` on the engine.

    A subclass sets `feed`, `history` and, where its endpoints are ticketed, `tickets` in its constructor.
    """

    feed: Feed
    history: HistorySource
    tickets: TicketSource | None = None
    _hub: Hub | None = None

    @property
    def hub(self) -> Hub:
        """The engine's hub of this venue (made on first use)."""
        if self._hub is None:
            self._hub = Hub(
                exchange=self.code,
                feed=self.feed,
                history=self.history,
                tickets=self.tickets,
                host=self.host,
                transport=lambda: self.host.transport(self.settings.transport),
                now_ms=self.venue_now_ms,
                proxy=self.settings.proxy,
                settings=self.settings.streams,
                accounts=self._account_keeper,
            )
        return self._hub

    _account_keeper: Callable[[Hub, AccountTopic], AccountKeeper] | None = None
    """Makes what keeps an account's events true, where there are private streams."""

    @property
    def running_hub(self) -> Hub | None:
        """The hub, if anything was ever streamed."""
        return self._hub

    def venue_now_ms(self) -> int:
        """The venue's time in ms, for log-ins; a venue with a `VenueClock` overrides it."""
        return self.clock.wall_ns() // 1_000_000

    @hookimpl
    def stream_orderbook(self, markets: Sequence[Market]) -> Stream[OrderbookUpdate]:
        return MarketStream.of(self.hub, DataType.ORDERBOOK, markets)

    @hookimpl
    def stream_trades(self, markets: Sequence[Market]) -> Stream[TradeEvent]:
        return MarketStream.of(self.hub, DataType.TRADE, markets)


class AccountStreamingVenue(StreamingVenue):
    """A streaming venue that also has private streams.

    `account_products` names the products whose private streams make up an account's events, one channel each.
    `fills_need_market`: `list_fills` wants a market. An account's stream is compared with the venue by REST at the
    start, after every reconnect and now and then; the `account_*` methods are what it asks, product by product. Here
    they ask the hooks and keep what concerns the product; a venue that can ask less overrides them.
    """

    account_products: ClassVar[Sequence[str]] = ()
    fills_need_market: ClassVar[bool] = False

    def account_channels(self, credentials: Credentials) -> Sequence[Channel]:
        """The private channels of an account: one for each of `account_products` that it has a key for."""
        return [
            Channel(DataType.ACCOUNT, product, credentials=credentials)
            for product in self.account_products
            if credentials.key_for(product) is not None
        ]

    @hookimpl
    def stream_account(self, credentials: Credentials) -> Stream[AccountEvent]:
        return MarketStream.of_account(self.hub, self.account_channels(credentials), max_queue=ACCOUNT_QUEUE)

    @cached_property
    def account_watch(self) -> AccountWatch:
        """What orders have to do with the streams of their accounts."""
        return AccountWatch(self._account_topics)

    def _account_topics(self, credentials: Credentials) -> Sequence[AccountTopic]:
        """The parts of an account's stream that run."""
        hub = self.running_hub
        if hub is None:
            return ()
        found = (hub.account_topic(product, credentials) for product in self.account_products)
        return [topic for topic in found if topic is not None]

    def _account_keeper(self, hub: Hub, topic: AccountTopic) -> AccountKeeper:
        product, credentials = topic.channel.product, topic.channel.credentials
        assert credentials is not None
        return AccountKeeper(hub, topic, self, lambda: self.account_watch.markets(credentials, product))

    # -- what the comparison asks -------------------------------------------------------------------------------

    def fill_key(self, fill: Fill) -> Hashable:
        """What makes a fill unique: by default its id in its market."""
        return fill.market, fill.id

    def product_now_ms(self, product: str) -> int:
        """The time by the clock of the product's matching engine, ms."""
        return self.venue_now_ms()

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order] | None:
        """Open orders of the product. None where the venue does not tell."""
        orders = await self._asked("list_orders", market=None, credentials=credentials)
        return orders and [order for order in orders if self._is_of(order.market, product)]

    async def account_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order, open or done. Raises `OrderNotFound`."""
        order: Order | None = await self._asked("get_order", market=market, ref=ref, credentials=credentials)
        if order is None:
            raise OrderNotFound("the venue shows open orders only", exchange=self.code)
        return order

    async def account_balances(self, product: str, credentials: Credentials) -> Sequence[Balance] | None:
        """Balances of the product's wallet (all wallets where one product makes up the account's events). None where
        the venue does not tell."""
        balances: Sequence[Balance] | None = await self._asked("get_balances", credentials=credentials)
        if balances is None or len(self.account_products) == 1:
            return balances
        return [balance for balance in balances if balance.wallet == product]

    async def account_positions(self, product: str, credentials: Credentials) -> Sequence[Position] | None:
        """Open positions of the product. None where the venue does not tell."""
        positions = await self._asked("get_positions", credentials=credentials)
        return positions and [position for position in positions if self._is_of(position.market, product)]

    async def account_fills(
        self, product: str, market: Market | None, since: int, credentials: Credentials
    ) -> Sequence[Fill]:
        """Fills from `since` (ms) on, of one market where `fills_need_market`."""
        fills = await self._asked("list_fills", market=market, since=since, limit=None, credentials=credentials)
        return [fill for fill in fills or () if self._is_of(fill.market, product)]

    async def _asked(self, hook: str, **arguments: Any) -> Any:
        """A hook of this venue, which may take a subset of the arguments; None where it has none."""
        method = getattr(self, hook, None)
        if method is None:
            return None
        taken = inspect.signature(method).parameters
        return await method(**{name: value for name, value in arguments.items() if name in taken})

    def _is_of(self, symbol: str, product: str) -> bool:
        if len(self.account_products) == 1:
            return True
        market = self.markets.peek(symbol)
        return market is not None and market.product == product


AnyVenue = Any
"""A venue plugin: usually a `Venue`, at the least an object with hook implementations."""
