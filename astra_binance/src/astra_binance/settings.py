"""Binance's hosts, settings and order options."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final, Literal

from pydantic import Field

from astra.families import FamilySettings
from astra.models.orders import OrderOptions, PositionSide
from astra.venue import VenueHosts

SPOT: Final = "spot"
USDM: Final = "usdm"
COINM: Final = "coinm"
OPTIONS: Final = "options"
PRODUCTS: Final = (SPOT, USDM, COINM, OPTIONS)
"""The API families, as `Market.product`, the keys of credentials and the wallets of balances name them."""


class BinanceHosts(VenueHosts):
    """Where each API family is reached: scheme, host and port, without a path.

    `usdm_stream` and `options_stream` are the bare host: `/public`, `/market` and `/private` are appended.
    """

    spot_rest: str = "https://api.binance.com"
    spot_stream: str = "wss://stream.binance.com:9443"
    spot_ws_api: str = "wss://ws-api.binance.com:443"
    usdm_rest: str = "https://fapi.binance.com"
    usdm_stream: str = "wss://fstream.binance.com"
    coinm_rest: str = "https://dapi.binance.com"
    coinm_stream: str = "wss://dstream.binance.com"
    options_rest: str = "https://eapi.binance.com"
    options_stream: str = "wss://fstream.binance.com"


_FUTURES_TESTNET = {
    "coinm_rest": "https://testnet.binancefuture.com",
    "coinm_stream": "wss://dstream.binancefuture.com",
    "options_rest": "https://testnet.binancefuture.com",
    "options_stream": "wss://fstream.binancefuture.com",
}
ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "live": {},
    "testnet": {
        "spot_rest": "https://testnet.binance.vision",
        "spot_stream": "wss://stream.testnet.binance.vision",
        "spot_ws_api": "wss://ws-api.testnet.binance.vision",
        "usdm_rest": "https://testnet.binancefuture.com",
        "usdm_stream": "wss://fstream.binancefuture.com",
        **_FUTURES_TESTNET,
    },
    "demo": {
        "spot_rest": "https://demo-api.binance.com",
        "spot_stream": "wss://demo-stream.binance.com",
        "spot_ws_api": "wss://demo-ws-api.binance.com",
        "usdm_rest": "https://demo-fapi.binance.com",
        "usdm_stream": "wss://demo-fstream.binance.com",
        **_FUTURES_TESTNET,
        "coinm_rest": "https://demo-dapi.binance.com",
    },
}
"""Hosts of each environment where they differ from the live ones. The venue names no demo hosts of its own for
options and the COIN-M streams: those are the testnet's."""


class BinanceSettings(FamilySettings):
    """Settings of the Binance plugin. Hosts that are given win over those of the `environment`."""

    environments: ClassVar[Mapping[str, Mapping[str, str]]] = ENVIRONMENTS
    environment: Literal["live", "testnet", "demo"] = "live"
    hosts: BinanceHosts = BinanceHosts()
    products: tuple[Literal["spot", "usdm", "coinm", "options"], ...] = Field(default=PRODUCTS, min_length=1)
    """The API families to serve. Leave out what your region or your keys have no access to."""
    recv_window_ms: int = Field(default=5000, gt=0, le=60_000)
    """A signed request that reaches the venue later than this after its time stamp is refused."""
    spot_book_depth: Literal[100, 500, 1000, 5000] = 1000
    """Levels a side of the snapshot that seeds a spot book: 100 costs weight 5 (of 6000 a minute), 500 costs 25,
    1000 costs 50, 5000 costs 250."""
    futures_book_depth: Literal[100, 500, 1000] = 1000
    """The same for USD-M and COIN-M: weight 5, 10, 20 of the 2400 a minute that both share."""
    options_book_depth: Literal[100, 500, 1000] = 1000
    book_audit_every_s: float | None = Field(default=1800.0, gt=0)
    """How often each running book is compared with a fresh snapshot (None: never)."""
    book_silence_s: float | None = Field(default=60.0, gt=0)
    """A book without any change for so long is compared with a fresh snapshot, ever less often while it stays quiet
    (options, mostly quiet, after ten times as long)."""
    background_share: float = Field(default=0.75, gt=0, le=1)
    """The share of the request weight that streams may use up (snapshots, missed trades); the rest is for trading."""
    streams_per_connection: int = Field(default=400, gt=0, le=1024)
    """Market streams on one connection at most. More connections spread the load: the venue cuts slow readers off."""

    def book_depth(self, product: str) -> int:
        """Levels a side of the snapshots that seed books of `product`."""
        if product == SPOT:
            return self.spot_book_depth
        return self.options_book_depth if product == OPTIONS else self.futures_book_depth


class WorkingType(StrEnum):
    """Which price triggers a conditional futures order."""

    CONTRACT_PRICE = "CONTRACT_PRICE"
    MARK_PRICE = "MARK_PRICE"


class SelfTradePrevention(StrEnum):
    """What happens when an order would trade with one of the same account."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class BinanceOrderOptions(OrderOptions):
    """What a Binance order may say beyond the common fields. A field the product does not know is refused."""

    position_side: PositionSide | None = None
    """Futures in hedge mode, where it is mandatory: the position that the order opens or closes."""
    working_type: WorkingType | None = None
    """Conditional futures orders: the price that triggers (the venue's default is the contract's last price)."""
    price_protect: bool = False
    """Conditional futures orders: do not trigger while mark and contract price are far apart."""
    self_trade_prevention: SelfTradePrevention | None = None
    """Spot and futures; None: the venue's default."""
    iceberg_quantity: Decimal | None = Field(default=None, gt=0)
    """Spot limit orders: the part of the quantity that shows in the book, in base units."""
    market_maker_protection: bool = False
    """Options: count the order in the account's market maker protection."""
