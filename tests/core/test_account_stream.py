"""An account's stream over a toy venue: what it tells is compared with the venue, and says whether that was done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import pytest

from astra.errors import (
    AuthenticationError,
    OrderNotFound,
    PermissionDenied,
    RateLimited,
    StreamClosed,
    VenueUnavailable,
)
from astra.hookspecs import hookimpl
from astra.models.accounts import AccountEvent, AccountStatus, Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.streams.feed import BookRules, Channel, Endpoint, Feed, Frame, Outlet, Payload, Session, Ticket
from astra.streams.stream import MarketStream
from astra.symbols import AssetType
from astra.testing import ManualClock, ManualHost, MemoryConnection, MemoryTransport
from astra.trading import reconcile
from astra.trading.outcome import Evidence
from astra.venue import AccountStreamingVenue, VenueSettings

pytestmark = pytest.mark.anyio

ACCOUNT = Credentials.of("TOY", "key", "secret")
NOW_MS = 1_700_000_000_000


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def market(base: str, product: str = "spot") -> Market:
    kind = AssetType.SPOT if product == "spot" else AssetType.PERP
    return Market(
        symbol=f"TOY-{kind.value}-{base}-USD",
        asset_type=kind,
        base_asset=base,
        quote_asset="USD",
        native_symbol=base,
        product=product,
    )


BTC, ETH, LTC, PERP = market("BTC"), market("ETH"), market("LTC"), market("BTC", "perp")


def order(name: str, status: str = "NEW", filled: int = 0, of: Market = BTC, **fields: Any) -> Order:
    return Order(
        **{
            "id": f"id-{name}",
            "client_order_id": name,
            "market": of.symbol,
            "side": Side.BUY,
            "type": OrderType.LIMIT,
            "status": OrderStatus(status),
            "price": "10",
            "quantity": "5",
            "filled_quantity": Decimal(filled),
            "updated_time": NOW_MS,
        }
        | fields
    )


def fill(name: str, of: str = "a", quantity: int = 1, at: Market = BTC, time: int = NOW_MS + 1000) -> Fill:
    return Fill(
        id=name,
        order_id=f"id-{of}",
        market=at.symbol,
        side=Side.BUY,
        price=Decimal(10),
        quantity=Decimal(quantity),
        time=time,
    )


def balance(total: int, asset: str = "USD", wallet: str = "spot") -> Balance:
    return Balance(asset=asset, wallet=wallet, total=Decimal(total))


def position(quantity: int) -> Position:
    return Position(market=PERP.symbol, side=PositionSide.LONG, quantity=Decimal(quantity))


class ToySession(Session):
    """Connecting is subscribing, unless the venue is to say "ok"; a frame is the number of an event that it tells."""

    def __init__(self, venue: ToyVenue, endpoint: Endpoint, outlet: Outlet) -> None:
        super().__init__(endpoint, outlet, None)
        self.venue = venue
        self.channel: Channel | None = None

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        (self.channel,) = channels
        self.venue.subscriptions += 1
        if self.venue.acknowledge:
            self.outlet.acknowledged(channels)
        return ()

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.channel = None
        return ()

    def received(self, payload: Payload, received_ns: int) -> None:
        assert self.channel is not None
        text = bytes(payload).decode()
        if text == "ok":
            self.outlet.acknowledged([self.channel])
        elif text == "bye":
            self.outlet.reconnect("the venue shuts down", overlap=True)
        elif text == "more":
            self.outlet.account(self.channel).incomplete()
        elif text == "over":
            self.outlet.account(self.channel).interrupted("the venue ended the subscription")
        else:
            self.outlet.account(self.channel).events([self.venue.events[int(text)]])


class ToyFeed(Feed):
    def __init__(self, venue: ToyVenue) -> None:
        self.venue = venue

    def endpoint(self, channel: Channel) -> Endpoint:
        return Endpoint(
            channel.product,
            f"ws://toy/{channel.product}",
            scope=channel.credentials,
            max_channels=1,
            silence_s=1e6,
            messages_per_s=1000.0,
            connects_per_s=1000.0,
        )

    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        return ToySession(self.venue, endpoint, outlet)

    def book_rules(self, channel: Channel) -> BookRules:
        raise NotImplementedError


class ToyVenue(AccountStreamingVenue):
    """What the venue would answer is in `orders`, `fills`, `balances`, `positions`; `asked` says what was asked.
    `answer_slowly` (an event) holds answers back, `errors` are raised in order."""

    code = "TOY"
    account_products: ClassVar[Sequence[str]] = ("spot",)
    fills_need_market = True

    def __init__(self, host: Any, settings: VenueSettings) -> None:
        super().__init__(host, settings)
        self.feed = ToyFeed(self)
        self.history = SimpleNamespace()  # type: ignore[assignment] # no books here
        self.transport = MemoryTransport()
        host._transport = self.transport
        self.acknowledge = True
        self.subscriptions = 0
        self.events: list[AccountEvent] = []
        self.orders: list[Order] = []
        self.done: list[Order] = []
        self.nameless: list[Order] = []
        """Of them, those that are not found by client order id any more."""
        self.fills: list[Fill] = []
        self.balances: list[Balance] = []
        self.positions: list[Position] = []
        self.errors: list[Exception] = []
        self.asked: list[tuple[Any, ...]] = []
        self.answer_slowly: anyio.Event | None = None

    async def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        await anyio.lowlevel.checkpoint()
        if self.answer_slowly is not None:
            await self.answer_slowly.wait()
        if self.errors:
            raise self.errors.pop(0)

    async def list_markets(self) -> Sequence[Market]:
        return [BTC, ETH, LTC, PERP]

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        orders = list(self.orders)
        await self._ask("orders")
        return orders

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        await self._ask("order", ref.client_order_id or ref.id)
        for one in (*self.orders, *self.done):
            if ref.id == one.id or (ref.client_order_id == one.client_order_id and one not in self.nameless):
                return one
        raise OrderNotFound("?", exchange="TOY")

    @hookimpl
    async def list_fills(self, market: Market | None, since: int, credentials: Credentials) -> Sequence[Fill]:
        fills = [one for one in self.fills if one.time >= since]
        await self._ask("fills", None if market is None else market.symbol, since)
        return [one for one in fills if market is None or one.market == market.symbol]

    @hookimpl
    async def get_balances(self, credentials: Credentials) -> Sequence[Balance]:
        balances = list(self.balances)
        await self._ask("balances")
        return balances

    @hookimpl
    async def get_positions(self, credentials: Credentials) -> Sequence[Position]:
        positions = list(self.positions)
        await self._ask("positions")
        return positions

    # The stream.

    @property
    def sockets(self) -> Sequence[MemoryConnection]:
        return self.transport.open

    def tell(self, *events: AccountEvent, on: int = -1) -> None:
        for event in events:
            self.events.append(event)
            self.sockets[on].push(str(len(self.events) - 1))

    def count(self, what: str) -> int:
        return sum(asked[0] == what for asked in self.asked)


class Stage:
    def __init__(self, venue: ToyVenue, clock: ManualClock) -> None:
        self.venue = venue
        self.clock = clock
        self.items: list[Any] = []
        self.ended: Exception | None = None
        self.stream: Any = None

    async def read(self, stream: Any, items: list[Any]) -> None:
        try:
            async with stream:
                async for item in stream:
                    items.append(item)
        except (PermissionDenied, AuthenticationError, StreamClosed) as error:
            self.ended = error

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)

    def told(self) -> list[Any]:
        """What was told since this was last asked."""
        told, self.items[:] = list(self.items), []
        return told

    @property
    def status(self) -> AccountStatus:
        (status,) = self.stream.account_status
        assert isinstance(status, AccountStatus)
        return status


@asynccontextmanager
async def stage(
    prepare: Callable[[ToyVenue], None] | None = None, kind: type[ToyVenue] = ToyVenue, **streams: Any
) -> AsyncIterator[Stage]:
    """A consumer of the account's stream, live unless `prepare` keeps it from being so."""
    clock = ManualClock(NOW_MS * 1_000_000)
    async with anyio.create_task_group() as tasks:
        settings = VenueSettings.model_validate({"streams": {"linger_s": 1.0, **streams}})
        venue = kind(ManualHost(tasks, clock), settings)
        if prepare is not None:
            prepare(venue)
        play = Stage(venue, clock)
        play.stream = venue.stream_account(ACCOUNT)
        tasks.start_soon(play.read, play.stream, play.items)
        await play.settle(0.5)
        yield play
        tasks.cancel_scope.cancel()


