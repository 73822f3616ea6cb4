"""The trading hooks of the international gateway: perpetuals, dated futures, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from astra.errors import OrderNotFound, VenueError
from astra.families import FamilyTrading, in_order
from astra.models.accounts import Balance, Fees, Position
from astra.models.credentials import Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, Order, OrderChange, OrderRef, OrderRequest, OrderType, TimeInForce
from astra.models.trades import Side
from astra.net.http import AnswerLost
from astra.trading.checks import native_quantity
from astra.venue import MarketTable
from astra_coinbase.rest import InternationalRest, Result, number
from astra_coinbase.settings import INTERNATIONAL, CoinbaseOrderOptions, TriggerPrice
from astra_coinbase.trading.advanced_rows import Kinds
from astra_coinbase.trading.international_rows import (
    TYPES,
    OrderRow,
    PositionRow,
    SummaryRow,
    TradeRow,
    contracts_of,
)

PAGE = 1000
MOST_PAGES = 20
WINDOW_MS = 30 * 86_400_000
"""Fills are asked for in parts of this length."""
_TYPE_NAMES: Mapping[OrderType, str] = {
    OrderType.LIMIT: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP_LIMIT: "stop_limit",
    OrderType.STOP_MARKET: "stop_market",
    OrderType.TAKE_PROFIT_LIMIT: "take_limit",
    OrderType.TAKE_PROFIT_MARKET: "take_market",
}
_TIMES: Mapping[TimeInForce, str] = {
    TimeInForce.GTC: "good_til_cancelled",
    TimeInForce.IOC: "immediate_or_cancel",
    TimeInForce.FOK: "fill_or_kill",
}
assert set(_TYPE_NAMES.values()) <= set(TYPES)


class _Done(msgspec.Struct):
    """What became of a command: the order, and its trades at once."""

    order: OrderRow


class _Trades(msgspec.Struct):
    trades: list[TradeRow]
    has_more: bool = False


class _TradesPage(msgspec.Struct, frozen=True):
    """The fills of one request, and of all its rows, those of unlisted markets too: the first and last time, and
    whether there may be more behind them."""

    fills: Sequence[Fill]
    first: int | None
    last: int | None
    more: bool


class _Summaries(msgspec.Struct):
    summaries: list[SummaryRow]


class _Rates(msgspec.Struct):
    maker_commission: Decimal
    taker_commission: Decimal


decode_done = msgspec.json.Decoder(Result[_Done]).decode
decode_order = msgspec.json.Decoder(Result[OrderRow]).decode
decode_orders = msgspec.json.Decoder(Result[list[OrderRow]]).decode
decode_trades = msgspec.json.Decoder(Result[_Trades]).decode
decode_positions = msgspec.json.Decoder(Result[list[PositionRow]]).decode
decode_summaries = msgspec.json.Decoder(Result[_Summaries]).decode
_decode_rates = msgspec.json.Decoder(Result[_Rates]).decode


def refused(order: OrderRequest) -> str | None:
    """What the gateway does not offer of the order; None when it may be placed."""
    if order.time_in_force is TimeInForce.GTD:
        return "time in force GTD"
    if order.quote_quantity is not None:
        return "orders by quoteQuantity; give quantity or contracts"
    if not order.type.has_price and order.time_in_force is TimeInForce.FOK:
        return f"time in force FOK for {order.type} orders"
    return None


def allowed_options(order: OrderRequest) -> Mapping[str, bool]:
    """Which of the venue's own options the order may have."""
    return {"trigger_price": order.type.is_conditional, "display_amount": order.type.has_price}


def sizes(market: Market, contracts: Decimal) -> dict[str, Any]:
    """A size in both of the venue's units: it refuses orders in which they do not agree."""
    assert market.contract_size is not None
    return {"amount": number(contracts * market.contract_size), "contracts": number(contracts)}


