"""The derivatives API of an account: orders, fills, positions, money, settings, history."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from astra.models.orders import OrderStatus
from astra.models.trades import Side
from astra.sandbox import Account, EngineBalance, EngineFill, EngineOrder, EnginePosition, Exchange
from astra_kraken.sandbox.calls import Call, DerivativesRoutes, Endpoint, names
from astra_kraken.sandbox.catalogue import Catalogue, DerivativesListing, altname_of
from astra_kraken.sandbox.derivatives_events import ZERO, fill_uid, order_uid, side_text, tag_of, waits
from astra_kraken.sandbox.derivatives_orders import DerivativesDesk, check_process_before
from astra_kraken.sandbox.derivatives_public import PREFIX
from astra_kraken.sandbox.wire import (
    DerivativesRefusal,
    Params,
    at_least,
    decode_json,
    millis,
    number,
    parse_time,
    rounded,
)

_SEND = names(
    "orderType symbol side size limitPrice stopPrice triggerSignal reduceOnly cliOrdId trailingStopMaxDeviation "
    "trailingStopDeviationUnit limitPriceOffsetValue limitPriceOffsetUnit processBefore broker"
)
_EDIT = names("orderId order_id cliOrdId size limitPrice stopPrice qtyMode processBefore")
_CANCEL = names("order_id cliOrdId processBefore")
_LISTED = 100
_STATUS_FOR_MS = 5000
"""`orders/status` knows ended orders for so long."""
_MOST_SENDS, _MOST_CANCELS = 10, 50


def unrealised(listing: DerivativesListing, position: EnginePosition, mark: Decimal) -> Decimal:
    """Profit at the mark price, in the asset that margin is in."""
    if not position.quantity or not position.entry_price:
        return ZERO
    if listing.market.is_inverse:
        return rounded(position.quantity / position.entry_price - position.quantity / mark, 12)
    return rounded(position.quantity * (mark - position.entry_price), 8)


def _batch_cost(params: Params) -> int:
    return 9 + len(_batch_rows(params))


def _batch_rows(params: Params) -> list[Any]:
    """The instructions of `json={"batchOrder": [...]}`."""
    text = params.text("json")
    try:
        body = decode_json(text) if text is not None else None
    except msgspec.DecodeError:
        body = None
    rows = body.get("batchOrder") if isinstance(body, dict) else None
    return rows if isinstance(rows, list) else []


class Wallets:
    """The margin accounts of an account, as REST and the stream show them."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self.engine = engine
        self.catalogue = catalogue
        wallets = {engine.wallet_of(symbol): listing for symbol, listing in catalogue.derivatives.items()}
        self.singles: dict[str, str] = {name: one.wallet_asset for name, one in wallets.items() if name != "flex"}
        """Single-collateral account -> its coin."""

    def held(self, account: Account, wallet: str) -> list[EngineBalance]:
        return [balance for balance in self.engine.balances(account) if balance.wallet == wallet]

    def positions(self, account: Account, wallet: str | None = None) -> list[tuple[DerivativesListing, EnginePosition]]:
        """Open positions (of one wallet)."""
        return [
            (self.catalogue.derivatives[position.market], position)
            for position in self.engine.positions(account)
            if position.market in self.catalogue.derivatives
            and wallet in (None, self.engine.wallet_of(position.market))
        ]

    def profit(self, account: Account, wallet: str) -> Decimal:
        """Unrealised, of all positions of the wallet."""
        return sum(
            (
                unrealised(listing, position, self.engine.mark_price(listing.id))
                for listing, position in self.positions(account, wallet)
            ),
            ZERO,
        )


