"""The running of `astra demo`: sandboxes, the venue plugins on them, the gateway, and a client of it that counts.

Every part runs as it would apart: the venue plugins speak the venues' own protocols over loopback sockets, and the
client knows the gateway's URL and an API key, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

import anyio
import click

from astra.app import Astra
from astra.errors import AstraError, PluginError
from astra.models.markets import Market, MarketStatus
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra_cli.exits import ExitCode
from astra_cli.live import draw, is_terminal
from astra_cli.options import console, emit
from astra_cli.showing import FRAME_ROWS, HEADER, Cast, Gateway, introduce, picture
from astra_cli.tally import Tally

HOST = "127.0.0.1"
NEEDED = ("astra-gateway", "astra-rest", "astra-ws", "astra-sandbox")
PRINT_EVERY_S = 10.0
"""Piped output without an end in sight gets the table so often."""


class Programme(NamedTuple):
    """What is watched."""

    markets: Mapping[str, str]
    """Symbol -> product."""
    products: Mapping[str, Sequence[str]]
    """Exchange -> the products that its plugin offers."""
    problems: Sequence[str]
    """Venues that did not list their markets."""


async def demonstrate(
    exchanges: Sequence[str], per_product: int | None, port: int, seconds: float | None, as_json: bool
) -> ExitCode:
    """Run the demo for so long (None: until cancelled). FAILED, with the reasons told, unless everything came.

    `per_product`: markets of each product of each venue; None: two, or one where a terminal has no room for two.
    """
    _check_installed()
    cast = _chosen(exchanges)
    async with AsyncExitStack() as stack:
        astra = await stack.enter_async_context(_sandboxed_astra(cast.exchanges))
        rows = console().height if is_terminal() and not as_json else None
        programme = await _watched(astra, cast.exchanges, per_product, rows)
        gateway = await stack.enter_async_context(_served(astra, port))
        if not as_json:
            introduce(cast, programme.markets, gateway, port)
        tally = Tally(programme.markets, anyio.current_time(), programme.products)
        tally.problems += [*cast.problems, *programme.problems]
        await _watch(gateway, tally, seconds, as_json=as_json)
        missing = [*tally.missing(anyio.current_time()), *tally.problems]
        if as_json:
            told = {"gateway": gateway.url, "venues": tally.report(), "leftOut": cast.left_out, "problems": missing}
            emit(json.dumps(told, ensure_ascii=False))
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


def _chosen(exchanges: Sequence[str]) -> Cast:
    """The venues to run. Raises `PluginError` when one that is named cannot take part, or none can."""
    plugins = Plugins()
    if exchanges:
        for group in (VENUES, SANDBOXES):
            for exchange in exchanges:
                plugins.load(group, exchange)
        return Cast(list(dict.fromkeys(plugins.info(VENUES, exchange).name for exchange in exchanges)), {}, ())
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    installed = {group: {info.name for info in plugins.listed(group)} for group in (VENUES, SANDBOXES)}
    for exchange in sorted(installed[VENUES] | installed[SANDBOXES]):
        if exchange not in installed[VENUES]:
            left_out[exchange] = "its sandbox is installed, its plugin is not"
        elif exchange not in installed[SANDBOXES]:
            left_out[exchange] = "it has no sandbox"
        else:
            try:
                for group in (VENUES, SANDBOXES):
                    plugins.load(group, exchange)
            except PluginError as error:
                problems.append(str(error))
            else:
                chosen.append(exchange)
    if not chosen:
        told = problems or [f"{exchange}: {reason}" for exchange, reason in left_out.items()]
        advice = "no installed venue has a sandbox: python -m pip install astra-binance"
        raise PluginError("; ".join(told) or advice)
    return Cast(chosen, left_out, problems)


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


async def _watched(astra: Astra, exchanges: Sequence[str], per_product: int | None, rows: int | None) -> Programme:
    """The first active markets of each product. Venues are asked at the same time; one that fails is told of.

    `rows`: of the terminal, None where there is none. Raises the venue's error when no venue lists anything.
    """
    products: dict[str, Sequence[str]] = {}
    found: dict[str, Sequence[Market]] = {}
    errors: dict[str, AstraError] = {}

    async def ask(exchange: str) -> None:
        try:
            products[exchange] = list(getattr(await astra.venue(exchange), "products", ()))
            found[exchange] = await astra.list_markets(exchange)
        except AstraError as error:
            errors[exchange] = error

    async with anyio.create_task_group() as tasks:
        for exchange in exchanges:
            products[exchange] = ()
            tasks.start_soon(ask, exchange)
    if errors and not any(found.values()):
        raise next(iter(errors.values()))
    several = {exchange: _first(found.get(exchange, ()), per_product or 2) for exchange in exchanges}
    if per_product is None and rows is not None and sum(map(len, several.values())) > rows - FRAME_ROWS:
        several = {exchange: _first(found.get(exchange, ()), 1) for exchange in exchanges}
    markets = {symbol: product for chosen in several.values() for symbol, product in chosen.items()}
    return Programme(markets, products, [f"{exchange}: {error}" for exchange, error in errors.items()])


def _first(markets: Sequence[Market], per_product: int) -> dict[str, str]:
    """Symbol -> product of the first active markets of each product, product by product."""
    by_product: dict[str, list[str]] = {}
    for market in markets:
        symbols = by_product.setdefault(market.product, [])
        if market.status is MarketStatus.ACTIVE and len(symbols) < per_product:
            symbols.append(market.symbol)
    return {symbol: product for product, symbols in by_product.items() for symbol in symbols}


async def _watch(gateway: Gateway, tally: Tally, seconds: float | None, *, as_json: bool) -> None:
    """Subscribe to everything as a client of the gateway, show or just count it, for so long."""
    async with anyio.create_task_group() as tasks:
        for exchange in dict.fromkeys(market.exchange for market in tally.markets.values()):
            own = [market.symbol for market in tally.markets.values() if market.exchange == exchange]
            tasks.start_soon(_receive, gateway, exchange, own, tally)
        if is_terminal() and not as_json:
            await tasks.start(draw, lambda: picture(tally, anyio.current_time(), console().width))
        elif not as_json and seconds is None:
            tasks.start_soon(_print_now_and_then, tally)
        await anyio.sleep(float("inf") if seconds is None else seconds)
        tasks.cancel_scope.cancel()
    if not as_json and not is_terminal():
        console().print(picture(tally, anyio.current_time()))


async def _receive(gateway: Gateway, exchange: str, symbols: Sequence[str], tally: Tally) -> None:
    """One WebSocket connection for each venue, all its markets' books and trades on it."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    url = f"{gateway.url.replace('http', 'ws', 1)}/ws"
    try:
        headers = {HEADER: f"Bearer {gateway.key}"}
        socket = await connect(url, additional_headers=headers, max_size=None, proxy=None)
        try:
            for symbol in symbols:
                for data_type in ("ORDERBOOK", "TRADE"):
                    wanted = {"op": "subscribe", "market": symbol, "dataType": data_type, "state": True}
                    await socket.send(json.dumps(wanted))
            async for message in socket:
                tally.received(json.loads(message), anyio.current_time())
        finally:
            # The library's own way out waits for an answer, and leaves the socket open when that is cancelled.
            socket.transport.abort()
            with anyio.CancelScope(shield=True):
                await socket.wait_closed()
    except (OSError, WebSocketException) as error:
        tally.problems.append(f"{exchange}: the connection to the gateway failed: {error}")


async def _print_now_and_then(tally: Tally) -> None:
    while True:
        await anyio.sleep(PRINT_EVERY_S)
        console().print(picture(tally, anyio.current_time()))
