"""From models to JSON: the fields, their order and their numbers as the public documentation prints them.

Decimals keep every digit, as JSON numbers or (`numbers=string`) as text. Market data is float64: printed as the
shortest decimal that is equal to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from astra.models.accounts import Balance, Position
from astra.models.base import Model, decimal_text
from astra.models.orderbook import Level
from astra.models.orders import Fill, Order
from astra_gateway.query import Numbers

JSON = "application/json"

_ALWAYS: Mapping[type[Model], frozenset[str]] = {
    Order: frozenset(
        (
            *("id", "client_order_id", "market", "side", "type", "time_in_force", "price", "filled_quantity"),
            *("status", "reduce_only", "post_only", "created_time", "updated_time"),
        )
    ),
    Fill: frozenset(("id", "order_id", "market", "side", "price", "quantity", "fee", "fee_asset", "liquidity", "time")),
    Balance: frozenset(("asset", "wallet", "total", "available", "locked")),
    Position: frozenset(("market", "side", "quantity", "entry_price", "unrealized_pnl", "margin_mode")),
}
"""Fields that are printed even where the venue says nothing (as null). All others are left out then."""

_encode = msgspec.json.Encoder().encode


class PriceLevel(msgspec.Struct, frozen=True, gc=False):
    """Aggregated quantity of the orders at one price. `price` in quote units, `quantity` in base units."""

    price: float
    quantity: float


class OrderbookAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """A snapshot of an order book: bids by falling price, asks by rising price. `time` is the venue's, in ms."""

    bids: Sequence[PriceLevel]
    asks: Sequence[PriceLevel]
    market: str
    update_id: int
    time: int | None


class BestBidOffer(msgspec.Struct, frozen=True):
    """The best bid and ask of a market; null where a side is empty. `time` is the venue's, in ms."""

    market: str
    bid: PriceLevel | None
    ask: PriceLevel | None
    time: int | None


class _TextLevel(msgspec.Struct, frozen=True, gc=False):
    price: str
    quantity: str


def levels(pairs: Sequence[Level], numbers: Numbers) -> Sequence[Any]:
    """Levels as the documentation prints them."""
    if numbers is Numbers.STRING:
        return [_TextLevel(float_text(price), float_text(quantity)) for price, quantity in pairs]
    return [PriceLevel(price, quantity) for price, quantity in pairs]


def float_text(number: float) -> str:
    """The shortest decimal that reads back as the same double, without exponent."""
    return decimal_text(Decimal(repr(number)))


def fields_of(model: Model, numbers: Numbers) -> dict[str, Any]:
    """A model as what the encoder takes: fields in their order, exact numbers."""
    always = _ALWAYS.get(type(model), frozenset())
    return {
        name: _value(value, numbers)
        for attribute, name in _names(type(model))
        if (value := getattr(model, attribute)) is not None or attribute in always
    }


def json_response(
    answer: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, media_type: str = JSON
) -> Response:
    """An answer encoded by msgspec."""
    return Response(_encode(answer), status, dict(headers or {}), media_type)


def encoded(models: Sequence[Model], numbers: Numbers) -> bytes:
    """A JSON array of models."""
    return _encode([fields_of(model, numbers) for model in models])


@cache
def _names(model: type[Model]) -> Sequence[tuple[str, str]]:
    return [(name, str(field.alias or name)) for name, field in model.model_fields.items() if not field.exclude]


def _value(value: Any, numbers: Numbers) -> Any:
    if isinstance(value, Decimal):
        text = decimal_text(value)
        return text if numbers is Numbers.STRING else msgspec.Raw(text.encode())
    if isinstance(value, Model):
        return fields_of(value, numbers)
    if isinstance(value, tuple):
        return [_value(one, numbers) for one in value]
    return value
