"""The sans-I/O interface between a venue's `feed.py` and the engine.

A venue describes, per channel, which connection it runs on (`Feed.endpoint`) and speaks the venue's protocol on one
connection (`Session`): wanted channels in, frames to send out; received frames in, decoded events out. Events leave
through *inputs* that the engine hands out per channel (`BookInput`, `TradeInput`, `AccountInput`) and through the
connection's `Outlet`. A feed touches no socket, clock or task: time, nonces, tickets and credentials are handed in.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from astra.errors import VenueError
from astra.models.accounts import AccountEvent
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orderbook import Integrity, Level
from astra.models.trades import Trade

Payload = bytes | bytearray | memoryview
Frame = str | bytes
"""A frame to send: text or binary."""


class DataType(StrEnum):
    """What a channel carries."""

    ORDERBOOK = "ORDERBOOK"
    TRADE = "TRADE"
    ACCOUNT = "ACCOUNT"


class Channel(msgspec.Struct, frozen=True, eq=False):
    """One native subscription: a market's book or trades, or an account's events.

    Channels are compared by identity: the engine makes one per native book (trades, account) and keeps it.
    """

    data_type: DataType
    product: str
    market: Market | None = None
    credentials: Credentials | None = None

    @property
    def native_symbol(self) -> str:
        assert self.market is not None
        return self.market.native_symbol

    def __repr__(self) -> str:
        return f"<{self.data_type} {self.market.symbol if self.market else self.product}>"


class Endpoint(msgspec.Struct, frozen=True):
    """A kind of connection. Equal endpoints share connections, up to `max_channels` on each.

    `messages_per_s` paces frames sent after connecting; `max_channels_per_frame` bounds one subscribe frame.
    `lifetime_s`: the venue cuts connections after so long; the engine renews before. `connects_per_s` paces dials.
    `silence_s`: without any received frame (pings included) for so long the connection counts as dead.
    `ping`: an application-level keep-alive frame sent every `ping_every_s` (None: nothing to send).
    `ticketed`: a ticket (URL, token, listen key) must be obtained before each dial, see `TicketSource`.
    """

    name: str
    url: str
    scope: Hashable = None
    """Whatever else must not share a connection (an account's credentials)."""
    max_channels: int = 1000
    max_channels_per_frame: int = 100
    messages_per_s: float = 5.0
    connects_per_s: float = 1.0
    lifetime_s: float | None = None
    silence_s: float = 60.0
    ack_timeout_s: float = 10.0
    ping_every_s: float | None = None
    ping: Frame | None = None
    ticketed: bool = False
    max_frame_bytes: int = 16 * 1024 * 1024


class Ticket(msgspec.Struct, frozen=True):
    """What must be fetched before dialling: `url` replaces the endpoint's, `value` goes to the session (token).

    The ticket is renewed every `renew_every_s`; a failed renewal reconnects with a new one.
    `ping_every_s` and `silence_s` override the endpoint's where the venue announces them with the ticket.
    """

    url: str | None = None
    value: str | None = None
    renew_every_s: float | None = None
    ping_every_s: float | None = None
    silence_s: float | None = None

    def __repr__(self) -> str:
        return "Ticket(***)"


class TicketSource(Protocol):
    """Where tickets come from (REST); implemented beside the venue's trading, not in its feed."""

    async def obtain(self, endpoint: Endpoint) -> Ticket: ...

    async def renew(self, endpoint: Endpoint, ticket: Ticket) -> None: ...


class Seed(StrEnum):
    """Where a book's first snapshot comes from."""

    STREAM = "STREAM"
    """The subscription itself starts with one; a new one is had by resubscribing."""
    REST = "REST"
    """It is fetched by REST while deltas are buffered."""
    IN_BAND = "IN_BAND"
    """It is asked for by a frame on the same connection (`Session.request_snapshot`) while deltas are buffered."""


class Continuity(StrEnum):
    """How consecutive deltas are recognised. `first`/`last`/`prev` are the ids a delta carries, L the book's last id.

    Frames with `last` <= L are always dropped as old.
    """

    CONTIGUOUS = "CONTIGUOUS"
    """Ids count every change. On a seed: `first` <= L+1 <= `last`; after that `first` == L+1."""
    CHAINED = "CHAINED"
    """Each delta names its predecessor. On a seed: `first` <= L < `last` or `prev` == L; after that `prev` == L."""
    NONE = "NONE"
    """The venue numbers nothing (or unusably): only checksums, audits and the connection protect the book."""


class Crossed(StrEnum):
    """What a crossed book (best bid >= best ask) means at this venue."""

    FORBIDDEN = "FORBIDDEN"
    """It proves the book wrong."""
    ALLOWED = "ALLOWED"
    """It happens lawfully (auctions, several frames to one event)."""


class BookRules(msgspec.Struct, frozen=True):
    """How books of one channel are kept: facts of the venue, run by the engine.

    `seed_depth`: levels a side that a snapshot holds at most; levels beyond the edge prices of a full one are unknown
    and not published. `reseed_below`: a side of a cut-off book with fewer levels is reseeded. `first_snapshot_s`: time
    within which the first snapshot must come. `silence_s`: a market without any delta for so long is checked (None: no
    pace can be expected). `audit_every_s`: how often the running book is compared with a fresh snapshot (None: never).
    `checksum`: integrity beyond sequence numbers is computed by the feed, see `BookInput.delta`.
    `shared_sequence`: ids run per connection, so that a gap voids all its books (the session detects it).
    """

    seed: Seed
    continuity: Continuity
    integrity: Integrity
    seed_depth: int | None = None
    reseed_below: int = 20
    crossed: Crossed = Crossed.FORBIDDEN
    first_snapshot_s: float = 15.0
    silence_s: float | None = None
    audit_every_s: float | None = 600.0
    shared_sequence: bool = False
    engine_ids: bool = False
    """The venue's ids restart (with a connection, a day): the engine numbers the updates that consumers see."""
    ids_may_fall: bool = False
    """A chained delta may name the book's last id as its predecessor and yet have a smaller id of its own (the venue
    numbers anew after maintenance): it continues the book. Goes with `engine_ids`, implies `exact`."""
    exact: bool = False
    """Each delta begins where the book stands: `first` is its last id + 1, or `prev` its last id. The venue repeats
    nothing, so that any other step, backwards ones included, is a gap."""
    differences: bool = False
    """A chained delta is the difference between two states of the book, its predecessor's and its own, not the list of
    what happened in between: one that begins before the book's last id and ends after it cannot be applied, because a
    level that changed and changed back is not in it. Each delta's `prev` must then be the book's last id itself."""
    kept_depth: int | None = None
    """Levels a side that the stream covers, where the venue does not promise to delete what falls out of them: such
    levels are cut off here, and published as deletions."""
    rest_joins: bool = False
    """Snapshots by REST carry the stream's ids, so that a running book can be compared with one. (Said by itself where
    they are its seeds.)"""
    keep_text: bool = False
    """The feed checks checksums over the venue's own number text: `delta` passes it, the book keeps it."""


class BookView(Protocol):
    """What a checksum function may look at: the text of the best levels, best first."""

    def texts(self, side: str, depth: int) -> Sequence[tuple[str, str]]: ...


Checksum = Callable[[BookView], bool]
"""Does the book have the checksum that the frame gave? Called after the frame's levels were applied."""


class BookInput(Protocol):
    """Where a session puts what concerns one native book. Levels are in base units already."""

    def delta(
        self,
        first: int,
        last: int,
        prev: int,
        bids: Sequence[Level],
        asks: Sequence[Level],
        time: int | None,
        received: int,
    ) -> None:
        """A change. Ids the venue does not give are 0 (with `Continuity.NONE`, all)."""
        ...

    def checked_delta(
        self,
        first: int,
        last: int,
        prev: int,
        bids: Sequence[tuple[str, str]],
        asks: Sequence[tuple[str, str]],
        time: int | None,
        received: int,
        checksum: Checksum | None,
    ) -> None:
        """A change as the venue's number text, with the check that must hold once it is applied."""
        ...

    def snapshot(
        self, last: int, bids: Sequence[Level], asks: Sequence[Level], time: int | None, received: int
    ) -> None:
        """A full book (order of levels does not matter)."""
        ...

    def checked_snapshot(
        self,
        last: int,
        bids: Sequence[tuple[str, str]],
        asks: Sequence[tuple[str, str]],
        time: int | None,
        received: int,
        checksum: Checksum | None,
    ) -> None: ...

    def broken(self, reason: str) -> None:
        """The session found the book wrong by the venue's own rule: resynchronise it."""
        ...


class TradeInput(Protocol):
    """Where a session puts a market's trades, oldest first."""

    @property
    def market(self) -> str:
        """The symbol to put on the trades."""
        ...

    def trades(self, trades: Sequence[Trade]) -> None: ...


class AccountInput(Protocol):
    """Where a session puts an account's events, in order."""

    def events(self, events: Sequence[AccountEvent]) -> None: ...

    def incomplete(self) -> None:
        """What was told has consequences that the venue's stream does not tell (fills, balances, positions): ask for
        them by REST soon. May be called with every event: the questions are asked at a moderate pace."""
        ...

    def interrupted(self, reason: str) -> None:
        """The venue ended the account's subscription: resubscribe and reconcile."""
        ...


class Outlet(Protocol):
    """What a session can ask of its connection."""

    def send(self, frame: Frame, *, urgent: bool = False) -> None:
        """Queue a frame; it is paced like all others. An urgent one (the answer to a ping) goes before those that
        wait."""
        ...

    def book(self, channel: Channel) -> BookInput: ...

    def trades(self, channel: Channel) -> TradeInput: ...

    def account(self, channel: Channel) -> AccountInput: ...

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        """The venue confirmed these subscriptions (or their removal)."""
        ...

    def refused(self, channel: Channel, reason: str | VenueError, *, final: bool = True) -> None:
        """The venue will not serve the channel. `final`: asking again is useless, its consumers get the error (a
        plain reason becomes a `VenueError`)."""
        ...

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        """The connection must be replaced; with `overlap` the new one is opened first (announced shutdown)."""
        ...

    def void(self, reason: str) -> None:
        """All books of this connection are in doubt (a gap in a sequence that the connection shares)."""
        ...


class Session(abc.ABC):
    """The venue's protocol on one connection. Made anew for every dial; `outlet` is the connection's side of it."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> None:
        self.endpoint = endpoint
        self.outlet = outlet
        self.ticket = ticket

    def opened(self, now_ms: int) -> Iterable[Frame]:
        """Frames to send right after connecting (log-in). A session that logs in overrides `ready`."""
        return ()

    @property
    def ready(self) -> bool:
        """May channels be subscribed already? (False until a log-in was answered.)"""
        return True

    @abc.abstractmethod
    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        """Frames that subscribe the channels (at most `max_channels_per_frame` of them)."""

    @abc.abstractmethod
    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        """Frames that end the channels. Frames of theirs that still arrive are dropped by the session."""

    def request_snapshot(self, channel: Channel, now_ms: int) -> Iterable[Frame]:
        """Frames that ask for a book snapshot in band (`Seed.IN_BAND`)."""
        raise NotImplementedError

    @abc.abstractmethod
    def received(self, payload: Payload, received_ns: int) -> None:
        """One received frame (text or binary payload; valid only during the call)."""


class Feed(abc.ABC):
    """A venue's stream protocol: which connections there are, and how to speak on them."""

    @abc.abstractmethod
    def endpoint(self, channel: Channel) -> Endpoint:
        """The kind of connection that the channel runs on."""

    def origin(self, market: Market) -> Market:
        """The market whose book and trades the market shares: itself, but where a venue has several names for one book.
        Such markets share one subscription, too; the channel's market is the origin."""
        return market

    @abc.abstractmethod
    def session(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None) -> Session:
        """The protocol for one new connection."""

    @abc.abstractmethod
    def book_rules(self, channel: Channel) -> BookRules:
        """How the channel's book is kept."""


class Units(msgspec.Struct, frozen=True):
    """How native quantities of a contract market become base units in market data: contracts x size, for inverse
    contracts (size in quote currency) contracts x size / price."""

    size: float
    inverse: bool

    @classmethod
    def of(cls, market: Market | None) -> Units | None:
        """None where native quantities are base units already (a size of 1 converts nothing)."""
        if market is None or market.contract_size is None or (market.contract_size == 1 and not market.is_inverse):
            return None
        return cls(float(market.contract_size), market.is_inverse)

    def levels(self, levels: Sequence[Level]) -> list[Level]:
        return convert_levels(levels, self.size, inverse=self.inverse)

    def quantity(self, native: float, price: float) -> float:
        return native * self.size / price if self.inverse else native * self.size


def convert_levels(levels: Sequence[Level], contract_size: float, *, inverse: bool) -> list[Level]:
    """Levels in contracts as levels in base units: `q x size`, inverse `q x size / price`."""
    if inverse:
        return [(price, quantity * contract_size / price) for price, quantity in levels]
    return [(price, quantity * contract_size) for price, quantity in levels]


class BookSeed(msgspec.Struct, frozen=True):
    """A snapshot fetched by REST, in base units. `complete`: the venue's whole book, not cut off at a depth."""

    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    time: int | None
    complete: bool = False
    texts: Any = None


class HistorySource(Protocol):
    """What the engine may ask a venue by REST for its streams."""

    async def book_seed(self, channel: Channel) -> BookSeed:
        """The deepest affordable snapshot of the channel's book, through the venue's rate limits."""
        ...

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`, oldest first, up to now; None where the venue's history has no ids to join by."""
        ...
