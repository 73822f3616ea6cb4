"""The `Astra` object: loading, routing, middleware, orders, and what must never happen."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import pytest

import astra as package
from astra import Astra, Credentials, Market, Order, OrderChange, OrderRequest, Trade
from astra.errors import (
    AstraError,
    AuthenticationError,
    BadRequest,
    ConfigError,
    InvalidOrder,
    MarketNotFound,
    OrderOutcomeUnknown,
    Outcome,
    PermissionDenied,
    PluginError,
    RateLimited,
    StreamClosed,
    SymbolError,
    UnknownExchange,
    UnsupportedOperation,
    VenueUnavailable,
)
from astra.hookspecs import hookimpl, hookspec
from astra.models.accounts import Balance
from astra.models.orderbook import Orderbook
from astra.models.orders import OrderOptions, OrderRef, OrderStatus
from astra.plugins import FRONTENDS, MIDDLEWARE, VENUES, Plugins
from astra.streams.feed import DataType
from astra.streams.hub import Hub
from astra.streams.stream import MarketStream
from astra.symbols import AssetType
from astra.trading.checks import ClientIdRule
from astra.venue import Venue, VenueSettings

pytestmark = pytest.mark.anyio

KEYS = {code: Credentials.of(code, f"{code}-hunter2-key", f"{code}-hunter2-secret") for code in ("ALPHA", "BETA")}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class FastClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + round(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        await self.sleep(seconds)
        return event.is_set()


class Options(OrderOptions):
    margin_mode: str | None = None
    iceberg: int = 0


class Settings(VenueSettings):
    greeting: str = "hello"


def market(code: str, base: str = "BTC", **fields: Any) -> Market:
    return Market(
        **{
            "symbol": f"{code}-SPOT-{base}-USDT",
            "asset_type": AssetType.SPOT,
            "base_asset": base,
            "quote_asset": "USDT",
            "native_symbol": f"{base}USDT",
            "product": "spot",
            "tick_size": "0.01",
            "lot_size": "0.001",
        }
        | fields
    )


def order_of(market: Market, order: OrderRequest, **fields: Any) -> Order:
    return Order(
        **{
            "id": "1",
            "client_order_id": order.client_order_id,
            "market": market.symbol,
            "side": order.side,
            "type": order.type,
            "status": OrderStatus.NEW,
            "price": order.price,
            "quantity": order.quantity,
        }
        | fields
    )


class ToyVenue(Venue):
    """A venue that remembers what it was asked. Subclasses give it a code."""

    settings_model = Settings
    products = ("spot",)
    order_options = Options
    client_ids: ClassVar = {"default": ClientIdRule(max_length=20, alphabet="a-z0-9", prefix="x")}
    log: list[tuple[Any, ...]]
    stubbed: dict[str, Callable[..., Any]]

    async def _answer(self, operation: str, *args: Any) -> Any:
        self.log.append((operation, *args))
        await anyio.lowlevel.checkpoint()
        if operation in self.stubbed:
            return self.stubbed[operation](*args)
        return None

    @hookimpl
    async def startup(self, host: Any) -> None:
        await self._answer("startup")

    @hookimpl
    async def shutdown(self) -> None:
        await self._answer("shutdown")

    @hookimpl
    async def list_markets(self) -> Sequence[Market]:
        await self._answer("list_markets")
        return [market(self.code), market(self.code, "ETH")]

    @hookimpl
    async def get_orderbook(self, market: Market, depth: int, credentials: Any) -> Orderbook:
        await self._answer("get_orderbook", market.symbol, depth, credentials)
        return Orderbook(market.symbol, 1, [(1.0, 1.0)], [(2.0, 1.0)], None, 0)

    @hookimpl
    async def place_order(self, market: Market, order: OrderRequest, credentials: Any) -> Order:
        answer = await self._answer("place_order", market.symbol, order, credentials)
        return answer if answer is not None else order_of(market, order)

    @hookimpl
    async def cancel_order(self, market: Market, ref: OrderRef, credentials: Any) -> Order:
        answer: Order = await self._answer("cancel_order", market.symbol, ref, credentials)
        return answer

    @hookimpl
    async def amend_order(self, market: Market, ref: OrderRef, change: OrderChange, credentials: Any) -> Order:
        answer: Order = await self._answer("amend_order", market.symbol, ref, change, credentials)
        return answer

    @hookimpl
    async def list_orders(self, market: Market | None, credentials: Any) -> Sequence[Order]:
        await self._answer("list_orders", market and market.symbol, credentials)
        return []

    @hookimpl
    async def get_balances(self, credentials: Any) -> Sequence[Balance]:
        await self._answer("get_balances", credentials)
        return []

    @hookimpl
    async def resolve_order(self, market: Market, client_order_id: str, since: int, credentials: Any) -> Order | bool:
        answer: Order | bool = await self._answer("resolve_order", client_order_id, since)
        return answer


def toy(code: str, **members: Any) -> Any:
    """A venue class with a log of its own."""
    return type(f"{code.title()}Venue", (ToyVenue,), {"code": code, "log": [], "stubbed": {}, **members})


@pytest.fixture
def alpha(site: Any) -> Any:
    venue = toy("ALPHA")
    site.offer(VENUES, "ALPHA", venue, "acme-alpha")
    return venue


@pytest.fixture
def beta(site: Any) -> Any:
    venue = toy("BETA")
    site.offer(VENUES, "BETA", venue, "acme-beta")
    return venue


def made(**arguments: Any) -> Astra:
    defaults: dict[str, Any] = {"credentials": KEYS.values(), "clock": FastClock()}
    return Astra(**defaults | arguments)


UNRESOLVED = {"trading": {"resolve_s": 0}}
"""Lost answers stay lost."""


def limit(**fields: Any) -> OrderRequest:
    return OrderRequest(**{"side": "BUY", "quantity": "1", "price": "10"} | fields)


def asked(venue: Any) -> list[str]:
    """The operations that reached the venue, its own life and market list aside."""
    return [entry[0] for entry in venue.log if entry[0] not in ("startup", "shutdown", "list_markets")]


# --- life ----------------------------------------------------------------------------------------------------------


async def test_venues_load_on_first_use_and_shut_down_at_the_end(alpha: Any, beta: Any) -> None:
    async with made() as astra:
        assert {"ALPHA", "BETA"} <= set(astra.exchanges())
        assert alpha.log == []
        assert [one.symbol for one in await astra.list_markets("ALPHA")] == [
            "ALPHA-SPOT-BTC-USDT",
            "ALPHA-SPOT-ETH-USDT",
        ]
        assert alpha.log == [("startup",), ("list_markets",)]
    assert alpha.log[-1] == ("shutdown",)
    assert beta.log == []


async def test_a_venue_is_loaded_once_however_many_ask_at_the_same_time(alpha: Any) -> None:
    async with made() as astra:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(astra.market, "ALPHA-SPOT-BTC-USDT")
        assert alpha.log.count(("startup",)) == 1
        assert alpha.log.count(("list_markets",)) == 1


async def test_an_object_works_only_while_it_is_entered_and_is_entered_once(alpha: Any) -> None:
    astra = made()
    with pytest.raises(StreamClosed, match="enter the Astra object first"):
        await astra.list_markets("ALPHA")
    async with astra:
        pass
    with pytest.raises(StreamClosed, match="is closed"):
        await astra.list_markets("ALPHA")
    with pytest.raises(StreamClosed, match="entered once"):
        await astra.__aenter__()
    assert alpha.log == []


async def test_errors_of_the_block_come_out_as_they_are(alpha: Any) -> None:
    with pytest.raises(SymbolError):
        async with made() as astra:
            await astra.market("nonsense")

    async def fail() -> None:
        async with made() as astra:
            astra.start_soon(anyio.sleep_forever)
            await astra.list_markets("ALPHA")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        await fail()
    assert alpha.log[-1] == ("shutdown",)


async def test_cancellation_passes_through_and_venues_still_shut_down(alpha: Any) -> None:
    with anyio.CancelScope() as scope:
        async with made() as astra:
            await astra.list_markets("ALPHA")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert alpha.log[-1] == ("shutdown",)


async def test_a_venue_that_cannot_start_is_released_reported_and_tried_again(alpha: Any, beta: Any) -> None:
    alpha.stubbed["startup"] = lambda: 1 / 0
    async with made() as astra:
        with pytest.raises(PluginError, match=r"venue ALPHA failed to start: ZeroDivisionError"):
            await astra.list_markets("ALPHA")
        assert alpha.log == [("startup",), ("shutdown",)]
        assert await astra.list_markets("BETA")
        alpha.stubbed.clear()
        assert await astra.list_markets("ALPHA")


async def test_an_error_of_ours_at_the_start_of_a_venue_keeps_its_kind(alpha: Any) -> None:
    def down() -> None:
        raise VenueUnavailable("in maintenance", exchange="ALPHA")

    alpha.stubbed["startup"] = down
    async with made() as astra:
        with pytest.raises(VenueUnavailable):
            await astra.list_markets("ALPHA")


async def test_a_venue_that_fails_to_shut_down_keeps_no_other_from_it(
    alpha: Any, beta: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astra.routing.SHUTDOWN_S", 0.05)
    alpha.stubbed["shutdown"] = lambda: 1 / 0
    gamma = toy("GAMMA")

    @hookimpl
    async def shutdown(self: Any) -> None:
        await anyio.sleep_forever()

    gamma.shutdown = shutdown
    plugins = Plugins(entry_points=lambda: [*Plugins()._entry_points(), *_entry("GAMMA", gamma)])
    async with made(plugins=plugins) as astra:
        for code in ("BETA", "GAMMA", "ALPHA"):
            await astra.list_markets(code)
    assert beta.log[-1] == ("shutdown",)
    assert "ALPHA did not shut down cleanly" in caplog.text
    assert "GAMMA did not shut down within" in caplog.text


def _entry(code: str, venue: Any) -> Iterator[Any]:
    import importlib.metadata

    sys.modules[f"offered_{code}"] = SimpleNamespace(venue=venue)  # type: ignore[assignment]
    yield importlib.metadata.EntryPoint(code, f"offered_{code}:venue", VENUES)


async def test_a_failing_background_task_ends_nothing_else(alpha: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    async with made() as astra:
        venue = await astra.venue("ALPHA")
        venue.host.start_soon(fail, name="poll")
        await anyio.wait_all_tasks_blocked()
        assert await astra.list_markets("ALPHA")
    assert "ALPHA: poll failed" in caplog.text
    assert "a bug" in caplog.text


async def test_several_objects_in_one_process_know_nothing_of_each_other(alpha: Any) -> None:
    async with made() as one, made(settings={"venues": {"ALPHA": {"greeting": "hi"}}}) as other:
        assert await one.venue("ALPHA") is not await other.venue("ALPHA")
        assert (await one.venue("ALPHA")).settings.greeting == "hello"
        assert (await other.venue("ALPHA")).settings.greeting == "hi"


async def test_streams_left_open_end_when_the_object_is_closed(site: Any) -> None:
    def hub_of(venue: Any) -> Hub:
        if not hasattr(venue, "kept"):
            nothing: Any = None
            feed: Any = SimpleNamespace(origin=lambda market: market)
            venue.kept = Hub(exchange="ALPHA", feed=feed, history=nothing, host=venue.host, transport=SimpleNamespace)
            venue.kept.pool = SimpleNamespace(want=lambda topic: None, drop=lambda channel: None)
        kept: Hub = venue.kept
        return kept

    @hookimpl
    def stream_trades(self: Any, markets: Sequence[Market]) -> Any:
        return MarketStream.of(self.running_hub, DataType.TRADE, markets)

    site.offer(VENUES, "ALPHA", toy("ALPHA", running_hub=property(hub_of), stream_trades=stream_trades))
    ends: list[BaseException] = []

    async def read(stream: MarketStream[Any]) -> None:
        try:
            async for _ in stream:
                pass
        except StreamClosed as error:
            ends.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, made(clock=None) as astra:
            stream = astra.stream_trades("ALPHA-SPOT-BTC-USDT")
            await stream.__aenter__()
            tasks.start_soon(read, stream)
            await anyio.wait_all_tasks_blocked()
    assert len(ends) == 1


# --- plugins and settings ------------------------------------------------------------------------------------------


async def test_what_is_not_there_is_said_with_what_to_do(alpha: Any) -> None:
    async with made(settings={"plugins": ["ALPHA"]}) as astra:
        assert astra.exchanges() == ["ALPHA"]
        with pytest.raises(UnknownExchange, match="pip install astra-kraken"):
            await astra.list_markets("KRAKEN")
        with pytest.raises(UnknownExchange, match=r"Installed: ALPHA. Did you mean 'ALPHA'\?"):
            await astra.market("ALPHHA-SPOT-BTC-USDT")
        with pytest.raises(MarketNotFound, match=r"Did you mean 'ALPHA-SPOT-BTC-USDT'\?"):
            await astra.market("ALPHA-SPOT-BTC-USDC")


async def test_an_alias_reaches_the_exchange(site: Any) -> None:
    site.offer(VENUES, "HUOBI", toy("HUOBI"))
    async with made(settings={"plugins": ["htx"]}) as astra:
        assert (await astra.market("HTX-SPOT-BTC-USDT")).symbol == "HUOBI-SPOT-BTC-USDT"
        assert await astra.list_markets("HTX") == await astra.list_markets("HUOBI")
        assert await astra.venue("HTX") is await astra.venue("HUOBI")
        given = Credentials.of("HTX", "k", "s")
        await astra.get_balances("HUOBI", given)
        assert (await astra.venue("HUOBI")).log[-1] == ("get_balances", given)


async def test_a_broken_venue_takes_no_other_down(site: Any, alpha: Any) -> None:
    site.install("acme-broken", {VENUES: {"BROKEN": "acme_broken:Venue"}}, {"acme_broken": "import does_not_exist"})
    async with made() as astra:
        with pytest.raises(PluginError, match="does_not_exist"):
            await astra.list_markets("BROKEN")
        assert await astra.list_markets("ALPHA")
        assert "BROKEN" not in astra.exchanges()


async def test_settings_of_a_venue_are_checked_when_it_is_loaded(alpha: Any) -> None:
    async with made(settings={"venues": {"ALPHA": {"greting": "hi"}}}) as astra:
        with pytest.raises(ConfigError, match=r"venues\.ALPHA\.greting \(argument\): unknown key.*'greeting'"):
            await astra.list_markets("ALPHA")


async def test_sections_that_belong_to_nobody_stop_the_start(alpha: Any) -> None:
    with pytest.raises(ConfigError, match=r"venues\.ALPHHA .*Did you mean 'ALPHA'\?"):
        await made(settings={"venues": {"ALPHHA": {"greeting": "hi"}}}).__aenter__()


async def test_strict_plugins_stop_the_start_over_what_is_otherwise_only_reported(site: Any, alpha: Any) -> None:
    site.install("acme-broken", {VENUES: {"BROKEN": "acme_broken:Venue"}}, {"acme_broken": "import does_not_exist"})
    async with made(settings={"plugins": ["ALPHA"], "strict_plugins": True}):
        pass
    with pytest.raises(PluginError, match="does_not_exist"):
        await made(settings={"plugins": ["ALPHA", "BROKEN"], "strict_plugins": True}).__aenter__()
    with pytest.raises(PluginError, match="nothing installed is called ALHPA"):
        await made(settings={"plugins": ["ALHPA"], "strict_plugins": True}).__aenter__()
    async with made(settings={"plugins": ["ALPHA", "BROKEN", "ALHPA"]}):
        pass


async def test_configuration_comes_from_file_and_environment(alpha: Any, beta: Any, tmp_path: Path) -> None:
    (tmp_path / "astra.toml").write_text('[venues.ALPHA]\ngreeting = "file"\nproxy = "http://file"\n')
    env = {
        "ASTRA_PLUGINS": "alpha",
        "ASTRA_VENUES__ALPHA__GREETING": "env",
        "ASTRA_ALPHA_DESK_API_KEY": "k",
        "ASTRA_ALPHA_DESK_API_SECRET": "s",
    }
    async with Astra.from_config(tmp_path / "astra.toml", env, clock=FastClock()) as astra:
        assert astra.exchanges() == ["ALPHA"]
        settings = (await astra.venue("ALPHA")).settings
        assert (settings.greeting, settings.proxy) == ("env", "http://file")
        await astra.get_balances("ALPHA", "desk")
        assert alpha.log[-1] == ("get_balances", Credentials.of("ALPHA", "k", "s", account="desk"))
        with pytest.raises(AuthenticationError, match="ASTRA_ALPHA_API_KEY and ASTRA_ALPHA_API_SECRET"):
            await astra.get_balances("ALPHA")


async def test_arguments_alone_read_no_environment(alpha: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRA_PLUGINS", "BETA")
    monkeypatch.setenv("ASTRA_ALPHA_API_KEY", "k")
    monkeypatch.setenv("ASTRA_ALPHA_API_SECRET", "s")
    async with Astra() as astra:
        with pytest.raises(AuthenticationError, match=r"Credentials\.of\('ALPHA'"):
            await astra.get_balances("ALPHA")


async def test_the_typed_venue_is_had_by_its_class(alpha: Any, beta: Any) -> None:
    class Stranger(ToyVenue):
        code = "ALPHA"

    async with made() as astra:
        venue = await astra.venue(alpha)
        assert isinstance(venue, alpha)
        assert venue is await astra.venue("ALPHA")
        with pytest.raises(PluginError, match=r"ALPHA is served by .*AlphaVenue"):
            await astra.venue(Stranger)
        with pytest.raises(BadRequest, match="no venue class"):
            await astra.venue(dict)


async def test_any_class_with_hooks_is_a_venue(site: Any) -> None:
    class Minimal:
        code = "TINY"
        api_version = "1.0"

        @hookimpl
        async def list_markets(self) -> Sequence[Market]:
            return [market("TINY")]

        @hookimpl
        async def place_order(self, market: Market, order: OrderRequest) -> Order:
            return order_of(market, order)

    site.offer(VENUES, "TINY", Minimal)
    async with made(credentials=[Credentials.of("TINY", "k", "s")]) as astra:
        assert (await astra.market("TINY-SPOT-BTC-USDT")).symbol == "TINY-SPOT-BTC-USDT"
        placed = await astra.place_order("TINY-SPOT-BTC-USDT", limit())
        assert placed.client_order_id
        assert len(placed.client_order_id) <= 32
        assert placed.client_order_id.isalnum()
        with pytest.raises(UnsupportedOperation, match="TINY does not offer get_balances"):
            await astra.get_balances("TINY")


async def test_the_transport_follows_the_event_loop(alpha: Any, anyio_backend: str) -> None:
    async with made() as astra:
        host = (await astra.venue("ALPHA")).host
        expected = {"asyncio": "PicowsTransport", "trio": "HttpxWsTransport"}[anyio_backend]
        assert type(host.transport("auto")).__name__ == expected
        with pytest.raises(PluginError, match=r"no transport named 'picow' is installed.*Did you mean 'picows'"):
            host.transport("picow")


# --- routing -------------------------------------------------------------------------------------------------------


async def test_a_call_reaches_its_own_venue_and_no_other(alpha: Any, beta: Any) -> None:
    async with made() as astra:
        await astra.list_markets("BETA")
        await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
        await astra.get_balances("BETA")
        await astra.get_orderbook("BETA-SPOT-ETH-USDT", 7)
    assert asked(alpha) == ["place_order"]
    assert asked(beta) == ["get_balances", "get_orderbook"]
    assert {entry[-1] for entry in alpha.log if entry[0] == "place_order"} == {KEYS["ALPHA"]}
    assert beta.log[-2] == ("get_orderbook", "BETA-SPOT-ETH-USDT", 7, None)


async def test_keys_of_one_exchange_are_never_shown_to_another(alpha: Any, beta: Any) -> None:
    async with made() as astra:
        with pytest.raises(AuthenticationError, match="credentials of BETA, not of ALPHA: nothing was sent"):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(), KEYS["BETA"])
        with pytest.raises(AuthenticationError, match="credentials of BETA, not of ALPHA"):
            await astra.get_orderbook("ALPHA-SPOT-BTC-USDT", 5, KEYS["BETA"])
    assert asked(alpha) == []


async def test_a_key_for_a_product_that_the_venue_has_not_is_refused(alpha: Any) -> None:
    keys = {"spto": KEYS["ALPHA"].keys["default"]}
    async with made(credentials=[Credentials(exchange="ALPHA", keys=keys)]) as astra:
        with pytest.raises(AuthenticationError, match=r"key for 'spto'.*Did you mean 'spot'\?"):
            await astra.get_balances("ALPHA")


@pytest.mark.parametrize(
    "operation",
    ["get_positions", "get_fees", "cancel_all_orders", "list_fills"],
)
async def test_what_a_venue_lacks_is_unsupported_by_name_before_anything_is_asked(alpha: Any, operation: str) -> None:
    async with made() as astra:
        with pytest.raises(UnsupportedOperation, match=f"ALPHA does not offer {operation}") as caught:
            await getattr(astra, operation)("ALPHA")
        assert caught.value.exchange == "ALPHA"
        with pytest.raises(UnsupportedOperation, match="set_leverage"):
            await astra.set_leverage("ALPHA-SPOT-BTC-USDT", 3)
    assert alpha.log == [("startup",), ("shutdown",)]


async def test_an_account_call_takes_an_exchange_or_a_market(alpha: Any) -> None:
    async with made() as astra:
        await astra.list_orders("ALPHA")
        await astra.list_orders("ALPHA-SPOT-ETH-USDT")
    assert [entry[1] for entry in alpha.log if entry[0] == "list_orders"] == [None, "ALPHA-SPOT-ETH-USDT"]


@pytest.mark.parametrize("depth", [0, -1, 5001, 1.5, True, "10"])
async def test_a_depth_out_of_range_is_refused_before_the_venue(alpha: Any, depth: Any) -> None:
    async with made() as astra:
        with pytest.raises(BadRequest, match="1 to 5000"):
            await astra.get_orderbook("ALPHA-SPOT-BTC-USDT", depth)
    assert alpha.log == []


async def test_malformed_arguments_are_refused_before_the_venue(alpha: Any) -> None:
    async with made() as astra:
        symbol = "ALPHA-SPOT-BTC-USDT"
        calls: list[Callable[[], Any]] = [
            lambda: astra.get_order(symbol),
            lambda: astra.get_order(symbol, id="1", client_order_id="a"),
            lambda: astra.cancel_order(symbol, id=""),
            lambda: astra.place_order(symbol, {"side": "BUY"}),  # type: ignore[arg-type]
            lambda: astra.amend_order(symbol, limit(), id="1"),  # type: ignore[arg-type]
            lambda: astra.list_fills("ALPHA", since=-1),
            lambda: astra.list_fills("ALPHA", limit=0),
            lambda: astra.set_leverage(symbol, 2.5),  # type: ignore[arg-type]
            lambda: astra.set_leverage(symbol, "many"),
            lambda: astra.set_margin_mode(symbol, "CROSSED"),
            lambda: astra.keep_alive_orders("ALPHA", -1),
            lambda: astra.resolve_order(symbol, ""),
            lambda: astra.place_orders([]),
            lambda: astra.place_orders([(symbol, limit()), ("BETA-SPOT-BTC-USDT", limit())]),
            lambda: astra.market(None),  # type: ignore[arg-type]
        ]
        for call in calls:
            with pytest.raises(BadRequest):
                await call()
        for stream in (astra.stream_orderbook, astra.stream_trades):
            with pytest.raises(SymbolError):
                stream(symbol, "ALPHA_SPOT_BTC_USDT")
            with pytest.raises(BadRequest, match="at least one market"):
                stream()
            with pytest.raises(BadRequest, match="max_queue"):
                stream(symbol, max_queue=0)
    assert alpha.log == []


# --- orders --------------------------------------------------------------------------------------------------------


async def test_every_order_carries_a_client_order_id_in_the_venues_format(alpha: Any) -> None:
    async with made() as astra:
        ids = {(await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())).client_order_id for _ in range(20)}
        assert len(ids) == 20
        for one in ids:
            assert one is not None
            ToyVenue.client_ids["default"].check(one, "ALPHA")
        own = await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(client_order_id="mine1"))
        assert own.client_order_id == "mine1"
        with pytest.raises(InvalidOrder, match="NOT MINE") as caught:
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(client_order_id="NOT MINE"))
        assert caught.value.rule == "client-order-id"
    assert len(asked(alpha)) == 21


@pytest.mark.parametrize(("fields", "rule"), [({"price": "10.001"}, "tick-size"), ({"quantity": "0.0001"}, "lot-size")])
async def test_an_order_that_breaks_a_rule_of_the_market_never_leaves(alpha: Any, fields: Any, rule: str) -> None:
    async with made() as astra:
        with pytest.raises(InvalidOrder) as caught:
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(**fields))
        assert caught.value.rule == rule
    assert asked(alpha) == []


async def test_options_become_the_venues_own_model(alpha: Any) -> None:
    async with made() as astra:
        for given in ({"marginMode": "X"}, {"margin_mode": "X"}, Options(margin_mode="X")):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(options=given))
            assert alpha.log[-1][2].options == Options(margin_mode="X")
        await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(options={}))
        assert alpha.log[-1][2].options is None


class StrangeOptions(OrderOptions):
    margin_mode: str | None = None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"marginMod": "X"}, r"ALPHA has no order option 'marginMod'. Did you mean 'marginMode'\?"),
        ({"iceberg": "much"}, "option iceberg: "),
        (StrangeOptions(), "options are a StrangeOptions; ALPHA takes Options"),
    ],
)
async def test_options_that_the_venue_does_not_know_are_refused(alpha: Any, options: Any, reason: str) -> None:
    async with made() as astra:
        with pytest.raises(InvalidOrder, match=reason) as caught:
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(options=options))
        assert caught.value.rule == "options"
    assert asked(alpha) == []


async def test_a_venue_without_options_refuses_them(site: Any) -> None:
    venue = toy("ALPHA", order_options=None)
    site.offer(VENUES, "ALPHA", venue)
    async with made() as astra:
        with pytest.raises(InvalidOrder, match="ALPHA takes no order options"):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(options={"x": 1}))
    assert asked(venue) == []


async def test_a_bug_in_a_plugin_never_passes_for_an_order_that_was_not_placed(alpha: Any) -> None:
    def bug(*args: Any) -> None:
        raise KeyError("orderId")

    for operation in ("place_order", "cancel_order", "amend_order"):
        alpha.stubbed[operation] = bug
    symbol = "ALPHA-SPOT-BTC-USDT"
    async with made() as astra:
        with pytest.raises(OrderOutcomeUnknown, match="KeyError") as placed:
            await astra.place_order(symbol, limit())
        with pytest.raises(OrderOutcomeUnknown) as canceled:
            await astra.cancel_order(symbol, id="7")
        with pytest.raises(OrderOutcomeUnknown) as amended:
            await astra.amend_order(symbol, OrderChange(price=Decimal(11)), client_order_id="mine1")
    assert placed.value.outcome is Outcome.UNKNOWN
    assert placed.value.client_order_id == alpha.log[2][2].client_order_id
    assert (canceled.value.operation, canceled.value.order_id) == ("cancel_order", "7")
    assert (amended.value.operation, amended.value.client_order_id) == ("amend_order", "mine1")


async def test_errors_of_a_venue_pass_as_they_are(alpha: Any) -> None:
    def refuse(*args: Any) -> None:
        raise InvalidOrder("no", exchange="ALPHA", code="-2010")

    alpha.stubbed["place_order"] = refuse
    async with made() as astra:
        with pytest.raises(InvalidOrder) as caught:
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert caught.value.code == "-2010"


def batching(answer: Callable[..., Any]) -> Any:
    @hookimpl
    async def place_orders(self: Any, orders: Sequence[tuple[Market, OrderRequest]], credentials: Any) -> Any:
        self.log.append(("place_orders", [order for _, order in orders]))
        return answer(orders)

    return toy("ALPHA", place_orders=place_orders)


async def test_a_batch_answers_position_by_position(site: Any) -> None:
    venue = batching(lambda orders: [order_of(*one) for one in orders[:-1]] + [InvalidOrder("no", exchange="ALPHA")])
    site.offer(VENUES, "ALPHA", venue)
    btc, eth = "ALPHA-SPOT-BTC-USDT", "ALPHA-SPOT-ETH-USDT"
    async with made() as astra:
        answers = await astra.place_orders(
            [
                (btc, limit(client_order_id="one")),
                (btc, limit(price="10.001")),
                ("ALPHA-SPOT-XYZ-USDT", limit()),
                (eth, limit(client_order_id="NOT MINE")),
                (eth, limit()),
            ]
        )
    assert [type(answer) for answer in answers] == [Order, InvalidOrder, MarketNotFound, InvalidOrder, InvalidOrder]
    first = answers[0]
    assert isinstance(first, Order)
    assert (first.client_order_id, first.market) == ("one", btc)
    (sent,) = (entry[1] for entry in venue.log if entry[0] == "place_orders")
    assert len(sent) == 2
    assert all(order.client_order_id for order in sent)


@pytest.mark.parametrize("answer", [lambda orders: [], lambda orders: 1 / 0], ids=["too few answers", "a bug"])
async def test_a_batch_that_fails_in_the_plugin_has_an_unknown_outcome_for_each(site: Any, answer: Any) -> None:
    site.offer(VENUES, "ALPHA", batching(answer))
    async with made() as astra:
        answers = await astra.place_orders([("ALPHA-SPOT-BTC-USDT", limit(client_order_id=i)) for i in ("a", "b")])
    assert [type(one) for one in answers] == [OrderOutcomeUnknown] * 2
    assert [one.client_order_id for one in answers if isinstance(one, OrderOutcomeUnknown)] == ["a", "b"]


async def test_a_batch_is_unsupported_where_the_venue_takes_none(alpha: Any) -> None:
    async with made() as astra:
        with pytest.raises(UnsupportedOperation, match="place_orders"):
            await astra.place_orders([("ALPHA-SPOT-BTC-USDT", limit())])


def canceling(answer: Callable[..., Any]) -> Any:
    @hookimpl
    async def cancel_orders(self: Any, refs: Sequence[tuple[Market, OrderRef]], credentials: Any) -> Any:
        self.log.append(("cancel_orders", [ref for _, ref in refs]))
        return [answer(market, ref) for market, ref in refs]

    return toy("ALPHA", cancel_orders=cancel_orders)


def canceled(market: Market, ref: OrderRef) -> Order:
    return order_of(market, limit(client_order_id=ref.client_order_id), status=OrderStatus.CANCELED)


async def test_a_batch_of_cancels_answers_position_by_position(site: Any) -> None:
    site.offer(VENUES, "ALPHA", canceling(canceled))
    one, two = (OrderRef(client_order_id=name) for name in ("one", "two"))
    async with made() as astra:
        answers = await astra.cancel_orders(
            [("ALPHA-SPOT-BTC-USDT", one), ("ALPHA-SPOT-XYZ-USDT", one), ("ALPHA-SPOT-ETH-USDT", two)]
        )
        assert [type(answer) for answer in answers] == [Order, MarketNotFound, Order]
        for nonsense in ([], [("ALPHA-SPOT-BTC-USDT", "one")], [("ALPHA-SPOT-BTC-USDT", one), ("BETA-SPOT-A-B", one)]):
            with pytest.raises(BadRequest):
                await astra.cancel_orders(nonsense)  # type: ignore[arg-type]


async def test_cancels_in_batches_are_unsupported_where_the_venue_takes_none(alpha: Any) -> None:
    async with made() as astra:
        with pytest.raises(UnsupportedOperation, match="cancel_orders"):
            await astra.cancel_orders([("ALPHA-SPOT-BTC-USDT", OrderRef(id="1"))])


async def test_a_batch_of_cancels_does_not_get_round_middleware_that_guards_single_ones(site: Any) -> None:
    class Veto:
        api_version = "1.0"

        async def cancel_order(self, call: Any, market: Any, ref: Any, credentials: Any) -> Any:
            raise PermissionDenied("not today", exchange=market.exchange)

    venue = canceling(canceled)
    site.offer(VENUES, "ALPHA", venue)
    site.offer(MIDDLEWARE, "veto", Veto)
    async with made(settings={"middleware": ["veto"]}) as astra:
        answers = await astra.cancel_orders([("ALPHA-SPOT-BTC-USDT", OrderRef(id="1"))])
    assert [type(answer) for answer in answers] == [PermissionDenied]
    assert asked(venue) == []


# --- what became of an order ---------------------------------------------------------------------------------------


async def test_a_lost_placement_is_found(alpha: Any) -> None:
    found = order_of(market("ALPHA"), limit(client_order_id="lost"))
    answers: Iterator[Any] = iter([True, True, True, found])
    alpha.stubbed["resolve_order"] = lambda *args: next(answers)
    async with made() as astra:
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost", since=5) == found
    assert [entry for entry in alpha.log if entry[0] == "resolve_order"] == [("resolve_order", "lost", 5)] * 4


async def test_none_means_certainly_not_placed(alpha: Any) -> None:
    answers = iter([True, False])
    alpha.stubbed["resolve_order"] = lambda *args: next(answers)
    async with made() as astra:
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost", since=5) is None


async def test_what_cannot_be_told_by_the_deadline_stays_unknown(alpha: Any) -> None:
    clock = FastClock()
    alpha.stubbed["resolve_order"] = lambda *args: True
    async with made(clock=clock) as astra:
        with pytest.raises(OrderOutcomeUnknown, match="within 3 s") as caught:
            await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost", since=5, timeout_s=3)
    assert caught.value.client_order_id == "lost"
    assert 1 < clock.now <= 3
    assert asked(alpha).count("resolve_order") < 10


async def test_a_venue_that_is_down_is_asked_again_until_the_deadline(alpha: Any) -> None:
    found = order_of(market("ALPHA"), limit())
    answers: Iterator[Any] = iter(
        [VenueUnavailable("down", exchange="ALPHA"), RateLimited("slow", exchange="ALPHA", retry_after=2.0), found]
    )

    def answer(*args: Any) -> Any:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    alpha.stubbed["resolve_order"] = answer
    clock = FastClock()
    async with made(clock=clock) as astra:
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost", since=5) == found
        assert clock.now >= 2.0
        alpha.stubbed["resolve_order"] = lambda *args: (_ for _ in ()).throw(VenueUnavailable("x", exchange="ALPHA"))
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost", since=5)
        assert isinstance(caught.value.__cause__, VenueUnavailable)


async def test_not_placed_must_hold_for_the_whole_time_in_which_the_request_may_have_left(alpha: Any) -> None:
    clock = FastClock()

    def slowly_lost(*args: Any) -> None:
        clock.now += 30
        raise OrderOutcomeUnknown("lost", exchange="ALPHA", market="ALPHA-SPOT-BTC-USDT")

    alpha.stubbed["place_order"] = slowly_lost
    alpha.stubbed["resolve_order"] = lambda *args: False
    async with made(clock=clock, settings=UNRESOLVED) as astra:
        begun = clock.wall_ns() // 1_000_000
        with pytest.raises(OrderOutcomeUnknown):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(client_order_id="lost"))
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "lost") is None
        moments = [entry[2] for entry in alpha.log if entry[0] == "resolve_order"]
        assert moments == [begun + 30_000, begun]
        alpha.log.clear()
        now = clock.wall_ns() // 1_000_000
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "ofanother") is None
        moments = [entry[2] for entry in alpha.log if entry[0] == "resolve_order"]
        assert moments[0] == now
        assert moments[-1] < now


async def test_an_order_that_arrives_between_two_questions_is_found(alpha: Any) -> None:
    """A venue that can only search its history from a moment on, and a request that arrives late."""
    clock = FastClock()
    arrived = order_of(market("ALPHA"), limit(client_order_id="late"))
    begun = clock.wall_ns() // 1_000_000
    questions: list[int] = []

    def lost(*args: Any) -> None:
        clock.now += 1
        raise OrderOutcomeUnknown("lost", exchange="ALPHA", market="ALPHA-SPOT-BTC-USDT")

    def search(client_order_id: str, since: int) -> Any:
        questions.append(since)
        there = len(questions) > 1  # it arrives right after the first look
        return arrived if there and since <= begun else False

    alpha.stubbed |= {"place_order": lost, "resolve_order": search}
    async with made(clock=clock, settings=UNRESOLVED) as astra:
        with pytest.raises(OrderOutcomeUnknown):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(client_order_id="late"))
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "late") == arrived


# --- streams -------------------------------------------------------------------------------------------------------


class StubHub:
    """Keeps the taps of each market; a topic is its symbol."""

    def __init__(self) -> None:
        self.taps: dict[str, Any] = {}
        self.clock = FastClock()

    def attach(self, data_type: DataType, what: Market, tap: Any) -> Any:
        self.taps[what.symbol] = tap
        return what.symbol

    def detach(self, topic: Any, tap: Any) -> None:
        del self.taps[topic]


def trading_stream(code: str, hub: StubHub, opened: list[list[str]]) -> Any:
    @hookimpl
    def stream_trades(self: Any, markets: Sequence[Market]) -> Any:
        opened.append([one.symbol for one in markets])
        return MarketStream.of(hub, DataType.TRADE, markets)  # type: ignore[arg-type]

    return toy(code, stream_trades=stream_trades)


async def test_one_stream_joins_markets_of_several_venues(site: Any) -> None:
    hubs = {"ALPHA": StubHub(), "BETA": StubHub()}
    opened: list[list[str]] = []
    for code, hub in hubs.items():
        site.offer(VENUES, code, trading_stream(code, hub, opened))
    symbols = ["ALPHA-SPOT-BTC-USDT", "BETA-SPOT-BTC-USDT", "ALPHA-SPOT-ETH-USDT", "ALPHA-SPOT-BTC-USDT"]
    async with made() as astra:
        stream = astra.stream_trades(*symbols)
        assert opened == []
        async with stream:
            assert opened == [["ALPHA-SPOT-BTC-USDT", "ALPHA-SPOT-ETH-USDT"], ["BETA-SPOT-BTC-USDT"]]
            trades = [Trade(symbol, 1.0, 1.0, None, 0, "1") for symbol in ("BETA-SPOT-BTC-USDT", "ALPHA-SPOT-ETH-USDT")]
            for trade in trades:
                hubs[trade.market.partition("-")[0]].taps[trade.market].put(trade)
            assert [await anext(stream), await anext(stream)] == trades
        assert not hubs["ALPHA"].taps
        assert not hubs["BETA"].taps


async def test_an_unknown_market_or_missing_hook_ends_the_stream_before_it_begins(site: Any, alpha: Any) -> None:
    hub = StubHub()
    site.offer(VENUES, "BETA", trading_stream("BETA", hub, []))
    async with made() as astra:
        with pytest.raises(MarketNotFound):
            await astra.stream_trades("BETA-SPOT-BTC-USDT", "BETA-SPOT-XYZ-USDT").__aenter__()
        with pytest.raises(UnsupportedOperation, match="ALPHA does not offer stream_trades"):
            await astra.stream_trades("BETA-SPOT-BTC-USDT", "ALPHA-SPOT-BTC-USDT").__aenter__()
        with pytest.raises(UnsupportedOperation, match="ALPHA does not offer stream_account"):
            await astra.stream_account("ALPHA").__aenter__()
    assert not hub.taps


async def test_there_is_no_live_book_where_nobody_streams(alpha: Any) -> None:
    async with made() as astra:
        assert astra.live_book("ALPHA-SPOT-BTC-USDT") is None
        await astra.market("ALPHA-SPOT-BTC-USDT")
        assert astra.live_book("ALPHA-SPOT-BTC-USDT") is None
        with pytest.raises(SymbolError):
            astra.live_book("nonsense")


# --- middleware ----------------------------------------------------------------------------------------------------


def layer(name: str, log: list[str], veto: bool = False) -> Any:
    class Layer:
        api_version = "1.0"

        async def place_order(self, call: Any, market: Any, order: Any, credentials: Any) -> Any:
            log.append(f"{name}>")
            try:
                if veto:
                    raise PermissionDenied("not today", exchange=market.exchange)
                return await call(market, order, credentials)
            except AstraError as error:
                log.append(f"{name}!{type(error).__name__}")
                raise
            finally:
                log.append(f"<{name}")

        def stream_trades(self, call: Any, markets: Any) -> Any:
            log.append(f"{name} streams")
            return call(markets)

    return Layer


async def test_middleware_runs_in_the_configured_order_outermost_first(site: Any, alpha: Any) -> None:
    log: list[str] = []
    for name in ("one", "two", "three"):
        site.offer(MIDDLEWARE, name, layer(name, log))
    async with made(settings={"middleware": ["two", "one"]}) as astra:
        await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert log == ["two>", "one>", "<one", "<two"]
    log.clear()
    async with made() as astra:
        await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert log == []


async def test_a_veto_reaches_no_one_further_in_and_is_seen_by_everyone_further_out(site: Any, alpha: Any) -> None:
    log: list[str] = []
    site.offer(MIDDLEWARE, "notes", layer("notes", log))
    site.offer(MIDDLEWARE, "guard", layer("guard", log, veto=True))
    site.offer(MIDDLEWARE, "inner", layer("inner", log))
    async with made(settings={"middleware": ["notes", "guard", "inner"]}) as astra:
        with pytest.raises(PermissionDenied, match="not today"):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert log == ["notes>", "guard>", "guard!PermissionDenied", "<guard", "notes!PermissionDenied", "<notes"]
    assert asked(alpha) == []


async def test_refusals_of_the_market_rules_are_seen_by_middleware_too(site: Any, alpha: Any) -> None:
    log: list[str] = []
    site.offer(MIDDLEWARE, "notes", layer("notes", log))
    async with made(settings={"middleware": ["notes"]}) as astra:
        with pytest.raises(InvalidOrder):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(price="10.001"))
    assert "notes!InvalidOrder" in log


async def test_middleware_sees_the_client_order_id(site: Any, alpha: Any) -> None:
    seen: list[str] = []

    class Journal:
        api_version = "1.0"

        async def place_order(self, call: Any, market: Any, order: Any, credentials: Any) -> Any:
            seen.append(order.client_order_id)
            return await call(market, order, credentials)

    site.offer(MIDDLEWARE, "notes", Journal)
    async with made(settings={"middleware": ["notes"]}) as astra:
        placed = await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert seen == [placed.client_order_id]


def redirecting(**replaced: Any) -> Any:
    class Redirect:
        api_version = "1.0"

        async def place_order(self, call: Any, market: Any, order: Any, credentials: Any) -> Any:
            arguments = {"market": market, "order": order, "credentials": credentials} | replaced
            return await call(*arguments.values())

    return Redirect


@pytest.mark.parametrize(
    ("replaced", "error"),
    [
        ({"market": market("BETA")}, BadRequest),
        ({"credentials": KEYS["BETA"]}, AuthenticationError),
        ({"order": limit(price="10.001", client_order_id="x1")}, InvalidOrder),
    ],
)
async def test_what_middleware_makes_of_a_call_is_checked_before_it_leaves(
    site: Any, alpha: Any, beta: Any, replaced: Any, error: Any
) -> None:
    site.offer(MIDDLEWARE, "redirect", redirecting(**replaced))
    async with made(settings={"middleware": ["redirect"]}) as astra:
        await astra.list_markets("BETA")
        with pytest.raises(error):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    assert asked(alpha) == asked(beta) == []


async def test_middleware_wraps_streams(site: Any) -> None:
    log: list[str] = []
    site.offer(MIDDLEWARE, "notes", layer("notes", log))
    site.offer(VENUES, "ALPHA", trading_stream("ALPHA", StubHub(), []))
    async with (
        made(settings={"middleware": ["notes"]}) as astra,
        astra.stream_trades("ALPHA-SPOT-BTC-USDT", "ALPHA-SPOT-ETH-USDT"),
    ):
        assert log == ["notes streams"]


async def test_a_batch_does_not_get_round_middleware_that_guards_single_orders(site: Any) -> None:
    log: list[str] = []
    venue = batching(lambda orders: pytest.fail("the batch went round the middleware"))
    site.offer(VENUES, "ALPHA", venue)
    site.offer(MIDDLEWARE, "guard", layer("guard", log, veto=True))
    async with made(settings={"middleware": ["guard"]}) as astra:
        answers = await astra.place_orders([("ALPHA-SPOT-BTC-USDT", limit())] * 2)
    assert [type(answer) for answer in answers] == [PermissionDenied] * 2
    assert asked(venue) == []


async def test_middleware_is_told_what_became_of_a_placement(site: Any, alpha: Any) -> None:
    told: list[Any] = []

    class Counts:
        api_version = "1.0"

        async def place_order(self, call: Any, market: Any, order: Any, credentials: Any) -> Any:
            return await call(market, order, credentials)

        async def order_resolved(self, market: Any, client_order_id: str, order: Any, credentials: Any) -> None:
            told.append((market.symbol, client_order_id, order, credentials))

    site.offer(MIDDLEWARE, "counts", Counts)
    alpha.stubbed["resolve_order"] = lambda client_order_id, since: False
    async with made(settings={"middleware": ["counts"]}) as astra:
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "x1") is None
        found = order_of(await astra.market("ALPHA-SPOT-BTC-USDT"), limit(client_order_id="x2"))
        alpha.stubbed["resolve_order"] = lambda client_order_id, since: found
        assert await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "x2") == found
        alpha.stubbed["resolve_order"] = lambda client_order_id, since: True
        with pytest.raises(OrderOutcomeUnknown):
            await astra.resolve_order("ALPHA-SPOT-BTC-USDT", "x3", timeout_s=0.1)
    assert told == [
        ("ALPHA-SPOT-BTC-USDT", "x1", None, KEYS["ALPHA"]),
        ("ALPHA-SPOT-BTC-USDT", "x2", found, KEYS["ALPHA"]),
    ]


async def test_configured_middleware_that_is_missing_or_broken_stops_the_start(site: Any, alpha: Any) -> None:
    site.install("acme-risk", {MIDDLEWARE: {"broken": "acme_risk:Risk"}}, {"acme_risk": "import does_not_exist"})
    for name, reason in (("risc", "no middleware named 'risc' is installed"), ("broken", "does_not_exist")):
        with pytest.raises(PluginError, match=reason):
            await made(settings={"middleware": [name]}).__aenter__()
    site.offer(MIDDLEWARE, "guard", layer("guard", []))
    with pytest.raises(PluginError, match="left out by plugins_block"):
        await made(settings={"middleware": ["guard"], "plugins_block": ["guard"]}).__aenter__()
    with pytest.raises(ConfigError, match="guard stands twice"):
        await made(settings={"middleware": ["guard", "guard"]}).__aenter__()


async def test_middleware_has_settings_and_a_life_of_its_own(site: Any, alpha: Any) -> None:
    life: list[Any] = []

    class Limits(VenueSettings):
        most: Decimal = Decimal(1)

    class Risk:
        api_version = "1.0"
        settings_model = Limits

        def __init__(self, host: Any, settings: Limits) -> None:
            life.append(settings.most)

        @hookimpl
        async def startup(self, host: Any) -> None:
            life.append(type(host.astra).__name__)

        @hookimpl
        async def shutdown(self) -> None:
            life.append("shutdown")

        async def place_order(self, call: Any, market: Any, order: Any, credentials: Any) -> Any:
            return await call(market, order, credentials)

    site.offer(MIDDLEWARE, "guard", Risk)
    async with made(settings={"middleware": {"order": ["guard"], "guard": {"most": "2.5"}}}) as astra:
        await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
        assert alpha.log[-1][0] == "place_order"
    assert life == [Decimal("2.5"), "Astra", "shutdown"]


# --- front-ends ----------------------------------------------------------------------------------------------------


class PortholeSpecs:
    @hookspec
    def add_panes(self, window: Any) -> None: ...


async def test_front_ends_serve_until_cancelled_and_hosts_find_the_others_hooks(site: Any) -> None:
    served: list[Any] = []

    class Porthole:
        api_version = "1.0"

        @hookimpl
        async def serve(self, host: Any) -> None:
            host.astra.hooks.add_hookspecs(PortholeSpecs)
            host.astra.hooks.hook.add_panes(window=served)
            served.append(host.settings)
            await anyio.sleep_forever()

        @hookimpl
        async def shutdown(self) -> None:
            served.append("shutdown")

    class Pane:
        api_version = "1.0"

        def __init__(self, host: Any) -> None:
            self.host = host

        @hookimpl
        def add_panes(self, window: Any) -> None:
            window.append("pane")

    class BadPane(Pane):
        @hookimpl
        def add_panes(self, windw: Any) -> None:
            raise AssertionError

    for name, plugin in (("porthole", Porthole), ("pane", Pane), ("bad-pane", BadPane)):
        site.offer(FRONTENDS, name, plugin)
    site.install("acme-broken", {FRONTENDS: {"broken": "acme_broken:Front"}}, {"acme_broken": "import does_not_exist"})
    chosen = ["porthole", "pane", "bad-pane", "broken"]
    async with made(settings={"plugins": chosen, "frontends": {"porthole": {"size": 3}}}) as astra:
        with anyio.move_on_after(0.2):
            await astra.serve()
        assert served == ["pane", {"size": 3}]
        assert "'windw'" in astra.hooks.rejected["frontends bad-pane"]
        assert await astra.frontend("porthole") is await astra.frontend("porthole")
        with pytest.raises(PluginError, match="does_not_exist"):
            await astra.serve("broken")
    assert served[-1] == "shutdown"


# --- secrets and traces --------------------------------------------------------------------------------------------


async def test_traces_show_the_calls_and_no_secret(alpha: Any, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    caplog.set_level(logging.DEBUG)
    async with made(plugins=Plugins(trace=lines.append)) as astra:
        placed = await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
        with pytest.raises(InvalidOrder):
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit(client_order_id="NOT MINE"))
        alpha.stubbed["place_order"] = lambda *args: 1 / 0
        with pytest.raises(OrderOutcomeUnknown) as caught:
            await astra.place_order("ALPHA-SPOT-BTC-USDT", limit())
    text = "\n".join(lines)
    assert "ALPHA place_order(market=ALPHA-SPOT-BTC-USDT, order=OrderRequest(" in text
    assert str(placed.client_order_id) in text
    assert "credentials=<ALPHA account 'default'>" in text
    assert "hunter2" not in text + caplog.text + repr(caught.value) + str(caught.value) + repr(astra)


def test_trace_plugins_prints_to_stderr(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer(VENUES, "ALPHA", toy("ALPHA"))

    async def main() -> None:
        async with Astra.from_config(env={"ASTRA_TRACE_PLUGINS": "1"}) as astra:
            await astra.list_markets("ALPHA")
            await (await astra.venue("ALPHA")).get_balances(KEYS["ALPHA"])
            with pytest.raises(AuthenticationError):
                await astra.get_balances("ALPHA")

    anyio.run(main)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "hunter2" not in printed.err


# --- the package ---------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    assert {"Astra", "Credentials", "OrderRequest", "Symbol", "errors", "__version__"} <= set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Asta'"):
        _ = package.Asta


def test_importing_astra_imports_nothing_heavy() -> None:
    heavy = ["pydantic", "httpx", "anyio", "picows", "stevedore", "pluggy", "importlib.metadata", "astra_binance"]
    code = f"import sys; from astra import Astra; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_making_an_object_imports_no_venue(site: Any) -> None:
    code = (
        "import sys; from astra import Astra; astra = Astra(); astra.exchanges()\n"
        "print([name for name in sys.modules if name.startswith('astra_')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
