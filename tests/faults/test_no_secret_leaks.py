"""Trading, refusals, lost answers and lost connections, with everything logged: nowhere does a secret appear.

What counts as one: key, secret and passphrase; everything that the sandbox received or issued under the name of a
signature, token, JWT, listen key, challenge or nonce, in requests, answers and frames. Venues are found by their entry
points.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import traceback
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest
from pydantic import SecretStr

from astra import Astra, OrderRequest
from astra.errors import AstraError
from astra.models.credentials import Credentials
from astra.models.markets import Market, MarketStatus
from astra.models.orders import OrderChange
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.sandbox import HttpRequest, HttpResponse, Link, SandboxVenue
from astra_gateway.plugin import running_gateway
from astra_gateway.settings import GatewaySettings
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio

PLUGINS = Plugins()
EXCHANGES = [name for name in PLUGINS.names(VENUES) if name in set(PLUGINS.names(SANDBOXES))]
CONFIDED: Mapping[str, Collection[str]] = {
    "BINANCE": ("signature", "listenkey"),
    "OKX": ("ok-access-sign", "ok-access-passphrase", "sign"),
    "KRAKEN": ("api-sign", "authent", "nonce", "token", "signed_challenge"),
    "COINBASE": ("authorization", "jwt", "access_token"),
    "HUOBI": ("signature",),
    "KUCOIN": ("kc-api-sign", "kc-api-passphrase", "token"),
}
"""What a venue is certainly told or tells in confidence, so that the search is not for nothing."""
CONFIDENTIAL = re.compile(r"sign|passphrase|token|jwt|listen_?key|authent|authorization|nonce|challenge", re.IGNORECASE)
"""Names of headers, parameters and fields whose values are secrets."""
NAMED = re.compile(r'"?([\w-]+)"?\s*[=:]\s*"?([^"&\s,{}\[\]]+)')
LEAST = 12
"""Shorter values ("HmacSHA256", "ES256") are no secrets."""
WRONG = "Wrong" * 4
"""Begins the key and the secret that no venue knows."""
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


class Confided:
    """What a sandbox was told and has told in confidence, by name (in small letters)."""

    def __init__(self, venue: SandboxVenue) -> None:
        self.found: defaultdict[str, set[str]] = defaultdict(set)
        http, connect = venue.http, venue.connect

        def noting_http(request: HttpRequest) -> HttpResponse:
            answer = http(request)
            self._headers(request.headers)
            for text in (request.query, request.body.decode(), answer.body.decode("utf-8", "replace")):
                self._note(text)
            return answer

        def noting_connect(host: str, target: str, headers: Mapping[str, str], link: Link) -> Any:
            self._headers(headers)
            self._note(target.partition("?")[2])
            session = connect(host, target, headers, NotingLink(link, self._note))
            if isinstance(session, HttpResponse):
                return session
            received = session.received

            def noting_frame(payload: str | bytes) -> None:
                self._note(payload if isinstance(payload, str) else payload.decode("utf-8", "replace"))
                received(payload)

            session.received = noting_frame  # type: ignore[method-assign]
            return session

        venue.http = noting_http  # type: ignore[method-assign]
        venue.connect = noting_connect  # type: ignore[method-assign]

    def _headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            if not name.startswith("sec-"):
                self._keep(name, value.removeprefix("Bearer "))

    def _note(self, text: str) -> None:
        for name, value in NAMED.findall(text):
            self._keep(name, value)

    def _keep(self, name: str, value: str) -> None:
        if CONFIDENTIAL.search(name) and len(value) >= LEAST:
            self.found[name.lower()] |= {value, unquote(value)}


class NotingLink:
    """The server's side of a connection, of which all that is sent is noted."""

    def __init__(self, link: Link, note: Callable[[str], None]) -> None:
        self._link = link
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def send(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            self._note(payload)
        elif payload[:1] in b"{[":
            self._note(payload.decode("utf-8", "replace"))
        self._link.send(payload)


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


class Trader:
    """Does everything that an account does, well and badly."""

    def __init__(self, exchange: str, astra: Astra, sandbox: Sandbox, failures: Failures) -> None:
        self.exchange = exchange
        self.astra = astra
        self.sandbox = sandbox
        self.failures = failures
        self.markets: list[Market] = []
        right = sandbox.credentials(exchange).keys["default"]
        phrase = None if right.passphrase is None else right.passphrase.get_secret_value()
        self.wrong_key = scrambled(right.key.get_secret_value())
        self.wrong_secret = scrambled(right.secret.get_secret_value())
        self.strangers = [
            Credentials.of(exchange, self.wrong_key, self.wrong_secret, phrase, account="wrong"),
            Credentials.of(exchange, right.key.get_secret_value(), self.wrong_secret, phrase, account="badly-signed"),
            Credentials.of(exchange, self.wrong_key, f"{WRONG} no secret at all", phrase, account="malformed"),
        ]

    async def choose(self) -> None:
        """A market of every product."""
        found: dict[str, Market] = {}
        for market in await self.astra.list_markets(self.exchange):
            if market.status is MarketStatus.ACTIVE:
                found.setdefault(market.product, market)
        self.markets = list(found.values())

    def order(self, market: Market, client_order_id: str | None = None, *, times: int = 2) -> OrderRequest:
        """A valid order that rests."""
        mark = self.sandbox.engine(self.exchange).mark_price(market.symbol)
        price = market.floor_price(mark * Decimal("0.97"))
        step = market.lot_size or Decimal(1)
        least = max(market.min_quantity or step, step)
        if market.min_notional and not market.is_inverse:
            least = max(least, market.min_notional / price / (market.contract_size or 1))
        size = (least / step).to_integral_value(ROUND_CEILING) * step * times
        field = "quantity" if market.contract_size is None else "contracts"
        wanted = {"side": "BUY", "type": "LIMIT", "price": price, field: size, "client_order_id": client_order_id}
        return OrderRequest.model_validate(wanted)

    async def trade(self) -> None:
        for market in self.markets:
            await self._well(market)
            await self._badly(market)
            await self._under_faults(market)
        await self.failures.of(self.astra.get_balances(self.exchange))
        await self.failures.of(self.astra.get_positions(self.exchange))
        await self.failures.of(self.astra.list_orders(self.exchange, "an-account-that-is-not-configured"))
        for stranger in self.strangers:
            await self._listen(stranger)

    async def _listen(self, stranger: Credentials) -> None:
        """The venue refuses the log-in (or the library does)."""
        async with self.astra.stream_account(self.exchange, stranger) as stream:
            with anyio.move_on_after(3):
                await self.failures.of(drain(stream))

    async def _well(self, market: Market) -> None:
        placed = await self.astra.place_order(market.symbol, self.order(market))
        await self.astra.get_order(market.symbol, id=placed.id)
        field = "quantity" if market.contract_size is None else "contracts"
        half = getattr(self.order(market, times=1), field)
        change = OrderChange.model_validate({field: half})
        await self.failures.of(self.astra.amend_order(market.symbol, change, id=placed.id))
        await self.failures.of(self.astra.place_order(market.symbol, self.order(market, placed.client_order_id)))
        await self.failures.of(self.astra.cancel_all_orders(market.symbol))
        await self.failures.of(self.astra.list_fills(market.symbol))

    async def _badly(self, market: Market) -> None:
        symbol, good = market.symbol, self.order(market)
        assert good.price is not None
        tick = market.tick_size or Decimal(1)
        await self.failures.of(self.astra.place_order(symbol, self.order(market, times=10**9)))
        await self.failures.of(self.astra.place_order(symbol, good.model_copy(update={"price": good.price + tick / 7})))
        await self.failures.of(self.astra.cancel_order(symbol, id="987654321"))
        await self.failures.of(self.astra.get_order(symbol, id=good.client_order_id or "987654321"))
        for stranger in self.strangers:
            await self.failures.of(self.astra.place_order(symbol, good, stranger))
            await self.failures.of(self.astra.list_orders(symbol, stranger))

    async def _under_faults(self, market: Market) -> None:
        faults = self.sandbox.faults(self.exchange)
        for fault in ("lost_answer", "reset_request", "server_error", "server_error_after"):
            setattr(faults, fault, 1.0)
            await self.failures.of(self.astra.place_order(market.symbol, self.order(market)))
            await self.failures.of(self.astra.cancel_all_orders(market.symbol))
            setattr(faults, fault, 0.0)


def scrambled(text: str) -> str:
    """Another text of the same form: letters of one case changed, the lines around a PEM's body left alone."""
    if text.startswith("-----"):
        head, *body, last = text.strip().splitlines()
        return "\n".join([head, *[line[-1:] + line[:-1] for line in body], last, ""])
    return text[1:] + text[:1]


def settings_of(exchange: str, sandbox: Sandbox, journal: Path) -> dict[str, Any]:
    settings: dict[str, Any] = dict(sandbox.settings)
    settings["venues"][exchange] |= {"request_timeout_s": 2.0, "streams": {"backoff_cap_s": 0.5}}
    settings["trading"] = {"resolve_s": 0.5}
    if importlib.util.find_spec("astra_journal") is not None:
        settings["middleware"] = {"order": ["journal"], "journal": {"path": str(journal)}}
    return settings


def lines_of(secret: str) -> set[str]:
    """A PEM key is many lines: each of its body is a secret."""
    return {line for line in secret.splitlines() if not line.startswith("-----") and len(line) >= LEAST}


@pytest.mark.slow
@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_no_secret_appears_in_logs_errors_journal_or_metrics(
    exchange: str, logged: Everything, tmp_path: Path, capfd: pytest.CaptureFixture[str], no_limits: Any
) -> None:
    failures = Failures()
    gateway_settings = GatewaySettings(
        port=0, metrics_port=0, database="sqlite://", api_key=SecretStr(GATEWAY_KEY), shutdown_grace_s=1
    )
    shown: list[str] = []
    async with Sandbox([exchange], pace=0.0) as sandbox:
        credentials = sandbox.credentials(exchange)
        confided = Confided(sandbox.venue(exchange))
        key = credentials.keys["default"]
        async with (
            Astra(settings=settings_of(exchange, sandbox, tmp_path / "journal.db"), credentials=[credentials]) as astra,
            running_gateway(astra, gateway_settings) as gateway,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            await no_limits(exchange, sandbox, astra)
            trader = Trader(exchange, astra, sandbox, failures)
            await trader.choose()
            async with astra.stream_account(exchange) as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(drain, stream)
                await live(stream)
                await trader.trade()
                await sandbox.stop(exchange)
                market = trader.markets[0]
                await failures.of(astra.place_order(market.symbol, trader.order(market)))
                await failures.of(astra.get_balances(exchange))
                await sandbox.start(exchange)
                await live(stream)
                shown.append(repr((stream.account_status, stream.stats, astra.settings, credentials)))
                # Last, because it makes the limiter wait.
                sandbox.faults(exchange).rate_limited = 1.0
                await failures.of(astra.place_order(market.symbol, trader.order(market)))
                tasks.cancel_scope.cancel()
            shown.append((await http.get(str(gateway.metrics_url))).text)
            venue = await astra.venue(exchange)
            shown += [repr(limiter.report()) for limiter in venue.rate_limiters.values()]
        assert not sandbox.failures(exchange)
    written = bytes_of(tmp_path)
    streams = capfd.readouterr()
    assert len(failures.errors) > 12 * len(trader.markets)
    assert {name: len(confided.found[name]) for name in CONFIDED[exchange] if not confided.found[name]} == {}
    assert any(line.startswith("httpcore") for line in logged.lines)
    assert importlib.util.find_spec("astra_journal") is None or market.symbol.encode() in written
    places = {
        "logs": "\n".join(logged.lines),
        "errors": "\n".join(failures.texts),
        "reprs and metrics": "\n".join(shown),
        "the journal": written.decode("latin-1"),
        "the terminal": streams.out + streams.err,
    }
    secrets = {
        "the key": {key.key.get_secret_value(), trader.wrong_key},
        "the secret": lines_of(key.secret.get_secret_value()) | lines_of(trader.wrong_secret) | {WRONG},
        "the passphrase": set() if key.passphrase is None else {key.passphrase.get_secret_value()},
        **{name: values for name, values in confided.found.items() if values},
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
