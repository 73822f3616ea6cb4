"""The risk limits round every venue: what breaks one is refused before it is sent; cancels always pass."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from astra.directory import canonical_exchange, known_venues
from astra.errors import (
    AstraError,
    BadRequest,
    ConfigError,
    MarketNotFound,
    OrderNotFound,
    Outcome,
    PluginError,
    VenueError,
    hint,
)
from astra.hookspecs import hookimpl
from astra.middleware import checked_before_sending
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import MarginMode, Order, OrderChange, OrderRef, OrderRequest, OrderStatus
from astra.models.protocols import Host
from astra.symbols import expiry_ms
from astra.trading.checks import check_change, check_order
from astra_risk.account import Account
from astra_risk.books import Books
from astra_risk.checks import (
    check_leverage,
    check_order_limits,
    check_rate,
    check_shared_limits,
    limit_that_needs_book,
    limit_that_needs_walk,
    not_known,
)
from astra_risk.errors import LimitExceeded, MarketNotAllowed
from astra_risk.intent import Intent, of_change, of_request
from astra_risk.ledger import Reservation
from astra_risk.scope import POSITION_LIMITS, RATE_LIMITS, READ_FROM_LEDGER, SECTION, Scope, Scopes
from astra_risk.settings import RiskSettings
from astra_risk.switch import KillSwitch
from astra_risk.valuation import Prices, Walk, is_walked, walk

if TYPE_CHECKING:
    from astra.app import Astra

logger = logging.getLogger("astra.risk")

LONGEST_WINDOW_S = max(RATE_LIMITS.values())
KEPT_ACCOUNTS = 1000
"""Accounts remembered at most, those with something under way aside."""
MEASURED = (
    "max_order_quantity",
    "max_order_contracts",
    "max_order_notional",
    "max_price_distance_percent",
    *sorted(POSITION_LIMITS),
)
"""Limits for which an order's own size and price must be known."""


