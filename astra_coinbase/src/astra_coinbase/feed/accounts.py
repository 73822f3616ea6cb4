"""The private stream of the international gateway: own orders, trades, positions and balances.

The log-in makes the connection the credential; it lasts as long as the venue says, and the connection is replaced
before. Source: docs.cdp.coinbase.com, Global Derivatives; the Deribit protocol's `user.changes`, `user.portfolio`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from astra.errors import AuthenticationError, VenueError
from astra.models.accounts import AccountEvent
from astra.models.markets import Market
from astra.streams.accounts import LoginSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import NetSides
from astra_coinbase.errors import CODES
from astra_coinbase.feed.international import PING, PING_ID, RpcFailure, RpcFrame, decode_frame, decode_names, request
from astra_coinbase.signing import Signer
from astra_coinbase.trading.advanced_rows import Kinds
from astra_coinbase.trading.international_rows import Changes, SummaryRow

LOG_IN, SUBSCRIBE, UNSUBSCRIBE = 1, 2, 3
CHANGES, PORTFOLIO = "user.changes.any.any.raw", "user.portfolio.any"
PARTS = (CHANGES, PORTFOLIO)
SESSION_S = 3000.0
"""How long a log-in lasts."""

_decode_changes = msgspec.json.Decoder(Changes).decode
_decode_summary = msgspec.json.Decoder(SummaryRow).decode


class GatewayAccountSession(LoginSession):
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

    # -- out ----------------------------------------------------------------------------------------------------

    def opened(self, now_ms: int) -> Iterable[Frame]:
        token = self._signer.token(now_ms)
        return [request(LOG_IN, "public/auth", grant_type="coinbase_cdp", token=token)]

    def subscriptions(self) -> Mapping[str, Frame]:
        return dict.fromkeys(PARTS, request(SUBSCRIBE, "private/subscribe", channels=PARTS))

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [request(UNSUBSCRIBE, "private/unsubscribe", channels=PARTS)]

    # -- in -----------------------------------------------------------------------------------------------------

    def received(self, payload: Payload, received_ns: int) -> None:
        frame = decode_frame(payload)
        if frame.method == "subscription" and frame.params is not None:
            if self._input is not None:
                self.tell(self._events(frame.params.channel, frame.params.data))
        elif frame.method == "heartbeat":
            self.outlet.send(PING)
        elif frame.id == LOG_IN:
            self.login_answered(_error(frame.error) if frame.error is not None else None)
        elif frame.id == SUBSCRIBE:
            self._answered(frame)
        elif frame.error is not None and frame.id != PING_ID:
            self.outlet.reconnect(f"the venue refused a request: {frame.error.message}")

    def _answered(self, frame: RpcFrame) -> None:
        if self._channel is None:
            return
        if frame.error is not None:
            error = _error(frame.error)
            self.outlet.refused(self._channel, error, final=isinstance(error, AuthenticationError))
            return
        missing = set(PARTS) - set(decode_names(frame.result))
        if missing:
            reason = f"the venue does not serve {', '.join(sorted(missing))}"
            self.outlet.refused(self._channel, VenueError(reason, exchange="COINBASE"))
            return
        for name in PARTS:
            self.subscribed(name)

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
