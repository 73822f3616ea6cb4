"""A journal's file, the venue of `noted_exchange`, and programs that are killed while they wait for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("noted_exchange.py")


@pytest.fixture
def noted() -> Iterator[Any]:
    """The module `noted_exchange`, fresh for each test, where entry points find it."""
    spec = importlib.util.spec_from_file_location("noted_exchange", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["noted_exchange"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["noted_exchange"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


class Orphans:
    """Programs that send a command and are killed before its answer."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def start(self, file: Path, operation: str = "place_order") -> subprocess.Popen[str]:
        """Start one; gives it when its command has reached the venue."""
        process = subprocess.Popen(
            [sys.executable, str(SOURCE), str(file), operation],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "sent\n":
            pytest.fail(f"the program said {line!r}: {process.communicate(timeout=10)[1]}")
        return process

    def kill(self, process: subprocess.Popen[str]) -> int:
        """Kill -9; gives the process's id."""
        process.kill()
        process.communicate(timeout=10)
        self._running.remove(process)
        return process.pid

    def make(self, file: Path, operation: str = "place_order") -> int:
        """A command in the journal whose process is dead."""
        return self.kill(self.start(file, operation))

    def end(self) -> None:
        for process in list(self._running):
            self.kill(process)


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    found = Orphans()
    yield found
    found.end()
