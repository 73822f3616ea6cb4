"""The loopback server over real sockets: HTTP, WebSocket, stopping and starting."""

import logging
import os
import socket
import time
import urllib.parse
from decimal import Decimal

import anyio
import httpx
import pytest
import websockets
from websockets.frames import Opcode

from astra.errors import BadRequest, ConfigError
from astra.models.orders import OrderStatus, TimeInForce
from astra_sandbox import Sandbox
from astra_sandbox.connection import MOST_BODY_BYTES
from astra_sandbox.websocket import MOST_MESSAGE_BYTES, MOST_PENDING_BYTES

WITHIN_S = 10.0


# HTTP


async def test_requests_reach_the_venue_as_they_were_sent_and_connections_are_kept(client, venue):
    for number in range(3):
        answer = await client.post(f"/orders?a=b%20c&n={number}", content=b"some body", headers={"X-Key": "k"})
        seen = answer.json()
        assert (seen["target"], seen["body"], seen["host"]) == (f"/orders?a=b%20c&n={number}", "some body", "rest")
        assert seen["x-key"] == "k"
        assert answer.headers["x-used"] == "7"
        assert answer.headers["content-type"] == "application/json"
    assert len(venue.acted) == 3


async def test_one_connection_serves_many_requests_also_pipelined_and_chunked(hosts):
    port = int(hosts["rest"].rsplit(":", 1)[1])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        head = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
        chunked = b"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        await stream.send(head % 0 + head % 1 + chunked)
        received = b""
        with anyio.fail_after(WITHIN_S):
            while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"}"):
                received += await stream.receive()
        assert b'"target": "/0"' in received
        assert b'"body": "abcde"' in received


async def test_head_and_empty_answers_have_no_body(client):
    head = await client.head("/x")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert (await client.get("/none")).status_code == 204
    assert (await client.get("/y")).status_code == 200


async def test_a_body_beyond_the_limit_is_refused(client, venue):
    answer = await client.post("/orders", content=b"x" * (5 * MOST_BODY_BYTES))
    assert answer.status_code == 413
    assert venue.acted == []


async def test_what_is_not_http_is_told_so(hosts):
    port = int(hosts["rest"].rsplit(":", 1)[1])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"hello there\r\n\r\n")
        with anyio.fail_after(WITHIN_S):
            assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_waiting_for_100_continue_gets_it(hosts):
    port = int(hosts["rest"].rsplit(":", 1)[1])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"POST /o HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        with anyio.fail_after(WITHIN_S):
            assert (await stream.receive()).startswith(b"HTTP/1.1 100 ")
            await stream.send(b"ok")
            assert b'"body": "ok"' in await stream.receive()


async def test_a_broken_protocol_is_seen_in_the_answer_the_log_and_the_failures(sandbox, client, caplog):
    with caplog.at_level(logging.ERROR, logger="astra_sandbox"):
        answer = await client.get("/fail")
    assert answer.status_code == 500
    assert "the venue is broken" in caplog.text
    assert [str(error) for error in sandbox.failures("TOY")] == ["the venue is broken"]
    assert (await client.get("/fine")).status_code == 200


# WebSocket


async def test_frames_go_both_ways_and_the_closing_handshake_is_kept(socket_of, venue, gone):
    client, session = await socket_of()
    assert await client.ask("héllo") == "héllo"
    client.protocol.send_ping(b"x")
    await client._push()
    pong = await client.event()
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"x")
    assert session.pings == [b"x"]
    client.protocol.send_close(1000, "bye")
    await client._push()
    assert (await client.event()).opcode is Opcode.CLOSE
    assert await gone(client) == "closed"
    with anyio.fail_after(WITHIN_S):
        await venue.gone.wait()
    assert session not in venue.sessions


async def test_fragments_make_one_message(socket_of):
    client, _ = await socket_of()
    client.protocol.send_text(b"one ", fin=False)
    client.protocol.send_continuation(b"two ", fin=False)
    client.protocol.send_continuation(b"three", fin=True)
    await client._push()
    assert await client.text() == "one two three"


