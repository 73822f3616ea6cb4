"""ccxt's Binance clients, pointed at the sandbox: they see the engine's markets, books, trades, orders and money.

ccxt is written by others against the real venue, so what it cannot read here would be a mistake of the sandbox. Where
ccxt itself is wrong (see the notes below) the venue's documents and the recordings decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import ccxt.pro
import pytest

from astra import Astra
from astra.models.markets import Market, MarketStatus
from astra.models.orders import OrderRequest, OrderStatus, OrderType
from astra.models.trades import Side
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox
from with_ccxt import MARKS, NOWHERE, PATIENCE_S, account_of, connected, crowd, engine_sides, sides, until

pytestmark = MARKS


class Product(NamedTuple):
    """A product as ccxt and the engine name it."""

    client: str
    kind: str
    market: str
    symbol: str


PRODUCTS = {
    "spot": Product("binance", "spot", "BTC/USDT", "BINANCE-SPOT-BTC-USDT"),
    "usdm": Product("binanceusdm", "linear", "BTC/USDT:USDT", "BINANCE-PERP-BTC-USDT"),
    "coinm": Product("binancecoinm", "inverse", "BTC/USD:BTC", "BINANCE-PERP-BTC-USD-COINM"),
    "options": Product("binance", "option", "BTC/USDT:USDT-270326-90000-C", "BINANCE-OPT-BTC-USDT-270326-90000-C"),
}
EACH = pytest.mark.parametrize("product", list(PRODUCTS))
TRADED = pytest.mark.parametrize("product", ["spot", "usdm", "coinm"])


def client_of(sandbox: Sandbox, product: str) -> Any:
    """ccxt's client for a product, with every URL pointed away from the real venue."""
    hosts = sandbox.settings["venues"]["BINANCE"]["hosts"]
    name, kind, _, _ = PRODUCTS[product]
    account = account_of(sandbox)
    client = getattr(ccxt.pro, name)({"apiKey": account.key, "secret": account.secret, "enableRateLimit": False})
    client.options.update(
        fetchMarkets={"types": [kind]},
        fetchCurrencies=False,
        fetchMargins=False,
        defaultType=client.options["defaultType"],
    )
    if product == "options":
        client.options["defaultType"] = "option"
    client.has["fetchCurrencies"] = False
    rest = {"public": "spot_rest", "private": "spot_rest"}
    for prefix, host in (("fapi", "usdm_rest"), ("dapi", "coinm_rest"), ("eapi", "options_rest")):
        for level in ("Public", "Private", "PublicV2", "PrivateV2", "PublicV3", "PrivateV3"):
            rest[prefix + level] = host
    for api, url in client.urls["api"].items():
        if isinstance(url, str):
            path = "/" + url.split("/", 3)[3] if url.count("/") > 2 else ""
            client.urls["api"][api] = (hosts[rest[api]] if api in rest else NOWHERE) + path
    client.urls["api"]["ws"] = {
        "spot": hosts["spot_stream"] + "/ws",
        "linear": hosts["usdm_stream"] + "/ws",
        "inverse": hosts["coinm_stream"] + "/ws",
        "option": hosts["options_stream"] + "/public/ws",
        "optionPrivate": hosts["options_stream"] + "/private/ws",
        "ws-api": {"spot": hosts["spot_ws_api"] + "/ws-api/v3"},
    }
    family = {"spot": "https://api.", "usdm": "https://fapi.", "coinm": "https://dapi.", "options": "https://eapi."}
    codes_of = client.get_exceptions_by_url  # it tells the families apart by the real hosts
    client.get_exceptions_by_url = lambda url, match: codes_of(f"{family[product]}binance.com/", match)
    return client


