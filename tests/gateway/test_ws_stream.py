"""The WebSocket API against the documented samples, over real sockets: subscriptions, data, notices, refusals."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from astra.errors import VenueUnavailable
from astra_gateway.keys import Scope

pytestmark = pytest.mark.anyio

BTC = "TOY-SPOT-BTC-USDT"
BOOK = f"/ws?market={BTC}&dataType=ORDERBOOK"
TRADES = f"/ws?market={BTC}&dataType=TRADE"


async def subscribed(stage: Any, native: str, data_type: str = "TRADE") -> None:
    """Wait until the venue has the subscription."""
    with anyio.fail_after(5):
        while not any(f"{native}@{data_type}" in str(one.sent) for one in stage.world.transport.connections):
            await anyio.sleep(0.005)


async def quiet(socket: Any) -> bool:
    """Does nothing come for a moment?"""
    with anyio.move_on_after(0.1):
        await socket.recv()
        return False
    return True


async def test_a_book_by_query_sends_a_snapshot_and_then_updates(stage: Any, read_message: Any) -> None:
    async with stage.ws(BOOK) as socket:
        snapshot = await socket.recv()
        assert snapshot.startswith(
            '{"updateId":0,"bids":[{"price":51485.41,"quantity":4.10646},{"price":51485.39,"quantity":0.00975},'
            '{"price":51485.38,"quantity":0.00975}],"asks":[{"price":51485.42,"quantity":2.21005},'
        )
        assert list(json.loads(snapshot)) == ["updateId", "bids", "asks", "type", "market"]
        assert json.loads(snapshot)["type"] == "SNAPSHOT"
        stage.world.delta("BTCUSDT", bids=[[51485.40, 1.5]], asks=[[51485.42, 0]])
        assert await socket.recv() == (
            '{"updateId":1,"bids":[{"price":51485.4,"quantity":1.5}],"asks":[{"price":51485.42,"quantity":0.0}],'
            '"type":"UPDATE","market":"TOY-SPOT-BTC-USDT"}'
        )


async def test_trades_that_come_together_are_sent_together(stage: Any) -> None:
    async with stage.ws(TRADES) as socket:
        await subscribed(stage, "BTCUSDT")
        stage.world.trades("BTCUSDT", ("1", 47104.0, 0.003, "SELL"), ("2", 47100.1, 0.0015, None))
        assert await socket.recv() == (
            '{"trades":[{"price":47104.0,"quantity":0.003,"side":"SELL","time":1707527023484,"id":"1"},'
            '{"price":47100.1,"quantity":0.0015,"side":null,"time":1707527023484,"id":"2"}],'
            '"market":"TOY-SPOT-BTC-USDT"}'
        )


async def test_one_connection_carries_many_subscriptions(stage: Any, read_message: Any) -> None:
    async with stage.ws("/ws") as socket:
        for number, name in enumerate(("TOY-SPOT-BTC-USDT", "TOY-SPOT-ETH-USDT")):
            await socket.send(json.dumps({"op": "subscribe", "market": name, "dataType": "ORDERBOOK", "id": number}))
        got = [await read_message(socket) for _ in range(4)]
        acknowledged = [one for one in got if one["type"] == "SUBSCRIBED"]
        assert acknowledged == [
            {"type": "SUBSCRIBED", "market": "TOY-SPOT-BTC-USDT", "dataType": "ORDERBOOK", "id": 0},
            {"type": "SUBSCRIBED", "market": "TOY-SPOT-ETH-USDT", "dataType": "ORDERBOOK", "id": 1},
        ]
        assert {one["market"] for one in got if one["type"] == "SNAPSHOT"} == {BTC, "TOY-SPOT-ETH-USDT"}
        await socket.send(json.dumps({"op": "unsubscribe", "market": BTC, "dataType": "ORDERBOOK"}))
        assert (await read_message(socket))["type"] == "UNSUBSCRIBED"
        stage.world.delta("BTCUSDT", bids=[[1.0, 1.0]])
        stage.world.delta("ETHUSDT", bids=[[2.0, 1.0]])
        assert (await read_message(socket))["market"] == "TOY-SPOT-ETH-USDT"
        assert await quiet(socket)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"baseAsset": "ETH", "quoteAsset": "USDT"}, "TOY-SPOT-ETH-USDT"),
        ({"baseAsset": {"type": "SPOT", "asset": "BTC"}, "quoteAsset": "USDT"}, BTC),
        ({"baseAsset": {"type": "PERPETUAL", "underlying": "XBT"}, "quoteAsset": "USDT"}, "TOY-PERP-XBT-USDT"),
        ({"baseAsset": {"type": "PERPETUAL", "underlying": "BTC"}, "quoteAsset": "USDT"}, "TOY-PERP-XBT-USDT"),
        ({"baseAsset": {"type": "PERPETUAL", "underlying": "BTC"}, "quoteAsset": "USD"}, "TOY-PERP-BTC-USD-COINM"),
        (
            {
                "baseAsset": {"type": "DATED_FUTURE", "underlying": "BTC", "expiry": "2027-06-25"},
                "quoteAsset": "USDT",
            },
            "TOY-FUT-BTC-USDT-270625",
        ),
        (
            {
                "baseAsset": {
                    **{"type": "OPTION", "underlying": "BTC", "strike": 50000, "expiry": "270625"},
                    **{"duration_type": "Monthly", "optionType": "call"},
                },
                "quoteAsset": "USDT",
            },
            "TOY-OPT-BTC-USDT-270625-50000-C",
        ),
        ("TOY-SPOT-ETH-USDT", "TOY-SPOT-ETH-USDT"),
    ],
)
async def test_markets_of_the_older_schema_are_understood(
    stage: Any, read_message: Any, written: Any, meant: str
) -> None:
    async with stage.ws("/ws") as socket:
        await socket.send(json.dumps({"exchange": "TOY", "market": written, "dataType": "TRADE"}))
        assert await read_message(socket) == {"type": "SUBSCRIBED", "market": meant, "dataType": "TRADE"}


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        ("{", "bad-request", "not valid JSON"),
        ("[]", "bad-request", "JSON object"),
        ('{"op":"subscribe"}', "bad-request", "'market'"),
        ('{"op":"subscrible","market":"TOY-SPOT-BTC-USDT","dataType":"TRADE"}', "bad-request", "Did you mean 'subscr"),
        ('{"market":"TOY-SPOT-BTC-USDT","dataType":"ORDERBOK"}', "bad-request", "Did you mean 'ORDERBOOK'?"),
        ('{"market":"TOY-SPOT-BTC-USDT","datatype":"TRADE"}', "bad-request", "Did you mean 'dataType'?"),
        ('{"market":"TOY_SPOT_BTC_USDT","dataType":"TRADE"}', "malformed-symbol", "TOY-SPOT-BTC-USDT"),
        ('{"market":"TOY-SPOT-BTC-EUR","dataType":"TRADE"}', "market-not-found", "TOY-SPOT-BTC-USDT"),
        ('{"market":"OKX-SPOT-BTC-USDT","dataType":"TRADE"}', "unknown-exchange", "pip install astra-okx"),
        ('{"exchange":"OKX","market":"TOY-SPOT-BTC-USDT","dataType":"TRADE"}', "bad-request", "contradict"),
        ('{"market":{"baseAsset":"BTC","quoteAsset":"USDT"},"dataType":"TRADE"}', "bad-request", "'exchange'"),
        (
            '{"exchange":"TOY","market":{"baseAsset":{"type":"PERPETUA","underlying":"BTC"},"quoteAsset":"USD"},'
            '"dataType":"TRADE"}',
            "bad-request",
            "Did you mean 'PERPETUAL'?",
        ),
        (
            '{"exchange":"TOY","market":{"baseAsset":{"type":"DATED_FUTURE","underlying":"BTC","expiry":"271399"},'
            '"quoteAsset":"USD"},"dataType":"TRADE"}',
            "bad-request",
            "expiry",
        ),
        ('{"op":"unsubscribe","market":"TOY-SPOT-BTC-USDT","dataType":"TRADE"}', "bad-request", "no subscription"),
        ('{"market":"TOY-SPOT-BTC-USDT","dataType":"TRADE","state":"yes"}', "bad-request", "'state'"),
    ],
)
async def test_a_wrong_message_is_answered_and_leaves_no_subscription(
    stage: Any, read_message: Any, sent: str, code: str, said: str
) -> None:
    async with stage.ws("/ws") as socket:
        await socket.send(sent)
        error = await read_message(socket)
        assert (error["type"], error["code"]) == ("ERROR", code)
        assert error["status"] in (400, 404)
        assert said in error["detail"]
        await socket.send('{"market":"TOY-SPOT-ETH-USDT","dataType":"TRADE","id":"next"}')
        assert (await read_message(socket))["id"] == "next"
        await subscribed(stage, "ETHUSDT")
    assert all("BTC" not in str(one.sent) for one in stage.world.transport.connections)


async def test_an_error_names_the_message_that_it_answers(stage: Any, read_message: Any) -> None:
    async with stage.ws("/ws") as socket:
        await socket.send(json.dumps({"id": "a1", "market": "TOY-SPOT-BTC-EUR", "dataType": "TRADE"}))
        error = await read_message(socket)
        assert (error["id"], error["exchange"], error["retryable"]) == ("a1", "TOY", False)


async def test_state_messages_come_only_where_they_were_asked_for(stage: Any, read_message: Any) -> None:
    async with stage.ws(BOOK) as plain, stage.ws(BOOK + "&state=true") as telling:
        first = await read_message(telling)
        while first.get("type") == "STATE" and first["state"] == "SYNCING":
            first = await read_message(telling)
        assert first == {"type": "STATE", "market": BTC, "state": "LIVE"}
        assert (await read_message(telling))["type"] == "SNAPSHOT"
        assert (await read_message(plain))["type"] == "SNAPSHOT"
        stage.world.delta("BTCUSDT", bids=[[1.0, 1.0]], skip=2)
        stale = await read_message(telling)
        assert (stale["type"], stale["state"], stale["market"]) == ("STATE", "STALE", BTC)
        assert stale["reason"]
        assert (await read_message(telling))["state"] == "LIVE"
        assert (await read_message(telling))["type"] == "SNAPSHOT"
        again = await read_message(plain)
        assert (again["type"], again["updateId"]) == ("SNAPSHOT", 3)


async def test_a_lost_connection_leaves_a_gap_message_in_the_trades(stage: Any, read_message: Any) -> None:
    async with stage.ws(TRADES + "&state=true") as socket:
        await subscribed(stage, "BTCUSDT")
        stage.world.trades("BTCUSDT", ("1", 47104.0, 0.003, "SELL"))
        assert "trades" in await read_message(socket)
        stage.world.transport.open[0].cut("reset by the venue")
        with anyio.fail_after(5):
            while not stage.world.transport.open or not stage.world.transport.open[0].sent:
                await anyio.sleep(0.005)
        stage.world.trades("BTCUSDT", ("9", 47105.0, 0.003, "BUY"))
        gap = await read_message(socket)
        assert (gap["type"], gap["market"], gap["afterId"], gap["filled"]) == ("GAP", BTC, "1", None)
        assert (await read_message(socket))["trades"][0]["id"] == "9"


async def test_late_clients_start_from_the_live_book_at_its_own_id(stage: Any, read_message: Any) -> None:
    async with stage.ws(BOOK) as early:
        await read_message(early)
        for step in range(5):
            stage.world.delta("BTCUSDT", bids=[[51000.0 + step, 1.0]])
        async with stage.ws(BOOK) as late:
            snapshot = await read_message(late)
            assert (snapshot["type"], snapshot["updateId"], len(snapshot["bids"])) == ("SNAPSHOT", 5, 8)
            stage.world.delta("BTCUSDT", bids=[[51000.0, 0]])
            update = await read_message(late)
            assert (update["type"], update["updateId"]) == ("UPDATE", 6)
        assert [(await read_message(early))["updateId"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert stage.world.count("book_seed") == 1
    assert stage.world.transport.dials == 1


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ws?market=TOY-SPOT-BTC-USDT", 400, "bad-request"),
        ("/ws?dataType=TRADE", 400, "bad-request"),
        ("/ws?market=TOY-SPOT-BTC-USDT&dataType=CANDLES", 400, "bad-request"),
        ("/ws?market=TOY-SPOT-BTC-USDT&dataType=TRADE&depth=5", 400, "bad-request"),
        ("/ws?market=TOY_SPOT_BTC_USDT&dataType=TRADE", 400, "malformed-symbol"),
        ("/ws?market=TOY-SPOT-BTC-EUR&dataType=TRADE", 404, "market-not-found"),
        ("/ws?market=KUCOIN-SPOT-BTC-USDT&dataType=TRADE", 404, "unknown-exchange"),
        ("/wss", 404, "no-such-path"),
    ],
)
async def test_a_refused_handshake_is_an_http_answer_with_a_problem(
    stage: Any, caplog: pytest.LogCaptureFixture, path: str, status: int, code: str
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(InvalidStatus) as refused:
        async with stage.ws(path):
            pass
    response = refused.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body)["code"] == code
    assert not caplog.records
    assert stage.world.transport.dials == 0


@pytest.mark.parametrize("key", [None, "static.wrong", "nodot"])
async def test_a_handshake_without_a_valid_key_is_refused_before_anything_is_done(stage: Any, key: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with stage.ws(BOOK, key=key):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["code"] == "api-key"
    assert stage.world.calls == []


async def test_a_venue_that_refuses_a_market_ends_the_subscription_with_its_error(
    stage: Any, read_message: Any
) -> None:
    stage.world.refuse = {"BTCUSDT@TRADE"}
    async with stage.ws("/ws") as socket:
        await socket.send(json.dumps({"market": BTC, "dataType": "TRADE"}))
        assert (await read_message(socket))["type"] == "SUBSCRIBED"
        error = await read_message(socket)
        assert (error["type"], error["market"], error["dataType"]) == ("ERROR", BTC, "TRADE")
        assert "no such market today" in error["detail"]
        await socket.send(json.dumps({"market": "TOY-SPOT-ETH-USDT", "dataType": "TRADE"}))
        assert (await read_message(socket))["type"] == "SUBSCRIBED"
    async with stage.ws(TRADES) as socket:
        assert (await read_message(socket))["type"] == "ERROR"
        with pytest.raises(ConnectionClosed) as closed:
            await read_message(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_clients_that_leave_take_their_subscriptions_with_them(stage: Any, read_message: Any) -> None:
    async with stage.ws(BOOK) as one:
        await read_message(one)
        async with stage.ws(BOOK) as other:
            await read_message(other)
            other.transport.abort()
        stage.world.delta("BTCUSDT", bids=[[1.0, 1.0]])
        assert (await read_message(one))["updateId"] == 1
    await ended(stage)


async def ended(stage: Any) -> None:
    """Wait until the venue has no subscription of ours left."""
    with anyio.fail_after(5):
        while stage.world.transport.open:
            await anyio.sleep(0.005)


async def test_leaving_during_the_handshake_leaves_nothing_behind(stage: Any) -> None:
    held = anyio.Event()
    stage.world.before["list_markets"] = held.wait
    host, port = stage.gateway.url.removeprefix("http://").split(":")
    stream = await anyio.connect_tcp(host, int(port))
    await stream.send(
        f"GET {BOOK} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        "x-astra-api-key: Bearer static.a-static-key-of-the-tests\r\n\r\n".encode()
    )
    with anyio.fail_after(5):
        while not stage.world.count("list_markets"):
            await anyio.sleep(0.005)
    await stream.aclose()
    held.set()
    scrape = stage.gateway.app.state.gateway.metrics
    await anyio.sleep(0.2)
    assert scrape.registry.get_sample_value("astra_ws_clients") == 0
    assert scrape.registry.get_sample_value("astra_ws_subscriptions") == 0
    assert not stage.world.transport.open


async def test_leaving_at_any_moment_leaves_nothing_behind(stage: Any) -> None:
    async def come_and_go(after: float) -> None:
        with anyio.move_on_after(after):
            async with stage.ws(BOOK) as socket:
                await socket.send(json.dumps({"market": BTC, "dataType": "TRADE"}))
                async for _ in socket:
                    pass

    async with anyio.create_task_group() as tasks:
        for step in range(30):
            tasks.start_soon(come_and_go, step / 200)
    registry = stage.gateway.app.state.gateway.metrics.registry
    with anyio.fail_after(5):
        while registry.get_sample_value("astra_ws_clients") or registry.get_sample_value("astra_ws_broadcasts"):
            await anyio.sleep(0.01)
    await ended(stage)


async def test_a_revoked_key_loses_its_open_connections(stage: Any, read_message: Any) -> None:
    issued = await stage.issue(Scope.READ)
    async with stage.ws("/ws", key=issued.key) as socket:
        await socket.send(json.dumps({"market": BTC, "dataType": "TRADE"}))
        assert (await read_message(socket))["type"] == "SUBSCRIBED"
        began = anyio.current_time()
        await stage.gateway.keys.revoke(issued.record.id)
        error = await read_message(socket)
        assert (error["type"], error["code"]) == ("ERROR", "api-key")
        assert "revoked" in error["detail"]
        with pytest.raises(ConnectionClosed) as closed:
            await read_message(socket)
        assert anyio.current_time() - began < 1.5
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_connection_has_a_bounded_number_of_subscriptions(open_stage: Any, read_message: Any) -> None:
    async with open_stage(max_subscriptions=1) as stage, stage.ws("/ws") as socket:
        await socket.send(json.dumps({"market": BTC, "dataType": "TRADE"}))
        await socket.send(json.dumps({"market": BTC, "dataType": "TRADE", "state": True}))
        await socket.send(json.dumps({"market": "TOY-SPOT-ETH-USDT", "dataType": "TRADE"}))
        got = [await read_message(socket) for _ in range(3)]
        assert [one["type"] for one in got] == ["SUBSCRIBED", "SUBSCRIBED", "ERROR"]
        assert got[2]["code"] == "too-many-subscriptions"


async def test_the_gateway_has_a_bounded_number_of_connections(open_stage: Any) -> None:
    async with open_stage(max_websockets=1) as stage, stage.ws("/ws"):
        with pytest.raises(InvalidStatus) as refused:
            async with stage.ws("/ws"):
                pass
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["code"] == "too-many-connections"


async def test_a_plain_get_is_told_to_upgrade(stage: Any) -> None:
    answer = await stage.http.get("/ws")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade-required")
    assert answer.headers["upgrade"] == "websocket"


async def test_a_book_that_cannot_start_says_so_where_asked_and_comes_when_it_can(
    stage: Any, read_message: Any
) -> None:
    stage.world.errors["book_seed"] = [VenueUnavailable("down", exchange="TOY")]
    async with stage.ws(BOOK + "&state=true") as socket:
        assert (await read_message(socket))["state"] == "SYNCING"
        assert (await read_message(socket))["state"] == "LIVE"
        assert (await read_message(socket))["type"] == "SNAPSHOT"
