"""Instruments as markets.

Rows are decoded one by one: one that cannot be understood is reported and left out, the others stand. Source: API
documentation, "Get Market Symbols Setting", "Query Swap Info" (linear, coin-margined), "Query Contract Info".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.markets import ContractType, Market, MarketStatus
from astra.symbols import COIN_MARGINED, AssetType, Symbol, expiry_date
from astra_htx.errors import EXCHANGE
from astra_htx.rest import Answer, HtxRest
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, SPOT

logger = logging.getLogger(__name__)

PATHS: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    SPOT: ("/v1/settings/common/market-symbols", ()),
    # Without it dated futures are left out.
    LINEAR: ("/linear-swap-api/v1/swap_contract_info", [("business_type", "all")]),
    COIN_SWAP: ("/swap-api/v1/swap_contract_info", ()),
    COIN_FUTURES: ("/api/v1/contract_contract_info", ()),
}
SPOT_STATUS: Mapping[str, MarketStatus] = {
    "online": MarketStatus.ACTIVE,
    "pre-online": MarketStatus.PENDING,
    "not-online": MarketStatus.PENDING,
    "offline": MarketStatus.EXPIRED,
}
"""All other words (suspend, fuse, transfer-board, ...) mean that the market is halted."""
CONTRACT_STATUS: Mapping[int, MarketStatus] = {
    0: MarketStatus.EXPIRED,
    1: MarketStatus.ACTIVE,
    2: MarketStatus.PENDING,
    # Settling, settled: for a minute, while the venue refuses orders itself. A list is kept for much longer.
    5: MarketStatus.ACTIVE,
    7: MarketStatus.ACTIVE,
    8: MarketStatus.EXPIRED,
}
"""All others (suspended, delivering, ...) mean that it is halted."""


class SpotRow(msgspec.Struct):
    """A row of `market-symbols`."""

    symbol: str
    state: str
    base: str = msgspec.field(name="bc")
    quote: str = msgspec.field(name="qc")
    price_digits: int = msgspec.field(name="pp")
    amount_digits: int = msgspec.field(name="ap")
    min_amount: Decimal | None = msgspec.field(default=None, name="lominoa")
    max_amount: Decimal | None = msgspec.field(default=None, name="lomaxoa")
    min_at_market: Decimal | None = msgspec.field(default=None, name="smminoa")
    max_at_market: Decimal | None = msgspec.field(default=None, name="smmaxoa")
    min_value: Decimal | None = msgspec.field(default=None, name="minov")
    api: str = msgspec.field(default="enabled", name="at")

    def market(self) -> Market:
        base, quote = self.base.upper(), self.quote.upper()
        lot = step(self.amount_digits)
        status = SPOT_STATUS.get(self.state, MarketStatus.HALTED)
        if status is MarketStatus.ACTIVE and self.api != "enabled":
            status = MarketStatus.HALTED
        return Market(
            symbol=str(Symbol(EXCHANGE, AssetType.SPOT, base, quote)),
            asset_type=AssetType.SPOT,
            base_asset=base,
            quote_asset=quote,
            native_symbol=self.symbol,
            product=SPOT,
            status=status,
            tick_size=step(self.price_digits),
            lot_size=lot,
            # What is listed may be less than one lot.
            min_quantity=max(self.min_amount or lot, lot),
            max_quantity=self.max_amount or None,
            market_min_quantity=max(self.min_at_market or lot, lot),
            market_max_quantity=self.max_at_market or None,
            min_notional=self.min_value or None,
        )


class ContractRow(msgspec.Struct):
    """A row of the three contract lists. `pair` is the linear ones'; texts are empty where they do not apply."""

    symbol: str
    contract_code: str
    contract_size: Decimal
    price_tick: Decimal
    contract_status: int
    delivery_time: str | int = ""
    pair: str = ""

    def market(self, product: str) -> Market:
        linear = product == LINEAR
        base, quote = self.symbol, "USD"
        if linear:
            base, _, quote = (self.pair or "-".join(self.contract_code.split("-")[:2])).partition("-")
        expiry = int(self.delivery_time) if self.delivery_time else None
        if product == COIN_FUTURES and expiry is None:
            raise ValueError("a dated contract without delivery time")
        asset_type = AssetType.PERP if expiry is None else AssetType.FUT
        symbol = Symbol(
            EXCHANGE,
            asset_type,
            base,
            quote,
            expiry=None if expiry is None else expiry_date(expiry),
            disambiguator=None if linear else COIN_MARGINED,
        )
        return Market(
            symbol=str(symbol),
            asset_type=asset_type,
            base_asset=base,
            quote_asset=quote,
            margin_asset=quote if linear else base,
            native_symbol=self.contract_code,
            product=product,
            status=CONTRACT_STATUS.get(self.contract_status, MarketStatus.HALTED),
            tick_size=self.price_tick,
            lot_size=Decimal(1),
            min_quantity=Decimal(1),
            contract_size=self.contract_size,
            contract_type=ContractType.LINEAR if linear else ContractType.INVERSE,
            expiry=expiry,
        )


def step(digits: int) -> Decimal:
    """The step of numbers with so many digits behind the point."""
    return Decimal(1).scaleb(-digits)


decode_rows = msgspec.json.Decoder(Answer[list[msgspec.Raw]]).decode
_decode_spot = msgspec.json.Decoder(SpotRow).decode
_decode_contract = msgspec.json.Decoder(ContractRow).decode


async def load_markets(rest: HtxRest, product: str) -> Sequence[Market]:
    """The markets of one product."""
    path, params = PATHS[product]
    answer = await rest.public(decode_rows, path, params)
    return markets_of(answer.data, product)


def markets_of(rows: Sequence[msgspec.Raw], product: str) -> list[Market]:
    """The markets of an answer's rows."""
    markets = []
    for raw in rows:
        try:
            markets.append(_decode_spot(raw).market() if product == SPOT else _decode_contract(raw).market(product))
        except (msgspec.DecodeError, pydantic.ValidationError, SymbolError, ArithmeticError, ValueError) as error:
            logger.warning(
                "%s: a market is left out, it cannot be understood: %s (%r)", EXCHANGE, error, bytes(raw)[:200]
            )
    return markets
