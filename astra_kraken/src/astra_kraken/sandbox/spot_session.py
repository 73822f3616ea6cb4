"""A connection of Spot's v2 stream: requests in, acknowledgements and frames out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from astra.sandbox import Account, Link, SandboxSession
from astra.sandbox.toolkit import text_of
from astra_kraken.sandbox.catalogue import Catalogue, SpotListing
from astra_kraken.sandbox.keys import Keys
from astra_kraken.sandbox.limits import SandboxLimits
from astra_kraken.sandbox.spot_feeds import DEPTHS, SpotHub
from astra_kraken.sandbox.spot_trading import StreamTrading
from astra_kraken.sandbox.spot_users import Options, SpotUsers, private_frame
from astra_kraken.sandbox.wire import SpotRefusal, decode_json, micros

_HEARTBEAT_MS = 1000
_PUBLIC = ("book", "trade", "ticker")
_PRIVATE = ("executions", "balances")
_FIELDS = {
    "book": {"channel", "symbol", "depth", "snapshot"},
    "trade": {"channel", "symbol", "snapshot"},
    "ticker": {"channel", "symbol", "event_trigger", "snapshot"},
    "instrument": {"channel", "snapshot", "include_tokenized_assets", "execution_venue"},
    "executions": {
        "channel",
        "token",
        "snap_orders",
        "snap_trades",
        "order_status",
        "ratecounter",
        "snapshot",
    },
    "balances": {"channel", "token", "snapshot"},
}


class SpotSession(SandboxSession):
    """One connection: of the public host, of the private one, or of the Unified WebSocket (`unified`).

    Of that one only what the venue documents for certain is served: market data of derivatives in Spot's frames, under
    native symbols, `asset_class` named in every request. Nobody has recorded it.
    """

    def __init__(
        self,
        link: Link,
        *,
        private: bool,
        unified: bool,
        connection_id: int,
        catalogue: Catalogue,
        hub: SpotHub,
        users: SpotUsers,
        trading: StreamTrading,
        keys: Keys,
        limits: SandboxLimits,
        now_ms: Callable[[], int],
        advance: Callable[[int], None],
        rate: Callable[[int], bool],
        on_closed: Callable[[SpotSession], None],
    ) -> None:
        self._link = link
        self._private = private
        self._unified = unified
        self._catalogue = catalogue
        self._hub = hub
        self._users = users
        self._trading = trading
        self._keys = keys
        self._limits = limits
        self._now_ms = now_ms
        self._advance = advance
        self._exceeded = rate
        self._on_closed = on_closed
        self._markets: dict[tuple[str, str], tuple[SpotListing, str | int]] = {}
        """(channel, Astra symbol) -> what is subscribed."""
        self._accounts: dict[str, tuple[Account, str]] = {}
        """Private channel -> (account, token)."""
        self._instrument = False
        self._sequences: dict[str, int] = {}
        self._sent_ms = self._empty_since = now_ms()
        self._over = False
        system = {"api_version": "v2", "connection_id": connection_id, "system": "online", "version": "2.0.10"}
        self.deliver(text_of({"channel": "status", "type": "update", "data": [system]}))

    # --- what the server calls ---

    def received(self, payload: str | bytes) -> None:
        now_ms = self._now_ms()
        self._advance(now_ms)
        try:
            request = decode_json(payload)
        except msgspec.DecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            self._answer({"method": None}, now_ms, error="EGeneral:Invalid arguments:malformed request")
        elif self._exceeded(now_ms):
            self._answer(request, now_ms, error="Exceeded msg rate")
        else:
            self._request(request, now_ms)

    def tick(self, now_ms: int) -> None:
        self._advance(now_ms)
        if self._over:
            return
        if self._markets or self._accounts or self._instrument:
            self._empty_since = now_ms
            if now_ms - self._sent_ms >= _HEARTBEAT_MS:
                self.deliver('{"channel":"heartbeat"}')
        elif now_ms - self._empty_since >= self._limits.idle_close_ms:
            self._over = True
            self._link.close(1000, "")

    def closed(self) -> None:
        self._over = True
        for (channel, _), (listing, option) in self._markets.items():
            self._hub.leave(channel, listing, option, self)
        self._markets.clear()
        for channel in list(self._accounts):
            self._leave_account(channel)
        self._on_closed(self)

    def deliver(self, frame: str) -> None:
        self._sent_ms = self._now_ms()
        self._link.send(frame)

    def deliver_private(self, channel: str, kind: str, rows: Sequence[Any]) -> None:
        sequence = self._sequences[channel] = self._sequences.get(channel, 0) + 1
        self.deliver(private_frame(channel, kind, rows, sequence))

    # --- requests ---

    def _answer(
        self, request: dict[str, Any], now_ms: int, *, result: Any = None, error: str | None = None, symbol: Any = None
    ) -> None:
        frame: dict[str, Any] = {"method": request["method"]}
        if "req_id" in request:
            frame["req_id"] = request["req_id"]
        if error is None:
            frame |= {"result": result, "success": True}
        else:
            frame |= {"error": error, "success": False}
            if symbol is not None:
                frame["symbol"] = symbol
        frame |= {"time_in": micros(now_ms), "time_out": micros(now_ms)}
        self.deliver(text_of(frame))

    def _request(self, request: dict[str, Any], now_ms: int) -> None:
        method, params = request["method"], request.get("params", {})
        if "req_id" in request and type(request["req_id"]) is not int:
            self._answer({"method": method}, now_ms, error="EGeneral:Invalid arguments:req_id")
        elif method == "ping":
            pong = {"method": "pong"} | ({"req_id": request["req_id"]} if "req_id" in request else {})
            self.deliver(text_of(pong | {"time_in": micros(now_ms), "time_out": micros(now_ms)}))
        elif not isinstance(params, dict):
            self._answer(request, now_ms, error="EGeneral:Invalid arguments:params")
        elif method in ("subscribe", "unsubscribe"):
            self._subscription(request, params, now_ms, on=method == "subscribe")
        elif method in self._trading.methods:
            self._trade(request, params, now_ms)
        else:
            self._answer(request, now_ms, error=f"EGeneral:Unknown method {method}")

    def _trade(self, request: dict[str, Any], params: dict[str, Any], now_ms: int) -> None:
        if not self._private:
            error = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
            self._answer(request, now_ms, error=error)
            return
        try:
            account = self._keys.token_owner(params.get("token"), now_ms)
            results = self._trading.call(request["method"], account, params, now_ms)
        except SpotRefusal as refusal:
            self._answer(request, now_ms, error=refusal.error)
            return
        for result in results:
            if isinstance(result, SpotRefusal):
                self._answer(request, now_ms, error=result.error)
            else:
                self._answer(request, now_ms, result=result)

    def _subscription(self, request: dict[str, Any], params: dict[str, Any], now_ms: int, *, on: bool) -> None:
        channel = str(params.get("channel"))
        known = _FIELDS.get(channel)
        if known is None:
            self._answer(request, now_ms, error="Symbol(s) not found" if channel == "status" else "Channel not found")
            return
        if self._unified and params.get("asset_class") != "derivatives":
            self._answer(request, now_ms, error="EGeneral:Invalid arguments:asset_class")
            return
        for name in params:
            if name not in known and not (self._unified and name == "asset_class"):
                error = f"Unsupported field: '{name}' for the given msg type: {request['method']} {channel}"
                self._answer(request, now_ms, error=error)
                return
        if (channel in _PRIVATE) != self._private:
            error = "Public market data subscriptions are unavailable on this endpoint. Try ws.kraken.com"
            if channel in _PRIVATE:
                error = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
            self._answer(request, now_ms, error=error)
        elif channel in _PRIVATE:
            self._account(request, channel, params, now_ms, on=on)
        elif channel == "instrument":
            self._instruments(request, params, now_ms, on=on)
        else:
            self._market(request, channel, params, now_ms, on=on)

    # --- market data ---

    def _market(self, request: dict[str, Any], channel: str, params: dict[str, Any], now_ms: int, *, on: bool) -> None:
        symbols = params.get("symbol")
        if not isinstance(symbols, list) or not symbols:
            self._answer(request, now_ms, error="EGeneral:Invalid arguments:symbol")
            return
        option: str | int = ""
        if channel == "book":
            option = params.get("depth", 10)
            if type(option) is not int or option not in DEPTHS:
                self._answer(request, now_ms, error="Subscription depth not supported")
                return
        elif channel == "ticker":
            option = params.get("event_trigger", "trades")
            if option not in ("trades", "bbo"):
                self._answer(request, now_ms, error="EGeneral:Invalid arguments:event_trigger")
                return
        for symbol in symbols:
            listing = self._listing(symbol)
            if listing is None:
                error = f"Currency pair not supported {symbol}"
                self._answer(request, now_ms, error=error, symbol=symbol)
            elif on:
                self._join(request, channel, listing, option, params, now_ms)
            else:
                self._leave(request, channel, listing, option, now_ms)

    def _listing(self, symbol: Any) -> SpotListing | None:
        if not isinstance(symbol, str):
            return None
        return self._catalogue.unified.get(symbol) if self._unified else self._catalogue.stream_pair(symbol)

    def _join(
        self,
        request: dict[str, Any],
        channel: str,
        listing: SpotListing,
        option: str | int,
        params: dict[str, Any],
        now_ms: int,
    ) -> None:
        if (channel, listing.id) in self._markets:
            self._answer(request, now_ms, error="Already subscribed", symbol=listing.symbol)
            return
        snapshot = params.get("snapshot", channel != "trade")
        self._markets[channel, listing.id] = (listing, option)
        feed = self._hub.join(channel, listing, option, self)
        self._answer(request, now_ms, result=self._echo(channel, listing, option) | {"snapshot": snapshot})
        frame = feed.snapshot() if snapshot is not False else None
        if frame is not None:
            self.deliver(frame)

    def _leave(
        self, request: dict[str, Any], channel: str, listing: SpotListing, option: str | int, now_ms: int
    ) -> None:
        """The subscription ends only if its depth is repeated."""
        known = self._markets.get((channel, listing.id))
        if known is None or known[1] != option:
            self._answer(request, now_ms, error="Subscription Not Found", symbol=listing.symbol)
            return
        del self._markets[channel, listing.id]
        self._hub.leave(channel, listing, option, self)
        self._answer(request, now_ms, result=self._echo(channel, listing, option))

    @staticmethod
    def _echo(channel: str, listing: SpotListing, option: str | int) -> dict[str, Any]:
        echo: dict[str, Any] = {"channel": channel, "symbol": listing.symbol}
        if channel == "book":
            echo["depth"] = option
        elif channel == "ticker":
            echo["event_trigger"] = option
        return echo

    def _instruments(self, request: dict[str, Any], params: dict[str, Any], now_ms: int, *, on: bool) -> None:
        snapshot = params.get("snapshot", True)
        self._instrument = on
        result: dict[str, Any] = {"channel": "instrument"}
        if on:
            result |= {"snapshot": snapshot, "warnings": ["tick_size is deprecated, use price_increment"]}
        self._answer(request, now_ms, result=result)
        if on and snapshot:
            tokenized = params.get("include_tokenized_assets") is True
            self.deliver(self._hub.instruments(tokenized=tokenized, unified=self._unified))

    # --- the account ---

    def _account(self, request: dict[str, Any], channel: str, params: dict[str, Any], now_ms: int, *, on: bool) -> None:
        try:
            account = self._keys.token_owner(params.get("token"), now_ms)
        except SpotRefusal as refusal:
            self._answer(request, now_ms, error=refusal.error)
            return
        if on == (channel in self._accounts):
            self._answer(request, now_ms, error="Already subscribed" if on else "Subscription Not Found")
            return
        result: dict[str, Any] = {"channel": channel}
        if not on:
            self._leave_account(channel)
            self._answer(request, now_ms, result=result)
            return
        flags = {name: value for name, value in params.items() if isinstance(value, bool)}
        if channel == "executions":
            result["maxratecount"] = int(self._trading.desk.meter.tier(account.settings.get("tier")).orders)
        self._answer(request, now_ms, result=result | flags)
        self._accounts[channel] = (account, params["token"])
        self._keys.hold(params["token"])
        if channel == "executions":
            snapshot = flags.pop("snapshot", True)
            flags.setdefault("snap_orders", snapshot)
            self._users.join_executions(account, self, Options(**flags))
        else:
            self._users.join_balances(account, self, snapshot=flags.get("snapshot", True))

    def _leave_account(self, channel: str) -> None:
        account, token = self._accounts.pop(channel)
        self._keys.release(token)
        if channel == "executions":
            self._users.leave_executions(account, self)
        else:
            self._users.leave_balances(account, self)