class DerivativesPrivate:
    def __init__(self, desk: DerivativesDesk, wallets: Wallets) -> None:
        self._desk = desk
        self._wallets = wallets

    def routes(self) -> DerivativesRoutes:
        def mine(handler: Any, accepts: str | frozenset[str] = "", cost: Any = 2, **more: Any) -> Endpoint:
            known = names(accepts) if isinstance(accepts, str) else accepts
            return Endpoint(handler, known, cost, **more)

        def fills_cost(params: Params) -> int:
            return 25 if "lastFillTime" in params else 2

        return {
            ("POST", f"{PREFIX}/sendorder"): mine(self._send, _SEND, 10, command=True),
            ("POST", f"{PREFIX}/editorder"): mine(self._edit, _EDIT, 10, command=True),
            ("POST", f"{PREFIX}/cancelorder"): mine(self._cancel, _CANCEL, 10, command=True),
            ("POST", f"{PREFIX}/batchorder"): mine(self._batch, "json processBefore", _batch_cost, command=True),
            ("POST", f"{PREFIX}/cancelallorders"): mine(self._cancel_all, "symbol", 25, command=True),
            ("POST", f"{PREFIX}/cancelallordersafter"): mine(self._after, "timeout", 25, command=True),
            ("GET", f"{PREFIX}/openorders"): mine(self._open_orders),
            ("POST", f"{PREFIX}/orders/status"): mine(self._status, "orderIds cliOrdIds", 1),
            ("GET", f"{PREFIX}/orders/status"): mine(self._status, "orderIds cliOrdIds", 1),
            ("GET", f"{PREFIX}/fills"): mine(self._fills, "lastFillTime", fills_cost),
            ("GET", f"{PREFIX}/openpositions"): mine(self._positions),
            ("GET", f"{PREFIX}/accounts"): mine(self._accounts),
            ("GET", f"{PREFIX}/leveragepreferences"): mine(self._leverages),
            ("PUT", f"{PREFIX}/leveragepreferences"): mine(self._set_leverage, "symbol maxLeverage", 10),
            ("DELETE", f"{PREFIX}/leveragepreferences"): mine(self._unset_leverage, "symbol", 10),
            ("GET", f"{PREFIX}/pnlpreferences"): mine(self._pnl_preferences),
            ("GET", f"{PREFIX}/notifications"): mine(lambda call: {"notifications": []}),
        }

    # --- commands ---

    def _send(self, call: Call) -> dict[str, Any]:
        return {"sendStatus": self._desk.send(call.account, call.params, call.now_ms)}

    def _edit(self, call: Call) -> dict[str, Any]:
        return {"editStatus": self._desk.edit(call.account, call.params, call.now_ms)}

    def _cancel(self, call: Call) -> dict[str, Any]:
        check_process_before(call.params, call.now_ms)
        uid, client_id = call.params.text("order_id"), call.params.text("cliOrdId")
        status = self._desk.cancel(call.account, uid, client_id, call.now_ms)
        return {"cancelStatus": status}

    def _cancel_all(self, call: Call) -> dict[str, Any]:
        return {"cancelStatus": self._desk.cancel_all(call.account, call.params.text("symbol"), call.now_ms)}

    def _after(self, call: Call) -> dict[str, Any]:
        timeout = call.params.number("timeout")
        if timeout is None or not 0 <= timeout <= 86_400 or timeout % 1:
            raise DerivativesRefusal("invalidArgument: timeout")
        strikes = self._desk.switch.arm(call.account, int(timeout), call.now_ms)
        trigger = "0" if strikes is None else millis(strikes)
        return {"status": {"currentTime": millis(call.now_ms), "triggerTime": trigger}}

    def _batch(self, call: Call) -> dict[str, Any]:
        """Each instruction for itself; the answer tells which by `order_tag`."""
        check_process_before(call.params, call.now_ms)
        rows = _batch_rows(call.params)
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise DerivativesRefusal("Json Parse Error")
        sends = sum(row.get("order") == "send" for row in rows)
        if sends > _MOST_SENDS or len(rows) - sends > _MOST_CANCELS:
            raise DerivativesRefusal("invalidArgument: batchOrder")
        return {"batchStatus": [self._instruct(call, dict(row)) for row in rows]}

    def _instruct(self, call: Call, row: dict[str, Any]) -> dict[str, Any]:
        kind, mark = row.pop("order", None), row.pop("order_tag", None)
        tagged = {} if mark is None else {"order_tag": mark}
        params = Params(row)
        known = {"send": _SEND, "edit": _EDIT, "cancel": _CANCEL}.get(str(kind), frozenset())
        try:
            unknown = params.unknown(known)
            if unknown is not None:
                raise DerivativesRefusal(f"invalidArgument: {unknown}")
            if kind == "send":
                status = self._desk.send(call.account, params, call.now_ms)
            elif kind == "edit":
                status = self._desk.edit(call.account, params, call.now_ms)
            else:
                uid, client_id = params.text("order_id"), params.text("cliOrdId")
                status = self._desk.cancel(call.account, uid, client_id, call.now_ms)
                status.pop("orderEvents", None) if status["status"] != "cancelled" else None
        except DerivativesRefusal as refusal:
            status = {"status": refusal.error.partition(":")[0], "orderEvents": []}
        status.pop("receivedTime", None)
        return tagged | status | {"dateTimeReceived": millis(call.now_ms)}

    # --- look-ups ---

    def open_order_row(self, order: EngineOrder) -> dict[str, Any]:
        listing = self._desk.listing_of(order)
        trigger = waits(order)
        kinds = {"take_profit": "take_profit", "stp": "stop"}
        row: dict[str, Any] = {"order_id": order_uid(order.id)}
        if order.client_order_id is not None:
            row["cliOrdId"] = order.client_order_id
        row |= {
            "symbol": listing.native,
            "side": side_text(order.side),
            "orderType": kinds.get(tag_of(order).kind, "stop") if trigger else "lmt",
        }
        if order.price is not None:
            row["limitPrice"] = number(order.price)
        if trigger:
            row |= {"stopPrice": number(order.stop_price), "triggerSignal": tag_of(order).signal}
        return row | {
            "unfilledSize": number(order.remaining),
            "receivedTime": millis(order.created),
            "status": "partiallyFilled" if order.filled else "untouched",
            "filledSize": number(order.filled),
            "reduceOnly": order.reduce_only,
            "lastUpdateTime": millis(order.updated),
        }

    def _open_orders(self, call: Call) -> dict[str, Any]:
        return {"openOrders": [self.open_order_row(order) for order in reversed(self._desk.open_orders(call.account))]}

    def _status(self, call: Call) -> dict[str, Any]:
        """Orders that are open, or ended within the last five seconds; of others nothing is said."""
        found: dict[int, EngineOrder] = {}
        for name in ("orderIds", "cliOrdIds"):
            given = call.params.get(name)
            for text in given if isinstance(given, list) else [given] if given is not None else []:
                order = self._desk.order(call.account, *((text, None) if name == "orderIds" else (None, text)))
                if order is not None and (order.status.is_open or call.now_ms - order.updated < _STATUS_FOR_MS):
                    found[order.id] = order
        return {"orders": [self._status_row(order) for order in found.values()]}

    def _status_row(self, order: EngineOrder) -> dict[str, Any]:
        trigger = waits(order)
        body: dict[str, Any] = {
            "type": "TRIGGER_ORDER" if trigger else "ORDER",
            "orderId": order_uid(order.id),
            "cliOrdId": order.client_order_id,
            "symbol": self._desk.listing_of(order).native,
            "side": side_text(order.side),
            "quantity": at_least(order.quantity, 0),
            "filled": None if trigger else at_least(order.filled, 0),
            "limitPrice": None if order.price is None else at_least(order.price, 0),
            "reduceOnly": order.reduce_only,
            "timestamp": millis(order.created),
            "lastUpdateTimestamp": millis(order.updated),
        }
        if trigger:
            rises = order.side is Side.BUY
            body["priceTriggerOptions"] = {
                "triggerPrice": number(order.stop_price),
                "triggerSide": "TRIGGER_ABOVE" if rises else "TRIGGER_BELOW",
                "triggerSignal": f"{tag_of(order).signal.upper()}_PRICE",
            }
        status = {OrderStatus.FILLED: "FULLY_EXECUTED", OrderStatus.CANCELED: "CANCELLED"}.get(order.status)
        if status is None:
            status = ("TRIGGER_PLACED" if trigger else "ENTERED_BOOK") if order.status.is_open else "CANCELLED"
            if not order.status.is_open and not order.filled:
                status = "REJECTED"
        return {"order": body, "status": status, "updateReason": None, "error": None}

    def _fills(self, call: Call) -> dict[str, Any]:
        """The last 100 (up to `lastFillTime`), newest first; without fees."""
        before = call.params.text("lastFillTime")
        limit = None if before is None else parse_time(before)
        if before is not None and limit is None:
            raise DerivativesRefusal("invalidArgument: lastFillTime")
        fills = [fill for fill in self._desk.fills(call.account) if limit is None or fill.time < limit]
        return {"fills": [self._fill_row(call.account, fill) for fill in reversed(fills[-_LISTED:])]}

    def _fill_row(self, account: Account, fill: EngineFill) -> dict[str, Any]:
        row = {
            "fill_id": fill_uid(fill),
            "symbol": self._desk.catalogue.derivatives[fill.market].native,
            "side": side_text(fill.side),
            "order_id": order_uid(fill.order_id),
            "size": number(fill.quantity),
            "price": number(fill.price),
            "fillTime": millis(fill.time),
            "fillType": fill.liquidity.value.lower(),
        }
        client_id = self._desk.engine.order(account, order_id=fill.order_id).client_order_id
        return row if client_id is None else row | {"cliOrdId": client_id}

    def _positions(self, call: Call) -> dict[str, Any]:
        rows = []
        preferences = call.account.settings.get("isolated", {})
        for listing, position in self._wallets.positions(call.account):
            row: dict[str, Any] = {
                "side": "long" if position.quantity > 0 else "short",
                "symbol": listing.native,
                "price": number(position.entry_price),
                "fillTime": millis(call.now_ms),
                "size": number(abs(position.quantity)),
                "unrealizedFunding": 0.0,
            }
            if not listing.market.is_inverse:
                row["pnlCurrency"] = "USD"
                if listing.id in preferences:
                    row["maxFixedLeverage"] = number(preferences[listing.id])
            rows.append(row)
        return {"openPositions": rows}

    # --- money ---

    def _accounts(self, call: Call) -> dict[str, Any]:
        accounts: dict[str, Any] = {"cash": {"type": "cashAccount", "balances": {}}}
        for wallet, coin in self._wallets.singles.items():
            accounts[wallet] = self._single(call.account, wallet, coin)
        accounts["flex"] = self._flex(call.account)
        return {"accounts": accounts}

    def _single(self, account: Account, wallet: str, coin: str) -> dict[str, Any]:
        """A single-collateral account: its balances mix the coin and positions."""
        total, locked = _sums(self._wallets.held(account, wallet))
        profit = self._wallets.profit(account, wallet)
        name = altname_of(coin).lower()
        balances: dict[str, Any] = {
            listing.native: number(position.quantity) for listing, position in self._wallets.positions(account, wallet)
        }
        balances[name] = number(total)
        none = {"im": 0, "mm": 0, "lt": 0, "tt": 0}
        return {
            "type": "marginAccount",
            "currency": name,
            "balances": balances,
            "auxiliary": {
                "pv": number(total + profit),
                "pnl": number(profit),
                "af": number(total - locked),
                "funding": 0.0,
            },
            "marginRequirements": none | {"im": number(locked)},
            "triggerEstimates": none,
        }

    def _flex(self, account: Account) -> dict[str, Any]:
        held = self._wallets.held(account, "flex")
        total, locked = _sums(held)
        profit = self._wallets.profit(account, "flex")
        return {
            "type": "multiCollateralMarginAccount",
            "currencies": {
                altname_of(balance.asset): {
                    "quantity": number(balance.total),
                    "value": number(balance.total),
                    "collateralValue": number(balance.total),
                    "available": number(balance.available),
                }
                for balance in held
            },
            "balanceValue": number(total),
            "portfolioValue": number(total + profit),
            "collateralValue": number(total),
            "initialMargin": number(locked),
            "initialMarginWithOrders": number(locked),
            "maintenanceMargin": number(locked / 2),
            "pnl": number(profit),
            "unrealizedFunding": 0,
            "totalUnrealized": number(profit),
            "totalUnrealizedAsMargin": number(profit),
            "marginEquity": number(total + profit),
            "availableMargin": number(total - locked),
        }

    # --- settings ---

    def _linear(self, call: Call) -> DerivativesListing:
        """The contract of a preference: PF_ and FF_ only."""
        listing = self._desk.catalogue.contract(call.params.text("symbol") or "")
        if listing is None:
            raise DerivativesRefusal("contractNotFound")
        if listing.market.is_inverse:
            raise DerivativesRefusal("invalidArgument: symbol")
        return listing

    def _leverages(self, call: Call) -> dict[str, Any]:
        """Contracts with a leverage of their own are isolated; all others cross."""
        return {
            "leveragePreferences": [
                {"symbol": self._desk.catalogue.derivatives[symbol].native, "maxLeverage": number(leverage)}
                for symbol, leverage in call.account.settings.get("isolated", {}).items()
            ]
        }

    def _set_leverage(self, call: Call) -> dict[str, Any]:
        listing, leverage = self._linear(call), call.params.number("maxLeverage")
        if "maxLeverage" not in call.params:
            return self._unset_leverage(call)
        if leverage is None or not 1 <= leverage <= 50:
            raise DerivativesRefusal("invalidArgument: maxLeverage")
        for name in ("isolated", "leverage"):
            call.account.settings.setdefault(name, {})[listing.id] = leverage
        return {}

    def _unset_leverage(self, call: Call) -> dict[str, Any]:
        listing = self._linear(call)
        for name in ("isolated", "leverage"):
            call.account.settings.get(name, {}).pop(listing.id, None)
        return {}

    def _pnl_preferences(self, call: Call) -> dict[str, Any]:
        return {"preferences": []}


def _sums(held: Sequence[EngineBalance]) -> tuple[Decimal, Decimal]:
    return sum((one.total for one in held), ZERO), sum((one.locked for one in held), ZERO)
