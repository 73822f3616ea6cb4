"""Classic spot beside the orders: balances, fees, the dead man's switch."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from astra.sandbox import Account
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import CLASSIC, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.orders import OrderDesk
from astra_kucoin.sandbox.wire import SPOT

ZERO = Decimal(0)
HOST = "spot_rest"
_LONGEST_TIMEOUT_S = 86_400


class Countdown(msgspec.Struct):
    """The dead man's switch of an account: at `trigger_ms` its orders are cancelled."""

    account: Account
    timeout_s: int
    symbols: tuple[str, ...]
    trigger_ms: int
    product: str = SPOT


class SpotAccount:
    """What a classic spot account holds, pays, and what happens when its client falls silent."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._catalogue = desk.catalogue
        self._countdowns: dict[tuple[str, str], Countdown] = {}

    def routes(self) -> Routes:
        def look(handler: Any, accepts: str, weight: int = 2, pool: str = "SPOT") -> Endpoint:
            return Endpoint(handler, names(accepts), pool, weight, "General", CLASSIC)

        dead = "/api/v1/hf/orders/dead-cancel-all"
        table: dict[tuple[str, str], Endpoint] = {
            ("POST", dead): Endpoint(
                self._set_countdown, names("timeout symbols"), "SPOT", 2, "Spot", CLASSIC, command=True, in_body=True
            ),
            ("GET", f"{dead}/query"): look(self._countdown, ""),
            ("GET", "/api/v1/accounts"): look(self._balances, "currency type", 5, "MANAGEMENT"),
            ("GET", "/api/v1/trade-fees"): look(self._fees, "symbols", 3),
            ("GET", "/api/v1/base-fee"): look(self._base_fee, "currencyType", 3),
            ("GET", "/api/v1/user/api-key"): Endpoint(self._key, frozenset(), "MANAGEMENT", 20, "General"),
            ("GET", "/api/v1/hf/accounts/opened"): Endpoint(
                lambda call: True, frozenset(), "MANAGEMENT", 30, "General"
            ),
        }
        return {(HOST, method, path): endpoint for (method, path), endpoint in table.items()}

    # --- the dead man's switch ---

    def _set_countdown(self, call: Call) -> Any:
        timeout = call.params.integer("timeout")
        symbols = tuple(name for name in (call.params.text("symbols") or "").split(",") if name)
        if timeout is None or (timeout != -1 and not 5 <= timeout <= _LONGEST_TIMEOUT_S):
            raise call.params.bad("timeout must be -1 or 5 to 86400 seconds")
        if len(symbols) > 50:
            raise call.params.bad("symbols: at most 50")
        for name in symbols:
            self._catalogue.need(SPOT, name)
        return self.start_countdown(Countdown(call.account, timeout, symbols, call.now_ms + timeout * 1000), call)

    def start_countdown(self, countdown: Countdown, call: Call) -> Any:
        """Start, or with a timeout of -1 stop; each call starts anew."""
        key = (countdown.account.name, countdown.product)
        if countdown.timeout_s == -1:
            self._countdowns.pop(key, None)
            return None
        self._countdowns[key] = countdown
        return {"currentTime": call.now_ms // 1000, "triggerTime": countdown.trigger_ms // 1000}

    def countdown_of(self, account: Account, product: str) -> Countdown | None:
        return self._countdowns.get((account.name, product))

    def _countdown(self, call: Call) -> Any:
        found = self.countdown_of(call.account, SPOT)
        if found is None:
            return None
        return {
            "timeout": found.timeout_s,
            "symbols": ",".join(found.symbols),
            "currentTime": call.now_ms // 1000,
            "triggerTime": found.trigger_ms // 1000,
        }

    def run_countdowns(self, now_ms: int) -> None:
        for key, countdown in list(self._countdowns.items()):
            if now_ms < countdown.trigger_ms:
                continue
            del self._countdowns[key]
            for order in self._desk.open_orders(countdown.account, countdown.product):
                listing = self._catalogue.of_symbol(order.market)
                if not countdown.symbols or listing.native in countdown.symbols:
                    self._desk.cancel(countdown.account, listing, order)

    # --- money ---

    def _balances(self, call: Call) -> list[dict[str, Any]]:
        currency = call.params.text("currency")
        wanted = (
            call.params.choice("type", {"trade": True, "main": False, "margin": False})
            if ("type" in call.params)
            else True
        )
        if not wanted:
            return []
        return [
            {
                "id": account_id(call.account, balance.asset),
                "currency": balance.asset,
                "type": "trade",
                "balance": plain(balance.total),
                "available": plain(balance.available),
                "holds": plain(balance.locked),
            }
            for balance in self._engine.balances(call.account)
            if balance.wallet == SPOT and currency in (None, balance.asset)
        ]

    def _fees(self, call: Call) -> list[dict[str, Any]]:
        symbols = call.params.need("symbols").split(",")
        if len(symbols) > 10:
            raise call.params.bad("symbols: at most 10")
        rows = []
        for name in symbols:
            maker, taker = self._engine.fee_rates(self._catalogue.need(SPOT, name).symbol)
            rows.append({"symbol": name, "takerFeeRate": plain(taker), "makerFeeRate": plain(maker)})
        return rows

    def _base_fee(self, call: Call) -> dict[str, Any]:
        listing = next(iter(self._catalogue.all(SPOT)), None)
        maker, taker = self._engine.fee_rates(listing.symbol) if listing else (ZERO, ZERO)
        return {"takerFeeRate": plain(taker), "makerFeeRate": plain(maker)}

    def _key(self, call: Call) -> dict[str, Any]:
        account = call.account
        allowed = account.settings.get("permissions", ["General", "Spot", "Futures", "Unified"])
        return {
            "remark": account.name,
            "apiKey": account.key,
            "apiVersion": 3,
            "permission": ",".join(allowed),
            "ipWhitelist": "",
            "createdAt": 1_700_000_000_000,
            "uid": int(account_id(account, "")),
            "isMaster": True,
        }


def user_id(account: Account) -> str:
    """24 hexadecimal digits, the same for an account always."""
    return account.name.encode().hex()[:24].rjust(24, "0")


def account_id(account: Account, asset: str) -> str:
    return str(
        500_000_000_000 + sum(ord(letter) * 31**index for index, letter in enumerate(account.name + asset)) % 10**9
    )
