"""Products of Advanced Trade and instruments of the gateway as markets.

Rows are decoded one by one: one that cannot be understood is reported and left out, the others stand. Source:
docs.cdp.coinbase.com, "List Public Products"; Global Derivatives, `public/get_instruments`.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pydantic

from astra.errors import SymbolError
from astra.models.base import decimal_text
from astra.models.markets import ContractType, Market, MarketStatus, TickBand
from astra.symbols import COIN_MARGINED, AssetType, OptionType, Symbol, expiry_date, strike_text
from astra.trading.native import decimal_or_none
from astra_coinbase.settings import INTERNATIONAL, SPOT, US_FUTURES

logger = logging.getLogger(__name__)

ABSTRACT: Mapping[str, str] = {"CGLD": "CELO"}
"""The venue's name of an asset -> the abstract one, where they differ."""
PERPETUAL_MS = 32_503_708_800_000
"""The gateway's `expiration_timestamp` of what never expires."""
UNSUITABLE = (msgspec.DecodeError, pydantic.ValidationError, SymbolError, ArithmeticError, ValueError)


class FutureDetails(msgspec.Struct):
    """`future_product_details`."""

    contract_code: str = ""
    contract_root_unit: str = ""
    contract_size: str = ""
    contract_expiry: datetime.datetime | None = None
    funding_interval: str | None = None
    funding_rate: str = ""


class Product(msgspec.Struct):
    """A row of `GET /market/products`. Futures have no `base_currency_id` and an empty `status`; `quote_increment` is
    no tick size."""

    product_id: str
    product_type: str = ""
    product_venue: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    display_name: str = ""
    price_increment: str = ""
    base_increment: str = ""
    base_min_size: str = ""
    base_max_size: str = ""
    quote_min_size: str = ""
    quote_max_size: str = ""
    status: str = ""
    alias: str = ""
    is_disabled: bool = False
    trading_disabled: bool = False
    cancel_only: bool = False
    view_only: bool = False
    future_product_details: FutureDetails | None = None

    @property
    def product(self) -> str | None:
        """None for what is no product of ours (retired international perpetuals, prediction markets)."""
        return {("SPOT", "CBE"): SPOT, ("FUTURE", "FCM"): US_FUTURES}.get((self.product_type, self.product_venue))

    @property
    def market_status(self) -> MarketStatus:
        """Whether a session of US futures is open is left out: sessions open and close between two readings of the
        list."""
        if self.status == "delisted":
            return MarketStatus.EXPIRED
        if self.is_disabled or self.trading_disabled or self.view_only or self.status not in ("", "online"):
            return MarketStatus.HALTED
        return MarketStatus.CANCEL_ONLY if self.cancel_only else MarketStatus.ACTIVE


class ProductsAnswer(msgspec.Struct):
    products: list[msgspec.Raw]


class TickStep(msgspec.Struct):
    """From this price on the tick is another."""

    above_price: Decimal
    tick_size: Decimal


class Instrument(msgspec.Struct):
    """A row of `public/get_instruments`. Quantities are amounts: base units, of inverse futures USD."""

    instrument_name: str
    kind: str = ""
    instrument_type: str = ""
    settlement_period: str = ""
    base_currency: str = ""
    counter_currency: str = ""
    settlement_currency: str = ""
    contract_size: Decimal = Decimal(0)
    min_trade_amount: Decimal = Decimal(0)
    tick_size: Decimal = Decimal(0)
    tick_size_steps: list[TickStep] = []
    strike: Decimal | None = None
    option_type: str = ""
    expiration_timestamp: int = 0
    is_active: bool = True
    state: str = ""

    @property
    def asset_type(self) -> AssetType | None:
        """None for what is not listed: combinations, and spot, which Advanced Trade has."""
        if self.kind == "option":
            return AssetType.OPT
        if self.kind != "future":
            return None
        return AssetType.PERP if self.settlement_period == "perpetual" else AssetType.FUT


class Rpc(msgspec.Struct):
    """The envelope of the gateway's lists, row by row."""

    result: list[msgspec.Raw]


decode_products = msgspec.json.Decoder(ProductsAnswer).decode
_decode_product = msgspec.json.Decoder(Product).decode
decode_instruments = msgspec.json.Decoder(Rpc).decode
_decode_instrument = msgspec.json.Decoder(Instrument).decode


def products_of(rows: Sequence[msgspec.Raw], product: str, aliases: dict[str, str]) -> list[Market]:
    """The markets of one product. `aliases` is told of products that share another one's book: id -> its id."""

    def read(raw: msgspec.Raw) -> Market | None:
        row = _decode_product(raw)
        if row.product != product:
            return None
        market = spot_market(row) if product == SPOT else future_market(row)
        if row.alias and row.alias != row.product_id:
            aliases[row.product_id] = row.alias
        return market

    return _each(rows, read)


def instruments_of(rows: Sequence[msgspec.Raw]) -> list[Market]:
    """The markets of the gateway."""
    return _each(rows, lambda raw: instrument_market(_decode_instrument(raw)))


def _each(rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Market | None]) -> list[Market]:
    markets = []
    for raw in rows:
        try:
            market = read(raw)
        except UNSUITABLE as error:
            logger.warning("COINBASE: a product is left out, it cannot be understood: %s (%r)", error, bytes(raw)[:200])
            continue
        if market is not None:
            markets.append(market)
    return markets


