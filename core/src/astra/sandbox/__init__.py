"""The interface between a venue's `sandbox.py` (its native protocol, seen from the venue's side, sans-I/O) and the
matching engine and loopback server of `astra-sandbox`.

A `SandboxVenue` is handed requests, WebSocket frames and engine events, and answers with native bytes. It touches no
socket, clock or task. The `Exchange` (the matching engine) and the `Clock` are handed in. The server owns sockets,
faults and pacing.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, ClassVar, Protocol

import msgspec

from astra.models.markets import Market
from astra.models.orders import Liquidity, OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.protocols import Clock
from astra.models.trades import Side


class Amount(msgspec.Struct, frozen=True):
    """A price and the total quantity resting there, in the market's native unit (base units, or contracts)."""

    price: Decimal
    quantity: Decimal


class Reject(Exception):
    """The engine refuses a command; `rule` says why in engine terms, the protocol turns it into the venue's body.

    Rules: insufficient-funds, post-only, fok, duplicate-client-order-id, order-not-found, market-not-found,
    market-closed, tick-size, lot-size, min-quantity, max-quantity, min-notional, reduce-only, stop-would-trigger,
    not-supported, invalid.

    A price outside the market's limits is `tick-size`, a notional outside them `min-notional`. The engine itself
    accepts a FOK order that cannot be filled and lets it expire at once (`EngineOrder.reason` "fok"), as it does with
    IOC remainders ("ioc"), market orders that meet an empty book ("no-liquidity") and takers that would meet an order
    of their own account ("self-trade"); a post-only order that would take is refused (`post-only`).
    """

    def __init__(self, rule: str, message: str = "") -> None:
        super().__init__(message or rule)
        self.rule = rule


class NewOrder(msgspec.Struct, frozen=True):
    """A command to the engine. Quantities in the market's native unit; `quote_quantity` for market buys by amount."""

    market: str
    """Astra symbol of the market."""
    side: Side
    type: OrderType
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    reduce_only: bool = False
    position_side: PositionSide | None = None
    """Hedge mode: which position the order opens or closes."""
    client_order_id: str | None = None
    expire_time: int | None = None
    tag: Any = None
    """Whatever the protocol wants to find again on the order."""


class EngineFill(msgspec.Struct, frozen=True):
    """One side of one match. `quantity` in native units; `fee` positive when paid."""

    trade_id: int
    order_id: int
    account: str
    market: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: Liquidity
    time: int
    realized_pnl: Decimal = Decimal(0)


class EngineOrder(msgspec.Struct):
    """An order in the engine (a live record: copy what must not change)."""

    id: int
    account: str
    market: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    quote_quantity: Decimal | None
    time_in_force: TimeInForce
    post_only: bool
    reduce_only: bool
    position_side: PositionSide | None
    client_order_id: str | None
    created: int
    updated: int
    status: OrderStatus = OrderStatus.NEW
    filled: Decimal = Decimal(0)
    filled_quote: Decimal = Decimal(0)
    """Sum of price x quantity over the fills."""
    triggered: bool = False
    expire_time: int | None = None
    reason: str | None = None
    """Why it ended without being filled (post-only, ioc, fok, self-trade, expired, ...)."""
    tag: Any = None
    fills: list[EngineFill] = msgspec.field(default_factory=list)

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal | None:
        return self.filled_quote / self.filled if self.filled else None


class EngineBalance(msgspec.Struct):
    """What an account holds of an asset in one wallet."""

    wallet: str
    asset: str
    total: Decimal
    locked: Decimal

    @property
    def available(self) -> Decimal:
        return self.total - self.locked


class EnginePosition(msgspec.Struct):
    """A position; `quantity` signed in native units (short negative). `side` None in one-way mode."""

    market: str
    side: PositionSide | None
    quantity: Decimal
    entry_price: Decimal
    realized_pnl: Decimal = Decimal(0)


class Account(msgspec.Struct):
    """An account of the sandbox with its (single) key."""

    name: str
    key: str
    secret: str
    passphrase: str | None = None
    hedge_mode: bool = False
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    """Leverage, margin mode and whatever else a protocol keeps per account. The engine reads one entry:
    `settings["leverage"]`, a mapping market symbol -> leverage, for initial margin (20 where it says nothing)."""


class PublicTrade(msgspec.Struct, frozen=True):
    """A match as the public sees it: `side` is the taker's; `quantity` in native units. `id` counts per market."""

    id: int
    market: str
    price: Decimal
    quantity: Decimal
    side: Side
    time: int
    maker_order_id: int
    taker_order_id: int


