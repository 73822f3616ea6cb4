"""The grammar of market symbols: parsing and formatting are total inverses, and a malformed symbol says where."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from astra.errors import SymbolError
from astra.symbols import AssetType, OptionType, Symbol, expiry_date, expiry_ms, strike_text

exchanges = st.from_regex(r"[A-Z][A-Z0-9]{0,11}", fullmatch=True).filter(lambda code: code != "HTX")
parts = st.text(st.characters(exclude_characters="-\x7f", exclude_categories=("Z", "Cc", "Cs")), min_size=1).filter(
    lambda text: not any(character.isspace() for character in text)
)
expiries = st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)).map(lambda day: day.strftime("%y%m%d"))
strikes = st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=8).map(strike_text)


@st.composite
def symbols(draw: st.DrawFn) -> Symbol:
    kind = draw(st.sampled_from(AssetType))
    dated, option = kind in (AssetType.FUT, AssetType.OPT), kind is AssetType.OPT
    return Symbol(
        exchange=draw(exchanges),
        asset_type=kind,
        base=draw(parts),
        quote=draw(parts),
        expiry=draw(expiries) if dated else None,
        strike=draw(strikes) if option else None,
        option_type=draw(st.sampled_from(OptionType)) if option else None,
        disambiguator=draw(st.none() | parts),
    )


@given(symbols())
@example(Symbol("BINANCE", AssetType.SPOT, "币安人生", "USDT"))
@example(Symbol("KRAKEN", AssetType.SPOT, "AAPLx", "USD"))
@example(Symbol("BINANCE", AssetType.PERP, "1000_SATS", "USDT", disambiguator="COINM"))
@example(Symbol("OKX", AssetType.OPT, "BTC", "USD", "261225", "0.5", OptionType.PUT, "C"))
def test_every_symbol_survives_formatting_and_parsing(symbol: Symbol) -> None:
    assert Symbol.parse(str(symbol)) == symbol


@given(st.text())
@example("BINANCE-SPOT-BTC-USDT")
@example("HTX-PERP-BTC-USDT")
def test_every_text_is_a_symbol_that_formats_back_or_a_symbol_error(text: str) -> None:
    try:
        symbol = Symbol.parse(text)
    except SymbolError:
        return
    if symbol.exchange == "HUOBI" and text.startswith("HTX-"):
        text = text.replace("HTX", "HUOBI", 1)
    assert str(symbol) == text


@given(symbols(), st.integers(0, 10), parts)
def test_a_wrong_number_of_parts_is_never_taken_for_something_else(symbol: Symbol, position: int, extra: str) -> None:
    pieces = str(symbol).split("-")
    position %= len(pieces)
    missing = "-".join(pieces[:position] + pieces[position + 1 :])
    try:
        other = Symbol.parse(missing)
    except SymbolError:
        return
    assert str(other) == missing  # one part less may be another symbol (without its disambiguator), never this one
    assert other != symbol


@given(symbols(), symbols())
def test_different_symbols_are_written_differently(one: Symbol, other: Symbol) -> None:
    assume(one != other)
    assert str(one) != str(other)


def test_the_parts_of_each_kind() -> None:
    assert Symbol.parse("BINANCE-SPOT-BTC-USDT") == Symbol("BINANCE", AssetType.SPOT, "BTC", "USDT")
    assert Symbol.parse("BINANCE-PERP-BTC-USD-COINM").disambiguator == "COINM"
    assert Symbol.parse("OKX-FUT-BTC-USDT-261225").expiry == "261225"
    option = Symbol.parse("BINANCE-OPT-BTC-USDT-261225-100000-C")
    assert (option.expiry, option.strike, option.option_type) == ("261225", "100000", OptionType.CALL)
    assert Symbol.parse("OKX-OPT-BTC-USD-261225-0.5-P-X").disambiguator == "X"


def test_an_alias_of_an_exchange_becomes_its_code() -> None:
    assert str(Symbol.parse("HTX-SPOT-BTC-USDT")) == "HUOBI-SPOT-BTC-USDT"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not a market symbol"),
        ("BTCUSDT", "is not a market symbol such as BINANCE-SPOT-BTC-USDT"),
        ("binance-SPOT-BTC-USDT", r"exchange 'binance' .* Did you mean BINANCE\?"),
        ("BIN ANCE-SPOT-BTC-USDT", "exchange 'BIN ANCE'"),
        ("-SPOT-BTC-USDT", "exchange ''"),
        ("BINANCE-PERPETUAL-BTC-USDT", r"asset type 'PERPETUAL' .* Did you mean PERP\?"),
        ("BINANCE-spot-BTC-USDT", r"asset type 'spot' .* Did you mean SPOT\?"),
        ("BINANCE-BTC-USDT", "asset type 'BTC'"),
        ("BINANCE-SPOT-BTC", "has 3 parts; a SPOT symbol is EXCHANGE-SPOT-BASE-QUOTE"),
        ("BINANCE-SPOT-BTC-USDT-A-B", "has 6 parts"),
        ("BINANCE-SPOT--USDT", "base asset ''"),
        ("BINANCE-SPOT-BTC-", "quote asset ''"),
        ("BINANCE-SPOT-BTC-US DT", "quote asset 'US DT'"),
        ("BINANCE-SPOT-BT\x00C-USDT", "base asset"),
        ("BINANCE-SPOT-BTC-USDT\n", "quote asset"),
        ("BINANCE-SPOT-BTC-USDT\x9b", "quote asset"),
        ("BINANCE-SPOT-BTC-USDT-", "disambiguator ''"),
        ("BINANCE-FUT-BTC-USDT", "has 4 parts; a FUT symbol is .*YYMMDD"),
        ("BINANCE-FUT-BTC-USDT-20261225", "expiry '20261225' is not a date written YYMMDD"),
        ("BINANCE-FUT-BTC-USDT-260231", "expiry '260231'"),
        ("BINANCE-FUT-BTC-USDT-２６１２２５", "expiry"),
        ("BINANCE-OPT-BTC-USDT-261225-100000", "has 6 parts; an? OPT symbol"),
        ("BINANCE-OPT-BTC-USDT-261225-100000-CALL", "option type 'CALL' .* neither C"),
        ("BINANCE-OPT-BTC-USDT-261225-0100-C", "strike '0100'"),
        ("BINANCE-OPT-BTC-USDT-261225-1e5-C", "strike '1e5'"),
        ("BINANCE-OPT-BTC-USDT-261225-1.50-C", "strike '1.50'"),
        ("BINANCE_SPOT_BTC_USDT", r"Did you mean BINANCE-SPOT-BTC-USDT\?"),
        ("HTX_PERP_BTC_USDT", r"Did you mean HUOBI-PERP-BTC-USDT\?"),
    ],
)
def test_a_malformed_symbol_says_which_part_is_wrong(text: str, part: str) -> None:
    with pytest.raises(SymbolError, match=part) as caught:
        Symbol.parse(text)
    assert text in caught.value.message or repr(text) in caught.value.message


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False))
def test_strikes_are_written_without_exponent_and_trailing_zeros(strike: Decimal) -> None:
    text = strike_text(strike)
    assert Decimal(text) == strike
    assert Symbol.parse(f"X-OPT-A-B-261225-{text}-C").strike == text


@pytest.mark.parametrize(
    ("strike", "text"), [("800.00", "800"), ("1E+5", "100000"), ("0.50", "0.5"), ("0", "0"), ("0.00", "0")]
)
def test_strikes(strike: str, text: str) -> None:
    assert strike_text(strike) == text


@given(st.dates(datetime.date(2000, 1, 1), datetime.date(2068, 12, 31)), st.integers(0, 23))
def test_the_date_of_a_moment_is_that_of_its_day_in_utc(day: datetime.date, hour: int) -> None:
    written = f"{day:%y%m%d}"
    assert expiry_date(expiry_ms(written, hour)) == written


def test_a_moment_of_expiry() -> None:
    assert expiry_ms("270326", 8) == 1_806_048_000_000
    assert expiry_date(1_806_048_000_000 + 16 * 3_600_000 - 1) == "270326"
    assert expiry_date(1_806_048_000_000 + 16 * 3_600_000) == "270327"
