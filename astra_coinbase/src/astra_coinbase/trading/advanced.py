"""The trading hooks of Advanced Trade: spot and US futures, one account, one key."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import msgspec

from astra.errors import (
    DuplicateClientOrderId,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    PermissionDenied,
    VenueError,
)
from astra.families import SKEW_MS, FamilyTrading, in_order
from astra.models.accounts import Balance, Fees, Position
from astra.models.base import Model, PlainDecimal
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest
from astra.net.http import AnswerLost
from astra.rest import Params, Placement, Recent, plain
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged
from astra.venue import MarketTable
from astra_coinbase.errors import cancel_error
from astra_coinbase.rest import AdvancedRest
from astra_coinbase.settings import SPOT, US_FUTURES, CoinbaseOrderOptions
from astra_coinbase.trading.advanced_orders import allowed_options, order_body, refused, time_text
from astra_coinbase.trading.advanced_rows import (
    EDITABLE,
    AccountRow,
    FillRow,
    FuturesSummary,
    Kinds,
    OrderRow,
    PositionRow,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
PAGE = 250
MOST_PAGES = 100
MOST_BARREN = 10
"""So many pages of fills in a row may bring nothing new: fills that come meanwhile push others to a later page."""
BATCH = 100
"""Cancels in one request at most."""
LEEWAY_S = 30
"""Clocks may differ by so much: a token may be taken so long after its end."""
IDS_KEPT = 20_000
LIVE_STATUS = ("OPEN", "PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED")


class Preview(Model):
    """What the venue expects of an order that is not placed (yet)."""

    total: PlainDecimal | None
    fees: PlainDecimal | None
    failures: tuple[str, ...]
    """Why it would be refused, in the venue's words; empty when it would not."""


class _Success(msgspec.Struct):
    order_id: str
    product_id: str = ""
    side: str = ""


class _Placed(msgspec.Struct):
    success_response: _Success


class _Cancel(msgspec.Struct):
    order_id: str
    success: bool
    failure_reason: str = ""


class _Cancels(msgspec.Struct):
    results: list[_Cancel]


class _OneOrder(msgspec.Struct):
    order: OrderRow


class _Page(msgspec.Struct, kw_only=True):
    """A part of a list."""

    has_next: bool = False
    cursor: str = ""

    def next_cursor(self, exchange: str) -> str | None:
        """Where the list goes on; None at its end. Raises `VenueError` where it goes on and does not say where."""
        if self.has_next and not self.cursor:
            raise VenueError("a list has more pages, and the venue does not say where", exchange=exchange)
        return self.cursor if self.has_next else None


class _Orders(_Page):
    orders: list[OrderRow]


class _Fills(msgspec.Struct):
    fills: list[FillRow]
    cursor: str = ""


class _Accounts(_Page):
    accounts: list[AccountRow]


class _Known(msgspec.Struct, frozen=True):
    """Which order has a client order id."""

    order_id: str
    product_id: str


class _Summary(msgspec.Struct):
    balance_summary: FuturesSummary | None = None


class _Positions(msgspec.Struct):
    positions: list[PositionRow] = []


class _Tier(msgspec.Struct):
    maker_fee_rate: str
    taker_fee_rate: str


class _Fees(msgspec.Struct):
    fee_tier: _Tier


class _Preview(msgspec.Struct):
    order_total: str = ""
    commission_total: str = ""
    errs: list[str] = []


decode_placed = msgspec.json.Decoder(_Placed).decode
decode_cancels = msgspec.json.Decoder(_Cancels).decode
decode_order = msgspec.json.Decoder(_OneOrder).decode
decode_orders = msgspec.json.Decoder(_Orders).decode
decode_fills = msgspec.json.Decoder(_Fills).decode
decode_accounts = msgspec.json.Decoder(_Accounts).decode
decode_summary = msgspec.json.Decoder(_Summary).decode
decode_positions = msgspec.json.Decoder(_Positions).decode
decode_fees = msgspec.json.Decoder(_Fees).decode
_decode_preview = msgspec.json.Decoder(_Preview).decode


