"""`astra markets`: what can be traded at an exchange, in which steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.options import common_options, configured_astra, console, emit, examples, json_option, run

if TYPE_CHECKING:
    from astra.models.markets import Market

ASSET_TYPES = ("SPOT", "PERP", "FUT", "OPT")


@click.command(
    epilog=examples(
        "astra markets BINANCE",
        "astra markets BINANCE --type PERP",
        "astra markets BINANCE --json | jq -r '.[].symbol'",
    )
)
@click.argument("exchange")
@click.option(
    "--type",
    "asset_type",
    type=click.Choice(ASSET_TYPES, case_sensitive=False),
    help="Only markets of this kind.",
)
@json_option("Print one JSON array, as GET /markets answers.")
@common_options
def markets(exchange: str, asset_type: str | None, as_json: bool) -> None:
    """List the markets of an exchange with their tick and lot sizes."""
    found = [
        market
        for market in run(_markets, exchange)
        if asset_type is None or market.asset_type.value == asset_type.upper()
    ]
    if as_json:
        emit("[" + ",\n".join(market.model_dump_json(exclude_none=True) for market in found) + "]")
    else:
        _print_table(found)


async def _markets(exchange: str) -> Sequence[Market]:
    async with configured_astra() as astra:
        return await astra.list_markets(exchange)


def _print_table(markets: Sequence[Market]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("symbol", "type", "base", "quote", "margin", "status"):
        table.add_column(name)
    for name in ("tick", "lot", "min quantity", "min notional", "contract size"):
        table.add_column(name, justify="right")
    for market in markets:
        steps = (market.tick_size, market.lot_size, market.min_quantity, market.min_notional, market.contract_size)
        table.add_row(
            market.symbol,
            market.asset_type.value,
            market.base_asset,
            market.quote_asset,
            market.margin_asset or "",
            market.status.value,
            *("" if step is None else format(step, "f") for step in steps),
        )
    console().print(table)
