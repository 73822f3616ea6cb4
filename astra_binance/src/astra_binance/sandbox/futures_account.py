"""Balances, positions, modes, fees and the dead-man switch of USD-M and COIN-M."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from astra.models.orders import PositionSide
from astra.sandbox import Account, EngineBalance, EnginePosition, Exchange
from astra.sandbox.toolkit import fixed, plain
from astra_binance.sandbox.calls import Call, Endpoint, Routes, Security, names
from astra_binance.sandbox.catalogue import Catalogue, Listing
from astra_binance.sandbox.futures_rest import FuturesOrders, position_side_text
from astra_binance.sandbox.orders import OrderDesk
from astra_binance.sandbox.wire import Family, Refusal, illegal

_DEFAULT_LEVERAGE = 20
_MOST_LEVERAGE = 125
ZERO = Decimal(0)


class FuturesAccount:
    """What an account has and how it is set up."""

    def __init__(self, desk: OrderDesk, orders: FuturesOrders, catalogue: Catalogue) -> None:
        self._desk = desk
        self._engine: Exchange = desk.engine
        self._orders = orders
        self._catalogue = catalogue
        self._countdowns: dict[tuple[str, str], tuple[int, Account]] = {}

    def routes(self) -> Routes:
        routes: dict[tuple[Family, str, str], Endpoint] = {}
        usdm, coinm, symbol = Family.USDM, Family.COINM, names("symbol")

        def read(handler: Callable[[Call], Any], accepts: frozenset[str] = frozenset(), weight: int = 5) -> Endpoint:
            return Endpoint(handler, accepts, weight=weight, security=Security.SIGNED)

        for version in ("v2", "v3"):
            routes[usdm, "GET", f"/fapi/{version}/balance"] = read(self._balances)
            routes[usdm, "GET", f"/fapi/{version}/account"] = read(self._account)
        routes[usdm, "GET", "/fapi/v3/positionRisk"] = read(self._position_risk_v3, symbol)
        for version in ("v1", "v2"):
            routes[usdm, "GET", f"/fapi/{version}/positionRisk"] = read(self._position_risk, symbol)
        routes[usdm, "GET", "/fapi/v1/symbolConfig"] = read(self._symbol_config, symbol)
        routes[coinm, "GET", "/dapi/v1/balance"] = read(self._balances, weight=1)
        routes[coinm, "GET", "/dapi/v1/account"] = read(self._account)
        routes[coinm, "GET", "/dapi/v1/positionRisk"] = read(self._position_risk, names("marginAsset pair"), 1)
        routes[coinm, "GET", "/dapi/v2/leverageBracket"] = read(self._brackets, symbol, 1)
        for family, prefix in ((usdm, "/fapi/v1"), (coinm, "/dapi/v1")):
            routes[family, "GET", f"{prefix}/leverageBracket"] = read(self._brackets, symbol, 1)
            routes[family, "GET", f"{prefix}/commissionRate"] = read(self._commission, symbol, 20)
            routes[family, "GET", f"{prefix}/positionSide/dual"] = read(self._dual, weight=30)
            routes[family, "POST", f"{prefix}/positionSide/dual"] = read(self._set_dual, names("dualSidePosition"), 1)
            routes[family, "POST", f"{prefix}/leverage"] = read(self._set_leverage, names("symbol leverage"), 1)
            routes[family, "POST", f"{prefix}/marginType"] = read(self._set_margin_type, names("symbol marginType"), 1)
            routes[family, "POST", f"{prefix}/countdownCancelAll"] = read(
                self._countdown, names("symbol countdownTime"), 10
            )
        routes[usdm, "GET", "/fapi/v1/multiAssetsMargin"] = read(lambda call: {"multiAssetsMargin": False}, weight=30)
        return routes

    # --- settings of an account ---

    @staticmethod
    def _leverage(account: Account, listing: Listing) -> int:
        return int(account.settings.get("leverage", {}).get(listing.symbol, _DEFAULT_LEVERAGE))

    @staticmethod
    def _isolated(account: Account, listing: Listing) -> bool:
        return bool(account.settings.get("isolated", {}).get(listing.symbol, False))

    def _set_leverage(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        call.params.need("leverage")
        leverage = call.params.integer("leverage")
        if leverage is None or not 1 <= leverage <= _MOST_LEVERAGE:
            raise Refusal(-4028, f"Leverage {leverage} is not valid")
        call.account.settings.setdefault("leverage", {})[listing.symbol] = leverage
        most = {"maxNotionalValue": "1000000"} if call.family is Family.USDM else {"maxQty": "1000"}
        return {"leverage": leverage, "symbol": listing.native, **most}

    def _set_margin_type(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        kind = call.params.need("marginType")
        if kind not in ("ISOLATED", "CROSSED"):
            raise illegal("marginType", "ISOLATED or CROSSED")
        account = call.account
        if self._isolated(account, listing) == (kind == "ISOLATED"):
            raise Refusal(-4046, "No need to change margin type.")
        if self._engine.open_orders(account, listing.symbol):
            raise Refusal(-4047, "Margin type cannot be changed if there exists open orders.")
        if any(position.market == listing.symbol for position in self._engine.positions(account)):
            raise Refusal(-4048, "Margin type cannot be changed if there exists position.")
        account.settings.setdefault("isolated", {})[listing.symbol] = kind == "ISOLATED"
        return {"code": 200, "msg": "success"}

    def _dual(self, call: Call) -> dict[str, Any]:
        return {"dualSidePosition": call.account.hedge_mode}

    def _set_dual(self, call: Call) -> dict[str, Any]:
        """The mode is the account's, for both families."""
        call.params.need("dualSidePosition")
        dual, account = call.params.boolean("dualSidePosition"), call.account
        if dual == account.hedge_mode:
            raise Refusal(-4059, "No need to change position side.")

        def in_futures(market: str) -> bool:
            return Family(self._engine.markets[market].product).is_futures

        if any(in_futures(order.market) for order in self._engine.open_orders(account)):
            raise Refusal(-4067, "Position side cannot be changed if there exists open orders.")
        if any(in_futures(position.market) for position in self._engine.positions(account)):
            raise Refusal(-4068, "Position side cannot be changed if there exists position.")
        account.hedge_mode = dual
        return {"code": 200, "msg": "success"}

    def _symbol_config(self, call: Call) -> list[dict[str, Any]]:
        wanted = self._catalogue.maybe_wanted(call.family, call.params)
        return [
            {
                "symbol": listing.native,
                "marginType": "ISOLATED" if self._isolated(call.account, listing) else "CROSSED",
                "isAutoAddMargin": False,
                "leverage": self._leverage(call.account, listing),
                "maxNotionalValue": "1000000",
            }
            for listing in ([wanted] if wanted is not None else self._catalogue.all(call.family))
        ]

    def _commission(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        maker, taker = self._engine.fee_rates(listing.symbol)
        row = {"symbol": listing.native, "makerCommissionRate": plain(maker), "takerCommissionRate": plain(taker)}
        return row | ({"rpiCommissionRate": "0.00005"} if call.family is Family.USDM else {})

    def _brackets(self, call: Call) -> list[dict[str, Any]]:
        wanted = self._catalogue.maybe_wanted(call.family, call.params)
        floor, cap = ("notionalFloor", "notionalCap") if call.family is Family.USDM else ("qtyFloor", "qtyCap")
        return [
            {
                "symbol": listing.native,
                "brackets": [
                    {
                        "bracket": 1,
                        "initialLeverage": _MOST_LEVERAGE,
                        cap: 1_000_000,
                        floor: 0,
                        "maintMarginRatio": 0.004,
                        "cum": 0.0,
                    }
                ],
            }
            for listing in ([wanted] if wanted is not None else self._catalogue.all(call.family))
        ]

    # --- dead-man switch ---

    def _countdown(self, call: Call) -> dict[str, Any]:
        listing = self._catalogue.wanted(call.family, call.params)
        call.params.need("countdownTime")
        countdown = call.params.integer("countdownTime")
        if countdown is None or countdown < 0:
            raise Refusal(-1130, "Data sent for parameter 'countdownTime' is not valid.")
        key = (call.account.name, listing.symbol)
        if countdown:
            self._countdowns[key] = (call.now_ms + countdown, call.account)
        else:
            self._countdowns.pop(key, None)
        return {"symbol": listing.native, "countdownTime": str(countdown)}

    def run_countdowns(self, now_ms: int) -> None:
        """Cancel the orders of those who have not called in time."""
        for key, (due, account) in list(self._countdowns.items()):
            if now_ms >= due:
                del self._countdowns[key]
                self._orders.cancel_everything(account, self._catalogue.of_symbol(key[1]))

    # --- balances ---

    def _wallet_balances(self, call: Call) -> list[EngineBalance]:
        listing = next(self._catalogue.all(call.family), None)
        wallet = call.family.value if listing is None else self._engine.wallet_of(listing.symbol)
        return [balance for balance in self._engine.balances(call.account) if balance.wallet == wallet]

    def _profit(self, call: Call, asset: str) -> Decimal:
        """Unrealised profit of the positions that are settled in the asset."""
        return sum(
            (
                unrealised(listing, position, self._engine.mark_price(listing.symbol))
                for listing, position in self._held(call)
                if listing.market.margin_asset == asset
            ),
            ZERO,
        )

    def _balances(self, call: Call) -> list[dict[str, Any]]:
        rows = []
        for balance in self._wallet_balances(call):
            row: dict[str, Any] = {
                "accountAlias": "SgsR",
                "asset": balance.asset,
                "balance": fixed(balance.total, 8),
                "crossWalletBalance": fixed(balance.total, 8),
                "crossUnPnl": fixed(self._profit(call, balance.asset), 8),
                "availableBalance": fixed(balance.available, 8),
                "updateTime": call.now_ms,
            }
            if call.family is Family.USDM:
                row |= {"maxWithdrawAmount": fixed(balance.available, 8), "marginAvailable": True}
            else:
                row["withdrawAvailable"] = fixed(balance.available, 8)
            rows.append(row)
        return rows

    def _account(self, call: Call) -> dict[str, Any]:
        assets, positions = [], self._account_positions(call)
        sums = dict.fromkeys(("wallet", "profit", "available", "locked"), ZERO)
        for balance in self._wallet_balances(call):
            profit = self._profit(call, balance.asset)
            for name, value in (
                ("wallet", balance.total),
                ("profit", profit),
                ("available", balance.available),
                ("locked", balance.locked),
            ):
                sums[name] += value
            assets.append(
                {
                    "asset": balance.asset,
                    "walletBalance": fixed(balance.total, 8),
                    "unrealizedProfit": fixed(profit, 8),
                    "marginBalance": fixed(balance.total + profit, 8),
                    "maintMargin": fixed(None, 8),
                    "initialMargin": fixed(balance.locked, 8),
                    "positionInitialMargin": fixed(balance.locked, 8),
                    "openOrderInitialMargin": fixed(None, 8),
                    "crossWalletBalance": fixed(balance.total, 8),
                    "crossUnPnl": fixed(profit, 8),
                    "availableBalance": fixed(balance.available, 8),
                    "maxWithdrawAmount": fixed(balance.available, 8),
                    "updateTime": call.now_ms,
                }
            )
        if call.family is Family.COINM:
            flags = {"canDeposit": True, "canTrade": True, "canWithdraw": True, "feeTier": 0, "updateTime": 0}
            return {"assets": assets, "positions": positions, **flags}
        return {
            "totalInitialMargin": fixed(sums["locked"], 8),
            "totalMaintMargin": fixed(None, 8),
            "totalWalletBalance": fixed(sums["wallet"], 8),
            "totalUnrealizedProfit": fixed(sums["profit"], 8),
            "totalMarginBalance": fixed(sums["wallet"] + sums["profit"], 8),
            "totalPositionInitialMargin": fixed(sums["locked"], 8),
            "totalOpenOrderInitialMargin": fixed(None, 8),
            "totalCrossWalletBalance": fixed(sums["wallet"], 8),
            "totalCrossUnPnl": fixed(sums["profit"], 8),
            "availableBalance": fixed(sums["available"], 8),
            "maxWithdrawAmount": fixed(sums["available"], 8),
            "assets": assets,
            "positions": positions,
        }

    # --- positions ---

    def _held(self, call: Call) -> list[tuple[Listing, EnginePosition]]:
        return [
            (self._catalogue.of_symbol(position.market), position)
            for position in self._engine.positions(call.account)
            if self._engine.markets[position.market].product == call.family and position.quantity
        ]

    def _rows_of(self, account: Account, listing: Listing) -> list[EnginePosition]:
        """The rows of one market: one in one-way mode, one for each side in hedge mode; zero where nothing is held."""
        held = {p.side: p for p in self._engine.positions(account) if p.market == listing.symbol}
        sides: list[PositionSide | None] = [PositionSide.LONG, PositionSide.SHORT] if account.hedge_mode else [None]
        return [held.get(side) or EnginePosition(listing.symbol, side, ZERO, ZERO) for side in sides]

    def _position_risk_v3(self, call: Call) -> list[dict[str, Any]]:
        """Markets with a position or an open order only; no leverage and no margin type."""
        account = call.account
        wanted = self._catalogue.maybe_wanted(call.family, call.params)
        concerned = {position.market for position in self._engine.positions(account)}
        concerned |= {order.market for order in self._engine.open_orders(account)}
        rows = []
        for listing in self._catalogue.all(call.family):
            if listing.symbol not in concerned or (wanted is not None and wanted.symbol != listing.symbol):
                continue
            for position in self._rows_of(account, listing):
                rows.append(self._risk_row(call, listing, position))
        return rows

    def _risk_row(self, call: Call, listing: Listing, position: EnginePosition) -> dict[str, Any]:
        mark = self._engine.mark_price(listing.symbol) if position.quantity else ZERO
        notional = mark * position.quantity
        margin = abs(notional) / self._leverage(call.account, listing)
        isolated = self._isolated(call.account, listing) and bool(position.quantity)
        return {
            "symbol": listing.native,
            "positionSide": position_side_text(position.side),
            "positionAmt": listing.quantity(position.quantity),
            "entryPrice": plain(position.entry_price),
            "breakEvenPrice": plain(position.entry_price),
            "markPrice": fixed(mark, 8),
            "unRealizedProfit": fixed(unrealised(listing, position, mark), 8),
            "liquidationPrice": "0",
            "isolatedMargin": fixed(margin, 8) if isolated else "0",
            "notional": fixed(notional, 8),
            "marginAsset": listing.market.margin_asset,
            "isolatedWallet": fixed(margin, 8) if isolated else "0",
            "initialMargin": fixed(margin, 8),
            "maintMargin": fixed(abs(notional) * Decimal("0.004"), 8),
            "positionInitialMargin": fixed(margin, 8),
            "openOrderInitialMargin": "0",
            "adl": 0,
            "bidNotional": "0",
            "askNotional": "0",
            "updateTime": call.now_ms if position.quantity else 0,
        }

    def _position_risk(self, call: Call) -> list[dict[str, Any]]:
        """Every market, held or not, with leverage and margin type: v1 and v2, and all there is for COIN-M."""
        wanted = self._catalogue.maybe_wanted(call.family, call.params)
        pair, margin_asset = call.params.text("pair"), call.params.text("marginAsset")
        rows = []
        for listing in [wanted] if wanted is not None else self._catalogue.all(call.family):
            if pair not in (None, listing.pair) or margin_asset not in (None, listing.market.margin_asset):
                continue
            for position in self._rows_of(call.account, listing):
                rows.append(self._old_risk_row(call, listing, position))
        return rows

    def _old_risk_row(self, call: Call, listing: Listing, position: EnginePosition) -> dict[str, Any]:
        mark = self._engine.mark_price(listing.symbol) if position.quantity else ZERO
        row: dict[str, Any] = {
            "symbol": listing.native,
            "positionAmt": listing.quantity(position.quantity),
            "entryPrice": plain(position.entry_price),
            "breakEvenPrice": plain(position.entry_price),
            "markPrice": fixed(mark, 8),
            "unRealizedProfit": fixed(unrealised(listing, position, mark), 8),
            "liquidationPrice": "0",
            "leverage": str(self._leverage(call.account, listing)),
            "marginType": "isolated" if self._isolated(call.account, listing) else "cross",
            "isolatedMargin": "0.00000000",
            "isAutoAddMargin": "false",
            "positionSide": position_side_text(position.side),
            "updateTime": call.now_ms if position.quantity else 0,
        }
        if call.family is Family.USDM:
            return row | {"maxNotionalValue": "1000000", "notional": fixed(mark * position.quantity, 8)}
        coin = listing.base_value(mark, position.quantity)
        return row | {"maxQty": "1000", "notionalValue": fixed(coin, 8)}

    def _account_positions(self, call: Call) -> list[dict[str, Any]]:
        """As `account` lists them: UM (v3) what is held, CM every market."""
        held = self._held(call)
        if call.family is Family.COINM:
            held = [
                (listing, position)
                for listing in self._catalogue.all(call.family)
                for position in self._rows_of(call.account, listing)
            ]
        rows = []
        for listing, position in held:
            risk = self._risk_row(call, listing, position)
            row = {
                "symbol": risk["symbol"],
                "positionSide": risk["positionSide"],
                "positionAmt": risk["positionAmt"],
                "unrealizedProfit": risk["unRealizedProfit"],
                "isolatedMargin": risk["isolatedMargin"],
                "notional": risk["notional"],
                "isolatedWallet": risk["isolatedWallet"],
                "initialMargin": risk["initialMargin"],
                "maintMargin": risk["maintMargin"],
                "updateTime": risk["updateTime"],
            }
            if call.family is Family.COINM:
                coin = listing.base_value(self._engine.mark_price(listing.symbol), position.quantity)
                del row["notional"], row["isolatedMargin"]
                margin = abs(coin) / self._leverage(call.account, listing)
                row |= {
                    "initialMargin": fixed(margin, 8),
                    "maintMargin": fixed(abs(coin) * Decimal("0.004"), 8),
                    "positionInitialMargin": fixed(margin, 8),
                    "openOrderInitialMargin": "0",
                    "leverage": str(self._leverage(call.account, listing)),
                    "isolated": self._isolated(call.account, listing),
                    "entryPrice": risk["entryPrice"],
                    "breakEvenPrice": risk["breakEvenPrice"],
                    "notionalValue": fixed(coin, 8),
                    "maxQty": "1000",
                }
            rows.append(row)
        return rows


def unrealised(listing: Listing, position: EnginePosition, mark: Decimal) -> Decimal:
    """Profit at the mark price in the margin asset: linear in quote units, inverse in coin."""
    if not position.quantity or not mark:
        return ZERO
    if not listing.market.is_inverse:
        return (mark - position.entry_price) * position.quantity
    size = listing.market.contract_size or Decimal(1)
    return position.quantity * size * (1 / position.entry_price - 1 / mark)
