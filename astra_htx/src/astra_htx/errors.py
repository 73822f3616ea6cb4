"""HTX's error answers as `astra.errors`.

Business errors come with HTTP status 200, in three shapes: `err-code` (spot), `err_code` (derivatives) and `code` (spot
v2, V5, v3). Source: API documentation, the "Error code" sections.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

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

EXCHANGE = "HUOBI"
OK = frozenset({"", "0", "200"})
"""Codes of answers that are none."""
WINDOWS_S: Mapping[bool, float] = {True: 2.0, False: 3.0}
"""Is it spot? -> how long its windows are, where a refusal for too many requests does not say when they end."""
_STALE = Meaning(AuthenticationError, retryable=True)


SPOT_CODES: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "api-signature-not-valid api-signature-check-failed login-required 1003"),
    (
        Meaning(PermissionDenied),
        "1002 2000 base-operation-forbidden sub-user-auth-required api-not-support-temp-addr",
    ),
    (
        Meaning(InsufficientFunds),
        "account-frozen-balance-insufficient-error order-accountbalance-error dw-insufficient-balance",
    ),
    (
        Meaning(InvalidOrder),
        "order-invalid-price order-amount-over-limit order-holding-limit-failed order-type-invalid "
        "order-stop-order-hit-trigger parameter-required invalid-amount "
        "market-orders-not-support-during-limit-price-trading order-user-cancel-forbidden 2002 3002-3010 3100",
    ),
    (Meaning(InvalidOrder, rule="min-quantity"), "o-amount-min-error order-limitorder-amount-min-error"),
    (Meaning(InvalidOrder, rule="max-quantity"), "order-limitorder-amount-max-error"),
    (Meaning(InvalidOrder, rule="min-notional"), "order-value-min-error"),
    (Meaning(InvalidOrder, rule="tick-size"), "order-orderprice-precision-error"),
    (Meaning(InvalidOrder, rule="lot-size"), "order-orderamount-precision-error"),
    (
        Meaning(OrderNotFound),
        "not-found base-not-found order-queryorder-invalid base-record-invalid order-orderstate-error",
    ),
    (Meaning(DuplicateClientOrderId), "invalid-client-order-id"),
    (Meaning(MarketNotFound), "base-symbol-error require-symbol"),
    (Meaning(RateLimited), "base-request-exceed-frequency-limit rate-too-many-requests frequent-invoke 510 1006 429"),
    (Meaning(RateLimited), "40403"),
    (
        Meaning(VenueUnavailable),
        "system-maintenance gateway-internal-error order-disabled cancel-disabled base-symbol-trade-disabled "
        "forbidden-trade-for-open-protect",
    ),
    (
        Meaning(VenueUnavailable, lost=True),
        "timeout base-request-timeout base-system-error order-update-error 500",
    ),
)
SPOT_PATTERNS: Sequence[tuple[str, Meaning]] = (
    ("operation-forbidden-for-*", Meaning(PermissionDenied)),
    ("order-limitorder-price-*", Meaning(InvalidOrder, rule="price-range")),
    ("order-etp-nav-price-*", Meaning(InvalidOrder, rule="price-range")),
    ("order-limitorder-*", Meaning(InvalidOrder)),
    ("order-marketorder-*", Meaning(InvalidOrder)),
    ("validation-*", Meaning(InvalidOrder)),
)
"""Codes that are families."""

CONTRACT_CODES: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "403 1253 12001-12004 12006-12009 1200"),
    (
        Meaning(PermissionDenied),
        "12005 1100-1106 1109-1115 1205 1220 1224 1227 1231 1510 4002-4005 4007 50001-50004",
    ),
    (Meaning(InsufficientFunds), "1047 1048 1055 1075 1090-1093 1301"),
    (
        Meaning(InvalidOrder),
        "1030 1033-1037 1042-1046 1049 1052 1065-1067 1069 1072 1094 1233-1235 1331 1348 1349 1405-1412 1461-1465 "
        "1490-1500",
    ),
    (Meaning(InvalidOrder, rule="tick-size"), "1038"),
    (Meaning(InvalidOrder, rule="price-range"), "1039"),
    (Meaning(InvalidOrder, rule="lot-size"), "1040"),
    (Meaning(InvalidOrder, rule="max-quantity"), "1041"),
    (Meaning(OrderNotFound), "1017 1051 1061 1063 1071"),
    (Meaning(DuplicateClientOrderId), "1050 1064"),
    (Meaning(MarketNotFound), "1013 1014 1332"),
    (Meaning(RateLimited), "1032 1084 1004"),
    (Meaning(VenueUnavailable), "1001 1056-1060 1077-1080 1431"),
    (Meaning(VenueUnavailable, lost=True), "1000 1002 1003 1005 1108"),
)
SOCKET_CODES: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "2001-2003 2013"),
    (Meaning(RateLimited), "2004 2030"),
    (Meaning(PermissionDenied), "2007"),
    (Meaning(MarketNotFound), "2011"),
    (Meaning(VenueUnavailable), "1006"),
)
"""`err-code` of the derivatives' private sockets."""
SPOT_SOCKET_CODES: Mapping[str, Meaning] = code_table(
    (Meaning(RateLimited), "429 4000"),
    (Meaning(PermissionDenied), "2000"),
    (Meaning(AuthenticationError), "2002"),
    (Meaning(VenueUnavailable), "100 500 2003"),
)
"""`code` of the spot account's socket."""


