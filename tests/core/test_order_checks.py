"""What is refused before it leaves, and why; the format of client order ids."""

from __future__ import annotations

import decimal
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.errors import InvalidOrder, Outcome
from astra.models.markets import ContractType, Market, MarketStatus, TickBand
from astra.models.orders import OrderChange, OrderRequest
from astra.symbols import AssetType
from astra.trading.checks import ClientIdRule, check_change, check_order, native_quantity


def market(**fields: Any) -> Market:
    given = {
        "symbol": "BINANCE-SPOT-BTC-USDT",
        "asset_type": AssetType.SPOT,
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "native_symbol": "BTCUSDT",
        "product": "spot",
    }
    return Market(**given | fields)


SPOT = market(
    tick_size="0.01",
    lot_size="0.00001",
    min_quantity="0.0001",
    max_quantity="9000",
    market_lot_size="0.001",
    market_max_quantity="100",
    min_price="0.01",
    max_price="1000000",
    min_notional="5",
    max_notional="9000000",
)
LINEAR = market(
    symbol="OKX-PERP-BTC-USDT",
    asset_type=AssetType.PERP,
    tick_size="0.1",
    lot_size="0.1",
    min_quantity="0.1",
    max_quantity="1000",
    contract_size="0.01",
    contract_type=ContractType.LINEAR,
)
INVERSE = market(
    symbol="BINANCE-PERP-BTC-USD-COINM",
    asset_type=AssetType.PERP,
    quote_asset="USD",
    tick_size="0.1",
    lot_size="1",
    min_quantity="1",
    max_quantity="1000",
    min_notional="200",
    contract_size="100",
    contract_type=ContractType.INVERSE,
)


