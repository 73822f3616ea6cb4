"""Trading, refusals, lost answers and lost connections, with everything logged: nowhere does a secret appear.

What counts as one: the API key, its secret, every signature that the sandbox received, every listen key that it issued.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import traceback
from collections.abc import Awaitable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import SecretStr

from astra import Astra, OrderRequest
from astra.errors import AstraError
from astra.models.credentials import Credentials
from astra.models.orders import OrderChange
from astra.sandbox import HttpRequest, HttpResponse
from astra_binance.sandbox import BinanceSandbox
from astra_binance.sandbox.ws_api import WebSocketApiSession
from astra_gateway.plugin import running_gateway
from astra_gateway.settings import GatewaySettings
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio

SPOT, PERP = "BINANCE-SPOT-BTC-USDT", "BINANCE-PERP-BTC-USDT"
WRONG_KEY, WRONG_SECRET = "K" * 20 + "wrongwrong" * 4 + "k" * 4, "S" * 20 + "hushhushhu" * 4 + "s" * 4
GATEWAY_KEY = "static.a-static-key-of-the-tests"


@pytest.fixture
def anyio_backend() -> str:
    """The gateway's."""
    return "asyncio"


class Everything(logging.Handler):
    """All that is logged: messages, their arguments, exceptions with their chains."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def logged() -> Iterator[Everything]:
    """DEBUG on every logger there is, also on those that libraries had set to something else."""
    handler, root = Everything(), logging.getLogger()
    names = [name for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)]
    before = {name: logging.getLogger(name).level for name in names}
    level = root.level
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
    for name, old in before.items():
        logging.getLogger(name).setLevel(old)


@pytest.fixture
def confided(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The signatures and listen keys that the sandbox has seen."""
    seen: dict[str, set[str]] = {"signature": set(), "listenKey": set()}
    http, received = BinanceSandbox.http, WebSocketApiSession.received

    def note(text: str) -> None:
        for name in seen:
            seen[name].update(re.findall(rf'{name}"?[=:]\s*"?([0-9A-Za-z%+/]{{40,}})', text))

    def noting_http(self: BinanceSandbox, request: HttpRequest) -> HttpResponse:
        answer = http(self, request)
        note(f"{request.query} {request.body.decode()} {answer.body.decode()}")
        return answer

    def noting_frame(self: WebSocketApiSession, payload: str | bytes) -> None:
        note(payload if isinstance(payload, str) else payload.decode())
        received(self, payload)

    monkeypatch.setattr(BinanceSandbox, "http", noting_http)
    monkeypatch.setattr(WebSocketApiSession, "received", noting_frame)
    return seen


def order(number: int, **more: Any) -> OrderRequest:
    fields = {
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "0.01",
        "price": "20000",
        "client_order_id": f"quiet-{number}",
    }
    return OrderRequest.model_validate(fields | more)


