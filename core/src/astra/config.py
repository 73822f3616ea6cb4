"""Settings: defaults, then `astra.toml`, then `ASTRA_*` environment variables, then arguments; the later one wins.

    # astra.toml                                        the same in the environment
    plugins = ["BINANCE", "rest"]                       ASTRA_PLUGINS=BINANCE,rest
    plugins_block = ["KRAKEN"]                          ASTRA_PLUGINS_BLOCK=KRAKEN
    strict_plugins = true                               ASTRA_STRICT_PLUGINS=1
    trace_plugins = true                                ASTRA_TRACE_PLUGINS=1

    [venues.BINANCE.hosts]
    spot_rest = "http://127.0.0.1:8001"                 ASTRA_VENUES__BINANCE__HOSTS__SPOT_REST=http://...
    [frontends.gateway]
    port = 8080                                         ASTRA_FRONTENDS__GATEWAY__PORT=8080
    [middleware]
    order = ["journal", "risk"]                         ASTRA_MIDDLEWARE=journal,risk
    [middleware.risk]
    max_order_notional = 10000                          ASTRA_MIDDLEWARE__RISK__MAX_ORDER_NOTIONAL=10000
    [credentials]
    stores = ["env", "file"]                            ASTRA_CREDENTIALS__STORES=env,file
    [credentials.file]
    path = "/etc/astra/keys.toml"                       ASTRA_CREDENTIALS__FILE__PATH=/etc/astra/keys.toml
    [accounts.BINANCE.hedge]
    store = "file"                                      ASTRA_ACCOUNTS__BINANCE__HEDGE__STORE=file
    [trading]
    resolve_s = 10                                      ASTRA_TRADING__RESOLVE_S=10

The file is the one named by the caller, else by `ASTRA_CONFIG`, else `astra.toml` in the working directory if there is
one. Unknown keys of the file and of the arguments, and variables below a known section, are refused with the nearest
valid one. Other `ASTRA_*` variables are left alone: a container platform may set `ASTRA_PORT` for reasons of its own.
Errors name the key and where it came from, never its value.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from astra.directory import canonical_exchange, known_frontends, known_venues
from astra.errors import ConfigError, hint, nearest
from astra.plugins import CREDENTIALS, FRONTENDS, MIDDLEWARE, VENUES, Plugins, folded

FILE_NAME = "astra.toml"
DEFAULT = "default"
ARGUMENT = "argument"

ModelType = TypeVar("ModelType", bound=BaseModel)

_LISTS = ("plugins", "plugins_block")
_SWITCHES = ("strict_plugins", "trace_plugins")
_TABLES = ("venues", "frontends", "middleware", "credentials", "accounts", "trading")
_KEYS = (*_LISTS, *_SWITCHES, *_TABLES)
_SECRET = re.compile(r"secret|password|passphrase|passwd|token|api_?key|(^|[._])key$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=//)[^/@\s]+(?=@)")


class TradingSettings(BaseModel):
    """What holds for the orders of all venues."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    resolve_s: float = Field(default=10.0, ge=0)
    """What became of a command whose answer was lost is looked for this long (0: not at all)."""


