"""The derivatives' private stream: fills, open orders, positions, balances (WebSocket v1).

`open_orders` tells of orders that rest, with what REMAINS of them as `qty`; the end of one may be told by its ids
alone. Orders that never rest are told by their fills only. Document: docs.kraken.com futures-api/websocket "Challenge",
"Fills", "Open Orders", "Open Positions", "Balances".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from astra.errors import AuthenticationError
from astra.models.accounts import AccountEvent, Balance, Position
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.rest import Recent
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import make_fill, make_order, make_position, status_of
from astra_kraken.feed.accounts import REMEMBERED_ORDERS
from astra_kraken.markets import asset_name, native_symbol
from astra_kraken.rest import Asked
from astra_kraken.settings import FLEX_WALLET
from astra_kraken.trading.terms import (
    TRIGGERED_REASON,
    average_fill,
    derivatives_type,
    gone_status,
    maker_of,
)

logger = logging.getLogger(__name__)

FEEDS = ("fills", "open_orders", "open_positions", "balances")
"""Fills first: an order's average price is made of them."""
CASH_WALLET = "cash"
_ZERO = Decimal(0)


class OrderRow(msgspec.Struct):
    instrument: str
    order_id: str
    time: int
    last_update_time: int
    qty: Decimal
    filled: Decimal
    type: str
    direction: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    cli_ord_id: str | None = None
    reduce_only: bool = False

    def order(self, market: Market, status: OrderStatus, average: Decimal | None) -> Order:
        price, trigger = self.limit_price or None, self.stop_price or None
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.cli_ord_id,
            side=Side.SELL if self.direction else Side.BUY,
            kind=derivatives_type(self.type, price, trigger),
            status=status,
            price=price,
            stop_price=trigger,
            total=self.qty + self.filled,
            filled=self.filled,
            average=average,
            reduce_only=self.reduce_only,
            created=self.time,
            updated=self.last_update_time,
        )


class OrdersSnapshot(msgspec.Struct, tag_field="feed", tag="open_orders_snapshot"):
    orders: list[OrderRow]


class OrderChange(msgspec.Struct, tag_field="feed", tag="open_orders"):
    """An order, or the ids of one that has gone."""

    is_cancel: bool
    reason: str | None = None
    order: OrderRow | None = None
    order_id: str | None = None
    cli_ord_id: str | None = None


class FillRow(msgspec.Struct):
    instrument: str
    time: int
    price: Decimal
    buy: bool
    qty: Decimal
    order_id: str
    fill_id: str
    fill_type: str = ""
    remaining_order_qty: Decimal | None = None
    cli_ord_id: str | None = None
    fee_paid: Decimal | None = None
    fee_currency: str | None = None
    order_type: str = ""

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.fill_id,
            order_id=self.order_id,
            client_order_id=self.cli_ord_id,
            side=Side.BUY if self.buy else Side.SELL,
            price=self.price,
            size=self.qty,
            fee=self.fee_paid,
            fee_asset=None if self.fee_currency is None else asset_name(self.fee_currency.upper()),
            maker=maker_of(self.fill_type),
            time=self.time,
        )


class FillsSnapshot(msgspec.Struct, tag_field="feed", tag="fills_snapshot"):
    """The last hundred: after a reconnect those that were missed are among them, with their fees."""

    fills: list[FillRow]


class Fills(msgspec.Struct, tag_field="feed", tag="fills"):
    fills: list[FillRow]


class PositionRow(msgspec.Struct):
    instrument: str
    balance: Decimal
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    pnl: Decimal | None = None

    def position(self, market: Market) -> Position:
        return make_position(
            market,
            PositionSide.SHORT if self.balance < 0 else PositionSide.LONG,
            self.balance,
            entry=self.entry_price,
            mark=self.mark_price,
            unrealized_pnl=self.pnl,
        )


class Positions(msgspec.Struct, tag_field="feed", tag="open_positions"):
    """All positions that there are, now and then without any change but of their prices."""

    positions: list[PositionRow]


class _Single(msgspec.Struct):
    unit: str
    balance: Decimal
    available: Decimal | None = None


class _Currency(msgspec.Struct):
    quantity: Decimal
    available: Decimal | None = None


class _Flex(msgspec.Struct):
    currencies: dict[str, _Currency] = {}


