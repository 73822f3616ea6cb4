"""What the trading of all families shares: refusals by name, references to orders, paging through fills."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import ClassVar, Protocol, TypeVar

import msgspec

from astra.errors import (
    BadRequest,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    UnsupportedOperation,
    VenueError,
)
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderRef, OrderRequest, OrderType, TimeInForce
from astra.net.http import AnswerLost
from astra.venue import MarketTable
from astra_binance.errors import ErrorBody, Failure, error_of
from astra_binance.rest import FamilyRest, Placement
from astra_binance.settings import BinanceOrderOptions
from astra_binance.signing import Value, plain

logger = logging.getLogger(__name__)

Parameters = list[tuple[str, Value | None]]
Row = TypeVar("Row")

_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_refusal = msgspec.json.Decoder(ErrorBody).decode

PAGE = 1000
RESOLVE_MARGIN_MS = 2000
"""After the receive window has passed, so long until "not found" is believed."""
SKEW_MS = 5000
"""How far the venue's creation time and our time stamp of the same order may be apart."""
REUSE_MS = 60_000
"""Without the time stamp: an order that is this much older than the placement asked for is not that placement."""
DAY_MS = 86_400_000


class BatchRules(msgspec.Struct, frozen=True):
    """How a family takes several orders in one request."""

    field: str
    size: int
    params: Callable[[Market, OrderRequest], Parameters]
    order: Callable[[msgspec.Raw, Market], Order]


class CancelRules(msgspec.Struct, frozen=True):
    """How a family takes several cancels of one market in one request: the lists are named by id and by client id."""

    ids: str
    client_ids: str
    size: int
    order: Callable[[msgspec.Raw, Market], Order]


class FillRow(Protocol):
    """A row of a family's fill history."""

    def fill(self, market: Market) -> Fill: ...


class FillHistory(msgspec.Struct, frozen=True):
    """Where a family keeps own fills, and how much time one request may span."""

    path: str
    weight: int
    window_ms: int
    decode: Callable[[bytes], Sequence[FillRow]]


