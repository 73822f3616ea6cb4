"""The trading hooks of the one account that all products share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import msgspec

from astra.errors import (
    BadRequest,
    OrderNotFound,
    OrderOutcomeUnknown,
    VenueError,
)
from astra.families import FamilyTrading, in_order
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest
from astra.net.http import AnswerLost
from astra.rest import Decode, Params, Placement
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged, decimal_or_none
from astra.venue import MarketTable
from astra_okx.errors import Row, row_error
from astra_okx.markets import INST_TYPES
from astra_okx.rest import BATCH, TIMER, Answer, OkxRest, text
from astra_okx.settings import FUTURES, OPTION, SPOT, SWAP, OkxOrderOptions, OkxSettings
from astra_okx.trading.orders import algo_body, allowed_options, order_body, refused, trade_mode
from astra_okx.trading.rows import ALGO_LISTS, ALGO_PREFIX, AlgoRow, BalanceRow, FillRow, OrderRow, PositionRow

Listed = TypeVar("Listed")
Parameters = list[tuple[str, str | int | None]]

PAGE = 100
SHORTEST_SPAN_MS = 10
"""A span of time this short is not halved any more."""
STAMP_WINDOW_MS = 30_000
"""A signed request is refused when its time stamp is older: what bounds requests that carry no deadline."""
RECENT_MS = 3 * 86_400_000 - 3_600_000
"""`fills` keeps three days, `fills-history` three months."""
TIMER_S = (10, 120)
"""The dead-man timer's shortest and longest time."""


class _Ack(msgspec.Struct, rename={"order_id": "ordId", "algo_id": "algoId", "time": "ts"}):
    """A row of the answer to a command that was accepted."""

    order_id: str = ""
    algo_id: str = ""
    time: str = ""


class _Account(msgspec.Struct):
    details: list[BalanceRow] = []


class _FeeGroup(msgspec.Struct, rename="camel"):
    maker: str = ""
    taker: str = ""
    group_id: str = ""


class _FeeRow(msgspec.Struct, rename="camel"):
    maker: str = ""
    taker: str = ""
    fee_group: list[_FeeGroup] = []

    def fees(self, market: Market) -> Fees:
        """The rates of the one group that was asked for; a negative rate is a fee."""
        rates = self.fee_group[0] if len(self.fee_group) == 1 else self
        return Fees(
            market=market.symbol,
            maker=-(decimal_or_none(rates.maker) or Decimal(0)),
            taker=-(decimal_or_none(rates.taker) or Decimal(0)),
        )


class _Found(NamedTuple):
    """An order that was looked up; and as it waited, where it is a conditional order that was triggered."""

    order: Order
    waiting: Order | None = None

    def precedence(self) -> tuple[bool, int]:
        """Of two orders under one client order id, the one that is meant comes last."""
        return self.order.status.is_open, self.order.created_time or 0


def _order_id(row: OrderRow) -> str:
    return row.ord_id


def _algo_id(row: AlgoRow) -> str:
    return row.algo_id


def _bill_id(row: FillRow) -> str:
    return row.bill_id


_decode_acks = msgspec.json.Decoder(Answer[list[_Ack]]).decode
_decode_verdicts = msgspec.json.Decoder(Answer[list[Row]]).decode
_decode_orders = msgspec.json.Decoder(Answer[list[OrderRow]]).decode
_decode_algos = msgspec.json.Decoder(Answer[list[AlgoRow]]).decode
_decode_fills = msgspec.json.Decoder(Answer[list[FillRow]]).decode
_decode_accounts = msgspec.json.Decoder(Answer[list[_Account]]).decode
_decode_positions = msgspec.json.Decoder(Answer[list[PositionRow]]).decode
_decode_fees = msgspec.json.Decoder(Answer[list[_FeeRow]]).decode


