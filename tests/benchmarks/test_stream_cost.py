"""CPU time per frame from the socket to the consumer, as ratios in one run. No pass or fail by speed.

What is compared: the floor (picows and a typed msgspec decode), Astra on both transports with all checks on, and other
libraries where they are installed, each following one USD-M book of generated frames (16 levels, about 450 bytes) of
`frame_server` in a process of its own, on default settings: garbage collector and event loop untouched. Every update
is counted and the final book compared with the server's.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROUNDS = 5
GROUPS = {"1 frame a read": (1, 4_000), "20 frames a read": (20, 30_000), "saturated": (0, 40_000)}
CANDIDATES = ["floor", "astra-picows", "astra-httpx-ws", "cryptofeed", "ccxt"]


@contextmanager
def frame_server(symbols: int = 1) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, str(HERE / "frame_server.py"), str(symbols)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def is_installed(name: str) -> bool:
    distribution = name.partition("-")[0].replace("floor", "picows").replace("astra", "astra-api")
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def measure(name: str, group: int, frames: int, symbols: int = 1) -> dict[str, float]:
    with frame_server(symbols) as port:
        done = subprocess.run(
            [sys.executable, str(HERE / "candidates.py"), name, str(port), str(group), str(frames)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tempfile.gettempdir(),  # cryptofeed leaves a log file where it is started
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, f"{name} measured nothing:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    result = json.loads(lines[-1])
    assert result["correct"], f"{name} ended with another book than the server's: {result}"
    if "updates" in result:
        assert result["updates"] >= frames, f"{name} counted {result['updates']} of {frames} updates"
    return dict(result)


@pytest.mark.parametrize("title", list(GROUPS))
def test_cost_per_frame(title: str) -> None:
    group, frames = GROUPS[title]
    names = [name for name in CANDIDATES if is_installed(name)]
    costs: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            costs[name].append(measure(name, group, frames)["cpu_us"])
    ratios = {
        name: statistics.median(cost / floor for cost, floor in zip(costs[name], costs["floor"], strict=True))
        for name in names
    }
    libraries = ("picows", "msgspec", "httpx-ws", "cryptofeed", "ccxt")
    versions = ", ".join(f"{one} {importlib.metadata.version(one)}" for one in libraries if is_installed(one))
    print(f"\n{title}: CPU time per frame, median of {ROUNDS} rounds, Python {platform.python_version()}, {versions}")
    for name in names:
        others = ratios[name] / ratios["astra-picows"]
        best = min(costs[name]) / min(costs["floor"])
        print(f"  {name:<16} {ratios[name]:6.2f} x the floor (best rounds {best:5.2f})   {others:5.2f} x astra-picows")


def test_cost_per_frame_of_a_thousand_markets() -> None:
    one = [measure("astra-picows", 0, 40_000)["cpu_us"] for _ in range(3)]
    many = [measure("astra-many", 0, 40_000, 1000)["cpu_us"] for _ in range(3)]
    ratio = statistics.median(many) / statistics.median(one)
    print(f"\n1,000 markets in one stream, saturated: {ratio:.2f} x the cost per frame of one market")
    assert ratio > 0


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("from astra import Astra", "from astra import Astra"),
        ("astra --help", "import sys; sys.argv = ['astra', '--help']\nfrom astra_cli.main import main; main()"),
    ],
)
def test_import_time(what: str, code: str) -> None:
    def once(statement: str) -> float:
        watch = "import time; t = time.perf_counter()\n"
        tell = "\nimport sys; sys.stderr.write(str(time.perf_counter() - t))"
        body = f"try:\n    exec({statement!r})\nexcept SystemExit:\n    pass"
        done = subprocess.run(
            [sys.executable, "-c", watch + body + tell], capture_output=True, text=True, check=True, timeout=60
        )
        return float(done.stderr.split()[-1]) * 1000

    reference = statistics.median(once("import asyncio, json, ssl") for _ in range(7))
    taken = statistics.median(once(code) for _ in range(7))
    print(f"\n{what}: {taken:.0f} ms, {taken / reference:.2f} x `import asyncio, json, ssl`")
    assert taken > 0
