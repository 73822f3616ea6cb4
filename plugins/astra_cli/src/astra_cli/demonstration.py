"""The running of `astra demo`: sandboxes, the venue plugins on them, the gateway, and a client of it that counts.

Every part runs as it would apart: the venue plugins speak the venues' own protocols over loopback sockets, and the
client knows the gateway's URL and an API key, nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, NamedTuple

import anyio
import click

from astra.app import Astra
from astra.errors import PluginError
from astra.models.markets import MarketStatus
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra_cli.exits import ExitCode
from astra_cli.live import age_text, draw, is_terminal, price_text
from astra_cli.options import console, emit
from astra_cli.tally import Tally

if TYPE_CHECKING:
    from rich.console import RenderableType

HOST = "127.0.0.1"
HEADER = "x-astra-api-key"
NEEDED = ("astra-gateway", "astra-rest", "astra-ws", "astra-sandbox")
PRINT_EVERY_S = 10.0
"""Piped output without an end in sight gets the table so often."""


class Gateway(NamedTuple):
    """Where the gateway is, and a key for it."""

    url: str
    metrics_url: str | None
    key: str


async def demonstrate(
    exchanges: Sequence[str], per_product: int, port: int, seconds: float | None, as_json: bool
) -> ExitCode:
    """Run the demo for so long (None: until cancelled). FAILED, with the reasons told, unless everything came."""
    _check_installed()
    chosen = _chosen(exchanges)
    async with AsyncExitStack() as stack:
        astra = await stack.enter_async_context(_sandboxed_astra(chosen))
        markets = await _watched(astra, chosen, per_product)
        gateway = await stack.enter_async_context(_served(astra, port))
        if not as_json:
            _introduce(chosen, markets, gateway, port)
        tally = await _watch(gateway, markets, seconds, as_json=as_json)
        missing = [*tally.missing(anyio.current_time()), *tally.problems]
        if as_json:
            emit(json.dumps({"gateway": gateway.url, "venues": tally.report()}, ensure_ascii=False))
    for sentence in missing:
        click.echo(f"astra: {sentence}", err=True)
    return ExitCode.FAILED if missing else ExitCode.OK


def _check_installed() -> None:
    """Raises `PluginError` that says what to install."""
    absent = [name for name in NEEDED if not _is_installed(name)]
    if absent:
        raise PluginError(f"the demo needs {', '.join(absent)}: python -m pip install {' '.join(absent)}")


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _chosen(exchanges: Sequence[str]) -> Sequence[str]:
    """The venues to run, checked: installed, and with a sandbox. Raises `PluginError`."""
    plugins = Plugins()
    if not exchanges:
        both = [code for code in plugins.names(SANDBOXES) if code in plugins.names(VENUES)]
        if not both:
            raise PluginError("no installed venue has a sandbox: python -m pip install astra-binance")
        return both
    for group in (VENUES, SANDBOXES):
        for exchange in exchanges:
            plugins.load(group, exchange)
    return list(dict.fromkeys(plugins.info(VENUES, exchange).name for exchange in exchanges))


@asynccontextmanager
async def _sandboxed_astra(exchanges: Sequence[str]) -> AsyncIterator[Astra]:
    """An `Astra` of these venues, on their sandboxes. Nothing of the user's configuration or keys is read."""
    from astra_sandbox import Sandbox

    async with Sandbox(exchanges) as sandbox, Astra(settings=sandbox.settings) as astra:
        yield astra


@asynccontextmanager
async def _served(astra: Astra, port: int) -> AsyncIterator[Gateway]:
    """The gateway, with a database in memory and one key that reads."""
    from astra_gateway.plugin import running_gateway
    from astra_gateway.settings import GatewaySettings

    settings = GatewaySettings(host=HOST, port=port, next_free_port=True, database="sqlite://")
    async with running_gateway(astra, settings) as gateway:
        issued = await gateway.keys.create("astra demo")
        yield Gateway(gateway.url, gateway.metrics_url, issued.key)


async def _watched(astra: Astra, exchanges: Sequence[str], per_product: int) -> dict[str, str]:
    """The markets to watch, the first of each product: symbol -> product."""
    found: dict[str, str] = {}
    for exchange in exchanges:
        counts: dict[str, int] = {}
        for market in await astra.list_markets(exchange):
            if market.status is MarketStatus.ACTIVE and counts.get(market.product, 0) < per_product:
                counts[market.product] = counts.get(market.product, 0) + 1
                found[market.symbol] = market.product
    return found


