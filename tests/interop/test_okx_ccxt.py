"""ccxt's OKX client, pointed at the sandbox: it sees the engine's markets, books, trades, orders and money.

ccxt is written by others against the real venue, so what it cannot read here would be a mistake of the sandbox. Where
ccxt itself is wrong (see the notes below) the venue's documents and the recordings decide.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
import ccxt.pro
import pytest

from astra.models.markets import ContractType, Market, MarketStatus
from astra.models.orders import OrderType
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.sandbox import Sandbox
from with_ccxt import MARKS, PATIENCE_S, account_of, connected, crowd, engine_sides, sides, until

pytestmark = MARKS


class Product(NamedTuple):
    """A product as ccxt and the engine name it, with a usual quantity of its native unit and a price."""

    kind: str
    market: str
    symbol: str
    quantity: float
    price: float


PRODUCTS = {
    "spot": Product("spot", "BTC/USDT", "OKX-SPOT-BTC-USDT", 0.1, 50_000),
    "linear": Product("swap", "BTC/USDT:USDT", "OKX-PERP-BTC-USDT", 1.5, 50_000),
    "inverse": Product("swap", "BTC/USD:BTC", "OKX-PERP-BTC-USD-COINM", 7, 50_000),
    "future": Product("future", "BTC/USD:BTC-270326", "OKX-FUT-BTC-USD-270326-COINM", 7, 50_000),
    "option": Product("option", "BTC/USD:BTC-270326-90000-C", "OKX-OPT-BTC-USD-270326-90000-C-COINM", 5, 0.1),
}
KINDS = {"spot": "spot", "swap": "swap", "futures": "future", "option": "option"}
EACH = pytest.mark.parametrize("product", list(PRODUCTS))
TRADED = pytest.mark.parametrize("product", ["spot", "linear", "inverse", "option"])


def client_of(sandbox: Sandbox, *kinds: str) -> Any:
    """ccxt's client with the markets of some products, pointed away from the real venue."""
    hosts = sandbox.settings["venues"]["OKX"]["hosts"]
    account = account_of(sandbox)
    keys = {"apiKey": account.key, "secret": account.secret, "password": account.passphrase}
    client = ccxt.pro.okx({**keys, "enableRateLimit": False})
    client.options["fetchMarkets"] = {"types": list(kinds)}
    client.has["fetchCurrencies"] = False
    client.timeout_on_exit = 0  # a grace for TLS connections, of which there are none here
    # One host serves the venue's three WebSocket URLs, and so does each of the sandbox's.
    client.urls["api"] = {"rest": hosts["rest"], "ws": hosts["public_stream"] + "/ws/v5"}
    return client


def running(product: str, *, flow: bool) -> AbstractAsyncContextManager[tuple[Sandbox, MatchingEngine, Any]]:
    """(sandbox, engine, ccxt's client with its markets loaded)."""
    markets = 8 if flow else None
    return connected("OKX", lambda sandbox: client_of(sandbox, PRODUCTS[product].kind), flow=flow, markets=markets)


class TestMarkets:
    async def test_ccxt_lists_what_the_engine_trades(self) -> None:
        """ccxt names a future by its date and settlement: BTC-USD_UM-270326 and a perpetual-like one of the same date
        would clash, those of the sandbox do not."""
        async with Sandbox(["OKX"], flow=False) as sandbox:
            client = client_of(sandbox, "spot", "swap", "future", "option")
            try:
                markets = await client.load_markets()
            finally:
                await client.close()
            ours = {market.native_symbol: market for market in sandbox.engine("OKX").markets.values()}
            theirs = {market["id"]: market for market in markets.values()}
            assert theirs.keys() == ours.keys()
            for native, market in ours.items():
                self.compare(market, theirs[native])

    def compare(self, ours: Market, theirs: Any) -> None:
        assert (theirs["base"], theirs["quote"]) == (ours.base_asset, ours.quote_asset)
        assert theirs["type"] == KINDS[ours.product]
        assert theirs["active"] is (ours.status is MarketStatus.ACTIVE)
        assert theirs["precision"]["price"] == float(ours.tick_size or 0)
        assert theirs["precision"]["amount"] == float(ours.lot_size or 0)
        assert theirs["limits"]["amount"]["min"] == float(ours.min_quantity or 0)
        if ours.product == "spot":
            return
        assert theirs["settle"] == ours.margin_asset
        if ours.product != "option":  # ccxt reads ctVal alone, 1, where the contract is ctVal x ctMult, 0.01 BTC
            assert theirs["contractSize"] == float(ours.contract_size or 0)
        assert theirs["inverse"] is (ours.contract_type is ContractType.INVERSE)
        assert theirs["expiry"] == ours.expiry
        if ours.strike is not None:
            assert theirs["strike"] == float(ours.strike)
            assert theirs["optionType"][0].upper() == ours.option_type


