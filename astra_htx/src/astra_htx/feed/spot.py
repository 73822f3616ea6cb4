"""The spot account's socket, `/ws/v2` (plain text): orders, fills with their fees, balances (API documentation,
"Subscribe Order Updates", "Subscribe Trade Details and Order Cancellation", "Subscribe Account Change")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from astra.models.accounts import AccountEvent, Balance
from astra.models.markets import Market
from astra.models.orders import Order, OrderRequest, OrderStatus
from astra.rest import Recent
from astra.streams.feed import Frame, Payload
from astra.trading.native import average_of
from astra_htx.errors import SPOT_SOCKET_CODES
from astra_htx.feed.accounts import PrivateSession
from astra_htx.feed.markets import unzipped
from astra_htx.settings import SPOT
from astra_htx.signing import spot_login
from astra_htx.trading.spot_rows import BUY_MARKET, Pushed, PushedBalance

ORDERS, CLEARING, BALANCES = "orders", "trade.clearing", "accounts.update"
TOPICS = (f"{ORDERS}#*", f"{CLEARING}#*#0", f"{BALANCES}#2")
OK = 200
REMEMBERED = 10_000
SentOf = Callable[[str], OrderRequest | Order | None]
"""Client order id -> a conditional order that this process sent under it, or asked for."""


class _Frame(msgspec.Struct):
    """Any frame. Pushes may lack `action`."""

    action: str = ""
    ch: str = ""
    code: int | None = None
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Ping(msgspec.Struct):
    ts: msgspec.Raw


_decode = msgspec.json.Decoder(_Frame).decode
_decode_ping = msgspec.json.Decoder(_Ping).decode
_decode_event = msgspec.json.Decoder(Pushed).decode
_decode_balance = msgspec.json.Decoder(PushedBalance).decode


class _Filled:
    """What was filled of an order whose every event was seen."""

    __slots__ = ("base", "quote")

    def __init__(self) -> None:
        self.base = self.quote = Decimal(0)


class SpotAccountSession(PrivateSession):
    """The ticket's value is the number of the account: the socket tells of margin accounts, too.

    `orders#` comes in the order in which things happened, but without fees; `trade.clearing` has them, later.
    """

    codes = SPOT_SOCKET_CODES

    def __init__(self, *connection: Any, sent_of: SentOf) -> None:
        super().__init__(*connection)
        self._sent_of = sent_of
        self._account = int(self.ticket.value) if self.ticket is not None and self.ticket.value else None
        self._filled: Recent[str, _Filled] = Recent(REMEMBERED)
        self._balances: dict[str, Balance] = {}

    def opened(self, now_ms: int) -> Iterable[Frame]:
        return [spot_login(self._key, self.host, self.path, now_ms)]

    def topics(self) -> Mapping[str, dict[str, Any]]:
        return {topic: {} for topic in TOPICS}

    def topic_frame(self, verb: str, topic: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"action": verb, "ch": topic}

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = _decode(unzipped(payload, self.endpoint.max_frame_bytes))
        if frame.action == "ping":
            stamp = bytes(_decode_ping(frame.data).ts).decode()
            self.outlet.send(f'{{"action":"pong","data":{{"ts":{stamp}}}}}', urgent=True)
        elif frame.action in ("", "push") and frame.code is None:
            self.tell(self._events(frame))
        else:
            error = None if frame.code in (None, OK) else self._error(str(frame.code), frame.message)
            if frame.ch == "auth":
                self._logged(error)
            elif frame.ch:
                self._answered(frame.action, frame.ch, error)
            elif error is not None:
                self.outlet.reconnect(str(error))

    def _events(self, frame: _Frame) -> Iterator[AccountEvent]:
        """The market is in the event: a channel's name ends in it, or in `*`."""
        kind = frame.ch.partition("#")[0]
        if kind == BALANCES:
            yield from self._balance(_decode_balance(frame.data))
        elif kind in (ORDERS, CLEARING):
            event = _decode_event(frame.data)
            other = self._account is not None and event.account_id not in (None, self._account)
            if other or event.is_on_margin:
                return
            market = self.market(event.symbol)
            if market is None:
                return
            if kind == CLEARING:
                if event.event_type == "trade":
                    yield event.fill(market)
            elif event.type:
                yield from self._order(market, event)
            else:
                yield from self._never_active(market, event)

    def _order(self, market: Market, event: Pushed) -> Iterator[AccountEvent]:
        """What was filled is told in the quote asset for orders by value: it is added up from the first event on.

        Whether a conditional order stops or takes a profit is what this process sent or saw; of any other order the
        venue is asked.
        """
        ident = str(event.order_id)
        if event.event_type == "creation":
            self._filled[ident] = _Filled()
        known = self._filled.get(ident)
        if event.event_type == "trade" and known is not None:
            size = Decimal(event.trade_volume)
            known.base += size
            known.quote += size * Decimal(event.trade_price)
        filled: Decimal | None = None
        if known is not None:
            filled = known.base
        elif event.type != BUY_MARKET and event.exec_amt:
            filled = Decimal(event.exec_amt)
        average = average_of(known.quote, known.base) if known is not None else None
        sent = self._sent_of(event.client_order_id) if event.is_vague and event.client_order_id else None
        if event.is_vague and sent is None:
            self.interrupted("a conditional order changed whose terms are not known here")
            return
        yield event.order(market, filled, average, None if sent is None else sent.type)

    def _never_active(self, market: Market, event: Pushed) -> Iterator[AccountEvent]:
        """A conditional order was refused when its time came (`trigger`), or canceled before (`deletion`): nothing but
        its client order id is said."""
        sent = self._sent_of(event.client_order_id) if event.client_order_id else None
        if sent is None:
            self.interrupted("a conditional order ended whose terms are not known here")
            return
        status = OrderStatus.REJECTED if event.event_type == "trigger" else OrderStatus.CANCELED
        yield Order(
            id=None,
            client_order_id=event.client_order_id,
            market=market.symbol,
            side=sent.side,
            type=sent.type,
            price=sent.price,
            stop_price=sent.stop_price,
            quantity=sent.quantity,
            status=status,
            updated_time=event.last_act_time,
        )

    def _balance(self, event: PushedBalance) -> Iterator[AccountEvent]:
        """Total and what is available come together, or in frames of their own."""
        if event.account_type != "trade" or (self._account is not None and event.account_id != self._account):
            return
        asset = event.currency.upper()
        known = self._balances.get(asset)
        total = Decimal(event.balance) if event.balance is not None else known.total if known else None
        available = Decimal(event.available) if event.available is not None else known.available if known else None
        if total is None:
            return  # the total follows
        locked = None if available is None else max(total - available, Decimal(0))
        self._balances[asset] = Balance(asset=asset, wallet=SPOT, total=total, available=available, locked=locked)
        yield self._balances[asset]
