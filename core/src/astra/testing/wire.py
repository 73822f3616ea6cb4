"""A WebSocket transport without sockets: tests play the venue."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import anyio.abc

from astra.net.transports import Listener


class MemoryConnection:
    """The venue's side of one connection: what the client sent, and `push` to send it something."""

    def __init__(self, url: str, listener: Listener) -> None:
        self.url = url
        self.sent: list[str | bytes] = []
        self.pings = 0
        self.is_closed = False
        self.on_send: Callable[[str | bytes], None] | None = None
        self._listener = listener

    def send(self, frame: str | bytes) -> None:
        if not self.is_closed:
            self.sent.append(frame)
            if self.on_send is not None:
                self.on_send(frame)

    def ping(self) -> None:
        self.pings += 1

    def push(self, frame: str | bytes) -> None:
        """The venue sends a frame."""
        if not self.is_closed:
            self._listener.frame(frame.encode() if isinstance(frame, str) else frame)

    def pong(self) -> None:
        """The venue answers a ping."""
        if not self.is_closed:
            self._listener.alive()

    def cut(self, reason: str = "connection reset") -> None:
        """The connection is lost."""
        if not self.is_closed:
            self.is_closed = True
            self._listener.disconnected(reason)

    async def aclose(self) -> None:
        self.cut("closed")


class MemoryTransport:
    """Implements `astra.net.transports.Transport`. `on_connect` sees (and may refuse, by raising) every dial."""

    def __init__(self, on_connect: Callable[[MemoryConnection], None] | None = None) -> None:
        self.connections: list[MemoryConnection] = []
        self.dials = 0
        self.on_connect = on_connect
        self.hold: anyio.Event | None = None
        """While set to an event, dials wait for it."""

    @property
    def open(self) -> list[MemoryConnection]:
        return [connection for connection in self.connections if not connection.is_closed]

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
    ) -> MemoryConnection:
        self.dials += 1
        if self.hold is not None:
            await self.hold.wait()
        connection = MemoryConnection(url, listener)
        if self.on_connect is not None:
            self.on_connect(connection)
        self.connections.append(connection)
        return connection
