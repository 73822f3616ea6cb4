"""What the private streams of every venue have in common: a base class for their sessions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from astra.models.accounts import AccountEvent
from astra.models.markets import Market
from astra.streams.feed import AccountInput, Channel, Endpoint, Outlet, Session, Ticket

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
