"""What the sandboxes list: the usual handful of every product, or as many as a test wants."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from astra.plugins import SANDBOXES, VENUES, Plugins
from astra.symbols import expiry_date

PLUGINS = Plugins()
EXCHANGES = [name for name in PLUGINS.names(SANDBOXES) if name in set(PLUGINS.names(VENUES))]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_any_number_of_markets_spreads_over_the_products(exchange: str) -> None:
    sandbox: Any = PLUGINS.load(SANDBOXES, exchange)
    venue: Any = PLUGINS.load(VENUES, exchange)
    usual = list(sandbox.default_markets())
    assert {market.product for market in usual} == set(venue.products)
    wanted = 400
    markets = list(sandbox.default_markets(wanted))
    assert len({market.symbol for market in markets}) == len({market.key for market in markets}) == wanted
    counts = Counter(market.product for market in markets)
    assert set(counts) == set(venue.products)
    assert min(counts.values()) > 10
    for market in markets:
        symbol = market.parsed_symbol
        assert str(symbol) == market.symbol
        assert symbol.expiry == (None if market.expiry is None else expiry_date(market.expiry))
    assert list(sandbox.default_markets(len(venue.products))) == markets[: len(venue.products)]
    assert list(sandbox.default_markets(0)) == []
