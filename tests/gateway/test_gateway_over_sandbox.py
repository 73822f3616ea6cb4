"""The whole way: a client of the gateway, the engine, the Binance plugin, its sandbox, over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr
from websockets.asyncio.client import connect

from astra import Astra
from astra_gateway.plugin import running_gateway
from astra_gateway.settings import GatewaySettings
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio

KEY = "static.a-static-key-of-the-tests"
HEADERS = {"x-astra-api-key": f"Bearer {KEY}"}
SPOT, PERP, COIN = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT", "BINANCE-PERP-BTC-USD-COINM"


class Stage:
    def __init__(
        self, sandbox: Sandbox, astra: Astra, url: str, http: httpx.AsyncClient, registry: CollectorRegistry
    ) -> None:
        self.sandbox = sandbox
        self.astra = astra
        self.http = http
        self.registry = registry
        self._url = url.replace("http", "ws")

    def ws(self, path: str = "/ws") -> Any:
        return connect(self._url + path, additional_headers=HEADERS, proxy=None, max_size=None)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    settings = GatewaySettings(port=0, metrics=False, database="sqlite://", api_key=SecretStr(KEY), shutdown_grace_s=1)
    async with (
        Sandbox(["BINANCE"]) as sandbox,
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as astra,
        running_gateway(astra, settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, headers=HEADERS, trust_env=False, timeout=20) as http,
    ):
        yield Stage(sandbox, astra, gateway.url, http, gateway.app.state.gateway.metrics.registry)


class Books:
    """What a client knows of the books that it follows."""

    def __init__(self) -> None:
        self.sides: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self.ids: dict[str, int] = {}
        self.states: dict[str, list[str]] = {}

    def take(self, message: dict[str, Any]) -> None:
        market = message["market"]
        if message.get("type") == "STATE":
            self.states.setdefault(market, []).append(message["state"])
        if "bids" not in message:
            return
        if message["type"] == "SNAPSHOT":
            self.sides[market] = ({}, {})
        else:
            assert message["updateId"] > self.ids[market]
        self.ids[market] = message["updateId"]
        for side, levels in zip(self.sides[market], (message["bids"], message["asks"]), strict=True):
            for level in levels:
                if level["quantity"]:
                    side[level["price"]] = level["quantity"]
                else:
                    side.pop(level["price"], None)


async def follow(socket: Any, books: Books, until: Any) -> None:
    with anyio.fail_after(20):
        while not until():
            books.take(json.loads(await socket.recv()))


async def quiet(socket: Any, books: Books) -> None:
    """Take everything until nothing comes any more."""
    with anyio.move_on_after(1.0) as patience:
        while True:
            books.take(json.loads(await socket.recv()))
            patience.deadline = anyio.current_time() + 1.0


def same_best(stage: Stage, books: Books, market: str) -> bool:
    """Is the client's book the engine's, level by level, as far as the engine's best twenty go?"""
    _, bids, asks = stage.sandbox.engine("BINANCE").depth(market, 20)
    ours = (sorted(books.sides[market][0], reverse=True), sorted(books.sides[market][1]))
    return all(
        prices[: len(levels)] == [float(level.price) for level in levels]
        for prices, levels in zip(ours, (bids, asks), strict=True)
    )


async def test_a_client_rebuilds_the_books_of_all_product_families(stage: Stage) -> None:
    listed = (await stage.http.get("/markets?exchange=BINANCE")).json()
    markets = [SPOT, PERP, COIN, next(one["symbol"] for one in listed if one["assetType"] == "OPT")]
    books, counted = Books(), 0
    async with stage.ws() as socket:
        for market in markets:
            await socket.send(json.dumps({"market": market, "dataType": "ORDERBOOK"}))
        await follow(socket, books, lambda: len(books.sides) == len(markets))
        with anyio.move_on_after(2):
            while True:
                books.take(json.loads(await socket.recv()))
                counted += 1
        stage.sandbox.set_pace("BINANCE", 0)
        await quiet(socket, books)
    assert counted > 20
    for market in markets:
        assert same_best(stage, books, market), market
        answer = (await stage.http.get("/bbo", params={"market": market})).json()
        assert answer["bid"]["price"] == max(books.sides[market][0])


