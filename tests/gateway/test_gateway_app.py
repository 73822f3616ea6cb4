"""The gateway as an application: embedded, mounted, probed, measured, documented."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
import socket
import struct
import sys
import types
from typing import Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from astra import Astra
from astra.errors import ConfigError, PluginError, VenueUnavailable
from astra.hookspecs import hookimpl
from astra.plugins import Plugins
from astra_gateway.app import create_app, load_frontends
from astra_gateway.context import GatewayContext, require
from astra_gateway.database import Database
from astra_gateway.keys import KeyStore, Scope
from astra_gateway.plugin import Gateway, running_gateway, serve_gateway
from astra_gateway.server import listen, serving, url_of
from astra_gateway.settings import GatewaySettings

pytestmark = pytest.mark.anyio

KEY = "static.a-static-key-of-the-tests"
HEADERS = {"x-astra-api-key": f"Bearer {KEY}"}


def local(**options: Any) -> GatewaySettings:
    return GatewaySettings(
        **{"port": 0, "metrics": False, "database": "sqlite://", "api_key": SecretStr(KEY)} | options
    )


def toy_astra(toy: Any) -> Astra:
    return Astra(settings={"venues": {"TOY": {"transport": "toy"}}}, plugins=Plugins(entry_points=toy[1]))


async def test_it_is_served_while_the_block_runs(toy: Any) -> None:
    async with toy_astra(toy) as astra:
        async with serve_gateway(astra, local()) as url, httpx.AsyncClient(trust_env=False) as http:
            assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", url)
            assert (await http.get(url + "/livez")).json() == {"status": "alive"}
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(url + "/livez")


async def test_an_error_of_the_block_comes_out_as_it_is(toy: Any) -> None:
    async with toy_astra(toy) as astra:
        with pytest.raises(ZeroDivisionError):
            async with serve_gateway(astra, local()):
                raise ZeroDivisionError


async def test_cancelling_ends_it_in_order(toy: Any) -> None:
    async with toy_astra(toy) as astra:
        with anyio.move_on_after(0.3) as scope:
            async with serve_gateway(astra, local()) as url:
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(url + "/livez")


async def test_a_taken_port_is_told_or_passed_over(toy: Any) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        async with toy_astra(toy) as astra:
            with pytest.raises(ConfigError, match=f"port {port} .* in use"):
                async with serve_gateway(astra, local(port=port)):
                    pass
            async with serve_gateway(astra, local(port=port, next_free_port=True)) as url:
                assert port < int(url.rpartition(":")[2]) <= port + 50


async def test_two_gateways_live_side_by_side_in_one_process(toy: Any) -> None:
    async with (
        toy_astra(toy) as astra,
        running_gateway(astra, local(metrics=True, metrics_port=0)) as one,
        running_gateway(astra, local(metrics=True, metrics_port=0)) as other,
        httpx.AsyncClient(trust_env=False, headers=HEADERS) as http,
    ):
        for _ in range(3):
            await http.get(one.url + "/markets?exchange=TOY")
        counted = [(await http.get(str(gateway.metrics_url))).text for gateway in (one, other)]
        assert 'astra_gateway_requests_total{method="GET",route="/markets",status="200"} 3.0' in counted[0]
        assert "route=" not in counted[1]


async def test_it_can_be_mounted_in_another_application(toy: Any) -> None:
    keys_database = Database("sqlite://")
    async with toy_astra(toy) as astra:
        keys = KeyStore(keys_database, astra.clock, static_key=SecretStr(KEY))
        await load_frontends(astra)
        app = create_app(astra, local(), keys)
        outer = Starlette(routes=[Mount("/astra", app=app)])
        with listen("127.0.0.1", 0) as listener:
            url = url_of(listener)
            async with (
                serving(outer, listener, ping_s=20, grace_s=1),
                httpx.AsyncClient(base_url=url, trust_env=False) as http,
            ):
                assert (await http.get("/astra/livez")).status_code == 200
                assert (await http.get("/astra/markets?exchange=TOY")).status_code == 401
                assert (await http.get("/astra/markets?exchange=TOY", headers=HEADERS)).status_code == 200
                assert (await http.get("/livez")).status_code == 404
                assert (await http.get("/astra/openapi.json")).json()["servers"] == [{"url": "/astra"}]
    await keys_database.aclose()


async def test_nothing_more_is_written_to_a_client_that_went_away(caplog: pytest.LogCaptureFixture) -> None:
    """The event loop warns of every write after the fifth to a socket that is gone."""
    accepted, went, done = anyio.Event(), anyio.Event(), anyio.Event()
    errors: list[OSError] = []

    async def burst(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        accepted.set()
        await went.wait()
        for _ in range(20):
            try:
                await send({"type": "websocket.send", "text": "again"})
            except OSError as error:
                errors.append(error)
        done.set()

    caplog.set_level(logging.WARNING, "asyncio")
    with listen("127.0.0.1", 0) as listener:
        async with serving(burst, listener, ping_s=20, grace_s=1):
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(
                    b"GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                    b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
                )
                with anyio.fail_after(5):
                    await accepted.wait()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, no goodbye
            went.set()
            with anyio.fail_after(5):
                await done.wait()
    assert caplog.messages == []
    assert len(errors) == 19, "the first finds out"


async def test_a_mounted_gateway_without_front_ends_says_what_is_missing(toy: Any) -> None:
    database = Database("sqlite://")
    async with toy_astra(toy) as astra:
        with pytest.raises(PluginError, match="load_frontends"):
            create_app(astra, local(), KeyStore(database, astra.clock))
    await database.aclose()


async def test_the_plugin_serves_until_it_is_cancelled(toy: Any, tmp_path: Any) -> None:
    with listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    section = {"port": port, "metrics": False, "database": f"sqlite:///{tmp_path / 'gateway.db'}", "api_key": KEY}
    gateway = [one for one in importlib.metadata.entry_points(group="astra.frontends") if one.name == "gateway"]
    plugins = Plugins(entry_points=lambda: [*toy[1](), *gateway])
    settings = {"frontends": {"gateway": section}, "venues": {"TOY": {"transport": "toy"}}}
    async with Astra(settings=settings, plugins=plugins) as astra, anyio.create_task_group() as tasks:
        tasks.start_soon(astra.serve)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=HEADERS) as http:
            with anyio.fail_after(5):
                while True:
                    try:
                        answer = await http.get("/markets?exchange=TOY")
                        break
                    except httpx.ConnectError:
                        await anyio.sleep(0.02)
            assert answer.status_code == 200
        assert isinstance(await astra.frontend("gateway"), Gateway)
        tasks.cancel_scope.cancel()


async def test_probes_tell_how_each_venue_stands(stage: Any, read_message: Any) -> None:
    before = await stage.http.get("/readyz")
    assert before.json() == {"status": "ready", "venues": {"TOY": {"loaded": False}}}
    assert stage.world.calls == []
    async with stage.ws("/ws?market=TOY-SPOT-BTC-USDT&dataType=ORDERBOOK") as socket:
        await read_message(socket)
        venue = (await stage.http.get("/readyz")).json()["venues"]["TOY"]
    assert (venue["loaded"], venue["markets"]) == (True, 6)
    assert 0 <= venue["marketsAge"] < 5
    assert venue["books"] == {"SYNCING": 0, "LIVE": 1, "STALE": 0}


async def test_a_gateway_whose_venues_all_fail_is_not_ready(stage: Any) -> None:
    stage.world.errors["list_markets"] = [VenueUnavailable("down", exchange="TOY", code="secret")]
    assert (await stage.http.get("/markets?exchange=TOY")).status_code == 503
    answer = await stage.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "not-ready")
    assert answer.json()["venues"]["TOY"]["error"] == "venue-unavailable"
    assert "secret" not in answer.text


async def test_metrics_count_requests_clients_and_books(open_stage: Any, read_message: Any) -> None:
    async with open_stage(metrics=True) as stage:
        await stage.http.get("/markets?exchange=TOY")
        await stage.http.get("/markets?exchange=TOY&x=1")
        await stage.http.get("/invented/by/a/client")
        async with stage.ws("/ws?market=TOY-SPOT-BTC-USDT&dataType=ORDERBOOK") as socket:
            await read_message(socket)
            scraped = (await stage.http.get(stage.gateway.metrics_url)).text
        for line in (
            'astra_gateway_requests_total{method="GET",route="/markets",status="200"} 1.0',
            'astra_gateway_requests_total{method="GET",route="/markets",status="400"} 1.0',
            'astra_gateway_requests_total{method="GET",route="unmatched",status="404"} 1.0',
            'astra_gateway_requests_total{method="WEBSOCKET",route="/ws",status="101"} 1.0',
            'astra_gateway_request_seconds_count{route="/markets"} 2.0',
            "astra_ws_clients 1.0",
            "astra_ws_subscriptions 1.0",
            "astra_ws_messages_out_total 1.0",
            'astra_books{exchange="TOY",state="LIVE"} 1.0',
            'astra_markets{exchange="TOY"} 6.0',
        ):
            assert line in scraped.splitlines(), line
        assert "invented" not in scraped
        assert (await stage.http.get(stage.gateway.metrics_url.replace("/metrics", "/"))).status_code == 404


async def test_other_origins_are_not_let_in_unless_named(open_stage: Any) -> None:
    origin = {"origin": "https://trader.example", "access-control-request-method": "GET"}
    async with open_stage() as stage:
        answer = await stage.http.options("/markets", headers=origin)
        assert "access-control-allow-origin" not in answer.headers
        plain = await stage.http.get("/markets?exchange=TOY", headers={"origin": "https://trader.example"})
        assert "access-control-allow-origin" not in plain.headers
    async with open_stage(cors_origins=("https://trader.example",)) as stage:
        del stage.http.headers["x-astra-api-key"]
        answer = await stage.http.options("/markets", headers=origin)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://trader.example")
        other = await stage.http.options("/markets", headers=origin | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_the_api_document_is_complete(stage: Any) -> None:
    document = (await stage.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {
        *(("/livez", "get"), ("/readyz", "get"), ("/ws", "get"), ("/markets", "get"), ("/orderbook", "get")),
        *(("/bbo", "get"), ("/fills", "get"), ("/balances", "get"), ("/positions", "get"), ("/orders", "get")),
        *(("/orders", "post"), ("/orders", "patch"), ("/orders", "delete")),
    }
    for (path, method), operation in operations.items():
        assert operation["summary"], path
        assert ("security" in operation) == (path in ("/livez", "/readyz")), path
        for status in ("400", "401", "403"):
            assert (status in operation["responses"]) == (path not in ("/livez", "/readyz")), (path, method)
    text = json.dumps(document)
    for name in set(re.findall(r'"\$ref": "([^"]+)"', text)):
        assert name.startswith("#/components/schemas/")
        assert name.rpartition("/")[2] in document["components"]["schemas"], name
    depth = next(one for one in operations["/orderbook", "get"]["parameters"] if one["name"] == "depth")
    assert depth["schema"] == {"type": "integer", "default": 100, "minimum": 1, "maximum": 5000}
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "x-astra-api-key"


async def test_answers_keep_to_the_api_document(stage: Any) -> None:
    schemas = (await stage.http.get("/openapi.json")).json()["components"]["schemas"]
    params = {"market": "TOY-SPOT-BTC-USDT"}
    order = {"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": 1, "price": 20}
    for schema, answer in (
        ("Market", await stage.http.get("/markets?exchange=TOY")),
        ("OrderbookAnswer", await stage.http.get("/orderbook", params=params)),
        ("BestBidOffer", await stage.http.get("/bbo", params=params)),
        ("Order", await stage.http.get("/orders", params=params)),
        ("Order", await stage.http.post("/orders", json=order)),
        ("Fill", await stage.http.get("/fills", params=params)),
        ("Balance", await stage.http.get("/balances?exchange=TOY")),
        ("Position", await stage.http.get("/positions?exchange=TOY")),
        ("Problem", await stage.http.get("/positions?exchange=TOI")),
    ):
        described = schemas[schema]
        body = answer.json()
        for one in body if isinstance(body, list) else [body]:
            assert set(one) <= set(described["properties"]), schema
            assert set(described.get("required", ())) <= set(one), schema
    assert set(order) <= set(schemas["NewOrder"]["properties"])
    assert schemas["NewOrder"]["required"] == ["market", "side"]


async def test_the_documents_page_loads_nothing_from_elsewhere(stage: Any) -> None:
    page = await stage.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"https?://", page.text)
    assert "default-src 'self'" in page.headers["content-security-policy"]


async def test_a_broken_front_end_leaves_the_others_serving(
    open_stage: Any, toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, entry_points = toy
    broken = importlib.metadata.EntryPoint("broken", "no_such_module_anywhere:Plugin", "astra.frontends")
    plugins = Plugins(entry_points=lambda: [*entry_points(), broken])
    async with (
        Astra(settings={"venues": {"TOY": {"transport": "toy"}}}, plugins=plugins) as astra,
        serve_gateway(astra, local()) as url,
        httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as http,
    ):
        assert (await http.get("/markets?exchange=TOY")).status_code == 200
    assert "no_such_module_anywhere" in caplog.text


async def test_a_strangers_front_end_adds_its_routes(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exchanges:
        api_version = "1.0"

        @hookimpl
        def http_routes(self, router: APIRouter, context: GatewayContext) -> None:
            async def exchanges(request: Request) -> JSONResponse:
                require(request, Scope.ADMIN)
                return JSONResponse(list(context.astra.exchanges()))

            async def validated(depth: int) -> int:
                return depth

            router.add_api_route("/exchanges", exchanges, methods=["GET"])
            router.add_api_route("/validated", validated, methods=["GET"])

    module = types.ModuleType("strangers_front_end")
    module.Exchanges = Exchanges  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "strangers_front_end", module)
    ours = importlib.metadata.EntryPoint("exchanges", "strangers_front_end:Exchanges", "astra.frontends")
    plugins = Plugins(entry_points=lambda: [*toy[1](), ours])
    async with (
        Astra(settings={"venues": {"TOY": {"transport": "toy"}}}, plugins=plugins) as astra,
        serve_gateway(astra, local()) as url,
        httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as http,
    ):
        assert (await http.get("/exchanges")).json() == ["TOY"]
        wrong = await http.get("/validated?depth=deep")
        assert (wrong.status_code, wrong.json()["code"]) == (400, "bad-request")
        assert wrong.headers["content-type"] == "application/problem+json"


async def test_nothing_is_logged_for_what_goes_well(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await stage.http.get("/markets?exchange=TOY")
        await stage.http.get("/markets?exchange=NONE")
    assert not caplog.records
