"""HTTP to a venue: rate limits, venue clock, signing, retries of reads, and what became of a command.

The only module that knows httpx, and the one place for redaction. Query strings, headers and bodies may hold keys and
signatures: they appear in no repr, log or error. That is why requests go through httpx's transport layer and not
through its client, which logs every URL; why httpcore's debug logs are cut to the name of the event while one of our
requests runs; why httpx's exceptions, which carry the request, are never chained to ours; and why errors are returned
by the functions that hold such values and raised by those that do not.
"""

from __future__ import annotations

import datetime
import email.utils
import importlib.util
import logging
import random
import traceback
import urllib.parse
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec

from astra.errors import (
    AstraError,
    AuthenticationError,
    ConfigError,
    Outcome,
    Pauses,
    RateLimited,
    StreamClosed,
    VenueError,
    VenueUnavailable,
)
from astra.models.protocols import Clock
from astra.net.clock import VenueClock
from astra.net.ratelimit import Cost, Permit, RateLimiter

if TYPE_CHECKING:
    import ssl

    import httpx

_log = logging.getLogger("astra.net")

MAX_BODY_BYTES = 64 * 1024 * 1024
SHORT_PAUSE_S = 5.0
"""A read that was refused with 429 waits for the venue and tries again if it need not wait longer than this."""
BUDGET_TIMEOUTS = 2.0
"""A read and its retries take this many timeouts together at most."""
_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 4.0
_DEFAULT_PAUSE_S = {429: 5.0, 418: 60.0}
"""How long a limit lasts where the venue does not say: too many requests, and banned for ignoring that."""


LAST_CHECKS: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("LAST_CHECKS", default=())
"""What is asked right before a command leaves (see `astra.middleware.checked_before_sending`)."""


class Request(msgspec.Struct, frozen=True):
    """A request to a venue. Its repr shows method and path only: the rest may hold keys and signatures."""

    method: str
    path: str
    """Appended to the client's base URL; percent-encoded."""
    query: str = ""
    """Already percent-encoded, in wire order: it is sent as it stands, because signatures cover it."""
    body: bytes = b""
    headers: Mapping[str, str] = {}
    costs: Mapping[Cost, float] = {}
    """Rate-limit bucket name (or that and its scope) -> cost."""
    account: Hashable = None
    """Whose account-scoped buckets are charged."""
    command: bool = False
    """May change something at the venue: never repeated by the transport."""
    urgent: bool = False
    """Goes before all others through the rate limiter (cancels)."""
    on_credit: bool = False
    """What it costs is counted, but it does not wait for room: the venue never refuses it for its limits."""
    lane: Hashable = None
    """Requests of one lane are signed and sent one after the other, each after the answer to the one before: for venues
    that refuse a request whose nonce is below that of one that overtook it."""
    timeout_s: float | None = None
    """Time for one attempt; the client's where None."""
    max_bytes: int = MAX_BODY_BYTES
    """Bound of the (decompressed) response body."""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("method", self.method), ("path", self.path)]


class Response(msgspec.Struct, frozen=True):
    """A venue's answer. Header names are lower case. Its repr shows no contents."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("bytes", len(self.body))]


Sign = Callable[[Request, int], Request]
"""(request, venue time in ms) -> signed request; called after the limiter, at sending, anew for each retry."""


class AnswerLost(Exception):
    """A command was (perhaps) received by the venue; its answer is not known. `code` is the venue's, if any."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


Interpret = Callable[[Request, Response], Exception | None]
"""A venue's `errors.py`: None when the answer is fine, else the astra error (or `AnswerLost`) to raise."""


class _Failure(msgspec.Struct, frozen=True):
    """An exchange without a usable answer. `sent`: the venue may have received the request."""

    text: str
    sent: bool
    final: bool = False
    """Trying again is useless."""


