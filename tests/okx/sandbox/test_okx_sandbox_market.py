"""Public REST of the sandbox: every product in the shapes of the recordings, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import ContractType, MarketStatus
from astra.symbols import Symbol

Shape = Callable[[Any], Any]


class TestInstruments:
    @pytest.mark.parametrize(
        ("kind", "recording"),
        [
            ("SPOT", "instruments-spot"),
            ("SWAP", "instruments-swap"),
            ("FUTURES", "instruments-futures"),
            ("OPTION", "instruments-option-btc-usd"),
        ],
    )
    def test_rows_have_the_fields_and_types_of_the_recordings(
        self, venue: Any, captures: Any, shape_of: Shape, kind: str, recording: str
    ) -> None:
        asked = {"instType": kind} | ({"instFamily": "BTC-USD"} if kind == "OPTION" else {})
        rows = venue.get("/public/instruments", **asked)
        recorded = captures.body(recording)["data"]
        fixed = {**shape_of(recorded[0]), "tradeQuoteCcyList": 0}
        assert rows
        for row in rows:
            assert {**shape_of(row), "tradeQuoteCcyList": 0} == fixed
        # What is empty in all recorded rows of the product is empty here, and the other way round.
        empty = {name for name in recorded[0] if all(row[name] == "" for row in recorded)}
        filled = {name for name in recorded[0] if all(row[name] != "" for row in recorded)}
        for row in rows:
            assert not [name for name in empty if row[name] != ""]
            assert not [name for name in filled if row[name] == ""]

    def test_contract_sizes_and_settlement(self, venue: Any) -> None:
        rows = {row["instId"]: row for row in venue.get("/public/instruments", instType="SWAP")}
        shown = {
            native: tuple(rows[native][name] for name in ("ctVal", "ctMult", "ctValCcy", "ctType", "settleCcy"))
            for native in ("BTC-USDT-SWAP", "BTC-USD-SWAP", "BTC-USD_UM-SWAP", "PEPE-USDT-SWAP")
        }
        assert shown == {
            "BTC-USDT-SWAP": ("0.01", "1", "BTC", "linear", "USDT"),
            "BTC-USD-SWAP": ("100", "1", "USD", "inverse", "BTC"),
            "BTC-USD_UM-SWAP": ("0.0001", "1", "BTC", "linear", "USD"),
            "PEPE-USDT-SWAP": ("10000000", "1", "PEPE", "linear", "USDT"),
        }
        options = venue.get("/public/instruments", instType="OPTION", instFamily="BTC-USD")
        # The family's name brings the dollar-settled ones, too.
        assert {row["instFamily"] for row in options} == {"BTC-USD", "BTC-USD_UM"}
        assert {(row["ctVal"], row["ctMult"], row["ctValCcy"]) for row in options} == {("1", "0.01", "BTC")}
        futures = {row["instId"]: row for row in venue.get("/public/instruments", instType="FUTURES")}
        assert futures["BTC-USD_UM_XPERP-310404"]["ruleType"] == "xperp"
        assert futures["BTC-USD_UM_XPERP-310404"]["instFamily"] == "BTC-USD_UM_XPERP"
        assert futures["BTC-USD_UM_XPERP-310404"]["uly"] == "BTC-USD"

    def test_symbols_are_unique_and_say_what_they_should(self, make_venue: Any) -> None:
        markets = make_venue(count=200).engine.markets
        assert len(markets) == 200
        for symbol, market in markets.items():
            assert str(Symbol.parse(symbol)) == symbol
            assert symbol.endswith("-COINM") is (market.contract_type is ContractType.INVERSE)
        assert len({market.key for market in markets.values()}) == 200

    def test_codes_are_unique_integers(self, venue: Any) -> None:
        kinds = ({"instType": kind} for kind in ("SPOT", "SWAP", "FUTURES"))
        rows = [row for kind in kinds for row in venue.get("/public/instruments", **kind)]
        rows += venue.get("/public/instruments", instType="OPTION", uly="BTC-USD")
        codes = [row["instIdCode"] for row in rows]
        assert all(type(code) is int for code in codes)
        assert len(set(codes)) == len(codes)

    def test_options_are_asked_for_by_family(self, venue: Any) -> None:
        answer = venue.ask("GET", "/public/instruments?instType=OPTION")
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "50014")

    def test_a_change_at_the_engine_shows(self, venue: Any) -> None:
        market = venue.engine.markets["OKX-PERP-BTC-USDT"]
        venue.engine.list_market(market.model_copy(update={"status": MarketStatus.HALTED}))
        client = venue.connect()
        (ack,) = client.subscribe({"channel": "instruments", "instType": "SWAP"})
        assert ack["event"] == "subscribe"
        client.after(500)
        venue.engine.list_market(market.model_copy(update={"tick_size": Decimal(1)}))
        (frame,) = client.after(500)
        assert frame["arg"] == {"channel": "instruments", "instType": "SWAP"}
        assert [(row["instId"], row["tickSz"], row["state"]) for row in frame["data"]] == [
            ("BTC-USDT-SWAP", "1", "live")
        ]

    def test_an_announced_instrument_is_all_but_empty(self, venue: Any, shape_of: Shape) -> None:
        market = venue.engine.markets["OKX-PERP-BTC-USDT"]
        full = venue.get("/public/instruments", instType="SWAP", instId="BTC-USDT-SWAP")[0]
        venue.engine.list_market(market.model_copy(update={"status": MarketStatus.PENDING}))
        venue.clock.ms += 1000
        row = venue.get("/public/instruments", instType="SWAP", instId="BTC-USDT-SWAP")[0]
        assert row.keys() == full.keys()
        assert {name for name, value in row.items() if value not in ("", None, [], False)} == {
            "instId",
            "instType",
            "listTime",
            "state",
            "category",
        }
        assert (row["state"], row["instIdCode"]) == ("preopen", None)


class TestMarketData:
    def test_answers_have_the_fields_of_the_recordings(self, venue: Any, captures: Any, shape_of: Shape) -> None:
        symbol = "OKX-PERP-BTC-USDT"
        venue.crowd(symbol, "SELL", "3", "50001")
        venue.crowd(symbol, "BUY", "2", "50000")
        venue.crowd(symbol, "BUY", "1", "50001")
        asked = {
            "server-time": ("/public/time", {}),
            "order-book-seqid": ("/market/books", {"instId": "BTC-USDT-SWAP"}),
            "tickers": ("/market/tickers", {"instType": "SWAP"}),
            "mark-price": ("/public/mark-price", {"instType": "SWAP"}),
            "price-limit": ("/public/price-limit", {"instId": "BTC-USDT-SWAP"}),
            "funding-rate-any": ("/public/funding-rate", {"instId": "ANY"}),
            "open-interest-btc-usdt-swap": ("/public/open-interest", {"instType": "SWAP"}),
            "option-tick-bands": ("/public/instrument-tick-bands", {"instType": "OPTION"}),
            "underlying-futures": ("/public/underlying", {"instType": "FUTURES"}),
        }
        for recording, (path, params) in asked.items():
            assert shape_of(venue.get(path, **params)) == shape_of(captures.body(recording)["data"]), recording
        (trade,) = venue.get("/market/trades", instId="BTC-USDT-SWAP")
        documented = captures.body("trades")["data"][0]
        assert {**shape_of(trade), "source": "str"} == {**shape_of(documented), "source": "str"}

    def test_the_book_is_one_level_unless_more_are_asked_for(self, venue: Any) -> None:
        symbol = "OKX-SPOT-BTC-USDT"
        for n in range(3):
            venue.crowd(symbol, "BUY", f"0.{n + 1}", f"{50_000 - n}")
        (one,) = venue.get("/market/books", instId="BTC-USDT")
        assert one["bids"] == [["50000", "0.1", "0", "1"]]
        (all_of_it,) = venue.get("/market/books", instId="BTC-USDT", sz="400")
        assert [level[:2] for level in all_of_it["bids"]] == [["50000", "0.1"], ["49999", "0.2"], ["49998", "0.3"]]
        change_id, _, _ = venue.engine.depth(symbol, 1)
        assert all_of_it["seqId"] == venue.sandbox.update_id(symbol, change_id)
        assert venue.sandbox.change_id(symbol, all_of_it["seqId"]) == change_id

    def test_trades_are_listed_newest_first_with_the_takers_side(self, venue: Any) -> None:
        symbol = "OKX-SPOT-BTC-USDT"
        venue.crowd(symbol, "BUY", "1", "50000")
        venue.crowd(symbol, "SELL", "0.4", "50000")
        venue.crowd(symbol, "SELL", "0.6", "50000")
        rows = venue.get("/market/trades", instId="BTC-USDT")
        assert [(row["side"], row["sz"]) for row in rows] == [("sell", "0.6"), ("sell", "0.4")]
        older = venue.get("/market/history-trades", instId="BTC-USDT", after=rows[0]["tradeId"])
        assert older == rows[1:]
        assert venue.get("/market/history-trades", instId="BTC-USDT", before=rows[1]["tradeId"]) == rows[:1]

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("/market/books?instId=BTC-EUR", 200, "51001"),
            ("/market/books", 400, "50014"),
            ("/market/books?instId=BTC-USDT&sz=401", 400, "51000"),
            ("/market/books?instId=BTC-USDT&size=5", 400, "51000"),
            ("/public/instruments?instType=SPOTS", 400, "51000"),
            ("/public/funding-rate?instId=BTC-USDT", 200, "51001"),
            ("/market/nothing", 404, "404"),
        ],
    )
    def test_what_is_wrong_is_refused(self, venue: Any, path: str, status: int, code: str) -> None:
        answer = venue.ask("GET", path)
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code)

    def test_limits_are_fixed_windows_by_address_without_headers(self, venue: Any) -> None:
        venue.clock.ms += 2000 - venue.clock.ms % 2000
        answers = [venue.ask("GET", "/public/time") for _ in range(11)]
        assert [answer.status for answer in answers] == [200] * 10 + [429]
        assert json.loads(answers[-1].body)["code"] == "50011"
        assert not answers[-1].headers
        venue.clock.ms += 1999
        assert venue.ask("GET", "/public/time").status == 429
        venue.clock.ms += 1
        assert venue.ask("GET", "/public/time").status == 200

    def test_instruments_are_counted_by_product(self, venue: Any) -> None:
        venue.clock.ms += 2000 - venue.clock.ms % 2000
        spot = [venue.ask("GET", "/public/instruments?instType=SPOT").status for _ in range(21)]
        assert spot == [200] * 20 + [429]
        assert venue.ask("GET", "/public/instruments?instType=SWAP").status == 200
