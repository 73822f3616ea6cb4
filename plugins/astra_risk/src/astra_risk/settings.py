"""What the operator can set (section `[middleware.risk]`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from astra.directory import canonical_exchange
from astra.errors import SymbolError, hint
from astra.models.base import PlainDecimal
from astra.symbols import AssetType, Symbol

Figure = Annotated[PlainDecimal, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]

_WILD = re.compile(r"[*?\[\]]")


class Limits(BaseModel):
    """The limits of one section; each None sets none, 0 lets nothing pass.

    Every limit that applies to an order must hold: a narrower section can only tighten a wider one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_order_quantity: Figure | None = None
    """Of one order, in units of the base asset."""
    max_order_contracts: Figure | None = None
    """Of one order, in contracts; markets without contracts are not concerned."""
    max_order_notional: Figure | None = None
    """Value of one order in units of the quote asset."""
    max_position: Figure | None = None
    """Net position in a market, long or short, in units of the base asset, if every open order on that side filled.
    A spot market's position is what the account holds of its base asset."""
    max_position_contracts: Figure | None = None
    """The same in contracts; markets without contracts are not concerned."""
    max_position_notional: Figure | None = None
    """The same valued at the book's mid, in units of the quote asset."""
    max_open_orders: Count | None = None
    """Open orders: of an account at an exchange; in a section `markets`, in each market."""
    max_orders_per_second: Count | None = None
    """Placements and amendments in any second; counted like `max_open_orders`."""
    max_orders_per_minute: Count | None = None
    """Placements and amendments in any minute; counted like `max_open_orders`."""
    max_price_distance_percent: Figure | None = None
    """Distance of an order's price, or of the price that a market order would reach, from the book's mid."""
    max_leverage: Figure | None = None
    """Leverage that may be set."""

    def limits(self) -> Mapping[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name in Limits.model_fields if (value := getattr(self, name)) is not None}


def _words(value: Any) -> Any:
    # From the environment a list comes as one text.
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pattern(text: str) -> str:
    """A symbol, or a glob pattern of symbols, that can match something. Raises `ValueError` that says why not."""
    if not _WILD.search(text):
        try:
            return str(Symbol.parse(text))
        except SymbolError as error:
            raise ValueError(str(error)) from None
    exchange, _, rest = text.partition("-")
    if not re.fullmatch(r"[A-Za-z0-9*?\[\]!]+", exchange):
        raise ValueError(f"{text!r} begins with no exchange code: write it like BINANCE-SPOT-* (with dashes)")
    if not _WILD.search(exchange):
        exchange = canonical_exchange(exchange.upper())
        kind = rest.partition("-")[0]
        if not _WILD.search(kind) and kind.upper() not in set(AssetType):
            kinds = ", ".join(AssetType)
            raise ValueError(
                f"{text!r}: {kind!r} is none of {kinds}.{hint(kind, [known.value for known in AssetType])}"
            )
        return f"{exchange}-{rest}"
    return text


Patterns = Annotated[tuple[str, ...], BeforeValidator(_words)]


class RiskSettings(Limits):
    """Settings of the risk limits. The limits of this section hold for every account of every exchange."""

    exchanges: Mapping[str, Limits] = Field(default_factory=dict)
    """Limits of each account at one exchange, by exchange code."""
    accounts: Mapping[str, Mapping[str, Limits]] = Field(default_factory=dict)
    """Limits of one account, by exchange code and account name."""
    markets: Mapping[str, Limits] = Field(default_factory=dict)
    """Limits of each market (in each account) whose symbol matches the symbol or glob pattern; case is ignored."""
    allow_markets: Patterns | None = None
    """Only these markets (symbols or glob patterns) may be traded; None: all."""
    deny_markets: Patterns = ()
    """These markets may not be traded, whatever else is allowed."""
    halted: bool = False
    """Start with the kill switch on: only cancels pass."""
    kill_switch_file: Path | None = None
    """While this file exists the kill switch is on."""
    position_max_age_s: float = Field(default=5.0, gt=0)
    """Positions and open orders are read again when they are older."""
    book_max_age_s: float = Field(default=1.0, ge=0)
    """A book read by REST (where no live one runs) serves for so long."""
    venue_lag_s: float = Field(default=0.25, ge=0)
    """For so long a venue's answers may not yet show what it has done: a new order, a fill's effect on the position."""
    read_timeout_s: float = Field(default=10.0, gt=0)
    """A read that a decision needs is waited for this long; then the order is refused."""

    @field_validator("exchanges", "accounts", mode="after")
    @classmethod
    def _canonical_codes(cls, sections: Mapping[str, Any]) -> Mapping[str, Any]:
        return _unique((canonical_exchange(code.upper()), section) for code, section in sections.items())

    @field_validator("markets", mode="after")
    @classmethod
    def _checked_markets(cls, sections: Mapping[str, Limits]) -> Mapping[str, Limits]:
        return _unique((_pattern(pattern), section) for pattern, section in sections.items())

    @field_validator("allow_markets", "deny_markets", mode="after")
    @classmethod
    def _checked_patterns(cls, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if patterns is None else tuple(_pattern(pattern) for pattern in patterns)

    def named_markets(self, exchange: str) -> Iterable[tuple[str, Symbol]]:
        """Every market of the exchange that the settings name by its symbol, with the key that names it."""
        named = [("markets", tuple(self.markets)), ("allow_markets", self.allow_markets or ())]
        for key, patterns in (*named, ("deny_markets", self.deny_markets)):
            for pattern in patterns:
                if not _WILD.search(pattern) and (symbol := Symbol.parse(pattern)).exchange == exchange:
                    yield f"{key} ({pattern})", symbol

    def named_exchanges(self) -> Iterable[tuple[str, str]]:
        """Every exchange code that the settings name, with the key that names it."""
        for section in ("exchanges", "accounts"):
            yield from ((code, f"{section}.{code}") for code in getattr(self, section))
        named = [("markets", tuple(self.markets)), ("allow_markets", self.allow_markets or ())]
        for key, patterns in (*named, ("deny_markets", self.deny_markets)):
            for pattern in patterns:
                code = pattern.partition("-")[0]
                if not _WILD.search(code):
                    yield code, f"{key} {pattern}"


def _unique(sections: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, section in sections:
        if name in found:
            raise ValueError(f"{name} stands twice (in different spellings)")
        found[name] = section
    return found
