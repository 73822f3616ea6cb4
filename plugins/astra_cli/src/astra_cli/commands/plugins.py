"""`astra plugins`: what is installed, whether it works, and what each venue can do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from astra_cli.options import common_options, configured_astra, console, emit, examples, json_option

if TYPE_CHECKING:
    from astra.plugins import PluginInfo, Plugins

STATE_COLOURS = {"LOADED": "green", "BLOCKED": "yellow", "INSTALLED": "yellow"}


@click.command(
    epilog=examples(
        "astra plugins",
        "astra plugins --json | jq '.[] | select(.state == \"FAILED\")'",
        "ASTRA_PLUGINS_BLOCK=BINANCE astra plugins",
    )
)
@json_option("Print one JSON array with everything, each venue's hooks included.")
@common_options
def plugins(as_json: bool) -> None:
    """List the installed plugins, their state, and what each venue can do.

    Plugins are imported to see whether they work. A broken one is shown with its reason and changes nothing else.
    """
    rows = inspected(configured_astra().plugins)
    if as_json:
        emit(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _print_tables(rows)


def inspected(plugins: Plugins) -> Sequence[dict[str, Any]]:
    """Every installed plugin, imported where it can be, as plain values."""
    from astra.plugins import GROUPS

    return [_plain(plugins, info) for group in GROUPS for info in plugins.load_all(group)]


def _plain(plugins: Plugins, info: PluginInfo) -> dict[str, Any]:
    from astra.plugins import VENUES, PluginState, capabilities

    row: dict[str, Any] = {
        "name": info.name,
        "group": info.group,
        "distribution": info.distribution,
        "version": info.version,
        "apiVersion": info.api_version,
        "products": None,
        "state": info.state.value,
        "reason": info.reason,
        "hooks": None,
    }
    if info.group == VENUES and info.state is PluginState.LOADED:
        venue = plugins.load(info.group, info.name)
        row["products"] = list(getattr(venue, "products", ()))
        row["hooks"] = capabilities(venue)
    return row


def _print_tables(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from astra.directory import known_venues
    from astra.plugins import VENUES

    out = console()
    table = Table(box=None, header_style="bold")
    for name in ("plugin", "kind", "distribution", "version", "API", "state", "products"):
        table.add_column(name)
    for row in rows:
        colour = STATE_COLOURS.get(row["state"], "red")
        table.add_row(
            row["name"],
            row["group"].removeprefix("astra."),
            row["distribution"] or "?",
            row["version"] or "?",
            row["apiVersion"] or "",
            f"[{colour}]{row['state']}[/]",
            ", ".join(row["products"] or ()),
        )
    out.print(table)
    for row in rows:
        if row["reason"]:
            out.print(f"\n[bold]{escape(row['name'])}[/] {row['state']}: {escape(row['reason'])}", soft_wrap=True)
    venues = [row for row in rows if row["hooks"]]
    if venues:
        out.print()
        out.print(_capability_table(venues))
    installed = {row["name"] for row in rows if row["group"] == VENUES}
    absent = [f"{code} ({distribution})" for code, distribution in known_venues().items() if code not in installed]
    if absent:
        out.print(f"\nKnown venues that are not installed: {', '.join(absent)}", soft_wrap=True)


def _capability_table(venues: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("operation")
    for venue in venues:
        table.add_column(venue["name"], justify="center")
    for hook in venues[0]["hooks"]:
        table.add_row(hook, *("[green]yes[/]" if venue["hooks"][hook] else "-" for venue in venues))
    return table