class TestBooks:
    @EACH
    async def test_a_snapshot_is_the_engines_book(self, product: str) -> None:
        _, name, symbol, _, _ = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            sandbox.set_pace("OKX", 0)
            book = await client.fetch_order_book(name, 100)
            assert sides(book) == engine_sides(engine, symbol, 100)
            assert len(book["bids"]) > 20

    @EACH
    async def test_a_live_book_ends_as_the_engines(self, product: str) -> None:
        """Through maintenance that sets the ids back, too: ccxt asks for equal ids, not for rising ones."""
        _, name, symbol, _, _ = PRODUCTS[product]
        async with running(product, flow=True) as (sandbox, engine, client):
            updates = 0

            def ended(book: Any) -> bool:
                nonlocal updates
                updates += 1
                if updates == 2:
                    sandbox.venue("OKX").reset_sequence(symbol)  # type: ignore[attr-defined]
                if updates == 5:
                    sandbox.set_pace("OKX", 0)
                    _, bids, _ = engine.depth(symbol, 400)  # one more change, so that a frame ends the book
                    crowd(engine, symbol, "BUY", engine.markets[symbol].min_quantity, bids[-1].price)
                return updates >= 5 and sides(book) == engine_sides(engine, symbol, 400)

            book = await until(lambda: client.watch_order_book(name), ended)
            assert book["nonce"] < 1_000_000

    async def test_the_best_offers_are_the_engines(self) -> None:
        _, name, symbol, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (_, engine, client):
            crowd(engine, symbol, "BUY", 2, 50_000)
            crowd(engine, symbol, "SELL", 3, 50_001)
            with anyio.fail_after(PATIENCE_S):
                shown = (await client.watch_bids_asks([name]))[name]
            assert [shown[key] for key in ("bid", "bidVolume", "ask", "askVolume")] == [50_000, 2, 50_001, 3]
            ticker = await client.fetch_ticker(name)
            assert [ticker[key] for key in ("bid", "bidVolume", "ask", "askVolume")] == [50_000, 2, 50_001, 3]


class TestTrades:
    @EACH
    async def test_rest_trades_are_the_engines(self, product: str) -> None:
        _, name, symbol, _, price = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            lot = engine.markets[symbol].min_quantity
            for taker, maker in (("SELL", "BUY"), ("BUY", "SELL"), ("SELL", "BUY")):
                crowd(engine, symbol, maker, lot, price)
                crowd(engine, symbol, taker, lot, price)
            rows = await client.fetch_trades(name)
            assert [(row["id"], row["price"], row["amount"], row["side"], row["timestamp"]) for row in rows] == [
                (str(trade.id), float(trade.price), float(trade.quantity), trade.side.lower(), trade.time)
                for trade in engine.trades(symbol)
            ]

    @EACH
    async def test_streamed_trades_are_the_engines(self, product: str) -> None:
        _, name, symbol, _, _ = PRODUCTS[product]
        seen: dict[str, Any] = {}
        async with running(product, flow=True) as (_, engine, client):

            def enough(trades: Any) -> bool:
                seen.update({trade["id"]: trade for trade in trades})
                return len(seen) >= 3

            await until(lambda: client.watch_trades(name), enough)
            by_id = {str(trade.id): trade for trade in engine.trades(symbol)}
            for ident, shown in seen.items():
                trade = by_id[ident]  # the last of those that the frame puts together
                count = int(shown["info"]["count"])
                parts = [by_id[str(trade.id - n)] for n in range(count)]
                assert shown["amount"] == float(sum(part.quantity for part in parts))
                assert {part.price for part in parts} == {trade.price}
                assert (shown["price"], shown["side"]) == (float(trade.price), trade.side.lower())


