"""Discovery from metadata, isolation of broken plugins, and the contract that plugins are measured by."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import pytest

from astra.errors import PluginError, UnknownExchange
from astra.hookspecs import API_VERSION, FrontendSpecs, hookimpl, hookspec
from astra.plugins import (
    COMMANDS,
    FRONTENDS,
    MIDDLEWARE,
    SANDBOXES,
    VENUES,
    PluginInfo,
    Plugins,
    PluginState,
    capabilities,
)
from astra.routing import HookManager

VENUE = """
    from astra.hookspecs import API_VERSION, hookimpl

    class Venue:
        code = "ALPHA"
        api_version = "1.0"

        @hookimpl
        async def list_markets(self):
            return []
"""


def one(plugins: Plugins, group: str, name: str) -> PluginInfo:
    (found,) = (info for info in plugins.listed(group) if info.name == name)
    return found


# --- discovery -----------------------------------------------------------------------------------------------------


def test_listing_imports_nothing(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": "raise SystemExit('imported')"})
    plugins = Plugins()
    assert one(plugins, VENUES, "ALPHA") == PluginInfo(
        name="ALPHA",
        group=VENUES,
        distribution="acme-alpha",
        version="1.0",
        target="acme_alpha:Venue",
        state=PluginState.INSTALLED,
    )
    assert "ALPHA" in plugins.names(VENUES)
    assert "acme_alpha" not in sys.modules


def test_installed_means_metadata_not_a_folder_that_imports(site: Any) -> None:
    (site.root / "astra_kraken").mkdir()
    with pytest.raises(UnknownExchange, match="pip install astra-kraken"):
        Plugins(entry_points=lambda: ()).load(VENUES, "KRAKEN")


def test_a_plugin_is_imported_when_it_is_first_used_and_only_it(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": VENUE})
    site.install("acme-beta", {VENUES: {"BETA": "acme_beta:Venue"}}, {"acme_beta": VENUE})
    plugins = Plugins()
    venue = plugins.load(VENUES, "ALPHA")
    assert venue.code == "ALPHA"
    assert plugins.load(VENUES, "alpha") is venue
    assert "acme_beta" not in sys.modules
    loaded = one(plugins, VENUES, "ALPHA")
    assert (loaded.state, loaded.api_version, loaded.hooks) == (PluginState.LOADED, "1.0", ("list_markets",))
    assert one(plugins, VENUES, "BETA").state is PluginState.INSTALLED


def test_a_name_claimed_by_two_distributions_is_refused_naming_both(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": VENUE})
    site.install("rogue", {VENUES: {"ALPHA": "rogue:Venue"}}, {"rogue": "raise SystemExit('imported')"}, "6.6.6")
    plugins = Plugins()
    assert [info.state for info in plugins.listed(VENUES) if info.name == "ALPHA"] == [PluginState.DUPLICATE] * 2
    assert "ALPHA" not in plugins.names(VENUES)
    with pytest.raises(PluginError, match=r"ALPHA is claimed by") as caught:
        plugins.load(VENUES, "ALPHA")
    assert "acme-alpha 1.0" in caught.value.message
    assert "rogue 6.6.6" in caught.value.message
    assert not {"acme_alpha", "rogue"} & set(sys.modules)


@pytest.mark.parametrize(("first", "second"), [("ALPHA", "Alpha"), ("HUOBI", "HTX")])
def test_another_spelling_of_a_name_is_the_same_name(site: Any, first: str, second: str) -> None:
    site.install("honest", {VENUES: {first: "honest:Venue"}})
    site.install("rogue", {VENUES: {second: "rogue:Venue"}})
    with pytest.raises(PluginError, match=r"(?s)honest 1\.0.*rogue 1\.0|rogue 1\.0.*honest 1\.0"):
        Plugins().load(VENUES, first)


def test_one_distribution_that_claims_a_name_for_two_objects_is_refused(site: Any) -> None:
    folder = site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}})
    with (folder / "entry_points.txt").open("a") as file:
        file.write("ALPHA = acme_alpha:Other\n")
    with pytest.raises(PluginError, match="claimed by"):
        Plugins().load(VENUES, "ALPHA")


def test_the_same_name_in_two_groups_is_two_plugins(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "a:V"}, SANDBOXES: {"ALPHA": "a:S"}, COMMANDS: {"alpha": "a:c"}})
    plugins = Plugins()
    assert {one(plugins, group, name).state for group, name in ((VENUES, "ALPHA"), (SANDBOXES, "ALPHA"))} == {
        PluginState.INSTALLED
    }


def test_what_is_installed_meanwhile_is_seen_after_a_refresh_past_all_caches(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stevedore.extension import ExtensionManager

    plugins = Plugins()
    with pytest.raises(UnknownExchange):
        plugins.load(VENUES, "ALPHA")
    # What stevedore would have remembered, in the class and on disk.
    stale = importlib.metadata.EntryPoint("ALPHA", "does_not_exist:Venue", VENUES)
    monkeypatch.setitem(ExtensionManager.ENTRY_POINT_CACHE, VENUES, [stale])
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": VENUE})
    plugins.refresh()
    assert plugins.load(VENUES, "ALPHA").code == "ALPHA"


def test_a_repaired_plugin_works_after_a_refresh(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": "import does_not_exist"})
    plugins = Plugins()
    for _ in range(2):
        with pytest.raises(PluginError, match="No module named 'does_not_exist'"):
            plugins.load(VENUES, "ALPHA")
    (site.root / "acme_alpha.py").write_text(textwrap.dedent(VENUE))
    plugins.refresh()
    assert plugins.load(VENUES, "ALPHA").code == "ALPHA"


# --- selection -----------------------------------------------------------------------------------------------------


@pytest.fixture
def several(site: Any) -> Any:
    site.install(
        "acme",
        {
            VENUES: {"ALPHA": "acme_alpha:Venue", "HUOBI": "acme_huobi:Venue"},
            SANDBOXES: {"ALPHA": "acme_alpha:Sandbox", "HUOBI": "acme_huobi:Sandbox"},
            FRONTENDS: {"porthole": "acme_front:Porthole"},
            MIDDLEWARE: {"limits": "acme_limits:Limits"},
            COMMANDS: {"alpha": "acme_alpha:command"},
        },
        {"acme_alpha": VENUE},
    )
    return site


def usable(plugins: Plugins) -> set[tuple[str, str]]:
    names = {"ALPHA", "HUOBI", "porthole", "limits", "alpha"}
    groups = (VENUES, SANDBOXES, FRONTENDS, MIDDLEWARE, COMMANDS)
    return {(group.removeprefix("astra."), n) for group in groups for n in plugins.names(group) if n in names}


def test_only_limits_venues_with_their_sandboxes_and_front_ends(several: Any) -> None:
    assert usable(Plugins(only=["alpha"])) == {
        ("venues", "ALPHA"),
        ("sandboxes", "ALPHA"),
        ("middleware", "limits"),
        ("commands", "alpha"),
    }
    assert ("frontends", "porthole") in usable(Plugins(only=["PortHole"]))


def test_an_empty_selection_leaves_no_venue_and_no_front_end(several: Any) -> None:
    plugins = Plugins(only=[])
    assert not plugins.names(VENUES)
    assert not plugins.names(FRONTENDS)


@pytest.mark.parametrize("spelling", ["HUOBI", "huobi", "HTX", "htx"])
def test_selections_ignore_case_and_know_aliases(several: Any, spelling: str) -> None:
    assert ("venues", "HUOBI") in usable(Plugins(only=[spelling]))
    assert ("venues", "HUOBI") not in usable(Plugins(block=[spelling]))
    assert ("venues", "ALPHA") in usable(Plugins(block=[spelling]))


def test_block_leaves_a_name_out_of_every_group_and_beats_only(several: Any) -> None:
    assert not {("venues", "ALPHA"), ("commands", "alpha")} & usable(Plugins(block=["ALPHA"]))
    assert ("venues", "ALPHA") not in usable(Plugins(only=["ALPHA"], block=["ALPHA"]))


def test_a_plugin_that_is_left_out_is_not_imported_and_says_by_what(several: Any) -> None:
    plugins = Plugins(only=["HUOBI"], block=["limits"])
    with pytest.raises(
        UnknownExchange, match=r"ALPHA is installed \(acme 1\.0\) but left out by plugins \(ASTRA_PLUGI"
    ):
        plugins.load(VENUES, "ALPHA")
    with pytest.raises(PluginError, match=r"limits is installed \(acme 1\.0\) but left out by plugins_block \(ASTRA_"):
        plugins.load(MIDDLEWARE, "limits")
    assert one(plugins, VENUES, "ALPHA").state is PluginState.BLOCKED
    assert "acme_alpha" not in sys.modules


def test_selected_names_that_nothing_has_are_known(several: Any) -> None:
    assert Plugins(only=["ALPHA", "porthole", "ALHPA"], block=["rset"]).unmatched() == ["ALHPA", "rset"]


# --- what is not there ---------------------------------------------------------------------------------------------


def test_an_exchange_of_the_directory_says_what_to_install(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}})
    only_alpha = Plugins(entry_points=lambda: importlib.metadata.distribution("acme-alpha").entry_points)
    for code, distribution in (("KRAKEN", "astra-kraken"), ("HTX", "astra-htx"), ("HUOBI", "astra-htx")):
        with pytest.raises(UnknownExchange, match=f"pip install {distribution}") as caught:
            only_alpha.load(VENUES, code)
        assert "Installed: ALPHA" in caught.value.message


def test_an_exchange_nobody_knows_gets_the_nearest_suggested(site: Any) -> None:
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}})
    with pytest.raises(UnknownExchange, match=r"'ALHPA'.*Did you mean 'ALPHA'\?"):
        Plugins().load(VENUES, "ALHPA")
    with pytest.raises(UnknownExchange, match=r"Did you mean 'KUCOIN'\?"):
        Plugins(entry_points=lambda: ()).load(VENUES, "KUCON")
    with pytest.raises(UnknownExchange) as caught:
        Plugins(entry_points=lambda: ()).load(VENUES, "ZZZ")
    assert "Did you mean" not in caught.value.message


def test_a_front_end_or_middleware_of_the_directory_says_what_to_install() -> None:
    with pytest.raises(PluginError, match="pip install astra-gateway"):
        Plugins(entry_points=lambda: ()).load(FRONTENDS, "gateway")
    with pytest.raises(PluginError, match=r"no middleware named 'risk' is installed\..*pip install astra-risk"):
        Plugins(entry_points=lambda: ()).load(MIDDLEWARE, "risk")


# --- broken plugins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import does_not_exist", "cannot be imported: ModuleNotFoundError: No module named 'does_not_exist'"),
        ("this is no python", "cannot be imported: SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("Other = 1", "cannot be imported: AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_fails_alone_with_the_reason(site: Any, source: str, reason: str) -> None:
    site.install("acme-broken", {VENUES: {"BROKEN": "acme_broken:Venue"}}, {"acme_broken": source}, "0.3")
    site.install("acme-alpha", {VENUES: {"ALPHA": "acme_alpha:Venue"}}, {"acme_alpha": VENUE})
    plugins = Plugins(only=["BROKEN", "ALPHA"])
    states = {info.name: info.state for info in plugins.load_all(VENUES)}
    assert states["BROKEN"] is PluginState.FAILED
    assert states["ALPHA"] is PluginState.LOADED
    assert reason in (one(plugins, VENUES, "BROKEN").reason or "")
    with pytest.raises(PluginError, match=r"venue BROKEN \(acme-broken 0\.3, acme_broken:Venue\) cannot be imported"):
        plugins.load(VENUES, "BROKEN")


class Sound:
    code = "ALPHA"
    api_version = "1.0"

    @hookimpl
    async def list_markets(self) -> Sequence[Any]:
        return []


class SyncWhereAsync(Sound):
    @hookimpl
    def get_balances(self, credentials: Any) -> list[Any]:
        return []


class GeneratorWhereAsync(Sound):
    @hookimpl
    async def get_balances(self, credentials: Any) -> Any:
        yield 1


class AsyncWhereSync(Sound):
    @hookimpl
    async def stream_trades(self, markets: Any) -> Any:
        return None


class WrongArgument(Sound):
    @hookimpl
    async def place_order(self, market: Any, order: Any, credential: Any) -> Any:
        return None


class AnyArguments(Sound):
    @hookimpl
    async def place_order(self, **arguments: Any) -> Any:
        return None


class DefaultArgument(Sound):
    @hookimpl
    async def get_orderbook(self, market: Any, depth: int, credentials: Any = None) -> Any:
        return None


class UnknownHook(Sound):
    @hookimpl
    async def place_oder(self, market: Any, order: Any) -> Any:
        return None


class ForgottenMark(Sound):
    async def list_markets(self) -> Sequence[Any]:
        return []

    @hookimpl
    async def get_balances(self, credentials: Any) -> list[Any]:
        return []


class Wrapper(Sound):
    @hookimpl(wrapper=True)
    def get_balances(self, credentials: Any) -> Any:
        return (yield)


class NoHook:
    code = "ALPHA"
    api_version = "1.0"


class NoCode:
    api_version = "1.0"
    list_markets = Sound.list_markets


class OtherCode(Sound):
    code = "BETA"


class NoVersion:
    code = "ALPHA"
    list_markets = Sound.list_markets


class OlderMajor(Sound):
    api_version = "0.9"


class NewerMajor(Sound):
    api_version = "2.0"


class OddVersion(Sound):
    api_version = "one"


@pytest.mark.parametrize(
    ("venue", "reason"),
    [
        (SyncWhereAsync, "hook get_balances must be `async def`"),
        (GeneratorWhereAsync, "hook get_balances must be `async def`"),
        (AsyncWhereSync, "hook stream_trades must be a plain `def`"),
        (WrongArgument, "hook place_order takes an argument 'credential'; .*Did you mean 'credentials'?"),
        (AnyArguments, "hook place_order takes .*by name"),
        (DefaultArgument, "hook get_orderbook gives its argument 'credentials' a default"),
        (UnknownHook, "marks place_oder as a hook, which is none. Did you mean 'place_order'?"),
        (ForgottenMark, "list_markets is called like a hook but not marked as one"),
        (Wrapper, "hook get_balances is a wrapper"),
        (NoHook, "implements no hook of a venue"),
        (NoCode, "has no `code`: add code = 'ALPHA'"),
        (OtherCode, "has code 'BETA', but its entry point is called 'ALPHA'"),
        (NoVersion, f'declares no plugin API version: add api_version = "{API_VERSION}"'),
        (OlderMajor, f"written for plugin API 0.9; this astra-api speaks {API_VERSION}: upgrade the plugin"),
        (NewerMajor, f"written for plugin API 2.0; this astra-api speaks {API_VERSION}: upgrade astra-api"),
        (OddVersion, "api_version 'one', which is not \"major.minor\""),
        (Sound(), "must be a class"),
    ],
)
def test_a_venue_that_breaks_the_contract_is_refused_with_the_reason(site: Any, venue: Any, reason: str) -> None:
    site.offer(VENUES, "ALPHA", venue)
    plugins = Plugins()
    with pytest.raises(PluginError, match=reason.replace("(", r"\(").replace("?", r"\?")):
        plugins.load(VENUES, "ALPHA")
    assert one(plugins, VENUES, "ALPHA").state is PluginState.FAILED
    assert "ALPHA" not in plugins.names(VENUES)


def test_all_faults_are_told_at_once(site: Any) -> None:
    class Everything(SyncWhereAsync, WrongArgument, UnknownHook):
        api_version = "3.1"

    site.offer(VENUES, "ALPHA", Everything)
    with pytest.raises(PluginError, match=r"plugin API 3\.1") as caught:
        Plugins().load(VENUES, "ALPHA")
    for fault in ("get_balances must be", "'credential'", "place_oder"):
        assert fault in caught.value.message


def test_a_newer_minor_version_is_accepted(site: Any) -> None:
    class Newer(Sound):
        api_version = "1.7"

    site.offer(VENUES, "ALPHA", Newer)
    assert Plugins().load(VENUES, "ALPHA") is Newer


def test_validation_runs_no_property_of_the_plugin(site: Any) -> None:
    class Touchy(Sound):
        @property
        def get_fees(self) -> Any:
            raise AssertionError("run")

    site.offer(VENUES, "ALPHA", Touchy)
    assert Plugins().load(VENUES, "ALPHA") is Touchy
    manager = HookManager("ALPHA")
    manager.adopt(Touchy(), "ALPHA")


def test_capabilities_are_what_is_implemented() -> None:
    table = capabilities(Sound)
    assert {hook for hook, there in table.items() if there} == {"list_markets"}
    assert {"place_order", "stream_orderbook", "resolve_order", "keep_alive_orders"} <= set(table)
    assert "startup" not in table
    assert next(iter(table)) == "list_markets"


@pytest.mark.parametrize(
    ("middleware", "reason"),
    [
        ({"place_order": lambda self, call, market, order, credentials: None}, "place_order must be `async def`"),
        ({}, "wraps no operation"),
        ({"order_resolved": lambda self, market, order: None}, "order_resolved must be `async def order_resolved"),
    ],
)
def test_middleware_that_would_not_do_what_it_says_is_refused(site: Any, middleware: Any, reason: str) -> None:
    site.offer(MIDDLEWARE, "limits", type("Limits", (), {"api_version": "1.0", **middleware}))
    with pytest.raises(PluginError, match=reason):
        Plugins().load(MIDDLEWARE, "limits")


def test_misspelt_middleware_methods_are_refused(site: Any) -> None:
    class Limits:
        api_version = "1.0"

        async def place_order(self, call: Any, order: Any, market: Any, credentials: Any) -> Any:
            return await call(market, order, credentials)

        async def amend_oder(self, call: Any, market: Any, ref: Any, change: Any, credentials: Any) -> Any:
            return await call(market, ref, change, credentials)

    site.offer(MIDDLEWARE, "limits", Limits)
    with pytest.raises(PluginError) as caught:
        Plugins().load(MIDDLEWARE, "limits")
    assert "place_order takes (call, order, market, credentials); it must take (call, market, order, credentials)" in (
        caught.value.message
    )
    assert "amend_oder wraps no operation that there is. Did you mean 'amend_order'?" in caught.value.message


def test_commands_need_no_version_and_do_not_import_the_contract(site: Any) -> None:
    site.install("acme", {COMMANDS: {"hello": "acme_hello:hello"}}, {"acme_hello": "hello = 'hello'"})
    code = (
        f"import sys; sys.path.insert(0, {str(site.root)!r})\n"
        "from astra.plugins import Plugins\n"
        "assert Plugins().load('astra.commands', 'hello') == 'hello'\n"
        "assert not {'pydantic', 'astra.hookspecs', 'pluggy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- hook managers of hosts ----------------------------------------------------------------------------------------


class PortholeSpecs:
    @hookspec
    def add_panes(self, window: Any) -> None: ...


class Panes:
    api_version = "1.0"

    @hookimpl
    def add_panes(self, window: list[str]) -> None:
        window.append("pane")


class BadPanes:
    api_version = "1.0"

    @hookimpl
    def add_panes(self, windw: list[str]) -> None: ...


def test_hosts_add_hooks_of_their_own_kind_and_a_bad_plugin_is_left_out_alone() -> None:
    manager = HookManager("astra")
    manager.add_hookspecs(FrontendSpecs)
    manager.adopt(Panes(), "panes")
    manager.adopt(BadPanes(), "bad panes")
    manager.add_hookspecs(PortholeSpecs)
    window: list[str] = []
    manager.hook.add_panes(window=window)
    assert window == ["pane"]
    assert "'windw'" in manager.rejected["bad panes"]
    with pytest.raises(PluginError, match="windw"):
        manager.adopt(BadPanes(), "bad panes")


def test_front_ends_may_have_hooks_that_only_their_host_knows(site: Any) -> None:
    site.offer(FRONTENDS, "panes", Panes)
    assert Plugins().load(FRONTENDS, "panes") is Panes