def order_params(market: Market, order: OrderRequest, options: CoinbaseOrderOptions) -> dict[str, Any]:
    """The parameters of `private/buy` and `private/sell`."""
    params: dict[str, Any] = {
        "instrument_name": market.native_symbol,
        **sizes(market, native_quantity(market, order)),
        "type": _TYPE_NAMES[order.type],
        "label": order.client_order_id,
    }
    if order.price is not None:
        params["price"] = number(order.price)
        params["time_in_force"] = _TIMES[order.time_in_force or TimeInForce.GTC]
    if order.post_only:
        # Without the second one the venue would move the price and place the order.
        params |= {"post_only": True, "reject_post_only": True}
    if order.reduce_only:
        params["reduce_only"] = True
    if order.stop_price is not None:
        params |= {
            "trigger": (options.trigger_price or TriggerPrice.LAST).value,
            "trigger_price": number(order.stop_price),
        }
    if options.display_amount is not None:
        params["display_amount"] = number(options.display_amount)
    return params


class InternationalTrading(FamilyTrading):
    """Orders and the account of the gateway; cross margin. Client order ids are `label`s, which the venue does not keep
    unique. A conditional order has another id once it is triggered, and the same label."""

    title = "Coinbase international"
    options_model = CoinbaseOrderOptions
    fees_by_market = True
    rest: InternationalRest

    def __init__(self, rest: InternationalRest, markets: MarketTable) -> None:
        super().__init__(rest, markets, (INTERNATIONAL,))
        self.kinds = Kinds()

    def _order(self, row: OrderRow, market: Market) -> Order:
        self.kinds.note(row.label, row.kind)
        return row.order(market, self.kinds)

    # -- placing ------------------------------------------------------------------------------------------------

    async def place(self, market: Market, order: OrderRequest, credentials: Credentials) -> Order:
        """The answer is the order as it stands, with what was filled at once."""
        missing = refused(order)
        if missing is not None:
            raise self.unsupported(missing)
        assert order.client_order_id is not None
        options: CoinbaseOrderOptions = self.options(order, **allowed_options(order))
        params = order_params(market, order, options)
        self.kinds.placing(order.client_order_id, order.type)
        answer = await self.rest.command(
            decode_done,
            "buy" if order.side is Side.BUY else "sell",
            params,
            credentials,
            market=market,
            operation="place_order",
            ref=OrderRef(client_order_id=order.client_order_id),
            places=True,
        )
        return self._order(answer.result.order, market)

    # -- looking ------------------------------------------------------------------------------------------------

    async def get(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        """By client order id the newest order that has it: among the recent ones, then in the history."""
        return self._order(await self._row(market, ref, credentials), market)

    async def _row(self, market: Market, ref: OrderRef, credentials: Credentials) -> OrderRow:
        if ref.client_order_id is not None:
            return await self._labelled(market, ref.client_order_id, credentials)
        row = (await self.rest.private(decode_order, "get_order_state", {"order_id": ref.id}, credentials)).result
        if row.instrument_name != market.native_symbol:
            raise OrderNotFound(f"order {ref.id} is one of {row.instrument_name}", exchange=self.exchange)
        if row.order_state == "triggered" and row.label:
            return await self._labelled(market, row.label, credentials)
        return row

    async def _labelled(self, market: Market, label: str, credentials: Credentials) -> OrderRow:
        asked = {"currency": market.margin_asset, "label": label}
        rows = (await self.rest.private(decode_orders, "get_order_state_by_label", asked, credentials)).result
        found = [row for row in rows if row.label == label and row.instrument_name == market.native_symbol]
        if not found:
            found = await self._in_history(market, label, credentials)
        if not found:
            raise OrderNotFound(f"no order in {market.symbol} has the client id {label}", exchange=self.exchange)
        # A conditional order that was triggered is the order that it became.
        return max(found, key=lambda row: (row.order_state != "triggered", row.creation_timestamp or 0))

    async def _in_history(self, market: Market, label: str, credentials: Credentials) -> list[OrderRow]:
        """Of the orders that are done. Raises `VenueError` where there are too many to say that it is not there."""
        for page in range(MOST_PAGES):
            asked = {
                "instrument_name": market.native_symbol,
                "count": PAGE,
                "offset": page * PAGE,
                "include_unfilled": True,
            }
            method = "get_order_history_by_instrument"
            rows = (await self.rest.private(decode_orders, method, asked, credentials)).result
            found = [row for row in rows if row.label == label]
            if found or len(rows) < PAGE:
                return found
        raise VenueError(f"the order history of {market.symbol} is too long to search", exchange=self.exchange)

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        if market is None:
            rows = (await self.rest.private(decode_orders, "get_open_orders", {}, credentials)).result
        else:
            asked = {"instrument_name": market.native_symbol}
            method = "get_open_orders_by_instrument"
            rows = (await self.rest.private(decode_orders, method, asked, credentials)).result
        found = await self.with_markets(rows, market, lambda row: row.instrument_name)
        return [self._order(row, known) for known, row in found]

    async def fills(
        self, market: Market | None, since: int | None, limit: int | None, credentials: Credentials
    ) -> Sequence[Fill]:
        if market is not None:
            return await self._fills({"instrument_name": market.native_symbol}, market, since, limit, credentials)
        found: list[Fill] = []
        for currency in await self._currencies():
            found += await self._fills({"currency": currency}, None, since, limit, credentials)
        found = in_order(found)
        if limit is None:
            return found
        return found[-limit:] if since is None else found[:limit]

    async def _currencies(self) -> Sequence[str]:
        """What positions are settled in."""
        markets = await self.markets.all()
        found = (market.margin_asset for market in markets if market.product == INTERNATIONAL)
        return list(dict.fromkeys(asset for asset in found if asset is not None))

    async def _fills(
        self,
        wanted: Mapping[str, str],
        market: Market | None,
        since: int | None,
        limit: int | None,
        credentials: Credentials,
    ) -> Sequence[Fill]:
        """Fills of markets that are not listed are left out, and do not count. Raises `VenueError` where they cannot
        all be told."""

        async def fetch(start: int | None, end: int | None, size: int) -> tuple[Sequence[Fill], int | None]:
            """Of a span the oldest first."""
            assert start is not None
            assert end is not None
            page = await self._trades(wanted, market, (start, end), size, "asc", credentials)
            return page.fills, (start if page.last is None else page.last) if page.more else None

        if since is not None:
            return await self.windowed(fetch, since, limit, WINDOW_MS, PAGE)
        page = await self._trades(wanted, market, None, min(limit or PAGE, PAGE), "desc", credentials)
        found = {(fill.market, fill.id): fill for fill in page.fills}
        until: int | None = None
        while page.more and limit is not None and len(found) < limit:
            if page.first is None or page.first == until:
                raise VenueError(
                    f"the fills before {until} cannot all be told: more than {PAGE} fills in one millisecond",
                    exchange=self.exchange,
                )
            until = page.first  # again, because more may share that millisecond
            page = await self._trades(wanted, market, (0, until), PAGE, "desc", credentials)
            found.update(((fill.market, fill.id), fill) for fill in page.fills)
        return in_order(found.values())[-(limit or PAGE) :]

    async def _trades(
        self,
        wanted: Mapping[str, str],
        market: Market | None,
        span: tuple[int, int] | None,
        size: int,
        sorting: str,
        credentials: Credentials,
    ) -> _TradesPage:
        asked: dict[str, Any] = {**wanted, "count": size, "sorting": sorting}
        method = f"get_user_trades_by_{'currency' if market is None else 'instrument'}"
        if span is not None:
            asked |= {"start_timestamp": span[0], "end_timestamp": span[1]}
            method += "_and_time"
        answer = (await self.rest.private(decode_trades, method, asked, credentials)).result
        times = [row.timestamp for row in answer.trades]
        rows = await self.with_markets(answer.trades, market, lambda row: row.instrument_name)
        return _TradesPage(
            fills=[row.fill(known) for known, row in rows],
            first=min(times, default=None),
            last=max(times, default=None),
            more=answer.has_more or len(times) >= size,
        )

    # -- cancelling and changing --------------------------------------------------------------------------------

    async def _id_of(self, market: Market, ref: OrderRef, credentials: Credentials) -> str:
        """Of several orders under one label the one that is meant has to be found before."""
        if ref.id is not None:
            return ref.id
        return (await self._row(market, ref, credentials)).order_id

    async def cancel(self, market: Market, ref: OrderRef, credentials: Credentials) -> Order:
        order_id = await self._id_of(market, ref, credentials)
        asked = {"order_id": order_id}
        answer = await self.rest.command(
            decode_order, "cancel", asked, credentials, market=market, operation="cancel_order", ref=ref, urgent=True
        )
        return self._order(answer.result, market)

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        """The venue says how many there were: which, is what was open before."""
        before = await self.open_orders(market, credentials)
        asked = {"instrument_name": market.native_symbol}
        await self.rest.command(
            bytes,
            "cancel_all_by_instrument",
            asked,
            credentials,
            market=market,
            operation="cancel_all_orders",
            urgent=True,
        )
        canceled: list[Order] = []
        for order in before:
            try:
                canceled.append(await self.get(market, OrderRef(id=order.id), credentials))
            except VenueError as error:
                lost = AnswerLost(f"accepted, but an order could not be asked for: {error.message}", code=error.code)
                raise self.unknown(
                    "cancel_all_orders",
                    market,
                    OrderRef(id=order.id)
                    if order.client_order_id is None
                    else OrderRef(client_order_id=order.client_order_id),
                    lost,
                ) from error
        return [order for order in canceled if not order.status.is_open]

    async def amend(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Credentials) -> Order:
        """The venue wants amount and flags with every change: what stays is asked for before."""
        row = await self._row(market, ref, credentials)
        if change.quantity is not None or change.contracts is not None:
            contracts = native_quantity(market, change)
        else:
            contracts = contracts_of(market, row.amount) or Decimal(0)
        params: dict[str, Any] = {"order_id": row.order_id, **sizes(market, contracts)}
        price = change.price if change.price is not None else row.limit_price
        if price is not None:
            params["price"] = number(price)
        if row.post_only:
            params |= {"post_only": True, "reject_post_only": True}
        if row.reduce_only:
            params["reduce_only"] = True
        answer = await self.rest.command(
            decode_done, "edit", params, credentials, market=market, operation="amend_order", ref=ref
        )
        return self._order(answer.result.order, market)

    # -- the account --------------------------------------------------------------------------------------------

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        answer = await self.rest.private(decode_summaries, "get_account_summaries", {}, credentials)
        found = (row.as_balance() for row in answer.result.summaries)
        return [balance for balance in found if balance.total or balance.available]

    async def positions(self, credentials: Credentials) -> Sequence[Position]:
        asked = {"currency": "any"}
        rows = (await self.rest.private(decode_positions, "get_positions", asked, credentials)).result
        held = [row for row in rows if row.size]
        found = await self.with_markets(held, None, lambda row: row.instrument_name)
        return [row.position(known) for known, row in found]

    async def fees(self, market: Market | None, credentials: Credentials) -> Sequence[Fees]:
        """The instrument's own rates: the account has none of its own at the gateway."""
        assert market is not None
        params = [("instrument_name", market.native_symbol)]
        rates = (await self.rest.public(_decode_rates, "public/get_instrument", params)).result
        return [Fees(market=market.symbol, maker=rates.maker_commission, taker=rates.taker_commission)]

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        params = {"instrument_name": market.native_symbol, "leverage": number(leverage)}
        await self.rest.private(bytes, "set_leverage", params, credentials)
