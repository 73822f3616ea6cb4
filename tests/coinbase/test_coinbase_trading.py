"""Orders in the venue's words, its rows in Astra's, lost answers resolved, errors told apart, contracts converted."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import pytest

from astra.errors import (
    DuplicateClientOrderId,
    InvalidOrder,
    OrderNotFound,
    OrderOutcomeUnknown,
    UnsupportedOperation,
    VenueError,
)
from astra.models.orders import OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType
from astra_coinbase.trading.advanced_rows import Kinds, UserOrder

pytestmark = pytest.mark.anyio
SPOT, ALIAS = "COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-BTC-USDC"
PERP, DATED = "COINBASE-PERP-BTC-USD-BIP", "COINBASE-FUT-BTC-USD-260424-BIT"
LINEAR, INVERSE = "COINBASE-PERP-AAVE-USDC", "COINBASE-PERP-BTC-USD-COINM"
ID = "52cfe5e2-0b29-4c19-a245-a6a773de5030"
HISTORY = "orders/historical"
CREATED = "2026-11-21T10:00:00Z"


def accepted(product: str = "BTC-USD", side: str = "BUY", ident: str = ID) -> dict[str, Any]:
    response = {"order_id": ident, "product_id": product, "side": side, "client_order_id": "mine"}
    return {"success": True, "failure_reason": "UNKNOWN_FAILURE_REASON", "success_response": response}


def row(**fields: Any) -> dict[str, Any]:
    members = {"base_size": "0.5", "limit_price": "50000", "post_only": False}
    base = {
        "order_id": ID,
        "product_id": "BTC-USD",
        "side": "BUY",
        "client_order_id": "mine",
        "status": "OPEN",
        "order_configuration": {"limit_limit_gtc": members},
        "time_in_force": "GOOD_UNTIL_CANCELLED",
        "created_time": CREATED,
        "filled_size": "0",
        "average_filled_price": "0",
    }
    return base | fields


def listed(*rows: dict[str, Any], cursor: str = "") -> dict[str, Any]:
    return {"orders": list(rows), "has_next": bool(cursor), "cursor": cursor}


def rpc_order(**fields: Any) -> dict[str, Any]:
    base = {
        "order_id": "USDC-17",
        "instrument_name": "AAVE_USDC-PERPETUAL",
        "direction": "buy",
        "order_state": "open",
        "order_type": "limit",
        "amount": 0.5,
        "filled_amount": 0.0,
        "average_price": 0.0,
        "price": 90.5,
        "label": "mine",
        "time_in_force": "good_til_cancelled",
        "creation_timestamp": 1795000000000,
        "last_update_timestamp": 1795000000000,
    }
    return base | fields


def limit(**more: Any) -> OrderRequest:
    return OrderRequest.model_validate(
        {"side": "BUY", "price": "50000", "quantity": "0.5", "client_order_id": "mine", **more}
    )


# -- placing on Advanced Trade -----------------------------------------------------------------------------------------


async def test_a_limit_order_goes_out_with_its_client_id(played: Any) -> None:
    played.answer("orders", accepted(), method="POST")
    order = await played.venue.place_order(await played.market(SPOT), limit(post_only=True), played.credentials)
    assert played.bodies("orders") == [
        {
            "client_order_id": "mine",
            "product_id": "BTC-USD",
            "side": "BUY",
            "order_configuration": {"limit_limit_gtc": {"base_size": "0.5", "limit_price": "50000", "post_only": True}},
        }
    ]
    assert (order.id, order.client_order_id, order.status) == (ID, "mine", OrderStatus.NEW)
    assert order.filled_quantity is None, "the answer does not say"


STOP = {"type": "STOP_LIMIT", "stop_price": "51000"}
AT_MARKET = {"type": "MARKET", "price": None}


@pytest.mark.parametrize(
    ("symbol", "order", "expected"),
    [
        (SPOT, {"time_in_force": "IOC"}, {"sor_limit_ioc": {"base_size": "0.5", "limit_price": "50000"}}),
        (SPOT, {"time_in_force": "FOK"}, {"limit_limit_fok": {"base_size": "0.5", "limit_price": "50000"}}),
        (
            SPOT,
            {"time_in_force": "GTD", "expire_time": 1795000000001},
            {
                "limit_limit_gtd": {
                    "base_size": "0.5",
                    "limit_price": "50000",
                    "post_only": False,
                    "end_time": "2026-11-18T11:06:40.001Z",
                }
            },
        ),
        (SPOT, AT_MARKET, {"market_market_ioc": {"base_size": "0.5"}}),
        (
            ALIAS,
            AT_MARKET | {"quantity": None, "quote_quantity": "10.50"},
            {"market_market_ioc": {"quote_size": "10.5"}},
        ),
        (PERP, AT_MARKET | {"time_in_force": "FOK"}, {"market_market_fok": {"base_size": "50"}}),
        (PERP, {}, {"limit_limit_gtc": {"base_size": "50", "limit_price": "50000", "post_only": False}}),
        (
            SPOT,
            STOP,
            {
                "stop_limit_stop_limit_gtc": {
                    "base_size": "0.5",
                    "limit_price": "50000",
                    "stop_price": "51000",
                    "stop_direction": "STOP_DIRECTION_STOP_UP",
                }
            },
        ),
        (
            DATED,
            STOP | {"type": "TAKE_PROFIT_LIMIT", "time_in_force": "GTD", "expire_time": 1795000000000},
            {
                "stop_limit_stop_limit_gtd": {
                    "base_size": "50",
                    "limit_price": "50000",
                    "stop_price": "51000",
                    "stop_direction": "STOP_DIRECTION_STOP_DOWN",
                    "end_time": "2026-11-18T11:06:40.000Z",
                }
            },
        ),
    ],
)
async def test_orders_are_put_into_the_words_of_advanced_trade(
    played: Any, symbol: str, order: dict[str, Any], expected: dict[str, Any]
) -> None:
    market = await played.market(symbol)
    played.answer("orders", accepted(market.native_symbol), method="POST")
    await played.venue.place_order(market, limit(**order), played.credentials)
    (body,) = played.bodies("orders")
    assert body["order_configuration"] == expected
    assert body["product_id"] == market.native_symbol


async def test_a_stop_to_sell_waits_for_the_price_to_fall(played: Any) -> None:
    played.answer("orders", accepted(side="SELL"), method="POST")
    market = await played.market(SPOT)
    for kind in ("STOP_LIMIT", "TAKE_PROFIT_LIMIT"):
        order = limit(side="SELL", **STOP | {"type": kind, "client_order_id": kind})
        await played.venue.place_order(market, order, played.credentials)
    directions = [
        body["order_configuration"]["stop_limit_stop_limit_gtc"]["stop_direction"] for body in played.bodies("orders")
    ]
    assert directions == ["STOP_DIRECTION_STOP_DOWN", "STOP_DIRECTION_STOP_UP"]


async def test_the_venues_own_options_are_sent(played: Any) -> None:
    played.answer("orders", accepted("BIP-20DEC30-CDE"), method="POST")
    options = {"margin_mode": "ISOLATED", "leverage": "5", "self_trade_prevention_id": "desk"}
    await played.venue.place_order(await played.market(PERP), limit(options=options), played.credentials)
    (body,) = played.bodies("orders")
    assert (body["leverage"], body["margin_type"], body["self_trade_prevention_id"]) == ("5", "ISOLATED", "desk")


GTD = {"time_in_force": "GTD", "expire_time": 1795000000000}


@pytest.mark.parametrize(
    ("symbol", "order", "message"),
    [
        (SPOT, {"type": "STOP_MARKET", "stop_price": "1", "price": None}, "STOP_MARKET"),
        (SPOT, {"reduce_only": True}, "reduce-only"),
        (PERP, {"reduce_only": True}, "reduce-only"),
        (SPOT, AT_MARKET | GTD, "GTD"),
        (SPOT, AT_MARKET | {"time_in_force": "FOK"}, "FOK"),
        (SPOT, AT_MARKET | {"side": "SELL", "quantity": None, "quote_quantity": "5"}, "to sell by quoteQuantity"),
        (PERP, AT_MARKET | {"quantity": None, "quote_quantity": "5"}, "quoteQuantity"),
        (SPOT, STOP | {"time_in_force": "IOC"}, "time in force IOC"),
        (SPOT, STOP | {"post_only": True}, "post-only"),
        (SPOT, {"options": {"leverage": "2"}}, "leverage"),
        (SPOT, {"options": {"trigger_price": "mark_price"}}, "trigger_price"),
        (LINEAR, GTD, "GTD"),
        (LINEAR, AT_MARKET | {"quantity": None, "quote_quantity": "5"}, "quoteQuantity"),
        (LINEAR, AT_MARKET | {"time_in_force": "FOK"}, "FOK"),
        (LINEAR, {"options": {"trigger_price": "mark_price"}}, "trigger_price"),
        (LINEAR, {"options": {"margin_mode": "CROSS"}}, "margin_mode"),
    ],
)
async def test_what_a_product_does_not_offer_is_refused_before_anything_is_sent(
    played: Any, symbol: str, order: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=message):
        await played.venue.place_order(await played.market(symbol), limit(**order), played.credentials)
    assert not [r for r in played.http.requests if r.method == "POST" and "auth" not in r.url.path]


async def test_an_id_that_belongs_to_another_order_is_a_duplicate(played: Any) -> None:
    played.answer("orders", accepted(side="SELL"), method="POST")
    with pytest.raises(DuplicateClientOrderId):
        await played.venue.place_order(await played.market(SPOT), limit(), played.credentials)


async def test_an_id_that_was_used_before_names_the_first_order_and_is_a_duplicate(played: Any) -> None:
    played.answer("orders", accepted(), method="POST")
    market = await played.market(SPOT)
    await played.venue.place_order(market, limit(), played.credentials)
    with pytest.raises(DuplicateClientOrderId, match=ID):
        await played.venue.place_order(market, limit(price="49000"), played.credentials)


@asynccontextmanager
async def placing(played: Any) -> AsyncIterator[list[Any]]:
    """An order that has reached the venue; its answer comes at the end, and what came of it is in the list then."""
    market, answered = await played.market(SPOT), played.hold("orders")
    ends: list[Any] = []

    async def place() -> None:
        try:
            ends.append(await played.venue.place_order(market, limit(), played.credentials))
        except VenueError as error:
            ends.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place)
            while not played.bodies("orders"):
                await anyio.lowlevel.checkpoint()
            yield ends
            answered.set()


async def test_an_order_that_is_seen_before_its_answer_arrives_is_no_duplicate_of_itself(played: Any) -> None:
    """The account stream tells of an order and lists are compared while its acknowledgement is on the way."""
    played.answer("orders", accepted(), method="POST")
    played.answer(f"{HISTORY}/batch", listed(row()))
    played.answer(f"{HISTORY}/{ID}", {"order": row()})
    market, venue = await played.market(SPOT), played.venue
    async with placing(played) as ends:
        assert [order.id for order in await venue.list_orders(market, played.credentials)] == [ID]
        for ref in (OrderRef(client_order_id="mine"), OrderRef(id=ID)):
            assert (await venue.get_order(market, ref, played.credentials)).id == ID
    (order,) = ends
    assert (order.id, order.status) == (ID, OrderStatus.NEW)


async def test_an_id_under_which_an_order_was_listed_before_is_a_duplicate(played: Any) -> None:
    """Another process placed it: what was there before the request left is not what the request placed."""
    played.answer("orders", accepted(), method="POST")
    played.answer(f"{HISTORY}/batch", listed(row()))
    market = await played.market(SPOT)
    await played.venue.list_orders(market, played.credentials)
    with pytest.raises(DuplicateClientOrderId, match=ID):
        await played.venue.place_order(market, limit(price="49000"), played.credentials)


async def test_a_second_placement_under_an_id_that_is_on_its_way_is_refused_before_it_is_sent(played: Any) -> None:
    """The venue would answer both with the same order: nothing would tell which of them it is."""
    played.answer("orders", accepted(), method="POST")
    market = await played.market(SPOT)
    async with placing(played) as ends:
        with pytest.raises(DuplicateClientOrderId, match="Nothing was sent"):
            await played.venue.place_order(market, limit(price="49000"), played.credentials)
    (placed,) = ends
    assert (placed.id, placed.price) == (ID, 50000)
    assert len(played.bodies("orders")) == 1


async def test_an_id_whose_placement_has_ended_without_an_order_may_be_placed_again(played: Any) -> None:
    played.http.lose("POST", "/api/v3/brokerage/orders")
    played.answer("orders", accepted(), method="POST")
    market = await played.market(SPOT)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, limit(), played.credentials)
    assert (await played.venue.place_order(market, limit(), played.credentials)).id == ID


@pytest.mark.parametrize("answer", [{"success": True}, {"success": True, "success_response": {}}, b"", b"<html>"])
async def test_an_answer_that_cannot_be_understood_leaves_the_outcome_open(played: Any, answer: Any) -> None:
    played.answer("orders", answer, method="POST")
    with pytest.raises(OrderOutcomeUnknown) as unknown:
        await played.venue.place_order(await played.market(SPOT), limit(), played.credentials)
    assert unknown.value.client_order_id == "mine"


async def test_an_order_can_be_looked_at_before_it_is_placed(played: Any) -> None:
    answer = {"order_total": "101.2", "commission_total": "1.2", "errs": ["PREVIEW_INSUFFICIENT_FUND"]}
    played.answer("orders/preview", answer, method="POST")
    preview = await played.venue.advanced.preview(await played.market(SPOT), limit(), played.credentials)
    assert (preview.total, preview.fees) == (Decimal("101.2"), Decimal("1.2"))
    assert preview.failures == ("PREVIEW_INSUFFICIENT_FUND",)
    (body,) = played.bodies("orders/preview")
    assert "client_order_id" not in body


# -- looking, cancelling, changing -------------------------------------------------------------------------------------


async def test_an_order_of_this_process_is_found_by_its_client_id_at_once(played: Any) -> None:
    played.answer("orders", accepted(), method="POST")
    played.answer(f"{HISTORY}/{ID}", {"order": row(filled_size="0.2", average_filled_price="49999.5")})
    market = await played.market(SPOT)
    await played.venue.place_order(market, limit(), played.credentials)
    order = await played.venue.get_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.2"))
    assert (order.price, order.quantity, order.average_price) == (50000, Decimal("0.5"), Decimal("49999.5"))


async def test_another_processes_order_is_looked_for_page_by_page(played: Any) -> None:
    played.answer(f"{HISTORY}/batch", listed(row(client_order_id="other"), cursor="a+/="))
    played.answer(f"{HISTORY}/batch", listed(row()))
    market = await played.market(SPOT)
    order = await played.venue.get_order(market, OrderRef(client_order_id="mine"), played.credentials)
    assert order.id == ID
    first, second = played.http.asked("GET", f"/api/v3/brokerage/{HISTORY}/batch")
    assert "cursor" not in first
    assert second["cursor"] == "a+/="
    with pytest.raises(OrderNotFound):
        await played.venue.get_order(market, OrderRef(client_order_id="nobody's"), played.credentials)


async def test_open_orders_are_asked_for_with_those_that_wait(played: Any) -> None:
    played.answer(f"{HISTORY}/batch", listed(row(order_id="b", client_order_id="2", status="PENDING"), row()))
    played.answer(f"{HISTORY}/batch", listed(row(), row(order_id="d", client_order_id="3", status="FILLED")))
    orders = await played.venue.list_orders(await played.market(SPOT), played.credentials)
    assert {order.id: order.status for order in orders} == {ID: OrderStatus.NEW, "b": OrderStatus.NEW}
    requests = [r.url.params.get_list("order_status") for r in played.http.requests if r.url.path.endswith("batch")]
    assert requests == [["PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"], ["OPEN"]]


async def test_a_cancel_is_judged_by_its_success_alone(played: Any) -> None:
    verdict = {"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": ID}
    played.answer("orders/batch_cancel", {"results": [verdict]}, method="POST")
    played.answer(f"{HISTORY}/{ID}", {"order": row(status="CANCELLED")})
    order = await played.venue.cancel_order(await played.market(SPOT), OrderRef(id=ID), played.credentials)
    assert order.status is OrderStatus.CANCELED
    assert played.bodies("orders/batch_cancel") == [{"order_ids": [ID]}]


async def test_a_cancel_that_is_refused_says_why(played: Any) -> None:
    verdict = {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": ID}
    played.answer("orders/batch_cancel", {"results": [verdict]}, method="POST")
    with pytest.raises(OrderNotFound):
        await played.venue.cancel_order(await played.market(SPOT), OrderRef(id=ID), played.credentials)


async def test_a_cancel_whose_order_the_answer_leaves_out_is_not_known(played: Any) -> None:
    played.answer("orders/batch_cancel", {"results": []}, method="POST")
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.cancel_order(await played.market(SPOT), OrderRef(id=ID), played.credentials)


async def test_each_of_several_cancels_has_its_own_verdict(played: Any) -> None:
    refused = {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": "b"}
    played.answer("orders/batch_cancel", {"results": [refused, {"success": True, "order_id": ID}]}, method="POST")
    played.answer(f"{HISTORY}/{ID}", {"order": row(status="CANCELLED")})
    market = await played.market(SPOT)
    refs = [(market, OrderRef(id=ID)), (market, OrderRef(id="b"))]
    done, missing = await played.venue.cancel_orders(refs, played.credentials)
    assert done.status is OrderStatus.CANCELED
    assert isinstance(missing, OrderNotFound)


async def test_an_order_that_is_named_twice_is_canceled_once_and_told_twice(played: Any) -> None:
    """The venue would refuse the second cancel, and the answer has one id for both."""
    played.answer(f"{HISTORY}/{ID}", {"order": row(status="CANCELLED")})
    played.answer("orders/batch_cancel", {"results": [{"success": True, "order_id": ID}]}, method="POST")
    market = await played.market(SPOT)
    await played.venue.get_order(market, OrderRef(id=ID), played.credentials)
    refs = [(market, OrderRef(id=ID)), (market, OrderRef(client_order_id="mine"))]
    ends = await played.venue.cancel_orders(refs, played.credentials)
    assert [end.status for end in ends] == [OrderStatus.CANCELED] * 2
    assert played.bodies("orders/batch_cancel") == [{"order_ids": [ID]}]


@pytest.mark.parametrize(
    "command",
    [
        lambda venue, market, ref, who: venue.cancel_order(market, ref, who),
        lambda venue, market, ref, who: venue.amend_order(market, ref, OrderChange(price=Decimal(1)), who),
    ],
)
async def test_a_client_id_of_another_markets_order_is_none_of_this_one(
    played: Any, command: Callable[..., Any]
) -> None:
    """The venue cancels by its own ids, whatever the market: the one that a list showed elsewhere must not be sent."""
    played.answer(f"{HISTORY}/batch", listed(row()))
    played.answer("orders/batch_cancel", {"results": [{"success": True, "order_id": ID}]}, method="POST")
    await played.venue.list_orders(await played.market(SPOT), played.credentials)
    with pytest.raises(OrderNotFound):
        await command(played.venue, await played.market(ALIAS), OrderRef(client_order_id="mine"), played.credentials)
    assert not played.bodies("orders/batch_cancel")


async def test_an_amendment_sends_price_and_size_together(played: Any) -> None:
    played.answer(f"{HISTORY}/{ID}", {"order": row()})
    edited = {"limit_limit_gtc": {"base_size": "0.5", "limit_price": "50001", "post_only": False}}
    played.answer(f"{HISTORY}/{ID}", {"order": row(order_configuration=edited)})
    played.answer("orders/edit", {"success": True}, method="POST")
    change = OrderChange(price=Decimal(50001))
    order = await played.venue.amend_order(await played.market(SPOT), OrderRef(id=ID), change, played.credentials)
    assert played.bodies("orders/edit") == [{"order_id": ID, "price": "50001", "size": "0.5"}]
    assert order.price == 50001


async def test_an_order_that_cannot_be_amended_is_refused_by_name(played: Any) -> None:
    configuration = {"sor_limit_ioc": {"base_size": "0.5", "limit_price": "50000"}}
    played.answer(f"{HISTORY}/{ID}", {"order": row(order_configuration=configuration)})
    with pytest.raises(UnsupportedOperation, match="sor_limit_ioc"):
        await played.venue.amend_order(
            await played.market(SPOT), OrderRef(id=ID), OrderChange(price=Decimal(1)), played.credentials
        )


async def test_an_amendment_that_is_refused_says_why(played: Any) -> None:
    played.answer(f"{HISTORY}/{ID}", {"order": row()})
    refusal = {"success": False, "errors": {"edit_failure_reason": "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"}}
    played.answer("orders/edit", refusal, method="POST")
    with pytest.raises(InvalidOrder) as refused:
        await played.venue.amend_order(
            await played.market(SPOT), OrderRef(id=ID), OrderChange(quantity=Decimal(1)), played.credentials
        )
    assert refused.value.code == "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"


def fill_row(number: int) -> dict[str, Any]:
    return {
        "entry_id": f"entry-{number}",
        "trade_id": f"trade-{number}",
        "order_id": ID,
        "product_id": "BTC-USD",
        "side": "BUY",
        "price": "50000",
        "size": "0.1",
        "commission": "0.3",
        "trade_time": f"2026-11-21T10:00:{number:02d}Z",
        "liquidity_indicator": "TAKER",
    }


async def test_fills_are_paged_and_told_oldest_first(played: Any) -> None:
    played.answer(f"{HISTORY}/fills", {"fills": [fill_row(3), fill_row(2)], "cursor": "next"})
    played.answer(f"{HISTORY}/fills", {"fills": [fill_row(1)], "cursor": ""})
    since = 1795255201000
    fills = await played.venue.list_fills(await played.market(SPOT), since, None, played.credentials)
    assert [fill.id for fill in fills] == ["entry-1", "entry-2", "entry-3"]
    assert {(fill.fee, fill.fee_asset, fill.liquidity) for fill in fills} == {(Decimal("0.3"), "USD", "TAKER")}
    asked = played.http.asked("GET", f"/api/v3/brokerage/{HISTORY}/fills")
    assert [one.get("start_sequence_timestamp") for one in asked] == ["2026-11-21T10:00:01.000Z"] * 2


def many_fills(played: Any, count: int, *, last: str = "", size: int = 250, **fields: Any) -> int:
    """Play so many fills, newest first, a second apart, `size` a page: the time of the oldest (ms)."""
    began = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    times = [began + datetime.timedelta(seconds=number) for number in range(count)]
    rows = [
        fill_row(0) | {"entry_id": f"entry-{number}", "trade_time": f"{time:%Y-%m-%dT%H:%M:%SZ}"} | fields
        for number, time in enumerate(times)
    ][::-1]
    for start in range(0, count, size):
        more = f"after-{start}" if start + size < count else last
        played.answer(f"{HISTORY}/fills", {"fills": rows[start : start + size], "cursor": more})
    return round(began.timestamp() * 1000)


async def at_length(played: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What a call ends with that waits for the request limit."""
    ends: list[Any] = []

    async def wait() -> None:
        try:
            ends.append(await ask())
        except VenueError as error:
            ends.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with anyio.fail_after(30):
            while not ends:
                await played.clock.advance(1.0)
    return ends[0]


