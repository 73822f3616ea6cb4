"""Kraken's hosts, settings and order options."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.orders import OrderOptions
from astra.venue import VenueHosts

SPOT: Final = "spot"
DERIVATIVES: Final = "derivatives"
PRODUCTS: Final = (SPOT, DERIVATIVES)
"""The API families, as `Market.product` and the keys of credentials name them."""

SPOT_WALLET: Final = "spot"
FLEX_WALLET: Final = "flex"
"""The multi-collateral wallet of derivatives. Wallets of inverse contracts have the venue's names (`fi_xbtusd`)."""


class KrakenHosts(VenueHosts):
    """Where each API family is reached: scheme, host and port, without a path."""

    spot_rest: str = "https://api.kraken.com"
    spot_stream: str = "wss://ws.kraken.com"
    spot_private_stream: str = "wss://ws-auth.kraken.com"
    derivatives_rest: str = "https://futures.kraken.com"
    derivatives_stream: str = "wss://futures.kraken.com"
    unified_stream: str = "wss://uws.kraken.com"
    """The successor of the derivatives' stream; used where `derivatives_feed` asks for it."""


ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "live": {},
    "beta": {
        "spot_stream": "wss://beta-ws.kraken.com",
        "spot_private_stream": "wss://beta-ws-auth.kraken.com",
    },
}
"""Hosts of each environment where they differ from the live ones. `beta` is a preview of Spot's streams over the
production engine: orders there are real. Kraken has no test network."""


class Tier(StrEnum):
    """The verification level of an account, which decides Spot's limits."""

    STARTER = "starter"
    INTERMEDIATE = "intermediate"
    PRO = "pro"


class KrakenSettings(FamilySettings):
    """Settings of the Kraken plugin. Hosts that are given win over those of the `environment`."""

    environments: ClassVar[Mapping[str, Mapping[str, str]]] = ENVIRONMENTS
    environment: Literal["live", "beta"] = "live"
    hosts: KrakenHosts = KrakenHosts()
    products: tuple[Literal["spot", "derivatives"], ...] = Field(default=PRODUCTS, min_length=1)
    """The API families to serve. Leave out what your region or your keys have no access to."""
    tokenized_assets: bool = True
    """List tokenised stocks (`AAPLx`) among the spot markets: a second request, refused in some regions."""
    tier: Tier = Tier.STARTER
    """Spot's verification level: its counters are larger and fall faster on the higher ones."""
    recv_window_ms: int = Field(default=5000, ge=2000, le=60_000)
    """A placement or amendment that reaches the venue later than this after its time stamp is refused (Spot's
    `deadline`, the derivatives' `processBefore`)."""
    nonce_unit: Literal["ms", "us", "ns"] = "us"
    """Spot's nonces are the time in this unit. A key that was used with a finer unit before must stay with it."""
    nonce_window: bool = False
    """The Spot keys have a nonce window (set where keys are made): their requests may overtake one another and are sent
    at the same time. Otherwise the requests of a key wait for one another, because the venue refuses a late nonce."""
    spot_book_depth: Literal[10, 25, 100, 500, 1000] = 100
    """Levels a side of the spot books (and those of the unified feed) that are subscribed. The checksum proves the best
    ten: what lies deeper is proved when it comes up there."""
    book_silence_s: float | None = Field(default=60.0, gt=0)
    """A book without any change for so long is subscribed anew, ever less often while its market stays quiet: the last
    change before the silence may have been lost."""
    unchecked_after: int | None = Field(default=None, gt=0)
    """A spot pair of which so many snapshots in a row do not have their own checksum is kept without checks from then
    on, with a warning. None: never, its book stays STALE while its checksums fail."""
    channels_per_connection: int = Field(default=200, gt=0, le=1000)
    """Market streams on one connection at most."""
    derivatives_feed: Literal["v1", "unified"] = "v1"
    """Market data of derivatives: `v1` works until 2027-03-01; `unified` is its successor, written from the
    documentation without a recording to test it on (the account stays on v1)."""


class TriggerSignal(StrEnum):
    """Which price triggers a conditional order. SPOT is for derivatives only."""

    LAST = "last"
    INDEX = "index"
    MARK = "mark"
    SPOT = "spot"


class SelfTradePrevention(StrEnum):
    """What is canceled when an order would trade with one of the same account."""

    CANCEL_NEWEST = "cancel-newest"
    CANCEL_OLDEST = "cancel-oldest"
    CANCEL_BOTH = "cancel-both"


class KrakenOrderOptions(OrderOptions):
    """What a Kraken order may say beyond the common fields. A field the product does not know is refused."""

    trigger: TriggerSignal | None = None
    """Conditional orders: the price that triggers. Spot knows last and index, derivatives mark, index, last and
    spot."""
    leverage: int | None = Field(default=None, ge=2)
    """Spot: trade on margin with this leverage."""
    fee_in_base: bool = False
    """Spot: take the fee in the base asset."""
    display_quantity: Decimal | None = Field(default=None, gt=0)
    """Spot limit orders: the part of the quantity that shows in the book, in base units (an iceberg order)."""
    self_trade_prevention: SelfTradePrevention | None = None
    """Spot; None: the venue's default, cancel-newest."""
