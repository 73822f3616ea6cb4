"""The sandbox's public REST answers: in the venue's shape, from the engine's books."""

import json
from decimal import Decimal
from typing import Any

import pytest

from astra_binance.sandbox.markets import default_markets

BTC_SPOT, BTC_PERP = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT"
BTC_COIN, BTC_CALL = "BINANCE-PERP-BTC-USD-COINM", "BINANCE-OPT-BTC-USDT-270326-90000-C"
EACH = [
    ("spot_rest", BTC_SPOT, "89000", "90000", "0.5"),
    ("usdm_rest", BTC_PERP, "89000", "90000", "0.5"),
    ("coinm_rest", BTC_COIN, "89000", "90000", "7"),
    ("options_rest", BTC_CALL, "4000", "4100", "0.25"),
]


def filters_of(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["filterType"]: entry for entry in row["filters"]}


class TestMarkets:
    @pytest.mark.parametrize(
        ("host", "captured"),
        [("spot_rest", "spot-exchangeInfo-2024"), ("coinm_rest", "coinm-exchangeInfo")],
    )
    def test_exchange_info_has_the_recorded_shape(
        self, venue: Any, capture: Any, unlike: Any, host: str, captured: str
    ) -> None:
        ours, theirs = venue.get(host, "exchangeInfo"), capture(captured)
        # Newer than the recordings, named by the sheet: permission sets, amendment; GTD in COIN-M.
        newer = {"permissionSets", "amendAllowed", "otoAllowed"}
        for row in ours["symbols"]:
            shape = unlike({k: v for k, v in row.items() if k not in newer and k != "filters"}, theirs["symbols"][0])
            assert not shape
            known = filters_of(theirs["symbols"][0])
            for kind, entry in filters_of(row).items():
                if kind in known:  # MIN_NOTIONAL of Spot is the older form
                    assert not unlike(entry, known[kind])

    def test_usdm_exchange_info_has_the_recorded_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        ours, theirs = venue.get("usdm_rest", "exchangeInfo"), capture("usdm-exchangeInfo-2024")
        for row in ours["symbols"]:
            assert not unlike({k: v for k, v in row.items() if k != "filters"}, theirs["symbols"][0])
            for kind, entry in filters_of(row).items():
                assert not unlike(entry, filters_of(theirs["symbols"][0])[kind])

    def test_options_exchange_info_has_the_documented_shape(self, venue: Any, capture: Any, unlike: Any) -> None:
        ours, theirs = venue.get("options_rest", "exchangeInfo"), capture("options-exchangeInfo")
        assert not unlike({k: v for k, v in ours.items() if k != "optionSymbols"}, theirs)
        documented = theirs["optionSymbols"][0]
        for row in ours["optionSymbols"]:
            assert not unlike({k: v for k, v in row.items() if k != "filters"}, documented)
            for kind, entry in filters_of(row).items():
                assert not unlike(entry, filters_of(documented)[kind])

    def test_the_default_listing_holds_the_awkward_ones(self, venue: Any) -> None:
        spot = {row["symbol"]: row for row in venue.get("spot_rest", "exchangeInfo")["symbols"]}
        assert "币安人生USDT" in spot
        assert spot["BCCBTC"]["status"] == "BREAK"
        assert "MIN_NOTIONAL" in filters_of(spot["BNBBTC"])
        assert "NOTIONAL" in filters_of(spot["BTCUSDT"])
        usdm = {row["symbol"]: row for row in venue.get("usdm_rest", "exchangeInfo")["symbols"]}
        assert usdm["1000SHIBUSDT"]["baseAsset"] == "1000SHIB"
        assert (usdm["BTCUSDT"]["pricePrecision"], filters_of(usdm["BTCUSDT"])["PRICE_FILTER"]["tickSize"]) == (
            2,
            "0.10",
        )
        assert usdm["BTCUSDT_270326"]["deliveryDate"] == 1_806_048_000_000
        assert usdm["BTCUSDT"]["deliveryDate"] == 4_133_404_800_000
        coinm = {row["symbol"]: row for row in venue.get("coinm_rest", "exchangeInfo")["symbols"]}
        assert (coinm["BTCUSD_PERP"]["contractSize"], coinm["ETHUSD_PERP"]["contractSize"]) == (100, 10)
        assert "status" not in coinm["BTCUSD_PERP"]
        options = {row["symbol"]: row for row in venue.get("options_rest", "exchangeInfo")["optionSymbols"]}
        assert options["XRP-270326-2.5-C"]["strikePrice"] == "2.50000000"

    def test_spot_answers_for_the_symbols_asked_for(self, venue: Any) -> None:
        one = venue.get("spot_rest", "exchangeInfo", symbol="ETHUSDT")
        assert [row["symbol"] for row in one["symbols"]] == ["ETHUSDT"]
        two = venue.get("spot_rest", "exchangeInfo", symbols='["SOLUSDT","BNBBTC"]')
        assert [row["symbol"] for row in two["symbols"]] == ["SOLUSDT", "BNBBTC"]
        broken = venue.get("spot_rest", "exchangeInfo", symbolStatus="BREAK")
        assert [row["symbol"] for row in broken["symbols"]] == ["BCCBTC"]

    def test_any_number_of_markets_spreads_over_the_products(self) -> None:
        markets = default_markets(500)
        assert len({market.symbol for market in markets}) == 500
        assert len({market.key for market in markets}) == 500
        counts = {
            product: sum(m.product == product for m in markets) for product in ("spot", "usdm", "coinm", "options")
        }
        assert set(counts.values()) == {125}
        assert all(str(market.parsed_symbol) == market.symbol for market in markets)
        assert default_markets(3) == [default_markets(None)[index] for index in (0, 7, 13)]


