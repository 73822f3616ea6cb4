"""What is known of an account: whatever reaches us in whatever order, in the end it is what the venue has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from astra.models.accounts import AccountEvent, AccountStatus, Balance, Position
from astra.models.markets import ContractType, Market
from astra.models.orders import Fill, MarginMode, Order, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.symbols import AssetType
from astra.trading import account as account_module
from astra.trading.account import AccountState, Snapshot
from astra.trading.native import NetSides

MARKET = "TOY-PERP-BTC-USDT"
CONTRACTS = Market(
    symbol=MARKET,
    asset_type=AssetType.PERP,
    base_asset="BTC",
    quote_asset="USDT",
    native_symbol="BTC",
    product="perp",
    contract_size=Decimal("0.01"),
    contract_type=ContractType.LINEAR,
)
ZERO = Decimal(0)


def order(name: str = "a", status: str = "NEW", filled: Any = 0, **fields: Any) -> Order:
    return Order(
        **{
            "id": f"id-{name}",
            "client_order_id": name,
            "market": MARKET,
            "side": Side.BUY,
            "type": OrderType.LIMIT,
            "status": OrderStatus(status),
            "price": "10",
            "quantity": "5",
            "filled_quantity": Decimal(filled),
        }
        | fields
    )


def fill(name: str = "1", quantity: Any = 1, of: str | None = "a", **fields: Any) -> Fill:
    return Fill(
        **{
            "id": name,
            "order_id": None if of is None else f"id-{of}",
            "market": MARKET,
            "side": Side.BUY,
            "price": Decimal(10),
            "quantity": Decimal(quantity),
            "time": 100,
        }
        | fields
    )


def balance(total: Any, asset: str = "USDT", **fields: Any) -> Balance:
    return Balance(asset=asset, wallet="usdm", total=Decimal(total), **fields)


def position(quantity: Any, side: str = "LONG", **fields: Any) -> Position:
    return Position(market=MARKET, side=PositionSide(side), quantity=Decimal(quantity), **fields)


def begun(state: AccountState, **snapshot: Any) -> list[AccountEvent]:
    """The first comparison with the venue."""
    return state.reconcile(Snapshot(**{"since": 0, "orders": (), "balances": (), "positions": ()} | snapshot))


# --- orders --------------------------------------------------------------------------------------------------------


def test_nothing_moves_an_order_out_of_a_final_state() -> None:
    state = AccountState()
    state.apply(order(status="CANCELED", filled=2))
    for late in ("NEW", "PARTIALLY_FILLED", "FILLED", "REJECTED", "UNKNOWN"):
        assert state.apply(order(status=late, filled=5, updated_time=10**12)) is None
    known = state.order(MARKET, "a")
    assert known is not None
    assert (known.status, known.filled_quantity) == (OrderStatus.CANCELED, 2)


def test_the_same_end_told_again_adds_what_was_missing_and_changes_nothing() -> None:
    state = AccountState()
    state.apply(order(status="FILLED", filled=5, updated_time=7))
    assert state.apply(order(status="FILLED", filled=5)) is None
    more = state.apply(order(status="FILLED", filled=4, average_price="10", updated_time=9))
    assert isinstance(more, Order)
    assert (more.average_price, more.filled_quantity, more.updated_time) == (10, 5, 7)


@pytest.mark.parametrize(
    "older",
    [
        {"filled": 1, "updated_time": 99},
        {"filled": 2, "updated_time": 4, "price": "9"},
        {"filled": 2, "status": "NEW"},
        {"status": "UNKNOWN", "filled": 3},
    ],
    ids=str,
)
def test_older_words_on_an_order_do_not_count(older: dict[str, Any]) -> None:
    state = AccountState()
    state.apply(order(status="PARTIALLY_FILLED", filled=2, updated_time=5))
    assert state.apply(order(**older)) is None


def test_what_is_left_out_stays_as_it_was() -> None:
    state = AccountState()
    state.apply(order(filled=1, average_price="10", created_time=3, updated_time=5, reduce_only=True))
    told = state.apply(
        order(status="CANCELED", filled_quantity=None, price=None, created_time=8, updated_time=4, reduce_only=False)
    )
    assert isinstance(told, Order)
    assert told.status is OrderStatus.CANCELED
    assert (told.filled_quantity, told.average_price, told.price) == (1, 10, 10)
    assert (told.created_time, told.updated_time, told.reduce_only) == (3, 5, True)


def test_a_final_state_that_claims_fewer_fills_ends_the_order_all_the_same() -> None:
    state = AccountState()
    state.apply(order(status="PARTIALLY_FILLED", filled=2, average_price="10"))
    told = state.apply(order(status="CANCELED", filled=0, average_price="1"))
    assert isinstance(told, Order)
    assert (told.status, told.filled_quantity, told.average_price) == (OrderStatus.CANCELED, 2, 10)


def test_an_order_is_the_same_when_its_venue_id_changes() -> None:
    state = AccountState()
    state.apply(order(id="algo:1", status="NEW"))
    state.apply(order(id="77", status="PARTIALLY_FILLED", filled=1))
    assert [known.id for known in state.open_orders()] == ["77"]
    state.apply(order(id="77", status="FILLED", filled=5))
    assert state.apply(order(id="algo:1", status="NEW")) is None
    assert state.apply(order(id="algo:1", status="FILLED", filled=5)) is None


def test_an_order_without_a_client_id_goes_by_the_venues() -> None:
    state = AccountState()
    state.apply(order(client_order_id=None))
    told = state.apply(order(client_order_id="web_1", filled=1))
    assert isinstance(told, Order)
    assert [known.client_order_id for known in state.open_orders()] == ["web_1"]
    assert state.order(MARKET, "web_1") == told


def test_a_client_id_that_is_used_again_is_another_order() -> None:
    state = AccountState()
    state.apply(order(id="1", status="CANCELED", filled=1, updated_time=5))
    assert state.apply(order(id="0", status="FILLED", filled=5, updated_time=2)) is None
    told = state.apply(order(id="2", filled=0, updated_time=6))
    assert isinstance(told, Order)
    assert [known.id for known in state.open_orders()] == ["2"]
    assert state.apply(order(id="1", status="CANCELED", filled=1, updated_time=5)) is None
    assert [known.id for known in state.open_orders()] == ["2"]


def test_orders_that_are_no_longer_listed_are_to_be_asked_for() -> None:
    state = AccountState()
    for name in ("a", "b", "c"):
        state.apply(order(name))
    state.apply(order("d", status="FILLED"))
    assert [one.client_order_id for one in state.unlisted(state.open_orders(), [order("b", id="new id")])] == ["a", "c"]
    told = state.reconcile(
        Snapshot(since=0, orders=[order("b"), order("a", status="FILLED", filled=5)], gone=[order("c")])
    )
    assert [(one.client_order_id, one.status) for one in told if isinstance(one, Order)] == [
        ("a", OrderStatus.FILLED),
        ("c", OrderStatus.UNKNOWN),
    ]
    assert [one.client_order_id for one in state.open_orders()] == ["b"]
    back = state.apply(order("c", filled=1))
    assert isinstance(back, Order)
    assert back.status is OrderStatus.NEW


# --- fills ---------------------------------------------------------------------------------------------------------


def test_each_fill_is_told_once_however_it_comes() -> None:
    state = AccountState()
    begun(state)
    assert state.apply(fill("1")) is not None
    assert state.apply(fill("1")) is None
    told = state.reconcile(
        Snapshot(since=0, fills=[fill("2", time=102), fill("1"), fill("3", time=101), fill("2", time=102)])
    )
    assert [one.id for one in told if isinstance(one, Fill)] == ["3", "2"]
    assert state.replay([fill("3"), fill("4")]) == [fill("4")]


def test_the_venue_says_what_makes_a_fill_unique() -> None:
    state = AccountState(lambda one: (one.id, one.side))
    assert state.apply(fill("1")) is not None
    assert state.apply(fill("1", side=Side.SELL)) is not None
    assert state.apply(fill("1")) is None


def test_fills_from_before_the_beginning_are_history() -> None:
    state = AccountState(begun=100)
    told = begun(state, fills=[fill("1", time=99), fill("2", time=100)])
    assert [one.id for one in told if isinstance(one, Fill)] == ["2"]
    assert state.apply(fill("1", time=99)) is None


def test_a_fill_gets_the_client_id_of_its_order() -> None:
    state = AccountState()
    state.apply(order())
    told = state.apply(fill())
    assert isinstance(told, Fill)
    assert told.client_order_id == "a"


def test_fills_that_do_not_add_up_are_noticed() -> None:
    state = AccountState()
    begun(state, orders=[order("old", filled=3)])
    assert not state.uneven()
    state.apply(fill("1"))
    state.apply(order(filled=1, status="PARTIALLY_FILLED"))
    assert not state.uneven()
    state.apply(order(filled=3, status="PARTIALLY_FILLED"))
    assert state.uneven() == {(MARKET, "a")}
    state.reconcile(Snapshot(since=0, fills=[fill("2", 2)]))
    assert not state.uneven()
    state.apply(fill("3"))
    assert state.uneven()
    state.accept(state.uneven())
    assert not state.uneven()


def test_fills_of_an_order_whose_id_changes_add_up() -> None:
    state = AccountState()
    state.apply(order(id="1"))
    state.apply(fill("1", order_id="1"))
    state.apply(fill("2", order_id="2"))
    state.apply(order(id="2", filled=2))
    assert not state.uneven()


# --- balances and positions ----------------------------------------------------------------------------------------


def test_what_a_snapshot_leaves_out_is_zero() -> None:
    state = AccountState()
    begun(state, balances=[balance(5), balance(1, "BNB")], positions=[position(2), position(1, "SHORT", contracts=3)])
    told = state.reconcile(Snapshot(since=0, balances=[balance(5)], positions=[position(2)]))
    assert told == [
        balance(0, "BNB", available=ZERO, locked=ZERO),
        position(0, "SHORT", contracts=ZERO),
    ]
    assert state.current() == [balance(5), position(2)]
    assert state.reconcile(Snapshot(since=0)) == []


def test_the_close_of_a_position_that_was_not_held_is_no_news() -> None:
    state = AccountState()
    assert state.apply(position(0, "SHORT")) is None
    assert state.apply(position(1)) is not None
    assert state.apply(position(0)) == position(0)


def test_settings_of_a_position_survive_events_that_leave_them_out() -> None:
    state = AccountState()
    begun(state, positions=[position(1, leverage="20", margin_mode=MarginMode.CROSS, mark_price="10")])
    told = state.apply(position(2))
    assert isinstance(told, Position)
    assert (told.leverage, told.margin_mode, told.mark_price) == (20, MarginMode.CROSS, None)


def test_of_the_events_held_back_only_the_last_word_on_a_balance_counts() -> None:
    state = AccountState()
    begun(state, balances=[balance(30, available=Decimal(30))])
    assert state.replay([balance(10), balance(20), balance(30)]) == []
    assert state.current() == [balance(30, available=Decimal(30))]
    assert state.replay([balance(20), balance(40)]) == [balance(40)]


def test_both_sides_of_a_hedged_position_are_kept_apart() -> None:
    state = AccountState()
    assert state.replay([position(1), position(2, "SHORT")]) == [position(1), position(2, "SHORT")]
    assert state.moved([position(1), position(3, "SHORT")]) == [MARKET]
    assert state.moved([position(1), position(2, "SHORT")]) == []


def test_a_status_is_nobodys_news() -> None:
    assert AccountState().apply(AccountStatus(product="usdm", live=True, connected=True)) is None


# --- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DONE_KEPT", 10), ("FILLS_KEPT", 20), ("MOST_FILLS", 40)):
        monkeypatch.setattr(account_module, name, value)
    state = AccountState()
    for number in range(100):
        state.apply(fill(str(number), of=str(number), time=number))
        state.apply(order(str(number), status="FILLED", filled=1))
        state.reconcile(Snapshot(since=number - 5))
    assert len(state._done) == len(state._by_client_id) == len(state._by_id) == 10
    assert len(state._fills) <= 21
    state.reconcile(Snapshot(since=0))
    for number in range(100, 200):
        state.apply(fill(str(number), of=None, time=number))
    state.reconcile(Snapshot(since=0))
    assert len(state._fills) == 40


# --- any history ---------------------------------------------------------------------------------------------------


class Venue:
    """An account as it truly is, and what its stream says of each change. Times are ms; an order's update times grow
    with every change of it, as those of a venue do."""

    def __init__(self) -> None:
        self.now = 1000
        self.orders: dict[str, Order] = {}
        self.fills: list[Fill] = []
        self.cash = Decimal(2)
        self.held = ZERO
        self.history: dict[str, list[Order]] = {}
        self._names = itertools.count()

    @property
    def balance(self) -> Balance:
        return balance(self.cash)

    @property
    def position(self) -> Position:
        return position(abs(self.held), "LONG" if self.held >= 0 else "SHORT")

    def place(self, quantity: int) -> Sequence[AccountEvent]:
        self.now += 1
        name = f"o{next(self._names)}"
        placed = order(name, quantity=quantity, created_time=self.now, updated_time=self.now)
        self.orders[name] = placed
        self.history[name] = [placed]
        return [placed]

    def open(self) -> list[Order]:
        return [one for one in self.orders.values() if one.status.is_open]

    def trade(self, of: Order, quantity: int, *, sell: bool) -> Sequence[AccountEvent]:
        assert of.quantity is not None
        assert of.filled_quantity is not None
        filled = min(of.filled_quantity + quantity, of.quantity)
        size = filled - of.filled_quantity
        before = self.position
        # Several fills share a millisecond with each other, and with changes of other orders.
        status = OrderStatus.FILLED if filled == of.quantity else OrderStatus.PARTIALLY_FILLED
        self.fills.append(fill(str(len(self.fills)), size, of.client_order_id, time=self.now))
        self.cash += -size if not sell else size
        self.held += size if not sell else -size
        changed = self._change(of, status=status, filled_quantity=filled, updated_time=self.now)
        closed = [position(0, before.side.value)] if before.side is not self.position.side else []
        return [self.fills[-1], changed, self.balance, *closed, self.position]

    def cancel(self, of: Order) -> Sequence[AccountEvent]:
        self.now += 1
        return [self._change(of, status=OrderStatus.CANCELED, updated_time=self.now)]

    def amend(self, of: Order, price: int) -> Sequence[AccountEvent]:
        self.now += 1
        return [self._change(of, price=Decimal(price), updated_time=self.now)]

    def deposit(self, amount: int) -> Sequence[AccountEvent]:
        self.now += 1
        self.cash += amount
        return [self.balance]

    def _change(self, of: Order, **fields: Any) -> Order:
        assert of.client_order_id is not None
        changed = of.model_copy(update=fields)
        self.orders[of.client_order_id] = changed
        self.history[of.client_order_id].append(changed)
        return changed


class Consumer:
    """Believes what it is told, and minds when it is told nonsense."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.orders: dict[str, Order] = {}
        self.fills: dict[str, Fill] = {}
        self.cash = ZERO
        self.positions: dict[PositionSide, Decimal] = {}

    def told(self, events: Sequence[AccountEvent]) -> None:
        for event in events:
            if isinstance(event, Order):
                assert event.client_order_id is not None
                history = self.venue.history[event.client_order_id]
                before = self.orders.get(event.client_order_id)
                assert event in history, "an order was never so"
                if before is not None:
                    assert history.index(event) > history.index(before), "an order went back to what it was"
                self.orders[event.client_order_id] = event
            elif isinstance(event, Fill):
                assert event.id not in self.fills, "a fill was told twice"
                self.fills[event.id] = event
            elif isinstance(event, Balance):
                self.cash = event.total
            elif isinstance(event, Position):
                assert event.quantity is not None
                self.positions[event.side] = event.quantity

    @property
    def held(self) -> Decimal:
        return self.positions.get(PositionSide.LONG, ZERO) - self.positions.get(PositionSide.SHORT, ZERO)


