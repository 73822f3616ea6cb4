"""The instruments as the venue shows them: ids, rows, the numbering of their books, what was traded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orders import Liquidity
from astra.sandbox import Account, EngineOrder, Exchange, PublicTrade
from astra.sandbox.toolkit import plain
from astra.symbols import AssetType
from astra_okx.sandbox.wire import InstType, Params, RowRefusal, empty, no_instrument, wrong

_INST_TYPES = {
    AssetType.SPOT: InstType.SPOT,
    AssetType.PERP: InstType.SWAP,
    AssetType.FUT: InstType.FUTURES,
    AssetType.OPT: InstType.OPTION,
}
_STATES = {
    MarketStatus.ACTIVE: "live",
    MarketStatus.CANCEL_ONLY: "suspend",
    MarketStatus.HALTED: "suspend",
    MarketStatus.PENDING: "preopen",
    MarketStatus.EXPIRED: "expired",
}
_GROUPS = {InstType.SPOT: "1", InstType.SWAP: "4", InstType.FUTURES: "5", InstType.OPTION: "1"}
_LEVERAGE = {InstType.SPOT: "", InstType.SWAP: "100", InstType.FUTURES: "50", InstType.OPTION: ""}
_DOLLARS = ("USD", "USDC")
LISTED_MS = 1_606_468_572_000
"""When everything was listed."""
ORDER_BASE = 2_900_000_000_000_000_000
"""Order ids have 19 digits: far beyond what a double holds."""
ALGO_BASE = 1_900_000_000_000_000_000
ORDER_STEP = 4096
"""Between the ids of two orders of the engine; the gaps are for orders that the engine never had."""


class _Epoch(msgspec.Struct, frozen=True):
    """A stretch of a book's numbering: the engine's change `change` has the id `first`, the next ones follow."""

    change: int
    first: int


class Numbering:
    """The `seqId`s of one instrument: rising, not contiguous, and set back by maintenance."""

    def __init__(self, native: str) -> None:
        seed = int.from_bytes(hashlib.sha256(native.encode()).digest()[:4])
        self._step = 3 + seed % 14
        self._epochs = [_Epoch(0, 32_000_000_000 + seed)]

    def seq_id(self, change_id: int) -> int:
        epoch = next(e for e in reversed(self._epochs) if change_id >= e.change)
        return epoch.first + (change_id - epoch.change) * self._step

    def change_id(self, seq_id: int, newest: int) -> int:
        """The change an id stands for; `newest` is the last there was (ids of an earlier epoch are beyond it)."""
        for epoch in reversed(self._epochs):
            change, rest = divmod(seq_id - epoch.first, self._step)
            if change >= 0 and rest == 0 and epoch.change + change <= newest:
                return epoch.change + change
        raise LookupError(f"no change has the id {seq_id}")

    def reset(self, newest: int) -> None:
        """From the change after `newest` on, ids begin anew, below the last one."""
        self._epochs.append(_Epoch(newest + 1, max(0, min(3, self.seq_id(newest) - 1))))


class Listing:
    """One instrument."""

    def __init__(self, market: Market, code: int) -> None:
        self.symbol = market.symbol
        self.native = market.native_symbol
        self.type = _INST_TYPES[market.asset_type]
        self.code = code
        self.numbering = Numbering(self.native)
        self.update(market)

    def update(self, market: Market) -> None:
        """Take over what changed at the engine."""
        self.market = market
        derivative = self.type.is_derivative
        self.underlying = f"{market.base_asset}-{market.quote_asset}" if derivative else ""
        self.family = "-".join(self.native.split("-")[:2]) if derivative else ""
        self.settle = (market.margin_asset or market.quote_asset) if derivative else ""

    @property
    def inverse(self) -> bool:
        return self.market.contract_type is ContractType.INVERSE

    @property
    def counted_by(self) -> str:
        """What its orders are counted by: the instrument, for options the family."""
        return self.family if self.type is InstType.OPTION else self.native

    @property
    def rule(self) -> str:
        return "xperp" if self.native.partition("_XPERP")[1] else "normal"

    @property
    def fee_asset(self) -> str:
        """What fees of sells are taken in (derivatives: of buys too)."""
        return self.settle or self.market.quote_asset

    @property
    def most_leverage(self) -> int:
        return int(_LEVERAGE[self.type] or 1)

    def in_coin(self, quantity: Decimal, price: Decimal) -> Decimal:
        """A native quantity in base units."""
        market = self.market
        if market.contract_size is None:
            return quantity
        if self.inverse and self.type is not InstType.OPTION:
            return quantity * market.contract_size / price if price else Decimal(0)
        return quantity * market.contract_size

    def worth(self, quantity: Decimal, price: Decimal) -> Decimal:
        """What a native quantity is worth in the quote asset (options: the asset they are priced in)."""
        market = self.market
        if self.inverse and self.type is not InstType.OPTION:
            return quantity * (market.contract_size or Decimal(1))
        return quantity * (market.contract_size or Decimal(1)) * price

    def row(self) -> dict[str, Any]:
        """The instrument as `public/instruments` lists it: every field, whatever the product. Of one that is only
        announced hardly a field is filled."""
        full = self._full_row()
        if self.market.status is not MarketStatus.PENDING:
            return full
        kept = ("instId", "instType", "listTime", "state", "category")
        bare = {name: "" if isinstance(value, str) and name not in kept else value for name, value in full.items()}
        return bare | {"instIdCode": None, "futureSettlement": False, "tradeQuoteCcyList": []}

    def _full_row(self) -> dict[str, Any]:
        market, kind = self.market, self.type
        derivative, option = kind.is_derivative, kind is InstType.OPTION
        size = plain(market.contract_size) if market.contract_size is not None else ""
        most = plain(market.max_quantity)
        contract = {
            "ctMult": "" if not derivative else size if option else "1",
            "ctType": "" if not derivative else "inverse" if self.inverse else "linear",
            "ctVal": "" if not derivative else "1" if option else size,
            "ctValCcy": "" if not derivative else "USD" if self.inverse and not option else market.base_asset,
        }
        quotes = [] if derivative else [market.quote_asset]
        if market.quote_asset in _DOLLARS and not derivative:
            quotes = ["USD", "USDC", "USDG"]
        return {
            "alias": "" if kind is not InstType.FUTURES else "this_five_years" if self.rule == "xperp" else "quarter",
            "auctionEndTime": "",
            "baseCcy": "" if derivative else market.base_asset,
            "category": "1",
            "contTdSwTime": "",
            **contract,
            "expTime": "" if market.expiry is None else str(market.expiry),
            "freq": "",
            "futureSettlement": kind is InstType.FUTURES and self.inverse,
            "groupId": _GROUPS[kind],
            "instCategory": "1",
            "instFamily": self.family,
            "instId": self.native,
            "instIdCode": self.code,
            "instType": kind.value,
            "lever": _LEVERAGE[kind],
            "listTime": str(LISTED_MS),
            "longPosRemainingQuota": "",
            "lotSz": plain(market.lot_size),
            "maxIcebergSz": f"{most}.0000000000000000",
            "maxLmtAmt": "20000000",
            "maxLmtSz": most,
            "maxMktAmt": "" if derivative else "1000000",
            "maxMktSz": "1000000" if not derivative else plain(market.market_max_quantity or market.max_quantity),
            "maxPlatOILmt": "10000000000000" if derivative and not option else "",
            "maxStopSz": "1000000" if not derivative else plain(market.market_max_quantity or market.max_quantity),
            "maxTriggerSz": f"{most}.0000000000000000",
            "maxTwapSz": f"{most}.0000000000000000",
            "method": "",
            "minSz": plain(market.min_quantity),
            "openType": "" if kind in (InstType.FUTURES, InstType.OPTION) else "call_auction",
            "optType": str(market.option_type or ""),
            "posLmtAmt": "250000" if derivative and not option else "",
            "posLmtPct": "30" if derivative and not option else "",
            "preMktSwTime": "",
            "quoteCcy": "" if derivative else market.quote_asset,
            "ruleType": self.rule,
            "seriesId": "",
            "settleCcy": self.settle,
            "shortPosRemainingQuota": "",
            "state": _STATES[market.status],
            "stk": "" if market.strike is None else plain(market.strike),
            "tickSz": plain(market.tick_size),
            "tradeQuoteCcyList": quotes,
            "uly": self.underlying,
            "upcChg": [],
        }


class Traded:
    """What was traded in one instrument, for its ticker."""

    def __init__(self, price: Decimal) -> None:
        self.open = self.high = self.low = self.last = price
        self.last_size = self.volume = self.coin_volume = Decimal(0)

    def add(self, listing: Listing, trade: PublicTrade) -> None:
        self.last, self.last_size = trade.price, trade.quantity
        self.high, self.low = max(self.high, trade.price), min(self.low, trade.price)
        self.volume += trade.quantity
        if listing.type.is_derivative:
            self.coin_volume += listing.in_coin(trade.quantity, trade.price)
        else:
            self.coin_volume += trade.quantity * trade.price


class Catalogue:
    """All instruments, by symbol, native name and code."""

    def __init__(self, engine: Exchange) -> None:
        self._engine = engine
        self._by_symbol: dict[str, Listing] = {}
        self._by_native: dict[str, Listing] = {}
        self._by_code: dict[int, Listing] = {}
        self._traded: dict[str, Traded] = {}
        self._next_code = {InstType.OPTION: 2_021_032_700_000_000}
        self.refresh()

    def refresh(self) -> list[Listing]:
        """Take over what the engine lists; gives what is new or has changed."""
        changed = []
        for symbol, market in self._engine.markets.items():
            listing = self._by_symbol.get(symbol)
            if listing is None:
                changed.append(self._add(market))
            elif listing.market is not market:
                listing.update(market)
                changed.append(listing)
        return changed

    def _add(self, market: Market) -> Listing:
        kind = _INST_TYPES[market.asset_type]
        code = self._next_code.get(kind, 1001 + 100_000 * list(InstType).index(kind))
        self._next_code[kind] = code + 7
        listing = Listing(market, code)
        self._by_symbol[market.symbol] = self._by_native[listing.native] = self._by_code[code] = listing
        return listing

    def of_symbol(self, symbol: str) -> Listing:
        listing = self._by_symbol.get(symbol)
        if listing is None:
            self.refresh()
            listing = self._by_symbol[symbol]
        return listing

    def of_native(self, native: str) -> Listing | None:
        return self._by_native.get(native)

    def all(self, kind: InstType | None = None) -> Iterator[Listing]:
        return (listing for listing in self._by_symbol.values() if kind is None or listing.type is kind)

    def wanted(self, params: Params, name: str = "instId") -> Listing:
        """The instrument that a request is about: 50014 without, 51001 for an unknown one."""
        listing = self._by_native.get(params.need(name))
        if listing is None:
            raise no_instrument()
        return listing

    def maybe_wanted(self, params: Params) -> Listing | None:
        return self.wanted(params) if params.text("instId") is not None else None

    def of_code(self, params: Params) -> Listing:
        """The instrument of a WebSocket order: by its integer code; `instId` is not looked at."""
        code = params.values.get("instIdCode")
        if code is None or code == "":
            raise RowRefusal("50014", "Parameter instIdCode can not be empty")
        if isinstance(code, bool) or not isinstance(code, int):
            raise RowRefusal("51000", "Parameter instIdCode error")
        listing = self._by_code.get(code)
        if listing is None:
            refusal = no_instrument()
            raise RowRefusal(refusal.code, refusal.message)
        return listing

    def selected(self, params: Params, *, needs_type: bool = True) -> list[Listing]:
        """The instruments that `instType`, `instFamily`, `uly` and `instId` choose."""
        kind = self.inst_type(params, needed=needs_type)
        family, underlying, native = params.text("instFamily"), params.text("uly"), params.text("instId")
        if native is not None and native not in self._by_native:
            raise no_instrument()
        return [
            listing
            for listing in self.all(kind)
            if (native is None or listing.native == native)
            # An options family is asked for by its underlying's name, and answered with the dollar-settled one too.
            and (
                family is None or listing.family == family or (kind is InstType.OPTION and listing.underlying == family)
            )
            and (underlying is None or listing.underlying == underlying)
        ]

    @staticmethod
    def inst_type(params: Params, *, needed: bool = True) -> InstType | None:
        """`instType`; MARGIN is the same instruments as SPOT."""
        text = params.text("instType")
        if text is None:
            if needed:
                raise empty("instType")
            return None
        if text == "MARGIN":
            return InstType.SPOT
        try:
            return InstType(text)
        except ValueError:
            raise wrong("instType") from None

    # --- trades ---

    def heard_trade(self, trade: PublicTrade) -> None:
        listing = self.of_symbol(trade.market)
        self.traded(listing).add(listing, trade)

    def traded(self, listing: Listing) -> Traded:
        found = self._traded.get(listing.symbol)
        if found is None:
            last = self._engine.trades(listing.symbol, limit=1)
            price = last[0].price if last else self._engine.mark_price(listing.symbol)
            found = self._traded[listing.symbol] = Traded(price)
        return found


def order_number(order: EngineOrder) -> int:
    """The venue's id of an order of the engine."""
    return ORDER_BASE + order.id * ORDER_STEP


def algo_number(order: EngineOrder) -> int:
    """Algo orders have ids of their own; the order that comes of one has another."""
    return ALGO_BASE + order.id * ORDER_STEP


def uid_of(account: Account) -> str:
    """The user id: 17 digits, from the account's name."""
    number = int.from_bytes(hashlib.sha256(f"uid {account.name}".encode()).digest()[:8])
    return str(10**16 + number % (9 * 10**16))


def execution(liquidity: Liquidity) -> str:
    """`execType`."""
    return "M" if liquidity is Liquidity.MAKER else "T"
