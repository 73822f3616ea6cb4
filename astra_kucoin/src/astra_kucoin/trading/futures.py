"""Trading on futures, perpetual and dated. Sizes are lots. Conditional orders are placed, found and canceled like
ordinary ones, but listed by an endpoint of their own (docs-new, "Futures Trading / Orders", "Positions")."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from astra.errors import InvalidOrder, OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, MarginMode, Order, OrderRef, OrderRequest
from astra.net.http import AnswerLost
from astra.rest import REMEMBERED_PLACEMENTS, Params, Recent
from astra.trading.native import acknowledged, margin_mode
from astra_kucoin.errors import SUCCESS, refusal
from astra_kucoin.markets import currency_of
from astra_kucoin.rest import Answer, number, part
from astra_kucoin.settings import FUTURES, KucoinOrderOptions
from astra_kucoin.trading.base import MOST_PAGES, KucoinTrading
from astra_kucoin.trading.orders import allowed_options, futures_body, refused
from astra_kucoin.trading.rows import FuturesFillRow, FuturesOrderRow, OverviewRow, PositionRow

ORDERS: Final = "/api/v1/orders"
STOPS: Final = "/api/v1/stopOrders"
BATCH: Final = 20
CANCEL_BATCH: Final = 10
PAGE: Final = 100
OTHER_MODE: Final = "330005"
"""The order's margin mode is not the one that the contract is set to."""
FILL_TYPES: Final = "trade,adl,liquid"
_DONE = frozenset({SUCCESS, "200"})


class Placed(msgspec.Struct, rename="camel"):
    """The answer to a placement, alone or as an item of a batch (with `code`)."""

    order_id: str | None = None
    code: str = SUCCESS
    msg: str = ""


class Canceled(msgspec.Struct, rename="camel"):
    """An item of the answer to a batch of cancels."""

    order_id: str | None = None
    client_oid: str | None = None
    code: str = SUCCESS
    msg: str = ""


class _Orders(msgspec.Struct):
    items: list[FuturesOrderRow] = []


class _Fills(msgspec.Struct):
    items: list[FuturesFillRow] = []


class _FeeRow(msgspec.Struct, rename="camel"):
    taker_fee_rate: str
    maker_fee_rate: str


class _MarginMode(msgspec.Struct, rename="camel"):
    margin_mode: str


decode_placed = msgspec.json.Decoder(Answer[Placed]).decode
decode_batch = msgspec.json.Decoder(Answer[list[Placed]]).decode
decode_canceled = msgspec.json.Decoder(Answer[list[Canceled]]).decode
decode_order = msgspec.json.Decoder(Answer[FuturesOrderRow | None]).decode
decode_orders = msgspec.json.Decoder(Answer[_Orders]).decode
decode_fills = msgspec.json.Decoder(Answer[_Fills]).decode
decode_overview = msgspec.json.Decoder(Answer[OverviewRow]).decode
decode_positions = msgspec.json.Decoder(Answer[list[PositionRow] | None]).decode
decode_fee = msgspec.json.Decoder(Answer[_FeeRow]).decode
decode_mode = msgspec.json.Decoder(Answer[_MarginMode]).decode


