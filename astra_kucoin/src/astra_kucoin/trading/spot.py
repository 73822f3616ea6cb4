"""Trading on spot: the HF order family; conditional orders have endpoints and ids of their own until they are
triggered (docs-new, "Spot Trading / Orders", "Stop Order")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from astra.errors import BadRequest, OrderNotFound, VenueError, VenueUnavailable
from astra.models.accounts import Balance, Fees
from astra.models.base import decimal_text
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.net.http import AnswerLost
from astra.rest import Params, Placement
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged
from astra_kucoin.errors import refusal
from astra_kucoin.rest import MANAGEMENT, Answer, part
from astra_kucoin.settings import SPOT, KucoinOrderOptions
from astra_kucoin.trading.base import MOST_PAGES, STAMP_WINDOW_MS, KucoinTrading
from astra_kucoin.trading.orders import allowed_options, refused, spot_body
from astra_kucoin.trading.rows import (
    STOP_PREFIX,
    TRADE_ACCOUNT,
    SpotBalanceRow,
    SpotFillRow,
    SpotOrderRow,
    SpotStopRow,
)

ORDERS: Final = "/api/v1/hf/orders"
STOPS: Final = "/api/v1/stop-order"
BATCH: Final = 5
PAGE: Final = 100
TIMER_S: Final = (5, 86_400)
"""The dead-man timer's shortest and longest time."""


class Placed(msgspec.Struct, rename="camel"):
    """The answer to a placement; ordinary orders are told with what became of them at once. A refused one of a batch
    has `failMsg` and no id."""

    order_id: str = ""
    success: bool = True
    fail_msg: str = ""
    code: str | None = None
    order_time: int | None = None
    deal_size: str | None = None
    canceled_size: str | None = None
    status: str = ""

    def order(self, market: Market, asked: OrderRequest) -> Order:
        order = acknowledged(market, asked, self.order_id, self.order_time)
        if self.deal_size is None or not self.status:
            return order
        filled, canceled = Decimal(self.deal_size), Decimal(self.canceled_size or 0)
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
        if self.status == "done":
            status = OrderStatus.CANCELED if canceled else OrderStatus.FILLED if filled else OrderStatus.NEW
        return order.model_copy(update={"filled_quantity": filled, "status": status})


class _Altered(msgspec.Struct, rename="camel"):
    new_order_id: str


class _Page(msgspec.Struct):
    items: list[SpotStopRow] = []


class _FillPage(msgspec.Struct, rename="camel"):
    items: list[SpotFillRow] = []
    last_id: int | None = None


class _Symbols(msgspec.Struct):
    symbols: list[str] = []


class _FeeRow(msgspec.Struct, rename="camel"):
    symbol: str
    taker_fee_rate: str
    maker_fee_rate: str


decode_placed = msgspec.json.Decoder(Answer[Placed]).decode
decode_batch = msgspec.json.Decoder(Answer[list[Placed]]).decode
decode_altered = msgspec.json.Decoder(Answer[_Altered]).decode
decode_order = msgspec.json.Decoder(Answer[SpotOrderRow | None]).decode
decode_orders = msgspec.json.Decoder(Answer[list[SpotOrderRow] | None]).decode
decode_stop = msgspec.json.Decoder(Answer[SpotStopRow | None]).decode
decode_stop_list = msgspec.json.Decoder(Answer[list[SpotStopRow] | None]).decode
decode_stops = msgspec.json.Decoder(Answer[_Page]).decode
decode_symbols = msgspec.json.Decoder(Answer[_Symbols]).decode
decode_fills = msgspec.json.Decoder(Answer[_FillPage]).decode
decode_balances = msgspec.json.Decoder(Answer[list[SpotBalanceRow]]).decode
decode_fees = msgspec.json.Decoder(Answer[list[_FeeRow]]).decode


