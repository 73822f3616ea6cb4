"""Open orders of Spot: what a cancel of all of them says, odd orders among them, what is remembered of an order."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from astra.errors import OrderNotFound, OrderOutcomeUnknown, PermissionDenied, VenueError
from astra.models.orders import Order, OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType

pytestmark = pytest.mark.anyio

BTC = "KRAKEN-SPOT-BTC-USD"
DENIED = "EGeneral:Permission denied"
CANCEL, CANCEL_BATCH = "/0/private/CancelOrder", "/0/private/CancelOrderBatch"
QUERY = "/0/private/QueryOrders"


def described(price: str, price2: str = "0", kind: str = "limit", pair: str = "XBTUSD") -> dict[str, str]:
    return {"pair": pair, "type": "sell", "ordertype": kind, "price": price, "price2": price2}


def row(**changes: Any) -> dict[str, Any]:
    """An open order, as the venue lists it."""
    return {
        "status": "open",
        "opentm": 1_700_000_000.5,
        "descr": described("100.0"),
        "vol": "0.01",
        "vol_exec": "0",
        "cost": "0",
        "price": "0",
        "stopprice": "0.00000",
        "limitprice": "0.00000",
        "oflags": "fciq",
        **changes,
    }


CANCELED = row(status="canceled")
TRAILING = row(descr=described("+50.0000%", kind="trailing-stop"))
STRANGE = row(descr={"pair": "XBTUSD", "type": "swap", "ordertype": "limit", "price": "1", "price2": "0"})
SHAPELESS = {"status": "open"}


def listed(played: Any, **rows: Any) -> None:
    played.http.spot("OpenOrders", {"open": rows})


def looked_up(played: Any, answers: dict[str, Any]) -> None:
    """`QueryOrders` answers for those of `answers` that it is asked for."""

    def answer(params: dict[str, Any]) -> Any:
        return {"error": [], "result": {txid: answers[txid] for txid in params["txid"].split(",") if txid in answers}}

    played.http.spot("QueryOrders", answer)


def sent(played: Any) -> list[str]:
    """The private calls of Spot, in their order."""
    paths: Sequence[str] = [one.url.path for one in played.http.requests if one.method == "POST"]
    return [path.rpartition("/")[2] for path in paths]


# -- what a cancel of all says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(DENIED, PermissionDenied), ("EService:Unavailable", OrderOutcomeUnknown), (None, OrderOutcomeUnknown)],
)
async def test_the_failed_cancel_of_the_only_order_is_told(played: Any, refusal: str | None, error: Any) -> None:
    listed(played, OA=row())
    looked_up(played, {"OA": row()})
    if refusal is None:
        played.http.lose("POST", CANCEL)
    else:
        played.http.refuse("CancelOrder", refusal)
    with pytest.raises(error) as raised:
        await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)
    if error is OrderOutcomeUnknown:
        assert raised.value.operation == "cancel_all_orders"


async def test_an_order_that_was_done_meanwhile_is_no_failure(played: Any) -> None:
    listed(played, OA=row())
    played.http.refuse("CancelOrder", "EOrder:Unknown order")
    looked_up(played, {"OA": row(status="closed", vol_exec="0.01", cost="1", price="100")})
    assert await played.venue.cancel_all_orders(await played.market(BTC), played.credentials) == []


async def test_a_cancel_of_all_goes_on_after_a_failure_and_tells_the_gravest(played: Any) -> None:
    listed(played, **{f"O{number}": row() for number in range(101)})
    played.http.refuse("CancelOrderBatch", DENIED)
    played.http.lose("POST", CANCEL_BATCH)
    played.http.spot("CancelOrder", {"count": 1})
    with pytest.raises(OrderOutcomeUnknown, match="PermissionDenied"):
        await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)
    assert [len(one["orders"]) for one in played.http.asked("POST", CANCEL_BATCH)] == [50, 50]
    assert [one["txid"] for one in played.http.asked("POST", CANCEL)] == ["O100"]


@pytest.mark.parametrize("everywhere", [False, True])
async def test_an_accepted_cancel_of_all_that_cannot_be_looked_at_has_an_unknown_outcome(
    played: Any, everywhere: bool
) -> None:
    listed(played, OA=row(), OB=row())
    played.http.spot("CancelOrderBatch", {"count": 2})
    played.http.spot("CancelAll", {"count": 2})
    played.http.refuse("QueryOrders", DENIED)
    market = await played.market(BTC)
    spot = played.venue.parts["spot"]
    with pytest.raises(OrderOutcomeUnknown, match="accepted") as raised:
        await (spot.cancel_everywhere if everywhere else lambda one: spot.cancel_all(market, one))(played.credentials)
    assert raised.value.code == DENIED


async def test_an_order_that_lives_on_after_an_accepted_cancel_of_all_is_told(played: Any) -> None:
    """A cancel may be pending."""
    listed(played, OA=row(), OB=row())
    played.http.spot("CancelOrderBatch", {"count": 2, "pending": True})
    looked_up(played, {"OA": CANCELED, "OB": row()})
    with pytest.raises(OrderOutcomeUnknown, match="OB"):
        await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)


# -- orders that are odd ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["+50.0000%", "+100.0", "-1%", "-7.5", "#5%", "#5"])
async def test_a_relative_price_stands_in_the_row_itself(played: Any, told: str) -> None:
    kind = "trailing-stop-limit"
    known = row(descr=described(told, told, kind), stopprice="90.5", limitprice="90.25")
    listed(played, OT=row(descr=described(told, told, kind)), OK=known, OL=row(descr=described(told)), OA=row())
    found = await played.venue.list_orders(await played.market(BTC), played.credentials)
    trailing, placed, limit, plain = found
    assert (trailing.type, trailing.stop_price, trailing.price) == (OrderType.STOP_LIMIT, None, None)
    assert (placed.stop_price, placed.price) == (Decimal("90.5"), Decimal("90.25"))
    assert (limit.type, limit.price) == (OrderType.LIMIT, None)
    assert (plain.id, plain.price) == ("OA", 100)


async def test_a_trailing_stop_is_canceled_with_the_others(played: Any) -> None:
    listed(played, OT=TRAILING, OA=row(), OX=row(descr=described("1", pair="ETHUSD")))
    played.http.spot("CancelOrderBatch", {"count": 2})
    looked_up(played, {"OT": TRAILING | {"status": "canceled"}, "OA": CANCELED})
    gone = await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)
    assert [order.id for order in gone] == ["OT", "OA"]
    assert played.http.asked("POST", CANCEL_BATCH)[0]["orders"] == ["OT", "OA"]


async def test_a_row_that_is_not_understood_is_left_out_of_the_list_with_a_warning(played: Any, caplog: Any) -> None:
    listed(played, OS=STRANGE, OW=SHAPELESS, OA=row())
    found = await played.venue.list_orders(await played.market(BTC), played.credentials)
    assert [order.id for order in found] == ["OA"]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [name in text for name, text in zip(("OS", "OW"), warned, strict=True)] == [True, True]


async def test_a_row_that_is_not_understood_is_canceled_all_the_same(played: Any) -> None:
    """Its pair can be read. What became of it cannot: that is told."""
    listed(played, OS=STRANGE, OA=row())
    played.http.spot("CancelOrderBatch", {"count": 2})
    looked_up(played, {"OS": STRANGE, "OA": CANCELED})
    with pytest.raises(OrderOutcomeUnknown, match="OS"):
        await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)
    assert played.http.asked("POST", CANCEL_BATCH)[0]["orders"] == ["OS", "OA"]


async def test_an_order_whose_pair_cannot_be_read_is_told_after_the_others_are_canceled(played: Any) -> None:
    listed(played, OW=SHAPELESS, OA=row())
    played.http.spot("CancelOrder", {"count": 1})
    with pytest.raises(VenueError, match="OW"):
        await played.venue.cancel_all_orders(await played.market(BTC), played.credentials)
    assert [one["txid"] for one in played.http.asked("POST", CANCEL)] == ["OA"]


@pytest.mark.parametrize("ref", [OrderRef(id="OS"), OrderRef(client_order_id="mine-1")])
async def test_an_order_that_is_not_understood_is_not_called_unknown(played: Any, ref: OrderRef) -> None:
    looked_up(played, {"OS": STRANGE})
    listed(played, OS=STRANGE)
    with pytest.raises(VenueError, match="understood") as raised:
        await played.venue.get_order(await played.market(BTC), ref, played.credentials)
    assert not isinstance(raised.value, OrderNotFound)


async def test_all_orders_are_canceled_even_if_they_cannot_be_listed(played: Any) -> None:
    spot = played.venue.parts["spot"]
    played.http.refuse("OpenOrders", DENIED)
    played.http.spot("CancelAll", {"count": 2})
    with pytest.raises(OrderOutcomeUnknown, match="accepted"):
        await spot.cancel_everywhere(played.credentials)
    assert sent(played)[-1] == "CancelAll"
    played.http.again("POST", "/0/private/CancelAll")
    played.http.spot("CancelAll", {"count": 0})
    assert await spot.cancel_everywhere(played.credentials) == [], "there was nothing to cancel"
    played.http.again("POST", "/0/private/CancelAll")
    played.http.lose("POST", "/0/private/CancelAll")
    with pytest.raises(OrderOutcomeUnknown, match="PermissionDenied"):
        await spot.cancel_everywhere(played.credentials)


async def test_all_orders_are_canceled_whatever_they_look_like(played: Any) -> None:
    listed(played, OT=TRAILING, OA=row())
    played.http.spot("CancelAll", {"count": 2})
    looked_up(played, {"OT": TRAILING | {"status": "canceled"}, "OA": CANCELED})
    gone = await played.venue.parts["spot"].cancel_everywhere(played.credentials)
    assert [order.id for order in gone] == ["OT", "OA"]


# -- volumes in the quote asset ---------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", ["0.00200000", "60.00000000"])
async def test_what_an_order_by_amount_has_filled_is_told_in_the_base_asset(played: Any, executed: str) -> None:
    """The venue's reference says that `vol_exec` is in the quote asset then, answers seen elsewhere have the base
    asset's: `cost` and `price` say which."""
    told = row(
        status="closed",
        descr=described("0", kind="market"),
        oflags="viqc,fciq",
        vol="60",
        vol_exec=executed,
        cost="60.00000",
        price="30000.0",
    )
    looked_up(played, {"OA": told})
    found = await played.venue.get_order(await played.market(BTC), OrderRef(id="OA"), played.credentials)
    assert (found.quantity, found.quote_quantity) == (None, 60)
    assert (found.filled_quantity, found.average_price) == (Decimal("0.002"), 30000)


