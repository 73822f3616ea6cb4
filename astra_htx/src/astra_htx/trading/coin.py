"""Coin-margined contracts: swaps under `/swap-api`, dated futures under `/api`, alike but for names.

Positions always have two sides: an order says whether it opens or closes one (`offset`), and with which leverage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from astra.errors import OrderNotFound, OrderOutcomeUnknown, UnsupportedOperation, VenueError
from astra.families.trading import RESOLVE_MARGIN_MS, SKEW_MS
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest, OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.rest import Recent, plain
from astra.trading.checks import native_quantity
from astra.venue import MarketTable
from astra_htx.errors import accepted, row_error
from astra_htx.rest import TRADE, Answer, HtxRest
from astra_htx.settings import COIN_FUTURES, HtxOrderOptions, HtxSettings, SelfMatch
from astra_htx.trading.base import SIDES, HtxTrading, Outcome, newest, pages
from astra_htx.trading.coin_rows import AccountRow, FillRow, OrderRow, PositionRow
from astra_htx.trading.linear import set_timer, whole

PAGE = 50
LEVERAGE_KEPT_S = 60.0
"""The account's leverage is asked for again after so long: it may be changed elsewhere."""
ALL_TRADE_TYPES = 0
MOST_NAMED = 50
"""Orders that can be asked for in one request."""
SETTLED_EVERY_MS = 4 * 3_600_000
"""Orders that are done are deleted after the settlement: of swaps "on 04:00(GMT+8), 12:00(GMT+8) and 20:00(GMT+8)"
("Get Information of an Order"), of dated futures daily at 08:00 UTC. Funding is told for 00:00, 08:00 and 16:00 UTC:
whichever of these holds, it is at a full fourth hour."""
SETTLING_MS = 600_000
"""So long it may take."""
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
        return self.order_id_str or str(self.order_id or "")


class _Refusal(msgspec.Struct):
    err_code: int | str
    err_msg: str | None = ""
    index: int = 0
    order_id: int | str = ""

    @property
    def error(self) -> Exception:
        return row_error(self.err_code, self.err_msg or "", spot=False)


class _Batch(msgspec.Struct):
    errors: list[_Refusal] = []
    success: list[_Ids] = []


class _Canceled(msgspec.Struct):
    errors: list[_Refusal] = []
    successes: str = ""


