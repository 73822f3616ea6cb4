"""Where exchange credentials come from: stores, by entry-point group `astra.credentials`.

A store is a class made with its section of the settings and the environment, with two methods (see
`CredentialStore`). Two are built in.

**env** reads environment variables:

    ASTRA_{EXCHANGE}_API_KEY  ASTRA_{EXCHANGE}_API_SECRET  [ASTRA_{EXCHANGE}_API_PASSPHRASE]     account "default"
    ASTRA_{EXCHANGE}_{ACCOUNT}_API_KEY ...                                                       a named account
    ASTRA_{EXCHANGE}_{ACCOUNT}_{PRODUCT}_API_KEY ...                                             one product's key

The part after the exchange is always the account (letters and digits), what follows it always the product (the
venue's own name of an API family, may hold underscores): `ASTRA_KRAKEN_FUTURES_API_KEY` is an account called futures,
`ASTRA_KRAKEN_DEFAULT_FUTURES_API_KEY` the default account's key for futures. With `_FILE` after the name the value is
read from the file that the variable names (Docker and Kubernetes secrets). A PEM key keeps its line breaks; where a
variable cannot hold them they may be written `\\n`. `ASTRA_API_KEY` is the gateway's and none of these.

**file** reads a TOML file that only its owner can read (`[credentials.file] path`):

    [BINANCE.default]
    api_key = "..."
    api_secret = "..."
    [KRAKEN.default.futures]            # one product's key
    api_key = "..."
    api_secret = "..."
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from astra.directory import aliases_of, canonical_exchange
from astra.errors import AuthenticationError, ConfigError, hint
from astra.models.credentials import ApiKey, Credentials
from astra.plugins import CREDENTIALS, Plugins

if TYPE_CHECKING:
    from astra.config import Settings

DEFAULT_ACCOUNT = "default"
ALL_PRODUCTS = "default"
_FIELDS = {"api_key": "key", "api_secret": "secret", "api_passphrase": "passphrase"}
_ACCOUNT = re.compile(r"[a-z0-9]+\Z")
_VARIABLE = r"(?:_(?P<body>[A-Z0-9_]+?))?_(?P<field>API_KEY|API_SECRET|API_PASSPHRASE)(?P<file>_FILE)?"


class CredentialStore(Protocol):
    """A place that holds exchange credentials. Made as `Store(settings, env)`."""

    async def find(self, exchange: str, account: str) -> Credentials | None:
        """The account's credentials, or None when the store has none. Raises `ConfigError` for malformed ones."""
        ...

    def wanted(self, exchange: str, account: str) -> str:
        """What would provide the account's credentials, for the error that says they are missing."""
        ...


