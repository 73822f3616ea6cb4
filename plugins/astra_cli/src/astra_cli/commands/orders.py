"""`astra orders`: own open orders, or one order by its client order id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.arguments import account_option
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import ORDER_COLUMNS, order_cells, print_lines, print_table

if TYPE_CHECKING:
    from astra.models.orders import Order


@click.command(
    epilog=examples(
        "astra orders BINANCE",
        "astra orders BINANCE-SPOT-BTC-USDT --account hedge",
        "astra orders BINANCE --json | jq -r '.clientOrderId'",
        "astra orders BINANCE-SPOT-BTC-USDT --client-order-id my-order-7",
    )
)
@click.argument("exchange_or_symbol", metavar="EXCHANGE_OR_SYMBOL")
@click.option(
    "--client-order-id",
    metavar="ID",
    help="Find out what became of this one order, open or not (needs a SYMBOL).",
)
@account_option
@json_option("Print one object a line: an order.")
@common_options
def orders(exchange_or_symbol: str, client_order_id: str | None, account: str | None, as_json: bool) -> None:
    """List own open orders of an exchange or a market, conditional ones included.

    With --client-order-id one order of the last 24 hours, whatever became of it. Ends with 5 if it certainly was not
    placed, with 6 if that cannot be told yet: ask again then, and do not place it a second time.
    """
    if client_order_id is None:
        found = run(_open, exchange_or_symbol, account)
    elif "-" in exchange_or_symbol:
        found = [run(_one, exchange_or_symbol, client_order_id, account)]
    else:
        raise click.UsageError(f"--client-order-id needs the market's symbol, not the exchange {exchange_or_symbol}")
    if as_json:
        print_lines(found)
    else:
        print_table(ORDER_COLUMNS, [order_cells(order) for order in found], "no open orders")


async def _open(exchange_or_symbol: str, account: str | None) -> Sequence[Order]:
    async with configured_astra() as astra:
        return await astra.list_orders(exchange_or_symbol, account)


async def _one(symbol: str, client_order_id: str, account: str | None) -> Order:
    from astra.errors import OrderNotFound

    async with configured_astra() as astra:
        order = await astra.resolve_order(symbol, client_order_id, credentials=account)
        if order is None:
            exchange = (await astra.market(symbol)).exchange
            raise OrderNotFound(
                f"{symbol}: no order {client_order_id} was placed in the last 24 hours", exchange=exchange
            )
        return order
