"""Private streams: own orders, fills, balances and positions on the private path, conditional orders on the business
path (docs-v5, "WS / Order channel", "WS / Account channel", "WS / Positions channel", "WS / Algo orders channel")."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from astra.errors import AuthenticationError, VenueError
from astra.models.accounts import AccountEvent
from astra.models.credentials import ApiKey
from astra.rest import Recent
from astra.streams.accounts import LoginSession, MarketOf
from astra.streams.feed import AccountInput, Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides, margin_mode
from astra_okx.errors import CODES
from astra_okx.feed.markets import RESTARTS, Notice, Subject, decode_notice
from astra_okx.signing import login
from astra_okx.trading.rows import AlgoRow, BalanceRow, OrderRow, PositionRow

_PONG = b"pong"
ORDERS = "orders"
REMEMBERED_TRIGGERED = 10_000
CLOCK_CODES = frozenset({"60004", "60006"})
"""The time stamp of a log-in was refused."""
ON_CHANGE = '{"updateInterval": "0"}'
"""Balances and positions are pushed when they change, not every few seconds; a text within the JSON."""


class _Push(msgspec.Struct, rename={"subject": "arg"}):
    """A frame with data."""

    subject: Subject
    data: msgspec.Raw


class _Account(msgspec.Struct):
    details: list[BalanceRow] = []


_decode_push = msgspec.json.Decoder(_Push).decode
_decode_orders = msgspec.json.Decoder(list[OrderRow]).decode
_decode_accounts = msgspec.json.Decoder(list[_Account]).decode
_decode_positions = msgspec.json.Decoder(list[PositionRow]).decode
_decode_algos = msgspec.json.Decoder(list[AlgoRow]).decode


class Triggered:
    """What an account's two streams know together of conditional orders that were triggered. Each becomes an ordinary
    order, which the stream of orders tells, under its client order id; the other stream says no more than that. They
    run on two connections, and either may be the first to tell.

    The orders as they waited are forgotten when the orders that they became are done: then `waiting`, the input of the
    stream of conditional orders, is asked to compare, which looks them up.
    """

    def __init__(self) -> None:
        self.waiting: AccountInput | None = None
        self._ids: Recent[str, bool] = Recent(REMEMBERED_TRIGGERED)

    def __contains__(self, algo_id: str) -> bool:
        return self._ids.get(algo_id) is not None

    def add(self, algo_id: str) -> None:
        self._ids[algo_id] = True

    def compare(self) -> None:
        if self.waiting is not None:
            self.waiting.incomplete()


class OkxAccountSession(LoginSession):
    """One account on one connection: log-in, then the venue's channels, which together are one channel of Astra's."""

    arguments: ClassVar[Sequence[dict[str, str]]]
    """What is subscribed."""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        key: ApiKey,
        clock_refused: Callable[[], None],
        triggered: Triggered | None = None,
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._key = key
        self._clock_refused = clock_refused
        self._triggered = triggered or Triggered()

    def opened(self, now_ms: int) -> Iterable[Frame]:
        return [login(self._key, now_ms)]

    def subscriptions(self) -> Mapping[str, Frame]:
        frame = msgspec.json.encode({"id": "1", "op": "subscribe", "args": self.arguments}).decode()
        return {argument["channel"]: frame for argument in self.arguments}

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [msgspec.json.encode({"id": "2", "op": "unsubscribe", "args": self.arguments}).decode()]

    @abc.abstractmethod
    def _events(self, channel: str, data: msgspec.Raw) -> Iterator[AccountEvent]:
        """What a push of the venue's channel means for the account."""

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        if payload == _PONG:
            return
        try:
            push = _decode_push(payload)
        except msgspec.ValidationError:
            self._noticed(decode_notice(payload))
            return
        if self._input is not None:
            self.tell(self._events(push.subject.channel, push.data))

    def _noticed(self, notice: Notice) -> None:
        if notice.event == "login" and notice.code == "0":
            self.login_answered(None)
        elif notice.event == "subscribe" and notice.subject is not None:
            self.subscribed(notice.subject.channel)
        elif notice.event in ("error", "channel-conn-count-error"):
            self._refused(notice)
        elif notice.event == "notice" and notice.code == RESTARTS:
            self.outlet.reconnect("the venue announced that this connection ends", overlap=True)
        elif not notice.event:
            raise ValueError("a frame has a shape that is not documented")

    def _refused(self, notice: Notice) -> None:
        reason = f"{notice.msg} (code {notice.code})"
        if notice.code in CLOCK_CODES:
            self._clock_refused()
            self.outlet.reconnect(f"the log-in's time stamp was refused: {reason}")
            return
        meaning = CODES.get(notice.code)
        kind = VenueError if meaning is None else meaning.error
        error = kind(f"the account stream was refused: {reason}", exchange="OKX", code=notice.code)
        if self._channel is not None:
            self.outlet.refused(self._channel, error, final=isinstance(error, AuthenticationError))
        else:
            self.login_answered(error)


