"""Orders, fills, positions and balances of derivatives: the V5 shapes of linear ones, the older of coin-margined."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.models.orders import OrderStatus, PositionSide
from astra.models.trades import Side
from astra.sandbox import Account, EngineFill, EngineOrder, EnginePosition
from astra.sandbox.toolkit import plain
from astra_htx.sandbox.orders import OrderDesk, Ticket, asked_price, ended, ticket_of
from astra_htx.sandbox.spot_reports import fees_of
from astra_htx.sandbox.wire import Family, bare

ZERO = Decimal(0)
_V5_FILL_BASE = 1_513_834_754_000_000_000
_HISTORY_OFFSET = 117_612_608
_QUERY_BASE = 2_424_000_000


def v5_state(order: EngineOrder) -> str:
    if ended(order):
        return "partially_canceled" if order.filled else "canceled"
    return {OrderStatus.NEW: "new", OrderStatus.PARTIALLY_FILLED: "partially_filled"}.get(order.status, "filled")


def coin_status(order: EngineOrder) -> int:
    if ended(order):
        return 5 if order.filled else 7
    return {OrderStatus.NEW: 3, OrderStatus.PARTIALLY_FILLED: 4}.get(order.status, 6)


def is_long(position: EnginePosition) -> bool:
    return position.quantity > 0


def position_side(side: PositionSide | None) -> str:
    return "both" if side is None else side.lower()


def turnover_of(desk: OrderDesk, order: EngineOrder) -> Decimal:
    listing = desk.listing(order)
    return order.filled * listing.size if listing.market.is_inverse else order.filled_quote * listing.size


def average_of(desk: OrderDesk, order: EngineOrder) -> Decimal | None:
    """The average price; of inverse contracts the harmonic mean, as their worth asks for."""
    if not order.filled:
        return None
    if not desk.listing(order).market.is_inverse or not order.fills:
        return order.average_price
    return order.filled / sum((fill.quantity / fill.price for fill in order.fills), ZERO)


def short(value: Decimal | None, digits: int = 16) -> Decimal | None:
    """Not more digits than a double has."""
    return None if value is None else value.quantize(Decimal(1).scaleb(value.adjusted() - digits + 1))


# --- linear: V5 ---


def v5_order(desk: OrderDesk, order: EngineOrder, account: Account, *, pushed: bool = False) -> dict[str, Any]:
    """An order. `fee` is negative when paid. The client id is the order's own where the client gave none."""
    listing, ticket = desk.listing(order), ticket_of(order, Family.LINEAR)
    order_id = str(listing.order_id(order))
    price = asked_price(order, ticket)
    fees = fees_of(order)
    row: dict[str, Any] = {
        "side": order.side.lower(),
        "type": ticket.kind if ticket.kind in ("market", "post_only") else "limit",
        "price": plain(price),
        "volume": plain(order.quantity),
        "state": v5_state(order),
        "profit": plain(sum((fill.realized_pnl for fill in order.fills), ZERO)),
        "contract_code": listing.native,
        "position_side": position_side(order.position_side),
        "price_match": ticket.price_match,
        "order_id": order_id,
        "client_order_id": ticket.client_id or order_id,
        "margin_mode": ticket.margin_mode,
        "lever_rate": ticket.leverage or desk.leverage(account, listing),
        "order_source": ticket.source,
        "reduce_only": order.reduce_only,
        "time_in_force": ticket.time_in_force,
        "trade_avg_price": plain(short(average_of(desk, order))),
        "trade_volume": plain(order.filled),
        "trade_turnover": plain(turnover_of(desk, order)),
        "fee_currency": listing.settle if order.fills else (None if pushed else ""),
        "fee": plain(-fees),
    }
    for kind in ("tp", "sl"):
        row |= {
            f"{kind}_trigger_price": "",
            f"{kind}_order_price": "",
            f"{kind}_type": "" if pushed else "0",
            f"{kind}_trigger_price_type": "",
        }
    row |= {
        "contract_type": listing.contract_type,
        "cancel_reason": _cancel_reason(order, ticket) or ("" if pushed else None),
        "created_time": str(order.created),
        "updated_time": str(order.updated),
        "self_match_prevent": ticket.self_match,
    }
    if pushed:
        return row | {"amend_origin_volume": "", "amend_source": "", "amend_result": ""}
    return {"id": order_id} | row | {"price_protect": False}