@pytest.mark.parametrize("limit", [None, 3])
async def test_fills_since_a_time_are_all_read_however_many_there_are(played: Any, limit: int | None) -> None:
    since = many_fills(played, 25_100)
    market = await played.market(SPOT)
    fills = await at_length(played, lambda: played.venue.list_fills(market, since, limit, played.credentials))
    assert [fill.id for fill in fills] == [f"entry-{number}" for number in range(limit or 25_100)]


async def test_fills_whose_pages_have_no_end_are_not_told_as_if_they_were_all(played: Any) -> None:
    since = many_fills(played, 3, last="again")
    market = await played.market(SPOT)
    for asked in ((since, None), (None, 10)):
        end = await at_length(played, partial(played.venue.list_fills, market, *asked, played.credentials))
        assert isinstance(end, VenueError)
        assert "nothing new" in end.message


async def test_a_fill_that_moves_to_the_next_page_is_told_once(played: Any) -> None:
    played.answer(f"{HISTORY}/fills", {"fills": [fill_row(3), fill_row(2)], "cursor": "next"})
    played.answer(f"{HISTORY}/fills", {"fills": [fill_row(2), fill_row(1)], "cursor": ""})
    fills = await played.venue.list_fills(await played.market(SPOT), 1795255201000, None, played.credentials)
    assert [fill.id for fill in fills] == ["entry-1", "entry-2", "entry-3"]


