"""What anybody may ask: market lists, books, trades, in the venue's shapes."""

import json
from decimal import Decimal
from typing import Any

from astra.symbols import AssetType


class TestMarketLists:
    def test_rows_are_of_the_recorded_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        assert unlike(venue.get("spot_rest", "/api/v2/symbols"), capture("spot-all-symbols")) == []
        rows = venue.get("futures_rest", "/api/v1/contracts/active")
        recorded = {row["symbol"]: row for row in capture("futures-contracts-active-live")}
        named = {row["symbol"]: row for row in rows}
        assert unlike(named["XBTUSDTM"], recorded["XBTUSDTM"]) == []
        assert unlike(named["XBTUSDM"], recorded["XBTUSDM"]) == []
        assert unlike(named["XBTMH27"], recorded["XBTMZ26"]) == []
        assert unlike(named["AAPLUSDTM"], recorded["AAOIUSDTM"]) == []

    def test_unified_rows_are_of_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        for trade_type in ("SPOT", "FUTURES"):
            ours = venue.get("spot_rest", "/api/ua/v2/market/instrument", tradeType=trade_type)
            assert unlike(ours, capture(f"uta-{trade_type.lower()}-symbols")) == []

    def test_a_renamed_asset_keeps_the_old_id(self, venue: Any) -> None:
        row = venue.get("spot_rest", "/api/v2/symbols/BCHSV-USDT")
        assert (row["name"], row["baseCurrency"]) == ("BSV-USDT", "BSV")
        assert venue.engine.markets["KUCOIN-SPOT-BSV-USDT"].native_symbol == row["symbol"]

    def test_inverse_contracts_have_a_multiplier_of_minus_one(self, venue: Any) -> None:
        rows = {row["symbol"]: row for row in venue.get("futures_rest", "/api/v1/contracts/active")}
        inverse = {symbol for symbol, row in rows.items() if row["isInverse"]}
        assert inverse == {"XBTUSDM", "XBTMH27", "ETHUSDM"}
        assert {rows[symbol]["multiplier"] for symbol in inverse} == {-1.0}
        assert (rows["XBTUSDM"]["settleCurrency"], rows["XBTUSDTM"]["multiplier"]) == ("XBT", 0.001)

    def test_the_type_tells_dated_from_perpetual_and_an_expiry_does_not(self, venue: Any) -> None:
        rows = {row["symbol"]: row for row in venue.get("futures_rest", "/api/v1/contracts/active")}
        assert {symbol for symbol, row in rows.items() if row["type"] == "FFICSX"} == {"XBTMH27"}
        assert {symbol for symbol, row in rows.items() if row["expireDate"]} == {"XBTMH27", "PROMPTUSDTM"}

    def test_small_numbers_are_spelt_as_the_back_end_spells_them(self, venue: Any) -> None:
        body = venue.ask("futures_rest", "GET", "/api/v1/contracts/XBTUSDTM").body
        assert b'"makerFeeRate":2.0E-4' in body
        assert b'"crossRiskLimit":1.5E9' in body
        assert json.loads(body)["data"]["maxPrice"] == 1_000_000

    def test_every_kind_of_market_is_there_however_many_are_asked_for(self, make_venue: Any) -> None:
        markets = make_venue(count=30).engine.markets
        assert len(markets) == 30
        assert {market.asset_type for market in markets.values()} == {AssetType.SPOT, AssetType.PERP, AssetType.FUT}

    def test_an_unknown_market_is_refused_with_http_200(self, venue: Any, capture: Any) -> None:
        answer = venue.ask("futures_rest", "GET", "/api/v1/level2/depth20?symbol=NOPEUSDTM")
        assert (answer.status, json.loads(answer.body)) == (200, capture("error-futures-invalid-symbol"))
        answer = venue.ask("futures_rest", "GET", "/api/v1/contracts/NOPEUSDTM")
        assert (answer.status, json.loads(answer.body)) == (200, capture("error-futures-contract-not-found"))