class TestOrders:
    @TRADED
    async def test_the_life_of_an_order(self, product: str) -> None:
        _, name, symbol, amount, price = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            placed = await client.create_order(name, "limit", "buy", amount, price, {"clientOrderId": "ccxt1"})
            assert placed["clientOrderId"] == "ccxt1"
            ours = engine.order(account, client_order_id="ccxt1")
            assert (ours.type, float(ours.price or 0), float(ours.quantity)) == (OrderType.LIMIT, price, amount)

            part = {"spot": 0.04, "linear": 0.5, "inverse": 3, "option": 2}[product]
            crowd(engine, symbol, "SELL", part, price)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("open", part, price)
            assert [order["id"] for order in await client.fetch_open_orders(name)] == [placed["id"]]

            (fill,) = await client.fetch_my_trades(name)
            (mine,) = engine.fills(account)
            assert (fill["order"], fill["takerOrMaker"], fill["side"]) == (placed["id"], "maker", "buy")
            assert (fill["id"], fill["price"], fill["amount"]) == (str(mine.trade_id), price, part)
            assert (fill["fee"]["cost"], fill["fee"]["currency"]) == (float(mine.fee), mine.fee_asset)

            await client.cancel_order(placed["id"], name)
            ended = await client.fetch_order(placed["id"], name)
            assert (ended["status"], ended["filled"]) == ("canceled", part)
            assert await client.fetch_open_orders(name) == []
            with pytest.raises(ccxt.OrderNotFound):
                await client.cancel_order(placed["id"], name)
            with pytest.raises(ccxt.OrderNotFound):
                await client.fetch_order("1", name)
            (listed,) = await client.fetch_canceled_orders(name)
            assert listed["id"] == placed["id"]

    @pytest.mark.parametrize("product", ["spot", "linear", "inverse"])
    async def test_a_market_order(self, product: str) -> None:
        """ccxt sends `tgtCcy` base_ccy, so that a spot buy is sized in base units."""
        _, name, symbol, amount, price = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", amount, price)
            placed = await client.create_order(name, "market", "buy", amount)
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["filled"], shown["average"]) == ("closed", amount, price)
            (ours,) = engine.orders(account_of(sandbox))
            assert ours.filled == Decimal(str(amount))

    async def test_a_market_order_by_amount_of_quote(self) -> None:
        _, name, symbol, _, _ = PRODUCTS["spot"]
        async with running("spot", flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", 1, 50_000)
            await client.create_market_buy_order_with_cost(name, 1000)
            (ours,) = engine.orders(account_of(sandbox))
            assert ours.filled_quote == 1000

    async def test_an_amended_order(self) -> None:
        _, name, _, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            placed = await client.create_order(name, "limit", "buy", 1.5, 50_000)
            await client.edit_order(placed["id"], name, "limit", "buy", 2, 49_000)
            (ours,) = engine.open_orders(account_of(sandbox))
            assert (ours.price, ours.quantity) == (49_000, 2)

    async def test_many_orders_at_once(self) -> None:
        _, name, _, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            wanted = [
                {"symbol": name, "type": "limit", "side": "buy", "amount": 1, "price": 50_000 - n} for n in range(3)
            ]
            placed = await client.create_orders(wanted)
            assert len(engine.open_orders(account_of(sandbox))) == 3
            await client.cancel_orders([order["id"] for order in placed], name)
            assert engine.open_orders(account_of(sandbox)) == []

    @TRADED
    async def test_refusals_are_read_as_what_they_are(self, product: str) -> None:
        _, name, symbol, amount, price = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "SELL", engine.markets[symbol].min_quantity, price * 1.2)
            # The venue takes a post-only order that would take, and cancels it.
            placed = await client.create_order(name, "limit", "buy", amount, price * 1.2, {"postOnly": True})
            shown = await client.fetch_order(placed["id"], name)
            assert (shown["status"], shown["info"]["cancelSource"]) == ("canceled", "31")
            assert engine.orders(account_of(sandbox)) == []
            most, at = {
                "spot": (300, 50_000),
                "linear": (90_000_000, 50_000),
                "inverse": (90_000_000, 1_000),
                "option": (900_000, 0.5),
            }[product]
            with pytest.raises(ccxt.InsufficientFunds):
                await client.create_order(name, "limit", "sell", most, at)
            await client.create_order(name, "limit", "buy", amount, price, {"clientOrderId": "twice"})
            with pytest.raises(ccxt.InvalidOrder, match=r"[dD]uplicate"):
                await client.create_order(name, "limit", "buy", amount, price, {"clientOrderId": "twice"})
            with pytest.raises(ccxt.BadRequest):  # letters and digits only
                await client.create_order(name, "limit", "buy", amount, price, {"clientOrderId": "no-hyphen"})
            client.secret = "wrong"
            with pytest.raises(ccxt.AuthenticationError):
                await client.fetch_balance()

    @TRADED
    async def test_orders_are_told_on_the_private_stream(self, product: str) -> None:
        _, name, symbol, amount, price = PRODUCTS[product]
        async with running(product, flow=False) as (_, engine, client):
            await client.authenticate()
            watching = asyncio.ensure_future(client.watch_orders(name))
            await self.subscribed(client)
            placed = await client.create_order(name, "limit", "buy", amount, price)
            with anyio.fail_after(PATIENCE_S):
                (told,) = await watching
            assert (told["id"], told["status"], told["amount"]) == (placed["id"], "open", amount)
            crowd(engine, symbol, "SELL", amount, price)
            (filled,) = await until(lambda: client.watch_orders(name), lambda orders: orders[-1]["status"] == "closed")
            assert (filled["id"], filled["filled"], filled["average"]) == (placed["id"], amount, price)

    async def subscribed(self, client: Any) -> None:
        """Wait until the venue has the subscription: what happens before it is not told. The connection is answered
        in order, so an answer to something sent later will do."""
        url = client.get_url("users", "private")
        await client.clients[url].connected
        with anyio.fail_after(PATIENCE_S):
            await client.watch_balance()

    async def test_orders_over_the_socket(self) -> None:
        """ccxt names instruments by `instIdCode` there."""
        _, name, _, amount, price = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            placed = await client.create_order_ws(name, "limit", "buy", amount, price)
            (ours,) = engine.open_orders(account_of(sandbox))
            assert float(ours.quantity) == amount
            shown = await client.fetch_order(placed["id"], name)
            assert shown["status"] == "open"

    @pytest.mark.parametrize(
        ("side", "params", "kind"),
        [
            ("sell", {"stopLossPrice": 45_000}, OrderType.STOP_MARKET),
            ("sell", {"takeProfitPrice": 55_000}, OrderType.TAKE_PROFIT_MARKET),
            ("buy", {"triggerPrice": 55_000}, OrderType.STOP_MARKET),
            ("buy", {"triggerPrice": 45_000}, OrderType.TAKE_PROFIT_MARKET),
        ],
    )
    async def test_conditional_orders_wait_among_the_algo_orders(self, side: str, params: Any, kind: OrderType) -> None:
        _, name, symbol, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "BUY", 1, 49_999)
            crowd(engine, symbol, "SELL", 1, 50_001)
            placed = await client.create_order(name, "market", side, 1, None, params)
            (waiting,) = engine.open_orders(account_of(sandbox))
            assert (waiting.type, float(waiting.stop_price or 0)) == (kind, next(iter(params.values())))
            assert await client.fetch_open_orders(name) == []
            native = "trigger" if "triggerPrice" in params else "conditional"
            (listed,) = await client.fetch_open_orders(name, params={"trigger": True, "ordType": native})
            assert listed["id"] == placed["id"]
            await client.cancel_order(placed["id"], name, {"trigger": True})
            assert engine.open_orders(account_of(sandbox)) == []


