"""Coinbase's hosts, settings and order options."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.base import PlainDecimal
from astra.models.orders import MarginMode, OrderOptions
from astra.venue import VenueHosts

SPOT: Final = "spot"
US_FUTURES: Final = "us_futures"
INTERNATIONAL: Final = "international"
PRODUCTS: Final = (SPOT, US_FUTURES, INTERNATIONAL)
"""As `Market.product`, settings and wallets name them."""
ADVANCED: Final = "advanced"
"""The API of the first two products (Advanced Trade), as keys and account streams name it."""
TOKEN_S: Final = 120
"""The longest life of a token that signs a request."""


class CoinbaseHosts(VenueHosts):
    """Where the venue is reached: scheme, host and port; paths are appended."""

    advanced_rest: str = "https://api.coinbase.com"
    advanced_stream: str = "wss://advanced-trade-ws.coinbase.com"
    advanced_user_stream: str = "wss://advanced-trade-ws-user.coinbase.com"
    international_rest: str = "https://drb.coinbase.com"
    international_stream: str = "wss://streams.drb.coinbase.com"
    international_private_stream: str = "wss://drb.coinbase.com"


class CoinbaseSettings(FamilySettings):
    """Settings of the Coinbase plugin.

    There is no test network to choose: Advanced Trade's sandbox gives canned answers without market data, the gateway
    has none.
    """

    hosts: CoinbaseHosts = CoinbaseHosts()
    products: tuple[Literal["spot", "us_futures", "international"], ...] = Field(default=PRODUCTS, min_length=1)
    """Leave out what your region has no access to: US futures are for US persons, the international gateway for all
    others."""
    recv_window_ms: int = Field(default=10_000, ge=1000, le=TOKEN_S * 1000)
    """Advanced Trade: how long the token is valid that signs a command (in whole seconds, rounded up). A command that
    arrives later is refused."""
    book_silence_s: float | None = Field(default=None, gt=0)
    """Advanced Trade: a book without any change for so long is subscribed anew. Lost frames show without it: all frames
    of a connection are numbered, and one comes every second."""
    channels_per_connection: int = Field(default=60, gt=0)
    """Market streams on one connection at most: a lost frame of one is a doubt about all."""


class TriggerPrice(StrEnum):
    """Which price triggers a conditional order."""

    LAST = "last_price"
    INDEX = "index_price"
    MARK = "mark_price"


class CoinbaseOrderOptions(OrderOptions):
    """What a Coinbase order may say beyond the common fields. A field the product does not know is refused."""

    margin_mode: MarginMode | None = None
    """US futures: what the position is margined with."""
    leverage: PlainDecimal | None = Field(default=None, gt=0)
    """US futures."""
    self_trade_prevention_id: str | None = None
    """Advanced Trade: orders that share it do not trade with each other."""
    trigger_price: TriggerPrice | None = None
    """International, conditional orders; None: the last price."""
    display_amount: PlainDecimal | None = Field(default=None, ge=0)
    """International: how much of the order the book shows, in units of the venue's `amount` (base asset, of inverse
    futures USD)."""
