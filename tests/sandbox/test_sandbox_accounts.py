"""Accounts: locks, fees, positions and margin, worked by hand."""

from decimal import Decimal

import pytest

from astra.models.orders import Liquidity, OrderStatus, PositionSide, TimeInForce
from astra.sandbox import BalanceEvent, OrderEvent, PositionEvent, Reject
from astra_sandbox.engine import MatchingEngine

D = Decimal
FEES = {
    "spot": (D("0.001"), D("0.002")),
    "usdm": (D("0.0002"), D("0.0005")),
    "coinm": (D("0.0001"), D("0.0005")),
    "options": (D(0), D("0.0003")),
}


@pytest.fixture
def engine(markets, clock):
    return MatchingEngine(markets.values(), clock, fees=FEES)


def account(engine, name, **wallets):
    funds = {wallet: {asset: D(amount) for asset, amount in assets.items()} for wallet, assets in wallets.items()}
    return engine.open_account(name, f"key-{name}", "secret", balances=funds)


def balance(engine, owner, wallet, asset):
    found = [b for b in engine.balances(owner) if (b.wallet, b.asset) == (wallet, asset)]
    return found[0] if found else None


def refused(rule, call, *args, **more):
    with pytest.raises(Reject) as caught:
        call(*args, **more)
    assert caught.value.rule == rule


# Spot


def test_a_resting_spot_order_locks_what_it_would_pay_and_frees_it_as_it_goes(engine, markets, order):
    spot = markets["spot"]
    buyer = account(engine, "buyer", spot={"USDT": 1000})
    seller = account(engine, "seller", spot={"BTC": 5})
    bid = engine.place(buyer, order(spot, "BUY", "2", "100"))
    assert balance(engine, buyer, "spot", "USDT").locked == 200
    engine.place(seller, order(spot, "SELL", "0.5", "100"))
    usdt = balance(engine, buyer, "spot", "USDT")
    assert (usdt.total, usdt.locked, usdt.available) == (950, 150, 800)
    engine.amend(buyer, bid.id, price=D(90), quantity=None)
    assert balance(engine, buyer, "spot", "USDT").locked == 135
    engine.cancel(buyer, bid.id)
    assert balance(engine, buyer, "spot", "USDT").locked == 0
    ask = engine.place(seller, order(spot, "SELL", "1.5", "200"))
    assert balance(engine, seller, "spot", "BTC").locked == D("1.5")
    engine.cancel(seller, ask.id)
    assert balance(engine, seller, "spot", "BTC").locked == 0


def test_a_better_price_frees_the_difference(engine, markets, order):
    spot = markets["spot"]
    buyer = account(engine, "buyer", spot={"USDT": 1000})
    seller = account(engine, "seller", spot={"BTC": 5})
    engine.place(seller, order(spot, "SELL", "1", "90"))
    engine.place(buyer, order(spot, "BUY", "2", "100"))
    usdt = balance(engine, buyer, "spot", "USDT")
    assert (usdt.total, usdt.locked) == (910, 100)


def test_spot_fees_are_taken_from_what_is_received(engine, markets, order):
    spot = markets["spot"]
    buyer = account(engine, "buyer", spot={"USDT": 1000})
    seller = account(engine, "seller", spot={"BTC": 5})
    engine.place(seller, order(spot, "SELL", "1", "100"))
    engine.place(buyer, order(spot, "BUY", "1", "100"))
    assert balance(engine, buyer, "spot", "BTC").total == D("0.998")  # taker 0.2 %
    assert balance(engine, seller, "spot", "USDT").total == D("99.9")  # maker 0.1 %
    (bought,), (sold,) = engine.fills(buyer), engine.fills(seller)
    assert (bought.fee, bought.fee_asset, bought.liquidity) == (D("0.002"), "BTC", Liquidity.TAKER)
    assert (sold.fee, sold.fee_asset, sold.liquidity) == (D("0.1"), "USDT", Liquidity.MAKER)
    assert bought.trade_id == sold.trade_id
    assert engine.collected == {("spot", "BTC"): D("0.002"), ("spot", "USDT"): D("0.1")}


