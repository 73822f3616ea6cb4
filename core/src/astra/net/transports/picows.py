"""WebSockets on asyncio, by picows.

A received message costs one Python call (`_Receiver._fast`), which looks at nothing but what tells an ordinary message
from the rare rest.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from astra.errors import ConfigError
from astra.net.http import check_proxy, retry_after_s, split_target, tls_context
from astra.net.transports import ConnectError, Connection, Listener

Payload = bytes | bytearray | memoryview

_log = logging.getLogger("astra.net.picows")

_CONTROL_BYTES = 125
"""Control frames are no longer than this (RFC 6455, 5.5): a longer frame carries data."""
_MAX_UNSENT_BYTES = 16 * 1024 * 1024
_CLOSE_S = 1.0
_STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d{3})")
_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class PicowsTransport:
    """The fast WebSocket transport. Runs on asyncio (uvloop too) only."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    def check_event_loop(self) -> None:
        """Raises `ConfigError` where no asyncio event loop runs."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError("the transport picows runs on asyncio only: choose httpx-ws") from None

    async def connect(
        self,
        url: str,
        listener: Listener,
        *,
        task_group: anyio.abc.TaskGroup,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        max_frame_bytes: int = 16 * 1024 * 1024,
        proxy: str | None = None,
    ) -> Connection:
        """Dial; see `astra.net.transports.Transport.connect`. `max_frame_bytes` bounds whole messages, too."""
        self.check_event_loop()
        check_proxy(proxy)
        origin, target = split_target(url)
        if url.startswith("wss://") and self._tls is None:
            self._tls = tls_context()
        receiver = _Receiver(listener, origin, max_frame_bytes)
        sockets: list[_Socket] = []
        ws: WSTransport | None = None
        failure: ConnectError | None = None
        try:
            with anyio.fail_after(timeout_s):
                ws = await _open(origin + target, receiver, sockets, self._tls, headers, max_frame_bytes, proxy)
        except Exception as error:  # noqa: BLE001 - of many libraries; what they say may hold the query string
            failure = _connect_error(error, origin, timeout_s)
        finally:
            if ws is None:
                await _discard(sockets)
        if ws is None:
            assert failure is not None
            raise failure
        connection = _PicowsConnection(ws, receiver)
        try:
            task_group.start_soon(connection.watch, name=f"websocket {origin}")
        except BaseException:
            await connection.aclose()
            raise
        # Frames that came with the handshake wait until the caller holds the connection.
        asyncio.get_running_loop().call_soon(receiver.release)
        return connection


class _Socket(socket.socket):
    """A socket that tells when it has been closed: picows leaves it open when a handshake is cancelled, and event
    loops close it some time after they were asked to."""

    def __init__(self, family: int, kind: int, proto: int) -> None:
        super().__init__(family, kind, proto)
        self.setblocking(False)
        self.closed = anyio.Event()

    def close(self) -> None:
        super().close()
        self.closed.set()

    def detach(self) -> int:
        self.closed.set()
        return super().detach()


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """Keeps picows from logging the handshake (tickets and keys may be in it), and ordinary events above DEBUG."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.DEBUG and super().isEnabledFor(level)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.debug(msg, *args, **kwargs)


async def _open(
    url: str,
    receiver: _Receiver,
    sockets: list[_Socket],
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str] | None,
    max_frame_bytes: int,
    proxy: str | None,
) -> WSTransport:
    async def dialled(parts: Any) -> socket.socket:
        sockets.append(await _dial(parts.host, parts.port))
        return sockets[-1]

    transport, made = await ws_connect(
        lambda _request, _response: receiver,
        url,
        ssl_context=tls,
        websocket_handshake_timeout=None,
        logger_name=_QuietLogger(_log, {}),
        enable_auto_pong=False,
        max_frame_size=max_frame_bytes,
        extra_headers=headers,
        max_redirects=0,
        proxy=proxy,
        socket_factory=dialled,
    )
    if made is None:
        # That is how picows reports a server that hangs up during the handshake.
        raise ConnectionResetError("closed during the handshake")
    return transport


