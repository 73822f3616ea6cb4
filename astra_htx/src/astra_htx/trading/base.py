"""What the families share: commands whose answers say little, batches, paging."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from astra.errors import BadRequest, OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.families import SKEW_MS, FamilyTrading, in_order
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions, OrderRef, OrderRequest
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.rest import Placement
from astra.trading.native import acknowledged
from astra.venue import MarketTable
from astra_htx.rest import HtxRest
from astra_htx.settings import HtxOrderOptions, HtxSettings

T = TypeVar("T")
WINDOW_MS = 48 * 3_600_000
"""History is asked for in stretches of this length at most."""
HISTORY_MS = 47 * 3_600_000
"""How far back orders that are done are looked for."""
SIDES = {Side.BUY: "buy", Side.SELL: "sell"}
Outcome = str | Exception
"""What became of a placement: the order's id ("": the answer has none), or the error."""


class HtxTrading(FamilyTrading, abc.ABC):
    """A family of HTX. Placements are answered with an id, cancels with an acknowledgement."""

    options_model: ClassVar[type[OrderOptions] | None] = HtxOrderOptions
    batch: ClassVar[int] = 10
    """Orders in one request at most."""
    remembered_ms: ClassVar[int] = 8 * 3_600_000 - 60_000
    """For how long after its placement an order that is not found is certain not to be there. An order can be asked for
    by its client order id for eight hours."""
    frees_ids: ClassVar[bool] = False
    """Does an order that is done give its client order id free? It is in the history then, under the id."""
    rest: HtxRest

    def __init__(self, rest: HtxRest, markets: MarketTable, settings: HtxSettings) -> None:
        super().__init__(rest, markets)
        self._settings = settings

    @property
    def command_window_ms(self) -> int:
        """The venue knows no deadline but the age of the time stamp."""
        return self.rest.window_ms

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """Once the venue may have forgotten the order, nothing found proves nothing."""
        found = await super().resolve(market, client_order_id, since, credentials)
        clock = self.rest.clock
        if found is False and clock.now_ms() - since - round(clock.offset_ms) > self.remembered_ms:
            return True
        return found

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        """An open order is looked for in the lists only when the venue may have forgotten its client order id."""
        ref = OrderRef(client_order_id=client_order_id)
        if placement is None or self.rest.clock.now_ms() - placement.stamped > self.remembered_ms:
            return await self.get(market, ref, credentials)
        try:
            return await self._asked(market, ref, credentials)
        except OrderNotFound:
            done = await self._done(market, ref, credentials) if self.frees_ids else None
            if done is None:
                raise
            return done

    # -- placing ------------------------------------------------------------------------------------------------

    async def _place_rows(
        self,
        orders: Sequence[tuple[Market, OrderRequest]],
        rows: Sequence[Any],
        send: Callable[[Sequence[Any], Sequence[str]], Awaitable[bytes]],
        read: Callable[[bytes, int], Sequence[Outcome]],
    ) -> Sequence[Order | Exception]:
        """Send orders in batches; each position holds its order or the error that refused it. `send` takes rows and
        client order ids, `read` takes an answer apart for so many rows."""
        results: list[Order | Exception] = []
        for start in range(0, len(orders), self.batch):
            few = orders[start : start + self.batch]
            names = [order.client_order_id for _, order in few if order.client_order_id]
            outcomes: Sequence[Outcome]
            try:
                body = await send(rows[start : start + self.batch], names)
                outcomes = self._read_all(body, len(few), read)
            except OrderOutcomeUnknown as lost:
                outcomes = [AnswerLost(lost.message, code=lost.code)] * len(few)
            except VenueError as error:
                outcomes = [error] * len(few)
            for (market, order), outcome in zip(few, outcomes, strict=True):
                results.append(self._placed("place_orders", market, order, outcome))
        return results

    def _placed(self, operation: str, market: Market, order: OrderRequest, outcome: Outcome) -> Order | Exception:
        """The order that was placed, or the error."""
        if isinstance(outcome, str) and outcome:
            return acknowledged(market, order, outcome, None)
        if isinstance(outcome, str):
            outcome = AnswerLost("the answer to a placement does not name the order")
        if isinstance(outcome, AnswerLost):
            return self.unknown(operation, market, OrderRef(client_order_id=order.client_order_id), outcome)
        return outcome

    def _place_one(self, market: Market, order: OrderRequest, answer: bytes, read: Callable[[bytes], Outcome]) -> Order:
        """The order of a placement that was answered; `read` takes its id out of the answer."""
        try:
            outcome = read(answer)
        except msgspec.DecodeError as error:
            outcome = AnswerLost(f"the answer to a placement has another shape: {error}")
        placed = self._placed("place_order", market, order, outcome)
        if isinstance(placed, Exception):
            raise placed
        return placed

    def _read_all(self, body: bytes, count: int, read: Callable[[bytes, int], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Whatever an answer does to its reader, the orders' outcome is then not known."""
        try:
            outcomes = read(body, count)
        except (msgspec.DecodeError, ValueError) as error:
            return [AnswerLost(f"the answer to a batch has another shape: {error}")] * count
        if len(outcomes) != count:
            return [AnswerLost(f"{count} orders were sent, the answer has {len(outcomes)}")] * count
        return outcomes

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order; of those that had one client order id, the newest. The venue finds orders by that id for some
        hours only: one that it does not find is looked for among the open orders, and then among those that are
        done."""
        try:
            return await self._asked(market, ref, credentials)
        except OrderNotFound as failure:
            found = await self._living(market, ref, credentials)
            if found is None:
                found = await self._done(market, ref, credentials)
            if found is None:
                raise failure from None
            return found

    @abc.abstractmethod
    async def _asked(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The order as the venue finds it. Raises `OrderNotFound`."""

    async def _living(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | None:
        """The newest open order that has the client order id."""
        if ref.id is not None:
            return None
        orders = await self.open_orders(market, credentials)
        return newest(
            one for one in orders if (one.market, one.client_order_id) == (market.symbol, ref.client_order_id)
        )

    async def _done(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | None:
        """The newest order of the venue's history that is meant."""
        return None

    def _earliest(self, ref: OrderRef, credentials: Credentials) -> int:
        """From when on the order may be in the history: since its placement, where this process made it."""
        earliest = self.rest.clock.now_ms() - HISTORY_MS
        placement = None if ref.client_order_id is None else self.rest.placement(credentials, ref.client_order_id)
        return earliest if placement is None else max(earliest, placement.stamped - SKEW_MS)

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for. An open order whose client order id the venue
        does not find any more is canceled by its own."""
        try:
            return await self._cancel(market, ref, credentials)
        except OrderNotFound:
            living = await self._living(market, ref, credentials)
            if living is None:
                raise
            return await self._cancel(market, OrderRef(id=living.id), credentials)

    @abc.abstractmethod
    async def _cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order: ...

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """As `cancel`, of each."""
        results = list(await self._cancel_batch(market, refs, credentials))
        missed = [
            place
            for place, (ref, result) in enumerate(zip(refs, results, strict=True))
            if ref.id is None and isinstance(result, OrderNotFound)
        ]
        if not missed:
            return results
        try:
            orders = [one for one in await self.open_orders(market, credentials) if one.market == market.symbol]
        except VenueError as error:
            for place in missed:
                results[place] = error
            return results
        living = {
            place: found
            for place in missed
            if (found := newest(one for one in orders if one.client_order_id == refs[place].client_order_id))
        }
        if living:
            again = [OrderRef(id=one.id) for one in living.values()]
            for place, result in zip(living, await self._cancel_batch(market, again, credentials), strict=True):
                results[place] = result
        return results

    @abc.abstractmethod
    async def _cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Each position holds the order or the error that refused its cancel."""

    async def _after_batch(
        self, market: Market, refs: Sequence[OrderRef], outcomes: Sequence[Exception | None], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """What became of the orders of a batch of cancels (None: accepted)."""
        results: list[Order | Exception] = []
        for ref, outcome in zip(refs, outcomes, strict=True):
            if isinstance(outcome, AnswerLost | OrderOutcomeUnknown):
                results.append(self.unknown("cancel_orders", market, ref, outcome))
            elif outcome is not None:
                results.append(outcome)
            else:
                try:
                    results.append(await self.after("cancel_orders", market, ref, credentials))
                except OrderOutcomeUnknown as error:
                    results.append(error)
        return results

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        return await self.cancel_listed(market, credentials)

    def order_number(self, ref: OrderRef) -> str | None:
        """The venue's id. Raises `BadRequest` for what cannot be one."""
        if ref.id is not None and not (ref.id.isascii() and ref.id.isdigit()):
            raise BadRequest(f"{ref.id!r} is no order id of HTX: those are whole numbers")
        return ref.id

    # -- history ------------------------------------------------------------------------------------------------

    async def _windows(
        self,
        fetch: Callable[[int, int], Awaitable[Sequence[Fill]]],
        since: int | None,
        limit: int | None,
        page: int,
    ) -> Sequence[Fill]:
        """Fills of stretches of time, from `fetch(start, end)`. Without `since` the newest of the last two days."""
        now = self.rest.clock.now_ms() + 1000
        if since is None:
            return in_order(await fetch(now - WINDOW_MS, now))[-(limit or page) :]
        found: list[Fill] = []
        for start, end in stretches(since, now):
            found += await fetch(start, end)
            if limit is not None and len(found) >= limit:
                break
        return in_order(found)[:limit]


def stretches(since: int, now: int) -> Iterator[tuple[int, int]]:
    """(first, last) of stretches of 48 hours that together reach from `since` until now."""
    start = since
    while start <= now:
        yield start, min(start + WINDOW_MS - 1, now)
        start += WINDOW_MS


def newest(orders: Iterable[Order]) -> Order | None:
    return max(orders, key=lambda order: (order.created_time or 0, int(order.id or 0)), default=None)


async def pages(
    ask: Callable[[T | None], Awaitable[Sequence[T]]], number: Callable[[T], int], size: int | None = None
) -> list[T]:
    """All rows of a list: page after page, each from the last row of the one before it, until one is not full (`size`;
    None: that is not said) or has nothing new. (Whether a page begins with the row that it starts from, or with the
    next, is not the same everywhere.)"""
    rows: list[T] = []
    seen: set[int] = set()
    while True:
        page = await ask(rows[-1] if rows else None)
        fresh = [row for row in page if number(row) not in seen]
        seen.update(number(row) for row in fresh)
        rows += fresh
        if not fresh or (size is not None and len(page) < size):
            return rows
