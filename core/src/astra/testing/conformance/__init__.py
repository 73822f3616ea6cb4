"""The conformance kit: a pytest plugin that checks a venue plugin against numbered rules.

    pytest -p astra.testing.conformance --astra-venue=KRAKEN --astra-report=report.json

checks an installed venue against its sandbox (extra `astra-api[testing]`, and `astra-sandbox`). The plugin is loaded
with `-p` only. A venue that is not installed, or recordings, are handed in from a conftest.py:

    from astra.testing.conformance import Subject

    def pytest_astra_subjects():
        return [Subject.of(PaperVenue, PaperSandbox)]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from astra.errors import PluginError
from astra.testing.conformance.bench import OfflineGuard
from astra.testing.conformance.catalogue import Check, Level, Outcome
from astra.testing.conformance.checks import CHECKS
from astra.testing.conformance.performing import VenueRun
from astra.testing.conformance.reporting import as_builtins, as_json, by_venue, summary, table, verdict_of
from astra.testing.conformance.subjects import (
    RecordedBook,
    RecordedTrade,
    Recording,
    Subject,
    installed_subjects,
    without_sandbox,
)

__all__ = ["CHECKS", "Check", "Level", "Outcome", "RecordedBook", "RecordedTrade", "Recording", "Subject"]

PROPERTY = "astra_conformance"
"""Under this name a report's `user_properties` carry the verdict."""
_STATE = pytest.StashKey["_State"]()


class ConformanceSpecs:
    """The hook that this plugin adds to pytest's."""

    @pytest.hookspec
    def pytest_astra_subjects(self, config: pytest.Config) -> Sequence[Subject] | None:
        """Venues to check, beside those that `--astra-venue` names; or recordings of one that it names: then the
        installed venue is checked against its sandbox, and its feed against the recordings."""


class _State:
    """What the plugin keeps for a pytest run."""

    def __init__(self) -> None:
        self.guard = OfflineGuard()
        sys.addaudithook(self.guard)


class Broken(Exception):
    """A check has failed; the text is all there is to say."""


class VenueNode(pytest.Collector):
    """All checks of one venue. Its sandbox runs from the first check that needs it to the last."""

    def __init__(self, *, subject: Subject, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.subject = subject
        self.venue = VenueRun(subject, self.config.stash[_STATE].guard)

    def collect(self) -> Iterator[pytest.Item]:
        for one in CHECKS:
            yield CheckItem.from_parent(self, name=one.name, check=one)

    def setup(self) -> None:
        """Nothing: the first check that needs the sandbox starts it, and tells when that fails."""

    def teardown(self) -> None:
        self.venue.end()


class CheckItem(pytest.Item):
    """One check at one venue."""

    def __init__(self, *, check: Check, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.check = check

    def runtest(self) -> None:
        assert isinstance(self.parent, VenueNode)
        verdict = self.parent.venue.perform(self.check)
        self.user_properties.append((PROPERTY, as_builtins(verdict)))
        if verdict.outcome is Outcome.FAILED:
            raise Broken(
                f"{verdict.venue} breaks {verdict.number} ({verdict.level}): {verdict.title}\n{verdict.reason}"
            )
        if verdict.outcome is not Outcome.PASSED:
            pytest.skip(f"{verdict.outcome}: {verdict.reason}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Broken):
            return f"{excinfo.value}\nThe rule: {self.check.rule}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return Path(__file__), None, f"{self.check.number} {self.check.title}"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(ConformanceSpecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("astra", "conformance of Astra venue plugins")
    group.addoption(
        "--astra-venue",
        action="append",
        default=[],
        metavar="CODE",
        help="check this installed venue against its sandbox (may be repeated; all: every one that has a sandbox)",
    )
    group.addoption("--astra-report", metavar="PATH", help="write the results as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STATE] = _State()
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []  # the checks alone, unless files are named


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which venues `all` leaves out."""
    if not any(code.casefold() == "all" for code in config.option.astra_venue):
        return None
    left_out = without_sandbox()
    return f"astra: not checked, because they have no sandbox: {', '.join(left_out)}" if left_out else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks: they are in no file of the author's."""
    found: list[pytest.Item] = []
    for subject in _subjects(config):
        node = VenueNode.from_parent(session, name=subject.code, nodeid=f"conformance/{subject.code}", subject=subject)
        checks = list(node.collect())
        session.ihook.pytest_collectreport(report=pytest.CollectReport(node.nodeid, "passed", None, [*checks]))
        found += checks
    items[:] = [*found, *items]


def _subjects(config: pytest.Config) -> Sequence[Subject]:
    try:
        subjects = list(installed_subjects(config.option.astra_venue))
    except PluginError as error:
        raise pytest.UsageError(f"--astra-venue: {error}") from None
    for given in config.hook.pytest_astra_subjects(config=config):
        for subject in given or ():
            named = next((index for index, one in enumerate(subjects) if one.code == subject.code), None)
            if named is not None and subject.sandbox is None and not subjects[named].recordings:
                subjects[named] = subjects[named].with_recordings_of(subject)
            else:
                subjects.append(subject)
    if not subjects:
        raise pytest.UsageError(
            "nothing to check: name an installed venue (--astra-venue=KRAKEN, --astra-venue=all), or return Subjects "
            "from the hook pytest_astra_subjects in a conftest.py"
        )
    codes = [subject.code for subject in subjects]
    for code in codes:
        if codes.count(code) > 1:
            raise pytest.UsageError(
                f"{code} is to be checked twice: --astra-venue and pytest_astra_subjects both say so"
            )
    return subjects


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the tables, write the report."""
    verdicts = [
        verdict_of(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and getattr(report, "when", None) == "call"
    ]
    for code, found in by_venue(verdicts).items():
        terminalreporter.section(f"conformance of {code} ({found[0].plugin})")
        for line in table(found):
            failed = "  FAILED  " in f"{line}  "
            terminalreporter.write_line(line, red=failed)
        terminalreporter.write_line("")
        terminalreporter.write_line(f"{code}: {summary(found)}", bold=True)
    path = config.option.astra_report
    if path:
        written = Path(path)
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(as_json(verdicts, version=version("astra-api")), encoding="utf-8")
        terminalreporter.write_line(f"report: {written}")
