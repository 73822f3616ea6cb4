"""Orders: what a caller asks for, what the venue says became of it. Decimals throughout."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from astra.models.base import Model, PlainDecimal
from astra.models.trades import Side


class OrderType(StrEnum):
    """LIMIT and MARKET execute at once; the others wait for `stop_price` and then become LIMIT or MARKET."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP_LIMIT = "STOP_LIMIT"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"

    @property
    def is_conditional(self) -> bool:
        return self not in (OrderType.LIMIT, OrderType.MARKET)

    @property
    def has_price(self) -> bool:
        return self in (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)


class TimeInForce(StrEnum):
    """How long an order may rest."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class OrderStatus(StrEnum):
    """Where an order stands. UNKNOWN: its outcome is not known (yet)."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_open(self) -> bool:
        return self in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)

    @property
    def is_final(self) -> bool:
        return self in (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED)


class Liquidity(StrEnum):
    """Did the fill add to the book (maker) or take from it?"""

    MAKER = "MAKER"
    TAKER = "TAKER"


class PositionSide(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"


class MarginMode(StrEnum):
    CROSS = "CROSS"
    ISOLATED = "ISOLATED"


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


AnyCaseSide = Annotated[Side, BeforeValidator(_upper)]
AnyCaseOrderType = Annotated[OrderType, BeforeValidator(_upper)]
AnyCaseTimeInForce = Annotated[TimeInForce, BeforeValidator(_upper)]
Positive = Annotated[PlainDecimal, Field(gt=0)]


class OrderOptions(Model):
    """Base of a venue's own order options (margin mode, position side, wallet, ...); a venue publishes a subclass."""


class OrderRequest(Model):
    """An order to place.

    Exactly one of `quantity` (base units), `contracts` and `quote_quantity` (quote units; market orders on venues
    that take it) is given. `price` is given for limit types, `stop_price` for conditional ones, `expire_time` (ms)
    for GTD. Without `client_order_id` Astra makes one in the venue's format. `options` are the venue's own.
    """

    side: AnyCaseSide
    type: AnyCaseOrderType = OrderType.LIMIT
    quantity: Positive | None = None
    contracts: Positive | None = None
    quote_quantity: Positive | None = None
    price: Positive | None = None
    stop_price: Positive | None = None
    time_in_force: AnyCaseTimeInForce | None = None
    expire_time: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    client_order_id: str | None = None
    options: SerializeAsAny[OrderOptions] | dict[str, Any] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        amounts = [self.quantity, self.contracts, self.quote_quantity]
        if sum(amount is not None for amount in amounts) != 1:
            raise ValueError("give exactly one of quantity, contracts, quoteQuantity")
        if self.type.has_price != (self.price is not None):
            raise ValueError(f"a {self.type} order has {'a' if self.type.has_price else 'no'} price")
        if self.type.is_conditional != (self.stop_price is not None):
            raise ValueError(f"a {self.type} order has {'a' if self.type.is_conditional else 'no'} stopPrice")
        if self.quote_quantity is not None and self.type is not OrderType.MARKET:
            raise ValueError("quoteQuantity is for MARKET orders")
        if (self.time_in_force is TimeInForce.GTD) != (self.expire_time is not None):
            raise ValueError("expireTime goes with timeInForce GTD, and GTD with expireTime")
        if self.post_only and (not self.type.has_price or self.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)):
            raise ValueError("postOnly is for limit orders that may rest")
        return self


class OrderRef(Model):
    """Which order is meant: by client order id or by the venue's id (exactly one)."""

    client_order_id: str | None = None
    id: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.client_order_id is None) == (self.id is None):
            raise ValueError("give exactly one of id, clientOrderId")
        return self


class OrderChange(Model):
    """What to change of a resting order: a new price, a new total quantity (or contracts), or both."""

    price: Positive | None = None
    quantity: Positive | None = None
    contracts: Positive | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.quantity is not None and self.contracts is not None:
            raise ValueError("give only one of quantity, contracts")
        if self.price is None and self.quantity is None and self.contracts is None:
            raise ValueError("give a new price, quantity or contracts")
        return self


class Order(Model):
    """An order as the venue knows it.

    Quantities in base units; for contract markets `contracts` and `filled_contracts` beside them. `quantity` is None
    where the venue does not say (quote-quantity orders) or no price is known (inverse). Times in ms.
    """

    id: str | None
    client_order_id: str | None
    market: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce | None = None
    price: PlainDecimal | None = None
    stop_price: PlainDecimal | None = None
    quantity: PlainDecimal | None = None
    contracts: PlainDecimal | None = None
    quote_quantity: PlainDecimal | None = None
    filled_quantity: PlainDecimal | None = None
    """None where the venue's answer does not say (an acknowledgement without fills)."""
    filled_contracts: PlainDecimal | None = None
    average_price: PlainDecimal | None = None
    status: OrderStatus
    reduce_only: bool = False
    post_only: bool = False
    created_time: int | None = None
    updated_time: int | None = None


class Fill(Model):
    """One execution of an own order. `fee` in units of `fee_asset`, positive when paid, negative when a rebate."""

    id: str
    order_id: str | None
    client_order_id: str | None = None
    market: str
    side: Side
    price: PlainDecimal
    quantity: PlainDecimal
    contracts: PlainDecimal | None = None
    fee: PlainDecimal | None = None
    fee_asset: str | None = None
    liquidity: Liquidity | None = None
    time: int
