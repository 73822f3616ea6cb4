"""Every fault of the sandbox, seen from a client over real sockets."""

import gzip
import time
from decimal import Decimal

import anyio
import httpx
import pytest
from websockets.frames import Opcode

from astra.models.trades import Side

WITHIN_S = 10.0


# Frame faults


async def test_dropped_frames_never_come_but_answers_do(socket_of, sandbox, faults, push):
    client, session = await socket_of()
    faults.drop_frame = 1.0
    push(session, "lost 1", "lost 2")
    assert await client.ask("answer") == "answer"
    faults.drop_frame = 0.0
    push(session, "kept")
    assert await client.text() == "kept"


async def test_answers_suffer_too_when_asked_for(socket_of, faults):
    client, _ = await socket_of()
    faults.spare_answers = False
    faults.drop_frame = 1.0
    await client.send("lost")
    await client.send("lost too")
    client.protocol.send_ping(b"have you had them")
    await client._push()
    assert (await client.event()).opcode is Opcode.PONG
    faults.drop_frame = 0.0
    assert await client.ask("kept") == "kept"


async def test_one_frame_that_says_something_is_lost_and_no_other(socket_of, faults, push):
    client, session = await socket_of()
    faults.lose_next_with = "BTC"
    push(session, "ETH 1", "BTC 1", "BTC 2")
    assert [await client.text() for _ in range(2)] == ["ETH 1", "BTC 2"]
    assert not faults.lose_next_with
    faults.lose_next_with = "BTC"
    push(session, gzip.compress(b"BTC 3"), "end")
    assert await client.text() == "end"


async def test_repeated_frames_come_twice(socket_of, sandbox, faults, push):
    client, session = await socket_of()
    faults.repeat_frame = 1.0
    push(session, "a", "b")
    assert [await client.text() for _ in range(4)] == ["a", "a", "b", "b"]


async def test_reordered_frames_change_places_and_none_is_lost(socket_of, sandbox, faults, push):
    client, session = await socket_of()
    faults.reorder_frame = 1.0
    push(session, "1", "2", "3", "4", "5")
    assert [await client.text() for _ in range(4)] == ["2", "1", "4", "3"]
    assert await client.text() == "5"  # nobody followed, so it came by itself


async def test_a_cut_connection_breaks_off_inside_a_frame(socket_of, sandbox, faults, venue, gone, push):
    client, session = await socket_of()
    faults.cut_connection = 1.0
    client.raw = b""
    push(session, "0123456789")
    assert await gone(client) == "reset"
    assert client.raw[:2] == b"\x81\x0a"  # a text frame of ten bytes ...
    assert 2 < len(client.raw) < 12  # ... that did not come whole
    with anyio.fail_after(WITHIN_S):
        await venue.gone.wait()


async def test_a_stall_holds_all_frames_back_once_and_loses_none(socket_of, sandbox, faults, push):
    client, session = await socket_of()
    faults.stall_s = 0.4
    began = time.monotonic()
    push(session, "1", "2")
    await client.send("3")
    assert [await client.text() for _ in range(3)] == ["1", "2", "3"]
    assert time.monotonic() - began >= 0.35
    assert faults.stall_s == 0
    assert await client.ask("4") == "4"


async def test_faults_strike_by_chance_and_the_same_way_for_the_same_seed(toy, connect, push):
    async def survivors(seed):
        async with toy(flow=False, seed=seed) as sandbox:
            client = await connect(sandbox.settings["venues"]["TOY"]["hosts"]["stream"])
            assert await client.text() == "welcome"
            sandbox.faults("TOY").drop_frame = 0.5
            (session,) = sandbox._find("TOY").venue.sessions
            push(session, *map(str, range(100)))
            sandbox.faults("TOY").drop_frame = 0.0
            push(session, "end")
            got = []
            while (text := await client.text()) != "end":
                got.append(text)
            await anyio.aclose_forcefully(client.stream)
            return got

    first, again, other = await survivors(1), await survivors(1), await survivors(2)
    assert first == again != other
    assert 30 < len(first) < 70


# Request faults


async def test_a_reset_request_never_reaches_the_venue(client, faults, venue):
    faults.reset_request = 1.0
    with pytest.raises(httpx.TransportError):
        await client.post("/orders")
    assert venue.acted == []


async def test_a_lost_answer_was_acted_on(client, faults, venue):
    faults.lost_answer = 1.0
    assert (await client.get("/read")).status_code == 200  # changes nothing, suffers nothing
    with pytest.raises(httpx.TransportError):
        await client.post("/orders?1")
    assert venue.acted == ["/orders?1"]


async def test_a_server_error_has_no_effect_and_one_after_acting_has(client, faults, venue):
    faults.server_error = 1.0
    assert (await client.post("/orders?1")).status_code == 503
    assert (await client.get("/read")).status_code == 503
    assert venue.acted == []
    faults.server_error = 0.0
    faults.server_error_after = 1.0
    assert (await client.post("/orders?2")).status_code == 503
    assert (await client.get("/read")).status_code == 200
    assert venue.acted == ["/orders?2"]


async def test_a_rate_limited_request_gets_the_venues_429(client, faults, venue):
    faults.rate_limited = 1.0
    answer = await client.post("/orders")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert venue.acted == []


async def test_a_late_request_is_reset_at_once_and_acted_on_later(client, faults, venue):
    faults.late_request, faults.late_s = 1.0, 0.5
    began = time.monotonic()
    with pytest.raises(httpx.TransportError):
        await client.post("/orders?late")
    assert time.monotonic() - began < 0.4
    assert (await client.get("/read")).status_code == 200  # who looks now finds nothing
    assert venue.acted == []
    with anyio.fail_after(WITHIN_S):
        await venue.acts.wait()
    assert time.monotonic() - began >= 0.5
    assert venue.acted == ["/orders?late"]


async def test_a_late_request_arrives_although_the_server_was_stopped(sandbox, client, faults, venue):
    faults.late_request, faults.late_s = 1.0, 0.2
    with pytest.raises(httpx.TransportError):
        await client.post("/orders?late")
    await sandbox.stop("TOY")
    with anyio.fail_after(WITHIN_S):
        await venue.acts.wait()


async def test_the_handshake_is_a_request_too(hosts, faults, connect):
    faults.rate_limited = 1.0
    limited = await connect(hosts["stream"])
    assert limited.answer.status_code == 429
    await limited.stream.aclose()
    faults.rate_limited = 0.0
    faults.reset_request = 1.0
    async with await anyio.connect_tcp("127.0.0.1", int(hosts["stream"].rsplit(":", 1)[1])) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        with anyio.fail_after(WITHIN_S), pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def test_the_venues_clock_is_off_by_the_skew_while_it_is_set(client, faults, sandbox):
    async def offset_ms():
        return int((await client.get("/time")).text) - time.time_ns() // 1_000_000

    assert abs(await offset_ms()) < 1000
    faults.clock_skew_ms = -60_000
    assert -61_000 < await offset_ms() < -59_000
    sandbox.engine("TOY").house_place("TOY-SPOT-BTC-USDT", Side.BUY, Decimal(1), Decimal(5))
    sandbox.engine("TOY").house_place("TOY-SPOT-BTC-USDT", Side.SELL, Decimal(1), Decimal(5))
    (trade,) = sandbox.engine("TOY").trades("TOY-SPOT-BTC-USDT")
    assert trade.time < time.time_ns() // 1_000_000 - 59_000  # a venue has one clock
    faults.clock_skew_ms = 0
    assert abs(await offset_ms()) < 1000
