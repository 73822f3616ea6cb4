"""A server that sends Binance-style USD-M depth frames as fast, and in such groups, as it is told to.

Run as `python frame_server.py`; prints its port. `GET /go?group=K&frames=N` sends the next N frames on every
WebSocket, K to a write (0: as many as fit), and answers {"last": id, "best_bid": ..., "best_ask": ...} of the book
after them. Until then a frame every 50 ms lets clients join their snapshot. Everything is generated from a seed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import struct
import sys
import time
from urllib.parse import parse_qs, urlsplit

SYMBOLS = 1
TICK = 0.1
DEPTH = 1000
LEVELS = 9
"""Price levels in a frame. In 1,919 recorded depth frames of ten markets there are 9.1 on average; of their levels 62 %
change a quantity, 16 % are new, 16 % are deleted, 6 % delete what nobody has. The generated ones are like them."""


class Market:
    """A random book and the frames about it."""

    def __init__(self, symbol: str, seed: int) -> None:
        self.symbol = symbol
        self.chance = random.Random(seed)
        self.mid = 300_000  # in ticks
        self.id = 600_000_000_000
        self.bids = {self.mid - 1 - n: self.quantity() for n in range(DEPTH)}
        self.asks = {self.mid + 1 + n: self.quantity() for n in range(DEPTH)}

    def quantity(self) -> str:
        return f"{self.chance.randint(1, 99999) / 1000:.3f}"

    def frame(self) -> str:
        prev = self.id
        first = prev + self.chance.randint(1, 900)
        self.id = first + self.chance.randint(0, 1800)
        changes: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for _ in range(LEVELS):
            side = self.chance.randint(0, 1)
            away = min(int(self.chance.expovariate(0.05)), DEPTH - 1)
            price = self.mid - 1 - away if side == 0 else self.mid + 1 + away
            levels = (self.bids, self.asks)[side]
            is_known = price in levels
            text = "0" if self.chance.random() < (0.2 if is_known else 0.25) else self.quantity()
            changes[side][price] = text
            if text == "0":
                levels.pop(price, None)
            else:
                levels[price] = text
        now = 1_700_000_000_000
        return json.dumps(
            {
                "e": "depthUpdate",
                "E": now,
                "T": now,
                "s": self.symbol,
                "U": first,
                "u": self.id,
                "pu": prev,
                "b": [[f"{price * TICK:.1f}", text] for price, text in changes[0].items()],
                "a": [[f"{price * TICK:.1f}", text] for price, text in changes[1].items()],
            },
            separators=(",", ":"),
        )

    def depth(self) -> dict[str, object]:
        return {
            "lastUpdateId": self.id,
            "E": 1_700_000_000_000,
            "T": 1_700_000_000_000,
            "bids": [[f"{price * TICK:.1f}", self.bids[price]] for price in sorted(self.bids, reverse=True)][:DEPTH],
            "asks": [[f"{price * TICK:.1f}", self.asks[price]] for price in sorted(self.asks)][:DEPTH],
        }


def instrument(symbol: str) -> dict[str, object]:
    base = symbol.removesuffix("USDT")
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "1000000", "tickSize": "0.10"},
            {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
    }


def websocket_frame(text: str) -> bytes:
    payload = text.encode()
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


class Server:
    def __init__(self, symbols: int) -> None:
        names = ["BTCUSDT"] + [f"A{n}USDT" for n in range(1, symbols)]
        self.markets = {name: Market(name, number) for number, name in enumerate(names)}
        self.clients: dict[asyncio.StreamWriter, bool] = {}
        self.turn = 0
        self.rolling = True

    def next_frame(self) -> tuple[str, str]:
        """(symbol, frame) of the next market in turn."""
        name = list(self.markets)[self.turn % len(self.markets)]
        self.turn += 1
        return name, self.markets[name].frame()

    def encoded(self, name: str, text: str) -> tuple[bytes, bytes]:
        wrapped = f'{{"stream":"{name.lower()}@depth@100ms","data":{text}}}'
        return websocket_frame(text), websocket_frame(wrapped)

    async def roll(self) -> None:
        """Before the measurement: a frame of every market now and then, so that snapshots can be joined."""
        while True:
            await asyncio.sleep(0.05)
            if self.rolling and self.clients:
                for name, market in self.markets.items():
                    frames = self.encoded(name, market.frame())
                    for writer, is_wrapped in self.clients.items():
                        writer.write(frames[is_wrapped])

    async def blast(self, batches: list[tuple[bytes, bytes]], pause_s: float) -> None:
        await asyncio.sleep(0.3)
        for batch in batches:
            for writer, is_wrapped in list(self.clients.items()):
                writer.write(batch[is_wrapped])
                await writer.drain()
            if pause_s:
                until = time.perf_counter() + pause_s
                while time.perf_counter() < until:
                    pass
                await asyncio.sleep(0)

    def go(self, group: int, frames: int) -> tuple[dict[str, object], list[tuple[bytes, bytes]], float]:
        self.rolling = False
        size = group or 500
        batches = []
        for start in range(0, frames, size):
            pairs = [self.encoded(*self.next_frame()) for _ in range(min(size, frames - start))]
            batches.append((b"".join(pair[0] for pair in pairs), b"".join(pair[1] for pair in pairs)))
        last = {
            name: {
                "last": market.id,
                "best_bid": max(market.bids) * TICK,
                "best_ask": min(market.asks) * TICK,
                "bid_levels": len(market.bids),
                "ask_levels": len(market.asks),
            }
            for name, market in self.markets.items()
        }
        return {"markets": last}, batches, {1: 0.0002, 20: 0.0006}.get(group, 0.0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ", 2)[1]
                if "upgrade: websocket" in head.lower():
                    await self.websocket(head, target, reader, writer)
                    return
                await self.http(target, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.clients.pop(writer, None)
            writer.close()

    async def http(self, target: str, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        then: list[tuple[bytes, bytes]] | None = None
        pause = 0.0
        body: object
        if parts.path == "/go":
            body, then, pause = self.go(int(query["group"]), int(query["frames"]))
        elif parts.path.endswith("/exchangeInfo"):
            mine = [instrument(name) for name in self.markets] if parts.path.startswith("/fapi") else []
            body = {"timezone": "UTC", "serverTime": 1, "exchangeFilters": [], "symbols": mine}
            # Wide enough for the snapshots of all markets at once: what is measured comes after them.
            limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 10**6}
            body["rateLimits"] = [limit]
            body |= {"assets": [], "optionContracts": [], "optionAssets": [], "optionSymbols": []}
        elif parts.path.endswith("/depth"):
            body = self.markets[query["symbol"].upper()].depth()
        elif parts.path.endswith("/time"):
            body = {"serverTime": time.time_ns() // 1_000_000}
        else:
            body = {}
        payload = json.dumps(body).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(payload) + payload
        )
        await writer.drain()
        if then is not None:
            await self.blast(then, pause)

    async def websocket(
        self, head: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        key = {name.lower(): value for name, value in headers.items()}["sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: " + accept + b"\r\n\r\n"
        )
        is_wrapped = "/stream" in target
        if "streams=" in target:
            self.clients[writer] = is_wrapped
        while True:
            first, second = await reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack("!H", await reader.readexactly(2))[0]
            mask = await reader.readexactly(4)
            payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(await reader.readexactly(size)))
            if first & 0x0F == 8:
                return
            if first & 0x0F == 9:
                writer.write(bytes([0x8A, size]) + payload)
            if first & 0x0F == 1:
                request = json.loads(payload)
                writer.write(websocket_frame(json.dumps({"result": None, "id": request["id"]})))
                self.clients[writer] = is_wrapped


async def main(symbols: int) -> None:
    server = Server(symbols)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**20)
    sys.stdout.write(f"{listener.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.roll()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else SYMBOLS))
