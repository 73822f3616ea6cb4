"""The account over REST: balances, positions, configuration, fees, leverage, position mode."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from astra.models.orders import PositionSide
from astra.sandbox import Account, EngineBalance, EnginePosition, Exchange
from astra.sandbox.toolkit import plain
from astra_okx.sandbox.calls import Call, Endpoint, Routes, names
from astra_okx.sandbox.catalogue import LISTED_MS, Catalogue, Listing, uid_of
from astra_okx.sandbox.limits import Budget
from astra_okx.sandbox.orders import OrderDesk, account_level
from astra_okx.sandbox.reports import leverage_of, text
from astra_okx.sandbox.tags import Tally
from astra_okx.sandbox.wire import InstType, Params, Refusal, empty, success, wrong

ZERO = Decimal(0)
_CONTRACTS = (InstType.SWAP, InstType.FUTURES)
_MOST_LISTED = 10


def unrealised(listing: Listing, position: EnginePosition, price: Decimal) -> Decimal:
    """Profit at `price`, in the asset that the position is settled in."""
    size = position.quantity * (listing.market.contract_size or Decimal(1))
    if not position.quantity or not price:
        return ZERO
    if listing.inverse and listing.type is not InstType.OPTION:
        return round(size * (1 / position.entry_price - 1 / price), 12)
    return round(size * (price - position.entry_price), 12)


class AccountService:
    """What an account has and how it is set up."""

    def __init__(self, desk: OrderDesk, catalogue: Catalogue) -> None:
        self._desk = desk
        self._engine: Exchange = desk.engine
        self._catalogue = catalogue

    def routes(self) -> Routes:
        trading = "trade"
        return {
            ("GET", "/account/balance"): Endpoint(self._balance, names("ccy"), Budget(10)),
            ("GET", "/account/positions"): Endpoint(self._positions, names("instType instId posId"), Budget(10)),
            ("GET", "/account/config"): Endpoint(self._config, frozenset(), Budget(5)),
            ("GET", "/account/trade-fee"): Endpoint(
                self._trade_fee, names("instType instId instFamily uly ruleType groupId"), Budget(5)
            ),
            ("GET", "/account/leverage-info"): Endpoint(self._leverage_info, names("instId ccy mgnMode"), Budget(20)),
            ("POST", "/account/set-leverage"): Endpoint(
                self._set_leverage, names("instId ccy lever mgnMode posSide"), Budget(20), permission=trading
            ),
            ("POST", "/account/set-position-mode"): Endpoint(
                self._set_position_mode, names("posMode"), Budget(5), permission=trading
            ),
            ("GET", "/asset/balances"): Endpoint(lambda call: success([]), names("ccy"), Budget(6)),
        }

    # --- balances ---

    def balances(self, account: Account) -> list[EngineBalance]:
        """Of the trading account, without assets that are not there."""
        return [balance for balance in self._engine.balances(account) if balance.total or balance.locked]

    def _held(self, account: Account) -> list[tuple[Listing, EnginePosition]]:
        return [(self._catalogue.of_symbol(one.market), one) for one in self._engine.positions(account)]

    def _dollars(self, asset: str) -> Decimal:
        """What one unit of the asset is worth in dollars, by the spot market that says so."""
        for quote in ("USDT", "USD", "USDC"):
            listing = self._catalogue.of_native(f"{asset}-{quote}")
            if listing is not None and listing.type is InstType.SPOT:
                return self._engine.mark_price(listing.symbol)
        return Decimal(1)

    def balance_details(self, account: Account, wanted: Collection[str] | None, now_ms: int) -> list[dict[str, Any]]:
        """Rows by asset (`wanted`: of these, whether there is anything or not). eq = cashBal + upl = availEq +
        frozenBal; in spot mode there is no availEq, and upl stays out."""
        spot_mode = account_level(account) == "1"
        profits: dict[str, Decimal] = {}
        margins: dict[str, Decimal] = {}
        for listing, position in self._held(account):
            mark = self._engine.mark_price(listing.symbol)
            profits[listing.settle] = profits.get(listing.settle, ZERO) + unrealised(listing, position, mark)
            margin = self._initial_margin(account, listing, position)
            margins[listing.settle] = margins.get(listing.settle, ZERO) + margin
        found = {balance.asset: balance for balance in self._engine.balances(account)}
        chosen = self.balances(account) if wanted is None else [found[asset] for asset in wanted if asset in found]
        rows = []
        for balance in chosen:
            profit = ZERO if spot_mode else profits.get(balance.asset, ZERO)
            equity, free = balance.total + profit, balance.available + profit
            ordered = max(ZERO, balance.locked - margins.get(balance.asset, ZERO))
            price = self._dollars(balance.asset)
            rows.append(_detail_row(balance, equity, free, profit, ordered, price, now_ms, spot_mode=spot_mode))
        return rows

    def _initial_margin(self, account: Account, listing: Listing, position: EnginePosition) -> Decimal:
        if listing.type not in _CONTRACTS or not position.quantity:
            return ZERO
        quantity, leverage = abs(position.quantity), Decimal(leverage_of(account, listing))
        if listing.inverse:
            return round(listing.in_coin(quantity, position.entry_price) / leverage, 8)
        return round(listing.worth(quantity, position.entry_price) / leverage, 8)

    def balance_row(self, account: Account, wanted: Collection[str] | None, now_ms: int) -> dict[str, Any]:
        """The account as a whole, with its assets."""
        details = self.balance_details(account, wanted, now_ms)
        total = sum((Decimal(row["eqUsd"]) for row in details), ZERO)
        return {
            "adjEq": "",
            "availEq": "",
            "borrowFroz": "",
            "details": details,
            "imr": "",
            "isoEq": "0",
            "mgnRatio": "",
            "mmr": "",
            "notionalUsd": "",
            "notionalUsdForBorrow": "",
            "notionalUsdForFutures": "",
            "notionalUsdForOption": "",
            "notionalUsdForSwap": "",
            "ordFroz": "",
            "totalEq": plain(round(total, 8)),
            "uTime": str(now_ms),
            "upl": "",
        }

    def _balance(self, call: Call) -> dict[str, Any]:
        asked = call.params.text("ccy")
        wanted = None if asked is None else asked.split(",")
        if wanted is not None and len(wanted) > 20:
            raise wrong("ccy")
        return success([self.balance_row(call.account, wanted, call.now_ms)])

    # --- positions ---

    def position_row(self, account: Account, listing: Listing, position: EnginePosition, now_ms: int) -> dict[str, Any]:
        """A position; a closed one has "0" and empty fields."""
        mark = self._engine.mark_price(listing.symbol)
        last = self._engine.trades(listing.symbol, limit=1)
        profit = unrealised(listing, position, mark)
        quantity = abs(position.quantity)
        margin = self._initial_margin(account, listing, position)
        isolated = account.settings.get("mgnMode", {}).get(listing.symbol) == "isolated"
        is_open = bool(quantity)
        side = position.side.value.lower() if position.side is not None else "net"
        tally = self._desk.tally(account, listing.symbol, position.side) or Tally(now_ms, now_ms)

        def while_open(value: Decimal, digits: int = 12) -> str:
            return plain(round(value, digits)) if is_open else ""

        long_short = position.side is not None
        return {
            **dict.fromkeys(_NOT_HERE, ""),
            "adl": "1" if is_open else "",
            "availPos": plain(quantity) if is_open and long_short else "",
            "avgPx": while_open(position.entry_price, 16),
            "bePx": while_open(position.entry_price, 16),
            "cTime": str(tally.first_ms),
            "ccy": listing.settle,
            "closeOrderAlgo": [],
            "fee": plain(-tally.fee),
            "fundingFee": "0",
            "idxPx": while_open(mark),
            "imr": while_open(margin) if not isolated else "",
            "instId": listing.native,
            "instType": listing.type.value,
            "interest": "0" if is_open else "",
            "last": plain(last[0].price) if last and is_open else "",
            "lever": leverage_of(account, listing) if is_open else "",
            "liqPenalty": "0",
            "margin": while_open(margin) if isolated else "",
            "markPx": while_open(mark),
            "mgnMode": "isolated" if isolated else "cross",
            "mmr": while_open(margin / 10),
            "notionalUsd": while_open(listing.worth(quantity, mark)),
            "optVal": while_open(listing.worth(position.quantity, mark)) if listing.type is InstType.OPTION else "",
            "pTime": str(now_ms),
            "pnl": plain(round(tally.profit, 12)),
            "pos": plain(quantity if long_short else position.quantity),
            "posCcy": "",
            "posId": position_id(account, listing, position.side),
            "posSide": side,
            "realizedPnl": plain(round(tally.profit - tally.fee, 12)),
            "tradeId": str(tally.last_trade) if tally.last_trade else "",
            "uTime": str(tally.last_ms),
            "upl": while_open(profit),
            "uplLastPx": while_open(profit),
            "uplRatio": while_open(profit / margin) if margin else "",
            "uplRatioLastPx": while_open(profit / margin) if margin else "",
        }

    def position_rows(self, account: Account, params: Params, now_ms: int) -> list[dict[str, Any]]:
        listings = {one.symbol for one in self._catalogue.selected(params, needs_type=False)}
        return [
            self.position_row(account, listing, position, now_ms)
            for listing, position in [*self._held(account), *self._closed(account)]
            if listing.symbol in listings
        ]

    def _closed(self, account: Account) -> list[tuple[Listing, EnginePosition]]:
        """What was held once: it stays listed, with nothing."""
        held = {(position.market, position.side) for position in self._engine.positions(account)}
        gone = [key for key in self._desk.traded(account) if key not in held]
        found = [(self._catalogue.of_symbol(symbol), EnginePosition(symbol, side, ZERO, ZERO)) for symbol, side in gone]
        return [(listing, position) for listing, position in found if listing.type.is_derivative]

    def _positions(self, call: Call) -> dict[str, Any]:
        ids = (call.params.text("instId") or "").split(",")
        if len(ids) > _MOST_LISTED:
            raise wrong("instId")
        kind = call.params.text("instType")
        rows = []
        for native in ids:
            wanted = {name: value for name, value in (("instId", native), ("instType", kind)) if value}
            rows += self.position_rows(call.account, Params(wanted), call.now_ms)
        pos_id = call.params.text("posId")
        return success([row for row in rows if pos_id in (None, row["posId"])])

    # --- settings ---

    def _config(self, call: Call) -> dict[str, Any]:
        account = call.account
        uid = uid_of(account)
        row = {
            "acctLv": account_level(account),
            "acctStpMode": "cancel_taker",
            "autoLoan": False,
            "ctIsoMode": "automatic",
            "enableSpotBorrow": False,
            "feeType": "0",
            "greeksType": "PA",
            "ip": "",
            "kycLv": "3",
            "label": "sandbox",
            "level": "Lv1",
            "levelTmp": "",
            "mainUid": uid,
            "mgnIsoMode": "automatic",
            "opAuth": "1",
            "perm": account.settings.get("perm", "read_only,trade"),
            "posMode": "long_short_mode" if account.hedge_mode else "net_mode",
            "roleType": "0",
            "settleCcy": "USD",
            "settleCcyList": ["USD", "USDC", "USDG"],
            "spotBorrowAutoRepay": False,
            "spotOffsetType": "",
            "spotRoleType": "0",
            "spotTraderInsts": [],
            "stgyType": "0",
            "traderInsts": [],
            "type": "0",
            "uid": uid,
        }
        return success([row])

    def _trade_fee(self, call: Call) -> dict[str, Any]:
        """maker and taker are negative where they are charged."""
        kind = self._catalogue.inst_type(call.params)
        chosen = self._catalogue.selected(call.params)
        listing = chosen[0] if chosen else None
        if kind is None or listing is None:
            raise wrong("instFamily")
        maker, taker = (plain(-rate) for rate in self._engine.fee_rates(listing.symbol))
        group = {"elpMaker": maker, "groupId": listing.row()["groupId"], "maker": maker, "taker": taker}
        row = {
            "category": "1",
            "delivery": "0.0001" if kind is InstType.FUTURES else "",
            "exercise": "0.0002" if kind is InstType.OPTION else "",
            "feeGroup": [group],
            "fiat": [],
            "instType": call.params.need("instType"),
            "level": "Lv1",
            "maker": maker,
            "makerU": maker if kind in _CONTRACTS else "",
            "makerUSDC": "",
            "ruleType": "normal",
            "taker": taker,
            "takerU": taker if kind in _CONTRACTS else "",
            "takerUSDC": "",
            "ts": str(call.now_ms),
        }
        return success([row])

    def _contract(self, params: Params, native: str | None = None) -> Listing:
        listing = self._catalogue.wanted(params if native is None else Params({"instId": native}))
        if listing.type not in _CONTRACTS:
            raise wrong("instId")
        return listing

    def _leverage_info(self, call: Call) -> dict[str, Any]:
        params, account = call.params, call.account
        mode = params.choice("mgnMode", ("cross", "isolated")) or params.need("mgnMode")
        sides = ("long", "short") if account.hedge_mode else ("net",)
        rows = []
        for native in params.need("instId").split(","):
            listing = self._contract(params, native)
            lever = leverage_of(account, listing)
            rows += [{"ccy": "", "instId": native, "mgnMode": mode, "posSide": side, "lever": lever} for side in sides]
        return success(rows)

    def _set_leverage(self, call: Call) -> dict[str, Any]:
        params, account = call.params, call.account
        if params.text("instId") is None:
            raise empty("instId")
        listing = self._contract(params)
        lever = params.need_decimal("lever")
        mode = params.choice("mgnMode", ("cross", "isolated")) or params.need("mgnMode")
        side = params.choice("posSide", ("net", "long", "short"))
        if account.hedge_mode and mode == "isolated" and side not in ("long", "short"):
            raise wrong("posSide")
        if not Decimal(1) <= lever <= listing.most_leverage:
            raise Refusal("59102", "Leverage exceeds the maximum limit. Please lower the leverage.")
        account.settings.setdefault("leverage", {})[listing.symbol] = lever
        shown = side or ("net" if not account.hedge_mode else "")
        return success([{"instId": listing.native, "lever": text(lever), "mgnMode": mode, "posSide": shown}])

    def _set_position_mode(self, call: Call) -> dict[str, Any]:
        """Only while there is neither an order nor a position in contracts."""
        wanted = call.params.choice("posMode", ("net_mode", "long_short_mode")) or call.params.need("posMode")
        account = call.account
        if account_level(account) == "1":
            raise Refusal("51010", "The current account mode does not support this API interface.")
        if account_level(account) == "4" and wanted != "net_mode":
            raise wrong("posMode")
        if account.hedge_mode != (wanted == "long_short_mode"):
            busy = [order.market for order in self._engine.open_orders(account)]
            busy += [position.market for position in self._engine.positions(account)]
            if any(self._catalogue.of_symbol(symbol).type.is_derivative for symbol in busy):
                raise Refusal("59000", "Setting failed. Cancel any open orders, close positions, and stop bots first.")
            account.hedge_mode = wanted == "long_short_mode"
        return success([{"posMode": wanted}])


_NOT_HERE = sorted(
    names(
        "baseBorrowed baseInterest bizRefId bizRefType clSpotInUseAmt deltaBS deltaPA gammaBS gammaPA hedgedPos liab "
        "liabCcy liqPx maxSpotInUseAmt mgnRatio nonSettleAvgPx pendingCloseOrdLiabVal quoteBorrowed quoteInterest "
        "settledPnl spotInUseAmt spotInUseCcy thetaBS thetaPA usdPx vegaBS vegaPA"
    )
)
_ASSET_NOT_HERE = sorted(
    names(
        "accAvgPx borrowFroz clSpotInUseAmt crossLiab interest isoLiab isoUpl liab maxLoan maxSpotInUseAmt mgnRatio "
        "mmr openAvgPx spotBal spotInUseAmt spotUpl spotUplRatio totalPnl totalPnlRatio uplLiab"
    )
)
_ASSET_NOTHING = sorted(
    names("disEq fixedBal isoEq notionalLever rewardBal smtSyncEq spotCopyTradingEq spotIsoBal stgyEq twap")
)


def position_id(account: Account, listing: Listing, side: PositionSide | None) -> str:
    """The same for all positions of an account in an instrument and direction."""
    seed = f"{account.name}/{listing.native}/{side}"
    return str(LISTED_MS * 10**6 + int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]))


def _detail_row(
    balance: EngineBalance,
    equity: Decimal,
    free: Decimal,
    profit: Decimal,
    ordered: Decimal,
    price: Decimal,
    now_ms: int,
    *,
    spot_mode: bool,
) -> dict[str, Any]:
    return {
        **dict.fromkeys(_ASSET_NOT_HERE, ""),
        **dict.fromkeys(_ASSET_NOTHING, "0"),
        "availBal": plain(free),
        "availEq": "" if spot_mode else plain(free),
        "cashBal": plain(balance.total),
        "ccy": balance.asset,
        "coinUsdPrice": plain(price),
        "colBorrAutoConversion": "0",
        "colRes": "0",
        "collateralEnabled": False,
        "collateralRestrict": False,
        "eq": plain(equity),
        "eqUsd": plain(round(equity * price, 12)),
        "frozenBal": plain(balance.locked),
        "frpType": "0",
        "imr": plain(balance.locked - ordered),
        "ordFrozen": plain(ordered),
        "uTime": str(now_ms),
        "upl": plain(profit),
    }