def v5_history_order(desk: OrderDesk, order: EngineOrder, account: Account) -> dict[str, Any]:
    """An order of the history: its `id` is that of the query, no order id."""
    return v5_order(desk, order, account) | {"id": str(v5_history_id(desk, order))}


def v5_history_id(desk: OrderDesk, order: EngineOrder) -> int:
    return desk.native_id(order) + _HISTORY_OFFSET


def _cancel_reason(order: EngineOrder, ticket: Ticket) -> str | None:
    if not ended(order):
        return None
    if ticket.refused:
        return "limit-maker order cancellation"
    reasons = {
        "ioc": "ioc order cancellation",
        "fok": "fok order cancellation",
        "no-liquidity": "Order cancelation due to no matching orders",
        "self-trade": "Self trading prevention",
        "reduce-only": "Order cancelation by system",
    }
    return reasons.get(order.reason or "", "Limit order cancelation by the client")


def v5_fill(desk: OrderDesk, fill: EngineFill, account: Account) -> dict[str, Any]:
    """A fill of REST: `trade_fee` is positive when paid, the role in upper case."""
    listing, order = desk.listing(fill), desk.order_of(fill, account)
    ticket = Ticket("limit") if order is None else ticket_of(order, Family.LINEAR)
    return {
        "id": str(v5_fill_number(desk, fill)),
        "contract_code": listing.native,
        "order_id": str(listing.order_base + fill.order_id),
        "trade_id": str(listing.trade_base + fill.trade_id),
        "side": fill.side.lower(),
        "position_side": position_side(None if order is None else order.position_side),
        "order_type": "1",
        "margin_mode": ticket.margin_mode,
        "type": ticket.kind,
        "role": fill.liquidity.value,
        "trade_price": plain(fill.price),
        "trade_volume": plain(fill.quantity),
        "trade_turnover": plain(listing.turnover(fill.quantity, fill.price)),
        "created_time": str(fill.time),
        "updated_time": str(fill.time),
        "order_source": ticket.source,
        "fee_currency": fill.fee_asset,
        "trade_fee": plain(fill.fee),
        "deduction_price": "",
        "profit": plain(fill.realized_pnl),
        "contract_type": listing.contract_type,
    }


def v5_fill_number(desk: OrderDesk, fill: EngineFill) -> int:
    return _V5_FILL_BASE + desk.numbers.number(fill)


def match_text(desk: OrderDesk, fill: EngineFill) -> str:
    """`match-order-n`: what makes a fill unique in pushes and coin-margined answers."""
    listing, match = desk.listing(fill), desk.numbers.match(fill)
    return f"{listing.trade_base + match}-{listing.order_base + fill.order_id}-{fill.trade_id - match + 1}"


def v5_pushed_fill(desk: OrderDesk, order: EngineOrder, fill: EngineFill) -> dict[str, Any]:
    """A fill of the `trade` topic: the side is `direction`, there is no fee, the role is in lower case."""
    listing, ticket = desk.listing(fill), ticket_of(order, Family.LINEAR)
    order_id = str(listing.order_id(order))
    return {
        "direction": fill.side.lower(),
        "id": match_text(desk, fill),
        "contract_code": listing.native,
        "contract_type": listing.contract_type,
        "order_id": order_id,
        "trade_id": str(listing.trade_base + fill.trade_id),
        "position_side": position_side(order.position_side),
        "trade_volume": plain(fill.quantity),
        "trade_price": plain(fill.price),
        "trade_turnover": plain(listing.turnover(fill.quantity, fill.price)),
        "role": fill.liquidity.lower(),
        "client_order_id": ticket.client_id or order_id,
        "created_time": str(fill.time),
        "updated_time": str(fill.time),
    }


