"""`astra place`: one order, shown before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from astra_cli.arguments import Moment, PositiveDecimal, account_option, lookup_command, yes_option
from astra_cli.confirmation import confirmed, require_terminal
from astra_cli.exits import ExitCode
from astra_cli.options import common_options, configured_astra, examples, json_option, run
from astra_cli.orderview import ORDER_COLUMNS, describe, order_cells, print_lines, print_table

if TYPE_CHECKING:
    from astra.app import Astra
    from astra.models.markets import Market
    from astra.models.orders import Order, OrderRequest

TYPES = ("limit", "market", "stop-limit", "stop-market", "take-profit-limit", "take-profit-market")
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTD")


def _options(ctx: click.Context, parameter: click.Parameter, given: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not of the form key=value", ctx, parameter)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", ctx, parameter)
        found[name] = value
    return found


@click.command(
    epilog=examples(
        "astra place BINANCE-SPOT-BTC-USDT buy 0.01 --price 64000",
        "astra place BINANCE-SPOT-BTC-USDT buy --type market --quote-quantity 500",
        "astra place BINANCE-PERP-BTC-USD-COINM sell --contracts 3 --price 70000 --post-only",
        "astra place BINANCE-PERP-BTC-USDT sell 0.01 --type stop-market --stop-price 60000 --reduce-only",
        "astra place BINANCE-PERP-BTC-USDT buy 0.01 --price 64000 --option position_side=LONG --yes --json",
    )
)
@click.argument("symbol")
@click.argument("side", type=click.Choice(("buy", "sell"), case_sensitive=False))
@click.argument("quantity", type=PositiveDecimal(), required=False)
@click.option("--contracts", type=PositiveDecimal(), help="The amount in contracts, instead of QUANTITY.")
@click.option(
    "--quote-quantity",
    type=PositiveDecimal(),
    help="The amount in units of the quote asset, instead of QUANTITY (market orders).",
)
@click.option(
    "--type",
    "order_type",
    type=click.Choice(TYPES, case_sensitive=False),
    default="limit",
    show_default=True,
    help="The order's type.",
)
@click.option("--price", type=PositiveDecimal(), help="The limit, in units of the quote asset.")
@click.option("--stop-price", type=PositiveDecimal(), help="The price that triggers a stop or take-profit order.")
@click.option(
    "--time-in-force",
    type=click.Choice(TIMES_IN_FORCE, case_sensitive=False),
    help="How long the order may rest.  [default: the venue's own]",
)
@click.option("--expire-time", type=Moment(), help="When a GTD order ends: ISO 8601 or ms.")
@click.option("--post-only", is_flag=True, help="Refuse the order rather than take from the book.")
@click.option("--reduce-only", is_flag=True, help="Only reduce a position, never open or turn one.")
@click.option("--client-order-id", metavar="ID", help="Your own id, in the venue's format.  [default: a new one]")
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=_options,
    metavar="KEY=VALUE",
    help="An option that only this venue has; may be repeated.",
)
@account_option
@yes_option
@json_option("Print one object: the order, as the venue knows it.")
@common_options
@click.pass_context
def place(ctx: click.Context, /, symbol: str, account: str | None, yes: bool, as_json: bool, **fields: Any) -> None:
    """Place an order. QUANTITY is in units of the base asset.

    Shows on stderr what exactly will be sent, and asks. The market's rules are checked before; nothing is rounded.
    Answered with no it ends with 1, and nothing was sent.

    If the answer of the venue is lost, the order is looked up, never sent again. Exit code 6 says that it may have
    been placed: the message names the command that finds out.
    """
    request = _request(fields)
    require_terminal(yes=yes)
    order = run(_place, symbol, request, account, yes)
    if order is None:
        click.echo("astra: nothing was sent", err=True)
        ctx.exit(ExitCode.FAILED)
    if as_json:
        print_lines([order])
    else:
        print_table(ORDER_COLUMNS, [order_cells(order)], "")
    if order.status.value == "REJECTED":
        ctx.exit(ExitCode.VENUE)


def _request(fields: Mapping[str, Any]) -> OrderRequest:
    """The order that the command line describes. Raises `click.UsageError`."""
    from pydantic import ValidationError

    from astra.models.orders import OrderRequest

    amounts: Sequence[Decimal | None] = [fields[name] for name in ("quantity", "contracts", "quote_quantity")]
    if sum(amount is not None for amount in amounts) != 1:
        raise click.UsageError("give exactly one of QUANTITY, --contracts, --quote-quantity")
    order_type = fields["order_type"].upper().replace("-", "_")
    values = {name: value for name, value in fields.items() if name != "order_type" and value not in (None, {})}
    try:
        return OrderRequest.model_validate(values | {"type": order_type})
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            where = ".".join(str(part) for part in fault["loc"])
            faults.append(f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, "))
    raise click.UsageError("; ".join(faults))


async def _place(symbol: str, request: OrderRequest, account: str | None, yes: bool) -> Order | None:
    """Show, ask, send. None when the answer is no."""
    import anyio

    from astra.credentials import Accounts
    from astra.errors import OrderOutcomeUnknown
    from astra.trading.checks import check_order

    async with configured_astra() as astra:
        market = await astra.market(symbol)
        # What can be known to be wrong is told before anybody is asked: no key, no such option, off the tick.
        accounts = Accounts((), astra.settings, astra.plugins)
        accounts.open_stores()
        credentials = await accounts.credentials(market.exchange, account)
        order = astra.loaded_venues()[market.exchange].prepared(market, request)
        check_order(market, order)
        reference = None if order.price is not None else await _reference(astra, market, order)
        lines = list(describe(market, order, credentials.account, reference))
        width = max(len(name) for name, _ in lines)
        click.echo("The order to be placed:", err=True)
        for name, value in lines:
            click.echo(f"  {name:<{width}}  {value}", err=True)
        if not confirmed("Place it?", yes=yes):
            return None
        find_out = lookup_command(market.symbol, order.client_order_id, account)
        try:
            return await astra.place_order(market.symbol, order, credentials)
        except OrderOutcomeUnknown as error:
            error.add_note(
                f"The order {order.client_order_id} may have been placed: do not place it again. Find out with:\n"
                f"  {find_out}"
            )
            raise
        except anyio.get_cancelled_exc_class():
            click.echo(f"astra: interrupted: the order may have been placed. Find out with:\n  {find_out}", err=True)
            raise


async def _reference(astra: Astra, market: Market, order: OrderRequest) -> Decimal | None:
    """The price that an order without one will roughly execute at, for display only."""
    from astra.errors import VenueError

    if order.stop_price is not None:
        return order.stop_price
    try:
        book = await astra.get_orderbook(market.symbol, depth=5)
    except VenueError:
        return None  # shown as "not known": an estimate must not stand in the order's way
    levels = book.asks if order.side == "BUY" else book.bids
    return Decimal(repr(levels[0][0])) if levels else None
