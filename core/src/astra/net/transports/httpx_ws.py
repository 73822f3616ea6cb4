"""WebSockets wherever picows does not run: on trio, and to in-process ASGI applications.

httpx dials (proxies and TLS as for requests), httpx-ws stands for in-process applications, wsproto speaks the protocol.
The frames are read here and not by httpx-ws's session: that one tells nobody of pings and pongs, fails on a pong it did
not ask for, and does not bound a message.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import ssl
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.abc
import msgspec
from httpx_ws import WebSocketDisconnect, WebSocketUpgradeError
from httpx_ws.transport import ASGIWebSocketAsyncNetworkStream
from wsproto.connection import Connection as WsProtocol
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from astra.errors import ConfigError
from astra.net.http import (
    check_proxy,
    describe,
    network_transport,
    redacted,
    retry_after_s,
    split_target,
    tls_context,
    upgrade,
)
from astra.net.transports import ConnectError, Connection, Listener

_log = logging.getLogger("astra.net.httpx_ws")

_READ_BYTES = 64 * 1024
_MAX_UNSENT_BYTES = 16 * 1024 * 1024
_CLOSE_S = 1.0
_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""


class HttpxWsTransport:
    """The WebSocket transport that runs everywhere."""

    def __init__(self, transport: Any = None) -> None:
        """`transport`: an httpx transport to dial through in place of the network, such as an entered
        `httpx_ws.transport.ASGIWebSocketTransport(app)`. It stays the caller's."""
        self._given = transport
        self._tls: ssl.SSLContext | None = None

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
        check_proxy(proxy)
        if proxy is not None and proxy.startswith("http") and url.startswith("ws://"):
            raise ConfigError("the transport httpx-ws goes through an HTTP proxy to wss:// only; picows to ws://, too")
        origin, _ = split_target(url)
        if self._given is None and self._tls is None:
            self._tls = tls_context()
        dialled = await _dial(
            url,
            headers or {},
            timeout_s=timeout_s,
            transport=network_transport(proxy, self._tls) if self._given is None else self._given,
            owned=self._given is None,
            by_url=self._given is not None or proxy is not None,
        )
        if isinstance(dialled, ConnectError):
            raise dialled
        connection = _HttpxWsConnection(dialled, listener, origin, max_frame_bytes)
        try:
            task_group.start_soon(connection.run, name=f"websocket {origin}")
        except BaseException:
            await dialled.aclose()
            raise
        return connection


class _Dialled(msgspec.Struct):
    """An open connection after the handshake."""

    stream: Any
    response: Any
    transport: Any
    owned: bool

    async def aclose(self) -> None:
        """Close all of it, within a second and even when cancelled."""
        with anyio.move_on_after(_CLOSE_S, shield=True), redacted():
            try:
                await self.stream.aclose()
                await self.response.aclose()
            except Exception as error:  # noqa: BLE001 - it is gone either way
                _log.debug("closing failed (%s)", type(error).__name__)
            if self.owned:
                await self.transport.aclose()


