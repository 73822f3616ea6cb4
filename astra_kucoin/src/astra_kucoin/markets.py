"""Symbols and contracts as markets.

Rows are decoded one by one: one that cannot be understood is reported and left out, the others stand. Native ids never
change and may name assets that were renamed since; symbols are made of the assets as they are called now. Source:
docs-new, "Get All Symbols" (spot, futures).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.markets import ContractType, Market, MarketStatus
from astra.symbols import COIN_MARGINED, AssetType, Symbol, expiry_date
from astra_kucoin.rest import Answer, Rest
from astra_kucoin.settings import FUTURES, SPOT

logger = logging.getLogger(__name__)

T = TypeVar("T")

SPELLINGS: Sequence[Collection[str]] = (("BTC", "XBT"),)
"""Futures say XBT, spot says BTC."""
PERPETUAL: Final = "FFWCSX"
DATED: Final = "FFICSX"
STATUS: Mapping[str, MarketStatus] = {
    "Open": MarketStatus.ACTIVE,
    "CancelOnly": MarketStatus.CANCEL_ONLY,
    "Init": MarketStatus.PENDING,
    "Paused": MarketStatus.HALTED,
    "BeingSettled": MarketStatus.EXPIRED,
    "Settled": MarketStatus.EXPIRED,
    "Closed": MarketStatus.EXPIRED,
}
"""What may be done in a contract; other words mean that it is halted."""


def asset_of(code: str) -> str:
    """The abstract name of an asset: BTC for XBT. A whole code only, AIXBT is another asset."""
    return "BTC" if code == "XBT" else code.upper()


def currency_of(asset: str) -> str:
    """How futures call an asset."""
    return "XBT" if asset == "BTC" else asset


class SpotRow(msgspec.Struct, rename="camel"):
    """A row of `GET /api/v2/symbols`. Numbers are texts; empty or null where the venue says nothing."""

    symbol: str
    name: str
    base_currency: str
    quote_currency: str
    base_min_size: str | None = None
    base_max_size: str | None = None
    base_increment: str | None = None
    price_increment: str | None = None
    min_funds: str | None = None
    enable_trading: bool = False

    def market(self, disambiguator: str | None = None) -> Market:
        base, quote = self.base_currency.upper(), self.quote_currency.upper()
        symbol = Symbol("KUCOIN", AssetType.SPOT, base, quote, disambiguator=disambiguator)
        return Market(
            symbol=str(symbol),
            asset_type=AssetType.SPOT,
            base_asset=base,
            quote_asset=quote,
            native_symbol=self.symbol,
            product=SPOT,
            status=MarketStatus.ACTIVE if self.enable_trading else MarketStatus.HALTED,
            tick_size=_positive(self.price_increment),
            lot_size=_positive(self.base_increment),
            min_quantity=_positive(self.base_min_size),
            max_quantity=_positive(self.base_max_size),
            min_notional=_positive(self.min_funds),
        )


class ContractRow(msgspec.Struct, rename="camel"):
    """A row of `GET /api/v1/contracts/active`: JSON numbers. `isQuanto` means nothing; a perpetual that is about to be
    delisted has an `expireDate`, too."""

    symbol: str
    type: str
    base_currency: str
    quote_currency: str
    settle_currency: str
    is_inverse: bool
    multiplier: Decimal
    status: str = ""
    lot_size: Decimal | None = None
    tick_size: Decimal | None = None
    max_order_qty: Decimal | None = None
    market_max_order_qty: Decimal | None = None
    max_price: Decimal | None = None
    expire_date: int | None = None

    def market(self) -> Market:
        """Raises for contracts of a type that is not known, and dated ones without a date."""
        if self.type not in (PERPETUAL, DATED):
            raise ValueError(f"contract type {self.type!r}")
        if not self.multiplier:
            raise ValueError("a contract of size 0")
        dated = self.type == DATED
        if dated and self.expire_date is None:
            raise ValueError("a dated contract without expireDate")
        asset_type = AssetType.FUT if dated else AssetType.PERP
        expiry = self.expire_date if dated else None
        symbol = Symbol(
            "KUCOIN",
            asset_type,
            self.base_currency.upper(),
            self.quote_currency.upper(),
            expiry=None if expiry is None else expiry_date(expiry),
            disambiguator=COIN_MARGINED if self.is_inverse else None,
        )
        return Market(
            symbol=str(symbol),
            asset_type=asset_type,
            base_asset=asset_of(self.base_currency),
            quote_asset=asset_of(self.quote_currency),
            margin_asset=asset_of(self.settle_currency),
            native_symbol=self.symbol,
            product=FUTURES,
            status=STATUS.get(self.status, MarketStatus.HALTED),
            tick_size=self.tick_size or None,
            lot_size=self.lot_size or None,
            min_quantity=self.lot_size or None,
            max_quantity=self.max_order_qty or None,
            market_max_quantity=self.market_max_order_qty or None,
            max_price=self.max_price or None,
            # -1 is the venue's way to write one dollar a contract.
            contract_size=abs(self.multiplier),
            contract_type=ContractType.INVERSE if self.is_inverse else ContractType.LINEAR,
            expiry=expiry,
        )


decode_rows = msgspec.json.Decoder(Answer[list[msgspec.Raw]]).decode
_decode_spot = msgspec.json.Decoder(SpotRow).decode
_decode_contract = msgspec.json.Decoder(ContractRow).decode


async def load_markets(rest: Rest, product: str) -> Sequence[Market]:
    """The markets of one product."""
    if product == SPOT:
        answer = await rest.spot.public(decode_rows, "/api/v2/symbols", weight=4)
    else:
        answer = await rest.futures.public(decode_rows, "/api/v1/contracts/active", weight=3)
    return markets_of(answer.data, product)


def markets_of(rows: Sequence[msgspec.Raw], product: str) -> list[Market]:
    """The markets of an answer's rows."""
    if product == FUTURES:
        return _understood(rows, lambda raw: _decode_contract(raw).market())
    return _spot_markets(rows)


def _spot_markets(rows: Sequence[msgspec.Raw]) -> list[Market]:
    """Renamed assets may meet an older namesake: then the renamed market's symbol ends with the base of its native
    id."""
    found = _understood(rows, _spot_market)
    names = Counter(market.symbol for _, market in found)
    markets = []
    for row, market in found:
        clashes = names[market.symbol] > 1 and row.symbol != row.name
        markets.append(row.market(row.symbol.partition("-")[0]) if clashes else market)
    return markets


def _spot_market(raw: msgspec.Raw) -> tuple[SpotRow, Market]:
    row = _decode_spot(raw)
    return row, row.market()


def _understood(rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], T]) -> list[T]:
    found = []
    for raw in rows:
        try:
            found.append(read(raw))
        except (msgspec.DecodeError, pydantic.ValidationError, SymbolError, ArithmeticError, ValueError) as error:
            logger.warning("KUCOIN: a market is left out, it cannot be understood: %s (%r)", error, bytes(raw)[:200])
    return found


def _positive(text: str | None) -> Decimal | None:
    return (Decimal(text) or None) if text else None
