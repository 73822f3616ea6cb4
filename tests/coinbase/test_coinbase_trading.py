"""Orders in the venue's words, its rows in Astra's, lost answers resolved, errors told apart, contracts converted."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import (
    AuthenticationError,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.models.markets import ContractType, Market
from astra.models.orders import OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.models.trades import Side
from astra.net.http import AnswerLost, Request, Response
from astra.symbols import AssetType
from astra_coinbase.errors import CODES, REASONS, interpret_advanced, interpret_gateway
from astra_coinbase.rest import number
from astra_coinbase.trading.advanced import decode_order as decode_advanced
from astra_coinbase.trading.advanced_rows import Kinds, OrderRow, UserOrder
from astra_coinbase.trading.international import decode_order as decode_gateway

pytestmark = pytest.mark.anyio
SPOT, ALIAS = "COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-BTC-USDC"
PERP, DATED = "COINBASE-PERP-BTC-USD-BIP", "COINBASE-FUT-BTC-USD-260424-BIT"
LINEAR, INVERSE = "COINBASE-PERP-AAVE-USDC", "COINBASE-PERP-BTC-USD-COINM"
OPTION = "COINBASE-OPT-ETH-USD-270625-5500-P-COINM"
ID = "52cfe5e2-0b29-4c19-a245-a6a773de5030"
HISTORY = "orders/historical"
CREATED = "2026-11-21T10:00:00Z"


def accepted(product: str = "BTC-USD", side: str = "BUY", ident: str = ID) -> dict[str, Any]:
    response = {"order_id": ident, "product_id": product, "side": side, "client_order_id": "mine"}
    return {"success": True, "failure_reason": "UNKNOWN_FAILURE_REASON", "success_response": response}


def failed(reason: str, member: str = "error", message: str = "") -> dict[str, Any]:
    response = {
        "error": "UNKNOWN_FAILURE_REASON",
        "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON",
        "new_order_failure_reason": "UNKNOWN_FAILURE_REASON",
        "message": message,
        "error_details": "",
    }
    return {"success": False, "error_response": {**response, member: reason}}


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
        await played.venue.place_order(market, limit(side="SELL", **STOP | {"type": kind}), played.credentials)
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


# -- the gateway -------------------------------------------------------------------------------------------------------


async def test_an_order_goes_to_the_gateway_in_both_units(played: Any) -> None:
    played.reply("buy", {"order": rpc_order(filled_amount=0.2, average_price=90.4), "trades": []})
    market = await played.market(LINEAR)
    order = await played.venue.place_order(market, limit(price="90.50", post_only=True), played.credentials)
    assert played.calls("buy") == [
        {
            "instrument_name": "AAVE_USDC-PERPETUAL",
            "amount": 0.5,
            "contracts": 50,
            "type": "limit",
            "label": "mine",
            "price": 90.5,
            "time_in_force": "good_til_cancelled",
            "post_only": True,
            "reject_post_only": True,
        }
    ]
    assert (order.status, order.contracts, order.quantity) == (OrderStatus.PARTIALLY_FILLED, 50, Decimal("0.5"))
    assert (order.filled_contracts, order.filled_quantity) == (20, Decimal("0.2"))


@pytest.mark.parametrize(
    ("symbol", "order", "expected"),
    [
        (LINEAR, {"time_in_force": "IOC", "reduce_only": True}, {"time_in_force": "immediate_or_cancel"}),
        (LINEAR, {"time_in_force": "FOK"}, {"time_in_force": "fill_or_kill"}),
        (LINEAR, {"reduce_only": True}, {"reduce_only": True}),
        (LINEAR, AT_MARKET, {"type": "market", "amount": 0.5}),
        (INVERSE, {"quantity": None, "contracts": "7"}, {"amount": 70, "contracts": 7}),
        (OPTION, {"quantity": "3", "price": "0.0125"}, {"amount": 3, "contracts": 3, "price": 0.0125}),
        (LINEAR, STOP, {"type": "stop_limit", "trigger": "last_price", "trigger_price": 51000}),
        (LINEAR, STOP | AT_MARKET | {"type": "STOP_MARKET"}, {"type": "stop_market"}),
        (LINEAR, STOP | {"type": "TAKE_PROFIT_LIMIT"}, {"type": "take_limit"}),
        (LINEAR, STOP | AT_MARKET | {"type": "TAKE_PROFIT_MARKET"}, {"type": "take_market"}),
        (LINEAR, STOP | {"options": {"trigger_price": "mark_price"}}, {"trigger": "mark_price"}),
        (LINEAR, {"options": {"display_amount": "0.1"}}, {"display_amount": 0.1}),
    ],
)
async def test_orders_are_put_into_the_words_of_the_gateway(
    played: Any, symbol: str, order: dict[str, Any], expected: dict[str, Any]
) -> None:
    market = await played.market(symbol)
    played.reply("sell", {"order": rpc_order(instrument_name=market.native_symbol)})
    await played.venue.place_order(market, limit(side="SELL", **order), played.credentials)
    (params,) = played.calls("sell")
    assert params | expected == params


async def test_one_log_in_serves_until_the_token_ages(played: Any) -> None:
    played.reply("get_open_orders_by_instrument", [])
    market = await played.market(LINEAR)

    def log_ins() -> int:
        return len(played.http.sent("POST", "/api/v2/public/auth"))

    for _ in range(3):
        await played.venue.list_orders(market, played.credentials)
    assert log_ins() == 1
    await played.clock.advance(899 * 0.8 + 1)
    await played.venue.list_orders(market, played.credentials)
    assert log_ins() == 2
    request = next(r for r in played.http.requests if r.url.path.endswith("get_open_orders_by_instrument"))
    assert request.headers["Authorization"] == "Bearer ..."


async def test_a_token_that_the_venue_forgot_is_replaced(played: Any) -> None:
    played.refuse("get_open_orders_by_instrument", 13009, "unauthorized", status=401)
    played.reply("get_open_orders_by_instrument", [rpc_order()])
    orders = await played.venue.list_orders(await played.market(LINEAR), played.credentials)
    assert [order.client_order_id for order in orders] == ["mine"]
    assert len(played.http.sent("POST", "/api/v2/public/auth")) == 2


async def test_a_stop_that_was_triggered_is_the_order_that_it_became(played: Any) -> None:
    market = await played.market(LINEAR)
    waiting = rpc_order(order_id="USDC-SLTS-1", order_type="stop_market", order_state="untriggered")
    waiting |= {"price": "market_price", "trigger_price": 80.0}
    played.reply("get_order_state", waiting)
    order = await played.venue.get_order(market, OrderRef(id="USDC-SLTS-1"), played.credentials)
    assert (order.type, order.price, order.stop_price) == (OrderType.STOP_MARKET, None, 80)
    became = rpc_order(order_id="USDC-9", order_type="market", order_state="filled", filled_amount=0.5)
    played.reply("get_order_state", waiting | {"order_state": "triggered"})
    played.http.answers["POST", "/api/v2/private/get_order_state"].pop(0)
    played.reply("get_order_state_by_label", [waiting | {"order_state": "triggered"}, became])
    order = await played.venue.get_order(market, OrderRef(id="USDC-SLTS-1"), played.credentials)
    assert (order.id, order.status, order.type) == ("USDC-9", OrderStatus.FILLED, OrderType.STOP_MARKET)


async def test_an_amendment_keeps_what_it_does_not_change(played: Any) -> None:
    market = await played.market(INVERSE)
    held = rpc_order(instrument_name="BTC-PERPETUAL", amount=70.0, price=90000.0, post_only=True, reduce_only=True)
    played.reply("get_order_state", held)
    played.reply("edit", {"order": held | {"amount": 30.0}})
    change = OrderChange(contracts=Decimal(3))
    order = await played.venue.amend_order(market, OrderRef(id="USDC-17"), change, played.credentials)
    assert played.calls("edit") == [
        {
            "order_id": "USDC-17",
            "amount": 30,
            "contracts": 3,
            "price": 90000,
            "post_only": True,
            "reject_post_only": True,
            "reduce_only": True,
        }
    ]
    assert order.contracts == 3


async def test_leverage_is_set_per_instrument(played: Any) -> None:
    played.reply("set_leverage", {"leverage": 5})
    await played.venue.set_leverage(await played.market(INVERSE), Decimal(5), played.credentials)
    assert played.calls("set_leverage") == [{"instrument_name": "BTC-PERPETUAL", "leverage": 5}]
    with pytest.raises(UnsupportedOperation):
        await played.venue.set_leverage(await played.market(PERP), Decimal(5), played.credentials)


@given(st.decimals(min_value="0.000000000001", max_value="1000000000000", places=12))
def test_numbers_go_out_digit_for_digit(value: Decimal) -> None:
    raw = bytes(number(value)).decode()
    assert Decimal(raw) == value
    assert "e" not in raw.lower()
    assert json.loads(raw, parse_float=Decimal, parse_int=Decimal) == value


@given(
    st.decimals(min_value="0.00000001", max_value="1000000000", places=8),
    st.decimals(min_value="0.00000001", max_value="1000000000", places=8),
)
def test_numbers_come_back_digit_for_digit(size: Decimal, price: Decimal) -> None:
    """The gateway's are JSON numbers, Advanced Trade's texts; exponents are lawful in the former."""
    spot = Market(
        symbol=SPOT,
        asset_type=AssetType.SPOT,
        base_asset="BTC",
        quote_asset="USD",
        native_symbol="BTC-USD",
        product="spot",
    )
    members = {"base_size": str(number(size), "ascii"), "limit_price": str(number(price), "ascii")}
    body = json.dumps({"order": row(order_configuration={"limit_limit_gtc": members})}).encode()
    order = decode_advanced(body).order.order(spot)
    assert (order.quantity, order.price) == (size, price)
    perpetual = spot.model_copy(update={"contract_size": Decimal("0.01"), "contract_type": ContractType.LINEAR})
    for form in (f"{size:f}", f"{size:e}"):
        named = json.dumps(rpc_order(price=0))[:-1]
        text = f'{{"result": {named}, "amount": {form}, "price": {price:e}}}}}'
        order = decode_gateway(text.encode()).result.order(perpetual, Kinds())
        assert (order.quantity, order.price) == (size, price)


# -- quantities by hand ------------------------------------------------------------------------------------------------


async def test_futures_of_a_hundredth_of_a_bitcoin(played: Any) -> None:
    """7 contracts of 0.01 BTC are 0.07 BTC."""
    market = await played.market(PERP)
    order = OrderRow(
        order_id="1",
        product_id=market.native_symbol,
        side="SELL",
        status="OPEN",
        order_configuration={"limit_limit_gtc": {"base_size": "7", "limit_price": "69000"}},
        filled_size="3",
        average_filled_price="69005",
    ).order(market)
    assert (order.contracts, order.quantity, order.side) == (7, Decimal("0.07"), Side.SELL)
    assert (order.filled_contracts, order.filled_quantity) == (3, Decimal("0.03"))


async def test_inverse_contracts_of_ten_dollars(played: Any) -> None:
    """7 contracts are 70 USD: at 50,000 they are 0.0014 BTC."""
    market = await played.market(INVERSE)
    filled = rpc_order(instrument_name="BTC-PERPETUAL", amount=70, filled_amount=70, average_price=50000)
    played.reply("get_order_state", filled | {"order_state": "filled", "price": 50000})
    order = await played.venue.get_order(market, OrderRef(id="17"), played.credentials)
    assert (order.contracts, order.quantity, order.filled_quantity) == (7, Decimal("0.0014"), Decimal("0.0014"))
    trade = {
        "trade_id": "5",
        "instrument_name": "BTC-PERPETUAL",
        "direction": "sell",
        "price": 50000.0,
        "amount": 70.0,
        "timestamp": 1795000000000,
        "order_id": "17",
        "fee": 4.9e-07,
        "fee_currency": "BTC",
        "liquidity": "T",
    }
    played.reply("get_user_trades_by_instrument", {"trades": [trade], "has_more": False})
    (fill,) = await played.venue.list_fills(market, None, None, played.credentials)
    assert (fill.contracts, fill.quantity, fill.fee) == (7, Decimal("0.0014"), Decimal("0.00000049"))
    position = {"instrument_name": "BTC-PERPETUAL", "size": -70.0, "mark_price": 35000.0, "average_price": 50000.0}
    played.reply("get_positions", [position])
    (held,) = await played.venue.international.positions(played.credentials)
    assert (held.side, held.contracts, held.quantity) == ("SHORT", 7, Decimal("0.002"))


async def test_coin_margined_options_of_one_coin(played: Any) -> None:
    """Their contracts are sized in the coin, whatever their price is in."""
    market = await played.market(OPTION)
    held = rpc_order(instrument_name=market.native_symbol, amount=3.0, filled_amount=2.0, average_price=0.0125)
    played.reply("get_order_state", held | {"price": 0.0125})
    order = await played.venue.get_order(market, OrderRef(id="17"), played.credentials)
    assert (order.contracts, order.quantity) == (3, 3)
    assert (order.filled_contracts, order.filled_quantity, order.price) == (2, 2, Decimal("0.0125"))


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


# -- errors ------------------------------------------------------------------------------------------------------------


def judged(status: int, body: Any, *, command: bool = True, path: str = "/api/v3/brokerage/orders") -> Any:
    request = Request("POST" if command else "GET", path, command=command)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    interpret = interpret_gateway if "/v2/" in path else interpret_advanced
    return interpret("COINBASE", request, Response(status, {}, content))


@pytest.mark.parametrize("member", ["error", "preview_failure_reason", "new_order_failure_reason"])
@pytest.mark.parametrize("reason", ["INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND"])
def test_any_of_three_reasons_may_be_the_real_one(member: str, reason: str) -> None:
    error = judged(200, failed(reason, member))
    assert type(error) is InsufficientFunds
    assert error.code == reason


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("INVALID_LIMIT_PRICE_POST_ONLY", InvalidOrder),
        ("PREVIEW_SOMETHING_NEW", InvalidOrder),
        ("INVALID_PRODUCT_ID", MarketNotFound),
        ("UNTRADABLE_PRODUCT", VenueUnavailable),
        ("INVALID_FCM_TRADING_SESSION", VenueUnavailable),
        ("GEOFENCING_RESTRICTION", PermissionDenied),
        ("DUPLICATE_CLIENT_ORDER_ID", DuplicateClientOrderId),
        ("ORDER_IS_FULLY_FILLED", OrderNotFound),
        ("COMMANDER_REJECTED_NEW_ORDER", VenueError),
    ],
)
def test_reasons_have_their_class(reason: str, kind: type[VenueError]) -> None:
    assert type(judged(200, failed(reason))) is kind


def test_a_post_only_order_that_would_take_names_its_rule() -> None:
    assert judged(200, failed("INVALID_LIMIT_PRICE_POST_ONLY")).rule == "post-only"
    assert all(meaning.rule is None or meaning.error is InvalidOrder for meaning in REASONS.values())


def test_success_alone_decides() -> None:
    sample = {**accepted(), "error_response": failed("INSUFFICIENT_FUND")["error_response"]}
    assert judged(200, sample) is None
    assert type(judged(200, failed("UNKNOWN_FAILURE_REASON", message="odd"))) is VenueError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"Unauthorized", AuthenticationError),
        (401, {"error": "UNAUTHORIZED", "message": "Unauthorized"}, AuthenticationError),
        (403, {"error": "PERMISSION_DENIED", "message": "no"}, PermissionDenied),
        (403, b"<html>", PermissionDenied),
        (404, {"error": "NOT_FOUND", "message": "valid product_id is required"}, MarketNotFound),
        (404, {"error": "unknown", "message": "order with this orderID was not found"}, OrderNotFound),
        (400, {"error": "INVALID_ARGUMENT", "message": "account is not available"}, InsufficientFunds),
        (400, {"error": "INVALID_ARGUMENT", "message": "bad"}, InvalidOrder),
        (429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, RateLimited),
        (500, {"error": "INSUFFICIENT_FUND", "message": "?"}, AnswerLost),
        (502, b"<html>", AnswerLost),
        (503, b"Service Unavailable", AnswerLost),
    ],
)
def test_error_bodies_of_all_shapes_are_judged(status: int, body: Any, kind: type[Exception]) -> None:
    assert type(judged(status, body)) is kind


def test_a_read_that_was_not_authorized_is_tried_once_more_and_a_command_is_not() -> None:
    assert judged(401, b"Unauthorized", command=False).retryable is True
    assert judged(401, b"Unauthorized").retryable is False


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (13004, AuthenticationError),
        (13009, AuthenticationError),
        (13021, PermissionDenied),
        (10009, InsufficientFunds),
        (11054, InvalidOrder),
        (10007, InvalidOrder),
        (10004, OrderNotFound),
        (11044, OrderNotFound),
        (13020, MarketNotFound),
        (10028, RateLimited),
        (10012, VenueUnavailable),
        (13888, AnswerLost),
        (-32602, VenueError),
        (77777, VenueError),
    ],
)
def test_codes_of_the_gateway_have_their_class(code: int, kind: type[Exception]) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no", "data": {"reason": "because"}}}
    error = judged(400, body, path="/api/v2/private/buy")
    assert type(error) is kind
    assert error.message == "no: because"
    assert set(map(str, (10005, 10006, 10008))) <= set(CODES)
    assert type(judged(503, body, path="/api/v2/private/buy")) is AnswerLost
