"""ccxt's Kraken clients, pointed at the sandbox: they see the engine's markets, books, trades, orders and money.

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
from astra.models.orders import OrderStatus, OrderType
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox
from with_ccxt import MARKS, NOWHERE, PATIENCE_S, account_of, connected, crowd, engine_sides, sides, until

pytestmark = MARKS


class Product(NamedTuple):
    """A kind of market as ccxt and the engine name it."""

    client: str
    market: str
    symbol: str
    wallet: str


PRODUCTS = {
    "spot": Product("kraken", "BTC/USD", "KRAKEN-SPOT-BTC-USD", "spot"),
    "linear": Product("krakenfutures", "BTC/USD:USD", "KRAKEN-PERP-XBT-USD", "flex"),
    "inverse": Product("krakenfutures", "BTC/USD:BTC", "KRAKEN-PERP-XBT-USD-COINM", "fi_xbtusd"),
    "future": Product("krakenfutures", "BTC/USD:USD-270326", "KRAKEN-FUT-XBT-USD-270326", "flex"),
}
EACH = pytest.mark.parametrize("product", list(PRODUCTS))
TRADED = pytest.mark.parametrize("product", ["spot", "linear", "inverse"])
CONTRACTS = pytest.mark.parametrize("product", ["linear", "inverse"])
QUANTITY = {"spot": 0.1, "linear": 0.1, "inverse": 7}
FEW = 6
"""Enough for the markets of PRODUCTS, which are the first of each product."""


def client_of(sandbox: Sandbox, product: str) -> Any:
    """ccxt's client for a product, with every URL pointed away from the real venue."""
    hosts = sandbox.settings["venues"]["KRAKEN"]["hosts"]
    name, account = PRODUCTS[product].client, account_of(sandbox)
    client = getattr(ccxt.pro, name)({"apiKey": account.key, "secret": account.secret, "enableRateLimit": False})
    api = client.urls["api"]
    if name == "kraken":
        rest = {"public": hosts["spot_rest"], "private": hosts["spot_rest"]}
        streams: Any = {"publicV2": hosts["spot_stream"] + "/v2", "privateV2": hosts["spot_private_stream"] + "/v2"}
        streams["private"] = streams["privateV2"]
    else:
        base = hosts["derivatives_rest"]
        rest = dict.fromkeys(("public", "private"), f"{base}/derivatives/api/") | {"history": f"{base}/api/history/"}
        streams = hosts["derivatives_stream"] + "/ws/v1"
    for key in api:
        if key != "ws":
            api[key] = rest.get(key, NOWHERE)
    api["ws"] = streams
    return client


