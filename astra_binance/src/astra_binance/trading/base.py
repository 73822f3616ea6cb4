"""What the trading of all families shares: references to orders, batches, paging through fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from astra.errors import BadRequest, OrderOutcomeUnknown, VenueError
from astra.families import FamilyTrading
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest
from astra.net.http import AnswerLost
from astra.rest import Value, plain
from astra_binance.errors import ErrorBody, Failure, error_of
from astra_binance.rest import FamilyRest
from astra_binance.settings import BinanceOrderOptions

Parameters = list[tuple[str, Value | None]]

_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_refusal = msgspec.json.Decoder(ErrorBody).decode

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


class BinanceTrading(FamilyTrading):
    """What the trading of all four families shares."""

    rest: FamilyRest
    options_model = BinanceOrderOptions
    fills_by_market = True
    fees_by_market = True
    timer_by_market = True

    @property
    def command_window_ms(self) -> int:
        return self.rest.recv_window_ms

    def numeric(self, order_id: str) -> int:
        """A venue order id as number. Raises `BadRequest`."""
        if not (order_id.isascii() and order_id.isdigit()):
            raise BadRequest(f"{order_id!r} is no order id of Binance {self.title}: those are whole numbers")
        return int(order_id)

    def ref_params(self, ref: OrderRef, client_name: str = "origClientOrderId") -> Parameters:
        if ref.id is not None:
            return [("orderId", self.numeric(ref.id))]
        return [(client_name, ref.client_order_id)]

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
        # All are put into words before any is sent: an id that is none must not come up half-way.
        wires = [ref.client_order_id if ref.id is None else self.numeric(ref.id) for ref in refs]
        by_id = [(place, ref) for place, ref in enumerate(refs) if ref.id is not None]
        by_client_id = [(place, ref) for place, ref in enumerate(refs) if ref.id is None]
        for name, several in ((rules.ids, by_id), (rules.client_ids, by_client_id)):
            for start in range(0, len(several), rules.size):
                few = several[start : start + rules.size]
                wire = msgspec.json.encode([wires[place] for place, _ in few]).decode()
                answers = await self._cancel_few(market, (name, wire), [ref for _, ref in few], credentials, rules)
                results |= zip((place for place, _ in few), answers, strict=True)
        return [results[place] for place in sorted(results)]

    async def _cancel_few(
        self,
        market: Market,
        listed: tuple[str, str],
        refs: Sequence[OrderRef],
        credentials: Credentials,
        rules: CancelRules,
    ) -> Sequence[Order | Exception]:
        """One request. `listed`: the parameter that lists the ids of `refs`."""

        def unknown(ref: OrderRef, lost: AnswerLost | OrderOutcomeUnknown) -> Exception:
            return self.unknown("cancel_orders", market, ref, lost)

        try:
            body = await self.rest.command(
                "DELETE",
                "batchOrders",
                [("symbol", market.native_symbol), listed],
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
        return self.unknown("place_orders", market, OrderRef(client_order_id=order.client_order_id), lost)

    async def fills_of(
        self,
        market: Market | None,
        since: int | None,
        limit: int | None,
        credentials: Credentials,
        history: FillHistory,
    ) -> Sequence[Fill]:
        """Own fills in a market from the family's fill history."""
        assert market is not None

        async def fetch(start: int | None, end: int | None, size: int) -> tuple[Sequence[Fill], int | None]:
            params: Parameters = [
                ("symbol", market.native_symbol),
                ("startTime", start),
                ("endTime", end),
                ("limit", size),
            ]
            weight = history.weight
            rows = await self.rest.signed(history.decode, "GET", history.path, params, credentials, weight=weight)
            fills = [row.fill(market) for row in rows]
            return fills, max(fill.time for fill in fills) if len(fills) >= size else None

        return await self.windowed(fetch, since, limit, history.window_ms)
