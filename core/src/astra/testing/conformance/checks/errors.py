"""61x and 62x: errors arrive as what they are, and hooks that are missing refuse."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

from astra.app import Astra
from astra.errors import (
    AstraError,
    AuthenticationError,
    InsufficientFunds,
    InvalidOrder,
    Outcome,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import OrderChange, OrderRef
from astra.models.trades import Side
from astra.testing.conformance.bench import Bench, Trader
from astra.testing.conformance.catalogue import Finding, Level, NotApplicable, check, expect, expect_equal, fail
from astra.testing.conformance.endings import together, worse
from astra.testing.conformance.segments import Segment, least, limit, resting_price

MUST = Level.MUST


async def raised(what: str, kind: type[VenueError], call: Awaitable[Any], exchange: str) -> Any:
    """The error of a call, which must be of the kind and name the exchange."""
    try:
        answer = await call
    except kind as error:
        expect_equal(f"{what}: {kind.__name__}.exchange", error.exchange, exchange)
        return error
    except UnsupportedOperation:
        raise
    except AstraError as error:
        fail(f"{what}: expected {kind.__name__}, seen {type(error).__name__}: {error}")
    return fail(f"{what}: expected {kind.__name__}, seen the answer {answer!r:.200}")


def order_for(bench: Bench, market: Market) -> Any:
    price = resting_price(market, bench.engine)
    return limit(market, Side.BUY, least(market, price) * 3, price)


def private_read(bench: Bench, astra: Astra, market: Market, credentials: Credentials) -> Awaitable[Any]:
    """A question that only the account's owner may ask."""
    if bench.has("list_orders"):
        return astra.list_orders(market.symbol, credentials)
    if bench.has("get_balances"):
        return astra.get_balances(bench.code, credentials)
    raise NotApplicable("the venue implements neither list_orders nor get_balances")


@check(
    611,
    MUST,
    "A wrong key or secret raises AuthenticationError",
    """An unknown key, and a known key with another account's secret, raise AuthenticationError for reads and
    placements.""",
    hooks=["list_markets"],
    each=True,
)
async def authentication(bench: Bench, segment: Segment) -> None:
    market, first, second = segment.market, bench.trader(), bench.trader()
    unknown = Credentials.of(
        bench.code, *bench.server.venue(bench.code).make_key(random.Random("nobody's")), account="unknown"
    )
    mine, other = first.credentials.keys["default"], second.credentials.keys["default"]
    crossed = Credentials(
        exchange=bench.code, account="crossed", keys={"default": mine.model_copy(update={"secret": other.secret})}
    )
    for what, credentials in (("an unknown key", unknown), ("a wrong secret", crossed)):
        read = private_read(bench, bench.astra, market, credentials)
        await raised(f"{what}, a read", AuthenticationError, read, bench.code)
        if bench.has("place_order"):
            place = bench.astra.place_order(market.symbol, order_for(bench, market), credentials)
            await raised(f"{what}, a placement", AuthenticationError, place, bench.code)
    expect(not first.orders(), "expected no order placed with a wrong secret, seen one")


@check(
    612,
    MUST,
    "An order without funds raises InsufficientFunds",
    "An account that holds nothing places a bid: InsufficientFunds, and no order.",
    hooks=["list_markets", "place_order"],
    each=True,
)
async def funds(bench: Bench, segment: Segment) -> None:
    market, poor = segment.market, bench.trader({})
    place = bench.astra.place_order(market.symbol, order_for(bench, market), poor.credentials)
    error = await raised("a bid without funds", InsufficientFunds, place, bench.code)
    expect_equal("InsufficientFunds.outcome", error.outcome, Outcome.NOT_EXECUTED)
    left = [order for order in poor.orders(market) if order.status.is_open]
    expect(not left, "expected no open order, seen one")


