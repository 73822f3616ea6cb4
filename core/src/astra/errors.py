"""What can go wrong, and what a caller may do about it.

Every error Astra raises on purpose derives from `AstraError`. Errors that concern a venue derive from `VenueError`
and say three things a caller can act on: may the same call be repeated (`retryable`), after how long
(`retry_after`, seconds), and is it certain that nothing was executed (`outcome`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class Outcome(StrEnum):
    """What is known about the effect of the call that failed."""

    NOT_EXECUTED = "NOT_EXECUTED"
    """The venue (or Astra) refused the call: nothing happened."""
    UNKNOWN = "UNKNOWN"
    """The call may or may not have been carried out: look before repeating it."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` most resembles (case aside), or None when nothing comes close."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def hint(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name, or "" when nothing comes close."""
    match = nearest(word, known)
    return f" Did you mean {match!r}?" if match else ""


class AstraError(Exception):
    """Base of all errors that Astra raises on purpose.

    `problem` is the stable machine-readable name of the kind of error: front-ends print it, clients switch on it.
    """

    problem = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(AstraError):
    """A setting is unknown, malformed or contradicts another one."""

    problem = "config"


class PluginError(AstraError):
    """A plugin is missing, ambiguous, broken or written for another plugin API."""

    problem = "plugin"


class UnknownExchange(PluginError):
    """No installed plugin serves the exchange that was named."""

    problem = "unknown-exchange"


class BadRequest(AstraError):
    """An argument is malformed or out of range; the message names it and says what would be valid."""

    problem = "bad-request"


class SymbolError(BadRequest):
    """A market symbol is malformed; the message says which part is wrong."""

    problem = "malformed-symbol"


class StreamClosed(AstraError):
    """The stream, or the `Astra` object it belongs to, was closed."""

    problem = "stream-closed"


class VenueError(AstraError):
    """A venue refused or failed a call. Raised as such for answers that have no more specific class.

    Attributes: `exchange` (code), `code` (the venue's own error code as text, or None), `message`,
    `retryable`, `retry_after` (seconds, or None), `outcome`.
    """

    problem = "venue-error"
    retryable = False
    outcome = Outcome.NOT_EXECUTED

    def __init__(
        self,
        message: str,
        *,
        exchange: str,
        code: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message)
        self.exchange = exchange
        self.code = code
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable
        if outcome is not None:
            self.outcome = outcome

    def __str__(self) -> str:
        code = f" [{self.code}]" if self.code else ""
        return f"{self.exchange}{code}: {self.message}"


class AuthenticationError(VenueError):
    """The key, signature, passphrase or timestamp was not accepted."""

    problem = "authentication"


class PermissionDenied(VenueError):
    """The key is valid but may not do this (scope, IP list, region, agreement)."""

    problem = "permission-denied"


class InsufficientFunds(VenueError):
    """Not enough free balance or margin."""

    problem = "insufficient-funds"


class InvalidOrder(VenueError):
    """The order breaks a rule of the market; nothing was placed. `rule` names it ("tick-size", "post-only", ...)."""

    problem = "invalid-order"

    def __init__(
        self,
        message: str,
        *,
        exchange: str,
        code: str | None = None,
        rule: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, exchange=exchange, code=code, retry_after=retry_after)
        self.rule = rule


class OrderNotFound(VenueError):
    """The venue knows no such order (never placed, or already gone from its memory)."""

    problem = "order-not-found"


class DuplicateClientOrderId(VenueError):
    """An order with this client order id exists already; nothing new was placed."""

    problem = "duplicate-client-order-id"


class MarketNotFound(VenueError):
    """The venue has no such market."""

    problem = "market-not-found"


class Pauses(StrEnum):
    """Who sends nothing until the venue listens again."""

    EVERYBODY = "everybody"
    """The limit is that of the address: all requests to the host (its other accounts and public data, too)."""
    ACCOUNT = "account"
    """The limit is that of the key or the user: other accounts and public data go on."""
    NOBODY = "nobody"
    """The limit is that of a market or a kind of request: whoever asks for something else goes on."""


class RateLimited(VenueError):
    """Too many requests; `retry_after` says when the venue listens again. The call was not executed."""

    problem = "rate-limited"
    retryable = True
    pauses = Pauses.EVERYBODY


class VenueUnavailable(VenueError):
    """The venue (or the way to it) is down, overloaded or in maintenance. Raised for reads, and for calls that
    certainly were not executed."""

    problem = "venue-unavailable"
    retryable = True


class UnsupportedOperation(VenueError):
    """The venue, or this product of it, does not offer the operation or the option."""

    problem = "unsupported-operation"


class DeadManLapsed(VenueError):
    """A dead-man timer was not fed in time: the venue has canceled the orders, or soon will."""

    problem = "dead-man-lapsed"


class OrderOutcomeUnknown(VenueError):
    """A place, amend or cancel was sent and its answer lost: it may have been carried out.

    Never repeat the call. Ask with `await astra.resolve_order(market, client_order_id)`.
    """

    problem = "order-outcome-unknown"
    outcome = Outcome.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        exchange: str,
        market: str,
        operation: str = "place_order",
        client_order_id: str | None = None,
        order_id: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, exchange=exchange, code=code)
        self.market = market
        self.operation = operation
        self.client_order_id = client_order_id
        self.order_id = order_id
