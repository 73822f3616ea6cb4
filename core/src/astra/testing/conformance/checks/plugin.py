"""1xx: what the plugin declares, and the markets that it lists."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from astra.errors import MarketNotFound
from astra.hookspecs import API_VERSION
from astra.models.markets import ContractType, Market
from astra.plugins import VENUES
from astra.symbols import AssetType, Symbol, expiry_date
from astra.testing.conformance.bench import LOOPBACK, Bench
from astra.testing.conformance.catalogue import Level, NotApplicable, check, expect, expect_equal, fail, shown
from astra.testing.conformance.subjects import Subject

MUST, MAY = Level.MUST, Level.MAY
FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_800_000
"""2000 and 2100: a time in ms lies between, one in seconds or in microseconds does not."""


@check(
    101,
    MUST,
    "The plugin loads and declares its API version",
    """The class imports, keeps the hook specs (names, arguments, sync or async), and declares `code` and an
    `api_version` of a major version that this core supports.""",
    bench=False,
)
def loads(subject: Subject) -> str:
    venue = subject.plugins().load(VENUES, subject.code)
    expect_equal("code", venue.code, subject.code)
    declared = getattr(venue, "api_version", None)
    expect(isinstance(declared, str), f"api_version: expected a text such as {API_VERSION!r}, seen {declared!r}")
    return f"written for plugin API {declared}"


@check(
    102,
    MUST,
    "Every host can be set, and is",
    """The names of the sandbox's hosts are names of `settings.hosts`; what is set there is what the venue uses: no
    host that the sandbox serves keeps its live address, and nothing connected to another machine (the kit refuses
    connections that leave this one).""",
    hooks=["list_markets"],
)
async def hosts(bench: Bench) -> None:
    venue = await bench.astra.venue(bench.code)
    settings = getattr(venue, "settings", None)
    if not isinstance(settings, BaseModel):
        raise NotApplicable("the venue has no settings model (`settings_model`)")
    set_hosts = getattr(settings, "hosts", None)
    if isinstance(set_hosts, BaseModel):
        served = bench.server.settings["venues"][bench.code]["hosts"]
        for name, url in served.items():
            seen = str(getattr(set_hosts, name, None))
            expect(seen.rstrip("/") == url, f"settings.hosts.{name}: expected {url} as it was set, seen {seen}")
    elif bench.subject.settings is None:
        fail("settings.hosts: expected a model with one field for each host, seen none (or hand in Subject.settings)")
    addresses = list(_urls(settings))
    expect(addresses, "settings: expected the URL of the sandbox somewhere, seen none")
    expect(any(_host(url) in LOOPBACK for url in addresses), f"settings: no URL leads to the sandbox: {addresses}")
    refused = sorted(set(bench.guard.refused))
    expect(not refused, f"expected connections to the hosts that were set only, seen attempts to reach {refused}")


def _urls(settings: BaseModel) -> Any:
    for value in settings.model_dump(mode="python").values():
        values = value.values() if isinstance(value, dict) else [value]
        yield from (str(one) for one in values if isinstance(one, str) and "://" in one)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].partition(":")[0]


@check(
    103,
    MUST,
    "Symbols round-trip",
    """Every symbol of the list parses, formats back to the same text, names this exchange, and its asset type is
    the market's.""",
    hooks=["list_markets"],
)
async def symbols_round_trip(bench: Bench) -> str:
    for market in bench.markets:
        parsed = Symbol.parse(market.symbol)
        expect_equal("the symbol, taken apart and put together again", str(parsed), market.symbol)
        expect_equal(f"{market.symbol}: exchange", parsed.exchange, bench.code)
        expect_equal(f"{market.symbol}: asset type", market.asset_type, parsed.asset_type)
        expect_equal(f"{market.symbol}: the market by its symbol", await bench.astra.market(market.symbol), market)
    return f"{len(bench.markets)} markets"


@check(
    104,
    MUST,
    "Symbols are unique",
    "No two markets share a symbol, and none share a product and native symbol.",
    hooks=["list_markets"],
)
async def symbols_are_unique(bench: Bench) -> None:
    expect(bench.markets, "list_markets: expected markets, seen none")
    for what, keys in (
        ("symbol", Counter(market.symbol for market in bench.markets)),
        ("(product, native symbol)", Counter(str(market.key) for market in bench.markets)),
    ):
        twice = [key for key, count in keys.items() if count > 1]
        expect(not twice, f"{what}: expected once each, seen more than once: {shown(twice)}")


