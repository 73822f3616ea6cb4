"""Coin-margined contracts: swaps under `/swap-api`, dated futures under `/api`, alike but for names.

Positions always have two sides: an order says whether it opens or closes one (`offset`), and with which leverage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from astra.errors import OrderNotFound, OrderOutcomeUnknown, UnsupportedOperation, VenueError
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.rest import Recent, plain
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged
from astra.venue import MarketTable
from astra_htx.errors import row_error
from astra_htx.rest import TRADE, Answer, HtxRest
from astra_htx.settings import COIN_FUTURES, HtxOrderOptions, HtxSettings, SelfMatch
from astra_htx.trading.base import MOST_PAGES, SIDES, HtxTrading, Outcome, beyond
from astra_htx.trading.coin_rows import AccountRow, FillRow, OrderRow, PositionRow
from astra_htx.trading.linear import set_timer, whole

PAGE = 50
LEVERAGE_KEPT_S = 60.0
"""The account's leverage is asked for again after so long: it may be changed elsewhere."""
ALL_TRADE_TYPES = 0
_KINDS: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "limit",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
}


class _Ids(msgspec.Struct):
    """`order_id` is beyond what many JSON parsers keep; the text beside it is the id."""

    order_id_str: str = ""
    order_id: int | str = ""
    index: int = 0

    @property
    def ident(self) -> str:
        return self.order_id_str or str(self.order_id)


class _Refusal(msgspec.Struct):
    err_code: int | str
    err_msg: str = ""
    index: int = 0
    order_id: int | str = ""

    @property
    def error(self) -> Exception:
        return row_error(self.err_code, self.err_msg, spot=False)


class _Batch(msgspec.Struct):
    errors: list[_Refusal] = []
    success: list[_Ids] = []


class _Canceled(msgspec.Struct):
    errors: list[_Refusal] = []
    successes: str = ""


class _Open(msgspec.Struct):
    orders: list[OrderRow] = []
    total_page: int = 1


class _FeeRow(msgspec.Struct):
    symbol: str
    open_maker_fee: Decimal
    open_taker_fee: Decimal
    contract_code: str = ""


_decode_placed = msgspec.json.Decoder(Answer[_Ids]).decode
_decode_batch = msgspec.json.Decoder(Answer[_Batch]).decode
_decode_canceled = msgspec.json.Decoder(Answer[_Canceled]).decode
_decode_orders = msgspec.json.Decoder(Answer[list[OrderRow] | None]).decode
_decode_open = msgspec.json.Decoder(Answer[_Open]).decode
_decode_fills = msgspec.json.Decoder(Answer[list[FillRow] | None]).decode
_decode_accounts = msgspec.json.Decoder(Answer[list[AccountRow]]).decode
_decode_positions = msgspec.json.Decoder(Answer[list[PositionRow]]).decode
_decode_fees = msgspec.json.Decoder(Answer[list[_FeeRow]]).decode