def running(product: str, *, flow: bool) -> AbstractAsyncContextManager[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded)."""
    # Four markets are the first of each product: the ones of PRODUCTS.
    return connected("BINANCE", lambda sandbox: client_of(sandbox, product), flow=flow, markets=4 if flow else None)


class TestMarkets:
    @EACH
    async def test_ccxt_lists_what_the_engine_trades(self, product: str) -> None:
        async with running(product, flow=False) as (_, engine, client):
            ours = {m.native_symbol: m for m in engine.markets.values() if m.product == product}
            theirs = {market["id"]: market for market in client.markets.values()}
            assert theirs.keys() == ours.keys()
            for native, market in ours.items():
                self.compare(market, theirs[native])

    def compare(self, ours: Market, theirs: Any) -> None:
        def number(value: Decimal | None) -> float | None:
            return None if value is None else float(value)

        assert (theirs["base"], theirs["quote"]) == (ours.base_asset, ours.quote_asset)
        if ours.product != "options":  # ccxt does not read the status of options
            assert theirs["active"] is (ours.status is MarketStatus.ACTIVE)
        assert theirs["precision"]["price"] == number(ours.tick_size)
        assert theirs["precision"]["amount"] == number(ours.lot_size)
        limits = theirs["limits"]
        assert (limits["amount"]["min"], limits["amount"]["max"]) == (
            number(ours.min_quantity),
            number(ours.max_quantity),
        )
        if ours.min_notional is not None:
            assert limits["cost"]["min"] == number(ours.min_notional)
        if ours.product != "spot":
            assert theirs["settle"] == ours.margin_asset
            assert theirs["contractSize"] == float(ours.contract_size or 1)
            assert theirs["inverse"] is ours.is_inverse
        if ours.expiry is not None:
            assert theirs["expiry"] == ours.expiry
        if ours.strike is not None:
            assert theirs["strike"] == float(ours.strike)
            assert theirs["optionType"][0].upper() == ours.option_type


class TestBooks:
    @EACH
    async def test_a_snapshot_is_the_engines_book(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            sandbox.set_pace("BINANCE", 0)
            book = await client.fetch_order_book(name, 100)
            assert sides(book) == engine_sides(engine, symbol, 100)
            assert len(book["bids"]) > 20

    @EACH
    async def test_a_live_book_ends_as_the_engines(self, product: str) -> None:
        """In COIN-M ccxt applies Spot's rule (U <= L + 1 <= u) to its buffered frames. There ids are not contiguous: a
        frame that continues the snapshot by `pu` == L is thrown away, and ccxt reports a broken chain at the next one.
        The documents and all the recordings have `pu` == L as the lawful continuation, so ccxt is asked again.
        """
        _, _, name, symbol = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            updates = 0
            stopped = False

            async def watch() -> Any:
                try:
                    return await client.watch_order_book(name)
                except ccxt.ChecksumError:
                    assert product == "coinm"
                    return None

            def ended(book: Any) -> bool:
                nonlocal updates, stopped
                updates += book is not None
                if updates == 5:
                    sandbox.set_pace("BINANCE", 0)
                    stopped = True
                    # One more change, so that a frame ends the book.
                    crowd(
                        engine, symbol, "BUY", str(engine.markets[symbol].min_quantity), self.far_below(engine, symbol)
                    )
                return stopped and book is not None and sides(book) == engine_sides(engine, symbol, 1000)

            await until(watch, ended)

    def far_below(self, engine: MatchingEngine, symbol: str) -> str:
        _, bids, _ = engine.depth(symbol, 1000)
        tick = engine.markets[symbol].tick_size
        assert tick is not None
        return str(bids[-1].price - tick)


class TestTrades:
    @EACH
    async def test_rest_trades_are_the_engines(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            with anyio.fail_after(PATIENCE_S):
                while len(engine.trades(symbol)) < 3:
                    await anyio.wait_all_tasks_blocked()
                    await anyio.sleep(0.02)
            sandbox.set_pace("BINANCE", 0)
            # Aggregates by default; of options and by this method single trades.
            method = {"spot": "publicGetTrades", "usdm": "fapiPublicGetTrades", "coinm": "dapiPublicGetTrades"}
            params = {"fetchTradesMethod": method[product]} if product in method else {}
            rows = await client.fetch_trades(name, params=params)
            ours = engine.trades(symbol)
            assert [(row["price"], row["amount"], row["side"], row["timestamp"]) for row in rows] == [
                (float(trade.price), float(trade.quantity), trade.side.lower(), trade.time) for trade in ours
            ]

    @EACH
    async def test_streamed_trades_are_the_engines(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        seen: dict[str, Any] = {}
        kind = {"coinm": "aggTrade"}.get(product, "trade")
        async with running(product, flow=True) as (_, engine, client):

            async def watch() -> Any:
                return await client.watch_trades(name, params={} if product == "options" else {"name": kind})

            def enough(trades: Any) -> bool:
                seen.update({trade["id"]: trade for trade in trades})
                return len(seen) >= 3

            await until(watch, enough)
            ours = [(float(trade.price), trade.side.lower()) for trade in engine.trades(symbol)]
            theirs = [(trade["price"], trade["side"]) for trade in seen.values()]
            assert all(trade in ours for trade in theirs)
            if product != "coinm":
                exact = {(float(t.price), float(t.quantity), t.side.lower(), t.time) for t in engine.trades(symbol)}
                assert {(t["price"], t["amount"], t["side"], t["timestamp"]) for t in seen.values()} <= exact


QUANTITY = {"spot": 0.1, "usdm": 0.1, "coinm": 7}


class TestOrders:
    @TRADED
    async def test_the_life_of_an_order(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "ccxt-1"})
            assert (placed["status"], placed["clientOrderId"], placed["amount"]) == ("open", "ccxt-1", amount)
            ours = engine.order(account, client_order_id="ccxt-1")
            assert (ours.type, ours.price, float(ours.quantity)) == (OrderType.LIMIT, Decimal(50_000), amount)

            part = "0.04" if product != "coinm" else "3"
            crowd(engine, symbol, "SELL", part, "50000")
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("open", float(part), 50_000.0)
            assert [order["id"] for order in await client.fetch_open_orders(name)] == [placed["id"]]

            (fill,) = await client.fetch_my_trades(name)
            (mine,) = engine.fills(account)
            assert (fill["order"], fill["takerOrMaker"], fill["side"]) == (placed["id"], "maker", "buy")
            assert (fill["price"], fill["amount"]) == (float(mine.price), float(mine.quantity))
            assert (fill["fee"]["cost"], fill["fee"]["currency"]) == (float(mine.fee), mine.fee_asset)

            cancelled = await client.cancel_order(placed["id"], name)
            assert (cancelled["status"], cancelled["filled"]) == ("canceled", float(part))
            assert await client.fetch_open_orders(name) == []
            with pytest.raises(ccxt.OrderNotFound):
                await client.cancel_order(placed["id"], name)
            with pytest.raises(ccxt.OrderNotFound):
                await client.fetch_order("1", name)

    @TRADED
    async def test_a_market_order(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", str(amount), "50000")
            placed = await client.create_order(name, "market", "buy", amount)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("closed", amount, 50_000.0)
            ours = engine.order(account_of(sandbox), client_order_id=placed["clientOrderId"])
            # What ccxt calls the cost of an inverse order is its worth in coin.
            worth = Decimal(7 * 100) / 50_000 if product == "coinm" else ours.filled_quote
            assert shown["cost"] == pytest.approx(float(worth), abs=1e-8)

    @TRADED
    async def test_refusals_are_read_as_what_they_are(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (_, engine, client):
            crowd(engine, symbol, "SELL", str(engine.markets[symbol].min_quantity), "60000")
            post_only: dict[str, Any] = {"spot": ccxt.OrderImmediatelyFillable, "usdm": ccxt.OrderNotFillable}
            # ccxt's table of COIN-M is older than the merger of the back ends: it knows neither -5022 nor -4116 there.
            with pytest.raises(post_only.get(product, ccxt.ExchangeError), match=r"immediately|-5022"):
                await client.create_order(name, "limit", "buy", amount, 60_000, {"postOnly": True})
            most, price = {"spot": (101, 50_000), "usdm": (900, 4_000_000), "coinm": (999_999, 1_000)}[product]
            with pytest.raises(ccxt.InsufficientFunds):
                await client.create_order(name, "limit", "sell", most, price)
            await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            with pytest.raises(ccxt.ExchangeError if product == "coinm" else ccxt.InvalidOrder, match=r"[dD]uplicate"):
                await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            client.secret = "wrong"
            with pytest.raises(ccxt.AuthenticationError):
                await client.fetch_balance()

    @TRADED
    async def test_orders_are_told_on_the_private_stream(self, product: str) -> None:
        _, kind, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (_, engine, client):
            await client.authenticate({"type": kind})
            watching = asyncio.ensure_future(client.watch_orders(name))
            if product != "spot":
                key = client.options[kind]["listenKey"]
                await self.connected(client, client.get_private_ws_url(kind, key))
            placed = await client.create_order(name, "limit", "buy", amount, 50_000)
            with anyio.fail_after(PATIENCE_S):
                (told,) = await watching
            assert (told["id"], told["status"], told["amount"]) == (placed["id"], "open", amount)
            crowd(engine, symbol, "SELL", str(amount), "50000")
            (filled,) = await until(lambda: client.watch_orders(name), lambda orders: orders[-1]["status"] == "closed")
            assert (filled["id"], filled["filled"], filled["average"]) == (placed["id"], amount, 50_000.0)

    async def connected(self, client: Any, url: str) -> None:
        """Wait until ccxt's private connection stands: what happens before it is not told."""
        with anyio.fail_after(PATIENCE_S):
            while url not in client.clients:
                await anyio.lowlevel.checkpoint()
            await client.clients[url].connected

    async def test_a_stop_goes_where_the_venue_wants_it(self) -> None:
        name = PRODUCTS["usdm"].market
        async with running("usdm", flow=False) as (sandbox, engine, client):
            placed = await client.create_order(name, "market", "sell", 0.1, None, {"triggerPrice": 45_000})
            (waiting,) = engine.open_orders(account_of(sandbox))
            assert (waiting.type, waiting.stop_price) == (OrderType.STOP_MARKET, Decimal(45_000))
            assert await client.fetch_open_orders(name) == []
            (listed,) = await client.fetch_open_orders(name, params={"trigger": True})
            assert (listed["id"], listed["triggerPrice"]) == (placed["id"], 45_000.0)
            await client.cancel_order(placed["id"], name, {"trigger": True})
            assert engine.open_orders(account_of(sandbox)) == []


