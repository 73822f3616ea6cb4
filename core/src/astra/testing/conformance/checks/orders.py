"""4xx: the life of an order."""

from __future__ import annotations

import random
import re
import string
import time
from decimal import Decimal

import anyio

from astra.app import Astra
from astra.errors import DuplicateClientOrderId, InvalidOrder, OrderNotFound, UnsupportedOperation
from astra.models.orders import OrderRequest, OrderStatus
from astra.models.trades import Side
from astra.routing import ANY_CLIENT_ID
from astra.testing.conformance.bench import Bench, Trader, native_of
from astra.testing.conformance.catalogue import Level, NotApplicable, NotOffered, check, expect, expect_equal, fail
from astra.testing.conformance.segments import (
    INVERSE,
    LINEAR,
    OPTION,
    QUANTO,
    Segment,
    amount,
    least,
    limit,
    resting_price,
)
from astra.testing.conformance.trading import (
    asked,
    ended,
    exact,
    expect_fill,
    expect_near,
    expect_order,
    rest_a_bid,
    take_an_ask,
)
from astra.trading.checks import ClientIdRule, ClientIdsUnique

MUST, MAY = Level.MUST, Level.MAY
PLACE = ["list_markets", "place_order"]
CONTRACTS = (LINEAR, INVERSE, QUANTO, OPTION)


