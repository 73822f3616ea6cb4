"""The KuCoin plugin: spot and futures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from astra.families import FamilyTrading, FamilyVenue
from astra.hookspecs import hookimpl
from astra.models.markets import Market
from astra.models.orders import Fill, OrderOptions
from astra.models.protocols import Host
from astra.rest import REMEMBERED_PLACEMENTS
from astra.trading.checks import ClientIdRule
from astra.venue import VenueSettings
from astra_kucoin.feed import KucoinFeed
from astra_kucoin.history import History
from astra_kucoin.markets import SPELLINGS, load_markets
from astra_kucoin.rest import Rest
from astra_kucoin.settings import FUTURES, PRODUCTS, SPOT, KucoinOrderOptions, KucoinSettings
from astra_kucoin.tickets import Tickets
from astra_kucoin.trading.base import CLIENT_IDS
from astra_kucoin.trading.futures import FuturesTrading
from astra_kucoin.trading.rows import Notes
from astra_kucoin.trading.spot import SpotTrading


class KucoinVenue(FamilyVenue):
    """Both products of KuCoin, with the back ends of classic accounts."""

    code = "KUCOIN"
    settings_model: ClassVar[type[VenueSettings]] = KucoinSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {SPOT: SpotTrading, FUTURES: FuturesTrading}
    order_options: ClassVar[type[OrderOptions] | None] = KucoinOrderOptions
    asset_spellings = SPELLINGS
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {"default": CLIENT_IDS}
    account_products = PRODUCTS
    settings: KucoinSettings
    history: History

    def __init__(self, host: Host, settings: KucoinSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        self.rest = Rest(self.code, settings, host.clock, self.unknown_market, http_transport)
        self.history = History(self.rest, host.clock)
        self.tickets = Tickets(self.rest, self.markets, host.clock)
        notes = Notes(REMEMBERED_PLACEMENTS)
        self.feed = KucoinFeed(settings, self.markets.peek_native, self.unknown_market, notes)
        parts: Mapping[str, FamilyTrading] = {
            SPOT: SpotTrading(self.rest.spot, self.markets, settings, notes),
            FUTURES: FuturesTrading(self.rest.futures, self.markets, settings, notes),
        }
        self.parts = {product: parts[product] for product in settings.products}

    @hookimpl
    async def shutdown(self, host: Host) -> None:
        await self.rest.aclose()

    def venue_now_ms(self) -> int:
        return self.rest.spot.clock.now_ms()

    async def load_markets(self, product: str) -> Sequence[Market]:
        return await load_markets(self.rest, product)

    def fill_key(self, fill: Fill) -> Hashable:
        """Both sides of a trade with oneself have the trade's id."""
        return fill.market, fill.id, fill.order_id