@check(
    613,
    MUST,
    "The venue's own refusal of an order raises InvalidOrder with a rule",
    """A price off the tick grid, handed to the hook past Astra's own checks, is refused by the venue: InvalidOrder
    that names a rule, and no order.""",
    hooks=["list_markets", "place_order"],
    each=True,
)
async def invalid(bench: Bench, segment: Segment) -> str:
    market, trader = segment.market, bench.trader()
    order = order_for(bench, market)
    tick = market.tick_at(order.price)
    if not tick:
        raise NotApplicable(f"{market.symbol} has no tick size")
    venue = await bench.astra.venue(bench.code)
    off = order.model_copy(update={"price": order.price + tick / 2, "client_order_id": None})
    rule_of = getattr(venue, "client_id_rule", None)
    rule = None if rule_of is None else rule_of(market)
    if rule is not None:
        off = off.model_copy(update={"client_order_id": rule.make(random.Random(), 0)})
    call = hook(venue, "place_order", market=market, order=off, credentials=trader.credentials)
    error: InvalidOrder = await raised("a price off the tick grid", InvalidOrder, call, bench.code)
    expect(error.rule, f"InvalidOrder.rule: expected the name of a rule such as 'tick-size', seen None ({error})")
    expect(not trader.orders(market), "expected no order at the venue, seen one")
    return f"rule {error.rule}"


def hook(venue: Any, name: str, **arguments: Any) -> Awaitable[Any]:
    """A hook called directly: it may take a subset of the arguments."""
    method = getattr(venue, name)
    taken = inspect.signature(method).parameters
    answer: Awaitable[Any] = method(**{key: value for key, value in arguments.items() if key in taken})
    return answer


@check(
    614,
    MUST,
    "A 429 raises RateLimited that says when to come back",
    """An injected 429 raises RateLimited with `retry_after` for a read and for a placement; the placement was not
    executed, and there is no order.""",
    hooks=["list_markets", "get_orderbook"],
    together=True,
    timeout_s=60,
)
async def rate_limited(bench: Bench) -> dict[str, Finding]:
    reads = await _limited(bench, "a read")
    return worse(await _limited(bench, "a placement"), reads) if bench.has("place_order") else reads


async def _limited(bench: Bench, what: str) -> dict[str, Finding]:
    """Every segment asks under a 429, each in an application of its own: a 429 stops an application's traffic."""
    async with AsyncExitStack() as stack:
        apps: dict[str, Astra] = {}
        for segment in bench.segments:
            apps[segment.name] = await stack.enter_async_context(bench.application())
            await apps[segment.name].get_orderbook(segment.market.symbol, 5)

        async def one(segment: Segment) -> str:
            market, trader, astra = segment.market, bench.trader(), apps[segment.name]
            if what == "a read":
                call: Awaitable[Any] = astra.get_orderbook(market.symbol, 5)
            else:
                call = astra.place_order(market.symbol, order_for(bench, market), trader.credentials)
            error: RateLimited = await raised(what, RateLimited, call, bench.code)
            after = error.retry_after
            if after is None or after <= 0:
                return fail(f"{what}: retry_after: expected seconds, seen {after}")
            expect(error.retryable, f"{what}: retryable: expected True, seen False")
            expect_equal(f"{what}: outcome", error.outcome, Outcome.NOT_EXECUTED)
            expect(not trader.orders(market), "expected no order at the venue, seen one")
            return f"{what} after {after:.1f} s"

        with bench.faults(rate_limited=1.0):
            return await together(bench.segments, one)


@check(
    615,
    MUST,
    "5xx and a venue that is down raise VenueUnavailable",
    "An injected 5xx, and a server that does not listen, raise VenueUnavailable (retryable) for a read.",
    hooks=["list_markets", "get_orderbook"],
    together=True,
    timeout_s=60,
)
async def unavailable(bench: Bench) -> dict[str, Finding]:
    async with bench.application() as astra:

        async def one(segment: Segment) -> None:
            call = astra.get_orderbook(segment.market.symbol, 5)
            error = await raised("a read", VenueUnavailable, call, bench.code)
            expect(error.retryable, "retryable: expected True, seen False")

        async def works(segment: Segment) -> None:
            await astra.get_orderbook(segment.market.symbol, 5)

        await astra.list_markets(bench.code)
        with bench.faults(server_error=1.0):
            found = await together(bench.segments, one)
        await bench.stop()
        found = worse(found, await together(bench.segments, one))
        await bench.start()
        return worse(found, await together(bench.segments, works))


