"""Orders that are done and fills of long ago: what the derivatives' history makes of them, lists that are cut short."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from astra.errors import InvalidOrder, OrderOutcomeUnknown, VenueError
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus

pytestmark = pytest.mark.anyio

BTC, LINEAR = "KRAKEN-SPOT-BTC-USD", "KRAKEN-PERP-ETH-USD"
API, HISTORY = "/derivatives/api/v3", "/api/history/v3"
BEGAN = 1_700_000_001_000


def order(**terms: Any) -> OrderRequest:
    given = {"side": "BUY", "price": "100", "quantity": "0.01", "client_order_id": "mine-1"}
    return OrderRequest.model_validate(given | terms)


# -- put together from the history ------------------------------------------------------------------------------


def entry(quantity: str = "10", filled: str = "0", after_ms: int = 0, **changes: Any) -> dict[str, Any]:
    """The order in the history, as it was so long after its placement; `quantity` is what remained."""
    return {
        "uid": "u-1",
        "tradeable": "PF_ETHUSD",
        "direction": "Buy",
        "quantity": quantity,
        "filled": filled,
        "timestamp": BEGAN,
        "limitPrice": "100",
        "orderType": "Limit",
        "clientId": "mine-1",
        "reduceOnly": False,
        "lastUpdateTimestamp": BEGAN + after_ms,
        **changes,
    }


def page(*events: Any, time: int = 1, more: str | None = None) -> dict[str, Any]:
    body = {"elements": [{"uid": "e", "timestamp": time, "event": event} for event in events]}
    return body if more is None else body | {"continuationToken": more}


def executed(size: str, price: str = "100", **changes: Any) -> dict[str, Any]:
    taker = entry(**{"clientId": ""} | changes)
    return {"execution": {"execution": {"quantity": size, "price": price, "takerOrder": taker}}}


async def found(played: Any, orders: Any, executions: Any) -> Order:
    """The order out of a history of these two answers."""
    played.http.answer("POST", f"{API}/orders/status", {"result": "success", "orders": []})
    played.http.answer("GET", f"{HISTORY}/orders", orders)
    played.http.answer("GET", f"{HISTORY}/executions", executions)
    ref = OrderRef(client_order_id="mine-1")
    answer: Order = await played.venue.get_order(await played.market(LINEAR), ref, played.credentials)
    return answer


async def test_an_order_that_was_amended_down_and_wholly_filled_is_filled(played: Any) -> None:
    amended = {"OrderUpdated": {"oldOrder": entry(), "newOrder": entry("5", after_ms=1000)}}
    seen = await found(
        played, page(amended, {"OrderPlaced": {"order": entry()}}), page(executed("5", quantity="5", after_ms=1000))
    )
    assert (seen.status, seen.quantity, seen.filled_quantity) == (OrderStatus.FILLED, 5, 5)


async def test_an_order_that_was_amended_up_keeps_its_larger_quantity(played: Any) -> None:
    amended = {"OrderUpdated": {"newOrder": entry("20", after_ms=1000)}}
    seen = await found(played, page(amended, {"OrderPlaced": {"order": entry()}}), page(executed("10", after_ms=500)))
    assert (seen.status, seen.quantity, seen.filled_quantity) == (OrderStatus.CANCELED, 20, 10)


async def test_fills_of_long_ago_are_read_back_to_the_placement(played: Any) -> None:
    gone = {"OrderCancelled": {"order": entry("6", "4", after_ms=900_000), "reason": "cancelled_by_user"}}
    pages = {
        None: page({}, time=BEGAN + 800_000, more="a"),
        "a": page({}, time=BEGAN + 500_000, more="b"),
        "b": page(executed("3", "99"), executed("1", "103"), time=BEGAN, more="c"),
        "c": page({}, time=BEGAN - 1, more="d"),
    }
    seen = await found(played, page(gone), lambda params: pages[params.get("continuation_token")])
    assert (seen.status, seen.quantity, seen.filled_quantity) == (OrderStatus.CANCELED, 10, 4)
    assert seen.average_price == 100
    assert len(played.http.asked("GET", f"{HISTORY}/executions")) == 4


async def test_what_the_order_says_is_filled_counts_where_executions_are_missing(played: Any) -> None:
    gone = {"OrderCancelled": {"order": entry("6", "4", after_ms=900_000), "reason": "cancelled_by_user"}}
    seen = await found(played, page(gone), page(executed("1", "103")))
    assert (seen.status, seen.filled_quantity, seen.average_price) == (OrderStatus.CANCELED, 4, None)


async def test_an_order_known_from_its_executions_alone_is_read_back_too(played: Any) -> None:
    pages = {
        None: page(executed("1", "103", clientId="mine-1"), time=BEGAN + 800_000, more="a"),
        "a": page(executed("9", "103", clientId="mine-1"), time=BEGAN),
    }
    played.http.answer("GET", f"{HISTORY}/triggers", page())
    seen = await found(played, page(), lambda params: pages[params.get("continuation_token")])
    assert (seen.status, seen.filled_quantity, seen.average_price) == (OrderStatus.FILLED, 10, 103)


# -- lists that are cut short -----------------------------------------------------------------------------------


def iso(time_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def fill_row(number: int, time_ms: int) -> dict[str, Any]:
    return {
        "fill_id": f"f{number}",
        "symbol": "PF_ETHUSD",
        "side": "buy",
        "order_id": "o",
        "size": 1,
        "price": 100,
        "fillTime": iso(time_ms),
        "fillType": "maker",
        "fee_paid": 0,
        "fee_currency": "USD",
    }


def many_fills(played: Any, rows: list[dict[str, Any]]) -> None:
    """`fills` gives the hundred latest of `rows` (newest first) before a time."""

    def answer(params: dict[str, Any]) -> Any:
        before = params.get("lastFillTime")
        found = [row for row in rows if before is None or row["fillTime"] < before]
        return {"result": "success", "fills": found[:100]}

    played.http.answer("GET", f"{API}/fills", answer)


async def all_fills(played: Any, symbol: str, since: int | None) -> Any:
    """The list of fills, while the clock goes on for the rate limit."""
    market = await played.market(symbol)
    result: list[Any] = []

    async def ask() -> None:
        try:
            result.append(await played.venue.list_fills(market, since, 100, played.credentials))
        except VenueError as error:
            result.append(error)

    played.venue.host.start_soon(ask)
    for _ in range(2000):
        if result:
            break
        await played.clock.advance(1)
    (answer,) = result
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(("count", "complete"), [(4900, True), (6000, False)])
async def test_a_list_of_contract_fills_that_is_cut_short_is_not_given_out(
    played: Any, count: int, complete: bool
) -> None:
    rows = [fill_row(number, BEGAN + 10 * number) for number in reversed(range(count))]
    many_fills(played, rows)
    if complete:
        fills = await all_fills(played, LINEAR, BEGAN)
        assert [fill.id for fill in fills][:2] == ["f0", "f1"]
    else:
        with pytest.raises(VenueError, match="longer than is read"):
            await all_fills(played, LINEAR, BEGAN)
    assert await all_fills(played, LINEAR, None), "without a time the newest are enough"


async def test_more_fills_of_one_millisecond_than_a_page_holds_are_not_taken_for_all(played: Any) -> None:
    many_fills(played, [fill_row(number, BEGAN + 10) for number in reversed(range(150))])
    with pytest.raises(VenueError, match="longer than is read"):
        await all_fills(played, LINEAR, BEGAN)


@pytest.mark.parametrize(("count", "complete"), [(9000, True), (11_000, False)])
async def test_a_list_of_spot_fills_that_is_cut_short_is_not_given_out(played: Any, count: int, complete: bool) -> None:
    def answer(params: dict[str, Any]) -> Any:
        first = int(params.get("ofs", 0))
        rows = {
            f"T{number}": {
                "ordertxid": "OA",
                "pair": "XXBTZUSD",
                "time": BEGAN / 1000 + count - number,
                "type": "buy",
                "price": "100.0",
                "vol": "0.5",
            }
            for number in range(first, min(first + 50, count))
        }
        return {"error": [], "result": {"trades": rows}}

    played.http.spot("TradesHistory", answer)
    if complete:
        fills = await all_fills(played, BTC, BEGAN)
        assert fills[0].id == f"T{count - 1}"
    else:
        with pytest.raises(VenueError, match="longer than is read"):
            await all_fills(played, BTC, BEGAN)


async def test_the_first_fill_is_told_before_the_markets_were_ever_asked_for(played: Any) -> None:
    """The pairs' spellings come with the markets."""
    fill = {"ordertxid": "OA", "pair": "XXBTZUSD", "time": BEGAN / 1000, "type": "buy", "price": "1", "vol": "1"}
    played.http.spot("TradesHistory", {"trades": {"T1": fill}})
    fills = await played.venue.parts["spot"].fills(None, None, None, played.credentials)
    assert [one.market for one in fills] == [BTC]


