"""Which limits apply to an order: those of its market, its account, its exchange, and the general ones."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from astra_risk.settings import Limits, RiskSettings

SECTION = "middleware.risk"

READ_FROM_LEDGER = frozenset({"max_position", "max_position_contracts", "max_position_notional", "max_open_orders"})
"""Limits measured on an account's positions and open orders."""
POSITION_LIMITS = READ_FROM_LEDGER - {"max_open_orders"}
RATE_LIMITS = {"max_orders_per_second": 1.0, "max_orders_per_minute": 60.0}
"""Limits on how often, with their windows in seconds."""


class Applied(NamedTuple):
    """One limit that applies: its name, its value, the key that sets it, and what counting limits count over."""

    name: str
    value: Any
    setting: str
    per_market: bool

    @property
    def rule(self) -> str:
        """The limit's name as errors carry it ("risk-max-position")."""
        return f"risk-{self.name.replace('_', '-')}"


class Scope:
    """The limits that apply in one market of one account."""

    def __init__(self, limits: Iterable[Applied]) -> None:
        self._limits: dict[str, list[Applied]] = {}
        for limit in limits:
            self._limits.setdefault(limit.name, []).append(limit)

    def of(self, *names: str) -> Sequence[Applied]:
        """The limits of these names."""
        return [limit for name in names for limit in self._limits.get(name, ())]

    def has(self, names: Iterable[str]) -> bool:
        return any(name in self._limits for name in names)


class Scopes:
    """Finds the limits that apply, by exchange, account name and symbol."""

    def __init__(self, settings: RiskSettings) -> None:
        self._settings = settings
        self._spelt: dict[str, str] = {}
        self.find = lru_cache(maxsize=4096)(self._find)

    def _find(self, exchange: str, account: str, symbol: str) -> Scope:
        return Scope(self._applied(exchange, account, symbol))

    def _applied(self, exchange: str, account: str, symbol: str) -> Iterator[Applied]:
        settings = self._settings
        sections: list[tuple[str, Limits | None, bool]] = [
            (SECTION, settings, False),
            (f"{SECTION}.exchanges.{exchange}", settings.exchanges.get(exchange), False),
        ]
        for name, limits in settings.accounts.get(exchange, {}).items():
            if name.casefold() == account.casefold():  # environment variables spell names in lower case
                sections.append((f"{SECTION}.accounts.{exchange}.{name}", limits, False))
        for pattern, limits in settings.markets.items():
            if self.matches(symbol, pattern):
                sections.append((f"{SECTION}.markets.{pattern}", limits, True))
        for key, section, per_market in sections:
            for name, value in (section.limits() if section is not None else {}).items():
                yield Applied(name, value, f"{key}.{name}", per_market)

    def spell(self, named: str, symbol: str) -> None:
        """The market that settings call `named` is `symbol` to its venue."""
        if named != symbol:
            self._spelt[named.casefold()] = symbol
            self.find.cache_clear()

    def matches(self, symbol: str, pattern: str) -> bool:
        """Does the symbol match the glob pattern (or other spelling), case aside?"""
        return matches(symbol, self._spelt.get(pattern.casefold(), pattern))

    @property
    def uses_ledger(self) -> bool:
        """Does any limit depend on positions or open orders?"""
        settings = self._settings
        accounts = (limits for sections in settings.accounts.values() for limits in sections.values())
        every = (settings, *settings.exchanges.values(), *accounts, *settings.markets.values())
        return any(READ_FROM_LEDGER & limits.limits().keys() for limits in every)


def matches(symbol: str, pattern: str) -> bool:
    """Does the symbol match the glob pattern, case aside?"""
    return fnmatch.fnmatchcase(symbol.casefold(), pattern.casefold())
