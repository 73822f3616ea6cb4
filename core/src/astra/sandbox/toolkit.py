"""What the sandboxes of several venues need: number texts, form parameters, listings, counters of what clients use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from astra.models.markets import Market
from astra.sandbox import HttpResponse


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """A JSON answer; `bytes` go out as they are."""
    payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return HttpResponse(status=status, body=payload, headers=dict(headers or {}))


def text_of(value: Any) -> str:
    """A JSON text frame."""
    return msgspec.json.encode(value).decode()


def fixed(value: Decimal | None, scale: int) -> str:
    """A number with so many decimals."""
    return format(value if value is not None else Decimal(0), f".{scale}f")


def plain(value: Decimal | None) -> str:
    """A number without superfluous zeros and without an exponent."""
    text = format(value if value is not None else Decimal(0), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def scale_of(step: Decimal | None, default: int = 8) -> int:
    """How many decimals a tick or step has as written ("0.10" has two)."""
    if step is None:
        return default
    exponent = step.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else default


def split_form(text: str) -> list[tuple[str, str]]:
    """The percent-decoded pairs of a query string or form body, in order."""
    pairs = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs


def listing(
    products: Sequence[Sequence[Market]], further: Sequence[Iterator[Market]], wanted: int | None
) -> list[Market]:
    """The markets that a sandbox lists: those of its products; or, where a test wants so many, that number of them,
    one of each product in turn. `further`: for each product, synthetic markets without end."""
    if wanted is None:
        return list(chain.from_iterable(products))
    endless = [chain(listed, more) for listed, more in zip(products, further, strict=True)]
    return list(islice((market for turn in zip(*endless, strict=True) for market in turn), max(0, wanted)))


class Window:
    """A counter that starts anew at every multiple of its length."""

    def __init__(self, length_ms: int) -> None:
        self.length_ms = length_ms
        self.start = -1
        self.used = 0

    def _turn(self, now_ms: int) -> None:
        start = now_ms - now_ms % self.length_ms
        if start != self.start:
            self.start = start
            self.used = 0

    def add(self, amount: int, now_ms: int) -> int:
        """Charge; gives what is used of the window then."""
        self._turn(now_ms)
        self.used += amount
        return self.used

    def count(self, now_ms: int) -> int:
        """What is used of the window that runs."""
        self._turn(now_ms)
        return self.used

    def left_ms(self, now_ms: int) -> int:
        """Until the next window begins."""
        return self.length_ms - now_ms % self.length_ms


class EventRate:
    """At most so many events within any span of `span_ms`, in the order they come (messages of a connection, requests
    of a key)."""

    def __init__(self, most: int, span_ms: int = 1000) -> None:
        self._span_ms = span_ms
        self._times: deque[int] = deque(maxlen=most)

    def exceeded(self, now_ms: int) -> bool:
        """Count an event: is it one too many?"""
        full = len(self._times) == self._times.maxlen and now_ms - self._times[0] < self._span_ms
        self._times.append(now_ms)
        return full
