"""What the answers of both APIs mean, whatever shape their refusals have."""

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
from astra_coinbase.errors import CODES, REASONS, interpret_advanced, interpret_gateway


def failed(reason: str, member: str = "error", message: str = "") -> dict[str, Any]:
    response = {
        "error": "UNKNOWN_FAILURE_REASON",
        "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON",
        "new_order_failure_reason": "UNKNOWN_FAILURE_REASON",
        "message": message,
        "error_details": "",
    }
    return {"success": False, "error_response": {**response, member: reason}}


def judged(status: int, body: Any, *, command: bool = True, path: str = "/api/v3/brokerage/orders") -> Any:
    request = Request("POST" if command else "GET", path, command=command)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    interpret = interpret_gateway if "/v2/" in path else interpret_advanced
    return interpret("COINBASE", request, Response(status, {}, content))


@pytest.mark.parametrize("member", ["error", "preview_failure_reason", "new_order_failure_reason"])
@pytest.mark.parametrize("reason", ["INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND"])
def test_any_of_three_reasons_may_be_the_real_one(member: str, reason: str) -> None:
    error = judged(200, failed(reason, member))
    assert type(error) is InsufficientFunds
    assert error.code == reason


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("INVALID_LIMIT_PRICE_POST_ONLY", InvalidOrder),
        ("PREVIEW_SOMETHING_NEW", InvalidOrder),
        ("INVALID_PRODUCT_ID", MarketNotFound),
        ("UNTRADABLE_PRODUCT", VenueUnavailable),
        ("INVALID_FCM_TRADING_SESSION", VenueUnavailable),
        ("GEOFENCING_RESTRICTION", PermissionDenied),
        ("DUPLICATE_CLIENT_ORDER_ID", DuplicateClientOrderId),
        ("ORDER_IS_FULLY_FILLED", OrderNotFound),
        ("COMMANDER_REJECTED_NEW_ORDER", VenueError),
    ],
)
def test_reasons_have_their_class(reason: str, kind: type[VenueError]) -> None:
    assert type(judged(200, failed(reason))) is kind


def test_a_post_only_order_that_would_take_names_its_rule() -> None:
    assert judged(200, failed("INVALID_LIMIT_PRICE_POST_ONLY")).rule == "post-only"
    assert all(meaning.rule is None or meaning.error is InvalidOrder for meaning in REASONS.values())


def test_success_alone_decides() -> None:
    sample = {"success": True, "error_response": failed("INSUFFICIENT_FUND")["error_response"]}
    assert judged(200, sample) is None
    assert type(judged(200, failed("UNKNOWN_FAILURE_REASON", message="odd"))) is VenueError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"Unauthorized", AuthenticationError),
        (401, {"error": "UNAUTHORIZED", "message": "Unauthorized"}, AuthenticationError),
        (403, {"error": "PERMISSION_DENIED", "message": "no"}, PermissionDenied),
        (403, b"<html>", PermissionDenied),
        (404, {"error": "NOT_FOUND", "message": "valid product_id is required"}, MarketNotFound),
        (404, {"error": "unknown", "message": "order with this orderID was not found"}, OrderNotFound),
        (400, {"error": "INVALID_ARGUMENT", "message": "account is not available"}, InsufficientFunds),
        (400, {"error": "INVALID_ARGUMENT", "message": "bad"}, InvalidOrder),
        (429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, RateLimited),
        (500, {"error": "INSUFFICIENT_FUND", "message": "?"}, AnswerLost),
        (502, b"<html>", AnswerLost),
        (503, b"Service Unavailable", AnswerLost),
    ],
)
def test_error_bodies_of_all_shapes_are_judged(status: int, body: Any, kind: type[Exception]) -> None:
    assert type(judged(status, body)) is kind


def test_a_read_that_was_not_authorized_is_tried_once_more_and_a_command_is_not() -> None:
    assert judged(401, b"Unauthorized", command=False).retryable is True
    assert judged(401, b"Unauthorized").retryable is False


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (13004, AuthenticationError),
        (13009, AuthenticationError),
        (13021, PermissionDenied),
        (10009, InsufficientFunds),
        (11054, InvalidOrder),
        (10007, InvalidOrder),
        (10004, OrderNotFound),
        (11044, OrderNotFound),
        (13020, MarketNotFound),
        (10028, RateLimited),
        (10012, VenueUnavailable),
        (13888, AnswerLost),
        (-32602, VenueError),
        (77777, VenueError),
    ],
)
def test_codes_of_the_gateway_have_their_class(code: int, kind: type[Exception]) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no", "data": {"reason": "because"}}}
    error = judged(400, body, path="/api/v2/private/buy")
    assert type(error) is kind
    assert error.message == "no: because"
    assert set(map(str, (10005, 10006, 10008))) <= set(CODES)
    assert type(judged(503, body, path="/api/v2/private/buy")) is AnswerLost