async def test_books_come_back_after_the_venue_was_gone(stage: Stage) -> None:
    books = Books()
    async with stage.ws("/ws?state=true") as socket:
        await socket.send(json.dumps({"market": PERP, "dataType": "ORDERBOOK"}))
        await follow(socket, books, lambda: PERP in books.sides)
        await stage.sandbox.stop("BINANCE")
        await follow(socket, books, lambda: books.states[PERP][-1] == "STALE")
        await stage.sandbox.start("BINANCE")
        await follow(socket, books, lambda: books.states[PERP][-1] == "LIVE")
        stage.sandbox.set_pace("BINANCE", 0)
        await quiet(socket, books)
    assert same_best(stage, books, PERP)


async def test_an_order_lives_and_dies_over_rest(stage: Stage) -> None:
    order = {"market": SPOT, "side": "buy", "type": "limit", "price": "20000.10", "quantity": "0.01"}
    placed = await stage.http.post("/orders", json=order, headers={"idempotency-key": "k1"})
    assert placed.status_code == 200, placed.text
    again = await stage.http.post("/orders", json=order, headers={"idempotency-key": "k1"})
    assert again.text == placed.text
    name = {"market": SPOT, "clientOrderId": placed.json()["clientOrderId"]}
    listed = (await stage.http.get("/orders", params={"market": SPOT})).json()
    assert [(one["clientOrderId"], one["price"], one["status"]) for one in listed] == [
        (name["clientOrderId"], 20000.1, "NEW")
    ]
    canceled = await stage.http.delete("/orders", params=name)
    assert canceled.json()["status"] == "CANCELED"
    assert (await stage.http.delete("/orders", params=name)).json()["code"] == "order-not-found"
    assert (await stage.http.get("/orders", params=name)).json()[0]["status"] == "CANCELED"


async def test_a_position_is_opened_and_seen(stage: Stage) -> None:
    order = {"market": PERP, "side": "SELL", "type": "MARKET", "quantity": 0.01}
    assert (await stage.http.post("/orders", json=order)).json()["status"] == "FILLED"
    fills = (await stage.http.get("/fills", params={"market": PERP})).json()
    assert sum(fill["quantity"] for fill in fills) == pytest.approx(0.01)
    (position,) = (await stage.http.get("/positions", params={"exchange": "BINANCE"})).json()
    assert (position["market"], position["side"], position["quantity"]) == (PERP, "SHORT", 0.01)


async def test_keys_of_the_caller_are_used_for_one_request(stage: Stage) -> None:
    other = stage.sandbox.open_account("BINANCE", "other", {"spot": {}})
    key = other.keys["default"]
    headers = {
        "x-astra-exchange-key": key.key.get_secret_value(),
        "x-astra-exchange-secret": key.secret.get_secret_value(),
    }
    mine = (await stage.http.get("/balances?exchange=BINANCE", headers=headers)).json()
    assert mine == []
    servers = (await stage.http.get("/balances?exchange=BINANCE")).json()
    assert any(one["asset"] == "BTC" for one in servers)
    wrong = await stage.http.get(
        "/balances?exchange=BINANCE", headers=headers | {"x-astra-exchange-secret": "not-the-secret"}
    )
    assert (wrong.status_code, wrong.json()["code"]) == (401, "authentication")
    assert "not-the-secret" not in wrong.text


async def test_each_venue_s_budgets_and_pauses_are_metrics(stage: Stage) -> None:
    def scraped() -> dict[str, float]:
        lines = generate_latest(stage.registry).decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    assert not any("rate_limit" in name for name in scraped()), "looking at metrics loads no venue"
    await stage.http.get("/markets?exchange=BINANCE")
    bucket = '{account="",bucket="request_weight-1m",exchange="BINANCE",limits="spot"}'
    found = scraped()
    assert found["astra_rate_limit" + bucket] == 6000
    assert 20 <= found["astra_rate_limit_used" + bucket] < 100
    paused = 'astra_rate_limit_paused_seconds{exchange="BINANCE",limits="%s"}'
    assert {found[paused % name] for name in ("spot", "futures", "options")} == {0}
    # The venue's 429 ends here, too, but with a pause of a second only.
    (await stage.astra.venue("BINANCE")).rate_limiters["spot"].pause(30, "refused with 429")
    found = scraped()
    assert 25 < found[paused % "spot"] <= 30
    assert found[paused % "futures"] == 0
