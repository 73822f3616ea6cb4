"""The matching engine: who trades with whom, at what price, and what is refused."""

from decimal import Decimal

import pytest

from astra.models.markets import MarketStatus
from astra.models.orders import OrderStatus, TimeInForce
from astra.models.trades import Side
from astra.sandbox import BookChange, OrderEvent, PublicTrade, Reject
from astra_sandbox.engine import MatchingEngine

FUNDS = {"spot": {"BTC": Decimal(1000), "USDT": Decimal(100_000_000)}}
D = Decimal


@pytest.fixture
def spot(markets):
    return markets["spot"]


@pytest.fixture
def engine(spot, clock):
    return MatchingEngine([spot], clock)


@pytest.fixture
def alice(engine):
    return engine.open_account("alice", "ka", "sa", balances=FUNDS)


@pytest.fixture
def bob(engine):
    return engine.open_account("bob", "kb", "sb", balances=FUNDS)


@pytest.fixture
def carol(engine):
    return engine.open_account("carol", "kc", "sc", balances=FUNDS)


@pytest.fixture
def trade_at(engine, spot, order, alice, bob):
    """Make the last price what is asked for."""

    def trade(price):
        engine.place(alice, order(spot, "SELL", "1", price))
        engine.place(bob, order(spot, "BUY", "1", price))

    return trade


def levels(side):
    return [(str(amount.price), str(amount.quantity)) for amount in side]


def refused(rule, call, *args, **more):
    with pytest.raises(Reject) as caught:
        call(*args, **more)
    assert caught.value.rule == rule
    return str(caught.value)


def test_the_better_price_trades_first_and_the_older_order_at_the_same_price(engine, spot, order, alice, bob, carol):
    late = engine.place(alice, order(spot, "SELL", "1", "101"))
    first = engine.place(bob, order(spot, "SELL", "1", "100"))
    second = engine.place(alice, order(spot, "SELL", "1", "100"))
    taker = engine.place(carol, order(spot, "BUY", "2.5", "101"))
    assert [fill.price for fill in taker.fills] == [D(100), D(100), D(101)]
    assert first.status is second.status is OrderStatus.FILLED
    assert late.filled == D("0.5")
    assert late.status is OrderStatus.PARTIALLY_FILLED
    trades = engine.trades(spot.symbol)
    assert [trade.maker_order_id for trade in trades] == [first.id, second.id, late.id]
    assert all(trade.side is Side.BUY and trade.taker_order_id == taker.id for trade in trades)


