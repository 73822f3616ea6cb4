"""The events of private streams, as each family writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from astra.models.orders import Liquidity
from astra.sandbox import EngineBalance, EngineOrder, EnginePosition, OrderEvent
from astra.sandbox.toolkit import fixed, plain
from astra_binance.sandbox.algo_rest import algo_status
from astra_binance.sandbox.catalogue import Listing, option_side
from astra_binance.sandbox.feeds import ZERO
from astra_binance.sandbox.futures_account import unrealised
from astra_binance.sandbox.futures_rest import order_average, position_side_text
from astra_binance.sandbox.orders import (
    FUTURES_TYPES,
    algo_base,
    expiry_reason,
    futures_type,
    in_algo_service,
    native_id,
    price_text,
    shown_time_in_force,
    status_text,
    tag_of,
    waits,
)
from astra_binance.sandbox.wire import Family

_SPOT_EXECUTIONS = {
    "NEW": "NEW",
    "TRADE": "TRADE",
    "CANCELED": "CANCELED",
    "EXPIRED": "EXPIRED",
    "AMENDED": "REPLACED",
    "TRIGGERED": "NEW",
}
_FUTURES_EXECUTIONS = _SPOT_EXECUTIONS | {"AMENDED": "AMENDMENT"}


def execution_report(listing: Listing, event: OrderEvent, now_ms: int) -> dict[str, Any]:
    """Spot. After a cancel `c` is the id of the cancel (after an amendment the new one) and `C` the order's own."""
    order, fill = event.order, event.fill
    tag = tag_of(order)
    client_id, original = tag.client_id, ""
    if event.kind == "CANCELED" and tag.cancel_id is not None:
        client_id, original = tag.cancel_id, tag.client_id
    elif event.kind == "AMENDED" and tag.former_id is not None:
        original = tag.former_id
    report: dict[str, Any] = {
        "e": "executionReport",
        "E": now_ms,
        "s": listing.native,
        "c": client_id,
        "S": order.side.value,
        "o": tag.type,
        "f": shown_time_in_force(order),
        "q": listing.quantity(order.quantity),
        "p": listing.price(order.price),
        "P": listing.price(order.stop_price),
        "F": listing.quantity(None),
        "g": -1,
        "C": original,
        "x": _SPOT_EXECUTIONS[event.kind],
        "X": status_text(order, Family.SPOT),
        "r": "NONE",
        "i": native_id(listing, order),
        "l": listing.quantity(fill.quantity if fill else None),
        "z": listing.quantity(order.filled),
        "L": listing.price(fill.price if fill else None),
        "n": fixed(fill.fee, 8) if fill else "0",
        "N": fill.fee_asset if fill else None,
        "T": event.time,
        "t": listing.ids.trade_base + fill.trade_id if fill else -1,
        "I": native_id(listing, order) * 2,
        "w": not waits(order) and order.status.is_open,
        "m": fill is not None and fill.liquidity is Liquidity.MAKER,
        "M": False,
        "O": order.created,
        "Z": fixed(order.filled_quote, 8),
        "Y": fixed(fill.price * fill.quantity if fill else None, 8),
        "Q": listing.quantity(order.quote_quantity),
        "V": tag.stp,
    }
    if not waits(order):
        report["W"] = order.created
    reason = expiry_reason(order)
    return report if reason is None else report | {"eR": reason}


def account_position(balances: Iterable[EngineBalance], time: int, now_ms: int) -> dict[str, Any]:
    """Spot: full new values of the assets touched."""
    return {
        "e": "outboundAccountPosition",
        "E": now_ms,
        "u": time,
        "B": [
            {"a": balance.asset, "f": fixed(balance.available, 8), "l": fixed(balance.locked, 8)}
            for balance in balances
        ],
    }


def balance_update(asset: str, delta: Decimal, time: int, now_ms: int) -> dict[str, Any]:
    """Spot: a deposit, withdrawal or transfer."""
    return {"e": "balanceUpdate", "E": now_ms, "a": asset, "d": fixed(delta, 8), "T": time}


