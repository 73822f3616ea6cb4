"""`astra demo`: everything at once, without keys or network."""

from __future__ import annotations

from collections.abc import Sequence

import click

from astra_cli.options import common_options, examples, json_option, run

JSON_SECONDS = 15.0


@click.command(
    epilog=examples(
        "astra demo",
        "astra demo --seconds 20 --json | jq '.venues[].products'",
        "astra demo --exchange BINANCE --markets 5 --port 9000",
    )
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@json_option(f"Print one JSON object at the end (after {JSON_SECONDS:g} s unless --seconds says otherwise).")
@click.option("--exchange", "exchanges", multiple=True, metavar="EXCHANGE", help="Only this venue; may be repeated.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The gateway's port.")
@click.option(
    "--markets",
    type=click.IntRange(min=1),
    show_default="2, or 1 where the table would not fit the terminal",
    help="Markets shown of each product of each venue.",
)
@common_options
@click.pass_context
def demo(
    ctx: click.Context, seconds: float | None, as_json: bool, exchanges: Sequence[str], port: int, markets: int | None
) -> None:
    """Run Astra against the sandbox of every installed venue.

    Starts the venues' sandboxes (their own protocols, on loopback), points the venue plugins at them, serves the
    gateway on 127.0.0.1 and watches it as a client would, over WebSocket. Needs no keys and no network, and leaves
    nothing behind. A venue of which only the sandbox is installed is left out, and named.

    With --seconds the exit code says whether at the end every product of every venue was live and had delivered book
    updates and trades within the last 5 seconds: 0 if so, else 1 with what was missing. Ctrl-C ends it with 130.
    """
    from astra_cli.demonstration import demonstrate

    seconds = seconds or (JSON_SECONDS if as_json else None)
    ctx.exit(run(demonstrate, list(exchanges), markets, port, seconds, as_json))