class TestMoney:
    async def test_balances_are_the_engines(self) -> None:
        _, name, _, amount, price = PRODUCTS["spot"]
        async with running("spot", flow=False) as (sandbox, engine, client):
            await client.create_order(name, "limit", "buy", amount, price)
            balance = await client.fetch_balance()
            held = engine.balances(account_of(sandbox))
            for ours in held:
                theirs = balance[ours.asset]
                assert [theirs[key] for key in ("free", "used", "total")] == [
                    float(ours.available),
                    float(ours.locked),
                    float(ours.total),
                ]
            assert any(ours.locked for ours in held)

    @pytest.mark.parametrize("product", ["linear", "inverse"])
    async def test_positions_are_the_engines(self, product: str) -> None:
        _, name, symbol, amount, _ = PRODUCTS[product]
        async with running(product, flow=False) as (sandbox, engine, client):
            crowd(engine, symbol, "BUY", amount, "50000")
            await client.create_order(name, "market", "sell", amount)
            lot = engine.markets[symbol].min_quantity
            crowd(engine, symbol, "BUY", lot, "47999.9")
            crowd(engine, symbol, "SELL", lot, "48000.1")
            (theirs,) = await client.fetch_positions([name])
            (ours,) = engine.positions(account_of(sandbox))
            assert (theirs["side"], theirs["contracts"]) == ("short", float(-ours.quantity))
            assert theirs["entryPrice"] == float(ours.entry_price)
            assert theirs["markPrice"] == float(engine.mark_price(symbol))
            # 1.5 contracts of 0.01 BTC, 2000 lower; 7 contracts of 100 USD.
            worth = {"linear": Decimal(30), "inverse": 700 * (1 / Decimal(48_000) - 1 / Decimal(50_000))}[product]
            assert theirs["unrealizedPnl"] == pytest.approx(float(worth), abs=1e-10)

    async def test_leverage_and_position_mode_reach_the_engine(self) -> None:
        _, name, symbol, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            account = account_of(sandbox)
            await client.set_leverage(7, name, {"marginMode": "cross"})
            assert account.settings["leverage"][symbol] == 7
            await client.set_position_mode(True)
            assert account.hedge_mode
            crowd(engine, symbol, "SELL", 1, 50_000)
            await client.create_order(name, "market", "buy", 1, None, {"positionSide": "long"})
            (position,) = await client.fetch_positions([name])
            assert (position["side"], position["hedged"], position["contracts"]) == ("long", True, 1)

    async def test_money_and_positions_are_streamed(self) -> None:
        _, name, symbol, _, _ = PRODUCTS["linear"]
        async with running("linear", flow=False) as (sandbox, engine, client):
            with anyio.fail_after(PATIENCE_S):
                before = await client.watch_balance()
            crowd(engine, symbol, "SELL", 2, 50_000)
            watching = asyncio.ensure_future(client.watch_positions([name]))
            changing = asyncio.ensure_future(client.watch_balance())
            await client.create_order(name, "market", "buy", 2)
            with anyio.fail_after(PATIENCE_S):
                positions, after = await watching, await changing
            assert [(p["side"], p["contracts"]) for p in positions] == [("long", 2.0)]
            assert after["USDT"] != before["USDT"]
            (ours,) = [b for b in engine.balances(account_of(sandbox)) if b.asset == "USDT"]
            assert after["USDT"]["used"] == float(ours.locked)
            fees = await client.fetch_trading_fee(name)
            assert (fees["maker"], fees["taker"]) == (0.0002, 0.0005)
