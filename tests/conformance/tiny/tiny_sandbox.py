"""The tiny venue from the other side."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from astra.models.markets import ContractType, Market
from astra.models.orders import OrderStatus, OrderType, TimeInForce
from astra.models.trades import Side
from astra.sandbox import (
    Account,
    BalanceEvent,
    BookChange,
    HttpRequest,
    HttpResponse,
    NewOrder,
    OrderEvent,
    PositionEvent,
    PublicTrade,
    Reject,
    SandboxSession,
    SandboxVenue,
)
from astra.sandbox.toolkit import answer, plain, split_form
from astra.symbols import AssetType

WINDOW_MS = 2000


def market(symbol: str, product: str, **more: Any) -> Market:
    _, kind, base, quote = symbol.split("-")[:4]
    native = f"{base}{quote}-{kind}"
    fields = {"symbol": symbol, "asset_type": AssetType(kind), "base_asset": base, "quote_asset": quote}
    return Market(**fields, native_symbol=native, product=product, **more)


def markets() -> list[Market]:
    tick = {"tick_size": Decimal("0.1")}
    spot = {**tick, "lot_size": Decimal("0.0001"), "min_notional": Decimal(5)}
    linear = {**tick, "lot_size": Decimal(1), "contract_size": Decimal("0.01"), "contract_type": ContractType.LINEAR}
    inverse = linear | {"contract_size": Decimal(100), "contract_type": ContractType.INVERSE}
    return [
        market("TINY-SPOT-BTC-USD", "spot", **spot),
        market("TINY-SPOT-ETH-USD", "spot", **spot),
        market("TINY-SPOT-SOL-USD", "spot", **spot),
        market("TINY-PERP-ETH-USDT", "perp", margin_asset="USDT", **linear),
        market("TINY-PERP-BTC-USD-COINM", "perp", margin_asset="BTC", **inverse),
    ]


class Refusal(Exception):
    def __init__(self, code: str, text: str = "", rule: str | None = None, status: int = 400) -> None:
        super().__init__(text)
        self.body = {"error": code, "text": text or code, "rule": rule}
        self.status = status


CODES = {
    "insufficient-funds": "funds",
    "duplicate-client-order-id": "duplicate",
    "order-not-found": "unknown-order",
}


class TinySandbox(SandboxVenue):
    exchange = "TINY"
    hosts: Mapping[str, str] = {"rest": "http", "stream": "ws"}

    def __init__(self, engine: Any, clock: Any) -> None:
        super().__init__(engine, clock)
        self.sessions: dict[TinySandboxSession, None] = {}
        self.natives = {one.native_symbol: one for one in engine.markets.values()}
        engine.subscribe(self.heard)

    @classmethod
    def default_markets(cls, count: int | None = None) -> list[Market]:
        return markets()

    def now_ms(self) -> int:
        return self.clock.wall_ns() // 1_000_000

    def too_many_requests(self, request: HttpRequest, retry_after_s: int) -> HttpResponse:
        return answer({"error": "limit", "text": "slow down"}, status=429, headers={"retry-after": str(retry_after_s)})

    # -- REST ---------------------------------------------------------------------------------------------------------

    def http(self, request: HttpRequest) -> HttpResponse:
        name = f"{request.method.lower()}_{request.path[1:]}"
        try:
            if request.path in ("/markets", "/book"):
                return answer(getattr(self, name)(dict(split_form(request.query))))
            account = self.caller(request)
            body = json.loads(request.body) if request.body else dict(split_form(request.query))
            return answer(getattr(self, name)(account, body))
        except Refusal as refusal:
            return answer(refusal.body, status=refusal.status)
        except Reject as reject:
            code = CODES.get(reject.rule, "refused")
            return answer({"error": code, "text": str(reject), "rule": reject.rule}, status=400)

    def caller(self, request: HttpRequest) -> Account:
        time = request.headers.get("x-time", "0")
        text = f"{time}{request.method}{request.target}{request.body.decode()}"
        return self.signed_by(request.headers.get("x-key", ""), int(time), text, request.headers.get("x-sign", ""))

    def signed_by(self, key: str, time: int, text: str, sign: str) -> Account:
        account = self.engine.account_of(key)
        if account is None:
            raise Refusal("bad-key", status=401)
        expected = hmac.new(account.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if sign != expected or abs(self.now_ms() - time) > WINDOW_MS:
            raise Refusal("bad-signature", status=401)
        return account

    def get_markets(self, query: Any) -> Any:
        rows = []
        for one in self.natives.values():
            row = one.model_dump(mode="json", by_alias=False, exclude_none=True)
            rows.append(row | {"product": one.product})
        return rows

    def book(self, one: Market, depth: int = 10_000) -> Any:
        change, bids, asks = self.engine.depth(one.symbol, depth)
        sides = {"bids": bids, "asks": asks}
        rows = {side: [(plain(a.price), plain(a.quantity)) for a in levels] for side, levels in sides.items()}
        return {"seq": change, "time": self.now_ms(), **rows}

    def get_book(self, query: Any) -> Any:
        return self.book(self.natives[query["market"]], int(query["depth"]))

    def post_orders(self, account: Account, body: Any) -> Any:
        order = NewOrder(
            market=self.natives[body["market"]].symbol,
            side=Side(body["side"]),
            type=OrderType.LIMIT,
            quantity=Decimal(body["amount"]),
            price=Decimal(body["price"]),
            client_order_id=body["client"],
            post_only=body["postOnly"],
            time_in_force=TimeInForce.IOC if body["ioc"] else TimeInForce.GTC,
        )
        return self.order_row(self.engine.place(account, order))

    def found(self, account: Account, body: Any) -> Any:
        one = self.natives[body["market"]]
        if body.get("order"):
            return self.engine.order(account, order_id=int(body["order"]), market=one.symbol)
        return self.engine.order(account, client_order_id=body["client"], market=one.symbol)

    def get_order(self, account: Account, query: Any) -> Any:
        return self.order_row(self.found(account, query))

    def post_cancel(self, account: Account, body: Any) -> Any:
        return self.order_row(self.engine.cancel(account, self.found(account, body).id))

    def _symbol(self, query: Any) -> str | None:
        return self.natives[query["market"]].symbol if query.get("market") else None

    def get_orders(self, account: Account, query: Any) -> Any:
        return [self.order_row(order) for order in self.engine.open_orders(account, self._symbol(query))]

    def get_fills(self, account: Account, query: Any) -> Any:
        fills = self.engine.fills(account, self._symbol(query))
        return [self.fill_row(fill) for fill in fills if fill.time >= int(query.get("since", 0))]

    def get_balances(self, account: Account, query: Any) -> Any:
        return [self.balance_row(one) for one in self.engine.balances(account) if one.total]

    def get_positions(self, account: Account, query: Any) -> Any:
        return [self.position_row(one) for one in self.engine.positions(account) if one.quantity]

    # -- rows ---------------------------------------------------------------------------------------------------------

    def native(self, symbol: str) -> str:
        return self.engine.markets[symbol].native_symbol

    def order_row(self, order: Any) -> Any:
        return {
            "order": order.id,
            "client": order.client_order_id,
            "market": self.native(order.market),
            "side": order.side,
            "price": plain(order.price),
            "amount": plain(order.quantity),
            "filled": plain(order.filled),
            "average": None if order.average_price is None else str(order.average_price),
            "status": OrderStatus(order.status),
            "postOnly": order.post_only,
            "created": order.created,
            "updated": order.updated,
        }

    def fill_row(self, fill: Any) -> Any:
        return {
            "id": f"{fill.trade_id}-{fill.order_id}",
            "order": fill.order_id,
            "market": self.native(fill.market),
            "side": fill.side,
            "price": plain(fill.price),
            "amount": plain(fill.quantity),
            "fee": plain(fill.fee),
            "feeAsset": fill.fee_asset,
            "liquidity": fill.liquidity,
            "time": fill.time,
        }

    def balance_row(self, one: Any) -> Any:
        numbers = {"total": one.total, "available": one.available, "locked": one.locked}
        return {"asset": one.asset, "wallet": one.wallet, **{name: plain(value) for name, value in numbers.items()}}

    def position_row(self, one: Any) -> Any:
        return {
            "market": self.native(one.market),
            "amount": plain(one.quantity),
            "entry": str(one.entry_price),
            "mark": str(self.engine.mark_price(one.market)),
        }

    # -- streams ------------------------------------------------------------------------------------------------------

    def connect(self, host: str, target: str, headers: Mapping[str, str], link: Any) -> SandboxSession:
        session = TinySandboxSession(self, link)
        self.sessions[session] = None
        return session

    def heard(self, event: Any) -> None:
        if isinstance(event, BookChange):
            rows = {
                side: [(plain(a.price), plain(a.quantity)) for a in getattr(event, side)] for side in ("bids", "asks")
            }
            self.publish(f"book:{self.native(event.market)}", {"type": "change", "seq": event.id, **rows}, event.time)
        elif isinstance(event, PublicTrade):
            row = [event.id, plain(event.price), plain(event.quantity), event.side, event.time]
            self.publish(f"trades:{self.native(event.market)}", {"type": "trades", "trades": [row]}, event.time)
        elif isinstance(event, OrderEvent):
            if event.fill is not None:
                self.tell(event.order.account, "fill", self.fill_row(event.fill))
            self.tell(event.order.account, "order", self.order_row(event.order))
        elif isinstance(event, BalanceEvent):
            self.tell(event.account, "balance", self.balance_row(event.balance))
        elif isinstance(event, PositionEvent):
            self.tell(event.account, "position", self.position_row(event.position))

    def publish(self, channel: str, message: Any, time: int) -> None:
        for session in self.sessions:
            if channel in session.channels:
                session.send({"channel": channel, "time": time, **message})

    def tell(self, account: str, kind: str, row: Any) -> None:
        for session in self.sessions:
            if session.account == account:
                session.send({"channel": "account", "type": "account", "kind": kind, "event": row})


class TinySandboxSession(SandboxSession):
    def __init__(self, venue: TinySandbox, link: Any) -> None:
        self.venue = venue
        self.link = link
        self.channels: set[str] = set()
        self.account: str | None = None

    def send(self, message: Any) -> None:
        self.link.send(json.dumps(message))

    def received(self, payload: str | bytes) -> None:
        message = json.loads(payload)
        if message["op"] == "login":
            try:
                time = message["time"]
                self.account = self.venue.signed_by(message["key"], time, f"{time}login", message["sign"]).name
            except Refusal as refusal:
                self.send({"type": "refused", **refusal.body})
                return
            self.send({"type": "ok", "channels": ["account"]})
        elif message["op"] == "subscribe":
            self.channels.update(message["channels"])
            self.send({"type": "ok", "channels": message["channels"]})
            for name in message["channels"]:
                kind, _, native = name.partition(":")
                if kind == "book":
                    self.send({"type": "snapshot", "channel": name, **self.venue.book(self.venue.natives[native])})
        else:
            self.channels.difference_update(message["channels"])
            self.send({"type": "ok", "channels": message["channels"]})

    def closed(self) -> None:
        self.venue.sessions.pop(self, None)
