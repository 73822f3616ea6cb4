"""The engine's refusals in the venue's words, and the mistakes that all order endpoints share."""

from __future__ import annotations

from astra.sandbox import Reject
from astra_htx.sandbox.wire import Family, Refusal

_SPOT: dict[str, tuple[str, str]] = {
    "insufficient-funds": (
        "account-frozen-balance-insufficient-error",
        "trade account balance is not enough, left: `0.0000`",
    ),
    "order-not-found": ("base-record-invalid", "record invalid"),
    "market-not-found": ("invalid-parameter", "invalid symbol"),
    "market-closed": ("base-symbol-trade-disabled", "Trading is disabled for the symbol."),
    "tick-size": ("order-orderprice-precision-error", "order price precision error"),
    "lot-size": ("order-orderamount-precision-error", "order amount precision error"),
    "min-quantity": ("order-limitorder-amount-min-error", "limit order amount error, less than the minimum"),
    "max-quantity": ("order-limitorder-amount-max-error", "limit order amount error, more than the maximum"),
    "min-notional": ("order-value-min-error", "The order value is below the minimum."),
    "stop-would-trigger": (
        "order-stop-order-hit-trigger",
        "Orders that are triggered immediately are not supported.",
    ),
    "not-supported": ("order-type-invalid", "The order type is invalid."),
    "invalid": ("invalid-amount", "Parameter `amount` or `price` is invalid."),
}
_CONTRACTS: dict[str, tuple[int, str]] = {
    "insufficient-funds": (1047, "Insufficient margin available."),
    "order-not-found": (1017, "Order doesnt exist."),
    "market-not-found": (1013, "This contract symbol doesnt exist."),
    "market-closed": (1059, "The contract is not open for trading. Please try again later."),
    "duplicate-client-order-id": (1050, "Customer's order number is repeated. Please try again later."),
    "tick-size": (1038, "The order price exceeds the precision limit."),
    "lot-size": (1040, "Incorrect order quantity."),
    "min-quantity": (1040, "Incorrect order quantity."),
    "max-quantity": (1041, "The order quantity exceeds the upper limit."),
    "min-notional": (1041, "The order value is out of bounds."),
    "reduce-only": (1048, "Insufficient close amount available."),
    "not-supported": (1030, "The input is not supported."),
    "invalid": (1030, "The input is invalid."),
}


def refusal_of(reject: Reject, family: Family) -> Refusal:
    """What the venue answers to the engine's refusal."""
    code: int | str
    if family is Family.SPOT:
        code, message = _SPOT.get(reject.rule, ("base-system-error", reject.rule))
    else:
        code, message = _CONTRACTS.get(reject.rule, (1000, reject.rule))
    detail = str(reject)
    if reject.rule in ("tick-size", "lot-size", "min-quantity", "max-quantity", "min-notional", "invalid"):
        message = f"{message} ({detail})"
    return Refusal(code, message)


def family_of_host(host: str, path: str) -> Family:
    """Whose codes an endpoint speaks."""
    if host == "spot_rest":
        return Family.SPOT
    if path.startswith(("/v5/", "/linear-swap")):
        return Family.LINEAR
    return Family.COIN_SWAP if path.startswith("/swap-") else Family.COIN_FUTURES
