"""One client's HTTP/1.1 connection: requests in, the venue's answers out, until it ends or becomes a WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import h11
from websockets.http11 import Response as HandshakeAnswer

from astra.sandbox import HttpRequest, HttpResponse, SandboxVenue
from astra_sandbox.faults import FaultDice, RequestFate
from astra_sandbox.websocket import Outlet, WebSocketPeer, header_map
from astra_sandbox.wire import Wire

logger = logging.getLogger("astra_sandbox")

MOST_BODY_BYTES = 1024 * 1024
MOST_HEADER_BYTES = 128 * 1024
"""Stream names in URLs can be many."""
RETRY_AFTER_S = 1
MOST_LATE = 10_000
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_FAILED = HttpResponse(500, b"the sandbox failed, see its log", content_type="text/plain")

Answer = TypeVar("Answer")


class Reset(Exception):
    """The connection is to be reset (a fault)."""


class HttpConnection:
    """Serves one connection. `late` receives the requests that reach the venue only later."""

    def __init__(
        self, host: str, wire: Wire, venue: SandboxVenue, outlet: Outlet, late: list[tuple[float, HttpRequest]]
    ) -> None:
        self.peer: WebSocketPeer | None = None
        self.must_reset = False
        self._host = host
        self._wire = wire
        self._venue = venue
        self._outlet = outlet
        self._dice: FaultDice = outlet.dice
        self._late = late
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)

    async def run(self) -> None:
        """Serve until the connection ends."""
        try:
            while await self._cycle():
                self._http.start_next_cycle()
        except Reset:
            self.must_reset = True
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._refuse(error.error_status_hint, str(error))

    async def _cycle(self) -> bool:
        """One request and its answer; True if another may follow."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return False
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        body = await self._body()
        if body is None:
            await self._refuse(413, f"a request body has at most {MOST_BODY_BYTES} bytes")
            return False
        request = HttpRequest(
            host=self._host,
            method=event.method.decode("ascii"),
            target=event.target.decode("latin-1"),
            headers=header_map(headers),
            body=body,
        )
        if request.headers.get("upgrade", "").lower() == "websocket":
            answer = await self._upgrade(request, headers)
            if answer is None:
                return False
        else:
            answer = self._guarded(lambda: self._act(request))
        self._outlet.flush()
        await self._answer(answer, head=request.method == "HEAD")
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value] # NEED_DATA is the only other
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
                await self._wire.drain()
            self._http.receive_data(await self._wire.read())

    async def _body(self) -> bytes | None:
        """The request's body; None if it is too large."""
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MOST_BODY_BYTES:
                return None
        if isinstance(event, h11.ConnectionClosed):
            raise Reset  # the client went away in the middle of its request
        return bytes(body)

    # Requests

    def _act(self, request: HttpRequest) -> HttpResponse:
        """The venue's answer, or what a fault makes of it."""
        fate = self._dice.request(mutating=self._venue.mutating(request))
        if fate is RequestFate.LATE:
            due = self._outlet.clock.monotonic() + self._dice.faults.late_s
            if len(self._late) < MOST_LATE:
                self._late.append((due, request))
            raise Reset
        refusal = self._refusal(request, fate)
        if refusal is not None:
            return refusal
        answer = self._venue.http(request)
        if fate is RequestFate.ANSWER_LOST:
            self._outlet.flush()
            raise Reset
        if fate is RequestFate.SERVER_ERROR_AFTER:
            return self._venue.server_error(request)
        return answer

    def _refusal(self, request: HttpRequest, fate: RequestFate) -> HttpResponse | None:
        """What answers the request in the venue's stead, if a fault keeps it from the venue."""
        if fate is RequestFate.RESET:
            raise Reset
        if fate is RequestFate.RATE_LIMITED:
            return self._venue.too_many_requests(request, RETRY_AFTER_S)
        if fate is RequestFate.SERVER_ERROR:
            return self._venue.server_error(request)
        return None

    async def _upgrade(self, request: HttpRequest, headers: list[tuple[str, str]]) -> HttpResponse | None:
        """Become a WebSocket for the rest of the connection (None), or answer why not."""
        fate = self._dice.request(mutating=False)
        if fate is not RequestFate.ANSWERED:
            return self._guarded(lambda: self._refusal(request, fate)) or _FAILED
        peer = WebSocketPeer(self._wire, self._outlet, f"{self._venue.exchange} {self._host}")
        handshake: HandshakeAnswer = peer.accept(headers)
        if handshake.status_code != 101:
            return HttpResponse(handshake.status_code, bytes(handshake.body or b""), content_type="text/plain")
        session = self._guarded(lambda: self._venue.connect(self._host, request.target, request.headers, peer))
        if isinstance(session, HttpResponse):
            return session
        self.peer = peer
        peer.open(handshake, session)
        peer.flush()
        try:
            await peer.run(self._http.trailing_data[0])
        finally:
            self.must_reset = peer.must_reset
        return None

    # Answers

    def _guarded(self, call: Callable[[], Answer]) -> Answer | HttpResponse:
        """Run the venue's code. What it raises is logged, kept in the outlet's failures and answered with a 500."""
        try:
            return call()
        except Reset:
            raise
        except Exception as error:  # noqa: BLE001 - reported, and the client gets to see it
            report_failure(self._venue, self._outlet, error)
            return _FAILED

    async def _answer(self, answer: HttpResponse, *, head: bool = False, close: bool = False) -> None:
        bodiless = answer.status in (204, 304)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if not bodiless:
            headers.setdefault("content-type", answer.content_type)
            headers["content-length"] = str(len(answer.body))
        if close:
            headers["connection"] = "close"
        reason = _REASONS.get(answer.status, "")
        self._send(h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason))
        if answer.body and not bodiless and not head:
            self._send(h11.Data(data=answer.body))
        self._send(h11.EndOfMessage())
        await self._wire.drain()

    async def _refuse(self, status: int, text: str) -> None:
        """Answer a request that cannot be read to its end, and hang up once the client has had the answer."""
        await self._answer(HttpResponse(status, text.encode(), content_type="text/plain"), close=True)
        await self._wire.finish()

    def _send(self, event: h11.Event) -> None:
        self._wire.write(self._http.send(event) or b"")


def report_failure(venue: SandboxVenue, outlet: Outlet, error: Exception) -> None:
    """A venue's protocol raised `error` (while it is being handled): it must be seen."""
    logger.error("%s: the venue's protocol failed", venue.exchange, exc_info=error)
    outlet.failures.append(error)
