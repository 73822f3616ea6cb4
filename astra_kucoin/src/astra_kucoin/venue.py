"""The KuCoin plugin: spot and futures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from astra.families import FamilyTrading, FamilyVenue
from astra.hookspecs import hookimpl
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions
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
from astra_kucoin.trading.modes import ByMode, Futures, Spot
from astra_kucoin.trading.rows import Notes
from astra_kucoin.trading.spot import SpotTrading
from astra_kucoin.trading.unified import UnifiedTrading


class KucoinVenue(FamilyVenue):
    """Both products of KuCoin, with the back ends of classic and of unified accounts."""

    code = "KUCOIN"
    settings_model: ClassVar[type[VenueSettings]] = KucoinSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {SPOT: Spot, FUTURES: Futures}
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
        self.tickets = Tickets(self.rest, self.markets, host.clock, settings.hosts.unified_private_stream)
        notes = Notes(REMEMBERED_PLACEMENTS, host.clock.monotonic)
        self.feed = KucoinFeed(settings, self.markets.peek_native, self.unknown_market, notes, self._key_of)
        self.by_mode: dict[str, ByMode] = {}
        for product in settings.products:
            api, by_mode = self.rest[product], Spot if product == SPOT else Futures
            classic = (SpotTrading if product == SPOT else FuturesTrading)(api, self.markets, settings, notes)
            unified = UnifiedTrading(self.rest.unified[product], self.markets, settings, notes)
            self.by_mode[product] = by_mode(api, self.markets, settings, notes).over(self.rest, classic, unified)
        self.parts = self.by_mode

    @hookimpl
    async def shutdown(self, host: Host) -> None:
        await self.rest.aclose()

    def venue_now_ms(self) -> int:
        return self.rest.spot.clock.now_ms()

    def product_now_ms(self, product: str) -> int:
        """Accounts that are unified never ask the host of futures for its time."""
        clock = self.rest[product].clock
        return (self.rest.spot.clock if clock.measured_at is None else clock).now_ms()

    async def load_markets(self, product: str) -> Sequence[Market]:
        return await load_markets(self.rest, product)

    def _key_of(self, product: str, credentials: Credentials) -> ApiKey:
        return self.rest[product].key(credentials)

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order] | None:
        """A unified account tells its open spot orders market by market: those where there were any lately are asked.
        Others that are known are looked up one by one."""
        part = await self.by_mode[product].part(credentials)
        if product != SPOT or not isinstance(part, UnifiedTrading):
            return await part.open_orders(None, credentials)
        found: list[Order] = []
        for symbol in self.account_watch.markets(credentials, product):
            found += await part.open_orders(await self.markets.get(symbol), credentials)
        return found

    def fill_key(self, fill: Fill) -> Hashable:
        """Both sides of a trade with oneself have the trade's id."""
        return fill.market, fill.id, fill.order_id
