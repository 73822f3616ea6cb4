"""The hook that the gateway adds for its front-ends.

A front-end that wants to be reached over HTTP implements `http_routes` beside (or instead of) `serve`:

    from fastapi import APIRouter, Request
    from fastapi.responses import JSONResponse
    from astra.hookspecs import API_VERSION, hookimpl
    from astra_gateway.context import GatewayContext, require
    from astra_gateway.keys import Scope

    class Exchanges:
        api_version = API_VERSION

        @hookimpl
        def http_routes(self, router: APIRouter, context: GatewayContext) -> None:
            async def exchanges(request: Request) -> JSONResponse:
                require(request, Scope.READ)
                return JSONResponse(list(context.astra.exchanges()))

            router.add_api_route("/exchanges", exchanges, methods=["GET"])

and names itself in its pyproject.toml:

    [project.entry-points."astra.frontends"]
    exchanges = "my_package:Exchanges"
"""

from __future__ import annotations

from fastapi import APIRouter

from astra.hookspecs import hookspec
from astra_gateway.context import GatewayContext


class GatewaySpecs:
    """Hooks of front-ends that the gateway hosts."""

    @hookspec
    def http_routes(self, router: APIRouter, context: GatewayContext) -> None:
        """Add routes. Every request they see carries a valid API key (`context.caller_of`); each route asks for the
        scope it needs with `context.require`. Errors that derive from `AstraError` become problem documents."""
