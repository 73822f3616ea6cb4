"""`astra positions`: open derivatives positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.arguments import account_option
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import number, print_lines, print_table

if TYPE_CHECKING:
    from astra.models.accounts import Position

COLUMNS = (
    "market", "side", ">quantity", ">contracts", ">entry", ">mark", ">liquidation", ">unrealized P&L", ">leverage",
    "margin",
)  # fmt: skip


@click.command(
    epilog=examples(
        "astra positions BINANCE",
        "astra positions BINANCE --account hedge",
        "astra positions BINANCE --json | jq '{market, side, quantity, unrealizedPnl}'",
    )
)
@click.argument("exchange")
@account_option
@json_option("Print one object a line: a position.")
@common_options
def positions(exchange: str, account: str | None, as_json: bool) -> None:
    """List the open derivatives positions of an account."""
    found = run(_positions, exchange, account)
    if as_json:
        print_lines(found)
    else:
        print_table(COLUMNS, [_cells(position) for position in found], "no open positions")


async def _positions(exchange: str, account: str | None) -> Sequence[Position]:
    async with configured_astra() as astra:
        return await astra.get_positions(exchange, account)


def _cells(position: Position) -> Sequence[str]:
    return (
        position.market,
        position.side.value,
        number(position.quantity),
        number(position.contracts),
        number(position.entry_price),
        number(position.mark_price),
        number(position.liquidation_price),
        number(position.unrealized_pnl),
        number(position.leverage),
        "" if position.margin_mode is None else position.margin_mode.value,
    )
