"""Requests over real sockets: what is repeated and what never is, what became of a command, what leaks (nothing)."""

from __future__ import annotations

import gc
import gzip
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import msgspec
import pytest

from astra.errors import (
    AuthenticationError,
    ConfigError,
    InsufficientFunds,
    OrderOutcomeUnknown,
    Outcome,
    Pauses,
    RateLimited,
    StreamClosed,
    VenueError,
    VenueUnavailable,
)
from astra.net.clock import VenueClock
from astra.net.http import AnswerLost, HttpClient, Request, Response, retry_after_s
from astra.net.ratelimit import Bucket, RateLimiter
from astra.rest import Failure, Meaning
from astra.trading.outcome import send_command

KEY = "publicpublicpublickey"
SIGNATURE = "sigsigsigsignature"
BODY_SECRET = "bodybodybodysecret"

Answer = bytes | None
"""What a server sends; None: it hangs up."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class QuickClock:
    """Time that jumps over sleeps; they are recorded."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def wall_ns(self) -> int:
        return time.time_ns() + round(self.skipped * 1e9)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.skipped += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        await self.sleep(seconds)
        return event.is_set()


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """Answers one request after the other with what it was given, the last answer again and again."""

    def __init__(self, *answers: Answer | Callable[[bytes], Answer]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self._lock = threading.Lock()

    @property
    def lines(self) -> list[str]:
        return [request.split(b"\r\n")[0].decode() for request in self.requests]

    @contextmanager
    def serving(self) -> Iterator[str]:
        listening = socket.create_server(("127.0.0.1", 0))
        threads = [threading.Thread(target=self._accept, args=(listening,))]
        self._threads = threads
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            for thread in threads:
                thread.join()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, suppress(ConnectionError, TimeoutError):
            peer.settimeout(10)
            while request := self._read(peer):
                with self._lock:
                    self.requests.append(request)
                    given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                response = given(request) if callable(given) else given
                if response is None:
                    return
                peer.sendall(response)

    @staticmethod
    def _read(peer: socket.socket) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request:
            part = peer.recv(65536)
            if not part:
                return b""
            request += part
        head, _, body = request.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += peer.recv(65536)
        return head + b"\r\n\r\n" + body


def interpret(request: Request, response: Response) -> Exception | None:
    """A venue's rules, as simple as they get."""
    if response.status == 401:
        return AuthenticationError("timestamp", exchange="X", code="-1021", retryable=True)
    if response.status == 402:
        return InsufficientFunds("no funds", exchange="X", code="-2010")
    if response.status == 403:
        return AuthenticationError("bad key", exchange="X")
    if response.status == 500:
        return AnswerLost("unknown", code="-1007")
    if response.status == 503:
        return VenueUnavailable("busy", exchange="X", code="-1008")
    if response.status == 400:
        msgspec.json.decode(response.body)
    return None


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()


class Setup:
    """A client of a server, with all that belongs to it."""

    def __init__(self, clock: QuickClock, url: str, **options: Any) -> None:
        self.limiter = RateLimiter("X", [Bucket("weight", 100, 60, used_header="x-used")], clock)
        self.venue_clock = VenueClock(clock)
        self.client = HttpClient(
            "X", url, limiter=self.limiter, clock=self.venue_clock, **{"interpret": interpret} | options
        )

    async def __aenter__(self) -> Setup:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()


def signed(request: Request, now_ms: int) -> Request:
    return msgspec.structs.replace(
        request,
        query=f"{request.query}&timestamp={now_ms}&signature={SIGNATURE}",
        headers={"X-MBX-APIKEY": KEY},
    )


READ = Request("GET", "/api/v3/thing", query="a=1", costs={"weight": 1})
COMMAND = Request("POST", "/api/v3/order", body=b"a=1", costs={"weight": 1}, command=True)


async def test_what_was_signed_is_sent_byte_for_byte(clock: QuickClock) -> None:
    server = Server(answer(body=b'{"ok":1}', X_Used="7", X_Used_More="a"))
    query = "symbols=%5B%22A%22%2C%22B%22%5D&x=%e5%b8%81&y=a+b&z=~!*'()|&sig=%2F%3D"
    with server.serving() as url:
        async with Setup(clock, f"{url}/base/") as setup:
            request = Request(
                "PUT", "/p%2Fq/../r", query, b"\x00body\xff", {"X-MBX-APIKEY": KEY, "Content-Type": "x/y"}
            )
            response = await setup.client.send(request)
    assert response.body == b'{"ok":1}'
    assert response.headers["x-used-more"] == "a"
    assert server.lines == [f"PUT /base/p%2Fq/../r?{query} HTTP/1.1"]
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == b"\x00body\xff"
    lines = head.lower().split(b"\r\n")
    assert f"x-mbx-apikey: {KEY}".encode() in lines
    assert b"content-type: x/y" in lines
    assert b"content-length: 6" in lines
    assert sum(line.startswith(b"host: 127.0.0.1:") for line in lines) == 1


async def test_connections_are_kept_and_cookies_are_not(clock: QuickClock) -> None:
    server = Server(answer(Set_Cookie="session=1"))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            for _ in range(5):
                await setup.client.send(READ)
    assert server.connections == 1
    assert not any(b"cookie" in request.lower() for request in server.requests)


async def test_a_read_is_tried_again_and_stamped_and_signed_anew(clock: QuickClock) -> None:
    server = Server(answer(503), None, answer(body=b"[]"))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            response = await setup.client.send(READ, signed)
    assert response.body == b"[]"
    stamps = [int(line.split("timestamp=")[1].split("&")[0]) for line in server.lines]
    assert len(stamps) == 3
    first, second = clock.slept
    assert 0.125 <= first <= 0.25 < second <= 0.5
    assert stamps[1] - stamps[0] >= first * 1000 - 1
    assert stamps[2] - stamps[1] >= second * 1000 - 1


async def test_a_read_is_given_up_after_its_retries(clock: QuickClock) -> None:
    server = Server(answer(503))
    with server.serving() as url:
        async with Setup(clock, url, read_retries=1) as setup:
            with pytest.raises(VenueUnavailable) as caught:
                await setup.client.send(READ)
    assert caught.value.code == "-1008"
    assert len(server.requests) == 2


async def test_a_read_and_its_retries_are_bounded_in_time(clock: QuickClock) -> None:
    def slow(_: bytes) -> Answer:
        clock.skipped += 9
        return answer(503)

    server = Server(slow)
    with server.serving() as url:
        async with Setup(clock, url, timeout_s=10, read_retries=50) as setup:
            with pytest.raises(VenueUnavailable):
                await setup.client.send(READ)
    assert len(server.requests) == 3


async def test_the_last_try_of_a_read_has_only_the_time_that_is_left(clock: QuickClock) -> None:
    def busy(_: bytes) -> Answer:
        clock.skipped += 0.4
        return answer(503)

    server = Server(busy, lambda _: time.sleep(1))
    with server.serving() as url:
        async with Setup(clock, url, timeout_s=0.5, read_retries=1) as setup:
            with pytest.raises(VenueUnavailable) as caught:
                await setup.client.send(READ)
    assert len(server.requests) == 2
    said = float(caught.value.message.split("within ")[1].split(" ")[0])
    assert 0.1 < said < 0.5


async def test_a_read_whose_answer_the_venue_lost_may_be_asked_for_again(clock: QuickClock) -> None:
    server = Server(answer(500), answer())
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
            server.answers = [answer(500)]
            with pytest.raises(VenueUnavailable) as caught:
                await setup.client.send(READ)
    assert caught.value.code == "-1007"


async def test_a_read_does_not_wait_out_a_long_pause(clock: QuickClock) -> None:
    server = Server(answer(429, Retry_After="8"))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(RateLimited):
                await setup.client.send(READ)
    assert clock.slept == []


async def test_an_error_that_asking_again_would_not_mend_is_raised_at_once(clock: QuickClock) -> None:
    for status, kind in ((402, InsufficientFunds), (403, AuthenticationError)):
        server = Server(answer(status))
        with server.serving() as url:
            async with Setup(clock, url) as setup:
                with pytest.raises(kind):
                    await setup.client.send(READ)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "lost",
    [
        None,
        answer(500),
        answer(502),
        answer(302, Location="/elsewhere"),
        answer(400, b"<html>no JSON"),
        answer(200, b"{}" * 50)[:-20],
        answer(200, b"not gzip", Content_Encoding="gzip"),
        answer(200, gzip.compress(b"{}" * 50)[:-9], Content_Encoding="gzip"),
        answer(200, b"{}", Content_Encoding="br"),
        answer(200, b"x" * 1001),
        b"HTTP/1.1 200 OK\r\n\x00: broken\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
    ids=[
        "reset",
        "said",
        "502",
        "redirect",
        "html",
        "cut",
        "gzip",
        "cut gzip",
        "brotli",
        "too long",
        "headers",
        "no http",
    ],
)
async def test_a_command_without_a_clear_answer_is_lost_and_never_sent_twice(clock: QuickClock, lost: Answer) -> None:
    # A server that says nothing more hangs up, so that nobody waits for the rest.
    served: list[bytes] = []

    def hang_up_after(request: bytes) -> Answer:
        served.append(request)
        return lost

    server = Server(hang_up_after, None)
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            request = msgspec.structs.replace(COMMAND, max_bytes=1000, timeout_s=0.5)
            with pytest.raises(AnswerLost) as caught:
                await setup.client.send(request, signed)
    assert len(served) == len(server.requests) == 1
    assert caught.value.code == ("-1007" if lost == answer(500) else None)


async def test_a_command_that_was_answered_late_is_lost(clock: QuickClock) -> None:
    hold = threading.Event()

    def late(_: bytes) -> Answer:
        hold.wait(5)
        return answer()

    server = Server(late)
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(AnswerLost, match=r"no answer within 0\.1 s"):
                await setup.client.send(msgspec.structs.replace(COMMAND, timeout_s=0.1))
            hold.set()
    assert len(server.requests) == 1


async def test_an_answer_that_drips_is_bounded_by_the_timeout(clock: QuickClock) -> None:
    done = threading.Event()

    def script(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer, suppress(OSError):
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not done.wait(0.02):
                peer.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=script, args=(listening,))
        thread.start()
        async with Setup(clock, f"http://127.0.0.1:{listening.getsockname()[1]}") as setup:
            began = time.monotonic()
            with pytest.raises(AnswerLost):
                await setup.client.send(msgspec.structs.replace(COMMAND, timeout_s=0.3))
            assert time.monotonic() - began < 2
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("ConnectTimeout", VenueUnavailable),
        ("PoolTimeout", VenueUnavailable),
        ("ConnectError", VenueUnavailable),
        ("ProxyError", VenueUnavailable),
        ("ReadTimeout", AnswerLost),
        ("WriteTimeout", AnswerLost),
        ("ReadError", AnswerLost),
        ("WriteError", AnswerLost),
        ("RemoteProtocolError", AnswerLost),
        ("LocalProtocolError", AnswerLost),
    ],
)
async def test_of_a_transport_that_does_not_tell_how_far_it_came_the_worst_is_believed(
    clock: QuickClock, failure: str, expected: type[Exception]
) -> None:
    httpx = pytest.importorskip("httpx")

    def fail(_: Any) -> Any:
        raise getattr(httpx, failure)(f"http://x/?signature={SIGNATURE}")

    async with Setup(clock, "http://app", transport=httpx.MockTransport(fail)) as setup:
        with pytest.raises(expected) as caught:
            await setup.client.send(COMMAND)
    assert SIGNATURE not in everything_about(caught.value)


