"""Spot orders, fills and balances as REST answers and as pushes."""

from __future__ import annotations

import zlib
from decimal import Decimal
from typing import Any

from astra.models.orders import Liquidity, OrderStatus
from astra.models.trades import Side
from astra.sandbox import Account, EngineBalance, EngineFill, EngineOrder
from astra.sandbox.toolkit import plain
from astra_htx.sandbox.orders import OrderDesk, Ticket, asked_price, ended, is_waiting, ticket_of
from astra_htx.sandbox.wire import Family, deep

ZERO = Decimal(0)
_FILL_BASE = 313_288_000_000_000
CLOSED_STATES = {"partial-canceled": 5, "filled": 6, "canceled": 7}
"""Order states as numbers, in answers to cancels."""
CANCELING = 10


def account_id(account: Account) -> int:
    """The number of the account's spot wallet."""
    return 10_000_000 + zlib.crc32(account.name.encode()) % 10_000_000


def state_of(order: EngineOrder) -> str:
    if is_waiting(order) and order.status.is_open:
        return "created"
    if ended(order):
        return "partial-canceled" if order.filled else "canceled"
    names = {OrderStatus.NEW: "submitted", OrderStatus.PARTIALLY_FILLED: "partial-filled"}
    return names.get(order.status, "filled")


def fees_of(order: EngineOrder) -> Decimal:
    return sum((fill.fee for fill in order.fills), ZERO)


def is_by_value(ticket: Ticket, order: EngineOrder) -> bool:
    """Market buys say, and are told, what they spend."""
    return ticket.kind == "buy-market" and order.quote_quantity is not None


def order_row(desk: OrderDesk, order: EngineOrder, account: Account, *, listed_open: bool = False) -> dict[str, Any]:
    """An order: as the list of open orders spells it (`filled-*`), or as all others do (`field-*`)."""
    listing, ticket = desk.listing(order), ticket_of(order, Family.SPOT)
    amount = order.quote_quantity if is_by_value(ticket, order) else order.quantity
    row: dict[str, Any] = {
        "id": listing.order_id(order),
        "symbol": listing.native,
        "account-id": account_id(account),
        "client-order-id": ticket.client_id or "",
        "amount": format(amount or ZERO, ".18f"),
        "price": format(asked_price(order, ticket) or ZERO, ".18f"),
        "created-at": order.created,
        "type": ticket.kind,
        "source": ticket.source,
        "state": state_of(order),
    }
    prefix = "filled" if listed_open else "field"
    row |= {
        f"{prefix}-amount": deep(order.filled),
        f"{prefix}-cash-amount": deep(order.filled_quote),
        f"{prefix}-fees": deep(fees_of(order)),
    }
    if not listed_open:
        row |= {
            "finished-at": 0 if order.status.is_open else order.updated,
            "canceled-at": order.updated if ended(order) else 0,
        }
        if ended(order):
            row["canceled-source"] = canceled_source(order, ticket)
    if order.stop_price is not None:
        row |= {"stop-price": format(order.stop_price, ".18f"), "operator": ticket.operator or "gte"}
    return row


def canceled_source(order: EngineOrder, ticket: Ticket) -> str:
    if ticket.refused:
        return "limit_maker"
    return {"ioc": "ioc", "fok": "fok", "no-liquidity": "market", "self-trade": "self-match-prevent"}.get(
        order.reason or "", "api"
    )


def fill_row(desk: OrderDesk, fill: EngineFill, account: Account) -> dict[str, Any]:
    listing, order = desk.listing(fill), desk.order_of(fill, account)
    ticket = Ticket(f"{fill.side.lower()}-limit") if order is None else ticket_of(order, Family.SPOT)
    return {
        "symbol": listing.native,
        "fee-currency": fill.fee_asset.lower(),
        "source": ticket.source,
        "price": plain(fill.price),
        "created-at": fill.time,
        "role": fill.liquidity.lower(),
        "order-id": listing.order_base + fill.order_id,
        "match-id": listing.trade_base + desk.numbers.match(fill),
        "trade-id": listing.trade_base + fill.trade_id,
        "filled-amount": plain(fill.quantity),
        "filled-fees": plain(fill.fee),
        "filled-points": "0.0",
        "fee-deduct-currency": "",
        "fee-deduct-state": "done",
        "id": fill_number(desk, fill),
        "type": ticket.kind,
    }


def fill_number(desk: OrderDesk, fill: EngineFill) -> int:
    return _FILL_BASE + desk.numbers.number(fill)


def amounts(order: EngineOrder, ticket: Ticket) -> dict[str, str]:
    """`execAmt` and `remainAmt` of a push: values for market buys, else base units."""
    if is_by_value(ticket, order):
        left = (order.quote_quantity or ZERO) - order.filled_quote
        done = order.status is OrderStatus.FILLED
        return {"execAmt": plain(order.filled_quote), "remainAmt": "0" if done else plain(max(left, ZERO))}
    return {"execAmt": plain(order.filled), "remainAmt": plain(order.remaining)}


