"""Kraken's error answers as `astra.errors`.

Spot answers with HTTP status 200 and a list of texts, `E<Category>:<text>[:<detail>]`, matched by their longest known
beginning; its streams say the same texts. Derivatives answer with a code, or with a status inside an answer that calls
itself a success. Sources: docs.kraken.com "General errors", "Futures error codes"; what the venue leaves open is the
caution of whoever sends orders: an unknown outcome is never called a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec

from astra.errors import (
    AuthenticationError,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    Pauses,
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import Request, Response
from astra.rest import Failure, Meaning

LOCKOUT_S = 900.0
"""A temporary lock-out ends after about 15 minutes."""
COUNTER_PAUSE_S = 5.0
"""Spot's counters do not say when there is room again."""
DERIVATIVES_PAUSE_S = 10.0

NO_REPEAT = frozenset({"/0/private/AddOrder", "/0/private/AddOrderBatch"})
"""Placements are not repeated, not even when the nonce was refused and nothing can have happened."""

_AUTHENTICATION = Meaning(AuthenticationError)
_STALE = Meaning(AuthenticationError, retryable=True)
_DENIED = Meaning(PermissionDenied)
_LIMITED = Meaning(RateLimited)
_KEY_LIMITED = Meaning(RateLimited, pauses=Pauses.ACCOUNT)
"""The counter, or the lock-out, is the API key's: other accounts and public data go on."""
_PAIR_LIMITED = Meaning(RateLimited, pauses=Pauses.NOBODY)
"""The counter is that of one pair of one account, and cancels are taken all the same."""
_FUNDS = Meaning(InsufficientFunds)
_INVALID = Meaning(InvalidOrder)
_NO_ORDER = Meaning(OrderNotFound)
_NO_MARKET = Meaning(MarketNotFound)
_DOWN = Meaning(VenueUnavailable)
_LOST = Meaning(VenueUnavailable, lost=True)
_OTHER = Meaning(VenueError)
_UNPROVEN = Meaning(VenueError, lost=True)

SPOT: Mapping[str, Meaning] = {
    "EAPI:Invalid key": _AUTHENTICATION,
    "EAPI:Invalid signature": _AUTHENTICATION,
    "EAPI:Invalid nonce": _STALE,
    "EAPI:Invalid token": _STALE,
    "ESession:Invalid session": _STALE,
    "EAuth:": _AUTHENTICATION,
    "EAuth:Account temporary disabled": _DENIED,
    "EAuth:Rate limit exceeded": _KEY_LIMITED,
    "EAuth:Too many requests": _KEY_LIMITED,
    "EGeneral:Permission denied": _DENIED,
    "EAPI:Permission denied": _DENIED,
    "EAccount:Invalid permissions": _DENIED,
    "ETrade:User Locked": _DENIED,
    "EGeneral:Temporary lockout": _KEY_LIMITED,
    "EAPI:Rate limit exceeded": _KEY_LIMITED,
    "EOrder:Rate limit exceeded": _PAIR_LIMITED,
    "EOrder:Domain rate limit exceeded": _PAIR_LIMITED,
    "EGeneral:Too many requests": _LIMITED,
    "EService:Throttled": _LIMITED,
    "EOrder:Insufficient funds": _FUNDS,
    "EOrder:Insufficient margin": _FUNDS,
    "EOrder:Margin allowance exceeded": _FUNDS,
    "EOrder:Margin level too low": _FUNDS,
    "EFunding:Invalid amount": _FUNDS,
    "EOrder:Order minimum not met": Meaning(InvalidOrder, "min-quantity"),
    "EOrder:Cost minimum not met": Meaning(InvalidOrder, "min-notional"),
    "EOrder:Tick size check failed": Meaning(InvalidOrder, "tick-size"),
    "EOrder:Invalid price": Meaning(InvalidOrder, "tick-size"),
    "EOrder:Post only order": Meaning(InvalidOrder, "post-only"),
    "EOrder:Reduce only": Meaning(InvalidOrder, "reduce-only"),
    "EOrder:Orders limit exceeded": Meaning(InvalidOrder, "open-orders"),
    "EOrder:Positions limit exceeded": Meaning(InvalidOrder, "position-limit"),
    "EOrder:Margin position size exceeded": Meaning(InvalidOrder, "position-limit"),
    "EGeneral:Invalid arguments": _INVALID,
    "EGeneral:Invalid arguments:cl_ord_id": Meaning(InvalidOrder, "client-order-id"),
    "ETrade:Invalid request": _INVALID,
    "EOrder:Unknown order": _NO_ORDER,
    "EOrder:Invalid order": _NO_ORDER,
    "EQuery:Unknown asset pair": _NO_MARKET,
    "EQuery:Invalid asset pair": _NO_MARKET,
    "EQuery:Unknown asset": _NO_MARKET,
    "Currency pair not supported": _NO_MARKET,
    "EService:Unavailable": _LOST,
    "EService:Busy": _DOWN,
    "EService:Market in cancel_only mode": _DOWN,
    "EService:Market in post_only mode": _DOWN,
    "EService:Market in limit_only mode": _DOWN,
    "EGeneral:Internal error": _LOST,
    "EDatabase:": _LOST,
    "EService:Deadline elapsed": _OTHER,
    "EService:Timeout": _LOST,
}
"""Beginnings of Spot's texts. A deadline that elapsed proves that the order was not placed."""