def unrealized(desk: OrderDesk, position: EnginePosition) -> Decimal:
    """Profit at the mark price in the settlement asset."""
    listing, mark = desk.listing(position), desk.engine.mark_price(position.market)
    if not position.quantity:
        return ZERO
    if listing.market.is_inverse:
        gain = position.quantity * listing.size * (1 / position.entry_price - 1 / mark)
    else:
        gain = position.quantity * listing.size * (mark - position.entry_price)
    return gain.quantize(Decimal("1E-12"))


def initial_margin(desk: OrderDesk, position: EnginePosition, account: Account) -> Decimal:
    listing = desk.listing(position)
    if not position.quantity:
        return ZERO
    amount, price = abs(position.quantity), position.entry_price
    worth = amount * listing.size / price if listing.market.is_inverse else amount * listing.size * price
    return (worth / desk.leverage(account, listing)).quantize(Decimal("1E-8"))


def v5_position(desk: OrderDesk, position: EnginePosition, account: Account, now_ms: int) -> dict[str, Any]:
    listing = desk.listing(position)
    mark, margin = desk.engine.mark_price(position.market), initial_margin(desk, position, account)
    profit = unrealized(desk, position)
    leverage = desk.leverage(account, listing)
    distance = position.entry_price / leverage
    liquidation = position.entry_price - distance if is_long(position) else position.entry_price + distance
    mode = account.settings.get("margin_mode", {}).get(listing.symbol, "cross")
    return {
        "contract_code": listing.native,
        "position_side": position_side(position.side),
        "direction": "buy" if is_long(position) else "sell",
        "margin_mode": mode,
        "open_avg_price": plain(position.entry_price),
        "volume": plain(abs(position.quantity)),
        "available": plain(abs(position.quantity)),
        "lever_rate": leverage,
        "adl_risk_percent": 3,
        "liquidation_price": plain(liquidation),
        "margin": plain(margin),
        "initial_margin": plain(margin),
        "maintenance_margin": plain(margin / 10),
        "profit_unreal": plain(profit),
        "profit_rate": plain((profit / margin).quantize(Decimal("0.0001")) if margin else ZERO),
        "margin_rate": "0.0012",
        "mark_price": plain(mark),
        "last_price": plain(mark),
        "margin_currency": listing.settle,
        "contract_type": listing.contract_type,
        "created_time": str(now_ms),
        "updated_time": str(now_ms),
    }


def v5_balances(desk: OrderDesk, account: Account, now_ms: int, *, pushed: bool) -> dict[str, Any]:
    """The account. In pushes the totals beside the details are nothing, and times are text."""
    stamp = str(now_ms) if pushed else now_ms
    details = []
    equity_sum = available_sum = ZERO
    positions = desk.positions(account, Family.LINEAR)
    for balance in desk.engine.balances(account):
        if balance.wallet != Family.LINEAR:
            continue
        held = [one for one in positions if desk.listing(one).settle == balance.asset]
        profit = sum((unrealized(desk, one) for one in held), ZERO)
        margin = sum((initial_margin(desk, one, account) for one in held), ZERO)
        equity = balance.total + profit
        equity_sum += equity
        available_sum += balance.available
        row: dict[str, Any] = {
            "currency": balance.asset,
            "equity": plain(equity),
            "available": plain(balance.available),
            "profit_unreal": plain(profit),
            "initial_margin": plain(margin),
            "maintenance_margin": plain(margin / 10),
            "maintenance_margin_rate": "0",
            "initial_margin_rate": "0",
            "voucher": "0",
            "voucher_value": "0",
            "withdraw_available": plain(balance.available),
            "created_time": stamp,
            "updated_time": stamp,
            "isolated_equity": "0",
            "isolated_profit_unreal": "0",
        }
        if not pushed:
            row["available_margin"] = plain(balance.available)
        details.append(row)
    return {
        "state": "normal",
        "equity": "0" if pushed else plain(equity_sum),
        "details": details,
        "initial_margin": "0",
        "maintenance_margin": "0",
        "maintenance_margin_rate": "0",
        "profit_unreal": "0",
        "available_margin": "0" if pushed else plain(available_sum),
        "voucher_value": "0",
        "created_time": stamp,
        "updated_time": stamp,
    }


