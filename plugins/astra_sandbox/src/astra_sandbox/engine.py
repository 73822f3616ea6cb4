"""The matching engine: markets with books, accounts with funds, price-time priority. No I/O, no tasks, no floats.

Commands (`place`, `amend`, `cancel`) take effect at once. Their events reach the listeners when the command is
complete and the books and accounts are consistent again; a conditional order that the command triggered runs as a
command of its own right after it.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from types import MappingProxyType

from astra.errors import hint
from astra.models.markets import Market
from astra.models.orders import Liquidity, OrderStatus, OrderType, TimeInForce
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
    MONEY,
    ZERO,
    Kind,
    Ledger,
    Terms,
    WalletAsset,
    only_closes,
)
from astra_sandbox.admission import check_funds, checked_change, checked_order, hold
from astra_sandbox.books import Book, BookSide
from astra_sandbox.listing import Listing
from astra_sandbox.prices import reference_prices

HOUSE = "house"
"""Name of the engine's own account, which the order flow trades for: unlimited funds, no fees, no private events."""
DEFAULT_FEES: Mapping[Kind, tuple[Decimal, Decimal]] = {
    Kind.SPOT: (Decimal("0.001"), Decimal("0.001")),
    Kind.LINEAR: (Decimal("0.0002"), Decimal("0.0005")),
    Kind.INVERSE: (Decimal("0.0002"), Decimal("0.0005")),
    Kind.OPTION: (Decimal("0.0003"), Decimal("0.0003")),
}
"""(maker, taker) rates of products that are given none."""


