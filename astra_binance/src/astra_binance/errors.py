"""Binance's error answers as `astra.errors`.

An answer is judged by its text first, then by its code, then by its HTTP status. Codes mean different things in the
API families (-2021, -2022, -4087, -1128, -1008 ...), so every row names the families it holds for. Sources:
binance-spot-api-docs errors.md, the "Error Code" pages of the derivatives documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

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
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import AnswerLost, Interpret, Request, Response
from astra_binance.settings import COINM, OPTIONS, PRODUCTS, SPOT, USDM

FUTURES = (USDM, COINM)
DERIVATIVES = (USDM, COINM, OPTIONS)
STALE_TIMESTAMP = frozenset({"-1021", "-5028", "-4188"})
"""The time stamp was refused, on arrival or at the engine: not executed; once more after measuring the clock."""
NO_CHANGE_NEEDED = frozenset({"-4046", "-4059"})
"""Margin mode or position mode is already the one asked for."""
LIMITED = frozenset({429, 418})
"""Too many requests, and banned for going on."""
UNSAID_PAUSE_S: Mapping[int, float] = {429: 5.0, 418: 60.0}
"""How long a limit lasts where the venue does not say."""
FIREWALL_PAUSE_S = 300.0
"""A 403 of the firewall names no time; going on leads to longer bans."""


class Row(msgspec.Struct, frozen=True):
    """What some codes mean in some families. `lost`: the outcome of a command is unknown then."""

    error: type[VenueError]
    codes: frozenset[int]
    families: tuple[str, ...] = PRODUCTS
    rule: str | None = None
    commands_only: bool = False
    lost: bool = False


def _row(error: type[VenueError], *codes: int | range, **more: object) -> Row:
    flat = frozenset(n for code in codes for n in (code if isinstance(code, range) else (code,)))
    return msgspec.structs.replace(Row(error, flat), **more)


TEXTS: tuple[tuple[str, type[VenueError], str | None], ...] = (
    ("this action is disabled on this account", PermissionDenied, None),
    ("this account may not place or cancel orders", PermissionDenied, None),
    ("this symbol is not permitted for this account", PermissionDenied, None),
    ("this symbol is restricted for this account", PermissionDenied, None),
    ("insufficient balance", InsufficientFunds, None),
    ("balance is insufficient", InsufficientFunds, None),
    ("order would immediately match and take", InvalidOrder, "post-only"),
    ("duplicate order sent", DuplicateClientOrderId, None),
    ("unknown order sent", OrderNotFound, None),
    ("market is closed", VenueUnavailable, None),
)
"""What the codes of `TEXT_CODES` mean by their text; with any other text they are an `InvalidOrder`."""
TEXT_CODES = frozenset({-2010, -2011, -1010, -1013, -2038})

FILTER_RULES: Mapping[str, str] = {
    "PRICE_FILTER": "tick-size",
    "PERCENT_PRICE": "price-range",
    "PERCENT_PRICE_BY_SIDE": "price-range",
    "LOT_SIZE": "lot-size",
    "MARKET_LOT_SIZE": "lot-size",
    "MIN_NOTIONAL": "min-notional",
    "NOTIONAL": "min-notional",
    "MAX_NUM_ORDERS": "max-orders",
    "MAX_NUM_ALGO_ORDERS": "max-orders",
    "MAX_POSITION": "max-position",
}
"""The venue's filters ("Filter failure: LOT_SIZE") by the names that `InvalidOrder.rule` uses."""

CODES: tuple[Row, ...] = (
    _row(AuthenticationError, -1022, -2014, -2008, -1099, -1002, -2015),
    _row(AuthenticationError, -1021),
    _row(AuthenticationError, -5028, families=(USDM,)),
    _row(AuthenticationError, -4188, families=(COINM,)),
    _row(AuthenticationError, -1125, families=DERIVATIVES),
    _row(PermissionDenied, -4087, families=(USDM,)),
    _row(PermissionDenied, -4088, range(-4403, -4399), -4192, families=FUTURES),
    _row(InsufficientFunds, -2018, -2019, -4050, -4051),
    _row(InsufficientFunds, -2027, families=(OPTIONS,)),
    _row(InvalidOrder, -1111, rule="precision"),
    _row(InvalidOrder, -5022, families=DERIVATIVES, rule="post-only"),
    _row(InvalidOrder, -5021, families=DERIVATIVES, rule="fok"),
    _row(InvalidOrder, -2021, families=FUTURES, rule="stop-would-trigger"),
    _row(InvalidOrder, -2022, families=FUTURES, rule="reduce-only"),
    _row(InvalidOrder, -2021, -2022),
    _row(InvalidOrder, -4164, rule="min-notional"),
    _row(InvalidOrder, -4131, rule="price-range"),
    _row(InvalidOrder, -4061, -4060, -4062, families=FUTURES, rule="position-side"),
    _row(InvalidOrder, -4120, families=FUTURES, rule="not-supported"),
    _row(InvalidOrder, -2026, families=FUTURES, rule="reduce-only"),
    _row(InvalidOrder, -4112, families=(COINM,), rule="reduce-only"),
    _row(VenueUnavailable, -1220, -4140, -4141, -4022),
    _row(InvalidOrder, -4014, families=FUTURES, rule="tick-size"),
    _row(InvalidOrder, -4023, families=FUTURES, rule="lot-size"),
    _row(InvalidOrder, -1014, range(-1119, -1113), range(-4025, -4000)),
    _row(InvalidOrder, range(-1106, -1099), -1130, commands_only=True),
    _row(InvalidOrder, -1108, families=(SPOT,), commands_only=True),
    _row(InvalidOrder, -1128, families=(SPOT, USDM, COINM), commands_only=True),
    _row(OrderNotFound, -2013, -2039),
    _row(OrderNotFound, -2026, families=(SPOT,)),
    _row(DuplicateClientOrderId, -4116, families=DERIVATIVES),
    _row(MarketNotFound, -1121, -1122, -4144),
    _row(MarketNotFound, -4087, families=(COINM,)),
    _row(MarketNotFound, -1128, families=(OPTIONS,)),
    _row(RateLimited, -1003, -1015, -1034),
    _row(RateLimited, -1008, families=(OPTIONS,)),
    _row(VenueUnavailable, -1007, -1006, -1001, lost=True),
    # Futures: overloaded, not executed. Spot says nothing of the kind.
    _row(VenueUnavailable, -1008, families=FUTURES),
    _row(VenueUnavailable, -1008, families=(SPOT,), lost=True),
    _row(VenueUnavailable, -1016, -1004, 239999, families=FUTURES),
    _row(UnsupportedOperation, -1020),
)


