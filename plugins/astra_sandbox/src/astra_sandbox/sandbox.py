"""`Sandbox`: the venues' sandboxes, running on loopback ports.

async with Sandbox(["BINANCE"]) as sandbox:
    async with Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as astra:
        ...
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from random import Random
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from astra.directory import canonical_exchange
from astra.errors import BadRequest, ConfigError, hint
from astra.models.credentials import Credentials
from astra.models.protocols import Clock
from astra.net.clock import SystemClock
from astra.plugins import SANDBOXES, Plugins
from astra.sandbox import Account, Faults, SandboxVenue
from astra_sandbox.accounts import Kind
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.faults import SkewedClock
from astra_sandbox.flow import OrderFlow
from astra_sandbox.prices import AssetValues
from astra_sandbox.server import VenueServer

logger = logging.getLogger("astra_sandbox")

BEAT_S = 0.05
LONGEST_BEAT_S = 0.5
"""After a longer pause (a debugger, a busy machine) the flow does not catch up on all that it missed."""
AMPLE_USD = 10_000_000
"""The default account holds about so much of every asset."""
MOST_TRADES = 200_000
"""Public trades kept in all markets of a venue together (at least 200 and at most 1000 in each)."""


class _Running:
    """One venue of the sandbox."""

    def __init__(
        self, venue_class: type[SandboxVenue], sandbox: Sandbox, markets: int | None, ports: Mapping[str, int]
    ) -> None:
        exchange = venue_class.exchange
        self.faults = Faults()
        self.clock = SkewedClock(sandbox.clock, self.faults)
        listed = list(venue_class.default_markets(markets))
        self.engine = MatchingEngine(
            listed,
            self.clock,
            seed=sandbox.seed,
            fees=venue_class.fees,
            wallets=venue_class.wallet_of,
            quote_fees=venue_class.quote_fees,
            aliases=venue_class.aliases,
            trade_history=min(1000, max(200, MOST_TRADES // max(1, len(listed)))),
        )
        self.flow = OrderFlow(self.engine, self.clock, seed=sandbox.seed, pace=sandbox.pace) if sandbox.flow else None
        self.venue = venue_class(self.engine, self.clock)
        self.random = Random(f"{sandbox.seed}:{exchange}:keys")
        self.server = VenueServer(
            self.venue, sandbox.clock, self.faults, Random(f"{sandbox.seed}:{exchange}:faults"), ports
        )


class Sandbox:
    """The sandboxes of `exchanges` (None: of all that are installed), each with its engine, order flow and server.

    `markets` bounds the markets of each venue, `seed` makes everything random repeatable, `pace` scales the order
    flow (`flow=False`: empty books), `port_base` gives the hosts consecutive ports from there on. `venues` hands in
    sandbox protocols directly, beside those that `plugins` finds.

    Use it as an asynchronous context manager. A failure of the engine or the flow ends it with the exception; what a
    venue's protocol raises while it serves is answered with a 500 or a close, logged, and listed by `failures`.
    """

    def __init__(
        self,
        exchanges: Collection[str] | None = None,
        *,
        seed: int = 1,
        markets: int | None = None,
        clock: Clock | None = None,
        flow: bool = True,
        pace: float = 1.0,
        port_base: int | None = None,
        plugins: Plugins | None = None,
        venues: Collection[type[SandboxVenue]] = (),
    ) -> None:
        self.seed = seed
        self.pace = pace
        self.flow = flow
        self.clock: Clock = clock or SystemClock()
        self._markets = markets
        self._port_base = port_base
        self._running: dict[str, _Running] = {}
        self._tasks: TaskGroup | None = None
        self._classes = _venue_classes(exchanges, plugins or Plugins(), venues)

    async def __aenter__(self) -> Self:
        port = self._port_base
        for exchange, venue_class in self._classes.items():
            ports: dict[str, int] = {}
            if port is not None:
                ports = {host: port + number for number, host in enumerate(venue_class.hosts)}
                port += len(ports)
            running = self._running[exchange] = _Running(venue_class, self, self._markets, ports)
            if running.flow is not None:
                running.flow.fill()
            self.open_account(exchange, "default")
        try:
            for running in self._running.values():
                running.server.bind()
        except OSError:
            self._unbind()
            raise
        tasks = self._tasks = await anyio.create_task_group().__aenter__()
        try:
            for running in self._running.values():
                await tasks.start(running.server.run)
        except BaseException as error:
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(type(error), error, error.__traceback__)
            self._unbind()
            raise
        tasks.start_soon(self._beat)
        return self

    def _unbind(self) -> None:
        for running in self._running.values():
            running.server.unbind()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._unbind()

    @property
    def exchanges(self) -> Sequence[str]:
        return list(self._classes)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings for `Astra` that point the venues at the sandbox."""
        return {"venues": {code: {"hosts": running.server.urls} for code, running in self._running.items()}}

    def credentials(self, exchange: str, account: str = "default") -> Credentials:
        """The key of an account, ready for `Astra`. Raises `BadRequest` when there is no such account."""
        found = self._find(exchange).engine.account(account)
        if found is None:
            raise BadRequest(f"the sandbox of {exchange} has no account {account!r}: open it with open_account(...)")
        return _credentials(exchange, found)

    def open_account(
        self, exchange: str, name: str, balances: Mapping[str, Mapping[str, Decimal]] | None = None
    ) -> Credentials:
        """A new account with `balances` (wallet -> asset -> amount; None: ample funds of every asset)."""
        running = self._find(exchange)
        key, secret, passphrase = running.venue.make_key(running.random)
        funds = ample_funds(running.engine, self.seed) if balances is None else balances
        try:
            account = running.engine.open_account(name, key, secret, passphrase, balances=funds)
        except ValueError as error:
            raise BadRequest(f"the sandbox of {exchange}: {error}") from None
        return _credentials(exchange, account)

    def engine(self, exchange: str) -> MatchingEngine:
        """The venue's matching engine: to look at, and to trade against its clients."""
        return self._find(exchange).engine

    def venue(self, exchange: str) -> SandboxVenue:
        """The venue's protocol: what it can tell of itself beyond what clients see."""
        return self._find(exchange).venue

    def faults(self, exchange: str) -> Faults:
        """The faults of the venue; they hold from the moment they are set."""
        return self._find(exchange).faults

    def set_pace(self, exchange: str, pace: float) -> None:
        """Scale the venue's order flow from now on; 0 stops it."""
        flow = self._find(exchange).flow
        if flow is not None:
            flow.pace = pace

    def failures(self, exchange: str) -> Sequence[Exception]:
        """The latest exceptions that the venue's protocol raised."""
        return list(self._find(exchange).server.outlet.failures)

    async def stop(self, exchange: str) -> None:
        """Kill the venue's server: connections are reset, new ones refused. Engine and flow go on."""
        await self._find(exchange).server.stop()

    async def start(self, exchange: str) -> None:
        """Bring a stopped server back, on the same ports."""
        server = self._find(exchange).server
        if server.running:
            return
        if self._tasks is None:
            raise RuntimeError("the sandbox is not running: use it as an asynchronous context manager")
        server.bind()
        await self._tasks.start(server.run)

    def _find(self, exchange: str) -> _Running:
        found = self._running.get(canonical_exchange(exchange))
        if found is None:
            if exchange in self._classes:
                raise RuntimeError("the sandbox is not running: use it as an asynchronous context manager")
            raise BadRequest(f"the sandbox does not run {exchange}.{hint(exchange, self._classes)}")
        return found

    async def _beat(self) -> None:
        """The one task that moves engines, flows and sessions."""
        last = self.clock.monotonic()
        while True:
            await self.clock.sleep(max(0.0, last + BEAT_S - self.clock.monotonic()))
            now = self.clock.monotonic()
            elapsed, last = min(now - last, LONGEST_BEAT_S), now
            for running in self._running.values():
                running.engine.expire_due()
                if running.flow is not None:
                    running.flow.advance(elapsed)
                running.server.tick()