class AccountSettings(BaseModel):
    """Settings of one named account at one exchange."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: str | None = None
    """The one credential store to ask for the account (None: the configured ones, in order)."""


class Settings(BaseModel):
    """All settings. Sections of plugins are checked by the plugin's own model when it is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    plugins: tuple[str, ...] | None = None
    """Use only these venues and front-ends (None: all installed ones; empty: none)."""
    plugins_block: tuple[str, ...] = ()
    """Leave these plugins out."""
    strict_plugins: bool = False
    """A selected plugin that is broken, claimed twice or missing stops the start instead of being reported."""
    trace_plugins: bool = False
    """Print every hook call to stderr."""
    middleware: tuple[str, ...] = ()
    """The active middleware, outermost first."""
    middleware_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    venues: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of venues by exchange code."""
    frontends: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of front-ends by name."""
    credential_stores: tuple[str, ...] = ()
    """Where exchange credentials are looked up, in this order."""
    credentials: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of credential stores by name."""
    accounts: dict[str, dict[str, AccountSettings]] = Field(default_factory=dict)
    """Settings of accounts: exchange code, then account name."""
    trading: TradingSettings = TradingSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _environment: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from, by dotted key: "default", "argument", the file or the environment variable."""
        return dict(self._origins)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that credential stores may read (empty unless the settings were loaded from one)."""
        return self._environment

    def origin(self, key: str) -> str:
        """Where the value of a dotted key came from. A key inside a table or list goes by the nearest one around it."""
        parts = key.split(".")
        while parts:
            if found := self._origins.get(".".join(parts)):
                return found
            parts.pop()
        return DEFAULT

    def section(self, kind: str, name: str) -> Mapping[str, Any]:
        """A plugin's own section ("venues", "frontends", "middleware", "credentials"); empty where there is none."""
        tables = self.middleware_settings if kind == "middleware" else getattr(self, kind)
        section: Mapping[str, Any] = tables.get(_canonical(kind, name), {})
        return section

    def validated(self, kind: str, name: str, model: type[ModelType]) -> ModelType:
        """A plugin's section as its own model. Raises `ConfigError` with the dotted key and origin of each fault."""
        try:
            return model.model_validate(dict(self.section(kind, name)))
        except ValidationError as error:
            faults = self._faults(f"{kind}.{_canonical(kind, name)}", model, error)
        raise ConfigError("; ".join(faults))  # outside: a chained ValidationError would show the values

    def _faults(self, prefix: str, model: type[BaseModel], error: ValidationError) -> Iterator[str]:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            key = ".".join([prefix, *(str(part) for part in fault["loc"])])
            origin = self.origin(key)
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                last = str(fault["loc"][-1])
                message = f"unknown key.{hint(last, _fields_at(model, fault['loc'][:-1]))}"
            yield f"{key} ({origin}): {message}"

    def shown(self) -> Sequence[tuple[str, str, str]]:
        """Every setting as (dotted key, value, origin), secrets as stars: for people to look at."""
        rows = []
        for key in (*_LISTS, *_SWITCHES):
            rows.append((key, getattr(self, key), self.origin(key)))
        rows.append(("middleware.order", self.middleware, self.origin("middleware.order")))
        rows.append(("credentials.stores", self.credential_stores, self.origin("credentials.stores")))
        for key, origin in self._origins.items():
            if key.split(".")[0] in _TABLES and key not in ("middleware.order", "credentials.stores"):
                rows.append((key, self._value(key), origin))
        return [(key, shown_value(key, value), origin) for key, value, origin in rows]

    def _value(self, key: str) -> Any:
        first, *rest = key.split(".")
        value: Any = self.middleware_settings if first == "middleware" else getattr(self, first)
        for part in rest:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        return value

    def __repr__(self) -> str:
        # Values may be secrets (a proxy's password, a database URL): only the keys are shown.
        return f"Settings({', '.join(sorted(k for k, origin in self._origins.items() if origin != DEFAULT))})"

    __str__ = __repr__


def shown_value(key: str, value: Any) -> str:
    """A setting's value as text that may be shown: stars for what its name calls a secret, and for a URL's log-in."""
    if value is None:
        return ""
    if _SECRET.search(key.partition(".")[2] or key):
        return "***"
    if isinstance(value, tuple | list):
        return ", ".join(shown_value(key, item) for item in value)
    return _USER_INFO.sub("***", str(value))