_DUPLICATE = re.compile(r"^EOrder:.*(cl_ord_id|client order id).*(duplicat|already|not unique|exist|in use)|"
                        r"^EOrder:.*(duplicat|already exist).*(cl_ord_id|client order id)", re.IGNORECASE)  # fmt: skip
"""The venue does not publish the text that refuses a client order id in use."""
_BY_LENGTH = sorted(SPOT, key=len, reverse=True)

DERIVATIVES: Mapping[str, Meaning] = {
    "authenticationError": _AUTHENTICATION,
    "nonceBelowThreshold": _STALE,
    "nonceDuplicate": _STALE,
    "accountInactive": _AUTHENTICATION,
    "invalidAccount": _AUTHENTICATION,
    "apiLimitExceeded": _KEY_LIMITED,
    "insufficientFunds": _FUNDS,
    "insufficientAvailableFunds": _FUNDS,
    "INSUFFICIENT_MARGIN": _FUNDS,
    "wouldCauseLiquidation": _FUNDS,
    "contractNotFound": _NO_MARKET,
    "Invalid product id": _NO_MARKET,
    "clientOrderIdAlreadyExist": Meaning(DuplicateClientOrderId),
    "clientOrderIdTooLong": Meaning(InvalidOrder, "client-order-id"),
    "notFound": _NO_ORDER,
    "orderForEditNotFound": _NO_ORDER,
    "filled": _NO_ORDER,
    "requiredArgumentMissing": _INVALID,
    "invalidArgument": _INVALID,
    "invalidUnit": _INVALID,
    "invalidAmount": _INVALID,
    "invalidSize": Meaning(InvalidOrder, "lot-size"),
    "invalidPrice": Meaning(InvalidOrder, "tick-size"),
    "postWouldExecute": Meaning(InvalidOrder, "post-only"),
    "wouldNotReducePosition": Meaning(InvalidOrder, "reduce-only"),
    "maxPositionViolation": Meaning(InvalidOrder, "position-limit"),
    "outsidePriceCollar": Meaning(InvalidOrder, "price-band"),
    "tooManySmallOrders": Meaning(InvalidOrder, "open-orders"),
    "marketUnavailable": _DOWN,
    "marketSuspended": _DOWN,
    "marketInactive": _DOWN,
    "unavailable": _LOST,
    "Unavailable": _LOST,
    "Server Error": _LOST,
    "unknownError": _UNPROVEN,
    "Json Parse Error": _UNPROVEN,
}
"""Codes of the derivatives API and statuses of refused orders; every other status of an order is `InvalidOrder`."""


class Kind(StrEnum):
    """What a command does, which decides what the status in its answer means."""

    SEND = "SEND"
    EDIT = "EDIT"
    CANCEL = "CANCEL"


ACCEPTED: Mapping[Kind, frozenset[str]] = {
    Kind.SEND: frozenset({"placed", "partiallyFilled", "filled", "cancelled"}),
    Kind.EDIT: frozenset({"edited"}),
    Kind.CANCEL: frozenset({"cancelled", "noOrdersToCancel"}),
}
"""Statuses inside an answer that say that a command was carried out. An order that is sent and "cancelled" was taken
and has ended; what was filled of it before shows in the events."""
TOO_LATE = "filled"
"""The status of a cancel that came after the fill."""
_OTHERWISE = frozenset({"attempted", "success"}).union(*ACCEPTED.values())
"""Statuses that sound like success. Where they do not answer the command they prove neither that it was carried out nor
that it was not."""


def spot_meaning(text: str) -> Meaning | None:
    """What one of Spot's texts means; None for one that is not known."""
    if _DUPLICATE.search(text):
        return Meaning(DuplicateClientOrderId)
    known = next((beginning for beginning in _BY_LENGTH if text.startswith(beginning)), None)
    return None if known is None else SPOT[known]


