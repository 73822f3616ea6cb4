"""`astra demo` as a stranger runs it: in a process of its own, without keys, judged by what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from websockets.http11 import Request
from websockets.server import ServerProtocol

import astra_sandbox
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra_cli.demonstration import _receive
from astra_cli.exits import ExitCode
from astra_cli.main import main
from astra_cli.showing import Gateway
from astra_cli.tally import Tally

pytestmark = pytest.mark.slow

PLUGINS = Plugins()
PLAYING = [exchange for exchange in PLUGINS.names(VENUES) if exchange in PLUGINS.names(SANDBOXES)]
SANDBOX_ALONE = set(PLUGINS.names(SANDBOXES)) - set(PLAYING)


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-W", "error", "-m", "astra_cli", "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which whatever is written lands in `tmp_path`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ASTRA_", "XDG_"))}
    (tmp_path / "tmp").mkdir()
    return clean | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_every_product_of_every_venue_delivers(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = await anyio.run_process(
        [*command, "--seconds", "12", "--json", "--port", "0"],
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", told["gateway"])
    assert list(told["venues"]) == PLAYING
    assert SANDBOX_ALONE.issubset(told["leftOut"])
    assert told["problems"] == []
    for exchange, venue in told["venues"].items():
        assert set(venue["products"]) == set(PLUGINS.load(VENUES, exchange).products)
        for counts in (venue, *venue["products"].values()):
            assert counts["state"] == "LIVE"
            assert counts["liveAfterS"] > 0
            assert counts["markets"] > 0
            assert counts["orderbookUpdates"] > 0
            assert counts["trades"] > 0
        assert venue["orderbookUpdates"] == sum(part["orderbookUpdates"] for part in venue["products"].values())
    assert files_in(tmp_path) == [], "the demo leaves nothing behind"


async def test_the_printed_key_and_address_work_and_a_taken_port_is_said_aloud(
    command: list[str], environment: dict[str, str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await anyio.open_process(
            [*command, "--port", str(port), "--markets", "1"], env=environment, stdin=subprocess.DEVNULL
        )
        async with process:
            assert process.stdout is not None
            with anyio.fail_after(60):
                text = (await BufferedByteReceiveStream(process.stdout).receive_until(b"dataType", 100_000)).decode()
            assert f"(port {port} is in use)" in text
            (url,) = set(re.findall(r"Gateway +(http://\S+)", text))
            ((key, path),) = re.findall(rf"curl -H 'x-astra-api-key: Bearer (\S+)' '{url}(/orderbook[^']+)'", text)
            async with httpx.AsyncClient(base_url=url) as client:
                answer = await client.get(path, headers={"x-astra-api-key": f"Bearer {key}"})
                assert answer.status_code == 200
                assert len(answer.json()["bids"]) == 5
                assert (await client.get(path)).status_code == 401
            process.send_signal(signal.SIGINT)
            with anyio.fail_after(20):
                async for _ in process.stdout:
                    pass
                assert process.stderr is not None
                told = b"".join([chunk async for chunk in process.stderr])
                assert await process.wait() == ExitCode.INTERRUPTED
        assert told.strip() == b""


async def test_a_connection_to_the_gateway_is_closed_once_its_reader_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway here answers no goodbye: without an end of its own the socket would stay open for ten seconds."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # the demo's own gateway is never behind one
    subscribed, ended = anyio.Event(), anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        peer = ServerProtocol()
        async with stream:
            async for data in stream:
                peer.receive_data(data)
                for event in peer.events_received():
                    if isinstance(event, Request):
                        peer.send_response(peer.accept(event))
                        await stream.send(b"".join(peer.data_to_send()))
                    else:
                        subscribed.set()
        ended.set()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        tally = Tally({"BINANCE-SPOT-BTC-USDT": "spot"}, anyio.current_time())
        async with anyio.create_task_group() as reader:
            gateway = Gateway(f"http://127.0.0.1:{port}", None, "key")
            reader.start_soon(_receive, gateway, "BINANCE", list(tally.markets), tally)
            with anyio.fail_after(10):
                await subscribed.wait()
            reader.cancel_scope.cancel()
        with anyio.fail_after(5):
            await ended.wait()
        assert tally.problems == []
        tasks.cancel_scope.cancel()


def test_products_that_are_not_live_at_the_end_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Halved(astra_sandbox.Sandbox):
        """Nobody is there for the streams of one product."""

        @property
        def settings(self) -> dict[str, Any]:
            settings = super().settings
            hosts = settings["venues"]["BINANCE"]["hosts"] | {"coinm_stream": "ws://127.0.0.1:9"}
            return {"venues": {"BINANCE": {"hosts": hosts}}}

    monkeypatch.setattr(astra_sandbox, "Sandbox", Halved, raising=False)
    arguments = ["--exchange", "BINANCE", "--seconds", "3", "--markets", "1", "--port", "0", "--json"]
    assert main(["demo", *arguments]) == ExitCode.FAILED
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    states = {product: part["state"] for product, part in told["venues"]["BINANCE"]["products"].items()}
    assert states == {"spot": "LIVE", "usdm": "LIVE", "coinm": "SYNCING", "options": "LIVE"}
    assert captured.err.splitlines() == [f"astra: {problem}" for problem in told["problems"]]
    assert told["problems"] == [
        "BINANCE coinm: not live: BINANCE-PERP-BTC-USD-COINM SYNCING",
        "BINANCE coinm: no order book updates came",
        "BINANCE coinm: no trades came",
    ]


def test_an_exchange_without_a_plugin_is_refused_with_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--exchange", "ASTER", "--seconds", "1"]) == ExitCode.CONFIG
    assert "python -m pip install astra-aster" in capsys.readouterr().err


def test_missing_distributions_are_named_with_the_command_that_installs_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astra_cli.demonstration._is_installed", lambda name: name != "astra-sandbox")
    assert main(["demo", "--seconds", "1"]) == ExitCode.CONFIG
    assert "python -m pip install astra-sandbox" in capsys.readouterr().err
