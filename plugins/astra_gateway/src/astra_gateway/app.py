"""The ASGI application: routes of all front-ends behind authentication, limits and one form of errors."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from astra.errors import AstraError, BadRequest, PluginError
from astra.plugins import FRONTENDS
from astra_gateway import health, openapi
from astra_gateway.context import GatewayContext
from astra_gateway.docs_page import DOCS_PAGE
from astra_gateway.errors import NoSuchPath
from astra_gateway.hookspecs import GatewaySpecs
from astra_gateway.keys import KeyStore
from astra_gateway.middleware import Authenticate, LimitBody, Measure
from astra_gateway.problems import NO_SUCH_PATH, problem_of
from astra_gateway.settings import GatewaySettings
from astra_gateway.venues import venue_metrics

if TYPE_CHECKING:
    from astra import Astra

logger = logging.getLogger("astra.gateway")

NAME = "gateway"
"""The gateway's own name among the front-ends."""

DESCRIPTION = """One normalised API over many crypto trading venues.

Every request carries the header `x-astra-api-key: Bearer {id}.{secret}`. Errors are RFC 9457 problem details with a
stable `code`. Quantities are in units of the base asset, prices in units of the quote asset, times in milliseconds.
"""


def create_app(astra: Astra, settings: GatewaySettings, keys: KeyStore) -> FastAPI:
    """The gateway as an ASGI application, with the routes of every front-end that is loaded (see `load_frontends`).

    It may be served by itself or mounted in another application. `astra` must be entered; it and `keys` stay the
    caller's. `app.state.gateway` is its `GatewayContext`. Raises `PluginError` when no front-end is loaded though some
    are installed.
    """
    context = GatewayContext(astra, settings, keys)
    app = FastAPI(
        title="Astra",
        version=importlib.metadata.version("astra-gateway"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.gateway = context
    app.router.redirect_slashes = False
    app.router.default = _no_such_path
    for kind in (AstraError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _problem)
    _add_documents(app)
    health.add_routes(app.router, context)
    if "http_routes" not in astra.hooks.specs:
        astra.hooks.add_hookspecs(GatewaySpecs)
    if not astra.hooks.get_plugins() and (names := [name for name in astra.plugins.names(FRONTENDS) if name != NAME]):
        raise PluginError(
            f"no front-end is loaded, though installed are: {', '.join(names)}. "
            "Call `await astra_gateway.app.load_frontends(astra)` before `create_app`."
        )
    astra.hooks.hook.http_routes(router=app.router, context=context)
    openapi.install(app, context)
    context.metrics.collect(lambda: venue_metrics(astra))
    # Each layer that is added lies round those before it.
    app.add_middleware(LimitBody, context=context)
    app.add_middleware(Authenticate, context=context)
    app.add_middleware(Measure, context=context)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["retry-after"],
        )
    return app


async def load_frontends(astra: Astra) -> None:
    """Load every other installed front-end, so that `create_app` finds its routes.

    One that is broken is logged and left out (`astra plugins` says why); the others serve on.
    """
    for name in astra.plugins.names(FRONTENDS):
        if name == NAME:
            continue
        try:
            await astra.frontend(name)
        except PluginError as error:
            logger.error("%s", error)


def _add_documents(app: FastAPI) -> None:
    async def document(request: Request) -> Response:
        mounted_at = str(request.scope.get("root_path", "")).rstrip("/")
        return JSONResponse(app.openapi() | ({"servers": [{"url": mounted_at}]} if mounted_at else {}))

    async def docs(request: Request) -> Response:
        return HTMLResponse(DOCS_PAGE, headers={"content-security-policy": "default-src 'self' 'unsafe-inline'"})

    app.add_api_route("/openapi.json", document, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


async def _problem(connection: HTTPConnection, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        faults = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
        error = BadRequest(faults)
    return problem_of(error).response()


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] in ("http", "websocket"):
        raise NoSuchPath(NO_SUCH_PATH)