class AdvancedTrading(FamilyTrading):
    """Orders and the account of Advanced Trade.

    The venue has no look-up by client order id: ids that this process saw are remembered, others are looked for in the
    list of orders. What is remembered may be the very order that is being placed: lists and streams may tell of it
    before its acknowledgement arrives.
    """

    title = "Coinbase Advanced Trade"
    options_model = CoinbaseOrderOptions
    fees_by_market = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {SPOT: ("positions",)}
    rest: AdvancedRest

    def __init__(self, rest: AdvancedRest, markets: MarketTable, products: Sequence[str]) -> None:
        super().__init__(rest, markets, products)
        self.kinds = Kinds()
        self._ids: Recent[tuple[Credentials, str], _Known] = Recent(IDS_KEPT)
        self._placing: set[tuple[Credentials, str]] = set()
        """The client order ids of placements whose answers are awaited."""

    @property
    def command_window_ms(self) -> int:
        """The life of the token that signs a command, and what the venue's clock may be late."""
        return (self.rest.command_life_s + LEEWAY_S) * 1000

    def _order(self, row: OrderRow, market: Market, credentials: Credentials) -> Order:
        self.kinds.note(row.client_order_id, row.kind)
        if row.client_order_id:
            self._ids[credentials, row.client_order_id] = _Known(row.order_id, row.product_id)
        return row.order(market)

    # -- placing ------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest) -> dict[str, Any]:
        missing = refused(market, order)
        if missing is not None:
            raise self.unsupported(missing)
        options: CoinbaseOrderOptions = self.options(order, **allowed_options(market))
        return order_body(market, order, options)

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        """The venue acknowledges an order by its id; a client order id that was used before by that of the first
        order, and places nothing. An order that was known before the request left is therefore not the one asked for;
        one that is seen while its answer is awaited may well be."""
        assert order.client_order_id is not None
        body = {"client_order_id": order.client_order_id, **self._body(market, order)}
        key = (credentials, order.client_order_id)
        if key in self._placing:
            raise DuplicateClientOrderId(
                f"an order under the client id {order.client_order_id} is being placed already. Nothing was sent",
                exchange=self.exchange,
            )
        before = self._ids.get(key)
        self.kinds.note(order.client_order_id, order.type)
        self._placing.add(key)
        try:
            answer = await self.rest.command(
                decode_placed,
                "orders",
                body,
                credentials,
                market=market,
                operation="place_order",
                ref=OrderRef(client_order_id=order.client_order_id),
                places=True,
            )
        finally:
            self._placing.discard(key)
        placed = answer.success_response
        echoed = (placed.product_id or market.native_symbol, placed.side or order.side.value)
        another = echoed != (market.native_symbol, order.side.value)
        if another or (before is not None and before.order_id == placed.order_id):
            raise DuplicateClientOrderId(
                f"{order.client_order_id} is the client id of another order, {placed.order_id}", exchange=self.exchange
            )
        self._ids[key] = _Known(placed.order_id, market.native_symbol)
        return acknowledged(market, order, placed.order_id, None)

    async def preview(self, market: Market, order: OrderRequest, credentials: Credentials) -> Preview:
        """What would become of an order; nothing is placed."""
        body = _decode_preview(await self.rest.asked("orders/preview", self._body(market, order), credentials))
        total, fees = (Decimal(text) if text else None for text in (body.order_total, body.commission_total))
        return Preview(total=total, fees=fees, failures=tuple(body.errs))

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        if ref.id is None:
            assert ref.client_order_id is not None
            return await self._find(market, ref.client_order_id, None, credentials)
        return self._order(await self._row(market, ref.id, credentials), market, credentials)

    async def _row(self, market: Market, order_id: str, credentials: Credentials) -> OrderRow:
        path = f"orders/historical/{_segment(order_id, self.exchange)}"
        row = (await self.rest.signed(decode_order, path, (), credentials)).order
        if row.product_id != market.native_symbol:
            raise OrderNotFound(f"order {order_id} is one of {row.product_id}", exchange=self.exchange)
        return row

    async def _find(self, market: Market, client_order_id: str, since: int | None, credentials: Credentials) -> Order:
        """By client order id: the order that is remembered, else the newest in the list that has it. `since` (ms): one
        that was made before is not the one meant."""
        known = self._known(market, client_order_id, credentials)
        if known is not None:
            order = self._order(await self._row(market, known, credentials), market, credentials)
            if since is None or order.created_time is None or order.created_time >= since:
                return order
        params: list[tuple[str, str | int | None]] = [("product_ids", market.native_symbol)]
        if since is not None:
            params.append(("start_date", time_text(since)))
        for row in await self._rows(params, credentials):
            if row.client_order_id == client_order_id and row.product_id == market.native_symbol:
                return self._order(row, market, credentials)
        raise OrderNotFound(f"no order in {market.symbol} has the client id {client_order_id}", exchange=self.exchange)

    def _known(self, market: Market, client_order_id: str, credentials: Credentials) -> str | None:
        """The order id that is remembered, unless it is one of another market's order."""
        known = self._ids.get((credentials, client_order_id))
        return known.order_id if known is not None and known.product_id == market.native_symbol else None

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        """A placement of this process is looked for among the orders from then on."""
        since = None if placement is None else placement.stamped - SKEW_MS
        return await self._find(market, client_order_id, since, credentials)

    async def _rows(self, params: Params, credentials: Credentials) -> list[OrderRow]:
        """All orders that the list has, page by page. Raises `VenueError` where there are too many: half a list would
        prove that an order is not in it."""
        rows: list[OrderRow] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            asked = [*params, ("limit", PAGE), ("cursor", cursor)]
            answer = await self.rest.signed(decode_orders, "orders/historical/batch", asked, credentials)
            rows += answer.orders
            cursor = answer.next_cursor(self.exchange)
            if cursor is None:
                return rows
        raise VenueError(f"the list of orders has more than {MOST_PAGES} pages", exchange=self.exchange)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """The venue's OPEN leaves out what is pending or queued, and OPEN goes with no other status."""
        product: Params = [] if market is None else [("product_ids", market.native_symbol)]
        found: dict[str, OrderRow] = {}
        for statuses in (LIVE_STATUS[1:], LIVE_STATUS[:1]):
            asked = [*product, *(("order_status", status) for status in statuses)]
            found |= {row.order_id: row for row in await self._rows(asked, credentials)}
        live = [row for row in found.values() if row.status in LIVE_STATUS]
        rows = await self.with_markets(live, market, lambda row: row.product_id)
        return [self._order(row, known, credentials) for known, row in rows]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Newest first at the venue: the oldest `limit` from `since` on are known once all from there on are. Fills of
        markets that are not listed are left out, and do not count. Raises `VenueError` where the pages have no end."""
        params: list[tuple[str, str | int | None]] = []
        if market is not None:
            params.append(("product_ids", market.native_symbol))
        if since is not None:
            params.append(("start_sequence_timestamp", time_text(since)))
        seen: set[tuple[str, str]] = set()
        found: list[Fill] = []
        cursor: str | None = None
        barren = 0
        while barren < MOST_BARREN:
            asked = [*params, ("limit", PAGE), ("cursor", cursor)]
            answer = await self.rest.signed(decode_fills, "orders/historical/fills", asked, credentials)
            fresh = {(row.product_id, row.entry_id): row for row in answer.fills}
            fresh = {key: row for key, row in fresh.items() if key not in seen}
            seen.update(fresh)
            rows = await self.with_markets(fresh.values(), market, lambda row: row.product_id)
            found += [row.fill(known) for known, row in rows]
            # Without `since` the newest are wanted, and they come first.
            enough = since is None and (len(seen) >= PAGE if limit is None else len(found) >= limit)
            if not answer.cursor or enough:
                found = in_order(found)
                if since is None:
                    return found[-(limit or PAGE) :]
                return [fill for fill in found if fill.time >= since][:limit]
            cursor = answer.cursor
            barren = 0 if fresh else barren + 1
        raise VenueError(
            f"the list of fills goes on, and its last {MOST_BARREN} pages brought nothing new", exchange=self.exchange
        )

    # -- cancelling and changing --------------------------------------------------------------------------------

    async def _id_of(self, market: Market, ref: OrderRef, credentials: Credentials) -> str:
        """The venue cancels and changes by its own ids alone."""
        if ref.id is not None:
            return ref.id
        assert ref.client_order_id is not None
        known = self._known(market, ref.client_order_id, credentials)
        if known is None:
            known = (await self._find(market, ref.client_order_id, None, credentials)).id
        assert known is not None
        return known

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for."""
        order_id = await self._id_of(market, ref, credentials)
        answer = await self._cancel([order_id], market, credentials, "cancel_order", ref)
        if not answer[0].success:
            raise cancel_error(self.exchange, answer[0].failure_reason)
        return await self._after("cancel_order", market, ref, order_id, credentials)

    async def _cancel(
        self, order_ids: Sequence[str], market: Market, credentials: Credentials, operation: str, ref: OrderRef
    ) -> Sequence[_Cancel]:
        """The verdicts on some orders, in their order. One that is named twice is asked for once."""
        answer = await self.rest.command(
            decode_cancels,
            "orders/batch_cancel",
            {"order_ids": list(dict.fromkeys(order_ids))},
            credentials,
            market=market,
            operation=operation,
            ref=ref,
            urgent=True,
        )
        verdicts = {row.order_id: row for row in answer.results}
        if missing := [order_id for order_id in order_ids if order_id not in verdicts]:
            raise self.unknown(operation, market, ref, AnswerLost(f"the answer leaves out {', '.join(missing)}"))
        return [verdicts[order_id] for order_id in order_ids]

    async def _after(
        self, operation: str, market: Market, ref: OrderRef, order_id: str, credentials: Credentials
    ) -> Order:
        """The order as it stands after a command that was accepted."""
        try:
            return await self.get(market, OrderRef(id=order_id), credentials)
        except VenueError as error:
            lost = AnswerLost(f"accepted, but the order could not be asked for: {error.message}", code=error.code)
            raise self.unknown(operation, market, ref, lost) from error

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        results: dict[int, Order | Exception] = {}
        ids: dict[int, str] = {}
        for place, ref in enumerate(refs):
            try:
                ids[place] = await self._id_of(market, ref, credentials)
            except VenueError as error:
                results[place] = error
        places = list(ids)
        for start in range(0, len(places), BATCH):
            few = places[start : start + BATCH]
            try:
                verdicts = await self._cancel(
                    [ids[place] for place in few], market, credentials, "cancel_orders", refs[few[0]]
                )
            except OrderOutcomeUnknown as lost:
                results |= {place: self.unknown("cancel_orders", market, refs[place], lost) for place in few}
                continue
            except VenueError as error:
                results |= dict.fromkeys(few, error)
                continue
            for place, verdict in zip(few, verdicts, strict=True):
                if not verdict.success:
                    results[place] = cancel_error(self.exchange, verdict.failure_reason)
                    continue
                try:
                    results[place] = await self._after("cancel_orders", market, refs[place], ids[place], credentials)
                except OrderOutcomeUnknown as error:
                    results[place] = error
        return [results[place] for place in range(len(refs))]

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        return await self.cancel_listed(market, credentials)

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """The venue wants price and size together: what the change leaves out is asked for before."""
        order_id = await self._id_of(market, ref, credentials)
        row = await self._row(market, order_id, credentials)
        name, members = row.configuration
        if name not in EDITABLE:
            raise self.unsupported(f"amendment of {name} orders; cancel and place anew")
        size, price = members.get("base_size"), members.get("limit_price")
        if change.quantity is not None or change.contracts is not None:
            size = plain(native_quantity(market, change))
        if change.price is not None:
            price = plain(change.price)
        body = {"order_id": order_id, "price": str(price), "size": str(size)}
        await self.rest.command(
            bytes, "orders/edit", body, credentials, market=market, operation="amend_order", ref=ref
        )
        return await self._after("amend_order", market, ref, order_id, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        """Of the wallets of both products."""
        found: list[Balance] = []
        if SPOT in self.products:
            found += await self._spot_balances(credentials)
        if US_FUTURES in self.products:
            found += await self._of_futures(self._futures_balances, credentials)
        return [balance for balance in found if balance.total]

    async def _spot_balances(self, credentials: Credentials) -> Sequence[Balance]:
        """All wallets, page by page. Raises `VenueError` where there are too many: what is missing would count as
        nothing."""
        found: list[Balance] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            asked: Params = [("limit", PAGE), ("cursor", cursor)]
            answer = await self.rest.signed(decode_accounts, "accounts", asked, credentials)
            found += [row.balance() for row in answer.accounts]
            cursor = answer.next_cursor(self.exchange)
            if cursor is None:
                return found
        raise VenueError(f"the list of wallets has more than {MOST_PAGES} pages", exchange=self.exchange)

    async def _futures_balances(self, credentials: Credentials) -> Sequence[Balance]:
        summary = (await self.rest.signed(decode_summary, "cfm/balance_summary", (), credentials)).balance_summary
        balance = None if summary is None else summary.balance()
        return () if balance is None else (balance,)

    async def _of_futures(
        self, ask: Callable[[Credentials], Awaitable[Sequence[T]]], credentials: Credentials
    ) -> Sequence[T]:
        """What the futures account says. An account that has none still has its spot wallets."""
        try:
            return await ask(credentials)
        except (PermissionDenied, MarketNotFound) as error:
            if SPOT not in self.products:
                raise
            logger.warning(
                "%s: account %r has no access to %s (the setting `products` can leave it out): %s",
                self.exchange,
                credentials.account,
                US_FUTURES,
                error,
            )
            return ()

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        if US_FUTURES not in self.products:
            return ()
        return await self._of_futures(self._futures_positions, credentials)

    async def _futures_positions(self, credentials: Credentials) -> Sequence[Position]:
        answer = await self.rest.signed(decode_positions, "cfm/positions", (), credentials)
        rows = [row for row in answer.positions if Decimal(row.number_of_contracts or 0)]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.product_id)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        """The tier of the market's product."""
        assert market is not None
        params: Params = [("product_type", "SPOT" if market.product == SPOT else "FUTURE")]
        tier = (await self.rest.signed(decode_fees, "transaction_summary", params, credentials)).fee_tier
        return [Fees(market=market.symbol, maker=Decimal(tier.maker_fee_rate), taker=Decimal(tier.taker_fee_rate))]


def _segment(order_id: str, exchange: str) -> str:
    """An order id as a part of a path."""
    if not order_id.replace("-", "").isalnum() or not order_id.isascii():
        raise OrderNotFound(
            f"{order_id!r} is no order id of Coinbase: those are letters, digits, dashes", exchange=exchange
        )
    return order_id
