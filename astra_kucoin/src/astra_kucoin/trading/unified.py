"""Trading with unified accounts: both products through one API, one wallet (docs-new, "Unified Trading Account /
Order", "Position", "Account").
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from astra.errors import OrderNotFound
from astra.models.accounts import Balance, Fees, Position
from astra.models.base import decimal_text
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    TimeInForce,
)
from astra.rest import Params, Placement
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged
from astra_kucoin.rest import Answer, number
from astra_kucoin.settings import SPOT, KucoinOrderOptions, TriggerPrice
from astra_kucoin.trading.base import MOST_PAGES, KucoinTrading
from astra_kucoin.trading.orders import allowed_options, ending, refused
from astra_kucoin.trading.rows import TIMES_IN_FORCE, ms_of, rises
from astra_kucoin.trading.unified_rows import (
    TRADE_TYPES,
    TRIGGERED,
    BalanceRow,
    FillRow,
    HeldRow,
    OrderRow,
    tells_wallet,
)

V2: Final = "/api/ua/v2"
ORDER: Final = f"{V2}/unified/order"
PAGE: Final = 100


class Accepted(msgspec.Struct, rename="camel"):
    """The answer to a command."""

    order_id: str
    ts: int = 0


class _Orders(msgspec.Struct):
    items: list[OrderRow] = []


class _Fills(msgspec.Struct, rename="camel"):
    items: list[FillRow] = []
    last_id: int | None = None


class _Account(msgspec.Struct):
    currencies: list[BalanceRow] = []


class _Accounts(msgspec.Struct):
    accounts: list[_Account] = []


class _FeeRow(msgspec.Struct, rename="camel"):
    symbol: str
    taker_fee_rate: str
    maker_fee_rate: str


class _FeeList(msgspec.Struct):
    rows: list[_FeeRow] = msgspec.field(name="list", default_factory=list)


decode_accepted = msgspec.json.Decoder(Answer[Accepted]).decode
decode_order = msgspec.json.Decoder(Answer[OrderRow | None]).decode
decode_orders = msgspec.json.Decoder(Answer[_Orders]).decode
decode_fills = msgspec.json.Decoder(Answer[_Fills]).decode
decode_accounts = msgspec.json.Decoder(Answer[_Accounts]).decode
decode_positions = msgspec.json.Decoder(Answer[list[HeldRow] | None]).decode
decode_fees = msgspec.json.Decoder(Answer[_FeeList]).decode


class UnifiedTrading(KucoinTrading):
    """One product of unified accounts. Amended orders keep their id; triggered ones go on under another one, with the
    same client order id."""

    title = "KuCoin unified account"
    fills_by_market = True
    finds_done_conditionals = False

    @property
    def _type(self) -> str:
        return TRADE_TYPES[self.product]

    def placement_window_ms(self, placement: Placement | None) -> int:
        return self.command_window_ms

    # -- orders -------------------------------------------------------------------------------------------------

    def _body(self, market: Market, order: OrderRequest) -> dict[str, Any]:
        missing = refused(market, order)
        if missing is not None:
            raise self.unsupported(missing)
        options: KucoinOrderOptions = self.options(order, **allowed_options(market, order))
        if options.leverage is not None:
            raise self.unsupported("leverage in orders (set_leverage holds for the contract)")
        limit = order.type.has_price
        body: dict[str, Any] = {
            "clientOid": order.client_order_id,
            "tradeType": self._type,
            "symbol": market.native_symbol,
            "side": order.side.value,
            "orderType": "LIMIT" if limit else "MARKET",
        }
        if order.quote_quantity is not None:
            body |= {"size": decimal_text(order.quote_quantity), "sizeUnit": "QUOTECCY"}
        else:
            body |= {"size": decimal_text(native_quantity(market, order)), "sizeUnit": self._unit}
        if order.price is not None:
            in_force = TIMES_IN_FORCE[order.time_in_force or TimeInForce.GTC]
            body |= {"price": decimal_text(order.price), "timeInForce": in_force}
        if order.expire_time is not None:
            body |= ending(order.expire_time, self.rest.clock.now_ms())
        for name, flag in (("postOnly", order.post_only), ("reduceOnly", order.reduce_only)):
            if flag:
                body[name] = True
        if options.self_trade_prevention is not None:
            body["stp"] = options.self_trade_prevention.value
        if options.margin_mode is not None:
            body["marginMode"] = options.margin_mode.value
        if options.position_side is not None:
            body["positionSide"] = options.position_side.value
        if order.stop_price is not None:
            body |= {
                "triggerDirection": "UP" if rises(order.type, order.side) else "DOWN",
                "triggerPrice": decimal_text(order.stop_price),
                "triggerPriceType": (options.trigger_price or TriggerPrice.LAST).value,
            }
        return body

    @property
    def _unit(self) -> str:
        return "BASECCY" if self.product == SPOT else "UNIT"

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        answer = await self.rest.command(
            "POST",
            f"{ORDER}/place",
            credentials,
            market=market.symbol,
            operation="place_order",
            weight=1,
            body=self._body(market, order),
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            conditional=order.type.is_conditional,
        )
        accepted = decode_accepted(answer).data
        return acknowledged(market, order, accepted.order_id, ms_of(accepted.ts) or None)

    def _subject(self, market: Market, ref: OrderRef) -> dict[str, Any]:
        name = {"orderId": ref.id} if ref.id is not None else {"clientOid": ref.client_order_id}
        return {"tradeType": self._type, "symbol": market.native_symbol} | name

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """One order. A conditional one that was triggered is the order that it became, which has its client order
        id."""
        row = await self._row(market, ref, credentials)
        if row.status == TRIGGERED and ref.id is not None and row.client_oid:
            row = await self._row(market, OrderRef(client_order_id=row.client_oid), credentials)
        return row.order(market)

    async def _row(self, market: Market, ref: OrderRef, credentials: Credentials) -> OrderRow:
        params: Params = list(self._subject(market, ref).items())
        row = (await self.rest.signed(decode_order, f"{ORDER}/detail", params, credentials, weight=2)).data
        if row is None or row.symbol != market.native_symbol:
            raise OrderNotFound(f"no order in {market.symbol} has this id", exchange=self.exchange)
        return row

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        if market is None and self.product == SPOT:
            raise self.unsupported("list of the open orders of all spot markets: name a market")
        rows: dict[str, OrderRow] = {}
        for filters in ("NORMAL", "ADVANCED"):
            for page in range(1, MOST_PAGES + 1):
                params: Params = [
                    ("tradeType", self._type),
                    ("symbol", None if market is None else market.native_symbol),
                    ("orderFilter", filters),
                    ("pageNumber", page),
                    ("pageSize", PAGE),
                ]
                answer = await self.rest.signed(decode_orders, f"{ORDER}/open-list", params, credentials, weight=2)
                rows |= {row.order_id: row for row in answer.data.items}
                if len(answer.data.items) < PAGE:
                    break
        found = await self.with_markets(rows.values(), market, lambda row: row.native_symbol)
        return [row.order(known) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Newest first at the venue."""
        native = None if market is None else market.native_symbol

        async def ask(start: int | None, end: int | None, mark: int | None) -> tuple[Sequence[FillRow], int | None]:
            params: Params = [
                ("tradeType", self._type),
                ("symbol", native),
                ("startAt", start),
                ("endAt", end),
                ("lastId", mark),
                ("pageSize", PAGE),
            ]
            page = (await self.rest.signed(decode_fills, f"{ORDER}/execution", params, credentials, weight=2)).data
            return page.items, (page.last_id or None) if len(page.items) == PAGE else None

        return await self.in_weeks(ask, market, since, limit, PAGE)

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """The venue acknowledges; what became of the order is asked for."""
        if ref.id is not None:
            row = await self._row(market, ref, credentials)
            if row.status == TRIGGERED and row.client_oid:
                ref = OrderRef(client_order_id=row.client_oid)
        await self.rest.command(
            "POST",
            f"{ORDER}/cancel",
            credentials,
            market=market.symbol,
            operation="cancel_order",
            weight=1,
            body=self._subject(market, ref),
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        return await self.after("cancel_order", market, ref, credentials)

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """Conditional orders, which may become ordinary ones meanwhile, and ordinary ones; what became of each is asked
        for."""
        orders = await self.open_orders(market, credentials)

        async def those(filters: str) -> Sequence[Order]:
            await self.rest.command(
                "POST",
                f"{ORDER}/cancel-all",
                credentials,
                market=market.symbol,
                operation="cancel_all_orders",
                weight=10,
                body={"tradeType": self._type, "symbol": market.native_symbol, "orderFilter": filters},
            )
            return ()

        await self.each(partial(those, filters) for filters in ("ADVANCED", "NORMAL"))
        return await self.canceled_of("cancel_all_orders", market, orders, credentials)

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """New price and size are JSON numbers here. By an id from before it was triggered, an order is amended under
        the one that it has now."""
        return await self.under_its_id(
            market, ref, credentials, lambda named: self._amend(market, named, change, credentials)
        )

    async def _amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        body = self._subject(market, ref)
        del body["tradeType"]
        if change.price is not None:
            body["newPrice"] = msgspec.Raw(decimal_text(change.price).encode())
        if change.quantity is not None or change.contracts is not None:
            body["newSize"] = msgspec.Raw(decimal_text(native_quantity(market, change)).encode())
            body["sizeUnit"] = self._unit
        await self.rest.command(
            "POST",
            f"{ORDER}/amend",
            credentials,
            market=market.symbol,
            operation="amend_order",
            weight=1,
            body=body,
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        return await self.after("amend_order", market, ref, credentials)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        """The one wallet, told by one side."""
        if not tells_wallet(self.product, self._settings.products, credentials):
            return ()
        path = f"{V2}/unified/account/balance"
        answer = await self.rest.signed(decode_accounts, path, (), credentials, weight=5)
        found = (row.as_balance() for account in answer.data.accounts for row in account.currencies)
        return [balance for balance in found if balance.total or balance.locked or balance.borrowed]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        if self.product == SPOT:
            return ()
        path = f"{V2}/unified/position/open-list"
        answer = await self.rest.signed(decode_positions, path, (), credentials, weight=2)
        rows = [row for row in answer.data or () if row.lots]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.symbol)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Params = [("tradeType", self._type), ("symbol", market.native_symbol)]
        answer = await self.rest.signed(decode_fees, f"{V2}/user/fee-rate", params, credentials, weight=3)
        return [
            Fees(market=market.symbol, maker=Decimal(row.maker_fee_rate), taker=Decimal(row.taker_fee_rate))
            for row in answer.data.rows
            if row.symbol == market.native_symbol
        ]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        body = {"tradeType": self._type, "symbol": market.native_symbol, "leverage": str(number(leverage))}
        await self.rest.set(bytes, f"{V2}/unified/account/modify-leverage", body, credentials, weight=2)

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        body = {"tradeType": self._type, "symbol": market.native_symbol, "marginMode": mode.value}
        await self.rest.set(bytes, f"{V2}/unified/position/margin-mode", body, credentials, weight=2)
