"""A "cancel all" whose answer is lost: the open orders show what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from astra import Credentials, Market, Order, OrderRequest
from astra.errors import OrderNotFound, OrderOutcomeUnknown, PermissionDenied, VenueUnavailable
from astra.models.orders import OrderStatus
from astra.symbols import AssetType
from astra.trading.commands import Commands

pytestmark = pytest.mark.anyio

ACCOUNT = Credentials.of("TOY", "key", "secret")
START_MS = 1_700_000_000_000
LIFETIME_S = 7.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def spot(base: str) -> Market:
    return Market(
        symbol=f"TOY-SPOT-{base}-USDT",
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset="USDT",
        native_symbol=f"{base}USDT",
        product="spot",
    )


BTC, ETH = spot("BTC"), spot("ETH")
FUTURE = BTC.model_copy(update={"symbol": "TOY-PERP-BTC-USDT", "asset_type": AssetType.PERP, "product": "futures"})


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
        await self.sleep(seconds)
        return event.is_set()


class Venue:
    """Orders by client id; `cancel_all` loses its answer, and is carried out `after_s` later (None: never)."""

    def __init__(self, clock: FastClock, after_s: float | None) -> None:
        self.clock = clock
        self.after_s = after_s
        self.orders: dict[str, Order] = {}
        self.due: tuple[float, str | None] | None = None
        self.error: Exception = OrderOutcomeUnknown(
            "connection reset", exchange="TOY", market="TOY", operation="cancel_all_orders"
        )
        self.listing_fails: Exception | None = None
        self.loses_placements = False

    def act(self) -> None:
        if self.due is not None and self.clock.now >= self.due[0]:
            for name, order in self.orders.items():
                if order.status.is_open and self.due[1] in (None, order.market):
                    self.orders[name] = order.model_copy(update={"status": OrderStatus.CANCELED})
            self.due = None

    async def place_order(self, market: Market, order: OrderRequest, account: Credentials) -> Order:
        name = order.client_order_id or ""
        self.orders[name] = Order(
            id=name.upper(),
            client_order_id=name,
            market=market.symbol,
            side=order.side,
            type=order.type,
            status=OrderStatus.NEW,
            created_time=self.clock.wall_ns() // 1_000_000,
        )
        if self.loses_placements:
            raise OrderOutcomeUnknown("connection reset", exchange="TOY", market=market.symbol, client_order_id=name)
        return self.orders[name]

    async def cancel_all_orders(self, market: Market | None, account: Credentials) -> list[Order]:
        if self.after_s is not None:
            self.due = (self.clock.now + self.after_s, None if market is None else market.symbol)
        raise self.error

    async def list_orders(self, market: Market | None, account: Credentials) -> list[Order]:
        self.act()
        if self.listing_fails is not None:
            raise self.listing_fails
        return [o for o in self.orders.values() if o.status.is_open and market in (None, spot(o.market.split("-")[2]))]

    async def get_order(self, market: Market, ref: Any, account: Credentials) -> Order:
        self.act()
        if ref.client_order_id not in self.orders:
            raise OrderNotFound("no such order", exchange="TOY")
        return self.orders[ref.client_order_id]


class Desk:
    def __init__(
        self,
        *,
        after_s: float | None = 0.0,
        lifetime_s: float | Callable[[Market, str], float | None] | None = LIFETIME_S,
        resolve_s: float = 10.0,
        markets: Sequence[Market] | Exception = (),
    ) -> None:
        self.clock = FastClock()
        self.venue = Venue(self.clock, after_s)
        hooks: dict[str, Callable[..., Awaitable[Any]]] = {
            name: getattr(self.venue, name) for name in ("place_order", "cancel_all_orders", "list_orders", "get_order")
        }

        async def listed() -> Sequence[Market]:
            if isinstance(markets, Exception):
                raise markets
            return markets

        self.commands = Commands(
            "TOY",
            hooks,
            self.clock,
            watch=None,
            id_rule=lambda market: None,
            lifetime_s=lifetime_s if callable(lifetime_s) else lambda market, operation: lifetime_s,
            resolve_s=resolve_s,
            markets=listed,
        )

    async def place(self, name: str, market: Market = BTC) -> None:
        order = OrderRequest(side="BUY", quantity="1", price="10", client_order_id=name)
        await self.commands.place(market, order, ACCOUNT)

    async def cancel_all(self, market: Market | None = BTC) -> list[str]:
        return sorted(order.client_order_id or "" for order in await self.commands.cancel_all(market, ACCOUNT))

    async def refused(self, market: Market | None = BTC) -> str:
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await self.cancel_all(market)
        assert caught.value.operation == "cancel_all_orders"
        return caught.value.message

    async def cancel_one(self, name: str) -> None:
        done = self.venue.orders[name].model_copy(update={"status": OrderStatus.CANCELED})
        self.venue.orders[name] = done
        self.commands.told(ACCOUNT, done)

    def is_free(self, name: str) -> bool:
        sent = self.commands.sent.find(ACCOUNT, name)
        return sent is not None and not sent.alive


@pytest.mark.parametrize("after_s", [0.0, 3.0])
async def test_what_was_canceled_is_answered_as_if_nothing_had_happened(after_s: float) -> None:
    desk = Desk(after_s=after_s)
    for name in ("one", "two"):
        await desk.place(name)
    await desk.place("elsewhere", ETH)
    assert await desk.cancel_all() == ["one", "two"]
    assert after_s <= desk.clock.now < after_s + 2.5
    assert desk.is_free("one")
    assert not desk.is_free("elsewhere")
    assert await desk.cancel_all(None) == ["elsewhere"]


async def test_orders_that_were_done_before_are_not_among_them() -> None:
    desk = Desk()
    for name in ("one", "two"):
        await desk.place(name)
    desk.venue.orders["one"] = desk.venue.orders["one"].model_copy(update={"status": OrderStatus.FILLED})
    assert await desk.cancel_all() == ["two"]
    assert desk.is_free("one")


async def test_orders_that_stay_open_are_named_once_the_request_can_no_longer_arrive() -> None:
    desk = Desk(after_s=None)
    await desk.place("one")
    message = await desk.refused()
    assert "Still open: one in TOY-SPOT-BTC-USDT." in message
    assert "can no longer arrive: cancel again" in message
    assert LIFETIME_S <= desk.clock.now < LIFETIME_S + 0.1


async def test_without_a_time_limit_of_the_venue_open_orders_are_looked_at_until_the_deadline() -> None:
    desk = Desk(after_s=None, lifetime_s=None)
    await desk.place("one")
    assert "It may still arrive." in await desk.refused()
    assert desk.clock.now == pytest.approx(10)


async def test_nothing_open_proves_nothing_while_the_request_may_still_arrive() -> None:
    desk = Desk(after_s=6.0)
    await desk.place("one")
    desk.venue.orders["one"] = desk.venue.orders["one"].model_copy(update={"status": OrderStatus.FILLED})
    assert await desk.cancel_all() == []
    assert desk.clock.now >= LIFETIME_S


async def test_without_a_time_limit_of_the_venue_nothing_open_proves_nothing() -> None:
    """It could still cancel what is placed now; and there is nothing more that could be asked."""
    for market in (BTC, None):
        desk = Desk(after_s=None, lifetime_s=None, markets=[BTC])
        assert "may still arrive and cancel what is placed now" in await desk.refused(market)
        assert desk.clock.now == 0.0
    await desk.place("one")
    desk.venue.orders["one"] = desk.venue.orders["one"].model_copy(update={"status": OrderStatus.FILLED})
    assert "may still arrive" in await desk.refused()
    assert desk.is_free("one")


async def test_a_cancel_all_of_the_venue_may_arrive_for_as_long_as_in_the_slowest_of_its_markets() -> None:
    """Though no order was placed yet."""

    def lifetime_s(market: Market, operation: str) -> float | None:
        assert operation == "cancel_all_orders"
        return 4.0 if market is BTC else slowest_s

    slowest_s: float | None = 6.0
    desk = Desk(after_s=None, lifetime_s=lifetime_s, markets=[BTC, FUTURE])
    assert await desk.cancel_all(None) == []
    assert 6.0 <= desk.clock.now < 6.1
    slowest_s = None
    assert "may still arrive" in await desk.refused(None)
    for none in (VenueUnavailable("down", exchange="TOY"), KeyError("a bug"), ()):
        desk = Desk(after_s=None, lifetime_s=4.0, markets=none)
        assert "may still arrive" in await desk.refused(None)


async def test_an_earlier_order_under_a_reused_id_that_was_canceled_proves_nothing() -> None:
    desk = Desk(after_s=None, lifetime_s=None, resolve_s=1.0)
    await desk.place("one")
    await desk.cancel_one("one")
    earlier = desk.venue.orders["one"]
    desk.venue.loses_placements = True
    with pytest.raises(OrderOutcomeUnknown):
        await desk.place("one")
    desk.venue.orders["one"] = earlier
    assert "may still arrive" in await desk.refused()
    assert not desk.is_free("one")


async def test_a_deadline_before_the_requests_own_leaves_it_unknown() -> None:
    desk = Desk(after_s=None, resolve_s=5.0)
    assert "may still arrive and cancel what is placed now" in await desk.refused()


async def test_what_was_placed_afterwards_may_be_open() -> None:
    desk = Desk()
    await desk.place("one")
    act = desk.venue.act

    def act_and_place() -> None:
        act()
        desk.venue.act = act  # type: ignore[method-assign]
        late = desk.venue.orders["one"].model_copy(
            update={"client_order_id": "late", "status": OrderStatus.NEW, "created_time": START_MS + 120_000}
        )
        desk.venue.orders["late"] = late

    desk.venue.act = act_and_place  # type: ignore[method-assign]
    assert await desk.cancel_all() == ["one"]


async def test_an_order_of_others_that_was_there_before_counts() -> None:
    desk = Desk(after_s=None)
    await desk.place("one")
    theirs = desk.venue.orders.pop("one").model_copy(update={"client_order_id": None})
    desk.venue.orders["theirs"] = theirs
    assert "Still open: ONE in" in await desk.refused()


async def test_a_listing_that_fails_is_asked_again_and_said() -> None:
    desk = Desk()
    desk.venue.listing_fails = VenueUnavailable("down", exchange="TOY")
    assert "Which orders are open could not be asked" in await desk.refused()
    desk.venue.listing_fails = None
    await desk.place("one")
    assert await desk.cancel_all() == ["one"]


async def test_a_bug_in_the_plugin_is_an_outcome_to_find_out() -> None:
    desk = Desk()
    desk.venue.error = KeyError("symbol")
    await desk.place("one")
    assert await desk.cancel_all(None) == ["one"]


async def test_resolving_can_be_switched_off_and_refusals_pass() -> None:
    desk = Desk(resolve_s=0)
    assert await desk.refused() == "connection reset"
    desk.venue.error = PermissionDenied("no", exchange="TOY")
    with pytest.raises(PermissionDenied):
        await desk.cancel_all()
