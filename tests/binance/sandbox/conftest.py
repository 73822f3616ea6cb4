"""The venue's side of Binance without sockets: a clock that stands still, the engine, and a client that signs."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from astra.models.orders import OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, HttpRequest, HttpResponse, NewOrder, SandboxSession
from astra_binance.sandbox import BinanceSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Client, Line, StillClock, captures_of

PREFIX = {"spot_rest": "/api/v3", "usdm_rest": "/fapi/v1", "coinm_rest": "/dapi/v1", "options_rest": "/eapi/v1"}


class Venue:
    """A sandbox of Binance with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = None, count: int | None = None) -> None:
        self.clock = StillClock()
        self.engine = MatchingEngine(BinanceSandbox.default_markets(count), self.clock)
        self.sandbox = BinanceSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default")

    def open_account(self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        return self.engine.open_account(name, f"{name}Key", f"{name}-secret", balances=balances)

    # --- REST ---

    def ask(
        self, host: str, method: str, path: str, query: str = "", body: str = "", key: str | None = None
    ) -> HttpResponse:
        """A request as written."""
        headers = {} if key is None else {"x-mbx-apikey": key}
        target = (path if path.startswith("/") else f"{PREFIX[host]}/{path.strip('/')}") + (
            f"?{query}" if query else ""
        )
        return self.sandbox.http(HttpRequest(host, method, target, headers, body.encode()))

    def get(self, host: str, path: str, **params: Any) -> Any:
        """The body of a public call that succeeds."""
        answer = self.ask(host, "GET", path, urlencode(params))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def signed(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> HttpResponse:
        """A signed call: in the query string, or in the body of POST and PUT."""
        owner = account or self.account
        sent = urlencode({"timestamp": self.clock.ms, **params}, quote_via=quote)
        signature = hmac.new(owner.secret.encode(), sent.encode(), hashlib.sha256).hexdigest()
        sent = f"{sent}&signature={signature}"
        if method in ("POST", "PUT"):
            return self.ask(host, method, path, body=sent, key=owner.key)
        return self.ask(host, method, path, sent, key=owner.key)

    def call(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> Any:
        """The body of a signed call that succeeds."""
        answer = self.signed(host, method, path, account, **params)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def refused(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> int:
        """The code of a signed call that fails."""
        answer = self.signed(host, method, path, account, **params)
        assert answer.status >= 400, answer.body
        code = json.loads(answer.body)["code"]
        assert isinstance(code, int)
        return code

    # --- WebSocket ---

    def connect(self, host: str, target: str) -> Client:
        line = Line(sends_pings=True)
        session = self.sandbox.connect(host, target, {}, line)
        assert isinstance(session, SandboxSession), session
        return Client(session, line, self.clock)

    # --- the engine ---

    def native(self, symbol: str) -> str:
        return self.engine.markets[symbol].native_symbol

    def crowd(self, symbol: str, side: str, quantity: str, price: str | None = None) -> None:
        """An order of the crowd."""
        self.engine.house_place(symbol, Side(side), Decimal(quantity), None if price is None else Decimal(price))

    def own(self, symbol: str, side: str, quantity: str, price: str, account: Account | None = None) -> EngineOrder:
        """An order of an account, placed without the protocol."""
        order = NewOrder(
            market=symbol,
            side=Side(side),
            type=OrderType.LIMIT,
            quantity=Decimal(quantity),
            price=Decimal(price),
            time_in_force=TimeInForce.GTC,
        )
        return self.engine.place(account or self.account, order)


@pytest.fixture
def venue() -> Venue:
    """A fresh sandbox with empty books."""
    return Venue()


@pytest.fixture
def make_venue() -> Callable[..., Venue]:
    return Venue


@pytest.fixture
def capture() -> Callable[[str], Any]:
    """`capture("spot-account")`: the body of a recorded or documented REST answer."""
    recorded = captures_of("binance")

    def read(name: str) -> Any:
        return json.loads((recorded / "rest" / f"{name}.json").read_text())["body"]

    return read


@pytest.fixture
def captured_frames() -> Callable[[str], Sequence[Any]]:
    """`captured_frames("usdm-user-data")`: the frames of a recorded stream."""
    recorded = captures_of("binance")

    def read(name: str) -> Sequence[Any]:
        lines = (recorded / f"{name}.jsonl").read_text().splitlines()[1:]
        return [json.loads(json.loads(line)["text"]) for line in lines]

    return read


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where an answer of the sandbox is not of the recorded shape: keys that the venue does not send, other types.

    Documented examples print every optional key at once, so keys may be missing.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}.{key}: not a key of the venue" for key in ours if key not in theirs]
        return found + [
            text for key in ours if key in theirs for text in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        return [text for row in ours if theirs for text in differences(row, theirs[0], f"{where}[]")]
    if type(ours) is not type(theirs) and ours is not None:
        return [f"{where}: {ours!r} where the venue has {theirs!r}"]
    return []


@pytest.fixture
def unlike() -> Callable[[Any, Any], list[str]]:
    """`unlike(ours, captured)`: the differences in shape (see `differences`)."""
    return differences