def _size(order: EngineOrder, ticket: Ticket) -> dict[str, str]:
    if is_by_value(ticket, order):
        return {"orderValue": plain(order.quote_quantity)}
    return {"orderSize": plain(order.quantity)}


def _identity(desk: OrderDesk, order: EngineOrder, ticket: Ticket) -> dict[str, Any]:
    listing = desk.listing(order)
    identity: dict[str, Any] = {
        "symbol": listing.native,
        "type": ticket.kind,
        "orderId": listing.order_id(order),
        "clientOrderId": ticket.client_id or "",
        "orderSource": ticket.source,
        **_size(order, ticket),
    }
    price = asked_price(order, ticket)
    if price is not None:
        identity["orderPrice"] = plain(price)
    return identity


def creation(desk: OrderDesk, order: EngineOrder, account_number: int) -> dict[str, Any]:
    ticket = ticket_of(order, Family.SPOT)
    return _identity(desk, order, ticket) | {
        "accountId": account_number,
        "orderCreateTime": order.created,
        "eventType": "creation",
        "orderStatus": "submitted",
    }


def trade(desk: OrderDesk, order: EngineOrder, fill: EngineFill) -> dict[str, Any]:
    """A fill of `orders#`: no account, no creation time, and no price for market orders."""
    ticket = ticket_of(order, Family.SPOT)
    return (
        _identity(desk, order, ticket)
        | {
            "tradePrice": plain(fill.price),
            "tradeVolume": plain(fill.quantity),
            "tradeId": desk.listing(order).trade_base + fill.trade_id,
            "tradeTime": fill.time,
            "aggressor": fill.liquidity is Liquidity.TAKER,
            "eventType": "trade",
            "orderStatus": state_of(order),
        }
        | amounts(order, ticket)
    )


def cancellation(desk: OrderDesk, order: EngineOrder) -> dict[str, Any]:
    ticket = ticket_of(order, Family.SPOT)
    return (
        _identity(desk, order, ticket)
        | {
            "lastActTime": order.updated,
            "eventType": "cancellation",
            "orderStatus": state_of(order),
            "canceledSource": canceled_source(order, ticket),
        }
        | amounts(order, ticket)
    )


def never_active(desk: OrderDesk, order: EngineOrder, *, failed: bool) -> dict[str, Any]:
    """A conditional order that was cancelled before its time (`deletion`), or refused when it came (`trigger`)."""
    ticket = ticket_of(order, Family.SPOT)
    body: dict[str, Any] = {
        "orderSide": order.side.lower(),
        "lastActTime": order.updated,
        "clientOrderId": ticket.client_id or "",
        "symbol": desk.listing(order).native,
    }
    if failed:
        reason = "account.frozen.balance.insufficient.error"
        return body | {"orderStatus": "rejected", "eventType": "trigger", "errCode": 2002, "errMessage": reason}
    return body | {"orderStatus": "canceled", "eventType": "deletion"}


def clearing(desk: OrderDesk, order: EngineOrder, fill: EngineFill, account_number: int) -> dict[str, Any]:
    ticket = ticket_of(order, Family.SPOT)
    return _clearing_identity(desk, order, ticket, account_number) | {
        "eventType": "trade",
        "tradePrice": plain(fill.price),
        "tradeVolume": plain(fill.quantity),
        "aggressor": fill.liquidity is Liquidity.TAKER,
        "tradeId": desk.listing(order).trade_base + fill.trade_id,
        "tradeTime": fill.time,
        "transactFee": plain(fill.fee),
        "feeCurrency": fill.fee_asset.lower(),
        "feeDeduct": "0",
        "feeDeductType": "",
    }


def cleared_cancellation(desk: OrderDesk, order: EngineOrder, account_number: int) -> dict[str, Any]:
    ticket = ticket_of(order, Family.SPOT)
    body = _clearing_identity(desk, order, ticket, account_number) | {"eventType": "cancellation"}
    return body | {"remainAmt": amounts(order, ticket)["remainAmt"]}


def _clearing_identity(desk: OrderDesk, order: EngineOrder, ticket: Ticket, account_number: int) -> dict[str, Any]:
    identity = _identity(desk, order, ticket)
    identity["source"] = identity.pop("orderSource")
    identity["orderType"] = identity.pop("type")
    identity["orderId"] = str(identity["orderId"])  # a text here, as recorded; a number in `orders#`
    return identity | {
        "orderSide": "buy" if order.side is Side.BUY else "sell",
        "accountId": account_number,
        "orderCreateTime": order.created,
        "orderStatus": state_of(order),
    }


def balance_rows(balance: EngineBalance, number: int) -> list[dict[str, str]]:
    asset = balance.asset.lower()
    return [
        {"currency": asset, "type": "trade", "balance": plain(balance.available), "seq-num": str(number)},
        {"currency": asset, "type": "frozen", "balance": plain(balance.locked), "seq-num": str(number)},
    ]