@check(
    105,
    MUST,
    "Steps and limits are sane",
    """Tick size, lot size and all limits are positive where given, smallest not above largest, tick bands rise and
    have positive ticks.""",
    hooks=["list_markets"],
)
async def steps(bench: Bench) -> None:
    for market in bench.markets:
        for name in (
            "tick_size",
            "lot_size",
            "market_lot_size",
            "contract_size",
            "max_quantity",
            "max_price",
            "max_notional",
        ):
            value = getattr(market, name)
            expect(value is None or value > 0, f"{market.symbol}: {name}: expected more than 0 or None, seen {value}")
        for name in ("min_quantity", "market_min_quantity", "min_price", "min_notional"):
            value = getattr(market, name)
            expect(value is None or value >= 0, f"{market.symbol}: {name}: expected at least 0, seen {value}")
        for low, high in (
            ("min_quantity", "max_quantity"),
            ("market_min_quantity", "market_max_quantity"),
            ("min_price", "max_price"),
            ("min_notional", "max_notional"),
        ):
            least, most = getattr(market, low), getattr(market, high)
            expect(
                least is None or most is None or least <= most,
                f"{market.symbol}: expected {low} <= {high}, seen {least} and {most}",
            )
        bands = market.tick_bands or ()
        starts = [band.from_price for band in bands]
        expect(starts == sorted(set(starts)), f"{market.symbol}: tick bands: expected rising prices, seen {starts}")
        ticks = [band.tick_size for band in bands]
        expect(all(tick > 0 for tick in ticks), f"{market.symbol}: tick bands: expected positive ticks, seen {ticks}")


@check(
    106,
    MUST,
    "Contract facts are there",
    """Derivatives say their contract type, inverse and quanto ones their contract size; spot markets have neither
    contract type nor expiry.""",
    hooks=["list_markets"],
)
async def contracts(bench: Bench) -> None:
    for market in bench.markets:
        if market.asset_type is AssetType.SPOT:
            for name in ("contract_type", "contract_size"):
                seen = getattr(market, name)
                expect(seen is None, f"{market.symbol}: {name}: expected None in a spot market, seen {seen}")
            continue
        expect(market.contract_type is not None, f"{market.symbol}: contract_type: expected LINEAR, INVERSE or QUANTO")
        expect(
            market.contract_type is ContractType.LINEAR or market.contract_size is not None,
            f"{market.symbol}: contract_size: expected the size of a {market.contract_type} contract, seen None",
        )


@check(
    107,
    MUST,
    "Expiry, strike and option type are those of the symbol",
    """Dated markets expire (ms since the epoch) on the day that the symbol names, options have the symbol's strike
    and type, all others have none of these.""",
    hooks=["list_markets"],
)
async def terms(bench: Bench) -> None:
    for market in bench.markets:
        parsed = Symbol.parse(market.symbol)
        if parsed.expiry is None:
            expect(market.expiry is None, f"{market.symbol}: expiry: expected None, seen {market.expiry}")
        else:
            expect(
                market.expiry is not None and FIRST_MS < market.expiry < LAST_MS,
                f"{market.symbol}: expiry: expected ms since the epoch, seen {market.expiry}",
            )
            assert market.expiry is not None
            day = expiry_date(market.expiry)
            expect_equal(f"{market.symbol}: the day (UTC) of its expiry {market.expiry}", day, parsed.expiry)
        strike = None if parsed.strike is None else Decimal(parsed.strike)
        expect_equal(f"{market.symbol}: strike", market.strike, strike)
        expect_equal(f"{market.symbol}: option type", market.option_type, parsed.option_type)


@check(
    108,
    MUST,
    "Every market of the venue is listed, under a declared product",
    """The list names exactly the markets that the sandbox's engine has; each market's `product` is one of the
    plugin's `products`.""",
    hooks=["list_markets"],
)
async def listing(bench: Bench) -> None:
    listed, there = {market.symbol for market in bench.markets}, set(bench.engine.markets)
    expect(listed >= there, f"expected all markets of the sandbox, missing are {sorted(there - listed)[:20]}")
    expect(listed <= there, f"expected no others than the sandbox's, seen also {sorted(listed - there)[:20]}")
    products = getattr(bench.venue_class, "products", ())
    if products:
        strange = {market.product for market in bench.markets} - set(products)
        expect(not strange, f"expected products out of {list(products)}, seen {sorted(strange)}")


@check(
    109,
    MUST,
    "Steps and contract facts are the venue's",
    """Native symbol, product, tick and lot size, contract size and type, strike and expiry of each market equal
    those of the sandbox's engine.""",
    hooks=["list_markets"],
)
async def facts(bench: Bench) -> None:
    wrong = []
    for market in bench.markets:
        true: Market | None = bench.engine.markets.get(market.symbol)
        if true is None:
            continue
        for name in (
            "product",
            "native_symbol",
            "asset_type",
            "base_asset",
            "quote_asset",
            "tick_size",
            "tick_bands",
            "lot_size",
            "contract_size",
            "contract_type",
            "strike",
            "expiry",
            "option_type",
        ):
            seen, expected = getattr(market, name), getattr(true, name)
            if seen != expected:
                wrong.append(f"{market.symbol}: {name}: expected {expected}, seen {seen}")
    expect(not wrong, "; ".join(wrong[:10]) + (f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""))


@check(
    110,
    MUST,
    "An unknown market is refused with the nearest one",
    "A symbol that differs by one letter from a listed one raises MarketNotFound that suggests the listed one.",
    hooks=["list_markets"],
)
async def unknown_market(bench: Bench) -> None:
    symbol = bench.markets[0].symbol
    wrong = f"{symbol}X"
    try:
        await bench.astra.market(wrong)
    except MarketNotFound as error:
        expect_equal("MarketNotFound.exchange", error.exchange, bench.code)
        expect("Did you mean" in str(error), f"expected a hint at the nearest market, seen: {error}")
    else:
        fail(f"expected MarketNotFound for {wrong}, seen a market")
