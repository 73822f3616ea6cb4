"""`astra trades`: public trades as they happen."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from astra_cli.live import Rate, consume, draw, is_terminal, price_text
from astra_cli.options import common_options, configured_astra, emit, examples, json_option, run

if TYPE_CHECKING:
    from rich.console import RenderableType

    from astra.models.trades import TradeEvent

SHOWN = 25
"""Rows of the live table."""


@click.command(
    epilog=examples(
        "astra trades BINANCE-SPOT-BTC-USDT",
        "astra trades BINANCE-PERP-BTC-USDT BINANCE-SPOT-BTC-USDT --json --count 100",
        "astra trades BINANCE-SPOT-BTC-USDT --seconds 60 > trades.txt",
    )
)
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@json_option(
    "Print one object a line: a trade, {type: GAP} where trades may be missing, {type: LAGGED} where this program was "
    "too slow."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many trades.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@common_options
def trades(symbols: Sequence[str], as_json: bool, count: int | None, seconds: float | None) -> None:
    """Watch public trades live; the side is the taker's.

    On a terminal a table; piped, one line a trade. Ctrl-C ends it (exit code 130); --count and --seconds end it with
    0, or with 6 if nothing came in time.
    """
    if as_json:
        run(_trades, symbols, _event_json, count, seconds)
    else:
        run(_trades, symbols, None if is_terminal() else _line, count, seconds)


async def _trades(
    symbols: Sequence[str], show: Callable[[TradeEvent], str] | None, count: int | None, seconds: float | None
) -> None:
    import anyio

    async with configured_astra() as astra, astra.stream_trades(*symbols) as stream:
        if show is not None:
            await consume(stream, lambda event: emit(show(event)), count, seconds)
            return
        latest: deque[TradeEvent] = deque(maxlen=SHOWN)
        rate = Rate(anyio.current_time())

        def seen(event: TradeEvent) -> None:
            latest.appendleft(event)
            rate.count(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            await tasks.start(draw, lambda: _table(latest, rate.per_second(anyio.current_time())))
            await consume(stream, seen, count, seconds)
            tasks.cancel_scope.cancel()


def _event_json(event: TradeEvent) -> str:
    from astra.models.trades import Gap, Lagged

    message: dict[str, Any]
    match event:
        case Gap():
            message = {
                "type": "GAP",
                "market": event.market,
                "afterId": event.after_id,
                "reason": event.reason,
                "filled": event.filled,
            }
        case Lagged():
            message = {"type": "LAGGED", "market": event.market, "missed": event.missed}
        case _:
            message = {
                "market": event.market,
                "price": event.price,
                "quantity": event.quantity,
                "side": None if event.side is None else event.side.value,
                "time": event.time,
                "id": event.id,
            }
    return json.dumps(message, ensure_ascii=False)


def _cells(event: TradeEvent) -> tuple[str, str, str, str, str]:
    """(time, market, side, price, quantity), or in place of the last three what is missing."""
    from astra.models.trades import Gap, Lagged

    match event:
        case Gap():
            missing = "trades may be missing" if event.filled is None else f"{event.filled} trades filled in"
            return ("", event.market, "GAP", missing, event.reason)
        case Lagged():
            return ("", event.market, "LAGGED", f"{event.missed} trades missed", "")
        case _:
            side = "?" if event.side is None else event.side.value
            return (_time_text(event.time), event.market, side, price_text(event.price), price_text(event.quantity))


def _time_text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def _line(event: TradeEvent) -> str:
    return "  ".join(cell for cell in _cells(event) if cell)


def _table(latest: Sequence[TradeEvent], per_second: float) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, header_style="bold", caption=f"{per_second:.1f} trades/s, times in UTC")
    for name in ("time", "market", "side"):
        table.add_column(name)
    for name in ("price", "quantity"):
        table.add_column(name, justify="right")
    for event in latest:
        cells = _cells(event)
        table.add_row(*cells, style={"BUY": "green", "SELL": "red"}.get(cells[2], "yellow"))
    return table
