"""What the gateway's operator can set (section `[frontends.gateway]`)."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from astra.errors import ConfigError

SHORTEST_STATIC_KEY = 16
"""A static key shorter than this is refused on a public bind: it can be guessed."""


def default_database() -> str:
    """A SQLite file in the user's data folder."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return f"sqlite:///{folder / 'astra' / 'gateway.db'}"


class GatewaySettings(BaseModel):
    """Settings of the gateway. Every default is the careful one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0: any free port."""
    next_free_port: bool = False
    """Take the next free port (of the 50 that follow) when one is in use, instead of failing."""
    public: bool = False
    """Must be true before the gateway listens on an address that others can reach."""
    metrics: bool = True
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9090, ge=0, le=65535)
    database: str = Field(default_factory=default_database)
    """SQLAlchemy URL of the database of keys and idempotency records."""
    api_key: SecretStr | None = None
    """A static key with every scope (`ASTRA_API_KEY` for `astra serve`)."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may call the gateway; none by default."""
    max_body_bytes: int = Field(default=64 * 1024, ge=1024)
    key_recheck_s: float = Field(default=0.8, gt=0, le=1)
    """A key that was verified is looked up again after so long: revocation takes effect within it."""
    idempotency_ttl_s: float = Field(default=24 * 3600.0, ge=600)
    """How long the answer to an Idempotency-Key is remembered."""
    websocket_ping_s: float = Field(default=20.0, gt=0)
    max_websockets: int = Field(default=2000, ge=1)
    max_subscriptions: int = Field(default=500, ge=1)
    """Subscriptions of one WebSocket connection."""
    max_queued_messages: int = Field(default=256, ge=2)
    """Messages that wait for a slow WebSocket client, for each of its subscriptions."""
    shutdown_grace_s: float = Field(default=5.0, ge=0)


def is_loopback(host: str) -> bool:
    """Can only this machine reach `host`? (A name other than localhost counts as reachable.)"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(settings: GatewaySettings) -> None:
    """Refuse to listen where others can reach the gateway unless that was asked for. Raises `ConfigError`."""
    for name, host in (("host", settings.host), ("metrics_host", settings.metrics_host if settings.metrics else "::1")):
        if is_loopback(host) or settings.public:
            continue
        raise ConfigError(
            f"{name} {host!r} can be reached from other machines, over plain HTTP. Keep 127.0.0.1 and put a TLS "
            "proxy in front of it (for example `caddy reverse-proxy --from api.example.com --to 127.0.0.1:8080`). "
            "Where something else already guards the address (a container's network, a firewall with a TLS proxy), "
            "say so with --public or `public = true` in [frontends.gateway]."
        )
    if settings.public and settings.api_key is not None:
        length = len(settings.api_key.get_secret_value())
        if length < SHORTEST_STATIC_KEY:
            raise ConfigError(
                f"the static API key has {length} characters; on a public address it needs at least "
                f"{SHORTEST_STATIC_KEY}. `astra keys create` makes keys of 256 random bits."
            )
