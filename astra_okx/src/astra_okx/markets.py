"""Instruments as markets.

One row has one shape for all products; rows of markets that are not open yet hold little more than a name. Rows are
decoded one by one: one that cannot be understood is reported and left out, the others stand. Source: docs-v5, "Get
instruments", "Get option tick bands".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.markets import ContractType, Market, MarketStatus, TickBand
from astra.symbols import COIN_MARGINED, AssetType, OptionType, Symbol, expiry_date, strike_text
from astra.trading.native import decimal_or_none
from astra_okx.rest import Answer, OkxRest
from astra_okx.settings import FUTURES, OPTION, SPOT, SWAP

logger = logging.getLogger(__name__)

INST_TYPES: Mapping[str, str] = {SPOT: "SPOT", SWAP: "SWAP", FUTURES: "FUTURES", OPTION: "OPTION"}
"""Product -> the venue's `instType`."""
ASSET_TYPES: Mapping[str, AssetType] = {
    SPOT: AssetType.SPOT,
    SWAP: AssetType.PERP,
    FUTURES: AssetType.FUT,
    OPTION: AssetType.OPT,
}
STATUS: Mapping[str, MarketStatus] = {
    "live": MarketStatus.ACTIVE,
    # Takes post-only orders alone; the venue refuses others by name.
    "post_only": MarketStatus.ACTIVE,
    "preopen": MarketStatus.PENDING,
    "test": MarketStatus.PENDING,
    "settling": MarketStatus.EXPIRED,
    "expired": MarketStatus.EXPIRED,
}
"""What may be done in a market; all other words (suspend, rebase, and whatever may come) mean that it is halted."""
X_PERP = "xperp"
"""`ruleType` of five-year futures that charge funding like a perpetual."""


class Instrument(msgspec.Struct, rename="camel"):
    """A row of `GET public/instruments`. Texts are empty where they do not apply."""

    inst_id: str
    inst_type: str = ""
    state: str = ""
    base_ccy: str = ""
    quote_ccy: str = ""
    uly: str = ""
    settle_ccy: str = ""
    ct_type: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    tick_sz: str = ""
    lot_sz: str = ""
    min_sz: str = ""
    max_lmt_sz: str = ""
    max_mkt_sz: str = ""
    exp_time: str = ""
    stk: str = ""
    opt_type: str = ""
    rule_type: str = ""
    inst_family: str = ""
    group_id: str = ""

    @property
    def is_filled(self) -> bool:
        """Announced markets have neither steps nor assets yet."""
        return bool(self.tick_sz and self.lot_sz and (self.base_ccy or self.uly))

    @property
    def is_inverse(self) -> bool:
        """Margined in the base asset? (Older option rows do not say `ctType`.)"""
        if self.ct_type:
            return self.ct_type == "inverse"
        return bool(self.settle_ccy) and self.settle_ccy == self.uly.partition("-")[0]


class TickBandRow(msgspec.Struct, rename="camel"):
    min_px: str
    max_px: str
    tick_sz: str


class FamilyBands(msgspec.Struct, rename="camel"):
    """The tick bands of one family of options."""

    inst_family: str
    tick_band: list[TickBandRow]

    def bands(self) -> tuple[TickBand, ...]:
        """Bands by rising price. Each begins where the one before it ends (a first row's own figure may overlap)."""
        rows = sorted(self.tick_band, key=lambda row: Decimal(row.max_px))
        starts = [Decimal(0), *(Decimal(row.max_px) for row in rows)]
        return tuple(
            TickBand(from_price=start, tick_size=Decimal(row.tick_sz)) for start, row in zip(starts, rows, strict=False)
        )


decode_instruments = msgspec.json.Decoder(Answer[list[msgspec.Raw]]).decode
_decode_row = msgspec.json.Decoder(Instrument).decode
decode_bands = msgspec.json.Decoder(Answer[list[FamilyBands]]).decode
decode_families = msgspec.json.Decoder(Answer[list[list[str]]]).decode


