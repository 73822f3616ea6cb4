"""May an order enter, or be changed as asked, and what does it hold back? Nothing here changes anything; what is
refused raises `astra.sandbox.Reject`."""

from __future__ import annotations

from decimal import Decimal

from astra.models.markets import Market
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, NewOrder, Reject
from astra_sandbox.accounts import MAX_OPEN_ORDERS, ZERO, Kind, Ledger, WalletAsset, leverage_of, only_closes
from astra_sandbox.listing import Closable, Listing
from astra_sandbox.rules import (
    check_notional,
    check_number,
    check_open,
    check_price,
    check_quantity,
    check_shape,
    on_grid,
)
from astra_sandbox.triggers import waits_for_rise


def checked_order(ledger: Ledger, listing: Listing, new: NewOrder, order_id: int, now_ms: int) -> EngineOrder:
    """The order, if the market's and the account's rules admit it; funds are not looked at."""
    market, book = listing.market, listing.book
    check_shape(new, now_ms)
    check_open(market)
    for price in (new.price, new.stop_price):
        if price is not None:
            check_price(market, price)
    if new.quantity is not None:
        check_quantity(market, new.quantity, at_market=not new.type.has_price)
    if len(ledger.open) >= MAX_OPEN_ORDERS:
        raise Reject("invalid", f"the account has {MAX_OPEN_ORDERS} open orders, the most there may be")
    if new.client_order_id is not None:
        known = ledger.find(new.client_order_id, market.symbol)
        if known is not None and known.status.is_open:
            raise Reject("duplicate-client-order-id", f"client order id {new.client_order_id} is in use")
    order = _as_order(ledger.account, market, new, order_id, now_ms)
    _check_position_rules(ledger, listing, order)
    if not order.reduce_only:
        worth_at = new.price or new.stop_price or listing.mark_price()
        check_notional(market, new.quote_quantity or listing.terms.notional(order.quantity, worth_at))
    if order.stop_price is not None:
        last = book.last_price or listing.mark_price()
        rising = waits_for_rise(order.type, order.side)
        if last >= order.stop_price if rising else last <= order.stop_price:
            raise Reject("stop-would-trigger", f"the last price {last:f} has reached {order.stop_price:f} already")
    elif order.post_only and book.opposite(order.side).crosses(order.price):
        raise Reject("post-only", "the order would take")
    return order


def _as_order(account: Account, market: Market, new: NewOrder, order_id: int, now_ms: int) -> EngineOrder:
    return EngineOrder(
        id=order_id,
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
        created=now_ms,
        updated=now_ms,
        expire_time=new.expire_time,
        tag=new.tag,
    )


def _check_position_rules(ledger: Ledger, listing: Listing, order: EngineOrder) -> None:
    """Position side and reduce-only. An order that may only reduce is cut to what there is to reduce."""
    terms = listing.terms
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


def checked_change(
    ledger: Ledger, listing: Listing, order: EngineOrder, price: Decimal | None, quantity: Decimal | None
) -> tuple[Decimal | None, Decimal]:
    """New price and new total quantity, if the open order may be amended so."""
    market = listing.market
    if price is None and quantity is None:
        raise Reject("invalid", "nothing to amend")
    check_open(market)
    new_price, new_quantity = order.price, order.quantity
    if price is not None:
        if order.price is None:
            raise Reject("invalid", f"a {order.type} order has no price")
        check_number("price", price)
        check_price(market, price)
        new_price = on_grid(price, market.tick_size)
    if quantity is not None:
        check_number("quantity", quantity)
        check_quantity(market, quantity, at_market=not order.type.has_price)
        new_quantity = on_grid(quantity, market.lot_size)
    if new_quantity <= order.filled:
        raise Reject("invalid", f"{order.filled:f} is filled already: cancel the order instead")
    waiting = listing.triggers.holds(order)
    if not order.reduce_only:
        worth_at = new_price or order.stop_price or listing.mark_price()
        check_notional(market, listing.terms.notional(new_quantity, worth_at))
    if only_closes(order) and not waiting:
        closable = ledger.closable(listing.terms, order.side, order.position_side)
        if new_quantity - order.filled > closable:
            raise Reject("reduce-only", "the position is smaller than that")
    if order.post_only and not waiting and listing.book.opposite(order.side).crosses(new_price):
        raise Reject("post-only", "the order would take")
    key, needed, _ = hold(ledger, listing, order, new_price, new_quantity - order.filled)
    ledger.require(key, needed, released=ledger.locked_for(order))
    return new_price, new_quantity


def hold(
    ledger: Ledger, listing: Listing, order: EngineOrder, price: Decimal | None, quantity: Decimal
) -> tuple[WalletAsset, Decimal, Decimal | None]:
    """What an order of `quantity` at `price` holds back while it is open: (balance, amount, exact amount per unit).

    Conditional orders in derivatives hold nothing until they are triggered; spot ones without a price are taken at
    their stop price.
    """
    terms = listing.terms
    key = (terms.wallet, terms.settle)
    if terms.kind is Kind.SPOT:
        if order.side is Side.SELL:
            return (terms.wallet, terms.market.base_asset), quantity, Decimal(1)
        unit = (price or order.stop_price or ZERO) * terms.cost_factor
        return key, quantity * unit, unit
    if price is None or (order.type.is_conditional and not order.triggered):
        return key, ZERO, None
    return key, _margin_needed(ledger, listing, order, price, quantity), None


def _margin_needed(ledger: Ledger, listing: Listing, order: EngineOrder, price: Decimal, quantity: Decimal) -> Decimal:
    """Initial margin (options: premium with fee, or the margin of a short) of the part that opens a position."""
    terms = listing.terms
    if terms.kind is Kind.OPTION and order.side is Side.BUY:
        return terms.value(quantity, price) * (1 + max(ZERO, terms.taker_rate))
    opening = ZERO
    if not only_closes(order):
        opening = max(ZERO, quantity - ledger.closable(terms, order.side, order.position_side))
    signed = opening if order.side is Side.BUY else -opening
    return terms.margin(signed, terms.value(opening, price), leverage_of(ledger.account, terms.symbol))


def check_funds(ledger: Ledger, listing: Listing, order: EngineOrder, closable: Closable) -> Decimal:
    """Refuse what the account cannot pay; returns the quantity the order comes to (by plan, for quote orders)."""
    if order.price is not None or (order.type.is_conditional and not order.triggered):
        key, needed, _ = hold(ledger, listing, order, order.price, order.remaining)
        ledger.require(key, needed)
        return order.quantity
    terms, quote = listing.terms, order.quote_quantity
    wanted = order.remaining if quote is None else None
    quantity, worth = listing.sweep(order, closable, limit=None, quantity=wanted, quote=quote)
    if quote is not None and not quantity and listing.book.opposite(order.side).prices:
        raise Reject("lot-size", f"{quote:f} {terms.settle} is less than one lot is worth")
    key = (terms.wallet, terms.settle)
    if terms.kind is Kind.SPOT and order.side is Side.SELL:
        ledger.require((terms.wallet, terms.market.base_asset), wanted or quantity)
    elif terms.kind is Kind.SPOT:
        ledger.require(key, (quote or worth) * terms.cost_factor)
    elif quantity:
        ledger.require(key, _margin_needed(ledger, listing, order, worth / quantity, quantity))
    return order.quantity if quote is None else quantity
