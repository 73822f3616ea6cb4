"""Over the whole suite: nothing leaves this machine, and nothing secret reaches a log or an error.

Every value that becomes a `SecretStr` while the tests run is remembered, and so is every API key that the gateway
makes. After each test all that our packages (and the libraries that they use) logged at DEBUG, and the text of every
error of ours that was made, is searched for them.
"""

from __future__ import annotations

import functools
import logging
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Importing hypothesis registers trio's random generator: it asks the garbage collector who holds it, and warns where
# objects are frozen (tests/core/test_transports.py freezes them). Warnings are errors here, so it is imported before
# any test runs, whichever are chosen.
import hypothesis
import pydantic
import pytest

OURS = [
    "astra",
    "astra_binance",
    "astra_cli",
    "astra_coinbase",
    "astra_gateway",
    "astra_htx",
    "astra_journal",
    "astra_kraken",
    "astra_kucoin",
    "astra_okx",
    "astra_rest",
    "astra_risk",
]
# Not httpx: its only client here is the tests' own; ours goes through its transports, which log nothing.
THEIRS = ["httpcore", "picows", "uvicorn", "sqlalchemy"]
LOOPBACK = Path(__file__).with_name("loopback")
SHORTEST = 12
"""Shorter values ("k", "secret") are words that tests use for something else, too."""

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("busy", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("busy")

secrets: set[str] = set()
texts: list[str] = []


class Collector(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        texts.append(self.format(record))


def remembering(init: Callable[..., None], what: Callable[[tuple[Any, ...]], None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **named: Any) -> None:
        what(args)
        init(self, *args, **named)

    return wrapped


def note_secret(args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], str) and len(args[0]) >= SHORTEST:
        # A PEM key is many lines: each of its body is a secret.
        secrets.update(line for line in args[0].splitlines() if len(line) >= SHORTEST and not line.startswith("-----"))


def note_error(args: tuple[Any, ...]) -> None:
    texts.extend(str(argument) for argument in args)


def pytest_configure(config: pytest.Config) -> None:
    from astra.errors import AstraError
    from astra.net.http import AnswerLost
    from astra.net.transports import ConnectError

    # Whoever starts the tests in the background may have them ignore Ctrl-C, which every process that they start would
    # inherit: those that are to end by it would never.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(LOOPBACK) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(LOOPBACK), *filter(None, paths)])
    # A worker that another test process started has it from its own start, as sitecustomize.
    if "sitecustomize" not in sys.modules or Path(sys.modules["sitecustomize"].__file__ or "").parent != LOOPBACK:
        runpy.run_path(str(LOOPBACK / "sitecustomize.py"))
    collector = Collector(logging.DEBUG)
    collector.setFormatter(logging.Formatter("%(name)s %(message)s"))
    for name in OURS + THEIRS:
        logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger(name).addHandler(collector)
    pydantic.SecretStr.__init__ = remembering(pydantic.SecretStr.__init__, note_secret)  # type: ignore[method-assign]
    for kind in (AstraError, AnswerLost, ConnectError):
        kind.__init__ = remembering(kind.__init__, note_error)  # type: ignore[method-assign]


@pytest.hookimpl(optionalhook=True)
def pytest_astra_subjects(config: pytest.Config) -> list[Any]:
    """Of the conformance kit: the recordings of the venues that it checks, where there are any."""
    from astra.directory import canonical_exchange
    from recorded import VENUES, recorded_subjects

    asked = {canonical_exchange(code.upper()) for code in config.option.astra_venue}
    return recorded_subjects(code for code in VENUES if "ALL" in asked or code in asked)


@pytest.fixture(autouse=True)
def nothing_secret_is_told() -> Iterator[None]:
    texts.clear()
    yield
    told = "\n".join(texts)
    found = [secret for secret in secrets if secret in told]
    if found:
        lines = [line for line in told.splitlines() if any(secret in line for secret in found)]
        shown = lines[0]
        for secret in found:
            shown = shown.replace(secret, "<SECRET>")
        pytest.fail(f"something secret was logged or put into an error: {shown[:400]}")
