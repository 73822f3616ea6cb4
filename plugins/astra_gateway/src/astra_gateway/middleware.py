"""The gateway's ASGI layers, outermost first: measuring, authentication, the limit on bodies.

WebSocket messages pass through them untouched (each layer hands on the server's own `send`): they cost a client's
messages nothing.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import anyio.lowlevel
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from astra.errors import AstraError
from astra_gateway.context import CALLER, RAW_SEND, GatewayContext
from astra_gateway.errors import ApiKeyRefused, BodyTooLarge
from astra_gateway.keys import HEADER
from astra_gateway.metrics import UNMATCHED, Stopwatch
from astra_gateway.problems import Problem, internal, problem_of

logger = logging.getLogger("astra.gateway")


async def answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or refuse a WebSocket handshake, with a real HTTP response.

    A server without the extension for that can only close: the client then sees a bare 403.
    """
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": f"refused ({response.status_code})"})
        return
    await response(scope, receive, send)


def path_of(scope: Scope) -> str:
    """The path below the place where the gateway is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


class Measure:
    """Counts requests by route and status, and turns what nobody expected into a problem document."""

    def __init__(self, app: ASGIApp, context: GatewayContext) -> None:
        self._app = app
        self._metrics = context.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._handshake(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = Stopwatch()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            problem = internal(error, f"{scope['method']} {_route(scope)}")
            if status:
                raise
            await problem.response()(scope, receive, noted)
        finally:
            route = _route(scope)
            self._metrics.seconds.labels(route).observe(watch.seconds)
            self._metrics.requests.labels(route, scope["method"], str(status or 499)).inc()

    async def _handshake(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Servers log the whole target of a WebSocket: a key that somebody put into the query must not get there.
        inner = dict(scope)
        scope["query_string"] = b""
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if status == 0:
                status = message.get("status", 101 if message["type"] == "websocket.accept" else 403)
                self._metrics.requests.labels(_route(inner), "WEBSOCKET", str(status)).inc()
            await send(message)

        inner[RAW_SEND] = send
        try:
            await self._app(inner, receive, noted)
        except Exception as error:
            problem = internal(error, f"WebSocket {_route(inner)}")
            if status:
                raise
            await answer(problem.response(), inner, receive, noted)
        if status != 101:
            # uvicorn takes a handshake that we refused for one that we forgot until it has seen the connection close.
            await anyio.lowlevel.checkpoint()


def _route(scope: MutableMapping[str, Any]) -> str:
    route = scope.get("route") or scope.get("endpoint")
    return str(getattr(route, "path", UNMATCHED))


class Authenticate:
    """Nothing but the public paths is served without a valid API key; the key's own request rate holds."""

    def __init__(self, app: ASGIApp, context: GatewayContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_public(scope):
            await self._app(scope, receive, send)
            return
        keys = self._context.keys
        try:
            caller = await keys.verify(self._presented(scope))
            keys.admit(caller)
        except AstraError as refusal:
            await answer(problem_of(refusal).response(), scope, receive, send)
            return
        scope[CALLER] = caller
        await self._app(scope, receive, send)

    def _is_public(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        return path_of(scope) in self._context.public_paths

    def _presented(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        presented = headers.getlist(HEADER)
        if len(presented) > 1:
            raise ApiKeyRefused(f"the header {HEADER} is given {len(presented)} times")
        if not presented and "authorization" in headers:
            raise ApiKeyRefused(
                f"send the API key in the header {HEADER} (`Bearer {{id}}.{{secret}}`), not Authorization"
            )
        return presented[0] if presented else None


class LimitBody:
    """Bodies beyond the limit are refused before they are read: by their announced length, else as they come in."""

    def __init__(self, app: ASGIApp, context: GatewayContext) -> None:
        self._app = app
        self._limit = context.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self._limit:
            await self._refusal().response()(scope, receive, send)
            return
        received = 0
        too_large = answered = False

        async def counted() -> Message:
            nonlocal received, too_large
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    too_large = True
                    raise BodyTooLarge("the body is too large")
            return message

        async def replaced(message: Message) -> None:
            nonlocal answered
            if not too_large:
                answered = answered or message["type"] == "http.response.start"
                await send(message)

        try:
            await self._app(scope, counted, replaced)
        except Exception:
            if not too_large:
                raise
        if too_large and not answered:
            await self._refusal().response()(scope, receive, send)

    def _refusal(self) -> Problem:
        return problem_of(BodyTooLarge(f"the body is larger than {self._limit} bytes"))
