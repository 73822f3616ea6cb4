"""The REST API as a front-end of the gateway."""

from __future__ import annotations

from fastapi import APIRouter

from astra.hookspecs import API_VERSION, hookimpl
from astra_gateway.context import GatewayContext
from astra_rest import market_data, trading


class Rest:
    """The front-end plugin `rest`."""

    api_version = API_VERSION

    @hookimpl
    def http_routes(self, router: APIRouter, context: GatewayContext) -> None:
        """Market data and private routes."""
        market_data.add_routes(router, context)
        trading.add_routes(router, context)