def is_live(item: Any) -> bool:
    return isinstance(item, AccountStatus) and item.live


def is_lost(item: Any) -> bool:
    return isinstance(item, AccountStatus) and not item.live


# --- the beginning -------------------------------------------------------------------------------------------------


async def test_a_stream_begins_with_what_there_is_and_says_that_it_is_complete() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.orders = [order("a", "PARTIALLY_FILLED", 2)]
        venue.fills = [fill("history", time=NOW_MS - 1)]
        venue.balances = [balance(100), balance(0, "BTC")]
        venue.positions = [position(3)]

    async with stage(prepare) as play:
        *told, status = play.told()
        assert told == [play.venue.orders[0], balance(100), position(3)]
        assert status == AccountStatus(
            product="spot", live=True, connected=True, reconciled_time=status.reconciled_time
        )
        assert NOW_MS <= status.reconciled_time <= NOW_MS + 500
        assert play.status == status
        assert ("fills", BTC.symbol, NOW_MS) in play.venue.asked


async def test_fills_between_the_beginning_and_the_first_comparison_are_told() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.orders = [order("a", "PARTIALLY_FILLED", 1)]
        venue.fills = [fill("0", time=NOW_MS - 5), fill("1", time=NOW_MS + 5)]

    async with stage(prepare) as play:
        assert [item.id for item in play.told() if isinstance(item, Fill)] == ["1"]


