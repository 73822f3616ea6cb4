"""Whatever a client sends, the venue answers in its own words and does not fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
WORDS = st.sampled_from(
    [
        "BTC-USDT",
        "BTC-USDT-SWAP",
        "SWAP",
        "SPOT",
        "ANY",
        "buy",
        "limit",
        "market",
        "cross",
        "cash",
        "1",
        "50000",
        "-1",
        "",
    ]
)
VALUES = st.recursive(SCALARS | WORDS, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
ORDER_FIELDS = st.sampled_from(
    [
        *("instId", "instIdCode", "tdMode", "side", "ordType", "sz", "px", "clOrdId", "ordId", "newSz", "newPx"),
        *("reduceOnly", "posSide", "tgtCcy", "algoId", "slTriggerPx", "slOrdPx", "tag", "stpMode", "algoClOrdId"),
        *("triggerPx", "reqId"),
    ]
)
ORDERS = st.dictionaries(ORDER_FIELDS, VALUES, max_size=8)
CHANNELS = st.sampled_from(
    ["books", "orders", "account", "positions", "instruments", "trades", "orders-algo", "status"]
)
ARGS = st.fixed_dictionaries(
    {}, optional={"channel": CHANNELS | VALUES, "instId": VALUES, "instType": VALUES, "extraParams": VALUES}
)
OPS = st.sampled_from(
    ["subscribe", "unsubscribe", "login", "order", "batch-orders", "cancel-order", "amend-order", "mass-cancel"]
)
FRAMES = st.fixed_dictionaries(
    {}, optional={"id": VALUES | st.just("7"), "op": OPS | VALUES, "args": st.lists(ARGS | ORDERS, max_size=3) | VALUES}
)
POSTS = ["/trade/order", "/trade/amend-order", "/trade/cancel-order", "/trade/order-algo", "/account/set-leverage"]
LISTS = ["/trade/batch-orders", "/trade/cancel-batch-orders", "/trade/amend-batch-orders", "/trade/cancel-algos"]
GETS = ["/trade/order", "/trade/orders-pending", "/trade/fills", "/account/positions", "/account/trade-fee"]
QUIET = settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def unlimited(make_venue: Any) -> Any:
    venue = make_venue()
    venue.sandbox.limits.scale = 1e9
    venue.sandbox.limits.operations_per_hour = 10**6
    venue.crowd("OKX-SPOT-BTC-USDT", "SELL", "1", "50000")
    return venue


@pytest.mark.parametrize("plane", ["public", "private", "business"])
def test_frames(unlimited: Any, plane: str) -> None:
    clients = [unlimited.connect(plane), unlimited.logged_in(plane=plane)]

    @QUIET
    @given(FRAMES | VALUES)
    def sent(frame: Any) -> None:
        for client in clients:
            for answer in client.send(json.dumps(frame)):
                assert answer == "pong" or answer.keys() & {"event", "op", "arg"}
            assert client.line.closed is None

    sent()


def test_bodies(unlimited: Any) -> None:
    @QUIET
    @given(st.sampled_from(POSTS), ORDERS | VALUES)
    def posted(path: str, body: Any) -> None:
        check(*unlimited.signed("POST", path, body))

    @QUIET
    @given(st.sampled_from(LISTS), st.lists(ORDERS | VALUES, max_size=3))
    def listed(path: str, body: Any) -> None:
        check(*unlimited.signed("POST", path, body))

    def check(status: int, body: Any) -> None:
        assert status in (200, 400)
        assert isinstance(body["code"], str)
        assert all("sCode" in row for row in body["data"] if body["code"] in ("1", "2"))

    posted()
    listed()


def test_queries(unlimited: Any) -> None:
    names = st.sampled_from(
        ["instId", "instType", "ordId", "clOrdId", "after", "before", "limit", "begin", "posId", "state"]
    )

    @QUIET
    @given(st.sampled_from(GETS), st.dictionaries(names, WORDS | st.text(max_size=6), max_size=4))
    def asked(path: str, query: dict[str, str]) -> None:
        status, body = unlimited.signed("GET", path, query)
        assert status in (200, 400)
        assert isinstance(body["code"], str)

    asked()
