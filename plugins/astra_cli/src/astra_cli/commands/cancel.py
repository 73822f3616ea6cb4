"""`astra cancel`: one order, or all of a market or an exchange, shown before they are canceled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.arguments import account_option, lookup_command, yes_option
from astra_cli.confirmation import confirmed, require_terminal
from astra_cli.exits import ExitCode
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import ORDER_COLUMNS, order_cells, print_lines, print_table

if TYPE_CHECKING:
    from astra.app import Astra
    from astra.models.orders import Order


@click.command(
    epilog=examples(
        "astra cancel BINANCE-SPOT-BTC-USDT --client-order-id my-order-7",
        "astra cancel BINANCE-SPOT-BTC-USDT --id 4711 --yes --json",
        "astra cancel BINANCE-SPOT-BTC-USDT --all",
        "astra cancel BINANCE --all --yes",
    )
)
@click.argument("exchange_or_symbol", metavar="SYMBOL|EXCHANGE")
@click.option("--id", "order_id", metavar="ID", help="The order with this id of the venue.")
@click.option("--client-order-id", metavar="ID", help="The order with this client order id.")
@click.option("--all", "everything", is_flag=True, help="All open orders of the market, or of the exchange.")
@account_option
@yes_option
@json_option("Print one object: the order as it ended. With --all one object a line.")
@common_options
@click.pass_context
def cancel(
    ctx: click.Context,
    exchange_or_symbol: str,
    order_id: str | None,
    client_order_id: str | None,
    everything: bool,
    account: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel an order, or all orders of a market or an exchange.

    Shows on stderr what will be canceled, and asks. Answered with no it ends with 1, and nothing was sent. Orders that
    cannot be shown are canceled all the same: what concerns them is decided by the venue.
    """
    if (order_id is not None) + (client_order_id is not None) + everything != 1:
        raise click.UsageError("give exactly one of --id, --client-order-id, --all")
    if not everything and "-" not in exchange_or_symbol:
        raise click.UsageError(f"one order needs its market's symbol, not the exchange {exchange_or_symbol}")
    if not everything and not (order_id or client_order_id):
        raise click.UsageError("the order's id must not be empty")
    require_terminal(yes=yes)
    if everything:
        canceled = run(_cancel_all, exchange_or_symbol, account, yes)
    else:
        canceled = run(_cancel_one, exchange_or_symbol, order_id, client_order_id, account, yes)
    if canceled is None:
        click.echo("astra: nothing was sent", err=True)
        ctx.exit(ExitCode.FAILED)
    if as_json:
        print_lines(canceled)
    else:
        print_table(
            ORDER_COLUMNS,
            [order_cells(order) for order in canceled],
            "done; the venue does not say which orders were canceled",
        )


async def _cancel_one(
    symbol: str, order_id: str | None, client_order_id: str | None, account: str | None, yes: bool
) -> Sequence[Order] | None:
    """Show, ask, cancel. None when the answer is no."""
    from astra.errors import OrderNotFound, OrderOutcomeUnknown

    async with configured_astra() as astra:
        symbol = (await astra.market(symbol)).symbol
        found = await _shown(astra, symbol, order_id, client_order_id, account, "the order")
        if found and found[0].status.is_final:
            raise OrderNotFound(
                f"{symbol}: the order is {found[0].status}, there is nothing to cancel", exchange=symbol.split("-")[0]
            )
        if not confirmed("Cancel it?", yes=yes):
            return None
        try:
            return [await astra.cancel_order(symbol, client_order_id=client_order_id, id=order_id, credentials=account)]
        except OrderOutcomeUnknown as error:
            known = client_order_id or (found[0].client_order_id if found else None)
            _advise(error, lookup_command(symbol, known, account))
            raise


async def _cancel_all(exchange_or_symbol: str, account: str | None, yes: bool) -> Sequence[Order] | None:
    """Show, ask, cancel. None when the answer is no."""
    from astra.errors import OrderOutcomeUnknown

    async with configured_astra() as astra:
        if "-" in exchange_or_symbol:
            exchange_or_symbol = (await astra.market(exchange_or_symbol)).symbol
        await _shown(astra, exchange_or_symbol, None, None, account, "the orders")
        if not confirmed(f"Cancel all open orders of {exchange_or_symbol}?", yes=yes):
            return None
        try:
            return await astra.cancel_all_orders(exchange_or_symbol, account)
        except OrderOutcomeUnknown as error:
            _advise(error, lookup_command(exchange_or_symbol, None, account))
            raise


async def _shown(
    astra: Astra,
    exchange_or_symbol: str,
    order_id: str | None,
    client_order_id: str | None,
    account: str | None,
    what: str,
) -> Sequence[Order]:
    """Print what will be canceled, and give it.

    A look-up that the venue fails is said aloud and keeps nobody from canceling: an order of this moment may not be
    listed yet, and a venue in trouble is where one wants to cancel. Keys that are not accepted end it here.
    """
    from astra.errors import AuthenticationError, PermissionDenied, VenueError

    try:
        if order_id is None and client_order_id is None:
            found = await astra.list_orders(exchange_or_symbol, account)
        else:
            found = [
                await astra.get_order(
                    exchange_or_symbol, client_order_id=client_order_id, id=order_id, credentials=account
                )
            ]
    except (AuthenticationError, PermissionDenied):
        raise
    except VenueError as error:
        click.echo(f"To be canceled: {what} (could not be shown: {error})", err=True)
        return []
    click.echo(f"To be canceled, account {account or 'default'}:", err=True)
    rows = [order_cells(order) for order in found]
    print_table(ORDER_COLUMNS, rows, f"no open orders of {exchange_or_symbol} are listed", to_stderr=True)
    return found


def _advise(error: Exception, find_out: str) -> None:
    error.add_note(f"It may have been canceled. Find out with:\n  {find_out}")
