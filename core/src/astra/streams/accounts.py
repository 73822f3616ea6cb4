"""What the private streams of every venue have in common: base classes for their sessions."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from astra.errors import AuthenticationError, PermissionDenied, VenueError
from astra.models.accounts import AccountEvent
from astra.models.markets import Market
from astra.streams.feed import AccountInput, Channel, Endpoint, Frame, Outlet, Session, Ticket

logger = logging.getLogger("astra.streams")

MarketOf = Callable[[str], Market | None]
"""Native symbol -> market, from what is loaded; whoever gives it sees to it that an unknown one gets loaded."""
_MAX_REPORTED = 1000


class AccountSession(Session):
    """One account's private stream on one connection.

    An event of a market that is not loaded is not delivered: it is logged (once for each market), and the subscription
    counts as interrupted, so that the account is compared with the venue by REST.
    """

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf) -> None:
        super().__init__(endpoint, outlet, ticket)
        self._market_of = market_of
        self._channel: Channel | None = None
        self._input: AccountInput | None = None
        self._reported: set[str] = set()

    def join(self, channels: Sequence[Channel]) -> None:
        """The account's channel (there is one on a connection) was asked for."""
        for channel in channels:
            self._channel = channel
            self._input = self.outlet.account(channel)

    def leave(self) -> None:
        """It is not wanted any more: what still arrives is dropped."""
        self._channel = self._input = None

    def tell(self, events: Iterable[AccountEvent]) -> None:
        """Hand on what happened, in order."""
        told = list(events)
        if told and self._input is not None:
            self._input.events(told)

    def interrupted(self, reason: str) -> None:
        """Something may have been missed: the account is compared with the venue."""
        if self._input is not None:
            self._input.interrupted(reason)

    def market(self, native_symbol: str) -> Market | None:
        """The market that an event names; None, and the account is compared, where it is not loaded."""
        market = self._market_of(native_symbol)
        if market is None and native_symbol not in self._reported:
            logger.warning("%s: an event of the unknown market %s", self.endpoint.name, native_symbol)
            if len(self._reported) >= _MAX_REPORTED:
                self._reported.clear()
            self._reported.add(native_symbol)
            self.interrupted(f"an event named the market {native_symbol}, which is not loaded")
        return market


class LoginSession(AccountSession):
    """One account's private stream on a connection that takes subscriptions only after a log-in."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._logged_in = False
        self._failure: VenueError | None = None
        self._unanswered: set[str] = set()

    @abc.abstractmethod
    def subscriptions(self) -> Mapping[str, Frame]:
        """What the account's stream consists of: a name, by which its answer is known -> the frame that subscribes it.
        Names may share a frame."""

    @property
    def ready(self) -> bool:
        return self._logged_in or self._failure is not None

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        if self._failure is not None:
            for channel in channels:
                self.outlet.refused(channel, self._failure)
            return ()
        self.join(channels)
        frames = self.subscriptions()
        self._unanswered = set(frames)
        return dict.fromkeys(frames.values())

    def leave(self) -> None:
        super().leave()
        self._unanswered = set()

    def login_answered(self, error: VenueError | None) -> None:
        """The log-in was taken, or refused. Whoever subscribes is told that the key is refused; after any other refusal
        the connection is made anew."""
        if error is None:
            self._logged_in = True
        elif isinstance(error, AuthenticationError | PermissionDenied):
            self._failure = error
        else:
            self.outlet.reconnect(str(error))

    def subscribed(self, name: str) -> None:
        """One of the `subscriptions` was taken: with the last of them, the account's channel."""
        self._unanswered.discard(name)
        if not self._unanswered and self._channel is not None:
            self.outlet.acknowledged([self._channel])
