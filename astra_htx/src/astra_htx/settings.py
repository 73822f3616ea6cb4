"""HTX's hosts, settings and order options."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.orders import MarginMode, OrderOptions, PositionSide
from astra.venue import VenueHosts

SPOT: Final = "spot"
LINEAR: Final = "linear"
COIN_SWAP: Final = "coin_swap"
COIN_FUTURES: Final = "coin_futures"
PRODUCTS: Final = (SPOT, LINEAR, COIN_SWAP, COIN_FUTURES)
"""As `Market.product`, `Balance.wallet` and settings name them."""


class HtxHosts(VenueHosts):
    """Where the venue is reached: scheme, host and port. The host is part of what is signed."""

    spot_rest: str = "https://api.huobi.pro"
    spot_stream: str = "wss://api.huobi.pro"
    derivatives_rest: str = "https://api.hbdm.com"
    derivatives_stream: str = "wss://api.hbdm.com"


class HtxSettings(FamilySettings):
    """Settings of the HTX plugin. Hosts that are given win over `environment`; there is no test network."""

    environments: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "global": {},
        # For clients within the provider's Tokyo region.
        "aws": {
            "spot_rest": "https://api-aws.huobi.pro",
            "spot_stream": "wss://api-aws.huobi.pro",
            "derivatives_rest": "https://api.hbdm.vn",
            "derivatives_stream": "wss://api.hbdm.vn",
        },
    }
    environment: Literal["global", "aws"] = "global"
    hosts: HtxHosts = HtxHosts()
    products: tuple[Literal["spot", "linear", "coin_swap", "coin_futures"], ...] = Field(default=PRODUCTS, min_length=1)
    recv_window_ms: int | None = Field(default=None, gt=1000, lt=300_000)
    """The venue accepts a signed request for five minutes after its time stamp and knows no shorter time. With a number
    here placements and cancels are stamped so far in the past that they can be accepted for this long only (or a second
    less: stamps have whole seconds): "not placed" is then certain sooner. It relies on the venue refusing stamps at the
    documented age. None: stamped with the time as it is."""
    spot_book_levels: Literal[5, 20, 150, 400] = 150
    """Levels a side of spot books. 5 and 20 come tick by tick, 150 and 400 each 100 ms; 20 exists for some thirty
    markets only."""
    derivatives_book_levels: Literal[20, 150] = 150
    margin_mode: Literal["cross", "isolated"] = "cross"
    """Of linear orders that do not say; dated futures are cross only."""
    book_audit_every_s: float | None = Field(default=1800.0, gt=0)
    """How often each running spot book is compared with another snapshot (None: never)."""
    book_silence_s: float | None = Field(default=30.0, gt=0)
    """A spot book without any frame for so long is compared with a snapshot, ever less often while it stays quiet."""
    spot_channels_per_connection: int = Field(default=50, gt=0, le=100)
    """Spot books and trades on one connection at most: snapshots may be asked for ten times a second only."""
    channels_per_connection: int = Field(default=100, gt=0)
    """The same for derivatives; the venue names no limit."""


class SelfMatch(StrEnum):
    """What happens when an order would trade with one of the same user."""

    CANCEL_TAKER = "cancel_taker"
    CANCEL_MAKER = "cancel_maker"
    CANCEL_BOTH = "cancel_both"
    ALLOW = "allow"


class HtxOrderOptions(OrderOptions):
    """What an HTX order may say beyond the common fields. A field the product does not know is refused."""

    margin_mode: MarginMode | None = None
    """Linear contracts; None: as the settings say."""
    position_side: PositionSide | None = None
    """Linear contracts in two-sided mode, where it is mandatory; coin-margined ones: the position that the order opens
    or closes. Without it a coin-margined order opens, a reduce-only one closes."""
    leverage: int | None = Field(default=None, ge=1, le=200)
    """Coin-margined contracts: `lever_rate`, which must be that of the position or of open orders. None: the
    account's."""
    self_match: SelfMatch | None = None
    """None: the venue's default. Spot and coin-margined contracts know `cancel_taker` and `allow` only."""
