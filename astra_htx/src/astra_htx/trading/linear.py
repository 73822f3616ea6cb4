"""Linear contracts, perpetual and dated: API V5."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from astra.errors import BadRequest, InvalidOrder, OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, MarginMode, Order, OrderRef, OrderRequest, OrderType, TimeInForce
from astra.net.http import AnswerLost
from astra.rest import Params, plain
from astra.trading.checks import native_quantity
from astra_htx.errors import OK, accepted, row_error
from astra_htx.rest import TRADE, Answer
from astra_htx.settings import HtxOrderOptions
from astra_htx.trading.base import SIDES, HtxTrading, Outcome, newest, pages
from astra_htx.trading.linear_rows import Account, FillRow, OrderRow, PositionRow

PAGE = 100
FILLS_KEPT_MS = 3 * 86_400_000 - 60_000
LEAST_TIMER_S = 5
_IN_FORCE: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "gtc",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
}
MODES = ("cross", "isolated")


class _Ids(msgspec.Struct):
    """What an order was accepted, or canceled, as; in lists with a verdict each."""

    order_id: str | int | None = None
    client_order_id: str | int | None = None
    code: str | int = 200
    message: str | None = ""

    @property
    def ident(self) -> str:
        return str(self.order_id or "")

    @property
    def refusal(self) -> Exception | None:
        return None if str(self.code) in OK else row_error(self.code, self.message or "", spot=False)


_decode_ids = msgspec.json.Decoder(Answer[_Ids]).decode
_decode_rows = msgspec.json.Decoder(Answer[list[_Ids]]).decode
_decode_order = msgspec.json.Decoder(Answer[OrderRow]).decode
_decode_orders = msgspec.json.Decoder(Answer[list[OrderRow] | None]).decode
_decode_fills = msgspec.json.Decoder(Answer[list[FillRow] | None]).decode
_decode_account = msgspec.json.Decoder(Answer[Account]).decode
_decode_positions = msgspec.json.Decoder(Answer[list[PositionRow] | None]).decode


def _number(row: OrderRow) -> int:
    return int(row.order_id)


def _after(last: OrderRow | None) -> str | None:
    """Where the next page begins: pages are counted by the id of the query, which is the order's for open ones only."""
    return None if last is None else str(last.id or last.order_id)


