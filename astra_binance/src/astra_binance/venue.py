"""The Binance plugin: Spot, USD-M and COIN-M futures, European options."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import anyio

from astra.errors import (
    AstraError,
    AuthenticationError,
    PermissionDenied,
    StreamClosed,
    UnsupportedOperation,
    VenueError,
)
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderOptions, OrderRef, OrderRequest
from astra.models.protocols import Host
from astra.net.clock import VenueClock
from astra.net.ratelimit import RateLimiter
from astra.streams.feed import Channel
from astra.trading.checks import ClientIdRule
from astra.venue import AccountStreamingVenue, MarketTable, VenueSettings
from astra_binance.feed import BinanceFeed
from astra_binance.history import History
from astra_binance.markets import load_markets
from astra_binance.rest import Rest
from astra_binance.settings import COINM, OPTIONS, PRODUCTS, SPOT, USDM, BinanceOrderOptions, BinanceSettings
from astra_binance.trading.base import RESOLVE_MARGIN_MS, FamilyTrading
from astra_binance.trading.futures import FuturesTrading
from astra_binance.trading.listen_keys import ListenKeys
from astra_binance.trading.options import OptionsTrading
from astra_binance.trading.spot import SpotTrading

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRADING: Mapping[str, type[FamilyTrading]] = {
    SPOT: SpotTrading,
    USDM: FuturesTrading,
    COINM: FuturesTrading,
    OPTIONS: OptionsTrading,
}
NO_ACCESS = "-2015"
"""Bad key, address not listed, or no permission: the venue does not say which."""


class BinanceVenue(AccountStreamingVenue):
    """All four API families of Binance."""

    code = "BINANCE"
    settings_model: ClassVar[type[VenueSettings]] = BinanceSettings
    products = PRODUCTS
    order_options: ClassVar[type[OrderOptions] | None] = BinanceOrderOptions
    client_ids: ClassVar[Mapping[str, ClientIdRule]] = {
        "default": ClientIdRule(max_length=36, alphabet=".A-Z:/a-z0-9_-"),
    }
    account_products = PRODUCTS
    fills_need_market = True
    settings: BinanceSettings
    history: History

    def __init__(self, host: Host, settings: BinanceSettings, *, http_transport: Any = None) -> None:
        super().__init__(host, settings)
        self.rest = Rest(self.code, settings, host.clock, self._unknown_market, http_transport)
        self.history = History(self.rest, settings, host.clock)
        self.tickets = ListenKeys(self.rest, self.markets)
        self.feed = BinanceFeed(settings, self.rest, self.markets.peek_native, self._unknown_market)
        self.trading: dict[str, FamilyTrading] = {
            product: _TRADING[product](self.rest[product], self.markets) for product in settings.products
        }
        self._listed: dict[str, Sequence[Market]] = {}

    @property
    def venue_clocks(self) -> Mapping[str, VenueClock]:
        return {product: family.clock for product, family in self.rest.families.items()}

    @property
    def rate_limiters(self) -> Mapping[str, RateLimiter]:
        return {name: pool.limiter for name, pool in self.rest.pools.items()}

    def venue_now_ms(self) -> int:
        """Spot's time: its account stream is the only one that is signed."""
        family = self.rest.families.get(SPOT)
        return super().venue_now_ms() if family is None else family.clock.now_ms()

    def account_channels(self, credentials: Credentials) -> Sequence[Channel]:
        channels = super().account_channels(credentials)
        return [channel for channel in channels if channel.product in self.settings.products]

    @hookimpl
    async def shutdown(self, host: Host) -> None:
        await self.rest.aclose()

    # -- public data --------------------------------------------------------------------------------------------

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        """The markets of all families, read at the same time.

        A family that fails keeps the markets it had, with a warning: the others must not go stale because of it. One
        that never was read fails the whole call, because its markets would be missing without a word; who has no
        access to it leaves it out of the setting `products`.
        """
        loaded, failures = await self._everywhere(self.settings.products, lambda p: load_markets(self.rest[p]))
        self._listed.update(loaded)
        for product, error in failures.items():
            if product not in self._listed:
                raise _named(
                    error, f"the {product} markets could not be read (the setting `products` can leave them out)"
                )
            logger.warning("BINANCE: the %s markets are those of an earlier time: %s", product, error)
        return [market for product in self.settings.products for market in self._listed[product]]

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        return await self.history.orderbook(market, depth)

    def _unknown_market(self) -> None:
        """The venue named a market that the list lacks, or does not know one that it has: listings changed."""
        self.host.start_soon(self._reload, name="reload markets")

    async def _reload(self) -> None:
        try:
            await self.markets.refresh(MarketTable.UNKNOWN_RELOAD_S)
        except (VenueError, StreamClosed) as error:
            logger.warning("BINANCE: the market list could not be loaded: %s", error)

    # -- orders -------------------------------------------------------------------------------------------------

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        return await self._of(market).place(market, self._identified(market, order), credentials)

    @hookimpl
    async def place_orders(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        orders = [(market, self._identified(market, order)) for market, order in orders]
        by_product: dict[str, list[int]] = {}
        for place, (market, _) in enumerate(orders):
            by_product.setdefault(market.product, []).append(place)
        for product, places in by_product.items():
            self.trading[product].check_batch([orders[place][1] for place in places])
        results: dict[int, Order | Exception] = {}
        for product, places in by_product.items():
            answers = await self.trading[product].place_batch([orders[place] for place in places], credentials)
            results.update(zip(places, answers, strict=True))
        return [results[place] for place in range(len(orders))]

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return await self._of(market).get(market, ref, credentials)

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return await self._of(market).cancel(market, ref, credentials)

    @hookimpl
    async def cancel_orders(
        self, refs: Sequence[tuple[Market, OrderRef]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Market by market, as the venue takes them. A family that has no batches refuses before any is sent."""
        by_market: dict[str, list[int]] = {}
        for place, (market, _) in enumerate(refs):
            self._of(market).check_cancel_batch()
            by_market.setdefault(market.symbol, []).append(place)
        results: dict[int, Order | Exception] = {}
        for places in by_market.values():
            market = refs[places[0]][0]
            few = [refs[place][1] for place in places]
            results.update(zip(places, await self._of(market).cancel_batch(market, few, credentials), strict=True))
        return [results[place] for place in range(len(refs))]

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        return await self._of(market).amend(market, ref, change, credentials)

    @hookimpl
    async def cancel_all_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """In one market, or (None) in every market that has open orders. All families are gone through before the
        first failure is raised; a family that the key has no access to is one."""
        if market is not None:
            return await self._of(market).cancel_all(market, credentials)

        async def cancel_family(product: str) -> Sequence[Order]:
            trading = self.trading[product]
            canceled: list[Order] = []
            symbols = dict.fromkeys(order.market for order in await trading.open_orders(None, credentials))
            failure: VenueError | None = None
            for symbol in symbols:
                try:
                    canceled += await trading.cancel_all(await self.markets.get(symbol), credentials)
                except VenueError as error:
                    failure = failure or error
            if failure is not None:
                raise failure
            return canceled

        found, failures = await self._everywhere(self._accessible(credentials), cancel_family)
        for product, error in failures.items():
            raise _named(error, f"the {product} orders could not (all) be canceled")
        return [order for orders in found.values() for order in orders]

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        if market is not None:
            return await self._of(market).open_orders(market, credentials)
        return await self._across(credentials, lambda trading: trading.open_orders(None, credentials))

    @hookimpl
    async def list_fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        one = self._one(market, "fills")
        return await self._of(one).fills(one, since, limit, credentials)

    @hookimpl
    async def resolve_order(
        self, market: Market, client_order_id: str, since: int, credentials: Credentials
    ) -> Order | bool:
        return await self._of(market).resolve(market, client_order_id, since, credentials)

    def command_lifetime_s(self, market: Market) -> float:
        """The receive window that every command carries, and a margin for clocks."""
        return (self.settings.recv_window_ms + RESOLVE_MARGIN_MS) / 1000

    @hookimpl
    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        one = self._one(market, "a dead-man timer")
        await self._of(one).keep_alive_orders(one, timeout_s, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    @hookimpl
    async def get_balances(self, credentials: Credentials) -> Sequence[Balance]:
        return await self._across(credentials, lambda trading: trading.balances(credentials))

    @hookimpl
    async def get_positions(self, credentials: Credentials) -> Sequence[Position]:
        return await self._across(credentials, lambda trading: trading.positions(credentials))

    @hookimpl
    async def get_fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        one = self._one(market, "fee rates")
        return await self._of(one).fees(one, credentials)

    @hookimpl
    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        await self._of(market).set_leverage(market, leverage, credentials)

    @hookimpl
    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        await self._of(market).set_margin_mode(market, mode, credentials)

    @hookimpl
    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        """One mode holds for USD-M and COIN-M together."""
        for product in (USDM, COINM):
            if product in self.trading and credentials.key_for(product) is not None:
                await self.trading[product].set_position_mode(hedge, credentials)
                return
        raise UnsupportedOperation(
            "a position mode concerns futures, for which there is no key (or which are left out of `products`)",
            exchange=self.code,
        )

    # -- what a stream of the account is compared with ------------------------------------------------------------

    def product_now_ms(self, product: str) -> int:
        return self.rest[product].clock.now_ms()

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order]:
        return await self.trading[product].open_orders(None, credentials)

    async def account_balances(self, product: str, credentials: Credentials) -> Sequence[Balance]:
        return await self.trading[product].balances(credentials)

    async def account_positions(self, product: str, credentials: Credentials) -> Sequence[Position]:
        return await self.trading[product].positions(credentials)

    # -- tools --------------------------------------------------------------------------------------------------

    def _of(self, market: Market) -> FamilyTrading:
        return self.trading[market.product]

    def _one(self, market: Market | None, what: str) -> Market:
        if market is None:
            raise UnsupportedOperation(f"Binance has {what} per market only: name a market", exchange=self.code)
        return market

    def _identified(self, market: Market, order: OrderRequest) -> OrderRequest:
        """With a client order id, without which a lost answer could not be resolved."""
        if order.client_order_id is not None:
            return order
        rule = self.client_ids["default"]
        made = rule.make(self.host.astra.random, self.clock.wall_ns() // 1_000_000)
        return order.model_copy(update={"client_order_id": made})

    def _accessible(self, credentials: Credentials) -> Sequence[str]:
        """The families for which the account has a key."""
        products = [product for product in self.trading if credentials.key_for(product) is not None]
        if not products:
            raise AuthenticationError(
                f"account {credentials.account!r} has no API key for any of {', '.join(self.trading)}",
                exchange=self.code,
            )
        return products

    async def _across(
        self, credentials: Credentials, ask: Callable[[FamilyTrading], Awaitable[Sequence[T]]]
    ) -> Sequence[T]:
        """What all families say. A key that works for one family and is denied by another has no permission there
        (futures and options must be switched on for it): that family is left out, with a warning."""
        found, failures = await self._everywhere(self._accessible(credentials), lambda p: ask(self.trading[p]))
        for product, error in failures.items():
            denied = isinstance(error, PermissionDenied) or error.code == NO_ACCESS
            same_key = any(credentials.key_for(product) == credentials.key_for(other) for other in found)
            if not (denied and same_key):
                raise _named(error, f"{product} did not answer")
            logger.warning("BINANCE: account %r has no access to %s: %s", credentials.account, product, error)
        return [row for rows in found.values() for row in rows]

    async def _everywhere(
        self, products: Sequence[str], ask: Callable[[str], Awaitable[T]]
    ) -> tuple[Mapping[str, T], Mapping[str, VenueError]]:
        """Ask several families at the same time: their answers, and the errors of those that failed."""
        found: dict[str, T] = {}
        failures: dict[str, VenueError] = {}
        others: list[AstraError] = []

        async def one(product: str) -> None:
            try:
                found[product] = await ask(product)
            except VenueError as error:
                failures[product] = error
            except AstraError as error:
                others.append(error)  # raised outside of the task group, which would wrap it

        async with anyio.create_task_group() as tasks:
            for product in products:
                tasks.start_soon(one, product)
        if others:
            raise others[0]
        return {product: found[product] for product in products if product in found}, failures


def _named(error: VenueError, what: str) -> VenueError:
    """The same error, saying which part of a call over all families failed."""
    error.args = (f"{what}: {error.message}",)
    error.message = f"{what}: {error.message}"
    return error