# --- coin-margined ---


def offset_of(order: EngineOrder) -> str:
    """Does the order open or close?"""
    if order.position_side is None:
        return "close" if order.reduce_only else "open"
    opens = (order.position_side is PositionSide.LONG) == (order.side is Side.BUY)
    return "open" if opens else "close"


def coin_order(desk: OrderDesk, order: EngineOrder, account: Account) -> dict[str, Any]:
    """An order. Numbers are bare, fees negative when paid, ids beyond 2^53 with a text beside them."""
    listing = desk.listing(order)
    ticket = ticket_of(order, listing.family)
    order_id = listing.order_id(order)
    row: dict[str, Any] = {"symbol": listing.base, "contract_code": listing.native}
    if listing.family is Family.COIN_FUTURES:
        row["contract_type"] = listing.contract_type
    done = ended(order)
    return row | {
        "volume": bare(order.quantity),
        "price": bare(asked_price(order, ticket) or ZERO),
        "order_price_type": ticket.kind,
        "order_type": 1,
        "direction": order.side.lower(),
        "offset": offset_of(order),
        "lever_rate": ticket.leverage or desk.leverage(account, listing),
        "order_id": order_id,
        "order_id_str": str(order_id),
        "client_order_id": None if ticket.client_id is None else int(ticket.client_id),
        "created_at": order.created,
        "trade_volume": bare(order.filled),
        "trade_turnover": bare(turnover_of(desk, order)),
        "fee": bare(-fees_of(order)),
        "trade_avg_price": bare(short(average_of(desk, order))),
        "margin_frozen": 0,
        "profit": bare(sum((fill.realized_pnl for fill in order.fills), ZERO)),
        "status": coin_status(order),
        "order_source": ticket.source,
        "fee_asset": listing.settle,
        "liquidation_type": "0",
        "canceled_at": order.updated if done else 0,
        "is_tpsl": 0,
        "real_profit": 0,
    }


def coin_past_order(desk: OrderDesk, order: EngineOrder, account: Account) -> dict[str, Any]:
    """An order of the history: it has the id of the query and names no client order id."""
    row = coin_order(desk, order, account)
    del row["client_order_id"]
    return row | {"query_id": order.id, "create_date": order.created}


def coin_fill(desk: OrderDesk, fill: EngineFill, account: Account) -> dict[str, Any]:
    """A fill of the v3 query: `role` capitalised, the fee negative when paid."""
    listing, order = desk.listing(fill), desk.order_of(fill, account)
    order_id = listing.order_base + fill.order_id
    row: dict[str, Any] = {
        "query_id": coin_query_id(desk, fill),
        "match_id": listing.trade_base + desk.numbers.match(fill),
        "order_id": order_id,
        "symbol": listing.base,
        "contract_code": listing.native,
        "direction": fill.side.lower(),
        "offset": "open" if order is None else offset_of(order),
        "trade_volume": bare(fill.quantity),
        "trade_price": bare(fill.price),
        "trade_turnover": bare(listing.turnover(fill.quantity, fill.price)),
        "trade_fee": bare(-fill.fee),
        "offset_profitloss": bare(fill.realized_pnl),
        "create_date": fill.time,
        "role": fill.liquidity.capitalize(),
        "order_source": "api",
        "order_id_str": str(order_id),
        "fee_asset": fill.fee_asset,
        "real_profit": bare(fill.realized_pnl),
        "id": match_text(desk, fill),
    }
    if listing.family is Family.COIN_FUTURES:
        row["contract_type"] = listing.contract_type
    return row


