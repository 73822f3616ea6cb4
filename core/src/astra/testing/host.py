"""A host for plugins under test."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio.abc

from astra.models.protocols import Clock


class ManualHost:
    """Implements `astra.models.protocols.Host` over a task group, a clock and a transport that the test owns."""

    def __init__(
        self,
        task_group: anyio.abc.TaskGroup,
        clock: Clock,
        transport: Any = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.astra: Any = None
        self.clock = clock
        self.settings: Mapping[str, Any] = settings or {}
        self._task_group = task_group
        self._transport = transport

    def transport(self, name: str) -> Any:
        return self._transport

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str | None = None
    ) -> None:
        self._task_group.start_soon(work, *args, name=name)
