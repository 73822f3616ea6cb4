"""OKX's error answers as `astra.errors`.

An answer is judged by its `code`, then (codes 1 and 2, and 0 for algo orders) by the `sCode` of its rows, then by its
HTTP status. Source: docs-v5, "Error code".
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
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import Request, Response
from astra.rest import Failure, Meaning, by_status, code_table

WINDOW_S = 2.0
"""The venue's windows: a refusal for too many requests names no time."""
STALE_TIMESTAMP = "50102"
"""Refused on arrival: once more after measuring the clock."""
NOT_FINAL = frozenset({"", "0", "1", "2"})
"""Codes of answers whose rows say what happened."""
ALREADY_CANCELING = "51410"
"""The cancel is under way already: accepted."""


CODES: Mapping[str, Meaning] = code_table(
    (Meaning(AuthenticationError), "50101 50103-50107 50111-50114 50119 60004-60007 60009 60011 60024 60032 4001 4007"),
    (Meaning(AuthenticationError, retryable=True), STALE_TIMESTAMP),
    (
        Meaning(PermissionDenied),
        "50027-50030 50035 50051 50052 50059 50060 50100 50110 50118 50120 50121 50007 50012 51009 51010 51024 51155 "
        "59113 4088 64003",
    ),
    (Meaning(InsufficientFunds), "51008 51119 51127 51131 51502 51736 58350 59200"),
    (Meaning(DuplicateClientOrderId), "51016 50071"),
    (Meaning(OrderNotFound), "51400-51402 51503 51509 51510 51603 51405"),
    (Meaning(MarketNotFound), "51001 51002 51012 51014 51015 51026 60018"),
    (Meaning(InvalidOrder), "51000 51003-51007 51011 51047 51100-51112 51115-51118 51122 51124 51174"),
    (Meaning(InvalidOrder), "51201-51205 51500 54051 54084 54085 50072 51021-51023 51027-51031"),
    (Meaning(InvalidOrder, rule="min-quantity"), "51020 51120"),
    (Meaning(InvalidOrder, rule="lot-size"), "51121"),
    (Meaning(InvalidOrder, rule="price-range"), "51046 51135-51138"),
    (Meaning(InvalidOrder, rule="post-only"), "51511"),
    (Meaning(InvalidOrder, rule="max-orders"), "51025"),
    (Meaning(InvalidOrder, rule="expire-time"), "50036 50037"),
    (Meaning(RateLimited), "50011 50040 50061 51113 58102 60014 60023"),
    (Meaning(VenueUnavailable), "50001 50005 50013 50026 50046 50062 64007 64008 63999 4005 4006"),
    (Meaning(VenueUnavailable, lost=True), "50004 51149"),
    (Meaning(UnsupportedOperation), "50038 50053"),
    (
        Meaning(VenueError),
        "50000 50002 50006 50014-50016 50024 50025 50115 60012 60013 60019 60027 60028 60031 60033 64000-64002 64004",
    ),
)


PARAMETER_ERROR = "51000"
PARAMETER_RULES: Mapping[str, str] = {"parameter px ": "tick-size", "parameter sz ": "lot-size"}
"""Which rule of the market a parameter error breaks, by the beginning of its text."""


class Row(msgspec.Struct, rename={"code": "sCode", "message": "sMsg"}):
    """A row of an answer: what became of one order."""

    code: str = "0"
    message: str = ""

    @property
    def refused(self) -> bool:
        return self.code not in ("", "0", ALREADY_CANCELING)


class _Envelope(msgspec.Struct):
    code: str = "0"
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_rows = msgspec.json.Decoder(list[Row]).decode
MANY_ROWS = frozenset(
    f"/api/v5/trade/{name}" for name in ("batch-orders", "amend-batch-orders", "cancel-batch-orders", "cancel-algos")
)
"""Requests for several orders: each row is judged for itself by whoever asked."""


def meaning_of(code: str, message: str, *, command: bool) -> Meaning | None:
    """What a code means; unlisted 51xxx of a command are refusals of the order."""
    known = CODES.get(code)
    if code == PARAMETER_ERROR:
        rules = (rule for text, rule in PARAMETER_RULES.items() if message.lower().startswith(text))
        return Meaning(InvalidOrder, rule=next(rules, None))
    if known is None and command and code.startswith("51"):
        return Meaning(InvalidOrder)
    return known


def row_error(exchange: str, row: Row) -> Exception:
    """The error of one order of a batch (`AnswerLost`: it may have been carried out)."""
    failure = Failure(exchange, row.message or f"code {row.code}", code=row.code, command=True)
    return failure.raised_as(meaning_of(row.code, row.message, command=True) or Meaning(VenueError))


def interpret(exchange: str, request: Request, response: Response) -> Exception | None:
    """The error of an answer, or None."""
    try:
        envelope = _decode_envelope(response.body)
    except msgspec.DecodeError:
        if response.status < 400:
            return None  # whoever asked for it says that it has another shape
        envelope = _Envelope(code="", msg=f"HTTP status {response.status}")
    code, message = envelope.code, envelope.msg
    if code in NOT_FINAL and request.method == "POST" and request.path not in MANY_ROWS:
        row = _first_refused(envelope.data)
        if row is not None:
            code, message = row.code, row.message or message
    if response.status < 400 and code in NOT_FINAL:
        return None
    known = meaning_of(code, message, command=request.command)
    if known is None and response.status < 400:
        known = Meaning(VenueError)
    if request.command and response.status >= 500:
        known = Meaning(VenueUnavailable, lost=True)  # whatever the code: nobody says that it was not carried out
    limited = (known or by_status(response.status)).error is RateLimited
    failure = Failure(
        exchange=exchange,
        message=message or f"HTTP status {response.status}, code {code}",
        code=None if code in NOT_FINAL else code,
        status=response.status,
        command=request.command,
        retry_after=WINDOW_S if limited else None,
    )
    return failure.raised_as(known)


def _first_refused(data: msgspec.Raw) -> Row | None:
    try:
        rows = _decode_rows(data)
    except msgspec.DecodeError:
        return None
    return next((row for row in rows if row.refused), None)
