"""Orders, accounts and positions of USD-M (`/fapi`) and COIN-M (`/dapi`) futures.

Both speak one dialect on one back end; where they differ stands in `Dialect`. Conditional orders (stop, take profit)
are "algo orders" with endpoints and ids of their own: their `Order.id` is `algo:<algoId>`. Rules: the derivatives
documentation, "New Order", "New Algo Order", "Modify Order", "Change Log".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial

import msgspec

from astra.errors import BadRequest, InvalidOrder, OrderNotFound, VenueError, VenueUnavailable
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    MarginMode,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from astra.models.trades import Side
from astra.rest import Placement
from astra.trading.checks import native_quantity
from astra.trading.native import decimal_or_none, make_fill, make_order, make_position, margin_mode, position_side
from astra_binance.errors import NO_CHANGE_NEEDED
from astra_binance.settings import COINM, USDM
from astra_binance.trading.base import DAY_MS, BatchRules, BinanceTrading, CancelRules, FillHistory, Parameters
from astra_binance.trading.terms import (
    ALGO_PREFIX,
    FUTURES_TYPES,
    POST_ONLY_WORDS,
    algo_status,
    is_order_id,
    order_status,
    order_type,
    time_in_force,
)

BATCH = 5
"""Orders in one batch at most."""
CANCEL_BATCH = 10
"""Cancels in one batch at most."""
FILLS_REACH_MS = 90 * DAY_MS
"""Fills are kept for three months (since 2026-08-26)."""


class Dialect(msgspec.Struct, frozen=True):
    """Where the two futures families differ."""

    title: str
    balance_path: str
    balance_weight: int
    positions_path: str
    positions_weight: int
    good_till_date: bool
    """Does it know time in force GTD?"""
    algo_lookup: bool
    """Can a single conditional order be asked for, and all of a market canceled at once? (Else: open ones are listed.)
    """


DIALECTS: Mapping[str, Dialect] = {
    USDM: Dialect(
        title="USD-M futures",
        balance_path="/fapi/v3/balance",
        balance_weight=5,
        positions_path="/fapi/v3/positionRisk",
        positions_weight=5,
        good_till_date=True,
        algo_lookup=True,
    ),
    COINM: Dialect(
        title="COIN-M futures",
        balance_path="/dapi/v1/balance",
        balance_weight=1,
        positions_path="/dapi/v1/positionRisk",
        positions_weight=1,
        good_till_date=False,
        algo_lookup=False,
    ),
}


class FuturesOrder(msgspec.Struct, rename="camel"):
    """An order in any answer. Answers to commands have no average price (since 2026-06-30)."""

    symbol: str
    order_id: int
    side: Side
    status: str
    type: str
    orig_qty: Decimal
    executed_qty: Decimal
    price: Decimal
    client_order_id: str = ""
    orig_type: str = ""
    avg_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str | None = None
    reduce_only: bool = False
    time: int | None = None
    update_time: int | None = None

    def order(self, market: Market, *, placed: bool = False) -> Order:
        """As `Order`. `placed`: the answer to a placement, whose `updateTime` is the order's creation."""
        # The type as placed: a stop that was triggered turns into LIMIT or MARKET.
        word = self.orig_type or self.type
        return make_order(
            market,
            order_id=str(self.order_id),
            client_order_id=self.client_order_id,
            side=self.side,
            kind=order_type(word, self.price),
            status=order_status(self.status, self.executed_qty, self.orig_qty),
            price=self.price,
            stop_price=self.stop_price,
            total=self.orig_qty,
            filled=self.executed_qty,
            average=self.avg_price,
            time_in_force=time_in_force(self.time_in_force),
            post_only=self.time_in_force in POST_ONLY_WORDS,
            reduce_only=self.reduce_only,
            created=self.time or (self.update_time if placed else None),
            updated=self.update_time,
        )