class _Envelope(msgspec.Struct):
    """Whatever shape an answer has. Codes are numbers or texts; no type is demanded of any field, so that an odd one
    does not hide what the others say."""

    status: Any = None
    success: Any = None
    code: Any = None
    spot_code: Any = msgspec.field(default=None, name="err-code")
    contract_code: Any = msgspec.field(default=None, name="err_code")
    message: Any = None
    msg: Any = None
    spot_text: Any = msgspec.field(default=None, name="err-msg")
    contract_text: Any = msgspec.field(default=None, name="err_msg")

    @property
    def error(self) -> str:
        """The code, "" for none."""
        given = (str(one) for one in (self.spot_code, self.contract_code, self.code) if one is not None)
        found = next((code for code in given if code not in OK), "")
        if not found and self.status in ("error", "maintain"):
            return str(self.status)
        return found or ("error" if self.success is False else "")

    @property
    def text(self) -> str:
        return next((str(one) for one in (self.spot_text, self.contract_text, self.message, self.msg) if one), "")

    @property
    def is_positive(self) -> bool:
        return not self.error and (self.status == "ok" or str(self.code) == "200")


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def accepted(body: bytes) -> None:
    """Decode the answer to what sets something and tells nothing: it has to say that it was carried out. Raises
    `msgspec.DecodeError` for anything else, a proxy's page for example."""
    if not _decode_envelope(body).is_positive:
        raise msgspec.ValidationError("it does not say that it was carried out")


def spot_meaning(code: str, text: str) -> Meaning | None:
    """What a code of the spot API means. Some are told apart by their text only."""
    folded = text.lower()
    if code == "api-signature-not-valid":
        if "no permission" in folded:
            return Meaning(PermissionDenied)
        if "submission time" in folded or "time format" in folded:
            return _STALE
    if code in ("invalid-parameter", "bad-request"):
        if "request limit" in folded or "too many request" in folded:
            return Meaning(RateLimited)
        if "symbol" in folded:
            return Meaning(VenueUnavailable if "not open" in folded else MarketNotFound)
    known = SPOT_CODES.get(code)
    if known is None:
        known = next((meaning for pattern, meaning in SPOT_PATTERNS if fnmatch.fnmatchcase(code, pattern)), None)
    return known


def contract_meaning(code: str, text: str) -> Meaning | None:
    """What a code of the derivatives API means."""
    if code == "403" and "submission time" in text.lower():
        return _STALE
    return CONTRACT_CODES.get(code)


def meaning_of(code: str, text: str, *, spot: bool) -> Meaning | None:
    if code == "maintain":
        return Meaning(VenueUnavailable)
    return spot_meaning(code, text) if spot else contract_meaning(code, text)


def row_error(code: str | int, text: str, *, spot: bool) -> Exception:
    """The error of one order of several (`AnswerLost`: it may have been carried out)."""
    failure = Failure(EXCHANGE, text or f"code {code}", code=str(code), command=True)
    return failure.raised_as(meaning_of(str(code), text, spot=spot) or Meaning(VenueError))


def interpret(request: Request, response: Response, *, spot: bool, now_ms: int) -> Exception | None:
    """The error of an answer, or None."""
    try:
        envelope = _decode_envelope(response.body)
    except msgspec.DecodeError:
        if response.status < 400:
            return None  # whoever asked for it says that it has another shape
        envelope = _Envelope()
    code = envelope.error
    if response.status < 400 and not code:
        return None
    known = meaning_of(code, envelope.text, spot=spot) if code else None
    if known is None and response.status < 400:
        known = Meaning(VenueError)
    message = envelope.text or f"HTTP status {response.status}, code {code or 'none'}"
    if code == CANCELS_TOO_MUCH:
        message += f" ({RECOVERY}: {response.headers.get(RECOVERY, 'not said')} ms; cancels still work)"
    limited = (known or by_status(response.status)).error is RateLimited and code not in OTHERS_GO_ON
    failure = Failure(
        exchange=EXCHANGE,
        message=message,
        code=code or None,
        status=response.status,
        command=request.command,
        retry_after=retry_after_s(response.headers, spot=spot, now_ms=now_ms) if limited else None,
    )
    return failure.raised_as(known)


CANCELS_TOO_MUCH = "1084"
"""Nearly all of thousands of orders were canceled at once: no new ones for some minutes."""
OTHERS_GO_ON = frozenset({CANCELS_TOO_MUCH, "1004"})
"""Refusals that concern the one request (or orders alone): everything else need not wait."""
RECOVERY = "recovery-time"
_RESET_HEADERS: Mapping[bool, str] = {True: "x-hb-ratelimit-requests-expire", False: "ratelimit-reset"}


def retry_after_s(headers: Mapping[str, str], *, spot: bool, now_ms: int) -> float:
    """When a limit is over. The header has a moment by the venue's clock, in ms."""
    text = headers.get(_RESET_HEADERS[spot], "")
    left_ms = int(text) - now_ms if text.isdecimal() else 0
    return min(left_ms / 1000, 60.0) if left_ms > 0 else WINDOWS_S[spot]
