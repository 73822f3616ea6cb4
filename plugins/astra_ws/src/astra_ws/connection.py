"""One WebSocket connection: what it asks, what it is subscribed to, what is sent to it."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
from starlette.types import Receive, Send

from astra.errors import AstraError, BadRequest
from astra.streams.feed import DataType
from astra_gateway.errors import GatewayError
from astra_gateway.keys import KeyRecord, KeyStore
from astra_gateway.problems import problem_of
from astra_ws.broadcast import Broadcasts, Subscription
from astra_ws.crew import Crew
from astra_ws.messages import acknowledged_text, decode_object, error_text, parse_asked
from astra_ws.older_schema import market_of

if TYPE_CHECKING:
    from astra import Astra

logger = logging.getLogger("astra.ws")

MOST_ANSWERS = 64
"""Answers that wait for a client that does not read them; then its messages are not read either."""

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class TooManySubscriptions(GatewayError):
    """The connection has as many subscriptions as it may have."""

    problem = "too-many-subscriptions"
    status = 429


class Connection:
    """An accepted connection. `send` and `receive` are the server's.

    `by_query`: the one documented subscription was named in the URL; the connection ends with it.
    """

    def __init__(
        self,
        astra: Astra,
        broadcasts: Broadcasts,
        crew: Crew,
        keys: KeyStore,
        caller: KeyRecord,
        send: Send,
        receive: Receive,
        *,
        most_subscriptions: int,
        notices: bool,
        by_query: bool,
    ) -> None:
        self.caller = caller
        self.queued = False
        self._astra = astra
        self._broadcasts = broadcasts
        self._crew = crew
        self._keys = keys
        self._send = send
        self._receive = receive
        self._most_subscriptions = most_subscriptions
        self._notices = notices
        self._by_query = by_query
        self._subscriptions: dict[tuple[DataType, str], Subscription] = {}
        self._answers: deque[dict[str, str]] = deque()
        self._ready: deque[Subscription] = deque()
        self._closing: dict[str, Any] | None = None
        self._room: anyio.Event | None = None
        self._scope = anyio.CancelScope()
        self._over = False

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        self._crew.join()
        try:
            with self._scope:
                await self._receive_all()
        finally:
            self._over = True
            self._crew.leave()
            for subscription in self._subscriptions.values():
                subscription.broadcast.leave(subscription)
            self._subscriptions.clear()

    def subscribe(self, symbol: str, data_type: DataType, *, notices: bool | None = None) -> None:
        """Add a subscription; asking again for one that there is changes only whether notices are sent."""
        wanted = self._notices if notices is None else notices
        known = self._subscriptions.get((data_type, symbol))
        if known is not None:
            known.wants_notices = wanted
            return
        if len(self._subscriptions) >= self._most_subscriptions:
            raise TooManySubscriptions(
                f"a connection has at most {self._most_subscriptions} subscriptions; open another one"
            )
        self._subscriptions[data_type, symbol] = self._broadcasts.join(self, symbol, data_type, notices=wanted)

    def begin(self, symbol: str, data_type: DataType) -> None:
        """The subscription named in the URL; what refuses it ends the connection."""
        try:
            self.subscribe(symbol, data_type)
        except AstraError as error:
            self.close(error, INTERNAL_ERROR)

    def close(self, error: Exception, code: int) -> None:
        """End the connection from our side: say why, then close."""
        self._answer(error_text(problem_of(error)))
        self._closing = {"type": "websocket.close", "code": code, "reason": str(error)[:100]}
        self._crew.add(self)

    # -- what broadcasts call ---------------------------------------------------------------------------------------

    def wake_for(self, subscription: Subscription) -> None:
        self._ready.append(subscription)
        if not self.queued:
            self._crew.add(self)

    def ended(self, subscription: Subscription, error: Exception) -> None:
        for key, known in list(self._subscriptions.items()):
            if known is subscription:
                del self._subscriptions[key]
                data_type, symbol = key
                self._answer(error_text(problem_of(error), market=symbol, dataType=data_type.value))
        if self._by_query:
            self._closing = {"type": "websocket.close", "code": INTERNAL_ERROR, "reason": str(error)[:100]}

    # -- sending ----------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Send everything that waits: answers first, then the subscriptions' messages in turn."""
        send, counts = self._send, self._broadcasts.counts
        try:
            while not self._over:
                while self._answers:
                    await send(self._answers.popleft())
                if self._room is not None:
                    self._room.set()
                if self._closing is not None:
                    await send(self._closing)
                    break
                if not self._ready:
                    return
                subscription = self._ready.popleft()
                subscription.queued = False
                for event in subscription.events():
                    await send(event)
                    counts.messages += 1
        except OSError:
            logger.debug("a client went away while it was sent to")
        except Exception:
            logger.exception("sending to a WebSocket client failed")
        self._over = True
        self._scope.cancel()

    def _answer(self, text: str) -> None:
        self._answers.append({"type": "websocket.send", "text": text})
        self._crew.add(self)

    # -- receiving --------------------------------------------------------------------------------------------------

    async def _receive_all(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return
            text = event.get("text")
            await self._carry_out(event.get("bytes") or b"" if text is None else text)
            while len(self._answers) >= MOST_ANSWERS:
                self._room = anyio.Event()
                await self._room.wait()

    async def _carry_out(self, text: str | bytes) -> None:
        request_id: Any = None
        try:
            self._keys.admit(self.caller)
            fields = decode_object(text)
            if isinstance(fields.get("id"), str | int):
                request_id = fields["id"]
            asked = parse_asked(fields)
            market = await market_of(self._astra, asked.exchange, asked.market)
            if asked.subscribe:
                # Acknowledged first: the data that follows is expected then.
                acknowledged = acknowledged_text("SUBSCRIBED", market.symbol, asked.data_type, request_id)
                self.subscribe(market.symbol, asked.data_type, notices=asked.state)
            else:
                acknowledged = acknowledged_text("UNSUBSCRIBED", market.symbol, asked.data_type, request_id)
                self._unsubscribe(market.symbol, asked.data_type)
            self._answer(acknowledged)
        except AstraError as error:
            self._answer(error_text(problem_of(error), request_id))

    def _unsubscribe(self, symbol: str, data_type: DataType) -> None:
        subscription = self._subscriptions.pop((data_type, symbol), None)
        if subscription is None:
            raise BadRequest(f"there is no subscription to {data_type.value} of {symbol} on this connection")
        subscription.broadcast.leave(subscription)
