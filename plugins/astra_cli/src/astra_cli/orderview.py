"""Orders as text: an order that is about to be sent, and tables of what the venue tells of an account."""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from astra_cli.options import console, emit

if TYPE_CHECKING:
    from pydantic import BaseModel

    from astra.models.markets import Market
    from astra.models.orders import Order, OrderRequest

Line = tuple[str, str]
"""(name, value)."""

_EXACT = decimal.Context(prec=320)
"""Exact for products of everything that `check_order` lets pass, as there."""
_SHOWN_DIGITS = 10
"""Significant digits of what is only estimated."""


def number(value: Decimal | None) -> str:
    """A decimal as plain text, "" for None."""
    from astra.models.base import decimal_text

    return "" if value is None else decimal_text(value)


def moment(time_ms: int | None) -> str:
    """A time in UTC, to the millisecond."""
    if time_ms is None:
        return ""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def describe(market: Market, order: OrderRequest, account: str, reference: Decimal | None) -> Iterator[Line]:
    """Everything that will be sent, line by line, and what it is worth.

    The order is prepared and checked. `reference` is the price that an order without one will roughly execute at
    (None: not known); what follows from it is marked "about".
    """
    yield "exchange", market.exchange
    yield "account", account
    yield "market", f"{market.symbol} ({market.product} {market.native_symbol})"
    yield "side", order.side.value
    yield "type", order.type.value
    yield from _amounts(market, order, reference)
    if order.time_in_force is not None:
        yield "time in force", order.time_in_force.value
    elif order.type.has_price:
        yield "time in force", "the venue's default"
    if order.expire_time is not None:
        yield "expires", moment(order.expire_time)
    if order.post_only:
        yield "post-only", "yes"
    if order.reduce_only:
        yield "reduce-only", "yes"
    if isinstance(options := order.options, dict):
        yield from ((f"option {name}", str(value)) for name, value in options.items())
    elif options is not None:
        for name, value in options.model_dump(mode="json", by_alias=False, exclude_unset=True).items():
            yield f"option {name}", str(value)
    yield "client order id", order.client_order_id or ""


def _amounts(market: Market, order: OrderRequest, reference: Decimal | None) -> Iterator[Line]:
    """Quantity in base units, contracts, prices, and the notional in quote units."""
    from astra.trading.checks import native_quantity

    base, quote = market.base_asset, market.quote_asset
    price = order.price or reference
    about = "" if order.price is not None else "about "
    notional: Decimal | None
    if order.quote_quantity is not None:
        notional, told = order.quote_quantity, ""
        yield "quantity", f"as much {base} as {number(notional)} {quote} {'buys' if order.side == 'BUY' else 'takes'}"
    else:
        native = native_quantity(market, order)
        size = market.contract_size
        sized = native if size is None else _EXACT.multiply(native, size)
        if market.is_inverse:
            notional, told = sized, ""
            yield "quantity", f"about {_rounded(sized / price)} {base}" if price else f"not known in {base}"
        else:
            notional, told = None if price is None else _EXACT.multiply(sized, price), about
            yield "quantity", f"{number(sized)} {base}"
        if size is not None:
            yield "contracts", f"{number(native)} of {number(size)} {quote if market.is_inverse else base}"
    yield "price", f"{number(order.price)} {quote}" if order.price is not None else "the market's"
    if order.stop_price is not None:
        yield "stop price", f"{number(order.stop_price)} {quote}"
    worth = "not known" if notional is None else f"{told}{_rounded(notional) if told else number(notional)} {quote}"
    yield "notional", worth


def _rounded(value: Decimal) -> str:
    return number(decimal.Context(prec=_SHOWN_DIGITS).plus(value))


def order_cells(order: Order) -> Sequence[str]:
    """A row of `ORDER_COLUMNS`."""
    in_contracts = order.quantity is None and order.contracts is not None
    quantity, filled = (
        (order.contracts, order.filled_contracts) if in_contracts else (order.quantity, order.filled_quantity)
    )
    return (
        moment(order.created_time or order.updated_time),
        order.market,
        order.side.value,
        order.type.value,
        _amount(quantity, order.quote_quantity, in_contracts=in_contracts),
        number(filled),
        number(order.price),
        number(order.stop_price),
        number(order.average_price),
        order.status.value,
        order.id or "",
        order.client_order_id or "",
    )


def _amount(quantity: Decimal | None, quote_quantity: Decimal | None, *, in_contracts: bool) -> str:
    if quantity is None:
        return "" if quote_quantity is None else f"{number(quote_quantity)} quote"
    return f"{number(quantity)} contracts" if in_contracts else number(quantity)


ORDER_COLUMNS = (
    "time", "market", "side", "type", ">quantity", ">filled", ">price", ">stop price", ">average", "status", "id",
    "client order id",
)  # fmt: skip
"""Of a table of orders; ">" aligns a column to the right."""


def print_lines(models: Sequence[BaseModel]) -> None:
    """One JSON object a line, in the fields of the REST API; what the venue does not tell is left out."""
    for model in models:
        emit(model.model_dump_json(exclude_none=True))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], nothing: str, *, to_stderr: bool = False
) -> None:
    """A table, or the sentence `nothing`."""
    from rich.markup import escape
    from rich.table import Table

    out = console(to_stderr=to_stderr, wide=True)  # ids are copied from here: in one piece, however narrow it is
    if not rows:
        out.print(nothing)
        return
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out.print(table)
