"""The venue's dead-man timer, kept fed as long as a block of code runs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

from astra.errors import AstraError, BadRequest, DeadManLapsed, VenueError, VenueUnavailable
from astra.models.protocols import Clock

logger = logging.getLogger("astra.trading")

FEEDS_PER_TIMEOUT = 3
SHORTEST_TIMEOUT_S = 3.0
RETRY_S = 1.0
"""After a failed feed the next one follows so soon."""
STOP_ATTEMPTS = 3


class DeadManSwitch:
    """Keeps a venue's dead-man timer fed: the venue cancels all orders if this process dies, hangs or is cut off.

        async with astra.dead_man_switch("BINANCE-PERP-BTC-USDT", timeout_s=30) as switch:
            ...

    The timer is fed on entering (what the venue refuses is raised there), then thrice a timeout. A block that ends
    without an exception stops the timer. One that ends with an exception, or is cancelled, leaves it running: the
    venue cancels the orders when it runs out.

    When no feed has succeeded for the whole timeout the venue has canceled the orders, or soon will: the block is
    cancelled and `DeadManLapsed` raised from it; with `raise_on_lapse=False` `lapsed` says so and feeding goes on.
    """

    def __init__(
        self,
        feed: Callable[[float], Awaitable[None]],
        clock: Clock,
        *,
        exchange: str,
        timeout_s: float,
        raise_on_lapse: bool = True,
    ) -> None:
        """`feed(seconds)` sets the venue's timer; 0 stops it."""
        if not timeout_s >= SHORTEST_TIMEOUT_S:
            raise BadRequest(f"timeout_s {timeout_s!r} must be at least {SHORTEST_TIMEOUT_S:g}")
        self.timeout_s = timeout_s
        self.error: AstraError | None = None
        """What the last feed failed with; None when it succeeded."""
        self.lapsed = False
        """Was there a whole timeout without a feed? The venue has then canceled the orders, even if it is fed again."""
        self._feed = feed
        self._clock = clock
        self._exchange = exchange
        self._raise_on_lapse = raise_on_lapse
        self._fed_at: float | None = None
        self._fed_ns: int | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._end: DeadManLapsed | None = None
        self._ending = anyio.Event()

    @property
    def last_fed(self) -> int | None:
        """When the last feed that succeeded was sent, ms since the epoch."""
        return None if self._fed_ns is None else self._fed_ns // 1_000_000

    @property
    def left_s(self) -> float:
        """Seconds after which the venue cancels the orders unless it is fed; 0: it may have done so."""
        if self._fed_at is None:
            return 0.0
        return max(0.0, self._fed_at + self.timeout_s - self._clock.monotonic())

    @property
    def healthy(self) -> bool:
        """Did the last feed succeed, and does the timer run?"""
        return self.error is None and self.left_s > 0

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("a dead-man switch is entered once; make a new one")
        await self._feed_now()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._keep_fed, name="dead-man switch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        if error is None:
            # A feed that is under way ends first: one that arrived after the timer was stopped would start it again.
            self._ending.set()
        else:
            self._tasks.cancel_scope.cancel()
        if error is None or isinstance(error, Exception):
            # The feeding task handles its own failures: the block's exception need not be wrapped in a group with them.
            await self._tasks.__aexit__(None, None, None)
        else:
            ended = await self._tasks.__aexit__(kind, error, trace)
            if self._end is None:
                return ended
        if self._end is not None:
            raise self._end from error if isinstance(error, Exception) else self.error
        if error is None:
            await self._stop()
        return None

    async def _keep_fed(self) -> None:
        assert self._tasks is not None
        every_s = self.timeout_s / FEEDS_PER_TIMEOUT
        while not self._ending.is_set():
            if await self._clock.wait(self._ending, every_s if self.error is None else min(RETRY_S, every_s)):
                return
            # Slept for longer than that: nothing ran here, and the venue's timer did.
            held_up = not self.left_s
            try:
                with anyio.move_on_after(self.left_s or every_s) as scope:
                    await self._feed_now()
                if scope.cancelled_caught:
                    self.error = VenueUnavailable("a feed was not answered in time", exchange=self._exchange)
                    logger.warning("%s: a feed of the dead-man timer was not answered in time", self._exchange)
            except AstraError as error:
                self.error = error
                logger.warning("%s: the dead-man timer could not be fed: %s", self._exchange, error)
            if (held_up or (self.error is not None and not self.left_s)) and not self.lapsed:
                self.lapsed = True
                logger.error("%s: the dead-man timer ran out: the venue cancels all orders", self._exchange)
                if self._raise_on_lapse:
                    why = (
                        "the process was held up"
                        if self.error is None
                        else f"the last feed failed: {self.error.message}"
                    )
                    self._end = DeadManLapsed(
                        f"the dead-man timer was not fed for {self.timeout_s:g} s: the venue has canceled the orders, "
                        f"or soon will ({why})",
                        exchange=self._exchange,
                    )
                    self._tasks.cancel_scope.cancel()

    async def _feed_now(self) -> None:
        # The venue counts from when it is fed, which is after the feed was sent.
        sent_at, sent_ns = self._clock.monotonic(), self._clock.wall_ns()
        await self._feed(self.timeout_s)
        self._fed_at, self._fed_ns = sent_at, sent_ns
        self.error = None

    async def _stop(self) -> None:
        """Stop the timer. Raises what the venue says when that fails: it will cancel the orders then."""
        for attempt in range(1, STOP_ATTEMPTS + 1):
            try:
                await self._feed(0)
                return
            except VenueError as error:
                self.error = error
                if attempt == STOP_ATTEMPTS or not error.retryable:
                    logger.error("%s: the dead-man timer could not be stopped: %s", self._exchange, error)
                    raise
            await self._clock.sleep(min(RETRY_S, self.timeout_s / FEEDS_PER_TIMEOUT))
