"""70x: nothing secret is told."""

from __future__ import annotations

import logging
import random
import re
import traceback
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

from astra.errors import AstraError
from astra.models.credentials import Credentials
from astra.sandbox import HttpRequest, HttpResponse, SandboxSession, SandboxVenue
from astra.testing.conformance.bench import Bench, until
from astra.testing.conformance.catalogue import Level, check, expect, fail
from astra.testing.conformance.checks.errors import order_for, private_read

MUST = Level.MUST
SHORTEST = 16
"""Shorter values may stand in texts by chance."""
_NAMED = r"[\w.-]*(?:sign|signature|token|listen_?key|secret|pass_?phrase|jwt)[\w.-]*"
_PAIR = re.compile(rf'"?({_NAMED})"?\s*[=:]\s*"?([\w%+/=.~-]{{{SHORTEST},}})', re.IGNORECASE)
_HEADER = re.compile(rf"{_NAMED}|authorization|cookie|authent", re.IGNORECASE)


class Everything(logging.Handler):
    """All that is logged: messages, their arguments, exceptions with their chains."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("astra_sandbox"):
            return  # the other side
        self.lines.append(f"{self.format(record)} {record.args!r}")


@contextmanager
def logged() -> Iterator[Everything]:
    """DEBUG on every logger that there is."""
    handler, root = Everything(), logging.getLogger()
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [(one, one.level, one.disabled) for one in (root, *loggers)]
    closed = [one for one in loggers if not one.propagate]
    for one in loggers:
        one.setLevel(logging.NOTSET)
        one.disabled = False
    root.setLevel(logging.DEBUG)
    for one in (root, *closed):
        one.addHandler(handler)
    try:
        yield handler
    finally:
        for one in (root, *closed):
            one.removeHandler(handler)
        for one, level, disabled in before:
            one.setLevel(level)
            one.disabled = disabled


class Wiretap:
    """What was confided to the venue: signatures, tokens and listen keys, as they went over the wire."""

    def __init__(self, venue: SandboxVenue) -> None:
        self._venue = venue
        self.heard: dict[str, str] = {}
        """Secret value -> what it was called on the wire."""

    def note(self, text: str) -> None:
        for name, value in _PAIR.findall(text):
            self.heard.setdefault(value, name)

    def note_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            if _HEADER.search(name) and "websocket" not in name:
                for part in value.split():
                    if len(part) >= SHORTEST:
                        self.heard.setdefault(part, name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what is said to and by the venue while the block runs."""
        venue, http, connect = self._venue, self._venue.http, self._venue.connect

        def noting_http(request: HttpRequest) -> HttpResponse:
            answer = http(request)
            self.note_headers(request.headers)
            self.note(f"{request.query} {request.body.decode('utf-8', 'replace')}")
            self.note(answer.body.decode("utf-8", "replace"))
            return answer

        def noting_connect(host: str, target: str, headers: Mapping[str, str], link: Any) -> Any:
            self.note_headers(headers)
            self.note(target)
            session = connect(host, target, headers, link)
            if isinstance(session, SandboxSession):
                received = session.received

                def noting_received(payload: str | bytes) -> None:
                    self.note(payload if isinstance(payload, str) else payload.decode("utf-8", "replace"))
                    received(payload)

                session.received = noting_received  # type: ignore[method-assign]
            return session

        venue.http = noting_http  # type: ignore[method-assign]
        venue.connect = noting_connect  # type: ignore[method-assign]
        try:
            yield
        finally:
            venue.http = http  # type: ignore[method-assign]
            venue.connect = connect  # type: ignore[method-assign]


