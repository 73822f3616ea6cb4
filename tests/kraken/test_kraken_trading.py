"""Orders and accounts: what goes out for every kind of order, what recorded answers become, how outcomes are found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from astra.errors import (
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    OrderOutcomeUnknown,
    UnsupportedOperation,
    VenueError,
)
from astra.models.orders import (
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from astra.models.trades import Side
from astra_kraken.settings import KrakenSettings
from astra_kraken.trading.derivatives_rows import (
    decode_accounts,
    decode_command,
    decode_fills,
    decode_open_orders,
    decode_positions,
)
from astra_kraken.trading.spot_rows import (
    SpotOrder,
    balances_of,
    decode_balances,
    decode_closed,
    decode_count,
    decode_open,
    decode_order,
    decode_orders,
    decode_placed,
    decode_trades,
    decode_volume,
)
from astra_kraken.trading.terms import average_fill
from astra_kraken.venue import KrakenVenue

pytestmark = pytest.mark.anyio

BTC = "KRAKEN-SPOT-BTC-USD"
LINEAR, INVERSE = "KRAKEN-PERP-ETH-USD", "KRAKEN-PERP-XBT-USD-COINM"
OPTION = "KRAKEN-OPT-XBT-USD-261225-100000-C"
SEND, STATUS = "/derivatives/api/v3/sendorder", "/derivatives/api/v3/orders/status"


def order(**terms: Any) -> OrderRequest:
    given: dict[str, Any] = {"side": "BUY", "client_order_id": "mine-1"} | terms
    if not {"quantity", "contracts", "quote_quantity"} & set(given):
        given["quantity"] = "0.01"
    return OrderRequest.model_validate(given)


def result(recordings: Any, name: str) -> bytes:
    return bytes(msgspec.json.decode(recordings.body(name), type=dict[str, msgspec.Raw])["result"])


def orders_of(rows: Mapping[str, msgspec.Raw]) -> dict[str, SpotOrder]:
    return {txid: decode_order(row) for txid, row in rows.items()}


# -- parameters -------------------------------------------------------------------------------------------------

SPOT_ORDERS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"price": "37500.5"}, {"ordertype": "limit", "price": "37500.5"}),
    ({"type": "MARKET"}, {"ordertype": "market"}),
    ({"type": "MARKET", "quote_quantity": "250"}, {"ordertype": "market", "volume": "250", "oflags": "viqc"}),
    ({"price": "1", "time_in_force": "IOC"}, {"timeinforce": "IOC"}),
    ({"price": "1", "time_in_force": "FOK"}, {"timeinforce": "FOK"}),
    (
        {"price": "1", "time_in_force": "GTD", "expire_time": 1_800_000_000_000},
        {"timeinforce": "GTD", "expiretm": "1800000000"},
    ),
    ({"price": "1", "post_only": True}, {"oflags": "post"}),
    ({"type": "STOP_MARKET", "stop_price": "9"}, {"ordertype": "stop-loss", "price": "9"}),
    (
        {"type": "STOP_LIMIT", "stop_price": "9", "price": "8"},
        {"ordertype": "stop-loss-limit", "price": "9", "price2": "8"},
    ),
    ({"type": "TAKE_PROFIT_MARKET", "stop_price": "9"}, {"ordertype": "take-profit", "price": "9"}),
    (
        {"type": "TAKE_PROFIT_LIMIT", "stop_price": "9", "price": "8", "options": {"trigger": "index"}},
        {"ordertype": "take-profit-limit", "price": "9", "price2": "8", "trigger": "index"},
    ),
    ({"price": "1", "options": {"leverage": 5}, "reduce_only": True}, {"leverage": "5:1", "reduce_only": "true"}),
    ({"price": "1", "options": {"fee_in_base": True}, "post_only": True}, {"oflags": "post,fcib"}),
    ({"price": "1", "options": {"display_quantity": "0.001"}}, {"ordertype": "iceberg", "displayvol": "0.001"}),
    ({"price": "1", "options": {"self_trade_prevention": "cancel-both"}}, {"stptype": "cancel-both"}),
]


@pytest.mark.parametrize(("terms", "expected"), SPOT_ORDERS)
async def test_every_kind_of_spot_order_has_its_parameters(
    played: Any, terms: dict[str, Any], expected: dict[str, str]
) -> None:
    played.http.spot("AddOrder", {"txid": ["OUF4EM-FRGI2-MQMWZD"], "descr": {"order": ""}})
    placed = await played.venue.place_order(await played.market(BTC), order(**terms), played.credentials)
    (sent,) = played.http.asked("POST", "/0/private/AddOrder")
    assert {name: sent.get(name) for name in expected} == expected
    common = {"pair": "XBTUSD", "type": "buy", "cl_ord_id": "mine-1", "volume": expected.get("volume", "0.01")}
    allowed = {*expected, *common, "ordertype", "price", "nonce", "deadline"}
    assert common.items() <= sent.items()
    assert set(sent) <= allowed
    assert (placed.id, placed.status, placed.filled_quantity) == ("OUF4EM-FRGI2-MQMWZD", OrderStatus.NEW, None)


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"price": "1", "reduce_only": True}, "reduce-only"),
        ({"type": "MARKET", "side": "SELL", "quote_quantity": "5"}, "sell orders by quoteQuantity"),
        ({"type": "STOP_LIMIT", "stop_price": "9", "price": "8", "post_only": True}, "post-only STOP_LIMIT"),
        ({"type": "STOP_LIMIT", "stop_price": "9", "price": "8", "time_in_force": "IOC"}, "IOC"),
        ({"type": "MARKET", "time_in_force": "FOK"}, "FOK"),
        ({"price": "1", "options": {"trigger": "last"}}, "trigger"),
        ({"type": "STOP_MARKET", "stop_price": "9", "options": {"trigger": "mark"}}, "mark"),
        ({"type": "MARKET", "options": {"display_quantity": "1"}}, "display_quantity"),
    ],
)
async def test_what_spot_lacks_is_refused_by_name_before_anything_is_sent(
    played: Any, terms: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=named):
        await played.venue.place_order(await played.market(BTC), order(**terms), played.credentials)
    assert not [one for one in played.http.requests if one.method == "POST"]


async def test_a_gtd_order_that_expires_between_two_seconds_is_refused(played: Any) -> None:
    wanted = order(price="1", time_in_force="GTD", expire_time=1_800_000_000_500)
    with pytest.raises(InvalidOrder, match="whole second"):
        await played.venue.place_order(await played.market(BTC), wanted, played.credentials)


DERIVATIVES_ORDERS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (LINEAR, {"price": "3000.5"}, {"orderType": "lmt", "limitPrice": "3000.5", "size": "0.01"}),
    (LINEAR, {"price": "1", "post_only": True}, {"orderType": "post"}),
    (LINEAR, {"price": "1", "time_in_force": "IOC"}, {"orderType": "ioc"}),
    (LINEAR, {"price": "1", "time_in_force": "FOK"}, {"orderType": "fok"}),
    (LINEAR, {"type": "MARKET", "reduce_only": True}, {"orderType": "mkt", "reduceOnly": "true"}),
    (LINEAR, {"type": "STOP_MARKET", "stop_price": "9"}, {"orderType": "stp", "stopPrice": "9"}),
    (
        LINEAR,
        {"type": "STOP_LIMIT", "stop_price": "9", "price": "8", "options": {"trigger": "mark"}},
        {"orderType": "stp", "stopPrice": "9", "limitPrice": "8", "triggerSignal": "mark"},
    ),
    (
        LINEAR,
        {"type": "TAKE_PROFIT_LIMIT", "stop_price": "9", "price": "8"},
        {"orderType": "take_profit", "stopPrice": "9", "limitPrice": "8"},
    ),
    (INVERSE, {"price": "1", "contracts": "25"}, {"orderType": "lmt", "size": "25", "symbol": "PI_XBTUSD"}),
    (OPTION, {"price": "1", "quantity": "0.04"}, {"size": "0.04", "symbol": "OF_XBTUSD_261225_100000_C"}),
]


@pytest.mark.parametrize(("symbol", "terms", "expected"), DERIVATIVES_ORDERS)
async def test_every_kind_of_derivatives_order_has_its_parameters(
    played: Any, symbol: str, terms: dict[str, Any], expected: dict[str, str]
) -> None:
    status = {"status": "placed", "order_id": "179f9af8", "orderEvents": []}
    played.http.answer("POST", SEND, {"result": "success", "sendStatus": status})
    await played.venue.place_order(await played.market(symbol), order(**terms), played.credentials)
    (sent,) = played.http.asked("POST", SEND)
    assert {name: sent.get(name) for name in expected} == expected
    assert {"side": "buy", "cliOrdId": "mine-1"}.items() <= sent.items()
    assert set(sent) <= {*expected, "symbol", "side", "size", "cliOrdId", "limitPrice", "orderType", "processBefore"}


@pytest.mark.parametrize(
    ("symbol", "terms", "named"),
    [
        (LINEAR, {"price": "1", "time_in_force": "GTD", "expire_time": 1_800_000_000_000}, "GTD"),
        (LINEAR, {"type": "MARKET", "quote_quantity": "5"}, "quoteQuantity"),
        (LINEAR, {"type": "STOP_LIMIT", "stop_price": "9", "price": "8", "post_only": True}, "post-only"),
        (LINEAR, {"price": "1", "options": {"leverage": 5}}, "leverage"),
        (LINEAR, {"price": "1", "options": {"trigger": "mark"}}, "trigger"),
    ],
)
async def test_what_derivatives_lack_is_refused_by_name_before_anything_is_sent(
    played: Any, symbol: str, terms: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedOperation, match=named):
        await played.venue.place_order(await played.market(symbol), order(**terms), played.credentials)
    assert not [one for one in played.http.requests if one.method == "POST"]


async def test_inverse_orders_are_placed_in_contracts(played: Any) -> None:
    with pytest.raises(InvalidOrder, match="contracts"):
        await played.venue.place_order(await played.market(INVERSE), order(price="1"), played.credentials)


async def test_tokenised_stocks_name_their_class(played: Any) -> None:
    played.http.spot("AddOrder", {"txid": ["O"], "descr": {}})
    market = await played.market("KRAKEN-SPOT-AAPLx-USD")
    await played.venue.place_order(market, order(price="200"), played.credentials)
    (sent,) = played.http.asked("POST", "/0/private/AddOrder")
    assert (sent["pair"], sent["asset_class"]) == ("AAPLxUSD", "tokenized_asset")


@pytest.mark.parametrize(
    ("symbol", "good", "bad"),
    [
        (BTC, ["x" * 18, "6d1b345e-2821-40e2-ad83-4ecb18a06876", "6d1b345e282140e2ad834ecb18a06876"], ["x" * 19, "é"]),
        (LINEAR, ["x" * 100, "my id/1".replace(" ", "_")], ["x" * 101, ""]),
    ],
)
async def test_client_ids_keep_the_product_s_rule(played: Any, symbol: str, good: list[str], bad: list[str]) -> None:
    rule = played.venue.client_id_rule(await played.market(symbol))
    for client_order_id in good:
        rule.check(client_order_id, "KRAKEN")
    for client_order_id in bad:
        with pytest.raises(InvalidOrder):
            rule.check(client_order_id, "KRAKEN")
    made = {rule.make(played.venue.host.astra.random, 1_700_000_000_000) for _ in range(500)}
    assert len(made) == 500
    for client_order_id in made:
        rule.check(client_order_id, "KRAKEN")


# -- recorded answers -------------------------------------------------------------------------------------------


async def test_recorded_spot_orders_are_understood(played: Any, recordings: Any) -> None:
    market = await played.market(BTC)
    rows = orders_of(decode_open(result(recordings, "spot-openorders")).open)
    partly = rows["OQCLML-BW3P3-BUCMWZ"].order("OQCLML-BW3P3-BUCMWZ", market)
    assert (partly.status, partly.side, partly.type) == (OrderStatus.PARTIALLY_FILLED, Side.BUY, OrderType.LIMIT)
    assert (partly.price, partly.quantity, partly.filled_quantity) == (30010, Decimal("1.25"), Decimal("0.375"))
    assert (partly.average_price, partly.created_time) == (30010, 1688666559897)
    resting = rows["OB5VMB-B4U2U-DK2WRW"].order("x", market)
    assert (resting.status, resting.price, resting.average_price) == (OrderStatus.NEW, 14500, None)
    done = orders_of(decode_orders(result(recordings, "spot-queryorders")))
    stop = done["OBCMZD-JIEE7-77TH3F"].order("x", market)
    assert (stop.type, stop.stop_price, stop.status) == (OrderType.STOP_LIMIT, 27500, OrderStatus.FILLED)
    sold = done["OMMDB2-FSB6Z-7W3HPO"].order("x", market)
    assert (sold.type, sold.side, sold.price, sold.average_price) == (OrderType.MARKET, Side.SELL, None, 30000)
    for row in orders_of(decode_closed(result(recordings, "spot-closedorders")).closed).values():
        assert row.order("x", market).status is OrderStatus.CANCELED


async def test_a_post_only_order_that_ended_at_once_was_refused(played: Any, recordings: Any) -> None:
    rows = json.loads(result(recordings, "spot-closedorders"))["closed"]
    row = next(iter(rows.values())) | {"reason": "Post only order"}
    found = decode_order(json.dumps(row).encode()).order("x", await played.market(BTC))
    assert found.status is OrderStatus.REJECTED


async def test_recorded_spot_fills_balances_and_fees_are_understood(played: Any, recordings: Any) -> None:
    market = await played.market(BTC)
    rows = decode_trades(result(recordings, "spot-tradeshistory")).trades
    fill = rows["THVRQM-33VKH-UCI7BS"].fill("THVRQM-33VKH-UCI7BS", market)
    assert (fill.price, fill.quantity, fill.side, fill.liquidity) == (30010, Decimal("0.02"), Side.BUY, "MAKER")
    assert (fill.fee, fill.fee_asset, fill.time) == (0, "USD", 1688667796880)
    held = {one.asset: one for one in balances_of(decode_balances(result(recordings, "spot-balanceex")))}
    assert (held["BTC"].total, held["BTC"].locked) == (Decimal("1.2435"), Decimal("0.8423"))
    assert held["USD"].available == Decimal("17185.45")
    fees = decode_volume(result(recordings, "spot-tradevolume")).of(market)
    assert fees is not None
    assert (fees.taker, fees.maker) == (Decimal("0.001"), 0)
    assert decode_placed(result(recordings, "spot-addorder")).txid == ["OUF4EM-FRGI2-MQMWZD"]
    assert decode_count(result(recordings, "spot-cancelorder")).count == 1


async def test_what_was_filled_at_once_shows_in_the_events(played: Any, recordings: Any) -> None:
    """ "placed" says the status all the same; a market order has no price of its own."""
    answer = recordings.rest("futures-sendorder-execution")["body"]
    for event in answer["sendStatus"]["orderEvents"]:
        event["orderPriorExecution"]["symbol"] = "PF_ETHUSD"
    played.http.answer("POST", SEND, answer)
    market = await played.market(LINEAR)
    placed = await played.venue.place_order(market, order(type="MARKET", quantity="0.001"), played.credentials)
    assert (placed.status, placed.filled_quantity, placed.average_price) == (
        OrderStatus.FILLED,
        Decimal("0.001"),
        66596,
    )
    assert (placed.price, placed.type, placed.created_time) == (None, OrderType.MARKET, 1772431831954)


async def test_a_market_order_that_is_filled_in_part_is_over(played: Any, recordings: Any) -> None:
    played.http.answer("POST", SEND, recordings.body("futures-sendorder-execution"))
    market = await played.market(LINEAR)
    placed = await played.venue.place_order(market, order(type="MARKET", quantity="0.005"), played.credentials)
    assert (placed.status, placed.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.001"))


async def test_recorded_derivatives_commands_are_understood(played: Any, recordings: Any) -> None:
    market = await played.market(INVERSE)
    played.http.answer("POST", SEND, recordings.body("futures-sendorder"))
    placed = await played.venue.place_order(market, order(price="9400", contracts="10000"), played.credentials)
    assert (placed.id, placed.status) == ("179f9af8-e45e-469d-b3e9-2fd4675cb7d0", OrderStatus.NEW)
    assert (placed.contracts, placed.quantity) == (10000, Decimal(10000) / 9400)
    played.http.answer("POST", "/derivatives/api/v3/cancelorder", recordings.body("futures-cancelorder"))
    canceled = await played.venue.cancel_order(market, OrderRef(id="cb4e34f6"), played.credentials)
    assert (canceled.status, canceled.client_order_id, canceled.contracts) == (OrderStatus.CANCELED, "1234568", 5500)
    played.http.answer("POST", "/derivatives/api/v3/editorder", recordings.body("futures-editorder"))
    change = OrderChange.model_validate({"price": "7200", "contracts": "1501"})
    amended = await played.venue.amend_order(market, OrderRef(id="022774bc"), change, played.credentials)
    assert (amended.price, amended.contracts, amended.status) == (7200, 1501, OrderStatus.NEW)
    played.http.answer("POST", "/derivatives/api/v3/cancelallorders", recordings.body("futures-cancelallorders"))
    gone = await played.venue.cancel_all_orders(market, played.credentials)
    assert [(one.status, one.contracts) for one in gone] == [(OrderStatus.CANCELED, size) for size in (1000, 890, 900)]
    assert [one.type for one in gone] == [OrderType.STOP_LIMIT, OrderType.LIMIT, OrderType.LIMIT]


async def test_recorded_open_orders_of_derivatives_are_understood(played: Any, recordings: Any) -> None:
    market = await played.market(INVERSE)
    rows = decode_open_orders(recordings.body("futures-openorders")).open_orders
    found = [row.order(market) for row in rows]
    assert len(found) == 7
    assert (found[0].side, found[0].contracts, found[0].reduce_only) == (Side.SELL, 304, True)
    (stop,) = decode_open_orders(recordings.body("futures-openorders-stop")).open_orders
    seen = stop.order(market)
    assert (seen.type, seen.stop_price, seen.contracts, seen.client_order_id) == (
        OrderType.STOP_MARKET,
        29259,
        1,
        "xxx...",
    )


async def test_recorded_fills_positions_and_wallets_of_derivatives_are_understood(played: Any, recordings: Any) -> None:
    """5490 contracts at 9400 are 5490 / 9400 of the base; a position's quantity is at the mark."""
    market = await played.market(INVERSE)
    first, second = decode_fills(recordings.body("futures-fills")).fills
    fill = first.fill(market)
    assert (fill.contracts, fill.quantity, fill.liquidity) == (5490, Decimal(5490) / 9400, "MAKER")
    assert second.fill(market).liquidity == "TAKER"
    short = decode_positions(recordings.body("futures-openpositions")).open_positions[0]
    position = short.position(market, Decimal(10000))
    assert (position.side, position.contracts, position.quantity) == (PositionSide.SHORT, 10000, 1)
    assert short.position(market, None).quantity is None
    held = {
        (one.wallet, one.asset): one
        for name, wallet in decode_accounts(recordings.body("futures-accounts")).accounts.items()
        for one in wallet.held(name)
    }
    assert held["fi_xbtusd", "BTC"].total == Decimal("141.31756797")
    assert held["fi_xbtusd", "BTC"].available == Decimal("100.73891563")
    assert {asset for wallet, asset in held if wallet == "flex"} == {"BTC", "USD", "EUR"}
    assert {asset for wallet, asset in held if wallet == "cash"} == {"BTC", "XRP"}


