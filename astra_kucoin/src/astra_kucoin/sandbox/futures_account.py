"""Classic futures: balances, positions, fees, leverage, margin and position modes."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from astra.models.orders import PositionSide
from astra.sandbox import Account, EngineBalance, EnginePosition, Exchange
from astra.sandbox.toolkit import plain
from astra_kucoin.sandbox.calls import CLASSIC, Call, Endpoint, Routes, names
from astra_kucoin.sandbox.catalogue import Catalogue, Listing, asset_of
from astra_kucoin.sandbox.wire import FUTURES, Refusal, double, whole

ZERO = Decimal(0)
HOST = "futures_rest"
_DEFAULT_LEVERAGE = Decimal(20)
"""What the engine takes where nothing is set."""
_MODES = {"ISOLATED": "ISOLATED", "CROSS": "CROSS"}
_MARGIN = Decimal("1E-8")


def margin_mode(account: Account, listing: Listing) -> str:
    """ISOLATED unless it was switched."""
    return str(account.settings.get("margin_modes", {}).get(listing.symbol, "ISOLATED"))


def leverage_of(account: Account, listing: Listing) -> Decimal:
    return Decimal(account.settings.get("leverage", {}).get(listing.symbol, _DEFAULT_LEVERAGE))


def leverage_text(account: Account, listing: Listing) -> str:
    return plain(leverage_of(account, listing))


def set_leverage(account: Account, listing: Listing, leverage: Decimal) -> None:
    account.settings.setdefault("leverage", {})[listing.symbol] = leverage


def profit(listing: Listing, position: EnginePosition, mark: Decimal) -> Decimal:
    """What is not realised yet, in the settlement asset."""
    size = position.quantity * listing.multiplier
    if listing.market.is_inverse:
        gain = size / position.entry_price - size / mark
    else:
        gain = size * (mark - position.entry_price)
    return gain.quantize(_MARGIN)


def position_id(account: Account, listing: Listing, side: PositionSide | None) -> str:
    """18 digits, the same as long as the contract is listed."""
    number = sum(ord(letter) * 31**index for index, letter in enumerate(account.name + listing.native)) % 10**12
    return str(500_000_000_000_000_000 + number + (0 if side is None else 1 if side is PositionSide.LONG else 2))


class FuturesAccount:
    """What a classic futures account holds and how it is set."""

    def __init__(self, engine: Exchange, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self.configured: Callable[[Account, str, dict[str, Any]], None] = lambda account, topic, data: None
        """Hears that a setting of a contract was changed."""

    def routes(self) -> Routes:
        def look(handler: Any, accepts: str, weight: int = 2, permission: str = "Futures") -> Endpoint:
            return Endpoint(handler, names(accepts), "FUTURES", weight, permission, CLASSIC)

        def change(handler: Any, accepts: str) -> Endpoint:
            return Endpoint(handler, names(accepts), "FUTURES", 2, "Futures", CLASSIC, in_body=True)

        table = {
            ("GET", "/api/v1/account-overview"): look(self._overview, "currency", 5),
            ("GET", "/api/v1/positions"): look(self._positions, "currency"),
            ("GET", "/api/v1/position"): look(self._position, "symbol"),
            ("GET", "/api/v2/position"): look(self._position_list, "symbol"),
            ("GET", "/api/v1/trade-fees"): look(self._fees, "symbol", 3, "General"),
            ("GET", "/api/v2/position/getMarginMode"): look(self._margin_mode, "symbol"),
            ("POST", "/api/v2/position/changeMarginMode"): change(self._set_margin_mode, "symbol marginMode"),
            ("GET", "/api/v2/getCrossUserLeverage"): look(self._leverage, "symbol"),
            ("POST", "/api/v2/changeCrossUserLeverage"): change(self._set_leverage, "symbol leverage"),
            ("GET", "/api/v2/position/getPositionMode"): look(self._position_mode, ""),
            ("POST", "/api/v2/position/switchPositionMode"): change(self._set_position_mode, "positionMode"),
            ("GET", "/api/v2/getMaxOpenSize"): look(self._max_open, "symbol price leverage"),
        }
        return {(HOST, method, path): endpoint for (method, path), endpoint in table.items()}

    # --- balances ---

    def balance_of(self, account: Account, asset: str) -> EngineBalance:
        for balance in self._engine.balances(account):
            if balance.wallet == FUTURES and balance.asset == asset:
                return balance
        return EngineBalance(FUTURES, asset, ZERO, ZERO)

    def unrealised(self, account: Account, asset: str) -> Decimal:
        """Of all positions that are settled in the asset."""
        found = ZERO
        for position in self._engine.positions(account):
            listing = self._catalogue.of_symbol(position.market)
            if listing.product == FUTURES and asset_of(listing.settle) == asset:
                found += profit(listing, position, self._engine.mark_price(listing.symbol))
        return found

    def position_margin(self, account: Account, asset: str) -> Decimal:
        found = ZERO
        for position in self._engine.positions(account):
            listing = self._catalogue.of_symbol(position.market)
            if listing.product == FUTURES and asset_of(listing.settle) == asset:
                found += self.margin_of(account, listing, position)
        return found

    def margin_of(self, account: Account, listing: Listing, position: EnginePosition) -> Decimal:
        """Initial margin at entry."""
        worth = listing.value(position.entry_price, abs(position.quantity))
        return (worth / leverage_of(account, listing)).quantize(_MARGIN)

    def _overview(self, call: Call) -> dict[str, Any]:
        code = call.params.text("currency") or "XBT"
        asset = asset_of(code)
        if code == "BTC":  # futures know it as XBT only
            raise call.params.bad("currency is invalid")
        balance = self.balance_of(call.account, asset)
        held, gain = self.position_margin(call.account, asset), self.unrealised(call.account, asset)
        return {
            "accountEquity": double(balance.total + gain),
            "unrealisedPNL": double(gain),
            "marginBalance": double(balance.total),
            "positionMargin": double(min(held, balance.locked)),
            "orderMargin": double(max(ZERO, balance.locked - held)),
            "frozenFunds": double(ZERO),
            "availableBalance": double(balance.available),
            "currency": code,
            "riskRatio": double(ZERO),
            "maxWithdrawAmount": double(balance.available),
        }

    def _fees(self, call: Call) -> dict[str, str]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        maker, taker = self._engine.fee_rates(listing.symbol)
        return {"symbol": listing.native, "takerFeeRate": plain(taker), "makerFeeRate": plain(maker)}

    # --- positions ---

    def _positions(self, call: Call) -> list[dict[str, Any]]:
        currency = call.params.text("currency")
        rows = []
        for position in self._engine.positions(call.account):
            listing = self._catalogue.of_symbol(position.market)
            if currency in (None, listing.settle):
                rows.append(self.position_row(call.account, listing, position, call.now_ms))
        return rows

    def _position_list(self, call: Call) -> list[dict[str, Any]]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        held = [position for position in self._engine.positions(call.account) if position.market == listing.symbol]
        return [self.position_row(call.account, listing, position, call.now_ms) for position in held]

    def _position(self, call: Call) -> dict[str, Any]:
        rows = self._position_list(call)
        if rows:
            return rows[0]
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        empty = EnginePosition(listing.symbol, None, ZERO, ZERO)
        return self.position_row(call.account, listing, empty, call.now_ms)

    def position_row(self, account: Account, listing: Listing, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        """Values of inverse contracts are in the coin, and negative for a long. A CROSS row has fewer keys."""
        inverse, size = listing.market.is_inverse, position.quantity
        mark, leverage = self._engine.mark_price(listing.symbol), leverage_of(account, listing)
        sign = (-1 if inverse else 1) * (1 if size >= 0 else -1)
        cost = sign * listing.value(position.entry_price, abs(size)) if size else ZERO
        value = sign * listing.value(mark, abs(size))
        gain = profit(listing, position, mark) if size else ZERO
        margin = self.margin_of(account, listing, position) if size else ZERO
        cross = margin_mode(account, listing) == "CROSS"
        row: dict[str, Any] = {
            "id": position_id(account, listing, position.side),
            "symbol": listing.native,
            "crossMode": cross,
            "delevPercentage": double(Decimal("0.5")),
            "openingTimestamp": now_ms,
            "currentTimestamp": now_ms,
            "currentQty": whole(size),
            "currentCost": double(_money(cost)),
            "currentComm": double(ZERO),
            "unrealisedCost": double(_money(cost)),
            "realisedGrossCost": double(ZERO),
            "realisedCost": double(ZERO),
            "isOpen": bool(size),
            "markPrice": double(mark),
            "markValue": double(_money(value)),
            "posCost": double(_money(cost)),
            "posInit": double(margin),
            "posMargin": double(margin),
            "realisedGrossPnl": double(position.realized_pnl),
            "realisedPnl": double(position.realized_pnl),
            "unrealisedPnl": double(gain),
            "unrealisedPnlPcnt": double(_ratio(gain, abs(cost))),
            "unrealisedRoePcnt": double(_ratio(gain, margin)),
            "avgEntryPrice": double(position.entry_price),
            "liquidationPrice": double(ZERO),
            "bankruptPrice": double(ZERO),
            "settleCurrency": listing.settle,
            "isInverse": inverse,
            "marginMode": "CROSS" if cross else "ISOLATED",
            "positionSide": "BOTH" if position.side is None else position.side.value,
            "leverage": double(leverage),
        }
        if not cross:
            row |= {
                "autoDeposit": False,
                "maintMarginReq": double(Decimal("0.004")),
                "riskLimit": 500000,
                "realLeverage": double(leverage),
                "posCross": double(ZERO),
                "posCrossMargin": double(ZERO),
                "posComm": double(ZERO),
                "posCommCommon": double(ZERO),
                "posLoss": double(ZERO),
                "posFunding": double(ZERO),
                "posMaint": double(ZERO),
                "maintMargin": double(margin + gain),
                "maintainMargin": double(Decimal("0.004")),
            }
        return row

    # --- settings ---

    def _margin_mode(self, call: Call) -> dict[str, str]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        return {"symbol": listing.native, "marginMode": margin_mode(call.account, listing)}

    def _set_margin_mode(self, call: Call) -> dict[str, str]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        mode = call.params.choice("marginMode", _MODES)
        if mode != margin_mode(call.account, listing):
            self._check_idle(call.account, listing)
        call.account.settings.setdefault("margin_modes", {})[listing.symbol] = mode
        self.configured(call.account, "/contract/marginMode", {listing.native: mode})
        return {"symbol": listing.native, "marginMode": mode}

    def _check_idle(self, account: Account, listing: Listing | None) -> None:
        """Modes change only where there is neither order nor position."""
        symbol = None if listing is None else listing.symbol
        busy = [p.market for p in self._engine.positions(account)]
        busy += [o.market for o in self._engine.open_orders(account)]
        for market in busy:
            if self._engine.markets[market].product == FUTURES and symbol in (None, market):
                raise Refusal("300012", "There are open orders or positions: the mode cannot be switched.")

    def _leverage(self, call: Call) -> dict[str, str]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        return {"symbol": listing.native, "leverage": leverage_text(call.account, listing)}

    def _set_leverage(self, call: Call) -> bool:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        leverage = call.params.decimal("leverage")
        if leverage is None or not 1 <= leverage <= 125:
            raise Refusal("300016", "The leverage is invalid.")
        set_leverage(call.account, listing, leverage)
        told = {listing.native: {"leverage": plain(leverage)}}
        self.configured(call.account, "/contract/crossLeverage", told)
        return True

    def _position_mode(self, call: Call) -> dict[str, int]:
        return {"positionMode": int(call.account.hedge_mode)}

    def _set_position_mode(self, call: Call) -> dict[str, int]:
        hedged = call.params.choice("positionMode", {"0": False, "1": True})
        if hedged is not call.account.hedge_mode:
            self._check_idle(call.account, None)
            call.account.hedge_mode = hedged
        return {"positionMode": int(hedged)}

    def _max_open(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.need(FUTURES, call.params.need("symbol"))
        price, leverage = call.params.decimal("price"), call.params.decimal("leverage")
        if not price or not leverage:
            raise call.params.bad("price and leverage are required")
        free = self.balance_of(call.account, asset_of(listing.settle)).available
        lots = whole(free * leverage / listing.value(price, Decimal(1)))
        return {"symbol": listing.native, "maxBuyOpenSize": lots, "maxSellOpenSize": lots}


def _money(value: Decimal) -> Decimal:
    return round(value, 10)


def _ratio(part: Decimal, whole_value: Decimal) -> Decimal:
    return round(part / whole_value, 4) if whole_value else ZERO
