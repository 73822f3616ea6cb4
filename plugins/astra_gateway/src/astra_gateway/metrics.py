"""Prometheus metrics of one gateway: its own registry, nothing global."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

UNMATCHED = "unmatched"
"""The route of requests that no route matched: their paths are the clients' invention and never become labels."""


class Metrics:
    """The registry, and what the gateway counts by itself.

    Front-ends add what they count with `collect`: it is asked when somebody scrapes, so that counting costs nothing
    more than adding to an integer.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "astra_gateway_requests",
            "HTTP requests and WebSocket handshakes answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "astra_gateway_request_seconds",
            "Time from a request to its complete answer.",
            ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=self.registry,
        )

    def collect(self, source: Callable[[], Iterable[Metric]]) -> None:
        """Ask `source` for metrics at every scrape."""
        self.registry.register(_Asked(source))

    def app(self) -> ASGIApp:
        """An ASGI application that serves `/metrics`."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
                response = Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})
            else:
                response = PlainTextResponse("GET /metrics\n", 404)
            await response(scope, receive, send)

        return serve


class Stopwatch:
    """Measures one request."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began


class _Asked(Collector):
    def __init__(self, source: Callable[[], Iterable[Metric]]) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._source()
