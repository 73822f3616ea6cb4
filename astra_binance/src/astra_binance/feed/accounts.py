"""Private streams: own orders, fills, balances and positions.

Spot's is a signed subscription on the WebSocket API; the futures families and options serve whatever a listen key
stands for to the connection that names it (there, connecting is subscribing).
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from astra.models.accounts import AccountEvent, Balance, Position
from astra.models.credentials import ApiKey
from astra.models.orders import Order, OrderType
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides, make_position, margin_mode, position_side
from astra_binance.errors import LIMITED, STALE_TIMESTAMP
from astra_binance.feed.endpoints import account_product
from astra_binance.feed.markets import ErrorText, decode_uncommon
from astra_binance.feed.reports import (
    AlgoUpdate,
    ExecutionReport,
    ExternalLock,
    FuturesAccountUpdate,
    FuturesEvent,
    FuturesOrderUpdate,
    ListenKeyExpired,
    OldOptionReport,
    OptionsBalancePositionUpdate,
    OptionsEvent,
    OptionsOrderUpdate,
    OrderReport,
    PositionRow,
    ServerShutdown,
    SpotEvent,
    SpotPosition,
    StreamTerminated,
)
from astra_binance.settings import OPTIONS, SPOT
from astra_binance.signing import Signer, ws_signed

logger = logging.getLogger(__name__)


class BinanceAccountSession(AccountSession):
    """What the private streams of all families share."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._sides = NetSides()

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.join(channels)
        self.outlet.acknowledged(channels)
        return ()

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return ()

    def received(self, payload: Payload, received_ns: int) -> None:
        self._event(payload)

    @property
    @abc.abstractmethod
    def _decode(self) -> Callable[[Any], Any]:
        """Decodes the events that are of use."""

    @property
    @abc.abstractmethod
    def _known(self) -> frozenset[str]:
        """Names of the events that `_decode` knows: one of them that it does not understand is an error."""

    @abc.abstractmethod
    def _account_events(self, event: Any) -> Iterator[AccountEvent]:
        """What an event means for the account."""

    def _event(self, payload: Payload | msgspec.Raw) -> None:
        try:
            event = self._decode(payload)
        except msgspec.ValidationError:
            frame = decode_uncommon(payload)
            if frame.stream and bytes(frame.data):
                self._event(frame.data)  # some connections wrap events in stream and data
                return
            if frame.e in self._known:
                raise
            logger.debug("%s: %s is not used", self.endpoint.name, frame.e or "a frame without event")
            return
        if isinstance(event, ServerShutdown):
            self.outlet.reconnect("the venue announced that this connection ends", overlap=True)
        elif isinstance(event, ListenKeyExpired):
            self.outlet.reconnect("the listen key expired")
        elif self._input is not None:
            self.tell(self._account_events(event))

    def _positions(self, rows: Sequence[PositionRow]) -> Iterator[Position]:
        """Positions after a change. The one position of one-way mode (BOTH) may have changed sides, or be gone: then
        the side that it had is reported as closed."""
        hedged = {row.symbol for row in rows if row.side != "BOTH"}
        for row in rows:
            if row.side == "BOTH" and row.symbol in hedged:
                continue  # hedge mode lists it all the same, always empty
            market = self.market(row.symbol)
            if market is None:
                continue
            if row.side == "BOTH":
                yield from self._sides.closed(market, row.size)
                if not row.size:
                    continue
            yield make_position(
                market,
                position_side(row.side, row.size),
                row.size,
                entry=row.entry_price,
                unrealized_pnl=row.unrealized_pnl,
                margin_mode=margin_mode(row.margin_type),
            )


def _tags(union: Any) -> frozenset[str]:
    return frozenset(struct.__struct_config__.tag for struct in union.__args__)


# -- Spot -------------------------------------------------------------------------------------------------------


class _Subscription(msgspec.Struct, rename="camel"):
    subscription_id: int | None = None


class _LimitData(msgspec.Struct, rename="camel"):
    retry_after: float | None = None
    """When requests are heard again: a time in ms, not a number of seconds."""


class _Error(ErrorText):
    data: _LimitData | None = None


class _Answer(msgspec.Struct):
    """A frame of the WebSocket API: the answer to a request (`id`, `status`), or an event."""

    id: str | int | None = None
    status: int | None = None
    result: _Subscription | None = None
    error: _Error | None = None
    event: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_spot = msgspec.json.Decoder(SpotEvent).decode
_SPOT_KNOWN = _tags(SpotEvent)
_WRONG_STATE = -2035
"""Already subscribed."""