class Lane:
    """One request at a time; the next one is the first of the urgent ones, if any."""

    __slots__ = ("_busy", "_normal", "_urgent")

    def __init__(self) -> None:
        self._busy = False
        self._urgent: deque[anyio.Event] = deque()
        self._normal: deque[anyio.Event] = deque()

    @property
    def idle(self) -> bool:
        """Is nobody in it, nor waiting?"""
        return not (self._busy or self._urgent or self._normal)

    async def enter(self, clock: Clock, seconds: float, *, urgent: bool) -> bool:
        """Wait for the turn, for so long at most. Whoever has it calls `leave`. False: it did not come."""
        if not self._busy:
            self._busy = True
            return True
        turn = anyio.Event()
        queue = self._urgent if urgent else self._normal
        queue.append(turn)
        try:
            await clock.wait(turn, max(seconds, 0.0))
        except BaseException:
            if turn.is_set():
                self.leave()
            else:
                queue.remove(turn)
            raise
        if not turn.is_set():
            queue.remove(turn)
        return turn.is_set()

    def leave(self) -> None:
        """Give the turn to the next."""
        for queue in (self._urgent, self._normal):
            if queue:
                queue.popleft().set()
                return
        self._busy = False


class HttpClient:
    """Requests to one host of a venue.

    Connections are pooled and kept alive, redirects are not followed, environment variables and `.netrc` are not read.
    The client belongs to the event loop (asyncio or trio) in which it is first used.
    """

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
        random: random.Random | None = None,
    ) -> None:
        """`transport` is an httpx transport to use in place of the network (in-process applications, tests)."""
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ConfigError(f"{exchange}: the base URL of a host is http(s)://name[:port][/path]")
        check_proxy(proxy)
        self.exchange = exchange
        self._host = parts.netloc
        self._base_path = parts.path.rstrip("/")
        self._origin = f"{parts.scheme}://{parts.netloc}/"
        self._limiter = limiter
        self._clock = clock
        self._interpret = interpret
        self._timeout_s = timeout_s
        self._proxy = proxy
        self._read_retries = read_retries
        self._given_transport = transport
        self._transport: httpx.AsyncBaseTransport | None = transport
        self._random = random if random is not None else _new_random()
        self._lanes: dict[Hashable, Lane] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpClient {self.exchange} {self._host}>"

    async def send(self, request: Request, sign: Sign | None = None) -> Response:
        """Send a request and return its answer.

        Reads are tried up to `read_retries` more times, with jittered backoff, within `BUDGET_TIMEOUTS` timeouts;
        a command never is, unless the venue says that it did not act because of the request's time stamp.

        Raises what `interpret` says; `RateLimited` on 429 and 418 and when the limiter's wait would be too long;
        `VenueUnavailable` when the venue cannot be reached, for commands only if they certainly were not sent;
        `AnswerLost` when a command may have been received but its answer is not known.
        """
        timeout_s = self._timeout_s if request.timeout_s is None else request.timeout_s
        deadline: float | None = None
        retries = 0
        stamped_anew = False
        while True:
            if sign is not None:
                await self._clock.refresh(hurry=request.command)
            permit = await self._limiter.acquire(
                request.costs, request.account, urgent=request.urgent, on_credit=request.on_credit
            )
            now = self._clock.local.monotonic()
            if deadline is None:
                deadline = now + BUDGET_TIMEOUTS * timeout_s
            left_s = min(timeout_s, max(deadline - now, timeout_s / 10))
            outcome = await self._in_turn(request, sign, permit, left_s)
            if isinstance(outcome, Response):
                return outcome
            if _is_clock_error(outcome) and sign is not None and not stamped_anew:
                stamped_anew = True
                if await self._measured_anew():
                    continue
            if request.command or retries >= self._read_retries:
                break
            delay_s = self._retry_delay_s(outcome, retries)
            if delay_s is None or self._clock.local.monotonic() + delay_s >= deadline:
                break
            retries += 1
            _log.debug("%s %s %s: retry %d in %.2f s", self.exchange, request.method, request.path, retries, delay_s)
            await self._clock.local.sleep(delay_s)
        raise outcome

    async def aclose(self) -> None:
        """Close all connections; idempotent. A given `transport` is left to its owner."""
        self._closed = True
        transport, self._transport = self._transport, None
        if transport is not None and transport is not self._given_transport:
            with anyio.CancelScope(shield=True), redacted():
                await transport.aclose()

    async def _in_turn(
        self, request: Request, sign: Sign | None, permit: Permit, timeout_s: float
    ) -> Response | Exception:
        """An attempt, when it is the request's turn in its lane and the venue listens."""
        name = request.lane
        if name is None:
            return await self._attempt(request, sign, permit, timeout_s)
        lane = self._lanes.setdefault(name, Lane())
        self._limiter.delay(permit)
        delayed = True
        try:
            await self._turn(lane, request)
            try:
                permit, delayed = self._limiter.leave(permit), False
                return await self._attempt(request, sign, permit, timeout_s)
            finally:
                lane.leave()
        finally:
            if delayed:
                self._limiter.leave(permit)
            if lane.idle and self._lanes.get(name) is lane:
                del self._lanes[name]

    async def _turn(self, lane: Lane, request: Request) -> None:
        """Wait for the turn in the lane. Pauses that began meanwhile are kept. Raises `RateLimited` when either takes
        longer than a request may wait."""
        clock = self._clock.local
        deadline = clock.monotonic() + self._limiter.max_wait_s
        while True:
            if not await lane.enter(clock, deadline - clock.monotonic(), urgent=request.urgent):
                raise RateLimited(
                    "held back by Astra: requests of this key leave one after the other, and those before this one "
                    f"took longer than the {self._limiter.max_wait_s:g} s that a request may wait",
                    exchange=self.exchange,
                )
            if not self._limiter.paused_for_s(request.account):
                return
            lane.leave()
            await self._limiter.acquire({}, request.account, urgent=request.urgent)

    async def _attempt(
        self, request: Request, sign: Sign | None, permit: Permit, timeout_s: float
    ) -> Response | Exception:
        """Sign, send and interpret once; what is to be raised is returned."""
        if request.command and not request.urgent:
            try:
                for check in LAST_CHECKS.get():
                    check()
            except AstraError as refusal:
                return refusal
        signed = request if sign is None else sign(request, self._clock.now_ms())
        began = self._clock.local.monotonic()
        answer = await self._exchange(signed, timeout_s)
        where = f"{request.method} {self._host}{self._base_path}{request.path}"
        if isinstance(answer, _Failure):
            _log.debug("%s %s: %s", self.exchange, where, answer.text)
            return self._failed(request, where, answer)
        elapsed_ms = (self._clock.local.monotonic() - began) * 1000
        _log.debug("%s %s: %d, %d bytes, %.0f ms", self.exchange, where, answer.status, len(answer.body), elapsed_ms)
        self._limiter.observe(answer.headers, request.account, permit)
        error = self._judge(request, where, answer)
        return answer if error is None else error

    def _failed(self, request: Request, where: str, failure: _Failure) -> Exception:
        text = f"{where}: {failure.text}"
        if request.command and failure.sent:
            return AnswerLost(text)
        return VenueUnavailable(text, exchange=self.exchange, retryable=not failure.final, outcome=Outcome.NOT_EXECUTED)

    def _judge(self, request: Request, where: str, response: Response) -> Exception | None:
        """What the venue's answer means: None when it is fine. Pauses the limiter where the venue demands it."""
        error = self._interpreted(request, where, response)
        if response.status in _DEFAULT_PAUSE_S:
            said = error.retry_after if isinstance(error, VenueError) else None
            if said is None:
                said = retry_after_s(response.headers, self._clock.local.wall_ns())
            pause_s = _DEFAULT_PAUSE_S[response.status] if said is None else said
            self._limiter.pause(pause_s, f"{where} was answered with {response.status}")
            if not isinstance(error, (RateLimited, AnswerLost)):
                text = error.message if isinstance(error, VenueError) else f"{where}: too many requests"
                code = error.code if isinstance(error, VenueError) else None
                error = RateLimited(text, exchange=self.exchange, code=code)
            if isinstance(error, RateLimited):
                error.retry_after = pause_s
        elif isinstance(error, RateLimited) and error.retry_after is not None and error.pauses is not Pauses.NOBODY:
            whose = request.account if error.pauses is Pauses.ACCOUNT else None
            self._limiter.pause(error.retry_after, error.message, whose)
        if isinstance(error, AnswerLost) and not request.command:
            return VenueUnavailable(error.message, exchange=self.exchange, code=error.code)
        return error

    def _interpreted(self, request: Request, where: str, response: Response) -> Exception | None:
        problem = ""
        try:
            error = self._interpret(request, response)
        except (AstraError, AnswerLost) as raised:
            error = raised
        except Exception as bug:  # noqa: BLE001 - whatever an answer does to its parser, a command's outcome is then unknown
            _log_unexpected("reading an answer", bug)
            error = None
            problem = f"the answer ({response.status}) could not be understood ({type(bug).__name__})"
        if error is None and not problem and not 200 <= response.status < 300:
            problem = f"unexpected answer {response.status}"
        if problem and response.status in _DEFAULT_PAUSE_S:
            # Whatever else the answer holds (a firewall's page), the status says that nothing was executed.
            return None
        if problem:
            text = f"{where}: {problem}"
            return AnswerLost(text) if request.command else VenueUnavailable(text, exchange=self.exchange)
        if error is not None:
            # What it was raised from may hold the answer or the request.
            error.__cause__ = error.__context__ = None
        return error

    def _retry_delay_s(self, error: Exception, retries: int) -> float | None:
        """Seconds to wait before a read is tried again; None when it must not be."""
        if not isinstance(error, VenueError) or not error.retryable or _is_clock_error(error):
            return None
        backoff_s = min(_BACKOFF_S * (1 << retries), _MAX_BACKOFF_S) * self._random.uniform(0.5, 1.0)
        if error.retry_after is None:
            return backoff_s
        return max(error.retry_after, backoff_s) if error.retry_after <= SHORT_PAUSE_S else None

    async def _measured_anew(self) -> bool:
        try:
            return await self._clock.remeasure()
        except VenueError as error:
            _log.warning("%s: the venue's clock could not be measured: %s", self.exchange, error)
            return False

    async def _exchange(self, request: Request, timeout_s: float) -> Response | _Failure:
        """One request on the wire. Never raises but for cancellation: exceptions may hold what must not be seen."""
        # A transport of somebody else's does not tell how far the request came: then anything may have happened.
        progress = _Progress(headers=self._given_transport is not None, body=self._given_transport is not None)
        try:
            transport = self._opened()
            wire = self._wire(request, progress, timeout_s)
            with anyio.fail_after(timeout_s), redacted():
                response = await progress.answer(transport, wire)
                try:
                    body = await _bounded(response, request.max_bytes)
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
            if body is None:
                return _Failure(f"an answer of more than {request.max_bytes} bytes", sent=True, final=True)
            return Response(response.status_code, _lowered(response.headers), body)
        except AstraError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever breaks once a command left, its outcome is then unknown
            return _failure(error, timeout_s, sent=progress.headers, body=progress.body)

    def _opened(self) -> httpx.AsyncBaseTransport:
        if self._closed:
            raise StreamClosed(f"the connections to {self._host} were closed")
        if self._transport is None:
            self._transport = network_transport(self._proxy)
        return self._transport

    def _wire(self, request: Request, progress: _Progress, timeout_s: float) -> httpx.Request:
        import httpx

        target = f"{self._base_path}{request.path}" + (f"?{request.query}" if request.query else "")
        extensions: dict[str, Any] = {
            "timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s),
            "trace": progress.note,
        }
        if self._given_transport is None and self._proxy is None:
            # The request line as it stands; httpx would normalise a URL. (Proxies need the URL.)
            extensions["target"] = target.encode("ascii")
            url = httpx.URL(self._origin)
        else:
            url = httpx.URL(self._origin.rstrip("/") + target)
            if url.raw_path != target.encode("ascii"):
                raise _NotEncoded
        headers = {"User-Agent": "astra", "Accept": "*/*", "Accept-Encoding": "gzip", **request.headers}
        return httpx.Request(request.method, url, headers=headers, content=request.body, extensions=extensions)