class EnvironmentStore:
    """Credentials in environment variables; see the module's text for their names."""

    def __init__(self, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
        _refuse_unknown("credentials.env", settings, ())
        self._env = env

    async def find(self, exchange: str, account: str) -> Credentials | None:
        prefix = f"ASTRA_{exchange}"
        codes = "|".join([exchange, *aliases_of(exchange)])
        values: dict[str, dict[str, SecretStr]] = {}
        taken: dict[tuple[str, str], str] = {}
        for name in sorted(self._env):
            match = re.fullmatch(rf"ASTRA_(?:{codes}){_VARIABLE}", name)
            if match is None or not self._env[name]:
                continue
            owner, _, product = (match["body"] or DEFAULT_ACCOUNT).lower().partition("_")
            if owner != account.lower():
                continue
            place = (product or ALL_PRODUCTS, _FIELDS[match["field"].lower()])
            if place in taken:
                raise ConfigError(f"{taken[place]} and {name} say the same thing: set only one of them")
            taken[place] = name
            text = _file_text(name, self._env[name]) if match["file"] else self._env[name]
            values.setdefault(place[0], {})[place[1]] = SecretStr(_unescaped(text))
        if not values:
            return None

        def missing(product: str, field: str) -> str:
            middle = "" if product == ALL_PRODUCTS else f"_{product.upper()}"
            owner = "" if account == DEFAULT_ACCOUNT and not middle else f"_{account.upper()}"
            return f"environment variable {prefix}{owner}{middle}_{field.upper()} is missing"

        return _credentials(exchange, account, values, missing)

    def wanted(self, exchange: str, account: str) -> str:
        if not _ACCOUNT.match(account.lower()):
            return "(account names in environment variables are letters and digits)"
        names = f"ASTRA_{exchange}_{'' if account == DEFAULT_ACCOUNT else account.upper() + '_'}API_"
        return f"environment variables {names}KEY and {names}SECRET (or both with _FILE)"


class FileStore:
    """Credentials in a TOML file that only its owner may read."""

    def __init__(self, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
        _refuse_unknown("credentials.file", settings, ("path",))
        path = settings.get("path")
        if not isinstance(path, str | Path) or not str(path):
            raise ConfigError(
                "credential store `file` needs credentials.file.path (ASTRA_CREDENTIALS__FILE__PATH): the TOML file"
            )
        self._path = Path(path).expanduser()

    async def find(self, exchange: str, account: str) -> Credentials | None:
        for name, accounts in self._read().items():
            if canonical_exchange(name.upper()) == exchange and account in accounts:
                return self._entry(exchange, account, accounts[account], f"[{name}.{account}]")
        return None

    def wanted(self, exchange: str, account: str) -> str:
        return f"[{exchange}.{account}] with api_key and api_secret in {self._path}"

    def _entry(self, exchange: str, account: str, entry: Any, place: str) -> Credentials:
        if not isinstance(entry, dict):
            raise ConfigError(f"{place} in {self._path} must be a table with api_key and api_secret")
        values: dict[str, dict[str, SecretStr]] = {}
        tables: dict[str, dict[str, Any]] = {}
        for name, value in entry.items():
            if isinstance(value, dict):
                tables.setdefault(name.lower(), {}).update(value)
            else:
                tables.setdefault(ALL_PRODUCTS, {})[name] = value
        for product, fields in tables.items():
            where = place if product == ALL_PRODUCTS else f"{place[:-1]}.{product}]"
            _refuse_unknown(f"{where} in {self._path}", fields, _FIELDS)
            for name, value in fields.items():
                if not isinstance(value, str) or not value:
                    raise ConfigError(f"{where} in {self._path}: {name} must be a non-empty text")
                values.setdefault(product, {})[_FIELDS[name]] = SecretStr(_unescaped(value))

        def missing(product: str, field: str) -> str:
            inner = "" if product == ALL_PRODUCTS else f".{product}"
            return f"{place[:-1]}{inner}] in {self._path} has no {field}"

        if not values:
            raise ConfigError(f"{place} in {self._path} is empty: it needs api_key and api_secret")
        return _credentials(exchange, account, values, missing)

    def _read(self) -> Mapping[str, Mapping[str, Any]]:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
                    raise ConfigError(
                        f"{self._path} holds exchange keys but others may read it "
                        f"(mode {stat.S_IMODE(status.st_mode):03o}): run chmod 600 {self._path}"
                    )
                parsed = tomllib.load(file)
        except OSError as error:
            raise ConfigError(f"credentials file {self._path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            # The text of a decoding error may quote what it could not read: only the place is told.
            found = re.search(r"\(at [^)]*\)", str(error))
            place = f" {found[0]}" if found else ""
            raise ConfigError(f"credentials file {self._path} is not valid TOML{place}") from None
        for name, accounts in parsed.items():
            if not isinstance(accounts, dict):
                raise ConfigError(f"{self._path}: {name} must be a table [EXCHANGE.ACCOUNT]")
        return parsed


class Accounts:
    """The accounts of one application: those given as arguments, then those that its stores hold."""

    def __init__(self, given: Iterable[Credentials], settings: Settings, plugins: Plugins) -> None:
        self._settings = settings
        self._plugins = plugins
        self._stores: dict[str, CredentialStore] = {}
        self._known: dict[tuple[str, str], Credentials] = {}
        for one in given:
            key = (canonical_exchange(one.exchange.upper()), one.account)
            if key in self._known:
                raise ConfigError(f"two credentials are given for {key[0]} account {key[1]!r}: name the accounts apart")
            self._known[key] = one

    def open_stores(self) -> None:
        """Make all configured stores. Raises `PluginError` or `ConfigError` for one that is missing or malformed."""
        of_accounts = [one.store for accounts in self._settings.accounts.values() for one in accounts.values()]
        for name in [*self._settings.credential_stores, *(name for name in of_accounts if name)]:
            if name not in self._stores:
                store = self._plugins.load(CREDENTIALS, name)
                section = self._settings.section("credentials", name)
                self._stores[name] = store(section, self._settings.environment)

    async def credentials(self, exchange: str, credentials: Credentials | str | None) -> Credentials:
        """The credentials of a named account (None: "default"); given ones are given back.

        Raises `AuthenticationError` that says what would provide them. What a store gave is kept.
        """
        if isinstance(credentials, Credentials):
            return credentials
        account = DEFAULT_ACCOUNT if credentials is None else credentials
        key = (exchange, account)
        if key not in self._known:
            self._known[key] = await self._find(exchange, account)
        return self._known[key]

    async def _find(self, exchange: str, account: str) -> Credentials:
        settings = self._settings.accounts.get(exchange, {}).get(account)
        names = (settings.store,) if settings is not None and settings.store else self._settings.credential_stores
        ways = []
        for name in names:
            found = await self._stores[name].find(exchange, account)
            if found is not None:
                return found
            ways.append(self._stores[name].wanted(exchange, account))
        if not ways:
            ways.append(f"Astra(credentials=[Credentials.of({exchange!r}, key, secret)]), or use Astra.from_config()")
        raise AuthenticationError(
            f"no credentials for account {account!r}. Provide them by {'; or '.join(ways)}", exchange=exchange
        )


def _credentials(
    exchange: str, account: str, values: Mapping[str, Mapping[str, SecretStr]], missing: Any
) -> Credentials:
    for product, fields in values.items():
        for field, attribute in (("api_key", "key"), ("api_secret", "secret")):
            if attribute not in fields:
                raise ConfigError(f"{missing(product, field)}: credentials of {exchange} account {account!r}")
    keys = {product: ApiKey(**fields) for product, fields in values.items()}
    return Credentials(exchange=exchange, account=account, keys=keys)


def _refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: unknown key {name!r}.{hint(name, known)}")


def _unescaped(text: str) -> str:
    """A secret without surrounding line breaks; a PEM key with `\\n` written out gets its line breaks back."""
    text = text.strip("\r\n \t")
    return text.replace("\\r", "").replace("\\n", "\n") if text.startswith("-----BEGIN") else text


def _file_text(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the file {path!r} that {variable} names cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the file {path!r} that {variable} names is not UTF-8 text") from None
