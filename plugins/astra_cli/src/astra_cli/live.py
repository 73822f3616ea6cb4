"""Live output: what `book`, `trades` and `demo` share."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, TypeVar

from astra_cli.options import console

if TYPE_CHECKING:
    import anyio.abc
    from rich.console import RenderableType

Item = TypeVar("Item")

REFRESH_S = 0.25


class Rate:
    """How many events a second, over the last `window_s` seconds."""

    def __init__(self, started: float, window_s: float = 5.0) -> None:
        self._started = started
        self._window_s = window_s
        self._counts: deque[tuple[float, int]] = deque()
        self._in_window = 0
        self.total = 0
        self.last: float | None = None
        """When the last event was counted."""

    def count(self, now: float, events: int = 1) -> None:
        """`events` happened at `now` (seconds of a monotonic clock)."""
        self.total += events
        self.last = now
        self._in_window += events
        # Events of the same tenth of a second share an entry, so that a fast market costs no memory.
        if self._counts and now - self._counts[-1][0] < 0.1:
            at, before = self._counts.pop()
            self._counts.append((at, before + events))
        else:
            self._counts.append((now, events))

    def per_second(self, now: float) -> float:
        """Events a second up to `now`."""
        while self._counts and self._counts[0][0] < now - self._window_s:
            self._in_window -= self._counts.popleft()[1]
        return self._in_window / max(min(self._window_s, now - self._started), 1.0)


def is_terminal() -> bool:
    """May live tables be drawn, or is the output piped?"""
    return sys.stdout.isatty()


async def consume(
    stream: AsyncIterable[Item], each: Callable[[Item], None], count: int | None, seconds: float | None
) -> None:
    """Call `each` on the stream's items until there were `count`, or `seconds` are over.

    Raises `TimeoutError` when time runs out before the `count`, or before anything came at all.
    """
    import anyio

    seen = 0
    with anyio.move_on_after(seconds):
        async for item in stream:
            each(item)
            seen += 1
            if seen == count:
                return
    if not seen or count is not None:
        raise TimeoutError(f"{seen or 'nothing'} came within {seconds:g} s" if seconds else "the stream ended")


async def draw(render: Callable[[], RenderableType], *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Redraw `render()` a few times a second until cancelled; the last picture stays on the screen."""
    import anyio
    from rich.live import Live

    with Live(render(), console=console(), auto_refresh=False, vertical_overflow="crop") as live:
        task_status.started()
        try:
            while True:
                await anyio.sleep(REFRESH_S)
                live.update(render(), refresh=True)
        finally:
            live.update(render(), refresh=True)


def price_text(price: float | None) -> str:
    """A price as people write it: the shortest decimal, without exponent."""
    if price is None:
        return ""
    text = repr(price)
    if "e" in text:
        from decimal import Decimal

        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def age_text(age_s: float | None) -> str:
    """An age in the unit that fits."""
    if age_s is None:
        return ""
    if age_s < 1:
        return f"{age_s * 1000:.0f} ms"
    return f"{age_s:.1f} s" if age_s < 60 else f"{age_s / 60:.0f} min"