async def _dial(host: str, port: int) -> _Socket:
    """A connected socket. The addresses are tried in turn, each with its share of the time that is left."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    problem: OSError = TimeoutError()
    for number, (family, kind, proto, _, address) in enumerate(addresses):
        left_s = anyio.current_effective_deadline() - anyio.current_time()
        sock = _Socket(family, kind, proto)
        connected = False
        try:
            with anyio.move_on_after(left_s / (len(addresses) - number)):
                await loop.sock_connect(sock, address)
                connected = True
        except OSError as error:
            problem = error
        finally:
            if not connected:
                # The loop takes a cancelled socket off its list in its next round; only then may its number be reused.
                await anyio.lowlevel.cancel_shielded_checkpoint()
                sock.close()
        if connected:
            return sock
    raise problem


async def _discard(sockets: list[_Socket]) -> None:
    """See to it that a connection that was not completed is closed, whoever owns its socket by now."""
    for sock in sockets:
        if sock.fileno() != -1:
            try:
                # Not `close`: a socket that the loop still watches must be closed by the loop, which this brings about.
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("a connection was gone before it could be shut down")
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await sock.closed.wait()


def _connect_error(error: Exception, origin: str, timeout_s: float) -> ConnectError:
    raw = getattr(error, "raw_header", None) if isinstance(error, WSHandshakeError) else None
    status_line = _STATUS_LINE.match(raw or b"")
    if raw and status_line:
        status = int(status_line[1])
        wait = _RETRY_AFTER.search(raw)
        said = {} if wait is None else {"retry-after": wait[1].decode("latin-1")}
        retry_after = retry_after_s(said, time.time_ns())
        why = "refused the WebSocket" if status != 101 else "answered the WebSocket handshake wrongly"
        return ConnectError(f"{origin} {why} ({status})", status=status, retry_after=retry_after)
    if isinstance(error, TimeoutError):
        return ConnectError(f"{origin}: no WebSocket connection within {timeout_s:g} s")
    if isinstance(error, OSError):
        return ConnectError(f"{origin}: cannot connect ({error.strerror or type(error).__name__})")
    return ConnectError(f"{origin}: cannot connect ({type(error).__name__})")


class _Receiver(WSListener):
    """picows's side of a connection: turns frames into the listener's calls."""

    def __init__(self, listener: Listener, origin: str, max_bytes: int) -> None:
        super().__init__()
        self.gone = anyio.Event()
        """Set once the connection is over and the listener knows it."""
        self._listener = listener
        self._origin = origin
        self._max_bytes = max_bytes
        self._ws: WSTransport | None = None
        self._early: list[Callable[[], None]] | None = []
        """What came before the caller held the connection."""
        self._parts: list[bytearray] = []
        """The unfinished message, if there is one."""
        self._reason: str | None = None
        self._lost = False
        self._frame: Callable[[Payload], None] = self._keep
        # picows finds the function on the instance, which saves binding a method for every frame. (If it did not, the
        # class's own method does the same.)
        self._on_frame = self.on_ws_frame = self._fast()  # type: ignore[method-assign,assignment]

    def _fast(self) -> Callable[[WSTransport, WSFrame], None]:
        parts, rest, failed = self._parts, self._rest, self._failed

        def on_ws_frame(transport: WSTransport, frame: WSFrame) -> None:
            # To ask for a frame's type costs more than all the rest. Its size says that it is no control frame, and
            # where no message has begun it is no continuation.
            try:
                if frame.payload_size > _CONTROL_BYTES and frame.fin and not parts:
                    self._frame(frame.get_payload_as_memoryview())
                else:
                    rest(frame)
            except Exception as error:  # noqa: BLE001 - the listener's, whatever it is: it ends the connection
                failed(error)

        return on_ws_frame

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._ws = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._on_frame(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._frame = _ignore
        self._lost = True
        self._reason = self._reason or _end_of(transport)
        if self._early is None:
            self._over()

    def pause_writing(self) -> None:
        """Nothing to do: what is unsent is bounded in `send`."""

    def resume_writing(self) -> None: ...

    def release(self) -> None:
        """Pass on what came early; from now on everything goes to the listener at once."""
        if self._early is None:
            return
        early, self._early = self._early, None
        if self._frame == self._keep:
            self._frame = self._listener.frame
        for call in early:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - as in `_fast`
                self._failed(error)
                break
        if self._lost:
            self._over()

    def mute(self, reason: str) -> None:
        """The connection is given up: whatever frames still come are of no interest."""
        self._frame = _ignore
        self._reason = self._reason or reason

    def end(self, reason: str, code: WSCloseCode) -> None:
        """End the connection from our side at once."""
        self.mute(reason)
        if self._ws is not None and not self._lost:
            self._ws.send_close(code)
            self._ws.disconnect(graceful=False)

    def _rest(self, frame: WSFrame) -> None:
        """A short message, a fragment, or a control frame."""
        ws, kind = self._ws, frame.msg_type
        assert ws is not None
        if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
            if self._parts:
                self.end("protocol violation: a message inside a message", WSCloseCode.PROTOCOL_ERROR)
            elif frame.fin:
                self._frame(frame.get_payload_as_memoryview())
            else:
                self._parts.append(bytearray(frame.get_payload_as_memoryview()))
        elif kind is WSMsgType.CONTINUATION:
            self._continued(frame)
        elif kind is WSMsgType.CLOSE:
            ws.send_close(frame.get_close_code() or WSCloseCode.OK)
            ws.disconnect()
        else:
            if kind is WSMsgType.PING:
                ws.send_pong(frame.get_payload_as_bytes())
            if self._early is not None:
                self._early.append(self._listener.alive)
            elif not self._lost:
                self._listener.alive()

    def _continued(self, frame: WSFrame) -> None:
        if not self._parts:
            self.end("protocol violation: a continuation of nothing", WSCloseCode.PROTOCOL_ERROR)
            return
        message = self._parts[0]
        message += frame.get_payload_as_memoryview()
        if len(message) > self._max_bytes:
            self._parts.clear()
            self.end(f"a message of more than {self._max_bytes} bytes", WSCloseCode.MESSAGE_TOO_BIG)
        elif frame.fin:
            self._parts.clear()
            self._frame(message)

    def _keep(self, payload: Payload) -> None:
        assert self._early is not None
        kept = bytes(payload)
        self._early.append(lambda: self._listener.frame(kept))

    def _failed(self, error: Exception) -> None:
        _log.error("the listener of %s failed, the connection ends", self._origin, exc_info=error)
        self.end(f"the listener failed ({type(error).__name__})", WSCloseCode.INTERNAL_ERROR)

    def _over(self) -> None:
        _log.debug("%s disconnected: %s", self._origin, self._reason)
        try:
            self._listener.disconnected(self._reason or "")
        except Exception as error:  # noqa: BLE001 - as in `_fast`; there is nothing left to end
            _log.error("the listener of %s failed", self._origin, exc_info=error)
        self.gone.set()


def _ignore(payload: Payload) -> None:
    """Frames that come after the end."""


def _end_of(transport: WSTransport) -> str:
    """Why the connection ended, as far as the close frames say."""
    # None until a close frame was sent or received, whatever the stubs say; codes beyond the enum are plain numbers.
    handshake: Any = transport.close_handshake
    if handshake is None:
        return "connection lost"
    by, close = ("by the server", handshake.recv) if handshake.recv is not None else ("by us", handshake.sent)
    return f"closed {by}: {int(close.code)} {close.reason}".rstrip()


class _PicowsConnection:
    """An open connection; see `astra.net.transports.Connection`."""

    def __init__(self, ws: WSTransport, receiver: _Receiver) -> None:
        self._ws = ws
        self._receiver = receiver

    def send(self, frame: str | bytes) -> None:
        ws = self._ws
        ws.send(WSMsgType.TEXT if isinstance(frame, str) else WSMsgType.BINARY, frame)
        if not ws.is_disconnected and ws.underlying_transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._receiver.end("the server does not read what is sent", WSCloseCode.POLICY_VIOLATION)

    def ping(self) -> None:
        self._ws.send_ping()

    async def aclose(self) -> None:
        receiver = self._receiver
        receiver.release()
        receiver.mute("closed by us")
        try:
            if not receiver.gone.is_set():
                self._ws.send_close(WSCloseCode.OK)
                with anyio.move_on_after(_CLOSE_S):
                    await receiver.gone.wait()
        finally:
            await self._abort()

    async def watch(self) -> None:
        """Runs in the caller's task group: when that is cancelled, so is the connection."""
        try:
            await self._ws.wait_disconnected()
        except WSError as error:
            _log.debug("the connection broke the protocol: %s", error)
        finally:
            await self._abort()

    async def _abort(self) -> None:
        if not self._receiver.gone.is_set():
            self._receiver.mute("cancelled by us")
            self._ws.disconnect(graceful=False)
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await self._receiver.gone.wait()
