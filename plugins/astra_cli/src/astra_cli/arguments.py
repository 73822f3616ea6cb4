"""Arguments of the commands that concern an account: exact decimals, moments, the account itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import click

from astra_cli.options import config_path

Function = TypeVar("Function", bound=Callable[..., Any])

_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_EARLIEST_MS = 10**11
"""Smaller numbers (before 1973 in ms) are seconds, or dates without dashes: no moment that anybody means in ms."""


class PositiveDecimal(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2 only
    """A price or quantity, taken from its text digit by digit. No exponents, no separators: what is typed is sent."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        if isinstance(value, Decimal):
            return value
        if not _PLAIN.fullmatch(value):
            self.fail(f"{value!r} is not a plain positive number such as 0.01 or 64000", param, ctx)
        number = Decimal(value)
        if not number:
            self.fail(f"{value!r} must be more than zero", param, ctx)
        return number


class Moment(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2 only
    """A time as milliseconds since the epoch: given as that, or as ISO 8601 (UTC unless it names an offset)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if re.fullmatch(r"[0-9]+", value):
            milliseconds = int(value)
            if milliseconds < _EARLIEST_MS:
                self.fail(f"{value} is no time in milliseconds since the epoch (13 digits today)", param, ctx)
            return milliseconds
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither ISO 8601 (2026-12-25T08:00:00Z) nor milliseconds since the epoch", param, ctx
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)


def account_option(function: Function) -> Function:
    """`--account`, whose keys are used."""
    return click.option(
        "--account", metavar="NAME", help="Use the keys of this configured account.  [default: default]"
    )(function)


def yes_option(function: Function) -> Function:
    """`--yes`, for those who have no one to ask."""
    return click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal to ask at.")(
        function
    )


def lookup_command(exchange_or_symbol: str, client_order_id: str | None, account: str | None) -> str:
    """The command line that shows what became of an order, ready to be pasted."""
    parts = ["astra", "orders", exchange_or_symbol]
    if client_order_id is not None:
        parts += ["--client-order-id", client_order_id]
    if account is not None:
        parts += ["--account", account]
    if (config := config_path()) is not None:
        parts += ["--config", str(config)]
    return shlex.join(parts)
