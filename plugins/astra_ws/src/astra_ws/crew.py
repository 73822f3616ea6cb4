"""Sending to many connections with few tasks.

A task for each connection would have to be woken for each message, which costs more than the sending itself. One
worker sends to all connections, one after the other, for as long as nobody is slow. Where a connection makes it wait
(its socket is full), that worker stays with that connection and another one goes on with the rest: there are as many
workers as connections that are being waited for, and one or two more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import anyio

SPARE = 2
"""Workers that are kept while there is nothing to do."""


class Sender(Protocol):
    """A connection with something to send."""

    queued: bool
    """Is it on the crew's list, or being sent to? (The crew's to set.)"""

    async def flush(self) -> None:
        """Send everything that waits. Never raises."""
        ...


class Crew:
    """The workers of one gateway. `start_soon` runs them in the application's task group."""

    def __init__(self, start_soon: Callable[..., Any]) -> None:
        self.workers = 0
        self._start_soon = start_soon
        self._ready: deque[Sender] = deque()
        self._idle: list[anyio.Event] = []
        self._coming = 0
        """Workers that were called and have not begun yet."""
        self._members = 0

    def join(self) -> None:
        """One more connection."""
        self._members += 1

    def leave(self) -> None:
        """One less; the last one sends the workers home."""
        self._members -= 1
        if not self._members:
            for event in self._idle:
                event.set()
                self._coming += 1
            self._idle.clear()

    def add(self, sender: Sender) -> None:
        """The connection has something to send."""
        if not sender.queued:
            sender.queued = True
            self._ready.append(sender)
            if not self._coming:
                self._call()

    def _call(self) -> None:
        self._coming += 1
        if self._idle:
            self._idle.pop().set()
        else:
            self.workers += 1
            self._start_soon(self._work, name="sender to WebSocket clients")

    async def _work(self) -> None:
        ready = self._ready
        try:
            while True:
                self._coming -= 1
                while ready:
                    sender = ready.popleft()
                    if ready and not self._coming:
                        self._call()  # who goes on with the rest, should this one have to be waited for
                    await sender.flush()
                    sender.queued = False
                if len(self._idle) >= SPARE or not self._members:
                    return
                event = anyio.Event()
                self._idle.append(event)
                await event.wait()
        finally:
            self.workers -= 1