def sizes(state: AccountState) -> dict[tuple[str, str | None], Decimal | None]:
    held = [event for event in state.current() if isinstance(event, Position)]
    return {(one.side.value, one.margin_mode and one.margin_mode.value): one.quantity for one in held}


def test_positions_of_both_margin_modes_in_one_market_stand_side_by_side() -> None:
    """Where orders say their margin mode, an account may hold one of each: the end of one is not that of the other."""
    state = AccountState()
    begun(state, positions=[position(500, margin_mode="CROSS"), position(20, margin_mode="ISOLATED")])
    assert sizes(state) == {("LONG", "CROSS"): 500, ("LONG", "ISOLATED"): 20}
    state.apply(position(0, margin_mode="ISOLATED"))
    assert sizes(state) == {("LONG", "CROSS"): 500}
    state.apply(position(0, "SHORT", margin_mode="ISOLATED"))
    state.apply(position(7, "SHORT", margin_mode="ISOLATED"))
    assert sizes(state) == {("LONG", "CROSS"): 500, ("SHORT", "ISOLATED"): 7}
    assert state.moved([position(500, margin_mode="CROSS"), position(7, "SHORT", margin_mode="ISOLATED")]) == []
    (closed,) = state.reconcile(
        Snapshot(since=0, orders=(), balances=(), positions=[position(500, margin_mode="CROSS")])
    )
    assert (closed.side, closed.margin_mode, closed.quantity) == ("SHORT", "ISOLATED", 0)


