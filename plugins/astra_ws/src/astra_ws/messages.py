"""The messages of the WebSocket API: what the gateway sends, and what clients ask.

Data messages have the documented shape. Everything else carries a `type` of its own: `SUBSCRIBED`, `UNSUBSCRIBED`,
`ERROR`, and, where asked for, `STATE`, `GAP`, `LAGGED`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from astra.errors import BadRequest, hint
from astra.models.orderbook import BookState, Level, UpdateKind
from astra.models.trades import Gap, Side, Trade
from astra.streams.feed import DataType
from astra_gateway.problems import Problem

_encode = msgspec.json.Encoder().encode

SENT_TYPES = (DataType.ORDERBOOK, DataType.TRADE)


class PriceLevel(msgspec.Struct, frozen=True, gc=False):
    """A level of a book. In an UPDATE a `quantity` of 0 deletes it."""

    price: float
    quantity: float


class BookMessage(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A change of a book (`UPDATE`), or the whole of it (`SNAPSHOT`)."""

    update_id: int
    bids: Sequence[PriceLevel]
    asks: Sequence[PriceLevel]
    type: str
    market: str


class TradeFields(msgspec.Struct, frozen=True, gc=False):
    """One trade; `side` is the taker's, null where the venue does not say; `time` in ms."""

    price: float
    quantity: float
    side: Side | None
    time: int
    id: str


class TradesMessage(msgspec.Struct, frozen=True, gc=False):
    """The trades since the last message."""

    trades: Sequence[TradeFields]
    market: str


def book_text(market: str, update_id: int, bids: Sequence[Level], asks: Sequence[Level], kind: UpdateKind) -> str:
    """A book message, encoded."""
    message = BookMessage(
        update_id,
        [PriceLevel(price, quantity) for price, quantity in bids],
        [PriceLevel(price, quantity) for price, quantity in asks],
        kind.value,
        market,
    )
    return _encode(message).decode()


def trades_text(market: str, trades: Sequence[Trade]) -> str:
    """A trades message, encoded."""
    fields = [TradeFields(one.price, one.quantity, one.side, one.time, one.id) for one in trades]
    return _encode(TradesMessage(fields, market)).decode()


def state_text(market: str, state: BookState, reason: str | None) -> str:
    """How far the book can be trusted from here on."""
    fields = {"type": "STATE", "market": market, "state": state.value}
    return _encode(fields | ({"reason": reason} if reason else {})).decode()


def gap_text(gap: Gap) -> str:
    """Trades may be missing here. `filled`: so many of them follow from the venue's history (null: unknown)."""
    fields = {
        "type": "GAP",
        "market": gap.market,
        "afterId": gap.after_id,
        "reason": gap.reason,
        "filled": gap.filled,
    }
    return _encode(fields).decode()


def lagged_text(market: str, missed: int) -> str:
    """So many trades were dropped here because the client reads too slowly."""
    return _encode({"type": "LAGGED", "market": market, "missed": missed}).decode()


def acknowledged_text(kind: str, market: str, data_type: DataType, request_id: Any) -> str:
    """The answer to a subscription message."""
    fields = {"type": kind, "market": market, "dataType": data_type.value, **_echo(request_id)}
    return _encode(fields).decode()


def error_text(problem: Problem, request_id: Any = None, **about: str) -> str:
    """The members of a problem document, as a message."""
    return _encode({**problem.fields, "type": "ERROR", **about, **_echo(request_id)}).decode()


def _echo(request_id: Any) -> Mapping[str, Any]:
    return {} if request_id is None else {"id": request_id}


class Asked(msgspec.Struct, frozen=True):
    """A message of a client: what to do, for which market (a symbol or an object of the older schema)."""

    subscribe: bool
    market: str | Mapping[str, Any]
    exchange: str | None
    data_type: DataType
    state: bool | None
    request_id: str | int | None


_FIELDS = ("op", "exchange", "market", "dataType", "state", "id")
_OPERATIONS = ("subscribe", "unsubscribe")


def decode_object(text: str | bytes) -> dict[str, Any]:
    """A client's message as a JSON object. Raises `BadRequest`."""
    try:
        decoded = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the message is not valid JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise BadRequest(f"a message must be a JSON object: {_EXAMPLE}")
    return decoded


def parse_asked(fields: Mapping[str, Any]) -> Asked:
    """What a client's message asks. Raises `BadRequest` that names the field."""
    for name in fields:
        if name not in _FIELDS:
            raise BadRequest(f"unknown field {name[:40]!r}; a message has {', '.join(_FIELDS)}.{hint(name, _FIELDS)}")
    operation = fields.get("op", "subscribe")
    if operation not in _OPERATIONS:
        raise BadRequest(f"op must be subscribe or unsubscribe.{_hint(operation, _OPERATIONS)}")
    market = fields.get("market")
    if not isinstance(market, str | dict):
        raise BadRequest(f"field 'market' must be a symbol (or an object of the older schema): {_EXAMPLE}")
    exchange = fields.get("exchange")
    if exchange is not None and not isinstance(exchange, str):
        raise BadRequest("field 'exchange' must be an exchange code")
    state = fields.get("state")
    if state is not None and not isinstance(state, bool):
        raise BadRequest("field 'state' must be true or false")
    request_id = fields.get("id")
    if request_id is not None and (not isinstance(request_id, str | int) or len(str(request_id)) > 100):
        raise BadRequest("field 'id' must be a short text or a whole number")
    return Asked(
        subscribe=operation == "subscribe",
        market=market,
        exchange=exchange,
        data_type=parse_data_type(fields.get("dataType")),
        state=state,
        request_id=request_id,
    )


def parse_data_type(word: Any) -> DataType:
    """ORDERBOOK or TRADE. Raises `BadRequest`."""
    for data_type in SENT_TYPES:
        if word == data_type.value:
            return data_type
    raise BadRequest(f"dataType must be ORDERBOOK or TRADE.{_hint(word, [one.value for one in SENT_TYPES])}")


def _hint(word: Any, known: Sequence[str]) -> str:
    return hint(word, known) if isinstance(word, str) else ""


_EXAMPLE = '{"op": "subscribe", "market": "BINANCE-SPOT-BTC-USDT", "dataType": "ORDERBOOK"}'