class _Wallets(msgspec.Struct):
    event: str = ""
    """Acknowledgements name the feed, too: those have an event."""
    holding: dict[str, Decimal] = {}
    futures: dict[str, _Single] = {}
    flex_futures: _Flex | None = None

    def balances(self) -> Iterator[Balance]:
        for code, total in self.holding.items():
            yield Balance(asset=asset_name(code.upper()), wallet=CASH_WALLET, total=total)
        for name, single in self.futures.items():
            asset = asset_name(single.unit.upper())
            wallet = single_wallet(name)
            yield Balance(asset=asset, wallet=wallet, total=single.balance, available=single.available)
        for code, held in (self.flex_futures.currencies if self.flex_futures else {}).items():
            asset = asset_name(code.upper())
            yield Balance(asset=asset, wallet=FLEX_WALLET, total=held.quantity, available=held.available)


class BalancesSnapshot(_Wallets, tag_field="feed", tag="balances_snapshot"):
    pass


class BalancesChange(_Wallets, tag_field="feed", tag="balances"):
    pass


def single_wallet(name: str) -> str:
    """REST's name of a coin's margin account: the stream's `F-XBT:USD` is `fi_xbtusd` there."""
    return "fi_" + name.removeprefix("F-").replace(":", "").lower()


class _Uncommon(msgspec.Struct):
    event: str = ""
    feed: str = ""
    message: str = ""


_Frame = OrdersSnapshot | OrderChange | FillsSnapshot | Fills | Positions | BalancesSnapshot | BalancesChange
_decode = msgspec.json.Decoder(_Frame, strict=False).decode
_decode_uncommon = msgspec.json.Decoder(_Uncommon).decode
_KNOWN = frozenset(frame.__struct_config__.tag for frame in _Frame.__args__)


