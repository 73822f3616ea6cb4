"""Orders and accounts of Spot (`/api/v3`). Rules: binance-spot-api-docs rest-api.md."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from astra.errors import InvalidOrder, OrderNotFound
from astra.models.accounts import Balance, Fees
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest, OrderType
from astra.models.trades import Side
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged, average_of, make_fill, make_order
from astra_binance.settings import SPOT
from astra_binance.trading.base import DAY_MS, BinanceTrading, FillHistory, Parameters
from astra_binance.trading.terms import POST_ONLY_WORDS, SPOT_TYPES, order_status, order_type, time_in_force

_ZERO = Decimal(0)


class SpotOrder(msgspec.Struct, rename="camel"):
    """An order in any Spot answer. `amendedOrder` has other names for three of the fields."""

    symbol: str
    order_id: int
    client_order_id: str = ""
    orig_client_order_id: str | None = None
    """Answers to cancels and amendments: the order's own client id (`client_order_id` is then the cancel's, or new)."""
    side: Side | None = None
    """Absent, like all that follows, from an ACK answer."""
    type: str = ""
    status: str = ""
    time_in_force: str | None = None
    price: Decimal = _ZERO
    stop_price: Decimal = _ZERO
    orig_qty: Decimal | None = None
    qty: Decimal | None = None
    executed_qty: Decimal | None = None
    cummulative_quote_qty: Decimal | None = None
    cumulative_quote_qty: Decimal | None = None
    orig_quote_order_qty: Decimal = _ZERO
    quote_order_qty: Decimal = _ZERO
    time: int | None = None
    update_time: int | None = None
    transact_time: int | None = None

    def order(self, market: Market, *, placed: bool = False, amended: bool = False) -> Order:
        """As `Order`. `placed`: the answer to a placement, whose `transactTime` is the order's creation."""
        assert self.side is not None
        price = self.price or None
        total = self.orig_qty if self.orig_qty is not None else self.qty
        quote = self.cummulative_quote_qty if self.cummulative_quote_qty is not None else self.cumulative_quote_qty
        client_order_id = self.client_order_id if amended else self.orig_client_order_id or self.client_order_id
        return make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=client_order_id,
            side=self.side,
            kind=order_type(self.type, price, spot=True),
            status=order_status(self.status, self.executed_qty, total),
            price=price,
            stop_price=self.stop_price,
            total=total,
            filled=self.executed_qty,
            average=average_of(quote, self.executed_qty),
            quote_quantity=self.orig_quote_order_qty or self.quote_order_qty,
            time_in_force=time_in_force(self.time_in_force),
            post_only=self.type == "LIMIT_MAKER" or self.time_in_force in POST_ONLY_WORDS,
            created=self.time or (self.transact_time if placed else None),
            updated=self.update_time or self.transact_time,
        )


class _Canceled(SpotOrder):
    """An entry of a cancel-all answer: an order, or an order list with the reports of its orders."""

    symbol: str = ""
    order_id: int = 0
    order_reports: list[SpotOrder] = []


class _Amended(msgspec.Struct, rename="camel"):
    amended_order: SpotOrder
    transact_time: int | None = None


class _Fill(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    price: Decimal
    qty: Decimal
    time: int
    is_buyer: bool
    is_maker: bool
    commission: Decimal | None = None
    commission_asset: str | None = None

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.id,
            order_id=self.order_id,
            side=Side.BUY if self.is_buyer else Side.SELL,
            price=self.price,
            size=self.qty,
            fee=self.commission,
            fee_asset=self.commission_asset,
            maker=self.is_maker,
            time=self.time,
        )


class _Balance(msgspec.Struct):
    asset: str
    free: Decimal
    locked: Decimal


class _Account(msgspec.Struct):
    balances: list[_Balance]


class _Commission(msgspec.Struct, frozen=True):
    maker: Decimal = _ZERO
    taker: Decimal = _ZERO
    buyer: Decimal = _ZERO
    seller: Decimal = _ZERO


class _Commissions(msgspec.Struct, rename="camel"):
    standard_commission: _Commission = _Commission()
    special_commission: _Commission = _Commission()
    tax_commission: _Commission = _Commission()

    def fees(self, market: Market) -> Fees:
        """Standard, special and tax rates add up; where buyers and sellers pay differently the dearer side counts.
        The discount for paying in BNB is not taken off: it depends on the balance at the time of the fill."""
        parts = (self.standard_commission, self.special_commission, self.tax_commission)
        by_side = sum((max(part.buyer, part.seller) for part in parts), _ZERO)
        return Fees(
            market=market.symbol,
            maker=sum((part.maker for part in parts), by_side),
            taker=sum((part.taker for part in parts), by_side),
        )


