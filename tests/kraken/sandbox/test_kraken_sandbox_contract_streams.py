"""The derivatives stream: books by sequence number, trades, tickers, challenge, account feeds."""

from decimal import Decimal
from random import Random

import pytest

PF = "KRAKEN-PERP-XBT-USD"
PI = "KRAKEN-PERP-XBT-USD-COINM"


@pytest.fixture
def client(venue):
    return venue.connect("derivatives_stream")


def of_feed(frames, feed):
    return [frame for frame in frames if frame.get("feed") == feed and "event" not in frame]


class TestBook:
    def test_frames_look_like_the_recorded_ones(self, venue, client, captured_frames, unlike):
        recorded = captured_frames("fut-book-inverse")
        assert client.hello == [recorded[0]] == [{"event": "info", "version": 1}]
        venue.crowd(PI, "BUY", "1130", "89999.5")
        ack, snapshot = client.feed("book", "pi_xbtusd")
        assert ack == {"event": "subscribed", "feed": "book", "product_ids": ["PI_XBTUSD"]}
        theirs = next(frame for frame in recorded if frame.get("feed") == "book_snapshot")
        assert unlike(snapshot, theirs) == []
        assert snapshot.keys() == theirs.keys()
        venue.crowd(PI, "SELL", "30", "89999.5")
        (delta,) = client.line.take()
        theirs = next(frame for frame in recorded if frame.get("feed") == "book" and "event" not in frame)
        assert unlike(delta, theirs) == []
        assert delta.keys() == theirs.keys()
        assert (delta["side"], delta["price"], delta["qty"]) == ("buy", Decimal("89999.5"), 1100)

    def test_numbers_grow_by_one_a_level_and_the_book_is_the_engines_at_each_change(self, venue, client):
        random = Random(7)
        for level in range(20):
            venue.crowd(PF, "BUY", "0.5", f"{90000 - level}")
            venue.crowd(PF, "SELL", "0.5", f"{90001 + level}")
        _, snapshot = client.feed("book", "PF_XBTUSD")
        sides = {
            name: {row["price"]: row["qty"] for row in snapshot[key]}
            for name, key in (("buy", "bids"), ("sell", "asks"))
        }
        seq = snapshot["seq"]
        change, _, _ = venue.engine.depth(PF, 1)
        assert venue.sandbox.update_id(PF, change) == seq
        several = 0
        for _ in range(300):
            side = random.choice(["BUY", "SELL"])
            price = f"{random.randrange(89980, 90021)}" if random.random() < 0.8 else None
            venue.crowd(PF, side, f"0.{random.randrange(1, 9999):04d}", price)
            frames = client.line.take()
            several += len(frames) > 1
            for frame in frames:
                seq += 1
                assert frame["seq"] == seq
                book = sides[frame["side"]]
                if frame["qty"]:
                    book[frame["price"]] = frame["qty"]
                else:
                    del book[frame["price"]]
                assert max(sides["buy"], default=0) < min(sides["sell"], default=10**9)
            change, bids, asks = venue.engine.depth(PF, 1000)
            assert venue.sandbox.update_id(PF, change) == seq
            assert venue.sandbox.change_id(PF, seq) == change
            assert sides["buy"] == {amount.price: amount.quantity for amount in bids}
            assert sides["sell"] == {amount.price: amount.quantity for amount in asks}
        assert several > 10

    def test_the_middle_of_a_change_is_no_change(self, venue, client):
        venue.crowd(PF, "SELL", "1", "90000")
        venue.crowd(PF, "SELL", "1", "90001")
        client.feed("book", "PF_XBTUSD")
        venue.crowd(PF, "BUY", "2")
        first, second = client.line.take()
        assert venue.sandbox.change_id(PF, second["seq"])
        with pytest.raises(LookupError):
            venue.sandbox.change_id(PF, first["seq"])

    def test_numbers_go_on_while_nobody_listens(self, venue, client):
        _, before = client.feed("book", "PF_XBTUSD")
        (left,) = client.send({"event": "unsubscribe", "feed": "book", "product_ids": ["PF_XBTUSD"]})
        assert left["event"] == "unsubscribed"
        venue.crowd(PF, "BUY", "1", "90000")
        assert client.line.take() == []
        _, after = client.feed("book", "PF_XBTUSD")
        assert after["seq"] == before["seq"] + 1


