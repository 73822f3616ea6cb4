"""What `astra demo` shows to people: who takes part, how to talk to the gateway, and a table of what comes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from astra_cli.live import age_text, price_text
from astra_cli.options import emit
from astra_cli.tally import Tally

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADER = "x-astra-api-key"
FRAME_ROWS = 3
"""Rows of a terminal that are not markets: summary, headings, and the cursor's."""
WIDE = 120
"""Columns of a terminal from which on all columns of the table fit."""
OTHERS_WIDE = 50
"""What the other columns need on a narrower one; the market's name gets the rest."""
COLOURS = {"LIVE": "green", "SYNCING": "yellow"}


class Gateway(NamedTuple):
    """Where the gateway is, and a key for it."""

    url: str
    metrics_url: str | None
    key: str


class Cast(NamedTuple):
    """Who takes part."""

    exchanges: Sequence[str]
    left_out: Mapping[str, str]
    """Exchange -> why it takes no part."""
    problems: Sequence[str]
    """Plugins that are installed and broken."""


def introduce(cast: Cast, markets: Mapping[str, str], gateway: Gateway, port: int) -> None:
    """What is running, and how to talk to it."""
    header = f"{HEADER}: Bearer {gateway.key}"
    symbol = next(iter(markets))
    socket = f"{gateway.url.replace('http', 'ws', 1)}/ws?market={symbol}&dataType=ORDERBOOK"
    client = (
        "from websockets.sync.client import connect; "
        f"[print(m) for m in connect('{socket}', additional_headers={{'{HEADER}': 'Bearer {gateway.key}'}})]"
    )
    taken = "" if gateway.url.endswith(f":{port}") or not port else f"  (port {port} is in use)"
    emit(f"Sandboxes  {', '.join(cast.exchanges)}: the venues' own protocols on loopback, no keys, no network")
    for exchange, reason in cast.left_out.items():
        emit(f"Left out   {exchange}: {reason}")
    emit(f"Gateway    {gateway.url}{taken}")
    emit(f"Reference  {gateway.url}/docs")
    if gateway.metrics_url is not None:
        emit(f"Metrics    {gateway.metrics_url}")
    emit("")
    emit("Try, in another terminal:")
    emit(f"  curl -H '{header}' '{gateway.url}/markets?exchange={symbol.partition('-')[0]}'")
    emit(f"  curl -H '{header}' '{gateway.url}/orderbook?market={symbol}&depth=5'")
    emit(f"  websocat -H '{header}' '{socket}'")
    emit(f'  {sys.executable} -c "{client}"')
    emit("")


def picture(tally: Tally, now: float, width: int | None = None) -> RenderableType:
    """The summary and a row for each market; a terminal of less than `WIDE` columns gets prices and states alone."""
    from rich.table import Table

    wide = width is None or width >= WIDE
    table = Table(box=None, header_style="bold", title=tally.summary(), title_justify="left", title_style="")
    table.add_column("market", no_wrap=True, max_width=None if width is None or wide else max(width - OTHERS_WIDE, 20))
    table.add_column("product", no_wrap=True)
    for name in ("bid", "ask", *(("spread", "updates/s", "trades/s") if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("book", no_wrap=True)
    if wide:
        table.add_column("age", justify="right", no_wrap=True)
    for market in tally.markets.values():
        spread = None if market.spread is None else float(f"{market.spread:.10g}")
        rates = (f"{rate.per_second(now):.1f}" for rate in (market.updates, market.trades))
        table.add_row(
            market.symbol,
            market.product,
            price_text(market.best_bid),
            price_text(market.best_ask),
            *((price_text(spread), *rates) if wide else ()),
            f"[{COLOURS.get(market.state, 'red')}]{market.state}[/]",
            *((age_text(market.age_s(now)),) if wide else ()),
        )
    return table
