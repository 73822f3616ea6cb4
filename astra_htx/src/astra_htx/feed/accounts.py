"""What the private sockets have in common: log-in, subscriptions, acknowledgements, pings."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from astra.errors import AuthenticationError, PermissionDenied, VenueError
from astra.models.accounts import AccountEvent
from astra.models.credentials import ApiKey
from astra.rest import Meaning
from astra.streams.accounts import LoginSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra_htx.errors import EXCHANGE, SOCKET_CODES
from astra_htx.feed.markets import unzipped
from astra_htx.signing import derivatives_login, host_of

_OK = 0


class PrivateSession(LoginSession, abc.ABC):
    """One account on one socket: log-in, then the venue's topics, which together are one channel of Astra's."""

    codes: ClassVar[Mapping[str, Meaning]]

    def __init__(
        self,
        endpoint: Endpoint,
        outlet: Outlet,
        ticket: Ticket | None,
        market_of: MarketOf,
        key: ApiKey,
        clock_refused: Callable[[], None],
    ) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        host, _, path = endpoint.url.partition("://")[2].partition("/")
        self.host, self.path = host_of(f"//{host}"), f"/{path}"
        self._key = key
        self._clock_refused = clock_refused

    @abc.abstractmethod
    def topics(self) -> Mapping[str, dict[str, Any]]:
        """What is subscribed: topic, as answers name it -> further fields of the frame."""

    @abc.abstractmethod
    def topic_frame(self, verb: str, topic: str, more: Mapping[str, Any]) -> dict[str, Any]:
        """The frame that subscribes (`sub`) or ends (`unsub`) a topic."""

    def subscriptions(self) -> Mapping[str, Frame]:
        return {topic: self._frame("sub", topic, more) for topic, more in self.topics().items()}

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [self._frame("unsub", topic, more) for topic, more in self.topics().items()]

    def _frame(self, verb: str, topic: str, more: Mapping[str, Any]) -> str:
        return msgspec.json.encode(self.topic_frame(verb, topic, more)).decode()

    # -- in -----------------------------------------------------------------------------------------------------

    def _logged(self, error: VenueError | None) -> None:
        """The log-in was answered."""
        if isinstance(error, AuthenticationError | PermissionDenied):
            # The stamp may be the reason, which the venue does not say apart.
            self._clock_refused()
        self.login_answered(error)

    def _answered(self, verb: str, topic: str, error: VenueError | None) -> None:
        """A subscription was answered."""
        if verb != "sub" or self._channel is None:
            return
        if error is None:
            self.subscribed(topic)
        elif isinstance(error, AuthenticationError | PermissionDenied):
            self.outlet.refused(self._channel, error)
        else:
            # Without all of its topics the stream would be silent on a part of the account.
            self.outlet.reconnect(str(error))

    def _error(self, code: str, text: str) -> VenueError:
        meaning = self.codes.get(code)
        kind = VenueError if meaning is None else meaning.error
        return kind(f"the account stream was refused: {text} (code {code})", exchange=EXCHANGE, code=code)


class _Notice(msgspec.Struct):
    """A frame of a derivatives socket. Ids of pings are texts, repeated as they are."""

    op: str
    topic: str = ""
    ts: msgspec.Raw = msgspec.Raw(b"null")
    code: int | None = msgspec.field(default=None, name="err-code")
    text: str = msgspec.field(default="", name="err-msg")


_decode_notice = msgspec.json.Decoder(_Notice).decode


class NotificationSession(PrivateSession):
    """The derivatives' sockets: gzip, `op` frames."""

    codes = SOCKET_CODES

    def opened(self, now_ms: int) -> Iterable[Frame]:
        return [derivatives_login(self._key, self.host, self.path, now_ms)]

    def topic_frame(self, verb: str, topic: str, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"op": verb, "cid": topic, "topic": topic, **more}

    def received(self, payload: Payload, received_ns: int) -> None:
        text = unzipped(payload, self.endpoint.max_frame_bytes)
        notice = _decode_notice(text)
        if notice.op == "notify":
            self.tell(self._events(notice.topic, text))
        elif notice.op == "ping":
            self.outlet.send(f'{{"op":"pong","ts":{bytes(notice.ts).decode()}}}', urgent=True)
        elif notice.op == "close":
            self.outlet.reconnect("the venue announced that it closes this connection", overlap=True)
        elif notice.op in ("auth", "sub", "unsub", "error"):
            refused = notice.code not in (None, _OK)
            error = self._error(str(notice.code), notice.text) if refused else None
            if notice.op == "auth":
                self._logged(error)
            elif notice.op == "error":
                self.outlet.reconnect(str(error or notice.text))
            else:
                self._answered(notice.op, notice.topic, error)

    @abc.abstractmethod
    def _events(self, topic: str, text: Payload) -> Iterable[AccountEvent]:
        """What a push means for the account."""