async def test_live_events_are_told_as_they_come() -> None:
    async with stage() as play:
        play.told()
        events = [order("a"), fill("1"), order("a", "FILLED", 5), balance(5), position(1)]
        play.venue.tell(*events)
        await play.settle()
        told = play.told()
        assert told[1].client_order_id == "a"
        assert [*told[:1], *told[2:]] == [*events[:1], *events[2:]]


async def test_consequences_that_the_stream_does_not_tell_are_asked_for_at_a_moderate_pace() -> None:
    async with stage() as play:
        venue = play.venue
        await play.settle(10.0)
        play.told()
        asked = venue.count("balances")
        venue.balances, venue.fills = [balance(5)], [fill("1")]
        venue.tell(order("a", "PARTIALLY_FILLED", 1))
        for _ in range(20):
            venue.sockets[0].push("more")
            await play.settle(0.05)
        assert venue.count("balances") == asked + 1
        told = play.told()
        assert [type(item) for item in told] == [Order, Fill, Balance]
        await play.settle(1.5)
        assert venue.count("balances") == asked + 2
        await play.settle(10.0)
        assert venue.count("balances") == asked + 2


# --- reconnecting --------------------------------------------------------------------------------------------------


async def test_what_was_missed_is_told_after_a_reconnect_before_the_stream_is_live_again() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.orders = [order("a"), order("b")]
        venue.balances = [balance(100), balance(7, "BNB")]
        venue.positions = [position(3)]

    async with stage(prepare) as play:
        play.told()
        venue = play.venue
        venue.sockets[0].cut("connection reset")
        await play.settle()
        (lost,) = play.told()
        assert is_lost(lost)
        assert (lost.connected, lost.reason) == (False, "connection reset")
        venue.orders = [order("b", "PARTIALLY_FILLED", 1), order("c")]
        venue.done = [order("a", "FILLED", 5)]
        venue.fills = [fill("2", "b"), fill("1", "a", 5, time=NOW_MS + 900)]
        venue.balances = [balance(40)]
        venue.positions = []
        await play.settle(1.0)
        told = play.told()
        assert [type(item) for item in told] == [
            Fill,
            Fill,
            Order,
            Order,
            Order,
            Balance,
            Balance,
            Position,
            AccountStatus,
        ]
        assert [item.id for item in told[:2]] == ["1", "2"]
        assert {item.client_order_id: item.status.value for item in told[2:5]} == {
            "a": "FILLED",
            "b": "PARTIALLY_FILLED",
            "c": "NEW",
        }
        assert {item.asset: item.total for item in told[5:7]} == {"USD": 40, "BNB": 0}
        assert told[7].quantity == 0
        assert is_live(told[8])


