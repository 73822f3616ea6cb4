"""What `astra demo` concludes from the messages of the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from astra_cli.live import Rate, age_text, price_text
from astra_cli.tally import Tally

SPOT = "BINANCE-SPOT-BTC-USDT"
PERP = "BINANCE-PERP-BTC-USDT"


def book(market: str, bids: dict[float, float], asks: dict[float, float], kind: str = "UPDATE") -> dict[str, Any]:
    sides = {
        name: [{"price": price, "quantity": quantity} for price, quantity in levels.items()]
        for name, levels in (("bids", bids), ("asks", asks))
    }
    return {"market": market, "updateId": 1, "type": kind, **sides}


def trades(market: str, count: int) -> dict[str, Any]:
    one = {"price": 100.0, "quantity": 1.0, "side": "BUY", "time": 1, "id": "7"}
    return {"market": market, "trades": [one] * count}


def test_the_best_prices_follow_snapshots_updates_and_deletions() -> None:
    tally = Tally({SPOT: "spot"}, started=0.0)
    market = tally.markets[SPOT]
    tally.received(book(SPOT, {99.0: 1.0, 98.0: 1.0}, {101.0: 1.0, 102.0: 1.0}, "SNAPSHOT"), 1.0)
    assert (market.best_bid, market.best_ask, market.spread) == (99.0, 101.0, 2.0)
    tally.received(book(SPOT, {99.0: 0.0, 98.5: 3.0}, {100.5: 2.0}), 2.0)
    assert (market.best_bid, market.best_ask) == (98.5, 100.5)
    tally.received(book(SPOT, {90.0: 1.0}, {91.0: 1.0}, "SNAPSHOT"), 3.0)
    assert (market.best_bid, market.best_ask) == (90.0, 91.0)
    assert market.age_s(3.5) == 0.5


def test_a_book_is_syncing_until_its_snapshot_and_follows_the_state_told() -> None:
    tally = Tally({SPOT: "spot"}, started=0.0)
    assert tally.report()["BINANCE"]["state"] == "SYNCING"
    tally.received(book(SPOT, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
    assert tally.report()["BINANCE"]["state"] == "LIVE"
    tally.received({"type": "STATE", "market": SPOT, "state": "STALE"}, 2.0)
    assert tally.report()["BINANCE"]["state"] == "STALE"


def test_a_venue_is_as_good_as_the_worst_of_its_products() -> None:
    tally = Tally({SPOT: "spot", PERP: "usdm"}, started=0.0)
    tally.received(book(SPOT, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
    tally.received(trades(SPOT, 3), 1.0)
    venue = tally.report()["BINANCE"]
    assert venue["state"] == "SYNCING"
    assert venue["products"]["spot"] == {
        "markets": 1, "orderbookUpdates": 1, "trades": 3, "state": "LIVE", "liveAfterS": 1.0
    }  # fmt: skip
    assert venue["products"]["usdm"] == {
        "markets": 1, "orderbookUpdates": 0, "trades": 0, "state": "SYNCING", "liveAfterS": None
    }  # fmt: skip
    assert (venue["markets"], venue["orderbookUpdates"], venue["trades"]) == (2, 1, 3)
    assert venue["liveAfterS"] is None
    assert tally.summary() == "1 of 2 products of 1 venue live, not BINANCE usdm SYNCING"


def test_a_product_without_markets_is_missing() -> None:
    tally = Tally({SPOT: "spot"}, 0.0, {"BINANCE": ["spot", "usdm"], "OKX": ["swap"]})
    tally.received(book(SPOT, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
    tally.received(trades(SPOT, 1), 1.0)
    report = tally.report()
    assert (report["BINANCE"]["state"], report["OKX"]["state"]) == ("ABSENT", "ABSENT")
    assert report["BINANCE"]["products"]["usdm"]["markets"] == 0
    assert report["OKX"]["products"]["swap"]["state"] == "ABSENT"
    assert tally.missing(1.0) == [
        "BINANCE usdm: no active market is listed",
        "OKX swap: no active market is listed",
    ]


def test_a_book_that_is_not_live_at_the_end_is_named() -> None:
    tally = Tally({SPOT: "spot", "BINANCE-SPOT-ETH-USDT": "spot"}, started=0.0)
    for market in tally.markets:
        tally.received(book(market, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
        tally.received(trades(market, 1), 1.0)
    assert tally.missing(1.0) == []
    tally.received({"type": "STATE", "market": SPOT, "state": "STALE"}, 2.0)
    assert tally.missing(2.0) == [f"BINANCE spot: not live: {SPOT} STALE"]


def test_what_did_not_come_lately_is_named_product_by_product() -> None:
    tally = Tally({SPOT: "spot", PERP: "usdm"}, started=0.0)
    for market in (SPOT, PERP):
        tally.received(book(market, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
    tally.received(trades(SPOT, 1), 1.0)
    assert tally.missing(2.0) == ["BINANCE usdm: no trades came"]
    tally.received(trades(PERP, 1), 10.0)
    tally.received(book(PERP, {1.0: 2.0}, {}), 10.0)
    assert tally.missing(10.0) == [
        "BINANCE spot: no order book updates came for 9 s",
        "BINANCE spot: no trades came for 9 s",
    ]


def test_one_lively_market_is_enough_for_its_product() -> None:
    tally = Tally({SPOT: "spot", "BINANCE-SPOT-ETH-USDT": "spot"}, started=0.0)
    for market in tally.markets:
        tally.received(book(market, {1.0: 1.0}, {2.0: 1.0}, "SNAPSHOT"), 1.0)
    tally.received(book(SPOT, {1.0: 2.0}, {}), 9.0)
    tally.received(trades(SPOT, 1), 9.0)
    assert tally.missing(9.0) == []


def test_what_the_gateway_refuses_is_kept_in_its_words() -> None:
    tally = Tally({SPOT: "spot"}, started=0.0)
    tally.received({"type": "ERROR", "code": "market-not-found", "detail": "BINANCE: no market X"}, 1.0)
    tally.received({"type": "ERROR", "code": "internal", "title": "Internal error", "market": SPOT}, 1.0)
    assert tally.problems == ["BINANCE: no market X", f"{SPOT}: Internal error"]


def test_a_rate_counts_the_last_seconds_only() -> None:
    rate = Rate(started=0.0, window_s=5.0)
    for tick in range(100):
        rate.count(tick / 10)
    assert rate.total == 100
    assert rate.per_second(10.0) == pytest.approx(10.0, abs=0.5)
    assert rate.per_second(100.0) == 0.0


def test_prices_and_ages_are_written_as_people_read_them() -> None:
    assert price_text(64001.0) == "64001"
    assert price_text(0.1) == "0.1"
    assert price_text(1e-08) == "0.00000001"
    assert price_text(None) == ""
    assert age_text(0.02) == "20 ms"
    assert age_text(2.34) == "2.3 s"
    assert age_text(600) == "10 min"