class AlgoOrder(msgspec.Struct, rename="camel"):
    """A conditional order. Its numbers are texts that may be empty."""

    algo_id: int
    symbol: str
    side: Side
    order_type: str
    algo_status: str
    client_algo_id: str = ""
    quantity: str = ""
    price: str = ""
    trigger_price: str = ""
    time_in_force: str | None = None
    reduce_only: bool = False
    actual_order_id: str | int | None = ""
    """The order that it became; empty until triggered."""
    create_time: int | None = None
    update_time: int | None = None

    @property
    def triggered(self) -> bool:
        return is_order_id(self.actual_order_id)

    @property
    def ref(self) -> OrderRef:
        return OrderRef(id=f"{ALGO_PREFIX}{self.algo_id}")

    def became(self, row: FuturesOrder) -> bool:
        """Is the ordinary order what this one, which waited when it was read, has become since? It has the same client
        id then; but so may another order, because ids of conditional orders are a space of their own."""
        return (
            (row.symbol, row.client_order_id, row.side) == (self.symbol, self.client_algo_id, self.side)
            and bool(self.client_algo_id)
            and (row.time is None or self.create_time is None or row.time >= self.create_time)
        )

    def order(self, market: Market) -> Order:
        price = decimal_or_none(self.price)
        total = decimal_or_none(self.quantity)
        done = self.algo_status == "FINISHED"
        return make_order(
            market,
            order_id=self.ref.id,
            client_order_id=self.client_algo_id,
            side=self.side,
            kind=order_type(self.order_type, price),
            status=algo_status(self.algo_status, None, total),
            price=price,
            stop_price=decimal_or_none(self.trigger_price),
            total=total,
            filled=None if done or self.triggered else Decimal(0),
            average=None,
            time_in_force=time_in_force(self.time_in_force),
            post_only=self.time_in_force in POST_ONLY_WORDS,
            reduce_only=self.reduce_only,
            created=self.create_time,
            updated=self.update_time,
        )


