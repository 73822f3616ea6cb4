"""The Coinbase plugin: spot and US futures over Advanced Trade, everything else over the international gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from astra.families import FamilyTrading, FamilyVenue
from astra.models.markets import Market
from astra.models.orders import OrderOptions
from astra.models.protocols import Host
from astra.rest import Params
from astra.trading.checks import ClientIdRule, ClientIdsUnique
from astra.venue import VenueSettings
from astra_coinbase.feed import CoinbaseFeed
from astra_coinbase.history import History
from astra_coinbase.markets import decode_instruments, decode_products, instruments_of, products_of
from astra_coinbase.rest import AdvancedRest, InternationalRest
from astra_coinbase.settings import (
    ADVANCED,
    INTERNATIONAL,
    PRODUCTS,
    SPOT,
    US_FUTURES,
    CoinbaseOrderOptions,
    CoinbaseSettings,
)
from astra_coinbase.tickets import Clock
from astra_coinbase.trading.advanced import AdvancedTrading
from astra_coinbase.trading.international import InternationalTrading


class CoinbaseVenue(FamilyVenue):
    """All products of Coinbase that private persons can trade by API.

    Two accounts: `advanced` (spot and US futures, Advanced Trade) and `international` (the gateway of global
    derivatives). One key serves both; an account may also have a key for each by these names.
    """

    code = "COINBASE"
    settings_model: ClassVar[type[VenueSettings]] = CoinbaseSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {
        SPOT: AdvancedTrading,
        US_FUTURES: AdvancedTrading,
        INTERNATIONAL: InternationalTrading,
    }
    order_options: ClassVar[type[OrderOptions] | None] = CoinbaseOrderOptions
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        # Any text is taken; the second use of an id answers with the first order.
        "default": ClientIdRule(max_length=128, alphabet="A-Za-z0-9_.:-", unique=ClientIdsUnique.NOT_ENFORCED),
        # A label, which any number of orders may have.
        INTERNATIONAL: ClientIdRule(max_length=64, alphabet="A-Za-z0-9_.:-", unique=ClientIdsUnique.NOT_ENFORCED),
    }
    asset_spellings = ({"CGLD", "CELO"},)
    account_products = (ADVANCED, INTERNATIONAL)
    settings: CoinbaseSettings
    history: History

    def __init__(self, host: Host, settings: CoinbaseSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        own = (settings, host.clock, lambda: host.astra.random, self.unknown_market, http_transport)
        self.advanced_rest = AdvancedRest(self.code, *own)
        self.international_rest = InternationalRest(self.code, *own)
        advanced = [product for product in (SPOT, US_FUTURES) if product in settings.products]
        self.advanced = AdvancedTrading(self.advanced_rest, self.markets, advanced)
        self.international = InternationalTrading(self.international_rest, self.markets)
        parts: dict[str, FamilyTrading] = {ADVANCED: self.advanced} if advanced else {}
        if INTERNATIONAL in settings.products:
            parts[INTERNATIONAL] = self.international
        self.parts = parts
        self.aliases: dict[str, str] = {}
        """Spot products that share another one's book: native symbol -> the other's."""
        self.history = History(self.advanced_rest, self.international_rest, host.clock)
        apis = {ADVANCED: self.advanced_rest, INTERNATIONAL: self.international_rest}
        self._clock = next(iter(parts.values())).rest.clock
        self.tickets = Clock(self._clock, self.markets)
        self.feed = CoinbaseFeed(
            settings,
            self.markets.peek_native,
            self.unknown_market,
            self.aliases,
            {name: api.signer for name, api in apis.items()},
            {ADVANCED: self.advanced.kinds, INTERNATIONAL: self.international.kinds},
        )

    def venue_now_ms(self) -> int:
        """For log-ins at either API."""
        return self._clock.now_ms()

    async def load_markets(self, product: str) -> Sequence[Market]:
        if product == INTERNATIONAL:
            params: Params = [("currency", "any")]
            answer = await self.international_rest.public(decode_instruments, "public/get_instruments", params)
            return instruments_of(answer.result)
        params = [("product_type", "SPOT" if product == SPOT else "FUTURE")]
        found = await self.advanced_rest.public(decode_products, "market/products", params)
        return products_of(found.products, product, self.aliases)