class TestDepth:
    @pytest.mark.parametrize(("host", "symbol", "bid", "ask", "quantity"), EACH)
    def test_a_snapshot_shows_the_engines_book(
        self, venue: Any, host: str, symbol: str, bid: str, ask: str, quantity: str
    ) -> None:
        venue.crowd(symbol, "BUY", quantity, bid)
        venue.crowd(symbol, "SELL", quantity, ask)
        book = venue.get(host, "depth", symbol=venue.native(symbol), limit=10)
        assert [[Decimal(text) for text in level] for level in book["bids"]] == [[Decimal(bid), Decimal(quantity)]]
        assert [[Decimal(text) for text in level] for level in book["asks"]] == [[Decimal(ask), Decimal(quantity)]]
        change_id, _, _ = venue.engine.depth(symbol, 1)
        assert book["lastUpdateId"] == venue.sandbox.update_id(symbol, change_id)
        assert venue.sandbox.change_id(symbol, book["lastUpdateId"]) == change_id

    @pytest.mark.parametrize(
        ("host", "captured"),
        [
            ("spot_rest", "spot-depth-NKNUSDT"),
            ("usdm_rest", "usdm-depth-doc"),
            ("coinm_rest", "coinm-depth-TRXUSD_PERP"),
            ("options_rest", "options-depth"),
        ],
    )
    def test_snapshots_have_the_recorded_keys(self, venue: Any, capture: Any, host: str, captured: str) -> None:
        symbol = next(row[1] for row in EACH if row[0] == host)
        assert venue.get(host, "depth", symbol=venue.native(symbol)).keys() == capture(captured).keys()

    def test_best_prices_come_first_and_the_limit_holds(self, venue: Any) -> None:
        for offset in range(8):
            venue.crowd(BTC_SPOT, "BUY", "0.1", str(80_000 - offset))
            venue.crowd(BTC_SPOT, "SELL", "0.1", str(81_000 + offset))
        book = venue.get("spot_rest", "depth", symbol="BTCUSDT", limit=3)
        assert [level[0] for level in book["bids"]] == ["80000.00000000", "79999.00000000", "79998.00000000"]
        assert [level[0] for level in book["asks"]] == ["81000.00000000", "81001.00000000", "81002.00000000"]

    def test_futures_take_only_certain_limits(self, venue: Any) -> None:
        answer = venue.ask("usdm_rest", "GET", "depth", "symbol=BTCUSDT&limit=7")
        assert (answer.status, json.loads(answer.body)["code"]) == (400, -4021)

    def test_an_unknown_symbol_is_refused_in_the_venues_words(self, venue: Any, capture: Any) -> None:
        answer = venue.ask("spot_rest", "GET", "depth", "symbol=NOPE")
        assert answer.status == 400
        assert json.loads(answer.body) == capture("error-invalid-symbol")

    def test_a_lowercase_symbol_and_one_of_another_family_are_unknown(self, venue: Any) -> None:
        for host, name in (("spot_rest", "btcusdt"), ("spot_rest", "BTCUSD_PERP"), ("coinm_rest", "BTCUSDT")):
            assert json.loads(venue.ask(host, "GET", "depth", f"symbol={name}").body)["code"] == -1121

    def test_a_symbol_outside_ascii_is_percent_encoded(self, venue: Any) -> None:
        venue.crowd("BINANCE-SPOT-币安人生-USDT", "BUY", "10", "0.5")
        answer = venue.get("spot_rest", "depth", symbol="币安人生USDT")
        assert answer["bids"] == [["0.50000000", "10.00000000"]]


