"""The Kraken plugin: Spot and derivatives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from astra.families import FamilyTrading, FamilyVenue
from astra.hookspecs import hookimpl
from astra.models.markets import Market
from astra.models.orders import OrderOptions
from astra.models.protocols import Host
from astra.rest import REMEMBERED_PLACEMENTS, Recent
from astra.trading.checks import ClientIdRule
from astra.venue import VenueSettings
from astra_kraken.feed import KrakenFeed
from astra_kraken.history import History
from astra_kraken.markets import (
    SPELLINGS,
    TOKENIZED,
    Pair,
    SpotPairs,
    derivatives_markets,
    spot_markets,
    unhurried,
)
from astra_kraken.rest import Asked, Rest
from astra_kraken.settings import DERIVATIVES, PRODUCTS, SPOT, KrakenOrderOptions, KrakenSettings
from astra_kraken.tickets import Tickets
from astra_kraken.trading.derivatives import DerivativesTrading
from astra_kraken.trading.spot import SpotTrading
from astra_kraken.trading.terms import DERIVATIVES_CLIENT_IDS, SPOT_CLIENT_IDS

logger = logging.getLogger(__name__)


class _Instruments(msgspec.Struct):
    instruments: list[msgspec.Raw]


_decode_pairs = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_instruments = msgspec.json.Decoder(_Instruments).decode


class KrakenVenue(FamilyVenue):
    """Both API families of Kraken."""

    code = "KRAKEN"
    settings_model: ClassVar[type[VenueSettings]] = KrakenSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {SPOT: SpotTrading, DERIVATIVES: DerivativesTrading}
    order_options: ClassVar[type[OrderOptions] | None] = KrakenOrderOptions
    asset_spellings = SPELLINGS
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        SPOT: SPOT_CLIENT_IDS,
        DERIVATIVES: DERIVATIVES_CLIENT_IDS,
    }
    account_products = PRODUCTS
    settings: KrakenSettings
    history: History

    def __init__(self, host: Host, settings: KrakenSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        self.pairs = SpotPairs()
        self.rest = Rest(self.code, settings, host.clock, self.unknown_market, http_transport)
        self.history = History(self.rest, self.pairs, host.clock, uids=settings.derivatives_feed == "v1")
        self.tickets = Tickets(self.rest, self.markets)
        asked: Asked = Recent(REMEMBERED_PLACEMENTS)
        self.feed = KrakenFeed(settings, self.pairs, self.markets.peek_native, self.unknown_market, asked)
        parts: Mapping[str, FamilyTrading] = {
            SPOT: SpotTrading(self.rest.spot, self.markets).bind(self.pairs),
            DERIVATIVES: DerivativesTrading(self.rest.derivatives, self.markets).bind(self.rest.spot, asked),
        }
        self.parts = {product: parts[product] for product in settings.products}

    @hookimpl
    async def shutdown(self, host: Host) -> None:
        await self.rest.aclose()

    def venue_now_ms(self) -> int:
        """The derivatives' time: Spot tells whole seconds, and its streams need none."""
        return self.rest.derivatives.clock.now_ms()

    def command_lifetime_s(self, market: Market) -> float | None:
        """The expiry of placements and amendments, and a margin. Cancels on Spot have none: there it is the nonce of
        the look-up after it that shuts a late one out, which a key with a nonce window does not."""
        if market.product == SPOT and self.settings.nonce_window:
            return None
        return super().command_lifetime_s(market)

    async def load_markets(self, product: str) -> Sequence[Market]:
        markets: list[Market] = []
        if product != SPOT:
            rows = (await self.rest.derivatives.public(_decode_instruments, "instruments")).instruments
            await unhurried(derivatives_markets(rows, self.code), markets.append)
            return markets
        pairs: list[Pair] = []
        listed = dict(await self.rest.spot.public(_decode_pairs, "AssetPairs"))
        if self.settings.tokenized_assets:
            listed |= await self.rest.spot.public(_decode_pairs, "AssetPairs", [("aclass_base", TOKENIZED)])

        def take(found: tuple[Pair, Market]) -> None:
            pairs.append(found[0])
            markets.append(found[1])

        await unhurried(spot_markets(listed, self.code), take)
        self.pairs.read(pairs)
        return markets
