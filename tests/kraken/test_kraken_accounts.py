"""Private streams: log-in and tokens, recorded events as orders, fills, balances and positions."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from astra.errors import AuthenticationError, PermissionDenied
from astra.models.accounts import Balance, Position
from astra.models.credentials import Credentials
from astra.models.orders import Fill, Order, OrderRequest, OrderStatus, OrderType, PositionSide
from astra.models.trades import Side
from astra.streams.feed import Channel, DataType, Ticket
from astra_kraken.feed.derivatives_accounts import FEEDS, single_wallet

pytestmark = pytest.mark.anyio

DOCS_SECRET = "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm"


class Stage:
    """A private session whose markets are loaded."""

    def __init__(self, played: Any, outlet: Any, product: str, account: Credentials, ticket: Ticket | None) -> None:
        feed = played.venue.feed
        self.outlet = outlet
        self.channel = Channel(DataType.ACCOUNT, product, credentials=account)
        self.endpoint = feed.endpoint(self.channel)
        self.session = feed.session(self.endpoint, outlet, ticket)

    def push(self, frame: Any) -> None:
        self.session.received(frame if isinstance(frame, bytes) else json.dumps(frame).encode(), 1)

    @property
    def told(self) -> list[Any]:
        return list(self.outlet.inputs[self.channel].account_events)

    @property
    def interruptions(self) -> list[str]:
        return [reason for (reason,) in self.outlet.inputs[self.channel].of("interrupted")]


@pytest.fixture
async def spot(played: Any, outlet: Any) -> Stage:
    await played.venue.markets.all()
    stage = Stage(played, outlet, "spot", played.credentials, Ticket(value="TESTTOKEN"))
    stage.sent = [json.loads(frame) for frame in stage.session.subscribe([stage.channel], 0)]  # type: ignore[attr-defined]
    return stage


@pytest.fixture
async def derivatives(played: Any, outlet: Any) -> Stage:
    await played.venue.markets.all()
    account = Credentials.of("KRAKEN", "APIKEY", DOCS_SECRET)
    return Stage(played, outlet, "derivatives", account, Ticket())


# -- Spot -------------------------------------------------------------------------------------------------------


async def test_spot_subscribes_with_the_ticket_s_token(spot: Any) -> None:
    assert [frame["params"]["channel"] for frame in spot.sent] == ["executions", "balances"]
    assert {frame["params"]["token"] for frame in spot.sent} == {"TESTTOKEN"}
    for frame in spot.sent:
        assert not spot.outlet.acks
        spot.push({"method": "subscribe", "success": True, "req_id": frame["req_id"], "result": {}})
    assert spot.outlet.acks == [spot.channel]


@pytest.mark.parametrize(
    ("error", "refused"),
    [("EGeneral:Permission denied", PermissionDenied), ("EAPI:Invalid token", None), ("EService:Busy", None)],
)
async def test_a_stale_token_reconnects_and_a_missing_permission_refuses(spot: Any, error: str, refused: Any) -> None:
    spot.push({"method": "subscribe", "success": False, "req_id": 1, "error": error})
    if refused is None:
        assert len(spot.outlet.reconnects) == 1
        assert not spot.outlet.refusals
    else:
        ((channel, problem, _),) = spot.outlet.refusals
        assert channel is spot.channel
        assert isinstance(problem, refused)


async def test_a_session_that_is_over_is_begun_anew(spot: Any) -> None:
    """The venue says so without closing the connection."""
    spot.push({"error": "ESession:Invalid session", "success": False})
    assert len(spot.outlet.reconnects) == 1
    spot.push({"error": "EGeneral:Something else", "success": False})
    assert len(spot.outlet.reconnects) == 1


async def test_the_documented_frames_are_understood(spot: Any, recordings: Any) -> None:
    for frame in recordings.received("spot-private-documented"):
        spot.push(frame)
    (order,) = spot.told
    assert isinstance(order, Order)
    assert (order.id, order.status, order.side) == ("OK4GJX-KSTLS-7DZZO5", OrderStatus.NEW, Side.SELL)
    assert (order.price, order.quantity, order.type) == (26500, Decimal("0.005"), OrderType.LIMIT)
    assert order.updated_time == 1695378785709


def executions(*entries: Any, sequence: int, kind: str = "update") -> Any:
    return {"channel": "executions", "type": kind, "data": list(entries), "sequence": sequence}


FIRST = {
    "order_id": "OA",
    "exec_type": "pending_new",
    "order_status": "pending_new",
    "symbol": "BTC/USD",
    "side": "buy",
    "order_type": "limit",
    "order_qty": 0.03,
    "limit_price": 100.5,
    "cl_ord_id": "mine-1",
    "post_only": True,
    "timestamp": "2026-01-01T00:00:00.000000Z",
}


async def test_later_entries_say_only_what_changed(spot: Any) -> None:
    change = {"order_id": "OA", "timestamp": "2026-01-01T00:00:01.000000Z"}
    spot.push(executions(FIRST, sequence=1))
    spot.push(executions({**change, "exec_type": "new", "order_status": "new"}, sequence=2))
    trade = {
        **change,
        "exec_type": "trade",
        "order_status": "partially_filled",
        "exec_id": "TA",
        "last_qty": 0.01,
        "last_price": 100.25,
        "liquidity_ind": "m",
        "fees": [{"asset": "USD", "qty": 0.002}],
        "cum_qty": 0.01,
        "cum_cost": 1.0025,
        "avg_price": 100.25,
    }
    spot.push(executions(trade, sequence=3))
    spot.push(
        executions(
            {**change, "exec_type": "canceled", "order_status": "canceled", "reason": "User requested"}, sequence=4
        )
    )
    orders = [event for event in spot.told if isinstance(event, Order)]
    assert [order.status for order in orders] == ["NEW", "NEW", "PARTIALLY_FILLED", "CANCELED"]
    for order in orders:
        assert (order.market, order.client_order_id, order.price) == ("KRAKEN-SPOT-BTC-USD", "mine-1", Decimal("100.5"))
        assert (order.quantity, order.post_only, order.created_time) == (Decimal("0.03"), True, 1767225600000)
    assert (orders[-1].filled_quantity, orders[-1].average_price) == (Decimal("0.01"), Decimal("100.25"))
    (fill,) = [event for event in spot.told if isinstance(event, Fill)]
    assert (fill.id, fill.order_id, fill.client_order_id) == ("TA", "OA", "mine-1")
    assert (fill.price, fill.quantity, fill.fee, fill.fee_asset) == (
        Decimal("100.25"),
        Decimal("0.01"),
        Decimal("0.002"),
        "USD",
    )
    assert fill.liquidity == "MAKER"


async def test_numbers_keep_all_their_digits(spot: Any) -> None:
    text = json.dumps(executions(FIRST, sequence=1)).replace("100.5", "12345678901.12345678")
    spot.push(text.encode())
    assert spot.told[0].price == Decimal("12345678901.12345678")


async def test_a_post_only_order_that_would_take_was_refused(spot: Any) -> None:
    spot.push(executions(FIRST, sequence=1))
    ended = {"order_id": "OA", "exec_type": "canceled", "order_status": "canceled", "reason": "Post only order"}
    spot.push(executions(ended, sequence=2))
    assert spot.told[-1].status is OrderStatus.REJECTED


async def test_a_lost_frame_and_an_unknown_order_interrupt(spot: Any) -> None:
    spot.push(executions(FIRST, sequence=1))
    spot.push(executions({"order_id": "OA", "exec_type": "new", "order_status": "new"}, sequence=3))
    assert len(spot.interruptions) == 1
    assert "missing" in spot.interruptions[0]
    spot.push(executions({"order_id": "OB", "exec_type": "new", "order_status": "new"}, sequence=4))
    assert "never shown" in spot.interruptions[1]
    spot.push(executions({**FIRST, "order_id": "OC", "symbol": "NO/NE"}, sequence=5))
    assert "not loaded" in spot.interruptions[2]


async def test_a_new_subscription_counts_anew_and_repeated_frames_are_dropped(spot: Any) -> None:
    new = {"order_id": "OA", "exec_type": "new", "order_status": "new"}
    spot.push(executions(FIRST, sequence=7))
    spot.push(executions(FIRST, sequence=7))
    assert len(spot.told) == 1
    list(spot.session.unsubscribe([spot.channel], 0))
    list(spot.session.subscribe([spot.channel], 0))
    spot.push(executions(new, sequence=8))
    spot.push(executions(sequence=1, kind="snapshot"))
    spot.push(executions(new, sequence=2))
    assert len(spot.told) == 3
    assert not spot.interruptions


async def test_balances_are_those_that_can_be_traded_with(spot: Any) -> None:
    wallets = [
        {"type": "spot", "id": "main", "balance": 1.5},
        {"type": "earn", "id": "bonded", "balance": 2.5},
    ]
    rows = [{"asset": "BTC", "balance": 4.0, "wallets": wallets}]
    spot.push({"channel": "balances", "type": "snapshot", "data": rows, "sequence": 1})
    entry = {"asset": "USD", "balance": 12.25, "wallet_type": "spot", "wallet_id": "main", "ledger_id": "L"}
    other = {"asset": "USD", "balance": 99.0, "wallet_type": "earn", "wallet_id": "flex", "ledger_id": "M"}
    spot.push({"channel": "balances", "type": "update", "data": [entry, other], "sequence": 2})
    assert spot.told == [
        Balance(asset="BTC", wallet="spot", total=Decimal("1.5")),
        Balance(asset="USD", wallet="spot", total=Decimal("12.25")),
    ]


async def test_a_token_is_fetched_for_each_connection(played: Any, recordings: Any) -> None:
    played.http.answer("POST", "/0/private/GetWebSocketsToken", recordings.body("spot-getwebsocketstoken"))
    channel = Channel(DataType.ACCOUNT, "spot", credentials=played.credentials)
    endpoint = played.venue.feed.endpoint(channel)
    ticket = await played.venue.tickets.obtain(endpoint)
    assert ticket.value == "4" * 32
    assert ticket.value not in repr(ticket)
    await played.venue.tickets.obtain(endpoint)
    assert len(played.http.asked("POST", "/0/private/GetWebSocketsToken")) == 2
    assert endpoint.url == "wss://ws-auth.kraken.com/v2"


# -- derivatives ------------------------------------------------------------------------------------------------


def logged_in(stage: Stage) -> list[Any]:
    """The documented challenge, answered."""
    (asked,) = stage.session.opened(0)
    assert json.loads(asked) == {"event": "challenge", "api_key": "APIKEY"}
    assert not stage.session.ready
    stage.push({"event": "challenge", "message": "c100b894-1729-464d-ace1-52dbce11db42"})
    assert stage.session.ready
    return [json.loads(frame) for frame in stage.session.subscribe([stage.channel], 0)]


async def test_the_challenge_is_signed_as_documented(derivatives: Stage, recordings: Any) -> None:
    frames = logged_in(derivatives)
    assert [frame["feed"] for frame in frames] == list(FEEDS)
    documented = json.loads(recordings.stream("futures-private-documented")[1][2]["text"])
    assert frames[1] == documented
    for feed in FEEDS:
        assert not derivatives.outlet.acks
        derivatives.push({"event": "subscribed", "feed": feed})
    assert derivatives.outlet.acks == [derivatives.channel]


async def test_a_challenge_that_is_not_accepted_refuses_the_account(derivatives: Stage) -> None:
    logged_in(derivatives)
    derivatives.push({"event": "alert", "message": "Failed to subscribe to authenticated feed"})
    ((channel, error, _),) = derivatives.outlet.refusals
    assert channel is derivatives.channel
    assert isinstance(error, AuthenticationError)


async def test_the_documented_private_frames_are_understood(derivatives: Stage, recordings: Any) -> None:
    """A `full_fill` is a fill, whatever `is_cancel` says; `qty` is what remains."""
    logged_in(derivatives)
    for frame in recordings.received("futures-private-documented"):
        text = frame.decode().replace("PF_XBTUSD", "PF_ETHUSD").replace("FI_XBTUSD_200925", "FI_XBTUSD_261225")
        derivatives.push(text.replace("PI_ETHUSD", "PI_XBTUSD").encode())
    orders = [event for event in derivatives.told if isinstance(event, Order)]
    stop, limit, filled, at_once = orders
    assert (stop.type, stop.side, stop.price, stop.stop_price) == (OrderType.STOP_LIMIT, Side.SELL, 34900, 13789)
    assert (stop.contracts, stop.status) == (1000, OrderStatus.NEW)
    assert (limit.contracts, limit.price, limit.reduce_only) == (304, 10640, True)
    assert (filled.status, filled.contracts, filled.filled_contracts) == (
        OrderStatus.FILLED,
        Decimal("0.0001"),
        Decimal("0.0001"),
    )
    assert (at_once.status, at_once.type, at_once.average_price) == (OrderStatus.FILLED, OrderType.MARKET, 3162)
    fills = [event for event in derivatives.told if isinstance(event, Fill)]
    assert [(fill.side, fill.liquidity, fill.fee_asset) for fill in fills] == [
        (Side.BUY, "MAKER", "BTC"),
        (Side.BUY, "TAKER", "ETH"),
        (Side.BUY, "TAKER", "USD"),
    ]
    assert fills[0].fee == Decimal("-0.00009142857"), "a rebate"
    assert (fills[0].contracts, fills[0].quantity) == (5000, Decimal(5000) / Decimal("10937.5"))
    assert fills[2].client_order_id == "b661bad0-7037-4b73-9e07-a65b515e4ef7"
    assert len(derivatives.interruptions) == 2, "two orders have gone that were never shown"


def shown(**changes: Any) -> Any:
    return {
        "instrument": "PI_XBTUSD",
        "time": 1_700_000_000_000,
        "last_update_time": 1_700_000_000_000,
        "qty": 100.0,
        "filled": 0.0,
        "limit_price": 50000.0,
        "stop_price": 0.0,
        "type": "limit",
        "order_id": "u-1",
        "cli_ord_id": "mine-1",
        "direction": 0,
        "reduce_only": False,
        **changes,
    }


def filled_by(size: float, price: float, remaining: float, **changes: Any) -> Any:
    fill = {
        "instrument": "PI_XBTUSD",
        "time": 1_700_000_001_000,
        "price": price,
        "seq": 1,
        "buy": True,
        "qty": size,
        "remaining_order_qty": remaining,
        "order_id": "u-1",
        "fill_id": f"f-{size}-{price}",
        "fill_type": "maker",
        "fee_paid": 0.0,
        "fee_currency": "BTC",
        "order_type": "limit",
        **changes,
    }
    return {"feed": "fills", "username": "x", "fills": [fill]}


async def test_an_inverse_order_s_life_adds_up(derivatives: Stage) -> None:
    """30 contracts at 50000 and 70 at 40000 are 30 / 50000 + 70 / 40000 of the base."""
    logged_in(derivatives)
    frame = {"feed": "open_orders", "is_cancel": False, "reason": "new_placed_order_by_user"}
    derivatives.push({**frame, "order": shown()})
    derivatives.push(filled_by(30, 50000, 70))
    derivatives.push({**frame, "reason": "partial_fill", "order": shown(qty=70.0, filled=30.0)})
    derivatives.push(filled_by(70, 40000, 0))
    derivatives.push({**frame, "is_cancel": True, "reason": "full_fill", "order": shown(qty=0.0, filled=100.0)})
    orders = [event for event in derivatives.told if isinstance(event, Order)]
    assert [order.status for order in orders] == ["NEW", "PARTIALLY_FILLED", "FILLED"]
    assert [order.contracts for order in orders] == [100, 100, 100]
    assert orders[1].average_price == 50000
    base = Decimal(30) / 50000 + Decimal(70) / 40000
    assert orders[2].filled_quantity is not None
    assert abs(orders[2].filled_quantity - base) < Decimal("1e-24")


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("cancelled_by_user", "CANCELED"),
        ("dead_man_switch", "CANCELED"),
        ("contract_expired", "EXPIRED"),
        ("post_order_failed_because_it_would_filled", "REJECTED"),
        ("would_not_reduce_position", "REJECTED"),
    ],
)
async def test_the_end_of_an_order_is_told_by_its_ids_alone(derivatives: Stage, reason: str, status: str) -> None:
    logged_in(derivatives)
    derivatives.push({"feed": "open_orders_snapshot", "account": "x", "orders": [shown()]})
    derivatives.push({"feed": "open_orders", "order_id": "u-1", "is_cancel": True, "reason": reason})
    assert derivatives.told[-1].status == status
    assert derivatives.told[-1].client_order_id == "mine-1"


async def test_an_order_that_is_filled_at_once_is_told_as_it_was_asked_for(played: Any, outlet: Any) -> None:
    """The venue's stream shows its fills only."""
    status = {"status": "placed", "order_id": "u-1", "orderEvents": []}
    played.http.answer("POST", "/derivatives/api/v3/sendorder", {"result": "success", "sendStatus": status})
    account = Credentials.of("KRAKEN", "APIKEY", DOCS_SECRET)
    market = await played.market("KRAKEN-PERP-XBT-USD-COINM")
    wanted = OrderRequest.model_validate(
        {"side": "BUY", "price": "50500", "contracts": "30", "time_in_force": "IOC", "client_order_id": "mine-1"}
    )
    await played.venue.place_order(market, wanted, account)
    stage = Stage(played, outlet, "derivatives", account, Ticket())
    logged_in(stage)
    stage.push(filled_by(30, 50000, 0, cli_ord_id="mine-1"))
    _, order = stage.told
    assert (order.status, order.price, order.average_price) == (OrderStatus.FILLED, 50500, 50000)
    assert (order.contracts, order.time_in_force) == (30, "IOC")