async def test_what_an_error_was_made_from_is_not_carried_along(clock: QuickClock) -> None:
    def raising(request: Request, response: Response) -> Exception | None:
        try:
            raise ValueError(response.body)
        except ValueError as error:
            raise InsufficientFunds("no funds", exchange="X") from error

    with Server(answer(body=SIGNATURE.encode())).serving() as url:
        async with Setup(clock, url, interpret=raising) as setup:
            with pytest.raises(InsufficientFunds) as caught:
                await setup.client.send(COMMAND)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("request_", [READ, COMMAND], ids=["read", "command"])
async def test_what_never_left_was_not_executed(clock: QuickClock, request_: Request) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with Setup(clock, f"http://127.0.0.1:{port}", read_retries=0) as setup:
        with pytest.raises(VenueUnavailable) as caught:
            await setup.client.send(request_)
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert caught.value.retryable
    assert f"127.0.0.1:{port}" in caught.value.message


async def test_a_command_that_waits_for_tls_never_left(clock: QuickClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with Setup(clock, f"https://127.0.0.1:{silent.getsockname()[1]}") as setup:
            with pytest.raises(VenueUnavailable) as caught:
                await setup.client.send(msgspec.structs.replace(COMMAND, timeout_s=0.2))
    assert caught.value.outcome is Outcome.NOT_EXECUTED


async def test_a_malformed_key_is_not_sent_and_not_shown(clock: QuickClock) -> None:
    server = Server(answer())
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            request = msgspec.structs.replace(COMMAND, headers={"X-MBX-APIKEY": f"{KEY}\n"})
            with pytest.raises(VenueUnavailable) as caught:
                await setup.client.send(request)
    assert server.requests == []
    assert not caught.value.retryable
    assert KEY not in everything_about(caught.value)


async def test_a_body_is_read_no_further_than_allowed(clock: QuickClock) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    server = Server(answer(body=bomb, Content_Encoding="gzip"), answer(body=b"x" * 5_000_000))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            for _ in range(2):
                with pytest.raises(VenueUnavailable, match="more than 1000000 bytes") as caught:
                    await setup.client.send(msgspec.structs.replace(READ, max_bytes=1_000_000))
                assert not caught.value.retryable
            server.answers = [answer(body=gzip.compress(b"[1]"), Content_Encoding="gzip")]
            assert (await setup.client.send(READ)).body == b"[1]"
    assert len(server.requests) == 3


async def test_too_many_requests_stops_everything_for_as_long_as_the_venue_says(clock: QuickClock) -> None:
    server = Server(answer(429, Retry_After="40"))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(RateLimited) as caught:
                await setup.client.send(READ)
            assert caught.value.retry_after == 40
            assert setup.limiter.paused_s == pytest.approx(40, abs=1)
            with pytest.raises(RateLimited, match="429"):
                await setup.client.send(COMMAND)
            assert len(server.requests) == 1
            clock.skipped += 41
            server.answers = [answer()]
            await setup.client.send(READ)


async def test_a_read_waits_out_a_short_pause_and_a_command_does_not(clock: QuickClock) -> None:
    server = Server(answer(429, Retry_After="2"), answer(), answer(429, Retry_After="2"))
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
            assert sum(clock.slept) == pytest.approx(2, abs=0.1)
            with pytest.raises(RateLimited) as caught:
                await setup.client.send(COMMAND)
    assert caught.value.outcome is Outcome.NOT_EXECUTED
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("pauses", "held"),
    [(Pauses.EVERYBODY, {"mine", "other", None}), (Pauses.ACCOUNT, {"mine"}), (Pauses.NOBODY, set())],
)
async def test_a_limit_pauses_whom_it_concerns(clock: QuickClock, pauses: Pauses, held: set[str | None]) -> None:
    def limited(request: Request, response: Response) -> Exception | None:
        return Failure("X", "slow down", retry_after=40.0).raised_as(Meaning(RateLimited, pauses=pauses))

    with Server(answer()).serving() as url:
        async with Setup(clock, url, interpret=limited) as setup:
            with pytest.raises(RateLimited) as caught:
                await setup.client.send(msgspec.structs.replace(COMMAND, account="mine"))
            assert caught.value.retry_after == 40
            paused = {one for one in ("mine", "other", None) if setup.limiter.paused_for_s(one)}
    assert paused == held