# -- what is remembered -----------------------------------------------------------------------------------------


async def placed(played: Any) -> Order:
    played.http.spot("AddOrder", {"txid": ["OA"]})
    wanted = OrderRequest.model_validate({"side": "SELL", "price": "100", "quantity": "1", "client_order_id": "mine-1"})
    order: Order = await played.venue.place_order(await played.market(BTC), wanted, played.credentials)
    return order


CHANGE = OrderChange.model_validate({"price": "90", "quantity": "0.25"})


@pytest.mark.parametrize("ref", [OrderRef(id="OA"), OrderRef(client_order_id="mine-1")])
@pytest.mark.parametrize("batch", [False, True])
async def test_a_cancel_after_an_amendment_tells_the_terms_after_it(played: Any, ref: OrderRef, batch: bool) -> None:
    market = await played.market(BTC)
    await placed(played)
    played.http.spot("AmendOrder", {"amend_id": "T"})
    now = row(vol="0.25", descr=described("90.0"), vol_exec="0.05", cost="4.5", price="90", cl_ord_id="mine-1")
    looked_up(played, {"OA": now})
    await played.venue.amend_order(market, OrderRef(id="OA"), CHANGE, played.credentials)
    played.http.again("POST", QUERY)
    played.http.spot("CancelOrder", {"count": 1})
    played.http.spot("CancelOrderBatch", {"count": 2})
    if batch:
        played.http.again("POST", "/0/private/AddOrder")
        played.http.spot("AddOrder", {"txid": ["OB"]})
        other = OrderRequest.model_validate({"side": "SELL", "price": "9", "quantity": "1", "client_order_id": "b"})
        await played.venue.place_order(market, other, played.credentials)
        orders = [(market, ref), (market, OrderRef(client_order_id="b"))]
        gone = (await played.venue.cancel_orders(orders, played.credentials))[0]
    else:
        gone = await played.venue.cancel_order(market, ref, played.credentials)
    assert (gone.status, gone.price, gone.quantity) == (OrderStatus.CANCELED, 90, Decimal("0.25"))
    assert gone.filled_quantity is None, "what was filled since the look-up is not known"