class Failures:
    """The texts of all errors that a user sees."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.errors: list[AstraError] = []

    async def of(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except AstraError as error:
            self.errors.append(error)
            self.texts += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]


async def live(stream: Any) -> None:
    with anyio.fail_after(30):
        while not (stream.account_status and all(status.live for status in stream.account_status)):
            await anyio.sleep(0.02)


async def trade(astra: Astra, sandbox: Sandbox, failures: Failures) -> None:
    """Everything that an account does, well and badly."""
    faults = sandbox.faults("BINANCE")
    wrong = Credentials.of("BINANCE", WRONG_KEY, WRONG_SECRET, account="wrong")
    right = sandbox.credentials("BINANCE").keys["default"]
    badly_signed = Credentials.of("BINANCE", right.key.get_secret_value(), WRONG_SECRET, account="badly-signed")
    for number, symbol in enumerate((SPOT, PERP)):
        await astra.place_order(symbol, order(number))
        await astra.get_order(symbol, client_order_id=f"quiet-{number}")
        change = OrderChange(price=Decimal(19000)) if symbol == PERP else OrderChange(quantity=Decimal("0.005"))
        await astra.amend_order(symbol, change, client_order_id=f"quiet-{number}")
        await failures.of(astra.place_order(symbol, order(number)))  # at the venue already
        await failures.of(astra.place_order(symbol, order(10, quantity="900", price="90000")))  # unaffordable
        await failures.of(astra.place_order(symbol, order(11, price="20000.00001")))
        await failures.of(astra.cancel_order(symbol, client_order_id="never-placed"))
        for credentials in (wrong, badly_signed):
            await failures.of(astra.place_order(symbol, order(12), credentials))
            await failures.of(astra.list_orders(symbol, credentials))
        await astra.cancel_order(symbol, client_order_id=f"quiet-{number}")
        for fault in ("lost_answer", "reset_request", "server_error", "server_error_after"):
            setattr(faults, fault, 1.0)
            await failures.of(astra.place_order(symbol, order(20 + number, client_order_id=f"{fault}-{number}")))
            await failures.of(astra.cancel_all_orders(symbol))
            setattr(faults, fault, 0.0)
    await failures.of(astra.get_balances("BINANCE"))
    await failures.of(astra.list_orders("BINANCE", "an-account-that-is-not-configured"))


def settings_of(sandbox: Sandbox, journal: Path) -> dict[str, Any]:
    settings: dict[str, Any] = dict(sandbox.settings)
    settings["venues"]["BINANCE"] |= {"request_timeout_s": 2.0, "streams": {"backoff_cap_s": 0.5}}
    settings["trading"] = {"resolve_s": 1.0}
    if importlib.util.find_spec("astra_journal") is not None:
        settings["middleware"] = {"order": ["journal"], "journal": {"path": str(journal)}}
    return settings


async def test_no_secret_appears_in_logs_errors_journal_or_metrics(
    logged: Everything, confided: dict[str, set[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failures = Failures()
    gateway_settings = GatewaySettings(
        port=0, metrics_port=0, database="sqlite://", api_key=SecretStr(GATEWAY_KEY), shutdown_grace_s=1
    )
    shown: list[str] = []
    async with Sandbox(["BINANCE"], pace=0.0) as sandbox:
        credentials = sandbox.credentials("BINANCE")
        key = credentials.keys["default"]
        async with (
            Astra(settings=settings_of(sandbox, tmp_path / "journal.db"), credentials=[credentials]) as astra,
            running_gateway(astra, gateway_settings) as gateway,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            async with astra.stream_account("BINANCE") as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(drain, stream)
                await live(stream)
                await trade(astra, sandbox, failures)
                await sandbox.stop("BINANCE")
                await failures.of(astra.place_order(SPOT, order(90)))
                await failures.of(astra.get_balances("BINANCE"))
                await sandbox.start("BINANCE")
                await live(stream)
                shown.append(repr((stream.account_status, stream.stats, astra.settings, credentials)))
                # Last, because it makes the limiter wait for the next minute.
                sandbox.faults("BINANCE").rate_limited = 1.0
                await failures.of(astra.place_order(SPOT, order(91)))
                tasks.cancel_scope.cancel()
            shown.append((await http.get(str(gateway.metrics_url))).text)
            venue = await astra.venue("BINANCE")
            shown += [repr(limiter.report()) for limiter in venue.rate_limiters.values()]
    written = bytes_of(tmp_path)
    streams = capfd.readouterr()
    assert len(failures.errors) > 20
    assert len(confided["signature"]) > 50
    assert confided["listenKey"]
    assert any(line.startswith("httpcore") for line in logged.lines)
    assert importlib.util.find_spec("astra_journal") is None or b"quiet-0" in written
    places = {
        "logs": "\n".join(logged.lines),
        "errors": "\n".join(failures.texts),
        "reprs and metrics": "\n".join(shown),
        "the journal": written.decode("latin-1"),
        "the terminal": streams.out + streams.err,
    }
    secrets = {
        "the key": {key.key.get_secret_value(), WRONG_KEY},
        "the secret": {key.secret.get_secret_value(), WRONG_SECRET},
        "a signature": confided["signature"],
        "a listen key": confided["listenKey"],
    }
    found = {
        (place, what): [text[max(0, text.find(one) - 80) : text.find(one)] for one in values if one in text][:3]
        for place, text in places.items()
        for what, values in secrets.items()
    }
    assert {where: contexts for where, contexts in found.items() if contexts} == {}


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass
