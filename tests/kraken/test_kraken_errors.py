"""Every error of the venue is the error class that tells a caller what to do."""

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
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.net.http import AnswerLost, Request, Response
from astra_kraken.errors import SPOT, derivatives_interpreter, spot_error, spot_interpreter

NOW_MS = 1_700_000_000_000
RECORDED = {
    "error-spot-eapi-invalid-key": AuthenticationError,
    "error-spot-eapi-invalid-nonce": AuthenticationError,
    "error-spot-eapi-invalid-signature": AuthenticationError,
    "error-spot-eapi-rate-limit-exceeded": RateLimited,
    "error-spot-egeneral-permission-denied": PermissionDenied,
    "error-spot-eorder-insufficient-funds": InsufficientFunds,
    "error-spot-eorder-unknown-order": OrderNotFound,
    "error-spot-equery-unknown-asset-pair": MarketNotFound,
    "error-futures-apilimit": RateLimited,
    "error-futures-authentication": AuthenticationError,
    "error-futures-cancel-notfound": OrderNotFound,
    "error-futures-insufficient": InsufficientFunds,
}


def judged(body: Any, *, spot: bool, status: int = 200, command: bool = True, path: str = "/x") -> Exception | None:
    interpret = spot_interpreter("KRAKEN", lambda: NOW_MS) if spot else derivatives_interpreter("KRAKEN")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return interpret(Request("POST", path, command=command), Response(status, {}, content))


def test_every_recorded_error_is_known_here(recordings: Any) -> None:
    assert set(recordings.names("error-*")) == set(RECORDED)


@pytest.mark.parametrize(("name", "error"), RECORDED.items())
def test_a_recorded_error_becomes_its_class(recordings: Any, name: str, error: type[VenueError]) -> None:
    capture = recordings.rest(name)
    found = judged(capture["body"], spot="spot" in name, status=capture["status"])
    assert type(found) is error
    assert isinstance(found, VenueError)
    assert found.code is not None


@pytest.mark.parametrize("name", ["spot-addorder", "spot-balance", "spot-cancelorder", "spot-closedorders"])
def test_a_recorded_answer_of_spot_is_no_error(recordings: Any, name: str) -> None:
    assert judged(recordings.rest(name)["body"], spot=True) is None


@pytest.mark.parametrize(
    "name",
    [
        "futures-sendorder",
        "futures-sendorder-execution",
        "futures-cancelorder",
        "futures-editorder",
        "futures-cancelallorders",
        "futures-cancelallordersafter",
        "futures-accounts",
    ],
)
def test_a_recorded_answer_of_derivatives_is_no_error(recordings: Any, name: str) -> None:
    assert judged(recordings.rest(name)["body"], spot=False) is None


@pytest.mark.parametrize(
    ("text", "error", "rule"),
    [
        ("EAuth:Account temporary disabled", PermissionDenied, None),
        ("EAuth:Rate limit exceeded", RateLimited, None),
        ("EAuth:Something new", AuthenticationError, None),
        ("ETrade:User Locked", PermissionDenied, None),
        ("EOrder:Rate limit exceeded", RateLimited, None),
        ("EOrder:Insufficient margin", InsufficientFunds, None),
        ("EOrder:Order minimum not met", InvalidOrder, "min-quantity"),
        ("EOrder:Cost minimum not met", InvalidOrder, "min-notional"),
        ("EOrder:Tick size check failed", InvalidOrder, "tick-size"),
        ("EOrder:Invalid price:XBTUSD price can only be specified up to 1 decimals.", InvalidOrder, "tick-size"),
        ("EOrder:Post only order", InvalidOrder, "post-only"),
        ("EOrder:Reduce only:No position exists", InvalidOrder, "reduce-only"),
        ("EGeneral:Invalid arguments:volume", InvalidOrder, None),
        ("EGeneral:Invalid arguments:cl_ord_id", InvalidOrder, "client-order-id"),
        ("EOrder:Invalid order", OrderNotFound, None),
        ("EOrder:Duplicate cl_ord_id", DuplicateClientOrderId, None),
        ("EOrder:cl_ord_id already exists", DuplicateClientOrderId, None),
        ("EQuery:Unknown asset", MarketNotFound, None),
        ("EService:Market in cancel_only mode", VenueUnavailable, None),
        ("EService:Busy", VenueUnavailable, None),
        ("EService:Deadline elapsed", VenueError, None),
        ("EWhat:Is this", VenueError, None),
    ],
)
def test_spot_s_texts_are_matched_by_their_longest_beginning(
    text: str, error: type[VenueError], rule: str | None
) -> None:
    found = judged({"error": [text]}, spot=True)
    assert type(found) is error
    assert getattr(found, "rule", None) == rule