@check(
    616,
    MUST,
    "Hooks that are missing refuse",
    """Every operation that the venue does not implement raises UnsupportedOperation that names the venue and the
    operation.""",
    hooks=["list_markets"],
)
async def unsupported(bench: Bench) -> str:
    missing = sorted(name for name, offered in bench.capabilities.items() if not offered)
    if not missing:
        raise NotApplicable("the venue implements every hook")
    market, trader = bench.segments[0].market, bench.trader()
    calls = operations(bench, bench.astra, market, trader)
    for name in missing:
        error: UnsupportedOperation = await refusal(name, calls[name](), bench.code)
        for part in (bench.code, name):
            expect(part in str(error), f"{name}: expected the error to name {part}, seen: {error}")
    return f"missing: {', '.join(missing)}"


async def refusal(name: str, call: Awaitable[Any], exchange: str) -> UnsupportedOperation:
    try:
        await call
    except UnsupportedOperation as error:
        expect_equal(f"{name}: UnsupportedOperation.exchange", error.exchange, exchange)
        return error
    except AstraError as error:
        fail(f"{name}: expected UnsupportedOperation, seen {type(error).__name__}: {error}")
    return fail(f"{name}: expected UnsupportedOperation, seen an answer")


def operations(
    bench: Bench, astra: Astra, market: Market, trader: Trader
) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """Every operation of the library, ready to be called, by the hook that it needs."""
    symbol, code, credentials = market.symbol, bench.code, trader.credentials

    async def opened(make: Callable[[], Any]) -> None:
        async with make():
            pass

    return {
        "list_markets": lambda: astra.list_markets(code),
        "get_orderbook": lambda: astra.get_orderbook(symbol, 5),
        "stream_orderbook": lambda: opened(lambda: astra.stream_orderbook(symbol)),
        "stream_trades": lambda: opened(lambda: astra.stream_trades(symbol)),
        "stream_account": lambda: opened(lambda: astra.stream_account(code, credentials)),
        "place_order": lambda: astra.place_order(symbol, order_for(bench, market), credentials),
        "place_orders": lambda: astra.place_orders([(symbol, order_for(bench, market))], credentials),
        "get_order": lambda: astra.get_order(symbol, id="1", credentials=credentials),
        "cancel_order": lambda: astra.cancel_order(symbol, id="1", credentials=credentials),
        "cancel_orders": lambda: astra.cancel_orders([(symbol, OrderRef(id="1"))], credentials),
        "amend_order": lambda: astra.amend_order(
            symbol, OrderChange(price=resting_price(market, bench.engine)), id="1", credentials=credentials
        ),
        "cancel_all_orders": lambda: astra.cancel_all_orders(symbol, credentials),
        "list_orders": lambda: astra.list_orders(symbol, credentials),
        "list_fills": lambda: astra.list_fills(symbol, credentials=credentials),
        "get_balances": lambda: astra.get_balances(code, credentials),
        "get_positions": lambda: astra.get_positions(code, credentials),
        "get_fees": lambda: astra.get_fees(symbol, credentials),
        "set_leverage": lambda: astra.set_leverage(symbol, Decimal(5), credentials),
        "set_margin_mode": lambda: astra.set_margin_mode(symbol, "CROSS", credentials),
        "set_position_mode": lambda: astra.set_position_mode(code, False, credentials),
        "keep_alive_orders": lambda: astra.keep_alive_orders(symbol, 0, credentials),
        "resolve_order": lambda: astra.resolve_order(symbol, "none", credentials=credentials),
    }
