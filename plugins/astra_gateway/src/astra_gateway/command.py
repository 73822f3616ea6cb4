"""The commands `astra serve` and `astra keys`. What they need is imported when they run."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from astra import Astra, Settings
    from astra_gateway.keys import KeyRecord, KeyStore
    from astra_gateway.plugin import RunningGateway
    from astra_gateway.settings import GatewaySettings

INTERRUPTED = 130

EXIT_CODES = """\b
Exit codes:
  0    done (serve: ended by SIGTERM)
  2    wrong command line
  3    a setting or a plugin is missing, unknown or broken; the port is taken
  130  ended by Ctrl-C
"""


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) + "\n\n" + EXIT_CODES


def _config_option(function: Any) -> Any:
    """`--config` may stand before the command's name (then the context has it) or after it."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        if value is not None:
            ctx.ensure_object(dict)["config"] = value

    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        expose_value=False,
        callback=remember,
        help="Read this astra.toml instead of the one in the working directory.",
    )(function)


def _config() -> Path | None:
    path: Path | None = click.get_current_context().ensure_object(dict).get("config")
    return path


# -- serve ---------------------------------------------------------------------------------------------------------


@click.command(
    epilog=_examples(
        "astra serve",
        "astra serve --port 8081",
        "ASTRA_API_KEY=... astra serve",
        "ASTRA_PLUGINS=BINANCE,rest,ws astra serve",
    )
)
@click.option("--host", help="Address to listen on. Default: 127.0.0.1, which only this machine reaches.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (0: any free one). Default: 8080.")
@click.option("--public", is_flag=True, help="Allow an address that other machines can reach. HTTP is not encrypted.")
@click.option("--metrics/--no-metrics", default=None, help="Prometheus metrics on port 9090. Default: on.")
@_config_option
def serve(host: str | None, port: int | None, public: bool, metrics: bool | None) -> int:
    """Serve the REST and WebSocket gateway until Ctrl-C.

    Every request needs an API key: make one with `astra keys create`, or set ASTRA_API_KEY.

    To be reached from other machines, put a TLS proxy in front of it, for example
    `caddy reverse-proxy --from api.example.com --to 127.0.0.1:8080`. Only where something else already guards the
    address (a container's network), use --host 0.0.0.0 --public.
    """
    import anyio

    from astra import Astra

    given: dict[str, Any] = {"host": host, "port": port, "public": public or None, "metrics": metrics}
    chosen = {name: value for name, value in given.items() if value is not None}
    astra = Astra.from_config(_config(), overrides={"frontends": {"gateway": chosen}} if chosen else None)
    return anyio.run(_serve, astra)


async def _serve(astra: Astra) -> int:
    import signal

    import anyio

    from astra_gateway.plugin import running_gateway, with_static_key
    from astra_gateway.settings import GatewaySettings

    settings = astra.settings.validated("frontends", "gateway", GatewaySettings)
    settings = with_static_key(settings, astra.settings.environment)
    received = 0

    async def wait_for_signal(scope: anyio.CancelScope) -> None:
        nonlocal received
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                received = number
                scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":  # there Ctrl-C raises KeyboardInterrupt
            tasks.start_soon(wait_for_signal, tasks.cancel_scope)
        async with astra, running_gateway(astra, settings) as gateway:
            await _announce(gateway, settings)
            await _serve_others(astra)
    return INTERRUPTED if received == signal.SIGINT else 0


async def _serve_others(astra: Astra) -> None:
    """Run the front-ends that serve by themselves, beside the gateway that serves already."""
    import anyio

    from astra.plugins import FRONTENDS, PluginState
    from astra_gateway.plugin import NAME

    infos = astra.plugins.listed(FRONTENDS)
    loaded = [info.name for info in infos if info.state is PluginState.LOADED and info.name != NAME]
    if loaded:
        await astra.serve(*loaded)
    await anyio.sleep_forever()


async def _announce(gateway: RunningGateway, settings: GatewaySettings) -> None:
    now_ms = gateway.keys.clock.wall_ns() // 1_000_000
    click.echo(f"Astra's gateway is on {gateway.url}  (API: {gateway.url}/docs)")
    if gateway.metrics_url is not None:
        click.echo(f"Metrics are on {gateway.metrics_url}")
    keys = [record for record in await gateway.keys.list() if record.state(now_ms) == "active"]
    if settings.api_key is None and not keys:
        click.echo("There is no API key yet. In another terminal:\n\n    astra keys create --scope trade\n")
    click.echo("Ctrl-C ends it.")


# -- keys ----------------------------------------------------------------------------------------------------------


