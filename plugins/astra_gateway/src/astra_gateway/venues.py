"""How the venues in use stand, for probes and metrics. Looks only at what is loaded and never waits for a venue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from astra.models.orderbook import BookState
from astra.net.ratelimit import BucketReport, RateLimiter

if TYPE_CHECKING:
    from astra import Astra


class VenueStatus(msgspec.Struct, frozen=True):
    """One installed venue. `books`: running order books by state. `error`: why its markets could not be loaded."""

    exchange: str
    loaded: bool
    markets: int = 0
    markets_age_s: float | None = None
    error: str | None = None
    books: Mapping[str, int] = {}
    limits: Mapping[str, Sequence[BucketReport]] = {}
    """Request limits by the name of what they cover."""
    paused_s: Mapping[str, float] = {}
    """For how much longer the venue's word (429, 418) holds back all requests of those limits."""


def venue_statuses(astra: Astra) -> Sequence[VenueStatus]:
    """All installed venues; those that nobody has used yet are not loaded by asking."""
    loaded = astra.loaded_venues()
    statuses = []
    for exchange in astra.exchanges():
        route = loaded.get(exchange)
        if route is None:
            statuses.append(VenueStatus(exchange, loaded=False))
            continue
        hub = getattr(route.venue, "running_hub", None)
        states = Counter(book.state for book in hub.books()) if hub is not None else Counter()
        error = route.table.last_error
        limiters: Mapping[str, RateLimiter] = getattr(route.venue, "rate_limiters", {})
        statuses.append(
            VenueStatus(
                exchange,
                loaded=True,
                markets=len(route.table),
                markets_age_s=route.table.age_s,
                error=None if error is None else error.problem,
                books={state.value: states[state] for state in BookState},
                limits={name: limiter.report() for name, limiter in limiters.items()},
                paused_s={name: limiter.paused_s for name, limiter in limiters.items()},
            )
        )
    return statuses


def venue_metrics(astra: Astra) -> Iterable[Metric]:
    """The same for Prometheus."""
    markets = GaugeMetricFamily("astra_markets", "Markets known.", labels=("exchange",))
    age = GaugeMetricFamily("astra_markets_age_seconds", "Age of the list of markets.", labels=("exchange",))
    books = GaugeMetricFamily("astra_books", "Running order books by state.", labels=("exchange", "state"))
    labels = ("exchange", "limits", "bucket", "account")
    used = GaugeMetricFamily("astra_rate_limit_used", "Used part of a venue's rate limit.", labels=labels)
    limit = GaugeMetricFamily("astra_rate_limit", "A venue's rate limit.", labels=labels)
    paused = GaugeMetricFamily(
        "astra_rate_limit_paused_seconds",
        "For how long a venue that refused requests is sent nothing.",
        labels=("exchange", "limits"),
    )
    for status in venue_statuses(astra):
        if not status.loaded:
            continue
        markets.add_metric((status.exchange,), status.markets)
        if status.markets_age_s is not None:
            age.add_metric((status.exchange,), status.markets_age_s)
        for state, count in status.books.items():
            books.add_metric((status.exchange, state), count)
        # Accounts whose keys came with requests all have the same name, and a bucket may be kept for each of many
        # markets: the fullest stands for them.
        fullest: dict[tuple[str, str, str, str], BucketReport] = {}
        for name, buckets in status.limits.items():
            for bucket in sorted(buckets, key=lambda one: one.used):
                fullest[status.exchange, name, bucket.name, bucket.account or ""] = bucket
        for labelled, bucket in fullest.items():
            used.add_metric(labelled, bucket.used)
            limit.add_metric(labelled, bucket.limit)
        for name, paused_s in status.paused_s.items():
            paused.add_metric((status.exchange, name), paused_s)
    return (markets, age, books, used, limit, paused)
