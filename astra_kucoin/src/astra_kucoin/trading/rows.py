"""The venue's rows of orders, fills, balances and positions as Astra's.

Spot writes amounts as texts and sizes in base units; futures write JSON numbers and texts, and sizes in lots. Source:
docs-new, "Get Order By OrderId", "Get Trade History", "Get Account List", "Get Position List" (spot, futures).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from astra.errors import OrderOutcomeUnknown, VenueError
from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.rest import Recent
from astra.trading.native import (
    average_of,
    decimal_or_none,
    make_fill,
    make_order,
    make_position,
    margin_mode,
    position_side,
)
from astra_kucoin.markets import asset_of
from astra_kucoin.settings import FUTURES, SPOT

ZERO: Final = Decimal(0)
STOP_PREFIX: Final = "stop:"
"""Spot's conditional orders have ids in a space of their own: `stop:vs8hoo8q2ceshiue003b67c0`."""
_NS_FROM: Final = 10**17
TIMES_IN_FORCE: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "GTC",
    TimeInForce.GTD: "GTT",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
}
_IN_FORCE = {text: meant for meant, text in TIMES_IN_FORCE.items()}
_RISING = frozenset({"up", "entry"})
_STOPS = (OrderType.STOP_LIMIT, OrderType.STOP_MARKET)
TRADE_ACCOUNT: Final = "trade"


class StopNote(msgspec.Struct, frozen=True):
    """What the streams leave out of a conditional order."""

    client_order_id: str
    kind: OrderType


AMENDED_S: Final = 7.0
"""For so long after its command ended an amendment may still show: a signed request is good for 5 s, and a margin."""
StopNotes = Recent[str, StopNote]
"""The venue's id (without prefix) -> what is known of the conditional order."""


class Amendment(msgspec.Struct):
    """What is known of the amendments of one order of spot by one id, each of which ends that id."""

    running: int = 0
    """So many commands are on their way."""
    over_at: float = 0.0
    """When what the last of them did can no longer be news."""
    may_have_been: bool = False
    """One was carried out, or its outcome is not known."""
    refuted: bool = False
    """None was carried out, nor will be."""
    ended: bool = False
    """The stream told the end of the id."""
    withheld: Callable[[], None] | None = None
    """Tells that end, which counts as the cancel half of the amendment as long as nothing says otherwise."""

    def refute(self) -> None:
        """What ended the id, or will, is a cancel."""
        tell, self.withheld, self.refuted = self.withheld, None, True
        if tell is not None:
            tell()


