"""The seeded order flow: realistic books and trades, the same for the same seed."""

from decimal import Decimal

import pytest

from astra.models.markets import MarketStatus
from astra.models.orders import OrderStatus
from astra.models.trades import Side
from astra.sandbox import BookChange, PublicTrade
from astra_sandbox.engine import MatchingEngine
from astra_sandbox.flow import FEWEST, MOST, OrderFlow, orders_per_second
from astra_sandbox.prices import AssetValues, fair_price

D = Decimal
BEAT_S = 0.05


@pytest.fixture
def running(markets, clock):
    """Makes an engine with filled books and a flow; `run(seconds)` lets it go on."""

    def make(seed=1, **more):
        engine = MatchingEngine(markets.values(), clock, seed=seed)
        flow = OrderFlow(engine, clock, seed=seed, **more)
        flow.fill()

        def run(seconds):
            return sum(flow.advance(BEAT_S) for _ in range(round(seconds / BEAT_S)))

        return engine, run

    return make


def recorded(engine):
    seen = []
    engine.subscribe(seen.append)
    return seen


def test_the_same_seed_makes_the_same_market_and_another_seed_another_one(running):
    histories = []
    for seed in (1, 1, 2):
        engine, run = running(seed)
        seen = recorded(engine)
        run(10)
        histories.append(seen)
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]
    assert len(histories[0]) > 500


def test_books_are_deep_uncrossed_and_on_the_grid_from_the_first_moment_on(running, markets):
    engine, run = running()
    for seconds in (0, 30, 60):
        run(seconds)
        for market in markets.values():
            _, bids, asks = engine.depth(market.symbol, 10_000)
            assert FEWEST <= len(bids) <= MOST, market.symbol
            assert FEWEST <= len(asks) <= MOST, market.symbol
            assert bids[0].price < asks[0].price
            for amount in (*bids, *asks):
                assert amount.price % market.tick_size == 0
                assert amount.quantity % market.lot_size == 0
                assert amount.quantity >= (market.min_quantity or 0)
            assert asks[0].price / bids[0].price < D("1.01")


def test_every_market_moves_and_trades_every_few_seconds(running, markets):
    engine, run = running()
    seen = recorded(engine)
    run(5)
    for market in markets:
        symbol = markets[market].symbol
        changes = sum(isinstance(event, BookChange) and event.market == symbol for event in seen)
        trades = [event for event in seen if isinstance(event, PublicTrade) and event.market == symbol]
        assert changes > 50
        assert trades
    run(30)
    sides = {trade.side for trade in engine.trades(symbol)}
    assert sides == {Side.BUY, Side.SELL}


def test_markets_of_one_asset_agree_on_its_price(running, markets):
    engine, run = running()
    for _ in range(5):
        run(20)
        marks = [engine.mark_price(markets[kind].symbol) for kind in ("spot", "linear", "inverse")]
        assert max(marks) / min(marks) < D("1.002")


def test_prices_drift_but_stay_near_where_they_began(running, markets):
    engine, run = running()
    symbol = markets["spot"].symbol
    start, seen = engine.mark_price(symbol), set()
    for _ in range(30):
        run(10)
        mark = engine.mark_price(symbol)
        seen.add(mark)
        assert abs(mark / start - 1) < D("0.05")
    assert len(seen) > 25


def test_a_book_that_somebody_swept_fills_up_again(running, markets, order):
    engine, run = running()
    market = markets["spot"]
    whale = engine.open_account("whale", "k", "s", balances={"spot": {"USDT": D(10**12)}})
    run(1)
    assert engine.place(whale, order(market, "BUY", market.max_quantity)).status is OrderStatus.EXPIRED
    assert engine.depth(market.symbol, 1)[2] == []
    run(20)
    assert len(engine.depth(market.symbol, 1000)[2]) > FEWEST // 2


def test_the_crowd_trades_with_the_accounts_that_stand_in_its_way(running, markets, order):
    engine, run = running()
    market = markets["spot"]
    account = engine.open_account("maker", "k", "s", balances={"spot": {"BTC": D(10), "USDT": D(10**6)}})
    best = engine.depth(market.symbol, 1)[2][0].price
    placed = engine.place(account, order(market, "SELL", "0.001", best - market.tick_size))
    run(30)
    assert placed.filled > 0


def test_a_market_listed_later_comes_alive_and_a_halted_one_rests(running, markets):
    engine, run = running()
    new = markets["spot"].model_copy(update={"symbol": "TOY-SPOT-ETH-USDT", "base_asset": "ETH"})
    engine.list_market(new)
    halted = markets["linear"].model_copy(update={"status": MarketStatus.HALTED})
    engine.list_market(halted)
    run(2)
    seen = recorded(engine)
    run(5)
    changed = {event.market for event in seen if isinstance(event, BookChange)}
    assert new.symbol in changed
    assert halted.symbol not in changed
    engine.list_market(markets["linear"])
    run(5)
    assert halted.symbol in {event.market for event in seen if isinstance(event, BookChange)}


def test_orders_follow_a_change_of_the_tick_size(running, markets):
    engine, run = running()
    coarser = markets["spot"].model_copy(update={"tick_size": D(1)})
    engine.list_market(coarser)
    run(1)
    seen = recorded(engine)
    run(10)
    added = [
        a.price for e in seen if isinstance(e, BookChange) and e.market == coarser.symbol for a in e.bids if a.quantity
    ]
    assert sum(price % 1 == 0 for price in added) > len(added) / 2


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_the_pace_scales_the_number_of_orders(running, pace):
    _, run = running(pace=pace)
    assert run(10) == pytest.approx(10 * 4 * orders_per_second(4, pace), abs=1)


def test_many_markets_share_a_bounded_number_of_orders():
    assert orders_per_second(10, 1.0) == 20
    assert 6 <= orders_per_second(500, 1.0) <= 8
    assert orders_per_second(5000, 1.0) * 5000 == orders_per_second(500, 1.0) * 500


def test_values_are_known_drawn_or_multiplied(markets):
    values = AssetValues(1)
    assert values["USDT"] == 1
    assert values["1000SHIB"] == 1000 * values["SHIB"]
    assert values["1MPEPE"] == 1_000_000 * values["PEPE"]
    assert values["NEWCOIN"] == AssetValues(1)["NEWCOIN"] != AssetValues(2)["NEWCOIN"]


def test_a_fair_price_leaves_room_for_a_book_within_the_markets_limits(markets):
    coarse = markets["spot"].model_copy(update={"tick_size": D(1000), "base_asset": "DOGE"})
    assert fair_price(coarse, AssetValues(1), 0) == 500_000
    capped = markets["spot"].model_copy(update={"max_price": D(50_000)})
    assert fair_price(capped, AssetValues(1), 0) == 49_995
    option = markets["option"]
    deep = option.model_copy(update={"strike": D(10_000)})
    far = option.model_copy(update={"strike": D(1_000_000)})
    now = option.expiry - 30 * 86_400_000
    prices = [fair_price(market, AssetValues(1), now) for market in (deep, option, far)]
    assert prices[0] == pytest.approx(D(80_000), rel=D("0.01"))
    assert prices == sorted(prices, reverse=True)
    assert all(price % option.tick_size == 0 and price > 0 for price in prices)
