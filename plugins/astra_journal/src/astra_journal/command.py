"""`astra journal`: what was sent, what came of it, and what nobody knows yet."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from astra_journal.reader import Command

EPILOG = """\b
Examples:
  astra journal                                  the last 50 commands
  astra journal --open                           commands whose outcome is not known
  astra journal --exchange BINANCE --since 2026-01-31T09:00 --json | jq .outcome
  astra journal --settle 1204 --because "not at the venue, looked by hand"

\b
Exit codes:
  0    done
  1    there is no journal, or it cannot be read or written
  2    wrong command line
  3    a setting is unknown or malformed
"""


@click.command(epilog=EPILOG)
@click.option("--open", "only_open", is_flag=True, help="Only commands whose outcome is not known.")
@click.option("--exchange", metavar="CODE", help="Only commands at this exchange.")
@click.option("--since", metavar="TIME", help="Only from this moment on: 2026-01-31 or 2026-01-31T09:00 (UTC).")
@click.option(
    "--last", type=click.IntRange(min=0), default=50, show_default=True, help="So many of the newest; 0: all."
)
@click.option("--settle", type=click.IntRange(min=1), metavar="NUMBER", help="Close an open command by hand.")
@click.option("--because", metavar="TEXT", help="Why it is closed; kept in the journal.")
@click.option("--file", type=click.Path(path_type=Path), help="This journal instead of the configured one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, requests and answers included.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Read this astra.toml instead of the one in the working directory.",
)
@click.pass_context
def journal(
    context: click.Context,
    only_open: bool,
    exchange: str | None,
    since: str | None,
    last: int,
    settle: int | None,
    because: str | None,
    file: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Show the journal of commands, with what became of each.

    State OPEN: the process that sent it is gone without an answer. UNKNOWN: the venue's answer was lost. The next start
    resolves placements among them; others are closed by --settle once you have looked at the account.
    """
    from astra.directory import canonical_exchange
    from astra_journal.reader import Journal

    path = file or _configured(config or (context.find_object(dict) or {}).get("config"))
    if (settle is None) != (because is None):
        raise click.UsageError("--settle and --because go together: closing a command by hand needs its reason")
    if settle is not None and because is not None:
        _settle(path, settle, because)
        return
    began = None if since is None else _moment(since)
    code = None if exchange is None else canonical_exchange(exchange.upper())
    with Journal(path) as opened:
        if only_open:
            found: Iterable[Command] = (
                command
                for command in opened.open_commands()
                if code in (None, command.sent.exchange) and command.sent.time_ns >= (began or 0)
            )
        else:
            found = opened.commands(since=began, exchange=code, last=last or None)
        for command in found:
            click.echo(json.dumps(_plain(command), ensure_ascii=False) if as_json else _line(command))


def _configured(config: Path | None) -> Path:
    from astra.config import load_settings
    from astra_journal.settings import JournalSettings

    return load_settings(config).validated("middleware", "journal", JournalSettings).path


def _moment(text: str) -> int:
    """A moment in ns since the epoch."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment such as 2026-01-31T09:00", param_hint="--since") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _iso(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03}Z"


def _plain(command: Command) -> dict[str, Any]:
    """A command as one JSON object."""
    sent, outcome = command.sent, command.outcome
    return {
        "seq": sent.seq,
        "time": _iso(sent.time_ns),
        "timeNs": sent.time_ns,
        "pid": command.pid,
        "state": command.state.value,
        "operation": sent.operation,
        "exchange": sent.exchange,
        "account": sent.account,
        "market": sent.market,
        "clientOrderId": sent.client_order_id,
        "orderId": sent.order_id or (outcome.order_id if outcome else None),
        "request": sent.body,
        "outcome": None
        if outcome is None
        else {"kind": outcome.kind.value, "timeNs": outcome.time_ns, "body": outcome.body},
    }


def _line(command: Command) -> str:
    """A command as one line for people."""
    sent = command.sent
    where = sent.market or sent.exchange
    name = sent.client_order_id or sent.order_id or ""
    parts = (
        f"{sent.seq:>6}",
        _iso(sent.time_ns),
        f"{command.state.value:<9}",
        f"{sent.operation:<17}",
        where,
        name,
        _request(sent.body),
        _outcome(command),
    )
    return "  ".join(part for part in parts if part)


def _request(body: Any) -> str:
    order = body.get("order")
    if order is None:
        change = body.get("change") or {}
        values = {**change, **{name: body[name] for name in ("leverage", "mode", "hedge", "timeoutS") if name in body}}
        return " ".join(f"{name}={value}" for name, value in values.items())
    amount = order.get("quantity") or order.get("contracts") or order.get("quoteQuantity")
    price = f" at {order['price']}" if "price" in order else ""
    return f"{order['side']} {order['type']} {amount}{price}"


def _outcome(command: Command) -> str:
    if command.outcome is None:
        return f"no answer (process {command.pid})"
    body = command.outcome.body
    if "error" in body:
        return f"{body['error']}: {body.get('message', '')}".rstrip(": ")
    if "because" in body:
        return f"closed by hand: {body['because']}"
    if body.get("placed") is False:
        return "was not placed"
    order = body.get("order")
    return "" if order is None else f"{order['status']} (order {order.get('id')})"


def _settle(path: Path, seq: int, because: str) -> None:
    import anyio

    from astra.net.clock import SystemClock
    from astra_journal.reader import Journal
    from astra_journal.writer import JournalWriter, settlement

    with Journal(path) as opened:
        left = {command.sent.seq: command for command in opened.open_commands()}
    if seq not in left:
        known = ", ".join(str(number) for number in left) or "none"
        raise click.BadParameter(f"command {seq} is not open. Open: {known}", param_hint="--settle")

    async def write() -> None:
        clock = SystemClock()
        writer = JournalWriter(path)
        await writer.open(clock.wall_ns())
        try:
            await writer.append([await settlement(writer, seq, because, clock.wall_ns())])
        finally:
            await writer.close()

    anyio.run(write)
    click.echo(f"command {seq} is closed")