def order_trade_update(listing: Listing, event: OrderEvent, now_ms: int) -> dict[str, Any]:
    """USD-M and COIN-M; options write the same letters, with the fee negative when paid."""
    body = _options_order(listing, event) if listing.family is Family.OPTIONS else _futures_order(listing, event)
    return {"e": "ORDER_TRADE_UPDATE", "T": event.time, "E": now_ms, "o": body}


def _futures_order(listing: Listing, event: OrderEvent) -> dict[str, Any]:
    order, fill = event.order, event.fill
    tag = tag_of(order)
    body: dict[str, Any] = {
        "s": listing.native,
        "c": tag.client_id,
        "S": order.side.value,
        "o": futures_type(order),
        "f": shown_time_in_force(order),
        "q": listing.quantity(order.quantity),
        "p": price_text(listing, order.price),
        "ap": plain(order_average(listing, order)),
        "sp": price_text(listing, order.stop_price),
        "x": _FUTURES_EXECUTIONS[event.kind],
        "X": status_text(order, listing.family),
        "i": native_id(listing, order),
        "l": listing.quantity(fill.quantity if fill else None),
        "z": listing.quantity(order.filled),
        "L": price_text(listing, fill.price if fill else None),
    }
    if fill is not None:
        body |= {"N": fill.fee_asset, "n": fixed(fill.fee, 8)}
    body |= {
        "T": event.time,
        "t": listing.ids.trade_base + fill.trade_id if fill else 0,
        "b": "0",
        "a": "0",
        "m": fill is not None and fill.liquidity is Liquidity.MAKER,
        "R": order.reduce_only,
        "wt": tag.working_type,
        "ot": FUTURES_TYPES[order.type],
        "ps": position_side_text(order.position_side),
        "cp": False,
        "pP": tag.price_protect,
        "si": 0,
        "ss": 0,
        "rp": fixed(fill.realized_pnl if fill else None, 8) if fill else "0",
        "V": tag.stp,
        "pm": "NONE",
        "gtd": tag.good_till,
    }
    if listing.family is Family.COINM:
        body["ma"] = listing.market.margin_asset
    if event.kind == "AMENDED" and tag.modify_id is not None:
        body["M"] = tag.modify_id
    reason = expiry_reason(order)
    return body if reason is None else body | {"er": reason}


def _options_order(listing: Listing, event: OrderEvent) -> dict[str, Any]:
    order, fill = event.order, event.fill
    tag = tag_of(order)
    body: dict[str, Any] = {
        "s": listing.native,
        "c": tag.client_id,
        "S": order.side.value,
        "o": tag.type,
        "f": shown_time_in_force(order),
        "q": listing.quantity(order.quantity),
        "p": listing.price(order.price),
        "ap": plain(order.average_price),
        "x": _FUTURES_EXECUTIONS[event.kind],
        "X": status_text(order, Family.OPTIONS),
        "i": native_id(listing, order),
        "l": listing.quantity(fill.quantity if fill else None),
        "z": listing.quantity(order.filled),
        "L": listing.price(fill.price if fill else None),
    }
    if fill is not None:
        body |= {"N": fill.fee_asset, "n": fixed(-fill.fee, 8)}
    return body | {
        "T": event.time,
        "t": listing.ids.trade_base + fill.trade_id if fill else 0,
        "b": "0",
        "a": "0",
        "m": fill is not None and fill.liquidity is Liquidity.MAKER,
        "R": order.reduce_only,
        "ot": tag.type,
        "rp": fixed(fill.realized_pnl if fill else None, 8),
        "os": option_side(listing.market),
        "V": tag.stp,
    }


