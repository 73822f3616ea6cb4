"""Positions as limits count them: legs in native units, read from what venues report."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

import msgspec

from astra.models.accounts import Balance, Position
from astra.models.markets import Market
from astra.models.orders import PositionSide
from astra_risk.intent import EXACT, base_of

ZERO = Decimal(0)


class Legs(msgspec.Struct, frozen=True):
    """A position: its long and its short leg, both positive (native); one of them is zero unless it is hedged."""

    long: Decimal
    short: Decimal

    @property
    def net(self) -> Decimal:
        return EXACT.subtract(self.long, self.short)


FLAT = Legs(ZERO, ZERO)


class Positions(Protocol):
    """Positions of one kind, all read at one moment."""

    def of(self, market: Market) -> Legs | None:
        """The position in the market; None where the venue does not say how large it is."""
        ...


class Holdings:
    """Spot: what the account holds of an asset over all wallets, what it borrowed taken off."""

    def __init__(self, balances: Iterable[Balance]) -> None:
        self._amounts: dict[str, Decimal] = {}
        for row in balances:
            net = EXACT.subtract(row.total, row.borrowed or ZERO)
            self._amounts[row.asset] = EXACT.add(self._amounts.get(row.asset, ZERO), net)

    def of(self, market: Market) -> Legs | None:
        # A venue's balances use its own name of the asset, as the symbol does, or the abstract one.
        net = ZERO
        for name in {market.base_asset, market.parsed_symbol.base}:
            net = EXACT.add(net, self._amounts.get(name, ZERO))
        return Legs(max(net, ZERO), max(EXACT.minus(net), ZERO))


class Derivatives:
    """Contracts and perpetuals: a leg for each row that the venue reports."""

    def __init__(self, rows: Iterable[Position]) -> None:
        self._rows: dict[str, list[Position]] = {}
        for row in rows:
            self._rows.setdefault(row.market, []).append(row)

    def of(self, market: Market) -> Legs | None:
        legs = {PositionSide.LONG: ZERO, PositionSide.SHORT: ZERO}
        for row in self._rows.get(market.symbol, ()):
            size = _native(market, row)
            if size is None:
                return None
            legs[row.side] = EXACT.add(legs[row.side], size)
        return Legs(legs[PositionSide.LONG], legs[PositionSide.SHORT])


def _native(market: Market, row: Position) -> Decimal | None:
    if market.contract_size is not None and row.contracts is not None:
        return row.contracts.copy_abs()
    if row.quantity is None or market.is_inverse:
        return None
    per_native = base_of(market, Decimal(1), None)
    assert per_native is not None
    return EXACT.divide(row.quantity, per_native).copy_abs()
