"""KuCoin's error answers as `astra.errors`.

An answer is judged by its `code`; most errors travel with HTTP 200. The same code means different things on spot and on
futures. Codes 400100 and 100001 stand for any bad parameter: there the message decides. Source: docs-new, "Error Code".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

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
from astra.net.http import AnswerLost, Request, Response
from astra.rest import Failure, Meaning, by_status, code_table
from astra_kucoin.settings import FUTURES, SPOT

SUCCESS: Final = "200000"
STALE_TIMESTAMP: Final = "400002"
"""Refused on arrival: once more after measuring the clock."""
RESET_HEADER: Final = "gw-ratelimit-reset"
"""Milliseconds until the window of the pool is over."""
BLOCKED: Final = "1015"
"""Cloudflare's number for an address that asks too often, on a page or as a code."""
_WAIT_S: Mapping[str, float] = {
    BLOCKED: 30.0,
    "200002": 10.0,
    "429000": 1.0,  # without that header: the system is overloaded, not the pool
}
"""Blocks whose length is known and not said."""
_NAMES_BLOCKED: Final = re.compile(rb"\b1015\b")


_COMMON: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "400001 400003 400004 400005"),
    (Meaning(AuthenticationError, retryable=True), STALE_TIMESTAMP),
    (
        Meaning(PermissionDenied),
        "400006 400007 400200 400303 400500 40010 411100 112010 126005 126047 126048 101030",
    ),
    (Meaning(InsufficientFunds), "126013 130105 130203"),
    (Meaning(InvalidOrder), "400100 400413 116241 126042"),
    (Meaning(DuplicateClientOrderId), "300018 102426 126044"),
    (Meaning(OrderNotFound), "order_not_exist 102436 126043 100004"),
    (Meaning(MarketNotFound), "900001 400600 404000 415000"),
    (Meaning(RateLimited), "429000 1015"),
    (Meaning(VenueUnavailable, lost=True), "500000 230005 503 408000"),
    (Meaning(VenueError), "404 401000"),
)
_SPOT: Mapping[str, Meaning] = code_table(
    (Meaning(PermissionDenied), "200009"),
    (Meaning(InsufficientFunds), "200004 102421 210021 230003 260100"),
    (Meaning(InvalidOrder, rule="price-range"), "400370 400760 400330 102429"),
    (Meaning(InvalidOrder, rule="lot-size"), "600100 102434"),
    (Meaning(InvalidOrder, rule="min-notional"), "600101 102435"),
    (Meaning(InvalidOrder, rule="max-orders"), "102427 200003"),
    (Meaning(InvalidOrder), "400350"),
    (Meaning(VenueError, retryable=True), "102428"),
    (Meaning(VenueUnavailable), "200001 200002 600203"),
)
_FUTURES: Mapping[str, Meaning] = code_table(
    (Meaning(InsufficientFunds), "300003 200005 330008"),
    (Meaning(InvalidOrder), "300000 300007 300011 300012 300016 330005 330012 300009 100001 300005 300014"),
    (Meaning(InvalidOrder, rule="max-orders"), "300001 300004"),
    (Meaning(MarketNotFound), "200003 100003"),
    (Meaning(VenueUnavailable), "300002 300015"),
    (Meaning(RateLimited), "200002"),
)
CODES: Mapping[str, Mapping[str, Meaning]] = {SPOT: {**_COMMON, **_SPOT}, FUTURES: {**_COMMON, **_FUTURES}}
_OF_COMMANDS: Mapping[str, Meaning] = code_table((Meaning(InvalidOrder), "102411 102425 400400"))
"""Bad parameters: of an order, they make it an invalid one."""
_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("order_not_exist", Meaning(OrderNotFound)),
    ("order not exist", Meaning(OrderNotFound)),
    ("ordernotexist", Meaning(OrderNotFound)),
    ("clientoidduplicated", Meaning(DuplicateClientOrderId)),
    ("clientoid has been used", Meaning(DuplicateClientOrderId)),
    ("clientoid repeated", Meaning(DuplicateClientOrderId)),
    ("unsupported trading pair", Meaning(MarketNotFound)),
    ("symbol not exists", Meaning(MarketNotFound)),
    ("balance insufficient", Meaning(InsufficientFunds)),
    ("insufficient balance", Meaning(InsufficientFunds)),
    ("order funds should more", Meaning(InvalidOrder, rule="min-notional")),
)
"""Parts of messages (in small letters) where the code says no more than that something is wrong."""
_RULES: tuple[tuple[str, str], ...] = (
    ("price increment", "tick-size"),
    ("tick size", "tick-size"),
    ("size increment", "lot-size"),
    ("lot", "lot-size"),
    ("minimum", "min-quantity"),
    ("maximum", "max-quantity"),
    ("price", "price-range"),
    ("size", "lot-size"),
    ("quantity", "lot-size"),
)
"""The same, for the rule that an invalid order breaks where its code names none; the first that fits holds."""
_BY_WORDS = frozenset({"400100", "100001"})


