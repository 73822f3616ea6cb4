"""The data model: what an order may say, and decimals that keep every digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from astra.models.accounts import Balance
from astra.models.base import decimal_text
from astra.models.markets import ContractType, Market, TickBand
from astra.models.orders import (
    Order,
    OrderChange,
    OrderOptions,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from astra.models.trades import Side
from astra.symbols import AssetType

DIGITS = "12345678901234567890.12345678901234567891"


def request(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": "BUY", "quantity": "1", "price": "10"} | fields)


def without_price(**fields: Any) -> OrderRequest:
    return request(price=None, **fields)


# --- what an order may say -----------------------------------------------------------------------------------------


def test_a_limit_order_is_the_default() -> None:
    order = request()
    assert (order.type, order.time_in_force, order.post_only, order.reduce_only) == (
        OrderType.LIMIT,
        None,
        False,
        False,
    )


@pytest.mark.parametrize("side", ["buy", "Buy", "BUY", Side.BUY])
def test_any_case_is_accepted_and_capitals_are_printed(side: Any) -> None:
    order = request(side=side, type="limit", time_in_force="gtc")
    assert order.side is Side.BUY
    assert order.time_in_force is TimeInForce.GTC
    assert '"side":"BUY"' in order.model_dump_json()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantity": None}, "exactly one of quantity, contracts, quoteQuantity"),
        ({"contracts": "1"}, "exactly one of quantity, contracts, quoteQuantity"),
        ({"price": None}, "a LIMIT order has a price"),
        ({"type": "MARKET"}, "a MARKET order has no price"),
        ({"type": "STOP_LIMIT"}, "a STOP_LIMIT order has a stopPrice"),
        ({"stop_price": "9"}, "a LIMIT order has no stopPrice"),
        ({"type": "STOP_MARKET", "price": None}, "a STOP_MARKET order has a stopPrice"),
        ({"quantity": None, "quote_quantity": "5"}, "quoteQuantity is for MARKET orders"),
        ({"time_in_force": "GTD"}, "expireTime goes with timeInForce GTD"),
        ({"expire_time": 1}, "expireTime goes with timeInForce GTD"),
        ({"post_only": True, "time_in_force": "IOC"}, "postOnly is for limit orders that may rest"),
        ({"post_only": True, "time_in_force": "FOK"}, "postOnly is for limit orders that may rest"),
        ({"post_only": True, "type": "MARKET", "price": None}, "postOnly is for limit orders"),
        ({"quantity": "0"}, "greater than 0"),
        ({"price": "-1"}, "greater than 0"),
        ({"quantity": "NaN"}, "finite"),
        ({"quantity": "Infinity"}, "finite"),
        ({"side": "LONG"}, "'BUY' or 'SELL'"),
        ({"leverage": 3}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        request(**fields)


def test_every_kind_of_order_can_be_said() -> None:
    assert without_price(type="MARKET").price is None
    assert without_price(type="MARKET", quantity=None, quote_quantity="50").quote_quantity == 50
    assert request(type="STOP_LIMIT", stop_price="9").type.is_conditional
    assert without_price(type="TAKE_PROFIT_MARKET", stop_price="9").type.is_conditional
    assert request(quantity=None, contracts="3").contracts == 3
    assert request(time_in_force="GTD", expire_time=1).expire_time == 1
    assert request(post_only=True, time_in_force="GTC").post_only


def test_an_order_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        request().price = Decimal(1)  # type: ignore[misc]


def test_references_and_changes_say_exactly_what_is_meant() -> None:
    for fields in ({}, {"id": "1", "client_order_id": "a"}):
        with pytest.raises(ValidationError, match="exactly one of id, clientOrderId"):
            OrderRef(**fields)
    with pytest.raises(ValidationError, match="give a new price, quantity or contracts"):
        OrderChange()
    with pytest.raises(ValidationError, match="only one of quantity, contracts"):
        OrderChange(quantity=Decimal(1), contracts=Decimal(1))


def test_a_venues_options_are_printed_whole() -> None:
    class Margin(OrderOptions):
        wallet_name: str

    order = request(options=Margin(wallet_name="isolated"))
    assert json.loads(order.model_dump_json())["options"] == {"walletName": "isolated"}


def test_states_of_orders() -> None:
    assert {status for status in OrderStatus if status.is_open} == {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED}
    assert not [status for status in OrderStatus if status.is_open and status.is_final]
    assert not OrderStatus.UNKNOWN.is_final


# --- decimals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1.0, float("nan")])
def test_a_float_is_refused_wherever_an_order_could_take_one(value: float) -> None:
    for fields in ({"quantity": value}, {"price": value}, {"contracts": value, "quantity": None}):
        with pytest.raises(ValidationError, match="a float has already lost digits"):
            request(**fields)
    with pytest.raises(ValidationError, match="a float has already lost digits"):
        Balance(asset="BTC", wallet="spot", total=value)


def test_twenty_digits_survive_the_way_in_and_out_of_json() -> None:
    body = f'{{"side":"buy","quantity":{DIGITS},"price":"{DIGITS}"}}'.encode()
    order = OrderRequest.model_validate(msgspec.json.Decoder(float_hook=Decimal).decode(body))
    assert order.quantity == order.price == Decimal(DIGITS)
    printed = json.loads(order.model_dump_json())
    assert printed["quantity"] == printed["price"] == DIGITS
    assert OrderRequest.model_validate_json(order.model_dump_json()) == order


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0).filter(lambda value: value > 0))
def test_any_decimal_survives_json(value: Decimal) -> None:
    order = request(quantity=value)
    assert OrderRequest.model_validate_json(order.model_dump_json()).quantity == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_are_written_plainly_and_exactly(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert not set(text) - set("-0123456789.")
    assert text != "-0"
    if "." in text:
        assert not text.endswith(("0", "."))


@pytest.mark.parametrize(
    ("value", "text"), [("0.10", "0.1"), ("1E+3", "1000"), ("1E-8", "0.00000001"), ("-0.0", "0"), ("100", "100")]
)
def test_decimals(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def test_names_are_snake_case_in_python_and_camel_case_in_json() -> None:
    order = Order(
        id="1",
        client_order_id="a",
        market="X-SPOT-A-B",
        side=Side.BUY,
        type=OrderType.LIMIT,
        status=OrderStatus.NEW,
        filled_quantity=Decimal("0.50"),
    )
    printed = json.loads(order.model_dump_json(exclude_none=True))
    assert printed["clientOrderId"] == "a"
    assert printed["filledQuantity"] == "0.5"
    assert Order.model_validate_json(order.model_dump_json()) == order


# --- markets -------------------------------------------------------------------------------------------------------


def market(**fields: Any) -> Market:
    return Market(
        **{
            "symbol": "X-PERP-BTC-USD",
            "asset_type": AssetType.PERP,
            "base_asset": "BTC",
            "quote_asset": "USD",
            "native_symbol": "BTCUSD",
            "product": "perp",
        }
        | fields
    )


def test_contracts_become_base_units_by_the_kind_of_contract() -> None:
    linear = market(contract_size="0.01", contract_type=ContractType.LINEAR)
    assert linear.base_quantity(Decimal(250), None) == Decimal("2.50")
    assert linear.contracts_of(Decimal("2.5")) == 250
    inverse = market(contract_size="100", contract_type=ContractType.INVERSE)
    assert inverse.base_quantity(Decimal(5), Decimal(50_000)) == Decimal("0.01")
    assert inverse.base_quantity(Decimal(5), None) is None
    with pytest.raises(ValueError, match="X-PERP-BTC-USD"):
        inverse.contracts_of(Decimal(1))
    assert market().base_quantity(Decimal(5), None) == 5


def test_the_tick_follows_the_price_where_there_are_bands() -> None:
    banded = market(
        tick_size="0.01",
        tick_bands=(
            TickBand(from_price=Decimal(0), tick_size=Decimal("0.01")),
            TickBand(from_price=Decimal(100), tick_size=Decimal("0.5")),
        ),
    )
    assert [banded.tick_at(Decimal(price)) for price in ("99.99", "100", "5000")] == [
        Decimal("0.01"),
        Decimal("0.5"),
        Decimal("0.5"),
    ]
    assert banded.floor_price(Decimal("100.49")) == 100
    assert market(tick_size="0.1").floor_price(Decimal("0.19")) == Decimal("0.1")
    assert market().floor_price(Decimal("0.19")) == Decimal("0.19")


def test_a_market_prints_the_documented_fields_and_keeps_the_venues_product_to_itself() -> None:
    printed = json.loads(market(tick_size="0.10").model_dump_json(exclude_none=True))
    assert printed == {
        "symbol": "X-PERP-BTC-USD",
        "assetType": "PERP",
        "baseAsset": "BTC",
        "quoteAsset": "USD",
        "nativeSymbol": "BTCUSD",
        "status": "ACTIVE",
        "tickSize": "0.1",
    }
    assert market().key == ("perp", "BTCUSD")
    assert market().exchange == "X"


def test_contracts_of_a_coin_margined_option_are_sized_in_coins() -> None:
    option = Market(
        symbol="OKX-OPT-BTC-USD-270326-90000-C-COINM",
        asset_type=AssetType.OPT,
        base_asset="BTC",
        quote_asset="USD",
        native_symbol="BTC-USD-270326-90000-C",
        product="option",
        contract_size=Decimal("0.01"),
        contract_type=ContractType.INVERSE,
    )
    assert option.is_coin_margined
    assert not option.is_inverse
    assert option.base_quantity(Decimal(7), Decimal("0.0525")) == Decimal("0.07")
    assert option.contracts_of(Decimal("0.07")) == 7