class TestTrades:
    @pytest.mark.parametrize(("host", "symbol", "bid", "ask", "quantity"), EACH)
    def test_trades_say_who_took(self, venue: Any, host: str, symbol: str, bid: str, ask: str, quantity: str) -> None:
        venue.crowd(symbol, "BUY", quantity, bid)
        venue.crowd(symbol, "SELL", quantity, bid)
        venue.crowd(symbol, "SELL", quantity, ask)
        venue.crowd(symbol, "BUY", quantity, ask)
        sold, bought = venue.get(host, "trades", symbol=venue.native(symbol))
        assert (Decimal(sold["price"]), Decimal(bought["price"])) == (Decimal(bid), Decimal(ask))
        if host == "options_rest":
            assert (sold["side"], bought["side"]) == (-1, 1)
            assert bought["tradeId"] == sold["tradeId"] + 1
        else:
            assert (sold["isBuyerMaker"], bought["isBuyerMaker"]) == (True, False)
            assert bought["id"] == sold["id"] + 1

    @pytest.mark.parametrize(
        ("host", "captured"),
        [("usdm_rest", "usdm-trades"), ("coinm_rest", "coinm-trades"), ("options_rest", "options-trades")],
    )
    def test_trades_have_the_documented_keys(
        self, venue: Any, capture: Any, unlike: Any, host: str, captured: str
    ) -> None:
        symbol, bid, quantity = next((row[1], row[2], row[4]) for row in EACH if row[0] == host)
        venue.crowd(symbol, "BUY", quantity, bid)
        venue.crowd(symbol, "SELL", quantity, bid)
        rows = venue.get(host, "trades", symbol=venue.native(symbol))
        assert rows[0].keys() == capture(captured)[0].keys()
        assert not unlike(rows, capture(captured))

    def test_historical_trades_go_on_from_an_id(self, venue: Any) -> None:
        venue.crowd(BTC_SPOT, "SELL", "1", "90000")
        for _ in range(5):
            venue.crowd(BTC_SPOT, "BUY", "0.1")
        every = venue.get("spot_rest", "trades", symbol="BTCUSDT")
        again = venue.get("spot_rest", "historicalTrades", symbol="BTCUSDT", fromId=every[2]["id"], limit=2)
        assert again == every[2:4]

    def test_historical_trades_of_futures_need_a_key(self, venue: Any) -> None:
        assert venue.ask("usdm_rest", "GET", "historicalTrades", "symbol=BTCUSDT").status == 401
        answer = venue.ask("usdm_rest", "GET", "historicalTrades", "symbol=BTCUSDT", key=venue.account.key)
        assert answer.status == 200

    def test_one_taker_order_at_one_price_is_one_aggregate(self, venue: Any, capture: Any, unlike: Any) -> None:
        for _ in range(3):
            venue.crowd(BTC_SPOT, "SELL", "0.1", "90000")
        venue.crowd(BTC_SPOT, "SELL", "0.1", "90001")
        venue.crowd(BTC_SPOT, "BUY", "0.35")
        venue.crowd(BTC_SPOT, "BUY", "0.05")
        singles = venue.get("spot_rest", "trades", symbol="BTCUSDT")
        rows = venue.get("spot_rest", "aggTrades", symbol="BTCUSDT")
        assert [(row["p"], row["q"]) for row in rows] == [
            ("90000.00000000", "0.30000000"),
            ("90001.00000000", "0.05000000"),
            ("90001.00000000", "0.05000000"),
        ]
        assert [(row["f"], row["l"]) for row in rows] == [
            (singles[0]["id"], singles[2]["id"]),
            (singles[3]["id"], singles[3]["id"]),
            (singles[4]["id"], singles[4]["id"]),
        ]
        assert rows[0].keys() == capture("spot-aggTrades")[0].keys()
        assert not unlike(rows, capture("spot-aggTrades"))
        assert venue.get("spot_rest", "aggTrades", symbol="BTCUSDT", fromId=rows[1]["a"]) == rows[1:]

    def test_futures_aggregate_over_a_tenth_of_a_second(self, venue: Any) -> None:
        venue.crowd(BTC_PERP, "SELL", "1", "90000")
        venue.crowd(BTC_PERP, "BUY", "0.1")
        venue.clock.ms += 99
        venue.crowd(BTC_PERP, "BUY", "0.1")
        venue.clock.ms += 1
        venue.crowd(BTC_PERP, "BUY", "0.1")
        venue.clock.ms += 100
        rows = venue.get("usdm_rest", "aggTrades", symbol="BTCUSDT")
        assert [(row["q"], row["m"]) for row in rows] == [("0.200", False), ("0.100", False)]

    def test_id_and_times_exclude_each_other_in_futures(self, venue: Any) -> None:
        answer = venue.ask("usdm_rest", "GET", "aggTrades", "symbol=BTCUSDT&fromId=1&startTime=1")
        assert json.loads(answer.body)["code"] == -1128


