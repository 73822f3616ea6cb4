"""Lists markets and streams books with core and one venue alone, from a server whose hosts are given in settings.

Arguments: the exchange code, and the settings as JSON.
"""

import json
import sys

import anyio

from astra import Astra, MarketStatus, UpdateKind


async def main(exchange: str, settings: dict[str, object]) -> None:
    async with Astra(settings=settings) as astra:
        markets = await astra.list_markets(exchange)
        products: dict[str, str] = {}
        for market in markets:
            if market.status is MarketStatus.ACTIVE:
                products.setdefault(market.product, market.symbol)
        async with astra.stream_orderbook(*products.values()) as stream:
            seen: dict[str, int] = {}
            with anyio.fail_after(60):
                async for update in stream:
                    if update.kind is UpdateKind.UPDATE:
                        seen[update.market] = seen.get(update.market, 0) + 1
                        if len(seen) == len(products) and min(seen.values()) >= 3:
                            break
    print(f"{len(markets)} markets; updates: {seen}")


anyio.run(main, sys.argv[1], json.loads(sys.argv[2]))
