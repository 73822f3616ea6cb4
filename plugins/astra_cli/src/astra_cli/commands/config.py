"""`astra config`: what the settings are, and where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from astra_cli.options import (
    common_options,
    config_path,
    configured_astra,
    console,
    emit,
    examples,
    json_option,
)

if TYPE_CHECKING:
    from astra.config import Settings
    from astra.plugins import Plugins

Row = tuple[str, str, str]
"""(dotted key, value with secrets as stars, origin)."""


@click.group(epilog=examples("astra config show --origin", "astra config show --all --json"))
def config() -> None:
    """Show the settings and where each comes from.

    Defaults, then astra.toml, then ASTRA_* environment variables, then the command line: the later one wins.
    """


@config.command(
    epilog=examples(
        "astra config show",
        "astra config show --origin",
        "ASTRA_VENUES__BINANCE__REQUEST_TIMEOUT_S=5 astra config show --origin --all",
    )
)
@click.option("--origin", is_flag=True, help="Say where each value comes from: default, file or variable.")
@click.option("--all", "everything", is_flag=True, help="Also what each venue's settings are by default.")
@json_option("Print one JSON array of {key, value, origin}.")
@common_options
def show(origin: bool, everything: bool, as_json: bool) -> None:
    """Print the settings in force. Secrets are shown as stars."""
    from astra.config import load_settings

    settings = load_settings(config_path())
    rows = list(settings.shown())
    if everything:
        known = {key for key, _, _ in rows}
        rows.extend(row for row in _venue_rows(settings, configured_astra().plugins) if row[0] not in known)
    if as_json:
        emit(json.dumps([dict(zip(("key", "value", "origin"), row, strict=True)) for row in rows], indent=1))
        return
    _print_table(rows, origin=origin)


def _venue_rows(settings: Settings, plugins: Plugins) -> Iterator[Row]:
    """The settings of every venue that works, defaults included."""
    from astra.config import shown_value
    from astra.plugins import VENUES, PluginState

    for info in plugins.load_all(VENUES):
        if info.state is PluginState.LOADED:
            model = plugins.load(VENUES, info.name).settings_model
            values = settings.validated(VENUES.removeprefix("astra."), info.name, model).model_dump(mode="json")
            for key, value in _flat(f"venues.{info.name}", values):
                yield key, shown_value(key, value), settings.origin(key)


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", value


def _print_table(rows: Sequence[Row], *, origin: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("key", "value", "origin")[: 3 if origin else 2]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row[: 3 if origin else 2]))
    console().print(table)
