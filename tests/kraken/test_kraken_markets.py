"""Market lists: every recorded row is a market, with the symbol and steps that the venue's documents say."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from astra.models.markets import ContractType, MarketStatus
from astra.symbols import AssetType, Symbol
from astra_kraken.markets import (
    SPELLINGS,
    DerivativesRow,
    SpotPairs,
    asset_name,
    derivatives_market,
    derivatives_markets,
    spot_markets,
)

pytestmark = pytest.mark.anyio


def test_every_recorded_pair_is_a_market_with_a_symbol_of_its_own(
    recordings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = recordings.spot()
    rows = recordings.rest("spot-assetpairs-2021")["body"]["result"]
    assert len(found) == sum("wsname" in row for row in rows.values()) == 280
    assert max(Counter(market.symbol for _, market in found).values()) == 1
    assert max(Counter(market.key for _, market in found).values()) == 1
    for _, market in found:
        assert str(Symbol.parse(market.symbol)) == market.symbol
    assert not caplog.records


@pytest.mark.parametrize(
    ("native", "symbol", "base", "quote"),
    [
        ("BTC/USD", "KRAKEN-SPOT-BTC-USD", "BTC", "USD"),
        ("ETH/BTC", "KRAKEN-SPOT-ETH-BTC", "ETH", "BTC"),
        ("DOGE/USD", "KRAKEN-SPOT-DOGE-USD", "DOGE", "USD"),
        ("BTC/USDT", "KRAKEN-SPOT-BTC-USDT", "BTC", "USDT"),
        ("EUR/USD", "KRAKEN-SPOT-EUR-USD", "EUR", "USD"),
        ("TBTC/USD", "KRAKEN-SPOT-TBTC-USD", "TBTC", "USD"),
        ("XLM/BTC", "KRAKEN-SPOT-XLM-BTC", "XLM", "BTC"),
        ("XTZ/EUR", "KRAKEN-SPOT-XTZ-EUR", "XTZ", "EUR"),
        ("ZEC/USD", "KRAKEN-SPOT-ZEC-USD", "ZEC", "USD"),
    ],
)
async def test_pairs_are_named_as_the_streams_name_them(
    played: Any, native: str, symbol: str, base: str, quote: str
) -> None:
    market = await played.venue.markets.native("spot", native)
    assert (market.symbol, market.base_asset, market.quote_asset) == (symbol, base, quote)


def test_a_pair_has_its_steps_and_limits(recordings: Any) -> None:
    ((pair, market),) = recordings.spot("spot-assetpairs")
    assert market.symbol == "KRAKEN-SPOT-BTC-USDT"
    assert (market.tick_size, market.lot_size) == (Decimal("0.1"), Decimal("0.00000001"))
    assert (market.min_quantity, market.min_notional) == (Decimal("0.00005"), Decimal("0.5"))
    assert market.status is MarketStatus.ACTIVE
    assert (pair.altname, pair.price_precision, pair.quantity_precision) == ("XBTUSDT", 1, 8)


def test_lists_without_tick_sizes_say_their_decimals(recordings: Any) -> None:
    market = next(market for _, market in recordings.spot() if market.native_symbol == "BTC/USD")
    assert market.tick_size == Decimal("0.1")
    assert market.min_notional is None


def test_tokenised_stocks_keep_their_small_letter(recordings: Any) -> None:
    ((pair, market),) = recordings.spot("spot-assetpairs-tokenized")
    assert (market.symbol, market.native_symbol) == ("KRAKEN-SPOT-AAPLx-USD", "AAPLx/USD")
    assert pair.tokenized


def test_rows_of_other_venues_and_dark_pools_are_left_out(recordings: Any) -> None:
    row = recordings.rest("spot-assetpairs")["body"]["result"]["XBTUSDT"]
    rows = {
        "XBTUSD.d": {name: value for name, value in row.items() if name != "wsname"},
        "XBTUSDTB": {**row, "execution_venue": "bitnomial_exchange"},
        "XBTUSDT": {**row, "execution_venue": "international"},
    }
    raw = {key: msgspec.Raw(msgspec.json.encode(one)) for key, one in rows.items()}
    assert [pair.key for pair, _ in spot_markets(raw, "KRAKEN")] == ["XBTUSDT"]


def test_a_row_that_is_not_understood_is_reported_and_the_others_stand(
    recordings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row = recordings.rest("spot-assetpairs")["body"]["result"]["XBTUSDT"]
    rows = {"ODD": {**row, "wsname": "XBT-USDT"}, "ODDER": {"altname": 1}, "XBTUSDT": row}
    raw = {key: msgspec.Raw(msgspec.json.encode(one)) for key, one in rows.items()}
    with caplog.at_level(logging.WARNING):
        assert [pair.key for pair, _ in spot_markets(raw, "KRAKEN")] == ["XBTUSDT"]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("online", MarketStatus.ACTIVE),
        ("cancel_only", MarketStatus.CANCEL_ONLY),
        ("post_only", MarketStatus.ACTIVE),
        ("maintenance", MarketStatus.HALTED),
        ("delisted", MarketStatus.EXPIRED),
        ("what may come", MarketStatus.HALTED),
    ],
)
def test_a_pair_s_status_is_understood(recordings: Any, word: str, status: MarketStatus) -> None:
    row = recordings.rest("spot-assetpairs")["body"]["result"]["XBTUSDT"]
    raw = {"X": msgspec.Raw(msgspec.json.encode({**row, "status": word}))}
    ((_, market),) = spot_markets(raw, "KRAKEN")
    assert market.status is status


@pytest.mark.parametrize("name", ["spot-assets", "spot-assets-documented"])
def test_every_recorded_asset_has_its_modern_name(recordings: Any, name: str) -> None:
    modern = {"XBT": "BTC", "XDG": "DOGE"}
    for code, row in recordings.rest(name)["body"]["result"].items():
        assert asset_name(code) == modern.get(row["altname"], row["altname"])


def test_names_that_only_look_old_are_left_alone() -> None:
    for name in ("XRP", "XLM", "XMR", "XTZ", "ZEC", "ZRX", "TBTC", "CHF"):
        assert asset_name(name) == name
    assert asset_name("XXBT.F") == "BTC.F"
    assert asset_name("ETH2.S") == "ETH2.S"


def test_spellings_name_each_asset_once() -> None:
    names = [name for group in SPELLINGS for name in group]
    assert len(names) == len(set(names))
    assert {"BTC", "XBT", "XXBT"} in [set(group) for group in SPELLINGS]


def test_a_pair_is_known_by_all_its_names(recordings: Any) -> None:
    pairs = SpotPairs()
    pairs.read(pair for pair, _ in recordings.spot())
    for name in ("BTC/USD", "XBTUSD", "XXBTZUSD"):
        assert pairs.symbol_of(name) == "BTC/USD"
    assert pairs["BTC/USD"].altname == "XBTUSD"
    assert pairs.symbol_of("NOSUCH") == "NOSUCH"
    assert pairs["NEW/BTC"].altname == "NEWXBT"


# -- derivatives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["futures-instruments", "futures-instruments-2021", "futures-instruments-documented"])
def test_every_recorded_contract_is_a_market(recordings: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    markets = recordings.derivatives(name)
    rows = recordings.rest(name)["body"]["instruments"]
    assert len(markets) == sum("index" not in row["type"] for row in rows)
    assert len({market.symbol for market in markets}) == len(markets)
    assert all(market.native_symbol == market.native_symbol.upper() for market in markets)
    assert not caplog.records


def test_an_inverse_perpetual_has_contracts_of_a_dollar(recordings: Any, named: Any) -> None:
    market = named(recordings.derivatives(), "PI_XBTUSD")
    assert market.symbol == "KRAKEN-PERP-XBT-USD-COINM"
    assert (market.base_asset, market.quote_asset, market.margin_asset) == ("BTC", "USD", "BTC")
    assert (market.contract_type, market.contract_size) == (ContractType.INVERSE, 1)
    assert (market.tick_size, market.lot_size, market.expiry) == (Decimal("0.5"), 1, None)


def test_a_linear_perpetual_has_contracts_of_one_unit(recordings: Any, named: Any) -> None:
    market = named(recordings.derivatives(), "PF_ETHUSD")
    assert market.symbol == "KRAKEN-PERP-ETH-USD"
    assert (market.base_asset, market.margin_asset) == ("ETH", "USD")
    assert (market.contract_type, market.contract_size) == (ContractType.LINEAR, 1)
    assert (market.tick_size, market.lot_size, market.min_quantity) == (
        Decimal("0.1"),
        Decimal("0.001"),
        Decimal("0.001"),
    )


async def test_all_products_have_the_symbols_that_were_agreed_on(played: Any) -> None:
    symbols = {market.native_symbol: market for market in await played.venue.markets.all()}
    assert symbols["FF_XBTUSD_261225"].symbol == "KRAKEN-FUT-XBT-USD-261225"
    assert symbols["FI_XBTUSD_261225"].symbol == "KRAKEN-FUT-XBT-USD-261225-COINM"
    option = symbols["OF_XBTUSD_261225_100000_C"]
    assert option.symbol == "KRAKEN-OPT-XBT-USD-261225-100000-C"
    assert (option.strike, option.option_type, option.asset_type) == (100000, "C", AssetType.OPT)
    expected = datetime.datetime(2026, 12, 25, 8, tzinfo=datetime.UTC).timestamp() * 1000
    assert option.expiry == expected
    assert symbols["FI_XBTUSD_261225"].expiry == expected + 8 * 3_600_000
    pepe = symbols["PF_PEPEUSD"]
    assert (pepe.lot_size, pepe.tick_size) == (1000, Decimal("0.0000000001"))
    assert symbols["AAPLx/USD"].symbol == "KRAKEN-SPOT-AAPLx-USD"


async def test_other_spellings_of_an_asset_find_the_market(played: Any) -> None:
    for spelling in ("KRAKEN-SPOT-XBT-USD", "KRAKEN-SPOT-XXBT-ZUSD", "KRAKEN-SPOT-BTC-USD"):
        assert (await played.market(spelling)).symbol == "KRAKEN-SPOT-BTC-USD"
    assert (await played.market("KRAKEN-PERP-BTC-USD-COINM")).symbol == "KRAKEN-PERP-XBT-USD-COINM"
    assert (await played.market("KRAKEN-SPOT-XDG-USD")).symbol == "KRAKEN-SPOT-DOGE-USD"


async def test_tokenised_stocks_need_a_second_request_and_can_be_left_out(played: Any) -> None:
    await played.venue.markets.all()
    assert [asked.get("aclass_base") for asked in played.http.asked("GET", "/0/public/AssetPairs")] == [
        None,
        "tokenized_asset",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"symbol": "PV_XBTUSD"}, "no contract symbol"),
        ({"symbol": "PI_XBTUSD"}, "has the type"),
        ({"contract_size": None}, "without a size"),
        ({"contract_value_trade_precision": None}, "contractValueTradePrecision"),
    ],
)
def test_a_contract_that_is_not_understood_is_not_guessed(change: dict[str, Any], reason: str) -> None:
    row = DerivativesRow(
        symbol="PF_XBTUSD",
        type="flexible_futures",
        tradeable=True,
        contract_size=Decimal(1),
        contract_value_trade_precision=4,
    )
    assert derivatives_market(row, "KRAKEN").lot_size == Decimal("0.0001")
    with pytest.raises(ValueError, match=reason):
        derivatives_market(msgspec.structs.replace(row, **change), "KRAKEN")


def test_contracts_that_are_not_understood_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    rows = [msgspec.Raw(b'{"symbol": "PV_XRPXBT", "type": "futures_vanilla", "contractSize": 1, "tradeable": true}')]
    with caplog.at_level(logging.WARNING):
        assert list(derivatives_markets(rows, "KRAKEN")) == []
    assert "PV_XRPXBT" in caplog.text
