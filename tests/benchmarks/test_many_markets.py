"""500 markets live at once in one process against the sandbox: sockets, tasks, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_five_hundred_markets_live_in_one_process() -> None:
    here = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, "-m", "astra_cli", "sandbox", "--exchange", "BINANCE", "--markets", "520", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as sandbox:
        assert sandbox.stdout is not None
        try:
            settings = json.loads(sandbox.stdout.readline())
            done = subprocess.run(
                [sys.executable, str(here / "many_markets.py"), json.dumps(settings)],
                capture_output=True,
                text=True,
                timeout=170,
                check=False,
            )
        finally:
            sandbox.terminate()
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(
        f"\n{result['live']} of {result['markets']} markets LIVE in {result['seconds']:.1f} s: "
        f"{result['sockets']} sockets, {result['tasks']} tasks, {result['memory_mib']:.0f} MiB resident "
        f"({result['base_mib']:.0f} MiB before), {result['updates_per_s']:.0f} updates/s at "
        f"{result['cpu_percent']:.0f} % of a core"
    )
    assert result["live"] == result["markets"] >= 500
    assert result["sockets"] <= 24, "a connection a product, and a few for requests at once to each host"
    assert result["tasks"] <= 60
