"""A venue's REST API: one host, one clock, one way to sign, commands that are sent once.

A venue derives from `RestApi`, says how its answers are judged and its requests are signed, and adds what its own
requests look like. Everything else that REST APIs of venues share is here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from astra.errors import (
    AuthenticationError,
    InvalidOrder,
    MarketNotFound,
    Pauses,
    PermissionDenied,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from astra.models.base import decimal_text
from astra.models.credentials import ApiKey, Credentials
from astra.models.protocols import Clock
from astra.net.clock import VenueClock
from astra.net.http import AnswerLost, HttpClient, Request, Response, Sign
from astra.net.ratelimit import RateLimiter
from astra.trading.outcome import send_command

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Decode = Callable[[bytes], T]
"""Decodes an answer's body (`bytes`: it is of no interest)."""
Value = str | int | bool | Decimal
Params = Iterable[tuple[str, Value | None]]
"""Parameters in wire order; those that are None are left out."""

REMEMBERED_KEYS = 256
REMEMBERED_PLACEMENTS = 10_000


def plain(value: Value) -> str:
    """A parameter as text: decimals without exponent or superfluous zeros, booleans as true/false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return decimal_text(value)
    return str(value.value) if isinstance(value, Enum) else str(value)


def encoded(params: Params) -> str:
    """Parameters percent-encoded (UTF-8, capital hex digits, everything but unreserved characters), in their order."""
    return "&".join(f"{name}={quote(plain(value), safe='')}" for name, value in params if value is not None)


class Recent(Generic[K, V]):
    """A mapping that keeps the `most` entries used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def made(self, key: K, make: Callable[[], V]) -> V:
        """The entry, made when there is none."""
        found = self.get(key)
        if found is None:
            found = self[key] = make()
        return found


class Meaning(msgspec.Struct, frozen=True):
    """What an error of the venue means: a row of its table of codes."""

    error: type[VenueError]
    rule: str | None = None
    """Which rule an `InvalidOrder` breaks, by the names that `InvalidOrder.rule` uses."""
    lost: bool = False
    """A command may have been carried out all the same: its outcome is not known."""
    retryable: bool | None = None
    """Overrides what the class says."""
    pauses: Pauses = Pauses.EVERYBODY
    """Of `RateLimited`: whom the limit concerns. (HTTP 429 and 418 concern everybody.)"""


def code_table(*rows: tuple[Meaning, str]) -> Mapping[str, Meaning]:
    """Code -> meaning, from rows of a meaning and its codes with spaces between. `50103-50107` are five of them."""
    return {code: meaning for meaning, codes in rows for word in codes.split() for code in _codes(word)}


def _codes(word: str) -> Iterable[str]:
    first, _, last = word.partition("-")
    if first.isdigit() and last.isdigit():
        return [str(code) for code in range(int(first), int(last) + 1)]
    return [word]


class Failure(msgspec.Struct, frozen=True):
    """An error answer, taken apart. `code` None: the answer had none. `command`: the request may change something."""

    exchange: str
    message: str
    code: str | None = None
    status: int = 200
    command: bool = False
    retry_after: float | None = None

    def raised_as(self, meaning: Meaning | None) -> Exception:
        """The error to raise; `AnswerLost` where a command may have been carried out. Without a meaning the HTTP
        status decides."""
        if meaning is None:
            meaning = by_status(self.status)
        if meaning.lost and self.command:
            return AnswerLost(self.message, code=self.code)
        if issubclass(meaning.error, InvalidOrder):
            return meaning.error(self.message, exchange=self.exchange, code=self.code, rule=meaning.rule)
        error = meaning.error(
            self.message,
            exchange=self.exchange,
            code=self.code,
            retry_after=self.retry_after,
            retryable=meaning.retryable,
        )
        if isinstance(error, RateLimited):
            error.pauses = meaning.pauses
        return error


def by_status(status: int) -> Meaning:
    """What an error answer means that says nothing a venue's table knows."""
    if status in (429, 418):
        return Meaning(RateLimited)
    if status in (403, 451):
        return Meaning(PermissionDenied)
    if status == 401:
        return Meaning(AuthenticationError)
    if status == 408 or status >= 500:
        return Meaning(VenueUnavailable, lost=True)
    return Meaning(VenueError)


class Placement(msgspec.Struct, frozen=True):
    """When a placement was stamped (venue time, ms), and whether it went to the conditional orders."""

    stamped: int
    conditional: bool


