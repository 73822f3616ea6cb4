"""The venue's side of a sandbox without sockets: a clock that stands still, connections whose frames are lists, and
readers of recordings. What a venue's own tests add: how its client signs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astra.sandbox import SandboxSession

START_MS = 1_795_262_400_000
TICK_MS = 50
_SHARED = Path(__file__).resolve().parents[3] / "shared" / "captures"

Parse = Callable[[str | bytes], Any]


class StillClock:
    """Time passes only when a test says so."""

    def __init__(self) -> None:
        self.ms = START_MS

    def wall_ns(self) -> int:
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing sleeps here")

    async def wait(self, event: Any, seconds: float) -> bool:
        raise AssertionError("nothing waits here")


class Line:
    """The server's side of a connection, and what the client has received on it. The venue sends payloads of a `kind`
    (text, bytes), which `parse` reads."""

    def __init__(
        self, kind: type | tuple[type, ...] = str, parse: Parse = json.loads, *, sends_pings: bool = False
    ) -> None:
        self.frames: list[Any] = []
        self.raw: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.closed: int | None = None
        self._kind = kind
        self._parse = parse
        self._sends_pings = sends_pings

    def send(self, payload: str | bytes) -> None:
        assert isinstance(payload, self._kind), f"the venue does not send {type(payload).__name__}"
        self.raw.append(payload)
        self.frames.append(self._parse(payload))

    def ping(self, payload: bytes) -> None:
        assert self._sends_pings, "the venue does not send the protocol's pings"
        self.pings.append(payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code

    def take(self) -> list[Any]:
        """The frames since the last call."""
        frames, self.frames = self.frames, []
        return frames


class Client:
    """A connection as its client sees it."""

    def __init__(self, session: SandboxSession, line: Line, clock: StillClock) -> None:
        self.session = session
        self.line = line
        self._clock = clock

    def send(self, frame: Any) -> list[Any]:
        """Send a frame; gives what came back at once."""
        self.session.received(frame if isinstance(frame, str | bytes) else json.dumps(frame, ensure_ascii=False))
        return self.line.take()

    def after(self, milliseconds: int) -> list[Any]:
        """What arrives within the time, ticked as the server ticks."""
        for _ in range(0, milliseconds, TICK_MS):
            self._clock.ms += TICK_MS
            self.session.tick(self._clock.ms)
        return self.line.take()


def captures_of(venue: str) -> Path:
    """The recordings of a venue; where they are not, the test is skipped."""
    found = _SHARED / venue
    if not found.is_dir():
        pytest.skip("the captures are not here")
    return found