class TestPublicFeeds:
    def test_trades_come_with_their_snapshot_newest_first(self, venue, client, captured_frames, unlike):
        venue.crowd(PI, "SELL", "100", "90000")
        venue.crowd(PI, "BUY", "40", "90000")
        venue.crowd(PI, "BUY", "10", "90000")
        _, snapshot = client.feed("trade", "PI_XBTUSD")
        recorded = captured_frames("perp-fut-trade")
        assert unlike(snapshot, next(f for f in recorded if f.get("feed") == "trade_snapshot")) == []
        numbers = [trade["seq"] for trade in snapshot["trades"]]
        assert numbers == sorted(numbers, reverse=True)
        venue.crowd(PI, "BUY", "5", "90000")
        (trade,) = client.line.take()
        live = next(f for f in recorded if f.get("feed") == "trade" and "event" not in f)
        assert unlike(trade, live) == []
        assert trade.keys() == live.keys()
        assert (trade["seq"], trade["side"], trade["qty"]) == (numbers[0] + 1, "buy", 5)

    def test_tickers_are_sent_once_a_second(self, venue, client, captured_frames, unlike):
        _, first = client.feed("ticker", "PF_XBTUSD")
        theirs = captured_frames("perp-ticker-pf_ethusd")[-1]
        assert unlike(first, theirs) == []
        _, lite = client.feed("ticker_lite", "PF_XBTUSD")
        assert unlike(lite, captured_frames("perp-fut-ticker-lite")[-1]) == []
        venue.crowd(PF, "BUY", "1", "90000")
        venue.crowd(PF, "BUY", "1", "90001")
        tickers = of_feed(client.after(3000), "ticker")
        assert [frame["bid"] for frame in tickers] == [90001]

    def test_each_product_is_acknowledged_or_refused(self, client):
        frames = client.feed("trade", "PF_XBTUSD", "PF_NOPE", "PI_XBTUSD")
        assert [frame.get("event") for frame in frames[:3]] == ["subscribed", "error", "subscribed"]
        assert frames[1]["message"] == "Invalid product id"

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            ("{", "Json Error"),
            ({"event": "subscribe", "feed": "books"}, "Invalid feed"),
            ({"event": "subscribe", "feed": "book"}, "Invalid product id"),
            ({"event": "nope"}, "Invalid event"),
            ({"event": "subscribe", "feed": "book", "products": []}, "Invalid field products"),
        ],
    )
    def test_nonsense_is_an_error(self, client, frame, message):
        assert client.send(frame) == [{"event": "error", "message": message}]

    def test_a_client_that_says_nothing_for_a_minute_is_dropped(self, venue, client):
        client.feed("trade", "PF_XBTUSD")
        client.after(59_000)
        client.session.ping(b"")
        client.after(59_000)
        assert client.line.closed is None
        client.after(1000)
        assert client.line.closed == 1000

    def test_heartbeats_are_a_feed(self, client):
        assert client.feed("heartbeat") == [{"event": "subscribed", "feed": "heartbeat"}]
        beats = client.after(3000)
        assert [beat["feed"] for beat in beats] == ["heartbeat"] * 3

    def test_too_many_messages_are_refused(self, client):
        frames = [client.send({"event": "nope"})[0] for _ in range(101)]
        assert frames[-1]["event"] == "alert"


class TestAccess:
    def test_a_challenge_is_signed_for_every_private_feed(self, venue, client, captured_frames, unlike):
        signed = venue.signed_feed(client)
        assert venue.signed_feed(client) == signed, "one challenge a connection"
        ack, snapshot = client.feed("fills", **signed)
        assert ack == {"event": "subscribed", "feed": "fills"}
        assert snapshot["fills"] == []
        for wrong in ({}, signed | {"signed_challenge": "AAAA"}, signed | {"api_key": "nobody"}):
            (frame,) = client.feed("open_orders", **wrong)
            assert frame["event"] == "alert"

    def test_a_challenge_is_good_for_its_connection_only(self, venue, client):
        signed = venue.signed_feed(client)
        other = venue.connect("derivatives_stream")
        assert venue.signed_feed(other)["original_challenge"] != signed["original_challenge"]
        (frame,) = other.feed("fills", **signed)
        assert frame["event"] == "alert"


@pytest.fixture
def user(venue, client):
    client.signed = venue.signed_feed(client)
    return client