class TestBooksAndTrades:
    def fill(self, venue: Any) -> None:
        for symbol, unit in (("KUCOIN-SPOT-BTC-USDT", "0.25"), ("KUCOIN-PERP-XBT-USDT", "7")):
            venue.crowd(symbol, "BUY", unit, "49999.5")
            venue.crowd(symbol, "BUY", unit, "49990")
            venue.crowd(symbol, "SELL", unit, "50001")

    def test_a_spot_book_has_texts_and_a_futures_book_numbers(self, venue: Any, capture: Any, unlike: Any) -> None:
        self.fill(venue)
        spot = venue.get("spot_rest", "/api/v1/market/orderbook/level2_20", symbol="BTC-USDT")
        assert spot["bids"] == [["49999.5", "0.25"], ["49990", "0.25"]]
        assert unlike(spot, capture("spot-full-order-book")) == []
        futures = venue.get("futures_rest", "/api/v1/level2/depth20", symbol="XBTUSDTM")
        assert futures["bids"] == [[49999.5, 7], [49990.0, 7]]
        assert unlike(futures, capture("futures-orderbook-depth20-live")) == []

    def test_the_whole_spot_book_wants_a_key(self, venue: Any) -> None:
        self.fill(venue)
        path = "/api/v3/market/orderbook/level2"
        assert venue.ask("spot_rest", "GET", f"{path}?symbol=BTC-USDT").status == 400
        assert len(venue.call("spot_rest", "GET", path, symbol="BTC-USDT")["bids"]) == 2

    def test_the_unified_book_spells_whole_prices_with_a_decimal(self, venue: Any, capture: Any, unlike: Any) -> None:
        self.fill(venue)
        path = "/api/ua/v2/market/orderbook"
        assert json.loads(venue.ask("spot_rest", "GET", f"{path}?tradeType=SPOT&symbol=BTC-USDT").body)["code"] == (
            "400001"
        )
        book = venue.call("spot_rest", "GET", path, tradeType="FUTURES", symbol="XBTUSDTM", limit="FULL")
        assert book["bids"] == [["49999.5", "7"], ["49990.0", "7"]]
        assert unlike(book, capture("uta-orderbook-futures-XBTUSDTM")) == []

    def test_depth50_does_not_exist(self, venue: Any) -> None:
        assert venue.ask("futures_rest", "GET", "/api/v1/level2/depth50?symbol=XBTUSDTM").status == 404

    def test_trades_rise_on_spot_and_fall_on_futures(self, venue: Any) -> None:
        self.fill(venue)
        for symbol, quantity in (("KUCOIN-SPOT-BTC-USDT", "0.3"), ("KUCOIN-PERP-XBT-USDT", "9")):
            venue.crowd(symbol, "SELL", quantity)
        spot = venue.get("spot_rest", "/api/v1/market/histories", symbol="BTC-USDT")
        assert [(row["price"], row["size"], row["side"]) for row in spot] == [
            ("49999.5", "0.25", "sell"),
            ("49990", "0.05", "sell"),
        ]
        assert int(spot[0]["sequence"]) > 2**53
        futures = venue.get("futures_rest", "/api/v1/trade/history", symbol="XBTUSDTM")
        assert [(row["price"], row["size"]) for row in futures] == [("49990", 2), ("49999.5", 7)]

    def test_tickers_are_of_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        self.fill(venue)
        venue.crowd("KUCOIN-SPOT-BTC-USDT", "SELL", "0.1")
        level1 = venue.get("spot_rest", "/api/v1/market/orderbook/level1", symbol="BTC-USDT")
        assert unlike(level1, capture("spot-ticker")) == []
        assert unlike(venue.get("futures_rest", "/api/v1/ticker", symbol="XBTUSDTM"), capture("futures-ticker")) == []
        stats = venue.get("spot_rest", "/api/v1/market/stats", symbol="BTC-USDT")
        assert unlike(stats, capture("spot-24hr-stats")) == []
        tickers = venue.get("spot_rest", "/api/ua/v2/market/ticker", tradeType="SPOT", symbol="BTC-USDT")
        assert unlike(tickers, capture("uta-tickers")) == []
        mark = venue.get("futures_rest", "/api/v1/mark-price/XBTUSDTM/current")
        assert unlike(mark, capture("futures-mark-price")) == []
        funding = venue.get("futures_rest", "/api/v1/funding-rate/XBTUSDTM/current")
        assert unlike(funding, capture("futures-current-funding-rate")) == []

    def test_ids_grow_over_restarts(self, make_venue: Any) -> None:
        older, newer = make_venue(), make_venue()
        newer.clock.ms += 60_000
        newer.sandbox = type(newer.sandbox)(newer.engine, newer.clock)
        symbol = "KUCOIN-SPOT-BTC-USDT"
        assert newer.sandbox.update_id(symbol, 0) > older.sandbox.update_id(symbol, 0) + 1000

    def test_sequences_and_changes_translate(self, venue: Any) -> None:
        symbol = "KUCOIN-PERP-XBT-USDT"
        self.fill(venue)
        venue.crowd(symbol, "SELL", "9")
        change, _, _ = venue.engine.depth(symbol, 1)
        sequence = venue.get("futures_rest", "/api/v1/level2/depth20", symbol="XBTUSDTM")["sequence"]
        assert venue.sandbox.update_id(symbol, change) == sequence
        assert venue.sandbox.change_id(symbol, sequence) == change
        # The last change emptied one level and shrank another: two numbers.
        assert venue.sandbox.update_id(symbol, change - 1) == sequence - 2

    def test_time_and_status(self, venue: Any) -> None:
        answer = venue.ask("spot_rest", "GET", "/api/v1/timestamp")
        assert json.loads(answer.body) == {"code": "200000", "data": venue.clock.ms}
        assert not any(name.startswith("gw-") for name in answer.headers)
        assert venue.get("futures_rest", "/api/v1/status") == {"status": "open", "msg": ""}
        assert venue.get("spot_rest", "/api/ua/v2/server/status", tradeType="SPOT")["serverStatus"] == "open"

    def test_prices_are_worth_something(self, venue: Any) -> None:
        row = venue.get("futures_rest", "/api/v1/contracts/XBTUSDTM")
        assert Decimal(str(row["markPrice"])) == venue.engine.mark_price("KUCOIN-PERP-XBT-USDT")
