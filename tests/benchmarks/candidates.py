"""What is measured: one library, in a process of its own, following one book of `frame_server`.

`python candidates.py NAME PORT GROUP FRAMES` prints {"cpu_us": per frame, "correct": ...}. The clock is the process's
own CPU time between the request for the frames and the last of them having reached the consumer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from typing import Any

import msgspec


class Run:
    """One measurement: ask for the frames, see the last, compare the book."""

    def __init__(self, port: int, group: int, frames: int) -> None:
        self.port, self.group, self.frames = port, group, frames
        self.expected: dict[str, Any] = {}
        self.seen = 0
        self.started = 0.0
        self.cpu = 0.0

    async def go(self) -> None:
        url = f"http://127.0.0.1:{self.port}/go?group={self.group}&frames={self.frames}"

        def fetch() -> dict[str, Any]:
            with urllib.request.urlopen(url, timeout=120) as answer:
                return dict(json.load(answer))

        answer = await asyncio.to_thread(fetch)
        self.expected = answer["markets"]
        self.started = time.process_time()

    @property
    def last(self) -> int:
        return int(max(market["last"] for market in self.expected.values())) if self.expected else 2**62

    def finish(self) -> None:
        self.cpu = time.process_time() - self.started

    def report(self, best_bid: float | None, best_ask: float | None, symbol: str = "BTCUSDT", **more: Any) -> None:
        truth = self.expected.get(symbol, {})
        correct = best_bid is None or (
            abs(best_bid - truth["best_bid"]) < 1e-6 and abs((best_ask or 0.0) - truth["best_ask"]) < 1e-6
        )
        result = {"cpu_us": self.cpu / self.frames * 1e6, "correct": correct, **more}
        sys.stdout.write(json.dumps(result) + "\n")


class Depth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """The floor decodes what Astra decodes: ids as integers, levels as floats."""

    s: str
    U: int
    u: int
    pu: int
    T: int
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]


async def floor(run: Run) -> None:
    """picows and a typed msgspec decode, nothing else."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    decode = msgspec.json.Decoder(Depth, strict=False).decode
    done = asyncio.Event()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is not WSMsgType.TEXT:
                return
            try:
                depth = decode(frame.get_payload_as_memoryview())
            except msgspec.ValidationError:
                return  # the acknowledgement
            run.seen += 1
            if depth.u >= run.last:
                run.finish()
                done.set()

    transport, _ = await ws_connect(Listener, f"ws://127.0.0.1:{run.port}/ws")
    transport.send(WSMsgType.TEXT, b'{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms"],"id":1}')
    await asyncio.sleep(0.3)
    run.seen = 0
    await run.go()
    await done.wait()
    run.report(None, None, updates=run.seen)
    transport.disconnect()


async def astra(run: Run, transport: str, *, markets: int = 1) -> None:
    from astra import Astra

    http, ws = f"http://127.0.0.1:{run.port}", f"ws://127.0.0.1:{run.port}"
    hosts = {
        "spot_rest": http,
        "usdm_rest": http,
        "coinm_rest": http,
        "options_rest": http,
        "usdm_stream": ws,
    }
    async with Astra(settings={"venues": {"BINANCE": {"hosts": hosts, "transport": transport}}}) as library:
        symbols = [market.symbol for market in await library.list_markets("BINANCE")][:markets]
        async with library.stream_orderbook(*symbols, max_queue=100_000) as stream:
            live: set[str] = set()
            async for update in stream:
                live.add(update.market)
                if len(live) == len(symbols):
                    break
            await run.go()
            seen = 0
            waiting = {f"BINANCE-PERP-{n.removesuffix('USDT')}-USDT": m["last"] for n, m in run.expected.items()}
            async for update in stream:
                seen += 1
                if update.update_id >= waiting.get(update.market, 2**62):
                    del waiting[update.market]
                    if not waiting:
                        run.finish()
                        break
            book = stream.book("BINANCE-PERP-BTC-USDT")
            assert book.best_bid is not None
            assert book.best_ask is not None
            run.report(
                book.best_bid[0],
                book.best_ask[0],
                updates=seen,
                conflated=stream.stats.conflated,
                levels=len(book.bids()) + len(book.asks()),
            )


async def ccxt(run: Run) -> None:
    from ccxt.pro import binanceusdm

    exchange = binanceusdm({"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["linear"]}}})
    exchange.options["fetchCurrencies"] = False
    for key, url in exchange.urls["api"].items():
        if isinstance(url, str):
            exchange.urls["api"][key] = url.replace("https://fapi.binance.com", f"http://127.0.0.1:{run.port}")
    for key, url in exchange.urls["api"]["ws"].items():
        if isinstance(url, str):
            exchange.urls["api"]["ws"][key] = f"ws://127.0.0.1:{run.port}/ws"
        else:
            for part in url:
                url[part] = f"ws://127.0.0.1:{run.port}/ws"
    try:
        await exchange.load_markets()
        book = await exchange.watch_order_book("BTC/USDT:USDT", 1000)
        task = asyncio.ensure_future(run.go())
        while not task.done():
            book = await exchange.watch_order_book("BTC/USDT:USDT", 1000)
        while book["nonce"] < run.last:
            book = await exchange.watch_order_book("BTC/USDT:USDT", 1000)
        run.finish()
        run.report(book["bids"][0][0], book["asks"][0][0])
    finally:
        await exchange.close()


def cryptofeed(run: Run) -> None:
    from cryptofeed import FeedHandler, connection
    from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.exchanges import BinanceFutures

    class Local(BinanceFutures):  # type: ignore[misc]
        websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{run.port}", options={"compression": None})]
        rest_endpoints = [
            RestEndpoint(f"http://127.0.0.1:{run.port}", routes=BinanceFutures.rest_endpoints[0].routes),
        ]

    dial = connection.connect

    def dial_plain(address: str, **options: Any) -> Any:
        return dial(address.replace("wss://", "ws://"), **options)

    connection.connect = dial_plain  # it insists on TLS addresses; the frames are the same without
    asked: list[asyncio.Task[None]] = []
    handler = FeedHandler()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def book(update: Any, received: float) -> None:
        if not asked:
            asked.append(loop.create_task(run.go()))
        if update.sequence_number is not None and update.sequence_number >= run.last:
            run.finish()
            bids, asks = update.book.bids, update.book.asks
            run.report(float(bids.index(0)[0]), float(asks.index(0)[0]))
            loop.stop()

    feed = Local(symbols=["BTC-USDT-PERP"], channels=[L2_BOOK], callbacks={L2_BOOK: book})
    handler.add_feed(feed)
    handler.run(start_loop=False, install_signal_handlers=False)
    loop.run_forever()


if __name__ == "__main__":
    name, port, group, frames = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    this = Run(port, group, frames)
    if name == "floor":
        asyncio.run(floor(this))
    elif name == "astra-picows":
        asyncio.run(astra(this, "picows"))
    elif name == "astra-httpx-ws":
        asyncio.run(astra(this, "httpx-ws"))
    elif name == "astra-many":
        asyncio.run(astra(this, "picows", markets=1000))
    elif name == "ccxt":
        asyncio.run(ccxt(this))
    elif name == "cryptofeed":
        cryptofeed(this)
