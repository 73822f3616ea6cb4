"""3xx: book streams, undisturbed and under faults."""

from __future__ import annotations

import anyio

from astra.models.markets import Market
from astra.models.orderbook import BookState, Integrity, UpdateKind
from astra.models.trades import Side
from astra.testing.conformance.bench import Bench, comes, until
from astra.testing.conformance.catalogue import Level, NotApplicable, NotOffered, check, expect, fail
from astra.testing.conformance.checks.books import expect_now
from astra.testing.conformance.following import all_live, following, lowest_integrity, settled
from astra.testing.conformance.segments import least

MUST, MAY = Level.MUST, Level.MAY
HOOKS = ["list_markets", "stream_orderbook"]


@check(
    301,
    MUST,
    "A book stream begins with a SNAPSHOT and grows",
    """For each market the first item is a SNAPSHOT, UPDATEs follow with strictly growing updateIds, the live book
    becomes LIVE, and times are ms of now.""",
    hooks=HOOKS,
    timeout_s=40,
)
async def begins(bench: Bench) -> None:
    markets = bench.watched
    async with following(bench.astra, markets) as (stream, follower):
        with bench.moving():
            await all_live(stream, markets)

            def quiet() -> list[str]:
                return [m.symbol for m in markets if UpdateKind.UPDATE not in follower.kinds.get(m.symbol, ())]

            def nudged() -> bool:
                for market in markets:
                    if market.symbol in quiet():
                        bench.poke(market)
                return not quiet()

            await until("an UPDATE in every market", nudged, every_s=0.2)
            await anyio.sleep(0.5)
        follower.judge()
        for market, time in follower.times:
            expect_now(f"{market}: time of an update", time)


@check(
    302,
    MUST,
    "A streamed book equals the venue's, in base units",
    """After a time of trading, once the market rests, each live book and the copy that a consumer rebuilt from the
    updates equal the engine's book: prices, and quantities in units of the base asset.""",
    hooks=HOOKS,
    timeout_s=45,
)
async def equals(bench: Bench) -> None:
    markets = bench.watched
    async with following(bench.astra, markets) as (stream, follower):
        with bench.moving():
            await all_live(stream, markets)
            await anyio.sleep(1.5)
        await settled(bench, stream, follower, markets)


@check(
    303,
    MUST,
    "Lost, repeated and reordered frames leave no wrong book",
    """While frames are dropped, repeated and reordered, books say STALE and heal; afterwards every book equals the
    engine's. Concerns feeds with sequence numbers or checksums.""",
    hooks=HOOKS,
    timeout_s=60,
)
async def bad_frames(bench: Bench) -> str:
    markets = bench.watched
    async with bench.application() as astra, following(astra, markets) as (stream, follower):
        with bench.moving(1.0):
            await all_live(stream, markets)
            guarded = [m for m, i in zip(markets, lowest_integrity(stream, markets).values(), strict=True) if i]
            if not guarded:
                raise NotApplicable("the feed's books have integrity NONE: a lost frame does not show")
            before = follower.stale
            with bench.faults(drop_frame=0.08, repeat_frame=0.05, reorder_frame=0.05):
                await anyio.sleep(3.0)
            await anyio.sleep(0.5)
        stale = follower.stale - before
        beyond = await settled(bench, stream, follower, guarded, protected=True)
        expect(stale > 0, "expected STALE at least once while 8 % of all frames were lost, seen none")
        return f"{stale} times STALE{beyond}"


@check(
    304,
    MUST,
    "Cut connections and stalls leave no wrong book",
    """While connections are reset in the middle of frames and frames are held back, no update breaks the stream's
    promises; afterwards every book is LIVE and equals the engine's.""",
    hooks=HOOKS,
    timeout_s=60,
)
async def cuts(bench: Bench) -> str:
    markets = bench.watched
    async with bench.application() as astra, following(astra, markets) as (stream, follower):
        with bench.moving():
            await all_live(stream, markets)
            with bench.faults(cut_connection=0.02):
                await until("a connection is cut", lambda: follower.stale > 0)
            with bench.faults(stall_s=0.7):
                await anyio.sleep(1.0)
            await all_live(stream, markets, 25)
            await anyio.sleep(0.5)
        await settled(bench, stream, follower, markets)
        return f"{follower.stale} times STALE"