class OkxTrading(FamilyTrading):
    """Orders and the account. Conditional orders are "algo orders" with endpoints and ids of their own: their
    `Order.id` is `algo:<algoId>`; once triggered they are the order that they became."""

    title = "OKX"
    options_model = OkxOrderOptions
    fees_by_market = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {
        SPOT: ("positions", "set_leverage", "set_position_mode"),
        OPTION: ("set_leverage", "set_position_mode"),
    }
    rest: OkxRest

    def __init__(self, rest: OkxRest, markets: MarketTable, settings: OkxSettings) -> None:
        super().__init__(rest, markets, settings.products)
        self._settings = settings

    @property
    def command_window_ms(self) -> int:
        """Placements carry a deadline, `expTime`."""
        return self.rest.recv_window_ms

    def placement_window_ms(self, placement: Placement | None) -> int:
        """Conditional orders carry none: their time stamp bounds them, and what is not known to be another."""
        if placement is None or placement.conditional:
            return STAMP_WINDOW_MS
        return self.command_window_ms

    # -- placing ------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest) -> dict[str, Any]:
        """The request's body. Raises `UnsupportedOperation` for what the product does not take."""
        missing = refused(market, order)
        if missing is not None:
            raise self.unsupported(missing)
        options: OkxOrderOptions = self.options(order, **allowed_options(market, order))
        make = algo_body if order.type.is_conditional else order_body
        return make(market, order, options, self._settings)

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        conditional = order.type.is_conditional
        body = await self.rest.command(
            "trade/order-algo" if conditional else "trade/order",
            self._body(market, order),
            credentials,
            market=market,
            operation="place_order",
            cost="algo-place" if conditional else "place",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            conditional=conditional,
            expires=not conditional,
        )
        ack = _decode_acks(body).data[0]
        ident = f"{ALGO_PREFIX}{ack.algo_id}" if conditional else ack.order_id
        return acknowledged(market, order, ident, int(ack.time) if ack.time else None)

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        if any(order.type.is_conditional for order in orders):
            raise self.unsupported("batches of conditional orders")

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        # All are put into words before any is sent: what is not taken must not come up half-way.
        bodies = [self._body(market, order) for market, order in orders]
        results: list[Order | Exception] = []
        for start in range(0, len(orders), BATCH):
            few, rows = orders[start : start + BATCH], bodies[start : start + BATCH]

            def unknown(place: int, lost: AnswerLost | OrderOutcomeUnknown, few: Any = few) -> Exception:
                market, order = few[place]
                return self.unknown("place_orders", market, OrderRef(client_order_id=order.client_order_id), lost)

            answers = await self._rows(
                "trade/batch-orders",
                rows,
                credentials,
                [market for market, _ in few],
                "place_orders",
                unknown,
                places=[order.client_order_id for _, order in few if order.client_order_id],
            )
            for (market, order), answer in zip(few, answers, strict=True):
                placed = isinstance(answer, _Ack)
                stamp = int(answer.time) if isinstance(answer, _Ack) and answer.time else None
                results.append(acknowledged(market, order, answer.order_id, stamp) if placed else answer)  # type: ignore[union-attr, arg-type]
        return results

    async def _rows(
        self,
        path: str,
        rows: Sequence[Mapping[str, Any]],
        credentials: Credentials,
        markets: Sequence[Market],
        operation: str,
        unknown: Any,
        *,
        places: Sequence[str] = (),
    ) -> Sequence[_Ack | Exception]:
        """Send several orders or cancels in one request, each in its market; each position holds what became of its
        row."""
        try:
            body = await self.rest.command(
                path,
                rows,
                credentials,
                market=markets[0],
                operation=operation,
                cost="place" if places else "algo-cancel" if "algos" in path else "cancel",
                rows=markets,
                places=places,
                expires=bool(places),
            )
            acks, verdicts = _decode_acks(body).data, _decode_verdicts(body).data
        except OrderOutcomeUnknown as lost:
            return [unknown(place, lost) for place in range(len(rows))]
        except VenueError as error:
            return [error] * len(rows)
        if len(acks) != len(rows):
            gone = AnswerLost(f"{len(rows)} rows were sent, the answer has {len(acks)}")
            return [unknown(place, gone) for place in range(len(rows))]
        results: list[_Ack | Exception] = []
        for place, (ack, verdict) in enumerate(zip(acks, verdicts, strict=True)):
            if not verdict.refused:
                results.append(ack)
                continue
            refusal = row_error(self.exchange, verdict)
            results.append(unknown(place, refusal) if isinstance(refusal, AnswerLost) else refusal)
        return results

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order. A conditional one that was triggered is the order that it became, under its own client order
        id."""
        return (await self._look(market, ref, credentials)).order

    async def told(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order, for the streams: a conditional one that was triggered waits until the order that it became is
        done. The stream of orders tells of that one, and another word on it could come late."""
        found = await self._look(market, ref, credentials)
        if found.waiting is None or not found.order.status.is_open:
            return found.order
        # Nothing in it is news to whoever knows the order, whatever ids it has there.
        ident = None if found.waiting.client_order_id else found.waiting.id
        return found.waiting.model_copy(update={"id": ident, "updated_time": None})

    async def _look(self, market: Market, ref: OrderRef, credentials: Credentials) -> _Found:
        """By client order id: in the space where this process placed the latest order with the id, else in the other
        one. Ids are unique among pending orders only. Where it is not known who placed it, a done ordinary order may
        have had the id before: an open order counts before a done one, then the newer of the two."""
        if ref.client_order_id is None or ref.id is not None:
            return await self._in_space(market, ref, credentials, conditional=(ref.id or "").startswith(ALGO_PREFIX))
        placement = self.rest.placement(credentials, ref.client_order_id)
        first = placement is not None and placement.conditional and market.product != OPTION
        try:
            found = await self._in_space(market, ref, credentials, conditional=first)
        except OrderNotFound:
            if market.product == OPTION:
                raise
            return await self._in_space(market, ref, credentials, conditional=not first)
        if placement is not None or found.order.status.is_open or market.product == OPTION:
            return found
        try:
            other = await self._in_space(market, ref, credentials, conditional=True)
        except OrderNotFound:
            return found
        return max(found, other, key=_Found.precedence)

    async def _in_space(self, market: Market, ref: OrderRef, credentials: Credentials, *, conditional: bool) -> _Found:
        if conditional:
            return await self._conditional(market, ref, credentials)
        return _Found(await self._ordinary(market, ref, credentials))

    async def _ordinary(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        params = [("instId", market.native_symbol), ("ordId", ref.id), ("clOrdId", ref.client_order_id)]
        answer = await self.rest.signed(_decode_orders, "trade/order", params, credentials, cost="order")
        if not answer.data:
            raise OrderNotFound("the venue answers without an order", exchange=self.exchange)
        return answer.data[0].order(market)

    async def _conditional(self, market: Market, ref: OrderRef, credentials: Credentials) -> _Found:
        ident = None if ref.id is None else ref.id.removeprefix(ALGO_PREFIX)
        params = [("algoId", ident), ("algoClOrdId", ref.client_order_id)]
        answer = await self.rest.signed(_decode_algos, "trade/order-algo", params, credentials, cost="algo-read")
        rows = [row for row in answer.data if row.inst_id == market.native_symbol]
        if not rows:
            raise OrderNotFound(f"no conditional order in {market.symbol} has this id", exchange=self.exchange)
        waiting = rows[0].order(market)
        if rows[0].became is None:
            return _Found(waiting, waiting if rows[0].triggered else None)
        order = await self._ordinary(market, OrderRef(id=rows[0].became), credentials)
        kept = ("client_order_id", "type", "stop_price", "created_time")
        return _Found(order.model_copy(update={name: getattr(waiting, name) for name in kept}), waiting)

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        ref = OrderRef(client_order_id=client_order_id)
        if placement is None:
            return await self.get(market, ref, credentials)
        return (await self._in_space(market, ref, credentials, conditional=placement.conditional)).order

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        return [
            *await self.open_ordinary(market, credentials),
            *await self.open_conditional(market, credentials),
        ]

    async def open_ordinary(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        ask = partial(self._pages, _decode_orders, "trade/orders-pending", credentials, "pending", _order_id)
        rows, _ = await ask(self._of(market))
        return [row.order(known) for known, row in await self.with_markets(rows, market, lambda row: row.inst_id)]

    async def open_conditional(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """All kinds of conditional orders that the stream tells."""
        if market is not None and market.product == OPTION:
            return ()
        ask = partial(self._pages, _decode_algos, "trade/orders-algo-pending", credentials, "algo-read", _algo_id)
        rows: list[AlgoRow] = []
        for kinds in ALGO_LISTS:
            listed, _ = await ask([("ordType", kinds), *self._of(market)])
            rows += [row for row in listed if row.is_told and not row.triggered]
        return [row.order(known) for known, row in await self.with_markets(rows, market, lambda row: row.inst_id)]

    async def _pages(
        self,
        decode: Decode[Answer[list[Listed]]],
        path: str,
        credentials: Credentials,
        cost: str,
        ident: Callable[[Listed], str],
        params: Parameters,
        enough: int | None = None,
    ) -> tuple[list[Listed], bool]:
        """The rows of a list, which the venue gives newest first, page by page (`ident` is what pages go by); with
        `enough` not many more than that. And: are they all? Raises `VenueError` where a list does not go on: half a
        list would pass for the whole."""
        rows: list[Listed] = []
        after: str | None = None
        while True:
            answer = await self.rest.signed(
                decode, path, [*params, ("after", after), ("limit", PAGE)], credentials, cost=cost
            )
            rows += answer.data
            if len(answer.data) < PAGE:
                return rows, True
            if enough is not None and len(rows) >= enough:
                return rows, False
            last = ident(answer.data[-1])
            if after is not None and (len(last), last) >= (len(after), after):
                raise VenueError(
                    f"{path} does not go on after {after}: half a list is not handed out", exchange=self.exchange
                )
            after = last

    def _of(self, market: Market | None) -> Parameters:
        if market is None:
            return []
        return [("instType", INST_TYPES[market.product]), ("instId", market.native_symbol)]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Of the last three days, or (with an older `since`) of the last three months; newest first at the venue."""
        recent = since is None or since >= self.rest.clock.now_ms() - RECENT_MS
        if recent:
            return await self._fills("trade/fills", "fills", self._of(market), market, since, limit, credentials)
        found: list[Fill] = []
        for product in self.products if market is None else (market.product,):
            wanted: Parameters = [("instType", INST_TYPES[product])]
            if market is not None:
                wanted.append(("instId", market.native_symbol))
            found += await self._fills(
                "trade/fills-history", "fills-history", wanted, market, since, limit, credentials
            )
        return in_order(found)[:limit]

    async def _fills(
        self,
        path: str,
        cost: str,
        wanted: Parameters,
        market: Market | None,
        since: int | None,
        limit: int | None,
        credentials: Credentials,
    ) -> Sequence[Fill]:
        ask = partial(self._pages, _decode_fills, path, credentials, cost, _bill_id)
        if since is None:
            rows, _ = await ask(wanted, limit or PAGE)
        elif limit is None:
            rows, _ = await ask([*wanted, ("begin", since)])
        else:
            rows = list((await self._oldest(ask, wanted, since, None, limit)).values())
        found = await self.with_markets(rows, market, lambda row: row.inst_id)
        fills = in_order(row.fill(known) for known, row in found)
        return fills[-(limit or PAGE) :] if since is None else fills[:limit]

    async def _oldest(
        self,
        ask: Callable[[Parameters, int | None], Awaitable[tuple[list[FillRow], bool]]],
        wanted: Parameters,
        begin: int,
        end: int | None,
        limit: int,
    ) -> dict[str, FillRow]:
        """The rows of a span by their ids: the oldest `limit`, possibly with newer ones. The venue begins with the
        newest: a span that has many more is halved. The halves overlap, because nothing says whether a span includes
        its bounds."""
        length = (self.rest.clock.now_ms() if end is None else end) - begin
        span = [*wanted, ("begin", begin), ("end", end)]
        rows, whole = await ask(span, limit + PAGE if length > SHORTEST_SPAN_MS else None)
        if whole:
            return {row.bill_id: row for row in rows}
        middle = begin + length // 2
        found = await self._oldest(ask, wanted, begin, middle + 1, limit)
        if len(found) < limit:
            found |= await self._oldest(ask, wanted, middle, end, limit)
        return found

    # -- cancelling and changing --------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for."""
        ref = await self._found(market, ref, credentials)
        if ref.id is not None and ref.id.startswith(ALGO_PREFIX):
            answers = await self._cancel_algos(market, [ref], credentials, "cancel_order")
            if isinstance(answers[0], Exception):
                raise answers[0]
        else:
            await self.rest.command(
                "trade/cancel-order",
                self._named(market, ref),
                credentials,
                market=market,
                operation="cancel_order",
                cost="cancel",
                client_order_id=ref.client_order_id,
                order_id=ref.id,
            )
        return await self.after("cancel_order", market, ref, credentials)

    async def _found(self, market: Market, ref: OrderRef, credentials: Credentials) -> OrderRef:
        """Under which id an order is canceled. Of a client order id it is not known whether its order is a conditional
        one, unless this process placed it."""
        if ref.client_order_id is None:
            return ref
        placement = self.rest.placement(credentials, ref.client_order_id)
        if placement is not None and not placement.conditional:
            return ref
        order = await self.get(market, ref, credentials)
        return ref if order.id is None else OrderRef(id=order.id)

    def _named(self, market: Market, ref: OrderRef) -> dict[str, Any]:
        body: dict[str, Any] = {"instId": market.native_symbol}
        if ref.id is None:
            return body | {"clOrdId": ref.client_order_id}
        if not ref.id.isascii() or not ref.id.isdigit():
            raise BadRequest(f"{ref.id!r} is no order id of OKX: those are whole numbers, or algo:<number>")
        return body | {"ordId": ref.id}

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        found: dict[int, OrderRef] = {}
        results: dict[int, Order | Exception] = {}
        for place, ref in enumerate(refs):
            try:
                found[place] = await self._found(market, ref, credentials)
            except VenueError as error:
                results[place] = error
        algos = {place: ref for place, ref in found.items() if (ref.id or "").startswith(ALGO_PREFIX)}
        plain = {place: ref for place, ref in found.items() if place not in algos}
        answers: dict[int, _Ack | Exception] = {}
        for some, send in ((plain, self._cancel_ordinary), (algos, self._cancel_algos)):
            answers |= zip(some, await send(market, list(some.values()), credentials, "cancel_orders"), strict=True)
        for place, answer in answers.items():
            if isinstance(answer, Exception):
                results[place] = answer
                continue
            try:
                results[place] = await self.after("cancel_orders", market, found[place], credentials)
            except OrderOutcomeUnknown as error:
                results[place] = error
        return [results[place] for place in sorted(results)]

    async def _cancel_ordinary(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, operation: str
    ) -> Sequence[_Ack | Exception]:
        rows = [self._named(market, ref) for ref in refs]
        return await self._cancel_rows("trade/cancel-batch-orders", rows, BATCH, market, refs, credentials, operation)

    async def _cancel_algos(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, operation: str
    ) -> Sequence[_Ack | Exception]:
        rows = [{"instId": market.native_symbol, "algoId": (ref.id or "").removeprefix(ALGO_PREFIX)} for ref in refs]
        return await self._cancel_rows("trade/cancel-algos", rows, 10, market, refs, credentials, operation)

    async def _cancel_rows(
        self,
        path: str,
        rows: Sequence[Mapping[str, Any]],
        most: int,
        market: Market,
        refs: Sequence[OrderRef],
        credentials: Credentials,
        operation: str,
    ) -> Sequence[_Ack | Exception]:
        results: list[_Ack | Exception] = []
        for start in range(0, len(rows), most):

            def unknown(place: int, lost: AnswerLost | OrderOutcomeUnknown, start: int = start) -> Exception:
                return self.unknown(operation, market, refs[start + place], lost)

            few = rows[start : start + most]
            results += await self._rows(path, few, credentials, [market] * len(few), operation, unknown)
        return results

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        return await self.cancel_listed(market, credentials)

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        placement = self.rest.placement(credentials, ref.client_order_id) if ref.client_order_id is not None else None
        if placement is not None and placement.conditional:
            ref = await self._found(market, ref, credentials)
        if ref.id is not None and ref.id.startswith(ALGO_PREFIX):
            raise self.unsupported("amendment of conditional orders; cancel and place anew")
        body = self._named(market, ref)
        if change.quantity is not None or change.contracts is not None:
            body["newSz"] = text(native_quantity(market, change))
        if change.price is not None:
            body["newPx"] = text(change.price)
        answer = await self.rest.command(
            "trade/amend-order",
            body,
            credentials,
            market=market,
            operation="amend_order",
            cost="amend",
            client_order_id=ref.client_order_id,
            order_id=ref.id,
            expires=True,
        )
        # By the id that the answer names: another order may have had the client order id.
        named = next((OrderRef(id=ack.order_id) for ack in _decode_acks(answer).data if ack.order_id), ref)
        return await self.after("amend_order", market, named, credentials)

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of all orders of the account, conditional ones excepted; 10 to 120 s."""
        if market is not None:
            raise self.unsupported("dead-man timer for single markets: leave the market out")
        if timeout_s and not TIMER_S[0] <= timeout_s <= TIMER_S[1]:
            raise BadRequest(f"OKX's dead-man timer takes {TIMER_S[0]} to {TIMER_S[1]} s (or 0), not {timeout_s:g} s")
        body = {"timeOut": str(round(timeout_s))}
        await self.rest.set("trade/cancel-all-after", body, credentials, cost=TIMER)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        answer = await self.rest.signed(_decode_accounts, "account/balance", (), credentials, cost="balance")
        found = (row.balance() for account in answer.data for row in account.details)
        return [balance for balance in found if balance.total or balance.locked or balance.borrowed]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        answer = await self.rest.signed(_decode_positions, "account/positions", (), credentials, cost="positions")
        rows = [row for row in answer.data if row.size and row.inst_type != "MARGIN"]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.inst_id)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        family = None if market.contract_size is None else family_of(market)
        params: Params = [
            ("instType", INST_TYPES[market.product]),
            ("instId", market.native_symbol if family is None else None),
            ("instFamily", family),
        ]
        answer = await self.rest.signed(_decode_fees, "account/trade-fee", params, credentials, cost="fees")
        return [row.fees(market) for row in answer.data[:1]]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """For positions margined as the settings say."""
        if market.product not in (SWAP, FUTURES):
            raise self.unsupported(f"leverage to set for {market.product} markets")
        body = {
            "instId": market.native_symbol,
            "lever": text(leverage),
            "mgnMode": trade_mode(market, OkxOrderOptions(), self._settings),
        }
        await self.rest.set("account/set-leverage", body, credentials, cost="leverage")

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        body = {"posMode": "long_short_mode" if hedge else "net_mode"}
        await self.rest.set("account/set-position-mode", body, credentials, cost="position-mode")


def family_of(market: Market) -> str:
    """The instrument family of a contract: its native symbol without what follows the assets."""
    return "-".join(market.native_symbol.split("-")[:2])
