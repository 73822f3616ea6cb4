"""`astra book`: live order books."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from astra_cli.live import age_text, consume, draw, is_terminal, price_text
from astra_cli.options import common_options, configured_astra, emit, examples, json_option, run

if TYPE_CHECKING:
    from rich.console import RenderableType

    from astra.models.orderbook import Level, OrderbookUpdate
    from astra.streams.hub import LiveBook
    from astra.streams.stream import MarketStream

    BookStream = MarketStream[OrderbookUpdate]
    Show = Callable[[BookStream, OrderbookUpdate], str]

DEFAULT_DEPTH = 10


@click.command(
    epilog=examples(
        "astra book BINANCE-SPOT-BTC-USDT",
        "astra book BINANCE-SPOT-BTC-USDT BINANCE-PERP-BTC-USDT --depth 5",
        "astra book BINANCE-SPOT-BTC-USDT --json --count 100 > updates.jsonl",
        "astra book BINANCE-SPOT-BTC-USDT --json --depth 1 --seconds 60",
    )
)
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--depth", type=click.IntRange(1, 5000), help=f"Levels a side.  [default: {DEFAULT_DEPTH}]")
@json_option(
    "Print one object a line: every update, as the WebSocket API sends it; "
    "with --depth the best levels after every update."
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many updates.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@common_options
def book(symbols: Sequence[str], depth: int | None, as_json: bool, count: int | None, seconds: float | None) -> None:
    """Watch order books live.

    On a terminal a table; piped, one line an update. Ctrl-C ends it (exit code 130); --count and --seconds end it with
    0, or with 6 if nothing came in time.
    """
    show: Show | None
    if as_json:
        show = _update_json if depth is None else partial(_best_json, depth)
    else:
        show = None if is_terminal() else _line
    run(_book, symbols, depth or DEFAULT_DEPTH, show, count, seconds)


async def _book(
    symbols: Sequence[str], depth: int, show: Show | None, count: int | None, seconds: float | None
) -> None:
    import anyio

    async with configured_astra() as astra, astra.stream_orderbook(*symbols) as stream:
        if show is not None:
            await consume(stream, lambda update: emit(show(stream, update)), count, seconds)
            return
        async with anyio.create_task_group() as tasks:
            await tasks.start(draw, lambda: _tables([stream.book(symbol) for symbol in stream.symbols], depth))
            await consume(stream, lambda update: None, count, seconds)
            tasks.cancel_scope.cancel()


def _levels(levels: Iterable[Level]) -> list[dict[str, float]]:
    return [{"price": price, "quantity": quantity} for price, quantity in levels]


def _update_json(stream: BookStream, update: OrderbookUpdate) -> str:
    message: dict[str, Any] = {
        "updateId": update.update_id,
        "bids": _levels(update.bids),
        "asks": _levels(update.asks),
        "type": update.kind.value,
        "market": update.market,
        "time": update.time,
    }
    if update.reason is not None:
        message["reason"] = update.reason
    return json.dumps(message, ensure_ascii=False)


def _best_json(depth: int, stream: BookStream, update: OrderbookUpdate) -> str:
    book = stream.book(update.market)
    return json.dumps(
        {
            "market": update.market,
            "state": book.state.value,
            "updateId": book.update_id,
            "bids": _levels(book.bids(depth)),
            "asks": _levels(book.asks(depth)),
            "time": book.time,
        },
        ensure_ascii=False,
    )


def _line(stream: BookStream, update: OrderbookUpdate) -> str:
    book = stream.book(update.market)
    bid, ask = (_level_text(level) for level in (book.best_bid, book.best_ask))
    return f"{update.market}  {book.state.value}  bid {bid}  ask {ask}"


def _level_text(level: Level | None) -> str:
    return "-" if level is None else f"{price_text(level[0])} x {price_text(level[1])}"


def _tables(books: Sequence[LiveBook], depth: int) -> RenderableType:
    from rich.columns import Columns

    return Columns([_table(book, depth) for book in books])


def _table(book: LiveBook, depth: int) -> RenderableType:
    from rich.table import Table

    state = book.state.value
    colour = {"LIVE": "green", "SYNCING": "yellow"}.get(state, "red")
    table = Table(
        title=f"{book.market}  [{colour}]{state}[/]  {age_text(book.age_s)}",
        caption=f"update {book.update_id}",
        header_style="bold",
    )
    for name, style in (("quantity", ""), ("bid", "green"), ("ask", "red"), ("quantity", "")):
        table.add_column(name, justify="right", style=style)
    empty: Level | None = None
    for bid, ask in zip_longest(book.bids(depth), book.asks(depth), fillvalue=empty):
        table.add_row(
            *(("", "") if bid is None else (price_text(bid[1]), price_text(bid[0]))),
            *(("", "") if ask is None else (price_text(ask[0]), price_text(ask[1]))),
        )
    return table
