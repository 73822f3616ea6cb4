"""The spot account: orders on `/v1/order`, balances, fees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from astra.errors import AuthenticationError, BadRequest, OrderOutcomeUnknown, PermissionDenied, VenueError
from astra.models.accounts import Balance, Fees
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest, OrderType, TimeInForce
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.rest import Params, Recent, plain
from astra.trading.checks import native_quantity
from astra.venue import MarketTable
from astra_htx.errors import accepted, row_error
from astra_htx.rest import SPOT_FAST, SPOT_SLOW, SPOT_USUAL, Answer, HtxRest
from astra_htx.settings import HtxOrderOptions, HtxSettings, SelfMatch
from astra_htx.trading.base import SIDES, HtxTrading, Outcome, pages
from astra_htx.trading.spot_rows import FALLS, POST_ONLY, RISES, BalanceRow, FillRow, OrderRow, balances_of

ORDERS = "/v1/order/orders"
BY_ID = "/v1/order/orders/{order-id}"
OPEN_PAGE = 500
FILL_PAGE = 500
CANCEL_BATCH = 50
FEE_SYMBOLS = 10
LEAST_TIMER_S = 5
_KINDS: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "limit",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "limit-fok",
}
_STOPS: Mapping[TimeInForce, str] = {TimeInForce.GTC: "stop-limit", TimeInForce.FOK: "stop-limit-fok"}


class _AccountRow(msgspec.Struct):
    id: int
    type: str
    state: str


class _Balances(msgspec.Struct):
    rows: list[BalanceRow] = msgspec.field(default_factory=list, name="list")


class _Placed(msgspec.Struct):
    data: str | int


class _BatchRow(msgspec.Struct, rename="kebab"):
    order_id: int | str | None = None
    err_code: str | None = None
    err_msg: str | None = None


class _Failed(_BatchRow):
    client_order_id: str | None = None


class _Canceled(msgspec.Struct):
    success: list[str | int] = []
    failed: list[_Failed] = []


class _FeeRow(msgspec.Struct, rename="camel"):
    symbol: str
    actual_maker_rate: Decimal
    actual_taker_rate: Decimal


_decode_accounts = msgspec.json.Decoder(Answer[list[_AccountRow]]).decode
_decode_balances = msgspec.json.Decoder(Answer[_Balances]).decode
_decode_placed = msgspec.json.Decoder(_Placed).decode
_decode_batch = msgspec.json.Decoder(Answer[list[_BatchRow]]).decode
_decode_canceled = msgspec.json.Decoder(Answer[_Canceled]).decode
_decode_order = msgspec.json.Decoder(Answer[OrderRow]).decode
_decode_orders = msgspec.json.Decoder(Answer[list[OrderRow]]).decode
_decode_fills = msgspec.json.Decoder(Answer[list[FillRow]]).decode
_decode_fees = msgspec.json.Decoder(Answer[list[_FeeRow]]).decode


class SpotTrading(HtxTrading):
    """Spot. Conditional orders are ordinary ones of another type."""

    title = "HTX spot"
    # Orders that were canceled without a fill, and client order ids of orders that are done: two hours.
    remembered_ms = 2 * 3_600_000 - 60_000
    fees_by_market = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {}

    def __init__(self, rest: HtxRest, markets: MarketTable, settings: HtxSettings) -> None:
        super().__init__(rest, markets, settings)
        self._accounts: Recent[Credentials, str] = Recent(256)
        self._conditional: Recent[tuple[Credentials, str], OrderRequest | Order] = Recent(10_000)

    async def account_id(self, credentials: Credentials) -> str:
        """The number of the spot account, which every order names."""
        known = self._accounts.get(credentials)
        if known is not None:
            return known
        answer = await self.rest.signed(_decode_accounts, "/v1/account/accounts", (), credentials, cost=SPOT_FAST)
        rows = [row for row in answer.data if row.type == "spot"]
        if not rows:
            raise AuthenticationError("the key belongs to no spot account", exchange=self.exchange)
        if rows[0].state != "working":
            raise PermissionDenied(f"the spot account is {rows[0].state}", exchange=self.exchange)
        self._accounts[credentials] = str(rows[0].id)
        return str(rows[0].id)

    def conditional(self, credentials: Credentials, client_order_id: str) -> OrderRequest | Order | None:
        """A conditional order that was sent by this process, or asked for."""
        return self._conditional.get((credentials, client_order_id))

    # -- placing ------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest, account_id: str) -> dict[str, Any]:
        """The request's body. Raises `UnsupportedOperation` for what spot does not take."""
        if order.reduce_only:
            raise self.unsupported("reduce-only orders")
        options: HtxOrderOptions = self.options(order, self_match=True)
        body = {"account-id": account_id, "symbol": market.native_symbol, "source": "spot-api"}
        body |= {"type": f"{SIDES[order.side]}-{self._kind(order)}", "client-order-id": order.client_order_id or ""}
        if order.quote_quantity is not None:
            body["amount"] = plain(order.quote_quantity)
        else:
            body["amount"] = plain(native_quantity(market, order))
        if order.price is not None:
            body["price"] = plain(order.price)
        if order.stop_price is not None:
            stops = order.type is OrderType.STOP_LIMIT
            body["stop-price"] = plain(order.stop_price)
            body["operator"] = RISES if stops == (order.side is Side.BUY) else FALLS
        if options.self_match is not None:
            if options.self_match not in (SelfMatch.CANCEL_TAKER, SelfMatch.ALLOW):
                raise self.unsupported(f"self-match prevention {options.self_match}")
            body["self-match-prevent"] = "1" if options.self_match is SelfMatch.CANCEL_TAKER else "0"
        return body

    def _kind(self, order: OrderRequest) -> str:
        """The second part of the venue's order type."""
        self.check_type(order, (OrderType.LIMIT, OrderType.MARKET, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT))
        if order.type is OrderType.MARKET:
            self.check_market_time_in_force(order)
            if order.side is Side.BUY and order.quote_quantity is None:
                raise self.unsupported("market buys by quantity; give quoteQuantity, the amount to spend")
            if order.side is Side.SELL and order.quote_quantity is not None:
                raise self.unsupported("market sells by quoteQuantity; give quantity")
            return "market"
        in_force = self.resting_time_in_force(order)
        if order.type.is_conditional:
            if order.post_only:
                raise self.unsupported(f"post-only {order.type} orders")
            if in_force not in _STOPS:
                raise self.unsupported(f"time in force {in_force} for {order.type} orders")
            return _STOPS[in_force]
        return POST_ONLY if order.post_only else _KINDS[in_force]

    def _note(self, order: OrderRequest | Order, credentials: Credentials) -> None:
        if order.type.is_conditional and order.client_order_id is not None:
            self._conditional[credentials, order.client_order_id] = order

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        body = self._body(market, order, "")
        body["account-id"] = await self.account_id(credentials)
        self._note(order, credentials)
        answer = await self.rest.command(
            f"{ORDERS}/place",
            body,
            credentials,
            market=market.symbol,
            operation="place_order",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            conditional=order.type.is_conditional,
        )
        return self._place_one(market, order, answer, lambda body: str(_decode_placed(body).data or ""))

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        # All are put into words before any is sent: what is not taken must not come up half-way.
        rows = [self._body(market, order, "") for market, order in orders]
        account_id = await self.account_id(credentials)
        for row, (_, order) in zip(rows, orders, strict=True):
            row["account-id"] = account_id
            self._note(order, credentials)

        async def send(few: Sequence[Any], names: Sequence[str]) -> bytes:
            return await self.rest.command(
                "/v1/order/batch-orders",
                few,
                credentials,
                market=orders[0][0].symbol,
                operation="place_orders",
                cost=SPOT_USUAL,
                places=names,
            )

        def read(body: bytes, count: int) -> Sequence[Outcome]:
            return [
                row_error(row.err_code, row.err_msg or "", spot=True) if row.err_code else str(row.order_id or "")
                for row in _decode_batch(body).data
            ]

        return await self._place_rows(orders, rows, send, read)

    # -- looking ------------------------------------------------------------------------------------------------

    async def _asked(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        ident = self.order_number(ref)
        if ident is not None:
            answer = await self.rest.signed(_decode_order, f"{ORDERS}/{ident}", (), credentials, scope=BY_ID)
        else:
            params: Params = [("clientOrderId", ref.client_order_id)]
            answer = await self.rest.signed(_decode_order, f"{ORDERS}/getClientOrder", params, credentials)
        return self._told(market, answer.data, credentials)

    def _told(self, market: Market, row: OrderRow, credentials: Credentials) -> Order:
        order = row.order(market)
        if row.operator:
            self._note(order, credentials)
        return order

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        account_id = await self.account_id(credentials)

        async def ask(last: OrderRow | None) -> Sequence[OrderRow]:
            params: Params = [
                ("account-id", account_id),
                ("symbol", market.native_symbol if market is not None else None),
                ("size", OPEN_PAGE),
                ("from", None if last is None else last.id),
                ("direct", None if last is None else "next"),
            ]
            return (await self.rest.signed(_decode_orders, "/v1/order/openOrders", params, credentials)).data

        rows = await pages(ask, lambda row: row.id, OPEN_PAGE)
        found = await self.with_markets(rows, market, lambda row: row.symbol)
        return [self._told(known, row, credentials) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Of the last 120 days, in stretches of 48 hours; without `since` those of the last one."""

        async def fetch(start: int, end: int) -> Sequence[Fill]:
            async def ask(last: FillRow | None) -> Sequence[FillRow]:
                params: Params = [
                    ("symbol", market.native_symbol if market is not None else None),
                    ("start-time", start),
                    ("end-time", end),
                    ("size", FILL_PAGE),
                    ("from", None if last is None else last.id),
                    ("direct", None if last is None else "next"),
                ]
                path = "/v1/order/matchresults"
                return (await self.rest.signed(_decode_fills, path, params, credentials, cost=SPOT_SLOW)).data

            rows = await pages(ask, lambda row: row.id, FILL_PAGE)
            return [row.fill(known) for known, row in await self.with_markets(rows, market, lambda row: row.symbol)]

        return await self._windows(fetch, since, limit, FILL_PAGE)

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def _cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        ident = self.order_number(ref)
        (outcome,) = await self._cancel_rows(market, [ref], credentials, "cancel_order", ident is not None)
        if isinstance(outcome, AnswerLost | OrderOutcomeUnknown):
            raise self.unknown("cancel_order", market, ref, outcome)
        if outcome is not None:
            raise outcome
        return await self.after("cancel_order", market, ref, credentials)

    async def _cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        results: dict[int, Order | Exception] = {}
        numbered = [place for place, ref in enumerate(refs) if self.order_number(ref) is not None]
        named = [place for place, ref in enumerate(refs) if ref.id is None]
        for places in (numbered, named):
            for start in range(0, len(places), CANCEL_BATCH):
                part = places[start : start + CANCEL_BATCH]
                few = [refs[place] for place in part]
                outcomes = await self._cancel_rows(market, few, credentials, "cancel_orders", places is numbered)
                answers = await self._after_batch(market, few, outcomes, credentials)
                results.update(zip(part, answers, strict=True))
        return [results[place] for place in sorted(results)]

    async def _cancel_rows(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, operation: str, by_id: bool
    ) -> Sequence[Exception | None]:
        """Cancel up to fifty; each position holds the error that refused it, or None."""
        idents = [str(ref.id if by_id else ref.client_order_id) for ref in refs]
        single = len(refs) == 1
        try:
            answer = await self.rest.command(
                f"{ORDERS}/batchcancel",
                {"order-ids" if by_id else "client-order-ids": idents},
                credentials,
                market=market.symbol,
                operation=operation,
                cost=SPOT_USUAL,
                client_order_id=refs[0].client_order_id if single else None,
                order_id=refs[0].id if single else None,
            )
            said = _decode_canceled(answer).data
        except msgspec.DecodeError as error:
            return [AnswerLost(f"the answer to a cancel has another shape: {error}")] * len(refs)
        except VenueError as failure:
            return [failure] * len(refs)
        done = {str(one) for one in said.success}
        failed = {str((row.order_id if by_id else row.client_order_id) or ""): row for row in said.failed}
        outcomes: list[Exception | None] = []
        for ident in idents:
            # A refusal may name the order by the other of its ids: with a single order it is that one's all the same.
            row = failed.get(ident) or (said.failed[0] if single and said.failed else None)
            if row is not None:
                outcomes.append(row_error(row.err_code or "", row.err_msg or "", spot=True))
            elif ident in done or single:
                outcomes.append(None)
            else:
                outcomes.append(AnswerLost("the answer to a batch of cancels does not say what became of the order"))
        return outcomes

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of all orders of the user; five seconds or more."""
        if market is not None:
            raise self.unsupported("dead-man timer for single markets: leave the market out")
        if timeout_s and timeout_s < LEAST_TIMER_S:
            raise BadRequest(f"HTX's spot dead-man timer takes {LEAST_TIMER_S} s or more (or 0), not {timeout_s:g} s")
        body = {"timeout": round(timeout_s)}
        await self.rest.asked(accepted, "/v2/algo-orders/cancel-all-after", body, credentials, cost=SPOT_USUAL)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        path = f"/v1/account/accounts/{await self.account_id(credentials)}/balance"
        scope = "/v1/account/accounts/{account-id}/balance"
        answer = await self.rest.signed(_decode_balances, path, (), credentials, cost=SPOT_FAST, scope=scope)
        return balances_of(answer.data.rows)

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Params = [("symbols", market.native_symbol)]
        answer = await self.rest.signed(_decode_fees, "/v2/reference/transact-fee-rate", params, credentials)
        rates = [row for row in answer.data if row.symbol == market.native_symbol]
        return [Fees(market=market.symbol, maker=row.actual_maker_rate, taker=row.actual_taker_rate) for row in rates]