@check(
    401,
    MUST,
    "A resting order is placed, seen and canceled",
    """A bid below the market is NEW, is what the engine has to the digit, is found by its id and among the open
    orders; canceled it is gone everywhere, and was never filled.""",
    hooks=[*PLACE, "cancel_order"],
    each=True,
)
async def rests(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = await rest_a_bid(bench, market, trader)
    true = trader.only_order(market)
    expect_equal("status", placed.status, OrderStatus.NEW)
    expect(placed.client_order_id, "expected the order's client order id in the answer, seen none")
    expect_order("the placed order", placed, true, market)
    if bench.has("get_order"):
        found = await asked(bench.astra, market, placed, trader)
        expect_equal("get_order: id", found.id, placed.id)
        expect_equal("get_order: client order id", found.client_order_id, placed.client_order_id)
        expect_equal("get_order: status", found.status, OrderStatus.NEW)
        expect_order("get_order", found, true, market)
    if bench.has("list_orders"):
        listed = await bench.astra.list_orders(market.symbol, trader.credentials)
        expect_equal("list_orders: ids", [one.id for one in listed], [placed.id])
        expect_order("list_orders", listed[0], true, market)
    canceled = await bench.astra.cancel_order(market.symbol, id=placed.id, credentials=trader.credentials)
    expect_equal("the engine's status after the cancel", true.status, OrderStatus.CANCELED)
    expect(
        canceled.status in (OrderStatus.CANCELED, OrderStatus.UNKNOWN),
        f"cancel_order: expected CANCELED, seen {canceled.status}",
    )
    expect_equal("cancel_order: id", canceled.id, placed.id)
    if bench.has("list_orders"):
        left = await bench.astra.list_orders(market.symbol, trader.credentials)
        expect(not left, f"list_orders: expected none after the cancel, seen {left}")
    if bench.has("get_order"):
        status = await ended(bench.astra, market, placed, trader)
        expect(status in (OrderStatus.CANCELED, None), f"get_order: expected CANCELED, seen {status}")


@check(
    402,
    MUST,
    "An order that takes is filled",
    """A bid at the best ask, for less than rests there, is FILLED: filled quantity, contracts and average price are
    the engine's.""",
    hooks=[*PLACE, "get_order"],
    each=True,
)
async def fills(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = await take_an_ask(bench, market, trader)
    true = trader.only_order(market)
    expect_equal("the engine's status", true.status, OrderStatus.FILLED)
    expect(
        placed.status in (OrderStatus.FILLED, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED),
        f"place_order: expected FILLED (or NEW, where the venue only acknowledges), seen {placed.status}",
    )
    if placed.status is OrderStatus.FILLED:
        expect_order("the placed order", placed, true, market)
    try:
        found = await asked(bench.astra, market, placed, trader)
    except OrderNotFound as error:
        raise NotApplicable(f"the venue forgets orders that are done: {error}") from None
    expect_equal("get_order: status", found.status, OrderStatus.FILLED)
    expect(found.filled_quantity is not None, "get_order: filled quantity: expected the engine's, seen None")
    expect(found.average_price is not None, "get_order: average price: expected the engine's, seen None")
    expect_order("get_order", found, true, market)


@check(
    403,
    MUST,
    "A partial fill is told, and kept by the cancel",
    "An offer of four lots of which one is taken is PARTIALLY_FILLED with that much filled; canceled, it keeps it.",
    hooks=[*PLACE, "get_order", "cancel_order"],
    each=True,
)
async def partly(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    _, ask = bench.top(market)
    unit = least(market, ask)
    price = bench.alone(market, Side.SELL, unit)
    order = limit(market, Side.SELL, unit * 4, price)
    placed = await bench.astra.place_order(market.symbol, order, trader.credentials)
    true = trader.only_order(market)
    bench.take(market, Side.BUY, unit * 2, price)
    expect_equal("what the engine has filled", true.filled, unit)
    found = await asked(bench.astra, market, placed, trader)
    expect_equal("status", found.status, OrderStatus.PARTIALLY_FILLED)
    expect_order("get_order", found, true, market)
    await bench.astra.cancel_order(market.symbol, id=placed.id, credentials=trader.credentials)
    expect_equal("the engine's status after the cancel", true.status, OrderStatus.CANCELED)
    try:
        left = await asked(bench.astra, market, placed, trader)
    except OrderNotFound:
        return
    expect_equal("status after the cancel", left.status, OrderStatus.CANCELED)
    expect_order("get_order after the cancel", left, true, market)


@check(
    404,
    MUST,
    "Fills add up to what the orders have filled",
    """`list_fills` tells each of the engine's fills once, oldest first: price, quantity in base units, contracts,
    fee, liquidity, order id and time; they add up to the orders' filled quantities.""",
    hooks=[*PLACE, "list_fills"],
    each=True,
)
async def fills_add_up(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    began = time.time_ns() // 1_000_000 - 5_000
    placed = await take_an_ask(bench, market, trader, lots=2)
    bid, _ = bench.top(market)
    unit = least(market, bid)
    price = bench.alone(market, Side.BUY, unit * 5)
    sold = await bench.astra.place_order(market.symbol, limit(market, Side.SELL, unit * 3, price), trader.credentials)
    true = sorted((fill for order in trader.orders(market) for fill in order.fills), key=lambda fill: fill.trade_id)
    seen = await bench.astra.list_fills(market.symbol, credentials=trader.credentials)
    expect_equal("how many fills", len(seen), len(true))
    expect_equal("fill ids, each once", len({fill.id for fill in seen}), len(seen))
    times = [fill.time for fill in seen]
    expect(times == sorted(times), f"expected the oldest fill first, seen times {times}")
    expect(all(one >= began for one in times), f"fill times: expected ms of now, seen {times}")
    for fill, expected in zip(seen, true, strict=True):
        expect_fill("list_fills", fill, expected, market)
    for order in (placed, sold):
        own = [fill for fill in seen if fill.order_id in (order.id, None) and fill.side is order.side]
        expect(own, f"expected fills with the order id {order.id}, seen {[fill.order_id for fill in seen]}")
        engine_order = next(one for one in trader.orders(market) if one.side is order.side)
        filled = market.base_quantity(engine_order.filled, engine_order.average_price)
        expect_near("the sum of an order's fills", sum((fill.quantity for fill in own), Decimal(0)), filled)
    await anyio.sleep(0.02)
    now = time.time_ns() // 1_000_000
    since = await bench.astra.list_fills(market.symbol, since=now, credentials=trader.credentials)
    expect(not since, f"since {now}: expected no fills, seen some at {[fill.time for fill in since]}")


@check(
    405,
    MUST,
    "Amounts are in base units, contracts beside them",
    """On contract markets an order in contracts is what the engine gets; the answer has both, the quantity being
    contracts x size (inverse: / price). Inverse markets refuse a quantity in base units, linear ones take it.""",
    hooks=[*PLACE, "cancel_order"],
    each=True,
    kinds=CONTRACTS,
)
async def amounts(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    if market.contract_size is None:
        raise NotApplicable(f"{market.symbol} has no contract size: its quantities are in base units")
    price = resting_price(market, bench.engine)
    native = least(market, price) * 3
    request = limit(market, Side.BUY, native, price).model_copy(update={"quantity": None, "contracts": native})
    placed = await bench.astra.place_order(market.symbol, request, trader.credentials)
    expect_equal("contracts at the venue", trader.only_order(market).quantity, native)
    expect_equal("contracts in the answer", placed.contracts, native)
    base = market.base_quantity(native, price)
    expect_near("quantity in the answer (base units)", placed.quantity, base)
    assert base is not None
    in_base = request.model_copy(update={"contracts": None, "quantity": base})
    if market.is_inverse:
        try:
            await bench.astra.place_order(market.symbol, in_base, trader.credentials)
        except InvalidOrder:
            pass
        else:
            fail("an inverse order in base units: expected InvalidOrder, seen an order")
    else:
        await bench.astra.place_order(market.symbol, in_base, trader.credentials)
        expect_equal("contracts at the venue, of an order in base units", trader.orders(market)[-1].quantity, native)
    return f"a contract of {market.symbol} is {market.contract_size}"


@check(
    406,
    MUST,
    "A post-only order never takes",
    "A post-only bid at the best ask raises InvalidOrder (rule post-only), or ends unfilled; nothing is traded.",
    hooks=PLACE,
    each=True,
)
async def post_only(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    try:
        placed = await take_an_ask(bench, market, trader, post_only=True)
    except InvalidOrder as error:
        expect_equal("InvalidOrder.rule", error.rule, "post-only")
        said = "refused"
    else:
        said = "accepted and ended"
        if bench.has("get_order"):
            status = await ended(bench.astra, market, placed, trader)
            expect(
                status is None or status in (OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED),
                f"expected the order refused or ended, seen {status}",
            )
    filled = [order.filled for order in trader.orders(market) if order.filled]
    expect(not filled, f"expected nothing filled, seen {filled}")
    return said


@check(
    407,
    MUST,
    "Client order ids: Astra's own, and the longest, are taken",
    """Ids that Astra makes by the venue's rule keep it and differ; the longest id that the rule allows, of all its
    characters, is accepted and comes back unchanged.""",
    hooks=PLACE,
    each=True,
)
async def client_ids(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    rule = await rule_of(bench, segment)
    chance, now = random.Random(5), time.time_ns() // 1_000_000
    made = [rule.make(chance, now) for _ in range(300)]
    for one in made:
        rule.check(one, bench.code)
    expect(len(set(made)) > 290, f"expected different ids, seen {300 - len(set(made))} of 300 twice")
    longest = _longest(rule, chance)
    rule.check(longest, bench.code)
    for name in (made[0], longest):
        placed = await rest_a_bid(bench, market, trader, client_order_id=name)
        expect_equal("client order id in the answer", placed.client_order_id, name)
        if bench.has("get_order"):
            found = await asked(bench.astra, market, placed, trader)
            expect_equal("client order id by get_order", found.client_order_id, name)
        trader.withdraw()
    expect_equal("orders at the venue", len(trader.orders(market)), 2)


def _longest(rule: ClientIdRule, chance: random.Random) -> str:
    if rule.integer:
        return str(min(2**63 - 1, 10**rule.max_length - 1))
    allowed = [one for one in string.ascii_letters + string.digits if re.fullmatch(f"[{rule.alphabet}]", one)]
    return rule.prefix + "".join(chance.choice(allowed) for _ in range(rule.max_length - len(rule.prefix)))


async def rule_of(bench: Bench, segment: Segment) -> ClientIdRule:
    venue = await bench.astra.venue(bench.code)
    rule_of = getattr(venue, "client_id_rule", None)
    rule: ClientIdRule | None = None if rule_of is None else rule_of(segment.market)
    return rule or ANY_CLIENT_ID


@check(
    408,
    MUST,
    "A client order id is used once, as the venue's rule says",
    """A second order under the id of an open one, sent by an application that does not know of the first, raises
    DuplicateClientOrderId where the rule says WHILE_OPEN or FOREVER (FOREVER: also once the first is done), and
    there is one order; where the rule says NOT_ENFORCED Astra itself refuses the second one.""",
    hooks=PLACE,
    each=True,
    timeout_s=30,
)
async def duplicates(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    rule = await rule_of(bench, segment)
    name = rule.make(random.Random(), time.time_ns() // 1_000_000)
    price = resting_price(market, bench.engine)
    order = limit(market, Side.BUY, least(market, price) * 2, price, client_order_id=name)
    await bench.astra.place_order(market.symbol, order, trader.credentials)
    await _refused_duplicate(bench.astra, segment, order, trader, "the same application")
    expect_equal("orders at the venue", len(trader.orders(market)), 1)
    if rule.unique is ClientIdsUnique.NOT_ENFORCED:
        return "NOT_ENFORCED: refused by Astra alone"
    async with bench.application() as other:
        await _refused_duplicate(other, segment, order, trader, "another application")
    expect_equal("orders at the venue", len(trader.orders(market)), 1)
    if rule.unique is ClientIdsUnique.FOREVER:
        trader.withdraw()
        async with bench.application() as third:
            await _refused_duplicate(third, segment, order, trader, "another application, the first order being done")
        expect_equal("orders at the venue", len(trader.orders(market)), 1)
    return str(rule.unique.value)


async def _refused_duplicate(astra: Astra, segment: Segment, order: OrderRequest, trader: Trader, by: str) -> None:
    try:
        await astra.place_order(segment.market.symbol, order, trader.credentials)
    except DuplicateClientOrderId:
        return
    fail(f"a second order under one client order id, by {by}: expected DuplicateClientOrderId, seen an order")


@check(
    409,
    MUST,
    "Orders that are unknown or done are not found",
    """`get_order` of an id that was never used, and `cancel_order` of one that was never used or is of a canceled
    order, raise OrderNotFound.""",
    hooks=[*PLACE, "cancel_order"],
    each=True,
)
async def unknown(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = await rest_a_bid(bench, market, trader)
    expect(placed.id, "expected the venue's id in the answer, seen none")
    trader.withdraw()
    rule = await rule_of(bench, segment)
    name = rule.make(random.Random(), time.time_ns() // 1_000_000)
    await _not_found(
        f"cancel_order of the canceled order {placed.id}", bench, segment, trader, "cancel_order", placed.id
    )
    await _not_found("cancel_order of a client order id never used", bench, segment, trader, "cancel_order", None, name)
    if bench.has("get_order"):
        await _not_found("get_order of a client order id never used", bench, segment, trader, "get_order", None, name)


async def _not_found(
    what: str, bench: Bench, segment: Segment, trader: Trader, operation: str, id_: str | None, name: str | None = None
) -> None:
    try:
        await getattr(bench.astra, operation)(
            segment.market.symbol,
            id=id_,
            client_order_id=name,
            credentials=trader.credentials,
        )
    except OrderNotFound:
        return
    except UnsupportedOperation:
        if name is None:
            raise
        return  # the venue knows no client order ids here: 420 tells
    fail(f"{what}: expected OrderNotFound, seen an order")


@check(
    410,
    MUST,
    "Decimals are exact",
    """A price on the finest tick and a quantity of many lots reach the engine digit for digit and come back so; no
    model of trading holds a float.""",
    hooks=[*PLACE, "cancel_order"],
    each=True,
)
async def decimals(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    price = resting_price(market, bench.engine)
    tick = market.tick_at(price) or Decimal(0)
    price = price if price - tick <= 0 or not tick else price - tick
    unit = least(market, price)
    native = unit * 7 + (market.lot_size or 0) * 3
    placed = await bench.astra.place_order(market.symbol, limit(market, Side.BUY, native, price), trader.credentials)
    true = trader.only_order(market)
    expect_equal("price at the venue", true.price, price)
    expect_equal("quantity at the venue", true.quantity, native)
    expect_equal("price in the answer", placed.price, price)
    expect_equal("quantity in the answer, as the venue counts", native_of(placed), native)
    exact("the answer", placed)
    exact("the market", market)
    if bench.has("get_balances"):
        exact("get_balances", await bench.astra.get_balances(bench.code, trader.credentials))
    if bench.has("get_fees"):
        exact("get_fees", await bench.astra.get_fees(market.symbol, trader.credentials))


@check(
    420,
    MAY,
    "Orders are found and canceled by their client order id",
    "`get_order` and `cancel_order` take the client order id and concern the right order.",
    hooks=[*PLACE, "get_order", "cancel_order"],
    each=True,
)
async def by_client_id(bench: Bench, segment: Segment) -> None:
    market, trader = segment.market, bench.trader()
    placed = await rest_a_bid(bench, market, trader)
    other = await rest_a_bid(bench, market, trader, lots=5)
    name = placed.client_order_id
    try:
        found = await bench.astra.get_order(market.symbol, client_order_id=name, credentials=trader.credentials)
        expect_equal("get_order by client order id: id", found.id, placed.id)
        await bench.astra.cancel_order(market.symbol, client_order_id=name, credentials=trader.credentials)
    except UnsupportedOperation as error:
        raise NotOffered(str(error)) from None
    left = [order.quantity for order in trader.orders(market) if order.status.is_open]
    expect_equal("quantities of the orders left open", left, [native_of(other)])


@check(
    421,
    MAY,
    "Market orders are filled",
    """A market order to sell is filled by the best bids; one to buy too, by quantity or by its amount in quote
    currency.""",
    hooks=PLACE,
    each=True,
)
async def at_market(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    unit = least(market, bench.top(market)[1]) * 2
    bench.alone(market, Side.BUY, unit * 3)
    price = bench.alone(market, Side.SELL, unit * 3)
    sell, buy = (
        OrderRequest.model_validate({"side": side, "type": "MARKET", **amount(market, unit)})
        for side in (Side.SELL, Side.BUY)
    )
    way = "by quantity"
    try:
        await bench.astra.place_order(market.symbol, sell, trader.credentials)
        try:
            await bench.astra.place_order(market.symbol, buy, trader.credentials)
        except (InvalidOrder, UnsupportedOperation) as error:
            if segment.kind != "spot":
                raise
            way = f"buys by quoteQuantity ({error.message})"
            worth = {"side": "BUY", "type": "MARKET", "quote_quantity": unit * price}
            await bench.astra.place_order(market.symbol, OrderRequest.model_validate(worth), trader.credentials)
    except (InvalidOrder, UnsupportedOperation) as error:
        if trader.orders(market):
            raise
        raise NotOffered(str(error)) from None
    sold, bought = trader.orders(market)
    expect_equal("what was sold", sold.filled, unit)
    expect(bought.filled > 0, "expected the order to buy filled, seen nothing filled")
    return way