async def test_the_average_of_inverse_fills_gives_back_what_was_exchanged(played: Any) -> None:
    market = await played.market(INVERSE)
    average = average_fill(market, [(Decimal(100), Decimal(100)), (Decimal(200), Decimal(100))])
    assert average is not None
    assert abs(Decimal(200) / average - Decimal("1.5")) < Decimal("1e-24")
    one = average_fill(market, [(Decimal("90009.5"), Decimal(3)), (Decimal("90009.5"), Decimal(7))])
    assert one == Decimal("90009.5")


# -- outcomes ---------------------------------------------------------------------------------------------------


def spot_row(**changes: Any) -> dict[str, Any]:
    return {
        "status": "open",
        "opentm": 1_700_000_000.5,
        "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "100.0", "price2": "0"},
        "vol": "0.01",
        "vol_exec": "0",
        "price": "0",
        "cl_ord_id": "mine-1",
        **changes,
    }


async def lost(played: Any, market: Any) -> None:
    played.http.lose("POST", "/0/private/AddOrder")
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order(price="100"), played.credentials)


async def test_a_lost_placement_is_found_among_open_or_done_orders(played: Any) -> None:
    market = await played.market(BTC)
    await lost(played, market)
    now = played.clock.wall_ns() // 1_000_000
    played.http.spot("OpenOrders", {"open": {"OA": spot_row()}})
    found = await played.venue.resolve_order(market, "mine-1", now, played.credentials)
    assert (found.id, found.status) == ("OA", OrderStatus.NEW)
    played.http.again("POST", "/0/private/OpenOrders")
    played.http.spot("OpenOrders", {"open": {}})
    played.http.spot("ClosedOrders", {"closed": {"OA": spot_row(status="closed", vol_exec="0.01", price="99.5")}})
    found = await played.venue.resolve_order(market, "mine-1", now, played.credentials)
    assert (found.status, found.average_price) == (OrderStatus.FILLED, Decimal("99.5"))
    assert played.http.asked("POST", "/0/private/ClosedOrders")[0]["cl_ord_id"] == "mine-1"
    assert len(played.http.asked("POST", "/0/private/AddOrder")) == 1


