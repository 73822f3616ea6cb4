"""Who is checked: installed venues by name, classes from a conftest, and recordings without any sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).with_name("tiny")

CONFTEST = """
import json

from astra.models.orderbook import Integrity
from astra.models.trades import Side
from astra.streams.feed import DataType
from astra.testing.conformance import RecordedBook, RecordedTrade, Recording, Subject
from tiny_flaws import GapsUnnoticed, MakersSide, with_session
from tiny_sandbox import markets
from tiny_venue import TinyFeed, TinyVenue

FLAWS = {{"gaps": GapsUnnoticed, "sides": MakersSide}}
session = FLAWS.get({flaw!r})
inverse = markets()[-1]


def frames(channel, *messages):
    acknowledged = {{"type": "ok", "channels": [channel]}}
    return [json.dumps(one).encode() for one in (acknowledged, *({{"channel": channel, **m}} for m in messages))]


def change(number, price, contracts):
    return {{"type": "change", "seq": number, "time": 1_700_000_000_000, "bids": [[price, contracts]], "asks": []}}


book = Recording(
    name="the inverse book",
    market=inverse,
    data_type=DataType.ORDERBOOK,
    frames=frames(
        f"book:{{inverse.native_symbol}}",
        {{"type": "snapshot", "seq": 7, "time": 1, "bids": [["50000", "10"]], "asks": [["50100", "20"]]}},
        change(8, "49900", "5"),
        change(9, "50000", "30"),
        change(10, "49800", "5"),
        change(11, "49900", "0"),
    ),
    book=RecordedBook(bids=[(50000.0, 0.06), (49800.0, 500 / 49800)], asks=[(50100.0, 2000 / 50100)], update_id=11),
)
trades = Recording(
    name="trades",
    market=inverse,
    data_type=DataType.TRADE,
    frames=frames(
        f"trades:{{inverse.native_symbol}}",
        {{"type": "trades", "time": 1, "trades": [[1, "50000", "10", "BUY", 17], [2, "50000", "5", "SELL", 18]]}},
    ),
    trades=[
        RecordedTrade(50000.0, 0.02, Side.BUY, id="1", time=17),
        RecordedTrade(50000.0, 0.01, Side.SELL, id="2", time=18),
    ],
)


def feed():
    made = TinyFeed()
    if session is not None:
        made.session_class = session
    return made


def pytest_astra_subjects():
    return [Subject.of(TinyVenue, feed=feed, recordings=[book, trades])]
"""


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ASTRA_"))}
    environment["PYTHONPATH"] = str(TINY)
    command = [sys.executable, "-m", "pytest", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90)


def recorded(folder: Path, flaw: str) -> tuple[str, dict[int, Any]]:
    (folder / "conftest.py").write_text(CONFTEST.format(flaw=flaw), encoding="utf-8")
    run = pytest_in(folder, "-p", "astra.testing.conformance", "--astra-report=r.json")
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return run.stdout + run.stderr, {one["number"]: one for one in report["venues"]["TINY"]["checks"]}


def test_recordings_are_checked_without_a_sandbox(tmp_path: Path) -> None:
    printed, checks = recorded(tmp_path, "")
    ends = {number: checks[number]["outcome"] for number in (801, 802, 803, 804)}
    assert set(ends.values()) == {"passed"}, printed
    assert checks[804]["segments"]["trades"]["outcome"] == "n/a"
    assert "removed, noticed at frame" in checks[804]["segments"]["the inverse book"]["reason"]
    others = {one["outcome"] for number, one in checks.items() if number < 800 and number != 101}
    assert others == {"n/a"}
    assert "no sandbox" in checks[401]["reason"]


def test_recordings_join_the_installed_venue_that_is_named(tmp_path: Path) -> None:
    renamed = (
        CONFTEST.format(flaw="")
        + """

class Installed(TinyVenue):
    code = "BINANCE"


def pytest_astra_subjects():
    return [Subject.of(Installed, feed=feed, recordings=[book, trades])]
"""
    )
    (tmp_path / "conftest.py").write_text(renamed, encoding="utf-8")
    options = ("-p", "astra.testing.conformance", "--astra-report=r.json", "-k", "c101 or c801 or c803 or c401")
    run = pytest_in(tmp_path, *options, "--astra-venue=BINANCE")
    assert "4 passed" in run.stdout, run.stdout + run.stderr
    (venue,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["venues"].values()
    assert venue["plugin"].startswith("astra-binance ")
    assert [one["number"] for one in venue["checks"]] == [101, 401, 801, 803]


@pytest.mark.parametrize(("flaw", "number"), [("gaps", 804), ("sides", 803)])
def test_a_flawed_feed_fails_on_its_recording(flaw: str, number: int, tmp_path: Path) -> None:
    printed, checks = recorded(tmp_path, flaw)
    assert {found for found, one in checks.items() if one["outcome"] == "failed"} == {number}, printed
    assert "expected" in checks[number]["reason"]


def test_the_kit_is_silent_in_other_peoples_test_runs(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass\n", encoding="utf-8")
    run = pytest_in(tmp_path)
    assert "1 passed" in run.stdout
    assert "conformance" not in run.stdout + run.stderr
    assert "--astra-venue" not in pytest_in(tmp_path, "--help").stdout


def test_named_files_run_beside_the_checks(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(flaw=""), encoding="utf-8")
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass\n", encoding="utf-8")
    options = ("-p", "astra.testing.conformance", "-k", "c801 or mine")
    assert "1 passed" in pytest_in(tmp_path, *options).stdout
    assert "2 passed" in pytest_in(tmp_path, *options, "test_mine.py").stdout


def test_a_venue_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    run = pytest_in(tmp_path, "-p", "astra.testing.conformance", "--astra-venue=BINANSE")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Did you mean 'BINANCE'?" in run.stderr
    run = pytest_in(tmp_path, "-p", "astra.testing.conformance")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--astra-venue" in run.stderr
    assert "pytest_astra_subjects" in run.stderr


def test_one_venue_is_not_checked_twice(tmp_path: Path) -> None:
    run = pytest_in(tmp_path, "-p", "astra.testing.conformance", "--astra-venue=BINANCE", "--astra-venue=binance")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "BINANCE is to be checked twice" in run.stderr
