"""`astra doctor`: is everything in order on this machine?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_cli.exits import ExitCode
from astra_cli.options import common_options, configured_astra, console, emit, examples, json_option, run

if TYPE_CHECKING:
    from astra_cli.checkup import Finding

COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "red", "SKIP": "bright_black"}


@click.command(
    epilog=examples(
        "astra doctor",
        "astra doctor --exchange BINANCE --timeout 30",
        "astra doctor --json | jq '.[] | select(.status == \"FAIL\")'",
    )
)
@click.option("--exchange", "exchanges", multiple=True, metavar="EXCHANGE", help="Only this venue; may be repeated.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=15.0,
    show_default=True,
    help="Seconds that one check of a venue may take.",
)
@json_option("Print one JSON array of {check, subject, status, finding, ...}.")
@common_options
@click.pass_context
def doctor(ctx: click.Context, exchanges: Sequence[str], timeout_s: float, as_json: bool) -> None:
    """Check plugins, settings, and for each venue: reachability, streams, clock, request limits, API keys.

    Keys are tried with one signed request that only reads (balances). Secrets are never shown. Ends with 0 when
    nothing failed, else with 1. A missing key is no failure: market data needs none.
    """
    from astra_cli.checkup import examine

    findings = run(examine, configured_astra(), list(exchanges), timeout_s)
    if as_json:
        emit(json.dumps([finding.plain() for finding in findings], indent=1, ensure_ascii=False))
    else:
        _print_table(findings)
    if any(finding.status == "FAIL" for finding in findings):
        ctx.exit(ExitCode.FAILED)


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("status", "check", "subject"):
        table.add_column(name, no_wrap=True)
    table.add_column("finding", overflow="fold")
    for finding in findings:
        status = f"[{COLOURS[finding.status]}]{finding.status}[/]"
        table.add_row(status, finding.check, escape(finding.subject), escape(finding.finding))
    console().print(table)