class Errors:
    """The texts of all errors that a user sees."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def of(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except AstraError as error:
            self.texts += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]


def spelled(secret: str) -> set[str]:
    """A secret and the lines of its body, as texts that must not appear."""
    lines = {line for line in secret.splitlines() if len(line) >= SHORTEST and not line.startswith("-----")}
    return lines or ({secret} if len(secret) >= SHORTEST else set())


def secrets_of(credentials: Credentials) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in credentials.keys.values():
        for name in ("key", "secret", "passphrase"):
            value = getattr(key, name)
            if value is not None:
                found |= dict.fromkeys(spelled(value.get_secret_value()), f"the API {name}")
    return found


@check(
    701,
    MUST,
    "Nothing secret is in logs, errors or reprs",
    """Trading, refusals, wrong keys, lost answers, an account stream and a killed server, with DEBUG on every
    logger: no key, secret, passphrase, signature, token or listen key (as the sandbox heard them on the wire) is in
    a log record, in an error with its traceback, or in the repr of what users hold.""",
    hooks=["list_markets"],
    timeout_s=60,
)
async def secrets(bench: Bench) -> str:
    trader, errors = bench.trader(), Errors()
    wrong = Credentials.of(
        bench.code, *bench.server.venue(bench.code).make_key(random.Random("a stranger's")), account="wrong"
    )
    tap = Wiretap(bench.server.venue(bench.code))
    shown: list[str] = []
    with logged() as log, tap.listening():
        async with bench.application(resolve_s=1.0) as astra:
            await astra.list_markets(bench.code)
            if bench.has("stream_account"):
                await stream_and_trade(bench, astra, trader, wrong, errors, shown)
            else:
                await trade(bench, astra, trader, wrong, errors)
            shown += [repr(astra.settings), repr(trader.credentials), repr(await astra.venue(bench.code))]
    known = secrets_of(trader.credentials) | secrets_of(wrong) | tap.heard
    places = {"logs": "\n".join(log.lines), "errors": "\n".join(errors.texts), "reprs": "\n".join(shown)}
    for place, text in places.items():
        for secret, name in known.items():
            at = text.find(secret)
            if at >= 0:
                around = text[max(0, at - 60) : at] + "<SECRET>" + text[at + len(secret) : at + len(secret) + 40]
                for other in known:
                    around = around.replace(other, "<SECRET>")
                fail(f"{name} is in the {place}: expected stars, seen ...{around!r}...")
    expect(log.lines, "expected something to be logged at DEBUG, seen nothing")
    return f"{len(known)} secrets looked for in {len(log.lines)} log records and {len(errors.texts) // 4} errors"


async def stream_and_trade(
    bench: Bench, astra: Any, trader: Any, wrong: Credentials, errors: Errors, shown: list[str]
) -> None:
    """Everything that an account does, with its stream running, which loses its connection as well."""

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async def refused(stream: Any) -> None:
        with anyio.move_on_after(1.0):
            async with stream:
                async for _ in stream:
                    pass

    await errors.of(refused(astra.stream_account(bench.code, wrong)))
    async with astra.stream_account(bench.code, trader.credentials) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)

        def live() -> bool:
            status = stream.account_status
            return not status or all(one.live for one in status)

        await until("the account's stream live", live, 20)
        await trade(bench, astra, trader, wrong, errors)
        await bench.stop()
        await errors.of(private_read(bench, astra, bench.segments[0].market, trader.credentials))
        await bench.start()
        await until("the account's stream live again", live, 25)
        shown.append(repr((stream, stream.account_status, stream.stats)))
        tasks.cancel_scope.cancel()


async def trade(bench: Bench, astra: Any, trader: Any, wrong: Credentials, errors: Errors) -> None:
    """Orders, well and badly, in every segment."""
    for segment in bench.segments:
        market = segment.market
        for credentials in (trader.credentials, wrong):
            await errors.of(private_read(bench, astra, market, credentials))
            if bench.has("place_order"):
                await errors.of(astra.place_order(market.symbol, order_for(bench, market), credentials))
        if bench.has("cancel_order"):
            await errors.of(astra.cancel_order(market.symbol, id="1", credentials=trader.credentials))
        if bench.has("place_order"):
            await errors.of(place_poor(bench, astra, market))
            for fault in ("lost_answer", "reset_request", "server_error") if segment is bench.segments[0] else ():
                with bench.faults(**{fault: 1.0}), anyio.move_on_after(2):
                    await errors.of(astra.place_order(market.symbol, order_for(bench, market), trader.credentials))


def place_poor(bench: Bench, astra: Any, market: Any) -> Awaitable[Any]:
    poor = bench.trader({})
    answer: Awaitable[Any] = astra.place_order(market.symbol, order_for(bench, market), poor.credentials)
    return answer