class DerivativesAccountSession(AccountSession):
    """Derivatives: a challenge is signed once, its answer goes with every subscription."""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        key: Callable[[Credentials], ApiKey],
        sign: Callable[[ApiKey, str], str],
        began: Recent[Channel, int],
        asked: Asked,
    ) -> None:
        """`began` keeps, over all connections, when each account's stream was subscribed first (venue time, ms);
        `asked` what was asked for from here."""
        super().__init__(endpoint, outlet, ticket, market_of)
        assert isinstance(endpoint.scope, Credentials)
        self._key = key(endpoint.scope)
        self._sign = sign
        self._account = endpoint.scope
        self._began = began
        self._asked = asked
        self._since = 0
        self._challenge: str | None = None
        self._unanswered: set[str] = set()
        self._orders: Recent[str, OrderRow] = Recent(REMEMBERED_ORDERS)
        self._fills: Recent[str, dict[str, tuple[Decimal, Decimal]]] = Recent(REMEMBERED_ORDERS)
        self._positions: dict[tuple[str, PositionSide], tuple[Decimal, Decimal | None]] = {}
        self._balances: dict[tuple[str, str], Balance] = {}

    # -- out ----------------------------------------------------------------------------------------------------

    def opened(self, now_ms: int) -> Iterable[Frame]:
        return [_text({"event": "challenge", "api_key": self._key.key.get_secret_value()})]

    @property
    def ready(self) -> bool:
        return self._challenge is not None

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        (channel,) = channels
        self.join(channels)
        self._unanswered = set(FEEDS)
        self._since = self._began.made(channel, lambda: now_ms)
        try:
            return [self._frame("subscribe", feed) for feed in FEEDS]
        except AuthenticationError as error:  # a secret that is none
            self.outlet.refused(channel, error)
            return ()

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [self._frame("unsubscribe", feed) for feed in FEEDS]

    def _frame(self, event: str, feed: str) -> Frame:
        assert self._challenge is not None
        return _text(
            {
                "event": event,
                "feed": feed,
                "api_key": self._key.key.get_secret_value(),
                "original_challenge": self._challenge,
                "signed_challenge": self._sign(self._key, self._challenge),
            }
        )

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode(payload)
        except msgspec.ValidationError:
            self._uncommon(payload)
            return
        if isinstance(frame, _Wallets) and frame.event:
            self._uncommon(payload)
        elif self._input is not None:
            self.tell(self._events(frame))

    def _uncommon(self, payload: Payload) -> None:
        frame = _decode_uncommon(payload)
        if frame.event == "challenge" and frame.message:
            self._challenge = frame.message
            self.outlet.acknowledged(())  # has the connection look whether it may subscribe now
        elif frame.event == "subscribed":
            self._unanswered.discard(frame.feed)
            if not self._unanswered and self._channel is not None:
                self.outlet.acknowledged([self._channel])
        elif frame.event in ("error", "alert", "subscribed_failed"):
            self._refused(frame.message or frame.event)
        elif not frame.event and frame.feed in _KNOWN:
            raise ValueError(f"a {frame.feed} frame has another shape than documented")

    def _refused(self, message: str) -> None:
        if self._channel is None or not self._unanswered:
            logger.warning("%s: the venue says: %s", self.endpoint.name, message)
            if self._challenge is None:
                self.outlet.reconnect(f"the challenge was refused: {message}")
            return
        reason = f"the venue refused the account's stream: {message}"
        self.outlet.refused(self._channel, AuthenticationError(reason, exchange="KRAKEN", code=message))

    def _events(self, frame: _Frame) -> Iterator[AccountEvent]:
        if isinstance(frame, FillsSnapshot | Fills):
            for row in frame.fills:
                yield from self._fill(row, live=isinstance(frame, Fills))
        elif isinstance(frame, OrdersSnapshot):
            for order in frame.orders:
                yield from self._shown(order, None)
        elif isinstance(frame, OrderChange):
            yield from self._changed(frame)
        elif isinstance(frame, Positions):
            yield from self._held(frame.positions)
        else:
            for balance in frame.balances():
                if self._balances.get((balance.wallet, balance.asset)) != balance:
                    self._balances[balance.wallet, balance.asset] = balance
                    yield balance

    def _fill(self, row: FillRow, *, live: bool) -> Iterator[AccountEvent]:
        market = self.market(native_symbol(row.instrument))
        if market is None:
            return
        self._fills.made(row.order_id, dict)[row.fill_id] = (row.price, row.qty)
        if row.time < self._since:
            return  # of the time before the account's stream
        yield row.fill(market)
        if live and row.remaining_order_qty == 0 and self._orders.get(row.order_id) is None:
            yield self._never_rested(row, market)

    def _never_rested(self, row: FillRow, market: Market) -> Order:
        """An order that was filled at once: nothing but its fills tells of it, and what was asked for."""
        asked = self._asked.get((self._account, row.cli_ord_id)) if row.cli_ord_id else None
        at_market = row.order_type == "market" if asked is None else not asked.type.has_price
        fills = list((self._fills.get(row.order_id) or {}).values())
        filled = sum((quantity for _, quantity in fills), _ZERO)
        return make_order(
            market,
            order_id=row.order_id,
            client_order_id=row.cli_ord_id,
            side=Side.BUY if row.buy else Side.SELL,
            kind=OrderType.MARKET if at_market else OrderType.LIMIT,
            status=OrderStatus.FILLED,
            price=None if asked is None else asked.price,
            time_in_force=None if asked is None else asked.time_in_force,
            reduce_only=asked is not None and asked.reduce_only,
            total=filled,
            filled=filled,
            average=average_fill(market, fills),
            updated=row.time,
        )

    def _changed(self, change: OrderChange) -> Iterator[AccountEvent]:
        row = change.order
        if row is None:
            row = self._orders.get(change.order_id or "")
            if row is None:
                self.interrupted(f"the order {change.order_id} has gone ({change.reason}) that was never shown")
                return
        if change.is_cancel and change.reason == TRIGGERED_REASON:
            return  # what was a stop lives on
        ended = gone_status(change.reason, row.filled) if change.is_cancel else None
        yield from self._shown(row, ended)

    def _shown(self, row: OrderRow, ended: OrderStatus | None) -> Iterator[AccountEvent]:
        self._orders[row.order_id] = row
        market = self.market(native_symbol(row.instrument))
        if market is None:
            return
        fills = list((self._fills.get(row.order_id) or {}).values())
        known = sum((quantity for _, quantity in fills), _ZERO) == row.filled
        average = average_fill(market, fills) if known else None
        yield row.order(market, ended or status_of(row.filled, row.qty + row.filled), average)

    def _held(self, rows: Sequence[PositionRow]) -> Iterator[AccountEvent]:
        """Positions that changed, and those that are gone. (Mark prices move all the time: they are not told.)"""
        now: dict[tuple[str, PositionSide], tuple[Decimal, Decimal | None]] = {}
        for row in rows:
            market = self.market(native_symbol(row.instrument))
            if market is None or not row.balance:
                continue
            position = row.position(market)
            key = (market.native_symbol, position.side)
            now[key] = (row.balance, row.entry_price)
            if self._positions.get(key) != now[key]:
                yield position
        for native, side in self._positions.keys() - now.keys():
            market = self.market(native)
            if market is not None:
                yield make_position(market, side, _ZERO)
        self._positions = now


def _text(frame: dict[str, str]) -> str:
    return msgspec.json.encode(frame).decode()
