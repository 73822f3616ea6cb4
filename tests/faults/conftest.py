"""Tables that tests make are printed at the end, whether or not workers ran the tests."""

from __future__ import annotations

from typing import Any

TABLE = "table"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, text in report.user_properties:
                if name == TABLE:
                    terminalreporter.write_line("")
                    terminalreporter.write_line(text)