async def test_not_found_means_not_placed_only_after_the_deadline(played: Any) -> None:
    market = await played.market(BTC)
    await lost(played, market)
    now = played.clock.wall_ns() // 1_000_000
    played.http.spot("OpenOrders", {"open": {}})
    played.http.spot("ClosedOrders", {"closed": {}})
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is True
    await played.clock.advance(5.0)
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is True
    await played.clock.advance(2.1)
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is False
    assert played.venue.command_lifetime_s(market) == 7.0


async def test_with_a_nonce_window_a_lost_cancel_proves_nothing_by_time(played: Any) -> None:
    """Without one the look-up's nonce shuts a late cancel out."""
    market = await played.market(BTC)
    venue = KrakenVenue(played.venue.host, KrakenSettings(nonce_window=True))
    assert venue.command_lifetime_s(market) is None
    assert venue.command_lifetime_s(await played.market(LINEAR)) == 7.0
    assert played.venue.command_lifetime_s(market) == 7.0


async def test_an_old_order_under_the_same_id_is_not_the_one_meant(played: Any) -> None:
    market = await played.market(BTC)
    await lost(played, market)
    played.http.spot("OpenOrders", {"open": {}})
    old = spot_row(status="canceled", opentm=1_699_990_000)
    played.http.spot("ClosedOrders", {"closed": {"OLD": old}})
    await played.clock.advance(8)
    now = played.clock.wall_ns() // 1_000_000 - 8000
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is False