@pytest.mark.parametrize("lost", ["the command", "the look-up"])
async def test_after_an_amendment_of_unknown_outcome_a_cancel_is_looked_at(played: Any, lost: str) -> None:
    market = await played.market(BTC)
    await placed(played)
    if lost == "the command":
        played.http.lose("POST", "/0/private/AmendOrder")
    else:
        played.http.spot("AmendOrder", {"amend_id": "T"})
        played.http.refuse("QueryOrders", DENIED)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.amend_order(market, OrderRef(id="OA"), CHANGE, played.credentials)
    played.http.again("POST", QUERY)
    played.http.spot("CancelOrder", {"count": 1})
    now = row(status="canceled", vol="0.25", descr=described("90.0"), cl_ord_id="mine-1")
    looked_up(played, {"OA": now})
    gone = await played.venue.cancel_order(market, OrderRef(id="OA"), played.credentials)
    assert (gone.price, gone.quantity) == (90, Decimal("0.25"))


async def test_a_refused_amendment_leaves_what_is_remembered(played: Any) -> None:
    market = await played.market(BTC)
    await placed(played)
    played.http.refuse("AmendOrder", DENIED)
    with pytest.raises(PermissionDenied):
        await played.venue.amend_order(market, OrderRef(id="OA"), CHANGE, played.credentials)
    played.http.spot("CancelOrder", {"count": 1})
    gone = await played.venue.cancel_order(market, OrderRef(id="OA"), played.credentials)
    assert (gone.price, gone.quantity) == (100, 1)
    assert not played.http.asked("POST", QUERY)
