"""The international gateway: orders in its words and units, log-ins, contracts converted by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import UnsupportedOperation, VenueError
from astra.models.markets import ContractType, Market
from astra.models.orders import OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.models.trades import Side
from astra.symbols import AssetType
from astra_coinbase.rest import number
from astra_coinbase.trading.advanced import decode_order as decode_advanced
from astra_coinbase.trading.advanced_rows import Kinds, OrderRow
from astra_coinbase.trading.international import decode_order as decode_gateway

pytestmark = pytest.mark.anyio
SPOT, PERP = "COINBASE-SPOT-BTC-USD", "COINBASE-PERP-BTC-USD-BIP"
LINEAR, INVERSE = "COINBASE-PERP-AAVE-USDC", "COINBASE-PERP-BTC-USD-COINM"
OPTION = "COINBASE-OPT-ETH-USD-270625-5500-P-COINM"


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


STOP = {"type": "STOP_LIMIT", "stop_price": "51000"}
AT_MARKET = {"type": "MARKET", "price": None}


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


async def test_a_label_that_a_conditional_order_had_makes_none_of_a_later_order(played: Any) -> None:
    """Labels may be used again, as after a stop that was refused or is done."""
    market = await played.market(LINEAR)
    waiting = rpc_order(order_id="USDC-SLTS-1", order_type="stop_limit", order_state="cancelled", trigger_price=80.0)
    played.reply("get_order_state", waiting)
    seen = await played.venue.get_order(market, OrderRef(id="USDC-SLTS-1"), played.credentials)
    assert seen.type is OrderType.STOP_LIMIT
    played.reply("buy", {"order": rpc_order(), "trades": []})
    placed = await played.venue.place_order(market, limit(price="90.5"), played.credentials)
    assert placed.type is OrderType.LIMIT


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
    row = {"order_id": "1", "product_id": "BTC-USD", "side": "BUY", "status": "OPEN"}
    body = json.dumps({"order": {**row, "order_configuration": {"limit_limit_gtc": members}}}).encode()
    order = decode_advanced(body).order.order(spot)
    assert (order.quantity, order.price) == (size, price)
    perpetual = spot.model_copy(update={"contract_size": Decimal("0.01"), "contract_type": ContractType.LINEAR})
    for form in (f"{size:f}", f"{size:e}"):
        named = json.dumps(rpc_order(price=0))[:-1]
        text = f'{{"result": {named}, "amount": {form}, "price": {price:e}}}}}'
        order = decode_gateway(text.encode()).result.order(perpetual, Kinds())
        assert (order.quantity, order.price) == (size, price)


# -- fills -------------------------------------------------------------------------------------------------------------


def trade(number: int, time: int, **fields: Any) -> dict[str, Any]:
    base = {
        "trade_id": str(number),
        "instrument_name": "AAVE_USDC-PERPETUAL",
        "direction": "buy",
        "price": 100.0,
        "amount": 0.5,
        "timestamp": time,
        "order_id": "17",
        "fee": 0.0,
        "fee_currency": "USDC",
    }
    return base | fields


class Fills(msgspec.Struct):
    """The own trades of USDC at the gateway, oldest first."""

    trades: list[dict[str, Any]]

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        first, last = params.get("start_timestamp", 0), params.get("end_timestamp", 2**63)
        found = [row for row in self.trades if first <= row["timestamp"] <= last and params["currency"] == "USDC"]
        if params["sorting"] == "desc":
            found.reverse()
        return {"trades": found[: params["count"]], "has_more": len(found) > params["count"]}


def play_fills(played: Any, *trades: dict[str, Any]) -> None:
    fills = Fills([*trades])
    for name in ("get_user_trades_by_currency", "get_user_trades_by_currency_and_time"):
        played.work(name, fills)


async def test_fills_behind_one_of_an_unlisted_market_are_told(played: Any) -> None:
    """A full page of which a row is left out is full all the same."""
    since = played.clock.wall_ns() // 1_000_000 - 3_600_000
    trades = [trade(number, since + number) for number in range(1500)]
    trades[10]["instrument_name"] = "BTC_USDC"
    play_fills(played, *trades)
    fills = await played.venue.international.fills(None, since, None, played.credentials)
    assert [int(fill.id) for fill in fills] == [number for number in range(1500) if number != 10]
    assert [int(fill.id) for fill in await played.venue.international.fills(None, since, 11, played.credentials)] == [
        *range(10),
        11,
    ]


async def test_the_newest_fills_of_the_gateway_are_counted_without_those_of_unlisted_markets(played: Any) -> None:
    since = played.clock.wall_ns() // 1_000_000 - 3_600_000
    trades = [trade(number, since + number) for number in range(2500)]
    for row in trades[2000:]:
        row["instrument_name"] = "BTC_USDC"
    play_fills(played, *trades)
    for limit, first in ((3, 1997), (1100, 900), (5000, 0)):
        fills = await played.venue.international.fills(None, None, limit, played.credentials)
        assert [int(fill.id) for fill in fills] == [*range(first, 2000)]


async def test_more_fills_of_one_millisecond_than_a_page_holds_are_not_passed_over(played: Any) -> None:
    since = played.clock.wall_ns() // 1_000_000 - 3_600_000
    play_fills(played, *(trade(number, since) for number in range(1001)))
    for asked in ((since, None), (None, 1001)):
        with pytest.raises(VenueError, match="more than 1000 fills in one millisecond"):
            await played.venue.international.fills(None, *asked, played.credentials)


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
