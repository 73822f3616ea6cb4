"""No venue is without a test of its limits."""

from __future__ import annotations

import re
from pathlib import Path

from astra.plugins import SANDBOXES, VENUES, Plugins


def test_the_limits_of_every_venue_that_has_a_sandbox_are_tested_under_demand() -> None:
    plugins = Plugins()
    modules = Path(__file__).parent.glob("test_limits_of_*.py")
    shown = {name for path in modules for name in re.findall(r'stage\("([A-Z]+)", watch', path.read_text("utf-8"))}
    assert set(plugins.names(VENUES)) & set(plugins.names(SANDBOXES)) - shown == set()
