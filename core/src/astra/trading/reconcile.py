"""Keeping an account's stream true: compared with the venue by REST at the start, after every reconnect, now and then.

While the venue is asked, live events are held back; then the differences are told, then the held events, filtered.
Where the stream was reliable all the while only balances and positions are held back: the venue's words on them have no
order but that in which they are told; of two words on an order it is clear which is older. What is known and what has
to be told is decided by `AccountState`; here is only the asking.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import anyio
import anyio.lowlevel

from astra.errors import AuthenticationError, MarketNotFound, OrderNotFound, PermissionDenied, VenueError
from astra.models.accounts import AccountEvent, AccountStatus, Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef
from astra.streams.hub import AccountTopic, Hub, Tap
from astra.trading.account import AccountState, OrderKey, Snapshot
from astra.trading.outcome import Evidence

logger = logging.getLogger("astra.trading")

MARGIN_MS = 60_000
"""Fills are asked for from this long before the last comparison on: venues' histories lag, their clocks differ."""
MOST_HELD = 20_000
MOST_ACCOUNTS = 1000
MOST_MARKETS = 100
"""The latest markets in which orders were placed, for venues whose fills must be asked for market by market."""
QUESTIONS_AT_ONCE = 4
CHUNK = 500
"""Items told at a time, so that consumers can take them away."""
YOUNG_MS = 60_000
"""An order that was changed within this time and is not found need not be gone: the venue's answer may lag."""
LOOK_AGAIN_S = 30.0
CONSEQUENCES_S = 0.25
"""After news whose consequences the stream does not tell, so long until they are asked for: more may follow."""
CONSEQUENCES_EVERY_S = 2.0
"""They are not asked for more often than this."""
PATIENCE_S = 3.0
"""Fills and filled quantities of an order that do not agree for so long are asked for; thrice, at growing intervals."""
ATTEMPTS = 3


class MarketLookup(Protocol):
    async def get(self, symbol: str) -> Market: ...


class AccountSource(Protocol):
    """What the comparison asks a venue, about one of its account channels (`product`)."""

    @property
    def markets(self) -> MarketLookup: ...

    @property
    def fills_need_market(self) -> bool: ...

    def fill_key(self, fill: Fill) -> Hashable: ...

    def product_now_ms(self, product: str) -> int: ...

    async def account_orders(self, product: str, credentials: Credentials) -> Sequence[Order] | None: ...

    async def account_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order: ...

    async def account_balances(self, product: str, credentials: Credentials) -> Sequence[Balance] | None: ...

    async def account_positions(self, product: str, credentials: Credentials) -> Sequence[Position] | None: ...

    async def account_fills(
        self, product: str, market: Market | None, since: int, credentials: Credentials
    ) -> Sequence[Fill]: ...


class AccountKeeper:
    """One channel of an account: what is known of it, and whether that can be relied on."""

    def __init__(
        self, hub: Hub, topic: AccountTopic, source: AccountSource, traded: Callable[[], Iterable[str]]
    ) -> None:
        assert topic.channel.credentials is not None
        self.state = AccountState(source.fill_key)
        self._hub = hub
        self._topic = topic
        self._source = source
        self._traded = traded
        self._product = topic.channel.product
        self._credentials = topic.channel.credentials
        self._began = hub.clock.monotonic()
        self._live = False
        self._connected = False
        self._reason: str | None = "connecting"
        self._reconciled_ns: int | None = None
        self._reconciled_at = 0.0
        self._complete_ms: int | None = None
        self._held: list[AccountEvent] | None = None
        self._epoch = 0
        self._due = False
        self._busy = False
        self._look_again_at: float | None = None
        self._consequences_at: float | None = None
        self._touched: dict[str, None] = {}
        self._reconnected = anyio.Event()
        self._fresh: list[Tap] = []
        self._uneven: dict[OrderKey, tuple[int, float]] = {}

    @property
    def status(self) -> AccountStatus:
        reconciled = self._reconciled_ns
        return AccountStatus(
            product=self._product,
            live=self._live,
            connected=self._connected,
            reconciled_time=None if reconciled is None else reconciled // 1_000_000,
            reason=None if self._live else self._reason,
        )

    # -- the stream ---------------------------------------------------------------------------------------------

    def events(self, events: Sequence[AccountEvent]) -> None:
        """The stream tells something."""
        if self._held is None:
            self._topic.publish(self._news(events))
            return
        if self._live:
            self._topic.publish(self._news(event for event in events if isinstance(event, Order | Fill)))
            events = [event for event in events if not isinstance(event, Order | Fill)]
        self._held.extend(events)
        if len(self._held) > MOST_HELD:
            # What is asked now would be older than what is told here: it has to be asked again.
            held, self._held = self._held, []
            self._epoch += 1
            self._due = True
            self._topic.publish(self._news(held))

    def _news(self, events: Iterable[AccountEvent]) -> list[AccountEvent]:
        return [news for event in events if (news := self.state.apply(event)) is not None]

    def succeeded(self, held: Sequence[AccountEvent]) -> None:
        """Another connection took the stream over and held back `held` so far, part of which the old one told: what
        balances and positions are now, only the venue can say."""
        self._held = [*(self._held or ()), *held]
        self._want()

    def incomplete(self) -> None:
        """The stream told something whose consequences it does not tell: they are asked for soon."""
        if self._consequences_at is None:
            soon = self._hub.clock.monotonic() + CONSEQUENCES_S
            self._consequences_at = max(soon, self._reconciled_at + CONSEQUENCES_EVERY_S)

    def acknowledged(self) -> None:
        self._connected = True
        self._reconnected.set()
        self._reason = "not yet compared with the venue"
        self._want()

    def closed(self, reason: str) -> None:
        self._connected = False
        self._doubt(reason)

    def _doubt(self, reason: str) -> None:
        self._epoch += 1
        self._reason = reason
        if self._live:
            self._live = False
            self._topic.publish([self.status])

    def joined(self, tap: Tap) -> None:
        """A further consumer: it begins with what is known."""
        if self._live and self._held is None:
            self._tell_current(tap)
            tap.put(self.status)
            return
        self._fresh.append(tap)
        if self._connected and not self._live:
            self._want()

    def left(self, tap: Tap) -> None:
        if tap in self._fresh:
            self._fresh.remove(tap)

    def _tell_current(self, tap: Tap) -> None:
        for event in self.state.current():
            tap.put(event)

    def tick(self, now: float) -> None:
        """Is it time to compare again?"""
        if not self._live or self._busy:
            return
        audit_s = self._hub.settings.audit_accounts_every_s
        overdue = audit_s is not None and now - self._reconciled_at >= audit_s
        again = any(at is not None and now >= at for at in (self._look_again_at, self._consequences_at))
        if self._fills_missing(now) or overdue or again:
            self._want()

    def _fills_missing(self, now: float) -> bool:
        """Do an order's fills and its filled quantity disagree for too long? Then an event got lost."""
        uneven = self.state.uneven()
        self._uneven = {key: self._uneven.get(key, (0, now + PATIENCE_S)) for key in uneven}
        due = {key: attempts for key, (attempts, at) in self._uneven.items() if now >= at}
        given_up = [key for key, attempts in due.items() if attempts >= ATTEMPTS]
        if given_up:
            logger.warning("%r: the fills of %s do not add up to what is filled", self._topic.channel, given_up)
            self.state.accept(given_up)
        for key, attempts in due.items():
            self._uneven[key] = (attempts + 1, now + PATIENCE_S * 2 ** (attempts + 1))
        return len(due) > len(given_up)

    # -- comparing ----------------------------------------------------------------------------------------------

    def _want(self) -> None:
        self._due = True
        if not self._busy:
            self._busy = True
            self._hub.start_soon(self._compare, name=f"reconcile {self._topic.channel!r}")

    async def _compare(self) -> None:
        """Compare with the venue until that has succeeded for the connection that there is."""
        attempt = 0
        try:
            while self._due and self._connected and self._topic.taps:
                self._due = False
                epoch = self._epoch
                self._held = self._held or []
                wait_s: float | None = None
                snapshot: Snapshot | None = None
                try:
                    snapshot = await self._ask()
                except (AuthenticationError, PermissionDenied) as error:
                    if not error.retryable:
                        self._topic.refused(error)
                        return
                    wait_s, reason = error.retry_after, str(error)
                except VenueError as error:
                    wait_s, reason = error.retry_after, str(error)
                except Exception as error:
                    logger.exception("%r could not be compared with the venue", self._topic.channel)
                    reason = f"internal error ({type(error).__name__})"
                if snapshot is None:
                    attempt += 1
                    wait_s = max(wait_s or 0.0, self._hub.backoff.delay(attempt, self._hub.random))
                    logger.warning("%r: not compared with the venue: %s", self._topic.channel, reason)
                    if not self._live and epoch == self._epoch:
                        self._reason = f"not compared with the venue: {reason}"
                    self._release()
                    self._reconnected = anyio.Event()
                    await self._hub.clock.wait(self._reconnected, wait_s)
                    self._due = True
                elif epoch != self._epoch:
                    self._release()  # the connection is another one: what was asked does not join what it tells
                    self._due = True
                else:
                    attempt = 0
                    await self._take(snapshot, epoch)
        finally:
            self._busy = False
            self._release()

    def _release(self) -> None:
        """Tell what was held back, as it came."""
        held, self._held = self._held, None
        if held:
            self._topic.publish(self._news(held))

    async def _take(self, snapshot: Snapshot, epoch: int) -> None:
        """Tell the differences, then what was held back."""
        assert self._held is not None
        await self._tell(self.state.reconcile(snapshot))
        self._complete_ms = snapshot.asked
        self._touched.clear()
        held, self._held = self._held, []
        await self._tell(self.state.replay(held))
        while self._held:
            held, self._held = self._held, []
            await self._tell(self._news(held))
        self._held = None
        if epoch != self._epoch:
            return  # lost again meanwhile; what was told is true, but not all
        clock = self._hub.clock
        self._reconciled_ns, self._reconciled_at = clock.wall_ns(), clock.monotonic()
        was_live, self._live = self._live, True
        fresh, self._fresh = self._fresh, []
        for tap in fresh:
            self._tell_current(tap)
        self._topic.publish([self.status], fresh if was_live else None)

    async def _tell(self, events: Sequence[AccountEvent]) -> None:
        """Tell consumers what is new; of those that came meanwhile only what they will not find in `current`."""
        for start in range(0, len(events), CHUNK):
            chunk = events[start : start + CHUNK]
            if self._fresh:
                past = [
                    one for one in chunk if isinstance(one, Fill) or (isinstance(one, Order) and one.status.is_final)
                ]
                self._topic.publish(past, self._fresh)
            self._topic.publish(chunk, [tap for tap in self._topic.taps if tap not in self._fresh])
            await anyio.lowlevel.checkpoint()

    async def _ask(self) -> Snapshot:
        """The venue's answers. Live events are held back meanwhile, so the order of the questions does not matter."""
        source, product, credentials = self._source, self._product, self._credentials
        asked_ms = source.product_now_ms(product)
        self._consequences_at = None
        open_before = self.state.open_orders()
        orders: Sequence[Order] | None = None
        balances: Sequence[Balance] | None = None
        positions: Sequence[Position] | None = None

        async def ask_orders() -> None:
            nonlocal orders
            orders = await source.account_orders(product, credentials)

        async def ask_balances() -> None:
            nonlocal balances
            balances = await source.account_balances(product, credentials)

        async def ask_positions() -> None:
            nonlocal positions
            positions = await source.account_positions(product, credentials)

        await _together([ask_orders, ask_balances, ask_positions])
        if self._complete_ms is None:
            # By now the venue's clock is measured, which it need not have been when the stream began.
            elapsed_ms = round((self._hub.clock.monotonic() - self._began) * 1000)
            since = self.state.begun = source.product_now_ms(product) - elapsed_ms
        else:
            since = self._complete_ms - MARGIN_MS
        unlisted = () if orders is None else self.state.unlisted(open_before, orders)
        found, gone = await self._look_up(unlisted, asked_ms)
        markets = self._markets(orders or (), positions or ())
        fills = await self._fills(markets, since)
        return Snapshot(
            since=since,
            asked=asked_ms,
            orders=None if orders is None else [*orders, *found],
            gone=gone,
            fills=fills,
            balances=balances,
            positions=positions,
        )

    async def _look_up(self, unlisted: Sequence[Order], now_ms: int) -> tuple[Sequence[Order], Sequence[Order]]:
        """Orders that were open and are not listed any more: what became of each, and those that are not found."""
        found: list[Order] = []
        gone: list[Order] = []
        self._look_again_at = None

        async def look(order: Order) -> None:
            try:
                market = await self._source.markets.get(order.market)
                found.append(await self._become(market, order))
            except MarketNotFound:
                gone.append(order)
            except OrderNotFound:
                if (order.updated_time or order.created_time or 0) > now_ms - YOUNG_MS:
                    self._look_again_at = self._hub.clock.monotonic() + LOOK_AGAIN_S
                else:
                    gone.append(order)

        await _together([partial(look, order) for order in unlisted])
        return found, gone

    async def _become(self, market: Market, order: Order) -> Order:
        """What became of an order. Asked for by its client order id, under which it is found when an amendment gave it
        another id; then by the venue's id: some venues forget client order ids before they forget orders."""
        if order.client_order_id is not None:
            ref = OrderRef(client_order_id=order.client_order_id)
            try:
                return await self._source.account_order(market, ref, self._credentials)
            except OrderNotFound:
                if order.id is None:
                    raise
        return await self._source.account_order(market, OrderRef(id=order.id), self._credentials)

    def _markets(self, orders: Iterable[Order], positions: Iterable[Position]) -> Sequence[str]:
        """The markets in which there may have been fills since the last comparison."""
        self._touched.update(dict.fromkeys(self.state.take_touched()))
        moved = () if self._complete_ms is None else self.state.moved(positions)
        known = (*orders, *self.state.open_orders())
        return list(dict.fromkeys([*(order.market for order in known), *self._touched, *moved, *self._traded()]))

    async def _fills(self, markets: Sequence[str], since: int) -> Sequence[Fill]:
        source = self._source
        if not source.fills_need_market:
            return await source.account_fills(self._product, None, since, self._credentials)
        fills: list[Fill] = []

        async def ask(symbol: str) -> None:
            try:
                market = await source.markets.get(symbol)
            except MarketNotFound as error:
                logger.warning("%r: fills are not asked for: %s", self._topic.channel, error)
                return
            fills.extend(await source.account_fills(self._product, market, since, self._credentials))

        await _together([partial(ask, symbol) for symbol in markets])
        return fills


