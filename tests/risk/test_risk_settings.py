"""Settings that would limit nothing because they are misspelt are refused; all ways to write one mean the same."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from astra import OrderChange, OrderRequest
from astra.config import load_settings
from astra.errors import ConfigError
from astra_risk import MarketNotAllowed, RiskSettings
from astra_risk.scope import Scopes


def read(values: dict[str, Any]) -> RiskSettings:
    return load_settings(env={}, overrides={"middleware": {"risk": values}}).validated(
        "middleware", "risk", RiskSettings
    )


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_order_notinal": 1}, r"unknown key.*'max_order_notional'"),
        ({"max_order_notional": 0.1}, "a float has already lost digits"),
        ({"max_order_notional": -1}, "greater than or equal to 0"),
        ({"max_open_orders": "many"}, "integer"),
        ({"markets": {"PAPER_SPOT_*": {"max_position": 1}}}, "with dashes"),
        ({"markets": {"PAPER-SPOTT-*": {"max_position": 1}}}, "Did you mean 'SPOT'"),
        ({"markets": {"PAPER-SPOT-BTC": {"max_position": 1}}}, "SPOT"),
        ({"markets": {"PAPER-*": {"max_positon": 1}}}, r"markets\.PAPER-\*\.max_positon .*unknown key"),
        ({"exchanges": {"HTX": {"max_position": 1}, "HUOBI": {"max_position": 2}}}, "HUOBI stands twice"),
        ({"allow_markets": ["PAPER_*"]}, "with dashes"),
    ],
)
def test_what_would_limit_nothing_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(values)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "values",
    [
        {"exchanges": {"PAPPER": {"max_position": 1}}},
        {"accounts": {"PAPPER": {"default": {"max_position": 1}}}},
        {"markets": {"PAPPER-SPOT-*": {"max_position": 1}}},
        {"deny_markets": "PAPPER-*"},
    ],
)
async def test_exchanges_that_nobody_knows_stop_the_start(open_desk: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"middleware\.risk\..*PAPPER.*Did you mean 'PAPER'\?"):
        await open_desk(**values).__aenter__()


def test_the_file_and_the_environment_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "astra.toml"
    file.write_text(
        "[middleware.risk]\nmax_order_notional = 0.1\nallow_markets = ['KRAKEN-*', 'HTX-SPOT-*']\n"
        "[middleware.risk.exchanges.HTX]\nmax_open_orders = 7\n"
        "[middleware.risk.accounts.BINANCE.hedge]\nmax_position = 5\n"
        "[middleware.risk.markets.'BINANCE-PERP-*']\nmax_leverage = 3\n"
    )
    env = {
        "ASTRA_MIDDLEWARE__RISK__MAX_ORDER_NOTIONAL": "0.1",
        "ASTRA_MIDDLEWARE__RISK__ALLOW_MARKETS": "KRAKEN-*, HTX-SPOT-*",
        "ASTRA_MIDDLEWARE__RISK__EXCHANGES__HTX__MAX_OPEN_ORDERS": "7",
        "ASTRA_MIDDLEWARE__RISK__ACCOUNTS__BINANCE__HEDGE__MAX_POSITION": "5",
        "ASTRA_MIDDLEWARE__RISK__MARKETS__BINANCE-PERP-*__MAX_LEVERAGE": "3",
    }
    for settings in (load_settings(file, {}), load_settings(env=env)):
        risk = settings.validated("middleware", "risk", RiskSettings)
        assert risk.max_order_notional == Decimal("0.1")
        assert risk.allow_markets == ("KRAKEN-*", "HUOBI-SPOT-*")
        scopes = Scopes(risk)
        names = {limit.setting.rpartition(".")[2] for limit in every(scopes, "BINANCE", "hedge", "BINANCE-PERP-A-B")}
        assert names == {"max_order_notional", "max_position", "max_leverage"}
        names = {limit.name for limit in every(scopes, "HUOBI", "hedge", "HUOBI-SPOT-A-B")}
        assert names == {"max_order_notional", "max_open_orders"}


def every(scopes: Scopes, exchange: str, account: str, symbol: str) -> list[Any]:
    scope = scopes.find(exchange, account, symbol)
    return list(scope.of(*RiskSettings.model_fields))


def test_all_sections_that_match_apply_together() -> None:
    risk = read(
        {
            "max_position": 9,
            "exchanges": {"paper": {"max_position": 8}},
            "accounts": {"PAPER": {"desk": {"max_position": 7}}},
            "markets": {"*-SPOT-*": {"max_position": 6}, "PAPER-SPOT-BTC-USDT": {"max_position": 10}},
        }
    )
    found = {limit.setting: limit.value for limit in every(Scopes(risk), "PAPER", "Desk", "PAPER-SPOT-BTC-USDT")}
    assert found == {
        "middleware.risk.max_position": 9,
        "middleware.risk.exchanges.PAPER.max_position": 8,
        "middleware.risk.accounts.PAPER.desk.max_position": 7,
        "middleware.risk.markets.*-SPOT-*.max_position": 6,
        "middleware.risk.markets.PAPER-SPOT-BTC-USDT.max_position": 10,
    }
    assert len(every(Scopes(risk), "PAPER", "other", "PAPER-PERP-BTC-USDT")) == 2


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"deny_markets": ["PAPER-SPOT-BTC-USTD"]}, "deny_markets"),
        ({"allow_markets": ["PAPER-*", "PAPER-SPOT-BTC-USTD"]}, "allow_markets"),
        ({"markets": {"PAPER-SPOT-BTC-USTD": {"max_order_notional": 5}}}, "markets"),
        ({"deny_markets": ["PAPER-FUT-BTC-USDT-660101"]}, "deny_markets"),
    ],
)
async def test_a_market_that_its_venue_does_not_have_refuses_every_order_there(
    desk: Any, open_desk: Any, values: dict[str, Any], key: str
) -> None:
    order = OrderRequest(side="BUY", quantity="1", price="100")
    async with open_desk(**values) as astra:
        for doing in (
            astra.place_order("PAPER-SPOT-BTC-USDT", order),
            astra.set_leverage("PAPER-PERP-BTC-USDT", 2),
            astra.amend_order("PAPER-SPOT-BTC-USDT", OrderChange(price="99"), client_order_id="x"),
        ):
            with pytest.raises(MarketNotAllowed, match=r"BTC-US.* names a market that PAPER does not have") as caught:
                await doing
            assert caught.value.setting.startswith(f"middleware.risk.{key} (")
        (refused,) = await astra.place_orders([("PAPER-SPOT-BTC-USDT", order)])
        assert isinstance(refused, MarketNotAllowed)
    assert not [asked for asked in desk.exchange.log if asked.startswith(("place", "amend", "set"))]


async def test_a_contract_that_has_expired_is_passed_over(open_desk: Any) -> None:
    async with open_desk(deny_markets=["PAPER-FUT-BTC-USDT-200101"]) as astra:
        assert await astra.place_order("PAPER-SPOT-BTC-USDT", OrderRequest(side="BUY", quantity="1", price="100"))
