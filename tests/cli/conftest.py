"""A sandbox of Binance for the commands, which run in processes of their own: they see no other venue, whatever is
installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

import anyio
import pytest

from astra_sandbox import Sandbox

TIMEOUT_S = 60.0


class Done(NamedTuple):
    """How a command ended."""

    code: int | None
    out: str
    err: str


class Terminal:
    """Runs `astra` as a user would, pointed at sandboxes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ASTRA_")}
        self.environment = clean | environment

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "astra_cli", *arguments]

    async def run(self, *arguments: str, **environment: str) -> Done:
        with anyio.fail_after(TIMEOUT_S):
            done = await anyio.run_process(
                self.command(*arguments), env=self.environment | environment, check=False, stdin=subprocess.DEVNULL
            )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment_of(sandbox: Sandbox) -> dict[str, str]:
    """Variables that point Astra at the sandbox, with the keys of its default accounts. No other venue is used."""
    environment = {"ASTRA_PLUGINS": ",".join(sandbox.exchanges)}
    for exchange in sandbox.exchanges:
        key = sandbox.credentials(exchange).keys["default"]
        environment[f"ASTRA_{exchange}_API_KEY"] = key.key.get_secret_value()
        environment[f"ASTRA_{exchange}_API_SECRET"] = key.secret.get_secret_value()
        if key.passphrase is not None:
            environment[f"ASTRA_{exchange}_API_PASSPHRASE"] = key.passphrase.get_secret_value()
        for host, url in sandbox.settings["venues"][exchange]["hosts"].items():
            environment[f"ASTRA_VENUES__{exchange}__HOSTS__{host.upper()}"] = url
    return environment


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(["BINANCE"]) as running:
        yield running


@pytest.fixture
def terminal(sandbox: Sandbox) -> Terminal:
    return Terminal(environment_of(sandbox))


@pytest.fixture
def terminal_on() -> Callable[[Sandbox], Terminal]:
    """A terminal on sandboxes of the test's own."""
    return lambda sandbox: Terminal(environment_of(sandbox))
