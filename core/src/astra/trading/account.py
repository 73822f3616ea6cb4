"""What is known of an account: orders, fills, balances, positions, as stream and REST tell of them. Pure.

`AccountState` takes the events of an account's stream and the venue's answers by REST (`Snapshot`), in whatever order
they come, and gives what consumers have to be told. Its rules:

Orders. 1. An order is the same by any id that the venue ever gave it, and by its client order id (in its market).
2. Only the venue's word moves an order, and none moves it out of a final state. 3. What the venue says of an order
counts unless it is older: a smaller filled quantity is, and at the same filled quantity an earlier update time, and
without times a state that lies before. A final state is never older. 4. What the venue leaves out stays as it was.
5. A new id under the client order id of an order that is done is a new order.

Fills are told once each, by the venue's fill key.

Balances and positions are told as full values; the latest word counts. One that a snapshot leaves out is zero.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from decimal import Decimal

import msgspec

from astra.models.accounts import AccountEvent, AccountStatus, Balance, Position
from astra.models.orders import Fill, MarginMode, Order, OrderStatus, PositionSide

DONE_KEPT = 10_000
"""Orders that are done are remembered up to so many, so that late words do not bring them back."""
FILLS_KEPT = 50_000
"""Fill keys are remembered up to so many, beyond that those of the last `Snapshot.since` on up to `MOST_FILLS`."""
MOST_FILLS = 500_000
ZERO = Decimal(0)

FillKey = Callable[[Fill], Hashable]
OrderKey = tuple[str, str]
"""(market, client order id), or the venue's id where there is no other."""
PositionKey = tuple[str, PositionSide, MarginMode | None]
_RANK = {OrderStatus.UNKNOWN: 0, OrderStatus.NEW: 1, OrderStatus.PARTIALLY_FILLED: 2}


def fill_key(fill: Fill) -> Hashable:
    """What makes a fill unique unless the venue says otherwise: its id in its market."""
    return fill.market, fill.id


def position_size(position: Position) -> Decimal | None:
    """In contracts where the market has them, else in base units."""
    return position.quantity if position.contracts is None else position.contracts


def filled_size(order: Order) -> Decimal | None:
    """How much is filled: in contracts where the market has them, else in base units."""
    return order.filled_quantity if order.filled_contracts is None else order.filled_contracts


class Snapshot(msgspec.Struct, frozen=True):
    """What the venue says by REST. None where it cannot say."""

    since: int
    """Fills from this time on (ms by the venue's clock) are in it, in the markets that were asked for."""
    asked: int = 0
    """When the first question was asked (ms by the venue's clock)."""
    orders: Sequence[Order] | None = None
    """Open orders, and known ones that were asked for by one."""
    gone: Sequence[Order] = ()
    """Orders that were known as open, are not listed, and not found either."""
    fills: Sequence[Fill] = ()
    balances: Sequence[Balance] | None = None
    positions: Sequence[Position] | None = None


class _Known:
    """One order: what is known of it, and all ids that it had."""

    __slots__ = ("fills", "ids", "order")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.ids: set[str] = set()
        self.fills: Decimal | None = ZERO
        """What its fills add up to; None where they cannot all be known (it was partly filled before)."""