async def test_the_newest_fills_are_counted_without_those_of_unknown_markets(played: Any) -> None:
    rows = [fill_row(number) for number in range(6)]
    rows[5]["product_id"] = rows[4]["product_id"] = "GONE-USD"
    played.answer(f"{HISTORY}/fills", {"fills": [rows[5], rows[4]], "cursor": "a"})
    played.answer(f"{HISTORY}/fills", {"fills": [rows[3], rows[2]], "cursor": "b"})
    played.answer(f"{HISTORY}/fills", {"fills": [rows[1], rows[0]], "cursor": ""})
    fills = await played.venue.advanced.fills(None, None, 3, played.credentials)
    assert [fill.id for fill in fills] == ["entry-1", "entry-2", "entry-3"]


async def test_the_newest_fills_are_as_many_as_are_asked_for(played: Any) -> None:
    many_fills(played, 25_300)
    market = await played.market(SPOT)
    fills = await at_length(played, lambda: played.venue.list_fills(market, None, 25_200, played.credentials))
    assert [fill.id for fill in fills] == [f"entry-{number}" for number in range(100, 25_300)]


async def test_a_list_of_wallets_without_an_end_is_not_told_as_if_it_were_all(played: Any) -> None:
    wallet = {"currency": "BTC", "available_balance": {"value": "2"}, "hold": {"value": "0.5"}}
    played.answer("accounts", {"accounts": [wallet], "has_next": True, "cursor": "again"})
    end = await at_length(played, lambda: played.venue.advanced.balances(played.credentials))
    assert isinstance(end, VenueError)
    assert "more than 100 pages" in end.message