class MatchingEngine:
    """Implements `astra.sandbox.Exchange`.

    `fees` and `quote_fees` by product, `wallets` by product or market (see `astra.sandbox.SandboxVenue`). `seed`
    decides where ids start and what markets without a known asset are worth. A market that `aliases` maps to one listed
    before it trades in that one's book (see `astra.sandbox.SandboxVenue`). `trade_history` bounds the public trades
    kept per market, `order_history` the done orders and `fill_history` the fills per account.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        clock: Clock,
        *,
        seed: int = 1,
        fees: Mapping[str, tuple[Decimal, Decimal]] | None = None,
        wallets: Mapping[str, str] | Callable[[Market], str | None] | None = None,
        quote_fees: Collection[str] = (),
        aliases: Mapping[str, str] | None = None,
        trade_history: int = 1000,
        order_history: int = 20_000,
        fill_history: int = 100_000,
    ) -> None:
        self.seed = seed
        self._clock = clock
        self._fees = dict(fees or {})
        by_product = {} if wallets is None or callable(wallets) else dict(wallets)
        self._wallet = wallets if callable(wallets) else lambda market: by_product.get(market.product)
        self._quote_fees = frozenset(quote_fees)
        self._aliases = dict(aliases or {})
        self._trade_history = trade_history
        self._order_history = order_history
        self._fill_history = fill_history
        self._markets: dict[str, Market] = {}
        self._listings: dict[str, Listing] = {}
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
        """What the venue has kept: fees, and what rounding of profits left over."""
        self._house = self._new_ledger(Account(name=HOUSE, key="", secret=""))
        for market in markets:
            self.list_market(market)

    # Markets

    @property
    def markets(self) -> Mapping[str, Market]:
        return MappingProxyType(self._markets)

    def list_market(self, market: Market) -> None:
        """List a market, or change one (status, tick, lot, ...) that is listed already."""
        known = self._listings.get(market.symbol)
        terms = self._terms_of(market)
        if known is None:
            prices = reference_prices([market], self.seed, self._clock.wall_ns() // 1_000_000)
            random = Random(f"{self.seed}:{market.symbol}")
            listing = self._listings[market.symbol] = Listing(terms, prices[market.symbol], self._trade_history, random)
            origin = self._listings.get(self._aliases.get(market.symbol, ""))
            if origin is not None:
                listing.share(origin)
        else:
            known.terms, known.market = terms, market
        self._markets[market.symbol] = market

    def _terms_of(self, market: Market) -> Terms:
        terms = Terms.of(market, self._wallet(market), ZERO, ZERO)
        maker, taker = self._fees.get(market.product) or DEFAULT_FEES[terms.kind]
        return Terms.of(market, terms.wallet, maker, taker, quote_fees=market.product in self._quote_fees)

    def wallet_of(self, market: str) -> str:
        return self._find(market).terms.wallet

    def fee_rates(self, market: str) -> tuple[Decimal, Decimal]:
        terms = self._find(market).terms
        return terms.maker_rate, terms.taker_rate

    def shares_a_book(self, market: str) -> bool:
        """Is the market an alias, traded in another one's book?"""
        listing = self._find(market)
        return listing.origin is not listing

    def terms(self, market: str) -> Terms:
        """How the market is settled."""
        return self._find(market).terms

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
        return self._find(market).mark_price()

    def reference_price(self, market: str) -> Decimal:
        """What the market is worth by the seed, before anybody trades."""
        return self._find(market).reference

    def book(self, market: str) -> Book:
        """The book itself, to look at."""
        return self._find(market).book

    def _find(self, market: str) -> Listing:
        found = self._listings.get(market)
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

    def audit(self) -> dict[WalletAsset, Decimal]:
        """What there is of each asset in each wallet, over all accounts: totals, what the venue has collected, and
        what open contracts still owe one another by their values at entry. Only deposits change it, and trades between
        a market and its alias: each side pays in its own quote asset."""
        there = dict(self.collected)
        for ledger in self._ledgers.values():
            for key, held in ledger.balances.items():
                there[key] = there.get(key, ZERO) + held.total
            for position in ledger.holdings.values():
                terms = position.terms
                if terms.kind is not Kind.OPTION:
                    gains_with_value = (position.quantity > 0) != (terms.kind is Kind.INVERSE)
                    key = (terms.wallet, terms.settle)
                    there[key] = there.get(key, ZERO) + (-position.cost if gains_with_value else position.cost)
        return there

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
        listing = self._find(order.market)
        created = checked_order(ledger, listing, order, self._next_order_id, self._now)
        created.quantity = check_funds(ledger, listing, created, self._closable)
        self._next_order_id += 1
        ledger.admit(created)
        self._touched[account.name] = ledger
        if created.expire_time is not None:
            self._remember_expiry(created.expire_time, created)
        self._tell("NEW", created, ledger)
        if created.type.is_conditional:
            self._lock(ledger, listing, created)
            listing.triggers.add(created)
        else:
            if created.price is not None:
                self._lock(ledger, listing, created)
            self._execute(ledger, listing, created)
        self._deliver(listing)
        return created

    def cancel(self, account: Account, order_id: int) -> EngineOrder:
        """Raises `Reject("order-not-found")` unless the order is open."""
        self._begin()
        ledger = self._ledgers[account.name]
        order = self._open_order(ledger, order_id)
        listing = self._listings[order.market]
        self._end(ledger, listing, order, OrderStatus.CANCELED, None)
        self._deliver(listing)
        return order

    def amend(self, account: Account, order_id: int, *, price: Decimal | None, quantity: Decimal | None) -> EngineOrder:
        """Change price or total quantity. An order keeps its place in the queue only if nothing but its quantity
        shrinks; otherwise it goes to the end of the queue, and may trade at once."""
        self._begin()
        ledger = self._ledgers[account.name]
        order = self._open_order(ledger, order_id)
        listing = self._listings[order.market]
        new_price, new_quantity = checked_change(ledger, listing, order, price, quantity)
        self._touched[account.name] = ledger
        side = listing.book.side(order.side)
        resting = side.holds(order)
        keeps_place = new_price == order.price and new_quantity <= order.quantity
        if resting and order.price is not None:
            if keeps_place:
                side.take(order.price, order.quantity - new_quantity)
            else:
                side.remove(order, order.price)
        ledger.release(order)
        order.price, order.quantity, order.updated = new_price, new_quantity, self._now
        self._lock(ledger, listing, order)
        self._tell("AMENDED", order, ledger)
        if resting and not keeps_place:
            self._execute(ledger, listing, order)
        self._deliver(listing)
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
        listing = self._listings[market]
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
        self._match(self._house, listing, order)
        if price is not None and order.remaining > 0:
            listing.book.side(side).add(order, price)
        self._deliver(listing)

    def house_cancel(self, order: EngineOrder) -> None:
        """Take an order of the house, found in a book, out of it."""
        self._begin()
        listing = self._listings[order.market]
        assert order.account == HOUSE
        assert order.price is not None
        order.status = OrderStatus.CANCELED
        listing.book.side(order.side).remove(order, order.price)
        self._deliver(listing)

    def _open_order(self, ledger: Ledger, order_id: int) -> EngineOrder:
        order = ledger.open.get(order_id)
        if order is None:
            raise Reject("order-not-found", f"no open order {order_id}")
        return order

    def _lock(self, ledger: Ledger, listing: Listing, order: EngineOrder) -> None:
        key, amount, unit = hold(ledger, listing, order, order.price, order.remaining)
        ledger.lock(order, key, amount, unit)

    def _closable(self, order: EngineOrder) -> Decimal:
        terms = self._listings[order.market].terms
        return self._ledgers[order.account].closable(terms, order.side, order.position_side)

    # Execution

    def _execute(self, ledger: Ledger, listing: Listing, order: EngineOrder) -> None:
        """Match a new (triggered, amended) order, then rest or end what remains of it."""
        if order.time_in_force is TimeInForce.FOK:
            wanted = order.remaining
            fillable, _ = listing.sweep(order, self._closable, limit=order.price, quantity=wanted, quote=None)
            if fillable < order.remaining or not fillable:
                self._end(ledger, listing, order, OrderStatus.EXPIRED, "fok")
                return
        self._match(ledger, listing, order)
        if not order.status.is_open:
            return
        if order.price is None or order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._end(ledger, listing, order, OrderStatus.EXPIRED, "no-liquidity" if order.price is None else "ioc")
        else:
            listing.book.side(order.side).add(order, order.price)

    def _match(self, ledger: Ledger, listing: Listing, order: EngineOrder) -> None:
        """Trade the order against the other side as far as its price reaches."""
        side = listing.book.opposite(order.side)
        house = ledger is self._house
        while order.remaining > 0 and order.status.is_open and side.crosses(order.price):
            price = side.best()
            assert price is not None
            maker = side.levels[price].first()
            if maker.account == order.account and not house:
                self._end(ledger, listing, order, OrderStatus.EXPIRED, "self-trade")
                return
            self._trade(ledger, listing, order, maker, side, price)

    def _trade(
        self, ledger: Ledger, listing: Listing, taker: EngineOrder, maker: EngineOrder, side: BookSide, price: Decimal
    ) -> None:
        quantity = min(taker.remaining, maker.remaining)
        origin = listing.origin
        trade_id = origin.next_trade_id
        origin.next_trade_id += 1
        listing.book.traded(price)
        trade = PublicTrade(
            id=trade_id,
            market=origin.terms.symbol,
            price=price,
            quantity=quantity,
            side=taker.side,
            time=self._now,
            maker_order_id=maker.id,
            taker_order_id=taker.id,
        )
        listing.trades.append(trade)
        self._events.append(trade)
        side.take(price, quantity)
        maker_ledger = self._ledgers[maker.account]
        private = maker_ledger is not ledger
        for order, owner, liquidity in ((maker, maker_ledger, Liquidity.MAKER), (taker, ledger, Liquidity.TAKER)):
            terms = self._listings[order.market].terms
            fill = self._settle(owner, terms, order, price, quantity, trade_id, liquidity) if private else None
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
                self._shrink_closing_orders(owner, listing)

    def _settle(
        self,
        ledger: Ledger,
        terms: Terms,
        order: EngineOrder,
        price: Decimal,
        quantity: Decimal,
        trade_id: int,
        liquidity: Liquidity,
    ) -> EngineFill:
        """Move money and position for one side of a match, before the order counts the fill."""
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
            in_base = buys and not terms.quote_fees
            fee_key, fee = (base, quantity * rate) if in_base else (key, value * rate)
            fee = fee.quantize(MONEY)
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

    def _shrink_closing_orders(self, ledger: Ledger, listing: Listing) -> None:
        """Orders that may only reduce a position never exceed it: cut them to what is left, end them at nothing."""
        for order in list(ledger.closing.values()):
            if order.market != listing.terms.symbol or listing.triggers.holds(order):
                continue
            excess = order.remaining - ledger.closable(listing.terms, order.side, order.position_side)
            if excess <= 0:
                continue
            if excess >= order.remaining:
                self._end(ledger, listing, order, OrderStatus.EXPIRED, "reduce-only")
                continue
            side = listing.book.side(order.side)
            if side.holds(order) and order.price is not None:
                side.take(order.price, excess)
            order.quantity -= excess
            order.updated = self._now
            self._tell("AMENDED", order, ledger)

    def _end(
        self, ledger: Ledger, listing: Listing, order: EngineOrder, status: OrderStatus, reason: str | None
    ) -> None:
        """End an open order that is not filled, wherever it waits."""
        side = listing.book.side(order.side)
        if listing.triggers.holds(order):
            listing.triggers.remove(order)
        elif order.price is not None and side.holds(order):
            side.remove(order, order.price)
        order.status, order.reason, order.updated = status, reason, self._now
        self._touched[ledger.account.name] = ledger
        ledger.finish(order)
        self._tell("CANCELED" if status is OrderStatus.CANCELED else "EXPIRED", order, ledger)

    def _trigger(self, listing: Listing, order: EngineOrder) -> None:
        """The market reached the stop price: the order becomes a LIMIT or MARKET order, if it still may."""
        ledger = self._ledgers[order.account]
        self._touched[order.account] = ledger
        order.triggered, order.updated = True, self._now
        self._tell("TRIGGERED", order, ledger)
        ledger.release(order)
        try:
            if only_closes(order):
                closable = ledger.closable(listing.terms, order.side, order.position_side)
                if not closable:
                    raise Reject("reduce-only")
                order.quantity = min(order.quantity, closable)
            if order.post_only and listing.book.opposite(order.side).crosses(order.price):
                raise Reject("post-only")
            check_funds(ledger, listing, order, self._closable)
        except Reject as refusal:
            self._end(ledger, listing, order, OrderStatus.EXPIRED, refusal.rule)
            return
        if order.price is not None:
            self._lock(ledger, listing, order)
        self._execute(ledger, listing, order)

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
                listing = self._listings[order.market]
                self._end(ledger, listing, order, OrderStatus.EXPIRED, "expired")
                self._deliver(listing)

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

    def _deliver(self, listing: Listing | None) -> None:
        """Complete the command, then run what it triggered. A listener's exception is raised at the end of it all."""
        failures: list[Exception] = []
        self._emit(listing, failures)
        while listing is not None and listing.book.trade_range is not None:
            order = listing.triggers.pop_due(*listing.book.trade_range)
            if order is None:
                listing.book.trade_range = None
            else:
                self._trigger(self._listings[order.market], order)
                self._emit(listing, failures)
        if failures:
            raise failures[0]

    def _emit(self, listing: Listing | None, failures: list[Exception]) -> None:
        """Tell the listeners all that one command did: its own events, balances, positions, the book."""
        events, self._events = self._events, []
        for name, ledger in self._touched.items():
            balances, positions = list(ledger.drain_balances()), list(ledger.drain_positions())
            if ledger is not self._house:
                events.extend(BalanceEvent(name, balance, self._now) for balance in balances)
                events.extend(PositionEvent(name, position, self._now) for position in positions)
        self._touched.clear()
        if listing is not None:
            book = listing.book
            bids, asks = book.bids.drain_changes(), book.asks.drain_changes()
            if bids or asks:
                book.update_id += 1
                events.append(BookChange(listing.origin.terms.symbol, book.update_id, bids, asks, self._now))
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