def _by_code(rows: Iterable[Row]) -> dict[tuple[str, int], tuple[Row, ...]]:
    found: dict[tuple[str, int], tuple[Row, ...]] = {}
    for row in rows:
        for key in ((family, code) for family in row.families for code in row.codes):
            found[key] = (*found.get(key, ()), row)
    return found


_CODES = _by_code(CODES)
_FILTER = re.compile(r"filter failure: (\w+)", re.IGNORECASE)
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_UNKNOWN_503 = "unknown error, please check your request or try again later"


class Failure(msgspec.Struct, frozen=True):
    """An error answer, taken apart. `code` 0: the answer had none. `command`: an order was to be placed or changed."""

    exchange: str
    family: str
    message: str
    code: int = 0
    status: int = 400
    command: bool = False
    retry_after: float | None = None


def error_of(failure: Failure) -> Exception:
    """The error to raise for a failure; `AnswerLost` where a command may have been carried out all the same."""
    if failure.code in TEXT_CODES:
        return _by_text(failure)
    if failure.status == 503 and _UNKNOWN_503 in failure.message.lower():
        return _lost_or(VenueUnavailable, failure)
    for row in _CODES.get((failure.family, failure.code), ()):
        if failure.command or not row.commands_only:
            return _lost_or(row.error, failure) if row.lost else _made(row.error, failure, row.rule)
    return _by_status(failure)


def _by_text(failure: Failure) -> Exception:
    message = failure.message.lower()
    for text, error, rule in TEXTS:
        if text in message:
            return _made(error, failure, rule)
    broken = _FILTER.search(failure.message)
    return _made(InvalidOrder, failure, FILTER_RULES.get(broken[1].upper()) if broken else None)


def _by_status(failure: Failure) -> Exception:
    status = failure.status
    if status in LIMITED:
        return _made(RateLimited, failure)
    if status == 403 and not failure.code:
        return _made(RateLimited, msgspec.structs.replace(failure, retry_after=failure.retry_after or FIREWALL_PAUSE_S))
    if status == 451:
        return _made(PermissionDenied, failure)
    if status == 401:
        return _made(AuthenticationError, failure)
    if status == 408 or status >= 500:
        return _lost_or(VenueUnavailable, failure)
    return _made(VenueError, failure)


def _lost_or(error: type[VenueError], failure: Failure) -> Exception:
    if failure.command:
        return AnswerLost(failure.message, code=_code(failure))
    return _made(error, failure)


def _code(failure: Failure) -> str | None:
    return str(failure.code) if failure.code else None


def _made(error: type[VenueError], failure: Failure, rule: str | None = None) -> VenueError:
    code = _code(failure)
    if issubclass(error, InvalidOrder):
        return error(failure.message, exchange=failure.exchange, code=code, rule=rule)
    return error(
        failure.message,
        exchange=failure.exchange,
        code=code,
        retry_after=failure.retry_after,
        retryable=True if code in STALE_TIMESTAMP else None,
    )


class ErrorBody(msgspec.Struct):
    """`{"code": -1121, "msg": "Invalid symbol."}`; the code may come as text."""

    code: int | str = 0
    msg: str = ""

    @property
    def number(self) -> int:
        try:
            return int(self.code)
        except ValueError:
            return 0

    @property
    def is_error(self) -> bool:
        """Codes 200 and 0, as number or text, are success."""
        return self.number not in (0, 200)


_decode_body = msgspec.json.Decoder(ErrorBody).decode


def interpreter(exchange: str, family: str, now_ms: Callable[[], int]) -> Interpret:
    """How the answers of one API family are judged. `now_ms`: venue time, for bans that end at a time."""

    def interpret(request: Request, response: Response) -> Exception | None:
        if response.status < 400 and not response.body.startswith(b'{"code"'):
            return None
        try:
            body = _decode_body(response.body)
        except msgspec.DecodeError:
            body = ErrorBody()
        if response.status < 400 and not body.is_error:
            return None
        return error_of(
            Failure(
                exchange=exchange,
                family=family,
                message=body.msg or f"HTTP status {response.status}",
                code=body.number if body.is_error else 0,
                status=response.status,
                command=request.command and "order" in request.path.lower(),
                retry_after=_retry_after(response, body.msg, now_ms),
            )
        )

    return interpret


def _retry_after(response: Response, message: str, now_ms: Callable[[], int]) -> float | None:
    """Seconds until the venue listens again: the header's, or until the time that the text of a ban names."""
    header = response.headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        return float(header)
    until_ms = banned_until(message)
    return None if until_ms is None else max(0.0, (until_ms - now_ms()) / 1000)


def banned_until(message: str) -> int | None:
    """The time (ms) that the text of a ban names."""
    banned = _BANNED_UNTIL.search(message)
    return int(banned[1]) if banned else None
