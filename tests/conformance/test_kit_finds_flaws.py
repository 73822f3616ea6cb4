"""The kit on a little venue of its own: all green on the sound one, and exactly the right check red on each flaw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).with_name("tiny")
LIMIT_S = 150


def kit(folder: Path, *options: str, flaw: str = "", plugins: Sequence[str] = ("tiny_subjects",)) -> tuple[str, Any]:
    """Run the kit in a process of its own, as an author would: (what it printed, its report)."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n", encoding="utf-8")
    report = folder / "report.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ASTRA_"))}
    environment |= {"PYTHONPATH": str(TINY), "TINY_FLAW": flaw}
    loaded = [part for plugin in ("astra.testing.conformance", *plugins) for part in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", *loaded, f"--astra-report={report}", *options]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    return run.stdout + run.stderr, json.loads(report.read_text(encoding="utf-8")) if report.exists() else None


def outcomes(report: Any, venue: str = "TINY") -> dict[int, str]:
    return {one["number"]: one["outcome"] for one in report["venues"][venue]["checks"]}


def failed(report: Any) -> set[int]:
    return {number for number, outcome in outcomes(report).items() if outcome == "failed"}


@pytest.mark.slow
def test_a_sound_venue_passes_every_check_with_workers_too(tmp_path: Path) -> None:
    printed, report = kit(tmp_path, "-n", "2")
    assert failed(report) == set(), printed
    assert report["venues"]["TINY"]["passed"]
    assert outcomes(report)[430] == "not offered"
    assert outcomes(report)[801] == "n/a"
    assert "conformance of TINY (tiny_venue.TinyVenue)" in printed
    assert "keeps every MUST that was checked" in printed
    (segments,) = (one["segments"] for one in report["venues"]["TINY"]["checks"] if one["number"] == 401)
    assert {name: one["outcome"] for name, one in segments.items()} == {
        "spot": "passed",
        "perp:linear": "passed",
        "perp:inverse": "passed",
    }


NEIGHBOURS = {
    "makers-side": ("c2 or c302 or c307 or c308 or c309", {307}),
    "trades-in-contracts": ("c2 or c302 or c307 or c308 or c309", {308}),
    "books-in-contracts": ("c2 or c302 or c307 or c308 or c309", {302}),
    "gaps-unnoticed": ("c301 or c302 or c305 or c306 or c320", {306}),
    "unsorted-book": ("c1 or c2 or c301", {201, 202}),
    "doubled-order": ("c4 or c601 or c605", {601}),
    "fills-in-contracts": ("c4 or c501 or c502 or c503", {404}),
    "secret-in-log": ("c611 or c612 or c613 or c7", {701}),
    "signature-in-error": ("c611 or c612 or c613 or c7", {701}),
    "vague-funds": ("c611 or c612 or c613 or c616", {612}),
    "for-ever": ("c4", {408}),
    "calls-home": ("c1 or c2", {102}),
    "leaks-sockets": ("c71", {711}),
    "falsely-unlisted": ("c601 or c603 or c605", {603}),
    "wrong-balances": ("c501 or c502 or c503 or c504", {504}),
}


SLOW = {
    "makers-side",
    "trades-in-contracts",
    "books-in-contracts",
    "gaps-unnoticed",
    "secret-in-log",
    "signature-in-error",
    "leaks-sockets",
    "wrong-balances",
}


@pytest.mark.parametrize(
    "flaw", [pytest.param(flaw, marks=[pytest.mark.slow] if flaw in SLOW else []) for flaw in NEIGHBOURS]
)
def test_a_flaw_fails_the_check_that_is_about_it_and_no_other(flaw: str, tmp_path: Path) -> None:
    chosen, expected = NEIGHBOURS[flaw]
    printed, report = kit(tmp_path, "-k", chosen, flaw=flaw)
    assert report is not None, printed
    assert failed(report) == expected, printed[-6000:]
    assert "passed" in outcomes(report).values()
    for one in report["venues"]["TINY"]["checks"]:
        if one["outcome"] == "failed":
            assert "expected" in one["reason"], one["reason"]
            assert f"breaks {one['number']}" in printed
