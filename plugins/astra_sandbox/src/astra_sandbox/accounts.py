"""What accounts hold: balances with locks, positions, orders and fills. Decimals throughout.

Money moves by these rules:

- Spot: buying pays price x quantity in quote, selling gives base; the fee is taken from what is received, or always in
  quote where the venue does so (`Terms.quote_fees`). A resting order locks what it would pay.
- Linear and inverse contracts: a position is opened at its value (`Terms.value`, in the settlement asset) against an
  initial margin of value / leverage. Reducing it realises the difference between the share of that value and the
  value at the exit price: for linear contracts exit - entry, for inverse ones (worth size / price in coin)
  size x (1/entry - 1/exit). Profit, loss and fees move the wallet; unrealised profit does not count as margin, and
  there is no liquidation. An order locks the margin of the part that, when it is placed, would open a position.
- Options: the premium moves at the trade. A long position needs no margin, a short one a fixed share of its strike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal
from enum import Enum

import msgspec

from astra.models.markets import ContractType, Market
from astra.models.orders import PositionSide
from astra.models.trades import Side
from astra.sandbox import Account, EngineBalance, EngineFill, EngineOrder, EnginePosition, Reject
from astra.symbols import AssetType

ZERO = Decimal(0)
ONE = Decimal(1)
MONEY = Decimal("1E-8")
"""Fees and realised profits are rounded to this (half to even)."""
DEFAULT_LEVERAGE = Decimal(20)
SHORT_OPTION_MARGIN = Decimal("0.15")
"""Initial margin of a short option, as a share of strike x contract size (coin-margined: of the coins alone)."""
MAX_OPEN_ORDERS = 10_000
_ENTRY = Context(prec=16)

WalletAsset = tuple[str, str]
"""(wallet, asset): what a balance is kept by."""
PositionKey = tuple[str, PositionSide | None]
"""(market, side): what a position is kept by; the side is None in one-way mode."""


class Kind(Enum):
    """How a market is settled."""

    SPOT = "spot"
    LINEAR = "linear"
    INVERSE = "inverse"
    OPTION = "option"


class Terms(msgspec.Struct, frozen=True):
    """A market's terms of settlement, worked out once."""

    market: Market
    symbol: str
    kind: Kind
    wallet: str
    settle: str
    """The asset that fees, margin and profits are in (spot: the quote asset)."""
    multiplier: Decimal
    """Contract size; 1 where quantities are in base units."""
    maker_rate: Decimal
    taker_rate: Decimal
    quote_fees: bool = False
    """Spot: fees are taken in the quote asset, of buys too."""

    @classmethod
    def of(
        cls, market: Market, wallet: str | None, maker_rate: Decimal, taker_rate: Decimal, *, quote_fees: bool = False
    ) -> Terms:
        if market.asset_type is AssetType.SPOT:
            kind, settle = Kind.SPOT, market.quote_asset
        elif market.asset_type is AssetType.OPT:
            kind, settle = Kind.OPTION, market.margin_asset or market.quote_asset
        elif market.contract_type is ContractType.INVERSE:
            kind, settle = Kind.INVERSE, market.margin_asset or market.base_asset
        else:
            kind, settle = Kind.LINEAR, market.margin_asset or market.quote_asset
        return cls(
            market=market,
            symbol=market.symbol,
            kind=kind,
            wallet=wallet or ("spot" if kind is Kind.SPOT else market.product),
            settle=settle,
            multiplier=ONE if kind is Kind.SPOT else market.contract_size or ONE,
            maker_rate=maker_rate,
            taker_rate=taker_rate,
            quote_fees=quote_fees and kind is Kind.SPOT,
        )

    def value(self, quantity: Decimal, price: Decimal) -> Decimal:
        """What `quantity` is worth at `price` in the settlement asset."""
        if self.kind is Kind.INVERSE:
            return quantity * self.multiplier / price
        return quantity * self.multiplier * price

    def notional(self, quantity: Decimal, price: Decimal) -> Decimal:
        """What `quantity` is worth at `price` in the quote asset."""
        if self.kind is Kind.INVERSE:
            return quantity * self.multiplier
        return quantity * self.multiplier * price

    @property
    def cost_factor(self) -> Decimal:
        """What a buy in a spot market costs at most, as a multiple of price x quantity."""
        return 1 + max(ZERO, self.maker_rate, self.taker_rate) if self.quote_fees else ONE

    def margin(self, quantity: Decimal, value: Decimal, leverage: Decimal) -> Decimal:
        """Initial margin of a position of `quantity` (signed) that was opened at `value`."""
        if self.kind is not Kind.OPTION:
            return (value / leverage).quantize(MONEY)
        if quantity >= 0:
            return ZERO
        worth = ONE if self.market.is_coin_margined else self.market.strike or ZERO
        return (-quantity * self.multiplier * worth * SHORT_OPTION_MARGIN).quantize(MONEY)