async def test_a_list_that_goes_on_without_saying_where_proves_nothing(played: Any) -> None:
    played.answer("accounts", {"accounts": [], "has_next": True, "cursor": ""})
    played.answer(f"{HISTORY}/batch", {"orders": [], "has_next": True, "cursor": ""})
    with pytest.raises(VenueError, match="does not say where"):
        await played.venue.advanced.balances(played.credentials)
    with pytest.raises(VenueError, match="does not say where") as raised:
        await played.venue.get_order(await played.market(SPOT), OrderRef(client_order_id="mine"), played.credentials)
    assert not isinstance(raised.value, OrderNotFound)


async def test_an_account_without_futures_still_has_its_spot_wallets(
    played: Any, recordings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wallet = {"currency": "BTC", "available_balance": {"value": "2"}, "hold": {"value": "0.5"}}
    played.answer("accounts", {"accounts": [wallet], "has_next": False})
    denied = {"error": "PERMISSION_DENIED", "message": "no"}
    for path in ("cfm/balance_summary", "cfm/positions"):
        played.answer(path, denied, status=403)
    (balance,) = await played.venue.advanced.balances(played.credentials)
    assert (balance.wallet, balance.total, balance.available, balance.locked) == (
        "spot",
        Decimal("2.5"),
        2,
        Decimal("0.5"),
    )
    assert await played.venue.advanced.positions(played.credentials) == ()
    assert "us_futures" in caplog.text


async def test_what_is_left_of_a_limit_is_read_back(played: Any) -> None:
    limiter = played.venue.advanced_rest.limiter
    for account, total, left, used in ((None, 10, 3, 7), (played.credentials, 30, 25, 5), (None, 500, 1, 7)):
        limiter.observe({"x-ratelimit-limit": str(total), "x-ratelimit-remaining": str(left)}, account)
        name = "public" if account is None else "private"
        assert {report.name: report.used for report in limiter.report()}[name] == used


# -- lost answers ------------------------------------------------------------------------------------------------------


async def lose(played: Any) -> tuple[Any, int]:
    """Place an order whose answer is lost: (its market, when it was sent)."""
    market = await played.market(SPOT)
    played.http.lose("POST", "/api/v3/brokerage/orders")
    sent_ms = played.clock.wall_ns() // 1_000_000
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, limit(), played.credentials)
    return market, sent_ms


