"""Serving ASGI applications with uvicorn inside the caller's event loop: sockets, start, orderly end."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from astra.errors import ConfigError

TRIED_PORTS = 50


def listen(host: str, port: int, *, next_free: bool = False) -> socket.socket:
    """A listening socket. With `next_free` one of the next ports is taken when `port` is in use.

    Raises `ConfigError` that says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + TRIED_PORTS, 65535) if next_free and port else port
    for candidate in range(port, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, candidate))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigError(f"cannot listen on {host}:{candidate}: {error.strerror or error}") from None
        listener.setblocking(False)
        return listener
    taken = f"port {port} of {host} is" if last == port else f"ports {port} to {last} of {host} are all"
    raise ConfigError(f"{taken} in use; choose another with --port or `port` in [frontends.gateway] (0: any free one)")


def url_of(listener: socket.socket) -> str:
    """The URL at which a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they belong to the application that we are a guest in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Http(H11Protocol):
    """uvicorn's HTTP without access log. Its own switch for that changes a logger of the whole process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class _WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket without the debug log of the protocol library, which prints headers: keys stand in them.

    What is sent to a client that went away raises `ClientDisconnected` from the moment that the socket's failure is
    known, not only once the event loop has come round to telling of it: a burst would be written into the void.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.debug = False

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        if message["type"] == "websocket.send" and self.transport.is_closing():
            raise ClientDisconnected
        return super().send(message)


async def _abort(server: uvicorn.Server) -> None:
    """Drop connections that would not end: a client that does not read cannot be said goodbye to."""
    for connection in list(server.server_state.connections):
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
    await anyio.lowlevel.checkpoint()  # the event loop closes their sockets now


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, *, ping_s: float, grace_s: float) -> AsyncIterator[None]:
    """Serve `app` on the socket while the block runs; then let connections end, for at most `grace_s`.

    There is no access log (what is asked, and with which key, is nobody's business), and the process's logging set-up
    stays as it is. WebSocket messages are not compressed: that would cost one compression for every client.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        http=_Http,
        ws=_WebSocket,
        ws_per_message_deflate=False,
        ws_max_size=64 * 1024,
        ws_ping_interval=ping_s,
        ws_ping_timeout=ping_s,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(grace_s),
    )
    server = _Server(config)
    ended = anyio.Event()

    async def serve() -> None:
        # Shielded: it is told to stop and closes its connections in order, whatever is cancelled round it.
        with anyio.CancelScope(shield=True):
            try:
                await server.serve(sockets=[listener])
                await _abort(server)
            finally:
                ended.set()

    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, name="uvicorn")
            try:
                yield
            except Exception as error:  # noqa: BLE001 (raised below: the block's own error, in no group)
                failure = error
            finally:
                server.should_exit = True
                with anyio.CancelScope(shield=True):
                    await ended.wait()
    finally:
        listener.close()
    if failure is not None:
        raise failure
