"""A complete little venue: one REST host, one stream host, spot and contracts. The kit is tried on it, and on what is
left of it when something is broken on purpose (`tiny_flaws`)."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from astra.errors import (
    AuthenticationError,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    OrderNotFound,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orderbook import Integrity, Orderbook
from astra.models.orders import Fill, Order, OrderRequest
from astra.models.trades import Side, Trade
from astra.net.clock import VenueClock
from astra.net.http import AnswerLost, HttpClient, Request
from astra.net.ratelimit import RateLimiter
from astra.streams.feed import BookRules, Continuity, DataType, Endpoint, Feed, Seed, Session, convert_levels
from astra.trading.checks import ClientIdRule, ClientIdsUnique, native_quantity
from astra.trading.outcome import send_command
from astra.venue import AccountStreamingVenue, VenueHosts, VenueSettings

WINDOW_MS = 2000
REFUSALS = {
    "bad-key": AuthenticationError,
    "bad-signature": AuthenticationError,
    "funds": InsufficientFunds,
    "duplicate": DuplicateClientOrderId,
    "unknown-order": OrderNotFound,
}


class TinyHosts(VenueHosts):
    rest: str = "https://api.tiny.example"
    stream: str = "wss://stream.tiny.example"


class TinySettings(VenueSettings):
    hosts: TinyHosts = TinyHosts()


def signature(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def interpret(request: Request, response: Any) -> Exception | None:
    """The venue's errors: {"error": code, "rule"?, "text"}."""
    if response.status < 400:
        return None
    if response.status == 429:
        return RateLimited("too many", exchange="TINY", retry_after=float(response.headers.get("retry-after", 1)))
    if response.status >= 500:
        text = f"HTTP {response.status}"
        return AnswerLost(text) if request.command else VenueUnavailable(text, exchange="TINY")
    body = json.loads(response.body)
    code, text = body["error"], body["text"]
    if code == "refused":
        return InvalidOrder(text, exchange="TINY", code=code, rule=body["rule"])
    return REFUSALS.get(code, VenueError)(text, exchange="TINY", code=code)


decode = msgspec.json.Decoder(Any, float_hook=Decimal).decode
"""Trading is decimals from the bytes on."""


class TinySession(Session):
    def __init__(self, feed: TinyFeed, endpoint: Endpoint, outlet: Any) -> None:
        super().__init__(endpoint, outlet, None)
        self.feed = feed
        self.channels: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}

    def subscribe(self, channels: Sequence[Any], now_ms: int) -> Any:
        for channel in channels:
            name = self.name(channel)
            self.channels[name] = channel
            if channel.data_type is DataType.ACCOUNT:
                key = channel.credentials.key_for("spot")
                secret = key.secret.get_secret_value()
                sign = signature(secret, f"{now_ms}login")
                self.inputs[name] = self.outlet.account(channel)
                login = {"op": "login", "key": key.key.get_secret_value(), "time": now_ms, "sign": sign}
                yield json.dumps(login)
                continue
            make = self.outlet.book if channel.data_type is DataType.ORDERBOOK else self.outlet.trades
            self.inputs[name] = make(channel)
        public = [name for name in map(self.name, channels) if name != "account"]
        if public:
            yield json.dumps({"op": "subscribe", "channels": public})

    def unsubscribe(self, channels: Sequence[Any], now_ms: int) -> Any:
        names = [self.name(channel) for channel in channels]
        for name in names:
            self.channels.pop(name, None)
            self.inputs.pop(name, None)
        yield json.dumps({"op": "unsubscribe", "channels": names})

    def name(self, channel: Any) -> str:
        if channel.data_type is DataType.ACCOUNT:
            return "account"
        return f"{'book' if channel.data_type is DataType.ORDERBOOK else 'trades'}:{channel.native_symbol}"

    def received(self, payload: Any, received_ns: int) -> None:
        message = decode(bytes(payload))
        if message["type"] == "ok":
            self.outlet.acknowledged([self.channels[name] for name in message["channels"] if name in self.channels])
            return
        if message["type"] == "refused":
            error = AuthenticationError(message["text"], exchange="TINY", code=message["error"])
            self.outlet.refused(self.channels["account"], error)
            return
        channel, target = self.channels.get(message["channel"]), self.inputs.get(message["channel"])
        if channel is None or target is None:
            return
        if message["type"] == "account":
            market = self.feed.market(message["event"].get("market"))
            target.events([self.feed.parse(message["kind"], message["event"], market)])
        elif message["type"] == "trades":
            target.trades([self.trade(channel.market, row, received_ns) for row in message["trades"]])
        else:
            bids, asks = (self.levels(channel.market, message[side]) for side in ("bids", "asks"))
            if message["type"] == "snapshot":
                target.snapshot(message["seq"], bids, asks, message["time"], received_ns)
            else:
                self.change(target, message, bids, asks, received_ns)

    def change(self, target: Any, message: Any, bids: Any, asks: Any, received_ns: int) -> None:
        target.delta(message["seq"], message["seq"], 0, bids, asks, message["time"], received_ns)

    def levels(self, market: Market, rows: Any) -> Any:
        levels = [(float(price), float(amount)) for price, amount in rows]
        if market.contract_size is None:
            return levels
        return convert_levels(levels, float(market.contract_size), inverse=market.is_inverse)

    def side(self, text: str) -> Side:
        return Side(text)

    def trade(self, market: Market, row: Any, received_ns: int) -> Trade:
        number, price, amount, side, time = row
        (level,) = self.levels(market, [(price, amount)])
        return Trade(market.symbol, level[0], level[1], self.side(side), time, str(number), received_ns)


