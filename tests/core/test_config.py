"""Settings: who wins, what is refused, and what is never shown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from astra.config import Settings, check_sections, load_settings, settings_of, shown_value
from astra.errors import ConfigError
from astra.plugins import FRONTENDS, VENUES, Plugins
from astra.venue import VenueSettings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def file(text: str, name: str = "astra.toml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


class Hosts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    spot_rest: str = "https://api.example.com"
    spot_stream: str = "wss://stream.example.com"


class AlphaSettings(VenueSettings):
    hosts: Hosts = Hosts()
    token: SecretStr | None = None
    max_notional: Decimal | None = None

    @field_validator("token")
    @classmethod
    def _long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 8:
            raise ValueError("must have 8 characters")
        return token


def alpha(settings: Settings) -> AlphaSettings:
    return settings.validated("venues", "ALPHA", AlphaSettings)


# --- precedence ----------------------------------------------------------------------------------------------------


def test_without_file_environment_and_arguments_the_defaults_hold() -> None:
    settings = load_settings(env={})
    assert settings.plugins is None
    assert settings.middleware == ()
    assert settings.credential_stores == ("env",)
    assert settings.origin("plugins") == "default"
    assert alpha(settings) == AlphaSettings()


def test_the_later_layer_wins_key_by_key_and_each_key_knows_where_it_came_from() -> None:
    path = file(
        """
        plugins = ["ALPHA"]
        [venues.ALPHA]
        request_timeout_s = 1.5
        markets_max_age_s = 60
        [venues.ALPHA.hosts]
        spot_rest = "http://file"
        spot_stream = "ws://file"
        """
    )
    settings = load_settings(
        path,
        env={"ASTRA_VENUES__ALPHA__HOSTS__SPOT_REST": "http://env", "ASTRA_VENUES__ALPHA__REQUEST_TIMEOUT_S": "2"},
        overrides={"venues": {"ALPHA": {"request_timeout_s": 3}}},
    )
    values = alpha(settings)
    assert values.request_timeout_s == 3
    assert values.markets_max_age_s == 60
    assert values.hosts == Hosts(spot_rest="http://env", spot_stream="ws://file")
    assert settings.origins["venues.ALPHA.request_timeout_s"] == "argument"
    assert (
        settings.origins["venues.ALPHA.hosts.spot_rest"] == "environment variable ASTRA_VENUES__ALPHA__HOSTS__SPOT_REST"
    )
    assert settings.origins["venues.ALPHA.hosts.spot_stream"] == "astra.toml"
    assert settings.origin("venues.ALPHA.proxy") == "default"


def test_the_file_is_the_named_one_then_the_variables_then_the_one_in_the_working_directory() -> None:
    file('plugins = ["HERE"]')
    file('plugins = ["VARIABLE"]', "variable.toml")
    file('plugins = ["NAMED"]', "named.toml")
    env = {"ASTRA_CONFIG": "variable.toml"}
    assert load_settings(env={}).plugins == ("HERE",)
    assert load_settings(env=env).plugins == ("VARIABLE",)
    assert load_settings(Path("named.toml"), env=env).plugins == ("NAMED",)


def test_arguments_alone_read_no_file_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    file('plugins = ["HERE"]')
    monkeypatch.setenv("ASTRA_PLUGINS", "VARIABLE")
    assert settings_of(None).plugins is None
    settings = settings_of({"venues": {"ALPHA": {"request_timeout_s": 3}}})
    assert alpha(settings).request_timeout_s == 3
    assert settings.credential_stores == ()
    assert settings_of(settings) is settings


@pytest.mark.parametrize(
    ("text", "expected"), [("BINANCE,rest", ("BINANCE", "rest")), (" A , B ,", ("A", "B")), ("", ()), (",", ())]
)
def test_lists_in_variables_are_divided_by_commas_and_an_empty_one_is_empty(text: str, expected: Any) -> None:
    env = {"ASTRA_PLUGINS": text, "ASTRA_PLUGINS_BLOCK": text, "ASTRA_MIDDLEWARE": text}
    settings = load_settings(env=env)
    assert (settings.plugins, settings.plugins_block, settings.middleware) == (expected,) * 3


def test_middleware_is_ordered_by_one_key_and_set_up_by_tables_beside_it() -> None:
    file('[middleware]\norder = ["journal", "risk"]\n[middleware.risk]\nmax_notional = 0.1')
    settings = load_settings(env={"ASTRA_MIDDLEWARE": "risk", "ASTRA_MIDDLEWARE__RISK__DRY": "true"})
    assert settings.middleware == ("risk",)
    assert settings.section("middleware", "risk") == {"max_notional": Decimal("0.1"), "dry": "true"}
    assert load_settings(env={}, overrides={"middleware": ["a", "b"]}).middleware == ("a", "b")


def test_numbers_of_the_file_keep_their_digits() -> None:
    file("[venues.ALPHA]\nmax_notional = 0.12345678901234567890")
    assert alpha(load_settings(env={})).max_notional == Decimal("0.12345678901234567890")


def test_variables_give_typed_values_and_json_where_a_table_or_list_is_wanted() -> None:
    env = {
        "ASTRA_VENUES__ALPHA__REQUEST_TIMEOUT_S": "2.5",
        "ASTRA_VENUES__ALPHA__STREAMS__AUDITS": "false",
        "ASTRA_VENUES__ALPHA__HOSTS": '{"spot_rest": "http://env"}',
        "ASTRA_STRICT_PLUGINS": "1",
    }
    settings = load_settings(env=env)
    values = alpha(settings)
    assert values.request_timeout_s == 2.5
    assert values.streams.audits is False
    assert values.hosts.spot_rest == "http://env"
    assert settings.strict_plugins is True
    assert settings.origin("venues.ALPHA.hosts.spot_rest") == "environment variable ASTRA_VENUES__ALPHA__HOSTS"


def test_names_of_sections_ignore_case_aliases_and_dashes() -> None:
    settings = load_settings(
        env={"ASTRA_VENUES__HTX__PROXY": "http://p", "ASTRA_FRONTENDS__MY_FRONT__PORT": "1"},
        overrides={"frontends": {"my-front": {"host": "h"}}},
    )
    assert settings.section("venues", "HUOBI") == {"proxy": "http://p"}
    assert settings.section("frontends", "my-front") == {"port": "1", "host": "h"}


def test_accounts_and_stores() -> None:
    settings = load_settings(
        env={"ASTRA_ACCOUNTS__HTX__HEDGE__STORE": "file", "ASTRA_CREDENTIALS__FILE__PATH": "/keys.toml"}
    )
    assert settings.accounts["HUOBI"]["hedge"].store == "file"
    assert settings.credential_stores == ("env", "file")
    assert load_settings(env={"ASTRA_CREDENTIALS__STORES": "file"}).credential_stores == ("file",)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ASTRA_PORT", "ASTRA_API_KEY", "ASTRA_BINANCE_API_SECRET", "ASTRA_SERVICE_HOST", "ASTRA_X__Y", "ASTRA_HOME"],
)
def test_variables_that_are_below_no_known_section_are_left_alone(name: str) -> None:
    settings, plain = load_settings(env={name: "tcp://10.0.0.1:80"}), load_settings(env={})
    assert settings.model_dump() == plain.model_dump()
    assert settings.origins == plain.origins


def refused(env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        alpha(load_settings(env=env or {}, overrides=overrides))
    return caught.value.message


def test_an_unknown_key_is_refused_with_its_origin_and_the_nearest_valid_one() -> None:
    assert refused({"ASTRA_VENUES__ALPHA__HOSTS__SPOT_RST": "x"}) == (
        "venues.ALPHA.hosts.spot_rst (environment variable ASTRA_VENUES__ALPHA__HOSTS__SPOT_RST): "
        "unknown key. Did you mean 'spot_rest'?"
    )
    assert "venues.ALPHA.proxi (argument): unknown key. Did you mean 'proxy'?" in refused(
        overrides={"venues": {"ALPHA": {"proxi": "x"}}}
    )
    file("[venue.ALPHA]\nproxy = 'x'")
    assert "venue (astra.toml): unknown key. Did you mean 'venues'?" in refused()


def test_all_faults_of_a_section_are_told_at_once() -> None:
    message = refused(overrides={"venues": {"ALPHA": {"proxi": "x", "request_timeout_s": -1, "hosts": 5}}})
    for key in ("venues.ALPHA.proxi", "venues.ALPHA.request_timeout_s", "venues.ALPHA.hosts"):
        assert key in message


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"ASTRA_VENUE__ALPHA__PROXY": "x"}, "Did you mean ASTRA_VENUES__ALPHA__PROXY"),
        ({"ASTRA_VENUES": "ALPHA"}, "venues is a section, set its keys: ASTRA_VENUES__NAME__KEY"),
        ({"ASTRA_VENUES__ALPHA": "x"}, "venues.ALPHA (environment variable ASTRA_VENUES__ALPHA): must be a table"),
        ({"ASTRA_VENUES____PROXY": "x"}, "has an empty part"),
        ({"ASTRA_PLUGINS__ALPHA": "x"}, "plugins is no section. Did you mean ASTRA_PLUGINS?"),
        ({"ASTRA_STRICT_PLUGINS": "perhaps"}, "strict_plugins (environment variable ASTRA_STRICT_PLUGINS)"),
        ({"ASTRA_MIDDLEWARE__ORDRE": "x"}, "Did you mean 'order'?"),
        ({"ASTRA_ACCOUNTS__ALPHA__MAIN__STOR": "x"}, "Did you mean 'store'?"),
        (
            {"ASTRA_VENUES__ALPHA__HOSTS": "x", "ASTRA_VENUES__ALPHA__HOSTS__SPOT_REST": "y"},
            "venues.ALPHA.hosts (environment variable ASTRA_VENUES__ALPHA__HOSTS) is no section",
        ),
    ],
)
def test_malformed_variables_are_refused_by_name(env: Mapping[str, str], reason: str) -> None:
    assert reason in refused(env)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("venues = 3", "venues (astra.toml): must be a table"),
        ("plugins = 'ALPHA'", "plugins (astra.toml): must be a list of names"),
        ("[venues]\nALPHA = 3", "venues.ALPHA (astra.toml): must be a table"),
        ("not toml", "configuration file astra.toml is not valid TOML"),
    ],
)
def test_malformed_files_are_refused_with_the_place(text: str, reason: str) -> None:
    file(text)
    assert reason in refused()


def test_a_named_file_that_is_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no configuration file missing\.toml"):
        load_settings("missing.toml", env={})
    with pytest.raises(ConfigError, match=r"no configuration file other\.toml"):
        load_settings(env={"ASTRA_CONFIG": "other.toml"})


def test_sections_of_plugins_that_nobody_knows_are_refused(site: Any) -> None:
    site.install("acme", {VENUES: {"ALPHA": "a:b"}, FRONTENDS: {"my-front": "a:c"}})
    plugins = Plugins()
    check_sections(
        settings_of({"venues": {"ALPHA": {}, "KRAKEN": {}, "HTX": {}}, "frontends": {"my-front": {}, "rest": {}}}),
        plugins,
    )
    with pytest.raises(ConfigError, match=r"venues\.BINANC \(argument\).*Did you mean 'BINANCE'"):
        check_sections(settings_of({"venues": {"BINANC": {"proxy": "x"}}}), plugins)
    with pytest.raises(ConfigError, match=r"accounts\.ALHPA \(.*ASTRA_ACC.*Did you mean 'ALPHA'"):
        check_sections(load_settings(env={"ASTRA_ACCOUNTS__ALHPA__MAIN__STORE": "env"}), plugins)
    with pytest.raises(ConfigError, match=r"frontends\.gatway .*Did you mean 'gateway'"):
        check_sections(settings_of({"frontends": {"gatway": {"port": 1}}}), plugins)
    with pytest.raises(ConfigError, match=r"middleware\.rsk"):
        check_sections(settings_of({"middleware": {"rsk": {"x": 1}}}), plugins)


# --- secrets -------------------------------------------------------------------------------------------------------

SECRET = "hunter2"


def test_no_error_repr_or_listing_shows_a_secret() -> None:
    message = refused({"ASTRA_VENUES__ALPHA__TOKEN": SECRET, "ASTRA_VENUES__ALPHA__MAX_NOTIONAL": SECRET})
    assert "venues.ALPHA.token" in message
    assert "must have 8 characters" in message
    assert SECRET not in message
    settings = load_settings(
        env={
            "ASTRA_VENUES__ALPHA__PROXY": f"http://user:{SECRET}@proxy:3128",
            "ASTRA_VENUES__ALPHA__TOKEN": SECRET,
            "ASTRA_FRONTENDS__GATEWAY__API_KEY": SECRET,
            "ASTRA_FRONTENDS__GATEWAY__DATABASE": f"postgresql://astra:{SECRET}@db/astra",
        }
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in f"{settings!r}{[settings]}"
    shown = settings.shown()
    assert SECRET not in repr(shown)
    rows = {key: value for key, value, _ in shown}
    assert rows["venues.ALPHA.proxy"] == "http://***@proxy:3128"
    assert rows["venues.ALPHA.token"] == "***"
    assert rows["credentials.stores"] == "env"


def test_a_refused_secret_is_in_no_part_of_the_traceback() -> None:
    settings = load_settings(env={"ASTRA_VENUES__ALPHA__TOKEN": SECRET})
    with pytest.raises(ConfigError) as caught:
        alpha(settings)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_shown_values_keep_what_is_no_secret() -> None:
    assert shown_value("venues.KRAKEN.hosts.private_stream", "wss://x") == "wss://x"
    assert shown_value("credentials.file.path", "/keys.toml") == "/keys.toml"
    assert shown_value("frontends.gateway.key_recheck_s", 0.8) == "0.8"
    assert shown_value("frontends.gateway.cors_origins", ("a", "b")) == "a, b"
    assert shown_value("frontends.gateway.signing_key", "x") == "***"


def test_settings_of_trading_are_checked_like_all_others() -> None:
    settings = load_settings(env={"ASTRA_TRADING__RESOLVE_S": "2.5"})
    assert settings.trading.resolve_s == 2.5
    assert ("trading.resolve_s", "2.5", "environment variable ASTRA_TRADING__RESOLVE_S") in settings.shown()
    assert settings_of({"trading": {"resolve_s": 0}}).trading.resolve_s == 0
    with pytest.raises(ConfigError, match=r"trading\.resolv \(argument\): unknown key. Did you mean 'resolve_s'"):
        settings_of({"trading": {"resolv": 3}})
    with pytest.raises(ConfigError, match=r"trading\.resolve_s \(argument\)"):
        settings_of({"trading": {"resolve_s": -1}})
    with pytest.raises(ConfigError, match="must be a table"):
        settings_of({"trading": 3})
