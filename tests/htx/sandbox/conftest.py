"""The venue's side of HTX without sockets: a clock that stands still, the engine, and a client that signs."""

import base64
import datetime
import gzip
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from astra.models.orders import OrderType, PositionSide
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, HttpRequest, HttpResponse, NewOrder, SandboxSession
from astra_htx.sandbox import HtxSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Client, Line, StillClock, captures_of

REAL_HOSTS = {"spot": "api.huobi.pro", "derivatives": "api.hbdm.com"}


def canonical(params: Mapping[str, Any]) -> str:
    return "&".join(f"{name}={quote(str(params[name]), safe='-_.~')}" for name in sorted(params))


def sign(secret: str, method: str, host: str, path: str, query: str) -> str:
    payload = f"{method}\n{host}\n{path}\n{query}"
    return base64.b64encode(hmac.new(secret.encode(), payload.encode(), hashlib.sha256).digest()).decode()


def read_frame(payload: str | bytes) -> Any:
    """Numbers as the venue writes them."""
    text = payload if isinstance(payload, str) else gzip.decompress(payload).decode()
    return json.loads(text, parse_float=Decimal)


class Venue:
    """A sandbox of HTX with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = None, count: int | None = None) -> None:
        self.clock = StillClock()
        markets = HtxSandbox.default_markets(count)
        self.engine = MatchingEngine(markets, self.clock, fees=HtxSandbox.fees, wallets=HtxSandbox.wallet_of)
        self.sandbox = HtxSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default")

    def open_account(self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        return self.engine.open_account(name, f"{name}-key", f"{name}-secret", balances=balances)

    @property
    def stamp(self) -> str:
        return datetime.datetime.fromtimestamp(self.clock.ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")

    # --- REST ---

    def ask(
        self, host: str, method: str, path: str, query: str = "", body: Any = None, called: str = "127.0.0.1:4711"
    ) -> HttpResponse:
        """A request as written."""
        target = path + (f"?{query}" if query else "")
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.sandbox.http(HttpRequest(host, method, target, {"host": called}, raw))

    def get(self, host: str, path: str, **params: Any) -> Any:
        """The body of a public call."""
        answer = self.ask(host, "GET", path, canonical(params))
        assert answer.status == 200, answer.body
        return json.loads(answer.body, parse_float=Decimal)

    def signed(
        self, host: str, method: str, path: str, sent: Any = None, account: Account | None = None, **changes: Any
    ) -> HttpResponse:
        """A signed call: `sent` in the query of a GET, in the body of a POST."""
        owner = account or self.account
        fields: dict[str, Any] = {
            "AccessKeyId": owner.key,
            "SignatureMethod": "HmacSHA256",
            "SignatureVersion": "2",
            "Timestamp": self.stamp,
        } | changes
        secret = fields.pop("secret", owner.secret)
        signed_host = fields.pop("signed_host", REAL_HOSTS[host.partition("_")[0]])
        if method == "GET":
            fields |= sent or {}
        query = canonical(fields)
        signature = sign(secret, method, signed_host, path, query)
        query += f"&Signature={quote(signature, safe='')}"
        return self.ask(host, method, path, query, None if method == "GET" else sent or {})

    def spot(self, method: str, path: str, sent: Any = None, account: Account | None = None) -> Any:
        answer = self.signed("spot_rest", method, path, sent, account)
        return json.loads(answer.body, parse_float=Decimal)

    def contracts(self, method: str, path: str, sent: Any = None, account: Account | None = None) -> Any:
        answer = self.signed("derivatives_rest", method, path, sent, account)
        return json.loads(answer.body, parse_float=Decimal)

    @property
    def account_id(self) -> str:
        rows = self.spot("GET", "/v1/account/accounts")["data"]
        return str(next(row["id"] for row in rows if row["type"] == "spot"))

    def place_spot(self, kind: str, amount: str, price: str | None = None, **more: Any) -> Any:
        body = {"account-id": self.account_id, "symbol": "btcusdt", "type": kind, "amount": amount, **more}
        return self.spot("POST", "/v1/order/orders/place", body if price is None else body | {"price": price})

    def place_linear(self, side: str, volume: str, price: str | None = None, **more: Any) -> Any:
        body = {"contract_code": "BTC-USDT", "margin_mode": "cross", "side": side, "volume": volume, **more}
        body |= {"type": "market"} if price is None else {"type": body.get("type", "limit"), "price": price}
        return self.contracts("POST", "/v5/trade/order", body)

    def place_coin(self, direction: str, offset: str, volume: int, price: Any, **more: Any) -> Any:
        body = {
            "contract_code": "BTC-USD",
            "direction": direction,
            "offset": offset,
            "volume": volume,
            "price": price,
            "lever_rate": 20,
            "order_price_type": "limit",
            **more,
        }
        return self.contracts("POST", "/swap-api/v1/swap_order", body)

    # --- WebSocket ---

    def connect(self, host: str, path: str) -> Client:
        line = Line((str, bytes), read_frame)
        session = self.sandbox.connect(host, path, {"host": "127.0.0.1:4711"}, line)
        assert isinstance(session, SandboxSession), session
        return Client(session, line, self.clock)

    def log_in_spot(self, path: str = "/ws/v2", account: Account | None = None, **changes: Any) -> tuple[Client, Any]:
        """A connection, and what the login answered."""
        owner = account or self.account
        fields = {
            "accessKey": owner.key,
            "signatureMethod": "HmacSHA256",
            "signatureVersion": "2.1",
            "timestamp": self.stamp,
        } | changes
        fields["signature"] = sign(owner.secret, "GET", "api.huobi.pro", path, canonical(fields))
        client = self.connect("spot_stream", path)
        return client, client.send({"action": "req", "ch": "auth", "params": {"authType": "api", **fields}})[0]

    def log_in_contracts(
        self, path: str = "/ws/v5/notification", account: Account | None = None, **changes: Any
    ) -> tuple[Client, Any]:
        owner = account or self.account
        fields = {
            "AccessKeyId": owner.key,
            "SignatureMethod": "HmacSHA256",
            "SignatureVersion": "2",
            "Timestamp": self.stamp,
        } | changes
        fields["Signature"] = sign(owner.secret, "GET", "api.hbdm.com", path, canonical(fields))
        client = self.connect("derivatives_stream", path)
        return client, client.send({"op": "auth", "type": "api", **fields})[0]

    # --- the engine ---

    def crowd(self, symbol: str, side: str, quantity: str, price: str | None = None) -> None:
        """An order of the crowd."""
        self.engine.house_place(symbol, Side(side), Decimal(quantity), None if price is None else Decimal(price))

    def own(self, symbol: str, side: str, quantity: str, price: str, position: str | None = None) -> EngineOrder:
        """An order of the account, placed past the protocol."""
        order = NewOrder(
            market=symbol,
            side=Side(side),
            type=OrderType.LIMIT,
            quantity=Decimal(quantity),
            price=Decimal(price),
            position_side=None if position is None else PositionSide(position),
        )
        return self.engine.place(self.account, order)


@pytest.fixture
def venue() -> Venue:
    """A fresh sandbox with empty books."""
    return Venue()


@pytest.fixture
def make_venue() -> Callable[..., Venue]:
    return Venue


@pytest.fixture
def capture() -> Callable[[str], Any]:
    """`capture("spot-order-get")`: the body of a recorded or documented REST answer."""
    recorded = captures_of("htx")

    def read(name: str) -> Any:
        return json.loads((recorded / "rest" / f"{name}.json").read_text(), parse_float=Decimal)["body"]

    return read


@pytest.fixture
def captured_frames() -> Callable[[str], Sequence[Any]]:
    """`captured_frames("spot-private-v2")`: the received frames of a recording that holds text."""
    recorded = captures_of("htx")

    def read(name: str) -> Sequence[Any]:
        rows = [json.loads(line) for line in (recorded / f"{name}.jsonl").read_text().splitlines()[1:]]
        texts = [
            row["text"] if "text" in row else gzip.decompress(base64.b64decode(row["base64"])).decode()
            for row in rows
            if row["direction"] == "received"
        ]
        return [json.loads(text, parse_float=Decimal) for text in texts]

    return read


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where an answer of the sandbox is not of the recorded shape: keys that are not the venue's, other types.

    Recordings of one moment and documented examples differ in optional keys, so keys may be missing; a number is a
    number, with a point or without, and nothing (null) goes with everything.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}.{key}: not a key of the venue" for key in ours if key not in theirs]
        return found + [
            text for key in ours if key in theirs for text in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        return [text for row in ours if theirs for text in differences(row, theirs[0], f"{where}[]")]
    numbers = (int, Decimal)
    if isinstance(ours, numbers) and isinstance(theirs, numbers) and type(ours) is not bool is not type(theirs):
        return []
    if type(ours) is not type(theirs) and ours is not None and theirs is not None:
        return [f"{where}: {ours!r} where the venue has {theirs!r}"]
    return []


@pytest.fixture
def unlike() -> Callable[[Any, Any], list[str]]:
    """`unlike(ours, captured)`: the differences in shape (see `differences`)."""
    return differences