class TinyFeed(Feed):
    session_class = TinySession
    integrity = Integrity.SEQUENCE

    def __init__(self, venue: Any = None, url: str = "wss://stream.tiny.example") -> None:
        self.venue = venue
        self.url = url

    def endpoint(self, channel: Any) -> Endpoint:
        private = channel.data_type is DataType.ACCOUNT
        return Endpoint(
            "private" if private else "public",
            self.url,
            scope=channel.credentials,
            max_channels=50,
            connects_per_s=20,
            messages_per_s=100,
        )

    def session(self, endpoint: Endpoint, outlet: Any, ticket: Any) -> Session:
        return self.session_class(self, endpoint, outlet)

    def book_rules(self, channel: Any) -> BookRules:
        return BookRules(Seed.STREAM, Continuity.CONTIGUOUS, self.integrity, audit_every_s=None)

    def market(self, native: str | None) -> Market | None:
        return None if native is None else self.venue.by_native(native)

    def parse(self, kind: str, row: Any, market: Market | None) -> Any:
        if kind == "balance":
            return Balance.model_validate(row)
        return getattr(self.venue, f"{kind}_of")(market, row)


class TinyHistory:
    async def trades_after(self, channel: Any, after_id: str, market: str) -> None:
        return None

    async def book_seed(self, channel: Any) -> Any:
        raise NotImplementedError


