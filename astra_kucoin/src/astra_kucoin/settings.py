"""KuCoin's hosts, settings and order options."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.orders import MarginMode, OrderOptions, PositionSide
from astra.venue import VenueHosts

SPOT: Final = "spot"
FUTURES: Final = "futures"
PRODUCTS: Final = (SPOT, FUTURES)
"""The API families, as `Market.product`, `Balance.wallet` and the keys of credentials name them."""


class KucoinHosts(VenueHosts):
    """Where each API family is reached: scheme, host and port, without a path."""

    spot_rest: str = "https://api.kucoin.com"
    futures_rest: str = "https://api-futures.kucoin.com"
    unified_spot_stream: str = "wss://x-push-spot.kucoin.com"
    """Market data of spot; needs no token."""
    unified_futures_stream: str = "wss://x-push-futures.kucoin.com"
    unified_private_stream: str = "wss://wsapi-push.kucoin.com"
    spot_stream: str | None = None
    """The account's stream of spot. None: the host that is named with each token."""
    futures_stream: str | None = None


class KucoinSettings(FamilySettings):
    """Settings of the KuCoin plugin.

    `environment` is the site where the account was made. Hosts that are given win over it. The venue has no test
    network.
    """

    environments: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "global": {},
        "australia": {},
        "eu": {
            "spot_rest": "https://api.kucoin.eu",
            "futures_rest": "https://api-futures.kucoin.eu",
            "unified_spot_stream": "wss://x-push-spot.kucoin.eu",
            "unified_futures_stream": "wss://x-push-futures.kucoin.eu",
            "unified_private_stream": "wss://wsapi-push.kucoin.eu",
        },
    }
    environment: Literal["global", "australia", "eu"] = "global"
    hosts: KucoinHosts = KucoinHosts()
    products: tuple[Literal["spot", "futures"], ...] = Field(default=PRODUCTS, min_length=1)
    """The API families to serve. Leave out what your region or your keys have no access to."""
    account_mode: Literal["auto", "classic", "unified"] = "auto"
    """Which back end trades: `auto` asks the venue once for each account."""
    recv_window_ms: int = Field(default=5000, gt=0, le=5000)
    """A spot order that reaches the venue later than this after its time stamp is refused (`allowMaxTimeWindow`).
    Everything else that is signed is good for 5 s."""
    isolated_leverage: Decimal | None = Field(default=None, ge=1)
    """Futures with isolated margin: the leverage of orders that open a position, where neither the order nor
    `set_leverage` said another. None: the venue's own choice."""
    book_audit_every_s: float | None = Field(default=1800.0, gt=0)
    """How often each running book of futures is compared with a snapshot by REST (None: never). Those of spot cannot
    be: it is not known whether their REST snapshots carry the sequence of the stream."""
    book_silence_s: float | None = Field(default=60.0, gt=0)
    """A book without any change for so long is compared with a snapshot (futures) or subscribed anew (spot), ever less
    often while it stays quiet (None: never)."""
    channels_per_connection: int = Field(default=100, gt=0, le=600)
    """Market streams on one connection at most; the venue takes 600."""


class SelfTradePrevention(StrEnum):
    """What happens when an order would trade with one of the same account."""

    CANCEL_NEWEST = "CN"
    CANCEL_OLDEST = "CO"
    CANCEL_BOTH = "CB"
    DECREASE_AND_CANCEL = "DC"
    """Spot only."""


class TriggerPrice(StrEnum):
    """Which price triggers a conditional order of futures."""

    LAST = "TP"
    INDEX = "IP"
    MARK = "MP"


class KucoinOrderOptions(OrderOptions):
    """What a KuCoin order may say beyond the common fields. A field the product does not know is refused."""

    self_trade_prevention: SelfTradePrevention | None = None
    margin_mode: MarginMode | None = None
    """Futures; None: as the account is set for the contract."""
    leverage: Decimal | None = Field(default=None, ge=1)
    """Futures with isolated margin."""
    position_side: PositionSide | None = None
    """Futures in hedge mode, where it is mandatory: the position that the order opens or closes."""
    trigger_price: TriggerPrice | None = None
    """Conditional orders of futures; None: the last price."""
