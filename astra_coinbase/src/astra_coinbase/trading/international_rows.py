"""The gateway's rows of orders, trades, balances and positions as Astra's, which answers and streams have alike.

Numbers are JSON numbers, read digit for digit. Sizes are *amounts*: base units, of inverse futures USD; divided by the
contract size they are contracts. Source: docs.cdp.coinbase.com, Global Derivatives; the Deribit protocol's
`private/get_order_state`, `private/get_user_trades_by_instrument`, `private/get_positions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.trading.native import make_fill, make_order, make_position, position_side
from astra_coinbase.markets import ABSTRACT
from astra_coinbase.settings import INTERNATIONAL
from astra_coinbase.trading.advanced_rows import Kinds

TYPES: Mapping[str, OrderType] = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop_limit": OrderType.STOP_LIMIT,
    "stop_market": OrderType.STOP_MARKET,
    "take_limit": OrderType.TAKE_PROFIT_LIMIT,
    "take_market": OrderType.TAKE_PROFIT_MARKET,
    "market_limit": OrderType.LIMIT,
    "trailing_stop": OrderType.STOP_MARKET,
}
_STATES: Mapping[str, OrderStatus] = {
    "open": OrderStatus.NEW,
    "untriggered": OrderStatus.NEW,
    # Waiting for the order that it became, which has an id of its own.
    "triggered": OrderStatus.NEW,
    "filled": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELED,
    "rejected": OrderStatus.REJECTED,
}
_TIMES: Mapping[str, TimeInForce] = {
    "good_til_cancelled": TimeInForce.GTC,
    "good_til_day": TimeInForce.GTD,
    "immediate_or_cancel": TimeInForce.IOC,
    "fill_or_kill": TimeInForce.FOK,
}


def contracts_of(market: Market, amount: Decimal | None) -> Decimal | None:
    """An amount in contracts."""
    assert market.contract_size is not None
    return None if amount is None else amount / market.contract_size


class OrderRow(msgspec.Struct):
    """An order. `price` is the word market_price while a conditional market order waits."""

    order_id: str
    instrument_name: str
    direction: str
    order_state: str
    order_type: str
    amount: Decimal | None = None
    filled_amount: Decimal | None = None
    average_price: Decimal | None = None
    price: msgspec.Raw = msgspec.Raw(b"null")
    trigger_price: Decimal | None = None
    label: str = ""
    time_in_force: str = ""
    post_only: bool = False
    reduce_only: bool = False
    creation_timestamp: int | None = None
    last_update_timestamp: int | None = None

    @property
    def limit_price(self) -> Decimal | None:
        """None for the word, and for what the price of a market order says: how far it may go."""
        text = bytes(self.price).decode()
        return None if text == "null" or text.startswith('"') or not self.kind.has_price else Decimal(text)

    @property
    def kind(self) -> OrderType:
        return TYPES.get(self.order_type, OrderType.LIMIT)

    @property
    def is_waiting(self) -> bool:
        """Is it a conditional order that has not become another one?"""
        return self.order_state in ("untriggered", "triggered")

    def order(self, market: Market, kinds: Kinds) -> Order:
        filled = contracts_of(market, self.filled_amount) or Decimal(0)
        kind = kinds.of(self.label, self.kind)
        status = _STATES.get(self.order_state, OrderStatus.UNKNOWN)
        if self.order_state == "open" and filled:
            status = OrderStatus.PARTIALLY_FILLED
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.label,
            side=Side.BUY if self.direction == "buy" else Side.SELL,
            kind=kind,
            status=status,
            price=self.limit_price,
            stop_price=self.trigger_price,
            total=contracts_of(market, self.amount),
            filled=filled,
            average=self.average_price,
            time_in_force=_TIMES.get(self.time_in_force) if kind is not OrderType.MARKET else None,
            reduce_only=self.reduce_only,
            post_only=self.post_only,
            created=self.creation_timestamp,
            updated=self.last_update_timestamp,
        )


class TradeRow(msgspec.Struct):
    """An own trade. A positive fee was charged."""

    trade_id: str
    instrument_name: str
    direction: str
    price: Decimal
    amount: Decimal
    timestamp: int
    order_id: str
    fee: Decimal | None = None
    fee_currency: str = ""
    liquidity: str = ""
    label: str = ""

    def fill(self, market: Market) -> Fill:
        size = contracts_of(market, self.amount)
        assert size is not None
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            client_order_id=self.label,
            side=Side.BUY if self.direction == "buy" else Side.SELL,
            price=self.price,
            size=size,
            fee=self.fee,
            fee_asset=self.fee_currency or None,
            maker=self.liquidity == "M" if self.liquidity in ("M", "T") else None,
            time=self.timestamp,
        )


class PositionRow(msgspec.Struct):
    """A net position; `size` is negative for a short one, and 0 for one that is closed."""

    instrument_name: str
    size: Decimal = Decimal(0)
    average_price: Decimal | None = None
    mark_price: Decimal | None = None
    estimated_liquidation_price: Decimal | None = None
    floating_profit_loss: Decimal | None = None
    leverage: Decimal | None = None

    def position(self, market: Market) -> Position:
        size = contracts_of(market, self.size) or Decimal(0)
        side = position_side("", size)
        if not size:
            return make_position(market, side, size)
        return make_position(
            market,
            side,
            size,
            entry=self.average_price,
            mark=self.mark_price,
            liquidation=self.estimated_liquidation_price,
            unrealized_pnl=self.floating_profit_loss,
            leverage=self.leverage,
        )


class SummaryRow(msgspec.Struct):
    """What there is of one currency. `balance` is the cash; what is available counts unrealised profit."""

    currency: str
    balance: Decimal = Decimal(0)
    available_funds: Decimal | None = None

    def as_balance(self) -> Balance:
        return Balance(
            asset=ABSTRACT.get(self.currency, self.currency),
            wallet=INTERNATIONAL,
            total=self.balance,
            available=self.available_funds,
        )


class Changes(msgspec.Struct):
    """A push of `user.changes`: what happened in one instrument."""

    instrument_name: str
    orders: list[OrderRow] = []
    trades: list[TradeRow] = []
    positions: list[PositionRow] = []