class TestMoney:
    @TRADED
    async def test_balances_are_the_engines(self, product: str) -> None:
        _, _, name, _ = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            await client.create_order(name, "limit", "buy", QUANTITY[product], 50_000)
            balance = await client.fetch_balance()
            held = [b for b in engine.balances(account_of(sandbox)) if b.wallet == product]
            assert held
            for ours in held:
                theirs = balance[ours.asset]
                assert (theirs["free"], theirs["total"]) == (float(ours.available), float(ours.total))
            assert any(ours.locked for ours in held)

    @pytest.mark.parametrize("product", ["usdm", "coinm"])
    async def test_positions_are_the_engines(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "BUY", str(amount), "50000")
            await client.create_order(name, "market", "sell", amount)
            small = str(engine.markets[symbol].min_quantity)
            crowd(engine, symbol, "BUY", small, "47999.9")
            crowd(engine, symbol, "SELL", small, "48000.1")
            (theirs,) = [p for p in await client.fetch_positions([name]) if p["contracts"]]
            (ours,) = engine.positions(account_of(sandbox))
            assert (theirs["side"], theirs["contracts"]) == ("short", float(-ours.quantity))
            assert theirs["entryPrice"] == float(ours.entry_price)
            assert theirs["markPrice"] == float(engine.mark_price(symbol))
            profit = 7 * 100 * (1 / Decimal(48_000) - 1 / Decimal(50_000)) if product == "coinm" else Decimal(200)
            assert theirs["unrealizedPnl"] == pytest.approx(float(profit), abs=1e-8)

    async def test_leverage_and_hedge_mode_reach_the_engine(self) -> None:
        _, _, name, symbol = PRODUCTS["usdm"]
        async with running("usdm", flow=False) as (sandbox, _, client):
            account = account_of(sandbox)
            await client.set_leverage(7, name)
            assert account.settings["leverage"][symbol] == 7
            await client.set_position_mode(True)
            assert account.hedge_mode
            assert (await client.fetch_position_mode())["hedged"]