def _introduce(exchanges: Sequence[str], markets: Mapping[str, str], gateway: Gateway, port: int) -> None:
    """What is running, and how to talk to it."""
    header = f"{HEADER}: Bearer {gateway.key}"
    symbol = next(iter(markets))
    socket = f"{gateway.url.replace('http', 'ws', 1)}/ws?market={symbol}&dataType=ORDERBOOK"
    client = (
        "from websockets.sync.client import connect; "
        f"[print(m) for m in connect('{socket}', additional_headers={{'{HEADER}': 'Bearer {gateway.key}'}})]"
    )
    taken = "" if gateway.url.endswith(f":{port}") or not port else f"  (port {port} is in use)"
    emit(f"Sandboxes  {', '.join(exchanges)}: the venues' own protocols on loopback, no keys, no network")
    emit(f"Gateway    {gateway.url}{taken}")
    emit(f"Reference  {gateway.url}/docs")
    if gateway.metrics_url is not None:
        emit(f"Metrics    {gateway.metrics_url}")
    emit("")
    emit("Try, in another terminal:")
    emit(f"  curl -H '{header}' '{gateway.url}/markets?exchange={exchanges[0]}'")
    emit(f"  curl -H '{header}' '{gateway.url}/orderbook?market={symbol}&depth=5'")
    emit(f"  websocat -H '{header}' '{socket}'")
    emit(f'  {sys.executable} -c "{client}"')
    emit("")


async def _watch(gateway: Gateway, markets: Mapping[str, str], seconds: float | None, *, as_json: bool) -> Tally:
    """Subscribe to everything as a client of the gateway, show or just count it, for so long."""
    tally = Tally(markets, anyio.current_time())
    async with anyio.create_task_group() as tasks:
        for exchange in dict.fromkeys(symbol.partition("-")[0] for symbol in markets):
            own = [symbol for symbol in markets if symbol.startswith(f"{exchange}-")]
            tasks.start_soon(_receive, gateway, exchange, own, tally)
        if is_terminal() and not as_json:
            await tasks.start(draw, lambda: _table(tally, anyio.current_time()))
        elif not as_json and seconds is None:
            tasks.start_soon(_print_now_and_then, tally)
        await anyio.sleep(float("inf") if seconds is None else seconds)
        tasks.cancel_scope.cancel()
    if not as_json and not is_terminal():
        console().print(_table(tally, anyio.current_time()))
    return tally


async def _receive(gateway: Gateway, exchange: str, symbols: Sequence[str], tally: Tally) -> None:
    """One WebSocket connection for each venue, all its markets' books and trades on it."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    url = f"{gateway.url.replace('http', 'ws', 1)}/ws"
    try:
        async with connect(url, additional_headers={HEADER: f"Bearer {gateway.key}"}, max_size=None) as socket:
            for symbol in symbols:
                for data_type in ("ORDERBOOK", "TRADE"):
                    wanted = {"op": "subscribe", "market": symbol, "dataType": data_type, "state": True}
                    await socket.send(json.dumps(wanted))
            async for message in socket:
                tally.received(json.loads(message), anyio.current_time())
    except (OSError, WebSocketException) as error:
        tally.problems.append(f"{exchange}: the connection to the gateway failed: {error}")


async def _print_now_and_then(tally: Tally) -> None:
    while True:
        await anyio.sleep(PRINT_EVERY_S)
        console().print(_table(tally, anyio.current_time()))


def _table(tally: Tally, now: float) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("market", "product"):
        table.add_column(name)
    for name in ("bid", "ask", "spread", "updates/s", "trades/s"):
        table.add_column(name, justify="right")
    table.add_column("book")
    table.add_column("age", justify="right")
    for market in tally.markets.values():
        colour = {"LIVE": "green", "SYNCING": "yellow"}.get(market.state, "red")
        spread = None if market.spread is None else float(f"{market.spread:.10g}")
        table.add_row(
            market.symbol,
            market.product,
            price_text(market.best_bid),
            price_text(market.best_ask),
            price_text(spread),
            f"{market.updates.per_second(now):.1f}",
            f"{market.trades.per_second(now):.1f}",
            f"[{colour}]{market.state}[/]",
            age_text(market.age_s(now)),
        )
    return table