class _NotEncoded(Exception):
    """Path or query hold characters that must be percent-encoded."""


class _Progress:
    """How far a request came, as httpcore's trace extension tells: did its headers and body (begin to) leave?"""

    def __init__(self, *, headers: bool = False, body: bool = False) -> None:
        self.headers = headers
        self.body = body
        self._opened: Any = None

    async def answer(self, transport: httpx.AsyncBaseTransport, wire: httpx.Request) -> httpx.Response:
        try:
            return await transport.handle_async_request(wire)
        except BaseException:
            if self._opened is not None:
                # httpcore forgets the socket when it is cancelled during the TLS handshake.
                with anyio.move_on_after(1, shield=True):
                    await self._opened.aclose()
            raise

    async def note(self, event: str, details: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.complete"):
            self._opened = details["return_value"]
        elif event.endswith("send_request_headers.started"):
            self.headers = True
        elif event.endswith("send_request_body.started"):
            self.body = True


def _failure(error: Exception, timeout_s: float, *, sent: bool, body: bool) -> _Failure:
    """What an exception of the transport means, in words that give nothing away.

    `sent`: the request may have left; `body`: so may its body.
    """
    import httpx

    text = "the connection broke before the whole answer had come"
    final = False
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        sent, text = False, f"cannot connect{_system_text(error)}"
    elif isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)):
        sent, text = False, f"no connection within {timeout_s:g} s"
    elif isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeEncodeError, _NotEncoded)):
        sent, final, text = False, True, "path and query must be percent-encoded ASCII"
    elif isinstance(error, httpx.LocalProtocolError) and not body:
        sent, final, text = False, True, "malformed request (a line break in a key or header?)"
    elif isinstance(error, (httpx.TimeoutException, TimeoutError)):
        text = f"no {'answer' if sent else 'connection'} within {timeout_s:g} s"
    elif isinstance(error, (httpx.DecodingError, zlib.error)):
        text = "the answer's compression is broken"
    elif not isinstance(error, httpx.TransportError):
        _log_unexpected("a request", error)
        text = f"failed ({type(error).__name__})"
    return _Failure(text, sent=sent, final=final)