class TestTickers:
    def test_the_book_ticker_is_the_top_of_the_book(self, venue: Any) -> None:
        venue.crowd(BTC_PERP, "BUY", "0.5", "89000")
        venue.crowd(BTC_PERP, "SELL", "0.25", "90000")
        row = venue.get("usdm_rest", "ticker/bookTicker", symbol="BTCUSDT")
        assert (row["bidPrice"], row["bidQty"], row["askPrice"], row["askQty"]) == (
            "89000.00",
            "0.500",
            "90000.00",
            "0.250",
        )

    def test_all_tickers_leave_out_what_does_not_trade(self, venue: Any) -> None:
        symbols = {row["symbol"] for row in venue.get("spot_rest", "ticker/price")}
        assert "BTCUSDT" in symbols
        assert "BCCBTC" not in symbols


class TestParameters:
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("", -1102),
            ("symbol=", -1102),
            ("symbol=BTCUSDT&limit=ten", -1100),
            ("symbol=BTCUSDT&limit=0", -1130),
            ("symbol=BTCUSDT&depth=5", -1104),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, venue: Any, query: str, code: int) -> None:
        answer = venue.ask("spot_rest", "GET", "depth", query)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, code)

    def test_a_path_that_is_not_there(self, venue: Any) -> None:
        assert venue.ask("spot_rest", "GET", "/api/v3/nothing").status == 404
        assert venue.ask("usdm_rest", "GET", "/api/v3/depth", "symbol=BTCUSDT").status == 404
        assert venue.ask("options_rest", "GET", "/eapi/v1/account").status == 404