async def test_a_lost_placement_is_found_in_the_list(played: Any) -> None:
    market, sent_ms = await lose(played)
    played.answer(f"{HISTORY}/batch", listed(row(created_time=None)))
    found = await played.venue.resolve_order(market, "mine", sent_ms, played.credentials)
    assert found.id == ID
    (asked,) = played.http.asked("GET", f"/api/v3/brokerage/{HISTORY}/batch")
    assert asked["product_ids"] == "BTC-USD"
    assert "start_date" in asked
    assert len(played.bodies("orders")) == 1


async def test_a_lost_placement_that_is_not_found_is_none_once_its_token_is_over(played: Any) -> None:
    market, sent_ms = await lose(played)
    played.answer(f"{HISTORY}/batch", listed())
    assert await played.venue.resolve_order(market, "mine", sent_ms, played.credentials) is True
    await played.clock.advance(41.0)
    assert await played.venue.resolve_order(market, "mine", sent_ms, played.credentials) is True
    await played.clock.advance(2.0)
    assert await played.venue.resolve_order(market, "mine", sent_ms, played.credentials) is False


async def test_an_old_order_under_the_same_id_is_not_the_one_that_was_lost(played: Any) -> None:
    market, sent_ms = await lose(played)
    played.answer(f"{HISTORY}/batch", listed(row(created_time="2020-01-01T00:00:00Z")))
    assert await played.venue.resolve_order(market, "mine", sent_ms, played.credentials) is True