class Risk:
    """Limits on orders, positions and rates, and a kill switch.

    Configured in `[middleware.risk]`, see `astra_risk.settings.RiskSettings`. Every limit that applies must hold, or
    the order is refused with `LimitExceeded` (an `InvalidOrder`); what cannot be measured is refused, too. An order is
    counted before it is sent, so that two that race cannot both take what is left for one.
    """

    api_version = "1.0"
    settings_model: ClassVar[type[RiskSettings]] = RiskSettings

    def __init__(self, host: Host, settings: RiskSettings) -> None:
        self.settings = settings
        self._host = host
        self._switch = KillSwitch(halted=settings.halted, file=settings.kill_switch_file)
        self._scopes = Scopes(settings)
        self._uses_ledger = self._scopes.uses_ledger
        self._books = Books(host, settings)
        self._accounts: OrderedDict[tuple[Any, ...], Account] = OrderedDict()
        self._known: set[str] = set()
        """Exchanges of which it is known under which symbols they have the markets that settings name."""

    @classmethod
    def of(cls, astra: Astra) -> Risk:
        """The limits at work in an `Astra` object. Raises `PluginError` where the configuration names none."""
        found = astra.hooks.get_plugin("middleware risk")
        if not isinstance(found, Risk):
            raise PluginError('risk is not among the active middleware: add it to middleware.order = ["risk"]')
        return found

    # -- the kill switch --------------------------------------------------------------------------------------------

    def halt(self, reason: str) -> None:
        """From now on nothing but cancels passes."""
        self._switch.halt(reason)
        logger.warning("trading is halted: %s", reason)

    def resume(self) -> None:
        """Take back `halt`. The setting `halted` and the kill switch's file stand on their own."""
        self._switch.resume()
        logger.warning("trading is no longer halted by halt()%s", " (but otherwise)" if self.is_halted else "")

    @property
    def is_halted(self) -> bool:
        """Is the kill switch on, whatever turned it?"""
        return self._switch.cause() is not None

    @hookimpl
    async def startup(self) -> None:
        known = {*self._host.astra.exchanges(), *known_venues()}
        for code, key in self.settings.named_exchanges():
            if code not in known:
                raise ConfigError(f"{SECTION}.{key}: no exchange is called {code}.{hint(code, known)}")
        cause = self._switch.cause()
        if cause is not None:
            logger.warning("trading is halted from the start (%s): %s", *cause)

    # -- orders -----------------------------------------------------------------------------------------------------

    async def place_order(
        self, call: Callable[..., Awaitable[Order]], market: Market, order: OrderRequest, credentials: Credentials
    ) -> Order:
        reservation = await self._admit_order(market, order, credentials)
        return await self._sent(call, (market, order, credentials), reservation, credentials)

    async def place_orders(
        self,
        call: Callable[..., Awaitable[Sequence[Order | Exception]]],
        orders: Sequence[tuple[Market, OrderRequest]],
        credentials: Credentials,
    ) -> Sequence[Order | Exception]:
        """Each order is measured with those before it counted; a refusal stands in its place, the others are sent."""
        answers: dict[int, Order | Exception] = {}
        admitted: list[tuple[int, Reservation | None]] = []
        try:
            for place, (market, order) in enumerate(orders):
                try:
                    admitted.append((place, await self._admit_order(market, order, credentials)))
                except AstraError as error:
                    answers[place] = error
            if admitted:
                self._switch.check(credentials.exchange)
        except BaseException:
            for _, reservation in admitted:
                self._release(reservation, credentials)
            raise
        if not admitted:
            return [answers[place] for place in sorted(answers)]
        try:
            with checked_before_sending(partial(self._switch.check, credentials.exchange)):
                placed = await call([orders[place] for place, _ in admitted], credentials)
        except BaseException as error:
            for _, reservation in admitted:
                self._failed(reservation, error, credentials)
            raise
        if len(placed) != len(admitted):
            mismatch = ValueError(f"{len(placed)} answers to {len(admitted)} orders")
            for _, reservation in admitted:
                self._failed(reservation, mismatch, credentials)
            raise mismatch
        for (place, reservation), answer in zip(admitted, placed, strict=True):
            answers[place] = answer
            self._answered(reservation, answer, credentials)
        return [answers[place] for place in sorted(answers)]

    async def amend_order(
        self,
        call: Callable[..., Awaitable[Order]],
        market: Market,
        ref: OrderRef,
        change: OrderChange,
        credentials: Credentials,
    ) -> Order:
        await self._know_names(market.exchange)
        self._check_allowed(market)
        check_change(market, change)
        scope = self._scope(market, credentials)
        intent = None
        if self._uses_ledger or scope.has(MEASURED):
            intent = of_change(market, await self._amended(market, ref, scope, credentials), change)
            if intent is None and scope.has(MEASURED):
                raise not_known(market, scope.of(*MEASURED)[0], "the order's size", "the venue does not say it")
        if intent is not None:
            reservation = await self._admit(intent, scope, credentials)
        else:
            reservation = None
            self._count(self._account(credentials), market, scope)
        return await self._sent(call, (market, ref, change, credentials), reservation, credentials)

    async def set_leverage(
        self, call: Callable[..., Awaitable[None]], market: Market, leverage: Decimal, credentials: Credentials
    ) -> None:
        await self._know_names(market.exchange)
        self._check_allowed(market)
        check_leverage(market, leverage, self._scope(market, credentials))
        await call(market, leverage, credentials)

    async def set_margin_mode(
        self, call: Callable[..., Awaitable[None]], market: Market, mode: MarginMode, credentials: Credentials
    ) -> None:
        await self._know_names(market.exchange)
        self._check_allowed(market)
        await call(market, mode, credentials)

    async def set_position_mode(
        self, call: Callable[..., Awaitable[None]], hedge: bool, credentials: Credentials
    ) -> None:
        self._switch.check(credentials.exchange)
        await call(hedge, credentials)

    # -- what passes by, and tells where an order stands ---------------------------------------------------------------

    async def cancel_order(
        self, call: Callable[..., Awaitable[Order]], market: Market, ref: OrderRef, credentials: Credentials
    ) -> Order:
        order = await call(market, ref, credentials)
        self._observe(order, credentials)
        return order

    async def cancel_all_orders(
        self, call: Callable[..., Awaitable[Sequence[Order]]], market: Market | None, credentials: Credentials
    ) -> Sequence[Order]:
        orders = await call(market, credentials)
        for order in orders:
            self._observe(order, credentials)
        return orders

    async def get_order(
        self, call: Callable[..., Awaitable[Order]], market: Market, ref: OrderRef, credentials: Credentials
    ) -> Order:
        order = await call(market, ref, credentials)
        self._observe(order, credentials)
        return order

    async def order_resolved(
        self, market: Market, client_order_id: str, order: Order | None, credentials: Credentials
    ) -> None:
        if order is not None:
            self._observe(order, credentials)
        elif self._uses_ledger:
            self._account(credentials).ledger.not_placed(market.symbol, client_order_id)

    def _observe(self, order: Order, credentials: Credentials) -> None:
        # A cancel that succeeded must not fail here, whatever a venue says of it.
        if self._uses_ledger and isinstance(order, Order):
            self._account(credentials).ledger.observe(order, self._host.clock.monotonic())

    # -- admission --------------------------------------------------------------------------------------------------

    async def _know_names(self, exchange: str) -> None:
        """Find out under which symbols the venue has the markets that settings name: it may know several spellings. A
        name that it does not have refuses everything there, because a limit on a misspelt market limits nothing."""
        if exchange in self._known:
            return
        now_ms = self._host.clock.wall_ns() // 1_000_000
        for key, symbol in self.settings.named_markets(exchange):
            try:
                market: Market = await self._host.astra.market(str(symbol))
            except MarketNotFound as error:
                if symbol.expiry is not None and expiry_ms(symbol.expiry, 23) < now_ms:
                    continue  # it has expired
                raise MarketNotAllowed(
                    f"{SECTION}.{key} names a market that {exchange} does not have, and a limit on a misspelt market "
                    f"limits nothing. Correct it; until then nothing is sent to {exchange}. ({error.message})",
                    exchange=exchange,
                    setting=f"{SECTION}.{key}",
                ) from None
            self._scopes.spell(str(symbol), market.symbol)
        self._known.add(exchange)

    def _check_allowed(self, market: Market) -> None:
        """Raise for the kill switch, and for a market that may not be traded."""
        self._switch.check(market.exchange)
        symbol, allowed = market.symbol, self.settings.allow_markets
        matches = self._scopes.matches
        for pattern in self.settings.deny_markets:
            if matches(symbol, pattern):
                raise MarketNotAllowed(
                    f"{symbol} may not be traded: {pattern!r} is on {SECTION}.deny_markets. Nothing was sent",
                    exchange=market.exchange,
                    setting=f"{SECTION}.deny_markets",
                )
        if allowed is not None and not any(matches(symbol, pattern) for pattern in allowed):
            raise MarketNotAllowed(
                f"{symbol} may not be traded: it is not on {SECTION}.allow_markets. Nothing was sent",
                exchange=market.exchange,
                setting=f"{SECTION}.allow_markets",
            )

    def _scope(self, market: Market, credentials: Credentials) -> Scope:
        return self._scopes.find(market.exchange, credentials.account, market.symbol)

    async def _admit_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Reservation | None:
        await self._know_names(market.exchange)
        self._check_allowed(market)
        check_order(market, order)  # before any figure is made of it
        return await self._admit(of_request(market, order), self._scope(market, credentials), credentials)

    async def _admit(self, intent: Intent, scope: Scope, credentials: Credentials) -> Reservation | None:
        """Measure an order by every limit and count it. Raises `LimitExceeded`; then nothing was counted."""
        prices = await self._prices(intent, scope, credentials)
        walked = None if prices is None else self._walked(intent, scope, prices)
        if walked is not None and intent.native is None:
            intent = intent.sized(walked.native)
        check_order_limits(intent, scope, prices, walked)
        account = self._account(credentials)
        if scope.has(READ_FROM_LEDGER):
            await self._check_shared(account, intent, scope, prices, credentials)
        # From here on nothing waits: no other task runs between the checks and the reservation.
        self._count(account, intent.market, scope)
        return account.ledger.reserve(intent) if self._uses_ledger else None

    async def _check_shared(
        self, account: Account, intent: Intent, scope: Scope, prices: Prices | None, credentials: Credentials
    ) -> None:
        """Raise for a limit that the order shares with others, after a second look at figures that may be old."""
        market, position = intent.market, scope.has(POSITION_LIMITS)
        try:
            await account.current(market, credentials, position=position)
            try:
                check_shared_limits(intent, scope, account.ledger, prices)
            except LimitExceeded:
                # By figures that may be old, and that count twice what was on its way: look again before refusing.
                await account.settled(market, credentials, position=position)
                check_shared_limits(intent, scope, account.ledger, prices)
        except LimitExceeded:
            raise
        except AstraError as error:
            limit = scope.of(*sorted(READ_FROM_LEDGER))[0]
            what = "the position" if position else "the number of open orders"
            raise not_known(market, limit, what, str(error)) from error

    def _count(self, account: Account, market: Market, scope: Scope) -> None:
        """The last checks before sending, which count it for the rate limits."""
        now = self._host.clock.monotonic()
        check_rate(market, scope, account.ledger, now)
        self._switch.check(market.exchange)
        if scope.has(RATE_LIMITS):
            account.ledger.record_sending(market.symbol, now, LONGEST_WINDOW_S)
        if self._uses_ledger:
            account.forget_what_is_old()

    async def _prices(self, intent: Intent, scope: Scope, credentials: Credentials) -> Prices | None:
        limit = limit_that_needs_book(intent, scope)
        if limit is None:
            return None
        try:
            return await self._books.prices(intent.market, credentials, deep=is_walked(intent))
        except AstraError as error:
            raise not_known(intent.market, limit, "the market's price", str(error)) from error

    def _walked(self, intent: Intent, scope: Scope, prices: Prices) -> Walk | None:
        """What a market order takes from the book, where a limit asks for it."""
        limit = limit_that_needs_walk(intent, scope)
        if limit is None:
            return None
        levels = prices.taken(intent.side)
        found = walk(intent.market, levels, intent.native, intent.quote_quantity)
        if found is None:
            why = f"{prices.source} shows too little to fill it ({len(levels)} levels)"
            raise not_known(intent.market, limit, "what the order would get", why)
        return found

    async def _amended(self, market: Market, ref: OrderRef, scope: Scope, credentials: Credentials) -> Order:
        """The order that is to be amended, as the venue has it now. Raises `OrderNotFound` where there is none."""
        try:
            order: Order = await self._host.astra.get_order(
                market.symbol, client_order_id=ref.client_order_id, id=ref.id, credentials=credentials
            )
        except OrderNotFound:
            raise
        except AstraError as error:
            limits = scope.of(*MEASURED)
            if not limits:
                raise
            raise not_known(market, limits[0], "the order's size", str(error)) from error
        return order

    # -- outcomes ---------------------------------------------------------------------------------------------------

    async def _sent(
        self,
        call: Callable[..., Awaitable[Order]],
        arguments: tuple[Any, ...],
        reservation: Reservation | None,
        credentials: Credentials,
    ) -> Order:
        try:
            with checked_before_sending(partial(self._switch.check, credentials.exchange)):
                order = await call(*arguments)
        except BaseException as error:
            self._failed(reservation, error, credentials)
            raise
        self._answered(reservation, order, credentials)
        return order

    def _answered(self, reservation: Reservation | None, answer: Order | Exception, credentials: Credentials) -> None:
        if isinstance(answer, Exception):
            self._failed(reservation, answer, credentials)
        elif reservation is not None:
            ledger, now = self._account(credentials).ledger, self._host.clock.monotonic()
            if answer.status is OrderStatus.UNKNOWN:
                ledger.lose(reservation)
            else:
                ledger.acknowledge(reservation, answer, now)
            ledger.observe(answer, now)

    def _failed(self, reservation: Reservation | None, error: BaseException, credentials: Credentials) -> None:
        if reservation is None:
            return
        if certainly_not_executed(error):
            self._release(reservation, credentials)
        else:
            self._account(credentials).ledger.lose(reservation)

    def _release(self, reservation: Reservation | None, credentials: Credentials) -> None:
        if reservation is not None:
            self._account(credentials).ledger.release(reservation)

    def _account(self, credentials: Credentials) -> Account:
        """The account that the keys open: its name does not matter, callers choose it."""
        now = self._host.clock.monotonic()
        key = (canonical_exchange(credentials.exchange.upper()), frozenset(credentials.keys.items()))
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(self._host, self.settings)
            self._forget_idle(now)
        self._accounts.move_to_end(key)
        account.used_at = now
        return account

    def _forget_idle(self, now: float) -> None:
        spare = len(self._accounts) - KEPT_ACCOUNTS
        for key, account in list(self._accounts.items())[: max(spare, 0)]:
            if now - account.used_at > LONGEST_WINDOW_S and account.ledger.is_idle(now, LONGEST_WINDOW_S):
                del self._accounts[key]


def certainly_not_executed(error: BaseException) -> bool:
    """Does the error say that nothing was carried out? Of all others nobody knows."""
    if isinstance(error, VenueError):
        return error.outcome is Outcome.NOT_EXECUTED
    return isinstance(error, BadRequest | ConfigError | PluginError)
