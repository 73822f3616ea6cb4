"""One account's exposure at the worst, and how often it was used: what a limit that several orders share holds against.

The worst case of a side is the net position plus every open order of that side, filled. It is counted from

1. a *snapshot*: the open orders, read first, and the position, read at least the venue's lag later. In this order no
   fill can fall between the two: an order that filled in between is counted twice, never missed;
2. *reservations*: what this process has sent since, in full, made before the request leaves. One is given up when the
   request certainly was not carried out, or when a later snapshot shows what became of it; an order whose outcome is
   not known keeps its reservation until that is known.

Fills and cancels afterwards can only lower the worst case, so a snapshot stays safe until it is replaced; how old it
may be is bounded for what others do with the account.

Nothing here waits: between a decision and its reservation no other task runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum, auto

import msgspec

from astra.models.markets import Market
from astra.models.orders import Order, OrderStatus
from astra.models.trades import Side
from astra.symbols import AssetType
from astra_risk.intent import EXACT, Intent, filled_of, total_of
from astra_risk.positions import ZERO, Positions


class Phase(Enum):
    """How much is known of what was sent."""

    SENDING = auto()
    ACKNOWLEDGED = auto()
    UNKNOWN = auto()


class Reservation:
    """What one request may add, counted before it leaves. `quantity` is native; `rests`: does it count as open?"""

    def __init__(self, pool: str, intent: Intent, *, ambiguous: bool) -> None:
        self.pool = pool
        self.market = intent.market
        self.side = intent.side
        self.reduce_only = intent.reduce_only
        self.quantity = intent.added
        """None: of an order by amount that nobody had to value."""
        self.total = intent.native
        self.rests = intent.rests and not intent.amends
        self.amends = intent.amends
        self.client_order_id = intent.client_order_id
        self.order_id = intent.order_id
        self.phase = Phase.SENDING
        self.ambiguous = ambiguous
        """Another order with this client order id was known already: a listing cannot tell the two apart."""
        self.acknowledged_at = 0.0

    def is_of(self, order: Order) -> bool:
        if order.market != self.market.symbol:
            return False
        if not self.ambiguous and self.client_order_id is not None and order.client_order_id is not None:
            return self.client_order_id == order.client_order_id
        return self.order_id is not None and self.order_id == order.id


class OpenOrder:
    """An open order as a snapshot found it. `remaining` (native) is None where the venue does not say enough."""

    def __init__(self, order: Order, market: Market | None) -> None:
        # Without its market (it was delisted) an order still counts as open, in a pool of its own.
        self.order = order
        self.market = market
        self.pool = order.market if market is None else pool_of(market)
        self.reduce_only = order.reduce_only and market is not None and market.asset_type is not AssetType.SPOT
        self.total = None if market is None else total_of(market, order)
        self.filled = (None if market is None else filled_of(market, order)) or ZERO
        self.remaining = None if self.total is None else max(EXACT.subtract(self.total, self.filled), ZERO)
        self.is_open = True

    def is_of(self, order: Order) -> bool:
        mine = self.order
        if mine.market != order.market:
            return False
        if mine.client_order_id is not None and order.client_order_id is not None:
            return mine.client_order_id == order.client_order_id
        return mine.id is not None and mine.id == order.id


class Snapshot:
    """An account as it was read: the open orders as of `began`, positions as of later."""

    def __init__(self, began: float, orders: Iterable[OpenOrder], markets: frozenset[str] | None) -> None:
        self.began = began
        self.orders = list(orders)
        self.markets = markets
        """The markets whose orders were read; None: all of the venue."""
        self.positions: dict[bool, Positions] = {}
        """By kind: True for spot."""

    def covers(self, symbol: str) -> bool:
        return self.markets is None or symbol in self.markets


class Worst(msgspec.Struct, frozen=True):
    """The largest net position that can come of what is open, by side; each may be negative (never on that side)."""

    long: Decimal
    short: Decimal

    def on(self, side: Side) -> Decimal:
        return self.long if side is Side.BUY else self.short


class SizeUnknown(Exception):
    """A position or an open order's size is not known; the text says which."""


def pool_of(market: Market) -> str:
    """What a market's orders add up in: the market itself; for spot the base asset, which other markets trade, too."""
    return f"spot {market.base_asset}" if market.asset_type is AssetType.SPOT else market.symbol


