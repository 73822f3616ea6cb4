"""The private frames of the classic sockets: orders, stop orders, balances, positions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import Account, BalanceEvent, EngineFill, EngineOrder, EnginePosition, OrderEvent
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.catalogue import Catalogue, futures_code
from astra_kucoin.sandbox.futures_account import FuturesAccount
from astra_kucoin.sandbox.orders import tag_of
from astra_kucoin.sandbox.spot_account import account_id, user_id
from astra_kucoin.sandbox.wire import SPOT

ZERO = Decimal(0)
_NS = 1_000_000
_REST_ONLY = frozenset({"id", "isInverse", "posCrossMargin", "posCommCommon", "maintainMargin"})
"""Keys of a position that REST prints and the push does not."""
_MARKED = (
    "markPrice",
    "markValue",
    "unrealisedPnl",
    "unrealisedPnlPcnt",
    "unrealisedRoePcnt",
    "delevPercentage",
    "currentTimestamp",
    "settleCurrency",
)


def frame(topic: str, subject: str, account: Account, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "topic": topic,
        "type": "message",
        "subject": subject,
        **more,
        "userId": user_id(account),
        "channelType": "private",
        "data": data,
    }


class ClassicReports:
    """Writes what happened to an account."""

    def __init__(self, catalogue: Catalogue, futures: FuturesAccount) -> None:
        self._catalogue = catalogue
        self._futures = futures
        self._totals: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self._versions: dict[str, int] = {}
        self._events = 354_689_988_084_000

    def spot_order(
        self, order: EngineOrder, kind: str, now_ms: int, fill: EngineFill | None = None, old: Decimal | None = None
    ) -> dict[str, Any]:
        """`received` has no more than what the order is; a match says nothing of the fee."""
        listing = self._catalogue.of_symbol(order.market)
        by_funds = order.quote_quantity is not None
        data: dict[str, Any] = {
            "clientOid": order.client_order_id,
            "orderId": self._catalogue.order_id(order),
            "orderTime": order.created,
            "orderType": "limit" if order.type.has_price else "market",
            "side": order.side.lower(),
            "status": {"received": "new", "match": "match", "filled": "done", "canceled": "done"}.get(kind, "open"),
            "symbol": listing.native,
            "ts": now_ms * _NS + 335_000,
            "type": kind,
        }
        if by_funds:
            data["originFunds"] = plain(order.quote_quantity)
        else:
            data["originSize"] = plain(order.quantity + tag_of(order).reduced)
        if kind == "received":
            return data
        ended = kind == "canceled"
        data |= {
            "canceledSize": plain((order.remaining if ended else ZERO) + tag_of(order).reduced),
            "filledSize": plain(order.filled),
            "price": plain(order.price),
            "remainSize": "0" if ended else plain(order.remaining),
            "size": plain(order.quantity),
        }
        if fill is not None:
            data |= {
                "liquidity": fill.liquidity.lower(),
                "matchPrice": plain(fill.price),
                "matchSize": plain(fill.quantity),
                "tradeId": str(listing.trade_id(fill.trade_id)),
            }
        if old is not None:
            data["oldSize"] = plain(old)
        return data

    def futures_order(
        self, order: EngineOrder, kind: str, now_ms: int, fill: EngineFill | None = None, old: Decimal | None = None
    ) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(order.market)
        ended = kind == "canceled"
        data: dict[str, Any] = {
            "symbol": listing.native,
            "orderType": "limit" if order.type.has_price else "market",
            "side": order.side.lower(),
            "canceledSize": plain(order.remaining) if ended else "0",
            "orderId": self._catalogue.order_id(order),
            "clientOid": order.client_order_id,
            "liquidity": "maker" if fill is None else fill.liquidity.lower(),
            "marginMode": tag_of(order).margin_mode or "ISOLATED",
            "type": kind,
            "orderTime": order.created * _NS + 885_647,
            "size": plain(order.quantity),
            "filledSize": plain(order.filled),
            "price": plain(order.price) if order.price is not None else "",
            "remainSize": "0" if ended else plain(order.remaining),
            "status": {"match": "match", "filled": "done", "canceled": "done"}.get(kind, "open"),
            "ts": now_ms * _NS,
        }
        if fill is not None:
            data |= {
                "matchPrice": plain(fill.price),
                "matchSize": plain(fill.quantity),
                "tradeId": str(listing.trade_id(fill.trade_id)),
                "feeType": f"{fill.liquidity.lower()}Fee",
            }
        if old is not None:
            data["oldSize"] = plain(old)
        return data

    def stop_order(self, event: OrderEvent) -> dict[str, Any]:
        order = event.order
        listing = self._catalogue.of_symbol(order.market)
        kind = {"NEW": "open", "TRIGGERED": "triggered", "AMENDED": "update"}.get(event.kind, "cancel")
        waiting_id = self._catalogue.stop_id(order)
        data = {
            "createdAt": order.created,
            "orderId": waiting_id,
            "orderPrice": plain(order.price),
            "orderType": "stop",
            "side": order.side.lower(),
            "size": plain(order.quantity),
            "stop": tag_of(order).stop,
            "stopPrice": plain(order.stop_price),
            "symbol": listing.native,
            "ts": event.time * _NS,
            "type": kind,
        }
        if listing.product == SPOT:
            return data | {"tradeType": "TRADE"}
        price_type = tag_of(order).stop_price_type
        return data | {"stopPriceType": price_type, "marginMode": tag_of(order).margin_mode}

    def balance(self, account: Account, event: BalanceEvent, cause: OrderEvent | None) -> tuple[str, dict[str, Any]]:
        """(event id, data) of a change in the trade account; the event's name begins with the account's type."""
        balance, key = event.balance, (account.name, event.balance.asset)
        before, held = self._totals.get(key, (balance.total, ZERO))
        self._totals[key] = (balance.total, balance.locked)
        self._events += 1
        context: dict[str, str] = {}
        if cause is not None:
            listing = self._catalogue.of_symbol(cause.order.market)
            context = {"symbol": listing.native, "orderId": self._catalogue.order_id(cause.order)}
            if cause.fill is not None:
                context["tradeId"] = str(listing.trade_id(cause.fill.trade_id))
        data = {
            "accountId": account_id(account, balance.asset),
            "currency": balance.asset,
            "total": plain(balance.total),
            "available": plain(balance.available),
            "hold": plain(balance.locked),
            "availableChange": _signed(balance.available - (before - held)),
            "holdChange": _signed(balance.locked - held),
            "relationContext": context,
            "relationEvent": "trade.hold" if before == balance.total else "trade.setted",
            "relationEventId": str(self._events),
            "time": str(event.time),
        }
        return str(self._events), data

    def remember(self, account: Account, asset: str, total: Decimal, locked: Decimal) -> None:
        """What an account holds when somebody begins to listen."""
        self._totals[account.name, asset] = (total, locked)

    def wallet(self, account: Account, event: BalanceEvent) -> dict[str, Any]:
        balance = event.balance
        margin = min(self._futures.position_margin(account, balance.asset), balance.locked)
        gain = self._futures.unrealised(account, balance.asset)
        version = self._versions[account.name] = self._versions.get(account.name, 1000) + 1
        return {
            "crossPosMargin": "0",
            "isolatedOrderMargin": plain(balance.locked - margin),
            "holdBalance": "0",
            "equity": plain(balance.total + gain),
            "version": str(version),
            "availableBalance": plain(balance.available),
            "isolatedPosMargin": plain(margin),
            "walletBalance": plain(balance.total),
            "isolatedFundingFeeMargin": "0",
            "crossUnPnl": "0",
            "totalCrossMargin": plain(balance.available),
            "currency": futures_code(balance.asset),
            "isolatedUnPnl": _signed(gain),
            "crossOrderMargin": "0",
            "timestamp": str(event.time),
        }

    def position(self, account: Account, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        listing = self._catalogue.of_symbol(position.market)
        row = self._futures.position_row(account, listing, position, now_ms)
        told = {name: value for name, value in row.items() if name not in _REST_ONLY}
        return told | {"changeReason": "positionChange", "riskLimitLevel": 2}

    def marked(self, account: Account, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        """What a new mark price changes. It names neither the contract nor the size."""
        listing = self._catalogue.of_symbol(position.market)
        row = self._futures.position_row(account, listing, position, now_ms)
        return {name: row[name] for name in _MARKED} | {"changeReason": "markPriceChange"}


def _signed(value: Decimal) -> str:
    return f"-{plain(-value)}" if value < 0 else plain(value)