def _venue_classes(
    exchanges: Collection[str] | None, plugins: Plugins, given: Collection[type[SandboxVenue]]
) -> dict[str, type[SandboxVenue]]:
    """Exchange code -> protocol, in the order asked for."""
    by_code = {venue.exchange: venue for venue in given}
    if exchanges is None:
        wanted = [*by_code, *(name for name in plugins.names(SANDBOXES) if name not in by_code)]
        if not wanted:
            raise ConfigError("no venue with a sandbox is installed: install one, for example astra-binance")
    else:
        wanted = list(dict.fromkeys(canonical_exchange(code) for code in exchanges))
    return {code: by_code.get(code) or plugins.load(SANDBOXES, code) for code in wanted}


def _credentials(exchange: str, account: Account) -> Credentials:
    return Credentials.of(exchange, account.key, account.secret, account.passphrase, account=account.name)


def ample_funds(engine: MatchingEngine, seed: int) -> dict[str, dict[str, Decimal]]:
    """About `AMPLE_USD` of every asset that the markets of each wallet need, in round numbers."""
    values = AssetValues(seed)
    funds: dict[str, dict[str, Decimal]] = {}
    for symbol, market in engine.markets.items():
        terms = engine.terms(symbol)
        assets = (market.base_asset, market.quote_asset) if terms.kind is Kind.SPOT else (terms.settle,)
        for asset in assets:
            amount = AMPLE_USD / values[asset]
            rounded = amount.quantize(Decimal(1).scaleb(amount.adjusted()))  # one significant digit
            funds.setdefault(terms.wallet, {})[asset] = Decimal(int(rounded)) if rounded >= 1 else rounded
    return funds
