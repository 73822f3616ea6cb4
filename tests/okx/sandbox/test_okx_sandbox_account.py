"""The account over REST: balances, positions, fees, leverage and modes, with figures worked by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

SWAP, INVERSE = "OKX-PERP-BTC-USDT", "OKX-PERP-BTC-USD-COINM"


def detail(venue: Any, asset: str) -> Any:
    (row,) = venue.call("GET", "/account/balance", {"ccy": asset})[0]["details"]
    return row


def position(venue: Any, native: str) -> Any:
    (row,) = venue.call("GET", "/account/positions", {"instId": native})
    return row


def mark_at(venue: Any, symbol: str, below: str, above: str) -> None:
    venue.crowd(symbol, "BUY", str(venue.engine.markets[symbol].min_quantity), below)
    venue.crowd(symbol, "SELL", str(venue.engine.markets[symbol].min_quantity), above)


class TestBalances:
    def test_rows_have_the_fields_of_the_recordings(self, venue: Any, captures: Any) -> None:
        (row,) = venue.call("GET", "/account/balance")
        for documented in (
            captures.body("account-balance")["data"][0],
            captures.frames("private-account-2025")[0]["data"][0],
        ):
            assert documented.keys() - row.keys() == set()
            assert documented["details"][0].keys() - row["details"][0].keys() == set()
            for name, value in documented["details"][0].items():
                assert type(row["details"][0][name]) is type(value), name

    def test_orders_freeze_funds(self, venue: Any) -> None:
        before = Decimal(detail(venue, "USDT")["eq"])
        venue.place("BTC-USDT", "buy", "0.5", "50000")
        row = detail(venue, "USDT")
        assert (row["frozenBal"], row["ordFrozen"], row["imr"]) == ("25000", "25000", "0")
        assert Decimal(row["eq"]) == before == Decimal(row["cashBal"])
        assert Decimal(row["availEq"]) == Decimal(row["availBal"]) == before - 25000

    def test_equity_holds_the_profit_of_open_positions(self, venue: Any) -> None:
        """2 contracts of 0.01 BTC, bought at 50,000, marked at 51,000: 20 USDT, less a fee of 0.5; margin 1000 / 20."""
        before = Decimal(detail(venue, "USDT")["eq"])
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "2")
        mark_at(venue, SWAP, "50999.9", "51000.1")
        row = detail(venue, "USDT")
        assert Decimal(row["cashBal"]) == before - Decimal("0.5")
        assert (row["upl"], row["frozenBal"], row["imr"], row["ordFrozen"]) == ("20", "50", "50", "0")
        assert Decimal(row["eq"]) == Decimal(row["cashBal"]) + 20 == Decimal(row["availEq"]) + 50

    def test_assets_that_are_not_there_are_left_out(self, venue: Any) -> None:
        poor = venue.open_account("poor", {"trading": {"BTC": Decimal(1), "USDT": Decimal(0)}})
        (row,) = venue.call("GET", "/account/balance", None, poor)
        assert [one["ccy"] for one in row["details"]] == ["BTC"]
        assert venue.call("GET", "/asset/balances", None, poor) == []

    def test_in_spot_mode_there_is_no_available_equity(self, venue: Any) -> None:
        venue.account.settings["acctLv"] = "1"
        assert detail(venue, "BTC")["availEq"] == ""


class TestPositions:
    def test_rows_have_the_fields_of_the_documents(self, venue: Any, captures: Any) -> None:
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "2")
        (documented,) = captures.body("account-positions")["data"]
        row = position(venue, "BTC-USDT-SWAP")
        assert documented.keys() - row.keys() == set()
        assert all(type(row[name]) is type(documented[name]) for name in documented)

    def test_shorts_are_negative_in_net_mode(self, venue: Any) -> None:
        """7 contracts of 100 USD, sold at 50,000, marked at 40,000: 700 x (1/40,000 - 1/50,000) BTC = 0.0035 BTC."""
        venue.crowd(INVERSE, "BUY", "7", "50000")
        venue.place("BTC-USD-SWAP", "sell", "7")
        mark_at(venue, INVERSE, "39999.9", "40000.1")
        row = position(venue, "BTC-USD-SWAP")
        names = ("pos", "posSide", "availPos", "ccy", "avgPx", "upl", "notionalUsd", "fee", "mgnMode", "lever")
        expected = ["-7", "net", "", "BTC", "50000", "0.0035", "700", "-0.000007", "cross", "20"]
        assert [row[name] for name in names] == expected

    def test_a_closed_position(self, venue: Any) -> None:
        """Bought at 50,000 and sold at 50,500: 2 contracts of 0.01 BTC earn 10 USDT, less fees."""
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "2")
        venue.crowd(SWAP, "BUY", "2", "50500")
        (closed,) = venue.call("POST", "/trade/close-position", {"instId": "BTC-USDT-SWAP", "mgnMode": "cross"})
        assert closed == {"instId": "BTC-USDT-SWAP", "posSide": "net", "clOrdId": "", "tag": ""}
        (row,) = venue.call("GET", "/account/positions")  # it stays listed, with nothing
        names = ("pos", "avgPx", "upl", "markPx", "lever", "pnl", "realizedPnl", "fee")
        assert [row[name] for name in names] == ["0", "", "", "", "", "10", "8.995", "-1.005"]
        (last, _) = venue.call("GET", "/trade/fills")
        assert (last["side"], last["fillPnl"]) == ("sell", "10")
        _, body = venue.signed("POST", "/trade/close-position", {"instId": "BTC-USDT-SWAP", "mgnMode": "cross"})
        assert body["code"] == "51023"

    def test_a_reduce_only_order_only_reduces(self, venue: Any) -> None:
        venue.crowd(SWAP, "SELL", "2", "50000")
        venue.place("BTC-USDT-SWAP", "buy", "2")
        row = venue.place("BTC-USDT-SWAP", "sell", "5", "60000", reduceOnly=True)
        (shown,) = venue.call("GET", "/trade/orders-pending")
        assert (shown["ordId"], shown["sz"], shown["reduceOnly"]) == (row["ordId"], "2", "true")


class TestSettings:
    def test_the_configuration(self, venue: Any, captures: Any) -> None:
        (row,) = venue.call("GET", "/account/config")
        assert captures.body("account-config")["data"][0].keys() - row.keys() == set()
        assert (row["acctLv"], row["posMode"]) == ("2", "net_mode")

    @pytest.mark.parametrize(
        ("sent", "maker", "taker"),
        [
            ({"instType": "SPOT", "instId": "BTC-USDT"}, "-0.0008", "-0.001"),
            ({"instType": "SWAP", "instFamily": "BTC-USD"}, "-0.0002", "-0.0005"),
            ({"instType": "OPTION", "instFamily": "BTC-USD"}, "-0.0002", "-0.0003"),
        ],
    )
    def test_fees_are_negative_where_they_are_charged(
        self, venue: Any, captures: Any, sent: dict[str, str], maker: str, taker: str
    ) -> None:
        (row,) = venue.call("GET", "/account/trade-fee", sent)
        assert row.keys() == captures.body("trade-fee-2026")["data"][0].keys()
        (group,) = row["feeGroup"]
        assert (group["maker"], group["taker"], row["maker"], row["taker"]) == (maker, taker, maker, taker)
        kind = {"instType": sent["instType"]} | ({"instFamily": "BTC-USD"} if sent["instType"] == "OPTION" else {})
        assert group["groupId"] in {one["groupId"] for one in venue.get("/public/instruments", **kind)}

    def test_leverage_is_set_and_shown(self, venue: Any, captures: Any) -> None:
        sent = {"instId": "BTC-USDT-SWAP", "lever": "5", "mgnMode": "cross"}
        (answer,) = venue.call("POST", "/account/set-leverage", sent)
        assert (answer["lever"], answer["instId"]) == ("5", "BTC-USDT-SWAP")
        asked = {"instId": "BTC-USDT-SWAP", "mgnMode": "cross"}
        (row,) = venue.call("GET", "/account/leverage-info", asked)
        assert captures.body("leverage-info")["data"][0].keys() - row.keys() == set()
        assert (row["lever"], row["posSide"]) == ("5", "net")
        venue.place("BTC-USDT-SWAP", "buy", "1", "50000")
        assert detail(venue, "USDT")["frozenBal"] == "100"
        for lever, code in (("101", "59102"), ("0", "59102"), ("x", "51000")):
            assert venue.signed("POST", "/account/set-leverage", {**sent, "lever": lever})[1]["code"] == code
        assert venue.signed("POST", "/account/set-leverage", {**sent, "instId": "BTC-USDT"})[1]["code"] == "51000"

    def test_the_position_mode_changes_only_while_nothing_is_open(self, venue: Any) -> None:
        row = venue.place("BTC-USDT-SWAP", "buy", "1", "50000")
        _, body = venue.signed("POST", "/account/set-position-mode", {"posMode": "long_short_mode"})
        assert body["code"] == "59000"
        venue.call("POST", "/trade/cancel-order", {"instId": "BTC-USDT-SWAP", "ordId": row["ordId"]})
        venue.place("BTC-USDT", "buy", "1", "50000")
        venue.call("POST", "/account/set-position-mode", {"posMode": "long_short_mode"})
        assert venue.call("GET", "/account/config")[0]["posMode"] == "long_short_mode"
        asked = {"instId": "BTC-USDT-SWAP", "mgnMode": "isolated"}
        rows = venue.call("GET", "/account/leverage-info", asked)
        assert [row["posSide"] for row in rows] == ["long", "short"]

    def test_an_instrument_has_one_margin_mode_at_a_time(self, venue: Any) -> None:
        venue.place("BTC-USDT-SWAP", "buy", "1", "50000", tdMode="isolated")
        assert venue.place("BTC-USDT-SWAP", "buy", "1", "50000")["sCode"] == "51000"
        venue.crowd(SWAP, "SELL", "1", "50000")
        row = position(venue, "BTC-USDT-SWAP")
        assert (row["mgnMode"], row["margin"], row["imr"]) == ("isolated", "25", "")