async def test_fills_are_asked_for_from_well_before_the_last_comparison_in_every_market_that_matters() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.positions = [position(1)]

    async with stage(prepare) as play:
        venue = play.venue
        assert venue.count("fills") == 0
        venue.account_watch.traded(ACCOUNT, ETH)
        compared_ms = play.status.reconciled_time
        assert compared_ms is not None
        venue.positions = [position(2)]
        venue.tell(order("a"), order("done", "CANCELED", of=LTC))
        await play.settle(100.0)
        venue.sockets[0].cut()
        await play.settle(1.0)
        asked = {symbol: since for what, *rest in venue.asked if what == "fills" for symbol, since in [rest]}
        assert asked.keys() == {BTC.symbol, ETH.symbol, LTC.symbol, PERP.symbol}
        assert all(compared_ms - 61_000 <= since <= compared_ms - 60_000 for since in asked.values())


async def test_a_venue_that_tells_all_fills_at_once_is_asked_once() -> None:
    class AllAtOnce(ToyVenue):
        fills_need_market = False

    async with stage(kind=AllAtOnce) as play:
        assert [asked for asked in play.venue.asked if asked[0] == "fills"] == [("fills", None, NOW_MS)]


async def test_events_that_come_while_the_venue_is_asked_are_told_after_its_answers() -> None:
    async with stage(lambda venue: setattr(venue, "balances", [balance(10)])) as play:
        venue = play.venue
        venue.sockets[0].cut()
        venue.answer_slowly = anyio.Event()
        venue.balances = [balance(30)]
        venue.orders = [order("a"), order("b")]
        await play.settle(1.0)
        play.told()
        venue.tell(balance(20), order("b", "CANCELED", updated_time=NOW_MS + 5), balance(30), fill("1"), balance(40))
        await play.settle()
        assert play.told() == []
        venue.answer_slowly.set()
        await play.settle()
        told = play.told()
        assert told[:3] == [order("a"), order("b"), balance(30)]
        assert told[3] == order("b", "CANCELED", updated_time=NOW_MS + 5)
        assert isinstance(told[4], Fill)
        assert told[5] == balance(40)
        assert is_live(told[6])


async def test_a_connection_lost_while_the_venue_is_asked_is_asked_about_anew() -> None:
    async with stage() as play:
        venue = play.venue
        venue.sockets[0].cut()
        venue.answer_slowly = anyio.Event()
        await play.settle(1.0)
        venue.tell(order("a"))
        venue.sockets[0].cut()
        venue.answer_slowly.set()
        await play.settle(0.05)
        assert play.told()[-1] == order("a")
        assert not play.status.live
        await play.settle(2.0)
        assert is_live(play.told()[-1])