@check(
    305,
    MUST,
    "A killed server is STALE at once, and heals",
    """When the server dies every book says STALE within 5 s; when it is back every book becomes LIVE and equals the
    engine's, with updateIds that go on growing.""",
    hooks=HOOKS,
    timeout_s=60,
)
async def killed(bench: Bench) -> None:
    markets = bench.watched
    async with bench.application() as astra, following(astra, markets) as (stream, follower):
        with bench.moving():
            await all_live(stream, markets)
            await bench.stop()

            def believed() -> list[str]:
                return [m.symbol for m in markets if stream.book(m.symbol).state is BookState.LIVE]

            await comes(lambda: not believed() and follower.stale >= len(markets), 5)
            if believed() or follower.stale < len(markets):
                fail(
                    f"5 s after the server was killed: expected {len(markets)} books STALE and their consumers told, "
                    f"seen LIVE {believed()}, {follower.stale} told"
                )
            await bench.start()
            await all_live(stream, markets, 30)
            await anyio.sleep(0.3)
        await settled(bench, stream, follower, markets)


@check(
    306,
    MUST,
    "One lost frame is noticed",
    """Exactly one change of a book is lost on its way: with sequence numbers or checksums the book says STALE when
    the next change comes, and is right again afterwards.""",
    hooks=HOOKS,
    timeout_s=60,
)
async def one_gap(bench: Bench) -> str:
    markets = [segment.market for segment in bench.segments]
    async with bench.application() as astra, following(astra, markets) as (stream, follower):
        await all_live(stream, markets)
        integrity = lowest_integrity(stream, markets)
        guarded = [market for market in markets if integrity[market.symbol] is not Integrity.NONE]
        if not guarded:
            raise NotApplicable("the feed's books have integrity NONE: a lost frame does not show")
        await settled(bench, stream, follower, markets)
        before = dict(follower.stale_in)
        with bench.faults(drop_frame=1.0):
            for market in guarded:
                _, ask = bench.top(market)
                bench.crowd.place(market, Side.SELL, least(market, ask) * 3, ask)
            await anyio.sleep(0.7)

        def noticed() -> bool:
            for market in unnoticed():  # the gap shows in the first frame after it
                bench.poke(market)
            return not unnoticed()

        def unnoticed() -> list[Market]:
            now = follower.stale_in
            return [one for one in guarded if now.get(one.symbol, 0) == before.get(one.symbol, 0)]

        if not await comes(noticed, 5, every_s=0.2):
            missed = [f"{one.symbol} ({integrity[one.symbol].name})" for one in unnoticed()]
            fail(f"every change of 0.7 s was lost, and others followed: expected STALE, seen none in {missed} for 5 s")
        await settled(bench, stream, follower, guarded)
        return ", ".join(f"{symbol} {one.name}" for symbol, one in integrity.items())


@check(
    320,
    MAY,
    "Books are protected by sequence numbers or checksums",
    "The feed says so (`BookRules.integrity`): a lost frame then shows at once.",
    hooks=HOOKS,
    timeout_s=30,
)
async def integrity(bench: Bench) -> str:
    markets = [segment.market for segment in bench.segments]
    async with following(bench.astra, markets) as (stream, _):
        await all_live(stream, markets)
        found = lowest_integrity(stream, markets)
    bare = [symbol for symbol, one in found.items() if one is Integrity.NONE]
    if bare:
        raise NotOffered(f"integrity NONE: {', '.join(bare)}")
    return ", ".join(sorted({one.name for one in found.values()}))


@check(
    321,
    MAY,
    "Several markets share a connection",
    "A stream over several markets of a product opens fewer connections than it has markets.",
    hooks=HOOKS,
    timeout_s=40,
)
async def shared_connections(bench: Bench) -> str:
    several = [segment for segment in bench.segments if len(segment.markets) > 2]
    if not several:
        raise NotApplicable("the sandbox lists no segment of more than two markets")
    markets = several[0].markets[:8]
    venue = bench.server.venue(bench.code)
    connect, count = venue.connect, 0

    def counted(*arguments: object, **named: object) -> object:
        nonlocal count
        count += 1
        return connect(*arguments, **named)  # type: ignore[arg-type]

    venue.connect = counted  # type: ignore[method-assign,assignment]
    try:
        async with bench.application() as astra, following(astra, markets) as (stream, _):
            with bench.moving():
                await all_live(stream, markets, 30)
    finally:
        venue.connect = connect  # type: ignore[method-assign]
    if count >= len(markets):
        raise NotOffered(f"{count} connections for {len(markets)} markets")
    return f"{count} connection(s) for {len(markets)} markets of {several[0].name}"
