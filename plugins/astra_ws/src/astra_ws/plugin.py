"""The WebSocket API as a front-end of the gateway: `/ws`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from pydantic import Field
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from astra.errors import BadRequest
from astra.hookspecs import API_VERSION, hookimpl
from astra.streams.feed import DataType
from astra.symbols import Symbol
from astra_gateway import openapi
from astra_gateway.context import RAW_SEND, GatewayContext, require
from astra_gateway.errors import ApiKeyRefused, DatabaseUnavailable, GatewayError, UpgradeRequired
from astra_gateway.keys import Scope as KeyScope
from astra_gateway.query import Query, read_query
from astra_ws.broadcast import Broadcasts
from astra_ws.connection import POLICY_VIOLATION, Connection
from astra_ws.crew import Crew
from astra_ws.messages import BookMessage, TradesMessage, parse_data_type

logger = logging.getLogger("astra.ws")


class TooManyConnections(GatewayError):
    """The gateway has as many WebSocket connections as it takes."""

    problem = "too-many-connections"
    status = 503


class StreamQuery(Query):
    market: str | None = Field(default=None, max_length=200, description="Market symbol; goes with `dataType`.")
    data_type: str | None = Field(default=None, description="`ORDERBOOK` or `TRADE`; goes with `market`.")
    state: bool = Field(default=False, description="Send state, gap and lag messages, too.")


class WebSocketApi:
    """The front-end plugin `ws`."""

    api_version = API_VERSION

    @hookimpl
    def http_routes(self, router: APIRouter, context: GatewayContext) -> None:
        """`/ws` for WebSocket, and what the API document says of it."""
        sockets = Sockets(context)
        router.routes.append(WebSocketRoute("/ws", endpoint=sockets))
        context.metrics.collect(sockets.metrics)
        context.add_schemas(openapi.struct_schemas(BookMessage, TradesMessage))
        router.add_api_route(
            "/ws",
            upgrade_required,
            methods=["GET"],
            tags=["market data"],
            summary="Live order books and trades (WebSocket)",
            description=_DESCRIPTION,
            response_model=None,
            status_code=101,
            responses=_answers(),
            openapi_extra={"parameters": openapi.parameters(StreamQuery)},
        )


_DESCRIPTION = """With `market` and `dataType`: one subscription, and nothing but its data (`BookMessage` or
`TradesMessage`) unless `state=true`.

Without them: any number of subscriptions by messages such as
`{"op": "subscribe", "market": "BINANCE-SPOT-BTC-USDT", "dataType": "ORDERBOOK"}`, each acknowledged or refused by a
message of type `SUBSCRIBED` or `ERROR`."""


def _answers() -> dict[int | str, dict[str, Any]]:
    found = openapi.answers(None, "", (400, 401, 403, 404, 426, 429, 503))
    del found[200]
    found[101] = {
        "description": "The connection speaks WebSocket from here on. A book's or trades' data messages:",
        "content": {"application/json": {"schema": {"oneOf": [_ref("BookMessage"), _ref("TradesMessage")]}}},
    }
    return found


def _ref(name: str) -> dict[str, str]:
    return openapi.reference(name)


async def upgrade_required(request: Request) -> Response:
    """A plain GET: say how it is done."""
    raise UpgradeRequired("/ws speaks WebSocket: connect to it with a WebSocket client (ws:// or wss://)")


class Sockets:
    """All WebSocket connections of one gateway (an ASGI application)."""

    path = "/ws"

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._astra = context.astra
        self._broadcasts = Broadcasts(context.astra, most=context.settings.max_queued_messages)
        self._crew = Crew(context.astra.start_soon)
        self._connections: set[Connection] = set()
        self._watching = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        connection = HTTPConnection(scope)
        caller = require(connection, KeyScope.READ)
        query = read_query(StreamQuery, connection)
        wanted = await self._wanted(query)
        if len(self._connections) >= self._context.settings.max_websockets:
            raise TooManyConnections("the gateway serves as many WebSocket connections as it may; try again later")
        opened = Connection(
            self._astra,
            self._broadcasts,
            self._crew,
            self._context.keys,
            caller,
            scope.get(RAW_SEND, send),
            receive,
            most_subscriptions=self._context.settings.max_subscriptions,
            notices=query.state,
            by_query=wanted is not None,
        )
        self._connections.add(opened)
        try:
            self._watch()
            await receive()  # websocket.connect
            await send({"type": "websocket.accept"})
            if wanted is not None:
                opened.begin(*wanted)
            await opened.run()
        except OSError:
            logger.debug("a client went away during its handshake")
        finally:
            self._connections.discard(opened)

    async def _wanted(self, query: StreamQuery) -> tuple[str, DataType] | None:
        """The subscription that the URL names, its market looked up before the handshake is answered."""
        if query.market is None and query.data_type is None:
            return None
        if query.market is None or query.data_type is None:
            missing = "market" if query.market is None else "dataType"
            raise BadRequest(f"query parameter {missing!r} is missing: market and dataType go together")
        data_type = parse_data_type(query.data_type)
        market = await self._astra.market(str(Symbol.parse(query.market)))
        return market.symbol, data_type

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._astra.start_soon(self._watch_keys, name="keys of WebSocket clients")

    async def _watch_keys(self) -> None:
        """End the connections of keys that were revoked or have expired meanwhile."""
        keys = self._context.keys
        try:
            while self._connections:
                for caller in {opened.caller.id: opened.caller for opened in self._connections}.values():
                    try:
                        await keys.check(caller)
                    except ApiKeyRefused as refusal:
                        for opened in [one for one in self._connections if one.caller.id == caller.id]:
                            opened.close(refusal, POLICY_VIOLATION)
                    except DatabaseUnavailable:
                        logger.warning("keys of WebSocket clients could not be checked; they stay connected")
                await self._context.clock.sleep(self._context.settings.key_recheck_s)
        finally:
            self._watching = False

    def metrics(self) -> Iterable[Metric]:
        """What Prometheus is told."""
        counts = self._broadcasts.counts
        return (
            GaugeMetricFamily("astra_ws_clients", "WebSocket connections.", len(self._connections)),
            GaugeMetricFamily("astra_ws_subscriptions", "Their subscriptions.", self._broadcasts.subscriptions),
            GaugeMetricFamily("astra_ws_broadcasts", "Streams that serve them.", len(self._broadcasts)),
            CounterMetricFamily("astra_ws_messages_out", "Data messages sent.", counts.messages),
            CounterMetricFamily(
                "astra_ws_conflated", "Book messages that slow clients got a snapshot for.", counts.conflated
            ),
            CounterMetricFamily("astra_ws_lagged_trades", "Trades that slow clients missed.", counts.lagged),
        )
