"""What venues of several API families share: who is asked, what is offered, how assets may be spelt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal

import anyio
import msgspec
import pytest
from pydantic import ValidationError

from astra.errors import (
    AuthenticationError,
    InvalidOrder,
    MarketNotFound,
    OrderNotFound,
    OrderOutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnsupportedOperation,
    VenueError,
    VenueUnavailable,
)
from astra.families import FamilySettings, FamilyTrading, FamilyVenue, raise_gravest
from astra.hookspecs import hookimpl
from astra.models.accounts import Balance
from astra.models.credentials import Credentials
from astra.models.markets import ContractType, Market
from astra.models.orders import Fill, Order, OrderRef, OrderRequest, OrderStatus, OrderType
from astra.models.trades import Side
from astra.net.http import AnswerLost, Request, Response
from astra.net.ratelimit import RateLimiter
from astra.rest import Failure, Meaning, Recent, RestApi, encoded
from astra.streams.feed import Units
from astra.symbols import AssetType
from astra.testing import ManualClock, ManualHost
from astra.venue import MarketTable, VenueHosts, VenueSettings

pytestmark = pytest.mark.anyio


def market(symbol: str, native: str = "", product: str = "spot", **more: Any) -> Market:
    base, quote = symbol.split("-")[2:4]
    return Market(
        symbol=symbol,
        asset_type=AssetType(symbol.split("-")[1]),
        base_asset=base,
        quote_asset=quote,
        native_symbol=native or symbol,
        product=product,
        **more,
    )


class Api(RestApi):
    def interpret(self, request: Request, response: Response) -> Exception | None:
        return None


class Spot(FamilyTrading):
    title = "Spot"
    answers: ClassVar[dict[str, Any]] = {}

    async def balances(self, credentials: Credentials) -> Sequence[Balance]:
        answer = self.answers.get(self.product, ())
        if isinstance(answer, Exception):
            raise answer
        return [Balance(asset=asset, wallet=self.product, total=Decimal(1)) for asset in answer]


class Futures(Spot):
    title = "Futures"
    fills_by_market = True

    async def set_leverage(self, market: Market, leverage: Decimal, credentials: Credentials) -> None:
        return None


class NestVenue(FamilyVenue):
    code = "NEST"
    products = ("spot", "futures", "bare")
    families: ClassVar[Any] = {"spot": Spot, "futures": Futures, "bare": FamilyTrading}

    def __init__(self, host: Any, settings: FamilySettings) -> None:
        super().__init__(host, settings)
        limiter = RateLimiter(self.code, (), host.clock)
        self.parts = {
            name: family(Api(self.code, name, "https://x", limiter=limiter, clock=host.clock), self.markets)
            for name, family in self.families.items()
        }
        self.fail: dict[str, Exception] = {}

    async def load_markets(self, product: str) -> Sequence[Market]:
        if product in self.fail:
            raise self.fail[product]
        return [market(f"NEST-SPOT-{product.upper()}-USD", product=product)]


@pytest.fixture
async def venue(anyio_backend: Any) -> AsyncIterator[NestVenue]:
    Spot.answers = {"spot": ["BTC"], "futures": ["USD"]}
    async with anyio.create_task_group() as tasks:
        yield NestVenue(ManualHost(tasks, ManualClock()), FamilySettings(products=("spot", "futures")))


def account(*products: str) -> Credentials:
    one = Credentials.of("NEST", "k", "s").keys["default"]
    return Credentials(exchange="NEST", keys=dict.fromkeys(products or ("default",), one))


def test_hooks_that_no_family_offers_are_none_of_the_venue() -> None:
    assert NestVenue.place_order is None
    assert NestVenue.amend_order is None
    assert NestVenue.get_balances is FamilyVenue.get_balances
    assert NestVenue.fills_need_market


def test_what_each_product_offers_is_read_from_the_classes() -> None:
    offered = NestVenue.offers()
    assert "set_leverage" in offered["futures"]
    assert "set_leverage" not in offered["spot"]
    assert "get_balances" in offered["spot"]
    assert "get_balances" not in offered["bare"]
    assert "place_order" not in {hook for hooks in offered.values() for hook in hooks}


def test_the_hooks_of_a_venue_made_of_another_one_are_those_of_its_own_families() -> None:
    class More(NestVenue):
        families: ClassVar[Any] = {"spot": Cancelling}

    assert More.cancel_all_orders is FamilyVenue.cancel_all_orders
    assert More.get_balances is None
    assert not More.fills_need_market

    class Served(NestVenue):
        @hookimpl
        async def amend_order(self, market: Any, ref: Any, change: Any, credentials: Any) -> Any:
            """By the venue itself."""

    class Again(Served):
        families: ClassVar[Any] = {"spot": Spot}

    assert Again.amend_order is Served.amend_order
    assert "set_leverage" not in {hook for hooks in Again.offers().values() for hook in hooks}


async def test_an_account_is_the_sum_of_its_families(venue: NestVenue) -> None:
    assert {(b.wallet, b.asset) for b in await venue.get_balances(account())} == {("spot", "BTC"), ("futures", "USD")}


async def test_only_families_with_a_key_are_asked(venue: NestVenue) -> None:
    assert [b.wallet for b in await venue.get_balances(account("futures"))] == ["futures"]
    with pytest.raises(AuthenticationError, match="no API key for any of spot, futures"):
        await venue.get_balances(account("elsewhere"))


async def test_a_family_that_denies_a_key_good_elsewhere_is_left_out(venue: NestVenue) -> None:
    Spot.answers["futures"] = PermissionDenied("no futures", exchange="NEST")
    assert [b.wallet for b in await venue.get_balances(account())] == ["spot"]


async def test_a_family_that_fails_fails_the_call_by_name(venue: NestVenue) -> None:
    Spot.answers["futures"] = VenueUnavailable("down", exchange="NEST")
    with pytest.raises(VenueUnavailable, match="futures did not answer: down"):
        await venue.get_balances(account())


async def test_a_family_without_the_feature_says_so(venue: NestVenue) -> None:
    with pytest.raises(UnsupportedOperation, match="Spot: no leverage to set"):
        await venue.set_leverage(market("NEST-SPOT-BTC-USD"), Decimal(2), account())


async def test_markets_of_a_product_that_fails_are_those_of_before(venue: NestVenue) -> None:
    first = await venue.list_markets()
    venue.fail["futures"] = VenueUnavailable("down", exchange="NEST")
    assert await venue.list_markets() == first


async def test_a_product_that_was_never_read_fails_the_list(venue: NestVenue) -> None:
    venue.fail["futures"] = VenueUnavailable("down", exchange="NEST")
    with pytest.raises(VenueUnavailable, match="the futures markets could not be read"):
        await venue.list_markets()


# -- cancelling everything ----------------------------------------------------------------------------------------


def lost(where: str) -> OrderOutcomeUnknown:
    return OrderOutcomeUnknown("no answer", exchange="NEST", market=where, operation="cancel_all_orders")


class Cancelling(FamilyTrading):
    """Each market has one open order; cancelling it ends as scripted."""

    title = "Cancelling"
    ends: ClassVar[dict[str, Exception]] = {}

    def orders(self, status: OrderStatus) -> list[Order]:
        return [
            Order(
                id=name,
                client_order_id=None,
                market=f"NEST-SPOT-{name}-USD",
                side=Side.BUY,
                type=OrderType.LIMIT,
                status=status,
            )
            for name in ("A", "B", "C")
        ]

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        return self.orders(OrderStatus.NEW)

    async def cancel_all(self, market: Market, credentials: Credentials) -> Sequence[Order]:
        name = market.symbol.split("-")[2]
        if name in self.ends:
            raise self.ends[name]
        return [order for order in self.orders(OrderStatus.CANCELED) if order.id == name]

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        done = {order.id: order for order in self.orders(OrderStatus.CANCELED)}
        return [self.ends.get(str(ref.id), done[str(ref.id)]) for ref in refs]


@pytest.fixture
async def cancelling(anyio_backend: Any) -> Cancelling:
    async def load() -> Sequence[Market]:
        return [market(f"NEST-SPOT-{name}-USD") for name in ("A", "B", "C")]

    clock = ManualClock()
    Cancelling.ends = {}
    api = Api("NEST", "spot", "https://x", limiter=RateLimiter("NEST", (), clock), clock=clock)
    return Cancelling(api, MarketTable("NEST", load, clock))


async def test_every_market_is_canceled_whatever_fails_and_an_unknown_outcome_is_told_first(
    cancelling: Cancelling,
) -> None:
    assert [order.id for order in await cancelling.cancel_everywhere(account())] == ["A", "B", "C"]
    cancelling.ends["A"] = VenueUnavailable("down", exchange="NEST")
    with pytest.raises(VenueUnavailable, match=r"down$"):
        await cancelling.cancel_everywhere(account())
    cancelling.ends["B"] = lost("NEST-SPOT-B-USD")
    with pytest.raises(OrderOutcomeUnknown, match=r"no answer \(beside it: VenueUnavailable: .*down\)") as raised:
        await cancelling.cancel_everywhere(account())
    assert raised.value.market == "NEST-SPOT-B-USD"


async def test_cancelling_what_is_listed_leaves_out_what_was_done_and_tells_an_unknown_outcome_first(
    cancelling: Cancelling,
) -> None:
    one = market("NEST-SPOT-A-USD")
    cancelling.ends["A"] = OrderNotFound("done", exchange="NEST")
    assert [order.id for order in await cancelling.cancel_listed(one, account())] == ["B", "C"]
    cancelling.ends["B"] = limited = RateLimited("slow down", exchange="NEST")
    with pytest.raises(RateLimited):
        await cancelling.cancel_listed(one, account())
    cancelling.ends["A"], cancelling.ends["C"] = limited, lost("NEST-SPOT-A-USD")
    with pytest.raises(OrderOutcomeUnknown, match="slow down") as raised:
        await cancelling.cancel_listed(one, account())
    assert str(raised.value).count("slow down") == 1, "one failure of several orders is told once"


class Triggering(Cancelling):
    """B is conditional, and triggered while it is canceled: from then on C is open."""

    asked: ClassVar[list[list[str | None]]] = []
    listing: ClassVar[list[Exception]] = []

    async def open_orders(self, market: Market | None, credentials: Credentials) -> Sequence[Order]:
        a, b, c = self.orders(OrderStatus.NEW)
        if not self.asked:
            return [a, b.model_copy(update={"type": OrderType.STOP_MARKET})]
        if self.listing:
            raise self.listing[0]
        return [a, c]

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        self.asked.append([ref.id for ref in refs])
        return await super().cancel_batch(market, refs, credentials)


async def test_what_a_conditional_order_has_become_is_canceled_too(cancelling: Cancelling) -> None:
    family = Triggering(cancelling.rest, cancelling.markets)
    Cancelling.ends = {"B": OrderNotFound("triggered", exchange="NEST")}
    Triggering.asked, Triggering.listing = [], []
    assert [order.id for order in await family.cancel_listed(market("NEST-SPOT-A-USD"), account())] == ["A", "C"]
    assert Triggering.asked == [["B"], ["A", "C"]]
    Triggering.asked, Triggering.listing = [], [VenueUnavailable("no list", exchange="NEST")]
    with pytest.raises(VenueUnavailable, match="no list"):
        await family.cancel_listed(market("NEST-SPOT-A-USD"), account())
    assert Triggering.asked == [["B"], ["A"]], "what was listed before is canceled all the same"


async def test_an_unknown_outcome_of_one_family_is_not_hidden_by_the_refusal_of_another(
    anyio_backend: Any,
) -> None:
    class Both(NestVenue):
        products = ("spot", "futures")
        families: ClassVar[Any] = {"spot": Cancelling, "futures": type("Other", (Cancelling,), {"ends": {}})}

        async def load_markets(self, product: str) -> Sequence[Market]:
            return [market(f"NEST-SPOT-{name}-USD", product=product) for name in "ABC"] if product == "spot" else []

    async with anyio.create_task_group() as tasks:
        nest = Both(ManualHost(tasks, ManualClock()), FamilySettings(products=("spot", "futures")))
        Cancelling.ends = {"A": PermissionDenied("read only", exchange="NEST")}
        nest.families["futures"].ends = {"C": lost("NEST-SPOT-C-USD")}
        with pytest.raises(OrderOutcomeUnknown, match=r"the futures orders could not .*read only"):
            await nest.cancel_all_orders(None, account())


def test_of_many_failures_the_first_few_are_told() -> None:
    failures = [VenueUnavailable(f"down {n}", exchange="NEST") for n in range(9)]
    raise_gravest([])
    with pytest.raises(VenueUnavailable, match=r"^NEST: down 0 .*down 1.*down 3, and 5 more"):
        raise_gravest(failures)


# -- batches over several families --------------------------------------------------------------------------------


class Sending(FamilyTrading):
    """Takes batches; one ends as scripted for its product (placements) or its market (cancels)."""

    title = "Sending"
    ends: ClassVar[dict[str, Exception]] = {}
    sent: ClassVar[list[str]] = []
    command_window_ms = 5000

    def order(self, market: Market, name: str | None, status: OrderStatus) -> Order:
        return Order(
            id="1", client_order_id=name, market=market.symbol, side=Side.BUY, type=OrderType.LIMIT, status=status
        )

    async def place_batch(
        self, orders: Sequence[tuple[Market, OrderRequest]], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        if self.product in self.ends:
            raise self.ends[self.product]
        self.sent.extend(str(order.client_order_id) for _, order in orders)
        few = [] if self.product == "short" else orders
        return [self.order(market, order.client_order_id, OrderStatus.NEW) for market, order in few]

    async def cancel_batch(
        self, market: Market, refs: Sequence[OrderRef], credentials: Credentials
    ) -> Sequence[Order | Exception]:
        if market.symbol in self.ends:
            raise self.ends[market.symbol]
        self.sent.extend(str(ref.client_order_id) for ref in refs)
        return [self.order(market, ref.client_order_id, OrderStatus.CANCELED) for ref in refs]

    def command_window_of(self, operation: str) -> int | None:
        return None if operation == "cancel_all_orders" and self.product == "short" else self.command_window_ms


class SendingVenue(FamilyVenue):
    code = "NEST"
    products = ("spot", "futures", "options", "short")
    families: ClassVar[Any] = {product: type(product, (Sending,), {}) for product in products}

    def __init__(self, host: Any, settings: FamilySettings) -> None:
        super().__init__(host, settings)
        limiter = RateLimiter(self.code, (), host.clock)
        self.parts = {
            name: family(Api(self.code, name, "https://x", limiter=limiter, clock=host.clock), self.markets)
            for name, family in self.families.items()
        }


@pytest.fixture
async def sending(anyio_backend: Any) -> AsyncIterator[SendingVenue]:
    Sending.ends, Sending.sent = {}, []
    async with anyio.create_task_group() as tasks:
        yield SendingVenue(ManualHost(tasks, ManualClock()), FamilySettings(products=SendingVenue.products))


def batch(*products: str) -> list[tuple[Market, OrderRequest]]:
    return [
        (
            market(f"NEST-SPOT-{product.upper()}-USD", product=product),
            OrderRequest(side="BUY", quantity="1", price="1", client_order_id=f"{product}{place}"),
        )
        for place, product in enumerate(products)
    ]


def cancels(*products: str) -> list[tuple[Market, OrderRef]]:
    return [(market, OrderRef(client_order_id=order.client_order_id)) for market, order in batch(*products)]


async def test_the_failure_of_one_family_stands_at_its_own_places_of_a_batch(sending: SendingVenue) -> None:
    refusal = UnsupportedOperation("no GTD", exchange="NEST")
    Sending.ends = {"futures": refusal, "options": KeyError("orderId")}
    answers = await sending.place_orders(batch("spot", "futures", "spot", "options", "short"), account())
    assert [answer.client_order_id for answer in answers[0:3:2] if isinstance(answer, Order)] == ["spot0", "spot2"]
    assert answers[1] is refusal
    assert Sending.sent == ["spot0", "spot2", "short4"], "those after a failure are sent all the same"
    for place, why in ((3, "KeyError"), (4, "ValueError")):
        unknown = answers[place]
        assert isinstance(unknown, OrderOutcomeUnknown)
        assert why in unknown.message
        assert unknown.operation == "place_orders"
        assert unknown.client_order_id == ("options3", "short4")[place - 3]


async def test_a_lost_answer_of_a_family_names_each_of_its_orders(sending: SendingVenue) -> None:
    Sending.ends = {"futures": lost("NEST-SPOT-FUTURES-USD")}
    answers = await sending.place_orders(batch("futures", "spot", "futures"), account())
    assert [type(answer) for answer in answers] == [OrderOutcomeUnknown, Order, OrderOutcomeUnknown]
    assert [getattr(answer, "client_order_id", None) for answer in answers] == ["futures0", "spot1", "futures2"]


async def test_a_batch_that_every_family_refused_is_refused_as_a_whole(sending: SendingVenue) -> None:
    Sending.ends = {name: InvalidOrder(name, exchange="NEST") for name in ("spot", "futures")}
    with pytest.raises(InvalidOrder, match="spot"):
        await sending.place_orders(batch("spot", "futures"), account())
    Sending.ends = {"NEST-SPOT-SPOT-USD": PermissionDenied("no", exchange="NEST")}
    with pytest.raises(PermissionDenied):
        await sending.cancel_orders(cancels("spot"), account())


async def test_the_failure_of_one_market_stands_at_its_own_places_of_a_batch_of_cancels(sending: SendingVenue) -> None:
    refusal = RateLimited("slow down", exchange="NEST")
    Sending.ends = {"NEST-SPOT-FUTURES-USD": refusal, "NEST-SPOT-OPTIONS-USD": KeyError("orderId")}
    answers = await sending.cancel_orders(cancels("spot", "futures", "options", "short"), account())
    assert [type(answer) for answer in answers] == [Order, RateLimited, OrderOutcomeUnknown, Order]
    assert isinstance(answers[2], OrderOutcomeUnknown)
    assert (answers[2].operation, answers[2].client_order_id) == ("cancel_orders", "options2")
    assert Sending.sent == ["spot0", "short3"]


def test_how_long_a_command_may_arrive_can_depend_on_the_operation(sending: SendingVenue) -> None:
    one, other = batch("spot", "short")
    assert sending.command_lifetime_s(one[0]) == sending.operation_lifetime_s(one[0], "cancel_all_orders") == 7.0
    assert sending.operation_lifetime_s(other[0], "cancel_order") == 7.0
    assert sending.operation_lifetime_s(other[0], "cancel_all_orders") is None


# -- fills --------------------------------------------------------------------------------------------------------


class Filled(msgspec.Struct):
    """Own fills at a venue, which gives two a page; those of GONE are fills in markets that are not listed."""

    fills: list[tuple[int, str]]
    asked: list[tuple[int | None, int | None]] = []

    async def fetch(self, start: int | None, end: int | None, size: int) -> tuple[Sequence[Fill], int | None]:
        self.asked.append((start, end))
        span = [row for row in self.fills if (start or 0) <= row[0] <= (end or row[0])]
        rows = span[:size] if start is not None else span[-size:]
        listed = [
            Fill(id=name, order_id="1", market="NEST-SPOT-A-USD", side=Side.BUY, price=1, quantity=1, time=time)
            for time, name in rows
            if "GONE" not in name
        ]
        return listed, rows[-1][0] if len(span) > len(rows) else None


async def test_fills_of_unlisted_markets_do_not_end_a_window(cancelling: Cancelling) -> None:
    since = cancelling.rest.clock.now_ms() - 100
    rows = [(since + at, name) for at, name in ((0, "a"), (1, "GONE"), (2, "b"), (3, "GONE"), (4, "GONE"), (5, "c"))]
    venue = Filled([*rows, (since + 60, "d")])
    fills = await cancelling.windowed(venue.fetch, since, None, 50, 2)
    assert [fill.id for fill in fills] == ["a", "b", "c", "d"]
    assert [start - since for start, _ in venue.asked if start is not None] == [0, 1, 2, 3, 4, 54]
    assert [fill.id for fill in await cancelling.windowed(venue.fetch, since, 2, 50, 2)] == ["a", "b"]
    assert [fill.id for fill in await cancelling.windowed(venue.fetch, None, 1, 50, 2)] == ["d"]


async def test_more_fills_of_one_millisecond_than_a_page_holds_are_not_passed_over(cancelling: Cancelling) -> None:
    since = cancelling.rest.clock.now_ms() - 100
    venue = Filled([(since, "a"), (since + 1, "b"), (since + 1, "c"), (since + 1, "d"), (since + 2, "e")])
    with pytest.raises(VenueError, match="more than 2 fills in one millisecond"):
        await cancelling.windowed(venue.fetch, since, None, 50, 2)
    assert len(await cancelling.windowed(venue.fetch, since, None, 50, 4)) == 5


# -- spellings ----------------------------------------------------------------------------------------------------


async def table(*symbols: str) -> MarketTable:
    async def load() -> Sequence[Market]:
        return [market(symbol) for symbol in symbols]

    found = MarketTable("KRAKEN", load, ManualClock(), spellings=[("BTC", "XBT", "XXBT"), ("USD", "ZUSD")])
    await found.all()
    return found


async def test_other_spellings_of_assets_are_accepted() -> None:
    markets = await table("KRAKEN-SPOT-BTC-USD", "KRAKEN-PERP-XBT-USD")
    for spelt, meant in (
        ("KRAKEN-SPOT-XBT-USD", "KRAKEN-SPOT-BTC-USD"),
        ("KRAKEN-SPOT-XXBT-ZUSD", "KRAKEN-SPOT-BTC-USD"),
        ("KRAKEN-PERP-BTC-USD", "KRAKEN-PERP-XBT-USD"),
        ("KRAKEN-SPOT-BTC-USD", "KRAKEN-SPOT-BTC-USD"),
    ):
        assert (await markets.get(spelt)).symbol == meant
        found = markets.peek(spelt)
        assert found is not None
        assert found.symbol == meant


async def test_a_spelling_that_could_mean_two_markets_is_refused() -> None:
    markets = await table("KRAKEN-SPOT-BTC-USD", "KRAKEN-SPOT-XBT-USD")
    with pytest.raises(MarketNotFound):
        await markets.get("KRAKEN-SPOT-XXBT-USD")


async def test_what_no_spelling_finds_is_refused_with_a_hint() -> None:
    markets = await table("KRAKEN-SPOT-BTC-USD")
    with pytest.raises(MarketNotFound, match="KRAKEN-SPOT-BTC-USD"):
        await markets.get("KRAKEN-SPOT-BTC-USDX")
    assert markets.peek("no symbol") is None


# -- hosts --------------------------------------------------------------------------------------------------------


class Hosts(VenueHosts):
    spot_rest: str = "https://api.nest"
    stream: str | None = "wss://stream.nest"


class Settings(VenueSettings):
    environments: ClassVar[Any] = {"live": {}, "test": {"spot_rest": "https://test.nest"}}
    environment: Literal["live", "test"] = "live"
    hosts: Hosts = Hosts()


def test_hosts_that_are_given_win_over_the_environment() -> None:
    assert Settings().hosts.spot_rest == "https://api.nest"
    assert Settings(environment="test").hosts.spot_rest == "https://test.nest"
    given = Settings.model_validate({"environment": "test", "hosts": {"spot_rest": "http://127.0.0.1:1"}})
    assert given.hosts.spot_rest == "http://127.0.0.1:1"
    assert given.hosts.stream == "wss://stream.nest"


@pytest.mark.parametrize(
    "hosts",
    [{"spot_rest": "wss://api.nest"}, {"stream": "https://x"}, {"stream": "wss://x/path"}, {"spot_rest": "api.nest"}],
)
def test_hosts_of_another_scheme_or_with_a_path_are_refused(hosts: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"must (start|end)"):
        Settings.model_validate({"hosts": hosts})


# -- requests, errors, units --------------------------------------------------------------------------------------


def test_parameters_are_plain_text_in_their_order() -> None:
    params = [("b", Decimal("1E-7")), ("a", True), ("c", None), ("d", "a b&"), ("e", Decimal("1.50"))]
    assert encoded(params) == "b=0.0000001&a=true&d=a%20b%26&e=1.5"


def test_a_lost_meaning_leaves_commands_open_and_reads_plain() -> None:
    lost = Meaning(VenueUnavailable, lost=True)
    assert isinstance(Failure("NEST", "oops", command=True).raised_as(lost), AnswerLost)
    assert isinstance(Failure("NEST", "oops").raised_as(lost), VenueUnavailable)
    refused = Failure("NEST", "too small", code="7", command=True).raised_as(Meaning(InvalidOrder, rule="lot-size"))
    assert isinstance(refused, InvalidOrder)
    assert (refused.rule, refused.code, refused.exchange) == ("lot-size", "7", "NEST")


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (401, AuthenticationError), (403, PermissionDenied), (500, AnswerLost)]
)
def test_what_no_table_knows_goes_by_its_status(status: int, kind: type[Exception]) -> None:
    assert isinstance(Failure("NEST", "?", status=status, command=True).raised_as(None), kind)


def test_recent_entries_stay() -> None:
    recent: Recent[str, int] = Recent(2)
    recent["a"], recent["b"] = 1, 2
    assert recent.get("a") == 1
    recent["c"] = 3
    assert (recent.get("a"), recent.get("b"), recent.made("c", lambda: 4)) == (1, None, 3)


def test_contracts_become_base_units() -> None:
    linear = market("X-PERP-A-B", contract_size=Decimal("0.01"), contract_type=ContractType.LINEAR)
    inverse = market("X-PERP-A-B", contract_size=Decimal(100), contract_type=ContractType.INVERSE)
    one = market("X-PERP-A-B", contract_size=Decimal(1), contract_type=ContractType.LINEAR)
    by_size, by_price = Units.of(linear), Units.of(inverse)
    assert by_size is not None
    assert by_price is not None
    assert by_size.levels([(50_000.0, 3.0)]) == [(50_000.0, 0.03)]
    assert by_price.levels([(50_000.0, 3.0)]) == [(50_000.0, 0.006)]
    assert by_price.quantity(5.0, 25_000.0) == 0.02
    assert Units.of(one) is None
    assert Units.of(None) is None