class FuturesTrading(KucoinTrading):
    """Futures. Every order names its margin mode, which has to be the one that the account has for the contract: it is
    asked for once, and again when the venue says that it is another."""

    title = "KuCoin futures"

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._modes: Recent[tuple[Credentials, str], MarginMode | None] = Recent(REMEMBERED_PLACEMENTS)
        self._leverages: Recent[tuple[Credentials, str], Decimal] = Recent(REMEMBERED_PLACEMENTS)

    # -- placing ------------------------------------------------------------------------------------------------

    async def _body(self, market: Market, order: OrderRequest, credentials: Credentials) -> dict[str, Any]:
        """The request's body. Raises `UnsupportedOperation` for what futures do not take."""
        missing = refused(market, order)
        if missing is not None:
            raise self.unsupported(missing)
        options: KucoinOrderOptions = self.options(order, **allowed_options(market, order))
        mode = options.margin_mode or await self.margin_mode(market, credentials)
        if options.leverage is not None and mode is MarginMode.CROSS:
            raise InvalidOrder(
                f"{market.symbol}: leverage is part of orders with isolated margin; this one is cross "
                "(set_leverage holds for those)",
                exchange=self.exchange,
                rule="options",
            )
        remembered = self._leverages.get((credentials, market.symbol))
        leverage = options.leverage or remembered or self._settings.isolated_leverage
        return futures_body(market, order, options, margin_mode=mode, leverage=None if order.reduce_only else leverage)

    async def margin_mode(self, market: Market, credentials: Credentials) -> MarginMode:
        """What the account has set for the contract."""
        known = self._modes.get((credentials, market.symbol))
        if known is not None:
            return known
        params: Params = [("symbol", market.native_symbol)]
        path = "/api/v2/position/getMarginMode"
        word = (await self.rest.signed(decode_mode, path, params, credentials, weight=2)).data.margin_mode
        mode = margin_mode(word)
        if mode is None:
            raise VenueError(f"the margin mode of {market.symbol} is {word!r}", exchange=self.exchange)
        self._modes[credentials, market.symbol] = mode
        return mode

    def _forget_mode(self, code: str | None, market: Market, credentials: Credentials) -> None:
        if code == OTHER_MODE:
            self._modes[credentials, market.symbol] = None

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        body = await self._body(market, order, credentials)
        try:
            answer = await self.rest.command(
                "POST",
                ORDERS,
                credentials,
                market=market.symbol,
                operation="place_order",
                weight=2,
                body=body,
                client_order_id=order.client_order_id,
                places=[order.client_order_id],
                conditional=order.type.is_conditional,
            )
        except VenueError as error:
            self._forget_mode(error.code, market, credentials)
            raise
        return self._accepted(market, order, decode_placed(answer).data.order_id or "")

    def _accepted(self, market: Market, order: OrderRequest, order_id: str) -> Order:
        self.note(order_id, order)
        return acknowledged(market, order, order_id, None)

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        # All are put into words before any is sent: what is not taken must not come up half-way.
        bodies = [await self._body(market, order, credentials) for market, order in orders]
        results: list[Order | Exception] = []
        for start in range(0, len(orders), BATCH):
            few = slice(start, start + BATCH)
            results += await self._few(orders[few], bodies[few], credentials)
        return results

    async def _few(
        self, orders: Sequence[tuple[Market, OrderRequest]], bodies: Sequence[dict[str, Any]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        async def answer() -> Sequence[Placed]:
            body = await self.rest.command(
                "POST",
                f"{ORDERS}/multi",
                credentials,
                market=orders[0][0].symbol,
                operation="place_orders",
                weight=20,
                body=bodies,
                places=[order.client_order_id for _, order in orders if order.client_order_id],
            )
            return decode_batch(body).data

        def outcome(market: Market, order: OrderRequest, row: Placed) -> Order | Exception:
            if row.code in _DONE and row.order_id:
                return self._accepted(market, order, row.order_id)
            self._forget_mode(row.code, market, credentials)
            return refusal(self.exchange, FUTURES, row.code, row.msg)

        return await self.place_few(orders, answer(), outcome)

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        if ref.id is not None:
            path, params = f"{ORDERS}/{part(ref.id)}", []
        else:
            path, params = f"{ORDERS}/byClientOid", [("clientOid", ref.client_order_id)]
        row = (await self.rest.signed(decode_order, path, params, credentials, weight=5)).data
        if row is None or row.symbol != market.native_symbol:
            raise OrderNotFound(f"no order in {market.symbol} has this id", exchange=self.exchange)
        return self._noted(row, market)

    def _noted(self, row: FuturesOrderRow, market: Market) -> Order:
        order = row.order(market)
        self.note(row.id, order)
        return order

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        active = await self._listed(ORDERS, [("status", "active")], 2, market, credentials)
        return active + await self._listed(STOPS, [], 6, market, credentials)

    async def _listed(
        self,
        path: str,
        filters: list[tuple[str, str]],
        weight: int,
        market: Market | None,
        credentials: Credentials,
    ) -> list[Order]:
        rows: dict[str, FuturesOrderRow] = {}
        native = None if market is None else market.native_symbol
        for page in range(1, MOST_PAGES + 1):
            params: Params = [*filters, ("symbol", native), ("currentPage", page), ("pageSize", PAGE)]
            items = (await self.rest.signed(decode_orders, path, params, credentials, weight=weight)).data.items
            rows |= {row.id: row for row in items}
            if len(items) < PAGE:
                break
        found = await self.with_markets(rows.values(), market, lambda row: row.native_symbol)
        return [self._noted(row, known) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Newest first at the venue."""
        native = None if market is None else market.native_symbol

        async def ask(
            start: int | None, end: int | None, mark: int | None
        ) -> tuple[Sequence[FuturesFillRow], int | None]:
            page = mark or 1
            params: Params = [
                ("symbol", native),
                ("tradeTypes", FILL_TYPES),
                ("startAt", start),
                ("endAt", end),
                ("currentPage", page),
                ("pageSize", PAGE),
            ]
            answer = await self.rest.signed(decode_fills, "/api/v1/fills", params, credentials, weight=5)
            rows = answer.data.items
            return rows, page + 1 if len(rows) == PAGE else None

        return await self.in_weeks(ask, market, since, limit, PAGE)

    # -- cancelling ---------------------------------------------------------------------------------------------

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for."""
        if ref.id is not None:
            path, params = f"{ORDERS}/{part(ref.id)}", []
        else:
            path = f"{ORDERS}/client-order/{part(ref.client_order_id or '')}"
            params = [("symbol", market.native_symbol)]
        await self.rest.command(
            "DELETE",
            path,
            credentials,
            market=market.symbol,
            operation="cancel_order",
            weight=1,
            params=params,
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        return await self.after("cancel_order", market, ref, credentials)

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """By id and by client order id apart: a request takes one kind. Conditional orders, as far as they are known,
        are canceled one by one: the venue does not say whether its batches take them."""
        results: dict[int, Order | Exception] = {}
        alone = [place for place, ref in enumerate(refs) if self._is_conditional(ref, credentials)]
        by_id = [place for place, ref in enumerate(refs) if ref.id is not None and place not in alone]
        by_client_id = [place for place, ref in enumerate(refs) if ref.id is None and place not in alone]
        for place in alone:
            try:
                results[place] = await self.cancel(market, refs[place], credentials)
            except VenueError as error:
                results[place] = error
        for places in (by_id, by_client_id):
            for start in range(0, len(places), CANCEL_BATCH):
                few = places[start : start + CANCEL_BATCH]
                answers = await self._cancel_few(market, [refs[place] for place in few], credentials)
                results.update(zip(few, answers, strict=True))
        return [results[place] for place in range(len(refs))]

    def _is_conditional(self, ref: OrderRef, credentials: Credentials) -> bool:
        if ref.id is not None:
            return self.notes.stops.get(ref.id) is not None
        placement = self.rest.placement(credentials, ref.client_order_id or "")
        return placement is not None and placement.conditional

    async def _cancel_few(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        operation = "cancel_orders"
        body: dict[str, Any]
        if refs[0].id is not None:
            body = {"orderIdsList": [ref.id for ref in refs]}
        else:
            pairs = [{"symbol": market.native_symbol, "clientOid": ref.client_order_id} for ref in refs]
            body = {"clientOidsList": pairs}
        try:
            answer = await self.rest.command(
                "DELETE",
                f"{ORDERS}/multi-cancel",
                credentials,
                market=market.symbol,
                operation=operation,
                weight=20,
                body=body,
            )
            rows = {(row.order_id or row.client_oid): row for row in decode_canceled(answer).data}
        except OrderOutcomeUnknown as lost:
            return [self.unknown(operation, market, ref, lost) for ref in refs]
        except msgspec.DecodeError as error:
            gone = AnswerLost(f"not understood: {error}")
            return [self.unknown(operation, market, ref, gone) for ref in refs]
        except VenueError as error:
            return [error] * len(refs)
        results: list[Order | Exception] = []
        for ref in refs:
            row = rows.get(ref.id or ref.client_order_id)
            if row is None:
                lost_one = AnswerLost("the answer does not tell what became of this cancel")
                results.append(self.unknown(operation, market, ref, lost_one))
            elif row.code not in _DONE:
                refused_by = refusal(self.exchange, FUTURES, row.code, row.msg)
                if isinstance(refused_by, AnswerLost):
                    refused_by = self.unknown(operation, market, ref, refused_by)
                results.append(refused_by)
            else:
                try:
                    results.append(await self.after(operation, market, ref, credentials))
                except OrderOutcomeUnknown as unknown:
                    results.append(unknown)
        return results

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """Conditional orders, which may become ordinary ones meanwhile, and ordinary ones; what became of each is asked
        for."""
        orders = await self.open_orders(market, credentials)
        await self.each(
            partial(self.cancel_at, path, market, credentials, weight)
            for path, weight in ((STOPS, 15), ("/api/v3/orders", 10))
        )
        return await self.canceled_of("cancel_all_orders", market, orders, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        """Of each asset that contracts are settled in: the venue tells one at a time."""
        found = []
        for currency in await self._currencies():
            params: Params = [("currency", currency)]
            path = "/api/v1/account-overview"
            found.append(
                (await self.rest.signed(decode_overview, path, params, credentials, weight=5)).data.as_balance()
            )
        return [balance for balance in found if balance.total or balance.locked]

    async def _currencies(self) -> Collection[str]:
        markets = await self.markets.all()
        settled_in = (market.margin_asset for market in markets if market.product == FUTURES and market.margin_asset)
        return [currency_of(asset) for asset in sorted(set(settled_in))]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        answer = await self.rest.signed(decode_positions, "/api/v1/positions", (), credentials, weight=2)
        rows = [row for row in answer.data or () if row.size]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.symbol)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Params = [("symbol", market.native_symbol)]
        row = (await self.rest.signed(decode_fee, "/api/v1/trade-fees", params, credentials, weight=3)).data
        return [Fees(market=market.symbol, maker=Decimal(row.maker_fee_rate), taker=Decimal(row.taker_fee_rate))]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """Cross margin: set at the venue. Isolated margin: part of every order that this process places from now on,
        which is the venue's way."""
        if await self.margin_mode(market, credentials) is MarginMode.ISOLATED:
            self._leverages[credentials, market.symbol] = leverage
            return
        body = {"symbol": market.native_symbol, "leverage": str(number(leverage))}
        await self.rest.set(bytes, "/api/v2/changeCrossUserLeverage", body, credentials, weight=2)

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        body = {"symbol": market.native_symbol, "marginMode": mode.value}
        await self.rest.set(bytes, "/api/v2/position/changeMarginMode", body, credentials, weight=2)
        self._modes[credentials, market.symbol] = mode

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        body = {"positionMode": "1" if hedge else "0"}
        await self.rest.set(bytes, "/api/v2/position/switchPositionMode", body, credentials, weight=2)
