"""The limits, decided: an order and what is known go in, the first limit that it breaks comes out. Reads nothing."""

from __future__ import annotations

from decimal import Decimal

from astra.models.markets import Market
from astra.models.trades import Side
from astra_risk.errors import LimitExceeded, shown
from astra_risk.intent import Intent, base_of
from astra_risk.ledger import Ledger, Phase, SizeUnknown, pool_of
from astra_risk.scope import POSITION_LIMITS, RATE_LIMITS, Applied, Scope
from astra_risk.valuation import (
    Prices,
    Walk,
    distance_percent,
    is_walked,
    notional,
    notional_needs_book,
    position_value,
    reference_price,
)


def over(market: Market, limit: Applied, what: str, figure: Decimal, unit: str, more: str = "") -> LimitExceeded:
    """The error for a figure over its limit."""
    value = Decimal(limit.value)
    return LimitExceeded(
        f"{market.symbol}: {what} would be {shown(figure)}{unit}, over the limit of {shown(value)}{unit} "
        f"({limit.setting}){more}. Nothing was sent",
        exchange=market.exchange,
        rule=limit.rule,
        setting=limit.setting,
        limit=value,
        figure=figure,
    )


def not_known(market: Market, limit: Applied, what: str, why: str) -> LimitExceeded:
    """The error where a limit cannot be measured: what cannot be known is refused."""
    return LimitExceeded(
        f"{market.symbol}: {limit.setting} ({shown(Decimal(limit.value))}) cannot be checked, because {what} is not "
        f"known: {why}. Nothing was sent",
        exchange=market.exchange,
        rule=limit.rule,
        setting=limit.setting,
        limit=Decimal(limit.value),
        figure=None,
    )


def limit_that_needs_book(intent: Intent, scope: Scope) -> Applied | None:
    """The first limit that this order cannot be measured by without a book."""
    wanted = ["max_position_notional"]
    if intent.price is not None:
        wanted.append("max_price_distance_percent")
    if notional_needs_book(intent):
        wanted.append("max_order_notional")
    if intent.market.is_inverse:
        wanted += ["max_order_quantity", "max_position"]
    limits = scope.of(*wanted)
    return limits[0] if limits else limit_that_needs_walk(intent, scope)


def limit_that_needs_walk(intent: Intent, scope: Scope) -> Applied | None:
    """The first limit that asks what a market order would take from the book."""
    if not is_walked(intent):
        return None
    wanted = ["max_price_distance_percent"]
    if notional_needs_book(intent):
        wanted.append("max_order_notional")
    if intent.native is None:
        wanted += ["max_order_quantity", "max_order_contracts", *sorted(POSITION_LIMITS)]
    limits = scope.of(*wanted)
    return limits[0] if limits else None


def check_order_limits(intent: Intent, scope: Scope, prices: Prices | None, walked: Walk | None) -> None:
    """Raise `LimitExceeded` for a limit that the order breaks by itself."""
    _check_size(intent, scope, prices)
    for limit in scope.of("max_order_notional"):
        value = notional(intent, prices, walked)
        if value > limit.value:
            raise over(intent.market, limit, "the order's value", value, f" {intent.market.quote_asset}")
    price = walked.reached if walked is not None else intent.price
    for limit in scope.of("max_price_distance_percent"):
        if price is None:
            continue
        assert prices is not None
        reference = reference_price(intent, prices.mid)
        distance = distance_percent(price, reference)
        if distance > limit.value:
            where = "stop price" if reference == intent.stop_price else f"mid of {prices.source}"
            what = f"the distance of the price {shown(price)} from the {where}, {shown(reference)},"
            raise over(intent.market, limit, what, distance, " %")