async def _dial(
    url: str, headers: Mapping[str, str], *, timeout_s: float, transport: Any, owned: bool, by_url: bool
) -> _Dialled | ConnectError:
    """Open the connection; what is to be raised is returned, so that nothing secret hangs on it."""
    origin, _ = split_target(url)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    handshake = {
        **headers,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    response: Any = None
    opened = False
    try:
        with anyio.fail_after(timeout_s):
            response = await upgrade(transport, url, handshake, by_url=by_url)
        if response.status_code != 101:
            return _refused(origin, response.status_code, dict(response.headers))
        accept = base64.b64encode(hashlib.sha1((key + _ACCEPT_GUID).encode()).digest()).decode()
        if response.headers.get("sec-websocket-accept") != accept:
            return ConnectError(f"{origin} answered the WebSocket handshake wrongly", status=101)
        opened = True
        return _Dialled(response.extensions["network_stream"], response, transport, owned)
    except WebSocketUpgradeError as error:
        return _refused(origin, error.response.status_code, dict(error.response.headers))
    except WebSocketDisconnect:
        # An ASGI application that closes before it accepts; a server would answer with this status.
        return _refused(origin, 403, {})
    except Exception as error:  # noqa: BLE001 - of many libraries; what they say may hold the query string
        return ConnectError(f"{origin}: {describe(error, timeout_s)}")
    finally:
        if not opened:
            with anyio.move_on_after(_CLOSE_S, shield=True), redacted():
                if response is not None:
                    await response.aclose()
                if owned:
                    await transport.aclose()


def _refused(origin: str, status: int, headers: Mapping[str, str]) -> ConnectError:
    lowered = {name.lower(): value for name, value in headers.items()}
    retry_after = retry_after_s(lowered, time.time_ns())
    return ConnectError(f"{origin} refused the WebSocket ({status})", status=status, retry_after=retry_after)


class _HttpxWsConnection:
    """An open connection; see `astra.net.transports.Connection`. `run` reads and writes until it ends."""

    def __init__(self, dialled: _Dialled, listener: Listener, origin: str, max_bytes: int) -> None:
        self._dialled = dialled
        self._in_process = isinstance(dialled.stream, ASGIWebSocketAsyncNetworkStream)
        self._listener = listener
        self._origin = origin
        self._max_bytes = max_bytes
        self._protocol = WsProtocol(ConnectionType.CLIENT)
        self._message: bytearray | None = None
        """The unfinished message, if there is one."""
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._to_send = anyio.Event()
        self._writing = anyio.Lock()
        self._scope = anyio.CancelScope()
        self._muted = False
        self._reason: str | None = None
        self._gone = anyio.Event()

    def send(self, frame: str | bytes) -> None:
        self._emit(TextMessage(data=frame) if isinstance(frame, str) else BytesMessage(data=frame))

    def ping(self) -> None:
        if self._in_process:
            # There is no wire that could be dead, and ASGI knows no pings.
            self._listener.alive()
        else:
            self._emit(Ping())

    async def aclose(self) -> None:
        self._muted = True
        self._reason = self._reason or "closed by us"
        try:
            # An in-process application says no goodbye.
            if not self._gone.is_set() and not self._in_process:
                self._emit(CloseConnection(code=1000))
                with anyio.move_on_after(_CLOSE_S):
                    await self._gone.wait()
        finally:
            self._scope.cancel()
            with anyio.move_on_after(2 * _CLOSE_S, shield=True):
                await self._gone.wait()

    async def run(self) -> None:
        """Runs in the caller's task group: when that is cancelled, so is the connection."""
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._write)
                    await self._read()
                    group.cancel_scope.cancel()
        finally:
            self._muted = True
            self._reason = self._reason or "cancelled by us"
            await self._dialled.aclose()
            _log.debug("%s disconnected: %s", self._origin, self._reason)
            try:
                self._listener.disconnected(self._reason)
            except Exception as error:  # noqa: BLE001 - the listener's, whatever it is; there is nothing left to end
                _log.error("the listener of %s failed", self._origin, exc_info=error)
            self._gone.set()

    def _emit(self, event: Event) -> None:
        """Queue what the protocol makes of the event; nothing once the connection is closing."""
        if self._gone.is_set() or self._protocol.state is not ConnectionState.OPEN:
            return
        data = self._protocol.send(event)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self._to_send.set()
        if self._unsent_bytes > _MAX_UNSENT_BYTES:
            self._end("the server does not read what is sent")

    def _end(self, reason: str) -> None:
        """End the connection from our side at once; the listener hears no more frames."""
        self._muted = True
        self._reason = self._reason or reason
        self._scope.cancel()

    async def _write(self) -> None:
        while True:
            try:
                await self._flush()
            except Exception as error:  # noqa: BLE001 - httpcore's, anyio's or an application's
                self._end(f"connection lost ({type(error).__name__})")
                return
            self._to_send = anyio.Event()
            await self._to_send.wait()

    async def _flush(self) -> None:
        async with self._writing:
            while self._unsent:
                data = self._unsent.popleft()
                await self._dialled.stream.write(data)
                self._unsent_bytes -= len(data)

    async def _read(self) -> None:
        """Until the connection ends, for whatever reason."""
        while True:
            try:
                data = await self._dialled.stream.read(_READ_BYTES)
            except Exception as error:  # noqa: BLE001 - httpcore's, anyio's or an application's
                self._reason = self._reason or f"connection lost ({type(error).__name__})"
                return
            if not data:
                self._reason = self._reason or "connection lost"
                return
            try:
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    if isinstance(event, CloseConnection):
                        await self._closed(event)
                        return
                    self._take(event)
            except ProtocolError as error:
                self._reason = self._reason or f"protocol violation: {error}"
                return

    async def _closed(self, event: CloseConnection) -> None:
        """The server closes: answer, unless that is its answer to us."""
        code = int(event.code)
        self._reason = self._reason or f"closed by the server: {code} {event.reason or ''}".rstrip()
        if self._protocol.state is ConnectionState.REMOTE_CLOSING:
            self._unsent.append(self._protocol.send(event.response()))
            try:
                with anyio.move_on_after(_CLOSE_S):
                    await self._flush()
            except Exception as error:  # noqa: BLE001 - as in `_write`
                _log.debug("%s left before our goodbye (%s)", self._origin, type(error).__name__)

    def _take(self, event: Event) -> None:
        try:
            if isinstance(event, (TextMessage, BytesMessage)):
                self._message_part(event)
            elif isinstance(event, Ping):
                self._emit(event.response())
                self._listener.alive()
            elif isinstance(event, Pong):
                self._listener.alive()
        except Exception as error:  # noqa: BLE001 - the listener's, whatever it is: it ends the connection
            _log.error("the listener of %s failed, the connection ends", self._origin, exc_info=error)
            self._end(f"the listener failed ({type(error).__name__})")

    def _message_part(self, event: TextMessage | BytesMessage) -> None:
        payload: bytes | bytearray = event.data.encode() if isinstance(event.data, str) else event.data
        if self._message is not None:
            self._message += payload
            payload = self._message
        elif not event.message_finished:
            self._message = payload = bytearray(payload)
        if len(payload) > self._max_bytes:
            self._end(f"a message of more than {self._max_bytes} bytes")
        elif event.message_finished:
            self._message = None
            if not self._muted:
                self._listener.frame(payload)
