"""Reading an account: open orders and positions, as fresh as a decision needs them, once however many ask."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import anyio

from astra.errors import AstraError, BadRequest, MarketNotFound, StreamClosed, UnsupportedOperation, VenueUnavailable
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Order
from astra.models.protocols import Clock, Host
from astra.symbols import AssetType
from astra_risk.ledger import Ledger, OpenOrder, Snapshot
from astra_risk.positions import Derivatives, Holdings
from astra_risk.settings import RiskSettings

logger = logging.getLogger("astra.risk")


class Account:
    """One account's ledger, and the way to bring it up to date."""

    def __init__(self, host: Host, settings: RiskSettings) -> None:
        self.ledger = Ledger()
        self.used_at = 0.0
        self._host = host
        self._settings = settings
        self._lock = anyio.Lock()
        self._by_market = False
        """The venue lists open orders by market only."""
        self._renewing = False

    @property
    def _clock(self) -> Clock:
        return self._host.clock

    def is_fresh(self, market: Market, *, position: bool, not_before: float) -> bool:
        """Does the snapshot answer for the market, and was it begun at `not_before` (monotonic) or later?"""
        snapshot = self.ledger.snapshot
        if snapshot is None or snapshot.began < not_before or not snapshot.covers(market.symbol):
            return False
        return not position or (market.asset_type is AssetType.SPOT) in snapshot.positions

    async def current(self, market: Market, credentials: Credentials, *, position: bool) -> None:
        """Have a snapshot that is no older than the settings allow. Half way there it is renewed in the background."""
        now = self._clock.monotonic()
        oldest = now - self._settings.position_max_age_s
        if not self.is_fresh(market, position=position, not_before=oldest):
            await self._refresh(market, credentials, position=position, not_before=oldest)
        elif not self._renewing and not self.is_fresh(
            market, position=position, not_before=now - self._settings.position_max_age_s / 2
        ):
            self._renewing = True
            self._host.start_soon(self._renew, market, credentials, position, name="renew positions")

    async def settled(self, market: Market, credentials: Credentials, *, position: bool) -> None:
        """Have a snapshot that shows what became of everything acknowledged until now: before an order is refused."""
        lag = self._settings.venue_lag_s
        from_then = max(self._clock.monotonic() - lag, self.ledger.settled_from(lag))
        if not self.is_fresh(market, position=position, not_before=from_then):
            await self._refresh(market, credentials, position=position, not_before=from_then)

    def forget_what_is_old(self) -> None:
        """Without a snapshot that is fresh enough, give up what the next one will show anyway."""
        now, snapshot = self._clock.monotonic(), self.ledger.snapshot
        if snapshot is None or snapshot.began < now - self._settings.position_max_age_s:
            self.ledger.forget_settled(now, self._settings.venue_lag_s)

    async def _renew(self, market: Market, credentials: Credentials, position: bool) -> None:
        try:
            await self._refresh(market, credentials, position=position, not_before=self._clock.monotonic())
        except StreamClosed:
            pass  # the application ends
        except AstraError as error:
            logger.warning("positions and open orders could not be read again: %s", error)
        finally:
            self._renewing = False

    async def _refresh(self, market: Market, credentials: Credentials, *, position: bool, not_before: float) -> None:
        """Read what is missing. Raises what the reads raise; `VenueUnavailable` when they take too long."""
        spot = market.asset_type is AssetType.SPOT
        async with self._lock:
            wait = not_before - self._clock.monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
            with anyio.move_on_after(self._settings.read_timeout_s) as scope:
                snapshot = self.ledger.snapshot
                if snapshot is None or snapshot.began < not_before or not snapshot.covers(market.symbol):
                    kinds = {spot} if position else set()
                    if snapshot is not None:
                        kinds |= snapshot.positions.keys()
                    await self._read(market, credentials, kinds)
                elif position and spot not in snapshot.positions:
                    await self._read_positions(snapshot, market.exchange, credentials, {spot})
            if scope.cancelled_caught:
                raise VenueUnavailable(
                    f"no answer within {self._settings.read_timeout_s:g} s (middleware.risk.read_timeout_s)",
                    exchange=market.exchange,
                )

    async def _read(self, market: Market, credentials: Credentials, kinds: Collection[bool]) -> None:
        began = self._clock.monotonic()
        orders, markets = await self._open_orders(market, credentials)
        snapshot = Snapshot(began, [await self._located(order) for order in orders], markets)
        await self._read_positions(snapshot, market.exchange, credentials, kinds)
        self.ledger.replace(snapshot, self._settings.venue_lag_s)

    async def _read_positions(
        self, snapshot: Snapshot, exchange: str, credentials: Credentials, kinds: Collection[bool]
    ) -> None:
        if not kinds:
            return
        # The position must hold every fill that made an order disappear from the list.
        wait = snapshot.began + self._settings.venue_lag_s - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)
        astra: Any = self._host.astra
        for spot in kinds:
            if spot:
                snapshot.positions[True] = Holdings(await astra.get_balances(exchange, credentials))
            else:
                snapshot.positions[False] = Derivatives(await astra.get_positions(exchange, credentials))

    async def _open_orders(
        self, market: Market, credentials: Credentials
    ) -> tuple[Sequence[Order], frozenset[str] | None]:
        """Open orders of the venue (None), or of the markets in use where a venue lists them by market only."""
        astra: Any = self._host.astra
        if not self._by_market:
            try:
                return await astra.list_orders(market.exchange, credentials), None
            except (BadRequest, UnsupportedOperation):
                self._by_market = True
        used = {market.symbol, *(reservation.market.symbol for reservation in self.ledger.reservations)}
        if self.ledger.snapshot is not None:
            used |= self.ledger.snapshot.markets or set()
        found: list[Order] = []
        for symbol in sorted(used):
            found.extend(await astra.list_orders(symbol, credentials))
        return found, frozenset(used)

    async def _located(self, order: Order) -> OpenOrder:
        try:
            return OpenOrder(order, await self._host.astra.market(order.market))
        except MarketNotFound:
            return OpenOrder(order, None)