class TradingSession(OkxAccountSession):
    """Orders and fills, balances, positions."""

    arguments = (
        {"channel": ORDERS, "instType": "ANY"},
        {"channel": "account", "extraParams": ON_CHANGE},
        {"channel": "positions", "instType": "ANY", "extraParams": ON_CHANGE},
    )

    def __init__(self, *connection: Any) -> None:
        super().__init__(*connection)
        self._sides = NetSides()

    def subscribed(self, name: str) -> None:
        """What triggered orders became may have been done while this stream was away."""
        super().subscribed(name)
        if name == ORDERS:
            self._triggered.compare()

    def _events(self, channel: str, data: msgspec.Raw) -> Iterator[AccountEvent]:
        if channel == ORDERS:
            yield from self._order_events(_decode_orders(data))
        elif channel == "account":
            for account in _decode_accounts(data):
                yield from (row.balance() for row in account.details)
        elif channel == "positions":
            yield from self._position_events(_decode_positions(data))

    def _order_events(self, rows: Sequence[OrderRow]) -> Iterator[AccountEvent]:
        """An order as it stands, after the fill of this very change, if there is one."""
        for row in rows:
            market = self.market(row.inst_id)
            if market is None:
                continue
            if row.trade_id and row.fill_sz not in ("", "0"):
                yield row.fill(market)
            order = row.order(market)
            yield order
            if row.algo_id:
                self._triggered.add(row.algo_id)
                if not order.status.is_open:
                    self._triggered.compare()

    def _position_events(self, rows: Sequence[PositionRow]) -> Iterator[AccountEvent]:
        for row in rows:
            if row.inst_type == "MARGIN":
                continue
            market = self.market(row.inst_id)
            if market is None:
                continue
            if row.is_net:
                yield from self._sides.closed(market, row.size, margin_mode(row.mgn_mode))
                if not row.size:
                    continue
            yield row.position(market)


class AlgoSession(OkxAccountSession):
    """Conditional orders, until they are triggered."""

    arguments = ({"channel": "orders-algo", "instType": "ANY"},)

    def join(self, channels: Sequence[Channel]) -> None:
        super().join(channels)
        self._triggered.waiting = self._input

    def leave(self) -> None:
        if self._triggered.waiting is self._input:
            self._triggered.waiting = None
        super().leave()

    def _events(self, channel: str, data: msgspec.Raw) -> Iterator[AccountEvent]:
        for row in _decode_algos(data):
            market = self.market(row.inst_id)
            if market is None or not row.is_told:
                continue
            if row.triggered:
                self._triggered.add(row.algo_id)
            if row.algo_id in self._triggered:
                # Whether it is open is for the stream of orders to tell, which may have told that it is done.
                self._triggered.compare()
                continue
            yield row.order(market)