def test_trades_happen_at_the_makers_price(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    taker = engine.place(bob, order(spot, "BUY", "1", "105"))
    assert taker.average_price == 100


def test_what_is_not_filled_rests_and_shows_in_the_depth(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    engine.place(alice, order(spot, "SELL", "2", "100"))
    engine.place(alice, order(spot, "SELL", "1", "102"))
    engine.place(bob, order(spot, "BUY", "5", "100"))
    _, bids, asks = engine.depth(spot.symbol, 10)
    assert levels(bids) == [("100.00", "2.000")]
    assert levels(asks) == [("102.00", "1.000")]


def test_depth_is_cut_to_the_levels_asked_for_best_first(engine, spot, order, alice):
    for price in ("98", "99", "97"):
        engine.place(alice, order(spot, "BUY", "1", price))
    for price in ("103", "101", "102"):
        engine.place(alice, order(spot, "SELL", "1", price))
    _, bids, asks = engine.depth(spot.symbol, 2)
    assert levels(bids) == [("99.00", "1.000"), ("98.00", "1.000")]
    assert levels(asks) == [("101.00", "1.000"), ("102.00", "1.000")]


def test_a_market_order_sweeps_the_book_and_its_remainder_expires(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    engine.place(alice, order(spot, "SELL", "1", "110"))
    taker = engine.place(bob, order(spot, "BUY", "3"))
    assert (taker.status, taker.filled, taker.filled_quote) == (OrderStatus.EXPIRED, 2, 210)
    assert taker.reason == "no-liquidity"
    assert engine.depth(spot.symbol, 5)[1:] == ([], [])


def test_a_market_order_by_quote_amount_spends_no_more_than_that(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    engine.place(alice, order(spot, "SELL", "1", "110"))
    taker = engine.place(bob, order(spot, "BUY", quote="150"))
    assert taker.status is OrderStatus.FILLED
    assert taker.filled == taker.quantity == D("1.454")  # 1 at 100, then 50 / 110 cut to the lot
    assert taker.filled_quote == D("149.94")


def test_a_market_sale_by_quote_amount_sells_just_enough(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "BUY", "1", "100"))
    taker = engine.place(bob, order(spot, "SELL", quote="50"))
    assert (taker.filled, taker.status) == (D("0.5"), OrderStatus.FILLED)


def test_a_quote_amount_below_one_lot_is_refused(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "900000"))
    refused("lot-size", engine.place, bob, order(spot, "BUY", quote="6"))


def test_an_ioc_remainder_expires(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    taker = engine.place(bob, order(spot, "BUY", "3", "100", time_in_force=TimeInForce.IOC))
    assert (taker.status, taker.filled, taker.reason) == (OrderStatus.EXPIRED, 1, "ioc")
    assert engine.depth(spot.symbol, 5)[1] == []


def test_a_fok_order_fills_entirely_or_not_at_all(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    engine.place(alice, order(spot, "SELL", "1", "101"))
    missed = engine.place(bob, order(spot, "BUY", "2", "100", time_in_force=TimeInForce.FOK))
    assert (missed.status, missed.filled, missed.reason) == (OrderStatus.EXPIRED, 0, "fok")
    filled = engine.place(bob, order(spot, "BUY", "2", "101", time_in_force=TimeInForce.FOK))
    assert filled.status is OrderStatus.FILLED


def test_a_fok_order_does_not_count_on_own_orders(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    engine.place(bob, order(spot, "SELL", "1", "100"))
    missed = engine.place(bob, order(spot, "BUY", "2", "100", time_in_force=TimeInForce.FOK))
    assert (missed.filled, missed.reason) == (0, "fok")


def test_a_post_only_order_that_would_take_is_refused_and_one_that_would_not_rests(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    refused("post-only", engine.place, bob, order(spot, "BUY", "1", "100", post_only=True))
    assert engine.place(bob, order(spot, "BUY", "1", "99.99", post_only=True)).status is OrderStatus.NEW


def test_an_order_never_trades_with_its_own_account(engine, spot, order, alice, bob):
    engine.place(bob, order(spot, "SELL", "1", "100"))
    engine.place(alice, order(spot, "SELL", "1", "101"))
    engine.place(bob, order(spot, "SELL", "1", "102"))
    taker = engine.place(alice, order(spot, "BUY", "5", "102"))
    assert (taker.filled, taker.status, taker.reason) == (1, OrderStatus.EXPIRED, "self-trade")
    assert levels(engine.depth(spot.symbol, 5)[2]) == [("101.00", "1.000"), ("102.00", "1.000")]


def test_gtd_orders_expire_when_their_time_comes(engine, spot, order, alice, clock):
    soon = order(spot, "BUY", "1", "100", time_in_force=TimeInForce.GTD, expire_time=clock.ms + 1000)
    placed = engine.place(alice, soon)
    engine.expire_due()
    assert placed.status is OrderStatus.NEW
    clock.ms += 1000
    engine.expire_due()
    assert (placed.status, placed.reason) == (OrderStatus.EXPIRED, "expired")
    assert engine.depth(spot.symbol, 1)[1] == []
    refused("invalid", engine.place, alice, soon)


def test_an_expired_order_is_gone_before_the_next_command_looks(engine, spot, order, alice, bob, clock):
    engine.place(alice, order(spot, "SELL", "1", "100", time_in_force=TimeInForce.GTD, expire_time=clock.ms + 1))
    clock.ms += 5
    assert engine.place(bob, order(spot, "BUY", "1", "100")).filled == 0


# Cancel and amend


def test_cancelling_takes_the_order_out_once(engine, spot, order, alice, bob):
    placed = engine.place(alice, order(spot, "BUY", "1", "100"))
    refused("order-not-found", engine.cancel, bob, placed.id)
    assert engine.cancel(alice, placed.id).status is OrderStatus.CANCELED
    assert engine.depth(spot.symbol, 1)[1] == []
    refused("order-not-found", engine.cancel, alice, placed.id)


def test_shrinking_keeps_the_place_in_the_queue(engine, spot, order, alice, bob, carol):
    first = engine.place(alice, order(spot, "SELL", "2", "100"))
    engine.place(bob, order(spot, "SELL", "1", "100"))
    engine.amend(alice, first.id, price=None, quantity=D(1))
    assert levels(engine.depth(spot.symbol, 1)[2]) == [("100.00", "2.000")]
    engine.place(carol, order(spot, "BUY", "1", "100"))
    assert first.status is OrderStatus.FILLED


@pytest.mark.parametrize(("price", "quantity"), [(None, "3"), ("100.01", None), ("100.01", "1")])
def test_growing_or_moving_goes_to_the_end_of_the_queue(engine, spot, order, alice, bob, carol, price, quantity):
    first = engine.place(alice, order(spot, "SELL", "2", "100"))
    second = engine.place(bob, order(spot, "SELL", "1", price or "100"))
    engine.amend(alice, first.id, price=price and D(price), quantity=quantity and D(quantity))
    engine.place(carol, order(spot, "BUY", "1", "101"))
    assert second.status is OrderStatus.FILLED
    assert first.filled == 0


def test_an_amended_order_may_trade_at_once(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    placed = engine.place(bob, order(spot, "BUY", "2", "99"))
    engine.amend(bob, placed.id, price=D(100), quantity=None)
    assert (placed.filled, placed.status) == (1, OrderStatus.PARTIALLY_FILLED)
    assert levels(engine.depth(spot.symbol, 1)[1]) == [("100.00", "1.000")]


def test_an_amendment_below_the_filled_quantity_is_refused_and_changes_nothing(engine, spot, order, alice, bob):
    placed = engine.place(alice, order(spot, "SELL", "2", "100"))
    engine.place(bob, order(spot, "BUY", "1", "100"))
    before = engine.depth(spot.symbol, 5)
    refused("invalid", engine.amend, alice, placed.id, price=None, quantity=D(1))
    refused("tick-size", engine.amend, alice, placed.id, price=D("100.001"), quantity=None)
    refused("lot-size", engine.amend, alice, placed.id, price=None, quantity=D("1.0001"))
    assert engine.depth(spot.symbol, 5) == before


def test_a_post_only_order_is_not_amended_into_taking(engine, spot, order, alice, bob):
    engine.place(alice, order(spot, "SELL", "1", "100"))
    placed = engine.place(bob, order(spot, "BUY", "1", "99", post_only=True))
    refused("post-only", engine.amend, bob, placed.id, price=D(100), quantity=None)
    assert engine.amend(bob, placed.id, price=D("99.5"), quantity=None).price == D("99.5")


# Conditional orders


@pytest.mark.parametrize(
    ("kind", "side", "stop", "before", "reached"),
    [
        ("STOP_MARKET", "BUY", "105", "104", "105"),
        ("STOP_MARKET", "SELL", "95", "96", "95"),
        ("TAKE_PROFIT_MARKET", "SELL", "105", "104", "105"),
        ("TAKE_PROFIT_MARKET", "BUY", "95", "96", "95"),
    ],
)
def test_a_conditional_order_waits_for_its_price(
    engine, spot, order, trade_at, alice, bob, carol, kind, side, stop, before, reached
):
    trade_at("100")
    waiting = engine.place(carol, order(spot, side, "1", type=kind, stop=stop))
    trade_at(before)
    assert not waiting.triggered
    assert waiting in engine.open_orders(carol)
    engine.place(alice, order(spot, "SELL", "1", "120"))
    engine.place(bob, order(spot, "BUY", "1", "80"))
    trade_at(reached)
    assert waiting.triggered
    assert waiting.status is OrderStatus.FILLED
    assert waiting.average_price == (120 if side == "BUY" else 80)


def test_a_stop_limit_order_rests_at_its_price_once_triggered(engine, spot, order, trade_at, alice, bob, carol):
    trade_at("100")
    waiting = engine.place(carol, order(spot, "BUY", "1", "104", type="STOP_LIMIT", stop="105"))
    assert engine.depth(spot.symbol, 5)[1] == []
    engine.place(bob, order(spot, "BUY", "1", "105"))
    engine.place(alice, order(spot, "SELL", "1", "105"))
    assert (waiting.triggered, waiting.status) == (True, OrderStatus.NEW)
    assert levels(engine.depth(spot.symbol, 5)[1]) == [("104.00", "1.000")]


def test_a_stop_price_that_is_reached_already_is_refused(engine, spot, order, trade_at, carol):
    trade_at("100")
    refused("stop-would-trigger", engine.place, carol, order(spot, "BUY", "1", type="STOP_MARKET", stop="100"))
    refused("stop-would-trigger", engine.place, carol, order(spot, "SELL", "1", type="TAKE_PROFIT_MARKET", stop="99"))


def test_one_stop_can_trigger_the_next_and_each_is_a_command_of_its_own(
    engine, spot, order, trade_at, alice, bob, carol
):
    trade_at("100")
    engine.place(carol, order(spot, "BUY", "1", type="STOP_MARKET", stop="101"))
    engine.place(bob, order(spot, "BUY", "1", type="STOP_MARKET", stop="102"))
    for price in ("101", "102", "103"):
        engine.place(alice, order(spot, "SELL", "1", price))
    start, _, _ = engine.depth(spot.symbol, 1)
    seen = []
    engine.subscribe(lambda event: seen.append(event))
    engine.place(bob, order(spot, "BUY", "1", "101"))
    assert [event.price for event in seen if isinstance(event, PublicTrade)] == [101, 102, 103]
    changes = [event for event in seen if isinstance(event, BookChange)]
    assert [change.id for change in changes] == [start + 1, start + 2, start + 3]
    assert [event.kind for event in seen if isinstance(event, OrderEvent)].count("TRIGGERED") == 2


def test_a_waiting_order_can_be_cancelled_and_amended(engine, spot, order, alice):
    waiting = engine.place(alice, order(spot, "BUY", "1", "104", type="STOP_LIMIT", stop="150000"))
    engine.amend(alice, waiting.id, price=D(103), quantity=D(2))
    assert (waiting.price, waiting.quantity) == (103, 2)
    engine.cancel(alice, waiting.id)
    assert waiting.status is OrderStatus.CANCELED
    assert engine.open_orders(alice) == []


def test_a_triggered_post_only_order_that_would_take_expires(engine, spot, order, trade_at, alice, carol):
    trade_at("100")
    waiting = engine.place(carol, order(spot, "BUY", "1", "106", type="STOP_LIMIT", stop="105", post_only=True))
    engine.place(alice, order(spot, "SELL", "1", "105.5"))
    trade_at("105")
    assert (waiting.status, waiting.reason) == (OrderStatus.EXPIRED, "post-only")


# Refusals


@pytest.mark.parametrize(
    ("rule", "side", "quantity", "price", "more"),
    [
        ("tick-size", "BUY", "1", "100.001", {}),
        ("tick-size", "BUY", "1", "1000000.01", {}),
        ("tick-size", "BUY", "1", "100", {"type": "STOP_LIMIT", "stop": "200000.005"}),
        ("lot-size", "BUY", "1.0005", "100", {}),
        ("min-quantity", "BUY", "0.000", "100", {}),
        ("max-quantity", "BUY", "1000.001", "1", {}),
        ("min-notional", "BUY", "0.04", "100", {}),
        ("invalid", "BUY", "-1", "100", {}),
        ("invalid", "BUY", "NaN", "100", {}),
        ("invalid", "BUY", "1E+30", "100", {}),
        ("invalid", "BUY", "1", "1E+30", {}),
        ("invalid", "BUY", "1E-30", "100", {}),
        ("invalid", "BUY", "1", None, {"type": "LIMIT"}),
        ("invalid", "BUY", "1", "100", {"type": "MARKET"}),
        ("invalid", "BUY", "1", "100", {"stop": "120"}),
        ("invalid", "BUY", "1", None, {"type": "STOP_MARKET"}),
        ("invalid", "BUY", "1", "100", {"quote": "100"}),
        ("invalid", "BUY", None, "100", {"quote": "100"}),
        ("invalid", "BUY", "1", "100", {"post_only": True, "time_in_force": TimeInForce.IOC}),
        ("invalid", "BUY", "1", "100", {"time_in_force": TimeInForce.GTD}),
        ("not-supported", "BUY", "1", "100", {"reduce_only": True}),
        ("insufficient-funds", "BUY", "1000", "999999", {}),
        ("insufficient-funds", "SELL", "1000", None, {"type": "MARKET"}),
    ],
)
def test_an_order_against_the_rules_is_refused_by_name_and_leaves_no_trace(
    engine, spot, order, alice, rule, side, quantity, price, more
):
    if rule == "min-quantity":
        quantity = "0.0005"
        engine.list_market(spot.model_copy(update={"lot_size": D("0.0001")}))
    if rule == "insufficient-funds" and side == "SELL":
        engine.deposit(alice, "spot", "BTC", D(-1))
    seen = []
    engine.subscribe(seen.append)
    assert refused(rule, engine.place, alice, order(spot, side, quantity, price, **more))
    assert seen == []
    assert engine.orders(alice) == []
    assert all(balance.locked == 0 for balance in engine.balances(alice))


def test_a_market_that_is_not_active_takes_no_orders_but_lets_them_be_cancelled(engine, spot, order, alice):
    placed = engine.place(alice, order(spot, "BUY", "1", "100"))
    engine.list_market(spot.model_copy(update={"status": MarketStatus.CANCEL_ONLY}))
    refused("market-closed", engine.place, alice, order(spot, "BUY", "1", "100"))
    refused("market-closed", engine.amend, alice, placed.id, price=D(99), quantity=None)
    assert engine.cancel(alice, placed.id).status is OrderStatus.CANCELED


def test_an_unknown_market_is_refused_with_the_nearest_one(engine, spot, order, alice):
    wrong = spot.model_copy(update={"symbol": "TOY-SPOT-BTC-USDC"})
    assert "TOY-SPOT-BTC-USDT" in refused("market-not-found", engine.place, alice, order(wrong, "BUY", "1", "100"))


def test_a_client_id_is_unique_among_open_orders_and_may_come_again_later(engine, spot, order, alice, bob):
    first = engine.place(alice, order(spot, "BUY", "1", "100", client_order_id="x"))
    refused("duplicate-client-order-id", engine.place, alice, order(spot, "BUY", "1", "100", client_order_id="x"))
    assert engine.place(bob, order(spot, "BUY", "1", "100", client_order_id="x")).account == "bob"
    engine.cancel(alice, first.id)
    second = engine.place(alice, order(spot, "BUY", "1", "99", client_order_id="x"))
    assert engine.order(alice, client_order_id="x") is second
    assert engine.order(alice, order_id=first.id) is first
    assert engine.order(alice, client_order_id="x", market=spot.symbol) is second
    refused("order-not-found", engine.order, alice, client_order_id="x", market="TOY-SPOT-ETH-USDT")
    refused("order-not-found", engine.order, alice, client_order_id="y")


# Events and records


def test_events_tell_the_order_as_it_stood_and_come_when_the_books_are_consistent(engine, spot, order, alice, bob):
    for price in ("100", "101"):
        engine.place(alice, order(spot, "SELL", "1", price))
    seen = []

    def listener(event):
        seen.append(event)
        if isinstance(event, BookChange):
            assert engine.depth(spot.symbol, 1)[0] == event.id

    engine.subscribe(listener)
    engine.place(bob, order(spot, "BUY", "2", "101", client_order_id="b"))
    own = [event for event in seen if isinstance(event, OrderEvent) and event.order.account == "bob"]
    assert [(event.kind, event.order.filled, event.order.status) for event in own] == [
        ("NEW", 0, OrderStatus.NEW),
        ("TRADE", 1, OrderStatus.PARTIALLY_FILLED),
        ("TRADE", 2, OrderStatus.FILLED),
    ]
    assert [len(event.order.fills) for event in own] == [0, 1, 2]
    assert [event.fill.price for event in own[1:]] == [100, 101]
    assert isinstance(seen[-1], BookChange)
    assert sum(isinstance(event, BookChange) for event in seen) == 1


def test_a_command_that_leaves_the_book_as_it_was_makes_no_change(engine, spot, order, alice):
    engine.place(alice, order(spot, "BUY", "1", "100"))
    before = engine.depth(spot.symbol, 1)[0]
    engine.place(alice, order(spot, "SELL", "1", "101", time_in_force=TimeInForce.IOC))
    assert engine.depth(spot.symbol, 1)[0] == before


def test_a_listener_may_look_but_not_trade(engine, spot, order, alice):
    refusals = []

    def listener(event):
        engine.depth(spot.symbol, 1)
        with pytest.raises(RuntimeError, match="listener"):
            engine.place(alice, order(spot, "BUY", "1", "90"))
        refusals.append(event)

    engine.subscribe(listener)
    engine.place(alice, order(spot, "BUY", "1", "100"))
    assert refusals
    assert len(engine.orders(alice)) == 1


def test_a_failing_listener_is_heard_and_keeps_nothing_from_the_others(engine, spot, order, alice):
    seen = []

    def broken(event):
        raise ValueError("broken listener")

    engine.subscribe(broken)
    engine.subscribe(seen.append)
    with pytest.raises(ValueError, match="broken listener"):
        engine.place(alice, order(spot, "BUY", "1", "100"))
    assert isinstance(seen[-1], BookChange)
    assert len(engine.open_orders(alice)) == 1


def test_trades_are_numbered_without_gaps_and_found_by_number(engine, spot, order, alice, bob):
    for _ in range(5):
        engine.place(alice, order(spot, "SELL", "1", "100"))
        engine.place(bob, order(spot, "BUY", "1", "100"))
    trades = engine.trades(spot.symbol)
    first = trades[0].id
    assert [trade.id for trade in trades] == [first + number for number in range(5)]
    assert engine.trades(spot.symbol, limit=2) == trades[-2:]
    assert engine.trades(spot.symbol, after_id=first, limit=2) == trades[1:3]
    assert engine.trades(spot.symbol, after_id=first + 4) == []
    assert engine.trades(spot.symbol, after_id=first - 100, limit=1) == trades[:1]


def test_histories_are_bounded_and_open_orders_are_never_forgotten(spot, clock, order):
    engine = MatchingEngine([spot], clock, trade_history=3, order_history=2, fill_history=4)
    alice = engine.open_account("alice", "ka", "sa", balances=FUNDS)
    bob = engine.open_account("bob", "kb", "sb", balances=FUNDS)
    kept = engine.place(alice, order(spot, "BUY", "1", "50", client_order_id="kept"))
    for number in range(6):
        engine.place(alice, order(spot, "SELL", "1", "100", client_order_id=f"a{number}"))
        engine.place(bob, order(spot, "BUY", "1", "100"))
    assert len(engine.trades(spot.symbol)) == 3
    assert [found.client_order_id for found in engine.orders(alice)] == ["kept", "a4", "a5"]
    assert engine.order(alice, client_order_id="kept") is kept
    assert len(engine.fills(alice)) == 4
    refused("order-not-found", engine.order, alice, client_order_id="a0")


def test_ids_repeat_by_seed_and_differ_between_seeds(spot, clock, order):
    def ids(seed):
        engine = MatchingEngine([spot], clock, seed=seed)
        account = engine.open_account("a", "k", "s", balances=FUNDS)
        placed = engine.place(account, order(spot, "BUY", "1", "100"))
        return placed.id, engine.depth(spot.symbol, 1)[0], engine.reference_price(spot.symbol)

    assert ids(1) == ids(1)
    assert ids(1)[:2] != ids(2)[:2]
