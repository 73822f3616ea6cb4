"""The derivatives' account sockets: V5 of linear contracts, and the older ones of coin-margined swaps and futures (API
documentation, "WebSocket Asset and Position/Order Interface")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from astra.models.accounts import AccountEvent
from astra.models.trades import Side
from astra.streams.feed import Payload
from astra.trading.native import NetSides, margin_mode
from astra_htx.feed.accounts import NotificationSession
from astra_htx.trading import coin_rows, linear_rows

T = TypeVar("T")


class _Push(msgspec.Struct, Generic[T]):
    """A push with its contents in `data`."""

    data: T


class _CoinOrder(coin_rows.OrderRow):
    """An order's push: the order's fields on top, its fills of this moment beside them."""

    ts: int | None = None
    trade: list[coin_rows.TradeRow] = msgspec.field(default_factory=list)


_decode_order = msgspec.json.Decoder(_Push[linear_rows.OrderRow]).decode
_decode_fills = msgspec.json.Decoder(_Push[list[linear_rows.FillRow]]).decode
_decode_account = msgspec.json.Decoder(_Push[linear_rows.Account]).decode
_decode_positions = msgspec.json.Decoder(_Push[list[linear_rows.PositionRow]]).decode
_decode_coin_order = msgspec.json.Decoder(_CoinOrder).decode
_decode_coin_accounts = msgspec.json.Decoder(_Push[list[coin_rows.AccountRow]]).decode
_decode_coin_positions = msgspec.json.Decoder(_Push[list[coin_rows.PositionRow]]).decode


class LinearSession(NotificationSession):
    """`/ws/v5/notification`."""

    def __init__(self, *connection: Any) -> None:
        super().__init__(*connection)
        self._sides = NetSides()

    def topics(self) -> Mapping[str, dict[str, Any]]:
        every = {"contract_code": "*"}
        return {"orders": every, "trade": every, "positions": every, "account": {}}

    def _events(self, topic: str, text: Payload) -> Iterator[AccountEvent]:
        if topic == "orders":
            row = _decode_order(text).data
            market = self.market(row.contract_code)
            if market is not None:
                yield row.order(market)
        elif topic == "trade":
            for fill in _decode_fills(text).data:
                market = self.market(fill.contract_code)
                if market is not None:
                    yield fill.fill(market)
        elif topic == "account":
            yield from (balance.balance() for balance in _decode_account(text).data.details)
        elif topic == "positions":
            for position in _decode_positions(text).data:
                yield from self._position(position)

    def _position(self, row: linear_rows.PositionRow) -> Iterator[AccountEvent]:
        market = self.market(row.contract_code)
        if market is None:
            return
        if row.is_net:
            yield from self._sides.closed(market, row.size, margin_mode(row.margin_mode))
            if not row.size:
                return
        yield row.position(market)


class CoinSession(NotificationSession):
    """`/swap-notification`, `/notification`. Topics come back with the name of what they are about in place of `*`."""

    def topics(self) -> Mapping[str, dict[str, Any]]:
        return {"orders.*": {}, "accounts.*": {}, "positions.*": {}}

    def _events(self, topic: str, text: Payload) -> Iterable[AccountEvent]:
        kind = topic.partition(".")[0]
        if kind == "orders":
            yield from self._order(_decode_coin_order(text))
        elif kind == "accounts":
            # The endpoint is named as the product, which is the wallet.
            yield from (row.balance(self.endpoint.name) for row in _decode_coin_accounts(text).data)
        elif kind == "positions":
            for row in _decode_coin_positions(text).data:
                market = self.market(row.contract_code)
                if market is not None:
                    yield row.position(market)

    def _order(self, row: _CoinOrder) -> Iterator[AccountEvent]:
        """An order as it stands, after its fills of this moment."""
        market = self.market(row.contract_code)
        if market is None:
            return
        side = Side(row.direction.upper())
        for trade in row.trade:
            yield coin_rows.fill_of(market, trade, order_id=row.ident, side=side, client_order_id=row.client_id)
        yield row.order(market, updated=row.ts)
