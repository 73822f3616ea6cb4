"""Hands the tiny venue, or what is left of it with the flaw that TINY_FLAW names, to the kit."""

from __future__ import annotations

import os

from tiny_flaws import FLAWS
from tiny_sandbox import TinySandbox
from tiny_venue import TinyVenue

from astra.testing.conformance import Subject


def pytest_astra_subjects() -> list[Subject]:
    flaw = os.environ.get("TINY_FLAW")
    venue, sandbox = FLAWS[flaw] if flaw else (TinyVenue, TinySandbox)
    return [Subject.of(venue, sandbox)]
