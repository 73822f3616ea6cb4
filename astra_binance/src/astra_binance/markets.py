"""`exchangeInfo` of the four families as markets.

A family's rows are decoded one by one: a row that cannot be understood is reported and left out, the others stand.
Steps and limits come from the filters only (the precisions beside them are coarser or finer), and a filter value of 0
switches that part of the filter off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import anyio.lowlevel
import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.markets import ContractType, Market, MarketStatus
from astra.symbols import COIN_MARGINED, AssetType, OptionType, Symbol, expiry_date, expiry_ms, strike_text
from astra_binance.rest import FamilyRest, RateLimit
from astra_binance.settings import COINM, OPTIONS, SPOT, USDM

logger = logging.getLogger(__name__)

NO_DELIVERY = 4_133_404_800_000
"""`deliveryDate` of perpetuals: 2100-12-25."""
EXPIRY_HOUR = 8
"""Contracts expire at 08:00 UTC of the date in their symbol."""
_DAY_MS = 86_400_000
_YIELD_EVERY = 200

STATUS: Mapping[str, MarketStatus] = {
    "TRADING": MarketStatus.ACTIVE,
    "CANCEL_ONLY": MarketStatus.CANCEL_ONLY,
    "PENDING_TRADING": MarketStatus.PENDING,
    "PRE_TRADING": MarketStatus.PENDING,
    "DELIVERED": MarketStatus.EXPIRED,
    "CLOSE": MarketStatus.EXPIRED,
}
"""What may be done in a market. All other words (HALT, BREAK, END_OF_DAY, PRE_DELIVERING, DELIVERING, PRE_SETTLE,
SETTLING, and whatever may come) mean that it is halted: only TRADING is known to take orders."""


class Filter(msgspec.Struct, rename="camel"):
    """One of a market's filters; which fields it has depends on its type."""

    filter_type: str
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    tick_size: Decimal | None = None
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None
    step_size: Decimal | None = None
    min_notional: Decimal | None = None
    max_notional: Decimal | None = None
    notional: Decimal | None = None