def load_settings(
    path: Path | str | None = None,
    env: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from the file, the environment and `overrides` (nested like the file), the later ones winning.

    Raises `ConfigError` for a file that is missing (when named) or malformed, and for unknown or malformed keys.
    """
    layers = _Layers()
    file = _file(path, env)
    if file is not None:
        layers.add(_read(file), str(file))
    for name, keys, value in _variables(env):
        layers.lay(keys, value, name)
    layers.add(overrides or {}, ARGUMENT)
    if not layers.has("credentials", "stores"):
        stores = ["env", "file"] if layers.has("credentials", "file", "path") else ["env"]
        layers.set(["credentials", "stores"], stores, DEFAULT)
    return layers.settings(env)


def settings_of(values: Mapping[str, Any] | Settings | None) -> Settings:
    """Settings from arguments alone: no file, no environment."""
    if isinstance(values, Settings):
        return values
    layers = _Layers()
    layers.add(values or {}, ARGUMENT)
    # An argument that names the `env` store asks for this process's environment.
    return layers.settings(os.environ if layers.has("credentials", "stores") else {})


def check_sections(settings: Settings, plugins: Plugins) -> None:
    """Refuse sections of plugins that nobody knows: a misspelt name would silently configure nothing."""

    def installed(group: str) -> list[str]:
        return [info.name for info in plugins.listed(group)]

    venues = [*installed(VENUES), *known_venues()]
    for kind, names, known in (
        ("venues", settings.venues, venues),
        ("accounts", settings.accounts, venues),
        ("frontends", settings.frontends, [*installed(FRONTENDS), *known_frontends()]),
        ("middleware", settings.middleware_settings, [*installed(MIDDLEWARE), *settings.middleware]),
        ("credentials", settings.credentials, installed(CREDENTIALS)),
    ):
        valid = {folded(name.replace("-", "_")) for name in known}
        for name in names:
            if folded(name) not in valid:
                keys = [key for key in settings.origins if key.startswith(f"{kind}.{name}")]
                origin = settings.origin(keys[0]) if keys else "argument"
                raise ConfigError(f"{kind}.{name} ({origin}): no plugin is called {name}.{hint(name, known)}")


def _file(path: Path | str | None, env: Mapping[str, str]) -> Path | None:
    if path is None and env.get("ASTRA_CONFIG"):
        path = env["ASTRA_CONFIG"]
    if path is not None:
        return Path(path)
    here = Path(FILE_NAME)
    return here if here.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        # Decimal: what is written as 0.1 must be 0.1 where a plugin counts money with it.
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}") from None
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"configuration file {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration file {path} is not valid TOML: {error}") from None


def _variables(env: Mapping[str, str]) -> Iterator[tuple[str, list[str], Any]]:
    """The variables that are settings: (name, path of keys, value)."""
    for name in sorted(env):
        if not name.startswith("ASTRA_"):
            continue
        first, *rest = (part.lower() for part in name.removeprefix("ASTRA_").split("__"))
        if first not in _KEYS:
            # Not ours, whoever set it; but nobody else writes nested names that look like ours.
            if rest and (meant := nearest(first, _TABLES)):
                right = name.replace(f"ASTRA_{first.upper()}__", f"ASTRA_{meant.upper()}__", 1)
                raise ConfigError(f"environment variable {name} is below no known section. Did you mean {right}?")
            continue
        if not all(rest):
            raise ConfigError(f"environment variable {name} has an empty part: sections are divided by two underscores")
        if rest and first not in _TABLES:
            raise ConfigError(
                f"environment variable {name}: {first} is no section. Did you mean ASTRA_{first.upper()}?"
            )
        if not rest and first == "middleware":
            rest = ["order"]
        elif not rest and first in _TABLES:
            raise ConfigError(
                f"environment variable {name}: {first} is a section, set its keys: "
                f"ASTRA_{first.upper()}__NAME__KEY, with two underscores between the parts"
            )
        yield f"environment variable {name}", [first, *rest], _environment_value([first, *rest], env[name])


def _environment_value(keys: list[str], text: str) -> Any:
    if keys[0] in _LISTS or keys in (["middleware", "order"], ["credentials", "stores"]):
        return [part.strip() for part in text.split(",") if part.strip()]
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:
            return text
    return text


def _canonical(kind: str, name: str) -> str:
    """A plugin's name as the key of its section."""
    if kind in ("venues", "accounts"):
        return canonical_exchange(name.upper())
    return name.lower().replace("-", "_")


class _Layers:
    """Values by nested key with their origins, later layers laid over earlier ones."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}

    def has(self, *keys: str) -> bool:
        return ".".join(keys) in self._origins

    def add(self, values: Mapping[str, Any], origin: str) -> None:
        """Lay a nested mapping over what there is."""
        for key, value in values.items():
            if key not in _KEYS:
                raise ConfigError(f"{key} ({origin}): unknown key.{hint(key, _KEYS)} There are: {', '.join(_KEYS)}")
            if key == "middleware" and isinstance(value, list | tuple):
                value = {"order": list(value)}
            if key in _TABLES and not isinstance(value, Mapping):
                raise ConfigError(f"{key} ({origin}): must be a table")
            self.lay([key], value, origin)

    def lay(self, keys: list[str], value: Any, origin: str) -> None:
        """Lay a value, or every value of a mapping, over what stands under the keys."""
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self.lay([*keys, str(key)], inner, origin)
            if not value and len(keys) > 1:
                self.set(keys, {}, origin)
        else:
            self.set(keys, value, origin)

    def set(self, keys: list[str], value: Any, origin: str) -> None:
        if len(keys) > 1:
            keys = [keys[0], _canonical(keys[0], keys[1]), *keys[2:]]
        table = self._values
        for depth, key in enumerate(keys[:-1], 1):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                outer = ".".join(keys[:depth])
                raise ConfigError(f"{'.'.join(keys)} ({origin}): {outer} ({self._origins[outer]}) is no section")
        dotted = ".".join(keys)
        if isinstance(table.get(keys[-1]), dict) and table[keys[-1]]:
            if value == {}:
                return
            raise ConfigError(f"{dotted} ({origin}): is a section, not a single value")
        table[keys[-1]] = value
        self._origins[dotted] = origin

    def settings(self, env: Mapping[str, str]) -> Settings:
        values: dict[str, Any] = {key: self._values[key] for key in (*_LISTS, *_SWITCHES) if key in self._values}
        values["trading"] = self._values.get("trading", {})
        for kind in ("venues", "frontends", "middleware", "credentials", "accounts"):
            tables = dict(self._values.get(kind, {}))
            if kind == "middleware":
                values["middleware"] = self._names("middleware.order", tables.pop("order", []))
                values["middleware_settings"] = tables
            elif kind == "credentials":
                values["credential_stores"] = self._names("credentials.stores", tables.pop("stores", []))
                values["credentials"] = tables
            else:
                values[kind] = tables
            for name, table in tables.items():
                if not isinstance(table, dict):
                    known = {"middleware": ["order"], "credentials": ["stores"]}.get(kind, [])
                    raise ConfigError(
                        f"{kind}.{name} ({self._origins[f'{kind}.{name}']}): must be a table.{hint(name, known)}"
                    )
        for key in _LISTS:
            if values.get(key) is not None:
                values[key] = self._names(key, values[key])
        try:
            settings = Settings.model_validate(values)
        except ValidationError as error:
            faults = [self._fault(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()]
        else:
            settings._origins = dict.fromkeys((*_LISTS, *_SWITCHES), DEFAULT) | self._origins
            settings._environment = env
            return settings
        raise ConfigError("; ".join(faults))

    def _names(self, key: str, value: Any) -> list[str]:
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"{key} ({self._origins.get(key, DEFAULT)}): must be a list of names")
        return list(value)

    def _fault(self, loc: tuple[int | str, ...], kind: str, message: str) -> str:
        key = ".".join(str(part) for part in loc)
        parts = key.split(".")
        while parts and ".".join(parts) not in self._origins:
            parts.pop()
        if kind == "extra_forbidden":
            model = TradingSettings if loc[0] == "trading" else AccountSettings
            message = f"unknown key.{hint(str(loc[-1]), model.model_fields)}"
        return f"{key} ({self._origins.get('.'.join(parts), DEFAULT)}): {message}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> Sequence[str]:
    """The keys that are valid at a place within a model."""
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = next((found for found in _models(field.annotation)), None) if field is not None else None
        if inner is None:
            return ()
        model = inner
    return tuple(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
