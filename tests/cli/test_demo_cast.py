"""Who takes part in `astra demo`, which markets are watched, and how it looks in a terminal."""

from __future__ import annotations

import io
from importlib.metadata import EntryPoint

import pytest
from rich.console import Console

from astra.errors import PluginError
from astra.models.markets import Market, MarketStatus
from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.symbols import AssetType
from astra_cli import demonstration
from astra_cli.showing import picture
from astra_cli.tally import Tally

VENUE = EntryPoint("ALPHA", "alpha_venue:Alpha", VENUES)
SANDBOX = EntryPoint("ALPHA", "astra_binance.sandbox:BinanceSandbox", SANDBOXES)


def installed(monkeypatch: pytest.MonkeyPatch, *entry_points: EntryPoint) -> None:
    monkeypatch.setattr(demonstration, "Plugins", lambda: Plugins(entry_points=lambda: entry_points))


BINANCE = (
    EntryPoint("BINANCE", "astra_binance.venue:BinanceVenue", VENUES),
    EntryPoint("BINANCE", "astra_binance.sandbox:BinanceSandbox", SANDBOXES),
)


def test_a_venue_of_which_only_the_sandbox_is_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, *BINANCE, SANDBOX)
    cast = demonstration._chosen([])
    assert (cast.exchanges, cast.problems) == (["BINANCE"], [])
    assert cast.left_out == {"ALPHA": "its sandbox is installed, its plugin is not"}


def test_a_venue_without_a_sandbox_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, *BINANCE, VENUE)
    cast = demonstration._chosen([])
    assert (cast.exchanges, cast.left_out) == (["BINANCE"], {"ALPHA": "it has no sandbox"})


def test_a_broken_venue_is_a_problem_and_takes_no_other_down(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, *BINANCE, VENUE, SANDBOX)
    cast = demonstration._chosen([])
    assert (cast.exchanges, cast.left_out) == (["BINANCE"], {})
    (problem,) = cast.problems
    assert "venue ALPHA" in problem
    assert "alpha_venue" in problem


def test_nothing_to_show_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(PluginError, match="pip install astra-binance"):
        demonstration._chosen([])
    installed(monkeypatch, SANDBOX)
    with pytest.raises(PluginError, match="ALPHA: its sandbox is installed, its plugin is not"):
        demonstration._chosen([])
    installed(monkeypatch, *BINANCE, SANDBOX)
    with pytest.raises(PluginError, match="ALPHA"):
        demonstration._chosen(["ALPHA"])


def market(number: int, product: str, status: MarketStatus = MarketStatus.ACTIVE) -> Market:
    return Market(
        symbol=f"ALPHA-SPOT-A{number}-USD",
        asset_type=AssetType.SPOT,
        base_asset=f"A{number}",
        quote_asset="USD",
        native_symbol=f"A{number}USD",
        product=product,
        status=status,
    )


def test_the_first_active_markets_of_each_product_are_watched() -> None:
    listed = [market(0, "x", MarketStatus.HALTED), *(market(number, "xyx"[number % 3]) for number in range(1, 9))]
    assert demonstration._first(listed, 2) == {
        "ALPHA-SPOT-A2-USD": "x",
        "ALPHA-SPOT-A3-USD": "x",
        "ALPHA-SPOT-A1-USD": "y",
        "ALPHA-SPOT-A4-USD": "y",
    }


def many(venues: int) -> Tally:
    """Venues with four products each."""
    products = ("spot", "swap", "futures", "international")
    symbols = {
        f"{'ABCDEF'[venue]}LPHACOIN-OPT-BTC-USD-270326-9000{number}-C": product
        for venue in range(venues)
        for number, product in enumerate(products)
    }
    tally = Tally(symbols, 0.0)
    for symbol in symbols:
        sides = {"bids": [{"price": 89999.77, "quantity": 1.0}], "asks": [{"price": 90000.75, "quantity": 1.0}]}
        tally.received({"market": symbol, "type": "SNAPSHOT", "updateId": 1} | sides, 1.0)
    return tally


@pytest.mark.parametrize("width", [80, 120, 200])
def test_each_market_is_one_row_that_fits_the_terminal(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(picture(many(6), 2.0, width))
    summary, heading, *rows = out.getvalue().splitlines()
    assert summary.strip() == "24 of 24 products of 6 venues live"
    assert ("spread" in heading) is (width >= 120)
    assert len(rows) == 24
    for row in rows:
        assert len(row) <= width
        for shown in ("89999.77", "90000.75", "LIVE"):
            assert shown in row
        assert row.split()[1] in ("spot", "swap", "futures", "international")