class TinyVenue(AccountStreamingVenue):
    code = "TINY"
    settings_model = TinySettings
    products = ("spot", "perp")
    account_products = ("spot",)
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        "default": ClientIdRule(max_length=24, alphabet="A-Za-z0-9-", unique=ClientIdsUnique.WHILE_OPEN)
    }
    feed_class: type[TinyFeed] = TinyFeed

    def __init__(self, host: Any, settings: Any) -> None:
        super().__init__(host, settings)
        self.feed = self.feed_class(self, settings.hosts.stream)
        self.history = TinyHistory()
        self.http = HttpClient(
            self.code,
            settings.hosts.rest,
            limiter=RateLimiter(self.code, [], host.clock),
            clock=VenueClock(host.clock),
            interpret=interpret,
            timeout_s=settings.request_timeout_s,
        )

    @hookimpl
    async def startup(self, host: Any) -> None:
        """The account's stream names markets by their native symbols."""
        await self.markets.all()

    @hookimpl
    async def shutdown(self, host: Any) -> None:
        await self.http.aclose()

    def command_lifetime_s(self, market: Market) -> float:
        return (WINDOW_MS + 500) / 1000

    def by_native(self, native: str) -> Market:
        for product in self.products:
            if market := self.markets.peek_native(product, native):
                return market
        raise KeyError(native)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def ask(self, path: str, credentials: Any = None, **query: Any) -> Any:
        text = "&".join(f"{name}={quote(str(value))}" for name, value in query.items() if value is not None)
        request = Request("GET", path, text)
        return decode((await self.http.send(request, credentials and self.sign(credentials))).body)

    async def tell(self, market: Market, operation: str, path: str, credentials: Any, body: Any, **ids: Any) -> Any:
        request = Request("POST", path, body=json.dumps(body).encode())
        sign = self.sign(credentials)
        answer = await send_command(self.http, request, sign, market=market.symbol, operation=operation, **ids)
        return decode(answer.body)

    def sign(self, credentials: Any) -> Any:
        key = credentials.key_for("spot")

        def signed(request: Request, now_ms: int) -> Request:
            target = f"{request.path}?{request.query}" if request.query else request.path
            text = f"{now_ms}{request.method}{target}{request.body.decode()}"
            headers = {
                "x-key": key.key.get_secret_value(),
                "x-time": str(now_ms),
                "x-sign": signature(key.secret.get_secret_value(), text),
            }
            return msgspec.structs.replace(request, headers=headers)

        return signed

    # -- rows to models -----------------------------------------------------------------------------------------------

    def order_of(self, market: Market, row: Any) -> Order:
        amount, filled = Decimal(row["amount"]), Decimal(row["filled"])
        price = Decimal(row["price"])
        average = None if row["average"] is None else Decimal(row["average"])
        amounts = {"quantity": amount, "filled_quantity": filled}
        if market.contract_size is not None:
            amounts = {
                "contracts": amount,
                "filled_contracts": filled,
                "quantity": market.base_quantity(amount, average or price),
                "filled_quantity": market.base_quantity(filled, average or price),
            }
        return Order(
            id=str(row["order"]),
            client_order_id=row["client"],
            market=market.symbol,
            side=Side(row["side"]),
            type="LIMIT",
            price=price,
            average_price=average,
            status=row["status"],
            post_only=row["postOnly"],
            created_time=row["created"],
            updated_time=row["updated"],
            **amounts,
        )

    def fill_of(self, market: Market, row: Any) -> Fill:
        price, amount = Decimal(row["price"]), Decimal(row["amount"])
        return Fill(
            id=str(row["id"]),
            order_id=str(row["order"]),
            market=market.symbol,
            side=Side(row["side"]),
            price=price,
            quantity=market.base_quantity(amount, price),
            contracts=None if market.contract_size is None else amount,
            fee=Decimal(row["fee"]),
            fee_asset=row["feeAsset"],
            liquidity=row["liquidity"],
            time=row["time"],
        )

    def position_of(self, market: Market, row: Any) -> Position:
        amount, mark = Decimal(row["amount"]), Decimal(row["mark"])
        return Position(
            market=market.symbol,
            side="SHORT" if amount < 0 else "LONG",
            quantity=market.base_quantity(abs(amount), mark),
            contracts=abs(amount),
            entry_price=Decimal(row["entry"]),
            mark_price=mark,
        )

    # -- hooks --------------------------------------------------------------------------------------------------------

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        return [Market.model_validate(row) for row in await self.ask("/markets")]

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        answer = await self.ask("/book", market=market.native_symbol, depth=depth)
        session = TinySession(self.feed, self.feed.endpoint(_PUBLIC), None)
        bids, asks = (session.levels(market, answer[side]) for side in ("bids", "asks"))
        return Orderbook(market.symbol, answer["seq"], bids, asks, answer["time"], self.clock.wall_ns())

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Any) -> Order:
        if order.type != "LIMIT":
            raise InvalidOrder("only LIMIT orders", exchange=self.code, rule="not-supported")
        name = order.client_order_id
        body = {
            "market": market.native_symbol,
            "side": order.side,
            "price": str(order.price),
            "amount": str(native_quantity(market, order)),
            "client": name,
            "postOnly": order.post_only,
            "ioc": order.time_in_force == "IOC",
        }
        row = await self.tell(market, "place_order", "/orders", credentials, body, client_order_id=name)
        return self.order_of(market, row)

    @hookimpl
    async def get_order(self, market: Market, ref: Any, credentials: Any) -> Order:
        row = await self.ask(
            "/order", credentials, market=market.native_symbol, order=ref.id, client=ref.client_order_id
        )
        return self.order_of(market, row)

    @hookimpl
    async def cancel_order(self, market: Market, ref: Any, credentials: Any) -> Order:
        body = {"market": market.native_symbol, "order": ref.id, "client": ref.client_order_id}
        ids = {"client_order_id": ref.client_order_id, "order_id": ref.id}
        return self.order_of(market, await self.tell(market, "cancel_order", "/cancel", credentials, body, **ids))

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Any) -> Sequence[Order]:
        rows = await self.ask("/orders", credentials, market=market and market.native_symbol)
        return [self.order_of(self.by_native(row["market"]), row) for row in rows]

    @hookimpl
    async def list_fills(self, market: Market | None, since: int | None, credentials: Any) -> Sequence[Fill]:
        rows = await self.ask("/fills", credentials, market=market and market.native_symbol, since=since)
        return [self.fill_of(self.by_native(row["market"]), row) for row in rows]

    @hookimpl
    async def get_balances(self, credentials: Any) -> Sequence[Balance]:
        return [Balance.model_validate(row) for row in await self.ask("/balances", credentials)]

    @hookimpl
    async def get_positions(self, credentials: Any) -> Sequence[Position]:
        rows = await self.ask("/positions", credentials)
        return [self.position_of(self.by_native(row["market"]), row) for row in rows]

    @hookimpl
    async def resolve_order(self, market: Market, client_order_id: str, since: int, credentials: Any) -> Order | bool:
        too_late = self.clock.wall_ns() // 1_000_000 > since + WINDOW_MS + 500
        try:
            row = await self.ask("/order", credentials, market=market.native_symbol, client=client_order_id)
        except OrderNotFound:
            return not too_late
        return self.order_of(market, row)


class _Public:
    data_type = DataType.ORDERBOOK
    credentials = None


_PUBLIC: Any = _Public()