async def test_large_frames_arrive_whole(socket_of, beats):
    client, session = await socket_of()
    for size in (125, 126, 65535, 65536, 500_000):
        assert len(await client.ask("x" * size)) == size
    session.link.send(b"\x00\xff")
    await beats(session)
    frame = await client.event()
    assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, b"\x00\xff")


async def test_the_venue_may_ping_and_close(socket_of, gone):
    client, session = await socket_of()
    await client.send("ping")
    ping = await client.event()
    assert (ping.opcode, bytes(ping.data)) == (Opcode.PING, b"are you there")
    await client.ask("x")
    assert session.pongs == [b"are you there"]
    await client.send("close")
    await client.event()
    assert (client.protocol.close_rcvd.code, client.protocol.close_rcvd.reason) == (4001, "as asked")
    assert await gone(client) == "closed"


async def test_a_client_that_ignores_a_close_is_cut_off(socket_of, gone):
    client, session = await socket_of()
    session.link.close(1000)
    client.protocol.data_to_send = lambda: []  # says nothing more
    assert await gone(client) == "closed"


async def test_the_venue_may_refuse_a_websocket(hosts, sandbox, connect):
    refused = await connect(hosts["stream"], "/refused")
    assert (refused.answer.status_code, bytes(refused.answer.body)) == (403, b"not you")
    broken = await connect(hosts["stream"], "/fail")
    assert broken.answer.status_code == 500
    assert [str(error) for error in sandbox.failures("TOY")] == ["connecting is broken"]
    for client in (refused, broken):
        await client.stream.aclose()