def _system_text(error: Exception) -> str:
    """The operating system's or TLS library's reason, unless it could hold a URL."""
    text = str(error)
    return "" if not text or "://" in text or "?" in text or "@" in text else f" ({text})"


def _log_unexpected(during: str, error: Exception) -> None:
    """Log where an unforeseen exception came from, without its text: that may hold anything."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("unexpected %s during %s:\n%s", type(error).__name__, during, frames)


def _is_clock_error(error: Exception) -> bool:
    """Did the venue refuse the time stamp, and so certainly not act?"""
    return isinstance(error, AuthenticationError) and error.retryable and error.outcome is Outcome.NOT_EXECUTED


async def _bounded(response: httpx.Response, max_bytes: int) -> bytes | None:
    """The body, or None when it is longer than allowed.

    httpx's own decompression is not used: it does not bound what it makes of a chunk.
    """
    import httpx

    body = bytearray()
    stopped = False
    try:
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            if stopped:
                continue
            body += chunk
            if len(body) > max_bytes:
                # Not `break`: closing the connection ends the iteration from inside, so that httpcore's generators
                # finish, too.
                stopped = True
                await response.aclose()
    except httpx.TransportError:
        if not stopped:
            raise
    if stopped:
        return None
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity" or not body:
        return bytes(body)
    if encoding != "gzip":
        raise httpx.DecodingError("an encoding that was not asked for")
    return _gunzipped(bytes(body), max_bytes)


def _gunzipped(body: bytes, max_bytes: int) -> bytes | None:
    """The decompressed body, None when it is longer than allowed. Raises `zlib.error` unless it is whole."""
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    text = decoder.decompress(body, max_bytes + 1)
    if len(text) > max_bytes:
        return None
    if not decoder.eof:
        raise zlib.error("cut off")
    return text


def _lowered(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def retry_after_s(headers: Mapping[str, str], wall_ns: int) -> float | None:
    """The `Retry-After` header (lower-case names) in seconds; None without a usable one."""
    text = headers.get("retry-after", "").strip()
    try:
        if text.isdecimal():
            return float(text)
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return max(0.0, at.timestamp() - wall_ns / 1e9)


def describe(error: Exception, timeout_s: float) -> str:
    """What an exception while connecting means, in words that give nothing away."""
    return _failure(error, timeout_s, sent=False, body=False).text


def check_proxy(proxy: str | None) -> None:
    """Raise `ConfigError` unless the proxy's URL is one that can be used. (Its text may hold a password.)"""
    if proxy is None:
        return
    parts = urllib.parse.urlsplit(proxy)
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not parts.hostname:
        raise ConfigError("a proxy is given as http://, https:// or socks5://[user:password@]host[:port]")