async def test_a_stop_that_is_triggered_lives_on(derivatives: Stage) -> None:
    logged_in(derivatives)
    stop = shown(type="stop", stop_price=48000.0, limit_price=None)
    derivatives.push({"feed": "open_orders_snapshot", "account": "x", "orders": [stop]})
    derivatives.push({"feed": "open_orders", "order_id": "u-1", "is_cancel": True, "reason": "stop_order_triggered"})
    (order,) = derivatives.told
    assert (order.type, order.status, order.stop_price) == (OrderType.STOP_MARKET, OrderStatus.NEW, 48000)


async def test_positions_are_told_when_they_change_and_when_they_are_gone(derivatives: Stage) -> None:
    """10000 inverse contracts at a mark of 50000 are 0.2 of the base."""
    logged_in(derivatives)
    row = {"instrument": "PI_XBTUSD", "balance": -10000.0, "entry_price": 40000.0, "mark_price": 50000.0, "pnl": 0.05}
    frame = {"feed": "open_positions", "account": "x", "seq": 1, "timestamp": 1}
    derivatives.push({**frame, "positions": [row]})
    derivatives.push({**frame, "positions": [row | {"mark_price": 50001.0}]})
    derivatives.push({**frame, "positions": []})
    opened, closed = derivatives.told
    assert isinstance(opened, Position)
    assert (opened.side, opened.contracts, opened.quantity) == (PositionSide.SHORT, 10000, Decimal("0.2"))
    assert (opened.entry_price, opened.unrealized_pnl) == (40000, Decimal("0.05"))
    assert (closed.side, closed.quantity) == (PositionSide.SHORT, 0)


