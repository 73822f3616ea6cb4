"""One client's WebSocket: the session's `Link`, frames with their faults, and the pump between socket and session.

Frames queued by a session are sent when the server flushes: after each client frame, each request and each beat, so
that all frames of a beat leave in one write. Reading, pongs and the closing handshake are `websockets`' business;
data frames are written here, one by one, because each may meet a fate of its own.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import anyio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from astra.models.protocols import Clock
from astra.sandbox import SandboxSession
from astra_sandbox.faults import FaultDice, FrameFate
from astra_sandbox.wire import Wire

logger = logging.getLogger("astra_sandbox")

MOST_PENDING_BYTES = 4 * 1024 * 1024
"""A client that leaves so much unread is disconnected."""
MOST_MESSAGE_BYTES = 1024 * 1024
CLOSE_WITHIN_S = 2.0
REORDERED_WITHIN_S = 1.0
"""A frame that was held back for reordering is sent after this long, if no other followed it."""
_HANDSHAKE_HEADERS = ("host", "upgrade", "connection", "origin")


def _quiet_logger() -> logging.Logger:
    """websockets logs whole frames at DEBUG, log-in frames with their signatures too: never let it."""
    quiet = logging.Logger("astra_sandbox.websockets", logging.WARNING)
    quiet.parent = logger
    return quiet


def data_frame(payload: str | bytes) -> bytes:
    """An unfragmented, unmasked text (str) or binary frame (RFC 6455, section 5.2)."""
    opcode, content = (0x81, payload.encode()) if isinstance(payload, str) else (0x82, payload)
    length = len(content)
    if length < 126:
        return struct.pack("!BB", opcode, length) + content
    if length < 65536:
        return struct.pack("!BBH", opcode, 126, length) + content
    return struct.pack("!BBQ", opcode, 127, length) + content


class Outlet:
    """What the WebSockets of a venue share: who has frames to send, faults, stalls, and what went wrong."""

    def __init__(self, clock: Clock, dice: FaultDice) -> None:
        self.clock = clock
        self.dice = dice
        self.failures: deque[Exception] = deque(maxlen=100)
        """What the venue's protocol raised."""
        self._waiting: dict[WebSocketPeer, None] = {}
        self._stalled_until = 0.0

    def mark(self, peer: WebSocketPeer) -> None:
        """The peer has written something."""
        self._waiting[peer] = None

    def flush(self) -> None:
        """Send what all peers have written, unless frames are held back."""
        if self._waiting and not self.stalled():
            waiting, self._waiting = self._waiting, {}
            for peer in waiting:
                peer.flush()

    def stalled(self) -> bool:
        """Are frames held back? A stall begins when it is first asked for after being set."""
        faults, now = self.dice.faults, self.clock.monotonic()
        if faults.stall_s > 0:
            self._stalled_until = now + faults.stall_s
            faults.stall_s = 0.0
        return now < self._stalled_until


