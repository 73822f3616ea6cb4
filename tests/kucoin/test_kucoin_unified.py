"""Unified accounts over real sockets: both products through one API, one wallet, one private stream."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest
from pydantic import SecretStr

from astra import Astra
from astra.errors import AuthenticationError, OrderNotFound, OrderOutcomeUnknown, UnsupportedOperation
from astra.models.accounts import AccountStatus, Balance, Position
from astra.models.credentials import ApiKey, Credentials
from astra.models.markets import Market
from astra.models.orders import Fill, MarginMode, Order, OrderChange, OrderRequest, OrderStatus, OrderType
from astra.streams.feed import Channel, DataType, Endpoint
from astra_kucoin.feed.unified import UnifiedAccountSession
from astra_kucoin.settings import FUTURES, SPOT
from astra_kucoin.trading import unified, unified_rows
from astra_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PRODUCTS = ["spot", "linear", "inverse"]
KEY = ApiKey(
    key=SecretStr("67e1f0a2c3b4d50001a2b3c4"),
    secret=SecretStr("4f9a1c77-3c55-4c1e-9a6e-5d2f8f0b7a11"),
    passphrase=SecretStr("Astra-Pass-2026"),
)


class Desk(msgspec.Struct):
    """A unified account's place: the library pointed at the sandbox, and a market of each kind."""

    sandbox: Sandbox
    astra: Astra
    markets: dict[str, Market]
    own: Credentials
    other: Credentials

    async def top(self, market: Market) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)"""
        book = await self.astra.get_orderbook(market.symbol, depth=5)
        return Decimal(str(book.bids[0][0])), Decimal(str(book.asks[0][0]))

    async def away(self, market: Market) -> Decimal:
        """A price at which a bid rests."""
        return market.floor_price((await self.top(market))[0] * Decimal("0.97"))


def amount(market: Market, lots: int) -> dict[str, Decimal]:
    if market.is_inverse:
        return {"contracts": Decimal(100) * lots}
    return {"quantity": Decimal("0.01") * lots}


def bid(market: Market, lots: int = 4, **more: Any) -> OrderRequest:
    return OrderRequest.model_validate({"side": "BUY", "type": "LIMIT", **amount(market, lots), **more})


@pytest.fixture
def anyio_backend() -> str:
    """One event loop will do: sockets on the other one are tested with classic accounts."""
    return "asyncio"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with Sandbox(["KUCOIN"], seed=5, markets=8, pace=0.0) as sandbox:
        credentials = sandbox.open_account("KUCOIN", "unified")
        account = sandbox.engine("KUCOIN").account("unified")
        assert account is not None
        account.settings["mode"] = "UNIFIED"
        own = credentials.model_copy(update={"account": "default"})
        async with Astra(settings=sandbox.settings, credentials=[own]) as astra:
            markets: dict[str, Market] = {}
            for market in await astra.list_markets("KUCOIN"):
                kind = "spot" if market.contract_size is None else "inverse" if market.is_inverse else "linear"
                markets.setdefault(kind, market)
            yield Desk(sandbox, astra, markets, own, sandbox.credentials("KUCOIN"))
        assert not sandbox.failures("KUCOIN")


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_resting_order_is_placed_seen_amended_and_canceled(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    price = await desk.away(market)
    placed = await astra.place_order(market.symbol, bid(market, price=price, post_only=True))
    assert (placed.status, placed.post_only, placed.price) == (OrderStatus.NEW, True, price)
    for ref in ({"id": placed.id}, {"client_order_id": placed.client_order_id}):
        found = await astra.get_order(market.symbol, **ref)
        assert (found.id, found.contracts, found.price) == (placed.id, placed.contracts, price)
        assert found.status is OrderStatus.NEW
    assert [order.id for order in await astra.list_orders(market.symbol)] == [placed.id]
    smaller = OrderChange.model_validate(amount(market, 2))
    amended = await astra.amend_order(market.symbol, smaller, id=placed.id)
    assert (amended.id, amended.client_order_id) == (placed.id, placed.client_order_id)
    wanted = next(iter(amount(market, 2).values()))
    assert (amended.contracts if market.is_inverse else amended.quantity) == wanted
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert canceled.status is OrderStatus.CANCELED
    with pytest.raises(OrderNotFound):
        await astra.cancel_order(market.symbol, client_order_id=placed.client_order_id)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_order_that_takes_is_filled_and_held(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    _, ask = await desk.top(market)
    placed = await astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    done = await astra.get_order(market.symbol, id=placed.id)
    assert (done.status, done.average_price) == (OrderStatus.FILLED, ask)
    (fill,) = await astra.list_fills(market.symbol)
    assert (fill.order_id, fill.price, fill.liquidity, fill.quantity) == (placed.id, ask, "TAKER", done.filled_quantity)
    assert fill.fee
    positions = await astra.get_positions("KUCOIN")
    assert [p.market for p in positions] == ([] if product == "spot" else [market.symbol])
    wallets = {balance.wallet for balance in await astra.get_balances("KUCOIN")}
    assert wallets == {"unified"}
    (fees,) = await astra.get_fees(market.symbol)
    assert fees.taker


@pytest.mark.parametrize("product", PRODUCTS)
async def test_conditional_orders_are_found_listed_and_canceled(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    low = await desk.away(market)
    stop = OrderRequest.model_validate({"side": "SELL", "type": "STOP_MARKET", "stop_price": low, **amount(market, 2)})
    placed = await astra.place_order(market.symbol, stop)
    found = await astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    assert (found.stop_price, found.type, found.status) == (low, OrderType.STOP_MARKET, OrderStatus.NEW)
    assert [order.id for order in await astra.list_orders(market.symbol)] == [placed.id]
    gone = await astra.cancel_all_orders(market.symbol)
    assert [order.status for order in gone] == [OrderStatus.CANCELED]
    assert await astra.list_orders(market.symbol) == []


@pytest.mark.parametrize("product", PRODUCTS)
async def test_an_order_whose_answer_was_lost_is_found_again(desk: Desk, product: str) -> None:
    market = desk.markets[product]
    price = await desk.away(market)
    faults = desk.sandbox.faults("KUCOIN")
    faults.lost_answer = 1.0
    try:
        placed: Any = await desk.astra.place_order(market.symbol, bid(market, price=price, client_order_id="lost-1"))
    except OrderOutcomeUnknown:
        faults.lost_answer = 0.0
        placed = await desk.astra.resolve_order(market.symbol, "lost-1")
    faults.lost_answer = 0.0
    assert (placed.client_order_id, placed.status) == ("lost-1", OrderStatus.NEW)
    assert [found.client_order_id for found in await desk.astra.list_orders(market.symbol)] == ["lost-1"]


async def test_what_unified_accounts_lack_is_refused_by_name(desk: Desk) -> None:
    market = desk.markets["spot"]
    with pytest.raises(UnsupportedOperation, match="name a market"):
        await desk.astra.list_orders("KUCOIN")
    order = bid(market, price=await desk.away(market))
    with pytest.raises(UnsupportedOperation, match="batches"):
        await desk.astra.place_orders([(market.symbol, order)])
    with pytest.raises(UnsupportedOperation, match="dead-man"):
        await desk.astra.keep_alive_orders("KUCOIN", timeout_s=60)


async def test_leverage_and_margin_mode_are_set_at_the_venue(desk: Desk) -> None:
    market = desk.markets["linear"]
    _, ask = await desk.top(market)
    await desk.astra.set_margin_mode(market.symbol, MarginMode.ISOLATED)
    await desk.astra.set_leverage(market.symbol, Decimal(7))
    await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
    (position,) = await desk.astra.get_positions("KUCOIN")
    assert (position.margin_mode, position.leverage) == (MarginMode.ISOLATED, Decimal(7))


async def test_the_account_s_stream_tells_of_both_products(desk: Desk) -> None:
    events: list[Any] = []
    news = anyio.Event()

    async def read(stream: Any) -> None:
        nonlocal news
        async for event in stream:
            events.append(event)
            news.set()
            news = anyio.Event()

    async def until(told: Callable[[], bool]) -> None:
        with anyio.fail_after(15):
            while not told():
                await news.wait()

    def live() -> bool:
        return {e.product for e in events if isinstance(e, AccountStatus) and e.live} == {"spot", "futures"}

    async with desk.astra.stream_account("KUCOIN") as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        await until(live)
        for market in desk.markets.values():
            _, ask = await desk.top(market)
            placed = await desk.astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))

            def told(placed: Order = placed, market: Market = market, ask: Decimal = ask) -> bool:
                fills = [e for e in events if isinstance(e, Fill) and e.order_id == placed.id and e.fee]
                ends = [e for e in events if isinstance(e, Order) and e.id == placed.id and e.status.is_final]
                held = market.contract_size is None or any(
                    isinstance(e, Position) and e.market == market.symbol and e.contracts for e in events
                )
                return bool(fills and ends and held) and ends[-1].average_price == ask

            await until(told)
            resting = await desk.astra.place_order(market.symbol, bid(market, 2, price=await desk.away(market)))
            await desk.astra.cancel_order(market.symbol, id=resting.id)
            await until(
                lambda resting=resting: any(  # type: ignore[misc]
                    isinstance(e, Order) and e.id == resting.id and e.status is OrderStatus.CANCELED for e in events
                )
            )
        tasks.cancel_scope.cancel()
    assert {event.wallet for event in events if isinstance(event, Balance)} == {"unified"}
    fills = [event for event in events if isinstance(event, Fill)]
    assert len({(fill.market, fill.id) for fill in fills}) == len(fills) == 3


@pytest.mark.parametrize("without", ["spot key", "spot"])
async def test_the_wallet_is_told_by_the_futures_side_where_spot_s_is_not_there(desk: Desk, without: str) -> None:
    """By REST and on the stream: the credentials have a futures key alone, or spot is not served."""
    own, settings = desk.own, copy.deepcopy(desk.sandbox.settings)
    if without == "spot":
        settings["venues"]["KUCOIN"]["products"] = ["futures"]
    else:
        key = own.key_for(FUTURES)
        assert key is not None
        own = own.model_copy(update={"keys": {FUTURES: key}})
    async with Astra(settings=settings, credentials=[own]) as astra:
        (asset, *_) = [balance.asset for balance in await astra.get_balances("KUCOIN") if balance.asset == "USDT"]
        market = desk.markets["linear"]
        async with astra.stream_account("KUCOIN") as stream:
            with anyio.fail_after(15):
                async for event in stream:
                    if isinstance(event, AccountStatus) and event.live:
                        break
                _, ask = await desk.top(market)
                await astra.place_order(market.symbol, bid(market, 1, price=ask, time_in_force="IOC"))
                async for event in stream:
                    if isinstance(event, Balance):
                        break
        assert isinstance(event, Balance)
        assert (event.asset, event.wallet) == (asset, "unified")


def test_one_side_alone_subscribes_the_wallet(outlet: Any) -> None:
    asked: dict[tuple[str, bool], set[str]] = {}
    for product in (SPOT, FUTURES):
        for wallet in (True, False):
            running, _ = session(outlet, product, tells_wallet=wallet)
            asked[product, wallet] = {json.loads(frame)["channel"] for frame in running.subscriptions().values()}
    for product in (SPOT, FUTURES):
        assert asked[product, True] - asked[product, False] == {"balance"}
    assert "positionAll" in asked[FUTURES, True]


@pytest.mark.parametrize("product", PRODUCTS)
async def test_commands_reach_a_triggered_order_by_its_earlier_id(desk: Desk, product: str) -> None:
    astra, market = desk.astra, desk.markets[product]
    best_bid, _ = await desk.top(market)
    low = await desk.away(market)
    take = OrderRequest.model_validate(
        {"side": "BUY", "type": "TAKE_PROFIT_LIMIT", "price": low, "stop_price": best_bid, **amount(market, 2)}
    )
    placed = await astra.place_order(market.symbol, take)
    sell = OrderRequest.model_validate({"side": "SELL", "type": "LIMIT", "price": best_bid, **amount(market, 1)})
    await astra.place_order(market.symbol, sell, credentials=desk.other)
    amended = await astra.amend_order(market.symbol, OrderChange.model_validate(amount(market, 1)), id=placed.id)
    assert (amended.client_order_id, amended.id != placed.id) == (placed.client_order_id, True)
    canceled = await astra.cancel_order(market.symbol, id=placed.id)
    assert (canceled.id, canceled.status) == (amended.id, OrderStatus.CANCELED)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_a_triggered_order_goes_on_under_its_client_order_id(desk: Desk, product: str) -> None:
    market = desk.markets[product]
    best_bid, _ = await desk.top(market)
    take = OrderRequest.model_validate(
        {"side": "BUY", "type": "TAKE_PROFIT_LIMIT", "price": best_bid, "stop_price": best_bid, **amount(market, 2)}
    )
    placed = await desk.astra.place_order(market.symbol, take)
    sell = OrderRequest.model_validate({"side": "SELL", "type": "LIMIT", "price": best_bid, **amount(market, 1)})
    await desk.astra.place_order(market.symbol, sell, credentials=desk.other)
    found = await desk.astra.get_order(market.symbol, client_order_id=placed.client_order_id)
    assert found.id != placed.id
    again = await desk.astra.get_order(market.symbol, id=placed.id)
    assert (again.id, again.client_order_id) == (found.id, placed.client_order_id)
    await desk.astra.cancel_order(market.symbol, id=placed.id)
    assert (await desk.astra.get_order(market.symbol, id=found.id)).status is OrderStatus.CANCELED


# -- what was recorded --------------------------------------------------------------------------------------------


def session(
    outlet: Any, product: str, *markets: Market, tells_wallet: bool = True
) -> tuple[UnifiedAccountSession, Channel]:
    known = {market.native_symbol: market for market in markets}
    endpoint = Endpoint(name=f"{product} account", url="wss://x")
    running = UnifiedAccountSession(endpoint, outlet, None, product, known.get, KEY, tells_wallet=tells_wallet)
    return running, Channel(DataType.ACCOUNT, product)


def logged_in(outlet: Any, product: str, *markets: Market) -> tuple[UnifiedAccountSession, Channel]:
    running, channel = session(outlet, product, *markets)
    assert list(running.opened(1742175983882)) == []
    running.received(b'{"sessionId":"x","message":"welcome","pingInterval":18000}', 1)
    assert not running.ready
    running.received(b'{"id":"login","result":true}', 1)
    assert running.ready
    frames = [json.loads(frame) for frame in running.subscribe([channel], 0)]
    for frame in frames:
        running.received(json.dumps({"id": frame["id"], "result": True}).encode(), 1)
    assert outlet.acks == [channel]
    return running, channel


def test_documented_frames_decode(recordings: Any, outlet: Any) -> None:
    market = recordings.market("BTC-USDT")
    xrp = market.model_copy(update={"symbol": "KUCOIN-SPOT-XRP-USDT", "native_symbol": "XRP-USDT"})
    running, channel = logged_in(outlet, SPOT, market, xrp)
    for payload in recordings.received("uta-private"):
        running.received(payload, 1)
    placed, filled, fill, balance = outlet.inputs[channel].account_events
    assert (placed.status, placed.type, placed.quantity) == (OrderStatus.NEW, OrderType.MARKET, Decimal("0.00001"))
    assert (filled.status, filled.average_price) == (OrderStatus.FILLED, Decimal(66421))
    assert filled.updated_time == 1770380108526
    assert (fill.id, fill.fee, fill.liquidity) == ("22221471895799808", Decimal("0.000999937432"), "TAKER")
    assert (balance.asset, balance.wallet, balance.total) == ("BTC", "unified", Decimal("0.0000517"))


def test_the_login_frame_is_the_documented_one(recordings: Any, outlet: Any) -> None:
    running, _ = session(outlet, FUTURES)
    list(running.opened(1742175983882))
    running.received(b'{"message":"welcome"}', 1)
    frame = json.loads(outlet.sent[0])
    (vector,) = [v for v in recordings.file("signing.json")["vectors"] if v.get("kind") == "uta-auth"]
    assert frame | vector["expected"] == frame
    assert (frame["op"], frame["kc-api-timestamp"]) == ("auth", vector["timestamp"])


def test_a_refused_login_is_told_to_whoever_subscribes(outlet: Any) -> None:
    running, channel = session(outlet, FUTURES)
    running.received(b'{"id":"login","result":false,"message":"Invalid KC-API-SIGN"}', 1)
    assert running.ready
    assert list(running.subscribe([channel], 0)) == []
    ((_, error, final),) = outlet.refusals
    assert isinstance(error, AuthenticationError)
    assert final


def test_answers_of_unified_accounts_parse(recordings: Any) -> None:
    market = recordings.market("XBTUSDTM")
    row = unified.decode_order(recordings.body("uta-order")).data
    assert row is not None
    order = row.order(market)
    assert (order.status, order.contracts, order.quantity) == (OrderStatus.FILLED, Decimal(1), Decimal("0.001"))
    assert (order.type, order.average_price, order.created_time) == (
        OrderType.MARKET,
        Decimal("93026.2"),
        1768816081243,
    )
    (resting,) = unified.decode_orders(recordings.body("uta-open-orders")).data.items
    assert resting.order(market).price == Decimal(30)
    assert unified.decode_accepted(recordings.body("uta-place-order")).data.order_id == "385543068587233280"
    page = unified.decode_fills(recordings.body("uta-user-trades")).data
    fill = page.items[0].fill(recordings.market("BTC-USDT"))
    assert (fill.id, fill.quantity, fill.time) == ("20408356621008896", Decimal("0.001"), 1768216134336)
    (held,) = unified.decode_positions(recordings.body("uta-positions")).data or ()
    position = held.position(market)
    assert (position.quantity, position.leverage, position.margin_mode) == (
        Decimal("0.001"),
        Decimal(48),
        MarginMode.CROSS,
    )
    (account,) = unified.decode_accounts(recordings.body("uta-balances")).data.accounts
    assert [row.currency for row in account.currencies] == ["USDT", "BTC"]
    assert unified.decode_fees(recordings.body("uta-fee-rate")).data.rows[0].symbol == "ETH-USDT"


def test_sizes_in_other_units_are_read_as_they_are_meant(recordings: Any) -> None:
    row = {"orderId": "1", "orderType": "MARKET", "side": "BUY", "status": 3, "avgPrice": "50000"}
    in_base = row | {"symbol": "XBTUSDTM", "size": "0.012", "filledSize": "0.012", "sizeUnit": "BASECCY"}
    order = msgspec.convert(in_base, unified_rows.OrderRow).order(recordings.market("XBTUSDTM"))
    assert (order.contracts, order.filled_contracts, order.quantity) == (Decimal(12), Decimal(12), Decimal("0.012"))
    in_quote = row | {"symbol": "BTC-USDT", "size": "12.5", "filledSize": "12.4", "sizeUnit": "QUOTECCY"}
    order = msgspec.convert(in_quote, unified_rows.OrderRow).order(recordings.market("BTC-USDT"))
    assert (order.quote_quantity, order.quantity, order.filled_quantity) == (Decimal("12.5"), None, None)
