"""Orders, fills, balances and positions as the unified API writes them: long names in REST, short ones in pushes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.orders import OrderStatus
from astra.sandbox import Account, EngineFill, EngineOrder, EnginePosition, Exchange, OrderEvent
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.catalogue import Catalogue, Listing, futures_code, waits
from astra_kucoin.sandbox.futures_account import FuturesAccount, leverage_text, margin_mode, position_id, profit
from astra_kucoin.sandbox.futures_rest import average_price
from astra_kucoin.sandbox.orders import IN_FORCE_TEXT, tag_of
from astra_kucoin.sandbox.unified_market import TRADE_TYPE_OF
from astra_kucoin.sandbox.wire import SPOT

ZERO = Decimal(0)
_NS = 1_000_000
_REASONS = {
    "ioc": "IOC",
    "no-liquidity": "IOC",
    "fok": "FOK",
    "post-only": "POST_ONLY",
    "self-trade": "STP",
    "expired": "ORDER_EXPIRED",
}
_EVENTS = {"NEW": "OPEN", "TRIGGERED": "TRIGGER", "AMENDED": "UPDATE"}


def status_of(order: EngineOrder) -> int:
    if waits(order) and order.status.is_open:
        return 0
    if order.status is OrderStatus.FILLED:
        return 3
    if order.status.is_open:
        return 4 if order.filled else 2
    return 6 if order.filled else 5


def cancel_reason(order: EngineOrder) -> str:
    if order.status not in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
        return ""
    return "USER" if order.reason is None else _REASONS.get(order.reason, "SYSTEM_CANCEL")


class UnifiedReports:
    """Writes the orders and holdings of unified accounts."""

    def __init__(self, engine: Exchange, catalogue: Catalogue, futures: FuturesAccount) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._futures = futures

    # --- what both ways of writing say ---

    def _sizes(self, listing: Listing, order: EngineOrder) -> tuple[str, str, str, str]:
        """(unit, size, filled, cancelled), in the unit in which the order was placed."""
        unit = tag_of(order).size_unit or ("BASECCY" if listing.product == SPOT else "UNIT")
        ended = order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED)
        left = order.remaining if ended else ZERO
        if unit == "QUOTECCY":
            funds = order.quote_quantity or ZERO
            return unit, plain(funds), plain(order.filled_quote), plain(funds - order.filled_quote if ended else ZERO)
        factor = listing.multiplier if unit == "BASECCY" else Decimal(1)
        return unit, plain(order.quantity * factor), plain(order.filled * factor), plain(left * factor)

    def _fee(self, listing: Listing, order: EngineOrder) -> tuple[str, str]:
        """(sum so far, asset)."""
        asset = order.fills[0].fee_asset if order.fills and listing.product == SPOT else listing.quote
        if listing.product != SPOT:
            asset = listing.settle
        return plain(sum((fill.fee for fill in order.fills), ZERO)), asset

    def _price(self, order: EngineOrder) -> str:
        return "" if order.price is None else plain(order.price)

    # --- REST ---

    def order_row(self, order: EngineOrder) -> dict[str, Any]:
        listing, tag = self._catalogue.of_symbol(order.market), tag_of(order)
        unit, size, filled, cancelled = self._sizes(listing, order)
        fee, asset = self._fee(listing, order)
        return {
            "orderId": self._catalogue.order_id(order, unified=True),
            "symbol": listing.native,
            "orderType": "LIMIT" if order.type.has_price else "MARKET",
            "side": order.side.value,
            "size": size,
            "price": self._price(order),
            "timeInForce": IN_FORCE_TEXT[order.time_in_force],
            "orderTime": order.created * _NS + 45_990,
            "stp": tag.stp or "",
            "cancelAfter": tag.cancel_after or None,
            "postOnly": order.post_only,
            "reduceOnly": order.reduce_only,
            "triggerDirection": tag.stop,
            "triggerPrice": "" if order.stop_price is None else plain(order.stop_price),
            "triggerPriceType": tag.stop_price_type,
            "tpTriggerPrice": "",
            "tpTriggerPriceType": "",
            "slTriggerPrice": "",
            "slTriggerPriceType": "",
            "filledSize": filled,
            "avgPrice": plain(average_price(listing, order)),
            "fee": fee,
            "feeCurrency": asset,
            "tax": "0",
            "updatedTime": order.updated * _NS + 107_059,
            "triggerOrderId": self._catalogue.parent_id(order),
            "cancelReason": cancel_reason(order),
            "cancelSize": cancelled,
            "clientOid": order.client_order_id or "",
            "sizeUnit": unit,
            "status": status_of(order),
        }

    def fill_row(self, account: Account, fill: EngineFill) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(fill.market)
        order = self._engine.order(account, order_id=fill.order_id)
        return {
            "symbol": listing.native,
            "orderId": self._catalogue.order_id(order, unified=True),
            "orderType": "LIMIT" if order.type.has_price else "MARKET",
            "side": fill.side.value,
            "fillType": "NORMAL",
            "tradeId": str(listing.trade_id(fill.trade_id)),
            "size": plain(fill.quantity),
            "value": plain(listing.value(fill.price, fill.quantity)),
            "price": plain(fill.price),
            "executionTime": fill.time * _NS,
            "fee": plain(fill.fee),
            "feeCurrency": self._fee_asset(listing, fill),
            "liquidityRole": fill.liquidity.value,
            "tax": "0",
        }

    def _fee_asset(self, listing: Listing, fill: EngineFill) -> str:
        return fill.fee_asset if listing.product == SPOT else futures_code(fill.fee_asset)

    def position_row(self, account: Account, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(position.market)
        mark = self._engine.mark_price(listing.symbol)
        return {
            "symbol": listing.native,
            "id": position_id(account, listing, position.side),
            "marginMode": "CROSS"
            if listing.symbol not in account.settings.get("margin_modes", {})
            else margin_mode(account, listing),
            "size": _signed(position.quantity),
            "entryPrice": plain(position.entry_price),
            "positionValue": plain(round(listing.value(mark, abs(position.quantity)), 10)),
            "markPrice": plain(mark),
            "leverage": leverage_text(account, listing),
            "unrealizedPnL": _signed(profit(listing, position, mark)),
            "realizedPnL": _signed(position.realized_pnl),
            "initialMargin": plain(self._futures.margin_of(account, listing, position)),
            "mmr": "0.004",
            "maintenanceMargin": "0",
            "creationTime": now_ms * _NS,
        }

    def balances(self, account: Account) -> dict[str, tuple[Decimal, Decimal]]:
        """Asset -> (total, locked): one account for everything, so the engine's wallets are added up."""
        found: dict[str, tuple[Decimal, Decimal]] = {}
        for balance in self._engine.balances(account):
            total, locked = found.get(balance.asset, (ZERO, ZERO))
            found[balance.asset] = (total + balance.total, locked + balance.locked)
        return found

    # --- pushes ---

    def order_push(self, event: OrderEvent, status: int | None = None) -> dict[str, Any]:
        order, fill = event.order, event.fill
        listing, tag = self._catalogue.of_symbol(order.market), tag_of(order)
        unit, size, filled, cancelled = self._sizes(listing, order)
        fee, asset = self._fee(listing, order)
        kind = _EVENTS.get(event.kind, "CANCEL")
        if fill is not None:
            kind = "FILL" if order.status is OrderStatus.FILLED else "MATCH"
        left = Decimal(size) - Decimal(filled) - Decimal(cancelled)
        return {
            "O": order.created * _NS + 45_990,
            "S": order.side.value,
            "U": event.time * _NS + 522_700,
            "f": fee,
            "p": self._price(order),
            "q": size,
            "s": listing.native,
            "t": "0",
            "aP": plain(average_price(listing, order)),
            "cR": cancel_reason(order),
            "cS": cancelled,
            "ci": order.client_order_id or "",
            "eT": kind,
            "fC": asset,
            "fS": filled,
            "lP": "",
            "lR": "" if fill is None else fill.liquidity.value,
            "lS": "0" if fill is None else plain(fill.quantity),
            "ls": "0" if fill is None else plain(fill.price),
            "oS": "USER",
            "oT": "LIMIT" if order.type.has_price else "MARKET",
            "oi": self._catalogue.order_id(order, unified=True),
            "os": status_of(order) if status is None else status,
            "pO": order.post_only,
            "pP": "",
            "qU": unit,
            "rO": order.reduce_only,
            "rS": plain(max(ZERO, left)),
            "tD": tag.stop,
            "tP": "" if order.stop_price is None else plain(order.stop_price),
            "tT": TRADE_TYPE_OF[listing.product],
            "ti": "" if fill is None else str(listing.trade_id(fill.trade_id)),
            "lPT": "",
            "pPT": "",
            "stp": tag.stp or "",
            "tIF": IN_FORCE_TEXT[order.time_in_force],
            "tPT": tag.stop_price_type,
            "toi": self._catalogue.parent_id(order),
            "bT": "",
        }

    def execution_push(self, order: EngineOrder, fill: EngineFill) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(fill.market)
        return {
            "oi": self._catalogue.order_id(order, unified=True),
            "s": listing.native,
            "S": fill.side.value,
            "oT": "LIMIT" if order.type.has_price else "MARKET",
            "p": plain(fill.price),
            "q": plain(fill.quantity),
            "ti": str(listing.trade_id(fill.trade_id)),
            "E": fill.time * _NS,
            "lR": fill.liquidity.value,
            "f": plain(fill.fee),
            "fC": self._fee_asset(listing, fill),
            "fT": "NORMAL",
            "ci": order.client_order_id or "",
            "fP": "" if listing.product == SPOT else _signed(fill.realized_pnl),
        }

    def balance_push(self, account: Account, asset: str, now_ms: int) -> dict[str, Any]:
        total, locked = self.balances(account)[asset]
        free = format(total - locked, ".10f")
        whole = format(total, ".10f")
        return {
            "U": now_ms * _NS,
            "a": free,
            "b": whole,
            "c": asset,
            "e": whole,
            "h": format(locked, ".10f"),
            "l": "0.0000000000",
            "cS": "1",
        }

    def position_push(self, account: Account, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        row = self.position_row(account, position, now_ms)
        return {
            "O": row["creationTime"],
            "U": now_ms * _NS,
            "l": row["leverage"],
            "q": row["size"],
            "s": row["symbol"],
            "bP": "0",
            "eP": row["entryPrice"],
            "iM": row["initialMargin"],
            "lP": "0",
            "mM": row["marginMode"],
            "mP": row["markPrice"],
            "pV": row["positionValue"],
            "pi": row["id"],
            "mmr": row["mmr"],
            "mtM": row["maintenanceMargin"],
            "rPL": row["realizedPnL"],
            "uPL": row["unrealizedPnL"],
        }


def _signed(value: Decimal) -> str:
    return f"-{plain(-value)}" if value < 0 else plain(value)
