"""A venue's loopback server: one TCP port for each of its hosts, and the venue's protocol behind them.

The server owns sockets, faults and pacing; what is said on them is the `SandboxVenue`'s business.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Mapping
from random import Random

import anyio
from anyio.abc import TaskStatus

from astra.models.protocols import Clock
from astra.sandbox import Faults, HttpRequest, SandboxVenue
from astra_sandbox.connection import HttpConnection, report_failure
from astra_sandbox.faults import FaultDice
from astra_sandbox.websocket import Outlet
from astra_sandbox.wire import Wire

logger = logging.getLogger("astra_sandbox")

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 4096
BACKLOG = 512
OUT_OF_FILES_S = 0.2
"""How long to leave waiting connections alone while the process has no file descriptor for them."""


class VenueServer:
    """Serves one venue on 127.0.0.1. `ports` asks for fixed ports by host name; the others are chosen by the system
    at the first `bind` and kept from then on."""

    def __init__(
        self,
        venue: SandboxVenue,
        clock: Clock,
        faults: Faults,
        random: Random,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.venue = venue
        self.outlet = Outlet(clock, FaultDice(faults, random))
        self.ports: dict[str, int] = {host: (ports or {}).get(host, 0) for host in venue.hosts}
        self._clock = clock
        self._listening: dict[str, socket.socket] = {}
        self._reserved: dict[str, socket.socket] = {}
        """The ports of a stopped server."""
        self._connections: dict[HttpConnection, Wire] = {}
        self._late: list[tuple[float, HttpRequest]] = []
        self._scope: anyio.CancelScope | None = None
        self._stopped = anyio.Event()

    @property
    def urls(self) -> dict[str, str]:
        """Host name -> base URL."""
        return {host: f"{scheme}://{LOOPBACK}:{self.ports[host]}" for host, scheme in self.venue.hosts.items()}

    @property
    def running(self) -> bool:
        return self._scope is not None

    def bind(self) -> None:
        """Open the ports. Raises `OSError` naming the port that is taken."""
        try:
            for host in self.ports:
                reserved = self._reserved.pop(host, None)
                listening = self._listening[host] = self._taken(host) if reserved is None else reserved
                listening.listen(BACKLOG)
                self.ports[host] = listening.getsockname()[1]
        except OSError:
            self.unbind()
            raise
        self.venue.addresses = self.urls

    def _taken(self, host: str) -> socket.socket:
        """A socket that has the host's port and does not listen."""
        port = self.ports[host]
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        taken.setblocking(False)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((LOOPBACK, port))
        except OSError as error:
            taken.close()
            raise OSError(error.errno, f"{self.venue.exchange} {host}: port {port}: {error.strerror}") from None
        return taken

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve the bound ports until `stop` is called or the task is cancelled; connections end with a reset."""
        self._stopped = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                for host, listening in self._listening.items():
                    tasks.start_soon(self._accept, host, listening, tasks)
                task_status.started()
        finally:
            self._scope = None
            self.unbind()
            for wire in self._connections.values():  # of tasks that had no chance to begin
                wire.reset()
            self._connections.clear()
            self._stopped.set()

    async def stop(self) -> None:
        """Reset all connections and refuse new ones; returns when that is done.

        The ports stay taken, or the system might give one of them to a client's connection meanwhile.
        """
        if self._scope is not None:
            self._scope.cancel()
            await self._stopped.wait()
            self._reserved = {host: self._taken(host) for host in self.ports}

    def tick(self) -> None:
        """Every beat: late requests arrive, sessions send what is due, all leaves in one write a connection."""
        now = self._clock.monotonic()
        if self._late:
            due = [request for time, request in self._late if time <= now]
            self._late[:] = [entry for entry in self._late if entry[0] > now]  # connections append to this very list
            for request in due:
                self._arrive_late(request)
        now_ms = self.venue.clock.wall_ns() // 1_000_000
        for connection in list(self._connections):
            if connection.peer is not None:
                connection.peer.tick(now_ms)
        self.outlet.flush()

    def _arrive_late(self, request: HttpRequest) -> None:
        try:
            self.venue.http(request)
        except Exception as error:  # noqa: BLE001 - reported, there is nobody to answer
            report_failure(self.venue, self.outlet, error)

    def unbind(self) -> None:
        """Close the ports."""
        for taken in (*self._listening.values(), *self._reserved.values()):
            taken.close()
        self._listening.clear()
        self._reserved.clear()

    async def _accept(self, host: str, listening: socket.socket, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.wait_readable(listening)
            try:
                accepted, _ = listening.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    logger.warning("%s: %s, new connections wait", self.venue.exchange, error.strerror)
                    await self._clock.sleep(OUT_OF_FILES_S)
                elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                    raise
                continue
            if len(self._connections) >= MOST_CONNECTIONS:
                logger.warning("%s: more than %d connections, refused", self.venue.exchange, MOST_CONNECTIONS)
                accepted.close()
                continue
            wire = Wire(accepted)
            connection = HttpConnection(host, wire, self.venue, self.outlet, self._late)
            self._connections[connection] = wire
            tasks.start_soon(self._serve, connection, wire)

    async def _serve(self, connection: HttpConnection, wire: Wire) -> None:
        ended = False
        try:
            await connection.run()
            ended = True
        finally:
            del self._connections[connection]
            if connection.must_reset or not ended:
                wire.reset()
            else:
                wire.close()
