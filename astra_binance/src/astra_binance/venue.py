"""The Binance plugin: Spot, USD-M and COIN-M futures, European options."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from astra.errors import (
    UnsupportedOperation,
    VenueError,
)
from astra.families import FamilyTrading, FamilyVenue
from astra.hookspecs import hookimpl
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import OrderOptions
from astra.models.protocols import Host
from astra.net.ratelimit import RateLimiter
from astra.trading.checks import ClientIdRule
from astra.venue import VenueSettings
from astra_binance.feed import BinanceFeed
from astra_binance.history import History
from astra_binance.markets import load_markets
from astra_binance.rest import Rest
from astra_binance.settings import COINM, OPTIONS, PRODUCTS, SPOT, USDM, BinanceOrderOptions, BinanceSettings
from astra_binance.trading.futures import FuturesTrading
from astra_binance.trading.listen_keys import ListenKeys
from astra_binance.trading.options import OptionsTrading
from astra_binance.trading.spot import SpotTrading

logger = logging.getLogger(__name__)

T = TypeVar("T")

NO_ACCESS = "-2015"
"""Bad key, address not listed, or no permission: the venue does not say which."""


class BinanceVenue(FamilyVenue):
    """All four API families of Binance."""

    code = "BINANCE"
    settings_model: ClassVar[type[VenueSettings]] = BinanceSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {
        SPOT: SpotTrading,
        USDM: FuturesTrading,
        COINM: FuturesTrading,
        OPTIONS: OptionsTrading,
    }
    order_options: ClassVar[type[OrderOptions] | None] = BinanceOrderOptions
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        "default": ClientIdRule(max_length=36, alphabet=".A-Z:/a-z0-9_-"),
    }
    account_products = PRODUCTS
    settings: BinanceSettings
    history: History

    def __init__(self, host: Host, settings: BinanceSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        self.rest = Rest(self.code, settings, host.clock, self.unknown_market, http_transport)
        self.history = History(self.rest, settings, host.clock)
        self.tickets = ListenKeys(self.rest, self.markets)
        self.feed = BinanceFeed(settings, self.rest, self.markets.peek_native, self.unknown_market)
        self.parts = {
            product: self.families[product](self.rest[product], self.markets) for product in settings.products
        }

    @property
    def rate_limiters(self) -> Mapping[str, RateLimiter]:
        return {name: pool.limiter for name, pool in self.rest.pools.items()}

    def venue_now_ms(self) -> int:
        """Spot's time: its account stream is the only one that is signed."""
        family = self.rest.families.get(SPOT)
        return super().venue_now_ms() if family is None else family.clock.now_ms()

    async def load_markets(self, product: str) -> Sequence[Market]:
        return await load_markets(self.rest[product])

    def denied(self, error: VenueError) -> bool:
        return super().denied(error) or error.code == NO_ACCESS

    @hookimpl
    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        """One mode holds for USD-M and COIN-M together."""
        for product in (USDM, COINM):
            if product in self.parts and credentials.key_for(product) is not None:
                await self.parts[product].set_position_mode(hedge, credentials)
                return
        raise UnsupportedOperation(
            "a position mode concerns futures, for which there is no key (or which are left out of `products`)",
            exchange=self.code,
        )
