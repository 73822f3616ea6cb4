"""What the gateway offers to the front-ends that it hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection
from starlette.types import Scope as AsgiScope

from astra.models.protocols import Clock
from astra_gateway.database import Database
from astra_gateway.errors import ApiKeyRefused
from astra_gateway.keys import KeyRecord, KeyStore, Scope
from astra_gateway.metrics import Metrics
from astra_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from astra import Astra

CALLER = "astra.caller"
"""Where the ASGI scope holds the verified key of the caller."""
RAW_SEND = "astra.send"
"""Where the scope of a WebSocket holds the server's own `send`, without the layers round it."""


class GatewayContext:
    """One gateway, as its front-ends see it."""

    def __init__(self, astra: Astra, settings: GatewaySettings, keys: KeyStore) -> None:
        self.astra = astra
        self.settings = settings
        self.keys = keys
        self.metrics = Metrics()
        self.schemas: dict[str, Any] = {}
        self.public_paths: set[str] = {"/livez", "/readyz", "/openapi.json", "/docs"}
        """Paths that are served without an API key (GET and HEAD only)."""

    @property
    def database(self) -> Database:
        return self.keys.database

    @property
    def clock(self) -> Clock:
        return self.keys.clock

    def add_schemas(self, schemas: Mapping[str, Any]) -> None:
        """Add named JSON schemas to the OpenAPI document (`#/components/schemas/{name}`)."""
        self.schemas.update(schemas)


def caller_of(connection: HTTPConnection | AsgiScope) -> KeyRecord:
    """The verified key that the request came with. Raises `ApiKeyRefused` where the path is served without one."""
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    caller = scope.get(CALLER)
    if not isinstance(caller, KeyRecord):
        raise ApiKeyRefused("this needs an API key")
    return caller


def require(connection: HTTPConnection | AsgiScope, scope: Scope) -> KeyRecord:
    """The caller, if its key reaches as far as `scope`. Raises `ScopeMissing`."""
    caller = caller_of(connection)
    caller.require(scope)
    return caller
