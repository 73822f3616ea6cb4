"""The engine's refusals in the words of each API. The same code means different things on spot and futures."""

from __future__ import annotations

from astra.sandbox import Reject
from astra_kucoin.sandbox.catalogue import unknown_symbol
from astra_kucoin.sandbox.wire import SPOT, Refusal

PARAMETER = {"spot": "400100", "futures": "100001", "unified": "400100"}
"""The code for bad parameters, by API."""

_SPOT = {
    "insufficient-funds": ("200004", "Balance insufficient!"),
    "duplicate-client-order-id": ("102426", "The order clientOid has been used"),
    "market-closed": ("200001", "Order creation for this pair suspended"),
    "tick-size": ("400100", "Price increment invalid."),
    "lot-size": ("600100", "Order size increment invalid."),
    "min-quantity": ("600100", "Order size below the minimum requirement."),
    "max-quantity": ("600100", "Order size above the maximum."),
    "min-notional": ("600101", "The order funds should more then {funds}."),
}
_FUTURES = {
    "insufficient-funds": ("300003", "Balance insufficient. Please deposit and try again."),
    "duplicate-client-order-id": ("300018", "clientOid repeated"),
    "market-closed": ("300002", "Trading of the contract is suspended."),
    "tick-size": ("300000", "The price is not a multiple of the tick size, or outside the limits."),
    "lot-size": ("300000", "The size is not a multiple of the lot size."),
    "min-quantity": ("300000", "The size is below one lot."),
    "max-quantity": ("300000", "The size is above the maximum of the contract."),
    "reduce-only": ("300009", "No open positions to close."),
}


def refusal_of(reject: Reject, product: str, funds: str = "") -> Refusal:
    """What the product's back end answers when the engine refuses; `funds`: the market's minimum, as text."""
    if reject.rule == "order-not-found":
        return no_such_order(product)
    if reject.rule == "market-not-found":
        return unknown_symbol(product)
    words = _SPOT if product == SPOT else _FUTURES
    code, message = words.get(reject.rule, (PARAMETER[product], f"The order is not valid: {reject}"))
    return Refusal(code, message.format(funds=funds))


def no_such_order(product: str) -> Refusal:
    """Looked for."""
    if product == SPOT:
        return Refusal("400100", "order_not_exist")
    return Refusal("100001", "error.getOrder.orderNotExist")


def not_cancelable(product: str) -> Refusal:
    """To be cancelled: on spot, done orders and those that never were look alike."""
    if product == SPOT:
        return Refusal("400100", "order_not_exist_or_not_allow_to_cancel")
    return Refusal("100004", "Order is in not cancelable state")