async def load_markets(rest: OkxRest, product: str) -> Sequence[Market]:
    """The markets of one product. Options are asked for family by family."""
    if product != OPTION:
        return await _asked(rest, product)
    families = await rest.public(decode_families, "public/underlying", [("instType", "OPTION")], cost="underlying")
    rows = await rest.public(decode_bands, "public/instrument-tick-bands", [("instType", "OPTION")], cost="tick-bands")
    bands = {row.inst_family: row.bands() for row in rows.data}
    found: dict[str, Market] = {}
    for family in families.data[0] if families.data else ():
        # The answer to BTC-USD may hold the rows of BTC-USD_UM, too.
        for market in await _asked(rest, product, family=family, bands=bands):
            found[market.native_symbol] = market
    return list(found.values())


async def _asked(
    rest: OkxRest, product: str, *, family: str | None = None, bands: Mapping[str, tuple[TickBand, ...]] = {}
) -> Sequence[Market]:
    inst_type = INST_TYPES[product]
    params = [("instType", inst_type), ("instFamily", family)]
    answer = await rest.public(decode_instruments, "public/instruments", params, cost="instruments", scope=inst_type)
    return markets_of(answer.data, product, bands)


def markets_of(
    rows: Sequence[msgspec.Raw], product: str, bands: Mapping[str, tuple[TickBand, ...]] = {}
) -> list[Market]:
    """The markets of an answer's rows."""
    markets = []
    for raw in rows:
        try:
            row = _decode_row(raw)
            if row.is_filled:
                markets.append(market_of(row, product, bands.get(row.inst_family)))
        except (msgspec.DecodeError, pydantic.ValidationError, SymbolError, ArithmeticError, ValueError) as error:
            logger.warning("OKX: an instrument is left out, it cannot be understood: %s (%r)", error, bytes(raw)[:200])
    return markets


def market_of(row: Instrument, product: str, bands: tuple[TickBand, ...] | None = None) -> Market:
    """One instrument as a market. Raises for rows that lack what their product needs."""
    derivative = product != SPOT
    base, _, quote = row.uly.partition("-") if derivative else (row.base_ccy, "", row.quote_ccy)
    asset_type = ASSET_TYPES[product]
    dated = product in (FUTURES, OPTION)
    expiry = int(row.exp_time) if dated else None
    inverse = derivative and row.is_inverse
    size = Decimal(row.ct_val) * Decimal(row.ct_mult or "1") if derivative else None
    option = OptionType(row.opt_type) if product == OPTION else None
    symbol = Symbol(
        "OKX",
        asset_type,
        base,
        quote,
        expiry=None if expiry is None else expiry_date(expiry),
        strike=strike_text(row.stk) if option else None,
        option_type=option,
        disambiguator=COIN_MARGINED if inverse else "XPERP" if row.rule_type == X_PERP else None,
    )
    return Market(
        symbol=str(symbol),
        asset_type=asset_type,
        base_asset=base,
        quote_asset=quote,
        margin_asset=row.settle_ccy or None,
        native_symbol=row.inst_id,
        product=product,
        status=STATUS.get(row.state, MarketStatus.HALTED),
        tick_size=min((band.tick_size for band in bands), default=None) if bands else Decimal(row.tick_sz),
        tick_bands=bands,
        lot_size=Decimal(row.lot_sz),
        min_quantity=decimal_or_none(row.min_sz),
        max_quantity=decimal_or_none(row.max_lmt_sz),
        # Spot's is a value in USDT, no quantity.
        market_max_quantity=decimal_or_none(row.max_mkt_sz) if derivative else None,
        contract_size=size,
        contract_type=None if not derivative else ContractType.INVERSE if inverse else ContractType.LINEAR,
        expiry=expiry,
        strike=Decimal(row.stk) if option else None,
        option_type=option,
    )