async def test_balances_name_rest_s_wallets(derivatives: Stage) -> None:
    logged_in(derivatives)
    futures = {"F-XBT:USD": {"unit": "XBT", "balance": 1.5, "available": 1.25}}
    flex = {"currencies": {"USD": {"quantity": 100.0, "available": 90.0}}}
    frame = {"feed": "balances_snapshot", "account": "x", "holding": {}, "futures": futures, "flex_futures": flex}
    derivatives.push(frame)
    derivatives.push({**frame, "feed": "balances", "holding": {"xbt": 2.0}})
    assert derivatives.told == [
        Balance(asset="BTC", wallet="fi_xbtusd", total=Decimal("1.5"), available=Decimal("1.25")),
        Balance(asset="USD", wallet="flex", total=Decimal(100), available=Decimal(90)),
        Balance(asset="BTC", wallet="cash", total=Decimal(2)),
    ]
    assert single_wallet("F-ETH:USD") == "fi_ethusd"


async def test_fills_from_before_the_stream_are_not_told_and_missed_ones_are(played: Any, outlet: Any) -> None:
    """The venue shows the last hundred at every subscription."""
    await played.venue.markets.all()
    account = Credentials.of("KRAKEN", "APIKEY", DOCS_SECRET)
    first, again = (Stage(played, outlet, "derivatives", account, Ticket()) for _ in range(2))
    again.channel = first.channel
    old, new = filled_by(1, 100, 1, time=1_000)["fills"][0], filled_by(2, 100, 1, time=3_000)["fills"][0]
    for stage, now_ms, fills in ((first, 2_000, [old]), (again, 4_000, [old, new])):
        list(stage.session.opened(now_ms))
        stage.push({"event": "challenge", "message": "c"})
        list(stage.session.subscribe([stage.channel], now_ms))
        stage.push({"feed": "fills_snapshot", "account": "x", "fills": fills})
    assert [event.contracts for event in first.told] == [2]


async def test_a_secret_that_is_none_refuses_the_account_s_stream(played: Any, outlet: Any) -> None:
    stage = Stage(played, outlet, "derivatives", Credentials.of("KRAKEN", "k", "no base64!"), Ticket())
    list(stage.session.opened(0))
    stage.push({"event": "challenge", "message": "c"})
    assert list(stage.session.subscribe([stage.channel], 0)) == []
    ((_, error, _),) = outlet.refusals
    assert isinstance(error, AuthenticationError)
    assert "no base64!" not in str(error)