class _Envelope(msgspec.Struct):
    code: str
    msg: str = ""


_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode


def meaning_of(code: str, message: str, product: str, *, command: bool) -> Meaning | None:
    """What a code means on the product's host."""
    if code in _BY_WORDS:
        found = by_words(message)
        if found is not None:
            return found
    known = CODES[product].get(code)
    if known is None and command:
        known = _OF_COMMANDS.get(code)
    if known is not None and known.error is InvalidOrder and known.rule is None:
        return Meaning(InvalidOrder, rule=_rule(message))
    return known


def _rule(message: str) -> str | None:
    folded = message.lower()
    return next((rule for words, rule in _RULES if words in folded), None)


def by_words(message: str) -> Meaning | None:
    """What a message says that comes without a telling code."""
    folded = message.lower()
    return next((meaning for words, meaning in _WORDS if words in folded), None)


def refusal(exchange: str, product: str, code: str | None, message: str) -> Exception:
    """The error of one order of a batch (`AnswerLost`: it may have been carried out). Without a code the message
    decides."""
    known = by_words(message) if code is None else meaning_of(code, message, product, command=True)
    if known is None:
        known = Meaning(InvalidOrder, rule=_rule(message)) if code is None else Meaning(VenueError)
    return Failure(exchange, message or f"code {code}", code=code, command=True).raised_as(known)


def interpret(exchange: str, product: str, request: Request, response: Response) -> Exception | None:
    """The error of an answer, or None."""
    try:
        envelope = _decode_envelope(response.body)
    except msgspec.DecodeError:
        return _wordless(exchange, request, response)
    if envelope.code == SUCCESS and response.status < 400:
        return None
    known = meaning_of(envelope.code, envelope.msg, product, command=request.command)
    if known is None and response.status < 400:
        known = Meaning(VenueError)
    if request.command and response.status >= 500:
        known = Meaning(VenueUnavailable, lost=True)  # whatever the code: nobody says that it was not carried out
    limited = (known or by_status(response.status)).error is RateLimited
    failure = Failure(
        exchange=exchange,
        message=envelope.msg or f"HTTP status {response.status}, code {envelope.code}",
        code=envelope.code,
        status=response.status,
        command=request.command,
        retry_after=_wait_s(envelope.code, response) if limited else None,
    )
    return failure.raised_as(known)


def _wordless(exchange: str, request: Request, response: Response) -> Exception:
    """An answer that is not the venue's JSON: a proxy's page, or Cloudflare's "error code: 1015"."""
    message = f"HTTP status {response.status}, and no JSON"
    if response.status < 400:
        return AnswerLost(message) if request.command else VenueUnavailable(message, exchange=exchange)
    limited = by_status(response.status).error is RateLimited
    code = BLOCKED if limited and _NAMES_BLOCKED.search(response.body) else None
    return Failure(
        exchange,
        message,
        code=code,
        status=response.status,
        command=request.command,
        retry_after=_wait_s(code, response) if limited else None,
    ).raised_as(None)


def _wait_s(code: str | None, response: Response) -> float | None:
    """How long the limit lasts; None where nothing says so but perhaps `Retry-After`."""
    told = response.headers.get(RESET_HEADER, "")
    if told.isascii() and told.isdigit():
        return int(told) / 1000
    return None if code is None else _WAIT_S.get(code)