class Notes:
    """What the trading side tells the streams, because they do not say it themselves. `now_s` is a clock.

    Spot amends by cancelling and placing anew, under another id: the stream tells the old id as canceled. That is no
    end of the order. Noted is the venue's id that is amended, of each account by itself: whatever else ends, be it
    under the same client order id, is told.
    """

    def __init__(self, most: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self.stops: StopNotes = Recent(most)
        self.ids: Recent[tuple[Hashable, str], str] = Recent(most)
        """(account, client order id) -> the venue's id of the order, as it was last told to the trading side."""
        self._amended: Recent[tuple[Hashable, str], Amendment] = Recent(most)
        self._now_s = now_s

    @contextlib.contextmanager
    def amending(self, account: Hashable, order_id: str) -> Iterator[None]:
        """While a command to amend the order of this id is on its way. It raises what became of it: any error but
        `OrderOutcomeUnknown` says that the order was not amended."""
        note = self._in_force(account, order_id)
        if note is None:
            note = self._amended[account, order_id] = Amendment()
        note.running += 1
        done = True
        try:
            yield
        except VenueError as error:
            done = isinstance(error, OrderOutcomeUnknown)
            raise
        finally:
            note.running -= 1
            note.may_have_been |= done
            note.over_at = self._now_s() + AMENDED_S
            if not note.running and not note.may_have_been:
                note.refute()

    def is_amending(self, account: Hashable, order_id: str) -> bool:
        """May a cancel of this id be half of an amendment?"""
        return self._in_force(account, order_id) is not None

    def withhold(self, account: Hashable, order_id: str, tell: Callable[[], None] | None) -> bool:
        """The stream says that this id was canceled. True: this is taken for half of an amendment, and `tell` (None:
        the cancel is told in any case) is called if it turns out to be none. So is one cancel, and no further one."""
        note = self._in_force(account, order_id)
        if note is None or note.ended:
            return False
        note.ended = True
        note.withheld = tell
        return tell is not None

    def canceled(self, account: Hashable, order_id: str) -> None:
        """The order of this id was not amended, but canceled."""
        note = self._in_force(account, order_id)
        if note is not None:
            note.refute()

    def _in_force(self, account: Hashable, order_id: str) -> Amendment | None:
        note = self._amended.get((account, order_id))
        if note is None or note.refuted:
            return None
        return note if note.running or self._now_s() < note.over_at else None


def ms_of(stamp: int) -> int:
    """A time in ms; the venue writes some in ns."""
    return stamp // 1_000_000 if stamp >= _NS_FROM else stamp


def kind_of(word: str, side: Side, stop: str, *, has_price: bool) -> OrderType:
    """The type of an order. A conditional one waits for a rise (`up`, `entry`) or a fall: for one that follows the
    price it is a stop, for one that goes against it a take-profit."""
    limit = word == "limit" if word in ("limit", "market") else has_price
    if not stop:
        return OrderType.LIMIT if limit else OrderType.MARKET
    if (stop in _RISING) is (side is Side.BUY):
        return OrderType.STOP_LIMIT if limit else OrderType.STOP_MARKET
    return OrderType.TAKE_PROFIT_LIMIT if limit else OrderType.TAKE_PROFIT_MARKET


def rises(kind: OrderType, side: Side) -> bool:
    """Does the conditional order wait for the price to rise?"""
    return (kind in _STOPS) is (side is Side.BUY)


def status_of(*, active: bool, canceled: bool, filled: Decimal) -> OrderStatus:
    """The venue has no word for it, but these."""
    if active:
        return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    if canceled:
        return OrderStatus.CANCELED
    # Done, not canceled and nothing filled: that cannot be, and must not pass for a fill.
    return OrderStatus.FILLED if filled else OrderStatus.UNKNOWN


class SpotOrderRow(msgspec.Struct, rename="camel"):
    """An order of the HF family."""

    id: str
    symbol: str
    type: str
    side: str
    active: bool
    cancel_exist: bool = False
    client_oid: str | None = None
    price: str | None = None
    size: str | None = None
    funds: str | None = None
    deal_size: str = "0"
    deal_funds: str = "0"
    time_in_force: str = "GTC"
    cancel_after: int | None = None
    post_only: bool = False
    created_at: int = 0
    last_updated_at: int = 0

    @property
    def native_symbol(self) -> str:
        return self.symbol

    @property
    def status(self) -> OrderStatus:
        status = status_of(active=self.active, canceled=self.cancel_exist, filled=Decimal(self.deal_size))
        ends_at = self.created_at + 1000 * (self.cancel_after or 0)
        if status is OrderStatus.CANCELED and self.time_in_force == "GTT" and self.last_updated_at >= ends_at:
            return OrderStatus.EXPIRED
        return status

    def order(self, market: Market) -> Order:
        at_market = self.type == "market"
        total = decimal_or_none(self.size)
        filled = Decimal(self.deal_size)
        return make_order(
            market,
            order_id=self.id,
            client_order_id=self.client_oid,
            side=Side(self.side.upper()),
            kind=OrderType.MARKET if at_market else OrderType.LIMIT,
            status=self.status,
            price=None if at_market else decimal_or_none(self.price),
            total=total,
            filled=filled,
            average=average_of(Decimal(self.deal_funds), filled),
            quote_quantity=decimal_or_none(self.funds) if at_market and total is None else None,
            time_in_force=None if at_market else _IN_FORCE.get(self.time_in_force),
            post_only=self.post_only,
            created=self.created_at,
            updated=self.last_updated_at or self.created_at,
        )


class SpotStopRow(msgspec.Struct, rename="camel"):
    """A conditional order of spot that was not triggered yet."""

    id: str
    symbol: str
    type: str
    side: str
    stop: str
    stop_price: str
    client_oid: str | None = None
    price: str | None = None
    size: str | None = None
    funds: str | None = None
    time_in_force: str = "GTC"
    post_only: bool = False
    created_at: int = 0

    @property
    def native_symbol(self) -> str:
        return self.symbol

    def order(self, market: Market) -> Order:
        side = Side(self.side.upper())
        kind = kind_of(self.type, side, self.stop, has_price=bool(self.price))
        return make_order(
            market,
            order_id=f"{STOP_PREFIX}{self.id}",
            client_order_id=self.client_oid,
            side=side,
            kind=kind,
            status=OrderStatus.NEW,
            price=decimal_or_none(self.price) if kind.has_price else None,
            stop_price=decimal_or_none(self.stop_price),
            total=decimal_or_none(self.size),
            filled=ZERO,
            average=None,
            quote_quantity=decimal_or_none(self.funds) if self.size is None else None,
            time_in_force=_IN_FORCE.get(self.time_in_force) if kind.has_price else None,
            post_only=self.post_only,
            created=ms_of(self.created_at),
            updated=ms_of(self.created_at),
        )


class FuturesOrderRow(msgspec.Struct, rename="camel"):
    """An order of futures, conditional ones included (`stop` is `up` or `down`)."""

    id: str
    symbol: str
    type: str
    side: str
    size: Decimal
    is_active: bool
    cancel_exist: bool = False
    deal_size: Decimal = ZERO
    avg_deal_price: str | None = None
    price: str | None = None
    stop: str | None = None
    stop_price: str | None = None
    stop_triggered: bool | None = None
    client_oid: str | None = None
    time_in_force: str = "GTC"
    post_only: bool = False
    reduce_only: bool = False
    created_at: int = 0
    updated_at: int | None = None

    @property
    def native_symbol(self) -> str:
        return self.symbol

    @property
    def is_waiting(self) -> bool:
        """A conditional order, not yet triggered: whatever `isActive` says of it."""
        return bool(self.stop) and not self.stop_triggered and not self.cancel_exist and not self.deal_size

    def order(self, market: Market) -> Order:
        side = Side(self.side.upper())
        kind = kind_of(self.type, side, self.stop or "", has_price=bool(decimal_or_none(self.price)))
        active = self.is_active or self.is_waiting
        return make_order(
            market,
            order_id=self.id,
            client_order_id=self.client_oid,
            side=side,
            kind=kind,
            status=status_of(active=active, canceled=self.cancel_exist, filled=self.deal_size),
            price=decimal_or_none(self.price) if kind.has_price else None,
            stop_price=decimal_or_none(self.stop_price) if kind.is_conditional else None,
            total=self.size,
            filled=self.deal_size,
            average=decimal_or_none(self.avg_deal_price),
            time_in_force=_IN_FORCE.get(self.time_in_force) if kind.has_price else None,
            reduce_only=self.reduce_only,
            post_only=self.post_only,
            created=self.created_at,
            updated=self.updated_at or self.created_at,
        )


class SpotFillRow(msgspec.Struct, rename="camel"):
    """A fill of spot; `id` is the place in the history."""

    id: int
    symbol: str
    order_id: str
    trade_id: int | str
    side: str
    price: str
    size: str
    fee: str | None = None
    fee_currency: str | None = None
    liquidity: str = ""
    created_at: int = 0

    @property
    def native_symbol(self) -> str:
        return self.symbol

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            side=Side(self.side.upper()),
            price=Decimal(self.price),
            size=Decimal(self.size),
            fee=Decimal(self.fee) if self.fee else None,
            fee_asset=asset_of(self.fee_currency) if self.fee_currency else None,
            maker=self.liquidity == "maker" if self.liquidity else None,
            time=self.created_at,
        )