def test_where_spot_fees_are_in_quote_a_buy_pays_them_on_top(markets, clock, order):
    spot = markets["spot"]
    engine = MatchingEngine(markets.values(), clock, fees=FEES, quote_fees=["spot"])
    seller = account(engine, "seller", spot={"BTC": 5})
    engine.place(seller, order(spot, "SELL", "1", "100"))
    buyer = account(engine, "buyer", spot={"USDT": "300"})
    bid = engine.place(buyer, order(spot, "BUY", "2", "100"))
    (fill,) = bid.fills
    assert (fill.fee, fill.fee_asset) == (D("0.2"), "USDT")
    assert balance(engine, buyer, "spot", "BTC").total == 1
    usdt = balance(engine, buyer, "spot", "USDT")
    assert (usdt.total, usdt.locked) == (D("199.8"), D("100.2"))
    assert balance(engine, seller, "spot", "USDT").total == D("99.9")
    poor = account(engine, "poor", spot={"USDT": "100.1"})
    refused("insufficient-funds", engine.place, poor, order(spot, "BUY", "1", "100"))
    assert engine.audit()["spot", "USDT"] == D("400.1")


def test_an_alias_trades_in_the_other_markets_book_and_is_paid_in_its_own_assets(markets, clock, order):
    spot = markets["spot"]
    alias = spot.model_copy(update={"symbol": "TOY-SPOT-BTC-USDC", "quote_asset": "USDC", "native_symbol": "BTCUSDC"})
    engine = MatchingEngine([spot, alias], clock, fees=FEES, aliases={alias.symbol: spot.symbol})
    told: list[tuple[str, str]] = []
    engine.subscribe(lambda event: told.append((type(event).__name__, getattr(event, "market", ""))))
    seller = account(engine, "seller", spot={"BTC": 5})
    buyer = account(engine, "buyer", spot={"USDC": 1000})
    engine.place(seller, order(spot, "SELL", "2", "100"))
    bid = engine.place(buyer, order(alias, "BUY", "1", "100"))
    assert engine.depth(alias.symbol, 5) == engine.depth(spot.symbol, 5)
    assert list(engine.trades(alias.symbol)) == list(engine.trades(spot.symbol)) != []
    assert (bid.market, bid.fills[0].market) == (alias.symbol, alias.symbol)
    assert {market for name, market in told if name in ("PublicTrade", "BookChange")} == {spot.symbol}
    assert balance(engine, buyer, "spot", "USDC").total == 900
    assert balance(engine, seller, "spot", "USDT").total == D("99.9")
    refused("insufficient-funds", engine.place, buyer, order(spot, "BUY", "1", "100"))
    assert (engine.shares_a_book(alias.symbol), engine.shares_a_book(spot.symbol)) == (True, False)


def test_spot_orders_beyond_the_available_balance_are_refused(engine, markets, order):
    spot = markets["spot"]
    buyer = account(engine, "buyer", spot={"USDT": 1000})
    seller = account(engine, "seller", spot={"BTC": 5})
    bid = engine.place(buyer, order(spot, "BUY", "5", "100"))
    refused("insufficient-funds", engine.place, buyer, order(spot, "BUY", "6", "100"))
    refused("insufficient-funds", engine.amend, buyer, bid.id, price=D("200.01"), quantity=None)
    engine.amend(buyer, bid.id, price=D(200), quantity=None)
    refused("insufficient-funds", engine.place, seller, order(spot, "SELL", "5.001", "300"))
    engine.place(seller, order(spot, "SELL", "5", "300"))
    engine.cancel(buyer, bid.id)
    refused("insufficient-funds", engine.place, buyer, order(spot, "BUY", "4"))  # 4 x 300
    refused("insufficient-funds", engine.place, buyer, order(spot, "BUY", quote="1000.01"))
    assert engine.place(buyer, order(spot, "BUY", quote="1000")).filled == D("3.333")


def test_a_waiting_spot_stop_locks_funds_and_expires_if_they_do_not_suffice_in_the_end(engine, markets, order):
    spot = markets["spot"]
    buyer = account(engine, "buyer", spot={"USDT": 110})
    crowd = account(engine, "crowd", spot={"BTC": 50, "USDT": 10_000})
    other = account(engine, "other", spot={"USDT": 10_000})
    engine.place(crowd, order(spot, "SELL", "1", "100"))
    engine.place(other, order(spot, "BUY", "1", "100"))
    stop = engine.place(buyer, order(spot, "BUY", "1", type="STOP_MARKET", stop="105"))
    assert balance(engine, buyer, "spot", "USDT").locked == 105
    engine.place(crowd, order(spot, "SELL", "1", "105"))
    engine.place(crowd, order(spot, "SELL", "5", "120"))
    engine.place(other, order(spot, "BUY", "1", "105"))
    assert (stop.status, stop.reason, stop.triggered) == (OrderStatus.EXPIRED, "insufficient-funds", True)
    assert balance(engine, buyer, "spot", "USDT").locked == 0


