"""Plugin discovery: what is installed, from metadata alone; what is used, imported, checked and told apart.

Entry points are listed and counted without importing anything. A name that exactly one distribution claims is loaded
when it is first needed; a plugin that cannot be imported or that breaks the contract is reported with the reason and
leaves all others alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from astra.directory import canonical_exchange, known_frontends, known_middleware, known_venues
from astra.errors import PluginError, UnknownExchange, hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType

VENUES = "astra.venues"
FRONTENDS = "astra.frontends"
MIDDLEWARE = "astra.middleware"
TRANSPORTS = "astra.transports"
SANDBOXES = "astra.sandboxes"
CREDENTIALS = "astra.credentials"
COMMANDS = "astra.commands"
GROUPS = (VENUES, FRONTENDS, MIDDLEWARE, TRANSPORTS, SANDBOXES, CREDENTIALS, COMMANDS)

_SELECTED = (VENUES, FRONTENDS, SANDBOXES)
"""Groups that `only` limits (a sandbox goes with its venue). `block` leaves names out of every group."""
_VERSIONED = (VENUES, FRONTENDS, MIDDLEWARE)
"""Groups whose plugins must declare `api_version`: they implement the contract of `astra.hookspecs`."""
_KINDS = {
    VENUES: "venue",
    FRONTENDS: "front-end",
    MIDDLEWARE: "middleware",
    TRANSPORTS: "transport",
    SANDBOXES: "sandbox",
    CREDENTIALS: "credential store",
    COMMANDS: "command",
}


class PluginState(StrEnum):
    """What is known about an installed plugin."""

    INSTALLED = "INSTALLED"
    """Its metadata was found; it has not been needed yet."""
    LOADED = "LOADED"
    """It was imported and keeps the contract."""
    FAILED = "FAILED"
    """It cannot be imported or breaks the contract; `reason` says how."""
    BLOCKED = "BLOCKED"
    """The configuration leaves it out."""
    DUPLICATE = "DUPLICATE"
    """Several distributions claim its name: none of them is used."""


class PluginInfo(msgspec.Struct, frozen=True):
    """One entry point: who claims the name, and what became of it. `hooks` and `api_version` are known once loaded."""

    name: str
    group: str
    distribution: str | None
    version: str | None
    target: str
    state: PluginState
    reason: str | None = None
    api_version: str | None = None
    hooks: tuple[str, ...] | None = None


class _Claim:
    """One entry point and what became of it."""

    def __init__(self, entry_point: importlib.metadata.EntryPoint) -> None:
        self.entry_point = entry_point
        self.state = PluginState.INSTALLED
        self.reason: str | None = None
        self.plugin: Any = None
        self.api_version: str | None = None
        self.hooks: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        return self.entry_point.name

    @property
    def distribution(self) -> str | None:
        return None if self.entry_point.dist is None else self.entry_point.dist.name

    @property
    def origin(self) -> str:
        """The distribution as errors name it."""
        dist = self.entry_point.dist
        return "an unnamed distribution" if dist is None else f"{dist.name} {dist.version}"

    def info(self) -> PluginInfo:
        dist = self.entry_point.dist
        return PluginInfo(
            name=self.name,
            group=self.entry_point.group,
            distribution=self.distribution,
            version=None if dist is None else dist.version,
            target=self.entry_point.value,
            state=self.state,
            reason=self.reason,
            api_version=self.api_version,
            hooks=self.hooks,
        )


def folded(name: str) -> str:
    """The form in which plugin names are compared: case aside, aliases of exchanges resolved (`htx` = `HUOBI`)."""
    return canonical_exchange(name.strip().upper()).casefold()


class Plugins:
    """The installed plugins.

    `only` limits venues and front-ends to the named ones (empty: none), `block` leaves names out of every group; both
    ignore case and know aliases. `entry_points` replaces the metadata of the environment, `trace` receives a line for
    every hook call. Nothing is imported until `load`; the listing is kept until `refresh`.
    """

    def __init__(
        self,
        *,
        only: Collection[str] | None = None,
        block: Collection[str] = (),
        entry_points: Callable[[], Iterable[importlib.metadata.EntryPoint]] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.only = None if only is None else tuple(only)
        self.block = tuple(block)
        self.trace = trace
        self._only = None if only is None else {folded(name) for name in only}
        self._block = {folded(name) for name in block}
        self._entry_points = entry_points or _environment
        self._groups: dict[str, dict[str, list[_Claim]]] | None = None

    def refresh(self) -> None:
        """Forget the listing and every verdict: what was installed, repaired or removed meanwhile is seen again."""
        importlib.invalidate_caches()
        self._groups = None

    def listed(self, group: str) -> Sequence[PluginInfo]:
        """Every entry point of the group, by name; nothing is imported. A name claimed twice is listed twice."""
        claims = self._claims(group)
        return [claim.info() for key in sorted(claims) for claim in claims[key]]

    def names(self, group: str) -> Sequence[str]:
        """The names in the group that can be used as far as is known (not blocked, claimed once, not failed)."""
        usable = (PluginState.INSTALLED, PluginState.LOADED)
        return [info.name for info in self.listed(group) if info.state in usable]

    def unmatched(self) -> Sequence[str]:
        """Names in `only` and `block` that no installed plugin has: misspelt, or not installed."""
        known = {key for claims in self._read().values() for key in claims}
        return [name for name in (*(self.only or ()), *self.block) if folded(name) not in known]

    def info(self, group: str, name: str) -> PluginInfo:
        """What is known of one plugin. Raises like `load` when nobody or several claim the name."""
        return self._single(group, name, blocked=True).info()

    def load(self, group: str, name: str) -> Any:
        """The object that the plugin's entry point names, imported and checked.

        Raises `PluginError` (for a venue that is not installed `UnknownExchange`) that says what is wrong and what to
        do: not installed, claimed by two distributions, left out by the configuration, or broken.
        """
        claim = self._single(group, name)
        if claim.state is PluginState.INSTALLED:
            self._import(claim)
        if claim.state is PluginState.FAILED:
            raise PluginError(self._failure(claim))
        return claim.plugin

    def load_all(self, group: str) -> Sequence[PluginInfo]:
        """Load what can be loaded in the group; the listing afterwards says what failed and why."""
        for name in self.names(group):
            try:
                self.load(group, name)
            except PluginError:
                continue  # its reason stands in the listing
        return self.listed(group)

    def _read(self) -> dict[str, dict[str, list[_Claim]]]:
        if self._groups is None:
            groups: dict[str, dict[str, list[_Claim]]] = {}
            seen: set[tuple[str, str, str, str | None]] = set()
            for entry_point in self._entry_points():
                claim = _Claim(entry_point)
                identity = (entry_point.group, entry_point.name, entry_point.value, claim.distribution)
                if identity not in seen:
                    seen.add(identity)
                    groups.setdefault(entry_point.group, {}).setdefault(folded(entry_point.name), []).append(claim)
            for group, by_key in groups.items():
                for key, claims in by_key.items():
                    self._judge(group, key, claims)
            self._groups = groups
        return self._groups

    def _claims(self, group: str) -> Mapping[str, list[_Claim]]:
        return self._read().get(group, {})

    def _judge(self, group: str, key: str, claims: Sequence[_Claim]) -> None:
        """Settle what metadata alone can tell: is the name left out, is it claimed once?"""
        state, reason = PluginState.INSTALLED, None
        if key in self._block:
            state = PluginState.BLOCKED
            reason = f"left out by plugins_block (ASTRA_PLUGINS_BLOCK): {', '.join(self.block)}"
        elif self._only is not None and group in _SELECTED and key not in self._only:
            state = PluginState.BLOCKED
            chosen = ", ".join(self.only or ()) or "(empty: none)"
            reason = f"left out by plugins (ASTRA_PLUGINS), which names only: {chosen}"
        elif len(claims) > 1:
            state = PluginState.DUPLICATE
            reason = "claimed by " + " and by ".join(f"{c.origin} ({c.name} = {c.entry_point.value})" for c in claims)
        for claim in claims:
            claim.state, claim.reason = state, reason

    def _single(self, group: str, name: str, *, blocked: bool = False) -> _Claim:
        claims = self._claims(group).get(folded(name))
        if not claims:
            raise self._missing(group, name)
        claim = claims[0]
        kind = _KINDS.get(group, group)
        if claim.state is PluginState.DUPLICATE:
            raise PluginError(f"{kind} {claim.name} is {claim.reason}: uninstall all but one of them")
        if claim.state is PluginState.BLOCKED and not blocked:
            error = UnknownExchange if group == VENUES else PluginError
            raise error(f"{kind} {claim.name} is installed ({claim.origin}) but {claim.reason}")
        return claim

    def _missing(self, group: str, name: str) -> PluginError:
        installed = list(self.names(group))
        there = f" Installed: {', '.join(installed)}." if installed else ""
        if group == VENUES:
            directory = known_venues()
            if distribution := directory.get(canonical_exchange(name.strip().upper())):
                advice = f" Install it with: python -m pip install {distribution}"
            else:
                advice = hint(name, [*installed, *directory])
            return UnknownExchange(f"no installed plugin serves the exchange {name!r}.{there}{advice}")
        directory = {FRONTENDS: known_frontends, MIDDLEWARE: known_middleware}.get(group, dict)()
        if distribution := directory.get(name.strip().casefold()):
            advice = f" Install it with: python -m pip install {distribution}"
        else:
            advice = hint(name, [*installed, *directory])
        return PluginError(f"no {_KINDS.get(group, group)} named {name!r} is installed.{there}{advice}")

    def _import(self, claim: _Claim) -> None:
        try:
            plugin = _driver(claim.entry_point)
        except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is imported
            claim.state = PluginState.FAILED
            claim.reason = f"cannot be imported: {type(error).__name__}: {error}"
            raise PluginError(self._failure(claim)) from error
        declared = getattr(plugin, "api_version", None)
        claim.api_version = declared if isinstance(declared, str) else None
        faults = list(_faults(claim.entry_point.group, claim.name, plugin))
        if faults:
            claim.state = PluginState.FAILED
            claim.reason = "; ".join(faults)
            return
        claim.state = PluginState.LOADED
        claim.plugin = plugin
        if claim.entry_point.group in _VERSIONED:
            claim.hooks = tuple(sorted(_operations(claim.entry_point.group, plugin)))

    def _failure(self, claim: _Claim) -> str:
        kind = _KINDS.get(claim.entry_point.group, claim.entry_point.group)
        return f"{kind} {claim.name} ({claim.origin}, {claim.entry_point.value}) {claim.reason}"


def _environment() -> Iterable[importlib.metadata.EntryPoint]:
    """All entry points of the environment. A distribution that is found twice on the path counts once, as it does
    for imports: the first one wins."""
    found = importlib.metadata.entry_points()
    # By group: on Python 3.11 iterating `found` itself gives the groups' names.
    return [entry_point for group in found.groups for entry_point in found.select(group=group)]


def _driver(entry_point: importlib.metadata.EntryPoint) -> Any:
    """Load one entry point, already proven to be the only one of its name, with stevedore.

    stevedore lists entry points through a cache on disk and another one in the class, carries no distribution, and
    takes the first of a name. Handing it the one proven entry point keeps all of that out: what was just installed is
    seen, and nothing else can slip in.
    """
    from stevedore.driver import DriverManager

    class Driver(DriverManager):  # type: ignore[misc,type-arg,unused-ignore]
        def list_entry_points(self) -> list[importlib.metadata.EntryPoint]:
            return [entry_point]

    return Driver(entry_point.group, entry_point.name).driver


# --- the contract: is a plugin what it says it is? -----------------------------------------------------------------


def _faults(group: str, name: str, plugin: Any) -> Iterator[str]:
    """Everything that is wrong with a plugin, in words that its author can act on."""
    yield from _version_faults(group, plugin)
    if group == VENUES:
        yield from _venue_faults(name, plugin)
    elif group == FRONTENDS:
        # A host (the gateway) adds hook specs of its own kind later: unknown hooks are judged where they are registered
        from astra.hookspecs import FrontendSpecs

        yield from hook_faults(plugin, spec_functions(FrontendSpecs), unknown_allowed=True)
    elif group == MIDDLEWARE:
        from astra.middleware import middleware_faults

        yield from middleware_faults(plugin)


def _version_faults(group: str, plugin: Any) -> Iterator[str]:
    declared = getattr(plugin, "api_version", None)
    if declared is None and group not in _VERSIONED:
        return  # before the contract is imported: commands must stay light
    from astra.hookspecs import API_VERSION

    if declared is None:
        yield f'declares no plugin API version: add api_version = "{API_VERSION}"'
        return
    if not isinstance(declared, str) or not re.fullmatch(r"[0-9]+\.[0-9]+", declared, re.ASCII):
        yield f'declares api_version {declared!r}, which is not "major.minor" such as "{API_VERSION}"'
        return
    major, ours = int(declared.split(".")[0]), int(API_VERSION.split(".")[0])
    if major != ours:
        upgrade = "astra-api" if major > ours else "the plugin"
        yield f"is written for plugin API {declared}; this astra-api speaks {API_VERSION}: upgrade {upgrade}"


def _venue_faults(name: str, plugin: Any) -> Iterator[str]:
    from astra.hookspecs import LifecycleSpecs, VenueSpecs

    if canonical_exchange(name) != name:
        yield f"is registered under an alias: the entry point must be called {canonical_exchange(name)}"
    if not isinstance(plugin, type):
        yield f"must be a class, not {type(plugin).__name__} {getattr(plugin, '__name__', '')}".rstrip()
        return
    code = getattr(plugin, "code", None)
    if code is None:
        yield f"has no `code`: add code = {name!r}"
    elif code != name:
        yield f"has code {code!r}, but its entry point is called {name!r}: they must be the same"
    if not implemented(plugin, VenueSpecs):
        yield "implements no hook of a venue: mark its methods with @astra.hookspecs.hookimpl"
    yield from hook_faults(plugin, spec_functions(VenueSpecs, LifecycleSpecs), unknown_allowed=False)


def _operations(group: str, plugin: Any) -> Collection[str]:
    if group == MIDDLEWARE:
        from astra.middleware import wrapped_operations

        return wrapped_operations(plugin)
    return [hook for hook, _ in _marked(plugin)]


def spec_functions(*namespaces: Any) -> dict[str, FunctionType]:
    """The functions of hook spec classes (or modules), by hook name."""
    return {
        name: function
        for namespace in namespaces
        for name in dir(namespace)
        if (function := _function(namespace, name)) is not None and hasattr(function, "astra_spec")
    }


def implemented(plugin: Any, specs: Any) -> set[str]:
    """The hooks of `specs` that the plugin implements."""
    return {hook for hook, _ in _marked(plugin)} & set(spec_functions(specs))


def capabilities(plugin: Any) -> dict[str, bool]:
    """For every venue hook: does the plugin (class or object) implement it?"""
    from astra.hookspecs import VenueSpecs

    have = implemented(plugin, VenueSpecs)
    specs = spec_functions(VenueSpecs)
    return {hook: hook in have for hook in VenueSpecs.__dict__ if hook in specs}


def _function(owner: Any, name: str) -> FunctionType | None:
    """The plain function behind an attribute, looked at without running any code of the plugin (properties)."""
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    return found if inspect.isfunction(found) else None


def _marked(plugin: Any) -> Iterator[tuple[str, FunctionType]]:
    """The plugin's hook implementations: (hook name, function)."""
    for name in dir(plugin):
        function = _function(plugin, name)
        options = getattr(function, "astra_impl", None)
        if function is not None and isinstance(options, dict):
            yield options.get("specname") or name, function


