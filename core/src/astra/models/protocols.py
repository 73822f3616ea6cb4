"""What passes between the parts: the stream a consumer holds, and the host that a plugin sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from anyio import Event

Item = TypeVar("Item", covariant=True)


@runtime_checkable
class Stream(Protocol[Item]):
    """An asynchronous stream of items: enter it, iterate it, leave it (from any task)."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Item]: ...

    async def __anext__(self) -> Item: ...

    async def aclose(self) -> None: ...


class Clock(Protocol):
    """Where time comes from; injected everywhere, so that tests own it."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, event: Event, seconds: float) -> bool:
        """Wait for `event`, at most `seconds`; was it set?"""
        ...


class Host(Protocol):
    """What the application offers to a plugin."""

    @property
    def astra(self) -> Any:
        """The `astra.Astra` object (library front-end) that loaded the plugin."""
        ...

    @property
    def clock(self) -> Clock: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's own section of the configuration, not yet validated."""
        ...

    def transport(self, name: str) -> Any:
        """The WebSocket transport (`astra.net.transports.Transport`) of that name; `auto` fits the event loop."""
        ...

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str | None = None
    ) -> None:
        """Run `work(*args)` in the application's task group."""
        ...
