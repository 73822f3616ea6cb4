"""What holds for all tests."""

from __future__ import annotations

import gc

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector what importing left behind (other libraries' clients are large).

    Tests that count sockets or references collect hundreds of times. Benchmarks measure with the collector untouched.
    """
    if not any("benchmarks" in item.path.parts for item in session.items):
        gc.collect()
        gc.freeze()