async def test_a_venue_that_does_not_answer_is_asked_again_while_the_stream_goes_on() -> None:
    errors = [
        VenueUnavailable("down", exchange="TOY"),
        KeyError("bug"),
        RateLimited("x", exchange="TOY", retry_after=9),
    ]
    async with stage(lambda venue: venue.errors.extend(errors)) as play:
        assert "not compared" in str(play.status.reason)
        play.venue.tell(order("a"))
        await play.settle()
        assert play.told() == [order("a")]
        play.venue.orders = [order("a")]
        await play.settle(30.0)
        assert is_live(play.told()[-1])
        assert play.venue.count("orders") == 4


async def test_a_key_that_may_not_ask_ends_the_stream() -> None:
    async with stage(lambda venue: venue.errors.append(PermissionDenied("no", exchange="TOY"))) as play:
        assert isinstance(play.ended, PermissionDenied)
        await play.settle(5.0)
        assert not play.venue.sockets


async def test_a_subscription_that_the_venue_ends_is_made_anew_and_compared() -> None:
    async with stage() as play:
        play.told()
        play.venue.balances = [balance(5)]
        play.venue.sockets[0].push("over")
        await play.settle(0.5)
        lost, told, live = play.told()
        assert is_lost(lost)
        assert told == balance(5)
        assert is_live(live)
        assert len(play.venue.transport.connections) == 1


async def test_interruptions_while_a_subscription_is_awaited_ask_for_no_further_one() -> None:
    async with stage() as play:
        venue = play.venue
        play.told()
        venue.acknowledge = False
        before = venue.subscriptions
        for _ in range(5):
            venue.sockets[0].push("over")
            await play.settle(0.2)
        assert venue.subscriptions == before + 1
        venue.sockets[0].push("ok")
        await play.settle(0.5)
        assert is_live(play.told()[-1])


async def test_a_renewed_connection_is_compared_without_the_stream_being_in_doubt() -> None:
    async with stage(lambda venue: setattr(venue, "balances", [balance(10)])) as play:
        venue = play.venue
        play.told()
        venue.acknowledge = False
        venue.sockets[0].push("bye")
        await play.settle(0.5)
        old, new = venue.sockets
        # Both connections tell the same, the new one more: that it comes back to an earlier balance must not be lost.
        for total in (20, 10):
            venue.tell(balance(total), on=0)
            venue.tell(balance(total), on=1)
        venue.tell(balance(20), on=1)
        await play.settle()
        assert play.told() == [balance(20), balance(10)]
        venue.balances = [balance(20)]
        new.push("ok")
        await play.settle(1.0)
        assert old.is_closed
        told = play.told()
        assert not any(isinstance(item, AccountStatus) for item in told)
        assert told[-1] == balance(20)
        venue.tell(order("a"))
        await play.settle()
        assert play.told() == [order("a")]


# --- orders that are gone, fills that are missing ------------------------------------------------------------------


async def test_an_order_that_is_not_found_is_unknown_unless_it_is_young() -> None:
    async with stage() as play:
        play.venue.tell(order("old", updated_time=NOW_MS - 100_000), order("young", updated_time=NOW_MS))
        await play.settle()
        play.told()
        play.venue.sockets[0].cut()
        await play.settle(1.0)
        _, gone, live = play.told()
        assert (gone.client_order_id, gone.status) == ("old", OrderStatus.UNKNOWN)
        assert is_live(live)
        await play.settle(100.0)
        (gone,) = play.told()
        assert (gone.client_order_id, gone.status) == ("young", OrderStatus.UNKNOWN)


async def test_an_order_whose_client_id_the_venue_has_forgotten_is_asked_for_by_the_venues_id() -> None:
    async with stage() as play:
        play.venue.tell(order("old", updated_time=NOW_MS - 100_000))
        await play.settle()
        play.told()
        play.venue.done = play.venue.nameless = [order("old", "FILLED", 5, updated_time=NOW_MS - 50_000)]
        play.venue.sockets[0].cut()
        await play.settle(1.0)
        ended = [item for item in play.told() if isinstance(item, Order)]
        assert [item.status for item in ended] == [OrderStatus.FILLED]


