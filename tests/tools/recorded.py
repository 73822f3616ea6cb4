"""The recordings of the venues, as the conformance kit takes them: frames, and the books and trades expected of them.

What is expected is given beside the recording (Binance), or made here from its frames by the simplest of means, sharing
nothing with the plugins or the engine: a dictionary a side, then contracts -> base units.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from astra.models.credentials import ApiKey
from astra.models.markets import ContractType, Market
from astra.models.trades import Side
from astra.streams.feed import DataType
from astra.symbols import AssetType
from astra.testing.conformance import RecordedBook, RecordedTrade, Recording, Subject
from astra.testing.played import Recordings

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures"
KEY = ApiKey(key=SecretStr("key-of-the-recordings"), secret=SecretStr("secret-of-the-recordings"))
BEST = 5
"""So many levels a side are compared."""


def market(
    exchange: str, product: str, native: str, *, linear: str | None = None, inverse: str | None = None
) -> Market:
    """A market of a recording; `linear` or `inverse`: what its contract holds, in the base asset or in the quote's."""
    size = linear or inverse
    return Market(
        symbol=f"{exchange}-{'SPOT-A-B' if size is None else 'PERP-A-USD'}",
        asset_type=AssetType.SPOT if size is None else AssetType.PERP,
        base_asset="A",
        quote_asset="B" if size is None else "USD",
        native_symbol=native,
        product=product,
        contract_size=None if size is None else Decimal(size),
        contract_type=None if size is None else ContractType.LINEAR if linear else ContractType.INVERSE,
    )


def base(of: Market, price: Any, amount: Any) -> float:
    """An amount as the venue counts it, in base units."""
    if of.contract_size is None:
        return float(amount)
    held = Decimal(str(amount)) * of.contract_size
    return float(held if of.contract_type is ContractType.LINEAR else held / Decimal(str(price)))


class Sides:
    """A book: price -> amount as the venue writes them."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Any] = {}
        self.asks: dict[Decimal, Any] = {}

    def change(self, bids: Iterable[Any] | None, asks: Iterable[Any] | None) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, amount, *_ in levels or ():
                side[Decimal(str(price))] = amount
                if not float(amount):
                    del side[Decimal(str(price))]

    def best(self, of: Market, update_id: int | None = None) -> RecordedBook:
        return recorded_book(
            of, sorted(self.bids.items(), reverse=True)[:BEST], sorted(self.asks.items())[:BEST], update_id
        )


def recorded_book(of: Market, bids: Iterable[Any], asks: Iterable[Any], update_id: int | None) -> RecordedBook:
    first, second = ([(float(price), base(of, price, amount)) for price, amount in side] for side in (bids, asks))
    return RecordedBook(bids=first, asks=second, update_id=update_id)


def book(of: Market, name: str, frames: Sequence[bytes], expected: RecordedBook, **more: Any) -> Recording:
    return Recording(f"{name} {of.native_symbol} book", of, DataType.ORDERBOOK, frames, book=expected, **more)


def traded(of: Market, name: str, frames: Sequence[bytes], expected: Iterable[tuple[Any, ...]]) -> Iterable[Recording]:
    """`expected`: price, amount, the taker's side, id, time of each trade. A recording without any proves nothing."""
    trades = [RecordedTrade(float(p), base(of, p, a), Side(s.upper()), str(i), t) for p, a, s, i, t in expected]
    if trades:
        yield Recording(f"{name} {of.native_symbol} trades", of, DataType.TRADE, frames, trades=trades)


# --- venue by venue ----------------------------------------------------------------------------------------------


