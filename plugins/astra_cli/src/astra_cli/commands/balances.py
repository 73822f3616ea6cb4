"""`astra balances`: what an account holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.arguments import account_option
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import number, print_lines, print_table

if TYPE_CHECKING:
    from astra.models.accounts import Balance

COLUMNS = ("wallet", "asset", ">total", ">available", ">locked", ">borrowed")


@click.command(
    epilog=examples(
        "astra balances BINANCE",
        "astra balances BINANCE --account hedge",
        "astra balances BINANCE --json | jq -r 'select(.asset == \"USDT\") | .available'",
    )
)
@click.argument("exchange")
@account_option
@json_option("Print one object a line: what one wallet holds of one asset.")
@common_options
def balances(exchange: str, account: str | None, as_json: bool) -> None:
    """List the balances of all wallets of an account."""
    found = run(_balances, exchange, account)
    if as_json:
        print_lines(found)
    else:
        print_table(COLUMNS, [_cells(balance) for balance in found], "no balances")


async def _balances(exchange: str, account: str | None) -> Sequence[Balance]:
    async with configured_astra() as astra:
        return await astra.get_balances(exchange, account)


def _cells(balance: Balance) -> Sequence[str]:
    amounts = (balance.total, balance.available, balance.locked, balance.borrowed)
    return (balance.wallet, balance.asset, *(number(amount) for amount in amounts))
