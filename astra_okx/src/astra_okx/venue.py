"""The OKX plugin: spot, swaps, futures and options over API v5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from astra.families import FamilyTrading, FamilyVenue
from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions, OrderRef
from astra.models.protocols import Host
from astra.streams.feed import Channel
from astra.trading.checks import ClientIdRule, ClientIdsUnique
from astra.venue import VenueSettings
from astra_okx.feed import OkxFeed
from astra_okx.history import History
from astra_okx.markets import load_markets
from astra_okx.rest import OkxRest
from astra_okx.settings import ALGO, PRODUCTS, TRADING, OkxOrderOptions, OkxSettings
from astra_okx.tickets import Clock
from astra_okx.trading.account import STAMP_WINDOW_MS, OkxTrading

MARGIN_MS = 2000


class OkxVenue(FamilyVenue):
    """All products of OKX: one API, one account.

    Conditional orders have a stream of their own (`algo`); orders, fills, balances and positions are those of the
    `trading` account.
    """

    code = "OKX"
    settings_model: ClassVar[type[VenueSettings]] = OkxSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = dict.fromkeys(PRODUCTS, OkxTrading)
    order_options: ClassVar[type[OrderOptions] | None] = OkxOrderOptions
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        # Enforced among pending orders only: after a fill the same id is taken again.
        "default": ClientIdRule(max_length=32, alphabet="A-Za-z0-9", unique=ClientIdsUnique.WHILE_OPEN),
    }
    account_products = (TRADING, ALGO)
    settings: OkxSettings
    history: History

    def __init__(self, host: Host, settings: OkxSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        self.rest = OkxRest(self.code, settings, host.clock, self.unknown_market, http_transport)
        self.account = OkxTrading(self.rest, self.markets, settings)
        self.parts = {TRADING: self.account}
        self.history = History(self.rest, host.clock)
        self.tickets = Clock(self.rest, self.markets)
        self.feed = OkxFeed(settings, self._market_of, self.unknown_market, self.rest.key, self.rest.distrust_clock)

    def venue_now_ms(self) -> int:
        return self.rest.clock.now_ms()

    def product_now_ms(self, product: str) -> int:
        return self.rest.clock.now_ms()

    def command_lifetime_s(self, market: Market) -> float:
        """Cancels carry no deadline: their time stamp bounds them."""
        return (STAMP_WINDOW_MS + MARGIN_MS) / 1000

    async def load_markets(self, product: str) -> Sequence[Market]:
        return await load_markets(self.rest, product)

    def _market_of(self, native_symbol: str) -> Market | None:
        """A native symbol is one market's, whatever the product."""
        found = (self.markets.peek_native(product, native_symbol) for product in self.settings.products)
        return next((market for market in found if market is not None), None)

    # -- what a stream of the account is compared with ------------------------------------------------------------

    def account_channels(self, credentials: Credentials) -> Sequence[Channel]:
        return super(FamilyVenue, self).account_channels(credentials)

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order] | None:
        look = self.account.open_conditional if product == ALGO else self.account.open_ordinary
        return await look(None, credentials)

    async def account_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return await self.account.told(market, ref, credentials)

    async def account_balances(self, product: str, credentials: Credentials) -> Sequence[Balance] | None:
        return None if product == ALGO else await self.account.balances(credentials)

    async def account_positions(self, product: str, credentials: Credentials) -> Sequence[Position] | None:
        return None if product == ALGO else await self.account.positions(credentials)

    async def account_fills(
        self, product: str, market: Market | None, since: int, credentials: Credentials
    ) -> Sequence[Fill]:
        return () if product == ALGO else await self.account.fills(market, since, None, credentials)