def binance(of: Recordings) -> Subject:
    from astra_binance.feed import BinanceFeed
    from astra_binance.history import decode_snapshot, seed_of
    from astra_binance.settings import BinanceSettings
    from astra_binance.venue import BinanceVenue

    def recordings() -> Iterable[Recording]:
        for name, expected in of.file("expected-books.json")["books"].items():
            product, _, native = name.upper().partition("-")
            size = {"COINM": "100" if native.startswith("BTC") else "10", "USDM": None}.get(product)
            listed = market("BINANCE", product.lower(), native, inverse=size)
            meta, frames = of.stream(name)
            snapshot = of.file(meta["snapshot"])
            seed = seed_of(decode_snapshot(json.dumps(snapshot["body"]).encode()), listed, 1_000_000)
            received = of.received(name)
            parsed = [json.loads(frame) for frame in received]
            rows = [row.get("data", row) for row in parsed]
            # The snapshot is of use once a change that reaches it has come.
            came = [frame["at"] > snapshot["meta"]["at"] for frame in frames if frame["direction"] == "received"]
            seed_at = next(
                index + 1
                for index, row in enumerate(rows)
                if came[index] and row.get("e") == "depthUpdate" and row["u"] > seed.last
            )
            ends = recorded_book(listed, expected["best_bids"], expected["best_asks"], expected["last_update_id"])
            yield book(listed, product.lower(), received, ends, seed=seed, seed_at=seed_at)
            yield from traded(
                listed,
                product.lower(),
                received,
                (
                    (row["p"], row["q"], "SELL" if row["m"] else "BUY", row["a"], row["T"])
                    for row in rows
                    if row.get("e") == "aggTrade"
                ),
            )

    feed = lambda: BinanceFeed(BinanceSettings(), None, lambda *_: None, lambda: None)  # type: ignore[arg-type] # noqa: E731
    return Subject.of(BinanceVenue, feed=feed, recordings=list(recordings()))


def coinbase(of: Recordings) -> Subject:
    from astra_coinbase.feed import CoinbaseFeed
    from astra_coinbase.settings import CoinbaseSettings
    from astra_coinbase.venue import CoinbaseVenue

    def recordings() -> Iterable[Recording]:
        received = of.received("spot-advanced-level2-trades")
        parsed = [json.loads(frame) for frame in received]
        for native in ("BTC-USD", "ETH-USD"):
            listed, sides, trades = market("COINBASE", "spot", native), Sides(), []
            for frame in parsed:
                for event in frame["events"]:
                    if frame["channel"] == "l2_data" and event["product_id"] == native:
                        rows = {
                            side: [
                                (row["price_level"], row["new_quantity"])
                                for row in event["updates"]
                                if row["side"] == side
                            ]
                            for side in ("bid", "offer")
                        }
                        sides.change(rows["bid"], rows["offer"])
                    if frame["channel"] == "market_trades" and event["type"] == "update":
                        trades += [row for row in reversed(event["trades"]) if row["product_id"] == native]
            yield book(listed, "Advanced Trade", received, sides.best(listed))
            yield from traded(
                listed,
                "Advanced Trade",
                received,
                # The venue names the maker's side.
                ((row["price"], row["size"], Side(row["side"]).opposite, row["trade_id"], None) for row in trades),
            )

    feed = lambda: CoinbaseFeed(CoinbaseSettings(), lambda *_: None, lambda: None, {}, {}, {})  # noqa: E731
    return Subject.of(CoinbaseVenue, feed=feed, recordings=list(recordings()))


