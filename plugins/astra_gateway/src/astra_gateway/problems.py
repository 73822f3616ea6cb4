"""Errors as RFC 9457 problem details, the same over HTTP and WebSocket.

`code` is stable: it is the `problem` of the error class. Clients switch on it, never on `detail`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from astra import errors
from astra_gateway.errors import GatewayError, NoSuchPath

MEDIA_TYPE = "application/problem+json"
NO_SUCH_PATH = "no front-end serves this path; GET /openapi.json lists those that exist"

logger = logging.getLogger("astra.gateway")

STATUS: Mapping[type[Exception], int] = {
    errors.BadRequest: 400,
    errors.AuthenticationError: 401,
    errors.PermissionDenied: 403,
    errors.UnknownExchange: 404,
    errors.MarketNotFound: 404,
    errors.OrderNotFound: 404,
    errors.DuplicateClientOrderId: 409,
    errors.InvalidOrder: 422,
    errors.InsufficientFunds: 422,
    errors.RateLimited: 429,
    errors.UnsupportedOperation: 501,
    errors.VenueError: 502,
    errors.StreamClosed: 503,
    errors.VenueUnavailable: 503,
    errors.OrderOutcomeUnknown: 504,
    errors.AstraError: 500,
}
"""HTTP status of core's errors; the nearest base class counts."""


class Problem(msgspec.Struct, frozen=True):
    """One problem document: `fields` are its members in order, `headers` what goes beside it."""

    status: int
    fields: Mapping[str, Any]
    headers: Mapping[str, str]

    def body(self) -> bytes:
        return msgspec.json.encode(self.fields)

    def response(self) -> Response:
        return Response(self.body(), self.status, dict(self.headers), MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem document of any error. What Astra did not raise on purpose says only "internal" to the outside."""
    if isinstance(error, HTTPException):
        error = _from_framework(error)
    if not isinstance(error, errors.AstraError):
        return _document(500, "internal", "The gateway failed; its log says why.", {}, {})
    status = _status(error)
    members: dict[str, Any] = {}
    if isinstance(error, errors.VenueError):
        members = _venue_members(error)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        members["retryAfter"] = retry_after
    headers: dict[str, str] = {}
    if retry_after is not None and status in (409, 429, 503):
        headers["retry-after"] = str(max(1, math.ceil(retry_after)))
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="astra"'
    if status == 426:
        headers["upgrade"] = "websocket"
    if isinstance(error, _Framework):
        headers.update(error.headers)
    return _document(status, error.problem, error.message, members, headers)


def internal(error: Exception, where: str) -> Problem:
    """Log an error that nobody expected, with its traceback, and give the document that tells the client so."""
    logger.error("unexpected error in %s", where, exc_info=error)
    return problem_of(error)


def _document(status: int, code: str, detail: str, members: Mapping[str, Any], headers: Mapping[str, str]) -> Problem:
    fields = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }
    return Problem(status, fields, headers)


def _status(error: errors.AstraError) -> int:
    if isinstance(error, GatewayError | _Framework):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _venue_members(error: errors.VenueError) -> dict[str, Any]:
    members: dict[str, Any] = {
        "exchange": error.exchange,
        "venueCode": error.code,
        "retryable": error.retryable,
        "outcome": error.outcome.value,
    }
    if isinstance(error, errors.InvalidOrder) and error.rule is not None:
        members["rule"] = error.rule
    if isinstance(error, errors.OrderOutcomeUnknown):
        members["market"] = error.market
        members["operation"] = error.operation
        members["clientOrderId"] = error.client_order_id
        members["orderId"] = error.order_id
    return members


class _Framework(errors.AstraError):
    """An HTTP error that the web framework raised by itself, in our form."""

    def __init__(self, message: str, *, status: int, code: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.problem = code
        self.status = status
        self.headers = headers


def _from_framework(error: HTTPException) -> errors.AstraError:
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return NoSuchPath(NO_SUCH_PATH)
    if error.status_code == 405:
        takes = f"; it takes {headers['Allow']}" if "Allow" in headers else ""
        message = f"this path does not take the method{takes}"
        return _Framework(message, status=405, code="method-not-allowed", headers=headers)
    return _Framework(str(error.detail), status=error.status_code, code="http", headers=headers)
