"""The gateway as a front-end plugin, and as something to embed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from fastapi import FastAPI
from pydantic import SecretStr

from astra.errors import ConfigError
from astra.hookspecs import API_VERSION, hookimpl
from astra.models.protocols import Host
from astra_gateway.app import NAME as NAME
from astra_gateway.app import create_app, load_frontends
from astra_gateway.database import Database
from astra_gateway.keys import KeyStore
from astra_gateway.server import listen, serving, url_of
from astra_gateway.settings import GatewaySettings, check_bind

if TYPE_CHECKING:
    from astra import Astra

logger = logging.getLogger("astra.gateway")


class RunningGateway(msgspec.Struct, frozen=True):
    """A gateway that is being served. `metrics_url` is None when metrics are switched off."""

    url: str
    metrics_url: str | None
    app: FastAPI
    keys: KeyStore


@asynccontextmanager
async def running_gateway(
    astra: Astra, settings: GatewaySettings | None = None, *, keys: KeyStore | None = None
) -> AsyncIterator[RunningGateway]:
    """Serve the gateway while the block runs.

    Loads the installed front-ends, listens (`ConfigError` when that cannot be done, or would be public without being
    asked for), and closes every connection in order at the end. Without `keys` the database of the settings is used.
    """
    settings = settings or GatewaySettings()
    check_bind(settings)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port, next_free=settings.next_free_port))
        metrics_listener = None
        if settings.metrics:
            metrics_listener = stack.enter_context(
                listen(settings.metrics_host, settings.metrics_port, next_free=settings.next_free_port)
            )
        if keys is None:
            database = Database(settings.database)
            stack.push_async_callback(database.aclose)
            keys = KeyStore(database, astra.clock, static_key=settings.api_key, recheck_s=settings.key_recheck_s)
        await load_frontends(astra)
        app = create_app(astra, settings, keys)
        lifetimes = {"ping_s": settings.websocket_ping_s, "grace_s": settings.shutdown_grace_s}
        metrics_url = None
        if metrics_listener is not None:
            metrics_url = f"{url_of(metrics_listener)}/metrics"
            metrics = app.state.gateway.metrics.app()
            await stack.enter_async_context(serving(metrics, metrics_listener, **lifetimes))
        url = url_of(listener)
        await stack.enter_async_context(serving(app, listener, **lifetimes))
        logger.info("serving on %s", url)
        yield RunningGateway(url, metrics_url, app, keys)


@asynccontextmanager
async def serve_gateway(
    astra: Astra, settings: GatewaySettings | None = None, *, keys: KeyStore | None = None
) -> AsyncIterator[str]:
    """Like `running_gateway`, giving the URL alone: `async with serve_gateway(astra, settings) as url: ...`."""
    async with running_gateway(astra, settings, keys=keys) as gateway:
        yield gateway.url


class Gateway:
    """The front-end plugin `gateway`: the HTTP server that hosts all front-ends with HTTP routes.

    Settings: section `[frontends.gateway]`, see `GatewaySettings`; the static key is also taken from `ASTRA_API_KEY`
    where the configuration was loaded from an environment.
    """

    api_version = API_VERSION
    settings_model = GatewaySettings

    def __init__(self, host: Host, settings: GatewaySettings) -> None:
        self.host = host
        self.settings = with_static_key(settings, host.astra.settings.environment)

    @hookimpl
    async def serve(self, host: Host) -> None:
        """Serve until cancelled."""
        async with running_gateway(host.astra, self.settings):
            await anyio.sleep_forever()


def with_static_key(settings: GatewaySettings, environment: Mapping[str, str]) -> GatewaySettings:
    """The settings with the static key of the environment (`ASTRA_API_KEY`, or the content of the file that
    `ASTRA_API_KEY_FILE` names), unless they have one. Raises `ConfigError` for a file that cannot be read."""
    key = environment.get("ASTRA_API_KEY", "")
    if not key and (path := environment.get("ASTRA_API_KEY_FILE")):
        try:
            key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"the file {path!r} that ASTRA_API_KEY_FILE names cannot be read") from None
    if not key or settings.api_key is not None:
        return settings
    return settings.model_copy(update={"api_key": SecretStr(key)})