class Ledger:
    """One account's snapshot, reservations and recent sendings."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.reservations: list[Reservation] = []
        self._sent: deque[tuple[float, str]] = deque()

    # -- figures ----------------------------------------------------------------------------------------------------

    def worst(self, market: Market, adding: Intent | None = None) -> Worst:
        """The worst case in the market, with `adding` on top. Raises `SizeUnknown`, without a snapshot too."""
        pool = pool_of(market)
        positions = None if self.snapshot is None else self.snapshot.positions.get(market.asset_type is AssetType.SPOT)
        if positions is None:
            raise SizeUnknown("it was not read")
        legs = positions.of(market)
        if legs is None:
            raise SizeUnknown("the venue does not say how large the position is")
        plain = dict.fromkeys(Side, ZERO)
        reducing = dict.fromkeys(Side, ZERO)
        for side, reduce_only, quantity in self._open_in(pool, adding):
            amounts = reducing if reduce_only else plain
            amounts[side] = EXACT.add(amounts[side], quantity)
        # A reduce-only order never makes a position, but it takes away what stands against the other side's orders.
        buys = EXACT.add(plain[Side.BUY], min(reducing[Side.BUY], legs.short))
        sells = EXACT.add(plain[Side.SELL], min(reducing[Side.SELL], legs.long))
        return Worst(long=EXACT.add(buys, legs.net), short=EXACT.subtract(sells, legs.net))

    def _open_in(self, pool: str, adding: Intent | None) -> Iterable[tuple[Side, bool, Decimal]]:
        for found in self.snapshot.orders if self.snapshot is not None else ():
            if found.pool == pool:
                if found.remaining is None:
                    name = found.order.client_order_id or found.order.id
                    raise SizeUnknown(f"the venue does not say how large the open order {name} is")
                yield found.order.side, found.reduce_only, found.remaining
        for reservation in self.reservations:
            if reservation.pool == pool:
                if reservation.quantity is None:
                    raise SizeUnknown(f"how much the order {reservation.client_order_id} fills is not known yet")
                yield reservation.side, reservation.reduce_only, reservation.quantity
        if adding is not None:
            assert adding.added is not None
            yield adding.side, adding.reduce_only, adding.added

    def open_orders(self, symbol: str | None = None) -> int:
        """Open orders of the market (None: of the account), those on their way included."""
        listed = self.snapshot.orders if self.snapshot is not None else ()
        return sum(found.is_open and symbol in (None, found.order.market) for found in listed) + sum(
            reservation.rests and symbol in (None, reservation.market.symbol) for reservation in self.reservations
        )

    def unknown(self) -> list[Reservation]:
        """What was sent with an outcome that is not known yet."""
        return [reservation for reservation in self.reservations if reservation.phase is Phase.UNKNOWN]

    def sent(self, window_s: float, now: float, symbol: str | None = None) -> int:
        """Placements and amendments sent within the window, in the market (None: in all)."""
        count = 0
        for at, market in reversed(self._sent):
            if at <= now - window_s:
                break
            count += symbol in (None, market)
        return count

    def find(self, market: str, *, client_order_id: str | None, order_id: str | None) -> OpenOrder | None:
        """An open order of the snapshot by one of its ids."""
        for found in self.snapshot.orders if self.snapshot is not None else ():
            if found.order.market == market and (
                (client_order_id is not None and found.order.client_order_id == client_order_id)
                or (order_id is not None and found.order.id == order_id)
            ):
                return found
        return None

    # -- what is sent, and what becomes of it ------------------------------------------------------------------------

    def reserve(self, intent: Intent) -> Reservation:
        """Count an order before it is sent."""
        symbol, client_order_id = intent.market.symbol, intent.client_order_id
        ambiguous = not intent.amends and (
            self.find(symbol, client_order_id=client_order_id, order_id=None) is not None
            or any(
                other.client_order_id == client_order_id and other.market.symbol == symbol
                for other in self.reservations
            )
        )
        reservation = Reservation(pool_of(intent.market), intent, ambiguous=ambiguous)
        self.reservations.append(reservation)
        return reservation

    def record_sending(self, symbol: str, now: float, longest_s: float) -> None:
        """Count a sending for the rate limits."""
        self._sent.append((now, symbol))
        while self._sent and self._sent[0][0] <= now - longest_s:
            self._sent.popleft()

    def release(self, reservation: Reservation) -> None:
        """It certainly was not carried out."""
        if reservation in self.reservations:
            self.reservations.remove(reservation)

    def acknowledge(self, reservation: Reservation, order: Order, now: float) -> None:
        """The venue took it and says `order` of it."""
        reservation.phase = Phase.ACKNOWLEDGED
        reservation.acknowledged_at = now
        if not reservation.amends:
            reservation.order_id = order.id
            self._shrink(reservation, order)

    def lose(self, reservation: Reservation) -> None:
        """Whether it was carried out is not known."""
        reservation.phase = Phase.UNKNOWN

    def observe(self, order: Order, now: float) -> None:
        """An answer of the venue says where one order stands."""
        for reservation in self.reservations:
            if reservation.amends or not reservation.is_of(order) or order.status is OrderStatus.UNKNOWN:
                continue
            if reservation.phase is Phase.UNKNOWN:
                self.acknowledge(reservation, order, now)
            elif reservation.phase is Phase.ACKNOWLEDGED:
                self._shrink(reservation, order)
        for found in self.snapshot.orders if self.snapshot is not None else ():
            if found.is_of(order) and is_over(order):
                found.is_open = False
                filled = None if found.market is None else filled_of(found.market, order)
                if filled is not None and found.remaining is not None:
                    found.remaining = max(EXACT.subtract(filled, found.filled), ZERO)

    def not_placed(self, symbol: str, client_order_id: str) -> None:
        """What was sent under this id with an unknown outcome certainly was not carried out."""
        for reservation in self.unknown():
            if (
                not reservation.amends
                and reservation.market.symbol == symbol
                and reservation.client_order_id == client_order_id
            ):
                self.release(reservation)

    def _shrink(self, reservation: Reservation, order: Order) -> None:
        """An order that is over has filled what it has filled; the snapshot's position may not hold that yet."""
        if is_over(order):
            reservation.rests = False
            filled = filled_of(reservation.market, order)
            if filled is not None:
                reservation.quantity = filled

    # -- snapshots --------------------------------------------------------------------------------------------------

    def replace(self, snapshot: Snapshot, lag_s: float) -> None:
        """Take a new snapshot, and give up the reservations of which it shows what became."""
        kept = []
        for reservation in self.reservations:
            listed = next((found for found in snapshot.orders if reservation.is_of(found.order)), None)
            if not self._shown(reservation, listed, snapshot, lag_s):
                kept.append(reservation)
        self.reservations = kept
        self.snapshot = snapshot

    def _shown(self, reservation: Reservation, listed: OpenOrder | None, snapshot: Snapshot, lag_s: float) -> bool:
        if not snapshot.covers(reservation.market.symbol):
            return False
        if reservation.phase is Phase.ACKNOWLEDGED and reservation.acknowledged_at <= snapshot.began - lag_s:
            return True
        if not reservation.amends:
            return listed is not None
        if listed is not None:
            return listed.total is not None and reservation.total is not None and listed.total >= reservation.total
        # An order that is gone cannot be amended any more.
        return reservation.phase is Phase.UNKNOWN

    def settled_from(self, lag_s: float) -> float:
        """From when on a snapshot shows what became of everything that was acknowledged (0: at once)."""
        acknowledged = [r.acknowledged_at for r in self.reservations if r.phase is Phase.ACKNOWLEDGED]
        return max(acknowledged) + lag_s if acknowledged else 0.0

    def forget_settled(self, now: float, lag_s: float) -> None:
        """Without a snapshot to add them to: give up what the next one will show."""
        self.snapshot = None
        self.reservations = [
            reservation
            for reservation in self.reservations
            if reservation.phase is not Phase.ACKNOWLEDGED or reservation.acknowledged_at > now - lag_s
        ]

    def is_idle(self, now: float, longest_s: float) -> bool:
        """Would nothing be lost if this account were forgotten?"""
        return not self.reservations and self.sent(longest_s, now) == 0


def is_over(order: Order) -> bool:
    """Can nothing more come of the order? An EXPIRED conditional order may be one whose trigger was reached."""
    if order.status is OrderStatus.EXPIRED:
        return not order.type.is_conditional
    return order.status.is_final