def htx(of: Recordings) -> Subject:
    from astra_htx.feed import HtxFeed
    from astra_htx.settings import HtxSettings
    from astra_htx.venue import HtxVenue

    def text(frame: Mapping[str, str]) -> bytes:
        return gzip.decompress(base64.b64decode(frame["base64"])) if "base64" in frame else frame["text"].encode()

    def nothing(*_: Any) -> Any:
        """Nobody asks."""

    def recordings() -> Iterable[Recording]:
        received = of.received("fut-coinm-depth-size20-highfreq")
        listed, sides, last = market("HUOBI", "coin_futures", "BTC_CW", inverse="100"), Sides(), 0
        for tick in (json.loads(frame)["tick"] for frame in received):
            sides.change(tick["bids"], tick["asks"])
            last = tick["version"]
        yield book(listed, "20 levels", [gzip.compress(frame) for frame in received], sides.best(listed, last))
        for name, listed in (
            ("spot-depth-step0-trades", market("HUOBI", "spot", "yfihusd")),
            ("spot-depth-step0-trades", market("HUOBI", "spot", "zeneth")),
            ("perp-linear-depth-step0-trades", market("HUOBI", "linear", "GRT-USDT", linear="10")),
            ("perp-linear-depth-step0-trades", market("HUOBI", "linear", "SNX-USDT", linear="1")),
        ):
            topic = f"market.{listed.native_symbol}.trade.detail"
            received = [text(frame) for frame in of.stream(name)[1] if frame["direction"] == "received"]
            parsed = [json.loads(frame) for frame in received]
            since = next(frame["ts"] for frame in parsed if frame.get("subbed") == topic)
            # First comes the last trade of before. Spot has the newest first; contracts are counted on both sides.
            spot = listed.contract_size is None
            ticks = (frame["tick"]["data"] for frame in parsed if frame.get("ch") == topic)
            expected = (
                (row["price"], row["amount"], row["direction"], row["tradeId"], row["ts"])
                if spot
                else (row["price"], row["amount"] / 2, row["direction"], row["id"], row["ts"])
                for rows in ticks
                for row in (reversed(rows) if spot else rows)
                if row["ts"] >= since
            )
            yield from traded(listed, name, [gzip.compress(frame) for frame in received], expected)

    feed = lambda: HtxFeed(HtxSettings(derivatives_book_levels=20), *[nothing] * 5)  # noqa: E731
    return Subject.of(HtxVenue, feed=feed, recordings=list(recordings()))


def kraken(of: Recordings) -> Subject:
    from astra_kraken.feed import KrakenFeed
    from astra_kraken.markets import Pair, SpotPairs
    from astra_kraken.settings import KrakenSettings
    from astra_kraken.venue import KrakenVenue

    def contracts(name: str, native: str) -> Recording:
        listed, received, sides, last = (
            market("KRAKEN", "derivatives", native, inverse="1"),
            of.received(name),
            Sides(),
            0,
        )
        for row in (json.loads(frame) for frame in received):
            if row.get("product_id") != native:
                continue
            levels = row if row["feed"] == "book_snapshot" else {{"buy": "bids", "sell": "asks"}[row["side"]]: [row]}
            sides.change(*([(one["price"], one["qty"]) for one in levels.get(side, ())] for side in ("bids", "asks")))
            last = row["seq"]
        return book(listed, "Derivatives", received, sides.best(listed, last))

    def recordings() -> Iterable[Recording]:
        received = of.received("streams/spot-book-v2-btcusd")
        spot, sides = market("KRAKEN", "spot", "BTC/USD"), Sides()
        for (row,) in (json.loads(frame, parse_float=Decimal)["data"] for frame in received):
            sides.change(*([(one["price"], one["qty"]) for one in row[side]] for side in ("bids", "asks")))
            # What leaves the subscribed depth is not told of.
            sides.bids = dict(sorted(sides.bids.items(), reverse=True)[:10])
            sides.asks = dict(sorted(sides.asks.items())[:10])
        yield book(spot, "Spot", received, sides.best(spot))
        yield contracts("streams/perp-book-inverse-pi_ethusd", "PI_ETHUSD")
        for native in ("FI_XBTUSD_210924", "FI_ETHUSD_210730"):
            yield contracts("streams/fut-book-inverse", native)
        received = of.received("streams/perp-fut-trade")
        rows = [json.loads(frame) for frame in received]
        live = [row for row in rows if row.get("feed") == "trade" and "event" not in row]
        for native in sorted({row["product_id"] for row in live}):
            own = (row for row in live if row["product_id"] == native)
            expected = ((row["price"], row["qty"], row["side"], row["uid"], row["time"]) for row in own)
            yield from traded(market("KRAKEN", "derivatives", native, inverse="1"), "Derivatives", received, expected)

    def feed() -> KrakenFeed:
        pairs = SpotPairs()
        pairs.read([Pair("BTC/USD", "BTCUSD", "BTC/USD", 1, 8)])
        return KrakenFeed(KrakenSettings(spot_book_depth=10), pairs)

    return Subject.of(KrakenVenue, feed=feed, recordings=list(recordings()))