def test_withdrawing_is_bounded_by_what_is_available(engine, markets, order):
    buyer = account(engine, "buyer", spot={"USDT": 1000})
    engine.place(buyer, order(markets["spot"], "BUY", "5", "100"))
    refused("insufficient-funds", engine.deposit, buyer, "spot", "USDT", D("-500.01"))
    engine.deposit(buyer, "spot", "USDT", D(-500))
    engine.deposit(buyer, "usdm", "USDT", D(500))
    assert balance(engine, buyer, "spot", "USDT").available == 0
    assert balance(engine, buyer, "usdm", "USDT").total == 500


# Linear contracts


@pytest.fixture
def linear(markets):
    return markets["linear"]


@pytest.fixture
def traders(engine):
    wallets = {"usdm": {"USDT": 10_000}, "coinm": {"BTC": 10}, "options": {"USDT": 100_000}}
    return account(engine, "long", **wallets), account(engine, "short", **wallets)


def trade(engine, order, market, buyer, seller, quantity, price, **more):
    """The seller makes, the buyer takes."""
    engine.place(seller, order(market, "SELL", quantity, price))
    return engine.place(buyer, order(market, "BUY", quantity, price, **more))


def position(engine, owner, side=None):
    found = [p for p in engine.positions(owner) if p.side is side]
    return (found[0].quantity, found[0].entry_price) if found else None


def test_a_linear_position_averages_its_entry_and_realises_on_the_way_out(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "1", "100")
    trade(engine, order, linear, buyer, seller, "3", "200")
    assert position(engine, buyer) == (4, 175)
    assert position(engine, seller) == (-4, 175)
    taker = trade(engine, order, linear, seller, buyer, "1", "215")
    assert taker.fills[0].realized_pnl == -40
    assert engine.fills(buyer)[-1].realized_pnl == 40
    assert position(engine, buyer) == (3, 175)
    # bought 1 at 100 and 3 at 200 as taker (0.05 %), sold 1 at 215 as maker (0.02 %), 40 gained
    assert balance(engine, buyer, "usdm", "USDT").total == D(10_000) - D("0.05") - D("0.3") - D("0.043") + 40


def test_selling_more_than_is_held_turns_the_position_round(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "1", "100")
    trade(engine, order, linear, seller, buyer, "3", "110")
    assert position(engine, buyer) == (-2, 110)
    assert position(engine, seller) == (2, 110)
    assert engine.fills(buyer)[-1].realized_pnl == 10


def test_margin_follows_the_leverage_and_comes_back_with_the_position(engine, order, linear, traders):
    buyer, seller = traders
    buyer.settings["leverage"] = {linear.symbol: 10}
    bid = engine.place(buyer, order(linear, "BUY", "10", "100"))
    assert balance(engine, buyer, "usdm", "USDT").locked == 100  # 1000 / 10
    engine.place(seller, order(linear, "SELL", "4", "100"))
    assert balance(engine, buyer, "usdm", "USDT").locked == 100  # 60 for the order, 40 for the position
    assert balance(engine, seller, "usdm", "USDT").locked == 20  # 400 / 20, the default
    engine.cancel(buyer, bid.id)
    assert balance(engine, buyer, "usdm", "USDT").locked == 40
    trade(engine, order, linear, seller, buyer, "4", "100")
    assert balance(engine, buyer, "usdm", "USDT").locked == 0
    assert balance(engine, seller, "usdm", "USDT").locked == 0
    assert position(engine, buyer) is None


def test_opening_beyond_the_margin_is_refused_and_closing_never_is(engine, order, linear, traders):
    buyer, seller = traders
    refused("insufficient-funds", engine.place, buyer, order(linear, "BUY", "2001", "100"))  # 200,100 / 20 > 10,000
    trade(engine, order, linear, buyer, seller, "1990", "100")
    refused("insufficient-funds", engine.place, buyer, order(linear, "BUY", "10", "100"))
    assert engine.place(buyer, order(linear, "SELL", "1990", "100")).status is OrderStatus.NEW
    refused("insufficient-funds", engine.place, seller, order(linear, "SELL", "100", "100.1"))


def test_reduce_only_orders_are_cut_to_the_position_and_refused_without_one(engine, order, linear, traders):
    buyer, seller = traders
    refused("reduce-only", engine.place, buyer, order(linear, "SELL", "1", "100", reduce_only=True))
    trade(engine, order, linear, buyer, seller, "2", "100")
    refused("reduce-only", engine.place, buyer, order(linear, "BUY", "1", "90", reduce_only=True))
    resting = engine.place(buyer, order(linear, "SELL", "5", "120", reduce_only=True))
    assert resting.quantity == 2
    trade(engine, order, linear, seller, buyer, "0.5", "110")
    assert resting.quantity == D("1.5")  # the position has shrunk, the order with it
    assert [(a.price, a.quantity) for a in engine.depth(linear.symbol, 5)[2]] == [(120, D("1.5"))]
    trade(engine, order, linear, seller, buyer, "1.5", "110")
    assert (resting.status, resting.reason) == (OrderStatus.EXPIRED, "reduce-only")
    assert engine.depth(linear.symbol, 5)[2] == []


