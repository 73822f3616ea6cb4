"""The only module that knows httpx: requests to a venue with limits, signing, retries of reads and redaction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import msgspec

from astra.net.clock import VenueClock
from astra.net.ratelimit import RateLimiter


class Request(msgspec.Struct, frozen=True):
    """A request to a venue. Its repr shows method and path only: the rest may hold keys and signatures."""

    method: str
    path: str
    """Appended to the client's base URL."""
    query: str = ""
    """Already percent-encoded, in wire order."""
    body: bytes = b""
    headers: Mapping[str, str] = {}
    costs: Mapping[str, float] = {}
    """Rate-limit bucket name -> cost."""
    account: Hashable = None
    """Whose account-scoped buckets are charged."""
    command: bool = False
    """May change something at the venue: never repeated by the transport."""
    timeout_s: float | None = None
    max_bytes: int = 64 * 1024 * 1024
    """Bound of the response body."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    def __rich_repr__(self) -> Iterator[str]:
        yield f"{self.method} {self.path}"


class Response(msgspec.Struct, frozen=True):
    """A venue's answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> Iterator[str]:
        yield f"{self.status}, {len(self.body)} bytes"


Sign = Callable[[Request, int], Request]
"""(request, venue time in ms) -> signed request; called after the limiter, at sending, anew for each retry."""


class AnswerLost(Exception):
    """A command was (perhaps) received by the venue; its answer is not known."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


Interpret = Callable[[Request, Response], Exception | None]
"""A venue's `errors.py`: None when the answer is fine, else the astra error (or `AnswerLost`) to raise."""


class HttpClient:
    """An HTTP client of one venue host."""

    def __init__(
        self,
        exchange: str,
        base_url: str,
        *,
        limiter: RateLimiter,
        clock: VenueClock,
        interpret: Interpret,
        timeout_s: float = 10.0,
        proxy: str | None = None,
        read_retries: int = 2,
        transport: Any = None,
    ) -> None: ...

    async def send(self, request: Request, sign: Sign | None = None) -> Response:
        raise NotImplementedError

    async def aclose(self) -> None: ...
