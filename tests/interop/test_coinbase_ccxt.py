"""ccxt's Coinbase clients, pointed at the sandbox: they see the engine's markets, books, trades, orders and money.

ccxt is written by others against the real venue, so what it cannot read here would be a mistake of the sandbox. Where
ccxt itself is wrong the recordings decide; noted where it matters:

- On Advanced Trade it passes the side of a public trade through, though it is the maker's (the recordings show which).
- It gives contracts of one base and expiry one symbol whatever their size: they are told apart by id here.
- Its Python build of the gateway's client fails at its own log-in by HTTP (see `client_of`).
- From the user channel it takes the filled quantity for an order's amount.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
import ccxt.pro
import pytest

from astra.models.markets import MarketStatus
from astra.models.orders import OrderType
from astra.models.trades import Side
from astra_coinbase.sandbox import CoinbaseSandbox
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox
from with_ccxt import MARKS, PATIENCE_S, account_of, connected, until

pytestmark = MARKS


class Product(NamedTuple):
    """A product as ccxt and the engine name it. `amount`: what is traded of it, in ccxt's unit."""

    client: str
    market: str
    symbol: str
    price: str
    amount: float

    @property
    def wallet(self) -> str:
        names = {"coinbase": "spot" if ":" not in self.market else "us_futures"}
        return names.get(self.client, "international")


PRODUCTS = {
    "spot": Product("coinbase", "BTC/USD", "COINBASE-SPOT-BTC-USD", "50000", 0.5),
    "us_futures": Product("coinbase", "BTC/USD:USD", "COINBASE-PERP-BTC-USD-BIP", "50000", 7),
    "linear": Product("coinbaseinternational", "BTC/USDC:USDC", "COINBASE-PERP-BTC-USDC", "50000", 0.05),
    "inverse": Product("coinbaseinternational", "BTC/USD:BTC", "COINBASE-PERP-BTC-USD-COINM", "50000", 700),
    "options": Product(
        "coinbaseinternational",
        "BTC/USD:BTC-270625-90000-C",
        "COINBASE-OPT-BTC-USD-270625-90000-C-COINM",
        "0.05",
        3,
    ),
}
EACH = pytest.mark.parametrize("product", list(PRODUCTS))
CLIENTS = pytest.mark.parametrize("product", ["spot", "linear"], ids=["advanced", "gateway"])
GATEWAY = pytest.mark.parametrize("product", ["linear", "inverse", "options"])


def client_of(sandbox: Sandbox, name: str) -> Any:
    """ccxt's client, with every URL pointed away from the real venue; its tokens name the real host."""
    hosts = sandbox.settings["venues"]["COINBASE"]["hosts"]
    account = account_of(sandbox)
    client = getattr(ccxt.pro, name)({"apiKey": account.key, "secret": account.secret, "enableRateLimit": False})
    client.has["fetchCurrencies"] = False
    client.timeout_on_exit = 0
    if name == "coinbase":
        here, there = hosts["advanced_rest"], "https://api.coinbase.com"
        client.urls["api"] = {"rest": here, "ws": hosts["advanced_stream"]}
        client.options |= {"fetchTime": "v3PublicGetBrokerageTime", "fetchBalance": "v3PrivateGetBrokerageAccounts"}
    else:
        here, there = hosts["international_rest"], "https://drb.coinbase.com"
        client.urls["api"] = {
            "rest": here + "/api/v2",
            "ws": hosts["international_stream"] + "/ws/api/v2",
            "wsPrivate": hosts["international_private_stream"] + "/ws/api/v2",
        }
    made = client.create_auth_token

    def token(seconds: int, method: str | None = None, url: str | None = None, useEddsa: bool = False) -> str:
        return str(made(seconds, method, None if url is None else url.replace(here, there), useEddsa))

    client.create_auth_token = token
    if name != "coinbase":  # its Python build cannot extend a dictionary by None, as its own log-in by HTTP asks for
        extended = client.extend
        client.extend = lambda *parts: extended(*(part for part in parts if part is not None))
    return client


def running(product: str, *, flow: bool) -> AbstractAsyncContextManager[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded)."""
    markets = (22 if product == "options" else 12) if flow else None
    return connected(
        "COINBASE", lambda sandbox: client_of(sandbox, PRODUCTS[product].client), flow=flow, markets=markets
    )


def unit(engine: MatchingEngine, product: str) -> Decimal:
    """What the engine's quantities are multiplied with to give ccxt's: contracts on Advanced Trade, else amounts."""
    market = engine.markets[PRODUCTS[product].symbol]
    return Decimal(1) if market.product != "international" else market.contract_size or Decimal(1)


def crowd(engine: MatchingEngine, product: str, side: str, amount: float, price: str | None = None) -> None:
    """An order of the crowd, in ccxt's unit."""
    quantity = Decimal(str(amount)) / unit(engine, product)
    worth = None if price is None else Decimal(price)
    engine.house_place(PRODUCTS[product].symbol, Side(side), quantity, worth)


