"""`astra sandbox`: the venues' sandboxes on loopback ports, until Ctrl-C."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from astra.plugins import Plugins
    from astra_sandbox.sandbox import Sandbox

EPILOG = """\b
Examples:
  astra sandbox                                         every installed venue, ports chosen by the system
  astra sandbox --exchange BINANCE --port-base 9100     one venue, on ports 9100, 9101, ...
  astra sandbox --fault drop_frame=0.01 --fault lost_answer=0.05
  astra sandbox > astra.toml                            then, elsewhere: astra book BINANCE-SPOT-BTC-USDT
  astra sandbox --json | head -1 | jq .venues

\b
Exit codes:
  0    ended by Ctrl-C
  2    wrong command line
  3    a venue is not installed or broken, or a port is taken
"""


@click.command(epilog=EPILOG)
@click.option("--exchange", "exchanges", multiple=True, metavar="CODE", help="Run this venue (repeat for several).")
@click.option("--markets", type=click.IntRange(min=1), help="List about so many markets in each venue.")
@click.option("--seed", type=int, default=1, show_default=True, help="Ids, keys, prices, orders and faults repeat.")
@click.option(
    "--pace", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Speed of the order flow; 0: none."
)
@click.option(
    "--port-base", type=click.IntRange(1024, 65000), metavar="PORT", help="Consecutive ports from here for the hosts."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=VALUE",
    help="Inject a fault: a chance (drop_frame=0.01), seconds (stall_s=5, late_s=2) or ms (clock_skew_ms=1500).",
)
@click.option("--json", "as_json", is_flag=True, help="Print hosts and keys as one JSON object on one line.")
@click.pass_context
def sandbox(
    context: click.Context,
    exchanges: Sequence[str],
    markets: int | None,
    seed: int,
    pace: float,
    port_base: int | None,
    faults: Sequence[str],
    as_json: bool,
) -> None:
    """Run the installed venues' sandboxes until Ctrl-C.

    A sandbox speaks a venue's own protocol, REST and WebSocket, in front of a matching engine with live order flow:
    nothing leaves this machine and no key is needed but the one that it prints. The output is the part of astra.toml
    that points the venues at the sandbox.
    """
    import anyio

    from astra_sandbox.sandbox import Sandbox

    values = _fault_values(faults)
    made = Sandbox(
        exchanges or None,
        seed=seed,
        markets=markets,
        flow=pace > 0,
        pace=pace,
        port_base=port_base,
        plugins=_plugins(context),
    )
    anyio.run(_serve, made, values, as_json)


async def _serve(made: Sandbox, faults: Mapping[str, Any], as_json: bool) -> None:
    """Run until SIGINT or SIGTERM."""
    import signal
    from contextlib import AsyncExitStack

    import anyio

    from astra.errors import ConfigError

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(made)
            except OSError as error:
                raise ConfigError(f"{error.strerror}: choose another --port-base, or none") from None
            for exchange in made.exchanges:
                for name, value in faults.items():
                    setattr(made.faults(exchange), name, value)
            click.echo(_as_json(made) if as_json else _as_toml(made))
            await anext(aiter(signals))


def _plugins(context: click.Context) -> Plugins:
    """The plugins that the configuration lets be used (`--config`, astra.toml, ASTRA_PLUGINS)."""
    from astra.config import load_settings
    from astra.plugins import Plugins

    settings = load_settings((context.find_object(dict) or {}).get("config"))
    return Plugins(only=settings.plugins, block=settings.plugins_block)


def _fault_values(texts: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as values of `astra.sandbox.Faults`."""
    import msgspec

    from astra.errors import hint
    from astra.sandbox import Faults

    known = {field.name: field.type for field in msgspec.structs.fields(Faults)}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--fault")
        if name not in known:
            names = ", ".join(known)
            raise click.BadParameter(f"no fault {name!r}.{hint(name, known)} Faults: {names}", param_hint="--fault")
        try:
            values[name] = msgspec.convert(value, known[name], strict=False)
        except msgspec.ValidationError:
            wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}[known[name]]
            raise click.BadParameter(f"{name} is {wanted}, not {value!r}", param_hint="--fault") from None
        if known[name] is float and not 0 <= values[name] <= (86_400 if name.endswith("_s") else 1):
            limits = "seconds, at most a day" if name.endswith("_s") else "a chance between 0 and 1"
            raise click.BadParameter(f"{name} is {limits}, not {value}", param_hint="--fault")
    return values


def _keys(made: Sandbox, exchange: str) -> dict[str, str]:
    """The default account's key, by the names that the environment variables end with."""
    key = made.credentials(exchange).key_for("default")
    assert key is not None
    found = {"API_KEY": key.key.get_secret_value(), "API_SECRET": key.secret.get_secret_value()}
    if key.passphrase is not None:
        found["API_PASSPHRASE"] = key.passphrase.get_secret_value()
    return found


def _as_toml(made: Sandbox) -> str:
    """Hosts as the lines of an astra.toml; keys as shell lines in comments, so that the whole is still TOML."""
    lines = []
    for exchange, settings in made.settings["venues"].items():
        lines.append(f"[venues.{exchange}.hosts]")
        lines += [f'{host} = "{url}"' for host, url in settings["hosts"].items()]
        lines += ["", "# its test key, for the shell:"]
        for name, value in _keys(made, exchange).items():
            one_line = shlex.quote(value.replace("\n", "\\n"))
            lines.append(f"#   export ASTRA_{exchange}_{name}={one_line}")
        lines.append("")
    lines.append("# running until Ctrl-C")
    return "\n".join(lines)


def _as_json(made: Sandbox) -> str:
    keys = {code: {name.lower(): value for name, value in _keys(made, code).items()} for code in made.exchanges}
    return json.dumps({**made.settings, "credentials": keys})
