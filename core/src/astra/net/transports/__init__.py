"""WebSocket client transports, chosen by name (entry-point group `astra.transports`).

`picows` runs on asyncio and is the fast one; `httpx-ws` runs everywhere else (trio, in-process ASGI applications).
Both behave alike: frames and the end of the connection reach the `Listener` from the event loop's own thread, the
listener never raises, connecting is bounded and a cancelled connect leaks no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import anyio


class Listener(Protocol):
    """Who receives. Calls are synchronous, in order, never after `disconnected`."""

    def frame(self, payload: bytes | bytearray | memoryview) -> None:
        """One whole text or binary message; the payload is valid only during the call."""
        ...

    def alive(self) -> None:
        """A ping or pong came in (the transport answers pings by itself)."""
        ...

    def disconnected(self, reason: str) -> None:
        """The connection is over, for whatever reason."""
        ...


class Connection(Protocol):
    """An open WebSocket connection."""

    def send(self, frame: str | bytes) -> None:
        """Send a text (str) or binary frame; never blocks. Ignored once disconnected."""
        ...

    def ping(self) -> None: ...

    async def aclose(self) -> None:
        """Close gracefully, within a second; idempotent. `disconnected` has been called when it returns."""
        ...


class Transport(Protocol):
    """How WebSocket connections are made. Errors are `astra.errors.VenueUnavailable`-agnostic: `ConnectError`.

    One that does not run on every event loop also has a method `check_event_loop()`, which raises `ConfigError` there.
    """

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
        """Dial. Raises `ConnectError`; on cancellation no socket is left open. Background reading, where needed, runs
        in `task_group`."""
        ...


class ConnectError(Exception):
    """The WebSocket could not be opened. `status` is the HTTP status when the handshake was refused; the text holds
    no query string (tickets and keys may be in it)."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