def status_row(**changes: Any) -> dict[str, Any]:
    told = {
        "type": "ORDER",
        "orderId": "u-1",
        "cliOrdId": "mine-1",
        "symbol": "PF_ETHUSD",
        "side": "buy",
        "quantity": "0.01",
        "filled": "0",
        "limitPrice": "100",
        "reduceOnly": False,
        "timestamp": "2023-11-14T22:13:21.500Z",
        "lastUpdateTimestamp": "2023-11-14T22:13:21.500Z",
    }
    return {"order": told | changes.pop("order", {}), "status": "ENTERED_BOOK", **changes}


async def test_a_lost_derivatives_placement_is_found_by_a_look_up(played: Any) -> None:
    market = await played.market(LINEAR)
    played.http.lose("POST", SEND)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order(price="100"), played.credentials)
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("POST", STATUS, {"result": "success", "orders": [status_row()]})
    found = await played.venue.resolve_order(market, "mine-1", now, played.credentials)
    assert (found.id, found.status, found.price) == ("u-1", OrderStatus.NEW, 100)
    assert played.http.asked("POST", STATUS) == [{"cliOrdIds": "mine-1"}]


def history_order(**changes: Any) -> dict[str, Any]:
    return {
        "uid": "u-1",
        "tradeable": "PF_ETHUSD",
        "direction": "Buy",
        "quantity": "0.03",
        "filled": "0",
        "timestamp": 1_700_000_001_000,
        "limitPrice": "100",
        "orderType": "Limit",
        "clientId": "mine-1",
        "reduceOnly": False,
        "lastUpdateTimestamp": 1_700_000_001_000,
        **changes,
    }


