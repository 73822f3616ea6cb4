"""The private stream of unified accounts: orders, fills, balances, positions (docs-new, "Unified Trading Account /
Private Channels").

The greeting comes first, then the log-in, then subscriptions. Keys are short, and some differ by their case only.
Nothing is told on subscribing; what stands is asked for by REST.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from astra.errors import AuthenticationError
from astra.models.accounts import AccountEvent
from astra.models.credentials import ApiKey
from astra.models.markets import Market
from astra.models.orders import OrderStatus
from astra.streams.accounts import LoginSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides
from astra_kucoin.feed.markets import WELCOME
from astra_kucoin.settings import FUTURES, SPOT
from astra_kucoin.signing import login
from astra_kucoin.trading.unified_rows import TRADE_TYPES, TRIGGERED, BalanceRow, FillRow, HeldRow, OrderRow

logger = logging.getLogger(__name__)
LOGIN_ID: Final = "login"
_MAX_REPORTED: Final = 1000
CHANNELS: Mapping[str, Sequence[tuple[str, str]]] = {
    SPOT: (("orderAll", "tradeType"), ("execution", "tradeType")),
    FUTURES: (("orderAll", "tradeType"), ("execution", "tradeType"), ("positionAll", "tradeType")),
}
"""Product -> (channel, the parameter that says UNIFIED)."""
WALLET: Final = ("balance", "accountType")
"""The same of the wallet, which one side tells."""

ORDER: Final[Mapping[str, str]] = {
    "oi": "orderId",
    "s": "symbol",
    "oT": "orderType",
    "S": "side",
    "q": "size",
    "os": "status",
    "qU": "sizeUnit",
    "ci": "clientOid",
    "p": "price",
    "fS": "filledSize",
    "aP": "avgPrice",
    "tIF": "timeInForce",
    "pO": "postOnly",
    "rO": "reduceOnly",
    "cR": "cancelReason",
    "tD": "triggerDirection",
    "tP": "triggerPrice",
    "O": "orderTime",
    "U": "updatedTime",
}
"""The stream's keys and those of REST."""
FILL: Final[Mapping[str, str]] = {
    "s": "symbol",
    "oi": "orderId",
    "ti": "tradeId",
    "S": "side",
    "p": "price",
    "q": "size",
    "E": "executionTime",
    "f": "fee",
    "fC": "feeCurrency",
    "lR": "liquidityRole",
    "ci": "clientOid",
}
BALANCE: Final[Mapping[str, str]] = {
    "c": "currency",
    "b": "balance",
    "a": "available",
    "h": "hold",
    "l": "liability",
}
POSITION: Final[Mapping[str, str]] = {
    "s": "symbol",
    "q": "size",
    "eP": "entryPrice",
    "mP": "markPrice",
    "lP": "liquidationPrice",
    "uPL": "unrealizedPnL",
    "l": "leverage",
    "mM": "marginMode",
}


class _Frame(msgspec.Struct):
    """Any frame."""

    id: str | int = ""
    message: str = ""
    reason: str = ""
    result: bool | str | None = None
    type: str = ""
    op: str = ""
    push: str = msgspec.field(name="T", default="")
    d: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def accepted(self) -> bool:
        return self.result is True or self.result == "true"


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_keys = msgspec.json.Decoder(dict[str, str | int | bool | None]).decode
R = TypeVar("R", OrderRow, FillRow, BalanceRow, HeldRow)


def read(kind: type[R], names: Mapping[str, str], keys: Mapping[str, Any]) -> R:
    """A frame's data as the row that REST would tell."""
    return msgspec.convert({long: keys[short] for short, long in names.items() if short in keys}, kind)


class UnifiedAccountSession(LoginSession):
    """One product of a unified account on one connection; `tells_wallet`: and the account's wallet."""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        product: str,
        market_of: MarketOf,
        key: ApiKey,
        *,
        tells_wallet: bool,
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._product = product
        self._channels = (*CHANNELS[product], WALLET) if tells_wallet else CHANNELS[product]
        self._key = key
        self._now_ms = 0
        self._last_id = 0
        self._sides = NetSides()

    # -- out ----------------------------------------------------------------------------------------------------

    def opened(self, now_ms: int) -> Iterable[Frame]:
        """The log-in waits for the greeting, which comes at once."""
        self._now_ms = now_ms
        return ()

    def subscriptions(self) -> Mapping[str, Frame]:
        return dict(self._frame("subscribe", *names) for names in self._channels)

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [self._frame("unsubscribe", *names)[1] for names in self._channels]

    def _frame(self, action: str, channel: str, kind: str) -> tuple[str, str]:
        """(id, frame)"""
        self._last_id += 1
        ident = str(self._last_id)
        return ident, msgspec.json.encode({"id": ident, "action": action, "channel": channel, kind: "UNIFIED"}).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode_frame(payload)
        if frame.push:
            if self._input is not None:
                events = list(self._events(frame.push.partition(".")[0], frame.d))
                if events:
                    self._input.events(events)
        elif frame.message == WELCOME:
            self.outlet.send(login(self._key, self._now_ms, LOGIN_ID))
        elif frame.result is not None:
            self._answered(frame)
        elif frame.type != "pong" and frame.op != "pong":
            raise ValueError("a frame has a shape that is not documented")

    def _answered(self, frame: _Frame) -> None:
        why = frame.message or frame.reason or "no reason given"
        ident = str(frame.id)
        if ident == LOGIN_ID:
            error = AuthenticationError(f"the account stream's log-in was refused: {why}", exchange="KUCOIN")
            self.login_answered(None if frame.accepted else error)
        elif ident in self._unanswered and self._channel is not None:
            if frame.accepted:
                self.subscribed(ident)
            else:
                self.outlet.refused(self._channel, f"the account stream was refused: {why}", final=False)

    def market(self, native_symbol: str) -> Market | None:
        """None for the other product's: spot's symbols have a hyphen."""
        return super().market(native_symbol) if ("-" in native_symbol) is (self._product == SPOT) else None

    def _events(self, channel: str, data: msgspec.Raw) -> Iterator[AccountEvent]:
        keys = _decode_keys(data)
        if channel == "orderAll":
            if keys.get("tT") == TRADE_TYPES[self._product]:
                yield from self._order_events(read(OrderRow, ORDER, keys))
        elif channel == "execution":
            fill = read(FillRow, FILL, keys)
            market = self.market(fill.symbol)
            if market is not None:
                yield fill.fill(market)
        elif channel == "balance":
            yield read(BalanceRow, BALANCE, keys).as_balance()
        elif channel == "positionAll":
            held = read(HeldRow, POSITION, keys)
            market = self.market(held.symbol)
            if market is not None:
                yield from self._sides.closed(market, held.lots)
                if held.lots:
                    yield held.position(market)

    def _order_events(self, row: OrderRow) -> Iterator[AccountEvent]:
        market = self.market(row.symbol)
        if market is None:
            return
        order = row.order(market)
        if row.status == TRIGGERED and not row.client_oid:
            # It goes on as another order, which nothing joins to this one.
            order = order.model_copy(update={"status": OrderStatus.EXPIRED})
        yield order