class SpotTrading(KucoinTrading):
    """Spot. A conditional order's `Order.id` is `stop:<id>`; once triggered it goes on as an ordinary one, with another
    id and the same client order id."""

    title = "KuCoin spot"
    fills_by_market = True
    finds_done_conditionals = False

    def placement_window_ms(self, placement: Placement | None) -> int:
        """Conditional orders carry no window: their time stamp bounds them, and what is not known to be another."""
        if placement is None or placement.conditional:
            return STAMP_WINDOW_MS
        return self.rest.recv_window_ms

    # -- placing ------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest) -> dict[str, Any]:
        """The request's body. Raises `UnsupportedOperation` for what spot does not take."""
        missing = refused(market, order)
        if missing is not None:
            raise self.unsupported(missing)
        options: KucoinOrderOptions = self.options(order, **allowed_options(market, order))
        now_ms, window_ms = self.rest.clock.now_ms(), self.rest.recv_window_ms
        return spot_body(market, order, options, now_ms=now_ms, window_ms=window_ms)

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        conditional = order.type.is_conditional
        answer = await self.rest.command(
            "POST",
            STOPS if conditional else f"{ORDERS}/sync",
            credentials,
            market=market.symbol,
            operation="place_order",
            weight=1,
            body=self._body(market, order),
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            conditional=conditional,
        )
        placed = decode_placed(answer).data
        if not conditional:
            return self._placed(placed, market, order, credentials)
        self.note(placed.order_id, order)
        return acknowledged(market, order, f"{STOP_PREFIX}{placed.order_id}", None)

    def _placed(self, placed: Placed, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        """An ordinary order, as the answer to its placement tells it."""
        self.notes.ids[credentials, order.client_order_id or ""] = placed.order_id
        return placed.order(market, order)

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        if any(order.type is not OrderType.LIMIT for order in orders):
            raise self.unsupported("batches of other orders than LIMIT ones")

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Market by market, five at a time."""
        # All are put into words before any is sent: what is not taken must not come up half-way.
        bodies = [self._body(market, order) for market, order in orders]
        by_market: dict[str, list[int]] = {}
        for place, (market, _) in enumerate(orders):
            by_market.setdefault(market.symbol, []).append(place)
        results: dict[int, Order | Exception] = {}
        for places in by_market.values():
            for start in range(0, len(places), BATCH):
                few = places[start : start + BATCH]
                answers = await self._few([orders[p] for p in few], [bodies[p] for p in few], credentials)
                results.update(zip(few, answers, strict=True))
        return [results[place] for place in range(len(orders))]

    async def _few(
        self, orders: Sequence[tuple[Market, OrderRequest]], bodies: Sequence[dict[str, Any]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        async def answer() -> Sequence[Placed]:
            body = await self.rest.command(
                "POST",
                f"{ORDERS}/multi/sync",
                credentials,
                market=orders[0][0].symbol,
                operation="place_orders",
                weight=1,
                body={"orderList": bodies},
                places=[order.client_order_id for _, order in orders if order.client_order_id],
            )
            return decode_batch(body).data

        def outcome(market: Market, order: OrderRequest, row: Placed) -> Order | Exception:
            if row.success and row.order_id:
                return self._placed(row, market, order, credentials)
            return refusal(self.exchange, SPOT, row.code, row.fail_msg)

        return await self.place_few(orders, answer(), outcome)

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order; by client order id, an ordinary one first. A conditional one that was triggered is the order that
        it became. Raises `VenueUnavailable` for one that shows as canceled while it is being amended: what it becomes
        cannot be told yet."""
        if ref.id is not None and ref.id.startswith(STOP_PREFIX):
            try:
                return await self._conditional(market, ref, credentials)
            except OrderNotFound:
                note = self.notes.stops.get(ref.id.removeprefix(STOP_PREFIX))
                if note is None:
                    raise
                return await self._ordinary(market, OrderRef(client_order_id=note.client_order_id), credentials)
        try:
            order = await self._ordinary(market, ref, credentials)
        except OrderNotFound:
            if ref.id is not None:
                raise
            return await self._conditional(market, ref, credentials)
        if order.status is not OrderStatus.CANCELED:
            return order
        if ref.id is not None and order.client_order_id is not None:
            order = await self._successor(market, order, credentials)
        if order.status is OrderStatus.CANCELED and self.notes.is_amending(credentials, order.id or ""):
            raise VenueUnavailable(
                f"order {order.id} in {market.symbol} is being amended, for which the venue cancels it first: what it "
                "becomes does not show yet. Ask again",
                exchange=self.exchange,
            )
        return order

    async def _successor(self, market: Market, order: Order, credentials: Credentials) -> Order:
        """An amended order is canceled and goes on under another id, with the same client order id."""
        try:
            named = await self._ordinary(market, OrderRef(client_order_id=order.client_order_id), credentials)
        except OrderNotFound:
            return order
        return named

    async def _ordinary(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        name = f"client-order/{part(ref.client_order_id)}" if ref.client_order_id is not None else part(ref.id or "")
        params: Params = [("symbol", market.native_symbol)]
        row = (await self.rest.signed(decode_order, f"{ORDERS}/{name}", params, credentials, weight=2)).data
        if row is None:
            raise OrderNotFound("the venue answers without an order", exchange=self.exchange)
        if row.client_oid and row.active:
            self.notes.ids[credentials, row.client_oid] = row.id
        return row.order(market)

    async def _conditional(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        row: SpotStopRow | None
        if ref.client_order_id is not None:
            params: Params = [("clientOid", ref.client_order_id), ("symbol", market.native_symbol)]
            path = f"{STOPS}/queryOrderByClientOid"
            rows = (await self.rest.signed(decode_stop_list, path, params, credentials, weight=3)).data
            row = rows[0] if rows else None
        else:
            path = f"{STOPS}/{part((ref.id or '').removeprefix(STOP_PREFIX))}"
            row = (await self.rest.signed(decode_stop, path, (), credentials, weight=3)).data
        if row is None or row.symbol != market.native_symbol:
            raise OrderNotFound(f"no conditional order in {market.symbol} has this id", exchange=self.exchange)
        return self._noted(row, market)

    def _noted(self, row: SpotStopRow, market: Market) -> Order:
        order = row.order(market)
        self.note(row.id, order)
        return order

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        ref = OrderRef(client_order_id=client_order_id)
        if placement is not None and not placement.conditional:
            return await self._ordinary(market, ref, credentials)
        return await self.get(market, ref, credentials)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """The venue lists ordinary orders market by market, and says in which ones there are any."""
        markets = [market] if market is not None else await self._busy(credentials)
        orders: list[Order] = []
        for one in markets:
            params: Params = [("symbol", one.native_symbol)]
            rows = (await self.rest.signed(decode_orders, f"{ORDERS}/active", params, credentials, weight=2)).data
            orders += [row.order(one) for row in rows or ()]
        return orders + await self._open_stops(market, credentials)

    async def _busy(self, credentials: Credentials) -> Sequence[Market]:
        listed = await self.rest.signed(decode_symbols, f"{ORDERS}/active/symbols", (), credentials, weight=2)
        found = [await self.market_of(native) for native in listed.data.symbols]
        return [market for market in found if market is not None]

    async def _open_stops(self, market: Market | None, credentials: Credentials) -> list[Order]:
        rows: list[SpotStopRow] = []
        native = None if market is None else market.native_symbol
        for page in range(1, MOST_PAGES + 1):
            params: Params = [("symbol", native), ("currentPage", page), ("pageSize", PAGE)]
            items = (await self.rest.signed(decode_stops, STOPS, params, credentials, weight=8)).data.items
            rows += items
            if len(items) < PAGE:
                break
        found = await self.with_markets(rows, market, lambda row: row.native_symbol)
        return [self._noted(row, known) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Newest first at the venue."""
        assert market is not None
        native = market.native_symbol

        async def ask(start: int | None, end: int | None, mark: int | None) -> tuple[Sequence[SpotFillRow], int | None]:
            params: Params = [
                ("symbol", native),
                ("lastId", mark),
                ("limit", PAGE),
                ("startAt", start),
                ("endAt", end),
            ]
            page = (await self.rest.signed(decode_fills, "/api/v1/hf/fills", params, credentials, weight=2)).data
            return page.items, (page.last_id or None) if len(page.items) == PAGE else None

        return await self.in_weeks(ask, market, since, limit, PAGE)

    # -- cancelling and changing --------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """Also by an id from before an amendment, or before the order was triggered."""
        return await self.under_its_id(market, ref, credentials, lambda named: self._cancel(market, named, credentials))

    async def _cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for. Of a client order id it is not known whether
        its order is a conditional one, unless this process placed it."""
        if ref.id is not None:
            conditional = ref.id.startswith(STOP_PREFIX)
        else:
            assert ref.client_order_id is not None
            placement = self.rest.placement(credentials, ref.client_order_id)
            conditional = placement is not None and placement.conditional
            if placement is None or placement.conditional:
                # The order tells: it may have been triggered, or placed by somebody else.
                order = await self.get(market, ref, credentials)
                conditional = (order.id or "").startswith(STOP_PREFIX)
        if conditional:
            return await self._cancel_conditional(market, ref, credentials)
        name = f"client-order/{part(ref.client_order_id)}" if ref.client_order_id is not None else part(ref.id or "")
        await self.rest.command(
            "DELETE",
            f"{ORDERS}/sync/{name}",
            credentials,
            market=market.symbol,
            operation="cancel_order",
            weight=1,
            params=[("symbol", market.native_symbol)],
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        if ref.id is not None:
            self.notes.canceled(credentials, ref.id)
        try:
            order = await self._ordinary(market, ref, credentials)
        except VenueError as error:
            lost = AnswerLost(f"accepted, but the order could not be asked for: {error.message}", code=error.code)
            raise self.unknown("cancel_order", market, ref, lost) from error
        self.notes.canceled(credentials, order.id or "")
        return order

    async def _cancel_conditional(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """A conditional order cannot be looked up once it is canceled."""
        order = await self._conditional(market, ref, credentials)
        assert order.id is not None
        await self.rest.command(
            "DELETE",
            f"{STOPS}/{part(order.id.removeprefix(STOP_PREFIX))}",
            credentials,
            market=market.symbol,
            operation="cancel_order",
            weight=3,
            client_order_id=ref.client_order_id,
            order_id=order.id,
        )
        return order.model_copy(update={"status": OrderStatus.CANCELED})

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """Conditional orders, which may become ordinary ones meanwhile, and ordinary ones; what became of each is asked
        for."""
        orders = await self.open_orders(market, credentials)
        conditional = [order for order in orders if (order.id or "").startswith(STOP_PREFIX)]
        # Orders that were not listed yet must not stay: the ordinary ones are canceled in any case.
        paths = [(f"{STOPS}/cancel", 3), (ORDERS, 2)] if conditional else [(ORDERS, 2)]
        await self.each(partial(self.cancel_at, path, market, credentials, weight) for path, weight in paths)
        for order in orders:
            self.notes.canceled(credentials, order.id or "")
        return await self.canceled_of("cancel_all_orders", market, orders, credentials)

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """The venue cancels and places anew: the order's id changes, its client order id stays. A new quantity counts
        what is filled already. Also by an id from before an earlier amendment, or before the order was triggered."""
        placement = None if ref.client_order_id is None else self.rest.placement(credentials, ref.client_order_id)
        if (ref.id or "").startswith(STOP_PREFIX) or (placement is not None and placement.conditional):
            ref = OrderRef(id=(await self.get(market, ref, credentials)).id)
            if (ref.id or "").startswith(STOP_PREFIX):
                raise self.unsupported("amendment of conditional orders; cancel and place anew")
        return await self.under_its_id(
            market, ref, credentials, lambda named: self._amend(market, named, change, credentials)
        )

    async def _amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        old = ref.id or await self._id_of(market, ref.client_order_id or "", credentials)
        body: dict[str, Any] = {"symbol": market.native_symbol}
        if ref.id is not None:
            body["orderId"] = ref.id
        else:
            body["clientOid"] = ref.client_order_id
        if change.price is not None:
            body["newPrice"] = decimal_text(change.price)
        if change.quantity is not None or change.contracts is not None:
            body["newSize"] = decimal_text(native_quantity(market, change))
        with self.notes.amending(credentials, old):
            answer = await self.rest.command(
                "POST",
                f"{ORDERS}/alter",
                credentials,
                market=market.symbol,
                operation="amend_order",
                weight=1,
                body=body,
                client_order_id=ref.client_order_id,
                order_id=old,
            )
        now = decode_altered(answer).data.new_order_id
        if ref.client_order_id is not None:
            self.notes.ids[credentials, ref.client_order_id] = now
        if now == old:
            # Nothing was left of it to place: it was only canceled.
            self.notes.canceled(credentials, old)
        return await self.after("amend_order", market, OrderRef(id=now), credentials)

    async def _id_of(self, market: Market, client_order_id: str, credentials: Credentials) -> str:
        """The venue's id of an order. One that somebody else amended since it was last told is another one now: then
        the stream tells the amendment as a cancel and a new order."""
        known = self.notes.ids.get((credentials, client_order_id))
        if known is not None:
            return known
        return (await self._ordinary(market, OrderRef(client_order_id=client_order_id), credentials)).id or ""

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of all ordinary spot orders of the account; 5 s to a day."""
        if market is not None:
            raise self.unsupported("dead-man timer for single markets: leave the market out")
        if timeout_s and not TIMER_S[0] <= timeout_s <= TIMER_S[1]:
            raise BadRequest(
                f"KuCoin's dead-man timer takes {TIMER_S[0]} to {TIMER_S[1]} s (or 0), not {timeout_s:g} s"
            )
        body = {"timeout": round(timeout_s) or -1}
        await self.rest.set(bytes, f"{ORDERS}/dead-cancel-all", body, credentials, weight=2)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        """Of the trade account."""
        params: Params = [("type", TRADE_ACCOUNT)]
        answer = await self.rest.signed(
            decode_balances, "/api/v1/accounts", params, credentials, weight=5, pool=MANAGEMENT
        )
        found = [row.as_balance() for row in answer.data if row.type == TRADE_ACCOUNT]
        return [balance for balance in found if balance.total or balance.locked]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Params = [("symbols", market.native_symbol)]
        answer = await self.rest.signed(decode_fees, "/api/v1/trade-fees", params, credentials, weight=3)
        return [
            Fees(market=market.symbol, maker=Decimal(row.maker_fee_rate), taker=Decimal(row.taker_fee_rate))
            for row in answer.data
            if row.symbol == market.native_symbol
        ]
