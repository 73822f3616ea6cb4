"""Markets as the older version of the public schema wrote them, in subscription messages.

    {"exchange": "BINANCE", "market": {"baseAsset": "BTC", "quoteAsset": "USDT"}, "dataType": "TRADE"}
    {"exchange": "BINANCE", "market": {"baseAsset": {"type": "PERPETUAL", "underlying": "BTC"}, "quoteAsset": "USDT"},
     "dataType": "ORDERBOOK"}

Accepted, never printed. A plain text as base asset means SPOT.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from astra.directory import canonical_exchange
from astra.errors import BadRequest, MarketNotFound, hint
from astra.models.markets import Market
from astra.symbols import AssetType, OptionType, Symbol, strike_text

if TYPE_CHECKING:
    from astra import Astra

_TYPES: Mapping[str, AssetType] = {
    "SPOT": AssetType.SPOT,
    "PERPETUAL": AssetType.PERP,
    "PERP": AssetType.PERP,
    "DATED_FUTURE": AssetType.FUT,
    "FUT": AssetType.FUT,
    "OPTION": AssetType.OPT,
    "OPT": AssetType.OPT,
}
_RIGHTS = {"C": OptionType.CALL, "CALL": OptionType.CALL, "P": OptionType.PUT, "PUT": OptionType.PUT}
_MARKET_FIELDS = ("baseAsset", "quoteAsset")
_ASSET_FIELDS = ("type", "asset", "underlying", "expiry", "strike", "optionType", "duration_type")


async def market_of(astra: Astra, exchange: str | None, written: str | Mapping[str, Any]) -> Market:
    """The market that a subscription message means. Raises `BadRequest`, `MarketNotFound`, `UnknownExchange`."""
    code = None if exchange is None else canonical_exchange(exchange.upper())
    if isinstance(written, str):
        symbol = Symbol.parse(written)
        if code is not None and code != symbol.exchange:
            raise BadRequest(f"exchange {exchange!r} and market {written!r} contradict each other; the symbol suffices")
        return await astra.market(str(symbol))
    if code is None:
        raise BadRequest("field 'exchange' is missing: a market that is an object says nothing of it")
    symbol = parse_market(code, written)
    try:
        return await astra.market(str(symbol))
    except MarketNotFound:
        # The older schema knows neither disambiguators (coin-margined markets) nor the venue's own asset names.
        found = [market for market in await astra.list_markets(code) if _same(market, symbol)]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadRequest(f"several markets are meant by this: {_named(found)}; name one by its symbol") from None
        raise


def parse_market(exchange: str, written: Mapping[str, Any]) -> Symbol:
    """A market object of the older schema as a symbol without disambiguator. Raises `BadRequest`."""
    _known(written, _MARKET_FIELDS)
    base, quote = written.get("baseAsset"), written.get("quoteAsset")
    if not isinstance(quote, str):
        raise BadRequest("field 'market.quoteAsset' must be the name of an asset")
    if isinstance(base, str):
        return Symbol(exchange, AssetType.SPOT, base, quote)
    if not isinstance(base, dict):
        raise BadRequest("field 'market.baseAsset' must be the name of an asset, or an object with its type")
    _known(base, _ASSET_FIELDS)
    word = str(base.get("type", "SPOT"))
    kind = _TYPES.get(word.upper())
    if kind is None:
        raise BadRequest(f"field 'market.baseAsset.type' is none of {', '.join(_TYPES)}.{hint(word, _TYPES)}")
    name = base.get("asset", base.get("underlying"))
    if not isinstance(name, str):
        raise BadRequest("field 'market.baseAsset' needs 'asset' (SPOT) or 'underlying' (derivatives)")
    expiry = strike = right = None
    if kind in (AssetType.FUT, AssetType.OPT):
        expiry = _expiry(base.get("expiry"))
    if kind is AssetType.OPT:
        strike = _strike(base.get("strike"))
        right = _RIGHTS.get(str(base.get("optionType", "")).upper())
        if right is None:
            raise BadRequest("field 'market.baseAsset.optionType' must be C (call) or P (put)")
    return Symbol(exchange, kind, name, quote, expiry, strike, right)


def _known(fields: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in fields:
        if name not in known:
            raise BadRequest(f"unknown field {str(name)[:40]!r} in the market object.{hint(str(name), known)}")


def _expiry(written: Any) -> str:
    """YYMMDD from YYMMDD, YYYYMMDD or YYYY-MM-DD."""
    text = str(written).replace("-", "")
    form = {6: "%y%m%d", 8: "%Y%m%d"}.get(len(text))
    if form is not None and re.fullmatch(r"[0-9]+", text, re.ASCII):
        try:
            return datetime.datetime.strptime(text, form).strftime("%y%m%d")
        except ValueError:
            form = None  # digits, but no date
    raise BadRequest("field 'market.baseAsset.expiry' must be a date written YYMMDD or YYYY-MM-DD")


def _strike(written: Any) -> str:
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise BadRequest("field 'market.baseAsset.strike' must be a number")
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", str(written), re.ASCII):
        raise BadRequest("field 'market.baseAsset.strike' must be a plain decimal number")
    return strike_text(Decimal(str(written)))


def _same(market: Market, meant: Symbol) -> bool:
    """Is the market what was meant, by its own asset names or by the abstract ones?"""
    own = market.parsed_symbol
    return (
        own.asset_type is meant.asset_type
        and meant.base in (own.base, market.base_asset)
        and meant.quote in (own.quote, market.quote_asset)
        and (own.expiry, own.strike, own.option_type) == (meant.expiry, meant.strike, meant.option_type)
    )


def _named(markets: Sequence[Market]) -> str:
    names = [market.symbol for market in markets]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
