"""4xx, continued: amendments, batches, cancel all, timers, fees, leverage."""

from __future__ import annotations

from decimal import Decimal

from astra.errors import AstraError, InvalidOrder, UnsupportedOperation
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus
from astra.models.trades import Side
from astra.testing.conformance.bench import Bench, Trader
from astra.testing.conformance.catalogue import Level, NotOffered, check, expect, expect_equal, fail
from astra.testing.conformance.segments import (
    INVERSE,
    LINEAR,
    QUANTO,
    Segment,
    amount,
    least,
    limit,
    resting_price,
)
from astra.testing.conformance.trading import asked, expect_near, expect_order, rest_a_bid

MUST, MAY = Level.MUST, Level.MAY


@check(
    411,
    MUST,
    "Cancel all cancels all, and only those",
    """`cancel_all_orders` of a market leaves no open order of the account there and all orders of another market;
    of the exchange it leaves none at all, or is refused by name.""",
    hooks=["list_markets", "place_order", "cancel_all_orders"],
    each=True,
)
async def cancel_all(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    others = [*segment.markets[1:], *(one.market for one in bench.segments if one.name != segment.name)]
    other = others[0] if others else None
    for _ in range(2):
        await rest_a_bid(bench, market, trader)
    kept = None if other is None else await rest_a_bid(bench, other, trader)
    await bench.astra.cancel_all_orders(market.symbol, trader.credentials)
    left = [order for order in trader.orders(market) if order.status.is_open]
    expect(not left, f"expected no open order of {market.symbol}, seen {len(left)}")
    if kept is not None and other is not None:
        open_there = [order for order in trader.orders(other) if order.status.is_open]
        expect(len(open_there) == 1, f"expected the order of {other.symbol} left alone, seen it canceled")
    await rest_a_bid(bench, market, trader)
    try:
        await bench.astra.cancel_all_orders(bench.code, trader.credentials)
    except UnsupportedOperation as error:
        return f"of the exchange: refused ({error.message})"
    left = [order for order in trader.orders() if order.status.is_open]
    expect(not left, f"of the exchange: expected no open order, seen {[order.market for order in left]}")
    return ""


@check(
    430,
    MAY,
    "Orders can be amended",
    """A new price and a new quantity of a resting order are what the engine has; the order keeps its client order
    id, there is still one open order, and the answer tells the new values.""",
    hooks=["list_markets", "place_order", "amend_order"],
    each=True,
)
async def amend(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    price = resting_price(market, bench.engine)
    tick = market.tick_at(price) or Decimal(0)
    unit = least(market, price)
    placed = await rest_a_bid(bench, market, trader, lots=8)
    changes = {
        "quantity": OrderChange.model_validate(amount(market, unit * 4)),
        "price": OrderChange(price=price - tick if price > tick * 2 else price + tick),
    }
    done: list[str] = []
    refusals: list[str] = []
    for name, change in changes.items():
        before = [order for order in trader.orders(market) if order.status.is_open]
        try:
            amended = await _amended(bench, segment, placed, change, trader)
        except (UnsupportedOperation, InvalidOrder) as error:
            refusals.append(f"{name}: {error.message}")
            now = [order for order in trader.orders(market) if order.status.is_open]
            expect_equal(f"open orders after the refused change of the {name}", len(now), len(before))
            continue
        done.append(name)
        still = [order for order in trader.orders(market) if order.status.is_open]
        expect_equal(f"open orders after the change of the {name}", len(still), 1)
        (true,) = still
        if change.price is not None:
            expect_equal("the engine's price", true.price, change.price)
        else:
            expect_equal("the engine's quantity", true.quantity, unit * 4)
        expect_equal("client order id in the answer", amended.client_order_id, placed.client_order_id)
        if amended.status is not OrderStatus.UNKNOWN:
            expect_order("the amended order", amended, true, market)
        if bench.has("get_order"):
            expect_order("get_order", await asked(bench.astra, market, amended, trader), true, market)
        placed = amended
    if not done:
        raise NotOffered("; ".join(refusals))
    return "; ".join(refusals)


async def _amended(bench: Bench, segment: Segment, order: Order, change: OrderChange, trader: Trader) -> Order:
    symbol, credentials = segment.market.symbol, trader.credentials
    return await bench.astra.amend_order(symbol, change, id=order.id, credentials=credentials)


@check(
    431,
    MAY,
    "Several orders are placed in one request",
    """`place_orders` places each order once; one that the venue refuses stands as an error in its own place, the
    others are at the engine.""",
    hooks=["list_markets", "place_order", "place_orders"],
    each=True,
)
async def batch(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    ask = bench.alone(market, Side.SELL, least(market, bench.top(market)[1]) * 10)
    price = resting_price(market, bench.engine)
    unit = least(market, price)
    orders: list[tuple[str, OrderRequest]] = [
        (market.symbol, limit(market, Side.BUY, unit * 2, price)),
        (market.symbol, limit(market, Side.BUY, unit * 2, ask, post_only=True)),
        (market.symbol, limit(market, Side.BUY, unit * 3, price)),
    ]
    try:
        answers = await bench.astra.place_orders(orders, trader.credentials)
    except (UnsupportedOperation, InvalidOrder) as error:
        expect(not trader.orders(market), "expected nothing placed by a refused batch, seen orders")
        raise NotOffered(str(error)) from None
    expect_equal("how many answers", len(answers), 3)
    for number in (0, 2):
        if not isinstance(answers[number], Order):
            fail(f"answer {number}: expected an order, seen {answers[number]!r}")
    refused = answers[1]
    expect(
        isinstance(refused, AstraError) or (isinstance(refused, Order) and not refused.filled_quantity),
        f"answer 1 (post-only at the best ask): expected the error that refused it, seen {refused!r}",
    )
    open_now = [order.quantity for order in trader.orders(market) if order.status.is_open]
    expect_equal("quantities at the venue", open_now, [unit * 2, unit * 3])


@check(
    432,
    MAY,
    "Several orders are canceled in one request",
    """`cancel_orders` cancels each order named; one that was canceled before stands in its own place, as an error or as
    what it is.""",
    hooks=["list_markets", "place_order", "cancel_orders"],
    each=True,
)
async def cancel_batch(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = [await rest_a_bid(bench, market, trader, lots=lots) for lots in (2, 3, 4)]
    gone = placed[1]
    await bench.astra.cancel_order(market.symbol, id=gone.id, credentials=trader.credentials)
    refs = [(market.symbol, OrderRef(id=order.id)) for order in placed]
    try:
        answers = await bench.astra.cancel_orders(refs, trader.credentials)
    except (UnsupportedOperation, InvalidOrder) as error:
        raise NotOffered(str(error)) from None
    expect_equal("how many answers", len(answers), 3)
    for number in (0, 2):
        if not isinstance(answers[number], Order):
            fail(f"answer {number}: expected an order, seen {answers[number]!r}")
    done = answers[1]
    expect(
        isinstance(done, AstraError) or (isinstance(done, Order) and done.status is OrderStatus.CANCELED),
        f"answer 1 (canceled before): expected an error, or the canceled order, seen {done!r}",
    )
    left = [order for order in trader.orders(market) if order.status.is_open]
    expect(not left, f"expected no open order, seen {len(left)}")


@check(
    433,
    MAY,
    "A dead-man timer can be set and ended",
    "`keep_alive_orders` with 60 s is accepted and cancels nothing at once, with 0 s it ends the timer.",
    hooks=["list_markets", "place_order", "keep_alive_orders"],
    each=True,
)
async def timer(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    await rest_a_bid(bench, market, trader)
    scope = market.symbol
    try:
        await bench.astra.keep_alive_orders(scope, 60, trader.credentials)
    except UnsupportedOperation as error:
        scope = bench.code
        try:
            await bench.astra.keep_alive_orders(scope, 60, trader.credentials)
        except UnsupportedOperation:
            raise NotOffered(str(error)) from None
    await bench.astra.keep_alive_orders(scope, 0, trader.credentials)
    expect(trader.only_order(market).status.is_open, "expected the order still open, seen it done")
    return "of a market" if scope == market.symbol else "of the exchange"


@check(
    434,
    MAY,
    "Fee rates are told",
    "`get_fees` gives the engine's maker and taker rate of the market, as fractions.",
    hooks=["list_markets", "get_fees"],
    each=True,
)
async def fees(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    try:
        told = await bench.astra.get_fees(market.symbol, trader.credentials)
    except UnsupportedOperation as error:
        raise NotOffered(str(error)) from None
    own = [one for one in told if one.market in (market.symbol, None)]
    expect(own, f"expected the rates of {market.symbol}, seen those of {[one.market for one in told]}")
    maker, taker = bench.engine.fee_rates(market.symbol)
    expect_near("maker rate", own[0].maker, maker)
    expect_near("taker rate", own[0].taker, taker)


@check(
    435,
    MAY,
    "Leverage can be set",
    "`set_leverage` to 5 is accepted for a derivatives market.",
    hooks=["list_markets", "set_leverage"],
    each=True,
    kinds=(LINEAR, INVERSE, QUANTO),
)
async def leverage(bench: Bench, segment: Segment) -> None:
    trader = bench.trader()
    try:
        await bench.astra.set_leverage(segment.market.symbol, 5, trader.credentials)
    except UnsupportedOperation as error:
        raise NotOffered(str(error)) from None
    kept = trader.account.settings.get("leverage", {}).get(segment.market.symbol)
    expect(kept is None or Decimal(kept) == 5, f"expected a leverage of 5 at the venue, seen {kept}")