async def test_an_older_order_that_is_remembered_under_the_id_does_not_hide_the_one_that_was_lost(played: Any) -> None:
    old = row(order_id="old", created_time="2020-01-01T00:00:00Z", status="CANCELLED")
    played.answer(f"{HISTORY}/old", {"order": old})
    await played.venue.get_order(await played.market(SPOT), OrderRef(id="old"), played.credentials)
    market, sent_ms = await lose(played)
    played.answer(f"{HISTORY}/batch", listed(row(created_time=None)))
    found = await played.venue.resolve_order(market, "mine", sent_ms, played.credentials)
    assert found.id == ID


async def test_a_lost_placement_at_the_gateway_is_looked_for_by_its_label_and_never_called_lost(played: Any) -> None:
    market = await played.market(LINEAR)
    played.http.lose("POST", "/api/v2/private/buy")
    sent_ms = played.clock.wall_ns() // 1_000_000
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, limit(price="90.5"), played.credentials)
    played.reply("get_order_state_by_label", [])
    played.reply("get_order_history_by_instrument", [])
    await played.clock.advance(3600.0)
    assert await played.venue.resolve_order(market, "mine", sent_ms, played.credentials) is True
    late = rpc_order(creation_timestamp=sent_ms + 2000)
    played.reply("get_order_state_by_label", [late])
    played.http.answers["POST", "/api/v2/private/get_order_state_by_label"].pop(0)
    found = await played.venue.resolve_order(market, "mine", sent_ms, played.credentials)
    assert found.id == "USDC-17"
    assert played.calls("get_order_state_by_label")[0] == {"currency": "USDC", "label": "mine"}
    assert len(played.calls("buy")) == 1