def history(*events: Any) -> dict[str, Any]:
    return {"elements": [{"uid": "e", "timestamp": 1, "event": event} for event in events]}


def executed(size: str, price: str) -> dict[str, Any]:
    execution = {"quantity": size, "price": price, "takerOrder": history_order(quantity="0.03", clientId="")}
    return {"execution": {"execution": execution, "takerReducedQuantity": ""}}


@pytest.mark.parametrize(
    ("events", "executions", "expected"),
    [
        ([{"OrderPlaced": {"order": history_order()}}], [("0.01", "100"), ("0.02", "97")], "FILLED"),
        ([{"OrderCancelled": {"order": history_order(quantity="0.02")}}], [("0.01", "100")], "CANCELED"),
        ([{"OrderRejected": {"order": history_order()}}], [], "REJECTED"),
    ],
)
async def test_an_order_that_is_long_done_is_put_together_from_the_history(
    played: Any, events: Any, executions: Any, expected: str
) -> None:
    market = await played.market(LINEAR)
    played.http.answer("POST", STATUS, {"result": "success", "orders": []})
    played.http.answer("GET", "/api/history/v3/orders", history(*events))
    played.http.answer("GET", "/api/history/v3/executions", history(*[executed(*one) for one in executions]))
    found = await played.venue.get_order(market, OrderRef(client_order_id="mine-1"), played.credentials)
    assert (found.id, found.status, found.client_order_id) == ("u-1", OrderStatus(expected), "mine-1")
    assert found.filled_quantity == sum(Decimal(size) for size, _ in executions)
    if expected == "FILLED":
        assert (found.quantity, found.average_price) == (Decimal("0.03"), Decimal(98))


