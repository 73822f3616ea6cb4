"""The venue's side of KuCoin without sockets: a clock that stands still, the engine, and a client that signs."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

import unwired
from astra.models.trades import Side
from astra.sandbox import Account, HttpRequest, HttpResponse, SandboxSession
from astra_kucoin.sandbox import KucoinSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Line, StillClock, captures_of


def signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class Client(unwired.Client):
    """A connection as its client sees it."""

    def __init__(self, session: SandboxSession, line: Line, clock: StillClock) -> None:
        super().__init__(session, line, clock)
        self._sent = 0

    def subscribe(self, topic: str, **more: Any) -> list[Any]:
        """Classic: subscribe, and expect the acknowledgement."""
        self._sent += 1
        first, *others = self.send({"id": self._sent, "type": "subscribe", "topic": topic, "response": True} | more)
        assert first == {"id": str(self._sent), "type": "ack"}
        return others

    def ask(self, action: str, channel: str, **more: Any) -> list[Any]:
        """Unified: subscribe or unsubscribe, and expect the acknowledgement."""
        self._sent += 1
        first, *others = self.send({"id": f"s{self._sent}", "action": action, "channel": channel} | more)
        assert first == {"id": f"s{self._sent}", "result": True}
        return others


class Venue:
    """A sandbox of KuCoin with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = None, count: int | None = None, mode: str = "CLASSIC") -> None:
        self.clock = StillClock()
        self.engine = MatchingEngine(
            KucoinSandbox.default_markets(count),
            self.clock,
            fees=KucoinSandbox.fees,
            wallets=KucoinSandbox.wallet_of,
        )
        self.sandbox = KucoinSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default", mode=mode)

    def open_account(
        self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None, mode: str = "CLASSIC"
    ) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        account = self.engine.open_account(
            name, f"key-of-{name}", f"secret-of-{name}", f"passphrase-of-{name}", balances=balances
        )
        account.settings["mode"] = mode
        return account

    # --- REST ---

    def ask(
        self, host: str, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """A request as written."""
        return self.sandbox.http(HttpRequest(host, method, target, dict(headers or {}), body))

    def get(self, host: str, path: str, **params: Any) -> Any:
        """`data` of a public call that succeeds."""
        return self._data(self.ask(host, "GET", path + query_of(params)))

    def headers(self, method: str, signed: str, body: bytes = b"", account: Account | None = None) -> dict[str, str]:
        """The headers of a signed call; `signed` is the target, unescaped."""
        owner, stamp = account or self.account, str(self.clock.ms)
        return {
            "kc-api-key": owner.key,
            "kc-api-sign": signature(owner.secret, f"{stamp}{method}{signed}{body.decode()}"),
            "kc-api-timestamp": stamp,
            "kc-api-passphrase": signature(owner.secret, owner.passphrase or ""),
            "kc-api-key-version": "3",
        }

    def signed(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> HttpResponse:
        """A signed call: parameters in the query of GET and DELETE, else in a JSON body."""
        if method in ("GET", "DELETE"):
            target, plain_target = path + query_of(params), path + query_of(params, escape=False)
            return self.ask(host, method, target, b"", self.headers(method, plain_target, account=account))
        return self.send(host, method, path, params, account)

    def send(self, host: str, method: str, path: str, body: Any, account: Account | None = None) -> HttpResponse:
        """A signed call with this JSON body."""
        encoded = json.dumps(body).encode()
        return self.ask(host, method, path, encoded, self.headers(method, path, encoded, account))

    def call(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> Any:
        """`data` of a signed call that succeeds."""
        return self._data(self.signed(host, method, path, account, **params))

    @staticmethod
    def _data(answer: HttpResponse) -> Any:
        body = json.loads(answer.body)
        assert (answer.status, body["code"]) == (200, "200000"), answer.body
        return body["data"]

    def refused(self, host: str, method: str, path: str, account: Account | None = None, **params: Any) -> str:
        """The code of a signed call that fails."""
        return str(json.loads(self.signed(host, method, path, account, **params).body)["code"])

    # --- WebSocket ---

    def classic(self, product: str, *, private: bool = False) -> Client:
        """A classic socket, welcomed."""
        path, rest = f"/api/v1/bullet-{'private' if private else 'public'}", f"{product}_rest"
        data = self.call(rest, "POST", path) if private else self._data(self.ask(rest, "POST", path))
        client = self.connect(f"{product}_stream", f"/?token={quote(data['token'])}&connectId=c1")
        assert client.line.take() == [{"id": "c1", "type": "welcome"}]
        return client

    def unified(self, plane: str) -> Client:
        """A socket of the unified API, welcomed."""
        client = self.connect(f"unified_{plane}_stream", "/")
        (welcome,) = client.line.take()
        assert (welcome["message"], welcome["pingInterval"]) == ("welcome", 18000)
        return client

    def logged_in(self, account: Account | None = None) -> Client:
        """The unified private socket after its login."""
        owner, stamp, client = account or self.account, str(self.clock.ms), self.unified("private")
        frame = {
            "id": "login",
            "op": "auth",
            "kc-api-key": owner.key,
            "kc-api-timestamp": stamp,
            "kc-api-sign": signature(owner.secret, f"{stamp}POST/api/websocket/users/verify"),
            "kc-api-passphrase": signature(owner.secret, owner.passphrase or ""),
        }
        assert client.send(frame) == [{"id": "login", "result": True}]
        return client

    def connect(self, host: str, target: str) -> Client:
        line = Line(bytes if host.startswith("unified") else str)
        session = self.sandbox.connect(host, target, {}, line)
        assert isinstance(session, SandboxSession), session
        return Client(session, line, self.clock)

    # --- the engine ---

    def crowd(self, symbol: str, side: str, quantity: str, price: str | None = None) -> None:
        """An order of the crowd."""
        self.engine.house_place(symbol, Side(side), Decimal(quantity), None if price is None else Decimal(price))

    def spot_order(self, **changes: Any) -> Any:
        """Place a spot order; gives `data`."""
        order = {"symbol": "BTC-USDT", "side": "buy", "type": "limit", "price": "50000", "size": "0.1"} | changes
        return self.call("spot_rest", "POST", "/api/v1/hf/orders", **order)

    def futures_order(self, oid: str, **changes: Any) -> Any:
        order = {
            "clientOid": oid,
            "symbol": "XBTUSDTM",
            "side": "buy",
            "type": "limit",
            "price": "50000",
            "size": 100,
            "leverage": 10,
        }
        return self.call("futures_rest", "POST", "/api/v1/orders", **(order | changes))


def query_of(params: Mapping[str, Any], *, escape: bool = True) -> str:
    pairs = [f"{name}={quote(str(value), safe='') if escape else value}" for name, value in params.items()]
    return f"?{'&'.join(pairs)}" if pairs else ""


@pytest.fixture
def venue() -> Venue:
    """A fresh sandbox with empty books."""
    return Venue()


@pytest.fixture
def unified() -> Venue:
    """The same, with an account in unified mode."""
    return Venue(mode="UNIFIED")


@pytest.fixture
def make_venue() -> Callable[..., Venue]:
    return Venue


@pytest.fixture
def capture() -> Callable[[str], Any]:
    """`capture("futures-symbol")`: `data` of a recorded or documented REST answer."""
    recorded = captures_of("kucoin")

    def read(name: str) -> Any:
        body = json.loads((recorded / "rest" / f"{name}.json").read_text())["body"]
        return body.get("data", body)

    return read


@pytest.fixture
def captured_frames() -> Callable[[str], Sequence[Any]]:
    """`captured_frames("uta-private")`: the frames of a recorded stream."""
    recorded = captures_of("kucoin")

    def read(name: str) -> Sequence[Any]:
        lines = (recorded / f"{name}.jsonl").read_text().splitlines()[1:]
        return [json.loads(json.loads(line)["text"]) for line in lines]

    return read


@pytest.fixture
def vectors() -> dict[str, Any]:
    """Name -> signing vector."""
    recorded = captures_of("kucoin")
    return {one["name"]: one for one in json.loads((recorded / "signing.json").read_text())["vectors"]}


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where an answer of the sandbox is not of the captured shape: other keys, other types (a null fits any)."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}.{key}: not a key of the venue" for key in ours if key not in theirs]
        found += [f"{where}.{key}: missing" for key in theirs if key not in ours]
        return found + [
            text for key in ours if key in theirs for text in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        rows = (
            zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ((row, theirs[0]) for row in ours if theirs)
        )
        return [text for row, other in rows for text in differences(row, other, f"{where}[]")]
    number = (int, float)
    alike = type(ours) is type(theirs) or (type(ours) in number and type(theirs) in number)
    if not alike and ours is not None and theirs is not None:
        return [f"{where}: {ours!r} where the venue has {theirs!r}"]
    return []


@pytest.fixture
def unlike() -> Callable[[Any, Any], list[str]]:
    """`unlike(ours, captured)`: the differences in shape (see `differences`)."""
    return differences
