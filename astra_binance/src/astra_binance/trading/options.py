"""Orders, accounts and positions of European options (`/eapi`).

Limit orders only, no amendment, no conditional orders. Quantities are contracts. Fees are negative when paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from astra.errors import OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.models.trades import Side
from astra.trading.checks import native_quantity
from astra.trading.native import make_fill, make_order, make_position, position_side
from astra_binance.settings import OPTIONS
from astra_binance.trading.base import DAY_MS, BatchRules, BinanceTrading, CancelRules, FillHistory, Parameters
from astra_binance.trading.terms import POST_ONLY_WORDS, order_status, order_type, time_in_force

BATCH = 5
"""Orders in one batch at most (older pages: 10)."""
CANCEL_BATCH = 10
"""Cancels in one batch at most, as for futures; the options pages name no number."""
MAKER = "MAKER"


class OptionOrder(msgspec.Struct, rename="camel"):
    """An order in any answer."""

    symbol: str
    order_id: int
    side: Side
    status: str
    type: str
    price: Decimal
    quantity: Decimal
    executed_qty: Decimal
    avg_price: Decimal | None = None
    client_order_id: str = ""
    time_in_force: str | None = None
    reduce_only: bool = False
    post_only: bool = False
    create_time: int | None = None
    create_date: int | None = None
    """What the answer to a cancel calls it."""
    update_time: int | None = None

    def order(self, market: Market) -> Order:
        return make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=self.client_order_id,
            side=self.side,
            kind=order_type(self.type, self.price),
            status=order_status(self.status, self.executed_qty, self.quantity),
            price=self.price,
            total=self.quantity,
            filled=self.executed_qty,
            average=self.avg_price,
            time_in_force=time_in_force(self.time_in_force),
            reduce_only=self.reduce_only,
            post_only=self.post_only or self.time_in_force in POST_ONLY_WORDS,
            created=self.create_time or self.create_date,
            updated=self.update_time,
        )


class _Fill(msgspec.Struct, rename="camel"):
    symbol: str
    trade_id: int
    order_id: int
    side: Side
    price: Decimal
    quantity: Decimal
    time: int
    fee: Decimal | None = None
    liquidity: str | None = None
    quote_asset: str | None = None

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.trade_id,
            order_id=self.order_id,
            side=self.side,
            price=self.price,
            size=self.quantity,
            fee=None if self.fee is None else -self.fee,
            fee_asset=self.quote_asset or market.quote_asset,
            maker=None if self.liquidity is None else self.liquidity == MAKER,
            time=self.time,
        )


class _Asset(msgspec.Struct, rename="camel"):
    asset: str
    margin_balance: Decimal
    available: Decimal | None = None


class _MarginAccount(msgspec.Struct):
    asset: list[_Asset]


class _Position(msgspec.Struct, rename="camel"):
    symbol: str
    side: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal | None = None
    unrealized_pnl: Decimal | None = msgspec.field(default=None, name="unrealizedPNL")

    def position(self, market: Market) -> Position:
        return make_position(
            market,
            position_side(self.side, self.quantity),
            self.quantity,
            entry=self.entry_price,
            mark=self.mark_price,
            unrealized_pnl=self.unrealized_pnl,
        )


class _Commission(msgspec.Struct, rename="camel"):
    underlying: str
    maker_fee: Decimal
    taker_fee: Decimal


class _Commissions(msgspec.Struct):
    commissions: list[_Commission]


_decode_order = msgspec.json.Decoder(OptionOrder).decode
_decode_orders = msgspec.json.Decoder(list[OptionOrder]).decode
_FILLS = FillHistory("userTrades", 5, 7 * DAY_MS, msgspec.json.Decoder(list[_Fill]).decode)
_decode_account = msgspec.json.Decoder(_MarginAccount).decode
_decode_positions = msgspec.json.Decoder(list[_Position]).decode
_decode_commissions = msgspec.json.Decoder(_Commissions).decode


def underlying_of(market: Market) -> str:
    """The index that the option is written on: `BTC-251123-126000-C` in USDT -> `BTCUSDT`."""
    return market.native_symbol.partition("-")[0] + market.quote_asset


def _batch_order(row: msgspec.Raw, market: Market) -> Order:
    return _decode_order(row).order(market)


class OptionsTrading(BinanceTrading):
    """Trading on options."""

    title = "options"

    def order_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of `POST order`. Raises `UnsupportedOperation` for what options do not take."""
        self.check_type(order, (OrderType.LIMIT,))
        options = self.options(order, market_maker_protection=True)
        return [
            ("symbol", market.native_symbol),
            ("side", order.side),
            ("type", "LIMIT"),
            ("timeInForce", self.resting_time_in_force(order).value),
            ("quantity", native_quantity(market, order)),
            ("price", order.price),
            ("reduceOnly", True if order.reduce_only else None),
            ("postOnly", True if order.post_only else None),
            ("isMmp", True if options.market_maker_protection else None),
            ("clientOrderId", order.client_order_id),
            ("newOrderRespType", "RESULT"),
        ]

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        body = await self.rest.command(
            "POST",
            "order",
            self.order_params(market, order),
            credentials,
            market=market.symbol,
            operation="place_order",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            weight=0,  # placements count as orders only
        )
        return _decode_order(body).order(market)

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        for order in orders:
            self.check_type(order, (OrderType.LIMIT,))

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        batch = BatchRules("orders", BATCH, self.order_params, _batch_order)
        return await self.in_batches(orders, credentials, batch)

    def ref_params(self, ref: OrderRef, client_name: str = "clientOrderId") -> Parameters:
        return super().ref_params(ref, client_name)

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        params: Parameters = [("symbol", market.native_symbol), *self.ref_params(ref)]
        return (await self.rest.signed(_decode_order, "GET", "order", params, credentials, weight=1)).order(market)

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        body = await self.rest.command(
            "DELETE",
            "order",
            [("symbol", market.native_symbol), *self.ref_params(ref)],
            credentials,
            market=market.symbol,
            operation="cancel_order",
            client_order_id=ref.client_order_id,
            order_id=ref.id,
        )
        return await self._canceled(market, _decode_order(body).order(market), credentials)

    async def _canceled(self, market: Market, answer: Order, credentials: Credentials) -> Order:
        """The order after a cancel that was accepted: the answer (as the documentation prints it) shows it as it was
        before."""
        if not answer.status.is_open:
            return answer
        assert answer.id is not None
        try:
            return await self.get(market, OrderRef(id=answer.id), credentials)
        except OrderNotFound:
            return answer.model_copy(update={"status": OrderStatus.CANCELED})
        except VenueError as error:
            raise OrderOutcomeUnknown(
                f"the cancel was accepted, but the order could not be looked at: {error.message}",
                exchange=self.exchange,
                market=market.symbol,
                operation="cancel_order",
                client_order_id=answer.client_order_id,
                order_id=answer.id,
            ) from error

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        rules = CancelRules("orderIds", "clientOrderIds", CANCEL_BATCH, _batch_order)
        results = list(await self.cancels_in_batches(market, refs, credentials, rules))
        for place, answer in enumerate(results):
            if isinstance(answer, Order):
                try:
                    results[place] = await self._canceled(market, answer, credentials)
                except OrderOutcomeUnknown as error:
                    results[place] = error
        return results

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        await self.rest.command(
            "DELETE",
            "allOpenOrders",
            [("symbol", market.native_symbol)],
            credentials,
            market=market.symbol,
            operation="cancel_all_orders",
        )
        return ()

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        params: Parameters = [("symbol", market.native_symbol if market else None)]
        weight = 1 if market else 40
        rows = await self.rest.signed(_decode_orders, "GET", "openOrders", params, credentials, weight=weight)
        return [row.order(known) for known, row in await self.with_markets(rows, market, lambda row: row.symbol)]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        return await self.fills_of(market, since, limit, credentials, _FILLS)

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        account = await self.rest.signed(_decode_account, "GET", "marginAccount", (), credentials, weight=3)
        return [
            Balance(asset=row.asset, wallet=OPTIONS, total=row.margin_balance, available=row.available)
            for row in account.asset
            if row.margin_balance
        ]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        listed = await self.rest.signed(_decode_positions, "GET", "position", (), credentials, weight=5)
        rows = [row for row in listed if row.quantity]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.symbol)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        answer = await self.rest.signed(_decode_commissions, "GET", "commission", (), credentials, weight=5)
        underlying = underlying_of(market)
        return [
            Fees(market=market.symbol, maker=row.maker_fee, taker=row.taker_fee)
            for row in answer.commissions
            if row.underlying == underlying
        ]