def test_two_reduce_only_orders_cannot_close_more_than_there_is(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "2", "100")
    first = engine.place(buyer, order(linear, "SELL", "2", "120", reduce_only=True))
    second = engine.place(buyer, order(linear, "SELL", "2", "121", reduce_only=True))
    taker = engine.place(seller, order(linear, "BUY", "4", "130"))
    assert first.status is OrderStatus.FILLED
    assert (second.filled, second.status) == (0, OrderStatus.EXPIRED)
    assert taker.filled == 2
    assert position(engine, buyer) is None


def test_a_fok_order_counts_on_no_more_than_reduce_only_orders_can_fill(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "2", "100")
    engine.place(buyer, order(linear, "SELL", "2", "120", reduce_only=True))
    engine.place(buyer, order(linear, "SELL", "2", "121", reduce_only=True))
    missed = engine.place(seller, order(linear, "BUY", "3", "130", time_in_force=TimeInForce.FOK))
    assert (missed.filled, missed.reason) == (0, "fok")
    assert engine.place(seller, order(linear, "BUY", "2", "130", time_in_force=TimeInForce.FOK)).filled == 2


def test_a_waiting_reduce_only_stop_closes_what_is_left_when_it_is_triggered(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "2", "100")
    stop = engine.place(buyer, order(linear, "SELL", "5", type="STOP_MARKET", stop="90", reduce_only=True))
    gone = engine.place(buyer, order(linear, "SELL", "5", type="STOP_MARKET", stop="89", reduce_only=True))
    assert balance(engine, buyer, "usdm", "USDT").locked == 10  # the position's alone
    maker = account(engine, "maker", usdm={"USDT": 10_000})
    engine.place(maker, order(linear, "BUY", "10", "88"))
    trade(engine, order, linear, seller, maker, "1", "90")
    assert (stop.status, stop.filled, stop.average_price) == (OrderStatus.FILLED, 2, 88)
    assert (gone.status, gone.reason) == (OrderStatus.EXPIRED, "reduce-only")


def test_hedge_mode_keeps_two_positions_and_names_the_side(engine, order, linear, traders):
    buyer, seller = traders
    buyer.hedge_mode = True
    long, short = PositionSide.LONG, PositionSide.SHORT
    refused("invalid", engine.place, buyer, order(linear, "BUY", "1", "100"))
    refused("invalid", engine.place, seller, order(linear, "BUY", "1", "100", position_side=long))
    refused("reduce-only", engine.place, buyer, order(linear, "SELL", "1", "100", position_side=long))
    trade(engine, order, linear, buyer, seller, "2", "100", position_side=long)
    engine.place(seller, order(linear, "BUY", "1", "90"))
    engine.place(buyer, order(linear, "SELL", "1", "90", position_side=short))
    assert position(engine, buyer, long) == (2, 100)
    assert position(engine, buyer, short) == (-1, 90)
    closing = engine.place(buyer, order(linear, "SELL", "5", "95", position_side=long))
    assert closing.quantity == 2  # it closes, it does not turn round
    engine.place(seller, order(linear, "BUY", "5", "95"))
    assert position(engine, buyer, long) is None
    assert position(engine, buyer, short) == (-1, 90)


# Inverse contracts


def test_an_inverse_position_gains_size_times_the_difference_of_reciprocals(engine, order, markets, traders):
    """30 contracts of 100 USD from 50,000 to 60,000: worth 0.06 BTC, then 0.05 BTC; the long gains 0.01 BTC."""
    inverse = markets["inverse"]
    buyer, seller = traders
    trade(engine, order, inverse, buyer, seller, "30", "50000")
    assert position(engine, buyer) == (30, 50_000)
    assert balance(engine, buyer, "coinm", "BTC").locked == D("0.003")  # 0.06 / 20
    trade(engine, order, inverse, seller, buyer, "30", "60000")
    assert engine.fills(buyer)[-1].realized_pnl == D("0.01")
    assert engine.fills(seller)[-1].realized_pnl == D("-0.01")
    # taker 0.05 % of 0.06 BTC on the way in, maker 0.01 % of 0.05 BTC on the way out
    assert balance(engine, buyer, "coinm", "BTC").total == 10 + D("0.01") - D("0.00003") - D("0.000005")
    assert balance(engine, buyer, "coinm", "BTC").locked == 0


