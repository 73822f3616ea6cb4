"""ccxt's KuCoin client, pointed at the sandbox: it sees the engine's markets, books, trades, orders and money.

ccxt is written by others against the real venue, so what it cannot read here would be a mistake of the sandbox. Where
ccxt itself is wrong (see the notes below) the venue's documents and the recordings decide.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import ccxt.pro
import pytest

from astra.models.markets import Market, MarketStatus
from astra.models.orders import OrderType
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox
from with_ccxt import MARKS, NOWHERE, PATIENCE_S, account_of, connected, crowd, engine_sides, sides, until

pytestmark = MARKS


class Product(NamedTuple):
    """A kind of market and account as ccxt and the engine name it."""

    market: str
    symbol: str
    amount: float
    part: str
    mode: str
    spot: bool


PRODUCTS = {
    "spot": Product("BTC/USDT", "KUCOIN-SPOT-BTC-USDT", 0.1, "0.04", "CLASSIC", True),
    "linear": Product("BTC/USDT:USDT", "KUCOIN-PERP-XBT-USDT", 100, "40", "CLASSIC", False),
    "inverse": Product("BTC/USD:BTC", "KUCOIN-PERP-XBT-USD-COINM", 100, "40", "CLASSIC", False),
    "unified-spot": Product("BTC/USDT", "KUCOIN-SPOT-BTC-USDT", 0.1, "0.04", "UNIFIED", True),
    "unified-linear": Product("BTC/USDT:USDT", "KUCOIN-PERP-XBT-USDT", 100, "40", "UNIFIED", False),
}
EACH = pytest.mark.parametrize("product", list(PRODUCTS))
CLASSIC = pytest.mark.parametrize("product", ["spot", "linear", "inverse"])


def client_of(sandbox: Sandbox, product: str) -> Any:
    """ccxt's client with every URL pointed away from the real venue."""
    hosts = sandbox.settings["venues"]["KUCOIN"]["hosts"]
    account = account_of(sandbox)
    client = ccxt.pro.kucoin(
        {
            "apiKey": account.key,
            "secret": account.secret,
            "password": account.passphrase,
            "enableRateLimit": False,
        }
    )
    client.has["fetchCurrencies"] = False
    client.options["fetchMarkets"]["fetchTickersFees"] = False
    futures = ("futuresPrivate", "futuresPublic")
    rest = ("public", "private", "uta", "utaV2", "utaPrivate")
    for api, url in client.urls["api"].items():
        if isinstance(url, str):
            host = "futures_rest" if api in futures else "spot_rest" if api in rest else None
            client.urls["api"][api] = NOWHERE if host is None else hosts[host]
    client.urls["api"]["ws"] = {
        "spot": hosts["unified_spot_stream"],
        "futures": hosts["unified_futures_stream"],
        "private": hosts["unified_private_stream"],
    }
    client.options["defaultType"] = "spot" if PRODUCTS[product].spot else "swap"
    return client


