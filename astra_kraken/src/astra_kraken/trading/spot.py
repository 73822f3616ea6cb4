"""Orders and accounts of Spot (`/0/private`).

Answers to commands hold little more than ids: what else is known of an order placed here is remembered, so that its
cancel need not be followed by a look-up, which costs far more of the key's budget than the cancel. Rules:
docs.kraken.com "Spot REST", Trading and Account Data.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import msgspec

from astra.errors import BadRequest, InvalidOrder, OrderNotFound, OrderOutcomeUnknown, VenueError
from astra.families import FamilyTrading, in_order, raise_gravest
from astra.models.accounts import Balance, Fees
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import (
    Fill,
    Order,
    OrderChange,
    OrderRef,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from astra.net.http import AnswerLost
from astra.rest import Recent, Value, encoded, plain
from astra.trading.checks import native_quantity
from astra.trading.native import acknowledged
from astra_kraken.errors import spot_error
from astra_kraken.markets import TOKENIZED, SpotPairs
from astra_kraken.rest import ORDERS, SpotRest, amend_cost, cancel_cost
from astra_kraken.settings import KrakenOrderOptions, TriggerSignal
from astra_kraken.trading.spot_rows import (
    Count,
    balances_of,
    decode_anything,
    decode_balances,
    decode_batch,
    decode_closed,
    decode_count,
    decode_open,
    decode_order,
    decode_orders,
    decode_placed,
    decode_trades,
    decode_volume,
    pair_of_order,
)
from astra_kraken.trading.terms import SPOT_TYPES

logger = logging.getLogger(__name__)

Parameters = list[tuple[str, Value | None]]

EVERYWHERE = "all markets"
BATCH = 15
CANCEL_BATCH = 50
PAGE = 50
MAX_PAGES = 200
MAX_PAGES_BACK = 10
"""Of fills in one market without a time to begin at: the history is of all markets."""
REMEMBERED = 10_000


class Read(msgspec.Struct, frozen=True):
    """Rows as orders, and the ids of those rows that are not understood: those of the pairs that were asked for, and
    those whose pair cannot be told either."""

    orders: Sequence[Order]
    odd: Sequence[str]
    homeless: Sequence[str]

    @property
    def unread(self) -> Sequence[str]:
        return [*self.odd, *self.homeless]


class SpotTrading(FamilyTrading):
    """Trading on Spot."""

    title = "Kraken Spot"
    options_model = KrakenOrderOptions
    fees_by_market = True
    rest: SpotRest
    pairs: SpotPairs

    def bind(self, pairs: SpotPairs) -> SpotTrading:
        """With the spellings of the pairs."""
        self.pairs = pairs
        self._placed: Recent[tuple[Credentials, str], Order] = Recent(REMEMBERED)
        return self

    @property
    def command_window_ms(self) -> int:
        """The deadline of placements and amendments. Cancels carry none; but each request's nonce is above those of all
        before, so that a cancel that comes after the look-up of its order is refused."""
        return self.rest.window_ms

    # -- placing ------------------------------------------------------------------------------------------------

    def order_params(self, market: Market, order: OrderRequest) -> Parameters:
        """The parameters of an order (without its pair). Raises `UnsupportedOperation` for what Spot does not take."""
        conditional, limit = order.type.is_conditional, order.type is OrderType.LIMIT
        options = self.options(
            order,
            trigger=conditional,
            leverage=True,
            fee_in_base=True,
            display_quantity=limit,
            self_trade_prevention=True,
        )
        if options.trigger not in (None, TriggerSignal.LAST, TriggerSignal.INDEX):
            raise self.unsupported(f"trigger signal {options.trigger}; there are last and index")
        if order.reduce_only and options.leverage is None:
            raise self.unsupported("reduce-only orders without leverage; there is no position to reduce")
        if order.quote_quantity is not None and order.side != "BUY":
            raise self.unsupported("sell orders by quoteQuantity")
        if order.post_only and not limit:
            raise self.unsupported(f"post-only {order.type} orders")
        quantity = order.quote_quantity
        flags = [
            flag
            for flag, wanted in (
                ("post", order.post_only),
                ("viqc", quantity is not None),
                ("fcib", options.fee_in_base),
            )
            if wanted
        ]
        kind = "iceberg" if options.display_quantity is not None else SPOT_TYPES[order.type]
        return [
            ("type", order.side.value.lower()),
            ("ordertype", kind),
            ("volume", native_quantity(market, order) if quantity is None else quantity),
            ("price", order.stop_price if conditional else order.price),
            ("price2", order.price if conditional else None),
            *self._force(order),
            ("oflags", ",".join(flags) or None),
            ("leverage", None if options.leverage is None else f"{options.leverage}:1"),
            ("reduce_only", True if order.reduce_only else None),
            ("trigger", options.trigger),
            ("displayvol", options.display_quantity),
            ("stptype", options.self_trade_prevention),
            ("cl_ord_id", order.client_order_id),
        ]

    def _force(self, order: OrderRequest) -> Parameters:
        if not order.type.has_price:
            self.check_market_time_in_force(order)
            return []
        force = self.resting_time_in_force(order, gtd=True)
        if order.type.is_conditional and force in (TimeInForce.IOC, TimeInForce.FOK):
            raise self.unsupported(f"time in force {force} for {order.type} orders")
        if force is not TimeInForce.GTD:
            return [] if force is TimeInForce.GTC else [("timeinforce", force)]
        assert order.expire_time is not None
        if order.expire_time % 1000:
            raise InvalidOrder(
                f"expireTime {order.expire_time} is no whole second, as Kraken wants it",
                exchange=self.exchange,
                rule="expire-time",
            )
        return [("timeinforce", force), ("expiretm", order.expire_time // 1000)]

    def _pair(self, market: Market) -> Parameters:
        pair = self.pairs[market.native_symbol]
        return [("pair", pair.altname), ("asset_class", TOKENIZED if pair.tokenized else None)]

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        """The answer tells the id only: whether anything is filled is told by the stream or a look-up."""
        assert order.client_order_id is not None
        placed = await self.rest.command(
            decode_placed,
            "AddOrder",
            encoded([*self._pair(market), *self.order_params(market, order)]),
            credentials,
            market=market.symbol,
            operation="place_order",
            costs={(ORDERS, market.native_symbol): 1},
            client_order_id=order.client_order_id,
            places=[order.client_order_id],
        )
        return self._acknowledged(market, order, placed.txid[0] if placed.txid else None, credentials)

    def _acknowledged(self, market: Market, order: OrderRequest, txid: str | None, credentials: Credentials) -> Order:
        placed = acknowledged(market, order, txid, None)
        self._remember(placed, credentials)
        return placed

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """`AddOrderBatch` takes 2 to 15 orders of one pair; one that is left over goes by itself."""
        wires = [
            {name: plain(value) for name, value in self.order_params(market, order) if value is not None}
            for market, order in orders
        ]
        by_market: dict[str, list[int]] = {}
        for place, (market, _) in enumerate(orders):
            by_market.setdefault(market.symbol, []).append(place)
        results: dict[int, Order | Exception] = {}
        for places in by_market.values():
            for start in range(0, len(places), BATCH):
                few = places[start : start + BATCH]
                if len(few) == 1:
                    results[few[0]] = await self._place_one(*orders[few[0]], credentials)
                    continue
                answers = await self._place_few([orders[at] for at in few], [wires[at] for at in few], credentials)
                results |= zip(few, answers, strict=True)
        return [results[place] for place in range(len(orders))]

    async def _place_one(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order | Exception:
        try:
            return await self.place(market, order, credentials)
        except VenueError as error:
            return error

    async def _place_few(
        self,
        orders: Sequence[tuple[Market, OrderRequest]],
        wires: Sequence[Mapping[str, str]],
        credentials: Credentials,
    ) -> Sequence[Order | Exception]:
        market = orders[0][0]
        shared = {name: plain(value) for name, value in self._pair(market) if value is not None}
        try:
            batch = await self.rest.command(
                decode_batch,
                "AddOrderBatch",
                msgspec.json.encode({**shared, "orders": list(wires)}),
                credentials,
                market=market.symbol,
                operation="place_orders",
                costs={(ORDERS, market.native_symbol): len(orders)},
                places=[order.client_order_id for _, order in orders if order.client_order_id],
            )
        except OrderOutcomeUnknown as lost:
            return [self._lost(market, order, lost) for _, order in orders]
        except VenueError as error:
            return [error] * len(orders)
        if len(batch.orders) != len(orders):
            gone = AnswerLost(f"{len(orders)} orders were sent in a batch, the answer has {len(batch.orders)}")
            return [self._lost(market, order, gone) for _, order in orders]
        results: list[Order | Exception] = []
        for row, (_, order) in zip(batch.orders, orders, strict=True):
            if row.error is None:
                results.append(self._acknowledged(market, order, row.txid, credentials))
                continue
            refused = spot_error(
                self.exchange, row.error, command=True, now_ms=self.rest.clock.now_ms(), repeatable=False
            )
            results.append(self._lost(market, order, refused) if isinstance(refused, AnswerLost) else refused)
        return results

    def _lost(self, market: Market, order: OrderRequest, lost: AnswerLost | VenueError) -> OrderOutcomeUnknown:
        return self.unknown("place_orders", market, OrderRef(client_order_id=order.client_order_id), lost)

    # -- looking up ---------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """By id with one question; by client id among the open orders first, then among those that are done (of
        several under one id the newest)."""
        if ref.id is not None:
            read = await self._read(await self._query([ref.id], credentials), market)
            orders = read.orders
        else:
            by_client_id: Parameters = [("cl_ord_id", ref.client_order_id)]
            rows = (await self.rest.private(decode_open, "OpenOrders", by_client_id, credentials)).open
            if not rows:
                rows = (await self.rest.private(decode_closed, "ClosedOrders", by_client_id, credentials)).closed
            read = await self._read(rows, market)
            orders = [one for one in read.orders if one.client_order_id in (ref.client_order_id, None)]
        if read.unread:
            raise self._not_understood(read.unread)
        if not orders:
            raise self._not_found(ref)
        newest = max(orders, key=lambda one: one.created_time or 0)
        return newest if ref.id is not None else newest.model_copy(update={"client_order_id": ref.client_order_id})

    async def _query(self, txids: Sequence[str], credentials: Credentials) -> Mapping[str, msgspec.Raw]:
        params: Parameters = [("txid", ",".join(txids))]
        return await self.rest.private(decode_orders, "QueryOrders", params, credentials)

    async def _read(self, rows: Mapping[str, msgspec.Raw], market: Market | None) -> Read:
        """Rows as orders; where a market is given those of other pairs are left out. One that is not understood is left
        out with a warning: whoever needs all of them looks at `unread`."""
        await self.markets.all()  # the pairs' spellings come with them
        orders: list[Order] = []
        odd: list[str] = []
        homeless: list[str] = []
        for txid, row in rows.items():
            pair = pair_of_order(row)
            if pair is None:
                homeless.append(txid)
                logger.warning("%s spot: the order %s, of an unknown pair, is not understood", self.exchange, txid)
                continue
            native = self.pairs.symbol_of(pair)
            if market is not None and native != market.native_symbol:
                continue
            known = market or await self.market_of(native)
            if known is None:
                continue
            try:
                orders.append(decode_order(row).order(txid, known))
            except ValueError as error:
                odd.append(txid)
                logger.warning("%s: the order %s is not understood: %s", known.symbol, txid, error)
        return Read(orders, odd, homeless)

    def _not_found(self, ref: OrderRef) -> OrderNotFound:
        named = ref.id or ref.client_order_id
        return OrderNotFound(f"{self.title} has no order {named}", exchange=self.exchange)

    def _not_understood(self, txids: Sequence[str]) -> VenueError:
        return VenueError(f"what {self.title} says of {', '.join(txids)} is not understood", exchange=self.exchange)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        return (await self._read(await self._open_rows(credentials), market)).orders

    async def _open_rows(self, credentials: Credentials) -> Mapping[str, msgspec.Raw]:
        return (await self.rest.private(decode_open, "OpenOrders", [], credentials)).open

    # -- canceling and amending ---------------------------------------------------------------------------------

    def _known(self, ref: OrderRef, credentials: Credentials) -> Order | None:
        """What is remembered of an order placed here; UNKNOWN, where its terms may be others by now."""
        return self._placed.get((credentials, ref.id or ref.client_order_id or ""))

    def _remember(self, order: Order, credentials: Credentials) -> None:
        """The terms of an order, under its ids."""
        for name in (order.id, order.client_order_id):
            if name is not None:
                self._placed[credentials, name] = order

    def _canceled_as_known(self, ref: OrderRef, credentials: Credentials) -> Order | None:
        """A canceled order as far as its terms are remembered; None where it must be looked at."""
        known = self._known(ref, credentials)
        if known is None or known.status is OrderStatus.UNKNOWN:
            return None
        return known.model_copy(update={"status": OrderStatus.CANCELED})

    def _age_s(self, ref: OrderRef, credentials: Credentials) -> float | None:
        known = self._known(ref, credentials)
        client_order_id = ref.client_order_id or (known.client_order_id if known else None)
        placement = self.rest.placement(credentials, client_order_id) if client_order_id else None
        return None if placement is None else max(0.0, (self.rest.clock.now_ms() - placement.stamped) / 1000)

    @staticmethod
    def _ref_params(ref: OrderRef) -> Parameters:
        return [("txid", ref.id), ("cl_ord_id", ref.client_order_id)]

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        answer = await self._cancel_together(market, [ref], credentials, "cancel_order")
        if not answer.count:
            raise self._not_found(ref)
        known = self._canceled_as_known(ref, credentials)
        if known is not None and not answer.pending:
            return known
        return await self.after("cancel_order", market, ref, credentials)

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """`CancelOrderBatch` says how many orders it canceled, not which: unless all were, each is looked at."""
        results: list[Order | Exception] = []
        for start in range(0, len(refs), CANCEL_BATCH):
            results += await self._cancel_few(market, refs[start : start + CANCEL_BATCH], credentials)
        return results

    async def _cancel_few(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        if len(refs) == 1:
            return [await self._cancel_one(market, refs[0], credentials)]
        try:
            answer = await self._cancel_together(market, refs, credentials, "cancel_orders")
        except OrderOutcomeUnknown as lost:
            return [self.unknown("cancel_orders", market, ref, lost) for ref in refs]
        except VenueError as refused:
            return [refused] * len(refs)
        all_of_them = answer.count == len(refs) and not answer.pending
        remembered = [self._canceled_as_known(ref, credentials) if all_of_them else None for ref in refs]
        return [
            known or await self._looked_at(market, ref, credentials)
            for ref, known in zip(refs, remembered, strict=True)
        ]

    async def _cancel_one(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | Exception:
        try:
            return await self.cancel(market, ref, credentials)
        except VenueError as error:
            return error

    async def _looked_at(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order | Exception:
        """What a cancel among several did to an order: one that is filled was not canceled."""
        try:
            order = await self.get(market, ref, credentials)
        except OrderNotFound as error:
            return error
        except VenueError as error:
            return self.unknown("cancel_orders", market, ref, error)
        if order.status is OrderStatus.FILLED:
            return self._not_found(ref)
        return order

    async def _cancel_together(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials, operation: str
    ) -> Count:
        """`CancelOrder` for one order, `CancelOrderBatch` for several."""
        wire = {
            "orders": [ref.id for ref in refs if ref.id is not None],
            "cl_ord_ids": [ref.client_order_id for ref in refs if ref.id is None],
        }
        alone = refs[0] if len(refs) == 1 else None
        several = msgspec.json.encode({name: ids for name, ids in wire.items() if ids})
        return await self.rest.command(
            decode_count,
            "CancelOrderBatch" if alone is None else "CancelOrder",
            several if alone is None else encoded(self._ref_params(alone)),
            credentials,
            market=market.symbol,
            operation=operation,
            costs={(ORDERS, market.native_symbol): sum(cancel_cost(self._age_s(ref, credentials)) for ref in refs)},
            client_order_id=alone.client_order_id if alone else None,
            order_id=alone.id if alone else None,
            urgent=True,
        )

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """The venue cancels all pairs or none: those of the market are listed, then canceled together. What cannot be
        understood of an order but its pair does not keep it from being canceled."""
        rows = await self._open_rows(credentials)
        read = await self._read(rows, market)
        theirs = {*(order.id for order in read.orders), *read.odd}
        txids = [txid for txid in rows if txid in theirs]
        failures: list[VenueError] = [self._not_understood(read.homeless)] if read.homeless else []
        for start in range(0, len(txids), CANCEL_BATCH):
            refs = [OrderRef(id=txid) for txid in txids[start : start + CANCEL_BATCH]]
            try:
                await self._cancel_together(market, refs, credentials, "cancel_all_orders")
            except OrderNotFound:
                continue  # all of them were done meanwhile
            except VenueError as error:
                failures.append(error)
        raise_gravest(failures)
        return await self._canceled(txids, market, credentials)

    async def cancel_everywhere(self, credentials: Credentials) -> Sequence[Order]:
        """`CancelAll`, whether or not it can be listed before what it will cancel."""
        txids: Sequence[str] = ()
        failures: list[VenueError] = []
        try:
            txids = list(await self._open_rows(credentials))
        except VenueError as error:
            failures.append(error)
        try:
            answer = await self.rest.command(
                decode_count,
                "CancelAll",
                "",
                credentials,
                market=EVERYWHERE,
                operation="cancel_all_orders",
                costs={},
                urgent=True,
            )
        except VenueError as error:
            raise_gravest([error, *failures])
            raise
        if failures and answer.count:
            raise self._unseen(None, failures[0])
        return await self._canceled(txids, None, credentials)

    async def _canceled(self, txids: Sequence[str], market: Market | None, credentials: Credentials) -> Sequence[Order]:
        """Which of these orders a cancel of all that was accepted has canceled (others were filled before). Raises
        `OrderOutcomeUnknown` where that is not known of all of them: they cannot be asked for, or are open still."""
        found: list[Order] = []
        doubtful: list[str] = []
        for start in range(0, len(txids), CANCEL_BATCH):
            few = txids[start : start + CANCEL_BATCH]
            try:
                rows = await self._query(few, credentials)
                read = await self._read(rows, market)
            except VenueError as error:
                raise self._unseen(market, error) from error
            found += read.orders
            doubtful += [*read.unread, *(txid for txid in few if txid not in rows)]
            doubtful += [order.id for order in read.orders if order.id and not order.status.is_final]
        if doubtful:
            said = f"{self.title} does not show as done: {', '.join(doubtful)}"
            raise self._unseen(market, VenueError(said, exchange=self.exchange))
        return [order for order in found if order.status is OrderStatus.CANCELED]

    def _unseen(self, market: Market | None, error: VenueError) -> OrderOutcomeUnknown:
        """That it is not known what a cancel of all did, although it was accepted."""
        return OrderOutcomeUnknown(
            f"accepted, but what became of the orders is not known: {error.message}",
            exchange=self.exchange,
            market=EVERYWHERE if market is None else market.symbol,
            operation="cancel_all_orders",
            code=error.code,
        )

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """`AmendOrder`: in place, the order keeps its ids, and its rank in the queue where that is possible."""
        quantity = None
        if change.quantity is not None or change.contracts is not None:
            quantity = native_quantity(market, change)
        params: Parameters = [
            *self._ref_params(ref),
            ("order_qty", quantity),
            ("limit_price", change.price),
        ]
        known = self._known(ref, credentials)
        try:
            await self.rest.command(
                decode_anything,
                "AmendOrder",
                encoded(params),
                credentials,
                market=market.symbol,
                operation="amend_order",
                costs={(ORDERS, market.native_symbol): amend_cost(self._age_s(ref, credentials))},
                client_order_id=ref.client_order_id,
                order_id=ref.id,
            )
            amended = await self.after("amend_order", market, ref, credentials)
        except OrderOutcomeUnknown:
            if known is not None:
                self._remember(known.model_copy(update={"status": OrderStatus.UNKNOWN}), credentials)
            raise
        if known is not None:
            # What is filled after the look-up is not known at the cancel.
            self._remember(amended.model_copy(update={"filled_quantity": None, "average_price": None}), credentials)
        return amended

    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """`CancelAllOrdersAfter`: of all pairs; in whole seconds, rounded up."""
        if market is not None:
            raise self.unsupported("dead-man timer of a single market: it covers all spot orders, name no market")
        if not 0 <= timeout_s <= 86_400:
            raise BadRequest("the dead-man timer takes 0 (off) to 86400 seconds")
        params: Parameters = [("timeout", math.ceil(timeout_s))]
        await self.rest.private(decode_anything, "CancelAllOrdersAfter", params, credentials, calls=0)

    # -- the account --------------------------------------------------------------------------------------------

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """`TradesHistory` has all pairs, newest first, 50 a page; fills of one taker order are kept apart."""
        start = None if since is None else since // 1000 - 1  # the venue leaves the moment itself out
        await self.markets.all()  # the pairs' spellings come with them
        found: dict[str, Fill] = {}
        complete = False
        for page in range(MAX_PAGES_BACK if since is None else MAX_PAGES):
            params: Parameters = [
                ("type", "all"),
                ("start", start),
                ("ofs", page * PAGE or None),
                ("consolidate_taker", False),
                ("without_count", True),
            ]
            rows = (await self.rest.private(decode_trades, "TradesHistory", params, credentials, calls=2)).trades
            known = await self.with_markets(rows.items(), market, lambda row: self.pairs.symbol_of(row[1].pair))
            for its_market, (trade_id, row) in known:
                fill = row.fill(trade_id, its_market)
                if (market is None or fill.market == market.symbol) and (since is None or fill.time >= since):
                    found[trade_id] = fill
            complete = len(rows) < PAGE
            if complete or (since is None and len(found) >= (limit or PAGE)):
                break
        if since is not None and not complete:
            raise VenueError("the list of fills is longer than is read", exchange=self.exchange)
        fills = in_order(found.values())
        if since is None:
            return fills[-(limit or PAGE) :]
        return fills if limit is None else fills[:limit]

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        return balances_of(await self.rest.private(decode_balances, "BalanceEx", [], credentials))

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        assert market is not None
        params: Parameters = [("pair", self.pairs[market.native_symbol].altname)]
        rates = (await self.rest.private(decode_volume, "TradeVolume", params, credentials)).of(market)
        if rates is None:
            raise VenueError(f"TradeVolume tells no rates of {market.symbol}", exchange=self.exchange)
        return [rates]
