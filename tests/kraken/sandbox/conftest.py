"""The venue's side of Kraken without sockets: a clock that stands still, the engine, and a client that signs."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

import unwired
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra.sandbox import Account, EngineOrder, HttpRequest, HttpResponse, NewOrder, SandboxSession
from astra_kraken.sandbox import KrakenSandbox, SandboxLimits
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import ample_funds
from unwired import Line, StillClock, captures_of

HISTORY = "/api/history/v3"


class Client(unwired.Client):
    """A connection as its client sees it."""

    def __init__(self, session: SandboxSession, line: Line, clock: StillClock) -> None:
        super().__init__(session, line, clock)
        self.hello = line.take()

    def subscribe(self, channel: str, **params: Any) -> list[Any]:
        """Of Spot."""
        return self.send({"method": "subscribe", "params": {"channel": channel, **params}, "req_id": 1})

    def feed(self, feed: str, *products: str, **more: Any) -> list[Any]:
        """Of derivatives."""
        listed = {"product_ids": list(products)} if products else {}
        return self.send({"event": "subscribe", "feed": feed, **listed, **more})


class Venue:
    """A sandbox of Kraken with one account, as its clients meet it."""

    def __init__(self, limits: SandboxLimits | None = None, count: int | None = None) -> None:
        self.clock = StillClock()
        self.engine = MatchingEngine(
            KrakenSandbox.default_markets(count),
            self.clock,
            fees=KrakenSandbox.fees,
            wallets=KrakenSandbox.wallet_of,
            quote_fees=KrakenSandbox.quote_fees,
        )
        self.sandbox = KrakenSandbox(self.engine, self.clock, limits)
        self.account = self.open_account("default")
        self._nonce = 0

    def open_account(self, name: str, funds: Mapping[str, Mapping[str, Decimal]] | None = None) -> Account:
        balances = ample_funds(self.engine, 1) if funds is None else funds
        secret = base64.b64encode(hashlib.sha512(name.encode()).digest()).decode()
        return self.engine.open_account(name, f"{name}Key", secret, balances=balances)

    # --- Spot ---

    def public(self, method: str, **params: Any) -> Any:
        """The result of a public call that succeeds."""
        body = self.public_answer(method, **params)
        assert body["error"] == []
        return body["result"]

    def public_answer(self, method: str, **params: Any) -> Any:
        query = f"?{urlencode(params)}" if params else ""
        answer = self.sandbox.http(HttpRequest("spot_rest", "GET", f"/0/public/{method}{query}", {}, b""))
        assert answer.status == 200
        return json.loads(answer.body)

    def spot_answer(self, method: str, account: Account | None = None, *, as_json: bool = False, **params: Any) -> Any:
        """The body of a signed call, errors and all."""
        owner, path = account or self.account, f"/0/private/{method}"
        self._nonce += 1
        nonce = str(self.clock.ms * 1000 + self._nonce)
        sent = {"nonce": nonce, **params}
        body = json.dumps(sent).encode() if as_json else urlencode(sent).encode()
        message = path.encode() + hashlib.sha256(nonce.encode() + body).digest()
        signature = base64.b64encode(hmac.digest(base64.b64decode(owner.secret), message, "sha512")).decode()
        kind = "application/json" if as_json else "application/x-www-form-urlencoded"
        headers = {"api-key": owner.key, "api-sign": signature, "content-type": kind}
        answer = self.sandbox.http(HttpRequest("spot_rest", "POST", path, headers, body))
        assert answer.status == 200
        return json.loads(answer.body)

    def spot(self, method: str, account: Account | None = None, **params: Any) -> Any:
        """The result of a signed call that succeeds."""
        body = self.spot_answer(method, account, **params)
        assert body["error"] == [], body
        return body["result"]

    def spot_error(self, method: str, account: Account | None = None, **params: Any) -> str:
        """The error of a signed call that fails."""
        body = self.spot_answer(method, account, **params)
        assert len(body["error"]) == 1, body
        assert "result" not in body
        error = body["error"][0]
        assert isinstance(error, str)
        return error

    def limit(self, side: str, volume: str, price: str, pair: str = "XBTUSD", **more: Any) -> str:
        """The id of a limit order placed by REST."""
        placed = self.spot("AddOrder", pair=pair, type=side, ordertype="limit", volume=volume, price=price, **more)
        txid = placed["txid"][0]
        assert isinstance(txid, str)
        return txid

    # --- derivatives ---

    def contracts_answer(
        self, method: str, path: str, account: Account | None = None, *, nonce: str | None = None, **params: Any
    ) -> HttpResponse:
        """A signed call: parameters in the query string, of POST in the body."""
        owner = account or self.account
        target = path if path.startswith("/") else f"/derivatives/api/v3/{path}"
        sent = urlencode(params, doseq=True)
        query, body = ("", sent) if method == "POST" else (sent, "")
        signed = sent + (nonce or "") + target.removeprefix("/derivatives")
        digest = hashlib.sha256(signed.encode()).digest()
        signature = base64.b64encode(hmac.digest(base64.b64decode(owner.secret), digest, "sha512")).decode()
        headers = {"apikey": owner.key, "authent": signature} | ({} if nonce is None else {"nonce": nonce})
        target += f"?{query}" if query else ""
        return self.sandbox.http(HttpRequest("derivatives_rest", method, target, headers, body.encode()))

    def contracts(self, method: str, path: str, account: Account | None = None, **params: Any) -> Any:
        """The body of a signed call that succeeds."""
        body = json.loads(self.contracts_answer(method, path, account, **params).body)
        assert body.get("result", "success") == "success", body
        return body

    def contracts_error(self, method: str, path: str, account: Account | None = None, **params: Any) -> str:
        body = json.loads(self.contracts_answer(method, path, account, **params).body)
        assert body["result"] == "error", body
        error = body["error"]
        assert isinstance(error, str)
        return error

    def open_contracts(self, path: str, **params: Any) -> Any:
        """The body of a public call that succeeds."""
        target = path if path.startswith("/") else f"/derivatives/api/v3/{path}"
        target += f"?{urlencode(params)}" if params else ""
        answer = self.sandbox.http(HttpRequest("derivatives_rest", "GET", target, {}, b""))
        body = json.loads(answer.body)
        assert body.get("result", "success") == "success", body
        return body

    def send(self, kind: str, symbol: str, side: str, size: str, account: Account | None = None, **more: Any) -> Any:
        """The `sendStatus` of an order."""
        given = {"orderType": kind, "symbol": symbol, "side": side, "size": size, **more}
        return self.contracts("POST", "sendorder", account, **given)["sendStatus"]

    # --- WebSocket ---

    def connect(self, host: str = "spot_stream", target: str | None = None) -> Client:
        line = Line(parse=lambda payload: json.loads(payload, parse_float=Decimal))
        path = target or ("/ws/v1" if host == "derivatives_stream" else "/v2")
        session = self.sandbox.connect(host, path, {}, line)
        assert isinstance(session, SandboxSession), session
        return Client(session, line, self.clock)

    def token(self, account: Account | None = None) -> str:
        token = self.spot("GetWebSocketsToken", account)["token"]
        assert isinstance(token, str)
        return token

    def signed_feed(self, client: Client, account: Account | None = None) -> dict[str, str]:
        """What a private subscription of derivatives adds."""
        owner = account or self.account
        (challenge,) = client.send({"event": "challenge", "api_key": owner.key})
        digest = hashlib.sha256(challenge["message"].encode()).digest()
        signed = base64.b64encode(hmac.digest(base64.b64decode(owner.secret), digest, "sha512")).decode()
        return {"api_key": owner.key, "original_challenge": challenge["message"], "signed_challenge": signed}

    # --- the engine ---

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
    """`capture("spot-balance")`: the body of a recorded or documented REST answer."""
    recorded = captures_of("kraken")

    def read(name: str) -> Any:
        return json.loads((recorded / "rest" / f"{name}.json").read_text())["body"]

    return read


@pytest.fixture
def captured_frames() -> Callable[[str], Sequence[Any]]:
    """`captured_frames("spot-book-v2-btcusd")`: the received frames of a recorded stream."""
    recorded = captures_of("kraken")

    def read(name: str) -> Sequence[Any]:
        lines = [json.loads(line) for line in (recorded / "streams" / f"{name}.jsonl").read_text().splitlines()[1:]]
        return [json.loads(line["text"], parse_float=Decimal) for line in lines if line["direction"] == "received"]

    return read


@pytest.fixture
def vectors() -> Mapping[str, Any]:
    """The signing vectors by name."""
    recorded = captures_of("kraken")
    read = json.loads((recorded / "vectors" / "signing.json").read_text())["vectors"]
    return {vector["name"]: vector for vector in read}


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where an answer of the sandbox is not of the recorded shape: keys that the venue does not send, other types.

    Documented examples print every optional key at once, so keys may be missing. Whole numbers are written with and
    without a point by the venue itself.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [f"{where}.{key}: not a key of the venue" for key in ours if key not in theirs]
        return found + [
            text for key in ours if key in theirs for text in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        if theirs and not isinstance(theirs[0], dict | list):  # a row of unlike values
            return [text for pair in zip(ours, theirs, strict=False) for text in differences(*pair, f"{where}[]")]
        merged: Any = theirs[0] if theirs else None
        if isinstance(merged, dict):  # what any row has
            merged = {key: value for row in reversed(theirs) for key, value in row.items()}
        return [text for row in ours if theirs for text in differences(row, merged, f"{where}[]")]
    numbers = (int, float, Decimal)
    alike = type(ours) is type(theirs) or (isinstance(ours, numbers) and isinstance(theirs, numbers))
    if not alike and ours is not None and theirs is not None:
        return [f"{where}: {ours!r} where the venue has {theirs!r}"]
    return []


@pytest.fixture
def unlike() -> Callable[[Any, Any], list[str]]:
    """`unlike(ours, captured)`: the differences in shape (see `differences`)."""
    return differences
