"""What the families share: commands whose answers say little, batches, paging."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from astra.errors import BadRequest, OrderOutcomeUnknown, VenueError
from astra.families import FamilyTrading, in_order
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions, OrderRef, OrderRequest
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.trading.native import acknowledged
from astra.venue import MarketTable
from astra_htx.rest import HtxRest
from astra_htx.settings import HtxOrderOptions, HtxSettings

T = TypeVar("T")
WINDOW_MS = 48 * 3_600_000
"""History is asked for in stretches of this length at most."""
MOST_PAGES = 100
SIDES = {Side.BUY: "buy", Side.SELL: "sell"}
Outcome = str | Exception
"""What became of one order of a batch: its id, or the error."""


class HtxTrading(FamilyTrading):
    """A family of HTX. Placements are answered with an id, cancels with an acknowledgement."""

    options_model: ClassVar[type[OrderOptions] | None] = HtxOrderOptions
    batch: ClassVar[int] = 10
    """Orders in one request at most."""
    remembered_ms: ClassVar[int] = 47 * 3_600_000
    """For how long an order that is done is found."""
    rest: HtxRest

    def __init__(self, rest: HtxRest, markets: MarketTable, settings: HtxSettings) -> None:
        super().__init__(rest, markets)
        self._settings = settings

    @property
    def command_window_ms(self) -> int:
        """The venue knows no deadline but the age of the time stamp."""
        return self.rest.window_ms

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """Once the venue has forgotten an order that was done, nothing found proves nothing."""
        found = await super().resolve(market, client_order_id, since, credentials)
        if found is False and self.rest.clock.now_ms() - since > self.remembered_ms:
            return True
        return found

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
                if isinstance(outcome, str):
                    results.append(acknowledged(market, order, outcome, None))
                elif isinstance(outcome, AnswerLost):
                    ref = OrderRef(client_order_id=order.client_order_id)
                    results.append(self.unknown("place_orders", market, ref, outcome))
                else:
                    results.append(outcome)
        return results

    def _read_all(self, body: bytes, count: int, read: Callable[[bytes, int], Sequence[Outcome]]) -> Sequence[Outcome]:
        """Whatever an answer does to its reader, the orders' outcome is then not known."""
        try:
            outcomes = read(body, count)
        except (msgspec.DecodeError, ValueError) as error:
            return [AnswerLost(f"the answer to a batch has another shape: {error}")] * count
        if len(outcomes) != count:
            return [AnswerLost(f"{count} orders were sent, the answer has {len(outcomes)}")] * count
        return outcomes

    # -- cancelling ---------------------------------------------------------------------------------------------

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


def beyond(rows: Sequence[T], seen: set[int], number: Callable[[T], int]) -> list[T]:
    """The rows of a page that were in none before it. (Whether a page begins with the row that it starts from, or with
    the next, is not the same everywhere.)"""
    fresh = [row for row in rows if number(row) not in seen]
    seen.update(number(row) for row in fresh)
    return fresh
