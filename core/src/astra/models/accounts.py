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


class AccountStatus(Model):
    """Can what an account's stream said of a product be relied on? In line in the stream, whenever that changes.

    `live` True: everything before this item was compared with the venue by REST, what was missed is told, and the
    stream runs. `live` False: the connection is lost (`connected` False) or its news not yet compared with the venue;
    what the stream says from here on is true, but there may be more. Times in ms by this machine's clock.
    """

    product: str
    live: bool
    connected: bool
    reconciled_time: int | None = None
    """When the account was last compared with the venue."""
    reason: str | None = None
    """Why it is not live."""


AccountEvent = Order | Fill | Balance | Position | AccountStatus
