"""The documentation lists the checks that there are, and every venue of the repository can be checked."""

from __future__ import annotations

import tomllib
from pathlib import Path

from astra.testing.conformance import CHECKS, Level
from astra.testing.conformance.reporting import GROUPS, as_markdown

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- checks: python -m astra.testing.conformance -->\n"


def test_the_list_of_checks_is_up_to_date() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    listed = page.partition(MARK)[2].lstrip("\n")
    assert listed == as_markdown(CHECKS), "put the output of `python -m astra.testing.conformance` below the mark"


def test_every_check_has_a_number_of_its_own_and_says_what_it_proves() -> None:
    numbers = [one.number for one in CHECKS]
    assert len(set(numbers)) == len(numbers)
    assert {number // 100 for number in numbers} == set(GROUPS)
    assert len({one.title for one in CHECKS}) == len(CHECKS)
    assert all(len(one.rule) > 40 and one.rule.endswith(".") for one in CHECKS)
    assert {one.level for one in CHECKS} == set(Level)


def test_every_venue_of_the_repository_has_a_sandbox_to_be_checked_against() -> None:
    for project in sorted(ROOT.glob("*/pyproject.toml")):
        points = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("entry-points", {})
        venues, sandboxes = points.get("astra.venues", {}), points.get("astra.sandboxes", {})
        assert set(venues) <= set(sandboxes), f"{project.parent.name}: a venue without a sandbox"
    assert "--astra-venue=all" in (ROOT / "tox.ini").read_text(encoding="utf-8")