def kucoin(of: Recordings) -> Subject:
    from astra_kucoin.feed import KucoinFeed
    from astra_kucoin.settings import KucoinSettings
    from astra_kucoin.trading.rows import Notes
    from astra_kucoin.venue import KucoinVenue

    def recordings() -> Iterable[Recording]:
        for name, listed in (
            ("uta-public-spot", market("KUCOIN", "spot", "BTC-USDT")),
            ("uta-public-perp", market("KUCOIN", "futures", "XBTUSDTM", linear="0.001")),
        ):
            received = of.received("uta-control-frames") + of.received(name)
            rows = [frame["d"] for frame in map(json.loads, received) if str(frame.get("T")).startswith("trade.")]
            expected = ((row["p"], row["q"], row["S"], row["ti"], int(row["M"]) // 1_000_000) for row in rows)
            yield from traded(listed, "Unified", received, expected)

    feed = lambda: KucoinFeed(KucoinSettings(), lambda *_: None, lambda: None, Notes(10), lambda *_: KEY)  # noqa: E731
    return Subject.of(KucoinVenue, feed=feed, recordings=list(recordings()))


def okx(of: Recordings) -> Subject:
    from astra_okx.feed import OkxFeed
    from astra_okx.settings import OkxSettings
    from astra_okx.venue import OkxVenue

    def of_today(frames: Iterable[bytes], sides: Sides) -> Iterable[bytes]:
        """Frames of 2022 with the ids that such frames carry today."""
        last = 100
        for text in frames:
            frame = json.loads(text)
            if frame.get("arg", {}).get("channel") == "books" and "action" in frame:
                for row in frame["data"]:
                    sides.change(row["bids"], row["asks"])
                    row["prevSeqId"] = -1 if frame["action"] == "snapshot" else last
                    last = row["seqId"] = last + 7
            yield json.dumps(frame).encode()

    def recordings() -> Iterable[Recording]:
        for name, listed in (
            ("spot-books-trades-ticker", market("OKX", "spot", "BTC-USDT")),
            ("fut-inverse-books-trades-ticker", market("OKX", "futures", "BTC-USD-220527", inverse="100")),
        ):
            sides = Sides()
            received = list(of_today(of.received(name), sides))
            yield book(listed, "2022", received, sides.best(listed))
            rows = [row for frame in map(json.loads, received) for row in frame.get("data", ()) if "tradeId" in row]
            expected = ((row["px"], row["sz"], row["side"], row["tradeId"], int(row["ts"])) for row in rows)
            yield from traded(listed, "2022", received, expected)

    feed = lambda: OkxFeed(OkxSettings(), lambda _: None, lambda: None, lambda _: KEY, lambda: None)  # noqa: E731
    return Subject.of(OkxVenue, feed=feed, recordings=list(recordings()))


VENUES: Mapping[str, tuple[str, Callable[[Recordings], Subject]]] = {
    "BINANCE": ("binance", binance),
    "COINBASE": ("coinbase", coinbase),
    "HUOBI": ("htx", htx),
    "KRAKEN": ("kraken", kraken),
    "KUCOIN": ("kucoin", kucoin),
    "OKX": ("okx", okx),
}
"""Code of the exchange -> the folder of its recordings, and what makes the kit's subject of them."""


def recorded_subjects(codes: Iterable[str]) -> list[Subject]:
    """Those of the named venues whose recordings are here."""
    found = []
    for code in codes:
        folder, made = VENUES[code]
        if (CAPTURES / folder).is_dir():
            found.append(made(Recordings(CAPTURES / folder)))
    return found