# -- what the user channel tells ---------------------------------------------------------------------------------------


async def test_an_order_of_the_stream_keeps_its_size_when_it_is_done(played: Any) -> None:
    market = await played.market(SPOT)
    live = UserOrder("1", "BTC-USD", "BUY", "OPEN", "mine", "Limit", cumulative_quantity="0.1", leaves_quantity="0.4")
    assert live.order(market, Kinds(), 5).quantity == Decimal("0.5")
    done = UserOrder("1", "BTC-USD", "BUY", "CANCELLED", "mine", "Limit", cumulative_quantity="0.1")
    order = done.order(market, Kinds(), 5)
    assert (order.quantity, order.filled_quantity, order.status) == (None, Decimal("0.1"), OrderStatus.CANCELED)
    in_quote = UserOrder("1", "BTC-USD", "BUY", "OPEN", "mine", "Market", leaves_quantity="100")
    assert in_quote.order(market, Kinds(), 5).quantity is None


async def test_the_stream_tells_a_take_profit_by_what_was_placed(played: Any) -> None:
    market, kinds = await played.market(SPOT), Kinds()
    kinds.note("mine", OrderType.TAKE_PROFIT_LIMIT)
    told = UserOrder("1", "BTC-USD", "BUY", "OPEN", "mine", "Stop Limit", stop_price="1")
    assert told.order(market, kinds, 5).type is OrderType.TAKE_PROFIT_LIMIT
    told.client_order_id = "other"
    assert told.order(market, kinds, 5).type is OrderType.STOP_LIMIT


@pytest.mark.parametrize(
    ("word", "filled", "status"),
    [
        ("PENDING", "0", OrderStatus.NEW),
        ("QUEUED", "0", OrderStatus.NEW),
        ("OPEN", "0", OrderStatus.NEW),
        ("OPEN", "1", OrderStatus.PARTIALLY_FILLED),
        ("CANCEL_QUEUED", "1", OrderStatus.PARTIALLY_FILLED),
        ("EDIT_QUEUED", "0", OrderStatus.NEW),
        ("FILLED", "1", OrderStatus.FILLED),
        ("CANCELLED", "1", OrderStatus.CANCELED),
        ("EXPIRED", "0", OrderStatus.EXPIRED),
        ("FAILED", "0", OrderStatus.REJECTED),
        ("UNKNOWN_ORDER_STATUS", "0", OrderStatus.UNKNOWN),
    ],
)
async def test_every_status_has_its_meaning(played: Any, word: str, filled: str, status: OrderStatus) -> None:
    market = await played.market(SPOT)
    assert UserOrder("1", "BTC-USD", "BUY", word, cumulative_quantity=filled).order(market, Kinds(), 0).status is status