class LinearTrading(HtxTrading):
    """V5. Orders are in contracts; the client order id is a whole number."""

    title = "HTX linear"
    frees_ids = True
    lacks: ClassVar[Mapping[str, Collection[str]]] = {}

    # -- placing ------------------------------------------------------------------------------------------------

    def _mode(self, market: Market, options: HtxOrderOptions) -> str:
        """Dated futures are margined cross only."""
        if market.expiry is not None:
            if options.margin_mode is MarginMode.ISOLATED:
                raise self.unsupported("isolated margin for dated futures")
            return "cross"
        return self._settings.margin_mode if options.margin_mode is None else options.margin_mode.value.lower()

    def _body(self, market: Market, order: OrderRequest) -> dict[str, Any]:
        """The request's body. Raises `UnsupportedOperation` for what the API does not take."""
        self.check_type(order, (OrderType.LIMIT, OrderType.MARKET))
        if order.quote_quantity is not None:
            raise self.unsupported("orders by quoteQuantity; give quantity or contracts")
        options: HtxOrderOptions = self.options(order, margin_mode=True, position_side=True, self_match=True)
        body: dict[str, Any] = {
            "contract_code": market.native_symbol,
            "margin_mode": self._mode(market, options),
            "side": SIDES[order.side],
            "volume": plain(native_quantity(market, order)),
            "client_order_id": order.client_order_id,
        }
        if order.price is None:
            self.check_market_time_in_force(order)
            body["type"] = "market"
        else:
            in_force = self.resting_time_in_force(order)
            body["type"] = "post_only" if order.post_only else "limit"
            body["price"] = plain(order.price)
            if not order.post_only:
                body["time_in_force"] = _IN_FORCE[in_force]
        if options.position_side is not None:
            body["position_side"] = options.position_side.value.lower()
        if order.reduce_only:
            body["reduce_only"] = 1
        if options.self_match is not None:
            body["self_match_prevent"] = options.self_match.value
        return body

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        answer = await self.rest.command(
            "/v5/trade/order",
            self._body(market, order),
            credentials,
            market=market.symbol,
            operation="place_order",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
        )
        return self._place_one(market, order, answer, lambda body: _decode_ids(body).data.ident)

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        # All are put into words before any is sent: what is not taken must not come up half-way.
        rows = [self._body(market, order) for market, order in orders]

        async def send(few: Sequence[Any], names: Sequence[str]) -> bytes:
            return await self.rest.command(
                "/v5/trade/batch_orders",
                few,
                credentials,
                market=orders[0][0].symbol,
                operation="place_orders",
                places=names,
            )

        def read(body: bytes, count: int) -> Sequence[Outcome]:
            return [row.refusal or row.ident for row in _decode_rows(body).data]

        return await self._place_rows(orders, rows, send, read)

    # -- looking ------------------------------------------------------------------------------------------------

    def _modes(self, market: Market) -> Sequence[str]:
        """The margin modes that an order may have been placed in, the likely one first."""
        if market.expiry is not None:
            return ("cross",)
        return sorted(MODES, key=lambda mode: mode != self._settings.margin_mode)

    async def _asked(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """In both margin modes: of the orders that had one client order id, either may have the newest."""
        ident = self.order_number(ref)
        failure: OrderNotFound | None = None
        found: list[Order] = []
        for mode in self._modes(market):
            params: Params = [
                ("contract_code", market.native_symbol),
                ("order_id", ident),
                ("client_order_id", ref.client_order_id),
                ("margin_mode", mode),
            ]
            try:
                answer = await self.rest.signed(_decode_order, "/v5/trade/order", params, credentials)
            except OrderNotFound as error:
                failure = failure or error
                continue
            found.append(answer.data.order(market))
            if ident is not None:
                break
        order = newest(found)
        if order is None:
            assert failure is not None
            raise failure
        return order

    async def _done(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | None:
        """An order that is done gives its client order id free. The history of both margin modes is read to its end:
        how it is sorted is not said."""
        now, earliest = self.rest.clock.now_ms() + 1000, self._earliest(ref, credentials)
        found: list[Order] = []
        for mode in self._modes(market):

            async def ask(last: OrderRow | None, mode: str = mode) -> Sequence[OrderRow]:
                params: Params = [
                    ("contract_code", market.native_symbol),
                    ("margin_mode", mode),
                    ("start_time", earliest),
                    ("end_time", now),
                    ("from", _after(last)),
                    ("limit", PAGE),
                    ("direct", "next"),
                ]
                answer = await self.rest.signed(_decode_orders, "/v5/trade/order/history", params, credentials)
                return answer.data or []

            found += [
                row.order(market)
                for row in await pages(ask, _number, PAGE)
                if ((str(row.order_id) == ref.id) if ref.id else (row.client_id == ref.client_order_id))
            ]
        return newest(found)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        async def ask(last: OrderRow | None) -> Sequence[OrderRow]:
            params: Params = [
                ("contract_code", market.native_symbol if market is not None else None),
                ("from", _after(last)),
                ("limit", PAGE),
                ("direct", "next"),
            ]
            answer = await self.rest.signed(_decode_orders, "/v5/trade/order/opens", params, credentials)
            return answer.data or []

        rows = await pages(ask, _number, PAGE)
        return [row.order(known) for known, row in await self.with_markets(rows, market, lambda row: row.contract_code)]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Of the last three days: the venue has no older ones."""

        async def fetch(start: int, end: int) -> Sequence[Fill]:
            async def ask(last: FillRow | None) -> Sequence[FillRow]:
                params: Params = [
                    ("contract_code", market.native_symbol if market is not None else None),
                    ("start_time", start),
                    ("end_time", end),
                    ("from", None if last is None else str(last.id)),
                    ("limit", PAGE),
                    ("direct", "next"),
                ]
                answer = await self.rest.signed(_decode_fills, "/v5/trade/order/details", params, credentials)
                return answer.data or []

            rows = await pages(ask, lambda row: int(row.id), PAGE)
            found = await self.with_markets(rows, market, lambda row: row.contract_code)
            return [row.fill(known) for known, row in found]

        oldest = self.rest.clock.now_ms() - FILLS_KEPT_MS
        return await self._windows(fetch, None if since is None else max(since, oldest), limit, PAGE)

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def _cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        ident = self.order_number(ref)
        named = {"client_order_id": ref.client_order_id} if ident is None else {"order_id": ident}
        answer = await self.rest.command(
            "/v5/trade/cancel_order",
            {"contract_code": market.native_symbol, **named},
            credentials,
            market=market.symbol,
            operation="cancel_order",
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        try:
            ident = _decode_ids(answer).data.ident
        except msgspec.DecodeError as error:
            lost = AnswerLost(f"the answer to a cancel has another shape: {error}")
            raise self.unknown("cancel_order", market, ref, lost) from None
        # The client order id is free again once the order is done.
        found = OrderRef(id=ident) if ident else ref
        return await self.after("cancel_order", market, found, credentials)

    async def _cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        results: dict[int, Order | Exception] = {}
        numbered = [place for place, ref in enumerate(refs) if self.order_number(ref) is not None]
        named = [place for place, ref in enumerate(refs) if ref.id is None]
        for field, places in (("order_id", numbered), ("client_order_id", named)):
            for start in range(0, len(places), self.batch):
                part = places[start : start + self.batch]
                few = [refs[place] for place in part]
                answers = await self._cancel_few(market, few, field, credentials)
                results.update(zip(part, answers, strict=True))
        return [results[place] for place in sorted(results)]

    async def _cancel_few(
        self, market: Market, refs: Sequence[OrderRef], field: str, credentials: Credentials
    ) -> Sequence[Order | Exception]:
        idents = [str(ref.id if field == "order_id" else ref.client_order_id) for ref in refs]
        outcomes: list[Exception | None]
        found = list(refs)
        try:
            answer = await self.rest.command(
                "/v5/trade/cancel_batch_orders",
                {"contract_code": market.native_symbol, field: idents},
                credentials,
                market=market.symbol,
                operation="cancel_orders",
            )
            said = {str(getattr(row, field)): row for row in _decode_rows(answer).data}
            silent = AnswerLost("the answer to a batch of cancels does not say what became of the order")
            outcomes = [said[ident].refusal if ident in said else silent for ident in idents]
            for place, ident in enumerate(idents):
                if ident in said and said[ident].order_id:
                    found[place] = OrderRef(id=str(said[ident].order_id))
        except msgspec.DecodeError as error:
            outcomes = [AnswerLost(f"the answer to a batch of cancels has another shape: {error}")] * len(refs)
        except (VenueError, OrderOutcomeUnknown) as failure:
            outcomes = [failure] * len(refs)
        return await self._after_batch(market, found, outcomes, credentials)

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Of all linear orders; five seconds or more."""
        await set_timer(self, "/v5/trade/cancel-after", market, timeout_s, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        answer = await self.rest.signed(_decode_account, "/v5/account/balance", (), credentials)
        found = [row.balance() for row in answer.data.details]
        return [balance for balance in found if balance.total or balance.available]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        answer = await self.rest.signed(_decode_positions, "/v5/trade/position/opens", (), credentials)
        rows = [row for row in answer.data or [] if row.size]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda r: r.contract_code)]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """For positions margined as the settings say; a whole number."""
        body = {
            "contract_code": market.native_symbol,
            "margin_mode": self._mode(market, HtxOrderOptions()),
            "lever_rate": whole(leverage),
        }
        await self.rest.asked(accepted, "/v5/position/lever", body, credentials, cost=TRADE)

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        body = {"position_mode": "dual_side" if hedge else "single_side"}
        await self.rest.asked(accepted, "/v5/position/mode", body, credentials, cost=TRADE)


def whole(leverage: Decimal) -> int:
    """A leverage as the venue takes it. Raises `InvalidOrder` for broken ones."""
    if leverage != int(leverage):
        raise InvalidOrder(f"HTX takes whole leverages, not {leverage}", exchange="HUOBI", rule="leverage")
    return int(leverage)


async def set_timer(
    family: HtxTrading, path: str, market: Market | None, timeout_s: float, credentials: Credentials
) -> None:
    """Start (again) or stop a dead-man timer of a derivatives family, five seconds or more."""
    if market is not None:
        raise family.unsupported("dead-man timer for single markets: leave the market out")
    if timeout_s and timeout_s < LEAST_TIMER_S:
        raise BadRequest(f"HTX's dead-man timer takes {LEAST_TIMER_S} s or more (or 0), not {timeout_s:g} s")
    body = {"on_off": 1, "time_out": round(timeout_s * 1000)} if timeout_s else {"on_off": 0}
    await family.rest.asked(accepted, path, body, credentials, cost=TRADE)