class SpotRow(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[Filter]


class FuturesRow(msgspec.Struct, rename="camel"):
    symbol: str
    base_asset: str
    quote_asset: str
    margin_asset: str
    delivery_date: int
    filters: list[Filter]
    contract_type: str = ""
    status: str | None = None
    contract_status: str | None = None
    """COIN-M's name for `status`."""
    contract_size: Decimal | None = None
    """COIN-M: quote units a contract."""


class OptionRow(msgspec.Struct, rename="camel"):
    symbol: str
    quote_asset: str
    side: str
    strike_price: str
    underlying: str
    unit: Decimal
    expiry_date: int
    filters: list[Filter]
    status: str = "TRADING"
    min_qty: Decimal | None = None
    max_qty: Decimal | None = None


class _OptionContract(msgspec.Struct, rename="camel"):
    underlying: str
    settle_asset: str


class ExchangeInfo(msgspec.Struct, rename="camel"):
    """The parts of `exchangeInfo` that matter here. Options list their rows under names of their own."""

    symbols: list[msgspec.Raw] = []
    rate_limits: list[RateLimit] = []
    option_symbols: list[msgspec.Raw] = []
    option_contracts: list[_OptionContract] = []


def _filter_fields(filters: Sequence[Filter]) -> dict[str, Any]:
    """Steps and limits as fields of `Market`."""
    found = {row.filter_type: row for row in filters}
    price = found.get("PRICE_FILTER", Filter(""))
    lot = found.get("LOT_SIZE", Filter(""))
    market_lot = found.get("MARKET_LOT_SIZE", Filter(""))
    notional = found.get("NOTIONAL") or found.get("MIN_NOTIONAL") or Filter("")
    fields = {
        "tick_size": price.tick_size,
        "min_price": price.min_price,
        "max_price": price.max_price,
        "lot_size": lot.step_size,
        "min_quantity": lot.min_qty,
        "max_quantity": lot.max_qty,
        "market_lot_size": market_lot.step_size,
        "market_min_quantity": market_lot.min_qty,
        "market_max_quantity": market_lot.max_qty,
        # Spot says `minNotional`, USD-M `notional`.
        "min_notional": notional.min_notional or notional.notional,
        "max_notional": notional.max_notional,
    }
    return {name: value or None for name, value in fields.items()}


def spot_market(row: SpotRow, exchange: str) -> Market:
    symbol = Symbol(exchange, AssetType.SPOT, row.base_asset, row.quote_asset)
    return Market(
        symbol=str(symbol),
        asset_type=AssetType.SPOT,
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        native_symbol=row.symbol,
        product=SPOT,
        status=STATUS.get(row.status, MarketStatus.HALTED),
        **_filter_fields(row.filters),
    )


def _futures_market(row: FuturesRow, exchange: str, product: str) -> Market:
    perpetual = "PERPETUAL" in row.contract_type or row.delivery_date == NO_DELIVERY
    asset_type = AssetType.PERP if perpetual else AssetType.FUT
    expiry = None
    if not perpetual:
        dated = row.symbol.rpartition("_")[2]
        expiry = dated if dated.isdigit() and len(dated) == 6 else expiry_date(row.delivery_date)
    inverse = product == COINM
    if inverse and not row.contract_size:
        raise ValueError("an inverse contract without a contract size")
    symbol = Symbol(
        exchange,
        asset_type,
        row.base_asset,
        row.quote_asset,
        expiry=expiry,
        disambiguator=COIN_MARGINED if inverse else None,
    )
    return Market(
        symbol=str(symbol),
        asset_type=asset_type,
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        margin_asset=row.margin_asset,
        native_symbol=row.symbol,
        product=product,
        status=STATUS.get(row.contract_status or row.status or "", MarketStatus.HALTED),
        # USD-M quantities are in base units: there is no contract to convert.
        contract_size=row.contract_size if inverse else None,
        contract_type=ContractType.INVERSE if inverse else ContractType.LINEAR,
        expiry=None if perpetual else row.delivery_date,
        **_filter_fields(row.filters),
    )


def usdm_market(row: FuturesRow, exchange: str) -> Market:
    return _futures_market(row, exchange, USDM)


def coinm_market(row: FuturesRow, exchange: str) -> Market:
    return _futures_market(row, exchange, COINM)


def option_market(row: OptionRow, exchange: str, settle_asset: str | None = None) -> Market:
    base, expiry, strike, _ = row.symbol.rsplit("-", 3)  # ETH-230224-800-C
    option_type = OptionType.CALL if row.side == "CALL" else OptionType.PUT
    symbol = Symbol(
        exchange,
        AssetType.OPT,
        base,
        row.quote_asset,
        expiry=expiry,
        strike=strike_text(strike),
        option_type=option_type,
    )
    fields = _filter_fields(row.filters)
    # The price filter follows the mark price: a bound that was read minutes ago would refuse lawful orders.
    fields.update(min_price=None, max_price=None)
    fields["min_quantity"] = fields["min_quantity"] or row.min_qty
    fields["max_quantity"] = fields["max_quantity"] or row.max_qty
    return Market(
        symbol=str(symbol),
        asset_type=AssetType.OPT,
        base_asset=base,
        quote_asset=row.quote_asset,
        margin_asset=settle_asset or row.quote_asset,
        native_symbol=row.symbol,
        product=OPTIONS,
        status=STATUS.get(row.status, MarketStatus.HALTED),
        contract_size=row.unit,
        contract_type=ContractType.LINEAR,
        expiry=_option_expiry(row.expiry_date, expiry),
        strike=Decimal(row.strike_price),
        option_type=option_type,
        **fields,
    )


def _option_expiry(given: int, date: str) -> int:
    """The documentation prints midnight as expiry, live answers the real hour: midnight is not believed."""
    if given % _DAY_MS:
        return given
    return expiry_ms(date, EXPIRY_HOUR)


decode_info = msgspec.json.Decoder(ExchangeInfo).decode
_ROWS: Mapping[str, tuple[type[Any], Callable[[Any, str], Market]]] = {
    SPOT: (SpotRow, spot_market),
    USDM: (FuturesRow, usdm_market),
    COINM: (FuturesRow, coinm_market),
}


def markets_of(product: str, info: ExchangeInfo, exchange: str) -> Iterator[Market]:
    """The markets that an `exchangeInfo` lists, made as they are asked for."""
    if product == OPTIONS:
        settled_in = {row.underlying: row.settle_asset for row in info.option_contracts}

        def option(row: OptionRow, exchange: str) -> Market:
            return option_market(row, exchange, settled_in.get(row.underlying))

        return _made(info.option_symbols, OptionRow, option, exchange)
    row_type, make = _ROWS[product]
    return _made(info.symbols, row_type, make, exchange)


def _made(
    rows: Sequence[msgspec.Raw], row_type: type[Any], make: Callable[[Any, str], Market], exchange: str
) -> Iterator[Market]:
    decode = msgspec.json.Decoder(row_type).decode
    for raw in rows:
        try:
            yield make(decode(raw), exchange)
        except (msgspec.DecodeError, SymbolError, pydantic.ValidationError, ArithmeticError, ValueError) as error:
            logger.warning("%s: a listed market is left out: %s in %.200s", exchange, error, bytes(raw))


async def load_markets(rest: FamilyRest) -> list[Market]:
    """The markets of one family; takes over its rate limits. Raises `VenueError`s of the request."""
    if rest.product == SPOT:
        info = await rest.public(decode_info, "exchangeInfo", [("showPermissionSets", False)], weight=20)
    else:
        info = await rest.public(decode_info, "exchangeInfo", weight=1)
    rest.pool.read(info.rate_limits)
    markets: list[Market] = []
    for market in markets_of(rest.product, info, rest.exchange):
        markets.append(market)
        if len(markets) % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()  # thousands of markets must not hold the live books up
    return markets