def test_a_position_whose_margin_mode_is_left_out_is_the_one_that_there_is() -> None:
    state = AccountState()
    state.apply(position(3))
    begun(state, positions=[position(3, margin_mode="CROSS")])
    assert sizes(state) == {("LONG", "CROSS"): 3}
    state.apply(position(4))
    assert sizes(state) == {("LONG", "CROSS"): 4}
    state.apply(position(0))
    assert sizes(state) == {}


def test_the_side_of_a_net_position_is_kept_for_each_margin_mode() -> None:
    sides = NetSides()
    assert len(list(sides.closed(CONTRACTS, Decimal(5), MarginMode.CROSS))) == 1
    assert [one.side for one in sides.closed(CONTRACTS, Decimal(-3), MarginMode.ISOLATED)] == ["LONG"]
    assert list(sides.closed(CONTRACTS, Decimal(6), MarginMode.CROSS)) == []
    (closed,) = sides.closed(CONTRACTS, Decimal(0), MarginMode.ISOLATED)
    assert (closed.side, closed.margin_mode, closed.contracts) == ("SHORT", "ISOLATED", 0)
    (closed,) = sides.closed(CONTRACTS, Decimal(-1), MarginMode.CROSS)
    assert (closed.side, closed.margin_mode) == ("LONG", "CROSS")