def parameters(function: FunctionType) -> list[inspect.Parameter]:
    """The parameters a host passes by name: all but `self`."""
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if found and found[0].name in ("self", "cls") else found


def hook_faults(plugin: Any, specs: Mapping[str, FunctionType], *, unknown_allowed: bool) -> Iterator[str]:
    """What is wrong with the plugin's hook implementations, measured by the specs."""
    marked = dict(_marked(plugin))
    for hook, function in marked.items():
        options = getattr(function, "astra_impl", {})
        if options.get("wrapper") or options.get("hookwrapper"):
            yield f"hook {hook} is a wrapper: write a middleware (entry-point group {MIDDLEWARE}) instead"
        elif hook in specs:
            yield from _signature_faults(hook, function, specs[hook])
        elif not unknown_allowed and not options.get("optionalhook"):
            yield f"marks {hook} as a hook, which is none.{hint(hook, specs)}"
    for hook in specs:
        found = _function(plugin, hook)
        if found is not None and hook not in marked and found.__module__ != "astra.venue":
            yield f"method {hook} is called like a hook but not marked as one: add @hookimpl"


def _signature_faults(hook: str, function: FunctionType, spec: FunctionType) -> Iterator[str]:
    allowed = [parameter.name for parameter in parameters(spec)]
    for parameter in parameters(function):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield f"hook {hook} takes {parameter}, but arguments are passed by name: name those it wants"
        elif parameter.name not in allowed:
            known = f"its arguments are ({', '.join(allowed)})" if allowed else "it has no arguments"
            yield f"hook {hook} takes an argument {parameter.name!r}; {known}.{hint(parameter.name, allowed)}"
        elif parameter.default is not parameter.empty:
            # pluggy before 1.7 silently leaves such arguments out of the call.
            yield f"hook {hook} gives its argument {parameter.name!r} a default: hosts pass every argument, remove it"
    wanted, given = inspect.iscoroutinefunction(spec), inspect.iscoroutinefunction(function)
    if wanted and not given:
        yield f"hook {hook} must be `async def`"
    elif given and not wanted:
        yield f"hook {hook} must be a plain `def`, not `async def`"
