"""Both WebSocket transports behave alike, over real sockets."""

from __future__ import annotations

import base64
import datetime
import gc
import hashlib
import ipaddress
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response as WsResponse
from websockets.sync.server import ServerConnection, serve

from astra.errors import ConfigError
from astra.net.transports import ConnectError
from astra.net.transports.httpx_ws import HttpxWsTransport
from astra.net.transports.picows import PicowsTransport

SECRET = "tickettickettickettoken"

CASES = {
    "picows-asyncio": ("asyncio", PicowsTransport),
    "picows-asyncio-own-loop-transports": ("asyncio", PicowsTransport),
    "picows-uvloop": (("asyncio", {"use_uvloop": True}), PicowsTransport),
    "httpx-ws-asyncio": ("asyncio", HttpxWsTransport),
    "httpx-ws-trio": ("trio", HttpxWsTransport),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    if "uvloop" in request.param:
        pytest.importorskip("uvloop")
    if "own-loop" in request.param:
        # picows takes aiofastnet's socket transports where that is installed.
        monkeypatch.setattr("picows.api._HAS_AIOFASTNET", False)
    return CASES[request.param]


@pytest.fixture
def anyio_backend(case: tuple[Any, Any]) -> Any:
    return case[0]


@pytest.fixture
def transport(case: tuple[Any, Any]) -> Any:
    return case[1]()


class Recorder:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.alives = 0
        self.reasons: list[str] = []
        self._changed = anyio.Event()

    def frame(self, payload: bytes | bytearray | memoryview) -> None:
        self.frames.append(bytes(payload))
        self._changed.set()

    def alive(self) -> None:
        self.alives += 1
        self._changed.set()

    def disconnected(self, reason: str) -> None:
        self.reasons.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(5):
            while not condition():
                self._changed = anyio.Event()
                await self._changed.wait()

    async def ended(self) -> str:
        await self.until(lambda: bool(self.reasons))
        return self.reasons[0]


@contextmanager
def websocket_server(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """The websockets library's server in threads of its own."""

    def quietly(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            handler(connection)

    silent = logging.Logger("the server's, which may log what it likes")
    with serve(quietly, "127.0.0.1", 0, compression=None, logger=silent, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws{'s' if options.get('ssl') else ''}://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw_server(script: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that runs `script` with every connection, one thread each."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve_one(peer: socket.socket) -> None:
        with peer:
            peer.settimeout(10)
            with suppress(ConnectionError, TimeoutError):
                script(peer)

    def accept() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve_one, args=(peer,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for thread in threads:
            thread.join()


def read_request(peer: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        part = peer.recv(4096)
        if not part:
            raise ConnectionError
        request += part
    return request


def accepting_answer(request: bytes, key: str | None = None) -> bytes:
    if key is None:
        line = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        key = line.split(b":")[1].strip().decode()
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def frame_bytes(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A server's frame (not masked)."""
    first = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return first + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return first + bytes([126]) + len(payload).to_bytes(2, "big") + payload
    return first + bytes([127]) + len(payload).to_bytes(8, "big") + payload


def drain(peer: socket.socket) -> None:
    """Read until the other side says goodbye (with a close frame that comes alone) or closes."""
    while part := peer.recv(65536):
        if part[0] == 0x88:
            return


def ignore_goodbyes(peer: socket.socket) -> None:
    peer.sendall(accepting_answer(read_request(peer)))
    while peer.recv(65536):
        pass


def accept_and_drain(peer: socket.socket) -> None:
    peer.sendall(accepting_answer(read_request(peer)))
    drain(peer)


@pytest.fixture
def spared_collector() -> Iterator[None]:
    """Leaves what exists before the test out of its collections: there are hundreds, and imports left a lot behind."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def open_sockets() -> list[str]:
    gc.collect()
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if link.startswith("socket:"):
            links.append(link)
    return sorted(links)


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


async def test_messages_pass_whole_and_in_order_both_ways(transport: Any) -> None:
    listener = Recorder()
    with websocket_server(echo, max_size=None) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            sent = [("x" * size).encode() for size in (0, 1, 125, 126, 127, 5000, 70_000, 1_000_000)]
            for payload in sent:
                connection.send(payload.decode())
                connection.send(payload)
            for number in range(500):
                connection.send(f'{{"number":{number},"text":"币安人生"}}')
            await listener.until(lambda: len(listener.frames) == 2 * len(sent) + 500)
            await connection.aclose()
    assert listener.frames[: 2 * len(sent)] == [payload for payload in sent for _ in range(2)]
    assert listener.frames[2 * len(sent) :] == [f'{{"number":{n},"text":"币安人生"}}'.encode() for n in range(500)]


async def test_fragments_are_joined_with_control_frames_in_between(transport: Any) -> None:
    listener = Recorder()

    def script(peer: socket.socket) -> None:
        peer.sendall(accepting_answer(read_request(peer)))
        for opcode in (1, 2):
            for parts in ([b"a" * 200, b"b" * 200, b"c"], [b"", b"d" * 200], [b"e", b""]):
                peer.sendall(frame_bytes(parts[0], opcode, fin=False))
                peer.sendall(frame_bytes(b"", 9))
                for part in parts[1:-1]:
                    peer.sendall(frame_bytes(part, 0, fin=False))
                peer.sendall(frame_bytes(b"", 10))
                peer.sendall(frame_bytes(parts[-1], 0))
            peer.sendall(frame_bytes(b"whole" * 100, opcode))
        drain(peer)

    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            await listener.until(lambda: len(listener.frames) == 8)
            await connection.aclose()
    once = [b"a" * 200 + b"b" * 200 + b"c", b"d" * 200, b"e", b"whole" * 100]
    assert listener.frames == once * 2
    assert listener.alives == 12


@pytest.mark.parametrize("fragmented", [False, True], ids=["one-frame", "fragments"])
async def test_a_message_beyond_the_bound_ends_the_connection(transport: Any, fragmented: bool) -> None:
    listener = Recorder()

    def script(peer: socket.socket) -> None:
        peer.sendall(accepting_answer(read_request(peer)))
        peer.sendall(frame_bytes(b"f" * 1000))
        if fragmented:
            for opcode in (1, 0, 0):
                peer.sendall(frame_bytes(b"x" * 500, opcode, fin=False))
        else:
            peer.sendall(frame_bytes(b"x" * 1001))
        drain(peer)

    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            await transport.connect(url, listener, task_group=group, max_frame_bytes=1000)
            reason = await listener.ended()
    assert "1000" in reason
    assert listener.frames in ([b"f" * 1000], [])


async def test_pings_are_answered_and_count_as_signs_of_life(transport: Any) -> None:
    listener = Recorder()
    answered = threading.Event()

    def handler(connection: ServerConnection) -> None:
        if connection.ping(b"are you there").wait(5):
            answered.set()
        connection.send("go on")
        connection.recv()

    with websocket_server(handler) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            await listener.until(lambda: bool(listener.frames))
            assert answered.is_set()
            assert listener.alives == 1
            connection.ping()
            await listener.until(lambda: listener.alives == 2)
            await connection.aclose()


async def test_the_servers_close_is_told_once_with_its_reason(transport: Any) -> None:
    listener = Recorder()
    closed = threading.Event()

    def handler(connection: ServerConnection) -> None:
        connection.send("last")
        connection.close(4321, "maintenance")
        assert connection.close_code == 4321
        closed.set()

    with websocket_server(handler) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            reason = await listener.ended()
            connection.send("into the void")
            connection.ping()
            await connection.aclose()
            await connection.aclose()
    assert closed.is_set()
    assert "4321" in reason
    assert "maintenance" in reason
    assert listener.reasons == [reason]
    assert listener.frames == [b"last"]


async def test_closing_says_goodbye_and_is_over_when_it_returns(transport: Any) -> None:
    listener = Recorder()
    codes: list[int | None] = []

    def handler(connection: ServerConnection) -> None:
        try:
            connection.recv()
        except ConnectionClosed as closed:
            codes.append(closed.rcvd.code if closed.rcvd else None)

    with websocket_server(handler) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            await connection.aclose()
            assert listener.reasons == ["closed by us"]
            await connection.aclose()
        assert listener.reasons == ["closed by us"]
    assert codes == [1000]


async def test_closing_waits_no_longer_than_a_second_for_the_goodbye(transport: Any) -> None:
    listener = Recorder()

    with raw_server(ignore_goodbyes) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            began = anyio.current_time()
            await connection.aclose()
            assert 0.9 < anyio.current_time() - began < 2
            assert listener.reasons == ["closed by us"]


async def test_closing_works_when_cancelled(transport: Any) -> None:
    listener = Recorder()

    with raw_server(ignore_goodbyes) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await connection.aclose()
            assert listener.reasons == ["closed by us"]


async def test_a_failing_listener_ends_its_connection_and_is_logged(
    transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Recorder):
        def frame(self, payload: bytes | bytearray | memoryview) -> None:
            super().frame(payload)
            raise LookupError("no such thing")

        def disconnected(self, reason: str) -> None:
            super().disconnected(reason)
            raise ZeroDivisionError

    def talk(connection: ServerConnection) -> None:
        for number in range(9):
            connection.send(f"{number}" * 200)
        connection.recv()

    listener = Failing()
    with websocket_server(talk) as url:
        async with anyio.create_task_group() as group:
            await transport.connect(url, listener, task_group=group)
            reason = await listener.ended()
    assert "LookupError" in reason
    assert listener.frames == [b"0" * 200]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError, ZeroDivisionError]


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (401, None, None),
        (403, None, None),
        (429, "17", 17),
        (503, "Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
        (520, None, None),
    ],
)
async def test_a_refusal_tells_status_and_delay_but_not_the_query(
    transport: Any, status: int, retry_after: str | None, expected: float | None
) -> None:
    def script(peer: socket.socket) -> None:
        query = read_request(peer).split(b" ")[1]
        extra = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        head = f"HTTP/1.1 {status} Refused\r\n{extra}Content-Length: {len(query)}\r\n\r\n"
        peer.sendall(head.encode() + query)
        drain(peer)

    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError) as caught:
                await transport.connect(f"{url}?token={SECRET}", Recorder(), task_group=group)
    assert caught.value.status == status
    if expected is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= expected
    assert SECRET not in f"{caught.value!r} {caught.value}"
    assert caught.value.__context__ is None


async def test_redirects_are_not_followed(transport: Any) -> None:
    def refuse(connection: ServerConnection, request: Any) -> WsResponse:
        return WsResponse(302, "Found", Headers({"Location": "ws://127.0.0.1:1/elsewhere", "Content-Length": "0"}))

    with websocket_server(echo, process_request=refuse) as url:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError) as caught:
                await transport.connect(url, Recorder(), task_group=group)
    assert caught.value.status == 302


async def test_a_wrong_handshake_is_refused(transport: Any) -> None:
    def script(peer: socket.socket) -> None:
        read_request(peer)
        peer.sendall(accepting_answer(b"", key="somebody else's"))
        drain(peer)

    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError):
                await transport.connect(url, Recorder(), task_group=group)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"SSH-2.0-OpenSSH_9\r\n\r\n"])
async def test_a_server_that_hangs_up_during_the_handshake_is_a_connect_error(transport: Any, answer: bytes) -> None:
    def script(peer: socket.socket) -> None:
        read_request(peer)
        peer.sendall(answer)

    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError):
                await transport.connect(url, Recorder(), task_group=group)


async def test_nobody_listening_is_a_connect_error(transport: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with anyio.create_task_group() as group:
        with pytest.raises(ConnectError, match=f"127.0.0.1:{port}"):
            await transport.connect(f"ws://127.0.0.1:{port}/x?token={SECRET}", Recorder(), task_group=group)


async def test_connecting_is_bounded_in_time(transport: Any) -> None:
    with raw_server(drain) as url:
        async with anyio.create_task_group() as group:
            began = anyio.current_time()
            with pytest.raises(ConnectError, match=r"0\.2 s"):
                await transport.connect(url, Recorder(), task_group=group, timeout_s=0.2)
            assert anyio.current_time() - began < 1.5


async def test_what_comes_with_the_handshake_waits_for_the_caller(transport: Any) -> None:
    """A venue's greeting must not reach the listener before the caller holds the connection to answer on."""

    class Answering(Recorder):
        connection: Any = None

        def frame(self, payload: bytes | bytearray | memoryview) -> None:
            super().frame(payload)
            self.connection.send("log in")

        def disconnected(self, reason: str) -> None:
            assert self.connection is not None
            super().disconnected(reason)

    got: list[bytes] = []

    def script(peer: socket.socket) -> None:
        peer.sendall(accepting_answer(read_request(peer)) + frame_bytes(b"welcome") + frame_bytes(b"x" * 300))
        got.append(peer.recv(100))
        peer.sendall(frame_bytes((1001).to_bytes(2, "big"), 8))
        drain(peer)

    listener = Answering()
    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            listener.connection = None
            listener.connection = await transport.connect(url, listener, task_group=group)
            assert listener.frames == []
            assert "1001" in await listener.ended()
    assert listener.frames == [b"welcome", b"x" * 300]
    assert got != [b""]


async def test_a_connection_that_ends_with_its_greeting_still_delivers_it(transport: Any) -> None:
    def script(peer: socket.socket) -> None:
        peer.sendall(
            accepting_answer(read_request(peer)) + frame_bytes(b"bad key") + frame_bytes((1008).to_bytes(2, "big"), 8)
        )
        drain(peer)

    listener = Recorder()
    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            await transport.connect(url, listener, task_group=group)
            assert "1008" in await listener.ended()
    assert listener.frames == [b"bad key"]


async def test_a_cut_connection_is_told(transport: Any) -> None:
    def script(peer: socket.socket) -> None:
        peer.sendall(accepting_answer(read_request(peer)))
        peer.sendall(frame_bytes(b"y" * 1000)[:500])

    listener = Recorder()
    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            await transport.connect(url, listener, task_group=group)
            assert "lost" in await listener.ended()
    assert listener.frames == []


async def test_cancelling_the_task_group_ends_the_connection(transport: Any) -> None:
    before = open_sockets()
    listener = Recorder()
    with raw_server(accept_and_drain) as url:
        async with anyio.create_task_group() as group:
            await transport.connect(url, listener, task_group=group)
            group.cancel_scope.cancel()
        assert len(listener.reasons) == 1
    assert open_sockets() == before


async def test_a_server_that_does_not_read_ends_the_connection_not_the_memory(transport: Any) -> None:
    release = threading.Event()

    def script(peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(accepting_answer(read_request(peer)))
        release.wait(10)

    listener = Recorder()
    with raw_server(script) as url:
        async with anyio.create_task_group() as group:
            connection = await transport.connect(url, listener, task_group=group)
            for _ in range(40):
                connection.send(b"z" * 1_000_000)
                await anyio.lowlevel.checkpoint()
            assert "does not read" in await listener.ended()
            release.set()


SLOW_SERVER = """
import base64, hashlib, socket, sys, threading, time
def serve(peer):
    with peer:
        try:
            if sys.argv[1] in ("slow-handshake", "refusal"):
                request = b""
                while b"\\r\\n\\r\\n" not in request:
                    part = peer.recv(4096)
                    if not part:
                        return
                    request += part
                line = next(x for x in request.split(b"\\r\\n") if x.lower().startswith(b"sec-websocket-key"))
                key = line.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key).digest())
                answer = (b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                          b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n" + b"\\x81\\x05hello")
                if sys.argv[1] == "refusal":
                    answer = b"HTTP/1.1 503 Busy\\r\\nContent-Length: 100\\r\\n\\r\\n" + b"x" * 100
                for at in range(0, len(answer), 12):
                    time.sleep(0.001)
                    peer.sendall(answer[at : at + 12])
            while peer.recv(4096):
                pass
        except ConnectionError:
            pass
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""
"""A server in a process of its own, so that all sockets of this one are the client's."""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts sockets in /proc")
@pytest.mark.usefixtures("spared_collector")
@pytest.mark.parametrize("way", ["slow-handshake", "silent", "tls-silent", "refusal"])
async def test_a_connect_cancelled_at_any_moment_leaves_no_socket(transport: Any, way: str) -> None:
    with slow_server(way) as port:
        await cancel_at_many_moments(transport, f"{'wss' if way == 'tls-silent' else 'ws'}://127.0.0.1:{port}/ws")


@contextmanager
def slow_server(way: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SLOW_SERVER, way], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


async def cancel_at_many_moments(transport: Any, url: str) -> None:
    before = open_sockets()
    cancelled = 0
    for step in range(16):
        async with anyio.create_task_group() as group:
            listener = Recorder()
            connection = None
            with anyio.move_on_after(step * 0.0016) as scope:
                try:
                    connection = await transport.connect(url, listener, task_group=group)
                except ConnectError:
                    assert open_sockets() == before
            if connection is None:
                cancelled += scope.cancelled_caught
                assert open_sockets() == before
                assert listener.reasons == []
            else:
                group.cancel_scope.cancel()
        assert open_sockets() == before
    assert cancelled > 1


async def test_nothing_secret_is_logged(transport: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    logging.getLogger("astra").setLevel(1)
    targets: list[bytes] = []

    def script(peer: socket.socket) -> None:
        request = read_request(peer)
        targets.append(request)
        peer.sendall(accepting_answer(request))
        drain(peer)

    query = f"token={SECRET}&list=%5B%22a%22%5D&lower=%2f"
    try:
        with raw_server(script) as url:
            async with anyio.create_task_group() as group:
                connection = await transport.connect(
                    f"{url}?{query}", Recorder(), task_group=group, headers={"X-MBX-APIKEY": SECRET}
                )
                connection.send(f"signed {SECRET}")
                await connection.aclose()
    finally:
        logging.getLogger("astra").setLevel(logging.NOTSET)
    assert f"GET /ws?{query} HTTP/1.1".encode() in targets[0]
    assert f"x-mbx-apikey: {SECRET}".encode() in targets[0].lower()
    assert caplog.records
    assert SECRET not in caplog.text


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS settings with a certificate of its own, and the file to trust."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context, folder / "certificate.pem"


async def test_tls_is_spoken_and_certificates_are_checked(
    transport: Any, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = tls
    with websocket_server(echo, ssl=context) as url:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectError):
                await type(transport)().connect(url, Recorder(), task_group=group)
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            listener = Recorder()
            connection = await transport.connect(url, listener, task_group=group)
            for number in range(50):
                connection.send(f"{number}" * 1000)
            await listener.until(lambda: len(listener.frames) == 50)
            await connection.aclose()
            assert listener.reasons == ["closed by us"]


@contextmanager
def connect_proxy(seen: list[bytes]) -> Iterator[str]:
    """An HTTP proxy that knows CONNECT."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def script(peer: socket.socket) -> None:
        request = read_request(peer)
        seen.append(request)
        host, _, port = request.split(b" ")[1].partition(b":")
        with socket.create_connection((host.decode(), int(port))) as upstream:
            peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, peer))
            back.start()
            pump(peer, upstream)
            back.join()

    with raw_server(script) as url:
        yield url.replace("ws://", "http://user:password@").removesuffix("/ws")


async def test_a_proxy_is_dialled_through(
    transport: Any,
    tls: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    caplog.set_level(1)
    seen: list[bytes] = []
    paths: list[str] = []

    def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        paths.append(connection.request.path)
        echo(connection)

    with ExitStack() as stack:
        url = stack.enter_context(websocket_server(handler, ssl=tls[0]))
        proxy = stack.enter_context(connect_proxy(seen))
        async with anyio.create_task_group() as group:
            listener = Recorder()
            connection = await transport.connect(f"{url}?token={SECRET}", listener, task_group=group, proxy=proxy)
            connection.send("through")
            await listener.until(lambda: listener.frames == [b"through"])
            await connection.aclose()
    assert seen[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"proxy-authorization: basic" in seen[0].lower()
    assert paths == [f"/ws?token={SECRET}"]
    assert SECRET not in caplog.text
    assert "password" not in caplog.text


async def test_a_proxy_that_cannot_be_used_is_a_config_error_without_its_password(transport: Any) -> None:
    async with anyio.create_task_group() as group:
        with pytest.raises(ConfigError) as caught:
            await transport.connect("ws://127.0.0.1:1/", Recorder(), task_group=group, proxy="ftp://user:password@host")
    assert "user:password@host[" not in str(caught.value).replace("[user:password@]host[:port]", "")


class TestInProcess:
    """httpx-ws against an ASGI application in the same process."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @staticmethod
    async def _application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/refused":
            await send({"type": "websocket.close", "code": 1008, "reason": "no"})
            return
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["query_string"].decode()})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "bye":
                await send({"type": "websocket.close", "code": 4000, "reason": "bye"})
                return
            await send({"type": "websocket.send", "bytes": (message.get("text") or "").encode()})

    async def test_messages_pass_and_both_sides_can_close(self) -> None:
        from httpx_ws.transport import ASGIWebSocketTransport

        async with ASGIWebSocketTransport(self._application) as application:
            transport = HttpxWsTransport(application)
            async with anyio.create_task_group() as group:
                listener = Recorder()
                connection = await transport.connect("ws://app/ws?market=x", listener, task_group=group)
                connection.send("one" * 1000)
                await listener.until(lambda: len(listener.frames) == 2)
                connection.ping()
                assert listener.alives == 1
                await connection.aclose()
                assert listener.frames == [b"market=x", b"one" * 1000]
                assert listener.reasons == ["closed by us"]

                listener = Recorder()
                connection = await transport.connect("ws://app/ws", listener, task_group=group)
                connection.send("bye")
                assert "4000" in await listener.ended()

    async def test_a_refusal_is_a_connect_error(self) -> None:
        from httpx_ws.transport import ASGIWebSocketTransport

        async with ASGIWebSocketTransport(self._application) as application, anyio.create_task_group() as group:
            with pytest.raises(ConnectError) as caught:
                await HttpxWsTransport(application).connect("ws://app/refused", Recorder(), task_group=group)
            assert caught.value.status == 403


class TestWrongLoop:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    async def test_picows_says_that_it_needs_asyncio(self) -> None:
        async with anyio.create_task_group() as group:
            with pytest.raises(ConfigError, match="httpx-ws"):
                await PicowsTransport().connect("ws://127.0.0.1:1/", Recorder(), task_group=group)
