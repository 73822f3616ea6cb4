"""Public trades as the venue prints them, and the day's figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from astra.sandbox import Exchange, PublicTrade
from astra_htx.sandbox.catalogue import Listing
from astra_htx.sandbox.wire import Family, bare, double

_MOST = 2000
_MIXED = 500
"""More trades than asked for are looked at, so that the first is not in the middle of an order's."""


def by_taker(trades: Iterable[PublicTrade]) -> list[list[PublicTrade]]:
    """Trades in groups: what one taker order did at once is one frame, one row of the history."""
    groups: list[list[PublicTrade]] = []
    for trade in trades:
        if groups and groups[-1][-1].taker_order_id == trade.taker_order_id:
            groups[-1].append(trade)
        else:
            groups.append([trade])
    return groups


def recent(engine: Exchange, listing: Listing, size: int) -> list[list[PublicTrade]]:
    """The last `size` groups, newest first."""
    groups = by_taker(engine.trades(listing.symbol, limit=min(size, _MOST) + _MIXED))
    return groups[::-1][:size]


def trade_tick(listing: Listing, group: Sequence[PublicTrade], *, texts: bool = False) -> dict[str, Any]:
    """`tick` of a frame, or a row of the history: Spot newest first, derivatives oldest first."""
    tick_id = listing.trade_id(group[0])
    time = group[-1].time
    if listing.family is Family.SPOT:
        rows = [_spot_row(listing, tick_id, trade) for trade in reversed(group)]
    else:
        rows = [_contract_row(listing, tick_id * 10_000 + index, trade, texts) for index, trade in enumerate(group)]
    return {"id": tick_id, "ts": time, "data": rows}


def _spot_row(listing: Listing, tick_id: int, trade: PublicTrade) -> dict[str, Any]:
    """The long `id` is built of the tick's and the maker's order: beyond 64 bits, as raw digits."""
    return {
        "id": msgspec.Raw(f"{tick_id}{listing.order_base + trade.maker_order_id}".encode()),
        "tradeId": listing.trade_id(trade),
        "ts": trade.time,
        "amount": double(trade.quantity),
        "price": double(trade.price),
        "direction": trade.side.lower(),
    }


def _contract_row(listing: Listing, row_id: int, trade: PublicTrade, texts: bool) -> dict[str, Any]:
    """`amount`, `quantity` and `trade_turnover` count both sides of the trade."""
    both = trade.quantity * 2
    figures = {"amount": both, "quantity": listing.worth_base(both, trade.price)}
    if listing.family is Family.LINEAR:
        figures["trade_turnover"] = listing.turnover(both, trade.price)
    row: dict[str, Any] = {name: _figure(value, texts) for name, value in figures.items()}
    row |= {"ts": trade.time, "id": row_id, "price": _figure(trade.price, texts), "direction": trade.side.lower()}
    return row


def _figure(value: Decimal, text: bool) -> Any:
    number = bare(value)
    return bytes(number or b"").decode() if text else number


class Day(msgspec.Struct):
    """A market's figures since the sandbox began (for tickers)."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = Decimal(0)
    """Native units, one side."""
    base: Decimal = Decimal(0)
    turnover: Decimal = Decimal(0)
    count: int = 0


class DayTable:
    """Figures of all markets, from the trades as they happen."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._days: dict[str, Day] = {}

    def heard(self, listing: Listing, trade: PublicTrade) -> None:
        day = self._days.get(trade.market)
        if day is None:
            day = self._days[trade.market] = Day(trade.price, trade.price, trade.price, trade.price)
        day.high, day.low, day.close = max(day.high, trade.price), min(day.low, trade.price), trade.price
        day.volume += trade.quantity
        if listing.family is Family.SPOT:
            day.base += trade.quantity
            day.turnover += trade.quantity * trade.price
        else:
            day.base += listing.worth_base(trade.quantity, trade.price)
            day.turnover += listing.turnover(trade.quantity, trade.price)
        day.count += 1

    def of(self, symbol: str) -> Day:
        found = self._days.get(symbol)
        if found is None:
            price = self._engine.markets[symbol].floor_price(self._engine.mark_price(symbol))
            return Day(price, price, price, price)
        return found


def detail_tick(listing: Listing, day: Day, engine: Exchange, now_ms: int) -> dict[str, Any]:
    """24 h figures: Spot `amount` base and `vol` quote; derivatives `amount` base and `vol` contracts, both doubled."""
    change_id, bids, asks = engine.depth(listing.symbol, 1)
    if listing.family is Family.SPOT:
        number = listing.update_id(change_id)
        return {
            "id": number,
            "low": double(day.low),
            "high": double(day.high),
            "open": double(day.open),
            "close": double(day.close),
            "vol": double(day.turnover),
            "amount": double(day.base),
            "version": number,
            "count": day.count,
        }
    tick: dict[str, Any] = {
        "id": now_ms // 60_000 * 60,
        "mrid": listing.update_id(change_id),
        "open": bare(day.open),
        "close": bare(day.close),
        "high": bare(day.high),
        "low": bare(day.low),
        "amount": bare(day.base * 2),
        "vol": bare(day.volume * 2),
        "count": day.count,
    }
    if listing.family is Family.LINEAR:
        tick["trade_turnover"] = bare(day.turnover * 2)
    for name, best in (("ask", asks), ("bid", bids)):
        tick[name] = [bare(best[0].price), bare(best[0].quantity)] if best else None
    return tick