class BookChange(msgspec.Struct, frozen=True):
    """The book of `market` changed: new totals at the prices that changed (0: level gone).

    `id` grows by one a change.
    """

    market: str
    id: int
    bids: Sequence[Amount]
    asks: Sequence[Amount]
    time: int


class OrderEvent(msgspec.Struct, frozen=True):
    """Something happened to an order: NEW, TRADE, CANCELED, EXPIRED, AMENDED, TRIGGERED (`fill` with TRADE).

    `order` is a copy: the order as it stood at that moment.
    """

    kind: str
    order: EngineOrder
    time: int
    fill: EngineFill | None = None


class BalanceEvent(msgspec.Struct, frozen=True):
    account: str
    balance: EngineBalance
    time: int


class PositionEvent(msgspec.Struct, frozen=True):
    account: str
    position: EnginePosition
    time: int


EngineEvent = PublicTrade | BookChange | OrderEvent | BalanceEvent | PositionEvent


class Exchange(Protocol):
    """The matching engine as a protocol sees it. Commands take effect at once and emit their events in order."""

    @property
    def markets(self) -> Mapping[str, Market]:
        """Symbol -> market, in the order of listing."""
        ...

    def subscribe(self, listener: Callable[[EngineEvent], None]) -> None:
        """Call `listener` with every event from now on.

        Events come when a command is complete, in order; one command gives at most one `BookChange`, its last event.
        A listener may look, but not place, amend or cancel.
        """
        ...

    def account_of(self, key: str) -> Account | None: ...

    def wallet_of(self, market: str) -> str:
        """The wallet whose balance pays for orders in the market."""
        ...

    def depth(self, market: str, levels: int) -> tuple[int, Sequence[Amount], Sequence[Amount]]:
        """(id of the last change, bids best first, asks best first)."""
        ...

    def trades(self, market: str, *, after_id: int | None = None, limit: int = 500) -> Sequence[PublicTrade]:
        """Recent trades, oldest first: the last `limit`, or the first `limit` after `after_id`."""
        ...

    def mark_price(self, market: str) -> Decimal: ...

    def place(self, account: Account, order: NewOrder) -> EngineOrder:
        """Raises `Reject`. The returned order shows what happened at once (fills, expiry)."""
        ...

    def amend(
        self, account: Account, order_id: int, *, price: Decimal | None, quantity: Decimal | None
    ) -> EngineOrder: ...

    def cancel(self, account: Account, order_id: int) -> EngineOrder: ...

    def fee_rates(self, market: str) -> tuple[Decimal, Decimal]:
        """(maker, taker) as fractions of the value traded."""
        ...

    def order(
        self,
        account: Account,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        market: str | None = None,
    ) -> EngineOrder:
        """Any order of the account (in `market`, when given), newest first among equal client ids.

        Client ids are unique among the open orders of an account in one market. Raises `Reject("order-not-found")`.
        """
        ...

    def open_orders(self, account: Account, market: str | None = None) -> Sequence[EngineOrder]: ...

    def orders(self, account: Account, market: str | None = None) -> Sequence[EngineOrder]:
        """All orders, oldest first."""
        ...

    def fills(self, account: Account, market: str | None = None) -> Sequence[EngineFill]:
        """Own fills, oldest first."""
        ...

    def balances(self, account: Account) -> Sequence[EngineBalance]: ...

    def positions(self, account: Account) -> Sequence[EnginePosition]: ...


class HttpRequest(msgspec.Struct, frozen=True):
    """A request as it came in. `target` is the raw path with query; `headers` lower-case names."""

    host: str
    """Which of the venue's hosts was asked (a name of `SandboxVenue.hosts`)."""
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    client: str = "127.0.0.1"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


