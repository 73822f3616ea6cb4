"""The matching engine against naive models, under any sequence of commands."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra.models.orders import OrderType, PositionSide, TimeInForce
from astra.models.trades import Side
from astra.sandbox import BookChange, NewOrder, Reject
from astra.testing.clock import ManualClock
from astra_sandbox.accounts import only_closes
from astra_sandbox.engine import MatchingEngine

D = Decimal
NAMES = ("ann", "ben", "cat")
MID = {"spot": D(100), "linear": D(100), "inverse": D(100), "option": D(500)}

prices = st.integers(-3, 3)
commands = st.fixed_dictionaries(
    {
        "do": st.sampled_from(["place"] * 12 + ["cancel", "amend", "amend", "house", "house", "house"]),
        "who": st.sampled_from(NAMES),
        "side": st.sampled_from(Side),
        "type": st.sampled_from(
            [OrderType.LIMIT] * 8 + [OrderType.MARKET] * 2 + [t for t in OrderType if t.is_conditional]
        ),
        "quantity": st.integers(1, 30),
        "offset": prices,
        "stop": prices,
        "tif": st.sampled_from([TimeInForce.GTC] * 4 + [TimeInForce.IOC, TimeInForce.FOK]),
        "post_only": st.sampled_from([False, False, True]),
        "reduce_only": st.sampled_from([False, False, False, True]),
        "position_side": st.sampled_from(PositionSide),
        "by_quote": st.booleans(),
        "which": st.integers(0, 20),
    }
)


class Bench:
    """An engine with one market and three accounts of modest means, driven by plain commands."""

    def __init__(self, kind: str, markets: Any, clock: Any, *, hedge: bool = False) -> None:
        self.kind = kind
        self.market = markets[kind].model_copy(update={"min_notional": None})
        self.engine = MatchingEngine([self.market], clock)
        self.step = self.market.tick_size
        self.lot = self.market.lot_size
        funds = {
            "spot": {"BTC": D("0.06"), "USDT": D(5)},
            "usdm": {"USDT": D("0.5")},
            "coinm": {"BTC": D(10)},
            "options": {"USDT": D(20_000)},
        }
        self.accounts = {}
        for name in NAMES:
            opened = self.engine.open_account(name, name, "s", balances=funds)
            opened.hedge_mode = hedge
            self.accounts[name] = opened

    def price(self, offset: int) -> Decimal:
        return MID[self.kind] + offset * self.step

    def run(self, command: dict[str, Any]) -> Any:
        """Carry out a command; what the engine refuses has no effect."""
        try:
            return getattr(self, "_" + command["do"])(command)
        except Reject:
            return None

    def _place(self, c: dict[str, Any]) -> Any:
        kind = c["type"]
        quote = c["by_quote"] and kind is OrderType.MARKET and self.kind == "spot"
        contract = self.kind in ("linear", "inverse")
        account = self.accounts[c["who"]]
        return self.engine.place(
            account,
            NewOrder(
                market=self.market.symbol,
                side=c["side"],
                type=kind,
                quantity=None if quote else c["quantity"] * self.lot,
                quote_quantity=c["quantity"] * self.lot * MID[self.kind] if quote else None,
                price=self.price(c["offset"]) if kind.has_price else None,
                stop_price=self.price(c["stop"]) if kind.is_conditional else None,
                time_in_force=c["tif"],
                post_only=c["post_only"] and kind.has_price and c["tif"] is TimeInForce.GTC,
                reduce_only=c["reduce_only"] and contract and not account.hedge_mode,
                position_side=c["position_side"] if contract and account.hedge_mode else None,
            ),
        )

    def _open(self, c: dict[str, Any]) -> int:
        found = self.engine.open_orders(self.accounts[c["who"]])
        if not found:
            raise Reject("order-not-found")
        return found[c["which"] % len(found)].id

    def _cancel(self, c: dict[str, Any]) -> Any:
        return self.engine.cancel(self.accounts[c["who"]], self._open(c))

    def _amend(self, c: dict[str, Any]) -> Any:
        price = None if c["post_only"] else self.price(c["offset"])
        quantity = None if c["by_quote"] else c["quantity"] * self.lot
        return self.engine.amend(self.accounts[c["who"]], self._open(c), price=price, quantity=quantity)

    def _house(self, c: dict[str, Any]) -> None:
        price = None if c["post_only"] else self.price(c["offset"])
        self.engine.house_place(self.market.symbol, c["side"], c["quantity"] * self.lot, price)


@pytest.fixture(scope="module")
def bench_of():
    """Makes a bench: hypothesis wants fixtures that outlive an example."""

    def make(kind: str, markets: Any, *, hedge: bool = False) -> Bench:
        return Bench(kind, markets, ManualClock(), hedge=hedge)

    return make


def depth(engine, market):
    identity, bids, asks = engine.depth(market, 10_000)
    return identity, {a.price: a.quantity for a in bids}, {a.price: a.quantity for a in asks}


KINDS = [("spot", False), ("linear", False), ("linear", True), ("inverse", False), ("option", False)]


@pytest.mark.parametrize(("kind", "hedge"), KINDS)
@given(steps=st.lists(commands, min_size=25, max_size=60))
@settings(max_examples=40)
def test_nothing_is_created_or_lost(bench_of, all_markets, kind, hedge, steps):
    bench = bench_of(kind, all_markets, hedge=hedge)
    engine = bench.engine
    before = engine.audit()
    for step in steps:
        bench.run(step)
        after = engine.audit()
        for key in before.keys() | after.keys():
            difference = abs(after.get(key, D(0)) - before.get(key, D(0)))
            assert difference <= (D("1e-18") if kind in ("linear", "inverse") else 0), (
                key
            )  # shares of a cost are quotients
        assert sum(position.quantity for position in engine.all_positions(bench.market.symbol)) == 0


@pytest.mark.parametrize(("kind", "hedge"), KINDS)
@given(steps=st.lists(commands, min_size=25, max_size=60))
@settings(max_examples=40)
def test_locks_are_what_open_orders_and_positions_need_and_never_negative(bench_of, all_markets, kind, hedge, steps):
    bench = bench_of(kind, all_markets, hedge=hedge)
    engine = bench.engine
    for step in steps:
        bench.run(step)
        for account in bench.accounts.values():
            balances = {balance.asset: balance for balance in engine.balances(account) if balance.wallet == "spot"}
            for balance in engine.balances(account):
                assert balance.locked >= 0
            orders = engine.open_orders(account)
            if kind == "spot":
                assert all(balance.available >= 0 for balance in balances.values())
                paying = [(o.price or o.stop_price) * o.remaining for o in orders if o.side is Side.BUY]
                assert balances["USDT"].locked == sum(paying)
                assert balances["BTC"].locked == sum(o.remaining for o in orders if o.side is Side.SELL)
            elif not orders and not engine.positions(account):
                assert all(balance.locked == 0 for balance in engine.balances(account))
            for order in orders:
                if only_closes(order) and not (order.type.is_conditional and not order.triggered):
                    held = [p for p in engine.positions(account) if p.side is order.position_side]
                    assert held
                    assert order.remaining <= abs(held[0].quantity)


@pytest.mark.parametrize(("kind", "hedge"), KINDS)
@given(steps=st.lists(commands, min_size=25, max_size=60))
@settings(max_examples=40)
def test_changes_replayed_on_the_first_depth_give_the_depth_at_every_id(bench_of, all_markets, kind, hedge, steps):
    bench = bench_of(kind, all_markets, hedge=hedge)
    engine, market = bench.engine, bench.market.symbol
    for step in steps[:5]:
        bench.run(step)
    replica = depth(engine, market)

    def replay(event):
        nonlocal replica
        if isinstance(event, BookChange):
            identity, bids, asks = replica
            assert event.id == identity + 1
            for side, changes in ((bids, event.bids), (asks, event.asks)):
                for amount in changes:
                    assert side.get(amount.price, 0) != amount.quantity
                    side[amount.price] = amount.quantity
                    if not amount.quantity:
                        del side[amount.price]
            replica = (event.id, bids, asks)
            assert depth(engine, market) == replica

    engine.subscribe(replay)
    for step in steps[5:]:
        bench.run(step)
        assert depth(engine, market) == replica
        _, bids, asks = replica
        assert not bids or not asks or max(bids) < min(asks)
        book = engine.book(market)
        for side, shown in ((book.bids, bids), (book.asks, asks)):
            queued = {price: sum(o.remaining for o in level.orders.values()) for price, level in side.levels.items()}
            assert queued == shown
        waiting = [
            o.id for side in (book.bids, book.asks) for level in side.levels.values() for o in level.orders.values()
        ]
        for account in bench.accounts.values():
            for order in engine.open_orders(account):
                assert (order.id in waiting) != (order.type.is_conditional and not order.triggered)


class NaiveMarket:
    """Price-time priority in the plainest words: a list of orders, searched afresh for every match."""

    def __init__(self) -> None:
        self.resting: list[dict[str, Any]] = []
        self.trades: list[tuple[int, int, Decimal, Decimal]] = []
        self.turn = 0

    def enter(self, order: dict[str, Any], *, rests: bool) -> None:
        self.turn += 1
        order["turn"] = self.turn
        while order["left"] > 0:
            others = [o for o in self.resting if o["side"] is not order["side"] and self._meet(order, o)]
            if not others:
                break
            sign = 1 if order["side"] is Side.BUY else -1
            maker = min(others, key=lambda o: (sign * o["price"], o["turn"]))
            if maker["who"] == order["who"]:
                return  # the taker expires
            quantity = min(order["left"], maker["left"])
            self.trades.append((maker["id"], order["id"], maker["price"], quantity))
            order["left"] -= quantity
            maker["left"] -= quantity
            if not maker["left"]:
                self.resting.remove(maker)
        if order["left"] > 0 and rests:
            self.resting.append(order)

    @staticmethod
    def _meet(order: dict[str, Any], other: dict[str, Any]) -> bool:
        if order["price"] is None:
            return True
        if order["side"] is Side.BUY:
            return bool(other["price"] <= order["price"])
        return bool(other["price"] >= order["price"])

    def change(self, order: dict[str, Any], price: Decimal, quantity: Decimal, filled: Decimal) -> None:
        grows = quantity - filled > order["left"]
        if price == order["price"] and not grows:
            order["left"] = quantity - filled
            return
        self.resting.remove(order)
        order.update(price=price, left=quantity - filled)
        self.enter(order, rests=True)


plain = st.fixed_dictionaries(
    {
        "do": st.sampled_from(["place"] * 8 + ["cancel", "amend", "amend"]),
        "who": st.sampled_from(NAMES),
        "side": st.sampled_from(Side),
        "offset": prices,
        "lots": st.integers(1, 9),
        "how": st.sampled_from(["rests"] * 6 + ["ioc", "market"]),
        "which": st.integers(0, 30),
    }
)


@given(steps=st.lists(plain, min_size=30, max_size=80))
@settings(max_examples=100)
def test_orders_meet_in_the_order_of_price_and_time(bench_of, all_markets, steps):
    bench = bench_of("spot", all_markets)
    engine, naive, market = bench.engine, NaiveMarket(), bench.market.symbol
    for account in bench.accounts.values():
        engine.deposit(account, "spot", "BTC", D(10**6))
        engine.deposit(account, "spot", "USDT", D(10**9))
    for step in steps:
        quantity, price = step["lots"] * bench.lot, bench.price(step["offset"])
        if step["do"] == "place":
            at_market, rests = step["how"] == "market", step["how"] == "rests"
            placed = engine.place(
                bench.accounts[step["who"]],
                NewOrder(
                    market=market,
                    side=step["side"],
                    type=OrderType.MARKET if at_market else OrderType.LIMIT,
                    quantity=quantity,
                    price=None if at_market else price,
                    time_in_force=TimeInForce.GTC if rests else TimeInForce.IOC,
                ),
            )
            order = {"id": placed.id, "who": step["who"], "side": step["side"], "price": placed.price, "left": quantity}
            naive.enter(order, rests=rests)
        elif naive.resting:
            order = naive.resting[step["which"] % len(naive.resting)]
            account = bench.accounts[order["who"]]
            if step["do"] == "cancel":
                engine.cancel(account, order["id"])
                naive.resting.remove(order)
            else:
                filled = engine.order(account, order_id=order["id"]).filled
                price = order["price"] if step["how"] == "rests" else price
                engine.amend(account, order["id"], price=price, quantity=filled + quantity)
                naive.change(order, price, filled + quantity, filled)
        trades = engine.trades(market, limit=1000)
        assert [(t.maker_order_id, t.taker_order_id, t.price, t.quantity) for t in trades] == naive.trades
        assert {o["id"] for o in naive.resting} == {
            o.id for account in bench.accounts.values() for o in engine.open_orders(account)
        }