class WebSocketPeer:
    """Implements `astra.sandbox.Link` for one session."""

    def __init__(self, wire: Wire, outlet: Outlet, name: str) -> None:
        self.name = name
        self.must_reset = False
        self._wire = wire
        self._outlet = outlet
        self._dice = outlet.dice
        self._clock = outlet.clock
        self._protocol = ServerProtocol(max_size=MOST_MESSAGE_BYTES, logger=_quiet_logger())
        self._session: SandboxSession | None = None
        self._answering = True
        self._held: tuple[bytes, float] | None = None
        self._early: list[bytes] = []
        self._parts: list[bytes] = []
        self._text = False
        self._closing_since: float | None = None
        self._closed = False
        self._blocked = anyio.Event()
        self._scope = anyio.CancelScope()

    # Handshake

    def accept(self, headers: Iterable[tuple[str, str]]) -> Response:
        """The answer to the handshake: 101 if it is a valid one. The request line does not matter to it."""
        lines = ["GET / HTTP/1.1"]
        lines += [f"{k}: {v}" for k, v in headers if k in _HANDSHAKE_HEADERS or k.startswith("sec-websocket-")]
        self._protocol.receive_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
        request = next((event for event in self._protocol.events_received() if isinstance(event, Request)), None)
        assert request is not None, "h11 has let through what is no request"
        return self._protocol.accept(request)

    def open(self, answer: Response, session: SandboxSession) -> None:
        """Send the accepting answer, then what the session has queued already."""
        self._session = session
        self._protocol.send_response(answer)
        self._write_control()
        for frame in self._early:
            self._wire.write(frame)
        self._early.clear()
        self._answering = False
        self._outlet.mark(self)

    # Link

    def send(self, payload: str | bytes) -> None:
        if self._closed or self._closing_since is not None:
            return
        frame = data_frame(payload)
        spared = self._answering and self._dice.faults.spare_answers
        fate = FrameFate.SENT if spared else self._dice.frame(payload)
        if fate is FrameFate.DROPPED:
            return
        if fate is FrameFate.REORDERED and self._held is None:
            self._held = (frame, self._clock.monotonic())
            return
        self._write(frame)
        if fate is FrameFate.CUT:
            self._cut(frame)
            return
        if fate is FrameFate.REPEATED:
            self._write(frame)
        if self._held is not None:
            held, _ = self._held
            self._held = None
            self._write(held)

    def ping(self, payload: bytes) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(payload)
            self._write_control()

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._write_control()
        self._closing_since = self._clock.monotonic()

    def _write(self, frame: bytes) -> None:
        if self._session is None:
            self._early.append(frame)
            return
        self._wire.write(frame)
        self._outlet.mark(self)
        if len(self._wire.pending) > MOST_PENDING_BYTES:
            self.flush()
            if len(self._wire.pending) > MOST_PENDING_BYTES:
                logger.warning("%s: the client does not read, disconnected", self.name)
                self.kill(reset=True)

    def _cut(self, frame: bytes) -> None:
        """The frame just written breaks off in its middle, and the connection with it."""
        if len(self._wire.pending) >= len(frame):
            del self._wire.pending[-(len(frame) // 2) :]
        self.flush()
        self.kill(reset=True)

    def _write_control(self) -> bool:
        """Write what the protocol has to say; True when it wants the connection to end."""
        chunks = self._protocol.data_to_send()
        self._wire.write(b"".join(chunks))
        self._outlet.mark(self)
        return b"" in chunks

    # Pump

    async def run(self, already_read: bytes) -> None:
        """Read and write until the connection ends, whoever ends it."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write_when_possible)
                    await self._read(already_read)
                    tasks.cancel_scope.cancel()
        finally:
            self._closed = True
            self._wire.pending.clear()
            if self._session is not None:
                self._guarded(self._session.closed)

    def kill(self, *, reset: bool) -> None:
        """End the connection without ado."""
        self.must_reset = self.must_reset or reset
        self._closed = True
        self._scope.cancel()

    def flush(self) -> None:
        """Send what was written, as far as the client takes it; the rest follows when it can."""
        if self._outlet.stalled():
            self._outlet.mark(self)
        elif not self._wire.flush():
            self._blocked.set()

    def tick(self, now_ms: int) -> None:
        """Let the session send what is due; end what takes too long."""
        if self._session is None or self._closed:
            return
        now = self._clock.monotonic()
        if self._closing_since is not None:
            if now - self._closing_since > CLOSE_WITHIN_S:
                self.kill(reset=False)
            return
        if self._held is not None and now - self._held[1] > REORDERED_WITHIN_S:
            frame, self._held = self._held[0], None
            self._write(frame)
        session = self._session
        self._guarded(lambda: session.tick(now_ms))

    async def _write_when_possible(self) -> None:
        while True:
            await self._blocked.wait()
            await self._wire.writable()
            self._blocked = anyio.Event()
            self.flush()

    async def _read(self, already_read: bytes) -> None:
        received = already_read
        while True:
            if received and self._receive(received):
                await self._wire.drain()
                return
            received = await self._wire.read()
            if not received:
                return

    def _receive(self, received: bytes) -> bool:
        """Give the session what has come in; True when the connection is to end."""
        self._protocol.receive_data(received)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        ends = self._write_control()
        self.flush()
        return ends

    def _frame(self, frame: Frame) -> None:
        session = self._session
        assert session is not None
        if frame.opcode is Opcode.PONG:
            payload = bytes(frame.data)
            self._guarded(lambda: session.pong(payload))
        if frame.opcode is Opcode.PING:
            payload = bytes(frame.data)
            self._guarded(lambda: session.ping(payload))
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        message = b"".join(self._parts)
        self._parts.clear()
        if self._closing_since is not None:
            return
        try:
            content = message.decode() if self._text else message
        except UnicodeDecodeError:
            self._protocol.fail(1007, "text frames are UTF-8")
            return
        self._answering = True
        self._guarded(lambda: session.received(content))
        self._answering = False

    def _guarded(self, call: Callable[[], None]) -> None:
        """Run the session's code. What it raises is logged, kept in `failures`, and ends the connection (1011)."""
        try:
            call()
        except Exception as error:
            logger.exception("%s: the venue's protocol failed", self.name)
            self._outlet.failures.append(error)
            self.close(1011, "the sandbox failed, see its log")


def header_map(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Headers by lower-case name; repeated ones joined by commas."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