class TestOpenOrders:
    def test_an_orders_life(self, venue, user, captured_frames, unlike):
        _, snapshot = user.feed("open_orders", **user.signed)
        documented = captured_frames("futures-private-documented")
        assert unlike(snapshot, documented[1]) == []
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000)
        (new,) = user.line.take()
        assert unlike(new, documented[2]) == []
        assert (new["reason"], new["is_cancel"], new["order"]["qty"]) == ("new_placed_order_by_user", False, 1)
        assert new["order"]["order_id"] == sent["order_id"]
        venue.crowd(PF, "SELL", "0.4", "90000")
        (part,) = user.line.take()
        assert (part["reason"], part["order"]["qty"], part["order"]["filled"]) == (
            "partial_fill",
            Decimal("0.6"),
            Decimal("0.4"),
        )
        venue.contracts("POST", "editorder", orderId=sent["order_id"], limitPrice=90001)
        (edited,) = user.line.take()
        assert (edited["reason"], edited["order"]["limit_price"]) == ("edited_by_user", 90001)
        venue.crowd(PF, "SELL", "0.6", "90001")
        (full,) = user.line.take()
        theirs = next(frame for frame in documented if frame.get("reason") == "full_fill")
        assert unlike(full, theirs) == []
        assert full.keys() == theirs.keys()
        assert (full["is_cancel"], full["order"]["qty"], full["order"]["filled"]) == (True, 0, 1)

    def test_a_cancelled_order_is_only_its_ids(self, venue, user, captured_frames, unlike):
        user.feed("open_orders", **user.signed)
        sent = venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=80000, cliOrdId="mine")
        (new,) = user.line.take()
        assert new["order"]["cli_ord_id"] == "mine"
        venue.contracts("POST", "cancelorder", order_id=sent["order_id"])
        (gone,) = user.line.take()
        assert gone == {
            "feed": "open_orders",
            "order_id": sent["order_id"],
            "cli_ord_id": "mine",
            "is_cancel": True,
            "reason": "cancelled_by_user",
        }

    def test_an_order_that_never_rests_is_told_only_as_fills(self, venue, user):
        user.feed("open_orders", **user.signed)
        user.feed("fills", **user.signed)
        venue.crowd(PF, "SELL", "1", "90000")
        venue.send("mkt", "PF_XBTUSD", "buy", "1")
        assert [frame["feed"] for frame in user.line.take()] == ["fills"]

    def test_the_switch_gives_its_reason(self, venue, user):
        user.feed("open_orders", **user.signed)
        venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=80000)
        venue.contracts("POST", "cancelallordersafter", timeout=1)
        frames = user.after(1100)
        assert frames[-1]["reason"] == "dead_man_switch"

    def test_a_stop_is_of_type_stop_until_it_is_triggered(self, venue, user):
        venue.crowd(PF, "SELL", "1", "90000")
        venue.crowd(PF, "BUY", "0.1", "90000")
        venue.send("stp", "PF_XBTUSD", "sell", "0.5", stopPrice=89000, triggerSignal="last")
        _, snapshot = user.feed("open_orders", **user.signed)
        (row,) = snapshot["orders"]
        assert (row["type"], row["stop_price"], row["direction"]) == ("stop", 89000, 1)
        venue.crowd(PF, "BUY", "2", "88900")
        venue.crowd(PF, "SELL", "0.1", "88900")
        assert user.line.take()[0]["reason"] == "stop_order_triggered"


class TestFills:
    def test_fills_carry_fees_and_client_ids_in_updates(self, venue, user, captured_frames, unlike):
        user.feed("fills", **user.signed)
        venue.crowd(PI, "SELL", "9000", "90000")
        venue.send("lmt", "PI_XBTUSD", "buy", "9000", limitPrice=90000, cliOrdId="mine")
        (frame,) = user.line.take()
        documented = captured_frames("futures-private-documented")[-1]
        assert unlike(frame, documented) == []
        assert frame.keys() == documented.keys()
        (fill,) = frame["fills"]
        assert fill.keys() == documented["fills"][0].keys()
        assert (fill["fee_currency"], fill["fee_paid"], fill["cli_ord_id"]) == ("BTC", Decimal("0.00005"), "mine")
        (row,) = venue.contracts("GET", "fills")["fills"]
        assert row["fill_id"] == fill["fill_id"]

    def test_the_snapshot_has_no_client_ids(self, venue, user):
        venue.crowd(PF, "SELL", "1", "90000")
        venue.send("lmt", "PF_XBTUSD", "buy", "1", limitPrice=90000, cliOrdId="mine")
        _, snapshot = user.feed("fills", **user.signed)
        (fill,) = snapshot["fills"]
        assert "cli_ord_id" not in fill


class TestMoney:
    def test_positions_are_told_whole_and_signed(self, venue, user):
        _, empty = user.feed("open_positions", **user.signed)
        assert empty["positions"] == []
        venue.crowd(PF, "BUY", "1", "90000")
        venue.send("mkt", "PF_XBTUSD", "sell", "0.5")
        frame = of_feed(user.line.take(), "open_positions")[-1]
        (row,) = frame["positions"]
        assert (row["instrument"], row["balance"], row["entry_price"]) == ("PF_XBTUSD", Decimal("-0.5"), 90000)
        assert frame["seq"] > empty["seq"]
        venue.crowd(PF, "SELL", "1", "90010")
        venue.send("mkt", "PF_XBTUSD", "buy", "0.5")
        assert of_feed(user.line.take(), "open_positions")[-1]["positions"] == []

    def test_balances_are_the_engines(self, venue, user):
        _, snapshot = user.feed("balances", **user.signed)
        assert snapshot["feed"] == "balances_snapshot"
        venue.crowd(PF, "BUY", "1", "90000")
        venue.send("mkt", "PF_XBTUSD", "sell", "0.5")
        frame = of_feed(user.line.take(), "balances")[-1]
        totals = {(b.wallet, b.asset): b for b in venue.engine.balances(venue.account)}
        held = frame["flex_futures"]["currencies"]["USD"]
        assert (held["quantity"], held["available"]) == (
            totals["flex", "USD"].total,
            totals["flex", "USD"].available,
        )
        assert frame["futures"]["F-XBT:USD"]["balance"] == totals["fi_xbtusd", "BTC"].total

    def test_nothing_is_told_after_unsubscribing(self, venue, user):
        user.feed("balances", **user.signed)
        (left,) = user.send({"event": "unsubscribe", "feed": "balances", **user.signed})
        assert left == {"event": "unsubscribed", "feed": "balances"}
        venue.crowd(PF, "BUY", "1", "90000")
        venue.send("mkt", "PF_XBTUSD", "sell", "0.5")
        assert user.after(2000) == []