@asynccontextmanager
async def beside_astra(product: str) -> AsyncIterator[tuple[MatchingEngine, Any, Astra]]:
    """(engine, ccxt's client, Astra) on the same sandbox and the same account."""
    async with (
        running(product, flow=False) as (sandbox, engine, client),
        Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as astra,
    ):
        yield engine, client, astra


class TestAstra:
    """What ccxt sees is what Astra sees."""

    @TRADED
    async def test_markets_and_books(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        async with beside_astra(product) as (engine, client, astra):
            theirs = {market["id"]: market for market in client.markets.values()}
            listed = [market for market in await astra.list_markets("BINANCE") if market.product == product]
            assert {market.native_symbol for market in listed} == theirs.keys()
            for market in listed:
                other = theirs[market.native_symbol]
                assert (float(market.tick_size or 0), float(market.lot_size or 0)) == (
                    other["precision"]["price"],
                    other["precision"]["amount"],
                )
                assert market.expiry == other["expiry"]
            least = str(engine.markets[symbol].min_quantity)
            for price in ("50000", "49999.9"):
                crowd(engine, symbol, "BUY", least, price)
                crowd(engine, symbol, "SELL", least, str(Decimal(price) + 10))
            book = await astra.get_orderbook(symbol, 10)
            found = await client.fetch_order_book(name, 10)
            size = market_size(engine.markets[symbol])
            for ours, others in ((book.bids, found["bids"]), (book.asks, found["asks"])):
                assert len(ours) == 2
                assert list(ours) == [
                    (price, pytest.approx(quantity * size(price), rel=1e-12)) for price, quantity in others
                ]

    @TRADED
    async def test_orders_placed_by_either(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with beside_astra(product) as (_, client, astra):
            given = {"contracts": str(amount)} if product == "coinm" else {"quantity": str(amount)}
            ours = await astra.place_order(symbol, OrderRequest(side="BUY", price="50000", **given))
            seen = await client.fetch_order(ours.id, name)
            assert (seen["clientOrderId"], seen["status"], seen["amount"]) == (ours.client_order_id, "open", amount)

            theirs = await client.create_order(name, "limit", "sell", amount, 60_000, {"clientOrderId": "by-ccxt"})
            found = await astra.get_order(symbol, client_order_id="by-ccxt")
            assert (found.id, found.side, found.price) == (theirs["id"], Side.SELL, Decimal(60_000))
            assert {order.id for order in await astra.list_orders(symbol)} == {
                order["id"] for order in await client.fetch_open_orders(name)
            }
            assert (await astra.cancel_order(symbol, client_order_id="by-ccxt")).status is OrderStatus.CANCELED
            await client.cancel_order(ours.id, name)
            assert (await astra.get_order(symbol, id=ours.id)).status is OrderStatus.CANCELED

    @TRADED
    async def test_fills_balances_and_positions(self, product: str) -> None:
        _, _, name, symbol = PRODUCTS[product]
        amount = QUANTITY[product]
        async with beside_astra(product) as (engine, client, astra):
            crowd(engine, symbol, "SELL", str(amount), "50000")
            await client.create_order(name, "market", "buy", amount)
            (theirs,) = await client.fetch_my_trades(name)
            (ours,) = await astra.list_fills(symbol)
            assert ours.fee is not None
            assert (ours.id, ours.order_id, float(ours.price), float(ours.fee)) == (
                theirs["id"],
                theirs["order"],
                theirs["price"],
                theirs["fee"]["cost"],
            )
            balances = await client.fetch_balance()
            held = [balance for balance in await astra.get_balances("BINANCE") if balance.wallet == product]
            assert held
            for balance in held:
                assert balances[balance.asset]["total"] == float(balance.total)
                assert balance.available is not None
                assert balances[balance.asset]["free"] == float(balance.available)
            if product != "spot":
                (position,) = await astra.get_positions("BINANCE")
                (other,) = [row for row in await client.fetch_positions([name]) if row["contracts"]]
                amounts = position.contracts if product == "coinm" else position.quantity
                assert amounts is not None
                assert position.entry_price is not None
                assert (position.side.lower(), float(amounts), float(position.entry_price)) == (
                    other["side"],
                    other["contracts"],
                    other["entryPrice"],
                )


def market_size(market: Market) -> Callable[[float], float]:
    """Price -> base units in one unit of ccxt's quantities (contracts, where they are inverse)."""
    if not market.is_inverse:
        return lambda price: 1.0
    return lambda price: float(market.contract_size or 1) / price
