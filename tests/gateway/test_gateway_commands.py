"""`astra serve` and `astra keys`, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click
import httpx
import pytest
from anyio.streams.text import TextReceiveStream

from astra_gateway.command import parse_expiry

pytestmark = pytest.mark.anyio

ASTRA = [sys.executable, "-W", "error", "-m", "astra_cli"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ASTRA_", "XDG_"))}
    return clean | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def astra(environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    async def run(*arguments: str, code: int = 0, **variables: str) -> str:
        done = await anyio.run_process(
            [*ASTRA, *arguments],
            env=environment | variables,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            check=False,
        )
        text = done.stdout.decode()
        assert done.returncode == code, text
        assert "Traceback" not in text
        return text

    return run


@pytest.fixture
def serving(environment: dict[str, str], tmp_path: Path) -> Any:
    """`async with serving("--port", "0") as (process, said)`: runs until it says how to end it."""

    @asynccontextmanager
    async def started(*arguments: str, **variables: str) -> AsyncIterator[tuple[Any, str]]:
        command = [*ASTRA, "serve", *arguments]
        process = await anyio.open_process(command, env=environment | variables, cwd=tmp_path, stderr=subprocess.STDOUT)
        async with process:
            said = ""
            with anyio.fail_after(20):
                async for chunk in TextReceiveStream(process.stdout):
                    said += chunk
                    if "Ctrl-C ends it." in said:
                        break
            try:
                yield process, said
            finally:
                if process.returncode is None:
                    process.kill()

    return started


async def test_a_key_is_made_shown_once_used_and_revoked(astra: Any, serving: Any) -> None:
    assert "There is no API key yet" in await astra("keys", "list")
    async with serving("--port", "0", "--no-metrics") as (process, said):
        url = re.search(r"http://127\.0\.0\.1:[0-9]+", said)[0]  # type: ignore[index]
        assert "astra keys create --scope trade" in said
        made = await astra("keys", "create", "--scope", "trade", "--name", "my bot", "--expires", "30d")
        key = re.search(r"Bearer (\S+)", made)[1]  # type: ignore[index]
        assert made.count(key) == 2
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            headers = {"x-astra-api-key": f"Bearer {key}"}
            assert (await http.get("/orderbook?market=NO", headers=headers)).status_code == 400
            listed = await astra("keys", "list")
            assert key.partition(".")[2] not in listed
            assert re.search(rf"{key.partition('.')[0]}  trade  active .*  my bot", listed)
            assert "is revoked" in await astra("keys", "revoke", key.partition(".")[0])
            await anyio.sleep(1)
            refused = await http.get("/orderbook?market=NO", headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "api-key")
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(10):
            assert await process.wait() == 0


async def test_ctrl_c_ends_it_without_noise(serving: Any) -> None:
    async with serving("--port", "0", "--no-metrics", ASTRA_API_KEY="a-static-key-of-some-length") as (process, said):
        assert "astra keys create" not in said
        url = re.search(r"http://127\.0\.0\.1:[0-9]+", said)[0]  # type: ignore[index]
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"x-astra-api-key": "Bearer a-static-key-of-some-length"}
            assert (await http.get(url + "/orderbook?market=NO", headers=headers)).status_code == 400
        process.send_signal(signal.SIGINT)
        rest = ""
        with anyio.fail_after(10):
            async for chunk in TextReceiveStream(process.stdout):
                rest += chunk
            assert await process.wait() == 130
        assert rest.strip() == ""


async def test_json_is_for_programs(astra: Any) -> None:
    made = json.loads(await astra("keys", "create", "--json", "--rate", "5"))
    assert list(made) == [
        *("key", "id", "name", "scope", "state", "requestsPerSecond", "created", "expires", "revoked", "lastUsed")
    ]
    assert made["key"].startswith(made["id"] + ".")
    assert (made["scope"], made["state"], made["requestsPerSecond"], made["expires"]) == ("read", "active", 5.0, None)
    (listed,) = json.loads(await astra("keys", "list", "--json"))
    assert listed == {name: value for name, value in made.items() if name != "key"}
    revoked = json.loads(await astra("keys", "revoke", made["id"], "--json"))
    assert revoked["state"] == "revoked"


async def test_a_public_address_is_refused_with_what_to_do(astra: Any) -> None:
    said = await astra("serve", "--host", "0.0.0.0", code=3)
    assert "TLS" in said
    assert "--public" in said
    from_environment = await astra("serve", code=3, ASTRA_FRONTENDS__GATEWAY__HOST="0.0.0.0")
    assert "--public" in from_environment


async def test_a_public_address_that_was_asked_for_is_served(serving: Any) -> None:
    async with serving("--host", "0.0.0.0", "--public", "--port", "0", "--no-metrics") as (_, said):
        assert "http://127.0.0.1:" in said


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (("keys", "create", "--scope", "everything"), {}, 2, "'read', 'trade', 'admin'"),
        (("keys", "create", "--expires", "soon"), {}, 2, "30d"),
        (("keys", "create", "--expires", "2001-01-01"), {}, 2, "expired from the start"),
        (("keys", "revoke", "nobody"), {}, 2, "nobody"),
        (("keys", "list"), {"ASTRA_FRONTENDS__GATEWAY__DATABSE": "sqlite://"}, 3, "Did you mean 'database'?"),
        (("keys", "list"), {"ASTRA_FRONTENDS__GATEWAY__DATABASE": "nonsense"}, 3, "malformed"),
        (("serve",), {"ASTRA_FRONTENDS__GATEWAY__PORT": "many"}, 3, "frontends.gateway.port"),
        (("serve",), {"ASTRA_API_KEY_FILE": "/no/such/file"}, 3, "ASTRA_API_KEY_FILE"),
    ],
)
async def test_what_is_wrong_is_told_with_its_exit_code(
    astra: Any, arguments: tuple[str, ...], variables: dict[str, str], code: int, said: str
) -> None:
    assert said in await astra(*arguments, code=code, **variables)


async def test_a_static_key_may_come_from_a_file(serving: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-static-key-in-a-file\n")
    async with serving("--port", "0", "--no-metrics", ASTRA_API_KEY_FILE=str(tmp_path / "key")) as (_, said):
        url = re.search(r"http://127\.0\.0\.1:[0-9]+", said)[0]  # type: ignore[index]
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"x-astra-api-key": "Bearer a-static-key-in-a-file"}
            assert (await http.get(url + "/orderbook?market=NO", headers=headers)).status_code == 400


@pytest.mark.parametrize("command", [("serve",), ("keys",), ("keys", "create"), ("keys", "list"), ("keys", "revoke")])
async def test_help_teaches(astra: Any, command: tuple[str, ...]) -> None:
    text = await astra(*command, "--help")
    assert "Examples:" in text
    assert "Exit codes:" in text


def test_an_expiry_is_a_span_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    start = 1767225600000
    assert parse_expiry("2h", now) == start + 2 * 3600_000
    assert parse_expiry("30d", now) == start + 30 * 86_400_000
    assert parse_expiry("2026-01-02", now) == start + 86_400_000
    assert parse_expiry("2026-01-01T02:00:00+02:00", now) == start
    for wrong in ("", "30", "d", "1w", "2026-13-01"):
        with pytest.raises(click.BadParameter):
            parse_expiry(wrong, now)
