"""The private REST routes over a real socket: exact numbers, keys, errors."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import Any

import anyio
import pytest

from astra import errors
from astra.models.orders import OrderStatus
from astra_gateway.keys import Scope

pytestmark = pytest.mark.anyio

BTC = "TOY-SPOT-BTC-USDT"
STATIC_KEY = "static.a-static-key-of-the-tests"
ORDER = {"market": BTC, "side": "BUY", "type": "LIMIT", "price": 20000, "quantity": 1.5}


async def test_twenty_digits_go_through_unchanged_and_come_back(stage: Any) -> None:
    body = (
        '{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "type": "LIMIT",'
        ' "price": 12345678901.23456789, "quantity": 0.12345678901234567891}'
    )
    answer = await stage.http.post("/orders", content=body)
    assert answer.status_code == 200
    (placed,) = stage.world.placed
    assert (placed.price, placed.quantity) == (Decimal("12345678901.23456789"), Decimal("0.12345678901234567891"))
    assert '"price":12345678901.23456789,' in answer.text
    assert '"quantity":0.12345678901234567891,' in answer.text
    as_text = await stage.http.post("/orders?numbers=string", content=body.replace("0.123", "1.123"))
    assert as_text.json()["quantity"] == "1.12345678901234567891"


async def test_numbers_may_be_sent_as_text(stage: Any) -> None:
    await stage.http.post("/orders", json=ORDER | {"price": "12345678901.23456789", "quantity": "1e2"})
    assert stage.world.placed[0].price == Decimal("12345678901.23456789")
    assert stage.world.placed[0].quantity == 100


async def test_an_answer_has_every_field_in_its_place(stage: Any) -> None:
    answer = await stage.http.post("/orders", json=ORDER | {"side": "Buy", "type": "limit", "clientOrderId": "mine1"})
    assert list(answer.json()) == [
        *("id", "clientOrderId", "market", "side", "type", "timeInForce", "price", "quantity", "filledQuantity"),
        *("status", "reduceOnly", "postOnly", "createdTime", "updatedTime"),
    ]
    assert answer.json()["clientOrderId"] == "mine1"
    assert (answer.json()["side"], answer.json()["timeInForce"], answer.json()["updatedTime"]) == ("BUY", None, None)


async def test_an_order_without_a_client_order_id_gets_one_in_the_venues_format(stage: Any) -> None:
    answer = await stage.http.post("/orders", json=ORDER)
    made = answer.json()["clientOrderId"]
    assert made == stage.world.placed[0].client_order_id
    assert made.isalnum()
    assert len(made) <= 24


async def test_reading_an_account(stage: Any) -> None:
    orders = await stage.http.get("/orders", params={"market": BTC})
    assert orders.json()[0]["price"] == 20000
    one = await stage.http.get("/orders", params={"market": BTC, "clientOrderId": "c7"})
    assert [order["clientOrderId"] for order in one.json()] == ["c7"]
    fills = await stage.http.get("/fills", params={"market": BTC, "since": 1, "limit": 5})
    assert stage.world.calls[-1] == ("list_fills", (1, 5))
    assert '"price":30199.49,"quantity":0.0032,"fee":-0.00000001,' in fills.text
    assert list(fills.json()[0]) == [
        *("id", "orderId", "market", "side", "price", "quantity", "fee", "feeAsset", "liquidity", "time")
    ]
    balances = await stage.http.get("/balances", params={"exchange": "toy", "numbers": "string"})
    assert balances.json() == [
        {"asset": "BTC", "wallet": "SPOT", "total": "1.5", "available": "1", "locked": "0.5"},
    ]
    positions = await stage.http.get("/positions", params={"exchange": "TOY"})
    assert positions.json() == [
        {
            "market": "TOY-PERP-XBT-USDT",
            "side": "LONG",
            "quantity": 0.1,
            "entryPrice": 30000,
            "unrealizedPnl": None,
            "marginMode": "CROSS",
        }
    ]


async def test_cancelling_one_order_or_all_of_a_market(stage: Any) -> None:
    one = await stage.http.delete("/orders", params={"market": BTC, "id": "7"})
    assert one.json()["status"] == OrderStatus.CANCELED
    assert stage.world.calls[-1][1].id == "7"
    every = await stage.http.delete("/orders", params={"market": BTC, "all": "true"})
    assert [order["status"] for order in every.json()] == ["CANCELED"]
    for params in ({}, {"id": "7", "all": "true"}, {"id": "7", "clientOrderId": "c7"}, {"all": "false"}):
        refused = await stage.http.delete("/orders", params={"market": BTC} | params)
        assert (refused.status_code, refused.json()["code"]) == (400, "bad-request")
    assert stage.world.count("cancel_order") == 1
    assert stage.world.count("cancel_all_orders") == 1


async def test_changing_an_order(stage: Any) -> None:
    answer = await stage.http.patch("/orders", content=f'{{"market": "{BTC}", "id": "7", "price": 20000.10}}')
    assert answer.json()["price"] == 20000.1
    ref, change = stage.world.calls[-1][1]
    assert (ref.id, change.price, change.quantity) == ("7", Decimal("20000.10"), None)
    for body in ({"id": "7"}, {"price": 1}, {"id": "7", "clientOrderId": "c7", "price": 1}, {"id": 7, "price": 1}):
        refused = await stage.http.patch("/orders", json={"market": BTC} | body)
        assert (refused.status_code, refused.json()["code"]) == (400, "bad-request"), body


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"   ", 400, "empty"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": BUY}', 400, "byte 40"),
        (b'{"market": "TOY-SPOT-BTC-USDT"', 400, "ends too early (byte 30)"),
        (b'{"market": "\xff"}', 400, "UTF-8"),
        (b"[" * 50_000, 400, "too deep"),
        (b'["market"]', 400, "not an array"),
        (b"12.5", 400, "not a number"),
        (b'{"side": "BUY"}', 400, "'market' is missing"),
        (b'{"market": 5}', 400, "'market' must be a text"),
        (b'{"market": "TOY_SPOT_BTC_USDT", "side": "BUY"}', 400, "TOY-SPOT-BTC-USDT"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": 1, "prize": 1}', 400, "Did you mean 'price'?"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "LONG", "quantity": 1, "price": 1}', 400, "'side'"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": -1, "price": 1}', 400, "'quantity'"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": true, "price": 1}', 400, "'quantity'"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": "NaN", "price": 1}', 400, "'quantity'"),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": 1}', 400, "a LIMIT order has a price"),
        (
            b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": 1, "contracts": 1, "price": 1}',
            400,
            "exactly one of quantity, contracts, quoteQuantity",
        ),
        (b'{"market": "TOY-SPOT-BTC-USDT", "side": "BUY", "quantity": 1e999999999999999999999, "price": 1}', 400, ""),
        (b'{"market": "' + b"x" * 70_000 + b'"}', 413, "65536 bytes"),
    ],
)
async def test_a_body_that_is_no_order_is_refused_before_anything_is_sent(
    stage: Any, body: bytes, status: int, said: str
) -> None:
    answer = await stage.http.post("/orders", content=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == answer.json()["status"] == status
    assert said in answer.json()["detail"]
    assert stage.world.placed == []


@pytest.mark.parametrize("length", ["content-length: 9000000", "transfer-encoding: chunked"])
async def test_a_body_beyond_the_limit_is_refused_before_it_is_read_to_its_end(stage: Any, length: str) -> None:
    host, port = stage.gateway.url.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        head = f"POST /orders HTTP/1.1\r\nhost: x\r\nx-astra-api-key: Bearer {STATIC_KEY}\r\n{length}\r\n\r\n"
        await stream.send(head.encode())
        if "chunked" in length:
            await stream.send(b"12000\r\n" + b"x" * 0x12000 + b"\r\n")
        with anyio.fail_after(5):
            answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body-too-large"' in answer
    assert stage.world.placed == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.AuthenticationError("bad key", exchange="TOY", code="-2015"), 401, "authentication"),
        (errors.PermissionDenied("no", exchange="TOY"), 403, "permission-denied"),
        (errors.OrderNotFound("gone", exchange="TOY"), 404, "order-not-found"),
        (errors.DuplicateClientOrderId("twice", exchange="TOY"), 409, "duplicate-client-order-id"),
        (errors.InvalidOrder("no", exchange="TOY", rule="tick-size"), 422, "invalid-order"),
        (errors.InsufficientFunds("poor", exchange="TOY"), 422, "insufficient-funds"),
        (errors.RateLimited("slow down", exchange="TOY", retry_after=2.3), 429, "rate-limited"),
        (errors.UnsupportedOperation("never", exchange="TOY"), 501, "unsupported-operation"),
        (errors.VenueError("odd", exchange="TOY", code="-1"), 502, "venue-error"),
        (errors.VenueUnavailable("down", exchange="TOY"), 503, "venue-unavailable"),
        (
            errors.OrderOutcomeUnknown("lost", exchange="TOY", market=BTC, client_order_id="c1"),
            504,
            "order-outcome-unknown",
        ),
    ],
)
async def test_every_error_has_its_status_and_says_what_may_be_done(
    stage: Any, error: errors.VenueError, status: int, code: str
) -> None:
    stage.world.errors["place_order"] = [error]
    answer = await stage.http.post("/orders", json=ORDER)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert (problem["exchange"], problem["venueCode"], problem["retryable"]) == ("TOY", error.code, error.retryable)
    assert (problem["detail"], problem["outcome"]) == (error.message, error.outcome.value)
    if isinstance(error, errors.RateLimited):
        assert (problem["retryAfter"], answer.headers["retry-after"]) == (2.3, "3")
    if isinstance(error, errors.OrderOutcomeUnknown):
        assert (problem["clientOrderId"], problem["market"], problem["operation"]) == ("c1", BTC, "place_order")
    if isinstance(error, errors.InvalidOrder):
        assert problem["rule"] == "tick-size"
    assert stage.world.count("place_order") == 1


async def test_a_bug_in_a_plugin_is_an_unknown_outcome_not_a_refusal(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage.world.errors["place_order"] = [ZeroDivisionError("a bug")]
    answer = await stage.http.post("/orders", json=ORDER)
    assert (answer.status_code, answer.json()["outcome"]) == (504, "UNKNOWN")
    stage.world.errors["get_balances"] = [ZeroDivisionError("secret detail")]
    internal = await stage.http.get("/balances", params={"exchange": "TOY"})
    assert (internal.status_code, internal.json()["code"]) == (500, "internal")
    assert "secret detail" not in internal.text
    assert "secret detail" in caplog.text


async def test_the_callers_exchange_keys_reach_the_venue_and_nothing_else(
    stage: Any, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    secrets = {
        "x-astra-exchange-key": "EXCHANGEKEYOFTHECALLER",
        "x-astra-exchange-secret": "EXCHANGESECRETOFTHECALLER",
        "x-astra-exchange-passphrase": "EXCHANGEPASSPHRASEOFTHECALLER",
    }
    with caplog.at_level(logging.DEBUG):
        stage.world.errors["get_balances"] = [errors.AuthenticationError("bad key", exchange="TOY")]
        answers = [
            await stage.http.get("/balances", params={"exchange": "TOY"}, headers=secrets),
            await stage.http.post("/orders", json=ORDER, headers=secrets | {"idempotency-key": "k1"}),
            await stage.http.get("/fills", params={"market": BTC}, headers=secrets),
        ]
    assert [answer.status_code for answer in answers] == [401, 200, 200]
    for used in stage.world.credentials:
        key = used.key_for("default")
        assert key is not None
        assert key.key.get_secret_value() == "EXCHANGEKEYOFTHECALLER"
        assert key.secret.get_secret_value() == "EXCHANGESECRETOFTHECALLER"
        assert key.passphrase is not None
        assert key.passphrase.get_secret_value() == "EXCHANGEPASSPHRASEOFTHECALLER"
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    # httpcore's own DEBUG log is the client's: what it sends.
    logged = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    for secret in secrets.values():
        assert secret not in logged
        assert secret.encode() not in stored
        assert all(secret not in answer.text for answer in answers)


async def test_without_keys_the_servers_account_is_used(stage: Any) -> None:
    await stage.http.get("/balances", params={"exchange": "TOY"})
    assert stage.world.credentials[0].account == "default"
    named = await stage.http.get("/balances", params={"exchange": "TOY"}, headers={"x-astra-exchange-account": "hedge"})
    assert (named.status_code, named.json()["code"]) == (401, "authentication")
    assert "hedge" in named.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-astra-exchange-key": "k"},
        {"x-astra-exchange-secret": "s"},
        {"x-astra-exchange-passphrase": "p"},
        {"x-astra-exchange-key": "", "x-astra-exchange-secret": "s"},
    ],
)
async def test_half_a_key_is_refused(stage: Any, headers: dict[str, str]) -> None:
    answer = await stage.http.get("/balances", params={"exchange": "TOY"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert stage.world.count("get_balances") == 0


async def test_a_read_key_may_look_but_not_trade(stage: Any) -> None:
    reader, trader = await stage.issue(Scope.READ), await stage.issue(Scope.TRADE)
    as_reader = {"x-astra-api-key": f"Bearer {reader.key}"}
    assert (await stage.http.get("/orders", params={"market": BTC}, headers=as_reader)).status_code == 200
    for answer in (
        await stage.http.post("/orders", json=ORDER, headers=as_reader),
        await stage.http.patch("/orders", json={"market": BTC, "id": "7", "price": 1}, headers=as_reader),
        await stage.http.delete("/orders", params={"market": BTC, "all": "true"}, headers=as_reader),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "scope")
        assert "trade" in answer.json()["detail"]
    assert stage.world.placed == []
    as_trader = {"x-astra-api-key": f"Bearer {trader.key}"}
    assert (await stage.http.post("/orders", json=ORDER, headers=as_trader)).status_code == 200


async def test_orders_that_break_a_rule_of_the_market_are_not_sent(stage: Any) -> None:
    answer = await stage.http.post("/orders", json=ORDER | {"price": "0.000000000000000000005"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-order")
    assert answer.json()["outcome"] == "NOT_EXECUTED"
    assert stage.world.placed == []


async def test_every_answer_is_json(stage: Any) -> None:
    for path in ("/markets?exchange=TOY", f"/orders?market={BTC}", "/livez", "/readyz", "/openapi.json"):
        answer = await stage.http.get(path)
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.text)
