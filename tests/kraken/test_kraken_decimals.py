"""Prices and quantities travel as the very decimals that were given: out in requests, back in answers and events."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra.models.markets import ContractType, Market
from astra.models.orders import OrderRequest
from astra.rest import encoded
from astra.symbols import AssetType
from astra_kraken.feed.accounts import Execution
from astra_kraken.feed.derivatives_accounts import OrderRow
from astra_kraken.markets import SpotPairs
from astra_kraken.settings import DERIVATIVES, SPOT
from astra_kraken.trading.derivatives import DerivativesTrading
from astra_kraken.trading.derivatives_rows import decode_open_orders, decode_status
from astra_kraken.trading.spot import SpotTrading
from astra_kraken.trading.spot_rows import decode_open, decode_order

EXPONENTS = st.integers(-10, 3)
DIGITS = st.integers(1, 10**15)


@st.composite
def amounts(draw: st.DrawFn) -> Decimal:
    """Of all magnitudes: from 1e-10 to 1e18, in any notation."""
    return Decimal(draw(DIGITS)).scaleb(draw(EXPONENTS))


def market(product: str) -> Market:
    contract: dict[str, Any] = {}
    if product == DERIVATIVES:
        contract = {"contract_size": Decimal(1), "contract_type": ContractType.LINEAR}
    return Market(
        symbol="KRAKEN-SPOT-A-USD" if product == SPOT else "KRAKEN-PERP-A-USD",
        asset_type=AssetType.SPOT if product == SPOT else AssetType.PERP,
        base_asset="A",
        quote_asset="USD",
        native_symbol="A/USD" if product == SPOT else "PF_AUSD",
        product=product,
        **contract,
    )


class Rest:
    exchange = "KRAKEN"
    product = SPOT


FAMILIES: dict[str, Any] = {
    SPOT: SpotTrading(Rest(), None).bind(SpotPairs()),  # type: ignore[arg-type]
    DERIVATIVES: DerivativesTrading(Rest(), None),  # type: ignore[arg-type]
}
NAMES = {SPOT: ("price", "volume"), DERIVATIVES: ("limitPrice", "size")}


@pytest.mark.parametrize("product", [SPOT, DERIVATIVES])
@given(price=amounts(), quantity=amounts())
def test_orders_leave_with_their_decimals_and_without_exponents(
    product: str, price: Decimal, quantity: Decimal
) -> None:
    size = {"quantity": quantity} if product == SPOT else {"contracts": quantity}
    order = OrderRequest.model_validate({"side": "BUY", "price": price, "client_order_id": "a", **size})
    sent = dict(parse_qsl(encoded(FAMILIES[product].order_params(market(product), order))))
    for name, value in zip(NAMES[product], (price, quantity), strict=True):
        assert Decimal(sent[name]) == value
        assert "E" not in sent[name].upper()


@given(price=amounts(), quantity=amounts())
def test_rest_s_answers_are_read_without_a_float(price: Decimal, quantity: Decimal) -> None:
    """Spot writes numbers as texts, derivatives as JSON's numbers (with exponents, if need be) or as texts."""
    row = {
        "status": "open",
        "opentm": 1.5,
        "descr": {"pair": "AUSD", "type": "buy", "ordertype": "limit", "price": str(price), "price2": "0"},
        "vol": format(quantity, "f"),
        "vol_exec": "0",
        "price": "0",
    }
    listed_row = decode_open(json.dumps({"open": {"O": row}}).encode()).open["O"]
    spot = decode_order(listed_row).order("O", market(SPOT))
    assert (spot.price, spot.quantity) == (price, quantity)
    listed = (
        '{"openOrders": [{"order_id": "u", "symbol": "PF_AUSD", "side": "buy", "orderType": "lmt", "filledSize": 0,'
        f'"limitPrice": {price}, "unfilledSize": {quantity}}}]}}'
    )
    (found,) = decode_open_orders(listed.encode()).open_orders
    order = found.order(market(DERIVATIVES))
    assert (order.price, order.contracts) == (price, quantity)
    looked_up = {"order": {"symbol": "PF_AUSD", "side": "buy", "limitPrice": str(price), "quantity": str(quantity)}}
    (status,) = decode_status(json.dumps({"orders": [looked_up | {"status": "ENTERED_BOOK"}]}).encode()).orders
    assert (status.order.limit_price, status.order.quantity) == (price, quantity)


@given(price=amounts(), quantity=amounts())
def test_events_are_read_without_a_float(price: Decimal, quantity: Decimal) -> None:
    text = f'{{"order_id": "O", "exec_type": "new", "side": "buy", "limit_price": {price}, "order_qty": {quantity}}}'
    entry = msgspec.json.decode(text, type=Execution)
    assert (entry.limit_price, entry.order_qty) == (price, quantity)
    text = (
        '{"instrument": "PF_AUSD", "order_id": "u", "time": 1, "last_update_time": 1, "type": "limit", "direction": 0,'
        f'"filled": 0.0, "limit_price": {price}, "qty": {quantity}}}'
    )
    row = msgspec.json.decode(text, type=OrderRow)
    assert (row.limit_price, row.qty) == (price, quantity)
