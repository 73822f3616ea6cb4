"""The venue's side of OKX without sockets: a clock that stands still, the engine, and a client that signs."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

import unwired
from astra.models.trades import Side
from astra.sandbox import Account, HttpRequest, HttpResponse, SandboxSession
from astra_okx.sandbox import OkxSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Line, StillClock, captures_of


class Client(unwired.Client):
    """A connection as its client sees it."""

    def __init__(self, session: SandboxSession, line: Line, venue: Venue) -> None:
        super().__init__(session, line, venue.clock)
        self._venue = venue

    def subscribe(self, *args: Mapping[str, str], op: str = "subscribe") -> list[Any]:
        return self.send({"op": op, "args": list(args)})

    def login(self, account: Account | None = None, **changes: str) -> Any:
        """Log in; gives the answer."""
        owner = account or self._venue.account
        stamp = str(self._venue.clock.ms // 1000)
        sign = signature(owner.secret, f"{stamp}GET/users/self/verify")
        arg = {"apiKey": owner.key, "passphrase": owner.passphrase, "timestamp": stamp, "sign": sign, **changes}
        (answer,) = self.send({"op": "login", "args": [arg]})
        return answer

    def operate(self, op: str, *args: Mapping[str, Any], **fields: Any) -> Any:
        """An order operation; gives its answer (pushes are left on the line)."""
        self.session.received(json.dumps({"id": "77", "op": op, "args": list(args), **fields}))
        index = next(i for i, frame in enumerate(self.line.frames) if frame.get("op") == op)
        return self.line.frames.pop(index)


def signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class Venue:
    """A sandbox of OKX with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = None, count: int | None = None) -> None:
        self.clock = StillClock()
        markets = OkxSandbox.default_markets(count)
        self.engine = MatchingEngine(markets, self.clock, fees=OkxSandbox.fees, wallets=OkxSandbox.wallet_of)
        self.sandbox = OkxSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default")

    def open_account(self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        return self.engine.open_account(name, f"{name}-key", f"{name}-secret", f"{name}-phrase", balances=balances)

    # --- REST ---

    def ask(self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> HttpResponse:
        """A request as written; `path` with its query."""
        return self.sandbox.http(HttpRequest("rest", method, f"/api/v5{path}", dict(headers or {}), body.encode()))

    def get(self, path: str, **params: Any) -> Any:
        """`data` of a public call that succeeds."""
        answer = self.ask("GET", f"{path}?{urlencode(params)}" if params else path)
        assert answer.status == 200, answer.body
        body = json.loads(answer.body)
        assert body["code"] == "0", body
        return body["data"]

    def headers(self, method: str, path: str, body: str, account: Account | None = None) -> dict[str, str]:
        owner = account or self.account
        stamp = datetime.datetime.fromtimestamp(self.clock.ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return {
            "ok-access-key": owner.key,
            "ok-access-passphrase": owner.passphrase or "",
            "ok-access-timestamp": stamp,
            "ok-access-sign": signature(owner.secret, f"{stamp}{method}/api/v5{path}{body}"),
        }

    def signed(
        self, method: str, path: str, sent: Any = None, account: Account | None = None, **more: str
    ) -> tuple[int, Any]:
        """(status, body) of a signed call: `sent` in the query string of a GET, as JSON of a POST."""
        target, body = path, ""
        if method == "GET" and sent:
            target = f"{path}?{urlencode(sent)}"
        elif method == "POST":
            body = json.dumps(sent)
        headers = {**self.headers(method, target, body, account), **more}
        answer = self.ask(method, target, body, headers)
        return answer.status, json.loads(answer.body)

    def call(self, method: str, path: str, sent: Any = None, account: Account | None = None) -> Any:
        """`data` of a signed call that succeeds."""
        status, body = self.signed(method, path, sent, account)
        assert (status, body["code"]) == (200, "0"), body
        return body["data"]

    def place(self, native: str, side: str, size: str, price: str | None = None, **more: Any) -> Any:
        """The row of a placed order: limit with a price, else market."""
        spot = native.count("-") == 1
        order = {"instId": native, "tdMode": "cash" if spot else "cross", "side": side, "sz": size}
        order |= {"ordType": "market"} if price is None else {"ordType": "limit", "px": price}
        _, body = self.signed("POST", "/trade/order", {**order, **more})
        (row,) = body["data"]
        assert body["code"] == ("0" if row["sCode"] == "0" else "1")
        return row

    # --- the crowd ---

    def crowd(self, symbol: str, side: str, quantity: str, price: str) -> None:
        self.engine.house_place(symbol, Side(side), Decimal(quantity), Decimal(price))

    # --- WebSocket ---

    def connect(self, plane: str = "public") -> Client:
        line = Line(parse=lambda payload: payload if payload == "pong" else json.loads(payload))
        session = self.sandbox.connect(f"{plane}_stream", f"/ws/v5/{plane}", {}, line)
        assert isinstance(session, SandboxSession), session
        self.clock.ms += 400  # three connections a second
        return Client(session, line, self)

    def logged_in(self, account: Account | None = None, plane: str = "private") -> Client:
        client = self.connect(plane)
        assert client.login(account)["event"] == "login"
        return client


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def make_venue() -> type[Venue]:
    return Venue


class Captures:
    """The recordings of the venue."""

    def __init__(self) -> None:
        self._folder = captures_of("okx")

    def body(self, name: str) -> Any:
        return json.loads((self._folder / "rest" / f"{name}.json").read_text(encoding="utf-8"))["body"]

    def frames(self, name: str) -> list[Any]:
        """What the venue sent."""
        lines = (self._folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[1:]
        parsed = [json.loads(line) for line in lines]
        return [json.loads(frame["text"]) for frame in parsed if frame["direction"] == "received"]

    def signing(self) -> list[Any]:
        return list(json.loads((self._folder / "signing.json").read_text(encoding="utf-8"))["vectors"])


@pytest.fixture(scope="session")
def captures() -> Captures:
    return Captures()


def shape(value: Any) -> Any:
    """Keys and types of a JSON value; of a list the shape of its first element."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.fixture
def shape_of() -> Callable[[Any], Any]:
    return shape