async def test_the_history_is_asked_only_when_the_placement_cannot_arrive_any_more(played: Any) -> None:
    market = await played.market(LINEAR)
    played.http.lose("POST", SEND)
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order(price="100"), played.credentials)
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("POST", STATUS, {"result": "success", "orders": []})
    for name in ("orders", "triggers", "executions"):
        played.http.answer("GET", f"/api/history/v3/{name}", history())
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is True
    assert not played.http.asked("GET", "/api/history/v3/orders")
    await played.clock.advance(7.5)
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is False
    assert len(played.http.asked("GET", "/api/history/v3/executions")) == 1


async def test_fees_that_the_fills_leave_out_come_from_the_history(played: Any, recordings: Any) -> None:
    rows = recordings.rest("futures-fills")["body"]
    played.http.answer("GET", "/derivatives/api/v3/fills", rows)
    execution = {
        "uid": rows["fills"][0]["fill_id"],
        "quantity": "5490",
        "price": "9400",
        "orderData": {"fee": "0.0001"},
    }
    played.http.answer("GET", "/api/history/v3/executions", history({"execution": {"execution": execution}}))
    fills = await played.venue.parts["derivatives"].fills(None, None, None, played.credentials)
    assert [(fill.fee, fill.fee_asset) for fill in fills] == [(None, None), (Decimal("0.0001"), "BTC")]
    played.http.again("GET", "/api/history/v3/executions")
    bare = await played.venue.parts["derivatives"].fills(None, None, None, played.credentials)
    assert [fill.id for fill in bare] == [fill.id for fill in fills], "fills are told without their fees, if need be"


async def test_of_a_placement_of_long_ago_the_history_is_read_back_to_its_time(played: Any) -> None:
    market = await played.market(LINEAR)
    since = played.clock.wall_ns() // 1_000_000
    played.http.answer("POST", STATUS, {"result": "success", "orders": []})
    late = {"elements": [{"uid": "e", "timestamp": since + 500_000, "event": {}}], "continuationToken": "more"}
    placed = {"OrderPlaced": {"order": history_order(timestamp=since + 5, lastUpdateTimestamp=since + 5)}}
    early = {"elements": [{"uid": "f", "timestamp": since + 5, "event": placed}]}
    path = "/api/history/v3/orders"
    played.http.answer("GET", path, lambda params: early if "continuation_token" in params else late)
    played.http.answer("GET", "/api/history/v3/triggers", history())
    played.http.answer("GET", "/api/history/v3/executions", history(executed("0.03", "99")))
    await played.clock.advance(120)
    found = await played.venue.resolve_order(market, "mine-1", since, played.credentials)
    assert (found.id, found.status) == ("u-1", OrderStatus.FILLED)


async def test_an_order_of_a_lost_batch_that_is_not_found_stays_open(played: Any) -> None:
    """That a batch keeps its expiry is not documented: not finding one of its orders proves nothing."""
    market = await played.market(LINEAR)
    played.http.lose("POST", "/derivatives/api/v3/batchorder")
    (answer,) = await played.venue.place_orders([(market, order(price="100"))], played.credentials)
    assert isinstance(answer, OrderOutcomeUnknown)
    now = played.clock.wall_ns() // 1_000_000
    played.http.answer("POST", STATUS, {"result": "success", "orders": []})
    for name in ("orders", "triggers", "executions"):
        played.http.answer("GET", f"/api/history/v3/{name}", history())
    await played.clock.advance(60)
    assert await played.venue.resolve_order(market, "mine-1", now, played.credentials) is True