def limit(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": "BUY", "type": "LIMIT", "price": "50000"} | fields)


def refusal(check: Any, *arguments: Any) -> InvalidOrder:
    with pytest.raises(InvalidOrder) as caught:
        check(*arguments)
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize(
    ("fields", "rule", "said"),
    [
        ({"quantity": "0.01", "price": "50000.005"}, "tick-size", ("50000.005", "0.01", "50000 or 50000.01")),
        ({"quantity": "0.01", "price": "0.001"}, "tick-size", ("is 0.01",)),
        ({"quantity": "6", "price": "1000000.01"}, "max-price", ("1000000.01", "1000000")),
        ({"quantity": "0.000015"}, "lot-size", ("0.000015", "0.00001", "0.00001 or 0.00002")),
        ({"quantity": "0.00009"}, "min-quantity", ("0.00009", "0.0001")),
        ({"quantity": "9000.1", "price": "1"}, "max-quantity", ("9000.1", "9000")),
        ({"quantity": "0.0001", "price": "49999.99"}, "min-notional", ("4.999999", "USDT", "5")),
        ({"quantity": "181"}, "max-notional", ("9050000", "9000000")),
        ({"contracts": "1"}, "contracts", ("quantity in BTC",)),
        ({"quantity": "1e50"}, "lot-size", ("digits",)),
        ({"quantity": "1", "price": "1e-50"}, "tick-size", ("digits",)),
        ({"quantity": "1e999999"}, "lot-size", ("digits",)),
    ],
)
def test_a_broken_rule_is_named_with_the_values_that_would_do(
    fields: dict[str, Any], rule: str, said: tuple[str, ...]
) -> None:
    error = refusal(check_order, SPOT, limit(**fields))
    assert error.rule == rule
    assert error.exchange == "BINANCE"
    for part in ("BINANCE-SPOT-BTC-USDT", *said):
        assert part in error.message


def test_an_order_below_the_lowest_price_is_refused() -> None:
    assert refusal(check_order, market(min_price="10"), limit(quantity="1", price="9")).rule == "min-price"


def test_a_good_order_passes_at_every_limit() -> None:
    check_order(SPOT, limit(quantity="0.0001", price="50000"))
    check_order(SPOT, limit(quantity="9000", price="1000"))
    check_order(SPOT, limit(quantity="0.00500", price="1000000.00"))
    check_order(market(), limit(quantity="1e-30"))


@pytest.mark.parametrize("status", [status for status in MarketStatus if status is not MarketStatus.ACTIVE])
def test_a_market_that_is_not_active_takes_no_orders(status: MarketStatus) -> None:
    assert refusal(check_order, market(status=status), limit(quantity="1")).rule == "market-closed"
    assert refusal(check_change, market(status=status), OrderChange(price="1")).rule == "market-closed"


def test_market_orders_keep_the_market_orders_rules_where_there_are_any() -> None:
    def order(quantity: str) -> OrderRequest:
        return OrderRequest(side="SELL", type="MARKET", quantity=quantity)

    check_order(SPOT, order("0.001"))
    check_order(SPOT, limit(quantity="101", price="1"))
    assert refusal(check_order, SPOT, order("0.0015")).rule == "lot-size"
    assert refusal(check_order, SPOT, order("101")).rule == "max-quantity"
    # A market lot size of 0 means that there is none.
    spot = SPOT.model_copy(update={"market_lot_size": Decimal(0)})
    check_order(spot, order("0.0015"))
    assert refusal(check_order, spot, order("0.00001")).rule == "min-quantity"


def test_amounts_in_quote_units_are_checked_by_value_only() -> None:
    check_order(SPOT, OrderRequest(side="BUY", type="MARKET", quote_quantity="5"))
    order = OrderRequest(side="BUY", type="MARKET", quote_quantity="4.99")
    assert refusal(check_order, SPOT, order).rule == "min-notional"
    assert refusal(native_quantity, SPOT, order).rule == "quote-quantity"


def test_an_order_that_only_reduces_may_be_small() -> None:
    check_order(SPOT, limit(quantity="0.0001", price="1", reduce_only=True))
    assert refusal(check_order, SPOT, limit(quantity="181", reduce_only=True)).rule == "max-notional"


def test_stop_prices_are_on_the_tick_too() -> None:
    order = OrderRequest(side="BUY", type="STOP_LIMIT", quantity="1", price="100", stop_price="99.999")
    error = refusal(check_order, SPOT, order)
    assert error.rule == "tick-size"
    assert "stopPrice 99.999" in error.message


def test_the_tick_is_that_of_the_prices_band() -> None:
    banded = market(
        tick_size="0.0001",
        tick_bands=(TickBand(from_price="0", tick_size="0.0001"), TickBand(from_price="1", tick_size="0.5")),
    )
    check_order(banded, limit(quantity="1", price="0.9999"))
    check_order(banded, limit(quantity="1", price="1.5"))
    assert refusal(check_order, banded, limit(quantity="1", price="1.25")).rule == "tick-size"


def test_linear_quantities_become_contracts_exactly() -> None:
    assert native_quantity(LINEAR, limit(quantity="1.234")) == Decimal("123.4")
    assert native_quantity(LINEAR, limit(contracts="123.4")) == Decimal("123.4")
    assert native_quantity(SPOT, limit(quantity="1.234")) == Decimal("1.234")
    check_order(LINEAR, limit(quantity="10"))
    assert refusal(check_order, LINEAR, limit(quantity="10.001")).rule == "max-quantity"
    assert refusal(check_order, LINEAR, limit(contracts="0.15")).rule == "lot-size"
    with pytest.raises(ValueError, match="price only"):
        native_quantity(LINEAR, OrderChange(price="1"))


def test_a_linear_quantity_between_contracts_names_the_step_and_its_neighbours() -> None:
    error = refusal(check_order, LINEAR, limit(quantity="0.0155"))
    assert error.rule == "lot-size"
    for part in ("0.0155", "0.001", "0.015 or 0.016", "0.1 contract", "0.01 BTC"):
        assert part in error.message
    assert "is 0.001" in refusal(check_order, LINEAR, limit(quantity="0.0005")).message


def test_contracts_of_a_size_that_does_not_divide_are_still_exact() -> None:
    thirds = LINEAR.model_copy(update={"contract_size": Decimal(3), "lot_size": None, "max_quantity": None})
    assert native_quantity(thirds, limit(quantity="3000000000000000000000000000003")) == Decimal(
        "1000000000000000000000000000001"
    )
    assert refusal(native_quantity, thirds, limit(quantity="1")).rule == "lot-size"


def test_inverse_markets_are_given_contracts() -> None:
    check_order(INVERSE, limit(contracts="2"))
    error = refusal(check_order, INVERSE, limit(quantity="1"))
    assert error.rule == "contracts"
    assert "100 USD" in error.message
    # Their value needs no price.
    at_market = OrderRequest(side="BUY", type="MARKET", contracts="1")
    assert refusal(check_order, INVERSE, at_market).rule == "min-notional"


def test_changes_are_checked_as_far_as_they_are_known() -> None:
    check_change(SPOT, OrderChange(price="0.02"))
    check_change(SPOT, OrderChange(quantity="0.0001"))
    check_change(LINEAR, OrderChange(quantity="0.001", price="0.1"))
    assert refusal(check_change, SPOT, OrderChange(price="0.015")).rule == "tick-size"
    assert refusal(check_change, SPOT, OrderChange(quantity="0.00009")).rule == "min-quantity"
    assert refusal(check_change, SPOT, OrderChange(quantity="1000", price="50000")).rule == "max-notional"
    assert refusal(check_change, INVERSE, OrderChange(quantity="1")).rule == "contracts"
    assert refusal(check_change, LINEAR, OrderChange(contracts="0.05")).rule == "lot-size"


def test_the_callers_decimal_context_changes_nothing() -> None:
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded])):
        check_order(SPOT, limit(quantity="0.12345", price="50000.01"))
        assert refusal(check_order, SPOT, limit(quantity="0.12345", price="50000.015")).rule == "tick-size"
        assert native_quantity(LINEAR, limit(quantity="12345.678")) == Decimal("1234567.8")