class FuturesFillRow(msgspec.Struct, rename="camel"):
    """A fill of futures. Liquidations have the order id "0"."""

    symbol: str
    trade_id: int | str
    order_id: str
    side: str
    price: str
    size: Decimal
    fee: str | None = None
    fee_currency: str | None = None
    liquidity: str = ""
    trade_time: int = 0
    created_at: int = 0

    @property
    def native_symbol(self) -> str:
        return self.symbol

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=None if self.order_id in ("", "0") else self.order_id,
            side=Side(self.side.upper()),
            price=Decimal(self.price),
            size=self.size,
            fee=Decimal(self.fee) if self.fee else None,
            fee_asset=asset_of(self.fee_currency) if self.fee_currency else None,
            maker=self.liquidity == "maker" if self.liquidity else None,
            time=ms_of(self.trade_time) or self.created_at,
        )


class SpotBalanceRow(msgspec.Struct):
    """An asset of one of spot's accounts; the `trade` account pays for orders."""

    currency: str
    type: str
    balance: str
    available: str
    holds: str

    def as_balance(self) -> Balance:
        return Balance(
            asset=asset_of(self.currency),
            wallet=SPOT,
            total=Decimal(self.balance),
            available=Decimal(self.available),
            locked=Decimal(self.holds),
        )


class OverviewRow(msgspec.Struct, rename="camel"):
    """The futures account of one settlement asset. What is available counts unrealised profit of cross positions."""

    currency: str
    account_equity: Decimal
    unrealised_pnl: Decimal = msgspec.field(name="unrealisedPNL", default=ZERO)
    position_margin: Decimal = ZERO
    order_margin: Decimal = ZERO
    frozen_funds: Decimal = ZERO
    available_balance: Decimal = ZERO

    def as_balance(self) -> Balance:
        return Balance(
            asset=asset_of(self.currency),
            wallet=FUTURES,
            total=self.account_equity - self.unrealised_pnl,
            available=self.available_balance,
            locked=self.position_margin + self.order_margin + self.frozen_funds,
        )


class PositionRow(msgspec.Struct, rename="camel"):
    """A position; `currentQty` is in lots, negative for a short one. Frames that only tell a new mark price have
    neither contract nor size."""

    symbol: str = ""
    current_qty: Decimal | None = None
    position_side: str = "BOTH"
    avg_entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    unrealised_pnl: Decimal | None = None
    leverage: Decimal | None = None
    margin_mode: str | None = None

    @property
    def native_symbol(self) -> str:
        return self.symbol

    @property
    def size(self) -> Decimal:
        return self.current_qty or ZERO

    @property
    def is_net(self) -> bool:
        return self.position_side.upper() not in ("LONG", "SHORT")

    def position(self, market: Market) -> Position:
        size, side = self.size, position_side(self.position_side, self.size)
        if not size:
            return make_position(market, side, size)
        return make_position(
            market,
            side,
            size,
            entry=self.avg_entry_price,
            mark=self.mark_price,
            liquidation=self.liquidation_price,
            unrealized_pnl=self.unrealised_pnl,
            leverage=self.leverage or None,
            margin_mode=margin_mode(self.margin_mode),
        )
