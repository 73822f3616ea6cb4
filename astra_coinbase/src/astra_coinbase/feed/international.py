"""Books and trades of the international gateway on one connection: JSON-RPC requests out, `book...` and `trades...`
notifications in.

A change of a book names the id of the one before it (`prev_change_id`); each subscription begins with a snapshot, which
names none. Source: docs.cdp.coinbase.com, Global Derivatives; the Deribit protocol's "book.{instrument}.{interval}".

The hot path is `GatewaySession.received`: decode as a book, look the instrument up, hand on. What is no book's frame
takes the slow path.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from astra.errors import MarketNotFound, RateLimited, VenueError
from astra.streams.feed import (
    BookInput,
    Channel,
    DataType,
    Endpoint,
    Frame,
    Outlet,
    Payload,
    Session,
    Ticket,
    TradeInput,
    Units,
)
from astra_coinbase.errors import CODES
from astra_coinbase.history import GatewayTrade, amount_units

logger = logging.getLogger(__name__)

PING_ID = 0
PING = '{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}'
"""Sockets on which the client says nothing for half a minute are closed; protocol pings do not count."""
INTERVAL = "100ms"
NAMES: Mapping[DataType, str] = {DataType.ORDERBOOK: "book", DataType.TRADE: "trades"}

GatewayLevel = tuple[str, float, float]
"""new, change or delete; price; amount."""


class BookData(msgspec.Struct, gc=False):
    instrument_name: str
    timestamp: int
    change_id: int
    bids: tuple[GatewayLevel, ...]
    asks: tuple[GatewayLevel, ...]
    type: str
    prev_change_id: int | None = None


class _BookParams(msgspec.Struct, gc=False):
    data: BookData


class _BookFrame(msgspec.Struct, gc=False):
    params: _BookParams


class RpcFailure(msgspec.Struct):
    code: int = 0
    message: str = ""


class Push(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    type: str = ""


class RpcFrame(msgspec.Struct):
    """Any frame: an answer (`id`, and `result` or `error`) or a notification (`method`, `params`)."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcFailure | None = None
    method: str = ""
    params: Push | None = None


_decode_book = msgspec.json.Decoder(_BookFrame).decode
decode_frame = msgspec.json.Decoder(RpcFrame).decode
_decode_trades = msgspec.json.Decoder(tuple[GatewayTrade, ...]).decode
decode_names = msgspec.json.Decoder(list[str]).decode


def name_of(channel: Channel) -> str:
    """The venue's name of a market channel."""
    return f"{NAMES[channel.data_type]}.{channel.native_symbol}.{INTERVAL}"


def request(ident: int, method: str, **params: Any) -> str:
    """A request frame."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "method": method, "params": params}).decode()


class GatewaySession(Session):
    """Market streams of the gateway on one connection."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._books: dict[str, tuple[BookInput, Units | None]] = {}
        self._trades: dict[str, tuple[TradeInput, Units | None]] = {}
        self._waiting: dict[int, dict[str, Channel]] = {}
        self._last_id = PING_ID

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            units = amount_units(channel.market)
            if channel.data_type is DataType.ORDERBOOK:
                self._books[channel.native_symbol] = self.outlet.book(channel), units
            else:
                self._trades[name_of(channel)] = self.outlet.trades(channel), units
        return [self._subscription(channels)]

    def _subscription(self, channels: Sequence[Channel]) -> str:
        self._last_id += 1
        names = {name_of(channel): channel for channel in channels}
        self._waiting[self._last_id] = names
        return request(self._last_id, "public/subscribe", channels=list(names))

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            if channel.data_type is DataType.ORDERBOOK:
                self._books.pop(channel.native_symbol, None)
            else:
                self._trades.pop(name_of(channel), None)
        self._last_id += 1
        return [request(self._last_id, "public/unsubscribe", channels=[name_of(channel) for channel in channels])]

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            data = _decode_book(payload).params.data
        except msgspec.ValidationError:
            self._uncommon(decode_frame(payload), received_ns)
            return
        known = self._books.get(data.instrument_name)
        if known is None:
            return
        book, units = known
        bids = [(price, amount) for _, price, amount in data.bids]
        asks = [(price, amount) for _, price, amount in data.asks]
        if units is not None:
            bids, asks = units.levels(bids), units.levels(asks)
        if data.type == "snapshot":
            book.snapshot(data.change_id, bids, asks, data.timestamp, received_ns)
        elif data.prev_change_id is None:
            book.broken("a change does not name the one before it")
        else:
            book.delta(0, data.change_id, data.prev_change_id, bids, asks, data.timestamp, received_ns)

    def _uncommon(self, frame: RpcFrame, received_ns: int) -> None:
        if frame.method == "subscription" and frame.params is not None:
            known = self._trades.get(frame.params.channel)
            if known is not None:
                trades, units = known
                rows = sorted(_decode_trades(frame.params.data), key=lambda row: row.trade_seq)
                trades.trades([row.trade(trades.market, units, received_ns) for row in rows])
        elif frame.method == "heartbeat":
            self.outlet.send(PING)
        elif frame.id is not None and frame.id != PING_ID:
            waiting = self._waiting.pop(frame.id, None)
            if waiting is not None:
                self._answered(frame, waiting)
        elif frame.error is not None:
            logger.warning("%s: the venue reports an error: %s", self.endpoint.name, frame.error.message)

    def _answered(self, frame: RpcFrame, waiting: Mapping[str, Channel]) -> None:
        """Channels that cannot be had are left out of the answer without a word; of a request that is refused as a
        whole each channel is asked for alone."""
        if frame.error is None:
            names = set(decode_names(frame.result))
            self.outlet.acknowledged([channel for name, channel in waiting.items() if name in names])
            for name, channel in waiting.items():
                if name not in names:
                    error = MarketNotFound(f"the venue does not serve the channel {name}", exchange="COINBASE")
                    self.outlet.refused(channel, error)
            return
        meaning = CODES.get(str(frame.error.code))
        if meaning is not None and meaning.error is RateLimited:
            self.outlet.reconnect(f"the venue refused a subscription: {frame.error.message}")
        elif len(waiting) > 1:
            for channel in waiting.values():
                self.outlet.send(self._subscription([channel]))
        else:
            for name, channel in waiting.items():
                kind = VenueError if meaning is None else meaning.error
                self.outlet.refused(channel, refusal(kind, name, frame.error))


def refusal(kind: type[VenueError], what: str, failure: RpcFailure) -> VenueError:
    """The error of a request that the venue refused."""
    return kind(f"{what} was refused: {failure.message}", exchange="COINBASE", code=str(failure.code))