def _check_size(intent: Intent, scope: Scope, prices: Prices | None) -> None:
    market = intent.market
    for limit in scope.of("max_order_quantity"):
        assert intent.native is not None
        price = intent.price
        if price is None and prices is not None:
            price = prices.touch(intent.side)
        base = base_of(market, intent.native, price)
        assert base is not None
        if base > limit.value:
            raise over(market, limit, "the order's quantity", base, f" {market.base_asset}")
    if market.contract_size is not None:
        for limit in scope.of("max_order_contracts"):
            assert intent.native is not None
            if intent.native > limit.value:
                raise over(market, limit, "the order's size", intent.native, " contracts")


def check_shared_limits(intent: Intent, scope: Scope, ledger: Ledger, prices: Prices | None) -> None:
    """Raise `LimitExceeded` for a limit on what the account's orders come to together."""
    _check_position(intent, scope, ledger, prices)
    _check_open_orders(intent, scope, ledger)


def _check_position(intent: Intent, scope: Scope, ledger: Ledger, prices: Prices | None) -> None:
    """Raise `LimitExceeded` when the order could bring the position over a limit, were everything open to fill."""
    limits = scope.of(*sorted(POSITION_LIMITS))
    if not limits:
        return
    market, side = intent.market, intent.side
    try:
        after = ledger.worst(market, intent).on(side)
        before = ledger.worst(market).on(side)
    except SizeUnknown as error:
        raise not_known(market, limits[0], "the position", str(error)) from None
    if after <= before:
        return  # it cannot add to the position
    for limit in limits:
        measured = _position_figure(limit, market, after, prices)
        if measured is None:
            continue
        figure, unit = measured
        if figure > limit.value:
            name = "long" if side is Side.BUY else "short"
            what = f"the {name} position, with every open {side} order filled,"
            raise over(market, limit, what, figure, unit, _unresolved(ledger, market))


def _position_figure(
    limit: Applied, market: Market, native: Decimal, prices: Prices | None
) -> tuple[Decimal, str] | None:
    if limit.name == "max_position_contracts":
        return None if market.contract_size is None else (native, " contracts")
    if limit.name == "max_position_notional":
        assert prices is not None
        return position_value(market, native, prices.mid), f" {market.quote_asset}"
    base = base_of(market, native, prices.mid if prices is not None else None)
    assert base is not None
    return base, f" {market.base_asset}"


def _check_open_orders(intent: Intent, scope: Scope, ledger: Ledger) -> None:
    """Raise `LimitExceeded` when the order would be one open order too many."""
    if intent.amends or not intent.rests:
        return
    for limit in scope.of("max_open_orders"):
        count = ledger.open_orders(intent.market.symbol if limit.per_market else None) + 1
        if count > limit.value:
            where = "in the market" if limit.per_market else "of the account"
            more = _unresolved(ledger, None)
            raise over(intent.market, limit, f"the number of open orders {where}", Decimal(count), "", more)


def check_rate(market: Market, scope: Scope, ledger: Ledger, now: float) -> None:
    """Raise `LimitExceeded` when the order would be one too many within a second or a minute."""
    for limit in scope.of(*RATE_LIMITS):
        window_s = RATE_LIMITS[limit.name]
        count = ledger.sent(window_s, now, market.symbol if limit.per_market else None) + 1
        if count > limit.value:
            what = f"the number of orders within {window_s:g} s"
            raise over(market, limit, what, Decimal(count), "")


def check_leverage(market: Market, leverage: Decimal, scope: Scope) -> None:
    """Raise `LimitExceeded` when the leverage is over a limit."""
    for limit in scope.of("max_leverage"):
        if leverage > limit.value:
            raise over(market, limit, "the leverage", leverage, "")


def _unresolved(ledger: Ledger, market: Market | None) -> str:
    """What of a figure hangs on outcomes that nobody knows yet, and what settles it."""
    lost = [
        reservation
        for reservation in ledger.reservations
        if reservation.phase is Phase.UNKNOWN and (market is None or reservation.pool == pool_of(market))
    ]
    if not lost:
        return ""
    names = ", ".join(str(reservation.client_order_id or reservation.order_id) for reservation in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    return f"; counted in are orders whose outcome is not known ({names}{more}): settle them with resolve_order"