class AccountState:
    """The account as far as it is known. `begun` (ms by the venue's clock): fills before it are not told."""

    def __init__(self, key: FillKey = fill_key, begun: int = 0) -> None:
        self.begun = begun
        self._fill_key = key
        self._open: dict[int, _Known] = {}
        self._done: OrderedDict[int, _Known] = OrderedDict()
        self._by_client_id: dict[OrderKey, _Known] = {}
        self._by_id: dict[OrderKey, _Known] = {}
        self._fills: OrderedDict[Hashable, int] = OrderedDict()
        self._early: OrderedDict[OrderKey, Decimal] = OrderedDict()
        self._uneven: dict[int, _Known] = {}
        self._balances: dict[tuple[str, str], Balance] = {}
        self._positions: dict[PositionKey, Position] = {}
        self._complete_from: int | None = None
        self._touched: dict[str, None] = {}

    # -- looking ------------------------------------------------------------------------------------------------

    def current(self) -> list[AccountEvent]:
        """All that is open and held now: open orders, balances, positions."""
        return [
            *self.open_orders(),
            *self._balances.values(),
            *self._positions.values(),
        ]

    def open_orders(self) -> Sequence[Order]:
        return [known.order for known in self._open.values()]

    def take_touched(self) -> Sequence[str]:
        """The markets of which the stream told something, or a snapshot brought news, since this was last asked."""
        touched, self._touched = list(self._touched), {}
        return touched

    def order(self, market: str, client_order_id: str) -> Order | None:
        known = self._by_client_id.get((market, client_order_id))
        return None if known is None else known.order

    def unlisted(self, open_before: Iterable[Order], listed: Iterable[Order]) -> Sequence[Order]:
        """Of the orders that were open before the venue was asked, those that are not among the ones it lists and not
        known to be done meanwhile."""
        found = {id(self._find(order)) for order in listed}
        unlisted = (known for order in open_before if (known := self._find(order)) is not None)
        return [known.order for known in unlisted if id(known) not in found and known.order.status.is_open]

    def uneven(self) -> frozenset[OrderKey]:
        """The orders whose fills do not add up to what is filled: something was not told yet."""
        return frozenset(_key(known.order) for known in self._uneven.values())

    def accept(self, uneven: Iterable[OrderKey]) -> None:
        """The fills of these orders cannot be had: do not look for them any longer."""
        for key in uneven:
            known = self._by_client_id.get(key) or self._by_id.get(key)
            if known is not None:
                known.fills = None
                self._weigh(known)

    def moved(self, positions: Iterable[Position]) -> Sequence[str]:
        """The markets whose positions are not what is known: there were fills."""
        now = {self._held(position): position_size(position) for position in positions}
        before = {key: position_size(position) for key, position in self._positions.items()}
        return list(dict.fromkeys(key[0] for key in (*now, *before) if now.get(key, ZERO) != before.get(key, ZERO)))

    # -- what the stream says -----------------------------------------------------------------------------------

    def apply(self, event: AccountEvent) -> AccountEvent | None:
        """Take an event of the stream; what consumers have to be told (None: nothing new)."""
        if isinstance(event, Balance):
            return self._balance(event)
        if isinstance(event, AccountStatus):
            return None
        self._touched[event.market] = None
        if isinstance(event, Order):
            return self._order(event)
        return self._fill(event) if isinstance(event, Fill) else self._position(event)

    def replay(self, held: Iterable[AccountEvent]) -> list[AccountEvent]:
        """Take events that came while a snapshot was made, after it.

        Of each balance and position only the last counts: those before it are older than that, the snapshot possibly
        newer. Where it says nothing else than the snapshot, the snapshot's fuller word stands.
        """
        events = list(held)
        last = {_slot(event): number for number, event in enumerate(events)}
        told = []
        for number, event in enumerate(events):
            slot = _slot(event)
            known: Balance | Position | None = None
            if isinstance(event, Balance):
                known = self._balances.get((event.wallet, event.asset))
            elif isinstance(event, Position):
                known = self._positions.get(self._held(event))
            if slot is None or (last[slot] == number and not (known is not None and _holds(event, known))):
                told.append(self.apply(event))
        return [event for event in told if event is not None]

    # -- what the venue answers ---------------------------------------------------------------------------------

    def reconcile(self, snapshot: Snapshot) -> list[AccountEvent]:
        """Take a snapshot; what consumers have to be told, fills first."""
        first = self._complete_from is None
        told: list[AccountEvent | None] = []
        if first:
            # Orders before fills: what was filled before the beginning is not in the fills that will be told.
            orders = [self._order(order, at_begin=True) for order in snapshot.orders or ()]
            told += [self._fill(fill) for fill in sorted(snapshot.fills, key=_by_time)]
            told += orders
        else:
            told += [self._fill(fill) for fill in sorted(snapshot.fills, key=_by_time)]
            told += [self._order(order) for order in snapshot.orders or ()]
        told += [self._vanish(order) for order in snapshot.gone]
        self._touched.update((event.market, None) for event in told if isinstance(event, Order | Fill))
        told += [self._balance(balance) for balance in self._with_zeros(snapshot.balances)]
        told += [self._position(position) for position in self._with_closed(snapshot.positions)]
        self._complete_from = snapshot.since
        self._forget_fills()
        return [event for event in told if event is not None]

    def _with_zeros(self, balances: Sequence[Balance] | None) -> Sequence[Balance]:
        if balances is None:
            return ()
        there = {(balance.wallet, balance.asset) for balance in balances}
        zeros = [
            Balance(asset=asset, wallet=wallet, total=ZERO, available=ZERO, locked=ZERO)
            for wallet, asset in self._balances.keys() - there
        ]
        return [*balances, *zeros]

    def _with_closed(self, positions: Sequence[Position] | None) -> Sequence[Position]:
        if positions is None:
            return ()
        there = {self._held(position) for position in positions}
        return [*positions, *(_closed(known) for key, known in self._positions.items() if key not in there)]

    # -- orders -------------------------------------------------------------------------------------------------

    def _find(self, order: Order) -> _Known | None:
        """By its id first: a client order id may have been used again since."""
        known = None if order.id is None else self._by_id.get((order.market, order.id))
        if known is None and order.client_order_id is not None:
            known = self._by_client_id.get((order.market, order.client_order_id))
        return known

    def _order(self, order: Order, *, at_begin: bool = False) -> Order | None:
        known = self._find(order)
        if known is not None and self._is_another(known, order):
            if (order.updated_time or order.created_time or 0) < (known.order.updated_time or 0):
                return None  # an old word on an order that had the client id before
            known = None
        if known is None:
            known = _Known(order)
            if at_begin and filled_size(order):
                known.fills = None  # what was filled before the beginning was filled by fills that are not told
            merged = order
        else:
            if not _counts(known.order, order):
                return None
            merged = _merged(known.order, order)
            if merged == known.order:
                return None
        known.order = merged
        self._index(known)
        return merged

    def _is_another(self, known: _Known, order: Order) -> bool:
        """Is it a new order under the client id of one that is done?"""
        return known.order.status.is_final and order.id is not None and bool(known.ids) and order.id not in known.ids

    def _index(self, known: _Known) -> None:
        order = known.order
        if order.client_order_id is not None:
            self._by_client_id[order.market, order.client_order_id] = known
        if order.id is not None:
            known.ids.add(order.id)
            self._by_id[order.market, order.id] = known
            early = self._early.pop((order.market, order.id), None)
            if early is not None and known.fills is not None:
                known.fills += early
        if order.status.is_open:
            self._open[id(known)] = known
            self._done.pop(id(known), None)
        else:
            self._open.pop(id(known), None)
            self._done[id(known)] = known
            if len(self._done) > DONE_KEPT:
                self._forget(self._done.popitem(last=False)[1])
        self._weigh(known)

    def _weigh(self, known: _Known) -> None:
        """Do the order's fills add up?"""
        filled = filled_size(known.order)
        if known.fills is None or filled is None or filled == known.fills:
            self._uneven.pop(id(known), None)
        else:
            self._uneven[id(known)] = known

    def _forget(self, known: _Known) -> None:
        market = known.order.market
        self._uneven.pop(id(known), None)
        for order_id in known.ids:
            if self._by_id.get((market, order_id)) is known:
                del self._by_id[market, order_id]
        name = known.order.client_order_id
        if name is not None and self._by_client_id.get((market, name)) is known:
            del self._by_client_id[market, name]

    def _vanish(self, order: Order) -> Order | None:
        """The venue neither lists the order as open nor finds it: how it ended is not known."""
        known = self._find(order)
        if known is None or not known.order.status.is_open:
            return None
        known.order = known.order.model_copy(update={"status": OrderStatus.UNKNOWN})
        self._index(known)
        return known.order

    # -- fills --------------------------------------------------------------------------------------------------

    def _fill(self, fill: Fill) -> Fill | None:
        key = self._fill_key(fill)
        if key in self._fills:
            return None
        self._fills[key] = fill.time
        if fill.time < self.begun:
            return None
        known = None
        if fill.order_id is not None:
            known = self._by_id.get((fill.market, fill.order_id))
        if known is None and fill.client_order_id is not None:
            known = self._by_client_id.get((fill.market, fill.client_order_id))
        size = fill.quantity if fill.contracts is None else fill.contracts
        if known is None:
            if fill.order_id is not None:
                self._early[fill.market, fill.order_id] = self._early.get((fill.market, fill.order_id), ZERO) + size
                if len(self._early) > DONE_KEPT:
                    self._early.popitem(last=False)
            return fill
        if known.fills is not None:
            known.fills += size
            self._weigh(known)
        if fill.client_order_id is None and known.order.client_order_id is not None:
            return fill.model_copy(update={"client_order_id": known.order.client_order_id})
        return fill

    def _forget_fills(self) -> None:
        """Old fill keys are of no use: the next snapshot's fills begin where this one's did, or later."""
        if len(self._fills) <= FILLS_KEPT:
            return
        horizon = self._complete_from or 0
        for key, time in list(self._fills.items()):
            if len(self._fills) <= FILLS_KEPT or (time >= horizon and len(self._fills) <= MOST_FILLS):
                break
            del self._fills[key]

    # -- balances and positions ---------------------------------------------------------------------------------

    def _balance(self, balance: Balance) -> Balance | None:
        key = (balance.wallet, balance.asset)
        known = self._balances.get(key)
        if known == balance or (known is None and not balance.total and not balance.borrowed):
            return None
        if balance.total or balance.borrowed:
            self._balances[key] = balance
        else:
            self._balances.pop(key, None)
        return balance

    def _held(self, position: Position) -> PositionKey:
        """What the position is known as. A venue may keep one of each margin mode in a market, and may leave the mode
        out where it has only one."""
        key = (position.market, position.side, position.margin_mode)
        if key in self._positions:
            return key
        others: Sequence[MarginMode | None] = [None] if position.margin_mode is not None else list(MarginMode)
        alike = [(*key[:2], mode) for mode in others]
        return next((one for one in alike if one in self._positions), key)

    def _position(self, position: Position) -> Position | None:
        key = self._held(position)
        known = self._positions.get(key)
        if known is not None:
            # Settings, which a stream's events may leave out and which a trade does not change.
            kept = {
                name: getattr(known, name) for name in ("leverage", "margin_mode") if getattr(position, name) is None
            }
            position = position.model_copy(update=kept)
        size = position_size(position)
        if known == position or (known is None and size == 0):
            return None
        self._positions.pop(key, None)
        if size != 0:
            self._positions[position.market, position.side, position.margin_mode] = position
        return position


