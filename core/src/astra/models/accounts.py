"""Balances, positions and fees of an account. Decimals throughout."""

from __future__ import annotations

from astra.models.base import Model, PlainDecimal
from astra.models.orders import Fill, MarginMode, Order, PositionSide


class Balance(Model):
    """What an account holds of one asset in one wallet: `total = available + locked` where the venue says all three."""

    asset: str
    wallet: str
    total: PlainDecimal
    available: PlainDecimal | None = None
    locked: PlainDecimal | None = None
    borrowed: PlainDecimal | None = None


class Position(Model):
    """An open derivatives position. `quantity` is in base units and positive; `side` says which way.

    For contract markets `contracts` is given too; an inverse position's `quantity` is at the mark price (None where no
    price is known). In hedge mode a market has up to two. `quantity` 0 in a stream event means that it was closed.
    """

    market: str
    side: PositionSide
    quantity: PlainDecimal | None
    contracts: PlainDecimal | None = None
    entry_price: PlainDecimal | None = None
    mark_price: PlainDecimal | None = None
    liquidation_price: PlainDecimal | None = None
    unrealized_pnl: PlainDecimal | None = None
    leverage: PlainDecimal | None = None
    margin_mode: MarginMode | None = None


class Fees(Model):
    """Fee rates as fractions (0.001 = 0.1 %), negative for rebates. `market` is None for an account-wide tier."""

    market: str | None
    maker: PlainDecimal
    taker: PlainDecimal


AccountEvent = Order | Fill | Balance | Position
