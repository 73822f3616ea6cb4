"""Advanced Trade by REST: products, books, money, fees, and what is refused."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from astra.models.markets import MarketStatus

BTC, CELO = "COINBASE-SPOT-BTC-USD", "COINBASE-SPOT-CGLD-USD"
BIP, BIT = "COINBASE-PERP-BTC-USD-BIP", "COINBASE-FUT-BTC-USD-270625-BIT"


class TestProducts:
    def test_rows_have_every_field_of_the_recordings(
        self, venue: Any, capture: Callable[[str], Any], unlike: Any
    ) -> None:
        for recorded in (capture("advanced-product-btc-usd"), *capture("advanced-products-spot")["products"]):
            ours = venue.get(f"/market/products/{recorded['product_id']}")
            assert recorded.keys() <= ours.keys()
            newest = capture("advanced-product-btc-usd")
            assert not unlike(ours, newest)
            assert [ours[name] for name in ("alias", "alias_to", "price_increment", "status")] == [
                recorded[name] for name in ("alias", "alias_to", "price_increment", "status")
            ]

    def test_futures_too(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        perpetual, dated = capture("advanced-products-future")["products"]
        for theirs, name in ((perpetual, "BIP-20DEC30-CDE"), (dated, "BIT-25JUN27-CDE")):
            ours = venue.get(f"/market/products/{name}")
            assert ours.keys() == theirs.keys()
            assert ours["future_product_details"].keys() == theirs["future_product_details"].keys()
            assert not unlike(ours, theirs)
            for member in ("base_currency_id", "status", "quote_increment", "product_venue", "base_increment"):
                assert ours[member] == theirs[member]
            for member in ("funding_interval", "contract_size", "contract_expiry_type", "contract_root_unit"):
                assert ours["future_product_details"][member] == theirs["future_product_details"][member]

    def test_the_list_filters(self, venue: Any) -> None:
        def listed(**params: Any) -> list[str]:
            return [row["product_id"] for row in venue.get("/market/products", **params)["products"]]

        assert "BTC-USDC" in listed(product_type="SPOT")
        assert listed(product_type="FUTURE") == [
            "BIP-20DEC30-CDE",
            "BIT-25JUN27-CDE",
            "BTI-25JUN27-CDE",
            "ETP-20DEC30-CDE",
        ]
        assert listed(product_ids=["ETH-USD", "BTC-USDC"]) == ["BTC-USDC", "ETH-USD"]
        assert listed(limit=1, offset=1) == ["BTC-USDC"]
        assert listed(product_type="FUTURE", contract_expiry_type="PERPETUAL") == []

    def test_a_halted_product_says_so(self, venue: Any) -> None:
        assert venue.get("/market/products/BSV-USD")["trading_disabled"] is True
        market = venue.engine.markets[BTC].model_copy(update={"status": MarketStatus.HALTED})
        venue.engine.list_market(market)
        assert venue.call("GET", "/products/BTC-USD")["trading_disabled"] is True

    def test_an_unknown_product_is_not_found(self, venue: Any, capture: Callable[[str], Any]) -> None:
        answer = venue.ask("GET", "/api/v3/brokerage/market/products/XYZ-XYZ")
        assert (answer.status, json.loads(answer.body)) == (404, capture("error-advanced-product-not-found"))

    def test_a_misspelt_parameter_is_refused_by_name(self, venue: Any) -> None:
        answer = venue.ask("GET", "/api/v3/brokerage/market/products", "product_tpye=SPOT")
        assert answer.status == 400
        assert "product_type" in json.loads(answer.body)["message"]

    def test_time(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        ours = venue.get("/time")
        assert not unlike(ours, capture("advanced-time"))
        assert int(ours["epochMillis"]) == venue.clock.ms


class TestBooksAndTrades:
    def test_the_book(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        for price in ("89999.5", "89999.25"):
            venue.crowd(BTC, "BUY", "0.5", price)
        venue.crowd(BTC, "SELL", "0.25", "90000")
        ours = venue.get("/market/product_book", product_id="BTC-USDC", limit=1)
        assert not unlike(ours, capture("advanced-product-book"))
        assert ours["pricebook"]["product_id"] == "BTC-USDC"
        assert ours["pricebook"]["bids"] == [{"price": "89999.5", "size": "0.5"}]
        assert (ours["spread_absolute"], ours["mid_market"]) == ("0.5", "89999.75")
        (best,) = venue.call("GET", "/best_bid_ask", product_ids="BTC-USD")["pricebooks"]
        assert not unlike({"pricebooks": [best]}, capture("advanced-best-bid-ask"))
        assert best["asks"] == [{"price": "90000", "size": "0.25"}]

    def test_trades_are_the_makers_and_newest_first(
        self, venue: Any, capture: Callable[[str], Any], unlike: Any
    ) -> None:
        venue.crowd(BTC, "SELL", "1", "90000")
        venue.crowd(BTC, "BUY", "0.25", "90000")
        venue.clock.ms += 5000
        venue.crowd(BTC, "BUY", "0.5", "90000")
        ours = venue.get("/market/products/BTC-USD/ticker", limit=10)
        assert not unlike(ours, capture("advanced-market-trades"))
        assert [(row["size"], row["side"]) for row in ours["trades"]] == [("0.5", "SELL"), ("0.25", "SELL")]
        assert ours["best_ask"] == "90000"
        later = venue.get("/market/products/BTC-USD/ticker", limit=10, start=venue.clock.ms // 1000 - 1)
        assert [row["size"] for row in later["trades"]] == ["0.5"]


class TestMoney:
    def test_wallets_have_the_venues_names(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        ours = venue.call("GET", "/accounts", limit=250)
        assert not unlike(ours, capture("advanced-accounts"))
        currencies = [row["currency"] for row in ours["accounts"]]
        assert "CGLD" in currencies
        assert "CELO" not in currencies
        (one,) = [row for row in ours["accounts"] if row["currency"] == "BTC"]
        assert venue.call("GET", f"/accounts/{one['uuid']}")["account"] == one

    def test_open_orders_hold(self, venue: Any) -> None:
        def dollars() -> Any:
            rows = venue.call("GET", "/accounts", limit=250)["accounts"]
            return next(row for row in rows if row["currency"] == "USD")

        before = Decimal(dollars()["available_balance"]["value"])
        venue.own(BTC, "BUY", "2", "50000")
        after = dollars()
        # With the taker's fee of 1.2 %.
        assert after["hold"] == {"value": "101200", "currency": "USD"}
        assert before - Decimal(after["available_balance"]["value"]) == 101_200

    def test_pages_have_padded_cursors(self, venue: Any) -> None:
        found, cursor = [], ""
        while True:
            answer = venue.call("GET", "/accounts", limit=3, **({"cursor": cursor} if cursor else {}))
            found += [row["currency"] for row in answer["accounts"]]
            cursor = answer["cursor"]
            assert answer["has_next"] is bool(cursor)
            if not cursor:
                break
            assert cursor.endswith("=")
        assert found == [row["currency"] for row in venue.call("GET", "/accounts", limit=250)["accounts"]]
        assert len(found) > 6

    def test_futures_positions_are_in_contracts(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        venue.crowd(BIP, "BUY", "50", "90000")
        venue.place("BIP-20DEC30-CDE", "SELL", "market_market_ioc", base_size="20")
        ours = venue.call("GET", "/cfm/positions")
        assert not unlike(ours, capture("cfm-positions"))
        (row,) = ours["positions"]
        assert (row["product_id"], row["side"], row["number_of_contracts"]) == ("BIP-20DEC30-CDE", "SHORT", "20")
        assert row["avg_entry_price"] == {"value": "90000", "currency": "USD"}
        assert venue.call("GET", "/cfm/positions/BIP-20DEC30-CDE")["position"] == row
        assert venue.signed("GET", "/cfm/positions/BIT-25JUN27-CDE").status == 404
        summary = venue.call("GET", "/cfm/balance_summary")
        assert not unlike(summary, capture("cfm-balance-summary"))
        # 20 contracts of 0.01 BTC at 90,000, 20 times leverage; 0.05 % fee.
        assert summary["balance_summary"]["initial_margin"]["value"] == "900.00"

    def test_closing_a_position_takes_no_more_than_there_is(self, venue: Any) -> None:
        nothing = {"client_order_id": "close", "product_id": "BIP-20DEC30-CDE"}
        assert venue.call("POST", "/orders/close_position", nothing)["success"] is False
        venue.crowd(BIP, "SELL", "5", "90000")
        venue.place("BIP-20DEC30-CDE", "BUY", "market_market_ioc", base_size="5")
        venue.crowd(BIP, "BUY", "50", "89000")
        assert venue.call("POST", "/orders/close_position", nothing)["success"] is True
        assert venue.call("GET", "/cfm/positions")["positions"] == []

    def test_fees_and_permissions(self, venue: Any, capture: Callable[[str], Any], unlike: Any) -> None:
        fees = venue.call("GET", "/transaction_summary", product_type="SPOT")
        assert not unlike(fees, capture("advanced-transaction-summary"))
        assert (fees["fee_tier"]["maker_fee_rate"], fees["fee_tier"]["taker_fee_rate"]) == ("0.006", "0.012")
        futures = venue.call("GET", "/transaction_summary", product_type="FUTURE")
        assert futures["fee_tier"]["taker_fee_rate"] == "0.0005"
        assert not unlike(venue.call("GET", "/portfolios"), capture("advanced-portfolios"))
        assert not unlike(venue.call("GET", "/key_permissions"), capture("advanced-key-permissions"))


@pytest.mark.parametrize("count", [1, 3, 40])
def test_as_many_markets_as_are_asked_for_are_listed(make_venue: Any, count: int) -> None:
    venue = make_venue(count=count)
    assert len(venue.engine.markets) == count
    assert len({market.key for market in venue.engine.markets.values()}) == count
    assert venue.get("/market/products")["num_products"] >= 1
