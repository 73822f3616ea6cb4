"""Public data over REST: book snapshots, and the trades that a stream missed (API documentation, "Get Market Depth",
"Get the Most Recent Trades"; "Query a Batch of Trade Records" of derivatives)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from astra.errors import UnsupportedOperation
from astra.models.markets import Market
from astra.models.orderbook import Level, Orderbook
from astra.models.protocols import Clock
from astra.models.trades import Side, Trade
from astra.rest import Params
from astra.streams.feed import BookSeed, Channel, Units
from astra_htx.rest import HtxRest
from astra_htx.settings import COIN_FUTURES, COIN_SWAP, LINEAR, SPOT

logger = logging.getLogger(__name__)

DEPTH = 150
"""Levels a side of an unmerged snapshot."""
FEW = 20
MOST_TRADES = 2000
"""What can be asked for; there are no further pages."""
PREFIXES: Mapping[str, str] = {
    SPOT: "/market",
    LINEAR: "/linear-swap-ex/market",
    COIN_SWAP: "/swap-ex/market",
    COIN_FUTURES: "/market",
}
_SIDES: Mapping[str, Side] = {"buy": Side.BUY, "sell": Side.SELL}


class SpotTrade(msgspec.Struct, rename={"trade_id": "tradeId"}):
    """A spot trade; REST spells its id `trade-id`. (`id` has more digits than anybody wants.)"""

    ts: int
    price: float
    amount: float
    direction: str = ""
    trade_id: int = 0
    rest_id: int = msgspec.field(default=0, name="trade-id")

    @property
    def number(self) -> int:
        return self.trade_id or self.rest_id

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        return Trade(symbol, self.price, self.amount, _SIDES.get(self.direction), self.ts, str(self.number), received)


class ContractTrade(msgspec.Struct):
    """A trade of derivatives. `amount` counts the contracts of both sides; `direction`, the taker's, may be empty."""

    ts: int
    id: int
    price: float
    amount: float
    direction: str = ""

    @property
    def number(self) -> int:
        return self.id

    def trade(self, symbol: str, units: Units | None, received: int) -> Trade:
        contracts = self.amount / 2
        quantity = contracts if units is None else units.quantity(contracts, self.price)
        return Trade(symbol, self.price, quantity, _SIDES.get(self.direction), self.ts, str(self.id), received)


class _Depth(msgspec.Struct):
    """Sides may be missing or null. `version` counts the changes of spot books and is a time of others."""

    bids: list[Level] | None = None
    asks: list[Level] | None = None
    version: int = 0
    mrid: int = 0
    ts: int | None = None


class _DepthAnswer(msgspec.Struct):
    tick: _Depth
    ts: int | None = None


class _Group(msgspec.Struct):
    """The trades of one taker order, as the stream has them in a frame."""

    data: list[msgspec.Raw]


class _Groups(msgspec.Struct):
    data: list[_Group]


decode_depth = msgspec.json.Decoder(_DepthAnswer, strict=False).decode
_decode_groups = msgspec.json.Decoder(_Groups).decode
_decode_spot = msgspec.json.Decoder(SpotTrade, strict=False).decode
_decode_contract = msgspec.json.Decoder(ContractTrade, strict=False).decode


class History:
    """The history source of the streams (`HistorySource`), and single snapshots. `rests`: the API of each product."""

    def __init__(self, rests: Mapping[str, HtxRest], clock: Clock) -> None:
        self._rests = rests
        self._clock = clock

    def _named(self, market: Market) -> tuple[str, str]:
        """The parameter that names the market."""
        key = "symbol" if market.product in (SPOT, COIN_FUTURES) else "contract_code"
        return key, market.native_symbol

    async def book_seed(self, channel: Channel) -> BookSeed:
        raise UnsupportedOperation("snapshots by REST do not join the streams of books", exchange="HUOBI")

    async def orderbook(self, market: Market, depth: int) -> Orderbook:
        """The best `depth` levels a side, 150 at most."""
        rest = self._rests[market.product]
        params: list[tuple[str, str | int]] = [self._named(market), ("type", "step0")]
        if depth <= FEW and rest.is_spot:
            params.append(("depth", next(few for few in (5, 10, FEW) if depth <= few)))
        elif depth <= FEW:
            params[1] = ("type", "step6")
        answer = await rest.public(decode_depth, f"{PREFIXES[market.product]}/depth", params, market_data=True)
        tick, units, most = answer.tick, Units.of(market), max(depth, 1)
        bids, asks = (side or [] if units is None else units.levels(side or []) for side in (tick.bids, tick.asks))
        return Orderbook(
            market=market.symbol,
            update_id=tick.version if rest.is_spot else tick.mrid,
            bids=sorted(bids, reverse=True)[:most],
            asks=sorted(asks)[:most],
            time=tick.ts or answer.ts,
            received=self._clock.wall_ns(),
        )

    async def trades_after(self, channel: Channel, after_id: str, market: str) -> Sequence[Trade] | None:
        """Trades after `after_id`. None when the venue's list does not reach back so far."""
        assert channel.market is not None
        product = channel.market.product
        rest, units = self._rests[product], Units.of(channel.market)
        params: Params = [self._named(channel.market), ("size", MOST_TRADES)]
        answer = await rest.public(
            _decode_groups, f"{PREFIXES[product]}/history/trade", params, market_data=not rest.is_spot
        )
        rows: list[SpotTrade] | list[ContractTrade]
        raw = [one for group in answer.data for one in group.data]
        rows = [_decode_spot(one) for one in raw] if rest.is_spot else [_decode_contract(one) for one in raw]
        last = int(after_id)
        if not any(row.number <= last for row in rows):
            logger.warning("%s: the venue's list does not reach back to trade %s: the gap stays", market, after_id)
            return None
        now_ns = self._clock.wall_ns()
        missed = sorted((row for row in rows if row.number > last), key=lambda row: row.number)
        return [row.trade(market, units, now_ns) for row in missed]