def trade_lite(listing: Listing, event: OrderEvent, now_ms: int) -> dict[str, Any]:
    """USD-M: the early notice of a fill that ORDER_TRADE_UPDATE tells again."""
    order, fill = event.order, event.fill
    assert fill is not None
    return {
        "e": "TRADE_LITE",
        "E": now_ms,
        "T": event.time,
        "s": listing.native,
        "c": tag_of(order).client_id,
        "S": order.side.value,
        "q": listing.quantity(order.quantity),
        "p": price_text(listing, order.price),
        "i": native_id(listing, order),
        "l": listing.quantity(fill.quantity),
        "L": listing.price(fill.price),
        "t": listing.ids.trade_base + fill.trade_id,
        "m": fill.liquidity is Liquidity.MAKER,
    }


def algo_update(
    listing: Listing, order: EngineOrder, time: int, now_ms: int, status: str | None = None
) -> dict[str, Any]:
    """The life of a conditional order: NEW, then CANCELED, EXPIRED or TRIGGERING, TRIGGERED, FINISHED (or REJECTED)."""
    tag = tag_of(order)
    entered = not in_algo_service(order) and status != "TRIGGERING"
    body: dict[str, Any] = {
        "caid": tag.client_id,
        "aid": algo_base(listing) + order.id,
        "at": "CONDITIONAL",
        "o": FUTURES_TYPES[order.type],
        "s": listing.native,
        "S": order.side.value,
        "ps": position_side_text(order.position_side),
        "f": shown_time_in_force(order),
        "q": listing.quantity(order.quantity),
        "X": status or algo_status(order),
        "ai": str(native_id(listing, order)) if entered else "",
        "ap": fixed(order_average(listing, order), listing.price_scale + 3),
        "aq": listing.quantity(order.filled),
        "act": futures_type(order) if entered else "0",
        "tp": price_text(listing, order.stop_price),
        "p": price_text(listing, order.price),
        "V": tag.stp,
        "wt": tag.working_type,
        "pm": "NONE",
        "cp": False,
        "pP": tag.price_protect,
        "R": order.reduce_only,
        "tt": tag.trigger_time,
        "gtd": tag.good_till,
    }
    if tag.rejected is not None:
        body["rm"] = tag.rejected
    return {"e": "ALGO_UPDATE", "T": time, "E": now_ms, "o": body}


def account_update(
    reason: str,
    balances: Sequence[tuple[EngineBalance, Decimal]],
    positions: Sequence[tuple[Listing, EnginePosition, Decimal]],
    time: int,
    now_ms: int,
    *,
    isolated: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """USD-M and COIN-M: changed wallets (with the change that is neither profit nor fee) and positions (at a mark)."""
    rows = [
        {
            "s": listing.native,
            "pa": listing.quantity(position.quantity),
            "ep": plain(position.entry_price),
            "bep": plain(position.entry_price),
            "cr": fixed(position.realized_pnl, 8),
            "up": fixed(unrealised(listing, position, mark), 8),
            "mt": "isolated" if listing.symbol in isolated else "cross",
            "iw": "0",
            "ps": position_side_text(position.side),
        }
        for listing, position, mark in positions
    ]
    wallets = [
        {"a": balance.asset, "wb": fixed(balance.total, 8), "cw": fixed(balance.total, 8), "bc": fixed(change, 8)}
        for balance, change in balances
    ]
    return {"e": "ACCOUNT_UPDATE", "T": time, "E": now_ms, "a": {"m": reason, "B": wallets, "P": rows}}


def balance_position_update(
    reason: str,
    balances: Sequence[tuple[EngineBalance, Decimal]],
    positions: Sequence[tuple[Listing, EnginePosition, Decimal]],
    time: int,
    now_ms: int,
) -> dict[str, Any]:
    """Options."""
    return {
        "e": "BALANCE_POSITION_UPDATE",
        "T": time,
        "E": now_ms,
        "m": reason,
        "B": [
            {"a": balance.asset, "b": fixed(balance.total, 8), "bc": fixed(change, 8)} for balance, change in balances
        ],
        "P": [
            {
                "s": listing.native,
                "c": listing.quantity(position.quantity),
                "p": fixed(mark * position.quantity if position.quantity else ZERO, 8),
                "a": plain(position.entry_price),
            }
            for listing, position, mark in positions
        ],
    }
