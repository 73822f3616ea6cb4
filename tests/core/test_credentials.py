"""Where exchange credentials come from, and where they never go."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from astra.config import load_settings, settings_of
from astra.credentials import Accounts, EnvironmentStore, FileStore
from astra.errors import AuthenticationError, ConfigError, PluginError
from astra.models.credentials import Credentials
from astra.plugins import CREDENTIALS, Plugins

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQ\nAwBQY=\n-----END PRIVATE KEY-----"


async def found(env: Mapping[str, str], exchange: str = "BINANCE", account: str = "default") -> Any:
    """What the environment holds, as plain text: {product: (key, secret, passphrase)}."""
    return plain(await EnvironmentStore({}, env).find(exchange, account))


def plain(credentials: Credentials | None) -> Any:
    if credentials is None:
        return None
    return {
        product: (
            key.key.get_secret_value(),
            key.secret.get_secret_value(),
            key.passphrase and key.passphrase.get_secret_value(),
        )
        for product, key in credentials.keys.items()
    }


# --- environment ---------------------------------------------------------------------------------------------------


async def test_the_default_account_may_be_left_out_of_the_names() -> None:
    short = {"ASTRA_BINANCE_API_KEY": "k", "ASTRA_BINANCE_API_SECRET": "s"}
    long = {"ASTRA_BINANCE_DEFAULT_API_KEY": "k", "ASTRA_BINANCE_DEFAULT_API_SECRET": "s"}
    assert await found(short) == await found(long) == {"default": ("k", "s", None)}


async def test_accounts_and_products_are_told_apart() -> None:
    env = {
        "ASTRA_KRAKEN_API_KEY": "k1",
        "ASTRA_KRAKEN_API_SECRET": "s1",
        "ASTRA_KRAKEN_DEFAULT_FUTURES_API_KEY": "k2",
        "ASTRA_KRAKEN_DEFAULT_FUTURES_API_SECRET": "s2",
        "ASTRA_KRAKEN_FUTURES_API_KEY": "k3",
        "ASTRA_KRAKEN_FUTURES_API_SECRET": "s3",
        "ASTRA_KRAKEN_FUTURES_API_PASSPHRASE": "p3",
        "ASTRA_KRAKEN_DESK2_SPOT_MARGIN_API_KEY": "k4",
        "ASTRA_KRAKEN_DESK2_SPOT_MARGIN_API_SECRET": "s4",
    }
    assert await found(env, "KRAKEN") == {"default": ("k1", "s1", None), "futures": ("k2", "s2", None)}
    assert await found(env, "KRAKEN", "futures") == {"default": ("k3", "s3", "p3")}
    assert await found(env, "KRAKEN", "desk2") == {"spot_margin": ("k4", "s4", None)}
    assert await found(env, "KRAKEN", "desk") is None
    assert await found(env, "BINANCE") is None


async def test_the_gateways_own_key_and_similar_exchanges_are_none_of_it() -> None:
    env = {"ASTRA_API_KEY": "g", "ASTRA_API_SECRET": "g", "ASTRA_OKXX_API_KEY": "x", "ASTRA_OKXX_API_SECRET": "x"}
    assert await found(env, "OKX") is None
    assert await found(env, "API") is None


async def test_an_alias_of_the_exchange_serves_too_but_not_both() -> None:
    env = {"ASTRA_HTX_API_KEY": "k", "ASTRA_HTX_API_SECRET": "s"}
    assert await found(env, "HUOBI") == {"default": ("k", "s", None)}
    with pytest.raises(ConfigError, match="ASTRA_HTX_API_KEY and ASTRA_HUOBI_API_KEY say the same thing"):
        await found({**env, "ASTRA_HUOBI_API_KEY": "k2"}, "HUOBI")


async def test_values_may_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k\n")
    (tmp_path / "pem").write_text(PEM + "\n")
    env = {
        "ASTRA_BINANCE_API_KEY_FILE": str(tmp_path / "key"),
        "ASTRA_BINANCE_API_SECRET_FILE": str(tmp_path / "pem"),
    }
    assert await found(env) == {"default": ("k", PEM, None)}
    with pytest.raises(ConfigError, match="ASTRA_BINANCE_API_KEY and ASTRA_BINANCE_API_KEY_FILE say the same thing"):
        await found({**env, "ASTRA_BINANCE_API_KEY": "k"})
    with pytest.raises(ConfigError, match=r"missing' that ASTRA_BINANCE_API_KEY_FILE names cannot be read: No such"):
        await found({**env, "ASTRA_BINANCE_API_KEY_FILE": str(tmp_path / "missing")})


@pytest.mark.parametrize("written", [PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", "\\n") + "\\n", PEM + "\r\n"])
async def test_pem_keys_survive_the_environment(written: str) -> None:
    env = {"ASTRA_BINANCE_API_KEY": "k", "ASTRA_BINANCE_API_SECRET": written}
    secret = (await found(env))["default"][1]
    assert secret.strip() == PEM


async def test_a_secret_that_is_no_pem_key_keeps_its_backslashes() -> None:
    env = {"ASTRA_BINANCE_API_KEY": "k", "ASTRA_BINANCE_API_SECRET": r"a\nb"}
    assert (await found(env))["default"][1] == r"a\nb"


async def test_half_a_key_says_which_variable_is_missing() -> None:
    with pytest.raises(ConfigError, match="ASTRA_BINANCE_API_SECRET is missing"):
        await found({"ASTRA_BINANCE_API_KEY": "k"})
    with pytest.raises(ConfigError, match="ASTRA_BINANCE_DESK_API_KEY is missing"):
        await found({"ASTRA_BINANCE_DESK_API_SECRET": "s"}, account="desk")
    with pytest.raises(ConfigError, match="ASTRA_KRAKEN_DEFAULT_FUTURES_API_SECRET is missing"):
        await found({"ASTRA_KRAKEN_DEFAULT_FUTURES_API_KEY": "k"}, "KRAKEN")


async def test_an_empty_variable_counts_as_not_set() -> None:
    assert await found({"ASTRA_BINANCE_API_KEY": "", "ASTRA_BINANCE_API_SECRET": ""}) is None


# --- file ----------------------------------------------------------------------------------------------------------


def keys_file(folder: Path, text: str, mode: int = 0o600) -> FileStore:
    path = folder / "keys.toml"
    path.write_text(text)
    path.chmod(mode)
    return FileStore({"path": str(path)}, {})


async def test_the_file_holds_accounts_and_keys_by_product(tmp_path: Path) -> None:
    store = keys_file(
        tmp_path,
        f'''
        [BINANCE.default]
        api_key = "k"
        api_secret = """{PEM}"""
        [HTX.Desk-1]
        api_key = "k2"
        api_secret = "s2"
        api_passphrase = "p2"
        [HTX.Desk-1.futures]
        api_key = "k3"
        api_secret = "s3"
        ''',
    )
    assert plain(await store.find("BINANCE", "default")) == {"default": ("k", PEM, None)}
    assert plain(await store.find("HUOBI", "Desk-1")) == {"default": ("k2", "s2", "p2"), "futures": ("k3", "s3", None)}
    assert await store.find("BINANCE", "other") is None
    assert await store.find("OKX", "default") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
async def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    store = keys_file(tmp_path, "", mode)
    with pytest.raises(ConfigError, match=rf"others may read it \(mode {mode:03o}\): run chmod 600 .*keys\.toml"):
        await store.find("BINANCE", "default")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[BINANCE.default]\napi_key = "k"\napi_secrt = "hunter2"', "unknown key 'api_secrt'. Did you mean 'api_secre"),
        ('[BINANCE.default]\napi_key = "k"', r"\[BINANCE.default\] in .*keys.toml has no api_secret"),
        ('[BINANCE.default.spot]\napi_key = "k"', r"\[BINANCE.default.spot\] in .*keys.toml has no api_secret"),
        ("[BINANCE.default]", "is empty"),
        ('[BINANCE.default]\napi_key = ""\napi_secret = "hunter2"', "api_key must be a non-empty text"),
        ("[BINANCE.default]\napi_key = 3", "api_key must be a non-empty text"),
        ('BINANCE = "hunter2"', "BINANCE must be a table"),
        ('[BINANCE]\ndefault = "hunter2"', "must be a table with api_key and api_secret"),
        ('[BINANCE.default]\napi_secret = "hunter2', r"is not valid TOML \(at"),
    ],
)
async def test_a_malformed_file_says_what_is_wrong_and_shows_no_secret(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        await keys_file(tmp_path, text).find("BINANCE", "default")
    assert "hunter2" not in str(caught.value)


async def test_a_missing_file_is_an_error_not_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.toml cannot be read: No such file"):
        await FileStore({"path": str(tmp_path / "keys.toml")}, {}).find("BINANCE", "default")
    with pytest.raises(ConfigError, match=r"needs credentials\.file\.path"):
        FileStore({}, {})
    with pytest.raises(ConfigError, match=r"credentials\.file: unknown key 'pth'. Did you mean 'path'"):
        FileStore({"pth": "x"}, {})


# --- which store -----------------------------------------------------------------------------------------------------


def accounts(env: Mapping[str, str], *given: Credentials, overrides: Mapping[str, Any] | None = None) -> Accounts:
    made = Accounts(given, load_settings(env=env, overrides=overrides), Plugins())
    made.open_stores()
    return made


async def test_given_credentials_come_before_the_stores() -> None:
    env = {"ASTRA_BINANCE_API_KEY": "k", "ASTRA_BINANCE_API_SECRET": "s"}
    given = Credentials.of("BINANCE", "given", "s")
    assert await accounts(env, given).credentials("BINANCE", None) is given
    assert plain(await accounts(env).credentials("BINANCE", None)) == {"default": ("k", "s", None)}
    other = Credentials.of("BINANCE", "other", "s", account="desk")
    assert await accounts(env, given, other).credentials("BINANCE", "desk") is other
    assert await accounts(env, given).credentials("BINANCE", other) is other


async def test_stores_are_asked_in_the_configured_order_and_an_account_may_name_its_own(tmp_path: Path) -> None:
    keys_file(tmp_path, '[BINANCE.default]\napi_key = "file"\napi_secret = "s"')
    env = {
        "ASTRA_BINANCE_API_KEY": "env",
        "ASTRA_BINANCE_API_SECRET": "s",
        "ASTRA_CREDENTIALS__FILE__PATH": str(tmp_path / "keys.toml"),
    }

    async def key(env: Mapping[str, str]) -> str:
        (only,) = plain(await accounts(env).credentials("BINANCE", None)).values()
        return str(only[0])

    assert await key(env) == "env"
    assert await key(env | {"ASTRA_CREDENTIALS__STORES": "file,env"}) == "file"
    assert await key(env | {"ASTRA_ACCOUNTS__BINANCE__DEFAULT__STORE": "file"}) == "file"


async def test_further_stores_come_by_entry_point(site: Any) -> None:
    class Vault:
        def __init__(self, settings: Mapping[str, Any], env: Mapping[str, str]) -> None:
            self.prefix = settings["prefix"]

        async def find(self, exchange: str, account: str) -> Credentials | None:
            return Credentials.of(exchange, f"{self.prefix}-{account}", "s", account=account)

        def wanted(self, exchange: str, account: str) -> str:
            return "the vault"

    site.offer(CREDENTIALS, "vault", Vault)
    made = accounts({}, overrides={"credentials": {"stores": ["vault"], "vault": {"prefix": "v"}}})
    assert plain(await made.credentials("BINANCE", "desk"))["default"][0] == "v-desk"


async def test_a_configured_store_that_is_missing_is_refused_at_the_start() -> None:
    with pytest.raises(PluginError, match=r"no credential store named 'fil' is installed.*Did you mean 'file'"):
        accounts({"ASTRA_CREDENTIALS__STORES": "fil"})
    with pytest.raises(PluginError, match="'vault'"):
        accounts({"ASTRA_ACCOUNTS__BINANCE__DEFAULT__STORE": "vault"})


async def test_missing_credentials_say_exactly_what_would_provide_them(tmp_path: Path) -> None:
    keys_file(tmp_path, "")
    made = accounts({"ASTRA_CREDENTIALS__FILE__PATH": str(tmp_path / "keys.toml")})
    with pytest.raises(AuthenticationError) as caught:
        await made.credentials("BINANCE", "desk")
    assert caught.value.exchange == "BINANCE"
    for way in ("ASTRA_BINANCE_DESK_API_KEY", "ASTRA_BINANCE_DESK_API_SECRET", "_FILE", "[BINANCE.desk]", "keys.toml"):
        assert way in caught.value.message
    with pytest.raises(AuthenticationError, match="ASTRA_BINANCE_API_KEY and ASTRA_BINANCE_API_SECRET"):
        await accounts({}).credentials("BINANCE", None)
    with pytest.raises(AuthenticationError, match="letters and digits"):
        await accounts({}).credentials("BINANCE", "desk-1")
    plain_arguments = Accounts((), settings_of(None), Plugins())
    with pytest.raises(AuthenticationError, match=r"Credentials\.of\('BINANCE'"):
        await plain_arguments.credentials("BINANCE", None)


async def test_two_given_credentials_of_one_account_are_refused() -> None:
    one, two = Credentials.of("HTX", "a", "s"), Credentials.of("HUOBI", "b", "s")
    with pytest.raises(ConfigError, match="two credentials are given for HUOBI account 'default'"):
        accounts({}, one, two)


# --- secrets -------------------------------------------------------------------------------------------------------


async def test_credentials_print_as_stars_wherever_they_end_up(caplog: pytest.LogCaptureFixture) -> None:
    credentials = Credentials.of("BINANCE", "hunter2key", "hunter2secret", "hunter2phrase")
    key = credentials.keys["default"]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("%s %r %s", credentials, credentials, [key])
        try:
            raise AuthenticationError(f"no: {credentials} {key!r}", exchange="BINANCE")
        except AuthenticationError:
            logging.getLogger("test").exception("failed with %s", {"credentials": credentials})
    everywhere = [
        caplog.text,
        repr(credentials),
        str(key),
        credentials.model_dump_json(),
        repr(credentials.model_dump()),
    ]
    assert not [text for text in everywhere if "hunter2" in text]


async def test_equality_and_hash_go_by_the_keys() -> None:
    one, again = Credentials.of("BINANCE", "k", "s"), Credentials.of("BINANCE", "k", "s")
    assert one == again
    assert hash(one) == hash(again)
    assert one != Credentials.of("BINANCE", "k2", "s")
    assert pickle.loads(pickle.dumps(one)) == one
