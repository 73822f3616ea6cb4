"""What the gateway itself refuses, beside the errors of core: each with its HTTP status and stable code."""

from __future__ import annotations

from typing import ClassVar

from astra.errors import AstraError


class GatewayError(AstraError):
    """Base of the gateway's own refusals. Front-ends derive theirs: `status` is the HTTP status, `problem` the code."""

    status: ClassVar[int] = 400

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiKeyRefused(GatewayError):
    """The gateway's own API key is missing, malformed, unknown, expired or revoked."""

    problem = "api-key"
    status = 401


class ScopeMissing(GatewayError):
    """The API key is valid but its scope does not reach so far."""

    problem = "scope"
    status = 403


class ApiKeyRateLimited(GatewayError):
    """The API key's own request rate is used up; nothing was asked of a venue."""

    problem = "api-key-rate-limited"
    status = 429


class BodyTooLarge(GatewayError):
    """The request body is larger than the gateway reads."""

    problem = "body-too-large"
    status = 413


class NoSuchPath(GatewayError):
    """No front-end serves the path."""

    problem = "no-such-path"
    status = 404


class UpgradeRequired(GatewayError):
    """The path speaks WebSocket only."""

    problem = "upgrade-required"
    status = 426


class DatabaseUnavailable(GatewayError):
    """The gateway's own database failed. Nothing was sent to a venue."""

    problem = "database"
    status = 503