# -- further commands -------------------------------------------------------------------------------------------


async def test_a_spot_batch_says_of_each_order_what_became_of_it(played: Any) -> None:
    market = await played.market(BTC)
    rows = [{"txid": "OA", "descr": {}}, {"error": "EOrder:Insufficient funds"}, {"error": "EGeneral:Internal error"}]
    played.http.spot("AddOrderBatch", {"orders": rows})
    orders = [(market, order(price="100", client_order_id=f"b-{number}")) for number in range(3)]
    answers = await played.venue.place_orders(orders, played.credentials)
    assert isinstance(answers[0], Order)
    assert isinstance(answers[1], InsufficientFunds)
    assert isinstance(answers[2], OrderOutcomeUnknown)
    assert answers[2].client_order_id == "b-2"
    (sent,) = played.http.asked("POST", "/0/private/AddOrderBatch")
    assert sent["pair"] == "XBTUSD"
    assert [one["cl_ord_id"] for one in sent["orders"]] == ["b-0", "b-1", "b-2"]
    assert "deadline" in sent


async def test_a_batch_is_split_by_pair_and_size(played: Any) -> None:
    btc, eth = await played.market(BTC), await played.market("KRAKEN-SPOT-ETH-USD")

    def batch(params: Any) -> Any:
        return {"error": [], "result": {"orders": [{"txid": one["cl_ord_id"]} for one in params["orders"]]}}

    played.http.spot("AddOrderBatch", batch)
    played.http.spot("AddOrder", {"txid": ["single"]})
    orders = [(btc, order(price="100", client_order_id=f"b-{number}")) for number in range(16)]
    orders.insert(3, (eth, order(price="10", client_order_id="e-1")))
    answers = await played.venue.place_orders(orders, played.credentials)
    assert [answer.client_order_id for answer in answers] == [one.client_order_id for _, one in orders]
    assert [len(sent["orders"]) for sent in played.http.asked("POST", "/0/private/AddOrderBatch")] == [15]
    assert len(played.http.asked("POST", "/0/private/AddOrder")) == 2


async def test_a_derivatives_batch_says_of_each_order_what_became_of_it(played: Any) -> None:
    market = await played.market(LINEAR)
    rows = [
        {"order_tag": "1", "status": "clientOrderIdAlreadyExist"},
        {"order_tag": "0", "status": "placed", "order_id": "u-0", "orderEvents": []},
    ]
    played.http.answer("POST", "/derivatives/api/v3/batchorder", {"result": "success", "batchStatus": rows})
    orders = [(market, order(price="100", client_order_id=f"b-{number}")) for number in range(3)]
    answers = await played.venue.place_orders(orders, played.credentials)
    assert isinstance(answers[0], Order)
    assert answers[0].id == "u-0"
    assert isinstance(answers[1], DuplicateClientOrderId)
    assert isinstance(answers[2], OrderOutcomeUnknown)
    (sent,) = played.http.asked("POST", "/derivatives/api/v3/batchorder")
    assert json.loads(sent["json"])["batchOrder"][0]["size"] == "0.01"


async def test_a_cancel_of_an_order_placed_here_needs_no_look_up(played: Any) -> None:
    market = await played.market(BTC)
    played.http.spot("AddOrder", {"txid": ["OA"]})
    played.http.spot("CancelOrder", {"count": 1})
    placed = await played.venue.place_order(market, order(price="100"), played.credentials)
    canceled = await played.venue.cancel_order(market, OrderRef(id="OA"), played.credentials)
    assert (canceled.status, canceled.client_order_id) == (OrderStatus.CANCELED, placed.client_order_id)
    assert canceled.filled_quantity is None, "the answer does not say"
    assert not played.http.asked("POST", "/0/private/QueryOrders")


