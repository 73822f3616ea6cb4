"""What the trading of both products has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Protocol, TypeVar

import msgspec

from astra.errors import OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.families import FamilyTrading, in_order
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderOptions, OrderRef, OrderRequest, OrderStatus
from astra.net.http import AnswerLost
from astra.rest import Placement
from astra.trading.checks import ClientIdRule, ClientIdsUnique
from astra.venue import MarketTable
from astra_kucoin.rest import KucoinApi
from astra_kucoin.settings import KucoinOrderOptions, KucoinSettings
from astra_kucoin.trading.rows import Notes, StopNote

CLIENT_IDS: Final = ClientIdRule(max_length=40, alphabet="A-Za-z0-9_-", unique=ClientIdsUnique.FOREVER)
"""An id is refused once it was used, also after its order is done."""
STAMP_WINDOW_MS: Final = 5000
"""A signed request is refused when its time stamp is further off: what bounds those that carry no window."""
WEEK_MS: Final = 7 * 86_400_000
"""Histories are asked for in stretches of this length."""
MOST_PAGES: Final = 100
"""Of one stretch: where there are more, a shorter one is asked for."""


class Named(Protocol):
    """A row of a market."""

    @property
    def native_symbol(self) -> str: ...


class FillLike(Named, Protocol):
    def fill(self, market: Market) -> Fill: ...


R = TypeVar("R", bound=FillLike)
T = TypeVar("T")


class KucoinTrading(FamilyTrading):
    """The trading hooks of one product."""

    options_model: ClassVar[type[OrderOptions] | None] = KucoinOrderOptions
    fees_by_market = True
    rest: KucoinApi

    def __init__(self, rest: KucoinApi, markets: MarketTable, settings: KucoinSettings, notes: Notes) -> None:
        super().__init__(rest, markets)
        self._settings = settings
        self.notes = notes

    @property
    def command_window_ms(self) -> int:
        return STAMP_WINDOW_MS

    def placement_window_ms(self, placement: Placement | None) -> int:
        return STAMP_WINDOW_MS

    def note(self, order_id: str, order: Order | OrderRequest) -> None:
        """Remember what the streams do not tell of a conditional order."""
        if order.client_order_id is not None and order.type.is_conditional:
            self.notes.stops[order_id] = StopNote(order.client_order_id, order.type)

    async def cancel_at(self, path: str, market: Market, credentials: Credentials, weight: int) -> Sequence[Order]:
        """Cancel all orders of a market that one path concerns; the venue names none of them."""
        await self.rest.command(
            "DELETE",
            path,
            credentials,
            market=market.symbol,
            operation="cancel_all_orders",
            weight=weight,
            params=[("symbol", market.native_symbol)],
        )
        return ()

    async def canceled_of(
        self, operation: str, market: Market, orders: Sequence[Order], credentials: Credentials
    ) -> Sequence[Order]:
        """Of orders that were open before all were canceled, those that were. One that was filled meanwhile is none."""
        found = []
        for order in orders:
            ref = OrderRef(id=order.id)
            try:
                now = await self.get(market, ref, credentials)
            except OrderNotFound:
                # Conditional orders of spot can no longer be looked up.
                now = order.model_copy(update={"status": OrderStatus.CANCELED})
            except VenueError as error:
                raise self.unknown(operation, market, ref, error) from error
            if not now.status.is_open and now.status is not OrderStatus.FILLED:
                found.append(now)
        return found

    async def place_few(
        self,
        orders: Sequence[tuple[Market, OrderRequest]],
        answer: Awaitable[Sequence[T]],
        outcome: Callable[[Market, OrderRequest, T], Order | Exception],
    ) -> Sequence[Order | Exception]:
        """What became of the orders of one request: `outcome(market, order, row)`, for each row of its answer."""

        def unknown(place: int, lost: AnswerLost | VenueError) -> Exception:
            market, order = orders[place]
            return self.unknown("place_orders", market, OrderRef(client_order_id=order.client_order_id), lost)

        def all_unknown(lost: AnswerLost | VenueError) -> list[Order | Exception]:
            return [unknown(place, lost) for place in range(len(orders))]

        try:
            rows = await answer
        except OrderOutcomeUnknown as lost:
            return all_unknown(lost)
        except msgspec.DecodeError as error:
            return all_unknown(AnswerLost(f"not understood: {error}"))
        except VenueError as error:
            return [error] * len(orders)
        if len(rows) != len(orders):
            return all_unknown(AnswerLost(f"{len(orders)} orders were sent, the answer has {len(rows)}"))
        outcomes = [outcome(market, order, row) for (market, order), row in zip(orders, rows, strict=True)]
        return [unknown(place, one) if isinstance(one, AnswerLost) else one for place, one in enumerate(outcomes)]

    async def in_weeks(
        self,
        ask: Callable[[int | None, int | None, int | None], Awaitable[tuple[Sequence[R], int | None]]],
        market: Market | None,
        since: int | None,
        limit: int | None,
        page: int,
    ) -> Sequence[Fill]:
        """Fills, oldest first. `ask(start, end, mark)` gives a page of a stretch (both None: of all times), newest
        first, and the mark of the next page (None: there is none); the first page has none.

        Without `since` the newest `limit`, with it the oldest `limit` from there on. Raises `VenueError` where the
        venue tells more fills of one millisecond than can be asked for.
        """
        if since is None:
            rows = await self._pages(partial(ask, None, None), limit or page)
            fills = in_order([row.fill(known) for known, row in await self._named(rows or (), market)])
            return fills[-(limit or page) :]
        now, start, length = self.rest.clock.now_ms(), since, WEEK_MS
        found: dict[Any, Fill] = {}
        while start <= now and (limit is None or len(found) < limit):
            end = start + length - 1
            rows = await self._pages(partial(ask, start, end), None)
            if rows is None:
                if length == 1:
                    raise VenueError(
                        f"the venue tells more fills of the millisecond {start} than {MOST_PAGES} pages hold: they "
                        "cannot all be listed",
                        exchange=self.exchange,
                    )
                length = (length + 1) // 2
                continue
            for known, row in await self._named(rows, market):
                fill = row.fill(known)
                if fill.time >= since:
                    found[fill.market, fill.id, fill.order_id] = fill
            start, length = end + 1, min(2 * length, WEEK_MS)
        return in_order(found.values())[:limit]

    @staticmethod
    async def _pages(
        ask: Callable[[int | None], Awaitable[tuple[Sequence[R], int | None]]], newest: int | None
    ) -> Sequence[R] | None:
        """The rows of all pages, or the `newest` so many. None: there are more than `MOST_PAGES`, and those that were
        not asked for are the oldest."""
        rows: list[R] = []
        mark: int | None = None
        asked = 0
        while newest is not None or asked < MOST_PAGES:
            few, mark = await ask(mark)
            rows += few
            asked += 1
            if mark is None or (newest is not None and len(rows) >= newest):
                return rows
        return None

    async def under_its_id(
        self, market: Market, ref: OrderRef, credentials: Credentials, command: Callable[[OrderRef], Awaitable[T]]
    ) -> T:
        """A command on an order. An id that it had before (it was amended, or triggered) the venue does not take: then
        the command is sent once more, under the id that the order has now. What was refused so was not carried out; a
        command whose outcome is unknown is not repeated."""
        try:
            return await command(ref)
        except OrderNotFound:
            if ref.id is None:
                raise
            now = await self.get(market, ref, credentials)
            if not now.status.is_open or now.id in (None, ref.id):
                raise
        return await command(OrderRef(id=now.id))

    async def _named(self, rows: Sequence[R], market: Market | None) -> list[tuple[Market, R]]:
        return await self.with_markets(rows, market, lambda row: row.native_symbol)