@pytest.mark.parametrize(
    "text", ["EGeneral:Internal error", "EService:Unavailable", "EService:Timeout", "EDatabase:Error"]
)
def test_an_unknown_outcome_of_a_command_is_never_a_refusal(text: str) -> None:
    assert isinstance(judged({"error": [text]}, spot=True), AnswerLost)
    assert isinstance(judged({"error": [text]}, spot=True, command=False), VenueUnavailable)


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("status", [500, 502, 503, 520, 522])
def test_a_server_error_on_a_command_leaves_its_outcome_open(spot: bool, status: int) -> None:
    assert isinstance(judged(b"<html>busy</html>", spot=spot, status=status), AnswerLost)
    assert isinstance(judged(b"<html>busy</html>", spot=spot, status=status, command=False), VenueUnavailable)


def test_warnings_are_no_errors() -> None:
    assert judged({"error": ["WGeneral:Danger"], "result": {}}, spot=True) is None


def test_throttling_and_lock_outs_say_how_long() -> None:
    throttled = spot_error("KRAKEN", f"EService:Throttled: {NOW_MS // 1000 + 7}", command=False, now_ms=NOW_MS)
    assert isinstance(throttled, RateLimited)
    assert throttled.retry_after == 7
    locked = spot_error("KRAKEN", "EGeneral:Temporary lockout", command=False, now_ms=NOW_MS)
    assert isinstance(locked, RateLimited)
    assert locked.retry_after == 900


def test_every_row_of_the_table_can_be_raised() -> None:
    for text in SPOT:
        assert isinstance(spot_error("KRAKEN", text, command=False, now_ms=NOW_MS), VenueError | AnswerLost)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("apiLimitExceeded", RateLimited),
        ("nonceBelowThreshold", AuthenticationError),
        ("contractNotFound", MarketNotFound),
        ("requiredArgumentMissing", InvalidOrder),
        ("invalidArgument: orderType", InvalidOrder),
        ("marketUnavailable", VenueUnavailable),
        ("somethingNew", VenueError),
    ],
)
def test_derivatives_codes_become_their_classes(code: str, error: type[VenueError]) -> None:
    assert type(judged({"result": "error", "error": code}, spot=False)) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("insufficientAvailableFunds", InsufficientFunds),
        ("clientOrderIdAlreadyExist", DuplicateClientOrderId),
        ("postWouldExecute", InvalidOrder),
        ("marketSuspended", VenueUnavailable),
        ("iocWouldNotExecute", InvalidOrder),
        ("whateverMayCome", InvalidOrder),
    ],
)
def test_a_refused_order_inside_a_success_is_a_refusal(status: str, error: type[VenueError]) -> None:
    found = judged({"result": "success", "sendStatus": {"status": status}}, spot=False)
    assert type(found) is error
    assert isinstance(found, VenueError)
    assert found.code == status


def test_a_cancel_that_came_after_the_fill_found_no_order() -> None:
    assert isinstance(judged({"result": "success", "cancelStatus": {"status": "filled"}}, spot=False), OrderNotFound)


def test_numbered_errors_of_derivatives_are_read() -> None:
    body = {"errors": [{"code": 92, "message": "INSUFFICIENT_MARGIN"}]}
    assert isinstance(judged(body, spot=False, status=500), InsufficientFunds)


@pytest.mark.parametrize("code", ["Server Error", "unknownError", "unavailable", "Json Parse Error"])
def test_derivatives_answers_that_tell_no_outcome_leave_it_open(code: str) -> None:
    assert isinstance(judged({"result": "error", "error": code}, spot=False), AnswerLost)
