"""The HTX plugin: spot, linear contracts, coin-margined swaps and futures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from astra.families import FamilyTrading, FamilyVenue
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions, OrderRequest
from astra.models.protocols import Host
from astra.trading.checks import ClientIdRule, ClientIdsUnique
from astra.venue import VenueSettings
from astra_htx.feed import HtxFeed
from astra_htx.feed.spot import SentOf
from astra_htx.history import History
from astra_htx.markets import load_markets
from astra_htx.rest import HtxRest, derivatives_limiter, spot_limiter
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, PRODUCTS, SPOT, HtxOrderOptions, HtxSettings
from astra_htx.tickets import Tickets
from astra_htx.trading.base import HtxTrading
from astra_htx.trading.coin import CoinTrading
from astra_htx.trading.linear import LinearTrading
from astra_htx.trading.spot import SpotTrading

INTEGER_ID = ClientIdRule(max_length=19, alphabet="0-9", integer=True, unique=ClientIdsUnique.WHILE_OPEN)


class HtxVenue(FamilyVenue):
    """All products of HTX. Each has an account of its own, which bears the product's name."""

    code = "HUOBI"
    settings_model: ClassVar[type[VenueSettings]] = HtxSettings
    products = PRODUCTS
    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {
        SPOT: SpotTrading,
        LINEAR: LinearTrading,
        COIN_SWAP: CoinTrading,
        COIN_FUTURES: CoinTrading,
    }
    order_options: ClassVar[type[OrderOptions] | None] = HtxOrderOptions
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        # The venue does not look whether it has seen an id before: a repeated placement is a second order.
        SPOT: ClientIdRule(max_length=64, alphabet="A-Za-z0-9_-", unique=ClientIdsUnique.NOT_ENFORCED),
        "default": INTEGER_ID,
    }
    account_products = PRODUCTS
    settings: HtxSettings
    history: History

    def __init__(self, host: Host, settings: HtxSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        derivatives = derivatives_limiter(self.code, host.clock)
        self.rests: dict[str, HtxRest] = {}
        parts: dict[str, HtxTrading] = {}
        for product in settings.products:
            limiter = spot_limiter(self.code, host.clock) if product == SPOT else derivatives
            rest = HtxRest(
                self.code, product, settings, limiter, host.clock, self.unknown_market, transport=http_transport
            )
            self.rests[product] = rest
            family = self.families[product]
            assert issubclass(family, HtxTrading)
            parts[product] = family(rest, self.markets, settings)
        self.parts = parts
        self.history = History(self.rests, host.clock)
        self.tickets = Tickets(self.rests, self.markets, self._spot_account)
        self.feed = HtxFeed(
            settings, self.markets.peek_native, self.unknown_market, self._key_of, self._distrust_clock, self._sent_of
        )

    def venue_now_ms(self) -> int:
        """By the clock of the product that was measured last: all run on one time."""
        clocks = [rest.clock for rest in self.rests.values()]
        return max(clocks, key=lambda clock: clock.measured_at or 0.0).now_ms()

    async def load_markets(self, product: str) -> Sequence[Market]:
        return await load_markets(self.rests[product], product)

    def fill_key(self, fill: Fill) -> Hashable:
        """Both sides of a trade with oneself have its id; and whether V5's trade ids differ for all fills of an order
        is not documented."""
        return fill.market, fill.order_id, fill.id, fill.price, fill.contracts or fill.quantity

    async def _spot_account(self, credentials: Credentials) -> str:
        spot = self.parts[SPOT]
        assert isinstance(spot, SpotTrading)
        return await spot.account_id(credentials)

    def _key_of(self, product: str, credentials: Credentials) -> ApiKey:
        return self.rests[product].key(credentials)

    def _distrust_clock(self, product: str) -> None:
        self.rests[product].distrust_clock()

    def _sent_of(self, credentials: Credentials) -> SentOf:
        def sent(client_order_id: str) -> OrderRequest | Order | None:
            spot = self.parts[SPOT]
            assert isinstance(spot, SpotTrading)
            return spot.conditional(credentials, client_order_id)

        return sent