@given(
    steps=st.integers(1, 10**12), exponent=st.integers(-12, 3), step=st.integers(1, 999), off=st.integers(1, 10**6 - 1)
)
def test_exactly_the_multiples_of_a_step_pass(steps: int, exponent: int, step: int, off: int) -> None:
    tick = Decimal(step).scaleb(exponent)
    good = Decimal(steps * step).scaleb(exponent)
    bad = good + tick * off / 10**6
    check_order(market(tick_size=tick, lot_size=tick), limit(quantity=good, price=good))
    assert refusal(check_order, market(tick_size=tick), limit(quantity=good, price=bad)).rule == "tick-size"
    assert refusal(check_order, market(lot_size=tick), limit(quantity=bad, price=good)).rule == "lot-size"


BINANCE_IDS = ClientIdRule(max_length=36, alphabet=r".A-Z\:/a-z0-9_-")


@given(
    rule=st.one_of(
        st.builds(
            ClientIdRule,
            max_length=st.integers(8, 64),
            min_length=st.integers(1, 8),
            alphabet=st.sampled_from(["A-Za-z0-9_-", "0-9a-f", "A-Z0-9", "0-9", r".A-Z\:/a-z0-9_-", r"\x21-\x7e"]),
            prefix=st.sampled_from(["", "0", "07"]),
        ),
        st.builds(ClientIdRule, max_length=st.integers(6, 25), alphabet=st.just("0-9"), integer=st.just(True)),
    ),
    seed=st.integers(),
    now_ms=st.integers(0, 10**14),
)
def test_made_ids_keep_their_rule(rule: ClientIdRule, seed: int, now_ms: int) -> None:
    made = rule.make(random.Random(seed), now_ms)
    rule.check(made, "BINANCE")
    assert made.startswith(rule.prefix)


def test_made_ids_differ_within_a_millisecond_and_after_a_restart_with_the_same_seed() -> None:
    for rule in (BINANCE_IDS, ClientIdRule(max_length=18, alphabet="A-Za-z0-9"), ClientIdRule(19, "0-9", integer=True)):
        source = random.Random(1)
        made = [rule.make(source, 1_700_000_000_000) for _ in range(1000)]
        assert len(set(made)) == 1000
        again = random.Random(1)
        assert rule.make(again, 1_700_000_000_001) not in made


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (BINANCE_IDS, "x" * 37),
        (BINANCE_IDS, ""),
        (BINANCE_IDS, "naïve"),
        (BINANCE_IDS, "two words"),
        (BINANCE_IDS, "line\n"),
        (ClientIdRule(max_length=32, alphabet="A-Za-z0-9", min_length=3), "ab"),
        (ClientIdRule(max_length=19, alphabet="0-9", integer=True), "0"),
        (ClientIdRule(max_length=19, alphabet="0-9", integer=True), "007"),
        (ClientIdRule(max_length=19, alphabet="0-9", integer=True), "9223372036854775808"),
        (ClientIdRule(max_length=19, alphabet="0-9", integer=True), "１２３"),
        (ClientIdRule(max_length=6, alphabet="0-9", integer=True), "1000000"),
    ],
)
def test_an_id_in_another_format_is_refused_with_the_rule(rule: ClientIdRule, bad: str) -> None:
    error = refusal(rule.check, bad, "BINANCE")
    assert error.rule == "client-order-id"
    assert error.exchange == "BINANCE"
    assert ("from 1 to" if rule.integer else f"{rule.min_length} to {rule.max_length}") in error.message