class CoinTrading(HtxTrading):
    """One of the two families. Orders are in contracts; the client order id is a whole number, taken for a day."""

    title = "HTX coin-margined contracts"
    fees_by_market = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {}

    def __init__(self, rest: HtxRest, markets: MarketTable, settings: HtxSettings) -> None:
        super().__init__(rest, markets, settings)
        self._dated = rest.product == COIN_FUTURES
        self._leverages: Recent[tuple[Credentials, str], tuple[float, int]] = Recent(10_000)

    def _path(self, name: str, version: str = "v1") -> str:
        return f"/api/{version}/contract_{name}" if self._dated else f"/swap-api/{version}/swap_{name}"

    def _about(self, market: Market) -> dict[str, Any]:
        """What most requests name the market by: dated futures by their asset."""
        return {"symbol": market.base_asset} if self._dated else {"contract_code": market.native_symbol}

    async def _subjects(self, market: Market | None) -> Sequence[dict[str, Any]]:
        """What has to be asked about for one market, or for all of the family."""
        if market is not None:
            return [self._about(market)]
        found = [self._about(one) for one in await self.markets.all() if one.product == self.product]
        return list({tuple(one.items()): one for one in found}.values())

    # -- placing ------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest) -> tuple[dict[str, Any], int | None]:
        """The request's body, and the leverage that the order says. Raises `UnsupportedOperation`."""
        allowed = (OrderType.LIMIT,) if self._dated else (OrderType.LIMIT, OrderType.MARKET)
        self.check_type(order, allowed)
        if order.quote_quantity is not None:
            raise self.unsupported("orders by quoteQuantity; give contracts")
        options: HtxOrderOptions = self.options(order, position_side=True, leverage=True, self_match=True)
        if order.price is None:
            self.check_market_time_in_force(order)
            kind = "market"
        else:
            in_force = self.resting_time_in_force(order)
            kind = "post_only" if order.post_only else _KINDS[in_force]
        body: dict[str, Any] = {
            "contract_code": market.native_symbol,
            "volume": int(native_quantity(market, order)),
            "direction": SIDES[order.side],
            "offset": self._offset(order, options.position_side),
            "order_price_type": kind,
            "client_order_id": int(order.client_order_id or 0),
        }
        if order.price is not None:
            body["price"] = plain(order.price)
        if options.self_match is not None:
            if options.self_match not in (SelfMatch.CANCEL_TAKER, SelfMatch.ALLOW):
                raise self.unsupported(f"self-match prevention {options.self_match}")
            body["self_match_prevent"] = 1 if options.self_match is SelfMatch.CANCEL_TAKER else 0
        return body, options.leverage

    def _offset(self, order: OrderRequest, side: PositionSide | None) -> str:
        """A buy opens a long position or closes a short one."""
        if side is None:
            return "close" if order.reduce_only else "open"
        opens = (side is PositionSide.LONG) == (order.side is Side.BUY)
        if opens and order.reduce_only:
            raise self.unsupported(f"reduce-only orders that open: a {order.side} order opens a {side} position")
        return "open" if opens else "close"

    async def _leverage(self, market: Market, credentials: Credentials) -> int:
        """The account's, which every order must repeat."""
        asset = next(iter(self._about(market).values()))
        now = self.rest.clock.local.monotonic()
        known = self._leverages.get((credentials, asset))
        if known is not None and now - known[0] < LEVERAGE_KEPT_S:
            return known[1]
        answer = await self.rest.asked(_decode_accounts, self._path("account_info"), self._about(market), credentials)
        rates = [row.lever_rate for row in answer.data if row.lever_rate]
        if not rates:
            raise UnsupportedOperation(
                f"the account does not say its leverage for {market.symbol}: give it as order option `leverage`",
                exchange=self.exchange,
            )
        self._leverages[credentials, asset] = (now, int(rates[0]))
        return int(rates[0])

    async def _complete(
        self, market: Market, body: dict[str, Any], leverage: int | None, credentials: Credentials
    ) -> None:
        body["lever_rate"] = await self._leverage(market, credentials) if leverage is None else leverage

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        body, leverage = self._body(market, order)
        await self._complete(market, body, leverage, credentials)
        answer = await self.rest.command(
            self._path("order"),
            body,
            credentials,
            market=market.symbol,
            operation="place_order",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
        )
        try:
            ident = _decode_placed(answer).data.ident
        except msgspec.DecodeError as error:
            lost = AnswerLost(f"the answer to a placement has another shape: {error}")
            ref = OrderRef(client_order_id=order.client_order_id)
            raise self.unknown("place_order", market, ref, lost) from None
        return acknowledged(market, order, ident, None)

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        # All are put into words before any is sent: what is not taken must not come up half-way.
        bodies = [self._body(market, order) for market, order in orders]
        for (market, _), (body, leverage) in zip(orders, bodies, strict=True):
            await self._complete(market, body, leverage, credentials)

        async def send(few: Sequence[Any], names: Sequence[str]) -> bytes:
            return await self.rest.command(
                self._path("batchorder"),
                {"orders_data": few},
                credentials,
                market=orders[0][0].symbol,
                operation="place_orders",
                places=names,
            )

        def read(body: bytes, count: int) -> Sequence[Outcome]:
            """Numbered from 1, in two lists."""
            answer = _decode_batch(body).data
            found: dict[int, Outcome] = {row.index: row.ident for row in answer.success}
            found.update((row.index, row.error) for row in answer.errors)
            silent = AnswerLost("the answer to a batch does not say what became of the order")
            return [found.get(index, silent) for index in range(1, count + 1)]

        return await self._place_rows(orders, [body for body, _ in bodies], send, read)

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order; canceled ones leave this list after some hours, all that are done at settlement: then they are
        looked for in the history of two days."""
        ident = self.order_number(ref)
        named = {"client_order_id": ref.client_order_id} if ident is None else {"order_id": ident}
        try:
            path, body = self._path("order_info"), {**self._about(market), **named}
            answer = await self.rest.asked(_decode_orders, path, body, credentials)
            rows = [row for row in answer.data or [] if row.contract_code == market.native_symbol]
            if not rows:
                raise OrderNotFound("the venue answers without an order", exchange=self.exchange)
        except OrderNotFound as failure:
            row = await self._done(market, ref, credentials)
            if row is None:
                raise failure from None
            return row.order(market)
        return max(rows, key=lambda row: row.created_at or 0).order(market)

    async def _done(self, market: Market, ref: OrderRef, credentials: Credentials) -> OrderRow | None:
        """The newest order of the history that is meant."""
        now = self.rest.clock.now_ms() + 1000
        rows = await self._history(market, (now - self.remembered_ms, now), credentials)
        name = ref.id or ref.client_order_id
        return next((row for row in rows if (row.ident if ref.id else row.client_id) == name), None)

    async def _history(self, market: Market, span: tuple[int, int], credentials: Credentials) -> Sequence[OrderRow]:
        """Orders that are done, newest first. How many rows a page has is not said: the last one has none that is
        new."""
        body, path = self._history_body(market, span, {"type": 1, "status": "0"}), self._path("hisorders", "v3")
        found: list[OrderRow] = []
        seen: set[int] = set()
        for _ in range(MOST_PAGES):
            answer = await self.rest.asked(_decode_orders, path, body, credentials)
            fresh = beyond(answer.data or [], seen, lambda row: row.query_id or 0)
            found += fresh
            if not fresh:
                break
            body["from_id"] = fresh[-1].query_id
        return found

    def _history_body(self, market: Market, span: tuple[int, int], more: Mapping[str, Any]) -> dict[str, Any]:
        named = {"symbol": market.base_asset} if self._dated else {}
        times = {"start_time": span[0], "end_time": span[1]}
        contract = {"contract": market.native_symbol, "trade_type": ALL_TRADE_TYPES}
        return {**named, **contract, **times, "direct": "next", **more}

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """Asset by asset (swaps: contract by contract)."""
        rows: list[OrderRow] = []
        for subject in await self._subjects(market):
            for index in range(1, MOST_PAGES + 1):
                body = {**subject, "page_index": index, "page_size": PAGE}
                answer = await self.rest.asked(_decode_open, self._path("openorders"), body, credentials)
                rows += answer.data.orders
                if index >= answer.data.total_page:
                    break
        known = {row.ident: row for row in rows if market is None or row.contract_code == market.native_symbol}
        found = await self.with_markets(known.values(), market, lambda row: row.contract_code)
        return [row.order(one) for one, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Of the last 90 days, contract by contract, in stretches of 48 hours."""
        markets: Iterable[Market] = [market] if market is not None else []
        if market is None:
            markets = [one for one in await self.markets.all() if one.product == self.product]

        async def fetch(start: int, end: int) -> Sequence[Fill]:
            return [fill for one in markets for fill in await self._fills(one, (start, end), credentials)]

        return await self._windows(fetch, since, limit, PAGE)

    async def _fills(self, market: Market, span: tuple[int, int], credentials: Credentials) -> Sequence[Fill]:
        body, path = self._history_body(market, span, {}), self._path("matchresults", "v3")
        found: list[Fill] = []
        seen: set[int] = set()
        for _ in range(MOST_PAGES):
            answer = await self.rest.asked(_decode_fills, path, body, credentials)
            fresh = beyond(answer.data or [], seen, lambda row: row.query_id)
            found += (row.fill(market) for row in fresh if row.contract_code == market.native_symbol)
            if not fresh:
                break
            body["from_id"] = fresh[-1].query_id
        return found

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges, refusals hide in the answer; what became of the order is asked for."""
        (outcome,) = await self._cancel_rows(market, [ref], credentials, "cancel_order")
        if isinstance(outcome, AnswerLost | OrderOutcomeUnknown):
            raise self.unknown("cancel_order", market, ref, outcome)
        if outcome is not None:
            raise outcome
        return await self.after("cancel_order", market, ref, credentials)

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        results: dict[int, Order | Exception] = {}
        numbered = [place for place, ref in enumerate(refs) if self.order_number(ref) is not None]
        named = [place for place, ref in enumerate(refs) if ref.id is None]
        for places in (numbered, named):
            for start in range(0, len(places), self.batch):
                part = places[start : start + self.batch]
                few = [refs[place] for place in part]
                outcomes = await self._cancel_rows(market, few, credentials, "cancel_orders")
                answers = await self._after_batch(market, few, outcomes, credentials)
                results.update(zip(part, answers, strict=True))
        return [results[place] for place in sorted(results)]

    async def _cancel_rows(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, operation: str
    ) -> Sequence[Exception | None]:
        """Cancel up to ten, all named by one kind of id; each position holds the error that refused it, or None."""
        by_id, single = refs[0].id is not None, len(refs) == 1
        idents = [str(self.order_number(ref) if by_id else ref.client_order_id) for ref in refs]
        try:
            answer = await self.rest.command(
                self._path("cancel"),
                {**self._about(market), "order_id" if by_id else "client_order_id": ",".join(idents)},
                credentials,
                market=market.symbol,
                operation=operation,
                client_order_id=refs[0].client_order_id if single else None,
                order_id=refs[0].id if single else None,
            )
            said = _decode_canceled(answer).data
        except msgspec.DecodeError as error:
            return [AnswerLost(f"the answer to a cancel has another shape: {error}")] * len(refs)
        except VenueError as failure:
            return [failure] * len(refs)
        done = set(said.successes.split(","))
        refused = {str(row.order_id): row for row in said.errors}
        outcomes: list[Exception | None] = []
        for ident in idents:
            # Whichever of its ids the answer names: a single order is meant by all of it.
            row = refused.get(ident) or (said.errors[0] if single and said.errors else None)
            if row is not None:
                outcomes.append(row.error)
            elif ident in done or single:
                outcomes.append(None)
            else:
                outcomes.append(AnswerLost("the answer to a batch of cancels does not say what became of the order"))
        return outcomes

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of all orders of the family; five seconds or more."""
        path = "/api/v1/contract-cancel-after" if self._dated else "/swap-api/v1/swap-cancel-after"
        await set_timer(self, path, market, timeout_s, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        answer = await self.rest.asked(_decode_accounts, self._path("account_info"), {}, credentials)
        found = [row.balance(self.product) for row in answer.data]
        return [balance for balance in found if balance.total or balance.locked]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        answer = await self.rest.asked(_decode_positions, self._path("position_info"), {}, credentials)
        rows = [row for row in answer.data if row.volume]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda r: r.contract_code)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        answer = await self.rest.asked(_decode_fees, self._path("fee"), self._about(market), credentials)
        rates = [row for row in answer.data if row.contract_code in ("", market.native_symbol)]
        return [Fees(market=market.symbol, maker=row.open_maker_fee, taker=row.open_taker_fee) for row in rates[:1]]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """Of a swap; of all dated futures of an asset. Once in three seconds, and not with open orders."""
        body = {**self._about(market), "lever_rate": whole(leverage)}
        await self.rest.asked(bytes, self._path("switch_lever_rate"), body, credentials, cost=TRADE)
        asset = next(iter(self._about(market).values()))
        self._leverages[credentials, asset] = (self.rest.clock.local.monotonic(), whole(leverage))
