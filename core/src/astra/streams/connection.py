"""Connections: channels packed into as few sockets as the venue allows, kept alive, renewed, and replaced.

A `ConnectionPool` holds `ManagedConnection`s, one task each. A managed connection owns its channels (`Target`s) and
the `Link` (one dialled socket with the venue's `Session` on it) that serves them now; while a link is being renewed
there are two. Whatever fails here ends the link, never the application: its targets learn why, and are subscribed
again on the next link.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.abc
import msgspec

from astra.errors import AstraError, AuthenticationError, ConfigError, PermissionDenied, VenueError
from astra.models.protocols import Clock
from astra.net.transports import ConnectError, Connection, Transport
from astra.streams.feed import Channel, DataType, Endpoint, Feed, Frame, Payload, Session, Ticket, TicketSource

logger = logging.getLogger("astra.streams")

MAX_OUTBOX = 10_000


class Backoff(msgspec.Struct, frozen=True):
    """Exponential delays with a cap and full-range jitter."""

    base_s: float = 0.25
    cap_s: float = 30.0

    def delay(self, attempt: int, chance: random.Random) -> float:
        """The delay before attempt number `attempt` (1 is the first repetition)."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 16)) * chance.uniform(0.5, 1.0)


class Lane(Protocol):
    """A link's way into a target; see `sync.BookLane`. A lane feeds, or probes and then feeds, or is closed."""

    def feed(self) -> None: ...

    def close(self) -> None: ...


class Target(Protocol):
    """What a channel's data is for: a book, trades, an account."""

    @property
    def channel(self) -> Channel: ...

    def lane(self, joined: Callable[[Any], None] | None) -> Lane:
        """A way in for a link. With `joined`, the lane of a successor: it probes, and a book calls back when it took
        over; what others hold back is delivered at promotion, less what the old link delivered already."""
        ...

    def opened(self) -> None:
        """Subscribe frames are on their way on a new link."""
        ...

    def acknowledged(self) -> None:
        """The venue confirmed the subscription."""
        ...

    def closed(self, reason: str) -> None:
        """The subscription is gone; another attempt follows."""
        ...

    def refused(self, error: AstraError) -> None:
        """The subscription is impossible; no further attempt."""
        ...


class ConnectionContext(msgspec.Struct):
    """What all connections of a hub share."""

    exchange: str
    feed: Feed
    transport: Callable[[], Awaitable[Transport]]
    clock: Clock
    now_ms: Callable[[], int]
    """The venue's time, for log-ins."""
    random: random.Random
    tickets: TicketSource | None = None
    proxy: str | None = None
    headers: Mapping[str, str] | None = None
    connect_timeout_s: float = 10.0
    backoff: Backoff = Backoff()
    overlap_s: float = 10.0
    """How long an old link stays beside its successor for books to join."""
    renew_after: float = 0.95
    """A link is renewed at this fraction of the venue's lifetime for connections (minus up to 5 % jitter)."""


