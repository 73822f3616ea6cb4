"""`AssetPairs` and `instruments` as markets, and Kraken's many spellings of one asset.

Three spellings of an asset are in use: REST's `XXBT` (with its alternative name `XBT`), the streams' `BTC`, and `XBT`
in the symbols of derivatives. Symbols of spot markets use the streams' names, those of derivatives the names in the
native symbol; metadata say BTC and DOGE.

Rows are decoded one by one: a row that cannot be understood is reported and left out, the others stand.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import anyio.lowlevel
import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.markets import ContractType, Market, MarketStatus
from astra.symbols import COIN_MARGINED, AssetType, OptionType, Symbol, expiry_ms, strike_text
from astra_kraken.settings import DERIVATIVES, SPOT

logger = logging.getLogger(__name__)

INTERNATIONAL: Final = "international"
TOKENIZED: Final = "tokenized_asset"
EXPIRY_HOUR = 8
"""Linear futures and options end at 08:00 UTC; inverse ones say when in `lastTradingTime`."""
_YIELD_EVERY = 200

_OLD_NAMES: Mapping[str, str] = {
    "XXBT": "BTC",
    "XBT": "BTC",
    "XXDG": "DOGE",
    "XDG": "DOGE",
    "XETH": "ETH",
    "XETC": "ETC",
    "XLTC": "LTC",
    "XMLN": "MLN",
    "XREP": "REP",
    "XXLM": "XLM",
    "XXMR": "XMR",
    "XXRP": "XRP",
    "XZEC": "ZEC",
    "ZUSD": "USD",
    "ZEUR": "EUR",
    "ZGBP": "GBP",
    "ZCAD": "CAD",
    "ZJPY": "JPY",
    "ZAUD": "AUD",
    "KFEE": "FEE",
}
"""REST's codes that are no modern names. (XRP, XLM, XTZ, ZEC, ZRX ... are: letters are never cut off blindly.)"""

SPELLINGS: tuple[tuple[str, ...], ...] = tuple(
    (name, *sorted(old for old, new in _OLD_NAMES.items() if new == name))
    for name in dict.fromkeys(_OLD_NAMES.values())
)
"""Groups of names that mean one asset."""


def asset_name(code: str) -> str:
    """The modern name of an asset: `XXBT` -> `BTC`, `ZUSD` -> `USD`. A suffix stays (`XBT.F` -> `BTC.F`): staked,
    bonded and earning balances are assets of their own."""
    plain, dot, suffix = code.partition(".")
    return _OLD_NAMES.get(plain, plain) + dot + suffix


# -- Spot -------------------------------------------------------------------------------------------------------

SPOT_STATUS: Mapping[str, MarketStatus] = {
    "online": MarketStatus.ACTIVE,
    "post_only": MarketStatus.ACTIVE,
    "limit_only": MarketStatus.ACTIVE,
    "reduce_only": MarketStatus.ACTIVE,
    "cancel_only": MarketStatus.CANCEL_ONLY,
    "work_in_progress": MarketStatus.PENDING,
    "delisted": MarketStatus.EXPIRED,
}
"""What may be done in a pair; the words that take some orders only leave it to the venue to refuse the others. All
other words (maintenance, and whatever may come) mean that it is halted."""


class SpotRow(msgspec.Struct):
    """A row of `AssetPairs`. Lists of 2021 have neither status nor tick size."""

    altname: str
    pair_decimals: int
    lot_decimals: int
    wsname: str | None = None
    aclass_base: str = "currency"
    status: str = "online"
    tick_size: Decimal | None = None
    ordermin: Decimal | None = None
    costmin: Decimal | None = None
    execution_venue: str = INTERNATIONAL


class Pair(msgspec.Struct, frozen=True):
    """How a spot pair is spelled and how its numbers are written."""

    symbol: str
    """The streams' name, `BTC/USD`: the native symbol of its market."""
    altname: str
    """What REST takes as `pair` everywhere, and prints in orders: `XBTUSD`."""
    key: str
    """What REST prints in answers and own trades: `XXBTZUSD`."""
    price_precision: int
    quantity_precision: int
    tokenized: bool = False


