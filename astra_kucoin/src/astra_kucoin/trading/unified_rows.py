"""Orders, fills, balances and positions of unified accounts as Astra's: REST's words, and the stream's read into them.

Words are in capitals, times in ns. Sizes come in the unit in which the order was placed: lots, base units, or units of
the quote asset. Source: docs-new, "Unified Trading Account / Get Order Details", "Get Trade History", "Get Position
List".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus
from astra.models.trades import Side
from astra.trading.native import (
    decimal_or_none,
    make_fill,
    make_order,
    make_position,
    margin_mode,
    position_side,
)
from astra_kucoin.markets import asset_of
from astra_kucoin.settings import SPOT
from astra_kucoin.trading.rows import TIMES_IN_FORCE, ZERO, kind_of, ms_of

UNIFIED_WALLET: Final = "unified"


def tells_wallet(product: str, products: Collection[str], credentials: Credentials) -> bool:
    """Does the product's side tell the account's one wallet? Spot's does where spot is served and the account has a key
    for it, else that of futures."""
    return product == SPOT or SPOT not in products or credentials.key_for(SPOT) is None


TRADE_TYPES: Mapping[str, str] = {"spot": "SPOT", "futures": "FUTURES"}
_IN_FORCE = {text: meant for meant, text in TIMES_IN_FORCE.items()}
_STATES: Mapping[int, OrderStatus] = {
    0: OrderStatus.NEW,
    # Triggered: it goes on as another order, under the same client order id.
    1: OrderStatus.NEW,
    2: OrderStatus.NEW,
    3: OrderStatus.FILLED,
    4: OrderStatus.PARTIALLY_FILLED,
    5: OrderStatus.CANCELED,
    6: OrderStatus.CANCELED,
}
TRIGGERED: Final = 1
EXPIRED: Final = "ORDER_EXPIRED"


class OrderRow(msgspec.Struct, rename="camel"):
    """An order, as REST tells it and as the stream's frames are read into."""

    order_id: str
    symbol: str
    order_type: str
    side: str
    size: str
    status: int
    size_unit: str = ""
    client_oid: str | None = None
    price: str | None = None
    filled_size: str = "0"
    avg_price: str | None = None
    time_in_force: str = ""
    post_only: bool = False
    reduce_only: bool = False
    cancel_reason: str | None = None
    trigger_direction: str | None = None
    trigger_price: str | None = None
    order_time: int = 0
    updated_time: int = 0

    @property
    def native_symbol(self) -> str:
        return self.symbol

    def order(self, market: Market) -> Order:
        side = Side(self.side.upper())
        stop = (self.trigger_direction or "").lower() if decimal_or_none(self.trigger_price) else ""
        kind = kind_of(self.order_type.lower(), side, stop, has_price=bool(decimal_or_none(self.price)))
        status = _STATES.get(self.status, OrderStatus.UNKNOWN)
        if status is OrderStatus.CANCELED and self.cancel_reason == EXPIRED:
            status = OrderStatus.EXPIRED
        in_quote = self.size_unit == "QUOTECCY"
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.client_oid,
            side=side,
            kind=kind,
            status=status,
            price=decimal_or_none(self.price) if kind.has_price else None,
            stop_price=decimal_or_none(self.trigger_price),
            total=self._native(market, self.size),
            filled=self._native(market, self.filled_size),
            average=decimal_or_none(self.avg_price),
            quote_quantity=decimal_or_none(self.size) if in_quote else None,
            time_in_force=_IN_FORCE.get(self.time_in_force) if kind.has_price else None,
            reduce_only=self.reduce_only,
            post_only=self.post_only,
            created=ms_of(self.order_time),
            updated=ms_of(self.updated_time or self.order_time),
        )

    def _native(self, market: Market, size: str) -> Decimal | None:
        """Lots, or base units on spot. Of what was filled in quote units only nothing is known exactly."""
        value = Decimal(size or 0)
        if self.size_unit == "QUOTECCY":
            return None if value else ZERO
        if self.size_unit == "BASECCY" and market.contract_size is not None and not market.is_inverse:
            return value / market.contract_size
        return value


class FillRow(msgspec.Struct, rename="camel"):
    """A fill. Liquidations have the order id "0"."""

    symbol: str
    order_id: str
    trade_id: str | int
    side: str
    price: str
    size: str
    execution_time: int
    fee: str | None = None
    fee_currency: str | None = None
    liquidity_role: str = ""
    client_oid: str | None = None

    @property
    def native_symbol(self) -> str:
        return self.symbol

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=None if self.order_id in ("", "0") else self.order_id,
            client_order_id=self.client_oid,
            side=Side(self.side.upper()),
            price=Decimal(self.price),
            size=Decimal(self.size),
            fee=Decimal(self.fee) if self.fee else None,
            fee_asset=asset_of(self.fee_currency) if self.fee_currency else None,
            maker=self.liquidity_role == "MAKER" if self.liquidity_role else None,
            time=ms_of(self.execution_time),
        )


class BalanceRow(msgspec.Struct):
    """An asset of the unified account."""

    currency: str
    balance: str
    available: str
    hold: str = "0"
    liability: str = "0"

    def as_balance(self) -> Balance:
        return Balance(
            asset=asset_of(self.currency),
            wallet=UNIFIED_WALLET,
            total=Decimal(self.balance),
            available=Decimal(self.available),
            locked=Decimal(self.hold),
            borrowed=decimal_or_none(self.liability),
        )


class HeldRow(
    msgspec.Struct,
    rename={
        "entry_price": "entryPrice",
        "mark_price": "markPrice",
        "unrealized_pnl": "unrealizedPnL",
        "margin_mode": "marginMode",
        "liquidation_price": "liquidationPrice",
    },
):
    """A position; `size` is in lots, negative for a short one."""

    symbol: str
    size: str
    entry_price: str | None = None
    mark_price: str | None = None
    liquidation_price: str | None = None
    unrealized_pnl: str | None = None
    leverage: str | None = None
    margin_mode: str | None = None

    @property
    def native_symbol(self) -> str:
        return self.symbol

    @property
    def lots(self) -> Decimal:
        return Decimal(self.size or 0)

    def position(self, market: Market) -> Position:
        side = position_side("", self.lots)
        return make_position(
            market,
            side,
            self.lots,
            entry=decimal_or_none(self.entry_price),
            mark=decimal_or_none(self.mark_price),
            liquidation=decimal_or_none(self.liquidation_price),
            unrealized_pnl=Decimal(self.unrealized_pnl) if self.unrealized_pnl else None,
            leverage=decimal_or_none(self.leverage),
            margin_mode=margin_mode(self.margin_mode),
        )
