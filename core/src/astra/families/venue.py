"""A venue made of families: orders go to the family of their market, questions about an account to all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Protocol, TypeVar

import anyio

from astra.errors import (
    AstraError,
    AuthenticationError,
    Outcome,
    PermissionDenied,
    StreamClosed,
    UnsupportedOperation,
    VenueError,
)
from astra.families.trading import (
    HOOKS,
    RESOLVE_MARGIN_MS,
    FamilyTrading,
    in_order,
    named,
    offers,
    raise_gravest,
)
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import Orderbook
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
)
from astra.models.protocols import Host
from astra.net.clock import VenueClock
from astra.net.http import AnswerLost
from astra.net.ratelimit import RateLimiter
from astra.streams.feed import Channel, HistorySource
from astra.venue import AccountStreamingVenue, MarketTable, VenueSettings

logger = logging.getLogger("astra.venue")

T = TypeVar("T")


def _lifetime_s(window_ms: int | None) -> float | None:
    return None if window_ms is None else (window_ms + RESOLVE_MARGIN_MS) / 1000


class OrderbookSource(HistorySource, Protocol):
    """What a venue's `history` serves: the engine, and callers who want one snapshot."""

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side, or as many as the venue gives."""
        ...


class FamilySettings(VenueSettings):
    """Settings of a venue with families; a venue narrows `products` to a tuple of its own names."""

    products: tuple[str, ...] = ()
    """The products to serve. Leave out what your region or your keys have no access to."""


class FamilyVenue(AccountStreamingVenue):
    """A venue made of families.

    A subclass sets `families` (product -> class of the family that trades it), implements `load_markets`, and in its
    constructor sets `parts` (the running families by the name that account streams and keys know them by) beside
    `feed` and `history`. `history.orderbook(market, depth)` serves single snapshots.

    A hook that no family offers is none of the venue's. One that a family serves differently (a mode that several
    families share) is overridden.
    """

    families: ClassVar[Mapping[str, type[FamilyTrading]]] = {}
    settings: FamilySettings
    parts: Mapping[str, FamilyTrading]
    history: OrderbookSource
    _trading: Mapping[str, FamilyTrading] | None = None

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        classes = set(cls.families.values())
        cls.fills_need_market = any(family.fills_by_market for family in classes)
        for hook, method in HOOKS.items():
            if not classes or hook in cls.__dict__:
                continue
            # What a class above serves itself stands, whatever its families offer.
            served = next(served for base in cls.__mro__ if (served := base.__dict__.get(hook)) is not None)
            offered = served is not FamilyVenue.__dict__[hook] or any(offers(family, method) for family in classes)
            setattr(cls, hook, served if offered else None)  # pluggy takes what is no routine for no hook

    @classmethod
    def offers(cls) -> Mapping[str, Sequence[str]]:
        """Product -> the hooks that work for its markets (account-wide ones: that include the product)."""
        public = [hook for hook in ("get_orderbook", "stream_orderbook", "stream_trades") if getattr(cls, hook, None)]
        found: dict[str, Sequence[str]] = {}
        for product, family in cls.families.items():
            trading = [
                hook
                for hook, method in HOOKS.items()
                if getattr(cls, hook) and offers(family, method) and method not in family.lacks.get(product, ())
            ]
            streams = ["stream_account"] if cls.account_products else []
            found[product] = [*public, *trading, *streams]
        return found

    def __init__(self, host: Host, settings: FamilySettings) -> None:
        super().__init__(host, settings)
        self._listed: dict[str, Sequence[Market]] = {}

    @property
    def trading(self) -> Mapping[str, FamilyTrading]:
        """The family that trades each product."""
        if self._trading is None:
            self._trading = {product: part for part in self.parts.values() for product in part.products}
        return self._trading

    @property
    def venue_clocks(self) -> Mapping[str, VenueClock]:
        return {name: part.rest.clock for name, part in self.parts.items()}

    @property
    def rate_limiters(self) -> Mapping[str, RateLimiter]:
        named: dict[str, RateLimiter] = {}
        for name, part in self.parts.items():
            if not any(part.rest.limiter is known for known in named.values()):
                named[name] = part.rest.limiter
        return named

    def account_channels(self, credentials: Credentials) -> Sequence[Channel]:
        return [channel for channel in super().account_channels(credentials) if channel.product in self.parts]

    @hookimpl
    async def shutdown(self, host: Host) -> None:
        for part in self.parts.values():
            await part.rest.aclose()

    # -- public data --------------------------------------------------------------------------------------------

    async def load_markets(self, product: str) -> Sequence[Market]:
        """The markets of a product, from the venue."""
        raise NotImplementedError

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        """The markets of all products, read at the same time.

        A product that fails keeps the markets it had, with a warning: the others must not go stale because of it. One
        that never was read fails the whole call, because its markets would be missing without a word; who has no
        access to it leaves it out of the setting `products`.
        """
        loaded, failures = await self.everywhere(self.settings.products, self.load_markets)
        self._listed.update(loaded)
        for product, error in failures.items():
            if product not in self._listed:
                leave_out = "(the setting `products` can leave them out)"
                raise named(error, f"the {product} markets could not be read {leave_out}: {error.message}")
            logger.warning("%s: the %s markets are those of an earlier time: %s", self.code, product, error)
        return [market for product in self.settings.products for market in self._listed[product]]

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int) -> Orderbook:
        return await self.history.orderbook(market, depth)

    def unknown_market(self) -> None:
        """The venue named a market that the list lacks, or does not know one that it has: listings changed."""
        self.host.start_soon(self._reload, name="reload markets")

    async def _reload(self) -> None:
        try:
            await self.markets.refresh(MarketTable.UNKNOWN_RELOAD_S)
        except (VenueError, StreamClosed) as error:
            logger.warning("%s: the market list could not be loaded: %s", self.code, error)

    # -- orders -------------------------------------------------------------------------------------------------

    def family_of(self, market: Market) -> FamilyTrading:
        """The family that trades the market."""
        return self.trading[market.product]

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        return await self.family_of(market).place(market, self.identified(market, order), credentials)

    @hookimpl
    async def place_orders(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Family by family. What a family does not take in batches is refused before any is sent; one that fails after
        that has its failure at its own places, and the others are sent."""
        orders = [(market, self.identified(market, order)) for market, order in orders]
        by_family: dict[FamilyTrading, list[int]] = {}
        for place, (market, _) in enumerate(orders):
            by_family.setdefault(self.family_of(market), []).append(place)
        for family, places in by_family.items():
            family.check_batch([orders[place][1] for place in places])

        def ref(place: int) -> tuple[Market, OrderRef]:
            market, order = orders[place]
            return market, OrderRef(client_order_id=order.client_order_id)

        async def send(family: FamilyTrading, places: Sequence[int]) -> Sequence[Order | Exception]:
            return await family.place_batch([orders[place] for place in places], credentials)

        return await self._part_by_part("place_orders", by_family.items(), send, ref)

    @hookimpl
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return await self.family_of(market).get(market, ref, credentials)

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return await self.family_of(market).cancel(market, ref, credentials)

    @hookimpl
    async def cancel_orders(
        self, refs: Sequence[tuple[Market, OrderRef]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Market by market. A family that has no batches refuses before any is sent; a market that fails after that has
        its failure at its own places, and the others are sent."""
        by_market: dict[str, list[int]] = {}
        for place, (market, _) in enumerate(refs):
            self.family_of(market).check_cancel_batch()
            by_market.setdefault(market.symbol, []).append(place)

        async def send(family: FamilyTrading, places: Sequence[int]) -> Sequence[Order | Exception]:
            return await family.cancel_batch(refs[places[0]][0], [refs[place][1] for place in places], credentials)

        parts = [(self.family_of(refs[places[0]][0]), places) for places in by_market.values()]
        return await self._part_by_part("cancel_orders", parts, send, lambda place: refs[place])

    async def _part_by_part(
        self,
        operation: str,
        parts: Iterable[tuple[FamilyTrading, Sequence[int]]],
        send: Callable[[FamilyTrading, Sequence[int]], Awaitable[Sequence[Order | Exception]]],
        order_at: Callable[[int], tuple[Market, OrderRef]],
    ) -> Sequence[Order | Exception]:
        """The answers to a batch that is sent in parts, each a family and the places of its orders in the batch.

        What a part fails with stands at its places, because another part may have been carried out; a failure that
        does not tell whether the part was is an unknown outcome of each of its orders. A batch of which every part was
        refused is refused.
        """
        results: dict[int, Order | Exception] = {}
        refusals: list[AstraError] = []
        carried_out = False
        for family, places in parts:
            answers: Sequence[Order | Exception]
            try:
                answers = await send(family, places)
                if len(answers) != len(places):
                    raise ValueError(f"{len(answers)} answers to {len(places)} orders")
                carried_out = True
            except AstraError as error:
                if isinstance(error, VenueError) and error.outcome is Outcome.UNKNOWN:
                    answers = [family.unknown(operation, *order_at(place), error) for place in places]
                    carried_out = True
                else:
                    answers = [error] * len(places)
                    refusals.append(error)
            except Exception as error:
                logger.exception("%s: %s failed in %s", self.code, operation, family.title)
                lost = AnswerLost(f"{operation} failed in the plugin ({type(error).__name__})")
                answers = [family.unknown(operation, *order_at(place), lost) for place in places]
                carried_out = True
            results.update(zip(places, answers, strict=True))
        if refusals and not carried_out:
            raise refusals[0]
        return [results[place] for place in sorted(results)]

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        return await self.family_of(market).amend(market, ref, change, credentials)

    @hookimpl
    async def cancel_all_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """In one market, or (None) everywhere. All families are gone through before the gravest failure is raised; that
        the key has no access to a family is one."""
        if market is not None:
            return await self.family_of(market).cancel_all(market, credentials)
        found, failures = await self.everywhere(
            self.accessible(credentials), lambda name: self.parts[name].cancel_everywhere(credentials)
        )
        raise_gravest(
            named(error, f"the {name} orders could not (all) be canceled: {error.message}")
            for name, error in failures.items()
        )
        return [order for orders in found.values() for order in orders]

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        if market is not None:
            return await self.family_of(market).open_orders(market, credentials)
        return await self.across("open_orders", credentials, lambda family: family.open_orders(None, credentials))

    @hookimpl
    async def list_fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        self._need(market, "fills", "fills_by_market")
        if market is not None:
            return await self.family_of(market).fills(market, since, limit, credentials)
        found = in_order(
            await self.across("fills", credentials, lambda family: family.fills(None, since, limit, credentials))
        )
        if limit is None:
            return found
        return found[-limit:] if since is None else found[:limit]

    @hookimpl
    async def resolve_order(
        self, market: Market, client_order_id: str, since: int, credentials: Credentials
    ) -> Order | bool:
        return await self.family_of(market).resolve(market, client_order_id, since, credentials)

    def command_lifetime_s(self, market: Market) -> float | None:
        """The window that every command carries, and a margin for clocks."""
        return _lifetime_s(self.family_of(market).command_window_ms)

    def operation_lifetime_s(self, market: Market, operation: str) -> float | None:
        """As the family says it of the operation, where that is not what it says of commands as such."""
        family = self.family_of(market)
        window_ms = family.command_window_of(operation)
        return self.command_lifetime_s(market) if window_ms == family.command_window_ms else _lifetime_s(window_ms)

    @hookimpl
    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of one market, or (None) of every family that has such a timer."""
        self._need(market, "a dead-man timer", "timer_by_market")
        if market is not None:
            await self.family_of(market).keep_alive_orders(market, timeout_s, credentials)
            return
        await self._each_that_offers(
            "keep_alive_orders", credentials, lambda family: family.keep_alive_orders(None, timeout_s, credentials)
        )

    # -- the account --------------------------------------------------------------------------------------------

    @hookimpl
    async def get_balances(self, credentials: Credentials) -> Sequence[Balance]:
        return await self.across("balances", credentials, lambda family: family.balances(credentials))

    @hookimpl
    async def get_positions(self, credentials: Credentials) -> Sequence[Position]:
        return await self.across("positions", credentials, lambda family: family.positions(credentials))

    @hookimpl
    async def get_fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        self._need(market, "fee rates", "fees_by_market")
        if market is not None:
            return await self.family_of(market).fees(market, credentials)
        return await self.across("fees", credentials, lambda family: family.fees(None, credentials))

    @hookimpl
    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        await self.family_of(market).set_leverage(market, leverage, credentials)

    @hookimpl
    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        await self.family_of(market).set_margin_mode(market, mode, credentials)

    @hookimpl
    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        """Of every family that has such a mode."""
        await self._each_that_offers(
            "set_position_mode", credentials, lambda family: family.set_position_mode(hedge, credentials)
        )

    # -- what a stream of the account is compared with ------------------------------------------------------------

    def product_now_ms(self, product: str) -> int:
        return self.parts[product].rest.clock.now_ms()

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order] | None:
        part = self.parts[product]
        return await part.open_orders(None, credentials) if offers(type(part), "open_orders") else None

    async def account_balances(self, product: str, credentials: Credentials) -> Sequence[Balance] | None:
        part = self.parts[product]
        return await part.balances(credentials) if offers(type(part), "balances") else None

    async def account_positions(self, product: str, credentials: Credentials) -> Sequence[Position] | None:
        part = self.parts[product]
        return await part.positions(credentials) if offers(type(part), "positions") else None

    async def account_fills(
        self, product: str, market: Market | None, since: int, credentials: Credentials
    ) -> Sequence[Fill]:
        part = self.parts[product]
        return await part.fills(market, since, None, credentials) if offers(type(part), "fills") else ()

    # -- tools --------------------------------------------------------------------------------------------------

    def denied(self, error: VenueError) -> bool:
        """Does the error say that the key has no access to the family?"""
        return isinstance(error, PermissionDenied)

    def _need(self, market: Market | None, what: str, by_market: str) -> None:
        if market is None and any(getattr(part, by_market) for part in self.parts.values()):
            raise UnsupportedOperation(f"{self.code} has {what} per market only: name a market", exchange=self.code)

    def identified(self, market: Market, order: OrderRequest) -> OrderRequest:
        """With a client order id, without which a lost answer could not be resolved."""
        rule = self.client_id_rule(market)
        if order.client_order_id is not None or rule is None:
            return order
        made = rule.make(self.host.astra.random, self.clock.wall_ns() // 1_000_000)
        return order.model_copy(update={"client_order_id": made})

    def accessible(self, credentials: Credentials) -> Sequence[str]:
        """The parts for which the account has a key."""
        names = [name for name, part in self.parts.items() if credentials.key_for(part.rest.product) is not None]
        if not names:
            raise AuthenticationError(
                f"account {credentials.account!r} has no API key for any of {', '.join(self.parts)}",
                exchange=self.code,
            )
        return names

    async def across(
        self, method: str, credentials: Credentials, ask: Callable[[FamilyTrading], Awaitable[Sequence[T]]]
    ) -> Sequence[T]:
        """What all families say that offer the method. A key that works for one family and is denied by another has no
        permission there (some must be switched on): that family is left out, with a warning."""
        found, failures = await self.everywhere(
            self._those_that_offer(method, credentials), lambda name: ask(self.parts[name])
        )
        for name, error in failures.items():
            same_key = any(credentials.key_for(name) == credentials.key_for(other) for other in found)
            if not (self.denied(error) and same_key):
                raise named(error, f"{name} did not answer: {error.message}")
            logger.warning("%s: account %r has no access to %s: %s", self.code, credentials.account, name, error)
        return [row for rows in found.values() for row in rows]

    async def _each_that_offers(
        self, method: str, credentials: Credentials, ask: Callable[[FamilyTrading], Awaitable[None]]
    ) -> None:
        those = self._those_that_offer(method, credentials)
        _, failures = await self.everywhere(those, lambda name: ask(self.parts[name]))
        for name, error in failures.items():
            raise named(error, f"{method} failed for {name}: {error.message}")

    def _those_that_offer(self, method: str, credentials: Credentials) -> Sequence[str]:
        those = [name for name in self.accessible(credentials) if offers(type(self.parts[name]), method)]
        if not those:
            raise UnsupportedOperation(
                f"{method}: the account has no key for a product that offers it (or they are left out of `products`)",
                exchange=self.code,
            )
        return those

    async def everywhere(
        self, names: Sequence[str], ask: Callable[[str], Awaitable[T]]
    ) -> tuple[Mapping[str, T], Mapping[str, VenueError]]:
        """Ask at the same time: the answers by name, and the errors of those that failed."""
        found: dict[str, T] = {}
        failures: dict[str, VenueError] = {}
        others: list[AstraError] = []

        async def one(name: str) -> None:
            try:
                found[name] = await ask(name)
            except VenueError as error:
                failures[name] = error
            except AstraError as error:
                others.append(error)  # raised outside of the task group, which would wrap it

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(one, name)
        if others:
            raise others[0]
        return {name: found[name] for name in names if name in found}, failures