def leverage_of(account: Account, market: str) -> Decimal:
    """The leverage that `account.settings["leverage"]` names for the market, else 20."""
    table = account.settings.get("leverage")
    leverage = table.get(market) if isinstance(table, Mapping) else None
    return Decimal(leverage) if leverage else DEFAULT_LEVERAGE


class Holding(msgspec.Struct):
    """A position as the engine keeps it: `cost` is its value at entry (positive), `margin` what it locks."""

    terms: Terms
    side: PositionSide | None
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    margin: Decimal = ZERO
    realized: Decimal = ZERO

    @property
    def entry_price(self) -> Decimal:
        """Average entry price, to 16 digits (for inverse contracts the harmonic mean, as their value asks for)."""
        if not self.quantity:
            return ZERO
        size = abs(self.quantity) * self.terms.multiplier
        if self.terms.kind is Kind.INVERSE:
            return _ENTRY.divide(size, self.cost)
        return _ENTRY.divide(self.cost, size)

    def trade(self, signed: Decimal, price: Decimal) -> Decimal:
        """Add `signed` (short negative) at `price`; returns the profit realised, not yet rounded."""
        pnl = ZERO
        if self.quantity and (self.quantity > 0) != (signed > 0):
            closed = min(abs(signed), abs(self.quantity))
            pnl = self._reduce(closed, price)
            signed = signed + closed if signed < 0 else signed - closed
        if signed:
            self.cost += self.terms.value(abs(signed), price)
            self.quantity += signed
        self.realized += pnl
        return pnl

    def _reduce(self, closed: Decimal, price: Decimal) -> Decimal:
        is_long = self.quantity > 0
        whole = closed == abs(self.quantity)
        share = self.cost if whole else self.cost * closed / abs(self.quantity)
        exit_value = self.terms.value(closed, price)
        self.cost -= share
        self.quantity += -closed if is_long else closed
        gains_with_value = is_long != (self.terms.kind is Kind.INVERSE)
        return exit_value - share if gains_with_value else share - exit_value

    def snapshot(self) -> EnginePosition:
        return EnginePosition(
            market=self.terms.symbol,
            side=self.side,
            quantity=self.quantity,
            entry_price=self.entry_price,
            realized_pnl=self.realized,
        )


class Lock(msgspec.Struct):
    """What an open order holds back: `amount` for all that remains, `unit` for one unit of quantity."""

    key: WalletAsset
    amount: Decimal
    unit: Decimal | None
    """What one unit of quantity locks, where that is exact (spot); None: shares are taken in whole `MONEY`, so that
    sums of locks stay exact."""