def running(product: str, *, flow: bool) -> AbstractAsyncContextManager[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded)."""

    def make_client(sandbox: Sandbox) -> Any:
        account_of(sandbox).settings["mode"] = PRODUCTS[product].mode
        return client_of(sandbox, product)

    # Four markets are the first two of each product: the ones of PRODUCTS.
    load = {"params": {"marginables": False, "uta": False}}
    return connected("KUCOIN", make_client, flow=flow, markets=4 if flow else None, load=load)


class TestMarkets:
    @pytest.mark.parametrize("product", ["spot", "unified-spot"])
    async def test_ccxt_lists_what_the_engine_trades(self, product: str) -> None:
        async with running(product, flow=False) as (_, engine, client):
            ours = {market.native_symbol: market for market in engine.markets.values()}
            theirs = {market["id"]: market for market in client.markets.values()}
            assert theirs.keys() == ours.keys()
            for native, market in ours.items():
                self.compare(market, theirs[native])

    def compare(self, ours: Market, theirs: Any) -> None:
        def number(value: Decimal | None) -> float | None:
            return None if value is None else float(value)

        assert theirs["precision"]["price"] == number(ours.tick_size)
        assert theirs["precision"]["amount"] == number(ours.lot_size)
        assert theirs["quote"] == ours.quote_asset
        if ours.product == "spot":
            assert theirs["active"] is (ours.status is MarketStatus.ACTIVE)
            # ccxt makes its names out of the id, which a renamed asset keeps: BSV is BCHSV there.
            assert theirs["base"] == ours.native_symbol.partition("-")[0] or theirs["base"] == ours.base_asset
            assert theirs["limits"]["amount"]["min"] == number(ours.min_quantity)
            return
        assert theirs["base"] == ours.base_asset
        assert theirs["settle"] == ours.margin_asset
        assert theirs["inverse"] is ours.is_inverse
        # ccxt takes the -1 of an inverse contract for a size of 1.
        assert theirs["contractSize"] == number(ours.contract_size)
        if ours.expiry is not None:
            assert theirs["expiry"] == ours.expiry


class TestBooks:
    @EACH
    async def test_a_snapshot_is_the_engines_book(self, product: str) -> None:
        name, symbol = PRODUCTS[product][:2]
        params = {"uta": True} if PRODUCTS[product].mode == "UNIFIED" else {}
        async with running(product, flow=True) as (sandbox, engine, client):
            sandbox.set_pace("KUCOIN", 0)
            book = await client.fetch_order_book(name, 100, params)
            assert sides(book) == engine_sides(engine, symbol, 10_000 if params else 100)
            assert len(book["bids"]) > 20
            change, _, _ = engine.depth(symbol, 1)
            assert book["nonce"] == sandbox.venue("KUCOIN").update_id(symbol, change)

    @EACH
    async def test_a_live_book_ends_as_the_engines(self, product: str) -> None:
        """Classic: every change, seeded by REST. Unified: whole books of 50 levels, for ccxt looks for the levels of
        increments under the classic names and applies none.
        """
        name, symbol, *_, mode, _ = PRODUCTS[product]
        params = {"uta": True, "utaDepth": "50"} if mode == "UNIFIED" else {}
        levels = 50 if params else 1000
        async with running(product, flow=True) as (sandbox, engine, client):
            updates = 0
            stopped = False

            def ended(book: Any) -> bool:
                nonlocal updates, stopped
                updates += 1
                if updates == 5:
                    sandbox.set_pace("KUCOIN", 0)
                    stopped = True
                    self.nudge(engine, symbol)
                return stopped and sides(book) == engine_sides(engine, symbol, levels)

            await until(lambda: client.watch_order_book(name, params=params), ended)

    def nudge(self, engine: MatchingEngine, symbol: str) -> None:
        """One more change, so that a frame ends the book."""
        _, bids, _ = engine.depth(symbol, 1000)
        tick = engine.markets[symbol].tick_size
        assert tick is not None
        crowd(engine, symbol, "BUY", str(engine.markets[symbol].min_quantity), str(bids[-1].price - tick))


class TestTrades:
    @EACH
    async def test_rest_trades_are_the_engines(self, product: str) -> None:
        name, symbol = PRODUCTS[product][:2]
        params = {"uta": True} if PRODUCTS[product].mode == "UNIFIED" else {}
        async with running(product, flow=True) as (sandbox, engine, client):
            with anyio.fail_after(PATIENCE_S):
                while len(engine.trades(symbol)) < 3:
                    await anyio.sleep(0.02)
            sandbox.set_pace("KUCOIN", 0)
            rows = await client.fetch_trades(name, params=params)
            ours = engine.trades(symbol, limit=100)
            assert [(row["price"], row["amount"], row["side"]) for row in rows] == [
                (float(trade.price), float(trade.quantity), trade.side.lower()) for trade in ours
            ]
            for row, trade in zip(rows, ours, strict=True):
                # ccxt brings nanoseconds to milliseconds as floats, and may be one off.
                assert abs(row["timestamp"] - trade.time) <= 1

    @EACH
    async def test_streamed_trades_are_the_engines(self, product: str) -> None:
        name, symbol = PRODUCTS[product][:2]
        params = {"uta": True} if PRODUCTS[product].mode == "UNIFIED" else {}
        seen: dict[str, Any] = {}
        async with running(product, flow=True) as (_, engine, client):

            def enough(trades: Any) -> bool:
                seen.update({trade["id"]: trade for trade in trades})
                return len(seen) >= 3

            await until(lambda: client.watch_trades(name, params=params), enough)
            exact = {(float(t.price), float(t.quantity), t.side.lower()) for t in engine.trades(symbol, limit=1000)}
            assert {(t["price"], t["amount"], t["side"].lower()) for t in seen.values()} <= exact


class TestOrders:
    @EACH
    async def test_the_life_of_an_order(self, product: str) -> None:
        name, symbol, amount, part, mode, _ = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "ccxt-1"})
            ours = engine.order(account, client_order_id="ccxt-1")
            assert (ours.type, ours.price, float(ours.quantity)) == (OrderType.LIMIT, Decimal(50_000), amount)

            crowd(engine, symbol, "SELL", part, "50000")
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("open", float(part), 50_000.0)
            assert (shown["clientOrderId"], shown["amount"]) == ("ccxt-1", amount)
            assert [order["id"] for order in await client.fetch_open_orders(name)] == [placed["id"]]

            (fill,) = await client.fetch_my_trades(name)
            (mine,) = engine.fills(account)
            assert (fill["order"], fill["takerOrMaker"], fill["side"].lower()) == (placed["id"], "maker", "buy")
            assert (fill["price"], fill["amount"]) == (float(mine.price), float(mine.quantity))
            assert (fill["fee"]["cost"], fill["fee"]["currency"]) == (float(mine.fee), mine.fee_asset)

            await client.cancel_order(placed["id"], name)
            shown = await client.fetch_order(placed["id"], name)
            # ccxt takes a unified order that was partly filled and then cancelled (status 6) for closed.
            ended = "closed" if mode == "UNIFIED" else "canceled"
            assert (shown["status"], shown["filled"]) == (ended, float(part))
            assert await client.fetch_open_orders(name) == []
            closed = await client.fetch_closed_orders(name)
            assert [order["id"] for order in closed] == [placed["id"]]
            # ccxt has no OrderNotFound for cancels of futures (100004) and unified accounts: any refusal will do.
            refused = ccxt.OrderNotFound if product == "spot" else ccxt.ExchangeError
            with pytest.raises(refused):
                await client.cancel_order(placed["id"], name)

    @EACH
    async def test_a_market_order(self, product: str) -> None:
        name, symbol, amount = PRODUCTS[product][:3]
        async with running(product, flow=False) as (_, engine, client):
            crowd(engine, symbol, "SELL", str(amount), "50000")
            placed = await client.create_order(name, "market", "buy", amount)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("closed", amount, 50_000.0)
            assert shown["cost"] == pytest.approx(
                {"spot": 5000, "linear": 5000, "inverse": 0.002}[product.removeprefix("unified-")], rel=1e-9
            )

    @EACH
    async def test_refusals_are_read_as_what_they_are(self, product: str) -> None:
        name, _, amount, _, _, spot = PRODUCTS[product]
        async with running(product, flow=False) as (_, _, client):
            most, price = (1000, 50_000) if spot else (900_000, 900_000 if "linear" in product else 1000)
            with pytest.raises(ccxt.InsufficientFunds):
                await client.create_order(name, "limit", "sell", most, price)
            await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            with pytest.raises(ccxt.ExchangeError, match="102426" if spot else "300018"):
                await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            client.secret = "wrong"
            with pytest.raises(ccxt.AuthenticationError):
                await client.fetch_balance()

    @EACH
    async def test_orders_are_told_on_the_private_stream(self, product: str) -> None:
        name, symbol, amount = PRODUCTS[product][:3]
        async with running(product, flow=False) as (sandbox, engine, client):
            watching = asyncio.ensure_future(client.watch_orders(name))
            await self.subscribed(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, 50_000)
            with anyio.fail_after(PATIENCE_S):
                told = (await watching)[-1]
            assert (told["id"], told["status"], told["amount"]) == (placed["id"], "open", amount)
            crowd(engine, symbol, "SELL", str(amount), "50000")
            (*_, filled) = await until(
                lambda: client.watch_orders(name), lambda orders: orders[-1]["status"] == "closed"
            )
            assert (filled["id"], filled["filled"]) == (placed["id"], amount)

    async def subscribed(self, sandbox: Sandbox) -> None:
        """Wait until the venue has the subscription: what happens before it is not told."""
        venue: Any = sandbox.venue("KUCOIN")
        with anyio.fail_after(PATIENCE_S):
            while not venue.accounts.listening:
                await anyio.sleep(0.01)

    async def test_a_stop_goes_to_the_list_of_stops(self) -> None:
        name = PRODUCTS["linear"].market
        async with running("linear", flow=False) as (sandbox, engine, client):
            placed = await client.create_order(name, "market", "sell", 100, None, {"stopLossPrice": 55_000})
            (waiting,) = engine.open_orders(account_of(sandbox))
            assert (waiting.type, waiting.stop_price) == (OrderType.STOP_MARKET, Decimal(55_000))
            assert await client.fetch_open_orders(name) == []
            (listed,) = await client.fetch_open_orders(name, params={"stop": True})
            assert (listed["id"], listed["triggerPrice"]) == (placed["id"], 55_000.0)

    async def test_a_batch(self) -> None:
        name = PRODUCTS["spot"].market
        async with running("spot", flow=False) as (sandbox, engine, client):
            one = {"symbol": name, "type": "limit", "side": "buy", "amount": 0.1}
            # ccxt looks for the rows where the older family had them (`data.data`), and finds none.
            await client.create_orders([one | {"price": 50_000}, one | {"price": 49_000}], {"hf": True})
            assert {order.price for order in engine.open_orders(account_of(sandbox))} == {50_000, 49_000}
            await client.cancel_all_orders(name)
            assert engine.open_orders(account_of(sandbox)) == []


class TestMoney:
    @EACH
    async def test_balances_are_the_engines(self, product: str) -> None:
        name, symbol, amount, _, mode, spot = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            await client.create_order(name, "limit", "buy", amount, 50_000)
            held = [
                b
                for b in engine.balances(account_of(sandbox))
                if mode == "UNIFIED" or b.wallet == engine.wallet_of(symbol)
            ]
            totals: dict[str, list[Decimal]] = {}
            for ours in held:
                total = totals.setdefault(ours.asset, [Decimal(0), Decimal(0)])
                total[0] += ours.available
                total[1] += ours.total
            assert any(ours.locked for ours in held)
            for asset, (free, whole) in totals.items():
                if not spot and mode == "CLASSIC":
                    if asset not in ("USDT", "BTC"):
                        continue
                    # One call a currency there; ccxt wants the venue's name of it.
                    code = {"BTC": "XBT"}.get(asset, asset)
                    balance = await client.fetch_balance({"type": "contract", "currency": code})
                else:
                    # Not `hf`, or ccxt asks for accounts of the type `trade_hf`, which the venue now calls `trade`.
                    balance = await client.fetch_balance({"hf": False} if mode == "CLASSIC" else {})
                assert balance[asset]["free"] == float(free)
                assert balance[asset]["total"] == float(whole)

    @pytest.mark.parametrize("product", ["linear", "inverse", "unified-linear"])
    async def test_positions_are_the_engines(self, product: str) -> None:
        name, symbol, amount = PRODUCTS[product][:3]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "BUY", str(amount), "50000")
            await client.create_order(name, "market", "sell", amount)
            crowd(engine, symbol, "BUY", "1", "47999.9")
            crowd(engine, symbol, "SELL", "1", "48000.1")
            (theirs,) = [p for p in await client.fetch_positions([name]) if p["contracts"]]
            (ours,) = engine.positions(account_of(sandbox))
            assert (theirs["side"], theirs["contracts"]) == ("short", float(-ours.quantity))
            assert theirs["entryPrice"] == float(ours.entry_price)
            assert theirs["markPrice"] == float(engine.mark_price(symbol))
            profit = 100 * (1 / Decimal(48_000) - 1 / Decimal(50_000)) if product == "inverse" else Decimal(200)
            assert theirs["unrealizedPnl"] == pytest.approx(float(profit), abs=1e-8)

    async def test_leverage_and_modes_reach_the_engine(self) -> None:
        name, symbol = PRODUCTS["linear"][:2]
        async with running("linear", flow=False) as (sandbox, _, client):
            account = account_of(sandbox)
            await client.set_margin_mode("cross", name)
            assert (await client.fetch_margin_mode(name))["marginMode"] == "cross"
            await client.set_leverage(7, name, {"marginMode": "cross"})
            assert account.settings["leverage"][symbol] == 7
            await client.set_position_mode(True)
            assert account.hedge_mode
            assert (await client.fetch_position_mode())["hedged"]
