"""The private stream of the international gateway: own orders, trades, positions and balances.

The log-in makes the connection the credential; it lasts as long as the venue says, and the connection is replaced
before. Source: docs.cdp.coinbase.com, Global Derivatives; the Deribit protocol's `user.changes`, `user.portfolio`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from astra.errors import AuthenticationError, VenueError
from astra.models.accounts import AccountEvent
from astra.models.markets import Market
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides
from astra_coinbase.errors import CODES
from astra_coinbase.feed.international import PING, PING_ID, RpcFailure, RpcFrame, decode_frame, decode_names, request
from astra_coinbase.signing import Signer
from astra_coinbase.trading.advanced_rows import Kinds
from astra_coinbase.trading.international_rows import Changes, SummaryRow

LOG_IN, SUBSCRIBE, UNSUBSCRIBE = 1, 2, 3
CHANGES, PORTFOLIO = "user.changes.any.any.raw", "user.portfolio.any"
SESSION_S = 3000.0
"""How long a log-in lasts."""

_decode_changes = msgspec.json.Decoder(Changes).decode
_decode_summary = msgspec.json.Decoder(SummaryRow).decode


class GatewayAccountSession(AccountSession):
    """One account's connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        signer: Signer,
        kinds: Kinds,
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._signer = signer
        self._kinds = kinds
        self._sides = NetSides()
        self._logged_in = False
        self._failure: VenueError | None = None

    # -- out ----------------------------------------------------------------------------------------------------

    def opened(self, now_ms: int) -> Iterable[Frame]:
        token = self._signer.token(now_ms)
        return [request(LOG_IN, "public/auth", grant_type="coinbase_cdp", token=token)]

    @property
    def ready(self) -> bool:
        return self._logged_in or self._failure is not None

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        if self._failure is not None:
            for channel in channels:
                self.outlet.refused(channel, self._failure)
            return ()
        self.join(channels)
        return [request(SUBSCRIBE, "private/subscribe", channels=[CHANGES, PORTFOLIO])]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [request(UNSUBSCRIBE, "private/unsubscribe", channels=[CHANGES, PORTFOLIO])]

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = decode_frame(payload)
        if frame.method == "subscription" and frame.params is not None:
            if self._input is not None:
                self.tell(self._events(frame.params.channel, frame.params.data))
        elif frame.method == "heartbeat":
            self.outlet.send(PING)
        elif frame.id == LOG_IN:
            self._admitted(frame)
        elif frame.id == SUBSCRIBE:
            self._answered(frame)
        elif frame.error is not None and frame.id != PING_ID:
            self.outlet.reconnect(f"the venue refused a request: {frame.error.message}")

    def _admitted(self, frame: RpcFrame) -> None:
        if frame.error is None:
            self._logged_in = True
            return
        error = _error(frame.error)
        if isinstance(error, AuthenticationError):
            self._failure = error  # whoever subscribes is told
        else:
            self.outlet.reconnect(str(error))

    def _answered(self, frame: RpcFrame) -> None:
        if self._channel is None:
            return
        if frame.error is not None:
            error = _error(frame.error)
            self.outlet.refused(self._channel, error, final=isinstance(error, AuthenticationError))
            return
        missing = {CHANGES, PORTFOLIO} - set(decode_names(frame.result))
        if missing:
            reason = f"the venue does not serve {', '.join(sorted(missing))}"
            self.outlet.refused(self._channel, VenueError(reason, exchange="COINBASE"))
        else:
            self.outlet.acknowledged([self._channel])

    def _events(self, channel: str, data: msgspec.Raw) -> Iterator[AccountEvent]:
        """Trades before the orders that they changed."""
        if channel == PORTFOLIO:
            yield _decode_summary(data).as_balance()
            return
        changes = _decode_changes(data)
        market = self.market(changes.instrument_name)
        if market is None:
            return
        yield from (row.fill(market) for row in changes.trades)
        for row in changes.orders:
            self._kinds.note(row.label, row.kind)
            yield row.order(market, self._kinds)
        yield from self._positions(market, changes)

    def _positions(self, market: Market, changes: Changes) -> Iterator[AccountEvent]:
        for row in changes.positions:
            yield from self._sides.closed(market, row.size)
            if row.size:
                yield row.position(market)


def _error(failure: RpcFailure) -> VenueError:
    meaning = CODES.get(str(failure.code))
    kind = VenueError if meaning is None else meaning.error
    return kind(f"the account stream was refused: {failure.message}", exchange="COINBASE", code=str(failure.code))