async def test_a_ban_without_a_length_is_taken_seriously(clock: QuickClock) -> None:
    with Server(answer(418)).serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(RateLimited) as caught:
                await setup.client.send(READ)
    assert caught.value.retry_after == 60


async def test_the_venues_own_word_for_a_limit_keeps_its_code(clock: QuickClock) -> None:
    def limited(request: Request, response: Response) -> Exception | None:
        return RateLimited("slow down", exchange="X", code="50011", retry_after=3 if response.status == 200 else None)

    server = Server(answer(429, Retry_After="40"))
    with server.serving() as url:
        async with Setup(clock, url, interpret=limited) as setup:
            with pytest.raises(RateLimited) as caught:
                await setup.client.send(READ)
            assert (caught.value.code, caught.value.retry_after) == ("50011", 40)
    server = Server(answer())
    with server.serving() as url:
        async with Setup(clock, url, interpret=limited) as setup:
            with pytest.raises(RateLimited):
                await setup.client.send(COMMAND)
            assert setup.limiter.paused_s == pytest.approx(3, abs=0.5)


async def test_used_amounts_reach_the_limiter(clock: QuickClock) -> None:
    with Server(answer(X_Used="90")).serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
            assert setup.limiter.report()[0].used == 90


class TestTimeStamps:
    async def test_the_clock_is_measured_before_the_first_signature(self, clock: QuickClock) -> None:
        server = Server(answer())
        with server.serving() as url:
            async with Setup(clock, url) as setup:
                setup.venue_clock.source = self.ahead(clock, 5_000_000)
                await setup.client.send(READ)
                assert setup.venue_clock.stale
                await setup.client.send(READ, signed)
        stamp = int(server.lines[1].split("timestamp=")[1].split("&")[0])
        assert stamp == pytest.approx(clock.wall_ns() / 1e6 + 5_000_000, abs=2000)

    @pytest.mark.parametrize("request_", [READ, COMMAND], ids=["read", "command"])
    async def test_a_refused_stamp_is_mended_once(self, clock: QuickClock, request_: Request) -> None:
        server = Server(answer(401), answer())
        with server.serving() as url:
            async with Setup(clock, url) as setup:
                setup.venue_clock.source = self.ahead(clock, 1000, 77_000)
                await setup.client.send(request_, signed)
        first, second = (int(line.split("timestamp=")[1].split("&")[0]) for line in server.lines)
        assert second - first == pytest.approx(76_000, abs=2000)

    async def test_a_stamp_refused_twice_is_an_error(self, clock: QuickClock) -> None:
        server = Server(answer(401))
        with server.serving() as url:
            async with Setup(clock, url) as setup:
                setup.venue_clock.source = self.ahead(clock, 0)
                for request in (READ, COMMAND):
                    with pytest.raises(AuthenticationError):
                        await setup.client.send(request, signed)
        assert len(server.requests) == 4

    async def test_without_a_time_source_a_refused_stamp_is_an_error(self, clock: QuickClock) -> None:
        server = Server(answer(401))
        with server.serving() as url:
            async with Setup(clock, url) as setup:
                with pytest.raises(AuthenticationError):
                    await setup.client.send(COMMAND, signed)
        assert len(server.requests) == 1

    @staticmethod
    def ahead(clock: QuickClock, *offsets: int) -> Callable[[], Any]:
        """A time source whose measurements (three rounds each) give these offsets in turn."""
        asked = 0

        async def source() -> int:
            nonlocal asked
            offset = offsets[min(asked // 3, len(offsets) - 1)]
            asked += 1
            await anyio.lowlevel.checkpoint()
            return clock.wall_ns() // 1_000_000 + offset

        return source


def everything_about(error: BaseException) -> str:
    """All that an error report could print, local variables of every frame included."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True, limit=-8)
    return "".join([repr(error), str(error), repr(vars(error)), *report.format()])


def secret_request() -> Request:
    # Made by a function, so that no frame of the test itself holds the parts.
    return Request("POST", "/order", body=BODY_SECRET.encode(), headers={"X-MBX-APIKEY": KEY}, command=True)


ENDINGS: dict[str, Answer | Callable[[bytes], Answer]] = {
    "fine": answer(),
    "reset": None,
    "refused": answer(402),
    "html": answer(400, b"<html>"),
    "bad key": answer(403),
    "unknown": answer(500),
    "banned": answer(418),
    "redirected": answer(302, Location=f"http://x/?signature={SIGNATURE}"),
    "malformed": b"HTTP/1.1 200 OK\r\n\x00: broken\r\n\r\n",
    "late": lambda _: time.sleep(0.3),
    "nobody there": None,
    "no tls": None,
}


@pytest.mark.parametrize("command", [True, False], ids=["command", "read"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_nothing_secret_is_logged_or_raised(
    clock: QuickClock, ending: str, command: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    for name in ("httpcore.connection", "httpcore.http11", "httpcore", "httpx", "astra", "astra.net"):
        caplog.set_level(1, name)
    server = Server(ENDINGS[ending])
    error: BaseException | None = None
    with server.serving() as url:
        base = {"no tls": url.replace("http:", "https:"), "nobody there": "http://127.0.0.1:1"}.get(ending, url)
        async with Setup(clock, base, timeout_s=0.1, read_retries=1) as setup:
            request = msgspec.structs.replace(secret_request(), command=command)
            try:
                await setup.client.send(request, signed)
            except (VenueError, AnswerLost) as raised:
                error = raised
            shown = repr(setup.client) + repr(request) + f"{request}" + repr(signed(request, 1))
    assert (error is None) == (ending == "fine")
    assert caplog.records
    text = caplog.text + shown
    if error is not None:
        text += everything_about(error)
        assert error.__context__ is None
        assert error.__cause__ is None
    for secret in (KEY, SIGNATURE, BODY_SECRET):
        assert secret not in text
    if ending not in ("nobody there", "no tls"):
        assert any(SIGNATURE.encode() in request for request in server.requests), "it was sent, after all"


async def test_other_peoples_httpcore_logs_are_left_alone(clock: QuickClock, caplog: pytest.LogCaptureFixture) -> None:
    httpx = pytest.importorskip("httpx")
    caplog.set_level(logging.DEBUG)
    with Server(answer(X_Mine="visible")).serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
            assert "visible" not in caplog.text
            assert "receive_response_headers.complete" in caplog.text
            async with httpx.AsyncClient() as theirs:
                await theirs.get(url)
            assert "visible" in caplog.text


def test_requests_and_responses_show_no_contents() -> None:
    request = Request("GET", "/path", query=SIGNATURE, body=SIGNATURE.encode(), headers={"k": SIGNATURE})
    response = Response(200, {"k": SIGNATURE}, SIGNATURE.encode())
    for shown in (request, response):
        assert SIGNATURE not in f"{shown} {shown!r} {shown.__rich_repr__()}"
    assert "/path" in repr(request)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts sockets in /proc")
async def test_a_cancelled_request_leaves_no_socket_and_a_client_that_works(clock: QuickClock) -> None:
    program = (
        "import socket, sys, threading, time\n"
        "def serve(peer):\n"
        "    while peer.recv(65536):\n"
        "        for part in (b'HTTP/1.1 200 OK\\r\\n', b'Content-Length: 4\\r\\n', b'\\r\\n', b'aa', b'aa'):\n"
        "            time.sleep(0.002); peer.sendall(part)\n"
        "listening = socket.create_server(('127.0.0.1', 0)); print(listening.getsockname()[1], flush=True)\n"
        "while True: threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()\n"
    )
    with running(program) as port:
        before = open_sockets()
        async with Setup(clock, f"http://127.0.0.1:{port}") as setup:
            plain = msgspec.structs.replace(READ, costs={})
            for step in range(30):
                with anyio.move_on_after(step * 0.0005):
                    await setup.client.send(plain)
            assert len(open_sockets()) <= len(before) + 1
            assert (await setup.client.send(plain)).body == b"aaaa"
        assert open_sockets() == before
        async with Setup(clock, f"https://127.0.0.1:{port}") as setup:
            for step in range(10):
                with anyio.move_on_after(step * 0.0005):
                    await setup.client.send(plain)
            assert open_sockets() == before


@contextmanager
def running(program: str) -> Iterator[int]:
    """A server in a process of its own, so that all sockets of this one are the client's."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def open_sockets() -> list[str]:
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(link for link in links if link.startswith("socket:"))


async def test_a_closed_client_says_so(clock: QuickClock) -> None:
    with Server(answer()).serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
            await setup.client.aclose()
            await setup.client.aclose()
            with pytest.raises(StreamClosed):
                await setup.client.send(READ)


async def test_many_requests_run_at_once(clock: QuickClock) -> None:
    barrier = threading.Barrier(8)

    def together(_: bytes) -> Answer:
        barrier.wait(5)
        return answer()

    server = Server(together)
    with server.serving() as url:
        async with Setup(clock, url) as setup, anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(setup.client.send, READ)
    assert server.connections == 8


async def test_the_environment_is_not_read(clock: QuickClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = Server(answer())
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            await setup.client.send(READ)
    assert len(server.lines) == 1


async def test_a_proxy_is_used_where_one_is_given(clock: QuickClock) -> None:
    server = Server(answer())
    with server.serving() as proxy:
        async with Setup(clock, "http://venue.example/base", proxy=proxy) as setup:
            await setup.client.send(READ)
    assert server.lines == ["GET http://venue.example/base/api/v3/thing?a=1 HTTP/1.1"]


@pytest.mark.parametrize(
    ("url", "proxy"),
    [("ftp://x", None), ("x.example", None), ("http://", None), ("http://user:pw@x", None), ("http://x", "pw@y:1")],
)
async def test_bad_urls_are_refused_without_showing_them(clock: QuickClock, url: str, proxy: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Setup(clock, url, proxy=proxy)
    assert "pw" not in str(caught.value).replace("password", "")


async def test_a_socks_proxy_without_its_package_says_what_to_install(
    clock: QuickClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    async with Setup(clock, "http://venue.example", proxy="socks5://user:pw@127.0.0.1:1") as setup:
        with pytest.raises(ConfigError, match="socksio") as caught:
            await setup.client.send(COMMAND)
    assert "pw" not in str(caught.value)


async def test_in_process_applications_are_reached_through_their_transport(clock: QuickClock) -> None:
    httpx = pytest.importorskip("httpx")
    seen: list[bytes] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["query_string"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in process"})

    async with Setup(clock, "http://app", transport=httpx.ASGITransport(application)) as setup:
        assert (await setup.client.send(READ)).body == b"in process"
    assert seen == [b"a=1"]


async def test_a_lost_answer_to_an_order_is_an_unknown_outcome(clock: QuickClock) -> None:
    server = Server(None)
    with server.serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(OrderOutcomeUnknown) as caught:
                await send_command(
                    setup.client,
                    msgspec.structs.replace(COMMAND, command=False),
                    signed,
                    market="X-SPOT-A-B",
                    operation="place_order",
                    client_order_id="mine-1",
                )
    error = caught.value
    assert len(server.requests) == 1
    assert (error.exchange, error.market, error.operation, error.client_order_id) == (
        "X",
        "X-SPOT-A-B",
        "place_order",
        "mine-1",
    )
    assert error.outcome is Outcome.UNKNOWN
    assert not error.retryable
    assert error.__context__ is None
    for part in ("mine-1", "X-SPOT-A-B", "resolve_order"):
        assert part in error.message


async def test_a_refused_order_is_what_the_venue_said(clock: QuickClock) -> None:
    with Server(answer(402)).serving() as url:
        async with Setup(clock, url) as setup:
            with pytest.raises(InsufficientFunds):
                await send_command(
                    setup.client, COMMAND, None, market="X-SPOT-A-B", operation="amend_order", order_id="7"
                )


def test_importing_the_module_does_not_import_httpx() -> None:
    check = (
        "import sys, astra.net.http, astra.trading.outcome; assert not {'httpx', 'httpcore', 'ssl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        (" 3 ", 3),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(text: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": text}, 40_000_000_000) == seconds