# -- a placement that ended at once -----------------------------------------------------------------------------


def send_status(status: str, *events: Any) -> dict[str, Any]:
    told = {"order_id": "u-1", "status": status, "receivedTime": "2023-11-14T22:13:21.000Z"}
    return told | {"orderEvents": list(events)}


def event_order(**changes: Any) -> dict[str, Any]:
    return {
        "orderId": "u-1",
        "cliOrdId": "mine-1",
        "type": "lmt",
        "symbol": "PF_ETHUSD",
        "side": "buy",
        "quantity": "0.01",
        "filled": "0",
        "limitPrice": "100",
        "reduceOnly": False,
        **changes,
    }


EXECUTION = {"type": "EXECUTION", "price": 99, "amount": "0.004", "orderPriorExecution": event_order()}
WHOLE = EXECUTION | {"amount": "0.01"}
REFUSED = {"type": "REJECT", "order": event_order(), "reason": "WOULD_NOT_REDUCE_POSITION"}


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("events", "status", "filled"),
    [
        ([], "CANCELED", "0"),
        ([{"type": "PLACE", "order": event_order()}], "CANCELED", "0"),
        ([EXECUTION], "CANCELED", "0.004"),
        ([WHOLE], "FILLED", "0.01"),
        ([REFUSED], "REJECTED", "0"),
    ],
)
async def test_a_placement_that_is_called_cancelled_has_ended(
    played: Any, batch: bool, events: list[Any], status: str, filled: str
) -> None:
    market = await played.market(LINEAR)
    told = send_status("cancelled", *events)
    played.http.answer("POST", f"{API}/sendorder", {"result": "success", "sendStatus": told})
    rows = {"result": "success", "batchStatus": [told | {"order_tag": "0"}]}
    played.http.answer("POST", f"{API}/batchorder", rows)
    if batch:
        (seen,) = await played.venue.place_orders([(market, order())], played.credentials)
    else:
        seen = await played.venue.place_order(market, order(), played.credentials)
    assert (seen.id, seen.status, seen.filled_quantity) == ("u-1", OrderStatus(status), Decimal(filled))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("status", ["edited", "attempted", "noOrdersToCancel", "unavailable"])
