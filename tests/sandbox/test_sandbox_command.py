"""`astra sandbox`: what it prints, that it serves, how it ends. Run as a process, with a venue installed for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
import urllib.request

import pytest
from click.testing import CliRunner

from astra_sandbox.command import sandbox

WITHIN_S = 20.0
RUN = "from astra_sandbox.command import sandbox; sandbox()"


@pytest.fixture
def environment(tmp_path):
    """An environment in which one sandbox is installed: that of TOY."""
    (tmp_path / "toy_sandbox.py").write_text(
        textwrap.dedent(
            """
            from decimal import Decimal
            from astra.models.markets import Market
            from astra.sandbox import HttpResponse, SandboxVenue

            class Toy(SandboxVenue):
                exchange = "TOY"
                hosts = {"rest": "http", "stream": "ws"}

                @classmethod
                def default_markets(cls, count=None):
                    return [Market(symbol="TOY-SPOT-BTC-USDT", asset_type="SPOT", base_asset="BTC",
                                   quote_asset="USDT", native_symbol="BTCUSDT", product="spot",
                                   tick_size=Decimal("0.01"), lot_size=Decimal("0.001"))]

                @classmethod
                def make_key(cls, random):
                    return "KEY", "-----PEM\\nit's secret\\n", "pass phrase"

                def http(self, request):
                    return HttpResponse(200, b"served")

                def connect(self, host, target, headers, link):
                    return HttpResponse(404, b"")
            """
        )
    )
    metadata = tmp_path / "toy_sandbox-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-sandbox\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[astra.sandboxes]\nTOY = toy_sandbox:Toy\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASTRA_")}
    path = os.pathsep.join([str(tmp_path), clean["PYTHONPATH"]])
    return {**clean, "PYTHONPATH": path, "ASTRA_PLUGINS": "TOY"}


@pytest.fixture
def started(environment, tmp_path):
    """Starts the command; returns the process."""
    running = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process):
    out, err = process.communicate(timeout=WITHIN_S)
    return process.returncode, out, err


def test_it_prints_an_astra_toml_with_the_key_in_comments_and_serves_until_ctrl_c(started):
    process = started()
    lines = []
    while not lines or not lines[-1].startswith("# running"):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    hosts = tomllib.loads("".join(lines))["venues"]["TOY"]["hosts"]
    assert set(hosts) == {"rest", "stream"}
    assert hosts["stream"].startswith("ws://127.0.0.1:")
    with urllib.request.urlopen(hosts["rest"] + "/x", timeout=WITHIN_S) as answer:
        assert answer.read() == b"served"
    exports = "".join(line.removeprefix("#   ") for line in lines if "export" in line)
    shell = subprocess.run(
        ["sh", "-c", f'{exports}\nprintf %s "$ASTRA_TOY_API_SECRET|$ASTRA_TOY_API_PASSPHRASE"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == "-----PEM\\nit's secret\\n|pass phrase"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "", "")


def test_json_is_one_line_with_hosts_and_keys(started):
    process = started("--json", "--exchange", "TOY", "--seed", "7", "--fault", "server_error=1", "--pace", "0")
    shown = json.loads(process.stdout.readline())
    assert shown["credentials"] == {
        "TOY": {"api_key": "KEY", "api_secret": "-----PEM\nit's secret\n", "api_passphrase": "pass phrase"}
    }
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(shown["venues"]["TOY"]["hosts"]["rest"], timeout=WITHIN_S)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def test_a_taken_port_is_named(started):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = ended(started("--port-base", str(port)))
    assert code != 0
    assert f"port {port}" in err
    assert "--port-base" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--fault", "drop_frames=0.1"], "Did you mean 'drop_frame'?"),
        (["--fault", "drop_frame"], "NAME=VALUE"),
        (["--fault", "drop_frame=often"], "a number"),
        (["--fault", "drop_frame=1.5"], "between 0 and 1"),
        (["--fault", "stall_s=-1"], "seconds"),
        (["--fault", "clock_skew_ms=1.5"], "whole number"),
        (["--markets", "0"], "--markets"),
        (["--port-base", "80"], "--port-base"),
    ],
)
def test_a_wrong_option_is_explained(arguments, told):
    result = CliRunner().invoke(sandbox, arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.output.replace("│", " ").split())


def test_the_help_has_examples():
    result = CliRunner().invoke(sandbox, ["--help"])
    assert result.exit_code == 0
    assert "astra sandbox --exchange BINANCE" in result.output
