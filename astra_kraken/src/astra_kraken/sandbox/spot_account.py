"""Spot: `/0/private`, money, fees, tokens."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from astra.sandbox import Account, EngineBalance
from astra.sandbox.toolkit import fixed
from astra_kraken.sandbox.calls import Call, Endpoint, SpotRoutes, names
from astra_kraken.sandbox.catalogue import asset_key, asset_scale
from astra_kraken.sandbox.keys import Keys
from astra_kraken.sandbox.markets import SPOT
from astra_kraken.sandbox.spot_orders import ZERO, SpotDesk
from astra_kraken.sandbox.wire import SpotRefusal, at_least

_PERMISSIONS = [
    "query-funds",
    "query-open-trades",
    "query-closed-trades",
    "modify-trades",
    "close-trades",
    "query-ledger",
    "create-ws-token",
]


class SpotAccount:
    def __init__(self, desk: SpotDesk, keys: Keys) -> None:
        self._desk = desk
        self._keys = keys

    def routes(self) -> SpotRoutes:
        listed: dict[str, tuple[Any, str]] = {
            "Balance": (self._balance, "assetVersion rebase_multiplier"),
            "BalanceEx": (self._balance_ex, "assetVersion rebase_multiplier"),
            "TradeBalance": (self._trade_balance, "asset rebase_multiplier"),
            "OpenPositions": (self._positions, "txid docalcs consolidation rebase_multiplier"),
            "TradeVolume": (self._volume, "pair fee-info fee_schedule rebase_multiplier"),
            "GetWebSocketsToken": (self._token, ""),
            "GetApiKeyInfo": (self._key_info, ""),
        }
        return {name: Endpoint(handler, names(accepts)) for name, (handler, accepts) in listed.items()}

    def spot_balances(self, account: Account) -> list[EngineBalance]:
        return [held for held in self._desk.engine.balances(account) if held.wallet == SPOT]

    def _balance(self, call: Call) -> dict[str, Any]:
        name = str if call.params.text("assetVersion") == "1" else asset_key
        return {
            name(held.asset): at_least(held.total, asset_scale(held.asset)) for held in self.spot_balances(call.account)
        }

    def _balance_ex(self, call: Call) -> dict[str, Any]:
        name = str if call.params.text("assetVersion") == "1" else asset_key
        return {
            name(held.asset): {
                "balance": at_least(held.total, asset_scale(held.asset)),
                "hold_trade": at_least(held.locked, asset_scale(held.asset)),
            }
            for held in self.spot_balances(call.account)
        }

    def _trade_balance(self, call: Call) -> dict[str, Any]:
        """Nothing is borrowed here: equity is what the account has in dollars."""
        dollars = sum((held.total for held in self.spot_balances(call.account) if held.asset == "USD"), ZERO)
        worth = fixed(dollars, 4)
        none = fixed(ZERO, 4)
        return {"eb": worth, "tb": worth, "m": none, "n": none, "c": none, "v": none, "e": worth, "mf": worth}

    def _positions(self, call: Call) -> Any:
        """Spot margin is not offered here: there never is a position."""
        return [] if call.params.text("consolidation") == "market" else {}

    def _volume(self, call: Call) -> dict[str, Any]:
        """Fees in per cent, of pairs and (class `derivatives`) of contracts."""
        body: dict[str, Any] = {"currency": "ZUSD", "volume": "0.0000"}
        wanted = call.params.get("pair")
        if wanted is None:
            return body
        fees, fees_maker = {}, {}
        for entry in wanted if isinstance(wanted, list) else str(wanted).split(","):
            name, symbol = self._fee_market(entry)
            maker, taker = self._desk.engine.fee_rates(symbol)
            fees[name], fees_maker[name] = _fee_row(taker), _fee_row(maker)
        return body | {"fees": fees, "fees_maker": fees_maker}

    def _fee_market(self, entry: Any) -> tuple[str, str]:
        """(name in the answer, Astra symbol) of what TradeVolume is asked about."""
        text = str(entry.get("asset")) if isinstance(entry, dict) else str(entry)
        listing = self._desk.catalogue.spot_pair(text)
        if listing is not None:
            return listing.key, listing.id
        contract = self._desk.catalogue.contract(text)
        if contract is None:
            raise SpotRefusal("EQuery:Unknown asset pair")
        return contract.native, contract.id

    def _token(self, call: Call) -> dict[str, Any]:
        life_s = self._desk.meter.limits.token_life_ms // 1000
        return {"token": self._keys.make_token(call.account, call.now_ms), "expires": life_s}

    def _key_info(self, call: Call) -> dict[str, Any]:
        return {
            "api_key_name": call.account.name,
            "api_key": call.account.key,
            "nonce": str(self._keys.last_nonce(call.account)),
            "nonce_window": "0",
            "permissions": _PERMISSIONS,
            "iban": "",
            "valid_until": "0",
            "query_from": "0",
            "query_to": "0",
            "created_time": "1522132642",
            "modified_time": "1618230358",
            "ip_allowlist": [],
            "last_used": str(call.now_ms // 1000),
        }


def _fee_row(rate: Decimal) -> dict[str, Any]:
    text = fixed(rate * 100, 4)
    return {
        "fee": text,
        "minfee": text,
        "maxfee": text,
        "nextfee": None,
        "nextvolume": None,
        "tiervolume": "0.0000",
    }