async def test_a_cancel_of_somebody_else_s_order_is_looked_at(played: Any) -> None:
    market = await played.market(BTC)
    played.http.spot("CancelOrder", {"count": 1})
    played.http.spot("QueryOrders", {"OA": spot_row(status="canceled", vol_exec="0.004", price="100")})
    canceled = await played.venue.cancel_order(market, OrderRef(id="OA"), played.credentials)
    assert (canceled.status, canceled.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.004"))
    played.http.again("POST", "/0/private/QueryOrders")
    played.http.refuse("QueryOrders", "EGeneral:Permission denied")
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.cancel_order(market, OrderRef(id="OB"), played.credentials)


async def test_an_answer_of_another_shape_leaves_a_command_s_outcome_open(played: Any) -> None:
    market = await played.market(BTC)
    played.http.spot("AddOrder", {"txid": "not a list"})
    with pytest.raises(OrderOutcomeUnknown):
        await played.venue.place_order(market, order(price="100"), played.credentials)


async def test_the_dead_man_timers_cover_whole_products(played: Any, recordings: Any) -> None:
    played.http.answer("POST", "/0/private/CancelAllOrdersAfter", recordings.body("spot-cancelallordersafter"))
    path = "/derivatives/api/v3/cancelallordersafter"
    played.http.answer("POST", path, recordings.body("futures-cancelallordersafter"))
    await played.venue.keep_alive_orders(None, 59.2, played.credentials)
    assert played.http.asked("POST", "/0/private/CancelAllOrdersAfter")[0]["timeout"] == "60"
    assert played.http.asked("POST", path)[0]["timeout"] == "60"
    with pytest.raises(UnsupportedOperation, match="name no market"):
        await played.venue.keep_alive_orders(await played.market(BTC), 60, played.credentials)


async def test_leverage_is_a_preference_of_linear_contracts(played: Any, recordings: Any) -> None:
    path = "/derivatives/api/v3/leveragepreferences"
    played.http.answer("PUT", path, {"result": "success"})
    market = await played.market(LINEAR)
    await played.venue.set_leverage(market, Decimal(5), played.credentials)
    await played.venue.set_margin_mode(market, MarginMode.CROSS, played.credentials)
    symbol = {"symbol": "PF_ETHUSD"}
    assert played.http.asked("PUT", path) == [{**symbol, "maxLeverage": "5"}, symbol]
    with pytest.raises(UnsupportedOperation, match="leverage"):
        await played.venue.set_margin_mode(market, MarginMode.ISOLATED, played.credentials)
    for symbol_ in (INVERSE, OPTION):
        with pytest.raises(UnsupportedOperation):
            await played.venue.set_leverage(await played.market(symbol_), Decimal(5), played.credentials)
    with pytest.raises(UnsupportedOperation):
        await played.venue.set_leverage(await played.market(BTC), Decimal(5), played.credentials)


async def test_fees_of_derivatives_are_asked_of_spot(played: Any) -> None:
    rates = {"fee": "0.0500"}
    played.http.spot("TradeVolume", {"fees": {"PF_ETHUSD": rates}, "fees_maker": {"PF_ETHUSD": {"fee": "0.02"}}})
    (fees,) = await played.venue.get_fees(await played.market(LINEAR), played.credentials)
    assert (fees.taker, fees.maker) == (Decimal("0.0005"), Decimal("0.0002"))
    (sent,) = played.http.asked("POST", "/0/private/TradeVolume")
    assert sent["pair"] == [{"asset": "PF_ETHUSD", "aclass": "derivatives"}]


async def test_pages_of_spot_fills_are_read_until_the_end(played: Any) -> None:
    def page(params: Any) -> Any:
        start = int(params.get("ofs", 0))
        rows = {
            f"T{number}": {
                "ordertxid": "OA",
                "pair": "XXBTZUSD" if number % 2 else "XETHZUSD",
                "time": 1_700_000_000 - number,
                "type": "buy",
                "price": "100.0",
                "vol": "0.5",
                "fee": "0.1",
                "maker": False,
            }
            for number in range(start, min(start + 50, 120))
        }
        return {"error": [], "result": {"trades": rows}}

    played.http.spot("TradesHistory", page)
    market = await played.market(BTC)
    since = 1_699_999_000_000
    fills = await played.venue.list_fills(market, since, None, played.credentials)
    assert len(fills) == 60
    assert [fill.time for fill in fills] == sorted(fill.time for fill in fills)
    asked = played.http.asked("POST", "/0/private/TradesHistory")
    assert [one.get("ofs") for one in asked] == [None, "50", "100"]
    assert {one["consolidate_taker"] for one in asked} == {"false"}
    played.http.answer("GET", "/derivatives/api/v3/fills", {"result": "success", "fills": []})
    newest = await played.venue.list_fills(None, None, 3, played.credentials)
    assert [fill.id for fill in newest] == ["T2", "T1", "T0"]


async def test_spot_has_no_order_without_its_key_s_permission(played: Any) -> None:
    played.http.refuse("OpenOrders", "EGeneral:Permission denied")
    with pytest.raises(VenueError, match="Permission denied"):
        await played.venue.list_orders(await played.market(BTC), played.credentials)


def test_settings_refuse_what_the_venue_would_refuse() -> None:
    with pytest.raises(ValueError, match="recv_window_ms"):
        KrakenSettings(recv_window_ms=1000)
    beta = KrakenSettings(environment="beta")
    assert beta.hosts.spot_stream == "wss://beta-ws.kraken.com"
    assert beta.hosts.spot_rest == "https://api.kraken.com"


async def test_what_each_product_offers_can_be_read(played: Any) -> None:
    offered = type(played.venue).offers()
    assert "set_leverage" in offered["derivatives"]
    assert "set_leverage" not in offered["spot"]
    assert "set_position_mode" not in offered["derivatives"]
    for product in ("spot", "derivatives"):
        assert {"place_order", "place_orders", "cancel_orders", "amend_order", "stream_account"} <= set(
            offered[product]
        )
    assert decode_command(b"{}").send_status is None
    assert TimeInForce.GTD in TimeInForce