async def upgrade(
    transport: httpx.AsyncBaseTransport, url: str, headers: Mapping[str, str], *, by_url: bool
) -> httpx.Response:
    """Ask for a WebSocket; the caller bounds the time. `by_url`: for a proxy or an in-process application, which do
    not take the request line as it stands."""
    import httpx

    origin, target = split_target(url)
    progress = _Progress()
    extensions: dict[str, Any] = {"trace": progress.note}
    if not by_url:
        extensions["target"] = target.encode("ascii")
    wire = httpx.Request(
        "GET",
        httpx.URL(url if by_url else origin),
        headers={"User-Agent": "astra", **headers},
        extensions=extensions,
    )
    with redacted():
        return await progress.answer(transport, wire)


def split_target(url: str) -> tuple[str, str]:
    """A URL as (scheme and host, path and query). Only the first part may be shown."""
    parts = urllib.parse.urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", target


def _new_random() -> random.Random:
    return random.Random()


def tls_context() -> ssl.SSLContext:
    """The TLS settings of all connections: certificates as `SSL_CERT_FILE` or `SSL_CERT_DIR` say, else certifi's."""
    import httpx

    return httpx.create_ssl_context()


def network_transport(proxy: str | None, tls: ssl.SSLContext | None = None) -> httpx.AsyncBaseTransport:
    """A pool of connections to the network, through the proxy if there is one. Raises `ConfigError` for a SOCKS proxy
    that nobody here can speak to."""
    import httpx

    if proxy is not None and proxy.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError("a SOCKS proxy needs the package socksio (pip install 'httpx[socks]')")

    for name in ("connection", "http11", "http2", "proxy", "socks"):
        logging.getLogger(f"httpcore.{name}").addFilter(_only_event_names)
    return httpx.AsyncHTTPTransport(
        verify=tls_context() if tls is None else tls,
        proxy=proxy,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0),
    )


_ours: ContextVar[bool] = ContextVar("astra_request", default=False)
"""Set while one of our requests runs: httpcore's logs are cut for those, and left alone for everybody else's."""


def _only_event_names(record: logging.LogRecord) -> bool:
    """Cut httpcore's record to the name of the event: what follows holds headers and proxy passwords."""
    if _ours.get():
        record.msg = record.getMessage().partition(" ")[0]
        record.args = ()
    return True


@contextmanager
def redacted() -> Iterator[None]:
    """Keep httpcore's logs of what runs inside to the names of events."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)