def test_an_inverse_entry_is_the_price_at_which_the_coins_add_up(engine, order, markets, traders):
    """100 contracts at 40,000 (0.25 BTC) and 100 at 60,000 (0.1666... BTC): 20,000 USD for 0.41666... BTC = 48,000."""
    inverse = markets["inverse"]
    buyer, seller = traders
    trade(engine, order, inverse, buyer, seller, "100", "40000")
    trade(engine, order, inverse, buyer, seller, "100", "60000")
    assert position(engine, buyer) == (200, 48_000)
    trade(engine, order, inverse, seller, buyer, "50", "50000")
    # 50 x 100 x (1/48,000 - 1/50,000) = 0.0041666... BTC
    assert engine.fills(buyer)[-1].realized_pnl == D("0.00416667")
    assert position(engine, buyer) == (150, 48_000)


# Options


def test_an_option_premium_moves_at_the_trade_and_only_the_short_side_gives_margin(engine, order, markets, traders):
    option = markets["option"]
    buyer, seller = traders
    trade(engine, order, option, buyer, seller, "2", "500")
    bought, sold = balance(engine, buyer, "options", "USDT"), balance(engine, seller, "options", "USDT")
    assert (bought.total, bought.locked) == (100_000 - 1000 - D("0.3"), 0)
    assert (sold.total, sold.locked) == (101_000, 30_000)  # 15 % of two strikes
    trade(engine, order, option, seller, buyer, "2", "700")
    assert engine.fills(buyer)[-1].realized_pnl == 400
    assert balance(engine, buyer, "options", "USDT").total == 100_400 - D("0.3")
    assert balance(engine, seller, "options", "USDT").locked == 0


def test_an_option_buyer_pays_the_whole_premium(engine, order, markets, traders):
    option = markets["option"]
    buyer, _ = traders
    refused("insufficient-funds", engine.place, buyer, order(option, "BUY", "100", "1000"))  # the fee is lacking
    engine.place(buyer, order(option, "BUY", "99", "1000"))
    assert balance(engine, buyer, "options", "USDT").locked == 99_000 + D("29.7")


# What the protocol is told


def test_balances_and_positions_are_told_as_they_stand_after_the_command(engine, order, linear, traders):
    buyer, seller = traders
    engine.place(seller, order(linear, "SELL", "1", "100"))
    seen = []
    engine.subscribe(seen.append)
    engine.place(buyer, order(linear, "BUY", "1", "100"))
    kinds = [type(event) for event in seen]
    assert kinds.index(BalanceEvent) > max(n for n, kind in enumerate(kinds) if kind is OrderEvent)
    balances = [event for event in seen if isinstance(event, BalanceEvent)]
    told = {(e.account, e.balance.wallet, e.balance.asset): e.balance.total for e in balances}
    assert told == {("long", "usdm", "USDT"): D("9999.95"), ("short", "usdm", "USDT"): D("9999.98")}
    positions = {e.account: e.position.quantity for e in seen if isinstance(e, PositionEvent)}
    assert positions == {"long": 1, "short": -1}


def test_a_closed_position_is_told_with_quantity_zero(engine, order, linear, traders):
    buyer, seller = traders
    trade(engine, order, linear, buyer, seller, "1", "100")
    seen = []
    engine.subscribe(seen.append)
    trade(engine, order, linear, seller, buyer, "1", "120")
    closed = [event.position for event in seen if isinstance(event, PositionEvent) and event.account == "long"][-1]
    assert (closed.quantity, closed.realized_pnl) == (0, 20)
    assert engine.positions(buyer) == []


def test_wallets_and_fees_are_the_products_own_unless_named(markets, clock):
    engine = MatchingEngine(markets.values(), clock, wallets={"usdm": "trading"}, fees={"usdm": (D(0), D("0.01"))})
    assert engine.wallet_of(markets["spot"].symbol) == "spot"
    assert engine.wallet_of(markets["linear"].symbol) == "trading"
    assert engine.wallet_of(markets["inverse"].symbol) == "coinm"
    assert engine.fee_rates(markets["linear"].symbol) == (0, D("0.01"))


def test_an_account_name_or_key_is_not_given_twice(engine):
    account(engine, "one")
    with pytest.raises(ValueError, match="one"):
        account(engine, "one")
    with pytest.raises(ValueError, match="key"):
        engine.open_account("two", "key-one", "secret")
    with pytest.raises(ValueError, match="house"):
        account(engine, "house")
