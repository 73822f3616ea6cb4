"""Orders over real sockets while answers are lost, requests reset, refused and delivered late.

The sandbox's engine is the truth: every order that is known is there once, and nothing is there that is not known.
`ASTRA_TEST_PLACEMENTS` says how many orders are placed at each venue.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest

from astra import Astra, OrderChange, OrderRequest
from astra.errors import (
    AstraError,
    InvalidOrder,
    OrderNotFound,
    OrderOutcomeUnknown,
    Outcome,
    RateLimited,
    UnsupportedOperation,
    VenueUnavailable,
)
from astra.models.markets import Market, MarketStatus
from astra.models.orders import Order, OrderStatus
from astra.rest import Placement
from astra.sandbox import EngineOrder, Faults
from astra_sandbox import Sandbox
from astra_sandbox.engine import MatchingEngine

pytestmark = pytest.mark.anyio
SHARES = {
    "BINANCE": {"spot": 3, "usdm": 2, "coinm": 2, "options": 3},
    "OKX": {"spot": 3, "swap": 3, "futures": 2, "option": 2},
    "KRAKEN": {"spot": 1, "derivatives": 1},
    "COINBASE": {"spot": 2, "us_futures": 1, "international": 2},
    "HUOBI": {"spot": 1, "linear": 1, "coin_swap": 1, "coin_futures": 1},
    "KUCOIN": {"spot": 1, "futures": 1},
}
"""How a venue's orders are divided over its products: those that share a request budget get less each."""
EXCHANGES = list(SHARES)
WITHIN_LIMITS = ("BINANCE", "OKX")
"""The others take far fewer orders a minute than are placed here: their limits are shown elsewhere, and off here."""
PLACEMENTS = int(os.environ.get("ASTRA_TEST_PLACEMENTS", "1000"))
UNPROVABLE = ("KRAKEN", "COINBASE", "KUCOIN")
"""Venues of which some product may still accept a cancel when the library's time is up, or never can accept it."""
AT_ONCE = 40
"""Orders on their way at the same time, in each product."""
ATTEMPTS = 8
"""An order that was certainly not placed is placed again, under the same id, so often at most."""
PATIENCE_S = 10
"""Where a venue may still accept a placement after so long (or for ever), one that was not found stays unknown here."""
RESOLVE_S = 30
"""For how long the library finds out what became of a command."""
COLUMNS = (
    "product",
    "orders",
    "requests",
    "at venue",
    "known",
    "by look-up",
    "again",
    "unknown",
    "lost",
    "doubled",
    "wrong",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Intent(msgspec.Struct):
    """An order that somebody wants, and what is known of it."""

    market: Market
    request: OrderRequest
    order: Order | None = None
    unknown: int = 0
    attempts: int = 0

    @property
    def name(self) -> str:
        assert self.request.client_order_id is not None
        return self.request.client_order_id


def every_fault(faults: Faults) -> None:
    """Of ten commands four come through; of ten questions eight are answered."""
    faults.reset_request = 0.1
    faults.server_error = 0.1
    faults.late_request = 0.15
    faults.late_s = 0.8  # after several questions found nothing, and within the window
    faults.lost_answer = 0.2
    faults.server_error_after = 0.2


def no_fault(faults: Faults) -> None:
    for name in ("reset_request", "server_error", "late_request", "lost_answer", "server_error_after", "rate_limited"):
        setattr(faults, name, 0.0)


@asynccontextmanager
async def trading(
    exchange: str, impatient: Any, no_limits: Any, *, stream: bool
) -> AsyncIterator[tuple[Sandbox, Astra, list[Market]]]:
    """A sandbox with still books; one market of every product. With `stream` the account's stream runs beside."""
    async with Sandbox([exchange], seed=7, pace=0.0) as sandbox:
        settings: dict[str, Any] = {**impatient(exchange, sandbox), "trading": {"resolve_s": RESOLVE_S}}
        async with Astra(
            settings=settings, credentials=[sandbox.credentials(exchange)], random=random.Random(1)
        ) as astra:
            if exchange not in WITHIN_LIMITS:
                await no_limits(exchange, sandbox, astra)
            markets: dict[str, Market] = {}
            for market in await astra.list_markets(exchange):
                if market.status is MarketStatus.ACTIVE:
                    markets.setdefault(market.product, market)
            if not stream:
                yield sandbox, astra, list(markets.values())
                return

            async def read(account: Any) -> None:
                async for _ in account:
                    pass

            async with astra.stream_account(exchange) as account, anyio.create_task_group() as tasks:
                tasks.start_soon(read, account)
                with anyio.fail_after(30):
                    while not all(status.live for status in account.account_status):
                        await anyio.sleep(0.02)
                yield sandbox, astra, list(markets.values())
                tasks.cancel_scope.cancel()


def named(venue: Any, market: Market, number: int) -> str:
    """A client order id in the venue's format."""
    letter = "pqrstuvw"[venue.products.index(market.product)]
    rule = venue.client_id_rule(market)
    return f"{ord(letter)}{number:06d}" if rule is not None and rule.integer else f"{letter}{number}"


def wanted(engine: MatchingEngine, venue: Any, market: Market, count: int) -> list[Intent]:
    """Orders of all sizes, some of which trade at once; each has a size of its own."""
    _, bids, asks = engine.depth(market.symbol, 1)
    resting, crossing = market.floor_price(bids[0].price * Decimal("0.97")), asks[0].price
    step = market.lot_size or Decimal(1)
    least = max(market.min_quantity or step, step)
    if market.min_notional and market.contract_size is None:
        least = max(least, (market.min_notional / resting // step + 1) * step)
    field = "quantity" if market.contract_size is None else "contracts"
    intents = []
    for number in range(count):
        takes = number % 5 == 4
        size = least + step * (0 if takes else number)
        order = {
            "side": "BUY",
            field: size,
            "price": crossing if takes else resting,
            "client_order_id": named(venue, market, number),
        }
        if takes:
            order["time_in_force"] = "IOC"
        intents.append(Intent(market, OrderRequest.model_validate(order)))
    return intents


async def place(astra: Astra, intent: Intent) -> None:
    """Place the order; where it certainly was not placed, again under the same id."""
    symbol = intent.market.symbol
    venue: Any = await astra.venue(intent.market.exchange)
    window_ms = venue.family_of(intent.market).placement_window_ms(Placement(0, conditional=False))
    provable = window_ms is not None and window_ms <= PATIENCE_S * 1000
    while intent.order is None and intent.attempts < ATTEMPTS and not intent.unknown:
        intent.attempts += 1
        try:
            intent.order = await astra.place_order(symbol, intent.request)
        except OrderOutcomeUnknown:
            intent.order = await found_out(astra, symbol, intent.name, for_ever=provable)
            intent.unknown += intent.order is None and not provable
        except InvalidOrder as error:
            if error.rule != "expire-time":  # it came after its deadline, and the venue says so
                raise
        except RateLimited as error:
            await anyio.sleep(error.retry_after or 1.0)
        except VenueUnavailable as error:
            if error.outcome is not Outcome.NOT_EXECUTED:
                raise


async def looked_at(astra: Astra, intent: Intent) -> None:
    """Some venues answer a placement with an id alone: what has become of the order is asked for."""
    if intent.order is not None and intent.order.filled_quantity is None:
        intent.order = await astra.get_order(intent.market.symbol, client_order_id=intent.name)


async def found_out(astra: Astra, symbol: str, name: str, *, for_ever: bool) -> Order | None:
    """Ask until it is known, or once."""
    while True:
        try:
            return await astra.resolve_order(symbol, name, timeout_s=60 if for_ever else 2)
        except OrderOutcomeUnknown:
            if not for_ever:
                return None


async def at_once(work: Sequence[Callable[[], Awaitable[None]]], most: int) -> None:
    limiter = anyio.CapacityLimiter(most)

    async def one(task: Callable[[], Awaitable[None]]) -> None:
        async with limiter:
            await task()

    async with anyio.create_task_group() as tasks:
        for task in work:
            tasks.start_soon(one, task)


def by_name(engine: MatchingEngine, market: Market) -> dict[str, list[EngineOrder]]:
    me = engine.account("default")
    assert me is not None
    found: dict[str, list[EngineOrder]] = {}
    for order in engine.orders(me, market.symbol):
        found.setdefault(order.client_order_id or "", []).append(order)
    return found


def is_wrong(order: Order, true: EngineOrder, request: OrderRequest) -> bool:
    """Does what is known of the order differ from what the venue has, or from what was asked for?"""
    size = order.quantity if order.contracts is None else order.contracts
    asked = request.quantity if request.contracts is None else request.contracts
    filled = order.filled_quantity if order.filled_contracts is None else order.filled_contracts
    return (order.price, size, filled, order.status.is_final) != (true.price, asked, true.filled, true.status.is_final)


class Row(msgspec.Struct):
    product: str
    orders: int
    requests: int
    there: int
    known: int
    looked_up: int
    again: int
    unknown: int
    lost: int
    doubled: int
    wrong: int

    def cells(self) -> list[str]:
        return [str(getattr(self, name)) for name in self.__struct_fields__]


def judged(engine: MatchingEngine, intents: Sequence[Intent], looked_up: int) -> Row:
    """What is known of one product's orders against what the venue has."""
    market = intents[0].market
    there = by_name(engine, market)
    known = {intent.name: intent.order for intent in intents if intent.order is not None}
    wrong = [
        intent
        for intent in intents
        if intent.order is not None
        and len(there.get(intent.name, ())) == 1
        and is_wrong(intent.order, there[intent.name][0], intent.request)
    ]
    return Row(
        product=market.product,
        orders=len(intents),
        requests=sum(intent.attempts for intent in intents),
        there=sum(len(orders) for orders in there.values()),
        known=len(known),
        looked_up=looked_up,
        again=sum(intent.attempts > 1 for intent in intents),
        unknown=sum(intent.unknown for intent in intents),
        lost=len(there.keys() - known.keys()),  # at the venue, and believed not to be (rejected, or never placed)
        doubled=sum(len(orders) > 1 for orders in there.values()),
        wrong=len(wrong) + len(known.keys() - there.keys()),
    )


def table(title: str, rows: Sequence[Row]) -> str:
    cells = [list(COLUMNS), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([title, *lines])


class Questions:
    """Counts the look-ups that the library makes on its own."""

    def __init__(self, astra: Astra) -> None:
        self.found: Counter[str] = Counter()
        self._astra = astra

    async def watch(self, exchange: str) -> None:
        venue = await self._astra.venue(exchange)
        for trading in venue.parts.values():
            trading.resolve = self._counted(trading.resolve)

    def _counted(self, resolve: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(market: Market, *args: Any) -> Any:
            answer = await resolve(market, *args)
            self.found[market.product] += isinstance(answer, Order)
            return answer

        return counted


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_no_order_is_lost_doubled_or_wrongly_called_rejected(
    exchange: str, impatient: Any, no_limits: Any, record_property: Callable[[str, object], None]
) -> None:
    async with trading(exchange, impatient, no_limits, stream=False) as (sandbox, astra, markets):
        engine, faults = sandbox.engine(exchange), sandbox.faults(exchange)
        questions = Questions(astra)
        await questions.watch(exchange)
        shares = SHARES[exchange]
        parts = {product: -(-PLACEMENTS * share // sum(shares.values())) for product, share in shares.items()}
        venue = await astra.venue(exchange)
        intents = {m.product: wanted(engine, venue, m, parts[m.product]) for m in markets}
        every_fault(faults)
        async with anyio.create_task_group() as tasks:
            for several in intents.values():
                tasks.start_soon(at_once, [lambda intent=intent: place(astra, intent) for intent in several], AT_ONCE)
        no_fault(faults)
        await anyio.sleep(faults.late_s + 0.2)  # whatever is still on its way arrives
        await at_once([lambda one=one: looked_at(astra, one) for several in intents.values() for one in several], 10)
        rows = [judged(engine, several, questions.found[product]) for product, several in intents.items()]
        record_property("table", table(f"{exchange}: {sum(row.orders for row in rows)} orders under faults", rows))
        for row in rows:
            assert (row.known, row.lost, row.doubled, row.wrong) == (row.there, 0, 0, 0), row
            assert row.there == row.orders - row.unknown, row
        assert all(row.looked_up for row in rows)
        assert sum(row.again + row.unknown for row in rows) > 0
        assert not sandbox.failures(exchange)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_running_account_stream_tells_of_lost_orders_before_anybody_asks(
    exchange: str, impatient: Any, no_limits: Any
) -> None:
    async with trading(exchange, impatient, no_limits, stream=True) as (sandbox, astra, markets):
        faults, engine = sandbox.faults(exchange), sandbox.engine(exchange)
        questions = Questions(astra)
        await questions.watch(exchange)
        faults.lost_answer = 1.0
        for market in markets:
            intents = wanted(engine, await astra.venue(exchange), market, 10)
            await at_once([lambda intent=intent: place(astra, intent) for intent in intents], 10)
            await at_once([lambda intent=intent: looked_at(astra, intent) for intent in intents], 10)
            row = judged(engine, intents, questions.found[market.product])
            assert (row.known, row.lost, row.doubled, row.wrong) == (10, 0, 0, 0), row
        assert not questions.found
        assert not sandbox.failures(exchange)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_cancels_and_amendments_are_known_to_have_happened_or_not(
    exchange: str, impatient: Any, no_limits: Any
) -> None:
    async with trading(exchange, impatient, no_limits, stream=False) as (sandbox, astra, markets):
        engine, faults = sandbox.engine(exchange), sandbox.faults(exchange)
        each = max(10, PLACEMENTS // 20)
        results: list[tuple[Order, str, object]] = []

        async def change(order: Order, market: Market, number: int) -> None:
            what = "amend" if number % 2 else "cancel"
            try:
                if what == "cancel":
                    done: object = await astra.cancel_order(market.symbol, client_order_id=order.client_order_id)
                else:
                    size = order.quantity if order.contracts is None else order.contracts
                    assert size is not None
                    field = "quantity" if order.contracts is None else "contracts"
                    smaller = OrderChange.model_validate({field: size - (market.lot_size or 1)})
                    done = await astra.amend_order(market.symbol, smaller, client_order_id=order.client_order_id)
            except AstraError as error:
                done = error
            results.append((order, what, done))

        work: list[Callable[[], Awaitable[None]]] = []
        venue = await astra.venue(exchange)
        for market in markets:
            for number, intent in enumerate(wanted(engine, venue, market, each)):
                if intent.request.time_in_force is None:
                    placed = await astra.place_order(market.symbol, intent.request)
                    work.append(lambda placed=placed, market=market, number=number: change(placed, market, number))
        every_fault(faults)
        await at_once(work, AT_ONCE)
        no_fault(faults)
        await anyio.sleep(faults.late_s + 0.2)
        kinds: Counter[str] = Counter()
        for order, what, done in results:
            # Where amending makes a new order under the old client id, the newest is meant.
            true = by_name(engine, await astra.market(order.market))[order.client_order_id or ""][-1]
            size = order.quantity if order.contracts is None else order.contracts
            happened = true.status is OrderStatus.CANCELED if what == "cancel" else true.quantity != size
            if isinstance(done, Order):
                assert happened, (what, done, true)
                kinds[what] += 1
            elif isinstance(done, VenueUnavailable):
                assert not happened, (what, done, true)
                kinds[f"no {what}"] += 1
            elif isinstance(done, OrderNotFound):
                raise AssertionError(f"an order that was open is not found: {done}")
            else:
                assert isinstance(done, UnsupportedOperation | OrderOutcomeUnknown), done
                kinds[type(done).__name__] += 1
        wanted_kinds = (
            ("cancel", "amend") if any("amend_order" in hooks for hooks in venue.offers().values()) else ("cancel",)
        )
        assert min(kinds[what] for what in wanted_kinds) > 0, kinds
        lifetime_s = max(venue.command_lifetime_s(market) or float("inf") for market in markets)
        if lifetime_s < RESOLVE_S:  # else an order that is still open proves nothing in time
            assert min(kinds[f"no {what}"] for what in wanted_kinds) > 0, kinds
            assert kinds["OrderOutcomeUnknown"] <= len(results) // 20, kinds
        assert not sandbox.failures(exchange)


@pytest.mark.parametrize("fault", ["lost_answer", "server_error_after", "late_request"])
@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_cancel_all_whose_answer_is_lost_answers_what_it_canceled(
    exchange: str, impatient: Any, no_limits: Any, fault: str
) -> None:
    async with trading(exchange, impatient, no_limits, stream=False) as (sandbox, astra, markets):
        engine, faults = sandbox.engine(exchange), sandbox.faults(exchange)
        faults.late_s = 0.8
        for market in markets:
            intents = wanted(engine, await astra.venue(exchange), market, 4)
            for intent in intents:
                await astra.place_order(market.symbol, intent.request)
            setattr(faults, fault, 1.0)
            try:
                canceled = await astra.cancel_all_orders(market.symbol)
            except OrderOutcomeUnknown:
                # What is still open may be canceled yet; asking again is what the error says.
                assert exchange in UNPROVABLE
                no_fault(faults)
                await astra.cancel_all_orders(market.symbol)
            else:
                assert {order.client_order_id for order in canceled} == {intent.name for intent in intents}
                assert {order.status for order in canceled} == {OrderStatus.CANCELED}
            no_fault(faults)
            there = by_name(engine, market)
            assert {there[intent.name][0].status for intent in intents} == {OrderStatus.CANCELED}
        assert not sandbox.failures(exchange)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_order_refused_with_429_was_not_placed(exchange: str, impatient: Any, no_limits: Any) -> None:
    async with trading(exchange, impatient, no_limits, stream=False) as (sandbox, astra, markets):
        engine, faults = sandbox.engine(exchange), sandbox.faults(exchange)
        faults.rate_limited = 1.0
        for market in markets:
            (intent,) = wanted(engine, await astra.venue(exchange), market, 1)
            with pytest.raises(RateLimited) as caught:
                await astra.place_order(market.symbol, intent.request)
            assert caught.value.outcome is Outcome.NOT_EXECUTED
            assert not by_name(engine, market)
