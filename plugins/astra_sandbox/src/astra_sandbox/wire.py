"""One accepted TCP connection: a non-blocking socket with a buffer for what could not be sent yet."""

from __future__ import annotations

import socket
import struct

import anyio

READ_BYTES = 65536
SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel may hold of a client that does not read (it would take megabytes by itself)."""
MOST_IGNORED_BYTES = 16 * 1024 * 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Wire:
    """Writes never block: what the kernel does not take waits in `pending` until the next `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sock = sock
        self.pending = bytearray()
        self.broken = False
        """The other side is gone; what is written disappears."""

    async def read(self) -> bytes:
        """What has come in; b"" at the end of the stream, however it ended."""
        while True:
            try:
                return self._sock.recv(READ_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
            except OSError:
                self.broken = True
                return b""

    def write(self, payload: bytes) -> None:
        if not self.broken:
            self.pending += payload

    def flush(self) -> bool:
        """Send what the kernel takes now; True when nothing is left."""
        while self.pending and not self.broken:
            try:
                sent = self._sock.send(self.pending)
            except BlockingIOError:
                return False
            except OSError:
                self.broken = True
                break
            del self.pending[:sent]
        if self.broken:
            self.pending.clear()
        return True

    async def writable(self) -> None:
        await anyio.wait_writable(self._sock)

    async def drain(self) -> None:
        """Send all that was written, for as long as it takes."""
        while not self.flush():
            await self.writable()

    async def finish(self) -> None:
        """Send no more, and read what the other side still sends (within bounds), so that closing is no reset."""
        await self.drain()
        if self.broken:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the client has reset the connection: there is nobody left to say goodbye to
        for _ in range(MOST_IGNORED_BYTES // READ_BYTES):
            if not await self.read():
                return

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Close so that the other side sees a connection reset."""
        if self._sock.fileno() != -1:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._sock.close()
