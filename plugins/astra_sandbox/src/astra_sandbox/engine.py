"""The matching engine: markets with books, accounts with funds, price-time priority. No I/O, no tasks, no floats.

Commands (`place`, `amend`, `cancel`) take effect at once. Their events reach the listeners when the command is
complete and the books and accounts are consistent again; a conditional order that the command triggered runs as a
command of its own right after it.
"""

from __future__ import annotations

import copy
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from types import MappingProxyType

from astra.errors import hint
from astra.models.markets import Market
from astra.models.orders import Liquidity, OrderStatus, OrderType, PositionSide, TimeInForce
from astra.models.protocols import Clock
from astra.models.trades import Side
from astra.sandbox import (
    Account,
    Amount,
    BalanceEvent,
    BookChange,
    EngineBalance,
    EngineEvent,
    EngineFill,
    EngineOrder,
    EnginePosition,
    NewOrder,
    OrderEvent,
    PositionEvent,
    PublicTrade,
    Reject,
)
from astra_sandbox.accounts import (
    MAX_OPEN_ORDERS,
    MONEY,
    ZERO,
    Kind,
    Ledger,
    Terms,
    WalletAsset,
    leverage_of,
    only_closes,
)
from astra_sandbox.books import Book, BookSide
from astra_sandbox.prices import reference_prices
from astra_sandbox.rules import (
    check_notional,
    check_number,
    check_open,
    check_price,
    check_quantity,
    check_shape,
    on_grid,
)
from astra_sandbox.triggers import Triggers, waits_for_rise

HOUSE = "house"
"""Name of the engine's own account, which the order flow trades for: unlimited funds, no fees, no private events."""
DEFAULT_FEES: Mapping[Kind, tuple[Decimal, Decimal]] = {
    Kind.SPOT: (Decimal("0.001"), Decimal("0.001")),
    Kind.LINEAR: (Decimal("0.0002"), Decimal("0.0005")),
    Kind.INVERSE: (Decimal("0.0002"), Decimal("0.0005")),
    Kind.OPTION: (Decimal("0.0003"), Decimal("0.0003")),
}
"""(maker, taker) rates of products that are given none."""


class Trading:
    """Everything the engine keeps of one market."""

    __slots__ = ("book", "market", "next_trade_id", "reference", "terms", "trades", "triggers")

    def __init__(self, terms: Terms, reference: Decimal, history: int, random: Random) -> None:
        self.terms = terms
        self.market = terms.market
        self.reference = reference
        self.book = Book(update_id=random.randrange(10**6, 10**9))
        self.triggers = Triggers()
        self.next_trade_id = random.randrange(10**5, 10**8)
        self.trades: deque[PublicTrade] = deque(maxlen=history)