class SpotPairs:
    """The spot pairs as they were last listed, by any of their spellings."""

    def __init__(self) -> None:
        self._by_symbol: dict[str, Pair] = {}
        self._by_any_name: dict[str, Pair] = {}

    def read(self, pairs: Iterable[Pair]) -> None:
        """Take over a new list."""
        self._by_symbol = {pair.symbol: pair for pair in pairs}
        self._by_any_name = {
            name: pair for pair in self._by_symbol.values() for name in (pair.symbol, pair.altname, pair.key)
        }

    def __getitem__(self, symbol: str) -> Pair:
        """The pair of a market's native symbol; one that was never listed is spelled by rule."""
        pair = self._by_symbol.get(symbol)
        return pair if pair is not None else _by_rule(symbol)

    def symbol_of(self, name: str) -> str:
        """The native symbol of a pair by any of its spellings; an unknown one as it is."""
        pair = self._by_any_name.get(name)
        return name if pair is None else pair.symbol


def _by_rule(symbol: str) -> Pair:
    old = {"BTC": "XBT", "DOGE": "XDG"}
    base, _, quote = symbol.partition("/")
    altname = old.get(base, base) + old.get(quote, quote)
    return Pair(symbol, altname, altname, price_precision=8, quantity_precision=8)


def pair_of(key: str, row: SpotRow) -> Pair:
    """The spellings of a listed pair. `wsname` is the only one that shows where the base ends."""
    assert row.wsname is not None
    base, slash, quote = row.wsname.partition("/")
    if not (slash and base and quote):
        raise ValueError(f"wsname {row.wsname!r} is no base/quote")
    return Pair(
        symbol=f"{asset_name(base)}/{asset_name(quote)}",
        altname=row.altname,
        key=key,
        price_precision=row.pair_decimals,
        quantity_precision=row.lot_decimals,
        tokenized=row.aclass_base == TOKENIZED,
    )


def spot_market(pair: Pair, row: SpotRow, exchange: str) -> Market:
    base, _, quote = pair.symbol.partition("/")
    return Market(
        symbol=str(Symbol(exchange, AssetType.SPOT, base, quote)),
        asset_type=AssetType.SPOT,
        base_asset=base,
        quote_asset=quote,
        native_symbol=pair.symbol,
        product=SPOT,
        status=SPOT_STATUS.get(row.status, MarketStatus.HALTED),
        tick_size=row.tick_size or Decimal(1).scaleb(-row.pair_decimals),
        lot_size=Decimal(1).scaleb(-row.lot_decimals),
        min_quantity=row.ordermin or None,
        min_notional=row.costmin or None,
    )


_decode_spot_row = msgspec.json.Decoder(SpotRow, strict=False).decode
_UNREADABLE = (msgspec.DecodeError, SymbolError, pydantic.ValidationError, ArithmeticError, ValueError)


def spot_markets(rows: Mapping[str, msgspec.Raw], exchange: str) -> Iterator[tuple[Pair, Market]]:
    """The pairs and markets of an `AssetPairs` answer, made as they are asked for.

    Left out without a word: dark-pool rows (`.d`, no `wsname`) and those of another execution venue.
    """
    for key, raw in rows.items():
        try:
            row = _decode_spot_row(raw)
            if row.wsname is None or row.execution_venue != INTERNATIONAL:
                continue
            pair = pair_of(key, row)
            yield pair, spot_market(pair, row, exchange)
        except _UNREADABLE as error:
            logger.warning("%s: a listed pair is left out: %s in %.200s", exchange, error, bytes(raw))


# -- derivatives ------------------------------------------------------------------------------------------------

_CONTRACT = re.compile(
    r"(?P<kind>PF|PI|FF|FI|OF)_(?P<base>[A-Za-z0-9]+)(?P<quote>USD)"
    r"(?:_(?P<date>\d{6}))?(?:_(?P<strike>\d+(?:\.\d+)?)_(?P<right>[CP]))?"
)
_ASSET_TYPES = {
    "PF": AssetType.PERP,
    "PI": AssetType.PERP,
    "FF": AssetType.FUT,
    "FI": AssetType.FUT,
    "OF": AssetType.OPT,
}
_INVERSE = frozenset({"PI", "FI"})


