"""Orders that race, answers that are lost, reads that lag: no sequence of them brings an account over its limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra import OrderChange, OrderRequest
from astra.errors import AstraError, InvalidOrder, OrderNotFound, OrderOutcomeUnknown, RateLimited, VenueUnavailable
from astra.models.trades import Side
from astra_risk import LimitExceeded

SPOT, CROSS, PERP = "PAPER-SPOT-BTC-USDT", "PAPER-SPOT-BTC-USDC", "PAPER-PERP-BTC-USDT"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def limit(side: str = "BUY", quantity: str = "1", **fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": side, "quantity": quantity, "price": "100"} | fields)


async def tried(placing: Awaitable[Any]) -> Any:
    """The answer, or the error instead of it."""
    try:
        return await placing
    except AstraError as error:
        return error


async def race(count: int, place: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """The outcomes of so many placements at the same time."""
    answers: list[Any] = []

    async def one(number: int) -> None:
        answers.append(await tried(place(number)))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return answers


@pytest.mark.anyio
@pytest.mark.parametrize(
    "limits",
    [{"max_position": "3"}, {"max_open_orders": 3}, {"max_orders_per_second": 3}, {"max_position_notional": 300}],
    ids=str,
)
async def test_of_orders_that_race_only_as_many_pass_as_there_is_room_for(
    desk: Any, open_desk: Any, limits: dict[str, Any]
) -> None:
    gate = anyio.Event()

    async def held(*_: Any) -> None:
        await gate.wait()

    desk.exchange.stubs["place_order"] = held
    async with open_desk(**limits) as astra, anyio.create_task_group() as tasks:
        answers: list[Any] = []

        async def all_at_once() -> None:
            answers.extend(await race(10, lambda _: astra.place_order(PERP, limit())))

        tasks.start_soon(all_at_once)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert sum(isinstance(answer, LimitExceeded) for answer in answers) == 7
    assert len(desk.exchange.open) == 3


@pytest.mark.anyio
async def test_a_batch_and_single_orders_share_what_is_left(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="3") as astra:
        batch = [(PERP, limit()) for _ in range(5)]
        answers = await race(2, lambda n: astra.place_orders(batch) if n else astra.place_order(PERP, limit()))
        flat = [one for answer in answers for one in (answer if isinstance(answer, list) else [answer])]
    assert len(flat) == 6
    assert sum(isinstance(answer, LimitExceeded) for answer in flat) == 3
    assert len(desk.exchange.open) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        InvalidOrder("no", exchange="PAPER"),
        RateLimited("slow down", exchange="PAPER"),
        VenueUnavailable("not sent", exchange="PAPER"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_gives_its_room_back(desk: Any, open_desk: Any, error: Exception) -> None:
    def refuse(*_: Any) -> None:
        raise error

    async with open_desk(max_position="1", max_open_orders=1) as astra:
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "place_order": lambda: astra.place_order(PERP, limit()),
            "place_orders": lambda: astra.place_orders([(PERP, limit())]),
        }
        for operation, place in ways.items():
            desk.exchange.stubs[operation] = refuse
            with pytest.raises(type(error)):
                await place()
            desk.exchange.stubs.clear()
        desk.exchange.stubs["place_orders"] = lambda orders: [error]
        assert await astra.place_orders([(PERP, limit())]) == [error]
        await astra.place_order(PERP, limit())


@pytest.mark.anyio
@pytest.mark.parametrize("batch", [False, True])
async def test_an_unknown_outcome_keeps_its_room_until_it_is_resolved(desk: Any, open_desk: Any, batch: bool) -> None:
    def lose(*_: Any) -> None:
        raise desk.lost()

    async with open_desk(max_position="1") as astra:

        async def place(client_order_id: str) -> Any:
            order = limit(client_order_id=client_order_id)
            if batch:
                (answer,) = await astra.place_orders([(PERP, order)])
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return await astra.place_order(PERP, order)

        desk.exchange.stubs = {"place_order": lose, "place_orders": lose}
        with pytest.raises(OrderOutcomeUnknown):
            await place("lost1")
        desk.exchange.stubs.clear()
        desk.clock.now += 3600
        with pytest.raises(LimitExceeded, match=r"outcome is not known \(lost1\): settle them with resolve_order"):
            await place("another1")
        desk.exchange.stubs["resolve_order"] = lambda *_: True
        with pytest.raises(OrderOutcomeUnknown):
            await astra.resolve_order(PERP, "lost1")
        with pytest.raises(LimitExceeded):
            await place("another2")
        desk.exchange.stubs.clear()
        assert await astra.resolve_order(PERP, "lost1") is None
        await place("another3")


@pytest.mark.anyio
async def test_an_unknown_order_that_was_placed_counts_once_it_is_seen(desk: Any, open_desk: Any) -> None:
    def lose_the_answer(market: Any, order: Any) -> None:
        desk.exchange.accept(market, order)
        raise desk.lost(order)

    async with open_desk(max_position="2", max_open_orders=2) as astra:
        desk.exchange.stubs["place_order"] = lose_the_answer
        with pytest.raises(OrderOutcomeUnknown):
            await astra.place_order(PERP, limit(client_order_id="lost1"))
        desk.exchange.stubs.clear()
        await astra.place_order(PERP, limit())  # the next look at the open orders shows it: it counts once
        desk.clock.now += 10
        with pytest.raises(LimitExceeded) as caught:
            await astra.place_order(PERP, limit())
        assert caught.value.figure == 3
        await astra.cancel_order(PERP, client_order_id="lost1")
        await astra.place_order(PERP, limit())


@pytest.mark.anyio
async def test_a_cancelled_placement_keeps_its_room(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="1") as astra:
        desk.exchange.stubs["place_order"] = lambda *_: anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(astra.place_order, PERP, limit(client_order_id="gone1"))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        desk.exchange.stubs.clear()
        with pytest.raises(LimitExceeded, match="gone1"):
            await astra.place_order(PERP, limit())


@pytest.mark.anyio
async def test_a_batch_cancelled_while_it_is_measured_keeps_nothing(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="1") as astra:
        desk.exchange.stubs["get_balances"] = lambda: anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(astra.place_orders, [(PERP, limit()), (SPOT, limit())])
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        desk.exchange.stubs.clear()
        placed = await astra.place_order(PERP, limit())
        assert [order.id for order in await astra.list_orders("PAPER")] == [placed.id], "the batch was never sent"


@pytest.mark.anyio
async def test_a_filled_order_is_not_counted_twice_when_that_would_refuse_the_next(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="3") as astra:
        for _ in range(3):
            await astra.place_order(PERP, OrderRequest(side="BUY", type="MARKET", quantity="1"))
        for _ in range(6):
            await astra.place_order(PERP, OrderRequest(side="SELL", type="MARKET", quantity="1"))
        with pytest.raises(LimitExceeded):
            await astra.place_order(PERP, OrderRequest(side="SELL", type="MARKET", quantity="0.01"))
    assert desk.exchange.position[PERP] == -300


@pytest.mark.anyio
async def test_an_order_that_the_venue_does_not_show_yet_counts(desk: Any, open_desk: Any) -> None:
    desk.exchange.order_lag = desk.exchange.position_lag = Decimal("0.25")
    async with open_desk(max_position="3", position_max_age_s=0.05) as astra:
        await astra.place_order(PERP, limit(quantity="2"))
        desk.clock.now += 0.1
        with pytest.raises(LimitExceeded):
            await astra.place_order(PERP, limit(quantity="2"))


@pytest.mark.anyio
async def test_a_fill_that_the_position_does_not_show_yet_counts(desk: Any, open_desk: Any) -> None:
    desk.exchange.position_lag = Decimal("0.25")
    async with open_desk(max_position="3") as astra:
        resting = await astra.place_order(PERP, limit(quantity="2"))
        desk.clock.now += 10
        desk.exchange.fill(resting.client_order_id, Decimal(200))
        desk.clock.now += 0.05
        with pytest.raises(LimitExceeded):
            await astra.place_order(PERP, limit(quantity="2"))


@pytest.mark.anyio
async def test_two_keys_of_one_account_name_are_two_accounts(desk: Any, open_desk: Any) -> None:
    from astra import Credentials

    other = Credentials.of("PAPER", "other-key-hunter2", "other-secret-hunter2")
    renamed = desk.credentials[0].model_copy(update={"account": "renamed"})
    async with open_desk(max_orders_per_minute=1) as astra:
        await astra.place_order(PERP, limit())
        await astra.place_order(PERP, limit(), other)
        with pytest.raises(LimitExceeded):
            await astra.place_order(PERP, limit(), renamed)


# --- whatever happens ----------------------------------------------------------------------------------------------

MAX_QUANTITY, MAX_POSITION, MAX_OPEN, MAX_PER_SECOND = Decimal("2"), Decimal("3"), 5, 8
LIMITS = {
    "max_order_quantity": MAX_QUANTITY,
    "max_position": MAX_POSITION,
    "max_open_orders": MAX_OPEN,
    "max_orders_per_second": MAX_PER_SECOND,
    "position_max_age_s": 2,
    "venue_lag_s": 0.25,
}

sizes = st.sampled_from(["0.5", "1", "2", "3"])
sides = st.sampled_from(["BUY", "SELL"])
markets = st.sampled_from([SPOT, CROSS, PERP, PERP])
kinds = st.sampled_from(["GTC", "GTC", "GTC", "IOC", "MARKET", "MARKET", "REDUCE", "AMOUNT"])
fates = st.sampled_from(["answered"] * 6 + ["refused", "lost", "lost before", "late", "slow"])
placements = st.tuples(markets, sides, sizes, kinds, fates)
picks = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("place"), st.lists(placements, min_size=1, max_size=4)),
    st.tuples(st.just("place"), st.lists(placements, min_size=1, max_size=1)),
    st.tuples(st.just("batch"), st.lists(placements, min_size=1, max_size=3)),
    st.tuples(st.just("fill"), picks, sizes),
    st.tuples(st.just("fill"), picks, sizes),
    st.tuples(st.just("cancel"), picks),
    st.tuples(st.just("amend"), picks, sizes, st.booleans()),
    st.tuples(st.just("deliver"), picks),
    st.tuples(st.just("resolve"), picks),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.2, 0.3, 1.0, 2.5])),
)
lags = st.sampled_from(["0", "0.1", "0.25"])


class Story:
    """Plays steps against a desk, and counts by itself what the exchange came to."""

    def __init__(self, desk: Any, astra: Any) -> None:
        self.desk, self.astra, self.exchange = desk, astra, desk.exchange
        self.number = 0
        self.fates: dict[str, str] = {}
        self.late: list[tuple[Any, OrderRequest]] = []
        self.lost: list[tuple[str, str]] = []
        self.arrivals: list[float] = []
        self.counted = 0
        self.broken: list[AssertionError] = []
        self.exchange.changed = self.note
        self.exchange.stubs = {
            "place_order": self.on_place,
            "place_orders": self.on_batch,
        }

    # the independent model: pools of positions, in base units
    POOLS = ((SPOT, CROSS), (PERP,))

    def base(self, symbol: str, native: Decimal) -> Decimal:
        return native / 100 if symbol == PERP else native

    def note(self) -> None:
        """Look, within the venue's own code: what it raises would be taken for a lost answer."""
        try:
            self.look()
        except AssertionError as error:
            self.broken.append(error)

    def look(self) -> None:
        exchange = self.exchange
        assert len(exchange.open) <= MAX_OPEN
        for pool in self.POOLS:
            position = sum((self.base(symbol, exchange.position[symbol]) for symbol in pool), Decimal(0))
            assert abs(position) <= MAX_POSITION, f"{pool} at {position}"
            for side, sign in ((Side.BUY, 1), (Side.SELL, -1)):
                more = [
                    self.base(order.market, exchange.remaining(order))
                    for order in exchange.open
                    if order.market in pool and order.side is side and not order.reduce_only
                ]
                still = sum(more, Decimal(0))
                assert sign * position + still <= MAX_POSITION, f"{pool}: {position}, {still} more to {side}"
        for order in exchange.orders.values():
            assert self.base(order.market, exchange.size(order)) <= MAX_QUANTITY

    def arrive(self) -> None:
        now = self.desk.clock.now
        self.arrivals = [*(at for at in self.arrivals if at > now - 1), now]
        if len(self.arrivals) > MAX_PER_SECOND:
            self.broken.append(AssertionError(f"{len(self.arrivals)} orders within a second"))

    async def on_place(self, market: Any, order: OrderRequest) -> Any:
        assert order.client_order_id is not None
        self.arrive()
        fate = self.fates[order.client_order_id]
        if fate == "slow":
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
        if fate == "refused":
            raise InvalidOrder("no", exchange="PAPER")
        if fate == "late":
            self.late.append((market, order))
        elif fate != "lost before":
            self.exchange.accept(market, order)
        if fate in ("lost", "lost before", "late"):
            self.lost.append((market.symbol, order.client_order_id))
            raise self.desk.lost(order)
        return self.exchange.orders[order.client_order_id]

    async def on_batch(self, orders: list[tuple[Any, OrderRequest]]) -> list[Any]:
        return [await tried(self.on_place(market, order)) for market, order in orders]

    def request(self, symbol: str, side: str, size: str, kind: str, fate: str) -> tuple[str, OrderRequest]:
        self.number += 1
        client_order_id = f"id{self.number}"
        self.fates[client_order_id] = fate
        fields: dict[str, Any] = {"side": side, "quantity": size, "client_order_id": client_order_id}
        if kind == "AMOUNT" and symbol != PERP:
            fields |= {"quantity": None, "quote_quantity": Decimal(size) * 100, "type": "MARKET"}
        elif kind in ("MARKET", "AMOUNT"):
            fields |= {"type": "MARKET"}
        else:
            fields |= {"price": "100"}
            if kind == "IOC":
                fields |= {"time_in_force": "IOC"}
            if kind == "REDUCE" and symbol == PERP:
                fields |= {"reduce_only": True}
        return symbol, OrderRequest(**fields)

    async def play(self, step: tuple[Any, ...]) -> None:
        await getattr(self, f"do_{step[0]}")(*step[1:])
        self.desk.clock.now += 0.03
        self.look()
        for error in self.broken:
            raise error

    async def do_place(self, wanted: list[tuple[Any, ...]]) -> None:
        orders = [self.request(*one) for one in wanted]
        for answer in await race(len(orders), lambda n: self.astra.place_order(*orders[n])):
            self.is_fair(answer)

    async def do_batch(self, wanted: list[tuple[Any, ...]]) -> None:
        for answer in await self.astra.place_orders([self.request(*one) for one in wanted]):
            self.is_fair(answer)

    def is_fair(self, answer: Any) -> None:
        assert not isinstance(answer, Exception) or isinstance(
            answer, LimitExceeded | InvalidOrder | OrderOutcomeUnknown
        ), answer
        assert not isinstance(answer, LimitExceeded) or answer.figure is not None, answer

    def pick(self, index: int) -> Any:
        return self.exchange.open[index % len(self.exchange.open)] if self.exchange.open else None

    async def do_fill(self, index: int, size: str) -> None:
        if order := self.pick(index):
            self.exchange.fill(order.client_order_id, Decimal(size) * (100 if order.market == PERP else 1))

    async def do_cancel(self, index: int) -> None:
        if order := self.pick(index):
            await self.astra.cancel_order(order.market, client_order_id=order.client_order_id)

    async def do_amend(self, index: int, size: str, is_lost: bool) -> None:
        order = self.pick(index)
        if order is None:
            return

        def count(market: Any, ref: Any, change: Any) -> None:
            self.arrive()
            if is_lost:
                raise self.desk.lost()

        self.exchange.stubs["amend_order"] = count
        change = OrderChange(quantity=size)
        answer = await tried(self.astra.amend_order(order.market, change, client_order_id=order.client_order_id))
        assert not isinstance(answer, Exception) or isinstance(
            answer, LimitExceeded | InvalidOrder | OrderOutcomeUnknown | OrderNotFound
        ), answer

    async def do_deliver(self, index: int) -> None:
        """A request arrives long after its answer was given up."""
        if self.late:
            self.exchange.accept(*self.late.pop(index % len(self.late)))

    async def do_resolve(self, index: int) -> None:
        if not self.lost:
            return
        symbol, client_order_id = self.lost.pop(index % len(self.lost))
        # The venue answers "no and never" only once it no longer accepts the request.
        self.late = [(market, order) for market, order in self.late if order.client_order_id != client_order_id]
        await self.astra.resolve_order(symbol, client_order_id)

    async def do_wait(self, seconds: float) -> None:
        self.desk.clock.now += seconds

    async def end(self) -> None:
        """Everything settled: what is left of a limit can be had to the last unit."""
        while self.lost:
            await self.do_resolve(0)
        await self.astra.cancel_all_orders("PAPER")
        self.desk.clock.now += 10
        for symbol, pool in ((SPOT, (SPOT, CROSS)), (PERP, (PERP,))):
            position = sum(self.base(one, self.exchange.position[one]) for one in pool)
            side, room = ("SELL", MAX_POSITION + position) if position > 0 else ("BUY", MAX_POSITION - position)
            room = min(room, MAX_QUANTITY)
            self.desk.clock.now += 1
            _, order = self.request(symbol, side, str(room), "GTC", "answered")
            await self.astra.place_order(symbol, order)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order_lag=lags, position_lag=lags, story=st.lists(steps, min_size=1, max_size=60))
def test_no_sequence_of_orders_fills_losses_and_lagging_reads_breaks_a_limit(
    new_desk: Any, order_lag: str, position_lag: str, story: list[Any]
) -> None:
    async def play() -> None:
        desk = new_desk()
        desk.exchange.order_lag, desk.exchange.position_lag = Decimal(order_lag), Decimal(position_lag)
        # One price only, so that what an order by amount fills is what the limits think.
        desk.exchange.bids[:], desk.exchange.asks[:] = [(100.0, 1000.0)], [(100.0, 1000.0)]
        with desk.installed() as plugins:
            async with desk.astra(plugins, LIMITS) as astra:
                told = Story(desk, astra)
                for step in story:
                    await told.play(step)
                await told.end()

    anyio.run(play)
