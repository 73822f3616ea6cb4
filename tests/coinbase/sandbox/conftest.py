"""The venue's side of Coinbase without sockets: a clock that stands still, the engine, and a client that signs."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import unwired
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, HttpRequest, HttpResponse, NewOrder, SandboxSession
from astra_coinbase.sandbox import CoinbaseSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Line, StillClock, captures_of

ADVANCED = "/api/v3/brokerage"
WITHOUT_LIMITS = SandboxLimits(
    private_per_second=10**6,
    public_per_second=10**6,
    public_cache_ms=0,
    connections_per_second=10**4,
    messages_per_second=10**4,
    gateway_burst=10**6,
)


class Client(unwired.Client):
    """A connection as its client sees it."""

    def __init__(self, session: SandboxSession, line: Line, clock: StillClock) -> None:
        super().__init__(session, line, clock)
        self._calls = 0

    def subscribe(self, channel: str, *products: str, **more: Any) -> list[Any]:
        """Advanced Trade."""
        listed = {"product_ids": list(products)} if products else {}
        return self.send({"type": "subscribe", "channel": channel, **listed, **more})

    def call(self, method: str, **params: Any) -> Any:
        """Gateway: the answer to a request; notifications before it are kept for `take`."""
        self._calls += 1
        self.session.received(json.dumps({"jsonrpc": "2.0", "id": self._calls, "method": method, "params": params}))
        (found,) = [frame for frame in self.line.frames if frame.get("id") == self._calls]
        self.line.frames.remove(found)
        return found


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def sign(secret: str, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    """A JSON web token, by the key that the secret holds."""
    head = f"{encoded(dict(header))}.{encoded(dict(payload))}"
    if not secret.startswith("-----BEGIN"):
        private = ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret)[:32])
        return f"{head}.{encoded(private.sign(head.encode()))}"
    key = load_pem_private_key(secret.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(head.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{head}.{encoded(r.to_bytes(32) + s.to_bytes(32))}"


class Venue:
    """A sandbox of Coinbase with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = WITHOUT_LIMITS, count: int | None = None) -> None:
        self.clock = StillClock()
        self.engine = MatchingEngine(
            CoinbaseSandbox.default_markets(count),
            self.clock,
            fees=CoinbaseSandbox.fees,
            wallets=CoinbaseSandbox.wallet_of,
            quote_fees=CoinbaseSandbox.quote_fees,
            aliases=CoinbaseSandbox.aliases,
        )
        self.sandbox = CoinbaseSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default")

    def open_account(self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        key, secret, _ = CoinbaseSandbox.make_key(Random(name))
        return self.engine.open_account(name, key, secret, balances=balances)

    def token(self, uri: str | None = None, account: Account | None = None, **claims: Any) -> str:
        """A token as the venue's own SDK makes it."""
        owner = account or self.account
        now_s = self.clock.ms // 1000
        payload: dict[str, Any] = {"sub": owner.key, "iss": "cdp", "nbf": now_s, "exp": now_s + 120}
        payload |= ({} if uri is None else {"uri": uri}) | claims
        kind = "ES256" if owner.secret.startswith("-----BEGIN") else "EdDSA"
        return sign(owner.secret, {"alg": kind, "kid": owner.key, "nonce": "00", "typ": "JWT"}, payload)

    # --- REST ---

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: Any = None,
        token: str | None = None,
        *,
        host: str = "advanced_rest",
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """A request as written."""
        sent = dict(headers or {}) | ({} if token is None else {"authorization": f"Bearer {token}"})
        target = f"{path}?{query}" if query else path
        payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.sandbox.http(HttpRequest(host, method, target, sent, payload))

    def get(self, path: str, **params: Any) -> Any:
        """The body of a public call of Advanced Trade that succeeds."""
        answer = self.ask("GET", ADVANCED + path, urlencode(params, doseq=True))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def signed(
        self, method: str, path: str, body: Any = None, account: Account | None = None, **params: Any
    ) -> HttpResponse:
        """A signed call of Advanced Trade."""
        token = self.token(f"{method} api.coinbase.com{ADVANCED}{path}", account)
        return self.ask(method, ADVANCED + path, urlencode(params, doseq=True), body, token)

    def call(self, method: str, path: str, body: Any = None, account: Account | None = None, **params: Any) -> Any:
        """The body of a signed call that succeeds."""
        answer = self.signed(method, path, body, account, **params)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def place(self, product: str, side: str, configuration: str, client_id: str = "one", **members: Any) -> Any:
        """The answer to `POST /orders`."""
        body = {"client_order_id": client_id, "product_id": product, "side": side}
        return self.call("POST", "/orders", body | {"order_configuration": {configuration: members}})

    def rpc(self, method: str, bearer: str | None = None, /, **params: Any) -> Any:
        """The answer of the gateway over HTTP."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        answer = self.ask("POST", f"/api/v2/{method}", "", body, bearer, host="international_rest")
        return json.loads(answer.body) | {"status": answer.status}

    def gateway_token(self, account: Account | None = None) -> str:
        token = self.token("POST drb.coinbase.com/api/v2/public/auth", account)
        return str(self.rpc("public/auth", grant_type="coinbase_cdp", token=token)["result"]["access_token"])

    # --- WebSocket ---

    def connect(self, host: str, target: str = "/") -> Client:
        line = Line()
        session = self.sandbox.connect(host, target, {}, line)
        assert isinstance(session, SandboxSession), session
        return Client(session, line, self.clock)

    def gateway(self, *, private: bool, account: Account | None = None) -> Client:
        """A socket of the gateway; the private one logged in."""
        if not private:
            return self.connect("international_stream", "/ws/api/v2")
        client = self.connect("international_private_stream", "/ws/api/v2")
        answer = client.call("public/auth", grant_type="coinbase_cdp", token=self.token(None, account))
        assert "error" not in answer
        return client

    # --- the engine ---

    def crowd(self, symbol: str, side: str, quantity: str, price: str | None = None) -> None:
        """An order of the crowd."""
        self.engine.house_place(symbol, Side(side), Decimal(quantity), None if price is None else Decimal(price))

    def own(self, symbol: str, side: str, quantity: str, price: str, account: Account | None = None) -> EngineOrder:
        """An order of an account, placed without the protocol."""
        order = NewOrder(
            market=symbol, side=Side(side), type=OrderType.LIMIT, quantity=Decimal(quantity), price=Decimal(price)
        )
        return self.engine.place(account or self.account, order)


@pytest.fixture
def venue() -> Venue:
    """A fresh sandbox with empty books, its rate limits out of the way."""
    return Venue()


@pytest.fixture
def make_venue() -> Callable[..., Venue]:
    return Venue


@pytest.fixture
def make_token() -> Callable[[str, Mapping[str, Any], Mapping[str, Any]], str]:
    return sign


@pytest.fixture
def capture() -> Callable[[str], Any]:
    """`capture("advanced-order")`: the body of a recorded or documented REST answer."""
    recorded = captures_of("coinbase")

    def read(name: str) -> Any:
        return json.loads((recorded / "rest" / f"{name}.json").read_text())["body"]

    return read


@pytest.fixture
def captured_frames() -> Callable[[str], Sequence[Any]]:
    """`captured_frames("user-advanced-envelopes")`: the received frames of a recorded stream."""
    recorded = captures_of("coinbase")

    def read(name: str) -> Sequence[Any]:
        lines = [json.loads(line) for line in (recorded / f"{name}.jsonl").read_text().splitlines()[1:]]
        return [json.loads(line["text"]) for line in lines if line["direction"] == "received"]

    return read


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where an answer of the sandbox is not of the recorded shape: keys that the venue does not send, other types.

    Documented examples leave optional keys out or print them all at once, so keys may be missing.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}.{key}: not a key of the venue" for key in ours if key not in theirs]
        return found + [
            text for key in ours if key in theirs for text in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        return [text for row in ours if theirs for text in differences(row, theirs[0], f"{where}[]")]
    numbers = isinstance(ours, int | float) and isinstance(theirs, int | float)
    if type(ours) is not type(theirs) and ours is not None and theirs is not None and not numbers:
        return [f"{where}: {ours!r} where the venue has {theirs!r}"]
    return []


@pytest.fixture
def unlike() -> Callable[[Any, Any], list[str]]:
    """`unlike(ours, captured)`: the differences in shape (see `differences`)."""
    return differences