def sides(book: Any, levels: int) -> tuple[list[list[float]], list[list[float]]]:
    return [row[:2] for row in book["bids"][:levels]], [row[:2] for row in book["asks"][:levels]]


def engine_sides(engine: MatchingEngine, product: str, levels: int) -> tuple[list[list[float]], list[list[float]]]:
    _, bids, asks = engine.depth(PRODUCTS[product].symbol, levels)
    size = unit(engine, product)
    return (
        [[float(level.price), float(level.quantity * size)] for level in bids],
        [[float(level.price), float(level.quantity * size)] for level in asks],
    )


class TestMarkets:
    @CLIENTS
    async def test_ccxt_lists_what_the_engine_trades(self, product: str) -> None:
        gateway = PRODUCTS[product].client != "coinbase"
        async with running(product, flow=False) as (_, engine, client):
            listed = [market for market in engine.markets.values() if (market.product == "international") is gateway]
            extra = {"BTC_USDC"} if gateway else set()  # traded elsewhere
            assert client.markets_by_id.keys() == {market.native_symbol for market in listed} | extra
            for market in listed:
                (theirs,) = client.markets_by_id[market.native_symbol]
                amounts = market.contract_size if gateway else 1
                assert theirs["precision"]["price"] == float(market.tick_size or 0)
                assert theirs["precision"]["amount"] == float((market.lot_size or 0) * (amounts or 1))
                assert theirs["active"] is (market.status is MarketStatus.ACTIVE)
                assert theirs["base"] == market.base_asset
                assert theirs["quote"] == market.quote_asset
                if market.contract_size is not None:
                    assert theirs["contractSize"] == float(market.contract_size)
                    assert theirs["inverse"] is market.is_coin_margined
                    assert theirs["settle"] == market.margin_asset
                if theirs["type"] in ("future", "option"):
                    assert theirs["expiry"] == market.expiry

    @CLIENTS
    async def test_time(self, product: str) -> None:
        async with running(product, flow=False) as (sandbox, _, client):
            assert abs(await client.fetch_time() - sandbox.clock.wall_ns() // 1_000_000) < 5000


class TestBooksAndTrades:
    @EACH
    async def test_books_by_rest(self, product: str) -> None:
        async with running(product, flow=True) as (sandbox, engine, client):
            sandbox.set_pace("COINBASE", 0)
            book = await client.fetch_order_book(PRODUCTS[product].market, 20)
            assert sides(book, 20) == engine_sides(engine, product, 20)

    @EACH
    async def test_books_by_stream(self, product: str) -> None:
        name = PRODUCTS[product].market
        async with running(product, flow=True) as (sandbox, engine, client):

            async def watch() -> Any:
                return await client.watch_order_book(name)

            for _ in range(5):
                with anyio.fail_after(PATIENCE_S):
                    await watch()
            sandbox.set_pace("COINBASE", 0)
            crowd(engine, product, "BUY", PRODUCTS[product].amount, "0.01")  # one more frame, whatever came before
            await until(watch, lambda book: sides(book, 20) == engine_sides(engine, product, 20))

    @EACH
    async def test_trades(self, product: str) -> None:
        _, name, symbol, _, _ = PRODUCTS[product]
        advanced = PRODUCTS[product].client == "coinbase"
        async with running(product, flow=True) as (sandbox, engine, client):
            crowd(engine, product, "BUY", PRODUCTS[product].amount)  # ccxt cannot read a snapshot without trades
            with anyio.fail_after(PATIENCE_S):
                seen = [dict(trade) for trade in await client.watch_trades(name)]
            if advanced:  # ccxt has no trades of the gateway by REST
                seen += await client.fetch_trades(name)
            venue = sandbox.venue("COINBASE")
            assert isinstance(venue, CoinbaseSandbox)
            number = venue.catalogue.of_symbol(symbol).trade_id
            true = {number(trade.id): trade for trade in engine.trades(symbol, limit=1000)}
            assert seen
            for theirs in seen:
                ours = true[theirs["id"]]
                quantity = ours.quantity * unit(engine, product)
                assert (theirs["price"], theirs["amount"]) == (float(ours.price), float(quantity))
                assert theirs["timestamp"] == ours.time
                assert (theirs["side"] == ours.side.lower()) is not advanced

    @EACH
    async def test_tickers(self, product: str) -> None:
        name, price, amount = PRODUCTS[product].market, PRODUCTS[product].price, PRODUCTS[product].amount
        async with running(product, flow=False) as (_, engine, client):
            crowd(engine, product, "BUY", 2 * amount, price)
            crowd(engine, product, "SELL", amount)
            theirs = await client.fetch_ticker(name)
            assert theirs["bid"] == float(price)
            assert theirs["last"] == float(price)


class TestOrders:
    @EACH
    async def test_an_orders_life(self, product: str) -> None:
        _, name, symbol, price, amount = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, float(price))
            (ours,) = engine.open_orders(account)
            assert ours.quantity * unit(engine, product) == Decimal(str(amount))
            (listed,) = await client.fetch_open_orders(name)
            shown = await client.fetch_order(placed["id"], name)
            for seen in (listed, shown):
                assert (seen["id"], seen["status"], seen["side"]) == (placed["id"], "open", "buy")
                assert (seen["price"], seen["amount"], seen["filled"]) == (float(price), amount, 0)
                assert seen["clientOrderId"] == ours.client_order_id
            part = 0.2 if product == "spot" else {"linear": 0.02, "inverse": 300}.get(product, 1)
            crowd(engine, product, "SELL", part, price)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("open", part, float(price))
            (fill,) = await client.fetch_my_trades(name)
            (mine,) = engine.fills(account, symbol)
            assert (fill["order"], fill["side"], fill["amount"]) == (placed["id"], "buy", part)
            maker = fill["info"].get("liquidity", fill["takerOrMaker"])  # ccxt does not read the gateway's
            assert (fill["price"], maker) in ((float(price), "maker"), (float(price), "M"))
            assert fill["fee"]["cost"] == float(mine.fee)
            await client.cancel_order(placed["id"], name)
            assert await client.fetch_open_orders(name) == []
            assert (await client.fetch_order(placed["id"], name))["status"] == "canceled"
            with pytest.raises(ccxt.BaseError):
                await client.cancel_order(placed["id"], name)

    @EACH
    async def test_a_market_order(self, product: str) -> None:
        _, name, _, price, amount = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            crowd(engine, product, "BUY", amount, price)
            placed = await client.create_order(name, "market", "sell", amount)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("closed", amount, float(price))

    async def test_a_market_buy_by_cost(self) -> None:
        name = PRODUCTS["spot"].market
        async with running("spot", flow=False) as (_, engine, client):
            crowd(engine, "spot", "SELL", 1, "50000")
            placed = await client.create_market_buy_order_with_cost(name, 1000)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"]) == ("closed", 0.02)
            (fill,) = await client.fetch_my_trades(name)
            assert (fill["amount"], fill["fee"]["cost"]) == (0.02, 12.0)

    @EACH
    async def test_amending(self, product: str) -> None:
        _, name, symbol, price, amount = PRODUCTS[product]
        better = float(price) * 1.1
        async with running(product, flow=False) as (sandbox, engine, client):
            placed = await client.create_order(name, "limit", "buy", amount, float(price))
            await client.edit_order(placed["id"], name, "limit", "buy", 2 * amount, better)
            (ours,) = engine.open_orders(account_of(sandbox), symbol)
            assert ours.price == pytest.approx(Decimal(str(better)))
            assert ours.quantity * unit(engine, product) == Decimal(str(2 * amount))

    @pytest.mark.parametrize("product", ["spot", "us_futures"])
    async def test_stops_of_advanced_trade(self, product: str) -> None:
        name, amount = PRODUCTS[product].market, PRODUCTS[product].amount
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, product, "BUY", amount, "50000")
            crowd(engine, product, "SELL", amount)
            await client.create_order(name, "limit", "sell", amount, 45_000, {"stopLossPrice": 46_000})
            await client.create_order(name, "limit", "sell", amount, 60_000, {"takeProfitPrice": 59_000})
            kinds = [order.type for order in engine.open_orders(account_of(sandbox))]
            assert kinds == [OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT]
            listed = await client.fetch_open_orders(name)
            assert {order["triggerPrice"] for order in listed} == {46_000.0, 59_000.0}

    @CLIENTS
    async def test_refusals_are_read_as_what_they_are(self, product: str) -> None:
        _, name, _, _, amount = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            crowd(engine, product, "SELL", amount, "60000")
            # Of the gateway's codes ccxt knows one, 13004.
            with pytest.raises(
                ccxt.InsufficientFunds if product == "spot" else ccxt.ExchangeError, match=r"FUND|10009"
            ):
                await client.create_order(name, "limit", "buy", 3_000 if product == "spot" else 9_000, 40_000)
            with pytest.raises(ccxt.ExchangeError, match=r"(?i)post.?only"):
                await client.create_order(name, "limit", "buy", amount, 60_000, {"postOnly": True})
            with pytest.raises(ccxt.BaseError):
                await client.fetch_order("52cfe5e2-0b29-4c19-a245-a6a773de5030", name)
            client.apiKey = "organizations/nobody/apiKeys/nothing"
            client.options["v2AccessToken"] = None
            client.token = ""
            with pytest.raises(ccxt.AuthenticationError if product == "linear" else ccxt.ExchangeError):
                await client.fetch_balance()

    @pytest.mark.parametrize("product", ["spot", "us_futures"])
    async def test_orders_are_told_on_the_user_channel(self, product: str) -> None:
        _, name, symbol, price, amount = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            placed = await client.create_order(name, "limit", "buy", amount, float(price))
            with anyio.fail_after(PATIENCE_S):
                told = (await client.watch_orders(name))[-1]
            assert (told["id"], told["price"], told["remaining"]) == (placed["id"], float(price), amount)
            crowd(engine, product, "SELL", amount, price)
            found = await until(lambda: client.watch_orders(name), lambda orders: orders[-1]["status"] == "closed")
            assert (found[-1]["id"], found[-1]["filled"], found[-1]["average"]) == (placed["id"], amount, float(price))
            (ours,) = engine.orders(account_of(sandbox), symbol)
            assert found[-1]["clientOrderId"] == ours.client_order_id

    @GATEWAY
    async def test_orders_over_the_gateways_socket(self, product: str) -> None:
        _, name, _, price, amount = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            watching = asyncio.ensure_future(client.watch_orders(name))
            trades = asyncio.ensure_future(client.watch_my_trades(name))
            await client.fetch_positions_ws()  # the subscriptions, sent before, are through
            placed = await client.create_order_ws(name, "limit", "buy", amount, float(price))
            with anyio.fail_after(PATIENCE_S):
                (told,) = await watching
            assert (told["id"], told["status"], told["amount"]) == (placed["id"], "open", amount)
            crowd(engine, product, "SELL", amount, price)
            with anyio.fail_after(PATIENCE_S):
                (fill,) = await trades
            assert (fill["order"], fill["amount"], fill["price"]) == (placed["id"], amount, float(price))
            assert (await client.fetch_order_ws(placed["id"], name))["status"] == "closed"


