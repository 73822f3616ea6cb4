"""The kill switch: turned by setting, file or call, it stops everything but cancels and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from astra import Astra, OrderChange, OrderRequest
from astra.errors import PermissionDenied, PluginError
from astra_risk import Risk, TradingHalted

pytestmark = pytest.mark.anyio

SPOT, PERP = "PAPER-SPOT-BTC-USDT", "PAPER-PERP-BTC-USDT"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def limit() -> OrderRequest:
    return OrderRequest(side="BUY", quantity="1", price="100")


async def halted(doing: Any, setting: str, reason: str) -> None:
    with pytest.raises(TradingHalted, match=reason) as caught:
        await doing
    assert isinstance(caught.value, PermissionDenied)
    assert caught.value.setting == setting
    assert setting in str(caught.value)


async def everything_but_cancels_is_refused(astra: Astra, client_order_id: str, setting: str, reason: str) -> None:
    change = OrderChange(price="99")
    for doing in (
        astra.place_order(SPOT, limit()),
        astra.amend_order(SPOT, change, client_order_id=client_order_id),
        astra.set_leverage(PERP, 2),
        astra.set_margin_mode(PERP, "CROSS"),
        astra.set_position_mode("PAPER", True),
    ):
        await halted(doing, setting, reason)
    answers = await astra.place_orders([(SPOT, limit()), (PERP, limit())])
    assert all(isinstance(answer, TradingHalted) for answer in answers)
    assert (await astra.get_order(SPOT, client_order_id=client_order_id)).status.is_open
    assert await astra.get_balances("PAPER")


async def test_a_call_halts_and_resumes(desk: Any, open_desk: Any) -> None:
    async with open_desk() as astra:
        placed = await astra.place_order(SPOT, limit())
        sent = list(desk.exchange.log)
        risk = Risk.of(astra)
        assert not risk.is_halted
        risk.halt("the desk went home")
        assert risk.is_halted
        await everything_but_cancels_is_refused(astra, placed.client_order_id, "halt()", "the desk went home")
        assert [name for name in desk.exchange.log if name not in ("get_order", "get_balances")] == sent
        await astra.cancel_order(SPOT, client_order_id=placed.client_order_id)
        risk.resume()
        await astra.place_order(SPOT, limit())
        await astra.cancel_all_orders("PAPER")


async def test_a_file_halts_while_it_exists(desk: Any, open_desk: Any, tmp_path: Path) -> None:
    file = tmp_path / "halt"
    setting = "middleware.risk.kill_switch_file"
    async with open_desk(kill_switch_file=str(file)) as astra:
        placed = await astra.place_order(SPOT, limit())
        file.touch()
        await everything_but_cancels_is_refused(astra, placed.client_order_id, setting, f"{file} exists")
        Risk.of(astra).resume()  # takes back halt() only
        await halted(astra.place_order(SPOT, limit()), setting, "exists")
        await astra.cancel_order(SPOT, client_order_id=placed.client_order_id)
        file.unlink()
        await astra.place_order(SPOT, limit())


async def test_a_file_that_cannot_be_looked_at_halts(desk: Any, open_desk: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    async with open_desk(kill_switch_file=tmp_path / "folder" / "halt") as astra:
        await halted(
            astra.place_order(SPOT, limit()), "middleware.risk.kill_switch_file", "cannot be looked at: Not a directory"
        )


async def test_the_configuration_halts_from_the_start(open_desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with open_desk(halted=True) as astra:
        assert "trading is halted from the start (middleware.risk.halted)" in caplog.text
        await halted(astra.place_order(SPOT, limit()), "middleware.risk.halted", "the configuration says so")


async def test_what_was_being_checked_when_the_switch_turned_is_not_sent(desk: Any, open_desk: Any) -> None:
    async with open_desk(max_position="10", max_price_distance_percent=50) as astra:
        risk = Risk.of(astra)
        desk.exchange.stubs["get_positions"] = lambda: risk.halt("now")
        await halted(astra.place_order(PERP, limit()), "halt()", "now")
        risk.resume()
        desk.clock.now += 10
        desk.exchange.stubs["get_positions"] = lambda: None
        desk.exchange.stubs["get_orderbook"] = lambda market: risk.halt("now") if market.symbol == SPOT else None
        with pytest.raises(TradingHalted):
            await astra.place_orders([(PERP, limit()), (SPOT, limit())])
        risk.resume()
        desk.exchange.stubs.clear()
        await astra.place_order(PERP, OrderRequest(side="BUY", quantity="10", price="100"))  # nothing stays reserved
    assert desk.exchange.log.count("place_order") == 1
    assert "place_orders" not in desk.exchange.log


async def test_an_application_without_risk_limits_says_so(desk: Any) -> None:
    with desk.installed() as plugins:
        async with Astra(plugins=plugins) as astra:
            with pytest.raises(PluginError, match="not among the active middleware"):
                Risk.of(astra)