async def test_an_invalid_handshake_is_refused(client):
    answer = await client.get("/", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert answer.status_code == 400


async def test_a_session_that_fails_is_closed_with_1011_and_reported(socket_of, sandbox, venue, caplog):
    with caplog.at_level(logging.CRITICAL, logger="astra_sandbox"):
        client, _ = await socket_of()
        await client.send("fail")
        await client.event()
        assert client.protocol.close_rcvd.code == 1011
        other, _ = await socket_of()
        venue.broken_tick = True
        await other.event()
        venue.broken_tick = False
        assert other.protocol.close_rcvd.code == 1011
    assert [str(e) for e in sandbox.failures("TOY")] == ["the session is broken", "the tick is broken"]


async def test_text_that_is_no_utf8_and_messages_beyond_the_limit_end_the_connection(socket_of, sandbox):
    client, _ = await socket_of()
    client.protocol.send_text(b"\xff\xfe")
    await client._push()
    await client.event()
    assert client.protocol.close_rcvd.code == 1007
    client, _ = await socket_of()
    client.protocol.send_text(b"x" * (MOST_MESSAGE_BYTES + 1))
    await client._push()
    await client.event()
    assert client.protocol.close_rcvd.code == 1009
    assert sandbox.failures("TOY") == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_websockets_library_gets_along_with_it(hosts, venue):
    async with websockets.connect(hosts["stream"], proxy=None) as client:
        assert await client.recv() == "welcome"
        await client.send("hello")
        assert await client.recv() == "hello"
        await (await client.ping())
        await client.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 4001


@pytest.fixture
async def lazy_socket(hosts, venue):
    """A WebSocket client with small buffers that does not read; its session is `venue.sessions[0]`."""
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", int(hosts["stream"].rsplit(":", 1)[1])))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        lazy.sendall(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        with anyio.fail_after(WITHIN_S):
            while not venue.sessions:
                await anyio.sleep(0.01)
        yield lazy


async def test_a_client_that_does_not_read_is_disconnected_and_its_backlog_is_bounded(lazy_socket, venue, caplog):
    session = venue.sessions[0]
    backlog, sent, large = session.link._wire, 0, "x" * 100_000
    with anyio.fail_after(WITHIN_S), caplog.at_level(logging.WARNING, logger="astra_sandbox"):
        while not venue.gone.is_set():
            session.link.send(large)
            sent += len(large)
            assert len(backlog.pending) <= MOST_PENDING_BYTES + 2 * len(large)
            await anyio.lowlevel.checkpoint()
    assert "does not read" in caplog.text
    assert sent > MOST_PENDING_BYTES
    assert not backlog.pending


async def test_a_slow_client_gets_everything_as_it_reads(lazy_socket, venue, beats, push):
    session = venue.sessions[0]
    push(session, "first")
    await beats(session)
    sent = "~" * 2_000_000  # more than the socket takes at once, less than the client may leave unread
    push(session, sent, "last")
    await beats(session)
    assert session.link._wire.pending
    received = b""
    async with await anyio.abc.SocketStream.from_socket(lazy_socket.dup()) as stream:
        with anyio.fail_after(WITHIN_S):
            while not received.endswith(b"last"):
                received += await stream.receive()
    assert received.count(b"~") == len(sent)


# Stopping, starting, running


async def test_a_stopped_venue_resets_its_clients_and_comes_back_on_the_same_ports(
    sandbox, hosts, socket_of, client, gone
):
    websocket, _ = await socket_of()
    assert (await client.get("/x")).status_code == 200
    await sandbox.stop("TOY")
    assert await gone(websocket) == "reset"
    with pytest.raises(httpx.TransportError):
        await client.get("/x")
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", int(hosts["stream"].rsplit(":", 1)[1]))
    await sandbox.stop("TOY")  # again: nothing happens
    await sandbox.start("TOY")
    await sandbox.start("TOY")
    assert sandbox.settings["venues"]["TOY"]["hosts"] == hosts
    assert (await client.get("/x")).status_code == 200
    again, _ = await socket_of()
    assert await again.ask("back") == "back"


async def test_the_engine_goes_on_while_its_server_is_down(toy):
    async with toy() as sandbox:
        await sandbox.stop("TOY")
        before = sandbox.engine("TOY").depth("TOY-SPOT-BTC-USDT", 1)[0]
        with anyio.fail_after(WITHIN_S):
            while sandbox.engine("TOY").depth("TOY-SPOT-BTC-USDT", 1)[0] == before:
                await anyio.sleep(0.01)


async def test_the_flow_reaches_the_clients_in_order(toy, connect):
    async with toy() as sandbox:
        sandbox._find("TOY").venue.push_changes = True
        client = await connect(sandbox.settings["venues"]["TOY"]["hosts"]["stream"])
        assert await client.text() == "welcome"
        ids = [int(await client.text()) for _ in range(30)]
        assert ids == list(range(ids[0], ids[0] + 30))
        await anyio.aclose_forcefully(client.stream)


async def test_leaving_the_sandbox_ends_everything(anyio_backend, toy, connect, gone):
    async with toy() as sandbox:
        hosts = sandbox.settings["venues"]["TOY"]["hosts"]
        client = await connect(hosts["stream"])
        port = int(hosts["rest"].rsplit(":", 1)[1])
    assert await gone(client) == "reset"
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", port)
    await anyio.aclose_forcefully(client.stream)


def neighbouring_ports() -> int:
    """The first of two neighbouring ports that are free, outside of the range that others are given ports from."""
    start = 20_000 + os.getpid() % 4000 * 2  # another worker of the test run looks elsewhere
    for port in range(start, start + 1000, 2):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


async def test_fixed_ports_are_used_and_a_taken_one_is_named(toy):
    base = neighbouring_ports()
    async with toy(flow=False, port_base=base) as sandbox:
        assert sandbox.settings["venues"]["TOY"]["hosts"] == {
            "rest": f"http://127.0.0.1:{base}",
            "stream": f"ws://127.0.0.1:{base + 1}",
        }
        with pytest.raises(OSError, match=f"TOY rest: port {base}"):
            await toy(flow=False, port_base=base).__aenter__()


async def test_a_failing_engine_listener_ends_the_sandbox_with_its_exception(toy):
    def broken(event):
        raise ValueError("broken listener")

    async def run():
        async with toy() as sandbox:
            sandbox.engine("TOY").subscribe(broken)
            with anyio.fail_after(WITHIN_S):
                await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(ValueError, match="broken listener")


async def test_orders_expire_on_time_although_nobody_trades(sandbox, order):
    engine, (market,) = sandbox.engine("TOY"), sandbox.engine("TOY").markets.values()
    soon = time.time_ns() // 1_000_000 + 200
    gtd = order(market, "BUY", "1", "100", time_in_force=TimeInForce.GTD, expire_time=soon)
    placed = engine.place(engine.account("default"), gtd)
    with anyio.fail_after(WITHIN_S):
        while placed.status is not OrderStatus.EXPIRED:
            await anyio.sleep(0.01)


async def test_the_flow_can_be_halted_and_let_go_while_it_runs(toy, connect, beats):
    async with toy() as sandbox:
        venue = sandbox._find("TOY").venue
        client = await connect(sandbox.settings["venues"]["TOY"]["hosts"]["stream"])
        sandbox.set_pace("TOY", 0)
        before = sandbox.engine("TOY").depth("TOY-SPOT-BTC-USDT", 1)[0]
        await beats(venue.sessions[0], 5)
        assert sandbox.engine("TOY").depth("TOY-SPOT-BTC-USDT", 1)[0] == before
        sandbox.set_pace("TOY", 5)
        await beats(venue.sessions[0], 5)
        assert sandbox.engine("TOY").depth("TOY-SPOT-BTC-USDT", 1)[0] > before
        await anyio.aclose_forcefully(client.stream)


# Accounts and selection


async def test_the_default_account_is_rich_and_others_hold_what_they_were_given(sandbox):
    engine = sandbox.engine("TOY")
    key = sandbox.credentials("TOY").key_for("spot")
    account = engine.account_of(key.key.get_secret_value())
    assert account.secret == key.secret.get_secret_value()
    assert {b.asset: b.total for b in engine.balances(account)} == {"BTC": 100, "USDT": 10_000_000}
    poor = sandbox.open_account("TOY", "poor", {"spot": {"USDT": Decimal(5)}})
    assert poor.account == "poor"
    assert poor == sandbox.credentials("TOY", "poor")
    assert {b.asset: b.total for b in engine.balances(engine.account("poor"))} == {"USDT": 5}
    assert key.key not in (poor.key_for("spot").key,)
    with pytest.raises(BadRequest, match="nobody"):
        sandbox.credentials("TOY", "nobody")
    with pytest.raises(BadRequest, match="poor"):
        sandbox.open_account("TOY", "poor")
    with pytest.raises(BadRequest, match="TOY"):
        sandbox.engine("TOI")


async def test_keys_repeat_by_seed(toy):
    keys = []
    for seed in (1, 1, 2):
        async with toy(flow=False, seed=seed) as sandbox:
            keys.append(sandbox.credentials("TOY"))
    assert keys[0] == keys[1] != keys[2]


def test_no_installed_sandbox_is_a_configuration_error():
    from astra.plugins import Plugins

    with pytest.raises(ConfigError, match="install"):
        Sandbox(plugins=Plugins(entry_points=list))


async def test_clients_that_reset_half_a_request_end_nothing_but_themselves(hosts, client):
    """A connection that the client has reset already cannot be shut down: that once ended the whole sandbox."""
    address = urllib.parse.urlsplit(hosts["rest"] if "rest" in hosts else next(iter(hosts.values())))

    def hang_up() -> None:
        for _ in range(40):
            half = socket.create_connection((address.hostname, address.port))
            half.sendall(b"GET /half HTTP")
            half.shutdown(socket.SHUT_RDWR)
            half.close()

    await anyio.to_thread.run_sync(hang_up)
    assert (await client.get("/echo")).status_code < 500