class FamilyTrading:
    """The trading hooks of one API family. What a family does not offer is `UnsupportedOperation` by name."""

    title: ClassVar[str]
    """The family as errors call it."""

    def __init__(self, rest: FamilyRest, markets: MarketTable) -> None:
        self.rest = rest
        self.markets = markets
        self.exchange = rest.exchange
        self.product = rest.product

    def unsupported(self, what: str) -> UnsupportedOperation:
        """An error that says what the family does not offer."""
        return UnsupportedOperation(f"{self.title}: no {what}", exchange=self.exchange)

    # -- what every family has ----------------------------------------------------------------------------------

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        raise NotImplementedError

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        raise NotImplementedError

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        raise NotImplementedError

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        raise NotImplementedError

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        raise NotImplementedError

    async def fills(
        self, market: Market, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        raise NotImplementedError

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        raise NotImplementedError

    async def fees(self, market: Market, credentials: Credentials) -> Sequence[Fees]:
        raise NotImplementedError

    # -- what only some have ------------------------------------------------------------------------------------

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        return ()

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        """Raise `UnsupportedOperation` unless these orders can be placed in batches."""
        raise self.unsupported("batches of orders")

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        raise self.unsupported("batches of orders")

    def check_cancel_batch(self) -> None:
        """Raise `UnsupportedOperation` unless the family takes cancels in batches."""
        if type(self).cancel_batch is FamilyTrading.cancel_batch:
            raise self.unsupported("cancels in batches")

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        raise self.unsupported("cancels in batches")

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        raise self.unsupported("amendment of orders; cancel and place anew")

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        raise self.unsupported("leverage to set")

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        raise self.unsupported("margin mode to set")

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        raise self.unsupported("position mode to set")

    async def keep_alive_orders(self, market: Market, timeout_s: float, credentials: Credentials) -> None:
        raise self.unsupported("dead-man timer")

    # -- resolving ----------------------------------------------------------------------------------------------

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """What became of a placement (see the hook): looked up by client order id.

        "Not found" is believed once the venue could no longer accept the request when it was asked: that is the
        receive window after the request's time stamp, by the venue's clock. The stamp of a placement of this process
        is remembered, because it is set after the rate limiter and may be much later than `since`.
        """
        await self.rest.clock.refresh()
        asked_ms = self.rest.clock.now_ms()
        since += round(self.rest.clock.offset_ms)
        placement = self.rest.placement(credentials, client_order_id)
        stamped = max(since, placement.stamped) if placement else since
        # Ids may be used again once their order is done: an old order under this id is not the one meant.
        oldest = placement.stamped - SKEW_MS if placement else since - REUSE_MS
        try:
            order = await self.placed(market, client_order_id, credentials, placement)
        except OrderNotFound:
            order = None
        if order is not None and (order.created_time is None or order.created_time >= oldest):
            return order
        if asked_ms - stamped <= self.rest.recv_window_ms + RESOLVE_MARGIN_MS:
            return True
        return placement is not None and placement.conditional and not self.finds_done_conditionals

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        """The order of a placement, looked up where it was sent to (None: that is not known)."""
        return await self.get(market, OrderRef(client_order_id=client_order_id), credentials)

    finds_done_conditionals: ClassVar[bool] = True
    """Can a conditional order still be looked up when it is no longer open?"""

    # -- tools --------------------------------------------------------------------------------------------------

    def options(self, order: OrderRequest, **allowed: bool) -> BinanceOrderOptions:
        """The order's own options; those that are not `allowed` here must not be set."""
        options = BinanceOrderOptions.of(order.options)
        for name in options.model_fields_set:
            if not allowed.get(name, False) and getattr(options, name):
                raise self.unsupported(f"order option {name} for {order.type} orders")
        return options

    def numeric(self, order_id: str) -> int:
        """A venue order id as number. Raises `BadRequest`."""
        if not (order_id.isascii() and order_id.isdigit()):
            raise BadRequest(f"{order_id!r} is no order id of Binance {self.title}: those are whole numbers")
        return int(order_id)

    def ref_params(self, ref: OrderRef, client_name: str = "origClientOrderId") -> Parameters:
        if ref.id is not None:
            return [("orderId", self.numeric(ref.id))]
        return [(client_name, ref.client_order_id)]

    def rest_time_in_force(self, order: OrderRequest, *, gtd: bool = False) -> TimeInForce:
        """The time in force of an order that may rest; GTC unless it says otherwise."""
        if order.time_in_force is TimeInForce.GTD and not gtd:
            raise self.unsupported("time in force GTD")
        return order.time_in_force or TimeInForce.GTC

    def check_market_time_in_force(self, order: OrderRequest) -> None:
        """Market orders take no time in force: what cannot be filled expires, which IOC (and GTC) agree with."""
        if order.time_in_force in (TimeInForce.FOK, TimeInForce.GTD):
            raise self.unsupported(f"time in force {order.time_in_force} for {order.type} orders")

    def check_type(self, order: OrderRequest, types: Iterable[OrderType]) -> None:
        if order.type not in types:
            raise self.unsupported(f"{order.type} orders")

    async def market_of(self, native_symbol: str) -> Market | None:
        """The market of a row; None, and a warning, where the venue's own market list does not have it."""
        try:
            return await self.markets.native(self.product, native_symbol)
        except MarketNotFound:
            logger.warning(
                "%s %s: a row of the unknown market %s is left out", self.exchange, self.product, native_symbol
            )
            return None

    async def with_markets(
        self, rows: Iterable[Row], market: Market | None, native_symbol: Callable[[Row], str]
    ) -> list[tuple[Market, Row]]:
        """Rows with their markets."""
        found = []
        for row in rows:
            native = native_symbol(row)
            known = market if market is not None and market.native_symbol == native else await self.market_of(native)
            if known is not None:
                found.append((known, row))
        return found

    async def in_batches(
        self,
        orders: Sequence[tuple[Market, OrderRequest]],
        credentials: Credentials,
        batch: BatchRules,
    ) -> Sequence[Order | Exception]:
        """Place orders with `POST batchOrders`, a few at a time; each position holds its order or its error."""
        # All are put into words before any is sent: what the family does not take must not come up half-way.
        wires = [
            {name: plain(value) for name, value in batch.params(market, order) if value is not None}
            for market, order in orders
        ]
        results: list[Order | Exception] = []
        for start in range(0, len(orders), batch.size):
            few = orders[start : start + batch.size]
            wire = msgspec.json.encode(wires[start : start + batch.size]).decode()
            try:
                body = await self.rest.command(
                    "POST",
                    "batchOrders",
                    [(batch.field, wire)],
                    credentials,
                    market=few[0][0].symbol,
                    operation="place_orders",
                    places=[order.client_order_id for _, order in few if order.client_order_id],
                    # The counters take a full batch, however few orders are in it.
                    orders=batch.size,
                    weight=5,
                )
            except OrderOutcomeUnknown as lost:
                results.extend(self._unknown(lost, market, order) for market, order in few)
            except VenueError as error:
                results.extend([error] * len(few))
            else:
                results.extend(self._batch_answer(body, few, batch))
        return results

    def _batch_answer(
        self, body: bytes, orders: Sequence[tuple[Market, OrderRequest]], batch: BatchRules
    ) -> Sequence[Order | Exception]:
        rows = _decode_rows(body)
        if len(rows) != len(orders):
            lost = AnswerLost(f"{len(orders)} orders were sent in a batch, the answer has {len(rows)}")
            return [self._unknown(lost, market, order) for market, order in orders]
        results: list[Order | Exception] = []
        for row, (market, order) in zip(rows, orders, strict=True):
            refusal = _decode_refusal(row)
            results.append(self._refused(refusal, market, order) if refusal.is_error else batch.order(row, market))
        return results

    async def cancels_in_batches(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, rules: CancelRules
    ) -> Sequence[Order | Exception]:
        """Cancel orders of one market with `DELETE batchOrders`; each position holds its order or its error.

        Ids and client ids are never in one request: which answer is whose is known by its place alone.
        """
        results: dict[int, Order | Exception] = {}
        by_id = [(place, ref) for place, ref in enumerate(refs) if ref.id is not None]
        by_client_id = [(place, ref) for place, ref in enumerate(refs) if ref.id is None]
        for name, several in ((rules.ids, by_id), (rules.client_ids, by_client_id)):
            for start in range(0, len(several), rules.size):
                few = several[start : start + rules.size]
                answers = await self._cancel_few(market, name, [ref for _, ref in few], credentials, rules)
                results |= zip((place for place, _ in few), answers, strict=True)
        return [results[place] for place in sorted(results)]

    async def _cancel_few(
        self, market: Market, name: str, refs: Sequence[OrderRef], credentials: Credentials, rules: CancelRules
    ) -> Sequence[Order | Exception]:
        wire = msgspec.json.encode([ref.client_order_id if ref.id is None else self.numeric(ref.id) for ref in refs])

        def unknown(ref: OrderRef, lost: AnswerLost | OrderOutcomeUnknown) -> Exception:
            return OrderOutcomeUnknown(
                lost.message,
                exchange=self.exchange,
                market=market.symbol,
                operation="cancel_orders",
                client_order_id=ref.client_order_id,
                order_id=ref.id,
                code=lost.code,
            )

        try:
            body = await self.rest.command(
                "DELETE",
                "batchOrders",
                [("symbol", market.native_symbol), (name, wire.decode())],
                credentials,
                market=market.symbol,
                operation="cancel_orders",
            )
        except OrderOutcomeUnknown as lost:
            return [unknown(ref, lost) for ref in refs]
        except VenueError as error:
            return [error] * len(refs)
        rows = _decode_rows(body)
        if len(rows) != len(refs):
            lost_rows = AnswerLost(f"{len(refs)} orders were canceled in a batch, the answer has {len(rows)}")
            return [unknown(ref, lost_rows) for ref in refs]
        results: list[Order | Exception] = []
        for row, ref in zip(rows, refs, strict=True):
            refusal = _decode_refusal(row)
            if not refusal.is_error:
                results.append(rules.order(row, market))
                continue
            failure = Failure(self.exchange, self.product, refusal.msg, code=refusal.number, command=True)
            refused = error_of(failure)
            results.append(unknown(ref, refused) if isinstance(refused, AnswerLost) else refused)
        return results

    def _refused(self, refusal: ErrorBody, market: Market, order: OrderRequest) -> Exception:
        error = error_of(Failure(self.exchange, self.product, refusal.msg, code=refusal.number, command=True))
        return self._unknown(error, market, order) if isinstance(error, AnswerLost) else error

    def _unknown(self, lost: AnswerLost | OrderOutcomeUnknown, market: Market, order: OrderRequest) -> Exception:
        return OrderOutcomeUnknown(
            lost.message,
            exchange=self.exchange,
            market=market.symbol,
            operation="place_orders",
            client_order_id=order.client_order_id,
            code=lost.code,
        )

    async def fills_of(
        self, market: Market, since: int | None, limit: int | None, credentials: Credentials, history: FillHistory
    ) -> Sequence[Fill]:
        """Own fills in a market from the family's fill history."""

        async def fetch(start: int | None, end: int | None, size: int) -> Sequence[Fill]:
            params: Parameters = [
                ("symbol", market.native_symbol),
                ("startTime", start),
                ("endTime", end),
                ("limit", size),
            ]
            weight = history.weight
            rows = await self.rest.signed(history.decode, "GET", history.path, params, credentials, weight=weight)
            return [row.fill(market) for row in rows]

        return await self.windowed(fetch, since, limit, history.window_ms)

    async def windowed(
        self,
        fetch: Callable[[int | None, int | None, int], Awaitable[Sequence[Fill]]],
        since: int | None,
        limit: int | None,
        window_ms: int,
    ) -> Sequence[Fill]:
        """Fills from `fetch(start, end, size)`, which takes at most `window_ms` at a time; oldest first.

        Without `since` the newest `limit`; with it the oldest `limit` from there on.
        """
        if since is None:
            return _ordered(await fetch(None, None, min(limit or PAGE, PAGE)))[-(limit or PAGE) :]
        now = self.rest.clock.now_ms()
        found: dict[str, Fill] = {}
        start = since
        while start <= now and (limit is None or len(found) < limit):
            end = start + window_ms - 1
            page = _ordered(await fetch(start, end, PAGE))
            fresh = [fill for fill in page if fill.id not in found]
            found.update((fill.id, fill) for fill in fresh)
            # A full page: go on from its last time, again, because more fills may share that millisecond.
            start = end + 1 if len(page) < PAGE else page[-1].time if fresh else page[-1].time + 1
        return _ordered(found.values())[:limit]


def _ordered(fills: Iterable[Fill]) -> list[Fill]:
    return sorted(fills, key=lambda fill: (fill.time, len(fill.id), fill.id))
