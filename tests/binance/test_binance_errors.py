"""Error answers become the errors that a caller can act on, family by family."""

from __future__ import annotations

import json
from typing import Any

import pytest

from astra.errors import (
    AuthenticationError,
    DuplicateClientOrderId,
    InsufficientFunds,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    Outcome,
    PermissionDenied,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import AnswerLost, Request, Response
from astra_binance.errors import CODES, interpreter
from astra_binance.settings import PRODUCTS

NOW_MS = 1_700_000_000_000
ORDER = Request("POST", "/fapi/v1/order", command=True)
READ = Request("GET", "/fapi/v1/order")
ALL = tuple(PRODUCTS)
FUT = ("usdm", "coinm")
DERIVATIVES = (*FUT, "options")


def judged(
    family: str,
    code: int | str | None = None,
    message: str = "",
    *,
    status: int = 400,
    request: Request = ORDER,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Exception | None:
    if body is None:
        body = json.dumps({"code": code, "msg": message}).encode()
    return interpreter("BINANCE", family, lambda: NOW_MS)(request, Response(status, headers or {}, body))


RECORDED: dict[str, type[VenueError]] = {
    "error-bad-key": AuthenticationError,
    "error-bad-signature": AuthenticationError,
    "error-timestamp": AuthenticationError,
    "error-duplicate-order": DuplicateClientOrderId,
    "error-filter-lot-size": InvalidOrder,
    "error-insufficient-balance": InsufficientFunds,
    "error-usdm-margin": InsufficientFunds,
    "error-invalid-symbol": MarketNotFound,
    "error-no-such-order": OrderNotFound,
    "error-unknown-order-cancel": OrderNotFound,
    "error-too-many-requests": RateLimited,
    "error-usdm-algo-only": InvalidOrder,
}


def test_every_recorded_error_is_the_right_class(recordings: Any) -> None:
    assert set(recordings.names("error-*")) == set(RECORDED)
    for name, expected in RECORDED.items():
        capture = recordings.rest(name)
        family = "usdm" if "fapi" in capture["request"]["url"] else "spot"
        path = capture["request"]["url"].partition(".com")[2]
        request = Request(capture["request"]["method"], path, command=capture["request"]["method"] != "GET")
        headers = {key.lower(): value for key, value in capture["meta"].get("response_headers", {}).items()}
        body = json.dumps(capture["body"]).encode()
        error = interpreter("BINANCE", family, lambda: NOW_MS)(request, Response(capture["status"], headers, body))
        assert type(error) is expected, name
        assert error.exchange == "BINANCE"
        assert error.code == str(capture["body"]["code"])
        assert error.message == capture["body"]["msg"]
        assert error.outcome is Outcome.NOT_EXECUTED


def test_a_429_says_how_long_to_wait(recordings: Any) -> None:
    capture = recordings.rest("error-too-many-requests")
    error = judged("spot", body=json.dumps(capture["body"]).encode(), status=429, headers={"retry-after": "13"})
    assert isinstance(error, RateLimited)
    assert error.retry_after == 13.0


def test_a_ban_lasts_until_the_time_in_its_text() -> None:
    text = f"Way too much request weight used; IP banned until {NOW_MS + 90_500}. Please use WebSocket Streams."
    error = judged("spot", -1003, text, status=418)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 90.5


# (families, code, text, class, rule): what an order call is answered with
REFUSALS: list[tuple[tuple[str, ...], int, str, type[VenueError], str | None]] = [
    (ALL, -1022, "", AuthenticationError, None),
    (ALL, -2014, "", AuthenticationError, None),
    (ALL, -2008, "", AuthenticationError, None),
    (ALL, -1099, "", AuthenticationError, None),
    (ALL, -1002, "", AuthenticationError, None),
    (ALL, -2015, "", AuthenticationError, None),
    (DERIVATIVES, -1125, "This listenKey does not exist.", AuthenticationError, None),
    (ALL, -2010, "This action is disabled on this account.", PermissionDenied, None),
    (ALL, -2010, "This account may not place or cancel orders.", PermissionDenied, None),
    (ALL, -2010, "This symbol is not permitted for this account.", PermissionDenied, None),
    (ALL, -2010, "This symbol is restricted for this account.", PermissionDenied, None),
    (("usdm",), -4087, "", PermissionDenied, None),
    (FUT, -4088, "", PermissionDenied, None),
    (FUT, -4400, "", PermissionDenied, None),
    (FUT, -4403, "", PermissionDenied, None),
    (FUT, -4192, "", PermissionDenied, None),
    (("spot",), -2010, "Account has insufficient balance for requested action.", InsufficientFunds, None),
    (ALL, -2010, "Balance is insufficient", InsufficientFunds, None),
    (FUT, -2018, "", InsufficientFunds, None),
    (FUT, -2019, "", InsufficientFunds, None),
    (FUT, -4050, "", InsufficientFunds, None),
    (FUT, -4051, "", InsufficientFunds, None),
    (("options",), -2027, "", InsufficientFunds, None),
    (ALL, -1013, "Filter failure: PRICE_FILTER", InvalidOrder, "tick-size"),
    (ALL, -1013, "Filter failure: LOT_SIZE", InvalidOrder, "lot-size"),
    (ALL, -1013, "Filter failure: NOTIONAL", InvalidOrder, "min-notional"),
    (ALL, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE", InvalidOrder, "price-range"),
    (ALL, -1013, "Filter failure: SOMETHING_NEW", InvalidOrder, None),
    (ALL, -1013, "Invalid quantity.", InvalidOrder, None),
    (ALL, -1111, "", InvalidOrder, "precision"),
    (ALL, -1014, "", InvalidOrder, None),
    (ALL, -1114, "", InvalidOrder, None),
    (ALL, -1119, "", InvalidOrder, None),
    (ALL, -4001, "", InvalidOrder, None),
    (ALL, -4025, "", InvalidOrder, None),
    (FUT, -4014, "", InvalidOrder, "tick-size"),
    (FUT, -4023, "", InvalidOrder, "lot-size"),
    (FUT, -4164, "", InvalidOrder, "min-notional"),
    (FUT, -4131, "", InvalidOrder, "price-range"),
    (ALL, -1100, "", InvalidOrder, None),
    (ALL, -1106, "", InvalidOrder, None),
    (("spot",), -1108, "", InvalidOrder, None),
    (("spot", "usdm", "coinm"), -1128, "", InvalidOrder, None),
    (ALL, -1130, "", InvalidOrder, None),
    (ALL, -2010, "Order would immediately match and take.", InvalidOrder, "post-only"),
    (FUT, -5022, "", InvalidOrder, "post-only"),
    (FUT, -5021, "", InvalidOrder, "fok"),
    (("spot",), -2021, "Order cancel-replace partially failed.", InvalidOrder, None),
    (FUT, -2021, "Order would immediately trigger.", InvalidOrder, "stop-would-trigger"),
    (("spot",), -2022, "Order cancel-replace failed.", InvalidOrder, None),
    (FUT, -2022, "ReduceOnly Order is rejected.", InvalidOrder, "reduce-only"),
    (FUT, -4061, "", InvalidOrder, "position-side"),
    (FUT, -4120, "", InvalidOrder, "not-supported"),
    (FUT, -2026, "", InvalidOrder, "reduce-only"),
    (("coinm",), -4112, "", InvalidOrder, "reduce-only"),
    (ALL, -2011, "Unknown order sent.", OrderNotFound, None),
    (ALL, -2013, "Order does not exist.", OrderNotFound, None),
    (("spot",), -2026, "Order was canceled or expired with no executed qty over 90 days ago", OrderNotFound, None),
    (ALL, -2039, "", OrderNotFound, None),
    (ALL, -2010, "Duplicate order sent.", DuplicateClientOrderId, None),
    (FUT, -4116, "ClientOrderId is duplicated.", DuplicateClientOrderId, None),
    (ALL, -1121, "Invalid symbol.", MarketNotFound, None),
    (ALL, -1122, "", MarketNotFound, None),
    (FUT, -4144, "", MarketNotFound, None),
    (("coinm",), -4087, "", MarketNotFound, None),
    (("options",), -1128, "", MarketNotFound, None),
    (ALL, -2010, "Market is closed.", VenueUnavailable, None),
    (ALL, -1220, "", VenueUnavailable, None),
    (FUT, -4140, "", VenueUnavailable, None),
    (FUT, -4022, "", VenueUnavailable, None),
    (ALL, -1003, "", RateLimited, None),
    (ALL, -1015, "", RateLimited, None),
    (ALL, -1034, "", RateLimited, None),
    (("options",), -1008, "", RateLimited, None),
    (FUT, -1008, "Request throttled by system-level protection.", VenueUnavailable, None),
    (FUT, -1016, "", VenueUnavailable, None),
    (FUT, -1004, "", VenueUnavailable, None),
    (FUT, 239999, "", VenueUnavailable, None),
    (ALL, -1020, "", UnsupportedOperation, None),
    (ALL, -2010, "Order type not enabled.", InvalidOrder, None),
    (ALL, -2011, "Order was not canceled due to cancel restrictions.", InvalidOrder, None),
    (ALL, -2038, "Order amend (quantity increase) is not supported.", InvalidOrder, None),
    (ALL, -1010, "whatever", InvalidOrder, None),
    (ALL, -1000, "An unknown error occurred", VenueError, None),
    (ALL, -9999, "not in any list", VenueError, None),
]


@pytest.mark.parametrize(("families", "code", "text", "expected", "rule"), REFUSALS)
def test_a_refused_order_is_the_documented_error(
    families: tuple[str, ...], code: int, text: str, expected: type[VenueError], rule: str | None
) -> None:
    for family in families:
        error = judged(family, code, text)
        assert type(error) is expected, family
        assert error.code == str(code)
        assert error.outcome is Outcome.NOT_EXECUTED
        assert getattr(error, "rule", None) == rule


def test_every_code_of_the_table_is_proved() -> None:
    proved = {(family, code) for families, code, *_ in REFUSALS for family in families}
    lost = {-1007, -1006, -1001, -1008}
    clock = {-1021, -5028, -4188}
    for row in CODES:
        sampled = [code for code in row.codes for family in row.families if (family, code) in proved]
        assert sampled or row.codes & (lost | clock), f"no test proves {sorted(row.codes)} of {row.families}"


@pytest.mark.parametrize(("family", "code"), [("spot", -1021), ("usdm", -1021), ("usdm", -5028), ("coinm", -4188)])
def test_a_refused_time_stamp_may_be_stamped_anew(family: str, code: int) -> None:
    error = judged(family, code, "Timestamp for this request is outside of the recvWindow.")
    assert isinstance(error, AuthenticationError)
    assert error.retryable
    assert error.outcome is Outcome.NOT_EXECUTED


UNKNOWN_503 = "Unknown error, please check your request or try again later."
# (families, status, code, text): after which an order may have been executed all the same
LOST: list[tuple[tuple[str, ...], int, int | None, str]] = [
    (ALL, 400, -1007, "Timeout waiting for response from backend server."),
    (ALL, 400, -1006, "An unexpected response was received from the message bus."),
    (ALL, 408, None, ""),
    (ALL, 503, None, UNKNOWN_503),
    (ALL, 503, -1000, UNKNOWN_503),
    (ALL, 500, None, ""),
    (ALL, 502, None, ""),
    (ALL, 504, None, ""),
    (ALL, 503, None, "Service Unavailable."),
    (ALL, 400, -1001, "Internal error; unable to process your request. Please try again."),
    (("spot",), 503, -1008, "Spot server is currently overloaded with other requests."),
]


@pytest.mark.parametrize(("families", "status", "code", "text"), LOST)
def test_after_some_answers_the_outcome_of_an_order_is_unknown(
    families: tuple[str, ...], status: int, code: int | None, text: str
) -> None:
    body = json.dumps({"code": code, "msg": text} if code is not None else {"msg": text}).encode()
    for family in families:
        error = judged(family, status=status, body=body)
        assert isinstance(error, AnswerLost), family
        assert error.code == (None if code is None else str(code))
        read = judged(family, status=status, body=body, request=READ)
        assert isinstance(read, VenueUnavailable), family
        assert read.retryable


def test_a_page_of_html_is_judged_by_its_status() -> None:
    page = b"<html>bad gateway</html>"
    assert isinstance(judged("spot", body=page, status=502), AnswerLost)
    assert isinstance(judged("spot", body=page, status=502, request=READ), VenueUnavailable)
    firewall = judged("usdm", body=page, status=403)
    assert isinstance(firewall, RateLimited)
    assert (firewall.retry_after or 0) >= 60
    assert type(judged("usdm", body=b"", status=451)) is PermissionDenied
    assert type(judged("usdm", body=b"", status=401)) is AuthenticationError
    assert type(judged("usdm", body=b"", status=404)) is VenueError


def test_texts_come_before_codes_and_codes_before_the_status() -> None:
    assert isinstance(judged("spot", -2010, "Duplicate order sent.", status=500), DuplicateClientOrderId)
    assert isinstance(judged("usdm", -1008, "overloaded", status=503), VenueUnavailable)
    assert isinstance(judged("usdm", -2019, "Margin is insufficient.", status=503), InsufficientFunds)


def test_parameter_errors_concern_orders_only_where_orders_are_sent() -> None:
    leverage = Request("POST", "/fapi/v1/leverage")
    assert type(judged("usdm", -1102, "Mandatory parameter", request=leverage)) is VenueError
    assert type(judged("usdm", -1102, "Mandatory parameter", request=READ)) is VenueError


@pytest.mark.parametrize("code", [200, "200", 0, "0"])
def test_success_may_look_like_an_error(code: int | str) -> None:
    assert judged("usdm", code, "success", status=200) is None


def test_an_error_may_hide_behind_status_200() -> None:
    assert isinstance(judged("options", -2019, "Margin is insufficient.", status=200), InsufficientFunds)


def test_ordinary_answers_are_not_looked_into() -> None:
    assert judged("spot", body=b'{"symbol":"BTCUSDT","code":-1121}', status=200) is None
    assert judged("spot", body=b"[]", status=200) is None
    assert judged("spot", body=b'{"code"', status=200) is None
