"""What the run says at its end: a table for each venue, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from astra.testing.conformance.catalogue import Check, Finding, Level, Outcome, Verdict

FORMAT = 1
"""Version of the JSON report."""
_CELLS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.NOT_APPLICABLE: "n/a", Outcome.NOT_OFFERED: "-"}


def as_builtins(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON knows it."""
    built: dict[str, Any] = msgspec.to_builtins(verdict)
    return built


def verdict_of(built: Mapping[str, Any]) -> Verdict:
    return msgspec.convert(built, Verdict)


def by_venue(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: (verdict.venue, verdict.number)):
        found.setdefault(verdict.venue, []).append(verdict)
    return found


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many checks ended in which way."""
    return {outcome.value: sum(verdict.outcome is outcome for verdict in verdicts) for outcome in Outcome}


def summary(verdicts: Sequence[Verdict]) -> str:
    """The counts in words."""
    must = sum(verdict.level is Level.MUST and verdict.outcome is Outcome.FAILED for verdict in verdicts)
    said = ", ".join(f"{count} {outcome}" for outcome, count in counts(verdicts).items() if count)
    return f"{said}; {'keeps every MUST that was checked' if not must else f'breaks {must} MUST'}"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The table of one venue."""
    places: dict[str, None] = {}
    for verdict in verdicts:
        if not verdict.number >= 800:  # recordings have names, not segments
            places.update(dict.fromkeys(verdict.segments))
    columns = list(places)
    widths = [max(len(column), 4) for column in columns]
    title_width = max((len(verdict.title) for verdict in verdicts), default=5)
    head = ["no. ", "level", "title".ljust(title_width), "result".ljust(11)]
    lines = ["  ".join([*head, *(c.ljust(w) for c, w in zip(columns, widths, strict=True))]).rstrip()]
    for verdict in verdicts:
        cells = [str(verdict.number).ljust(4), verdict.level.value.ljust(5), verdict.title.ljust(title_width)]
        cells.append(("FAILED" if verdict.outcome is Outcome.FAILED else verdict.outcome.value).ljust(11))
        for column, width in zip(columns, widths, strict=True):
            finding = verdict.segments.get(column)
            cells.append(("" if finding is None else _CELLS[finding.outcome]).ljust(width))
        lines.append("  ".join(cells).rstrip())
    lines += ["", *remarks(verdicts)]
    return lines


def remarks(verdicts: Sequence[Verdict]) -> list[str]:
    """Why checks failed, do not apply, or what they found."""
    lines = []
    for verdict in verdicts:
        found = {
            f"{verdict.number} {name}": finding
            for name, finding in verdict.segments.items()
            if finding.reason and finding.outcome is not Outcome.PASSED
        }
        if not found and verdict.reason:
            found = {str(verdict.number): Finding(verdict.outcome, verdict.reason)}
        by_reason: dict[tuple[Outcome, str], list[str]] = {}
        for place, finding in found.items():
            first = finding.reason.strip().splitlines()[0]
            by_reason.setdefault((finding.outcome, first), []).append(place.removeprefix(f"{verdict.number}").strip())
        for (outcome, reason), names in by_reason.items():
            where = f" [{', '.join(name for name in names if name)}]" if any(names) else ""
            said = f"{verdict.number}{where} {outcome.value}: {reason}"
            limit = 1000 if outcome is Outcome.FAILED else 220
            lines.append(said if len(said) <= limit else f"{said[: limit - 3]}...")
    return lines


def report(verdicts: Iterable[Verdict], *, version: str) -> dict[str, Any]:
    """The report as JSON: `venues` -> code -> `plugin`, `summary` (outcome -> count), `passed` (no check failed),
    `checks`."""
    venues = {}
    for code, found in by_venue(verdicts).items():
        checks = [as_builtins(verdict) for verdict in found]
        for one in checks:
            del one["venue"], one["plugin"]
        venues[code] = {
            "plugin": found[0].plugin,
            "passed": not any(verdict.outcome is Outcome.FAILED for verdict in found),
            "summary": counts(found),
            "checks": checks,
        }
    return {"format": FORMAT, "astra": version, "venues": venues}


def as_json(verdicts: Iterable[Verdict], *, version: str) -> str:
    return json.dumps(report(verdicts, version=version), indent=2, ensure_ascii=False) + "\n"


GROUPS = {
    1: "The plugin and its markets",
    2: "Order books by request",
    3: "Streams of books and trades",
    4: "Orders",
    5: "Accounts",
    6: "Outcomes and errors",
    7: "Secrets and cancellation",
    8: "Recordings",
}
"""What the hundreds of the numbers stand for."""


def as_markdown(checks: Iterable[Check]) -> str:
    """All checks as the documentation lists them: a table for each group."""
    lines: list[str] = []
    group = 0
    for check in checks:
        if check.number // 100 != group:
            group = check.number // 100
            lines += ["", f"### {group}xx {GROUPS[group]}", ""]
            lines += ["| no. | level | title | what it proves |", "|---|---|---|---|"]
        scope = " Each product and kind of contract." if check.each or check.together else ""
        needs = [f"`{hook}`" for hook in check.hooks if hook != "list_markets"]
        hooks = f" Needs {', '.join(needs)}." if needs else ""
        lines.append(f"| {check.number} | {check.level} | {check.title} | {check.rule}{scope}{hooks} |")
    return "\n".join(lines[1:]) + "\n"
