"""Commands whose answers get lost: what became of them is found out, said to be unknown, and never tried out."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from astra import Credentials, Market, Order, OrderChange, OrderRequest
from astra.errors import (
    AstraError,
    DuplicateClientOrderId,
    InvalidOrder,
    OrderNotFound,
    OrderOutcomeUnknown,
    Outcome,
    RateLimited,
    VenueUnavailable,
)
from astra.models.orders import OrderRef, OrderStatus
from astra.models.trades import Side
from astra.symbols import AssetType
from astra.trading.checks import ClientIdRule, ClientIdsUnique
from astra.trading.commands import Commands
from astra.trading.outcome import Evidence
from astra.trading.sent import REMEMBERED, SentOrders

pytestmark = pytest.mark.anyio

ACCOUNT = Credentials.of("TOY", "key", "secret")
OTHER = Credentials.of("TOY", "key2", "secret2", account="other")
MARKET = Market(
    symbol="TOY-SPOT-BTC-USDT",
    asset_type=AssetType.SPOT,
    base_asset="BTC",
    quote_asset="USDT",
    native_symbol="BTCUSDT",
    product="spot",
    tick_size="0.01",
    lot_size="0.001",
)
REF = OrderRef(client_order_id="mine")
CHANGE = OrderChange(price="11")
START_MS = 1_700_000_000_000


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class FastClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall_ns(self) -> int:
        return START_MS * 1_000_000 + round(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        await anyio.lowlevel.checkpoint()
        if not event.is_set():
            await self.sleep(seconds)
        return event.is_set()


class Stream:
    """A running account stream, told by the test."""

    def __init__(self) -> None:
        self.listening: list[Evidence] = []
        self.known: dict[str, Order] = {}
        self.markets: list[str] = []

    @contextlib.contextmanager
    def evidence(self, account: Credentials, evidence: Evidence) -> Iterator[None]:
        assert account is ACCOUNT
        self.listening.append(evidence)
        yield
        self.listening.remove(evidence)

    def order_of(self, account: Credentials, market: str, client_order_id: str) -> Order | None:
        return self.known.get(client_order_id)

    def traded(self, account: Credentials, market: Market) -> None:
        self.markets.append(market.symbol)

    def tell(self, order: Order) -> None:
        for evidence in self.listening:
            evidence.put(order)


def limit(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": "BUY", "quantity": "1", "price": "10", "client_order_id": "mine"} | fields)


def told(**fields: Any) -> Order:
    """The order as the venue tells of it."""
    return Order(
        **{
            "id": "1",
            "client_order_id": "mine",
            "market": MARKET.symbol,
            "side": Side.BUY,
            "type": "LIMIT",
            "status": OrderStatus.NEW,
            "price": "10",
            "quantity": "1",
        }
        | fields
    )


def lost(operation: str = "place_order") -> OrderOutcomeUnknown:
    return OrderOutcomeUnknown(
        "connection reset", exchange="TOY", market=MARKET.symbol, operation=operation, client_order_id="mine"
    )


class Desk:
    """`Commands` over a venue that answers as scripted. An answer is a value, an exception to raise, a function of the
    arguments, or a list of those for one call after the other (the last one for all further calls)."""

    def __init__(
        self,
        *,
        lifetime_s: float | None = 7.0,
        resolve_s: float = 10.0,
        unique: ClientIdsUnique = ClientIdsUnique.WHILE_OPEN,
        **answers: Any,
    ) -> None:
        self.clock = FastClock()
        self.stream = Stream()
        self.calls: list[tuple[Any, ...]] = []
        self.answers = answers
        self.commands = Commands(
            "TOY",
            {name: self._hook(name) for name in answers},
            self.clock,
            watch=self.stream,
            id_rule=lambda market: ClientIdRule(max_length=20, alphabet="a-z", unique=unique),
            lifetime_s=lambda market, operation: lifetime_s,
            resolve_s=resolve_s,
        )

    def _hook(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            await anyio.lowlevel.checkpoint()
            answer = self.answers[name]
            if isinstance(answer, list) and name != "place_orders":
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if callable(answer):
                answer = answer(*args)
            if isinstance(answer, Awaitable):
                answer = await answer
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)

    async def place(self, **fields: Any) -> Order:
        return await self.commands.place(MARKET, limit(**fields), ACCOUNT)

    async def cancel(self) -> Order:
        return await self.commands.cancel(MARKET, REF, ACCOUNT)

    async def amend(self) -> Order:
        return await self.commands.amend(MARKET, REF, CHANGE, ACCOUNT)


# --- placing -------------------------------------------------------------------------------------------------------


async def test_a_placement_whose_answer_is_lost_is_found_and_returned_as_if_nothing_had_happened() -> None:
    found = told(status=OrderStatus.PARTIALLY_FILLED)
    desk = Desk(place_order=lost(), resolve_order=[True, True, found])
    assert await desk.place() == found
    assert desk.count("place_order") == 1
    assert not desk.stream.listening


async def test_a_placement_that_certainly_was_not_placed_may_be_placed_again_under_the_same_id() -> None:
    desk = Desk(place_order=[lost(), told()], resolve_order=[True, True, False])
    with pytest.raises(VenueUnavailable, match="was not placed") as caught:
        await desk.place()
    assert caught.value.retryable
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert isinstance(caught.value.__cause__, OrderOutcomeUnknown)
    assert desk.count("place_order") == 1
    assert await desk.place() == told()


async def test_what_is_not_known_by_the_deadline_is_said_to_be_unknown_with_the_id() -> None:
    desk = Desk(place_order=lost(), resolve_order=[VenueUnavailable("down", exchange="TOY")], resolve_s=3.0)
    with pytest.raises(OrderOutcomeUnknown, match=r"connection reset.*3 s.*down") as caught:
        await desk.place()
    assert caught.value.client_order_id == "mine"
    assert caught.value.outcome is Outcome.UNKNOWN
    assert isinstance(caught.value.__cause__, VenueUnavailable)
    assert 1 < desk.clock.now <= 3
    assert desk.count("place_order") == 1


async def test_the_account_stream_answers_first_while_the_venue_does_not_answer_at_all() -> None:
    desk = Desk(place_order=lost(), resolve_order=lambda *args: anyio.sleep_forever())

    async def tell() -> None:
        await anyio.wait_all_tasks_blocked()
        desk.stream.tell(told(id="7"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        placed = await desk.place()
    assert placed.id == "7"


async def test_what_the_stream_told_before_the_answer_was_lost_counts() -> None:
    desk = Desk(place_order=[], resolve_order=True)

    def answer(*args: Any) -> Any:
        desk.stream.tell(told(id="7"))
        desk.stream.tell(told(id="7", status=OrderStatus.FILLED))
        return lost()

    desk.answers["place_order"] = answer
    assert (await desk.place()).status is OrderStatus.FILLED


@pytest.mark.parametrize(
    "other",
    [
        {"client_order_id": "another"},
        {"market": "TOY-SPOT-ETH-USDT"},
        {"side": Side.SELL},
        {"price": "9"},
        {"status": OrderStatus.UNKNOWN},
        {"created_time": START_MS - 3_600_000},
    ],
    ids=str,
)
async def test_an_order_that_is_not_the_one_meant_proves_nothing(other: dict[str, Any]) -> None:
    desk = Desk(place_order=[], resolve_order=True, resolve_s=1.0)

    def answer(*args: Any) -> Any:
        desk.stream.tell(told(**other))
        return lost()

    desk.answers["place_order"] = answer
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()


async def test_what_the_venue_finds_under_an_id_that_may_be_used_again_is_compared_with_what_was_sent() -> None:
    old, new = told(price="9", status=OrderStatus.FILLED), told(id="2")
    desk = Desk(place_order=lost(), resolve_order=[old, old, new])
    assert await desk.place() == new
    desk = Desk(place_order=lost(), resolve_order=old, unique=ClientIdsUnique.FOREVER)
    assert await desk.place() == old


async def test_failed_questions_are_asked_again() -> None:
    desk = Desk(
        place_order=lost(),
        resolve_order=[
            VenueUnavailable("down", exchange="TOY"),
            KeyError("a bug"),
            RateLimited("slow", exchange="TOY", retry_after=2.0),
            told(),
        ],
    )
    assert await desk.place() == told()
    assert desk.clock.now >= 2.0


async def test_a_bug_in_the_plugin_is_an_outcome_to_find_out() -> None:
    desk = Desk(place_order=KeyError("orderId"), resolve_order=told())
    assert await desk.place() == told()
    desk = Desk(place_order=KeyError("orderId"), resolve_order=True)
    with pytest.raises(OrderOutcomeUnknown, match="KeyError"):
        await desk.place()


async def test_a_venue_that_cannot_be_asked_leaves_the_outcome_to_the_stream() -> None:
    desk = Desk(place_order=lost())
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()


async def test_resolving_can_be_switched_off() -> None:
    error = lost()
    desk = Desk(place_order=error, cancel_order=error, resolve_order=told(), get_order=told(), resolve_s=0)
    with pytest.raises(OrderOutcomeUnknown) as caught:
        await desk.place()
    assert caught.value is error
    with pytest.raises(OrderOutcomeUnknown):
        await desk.cancel()
    assert not desk.count("resolve_order")
    assert not desk.count("get_order")


async def test_refusals_pass_untouched() -> None:
    refusal = InvalidOrder("no", exchange="TOY", rule="tick-size")
    desk = Desk(place_order=refusal, resolve_order=told())
    with pytest.raises(InvalidOrder) as caught:
        await desk.place()
    assert caught.value is refusal
    assert not desk.count("resolve_order")


async def test_the_deciding_question_is_asked_as_soon_as_it_can_be() -> None:
    desk = Desk(place_order=lost(), resolve_order=[], lifetime_s=4.3)
    desk.answers["resolve_order"] = lambda *args: desk.clock.now < 4.3
    with pytest.raises(VenueUnavailable):
        await desk.place()
    assert desk.clock.now == pytest.approx(4.3)
    assert desk.count("resolve_order") <= 7


async def test_a_late_request_is_never_called_not_placed() -> None:
    """The venue takes requests for 5 s; this one arrives after 4.8 s, after several looks found nothing."""
    desk = Desk(place_order=lost(), resolve_order=[])
    desk.answers["resolve_order"] = lambda *args: told() if desk.clock.now >= 4.8 else desk.clock.now < 5
    assert await desk.place() == told()


# --- client order ids ----------------------------------------------------------------------------------------------


async def test_an_id_is_refused_while_its_order_may_be_alive() -> None:
    desk = Desk(place_order=told())
    await desk.place()
    with pytest.raises(DuplicateClientOrderId, match="Nothing was sent"):
        await desk.place(price="12")
    assert desk.count("place_order") == 1
    assert await desk.place(client_order_id="next")


@pytest.mark.parametrize("how", ["answer", "question", "stream", "refusal", "cancel"])
async def test_an_id_is_free_again_once_its_order_is_done(how: str) -> None:
    done = told(status=OrderStatus.FILLED)
    desk = Desk(place_order=[told(), told()], cancel_order=told(status=OrderStatus.CANCELED))
    if how == "answer":
        desk.answers["place_order"][0] = done
    if how == "refusal":
        desk.answers["place_order"][0] = InvalidOrder("no", exchange="TOY")
    with contextlib.suppress(InvalidOrder):
        await desk.place()
    if how == "question":
        desk.commands.told(ACCOUNT, [done])
    if how == "stream":
        desk.stream.known["mine"] = done
    if how == "cancel":
        await desk.cancel()
    assert await desk.place() == told()


async def test_an_id_stays_taken_while_the_outcome_is_unknown_and_until_it_is_known() -> None:
    desk = Desk(place_order=lost(), resolve_order=True, resolve_s=1.0)
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()
    desk.answers |= {"resolve_order": False, "place_order": told()}
    ask = desk._hook("resolve_order")
    assert await desk.commands.resolve(ask, MARKET, "mine", None, ACCOUNT, 5.0) is None
    assert await desk.place() == told()


async def test_two_tasks_cannot_send_one_id_at_the_same_time() -> None:
    desk = Desk(place_order=told())
    results: list[Any] = []

    async def place() -> None:
        try:
            results.append(await desk.place())
        except AstraError as error:
            results.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place)
        tasks.start_soon(place)
    assert desk.count("place_order") == 1
    assert {type(result) for result in results} == {Order, DuplicateClientOrderId}


def test_the_orders_sent_are_remembered_up_to_a_bound() -> None:
    sent = SentOrders()
    for number in range(REMEMBERED + 10):
        sent.begin(MARKET, limit(client_order_id=str(number)), ACCOUNT, number)
    assert sent.find(ACCOUNT, "9") is None
    assert sent.find(ACCOUNT, "10") is not None
    assert sent.find(OTHER, "10") is None


async def test_markets_that_were_traded_are_told_to_the_stream() -> None:
    desk = Desk(place_order=told())
    await desk.place()
    assert desk.stream.markets == [MARKET.symbol]


@pytest.mark.parametrize("operation", ["place", "place_batch"])
async def test_a_placement_that_still_waits_to_be_sent_is_never_called_not_placed(operation: str) -> None:
    """It waits for the rate limit: what is asked meanwhile finds nothing, long after its call began."""
    let_go = anyio.Event()

    async def answer(*args: Any) -> Any:
        await let_go.wait()
        return told() if operation == "place" else [told()]

    def ask(market: Market, name: str, moment: int, account: Credentials) -> Any:
        at_ms = desk.clock.wall_ns() // 1_000_000
        return told() if let_go.is_set() else at_ms - moment <= 7000

    desk = Desk(place_order=answer, place_orders=answer, resolve_order=ask)
    hook = desk._hook("resolve_order")
    async with anyio.create_task_group() as tasks:
        if operation == "place":
            tasks.start_soon(desk.place)
        else:
            tasks.start_soon(desk.commands.place_batch, [(MARKET, limit())], ACCOUNT)
        await anyio.wait_all_tasks_blocked()
        desk.clock.now += 60
        for since in (None, START_MS):
            with pytest.raises(OrderOutcomeUnknown, match="ask again"):
                await desk.commands.resolve(hook, MARKET, "mine", since, ACCOUNT, 10.0)
        with pytest.raises(DuplicateClientOrderId):
            await desk.place()
        let_go.set()
    assert await desk.commands.resolve(hook, MARKET, "mine", None, ACCOUNT, 10.0) == told()


async def test_a_question_asked_before_the_placement_ended_proves_nothing_after_it() -> None:
    let_go = anyio.Event()

    async def answer(*args: Any) -> Any:
        await let_go.wait()
        return lost()

    async def ask(*args: Any) -> Any:
        if desk.count("resolve_order") == 2:
            let_go.set()
            await anyio.wait_all_tasks_blocked()
        return False

    desk = Desk(place_order=answer, resolve_order=ask, resolve_s=0)

    async def place() -> None:
        with contextlib.suppress(OrderOutcomeUnknown):
            await desk.place()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place)
        await anyio.wait_all_tasks_blocked()
        hook = desk._hook("resolve_order")
        found = await desk.commands.resolve(hook, MARKET, "mine", None, ACCOUNT, 10.0)
        let_go.set()
    assert found is None
    asked = desk.count("resolve_order")
    assert asked == 4, "at the first look and the second the placement was under way, at the third at two moments"


async def test_an_order_that_the_venue_accepted_is_never_called_not_placed() -> None:
    desk = Desk(place_order=told(), resolve_order=False)
    await desk.place()
    with pytest.raises(OrderOutcomeUnknown):
        await desk.commands.resolve(desk._hook("resolve_order"), MARKET, "mine", None, ACCOUNT, 1.0)
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()


async def test_what_is_asked_of_another_market_says_nothing_of_a_placement() -> None:
    other = MARKET.model_copy(update={"symbol": "TOY-SPOT-ETH-USDT"})
    desk = Desk(place_order=lost(), resolve_order=False, resolve_s=0)
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()
    assert await desk.commands.resolve(desk._hook("resolve_order"), other, "mine", None, ACCOUNT, 1.0) is None
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_a_placement_whose_call_has_ended_is_no_longer_waited_for(how: str) -> None:
    answer = lost() if how == "raises" else lambda *args: anyio.sleep_forever()
    desk = Desk(place_order=answer, resolve_order=False, resolve_s=0)
    with anyio.move_on_after(0.01), contextlib.suppress(OrderOutcomeUnknown):
        await desk.place()
    assert await desk.commands.resolve(desk._hook("resolve_order"), MARKET, "mine", None, ACCOUNT, 10.0) is None


async def test_the_time_of_a_remembered_placement_is_asked_for_beside_the_one_named() -> None:
    """The request waited for the rate limit for a minute: what was named is when the caller began."""
    desk = Desk(place_order=[], resolve_order=[], resolve_s=0)

    def answer(*args: Any) -> Any:
        desk.clock.now += 60
        return lost()

    desk.answers["place_order"] = answer
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()
    moments: list[int] = []

    def ask(market: Market, name: str, moment: int, account: Credentials) -> bool:
        moments.append(moment)
        return desk.clock.wall_ns() // 1_000_000 - moment <= 7000

    desk.answers["resolve_order"] = ask
    hook = desk._hook("resolve_order")
    assert await desk.commands.resolve(hook, MARKET, "mine", START_MS - 5, ACCOUNT, 10.0) is None
    assert desk.clock.now >= 67
    assert set(moments) == {START_MS - 5, START_MS + 60_000}


# --- ids that are used again ---------------------------------------------------------------------------------------


async def used_again(desk: Desk, **first: Any) -> None:
    """The id's first order is done, its second placement's outcome unknown."""
    desk.answers["place_order"] = [told(**first), lost()]
    await desk.place()
    desk.stream.known["mine"] = told(**first | {"status": OrderStatus.FILLED})
    desk.commands.told(ACCOUNT, desk.stream.known["mine"])
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()


@pytest.mark.parametrize("how", ["stream", "question", "evidence"])
async def test_the_word_of_an_earlier_order_does_not_free_the_id(how: str) -> None:
    desk = Desk(place_order=[], resolve_order=True, resolve_s=1.0)
    await used_again(desk)
    if how == "question":
        desk.commands.told(ACCOUNT, [desk.stream.known["mine"]])
    if how == "evidence":
        hook = desk._hook("resolve_order")
        desk.answers["resolve_order"] = lambda *args: desk.stream.tell(desk.stream.known["mine"]) or True
        with pytest.raises(OrderOutcomeUnknown):
            await desk.commands.resolve(hook, MARKET, "mine", None, ACCOUNT, 1.0)
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()
    assert desk.count("place_order") == 2
    desk.commands.told(ACCOUNT, told(id="2", status=OrderStatus.CANCELED))
    desk.answers["place_order"] = told(id="3")
    assert await desk.place() == told(id="3")


@pytest.mark.parametrize(
    "other",
    [
        {"created_time": START_MS - 3_600_000},
        {"updated_time": START_MS - 3_600_000},
        {"side": Side.SELL},
        {"price": "9"},
        {"market": "TOY-SPOT-ETH-USDT"},
    ],
    ids=str,
)
async def test_an_order_that_cannot_be_the_placement_does_not_free_its_id(other: dict[str, Any]) -> None:
    desk = Desk(place_order=lost(), resolve_s=0)
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place()
    desk.commands.told(ACCOUNT, told(status=OrderStatus.FILLED, **other))
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()


async def test_what_the_stream_knew_before_a_placement_left_is_not_that_placement() -> None:
    """Another process had the id a moment ago."""
    desk = Desk(place_order=lost(), resolve_s=0)
    desk.stream.known["mine"] = told(id="0", status=OrderStatus.FILLED, created_time=START_MS - 1)
    for error in (OrderOutcomeUnknown, DuplicateClientOrderId):
        with pytest.raises(error):
            await desk.place()
    assert desk.count("place_order") == 1


async def test_once_the_venues_id_is_known_only_that_order_frees_the_clients() -> None:
    desk = Desk(place_order=told(id="2"), amend_order=told(id="5", price="11"))
    await desk.place()
    desk.commands.told(ACCOUNT, told(id="1", status=OrderStatus.FILLED))
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()
    await desk.amend()  # under another id of the venue, and at another price
    desk.commands.told(ACCOUNT, told(id="2", status=OrderStatus.CANCELED))
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()
    desk.commands.told(ACCOUNT, told(id="5", price="11", status=OrderStatus.FILLED))
    assert await desk.place() == told(id="2")


async def test_a_conditional_order_goes_on_under_another_id_of_the_venue() -> None:
    stop = {"type": "STOP_MARKET", "price": None, "stop_price": "12"}
    desk = Desk(place_order=told(id="algo-2", **stop))
    await desk.place(**stop)
    desk.commands.told(ACCOUNT, told(id="77", status=OrderStatus.FILLED, **stop))
    assert await desk.place(**stop)


# --- batches -------------------------------------------------------------------------------------------------------


async def test_the_lost_orders_of_a_batch_are_resolved_one_by_one() -> None:
    orders = [(MARKET, limit(client_order_id=name)) for name in ("a", "b", "c", "a")]
    orders.append((MARKET, limit(client_order_id="e", price="10.001")))

    def answer(sent: Any, account: Any) -> Any:
        assert [order.client_order_id for _, order in sent] == ["a", "b", "c"]
        return [told(client_order_id="a"), lost("place_orders"), lost("place_orders")]

    desk = Desk(
        place_orders=answer,
        resolve_order=lambda market, name, since, account: told(client_order_id="b") if name == "b" else False,
    )
    results = await desk.commands.place_batch(orders, ACCOUNT)
    assert [type(one) for one in results] == [Order, Order, VenueUnavailable, DuplicateClientOrderId, InvalidOrder]
    desk.answers["place_orders"] = lambda sent, account: [told(client_order_id="c")]
    with pytest.raises(DuplicateClientOrderId):
        await desk.commands.place(MARKET, limit(client_order_id="b"), ACCOUNT)
    assert isinstance((await desk.commands.place_batch([orders[2]], ACCOUNT))[0], Order)


async def test_a_batch_whose_answer_is_lost_as_a_whole_is_resolved_order_by_order() -> None:
    desk = Desk(
        place_orders=lost("place_orders"),
        cancel_orders=lost("cancel_orders"),
        resolve_order=lambda market, name, since, account: told(client_order_id=name),
        get_order=lambda market, ref, account: told(client_order_id=ref.client_order_id, status="CANCELED"),
    )
    placed = await desk.commands.place_batch([(MARKET, limit(client_order_id=name)) for name in "ab"], ACCOUNT)
    assert placed == [told(client_order_id=name) for name in "ab"]
    refs = [(MARKET, OrderRef(client_order_id=name)) for name in "ab"]
    canceled = await desk.commands.cancel_batch(refs, ACCOUNT)
    assert canceled == [told(client_order_id=name, status="CANCELED") for name in "ab"]


async def test_a_bug_that_stands_at_one_place_of_a_batch_is_an_outcome_to_find_out() -> None:
    desk = Desk(
        place_orders=lambda sent, account: [told(client_order_id="a"), KeyError("orderId")],
        cancel_orders=lambda refs, account: [KeyError("orderId"), OrderNotFound("?", exchange="TOY")],
        resolve_order=lambda market, name, since, account: told(client_order_id=name),
        get_order=told(status=OrderStatus.CANCELED),
    )
    orders = [(MARKET, limit(client_order_id=name)) for name in "ab"]
    assert await desk.commands.place_batch(orders, ACCOUNT) == [told(client_order_id=name) for name in "ab"]
    done, missing = await desk.commands.cancel_batch([(MARKET, REF), (MARKET, REF)], ACCOUNT)
    assert done == told(status=OrderStatus.CANCELED)
    assert isinstance(missing, OrderNotFound)


# --- cancelling and amending ---------------------------------------------------------------------------------------


async def test_how_long_a_command_may_arrive_depends_on_the_operation() -> None:
    """Amendments carry a deadline here, cancels none."""
    desk = Desk(cancel_order=lost("cancel_order"), amend_order=lost("amend_order"), get_order=told())
    desk.commands._lifetime_s = lambda market, operation="": 5.0 if operation == "amend_order" else None
    with pytest.raises(OrderOutcomeUnknown):
        await desk.cancel()
    with pytest.raises(VenueUnavailable):
        await desk.amend()


@pytest.mark.parametrize("status", [OrderStatus.CANCELED, OrderStatus.FILLED, OrderStatus.EXPIRED])
async def test_a_lost_cancel_returns_the_order_once_it_is_done(status: OrderStatus) -> None:
    done = told(status=status)
    desk = Desk(cancel_order=lost("cancel_order"), get_order=[told(), VenueUnavailable("x", exchange="TOY"), done])
    assert await desk.cancel() == done
    assert desk.count("cancel_order") == 1


async def test_an_order_that_is_open_after_the_cancel_can_no_longer_arrive_was_not_canceled() -> None:
    desk = Desk(cancel_order=lost("cancel_order"), get_order=told(), lifetime_s=5.0)
    with pytest.raises(VenueUnavailable, match=r"cancel_order \(client order id mine\) was not carried out") as caught:
        await desk.cancel()
    assert caught.value.retryable
    assert desk.clock.now >= 5.0


async def test_a_look_that_began_before_the_cancel_could_no_longer_arrive_proves_nothing() -> None:
    desk = Desk(cancel_order=lost("cancel_order"), get_order=[], lifetime_s=5.0)

    def slowly(*args: Any) -> Order:
        if desk.count("get_order") == 1:
            desk.clock.now += 6  # evaluated early, answered late
            return told()
        return told(status=OrderStatus.CANCELED)

    desk.answers["get_order"] = slowly
    assert (await desk.cancel()).status is OrderStatus.CANCELED


async def test_without_a_time_limit_of_the_venue_an_open_order_proves_nothing() -> None:
    desk = Desk(cancel_order=lost("cancel_order"), get_order=told(), lifetime_s=None)
    with pytest.raises(OrderOutcomeUnknown):
        await desk.cancel()


async def test_an_order_that_is_not_found_after_a_lost_cancel_proves_nothing() -> None:
    desk = Desk(cancel_order=lost("cancel_order"), get_order=OrderNotFound("?", exchange="TOY"))
    with pytest.raises(OrderOutcomeUnknown) as caught:
        await desk.cancel()
    assert caught.value.operation == "cancel_order"


async def test_the_stream_settles_a_lost_cancel() -> None:
    desk = Desk(cancel_order=[], get_order=told())

    def answer(*args: Any) -> Any:
        desk.stream.tell(told(status=OrderStatus.PARTIALLY_FILLED))
        desk.stream.tell(told(client_order_id="other", status=OrderStatus.CANCELED))
        assert not any(evidence.order for evidence in desk.stream.listening)
        desk.stream.tell(told(status=OrderStatus.CANCELED))
        return lost("cancel_order")

    desk.answers["cancel_order"] = answer
    assert (await desk.cancel()).status is OrderStatus.CANCELED


async def test_the_lost_cancels_of_a_batch_are_settled_one_by_one() -> None:
    refs = [(MARKET, OrderRef(client_order_id=name)) for name in ("a", "b", "c", "d")]
    done = [told(client_order_id=name, status=OrderStatus.CANCELED) for name in ("a", "b")]
    desk = Desk(
        cancel_orders=lambda refs, account: [
            done[0],
            lost("cancel_orders"),
            lost("cancel_orders"),
            OrderNotFound("?", exchange="TOY"),
        ],
        get_order=lambda market, ref, account: done[1] if ref.client_order_id == "b" else told(client_order_id="c"),
    )
    results = await desk.commands.cancel_batch(refs, ACCOUNT)
    assert results[:2] == done
    assert [type(one) for one in results[2:]] == [VenueUnavailable, OrderNotFound]
    assert desk.count("cancel_orders") == 1


@pytest.mark.parametrize("answer", [lambda refs, account: [], KeyError("a bug")], ids=["too few answers", "a bug"])
async def test_a_batch_of_cancels_that_fails_in_the_plugin_is_looked_up(answer: Any) -> None:
    desk = Desk(cancel_orders=answer, get_order=told(status=OrderStatus.CANCELED))
    results = await desk.commands.cancel_batch([(MARKET, REF)], ACCOUNT)
    assert results == [told(status=OrderStatus.CANCELED)]


async def test_a_lost_amendment_returns_the_order_as_it_was_to_become() -> None:
    desk = Desk(amend_order=lost("amend_order"), get_order=[told(), told(price="11")])
    assert await desk.amend() == told(price="11")
    assert desk.count("amend_order") == 1


async def test_an_order_unchanged_after_the_amendment_can_no_longer_arrive_was_not_amended() -> None:
    desk = Desk(amend_order=lost("amend_order"), get_order=told())
    with pytest.raises(VenueUnavailable, match="amend_order"):
        await desk.amend()
    desk = Desk(amend_order=lost("amend_order"), get_order=told(status=OrderStatus.CANCELED))
    assert (await desk.amend()).status is OrderStatus.CANCELED


async def test_a_cancel_on_the_stream_proves_nothing_of_an_amendment() -> None:
    """It may be how the venue amends: the order ends, and goes on under another id. The question tells."""
    desk = Desk(place_order=told(), amend_order=[], get_order=told(id="2", price="11"))
    await desk.place()

    def answer(*args: Any) -> Any:
        desk.stream.tell(told(status=OrderStatus.CANCELED))
        assert not any(evidence.order for evidence in desk.stream.listening)
        return lost("amend_order")

    desk.answers["amend_order"] = answer
    assert await desk.amend() == told(id="2", price="11")
    with pytest.raises(DuplicateClientOrderId):
        await desk.place()


@pytest.mark.parametrize("news", [{"status": OrderStatus.FILLED}, {"price": "11"}])
async def test_an_order_that_is_filled_or_as_it_was_to_become_settles_a_lost_amendment(news: dict[str, Any]) -> None:
    desk = Desk(amend_order=[], get_order=told())

    def answer(*args: Any) -> Any:
        desk.stream.tell(told(**news))
        return lost("amend_order")

    desk.answers["amend_order"] = answer
    assert await desk.amend() == told(**news)
