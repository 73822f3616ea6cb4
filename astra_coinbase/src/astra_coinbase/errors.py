"""Coinbase's error answers as `astra.errors`: Advanced Trade's, and the gateway's JSON-RPC errors.

Advanced Trade refuses orders with HTTP 200 and `success` false; any of three reasons may be the real one. Its error
bodies have four shapes, and some are no JSON. Source: docs.cdp.coinbase.com, Advanced Trade and Global Derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from astra.errors import (
    AuthenticationError,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import Request, Response
from astra.rest import Failure, Meaning, by_status, code_table

PAUSE_S = 1.0
"""A refusal for too many requests names no time; limits are per second."""


REASONS: Mapping[str, Meaning] = code_table(
    (
        Meaning(InsufficientFunds),
        "INSUFFICIENT_FUND INSUFFICIENT_FUNDS PREVIEW_INSUFFICIENT_FUND PREVIEW_INSUFFICIENT_FUNDS "
        "INVALID_LEDGER_BALANCE",
    ),
    (
        Meaning(InvalidOrder, rule="post-only"),
        "INVALID_LIMIT_PRICE_POST_ONLY PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY PREVIEW_INVALID_LIMIT_PRICE_POSTONLY",
    ),
    (Meaning(InvalidOrder, rule="tick-size"), "INVALID_PRICE_PRECISION PREVIEW_INVALID_PRICE_PRECISION"),
    (Meaning(InvalidOrder, rule="lot-size"), "INVALID_SIZE_PRECISION PREVIEW_INVALID_SIZE_PRECISION"),
    (Meaning(InvalidOrder, rule="min-quantity"), "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
    (Meaning(InvalidOrder, rule="max-quantity"), "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE"),
    (Meaning(InvalidOrder, rule="min-notional"), "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL"),
    (Meaning(InvalidOrder, rule="max-notional"), "PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE"),
    (Meaning(InvalidOrder, rule="price-range"), "LIMIT_PRICE_TOO_FAR_FROM_MARKET"),
    (
        Meaning(InvalidOrder),
        "INVALID_LIMIT_PRICE INVALID_SIDE UNSUPPORTED_ORDER_CONFIGURATION INVALID_NO_LIQUIDITY INVALID_LEVERAGE "
        "INVALID_MARGIN_TYPE INVALID_EDITED_SIZE CANNOT_EDIT_TO_BELOW_FILLED_SIZE ONLY_LIMIT_ORDER_EDITS_SUPPORTED "
        "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE",
    ),
    (Meaning(MarketNotFound), "INVALID_PRODUCT_ID"),
    (
        Meaning(VenueUnavailable),
        "UNTRADABLE_PRODUCT INELIGIBLE_PAIR ORDER_ENTRY_DISABLED INVALID_FCM_TRADING_SESSION",
    ),
    (Meaning(PermissionDenied), "GEOFENCING_RESTRICTION PERMISSION_DENIED"),
    (Meaning(DuplicateClientOrderId), "DUPLICATE_CLIENT_ORDER_ID"),
    (Meaning(OrderNotFound), "UNKNOWN_CANCEL_ORDER ORDER_NOT_FOUND ORDER_IS_FULLY_FILLED"),
    (Meaning(AuthenticationError), "UNAUTHORIZED authentication_error invalid_token revoked_token expired_token"),
    (Meaning(RateLimited), "rate_limit_exceeded resource_exhausted RESOURCE_EXHAUSTED"),
)
"""Advanced Trade: what a reason or error word means; those that are not listed mean what their HTTP status says."""

TEXTS: Mapping[str, Meaning] = {
    "valid product_id is required": Meaning(MarketNotFound),
    "order with this orderid was not found": Meaning(OrderNotFound),
    "account is not available": Meaning(InsufficientFunds),
    "request timestamp expired": Meaning(AuthenticationError, retryable=True),
}
"""Advanced Trade: parts of messages (in small letters) that say more than the code beside them."""

CODES: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "10000 13004 13009"),
    (Meaning(PermissionDenied), "11042 13021 9999 10019 13002"),
    (Meaning(InsufficientFunds), "10009"),
    (Meaning(InvalidOrder, rule="post-only"), "11054"),
    (Meaning(InvalidOrder, rule="tick-size"), "10043"),
    (Meaning(InvalidOrder, rule="min-quantity"), "10002"),
    (Meaning(InvalidOrder, rule="lot-size"), "10021"),
    (Meaning(InvalidOrder), "10003 10005-10008 10011 10022-10027 10032 10034 10035 10044 11008 11030 14033"),
    (Meaning(OrderNotFound), "10004 10010 10029 11044"),
    (Meaning(MarketNotFound), "10020 13020"),
    (Meaning(RateLimited), "10028 10047"),
    (Meaning(VenueUnavailable), "10012 10040 10041 11051 13025"),
    (Meaning(VenueUnavailable, lost=True), "13888"),
    (Meaning(VenueError), "-32601 -32602 11029 11050 10001"),
)
"""The gateway's codes; others are `VenueError`."""