class _Fill(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    side: Side
    price: Decimal
    qty: Decimal
    time: int
    maker: bool
    commission: Decimal | None = None
    commission_asset: str | None = None

    def fill(self, market: Market) -> Fill:
        return make_fill(
            market,
            trade_id=self.id,
            order_id=self.order_id,
            side=self.side,
            price=self.price,
            size=self.qty,
            fee=self.commission,
            fee_asset=self.commission_asset,
            maker=self.maker,
            time=self.time,
        )


class _Balance(msgspec.Struct, rename="camel"):
    asset: str
    balance: Decimal
    available_balance: Decimal | None = None


class _Position(msgspec.Struct, rename="camel"):
    symbol: str
    position_side: str
    position_amt: Decimal
    entry_price: Decimal
    mark_price: Decimal
    un_realized_profit: Decimal
    liquidation_price: Decimal
    leverage: Decimal | None = None
    margin_type: str | None = None

    def position(self, market: Market) -> Position:
        return make_position(
            market,
            position_side(self.position_side, self.position_amt),
            self.position_amt,
            entry=self.entry_price,
            mark=self.mark_price,
            liquidation=self.liquidation_price,
            unrealized_pnl=self.un_realized_profit,
            leverage=self.leverage,
            margin_mode=margin_mode(self.margin_type),
        )


class _CommissionRate(msgspec.Struct, rename="camel"):
    maker_commission_rate: Decimal
    taker_commission_rate: Decimal


_decode_order = msgspec.json.Decoder(FuturesOrder).decode
_decode_orders = msgspec.json.Decoder(list[FuturesOrder]).decode
_decode_algo = msgspec.json.Decoder(AlgoOrder).decode
_decode_algos = msgspec.json.Decoder(list[AlgoOrder]).decode
_FILLS = FillHistory("userTrades", 5, 7 * DAY_MS, msgspec.json.Decoder(list[_Fill]).decode)
_decode_balances = msgspec.json.Decoder(list[_Balance]).decode
_decode_positions = msgspec.json.Decoder(list[_Position]).decode
_decode_rate = msgspec.json.Decoder(_CommissionRate).decode


def _placed_order(row: msgspec.Raw, market: Market) -> Order:
    return _decode_order(row).order(market, placed=True)


def _canceled_order(row: msgspec.Raw, market: Market) -> Order:
    return _decode_order(row).order(market)


def _is_algo(ref: OrderRef) -> bool:
    return ref.id is not None and ref.id.startswith(ALGO_PREFIX)


def _identified(real: Order, algo: Order) -> Order:
    """What a conditional order became, under the identity of the first."""
    return real.model_copy(
        update={
            "client_order_id": algo.client_order_id,
            "type": algo.type,
            "stop_price": algo.stop_price,
            "created_time": algo.created_time,
        }
    )


class FuturesTrading(BinanceTrading):
    """Trading on one of the futures families."""

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.product]

    @property
    def title(self) -> str:  # type: ignore[override]
        return self.dialect.title

    @property
    def finds_done_conditionals(self) -> bool:  # type: ignore[override]
        return self.dialect.algo_lookup

    def placement_window_ms(self, placement: Placement | None) -> int | None:
        """An order of another process may have been a conditional one: where those are found only while they are open,
        that it is not found proves nothing."""
        if placement is None and not self.finds_done_conditionals:
            return None
        return self.command_window_ms

    # -- placing ------------------------------------------------------------------------------------------------

    def _common_params(self, market: Market, order: OrderRequest) -> Parameters:
        """What ordinary and conditional orders share. Raises `UnsupportedOperation` for what futures do not take."""
        conditional = order.type.is_conditional
        options = self.options(
            order,
            position_side=True,
            self_trade_prevention=True,
            working_type=conditional,
            price_protect=conditional,
        )
        if order.quote_quantity is not None:
            raise self.unsupported("orders by quoteQuantity; give quantity or contracts")
        if order.reduce_only and options.position_side is not None:
            raise InvalidOrder(
                "reduceOnly is for one-way mode: in hedge mode the side and positionSide say whether an order closes",
                exchange=self.exchange,
                rule="reduce-only",
            )
        time_in_force: str | None = None
        if order.type.has_price:
            chosen = self.resting_time_in_force(order, gtd=self.dialect.good_till_date)
            time_in_force = "GTX" if order.post_only else chosen.value
        else:
            self.check_market_time_in_force(order)
        return [
            ("symbol", market.native_symbol),
            ("side", order.side),
            ("positionSide", options.position_side),
            ("type", FUTURES_TYPES[order.type]),
            ("timeInForce", time_in_force),
            ("quantity", native_quantity(market, order)),
            ("price", order.price),
            ("reduceOnly", True if order.reduce_only else None),
            ("goodTillDate", self._good_till(order)),
            ("selfTradePreventionMode", options.self_trade_prevention),
            ("workingType", options.working_type),
            ("priceProtect", True if options.price_protect else None),
        ]

    def _good_till(self, order: OrderRequest) -> int | None:
        if order.time_in_force is not TimeInForce.GTD:
            return None
        assert order.expire_time is not None
        if order.expire_time % 1000:
            raise InvalidOrder(
                f"expireTime {order.expire_time} is no whole second, which Binance would cut it down to",
                exchange=self.exchange,
                rule="expire-time",
            )
        return order.expire_time

    def order_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of `POST order`."""
        return [
            *self._common_params(market, order),
            ("newClientOrderId", order.client_order_id),
            ("newOrderRespType", "RESULT"),
        ]

    def algo_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of `POST algoOrder`."""
        return [
            ("algoType", "CONDITIONAL"),
            *self._common_params(market, order),
            ("triggerPrice", order.stop_price),
            ("clientAlgoId", order.client_order_id),
        ]

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        assert order.client_order_id is not None
        conditional = order.type.is_conditional
        body = await self.rest.command(
            "POST",
            "algoOrder" if conditional else "order",
            self.algo_params(market, order) if conditional else self.order_params(market, order),
            credentials,
            market=market.symbol,
            operation="place_order",
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
            weight=0,  # placements count as orders only
            conditional=conditional,
        )
        return _decode_algo(body).order(market) if conditional else _decode_order(body).order(market, placed=True)

    def check_batch(self, orders: Iterable[OrderRequest]) -> None:
        for order in orders:
            if order.type.is_conditional:
                raise self.unsupported(f"{order.type} orders in batches")

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        batch = BatchRules("batchOrders", BATCH, self.order_params, _placed_order)
        return await self.in_batches(orders, credentials, batch)

    # -- one order ----------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """By client id both id spaces are asked until one has an open order; of orders that are done it is the newer
        one: ids are unique among open orders only."""
        if _is_algo(ref):
            return await self._conditional(market, ref, credentials)
        if ref.id is not None:
            return await self._ordinary(market, ref, credentials)
        found = await self._in_both_spaces(market, ref, credentials, until_open=True)
        return max(found, key=lambda order: (order.status.is_open, order.created_time or 0))

    async def placed(
        self, market: Market, client_order_id: str, credentials: Credentials, placement: Placement | None
    ) -> Order:
        ref = OrderRef(client_order_id=client_order_id)
        if placement is None:
            found = await self._in_both_spaces(market, ref, credentials)
            return max(found, key=lambda order: order.created_time or 0)
        if not placement.conditional:
            return await self._ordinary(market, ref, credentials)
        try:
            return await self._conditional(market, ref, credentials)
        except OrderNotFound:
            if self.dialect.algo_lookup:
                raise
            return await self._ordinary(market, ref, credentials)  # what was triggered has the client id, too

    async def _in_both_spaces(
        self, market: Market, ref: OrderRef, credentials: Credentials, *, until_open: bool = False
    ) -> Sequence[Order]:
        """The orders that have a client id: an ordinary and a conditional one at most; with `until_open` no more are
        looked for once one is open. Raises `OrderNotFound` when there is none."""
        looks = [self._ordinary, self._conditional]
        if not self.dialect.algo_lookup:
            looks.reverse()  # listed while they are open only: one that is triggered meanwhile is an ordinary one then
        found: dict[str | None, Order] = {}
        missing: list[OrderNotFound] = []
        for look in looks:
            try:
                order = await look(market, ref, credentials)
            except OrderNotFound as error:
                missing.append(error)
                continue
            if look == self._conditional or order.id not in found:
                found[order.id] = order  # what became of a conditional order keeps that one's identity
            if until_open and order.status.is_open:
                break
        if not found:
            raise missing[0]
        return list(found.values())

    async def _row(self, market: Market, ref: OrderRef, credentials: Credentials) -> FuturesOrder:
        params: Parameters = [("symbol", market.native_symbol), *self.ref_params(ref)]
        return await self.rest.signed(_decode_order, "GET", "order", params, credentials, weight=1)

    async def _ordinary(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        return (await self._row(market, ref, credentials)).order(market)

    async def _conditional(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """A conditional order; when it was triggered, what its real order says, under the identity of the first."""
        algo = await self._algo(market, ref, credentials)
        waiting = algo.order(market)
        if not algo.triggered:
            return waiting
        try:
            real = await self._ordinary(market, OrderRef(id=str(algo.actual_order_id)), credentials)
        except OrderNotFound:
            return waiting  # unfilled orders vanish after three days
        return _identified(real, waiting)

    async def _algo(self, market: Market, ref: OrderRef, credentials: Credentials) -> AlgoOrder:
        """A conditional order of the market. Raises `OrderNotFound`, also for one of another market: the endpoints of
        conditional orders do not take a symbol."""
        params = self._algo_ref(ref)
        if self.dialect.algo_lookup:
            algo = await self.rest.signed(_decode_algo, "GET", "algoOrder", params, credentials, weight=1)
            if algo.symbol == market.native_symbol:
                return algo
            raise OrderNotFound(
                f"conditional order {ref.id or ref.client_order_id} is one of {algo.symbol}, not of {market.symbol}",
                exchange=self.exchange,
            )
        for algo in await self._open_algos(market, credentials):
            wanted = (algo.algo_id if ref.id is not None else algo.client_algo_id) == params[0][1]
            if wanted and algo.symbol == market.native_symbol:
                return algo
        raise OrderNotFound(
            f"no open conditional order {ref.id or ref.client_order_id} in {market.symbol} ({self.title} show open "
            "ones only)",
            exchange=self.exchange,
        )

    def _algo_ref(self, ref: OrderRef) -> Parameters:
        if ref.id is not None:
            return [("algoId", self.numeric(ref.id.removeprefix(ALGO_PREFIX)))]
        return [("clientAlgoId", ref.client_order_id)]

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        if _is_algo(ref):
            algo = await self._algo(market, ref, credentials)
        else:
            try:
                return await self._cancel_ordinary(market, ref, credentials)
            except OrderNotFound as missing:
                if ref.id is not None:
                    raise
                try:
                    algo = await self._algo(market, ref, credentials)
                except OrderNotFound:
                    if self.dialect.algo_lookup:
                        raise missing from None
                    # Listed while they are open only: one that was triggered in between is an ordinary one now.
                    return await self._cancel_ordinary(market, ref, credentials)
        return await self._cancel_conditional(market, algo, ref, credentials)

    async def _cancel_conditional(
        self, market: Market, algo: AlgoOrder, ref: OrderRef, credentials: Credentials
    ) -> Order:
        """Cancel a conditional order, or what it has become since it was triggered."""
        # The answer to this cancel says nothing of the order: it was looked at before.
        waiting = algo.order(market)
        if algo.triggered:
            real = OrderRef(id=str(algo.actual_order_id))
        else:
            try:
                await self._cancel_algo(market, algo.algo_id, ref, credentials)
            except OrderNotFound as missing:
                real = await self._real_order(market, algo, credentials, missing)
            else:
                return waiting.model_copy(update={"status": OrderStatus.CANCELED})
        return _identified(await self._cancel_ordinary(market, real, credentials), waiting)

    async def _real_order(
        self, market: Market, algo: AlgoOrder, credentials: Credentials, missing: OrderNotFound
    ) -> OrderRef:
        """What a conditional order, which waited and is not there to cancel any more, has become. Raises `missing`
        when that is nothing (it is done), `VenueUnavailable` while it cannot be told."""
        try:
            now = await self._algo(market, algo.ref, credentials)
        except OrderNotFound:
            if self.dialect.algo_lookup or not algo.client_algo_id:
                raise missing from None
            by_client_id = OrderRef(client_order_id=algo.client_algo_id)
            try:
                row = await self._row(market, by_client_id, credentials)
            except OrderNotFound:
                raise missing from None
            if not algo.became(row):
                raise missing from None
            return OrderRef(id=str(row.order_id))
        if now.triggered:
            return OrderRef(id=str(now.actual_order_id))
        if not now.order(market).status.is_open:
            raise missing
        raise VenueUnavailable(
            f"conditional order {algo.algo_id} of {market.symbol} is being triggered ({now.algo_status}): it was not "
            "canceled, its real order is not known yet",
            exchange=self.exchange,
            code=missing.code,
        ) from missing

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Ordinary orders in batches; conditional ones, which have none, one by one."""
        for ref in refs:
            if _is_algo(ref):
                self._algo_ref(ref)  # an id that is none must not come up half-way
        results: dict[int, Order | Exception] = {}
        ordinary = [place for place, ref in enumerate(refs) if not _is_algo(ref)]
        rules = CancelRules("orderIdList", "origClientOrderIdList", CANCEL_BATCH, _canceled_order)
        answers = await self.cancels_in_batches(market, [refs[place] for place in ordinary], credentials, rules)
        results |= zip(ordinary, answers, strict=True)
        for place, ref in enumerate(refs):
            known = results.get(place)
            if place in results and not (isinstance(known, OrderNotFound) and ref.id is None):
                continue
            try:
                results[place] = await self.cancel(market, ref, credentials)
            except VenueError as error:
                results[place] = error
        return [results[place] for place in sorted(results)]

    async def _cancel_ordinary(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
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

    async def _cancel_algo(self, market: Market, algo_id: int, ref: OrderRef, credentials: Credentials) -> None:
        await self.rest.command(
            "DELETE",
            "algoOrder",
            [("algoId", algo_id)],
            credentials,
            market=market.symbol,
            operation="cancel_order",
            client_order_id=ref.client_order_id,
            order_id=f"{ALGO_PREFIX}{algo_id}",
        )

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """`PUT order`, which wants side, price and total quantity whatever changes: the order is read before."""
        if _is_algo(ref):
            raise self.unsupported("amendment of conditional orders; cancel and place anew")
        now = await self._ordinary(market, ref, credentials)
        if now.type is not OrderType.LIMIT:
            raise self.unsupported(f"amendment of {now.type} orders; cancel and place anew")
        quantity = now.contracts if market.contract_size is not None else now.quantity
        if change.quantity is not None or change.contracts is not None:
            quantity = native_quantity(market, change)
        body = await self.rest.command(
            "PUT",
            "order",
            [
                ("symbol", market.native_symbol),
                *self.ref_params(ref),
                ("side", now.side),
                ("quantity", quantity),
                ("price", change.price or now.price),
            ],
            credentials,
            market=market.symbol,
            operation="amend_order",
            client_order_id=now.client_order_id,
            order_id=now.id,
            orders=1,
        )
        return _decode_order(body).order(market).model_copy(update={"created_time": now.created_time})

    # -- many orders --------------------------------------------------------------------------------------------

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """Ordinary and conditional orders; the venue confirms without naming them."""

        async def at(path: str) -> Sequence[Order]:
            await self.rest.command(
                "DELETE",
                path,
                [("symbol", market.native_symbol)],
                credentials,
                market=market.symbol,
                operation="cancel_all_orders",
            )
            return ()

        async def one(algo: AlgoOrder) -> Sequence[Order]:
            with contextlib.suppress(OrderNotFound):  # triggered or canceled meanwhile
                await self._cancel_algo(market, algo.algo_id, algo.ref, credentials)
            return ()

        async def one_by_one() -> Sequence[Order]:
            return await self.each(partial(one, algo) for algo in await self._open_algos(market, credentials))

        conditional = partial(at, "algoOpenOrders") if self.dialect.algo_lookup else one_by_one
        # Conditional ones first: one that is triggered meanwhile is an ordinary one then.
        return await self.each((conditional, partial(at, "allOpenOrders")))

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        # Conditional ones first: one that is triggered meanwhile is an ordinary one then.
        algos = await self._open_algos(market, credentials)
        params: Parameters = [("symbol", market.native_symbol if market else None)]
        weight = 1 if market else 40
        rows = await self.rest.signed(_decode_orders, "GET", "openOrders", params, credentials, weight=weight)
        orders = [row.order(known) for known, row in await self.with_markets(rows, market, lambda row: row.symbol)]
        named = {(row.symbol, row.client_order_id): row for row in rows}

        def waits(algo: AlgoOrder) -> bool:
            row = named.get((algo.symbol, algo.client_algo_id))
            # A triggered one is its real order, which is among the ordinary ones, or done.
            return not algo.triggered and not (row is not None and algo.became(row))

        found = await self.with_markets(filter(waits, algos), market, lambda row: row.symbol)
        return orders + [algo.order(known) for known, algo in found]

    async def _open_algos(self, market: Market | None, credentials: Credentials) -> Sequence[AlgoOrder]:
        params: Parameters = [("symbol", market.native_symbol if market else None)]
        weight = 1 if market else 40
        return await self.rest.signed(_decode_algos, "GET", "openAlgoOrders", params, credentials, weight=weight)

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        reach = self.rest.clock.now_ms() - FILLS_REACH_MS
        if since is not None and since < reach:
            raise BadRequest(f"since {since} is more than three months ago: Binance keeps fills from {reach} on")

        return await self.fills_of(market, since, limit, credentials, _FILLS)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        path, weight = self.dialect.balance_path, self.dialect.balance_weight
        rows = await self.rest.signed(_decode_balances, "GET", path, (), credentials, weight=weight)
        return [
            Balance(asset=row.asset, wallet=self.product, total=row.balance, available=row.available_balance)
            for row in rows
            if row.balance
        ]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        path, weight = self.dialect.positions_path, self.dialect.positions_weight
        listed = await self.rest.signed(_decode_positions, "GET", path, (), credentials, weight=weight)
        # Rows without a position exist: an order rests there, or (COIN-M) nothing at all.
        rows = [row for row in listed if row.position_amt]
        return [row.position(known) for known, row in await self.with_markets(rows, None, lambda row: row.symbol)]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Parameters = [("symbol", market.native_symbol)]
        rate = await self.rest.signed(_decode_rate, "GET", "commissionRate", params, credentials, weight=20)
        return [Fees(market=market.symbol, maker=rate.maker_commission_rate, taker=rate.taker_commission_rate)]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        if leverage != leverage.to_integral_value() or leverage < 1:
            raise BadRequest(f"leverage {leverage} must be a whole number from 1 on")
        params: Parameters = [("symbol", market.native_symbol), ("leverage", int(leverage))]
        await self.rest.signed(bytes, "POST", "leverage", params, credentials, weight=1)

    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        word = "ISOLATED" if mode is MarginMode.ISOLATED else "CROSSED"
        params: Parameters = [("symbol", market.native_symbol), ("marginType", word)]
        await self._set("marginType", params, credentials)

    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        await self._set("positionSide/dual", [("dualSidePosition", hedge)], credentials)

    async def _set(self, path: str, params: Parameters, credentials: Credentials) -> None:
        try:
            await self.rest.signed(bytes, "POST", path, params, credentials, weight=1)
        except VenueError as error:
            if error.code not in NO_CHANGE_NEEDED:
                raise

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        assert market is not None
        params: Parameters = [("symbol", market.native_symbol), ("countdownTime", round(timeout_s * 1000))]
        await self.rest.signed(bytes, "POST", "countdownCancelAll", params, credentials, weight=10)
