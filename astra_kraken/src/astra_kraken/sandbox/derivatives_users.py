"""The account feeds of the derivatives stream: who listens to which account, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from astra.models.orders import Liquidity, OrderStatus
from astra.models.trades import Side
from astra.sandbox import (
    Account,
    BalanceEvent,
    EngineEvent,
    EngineFill,
    EngineOrder,
    OrderEvent,
    PositionEvent,
)
from astra_kraken.sandbox import ids
from astra_kraken.sandbox.catalogue import altname_of
from astra_kraken.sandbox.derivatives_events import fill_uid, order_uid, tag_of, waits
from astra_kraken.sandbox.derivatives_orders import DerivativesDesk
from astra_kraken.sandbox.derivatives_private import Wallets, unrealised
from astra_kraken.sandbox.markets import SPOT
from astra_kraken.sandbox.wire import number, rounded

_FILLS_IN_SNAPSHOT = 100
_POSITIONS_EVERY_MS = 1000
_ENDS = {
    "ioc": "ioc_order_failed_because_it_would_not_be_executed",
    "fok": "ioc_order_failed_because_it_would_not_be_executed",
    "no-liquidity": "ioc_order_failed_because_it_would_not_be_executed",
    "insufficient-funds": "not_enough_margin",
    "reduce-only": "would_not_reduce_position",
    "post-only": "post_order_failed_because_it_would_filled",
    "expired": "contract_expired",
    "self-trade": "cancelled_by_admin",
}


class Listener(Protocol):
    """A connection that takes frames."""

    def tell(self, frame: dict[str, Any]) -> None: ...


class DerivativesUsers:
    """Who listens to which account, and what they are told."""

    def __init__(self, desk: DerivativesDesk, wallets: Wallets, now_ms: Callable[[], int]) -> None:
        self.desk = desk
        self._wallets = wallets
        self._now_ms = now_ms
        self._sessions: dict[tuple[str, str], dict[Listener, Account]] = {}
        """(feed, account name) -> connections."""
        self._sequence = 0
        self._moved: dict[str, None] = {}
        """Accounts whose money or positions changed since they were last told."""
        self._told_ms = 0

    def join(self, feed: str, account: Account, session: Listener) -> None:
        """Subscribe, and send the snapshot."""
        self._sessions.setdefault((feed, account.name), {})[session] = account
        if feed.startswith("open_orders"):
            rows = [self._row(order) for order in self.desk.open_orders(account)]
            session.tell({"feed": f"{feed}_snapshot", "account": _uid(account), "orders": rows})
        elif feed == "fills":
            fills = self.desk.fills(account)[-_FILLS_IN_SNAPSHOT:]
            rows = [self._fill(account, fill, snapshot=True) for fill in fills]
            session.tell({"feed": "fills_snapshot", "account": _uid(account), "fills": rows})
        elif feed == "open_positions":
            session.tell(self._positions(account))
        elif feed == "balances":
            session.tell(self._balances(account, "balances_snapshot"))
        elif feed == "account_log":
            session.tell({"feed": "account_log_snapshot", "logs": []})
        else:
            session.tell({"feed": "notifications_auth", "notifications": []})

    def leave(self, feed: str, account: Account, session: Listener) -> None:
        sessions = self._sessions.get((feed, account.name))
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[feed, account.name]

    # --- the engine's events ---

    def heard(self, event: EngineEvent) -> None:
        if isinstance(event, OrderEvent):
            if event.order.market in self.desk.catalogue.derivatives:
                self._order(event)
        elif isinstance(event, PositionEvent):
            if event.position.market in self.desk.catalogue.derivatives:
                self._moved[event.account] = None
        elif isinstance(event, BalanceEvent) and event.balance.wallet != SPOT:
            self._moved[event.account] = None

    def _order(self, event: OrderEvent) -> None:
        order = event.order
        if event.fill is not None:
            for session, account in list(self._sessions.get(("fills", order.account), {}).items()):
                rows = [self._fill(account, event.fill, order=order)]
                session.tell({"feed": "fills", "username": _uid(account), "fills": rows})
        for feed in ("open_orders", "open_orders_verbose"):
            sessions = self._sessions.get((feed, order.account))
            frame = self._order_frame(feed, event) if sessions else None
            if frame is not None:
                for session in list(sessions or ()):
                    session.tell(frame)

    def _order_frame(self, feed: str, event: OrderEvent) -> dict[str, Any] | None:
        """An order that is open, or that it has gone. Orders that never rest are not shown."""
        order, kind = event.order, event.kind
        if tag_of(order).kind in ("mkt", "ioc", "fok"):
            return None
        if kind == "NEW":
            return self._shown(feed, order, "new_placed_order_by_user")
        if kind == "AMENDED":
            return self._shown(feed, order, "edited_by_user")
        if kind == "TRIGGERED":
            return self._gone(feed, order, "stop_order_triggered")
        if kind == "TRADE":
            if order.status is OrderStatus.FILLED:
                return self._shown(feed, order, "full_fill") | {"is_cancel": True}
            return self._shown(feed, order, "partial_fill")
        reason = tag_of(order).reason or _ENDS.get(order.reason or "", "cancelled_by_user")
        return self._gone(feed, order, reason)

    def _shown(self, feed: str, order: EngineOrder, reason: str) -> dict[str, Any]:
        return {"feed": feed, "order": self._row(order), "is_cancel": False, "reason": reason}

    @staticmethod
    def _gone(feed: str, order: EngineOrder, reason: str) -> dict[str, Any]:
        """Only ids, nothing else of the order."""
        named = {"order_id": order_uid(order.id)}
        if order.client_order_id is not None:
            named["cli_ord_id"] = order.client_order_id
        return {"feed": feed} | named | {"is_cancel": True, "reason": reason}

    def _row(self, order: EngineOrder) -> dict[str, Any]:
        """`qty` is what remains; a stop is of type `stop` until it is triggered."""
        row: dict[str, Any] = {
            "instrument": self.desk.listing_of(order).native,
            "time": order.created,
            "last_update_time": order.updated,
            "qty": number(order.remaining),
            "filled": number(order.filled),
            "limit_price": number(order.price),
            "stop_price": number(order.stop_price),
            "type": ("take_profit" if tag_of(order).kind == "take_profit" else "stop") if waits(order) else "limit",
            "order_id": order_uid(order.id),
        }
        if order.client_order_id is not None:
            row["cli_ord_id"] = order.client_order_id
        row |= {"direction": 0 if order.side is Side.BUY else 1, "reduce_only": order.reduce_only}
        if waits(order):
            row["triggerSignal"] = tag_of(order).signal
        return row

    def _fill(
        self, account: Account, fill: EngineFill, *, order: EngineOrder | None = None, snapshot: bool = False
    ) -> dict[str, Any]:
        """A client id is told only in updates."""
        order = order or self.desk.engine.order(account, order_id=fill.order_id)
        shown = {"post": "limit", "lmt": "limit", "mkt": "market"}.get(tag_of(order).kind, tag_of(order).kind)
        row: dict[str, Any] = {
            "instrument": self.desk.catalogue.derivatives[fill.market].native,
            "time": fill.time,
            "price": number(fill.price),
            "seq": fill.trade_id,
            "buy": fill.side is Side.BUY,
            "qty": number(fill.quantity),
            "remaining_order_qty": number(order.remaining),
            "order_id": order_uid(fill.order_id),
        }
        if order.client_order_id is not None and not snapshot:
            row["cli_ord_id"] = order.client_order_id
        return row | {
            "fill_id": fill_uid(fill),
            "fill_type": fill.liquidity.value.lower(),
            "fee_paid": number(fill.fee),
            "fee_currency": fill.fee_asset,
            "taker_order_type": "limit" if fill.liquidity is Liquidity.MAKER else shown,
            "order_type": shown,
        }

    # --- money and positions ---

    def tick(self, now_ms: int) -> None:
        """Tell what moved since the last time; positions anew every second for their mark prices."""
        moved, self._moved = self._moved, {}
        every = now_ms - self._told_ms >= _POSITIONS_EVERY_MS
        if every:
            self._told_ms = now_ms
        for (feed, name), sessions in list(self._sessions.items()):
            if feed == "balances" and name in moved:
                for session, account in list(sessions.items()):
                    session.tell(self._balances(account, "balances"))
            elif feed == "open_positions" and (name in moved or every):
                for session, account in list(sessions.items()):
                    session.tell(self._positions(account))

    def _stamp(self) -> dict[str, Any]:
        self._sequence += 1
        return {"timestamp": self._now_ms(), "seq": self._sequence}

    def _positions(self, account: Account) -> dict[str, Any]:
        """The whole list; `balance` is negative of shorts."""
        rows = []
        for listing, position in self._wallets.positions(account):
            mark = self.desk.engine.mark_price(listing.id)
            rows.append(
                {
                    "instrument": listing.native,
                    "balance": number(position.quantity),
                    "pnl": number(unrealised(listing, position, mark)),
                    "entry_price": number(position.entry_price),
                    "mark_price": number(mark),
                    "index_price": number(mark),
                    "liquidation_threshold": 0,
                    "effective_leverage": 0.0,
                    "return_on_equity": 0.0,
                    "unrealized_funding": 0.0,
                    "initial_margin": 0.0,
                    "initial_margin_with_orders": 0.0,
                    "maintenance_margin": 0.0,
                    "pnl_currency": listing.wallet_asset,
                }
            )
        return {"feed": "open_positions", "account": _uid(account), "positions": rows} | self._stamp()

    def _balances(self, account: Account, feed: str) -> dict[str, Any]:
        """A snapshot has every wallet; an update those of the account that hold something."""
        futures: dict[str, Any] = {}
        for wallet, coin in self._wallets.singles.items():
            total = sum((one.total for one in self._wallets.held(account, wallet)), Decimal(0))
            locked = sum((one.locked for one in self._wallets.held(account, wallet)), Decimal(0))
            profit, unit = self._wallets.profit(account, wallet), altname_of(coin)
            futures[f"F-{unit}:USD"] = {
                "name": f"F-{unit}:USD",
                "pair": f"{unit}/USD",
                "unit": unit,
                "portfolio_value": number(total + profit),
                "balance": number(total),
                "maintenance_margin": number(locked / 2),
                "initial_margin": number(locked),
                "available": number(total - locked),
                "unrealized_funding": 0.0,
                "pnl": number(profit),
            }
        body = {"feed": feed, "account": _uid(account), "holding": {}, "futures": futures}
        return body | {"flex_futures": self._flex(account)} | self._stamp()

    def _flex(self, account: Account) -> dict[str, Any]:
        held = self._wallets.held(account, "flex")
        total = sum((one.total for one in held), Decimal(0))
        locked = sum((one.locked for one in held), Decimal(0))
        profit = self._wallets.profit(account, "flex")
        figures = {
            "balance_value": number(total),
            "portfolio_value": number(total + profit),
            "collateral_value": number(total),
            "initial_margin": number(locked),
            "initial_margin_without_orders": number(locked),
            "maintenance_margin": number(rounded(locked / 2, 8)),
            "pnl": number(profit),
            "unrealized_funding": 0.0,
            "total_unrealized": number(profit),
            "total_unrealized_as_margin": number(profit),
            "margin_equity": number(total + profit),
            "available_margin": number(total - locked),
        }
        currencies = {
            altname_of(one.asset): {
                "quantity": number(one.total),
                "value": number(one.total),
                "collateral_value": number(one.total),
                "available": number(one.available),
                "haircut": 0.0,
                "conversion_spread": 0.0,
            }
            for one in held
        }
        return {"currencies": currencies, **figures, "isolated": {}, "cross": figures | {"effective_leverage": 0.0}}


def _uid(account: Account) -> str:
    return ids.uuid_of(ids.ACCOUNT, int.from_bytes(account.name.encode()[:12]))
