"""The public REST routes against the documented samples, over a real socket."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from astra.errors import RateLimited, VenueUnavailable

pytestmark = pytest.mark.anyio


async def test_markets_print_the_documented_fields_first(stage: Any) -> None:
    answer = await stage.http.get("/markets", params={"exchange": "TOY"})
    assert answer.status_code == 200
    by_symbol = {one["symbol"]: one for one in answer.json()}
    assert list(by_symbol["TOY-SPOT-ETH-USDT"]) == [
        *("symbol", "assetType", "baseAsset", "quoteAsset"),
        *("nativeSymbol", "status"),
    ]
    coin_margined = by_symbol["TOY-PERP-BTC-USD-COINM"]
    assert list(coin_margined)[:5] == ["symbol", "assetType", "baseAsset", "quoteAsset", "marginAsset"]
    assert coin_margined | {} == {
        "symbol": "TOY-PERP-BTC-USD-COINM",
        "assetType": "PERP",
        "baseAsset": "BTC",
        "quoteAsset": "USD",
        "marginAsset": "BTC",
        "nativeSymbol": "BTCUSD",
        "status": "ACTIVE",
        "contractSize": 100,
        "contractType": "INVERSE",
    }


async def test_metadata_keeps_every_digit_and_prints_no_exponent(stage: Any) -> None:
    answer = await stage.http.get("/markets", params={"exchange": "TOY"})
    assert '"tickSize":0.00000000000000000001,' in answer.text
    assert '"minNotional":10.5}' in answer.text
    as_text = await stage.http.get("/markets", params={"exchange": "TOY", "numbers": "string"})
    bitcoin = next(one for one in as_text.json() if one["symbol"] == "TOY-SPOT-BTC-USDT")
    assert (bitcoin["tickSize"], bitcoin["minNotional"]) == ("0.00000000000000000001", "10.5")


async def test_an_order_book_has_the_documented_shape(stage: Any) -> None:
    answer = await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith(
        '{"bids":[{"price":51485.41,"quantity":4.10646},{"price":51485.39,"quantity":0.00975},'
        '{"price":51485.38,"quantity":0.00975}],"asks":[{"price":51485.42,"quantity":2.21005},'
        '{"price":51485.59,"quantity":0.77624},{"price":51485.89,"quantity":0.38811}]'
    )
    assert list(answer.json()) == ["bids", "asks", "market", "updateId", "time"]


async def test_numbers_may_be_asked_for_as_text(stage: Any) -> None:
    stage.world.bids = [(1e-08, 12345678.9)]
    for asking in ({"params": {"numbers": "string"}}, {"headers": {"x-astra-numbers": "string"}}):
        asking["params"] = {"market": "TOY-SPOT-BTC-USDT"} | asking.get("params", {})
        answer = await stage.http.get("/orderbook", **asking)
        assert answer.json()["bids"] == [{"price": "0.00000001", "quantity": "12345678.9"}]
    wrong = await stage.http.get("/bbo", params={"market": "TOY-SPOT-BTC-USDT"}, headers={"x-astra-numbers": "decimal"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "bad-request")


async def test_depth_cuts_both_sides(stage: Any) -> None:
    answer = await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT", "depth": 2})
    assert [len(answer.json()[side]) for side in ("bids", "asks")] == [2, 2]
    assert stage.world.calls[-1] == ("get_orderbook", ("TOY-SPOT-BTC-USDT", 20))


async def test_the_best_prices_have_a_route_of_their_own(stage: Any) -> None:
    answer = await stage.http.get("/bbo", params={"market": "TOY-SPOT-BTC-USDT"})
    assert answer.text == (
        '{"market":"TOY-SPOT-BTC-USDT","bid":{"price":51485.41,"quantity":4.10646},'
        '"ask":{"price":51485.42,"quantity":2.21005},"time":1700000000000}'
    )
    stage.world.asks = []
    assert (await stage.http.get("/bbo", params={"market": "TOY-SPOT-ETH-USDT"})).json()["ask"] is None


async def test_a_hot_market_is_asked_for_once_a_second(stage: Any) -> None:
    release = anyio.Event()
    stage.world.before["get_orderbook"] = release.wait
    answers: list[Any] = []

    async def ask(path: str) -> None:
        answers.append(await stage.http.get(path, params={"market": "TOY-SPOT-BTC-USDT"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask, "/orderbook")
        await anyio.sleep(0.1)
        release.set()
    assert [answer.status_code for answer in answers] == [200] * 20
    assert stage.world.count("get_orderbook") == 1
    await ask("/orderbook")
    assert stage.world.count("get_orderbook") == 1


async def test_those_who_wait_for_a_venue_that_fails_share_its_error(stage: Any) -> None:
    release = anyio.Event()
    stage.world.before["get_orderbook"] = release.wait
    stage.world.errors["get_orderbook"] = [RateLimited("slow down", exchange="TOY", code="-1003", retry_after=1.2)]
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
        await anyio.sleep(0.1)
        release.set()
    assert [answer.status_code for answer in answers] == [429] * 5
    assert stage.world.count("get_orderbook") == 1
    await ask()
    assert answers[-1].status_code == 200


async def test_a_live_book_answers_without_asking_the_venue(stage: Any, read_message: Any, wait_until: Any) -> None:
    async with stage.ws("/ws?market=TOY-SPOT-BTC-USDT&dataType=ORDERBOOK") as socket:
        await read_message(socket)
        stage.world.delta("BTCUSDT", bids=[[51485.41, 0], [51485.40, 2.5]])
        await read_message(socket)
        best = (await stage.http.get("/bbo", params={"market": "TOY-SPOT-BTC-USDT"})).json()
        assert best["bid"] == {"price": 51485.4, "quantity": 2.5}
        book = (await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT"})).json()
        assert (len(book["bids"]), book["updateId"]) == (3, 1)
        assert stage.world.count("get_orderbook") == 0


async def test_a_book_that_cannot_be_trusted_is_not_served(stage: Any, read_message: Any) -> None:
    async with stage.ws("/ws?market=TOY-SPOT-BTC-USDT&dataType=ORDERBOOK&state=true") as socket:
        while (await read_message(socket)).get("type") != "SNAPSHOT":
            pass
        stage.world.errors["book_seed"] = [VenueUnavailable("down", exchange="TOY")] * 50
        stage.world.delta("BTCUSDT", bids=[[1.0, 1.0]], skip=3)
        assert (await read_message(socket))["state"] == "STALE"
        book = (await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT"})).json()
        assert book["updateId"] == 37828320367
        assert stage.world.count("get_orderbook") == 1


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("/orderbook?market=TOY-SPOT-BTC-USDT&depht=5", 400, "bad-request", "Did you mean 'depth'?"),
        ("/orderbook?market=TOY-SPOT-BTC-USDT&depth=0", 400, "bad-request", "'depth'"),
        ("/orderbook?market=TOY-SPOT-BTC-USDT&depth=5001", 400, "bad-request", "5000"),
        ("/orderbook?market=TOY-SPOT-BTC-USDT&depth=five", 400, "bad-request", "'depth'"),
        ("/orderbook?market=TOY-SPOT-BTC-USDT&market=TOY-SPOT-ETH-USDT", 400, "bad-request", "twice"),
        ("/orderbook", 400, "bad-request", "'market' is missing"),
        ("/orderbook?market=TOY_SPOT_BTC_USDT", 400, "malformed-symbol", "Did you mean TOY-SPOT-BTC-USDT?"),
        ("/orderbook?market=TOY-SPORT-BTC-USDT", 400, "malformed-symbol", "Did you mean SPOT?"),
        ("/orderbook?market=TOY-SPOT-BTC-USDTT", 404, "market-not-found", "TOY-SPOT-BTC-USDT"),
        ("/orderbook?market=KRAKEN-SPOT-BTC-USD", 404, "unknown-exchange", "python -m pip install astra-kraken"),
        ("/markets?exchange=TOI", 404, "unknown-exchange", "TOY"),
        ("/markets", 400, "bad-request", "'exchange' is missing"),
        ("/markets?exchange=TOY&numbers=exact", 400, "bad-request", "'number' or 'string'"),
        ("/bbo?market=TOY-SPOT-BTC-USDT&depth=1", 400, "bad-request", "unknown query parameter 'depth'"),
        ("/orderbok?market=TOY-SPOT-BTC-USDT", 404, "no-such-path", "/openapi.json"),
        ("/orderbook/", 404, "no-such-path", "/openapi.json"),
    ],
)
async def test_a_bad_request_is_told_and_never_reaches_the_venue(
    stage: Any, path: str, status: int, code: str, said: str
) -> None:
    answer = await stage.http.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert said in problem["detail"]
    assert stage.world.count("get_orderbook") == 0
    assert stage.world.transport.dials == 0


async def test_a_path_that_takes_another_method_says_which(stage: Any) -> None:
    answer = await stage.http.post("/markets")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method-not-allowed", "GET")