class Link:
    """One dialled socket: the transport's listener, the session's outlet, pacing, acknowledgements, keep-alives."""

    def __init__(self, owner: ManagedConnection, endpoint: Endpoint, ticket: Ticket | None, *, probing: bool) -> None:
        context = owner.context
        self.endpoint = endpoint
        self.ticket = ticket
        self.probing = probing
        self.ended: str | None = None
        self.frames = 0
        self.unjoined: set[Channel] = set()
        """As a successor: books that have not taken over yet."""
        self.taken: set[Channel] = set()
        """As a successor: books that have taken over."""
        self.overlap_wanted: str | None = None
        self._owner = owner
        self._context = context
        self._connection: Connection | None = None
        self._outbox: deque[Frame] = deque()
        self._send_at = 0.0
        self._lanes: dict[Channel, Lane] = {}
        self._sent: dict[Channel, float] = {}
        self._acked: set[Channel] = set()
        self._heard_frames = -1
        self._heard_at = 0.0
        self._probe_at = 0.0
        self._ping_at: float | None = None
        self._opened_at = 0.0
        self._now_ns = context.clock.wall_ns
        self._session: Session = context.feed.session(endpoint, self, ticket)
        self._received: Callable[[Payload, int], None] = (
            self._session.received if self._session.ready else self._until_ready
        )
        self._silence_s = (ticket.silence_s if ticket else None) or endpoint.silence_s
        self._ping_every_s = (ticket.ping_every_s if ticket else None) or endpoint.ping_every_s
        jitter = context.random.uniform(0.95, 1.0)
        self._lifetime_s = None if endpoint.lifetime_s is None else endpoint.lifetime_s * context.renew_after * jitter

    # -- the transport's listener (hot path) --------------------------------------------------------------------

    def frame(self, payload: Payload) -> None:
        self.frames += 1
        try:
            self._received(payload, self._now_ns())
        except Exception as error:
            if self.ended is None:
                logger.exception("%s %s: a frame could not be understood", self._context.exchange, self.endpoint.name)
                self.end(f"a frame could not be understood ({type(error).__name__})")

    def _until_ready(self, payload: Payload, received_ns: int) -> None:
        """A frame before channels may be subscribed: the one that changes this must not be left unnoticed."""
        self._session.received(payload, received_ns)
        if self._session.ready and self.ended is None:
            self._received = self._session.received
            self._owner.wake()

    def alive(self) -> None:
        self.frames += 1

    def disconnected(self, reason: str) -> None:
        self.end(reason)

    # -- the session's outlet -----------------------------------------------------------------------------------

    def send(self, frame: Frame, *, urgent: bool = False) -> None:
        if len(self._outbox) >= MAX_OUTBOX:
            self.end("too many frames wait to be sent")
            return
        if urgent:
            self._outbox.appendleft(frame)
        else:
            self._outbox.append(frame)
        self._owner.wake()

    def book(self, channel: Channel) -> Any:
        return self._lanes[channel]

    def trades(self, channel: Channel) -> Any:
        return self._lanes[channel]

    def account(self, channel: Channel) -> Any:
        return self._lanes[channel]

    def acknowledged(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            if channel in self._sent and channel not in self._acked:
                self._acked.add(channel)
                target = self._owner.targets.get(channel)
                if target is not None and not self.probing:
                    target.acknowledged()
        self._owner.wake()

    def refused(self, channel: Channel, reason: str | VenueError, *, final: bool = True) -> None:
        if final:
            self._forget(channel)
            error = VenueError(reason, exchange=self._context.exchange) if isinstance(reason, str) else reason
            self._owner.refuse(channel, error)
        else:
            self.resubscribe(channel)

    def reconnect(self, reason: str, *, overlap: bool = False) -> None:
        if overlap:
            self.overlap_wanted = reason
            self._owner.wake()
        else:
            self.end(reason)

    def void(self, reason: str) -> None:
        for channel in list(self._lanes):
            broken = getattr(self._lanes[channel], "broken", None)
            if broken is not None:
                broken(reason)

    # -- life ---------------------------------------------------------------------------------------------------

    async def dial(self, task_group: anyio.abc.TaskGroup) -> None:
        """Connect and queue the session's opening frames."""
        context = self._context
        transport = await context.transport()
        self._connection = await transport.connect(
            (self.ticket.url if self.ticket else None) or self.endpoint.url,
            self,
            task_group=task_group,
            headers=context.headers,
            timeout_s=context.connect_timeout_s,
            max_frame_bytes=self.endpoint.max_frame_bytes,
            proxy=context.proxy,
        )
        now = context.clock.monotonic()
        self._opened_at = self._heard_at = self._probe_at = now
        if self._ping_every_s is not None:
            self._ping_at = now + self._ping_every_s
        self._outbox.extend(self._session.opened(context.now_ms()))

    async def aclose(self) -> None:
        """Close the socket, cancellation or not."""
        self.end("closed")
        for lane in self._lanes.values():
            lane.close()
        if self._connection is not None:
            with anyio.move_on_after(2.0, shield=True):
                await self._connection.aclose()

    def end(self, reason: str) -> None:
        """The link is finished: its targets learn it at once, the owner's task does the rest.

        Frames that were read together with the last one are not heard any more: they would be told before the targets
        know what was lost in front of them.
        """
        if self.ended is None:
            self.ended = reason
            self._received = _unheard
            self._owner.link_ended(self, reason)

    def promote(self) -> None:
        """The successor becomes the link: all its lanes feed."""
        self.probing = False
        self.unjoined.clear()
        for lane in self._lanes.values():
            lane.feed()

    def has(self, channel: Channel) -> bool:
        return channel in self._lanes

    def is_acknowledged(self, channels: Iterable[Channel]) -> bool:
        return all(channel in self._acked for channel in channels)

    def resubscribe(self, channel: Channel) -> None:
        """End the channel's subscription on this link and make it anew."""
        if channel in self._lanes:
            self._outbox.extend(self._session.unsubscribe([channel], self._context.now_ms()))
            self._forget(channel)
            self._owner.wake()

    def awaits(self, channel: Channel) -> bool:
        """Was the channel subscribed, or is it about to be, and not acknowledged yet?"""
        return channel not in self._acked

    def request_snapshot(self, channel: Channel) -> None:
        if channel in self._lanes:
            self._outbox.extend(self._session.request_snapshot(channel, self._context.now_ms()))
            self._owner.wake()

    def _forget(self, channel: Channel) -> None:
        lane = self._lanes.pop(channel, None)
        if lane is not None:
            lane.close()
        self._sent.pop(channel, None)
        self._acked.discard(channel)
        self.unjoined.discard(channel)

    # -- time ---------------------------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Do what is due; returns when to be called again at the latest (monotonic seconds)."""
        if self.ended is not None:
            return now
        targets = self._owner.targets
        if self._session.ready:
            self._subscribe([channel for channel in targets if channel not in self._lanes], now)
            self._unsubscribe([channel for channel in self._lanes if channel not in targets])
        elif now - self._opened_at > self.endpoint.ack_timeout_s:
            self.end("the log-in was not answered")
            return now
        due = self._send_due(now)
        due = min(due, self._watch(now))
        if self._lifetime_s is not None and self.overlap_wanted is None:
            if now - self._opened_at >= self._lifetime_s:
                self.overlap_wanted = "planned renewal before the venue's cut-off"
            due = min(due, self._opened_at + self._lifetime_s)
        return due

    def _subscribe(self, channels: list[Channel], now: float) -> None:
        size = self.endpoint.max_channels_per_frame
        for start in range(0, len(channels), size):
            chunk = channels[start : start + size]
            for channel in chunk:
                target = self._owner.targets[channel]
                if self.probing:
                    if channel.data_type is DataType.ORDERBOOK:
                        self.unjoined.add(channel)
                    self._lanes[channel] = target.lane(partial(self._joined, channel))
                else:
                    self._lanes[channel] = target.lane(None)
                    target.opened()
            for channel in chunk:
                # Before the session is asked: where the connection is the subscription it acknowledges at once.
                self._sent[channel] = now + self.endpoint.ack_timeout_s
            self._outbox.extend(self._session.subscribe(chunk, self._context.now_ms()))
            patience = self.endpoint.ack_timeout_s + len(self._outbox) / self.endpoint.messages_per_s
            for channel in chunk:
                self._sent[channel] = now + patience

    def _unsubscribe(self, channels: list[Channel]) -> None:
        size = self.endpoint.max_channels_per_frame
        for start in range(0, len(channels), size):
            chunk = channels[start : start + size]
            self._outbox.extend(self._session.unsubscribe(chunk, self._context.now_ms()))
            for channel in chunk:
                self._forget(channel)

    def _joined(self, channel: Channel, _lane: Lane) -> None:
        self.unjoined.discard(channel)
        self.taken.add(channel)
        self._owner.joined(channel)

    def _send_due(self, now: float) -> float:
        assert self._connection is not None
        if self._ping_at is not None and now >= self._ping_at:
            assert self._ping_every_s is not None
            self._ping_at = now + self._ping_every_s
            if self.endpoint.ping is not None:
                self._outbox.append(self.endpoint.ping)
            else:
                self._connection.ping()
        while self._outbox and now >= self._send_at:
            self._connection.send(self._outbox.popleft())
            self._send_at = max(self._send_at, now) + 1.0 / self.endpoint.messages_per_s
        due = self._send_at if self._outbox else float("inf")
        return due if self._ping_at is None else min(due, self._ping_at)

    def _watch(self, now: float) -> float:
        """Silence and missing acknowledgements."""
        assert self._connection is not None
        if self.frames != self._heard_frames:
            self._heard_frames = self.frames
            self._heard_at = self._probe_at = now
        if now - self._heard_at >= self._silence_s:
            self.end(f"nothing heard for {self._silence_s:g} s")
            return now
        if now - self._probe_at >= self._silence_s / 2:
            self._probe_at = now
            self._connection.ping()
        # Frames are counted, not timed, as they come in: looking this often keeps the error to a quarter.
        due = now + self._silence_s / 4
        for channel, deadline in self._sent.items():
            if channel not in self._acked:
                if now >= deadline:
                    self.end("a subscription was not acknowledged")
                    return now
                due = min(due, deadline)
        return due


class ManagedConnection:
    """A set of channels of one endpoint and the task that keeps a link up for them."""

    def __init__(self, context: ConnectionContext, endpoint: Endpoint, pool: ConnectionPool) -> None:
        self.context = context
        self.endpoint = endpoint
        self.targets: dict[Channel, Target] = {}
        self.reconnects = 0
        self.last_reason: str | None = None
        self._pool = pool
        self._link: Link | None = None
        self._successor: Link | None = None
        self._succeeding = False
        self._succeed_not_before = 0.0
        self._promote_at: float | None = None
        self._event = anyio.Event()

    @property
    def is_up(self) -> bool:
        return self._link is not None and self._link.ended is None

    def wake(self) -> None:
        """Something changed: look at it soon."""
        self._event.set()

    def add(self, target: Target) -> None:
        self.targets[target.channel] = target
        self.wake()

    def remove(self, channel: Channel) -> None:
        self.targets.pop(channel, None)
        self.wake()

    def refuse(self, channel: Channel, error: AstraError) -> None:
        """This channel will not be served."""
        target = self.targets.pop(channel, None)
        if target is not None:
            self._contained(target.refused, error)
        self.wake()

    def resubscribe(self, channel: Channel) -> None:
        if self._link is not None:
            self._link.resubscribe(channel)

    def awaits(self, channel: Channel) -> bool:
        return self._link is None or self._link.awaits(channel)

    def request_snapshot(self, channel: Channel) -> None:
        if self._link is not None:
            self._link.request_snapshot(channel)

    def joined(self, channel: Channel) -> None:
        """The successor's lane of this channel took over: the old link's is of no use any more."""
        if self._link is not None:
            lane = self._link._lanes.get(channel)
            if lane is not None:
                lane.close()
        self.wake()

    def link_ended(self, link: Link, reason: str) -> None:
        """A link is finished. Unless a successor stands by, what it served is in doubt from this moment on."""
        if link is self._link and (self._successor is None or self._successor.ended is not None):
            self._lost(reason)
        self.wake()

    async def run(self) -> None:
        """Keep a link up as long as there are channels."""
        context = self.context
        attempt = 0
        try:
            while self.targets:
                started = context.clock.monotonic()
                wait_s: float | None = None
                refusal: AstraError | None = None
                reason = ""
                try:
                    async with anyio.create_task_group() as task_group:
                        reason = await self._live(task_group)
                        task_group.cancel_scope.cancel()
                except* (AuthenticationError, PermissionDenied, ConfigError) as refusals:
                    refusal = _first(refusals)
                except* (ConnectError, VenueError) as failures:
                    failure = _first(failures)
                    wait_s = getattr(failure, "retry_after", None)
                    if wait_s is None and 400 <= (getattr(failure, "status", None) or 0) < 500:
                        wait_s = context.backoff.cap_s  # a refused handshake is not mended by trying at once
                    reason = str(failure)
                except* Exception as bugs:
                    logger.exception("%s %s: the connection's task failed", context.exchange, self.endpoint.name)
                    reason = f"internal error ({type(_first(bugs)).__name__})"
                if refusal is not None:
                    self._refuse_all(refusal)
                if not self.targets:
                    return
                self._lost(reason)
                attempt = 1 if context.clock.monotonic() - started > 30.0 else attempt + 1
                delay = wait_s if wait_s is not None else context.backoff.delay(attempt, context.random)
                logger.info("%s %s: %s; again in %.2f s", context.exchange, self.endpoint.name, reason, delay)
                await context.clock.sleep(delay)
        except Exception as bug:  # of this loop itself: what it served is told, and served by another connection
            logger.exception("%s %s: the connection's task failed", context.exchange, self.endpoint.name)
            self._lost(f"internal error ({type(bug).__name__})")
        except BaseException:  # the application ends
            self.targets.clear()
            raise
        finally:
            self._pool.gone(self)

    async def _live(self, task_group: anyio.abc.TaskGroup) -> str:
        """Dial, serve until the link ends; returns why."""
        link = self._link = await self._dial(task_group, probing=False)
        try:
            while True:
                self._event = anyio.Event()
                now = self.context.clock.monotonic()
                link = self._link
                if not self.targets:
                    return "no channel left"
                if link.ended is not None:
                    if not self._take_over():
                        return link.ended
                    await link.aclose()
                    continue
                due = link.step(now)
                if link.overlap_wanted is not None:
                    due = min(due, self._renew(task_group, now))
                if self._successor is not None and self._successor.ended is not None:
                    failed = self._successor
                    due = min(due, self._renewal_failed(failed, now))
                    await failed.aclose()
                elif self._successor is not None:
                    due = min(due, self._step_successor(self._successor, now))
                    if self._promote_at is not None and now >= self._promote_at and self._take_over():
                        await link.aclose()
                        continue
                await self.context.clock.wait(self._event, max(0.0, due - now))
        finally:
            for one in (self._link, self._successor):
                if one is not None:
                    await one.aclose()
            self._link = self._successor = None
            self._succeeding = False

    async def _dial(self, task_group: anyio.abc.TaskGroup, *, probing: bool) -> Link:
        ticket: Ticket | None = None
        if self.endpoint.ticketed:
            assert self.context.tickets is not None
            ticket = await self.context.tickets.obtain(self.endpoint)
        await self._pool.pace(self.endpoint)
        link = Link(self, self.endpoint, ticket, probing=probing)
        await link.dial(task_group)
        if ticket is not None and ticket.renew_every_s is not None:
            task_group.start_soon(self._keep_ticket, link, ticket)
        self.reconnects += 1
        return link

    async def _keep_ticket(self, link: Link, ticket: Ticket) -> None:
        assert self.context.tickets is not None
        assert ticket.renew_every_s is not None
        while link.ended is None:
            await self.context.clock.sleep(ticket.renew_every_s)
            try:
                await self.context.tickets.renew(self.endpoint, ticket)
            except VenueError as error:
                if error.retryable:
                    logger.warning("%s: a ticket could not be renewed, again later: %s", self.context.exchange, error)
                    continue
                link.reconnect(f"the ticket could not be renewed: {error}", overlap=True)
                return

    # -- renewal ------------------------------------------------------------------------------------------------

    def _renew(self, task_group: anyio.abc.TaskGroup, now: float) -> float:
        if self._succeeding or self._successor is not None:
            return float("inf")
        if now < self._succeed_not_before:
            return self._succeed_not_before
        self._succeeding = True
        task_group.start_soon(self._succeed, task_group)
        return float("inf")

    async def _succeed(self, task_group: anyio.abc.TaskGroup) -> None:
        """Dial the successor; the serving task takes it from there."""
        try:
            self._successor = await self._dial(task_group, probing=True)
        except (ConnectError, VenueError) as error:
            logger.warning("%s %s: renewal failed, again soon: %s", self.context.exchange, self.endpoint.name, error)
            self._succeed_not_before = self.context.clock.monotonic() + 5.0
        finally:
            self._succeeding = False
            self.wake()

    def _renewal_failed(self, successor: Link, now: float) -> float:
        """The link goes on alone, with new subscriptions for the books that the successor had taken over already."""
        logger.warning("%s: renewing %s failed: %s", self.context.exchange, self.endpoint.name, successor.ended)
        for channel in successor.taken & self.targets.keys():
            self._contained(self.targets[channel].closed, successor.ended)
            if self._link is not None:
                self._link.resubscribe(channel)
        self._successor = None
        self._promote_at = None
        self._succeed_not_before = now + 5.0
        return now + 5.0

    def _step_successor(self, successor: Link, now: float) -> float:
        due = successor.step(now)
        if self._promote_at is None and successor.is_acknowledged(self.targets):
            self._promote_at = now + self.context.overlap_s
        if self._promote_at is not None:
            if not successor.unjoined:
                self._promote_at = now
            due = min(due, self._promote_at)
        return due

    def _take_over(self) -> bool:
        """Make the successor the link, if there is a usable one."""
        successor, old = self._successor, self._link
        if successor is None or successor.ended is not None or old is None:
            return False
        reason = old.ended or "the connection was renewed"
        confirmed: list[Target] = []
        for channel, target in self.targets.items():
            is_acknowledged = successor.is_acknowledged([channel])
            if not successor.has(channel):
                if old.has(channel):
                    self._contained(target.closed, reason)
                continue
            anew = not is_acknowledged
            if channel.data_type is DataType.ORDERBOOK:
                # One that was joined is proved continuous. Of the others nobody knows what an old link that ended by
                # itself would have told; one that was renewed as planned told everything until now.
                anew = channel in successor.unjoined and (anew or old.ended is not None)
            if anew:
                self._contained(target.closed, reason)
                target.opened()
            if is_acknowledged and (anew or old.awaits(channel)):
                confirmed.append(target)
        for lane in old._lanes.values():
            lane.close()
        self._link, self._successor, self._promote_at = successor, None, None
        successor.promote()
        for target in confirmed:  # to the successor alone: that was not told while it only stood by
            target.acknowledged()
        return True

    # -- loss ---------------------------------------------------------------------------------------------------

    def _lost(self, reason: str) -> None:
        self.last_reason = reason
        for target in list(self.targets.values()):
            self._contained(target.closed, reason)

    def _contained(self, tell: Callable[[Any], None], what: object) -> None:
        """Tell a target that its data ends. A target that fails at that keeps it from no other one."""
        try:
            tell(what)
        except Exception:
            logger.exception("%s %s: a channel's end could not be told", self.context.exchange, self.endpoint.name)

    def _refuse_all(self, error: AstraError) -> None:
        for channel in list(self.targets):
            self.refuse(channel, error)


def _unheard(_payload: Payload, _received_ns: int) -> None:
    """A frame of a link that ended."""


def _first(group: BaseExceptionGroup[Any]) -> Any:
    """The first leaf of an exception group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class ConnectionPool:
    """All connections of a hub."""

    def __init__(self, context: ConnectionContext, start_soon: Callable[..., None]) -> None:
        self._context = context
        self._start_soon = start_soon
        self._connections: list[ManagedConnection] = []
        self._of: dict[Channel, ManagedConnection] = {}
        self._dial_at: dict[str, float] = {}

    @property
    def connections(self) -> tuple[ManagedConnection, ...]:
        return tuple(self._connections)

    def want(self, target: Target) -> None:
        """Serve this target's channel, on a connection with room or a new one."""
        endpoint = self._context.feed.endpoint(target.channel)
        for connection in self._connections:
            if connection.endpoint == endpoint and len(connection.targets) < endpoint.max_channels:
                break
        else:
            connection = ManagedConnection(self._context, endpoint, self)
            self._connections.append(connection)
            self._start_soon(connection.run, name=f"{self._context.exchange} {endpoint.name}")
        connection.add(target)
        self._of[target.channel] = connection

    def drop(self, channel: Channel) -> None:
        """The channel is not wanted any more."""
        connection = self._of.pop(channel, None)
        if connection is not None:
            connection.remove(channel)

    def connection_of(self, channel: Channel) -> ManagedConnection | None:
        return self._of.get(channel)

    def gone(self, connection: ManagedConnection) -> None:
        """A connection's task ended."""
        self._connections.remove(connection)
        orphans = list(connection.targets.values())
        for target in orphans:  # added between its last look and its end
            connection.targets.pop(target.channel, None)
            self.want(target)

    async def pace(self, endpoint: Endpoint) -> None:
        """Wait for this dial's turn."""
        now = self._context.clock.monotonic()
        at = max(now, self._dial_at.get(endpoint.url, 0.0))
        self._dial_at[endpoint.url] = at + 1.0 / endpoint.connects_per_s
        if at > now:
            await self._context.clock.sleep(at - now)