class _Refused(msgspec.Struct):
    """The reasons of an answer with `success` false."""

    error: str = ""
    message: str = ""
    error_details: str = ""
    preview_failure_reason: str = ""
    new_order_failure_reason: str = ""
    edit_order_failure_reason: str = ""
    edit_failure_reason: str = ""

    @property
    def reason(self) -> str:
        """The real reason: the one that is not UNKNOWN. A preview's is as good as an order's."""
        known = (
            reason
            for reason in (
                self.new_order_failure_reason,
                self.edit_order_failure_reason,
                self.edit_failure_reason,
                self.error,
                self.preview_failure_reason,
            )
            if (reason and not reason.startswith("UNKNOWN_")) or reason == "UNKNOWN_CANCEL_ORDER"
        )
        return next(known, "")


class _One(msgspec.Struct):
    id: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    success: bool | None = None
    error: str = ""
    message: str = ""
    error_details: str = ""
    failure_reason: str = ""
    error_response: _Refused | None = None
    errors: list[_One] | _Refused | None = None


class _RpcError(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def text(self) -> str:
        try:
            reason = _decode_reason(self.data).reason
        except msgspec.DecodeError:
            reason = ""
        return f"{self.message}: {reason}" if reason else self.message


class _Reason(msgspec.Struct):
    reason: str = ""


class _RpcBody(msgspec.Struct):
    error: _RpcError | None = None


_decode_reason = msgspec.json.Decoder(_Reason).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_rpc = msgspec.json.Decoder(_RpcBody).decode


def reason_meaning(reason: str, text: str) -> Meaning | None:
    """What a reason of Advanced Trade and the text beside it mean; all other reasons of previews concern the order."""
    folded = text.lower()
    by_text = next((meaning for part, meaning in TEXTS.items() if part in folded), None)
    if by_text is not None:
        return by_text
    known = REASONS.get(reason)
    return Meaning(InvalidOrder) if known is None and reason.startswith("PREVIEW_") else known


def cancel_error(exchange: str, reason: str) -> VenueError:
    """The error of one cancel of several that was refused."""
    kind = REASONS.get(reason, Meaning(VenueError)).error
    return kind(f"the order was not canceled: {reason}", exchange=exchange, code=reason)


def interpret_advanced(exchange: str, request: Request, response: Response) -> Exception | None:
    """The error of an answer of Advanced Trade, or None."""
    try:
        body = _decode_body(response.body)
    except msgspec.DecodeError:
        if response.status < 400:
            return None  # whoever asked for it says that it has another shape
        body = _Body(message=f"HTTP status {response.status}")
    if response.status < 400:
        return _refusal(exchange, request, body) if body.success is False else None
    first = body.errors[0] if isinstance(body.errors, list) and body.errors else _One()
    code = body.error or first.id
    message = body.message or body.error_details or first.message or f"HTTP status {response.status}, {code}"
    meaning = reason_meaning(code, message)
    if meaning is None and response.status < 500:
        meaning = _by_path(request, response.status)
    if response.status == 401 and not request.command:
        # Valid tokens are refused now and then: a read is tried once more, with a new one.
        meaning = Meaning(AuthenticationError, retryable=True)
    return _failure(exchange, request, response, message, code, meaning)


def _by_path(request: Request, status: int) -> Meaning | None:
    """An error that says nothing of its kind: by what was asked for."""
    if status == 404:
        return Meaning(OrderNotFound if "/orders/" in request.path else MarketNotFound)
    if status == 400 and request.command:
        return Meaning(InvalidOrder)
    return None


def _refusal(exchange: str, request: Request, body: _Body) -> Exception:
    refused = body.error_response or _Refused()
    reason, message = refused.reason, refused.error_details or refused.message
    if not reason and isinstance(body.errors, _Refused):
        reason = body.errors.reason
    if not reason and not body.failure_reason.startswith("UNKNOWN_"):
        reason = body.failure_reason
    failure = Failure(exchange, message or reason or "refused without a reason", code=reason or None, command=True)
    return failure.raised_as(reason_meaning(reason, message) or Meaning(VenueError))


def interpret_gateway(exchange: str, request: Request, response: Response) -> Exception | None:
    """The error of an answer of the gateway, or None."""
    try:
        error = _decode_rpc(response.body).error
    except msgspec.DecodeError:
        error = None
    if error is None:
        if response.status < 400:
            return None
        return _failure(exchange, request, response, f"HTTP status {response.status}", "", None)
    meaning = CODES.get(str(error.code), Meaning(VenueError))
    return _failure(exchange, request, response, error.text, str(error.code), meaning)


def _failure(
    exchange: str, request: Request, response: Response, message: str, code: str, meaning: Meaning | None
) -> Exception:
    if response.status >= 500:
        meaning = None  # whatever it says, a command may have been carried out
    limited = (meaning or by_status(response.status)).error is RateLimited
    failure = Failure(
        exchange=exchange,
        message=message,
        code=code or None,
        status=response.status,
        command=request.command,
        retry_after=PAUSE_S if limited else None,
    )
    return failure.raised_as(meaning)