async def test_a_word_that_does_not_answer_a_placement_leaves_its_outcome_open(
    played: Any, batch: bool, status: str
) -> None:
    market = await played.market(LINEAR)
    told = send_status(status)
    played.http.answer("POST", f"{API}/sendorder", {"result": "success", "sendStatus": told})
    rows = {"result": "success", "batchStatus": [told | {"order_tag": "0"}]}
    played.http.answer("POST", f"{API}/batchorder", rows)
    if batch:
        (seen,) = await played.venue.place_orders([(market, order())], played.credentials)
        assert isinstance(seen, OrderOutcomeUnknown)
    else:
        with pytest.raises(OrderOutcomeUnknown):
            await played.venue.place_order(market, order(), played.credentials)


@pytest.mark.parametrize("status", ["cancelled", "filled", "partiallyFilled", "placed"])
async def test_a_word_that_does_not_answer_an_amendment_leaves_its_outcome_open(played: Any, status: str) -> None:
    market = await played.market(LINEAR)
    edit = {"type": "EDIT", "old": event_order(), "new": event_order(limitPrice="101")}
    answer = {"result": "success", "editStatus": {"status": status, "orderEvents": [edit]}}
    played.http.answer("POST", f"{API}/editorder", answer)
    change = OrderChange.model_validate({"price": "101"})
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.amend_order(market, OrderRef(id="u-1"), change, played.credentials)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("status", ["placed", "edited", "partiallyFilled"])
async def test_a_word_that_does_not_answer_a_cancel_leaves_its_outcome_open(
    played: Any, batch: bool, status: str
) -> None:
    market = await played.market(LINEAR)
    told = {"status": status, "orderEvents": [{"type": "PLACE", "order": event_order()}]}
    played.http.answer("POST", f"{API}/cancelorder", {"result": "success", "cancelStatus": told})
    rows = {"result": "success", "batchStatus": [told | {"order_tag": "0"}]}
    played.http.answer("POST", f"{API}/batchorder", rows)
    if batch:
        (seen,) = await played.venue.cancel_orders([(market, OrderRef(id="u-1"))], played.credentials)
        assert isinstance(seen, OrderOutcomeUnknown)
        assert seen.order_id == "u-1"
    else:
        with pytest.raises(OrderOutcomeUnknown):
            await played.venue.cancel_order(market, OrderRef(id="u-1"), played.credentials)


async def test_a_refused_amendment_stays_a_refusal(played: Any) -> None:
    market = await played.market(LINEAR)
    played.http.answer("POST", f"{API}/editorder", {"result": "success", "editStatus": {"status": "postWouldExecute"}})
    change = OrderChange.model_validate({"price": "101"})
    with pytest.raises(InvalidOrder):
        await played.venue.amend_order(market, OrderRef(id="u-1"), change, played.credentials)


# -- a client order id that is used again -----------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
async def test_of_two_orders_under_one_client_id_the_later_one_is_meant(played: Any, newest_first: bool) -> None:
    """The look-up knows orders for five seconds after their end, and the id may be used again at once."""
    old = {"order": event_order(orderId="u-0", timestamp=iso(BEGAN)), "status": "CANCELLED"}
    new = {"order": event_order(orderId="u-1", timestamp=iso(BEGAN + 1500)), "status": "ENTERED_BOOK"}
    rows = [new, old] if newest_first else [old, new]
    played.http.answer("POST", f"{API}/orders/status", {"result": "success", "orders": rows})
    market = await played.market(LINEAR)
    seen = await played.venue.get_order(market, OrderRef(client_order_id="mine-1"), played.credentials)
    assert (seen.id, seen.status) == ("u-1", OrderStatus.NEW)