def spot_market(row: Product) -> Market:
    base, quote = row.base_currency_id, row.quote_currency_id
    return Market(
        symbol=str(Symbol("COINBASE", AssetType.SPOT, base, quote)),
        asset_type=AssetType.SPOT,
        base_asset=ABSTRACT.get(base, base),
        quote_asset=ABSTRACT.get(quote, quote),
        **_common(row, SPOT),
    )


def future_market(row: Product) -> Market:
    """A future of the US exchange. One in perpetual style has an expiry years ahead, and a funding rate."""
    details = row.future_product_details
    if details is None or details.contract_expiry is None:
        raise ValueError("a future without future_product_details")
    base, quote = details.contract_root_unit, row.quote_currency_id
    perpetual = details.funding_interval is not None or bool(details.funding_rate) or row.display_name.endswith("PERP")
    expiry = epoch_ms(details.contract_expiry)
    # Contracts of several sizes share base, quote and expiry: their code tells them apart.
    symbol = Symbol(
        "COINBASE",
        AssetType.PERP if perpetual else AssetType.FUT,
        base,
        quote,
        expiry=None if perpetual else expiry_date(expiry),
        disambiguator=details.contract_code,
    )
    return Market(
        symbol=str(symbol),
        asset_type=symbol.asset_type,
        base_asset=ABSTRACT.get(base, base),
        quote_asset=quote,
        margin_asset=quote,
        contract_size=Decimal(details.contract_size),
        contract_type=ContractType.LINEAR,
        expiry=None if perpetual else expiry,
        **_common(row, US_FUTURES),
    )


def _common(row: Product, product: str) -> dict[str, Any]:
    return {
        "native_symbol": row.product_id,
        "product": product,
        "status": row.market_status,
        "tick_size": Decimal(row.price_increment),
        "lot_size": Decimal(row.base_increment),
        "min_quantity": decimal_or_none(row.base_min_size),
        "max_quantity": decimal_or_none(row.base_max_size),
        "min_notional": decimal_or_none(row.quote_min_size),
        "max_notional": decimal_or_none(row.quote_max_size) if product == SPOT else None,
    }


def instrument_market(row: Instrument) -> Market | None:
    """A market of the gateway. The quote asset is `counter_currency`: `quote_currency` of a coin-margined option is the
    coin that its price is in."""
    asset_type = row.asset_type
    if asset_type is None:
        return None
    reversed_ = row.instrument_type == "reversed"
    dated = asset_type is not AssetType.PERP
    base, quote, expiry = row.base_currency, row.counter_currency, row.expiration_timestamp
    if not row.contract_size or (dated and not 0 < expiry < PERPETUAL_MS):
        raise ValueError("an instrument without contract size or expiry")
    option = {"call": OptionType.CALL, "put": OptionType.PUT}[row.option_type] if asset_type is AssetType.OPT else None
    symbol = Symbol(
        "COINBASE",
        asset_type,
        base,
        quote,
        expiry=expiry_date(expiry) if dated else None,
        strike=strike_text(row.strike or Decimal(0)) if option else None,
        option_type=option,
        disambiguator=COIN_MARGINED if reversed_ else None,
    )
    lot = _short(row.min_trade_amount / row.contract_size)
    steps = sorted(row.tick_size_steps, key=lambda step: step.above_price)
    bands = (
        TickBand(from_price=Decimal(0), tick_size=_short(row.tick_size)),
        *(TickBand(from_price=_short(step.above_price), tick_size=_short(step.tick_size)) for step in steps),
    )
    return Market(
        symbol=str(symbol),
        asset_type=asset_type,
        base_asset=ABSTRACT.get(base, base),
        quote_asset=quote,
        margin_asset=row.settlement_currency or (base if reversed_ else quote),
        native_symbol=row.instrument_name,
        product=INTERNATIONAL,
        status=_instrument_status(row),
        tick_size=_short(row.tick_size),
        tick_bands=bands if len(bands) > 1 else None,
        lot_size=lot,
        min_quantity=lot,
        contract_size=_short(row.contract_size),
        contract_type=ContractType.INVERSE if reversed_ else ContractType.LINEAR,
        expiry=expiry if dated else None,
        strike=_short(row.strike) if option and row.strike else None,
        option_type=option,
    )


def _instrument_status(row: Instrument) -> MarketStatus:
    if row.state in ("settled", "delivered", "archivized", "inactive", "terminated"):
        return MarketStatus.EXPIRED
    return MarketStatus.ACTIVE if row.is_active and row.state in ("", "open") else MarketStatus.HALTED


def _short(number: Decimal) -> Decimal:
    """Without the zeros that JSON numbers have behind the point (10.0)."""
    return Decimal(decimal_text(number))


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)


def epoch_ms(moment: datetime.datetime) -> int:
    """A time in ms since the epoch."""
    return (moment - _EPOCH) // _MS


def known_ms(moment: datetime.datetime | None) -> int | None:
    """The same; None for the zero times that the venue writes where it has none."""
    return None if moment is None or moment <= _EPOCH else (moment - _EPOCH) // _MS
