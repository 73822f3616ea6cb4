"""The private stream of Advanced Trade: own orders, and the balance of US futures.

The user channel tells orders as they stand, no fills; of spot wallets and positions nothing is told at all. Whenever an
order says something new, fills, balances and positions are therefore asked for by REST (`AccountInput.incomplete`).
Source: docs.cdp.coinbase.com, Advanced Trade "WebSocket Channels" (user, futures_balance_summary).
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from astra.errors import AuthenticationError, VenueError
from astra.models.accounts import AccountEvent
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra_coinbase.feed.advanced import HEARTBEATS, SNAPSHOT, Numbering, asked
from astra_coinbase.markets import known_ms
from astra_coinbase.signing import Signer
from astra_coinbase.trading.advanced_rows import FuturesSummary, Kinds, UserOrder

logger = logging.getLogger(__name__)

USER, FUTURES = "user", "futures_balance_summary"
SNAPSHOT_ORDERS = 50
"""Orders in a snapshot's frame; one with fewer ends the snapshot."""


class UserEvent(msgspec.Struct):
    type: str = ""
    orders: tuple[UserOrder, ...] = ()
    fcm_balance_summary: FuturesSummary | None = None


class UserFrame(msgspec.Struct):
    """Any frame of the connection."""

    channel: str = ""
    sequence_num: int = -1
    timestamp: datetime.datetime | None = None
    events: tuple[UserEvent, ...] = ()
    type: str = ""
    message: str = ""


decode_user = msgspec.json.Decoder(UserFrame).decode


class UserSession(AccountSession):
    """One account's connection. `futures`: are US futures among the products?"""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        signer: Signer,
        kinds: Kinds,
        *,
        futures: bool,
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._signer = signer
        self._kinds = kinds
        self._futures = futures
        self._numbering = Numbering()
        self._waiting: deque[str] = deque()

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.join(channels)
        names = [USER, HEARTBEATS, *([FUTURES] if self._futures else [])]
        self._waiting.extend(names)
        return [asked("subscribe", name, token=self._signer.token(now_ms)) for name in names]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        names = [USER, *([FUTURES] if self._futures else [])]
        self._waiting.extend("" for _ in names)
        return [asked("unsubscribe", name) for name in names]

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = decode_user(payload)
        if frame.type == "error":
            self._failed(frame.message)
        elif self._numbering.is_next(frame.sequence_num, self.outlet):
            if frame.channel == "subscriptions":
                self._answered()
            else:
                self._told(frame)

    def _told(self, frame: UserFrame) -> None:
        if self._input is None:
            return
        events: list[AccountEvent] = []
        changed = False
        for event in frame.events:
            for row in event.orders:
                market = self.market(row.product_id)
                if market is None:
                    continue
                events.append(row.order(market, self._kinds, known_ms(frame.timestamp)))
                changed = changed or event.type != SNAPSHOT
            if event.fcm_balance_summary is not None:
                balance = event.fcm_balance_summary.balance()
                events += [] if balance is None else [balance]
        self.tell(events)
        if changed:
            self._input.incomplete()

    def _answered(self) -> None:
        name = self._waiting.popleft() if self._waiting else ""
        if name == USER and self._channel is not None:
            self.outlet.acknowledged([self._channel])

    def _failed(self, message: str) -> None:
        """An error names nothing: it answers the oldest frame without an answer. Without the balance channel the
        balance of US futures is known by REST."""
        name = self._waiting.popleft() if self._waiting else ""
        if name == USER and self._channel is not None:
            refused = "authentication" in message
            kind = AuthenticationError if refused else VenueError
            error = kind(f"the account stream was refused: {message}", exchange="COINBASE")
            self.outlet.refused(self._channel, error, final=refused)
        else:
            logger.warning("%s: the venue refused %s: %s", self.endpoint.name, name or "a frame", message)
