"""The contract: every hook a plugin may implement, one function a hook.

A plugin implements a hook by defining a method (or module function) of that name marked `@hookimpl`, taking any
subset of the arguments by name. Hooks declared `async def` here must be implemented by `async def`.

Venue hooks are answered by exactly one venue (the host routes by exchange). A venue that lacks a hook is reported as
`UnsupportedOperation`. Lifecycle hooks are called on every plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pluggy

from astra.models.accounts import AccountEvent, Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import Orderbook, OrderbookUpdate
from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderRef, OrderRequest
from astra.models.protocols import Host, Stream
from astra.models.trades import TradeEvent

PROJECT = "astra"
API_VERSION = "1.1"
"""Version of this contract (major.minor). A plugin declares the one it was written for as `api_version`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class VenueSpecs:
    """Hooks of a venue plugin. `market` is always one of the venue's own markets, `credentials` come last."""

    @hookspec(firstresult=True)
    async def list_markets(self) -> Sequence[Market]:  # type: ignore[empty-body]
        """All markets of the venue that Astra supports, tradable or not (see `Market.status`)."""

    @hookspec(firstresult=True)
    async def get_orderbook(self, market: Market, depth: int, credentials: Credentials | None) -> Orderbook:  # type: ignore[empty-body]
        """A snapshot of the book with at least `depth` levels a side, or all the venue gives."""

    @hookspec(firstresult=True)
    def stream_orderbook(self, markets: Sequence[Market]) -> Stream[OrderbookUpdate]:  # type: ignore[empty-body]
        """A live book stream over the markets: SNAPSHOT first, then UPDATEs, STALE whenever in doubt."""

    @hookspec(firstresult=True)
    def stream_trades(self, markets: Sequence[Market]) -> Stream[TradeEvent]:  # type: ignore[empty-body]
        """A live stream of public trades over the markets."""

    @hookspec(firstresult=True)
    async def place_order(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:  # type: ignore[empty-body]
        """Place one order. A lost answer raises `OrderOutcomeUnknown`; the request is never repeated."""

    @hookspec(firstresult=True)
    async def place_orders(  # type: ignore[empty-body]
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Place several orders in one request; each position holds its order or the error that refused it."""

    @hookspec(firstresult=True)
    async def get_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:  # type: ignore[empty-body]
        """One own order, open or done. Raises `OrderNotFound`."""

    @hookspec(firstresult=True)
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:  # type: ignore[empty-body]
        """Cancel one order and return what the venue says of it. Raises `OrderNotFound` when it is not open."""

    @hookspec(firstresult=True)
    async def cancel_orders(  # type: ignore[empty-body]
        self, refs: Sequence[tuple[Market, OrderRef]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        """Cancel several orders in one request; each position holds the order or the error that refused its cancel."""

    @hookspec(firstresult=True)
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:  # type: ignore[empty-body]
        """Change price or quantity of a resting order natively."""

    @hookspec(firstresult=True)
    async def cancel_all_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:  # type: ignore[empty-body]
        """Cancel all open orders of the market (None: of the venue). Returns what the venue reports as canceled;
        venues that report nothing return an empty sequence."""

    @hookspec(firstresult=True)
    async def list_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:  # type: ignore[empty-body]
        """All open orders, conditional ones included."""

    @hookspec(firstresult=True)
    async def list_fills(  # type: ignore[empty-body]
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        """Own fills, oldest first; `since` in ms. Without `since` the venue's default window."""

    @hookspec(firstresult=True)
    async def get_balances(self, credentials: Credentials) -> Sequence[Balance]:  # type: ignore[empty-body]
        """Balances of all wallets; zero rows left out."""

    @hookspec(firstresult=True)
    async def get_positions(self, credentials: Credentials) -> Sequence[Position]:  # type: ignore[empty-body]
        """Open positions; zero rows left out."""

    @hookspec(firstresult=True)
    async def get_fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:  # type: ignore[empty-body]
        """The account's fee rates."""

    @hookspec(firstresult=True)
    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        """Set the leverage of a derivatives market."""

    @hookspec(firstresult=True)
    async def set_margin_mode(self, market: Market, mode: MarginMode, credentials: Credentials) -> None:
        """Set cross or isolated margin for a market."""

    @hookspec(firstresult=True)
    async def set_position_mode(self, hedge: bool, credentials: Credentials) -> None:
        """Hedge mode (long and short side by side) on or off."""

    @hookspec(firstresult=True)
    async def keep_alive_orders(self, market: Market | None, timeout_s: float, credentials: Credentials) -> None:
        """Feed the venue's dead-man timer: it cancels all orders unless called again within `timeout_s`; 0 ends it."""

    @hookspec(firstresult=True)
    def stream_account(self, credentials: Credentials) -> Stream[AccountEvent]:  # type: ignore[empty-body]
        """Own orders, fills, balances and positions as they change; `AccountStatus` says what can be relied on."""

    @hookspec(firstresult=True)
    async def resolve_order(  # type: ignore[empty-body]
        self, market: Market, client_order_id: str, since: int, credentials: Credentials
    ) -> Order | bool:
        """Find out what became of a placement sent at `since` (ms by this machine's clock).

        The order if it was placed; False if it was not and no longer can be; True while that cannot be told yet. "Not
        found" is False only if the venue could no longer accept the request when it was asked: its receive window or
        expiry, sent with every placement, was over by the venue's own clock.
        """


class LifecycleSpecs:
    """Hooks called on every plugin."""

    @hookspec
    async def startup(self, host: Host) -> None:
        """The plugin was loaded; `host` is the application."""

    @hookspec
    async def shutdown(self, host: Host) -> None:
        """The application ends; release everything."""


class FrontendSpecs(LifecycleSpecs):
    """Hooks of a front-end plugin."""

    @hookspec
    async def serve(self, host: Host) -> None:
        """Serve until cancelled."""
