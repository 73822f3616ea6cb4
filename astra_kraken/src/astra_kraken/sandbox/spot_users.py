"""Spot's account streams: `executions` and `balances`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from astra.models.orders import Liquidity, OrderStatus
from astra.models.trades import Side
from astra.sandbox import Account, BalanceEvent, EngineEvent, EngineFill, EngineOrder, OrderEvent
from astra.sandbox.toolkit import text_of
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.catalogue import is_tokenized
from astra_kraken.sandbox.markets import SPOT
from astra_kraken.sandbox.spot_orders import (
    TYPE_NAMES,
    ZERO,
    SpotDesk,
    end_reason,
    fill_txid,
    order_fees,
    spot_txid,
    tag_of,
    waits,
)
from astra_kraken.sandbox.wire import micros, number, raw, rounded

_FILLS_IN_SNAPSHOT = 50
_CANCELLED = ("no-liquidity", "self-trade", "insufficient-funds", "post-only")
"""Why the engine lets orders expire that the venue calls cancelled."""


class PrivateSubscriber(Protocol):
    """A connection that takes the frames of an account; it numbers them by channel."""

    def deliver_private(self, channel: str, kind: str, rows: Sequence[Any]) -> None: ...


class Options(msgspec.Struct, frozen=True):
    """What a subscription of `executions` asked for."""

    snap_orders: bool = True
    snap_trades: bool = False
    order_status: bool = True
    ratecounter: bool = False


class SpotUsers:
    """Who listens to which account."""

    def __init__(self, desk: SpotDesk) -> None:
        self._desk = desk
        self._executions: dict[str, dict[PrivateSubscriber, tuple[Account, Options]]] = {}
        self._balances: dict[str, dict[PrivateSubscriber, Account]] = {}
        self._totals: dict[tuple[str, str], Decimal] = {}
        self._entries = 0
        desk.on_refused = self.heard

    # --- subscribing ---

    def join_executions(self, account: Account, session: PrivateSubscriber, options: Options) -> None:
        """Subscribe, and send the snapshot."""
        rows: list[Any] = []
        if options.snap_trades:
            rows += [self._trade(account, fill) for fill in self._desk.fills(account)[-_FILLS_IN_SNAPSHOT:]]
        if options.snap_orders:
            rows += [self._standing(order) for order in self._desk.open_orders(account)]
        if options.snap_orders or options.snap_trades:
            session.deliver_private("executions", "snapshot", rows)
        self._executions.setdefault(account.name, {})[session] = (account, options)

    def leave_executions(self, account: Account, session: PrivateSubscriber) -> None:
        self._executions.get(account.name, {}).pop(session, None)

    def join_balances(self, account: Account, session: PrivateSubscriber, *, snapshot: bool) -> None:
        held = [balance for balance in self._desk.engine.balances(account) if balance.wallet == SPOT]
        for balance in held:
            self._totals[account.name, balance.asset] = balance.total
        if snapshot:
            rows = [
                {
                    "asset": balance.asset,
                    "asset_class": _asset_class(balance.asset),
                    "balance": number(balance.total),
                    "wallets": [{"type": "spot", "id": "main", "balance": number(balance.total)}],
                }
                for balance in held
            ]
            session.deliver_private("balances", "snapshot", rows)
        self._balances.setdefault(account.name, {})[session] = account

    def leave_balances(self, account: Account, session: PrivateSubscriber) -> None:
        self._balances.get(account.name, {}).pop(session, None)

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, OrderEvent):
            listeners = self._executions.get(event.order.account)
            if listeners and event.order.market in self._desk.catalogue.spot:
                for session, (account, options) in list(listeners.items()):
                    for row in self._rows(account, event):
                        if options.order_status or row["exec_type"] != "pending_new":
                            if options.ratecounter:
                                row["ratecounter"] = self._ratecounter(account, event)
                            session.deliver_private("executions", "update", [row])
        elif isinstance(event, BalanceEvent) and event.balance.wallet == SPOT:
            self._balance_changed(event)

    def _ratecounter(self, account: Account, event: OrderEvent) -> int:
        tier = account.settings.get("tier")
        return round(self._desk.meter.pair_count(account.name, tier, event.order.market, event.time))

    def _balance_changed(self, event: BalanceEvent) -> None:
        """A ledger entry for each change of a total; what orders lock is no change."""
        listeners = self._balances.get(event.account)
        if not listeners:
            return
        key = (event.account, event.balance.asset)
        change = event.balance.total - self._totals.get(key, ZERO)
        self._totals[key] = event.balance.total
        if not change:
            return
        self._entries += 1
        row = {
            "ledger_id": ids.txid("L", self._entries),
            "ref_id": ids.txid("T", 1 << 78 | self._entries),
            "timestamp": micros(event.time),
            "type": "trade",
            "subtype": "",
            "asset": event.balance.asset,
            "asset_class": _asset_class(event.balance.asset),
            "category": "trade",
            "wallet_type": "spot",
            "wallet_id": "main",
            "amount": number(change),
            "fee": 0,
            "balance": number(event.balance.total),
        }
        for session in list(listeners):
            session.deliver_private("balances", "update", [row])

    # --- entries of `executions` ---

    def _rows(self, account: Account, event: OrderEvent) -> list[dict[str, Any]]:
        """After the first report of an order only what changed is told, without symbol, side and quantity."""
        order, kind = event.order, event.kind
        if kind in ("NEW", "PENDING"):
            rows = [self._full(order, "pending_new", "pending_new")]
            return rows if kind == "PENDING" else [*rows, self._change(order, event.time, "new", "new")]
        if kind == "TRIGGERED":
            row = self._change(order, event.time, "status", "triggered")
            return [row | {"triggers": self._triggers(order)}]
        if kind == "TRADE":
            assert event.fill is not None
            rows = [self._trade(account, event.fill, order)]
            if order.status is OrderStatus.FILLED:
                rows.append(self._change(order, event.time, "filled", "filled") | self._progress(order))
            return rows
        if kind == "AMENDED":
            row = self._change(order, event.time, "amended", self._status(order)) | self._progress(order)
            listing = self._desk.listing_of(order)
            row["order_qty"] = listing.qty_number(order.quantity)
            if order.price is not None:
                row["limit_price"] = listing.price_number(order.price)
            return [row | {"amended": True}]
        expired = kind == "EXPIRED" and order.reason not in _CANCELLED
        status = "expired" if expired else "canceled"
        row = self._change(order, event.time, status, status) | self._progress(order)
        reason = end_reason(order)
        return [row | {"cancel_reason": reason, "reason": reason}]

    @staticmethod
    def _status(order: EngineOrder) -> str:
        return "partially_filled" if order.filled else "new"

    @staticmethod
    def _change(order: EngineOrder, time: int, kind: str, status: str) -> dict[str, Any]:
        return {
            "timestamp": micros(time),
            "order_status": status,
            "exec_type": kind,
            "order_userref": tag_of(order).userref or 0,
            "order_id": spot_txid(order),
        }

    def _progress(self, order: EngineOrder) -> dict[str, Any]:
        listing = self._desk.listing_of(order)
        average = rounded(order.average_price, max(5, listing.price_scale))
        return {
            "cum_qty": listing.qty_number(order.filled),
            "cum_cost": number(order.filled_quote),
            "avg_price": number(average),
            "fee_usd_equiv": number(order_fees(order)),
        }

    def _full(self, order: EngineOrder, kind: str, status: str) -> dict[str, Any]:
        listing, tag = self._desk.listing_of(order), tag_of(order)
        row: dict[str, Any] = {
            "order_id": spot_txid(order),
            "order_userref": tag.userref or 0,
            "symbol": listing.symbol,
            "order_qty": listing.qty_number(order.quantity),
            "cum_cost": raw("0.0"),
            "time_in_force": order.time_in_force.value,
            "exec_type": kind,
            "side": "buy" if order.side is Side.BUY else "sell",
            "order_type": TYPE_NAMES[order.type],
            "order_status": status,
            "fee_usd_equiv": raw("0.0"),
            "fee_ccy_pref": next((flag for flag in tag.oflags if flag in ("fcib", "fciq")), "fciq"),
            "timestamp": micros(order.created),
        }
        if order.price is not None:
            row |= {"limit_price_type": "static", "limit_price": listing.price_number(order.price)}
        row["stop_price"] = listing.price_number(order.stop_price) if order.stop_price is not None else raw("0.0")
        if order.stop_price is not None:
            row["triggers"] = self._triggers(order)
        if order.post_only:
            row["post_only"] = True
        if order.client_order_id is not None:
            row["cl_ord_id"] = order.client_order_id
        return row

    def _triggers(self, order: EngineOrder) -> dict[str, Any]:
        assert order.stop_price is not None
        return {
            "reference": tag_of(order).trigger or "last",
            "price": self._desk.listing_of(order).price_number(order.stop_price),
            "price_type": "static",
            "status": "untriggered" if waits(order) else "triggered",
        }

    def _standing(self, order: EngineOrder) -> dict[str, Any]:
        """An open order of the snapshot."""
        return self._full(order, "new", self._status(order)) | self._progress(order)

    def _trade(self, account: Account, fill: EngineFill, order: EngineOrder | None = None) -> dict[str, Any]:
        """A fill; of those in a snapshot, the order as it stands now tells the rest."""
        order = order or self._desk.engine.order(account, order_id=fill.order_id)
        listing = self._desk.listing_of(order)
        row: dict[str, Any] = {
            "order_id": spot_txid(order),
            "exec_id": fill_txid(fill),
            "exec_type": "trade",
            "trade_id": fill.trade_id,
            "symbol": listing.symbol,
            "side": "buy" if fill.side is Side.BUY else "sell",
            "last_qty": listing.qty_number(fill.quantity),
            "last_price": listing.price_number(fill.price),
            "liquidity_ind": "m" if fill.liquidity is Liquidity.MAKER else "t",
            "cost": number(fill.price * fill.quantity),
            "order_userref": tag_of(order).userref or 0,
            "order_status": "filled" if order.status is OrderStatus.FILLED else "partially_filled",
            "order_type": TYPE_NAMES[order.type],
            "fees": [{"asset": fill.fee_asset, "qty": number(fill.fee)}],
            "timestamp": micros(fill.time),
        }
        if order.client_order_id is not None:
            row["cl_ord_id"] = order.client_order_id
        return row | self._progress(order)


def _asset_class(asset: str) -> str:
    return "tokenized_asset" if is_tokenized(asset) else "currency"


def private_frame(channel: str, kind: str, rows: Sequence[Any], sequence: int) -> str:
    return text_of({"channel": channel, "type": kind, "data": rows, "sequence": sequence})