async def test_an_order_in_a_market_that_is_gone_is_gone() -> None:
    async with stage() as play:
        play.venue.tell(order("a", market="TOY-SPOT-XYZ-USD"))
        play.venue.sockets[0].cut()
        await play.settle(1.0)
        assert [item.status for item in play.told() if isinstance(item, Order)] == [
            OrderStatus.NEW,
            OrderStatus.UNKNOWN,
        ]
        assert play.status.live


async def test_a_fill_that_the_stream_did_not_tell_is_fetched() -> None:
    async with stage() as play:
        play.venue.tell(order("a"), order("a", "PARTIALLY_FILLED", 2))
        play.venue.fills = [fill("1"), fill("2")]
        play.venue.orders = [order("a", "PARTIALLY_FILLED", 2)]
        await play.settle(2.0)
        assert not any(isinstance(item, Fill) for item in play.told())
        await play.settle(2.0)
        assert [item.id for item in play.told()] == ["1", "2"]
        assert play.venue.count("orders") == 2


async def test_fills_that_cannot_be_had_are_asked_for_thrice() -> None:
    async with stage() as play:
        play.venue.orders = [order("a", "PARTIALLY_FILLED", 2)]
        play.venue.tell(order("a"), *play.venue.orders)
        await play.settle(120.0)
        assert play.venue.count("orders") == 1 + reconcile.ATTEMPTS


async def test_a_running_stream_is_audited_now_and_then() -> None:
    async with stage(audit_accounts_every_s=600.0) as play:
        play.told()
        play.venue.balances = [balance(5)]
        await play.settle(590.0)
        assert play.told() == []
        play.venue.answer_slowly = anyio.Event()
        await play.settle(20.0)
        play.venue.tell(balance(4), order("a"))
        await play.settle()
        assert play.told() == [order("a")], "orders wait for nothing"
        play.venue.answer_slowly.set()
        await play.settle()
        assert play.told() == [balance(5), balance(4)]
        assert play.status.live


# --- consumers -----------------------------------------------------------------------------------------------------


async def test_a_further_consumer_begins_with_what_is_known() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.orders = [order("a")]
        venue.balances = [balance(5)]

    async with stage(prepare) as play:
        asked = len(play.venue.asked)
        items: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play.read, play.venue.stream_account(ACCOUNT), items)
            await play.settle()
            assert items[:2] == [order("a"), balance(5)]
            assert is_live(items[2])
            assert len(play.venue.asked) == asked
            play.venue.tell(balance(6))
            await play.settle()
            assert items[3:] == [balance(6)]
            tasks.cancel_scope.cancel()


async def test_a_consumer_that_comes_while_the_venue_is_asked_gets_all_when_it_has_answered() -> None:
    async with stage(lambda venue: setattr(venue, "orders", [order("a")])) as play:
        play.told()
        play.venue.answer_slowly = anyio.Event()
        play.venue.sockets[0].cut()
        await play.settle(1.0)
        items: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play.read, play.venue.stream_account(ACCOUNT), items)
            await play.settle()
            assert items == []
            play.venue.answer_slowly.set()
            await play.settle()
            assert items[0] == order("a")
            assert is_live(items[-1])
            assert [type(item) for item in play.told()] == [AccountStatus, AccountStatus]
            tasks.cancel_scope.cancel()


async def test_a_stream_that_lost_its_connection_while_nobody_listened_is_compared_for_the_next_one() -> None:
    async with stage() as play:
        await play.stream.aclose()
        play.venue.sockets[0].cut()
        await play.settle(0.7)
        items: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play.read, play.venue.stream_account(ACCOUNT), items)
            await play.settle(1.0)
            assert is_live(items[-1])
            tasks.cancel_scope.cancel()


