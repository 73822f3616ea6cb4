"""`exchangeInfo` of all families as markets, with the traps that it has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from astra.errors import MarketNotFound, VenueError, VenueUnavailable
from astra.models.markets import ContractType, Market, MarketStatus
from astra.symbols import AssetType, OptionType, Symbol
from astra_binance.markets import decode_info, markets_of

Named = Callable[[Any, str], Market]


def made(product: str, **listed: Any) -> list[Market]:
    return list(markets_of(product, decode_info(msgspec.json.encode(listed)), "BINANCE"))


def futures_row(**more: Any) -> dict[str, Any]:
    row = {
        "symbol": "BTCUSDT",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "filters": [],
    }
    return {**row, **more}


def option_row(**more: Any) -> dict[str, Any]:
    row = {
        "symbol": "ETH-230224-800-C",
        "expiryDate": 1677225600000,
        "side": "CALL",
        "strikePrice": "800.00000000",
        "underlying": "ETHUSDT",
        "unit": 1,
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "724.6", "maxPrice": "919.2", "tickSize": "0.1"},
            {"filterType": "LOT_SIZE", "minQty": "0.01", "maxQty": "1001", "stepSize": "0.01"},
        ],
    }
    return {**row, **more}


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("spot", "spot-exchangeInfo"),
        ("spot", "spot-exchangeInfo-2024"),
        ("usdm", "usdm-exchangeInfo"),
        ("usdm", "usdm-exchangeInfo-2024"),
        ("coinm", "coinm-exchangeInfo"),
        ("options", "options-exchangeInfo"),
    ],
)
def test_every_recorded_row_becomes_a_market_of_its_own(
    recordings: Any, product: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    listed = recordings.rest(name)["body"]
    rows = listed["optionSymbols"] if product == "options" else listed["symbols"]
    markets = recordings.markets(product, name)
    assert [market.native_symbol for market in markets] == [row["symbol"] for row in rows]
    assert len({market.symbol for market in markets}) == len(markets)
    assert not caplog.records
    for market in markets:
        assert Symbol.parse(market.symbol).exchange == "BINANCE"
        assert market.product == product
        assert market.tick_size is None or market.tick_size > 0
        assert market.lot_size is not None


def test_spot_steps_come_from_the_filters_and_zero_switches_off(recordings: Any, named: Named) -> None:
    market = named(recordings.markets("spot", "spot-exchangeInfo-2024"), "BTCUSDT")
    assert market.symbol == "BINANCE-SPOT-BTC-USDT"
    assert market.asset_type is AssetType.SPOT
    assert (market.tick_size, market.lot_size) == (Decimal("0.01"), Decimal("0.00001"))
    assert (market.min_quantity, market.max_quantity) == (Decimal("0.00001"), Decimal(9000))
    assert (market.market_lot_size, market.market_min_quantity) == (None, None)
    assert market.market_max_quantity == Decimal("128.52621715")
    assert (market.min_notional, market.max_notional) == (Decimal(5), Decimal(9000000))
    assert (market.contract_size, market.contract_type) == (None, None)


def test_the_older_minimum_notional_filter_is_understood(recordings: Any, named: Named) -> None:
    assert named(recordings.markets("spot"), "ETHBTC").min_notional == Decimal("0.0001")


def test_usdm_quantities_are_base_units_and_ticks_are_not_precisions(recordings: Any, named: Named) -> None:
    market = named(recordings.markets("usdm", "usdm-exchangeInfo-2024"), "BTCUSDT")
    assert market.symbol == "BINANCE-PERP-BTC-USDT"
    assert market.tick_size == Decimal("0.10")  # pricePrecision says 2
    assert market.min_notional == Decimal(5)
    assert (market.contract_size, market.contract_type) == (None, ContractType.LINEAR)
    assert market.expiry is None
    assert market.margin_asset == "USDT"


def test_recorded_futures_map_to_the_sheet_s_symbols(recordings: Any, named: Named) -> None:
    usdm, coinm = recordings.markets("usdm"), recordings.markets("coinm")
    assert named(usdm, "BTCUSDT_210924").symbol == "BINANCE-FUT-BTC-USDT-210924"
    assert named(usdm, "BTCUSDT_210924").expiry == 1632470400000
    bitcoin = named(coinm, "BTCUSD_PERP")
    assert bitcoin.symbol == "BINANCE-PERP-BTC-USD-COINM"
    assert (bitcoin.contract_size, bitcoin.contract_type) == (Decimal(100), ContractType.INVERSE)
    assert bitcoin.margin_asset == "BTC"
    assert named(coinm, "ETHUSD_210924").symbol == "BINANCE-FUT-ETH-USD-210924-COINM"
    assert named(coinm, "ETHUSD_210924").contract_size == Decimal(10)


def test_not_yet_launched_and_broken_markets_are_not_active(recordings: Any, named: Named) -> None:
    (waiting,) = made("usdm", symbols=[futures_row(symbol="BTCSTUSDT", status="PENDING_TRADING", contractType="")])
    assert (waiting.status, waiting.asset_type) == (MarketStatus.PENDING, AssetType.PERP)
    assert named(recordings.markets("spot"), "BCCBTC").status is MarketStatus.HALTED
    assert named(recordings.markets("spot"), "ETHBTC").status is MarketStatus.ACTIVE


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("TRADING", MarketStatus.ACTIVE),
        ("PENDING_TRADING", MarketStatus.PENDING),
        ("PRE_DELIVERING", MarketStatus.HALTED),
        ("DELIVERING", MarketStatus.HALTED),
        ("DELIVERED", MarketStatus.EXPIRED),
        ("SETTLING", MarketStatus.HALTED),
        ("CLOSE", MarketStatus.EXPIRED),
        ("SOMETHING_NEW", MarketStatus.HALTED),
    ],
)
def test_only_trading_markets_are_active(word: str, status: MarketStatus) -> None:
    (usdm,) = made("usdm", symbols=[futures_row(status=word)])
    (coinm,) = made("coinm", symbols=[futures_row(status=None, contractStatus=word, contractSize=10)])
    assert (usdm.status, coinm.status) == (status, status)


def test_cancel_only_spot_markets_say_so() -> None:
    row = {"symbol": "AB", "status": "CANCEL_ONLY", "baseAsset": "A", "quoteAsset": "B", "filters": []}
    assert made("spot", symbols=[row])[0].status is MarketStatus.CANCEL_ONLY


@pytest.mark.parametrize("kind", ["PERPETUAL", "TRADIFI_PERPETUAL", "PERPETUAL DELIVERING", "PERPETUAL_DELIVERING"])
def test_perpetuals_are_perpetual_even_with_a_delivery_date(kind: str) -> None:
    (market,) = made("usdm", symbols=[futures_row(contractType=kind, deliveryDate=1632470400000)])
    assert market.asset_type is AssetType.PERP
    assert market.expiry is None


def test_multiplied_bases_are_assets_of_their_own() -> None:
    (market,) = made("usdm", symbols=[futures_row(symbol="1000SHIBUSDT", baseAsset="1000SHIB")])
    assert market.symbol == "BINANCE-PERP-1000SHIB-USDT"
    assert market.base_asset == "1000SHIB"


def test_names_keep_their_script() -> None:
    row = {"symbol": "币安人生USDT", "status": "TRADING", "baseAsset": "币安人生", "quoteAsset": "USDT", "filters": []}
    (market,) = made("spot", symbols=[row])
    assert market.symbol == "BINANCE-SPOT-币安人生-USDT"
    assert market.native_symbol == "币安人生USDT"


def test_an_option_takes_date_and_strike_from_its_symbol() -> None:
    contracts = [{"underlying": "ETHUSDT", "settleAsset": "USDT", "baseAsset": "ETH", "quoteAsset": "USDT"}]
    (market,) = made("options", optionSymbols=[option_row()], optionContracts=contracts)
    assert market.symbol == "BINANCE-OPT-ETH-USDT-230224-800-C"
    assert market.strike == Decimal(800)
    assert market.option_type is OptionType.CALL
    assert market.expiry == 1677225600000
    assert (market.contract_size, market.contract_type) == (Decimal(1), ContractType.LINEAR)
    assert market.margin_asset == "USDT"
    assert market.lot_size == Decimal("0.01")
    assert market.status is MarketStatus.ACTIVE  # older answers name none


def test_an_option_s_price_limits_are_left_to_the_venue() -> None:
    (market,) = made("options", optionSymbols=[option_row()])
    assert (market.min_price, market.max_price) == (None, None)
    assert market.tick_size == Decimal("0.1")


def test_broken_strikes_stay_as_the_symbol_writes_them() -> None:
    row = option_row(symbol="XRP-270326-2.5-P", side="PUT", strikePrice="2.50000000", quoteAsset="USDT")
    (market,) = made("options", optionSymbols=[row])
    assert market.symbol == "BINANCE-OPT-XRP-USDT-270326-2.5-P"


def test_a_documented_midnight_expiry_means_eight_o_clock(recordings: Any) -> None:
    (market,) = recordings.markets("options")
    assert market.symbol == "BINANCE-OPT-BTC-USDT-220815-50000-C"
    assert market.expiry == 1660550400000


def test_a_row_that_makes_no_sense_is_left_out_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    bad = [futures_row(symbol="A B", baseAsset="A B"), futures_row(deliveryDate="never"), {"symbol": "X"}]
    (market,) = made("usdm", symbols=[*bad, futures_row()])
    assert market.native_symbol == "BTCUSDT"
    assert len(caplog.records) == 3
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert made("coinm", symbols=[futures_row()]) == [], "an inverse contract without a size is none"


@pytest.mark.anyio
async def test_all_families_are_listed_and_their_limits_taken_over(played: Any, recordings: Any) -> None:
    markets = await played.venue.list_markets()
    products = {market.product for market in markets}
    assert products == {"spot", "usdm", "coinm", "options"}
    assert len({market.symbol for market in markets}) == len(markets)
    assert len({market.key for market in markets}) == len(markets)
    assert played.http.asked("GET", "/api/v3/exchangeInfo") == [{"showPermissionSets": "false"}]
    limits = {report.name: report.limit for report in played.venue.rest.pools["spot"].limiter.report()}
    assert limits["request_weight-1m"] == 1200  # what the recording of 2021 says
    limits = {report.name: report.limit for report in played.venue.rest.pools["options"].limiter.report()}
    assert limits["request_weight-1m"] == 2400


@pytest.mark.anyio
async def test_a_family_that_fails_keeps_its_markets_and_the_others_go_on(
    played: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = await played.venue.list_markets()
    played.http.answers["GET", "/fapi/v1/exchangeInfo"] = []
    played.http.answer("GET", "/fapi/v1/exchangeInfo", {"code": -1121, "msg": "broken"}, status=400)
    assert await played.venue.list_markets() == before
    assert any("usdm" in record.getMessage() for record in caplog.records)


@pytest.mark.anyio
async def test_a_family_that_was_never_read_fails_the_list_by_name(played: Any) -> None:
    played.http.answers["GET", "/eapi/v1/exchangeInfo"] = []
    played.http.answer("GET", "/eapi/v1/exchangeInfo", b"", status=451)
    with pytest.raises(VenueError, match=r"options markets could not be read.*`products`"):
        await played.venue.list_markets()


@pytest.mark.anyio
async def test_an_answer_of_another_shape_is_a_venue_error(played: Any) -> None:
    played.http.answers["GET", "/api/v3/exchangeInfo"] = []
    played.http.answer("GET", "/api/v3/exchangeInfo", b"<html>maintenance</html>")
    with pytest.raises(VenueError, match="another shape") as caught:
        await played.venue.list_markets()
    assert not isinstance(caught.value, VenueUnavailable)


@pytest.mark.anyio
async def test_a_symbol_that_the_venue_no_longer_knows_reloads_the_list(played: Any) -> None:
    market = await played.market("BINANCE-PERP-BTC-USDT")
    await played.clock.advance(60.0)
    played.http.answer("GET", "/fapi/v1/depth", {"code": -1121, "msg": "Invalid symbol."}, status=400)
    lists = len(played.http.asked("GET", "/fapi/v1/exchangeInfo"))
    for _ in range(3):
        with pytest.raises(MarketNotFound):
            await played.venue.get_orderbook(market, 5)
    await played.clock.advance(0.0)
    assert len(played.http.asked("GET", "/fapi/v1/exchangeInfo")) == lists + 1, "once, however often it is asked for"
