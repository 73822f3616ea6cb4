"""The gateway's channels: books by change ids, trades, tickers, and what an account is told."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import pytest

LINEAR, AAVE, INVERSE = "COINBASE-PERP-BTC-USDC", "COINBASE-PERP-AAVE-USDC", "COINBASE-PERP-BTC-USD-COINM"
LIMIT: dict[str, Any] = {"instrument_name": "BTC_USDC-PERPETUAL", "amount": 0.01, "type": "limit", "price": 50000}


def told(frames: Sequence[Any], channel: str) -> list[Any]:
    """What the notifications of a channel say."""
    return [frame["params"]["data"] for frame in frames if frame.get("params", {}).get("channel") == channel]


class Book:
    """A book kept by the gateway's rules; it refuses what breaks them."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
        self.change_id: int | None = None

    def apply(self, data: Any) -> None:
        if data["type"] == "snapshot":
            assert "prev_change_id" not in data
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert data["prev_change_id"] == self.change_id
            assert data["change_id"] > data["prev_change_id"]
            assert data["bids"] or data["asks"]
        self.change_id = data["change_id"]
        for name, levels in self.sides.items():
            for action, price, amount in data[name]:
                assert (action == "new") == (price not in levels)
                if action == "delete":
                    assert amount == 0.0
                    del levels[price]
                else:
                    levels[price] = amount


def engine_sides(venue: Any, symbol: str) -> dict[str, dict[float, float]]:
    _, bids, asks = venue.engine.depth(symbol, 10**6)
    size = venue.engine.markets[symbol].contract_size
    return {
        name: {float(level.price): float(level.quantity * size) for level in levels}
        for name, levels in (("bids", bids), ("asks", asks))
    }