class _Open(msgspec.Struct):
    orders: list[OrderRow]
    total_page: int


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
    # "When getting information on order cancellation ... users can only query last 2-hour data."
    remembered_ms = 2 * 3_600_000 - 60_000
    fees_by_market = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {}

    def __init__(self, rest: HtxRest, markets: MarketTable, settings: HtxSettings) -> None:
        super().__init__(rest, markets, settings)
        self._dated = rest.product == COIN_FUTURES
        self._leverages: Recent[tuple[Credentials, str], tuple[float, int]] = Recent(10_000)
        self._sent: Recent[tuple[Credentials, str], dict[str, Any]] = Recent(10_000)
        """The bodies of placements by client order id."""

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
        self._sent[credentials, str(body["client_order_id"])] = body

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
        return self._place_one(market, order, answer, lambda body: _decode_placed(body).data.ident)

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

    async def _asked(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        ident = self.order_number(ref)
        named = {"client_order_id": ref.client_order_id} if ident is None else {"order_id": ident}
        order = newest(row.order(market) for row in await self._named(market, named, credentials))
        if order is None:
            raise OrderNotFound("the venue answers without an order", exchange=self.exchange)
        return order

    async def _named(self, market: Market, named: Mapping[str, Any], credentials: Credentials) -> Sequence[OrderRow]:
        """Orders by their ids. Canceled ones leave this list after two hours, all that are done at settlement. Raises
        `OrderNotFound`."""
        body = {**self._about(market), **named}
        answer = await self.rest.asked(_decode_orders, self._path("order_info"), body, credentials)
        return [row for row in answer.data or [] if row.contract_code == market.native_symbol]

    async def _done(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | None:
        """The history is documented to name no client order ids: only if it does an order is found by its own."""
        now = self.rest.clock.now_ms() + 1000
        rows = await self._history(market, (self._earliest(ref, credentials), now), credentials)
        name = ref.id or ref.client_order_id
        return newest(row.order(market) for row in rows if (row.ident if ref.id else row.client_id) == name)

    async def _history(self, market: Market, span: tuple[int, int], credentials: Credentials) -> Sequence[OrderRow]:
        """Orders that were created in a span of time, oldest first. How many rows a page has is not said: the last one
        has none that is new."""
        body, path = self._history_body(market, span, {"type": 1, "status": "0"}), self._path("hisorders", "v3")

        async def ask(last: OrderRow | None) -> Sequence[OrderRow]:
            start = {} if last is None else {"from_id": last.query_id}
            return (await self.rest.asked(_decode_orders, path, body | start, credentials)).data or []

        return await pages(ask, lambda row: row.query_id or 0)

    async def resolve(self, market: Market, client_order_id: str, since: int, credentials: Credentials) -> Order | bool:
        """An order that is done may be in the history alone, which does not name it: what was created there in the time
        of the placement with its terms may be it, unless the venue still says who it is. A settlement in between
        leaves the order open, too: afterwards nothing tells it from one that never was."""
        found = await super().resolve(market, client_order_id, since, credentials)
        if found is not False:
            return found
        clock, placement = self.rest.clock, self.rest.placement(credentials, client_order_id)
        begun = since + round(clock.offset_ms)
        stamped = begun if placement is None else max(begun, placement.stamped)
        first, last = begun - SKEW_MS, stamped + self.command_window_ms + RESOLVE_MARGIN_MS
        if clock.now_ms() // SETTLED_EVERY_MS > (first - SETTLING_MS) // SETTLED_EVERY_MS:
            return True
        sent = self._sent.get((credentials, client_order_id))
        rows = [
            row
            for row in await self._history(market, (first, last), credentials)
            if row.contract_code == market.native_symbol
            and row.client_id is None
            and (row.created is None or first <= row.created <= last)
            and (sent is None or _fits(row, sent))
        ]
        told: dict[str, OrderRow] = {}
        for start in range(0, len(rows), MOST_NAMED):
            idents = ",".join(row.ident for row in rows[start : start + MOST_NAMED])
            try:
                told.update((row.ident, row) for row in await self._named(market, {"order_id": idents}, credentials))
            except OrderNotFound:
                continue  # of none of these it says anything
        for row in told.values():
            if row.client_id == client_order_id:
                return row.order(market)
        return any(row.ident not in told for row in rows)

    def _history_body(self, market: Market, span: tuple[int, int], more: Mapping[str, Any]) -> dict[str, Any]:
        named = {"symbol": market.base_asset} if self._dated else {}
        times = {"start_time": span[0], "end_time": span[1]}
        contract = {"contract": market.native_symbol, "trade_type": ALL_TRADE_TYPES}
        return {**named, **contract, **times, "direct": "next", **more}

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """Asset by asset (swaps: contract by contract)."""
        rows: list[OrderRow] = []
        for subject in await self._subjects(market):
            index = total = 1
            while index <= total:
                body = {**subject, "page_index": index, "page_size": PAGE}
                answer = await self.rest.asked(_decode_open, self._path("openorders"), body, credentials)
                rows += answer.data.orders
                index, total = index + 1, answer.data.total_page
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

        async def ask(last: FillRow | None) -> Sequence[FillRow]:
            start = {} if last is None else {"from_id": last.query_id}
            return (await self.rest.asked(_decode_fills, path, body | start, credentials)).data or []

        rows = await pages(ask, lambda row: row.query_id)
        return [row.fill(market) for row in rows if row.contract_code == market.native_symbol]

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def _cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """Refusals hide in the answer."""
        (outcome,) = await self._cancel_rows(market, [ref], credentials, "cancel_order")
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
        await self.rest.asked(accepted, self._path("switch_lever_rate"), body, credentials, cost=TRADE)
        asset = next(iter(self._about(market).values()))
        self._leverages[credentials, asset] = (self.rest.clock.local.monotonic(), whole(leverage))


def _fits(row: OrderRow, sent: Mapping[str, Any]) -> bool:
    """May the row be the order of a placement, by its terms? (At the market an order has no price of its own.)"""
    terms = (row.direction, row.offset, row.volume) == (sent["direction"], sent["offset"], sent["volume"])
    return terms and ("price" not in sent or row.price in (None, Decimal(sent["price"])))