class AnyHistory(RuleBasedStateMachine):
    """Trading goes on while the stream lags, repeats, is cut and comes back, and while the venue is asked: each answer
    is of another moment."""

    def __init__(self) -> None:
        super().__init__()
        self.venue = Venue()
        self.consumer = Consumer(self.venue)
        self.state = AccountState(begun=self.venue.now)
        self.wire: list[AccountEvent] = []
        self.recent: list[AccountEvent] = []
        self.connected = False
        self.asking: dict[str, Any] | None = None
        self.held: list[AccountEvent] = []
        self.complete = self.venue.now

    def says(self, events: Sequence[AccountEvent]) -> None:
        if self.connected:
            self.wire.extend(events)

    @initialize(quantity=st.integers(1, 5))
    def start(self, quantity: int) -> None:
        self.venue.place(quantity)

    @rule(quantity=st.integers(1, 5))
    def place(self, quantity: int) -> None:
        self.says(self.venue.place(quantity))

    @precondition(lambda self: self.venue.open())
    @rule(which=st.integers(0), quantity=st.integers(1, 3), sell=st.booleans(), how=st.sampled_from("ttttca"))
    def change(self, which: int, quantity: int, sell: bool, how: str) -> None:
        one = self.venue.open()[which % len(self.venue.open())]
        if how == "t":
            self.says(self.venue.trade(one, quantity, sell=sell))
        elif how == "c":
            self.says(self.venue.cancel(one))
        else:
            self.says(self.venue.amend(one, 10 + quantity))

    @rule(amount=st.integers(-2, 2))
    def deposit(self, amount: int) -> None:
        self.says(self.venue.deposit(amount))

    # The stream.

    @precondition(lambda self: self.wire)
    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        events, self.wire = self.wire[:count], self.wire[count:]
        self.recent = [*self.recent, *events][-8:]
        self.receive(events)

    @precondition(lambda self: self.recent and self.connected)
    @rule(which=st.integers(0))
    def repeat(self, which: int) -> None:
        """Orders and fills may come again at any time."""
        event = self.recent[which % len(self.recent)]
        if isinstance(event, Order | Fill):
            self.receive([event])

    def receive(self, events: Sequence[AccountEvent]) -> None:
        if self.asking is not None:
            self.held.extend(events)
        else:
            self.consumer.told([news for event in events if (news := self.state.apply(event)) is not None])

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.connected = False
        self.wire = []
        self.give_up()

    def give_up(self) -> None:
        self.asking = None
        held, self.held = self.held, []
        self.receive(held)

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.ask()

    # Asking the venue.

    @precondition(lambda self: self.connected and self.asking is None)
    @rule()
    def ask(self) -> None:
        self.asking = {"asked": self.venue.now}

    @precondition(lambda self: self.asking is not None)
    @rule(what=st.sampled_from(["orders", "balances", "positions", "fills"]))
    def answer(self, what: str) -> None:
        assert self.asking is not None
        if what in self.asking:
            return
        if what == "orders":
            self.asking["orders"] = self.venue.open()
        elif what == "balances":
            self.asking["balances"] = [self.venue.balance] if self.venue.cash else []
        elif what == "positions":
            self.asking["positions"] = [self.venue.position] if self.venue.held else []
        elif "orders" in self.asking:
            unlisted = self.state.unlisted(self.state.open_orders(), self.asking["orders"])
            self.asking["orders"] += [self.venue.orders[one.client_order_id or ""] for one in unlisted]
            self.asking["fills"] = [one for one in self.venue.fills if one.time >= self.complete]

    @precondition(lambda self: self.asking is not None)
    @rule()
    def compare(self) -> None:
        assert self.asking is not None
        for what in ("orders", "balances", "positions", "fills"):
            self.answer(what)
        asking, self.asking = self.asking, None
        held, self.held = self.held, []
        self.consumer.told(self.state.reconcile(Snapshot(since=self.complete, **asking)))
        self.complete = asking["asked"]
        self.consumer.told(self.state.replay(held))

    # The end of every history.

    def settled(self) -> bool:
        return self.connected and self.asking is None and not self.wire

    @invariant()
    def what_is_open_is_told(self) -> None:
        assert len(self.state.open_orders()) == sum(one.status.is_open for one in self.consumer.orders.values())

    def teardown(self) -> None:
        if not self.connected:
            self.connect()
        if self.asking is None:
            self.ask()
        self.compare()
        self.receive(self.wire)
        venue, consumer = self.venue, self.consumer
        assert {key: one.model_copy(update={"client_order_id": None}) for key, one in consumer.fills.items()} == {
            one.id: one for one in venue.fills
        }
        assert consumer.cash == venue.cash
        assert consumer.held == venue.held
        assert {one.client_order_id for one in venue.open()} <= consumer.orders.keys()
        for name, one in consumer.orders.items():
            assert one == venue.orders[name]
        assert not self.state.uneven()


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=400, stateful_step_count=60)
