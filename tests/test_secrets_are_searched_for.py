"""The search for secrets in `conftest.py` finds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LEAK = """
import logging
import pydantic
from astra.errors import AstraError

def test_log():
    key = pydantic.SecretStr("a-secret-of-some-length")
    logging.getLogger("astra.net").debug("sending %s", key.get_secret_value())

def test_error():
    key = pydantic.SecretStr("another-secret-of-some-length")
    AstraError("refused: " + key.get_secret_value())

def test_neither():
    key = pydantic.SecretStr("a-third-secret-of-some-length")
    logging.getLogger("astra.net").debug("sending %s", key)
"""


def test_a_leak_into_log_or_error_fails_the_test_that_leaks(pytester: pytest.Pytester) -> None:
    here = Path(__file__).parent
    pytester.makeconftest((here / "conftest.py").read_text(encoding="utf-8"))
    shutil.copytree(here / "loopback", pytester.path / "loopback", ignore=shutil.ignore_patterns("__pycache__"))
    pytester.makepyfile(LEAK)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*something secret was logged or put into an error*<SECRET>*"])