class DerivativesRow(msgspec.Struct, rename="camel"):
    """A row of `instruments`. Index rows (`in_`, `rr_`) have neither steps nor a contract."""

    symbol: str
    type: str = ""
    tradeable: bool = False
    tick_size: Decimal | None = None
    contract_size: Decimal | None = None
    contract_value_trade_precision: int | None = None
    last_trading_time: datetime.datetime | None = None

    @property
    def is_index(self) -> bool:
        return self.type.endswith("index") or self.symbol[:3].lower() in ("in_", "rr_")


def native_symbol(symbol: str) -> str:
    """A contract's symbol as it is written today: lists of 2021 have lower case. (The small letters of tokenised
    stocks, `PF_AAPLxUSD`, stay.)"""
    return symbol.upper() if symbol.islower() else symbol


def derivatives_market(row: DerivativesRow, exchange: str) -> Market:
    """Raises `ValueError` for a symbol that follows no known pattern: what such a contract is worth is not guessed."""
    native = native_symbol(row.symbol)
    parts = _CONTRACT.fullmatch(native)
    if parts is None:
        raise ValueError(f"{native!r} is no contract symbol that is known here")
    kind, date = parts["kind"], parts["date"]
    asset_type, inverse = _ASSET_TYPES[kind], kind in _INVERSE
    if (row.type == "futures_inverse") != inverse:
        raise ValueError(f"{native!r} has the type {row.type!r}")
    if not row.contract_size:
        raise ValueError("a contract without a size")
    precision = row.contract_value_trade_precision
    if precision is None:
        if not inverse:
            raise ValueError("a linear contract without contractValueTradePrecision")
        precision = 0
    right = None if parts["right"] is None else OptionType(parts["right"])
    symbol = Symbol(
        exchange,
        asset_type,
        parts["base"],
        parts["quote"],
        expiry=date,
        strike=None if right is None else strike_text(parts["strike"]),
        option_type=right,
        disambiguator=COIN_MARGINED if inverse else None,
    )
    base, quote = asset_name(parts["base"]), parts["quote"]
    lot = Decimal(1).scaleb(-precision)
    return Market(
        symbol=str(symbol),
        asset_type=asset_type,
        base_asset=base,
        quote_asset=quote,
        margin_asset=base if inverse else quote,
        native_symbol=native,
        product=DERIVATIVES,
        status=MarketStatus.ACTIVE if row.tradeable else MarketStatus.HALTED,
        tick_size=row.tick_size,
        lot_size=lot,
        min_quantity=lot,
        contract_size=row.contract_size,
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
        expiry=None if date is None else _expiry_ms(row.last_trading_time, date),
        strike=None if right is None else Decimal(parts["strike"]),
        option_type=right,
    )


def _expiry_ms(given: datetime.datetime | None, date: str) -> int:
    return expiry_ms(date, EXPIRY_HOUR) if given is None else round(given.timestamp() * 1000)


_decode_derivatives_row = msgspec.json.Decoder(DerivativesRow).decode


def derivatives_markets(rows: Iterable[msgspec.Raw], exchange: str) -> Iterator[Market]:
    """The markets of an `instruments` answer, made as they are asked for; index rows are no markets."""
    for raw in rows:
        try:
            row = _decode_derivatives_row(raw)
            if not row.is_index:
                yield derivatives_market(row, exchange)
        except _UNREADABLE as error:
            logger.warning("%s: a listed contract is left out: %s in %.200s", exchange, error, bytes(raw))


async def unhurried(rows: Iterable[Any], take: Callable[[Any], None]) -> None:
    """Take row after row, letting others run now and then: a thousand markets must not hold the live books up."""
    for number, row in enumerate(rows, start=1):
        take(row)
        if number % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
