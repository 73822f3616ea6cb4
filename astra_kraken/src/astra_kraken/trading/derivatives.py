"""Orders, accounts and positions of derivatives (`/derivatives/api/v3`, `/api/history/v3`).

An order that is filled at once is never listed as open, and a look-up forgets orders five seconds after their end:
from then on only the account's history tells what became of them. Rules: docs.kraken.com "Futures REST", Order
Management, History.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import msgspec

from astra.errors import BadRequest, OrderNotFound, OrderOutcomeUnknown, UnsupportedOperation, VenueError
from astra.families import RESOLVE_MARGIN_MS, REUSE_MS, SKEW_MS, FamilyTrading, in_order
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from astra.net.http import AnswerLost
from astra.rest import Placement, Value, plain
from astra.symbols import AssetType
from astra.trading.checks import native_quantity
from astra.trading.native import make_order, status_of
from astra_kraken.errors import Kind, refused_status
from astra_kraken.markets import native_symbol
from astra_kraken.rest import Asked, DerivativesRest, SpotRest
from astra_kraken.settings import KrakenOrderOptions
from astra_kraken.trading.derivatives_rows import (
    LOOK_UP_STATUS,
    CommandAnswer,
    CommandStatus,
    Element,
    HistoryOrder,
    decode_accounts,
    decode_anything,
    decode_change,
    decode_command,
    decode_fills,
    decode_history,
    decode_open_orders,
    decode_positions,
    decode_status,
    decode_tickers,
    executions_of,
    is_meant,
    milliseconds,
    past_order,
)
from astra_kraken.trading.spot_rows import decode_volume
from astra_kraken.trading.terms import (
    average_fill,
)

logger = logging.getLogger(__name__)

Parameters = list[tuple[str, Value | None]]

BATCH = 10
CANCEL_BATCH = 50
PAGE = 100
MAX_PAGES = 50
HISTORY_PAGE = 500
HISTORY_PAGES = 20
ONE_PAGE_MS = 60_000
"""What happened to the orders in one contract since then fits into one page of the history."""
LEAVES_NOTHING = frozenset({"mkt", "ioc", "fok"})
"""Types of which nothing rests: what is not filled at once is gone."""


class DerivativesTrading(FamilyTrading):
    """Trading on derivatives."""

    title = "Kraken derivatives"
    options_model = KrakenOrderOptions
    fees_by_market = True
    rest: DerivativesRest
    spot: SpotRest

    def bind(self, spot: SpotRest, asked: Asked) -> DerivativesTrading:
        """With Spot's API, which tells the fees of derivatives too, and with where placements are remembered for the
        account's stream."""
        self.spot = spot
        self._asked = asked
        return self

    @property
    def command_window_ms(self) -> int:
        return self.rest.window_ms

    def command_window_of(self, operation: str) -> int | None:
        """`processBefore` is documented for single commands; cancelling all has none, and of batches it is not said."""
        return None if operation in ("cancel_all_orders", "cancel_orders") else self.command_window_ms

    # -- placing ------------------------------------------------------------------------------------------------

    def order_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of `sendorder`. Raises `UnsupportedOperation` for what derivatives do not take."""
        options = self.options(order, trigger=order.type.is_conditional)
        if order.quote_quantity is not None:
            raise self.unsupported("orders by quoteQuantity; give quantity or contracts")
        return [
            ("orderType", self._type(order)),
            ("symbol", market.native_symbol),
            ("side", order.side.value.lower()),
            ("size", native_quantity(market, order)),
            ("limitPrice", order.price),
            ("stopPrice", order.stop_price),
            ("triggerSignal", options.trigger),
            ("reduceOnly", True if order.reduce_only else None),
            ("cliOrdId", order.client_order_id),
        ]

    def _type(self, order: OrderRequest) -> str:
        if order.type is OrderType.MARKET:
            self.check_market_time_in_force(order)
            return "mkt"
        if order.type.is_conditional:
            if order.time_in_force not in (None, TimeInForce.GTC):
                raise self.unsupported(f"time in force {order.time_in_force} for {order.type} orders")
            if order.post_only:
                raise self.unsupported(f"post-only {order.type} orders")
            return "stp" if order.type in (OrderType.STOP_LIMIT, OrderType.STOP_MARKET) else "take_profit"
        if order.post_only:
            self.resting_time_in_force(order)
            return "post"
        force = self.resting_time_in_force(order)
        return {TimeInForce.IOC: "ioc", TimeInForce.FOK: "fok"}.get(force, "lmt")

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        params = self.order_params(market, order)
        self._asked[credentials, order.client_order_id] = order
        answer = await self.rest.command(
            decode_command,
            "sendorder",
            params,
            credentials,
            market=market.symbol,
            operation="place_order",
            cost=10,
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
        )
        return self._placed(market, order, answer.send_status or CommandStatus())

    def _placed(self, market: Market, order: OrderRequest, status: CommandStatus) -> Order:
        """The order as the events leave it. The status says "placed" whether it rests or was filled at once,
        "cancelled" of one that has ended: REJECTED, where an event gives the reason why it was never in the book."""
        executed = [(one.price, one.amount) for one in status.order_events if one.price and one.amount]
        fills = [(price, amount) for price, amount in executed if price is not None and amount is not None]
        filled = sum((amount for _, amount in fills), Decimal(0))
        total = native_quantity(market, order)
        state = status_of(filled, total)
        ended = status.status == "cancelled" or any(one.type == "CANCEL" for one in status.order_events)
        if state is not OrderStatus.FILLED and (ended or self._type(order) in LEAVES_NOTHING):
            refused = ended and not filled and any(one.reason for one in status.order_events)
            state = OrderStatus.REJECTED if refused else OrderStatus.CANCELED
        facts = next((one.facts for one in status.order_events if one.facts is not None), None)
        created = milliseconds((facts.timestamp if facts else None) or status.received_time)
        return make_order(
            market,
            order_id=status.order_id or (facts.id if facts else None),
            client_order_id=order.client_order_id,
            side=order.side,
            kind=order.type,
            status=state,
            price=order.price,
            stop_price=order.stop_price,
            total=total,
            filled=filled,
            average=average_fill(market, fills),
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            created=created,
            updated=created,
        )

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """`batchorder`, ten orders at a time, of any markets; the answer tells which is which by a tag."""
        wires = [
            {name: _json_value(value) for name, value in self.order_params(market, order) if value is not None}
            for market, order in orders
        ]
        for _, order in orders:
            if order.client_order_id is not None:
                self._asked[credentials, order.client_order_id] = order
        results: list[Order | Exception] = []
        for start in range(0, len(orders), BATCH):
            few = orders[start : start + BATCH]
            rows = [
                {"order": "send", "order_tag": str(tag), **wire}
                for tag, wire in enumerate(wires[start : start + BATCH])
            ]
            try:
                answer = await self._batch(rows, few[0][0], credentials, "place_orders", [one for _, one in few])
            except OrderOutcomeUnknown as lost:
                results += [self._lost(market, order, lost) for market, order in few]
                continue
            except VenueError as error:
                results += [error] * len(few)
                continue
            by_tag = {row.order_tag: row for row in answer.batch_status}
            for tag, (market, order) in enumerate(few):
                results.append(self._batch_result(market, order, by_tag.get(str(tag))))
        return results

    def _batch_result(self, market: Market, order: OrderRequest, row: CommandStatus | None) -> Order | Exception:
        if row is None:
            return self._lost(market, order, AnswerLost("the answer to the batch does not have this order"))
        refused = refused_status(self.exchange, row.error or row.status, Kind.SEND)
        if refused is None:
            return self._placed(market, order, row)
        return self._lost(market, order, refused) if isinstance(refused, AnswerLost) else refused

    async def _batch(
        self,
        rows: Sequence[dict[str, Any]],
        market: Market,
        credentials: Credentials,
        operation: str,
        placed: Sequence[OrderRequest] = (),
    ) -> CommandAnswer:
        return await self.rest.command(
            decode_command,
            "batchorder",
            [("json", msgspec.json.encode({"batchOrder": rows}).decode())],
            credentials,
            market=market.symbol,
            operation=operation,
            cost=9 + len(rows),
            places=[order.client_order_id for order in placed if order.client_order_id],
            urgent=not placed,
            unproven=True,
        )

    def _lost(self, market: Market, order: OrderRequest, lost: AnswerLost | VenueError) -> OrderOutcomeUnknown:
        return self.unknown("place_orders", market, OrderRef(client_order_id=order.client_order_id), lost)

    # -- looking up ---------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """Open orders and those that ended within five seconds by a look-up; others out of the account's history."""
        found = await self._recent(market, ref, credentials) or await self._from_history(market, ref, credentials)
        if found is None:
            raise OrderNotFound(f"{self.title} have no order {ref.id or ref.client_order_id}", exchange=self.exchange)
        return found

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        """While the placement may still arrive the cheap look-up only: the history has a small budget."""
        ref = OrderRef(client_order_id=client_order_id)
        waiting = placement is not None and (
            self.rest.clock.now_ms() - placement.stamped <= self.rest.window_ms + RESOLVE_MARGIN_MS
        )
        found = await self._recent(market, ref, credentials)
        if found is None and not waiting:
            found = await self._from_history(market, ref, credentials)
        if found is None:
            raise OrderNotFound(f"{self.title} have no order {client_order_id}", exchange=self.exchange)
        return found

    @property
    def finds_done_conditionals(self) -> bool:  # type: ignore[override]
        """Placements of batches are marked like conditional orders: that their expiry is kept is not documented, so
        that not finding them proves nothing."""
        return False

    async def _recent(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | None:
        params: Parameters = [("orderIds", ref.id), ("cliOrdIds", ref.client_order_id)]
        answer = await self.rest.posted(decode_status, "POST", "orders/status", params, credentials, cost=1)
        rows = [row for row in answer.orders if native_symbol(row.order.symbol) == market.native_symbol]
        if not rows:
            return None
        # A client order id may be used again at once, while the order that had it is still known.
        row = max(rows, key=lambda row: milliseconds(row.order.timestamp) or 0)
        filled = row.order.filled or Decimal(0)
        status = LOOK_UP_STATUS.get(row.status, OrderStatus.UNKNOWN)
        average = await self._average(market, row.order.id, filled, credentials) if filled else None
        return row.order.order(market, status or status_of(filled, row.order.quantity), average=average)

    async def _average(
        self, market: Market, order_id: str | None, filled: Decimal, credentials: Credentials
    ) -> Decimal | None:
        """The average price of an order out of the latest fills; None where those are not all of it."""
        rows = (await self.rest.private(decode_fills, "fills", [], credentials, cost=2)).fills
        own = [(row.price, row.size) for row in rows if row.order_id == order_id]
        return average_fill(market, own) if sum((size for _, size in own), Decimal(0)) == filled else None

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """As for every family; but of a placement of long ago the history is read back to its time."""
        found = await super().resolve(market, client_order_id, since, credentials)
        clock = self.rest.clock
        if found is not False or clock.local.wall_ns() // 1_000_000 - since < ONE_PAGE_MS:
            return found
        since += round(clock.offset_ms)
        ref = OrderRef(client_order_id=client_order_id)
        order = await self._from_history(market, ref, credentials, since - SKEW_MS)
        if order is None or (order.created_time or since) < since - REUSE_MS:
            return False
        return order

    async def _from_history(
        self, market: Market, ref: OrderRef, credentials: Credentials, since: int | None = None
    ) -> Order | None:
        """An order that is done, put together from what happened to it and from its executions."""
        known: list[HistoryOrder] = []
        reason: str | None = None
        for name in ("orders", "triggers"):
            for element in await self._history(name, market, credentials, since):
                for kind, raw in element.event.items():
                    change = decode_change(raw)
                    order = change.new_order or change.order
                    if order is not None and is_meant(order, ref):
                        known.append(order)
                        ended = kind.endswith(("Cancelled", "Rejected"))
                        reason = reason or (kind if ended else None)
            if known:
                break
        fills: list[tuple[Decimal, Decimal]] = []
        ref = OrderRef(id=known[0].uid) if known else ref
        async with aclosing(self._pages("executions", market, credentials)) as pages:
            async for elements in pages:
                for execution in executions_of(elements):
                    orders = (execution.maker_order, execution.taker_order)
                    if own := [one for one in orders if one is not None and is_meant(one, ref)]:
                        known += own
                        fills.append((execution.price, execution.quantity))
                # What was executed before the order's placement is none of it.
                began = min((one.timestamp for one in known if one.timestamp), default=since)
                if began is None or (elements and elements[-1].timestamp < began):
                    break
        return past_order(market, known, fills, reason) if known else None

    async def _history(
        self, name: str, market: Market | None, credentials: Credentials, since: int | None
    ) -> Sequence[Element]:
        """The newest page of the history (of a contract), or (`since`, ms) all of it back to a time."""
        found: list[Element] = []
        async with aclosing(self._pages(name, market, credentials)) as pages:
            async for elements in pages:
                found += elements
                if since is None or (elements and elements[-1].timestamp < since):
                    break
        return found

    async def _pages(
        self, name: str, market: Market | None, credentials: Credentials
    ) -> AsyncGenerator[Sequence[Element], None]:
        """The history (of a contract), the newest page first. Raises `VenueError` when more is wanted than is read."""
        token: str | None = None
        for _ in range(HISTORY_PAGES):
            params: Parameters = [
                ("sort", "desc"),
                ("count", HISTORY_PAGE),
                ("tradeable", None if market is None else market.native_symbol),
                ("continuation_token", token),
            ]
            page = await self.rest.private(decode_history, f"/api/history/v3/{name}", params, credentials, cost=1)
            yield page.elements
            token = page.continuation_token
            if token is None:
                return
        raise VenueError(f"the history of {name} is longer than is read", exchange=self.exchange)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        rows = (await self.rest.private(decode_open_orders, "openorders", [], credentials, cost=2)).open_orders
        found = await self.with_markets(rows, market, lambda row: native_symbol(row.symbol))
        return [row.order(known) for known, row in found if market is None or known.symbol == market.symbol]

    # -- canceling and amending ---------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        answer = await self.rest.command(
            decode_command,
            "cancelorder",
            [("order_id", ref.id), ("cliOrdId", ref.client_order_id)],
            credentials,
            market=market.symbol,
            operation="cancel_order",
            cost=10,
            client_order_id=ref.client_order_id,
            order_id=ref.id,
            urgent=True,
        )
        return await self._ended(market, ref, answer.cancel_status or CommandStatus(), credentials, "cancel_order")

    async def _ended(
        self, market: Market, ref: OrderRef, status: CommandStatus, credentials: Credentials, operation: str
    ) -> Order:
        for event in status.order_events:
            if event.facts is not None:
                return event.facts.order(market, OrderStatus.CANCELED)
        return await self.after(operation, market, ref, credentials)

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        results: list[Order | Exception] = []
        for start in range(0, len(refs), CANCEL_BATCH):
            few = refs[start : start + CANCEL_BATCH]
            rows = [
                {"order": "cancel", "order_tag": str(tag)}
                | ({"order_id": ref.id} if ref.id is not None else {"cliOrdId": ref.client_order_id})
                for tag, ref in enumerate(few)
            ]
            try:
                answer = await self._batch(rows, market, credentials, "cancel_orders")
            except OrderOutcomeUnknown as lost:
                results += [self.unknown("cancel_orders", market, ref, lost) for ref in few]
                continue
            except VenueError as error:
                results += [error] * len(few)
                continue
            by_tag = {row.order_tag: row for row in answer.batch_status}
            for tag, ref in enumerate(few):
                results.append(await self._canceled(market, ref, by_tag.get(str(tag)), credentials))
        return results

    async def _canceled(
        self, market: Market, ref: OrderRef, row: CommandStatus | None, credentials: Credentials
    ) -> Order | Exception:
        if row is None:
            lost = AnswerLost("the answer to the batch does not have this cancel")
            return self.unknown("cancel_orders", market, ref, lost)
        refused = refused_status(self.exchange, row.error or row.status, Kind.CANCEL)
        if isinstance(refused, AnswerLost):
            return self.unknown("cancel_orders", market, ref, refused)
        if refused is not None:
            return refused
        try:
            return await self._ended(market, ref, row, credentials, "cancel_orders")
        except OrderOutcomeUnknown as unknown:
            return unknown

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        return await self._cancel_listed([("symbol", market.native_symbol)], market.symbol, credentials)

    async def cancel_everywhere(self, credentials: Credentials) -> Sequence[Order]:
        return await self._cancel_listed([], "all markets", credentials)

    async def _cancel_listed(self, params: Parameters, where: str, credentials: Credentials) -> Sequence[Order]:
        answer = await self.rest.command(
            decode_command,
            "cancelallorders",
            params,
            credentials,
            market=where,
            operation="cancel_all_orders",
            cost=25,
            urgent=True,
        )
        events = answer.cancel_status.order_events if answer.cancel_status else []
        rows = [event.facts for event in events if event.facts is not None]
        found = await self.with_markets(rows, None, lambda row: native_symbol(row.symbol))
        return [row.order(known, OrderStatus.CANCELED) for known, row in found]

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """`editorder`: the order keeps its ids."""
        quantity = None
        if change.quantity is not None or change.contracts is not None:
            quantity = native_quantity(market, change)
        answer = await self.rest.command(
            decode_command,
            "editorder",
            [
                ("orderId", ref.id),
                ("cliOrdId", ref.client_order_id),
                ("size", quantity),
                ("limitPrice", change.price),
            ],
            credentials,
            market=market.symbol,
            operation="amend_order",
            cost=10,
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        events = answer.edit_status.order_events if answer.edit_status else []
        after = next((event.new for event in events if event.new is not None), None)
        if after is None or len(events) > 1:
            return await self.after("amend_order", market, ref, credentials)
        return after.order(market, status_of(after.filled, after.quantity))

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """`cancelallordersafter`: of all contracts; in whole seconds, rounded up."""
        if market is not None:
            raise self.unsupported("dead-man timer of a single market: it covers all contracts, name no market")
        if not 0 <= timeout_s <= 86_400:
            raise BadRequest("the dead-man timer takes 0 (off) to 86400 seconds")
        params: Parameters = [("timeout", math.ceil(timeout_s))]
        await self.rest.posted(decode_anything, "POST", "cancelallordersafter", params, credentials, cost=25)

    # -- the account --------------------------------------------------------------------------------------------

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """`fills` has the last hundred of all contracts, newest first, and those before a time. Fees that it leaves
        out are looked up in the account's history, as far as the same executions are found there."""
        found: dict[str, Fill] = {}
        params: Parameters = []
        complete = False
        for _ in range(MAX_PAGES):
            cost = 25 if params else 2
            rows = (await self.rest.private(decode_fills, "fills", params, credentials, cost=cost)).fills
            fresh = [row for row in rows if row.fill_id not in found]
            for known, row in await self.with_markets(fresh, market, lambda row: native_symbol(row.symbol)):
                found[row.fill_id] = row.fill(known)
            oldest = min((row.fill_time for row in rows), default=None)
            complete = len(rows) < PAGE or (since is not None and (milliseconds(oldest) or 0) < since)
            enough = complete or (since is None and len(found) >= (limit or PAGE))
            if enough or not fresh or oldest is None:
                break
            # Up to and including the oldest: more fills may share its millisecond.
            params = [("lastFillTime", _iso(oldest + datetime.timedelta(milliseconds=1)))]
        if since is not None and not complete:
            raise VenueError("the list of fills is longer than is read", exchange=self.exchange)
        kept = [
            fill
            for fill in in_order(found.values())
            if (market is None or fill.market == market.symbol) and (since is None or fill.time >= since)
        ]
        if since is None:
            kept = kept[-(limit or PAGE) :]
        elif limit is not None:
            kept = kept[:limit]
        return await self._with_fees(kept, credentials)

    async def _with_fees(self, fills: Sequence[Fill], credentials: Credentials) -> Sequence[Fill]:
        bare = [fill for fill in fills if fill.fee is None]
        if not bare:
            return fills
        paid: dict[str, Decimal] = {}
        try:
            elements = await self._history("executions", None, credentials, min(fill.time for fill in bare))
            for execution in executions_of(elements):
                if execution.fee is not None:
                    paid[execution.uid] = execution.fee
        except VenueError as error:
            logger.info("%s: the fees of %d fills are not known: %s", self.exchange, len(bare), error)
            return fills
        return [
            fill.model_copy(
                update={"fee": paid[fill.id], "fee_asset": (await self.markets.get(fill.market)).margin_asset}
            )
            if fill.fee is None and fill.id in paid
            else fill
            for fill in fills
        ]

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        accounts = (await self.rest.private(decode_accounts, "accounts", [], credentials, cost=2)).accounts
        return [balance for name, wallet in accounts.items() for balance in wallet.held(name)]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        """One for each contract; mark prices, of which the venue's answer has none, from the tickers."""
        rows = (await self.rest.private(decode_positions, "openpositions", [], credentials, cost=2)).open_positions
        rows = [row for row in rows if row.size]
        if not rows:
            return ()
        tickers = (await self.rest.public(decode_tickers, "tickers")).tickers
        marks = {native_symbol(ticker.symbol): ticker.mark_price for ticker in tickers}
        found = await self.with_markets(rows, None, lambda row: native_symbol(row.symbol))
        return [row.position(known, marks.get(known.native_symbol)) for known, row in found]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        """Spot's `TradeVolume` tells them (the derivatives API's own schedules are deprecated): with Spot's key."""
        assert market is not None
        body = msgspec.json.encode({"pair": [{"asset": market.native_symbol, "aclass": "derivatives"}]})
        rates = (await self.spot.asked(decode_volume, "TradeVolume", body, credentials)).of(market)
        if rates is None:
            raise VenueError(f"TradeVolume tells no rates of {market.symbol}", exchange=self.exchange)
        return [rates]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """A leverage of its own isolates the contract's position from the rest of the account."""
        self._check_preference(market, "leverage to set")
        params: Parameters = [("symbol", market.native_symbol), ("maxLeverage", leverage)]
        await self._prefer(params, credentials)

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        """CROSS takes a contract's own leverage away; ISOLATED is had by setting one."""
        self._check_preference(market, "margin mode to set")
        if mode is MarginMode.ISOLATED:
            raise self.unsupported("isolated margin without a leverage: set_leverage isolates the contract")
        await self._prefer([("symbol", market.native_symbol)], credentials)

    def _check_preference(self, market: Market, what: str) -> None:
        if market.is_inverse or market.asset_type is AssetType.OPT:
            raise UnsupportedOperation(
                f"{self.title}: no {what} for {market.symbol}: linear perpetuals and futures only",
                exchange=self.exchange,
            )

    async def _prefer(self, params: Parameters, credentials: Credentials) -> None:
        await self.rest.posted(decode_anything, "PUT", "leveragepreferences", params, credentials, cost=10)


def _json_value(value: Value) -> Any:
    """Numbers of a batch travel as texts: JSON's would be read as floats."""
    return value if isinstance(value, bool) else plain(value)


def _iso(time: datetime.datetime) -> str:
    moment = time.astimezone(datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