def running(product: str, *, flow: bool) -> AbstractAsyncContextManager[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded)."""
    few = flow or product == "future"  # to ccxt an option has the name of the future that ends with it
    return connected("KRAKEN", lambda sandbox: client_of(sandbox, product), flow=flow, markets=FEW if few else None)


class TestMarkets:
    async def test_ccxt_lists_the_pairs_that_the_engine_trades(self) -> None:
        """ccxt asks for no tokenised stocks, takes the tick to be the last decimal, and lots to be no finer than the
        decimals that balances of the base have."""
        async with running("spot", flow=False) as (_, engine, client):
            listed = {market.native_symbol: market for market in engine.markets.values() if market.product == "spot"}
            ours = {name: market for name, market in listed.items() if market.base_asset != "AAPLx"}
            assert client.markets.keys() == ours.keys()
            for name, market in ours.items():
                theirs = client.markets[name]
                assert theirs["active"] is (market.status is MarketStatus.ACTIVE)
                assert theirs["limits"]["amount"]["min"] == float(market.min_quantity or 0)
                assert theirs["limits"]["cost"]["min"] == float(market.min_notional or 0)
                assert theirs["precision"]["amount"] == (0.0001 if name == "EUR/USD" else float(market.lot_size or 0))
                tick = Decimal("0.01") if name == "SOL/USD" else market.tick_size  # 0.05 in steps of 0.01
                assert theirs["precision"]["price"] == float(tick or 0)
                assert (theirs["taker"], theirs["maker"]) == (0.004, 0.0025)

    async def test_ccxt_lists_the_contracts_that_the_engine_trades(self) -> None:
        """ccxt knows no options of this venue: it takes them for futures. Index rows are markets to it."""
        async with running("linear", flow=False) as (_, engine, client):
            theirs = {row["id"]: row for rows in client.markets_by_id.values() for row in rows if not row["index"]}
            ours = {market.native_symbol: market for market in engine.markets.values() if market.product != "spot"}
            assert theirs.keys() == ours.keys()
            for native, market in ours.items():
                if market.strike is None:
                    self.compare(market, theirs[native])

    def compare(self, ours: Market, theirs: Any) -> None:
        # ccxt writes codes in capitals, tokenised stocks too.
        assert (theirs["base"], theirs["quote"]) == (ours.base_asset.upper(), ours.quote_asset)
        assert theirs["settle"] == ours.margin_asset
        assert theirs["inverse"] is ours.is_inverse
        assert theirs["contractSize"] == float(ours.contract_size or 0)
        assert theirs["precision"]["price"] == float(ours.tick_size or 0)
        assert theirs["precision"]["amount"] == float(ours.lot_size or 0)
        assert theirs["expiry"] == ours.expiry


class TestBooks:
    @EACH
    async def test_a_snapshot_is_the_engines_book(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            sandbox.set_pace("KRAKEN", 0)
            book = await client.fetch_order_book(name, *([100] if product == "spot" else []))
            assert sides(book) == engine_sides(engine, symbol, 100 if product == "spot" else 1000)
            assert len(book["bids"]) > 20

    @EACH
    async def test_a_live_book_ends_as_the_engines(self, product: str) -> None:
        """ccxt keeps as many levels of a pair as it subscribed, and the whole book of a contract. It has given up the
        checksum (its floats have lost the digits)."""
        _, name, symbol, _ = PRODUCTS[product]
        depth = 25 if product == "spot" else 1000
        async with running(product, flow=True) as (sandbox, engine, client):
            updates = 0
            stopped = False

            async def watch() -> Any:
                params = {"depth": 25} if product == "spot" else {}
                return await client.watch_order_book(name, 25 if product == "spot" else None, params)

            def ended(book: Any) -> bool:
                nonlocal updates, stopped
                updates += 1
                if updates == 8:
                    sandbox.set_pace("KRAKEN", 0)
                    stopped = True
                    # One more change, so that a frame ends the book.
                    _, bids, _ = engine.depth(symbol, 1)
                    crowd(engine, symbol, "BUY", str(engine.markets[symbol].lot_size or 1), str(bids[0].price))
                return stopped and sides(book) == engine_sides(engine, symbol, depth)

            await until(watch, ended)


class TestTrades:
    @EACH
    async def test_rest_trades_are_the_engines(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            for price in ("50000", "50001", "50002"):
                crowd(engine, symbol, "SELL", "2", price)
                crowd(engine, symbol, "BUY", "2", price)
            rows = await client.fetch_trades(name)
            found = [(row["price"], row["amount"], row["side"], row["timestamp"]) for row in rows]
            # Of inverse contracts ccxt gives no amount in trades.
            ours = [
                (float(t.price), None if product == "inverse" else float(t.quantity), t.side.lower(), t.time)
                for t in engine.trades(symbol)
            ]
            assert sorted(found) == sorted(ours)

    @EACH
    async def test_streamed_trades_are_the_engines(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        seen: dict[str, Any] = {}
        async with running(product, flow=True) as (_, engine, client):

            def enough(trades: Any) -> bool:
                seen.update({trade["id"]: trade for trade in trades})
                return len(seen) >= 3

            await until(lambda: client.watch_trades(name), enough)
            exact = {(float(t.price), float(t.quantity), t.side.lower(), t.time) for t in engine.trades(symbol)}
            assert {(t["price"], t["amount"], t["side"], t["timestamp"]) for t in seen.values()} <= exact


class TestOrders:
    @TRADED
    async def test_the_life_of_an_order(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "ccxt-1"})
            ours = engine.order(account, client_order_id="ccxt-1")
            assert (ours.type, ours.price, float(ours.quantity)) == (OrderType.LIMIT, Decimal(50_000), amount)

            part = "0.04" if product != "inverse" else "3"
            crowd(engine, symbol, "SELL", part, "50000")
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["amount"]) == ("open", float(part), amount)
            assert shown["clientOrderId"] == "ccxt-1"
            if product == "spot":
                assert (shown["average"], shown["price"]) == (50_000.0, 50_000.0)
            (listed,) = await client.fetch_open_orders(name)
            assert (listed["id"], listed["filled"], listed["remaining"]) == (
                placed["id"],
                float(part),
                pytest.approx(amount - float(part)),
            )

            (fill,) = await client.fetch_my_trades(name)
            (mine,) = engine.fills(account)
            assert (fill["order"], fill["side"], fill["price"]) == (placed["id"], "buy", float(mine.price))
            if product != "inverse":  # see above
                assert fill["amount"] == float(mine.quantity)
            if product == "spot":  # ccxt works the fees of contracts out by rates of its own
                assert (fill["fee"]["cost"], fill["fee"]["currency"]) == (float(mine.fee), mine.fee_asset)
            assert fill["takerOrMaker"] == "maker"

            await client.cancel_order(placed["id"], name)
            assert engine.order(account, order_id=ours.id).status is OrderStatus.CANCELED
            assert await client.fetch_open_orders(name) == []
            with pytest.raises(ccxt.OrderNotFound):
                await client.cancel_order(placed["id"], name)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"]) == ("canceled", float(part))

    @TRADED
    async def test_a_market_order(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", str(amount), "50000")
            placed = await client.create_order(name, "market", "buy", amount)
            (ours,) = engine.orders(account_of(sandbox))
            assert (ours.status, float(ours.filled)) == (OrderStatus.FILLED, amount)
            if product == "inverse":
                # Of the fill ccxt has no amount (see above), so that it cannot tell that the order is filled.
                return
            shown = placed if product == "linear" else await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("closed", amount, 50_000.0)

    @TRADED
    async def test_refusals_are_read_as_what_they_are(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            crowd(engine, symbol, "SELL", str(amount), "60000")
            if product == "spot":  # taken in, and cancelled at once
                placed = await client.create_order(name, "limit", "buy", amount, 60_000, {"postOnly": True})
                shown = await client.fetch_order(placed["id"], name)
                assert (shown["status"], shown["filled"]) == ("canceled", 0)
            else:
                with pytest.raises(ccxt.OrderImmediatelyFillable):
                    await client.create_order(name, "limit", "buy", amount, 60_000, {"postOnly": True})
            most = {"spot": 100_000, "linear": 100_000, "inverse": 10**12}[product]
            with pytest.raises(ccxt.InsufficientFunds):
                await client.create_order(name, "limit", "buy", most, 50_000)
            assert engine.orders(account) == []
            await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            twice: Any = ccxt.ExchangeError if product == "spot" else ccxt.DuplicateOrderId
            with pytest.raises(twice, match=r"cl_ord_id|clientOrderIdAlreadyExist"):
                await client.create_order(name, "limit", "buy", amount, 50_000, {"clientOrderId": "twice"})
            client.apiKey = "nobody"  # ccxt has no word for Spot's "Invalid signature"
            with pytest.raises(ccxt.AuthenticationError):
                await client.fetch_balance()

    async def test_changing_and_cancelling_many(self) -> None:
        _, name, _, _ = PRODUCTS["spot"]
        async with running("spot", flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", 0.1, 50_000)
            edited = await client.edit_order(placed["id"], name, "limit", "buy", 0.2, 50_001)
            (order,) = engine.open_orders(account)
            assert (order.price, order.quantity) == (50_001, Decimal("0.2"))
            assert edited["info"]["amend_id"].startswith("T")
            rows = [
                {"symbol": name, "type": "limit", "side": "buy", "amount": 0.1, "price": price}
                for price in (40_000, 41_000)
            ]
            created = await client.create_orders(rows)
            await client.cancel_orders([row["id"] for row in created])
            assert engine.open_orders(account) == [order]
            await client.cancel_all_orders()
            assert engine.open_orders(account) == []

    async def test_a_batch_of_contracts(self) -> None:
        _, name, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            rows = [
                {"symbol": name, "type": "limit", "side": "buy", "amount": 0.1, "price": price}
                for price in (40_000, 41_000)
            ]
            created = await client.create_orders(rows)
            assert [row["status"] for row in created] == ["open", "open"]
            edited = await client.edit_order(created[0]["id"], name, "limit", "buy", 0.2, 40_001)
            assert edited["id"] == created[0]["id"]
            await client.cancel_orders([created[1]["id"]], name)
            (left,) = engine.open_orders(account)
            assert (left.price, left.quantity) == (40_001, Decimal("0.2"))
            await client.cancel_all_orders(name)
            assert engine.open_orders(account) == []

    @TRADED
    async def test_a_stop_waits_in_the_engine(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", "7", "50000")
            crowd(engine, symbol, "BUY", "1", "50000")
            placed = await client.create_order(
                name, "market", "sell", QUANTITY[product], None, {"stopLossPrice": 45_000}
            )
            (waiting,) = engine.open_orders(account_of(sandbox))
            assert (waiting.type, waiting.stop_price) == (OrderType.STOP_MARKET, Decimal(45_000))
            (listed,) = await client.fetch_open_orders(name)
            assert listed["id"] == placed["id"]
            assert listed["triggerPrice"] == 45_000.0

    async def test_orders_and_trades_are_told_on_the_private_stream(self) -> None:
        _, name, symbol, _ = PRODUCTS["spot"]
        async with running("spot", flow=False) as (_, engine, client):
            url = client.urls["api"]["ws"]["privateV2"]
            watching = asyncio.ensure_future(client.watch_orders(name))
            await self.awaited(client, url, "orders")
            placed = await client.create_order(name, "limit", "buy", 0.1, 50_000)
            with anyio.fail_after(PATIENCE_S):
                told = (await watching)[-1]
            assert (told["id"], told["amount"], told["price"]) == (placed["id"], 0.1, 50_000.0)
            trades = asyncio.ensure_future(client.watch_my_trades(name))
            await self.awaited(client, url, "myTrades")
            crowd(engine, symbol, "SELL", "0.1", "50000")
            with anyio.fail_after(PATIENCE_S):
                (trade,) = await trades
            assert (trade["order"], trade["price"], trade["amount"]) == (placed["id"], 50_000.0, 0.1)
            assert (trade["takerOrMaker"], trade["fee"]) == ("maker", {"cost": 12.5, "currency": "USD"})

    @CONTRACTS
    async def test_contract_orders_are_told_on_the_private_stream(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (_, engine, client):
            url = client.urls["api"]["ws"]
            watching = asyncio.ensure_future(client.watch_orders(name))
            await self.awaited(client, url, "orders")
            placed = await client.create_order(name, "limit", "buy", amount, 50_000)
            with anyio.fail_after(PATIENCE_S):
                (told,) = await watching
            assert (told["id"], told["remaining"], told["price"]) == (placed["id"], amount, 50_000.0)
            trades = asyncio.ensure_future(client.watch_my_trades(name))
            await self.awaited(client, url, "myTrades")
            crowd(engine, symbol, "SELL", str(amount), "50000")
            with anyio.fail_after(PATIENCE_S):
                fills = await trades
            assert [(fill["order"], fill["price"], fill["amount"]) for fill in fills] == [
                (placed["id"], 50_000.0, amount)
            ]

    async def awaited(self, client: Any, url: str, what: str) -> None:
        """Wait until ccxt waits for it on the connection: what comes earlier it throws away. What happens before the
        subscription is in the snapshot."""
        with anyio.fail_after(PATIENCE_S):
            while not any(name.startswith(what) for name in getattr(client.clients.get(url), "futures", ())):
                await anyio.lowlevel.checkpoint()


class TestMoney:
    @TRADED
    async def test_balances_are_the_engines(self, product: str) -> None:
        _, name, _, wallet = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            await client.create_order(name, "limit", "buy", QUANTITY[product], 50_000)
            # By the market ccxt would ask for fi_XBTUSD, which is no account.
            balance = await client.fetch_balance({"type": wallet} if product != "spot" else {})
            held = [b for b in engine.balances(account_of(sandbox)) if b.wallet == wallet]
            assert held
            for ours in held:
                code = client.safe_currency_code(ours.asset)
                assert (balance[code]["free"], balance[code]["total"]) == (float(ours.available), float(ours.total))
            assert any(ours.locked for ours in held)

    @CONTRACTS
    async def test_positions_are_the_engines(self, product: str) -> None:
        _, name, symbol, _ = PRODUCTS[product]
        amount = QUANTITY[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "BUY", str(amount), "50000")
            await client.create_order(name, "market", "sell", amount)
            (theirs,) = await client.fetch_positions([name])
            (ours,) = engine.positions(account_of(sandbox))
            assert (theirs["side"], theirs["contracts"]) == ("short", float(-ours.quantity))
            assert theirs["entryPrice"] == float(ours.entry_price)

    async def test_positions_are_told_on_the_private_stream(self) -> None:
        _, name, symbol, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (_, engine, client):
            crowd(engine, symbol, "BUY", "0.1", "50000")
            await client.create_order(name, "market", "sell", 0.1)
            (position,) = await until(lambda: client.watch_positions([name]), bool)
            assert (position["contracts"], position["entryPrice"]) == (0.1, 50_000.0)

    async def test_balances_are_told_on_the_private_stream(self) -> None:
        async with running("spot", flow=False) as (sandbox, engine, client):
            balance = await until(client.watch_balance, bool)
            held = [b for b in engine.balances(account_of(sandbox)) if b.wallet == "spot"]
            for ours in held:
                assert balance[client.safe_currency_code(ours.asset)]["total"] == float(ours.total)

    async def test_leverage_reaches_the_engine(self) -> None:
        _, name, symbol, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, _, client):
            await client.set_leverage(7, name)
            assert account_of(sandbox).settings["leverage"][symbol] == 7