class TestBooks:
    @pytest.mark.parametrize(
        ("channel", "private", "every_ms"),
        [("book.{}.raw", True, 50), ("book.{}.100ms", False, 100), ("book.{}.agg2", False, 1000)],
    )
    @pytest.mark.parametrize("symbol", [LINEAR, INVERSE])
    def test_changes_chain_and_give_the_engines_book(
        self, venue: Any, symbol: str, channel: str, private: bool, every_ms: int
    ) -> None:
        random, book = Random(7), Book()
        name = channel.format(venue.engine.markets[symbol].native_symbol)
        client = venue.gateway(private=private)
        venue.crowd(symbol, "BUY", "10", "89990")
        method = "private/subscribe" if private else "public/subscribe"
        assert client.call(method, channels=[name])["result"] == [name]
        frames = client.line.take()
        for _ in range(40):
            for _ in range(random.randrange(6)):
                price = str(90_000 + random.randrange(-6, 7))
                venue.crowd(symbol, random.choice(["BUY", "SELL"]), str(random.randrange(1, 20)), price)
            frames += client.after(50)
        frames += client.after(every_ms)
        for data in told(frames, name):
            book.apply(data)
        assert book.sides == engine_sides(venue, symbol)
        assert book.change_id is not None
        assert venue.sandbox.change_id(symbol, book.change_id) <= venue.engine.depth(symbol, 1)[0]

    def test_frames_have_the_recorded_keys(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        recorded = {
            (frame["params"]["channel"].partition(".")[0], frame["params"]["data"].get("type")): frame
            for frame in captured_frames("opt-gateway-protocol-book-ticker")
            if "params" in frame
        }
        client = venue.gateway(private=False)
        client.call("public/subscribe", channels=["book.BTC-PERPETUAL.100ms"])
        venue.crowd(INVERSE, "BUY", "10", "90000")
        first, second = client.line.take() + client.after(100)
        for ours, kind in ((first, "snapshot"), (second, "change")):
            theirs = recorded["book", kind]
            assert ours.keys() == theirs.keys()
            assert ours["params"]["data"].keys() == theirs["params"]["data"].keys()
            assert not unlike(ours, theirs)

    def test_what_nets_to_nothing_is_not_told(self, venue: Any) -> None:
        client, name = venue.gateway(private=False), "book.BTC_USDC-PERPETUAL.100ms"
        client.call("public/subscribe", channels=[name])
        snapshot = told(client.line.take(), name)[0]
        venue.crowd(LINEAR, "BUY", "10", "90000")
        venue.crowd(LINEAR, "SELL", "10", "90000")
        assert client.after(200) == []
        venue.crowd(LINEAR, "BUY", "10", "90000")
        (change,) = told(client.after(100), name)
        assert change["prev_change_id"] == snapshot["change_id"]

    def test_late_subscribers_join_the_chain(self, venue: Any) -> None:
        name = "book.BTC_USDC-PERPETUAL.100ms"
        first, late = venue.gateway(private=False), venue.gateway(private=False)
        first.call("public/subscribe", channels=[name])
        venue.crowd(LINEAR, "BUY", "10", "90000")
        late.call("public/subscribe", channels=[name])
        book = Book()
        venue.crowd(LINEAR, "BUY", "5", "90000")
        for data in told(late.line.take() + late.after(100), name):
            book.apply(data)
        assert book.sides == engine_sides(venue, LINEAR)

    def test_a_grouped_book_is_told_whole(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any
    ) -> None:
        name = "book.BTC-PERPETUAL.none.10.100ms"
        client = venue.gateway(private=False)
        client.call("public/subscribe", channels=[name])
        client.line.take()
        for price in range(12):
            venue.crowd(INVERSE, "BUY", "1", str(90_000 + price))
        (data,) = told(client.after(100), name)
        assert [price for price, _ in data["bids"]] == [float(90_011 - n) for n in range(10)]
        (theirs,) = told(captured_frames("perp-gateway-protocol-documented"), name)
        assert not unlike(data, theirs)


class TestMarketChannels:
    @pytest.mark.parametrize(
        "channel", ["trades.BTC-PERPETUAL.100ms", "quote.BTC-PERPETUAL", "ticker.BTC-PERPETUAL.100ms"]
    )
    def test_have_the_documented_keys(
        self, venue: Any, captured_frames: Callable[[str], Sequence[Any]], unlike: Any, channel: str
    ) -> None:
        client = venue.gateway(private=False)
        assert client.call("public/subscribe", channels=[channel])["result"] == [channel]
        venue.crowd(INVERSE, "BUY", "10", "90000")
        venue.crowd(INVERSE, "SELL", "5", "90000")
        ours = told(client.line.take() + client.after(100), channel)[-1]
        (theirs,) = told(captured_frames("perp-gateway-protocol-documented"), channel)
        assert not unlike(ours, theirs)

    def test_trades_come_oldest_first_with_the_takers_side(self, venue: Any) -> None:
        client = venue.gateway(private=False)
        channels = ["trades.AAVE_USDC-PERPETUAL.100ms", "trades.future.USDC.100ms"]
        assert client.call("public/subscribe", channels=channels)["result"] == channels
        for quantity in ("100", "200"):
            venue.crowd(AAVE, "BUY", quantity, "150")
            venue.crowd(AAVE, "SELL", quantity, "150")
        frames = client.after(100)
        for channel in channels:
            (data,) = told(frames, channel)
            assert [(row["amount"], row["direction"]) for row in data] == [(1.0, "sell"), (2.0, "sell")]
            assert data[1]["trade_seq"] == data[0]["trade_seq"] + 1

    @pytest.mark.parametrize(
        "channel",
        [
            "book.BTC-PERP.100ms",
            "book.BTC-PERPETUAL.raw",
            "trades.BTC-PERPETUAL.raw",
            "book.BTC-PERPETUAL.50ms",
            "book.BTC-PERPETUAL",
            "boook.BTC-PERPETUAL.100ms",
            "book.BTC-PERPETUAL.none.7.100ms",
            "user.orders.BTC-PERPETUAL.raw",
            "quote.BTC-PERP",
            "",
        ],
    )
    def test_channels_that_are_not_there_are_left_out_in_silence(self, venue: Any, channel: str) -> None:
        good = "quote.BTC-PERPETUAL"
        answer = venue.gateway(private=False).call("public/subscribe", channels=[channel, good])
        assert answer["result"] == [good]

    def test_unsubscribing_ends_it(self, venue: Any) -> None:
        client = venue.gateway(private=False)
        channels = ["book.BTC-PERPETUAL.100ms", "quote.BTC-PERPETUAL"]
        client.call("public/subscribe", channels=channels)
        assert client.call("public/unsubscribe", channels=channels[:1])["result"] == channels[:1]
        assert client.call("public/unsubscribe_all")["result"] == "ok"
        client.line.take()
        venue.crowd(INVERSE, "BUY", "10", "90000")
        assert client.after(200) == []


class TestUserChannels:
    def listen(self, venue: Any, *channels: str) -> Any:
        client = venue.gateway(private=True)
        assert client.call("private/subscribe", channels=list(channels))["result"] == list(channels)
        return client

    def test_raw_orders_come_one_by_one_before_the_answer(self, venue: Any) -> None:
        name = "user.orders.BTC_USDC-PERPETUAL.raw"
        client = self.listen(venue, name)
        placed = client.call("private/buy", **LIMIT, label="mine")["result"]["order"]
        assert told(client.line.take(), name) == [placed]
        venue.crowd(LINEAR, "SELL", "40", "50000")
        (filling,) = told(client.line.take(), name)
        assert (filling["filled_amount"], filling["order_state"], filling["label"]) == (0.004, "open", "mine")
        client.call("private/cancel", order_id=placed["order_id"])
        assert [row["order_state"] for row in told(client.line.take(), name)] == ["cancelled"]

    def test_in_intervals_they_come_as_a_list(self, venue: Any) -> None:
        name = "user.orders.any.any.100ms"
        client = self.listen(venue, name)
        for price in (50000, 50001):
            client.call("private/buy", **LIMIT | {"price": price})
        assert client.line.take() == []
        (rows,) = told(client.after(100), name)
        assert [row["price"] for row in rows] == [50000.0, 50001.0]

    def test_changes_tell_orders_trades_and_positions_together(self, venue: Any) -> None:
        changes, trades = "user.changes.future.any.raw", "user.trades.BTC_USDC-PERPETUAL.raw"
        client = self.listen(venue, changes, trades)
        venue.crowd(LINEAR, "SELL", "100", "50000")
        client.call("private/buy", **LIMIT)
        frames = client.line.take()
        (mine,) = [row for rows in told(frames, trades) for row in rows]
        assert (mine["amount"], mine["direction"], mine["liquidity"]) == (0.01, "buy", "T")
        parts = told(frames, changes)
        assert {part["instrument_name"] for part in parts} == {"BTC_USDC-PERPETUAL"}
        assert [row["order_state"] for part in parts for row in part["orders"]] == ["open", "filled"]
        assert [row["size"] for part in parts for row in part["positions"]] == [0.01]
        assert [row["trade_id"] for part in parts for row in part["trades"]] == [mine["trade_id"]]

    def test_a_triggered_stop_is_told_under_both_ids(self, venue: Any) -> None:
        name = "user.orders.any.any.raw"
        client = self.listen(venue, name)
        venue.crowd(LINEAR, "BUY", "1", "49000")
        venue.crowd(LINEAR, "SELL", "1", "49000")
        stop = LIMIT | {"type": "stop_limit", "trigger": "last_price", "trigger_price": 50000, "price": 50500}
        number = client.call("private/buy", **stop)["result"]["order"]["order_id"]
        client.line.take()
        venue.crowd(LINEAR, "SELL", "200", "50000")
        venue.crowd(LINEAR, "BUY", "1", "50000")
        rows = told(client.line.take(), name)
        assert [(row["order_id"] == number, row["order_state"]) for row in rows] == [
            (True, "triggered"),
            (False, "filled"),
        ]

    def test_the_portfolio_of_a_currency(self, venue: Any) -> None:
        name = "user.portfolio.usdc"
        client = self.listen(venue, name)
        client.call("private/buy", **LIMIT | {"amount": 1})
        client.call("private/buy", **LIMIT | {"instrument_name": "BTC-PERPETUAL", "amount": 10})
        (row,) = told(client.line.take(), name)
        assert (row["currency"], row["initial_margin"]) == ("USDC", 2500.0)

    def test_others_hear_nothing(self, venue: Any) -> None:
        client = self.listen(venue, "user.orders.any.any.raw", "user.portfolio.any")
        venue.own(LINEAR, "BUY", "100", "50000", venue.open_account("other"))
        venue.own("COINBASE-SPOT-BTC-USD", "BUY", "1", "50000")
        assert client.line.take() == []

    @pytest.mark.parametrize(
        "channel", ["user.orders.BTC-PERP.raw", "user.order.any.any.raw", "user.portfolio.doge", "user"]
    )
    def test_channels_that_are_not_there_are_left_out(self, venue: Any, channel: str) -> None:
        client = venue.gateway(private=True)
        assert client.call("private/subscribe", channels=[channel])["result"] == []


def test_book_ids_translate_both_ways_and_spot_has_none(venue: Any) -> None:
    for change_id in (1, 10**9, 10**9 + 1):
        assert venue.sandbox.change_id(LINEAR, venue.sandbox.update_id(LINEAR, change_id)) == change_id
    with pytest.raises(LookupError, match="no ids"):
        venue.sandbox.update_id("COINBASE-SPOT-BTC-USD", 1)


def test_amounts_are_exact(venue: Any) -> None:
    client, name = venue.gateway(private=False), "book.BTC_USDC-PERPETUAL.100ms"
    venue.crowd(LINEAR, "BUY", "12345", "90000.5")
    client.call("public/subscribe", channels=[name])
    (snapshot,) = told(client.line.take(), name)
    assert snapshot["bids"] == [["new", 90000.5, float(Decimal("1.2345"))]]