def coin_query_id(desk: OrderDesk, fill: EngineFill) -> int:
    return _QUERY_BASE + desk.numbers.number(fill)


def coin_pushed_trade(desk: OrderDesk, fill: EngineFill) -> dict[str, Any]:
    listing = desk.listing(fill)
    return {
        "id": match_text(desk, fill),
        "trade_id": listing.trade_base + desk.numbers.match(fill),
        "trade_volume": bare(fill.quantity),
        "trade_price": bare(fill.price),
        "trade_fee": bare(-fill.fee),
        "fee_asset": fill.fee_asset,
        "trade_turnover": bare(listing.turnover(fill.quantity, fill.price)),
        "created_at": fill.time,
        "role": fill.liquidity.lower(),
        "profit": bare(fill.realized_pnl),
        "real_profit": bare(fill.realized_pnl),
    }


def coin_position(desk: OrderDesk, position: EnginePosition, account: Account) -> dict[str, Any]:
    """A position: numbers are texts with all their digits."""
    listing = desk.listing(position)
    side = position.side or (PositionSide.LONG if is_long(position) else PositionSide.SHORT)
    held = abs(position.quantity)
    available = max(desk.closable(account, listing, side), ZERO) if position.side else held
    margin, profit = initial_margin(desk, position, account), unrealized(desk, position)
    row: dict[str, Any] = {"symbol": listing.base, "contract_code": listing.native}
    if listing.family is Family.COIN_FUTURES:
        row["contract_type"] = listing.contract_type
    return row | {
        "volume": format(held, ".18f"),
        "available": format(available, ".18f"),
        "frozen": format(held - available, ".18f") if held != available else "0E-18",
        "cost_open": format(position.entry_price, ".18f"),
        "cost_hold": format(position.entry_price, ".18f"),
        "profit_unreal": plain(profit),
        "profit_rate": plain((profit / margin).quantize(Decimal("1E-18")) if margin else ZERO),
        "lever_rate": str(desk.leverage(account, listing)),
        "position_margin": format(margin, ".18f"),
        "direction": "buy" if is_long(position) else "sell",
        "profit": plain(profit),
        "last_price": plain(desk.engine.mark_price(position.market)),
    }


def coin_account(desk: OrderDesk, account: Account, family: Family, asset: str) -> dict[str, Any]:
    """The margin account of an asset."""
    held = [one for one in desk.positions(account, family) if desk.listing(one).settle == asset]
    profit = sum((unrealized(desk, one) for one in held), ZERO)
    margin = sum((initial_margin(desk, one, account) for one in held), ZERO)
    total = locked = ZERO
    for balance in desk.engine.balances(account):
        if (balance.wallet, balance.asset) == (family, asset):
            total, locked = balance.total, balance.locked
    listing = next(one for one in desk.catalogue.all(family) if one.settle == asset)
    row: dict[str, Any] = {"symbol": asset}
    if family is Family.COIN_SWAP:
        row["contract_code"] = listing.native
    return row | {
        "margin_balance": bare(total + profit),
        "margin_position": bare(margin),
        "margin_frozen": bare(locked - margin),
        "margin_available": bare(total - locked),
        "profit_real": 0,
        "profit_unreal": bare(profit),
        "risk_rate": None,
        "new_risk_rate": "",
        "trade_partition": "",
        "withdraw_available": bare(total - locked),
        "liquidation_price": None,
        "lever_rate": desk.leverage(account, listing),
        "adjust_factor": bare(Decimal("0.2")),
        "margin_static": bare(total),
    }