class Ledger:
    """One account's books: balances, positions, orders, fills. Remembers what changed since it was last asked."""

    def __init__(self, account: Account, *, order_history: int, fill_history: int) -> None:
        self.account = account
        self.balances: dict[WalletAsset, EngineBalance] = {}
        self.holdings: dict[PositionKey, Holding] = {}
        self.orders: dict[int, EngineOrder] = {}
        self.open: dict[int, EngineOrder] = {}
        self.closing: dict[int, EngineOrder] = {}
        """Open orders that may only reduce a position."""
        self.fills: deque[EngineFill] = deque(maxlen=fill_history)
        self._order_history = order_history
        self._done: deque[int] = deque()
        self._by_client_id: dict[str, dict[str, int]] = {}
        self._locks: dict[int, Lock] = {}
        self._changed_balances: dict[WalletAsset, None] = {}
        self._changed_positions: dict[PositionKey, None] = {}

    # Balances

    def balance(self, key: WalletAsset) -> EngineBalance:
        found = self.balances.get(key)
        if found is None:
            found = self.balances[key] = EngineBalance(wallet=key[0], asset=key[1], total=ZERO, locked=ZERO)
        return found

    def credit(self, key: WalletAsset, amount: Decimal) -> None:
        """Add `amount` (negative: take) to the total."""
        self.balance(key).total += amount
        self._changed_balances[key] = None

    def require(self, key: WalletAsset, amount: Decimal, released: Decimal = ZERO) -> None:
        """Refuse (`insufficient-funds`) unless `amount` is available, counting `released` as available too."""
        if amount <= 0:
            return
        available = self.balance(key).available + released
        if amount > available:
            raise Reject(
                "insufficient-funds", f"{amount:f} {key[1]} needed in wallet {key[0]}, {available:f} available"
            )

    def lock(self, order: EngineOrder, key: WalletAsset, amount: Decimal, unit: Decimal | None = None) -> None:
        """Hold back `amount` for the order's remaining quantity; `unit` where the amount per unit is exact."""
        if unit is None:
            amount = amount.quantize(MONEY, ROUND_UP)
        if amount <= 0:
            return
        self._locks[order.id] = Lock(key, amount, unit)
        self._shift_lock(key, amount)

    def locked_for(self, order: EngineOrder) -> Decimal:
        lock = self._locks.get(order.id)
        return ZERO if lock is None else lock.amount

    def release(self, order: EngineOrder, quantity: Decimal | None = None) -> None:
        """Free what the order holds back, for `quantity` that is about to be filled (None: all of it)."""
        lock = self._locks.get(order.id)
        if lock is None:
            return
        if quantity is None or quantity >= order.remaining:
            amount = lock.amount
            del self._locks[order.id]
        else:
            share = lock.amount * quantity / order.remaining if lock.unit is None else lock.unit * quantity
            amount = share if lock.unit is not None else share.quantize(MONEY, ROUND_DOWN)
            lock.amount -= amount
        self._shift_lock(lock.key, -amount)

    def _shift_lock(self, key: WalletAsset, amount: Decimal) -> None:
        self.balance(key).locked += amount
        self._changed_balances[key] = None

    # Positions

    def holding(self, terms: Terms, side: PositionSide | None) -> Holding:
        key = (terms.symbol, side)
        found = self.holdings.get(key)
        if found is None:
            found = self.holdings[key] = Holding(terms, side)
        return found

    def closable(self, terms: Terms, side: Side, position_side: PositionSide | None) -> Decimal:
        """How much an order of this side can take off the position."""
        held = self.holdings.get((terms.symbol, position_side))
        if held is None or (held.quantity > 0) == (side is Side.BUY):
            return ZERO
        return abs(held.quantity)

    def trade_position(self, order: EngineOrder, terms: Terms, price: Decimal, quantity: Decimal) -> Decimal:
        """Apply one fill to the position and its margin; returns the profit realised, not yet rounded."""
        held = self.holding(terms, order.position_side)
        pnl = held.trade(quantity if order.side is Side.BUY else -quantity, price)
        margin = terms.margin(held.quantity, held.cost, leverage_of(self.account, terms.symbol))
        if margin != held.margin:
            self._shift_lock((terms.wallet, terms.settle), margin - held.margin)
            held.margin = margin
        self._changed_positions[(terms.symbol, order.position_side)] = None
        return pnl

    # Orders

    def admit(self, order: EngineOrder) -> None:
        """A new open order."""
        self.orders[order.id] = order
        self.open[order.id] = order
        if only_closes(order):
            self.closing[order.id] = order
        if order.client_order_id is not None:
            self._by_client_id.setdefault(order.client_order_id, {})[order.market] = order.id

    def finish(self, order: EngineOrder) -> None:
        """The order is done: free its funds and move it to the (bounded) history."""
        self.release(order)
        del self.open[order.id]
        self.closing.pop(order.id, None)
        self._done.append(order.id)
        while len(self._done) > self._order_history:
            self._forget(self._done.popleft())

    def find(self, client_order_id: str, market: str | None) -> EngineOrder | None:
        """The newest order with this client id (in `market`, when given)."""
        by_market = self._by_client_id.get(client_order_id, {})
        order_id = max(by_market.values(), default=None) if market is None else by_market.get(market)
        return None if order_id is None else self.orders[order_id]

    def _forget(self, order_id: int) -> None:
        order = self.orders.pop(order_id)
        by_market = self._by_client_id.get(order.client_order_id or "", {})
        if by_market.get(order.market) == order_id:
            del by_market[order.market]
            if not by_market:
                del self._by_client_id[order.client_order_id or ""]

    # Changes

    def drain_balances(self) -> Iterator[EngineBalance]:
        """Copies of the balances that changed since the last call."""
        for key in self._changed_balances:
            found = self.balances[key]
            yield EngineBalance(wallet=found.wallet, asset=found.asset, total=found.total, locked=found.locked)
        self._changed_balances.clear()

    def drain_positions(self) -> Iterator[EnginePosition]:
        """Snapshots of the positions that changed since the last call."""
        for key in self._changed_positions:
            yield self.holdings[key].snapshot()
        self._changed_positions.clear()


def only_closes(order: EngineOrder) -> bool:
    """May the order only reduce a position? Reduce-only orders, and in hedge mode those against their side."""
    if order.position_side is PositionSide.LONG:
        return order.side is Side.SELL
    if order.position_side is PositionSide.SHORT:
        return order.side is Side.BUY
    return order.reduce_only