async def _together(questions: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Ask several questions at the same time, a few at once. The first failure is raised as it is."""
    failures: list[Exception] = []
    limiter = anyio.CapacityLimiter(QUESTIONS_AT_ONCE)

    async def ask(question: Callable[[], Awaitable[None]]) -> None:
        async with limiter:
            try:
                await question()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group, which would wrap it
                failures.append(error)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for question in questions:
            tasks.start_soon(ask, question)
    if failures:
        raise failures[0]


class AccountWatch:
    """What orders have to do with the streams of their accounts (`astra.trading.commands.AccountWatch`)."""

    def __init__(self, topics: Callable[[Credentials], Sequence[AccountTopic]]) -> None:
        self._topics = topics
        self._markets: OrderedDict[tuple[Credentials, str], OrderedDict[str, None]] = OrderedDict()

    @contextlib.contextmanager
    def evidence(self, account: Credentials, evidence: Evidence) -> Iterator[None]:
        """Hand `evidence` to the account's stream, where one runs."""
        topics = self._topics(account)
        for topic in topics:
            topic.taps.append(evidence)
        try:
            yield
        finally:
            for topic in topics:
                topic.release(evidence)

    def order_of(self, account: Credentials, market: str, client_order_id: str) -> Order | None:
        """An order as the account's stream, where one runs, knows it."""
        for topic in self._topics(account):
            order: Order | None = topic.keeper.state.order(market, client_order_id)
            if order is not None:
                return order
        return None

    def traded(self, account: Credentials, market: Market) -> None:
        """An order is about to be placed in the market."""
        key = (account, market.product)
        markets = self._markets.setdefault(key, OrderedDict())
        self._markets.move_to_end(key)
        if len(self._markets) > MOST_ACCOUNTS:
            self._markets.popitem(last=False)
        markets[market.symbol] = None
        markets.move_to_end(market.symbol)
        if len(markets) > MOST_MARKETS:
            markets.popitem(last=False)

    def markets(self, account: Credentials, product: str) -> Sequence[str]:
        """The latest markets of the product in which orders of the account were placed through this object."""
        return list(self._markets.get((account, product), ()))