class MatchingEngine:
    """Implements `astra.sandbox.Exchange`.

    `fees` and `wallets` by product (see `astra.sandbox.SandboxVenue`). `seed` decides where ids start and what
    markets without a known asset are worth. `trade_history` bounds the public trades kept per market,
    `order_history` the done orders and `fill_history` the fills per account.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        clock: Clock,
        *,
        seed: int = 1,
        fees: Mapping[str, tuple[Decimal, Decimal]] | None = None,
        wallets: Mapping[str, str] | None = None,
        trade_history: int = 1000,
        order_history: int = 20_000,
        fill_history: int = 100_000,
    ) -> None:
        self.seed = seed
        self._clock = clock
        self._fees = dict(fees or {})
        self._wallets = dict(wallets or {})
        self._trade_history = trade_history
        self._order_history = order_history
        self._fill_history = fill_history
        self._markets: dict[str, Market] = {}
        self._trading: dict[str, Trading] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._by_key: dict[str, Account] = {}
        self._next_order_id = Random(f"{seed}:orders").randrange(10**9, 10**10)
        self._listeners: list[Callable[[EngineEvent], None]] = []
        self._events: list[EngineEvent] = []
        self._touched: dict[str, Ledger] = {}
        self._expiries: list[tuple[int, int, str]] = []
        self._expiries_limit = 1000
        self._busy = False
        self._now = 0
        self.collected: dict[WalletAsset, Decimal] = {}
        """What the venue has kept: fees, and what rounding of profits left over. Totals of all accounts, plus this,
        plus the cost of long and minus that of short positions, only change by deposits."""
        self._house = self._new_ledger(Account(name=HOUSE, key="", secret=""))
        for market in markets:
            self.list_market(market)

    # Markets

    @property
    def markets(self) -> Mapping[str, Market]:
        return MappingProxyType(self._markets)

    def list_market(self, market: Market) -> None:
        """List a market, or change one (status, tick, lot, ...) that is listed already."""
        known = self._trading.get(market.symbol)
        terms = self._terms_of(market)
        if known is None:
            prices = reference_prices([market], self.seed, self._clock.wall_ns() // 1_000_000)
            random = Random(f"{self.seed}:{market.symbol}")
            self._trading[market.symbol] = Trading(terms, prices[market.symbol], self._trade_history, random)
        else:
            known.terms, known.market = terms, market
        self._markets[market.symbol] = market

    def _terms_of(self, market: Market) -> Terms:
        terms = Terms.of(market, self._wallets.get(market.product), ZERO, ZERO)
        maker, taker = self._fees.get(market.product) or DEFAULT_FEES[terms.kind]
        return Terms.of(market, terms.wallet, maker, taker)

    def wallet_of(self, market: str) -> str:
        return self._find(market).terms.wallet

    def fee_rates(self, market: str) -> tuple[Decimal, Decimal]:
        terms = self._find(market).terms
        return terms.maker_rate, terms.taker_rate

    def settlement_asset(self, market: str) -> str:
        """The asset that premiums, margin and profits are in (spot: the quote asset)."""
        return self._find(market).terms.settle

    def depth(self, market: str, levels: int) -> tuple[int, Sequence[Amount], Sequence[Amount]]:
        book = self._find(market).book
        return book.update_id, book.bids.amounts(levels), book.asks.amounts(levels)

    def trades(self, market: str, *, after_id: int | None = None, limit: int = 500) -> Sequence[PublicTrade]:
        kept = self._find(market).trades
        if limit <= 0 or not kept:
            return []
        start = max(0, len(kept) - limit)
        if after_id is not None:  # ids of a market are consecutive
            start = min(max(0, after_id + 1 - kept[0].id), len(kept))
        return [kept[index] for index in range(start, min(start + limit, len(kept)))]

    def mark_price(self, market: str) -> Decimal:
        """The middle of the book, else the last price, else what the market is worth by the seed."""
        trading = self._find(market)
        return trading.book.mid() or trading.book.last_price or trading.reference

    def reference_price(self, market: str) -> Decimal:
        """What the market is worth by the seed, before anybody trades."""
        return self._find(market).reference

    def book(self, market: str) -> Book:
        """The book itself, to look at."""
        return self._find(market).book

    def _find(self, market: str) -> Trading:
        found = self._trading.get(market)
        if found is None:
            raise Reject("market-not-found", f"no market {market}.{hint(market, self._markets)}")
        return found

    # Accounts

    def open_account(
        self,
        name: str,
        key: str,
        secret: str,
        passphrase: str | None = None,
        *,
        balances: Mapping[str, Mapping[str, Decimal]] | None = None,
    ) -> Account:
        """A new account with `balances` (wallet -> asset -> amount). `ValueError` if name or key are taken."""
        if name in self._ledgers or key in self._by_key:
            raise ValueError(f"there is an account {name!r} already" if name in self._ledgers else "the key is taken")
        account = Account(name=name, key=key, secret=secret, passphrase=passphrase)
        ledger = self._new_ledger(account)
        self._by_key[key] = account
        for wallet, assets in (balances or {}).items():
            for asset, amount in assets.items():
                ledger.balance((wallet, asset)).total += amount
        return account

    def _new_ledger(self, account: Account) -> Ledger:
        ledger = Ledger(account, order_history=self._order_history, fill_history=self._fill_history)
        self._ledgers[account.name] = ledger
        return ledger

    def account_of(self, key: str) -> Account | None:
        return self._by_key.get(key)

    def account(self, name: str) -> Account | None:
        """The account of this name."""
        ledger = self._ledgers.get(name)
        return None if ledger is None or ledger is self._house else ledger.account

    def deposit(self, account: Account, wallet: str, asset: str, amount: Decimal) -> None:
        """Add `amount` (negative: withdraw, `insufficient-funds` beyond what is available)."""
        ledger = self._ledgers[account.name]
        self._begin()
        ledger.require((wallet, asset), -amount)
        ledger.credit((wallet, asset), amount)
        self._touched[account.name] = ledger
        self._deliver(None)

    def balances(self, account: Account) -> Sequence[EngineBalance]:
        return list(self._ledgers[account.name].balances.values())

    def positions(self, account: Account) -> Sequence[EnginePosition]:
        return [held.snapshot() for held in self._ledgers[account.name].holdings.values() if held.quantity]

    def all_positions(self, market: str) -> Sequence[EnginePosition]:
        """Open positions of every account in the market, the house's too; their quantities add up to zero."""
        return [
            held.snapshot()
            for ledger in self._ledgers.values()
            for (symbol, _), held in ledger.holdings.items()
            if symbol == market and held.quantity
        ]

    def order(
        self,
        account: Account,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        market: str | None = None,
    ) -> EngineOrder:
        ledger = self._ledgers[account.name]
        if order_id is not None:
            found = ledger.orders.get(order_id)
        elif client_order_id is not None:
            found = ledger.find(client_order_id, market)
        else:
            raise Reject("invalid", "give an order id or a client order id")
        if found is None or (market is not None and found.market != market):
            raise Reject("order-not-found", f"no order {client_order_id if order_id is None else order_id}")
        return found

    def open_orders(self, account: Account, market: str | None = None) -> Sequence[EngineOrder]:
        found = self._ledgers[account.name].open.values()
        return [order for order in found if market is None or order.market == market]

    def orders(self, account: Account, market: str | None = None) -> Sequence[EngineOrder]:
        found = self._ledgers[account.name].orders.values()
        return [order for order in found if market is None or order.market == market]

    def fills(self, account: Account, market: str | None = None) -> Sequence[EngineFill]:
        found = self._ledgers[account.name].fills
        return [fill for fill in found if market is None or fill.market == market]

    # Commands

    def place(self, account: Account, order: NewOrder) -> EngineOrder:
        """Raises `Reject`; nothing has happened then."""
        self._begin()
        ledger = self._ledgers[account.name]
        trading = self._find(order.market)
        created = self._checked(ledger, trading, order)
        planned = self._check_funds(ledger, trading, created)
        if created.quote_quantity is not None:
            created.quantity = planned
        self._next_order_id += 1
        ledger.admit(created)
        self._touched[account.name] = ledger
        if created.expire_time is not None:
            self._remember_expiry(created.expire_time, created)
        self._tell("NEW", created, ledger)
        if created.type.is_conditional:
            self._lock(ledger, trading, created)
            trading.triggers.add(created)
        else:
            if created.price is not None:
                self._lock(ledger, trading, created)
            self._execute(ledger, trading, created)
        self._deliver(trading)
        return created

    def cancel(self, account: Account, order_id: int) -> EngineOrder:
        """Raises `Reject("order-not-found")` unless the order is open."""
        self._begin()
        ledger = self._ledgers[account.name]
        order = self._open_order(ledger, order_id)
        trading = self._trading[order.market]
        self._end(ledger, trading, order, OrderStatus.CANCELED, None)
        self._deliver(trading)
        return order

    def amend(self, account: Account, order_id: int, *, price: Decimal | None, quantity: Decimal | None) -> EngineOrder:
        """Change price or total quantity. An order keeps its place in the queue only if nothing but its quantity
        shrinks; otherwise it goes to the end of the queue, and may trade at once."""
        self._begin()
        ledger = self._ledgers[account.name]
        order = self._open_order(ledger, order_id)
        trading = self._trading[order.market]
        new_price, new_quantity = self._checked_change(ledger, trading, order, price, quantity)
        self._touched[account.name] = ledger
        side = trading.book.side(order.side)
        resting = side.holds(order)
        keeps_place = new_price == order.price and new_quantity <= order.quantity
        if resting and order.price is not None:
            if keeps_place:
                side.take(order.price, order.quantity - new_quantity)
            else:
                side.remove(order, order.price)
        ledger.release(order)
        order.price, order.quantity, order.updated = new_price, new_quantity, self._now
        self._lock(ledger, trading, order)
        self._tell("AMENDED", order, ledger)
        if resting and not keeps_place:
            self._execute(ledger, trading, order)
        self._deliver(trading)
        return order

    def expire_due(self) -> None:
        """Expire the GTD orders whose time has come; every command does that first, the server every tick."""
        if self._expiries and self._expiries[0][0] <= self._clock.wall_ns() // 1_000_000:
            self._begin()

    def subscribe(self, listener: Callable[[EngineEvent], None]) -> None:
        self._listeners.append(listener)

    # Commands of the house (the order flow)

    def house_place(self, market: str, side: Side, quantity: Decimal, price: Decimal | None) -> None:
        """An unchecked order of the house, GTC at `price` or at market; the house may meet its own orders."""
        self._begin()
        trading = self._trading[market]
        order = EngineOrder(
            id=self._next_order_id,
            account=HOUSE,
            market=market,
            side=side,
            type=OrderType.MARKET if price is None else OrderType.LIMIT,
            quantity=quantity,
            price=price,
            stop_price=None,
            quote_quantity=None,
            time_in_force=TimeInForce.GTC,
            post_only=False,
            reduce_only=False,
            position_side=None,
            client_order_id=None,
            created=self._now,
            updated=self._now,
        )
        self._next_order_id += 1
        self._match(self._house, trading, order)
        if price is not None and order.remaining > 0:
            trading.book.side(side).add(order, price)
        self._deliver(trading)

    def house_cancel(self, order: EngineOrder) -> None:
        """Take an order of the house, found in a book, out of it."""
        self._begin()
        trading = self._trading[order.market]
        assert order.account == HOUSE
        assert order.price is not None
        order.status = OrderStatus.CANCELED
        trading.book.side(order.side).remove(order, order.price)
        self._deliver(trading)

    # Admission

    def _checked(self, ledger: Ledger, trading: Trading, new: NewOrder) -> EngineOrder:
        """The order, if the market's rules admit it; funds are not yet looked at."""
        market, book = trading.market, trading.book
        check_shape(new, self._now)
        check_open(market)
        for price in (new.price, new.stop_price):
            if price is not None:
                check_price(market, price)
        at_market = not new.type.has_price
        if new.quantity is not None:
            check_quantity(market, new.quantity, at_market=at_market)
        if len(ledger.open) >= MAX_OPEN_ORDERS:
            raise Reject("invalid", f"more than {MAX_OPEN_ORDERS} open orders")
        if new.client_order_id is not None:
            known = ledger.find(new.client_order_id, market.symbol)
            if known is not None and known.status.is_open:
                raise Reject("duplicate-client-order-id", f"client order id {new.client_order_id} is in use")
        order = self._as_order(ledger.account, market, new)
        self._check_position_rules(ledger, trading, order)
        if not order.reduce_only:
            worth = new.quote_quantity or trading.terms.notional(
                order.quantity, new.price or new.stop_price or self.mark_price(market.symbol)
            )
            check_notional(market, worth)
        if order.stop_price is not None:
            last = book.last_price or self.mark_price(market.symbol)
            rising = waits_for_rise(order.type, order.side)
            if last >= order.stop_price if rising else last <= order.stop_price:
                raise Reject("stop-would-trigger", f"the last price {last:f} has reached {order.stop_price:f} already")
        elif order.post_only and book.opposite(order.side).crosses(order.price):
            raise Reject("post-only", "the order would take")
        return order

    def _as_order(self, account: Account, market: Market, new: NewOrder) -> EngineOrder:
        return EngineOrder(
            id=self._next_order_id,
            account=account.name,
            market=new.market,
            side=new.side,
            type=new.type,
            quantity=ZERO if new.quantity is None else on_grid(new.quantity, market.lot_size),
            price=None if new.price is None else on_grid(new.price, market.tick_size),
            stop_price=None if new.stop_price is None else on_grid(new.stop_price, market.tick_size),
            quote_quantity=new.quote_quantity,
            time_in_force=new.time_in_force,
            post_only=new.post_only,
            reduce_only=new.reduce_only,
            position_side=new.position_side,
            client_order_id=new.client_order_id,
            created=self._now,
            updated=self._now,
            expire_time=new.expire_time,
            tag=new.tag,
        )

    def _check_position_rules(self, ledger: Ledger, trading: Trading, order: EngineOrder) -> None:
        """Position side and reduce-only. An order that may only reduce is cut to what there is to reduce."""
        terms = trading.terms
        if terms.kind is Kind.SPOT and (order.reduce_only or order.position_side):
            raise Reject("not-supported", "there are no positions in a spot market")
        if order.quote_quantity is not None and terms.kind is not Kind.SPOT:
            raise Reject("not-supported", "a quote quantity goes with spot markets only")
        if terms.kind in (Kind.LINEAR, Kind.INVERSE) and ledger.account.hedge_mode:
            if order.position_side is None:
                raise Reject("invalid", "in hedge mode an order names its position side")
        elif order.position_side is not None:
            raise Reject("invalid", "in one-way mode an order names no position side")
        if order.reduce_only and not only_closes(order):
            raise Reject("reduce-only", "the order would open a position")
        if only_closes(order) and not order.type.is_conditional:
            closable = ledger.closable(terms, order.side, order.position_side)
            if not closable:
                raise Reject("reduce-only", "there is no position to reduce")
            order.quantity = min(order.quantity, closable)

    def _checked_change(
        self, ledger: Ledger, trading: Trading, order: EngineOrder, price: Decimal | None, quantity: Decimal | None
    ) -> tuple[Decimal | None, Decimal]:
        """New price and total quantity, if the order may be amended so."""
        if price is None and quantity is None:
            raise Reject("invalid", "nothing to amend")
        check_open(trading.market)
        if price is not None:
            if order.price is None:
                raise Reject("invalid", f"a {order.type} order has no price")
            check_number("price", price)
            check_price(trading.market, price)
            price = on_grid(price, trading.market.tick_size)
        if quantity is not None:
            check_number("quantity", quantity)
            check_quantity(trading.market, quantity, at_market=not order.type.has_price)
            quantity = on_grid(quantity, trading.market.lot_size)
        new_price = order.price if price is None else price
        new_quantity = order.quantity if quantity is None else quantity
        if new_quantity <= order.filled:
            raise Reject("invalid", f"{order.filled:f} is filled already: cancel the order instead")
        waiting = trading.triggers.holds(order)
        if only_closes(order) and not waiting:
            if new_quantity - order.filled > ledger.closable(trading.terms, order.side, order.position_side):
                raise Reject("reduce-only", "the position is smaller than that")
        elif not order.reduce_only:
            worth_at = new_price or order.stop_price or self.mark_price(order.market)
            check_notional(trading.market, trading.terms.notional(new_quantity, worth_at))
        if order.post_only and not waiting and trading.book.opposite(order.side).crosses(new_price):
            raise Reject("post-only", "the order would take")
        key, needed, _ = self._hold(ledger, trading, order, new_price, new_quantity - order.filled)
        ledger.require(key, needed, released=ledger.locked_for(order))
        return new_price, new_quantity

    def _open_order(self, ledger: Ledger, order_id: int) -> EngineOrder:
        order = ledger.open.get(order_id)
        if order is None:
            raise Reject("order-not-found", f"no open order {order_id}")
        return order

    # Funds

    def _hold(
        self, ledger: Ledger, trading: Trading, order: EngineOrder, price: Decimal | None, quantity: Decimal
    ) -> tuple[WalletAsset, Decimal, Decimal | None]:
        """What an order of `quantity` at `price` holds back while it is open: (balance, amount, exact amount per unit).

        Conditional orders in derivatives hold nothing until they are triggered; spot ones without a price are taken
        at their stop price.
        """
        terms = trading.terms
        key = (terms.wallet, terms.settle)
        if terms.kind is Kind.SPOT:
            if order.side is Side.SELL:
                return (terms.wallet, terms.market.base_asset), quantity, Decimal(1)
            unit = price or order.stop_price or ZERO
            return key, quantity * unit, unit
        if price is None or (order.type.is_conditional and not order.triggered):
            return key, ZERO, None
        return key, self._margin_needed(ledger, trading, order, price, quantity), None

    def _margin_needed(
        self, ledger: Ledger, trading: Trading, order: EngineOrder, price: Decimal, quantity: Decimal
    ) -> Decimal:
        """Initial margin (options: premium with fee, or margin of a short) of the part that opens a position."""
        terms = trading.terms
        opening = ZERO
        if not only_closes(order):
            opening = max(ZERO, quantity - ledger.closable(terms, order.side, order.position_side))
        if terms.kind is Kind.OPTION and order.side is Side.BUY:
            return terms.value(quantity, price) * (1 + max(ZERO, terms.taker_rate))
        signed = opening if order.side is Side.BUY else -opening
        return terms.margin(signed, terms.value(opening, price), leverage_of(ledger.account, terms.symbol))

    def _lock(self, ledger: Ledger, trading: Trading, order: EngineOrder) -> None:
        key, amount, unit = self._hold(ledger, trading, order, order.price, order.remaining)
        ledger.lock(order, key, amount, unit)

    def _check_funds(self, ledger: Ledger, trading: Trading, order: EngineOrder) -> Decimal:
        """Refuse what the account cannot pay; returns the quantity the order comes to (by plan, for quote orders)."""
        if order.price is not None or (order.type.is_conditional and not order.triggered):
            key, needed, _ = self._hold(ledger, trading, order, order.price, order.remaining)
            ledger.require(key, needed)
            return order.quantity
        terms = trading.terms
        wanted = None if order.quote_quantity is not None else order.remaining
        quantity, worth = self._sweep(ledger, trading, order, None, wanted, order.quote_quantity)
        if order.quote_quantity is not None and not quantity and trading.book.opposite(order.side).prices:
            raise Reject("lot-size", f"{order.quote_quantity:f} {terms.settle} does not buy one lot")
        if terms.kind is Kind.SPOT:
            if order.side is Side.SELL:
                ledger.require((terms.wallet, terms.market.base_asset), quantity if wanted is None else wanted)
            else:
                ledger.require((terms.wallet, terms.settle), order.quote_quantity or worth)
        elif quantity:
            average = worth / quantity
            ledger.require((terms.wallet, terms.settle), self._margin_needed(ledger, trading, order, average, quantity))
        return quantity

    def _sweep(
        self,
        ledger: Ledger,
        trading: Trading,
        order: EngineOrder,
        limit: Decimal | None,
        quantity: Decimal | None,
        quote: Decimal | None,
    ) -> tuple[Decimal, Decimal]:
        """What the order would get now: (quantity, sum of price x quantity), for a quantity or an amount of quote.

        Stops before an order of the same account, counts of reduce-only orders no more than they can fill.
        """
        lot = trading.market.market_lot_size or trading.market.lot_size or MONEY
        side = trading.book.opposite(order.side)
        got, worth = ZERO, ZERO
        closable: dict[tuple[str, PositionSide | None], Decimal] = {}
        for price in side.best_first():
            if limit is not None and (price < limit if side.is_bid else price > limit):
                break
            for maker in side.levels[price].orders.values():
                if maker.account == ledger.account.name:
                    return got, worth
                offered = self._offered(trading, maker, closable)
                if quantity is not None:
                    part = min(offered, quantity - got)
                else:
                    assert quote is not None
                    part = min(offered, (quote - worth) / price // lot * lot)
                got += part
                worth += part * price
                if part < offered:
                    return got, worth
        return got, worth

    def _offered(
        self, trading: Trading, maker: EngineOrder, closable: dict[tuple[str, PositionSide | None], Decimal]
    ) -> Decimal:
        if maker.account == HOUSE or not only_closes(maker):
            return maker.remaining
        key = (maker.account, maker.position_side)
        if key not in closable:
            closable[key] = self._ledgers[maker.account].closable(trading.terms, maker.side, maker.position_side)
        offered = min(maker.remaining, closable[key])
        closable[key] -= offered
        return offered

    # Execution

    def _execute(self, ledger: Ledger, trading: Trading, order: EngineOrder) -> None:
        """Match a new (triggered, amended) order, then rest or end what remains of it."""
        if order.time_in_force is TimeInForce.FOK:
            fillable, _ = self._sweep(ledger, trading, order, order.price, order.remaining, None)
            if fillable < order.remaining or not fillable:
                self._end(ledger, trading, order, OrderStatus.EXPIRED, "fok")
                return
        self._match(ledger, trading, order)
        if not order.status.is_open:
            return
        if order.price is None or order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._end(ledger, trading, order, OrderStatus.EXPIRED, "no-liquidity" if order.price is None else "ioc")
        else:
            trading.book.side(order.side).add(order, order.price)

    def _match(self, ledger: Ledger, trading: Trading, order: EngineOrder) -> None:
        """Trade the order against the other side as far as its price reaches."""
        side = trading.book.opposite(order.side)
        house = ledger is self._house
        while order.remaining > 0 and order.status.is_open and side.crosses(order.price):
            price = side.best()
            assert price is not None
            maker = side.levels[price].first()
            if maker.account == order.account and not house:
                self._end(ledger, trading, order, OrderStatus.EXPIRED, "self-trade")
                return
            self._trade(ledger, trading, order, maker, side, price)

    def _trade(
        self, ledger: Ledger, trading: Trading, taker: EngineOrder, maker: EngineOrder, side: BookSide, price: Decimal
    ) -> None:
        quantity = min(taker.remaining, maker.remaining)
        trade_id = trading.next_trade_id
        trading.next_trade_id += 1
        trading.book.traded(price)
        trade = PublicTrade(
            id=trade_id,
            market=taker.market,
            price=price,
            quantity=quantity,
            side=taker.side,
            time=self._now,
            maker_order_id=maker.id,
            taker_order_id=taker.id,
        )
        trading.trades.append(trade)
        self._events.append(trade)
        side.take(price, quantity)
        maker_ledger = self._ledgers[maker.account]
        private = maker_ledger is not ledger
        for order, owner, liquidity in ((maker, maker_ledger, Liquidity.MAKER), (taker, ledger, Liquidity.TAKER)):
            fill = self._settle(owner, trading, order, price, quantity, trade_id, liquidity) if private else None
            order.filled += quantity
            order.filled_quote += price * quantity
            order.updated = self._now
            order.status = OrderStatus.PARTIALLY_FILLED if order.remaining > 0 else OrderStatus.FILLED
            if order is maker and order.remaining <= 0:
                side.remove(order, price)
            if owner is not self._house and fill is not None:
                order.fills.append(fill)
                owner.fills.append(fill)
                self._tell("TRADE", order, owner, fill)
                if order.status is OrderStatus.FILLED:
                    owner.finish(order)
        if private:
            for owner in (maker_ledger, ledger):
                self._shrink_closing_orders(owner, trading)

    def _settle(
        self,
        ledger: Ledger,
        trading: Trading,
        order: EngineOrder,
        price: Decimal,
        quantity: Decimal,
        trade_id: int,
        liquidity: Liquidity,
    ) -> EngineFill:
        """Move money and position for one side of a match, before the order counts the fill."""
        terms = trading.terms
        house = ledger is self._house
        self._touched[ledger.account.name] = ledger
        ledger.release(order, quantity)
        rate = ZERO if house else terms.maker_rate if liquidity is Liquidity.MAKER else terms.taker_rate
        buys = order.side is Side.BUY
        key = (terms.wallet, terms.settle)
        value = terms.value(quantity, price)
        pnl = ZERO
        if terms.kind is Kind.SPOT:
            base = (terms.wallet, terms.market.base_asset)
            fee_key, fee = (base, (quantity * rate).quantize(MONEY)) if buys else (key, (value * rate).quantize(MONEY))
            ledger.credit(base, quantity if buys else -quantity)
            ledger.credit(key, -value if buys else value)
        else:
            fee_key, fee = key, (value * rate).quantize(MONEY)
            exact = ledger.trade_position(order, terms, price, quantity)
            pnl = exact.quantize(MONEY)
            if terms.kind is Kind.OPTION:
                ledger.credit(key, -value if buys else value)
            else:
                ledger.credit(key, pnl)
                self._collect(key, exact - pnl)
        ledger.credit(fee_key, -fee)
        self._collect(fee_key, fee)
        return EngineFill(
            trade_id=trade_id,
            order_id=order.id,
            account=order.account,
            market=order.market,
            side=order.side,
            price=price,
            quantity=quantity,
            fee=fee,
            fee_asset=fee_key[1],
            liquidity=liquidity,
            time=self._now,
            realized_pnl=pnl,
        )

    def _collect(self, key: WalletAsset, amount: Decimal) -> None:
        if amount:
            self.collected[key] = self.collected.get(key, ZERO) + amount

    def _shrink_closing_orders(self, ledger: Ledger, trading: Trading) -> None:
        """Orders that may only reduce a position never exceed it: cut them to what is left, end them at nothing."""
        for order in list(ledger.closing.values()):
            if order.market != trading.terms.symbol or trading.triggers.holds(order):
                continue
            excess = order.remaining - ledger.closable(trading.terms, order.side, order.position_side)
            if excess <= 0:
                continue
            if excess >= order.remaining:
                self._end(ledger, trading, order, OrderStatus.EXPIRED, "reduce-only")
                continue
            side = trading.book.side(order.side)
            if side.holds(order) and order.price is not None:
                side.take(order.price, excess)
            order.quantity -= excess
            order.updated = self._now
            self._tell("AMENDED", order, ledger)

    def _end(
        self, ledger: Ledger, trading: Trading, order: EngineOrder, status: OrderStatus, reason: str | None
    ) -> None:
        """End an open order that is not filled, wherever it waits."""
        side = trading.book.side(order.side)
        if trading.triggers.holds(order):
            trading.triggers.remove(order)
        elif order.price is not None and side.holds(order):
            side.remove(order, order.price)
        order.status, order.reason, order.updated = status, reason, self._now
        self._touched[ledger.account.name] = ledger
        ledger.finish(order)
        self._tell("CANCELED" if status is OrderStatus.CANCELED else "EXPIRED", order, ledger)

    def _trigger(self, trading: Trading, order: EngineOrder) -> None:
        """The market reached the stop price: the order becomes a LIMIT or MARKET order, if it still may."""
        ledger = self._ledgers[order.account]
        self._touched[order.account] = ledger
        order.triggered, order.updated = True, self._now
        self._tell("TRIGGERED", order, ledger)
        ledger.release(order)
        try:
            if only_closes(order):
                closable = ledger.closable(trading.terms, order.side, order.position_side)
                if not closable:
                    raise Reject("reduce-only")
                order.quantity = min(order.quantity, closable)
            if order.post_only and trading.book.opposite(order.side).crosses(order.price):
                raise Reject("post-only")
            self._check_funds(ledger, trading, order)
        except Reject as refusal:
            self._end(ledger, trading, order, OrderStatus.EXPIRED, refusal.rule)
            return
        if order.price is not None:
            self._lock(ledger, trading, order)
        self._execute(ledger, trading, order)

    # Beginning and end of commands

    def _begin(self) -> None:
        if self._busy:
            raise RuntimeError("a listener may look at the engine, but not place, amend or cancel")
        self._now = self._clock.wall_ns() // 1_000_000
        while self._expiries and self._expiries[0][0] <= self._now:
            _, order_id, name = heapq.heappop(self._expiries)
            ledger = self._ledgers[name]
            order = ledger.open.get(order_id)
            if order is not None:
                trading = self._trading[order.market]
                self._end(ledger, trading, order, OrderStatus.EXPIRED, "expired")
                self._deliver(trading)

    def _remember_expiry(self, time: int, order: EngineOrder) -> None:
        heapq.heappush(self._expiries, (time, order.id, order.account))
        if len(self._expiries) > self._expiries_limit:  # most are of orders that are done: keep the open ones
            self._expiries = [entry for entry in self._expiries if entry[1] in self._ledgers[entry[2]].open]
            heapq.heapify(self._expiries)
            self._expiries_limit = max(1000, 2 * len(self._expiries))

    def _tell(self, kind: str, order: EngineOrder, ledger: Ledger, fill: EngineFill | None = None) -> None:
        if self._listeners:
            stands = copy.copy(order)
            stands.fills = list(order.fills)
            self._events.append(OrderEvent(kind=kind, order=stands, time=self._now, fill=fill))

    def _deliver(self, trading: Trading | None) -> None:
        """Complete the command, then run what it triggered. A listener's exception is raised at the end of it all."""
        failures: list[Exception] = []
        self._emit(trading, failures)
        while trading is not None and trading.book.trade_range is not None:
            order = trading.triggers.pop_due(*trading.book.trade_range)
            if order is None:
                trading.book.trade_range = None
            else:
                self._trigger(trading, order)
                self._emit(trading, failures)
        if failures:
            raise failures[0]

    def _emit(self, trading: Trading | None, failures: list[Exception]) -> None:
        """Tell the listeners all that one command did: its own events, balances, positions, the book."""
        events, self._events = self._events, []
        for name, ledger in self._touched.items():
            balances, positions = list(ledger.drain_balances()), list(ledger.drain_positions())
            if ledger is not self._house:
                events.extend(BalanceEvent(name, balance, self._now) for balance in balances)
                events.extend(PositionEvent(name, position, self._now) for position in positions)
        self._touched.clear()
        if trading is not None:
            book = trading.book
            bids, asks = book.bids.drain_changes(), book.asks.drain_changes()
            if bids or asks:
                book.update_id += 1
                events.append(BookChange(trading.terms.symbol, book.update_id, bids, asks, self._now))
        self._busy = True
        try:
            for event in events:
                for listener in self._listeners:
                    try:
                        listener(event)
                    except Exception as error:  # noqa: BLE001 - raised by _deliver, once all have been told
                        failures.append(error)
        finally:
            self._busy = False