@click.group(
    epilog=_examples(
        "astra keys create --scope trade --name 'my bot'",
        "astra keys create --scope read --expires 30d --json",
        "astra keys list",
        "astra keys revoke kadjfasflqwe",
    )
)
@_config_option
def keys() -> None:
    """Make, list and revoke API keys of the gateway."""


@keys.command(
    epilog=_examples("astra keys create --scope trade --name 'my bot'", "astra keys create --json | jq -r .key")
)
@click.option(
    "--scope",
    type=click.Choice(["read", "trade", "admin"]),
    default="read",
    show_default=True,
    help="read: market data and accounts. trade: orders, too. admin: everything.",
)
@click.option("--name", default="", metavar="TEXT", help="What the key is for; shown by `astra keys list`.")
@click.option("--expires", metavar="WHEN", help="30d, 12h, or a date such as 2027-12-31 (UTC). Default: never.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Requests per second. Default: unlimited.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_config_option
def create(scope: str, name: str, expires: str | None, rate: float | None, as_json: bool) -> None:
    """Make an API key and show it, once.

    The database keeps only a hash of it: what is lost cannot be shown again.
    """
    from astra_gateway.keys import IssuedKey, Scope

    expires_ms = None if expires is None else parse_expiry(expires, datetime.now(UTC))

    async def make(store: KeyStore) -> IssuedKey:
        return await store.create(name, Scope(scope), expires_ms=expires_ms, requests_per_s=rate)

    issued = _with_store(make)
    if as_json:
        click.echo(json.dumps({"key": issued.key, **_fields(issued.record)}))
        return
    click.echo(f"id:       {issued.record.id}")
    click.echo(f"scope:    {scope}")
    click.echo(f"expires:  {_time(expires_ms) or 'never'}")
    click.echo(f"\nThe key, shown this once:\n\n    {issued.key}\n")
    click.echo(f"Send it with every request:\n\n    x-astra-api-key: Bearer {issued.key}")


@keys.command("list", epilog=_examples("astra keys list", "astra keys list --json | jq -r '.[].id'"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@_config_option
def list_keys(as_json: bool) -> None:
    """List all API keys, without their secrets."""

    async def read(store: KeyStore) -> Any:
        return await store.list()

    records = _with_store(read)
    if as_json:
        click.echo(json.dumps([_fields(record) for record in records]))
        return
    if not records:
        click.echo("There is no API key yet: astra keys create --scope trade")
        return
    now_ms = _now_ms()
    heads = ("ID", "SCOPE", "STATE", "CREATED", "EXPIRES", "LAST USED", "NAME")
    rows = [
        (
            *(record.id, record.scope.value, record.state(now_ms), _time(record.created_ms)),
            *(_time(record.expires_ms) or "never", _time(record.last_used_ms) or "never", record.name),
        )
        for record in records
    ]
    widths = [max(len(str(row[column])) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        line = "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


@keys.command(epilog=_examples("astra keys revoke kadjfasflqwe"))
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_config_option
def revoke(key_id: str, as_json: bool) -> None:
    """End an API key. Running gateways refuse it within a second; its WebSocket connections end, too."""

    async def end(store: KeyStore) -> KeyRecord:
        return await store.revoke(key_id)

    record = _with_store(end)
    click.echo(json.dumps(_fields(record)) if as_json else f"{record.id} is revoked")


def parse_expiry(text: str, now: datetime) -> int:
    """A moment in ms: so many days or hours from now, or a date (UTC). Raises `click.BadParameter`."""
    if match := re.fullmatch(r"([0-9]{1,5})([dh])", text, re.ASCII):
        unit = {"d": timedelta(days=1), "h": timedelta(hours=1)}[match[2]]
        return round((now + int(match[1]) * unit).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a span such as 30d or 12h nor a date such as 2027-12-31", param_hint="--expires"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _with_store(work: Any) -> Any:
    """Run `work` on the key store of the configuration."""
    import anyio

    from astra.config import load_settings

    return anyio.run(_on_store, load_settings(_config()), work)


async def _on_store(settings: Settings, work: Any) -> Any:
    from astra.net.clock import SystemClock
    from astra_gateway.database import Database
    from astra_gateway.keys import KeyStore
    from astra_gateway.settings import GatewaySettings

    database = Database(settings.validated("frontends", "gateway", GatewaySettings).database)
    try:
        return await work(KeyStore(database, SystemClock()))
    finally:
        await database.aclose()


def _fields(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "scope": record.scope.value,
        "state": record.state(_now_ms()),
        "requestsPerSecond": record.requests_per_s,
        "created": _time(record.created_ms),
        "expires": _time(record.expires_ms),
        "revoked": _time(record.revoked_ms),
        "lastUsed": _time(record.last_used_ms),
    }


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def _time(moment_ms: int | None) -> str | None:
    if moment_ms is None:
        return None
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
