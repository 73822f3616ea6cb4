"""OKX's hosts, settings and order options."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.orders import OrderOptions, PositionSide
from astra.venue import VenueHosts

SPOT: Final = "spot"
SWAP: Final = "swap"
FUTURES: Final = "futures"
OPTION: Final = "option"
PRODUCTS: Final = (SPOT, SWAP, FUTURES, OPTION)
"""As `Market.product` and settings name them: the venue's `instType` in small letters."""
TRADING: Final = "trading"
"""The one account that pays for all products, as `Balance.wallet` names it, and its stream."""
ALGO: Final = "algo"
"""The stream of conditional orders, which runs on a host path of its own."""


class OkxHosts(VenueHosts):
    """Where the venue is reached: scheme, host and port. The paths (`/api/v5`, `/ws/v5/public`, ...) are appended."""

    rest: str = "https://openapi.okx.com"
    public_stream: str = "wss://ws.okx.com:8443"
    private_stream: str = "wss://ws.okx.com:8443"
    business_stream: str = "wss://ws.okx.com:8443"


def _region(rest: str, stream: str) -> Mapping[str, str]:
    return {"rest": rest} | dict.fromkeys(("public_stream", "private_stream", "business_stream"), stream)


class OkxSettings(FamilySettings):
    """Settings of the OKX plugin.

    `environment` is the region where the account was made, or its demo: a key works nowhere else. Hosts that are given
    win over it.
    """

    environments: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "global": {},
        "eea": _region("https://eea.okx.com", "wss://wseea.okx.com:8443"),
        "us": _region("https://us.okx.com", "wss://wsus.okx.com:8443"),
        "demo": _region("https://openapi.okx.com", "wss://wspap.okx.com:8443"),
        "eea-demo": _region("https://eea.okx.com", "wss://wseeapap.okx.com:8443"),
        "us-demo": _region("https://us.okx.com", "wss://wsuspap.okx.com:8443"),
    }
    environment: Literal["global", "eea", "us", "demo", "eea-demo", "us-demo"] = "global"
    hosts: OkxHosts = OkxHosts()
    products: tuple[Literal["spot", "swap", "futures", "option"], ...] = Field(default=PRODUCTS, min_length=1)
    """Leave out what your region has no access to (EEA accounts have no swaps, US accounts spot only)."""
    recv_window_ms: int = Field(default=5000, gt=0, le=30_000)
    """Orders and amendments that reach the venue later than this after their time stamp are refused (`expTime`)."""
    spot_margin_mode: Literal["cash", "cross"] = "cash"
    """`tdMode` of spot orders: `cash` in the spot and futures account modes, `cross` in multi-currency and portfolio
    margin."""
    derivatives_margin_mode: Literal["cross", "isolated"] = "cross"
    """`tdMode` of swap, futures and option orders, where the order does not say otherwise."""
    book_audit_every_s: float | None = Field(default=1800.0, gt=0)
    """How often each running book is compared with a snapshot by REST (None: never)."""
    book_silence_s: float | None = Field(default=60.0, gt=0)
    """A book without any change for so long is compared with a snapshot, ever less often while it stays quiet."""
    channels_per_connection: int = Field(default=100, gt=0)
    """Market streams on one connection at most; the venue advises few deep ones."""

    @property
    def simulated(self) -> bool:
        """Is it a demo environment? Its requests carry `x-simulated-trading`."""
        return self.environment.endswith("demo")


class TradeMode(StrEnum):
    """The venue's `tdMode`: what an order's position is margined with."""

    CASH = "cash"
    CROSS = "cross"
    ISOLATED = "isolated"


class SelfTradePrevention(StrEnum):
    """What happens when an order would trade with one of the same account."""

    CANCEL_MAKER = "cancel_maker"
    CANCEL_TAKER = "cancel_taker"
    CANCEL_BOTH = "cancel_both"


class TriggerPrice(StrEnum):
    """Which price triggers a conditional order."""

    LAST = "last"
    INDEX = "index"
    MARK = "mark"


class OkxOrderOptions(OrderOptions):
    """What an OKX order may say beyond the common fields. A field the product does not know is refused."""

    trade_mode: TradeMode | None = None
    """None: as the settings say for the product."""
    position_side: PositionSide | None = None
    """Swaps and futures in long/short mode, where it is mandatory: the position that the order opens or closes."""
    self_trade_prevention: SelfTradePrevention | None = None
    """None: the venue's default (cancel_maker)."""
    quote_currency: str | None = None
    """Spot books that settle in several dollars (`tradeQuoteCcy`): the one to pay with."""
    trigger_price: TriggerPrice | None = None
    """Conditional orders; None: the last price."""
