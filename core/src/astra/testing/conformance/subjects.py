"""What is to be checked: an installed venue by its code, or classes and recordings that an author hands in."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from astra.errors import PluginError
from astra.models.markets import Market
from astra.models.orderbook import Level
from astra.models.trades import Side
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.sandbox import SandboxVenue
from astra.streams.feed import BookSeed, DataType, Feed

TRANSPORTS = "astra.transports"


class RecordedTrade(msgspec.Struct, frozen=True):
    """A trade that the recording holds. `quantity` in base units, `side` the taker's; None is not compared."""

    price: float
    quantity: float
    side: Side | None
    id: str | None = None
    time: int | None = None


class RecordedBook(msgspec.Struct, frozen=True):
    """The book that the recording ends with, in base units, best levels first. Fewer levels than the feed keeps are
    compared with its best ones."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    update_id: int | None = None


class Recording(msgspec.Struct, frozen=True):
    """Frames as the venue sent them on one connection, for one market's book or trades.

    `frames` are the payloads, in order, acknowledgements included. `seed` is the snapshot by REST of feeds that start
    from one; it is handed over once all frames before index `seed_at` were. `gap_at` is the index of the first frame
    that shows a gap, for recordings in which frames are missing.
    """

    name: str
    market: Market
    data_type: DataType
    frames: Sequence[bytes]
    book: RecordedBook | None = None
    trades: Sequence[RecordedTrade] | None = None
    seed: BookSeed | None = None
    seed_at: int = 0
    gap_at: int | None = None


class Subject(msgspec.Struct, frozen=True):
    """A venue to check.

    `venue` is the plugin class, `sandbox` its sandbox protocol (`astra.sandbox.SandboxVenue`), `feed` makes the venue's
    feed for the recordings. `settings` turns the URLs of the sandbox's hosts into the venue's section of the
    configuration; by default `{"hosts": urls}`. `origin` says in reports where the venue comes from.
    """

    code: str
    venue: Callable[[], type[Any]]
    sandbox: Callable[[], type[SandboxVenue]] | None = None
    feed: Callable[[], Feed] | None = None
    recordings: Sequence[Recording] = ()
    settings: Callable[[Mapping[str, str]], Mapping[str, Any]] | None = None
    origin: str = ""

    @classmethod
    def of(
        cls,
        venue: type[Any],
        sandbox: type[SandboxVenue] | None = None,
        *,
        feed: Callable[[], Feed] | None = None,
        recordings: Sequence[Recording] = (),
        settings: Callable[[Mapping[str, str]], Mapping[str, Any]] | None = None,
    ) -> Subject:
        """A venue by its class: `pytest_astra_subjects` returns such."""
        return cls(
            code=str(getattr(venue, "code", venue.__name__)),
            venue=lambda: venue,
            sandbox=None if sandbox is None else lambda: sandbox,
            feed=feed,
            recordings=tuple(recordings),
            settings=settings,
            origin=f"{venue.__module__}.{venue.__qualname__}",
        )

    @classmethod
    def installed(cls, code: str, plugins: Plugins) -> Subject:
        """An installed venue. Raises `PluginError` that says what to install when there is none."""
        info = plugins.info(VENUES, code)
        has_sandbox = any(one.name == info.name for one in plugins.listed(SANDBOXES))
        return cls(
            code=info.name,
            venue=lambda: plugins.load(VENUES, info.name),
            sandbox=(lambda: plugins.load(SANDBOXES, info.name)) if has_sandbox else None,
            origin=f"{info.distribution} {info.version}",
        )

    def with_recordings_of(self, other: Subject) -> Subject:
        """This venue, and the recordings that somebody hands in for it."""
        return msgspec.structs.replace(self, feed=other.feed, recordings=other.recordings)

    def section(self, urls: Mapping[str, str]) -> dict[str, Any]:
        """The venue's section of the configuration that points it at the sandbox."""
        return {"hosts": dict(urls)} if self.settings is None else dict(self.settings(urls))

    def plugins(self) -> Plugins:
        """The plugins of an application in which this venue, and no other, is installed."""
        venue = self.venue()

        class Given(importlib.metadata.EntryPoint):
            """An entry point that is an object already."""

            def load(self) -> Any:
                return venue

        entry = Given(self.code, f"{venue.__module__}:{venue.__qualname__}", VENUES)
        transports = importlib.metadata.entry_points(group=TRANSPORTS)
        return Plugins(entry_points=lambda: [entry, *transports])


def installed_subjects(codes: Sequence[str]) -> Iterable[Subject]:
    """The venues asked for by code; "all": every installed one that has a sandbox. Raises `PluginError`."""
    plugins = Plugins()
    for code in codes:
        if code.casefold() != "all":
            yield Subject.installed(code, plugins)
            continue
        found = [name for name in plugins.names(VENUES) if name not in without_sandbox()]
        if not found:
            raise PluginError("no installed venue has a sandbox: install one, for example astra-binance")
        for name in found:
            yield Subject.installed(name, plugins)


def without_sandbox() -> Sequence[str]:
    """The installed venues that have no sandbox."""
    plugins = Plugins()
    sandboxes = {info.name for info in plugins.listed(SANDBOXES)}
    return [name for name in plugins.names(VENUES) if name not in sandboxes]
