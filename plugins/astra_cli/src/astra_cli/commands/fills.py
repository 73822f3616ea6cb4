"""`astra fills`: own executions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.arguments import Moment, account_option
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import moment, number, print_lines, print_table

if TYPE_CHECKING:
    from astra.models.orders import Fill

COLUMNS = ("time", "market", "side", ">price", ">quantity", ">contracts", ">fee", "liquidity", "id", "order id")


@click.command(
    epilog=examples(
        "astra fills BINANCE-SPOT-BTC-USDT",
        "astra fills BINANCE-PERP-BTC-USDT --since 2026-12-25T08:00:00Z --limit 100",
        "astra fills BINANCE-SPOT-BTC-USDT --since 1766649600000 --json > fills.jsonl",
    )
)
@click.argument("exchange_or_symbol", metavar="EXCHANGE_OR_SYMBOL")
@click.option(
    "--since",
    type=Moment(),
    help="From this time on: ISO 8601 (UTC unless it names an offset) or ms.  [default: the venue's own window]",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@account_option
@json_option("Print one object a line: a fill.")
@common_options
def fills(exchange_or_symbol: str, since: int | None, limit: int | None, account: str | None, as_json: bool) -> None:
    """List own fills of a market, or of an exchange where the venue lists them so; oldest first, times in UTC."""
    found = run(_fills, exchange_or_symbol, since, limit, account)
    if as_json:
        print_lines(found)
    else:
        print_table(COLUMNS, [_cells(fill) for fill in found], "no fills")


async def _fills(exchange_or_symbol: str, since: int | None, limit: int | None, account: str | None) -> Sequence[Fill]:
    async with configured_astra() as astra:
        return await astra.list_fills(exchange_or_symbol, since, limit, account)


def _cells(fill: Fill) -> Sequence[str]:
    return (
        moment(fill.time),
        fill.market,
        fill.side.value,
        number(fill.price),
        number(fill.quantity),
        number(fill.contracts),
        f"{number(fill.fee)} {fill.fee_asset or ''}".strip(),
        "" if fill.liquidity is None else fill.liquidity.value,
        fill.id,
        fill.order_id or "",
    )