async def test_orders_being_placed_listen_to_the_stream_and_leave_it_as_it_was() -> None:
    async with stage() as play:
        watch = play.venue.account_watch
        evidence = Evidence(lambda told: told.client_order_id == "a")
        with watch.evidence(ACCOUNT, evidence):
            play.venue.tell(order("b"), order("a"))
            await play.settle()
        assert evidence.order == order("a")
        assert watch.order_of(ACCOUNT, BTC.symbol, "b") == order("b")
        other = Credentials.of("TOY", "k", "s", account="other")
        assert watch.order_of(other, BTC.symbol, "b") is None
        play.venue.tell(order("a", "FILLED", 5))
        await play.settle()
        assert evidence.order == order("a")
        assert play.told()[-1] == order("a", "FILLED", 5)


async def test_a_burst_beyond_all_bounds_is_told_and_asked_about_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_HELD", 10)
    async with stage() as play:
        play.venue.sockets[0].cut()
        play.venue.answer_slowly = anyio.Event()
        await play.settle(1.0)
        play.told()
        play.venue.tell(*(balance(total) for total in range(1, 20)))
        await play.settle()
        assert len(play.told()) == 11
        play.venue.balances = [balance(19)]
        play.venue.answer_slowly.set()
        await play.settle(1.0)
        *told, live = play.told()
        assert told == [balance(total) for total in range(12, 20)], "the answers were older than what was told already"
        assert is_live(live)


def test_the_markets_traded_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_MARKETS", 1)
    watch = reconcile.AccountWatch(lambda account: ())
    for one in (BTC, ETH, PERP):
        watch.traded(ACCOUNT, one)
    assert watch.markets(ACCOUNT, "spot") == [ETH.symbol]
    assert watch.markets(ACCOUNT, "perp") == [PERP.symbol]


# --- a renewal that goes wrong -------------------------------------------------------------------------------------


async def test_an_account_whose_connection_ends_before_its_successor_is_acknowledged_is_compared_anew() -> None:
    async with stage() as play:
        play.told()
        play.venue.acknowledge = False
        old = play.venue.sockets[0]
        old.push("bye")
        await play.settle(1.0)
        assert len(play.venue.sockets) == 2
        old.cut("connection reset by peer")
        await play.settle(1.0)
        (lost,) = play.told()
        assert is_lost(lost)
        assert lost.reason == "connection reset by peer"
        play.venue.orders = [order("a")]  # what happened while nothing was subscribed
        play.venue.sockets[0].push("ok")
        await play.settle(1.0)
        told, live = play.told()
        assert told == play.venue.orders[0]
        assert is_live(live)


# --- a consumer that is too slow -----------------------------------------------------------------------------------


async def test_a_consumer_that_is_too_slow_gets_nothing_behind_the_first_event_that_it_missed() -> None:
    async with stage() as play:
        slow = MarketStream.of_account(play.venue.hub, [play.stream._taps[0].topic.channel], max_queue=3)
        async with slow:
            while slow._queue:
                await anext(slow)
            for number in range(5):
                play.venue.tell(fill(str(number)))
            told = [await anext(slow)]
            for number in range(5, 12):
                play.venue.tell(fill(str(number)))
            told += [await anext(slow), await anext(slow)]
            with pytest.raises(StreamClosed, match="too slow: more than 3 items"):
                await anext(slow)
            assert [one.id for one in told] == ["0", "1", "2"]
        await play.settle()
        assert [one.id for one in play.told() if isinstance(one, Fill)] == [str(number) for number in range(12)]


async def test_a_consumer_whose_queue_does_not_hold_the_beginning_gets_nothing_behind_it() -> None:
    def prepare(venue: ToyVenue) -> None:
        venue.balances = [balance(number, f"C{number}") for number in range(1, 10)]

    async with stage(prepare) as play:
        async with MarketStream.of_account(play.venue.hub, [play.stream._taps[0].topic.channel], max_queue=3) as slow:
            told = [await anext(slow)]
            play.venue.tell(fill("1"))
            told += [await anext(slow), await anext(slow)]
            with pytest.raises(StreamClosed, match="too slow"):
                await anext(slow)
        assert [one.asset for one in told] == ["C1", "C2", "C3"]