def spot_error(
    exchange: str, text: str, *, command: bool, now_ms: int, status: int = 200, repeatable: bool = True
) -> Exception:
    """The error that one of Spot's texts stands for (`AnswerLost` where a command may have been carried out)."""
    meaning = spot_meaning(text)
    if meaning is not None and meaning.retryable and not repeatable:
        meaning = msgspec.structs.replace(meaning, retryable=None)
    if meaning is None and status < 400:
        meaning = _OTHER
    failure = Failure(
        exchange,
        text,
        code=text or None,
        status=status,
        command=command,
        retry_after=_retry_after(text, now_ms) if meaning is not None and meaning.error is RateLimited else None,
    )
    return failure.raised_as(meaning)


def _retry_after(text: str, now_ms: int) -> float:
    if text.startswith("EGeneral:Temporary lockout"):
        return LOCKOUT_S
    until = text.rpartition(":")[2].strip()
    if text.startswith("EService:Throttled") and until.isascii() and until.isdigit():
        return max(0.0, int(until) - now_ms / 1000)
    return COUNTER_PAUSE_S


class SpotAnswer(msgspec.Struct):
    """The envelope of Spot's answers. Texts that begin with W are warnings."""

    error: list[str] = []

    @property
    def failure(self) -> str | None:
        return next((text for text in self.error if not text.startswith("W")), None)


_decode_spot = msgspec.json.Decoder(SpotAnswer).decode


def spot_interpreter(exchange: str, now_ms: Callable[[], int]) -> Callable[[Request, Response], Exception | None]:
    """How the answers of Spot are judged. `now_ms`: venue time, for throttling that ends at a time."""

    def interpret(request: Request, response: Response) -> Exception | None:
        try:
            failure = _decode_spot(response.body).failure
        except msgspec.DecodeError:
            if response.status < 400:
                raise  # a firewall's page: what became of a command is not known
            failure = f"HTTP status {response.status}"
        if failure is None and response.status < 400:
            return None
        return spot_error(
            exchange,
            failure or f"HTTP status {response.status}",
            command=request.command,
            now_ms=now_ms(),
            status=response.status,
            repeatable=request.path not in NO_REPEAT,
        )

    return interpret


class _Status(msgspec.Struct):
    status: str = ""


class _NumberedError(msgspec.Struct):
    code: int = 0
    message: str = ""


class DerivativesAnswer(msgspec.Struct, rename="camel"):
    """The envelope of the derivatives' answers, as far as errors may stand in it."""

    result: str = ""
    error: str | None = None
    errors: list[_NumberedError] = []
    send_status: _Status | None = None
    cancel_status: _Status | None = None
    edit_status: _Status | None = None


_decode_derivatives = msgspec.json.Decoder(DerivativesAnswer).decode


def derivatives_meaning(code: str) -> Meaning | None:
    known = DERIVATIVES.get(code)
    if known is None and code.startswith("invalidArgument"):
        return _INVALID
    return known


def refused_status(exchange: str, status: str, kind: Kind, *, command: bool = True) -> Exception | None:
    """The error of an order's status inside an answer (`AnswerLost` where a command may have been carried out); None
    where the command was carried out."""
    if status in ACCEPTED[kind]:
        return None
    meaning = derivatives_meaning(status) or _INVALID
    if status in _OTHERWISE and not (status == TOO_LATE and kind is Kind.CANCEL):
        meaning = _UNPROVEN
    return Failure(exchange, f"the venue says: {status}", code=status, command=command).raised_as(meaning)


def derivatives_failure(exchange: str, answer: DerivativesAnswer, *, command: bool, status: int) -> Exception | None:
    """The error of an answer; None where there is none."""
    code = answer.error or next((one.message or str(one.code) for one in answer.errors), None)
    if code is None and status < 400 and answer.result != "error":
        nested = {Kind.SEND: answer.send_status, Kind.EDIT: answer.edit_status, Kind.CANCEL: answer.cancel_status}
        errors = (refused_status(exchange, one.status, kind, command=command) for kind, one in nested.items() if one)
        return next((error for error in errors if error is not None), None)
    code = code or f"HTTP status {status}"
    meaning = derivatives_meaning(code)
    if meaning is None and status < 500:
        meaning = _OTHER if status < 400 else None
    failure = Failure(
        exchange,
        code,
        code=code,
        status=status,
        command=command,
        retry_after=DERIVATIVES_PAUSE_S if code == "apiLimitExceeded" else None,
    )
    return failure.raised_as(meaning)


def derivatives_interpreter(exchange: str) -> Callable[[Request, Response], Exception | None]:
    """How the answers of the derivatives API are judged."""

    def interpret(request: Request, response: Response) -> Exception | None:
        try:
            answer = _decode_derivatives(response.body)
        except msgspec.DecodeError:
            if response.status < 400:
                raise
            answer = DerivativesAnswer(error=f"HTTP status {response.status}")
        return derivatives_failure(exchange, answer, command=request.command, status=response.status)

    return interpret