class SpotAccountSession(BinanceAccountSession):
    """`userDataStream.subscribe.signature`: takes any kind of key, signed anew on every connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        signer: Callable[[ApiKey], Signer],
        clock_refused: Callable[[], None],
        limited: Callable[[int, str, float | None], None],
    ) -> None:
        """`clock_refused` is called when the venue did not accept the time stamp, `limited` with the status, the text
        and the end (ms; None: not said) of a limit that was passed, or of a ban."""
        super().__init__(endpoint, outlet, ticket, market_of)
        self._signer = signer
        self._clock_refused = clock_refused
        self._limited = limited
        self._requests = 0
        self._asked: str | None = None
        self._subscription_id: int | None = None

    @property
    def _decode(self) -> Callable[[Any], Any]:
        return _decode_spot

    @property
    def _known(self) -> frozenset[str]:
        return _SPOT_KNOWN

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        (channel,) = channels
        self._channel = channel
        self._input = self.outlet.account(channel)
        assert channel.credentials is not None
        key = channel.credentials.key_for(SPOT)
        if key is None:
            self.outlet.refused(channel, f"account {channel.credentials.account!r} has no API key for {SPOT}")
            return ()
        params = ws_signed({"apiKey": key.key.get_secret_value(), "timestamp": now_ms}, self._signer(key))
        self._asked = self._next_id("subscribe")
        request = {"id": self._asked, "method": "userDataStream.subscribe.signature", "params": params}
        return [msgspec.json.encode(request).decode()]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self._channel = self._input = None
        params = {} if self._subscription_id is None else {"subscriptionId": self._subscription_id}
        request = {"id": self._next_id("unsubscribe"), "method": "userDataStream.unsubscribe", "params": params}
        return [msgspec.json.encode(request).decode()]

    def received(self, payload: Payload, received_ns: int) -> None:
        answer = _decode_answer(payload)
        if answer.status in LIMITED:
            error = answer.error or _Error()
            self._limited(answer.status, error.msg, error.data.retry_after if error.data else None)
        if bytes(answer.event):
            self._event(answer.event)
        elif answer.status is None:
            self._event(payload)
        elif answer.id is None:
            # The venue says so when the session's key was revoked.
            self.outlet.reconnect(f"the venue ended the session: {answer.error.msg if answer.error else ''}")
        elif answer.id == self._asked:
            self._subscribed(answer)

    def _subscribed(self, answer: _Answer) -> None:
        self._asked = None
        if self._channel is None:
            return
        error = answer.error
        if answer.status == 200 or (error is not None and error.code == _WRONG_STATE):
            if answer.result is not None:
                self._subscription_id = answer.result.subscription_id
            self.outlet.acknowledged([self._channel])
            return
        reason = f"{error.msg} (code {error.code})" if error else f"status {answer.status}"
        busy = answer.status in LIMITED or (answer.status or 0) >= 500
        late = error is not None and str(error.code) in STALE_TIMESTAMP
        if late:
            self._clock_refused()
        if busy or late:
            self.outlet.reconnect(f"the account subscription was refused for now: {reason}")
        else:
            self.outlet.refused(self._channel, f"the account subscription was refused: {reason}")

    def _next_id(self, what: str) -> str:
        self._requests += 1
        return f"{what}-{self._requests}"

    def _account_events(self, event: Any) -> Iterator[AccountEvent]:
        if isinstance(event, ExecutionReport):
            market = self.market(event.symbol)
            if market is not None:
                yield from event.events(market)
        elif isinstance(event, SpotPosition):
            yield from event.events()
        elif isinstance(event, StreamTerminated):
            self.interrupted("the venue ended the account's subscription")
        elif isinstance(event, ExternalLock):
            self.interrupted("a balance was locked or released from outside")


# -- futures and options ----------------------------------------------------------------------------------------

_decode_futures = msgspec.json.Decoder(FuturesEvent).decode
_FUTURES_KNOWN = _tags(FuturesEvent)
_decode_options = msgspec.json.Decoder(OptionsEvent).decode
_OPTIONS_KNOWN = _tags(OptionsEvent)
_decode_report = msgspec.json.Decoder(OrderReport).decode
_decode_old_reports = msgspec.json.Decoder(list[OldOptionReport]).decode


class FuturesAccountSession(BinanceAccountSession):
    """USD-M or COIN-M."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._types: dict[tuple[str, str | None], OrderType] = {}
        """(native symbol, id) -> the type that an open order has by its own reports."""

    @property
    def _decode(self) -> Callable[[Any], Any]:
        return _decode_futures

    @property
    def _known(self) -> frozenset[str]:
        return _FUTURES_KNOWN

    def _account_events(self, event: Any) -> Iterator[AccountEvent]:
        if isinstance(event, FuturesOrderUpdate):
            market = self.market(event.order.symbol)
            if market is not None:
                for told in event.order.events(market):
                    if isinstance(told, Order):
                        self._note(event.order.symbol, told)
                    yield told
        elif isinstance(event, AlgoUpdate):
            market = self.market(event.order.symbol)
            if market is not None:
                yield event.event(market, self._types.get((event.order.symbol, event.order.real_id)))
        elif isinstance(event, FuturesAccountUpdate):
            wallet = account_product(self.endpoint)
            for row in event.change.balances:
                yield Balance(asset=row.asset, wallet=wallet, total=row.wallet_balance)
            yield from self._positions(event.change.positions)

    def _note(self, symbol: str, order: Order) -> None:
        if order.status.is_open:
            self._types[symbol, order.id] = order.type
        else:
            self._types.pop((symbol, order.id), None)


class OptionsAccountSession(BinanceAccountSession):
    """European options."""

    @property
    def _decode(self) -> Callable[[Any], Any]:
        return _decode_options

    @property
    def _known(self) -> frozenset[str]:
        return _OPTIONS_KNOWN

    def _account_events(self, event: Any) -> Iterator[AccountEvent]:
        if isinstance(event, OptionsOrderUpdate):
            yield from self._orders(event.order)
        elif isinstance(event, OptionsBalancePositionUpdate):
            for row in event.balances:
                yield Balance(asset=row.asset, wallet=OPTIONS, total=row.balance)
            yield from self._positions(
                [PositionRow(symbol=row.symbol, size=row.size, entry_price=row.average) for row in event.positions]
            )

    def _orders(self, raw: msgspec.Raw) -> Iterator[AccountEvent]:
        if bytes(raw).lstrip().startswith(b"["):
            for old in _decode_old_reports(raw):
                market = self.market(old.symbol)
                if market is not None:
                    yield from old.events(market)
            return
        report = _decode_report(raw)
        market = self.market(report.symbol)
        if market is not None:
            yield from report.events(market, fee_sign=-1)
