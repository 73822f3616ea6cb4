"""What the private streams of both families share, and Spot's: `executions` and `balances` (WebSocket v2).

Document: docs.kraken.com websocket-v2 "Executions", "Balances".
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

import msgspec

from astra.errors import AuthenticationError, PermissionDenied, VenueError
from astra.models.accounts import AccountEvent, Balance
from astra.models.markets import Market
from astra.models.orders import Fill, Order
from astra.rest import Recent
from astra.streams.accounts import AccountSession, MarketOf
from astra.streams.feed import Channel, Endpoint, Frame, Outlet, Payload, Ticket
from astra.trading.native import average_of, make_fill, make_order
from astra_kraken.errors import spot_meaning
from astra_kraken.feed.spot import milliseconds
from astra_kraken.markets import asset_name
from astra_kraken.settings import SPOT_WALLET
from astra_kraken.trading.terms import side_of, spot_force, spot_status, spot_type

logger = logging.getLogger(__name__)

REMEMBERED_ORDERS = 20_000


class _Fee(msgspec.Struct):
    asset: str
    qty: Decimal


class _Triggers(msgspec.Struct):
    price: Decimal | None = None


class Execution(msgspec.Struct):
    """An entry of `executions`. After the first one of an order, only what changed is told."""

    order_id: str
    exec_type: str
    order_status: str | None = None
    symbol: str | None = None
    side: str | None = None
    order_type: str | None = None
    cl_ord_id: str | None = None
    order_qty: Decimal | None = None
    cash_order_qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    triggers: _Triggers | None = None
    time_in_force: str | None = None
    cum_qty: Decimal | None = None
    cum_cost: Decimal | None = None
    avg_price: Decimal | None = None
    post_only: bool | None = None
    reduce_only: bool | None = None
    reason: str | None = None
    timestamp: datetime.datetime | None = None
    last_qty: Decimal | None = None
    last_price: Decimal | None = None
    exec_id: str | None = None
    liquidity_ind: str | None = None
    fees: list[_Fee] | None = None

    def over(self, before: Execution) -> Execution:
        """What is known of the order now: what this entry says, and what it leaves out as it was."""
        said = {name: value for name in _LASTING if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(before, **said)

    def order(self, market: Market, created: int | None) -> Order:
        filled = self.cum_qty if self.cum_qty is not None else Decimal(0)
        price = self.limit_price or None
        kind = spot_type(self.order_type or "", price)
        trigger = (self.triggers.price if self.triggers else None) or self.stop_price
        assert self.side is not None
        return make_order(
            market,
            order_id=self.order_id,
            client_order_id=self.cl_ord_id,
            side=side_of(self.side),
            kind=kind,
            status=spot_status(self.order_status or self.exec_type, filled, self.order_qty, self.reason),
            price=price if kind.has_price else None,
            stop_price=trigger if kind.is_conditional else None,
            total=self.order_qty,
            filled=filled,
            average=self.avg_price or average_of(self.cum_cost, filled),
            quote_quantity=self.cash_order_qty,
            time_in_force=spot_force(self.time_in_force),
            post_only=bool(self.post_only),
            reduce_only=bool(self.reduce_only),
            created=created,
            updated=None if self.timestamp is None else milliseconds(self.timestamp),
        )

    def fill(self, market: Market, known: Execution) -> Fill | None:
        """The fill of a `trade` entry; None where it lacks what makes one."""
        if self.exec_id is None or self.last_price is None or self.last_qty is None or self.timestamp is None:
            return None
        assert known.side is not None
        fee = self.fees[0] if self.fees else None
        return make_fill(
            market,
            trade_id=self.exec_id,
            order_id=self.order_id,
            client_order_id=known.cl_ord_id,
            side=side_of(known.side),
            price=self.last_price,
            size=self.last_qty,
            fee=None if fee is None else fee.qty,
            fee_asset=None if fee is None else asset_name(fee.asset),
            maker=None if self.liquidity_ind is None else self.liquidity_ind == "m",
            time=milliseconds(self.timestamp),
        )


_OF_ONE_FILL = frozenset({"last_qty", "last_price", "exec_id", "liquidity_ind", "fees"})
_LASTING = tuple(name for name in Execution.__struct_fields__ if name not in _OF_ONE_FILL)


class _Wallet(msgspec.Struct):
    type: str
    id: str
    balance: Decimal


class BalanceEntry(msgspec.Struct):
    """An entry of `balances`: of the snapshot what each wallet holds, of an update what a wallet holds now."""

    asset: str
    balance: Decimal
    wallets: list[_Wallet] | None = None
    wallet_type: str = "spot"
    wallet_id: str = "main"

    def event(self) -> Balance | None:
        """The balance that can be traded with; None for a change of another wallet (earning, bonded)."""
        total = self.balance
        if self.wallets:
            total = sum((one.balance for one in self.wallets if (one.type, one.id) == ("spot", "main")), Decimal(0))
        elif (self.wallet_type, self.wallet_id) != ("spot", "main"):
            return None
        return Balance(asset=asset_name(self.asset), wallet=SPOT_WALLET, total=total)


class _Executions(msgspec.Struct, tag_field="channel", tag="executions"):
    type: str
    data: list[Execution]
    sequence: int | None = None


class _Balances(msgspec.Struct, tag_field="channel", tag="balances"):
    type: str
    data: list[BalanceEntry]
    sequence: int | None = None


class _Answer(msgspec.Struct):
    method: str = ""
    success: bool | None = None
    error: str | None = None
    req_id: int | None = None
    channel: str = ""


_decode = msgspec.json.Decoder(_Executions | _Balances, strict=False).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_KNOWN = frozenset({"executions", "balances"})


class SpotAccountSession(AccountSession):
    """Spot's account: subscribed with the ticket's token, each channel numbered by itself."""

    def __init__(self, endpoint: Endpoint, outlet: Outlet, ticket: Ticket | None, market_of: MarketOf) -> None:
        super().__init__(endpoint, outlet, ticket, market_of)
        self._orders: Recent[str, tuple[Execution, int | None]] = Recent(REMEMBERED_ORDERS)
        self._sequences: dict[str, int] = {}
        self._waiting: dict[int, str] = {}
        self._last_id = 0

    def subscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.join(channels)
        return [
            self._frame("subscribe", "executions", snap_orders=True, snap_trades=False, order_status=True),
            self._frame("subscribe", "balances", snapshot=True),
        ]

    def unsubscribe(self, channels: Sequence[Channel], now_ms: int) -> Iterable[Frame]:
        self.leave()
        return [self._frame("unsubscribe", name) for name in ("executions", "balances")]

    def _frame(self, method: str, channel: str, **options: bool) -> Frame:
        self._last_id += 1
        if method == "subscribe":
            self._waiting[self._last_id] = channel
        token = self.ticket.value if self.ticket is not None else None
        params = {"channel": channel, "token": token, **options}
        return msgspec.json.encode({"method": method, "params": params, "req_id": self._last_id}).decode()

    def received(self, payload: Payload, received_ns: int) -> None:
        try:
            frame = _decode(payload)
        except msgspec.ValidationError:
            self._uncommon(payload)
            return
        if self._input is None:
            return
        name = "executions" if isinstance(frame, _Executions) else "balances"
        if not self._in_sequence(name, frame.sequence, begins=frame.type == "snapshot"):
            return
        if isinstance(frame, _Executions):
            for entry in frame.data:
                self.tell(self._execution(entry))
        else:
            self.tell(event for entry in frame.data if (event := entry.event()) is not None)

    def _in_sequence(self, name: str, sequence: int | None, *, begins: bool) -> bool:
        """Frames of a channel are counted: a gap means that something was not told. A snapshot begins a subscription,
        and with it possibly the count."""
        if sequence is None:
            return True
        before = None if begins or sequence == 1 else self._sequences.get(name)
        if before is not None and sequence <= before:
            return False
        self._sequences[name] = sequence
        if before is not None and sequence > before + 1:
            self.interrupted(f"{name}: frames {before + 1} to {sequence - 1} are missing")
        return True

    def _execution(self, entry: Execution) -> Iterator[AccountEvent]:
        before = self._orders.get(entry.order_id)
        time = None if entry.timestamp is None else milliseconds(entry.timestamp)
        if before is None:
            known, created = entry, time
        else:
            known, created = entry.over(before[0]), before[1]
        if known.symbol is None or known.side is None:
            self.interrupted(f"the order {entry.order_id} was changed that was never shown")
            return
        self._orders[entry.order_id] = known, created
        market = self.market(known.symbol)
        if market is None:
            return
        if entry.exec_type == "trade":
            fill = entry.fill(market, known)
            if fill is None:
                self.interrupted(f"a fill of the order {entry.order_id} is not told in full")
            else:
                yield fill
        yield known.order(market, created)

    def _uncommon(self, payload: Payload) -> None:
        answer = _decode_answer(payload)
        if answer.channel in _KNOWN:
            raise ValueError(f"a frame of {answer.channel} has another shape than documented")
        if answer.method != "subscribe" or answer.req_id not in self._waiting or self._channel is None:
            if answer.error is not None:
                self._said(answer.error)
            return
        name = self._waiting.pop(answer.req_id)
        if not answer.success:
            self._refused(name, answer.error or "no reason given")
        elif not self._waiting:
            self.outlet.acknowledged([self._channel])

    def _said(self, error: str) -> None:
        """An error that answers nothing. A session that is over need not end the connection."""
        logger.warning("%s: the venue says: %s", self.endpoint.name, error)
        meaning = spot_meaning(error)
        if meaning is not None and issubclass(meaning.error, AuthenticationError):
            self.outlet.reconnect(f"the session is over: {error}")

    def _refused(self, name: str, error: str) -> None:
        assert self._channel is not None
        meaning = spot_meaning(error)
        reason = f"the venue refused {name} of the account: {error}"
        kind: type[VenueError] = VenueError if meaning is None else meaning.error
        if issubclass(kind, (AuthenticationError, PermissionDenied)) and not (meaning and meaning.retryable):
            self.outlet.refused(self._channel, kind(reason, exchange="KRAKEN", code=error))
        else:
            self.outlet.reconnect(reason)  # a new connection has a new token