_decode_order = msgspec.json.Decoder(SpotOrder).decode
_decode_orders = msgspec.json.Decoder(list[SpotOrder]).decode
_decode_canceled = msgspec.json.Decoder(list[_Canceled]).decode
_decode_amended = msgspec.json.Decoder(_Amended).decode
_FILLS = FillHistory("myTrades", 20, DAY_MS, msgspec.json.Decoder(list[_Fill]).decode)
_decode_account = msgspec.json.Decoder(_Account).decode
_decode_commissions = msgspec.json.Decoder(_Commissions).decode


class SpotTrading(BinanceTrading):
    """Trading on Spot."""

    title = "Spot"

    def order_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of `POST order`. Raises `UnsupportedOperation` for what Spot does not take."""
        options = self.options(
            order, self_trade_prevention=True, iceberg_quantity=order.type.has_price and not order.post_only
        )
        if order.reduce_only:
            raise self.unsupported("reduce-only orders; there are no positions")
        kind = SPOT_TYPES[order.type]
        time_in_force: str | None = None
        if order.post_only:
            if order.type is not OrderType.LIMIT:
                raise self.unsupported(f"post-only {order.type} orders")
            kind = "LIMIT_MAKER"
            self.resting_time_in_force(order)
        elif order.type.has_price:
            time_in_force = self.resting_time_in_force(order).value
        else:
            self.check_market_time_in_force(order)
        return [
            ("symbol", market.native_symbol),
            ("side", order.side),
            ("type", kind),
            ("timeInForce", time_in_force),
            ("quantity", None if order.quote_quantity is not None else native_quantity(market, order)),
            ("quoteOrderQty", order.quote_quantity),
            ("price", order.price),
            ("stopPrice", order.stop_price),
            ("icebergQty", options.iceberg_quantity),
            ("newClientOrderId", order.client_order_id),
            ("selfTradePreventionMode", options.self_trade_prevention),
            # The least that says what became of the order; conditional ones would be acknowledged only.
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
        )
        answer = _decode_order(body)
        if answer.side is None:
            return acknowledged(market, order, str(answer.order_id), answer.transact_time)
        return answer.order(market, placed=True)

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        params: Parameters = [("symbol", market.native_symbol), *self.ref_params(ref)]
        return (await self.rest.signed(_decode_order, "GET", "order", params, credentials, weight=4)).order(market)

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
        return _decode_order(body).order(market)

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        try:
            body = await self.rest.command(
                "DELETE",
                "openOrders",
                [("symbol", market.native_symbol)],
                credentials,
                market=market.symbol,
                operation="cancel_all_orders",
            )
        except OrderNotFound:
            return ()  # nothing was open
        canceled: list[SpotOrder] = []
        for row in _decode_canceled(body):
            canceled.extend(row.order_reports or [row])
        return [row.order(market) for row in canceled]

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """`amend/keepPriority`: makes the quantity smaller, the order keeps its place in the queue and its ids."""
        if change.price is not None:
            raise self.unsupported("amendment of prices; cancel and place anew")
        quantity = native_quantity(market, change)
        now = await self.get(market, ref, credentials)
        if now.quantity is not None and quantity >= now.quantity:
            raise InvalidOrder(
                f"Binance Spot amends an order only to less than its quantity of {now.quantity.normalize():f}; "
                "cancel and place anew for more",
                exchange=self.exchange,
                rule="amend-quantity",
            )
        body = await self.rest.command(
            "PUT",
            "order/amend/keepPriority",
            [
                ("symbol", market.native_symbol),
                *self.ref_params(ref),
                ("newQty", quantity),
                # Left out, the venue would give the order a new client id.
                ("newClientOrderId", now.client_order_id),
            ],
            credentials,
            market=market.symbol,
            operation="amend_order",
            client_order_id=ref.client_order_id or now.client_order_id,
            order_id=now.id,
            weight=4,
        )
        answer = _decode_amended(body)
        answer.amended_order.transact_time = answer.transact_time
        order = answer.amended_order.order(market, amended=True)
        return order.model_copy(update={"created_time": now.created_time})

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        params: Parameters = [("symbol", market.native_symbol if market else None)]
        weight = 6 if market else 80
        rows = await self.rest.signed(_decode_orders, "GET", "openOrders", params, credentials, weight=weight)
        found = await self.with_markets(rows, market, lambda row: row.symbol)
        return [row.order(known) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        return await self.fills_of(market, since, limit, credentials, _FILLS)

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        params: Parameters = [("omitZeroBalances", True)]
        account = await self.rest.signed(_decode_account, "GET", "account", params, credentials, weight=20)
        return [
            Balance(asset=row.asset, wallet=SPOT, total=row.free + row.locked, available=row.free, locked=row.locked)
            for row in account.balances
            if row.free or row.locked
        ]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Parameters = [("symbol", market.native_symbol)]
        answer = await self.rest.signed(
            _decode_commissions, "GET", "account/commission", params, credentials, weight=20
        )
        return [answer.fees(market)]