class RestApi:
    """One REST API of a venue.

    `product` is the name that keys are looked up by, `unknown_market` is called when the venue does not know a symbol
    that was asked for (its listings changed). A subclass implements `interpret` and `sign`, and `server_time` where
    the venue tells its time (its clock is then measured; without it the machine's serves).
    """

    def __init__(
        self,
        exchange: str,
        product: str,
        base_url: str,
        *,
        limiter: RateLimiter,
        clock: Clock,
        timeout_s: float = 10.0,
        proxy: str | None = None,
        unknown_market: Callable[[], None] = lambda: None,
        transport: Any = None,
    ) -> None:
        self.exchange = exchange
        self.product = product
        self.limiter = limiter
        self.clock = VenueClock(clock)
        if type(self).server_time is not RestApi.server_time:
            self.clock.source = self.server_time
        self._base_url = base_url
        self._client_options: dict[str, Any] = {"timeout_s": timeout_s, "proxy": proxy, "transport": transport}
        self._unknown_market = unknown_market
        self._client: HttpClient | None = None
        self._placements: Recent[tuple[Credentials, str], Placement] = Recent(REMEMBERED_PLACEMENTS)

    # -- what a venue says --------------------------------------------------------------------------------------

    def interpret(self, request: Request, response: Response) -> Exception | None:
        """The error of an answer (`AnswerLost`: a command may have been carried out), or None."""
        raise NotImplementedError

    def sign(self, credentials: Credentials) -> Sign:
        """How requests of an account are completed and signed, at sending. Raises `AuthenticationError`."""
        raise NotImplementedError

    async def server_time(self) -> int:
        """The venue's time, ms."""
        raise NotImplementedError

    # -- what every venue has -----------------------------------------------------------------------------------

    @property
    def client(self) -> HttpClient:
        """The HTTP client (made on first use)."""
        if self._client is None:
            self._client = HttpClient(
                self.exchange,
                self._base_url,
                limiter=self.limiter,
                clock=self.clock,
                interpret=self._interpreted,
                **self._client_options,
            )
        return self._client

    def _interpreted(self, request: Request, response: Response) -> Exception | None:
        error = self.interpret(request, response)
        if isinstance(error, MarketNotFound):
            self._unknown_market()
        return error

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def key(self, credentials: Credentials) -> ApiKey:
        """The account's key for this API. Raises `AuthenticationError` when it has none."""
        key = credentials.key_for(self.product)
        if key is None:
            raise AuthenticationError(
                f"account {credentials.account!r} has no API key for {self.product} (nor a default one)",
                exchange=self.exchange,
            )
        return key

    def distrust_clock(self) -> None:
        """The venue did not accept a time stamp: its clock is measured before the next one."""
        self.clock.measured_at = None

    def placement(self, credentials: Credentials, client_order_id: str) -> Placement | None:
        """What is remembered of this process's latest placement with the id."""
        return self._placements.get((credentials, client_order_id))

    async def read(self, decode: Decode[T], request: Request, credentials: Credentials | None = None) -> T:
        """Send a request that reads, or whose repetition does no harm; signed where `credentials` are given."""
        if credentials is None:
            return self.understood(decode, request, await self.client.send(request))
        signed = msgspec.structs.replace(request, account=credentials)
        return self.understood(decode, request, await self.client.send(signed, self.sign(credentials)))

    async def order(
        self,
        request: Request,
        credentials: Credentials,
        *,
        market: str,
        operation: str,
        client_order_id: str | None = None,
        order_id: str | None = None,
        places: Sequence[str] = (),
        conditional: bool = False,
    ) -> bytes:
        """Send a signed request that places, changes or cancels: once. A lost answer is `OrderOutcomeUnknown`.

        `places`: the client order ids of the orders that it places; when they were stamped is remembered. Cancels
        should have `Request.urgent` set: they go before what waits for the rate limit.
        """
        sign = self.sign(credentials)
        if places:
            sign = self._noting(sign, [(credentials, placed) for placed in places], conditional)
        answer = await send_command(
            self.client,
            msgspec.structs.replace(request, account=credentials, command=True),
            sign,
            market=market,
            operation=operation,
            client_order_id=client_order_id,
            order_id=order_id,
        )
        return answer.body

    def understood(self, decode: Decode[T], request: Request, response: Response) -> T:
        """The answer's body, decoded. Raises `VenueError` naming request and difference."""
        try:
            return decode(response.body)
        except msgspec.DecodeError as error:
            where = f"{request.method} {request.path}"
            raise VenueError(f"the answer to {where} has another shape: {error}", exchange=self.exchange) from None

    def _noting(self, sign: Sign, placements: Sequence[tuple[Credentials, str]], conditional: bool) -> Sign:
        def noted(request: Request, now_ms: int) -> Request:
            for placement in placements:
                self._placements[placement] = Placement(now_ms, conditional)
            return sign(request, now_ms)

        return noted