def _slot(event: AccountEvent) -> Hashable | None:
    """What a balance or position is the full value of."""
    if isinstance(event, Balance):
        return event.wallet, event.asset
    return (event.market, event.side, event.margin_mode) if isinstance(event, Position) else None


def _key(order: Order) -> OrderKey:
    return order.market, order.client_order_id or order.id or ""


def _holds(event: AccountEvent, known: AccountEvent) -> bool:
    """Is all that the event says known?"""
    return all(getattr(known, name) == value for name, value in event if value is not None)


def _by_time(fill: Fill) -> tuple[int, int, str]:
    return fill.time, len(fill.id), fill.id


def _closed(position: Position) -> Position:
    return Position(
        market=position.market,
        side=position.side,
        quantity=ZERO,
        contracts=None if position.contracts is None else ZERO,
        leverage=position.leverage,
        margin_mode=position.margin_mode,
    )


def _counts(known: Order, new: Order) -> bool:
    """Is the word on the order to be believed (rules 2 and 3)?"""
    if new.status is OrderStatus.UNKNOWN:
        return False
    if known.status.is_final:
        return new.status is known.status
    if new.status.is_final or known.status is OrderStatus.UNKNOWN:
        return True
    before, after = filled_size(known), filled_size(new)
    if before is not None and after is not None and before != after:
        return after > before
    if known.updated_time is not None and new.updated_time is not None:
        return new.updated_time >= known.updated_time
    return _RANK[new.status] >= _RANK[known.status]


def _merged(known: Order, new: Order) -> Order:
    """The order as the new word has it; what that leaves out, or a final state had before, stays as it was (rule 4)."""
    given = {name: value for name, value in new if value is not None}
    if known.status.is_final:
        # The same end told twice: only what was missing is news.
        given = {name: value for name, value in given.items() if getattr(known, name) is None}
    for name in ("filled_quantity", "filled_contracts"):
        before = getattr(known, name)
        if before is not None and name in given and given[name] < before:
            del given[name]
            given.pop("average_price", None)
    if known.updated_time is not None and given.get("updated_time", known.updated_time) < known.updated_time:
        del given["updated_time"]
    if known.created_time is not None:
        given.pop("created_time", None)
    for flag in ("reduce_only", "post_only"):
        if getattr(known, flag):
            given.pop(flag, None)  # it does not change, but not every word on the order says it
    return known.model_copy(update=given)
