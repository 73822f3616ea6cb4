"""The private stream of Advanced Trade: own orders, and the balance of US futures.

The user channel tells orders as they stand, no fills; of spot wallets and positions nothing is told at all. Whenever an
order says something new, fills, balances and positions are therefore asked for by REST (`AccountInput.incomplete`).
Source: docs.cdp.coinbase.com, Advanced Trade "WebSocket Channels" (user, futures_balance_summary).
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from astra.errors import AuthenticationError, VenueError
from astra.models.accounts import AccountEvent
from astra.models.markets import Market
from astra.streams.feed import AccountInput, Channel, Endpoint, Frame, Outlet, Payload, Session, Ticket
from astra_coinbase.feed.advanced import HEARTBEATS, SNAPSHOT, Numbering, asked
from astra_coinbase.markets import known_ms
from astra_coinbase.signing import Signer
from astra_coinbase.trading.advanced_rows import FuturesSummary, Kinds, UserOrder

logger = logging.getLogger(__name__)

MarketOf = Callable[[str], Market | None]
USER, FUTURES = "user", "futures_balance_summary"
SNAPSHOT_ORDERS = 50
"""Orders in a snapshot's frame; one with fewer ends the snapshot."""
_MAX_REPORTED = 1000


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


class Unlisted:
    """Markets that events named and that are not loaded: each is reported once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reported: set[str] = set()

    def report(self, native_symbol: str, account: AccountInput | None) -> None:
        if native_symbol in self._reported:
            return
        logger.warning("%s: an event of the unknown market %s", self._name, native_symbol)
        if len(self._reported) >= _MAX_REPORTED:
            self._reported.clear()
        self._reported.add(native_symbol)
        if account is not None:
            account.interrupted(f"an event named the market {native_symbol}, which is not loaded")


class UserSession(Session):
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
        super().__init__(endpoint, outlet, ticket)
        self._market_of = market_of
        self._signer = signer
        self._kinds = kinds
        self._futures = futures
        self._numbering = Numbering()
        self._unlisted = Unlisted(endpoint.name)
        self._waiting: deque[str] = deque()
        self._channel: Channel | None = None
        self._input: AccountInput | None = None

    # -- out ----------------------------------------------------------------------------------------------------

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        for channel in channels:
            self._channel, self._input = channel, self.outlet.account(channel)
        names = [USER, HEARTBEATS, *([FUTURES] if self._futures else [])]
        self._waiting.extend(names)
        return [asked("subscribe", name, token=self._signer.token(now_ms)) for name in names]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self._channel = self._input = None
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
                market = self._market_of(row.product_id)
                if market is None:
                    self._unlisted.report(row.product_id, self._input)
                    continue
                events.append(row.order(market, self._kinds, known_ms(frame.timestamp)))
                changed = changed or event.type != SNAPSHOT
            if event.fcm_balance_summary is not None:
                balance = event.fcm_balance_summary.balance()
                events += [] if balance is None else [balance]
        if events:
            self._input.events(events)
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