class TestMoney:
    @EACH
    async def test_balances_are_the_engines(self, product: str) -> None:
        _, name, _, price, amount = PRODUCTS[product]
        wallet = PRODUCTS[product].wallet
        async with running(product, flow=False) as (sandbox, engine, client):
            await client.create_order(name, "limit", "buy", amount, float(price))
            held = {b.asset: b for b in engine.balances(account_of(sandbox)) if b.wallet == wallet}
            assert any(ours.locked for ours in held.values())
            if product == "us_futures":
                raw = await client.v3PrivateGetBrokerageCfmBalanceSummary()
                assert Decimal(raw["balance_summary"]["cfm_usd_balance"]["value"]) == held["USD"].total
                return
            balance = await client.fetch_balance()
            for asset, ours in held.items():
                theirs = balance[asset]
                assert theirs["free"] == pytest.approx(float(ours.available))
                assert theirs["total"] == pytest.approx(float(ours.total))

    @pytest.mark.parametrize("product", ["us_futures", "linear", "inverse", "options"])
    async def test_positions_are_the_engines(self, product: str) -> None:
        _, name, _, price, amount = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, product, "BUY", amount, price)
            await client.create_order(name, "market", "sell", amount)
            (theirs,) = [p for p in await client.fetch_positions([name]) if p["contracts"]]
            (ours,) = engine.positions(account_of(sandbox))
            assert theirs["side"] == "short"
            # Of the gateway ccxt passes the signed size through.
            assert abs(theirs["contracts"]) == float(-ours.quantity * unit(engine, product))
            if product != "us_futures":  # ccxt has the price of these in `info` alone
                assert theirs["entryPrice"] == float(ours.entry_price)

    async def test_leverage_reaches_the_engine(self) -> None:
        _, name, symbol, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, _, client):
            await client.authenticate_v2()
            await client.set_leverage(7, name)
            assert account_of(sandbox).settings["leverage"][symbol] == 7
            assert (await client.fetch_leverage(name))["longLeverage"] == 7