class HttpResponse(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


class Link(Protocol):
    """The server's side of one WebSocket connection, handed to the session."""

    def send(self, payload: str | bytes) -> None:
        """Queue a text (str) or binary frame."""
        ...

    def ping(self, payload: bytes) -> None: ...

    def close(self, code: int = 1000, reason: str = "") -> None: ...


class SandboxSession(abc.ABC):
    """One client's WebSocket connection, in the venue's protocol."""

    @abc.abstractmethod
    def received(self, payload: str | bytes) -> None:
        """A frame from the client."""

    def pong(self, payload: bytes) -> None:  # noqa: B027
        """The client answered a ping (pings from the client are answered by the server itself)."""

    def ping(self, payload: bytes) -> None:  # noqa: B027
        """The client sent a ping, which the server has answered."""

    def tick(self, now_ms: int) -> None:  # noqa: B027
        """Called about every 50 ms: send what is due (batched diffs, server pings)."""

    def closed(self) -> None:  # noqa: B027
        """The connection is gone; forget it."""


class SandboxVenue(abc.ABC):
    """A venue's native protocol from the other side. Made with the engine and a clock."""

    exchange: ClassVar[str]
    hosts: ClassVar[Mapping[str, str]]
    """The venue's hosts by the name of the setting that points at them -> "http" or "ws". The server opens one
    loopback port for each and hands the resulting settings to the venue plugin."""
    fees: ClassVar[Mapping[str, tuple[Decimal, Decimal]]] = {}
    """Product -> (maker, taker) fee rates; the engine's defaults for products left out."""
    wallets: ClassVar[Mapping[str, str]] = {}
    """Product -> wallet that pays for it. Left out: "spot" for spot markets, else a wallet named as the product."""

    quote_fees: ClassVar[Collection[str]] = ()
    """Spot products whose fees are always taken in the quote asset, on top of what a buy costs. Elsewhere the fee is
    taken from what is received."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Symbol -> the market, listed before it, whose book it shares: orders of both meet, each settled in its own quote
    asset. Public events (`BookChange`, `PublicTrade`) name the latter; orders, fills and balances what they were placed
    in."""

    addresses: Mapping[str, str]
    """Host -> the URL where the server serves it (`ws://127.0.0.1:40123`): for venues that tell their clients where to
    connect. Empty until the server has its ports."""

    def __init__(self, engine: Exchange, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.addresses = {}

    @classmethod
    def wallet_of(cls, market: Market) -> str | None:
        """The wallet that pays for orders in the market (None: the engine's default for its product). Goes by
        `wallets`; a venue overrides it where a product has several."""
        return cls.wallets.get(market.product)

    @classmethod
    @abc.abstractmethod
    def default_markets(cls, count: int | None = None) -> Iterable[Market]:
        """The markets that the sandbox lists: some of every product (`count`: this many in all)."""

    @classmethod
    def make_key(cls, random: Random) -> tuple[str, str, str | None]:
        """Key, secret and passphrase (None: the venue has none) of a new account, in the venue's format."""
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(random.choices(letters, k=64)), "".join(random.choices(letters, k=64)), None

    @abc.abstractmethod
    def http(self, request: HttpRequest) -> HttpResponse:
        """Answer a REST request, authentication, limits and errors included."""

    @abc.abstractmethod
    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Link) -> SandboxSession | HttpResponse:
        """A client wants a WebSocket: a session, or the HTTP answer that refuses it."""

    def mutating(self, request: HttpRequest) -> bool:
        """Does the request place, amend or cancel? (Faults of lost answers and late delivery concern those.)"""
        return request.method in ("POST", "PUT", "DELETE")

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        """The venue's 429 answer, for injected faults."""
        return HttpResponse(status=429, body=b"", headers={"retry-after": str(retry_after_s)})

    def server_error(self, request: HttpRequest) -> HttpResponse:
        """The venue's 5xx answer, for injected faults."""
        return HttpResponse(status=503, body=b"")


class Faults(msgspec.Struct):
    """Faults that the server injects while set. Chances are per frame or request, drawn from the seeded generator.

    Frame faults concern WebSocket data frames that the venue sends on its own accord. Request faults concern every
    HTTP request, WebSocket handshakes included; `lost_answer`, `server_error_after` and `late_request` only those that
    `SandboxVenue.mutating` names.
    """

    drop_frame: float = 0.0
    lose_next_with: str = ""
    """The next data frame with this text in it (of a compressed one: in what is compressed) is dropped. Emptied by the
    server when that has happened: once per setting."""
    repeat_frame: float = 0.0
    reorder_frame: float = 0.0
    """The frame is sent after the one that follows it (or after a second, if none follows)."""
    cut_connection: float = 0.0
    """The WebSocket is reset in the middle of a frame."""
    stall_s: float = 0.0
    """All frames of all connections are held back for so long, then sent in order. Set back to 0 by the server when
    the stall begins: once per setting."""
    reset_request: float = 0.0
    """The connection is reset before the venue acted."""
    lost_answer: float = 0.0
    """The venue acted, the connection is reset before its answer."""
    server_error: float = 0.0
    """5xx without effect."""
    server_error_after: float = 0.0
    """The venue acted, and answers 5xx."""
    rate_limited: float = 0.0
    """429 without effect."""
    late_request: float = 0.0
    """The client sees a reset at once; the venue receives the request `late_s` later."""
    late_s: float = 1.0
    clock_skew_ms: int = 0
    """Added to the venue's clock."""
    spare_answers: bool = True
    """Frames that a session sends while it handles a frame of the client (acknowledgements, answers) are exempt from
    the frame faults. False: they suffer them too."""
