"""Answers shared between requests: one call to the venue however many ask at the same time, kept for a moment."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio

from astra.models.protocols import Clock

Answer = TypeVar("Answer")

KEPT = 1024
"""Answers kept at most; the least recently asked for go first."""


class Shared(Generic[Answer]):
    """Answers by key, at most `max_age_s` old. Whoever waits while another asks gets that answer (or its error)."""

    def __init__(self, clock: Clock, max_age_s: float) -> None:
        self._clock = clock
        self._max_age_s = max_age_s
        self._entries: OrderedDict[Hashable, _Entry[Answer]] = OrderedDict()

    async def get(self, key: Hashable, fetch: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer for `key`, from `fetch` unless a fresh one is there."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        now = self._clock.monotonic()
        if entry.answer is not None and now - entry.asked_at <= self._max_age_s:
            return entry.answer
        async with entry.lock:
            # What was asked for after we came is as fresh as our own question would be: its error counts, too.
            if entry.error is not None and entry.asked_at >= now:
                raise entry.error.with_traceback(None)
            if entry.answer is not None and entry.asked_at >= now - self._max_age_s:
                return entry.answer
            entry.asked_at = self._clock.monotonic()
            entry.answer = entry.error = None
            try:
                entry.answer = await fetch()
            except Exception as error:
                entry.error = error
                raise
            return entry.answer


class _Entry(Generic[Answer]):
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.asked_at = 0.0
        self.answer: Answer | None = None
        self.error: Exception | None = None
