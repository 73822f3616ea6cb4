"""Each limit refuses what breaks it, saying which, by what figure and by which setting, and lets the rest pass."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from astra import OrderChange, OrderRequest
from astra.errors import InvalidOrder, OrderNotFound, PermissionDenied, VenueUnavailable
from astra.models.accounts import Balance, Position
from astra.models.orders import PositionSide
from astra_risk import LimitExceeded, MarketNotAllowed

pytestmark = pytest.mark.anyio

SPOT, CROSS, PERP, INVERSE = "PAPER-SPOT-BTC-USDT", "PAPER-SPOT-BTC-USDC", "PAPER-PERP-BTC-USDT", "PAPER-PERP-BTC-USD"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def limit(side: str = "BUY", quantity: str | None = "1", price: str = "100", **fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": side, "quantity": quantity, "price": price} | fields)


def at_market(side: str = "BUY", quantity: str | None = "1", **fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": side, "type": "MARKET", "quantity": quantity} | fields)


async def refused(placing: Any, rule: str, figure: str | None, setting: str) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await placing
    error = caught.value
    assert isinstance(error, InvalidOrder)
    assert (error.rule, error.setting) == (rule, setting)
    assert error.figure == (None if figure is None else Decimal(figure))
    assert setting in str(error)
    if figure is not None:
        assert figure in str(error)
    return error


# --- one order -----------------------------------------------------------------------------------------------------


async def test_an_order_over_the_quantity_is_refused_and_one_at_it_passes(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_order_quantity="2") as astra:
        await astra.place_order(SPOT, limit(quantity="2"))
        error = await refused(
            astra.place_order(SPOT, limit(quantity="2.001")),
            "risk-max-order-quantity",
            "2.001",
            "middleware.risk.max_order_quantity",
        )
        assert error.limit == 2
        assert "over the limit of 2 BTC" in str(error)
    assert desk.exchange.log == ["place_order"]


async def test_quantities_of_contracts_are_counted_in_base_units_and_contracts(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_order_quantity="0.5", markets={INVERSE: {"max_order_contracts": 10}}) as astra:
        await astra.place_order(PERP, limit(quantity=None, contracts=50))
        name = "middleware.risk.max_order_quantity"
        await refused(
            astra.place_order(PERP, limit(quantity=None, contracts=51)), "risk-max-order-quantity", "0.51", name
        )
        await astra.place_order(INVERSE, limit(quantity=None, contracts=10, price="2000"))
        # 10 contracts of 100 USD at 1999 USD are 0.50025... BTC
        with pytest.raises(LimitExceeded, match=r"0\.50025"):
            await astra.place_order(INVERSE, limit(quantity=None, contracts=10, price="1999"))
        await refused(
            astra.place_order(INVERSE, limit(quantity=None, contracts=11, price="5000")),
            "risk-max-order-contracts",
            "11",
            f"middleware.risk.markets.{INVERSE}.max_order_contracts",
        )


NOTIONAL = ("risk-max-order-notional", "middleware.risk.max_order_notional")


@pytest.mark.parametrize(
    ("symbol", "good", "bad", "figure"),
    [
        (SPOT, limit(quantity="10"), limit(quantity="10.001"), "1000.1"),
        (PERP, limit(quantity=None, contracts=1000), limit(quantity=None, contracts=1001), "1001"),
        (INVERSE, limit(quantity=None, contracts=10), limit(quantity=None, contracts=11), "1100"),
        (
            SPOT,
            at_market(quantity=None, quote_quantity="1000"),
            at_market(quantity=None, quote_quantity="1001"),
            "1001",
        ),
        # Market orders walk the book: 5 at 101, 4.85 at 102.
        (SPOT, at_market(quantity="9.85"), at_market(quantity="9.853"), "1000.006"),
        (SPOT, at_market("SELL", "10.16"), at_market("SELL", "10.17"), "1000.3"),
        # A sell far below the market is worth what the bids pay.
        (SPOT, limit("SELL", "10.1", "1"), limit("SELL", "10.102", "1"), "1000.098"),
        (SPOT, limit("SELL", "10", "100"), limit("SELL", "10", "100.01"), "1000.1"),
        # A trigger that the market has reached fires at once.
        (
            SPOT,
            limit("SELL", "10.1", "1", type="TAKE_PROFIT_LIMIT", stop_price="2"),
            limit("SELL", "10.102", "1", type="TAKE_PROFIT_LIMIT", stop_price="2"),
            "1000.098",
        ),
        (
            SPOT,
            at_market(quantity="5", type="STOP_MARKET", stop_price="200"),
            at_market(quantity="5.001", type="STOP_MARKET", stop_price="200"),
            "1000.2",
        ),
    ],
)
async def test_an_orders_value_is_what_it_may_cost_or_bring(
    open_desk: Any, symbol: str, good: OrderRequest, bad: OrderRequest, figure: str
) -> None:
    async with open_desk(max_order_notional=1000) as astra:
        await refused(astra.place_order(symbol, bad), NOTIONAL[0], figure, NOTIONAL[1])
        await astra.place_order(symbol, good)


async def test_a_market_order_larger_than_the_book_is_refused_because_its_value_is_not_known(
    desk: Any, open_desk: Any
) -> None:
    async with open_desk(max_order_notional=10**9) as astra:
        error = await refused(astra.place_order(SPOT, at_market(quantity="111")), NOTIONAL[0], None, NOTIONAL[1])
        assert "shows too little" in str(error)
    assert "place_order" not in desk.exchange.log


async def test_no_book_no_order_where_its_value_hangs_on_one(desk: Any, open_desk: Any) -> None:
    def down(*_: Any) -> None:
        raise VenueUnavailable("in maintenance", exchange="PAPER")

    desk.exchange.stubs["get_orderbook"] = down
    async with open_desk(max_order_notional=1000) as astra:
        await astra.place_order(SPOT, limit())
        error = await refused(astra.place_order(SPOT, at_market()), NOTIONAL[0], None, NOTIONAL[1])
        assert "in maintenance" in str(error)
        desk.exchange.stubs.clear()
        desk.exchange.asks.clear()
        error = await refused(astra.place_order(SPOT, at_market()), NOTIONAL[0], None, NOTIONAL[1])
        assert "no prices on one side" in str(error)


async def test_the_live_book_is_used_while_it_is_live(
    desk: Any, open_desk: Any, running_book: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astra.models.orderbook import BookState

    async with open_desk(max_price_distance_percent=1) as astra:
        book = running_book([(199.0, 1.0)], [(201.0, 1.0)])
        monkeypatch.setattr(astra, "live_book", lambda symbol: book)
        await astra.place_order(SPOT, limit(price="201"))
        assert "get_orderbook" not in desk.exchange.log
        book.state = BookState.STALE
        with pytest.raises(LimitExceeded, match="book read by REST"):
            await astra.place_order(SPOT, limit(price="201"))


DISTANCE = ("risk-max-price-distance-percent", "middleware.risk.max_price_distance_percent")


@pytest.mark.parametrize(
    ("good", "bad", "figure"),
    [
        (limit(price="110"), limit(price="110.01"), "10.01"),
        (limit("SELL", price="90"), limit("SELL", price="89.99"), "10.01"),
        (limit(price="90"), limit(price="89.99"), "10.01"),
        (at_market(quantity="11"), at_market("SELL", "111"), None),
        # A stop's limit is measured from its trigger, unless the market is there already.
        (
            limit(price="209", type="STOP_LIMIT", stop_price="200"),
            limit(price="221", type="STOP_LIMIT", stop_price="200"),
            "10.5",
        ),
        (
            limit("SELL", price="109", type="TAKE_PROFIT_LIMIT", stop_price="90"),
            limit("SELL", price="88", type="TAKE_PROFIT_LIMIT", stop_price="89"),
            "12",
        ),
    ],
)
async def test_prices_far_from_the_mid_are_refused(
    open_desk: Any, good: OrderRequest, bad: OrderRequest, figure: str | None
) -> None:
    async with open_desk(max_price_distance_percent="10") as astra:
        await astra.place_order(SPOT, good)
        await refused(astra.place_order(SPOT, bad), DISTANCE[0], figure, DISTANCE[1])


async def test_a_book_read_by_rest_serves_for_a_moment_only(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_price_distance_percent="10", book_max_age_s=2) as astra:
        await astra.place_order(SPOT, limit())
        desk.clock.now += 1.9
        await astra.place_order(SPOT, limit())
        assert desk.exchange.log.count("get_orderbook") == 1
        desk.clock.now += 0.2
        desk.exchange.bids[:], desk.exchange.asks[:] = [(199.0, 1.0)], [(201.0, 1.0)]
        with pytest.raises(LimitExceeded):
            await astra.place_order(SPOT, limit())


# --- many orders ---------------------------------------------------------------------------------------------------


async def test_open_orders_are_counted_over_the_account_and_over_each_market(desk: Any, open_desk: Any) -> None:
    limits = {"max_open_orders": 3, "markets": {"PAPER-SPOT-*": {"max_open_orders": 2}}}
    async with open_desk(**limits) as astra:
        first = await astra.place_order(SPOT, limit())
        await astra.place_order(SPOT, limit())
        await refused(
            astra.place_order(SPOT, limit()),
            "risk-max-open-orders",
            "3",
            "middleware.risk.markets.PAPER-SPOT-*.max_open_orders",
        )
        await astra.place_order(SPOT, limit(time_in_force="IOC"))  # never rests
        await astra.place_order(CROSS, limit())
        await refused(astra.place_order(CROSS, limit()), "risk-max-open-orders", "4", "middleware.risk.max_open_orders")
        await astra.cancel_order(SPOT, client_order_id=first.client_order_id)
        await astra.place_order(CROSS, limit())


async def test_orders_that_were_open_before_count(desk: Any, open_desk: Any) -> None:
    async with open_desk() as astra:
        await astra.place_order(SPOT, limit())
    async with open_desk(max_open_orders=1) as astra:
        await refused(astra.place_order(SPOT, limit()), "risk-max-open-orders", "2", "middleware.risk.max_open_orders")
        desk.exchange.end(desk.exchange.open[0].client_order_id)
        desk.clock.now += 1
        await astra.place_order(SPOT, limit())


POSITION = ("risk-max-position", "middleware.risk.max_position")


async def test_the_position_is_what_it_would_be_with_every_open_order_filled(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="3") as astra:
        one = await astra.place_order(PERP, limit(quantity="2"))
        error = await refused(astra.place_order(PERP, limit(quantity="1.01")), *position("3.01"))
        assert "long position, with every open BUY order filled" in str(error)
        await astra.place_order(PERP, limit("SELL", quantity="3"))
        desk.exchange.fill(one.client_order_id, Decimal(200))
        desk.clock.now += 10
        await refused(astra.place_order(PERP, limit(quantity="1.01")), *position("3.01"))
        await refused(astra.place_order(PERP, limit("SELL", quantity="2.01")), *position("3.01"))
        await astra.place_order(PERP, limit("SELL", quantity="2"))
        await astra.place_order(PERP, limit(quantity="1"))


def position(figure: str) -> tuple[str, str, str]:
    return POSITION[0], figure, POSITION[1]


async def test_a_spot_position_is_the_holding_and_shared_by_the_assets_markets(desk: Any, open_desk: Any) -> None:
    desk.exchange.position[SPOT] = Decimal("1.5")
    desk.exchange.note()
    async with open_desk(max_position="3") as astra:
        await astra.place_order(CROSS, limit(quantity="1"))
        await refused(astra.place_order(SPOT, limit(quantity="0.501")), *position("3.001"))
        await astra.place_order(SPOT, limit(quantity="0.5"))
        await astra.place_order(SPOT, limit("SELL", quantity="4.5"))
        await refused(astra.place_order(SPOT, limit("SELL", quantity="0.001")), *position("3.001"))


async def test_positions_in_contracts_and_in_value(desk: Any, open_desk: Any) -> None:
    async with open_desk(
        markets={PERP: {"max_position_notional": 500}, INVERSE: {"max_position_contracts": 7}}
    ) as astra:
        await astra.place_order(PERP, limit(quantity="5"))
        await refused(
            astra.place_order(PERP, limit(quantity="0.01")),
            "risk-max-position-notional",
            "501",
            f"middleware.risk.markets.{PERP}.max_position_notional",
        )
        await astra.place_order(INVERSE, limit("SELL", quantity=None, contracts=7))
        await refused(
            astra.place_order(INVERSE, limit("SELL", quantity=None, contracts=1)),
            "risk-max-position-contracts",
            "8",
            f"middleware.risk.markets.{INVERSE}.max_position_contracts",
        )


async def test_reduce_only_orders_close_and_take_away_what_covers_the_others(desk: Any, open_desk: Any) -> None:
    desk.exchange.position[PERP] = Decimal(500)
    desk.exchange.note()
    async with open_desk(max_position="3") as astra:
        # The position is over the limit: it may shrink, by orders that name it so and by others.
        await astra.place_order(PERP, limit("SELL", quantity="5", reduce_only=True))
        await astra.place_order(PERP, limit("SELL", quantity="5", reduce_only=True, type="STOP_LIMIT", stop_price="90"))
        # Without the reduce-only orders 8 could be sold; they may close the position first.
        await refused(astra.place_order(PERP, limit("SELL", quantity="3.01")), *position("3.01"))
        await astra.place_order(PERP, limit("SELL", quantity="3"))
        await refused(astra.place_order(PERP, limit(quantity="0.01")), *position("5.01"))


async def test_a_hedged_position_counts_by_what_is_left_of_it(desk: Any, open_desk: Any) -> None:
    legs = [
        Position(market=PERP, side=PositionSide.LONG, quantity=Decimal(5)),
        Position(market=PERP, side=PositionSide.SHORT, quantity=Decimal(3)),
    ]
    desk.exchange.stubs["get_positions"] = lambda: legs
    async with open_desk(max_position="3") as astra:
        await astra.place_order(PERP, limit(quantity="1"))
        await refused(astra.place_order(PERP, limit(quantity="0.01")), *position("3.01"))
        # closing the short leg adds to what is left
        await refused(astra.place_order(PERP, limit(quantity="1", reduce_only=True)), *position("4"))


async def test_positions_that_cannot_be_known_refuse_the_order(desk: Any, open_desk: Any) -> None:
    def down(*_: Any) -> None:
        raise VenueUnavailable("in maintenance", exchange="PAPER")

    async with open_desk(max_position="3") as astra:
        for operation in ("get_positions", "list_orders"):
            desk.exchange.stubs[operation] = down
            error = await refused(astra.place_order(PERP, limit()), POSITION[0], None, POSITION[1])
            assert "cannot be checked, because the position is not known: PAPER: in maintenance" in str(error)
            desk.exchange.stubs.clear()
        desk.exchange.stubs["get_positions"] = lambda: [Position(market=INVERSE, side="LONG", quantity=Decimal(1))]
        await refused(astra.place_order(INVERSE, limit(quantity=None, contracts=1)), POSITION[0], None, POSITION[1])
    assert "place_order" not in desk.exchange.log


async def test_a_read_that_never_ends_refuses_the_order(desk: Any, open_desk: Any) -> None:
    import anyio

    desk.exchange.stubs["get_positions"] = anyio.sleep_forever
    async with open_desk(max_position="3", read_timeout_s=0.05) as astra:
        error = await refused(astra.place_order(PERP, limit()), POSITION[0], None, POSITION[1])
        assert "read_timeout_s" in str(error)


async def test_what_was_borrowed_is_a_short_position(desk: Any, open_desk: Any) -> None:
    rows = [Balance(asset="BTC", wallet="margin", total=Decimal(1), borrowed=Decimal(3))]
    desk.exchange.stubs["get_balances"] = lambda: rows
    async with open_desk(max_position="3") as astra:
        await astra.place_order(SPOT, limit("SELL", quantity="1"))
        await refused(astra.place_order(SPOT, limit("SELL", quantity="0.001")), *position("3.001"))


async def test_reads_serve_for_the_configured_time_and_are_renewed_in_the_background(desk: Any, open_desk: Any) -> None:
    import anyio

    async with open_desk(max_position="100", position_max_age_s=10) as astra:
        await astra.place_order(PERP, limit())
        assert desk.exchange.log.count("get_positions") == 1
        desk.clock.now += 4
        await astra.place_order(PERP, limit())
        assert desk.exchange.log.count("get_positions") == 1
        desk.clock.now += 2
        await astra.place_order(PERP, limit())
        await anyio.wait_all_tasks_blocked()
        assert desk.exchange.log.count("get_positions") == 2
        desk.clock.now += 11
        await astra.place_order(PERP, limit())
        assert desk.exchange.log[-3:] == ["list_orders", "get_positions", "place_order"]


async def test_a_venue_that_lists_orders_by_market_only_is_read_so(desk: Any, open_desk: Any) -> None:
    from astra.errors import UnsupportedOperation

    def by_market(market: Any) -> None:
        if market is None:
            raise UnsupportedOperation("name a market", exchange="PAPER")

    desk.exchange.stubs["list_orders"] = by_market
    async with open_desk(max_open_orders=2) as astra:
        await astra.place_order(SPOT, limit())
        await astra.place_order(PERP, limit())
        await refused(astra.place_order(SPOT, limit()), "risk-max-open-orders", "3", "middleware.risk.max_open_orders")


async def test_rates_are_counted_in_any_second_and_any_minute(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_orders_per_second=2, max_orders_per_minute=3) as astra:
        placed = await astra.place_order(SPOT, limit())
        desk.clock.now += 0.6
        await astra.amend_order(SPOT, OrderChange(price="99"), client_order_id=placed.client_order_id)
        await refused(
            astra.place_order(SPOT, limit()), "risk-max-orders-per-second", "3", "middleware.risk.max_orders_per_second"
        )
        desk.clock.now += 0.4
        await astra.place_order(SPOT, limit())
        desk.clock.now += 58.9
        await refused(
            astra.place_order(SPOT, limit()), "risk-max-orders-per-minute", "4", "middleware.risk.max_orders_per_minute"
        )
        desk.clock.now += 0.1
        await astra.place_order(SPOT, limit())


async def test_leverage_is_capped(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_leverage=5, accounts={"PAPER": {"default": {"max_leverage": "3"}}}) as astra:
        await astra.set_leverage(PERP, 3)
        await refused(
            astra.set_leverage(PERP, 4), "risk-max-leverage", "4", "middleware.risk.accounts.PAPER.default.max_leverage"
        )
    assert desk.exchange.log == ["set_leverage"]


# --- amendments ----------------------------------------------------------------------------------------------------


async def test_amendments_are_measured_like_the_order_they_make(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_order_quantity="5", max_position="6", max_price_distance_percent=10) as astra:
        one = await astra.place_order(PERP, limit(quantity="3"))
        await astra.place_order(PERP, limit(quantity="2"))

        async def amend(**change: Any) -> Any:
            return await astra.amend_order(PERP, OrderChange(**change), client_order_id=one.client_order_id)

        await refused(amend(quantity="5.01"), "risk-max-order-quantity", "5.01", "middleware.risk.max_order_quantity")
        await refused(amend(quantity="4.01"), *position("6.01"))
        await refused(amend(price="111"), DISTANCE[0], "11", DISTANCE[1])
        await amend(quantity="4")
        await refused(astra.place_order(PERP, limit(quantity="0.01")), *position("6.01"))
        await amend(quantity="3.5", price="99")
        desk.clock.now += 1
        await astra.place_order(PERP, limit(quantity="0.5"))
        with pytest.raises(OrderNotFound):
            await astra.amend_order(PERP, OrderChange(price="100"), client_order_id="nobody")


async def test_an_amendment_of_an_order_that_cannot_be_read_is_refused(desk: Any, open_desk: Any) -> None:
    def down(*_: Any) -> None:
        raise VenueUnavailable("in maintenance", exchange="PAPER")

    async with open_desk(max_order_quantity="5") as astra:
        one = await astra.place_order(SPOT, limit())
        desk.exchange.stubs["get_order"] = down
        amending = astra.amend_order(SPOT, OrderChange(quantity="2"), client_order_id=one.client_order_id)
        error = await refused(amending, "risk-max-order-quantity", None, "middleware.risk.max_order_quantity")
        assert "the order's size is not known" in str(error)
    assert "amend_order" not in desk.exchange.log


# --- markets -------------------------------------------------------------------------------------------------------


async def test_only_markets_on_the_allow_list_are_traded(desk: Any, open_desk: Any) -> None:
    async with open_desk(allow_markets=[SPOT, "PAPER-PERP-*"], deny_markets="PAPER-PERP-*-USD") as astra:
        one = await astra.place_order(SPOT, limit())
        await astra.place_order(PERP, limit())
        for symbol, name in ((CROSS, "allow_markets"), (INVERSE, "deny_markets")):
            with pytest.raises(MarketNotAllowed, match=f"{symbol} may not be traded.*{name}") as caught:
                await astra.place_order(symbol, limit(quantity=None, contracts=1))
            assert isinstance(caught.value, PermissionDenied)
            assert caught.value.setting == f"middleware.risk.{name}"
        with pytest.raises(MarketNotAllowed):
            await astra.set_leverage(INVERSE, 2)
        await astra.cancel_order(SPOT, client_order_id=one.client_order_id)


async def test_cancels_pass_whatever_the_limits_say(desk: Any, open_desk: Any) -> None:
    async with open_desk() as astra:
        one = await astra.place_order(SPOT, limit())
        await astra.place_order(SPOT, limit())
    strict = {"max_orders_per_second": 0, "max_open_orders": 0, "max_position": 0, "allow_markets": [], "halted": True}
    async with open_desk(**strict) as astra:
        await astra.cancel_order(SPOT, client_order_id=one.client_order_id)
        assert len(await astra.cancel_all_orders("PAPER")) == 1
    assert not desk.exchange.open


# --- batches -------------------------------------------------------------------------------------------------------


async def test_a_batch_is_measured_order_by_order_and_what_passes_is_sent(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="3", max_order_quantity="2") as astra:
        orders = [limit(quantity=q) for q in ("2", "2.1", "1", "0.1")]
        answers = await astra.place_orders([(PERP, order) for order in orders])
        kinds = [getattr(answer, "rule", "placed") for answer in answers]
        assert kinds == ["placed", "risk-max-order-quantity", "placed", "risk-max-position"]
    assert desk.exchange.log.count("place_orders") == 1
    assert len(desk.exchange.open) == 2


async def test_a_batch_of_which_nothing_passes_is_not_sent(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_order_quantity="1") as astra:
        answers = await astra.place_orders([(SPOT, limit(quantity="2")), (SPOT, limit(quantity="3"))])
        assert [answer.figure for answer in answers] == [2, 3]
    assert desk.exchange.log == []
